//! The calls that the policy for the containment is about.

use super::{Call, DEPLOYER, May, TRUSTED};

const DENY: (&str, &[&str]) =
    ("iam:PolicyARN", &["arn:aws:iam::111122223333:policy/firebreak/firebreak-deny-everything"]);
const NAMESAKE: (&str, &[&str]) = ("iam:PolicyARN", &["arn:aws:iam::111122223333:policy/firebreak-deny-everything"]);
const READ_ONLY: (&str, &[&str]) = ("iam:PolicyARN", &["arn:aws:iam::aws:policy/ReadOnlyAccess"]);
const DENY_ALL: (&str, &[&str]) = ("iam:PermissionsBoundary", &["arn:aws:iam::aws:policy/AWSDenyAll"]);
const LIKE_IT: (&str, &[&str]) = ("iam:PermissionsBoundary", &["arn:aws:iam::111122223333:policy/AWSDenyAll"]);
const MANAGED: (&str, &[&str]) = ("iam:PermissionsBoundary", &["arn:aws:iam::aws:policy/PowerUserAccess"]);
const UNDER_A_PATH: (&str, &[&str]) = ("iam:PermissionsBoundary", &["arn:aws:iam::aws:policy/job-function/AWSDenyAll"]);
const OTHER: (&str, &[&str]) = ("iam:PermissionsBoundary", &["arn:aws:iam::111122223333:policy/developers"]);

/// The quarantine: the deny, the boundary, what hangs on them.
const QUARANTINE: &[Call<'_>] = &[
    ("iam:AttachRolePolicy", "iam::A:role/firebreak-drill/orders", &[DENY], May::Only(&["quarantine"])),
    ("iam:AttachUserPolicy", "iam::A:user/ops/ben", &[DENY], May::Only(&["quarantine"])),
    ("iam:AttachGroupPolicy", "iam::A:group/ops", &[DENY], May::Only(&["quarantine"])),
    ("iam:AttachRolePolicy", "iam::A:role/firebreak-drill/orders", &[READ_ONLY], May::Everyone),
    ("iam:AttachRolePolicy", "iam::A:role/firebreak-drill/orders", &[NAMESAKE], May::Everyone),
    ("iam:DetachRolePolicy", "iam::A:role/firebreak-drill/orders", &[DENY], May::Only(&["release"])),
    ("iam:DetachUserPolicy", "iam::A:user/ops/ben", &[DENY], May::Only(&["release"])),
    ("iam:DetachGroupPolicy", "iam::A:group/ops", &[DENY], May::Only(&["release"])),
    ("iam:DetachRolePolicy", "iam::A:role/firebreak-drill/orders", &[READ_ONLY], May::Everyone),
    ("iam:DetachRolePolicy", "iam::A:role/firebreak-drill/orders", &[NAMESAKE], May::Everyone),
    ("iam:DetachRolePolicy", "iam::A:role/firebreak-drill/orders", &[DENY, DENY_ALL], May::Only(&["release"])),
    (
        "iam:PutRolePermissionsBoundary",
        "iam::A:role/orders",
        &[DENY_ALL],
        May::Only(&["quarantine", "release", "boundaries"]),
    ),
    (
        "iam:PutUserPermissionsBoundary",
        "iam::A:user/ben",
        &[DENY_ALL],
        May::Only(&["quarantine", "release", "boundaries"]),
    ),
    (
        "iam:PutRolePermissionsBoundary",
        "iam::A:role/orders",
        &[OTHER],
        May::Only(&["quarantine", "release", "boundaries"]),
    ),
    ("iam:DeleteRolePermissionsBoundary", "iam::A:role/orders", &[DENY_ALL], May::Only(&["release"])),
    ("iam:DeleteUserPermissionsBoundary", "iam::A:user/ben", &[DENY_ALL], May::Only(&["release"])),
    ("iam:DeleteRolePermissionsBoundary", "iam::A:role/orders", &[OTHER], May::Everyone),
    ("iam:DeleteRolePermissionsBoundary", "iam::A:role/orders", &[LIKE_IT], May::Everyone),
    ("iam:DeleteRolePermissionsBoundary", "iam::A:role/orders", &[], May::Everyone),
    ("iam:DeleteRole", "iam::A:role/orders", &[DENY_ALL], May::Only(&["release"])),
    ("iam:DeleteRole", "iam::A:role/orders", &[], May::Everyone),
    ("iam:DeleteRole", "iam::A:role/orders", &[MANAGED], May::Everyone),
    ("iam:DeleteRole", "iam::A:role/orders", &[UNDER_A_PATH], May::Everyone),
    ("iam:UpdateAssumeRolePolicy", "iam::A:role/orders", &[DENY_ALL], May::Only(&["release"])),
    ("iam:UpdateAssumeRolePolicy", "iam::A:role/orders", &[OTHER], May::Everyone),
    ("iam:PutRolePolicy", "iam::A:role/orders", &[DENY_ALL], May::Only(&["revoke"])),
    ("iam:DeleteRolePolicy", "iam::A:role/orders", &[DENY_ALL], May::Only(&["revoke"])),
    ("iam:PutUserPolicy", "iam::A:user/ben", &[DENY_ALL], May::Only(&["revoke"])),
    ("iam:DeleteUserPolicy", "iam::A:user/ben", &[DENY_ALL], May::Only(&["revoke"])),
    ("iam:PutRolePolicy", "iam::A:role/orders", &[LIKE_IT], May::Everyone),
    ("iam:PutRolePolicy", "iam::A:role/orders", &[MANAGED], May::Everyone),
    ("iam:PutRolePolicy", "iam::A:role/orders", &[UNDER_A_PATH], May::Everyone),
    // There is no key that names an inline policy: this is what the policy cannot protect.
    ("iam:DeleteRolePolicy", "iam::A:role/orders", &[], May::Everyone),
    ("iam:PutRolePolicy", "iam::A:role/orders", &[OTHER], May::Everyone),
    // Nor one for the state of an access key.
    ("iam:UpdateAccessKey", "iam::A:user/ben", &[], May::Everyone),
];

