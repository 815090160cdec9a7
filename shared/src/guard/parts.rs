//! Firebreak's own parts: whether each is there, switched on and connected. What is missing goes on record, and into a
//! metric with an alarm of its own: where the stream or the bus is what is missing, no page would leave otherwise.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{StreamSpecification, TableDescription};
use aws_sdk_eventbridge::types::RuleState;
use aws_sdk_kms::types::KeyState;
use firebreak_model::SCHEMA;
use firebreak_model::action::FunctionName;
use firebreak_model::ids::shown;
use firebreak_model::ledger::PartsRecord;
use serde_json::{Value, json};
use tracing::warn;

use super::Guard;
use crate::action::{ActionError, Permission, Resource};
use crate::actions::iam_deny_policy::emptied;
use crate::clients;
use crate::clock;
use crate::failure::Failure;
use crate::metrics::{self, Metric};
use crate::telemetry::chain;
use deployed::{Seen, Stack};

pub(super) mod deployed;
mod queues;
pub(super) mod rights;

/// What looking at them needs, beside reading functions.
pub const PERMISSIONS: &[Permission] = &[
    Permission { action: "events:DescribeRule", on: Resource::OwnRule },
    Permission { action: "events:ListTargetsByRule", on: Resource::OwnRule },
    Permission { action: "iam:GetPolicy", on: Resource::DenyPolicy },
    Permission { action: "iam:GetPolicyVersion", on: Resource::DenyPolicy },
    Permission { action: "iam:GetRole", on: Resource::Role },
    Permission { action: "iam:GetRolePolicy", on: Resource::Role },
    Permission { action: "iam:ListAttachedRolePolicies", on: Resource::Role },
    Permission { action: "iam:ListRolePolicies", on: Resource::Role },
    Permission { action: "lambda:ListFunctionEventInvokeConfigs", on: Resource::Function },
    Permission { action: "dynamodb:DescribeTable", on: Resource::Table },
    Permission { action: "dynamodb:GetResourcePolicy", on: Resource::Table },
    Permission { action: "dynamodb:GetResourcePolicy", on: Resource::Stream },
    Permission { action: "events:DescribeEventBus", on: Resource::Bus },
    Permission { action: "sns:GetTopicAttributes", on: Resource::Topic },
    Permission { action: "kms:DescribeKey", on: Resource::Key },
    Permission { action: "kms:DescribeKey", on: Resource::SealKey },
    Permission { action: "kms:DescribeKey", on: Resource::EvidenceSigningKey },
    Permission { action: "kms:GetKeyPolicy", on: Resource::Key },
    Permission { action: "kms:GetKeyPolicy", on: Resource::SealKey },
    Permission { action: "kms:GetKeyPolicy", on: Resource::EvidenceSigningKey },
    Permission { action: "sqs:GetQueueAttributes", on: Resource::OwnQueue },
    Permission { action: "cloudtrail:DescribeTrails", on: Resource::Any },
    Permission { action: "cloudtrail:GetTrailStatus", on: Resource::Trail },
    Permission { action: "cloudformation:DescribeStacks", on: Resource::OwnStack },
];

