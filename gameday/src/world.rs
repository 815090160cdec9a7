//! The world: everything of IAM and Lambda that a containment could touch, and what changed between two looks.
//!
//! A look is a map from the name of a thing to all that AWS says of it, without what changes by itself (times,
//! revisions). Two looks are equal exactly where nothing was changed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aws_sdk_iam::types::{AttachedPolicy, PolicyDetail};
use aws_sdk_lambda::operation::get_policy::GetPolicyError;
use aws_sdk_lambda::types::{InvokeMode, OnFailure, OnSuccess};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::aws::Aws;

/// One look at the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World(BTreeMap<String, String>);

impl World {
    /// Looks at all roles, users, policies and access keys, and at all functions and their mappings of the Region.
    ///
    /// # Errors
    /// Where AWS does not answer.
    pub async fn look(aws: &Aws) -> Result<Self> {
        let mut things = BTreeMap::new();
        identities(aws, &mut things).await.context("cannot look at IAM")?;
        functions(aws, &mut things).await.context("cannot look at Lambda")?;
        Ok(Self(things))
    }

    /// What is different in `after`: one sentence a thing, none where nothing is.
    pub fn changes(&self, after: &World) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, was) in &self.0 {
            match after.0.get(name) {
                None => changes.push(format!("`{name}` is gone")),
                Some(is) if is != was => changes.push(format!("`{name}` was {was}, is {is}")),
                Some(_) => {}
            }
        }
        for name in after.0.keys().filter(|name| !self.0.contains_key(*name)) {
            changes.push(format!("`{name}` is new"));
        }
        changes
    }

    /// The world but for points in time, such as the one in a revocation.
    #[must_use]
    pub fn without_times(&self) -> World {
        World(self.0.iter().map(|(name, value)| (name.clone(), without_times(value))).collect())
    }

    /// What AWS says of a thing.
    pub fn thing(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// A text with `TIME` for every point in time of ISO 8601 in it, to the hour or finer.
pub fn without_times(text: &str) -> String {
    const SHAPE: &[u8] = b"0000-00-00T00";
    let begins = |rest: &str| {
        let mut bytes = rest.bytes();
        SHAPE.iter().all(|shape| {
            bytes.next().is_some_and(|byte| if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape })
        })
    };
    let mut without = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if begins(rest) {
            without.push_str("TIME");
            rest = rest.get(SHAPE.len()..).unwrap_or_default();
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ':' | '.' | 'Z'));
        } else {
            without.push(character);
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
        }
    }
    without
}

async fn identities(aws: &Aws, things: &mut BTreeMap<String, String>) -> Result<()> {
    let mut marker: Option<String> = None;
    loop {
        let answer = aws.iam.get_account_authorization_details().set_marker(marker).send().await?;
        for role in answer.role_detail_list() {
            let name = format!("role/{}", role.role_name().unwrap_or_default());
            let trust = document(role.assume_role_policy_document());
            let boundary = role.permissions_boundary().and_then(|b| b.permissions_boundary_arn());
            let mut tags: Vec<_> = role.tags().iter().map(|t| format!("{}={}", t.key(), t.value())).collect();
            tags.sort();
            let itself = json!({"arn": role.arn(), "id": role.role_id(), "trust": trust, "boundary": boundary,
                "tags": tags});
            things.insert(format!("{name} attached policies"), attached(role.attached_managed_policies()));
            inline(&name, role.role_policy_list(), things);
            things.insert(name, itself.to_string());
        }
        for user in answer.user_detail_list() {
            let user_name = user.user_name().unwrap_or_default();
            let name = format!("user/{user_name}");
            let boundary = user.permissions_boundary().and_then(|b| b.permissions_boundary_arn());
            let itself = json!({"arn": user.arn(), "id": user.user_id(), "groups": user.group_list(),
                "boundary": boundary});
            things.insert(format!("{name} attached policies"), attached(user.attached_managed_policies()));
            inline(&name, user.user_policy_list(), things);
            let keys = aws.iam.list_access_keys().user_name(user_name).send().await?;
            for key in keys.access_key_metadata() {
                let id = key.access_key_id().unwrap_or_default();
                let status = key.status().map_or("?", |status| status.as_str());
                things.insert(format!("{name} access key {id}"), status.to_owned());
            }
            things.insert(name, itself.to_string());
        }
        for policy in answer.policies() {
            let name = format!("policy/{}", policy.policy_name().unwrap_or_default());
            let versions: Vec<_> = policy.policy_version_list().iter().map(|v| document(v.document())).collect();
            let itself = json!({"arn": policy.arn(), "default": policy.default_version_id(), "versions": versions,
                "attached to": policy.attachment_count()});
            things.insert(name, itself.to_string());
        }
        for group in answer.group_detail_list() {
            let name = format!("group/{}", group.group_name().unwrap_or_default());
            things.insert(format!("{name} attached policies"), attached(group.attached_managed_policies()));
            inline(&name, group.group_policy_list(), things);
        }
        marker = answer.marker().map(str::to_owned);
        if !answer.is_truncated() || marker.is_none() {
            return Ok(());
        }
    }
}

