//! Any sequence of findings, requests and releases on one principal, against what must always hold.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use firebreak_model::action::{ActionId, Response};
use firebreak_model::decision::Decision;
use firebreak_model::ids::{FindingKey, FunctionArn};
use firebreak_model::ledger::{Incident, IncidentState, Joined, Origin, ReleaseOrder};
use firebreak_model::plan::Step;
use firebreak_model::principal::Principal;
use firebreak_model::usage::Usage;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn at(minute: i64) -> Timestamp {
    "2026-11-21T03:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

#[derive(Debug, Clone)]
enum Happening {
    /// A candidate with a decision, functions, responses and the minute its activity was last seen.
    Claim {
        act: bool,
        functions: Vec<u8>,
        response: Vec<Response>,
        last_seen: Option<i64>,
        person: bool,
    },
    Release,
    Withhold,
}

fn response() -> impl Strategy<Value = Vec<Response>> {
    prop::sample::subsequence(vec![Response::Quarantine, Response::Isolate, Response::Recycle], 1..=3)
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (any::<bool>(), prop::collection::vec(0u8..3, 0..3), response(),
              prop::option::of(0i64..40), prop::bool::weighted(0.1))
            .prop_map(|(act, functions, response, last_seen, person)| {
                Happening::Claim { act, functions, response, last_seen, person }
            }),
        2 => Just(Happening::Release),
        1 => Just(Happening::Withhold),
    ]
}

fn candidate(act: bool, functions: &[u8], response: Vec<Response>, person: bool, minute: i64) -> Incident {
    let principal = Principal::from_arn("arn:aws:iam::111122223333:role/orders").unwrap();
    let functions: Vec<FunctionArn> = functions
        .iter()
        .map(|n| format!("arn:aws:lambda:eu-west-1:111122223333:function:f{n}").parse().unwrap())
        .collect();
    let origin = if person {
        Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: minute.to_string() }
    } else {
        Origin::Finding {
            finding_id: "f".into(),
            finding_type: "t".into(),
            severity: Some(8.0),
            finding_key: FindingKey::of("f", &minute.to_string()),
        }
    };
    Incident {
        state: if act { IncidentState::Ordered } else { IncidentState::AwaitingApproval },
        decision: if act { Decision::Act } else { Decision::Approve },
        ..Incident::ordered(principal, functions, response, origin, at(minute))
    }
}

fn released(incident: &Incident, minute: i64) -> Incident {
    let release = ReleaseOrder {
        at: at(minute),
        by: "ana".into(),
        reason: "over".into(),
        invocation: "i".into(),
        reactivate_keys: Vec::new(),
        left_alone: Vec::new(),
        from: None,
    };
    Incident {
        state: IncidentState::Released,
        release: Some(release),
        version: incident.version + 1,
        ..incident.clone()
    }
}

proptest! {
    #[test]
    fn decisions_only_rise_plans_only_grow_and_the_past_reopens_nothing(
        happenings in prop::collection::vec(happening(), 1..40)
    ) {
        let mut now: Option<Incident> = None;
        for (minute, happening) in (0i64..).zip(happenings) {
            let before = now.clone();
            match happening {
                Happening::Release => now = now.map(|i| released(&i, minute)),
                Happening::Withhold => {
                    now = now.map(|i| Incident { state: IncidentState::Withheld, version: i.version + 1, ..i });
                }
                Happening::Claim { act, functions, response, last_seen, person } => {
                    let candidate = candidate(act, &functions, response, person, minute);
                    let Some(old) = &before else { now = Some(candidate); continue };
                    match old.join(&candidate, last_seen.map(at)) {
                        Joined::Stale => {
                            prop_assert_eq!(old.state, IncidentState::Released);
                            let seen_after = last_seen.is_some_and(|m| at(m) > old.release.as_ref().unwrap().at);
                            prop_assert!(!seen_after && !person);
                        }
                        Joined::Unchanged | Joined::Later => {}
                        Joined::Changed { next, counts } => {
                            prop_assert_eq!(next.version, old.version + 1);
                            let was_acting = old.state == IncidentState::Ordered;
                            prop_assert_eq!(counts, next.state == IncidentState::Ordered && !was_acting);
                            if next.episode == old.episode {
                                prop_assert!(next.decision >= old.decision);
                                prop_assert!(!was_acting || next.state == IncidentState::Ordered);
                                for step in &old.plan.steps {
                                    let kept = next.plan.steps.contains(step);
                                    let gave_way = step.action == ActionId::RecycleEnvironments
                                        && next.plan.steps.iter().any(|s| {
                                            s.action == ActionId::ZeroConcurrency && s.target == step.target
                                        });
                                    prop_assert!(kept || gave_way, "{:?} was lost", step);
                                }
                            } else {
                                prop_assert_eq!(next.episode, old.episode + 1);
                                prop_assert!(matches!(old.state, IncidentState::Released | IncidentState::Withheld));
                            }
                            now = Some(*next);
                        }
                    }
                }
            }
            if let Some(incident) = &now {
                for step in &incident.plan.steps {
                    let both = step.action == ActionId::RecycleEnvironments
                        && incident.plan.steps.iter().any(|s| {
                            s.action == ActionId::ZeroConcurrency && s.target == step.target
                        });
                    prop_assert!(!both, "a function is isolated and recycled at once");
                }
            }
        }
    }
}

