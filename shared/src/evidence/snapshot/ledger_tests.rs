//! What a collection makes of the ledger: every record of the incident as it stands in the end, and an incident that is
//! not sealed yet.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use firebreak_model::ledger::Record;
use serde_json::json;

use super::tests::{AMPLE, House, function, incident};
use super::*;
use crate::evidence::testing::documents;

/// Records of every kind and episode, whoever wrote them, after all else is collected.
#[tokio::test]
async fn every_record_about_the_incident_is_kept_as_it_stands_in_the_end() {
    let house = House::with(&incident());
    let mut finding = crate::page::tests::finding("a");
    finding.incident_id = Some(incident().incident_id);
    finding.event = r#"{"detail": {"raw": "as received"}}"#.to_owned();
    house.account.put(&Record::Finding(Box::new(finding.clone())));
    finding.event_truncated = true;
    finding.finding_key = firebreak_model::ids::FindingKey::of("f2", "u1");
    house.account.put(&Record::Finding(Box::new(finding)));
    let target = firebreak_model::plan::Target::Function(function("orders"));
    let step = Step { action: firebreak_model::action::ActionId::ZeroConcurrency, target };
    let earlier = StepRecord { episode: 0, ..incident().step_record(&step, clock::now()) };
    let applied = StepRecord {
        state: StepState::Applied,
        verified_at: Some("2026-11-21T03:00:07Z".parse().unwrap()),
        ..incident().step_record(&step, clock::now())
    };
    for record in [earlier, applied] {
        house.account.put(&Record::Step(Box::new(record)));
    }
    house.take().await.unwrap();
    let (manifest, _) = house.manifest(1);
    let entry = manifest.entries.iter().find(|entry| entry.collector == "ledger").unwrap();
    // On the wire: the pages about an incident are asked for once, as a part of the whole, when nothing else is read any more.
    let calls = house.account.calls();
    let first = calls.iter().position(|call| call.starts_with("Query page#")).unwrap();
    let is_read = |call: &&String| {
        !["Query", "GetItem", "PutItem", "GetPublicKey", "Sign", "SendMessage"]
            .contains(&call.split(' ').next().unwrap_or_default())
    };
    let read: Vec<&String> = calls.iter().filter(is_read).collect();
    for api in ["FilterLogEvents", "LookupEvents", "/"] {
        assert!(read.iter().any(|call| call.starts_with(api)), "{api}: {read:?}");
    }
    let after: Vec<&String> = calls.iter().skip(first).filter(is_read).collect();
    assert!(after.is_empty(), "it is read last: {after:?}");
    let records = documents(&house.bucket.object(&entry.key).unwrap());
    let kinds: Vec<&str> = records.iter().map(|line| line["response"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["incident", "finding", "finding", "step", "step", "step"], "the collection's own step too");
    assert_eq!(records[1]["response"]["event"], r#"{"detail": {"raw": "as received"}}"#);
    let verified = records.iter().filter(|line| line["response"]["verified_at"] == "2026-11-21T03:00:07Z").count();
    assert_eq!(verified, 1);
    let cut: Vec<_> = manifest.gaps.iter().filter(|gap| gap.source.api == "events:PutEvents").collect();
    assert_eq!(cut.len(), 1, "an event that was longer than a record may be: {:?}", manifest.gaps);
}

/// The claim of an incident is told of before it has its seal, which comes within a second: whoever hears of it from the
/// bus comes again in five, and not when Lambda would.
#[tokio::test]
async fn an_order_that_meets_an_incident_before_its_seal_comes_again_in_five_seconds() {
    let house = House { seals: true, ..House::with(&incident()) };
    let order = json!({"detail": {"incident_id": incident().incident_id}});
    let answer = json!(house.invoke(&order, AMPLE).await.unwrap());
    assert_eq!(answer["outcome"], "collected once it is sealed");
    let waiting = house.account.take_messages();
    assert_eq!(waiting.iter().map(|(_, delay)| *delay).collect::<Vec<_>>(), [5]);
    assert!(house.bucket.keys().is_empty() && house.account.records("evidence").is_empty(), "nothing is begun on it");

    // One that waited already is tried again by the queue, which counts: no second message.
    let body = waiting[0].0.to_string();
    let batch = json!({"Records": [{"eventSource": "aws:sqs", "messageId": "m", "receiptHandle": "r", "body": body}]});
    let Handled::Queue(left) = house.batch(&batch).await.unwrap() else { panic!("it was a batch") };
    assert_eq!(json!(left)["batchItemFailures"][0]["itemIdentifier"], "m");
    assert!(house.account.take_messages().is_empty() && house.bucket.keys().is_empty());

    let sealed = Incident { version: 2, ..incident() };
    assert!(house.ledger().advance(&sealed).await.unwrap());
    let Handled::Queue(left) = house.batch(&batch).await.unwrap() else { panic!("it was a batch") };
    assert_eq!(json!(left)["batchItemFailures"], json!([]));
    assert!(house.bucket.keys().iter().any(|key| key.ends_with("/manifest.json")), "{:?}", house.bucket.keys());

    // Anything else without a seal is no claim, and is not waited for.
    let house = House { seals: true, ..House::with(&Incident { episode: 2, ..incident() }) };
    assert!(house.invoke(&order, AMPLE).await.is_err());
    assert!(house.account.take_messages().is_empty());
}
