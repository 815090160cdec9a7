//! What no plan holds: the revocation of a release, the denies of chained sessions, and the deny policy itself.

use firebreak_model::SCHEMA;
use firebreak_model::chain::{Call, Link, OfRole, Session};
use firebreak_model::ledger::{ChainRecord, RevocationRecord};
use firebreak_model::plan::Target;
use firebreak_model::policy::{CHAINED_POLICY, REVOCATION_POLICY, revocation};

use super::*;
use crate::testing::{deny_policy, standing};

/// The contained role an hour after its release, what is kept of it, and the record of the step that wrote it.
fn released() -> (Incident, RevocationRecord, StepRecord) {
    let (ordered, _) = contained();
    crate::testing::released(ordered)
}

fn no_policy() -> Scripted {
    query_error(404, "NoSuchEntity")
}

/// What a look at everything that is kept reads, with these answers of IAM's, and the tampering that it records.
async fn looked(
    incident: &Incident,
    kept: &RevocationRecord,
    step: &StepRecord,
    iam: Vec<Scripted>,
    after: Vec<Scripted>,
) -> Option<String> {
    let before =
        [items(&[Record::Revocation(kept.clone())]), stored(incident), item(&Record::Step(Box::new(step.clone())))];
    let asked = iam.len();
    let wires = Wires {
        ledger: Wire::answering(before.into_iter().chain(after)),
        iam: Wire::answering(iam),
        ..Wires::default()
    };
    wires.guard().look_at_revocations(None).await.unwrap();
    assert_eq!(wires.iam.requests().len(), asked, "{:?}", wires.iam.requests());
    assert_eq!(wires.unused(), 0, "{:?} {:?}", wires.ledger.requests(), wires.iam.requests());
    wires.ledger.requests().into_iter().find(|request| request.contains("PutItem"))
}

