//! The incident report: made at the end of each run, and again when the incident changes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use firebreak_model::evidence::Entry;
use firebreak_model::ids::sha256_hex;
use firebreak_model::ledger::{FindingRecord, Record};
use firebreak_model::report::{Report, Verdict, html, markdown};
use serde_json::json;

use super::tests::{AMPLE, House, incident};
use super::*;
use crate::testing::release_order;

const KEY: &str = "ASIAEXAMPLE000000001";

fn robbed() -> Incident {
    Incident { access_keys: vec![KEY.parse().unwrap()], ..incident() }
}

fn finding() -> FindingRecord {
    serde_json::from_value(json!({"schema": 1, "finding_key": "0".repeat(32), "finding_id": "f",
        "incident_id": incident().incident_id, "finding_type": "Stolen:IAMUser/<script>alert(1)</script>",
        "severity": 8.0, "source": "guardduty", "decision": "act", "effective": "act", "mode": "enforce", "rule": "r",
        "reason": "r", "playbook_digest": "d", "subjects": [], "received_at": clock::now(), "event": "{}",
        "event_truncated": false, "event_sha256": "0".repeat(64)}))
    .unwrap()
}

/// A call by the stolen key.
fn call(id: &str, name: &str, user: &str, error: Option<&str>) -> Value {
    json!({"eventSource": "iam.amazonaws.com", "eventName": name, "eventID": id, "eventTime": clock::now(),
        "errorCode": error, "sourceIPAddress": "198.51.100.7", "userAgent": "<img src=x onerror=alert(1)>",
        "userIdentity": {"type": "AssumedRole", "principalId": "AROAEXAMPLE000000001:s1", "accessKeyId": KEY},
        "requestParameters": {"userName": user}})
}

fn house() -> House {
    let house = House::with(&robbed());
    house.account.put(&Record::Finding(Box::new(finding())));
    house.account.trail(
        "eu-west-1",
        vec![
            call("e1", "CreateUser", "backdoor", None),
            call("e2", "CreateAccessKey", "\"><script>alert(2)</script>", None),
            call("e3", "ListRoles", "x", Some("AccessDenied")),
        ],
    );
    house
}

fn forms(house: &House, run: u32) -> Vec<Entry> {
    house.manifest(run).0.entries.into_iter().filter(|entry| entry.collector == "report").collect()
}

fn report(house: &House, run: u32) -> Report {
    let entry = forms(house, run).into_iter().find(|entry| entry.key.ends_with("/report/report.json")).unwrap();
    serde_json::from_slice(&house.bucket.object(&entry.key).unwrap()).unwrap()
}

#[tokio::test]
async fn the_report_tells_what_was_collected_before_it_and_is_evidence_itself() {
    let house = house();
    house.take().await.unwrap();
    let told = report(&house, 1);
    let (manifest, _) = house.manifest(1);
    assert!(told.timeline.iter().any(|moment| moment.what.contains("Stolen:IAMUser")), "{:?}", told.timeline);
    let left: Vec<&str> = told.left_behind.iter().map(|left| left.call.as_str()).collect();
    assert_eq!(left, ["iam:CreateUser", "iam:CreateAccessKey"]);
    assert!(told.touched.iter().any(|touched| touched.thing.id == "backdoor"));
    let [this] = told.evidence.as_slice() else { panic!("{:?}", told.evidence) };
    let listed: Vec<_> = this.objects.iter().map(|object| (&object.key, &object.sha256)).collect();
    let others = manifest.entries.iter().filter(|entry| entry.collector != "report");
    assert_eq!(listed, others.map(|entry| (&entry.key, &entry.sha256)).collect::<Vec<_>>());
    assert_eq!((this.sha256.as_ref(), this.gaps.len()), (None, manifest.gaps.len()));
    // Its forms say the same, are as the manifest says, and hold no markup of anyone else.
    let forms = forms(&house, 1);
    let [page, json, md] = [0, 1, 2].map(|n| house.bucket.object(&forms[n].key).unwrap());
    for (form, body) in forms.iter().zip([&page, &json, &md]) {
        assert_eq!((form.bytes, &form.sha256), (body.len() as u64, &sha256_hex(body)), "{}", form.key);
    }
    assert_eq!(page, html(&told).into_bytes());
    assert_eq!(md, markdown(&told).into_bytes());
    let page = String::from_utf8(page).unwrap();
    assert!(!page.contains("<script") && !page.contains("<img") && page.contains("&lt;script&gt;alert(2)"));
    let sent = house.bucket.requests();
    let sent = sent.iter().find(|sent| sent.line.starts_with("PUT") && sent.line.contains("report.html")).unwrap();
    assert_eq!(sent.headers["content-type"], "text/html; charset=utf-8");
    let step = house.account.records("step").remove(0);
    assert!(step["detail"]["S"].as_str().unwrap().contains(&forms[0].key), "{step}");
}

