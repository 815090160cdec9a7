#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_smithy_async::rt::sleep::TokioSleep;
use firebreak_model::action::Response;
use firebreak_model::evidence::{Codec, Lack, Manifest};
use firebreak_model::ids::{FunctionArn, sha256_hex};
use firebreak_model::ledger::Record;
use firebreak_model::plan::Plan;
use serde_json::json;

use super::account::Account;
use super::begin::OVERLAP;
use super::*;

mod function;
mod insights;
mod keeping;
mod lacking;
mod large;
mod logging;
mod orders;
mod rate;
mod retention;
use crate::evidence::testing::{Bucket, documents, unpacked};
use crate::ledger::Seal;
use crate::testing::{Answer as Wired, json_error, role_order};

pub(super) fn incident() -> Incident {
    let (mut incident, _) = role_order("orders");
    incident.response.push(Response::Snapshot);
    incident.functions = vec![function("orders")];
    incident.plan = Plan::of(&incident.principal.name, &[], &incident.response);
    // Lately: the window is one slice.
    incident.opened_at = clock::now();
    incident
}

pub(super) fn function(name: &str) -> FunctionArn {
    format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}").parse().unwrap()
}

/// An account with an incident in its ledger, and an evidence bucket.
pub(super) struct House {
    pub(super) account: Account,
    pub(super) bucket: Bucket,
    pub(super) limits: Limits,
    pub(super) pace: Option<Pace>,
    pub(super) policies: Option<Pace>,
    pub(super) events: Option<Pace>,
    /// Whether clients make calls again by themselves.
    pub(super) tries_again: bool,
    pub(super) follow_up: std::time::Duration,
    /// Whether records are held to their seals.
    pub(super) seals: bool,
}

impl House {
    pub(super) fn with(incident: &Incident) -> Self {
        let account = Account::default();
        account.put(&Record::Incident(Box::new(incident.clone())));
        account.logs(&[&["a", "b"], &[], &["c"]]);
        Self {
            account,
            bucket: Bucket::default(),
            limits: Limits {
                pace: Duration::ZERO,
                policies: Duration::ZERO,
                events: Duration::ZERO,
                queries: Duration::ZERO,
                poll: Duration::ZERO,
                ..Limits::default()
            },
            pace: None,
            policies: None,
            events: None,
            tries_again: false,
            follow_up: std::time::Duration::from_mins(10),
            seals: false,
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        let config = self.account.config();
        let key = || "arn:aws:kms:eu-west-1:111122223333:key/m".to_owned();
        let seal = if self.seals { Seal::new(&config, key()) } else { Seal::none() };
        Ledger::new(aws_sdk_dynamodb::Client::new(&config), "ledger".to_owned(), seal)
    }

    fn snapshots(&self) -> Snapshots {
        let mut config = self.account.config();
        if self.tries_again {
            let again = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)).with_max_attempts(5);
            config = config.into_builder().retry_config(again).sleep_impl(TokioSleep::new()).build();
        }
        let settings = Settings {
            bucket: "evidence".to_owned(),
            key_arn: String::new(),
            access: crate::evidence::store::Access::ReadBack,
            signing_key_arn: "arn:aws:kms:eu-west-1:111122223333:key/s".to_owned(),
            queue_url: "https://sqs/q".to_owned(),
            codec: Codec::Zstd,
            follow_up: self.follow_up,
            regions: ["eu-west-1", "us-east-1"].map(|name| name.parse().unwrap()).to_vec(),
            stack: "firebreak".to_owned(),
            revokes: true,
        };
        let mut snapshots = Snapshots::new(config, settings, self.ledger(), self.limits);
        snapshots.store = self.bucket.store();
        snapshots.pace = self.pace.clone().unwrap_or(snapshots.pace);
        snapshots.policies = self.policies.clone().unwrap_or(snapshots.policies);
        snapshots.events = self.events.clone().unwrap_or(snapshots.events);
        snapshots
    }

    pub(super) async fn invoke(&self, event: &Value, deadline: &str) -> Result<Answer, Failure> {
        let deadline = deadline.parse::<Timestamp>().unwrap();
        match self.snapshots().handle(event, deadline.into()).await? {
            Handled::Order(answer) => Ok(answer),
            Handled::Queue(_) => panic!("it was no batch"),
        }
    }

    /// Handles messages of the queue.
    pub(super) async fn batch(&self, event: &Value) -> Result<Handled, Failure> {
        self.snapshots().handle(event, AMPLE.parse::<Timestamp>().unwrap().into()).await
    }

    pub(super) async fn take(&self) -> Result<Answer, Failure> {
        self.invoke(&json!({"detail": {"incident_id": incident().incident_id, "bucket": "elsewhere"}}), AMPLE).await
    }

    /// The manifest of that number, and its digest.
    pub(super) fn manifest(&self, run: u32) -> (Manifest, String) {
        let keys = self.bucket.keys();
        let key = keys.iter().find(|key| key.ends_with(&format!("/{run:06}/manifest.json")));
        let body = self.bucket.object(key.unwrap_or_else(|| panic!("{keys:?}"))).unwrap();
        (serde_json::from_slice(&body).unwrap(), sha256_hex(&body))
    }

    fn step(&self) -> Value {
        self.account.records("step").remove(0)
    }

    fn lines(&self, run: u32) -> Vec<String> {
        let (manifest, _) = self.manifest(run);
        let logs = manifest.entries.iter().filter(|entry| entry.collector == "logs");
        let objects: Vec<Vec<u8>> = logs.map(|entry| self.bucket.object(&entry.key).unwrap()).collect();
        let message = |line: Value| line["message"].as_str().unwrap().to_owned();
        objects.iter().flat_map(|object| documents(object)).map(message).collect()
    }

    /// Collects in invocations that have no time, each handed on to by the queue. Answers how many it took.
    pub(super) async fn take_a_little_at_a_time(&self) -> usize {
        let mut messages = vec![(json!({"detail": {"incident_id": incident().incident_id}}), 0)];
        let mut invocations = 0;
        while let Some((message, _)) = messages.pop() {
            if message["detail"]["follow_up"] == true {
                continue;
            }
            invocations += 1;
            assert!(invocations < 1_000, "it goes on for ever");
            self.invoke(&message, OVER).await.unwrap();
            messages.extend(self.account.take_messages());
        }
        invocations
    }
}

