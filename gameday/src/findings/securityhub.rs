//! Findings as Security Hub sends them: of the first format (ASFF) by a person, of the second (OCSF) by itself.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::RoleSession;
use crate::aws::{ACCOUNT, Aws};
use crate::scene::Victim;

/// An event of Security Hub: one finding, and what the envelope says of it.
#[derive(Debug, Clone)]
pub struct SecurityHubEvent {
    /// What the event is.
    pub detail_type: &'static str,
    /// What it is about: the custom action's ARN, or the finding's.
    pub resources: Vec<String>,
    /// Its content.
    pub detail: Value,
    finding_id: String,
    shown: String,
}

impl SecurityHubEvent {
    /// The id under which Firebreak records the finding.
    pub fn finding_id(&self) -> &str {
        &self.finding_id
    }

    /// What it says, in a few words.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// A finding on a session of a role, of no great severity and from a product that anybody may import under, sent
/// by the custom action of this id.
///
/// # Errors
/// Where there is no time.
pub fn sent_by_custom_action(aws: &Aws, of: &RoleSession<'_>, action: &str) -> Result<SecurityHubEvent> {
    let (region, id) = (&aws.region, format!("hunt/{}", crate::scene::random_hex(16)));
    let [first, now] = times()?;
    let finding = json!({
        "SchemaVersion": "2018-10-08",
        "Id": id,
        "ProductArn": format!("arn:aws:securityhub:{region}:{ACCOUNT}:product/{ACCOUNT}/default"),
        "GeneratorId": "threat-hunting",
        "AwsAccountId": ACCOUNT,
        "Region": region,
        "Types": ["Unusual Behaviors/User"],
        "FirstObservedAt": first.to_string(),
        "LastObservedAt": now.to_string(),
        "CreatedAt": now.to_string(),
        "UpdatedAt": now.to_string(),
        "Severity": {"Label": "LOW", "Normalized": 20},
        "Title": "Calls that this role has never made",
        "Description": "Found by hand.",
        "Resources": [{
            "Type": "AwsIamAccessKey",
            "Id": format!("AWS::IAM::AccessKey:{}", of.access_key),
            "Partition": "aws",
            "Region": region,
            "Details": {"AwsIamAccessKey": {
                "PrincipalId": format!("{}:{}", of.role_id, of.session),
                "PrincipalType": "AssumedRole",
                "PrincipalName": of.role,
            }},
        }],
        "WorkflowState": "NEW",
        "Workflow": {"Status": "NEW"},
        "RecordState": "ACTIVE",
    });
    Ok(SecurityHubEvent {
        detail_type: "Security Hub Findings - Custom Action",
        resources: vec![format!("arn:aws:securityhub:{region}:{ACCOUNT}:action/custom/{action}")],
        detail: json!({"actionName": action, "actionDescription": "Contain the principal", "findings": [finding]}),
        finding_id: id,
        shown: format!("sent by a person through `{action}`"),
    })
}

/// `Backdoor:Lambda/C&CActivity.B`, as GuardDuty's finding arrives in the second format.
///
/// # Errors
/// Where there is no time.
pub fn lambda_c2_v2(aws: &Aws, victim: &Victim) -> Result<SecurityHubEvent> {
    let id = crate::scene::random_hex(32);
    let class =
        Class { uid: 2004, name: "Detection Finding", product: "guardduty", kind: "Backdoor:Lambda/C&CActivity.B" };
    let detector = format!("arn:aws:guardduty:{}:{ACCOUNT}:detector/12abc34d567e8fa901bc2d34e56789f0", aws.region);
    v2(aws, victim, &class, &format!("{detector}/finding/{id}"), id)
}

/// A package of the function that should be updated: it names the same function and the same role.
///
/// # Errors
/// Where there is no time.
pub fn vulnerable_package_v2(aws: &Aws, victim: &Victim) -> Result<SecurityHubEvent> {
    let class = Class {
        uid: 2002,
        name: "Vulnerability Finding",
        product: "inspector",
        kind: "Software and Configuration Checks/Vulnerabilities/CVE",
    };
    let id = format!("arn:aws:inspector2:{}:{ACCOUNT}:finding/{}", aws.region, crate::scene::random_hex(32));
    v2(aws, victim, &class, &id.clone(), id)
}

struct Class {
    uid: u32,
    name: &'static str,
    product: &'static str,
    kind: &'static str,
}

fn v2(aws: &Aws, victim: &Victim, class: &Class, uid: &str, finding_id: String) -> Result<SecurityHubEvent> {
    let region = &aws.region;
    let [first, now] = times()?;
    let envelope_id = crate::scene::random_hex(64);
    let finding = json!({
        "activity_id": 1,
        "activity_name": "Create",
        "category_name": "Findings",
        "category_uid": 2,
        "class_name": class.name,
        "class_uid": class.uid,
        "cloud": {"account": {"type": "AWS Account", "type_id": 10, "uid": ACCOUNT}, "cloud_partition": "aws",
            "provider": "AWS", "region": region},
        "finding_info": {
            "uid": uid,
            "types": [class.kind],
            "title": "A finding on a function",
            "first_seen_time": first.as_millisecond(),
            "last_seen_time": now.as_millisecond(),
            "modified_time": now.as_millisecond(),
        },
        "metadata": {
            "product": {"name": class.product, "vendor_name": "AWS",
                "uid": format!("arn:aws:securityhub:{region}::productv2/aws/{}", class.product)},
            "uid": envelope_id,
            "version": "1.5.0",
        },
        "resources": [{
            "cloud_partition": "aws",
            "region": region,
            "type": "AWS::Lambda::Function",
            "uid": victim.function_arn,
            "name": victim.function,
            "owner": {"account": {"type": "AWS Account", "type_id": 10, "uid": ACCOUNT}},
            "data": {"awsLambdaFunctionDetails": {"functionName": victim.function, "runtime": "PYTHON_3_12",
                "executionRoleArn": victim.role.arn}},
        }],
        "severity": "High",
        "severity_id": 4,
        "status": "New",
        "status_id": 1,
        "time": now.as_millisecond(),
        "type_name": format!("{}: Create", class.name),
        "type_uid": class.uid * 100 + 1,
    });
    Ok(SecurityHubEvent {
        detail_type: "Findings Imported V2",
        resources: vec![envelope_id],
        detail: json!({"findings": [finding]}),
        finding_id,
        shown: format!("class {}, `{}`", class.uid, class.kind),
    })
}

/// When it began, and now.
fn times() -> Result<[Timestamp; 2]> {
    let now = firebreak_shared::clock::now();
    Ok([now.saturating_sub(SignedDuration::from_mins(10))?, now])
}
