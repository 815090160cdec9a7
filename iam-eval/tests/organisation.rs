//! The organisation's policies against the tables of who may do what, and mutants of them, each of which its table
//! notices.

#![expect(clippy::unwrap_used, reason = "tests")]

use iam_eval::organisation::{Names, Scp, table};
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
fn the_policies_deny_what_the_tables_say_and_nothing_else() {
    for policy in Scp::ALL {
        let rows = table::rows(policy);
        let denied = rows.iter().filter(|row| row.denied).count();
        assert!(denied >= 300 && rows.len() - denied >= 300, "{policy:?}: {denied} of {} denied", rows.len());
        let wrong: Vec<&str> = wrong(&table::names().document(policy).unwrap(), &rows).collect();
        assert!(wrong.is_empty(), "{policy:?}, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
}

#[test]
fn every_mutant_of_the_policies_is_noticed_by_their_tables() {
    for (policy, least) in [(Scp::Containment, 150), (Scp::Identities, 60)] {
        let document = table::names().document(policy).unwrap();
        let (mutants, rows) = (mutants::of(&document), table::rows(policy));
        assert!(mutants.len() > least, "{policy:?}, {} mutants", mutants.len());
        let unnoticed: Vec<&str> = mutants
            .iter()
            .filter(|(_, mutant)| wrong(mutant, &rows).next().is_none())
            .map(|(what, _)| what.as_str())
            .collect();
        let (few, all) = (unnoticed.len(), mutants.len());
        assert!(unnoticed.is_empty(), "{policy:?}, {few} of {all} unnoticed:\n{}", unnoticed.join("\n"));
    }
}

#[test]
fn the_policies_fit_where_the_limit_was_not_raised() {
    let names = Names {
        stack: "firebreak".to_owned(),
        deployers: vec![
            "arn:*:iam::*:role/firebreak-deployer".to_owned(),
            "arn:*:iam::*:role/stacksets-exec-*".to_owned(),
        ],
        responders: vec!["arn:*:iam::*:role/firebreak-responder".to_owned()],
        boundaries: vec!["arn:*:iam::*:role/firebreak-deployer".to_owned()],
        // Of these there may be many.
        identities: (0..15).map(|number| format!("arn:*:iam::*:role/pipelines/deploys-stacks-{number:02}-*")).collect(),
        chains: (0..15).map(|number| format!("arn:*:iam::*:role/applications/collects-{number:02}")).collect(),
    };
    for policy in Scp::ALL {
        let length = names.document(policy).unwrap().to_string().len();
        assert!(length <= CHARACTERS, "{policy:?}: {length} characters");
    }
}

#[test]
fn nothing_is_left_of_the_placeholders() {
    for policy in Scp::ALL {
        assert!(policy.template().contains("${DeployerRoles}"));
        assert!(!table::names().document(policy).unwrap().to_string().contains("${"), "{policy:?}");
    }
}

/// The template that deploys them carries the same documents, without white space.
#[test]
fn the_template_carries_the_policies() {
    let template = include_str!("../../org/policy.yaml");
    let carried: Vec<&str> = template.lines().map(str::trim).filter(|line| line.starts_with("{\"")).collect();
    assert_eq!(carried.len(), Scp::ALL.len(), "documents in org/policy.yaml");
    for (policy, carried) in Scp::ALL.into_iter().zip(carried) {
        let document: Value = serde_json::from_str(policy.template()).unwrap();
        let found: Value = serde_json::from_str(carried).unwrap();
        assert_eq!(found, document, "org/policy.yaml carries another {policy:?}; it should carry:\n{document}");
        let placeholders = ["DeployerRoles", "ResponderRoles", "BoundaryRoles", "IdentityRoles", "ChainRoles"];
        for name in placeholders.into_iter().filter(|name| carried.contains(&format!("${{{name}}}"))) {
            let put_in = format!("{name}: !Join ['\",\"', !Ref {name}]");
            let after = template.split_once(carried).map(|(_, after)| after).unwrap_or_default();
            let its_own = after.lines().take(8).any(|line| line.trim().trim_start_matches("- ") == put_in);
            assert!(its_own, "{policy:?}: {name} is not put in");
        }
    }
}