/// Firebreak's own roles and policy, and the roles that the policy exempts.
const IDENTITIES: &[Call<'_>] = &[
    ("iam:AttachRolePolicy", "iam::A:role/firebreak/firebreak-guard-containment", &[READ_ONLY], DEPLOYER),
    // Attached to Firebreak itself, the deny would be an outage: not even the function that attaches it may.
    ("iam:AttachRolePolicy", "iam::A:role/firebreak/firebreak-guard-containment", &[DENY], May::Nobody),
    ("iam:PutRolePolicy", "iam::A:role/firebreak/firebreak-revoke-sessions", &[], DEPLOYER),
    ("iam:DeleteRolePolicy", "iam::A:role/firebreak/firebreak-quarantine-principal", &[], DEPLOYER),
    ("iam:UpdateAssumeRolePolicy", "iam::A:role/firebreak/firebreak-release-containment", &[], DEPLOYER),
    ("iam:PutRolePermissionsBoundary", "iam::A:role/firebreak/firebreak-release-containment", &[DENY_ALL], May::Nobody),
    ("iam:PassRole", "iam::A:role/firebreak/firebreak-release-containment", &[], DEPLOYER),
    ("iam:CreateRole", "iam::A:role/firebreak/anything", &[], DEPLOYER),
    ("iam:DeleteRole", "iam::A:role/firebreak/firebreak-release-containment", &[], DEPLOYER),
    ("iam:TagRole", "iam::A:role/firebreak/firebreak-release-containment", &[], DEPLOYER),
    ("iam:UpdateRole", "iam::A:role/firebreak/firebreak-release-containment", &[], DEPLOYER),
    ("iam:CreatePolicyVersion", "iam::A:policy/firebreak/firebreak-deny-everything", &[], DEPLOYER),
    ("iam:SetDefaultPolicyVersion", "iam::A:policy/firebreak/firebreak-deny-everything", &[], DEPLOYER),
    ("iam:DeletePolicyVersion", "iam::A:policy/firebreak/firebreak-deny-everything", &[], DEPLOYER),
    ("iam:DeletePolicy", "iam::A:policy/firebreak/firebreak-deny-everything", &[], DEPLOYER),
    ("iam:CreatePolicy", "iam::A:policy/firebreak/another", &[], DEPLOYER),
    ("iam:UpdateAssumeRolePolicy", "iam::A:role/ci/deployer-eu", &[], DEPLOYER),
    ("iam:CreateRole", "iam::A:role/ci/deployer-mine", &[], DEPLOYER),
    ("iam:PassRole", "iam::A:role/ci/deployer-eu", &[], DEPLOYER),
    ("iam:UpdateAssumeRolePolicy", "iam::A:role/oncall/responder", &[], DEPLOYER),
    ("iam:PutRolePolicy", "iam::A:role/landing-zone/boundaries", &[], DEPLOYER),
    ("iam:GetRole", "iam::A:role/firebreak/firebreak-release-containment", &[], May::Everyone),
    ("iam:ListRolePolicies", "iam::A:role/firebreak/firebreak-release-containment", &[], May::Everyone),
    ("iam:GetPolicyVersion", "iam::A:policy/firebreak/firebreak-deny-everything", &[], May::Everyone),
    ("iam:SimulatePrincipalPolicy", "iam::A:role/firebreak/firebreak-release-containment", &[], May::Everyone),
    (
        "iam:GenerateServiceLastAccessedDetails",
        "iam::A:role/firebreak/firebreak-release-containment",
        &[],
        May::Everyone,
    ),
    ("sts:AssumeRole", "iam::A:role/oncall/responder", &[], May::Everyone),
    ("sts:TagSession", "iam::A:role/ci/deployer-eu", &[], May::Everyone),
    ("iam:PutRolePolicy", "iam::A:role/firebreak-drill/orders", &[], May::Everyone),
    ("iam:CreateRole", "iam::A:role/deployer-eu", &[], May::Everyone),
    ("iam:CreatePolicyVersion", "iam::A:policy/developers", &[], May::Everyone),
];

