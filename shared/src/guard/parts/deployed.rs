//! Whether Firebreak's own parts are what was deployed. What is read of them anyway is digested, and compared with the
//! first looks after the stack's last deployment.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::StackStatus;
use aws_sdk_eventbridge::operation::describe_rule::DescribeRuleOutput;
use aws_sdk_eventbridge::types::{DeadLetterConfig, Target};
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput as Configuration;
use aws_sdk_lambda::types::{
    EventSourceMappingConfiguration, FileSystemConfig, Filter, FilterCriteria, FunctionEventInvokeConfig, OnFailure,
    OnSuccess, Runtime,
};
use firebreak_model::action::FunctionName;
use firebreak_model::deployed::{Deployed, Digests};
use firebreak_model::ids::digest;
use jiff::Timestamp;
use serde_json::Value;
use tracing::warn;

use super::rights::Rights;
use super::{Guard, Missing};
use crate::action::ActionError;
use crate::clients;
use crate::ledger::LedgerError;
use crate::telemetry::chain;

/// How a deployment stands.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::guard) enum Stack {
    /// The last one was brought to its end; when it began.
    At(Timestamp),
    /// One is under way.
    Changing,
    /// The last one was brought to no end; how it stands.
    Broken(String),
}

/// What was seen of the parts in one look.
#[derive(Debug, Default)]
pub(in crate::guard) struct Seen {
    digests: Digests,
    /// What `publish-outcomes` is woken by, where that could be read.
    read_streams: Option<Vec<String>>,
}

impl Seen {
    /// All of it.
    #[cfg(test)]
    pub(in crate::guard) fn digests(&self) -> &Digests {
        &self.digests
    }

    fn add(&mut self, thing: String, parts: &[&str]) {
        self.digests.insert(thing, digest(parts).chars().take(24).collect());
    }

    /// A thing of parts that come in any order.
    fn add_sorted(&mut self, thing: String, mut parts: Vec<String>) {
        parts.sort();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.add(thing, &parts);
    }

    /// A function as it is configured. What AWS changes by itself (the version of the runtime, states, times) is no part.
    pub(in crate::guard) fn function(&mut self, function: FunctionName, read: &Configuration) {
        self.add(format!("the code of the function `{function}`"), &[read.code_sha256().unwrap_or_default()]);
        // What Lambda could not decrypt is no environment.
        if read.environment().is_none_or(|environment| environment.error().is_none()) {
            let variables = read.environment().and_then(|environment| environment.variables());
            let variables: BTreeMap<_, _> = variables.into_iter().flatten().collect();
            let flat: Vec<&str> = variables.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect();
            self.add(format!("the environment of the function `{function}`"), &flat);
        }
        let layers: Vec<&str> = read.layers().iter().filter_map(|layer| layer.arn()).collect();
        let dead_letter = read.dead_letter_config().and_then(|config| config.target_arn()).unwrap_or_default();
        let log_group = read.logging_config().and_then(|config| config.log_group()).unwrap_or_default();
        let network = read.vpc_config().and_then(|config| config.vpc_id()).unwrap_or_default();
        let files: Vec<&str> = read.file_system_configs().iter().map(FileSystemConfig::arn).collect();
        let runtime = read.runtime().map(Runtime::as_str).unwrap_or_default();
        let sizes = format!("{:?} {:?}", read.memory_size(), read.timeout());
        let settings = [
            read.role().unwrap_or_default(),
            read.handler().unwrap_or_default(),
            runtime,
            &layers.join(" "),
            dead_letter,
            log_group,
            network,
            &files.join(" "),
            read.kms_key_arn().unwrap_or_default(),
            &sizes,
        ];
        self.add(format!("the configuration of the function `{function}`"), &settings);
    }

