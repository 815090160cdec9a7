//! The ledger over the wire: races, the breaker, the pause, write-once records, against a real table.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use firebreak_model::SCHEMA;
use firebreak_model::action::{FunctionName, Response};
use firebreak_model::decision::Decision;
use firebreak_model::ids::{FindingKey, IncidentId};
use firebreak_model::ledger::{Incident, IncidentState, Origin, Pause, ReleaseOrder, StepState};
use firebreak_model::plan::Plan;
use firebreak_model::principal::Principal;
use firebreak_shared::ledger::{Claim, Claimed, Ledger, LedgerError, Seal};
use futures_util::future::join_all;
use gameday::aws::{Aws, REGION};
use gameday::emulator::Emulator;
use jiff::{SignedDuration, Timestamp};

async fn ledger() -> (Emulator, Ledger) {
    let (emulator, cold) = ledgers(1).await;
    let ledger = cold.into_iter().next().unwrap();
    ledger.fetch_key().await.unwrap();
    (emulator, ledger)
}

/// As many processes see the same ledger, none of which has the key at hand.
async fn ledgers(processes: usize) -> (Emulator, Vec<Ledger>) {
    let program = common::settings().emulator;
    let emulator = Emulator::start(&program).await.unwrap();
    let aws = Aws::operator(emulator.endpoint(), REGION);
    common::table::create(&aws, "ledger").await;
    let key = aws.kms.create_key().key_spec(KeySpec::Hmac256).key_usage(KeyUsageType::GenerateVerifyMac);
    let key = key.send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let process = |_| Ledger::new(aws.dynamodb.clone(), "ledger".to_owned(), Seal::new(&aws.config, key.clone()));
    (emulator, (0..processes).map(process).collect())
}

fn now() -> Timestamp {
    "2026-11-21T03:00:00Z".parse().unwrap()
}

fn candidate(name: &str, decision: Decision) -> Incident {
    let principal = Principal::from_arn(&format!("arn:aws:iam::111122223333:role/{name}")).unwrap();
    let origin = Origin::Finding {
        finding_id: "f".into(),
        finding_type: "t".into(),
        severity: Some(8.0),
        finding_key: FindingKey::of("f", "u"),
    };
    let response = vec![Response::Quarantine, Response::Snapshot];
    Incident {
        state: if decision == Decision::Act { IncidentState::Ordered } else { IncidentState::AwaitingApproval },
        decision,
        ordered_at: (decision == Decision::Act).then(now),
        ..Incident::ordered(principal, Vec::new(), response, origin, now())
    }
}

fn claim(candidate: Incident) -> Claim {
    Claim { candidate, finding: None, last_seen: None, per_hour: 10, now: now() }
}

fn by_person(name: &str) -> Incident {
    let origin = Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: "i".into() };
    Incident { origin, ..candidate(name, Decision::Act) }
}

/// A change that begins or ends a release, now.
fn release(state: IncidentState) -> impl FnMut(Incident) -> Result<Option<Incident>, LedgerError> {
    move |incident| {
        let release = ReleaseOrder {
            at: now(),
            by: "ana".into(),
            reason: "over".into(),
            invocation: "i".into(),
            reactivate_keys: Vec::new(),
            left_alone: Vec::new(),
            from: None,
        };
        Ok(Some(Incident { state, release: Some(release), ..incident }))
    }
}

fn pause() -> Pause {
    Pause { schema: SCHEMA, since: now(), by: "ana".into(), reason: "storm".into(), invocation: "i".into() }
}

#[tokio::test]
async fn of_twenty_that_race_for_one_principal_one_opens_the_incident() {
    let (_emulator, ledger) = ledger().await;
    let claims = (0..20).map(|_| ledger.claim(Box::leak(Box::new(claim(candidate("orders", Decision::Act))))));
    let results: Vec<Claimed> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
    let opened = results.iter().filter(|c| matches!(c, Claimed::Opened(_))).count();
    assert_eq!(opened, 1);
    assert!(results.iter().all(|c| c.incident().version == 1), "losers get the record of the winner");
}

