//! Tracing over a CloudTrail of several Regions that pages, throttles and repeats itself.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use firebreak_model::chain::Root;
use serde_json::{Value, json};

use super::*;
use crate::testing::Wire;

/// What a Region answers.
#[derive(Debug, Clone)]
enum Shelf {
    /// These records, the latest first, so many a page.
    Records(Vec<Value>, usize),
    /// A page that names itself as the next.
    Circle,
    /// This status and code.
    Error(u16, &'static str),
}

#[derive(Debug, Default)]
struct Hall {
    shelves: BTreeMap<String, Shelf>,
    calls: Vec<String>,
}

/// A CloudTrail.
#[derive(Debug, Clone, Default)]
struct Trail(Arc<Mutex<Hall>>);

impl Trail {
    fn of(shelves: impl IntoIterator<Item = (&'static str, Shelf)>) -> Self {
        let shelves = shelves.into_iter().map(|(region, shelf)| (region.to_owned(), shelf)).collect();
        Self(Arc::new(Mutex::new(Hall { shelves, calls: Vec::new() })))
    }

    fn sdk(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        let client = http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone());
        Wire::default().config().into_builder().http_client(SharedHttpClient::new(client)).build()
    }

    /// `region attribute value page` of every call.
    fn calls(&self) -> Vec<String> {
        let mut calls = self.0.lock().unwrap().calls.clone();
        calls.sort();
        calls
    }

    fn answer(&self, region: &str, body: &Value) -> (u16, Value) {
        let attribute = &body["LookupAttributes"][0];
        let (name, value) =
            (attribute["AttributeKey"].as_str().unwrap(), attribute["AttributeValue"].as_str().unwrap());
        let token = body["NextToken"].as_str().unwrap_or("0");
        let mut state = self.0.lock().unwrap();
        state.calls.push(format!("{region} {name} {value} {token}"));
        match state.shelves.get(region).cloned().unwrap_or(Shelf::Records(Vec::new(), 50)) {
            Shelf::Error(status, code) => (status, json!({"__type": code, "message": "scripted"})),
            Shelf::Circle => (200, json!({"Events": [], "NextToken": "round"})),
            Shelf::Records(records, most) => {
                let second = |record: &Value| super::time(record).unwrap().as_second();
                let (from, to) = (body["StartTime"].as_f64().unwrap(), body["EndTime"].as_f64().unwrap_or(f64::MAX));
                #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
                let within = |record: &Value| (from..=to).contains(&(second(record) as f64));
                let named = |record: &Value| {
                    let id = record["userIdentity"]["principalId"].as_str().unwrap_or_default();
                    id.split(':').nth(1) == Some(value)
                };
                let of = |record: &Value| {
                    within(record)
                        && match name {
                            "EventName" => record["eventName"] == value,
                            "Username" => named(record),
                            _ => record["userIdentity"]["accessKeyId"] == value,
                        }
                };
                let all: Vec<_> = records.into_iter().filter(of).collect();
                let from: usize = token.parse().unwrap();
                let page: Vec<_> = all.iter().skip(from).take(most).collect();
                let events: Vec<_> = page.iter().map(|r| json!({"CloudTrailEvent": r.to_string()})).collect();
                let mut answer = json!({"Events": events});
                if from + most < all.len() {
                    answer["NextToken"] = json!((from + most).to_string());
                }
                (200, answer)
            }
        }
    }
}

impl HttpConnector for Trail {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let region = request.uri().split('.').nth(1).unwrap().to_owned();
        let (status, answer) = self.answer(&region, &serde_json::from_slice(request.body().bytes().unwrap()).unwrap());
        let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(answer.to_string()));
        HttpConnectorFuture::ready(Ok(response))
    }
}

fn key(n: u32) -> String {
    format!("ASIAEXAMPLE{n:09}")
}

/// Key `from` makes key `to`, a session of the role of that number.
fn assumed(from: u32, to: u32) -> Value {
    json!({"eventSource": "sts.amazonaws.com", "eventName": "AssumeRole", "eventTime": "2026-11-21T03:00:00Z",
        "eventID": format!("{from}-{to}"),
        "userIdentity": {"type": "AssumedRole", "principalId": format!("AROAEXAMPLE{from:09}:s{from}"),
            "accessKeyId": key(from)},
        "responseElements": {"credentials": {"accessKeyId": key(to), "expiration": "Nov 21, 2026, 4:00:00 AM"},
            "assumedRoleUser": {"assumedRoleId": format!("AROAEXAMPLE{to:09}:s{to}"),
                "arn": format!("arn:aws:sts::111122223333:assumed-role/role-{to}/s{to}")}}})
}

