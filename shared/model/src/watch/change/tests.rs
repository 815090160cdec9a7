#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;
use crate::ids::Partition;

const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/firebreak-deny-everything";

fn home() -> Home {
    Home { partition: Partition::Aws, account: "111122223333".parse().unwrap() }
}

fn event(source: &str, name: &str, parameters: &Value) -> Value {
    json!({"id": "e1", "source": format!("aws.{source}"), "detail-type": "AWS API Call via CloudTrail",
        "account": "111122223333", "detail": {"eventName": name, "eventSource": format!("{source}.amazonaws.com"),
            "eventID": "e1", "eventTime": "2026-11-21T03:00:00Z", "awsRegion": "eu-west-1",
            "recipientAccountId": "111122223333", "requestParameters": parameters,
            "userIdentity": {"type": "IAMUser", "accountId": "111122223333", "userName": "ana",
                "principalId": "AIDAEXAMPLE000000001", "arn": "arn:aws:iam::111122223333:user/ana"}}})
}

fn change(source: &str, name: &str, parameters: &Value) -> Change {
    Change::read(&event(source, name, parameters), &home()).unwrap()
}

fn own() -> Own {
    Own {
        stack: "firebreak".to_owned(),
        table: "firebreak-Ledger-1".to_owned(),
        key: "arn:aws:kms:eu-west-1:111122223333:key/k1".to_owned(),
        seal_key: "arn:aws:kms:eu-west-1:111122223333:key/s1".to_owned(),
        signing_key: "arn:aws:kms:eu-west-1:111122223333:key/e1".to_owned(),
        topic_arn: "arn:aws:sns:eu-west-1:111122223333:firebreak-PagesTopic-1".to_owned(),
        deny_policy_arn: DENY.to_owned(),
    }
}

#[test]
fn only_what_eventbridge_and_this_account_say_is_a_change() {
    let good = event("iam", "CreateUser", &json!({"userName": "x"}));
    assert!(Change::read(&good, &home()).is_ok());
    for (field, value) in [
        ("source", json!("my.iam")),
        ("source", json!("firebreak")),
        ("account", json!("444455556666")),
        ("detail-type", json!("AWS Console Sign In via CloudTrail")),
        ("replay-name", json!("last-week")),
        ("detail", json!([])),
        ("detail", json!({"eventName": 7})),
    ] {
        let mut changed = good.clone();
        changed[field] = value.clone();
        assert!(Change::read(&changed, &home()).is_err(), "{field} {value}");
    }
}

#[test]
fn the_dates_of_lambdas_events_are_no_part_of_the_name() {
    for (name, plain) in [
        ("UpdateFunctionCode20150331v2", "UpdateFunctionCode"),
        ("PutFunctionConcurrency20171031", "PutFunctionConcurrency"),
        ("DetachRolePolicy", "DetachRolePolicy"),
        ("UploadSSHPublicKey", "UploadSSHPublicKey"),
        ("Ec2Something", "Ec2Something"),
    ] {
        assert_eq!(undated(name), plain);
    }
}

#[test]
fn what_takes_something_of_a_containment_away_is_told_from_what_does_not() {
    for (source, name, parameters, undoes) in [
        ("iam", "DetachRolePolicy", json!({"roleName": "r", "policyArn": DENY}), true),
        ("iam", "DetachRolePolicy", json!({"roleName": "r", "policyArn": "arn:aws:iam::aws:policy/X"}), false),
        ("iam", "DeleteRolePermissionsBoundary", json!({"roleName": "r"}), true),
        ("iam", "PutRolePolicy", json!({"roleName": "r", "policyName": REVOCATION_POLICY}), true),
        ("iam", "PutRolePolicy", json!({"roleName": "r", "policyName": "mine"}), false),
        ("iam", "DeleteRolePolicy", json!({"roleName": "r", "policyName": CHAINED_POLICY}), true),
        ("iam", "DeleteRolePolicy", json!({"roleName": "r", "policyName": FUNCTIONS_POLICY}), true),
        ("iam", "UpdateAccessKey", json!({"userName": "u", "status": "Active"}), true),
        ("iam", "UpdateAccessKey", json!({"userName": "u", "status": "Inactive"}), false),
        ("iam", "UpdateAssumeRolePolicy", json!({"roleName": "r"}), true),
        ("iam", "TagRole", json!({"roleName": "r"}), false),
        (
            "lambda",
            "PutFunctionConcurrency20171031",
            json!({"functionName": "f", "reservedConcurrentExecutions": 5}),
            true,
        ),
        (
            "lambda",
            "PutFunctionConcurrency20171031",
            json!({"functionName": "f", "reservedConcurrentExecutions": 0}),
            false,
        ),
        ("lambda", "DeleteFunctionConcurrency20171031", json!({"functionName": "f"}), true),
        ("lambda", "UpdateEventSourceMapping20150331", json!({"uUID": "m", "enabled": true}), true),
        ("lambda", "UpdateEventSourceMapping20150331", json!({"uUID": "m", "enabled": false}), false),
        ("lambda", "UpdateFunctionUrlConfig", json!({"functionName": "f", "authType": "NONE"}), true),
        ("lambda", "UpdateFunctionUrlConfig", json!({"functionName": "f", "authType": "AWS_IAM"}), false),
    ] {
        assert_eq!(change(source, name, &parameters).undoes(DENY), undoes, "{name} {parameters}");
    }
}

