//! Records of CloudTrail as they come: a chain with a cycle, a self-assumption, another account and the way back, among
//! innocent, refused and hostile ones.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use firebreak_model::chain::{self, Call, Chain, Root};
use serde_json::Value;

fn records() -> Vec<Value> {
    serde_json::from_str(include_str!("chain/records.json")).unwrap()
}

fn key(n: u32) -> String {
    format!("ASIAEXAMPLECHAIN{n:04}")
}

fn found(root: Root, records: &[Value]) -> Chain {
    let mut chain = Chain::of(root, Vec::new());
    chain.grow(records.iter().filter_map(chain::read));
    chain
}

fn stolen() -> Root {
    Root { access_keys: vec![key(0).parse().unwrap()], ..Root::default() }
}

fn keys(chain: &Chain) -> BTreeSet<String> {
    chain.links().iter().map(|link| link.session.access_key.as_ref().unwrap().to_string()).collect()
}

#[test]
fn the_thiefs_sessions_are_found_over_a_cycle_and_another_account_and_no_others() {
    let chain = found(stolen(), &records());
    assert_eq!(keys(&chain), (1..=7).map(key).collect());
    let depths: Vec<(String, u32)> =
        chain.links().iter().map(|l| (l.session.role.as_ref().unwrap().id.session().to_owned(), l.depth)).collect();
    for expected in [("x-1", 1), ("x-2", 2), ("x-3", 3), ("x-1", 4), ("x-5", 5), ("x-6", 2), ("x-7", 3)] {
        assert!(depths.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {depths:?}");
    }
    let elsewhere: Vec<_> = chain
        .links()
        .iter()
        .filter_map(|link| link.session.role.as_ref())
        .filter(|role| role.account.as_str() != "111122223333")
        .map(|role| format!("{}/{}", role.account, role.name))
        .collect();
    assert_eq!(elsewhere, ["444455556666/partner-access"]);
}

#[test]
fn a_session_of_a_providers_token_leads_on_where_it_is_the_stolen_one_and_nowhere_else() {
    let records = records();
    let opened = records.iter().filter_map(chain::read).find(|made| made.call == Call::AssumeRoleWithWebIdentity);
    let session = opened.unwrap().made.unwrap();
    assert_eq!(session.access_key, Some(key(81).parse().unwrap()));
    // A pipeline is nobody's whose key was stolen, though it ends in a role that the thief ended in.
    assert!(keys(&found(stolen(), &records)).is_disjoint(&[key(81), key(82)].into()));
    let of_the_pipeline = Root { access_keys: vec![key(81).parse().unwrap()], ..Root::default() };
    assert_eq!(keys(&found(of_the_pipeline, &records)), [key(82)].into());
    // By its role its own sessions lead on too; who opened them from outside has no key to be followed to.
    let by_role = Root { unique_id: Some("AROAEXAMPLE00000000F".parse().unwrap()), ..Root::default() };
    assert_eq!(keys(&found(by_role, &records)), [key(82)].into());
}

#[test]
fn what_the_thief_made_and_cannot_be_named_is_told_of() {
    let told = found(stolen(), &records()).not_followed();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|told| told.contains("deploy-helper")), "{told:?}");
}

#[test]
fn the_role_leads_to_the_same_sessions_as_the_stolen_key_and_in_any_order() {
    let by_role = Root { unique_id: Some("AROAEXAMPLE00000000A".parse().unwrap()), ..Root::default() };
    let mut records = records();
    for turn in 0..records.len() {
        records.rotate_left(turn % 3 + 1);
        assert_eq!(keys(&found(by_role.clone(), &records)), (1..=7).map(key).collect());
        assert_eq!(keys(&found(stolen(), &records)), (1..=7).map(key).collect());
    }
    // Sessions of a role that lives on are healthy from its revocation on; the stolen one began before.
    let living = Root { healthy_from: Some("2026-11-21T03:00:00Z".parse().unwrap()), ..by_role };
    assert_eq!(keys(&found(living, &records)), (1..=7).map(key).collect());
    let later = Root {
        unique_id: Some("AROAEXAMPLE00000000A".parse().unwrap()),
        healthy_from: Some("2026-11-21T01:00:00Z".parse().unwrap()),
        ..Root::default()
    };
    assert_eq!(keys(&found(later, &records)), BTreeSet::new());
}