/// What a rule of ours leads to.
#[derive(Debug, Clone, Copy)]
enum To {
    Function(FunctionName),
    Queue(&'static str),
}

/// Every rule without which something would not be contained, undone, told or watched; whether it is on our own bus.
const RULES: [(&str, bool, To); 15] = [
    ("findings", false, To::Function(FunctionName::QuarantinePrincipal)),
    ("sweep", false, To::Function(FunctionName::GuardContainment)),
    ("changes", false, To::Function(FunctionName::GuardContainment)),
    ("put-back", true, To::Function(FunctionName::QuarantinePrincipal)),
    ("revoke", true, To::Function(FunctionName::RevokeSessions)),
    ("isolate", true, To::Function(FunctionName::IsolateFunction)),
    ("snapshot", true, To::Function(FunctionName::SnapshotLogs)),
    ("report", true, To::Function(FunctionName::SnapshotLogs)),
    ("notify", true, To::Function(FunctionName::NotifyResponders)),
    ("recycle", true, To::Queue("recycle")),
    ("watch", true, To::Queue("recheck")),
    ("trace", true, To::Queue("trace")),
    ("expire-revocations", false, To::Function(FunctionName::RevokeSessions)),
    ("assess-identities", false, To::Function(FunctionName::AssessIdentities)),
    ("assess-after-deployment", false, To::Function(FunctionName::AssessIdentities)),
];

/// Those that go with `revoke-sessions`.
const OF_REVOCATION: [&str; 3] = ["revoke", "trace", "expire-revocations"];

/// The rule that a drill's findings come by: enabled where drills are, and nowhere else.
const DRILLS: &str = "drill-findings";

/// The functions that poll.
const POLLING: [FunctionName; 5] = [
    FunctionName::PublishOutcomes,
    FunctionName::RevokeSessions,
    FunctionName::IsolateFunction,
    FunctionName::SnapshotLogs,
    FunctionName::GuardContainment,
];

type Missing = Result<Vec<String>, ActionError>;

impl Guard {
    /// Looks at every part, records what is missing where it is news, and writes the metrics.
    pub(super) async fn look_at_own_parts(&self) -> Result<Vec<String>, Failure> {
        let mut missing = Vec::new();
        let mut note = |what: &str, found: Missing| match found {
            Ok(found) => missing.extend(found),
            // What is throttled is looked at the next time.
            Err(error) if error.is_transient() => warn!("{what} was not looked at: {}", chain(&error)),
            Err(ActionError::Gone { target }) => missing.push(format!("{what}: `{target}` does not exist")),
            Err(error) => missing.push(format!("{what} cannot be looked at: {}", chain(&error))),
        };
        let mut seen = Seen::default();
        let stack = match self.stack().await {
            Ok(stack) => stack,
            Err(error) => {
                note("the stack", Err(error));
                Stack::Changing
            }
        };
        note("the deny policy", self.deny_policy().await);
        let mut policies = BTreeMap::new();
        for function in self.functions() {
            note(&format!("the function `{function}`"), self.function(function, &mut seen).await);
            let policy = self.policy(function, &mut seen).await;
            note(
                &format!("the policy of `{function}`"),
                policy.map(|policy| {
                    policies.insert(function, policy);
                    Vec::new()
                }),
            );
            let failures = self.failures(function, &mut seen).await;
            note(&format!("what becomes of an invocation of `{function}` that fails"), failures);
        }
        for (function, role) in self.roles().await {
            let role = role.map(|role| seen.role(function, role));
            note(&format!("the role of `{function}`"), role.map(|()| Vec::new()));
        }
        for (rule, on_bus, to) in RULES {
            if self.without_revocation && OF_REVOCATION.contains(&rule) {
                continue;
            }
            note(&format!("the rule `{rule}`"), self.rule(rule, on_bus, to, &policies, &mut seen).await);
        }
        for function in POLLING {
            if self.without_revocation && function == FunctionName::RevokeSessions {
                continue;
            }
            note(&format!("what wakes `{function}`"), self.polls(function, &mut seen).await);
        }
        note(&format!("the rule `{DRILLS}`"), self.drills(&policies, &mut seen).await);
        note("the queues", self.queues(&mut seen).await);
        for (what, arn) in [
            ("the key of evidence and pages", &self.own.key),
            ("the key of the ledger's seals", &self.own.seal_key),
            ("the key that signs evidence", &self.own.signing_key),
        ] {
            note(what, self.key(what, arn).await);
            note(&format!("the policy of {what}"), self.key_policy(what, arn, &mut seen).await);
        }
        let mut stream = None;
        let table = self.table(&seen).await.map(|(missing, arn)| {
            stream = arn;
            missing
        });
        note("the ledger", table);
        note("the policy of the ledger", self.ledger_policy("the ledger", &self.table_arn, &mut seen).await);
        if let Some(stream) = stream {
            let what = "the ledger's stream";
            note(&format!("the policy of {what}"), self.ledger_policy(what, &stream, &mut seen).await);
        }
        note("the bus", self.bus(&mut seen).await);
        note("the topic of pages", self.topic(&mut seen).await);
        note("CloudTrail", self.trails().await);
        note("what was deployed", self.unlike_deployed(stack, &seen).await);
        missing.sort();
        write_metrics(missing.len());
        let before = self.ledger.parts().await?;
        if before.as_ref().map_or(&[][..], |parts| parts.missing.as_slice()) != missing {
            let parts = PartsRecord { schema: SCHEMA, missing: missing.clone(), since: clock::now() };
            self.ledger.keep_parts(&parts).await?;
        }
        Ok(missing)
    }

    async fn deny_policy(&self) -> Missing {
        Ok(emptied(&self.iam, &self.deny_policy_arn).await?.into_iter().collect())
    }

    /// The functions that this stack has.
    fn functions(&self) -> impl Iterator<Item = FunctionName> {
        let left_out = self.without_revocation.then_some(FunctionName::RevokeSessions);
        FunctionName::ALL.iter().copied().filter(move |function| Some(*function) != left_out)
    }

