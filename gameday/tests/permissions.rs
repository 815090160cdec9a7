//! The roles as they are deployed, held to what the functions declare.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use firebreak_model::action::FunctionName;
use firebreak_shared::action::{Permission, Resource};
use firebreak_shared::registry;
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::deploy::Stack;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

fn deployed<T>(work: impl AsyncFnOnce(&Aws, &Stack) -> T) -> T {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        work(&theatre.aws, stack).await
    })
}

/// The statements of a role's inline policies, with a list where IAM allows one value or a list.
async fn statements(aws: &Aws, role: &str) -> Vec<Value> {
    let mut statements = Vec::new();
    let names = aws.iam.list_role_policies().role_name(role).send().await.unwrap().policy_names;
    for name in names {
        let policy = aws.iam.get_role_policy().role_name(role).policy_name(name).send().await.unwrap();
        let document = percent_decode_str(&policy.policy_document).decode_utf8().unwrap().into_owned();
        let document: Value = serde_json::from_str(&document).unwrap();
        statements.extend(document["Statement"].as_array().unwrap().clone());
    }
    let attached = aws.iam.list_attached_role_policies().role_name(role).send().await.unwrap();
    assert_eq!(attached.attached_policies(), [], "`{role}` has a managed policy");
    statements
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(many) => many.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    }
}

/// `action on resource` of every statement of this effect.
fn named(statements: &[Value], effect: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for statement in statements.iter().filter(|s| s["Effect"] == effect) {
        for action in texts(&statement["Action"]) {
            for resource in texts(&statement["Resource"]) {
                allowed.insert(format!("{action} on {resource}"));
            }
        }
    }
    allowed
}

