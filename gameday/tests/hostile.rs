//! Hostile input through the deployed functions: for every case a clear end, one record with the reason, and a
//! world in which nothing has changed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic, reason = "tests")]

#[path = "hostile/bait.rs"]
mod bait;
#[path = "hostile/cases.rs"]
mod cases;
mod common;
#[path = "hostile/findings.rs"]
mod findings;
#[path = "hostile/functions.rs"]
mod functions;
#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/runtime.rs"]
mod runtime;
#[path = "hostile/securityhub.rs"]
mod securityhub;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_sqs::types::QueueAttributeName;
use bait::Bait;
use cases::{Case, End, Way};
use firebreak_model::action::FunctionName;
use firebreak_model::decision::Decision;
use firebreak_model::ledger::{FindingRecord, IncidentState, Record};
use futures_util::future::join_all;
use gameday::aws::Aws;
use gameday::deploy::Stack;
use gameday::ledger::Book;
use gameday::pages::Inbox;
use gameday::world::World;
use serde_json::Value;

/// What a function answered.
#[derive(Debug)]
pub(crate) enum Said {
    /// Its answer.
    Answer(Value),
    /// Its error.
    Error(Value),
    /// Lambda did not take the payload.
    NotTaken(String),
}

impl Said {
    fn text<'a>(value: &'a Value, name: &str) -> &'a str {
        value.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

pub(crate) async fn invoke(aws: &Aws, stack: &Stack, function: FunctionName, payload: &[u8]) -> Said {
    let invoke = aws.lambda.invoke().function_name(stack.function(function)).payload(Blob::new(payload));
    match invoke.send().await {
        Ok(answer) => {
            let bytes = answer.payload().map(|p| p.as_ref().to_vec()).unwrap_or_default();
            let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            if answer.function_error().is_some() { Said::Error(value) } else { Said::Answer(value) }
        }
        Err(error) => Said::NotTaken(format!("{error:?}")),
    }
}

/// Partition and sort key of every record of a finding.
async fn keys(aws: &Aws, stack: &Stack) -> BTreeSet<(String, String)> {
    let scan = aws.dynamodb.scan().table_name(stack.output("LedgerTableName").unwrap()).consistent_read(true);
    let mut items = scan.projection_expression("pk, sk").into_paginator().items().send();
    let mut keys = BTreeSet::new();
    while let Some(item) = items.next().await {
        let item = item.unwrap();
        let text = |name: &str| item[name].as_s().unwrap().clone();
        keys.insert((text("pk"), text("sk")));
    }
    keys.retain(|(pk, _)| pk.starts_with("finding#"));
    keys
}

async fn record(aws: &Aws, stack: &Stack, (pk, sk): (String, String)) -> FindingRecord {
    let get = aws.dynamodb.get_item().table_name(stack.output("LedgerTableName").unwrap());
    let item =
        get.key("pk", AttributeValue::S(pk)).key("sk", AttributeValue::S(sk)).send().await.unwrap().item.unwrap();
    let Record::Finding(finding) = serde_dynamo::from_item(item).unwrap() else { panic!("no record of a finding") };
    *finding
}