/// A finding on the one principal, as it is delivered.
#[derive(Debug, Clone)]
struct Delivered {
    act: bool,
    drill: bool,
    functions: Vec<u8>,
    response: Vec<Response>,
    key: Option<u8>,
    first_seen: Option<i64>,
    last_seen: Option<i64>,
}

impl Delivered {
    fn candidate(&self) -> Incident {
        let candidate = candidate(self.act, &self.functions, self.response.clone(), false, 0);
        Incident {
            drill: self.drill,
            first_seen: self.first_seen.map(at),
            access_keys: self.key.iter().map(|n| format!("AKIAEXAMPLE00000000{n}").parse().unwrap()).collect(),
            ..candidate
        }
    }
}

fn delivered() -> impl Strategy<Value = Delivered> {
    let seen = || prop::option::of(0i64..20);
    (
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(0u8..3, 0..3),
        response(),
        prop::option::of(0u8..3),
        seen(),
        seen(),
    )
        .prop_map(|(act, drill, functions, response, key, first_seen, last_seen)| Delivered {
            act,
            drill,
            functions,
            response,
            key,
            first_seen,
            last_seen,
        })
}

/// Some findings, and two ways in which they may arrive: each of them once or more, in any order.
fn arrivals() -> impl Strategy<Value = (Vec<Delivered>, Vec<Delivered>)> {
    let some = prop::collection::vec((delivered(), 0usize..3, 0usize..3), 1..7);
    some.prop_flat_map(|findings| {
        let repeated = |again: fn(&(Delivered, usize, usize)) -> usize| -> Vec<Delivered> {
            findings.iter().flat_map(|one| std::iter::repeat_n(one.0.clone(), 1 + again(one))).collect()
        };
        (Just(repeated(|one| one.1)).prop_shuffle(), Just(repeated(|one| one.2)).prop_shuffle())
    })
}

/// What there is to an incident in the end, whatever came first.
#[derive(Debug, PartialEq)]
struct End {
    state: IncidentState,
    episode: u32,
    decision: Decision,
    drill: bool,
    first_seen: Option<Timestamp>,
    sets: [BTreeSet<String>; 4],
}

fn end(incident: &Incident) -> End {
    End {
        state: incident.state,
        episode: incident.episode,
        decision: incident.decision,
        drill: incident.drill,
        first_seen: incident.first_seen,
        sets: [
            incident.plan.steps.iter().map(Step::key).collect(),
            incident.functions.iter().map(ToString::to_string).collect(),
            incident.access_keys.iter().map(ToString::to_string).collect(),
            incident.response.iter().map(ToString::to_string).collect(),
        ],
    }
}