pub(super) const AMPLE: &str = "9000-01-01T00:00:00Z";
pub(super) const OVER: &str = "1970-01-01T00:00:00Z";

#[test]
fn logs_are_asked_for_from_a_time_that_there_is() {
    let opened: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
    let begins = |seen: Option<&str>| {
        let first_seen = seen.map(|seen| seen.parse().unwrap());
        window_begins(&Incident { first_seen, opened_at: opened, ..incident() }).to_string()
    };
    assert_eq!(begins(None), "2026-11-21T02:00:00Z");
    assert_eq!(begins(Some("2026-11-21T01:30:00Z")), "2026-11-21T00:30:00Z");
    assert_eq!(begins(Some("9999-12-30T22:00:00Z")), "2026-11-21T02:00:00Z");
    for long_ago in ["-009999-01-02T01:59:59Z", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
        assert_eq!(begins(Some(long_ago)), "1970-01-01T00:00:00Z", "{long_ago}");
    }
}

#[tokio::test]
async fn a_snapshot_is_applied_when_its_manifest_was_read_back_and_signed() {
    let house = House::with(&incident());
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    let (manifest, digest) = house.manifest(1);
    let names: Vec<String> = house.bucket.keys();
    let prefix = manifest.entries[0].key.split("/deeds/").next().unwrap().to_owned();
    assert!(prefix.starts_with("incidents/111122223333/fb-") && prefix.ends_with("/000001/000001"), "{prefix}");
    for name in ["manifest.json", "manifest.json.sig", "public-key.pem", "ledger/records-0001.jsonl.zst"] {
        assert!(names.contains(&format!("{prefix}/{name}")), "{name}: {names:?}");
    }
    // The role and the function are gone.
    assert!(manifest.gaps.iter().all(|gap| gap.lack == Lack::Gone) && manifest.gaps.len() >= 3, "{:?}", manifest.gaps);
    for entry in &manifest.entries {
        let stored = house.bucket.object(&entry.key).unwrap();
        let content =
            if entry.collector == "report" { String::from_utf8(stored.clone()).unwrap() } else { unpacked(&stored) };
        assert_eq!((entry.bytes, &entry.sha256), (stored.len() as u64, &sha256_hex(&stored)));
        assert_eq!(
            (entry.content_bytes, &entry.content_sha256),
            (content.len() as u64, &sha256_hex(content.as_bytes()))
        );
        assert_eq!(entry.lines, content.lines().count() as u64);
        assert_eq!(entry.sources.is_empty(), entry.lines == 0);
    }
    let records = manifest.entries.iter().find(|entry| entry.collector == "ledger").unwrap();
    let records = documents(&house.bucket.object(&records.key).unwrap());
    assert_eq!(records[0]["response"]["kind"], "incident");
    assert!(manifest.log_window.to.duration_since(manifest.log_window.from) >= LEAD);
    let step = house.step();
    assert_eq!(step["state"]["S"], "applied");
    let detail = step["detail"]["S"].as_str().unwrap();
    assert!(detail.contains(&digest) && detail.contains(&manifest.signed_with.fingerprint), "{detail}");
    let messages = house.account.take_messages();
    assert_eq!((messages.len(), messages[0].1), (1, 600), "the log is read again later");
    assert_eq!(messages[0].0["detail"]["follow_up"], true);
}

