//! What a principal may do by managed policies, and by the groups that it is in.

use aws_sdk_iam::Client;
use firebreak_model::evidence::ApiCall;
use serde_json::json;

use super::{Answers, date, decoded};
use crate::action::ActionError;

/// The groups of a user, with their policies. Answers the managed ones.
pub(super) async fn of_groups(client: &Client, user: &str, answers: &mut Answers) -> Vec<String> {
    let pages = client.list_groups_for_user().user_name(user).into_paginator().items().send();
    let groups = pages.collect::<Result<Vec<_>, _>>().await;
    let groups = groups.map_err(|e| ActionError::of("iam:ListGroupsForUser", user, e));
    let names: Vec<String> = groups.iter().flatten().map(|group| group.group_name.clone()).collect();
    let call = ApiCall::new("iam:ListGroupsForUser", json!({"UserName": user}));
    let told = groups.map(|groups| {
        let group = |g: &aws_sdk_iam::types::Group| {
            json!({"GroupName": g.group_name, "GroupId": g.group_id, "Arn": g.arn, "Path": g.path})
        };
        json!({"Groups": groups.iter().map(group).collect::<Vec<_>>()})
    });
    answers.push(call, told);
    let mut managed = Vec::new();
    for name in &names {
        managed.extend(of_group(client, name, answers).await);
    }
    managed
}

async fn of_group(client: &Client, name: &str, answers: &mut Answers) -> Vec<String> {
    let parameters = || json!({"GroupName": name});
    let pages = client.list_attached_group_policies().group_name(name).into_paginator().items().send();
    let attached = pages.collect::<Result<Vec<_>, _>>().await;
    let attached = attached.map_err(|e| ActionError::of("iam:ListAttachedGroupPolicies", name, e));
    let managed = attached.iter().flatten().filter_map(|policy| policy.policy_arn.clone()).collect();
    let told = attached.map(|attached| {
        let policy =
            |p: &aws_sdk_iam::types::AttachedPolicy| json!({"PolicyName": p.policy_name, "PolicyArn": p.policy_arn});
        json!({"AttachedPolicies": attached.iter().map(policy).collect::<Vec<_>>()})
    });
    answers.push(ApiCall::new("iam:ListAttachedGroupPolicies", parameters()), told);

    let pages = client.list_group_policies().group_name(name).into_paginator().items().send();
    let inline = pages.collect::<Result<Vec<String>, _>>().await;
    let inline = inline.map_err(|e| ActionError::of("iam:ListGroupPolicies", name, e));
    let names = inline.as_deref().unwrap_or_default().to_vec();
    answers
        .push(ApiCall::new("iam:ListGroupPolicies", parameters()), inline.map(|names| json!({"PolicyNames": names})));
    for policy in &names {
        let answer = client.get_group_policy().group_name(name).policy_name(policy).send().await;
        let answer = answer.map_err(|e| ActionError::of("iam:GetGroupPolicy", name, e));
        let call = ApiCall::new("iam:GetGroupPolicy", json!({"GroupName": name, "PolicyName": policy}));
        answers.push(call, answer.map(|a| json!({"PolicyDocument": decoded(&a.policy_document)})));
    }
    managed
}

/// Whether AWS wrote a policy: what its earlier versions said is no secret, and nobody here can set one of them.
fn is_of_aws(arn: &str) -> bool {
    arn.split(':').nth(4) == Some("aws")
}

/// Each managed policy once: the version in force, and of one of the account's own all versions, for whoever may set the
/// default version gets what any of them allows.
pub(super) async fn managed(client: &Client, arns: &[String], answers: &mut Answers) {
    let mut seen = Vec::new();
    for arn in arns {
        if seen.contains(&arn) {
            continue;
        }
        seen.push(arn);
        let read = client.get_policy().policy_arn(arn).send().await;
        let read = read.map_err(|e| ActionError::of("iam:GetPolicy", arn, e)).map(|answer| answer.policy);
        let in_force = read.as_ref().ok().and_then(|p| p.as_ref()?.default_version_id.clone());
        let read = read.map(|policy| {
            policy.map(|p| {
                json!({"Arn": p.arn, "PolicyId": p.policy_id, "DefaultVersionId": p.default_version_id,
                       "CreateDate": date(p.create_date()), "UpdateDate": date(p.update_date())})
            })
        });
        answers.push(ApiCall::new("iam:GetPolicy", json!({"PolicyArn": arn})), read.map(|p| json!(p)));
        let mut versions: Vec<String> = in_force.into_iter().collect();
        if !is_of_aws(arn) && !versions.is_empty() {
            let others = of_policy(client, arn, answers).await;
            versions.extend(others.into_iter().filter(|version| !versions.contains(version)).collect::<Vec<_>>());
        }
        for version in versions {
            let document = client.get_policy_version().policy_arn(arn).version_id(&version).send().await;
            let document = document.map_err(|e| ActionError::of("iam:GetPolicyVersion", arn, e)).map(|answer| {
                let version =
                    answer.policy_version.unwrap_or_else(|| aws_sdk_iam::types::PolicyVersion::builder().build());
                json!({"Document": version.document().map(decoded), "CreateDate": date(version.create_date())})
            });
            let call = ApiCall::new("iam:GetPolicyVersion", json!({"PolicyArn": arn, "VersionId": version}));
            answers.push(call, document);
        }
    }
}

/// The versions of a policy, all of them.
async fn of_policy(client: &Client, arn: &str, answers: &mut Answers) -> Vec<String> {
    let pages = client.list_policy_versions().policy_arn(arn).into_paginator().items().send();
    let versions = pages.collect::<Result<Vec<_>, _>>().await;
    let versions = versions.map_err(|e| ActionError::of("iam:ListPolicyVersions", arn, e));
    let ids = versions.iter().flatten().filter_map(|version| version.version_id.clone()).collect();
    let told = versions.map(|versions| {
        let version = |v: &aws_sdk_iam::types::PolicyVersion| {
            json!({"VersionId": v.version_id, "IsDefaultVersion": v.is_default_version,
                   "CreateDate": date(v.create_date())})
        };
        json!({"Versions": versions.iter().map(version).collect::<Vec<_>>()})
    });
    answers.push(ApiCall::new("iam:ListPolicyVersions", json!({"PolicyArn": arn})), told);
    ids
}
