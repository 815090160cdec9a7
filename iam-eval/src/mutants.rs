//! Mutants of a policy document: weakened or widened in one place at a time. A table of calls that notices each of them
//! leaves nothing of the document unasked.

use serde_json::{Value, json};

/// Every mutant, with what was changed.
pub fn of(document: &Value) -> Vec<(String, Value)> {
    let statements = document.get("Statement").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = Vec::new();
    for (number, statement) in statements.iter().enumerate() {
        let sid = statement.get("Sid").and_then(Value::as_str).unwrap_or_default();
        let with = |mutant: Option<Value>| {
            let mut changed = statements.clone();
            changed.splice(number..=number, mutant);
            json!({"Version": "2012-10-17", "Statement": changed})
        };
        all.push((format!("{sid} is gone"), with(None)));
        for (what, mutant) in of_statement(statement) {
            all.push((format!("{sid}: {what}"), with(Some(mutant))));
        }
    }
    all
}

fn of_statement(statement: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let denies = statement.get("Effect").and_then(Value::as_str) == Some("Deny");
    let other = if denies { "Allow" } else { "Deny" };
    all.push((format!("Effect as {other}"), replaced(statement, "/Effect", json!(other))));
    for member in ["Action", "NotAction", "Resource"] {
        let Some(found) = statement.get(member) else { continue };
        for (what, changed) in of_list(found) {
            all.push((format!("{member} {what}"), replaced(statement, &format!("/{member}"), changed)));
        }
        if member == "Resource" && found != "*" {
            all.push(("every resource".to_owned(), replaced(statement, "/Resource", json!("*"))));
        }
    }
    if let Some(found) = statement.get("Principal") {
        for changed in of_principal(found) {
            all.push((format!("Principal as {changed}"), replaced(statement, "/Principal", changed)));
        }
    }
    all.extend(of_conditions(statement));
    all
}

/// Everyone, and somebody else.
fn of_principal(found: &Value) -> Vec<Value> {
    let another = match found {
        Value::Object(kinds) if kinds.contains_key("Service") => json!({"Service": "another.amazonaws.com"}),
        _ => json!({"AWS": "arn:aws:iam::999999999999:root"}),
    };
    [json!("*"), another].into_iter().filter(|changed| changed != found).collect()
}

fn of_conditions(statement: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let conditions = statement.get("Condition").and_then(Value::as_object);
    for (operator, keys) in conditions.into_iter().flatten() {
        for (key, values) in keys.as_object().into_iter().flatten() {
            let place = format!("/Condition/{operator}/{key}");
            all.push((format!("without {operator} {key}"), without(statement, operator, key)));
            all.push((format!("{operator} {key} turned"), turned(statement, operator, key, values)));
            let flag = matches!(operator.as_str(), "Bool" | "Null");
            let changed = if flag { Vec::new() } else { [of_list(values), widened(key, values)].concat() };
            for (what, changed) in changed {
                all.push((format!("{key} {what}"), replaced(statement, &place, changed)));
            }
        }
    }
    all
}

fn without(statement: &Value, operator: &str, key: &str) -> Value {
    let mut changed = statement.clone();
    if let Some(keys) = changed.pointer_mut(&format!("/Condition/{operator}")).and_then(Value::as_object_mut) {
        keys.remove(key);
    }
    changed
}

/// The condition's opposite.
fn turned(statement: &Value, operator: &str, key: &str, values: &Value) -> Value {
    let other = match operator {
        "Bool" | "Null" => {
            let other = if values.as_str() == Some("false") { "true" } else { "false" };
            return replaced(statement, &format!("/Condition/{operator}/{key}"), json!(other));
        }
        "ArnLike" => "ArnNotLike",
        "ArnNotLike" => "ArnLike",
        "ArnEquals" => "ArnNotEquals",
        "ArnNotEquals" => "ArnEquals",
        "StringEquals" => "StringNotEquals",
        "StringNotEquals" => "StringEquals",
        _ => "ForAllValues:StringLike",
    };
    let mut changed = without(statement, operator, key);
    if let Some(conditions) = changed.get_mut("Condition").and_then(Value::as_object_mut) {
        let keys = conditions.entry(other).or_insert_with(|| json!({}));
        if let Some(keys) = keys.as_object_mut() {
            keys.insert(key.to_owned(), values.clone());
        }
    }
    changed
}

fn replaced(statement: &Value, place: &str, by: Value) -> Value {
    let mut changed = statement.clone();
    if let Some(found) = changed.pointer_mut(place) {
        *found = by;
    }
    changed
}

/// A list without one of its members; a single member replaced by something that never matches.
fn of_list(value: &Value) -> Vec<(String, Value)> {
    let nothing = || json!(["none:Nothing"]);
    match value {
        Value::Array(items) => (0..items.len())
            .map(|number| {
                let mut left = items.clone();
                let gone = left.remove(number);
                (format!("without {gone}"), if left.is_empty() { nothing() } else { Value::Array(left) })
            })
            .collect(),
        one => vec![(format!("without {one}"), nothing())],
    }
}

/// Each ARN of a condition made to match more: another path, a longer name, another account or Region, anything.
fn widened(key: &str, value: &Value) -> Vec<(String, Value)> {
    let items = match value {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    let mut all = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let Some(arn) = item.as_str().filter(|text| text.starts_with("arn:")) else { continue };
        let Some((before, last)) = arn.rsplit_once(':') else { continue };
        let (kind, rest) = last.split_once('/').unwrap_or((last, ""));
        let name = rest.rsplit('/').next().unwrap_or(rest);
        let mut wider = vec![format!("{before}:{kind}/*"), format!("{before}:{kind}/*{name}")];
        wider.push(format!("{before}:{kind}/{name}"));
        // A policy's ARN is never of another kind; a caller's can be a user's.
        if key == "aws:PrincipalArn" {
            wider.extend([format!("{before}:*"), format!("{before}:*/{rest}")]);
        }
        wider.extend([3, 4].into_iter().filter_map(|part| anywhere(arn, part)));
        for wider in wider.into_iter().filter(|wider| wider != arn) {
            let mut changed = items.clone();
            changed.splice(number..=number, [json!(wider)]);
            all.push((format!("{item} as {wider}"), Value::Array(changed)));
        }
    }
    all
}

/// The ARN in any Region (part 3), or of any account (part 4), where it names one.
fn anywhere(arn: &str, part: usize) -> Option<String> {
    let mut parts: Vec<&str> = arn.splitn(6, ':').collect();
    let found = parts.get_mut(part).filter(|found| !found.is_empty() && **found != "*")?;
    *found = "*";
    Some(parts.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_mutants_of_each_of_its_members_and_none_is_itself() {
        let document = json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "A", "Effect": "Deny", "Principal": "*", "Action": ["s3:PutObject", "s3:GetObject"],
             "Resource": "arn:aws:s3:::b/*", "Condition": {"Bool": {"aws:SecureTransport": "false"},
             "ArnNotEquals": {"aws:PrincipalArn": ["arn:aws:iam::111122223333:role/path/a"]}}}]});
        let found = of(&document);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "A is gone",
            "A: Effect as Allow",
            "A: Action without \"s3:GetObject\"",
            "A: every resource",
            "A: without Bool aws:SecureTransport",
            "A: Bool aws:SecureTransport turned",
            "A: ArnNotEquals aws:PrincipalArn turned",
        ] {
            assert!(names.contains(&name), "{name}: {names:#?}");
        }
        assert!(names.iter().any(|name| name.contains("as arn:aws:iam::*:role/path/a")), "{names:#?}");
        assert!(found.iter().all(|(_, mutant)| *mutant != document));
    }
}
