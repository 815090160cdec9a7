//! What CloudTrail tells, collected from a CloudTrail of two Regions that pages, throttles and forgets its tokens.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use firebreak_model::evidence::{Entry, Lack};
use firebreak_model::ledger::Record;
use serde_json::{Value, json};

use super::tests::{AMPLE, House, OVER, incident};
use super::*;
use crate::evidence::testing::documents;
use crate::testing::{Answer as Wired, json_error, ok};

const HERE: &str = "eu-west-1";
const GLOBAL: &str = "us-east-1";

fn key(n: u32) -> String {
    format!("ASIAEXAMPLE{n:09}")
}

/// An incident whose finding names one key of a session that is named after nothing else.
fn robbed() -> Incident {
    let mut robbed = incident();
    robbed.principal.unique_id = Some("AROAEXAMPLE000000001".parse().unwrap());
    robbed.access_keys = vec![key(0).parse().unwrap()];
    robbed
}

/// A call by the key of that number.
fn call(id: &str, by: u32, name: &str) -> Value {
    json!({"eventSource": "iam.amazonaws.com", "eventName": name, "eventID": id, "eventTime": clock::now(),
        "userIdentity": {"type": "AssumedRole", "principalId": "AROAEXAMPLE000000001:orders", "accessKeyId": key(by)},
        "requestParameters": {"userName": id}})
}

/// The key of one number makes that of the other, in another role.
pub(super) fn assumed(from: u32, to: u32) -> Value {
    let mut record = call(&format!("{from}-{to}"), from, "AssumeRole");
    record["eventSource"] = json!("sts.amazonaws.com");
    record["userIdentity"]["principalId"] = json!(format!("AROAEXAMPLE{from:09}:s{from}"));
    record["responseElements"] = json!({
        "credentials": {"accessKeyId": key(to), "expiration": "Nov 21, 2036, 4:00:00 AM"},
        "assumedRoleUser": {"assumedRoleId": format!("AROAEXAMPLE{to:09}:s{to}"),
            "arn": format!("arn:aws:sts::111122223333:assumed-role/role-{to}/s{to}")}});
    record
}

fn many(prefix: &str, count: u32) -> Vec<Value> {
    (0..count).map(|n| call(&format!("{prefix}{n}"), 0, "GetRole")).collect()
}

fn entries(house: &House, run: u32, collector: &str) -> Vec<Entry> {
    house.manifest(run).0.entries.into_iter().filter(|entry| entry.collector == collector).collect()
}

/// The ids of the events on record, in order of objects and lines.
fn ids(house: &House, run: u32) -> Vec<String> {
    let objects = entries(house, run, "calls").into_iter().map(|entry| house.bucket.object(&entry.key).unwrap());
    let lines = objects.flat_map(|object| documents(&object));
    lines.map(|line| line["eventID"].as_str().unwrap().to_owned()).collect()
}

fn gaps(house: &House, run: u32) -> Vec<(Lack, String)> {
    let gaps = house.manifest(run).0.gaps.into_iter().filter(|gap| gap.source.api == "cloudtrail:LookupEvents");
    gaps.map(|gap| (gap.lack, gap.reason)).collect()
}