    /// What a rule listens for, and what it sends where: one that hears nothing, or sends something else, is as good as
    /// disabled.
    pub(in crate::guard) fn rule(&mut self, name: &str, rule: &DescribeRuleOutput, targets: &[Target]) {
        let pattern = written_one_way(rule.event_pattern().unwrap_or_default());
        let schedule = rule.schedule_expression().unwrap_or_default();
        self.add(format!("what the rule `{name}` listens for"), &[&pattern, schedule]);
        let sent = targets
            .iter()
            .map(|target| {
                let transformed = target.input_transformer().map(|transformer| {
                    let paths: BTreeMap<_, _> = transformer.input_paths_map().into_iter().flatten().collect();
                    format!("{paths:?} {}", transformer.input_template())
                });
                let (input, path) = (target.input().unwrap_or_default(), target.input_path().unwrap_or_default());
                let sends_as = target.role_arn().unwrap_or_default();
                let again = target.retry_policy();
                let tries = again.map(|again| (again.maximum_retry_attempts(), again.maximum_event_age_in_seconds()));
                let parked = target.dead_letter_config().and_then(DeadLetterConfig::arn).unwrap_or_default();
                let sent = transformed.unwrap_or_default();
                format!("{} {sends_as} {path} {input} {sent} {tries:?} {parked}", target.arn())
            })
            .collect();
        self.add_sorted(format!("what the rule `{name}` sends"), sent);
    }

    /// What wakes a function: from where, and which of it.
    pub(in crate::guard) fn mappings(&mut self, function: FunctionName, mappings: &[EventSourceMappingConfiguration]) {
        if function == FunctionName::PublishOutcomes {
            let streams = mappings.iter().filter_map(|mapping| mapping.event_source_arn().map(str::to_owned));
            self.read_streams = Some(streams.collect());
        }
        let all = mappings
            .iter()
            .map(|mapping| {
                let filters = mapping.filter_criteria().map(FilterCriteria::filters).unwrap_or_default();
                let filters: Vec<&str> = filters.iter().filter_map(Filter::pattern).collect();
                let place = mapping.event_source_arn().unwrap_or_default();
                let function = mapping.function_arn().unwrap_or_default();
                let failed = mapping.destination_config().and_then(|config| config.on_failure());
                let parked = failed.and_then(|failed| failed.destination()).unwrap_or_default();
                let tries = (mapping.maximum_retry_attempts(), mapping.maximum_record_age_in_seconds());
                let answers = mapping.function_response_types();
                format!("{place} {function} {} {tries:?} {answers:?} {parked}", filters.join(" "))
            })
            .collect();
        self.add_sorted(format!("what wakes the function `{function}`"), all);
    }

    /// Whether a stream wakes `publish-outcomes`, as far as is known: one that is enabled again is another one.
    pub(in crate::guard) fn may_be_read(&self, stream: &str) -> bool {
        self.read_streams.as_ref().is_none_or(|read| read.iter().any(|one| one == stream))
    }

    /// How long a queue keeps what lies in it, when that is seen, and how often it is given out before it is parked.
    pub(in crate::guard) fn queue(&mut self, name: &str, settings: &[String]) {
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        self.configuration(&format!("the queue `{name}`"), &settings);
    }

    /// The policy of a resource: its statements, in whatever order they come.
    pub(in crate::guard) fn policy(&mut self, of: &str, policy: &Value) {
        let statements = match policy.get("Statement") {
            Some(Value::Array(several)) => several.iter().map(ToString::to_string).collect(),
            Some(single) => vec![single.to_string()],
            None if policy.is_null() => Vec::new(),
            // Whatever it is, it is not what was deployed.
            None => vec![policy.to_string()],
        };
        self.add_sorted(format!("the policy of {of}"), statements);
    }

    /// What else a resource is set to.
    pub(in crate::guard) fn configuration(&mut self, of: &str, settings: &[&str]) {
        self.add(format!("the configuration of {of}"), settings);
    }

