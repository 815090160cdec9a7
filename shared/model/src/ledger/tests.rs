#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::tamper;

pub(crate) fn incident(decision: Decision) -> Incident {
    let principal = Principal::from_arn("arn:aws:iam::111122223333:role/orders").unwrap();
    let origin = Origin::Finding {
        finding_id: "f".into(),
        finding_type: "t".into(),
        severity: Some(8.0),
        finding_key: FindingKey::of("f", "u"),
    };
    let now = "2026-11-21T03:00:00Z".parse().unwrap();
    let state = match decision {
        Decision::Act => IncidentState::Ordered,
        _ => IncidentState::AwaitingApproval,
    };
    let response = vec![Response::Quarantine, Response::Snapshot];
    let ordered_at = (decision == Decision::Act).then_some(now);
    let ordered = Incident::ordered(principal, Vec::new(), response, origin, now);
    Incident { decision, state, ordered_at, drill: true, ..ordered }
}

fn released(at: &str) -> Incident {
    Incident {
        state: IncidentState::Released,
        release: Some(ReleaseOrder {
            at: at.parse().unwrap(),
            by: "ana".into(),
            reason: "over".into(),
            invocation: "i".into(),
            reactivate_keys: Vec::new(),
            left_alone: Vec::new(),
            from: None,
        }),
        ..incident(Decision::Act)
    }
}

fn seen(at: &str) -> Timestamp {
    at.parse().unwrap()
}

#[test]
fn decisions_only_rise_in_every_order() {
    let order = [Decision::Approve, Decision::Act];
    for first in order {
        for second in order {
            for third in order {
                let mut now = incident(first);
                for next in [second, third] {
                    if let Joined::Changed { next, .. } = now.join(&incident(next), None) {
                        now = *next;
                    }
                }
                assert_eq!(now.decision, first.max(second).max(third));
                assert_eq!(now.state == IncidentState::Ordered, now.decision == Decision::Act);
            }
        }
    }
}

#[test]
fn only_a_raise_to_act_counts_in_the_breaker() {
    let Joined::Changed { next, counts } = incident(Decision::Approve).join(&incident(Decision::Act), None) else {
        panic!("a raise changes the incident");
    };
    assert!(counts);
    assert_eq!(next.version, 2);
    assert_eq!(next.ordered_at, incident(Decision::Act).ordered_at, "the order dates from the raise");
    let mut wider = incident(Decision::Act);
    wider.functions = vec!["arn:aws:lambda:eu-west-1:111122223333:function:f".parse().unwrap()];
    wider.plan = Plan::of(&wider.principal.name, &wider.functions, &[Response::Isolate]);
    let Joined::Changed { next, counts } = incident(Decision::Act).join(&wider, None) else {
        panic!("new targets change the incident");
    };
    assert!(!counts);
    assert_eq!(next.plan.steps.len(), incident(Decision::Act).plan.steps.len() + 5);
    assert_eq!(incident(Decision::Act).join(&incident(Decision::Act), None), Joined::Unchanged);
}

fn shared() -> Usage {
    Usage { users: vec!["a".into(), "b".into()], count: 2, scanned_at: seen("2026-11-21T02:45:00Z"), unread: vec![] }
}

#[test]
fn what_is_held_back_for_a_shared_role_is_put_in_force_by_a_person_alone() {
    let held = incident(Decision::Act).held_back(&shared(), "2 share the role", seen("2026-11-21T03:00:01Z")).unwrap();
    assert_eq!((held.state, held.decision, held.ordered_at), (IncidentState::AwaitingApproval, Decision::Act, None));
    assert!(held.reason.ends_with("; but 2 share the role"), "{}", held.reason);
    assert_eq!(held.join(&incident(Decision::Act), None), Joined::Unchanged, "the same finding again");
    let mut wider = incident(Decision::Act);
    wider.access_keys = vec!["ASIAEXAMPLEKEY000001".parse().unwrap()];
    let Joined::Changed { next, counts } = held.join(&wider, None) else { panic!("a new key changes the incident") };
    assert_eq!((next.state, counts), (IncidentState::AwaitingApproval, false));
    let by_person = Incident {
        origin: Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: "i".into() },
        ..incident(Decision::Act)
    };
    let Joined::Changed { next, counts } = held.join(&by_person, None) else { panic!("a person puts it in force") };
    assert_eq!((next.state, counts, next.is_asked_for()), (IncidentState::Ordered, true, true));
    assert_eq!(next.held_back(&shared(), "why", seen("2026-11-21T03:00:02Z")), None, "a person has said so");
    assert_eq!(by_person.held_back(&shared(), "why", seen("2026-11-21T03:00:02Z")), None);
}

