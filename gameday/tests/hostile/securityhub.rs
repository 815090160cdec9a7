//! Findings of Security Hub in both formats, and records of CloudTrail.

use gameday::aws::{ACCOUNT, REGION};
use gameday::scene::random_hex;
use serde_json::{Value, json};

use super::bait::Bait;
use super::cases::{Case, case, envelope, hostile_names, with};

/// Both formats of Security Hub; the custom action makes every one of them an order to act.
pub(crate) fn security_hub(bait: &Bait) -> Vec<Case> {
    let asff = |findings: &Value| {
        let event =
            envelope("aws.securityhub", "Security Hub Findings - Custom Action", &json!({"findings": findings}));
        with(
            event,
            "/resources",
            json!([format!("arn:aws:securityhub:{REGION}:{ACCOUNT}:action/custom/FirebreakContain")]),
        )
    };
    let one = |resources: &Value| {
        json!({"Id": random_hex(16), "ProductArn": format!("arn:aws:securityhub:{REGION}::product/aws/guardduty"),
               "AwsAccountId": ACCOUNT, "Region": REGION, "Types": ["TTPs/Exfiltration:IAMUser-AnomalousBehavior"],
               "Severity": {"Label": "HIGH"}, "UpdatedAt": "2026-11-21T03:19:58Z", "Resources": resources})
    };
    let ocsf = |resources: &Value| {
        let finding = json!({"class_uid": 2004, "finding_info": {"uid": random_hex(16), "types": ["TTPs/Exfiltration:IAMUser/AnomalousBehavior"]},
            "metadata": {"product": {"uid": format!("arn:aws:securityhub:{REGION}::product/aws/guardduty")}}, "severity": "High",
            "cloud": {"account": {"uid": ACCOUNT}, "region": REGION}, "resources": resources});
        envelope("aws.securityhub", "Findings Imported V2", &json!({"findings": [finding]}))
    };
    let role = json!([{"Type": "AwsIamRole", "Id": bait.role.arn}]);
    let strange = with(one(&role), "/Types", json!(["Exfiltration:IAMUser/AnomalousBehavior"]));
    let strange = with(strange, "/ProductArn", json!(format!("arn:aws:securityhub:{REGION}::product/aws/guardduty\n")));
    let imported = with(asff(&json!([strange])), "/detail-type", json!("Security Hub Findings - Imported"));
    let junk: Vec<Value> = (0..5_000)
        .map(|n| json!({"Type": "AwsIamRole", "Id": format!("\u{43e}{n}{}", "\u{43e}".repeat(40))}))
        .collect();
    let mut cases = vec![
        case("ASFF, no findings", &asff(&json!([])), "malformed", "holds no finding"),
        case("ASFF, findings that are a text", &asff(&json!("x")), "malformed", "holds no finding"),
        case(
            "ASFF, findings that are none",
            &asff(&json!([null, 1, "x", [], {}])),
            "malformed",
            "no object; the finding has no `Id`",
        ),
        case("ASFF, ten thousand findings that are none", &asff(&json!(vec![0; 10_000])), "malformed", "no object"),
        case(
            "ASFF, five thousand resources that are nobody",
            &asff(&json!([one(&json!(junk))])),
            "noted",
            "more roles, users and functions",
        ),
        case(
            "ASFF, resources that are a text",
            &asff(&json!([one(&json!(bait.role.arn))])),
            "noted",
            "no role, user or function",
        ),
        case("ASFF, a product with a line break", &imported, "noted", "anyone in the account may import"),
        case(
            "ASFF, a null key",
            &asff(&json!([one(&json!([{"Type": "AwsIamAccessKey", "Id": "AWS::IAM::AccessKey:null"}]))])),
            "noted",
            "user or a role",
        ),
        case(
            "OCSF, a resource whose type is a list",
            &ocsf(&json!([{"type": ["AwsIamRole"], "uid": bait.role.arn}])),
            "noted",
            "no role, user or function",
        ),
        case(
            "OCSF, Firebreak's own role",
            &ocsf(&json!([{"type": "AwsIamRole", "uid": format!("arn:aws:iam::{ACCOUNT}:role/firebreak/x")}])),
            "noted",
            "Firebreak's own",
        ),
    ];
    for (what, name) in hostile_names(&bait.user.name).into_iter().filter(|(_, name)| !name.starts_with("arn:")) {
        let key = json!([{"Type": "AwsIamAccessKey", "Id": "AWS::IAM::AccessKey:AKIAEXAMPLEKEY000001",
            "Details": {"AwsIamAccessKey": {"PrincipalType": "IAMUser", "PrincipalName": name}}}]);
        cases.push(case(&format!("ASFF, a user named by {what}"), &asff(&json!([one(&key)])), "noted", "no user name"));
        let role = json!([{"type": "AwsIamRole", "uid": format!("arn:aws:iam::{ACCOUNT}:role/x"),
            "data": {"awsIamRole": {"roleName": name}}}]);
        let role = with(role, "/0/uid", json!(format!("arn:aws:iam::{ACCOUNT}:roles/{name}")));
        cases.push(case(&format!("OCSF, a role named by {what}"), &ocsf(&role), "noted", "no role name"));
    }
    cases
}

pub(crate) fn cloudtrail(bait: &Bait) -> Vec<Case> {
    let record = |user: &Value| {
        let detail = json!({"eventVersion": "1.11", "userIdentity": {"type": "AWSService", "invokedBy": "iam.amazonaws.com"},
            "eventTime": "2026-11-21T03:14:55Z", "eventSource": "iam.amazonaws.com", "eventName": "AttachUserPolicy",
            "awsRegion": REGION, "eventID": random_hex(32), "recipientAccountId": ACCOUNT, "requestParameters": {
                "policyArn": "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3", "userName": user}});
        envelope("aws.iam", "AWS API Call via CloudTrail", &detail)
    };
    let mut cases = vec![
        case("CloudTrail, a user that is a list", &record(&json!([bait.user.name])), "noted", "AWS service"),
        case(
            "CloudTrail, no name of the call",
            &with(record(&json!("x")), "/detail/eventName", json!(null)),
            "malformed",
            "no `eventName`",
        ),
        case(
            "CloudTrail, a call with a line break",
            &with(record(&json!("x")), "/detail/eventName", json!("Attach\nUserPolicy")),
            "noted",
            "AWS service",
        ),
        case(
            "CloudTrail, a user that is not there",
            &record(&json!(format!("gone-{}", bait.suffix))),
            "withheld",
            "does not exist",
        ),
    ];
    for (what, name) in hostile_names(&bait.user.name) {
        cases.push(case(
            &format!("CloudTrail, a user named by {what}"),
            &record(&json!(name)),
            "noted",
            "no user name",
        ));
    }
    cases
}