const OUR_FUNCTION: (&str, &[&str]) =
    ("lambda:FunctionArn", &["arn:aws:lambda:us-east-1:111122223333:function:firebreak-publish-outcomes"]);
const THEIR_FUNCTION: (&str, &[&str]) =
    ("lambda:FunctionArn", &["arn:aws:lambda:us-east-1:111122223333:function:orders"]);

/// Functions, rules, bus, mappings, stack, alarms.
const PARTS: &[Call<'_>] = &[
    ("lambda:PutFunctionConcurrency", "lambda:R:A:function:firebreak-guard-containment", &[], DEPLOYER),
    ("lambda:UpdateFunctionCode", "lambda:R:A:function:firebreak-quarantine-principal", &[], DEPLOYER),
    ("lambda:UpdateFunctionConfiguration", "lambda:R:A:function:firebreak-quarantine-principal", &[], DEPLOYER),
    ("lambda:AddPermission", "lambda:R:A:function:firebreak-release-containment", &[], DEPLOYER),
    ("lambda:RemovePermission", "lambda:R:A:function:firebreak-quarantine-principal", &[], DEPLOYER),
    ("lambda:DeleteFunction", "lambda:R:A:function:firebreak-notify-responders", &[], DEPLOYER),
    ("lambda:PutFunctionEventInvokeConfig", "lambda:R:A:function:firebreak-isolate-function", &[], DEPLOYER),
    ("lambda:CreateFunctionUrlConfig", "lambda:R:A:function:firebreak-release-containment", &[], DEPLOYER),
    ("lambda:CreateFunction", "lambda:R:A:function:firebreak-mine", &[], DEPLOYER),
    ("lambda:GetFunction", "lambda:R:A:function:firebreak-quarantine-principal", &[], May::Everyone),
    ("lambda:ListVersionsByFunction", "lambda:R:A:function:firebreak-quarantine-principal", &[], May::Everyone),
    ("lambda:PutFunctionConcurrency", "lambda:R:A:function:orders", &[], May::Everyone),
    ("lambda:UpdateFunctionCode", "lambda:R:A:function:my-firebreak-clone", &[], May::Everyone),
    ("events:DisableRule", "events:R:A:rule/firebreak-findings", &[], DEPLOYER),
    ("events:PutRule", "events:R:A:rule/firebreak-findings", &[], DEPLOYER),
    ("events:RemoveTargets", "events:R:A:rule/firebreak/firebreak-revoke", &[], DEPLOYER),
    ("events:DeleteRule", "events:R:A:rule/firebreak/firebreak-isolate", &[], DEPLOYER),
    ("events:DeleteEventBus", "events:R:A:event-bus/firebreak", &[], DEPLOYER),
    ("events:PutPermission", "events:R:A:event-bus/firebreak", &[], DEPLOYER),
    ("events:DescribeRule", "events:R:A:rule/firebreak-findings", &[], May::Everyone),
    ("events:ListTargetsByRule", "events:R:A:rule/firebreak/firebreak-revoke", &[], May::Everyone),
    ("events:DisableRule", "events:R:A:rule/nightly", &[], May::Everyone),
    ("cloudformation:DeleteStack", "cloudformation:R:A:stack/firebreak/0a1b", &[], DEPLOYER),
    ("cloudformation:UpdateStack", "cloudformation:R:A:stack/firebreak/0a1b", &[], DEPLOYER),
    ("cloudformation:ExecuteChangeSet", "cloudformation:R:A:stack/firebreak/0a1b", &[], DEPLOYER),
    ("cloudformation:SetStackPolicy", "cloudformation:R:A:stack/firebreak/0a1b", &[], DEPLOYER),
    ("cloudformation:DescribeStacks", "cloudformation:R:A:stack/firebreak/0a1b", &[], May::Everyone),
    ("cloudformation:DetectStackDrift", "cloudformation:R:A:stack/firebreak/0a1b", &[], May::Everyone),
    ("cloudformation:GetTemplate", "cloudformation:R:A:stack/firebreak/0a1b", &[], May::Everyone),
    ("cloudformation:ListStackResources", "cloudformation:R:A:stack/firebreak/0a1b", &[], May::Everyone),
    ("cloudformation:DeleteStack", "cloudformation:R:A:stack/firebreak-like/0a1b", &[], May::Everyone),
    ("cloudwatch:DeleteAlarms", "cloudwatch:R:A:alarm:firebreak-function-failures", &[], DEPLOYER),
    ("cloudwatch:DisableAlarmActions", "cloudwatch:R:A:alarm:firebreak-function-failures", &[], DEPLOYER),
    ("cloudwatch:DescribeAlarms", "cloudwatch:R:A:alarm:firebreak-function-failures", &[], May::Everyone),
    ("cloudwatch:GetMetricData", "cloudwatch:R:A:alarm:firebreak-function-failures", &[], May::Everyone),
    ("cloudwatch:ListTagsForResource", "cloudwatch:R:A:alarm:firebreak-function-failures", &[], May::Everyone),
    ("cloudwatch:DeleteAlarms", "cloudwatch:R:A:alarm:orders", &[], May::Everyone),
    ("lambda:UpdateEventSourceMapping", "lambda:R:A:event-source-mapping:0a1b", &[OUR_FUNCTION], DEPLOYER),
    ("lambda:DeleteEventSourceMapping", "lambda:R:A:event-source-mapping:0a1b", &[OUR_FUNCTION], DEPLOYER),
    ("lambda:CreateEventSourceMapping", "*", &[OUR_FUNCTION], DEPLOYER),
    ("lambda:UpdateEventSourceMapping", "lambda:R:A:event-source-mapping:0a1b", &[THEIR_FUNCTION], May::Everyone),
    ("lambda:UpdateEventSourceMapping", "lambda:R:A:event-source-mapping:0a1b", &[], May::Everyone),
];