#[tokio::test]
async fn a_report_that_an_earlier_try_left_stands_whatever_the_ledger_says_since() {
    let first = house();
    first.take().await.unwrap();
    let key = forms(&first, 1).into_iter().find(|entry| entry.key.ends_with("/report.json")).unwrap().key;
    let left = first.bucket.object(&key).unwrap();
    let second = house();
    second.bucket.replace(&key, &left);
    assert_eq!(second.take().await.unwrap().outcome, "collected");
    assert_eq!(second.bucket.object(&key).unwrap(), left);
    let forms = forms(&second, 1);
    assert_eq!(forms[1].sha256, sha256_hex(&left));
    let told: Report = serde_json::from_slice(&left).unwrap();
    assert_eq!(second.bucket.object(&forms[0].key).unwrap(), html(&told).into_bytes());
    assert_eq!(second.manifest(1).0.set_aside, []);
}

/// Whoever may delete hides an object of the first collection: what comes later says so, and is sealed all the same.
#[tokio::test]
async fn earlier_evidence_that_is_gone_is_told_and_stops_no_later_collection() {
    let mut house = house();
    house.follow_up = Duration::ZERO;
    house.take().await.unwrap();
    house.account.take_messages();
    let calls = house.manifest(1).0.entries.into_iter().find(|entry| entry.collector == "calls").unwrap().key;
    house.bucket.replace(&calls, b"planted");
    house.account.put(&Record::Incident(Box::new(released())));
    house.invoke(&event("Containment Released"), AMPLE).await.unwrap();
    let (message, _) = house.account.take_messages().remove(0);
    assert_eq!(house.invoke(&message, AMPLE).await.unwrap().outcome, "collected");
    let gaps = house.manifest(2).0.gaps;
    assert!(gaps.iter().any(|gap| gap.source.parameters["key"] == json!(calls)), "{gaps:?}");
    let told = report(&house, 2);
    assert_eq!(told.left_behind, []);
    let this = told.evidence.last().unwrap();
    assert!(this.gaps.iter().any(|gap| gap.contains("not as it was stored")), "{:?}", this.gaps);
    assert!(told.open.iter().any(|open| open.contains("could not be collected")), "{:?}", told.open);
}

fn event(kind: &str) -> Value {
    json!({"detail-type": kind, "source": "firebreak", "detail": {"incident_id": incident().incident_id}})
}

fn released() -> Incident {
    let release = release_order(clock::now());
    Incident { state: IncidentState::Released, release: Some(release), ..robbed() }
}

#[tokio::test]
async fn the_report_is_made_again_when_the_incident_changes_and_not_when_it_does_not() {
    let mut house = house();
    house.follow_up = Duration::ZERO;
    house.take().await.unwrap();
    house.account.take_messages();
    house.account.put(&Record::Incident(Box::new(released())));
    assert_eq!(house.invoke(&event("Containment Released"), AMPLE).await.unwrap().outcome, "the report is made again");
    let (message, _) = house.account.take_messages().remove(0);
    assert_eq!(message["detail"]["report"], 0);
    let asked = (house.account.log_calls().len(), house.account.trail_calls().len());
    assert_eq!(house.invoke(&message, AMPLE).await.unwrap().outcome, "collected");
    let ((first, digest), (second, _)) = (house.manifest(1), house.manifest(2));
    assert_eq!((second.purpose, second.previous.unwrap().sha256), (Purpose::Report, digest));
    assert_eq!(second.log_window, first.log_window, "it reads nothing: what comes next goes on behind what was read");
    assert_eq!((house.account.log_calls().len(), house.account.trail_calls().len()), asked);
    let collectors: Vec<&str> = second.entries.iter().map(|entry| entry.collector.as_str()).collect();
    assert_eq!(collectors, ["ledger", "report", "report", "report"]);
    let told = report(&house, 2);
    assert_eq!((told.verdict, told.evidence.len(), told.left_behind.len()), (Verdict::Released, 2, 2));
    assert_eq!(told.evidence[0].sha256.as_ref(), Some(&house.manifest(1).1));
    assert!(house.account.records("step")[0]["detail"]["S"].as_str().unwrap().starts_with("report made again: "));
    // The same again changes nothing; the log is read again all the same.
    let keys = house.bucket.keys();
    assert_eq!(house.invoke(&message, AMPLE).await.unwrap().outcome, "nothing to do");
    assert_eq!(house.bucket.keys(), keys);
    let follow = json!({"detail": {"incident_id": incident().incident_id, "follow_up": true}});
    assert_eq!(house.invoke(&follow, AMPLE).await.unwrap().outcome, "collected");
    assert_eq!(house.manifest(3).0.purpose, Purpose::FollowUp);
    assert_eq!(house.invoke(&follow, AMPLE).await.unwrap().outcome, "collected before");
}

