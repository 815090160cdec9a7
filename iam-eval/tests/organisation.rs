//! The organisation's policy against the table of who may do what, and mutants of it, each of which the table notices.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use iam_eval::organisation::{Names, TEMPLATE, table};
use iam_eval::{Decision, Policy};
use serde_json::{Value, json};

/// What the limit was until May 2026, and is where it was not raised.
const CHARACTERS: usize = 5120;

/// The rows that a document does not judge as the table says, as they are come to.
fn wrong<'a>(document: &Value, rows: &'a [table::Row]) -> impl Iterator<Item = &'a str> {
    let policy = Policy::read(document).unwrap();
    rows.iter()
        .filter(move |row| matches!(policy.judge(&row.request), Decision::Denied(_)) != row.denied)
        .map(|row| row.name.as_str())
}

#[test]
fn the_policy_denies_what_the_table_says_and_nothing_else() {
    let rows = table::rows();
    assert!(rows.len() >= 300, "{} rows", rows.len());
    assert!(
        rows.iter().filter(|row| row.denied).count() >= 300 && rows.iter().filter(|row| !row.denied).count() >= 300
    );
    let wrong: Vec<&str> = wrong(&table::names().document().unwrap(), &rows).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_mutant_of_the_policy_is_noticed_by_the_table() {
    let document = table::names().document().unwrap();
    let (mutants, rows) = (mutants(&document), table::rows());
    assert!(mutants.len() > 150, "{} mutants", mutants.len());
    let unnoticed: Vec<&str> = mutants
        .iter()
        .filter(|(_, mutant)| wrong(mutant, &rows).next().is_none())
        .map(|(what, _)| what.as_str())
        .collect();
    assert!(unnoticed.is_empty(), "{} of {} unnoticed:\n{}", unnoticed.len(), mutants.len(), unnoticed.join("\n"));
}

#[test]
fn the_policy_fits_where_the_limit_was_not_raised() {
    let names = Names {
        stack: "firebreak".to_owned(),
        deployers: vec![
            "arn:*:iam::*:role/firebreak-deployer".to_owned(),
            "arn:*:iam::*:role/stacksets-exec-*".to_owned(),
        ],
        responders: vec!["arn:*:iam::*:role/firebreak-responder".to_owned()],
        boundaries: vec!["arn:*:iam::*:role/firebreak-deployer".to_owned()],
    };
    let length = names.document().unwrap().to_string().len();
    assert!(length <= CHARACTERS, "{length} characters");
}

#[test]
fn nothing_is_left_of_the_placeholders() {
    assert!(TEMPLATE.contains("${DeployerRoles}"));
    assert!(!table::names().document().unwrap().to_string().contains("${"));
}

/// The template that deploys it carries the same document, without white space.
#[test]
fn the_template_carries_the_policy() {
    let template = include_str!("../../org/policy.yaml");
    let document: Value = serde_json::from_str(TEMPLATE).unwrap();
    let wanted = document.to_string();
    let carried = template.lines().map(str::trim).find(|line| line.starts_with("{\"")).unwrap_or_default();
    let carried: Value = serde_json::from_str(carried).unwrap();
    assert_eq!(carried, document, "org/policy.yaml carries another policy; it should carry:\n{wanted}");
}

/// The document weakened or widened in one place at a time.
fn mutants(document: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let statements = document["Statement"].as_array().unwrap();
    for (number, statement) in statements.iter().enumerate() {
        let sid = statement["Sid"].as_str().unwrap();
        let mut without = statements.clone();
        without.remove(number);
        all.push((format!("{sid} is gone"), with_statements(&without)));
        for (what, mutant) in of_statement(statement) {
            let mut changed = statements.clone();
            changed.splice(number..=number, [mutant]);
            all.push((format!("{sid}: {what}"), with_statements(&changed)));
        }
    }
    all
}

fn with_statements(statements: &[Value]) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn of_statement(statement: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for member in ["Action", "NotAction", "Resource"] {
        let Some(found) = statement.get(member) else { continue };
        for (what, changed) in of_list(found) {
            all.push((format!("{member} {what}"), replaced(statement, &format!("/{member}"), changed)));
        }
        if member == "Resource" && found != "*" {
            all.push(("every resource".to_owned(), replaced(statement, "/Resource", json!("*"))));
        }
    }
    let conditions = statement["Condition"].as_object().unwrap();
    for (operator, keys) in conditions {
        for (key, values) in keys.as_object().unwrap() {
            let place = format!("/Condition/{operator}/{key}");
            let mut without = statement.clone();
            without["Condition"][operator].as_object_mut().unwrap().remove(key);
            all.push((format!("without {operator} {key}"), without));
            let mut turned = statement.clone();
            let other = match operator.as_str() {
                "ArnLike" => "ArnNotLike",
                "ArnNotLike" => "ArnLike",
                _ => "ForAllValues:StringLike",
            };
            turned["Condition"].as_object_mut().unwrap().remove(operator);
            turned["Condition"][other][key] = values.clone();
            all.push((format!("{operator} {key} turned"), turned));
            for (what, changed) in of_list(values) {
                all.push((format!("{key} {what}"), replaced(statement, &place, changed)));
            }
            for (what, changed) in widened(key, values) {
                all.push((format!("{key} {what}"), replaced(statement, &place, changed)));
            }
        }
    }
    all
}

fn replaced(statement: &Value, place: &str, by: Value) -> Value {
    let mut changed = statement.clone();
    *changed.pointer_mut(place).unwrap() = by;
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

/// Each ARN of a condition made to match more: another path, a longer name, anything.
fn widened(key: &str, value: &Value) -> Vec<(String, Value)> {
    let items = match value {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    let mut all = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let Some((before, last)) = item.as_str().and_then(|text| text.rsplit_once(':')) else { continue };
        let (kind, rest) = last.split_once('/').unwrap_or((last, ""));
        let name = rest.rsplit('/').next().unwrap_or(rest);
        for wider in [
            format!("{before}:*"),
            format!("{before}:{kind}/*"),
            format!("{before}:{kind}/*{name}"),
            format!("{before}:{kind}/{name}"),
            format!("{before}:*/{rest}"),
        ] {
            // A policy's ARN is never of another kind; a caller's can be a user's.
            let other_kind = key != "aws:PrincipalArn" && wider.starts_with(&format!("{before}:*"));
            if Some(wider.as_str()) != item.as_str() && !other_kind {
                let mut changed = items.clone();
                changed.splice(number..=number, [json!(wider)]);
                all.push((format!("{item} as {wider}"), Value::Array(changed)));
            }
        }
    }
    all
}