#[tokio::test]
async fn a_revocation_that_is_taken_away_after_its_release_goes_on_record_for_its_owner() {
    let (incident, kept, step) = released();
    let again = || vec![items(&[Record::Revocation(kept.clone())]), ok("{}")];
    let tamper = looked(&incident, &kept, &step, vec![no_policy(), as_pinned()], again()).await.unwrap();
    assert!(tamper.contains(r#""owners":{"L":[{"S":"revoke-sessions"}]}"#), "{tamper}");
    assert!(tamper.contains(r#""steps":{"L":[{"S":"revoke-sessions@role/orders"}]}"#), "{tamper}");
    // One that reaches less far is none.
    let weak = standing(&revocation(kept.released_at() - SignedDuration::from_secs(5)));
    assert!(looked(&incident, &kept, &step, vec![weak, as_pinned()], again()).await.is_some());
    // What could not be put back is not forgotten.
    let failed = StepRecord { state: StepState::Failed, ..step.clone() };
    assert!(looked(&incident, &kept, &failed, vec![no_policy(), as_pinned()], again()).await.is_some());
}

#[tokio::test]
async fn a_revocation_that_stands_was_never_written_or_is_over_was_not_taken_away() {
    let (incident, kept, step) = released();
    let whole = standing(&revocation(kept.released_at()));
    assert_eq!(looked(&incident, &kept, &step, vec![whole], vec![]).await, None);
    // Its release got no further than the record.
    let earlier = Some(kept.released_at() - SignedDuration::from_mins(5));
    let unwritten = StepRecord { verified_at: earlier, ..step.clone() };
    assert_eq!(looked(&incident, &kept, &unwritten, vec![], vec![]).await, None);
    // The role is another by now, or gone: its sessions died with it.
    let another = vec![no_policy(), role("AROAEXAMPLE000000009")];
    assert_eq!(looked(&incident, &kept, &step, another, vec![]).await, None);
    assert_eq!(looked(&incident, &kept, &step, vec![no_policy(), no_policy()], vec![]).await, None);
    // Its owner took it away in between, because its time is over.
    let over = vec![items(&[])];
    assert_eq!(looked(&incident, &kept, &step, vec![no_policy(), as_pinned()], over).await, None);
}

#[tokio::test]
async fn whoever_takes_a_revocation_away_is_on_record_as_soon_as_cloudtrail_tells() {
    let (incident, kept, step) = released();
    let change = json!({"roleName": "orders", "policyName": REVOCATION_POLICY});
    let event = told_of("iam", "DeleteRolePolicy", &change, "user/ana");
    let wires = Wires {
        ledger: Wire::answering([
            ok("{}"),
            stored(&incident),
            items(&[Record::Revocation(kept.clone())]),
            stored(&incident),
            item(&Record::Step(Box::new(step))),
            items(&[Record::Revocation(kept)]),
            ok("{}"),
        ]),
        iam: Wire::answering([no_policy(), as_pinned()]),
        ..Wires::default()
    };
    played(&wires, &event).await;
    assert_eq!(wires.unused(), 0, "{:?}", wires.ledger.requests());
    let tamper = wires.ledger.requests().pop().unwrap();
    for part in ["user/people/ana", r#""owners":{"L":[{"S":"revoke-sessions"}]}"#, r#""suspects":{"L":[{"M""#] {
        assert!(tamper.contains(part), "{tamper}");
    }
    // On another policy nothing is looked up.
    let event = told_of("iam", "DeleteRolePolicy", &json!({"roleName": "orders", "policyName": "mine"}), "user/ana");
    let wires = Wires { ledger: Wire::answering([ok("{}"), stored(&incident)]), ..Wires::default() };
    played(&wires, &event).await;
    assert_eq!(wires.ledger.requests().len(), 2);
}

/// A session that a stolen one made in the role `billing`, denied; and the search as it stands.
fn chained(incident: &Incident, settled: bool) -> (ChainRecord, StepRecord) {
    let now = clock::now();
    let role = OfRole {
        account: "111122223333".parse().unwrap(),
        name: "billing".parse().unwrap(),
        id: "AROAEXAMPLE000000002:x1".parse().unwrap(),
    };
    let session = Session { role: Some(role), access_key: None, ends_at: now + SignedDuration::from_mins(40) };
    let link = Link { call: Call::AssumeRole, at: now, region: None, by: None, depth: 1, session };
    let chain = ChainRecord {
        schema: SCHEMA,
        incident_id: incident.incident_id.clone(),
        episode: incident.episode,
        sessions: vec![link],
        regions: Vec::new(),
        gaps: Vec::new(),
        rounds: 1,
        complete_to: now,
        settled_at: settled.then_some(now),
        updated_at: now,
    };
    let target = Target::Role("billing".parse().unwrap());
    let step = Step { action: ActionId::RevokeChainedSessions, target };
    let record = StepRecord {
        state: StepState::Applied,
        prior: Some("null".into()),
        verified_at: Some(now),
        ..incident.step_record(&step, now)
    };
    (chain, record)
}

fn billing() -> Scripted {
    ok(
        "<GetRoleResponse><GetRoleResult><Role><Path>/</Path><RoleName>billing</RoleName><RoleId>AROAEXAMPLE000000002</RoleId>\
        <Arn>arn:aws:iam::111122223333:role/billing</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate></Role>\
        </GetRoleResult></GetRoleResponse>",
    )
}

#[tokio::test]
async fn the_denies_of_chained_sessions_are_part_of_what_is_looked_at() {
    let (incident, step) = contained();
    let (chain, deny) = chained(&incident, true);
    let wires = Wires {
        ledger: Wire::answering([
            stored(&incident),
            ok("{}"),
            item(&Record::Chain(Box::new(chain))),
            items(&[Record::Step(Box::new(step))]),
            items(&[Record::Step(Box::new(deny))]),
            stored(&incident),
            ok("{}"),
            ok("{}"),
        ]),
        iam: Wire::answering([as_pinned()].into_iter().chain(read(DENY)).chain([no_policy(), billing()])),
        sqs: Wire::answering([sent()]),
        searching: true,
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    assert_eq!(wires.unused(), 0, "{:?} {:?}", wires.ledger.requests(), wires.iam.requests());
    let tamper = wires.ledger.requests().pop().unwrap();
    assert!(tamper.contains(r#""owners":{"L":[{"S":"revoke-sessions"}]}"#), "{tamper}");
    assert!(tamper.contains(r#""steps":{"L":[{"S":"revoke-chained-sessions@role/billing"}]}"#), "{tamper}");
}

#[tokio::test]
async fn a_change_of_the_role_that_was_chained_into_has_the_containment_looked_at() {
    let (incident, step) = contained();
    let (chain, deny) = chained(&incident, true);
    let role = firebreak_model::principal::Principal::from_arn("arn:aws:iam::111122223333:role/billing").unwrap();
    let kept = RevocationRecord {
        schema: SCHEMA,
        incident_id: incident.incident_id.clone(),
        principal: role,
        ends_at: clock::now() + SignedDuration::from_hours(1),
        action: ActionId::RevokeChainedSessions,
        episode: incident.episode,
    };
    let change = json!({"roleName": "billing", "policyName": CHAINED_POLICY});
    let event = told_of("iam", "DeleteRolePolicy", &change, "user/ana");
    let wires = Wires {
        ledger: Wire::answering([
            ok("{}"),
            ok("{}"),
            items(&[Record::Revocation(kept)]),
            stored(&incident),
            stored(&incident),
            ok("{}"),
            item(&Record::Chain(Box::new(chain))),
            items(&[Record::Step(Box::new(step))]),
            items(&[Record::Step(Box::new(deny))]),
            stored(&incident),
            ok("{}"),
            ok("{}"),
        ]),
        iam: Wire::answering([as_pinned()].into_iter().chain(read(DENY)).chain([no_policy(), billing()])),
        sqs: Wire::answering([sent()]),
        searching: true,
        ..Wires::default()
    };
    played(&wires, &event).await;
    assert_eq!(wires.unused(), 0, "{:?} {:?}", wires.ledger.requests(), wires.iam.requests());
    let tamper = wires.ledger.requests().pop().unwrap();
    assert!(tamper.contains("revoke-chained-sessions@role/billing") && tamper.contains("user/people/ana"), "{tamper}");
}

#[tokio::test]
async fn nothing_is_settled_before_the_search_for_chained_sessions_is_over() {
    let (incident, step) = contained();
    for (settled, standing) in [(false, "watching"), (true, "settled")] {
        let (chain, _) = chained(&incident, settled);
        let guard = Wires::default().guard();
        let watch = Watch {
            since: clock::now() - SignedDuration::from_mins(21),
            done: 3,
            next_check_at: Some(clock::now()),
            ..Watch::of(&incident, &guard.pace, clock::now())
        };
        let wires = Wires {
            ledger: Wire::answering([
                stored(&incident),
                item(&Record::Watch(Box::new(watch))),
                item(&Record::Chain(Box::new(chain))),
                items(&[Record::Step(Box::new(step.clone()))]),
                items(&[]),
                ok("{}"),
            ]),
            iam: Wire::answering(in_force()),
            trail: Wire::answering([nothing_recorded(), nothing_recorded()]),
            searching: true,
            ..Wires::default()
        };
        played(&wires, &message(&json!({"detail": {"incident_id": incident.incident_id}}))).await;
        assert_eq!(wires.unused(), 0, "{:?}", wires.ledger.requests());
        let put = wires.ledger.requests().pop().unwrap();
        assert!(put.contains(&format!(r#""standing":{{"S":"{standing}"}}"#)), "{put}");
    }
}

#[tokio::test]
async fn a_change_of_the_deny_policy_has_everybody_looked_at_who_has_it() {
    let (incident, step) = contained();
    let guard = Wires::default().guard();
    let watch = Watch::of(&incident, &guard.pace, clock::now());
    let event = told_of("iam", "CreatePolicyVersion", &json!({"policyArn": DENY, "setAsDefault": true}), "user/ana");
    let empty = deny_policy(r#"{"Version":"2012-10-17","Statement":[]}"#);
    let wires = Wires {
        ledger: Wire::answering([
            ok("{}"),
            ok("{}"),
            items(&[Record::Watch(Box::new(watch))]),
            stored(&incident),
            ok("{}"),
            items(&[Record::Step(Box::new(step))]),
            stored(&incident),
            ok("{}"),
            ok("{}"),
        ]),
        iam: Wire::answering([as_pinned(), attached(DENY)].into_iter().chain(empty)),
        sqs: Wire::answering([sent()]),
        ..Wires::default()
    };
    played(&wires, &event).await;
    assert_eq!(wires.unused(), 0, "{:?} {:?}", wires.ledger.requests(), wires.iam.requests());
    let tamper = wires.ledger.requests().pop().unwrap();
    assert!(tamper.contains(r#""owners":{"L":[{"S":"quarantine-principal"}]}"#), "{tamper}");
    assert!(wires.ledger.requests()[1].contains(r#""nature":{"S":"own_part"}"#), "and it is a part of ours");
}
