//! What a scenario expected, and what it found.

use serde::Serialize;

/// One named check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is checked.
    pub name: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
    /// Whether it held.
    pub held: bool,
}

/// What two values that should be equal say.
pub fn equal(name: &str, expected: &str, found: &str) -> Check {
    Check { name: name.to_owned(), expected: expected.to_owned(), found: found.to_owned(), held: expected == found }
}

/// A check whose outcome the caller has judged.
pub fn judged(name: &str, expected: &str, found: impl Into<String>, held: bool) -> Check {
    Check { name: name.to_owned(), expected: expected.to_owned(), found: found.into(), held }
}

/// A list for a person: `none`, or the items.
pub fn listed(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join("; ") }
}