    async fn rule(
        &self,
        name: &str,
        on_bus: bool,
        to: To,
        policies: &BTreeMap<FunctionName, Value>,
        seen: &mut Seen,
    ) -> Missing {
        let full = format!("{}-{name}", self.stack);
        let bus = on_bus.then(|| self.stack.clone());
        let rule = self.events.describe_rule().name(&full).set_event_bus_name(bus.clone()).send().await;
        let rule = rule.map_err(|e| ActionError::of("events:DescribeRule", &full, e))?;
        let mut missing = Vec::new();
        if rule.state() != Some(&RuleState::Enabled) {
            missing.push(format!("the rule `{name}` is not enabled"));
        }
        let targets = self.events.list_targets_by_rule().rule(&full).set_event_bus_name(bus).send().await;
        let targets = targets.map_err(|e| ActionError::of("events:ListTargetsByRule", &full, e))?;
        let wanted = match to {
            To::Function(function) => format!(":function:{}-{function}", self.stack),
            To::Queue(queue) => format!(":{}-{queue}", self.stack),
        };
        seen.rule(name, &rule, targets.targets());
        if !targets.targets().iter().any(|target| target.arn().ends_with(&wanted)) {
            missing.push(format!("the rule `{name}` has lost its target"));
        }
        // Of a policy that could not be read, that is told.
        if let To::Function(function) = to
            && policies.get(&function).is_some_and(|policy| !lets_in(policy, rule.arn().unwrap_or_default()))
        {
            missing.push(format!("the rule `{name}` may not invoke `{function}`"));
        }
        Ok(missing)
    }

    /// A drill that can be sent where drills are disabled acts under the drill path only, and tells of somebody who wants
    /// one; where they are enabled, one that does not arrive shows nothing.
    async fn drills(&self, policies: &BTreeMap<FunctionName, Value>, seen: &mut Seen) -> Missing {
        if self.with_drills {
            return self.rule(DRILLS, false, To::Function(FunctionName::QuarantinePrincipal), policies, seen).await;
        }
        let full = format!("{}-{DRILLS}", self.stack);
        let rule = self.events.describe_rule().name(&full).send().await;
        let rule = rule.map_err(|e| ActionError::of("events:DescribeRule", &full, e))?;
        let enabled = rule.state() != Some(&RuleState::Disabled);
        Ok(if enabled { vec![format!("the rule `{DRILLS}` is enabled, and drills are not")] } else { Vec::new() })
    }

    async fn key(&self, what: &str, arn: &str) -> Missing {
        let kms = clients::kms(&self.sdk);
        let answer = kms.describe_key().key_id(arn).send().await;
        let answer = answer.map_err(|e| ActionError::of("kms:DescribeKey", arn, e))?;
        let state = answer.key_metadata().and_then(|key| key.key_state());
        if state == Some(&KeyState::Enabled) {
            return Ok(Vec::new());
        }
        Ok(vec![format!("{what} is `{}`", shown(state.map_or("in no state", KeyState::as_str)))])
    }

    /// A function's own policy. A function without one admits nobody.
    async fn policy(&self, function: FunctionName, seen: &mut Seen) -> Result<Value, ActionError> {
        let name = format!("{}-{function}", self.stack);
        let policy = self.lambda.get_policy().function_name(&name).send().await;
        let policy = match policy.map_err(|e| ActionError::of("lambda:GetPolicy", &name, e)) {
            Ok(answer) => answer.policy.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            Err(ActionError::Gone { .. }) => Value::Null,
            Err(error) => return Err(error),
        };
        seen.policy(&format!("the function `{function}`"), &policy);
        Ok(policy)
    }

    async fn function(&self, function: FunctionName, seen: &mut Seen) -> Missing {
        let name = format!("{}-{function}", self.stack);
        let answer = self.lambda.get_function_configuration().function_name(&name).send().await;
        let configuration = answer.map_err(|e| ActionError::of("lambda:GetFunctionConfiguration", &name, e))?;
        seen.function(function, &configuration);
        let mut missing = Vec::new();
        let own = format!(":role/firebreak/{name}");
        if configuration.role().is_none_or(|role| !role.ends_with(&own)) {
            missing.push(format!("the function `{function}` runs as another role"));
        }
        let answer = self.lambda.get_function_concurrency().function_name(&name).send().await;
        let answer = answer.map_err(|e| ActionError::of("lambda:GetFunctionConcurrency", &name, e))?;
        if answer.reserved_concurrent_executions() == Some(0) {
            missing.push(format!("the function `{function}` has concurrency 0"));
        }
        Ok(missing)
    }