#[tokio::test]
async fn the_breaker_lets_through_so_many_an_hour_and_the_rest_wait_for_a_person() {
    let (_emulator, ledger) = ledger().await;
    let claims: Vec<Claim> =
        (0..20).map(|n| Claim { per_hour: 2, ..claim(candidate(&format!("role-{n}"), Decision::Act)) }).collect();
    let results = join_all(claims.iter().map(|c| ledger.claim(c))).await;
    let incidents: Vec<Incident> = results.into_iter().map(|r| r.unwrap().incident().clone()).collect();
    let acting = incidents.iter().filter(|i| i.state == IncidentState::Ordered).count();
    assert_eq!(acting, 2);
    let held = incidents.iter().find(|i| i.state == IncidentState::AwaitingApproval).unwrap();
    assert!(held.reason.contains("circuit breaker"), "{}", held.reason);
    let person = Claim { per_hour: 2, ..claim(by_person("by-hand")) };
    assert_eq!(ledger.claim(&person).await.unwrap().incident().state, IncidentState::Ordered);
    let later = now() + SignedDuration::from_hours(1);
    let next_hour = Claim { per_hour: 2, now: later, ..claim(candidate("next-hour", Decision::Act)) };
    assert_eq!(ledger.claim(&next_hour).await.unwrap().incident().state, IncidentState::Ordered);
}

#[tokio::test]
async fn what_a_contained_principal_made_is_not_counted_and_is_taken_out_of_no_count() {
    let (_emulator, ledger) = ledger().await;
    let one = |name: &str| Claim { per_hour: 1, ..claim(candidate(name, Decision::Act)) };
    let thief = ledger.claim(&one("thief")).await.unwrap().incident().incident_id.clone();
    let minted = |name: &str| {
        let mut claim = one(name);
        claim.candidate.born_of = Some(thief.clone());
        claim
    };
    for n in 0..12 {
        let claimed = ledger.claim(&minted(&format!("minted-{n}"))).await.unwrap();
        assert_eq!(claimed.incident().state, IncidentState::Ordered, "minted {n}");
    }
    // One that waits already, because the breaker held it back, is raised all the same.
    let waits = ledger.claim(&one("late")).await.unwrap();
    assert_eq!(waits.incident().state, IncidentState::AwaitingApproval);
    let raised = ledger.claim(&minted("late")).await.unwrap();
    assert_eq!(raised.incident().state, IncidentState::Ordered);
    assert_eq!(raised.incident().born_of.as_ref(), Some(&thief));
    let withheld = |now: Incident| Ok::<_, LedgerError>(Some(Incident { state: IncidentState::Withheld, ..now }));
    ledger.withhold(&raised.incident().incident_id, withheld).await.unwrap();
    let other = ledger.claim(&one("other")).await.unwrap();
    assert_eq!(other.incident().state, IncidentState::AwaitingApproval, "the count is still what it was");
}

#[tokio::test]
async fn what_a_guard_rail_withheld_is_not_counted() {
    let (_emulator, ledger) = ledger().await;
    for n in 0..5 {
        let one = Claim { per_hour: 1, ..claim(candidate(&format!("role-{n}"), Decision::Act)) };
        let claimed = ledger.claim(&one).await.unwrap();
        assert_eq!(claimed.incident().state, IncidentState::Ordered, "claim {n}");
        let withheld = |now: Incident| {
            let next = (now.state == IncidentState::Ordered).then_some(now);
            Ok::<_, LedgerError>(next.map(|now| Incident { state: IncidentState::Withheld, ..now }))
        };
        for _ in 0..2 {
            let now = ledger.withhold(&claimed.incident().incident_id, withheld).await.unwrap().unwrap();
            assert_eq!((now.state, now.version), (IncidentState::Withheld, 2), "claim {n}");
        }
    }
}

#[tokio::test]
async fn a_pause_holds_findings_back_and_refuses_persons() {
    let (_emulator, ledger) = ledger().await;
    assert!(ledger.pause(&pause()).await.unwrap());
    assert!(!ledger.pause(&pause()).await.unwrap(), "a pause that stands stays as it is");
    let claimed = ledger.claim(&claim(candidate("orders", Decision::Act))).await.unwrap();
    assert_eq!(claimed.incident().state, IncidentState::AwaitingApproval);
    assert!(claimed.incident().reason.contains("paused"));
    assert!(matches!(ledger.claim(&claim(by_person("other"))).await, Err(LedgerError::Paused)));
    ledger.resume().await.unwrap();
    assert!(matches!(ledger.claim(&claim(by_person("other"))).await, Ok(Claimed::Opened(_))));
}

#[tokio::test]
async fn a_dear_finding_raises_what_a_cheap_one_opened_even_under_a_race() {
    let (_emulator, ledger) = ledger().await;
    let claims: Vec<Claim> = [Decision::Approve, Decision::Act, Decision::Approve, Decision::Act, Decision::Approve]
        .into_iter()
        .map(|decision| claim(candidate("orders", decision)))
        .collect();
    for result in join_all(claims.iter().map(|c| ledger.claim(c))).await {
        result.unwrap();
    }
    let id = candidate("orders", Decision::Act).incident_id;
    let incident = ledger.incident(&id).await.unwrap().unwrap();
    assert_eq!((incident.state, incident.decision), (IncidentState::Ordered, Decision::Act));
}