/// Orders to Firebreak, and what it keeps.
const STORES: &[Call<'_>] = &[
    ("lambda:InvokeFunction", "lambda:R:A:function:firebreak-release-containment", &[], TRUSTED),
    ("lambda:InvokeFunctionUrl", "lambda:R:A:function:firebreak-quarantine-principal", &[], TRUSTED),
    ("lambda:InvokeFunction", "lambda:R:A:function:orders", &[], May::Everyone),
    ("events:PutEvents", "events:R:A:event-bus/firebreak", &[], TRUSTED),
    ("events:PutEvents", "events:R:A:event-bus/default", &[], May::Everyone),
    ("dynamodb:PutItem", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], TRUSTED),
    ("dynamodb:UpdateItem", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], TRUSTED),
    ("dynamodb:PartiQLDelete", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], TRUSTED),
    ("dynamodb:DeleteTable", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], TRUSTED),
    ("dynamodb:PutResourcePolicy", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], TRUSTED),
    ("dynamodb:GetItem", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], May::Everyone),
    ("dynamodb:BatchGetItem", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], May::Everyone),
    ("dynamodb:Query", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], May::Everyone),
    ("dynamodb:Scan", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], May::Everyone),
    ("dynamodb:DescribeTable", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], May::Everyone),
    ("dynamodb:ListTagsOfResource", "dynamodb:R:A:table/firebreak-Ledger-1ABC", &[], May::Everyone),
    ("dynamodb:PutItem", "dynamodb:R:A:table/orders", &[], May::Everyone),
    ("s3:PutObject", "s3:::firebreak-evidencebucket-1abc/incidents/x", &[], TRUSTED),
    ("s3:DeleteObjectVersion", "s3:::firebreak-evidencebucket-1abc/incidents/x", &[], TRUSTED),
    ("s3:BypassGovernanceRetention", "s3:::firebreak-evidencebucket-1abc/incidents/x", &[], TRUSTED),
    ("s3:PutBucketPolicy", "s3:::firebreak-evidencebucket-1abc", &[], TRUSTED),
    ("s3:GetObject", "s3:::firebreak-evidencebucket-1abc/incidents/x", &[], May::Everyone),
    ("s3:ListBucket", "s3:::firebreak-evidencebucket-1abc", &[], May::Everyone),
    ("s3:PutObject", "s3:::orders/x", &[], May::Everyone),
    ("sns:Publish", "sns:R:A:firebreak-PagesTopic-1ABC", &[], TRUSTED),
    ("sns:DeleteTopic", "sns:R:A:firebreak-PagesTopic-1ABC", &[], TRUSTED),
    ("sns:SetTopicAttributes", "sns:R:A:firebreak-PagesTopic-1ABC", &[], TRUSTED),
    ("sns:Subscribe", "sns:R:A:firebreak-PagesTopic-1ABC", &[], TRUSTED),
    // A subscription is no resource to the policy.
    ("sns:Unsubscribe", "*", &[], May::Everyone),
    ("sns:GetTopicAttributes", "sns:R:A:firebreak-PagesTopic-1ABC", &[], May::Everyone),
    ("sns:ListSubscriptionsByTopic", "sns:R:A:firebreak-PagesTopic-1ABC", &[], May::Everyone),
    ("sns:DeleteTopic", "sns:R:A:orders", &[], May::Everyone),
    ("sqs:SetQueueAttributes", "sqs:R:A:firebreak-delivery-failures", &[], TRUSTED),
    ("sqs:PurgeQueue", "sqs:R:A:firebreak-function-failures", &[], TRUSTED),
    ("sqs:ReceiveMessage", "sqs:R:A:firebreak-function-failures", &[], TRUSTED),
    ("sqs:GetQueueAttributes", "sqs:R:A:firebreak-function-failures", &[], May::Everyone),
    ("sqs:ListQueueTags", "sqs:R:A:firebreak-function-failures", &[], May::Everyone),
    ("sqs:PurgeQueue", "sqs:R:A:orders", &[], May::Everyone),
];

