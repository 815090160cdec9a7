//! Log events of a function: every stream of its log group, for a window round the finding.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use firebreak_model::ids::{self, FunctionArn};
use serde::Serialize;
use serde_json::json;

use super::manifest::{ApiCall, Gap, Lack};
use super::sink::Sink;
use super::{Collected, Run};
use crate::action::ActionError;
use crate::clock;

const CALL: &str = "logs:FilterLogEvents";

/// A client for the Region that a function logs in. `FilterLogEvents` is limited to a few calls a second: it waits
/// longer for its turn than other clients do, since what is not collected now may be gone later.
pub(super) fn client_in(config: &SdkConfig, region: &ids::Region) -> Client {
    let region = Region::new(region.as_str().to_owned());
    let mut builder = aws_sdk_cloudwatchlogs::config::Builder::from(config).region(region);
    if let Some(patient) = config.retry_config().filter(|retry| retry.has_retry()) {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(2))
            .operation_attempt_timeout(Duration::from_secs(10))
            .operation_timeout(Duration::from_secs(45));
        builder = builder.retry_config(patient.clone().with_max_attempts(10)).timeout_config(timeouts.build());
    }
    Client::from_conf(builder.build())
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names that CloudWatch Logs uses")]
struct Event<'a> {
    log_group: &'a str,
    log_stream: Option<&'a str>,
    /// Milliseconds since 1970, as the function said.
    timestamp: Option<i64>,
    /// Milliseconds since 1970, as CloudWatch Logs says.
    ingestion_time: Option<i64>,
    event_id: Option<&'a str>,
    message: Option<&'a str>,
}

impl<'a> Event<'a> {
    fn of(log_group: &'a str, event: &'a FilteredLogEvent) -> Self {
        Self {
            log_group,
            log_stream: event.log_stream_name(),
            timestamp: event.timestamp(),
            ingestion_time: event.ingestion_time(),
            event_id: event.event_id(),
            message: event.message(),
        }
    }
}

