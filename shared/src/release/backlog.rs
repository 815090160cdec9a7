//! What has piled up before a function while it was isolated, and what was lost: told to whoever releases.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_sqs::types::QueueAttributeName;
use firebreak_model::action::ActionId;
use firebreak_model::ids::{FunctionArn, Region, shown_text};
use firebreak_model::ledger::StepRecord;
use firebreak_model::plan::Target;

use crate::action::ActionError;
use crate::actions::read_again;
use crate::clients;
use crate::executor;
use crate::paging;
use crate::telemetry::chain;

/// A queue, as its ARN names it.
#[derive(Debug, PartialEq, Eq)]
struct Queue {
    region: Region,
    url: String,
}

/// The queue that an ARN names; `None` where it names no queue.
fn queue(arn: &str) -> Option<Queue> {
    let mut parts = arn.split(':');
    let (Some("arn"), Some(partition), Some("sqs"), Some(region), Some(account), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let domain = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let well_formed = account.len() == 12 && account.chars().all(|c| c.is_ascii_digit());
    (well_formed && !name.is_empty() && name.chars().all(of_a_name)).then_some(())?;
    Some(Queue { region: region.parse().ok()?, url: format!("https://sqs.{region}.{domain}/{account}/{name}") })
}

/// What to know before the event sources of these steps are read again. What cannot be found out is said to be so.
pub(super) async fn told(sdk: &SdkConfig, steps: &[StepRecord]) -> Vec<String> {
    let mut notes = Vec::new();
    for step in steps {
        let Target::Function(function) = &step.target else { continue };
        match step.action {
            ActionId::DisableEventSources => notes.extend(sources(sdk, function, step).await),
            ActionId::ZeroConcurrency => notes.extend(lost(function, step)),
            _ => {}
        }
    }
    notes
}

/// Since when asynchronous events met a function that is shut, and until when where that is over.
fn lost(function: &FunctionArn, step: &StepRecord) -> Option<String> {
    let since = step.applied_at?;
    let until = step.reverted_at.map(|until| format!(" until {until}")).unwrap_or_default();
    Some(format!(
        "asynchronous events to `{}` since {since}{until} were refused and are lost (CloudWatch: AWS/Lambda \
         AsyncEventsDropped)",
        function.name()
    ))
}

async fn sources(sdk: &SdkConfig, function: &FunctionArn, step: &StepRecord) -> Vec<String> {
    let name = function.name();
    let again = executor::prior_of(step).map(|prior| read_again(&prior)).unwrap_or_default();
    if again.is_empty() {
        return Vec::new();
    }
    let arns = match read_by(sdk, function, &again).await {
        Ok(arns) => arns,
        Err(error) => return vec![format!("what waits before `{name}` is not known: {}", chain(&error))],
    };
    let mut notes = Vec::new();
    for arn in arns {
        let source = shown_text(&arn);
        let Some(queue) = queue(&arn) else {
            notes.push(format!(
                "`{name}` reads `{source}` again from where it stood: what the source kept is worked off, what it let \
                 expire is lost"
            ));
            continue;
        };
        notes.push(match waiting(sdk, &queue).await {
            Ok(count) => format!("about {count} messages wait for `{name}` in `{source}` and are worked off now"),
            Err(error) => format!("how much waits for `{name}` in `{source}` is not known: {}", chain(&error)),
        });
    }
    notes
}

/// What these mappings of the function read, each source once.
async fn read_by(sdk: &SdkConfig, function: &FunctionArn, uuids: &[String]) -> Result<BTreeSet<String>, ActionError> {
    let lambda = clients::lambda_in(sdk, function.region());
    let pages = lambda.list_event_source_mappings().into_paginator().send();
    let pages = paging::read(pages, "lambda:ListEventSourceMappings", &function.to_string()).await?;
    let mut arns = BTreeSet::new();
    for mapping in pages.into_iter().flat_map(|page| page.event_source_mappings.unwrap_or_default()) {
        let is_asked = mapping.uuid().is_some_and(|uuid| uuids.iter().any(|asked| asked == uuid));
        if is_asked && mapping.function_arn().is_some_and(|arn| function.is_of(arn)) {
            arns.extend(mapping.event_source_arn);
        }
    }
    Ok(arns)
}

async fn waiting(sdk: &SdkConfig, queue: &Queue) -> Result<String, ActionError> {
    let count = QueueAttributeName::ApproximateNumberOfMessages;
    let sqs = clients::sqs_in(sdk, &queue.region);
    let get = sqs.get_queue_attributes().queue_url(&queue.url).attribute_names(count.clone());
    let answer = get.send().await.map_err(|e| ActionError::of("sqs:GetQueueAttributes", &queue.url, e))?;
    let found = answer.attributes().and_then(|all| all.get(&count));
    found.filter(|n| n.chars().all(|c| c.is_ascii_digit())).cloned().ok_or_else(|| ActionError::Unreadable {
        target: queue.url.clone(),
        problem: "the answer holds no number of messages".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ledger::StepState;
    use serde_json::json;

    use super::*;
    use crate::testing::{Wire, function_order, json_error, ok};

    #[test]
    fn only_the_arn_of_a_queue_names_one() {
        let found = queue("arn:aws:sqs:eu-west-1:111122223333:orders.fifo").unwrap();
        assert_eq!(found.url, "https://sqs.eu-west-1.amazonaws.com/111122223333/orders.fifo");
        assert!(queue("arn:aws-cn:sqs:cn-north-1:111122223333:q").unwrap().url.contains(".amazonaws.com.cn/"));
        for other in [
            "arn:aws:kinesis:eu-west-1:111122223333:stream/orders",
            "arn:aws:sqs:eu-west-1:111122223333:../x",
            "arn:aws:sqs:eu-west-1:1111:q",
            "arn:aws:sqs:eu-west-1.evil.example:111122223333:q",
            "arn:aws:sqs:eu-west-1:111122223333:q:more",
            "",
        ] {
            assert_eq!(queue(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn what_waits_is_counted_and_what_is_lost_is_said() {
        let (incident, step) = function_order(ActionId::DisableEventSources);
        let applied = |action| {
            let step = firebreak_model::plan::Step { action, target: step.target.clone() };
            let record = incident.step_record(&step, incident.opened_at);
            let before = json!([{"uuid": "a", "state": "Enabled", "enabled": true},
                                {"uuid": "b", "state": "Disabled", "enabled": false},
                                {"uuid": "c", "state": "Enabled", "enabled": true},
                                {"uuid": "d", "state": "Enabled", "enabled": true}]);
            let prior = (action == ActionId::DisableEventSources).then(|| before.to_string());
            StepRecord { state: StepState::Applied, applied_at: Some(incident.opened_at), prior, ..record }
        };
        let mapping = |uuid: &str, source: &str| {
            json!({"UUID": uuid, "State": "Disabled", "EventSourceArn": source,
                   "FunctionArn": "arn:aws:lambda:eu-west-1:111122223333:function:orders:live"})
        };
        let queue = "arn:aws:sqs:eu-west-1:111122223333:orders";
        // Two read one queue; what was off before is off afterwards, and nobody works it off.
        let mappings = json!({"EventSourceMappings": [mapping("a", queue), mapping("d", queue),
            mapping("b", "arn:aws:sqs:eu-west-1:111122223333:off-before"),
            mapping("c", "arn:aws:kinesis:eu-west-1:111122223333:stream/s")]});
        let count = json!({"Attributes": {"ApproximateNumberOfMessages": "70"}});
        let wire = Wire::answering([ok(mappings.to_string()), ok(count.to_string())]);
        let steps = [applied(ActionId::ZeroConcurrency), applied(ActionId::DisableEventSources)];
        let notes = told(&wire.config(), &steps).await;
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].contains("since 2026-11-21T03:00:00Z were refused and are lost"), "{notes:?}");
        assert!(notes[1].contains("stream/s` again from where it stood"), "{notes:?}");
        assert!(notes[2].contains("about 70 messages wait for `orders`"), "{notes:?}");
        assert_eq!(wire.unused(), 0);

        let wire = Wire::answering([ok(mappings.to_string()), json_error(403, "AccessDeniedException")]);
        let notes = told(&wire.config(), &steps).await;
        assert!(notes[2].contains("is not known"), "{notes:?}");
        // A release that goes on tells it too.
        let undone = StepRecord { reverted_at: Some(incident.opened_at), ..applied(ActionId::ZeroConcurrency) };
        let notes = told(&Wire::answering([]).config(), &[undone]).await;
        assert!(notes[0].contains("since 2026-11-21T03:00:00Z until 2026-11-21T03:00:00Z"), "{notes:?}");
        let nothing = StepRecord { prior: Some("[]".to_owned()), ..applied(ActionId::DisableEventSources) };
        assert!(told(&Wire::answering([]).config(), &[nothing]).await.is_empty());
    }
}
