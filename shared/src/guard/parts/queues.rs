//! The stack's queues: whether each is there, lets in the rules that fill it, and gives what fails to the queue behind it.
//! A thief who takes one of these away has orders, re-checks and searches dropped without a trace.

use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::Value;

use super::deployed::{Seen, written_one_way};
use super::{DRILLS, Guard, Missing, OF_REVOCATION, RULES};
use crate::action::ActionError;

/// The queues with the rule that fills each, which is not always named as they are; what fails in them goes to
/// `<name>-failures`. Evidence comes from `snapshot-logs` itself, by the right of its role.
const FED: [(&str, Option<&str>); 4] =
    [("recheck", Some("watch")), ("recycle", Some("recycle")), ("trace", Some("trace")), ("evidence", None)];

/// The queues of what failed.
const FAILURES: [&str; 6] = [
    "delivery-failures",
    "function-failures",
    "recheck-failures",
    "recycle-failures",
    "trace-failures",
    "evidence-failures",
];

/// What is read of one.
struct Queue {
    policy: Value,
    redrive: Value,
    /// As text, each.
    settings: Vec<String>,
}

/// What a queue is configured with, beside its policy.
const SETTINGS: [QueueAttributeName; 5] = [
    QueueAttributeName::DelaySeconds,
    QueueAttributeName::MessageRetentionPeriod,
    QueueAttributeName::VisibilityTimeout,
    QueueAttributeName::KmsMasterKeyId,
    QueueAttributeName::RedrivePolicy,
];

impl Guard {
    pub(super) async fn queues(&self, seen: &mut Seen) -> Missing {
        let mut missing = Vec::new();
        let left_out = |rule: &str| self.without_revocation && OF_REVOCATION.contains(&rule);
        for (name, rule) in FED.into_iter().filter(|(_, rule)| !rule.is_some_and(left_out)) {
            let Some(queue) = self.queue(name).await? else {
                missing.push(format!("the queue `{name}` does not exist"));
                continue;
            };
            seen.policy(&format!("the queue `{name}`"), &queue.policy);
            seen.queue(name, &queue.settings);
            let target = queue.redrive.get("deadLetterTargetArn").and_then(Value::as_str).unwrap_or_default();
            if !target.ends_with(&format!(":{}-{name}-failures", self.stack)) {
                missing.push(format!("what fails in the queue `{name}` goes nowhere"));
            }
            if let Some(rule) = rule
                && !lets_in(&queue.policy, &self.rule_ending(rule))
            {
                missing.push(format!("the queue `{name}` does not let the rule `{rule}` in"));
            }
        }
        for name in FAILURES.into_iter().filter(|name| !left_out(name.trim_end_matches("-failures"))) {
            let Some(queue) = self.queue(name).await? else {
                missing.push(format!("the queue `{name}` does not exist"));
                continue;
            };
            seen.policy(&format!("the queue `{name}`"), &queue.policy);
            seen.queue(name, &queue.settings);
            if name == "delivery-failures" {
                let rules = RULES.iter().map(|(rule, ..)| *rule).chain([DRILLS]).filter(|rule| !left_out(rule));
                for rule in rules.filter(|rule| !lets_in(&queue.policy, &self.rule_ending(rule))) {
                    missing.push(format!("what the rule `{rule}` cannot deliver is lost: `{name}` does not let it in"));
                }
            }
        }
        Ok(missing)
    }

    /// How the ARN of a rule of ours ends, on its bus.
    fn rule_ending(&self, rule: &str) -> String {
        let on_bus = RULES.iter().any(|(name, on_bus, _)| *name == rule && *on_bus);
        let bus = if on_bus { format!("{}/", self.stack) } else { String::new() };
        format!(":rule/{bus}{}-{rule}", self.stack)
    }

    async fn queue(&self, name: &str) -> Result<Option<Queue>, ActionError> {
        let name = format!("{}-{name}", self.stack);
        // All of them are where the queue of re-checks is.
        let place = self.queue_url.rsplit_once('/').map_or("", |(place, _)| place);
        let ask = self.sqs.get_queue_attributes().queue_url(format!("{place}/{name}"));
        let wanted = SETTINGS.into_iter().chain([QueueAttributeName::Policy]);
        let ask = ask.set_attribute_names(Some(wanted.collect()));
        let answer = match ask.send().await {
            Ok(answer) => answer,
            Err(error) if error.as_service_error().is_some_and(GetQueueAttributesError::is_queue_does_not_exist) => {
                return Ok(None);
            }
            Err(error) => return Err(ActionError::of("sqs:GetQueueAttributes", &name, error)),
        };
        let attributes = answer.attributes.unwrap_or_default();
        let read = |which: QueueAttributeName| {
            attributes.get(&which).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        let (policy, redrive) = (read(QueueAttributeName::Policy), read(QueueAttributeName::RedrivePolicy));
        let shown = |which| attributes.get(which).map(|text| written_one_way(text)).unwrap_or_default();
        let settings = SETTINGS.iter().map(shown).collect();
        Ok(Some(Queue { policy, redrive, settings }))
    }
}

/// Whether a queue's policy lets EventBridge send for the rule whose ARN ends so.
fn lets_in(policy: &Value, rule: &str) -> bool {
    let statements = policy.get("Statement").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    statements.iter().any(|statement| {
        let text = |path: &str| statement.pointer(path).and_then(Value::as_str);
        let sends = text("/Action").is_some_and(|action| action.eq_ignore_ascii_case("sqs:SendMessage"));
        let by_events = text("/Principal/Service") == Some("events.amazonaws.com");
        let sources = match statement.pointer("/Condition/ArnEquals/aws:SourceArn") {
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            one => one.and_then(Value::as_str).into_iter().collect::<Vec<_>>(),
        };
        text("/Effect") == Some("Allow") && sends && by_events && sources.iter().any(|arn| arn.ends_with(rule))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_statement_for_the_rule_itself_lets_it_in() {
        let statement = json!({"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage", "Resource": "q",
            "Condition": {"ArnEquals": {"aws:SourceArn": ["arn:aws:events:r:1:rule/fb/fb-notify", "arn:aws:events:r:1:rule/fb-sweep"]}}});
        let policy = |change: &str, value: Value| {
            let mut changed = statement.clone();
            if let Some(place) = changed.pointer_mut(change) {
                *place = value;
            }
            json!({"Statement": [changed]})
        };
        let whole = policy("/Resource", json!("q"));
        assert!(lets_in(&whole, ":rule/fb/fb-notify") && lets_in(&whole, ":rule/fb-sweep"));
        assert!(!lets_in(&whole, ":rule/fb-findings"));
        for (place, value) in [
            ("/Effect", json!("Deny")),
            ("/Principal/Service", json!("sns.amazonaws.com")),
            ("/Action", json!("sqs:ReceiveMessage")),
            ("/Condition/ArnEquals/aws:SourceArn", json!("arn:aws:events:r:1:rule/other")),
            ("/Condition", json!({})),
        ] {
            assert!(!lets_in(&policy(place, value), ":rule/fb-sweep"), "{place}");
        }
        assert!(!lets_in(&json!({}), ":rule/fb-sweep"));
    }
}