#[tokio::test]
async fn every_record_is_there_once_and_no_page_is_asked_for_twice() {
    let house = House::with(&robbed());
    house.account.trail(HERE, many("e", 120));
    house.account.trail(GLOBAL, vec![call("g", 0, "CreateUser")]);
    house.take().await.unwrap();
    let ids = ids(&house, 1);
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (121, 121));
    let key = key(0);
    let mut calls = house.account.trail_calls();
    calls.sort();
    // A record of the session `orders` by that key answers both questions, and is there once.
    let wanted = [
        format!("{HERE} AccessKeyId {key}"),
        format!("{HERE} AccessKeyId {key} 100"),
        format!("{HERE} AccessKeyId {key} 50"),
        format!("{HERE} Username orders"),
        format!("{HERE} Username orders 100"),
        format!("{HERE} Username orders 50"),
        format!("{GLOBAL} AccessKeyId {key}"),
        format!("{GLOBAL} Username orders"),
    ];
    assert_eq!(calls, wanted);
    let calls = entries(&house, 1, "calls");
    assert_eq!(calls.len(), 2, "an object a Region");
    assert!(calls[0].key.ends_with("/calls/eu-west-1-0001.jsonl.zst"), "{}", calls[0].key);
    assert!(calls[0].what.starts_with("calls recorded in eu-west-1, complete up to "), "{}", calls[0].what);
    assert_eq!(calls[0].sources.len(), 1);
    assert_eq!(calls[0].sources[0].call.parameters["lookupAttribute"], json!({"AccessKeyId": key}));
    assert_eq!(gaps(&house, 1), []);
}

#[tokio::test]
async fn where_nothing_is_recorded_there_is_no_object_and_the_document_says_who_was_asked() {
    let house = House::with(&robbed());
    house.take().await.unwrap();
    assert_eq!(entries(&house, 1, "calls"), []);
    let deeds = entries(&house, 1, "deeds").remove(0);
    assert_eq!(deeds.sources[0].call.parameters["regions"], json!([HERE, GLOBAL]));
    let lines = documents(&house.bucket.object(&deeds.key).unwrap());
    assert_eq!((lines.len(), &lines[0]["kind"], &lines[0]["calls"]), (1, &json!("about"), &json!(0)));
    let complete: Timestamp = lines[0]["complete_to"].as_str().unwrap().parse().unwrap();
    assert_eq!(complete, house.manifest(1).0.began_at - firebreak_model::evidence::LATE);
}

#[tokio::test]
async fn sessions_that_were_made_are_asked_about_in_every_region() {
    let house = House::with(&robbed());
    house.account.trail(HERE, vec![assumed(0, 2), call("h", 3, "ListBuckets")]);
    let mut other = call("other", 9, "CreateUser");
    other["userIdentity"]["principalId"] = json!("AROAEXAMPLE000000009:elsewhere");
    house.account.trail(GLOBAL, vec![assumed(2, 3), call("g", 3, "CreateAccessKey"), other]);
    house.take().await.unwrap();
    let mut found = ids(&house, 1);
    found.sort();
    assert_eq!(found, ["0-2", "2-3", "g", "h"]);
    let about = |n: u32| house.account.trail_calls().iter().filter(|call| call.contains(&key(n))).count();
    assert_eq!([about(0), about(2), about(3), about(9)], [2, 2, 2, 0]);
    // The next run asks about them from the beginning of what this one could not know.
    house.account.take_messages();
    let follow = json!({"detail": {"incident_id": incident().incident_id, "follow_up": true}});
    assert_eq!(house.invoke(&follow, AMPLE).await.unwrap().outcome, "collected");
    assert_eq!([about(0), about(2), about(3)], [4, 4, 4]);
    let deeds = entries(&house, 1, "deeds").remove(0);
    let lines = documents(&house.bucket.object(&deeds.key).unwrap());
    let left: Vec<_> = lines.iter().filter(|line| line["kind"] == "left_behind").collect();
    let left: Vec<_> =
        left.iter().map(|line| (line["call"].as_str().unwrap(), line["whose"].as_str().unwrap())).collect();
    assert_eq!(left, [("sts:AssumeRole", "stolen"), ("sts:AssumeRole", "chained"), ("iam:CreateAccessKey", "chained")]);
}