#[test]
fn a_change_of_the_deny_policy_is_one_of_everybody_who_has_it() {
    for (name, arn, all) in [
        ("CreatePolicyVersion", DENY, true),
        ("SetDefaultPolicyVersion", DENY, true),
        ("DeletePolicyVersion", DENY, true),
        ("DeletePolicy", DENY, true),
        ("TagPolicy", DENY, false),
        ("DetachRolePolicy", DENY, false),
        ("CreatePolicyVersion", "arn:aws:iam::111122223333:policy/mine", false),
    ] {
        assert_eq!(change("iam", name, &json!({"policyArn": arn})).is_on_the_policy(DENY), all, "{name} {arn}");
    }
}

#[test]
fn a_change_leads_to_the_role_the_user_or_the_function_that_it_names() {
    let principal = |name: &str, parameters: Value| match change("iam", name, &parameters).things(&home()).pop() {
        Some(Thing::Principal(principal)) => principal.name.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(principal("DetachRolePolicy", json!({"roleName": "orders"})), "role/orders");
    assert_eq!(principal("UpdateAccessKey", json!({"userName": "bo"})), "user/bo");
    assert_eq!(principal("CreateAccessKey", json!(null)), "user/ana", "one's own, unnamed");
    assert_eq!(principal("DetachRolePolicy", json!({"roleName": "../x"})), "None");
    let function =
        |parameters: Value| match change("lambda", "AddPermission20150331v2", &parameters).things(&home()).pop() {
            Some(Thing::Function(function)) => function.to_string(),
            other => format!("{other:?}"),
        };
    let arn = "arn:aws:lambda:eu-west-1:111122223333:function:orders";
    for named in [
        "orders",
        arn,
        "arn:aws:lambda:eu-west-1:111122223333:function:orders:live",
        "111122223333:function:orders",
        "orders:3",
    ] {
        assert_eq!(function(json!({"functionName": named})), arn, "{named}");
    }
}

#[test]
fn what_a_contained_principal_makes_is_born_or_widened() {
    let mut made = event("iam", "CreateUser", &json!({"userName": "backdoor"}));
    made["detail"]["responseElements"] = json!({"user": {"arn": "arn:aws:iam::111122223333:user/x/backdoor"}});
    let Some(Minted::Born(user)) = Change::read(&made, &home()).unwrap().mints(&home()) else { unreachable!() };
    assert_eq!(user.path(), Some("/x/"), "with the path that the answer gives");
    for (name, parameters, widened) in [
        ("CreateAccessKey", json!({"userName": "ci-bot"}), Some(Some("user/ci-bot"))),
        ("UpdateAssumeRolePolicy", json!({"roleName": "admin"}), Some(Some("role/admin"))),
        ("SetDefaultPolicyVersion", json!({"policyArn": "p"}), Some(None)),
        ("DeleteUser", json!({"userName": "ci-bot"}), None),
    ] {
        let found = match change("iam", name, &parameters).mints(&home()) {
            Some(Minted::Widened(principal)) => Some(principal.map(|p| p.name.to_string())),
            Some(Minted::Born(_)) => unreachable!("{name} makes nobody"),
            None => None,
        };
        assert_eq!(found, widened.map(|name| name.map(str::to_owned)), "{name}");
    }
}

#[test]
fn every_name_of_the_template_is_a_part_and_no_other_is() {
    let template = include_str!("../../../../../template.yaml");
    let mut named: Vec<&str> = template
        .lines()
        .filter(|line| line.contains("Name: !Sub") && !line.contains('/'))
        .filter_map(|line| line.split_once("${AWS::StackName}-")?.1.split('"').next())
        .filter(|part| !part.contains('$'))
        .collect();
    named.sort_unstable();
    named.dedup();
    let own = own();
    let unknown: Vec<_> = named.iter().filter(|part| !own.is_named(&format!("firebreak-{part}"))).collect();
    assert!(unknown.is_empty() && named.len() > 40, "{unknown:?} of {}", named.len());
    let gone: Vec<_> = PARTS.iter().filter(|part| !named.contains(part)).collect();
    assert!(gone.is_empty(), "no longer in the template: {gone:?}");
}

#[test]
fn each_of_firebreaks_own_parts_is_known_and_others_are_not() {
    for (source, name, parameters, ours) in [
        ("events", "DisableRule", json!({"name": "firebreak-findings"}), true),
        ("events", "RemoveTargets", json!({"rule": "firebreak-notify", "eventBusName": "firebreak"}), true),
        ("events", "DeleteEventBus", json!({"name": "firebreak"}), true),
        ("events", "DisableRule", json!({"name": "firebreaker"}), false),
        ("lambda", "RemovePermission20150331v2", json!({"functionName": "firebreak-isolate-function"}), true),
        (
            "lambda",
            "PutFunctionConcurrency20171031",
            json!({"functionName": "arn:aws:lambda:eu-west-1:111122223333:function:firebreak-notify-responders"}),
            true,
        ),
        ("lambda", "PutFunctionConcurrency20171031", json!({"functionName": "orders"}), false),
        ("dynamodb", "DeleteTable", json!({"tableName": "firebreak-Ledger-1"}), true),
        (
            "dynamodb",
            "UpdateTable",
            json!({"tableName": "arn:aws:dynamodb:eu-west-1:111122223333:table/firebreak-Ledger-1"}),
            true,
        ),
        (
            "dynamodb",
            "PutResourcePolicy",
            json!({"resourceArn": "arn:aws:dynamodb:eu-west-1:111122223333:table/firebreak-Ledger-1/stream/2026-11-21T03:00:00.000"}),
            true,
        ),
        (
            "dynamodb",
            "PutResourcePolicy",
            json!({"resourceArn": "arn:aws:dynamodb:eu-west-1:111122223333:table/firebreak-Ledger-12/stream/2026-11-21T03:00:00.000"}),
            false,
        ),
        ("dynamodb", "DeleteTable", json!({"tableName": "orders"}), false),
        ("kms", "DisableKey", json!({"keyId": "k1"}), true),
        ("kms", "ScheduleKeyDeletion", json!({"keyId": "arn:aws:kms:eu-west-1:111122223333:key/k1"}), true),
        ("kms", "DisableKey", json!({"keyId": "k2"}), false),
        ("kms", "DisableKey", json!({"keyId": "s1"}), true),
        ("kms", "DeleteAlias", json!({"aliasName": "alias/firebreak-seals"}), true),
        ("kms", "DeleteAlias", json!({"aliasName": "alias/firebreak-evidence"}), true),
        ("kms", "DisableKey", json!({"keyId": "e1"}), true),
        ("kms", "DeleteAlias", json!({"aliasName": "alias/firebreak-x"}), false),
        (
            "sns",
            "Unsubscribe",
            json!({"subscriptionArn": "arn:aws:sns:eu-west-1:111122223333:firebreak-PagesTopic-1:s1"}),
            true,
        ),
        ("sns", "DeleteTopic", json!({"topicArn": "arn:aws:sns:eu-west-1:111122223333:orders"}), false),
        (
            "sns",
            "DeleteTopic",
            json!({"topicArn": "arn:aws:sns:eu-west-1:111122223333:firebreak-PagesTopic-12"}),
            false,
        ),
        (
            "sqs",
            "PurgeQueue",
            json!({"queueUrl": "https://sqs.eu-west-1.amazonaws.com/111122223333/firebreak-recheck"}),
            true,
        ),
        ("cloudtrail", "StopLogging", json!({"name": "main"}), true),
        (
            "cloudformation",
            "DeleteStack",
            json!({"stackName": "arn:aws:cloudformation:eu-west-1:111122223333:stack/firebreak/1"}),
            true,
        ),
        ("cloudformation", "DeleteStack", json!({"stackName": "orders"}), false),
        ("iam", "CreatePolicyVersion", json!({"policyArn": DENY}), true),
        ("iam", "DetachRolePolicy", json!({"roleName": "orders", "policyArn": DENY}), false),
        ("iam", "PutRolePolicy", json!({"roleName": "firebreak-quarantine-principal"}), true),
        ("monitoring", "DeleteAlarms", json!({"alarmNames": ["firebreak-guard-silent"]}), true),
        ("monitoring", "DeleteAlarms", json!({"alarmNames": ["firebreak-guard-containment-errors"]}), true),
        // Another stack, whose name goes on where ours ends.
        ("events", "DisableRule", json!({"name": "firebreak-x-findings"}), false),
        ("events", "DeleteEventBus", json!({"name": "firebreak-x"}), false),
        (
            "lambda",
            "PutFunctionConcurrency20171031",
            json!({"functionName": "firebreak-x-quarantine-principal"}),
            false,
        ),
        ("iam", "PutRolePolicy", json!({"roleName": "firebreak-x-quarantine-principal"}), false),
        ("monitoring", "DeleteAlarms", json!({"alarmNames": ["firebreak-x-guard-silent"]}), false),
    ] {
        assert_eq!(change(source, name, &parameters).own_part(&own()).is_some(), ours, "{name} {parameters}");
    }
}
