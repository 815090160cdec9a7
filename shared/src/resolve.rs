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
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::finding::Source;
    use serde_json::json;

    use super::*;
    use crate::testing::{Odd, Wire, json_error, ok, query_error};

    async fn led_to(wire: &Wire, lookup: &Lookup) -> Result<Principal, ResolveError> {
        let sdk = wire.config();
        let iam = aws_sdk_iam::Client::new(&sdk);
        let account = "111122223333".parse().unwrap();
        let region = "eu-central-1".parse().unwrap();
        Resolver { iam: &iam, sdk: &sdk, account: &account }.principal(lookup, Some(&region)).await
    }

    /// The ARN of whom a lookup led to.
    async fn arn(wire: &Wire, lookup: &Lookup) -> String {
        led_to(wire, lookup).await.unwrap().arn.unwrap()
    }

    async fn problem(wire: &Wire, lookup: &Lookup) -> String {
        crate::telemetry::chain(&led_to(wire, lookup).await.unwrap_err())
    }

    const ROLE: &str = "arn:aws:iam::111122223333:role/app/web-role";

    fn profile_answer(arn: &str, role: &str) -> String {
        let role = format!(
            "<member><Path>/</Path><RoleName>r</RoleName><RoleId>AROAEXAMPLE000000001</RoleId><Arn>{role}</Arn>\
             <CreateDate>2026-01-01T00:00:00Z</CreateDate></member>"
        );
        format!(
            "<GetInstanceProfileResponse><GetInstanceProfileResult><InstanceProfile><Path>/</Path><Arn>{arn}</Arn>\
             <InstanceProfileName>web</InstanceProfileName><InstanceProfileId>AIPAEXAMPLE000000001</InstanceProfileId>\
             <CreateDate>2026-01-01T00:00:00Z</CreateDate><Roles>{role}</Roles></InstanceProfile>\
             </GetInstanceProfileResult></GetInstanceProfileResponse>"
        )
    }

    fn profile(arn: &str) -> Lookup {
        Lookup::InstanceProfile { arn: arn.parse().unwrap() }
    }

    const PROFILE: &str = "arn:aws:iam::111122223333:instance-profile/app/web";

    #[tokio::test]
    async fn an_instance_profile_leads_to_its_role_and_not_to_its_namesake() {
        let wire = Wire::answering([ok(profile_answer(PROFILE, ROLE))]);
        assert_eq!(arn(&wire, &profile(PROFILE)).await, ROLE);
        assert!(wire.requests()[0].contains("Action=GetInstanceProfile&"), "{:?}", wire.requests());
        assert!(wire.requests()[0].contains("InstanceProfileName=web"), "{:?}", wire.requests());
    }

    #[tokio::test]
    async fn a_profile_made_again_elsewhere_gone_or_denied_leads_to_nobody() {
        let wire = Wire::answering([ok(profile_answer("arn:aws:iam::111122223333:instance-profile/web", ROLE))]);
        assert!(problem(&wire, &profile(PROFILE)).await.contains("made again"));
        for code in ["NoSuchEntity", "AccessDenied"] {
            let wire = Wire::answering([query_error(403, code)]);
            let error = led_to(&wire, &profile(PROFILE)).await.unwrap_err();
            assert!(!error.is_transient(), "{code}: {error}");
        }
        let wire = Wire::answering([query_error(400, "Throttling")]);
        assert!(led_to(&wire, &profile(PROFILE)).await.unwrap_err().is_transient());
        let foreign = profile("arn:aws:iam::444455556666:instance-profile/web");
        let wire = Wire::answering([]);
        assert!(problem(&wire, &foreign).await.contains("only in its own"));
        assert!(wire.requests().is_empty(), "nothing is asked about another account");
    }

    const TASK: &str = "arn:aws:ecs:eu-west-1:111122223333:task/prod/0123456789abcdef";
    const DEFINITION: &str = "arn:aws:ecs:eu-west-1:111122223333:task-definition/orders:7";

    fn task() -> Lookup {
        Lookup::Task { task: Some(TASK.parse().unwrap()), definition: Some(DEFINITION.parse().unwrap()) }
    }

    fn definition_answer(role: &str) -> String {
        json!({"taskDefinition": {"taskDefinitionArn": DEFINITION, "taskRoleArn": role,
            "executionRoleArn": "arn:aws:iam::111122223333:role/execution"}})
        .to_string()
    }

    #[tokio::test]
    async fn a_tasks_override_goes_before_its_definition_and_the_execution_role_is_another() {
        let overridden = json!({"tasks": [{"taskArn": TASK, "taskDefinitionArn": DEFINITION,
            "overrides": {"taskRoleArn": ROLE, "executionRoleArn": "arn:aws:iam::111122223333:role/execution"}}]});
        let wire = Wire::answering([ok(overridden.to_string())]);
        assert_eq!(arn(&wire, &task()).await, ROLE);
        assert!(wire.requests()[0].contains(r#""cluster":"prod""#), "{:?}", wire.requests());
        assert!(wire.hosts()[0].contains("eu-west-1"), "the task's own Region: {:?}", wire.hosts());

        let plain = json!({"tasks": [{"taskArn": TASK, "taskDefinitionArn": DEFINITION, "overrides": {}}]});
        let wire = Wire::answering([ok(plain.to_string()), ok(definition_answer(ROLE))]);
        assert_eq!(arn(&wire, &task()).await, ROLE);
    }

    #[tokio::test]
    async fn a_task_that_is_over_leaves_its_definition() {
        let gone = json!({"tasks": [], "failures": [{"arn": TASK, "reason": "MISSING"}]});
        let wire = Wire::answering([ok(gone.to_string()), ok(definition_answer(ROLE))]);
        assert_eq!(arn(&wire, &task()).await, ROLE);
        let wire = Wire::answering([json_error(400, "ClusterNotFoundException"), ok(definition_answer(ROLE))]);
        assert_eq!(arn(&wire, &task()).await, ROLE);
        // A task without a role of its own has none to contain.
        let wire = Wire::answering([ok(gone.to_string()), ok(definition_answer(""))]);
        assert!(problem(&wire, &task()).await.contains("no role"));
        // Nothing but the definition is left to say whose role it was: a throttle is no reason to take the wrong one.
        let wire = Wire::answering([json_error(400, "ThrottlingException")]);
        assert!(led_to(&wire, &task()).await.unwrap_err().is_transient());
    }

    fn roles(ids: &[(&str, &str)], marker: Option<&str>) -> String {
        let members: String = ids.iter().fold(String::new(), |out, (name, id)| {
            out + &format!(
                "<member><Path>/</Path><RoleName>{name}</RoleName><RoleId>{id}</RoleId>\
                 <Arn>arn:aws:iam::111122223333:role/{name}</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate></member>"
            )
        });
        let more = marker.map_or("<IsTruncated>false</IsTruncated>".to_owned(), |marker| {
            format!("<IsTruncated>true</IsTruncated><Marker>{marker}</Marker>")
        });
        format!(
            "<ListRolesResponse><ListRolesResult><Roles>{members}</Roles>{more}</ListRolesResult></ListRolesResponse>"
        )
    }

    #[tokio::test]
    async fn a_role_is_found_by_its_id_on_whichever_page() {
        let id: UniqueId = "AROAEXAMPLE000000002".parse().unwrap();
        let lookup = Lookup::UniqueId { kind: PrincipalKind::Role, id };
        let pages = [
            ok(roles(&[("a", "AROAEXAMPLE000000001")], Some("m1"))),
            ok(roles(&[("b", "AROAEXAMPLE000000002")], Some("m2"))),
        ];
        let wire = Wire::answering(pages);
        assert_eq!(arn(&wire, &lookup).await, "arn:aws:iam::111122223333:role/b");
        assert_eq!(wire.requests().len(), 2, "the pages after it are not read");
        let wire = Wire::answering([ok(roles(&[("a", "AROAEXAMPLE000000001")], None))]);
        assert!(problem(&wire, &lookup).await.contains("leads to nobody"));
    }

    #[tokio::test]
    async fn an_answer_of_no_use_leads_to_nobody_and_nowhere_round() {
        let function = "arn:aws:lambda:eu-west-1:111122223333:function:orders".parse().unwrap();
        let by_id = |kind, id: &str| Lookup::UniqueId { kind, id: id.parse().unwrap() };
        let lookups = [
            Lookup::Function { function },
            profile(PROFILE),
            task(),
            by_id(PrincipalKind::Role, "AROAEXAMPLE000000002"),
            by_id(PrincipalKind::User, "AIDAEXAMPLE000000002"),
            Lookup::Federation { access_key: "ASIAEXAMPLEFED000001".parse().unwrap() },
        ];
        for odd in Odd::ALL {
            for lookup in &lookups {
                let wire = Wire::odd(odd, [] as [(&str, _); 0]);
                let error = led_to(&wire, lookup).await.unwrap_err();
                let calls = wire.requests().len();
                assert!((1..5).contains(&calls), "{odd:?}, {lookup}: {calls} calls, {error}");
                // A list that was not read to its end does not say that somebody is not in it.
                let circle = matches!((odd, lookup), (Odd::Repeating | Odd::Circling, Lookup::UniqueId { .. }));
                assert_eq!(error.to_string().contains("nobody"), !circle, "{odd:?}, {lookup}: {error}");
            }
        }
    }

    fn record(key: &str) -> String {
        json!({"eventName": "ListBuckets", "eventSource": "s3.amazonaws.com", "eventID": "e",
            "recipientAccountId": "111122223333", "userIdentity": {"type": "FederatedUser", "accountId": "111122223333",
            "principalId": "111122223333:visitor", "accessKeyId": key, "sessionContext": {"sessionIssuer": {
                "type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/people/ana", "userName": "ana"}}}})
        .to_string()
    }

    #[tokio::test]
    async fn a_federated_session_leads_to_the_user_whose_key_minted_it() {
        let key = "ASIAEXAMPLEFED000001";
        let lookup = Lookup::Federation { access_key: key.parse().unwrap() };
        let events = |record: String| json!({"Events": [{"CloudTrailEvent": record}]}).to_string();
        let wire = Wire::answering([ok(events(record(key)))]);
        assert_eq!(arn(&wire, &lookup).await, "arn:aws:iam::111122223333:user/people/ana");
        assert!(wire.requests()[0].contains(key), "{:?}", wire.requests());
        assert!(wire.hosts()[0].contains("eu-central-1"), "{:?}", wire.hosts());
        // A record of another session, or none at all, leads to nobody.
        let wire = Wire::answering([ok(events(record("ASIAEXAMPLEFED000002")))]);
        assert!(problem(&wire, &lookup).await.contains("no record"));
        let wire = Wire::answering([ok(r#"{"Events": []}"#)]);
        assert!(problem(&wire, &lookup).await.contains("no record"));
    }

    fn torso() -> Finding {
        let torso = json!({"id": "f1", "type": "AttackSequence:IAM/CompromisedCredentials", "accountId": "111122223333",
            "region": "eu-west-1", "severity": 9, "service": {"detectorId": "12abc34d567e8fa901bc2d34e56789f0"}});
        guardduty::read(&torso, Source::GuardDuty, "").unwrap()
    }

    async fn whole(answer: &Value) -> Option<Finding> {
        let wire = Wire::answering([ok(answer.to_string())]);
        let sdk = wire.config();
        let iam = aws_sdk_iam::Client::new(&sdk);
        let account = "111122223333".parse().unwrap();
        let torso = torso();
        let (detector, region) = (torso.reread_from.clone().unwrap(), torso.region.clone().unwrap());
        Resolver { iam: &iam, sdk: &sdk, account: &account }.whole(&torso, &detector, &region).await.unwrap()
    }

    #[tokio::test]
    async fn a_sequence_is_read_again_and_only_the_same_finding_is_taken() {
        let finding = |id: &str, account: &str| {
            json!({"findings": [{"id": id, "type": "AttackSequence:IAM/CompromisedCredentials", "accountId": account,
                "region": "eu-west-1", "severity": 9, "arn": "a", "createdAt": "t", "updatedAt": "t", "schemaVersion": "2.0",
                "resource": {}, "service": {"detection": {"sequence": {"uid": "s", "description": "d", "signals": [],
                    "actors": [{"id": "1", "session": {"issuer": ROLE}}]}}}}]})
        };
        let found = whole(&finding("f1", "111122223333")).await.unwrap();
        assert_eq!(found.reread_from, None);
        assert!(
            matches!(&found.subjects[0], Subject::Principal { principal, .. } if principal.arn.as_deref() == Some(ROLE))
        );
        let mut unknown_to_the_sdk = finding("f1", "111122223333");
        unknown_to_the_sdk["findings"][0]["service"]["detection"]["sequence"]["actors"][0]["session"]["createdTime"] =
            json!("2026-11-21T02:58:00.000Z");
        assert_eq!(whole(&unknown_to_the_sdk).await, Some(found));
        assert_eq!(whole(&finding("f2", "111122223333")).await, None);
        assert_eq!(whole(&finding("f1", "444455556666")).await, None);
        assert_eq!(whole(&json!({"findings": []})).await, None);
    }
}