/// Objects end with each page, and no invocation has any time.
#[tokio::test]
async fn calls_that_take_many_invocations_come_to_the_same_records() {
    let (whole, mut cut) = (House::with(&robbed()), House::with(&robbed()));
    cut.limits.object_bytes = 1;
    for house in [&whole, &cut] {
        let mut here = many("e", 120);
        here.push(assumed(0, 2));
        house.account.trail(HERE, here);
        house.account.trail(GLOBAL, (0..120).map(|n| call(&format!("c{n}"), 2, "GetRole")).collect());
    }
    whole.take().await.unwrap();
    let invocations = cut.take_a_little_at_a_time().await;
    assert!(invocations > 6 && entries(&cut, 1, "calls").len() >= 6, "{invocations}");
    let (mut one, mut other) = (ids(&whole, 1), ids(&cut, 1));
    assert_eq!(other.len(), 241);
    one.sort();
    other.sort();
    assert_eq!(one, other, "every record once");
    let digest = |house: &House| entries(house, 1, "deeds").remove(0).lines;
    assert_eq!(digest(&whole), digest(&cut));
}

#[tokio::test]
async fn a_token_that_has_run_out_costs_the_question_again_and_no_record_twice() {
    let mut house = House::with(&robbed());
    house.limits.object_bytes = 1;
    house.account.trail(HERE, many("e", 120));
    let order = json!({"detail": {"incident_id": incident().incident_id}});
    while house.account.records("piece").iter().all(|piece| piece.get("pending").is_none()) {
        house.invoke(&order, OVER).await.unwrap();
    }
    house.account.take_messages();
    house.account.trail_answers(HERE, [json_error(400, "InvalidNextTokenException")]);
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    let ids = ids(&house, 1);
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (120, 120));
    let anew =
        house.account.trail_calls().iter().filter(|call| **call == format!("{HERE} AccessKeyId {}", key(0))).count();
    assert_eq!(anew, 2);
    assert_eq!(gaps(&house, 1), []);
}

#[tokio::test]
async fn a_region_that_refuses_is_a_gap_once_and_the_others_are_read() {
    for (answer, lack) in [
        (json_error(400, "AccessDeniedException"), Lack::Denied),
        (json_error(400, "OptInRequired"), Lack::Rejected),
        (json_error(400, "InvalidTimeRangeException"), Lack::Rejected),
    ] {
        let house = House::with(&robbed());
        house.account.trail(GLOBAL, vec![call("g", 0, "CreateUser")]);
        house.account.trail_answers(HERE, std::iter::repeat_n(answer, 100));
        assert_eq!(house.take().await.unwrap().outcome, "collected");
        assert_eq!(ids(&house, 1), ["g"]);
        let gaps = gaps(&house, 1);
        assert_eq!(gaps.iter().map(|(lack, _)| *lack).collect::<Vec<_>>(), [lack], "{gaps:?}");
        let asked = house.account.trail_calls().iter().filter(|call| call.starts_with(HERE)).count();
        assert_eq!(asked, 1, "what refuses one question refuses all");
    }
}

#[tokio::test]
async fn a_cloudtrail_that_is_busy_is_asked_again_and_in_the_end_a_gap() {
    // It answers in the end.
    let house = House::with(&robbed());
    house.account.trail(HERE, vec![call("h", 0, "CreateUser")]);
    house.account.trail_answers(HERE, std::iter::repeat_n(json_error(400, "ThrottlingException"), 5));
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    assert_eq!((ids(&house, 1), gaps(&house, 1)), (vec!["h".to_owned()], vec![]));
    assert_eq!(house.account.trail_calls().iter().filter(|call| call.starts_with(HERE)).count(), 5 + 2);
    // It never does.
    for (answer, lack) in [(json_error(400, "ThrottlingException"), Lack::Throttled), (Wired::Lost, Lack::NoAnswer)] {
        let house = House::with(&robbed());
        house.account.trail(GLOBAL, vec![call("g", 0, "CreateUser")]);
        house.account.trail_answers(HERE, std::iter::repeat_n(answer, 1_000));
        let mut order = json!({"detail": {"incident_id": incident().incident_id}});
        let mut waits = 0;
        while house.invoke(&order, AMPLE).await.unwrap().outcome != "collected" {
            let (message, delay) = house.account.take_messages().remove(0);
            assert!(delay == STALLED || waits == 0, "{delay}");
            (order, waits) = (message, waits + 1);
        }
        assert!(waits >= 5, "{waits}");
        let gaps = gaps(&house, 1);
        assert!(gaps.len() == 1 && gaps[0].0 == lack, "{gaps:?}");
        assert_eq!(ids(&house, 1), ["g"]);
    }
}