/// An order that comes again collects nothing, and may be for something that the report does not tell yet.
#[tokio::test]
async fn what_is_ordered_anew_is_told_anew() {
    let mut house = house();
    house.follow_up = Duration::ZERO;
    house.take().await.unwrap();
    house.account.take_messages();
    let order = event("Containment Ordered");
    assert_eq!(house.invoke(&order, AMPLE).await.unwrap().outcome, "collected before");
    let (message, _) = house.account.take_messages().remove(0);
    assert_eq!(house.invoke(&message, AMPLE).await.unwrap().outcome, "nothing to do", "the report says it already");
    let approval = firebreak_model::ledger::Approval {
        at: clock::now(),
        by: "ana".to_owned(),
        reason: "it is stolen".to_owned(),
        invocation: "i".to_owned(),
    };
    house.account.put(&Record::Incident(Box::new(Incident { approval: Some(approval), ..robbed() })));
    assert_eq!(house.invoke(&order, AMPLE).await.unwrap().outcome, "collected before");
    let messages = house.account.take_messages();
    assert_eq!(messages.iter().map(|(message, _)| message["detail"]["report"].clone()).collect::<Vec<_>>(), [0]);
    assert_eq!(house.invoke(&messages[0].0, AMPLE).await.unwrap().outcome, "collected");
    let told = |run| report(&house, run).timeline.iter().any(|moment| moment.what == "ana approves");
    assert_eq!((told(1), told(2)), (false, true));
    // What the queue brings again is no new order.
    let again = json!({"Records": [{"eventSource": "aws:sqs", "messageId": "m", "receiptHandle": "r",
        "body": json!({"detail": {"incident_id": incident().incident_id}}).to_string()}]});
    house.batch(&again).await.unwrap();
    assert!(house.account.take_messages().is_empty());
}

#[tokio::test]
async fn what_happens_at_once_is_told_at_once_and_a_collection_is_not_disturbed() {
    let house = house();
    house.take().await.unwrap();
    house.account.take_messages();
    let order = json!({"detail": {"incident_id": incident().incident_id, "report": 0}});
    house.account.put(&Record::Incident(Box::new(released())));
    assert_eq!(house.invoke(&order, AMPLE).await.unwrap().outcome, "collected");
    // One report a minute.
    house.account.put(&Record::Incident(Box::new(robbed())));
    assert_eq!(house.invoke(&order, AMPLE).await.unwrap().outcome, "nothing to do");
    assert_eq!(
        house.account.take_messages(),
        [(
            json!({"detail": {"incident_id": incident().incident_id, "follow_up": false, "report": 1,
            "lane": {"lane": 0, "of": 1}}}),
            60
        )]
    );
    let last = json!({"detail": {"incident_id": incident().incident_id, "report": MOST_PUT_OFF}});
    assert_eq!(house.invoke(&last, AMPLE).await.unwrap().outcome, "nothing to do");
    assert_eq!(house.account.take_messages(), [], "not for ever");
    // Of what no evidence was collected there is no report.
    let without = House::with(&robbed());
    assert_eq!(without.invoke(&order, AMPLE).await.unwrap().outcome, "nothing to do");
    assert!(without.bucket.keys().is_empty());
}

/// The order to read the log again meets a report that is under way.
#[tokio::test]
async fn a_follow_up_is_not_lost_to_a_report_that_is_under_way() {
    let house = house();
    house.take().await.unwrap();
    let (follow, _) = house.account.take_messages().remove(0);
    house.account.put(&Record::Incident(Box::new(released())));
    house.bucket.answer_puts_with(Some(503));
    let order = json!({"detail": {"incident_id": incident().incident_id, "report": 0}});
    house.invoke(&order, AMPLE).await.unwrap_err();
    house.bucket.answer_puts_with(None);
    assert_eq!(house.invoke(&follow, AMPLE).await.unwrap().outcome, "collected");
    assert_eq!(house.manifest(2).0.purpose, Purpose::Report);
    let (again, _) = house.account.take_messages().remove(0);
    assert_eq!(again["detail"]["follow_up"], true);
    assert_eq!(house.invoke(&again, AMPLE).await.unwrap().outcome, "collected");
    assert_eq!(house.manifest(3).0.purpose, Purpose::FollowUp);
}

#[test]
fn what_the_rule_lets_through_is_what_a_report_is_made_for() {
    use firebreak_model::outcome::OutcomeKind;
    for kind in OutcomeKind::ALL {
        let order = Order::read(&event(kind.as_str())).unwrap();
        let told = super::super::queue::RETOLD.contains(kind);
        assert_eq!(order.report, told.then_some(0), "{kind}");
    }
}