#[tokio::test]
async fn every_page_is_asked_for_once_the_empty_ones_too() {
    let house = House::with(&incident());
    house.take().await.unwrap();
    assert_eq!(house.lines(1), ["a", "b", "c"]);
    let calls = house.account.log_calls();
    let windows = slices_of(&house);
    assert_eq!((windows, calls.len()), (1, 3), "no call that brings no page");
    assert_eq!(calls[0]["logGroupName"], "/aws/lambda/orders");
    assert_eq!(calls[0].get("nextToken"), None);
    assert_eq!((&calls[1]["nextToken"], &calls[2]["nextToken"]), (&json!("t1"), &json!("t2")));
}

fn slices_of(house: &House) -> usize {
    firebreak_model::evidence::slices(house.manifest(1).0.log_window).len()
}

#[tokio::test]
async fn what_is_there_is_not_collected_again_and_a_grown_incident_is() {
    let mut incident = incident();
    let house = House::with(&incident);
    house.take().await.unwrap();
    let keys = house.bucket.keys();
    assert_eq!(house.take().await.unwrap().outcome, "collected before");
    assert_eq!(house.bucket.keys(), keys);
    incident.functions.push(function("more"));
    house.account.put(&Record::Incident(Box::new(incident)));
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    let (second, _) = house.manifest(2);
    assert_eq!(second.previous.unwrap().sha256, house.manifest(1).1);
    assert_eq!(second.functions.len(), 2);
}

#[tokio::test]
async fn nothing_is_collected_of_what_is_not_contained() {
    for state in [IncidentState::AwaitingApproval, IncidentState::Withheld, IncidentState::Released] {
        let house = House::with(&Incident { state, ..incident() });
        assert_eq!(house.take().await.unwrap().outcome, "nothing to do", "{state}");
        assert!(house.bucket.keys().is_empty());
    }
    let house = House::with(&Incident { unvetted: true, ..incident() });
    assert_eq!(house.take().await.unwrap().outcome, "nothing to do");
    assert!(house.bucket.keys().is_empty());
    let mut without = incident();
    without.plan = Plan::of(&without.principal.name, &[], &[Response::Quarantine]);
    assert_eq!(House::with(&without).take().await.unwrap().outcome, "nothing to do");
}

#[tokio::test]
async fn an_order_that_is_read_again_after_the_release_still_follows_up() {
    let house = House::with(&incident());
    house.take().await.unwrap();
    let (order, _) = house.account.take_messages().remove(0);
    house.account.put(&Record::Incident(Box::new(Incident { state: IncidentState::Released, ..incident() })));
    assert_eq!(house.invoke(&order, AMPLE).await.unwrap().outcome, "collected");
    let (second, _) = house.manifest(2);
    assert_eq!((second.purpose, second.previous.unwrap().sha256), (Purpose::FollowUp, house.manifest(1).1));
    assert_eq!(second.log_window.from, house.manifest(1).0.log_window.to - OVERLAP);
    assert_eq!(house.account.take_messages(), [], "a follow-up is not followed up");
    assert_eq!(house.invoke(&order, AMPLE).await.unwrap().outcome, "collected before");
    let detail = house.step()["detail"]["S"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("followed up: "), "{detail}");
}

/// Slices of a day, three pages each, in invocations that have no time at all.
#[tokio::test]
async fn a_run_that_is_too_large_for_one_invocation_goes_on_in_lanes_until_it_is_whole() {
    let mut large = incident();
    large.first_seen = Some(clock::now() - SignedDuration::from_hours(24));
    large.opened_at = clock::now();
    let whole = House::with(&large);
    whole.take().await.unwrap();

    let mut house = House::with(&large);
    house.limits.object_bytes = 1;
    let order = json!({"detail": {"incident_id": large.incident_id}});
    assert_eq!(house.invoke(&order, OVER).await.unwrap().outcome, "collecting");
    let mut messages = house.account.take_messages();
    assert_eq!(messages.len(), 4, "it goes on in four invocations at once");
    let mut invocations = 1;
    while let Some((message, delay)) = messages.pop() {
        if message["detail"]["follow_up"] == true {
            continue;
        }
        assert_eq!(delay, 0);
        invocations += 1;
        assert!(invocations < 200, "it goes on for ever");
        house.invoke(&message, OVER).await.unwrap();
        messages.extend(house.account.take_messages());
    }
    assert_eq!(house.account.records("evidence")[0]["done_at"]["S"].as_str().map(str::is_empty), Some(false));
    assert!(invocations > 8, "{invocations}");
    assert_eq!(house.lines(1), whole.lines(1), "every line once, in the same order");
    let objects = house.manifest(1).0.entries.len();
    assert!(objects >= whole.manifest(1).0.entries.len() + 16, "{objects}");
}

