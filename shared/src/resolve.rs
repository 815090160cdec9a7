//! Finds what a finding leaves out: the role behind a function, an instance profile, a task or a unique id, and the
//! whole of an attack sequence that came without its sequence. Reads only.

use std::sync::{Arc, Mutex, PoisonError};

use aws_config::SdkConfig;
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use aws_sdk_guardduty::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use firebreak_model::finding::{Finding, Lookup, Source, Subject};
use firebreak_model::ids::{
    AccessKeyId, AccountId, DetectorId, FunctionArn, InstanceProfileArn, Region, TaskArn, TaskDefinitionArn, UniqueId,
};
use firebreak_model::principal::{Principal, PrincipalKind};
use firebreak_model::{cloudtrail, guardduty};
use serde_json::Value;

use crate::action::{ActionError, Permission, Resource};
use crate::clients;
use crate::paging::Tokens;

/// What finding them needs.
pub const PERMISSIONS: &[Permission] = &[
    Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
    Permission { action: "iam:GetInstanceProfile", on: Resource::InstanceProfile },
    Permission { action: "ecs:DescribeTasks", on: Resource::EcsTask },
    Permission { action: "ecs:DescribeTaskDefinition", on: Resource::Any },
    Permission { action: "cloudtrail:LookupEvents", on: Resource::Any },
    Permission { action: "iam:ListRoles", on: Resource::Any },
    Permission { action: "iam:ListUsers", on: Resource::Any },
    Permission { action: "guardduty:GetFindings", on: Resource::Any },
];

/// Why something was not found.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] ActionError),
    /// It belongs to another account: nothing there can be read, and nothing contained.
    #[error("{what} is in account {account}: Firebreak contains only in its own")]
    OtherAccount {
        /// What.
        what: String,
        /// Whose.
        account: AccountId,
    },
    /// AWS answered, but the answer names no role or user.
    #[error("{what} leads to nobody: {problem}")]
    Nobody {
        /// What was looked up.
        what: String,
        /// What is missing.
        problem: String,
    },
}

impl ResolveError {
    /// Whether another try may go better.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_transient())
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Resolver<'a> {
    /// IAM.
    pub iam: &'a aws_sdk_iam::Client,
    /// The configuration that regional clients are built from.
    pub sdk: &'a SdkConfig,
    /// The account that Firebreak runs in.
    pub account: &'a AccountId,
}

