#![expect(clippy::unwrap_used, reason = "tests")]

use firebreak_model::action::ActionId;
use firebreak_model::ladder::Refusal;
use firebreak_model::ledger::{FindingRecord, Pause, Record, StepState};
use serde_json::json;

use super::*;
use crate::evidence::testing::{item, items};
use crate::page::tests;
use crate::testing::{Answer as Wired, Wire, json_error, ok, query_error};

fn notifier(ledger: &Wire, sns: &Wire) -> Notifier {
    let client = aws_sdk_dynamodb::Client::new(&ledger.config());
    Notifier {
        ledger: Ledger::new(client, "ledger".to_owned(), Seal::none()),
        sns: Client::new(&sns.config()),
        topic_arn: "arn:aws:sns:eu-west-1:111122223333:pages".to_owned(),
        setting: tests::setting(),
    }
}

fn event(kind: &str, detail: &Value) -> Value {
    json!({"id": "e1", "source": "firebreak", "detail-type": kind, "detail": detail})
}

fn sent() -> Wired {
    ok("<PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>")
}

/// The page is on record already.
fn taken() -> Wired {
    let page = PageRecord {
        schema: SCHEMA,
        subject: "fb-000000000000000000000000".to_owned(),
        episode: 1,
        occasion: "any".to_owned(),
        sent_at: "2026-11-21T03:00:00Z".parse().unwrap(),
    };
    item(&Record::Page(page))
}

/// The page is not on record: it is claimed, and recorded when it is out.
fn free() -> [Wired; 3] {
    [ok("{}"), ok("{}"), ok("{}")]
}

/// The page was claimed so long ago, on this event.
fn claimed(seconds_ago: i64, on: &str) -> Wired {
    item(&Record::Paging(PageClaim {
        schema: SCHEMA,
        subject: "fb-000000000000000000000000".to_owned(),
        episode: 1,
        occasion: "any".to_owned(),
        on: digest(&[on]),
        since: clock::now() - jiff::SignedDuration::from_secs(seconds_ago),
    }))
}

fn none() -> Wired {
    items(&[])
}

/// What the ledger answers about an incident whose steps are these, all of them written by one owner.
fn about(incident: &Incident, steps: &[StepRecord]) -> Vec<Wired> {
    let mut script = vec![item(&Record::Incident(Box::new(incident.clone())))];
    for owner in incident::owners(incident) {
        let owned = steps.iter().filter(|s| s.owner == owner);
        script.push(items(&owned.map(|s| Record::Step(Box::new(s.clone()))).collect::<Vec<_>>()));
    }
    script.push(none());
    script
}

fn on_step(incident: &Incident) -> Value {
    event("Step Recorded", &json!({"incident_id": incident.incident_id, "state": "applied", "step": "forged"}))
}

#[tokio::test]
async fn an_applied_step_pages_only_when_all_have_ended() {
    let incident = tests::incident();
    let steps: Vec<_> = (0..7).map(|at| tests::record(&incident, at, StepState::Applied, "done", Some("{}"))).collect();
    let mut script = about(&incident, &steps[..5]);
    script.push(taken());
    let (ledger, sns) = (Wire::answering(script), Wire::default());
    let answer = notifier(&ledger, &sns).handle(&on_step(&incident)).await.unwrap();
    assert_eq!((answer.outcome.as_str(), sns.requests().len(), ledger.unused()), ("nothing to page", 0, 0));

    let mut script = about(&incident, &steps[..6]);
    script.push(taken());
    script.extend(free());
    let (ledger, sns) = (Wire::answering(script), Wire::answering([sent()]));
    notifier(&ledger, &sns).handle(&on_step(&incident)).await.unwrap();
    assert_eq!(sns.requests().len(), 1);
    assert!(sns.requests()[0].contains("Subject=%5BFirebreak%5D%20contained"), "{}", sns.requests()[0]);
    assert!(ledger.requests().last().unwrap().contains("000001#complete-contained-"));
}