fn inline(name: &str, policies: &[PolicyDetail], things: &mut BTreeMap<String, String>) {
    for policy in policies {
        let key = format!("{name} inline policy {}", policy.policy_name().unwrap_or_default());
        things.insert(key, document(policy.policy_document()).to_string());
    }
}

fn attached(policies: &[AttachedPolicy]) -> String {
    let mut arns: Vec<_> = policies.iter().filter_map(AttachedPolicy::policy_arn).collect();
    arns.sort_unstable();
    format!("[{}]", arns.join(", "))
}

/// A policy document, which IAM sends percent-encoded.
fn document(text: Option<&str>) -> Value {
    let decoded = percent_decode_str(text.unwrap_or_default()).decode_utf8_lossy().into_owned();
    serde_json::from_str(&decoded).unwrap_or(Value::String(decoded))
}

async fn functions(aws: &Aws, things: &mut BTreeMap<String, String>) -> Result<()> {
    let mut all = aws.lambda.list_functions().into_paginator().items().send();
    while let Some(function) = all.next().await {
        let mut configuration = function?;
        let function = configuration.function_name().unwrap_or_default().to_owned();
        let name = format!("function/{function}");
        // `Debug` shows every member but the environment's values.
        let environment = configuration.environment().and_then(|e| e.variables().cloned()).unwrap_or_default();
        let environment: BTreeMap<_, _> = environment.into_iter().collect();
        configuration.last_modified = None;
        configuration.revision_id = None;
        configuration.last_update_status = None;
        configuration.last_update_status_reason = None;
        configuration.last_update_status_reason_code = None;
        configuration.state = None;
        configuration.state_reason = None;
        configuration.state_reason_code = None;
        configuration.environment = None;
        things.insert(format!("{name} environment"), format!("{environment:?}"));
        things.insert(name.clone(), format!("{configuration:?}"));
        let concurrency = aws.lambda.get_function_concurrency().function_name(&function).send().await?;
        let concurrency = concurrency.reserved_concurrent_executions().map_or("unset".to_owned(), |n| n.to_string());
        things.insert(format!("{name} reserved concurrency"), concurrency);
        let urls = aws.lambda.list_function_url_configs().function_name(&function).send().await?;
        for url in urls.function_url_configs() {
            let shown = json!({"url": url.function_url(), "auth": url.auth_type().as_str(),
                "cors": format!("{:?}", url.cors()), "mode": url.invoke_mode().map(InvokeMode::as_str)});
            let of = qualifier(url.function_arn()).map(|alias| format!(" of `{alias}`")).unwrap_or_default();
            things.insert(format!("{name} URL{of}"), shown.to_string());
        }
        let invoke = aws.lambda.list_function_event_invoke_configs().function_name(&function).send().await?;
        for config in invoke.function_event_invoke_configs() {
            let qualifier = config.function_arn().and_then(|a| a.rsplit(':').next()).unwrap_or_default();
            // Lambda shows no destination as an empty object, or as none at all.
            let to = config.destination_config();
            let shown = json!({"age": config.maximum_event_age_in_seconds(), "retries": config.maximum_retry_attempts(),
                "on success": to.and_then(|to| to.on_success()).and_then(OnSuccess::destination),
                "on failure": to.and_then(|to| to.on_failure()).and_then(OnFailure::destination)});
            things.insert(format!("{name} asynchronous invocation {qualifier}"), shown.to_string());
        }
        things.insert(format!("{name} statements"), statements(aws, &function, None).await?);
        published(aws, &function, &name, things).await.with_context(|| format!("cannot look at `{name}`"))?;
    }
    let mut all = aws.lambda.list_event_source_mappings().into_paginator().items().send();
    while let Some(mapping) = all.next().await {
        let mut mapping = mapping?;
        let name = format!("mapping {}", mapping.uuid().unwrap_or_default());
        mapping.last_modified = None;
        mapping.state_transition_reason = None;
        mapping.last_processing_result = None;
        things.insert(name, format!("{mapping:?}"));
    }
    Ok(())
}