async fn arns(aws: &Aws, stack: &Stack, function: FunctionName, resource: Resource) -> Vec<String> {
    let output = |key: &str| stack.output(key).unwrap().to_owned();
    let iam = |kind: &str| vec![format!("arn:aws:iam::{ACCOUNT}:{kind}/*")];
    let queue = |name: &str| vec![format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}-{name}", stack.name)];
    match resource {
        Resource::Role | Resource::RoleAndDenyPolicy | Resource::RoleAndDenyAll => iam("role"),
        Resource::User | Resource::UserAndDenyPolicy | Resource::UserAndDenyAll => iam("user"),
        Resource::DenyPolicy => vec![output("DenyPolicyArn")],
        Resource::Policy => vec![format!("arn:aws:iam::{ACCOUNT}:policy/*"), "arn:aws:iam::aws:policy/*".to_owned()],
        Resource::Group => iam("group"),
        Resource::Function => vec![format!("arn:aws:lambda:*:{ACCOUNT}:function:*")],
        Resource::LayerVersion => vec!["arn:aws:lambda:*:*:layer:*".to_owned()],
        Resource::InstanceProfile => iam("instance-profile"),
        Resource::EcsTask => vec![format!("arn:aws:ecs:*:{ACCOUNT}:task/*")],
        Resource::EventSourceMapping => vec![format!("arn:aws:lambda:*:{ACCOUNT}:event-source-mapping:*")],
        Resource::LogGroup => vec![format!("arn:aws:logs:*:{ACCOUNT}:log-group:*")],
        Resource::EvidenceBucket => vec![format!("arn:aws:s3:::{}", output("EvidenceBucketName"))],
        Resource::EvidenceObject => vec![format!("arn:aws:s3:::{}/*", output("EvidenceBucketName"))],
        Resource::Key => vec![output("KeyArn")],
        Resource::SealKey => vec![output("SealKeyArn")],
        Resource::EvidenceSigningKey => vec![output("EvidenceSigningKeyArn")],
        Resource::Table | Resource::Stream => {
            let table = aws.dynamodb.describe_table().table_name(output("LedgerTableName")).send().await.unwrap();
            let table = table.table.unwrap();
            let arn = if resource == Resource::Table { table.table_arn } else { table.latest_stream_arn };
            vec![arn.unwrap()]
        }
        Resource::OpenIndex => {
            let table = output("LedgerTableName");
            vec![format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}/index/open")]
        }
        Resource::Queue => vec![format!("arn:aws:sqs:*:{ACCOUNT}:*")],
        Resource::Bus => vec![format!("arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{}", stack.name)],
        Resource::Topic => vec![output("PagesTopicArn")],
        Resource::OwnLogs => {
            let group = format!("/aws/lambda/{}", stack.function(function));
            vec![format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:*")]
        }
        Resource::FailureQueue => queue("function-failures"),
        Resource::RecycleQueue => queue("recycle"),
        Resource::TraceQueue => queue("trace"),
        Resource::RecheckQueue => queue("recheck"),
        Resource::EvidenceQueue => queue("evidence"),
        Resource::OwnQueue => ["recheck", "recycle", "trace", "evidence", "delivery", "function"]
            .into_iter()
            .flat_map(|name| match name {
                "delivery" | "function" => vec![format!("{name}-failures")],
                _ => vec![name.to_owned(), format!("{name}-failures")],
            })
            .flat_map(|name| queue(&name))
            .collect(),
        Resource::OwnRule => [String::new(), format!("{}/", stack.name)]
            .map(|bus| format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/{bus}{}-*", stack.name))
            .to_vec(),
        Resource::OwnStack => vec![format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{}/*", stack.name)],
        Resource::Trail => vec![format!("arn:aws:cloudtrail:*:{ACCOUNT}:trail/*")],
        Resource::RevokeFunction => vec![output("RevokeSessionsArn")],
        Resource::Any => vec!["*".to_owned()],
    }
}

#[test]
fn each_role_allows_exactly_what_its_function_declares() {
    deployed(async |aws, stack| {
        let mut differences = Vec::new();
        for &function in FunctionName::ALL {
            let role = stack.function(function);
            let deployed = named(&statements(aws, &role).await, "Allow");
            let mut declared = BTreeSet::new();
            for Permission { action, on } in registry::permissions(function) {
                declared.extend(arns(aws, stack, function, on).await.iter().map(|arn| format!("{action} on {arn}")));
            }
            differences
                .extend(deployed.difference(&declared).map(|d| format!("{function} is allowed, undeclared: {d}")));
            differences
                .extend(declared.difference(&deployed).map(|d| format!("{function} declares, not allowed: {d}")));
        }
        assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    });
}

#[test]
fn attaching_and_detaching_are_held_to_the_deny_policy() {
    deployed(async |aws, stack| {
        let deny = stack.output("DenyPolicyArn").unwrap();
        let mut held = 0;
        for &function in FunctionName::ALL {
            for statement in statements(aws, &stack.function(function)).await {
                let attaches =
                    texts(&statement["Action"]).iter().any(|a| a.contains("tachRole") || a.contains("tachUser"));
                if statement["Effect"] == "Allow" && attaches {
                    assert_eq!(statement["Condition"], json!({"ArnEquals": {"iam:PolicyARN": deny}}), "{function}");
                    held += 1;
                }
            }
        }
        assert_eq!(held, 4, "attach and detach, for roles and for users");
    });
}

/// A boundary is set to the one that denies everything, and only that one is taken away. A release may put any other
/// back: what was there before a containment can be any policy.
#[test]
fn boundaries_are_held_to_the_one_that_denies_everything() {
    deployed(async |aws, stack| {
        let deny_all = json!({"ArnEquals": {"iam:PermissionsBoundary": "arn:aws:iam::aws:policy/AWSDenyAll"}});
        let mut found = BTreeSet::new();
        for &function in FunctionName::ALL {
            for statement in statements(aws, &stack.function(function)).await {
                for action in texts(&statement["Action"]).iter().filter(|a| a.ends_with("PermissionsBoundary")) {
                    if statement["Effect"] == "Allow" {
                        let held = if statement["Condition"] == deny_all { "held" } else { "any" };
                        found.insert(format!("{function} {action} {held}"));
                    }
                }
            }
        }
        let expected = [
            "quarantine-principal iam:PutRolePermissionsBoundary held",
            "quarantine-principal iam:PutUserPermissionsBoundary held",
            "release-containment iam:DeleteRolePermissionsBoundary held",
            "release-containment iam:DeleteUserPermissionsBoundary held",
            "release-containment iam:PutRolePermissionsBoundary any",
            "release-containment iam:PutUserPermissionsBoundary any",
        ];
        assert_eq!(found, expected.map(str::to_owned).into_iter().collect());
    });
}

#[test]
fn each_role_writes_its_own_kinds_of_record() {
    deployed(async |aws, stack| {
        for (function, writes, deletes) in [
            (
                FunctionName::QuarantinePrincipal,
                vec!["breaker#*", "finding#*", "forgery#*", "incident#*", "step#quarantine-principal#*"],
                vec![],
            ),
            (
                FunctionName::RevokeSessions,
                vec!["chain#*", "forgery#*", "revocation", "step#revoke-sessions#*"],
                vec!["revocation"],
            ),
            (FunctionName::IsolateFunction, vec!["forgery#*", "step#isolate-function#*"], vec![]),
            (FunctionName::SnapshotLogs, vec!["evidence#*", "forgery#*", "step#snapshot-logs#*"], vec![]),
            (FunctionName::PublishOutcomes, vec![], vec![]),
            (FunctionName::NotifyResponders, vec!["page#*"], vec![]),
            (FunctionName::ReleaseContainment, vec!["control", "forgery#*", "incident#*", "step#*"], vec!["control"]),
            (FunctionName::GuardContainment, vec!["forgery#*", "parts", "tamper#*", "watch"], vec!["watch"]),
            (FunctionName::AssessIdentities, vec!["inventory#*"], vec!["inventory#*"]),
        ] {
            let statements = statements(aws, &stack.function(function)).await;
            let kinds = |wanted: &[&str]| {
                let mut kinds = BTreeSet::new();
                for statement in statements.iter().filter(|s| s["Effect"] == "Allow") {
                    if texts(&statement["Action"]).iter().any(|action| wanted.contains(&action.as_str())) {
                        let keys = &statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
                        assert!(!keys.is_null(), "`{function}` writes any kind of record");
                        kinds.extend(texts(keys));
                    }
                }
                kinds
            };
            let expected = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<BTreeSet<String>>();
            let writes_found = kinds(&["dynamodb:PutItem", "dynamodb:UpdateItem"]);
            assert_eq!(writes_found, expected(writes), "{function} writes");
            assert_eq!(kinds(&["dynamodb:DeleteItem"]), expected(deletes), "{function} deletes");
        }
    });
}

/// What would let a thief of a function's credentials get at Firebreak itself is denied outright.
#[test]
fn no_function_touches_firebreaks_own_parts() {
    const CHANGES: [&str; 9] = [
        "iam:Attach",
        "iam:Put",
        "iam:Delete",
        "lambda:Add",
        "lambda:Delete",
        "lambda:Publish",
        "lambda:Put",
        "lambda:Remove",
        "lambda:Update",
    ];
    deployed(async |aws, stack| {
        for &function in FunctionName::ALL {
            let statements = statements(aws, &stack.function(function)).await;
            let denied = named(&statements, "Deny");
            for allowed in named(&statements, "Allow") {
                let (action, resource) = allowed.split_once(" on ").unwrap();
                let changes = CHANGES.iter().any(|prefix| action.starts_with(prefix));
                let own = match resource {
                    r if r.ends_with(":role/*") => format!("arn:aws:iam::{ACCOUNT}:role/firebreak/*"),
                    r if r.ends_with(":function:*") => {
                        format!("arn:aws:lambda:*:{ACCOUNT}:function:{}-{function}*", stack.name)
                    }
                    _ => continue,
                };
                if changes {
                    let covered = denied.contains(&format!("{action} on {own}"));
                    assert!(covered, "{function} may {action} on {own}");
                }
            }
        }
    });
}