#[tokio::test]
async fn kept_evidence_pages_once_and_not_where_another_page_told_of_it() {
    let incident = tests::incident();
    let steps: Vec<_> = (0..7).map(|at| tests::record(&incident, at, StepState::Applied, "done", Some("{}"))).collect();
    // How it ended was paged while the evidence was being collected.
    let mut script = about(&incident, &steps);
    script.extend([taken(), taken()]);
    script.extend(free());
    let (ledger, sns) = (Wire::answering(script), Wire::answering([sent()]));
    notifier(&ledger, &sns).handle(&on_step(&incident)).await.unwrap();
    assert_eq!((sns.requests().len(), ledger.unused()), (1, 0));
    assert!(sns.requests()[0].contains("Subject=%5BFirebreak%5D%20evidence%20kept"), "{}", sns.requests()[0]);
    assert!(ledger.requests().last().unwrap().contains("000001#evidence"));
    // It is kept by then: one page tells of both, and is on record for both.
    let mut script = about(&incident, &steps);
    script.push(taken());
    script.extend(free());
    script.extend([ok("{}"), ok("{}"), ok("{}"), taken()]);
    let (ledger, sns) = (Wire::answering(script), Wire::answering([sent()]));
    notifier(&ledger, &sns).handle(&on_step(&incident)).await.unwrap();
    assert_eq!((sns.requests().len(), ledger.unused()), (1, 0));
    assert!(sns.requests()[0].contains("Subject=%5BFirebreak%5D%20contained"), "{}", sns.requests()[0]);
    let asked = ledger.requests();
    assert!(asked.iter().filter(|request| request.contains("000001#evidence")).count() == 4, "{asked:?}");
}

#[tokio::test]
async fn a_failed_step_pages_at_once_and_each_page_is_sent_once() {
    let incident = tests::incident();
    let steps = [tests::record(&incident, 0, StepState::Failed, "denied", None)];
    let mut script = about(&incident, &steps);
    script.extend(free());
    script.extend(free());
    let (ledger, sns) = (Wire::answering(script), Wire::answering([sent(), sent()]));
    notifier(&ledger, &sns).handle(&on_step(&incident)).await.unwrap();
    assert_eq!(sns.requests().len(), 2);
    assert!(sns.requests()[1].contains("Subject=%5BFirebreak%5D%20step%20failed"), "{}", sns.requests()[1]);
    assert!(ledger.requests().last().unwrap().contains("step-failed-quarantine-role@role/orders-role"));

    let mut script = about(&incident, &steps);
    script.extend([taken(), taken()]);
    let (ledger, sns) = (Wire::answering(script), Wire::default());
    notifier(&ledger, &sns).handle(&on_step(&incident)).await.unwrap();
    assert!(sns.requests().is_empty());
}

#[tokio::test]
async fn every_rung_refused_pages_at_once_and_a_rung_that_gave_way_pages_nothing() {
    let incident = tests::incident();
    for (below, subject) in [
        (StepState::Intended, None),
        (StepState::Applied, None),
        (StepState::Failed, Some("CANNOT%20CONTAIN%2C%20act%20now%3A%20role%2Forders-role")),
    ] {
        let steps = tests::rungs(&incident, Refusal::Quota, below);
        let mut script = about(&incident, &steps);
        script.push(taken());
        script.extend(free());
        let (ledger, sns) = (Wire::answering(script), Wire::answering([sent()]));
        notifier(&ledger, &sns).handle(&on_step(&incident)).await.unwrap();
        let requests = sns.requests();
        assert_eq!(requests.len(), usize::from(subject.is_some()), "{below}: {requests:?}");
        assert!(subject.is_none_or(|subject| requests[0].contains(subject)), "{requests:?}");
        let last = ledger.requests().last().unwrap().clone();
        let named = last.contains("000001#every-rung-refused-quarantine-role@role/orders-role");
        assert_eq!(named, subject.is_some(), "{last}");
    }
}

