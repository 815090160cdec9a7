//! The organisation's policy against the table of who may do what, and mutants of it, each of which the table notices.

#![expect(clippy::unwrap_used, reason = "tests")]

use iam_eval::organisation::{Names, TEMPLATE, table};
use iam_eval::{Decision, Policy, mutants};
use serde_json::Value;

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
    let (mutants, rows) = (mutants::of(&document), table::rows());
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