/// As if every answer came at once: no call goes out before its turn, and whoever was turned away lets one, two, four, eight
/// and sixteen others go by.
#[tokio::test]
async fn every_try_takes_its_turn_and_the_rate_is_kept_while_cloudtrail_throttles() {
    let mut house = House::with(&robbed());
    let pace = Pace::noted(Limits::default().pace);
    house.pace = Some(pace.clone());
    house.account.trail(HERE, many("e", 120));
    house.account.trail_answers(HERE, std::iter::repeat_n(json_error(400, "ThrottlingException"), 5));
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    let calls = house.account.trail_calls();
    let of = |region: &str| calls.iter().filter(|call| call.starts_with(region)).count();
    assert_eq!((of(HERE), of(GLOBAL)), (5 + 6, 2), "five that were turned away, three pages for each question");
    assert_eq!(pace.turns(HERE), [0, 2, 5, 10, 19, 36, 37, 38, 39, 40, 41]);
    assert_eq!(pace.turns(GLOBAL), [0, 1], "one Region waits for no other");
}

#[tokio::test]
async fn more_pages_than_there_is_patience_for_and_a_page_that_repeats_itself_are_said() {
    let mut house = House::with(&robbed());
    house.limits.pages = 2;
    house.account.trail(HERE, many("e", 300));
    house.take().await.unwrap();
    assert_eq!(ids(&house, 1).len(), 100);
    let told = gaps(&house, 1);
    assert!(told.len() == 2 && told[0].1.contains("more than the 100 calls"), "{told:?}");

    let house = House::with(&robbed());
    let round = || ok(json!({"Events": [], "NextToken": "round"}).to_string());
    house.account.trail_answers(HERE, [round(), round()]);
    house.take().await.unwrap();
    assert!(gaps(&house, 1).iter().any(|(_, reason)| reason.contains("repeated a page")));
}

#[tokio::test]
async fn a_follow_up_asks_for_what_came_late_and_a_new_key_from_the_beginning() {
    let mut grown = robbed();
    let house = House::with(&grown);
    house.take().await.unwrap();
    grown.access_keys.push(key(7).parse().unwrap());
    house.account.put(&Record::Incident(Box::new(grown)));
    house.account.take_messages();
    let follow = json!({"detail": {"incident_id": incident().incident_id, "follow_up": true}});
    assert_eq!(house.invoke(&follow, AMPLE).await.unwrap().outcome, "collected");
    let [first, second] = [1, 2].map(|run| house.manifest(run).0);
    let sources = |run| entries(&house, run, "deeds").remove(0).sources.remove(0).call.parameters;
    assert_eq!(sources(2)["lookupAttributes"].as_array().unwrap().len(), 3);
    let runs = house.account.records("evidence");
    let from = |run: usize, value: &str| {
        let questions = runs[run].pointer("/calls/M/questions/L").unwrap().as_array().unwrap();
        let of_it = questions.iter().find(|question| question.pointer("/M/value/S") == Some(&json!(value))).unwrap();
        of_it.pointer("/M/from/S").unwrap().as_str().unwrap().parse::<Timestamp>().unwrap()
    };
    assert_eq!(from(1, &key(0)), first.began_at - firebreak_model::evidence::LATE);
    assert_eq!(from(1, &key(7)), from(0, &key(0)));
    assert!(second.began_at > first.began_at);
}