#[tokio::test]
async fn an_old_finding_does_not_reopen_what_was_released() {
    let (_emulator, ledger) = ledger().await;
    let id = ledger.claim(&claim(candidate("orders", Decision::Act))).await.unwrap().incident().incident_id.clone();
    ledger.update(&id, release(IncidentState::Released)).await.unwrap();
    let again = |seconds| Claim {
        last_seen: Some(now() + SignedDuration::from_secs(seconds)),
        ..claim(candidate("orders", Decision::Act))
    };
    assert!(matches!(ledger.claim(&again(-60)).await.unwrap(), Claimed::Stale(_)));
    assert!(matches!(ledger.claim(&again(60)).await.unwrap(), Claimed::Opened(i) if i.episode == 2));
}

#[tokio::test]
async fn what_makes_an_incident_wider_does_not_begin_it_anew() {
    let (_emulator, ledger) = ledger().await;
    let with_key = |decision, key: &str| {
        let access_keys = vec![key.parse().unwrap()];
        claim(Incident { access_keys, ..candidate("orders", decision) })
    };
    let mut claimed = Vec::new();
    for (decision, key) in [
        (Decision::Approve, "ASIAEXAMPLEKEY000001"),
        (Decision::Act, "ASIAEXAMPLEKEY000001"),
        (Decision::Act, "ASIAEXAMPLEKEY000002"),
        (Decision::Act, "ASIAEXAMPLEKEY000002"),
    ] {
        claimed.push(ledger.claim(&with_key(decision, key)).await.unwrap());
    }
    let [opened, raised, wider, nothing] = <[Claimed; 4]>::try_from(claimed).unwrap();
    assert!(matches!(opened, Claimed::Opened(_)) && matches!(raised, Claimed::Opened(_)));
    assert!(matches!(wider, Claimed::Widened(incident) if incident.access_keys.len() == 2));
    assert!(matches!(nothing, Claimed::Joined(_)));
}

#[tokio::test]
async fn a_prior_state_is_written_once() {
    let (_emulator, ledger) = ledger().await;
    let incident = candidate("orders", Decision::Act);
    let fresh = incident.step_record(&incident.plan.steps[0], now());
    let mut first = fresh.clone();
    first.prior = Some("\"before\"".into());
    let mut second = fresh.clone();
    second.prior = Some("\"emptied by the first\"".into());
    assert_eq!(ledger.intend(&first).await.unwrap().prior, first.prior);
    assert_eq!(ledger.intend(&second).await.unwrap().prior, first.prior);
    let mut knows_nothing = fresh.clone();
    knows_nothing.state = StepState::Failed;
    for overtaken in [knows_nothing, second] {
        ledger.record(&overtaken).await.unwrap();
        assert_eq!(ledger.step(&fresh).await.unwrap().unwrap(), first, "an overtaken writer changes nothing");
    }
    first.state = StepState::Applied;
    ledger.record(&first).await.unwrap();
    let steps = ledger.steps(&incident, [FunctionName::QuarantinePrincipal]).await.unwrap();
    assert_eq!(steps, [first]);
}

#[tokio::test]
async fn writers_that_meet_lose_nothing() {
    let (_emulator, ledger) = ledger().await;
    let id: IncidentId =
        ledger.claim(&claim(candidate("orders", Decision::Act))).await.unwrap().incident().incident_id.clone();
    let add = |n: usize| {
        let (ledger, id) = (ledger.clone(), id.clone());
        async move {
            let change = |mut incident: Incident| {
                incident.rule = format!("{},{n}", incident.rule);
                Ok::<_, LedgerError>(Some(incident))
            };
            ledger.update(&id, change).await
        }
    };
    let written = join_all((0..4).map(add)).await.into_iter().flatten().count();
    let incident = ledger.incident(&id).await.unwrap().unwrap();
    assert_eq!(incident.rule.split(',').count(), written + 1);
    assert_eq!(incident.version, written as u64 + 1);
}

