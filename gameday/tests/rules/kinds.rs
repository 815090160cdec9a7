//! What Security Hub and CloudTrail send, and what of it the rules take.

use gameday::aws::ACCOUNT;
use serde_json::{Value, json};

/// What production sends beside findings of GuardDuty: a name, its source, what it is, what it holds; then changes of it
/// that the rule takes too, and changes that it must not take.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
    pub(crate) detail_type: &'static str,
    pub(crate) detail: Value,
    pub(crate) resources: Value,
    pub(crate) taken: Vec<Value>,
    pub(crate) left: Vec<Value>,
}

fn in_finding(change: &Value) -> Value {
    json!({"detail": {"findings": change}})
}

pub(crate) fn kinds() -> [Kind; 4] {
    let guardduty = "arn:aws:securityhub:us-east-1::product/aws/guardduty";
    let action = format!("arn:aws:securityhub:us-east-1:{ACCOUNT}:action/custom/FirebreakContain");
    let action_elsewhere = format!("arn:aws:securityhub:eu-west-1:{ACCOUNT}:action/custom/FirebreakContain");
    let own_product = format!("arn:aws:securityhub:us-east-1:{ACCOUNT}:product/{ACCOUNT}/default");
    let own_policy = format!("arn:aws:iam::{ACCOUNT}:policy/AWSCompromisedKeyQuarantineV3");
    [
        Kind {
            name: "imported",
            source: "aws.securityhub",
            detail_type: "Security Hub Findings - Imported",
            detail: json!({"findings": [{"ProductArn": guardduty, "RecordState": "ACTIVE",
                "Workflow": {"Status": "NEW"}, "Types": ["TTPs/UnauthorizedAccess:IAMUser-ConsoleLogin"]}]}),
            resources: json!(["arn:aws:guardduty:us-east-1:111122223333:detector/d/finding/f"]),
            taken: vec![
                in_finding(&json!({"ProductArn": "arn:aws:securityhub:ap-southeast-2::product/aws/guardduty"})),
                in_finding(&json!({"Workflow": {"Status": "NOTIFIED"}})),
                in_finding(&json!({"Workflow": null})),
            ],
            left: vec![
                // A configuration check, and whatever else is imported.
                in_finding(&json!({"ProductArn": "arn:aws:securityhub:us-east-1::product/aws/securityhub"})),
                in_finding(&json!({"ProductArn": "arn:aws:securityhub:us-east-1::product/aws/inspector"})),
                in_finding(&json!({"ProductArn": "arn:aws:securityhub:us-east-1::product/acme/aws/guardduty"})),
                in_finding(&json!({"ProductArn": own_product})),
                in_finding(&json!({"ProductArn": format!("{own_product}::product/aws/guardduty2")})),
                in_finding(&json!({"ProductArn": null})),
                in_finding(&json!({"RecordState": "ARCHIVED"})),
                in_finding(&json!({"Workflow": {"Status": "SUPPRESSED"}})),
                in_finding(&json!({"Workflow": {"Status": "RESOLVED"}})),
                json!({"detail": {"findings": []}}),
            ],
        },
        Kind {
            name: "custom action",
            source: "aws.securityhub",
            detail_type: "Security Hub Findings - Custom Action",
            detail: json!({"actionName": "Contain with Firebreak", "findings": [{"ProductArn": own_product}]}),
            resources: json!([action]),
            taken: vec![
                json!({"resources": [action_elsewhere]}),
                in_finding(&json!({"ProductArn": guardduty, "RecordState": "ARCHIVED"})),
            ],
            left: vec![
                json!({"resources": [format!("arn:aws:securityhub:us-east-1:{ACCOUNT}:action/custom/OpenTicket")]}),
                json!({"resources": [format!("{action}2")]}),
                json!({"resources": ["arn:aws:securityhub:us-east-1:444455556666:action/custom/FirebreakContain"]}),
                json!({"resources": ["FirebreakContain"]}),
                json!({"resources": []}),
            ],
        },
        Kind {
            name: "second format",
            source: "aws.securityhub",
            detail_type: "Findings Imported V2",
            detail: json!({"findings": [{"class_uid": 2004, "status": "New", "severity": "High",
                "metadata": {"product": {"uid": "arn:aws:securityhub:us-east-1::productv2/aws/guardduty"}}}]}),
            resources: json!(["1d24e91799652d9e17025b61d94f436b"]),
            taken: vec![
                in_finding(&json!({"class_uid": 2001})),
                in_finding(&json!({"severity": "Low"})),
                in_finding(&json!({"status": "In Progress"})),
                in_finding(&json!({"status": null})),
                in_finding(&json!({"metadata": {"product": {"uid": guardduty}}})),
            ],
            left: vec![
                in_finding(&json!({"class_uid": 2002})),
                in_finding(&json!({"class_uid": 2003})),
                in_finding(&json!({"class_uid": "2004"})),
                in_finding(&json!({"status": "Suppressed"})),
                in_finding(&json!({"status": "Resolved"})),
                in_finding(&json!({"status": "Archived"})),
                in_finding(&json!({"status": "Deleted"})),
                in_finding(&json!({"metadata": {"product": {"uid":
                    "arn:aws:securityhub:us-east-1::productv2/aws/inspector"}}})),
                in_finding(&json!({"metadata": {"product": {"uid": own_product}}})),
            ],
        },
        Kind {
            name: "exposed key",
            source: "aws.iam",
            detail_type: "AWS API Call via CloudTrail",
            detail: json!({"eventSource": "iam.amazonaws.com", "eventName": "AttachUserPolicy", "requestParameters": {
                "userName": "ana", "policyArn": "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3"}}),
            resources: json!([]),
            taken: vec![json!({"detail": {"requestParameters": {
                "policyArn": "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantine"}}})],
            left: vec![
                json!({"detail": {"eventName": "DetachUserPolicy"}}),
                json!({"detail": {"eventName": "AttachRolePolicy"}}),
                json!({"detail": {"eventSource": "sts.amazonaws.com"}}),
                json!({"detail": {"errorCode": "AccessDenied"}}),
                json!({"detail": {"requestParameters": {"policyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}}}),
                json!({"detail": {"requestParameters": {"policyArn": own_policy}}}),
                json!({"detail": {"requestParameters": null}}),
            ],
        },
    ]
}