impl Resolver<'_> {
    /// The principal that a lookup leads to, with its ARN. `region` is that of the finding.
    pub async fn principal(&self, lookup: &Lookup, region: Option<&Region>) -> Result<Principal, ResolveError> {
        match lookup {
            Lookup::Function { function } => self.role_of_function(function, lookup).await,
            Lookup::InstanceProfile { arn } => self.role_of_profile(arn, lookup).await,
            Lookup::Task { task, definition } => self.role_of_task(task.as_ref(), definition.as_ref(), lookup).await,
            Lookup::UniqueId { kind, id } => self.by_id(*kind, id, lookup).await,
            Lookup::Federation { access_key } => self.federator(access_key, region, lookup).await,
        }
    }

    fn ours(&self, account: &AccountId, lookup: &Lookup) -> Result<(), ResolveError> {
        if account == self.account {
            return Ok(());
        }
        Err(ResolveError::OtherAccount { what: lookup.to_string(), account: account.clone() })
    }

    async fn role_of_function(&self, function: &FunctionArn, lookup: &Lookup) -> Result<Principal, ResolveError> {
        self.ours(function.account(), lookup)?;
        let lambda = clients::lambda_in(self.sdk, function.region());
        let answer = lambda.get_function_configuration().function_name(function.to_string()).send().await;
        let answer =
            answer.map_err(|e| ActionError::of("lambda:GetFunctionConfiguration", &function.to_string(), e))?;
        principal(answer.role(), lookup)
    }

    async fn role_of_profile(&self, arn: &InstanceProfileArn, lookup: &Lookup) -> Result<Principal, ResolveError> {
        self.ours(arn.account(), lookup)?;
        let answer = self.iam.get_instance_profile().instance_profile_name(arn.name().as_str()).send().await;
        let answer = answer.map_err(|e| ActionError::of("iam:GetInstanceProfile", arn.name().as_str(), e))?;
        let profile = answer.instance_profile.ok_or_else(|| nobody(lookup, "the answer holds no profile"))?;
        if profile.arn != arn.to_string() {
            let problem = format!("the profile of that name is now `{}`: it was deleted and made again", profile.arn);
            return Err(nobody(lookup, &problem));
        }
        principal(profile.roles.first().map(|role| role.arn.as_str()), lookup)
    }

    /// The role that a running task was started with goes before its definition's.
    async fn role_of_task(
        &self,
        task: Option<&TaskArn>,
        definition: Option<&TaskDefinitionArn>,
        lookup: &Lookup,
    ) -> Result<Principal, ResolveError> {
        let mut definition = definition.map(|arn| (arn.region().clone(), arn.account().clone(), arn.to_string()));
        if let Some(task) = task {
            self.ours(task.account(), lookup)?;
            let ecs = clients::ecs_in(self.sdk, task.region());
            let answer = ecs.describe_tasks().cluster(task.cluster()).tasks(task.to_string()).send().await;
            // A task that ended an hour ago is no longer told of: its definition is what is left.
            match answer.map_err(|e| ActionError::of("ecs:DescribeTasks", &task.to_string(), e)) {
                Ok(answer) => {
                    let running = answer.tasks().first();
                    let overridden = running.and_then(|t| t.overrides()).and_then(|o| o.task_role_arn());
                    if let Some(role) = overridden.filter(|role| !role.is_empty()) {
                        return principal(Some(role), lookup);
                    }
                    if let Some(arn) = running.and_then(|t| t.task_definition_arn()) {
                        definition = Some((task.region().clone(), task.account().clone(), arn.to_owned()));
                    }
                }
                Err(error) if error.is_transient() || definition.is_none() => return Err(error.into()),
                Err(error) => tracing::warn!("the task is not told of, its definition is read: {error}"),
            }
        }
        let (region, account, arn) =
            definition.ok_or_else(|| nobody(lookup, "the task is gone, and the finding names no definition"))?;
        self.ours(&account, lookup)?;
        let ecs = clients::ecs_in(self.sdk, &region);
        let answer = ecs.describe_task_definition().task_definition(&arn).send().await;
        let answer = answer.map_err(|e| ActionError::of("ecs:DescribeTaskDefinition", &arn, e))?;
        let role = answer.task_definition().and_then(|definition| definition.task_role_arn());
        principal(role, lookup)
    }

    /// IAM finds nobody by id: the list is read to where it stands.
    async fn by_id(&self, kind: PrincipalKind, id: &UniqueId, lookup: &Lookup) -> Result<Principal, ResolveError> {
        let wanted = id.as_str();
        let (mut found, mut tokens) = (None, Tokens::default());
        match kind {
            PrincipalKind::Role => {
                let call = "iam:ListRoles";
                let mut pages = self.iam.list_roles().max_items(1000).into_paginator().send();
                while found.is_none()
                    && let Some(page) = pages.next().await
                {
                    let page = page.map_err(|e| ActionError::of(call, wanted, e))?;
                    found = page.roles.iter().find(|role| role.role_id == wanted).map(|role| role.arn.clone());
                    if found.is_none() {
                        tokens.next(page.marker(), call, wanted)?;
                    }
                }
            }
            PrincipalKind::User => {
                let call = "iam:ListUsers";
                let mut pages = self.iam.list_users().max_items(1000).into_paginator().send();
                while found.is_none()
                    && let Some(page) = pages.next().await
                {
                    let page = page.map_err(|e| ActionError::of(call, wanted, e))?;
                    found = page.users.iter().find(|user| user.user_id == wanted).map(|user| user.arn.clone());
                    if found.is_none() {
                        tokens.next(page.marker(), call, wanted)?;
                    }
                }
            }
        }
        let principal = principal(found.as_deref(), lookup)?;
        Ok(Principal { unique_id: Some(id.clone()), ..principal })
    }

    /// The user whose key minted a federated session: every record of the session names it as the issuer.
    async fn federator(
        &self,
        key: &AccessKeyId,
        region: Option<&Region>,
        lookup: &Lookup,
    ) -> Result<Principal, ResolveError> {
        let region = region.ok_or_else(|| nobody(lookup, "the finding names no Region to look in"))?;
        let attribute = LookupAttribute::builder()
            .attribute_key(LookupAttributeKey::AccessKeyId)
            .attribute_value(key.as_str())
            .build()
            .map_err(|error| nobody(lookup, &error.to_string()))?;
        let cloudtrail = clients::cloudtrail_in(self.sdk, region);
        let answer = cloudtrail.lookup_events().lookup_attributes(attribute).max_results(50).send().await;
        let answer = answer.map_err(|e| ActionError::of("cloudtrail:LookupEvents", key.as_str(), e))?;
        let records = answer.events().iter().filter_map(|event| serde_json::from_str(event.cloud_trail_event()?).ok());
        let issuer = records.into_iter().find_map(|record: Value| issuer_of(&record, key));
        issuer.ok_or_else(|| nobody(lookup, "CloudTrail has no record of the session that names its issuer"))
    }

    /// Reads a finding again from GuardDuty; `None` where GuardDuty does not have it.
    ///
    /// The answer is read as the events are, from its JSON: one reader for findings, wherever they come from, and no
    /// finding is lost to a member that is not as the SDK knows it.
    pub async fn whole(
        &self,
        finding: &Finding,
        detector: &DetectorId,
        region: &Region,
    ) -> Result<Option<Finding>, ResolveError> {
        let guardduty = clients::guardduty_in(self.sdk, region);
        let body = Body::default();
        let request = guardduty.get_findings().detector_id(detector.as_str()).finding_ids(&finding.id);
        let answer = request.customize().interceptor(body.clone()).send().await;
        if let Err(error) = answer
            && !error.raw_response().is_some_and(|response| response.status().is_success())
        {
            return Err(ActionError::of("guardduty:GetFindings", &finding.id, error).into());
        }
        let answer: Value = serde_json::from_slice(&body.taken()).unwrap_or_default();
        let findings = answer.get("findings").and_then(Value::as_array);
        let read = findings.into_iter().flatten().filter_map(|f| guardduty::read(f, finding.source, "").ok());
        Ok(read.into_iter().find(|whole| whole.id == finding.id && whole.account == finding.account))
    }
}