    /// The role of a function: who may assume it, and what it may do, in whatever order that comes.
    pub(in crate::guard) fn role(&mut self, function: FunctionName, role: Rights) {
        self.add(format!("the trust of the role of `{function}`"), &[&role.arn, &role.trust]);
        let bounded = format!("bounded by {}", role.boundary);
        let rights = role.policies.into_iter().chain([bounded]).collect();
        self.add_sorted(format!("what the role of `{function}` may do"), rights);
    }

    /// What Lambda does with an invocation that fails: how often and until when it tries again, and where it is kept.
    pub(in crate::guard) fn failures(
        &mut self,
        function: FunctionName,
        configs: impl Iterator<Item = FunctionEventInvokeConfig>,
    ) {
        let configs = configs
            .map(|config| {
                let to = config.destination_config();
                let parked = to.and_then(|to| to.on_failure()).and_then(OnFailure::destination).unwrap_or_default();
                let told = to.and_then(|to| to.on_success()).and_then(OnSuccess::destination).unwrap_or_default();
                let tries = (config.maximum_retry_attempts(), config.maximum_event_age_in_seconds());
                format!("{} {tries:?} {parked} {told}", config.function_arn().unwrap_or_default())
            })
            .collect();
        self.add_sorted(format!("what becomes of an invocation of `{function}` that fails"), configs);
    }
}

/// A text, as JSON where it is that: the same may be written in many ways.
pub(super) fn written_one_way(text: &str) -> String {
    serde_json::from_str(text).map_or_else(|_| text.to_owned(), |read: Value| read.to_string())
}

impl Guard {
    /// When the stack was last deployed, and whether it is being.
    pub(in crate::guard) async fn stack(&self) -> Result<Stack, ActionError> {
        let answer = clients::cloudformation(&self.sdk).describe_stacks().stack_name(&self.stack).send().await;
        let answer = answer.map_err(|e| ActionError::of("cloudformation:DescribeStacks", &self.stack, e))?;
        let stack = answer.stacks().first().ok_or_else(|| ActionError::Gone { target: self.stack.clone() })?;
        let at = stack.last_updated_time().or(stack.creation_time());
        let at = at.and_then(|at| Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).ok()?).ok());
        let status = stack.stack_status().map(StackStatus::as_str).unwrap_or_default();
        Ok(match at {
            Some(at) if status.ends_with("_COMPLETE") => Stack::At(at),
            _ if status.ends_with("_FAILED") => Stack::Broken(status.to_owned()),
            _ => Stack::Changing,
        })
    }

    /// What is not as it was deployed. A deployment that began or ended within the look leaves it to the next one.
    pub(in crate::guard) async fn unlike_deployed(&self, began: Stack, seen: &Seen) -> Missing {
        let at = match began {
            Stack::At(at) => at,
            Stack::Changing => return Ok(Vec::new()),
            Stack::Broken(status) => {
                return Ok(vec![format!("the stack is `{status}`: nothing is held to what was deployed")]);
            }
        };
        if self.stack().await? != Stack::At(at) {
            return Ok(Vec::new());
        }
        match self.compared(at, seen).await {
            Ok(next) => Ok(next.changed.keys().map(|thing| format!("{thing} is not what was deployed")).collect()),
            Err(
                error @ (LedgerError::Forged { .. } | LedgerError::Unreadable { .. } | LedgerError::OtherSchema { .. }),
            ) => {
                warn!("what was deployed is not known: {error}");
                let says = "the record of what was deployed (`parts`, `deployed`) is not as Firebreak wrote it: delete it \
                            when you know who did that";
                Ok(vec![says.to_owned()])
            }
            // What else is missing is told all the same.
            Err(error) => Ok(vec![format!("what was deployed cannot be looked up: {}", chain(&error))]),
        }
    }

    async fn compared(&self, at: Timestamp, seen: &Seen) -> Result<Deployed, LedgerError> {
        let before = self.ledger.deployed().await?;
        let next = Deployed::looked(before.as_ref(), at, &seen.digests);
        if before.as_ref() != Some(&next) {
            self.ledger.keep_deployed(&next).await?;
        }
        Ok(next)
    }
}
