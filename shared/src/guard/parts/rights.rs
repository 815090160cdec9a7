//! What Firebreak's functions may do and who may do what with the rest, beside the policies of functions, queues and topic:
//! their roles, the policies of the keys, of the ledger and of the bus. And what Lambda does with an invocation that fails.

use aws_sdk_dynamodb::operation::get_resource_policy::GetResourcePolicyError;
use aws_sdk_eventbridge::types::DeadLetterConfig;
use firebreak_model::action::FunctionName;
use futures_util::future::join_all;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::deployed::{Seen, written_one_way};
use super::{Guard, Missing};
use crate::action::{ActionError, absent_is_none};
use crate::{clients, paging};

/// So many inline policies of a role are read. A name more is a change by itself, and whoever adds a thousand of them is
/// not to keep the sweep from its containments.
const DOCUMENTS: usize = 8;

/// A function's role: who may assume it, and what it may do.
#[derive(Debug)]
pub(in crate::guard) struct Rights {
    pub arn: String,
    pub trust: String,
    pub boundary: String,
    /// What is attached, the names of the inline policies, and the documents of the first of them.
    pub policies: Vec<String>,
}

impl Guard {
    /// The role of each function. They are read at once: an IAM that does not answer costs the time of one.
    pub(super) async fn roles(&self) -> Vec<(FunctionName, Result<Rights, ActionError>)> {
        join_all(self.functions().map(|function| async move { (function, self.role(function).await) })).await
    }

    async fn role(&self, function: FunctionName) -> Result<Rights, ActionError> {
        let name = format!("{}-{function}", self.stack);
        let answer = self.iam.get_role().role_name(&name).send().await;
        let role = answer.map_err(|e| ActionError::of("iam:GetRole", &name, e))?.role;
        let trust = role.as_ref().and_then(|role| role.assume_role_policy_document()).map(decoded);
        let (Some(role), Some(trust)) = (role, trust) else { return Err(hollow(&name)) };
        let boundary = role.permissions_boundary.and_then(|boundary| boundary.permissions_boundary_arn);

        let pages = self.iam.list_attached_role_policies().role_name(&name).into_paginator().send();
        let pages = paging::read(pages, "iam:ListAttachedRolePolicies", &name).await?;
        let attached = pages.into_iter().flat_map(|page| page.attached_policies.unwrap_or_default());
        let mut policies: Vec<String> = attached.filter_map(|policy| policy.policy_arn).collect();

        let pages = self.iam.list_role_policies().role_name(&name).into_paginator().send();
        let pages = paging::read(pages, "iam:ListRolePolicies", &name).await?;
        let names: Vec<String> = pages.into_iter().flat_map(|page| page.policy_names).collect();
        for policy in names.iter().take(DOCUMENTS) {
            let answer = self.iam.get_role_policy().role_name(&name).policy_name(policy).send().await;
            // One that went since the list was read is not there.
            let read = absent_is_none(answer.map_err(|e| ActionError::of("iam:GetRolePolicy", &name, e)))?;
            policies.extend(read.map(|read| format!("{policy} {}", decoded(&read.policy_document))));
        }
        policies.extend(names);
        Ok(Rights { arn: role.arn, trust, boundary: boundary.unwrap_or_default(), policies })
    }

    /// What Lambda does with an invocation of a function that fails.
    pub(super) async fn failures(&self, function: FunctionName, seen: &mut Seen) -> Missing {
        let name = format!("{}-{function}", self.stack);
        let pages = self.lambda.list_function_event_invoke_configs().function_name(&name).into_paginator().send();
        let pages = paging::read(pages, "lambda:ListFunctionEventInvokeConfigs", &name).await?;
        let configs = pages.into_iter().flat_map(|page| page.function_event_invoke_configs.unwrap_or_default());
        seen.failures(function, configs);
        Ok(Vec::new())
    }

    pub(super) async fn key_policy(&self, what: &str, arn: &str, seen: &mut Seen) -> Missing {
        let answer = clients::kms(&self.sdk).get_key_policy().key_id(arn).policy_name("default").send().await;
        let answer = answer.map_err(|e| ActionError::of("kms:GetKeyPolicy", arn, e))?;
        let policy = answer.policy().ok_or_else(|| hollow(arn))?;
        seen.policy(what, &read(Some(policy)));
        Ok(Vec::new())
    }

    /// The policy of the ledger's table, or of its stream, which has one of its own.
    pub(super) async fn ledger_policy(&self, what: &str, arn: &str, seen: &mut Seen) -> Missing {
        let answer = self.dynamodb.get_resource_policy().resource_arn(arn).send().await;
        let policy = match answer {
            Ok(answer) => read(answer.policy()),
            Err(error)
                if error.as_service_error().is_some_and(GetResourcePolicyError::is_policy_not_found_exception) =>
            {
                Value::Null
            }
            Err(error) => return Err(ActionError::of("dynamodb:GetResourcePolicy", arn, error)),
        };
        seen.policy(what, &policy);
        Ok(Vec::new())
    }

    pub(super) async fn bus(&self, seen: &mut Seen) -> Missing {
        let answer = self.events.describe_event_bus().name(&self.stack).send().await;
        let answer = answer.map_err(|e| ActionError::of("events:DescribeEventBus", &self.stack, e))?;
        seen.policy("the bus", &read(answer.policy()));
        let parked = answer.dead_letter_config().and_then(DeadLetterConfig::arn).unwrap_or_default();
        seen.configuration("the bus", &[answer.kms_key_identifier().unwrap_or_default(), parked]);
        Ok(Vec::new())
    }
}

/// There is always a policy, where the answer holds none.
fn hollow(target: &str) -> ActionError {
    ActionError::Unreadable { target: target.to_owned(), problem: "the answer holds no policy".to_owned() }
}

/// A document as IAM gives it, URL-encoded.
fn decoded(document: &str) -> String {
    written_one_way(&percent_decode_str(document).decode_utf8_lossy())
}

/// A policy; what is no JSON is a text.
fn read(policy: Option<&str>) -> Value {
    policy.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
}