#[tokio::test]
async fn a_record_that_was_edited_by_hand_is_an_error_that_names_it() {
    let (emulator, ledger) = ledger().await;
    let id = ledger.claim(&claim(candidate("orders", Decision::Act))).await.unwrap().incident().incident_id.clone();
    let aws = Aws::operator(emulator.endpoint(), REGION);
    aws.dynamodb
        .update_item()
        .table_name("ledger")
        .key("pk", aws_sdk_dynamodb::types::AttributeValue::S(format!("incident#{id}")))
        .key("sk", aws_sdk_dynamodb::types::AttributeValue::S("incident".to_owned()))
        .update_expression("SET #state = :state")
        .expression_attribute_names("#state", "state")
        .expression_attribute_values(":state", aws_sdk_dynamodb::types::AttributeValue::S("liberated".to_owned()))
        .send()
        .await
        .unwrap();
    let error = ledger.incident(&id).await.unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().contains(id.as_str()), "{error}");
}

#[tokio::test]
async fn what_comes_during_a_release_waits_for_its_end() {
    let (_emulator, ledger) = ledger().await;
    let id = ledger.claim(&claim(candidate("orders", Decision::Act))).await.unwrap().incident().incident_id.clone();
    ledger.update(&id, release(IncidentState::Releasing)).await.unwrap();
    let later =
        Claim { last_seen: Some(now() + SignedDuration::from_secs(1)), ..claim(candidate("orders", Decision::Act)) };
    for claim in [later, claim(by_person("orders"))] {
        let error = ledger.claim(&claim).await.unwrap_err();
        assert!(matches!(error, LedgerError::Releasing(_)) && error.is_transient());
    }
    let earlier = Claim { last_seen: Some(now()), ..claim(candidate("orders", Decision::Act)) };
    assert!(matches!(ledger.claim(&earlier).await.unwrap(), Claimed::Stale(_)));
}

#[tokio::test]
async fn claims_that_meet_before_any_is_sealed_lose_nothing() {
    let (_emulator, processes) = ledgers(12).await;
    let function = |n: usize| format!("arn:aws:lambda:eu-west-1:111122223333:function:f{n}").parse().unwrap();
    // Every third asks for the same, the others each for a function of their own.
    let asked = |n: usize| {
        let mut incident = candidate("orders", Decision::Act);
        if !n.is_multiple_of(3) {
            incident.functions = vec![function(n)];
            incident.plan =
                Plan::of(&incident.principal.name, &incident.functions, &[Response::Quarantine, Response::Isolate]);
        }
        claim(incident)
    };
    // As the function does it: what it claimed unsealed it seals from what it knows, or claims once more.
    let claimed = processes.iter().enumerate().map(async |(n, ledger)| {
        let claim = asked(n);
        loop {
            let (Claimed::Opened(mut next) | Claimed::TakenOver(mut next)) = ledger.claim(&claim).await.unwrap() else {
                return;
            };
            next.version += 1;
            if ledger.advance(&next).await.unwrap() {
                return;
            }
        }
    });
    join_all(claimed).await;
    let id = candidate("orders", Decision::Act).incident_id;
    let incident = processes[0].incident(&id).await.unwrap().unwrap();
    let mut found: Vec<_> = incident.functions.iter().map(ToString::to_string).collect();
    found.sort();
    let mut wanted: Vec<_> =
        (0..12).filter(|n: &usize| !n.is_multiple_of(3)).map(|n| asked(n).candidate.functions[0].to_string()).collect();
    wanted.sort();
    assert_eq!(found, wanted);
    assert_eq!((incident.state, incident.episode), (IncidentState::Ordered, 1));
}

#[tokio::test]
async fn a_claim_that_has_no_seal_yet_is_not_lowered_by_what_waits_for_a_person() {
    let (_emulator, processes) = ledgers(2).await;
    let [first, other] = <[Ledger; 2]>::try_from(processes).unwrap();
    let Claimed::Opened(mut opened) = first.claim(&claim(candidate("orders", Decision::Act))).await.unwrap() else {
        panic!("the first claim opens the incident");
    };
    // A cheap finding, and a dear one about more that the breaker holds back.
    let cheap = claim(candidate("orders", Decision::Approve));
    let access_keys = vec!["ASIAEXAMPLEKEY000001".parse().unwrap()];
    let dear = Claim { per_hour: 1, ..claim(Incident { access_keys, ..candidate("orders", Decision::Act) }) };
    for later in [&cheap, &dear] {
        let error = other.claim(later).await.unwrap_err();
        assert!(matches!(error, LedgerError::Unsealed(_)) && error.is_transient(), "{error}");
    }
    opened.version += 1;
    assert!(first.advance(&opened).await.unwrap());
    for later in [&cheap, &dear] {
        let joined = other.claim(later).await.unwrap();
        assert_eq!(joined.incident().state, IncidentState::Ordered);
    }
}