/// Delivers them one after the other to what is there.
fn deliver(mut now: Option<Incident>, findings: &[Delivered]) -> Option<Incident> {
    for finding in findings {
        let candidate = finding.candidate();
        let Some(incident) = &now else {
            now = Some(candidate);
            continue;
        };
        if let Joined::Changed { next, .. } = incident.join(&candidate, finding.last_seen.map(at)) {
            now = Some(*next);
        }
    }
    now
}

proptest! {
    #[test]
    fn findings_in_any_order_and_any_number_of_times_end_in_one_state((one, other) in arrivals()) {
        let (first, second) = (deliver(None, &one).unwrap(), deliver(None, &other).unwrap());
        prop_assert_eq!(end(&first), end(&second));
        // All of them once more: nothing changes, and nothing is written.
        prop_assert_eq!(&deliver(Some(first.clone()), &other).unwrap(), &first);
    }

    #[test]
    fn what_comes_late_reopens_nothing_and_what_is_new_reopens_once((one, other) in arrivals(), cut in 0usize..20) {
        // Released at a minute that is later than anything they saw: part of the deliveries come only afterwards.
        let cut = cut.min(other.len());
        let before = deliver(None, &one);
        let released = released(&before.unwrap(), 30);
        let late = deliver(Some(released.clone()), &other[..cut]).unwrap();
        prop_assert_eq!(&late, &released);
        let new = Delivered { last_seen: Some(31), ..one[0].clone() };
        let again = [&other[cut..], &[new.clone(), new.clone()]].concat();
        let reopened = deliver(Some(late), &again).unwrap();
        prop_assert_eq!((reopened.episode, reopened.version), (2, released.version + 1));
        prop_assert_eq!(end(&reopened).sets, end(&new.candidate()).sets);
    }
}

/// A finding or a request that reaches the function, which may end between its claim and anything else.
#[derive(Debug, Clone)]
struct Arrival {
    act: bool,
    person: bool,
    functions: Vec<u8>,
    users: usize,
    killed: bool,
}

fn arrival() -> impl Strategy<Value = Option<Arrival>> {
    let arrival = (
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::collection::vec(0u8..3, 0..2),
        0usize..4,
        prop::bool::weighted(0.2),
    );
    let arrival = arrival.prop_map(|(act, person, functions, users, killed)| {
        Some(Arrival { act: act || person, person, functions, users, killed })
    });
    prop_oneof![8 => arrival, 1 => Just(None)]
}

proptest! {
    /// The function's order of work: claim, then hold back what others share, then deny. `None` is a release.
    #[test]
    fn no_order_of_findings_ends_with_a_shared_role_denied_unasked(
        arrivals in prop::collection::vec(arrival(), 1..40)
    ) {
        const ASK_ABOVE: usize = 1;
        let mut now: Option<Incident> = None;
        let mut denied = false;
        for (minute, arrival) in (0i64..).zip(arrivals) {
            let Some(Arrival { act, person, functions, users, killed }) = arrival else {
                now = now.map(|i| released(&i, minute));
                denied = false;
                continue;
            };
            let candidate = candidate(act, &functions, vec![Response::Quarantine], person, minute);
            let claimed = match &now {
                None => candidate,
                Some(old) => match old.join(&candidate, Some(at(minute))) {
                    Joined::Changed { next, .. } => *next,
                    Joined::Unchanged | Joined::Stale | Joined::Later => old.clone(),
                },
            };
            now = Some(claimed.clone());
            if killed {
                continue;
            }
            let usage = Usage { users: Vec::new(), count: users, scanned_at: at(0), unread: Vec::new() };
            let held = (users > ASK_ABOVE && !denied).then(|| claimed.held_back(&usage, "shared", at(minute))).flatten();
            if let Some(held) = held {
                prop_assert_eq!(held.state, IncidentState::AwaitingApproval);
                prop_assert_eq!(held.decision, claimed.decision);
                now = Some(held);
                continue;
            }
            if claimed.state == IncidentState::Ordered && !denied {
                prop_assert!(users <= ASK_ABOVE || claimed.is_asked_for(), "denied unasked with {} users", users);
                denied = true;
            }
            // Whoever asks by hand is never told to wait for himself.
            prop_assert!(!person || claimed.state == IncidentState::Ordered);
        }
    }
}