/// How Lambda says of one version or alias, and the emulator of a function, that nothing is provisioned.
const NONE_PROVISIONED: &str = "ProvisionedConcurrencyConfigNotFoundException";

/// The version or alias that an ARN of Lambda names.
fn qualifier(arn: &str) -> Option<&str> {
    arn.split(':').nth(7)
}

/// The versions and aliases of a function: each with its own statements, and what is provisioned for them.
async fn published(aws: &Aws, function: &str, name: &str, things: &mut BTreeMap<String, String>) -> Result<()> {
    let mut versions = aws.lambda.list_versions_by_function().function_name(function).into_paginator().items().send();
    while let Some(version) = versions.next().await {
        let version = version?;
        let number = version.version().unwrap_or_default();
        if number == "$LATEST" {
            continue;
        }
        let shown =
            json!({"sha256": version.code_sha256(), "role": version.role(), "description": version.description()});
        things.insert(format!("{name} version {number}"), shown.to_string());
        things.insert(format!("{name} statements of `{number}`"), statements(aws, function, Some(number)).await?);
    }
    let mut aliases = aws.lambda.list_aliases().function_name(function).into_paginator().items().send();
    while let Some(alias) = aliases.next().await {
        let alias = alias?;
        let of = alias.name().unwrap_or_default();
        let shown = json!({"version": alias.function_version(), "description": alias.description(),
            "routing": format!("{:?}", alias.routing_config())});
        things.insert(format!("{name} alias `{of}`"), shown.to_string());
        things.insert(format!("{name} statements of `{of}`"), statements(aws, function, Some(of)).await?);
    }
    let list = aws.lambda.list_provisioned_concurrency_configs().function_name(function);
    let mut provisioned = list.into_paginator().items().send();
    while let Some(config) = provisioned.next().await {
        let config = match config {
            Ok(config) => config,
            Err(error) if error.as_service_error().and_then(ProvideErrorMetadata::code) == Some(NONE_PROVISIONED) => {
                break;
            }
            Err(error) => return Err(error.into()),
        };
        let of = qualifier(config.function_arn().unwrap_or_default()).unwrap_or("?");
        let requested = config.requested_provisioned_concurrent_executions().unwrap_or_default();
        things.insert(format!("{name} provisioned concurrency of `{of}`"), requested.to_string());
    }
    Ok(())
}

/// The statements of a function's resource policy, or of its version's or alias's, whose order means nothing.
async fn statements(aws: &Aws, function: &str, of: Option<&str>) -> Result<String> {
    let get = aws.lambda.get_policy().function_name(function).set_qualifier(of.map(str::to_owned));
    let policy = match get.send().await {
        Ok(answer) => answer.policy().unwrap_or_default().to_owned(),
        Err(error) if error.as_service_error().is_some_and(GetPolicyError::is_resource_not_found_exception) => {
            return Ok("[]".to_owned());
        }
        Err(error) => return Err(error.into()),
    };
    let policy: Value = serde_json::from_str(&policy)?;
    let statements = policy.get("Statement").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut statements: Vec<String> = statements.iter().map(Value::to_string).collect();
    statements.sort();
    Ok(format!("[{}]", statements.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(things: &[(&str, &str)]) -> World {
        World(things.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn changes_say_what_came_went_and_differs() {
        let before = world(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = world(&[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(before.changes(&after), ["`b` was 1, is 2", "`c` is gone", "`d` is new"]);
        assert!(before.changes(&before).is_empty());
    }

    #[test]
    fn a_time_is_no_difference_and_all_else_is() {
        let at = |time: &str| without_times(&format!("{{\"until\":\"{time}\",\"reach\":5}} é {time}"));
        assert_eq!(at("2026-11-21T03:00:00.123Z"), at("2027-01-02T04:05:06Z"));
        assert_eq!(at("2026-11-21T03:00:00Z"), "{\"until\":\"TIME\",\"reach\":5} é TIME");
        assert_eq!(without_times("breaker 2026-11-21T03"), "breaker TIME");
        assert_eq!(without_times("2026-11-21 03:00"), "2026-11-21 03:00");
    }

    #[test]
    fn documents_are_read_percent_encoded_or_not() {
        let value = json!({"Action": "*"});
        assert_eq!(document(Some("%7B%22Action%22%3A%20%22%2A%22%7D")), value);
        assert_eq!(document(Some(&value.to_string())), value);
    }
}