#[tokio::test]
async fn hostile_records_stay_on_their_lines_as_they_are() {
    let house = House::with(&robbed());
    let mut hostile = call("h", 0, "PutObject");
    hostile["userAgent"] = json!("<script>alert(1)</script>\r\n\u{202e}".repeat(1_000));
    let text = serde_json::to_string_pretty(&hostile).unwrap();
    let page = json!({"Events": [
        {"EventId": "h", "CloudTrailEvent": text},
        {"EventId": "j", "CloudTrailEvent": "no {json"},
        {"EventId": "n"},
    ]});
    house.account.trail_answers(HERE, [ok(page.to_string())]);
    house.take().await.unwrap();
    let entry = entries(&house, 1, "calls").remove(0);
    let lines = documents(&house.bucket.object(&entry.key).unwrap());
    assert_eq!((lines.len(), &lines[0]), (3, &hostile));
    assert_eq!((&lines[1]["eventID"], &lines[1]["text"]), (&json!("j"), &json!("no {json")));
    assert_eq!(lines[2]["eventID"], "n");
}

#[tokio::test]
async fn without_a_key_a_session_or_a_user_nobody_is_asked() {
    let mut nothing = incident();
    nothing.functions = Vec::new();
    nothing.access_keys = Vec::new();
    let house = House::with(&nothing);
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    assert_eq!(house.account.trail_calls(), Vec::<String>::new());
    assert_eq!(entries(&house, 1, "deeds"), []);
}

/// A page costs half a second of what the Region answers everyone: what it gave before it turned us away is kept.
#[tokio::test]
async fn what_a_region_answered_before_it_turned_us_away_is_not_asked_for_again() {
    let house = House::with(&robbed());
    let all = many("e", 120);
    house.account.trail(HERE, all.clone());
    let event = |record: &Value| json!({"EventId": record["eventID"], "CloudTrailEvent": record.to_string()});
    let first: Vec<Value> = all[..50].iter().map(event).collect();
    let busy = std::iter::repeat_n(json_error(400, "ThrottlingException"), 6);
    let page = ok(json!({"Events": first, "NextToken": "50"}).to_string());
    house.account.trail_answers(HERE, [page].into_iter().chain(busy));
    assert_eq!(house.take().await.unwrap().outcome, "collecting");
    let kept = house.account.records("piece").into_iter().find(|piece| piece.get("pending").is_some()).unwrap();
    assert_eq!(kept.pointer("/next/M/token/S"), Some(&json!("50")));
    let (order, _) = house.account.take_messages().remove(0);
    assert_eq!(house.invoke(&order, AMPLE).await.unwrap().outcome, "collected");
    let ids = ids(&house, 1);
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (120, 120));
    let anew = format!("{HERE} AccessKeyId {}", key(0));
    assert_eq!(house.account.trail_calls().iter().filter(|call| **call == anew).count(), 1);
    assert_eq!(gaps(&house, 1), []);
}

/// Also where each page is read by another invocation, and where no token is ever known again.
#[tokio::test]
async fn the_pages_of_a_question_are_bounded_over_all_invocations() {
    let mut house = House::with(&robbed());
    (house.limits.object_bytes, house.limits.pages) = (1, 3);
    house.account.trail(HERE, many("e", 400));
    let invocations = house.take_a_little_at_a_time().await;
    assert!(invocations > 3, "{invocations}");
    assert_eq!(ids(&house, 1).len(), 150);
    let told = gaps(&house, 1);
    assert!(told.len() == 2 && told[0].1.contains("more than the 150 calls"), "{told:?}");

    let mut house = House::with(&robbed());
    house.limits.pages = 4;
    let round =
        || [ok(json!({"Events": [], "NextToken": "t"}).to_string()), json_error(400, "InvalidNextTokenException")];
    house.account.trail_answers(HERE, (0..100).flat_map(|_| round()));
    house.take().await.unwrap();
    let told = gaps(&house, 1);
    assert!(told.len() == 2 && told[0].1.contains("more than the 200 calls"), "{told:?}");
}

