//! Findings about the principals of a scene, made from the sample events.

pub mod securityhub;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::aws::{ACCOUNT, Aws, REGION};
use crate::scene::workload::EcsTask;

/// The name of a session whose credentials an instance was given.
pub const INSTANCE: &str = "i-0123456789abcdef0";

/// A role and the session of it that a finding is about.
#[derive(Debug, Clone)]
pub struct RoleSession<'a> {
    /// The role's name.
    pub role: &'a str,
    /// Its unique id.
    pub role_id: &'a str,
    /// The name of the session.
    pub session: &'a str,
    /// The access key of the session.
    pub access_key: &'a str,
}

/// `UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.OutsideAWS` on a role: the session bears its function's name.
///
/// # Errors
/// Where the sample event does not have the shape of a finding.
pub fn access_key_of_role(aws: &Aws, of: &RoleSession<'_>) -> Result<Value> {
    let mut detail = detail(aws, include_str!("../../events/guardduty-access-key-of-role.json"))?;
    *at(&mut detail, "/resource/accessKeyDetails")? = access_key_details(of);
    Ok(detail)
}

/// `UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS` on a role that no function runs as.
///
/// # Errors
/// Where the sample event does not have the shape of a finding.
pub fn access_key_of_instance(aws: &Aws, of: &RoleSession<'_>) -> Result<Value> {
    let mut detail = detail(aws, include_str!("../../events/guardduty-access-key-of-instance.json"))?;
    *at(&mut detail, "/resource/accessKeyDetails")? = access_key_details(of);
    Ok(detail)
}

/// `UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS` on a role, by an account of the same
/// organisation: a person must approve.
///
/// # Errors
/// Where the sample event does not have the shape of a finding.
pub fn access_key_of_instance_inside_aws(aws: &Aws, of: &RoleSession<'_>) -> Result<Value> {
    let mut detail = detail(aws, include_str!("../../events/guardduty-inside-aws-affiliated.json"))?;
    *at(&mut detail, "/resource/accessKeyDetails")? = access_key_details(of);
    Ok(detail)
}

/// The event that EventBridge brings of a finding of GuardDuty's own, numbered for its id.
pub fn delivered(number: usize, detail: &Value) -> Value {
    json!({"version": "0", "id": format!("00000000-0000-4000-9000-{number:012x}"),
        "detail-type": "GuardDuty Finding", "source": "aws.guardduty", "account": ACCOUNT,
        "time": "2026-11-21T03:00:00Z", "region": REGION, "resources": [], "detail": detail})
}

fn access_key_details(of: &RoleSession<'_>) -> Value {
    json!({
        "accessKeyId": of.access_key,
        "principalId": format!("{}:{}", of.role_id, of.session),
        "userType": "AssumedRole",
        "userName": of.role,
    })
}

/// `Exfiltration:IAMUser/AnomalousBehavior` on a user.
///
/// # Errors
/// Where the sample event does not have the shape of a finding.
pub fn access_key_of_user(aws: &Aws, user: &str, user_id: &str, access_key: &str) -> Result<Value> {
    let mut detail = detail(aws, include_str!("../../events/guardduty-access-key-of-user.json"))?;
    *at(&mut detail, "/resource/accessKeyDetails")? =
        json!({"accessKeyId": access_key, "principalId": user_id, "userType": "IAMUser", "userName": user});
    Ok(detail)
}

/// `Backdoor:Lambda/C&CActivity.B` on a function.
///
/// # Errors
/// Where the sample event does not have the shape of a finding.
pub fn lambda_c2(aws: &Aws, function_arn: &str, function: &str, role: Option<&str>) -> Result<Value> {
    let mut detail = detail(aws, include_str!("../../events/guardduty-lambda-c2-role-absent.json"))?;
    *at(&mut detail, "/resource/lambdaDetails/functionArn")? = json!(function_arn);
    *at(&mut detail, "/resource/lambdaDetails/functionName")? = json!(function);
    if let Some(role) = role {
        let details = at(&mut detail, "/resource/lambdaDetails")?;
        details.as_object_mut().context("no Lambda details")?.insert("role".to_owned(), json!(role));
    }
    Ok(detail)
}

/// `AttackSequence:IAM/CompromisedCredentials` on a role, whose ARN with its path is the session's issuer.
///
/// # Errors
/// Where the sample event does not have the shape of a finding.
pub fn attack_sequence(aws: &Aws, role_arn: &str, of: &RoleSession<'_>) -> Result<Value> {
    let mut detail = detail(aws, include_str!("../../events/guardduty-attack-sequence-role-with-path.json"))?;
    let actor = "/service/detection/sequence/actors/0";
    *at(&mut detail, &format!("{actor}/id"))? = json!(role_arn);
    *at(&mut detail, &format!("{actor}/session/issuer"))? = json!(role_arn);
    *at(&mut detail, &format!("{actor}/session/uid"))? = json!(of.session);
    *at(&mut detail, &format!("{actor}/user"))? = json!({
        "name": of.role,
        "uid": format!("{}:{}", of.role_id, of.session),
        "type": "AssumedRole",
        "credentialUid": of.access_key,
        "account": {"uid": ACCOUNT},
    });
    Ok(detail)
}