/// What a release by a clock that is some minutes off makes of activity. AWS takes no signature that is more than five off.
#[test]
fn a_release_by_a_wrong_clock_swallows_minutes_at_the_most_and_the_next_activity_reopens() {
    // It is 03:00, and the clock says 03:04.
    let by_a_clock_ahead = released("2026-11-21T03:04:00Z");
    let again = incident(Decision::Act);
    let reopens = |old: &Incident, at: &str| matches!(old.join(&again, Some(seen(at))), Joined::Changed { .. });
    assert!(!reopens(&by_a_clock_ahead, "2026-11-21T03:02:00Z"), "on record as stale");
    assert!(reopens(&by_a_clock_ahead, "2026-11-21T03:04:01Z"), "the same finding's next update, or any other");
    // It is 03:00, and the clock says 02:56: what was seen before the release is contained once more, and none is missed.
    let by_a_clock_behind = released("2026-11-21T02:56:00Z");
    assert!(reopens(&by_a_clock_behind, "2026-11-21T02:58:00Z"));
    assert!(!reopens(&by_a_clock_behind, "2026-11-21T02:55:00Z"));
}

#[test]
fn a_released_incident_reopens_on_new_activity_only() {
    let old = released("2026-11-21T03:00:00Z");
    let again = incident(Decision::Act);
    assert_eq!(old.join(&again, Some(seen("2026-11-21T02:59:00Z"))), Joined::Stale);
    assert_eq!(old.join(&again, Some(seen("2026-11-21T03:00:00Z"))), Joined::Stale);
    assert_eq!(old.join(&again, None), Joined::Stale);
    let Joined::Changed { next, counts } = old.join(&again, Some(seen("2026-11-21T03:00:01Z"))) else {
        panic!("new activity reopens");
    };
    assert_eq!((next.episode, counts), (2, true));
    assert_eq!(next.release, None);
}

#[test]
fn only_the_guards_word_moves_an_incident_to_a_principal_made_again() {
    let pinned = |id: &str, finding_type: &str, decision: Decision| {
        let mut incident = incident(decision);
        incident.principal.unique_id = Some(id.parse().unwrap());
        if let Origin::Finding { finding_type: of, .. } = &mut incident.origin {
            finding_type.clone_into(of);
        }
        incident
    };
    let (old, new) = ("AROAEXAMPLE000000001", "AROAEXAMPLE000000002");
    let now = pinned(old, "t", Decision::Act);
    let Joined::Changed { next, counts } = now.join(&pinned(new, tamper::RECREATED, Decision::Act), None) else {
        panic!("the new one is contained in its place");
    };
    assert_eq!(next.principal.unique_id.as_ref().map(ToString::to_string).as_deref(), Some(new));
    assert_eq!((next.episode, counts), (1, false));
    for left in [
        pinned(new, "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS", Decision::Act),
        pinned(old, tamper::RECREATED, Decision::Act),
    ] {
        assert_eq!(now.join(&left, None), Joined::Unchanged, "{left:?}");
    }
}

#[test]
fn where_the_playbook_asks_a_person_is_asked_about_one_made_again_unless_one_had_asked() {
    let mut found = incident(Decision::Approve);
    found.principal.unique_id = Some("AROAEXAMPLE000000002".parse().unwrap());
    if let Origin::Finding { finding_type, .. } = &mut found.origin {
        tamper::RECREATED.clone_into(finding_type);
    }
    let mut now = incident(Decision::Act);
    now.principal.unique_id = Some("AROAEXAMPLE000000001".parse().unwrap());
    let joined = |now: &Incident| {
        let Joined::Changed { next, counts } = now.join(&found, None) else { panic!("it is not dropped") };
        assert_eq!(next.principal.unique_id, found.principal.unique_id);
        (next.state, next.ordered_at.is_some(), counts)
    };
    assert_eq!(joined(&now), (IncidentState::AwaitingApproval, false, false));
    let approval = Approval { at: now.opened_at, by: "ana".into(), reason: "r".into(), invocation: "another".into() };
    let approved = Incident { approval: Some(approval), ..now.clone() };
    assert_eq!(joined(&approved), (IncidentState::Ordered, true, false));
    let origin = Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: "one".into() };
    assert_eq!(joined(&Incident { origin, ..now }), (IncidentState::Ordered, true, false));
}

#[test]
fn what_was_made_long_before_the_order_is_not_taken_for_the_thiefs_alone() {
    let mut now = incident(Decision::Act);
    let ordered = now.ordered_since();
    for (seen, since) in [(1, 1), (6, 6), (7, 6), (500, 6)] {
        now.first_seen = Some(ordered - SignedDuration::from_hours(seen));
        assert_eq!(now.newborn_since(), ordered - SignedDuration::from_hours(since), "{seen} hours");
    }
}

#[test]
fn a_person_reopens_whatever_the_times() {
    let by_person = Incident {
        origin: Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: "i".into() },
        ..incident(Decision::Act)
    };
    assert!(matches!(released("2026-11-21T03:00:00Z").join(&by_person, None), Joined::Changed { .. }));
}