#[tokio::test]
async fn a_page_that_could_not_be_sent_is_not_on_record_so_that_the_next_try_sends_it() {
    for (answer, transient) in [
        (query_error(403, "AuthorizationError"), false),
        (query_error(429, "Throttled"), true),
        (Wired::Http(500, String::new()), true),
        (Wired::Lost, true),
    ] {
        let incident = Incident { state: IncidentState::AwaitingApproval, ..tests::incident() };
        let mut script = about(&incident, &[]);
        script.extend([ok("{}"), ok("{}")]);
        let (ledger, sns) = (Wire::answering(script), Wire::answering([answer.clone()]));
        let event = event("Approval Requested", &json!({"incident_id": incident.incident_id}));
        let failure = notifier(&ledger, &sns).handle(&event).await.unwrap_err();
        assert_eq!(matches!(failure, Failure::Transient(_)), transient, "{answer:?}: {failure}");
        let last = ledger.requests().last().unwrap().clone();
        assert!(last.contains(r#""kind":{"S":"paging"}"#) && last.contains("approval-"), "{last}");
    }
}

#[tokio::test]
async fn of_several_events_that_have_the_same_page_due_one_sends_it() {
    let incident = Incident { state: IncidentState::AwaitingApproval, ..tests::incident() };
    let event = event("Approval Requested", &json!({"incident_id": incident.incident_id}));
    let refused = || json_error(400, "ConditionalCheckFailedException");
    for (what, script, sends) in [
        ("another event sends it", vec![claimed(5, "another")], false),
        ("this event failed to", vec![claimed(5, r#""e1""#), ok("{}"), ok("{}")], true),
        ("another event failed for good", vec![claimed(61, "another"), ok("{}"), ok("{}")], true),
        ("another was faster", vec![ok("{}"), refused()], false),
        ("another took over faster", vec![claimed(61, "another"), refused()], false),
        ("it is out", vec![taken()], false),
    ] {
        let ledger = Wire::answering(about(&incident, &[]).into_iter().chain(script));
        let sns = if sends { Wire::answering([sent()]) } else { Wire::default() };
        let answer = notifier(&ledger, &sns).handle(&event).await.unwrap();
        assert_eq!(answer.outcome == "paged", sends, "{what}");
        assert_eq!((sns.requests().len(), ledger.unused()), (usize::from(sends), 0), "{what}");
    }
}

#[tokio::test]
async fn what_an_event_claims_does_not_decide_what_is_paged() {
    let incident = tests::incident();
    let mut script = about(&incident, &[]);
    script.extend(free());
    let (ledger, sns) = (Wire::answering(script), Wire::answering([sent()]));
    let forged = event("Containment Released", &json!({"incident_id": incident.incident_id, "state": "released"}));
    notifier(&ledger, &sns).handle(&forged).await.unwrap();
    assert!(sns.requests()[0].contains("Subject=%5BFirebreak%5D%20containing"), "{}", sns.requests()[0]);
    let (ledger, sns) = (Wire::answering([ok("{}")]), Wire::default());
    let unknown = event("Containment Ordered", &json!({"incident_id": incident.incident_id}));
    assert_eq!(notifier(&ledger, &sns).handle(&unknown).await.unwrap().outcome, "nothing to page");
}

#[tokio::test]
async fn what_is_no_outcome_event_is_malformed() {
    for event in [
        json!({}),
        event("GuardDuty Finding", &json!({})),
        event("Containment Ordered", &json!({"incident_id": "fb-x"})),
        event("Finding Noted", &json!({"subject": "fb-x"})),
        event("Finding Noted", &json!({"subject": "unattributed-../control"})),
        event("Finding Noted", &json!({})),
    ] {
        let result = notifier(&Wire::default(), &Wire::default()).handle(&event).await;
        assert!(matches!(result, Err(Failure::Malformed(_))), "{event}");
    }
}

#[tokio::test]
async fn an_update_of_a_noted_finding_pages_again_only_if_something_else_is_said() {
    let first = tests::finding("Recon:IAMUser/X");
    let update = FindingRecord { finding_key: FindingKey::of("f1", "later"), ..first.clone() };
    let dearer = FindingRecord { reason: "rule `x` says notify at severity 8".into(), ..update.clone() };
    assert_eq!(first.subject(), update.subject());
    let mut occasions = Vec::new();
    for finding in [first, update, dearer] {
        let subject = finding.subject();
        let found = items(&[Record::Finding(Box::new(finding))]);
        let ledger = Wire::answering([found].into_iter().chain(free()));
        let event = event("Finding Noted", &json!({"subject": subject}));
        notifier(&ledger, &Wire::answering([sent()])).handle(&event).await.unwrap();
        let put = ledger.requests().remove(2);
        occasions.push(put.split("finding-").nth(1).unwrap().chars().take(32).collect::<String>());
    }
    assert_eq!(occasions[0], occasions[1]);
    assert_ne!(occasions[1], occasions[2]);
}

#[tokio::test]
async fn a_noted_finding_is_paged_and_no_other() {
    let noted = tests::finding("Recon:IAMUser/X");
    let acted = FindingRecord {
        effective: Decision::Act,
        finding_key: FindingKey::of("f2", "u"),
        ..tests::finding("Impact:IAMUser/X")
    };
    let subject = noted.subject();
    let found = || items(&[&noted, &acted].map(|f| Record::Finding(Box::new(f.clone()))));
    for detail in [json!({"subject": subject}), json!({"subject": subject, "finding_key": noted.finding_key})] {
        let (ledger, sns) = (Wire::answering([found()].into_iter().chain(free())), Wire::answering([sent()]));
        notifier(&ledger, &sns).handle(&event("Finding Noted", &detail)).await.unwrap();
        assert_eq!((sns.requests().len(), ledger.unused()), (1, 0));
        assert!(sns.requests()[0].contains("noted%3A%20Recon"), "{}", sns.requests()[0]);
    }
    let (ledger, sns) = (Wire::answering([found()]), Wire::default());
    let other = event("Finding Noted", &json!({"subject": subject, "finding_key": acted.finding_key}));
    assert_eq!(notifier(&ledger, &sns).handle(&other).await.unwrap().outcome, "nothing to page");
}

#[tokio::test]
async fn the_pause_is_paged_as_the_ledger_has_it() {
    let pause = Record::Pause(Pause {
        schema: SCHEMA,
        since: "2026-11-21T03:00:00Z".parse().unwrap(),
        by: "ana".into(),
        reason: "a storm".into(),
        invocation: "i".into(),
    });
    for (kind, now, subject) in [
        ("Containment Paused", item(&pause), Some("containment%20is%20paused")),
        ("Containment Resumed", ok("{}"), Some("containment%20is%20resumed")),
        ("Containment Paused", ok("{}"), None),
        ("Containment Resumed", item(&pause), None),
    ] {
        let (ledger, sns) = (Wire::answering([now].into_iter().chain(free())), Wire::answering([sent()]));
        notifier(&ledger, &sns).handle(&event(kind, &json!({}))).await.unwrap();
        let requests = sns.requests();
        assert_eq!(requests.len(), usize::from(subject.is_some()), "{kind}");
        assert!(subject.is_none_or(|s| requests[0].contains(s)), "{requests:?}");
    }
}

#[tokio::test]
async fn a_release_that_nobody_brings_to_its_end_pages_with_both_commands() {
    use firebreak_model::ledger::ReleaseOrder;
    use firebreak_model::watch::{Found, Pace, StepLook, Watch};
    let asked_at: jiff::Timestamp = "2026-11-21T05:00:00Z".parse().unwrap();
    let release = ReleaseOrder { from: Some(IncidentState::Ordered), ..crate::testing::release_order(asked_at) };
    let incident =
        Incident { state: IncidentState::Releasing, release: Some(release), updated_at: asked_at, ..tests::incident() };
    let pace = Pace { rechecks: vec![5], trail_lag: 0 };
    let found = Found::NotApplied("reverted: detached".to_owned());
    let left = [StepLook { step: "quarantine-role@role/orders-role".to_owned(), found }];
    let watch = Watch::of(&incident, &pace, asked_at).stranded(&incident, &left, asked_at);
    let unsettled = event("Containment Unsettled", &json!({"incident_id": incident.incident_id}));
    let about = |incident: &Incident| {
        [Record::Incident(Box::new(incident.clone())), Record::Watch(Box::new(watch.clone()))].map(|one| item(&one))
    };
    let ledger = Wire::answering(about(&incident).into_iter().chain(free()));
    let sns = Wire::answering([sent()]);
    notifier(&ledger, &sns).handle(&unsettled).await.unwrap();
    let body = percent_encoding::percent_decode_str(&sns.requests()[0]).decode_utf8_lossy().into_owned();
    for says in [
        "release unfinished: role/orders-role",
        "`quarantine-role@role/orders-role` reverted: detached",
        "it goes on where it stopped",
        r#""firebreak": "release", "incident_id""#,
        r#""firebreak": "contain", "role": "orders-role""#,
        "Asked by     ana",
    ] {
        assert!(body.contains(says), "{says}: {body}");
    }
    assert!(ledger.requests().last().unwrap().contains("000001#stranded-"), "{:?}", ledger.requests());

    // It goes on, or is over.
    let goes_on = Incident { updated_at: asked_at + jiff::SignedDuration::from_mins(20), ..incident.clone() };
    let over = Incident { state: IncidentState::Released, ..incident.clone() };
    for later in [goes_on, over] {
        let (ledger, sns) = (Wire::answering(about(&later)), Wire::default());
        notifier(&ledger, &sns).handle(&unsettled).await.unwrap();
        assert_eq!((sns.requests().len(), ledger.unused()), (0, 0));
    }
}

#[tokio::test]
async fn a_page_says_what_a_settled_containment_rests_on() {
    use firebreak_model::plan::Step;
    use firebreak_model::watch::{Pace, Watch};
    let isolated = tests::incident();
    let denied = isolated.plan.steps.iter().find(|step| step.action == ActionId::QuarantineRole).unwrap().clone();
    let revoked = Step { action: ActionId::RevokeSessions, ..denied.clone() };
    let alone = isolated.plan.steps.iter().find(|step| step.action == ActionId::ZeroConcurrency).unwrap().clone();
    for (steps, says, others) in [
        (vec![denied.clone(), revoked.clone()], "", ["those of sessions from before", "on the re-checks alone"]),
        (vec![revoked, alone.clone()], "those of sessions from before", ["on the re-checks alone", "\0"]),
        (vec![alone], "on the re-checks alone", ["those of sessions from before", "\0"]),
    ] {
        let mut incident = isolated.clone();
        incident.plan.steps = steps;
        let at = incident.opened_at;
        let watch = Watch::of(&incident, &Pace { rechecks: vec![5], trail_lag: 0 }, at);
        let regions = vec!["eu-west-1".parse().unwrap(), "us-east-1".parse().unwrap()];
        let asked = Watch { cloudtrail_complete_until: Some(at), cloudtrail_regions: regions, ..watch.clone() };
        let watch = Watch { standing: Standing::Settled, ..watch };
        let asked = watched::of_watch(&incident, &Watch { standing: Standing::Settled, ..asked }, &tests::setting());
        let where_it_was = "asked in eu-west-1, us-east-1: of calls in other Regions this says nothing";
        assert!(asked.unwrap().body.contains(where_it_was));
        let page = watched::of_watch(&incident, &watch, &tests::setting()).unwrap();
        assert!(page.body.contains(says) && !page.body.contains("other Regions"), "{}", page.body);
        assert!(others.iter().all(|other| !page.body.contains(other)), "{}", page.body);
    }
}