#[tokio::test]
async fn a_flood_of_sessions_is_followed_up_to_a_bound_and_the_rest_counted() {
    // A call by each of so many sessions, which the key had made.
    let made = |count: u32| {
        let by = |n: u32| {
            let mut record = call(&format!("c{n}"), n, "GetRole");
            record["userIdentity"]["principalId"] = json!(format!("AROAEXAMPLE{n:09}:s{n}"));
            record
        };
        (1..=count).map(|n| assumed(0, n)).chain((1..=count).map(by)).collect::<Vec<Value>>()
    };
    let house = House::with(&robbed());
    house.account.trail(HERE, made(400));
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    let asked: BTreeSet<String> =
        house.account.trail_calls().into_iter().filter(|call| call.starts_with(GLOBAL)).collect();
    assert_eq!(asked.len(), 2 + 60, "{asked:?}");
    let told = gaps(&house, 1);
    assert!(told.len() == 1 && told[0].1.starts_with("340 more sessions"), "{told:?}");
    let chained: Vec<Entry> =
        entries(&house, 1, "calls").into_iter().filter(|entry| entry.key.contains("/chained")).collect();
    assert_eq!(chained.iter().map(|entry| entry.lines).sum::<u64>(), 60);
    // What the record of an object can tell of ends it.
    let mut small = House::with(&robbed());
    small.limits.record_bytes = 1_000;
    small.account.trail(HERE, made(30));
    small.take().await.unwrap();
    let chained = entries(&small, 1, "calls").into_iter().filter(|entry| entry.key.contains("/chained")).count();
    assert!(chained >= 5, "{chained}");
    assert_eq!(ids(&small, 1).len(), 60);
}

/// A report in between, a Region that did not answer the first time, and a session that only the first run knows of.
#[tokio::test]
async fn a_follow_up_goes_on_behind_every_run_before_it_and_where_each_region_stands() {
    let house = House::with(&robbed());
    house.account.trail(HERE, vec![assumed(0, 2)]);
    house.account.trail_answers(GLOBAL, [json_error(400, "AccessDeniedException")]);
    house.take().await.unwrap();
    house.account.take_messages();
    let begun = house.manifest(1).0.began_at;
    let mut changed = robbed();
    changed.state = IncidentState::Released;
    house.account.put(&Record::Incident(Box::new(changed)));
    let report = json!({"detail": {"incident_id": incident().incident_id, "report": 0}});
    assert_eq!(house.invoke(&report, AMPLE).await.unwrap().outcome, "collected");
    assert_eq!(house.manifest(2).0.purpose, Purpose::Report);
    let before = house.account.trail_calls().len();
    let follow = json!({"detail": {"incident_id": incident().incident_id, "follow_up": true}});
    assert_eq!(house.invoke(&follow, AMPLE).await.unwrap().outcome, "collected");
    assert_eq!(house.manifest(3).0.purpose, Purpose::FollowUp);
    let calls = &house.account.trail_calls()[before..];
    for region in [HERE, GLOBAL] {
        let about = format!("{region} AccessKeyId {}", key(2));
        assert!(calls.contains(&about), "the session that the first run found: {calls:?}");
    }
    let from = |region: &str| house.account.trail_from(region, &key(0));
    let (here, there) = (from(HERE), from(GLOBAL));
    assert_eq!(here[1], (begun - firebreak_model::evidence::LATE).as_second(), "behind what was read");
    assert_eq!((there[1], there[0]), (here[0], here[0]), "it did not answer: it is asked from the beginning");
}

#[tokio::test]
async fn a_theft_of_long_ago_is_asked_for_as_far_as_cloudtrail_goes_back_and_the_rest_is_a_gap() {
    let old = Incident { first_seen: Some(clock::now() - SignedDuration::from_hours(24 * 365)), ..robbed() };
    let house = House::with(&old);
    house.take().await.unwrap();
    let began = house.manifest(1).0.began_at;
    let oldest = (began - SignedDuration::from_hours(24 * 90)).as_second();
    assert!(house.account.trail_from(HERE, &key(0)).iter().all(|from| *from > oldest));
    let told = gaps(&house, 1);
    assert!(told.len() == 1 && told[0].0 == Lack::Gone && told[0].1.contains("90 days"), "{told:?}");
}