const OUR_KEY: (&str, &[&str]) = ("kms:ResourceAliases", &["alias/firebreak"]);
const ALSO_OURS: (&str, &[&str]) = ("kms:ResourceAliases", &["alias/orders", "alias/firebreak-ledger"]);
const THEIR_KEY: (&str, &[&str]) = ("kms:ResourceAliases", &["alias/orders"]);

/// Keys, by their aliases, and trails.
const KEYS: &[Call<'_>] = &[
    ("kms:DisableKey", "kms:R:A:key/0a1b", &[OUR_KEY], DEPLOYER),
    ("kms:ScheduleKeyDeletion", "kms:R:A:key/0a1b", &[OUR_KEY], DEPLOYER),
    ("kms:PutKeyPolicy", "kms:R:A:key/0a1b", &[OUR_KEY], DEPLOYER),
    ("kms:DeleteAlias", "kms:R:A:key/0a1b", &[OUR_KEY], DEPLOYER),
    ("kms:UpdateAlias", "kms:R:A:key/0a1b", &[OUR_KEY], DEPLOYER),
    ("kms:DisableKey", "kms:R:A:key/0a1b", &[ALSO_OURS], DEPLOYER),
    ("kms:DisableKey", "kms:R:A:key/0a1b", &[THEIR_KEY], May::Everyone),
    ("kms:DisableKey", "kms:R:A:key/0a1b", &[], May::Everyone),
    ("kms:Decrypt", "kms:R:A:key/0a1b", &[OUR_KEY], May::Everyone),
    ("cloudtrail:StopLogging", "cloudtrail:R:A:trail/org", &[], DEPLOYER),
    ("cloudtrail:DeleteTrail", "cloudtrail:R:A:trail/org", &[], DEPLOYER),
    ("cloudtrail:UpdateTrail", "cloudtrail:R:A:trail/org", &[], DEPLOYER),
    ("cloudtrail:PutEventSelectors", "cloudtrail:R:A:trail/org", &[], DEPLOYER),
    ("cloudtrail:LookupEvents", "*", &[], May::Everyone),
    ("cloudtrail:StartLogging", "cloudtrail:R:A:trail/org", &[], May::Everyone),
    ("ec2:RunInstances", "*", &[], May::Everyone),
    ("s3:ListAllMyBuckets", "*", &[], May::Everyone),
];

/// All of them.
pub(super) fn calls() -> Vec<Call<'static>> {
    [QUARANTINE, IDENTITIES, PARTS, STORES, KEYS].concat()
}