/// What was recorded since; over the bus it takes a moment.
async fn recorded(aws: &Aws, stack: &Stack, known: &mut BTreeSet<(String, String)>, way: Way) -> Vec<FindingRecord> {
    let start = Instant::now();
    loop {
        let now = keys(aws, stack).await;
        let new: Vec<_> = now.difference(known).cloned().collect();
        if way == Way::Invoke || !new.is_empty() || start.elapsed() > Duration::from_secs(20) {
            *known = now;
            return join_all(new.into_iter().map(|key| record(aws, stack, key))).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Plays one case; answers what did not hold.
async fn play(aws: &Aws, stack: &Stack, case: &Case, known: &mut BTreeSet<(String, String)>) -> Vec<String> {
    let mut wrong = Vec::new();
    let said = match case.way {
        Way::Invoke => Some(invoke(aws, stack, FunctionName::QuarantinePrincipal, case.payload.as_bytes()).await),
        Way::Bus => {
            let event: Value = serde_json::from_str(&case.payload).unwrap();
            let entry = PutEventsRequestEntry::builder()
                .source(event["source"].as_str().unwrap())
                .detail_type(event["detail-type"].as_str().unwrap())
                .detail(event["detail"].to_string());
            let answer = aws.events.put_events().entries(entry.build()).send().await.unwrap();
            assert_eq!(answer.failed_entry_count(), 0, "{}: {:?}", case.name, answer.entries());
            None
        }
    };
    let new = recorded(aws, stack, known, case.way).await;
    match (&case.end, &said) {
        (End::Recorded(outcome, reason), said) => {
            match said {
                Some(Said::Answer(answer)) if Said::text(answer, "outcome") == *outcome => {}
                None => {}
                other => wrong.push(format!("expected `{outcome}`, answered {}", shown(other.as_ref()))),
            }
            match &new[..] {
                [record] => {
                    wrong.extend(held(record, reason, outcome));
                    if *outcome == "withheld" {
                        wrong.extend(withheld(aws, stack, record, reason).await);
                    }
                }
                records => wrong.push(format!("{} records instead of one", records.len())),
            }
        }
        (End::Refused(kind, says), Some(Said::Error(error))) => {
            let (is, message) = (Said::text(error, "errorType"), Said::text(error, "errorMessage"));
            if is != *kind || !message.contains(says) || message.chars().count() > 1_000 {
                wrong.push(format!("expected {kind} with `{says}`, answered {}", shown(said.as_ref())));
            }
            if !new.is_empty() {
                wrong.push(format!("{} records instead of none", new.len()));
            }
        }
        (End::Refused(kind, _), other) => wrong.push(format!("expected {kind}, answered {}", shown(other.as_ref()))),
    }
    wrong.into_iter().map(|what| format!("{} ({:?}): {what}", case.name, case.way)).collect()
}

/// What does not hold of the incident of a finding that a guard rail withheld: the reason stands there. Over the bus,
/// it may still be on its way.
async fn withheld(aws: &Aws, stack: &Stack, record: &FindingRecord, reason: &str) -> Option<String> {
    let start = Instant::now();
    loop {
        let book = Book::read(aws, stack).await.unwrap();
        let incident = record.incident_id.as_ref().and_then(|id| book.incident(id));
        let held = incident.is_some_and(|i| i.state == IncidentState::Withheld && i.reason.contains(reason));
        if held {
            return None;
        }
        if start.elapsed() > Duration::from_secs(10) {
            let state = incident.map(|i| format!("{}: {}", i.state, i.reason));
            return Some(format!("the incident is {}, not withheld with `{reason}`", state.unwrap_or_default()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What does not hold of a record.
fn held(record: &FindingRecord, reason: &str, outcome: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic() || c == ' ' || "\u{fffd}…".contains(c));
    if outcome != "withheld" && !record.reason.contains(reason) {
        wrong.push(format!("the recorded reason is `{}`, without `{reason}`", record.reason));
    }
    if outcome != "withheld" && record.effective > Decision::Notify {
        wrong.push(format!("recorded as `{}`", record.effective));
    }
    for (what, text) in [("id", &record.finding_id), ("type", &record.finding_type), ("reason", &record.reason)] {
        if !plain(text) {
            wrong.push(format!("the recorded {what} is not printable: {text:?}"));
        }
    }
    if record.event.is_empty() || record.event_sha256.len() != 64 {
        wrong.push("the event is not on record".to_owned());
    }
    wrong
}

fn shown(said: Option<&Said>) -> String {
    let text = match said {
        None => "nothing".to_owned(),
        Some(Said::Answer(answer)) => answer.to_string(),
        Some(Said::Error(error)) => format!("the error {error}"),
        Some(Said::NotTaken(why)) => format!("that the payload is not taken: {why}"),
    };
    text.chars().take(300).collect()
}

/// How many messages each of the failure queues holds.
pub(crate) async fn failures(aws: &Aws, stack: &Stack) -> Vec<String> {
    let mut found = Vec::new();
    for output in ["FunctionFailuresUrl", "DeliveryFailuresUrl"] {
        let url = stack.output(output).unwrap();
        let count = QueueAttributeName::ApproximateNumberOfMessages;
        let asked = aws.sqs.get_queue_attributes().queue_url(url).attribute_names(count.clone()).send().await.unwrap();
        let number = asked.attributes().and_then(|all| all.get(&count)).map_or("?", String::as_str).to_owned();
        if number != "0" {
            let message = aws.sqs.receive_message().queue_url(url).send().await.unwrap();
            let body = message.messages().first().and_then(|m| m.body()).unwrap_or_default().to_owned();
            found.push(format!("{output} holds {number}: {body:.600}"));
        }
    }
    found
}

/// Waits until every finding that is to be paged was, and answers what does not hold of the pages.
async fn paged(aws: &Aws, stack: &Stack, inbox: &Inbox) -> Vec<String> {
    let start = Instant::now();
    let mut wrong = Vec::new();
    let left = loop {
        let book = Book::read(aws, stack).await.unwrap();
        let due: BTreeSet<String> =
            book.findings.iter().filter(|f| f.effective == Decision::Notify).map(FindingRecord::subject).collect();
        let sent: BTreeSet<String> = book.pages.iter().map(|page| page.subject.clone()).collect();
        let left: Vec<String> = due.difference(&sent).cloned().collect();
        if left.is_empty() || start.elapsed() > Duration::from_mins(1) {
            break left;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    if !left.is_empty() {
        wrong.push(format!("{} findings were not paged: {}", left.len(), left.join(", ")));
    }
    for page in inbox.take(aws).await.unwrap() {
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c == '\n');
        if !plain(&page.subject) || !plain(&page.body) || page.body.len() > 210_000 {
            wrong.push(format!("a page is not printable: {:?}", page.subject));
        }
    }
    wrong
}

#[test]
fn whatever_arrives_ends_clearly_is_recorded_once_and_changes_nothing() {
    common::in_the_theatre(|theatre| async {
        let (stack, inbox) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let bait = Bait::lay_out(aws, &stack.name).await.unwrap();
        let before = World::look(aws).await.unwrap();
        let mut known = keys(aws, stack).await;
        let began = Instant::now();
        let table: Vec<Case> = [
            findings::shapes(&bait),
            findings::envelopes(&bait),
            findings::sizes(&bait),
            findings::over_the_bus(&bait),
            findings::names(&bait),
            findings::principals(&bait),
            findings::by_arn(&bait),
            findings::functions(&bait),
            securityhub::security_hub(&bait),
            securityhub::cloudtrail(&bait),
            requests::requests(&bait),
        ]
        .concat();
        let names: BTreeSet<&str> = table.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), table.len(), "every case has a name of its own");
        let mut wrong = Vec::new();
        for case in &table {
            wrong.extend(play(aws, stack, case, &mut known).await);
        }
        let took = began.elapsed();
        wrong.extend(paged(aws, stack, inbox).await);
        wrong.extend(failures(aws, stack).await);
        let book = Book::read(aws, stack).await.unwrap();
        wrong.extend(book.steps.iter().map(|step| format!("a step was taken: {} is {}", step.step, step.state)));
        let open = book.incidents.iter().filter(|incident| incident.state != IncidentState::Withheld);
        wrong.extend(open.map(|i| format!("an incident on {} is {}", i.principal.name, i.state)));
        wrong.extend(before.changes(&World::look(aws).await.unwrap()));
        assert!(wrong.is_empty(), "{} of {} cases in {took:?}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
    });
}

#[test]
fn whatever_the_other_functions_are_given_they_say_what_is_wrong_and_change_nothing() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let before = World::look(aws).await.unwrap();
        let book = Book::read(aws, stack).await.unwrap();
        let (played, mut wrong) = functions::play(aws, stack).await;
        let after = Book::read(aws, stack).await.unwrap();
        let counts = |book: &Book| (book.incidents.len(), book.findings.len(), book.steps.len(), book.pause.is_some());
        if counts(&book) != counts(&after) {
            wrong.push(format!("the ledger held {:?}, holds {:?}", counts(&book), counts(&after)));
        }
        wrong.extend(failures(aws, stack).await);
        wrong.extend(before.changes(&World::look(aws).await.unwrap()));
        assert!(wrong.is_empty(), "{} of {played}:\n{}", wrong.len(), wrong.join("\n"));
    });
}

#[test]
fn what_json_allows_and_no_reader_takes_is_recorded_too() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let before = World::look(aws).await.unwrap();
        let mut known = keys(aws, stack).await;
        let function = runtime::Function::start(aws, stack).await;
        let mut wrong = Vec::new();
        for (name, payload, ends) in runtime::payloads() {
            let said = function.invoke(payload).await;
            let new = recorded(aws, stack, &mut known, Way::Invoke).await;
            let held = match (&said, ends) {
                (Said::Answer(answer), runtime::Ends::Recorded(reason)) => {
                    Said::text(answer, "outcome") == "malformed"
                        && matches!(&new[..], [record] if held(record, reason, "malformed").is_empty())
                }
                (Said::Error(error), runtime::Ends::NotTaken) => {
                    !Said::text(error, "errorMessage").is_empty() && new.is_empty()
                }
                _ => false,
            };
            if !held {
                wrong.push(format!("{name}: {} records, answered {}", new.len(), shown(Some(&said))));
            }
        }
        wrong.extend(before.changes(&World::look(aws).await.unwrap()));
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    });
}