/// The user that issued the session of this key, as a record says.
fn issuer_of(record: &Value, key: &AccessKeyId) -> Option<Principal> {
    let read = cloudtrail::read(record, Source::CloudTrail, "record").ok()?;
    read.subjects.into_iter().find_map(|subject| match subject {
        Subject::Principal { principal, access_key, .. }
            if access_key.as_ref() == Some(key) && principal.name.kind() == PrincipalKind::User =>
        {
            Some(Principal { unique_id: None, ..principal })
        }
        _ => None,
    })
}

fn nobody(lookup: &Lookup, problem: &str) -> ResolveError {
    ResolveError::Nobody { what: lookup.to_string(), problem: problem.to_owned() }
}

fn principal(arn: Option<&str>, lookup: &Lookup) -> Result<Principal, ResolveError> {
    let arn = arn.filter(|arn| !arn.is_empty()).ok_or_else(|| nobody(lookup, "it has no role, or is gone"))?;
    Principal::from_arn(arn).map_err(|error| nobody(lookup, &error.to_string()))
}

/// Keeps the body of an answer.
#[derive(Debug, Clone, Default)]
struct Body(Arc<Mutex<Vec<u8>>>);

impl Body {
    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Intercept for Body {
    fn name(&self) -> &'static str {
        "Body"
    }

    // Before that, the body is still on its way.
    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(bytes) = context.response().body().bytes() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