    async fn polls(&self, function: FunctionName, seen: &mut Seen) -> Missing {
        let name = format!("{}-{function}", self.stack);
        let answer = self.lambda.list_event_source_mappings().function_name(&name).send().await;
        let answer = answer.map_err(|e| ActionError::of("lambda:ListEventSourceMappings", &name, e))?;
        let off = |state: Option<&str>| !matches!(state, Some("Enabled" | "Enabling" | "Creating" | "Updating"));
        let mappings = answer.event_source_mappings();
        seen.mappings(function, mappings);
        let asleep = mappings.is_empty() || mappings.iter().any(|mapping| off(mapping.state()));
        Ok(if asleep { vec![format!("the event source of `{function}` is off")] } else { Vec::new() })
    }

    /// What is missing of the ledger's table, and its stream.
    async fn table(&self, seen: &Seen) -> Result<(Vec<String>, Option<String>), ActionError> {
        let answer = self.dynamodb.describe_table().table_name(&self.own.table).send().await;
        let answer = answer.map_err(|e| ActionError::of("dynamodb:DescribeTable", &self.own.table, e))?;
        let table = answer.table();
        let streams = table.and_then(|t| t.stream_specification()).is_some_and(StreamSpecification::stream_enabled);
        let guarded = table.and_then(TableDescription::deletion_protection_enabled) == Some(true);
        let mut missing = Vec::new();
        if !streams {
            missing.push("the ledger has no stream: nothing is told or carried on".to_owned());
        } else if table.and_then(TableDescription::latest_stream_arn).is_some_and(|stream| !seen.may_be_read(stream)) {
            missing.push(
                "nobody reads the ledger's stream, which is another one by now: deploy the stack again".to_owned(),
            );
        }
        if !guarded {
            missing.push("the ledger may be deleted".to_owned());
        }
        Ok((missing, table.and_then(TableDescription::latest_stream_arn).map(str::to_owned)))
    }

    async fn topic(&self, seen: &mut Seen) -> Missing {
        let answer = self.sns.get_topic_attributes().topic_arn(&self.own.topic_arn).send().await;
        let answer = answer.map_err(|e| ActionError::of("sns:GetTopicAttributes", &self.own.topic_arn, e))?;
        let attribute = |name: &str| answer.attributes().and_then(|all| all.get(name)).cloned();
        let policy = attribute("Policy").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        seen.policy("the topic of pages", &policy);
        seen.configuration("the topic of pages", &[&attribute("KmsMasterKeyId").unwrap_or_default()]);
        let confirmed = attribute("SubscriptionsConfirmed");
        let reached = confirmed.and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count > 0);
        Ok(if reached { Vec::new() } else { vec!["nobody is subscribed to the pages".to_owned()] })
    }

    /// Whether any trail is logging: without one, EventBridge is told of nothing.
    async fn trails(&self) -> Missing {
        let cloudtrail = clients::cloudtrail(&self.sdk);
        let answer = cloudtrail.describe_trails().send().await;
        let answer = answer.map_err(|e| ActionError::of("cloudtrail:DescribeTrails", "trails", e))?;
        for trail in answer.trail_list() {
            let Some(arn) = trail.trail_arn() else { continue };
            let status = cloudtrail.get_trail_status().name(arn).send().await;
            // An organisation's trail is another account's to ask about: that it is there is all that is known.
            let foreign = trail.is_organization_trail() == Some(true);
            match status.map_err(|e| ActionError::of("cloudtrail:GetTrailStatus", arn, e)) {
                Ok(status) if status.is_logging() == Some(true) => return Ok(Vec::new()),
                Err(_) if foreign => return Ok(Vec::new()),
                Ok(_) | Err(ActionError::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(vec!["no trail is logging: changes are found by the sweep alone".to_owned()])
    }
}

/// Whether a function's policy admits a rule.
fn lets_in(policy: &Value, rule: &str) -> bool {
    let statements = policy.get("Statement").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    statements.iter().any(|statement| {
        let allows = statement.get("Effect") == Some(&json!("Allow"));
        let source = statement.pointer("/Condition/ArnLike/AWS:SourceArn");
        allows && source.and_then(Value::as_str) == Some(rule)
    })
}

/// The heartbeat, whose absence is an alarm, and how many parts are missing, in the embedded metric format.
fn write_metrics(missing: usize) {
    let missing = i64::try_from(missing).unwrap_or(i64::MAX);
    metrics::write(&[Metric::count("GuardHeartbeat", 1), Metric::count("PartsMissing", missing)]);
}