#[tokio::test]
async fn an_event_without_an_incident_id_is_malformed() {
    for event in [
        json!({}),
        json!({"detail": {"incident_id": "fb-../../x"}}),
        json!({"detail-type": "Containment Ordered", "detail": {"incident_id": null}}),
    ] {
        let result = House::with(&incident()).invoke(&event, AMPLE).await;
        assert!(matches!(result, Err(Failure::Malformed(_))), "{event}");
    }
}

#[tokio::test]
async fn tampering_with_firebreak_itself_belongs_to_no_incident() {
    let event = json!({"detail-type": "Tampering Found", "detail": {"incident_id": null}});
    let answer = House::with(&incident()).invoke(&event, AMPLE).await.unwrap();
    assert_eq!(answer.message.as_deref(), Some("it belongs to no incident"));
}

#[tokio::test]
async fn ten_thousand_streams_cost_no_more_calls_than_their_pages() {
    let house = House::with(&incident());
    let event =
        |n: usize| json!({"logStreamName": format!("s{n}"), "timestamp": 1_795_228_000_000_u64, "message": "m"});
    let page = |n: usize, next: Option<&str>| {
        let events: Vec<Value> = (n..n + 5_000).map(event).collect();
        crate::testing::ok(json!({"events": events, "nextToken": next}).to_string())
    };
    house.account.log_answers([page(0, Some("t")), page(5_000, None)]);
    house.take().await.unwrap();
    assert_eq!((house.account.log_calls().len(), house.lines(1).len()), (2, 10_000));
}

/// What cannot be text is not taken for the end of the log.
#[tokio::test]
async fn a_page_that_is_no_text_is_a_gap_and_what_was_read_before_is_kept() {
    for page in [r#"{"events": [{"message": "\ud83d"}]}"#, "{\"events\": [{\"message\": \"\u{0}", "<html>"] {
        let mut house = House::with(&incident());
        house.limits.stalls = 0;
        let first = json!({"events": [{"message": "a\u{0}\u{1b}[31m\u{fffd}", "timestamp": 1}], "nextToken": "t"});
        house.account.log_answers([crate::testing::ok(first.to_string()), crate::testing::ok(page)]);
        house.take().await.unwrap();
        assert_eq!(house.lines(1), ["a\u{0}\u{1b}[31m\u{fffd}"], "{page}");
        let (manifest, _) = house.manifest(1);
        let gaps: Vec<_> = manifest.gaps.iter().filter(|gap| gap.what.contains("log group")).collect();
        assert_eq!(gaps.len(), 1, "{page}: {gaps:?}");
        let slices = firebreak_model::evidence::slices(manifest.log_window);
        assert!(matches!(gaps[0].lack, Lack::NoAnswer | Lack::Rejected), "{page}: {gaps:?}");
        // The token that would lead on was in the page.
        assert!(gaps[0].reason.ends_with(&format!("up to {} was not read", slices[0].to)), "{page}: {gaps:?}");
        assert_eq!(gaps[0].source.parameters["startTime"], slices[0].from.as_millisecond(), "{page}");
    }
}

/// Whose clock is ahead stamps events with times to come, up to two hours of which CloudWatch Logs takes.
#[tokio::test]
async fn events_of_a_clock_that_is_ahead_are_asked_for_in_the_end() {
    let house = House::with(&incident());
    house.take().await.unwrap();
    let (order, _) = house.account.take_messages().remove(0);
    let before = house.account.log_calls().len();
    house.invoke(&order, AMPLE).await.unwrap();
    let calls = house.account.log_calls();
    let last = calls[before..].iter().filter_map(|call| call["endTime"].as_i64()).max().unwrap();
    let ahead = Timestamp::from_millisecond(last).unwrap() - clock::now();
    assert!(ahead.total(jiff::Unit::Minute).unwrap() > 118.0, "{ahead}");
}