/// What a service of AWS does all day.
fn by_a_service(n: u32) -> Value {
    let mut record = assumed(500, 1000 + n);
    record["userIdentity"] = json!({"type": "AWSService", "invokedBy": "lambda.amazonaws.com"});
    record["eventID"] = json!(format!("service-{n}"));
    record
}

async fn follow(trail: &Trail, bounds: Bounds) -> Traced {
    let partition = Partition::AwsUsGov;
    let bounds = Bounds { pace: Duration::ZERO, ..bounds };
    let tracer = Tracer::new(trail.sdk(), partition, Vec::new(), bounds);
    let root = Root { access_keys: vec![key(0).parse().unwrap()], ..Root::default() };
    tracer.follow(Chain::of(root, Vec::new()), &[Call::AssumeRole], &past(&[])).await
}

fn past(names: &[&str]) -> Past {
    let at = |time: &str| time.parse().unwrap();
    Past {
        since: at("2026-11-20T15:00:00Z"),
        seen: at("2026-11-21T02:00:00Z"),
        denied: at("2026-11-21T03:05:00Z"),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn found(traced: &Traced) -> Vec<String> {
    let mut found: Vec<_> =
        traced.chain.links().iter().map(|l| l.session.access_key.as_ref().unwrap().to_string()).collect();
    found.sort();
    found
}

const EAST: &str = "us-gov-east-1";
const WEST: &str = "us-gov-west-1";

#[tokio::test]
async fn a_chain_over_two_regions_and_many_pages_is_followed_with_one_read_of_each() {
    // 0 makes 1 in the east, 1 makes 2 in the west, 2 makes 3 in the east and 0's role again.
    let noise = || (0..70).map(by_a_service);
    let east = [assumed(2, 3)].into_iter().chain(noise()).chain([assumed(0, 1), assumed(8, 9)]).collect();
    let west = vec![assumed(1, 2), assumed(3, 4)];
    let trail = Trail::of([(EAST, Shelf::Records(east, 50)), (WEST, Shelf::Records(west, 50))]);
    let traced = follow(&trail, Bounds::default()).await;
    assert_eq!(found(&traced), [1, 2, 3, 4].map(key));
    assert_eq!((traced.gaps.as_slice(), traced.again, traced.regions.len()), ([].as_slice(), false, 2));
    let once = [
        "us-gov-east-1 EventName AssumeRole 0",
        "us-gov-east-1 EventName AssumeRole 50",
        "us-gov-west-1 EventName AssumeRole 0",
    ];
    assert_eq!(trail.calls(), once);
}

#[tokio::test]
async fn where_there_is_too_much_the_keys_are_asked_about_and_the_gap_is_said() {
    let noise = || (0..120).map(by_a_service);
    let east = noise().chain([assumed(1, 2), assumed(0, 1)]).collect();
    let trail = Trail::of([(EAST, Shelf::Records(east, 50)), (WEST, Shelf::Records(vec![assumed(2, 3)], 50))]);
    let traced = follow(&trail, Bounds { pages: 2, ..Bounds::default() }).await;
    assert_eq!(found(&traced), [1, 2, 3].map(key));
    assert_eq!(traced.gaps.len(), 1, "{:?}", traced.gaps);
    assert!(traced.gaps[0].contains("us-gov-east-1") && traced.gaps[0].contains("more than the 100 calls"));
    assert_eq!(traced.regions, [WEST.parse().unwrap()]);
    // Two pages, two of the time of the theft and one of that before, then each of the four keys once, and only where not
    // all was read.
    let keys: Vec<String> = trail.calls().into_iter().filter(|call| call.contains("AccessKeyId")).collect();
    assert_eq!(keys, [0, 1, 2, 3].map(|n| format!("us-gov-east-1 AccessKeyId {} 0", key(n))));
    assert_eq!(trail.calls().len(), 2 + 2 + 1 + 1 + 4);
}

#[tokio::test]
async fn the_head_start_is_read_however_much_comes_after_it() {
    let at = |mut record: Value, time: String| {
        record["eventTime"] = json!(time);
        record
    };
    let hour = "2026-11-21T04:00:00Z".to_owned();
    let after = || (0..60).map(|n| at(by_a_service(n), hour.clone())).collect::<Vec<_>>();
    let around = (0..60).map(|n| at(by_a_service(n), format!("2026-11-21T03:{:02}:{:02}Z", 4 - n / 30, 59 - n % 30)));
    let theft = at(assumed(0, 1), "2026-11-21T02:30:00Z".to_owned());
    let before = at(assumed(0, 2), "2026-11-20T23:00:00Z".to_owned());
    let late = at(assumed(0, 3), "2026-11-21T03:30:00Z".to_owned());
    // A finding on a function: no key is known, only whose sessions they are.
    let root = Root { unique_id: Some("AROAEXAMPLE000000000".parse().unwrap()), ..Root::default() };
    for (what, records, names, expected, gap) in [
        (
            "after",
            [after(), vec![theft.clone(), before.clone()]].concat(),
            vec![],
            vec![1, 2],
            Some("a known key or session"),
        ),
        ("around", around.chain([theft, before]).collect(), vec![], vec![1, 2], None),
        ("late", [after(), vec![late.clone()]].concat(), vec![], vec![], Some("the rest was not looked at")),
        ("late, by name", [after(), vec![late]].concat(), vec!["s0"], vec![3], Some("a known key or session")),
    ] {
        let trail = Trail::of([(EAST, Shelf::Records(records, 50))]);
        let bounds = Bounds { pages: 1, pace: Duration::ZERO, ..Bounds::default() };
        let search = Tracer::new(trail.sdk(), Partition::AwsUsGov, Vec::new(), bounds);
        let chain = Chain::of(root.clone(), Vec::new());
        let traced = search.follow(chain, &[Call::AssumeRole], &past(&names)).await;
        assert_eq!(found(&traced), expected.into_iter().map(key).collect::<Vec<_>>(), "{what}: {:?}", trail.calls());
        let said = traced.gaps.join("; ");
        assert_eq!(gap.map(|gap| said.contains(gap)), gap.map(|_| true), "{what}: {said}");
        assert_eq!(traced.gaps.is_empty(), gap.is_none(), "{what}: {said}");
    }
}

#[tokio::test]
async fn the_keys_that_a_region_is_asked_about_are_bounded() {
    // The thief assumes the role again and again; each new key is one more to ask about.
    let east = (0..120).map(by_a_service).chain((0..40).rev().map(|n| assumed(n, n + 1))).collect();
    let trail = Trail::of([(EAST, Shelf::Records(east, 50))]);
    let traced = follow(&trail, Bounds { pages: 1, keys: 10, ..Bounds::default() }).await;
    assert_eq!(found(&traced).len(), 10);
    assert!(traced.gaps.iter().any(|gap| gap == "us-gov-east-1: not every key was asked about"), "{:?}", traced.gaps);
    assert_eq!(trail.calls().len(), 3 + 1 + 10);
}

#[tokio::test]
async fn a_region_that_does_not_answer_is_named_and_only_what_may_get_better_is_asked_again() {
    for (status, code, again, says) in [
        (400, "AccessDeniedException", false, "us-gov-east-1 could not be asked"),
        (400, "OptInRequired", false, "us-gov-east-1 could not be asked"),
        (400, "ThrottlingException", true, "us-gov-east-1: `cloudtrail:LookupEvents`"),
        (500, "InternalFailure", true, "us-gov-east-1: `cloudtrail:LookupEvents`"),
    ] {
        let trail = Trail::of([(EAST, Shelf::Error(status, code)), (WEST, Shelf::Records(vec![assumed(0, 1)], 50))]);
        let traced = follow(&trail, Bounds::default()).await;
        assert_eq!((found(&traced), traced.again), (vec![key(1)], again), "{code}");
        assert!(traced.gaps.len() == 1 && traced.gaps[0].starts_with(says), "{code}: {:?}", traced.gaps);
    }
}

#[tokio::test]
async fn a_token_that_comes_again_and_a_time_that_is_over_end_the_search() {
    let trail = Trail::of([(EAST, Shelf::Circle)]);
    let traced = follow(&trail, Bounds::default()).await;
    assert_eq!(trail.calls().len(), 3);
    assert!(traced.again && traced.gaps.len() == 1 && traced.gaps[0].contains("repeats"), "{:?}", traced.gaps);
    let trail = Trail::default();
    let traced = follow(&trail, Bounds { time: Duration::ZERO, ..Bounds::default() }).await;
    assert!(traced.again && traced.gaps.len() == 2 && traced.gaps[0].contains("time"), "{:?}", traced.gaps);
    assert!(trail.calls().is_empty());
}

#[test]
fn two_calls_a_second_in_each_region_are_not_exceeded() {
    let ms = Duration::from_millis;
    assert_eq!(wait(PACE, None), Duration::ZERO);
    assert_eq!(wait(PACE, Some(ms(100))), ms(410));
    assert_eq!(wait(PACE, Some(ms(2000))), Duration::ZERO);
    assert!(PACE >= ms(500));
}

#[test]
fn every_region_of_the_partition_is_asked_and_those_that_were_opted_in_to() {
    let regions = |partition, more: &[&str]| {
        let more = more.iter().map(|name| name.parse().unwrap()).collect();
        Tracer::new(Trail::default().sdk(), partition, more, Bounds::default()).regions
    };
    assert_eq!(regions(Partition::Aws, &["af-south-1", "us-east-1"]).len(), 18);
    assert_eq!(regions(Partition::AwsCn, &[]).len(), 2);
}
