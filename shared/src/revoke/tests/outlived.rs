//! What was taken away that no plan holds is written again by its owner.

use firebreak_model::policy::revocation as written;

use super::*;

/// The contained role after its release, what is kept of it, and the record of the step that wrote it.
fn released() -> (Incident, RevocationRecord, StepRecord) {
    let mut ordered = quarantined();
    ordered.principal.unique_id = Some(ROLE_ID.parse().unwrap());
    crate::testing::released(ordered)
}

fn undone(incident: &Incident) -> Value {
    json!({"detail-type": "Containment Undone", "source": "firebreak", "detail": {
        "incident_id": incident.incident_id, "owners": ["revoke-sessions"]}})
}

async fn told(incident: &Incident, script: Vec<Wired>) -> (Wire, Value) {
    let wire = Wire::answering(script);
    let handled = revocation(&wire).handle(&undone(incident)).await.unwrap();
    assert_eq!(wire.unused(), 0, "{:?}", calls(&wire));
    (wire, serde_json::to_value(handled).unwrap())
}

#[tokio::test]
async fn a_revocation_that_was_taken_away_after_the_release_is_written_again_up_to_the_same_time() {
    let (incident, kept, record) = released();
    // The incident may have been opened again since, and wait for a person.
    let waiting = Incident { state: IncidentState::AwaitingApproval, episode: 2, release: None, ..incident.clone() };
    for incident in [incident, waiting] {
        let step = || item(&Record::Step(Box::new(record.clone())));
        let reach = firebreak_model::policy::whole_seconds(kept.released_at());
        let (wire, answer) = told(
            &incident,
            vec![
                stored(&incident),
                items(&[Record::Revocation(kept.clone())]),
                step(),
                no_policy(),
                billing(ROLE_ID, "/"),
                step(),
                no_policy(),
                ok("<PutRolePolicyResponse/>"),
                standing(&written(kept.released_at())),
                none(),
            ],
        )
        .await;
        assert_eq!(answer["steps"][0]["step"], "revoke-sessions@role/orders", "{answer}");
        let request = wire.requests().into_iter().find(|line| line.contains("Action=PutRolePolicy")).unwrap();
        let time = reach.to_string().replace(':', "%3A");
        assert!(request.contains(&time), "{request}: not {time}");
        assert!(put(&wire, "step").contains(r#""sk":{"S":"000001#revoke-sessions@role/orders"}"#));
    }
}

#[tokio::test]
async fn a_forged_event_has_what_stands_read_and_nothing_written() {
    let (incident, kept, record) = released();
    let (wire, _) = told(
        &incident,
        vec![
            stored(&incident),
            items(&[Record::Revocation(kept.clone())]),
            item(&Record::Step(Box::new(record.clone()))),
            standing(&written(kept.released_at())),
        ],
    )
    .await;
    assert!(!calls(&wire).iter().any(|call| call.starts_with("Put")));
    // One that its release never wrote is not written for it.
    let earlier = Some(kept.released_at() - SignedDuration::from_secs(1));
    let record = StepRecord { verified_at: earlier, ..record };
    let script = vec![stored(&incident), items(&[Record::Revocation(kept)]), item(&Record::Step(Box::new(record)))];
    told(&incident, script).await;
}

#[tokio::test]
async fn the_deny_of_chained_sessions_is_written_again_while_they_live() {
    let incident = quarantined();
    let Record::Revocation(mut one) = kept(&incident) else { unreachable!() };
    one.ends_at = clock::now() + SignedDuration::from_hours(1);
    let Some(record) = Some(incident.step_record(
        &Step { action: ActionId::RevokeChainedSessions, target: Target::Role("billing".parse().unwrap()) },
        incident.opened_at,
    )) else {
        unreachable!()
    };
    let verified = Some(incident.opened_at);
    let record = StepRecord { state: StepState::Applied, prior: Some("null".into()), verified_at: verified, ..record };
    let step = || item(&Record::Step(Box::new(record.clone())));
    let found = |ends: &str| item(&Record::Chain(Box::new(chain(&incident, ends))));
    // Its plan is the quarantine: nothing of this function's is in it.
    let (wire, answer) = told(
        &incident,
        vec![
            stored(&incident),
            items(&[Record::Revocation(one.clone())]),
            found("2100-01-01T00:00:00Z"),
            step(),
            no_policy(),
            billing(ROLE_ID, "/"),
            none(),
            step(),
            no_policy(),
            ok("<PutRolePolicyResponse/>"),
            policy(&incident, 1),
            none(),
        ],
    )
    .await;
    assert_eq!(answer["steps"][0]["step"], "revoke-chained-sessions@role/billing", "{answer}");
    assert!(calls(&wire).contains(&"PutRolePolicy".to_owned()));
    let script = vec![stored(&incident), items(&[Record::Revocation(one)]), found("2026-11-21T04:00:00Z")];
    told(&incident, script).await;
}

#[tokio::test]
async fn what_is_written_again_during_the_containment_reaches_as_far_as_at_first() {
    let mut incident = quarantined();
    incident.principal.unique_id = Some(ROLE_ID.parse().unwrap());
    incident.plan = Plan::of(&incident.principal.name, &[], &[Response::Revoke]);
    let first: Timestamp = "2026-11-21T03:05:00Z".parse().unwrap();
    let fresh = incident.step_record(&incident.plan.steps[0], first);
    let record = StepRecord {
        state: StepState::Applied,
        prior: Some("null".into()),
        verified_at: Some("2026-11-21T03:40:00Z".parse().unwrap()),
        first_verified_at: Some(first),
        ..fresh
    };
    let step = || item(&Record::Step(Box::new(record.clone())));
    let (wire, _) = told(
        &incident,
        vec![
            stored(&incident),
            billing(ROLE_ID, "/"),
            step(),
            step(),
            no_policy(),
            stored(&incident),
            no_policy(),
            ok("<PutRolePolicyResponse/>"),
            standing(&written("2026-11-21T03:06:00Z".parse().unwrap())),
            none(),
            items(&[]),
        ],
    )
    .await;
    let request = wire.requests().into_iter().find(|line| line.contains("Action=PutRolePolicy")).unwrap();
    assert!(request.contains("2026-11-21T03%3A06%3A00Z"), "{request}");
    assert!(put(&wire, "step").contains(r#""first_verified_at":{"S":"2026-11-21T03:05:00Z"}"#));
}
