//! Lists that hold each value once, in the order in which the values came.

/// Adds a value unless it is there. Answers whether it was new.
pub fn add<T: PartialEq>(list: &mut Vec<T>, value: T) -> bool {
    let is_new = !list.contains(&value);
    if is_new {
        list.push(value);
    }
    is_new
}

/// Adds values, each unless it is there. Answers whether any was new.
pub fn extend<T: PartialEq>(list: &mut Vec<T>, values: impl IntoIterator<Item = T>) -> bool {
    let before = list.len();
    for value in values {
        add(list, value);
    }
    list.len() != before
}