/// Collects the events of `log_group`, which `function` logs to.
pub(super) async fn collect(client: &Client, run: &Run<'_>, function: &FunctionArn, log_group: &str) -> Collected {
    let what = function.to_string();
    let source = ApiCall::new(
        CALL,
        json!({
            "region": function.region(),
            "logGroupName": log_group,
            "startTime": run.from.as_millisecond(),
            "endTime": run.to.as_millisecond(),
        }),
    );
    let base = format!("{}/logs/{}", run.prefix, super::function::file_name(function));
    let mut sink = Sink::new(run.store, base, &what);
    sink.source(source.clone());
    let mut collected = Collected::default();
    let mut answered = false;
    let mut pages = client
        .filter_log_events()
        .log_group_name(log_group)
        .start_time(run.from.as_millisecond())
        .end_time(run.to.as_millisecond())
        .into_paginator()
        .send();
    let mut more = None;
    'pages: while let Some(page) = pages.next().await {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                more = None;
                collected.gap(&what, source.clone(), &ActionError::of(CALL, log_group, error));
                break;
            }
        };
        answered = true;
        for event in page.events() {
            if let Err(error) = sink.line(&Event::of(log_group, event)).await {
                more = None;
                collected.not_stored(&what, source.clone(), error);
                break 'pages;
            }
        }
        more = page.next_token.filter(|token| !token.is_empty());
        if more.is_some() && clock::now() >= run.deadline {
            break;
        }
    }
    if more.is_some() {
        let (lack, reason) = if clock::now() >= run.deadline {
            (Lack::OutOfTime, "the time of the invocation was over before the last page")
        } else {
            (Lack::Rejected, "the API repeated a page instead of going on")
        };
        collected.gaps.push(Gap { what: what.clone(), source: source.clone(), lack, reason: reason.to_owned() });
    }
    if answered {
        let (entries, result) = sink.finish().await;
        collected.entries = entries;
        if let Err(error) = result {
            collected.not_stored(&what, source, error);
        }
    }
    collected
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::evidence::testing::{Bucket, run, unzipped};
    use crate::testing::{Answer, Wire, json_error, ok};

    const FIRST: &str = "POST / Logs_20140328.FilterLogEvents {\"logGroupName\":\"/custom/orders\",\
                         \"startTime\":1795226400000,\"endTime\":1795230005000}";
    const SECOND: &str = "POST / Logs_20140328.FilterLogEvents {\"logGroupName\":\"/custom/orders\",\
                          \"startTime\":1795226400000,\"endTime\":1795230005000,\"nextToken\":\"t1\"}";
    const KEY: &str = "p/logs/c934f6418ca24761-0001.jsonl.gz";

    fn function() -> FunctionArn {
        "arn:aws:lambda:eu-west-1:111122223333:function:orders".parse().unwrap()
    }

    fn page(messages: &[&str], token: Option<&str>) -> Answer {
        let events: Vec<_> = messages
            .iter()
            .map(|m| json!({"logStreamName": "s", "timestamp": 1, "ingestionTime": 2, "eventId": "e", "message": m}))
            .collect();
        ok(json!({"events": events, "nextToken": token}).to_string())
    }

    async fn collected(wire: &Wire, bucket: &Bucket) -> Collected {
        let store = bucket.store();
        let client = client_in(&wire.config(), function().region());
        collect(&client, &run(&store), &function(), "/custom/orders").await
    }

    fn messages(bucket: &Bucket) -> Vec<String> {
        let content = unzipped(&bucket.object(KEY).unwrap());
        let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].clone();
        content.lines().map(|line| message(line).as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn every_page_is_followed_the_empty_ones_too() {
        let wire = Wire::answering([page(&["a", "b"], Some("t1")), page(&[], Some("t2")), page(&["c"], None)]);
        let bucket = Bucket::default();
        let collected = collected(&wire, &bucket).await;
        assert_eq!(collected.gaps, []);
        assert_eq!(collected.entries[0].lines, 3);
        assert_eq!(messages(&bucket), ["a", "b", "c"]);
        let requests = wire.requests();
        assert_eq!(&requests[..2], [FIRST, SECOND]);
        assert_eq!(requests.len(), 3);
    }

    #[tokio::test]
    async fn a_quiet_log_group_is_an_entry_without_lines() {
        let bucket = Bucket::default();
        let collected = collected(&Wire::answering([page(&[], None)]), &bucket).await;
        assert_eq!(collected.gaps, []);
        assert_eq!(collected.entries[0].lines, 0);
        assert!(messages(&bucket).is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_a_gap_with_its_reason() {
        for (answer, lack) in [
            (json_error(400, "ResourceNotFoundException"), Lack::Gone),
            (json_error(400, "AccessDeniedException"), Lack::Denied),
            (json_error(400, "ThrottlingException"), Lack::Throttled),
            (json_error(400, "InvalidParameterException"), Lack::Rejected),
            (Answer::Lost, Lack::NoAnswer),
        ] {
            let bucket = Bucket::default();
            let collected = collected(&Wire::answering([answer]), &bucket).await;
            assert_eq!(collected.gaps.iter().map(|g| g.lack).collect::<Vec<_>>(), [lack]);
            assert_eq!(collected.gaps[0].source.parameters["logGroupName"], "/custom/orders");
            assert!(collected.gaps[0].reason.contains("/custom/orders"), "{}", collected.gaps[0].reason);
            assert_eq!((collected.entries.len(), bucket.requests().len()), (0, 0));
        }
    }

    #[tokio::test]
    async fn a_log_group_deleted_midway_leaves_what_was_read_and_a_gap() {
        let wire = Wire::answering([page(&["a"], Some("t1")), json_error(400, "ResourceNotFoundException")]);
        let bucket = Bucket::default();
        let collected = collected(&wire, &bucket).await;
        assert_eq!(collected.gaps[0].lack, Lack::Gone);
        assert_eq!(messages(&bucket), ["a"]);
    }

    #[tokio::test]
    async fn when_time_is_over_the_rest_is_a_gap() {
        let wire = Wire::answering([page(&["a"], Some("t1")), page(&["b"], None)]);
        let bucket = Bucket::default();
        let store = bucket.store();
        let late = Run { deadline: jiff::Timestamp::UNIX_EPOCH, ..run(&store) };
        let client = client_in(&wire.config(), function().region());
        let collected = collect(&client, &late, &function(), "/custom/orders").await;
        assert_eq!(collected.gaps[0].lack, Lack::OutOfTime);
        assert_eq!((messages(&bucket), wire.unused()), (vec!["a".to_owned()], 1));
    }

    #[tokio::test]
    async fn an_api_that_repeats_its_token_is_not_taken_for_the_end() {
        let wire = Wire::answering([page(&["a"], Some("t1")), page(&["b"], Some("t1"))]);
        let bucket = Bucket::default();
        let collected = collected(&wire, &bucket).await;
        assert_eq!(collected.gaps[0].lack, Lack::Rejected);
    }

    #[tokio::test]
    async fn what_cannot_be_stored_is_a_gap_and_fails_the_run() {
        let bucket = Bucket::default();
        bucket.answer_puts_with(503);
        let collected = collected(&Wire::answering([page(&["a"], None)]), &bucket).await;
        assert_eq!(collected.gaps[0].lack, Lack::NotStored);
        assert!(collected.unstored.is_some());
    }
}