/// The copy of an attack sequence that lacks the sequence: who acted is not in it.
///
/// # Errors
/// Where the finding does not have the shape of one.
pub fn without_its_sequence(mut detail: Value) -> Result<Value> {
    at(&mut detail, "/service")?.as_object_mut().context("no service")?.remove("detection");
    Ok(detail)
}

/// Has GuardDuty hold a finding, whole: the emulator takes it in the place of a type to make a sample of.
///
/// # Errors
/// Where the finding names no detector, or GuardDuty refuses.
pub async fn hold_in_guardduty(aws: &Aws, detail: &Value) -> Result<()> {
    let detector = detail.pointer("/service/detectorId").and_then(Value::as_str).context("no detector")?;
    let create = aws.guardduty.create_sample_findings().detector_id(detector);
    create.finding_types(detail.to_string()).send().await.context("GuardDuty does not take the finding")?;
    Ok(())
}

/// `Backdoor:Runtime/C&CActivity.B` on an instance, of which the finding names the profile and no role.
///
/// # Errors
/// Where the sample event does not have the shape of a finding.
pub fn runtime_on_instance(aws: &Aws, profile_arn: &str, profile_id: &str) -> Result<Value> {
    let resource = json!({"resourceType": "Instance", "instanceDetails": {
        "instanceId": INSTANCE, "instanceType": "m7g.large", "instanceState": "running",
        "iamInstanceProfile": {"arn": profile_arn, "id": profile_id}}});
    runtime(aws, resource)
}

/// `Backdoor:Runtime/C&CActivity.B` in a task of ECS, of which the finding names the task and its definition.
///
/// # Errors
/// Where the sample event does not have the shape of a finding.
pub fn runtime_on_task(aws: &Aws, task: &EcsTask) -> Result<Value> {
    let resource = json!({"resourceType": "ECSCluster", "ecsClusterDetails": {
        "name": task.cluster, "arn": task.cluster_arn, "status": "ACTIVE",
        "taskDetails": {"arn": task.arn, "definitionArn": task.definition_arn, "version": "1",
            "containers": [{"name": "web", "image": "web:1"}]}}});
    runtime(aws, resource)
}

fn runtime(aws: &Aws, resource: Value) -> Result<Value> {
    let mut detail = detail(aws, include_str!("../../events/guardduty-lambda-c2-role-absent.json"))?;
    *at(&mut detail, "/type")? = json!("Backdoor:Runtime/C&CActivity.B");
    *at(&mut detail, "/severity")? = json!(8);
    *at(&mut detail, "/resource")? = resource;
    Ok(detail)
}

/// The same finding as a generated sample: the marker is a text inside a text.
///
/// # Errors
/// Where the finding does not have the shape of one.
pub fn as_sample(mut detail: Value) -> Result<Value> {
    *at(&mut detail, "/service/additionalInfo")? = json!({"value": "{\"sample\":true}", "type": "default"});
    Ok(detail)
}

/// The id of a finding.
pub fn id(detail: &Value) -> String {
    detail.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The `detail` of a sample event, as of now and of this account and Region, with an id of its own.
fn detail(aws: &Aws, sample: &str) -> Result<Value> {
    let event: Value = serde_json::from_str(sample)?;
    let mut detail = event.get("detail").cloned().context("the sample event has no detail")?;
    let now = firebreak_shared::clock::now();
    let seen = |ago: i64| now.saturating_sub(SignedDuration::from_secs(ago)).map(|t: Timestamp| t.to_string());
    *at(&mut detail, "/id")? = json!(crate::scene::random_hex(32));
    *at(&mut detail, "/accountId")? = json!(ACCOUNT);
    *at(&mut detail, "/region")? = json!(aws.region);
    *at(&mut detail, "/service/eventFirstSeen")? = json!(seen(600)?);
    *at(&mut detail, "/service/eventLastSeen")? = json!(seen(0)?);
    *at(&mut detail, "/createdAt")? = json!(now.to_string());
    *at(&mut detail, "/updatedAt")? = json!(now.to_string());
    Ok(detail)
}

fn at<'a>(value: &'a mut Value, path: &str) -> Result<&'a mut Value> {
    value.pointer_mut(path).with_context(|| format!("the sample event has no `{path}`"))
}