#[test]
fn an_invocation_that_is_made_again_asks_for_nothing_new() {
    let asked = |invocation: &str| Incident {
        origin: Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: invocation.into() },
        ..incident(Decision::Act)
    };
    assert_eq!(asked("one").join(&asked("one"), None), Joined::Unchanged);
    let Joined::Changed { next: twice, .. } = asked("one").join(&asked("two"), None) else {
        panic!("who asks again is on record");
    };
    assert_eq!(twice.approval.as_ref().map(|a| a.invocation.as_str()), Some("two"));
    assert_eq!(twice.join(&asked("two"), None), Joined::Unchanged);
    let withheld = Incident { state: IncidentState::Withheld, ..asked("one") };
    assert_eq!(withheld.join(&asked("one"), None), Joined::Unchanged);
    assert!(matches!(withheld.join(&asked("two"), None), Joined::Changed { .. }));
    let over = Incident { origin: asked("one").origin, ..released("2026-11-21T03:00:00Z") };
    assert_eq!(over.join(&asked("one"), None), Joined::Stale);
    assert!(matches!(over.join(&asked("two"), None), Joined::Changed { .. }));
}

#[test]
fn a_withheld_incident_is_looked_at_again_only_when_something_is_different() {
    let withheld = Incident { state: IncidentState::Withheld, ..incident(Decision::Act) };
    assert_eq!(withheld.join(&incident(Decision::Act), None), Joined::Unchanged);
    let playbook = Incident { playbook_digest: "other".into(), ..incident(Decision::Act) };
    assert!(matches!(withheld.join(&playbook, None), Joined::Changed { counts: true, .. }));
    // A drill about it keeps no finding in earnest from containing it; the other way round nothing is new.
    let in_earnest = Incident { drill: false, ..incident(Decision::Act) };
    assert!(matches!(withheld.join(&in_earnest, None), Joined::Changed { counts: true, .. }));
    let withheld = Incident { drill: false, ..withheld };
    assert_eq!(withheld.join(&incident(Decision::Act), None), Joined::Unchanged);
    let mut another = incident(Decision::Act);
    another.principal.unique_id = Some("AROAEXAMPLE000000009".parse().unwrap());
    assert_eq!(withheld.join(&another, None), Joined::Unchanged, "a drill opens nothing anew that is none");
}

#[test]
fn what_a_drill_says_of_whom_it_is_about_does_not_stand_against_a_finding_in_earnest() {
    let of = |id: &str, drill, unvetted| {
        let mut incident = Incident { unvetted, drill, ..incident(Decision::Act) };
        incident.principal.unique_id = Some(id.parse().unwrap());
        incident
    };
    let (forged, real) = ("AROAEXAMPLEFORGED001", "AROAEXAMPLE000000001");
    let joined = |now: &Incident, candidate: &Incident| match now.join(candidate, None) {
        Joined::Changed { next, .. } => *next,
        other => panic!("{other:?}"),
    };
    let next = joined(&of(forged, true, true), &of(real, false, true));
    assert_eq!((next.principal.unique_id.unwrap().as_str(), next.drill), (real, false));
    // Whoever was pinned stays.
    let next = joined(&of(real, true, false), &of(forged, false, true));
    assert_eq!(next.principal.unique_id.unwrap().as_str(), real);
}

#[test]
fn whatever_puts_it_in_force_is_held_to_the_guard_rails_again() {
    let new = |decision| Incident { unvetted: true, ..incident(decision) };
    let joined = |now: &Incident, candidate: &Incident| match now.join(candidate, Some(seen("2026-11-21T04:00:00Z"))) {
        Joined::Changed { next, .. } => *next,
        other => panic!("{other:?}"),
    };
    let raised = joined(&incident(Decision::Approve), &new(Decision::Act));
    let again = joined(&released("2026-11-21T03:30:00Z"), &new(Decision::Act));
    assert!([&raised, &again].iter().all(|next| next.state == IncidentState::Ordered && !next.is_in_force()));
    // What is in force stays so, whatever is found besides.
    let wider = Incident {
        functions: vec!["arn:aws:lambda:eu-west-1:111122223333:function:orders".parse().unwrap()],
        ..new(Decision::Act)
    };
    assert!(joined(&incident(Decision::Act), &wider).is_in_force());
    assert!(!joined(&new(Decision::Act), &wider).is_in_force());
}

#[test]
fn records_read_back() {
    let incident = incident(Decision::Act);
    let step = incident.step_record(&incident.plan.steps[0], incident.opened_at);
    for record in [Record::Incident(Box::new(incident)), Record::Step(Box::new(step))] {
        let value = serde_json::to_value(&record).unwrap();
        assert_eq!(serde_json::from_value::<Record>(value).unwrap(), record);
    }
}
