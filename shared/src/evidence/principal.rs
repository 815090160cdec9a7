//! The documents of a role or user: what it may do, who may become it, and what it was used for.

mod policies;
mod usage;

use aws_sdk_iam::Client;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use firebreak_model::action::FunctionName;
use firebreak_model::evidence::ApiCall;
use firebreak_model::ids::{RoleName, UserName};
use firebreak_model::ledger::Incident;
use firebreak_model::plan::Target;
use firebreak_model::principal::PrincipalName;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::documents::Answers;
use super::ledger::found_before;
use crate::action::ActionError;
use crate::ledger::Ledger;

/// The documents of a principal: itself, the policies attached to it, its inline policies, its keys and groups, what it
/// was used for; and what our own steps found before they changed it.
pub(super) async fn answers(client: &Client, ledger: &Ledger, incident: &Incident) -> Answers {
    let mut answers = documents(client, &incident.principal.name).await;
    let about = |target: &Target| *target == Target::from(&incident.principal.name);
    for owner in [FunctionName::QuarantinePrincipal, FunctionName::RevokeSessions] {
        found_before(ledger, incident, owner, about, &mut answers).await;
    }
    answers
}

async fn documents(client: &Client, principal: &PrincipalName) -> Answers {
    match principal {
        PrincipalName::Role(role) => Box::pin(role_documents(client, role)).await,
        PrincipalName::User(user) => Box::pin(user_documents(client, user)).await,
    }
}

async fn role_documents(client: &Client, role: &RoleName) -> Answers {
    let name = role.as_str();
    let parameters = || json!({"RoleName": name});
    let mut answers = Answers::default();
    let (mut arn, mut policies) = (None, Vec::new());
    let read = client.get_role().role_name(name).send().await;
    let read = read.map_err(|e| ActionError::of("iam:GetRole", name, e)).map(|answer| answer.role);
    let read = read.map(|role| match role {
        None => Value::Null,
        Some(role) => {
            arn = Some(role.arn.clone());
            policies.extend(role.permissions_boundary().and_then(|b| b.permissions_boundary_arn.clone()));
            json!({
                "Arn": role.arn, "Path": role.path, "RoleName": role.role_name, "RoleId": role.role_id,
                "CreateDate": date(Some(&role.create_date)), "Description": role.description,
                "MaxSessionDuration": role.max_session_duration,
                "AssumeRolePolicyDocument": role.assume_role_policy_document.as_deref().map(decoded),
                "PermissionsBoundary": role.permissions_boundary().and_then(|b| b.permissions_boundary_arn()),
                "RoleLastUsed": role.role_last_used().map(|used| {
                    json!({"LastUsedDate": date(used.last_used_date()), "Region": used.region()})
                }),
                "Tags": role.tags().iter().map(|t| json!({"Key": t.key, "Value": t.value})).collect::<Vec<_>>(),
            })
        }
    });
    answers.push(ApiCall::new("iam:GetRole", parameters()), read);

    let pages = client.list_attached_role_policies().role_name(name).into_paginator().items().send();
    let attached = pages.collect::<Result<Vec<_>, _>>().await;
    let attached = attached.map_err(|e| ActionError::of("iam:ListAttachedRolePolicies", name, e)).map(|attached| {
        policies.extend(attached.iter().filter_map(|p| p.policy_arn.clone()));
        json!({"AttachedPolicies": attached.iter().map(|p| json!({"PolicyName": p.policy_name, "PolicyArn": p.policy_arn})).collect::<Vec<_>>()})
    });
    answers.push(ApiCall::new("iam:ListAttachedRolePolicies", parameters()), attached);

    let pages = client.list_role_policies().role_name(name).into_paginator().items().send();
    let inline = pages.collect::<Result<Vec<String>, _>>().await;
    let inline = inline.map_err(|e| ActionError::of("iam:ListRolePolicies", name, e));
    let names = inline.as_deref().unwrap_or_default().to_vec();
    let call = ApiCall::new("iam:ListRolePolicies", parameters());
    answers.push(call, inline.map(|names| json!({"PolicyNames": names})));
    for policy in &names {
        let answer = client.get_role_policy().role_name(name).policy_name(policy).send().await;
        let answer = answer.map_err(|e| ActionError::of("iam:GetRolePolicy", name, e));
        let call = ApiCall::new("iam:GetRolePolicy", json!({"RoleName": name, "PolicyName": policy}));
        answers.push(call, answer.map(|a| json!({"PolicyDocument": decoded(&a.policy_document)})));
    }
    policies::managed(client, &policies, &mut answers).await;
    usage::last_accessed(client, arn.as_deref(), &usage::WAITS, &mut answers).await;
    answers
}

async fn user_documents(client: &Client, user: &UserName) -> Answers {
    let name = user.as_str();
    let parameters = || json!({"UserName": name});
    let mut answers = Answers::default();
    let (mut arn, mut policies) = (None, Vec::new());
    let read = client.get_user().user_name(name).send().await;
    let read = read.map_err(|e| ActionError::of("iam:GetUser", name, e)).map(|answer| answer.user);
    let read = read.map(|user| match user {
        None => Value::Null,
        Some(user) => {
            arn = Some(user.arn.clone());
            policies.extend(user.permissions_boundary().and_then(|b| b.permissions_boundary_arn.clone()));
            json!({
                "Arn": user.arn, "Path": user.path, "UserName": user.user_name, "UserId": user.user_id,
                "CreateDate": date(Some(&user.create_date)), "PasswordLastUsed": date(user.password_last_used()),
                "PermissionsBoundary": user.permissions_boundary().and_then(|b| b.permissions_boundary_arn()),
                "Tags": user.tags().iter().map(|t| json!({"Key": t.key, "Value": t.value})).collect::<Vec<_>>(),
            })
        }
    });
    answers.push(ApiCall::new("iam:GetUser", parameters()), read);

    let pages = client.list_access_keys().user_name(name).into_paginator().items().send();
    let keys = pages.collect::<Result<Vec<_>, _>>().await;
    let keys = keys.map_err(|e| ActionError::of("iam:ListAccessKeys", name, e));
    let ids: Vec<String> = keys.iter().flatten().filter_map(|key| key.access_key_id.clone()).collect();
    let keys = keys.map(|keys| {
        let key = |k: &aws_sdk_iam::types::AccessKeyMetadata| {
            json!({"AccessKeyId": k.access_key_id, "Status": k.status.as_ref().map(aws_sdk_iam::types::StatusType::as_str),
                   "CreateDate": date(k.create_date())})
        };
        json!({"AccessKeyMetadata": keys.iter().map(key).collect::<Vec<_>>()})
    });
    answers.push(ApiCall::new("iam:ListAccessKeys", parameters()), keys);
    usage::keys(client, &ids, &mut answers).await;

    let pages = client.list_attached_user_policies().user_name(name).into_paginator().items().send();
    let attached = pages.collect::<Result<Vec<_>, _>>().await;
    let attached = attached.map_err(|e| ActionError::of("iam:ListAttachedUserPolicies", name, e)).map(|attached| {
        policies.extend(attached.iter().filter_map(|p| p.policy_arn.clone()));
        json!({"AttachedPolicies": attached.iter().map(|p| json!({"PolicyName": p.policy_name, "PolicyArn": p.policy_arn})).collect::<Vec<_>>()})
    });
    answers.push(ApiCall::new("iam:ListAttachedUserPolicies", parameters()), attached);

    let pages = client.list_user_policies().user_name(name).into_paginator().items().send();
    let inline = pages.collect::<Result<Vec<String>, _>>().await;
    let inline = inline.map_err(|e| ActionError::of("iam:ListUserPolicies", name, e));
    let names = inline.as_deref().unwrap_or_default().to_vec();
    let call = ApiCall::new("iam:ListUserPolicies", parameters());
    answers.push(call, inline.map(|names| json!({"PolicyNames": names})));
    for policy in &names {
        let answer = client.get_user_policy().user_name(name).policy_name(policy).send().await;
        let answer = answer.map_err(|e| ActionError::of("iam:GetUserPolicy", name, e));
        let call = ApiCall::new("iam:GetUserPolicy", json!({"UserName": name, "PolicyName": policy}));
        answers.push(call, answer.map(|a| json!({"PolicyDocument": decoded(&a.policy_document)})));
    }
    policies.extend(policies::of_groups(client, name, &mut answers).await);
    policies::managed(client, &policies, &mut answers).await;
    usage::sign_in(client, name, &mut answers).await;
    usage::last_accessed(client, arn.as_deref(), &usage::WAITS, &mut answers).await;
    answers
}

fn date(at: Option<&DateTime>) -> Option<String> {
    at?.fmt(Format::DateTime).ok()
}

/// A policy document as JSON. IAM sends documents URL-encoded; what is no JSON after decoding is kept as text.
fn decoded(document: &str) -> Value {
    let text = percent_decode_str(document).decode_utf8_lossy();
    serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::evidence::Lack;

    use super::*;
    use crate::testing::{Answer, Wire, ok, query_error};

    fn answer(operation: &str, body: &str) -> Answer {
        ok(format!("<{operation}Response><{operation}Result>{body}</{operation}Result></{operation}Response>"))
    }

    fn get_role() -> Answer {
        answer(
            "GetRole",
            "<Role><Path>/team/</Path><RoleName>orders</RoleName><RoleId>AROAEXAMPLE000000001</RoleId>\
             <Arn>arn:aws:iam::111122223333:role/team/orders</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
             <AssumeRolePolicyDocument>%7B%22Statement%22%3A%5B%7B%22Sid%22%3A%22a%20b%2B%22%7D%5D%7D</AssumeRolePolicyDocument>\
             <PermissionsBoundary><PermissionsBoundaryArn>arn:aws:iam::aws:policy/Edge</PermissionsBoundaryArn>\
             </PermissionsBoundary><Tags><member><Key>team</Key><Value>orders</Value></member></Tags><RoleLastUsed>\
             <LastUsedDate>2026-11-20T00:00:00Z</LastUsedDate><Region>eu-west-1</Region></RoleLastUsed></Role>",
        )
    }

    fn policy(arn: &str) -> [Answer; 2] {
        [
            answer("GetPolicy", &format!("<Policy><Arn>{arn}</Arn><DefaultVersionId>v3</DefaultVersionId></Policy>")),
            answer("GetPolicyVersion", "<PolicyVersion><Document>%7B%22v%22%3A3%7D</Document></PolicyVersion>"),
        ]
    }

    /// What IAM looks up of what a principal was used for.
    fn last_accessed() -> [Answer; 2] {
        let service = "<member><ServiceName>S3</ServiceName><ServiceNamespace>s3</ServiceNamespace></member>";
        let details = format!(
            "<JobStatus>COMPLETED</JobStatus><JobCreationDate>2026-11-21T03:00:00Z</JobCreationDate><JobCompletionDate>\
             2026-11-21T03:00:01Z</JobCompletionDate><ServicesLastAccessed>{service}</ServicesLastAccessed>"
        );
        [
            answer("GenerateServiceLastAccessedDetails", "<JobId>j1</JobId>"),
            answer("GetServiceLastAccessedDetails", &details),
        ]
    }

    async fn answered(wire: &Wire, principal: &PrincipalName) -> Answers {
        documents(&Client::new(&wire.config()), principal).await
    }

    fn role() -> PrincipalName {
        PrincipalName::Role("orders".parse().unwrap())
    }

    /// The operation and the parameters after the version.
    fn calls(wire: &Wire) -> Vec<String> {
        let request = |r: &String| r.replace("POST / Action=", "").replace("&Version=2010-05-08", "");
        wire.requests().iter().map(request).collect()
    }

    #[tokio::test]
    async fn a_role_with_all_its_policies() {
        let mut script = vec![
            get_role(),
            answer(
                "ListAttachedRolePolicies",
                "<AttachedPolicies><member><PolicyName>A</PolicyName><PolicyArn>arn:aws:iam::aws:policy/A</PolicyArn></member>\
                 </AttachedPolicies><IsTruncated>true</IsTruncated><Marker>m</Marker>",
            ),
            answer(
                "ListAttachedRolePolicies",
                "<AttachedPolicies><member><PolicyName>B</PolicyName><PolicyArn>arn:aws:iam::111122223333:policy/B</PolicyArn></member>\
                 </AttachedPolicies>",
            ),
            answer("ListRolePolicies", "<PolicyNames><member>in line</member></PolicyNames>"),
            answer(
                "GetRolePolicy",
                "<RoleName>orders</RoleName><PolicyName>x</PolicyName><PolicyDocument>%7B%7D</PolicyDocument>",
            ),
        ];
        for arn in ["arn:aws:iam::aws:policy/Edge", "arn:aws:iam::aws:policy/A"] {
            script.extend(policy(arn));
        }
        let [read, in_force] = policy("arn:aws:iam::111122223333:policy/B");
        let earlier =
            answer("GetPolicyVersion", "<PolicyVersion><Document>%7B%22v%22%3A2%7D</Document></PolicyVersion>");
        let versions = "<Versions><member><VersionId>v3</VersionId><IsDefaultVersion>true</IsDefaultVersion></member>\
                        <member><VersionId>v2</VersionId></member></Versions>";
        script.extend([read, answer("ListPolicyVersions", versions), in_force, earlier]);
        script.extend(last_accessed());
        let wire = Wire::answering(script);
        let answers = answered(&wire, &role()).await;
        assert_eq!(answers.gaps(), []);
        assert_eq!(
            calls(&wire),
            [
                "GetRole&RoleName=orders",
                "ListAttachedRolePolicies&RoleName=orders",
                "ListAttachedRolePolicies&RoleName=orders&Marker=m",
                "ListRolePolicies&RoleName=orders",
                "GetRolePolicy&RoleName=orders&PolicyName=in%20line",
                "GetPolicy&PolicyArn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2FEdge",
                "GetPolicyVersion&PolicyArn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2FEdge&VersionId=v3",
                "GetPolicy&PolicyArn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2FA",
                "GetPolicyVersion&PolicyArn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2FA&VersionId=v3",
                "GetPolicy&PolicyArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2FB",
                "ListPolicyVersions&PolicyArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2FB",
                "GetPolicyVersion&PolicyArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2FB&VersionId=v3",
                "GetPolicyVersion&PolicyArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2FB&VersionId=v2",
                "GenerateServiceLastAccessedDetails&Arn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fteam%2Forders",
                "GetServiceLastAccessedDetails&JobId=j1",
            ]
        );
        let responses = answers.responses();
        assert_eq!(responses[0]["AssumeRolePolicyDocument"]["Statement"][0]["Sid"], "a b+");
        assert_eq!(responses[0]["Path"], "/team/");
        assert_eq!(responses[0]["PermissionsBoundary"], "arn:aws:iam::aws:policy/Edge");
        assert_eq!(responses[0]["Tags"], json!([{"Key": "team", "Value": "orders"}]));
        let used = json!({"LastUsedDate": "2026-11-20T00:00:00Z", "Region": "eu-west-1"});
        assert_eq!(responses[0]["RoleLastUsed"], used);
        assert_eq!(responses[responses.len() - 2]["Document"], json!({"v": 2}), "every version of the account's own");
        assert_eq!(responses.last().unwrap()["ServicesLastAccessed"][0]["ServiceNamespace"], "s3");
        let last = responses.last().unwrap().to_string();
        assert!(!last.contains("j1") && !last.contains("03:00:01"), "the same answer is the same object: {last}");
    }

    #[tokio::test]
    async fn a_user_with_its_keys_its_groups_and_how_it_signs_in() {
        let mut script = vec![
            answer(
                "GetUser",
                "<User><UserName>ana</UserName><UserId>AIDAEXAMPLE000000001</UserId><Path>/</Path>\
                    <Arn>arn:aws:iam::111122223333:user/ana</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
                    <PasswordLastUsed>2026-11-19T00:00:00Z</PasswordLastUsed>\
                    <Tags><member><Key>team</Key><Value>ops</Value></member></Tags></User>",
            ),
            answer(
                "ListAccessKeys",
                "<AccessKeyMetadata><member><AccessKeyId>AKIAEXAMPLE0000001</AccessKeyId>\
                    <Status>Active</Status></member></AccessKeyMetadata>",
            ),
            answer(
                "GetAccessKeyLastUsed",
                "<UserName>ana</UserName><AccessKeyLastUsed><LastUsedDate>2026-11-20T00:00:00Z</LastUsedDate>\
                    <ServiceName>s3</ServiceName><Region>eu-west-1</Region></AccessKeyLastUsed>",
            ),
            answer("ListAttachedUserPolicies", "<AttachedPolicies/>"),
            answer("ListUserPolicies", "<PolicyNames><member>p</member></PolicyNames>"),
            answer(
                "GetUserPolicy",
                "<UserName>ana</UserName><PolicyName>p</PolicyName><PolicyDocument>no json</PolicyDocument>",
            ),
            answer(
                "ListGroupsForUser",
                "<Groups><member><Path>/</Path><GroupName>ops</GroupName><GroupId>AGPAEXAMPLE000000001</GroupId>\
                    <Arn>arn:aws:iam::111122223333:group/ops</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
                    </member></Groups>",
            ),
            answer(
                "ListAttachedGroupPolicies",
                "<AttachedPolicies><member><PolicyName>A</PolicyName><PolicyArn>arn:aws:iam::aws:policy/A</PolicyArn></member>\
                 </AttachedPolicies>",
            ),
            answer("ListGroupPolicies", "<PolicyNames><member>g</member></PolicyNames>"),
            answer(
                "GetGroupPolicy",
                "<GroupName>ops</GroupName><PolicyName>g</PolicyName><PolicyDocument>%7B%7D</PolicyDocument>",
            ),
        ];
        script.extend(policy("arn:aws:iam::aws:policy/A"));
        script.push(query_error(404, "NoSuchEntity"));
        script.push(answer(
            "ListMFADevices",
            "<MFADevices><member><UserName>ana</UserName><SerialNumber>arn:aws:iam::111122223333:mfa/ana</SerialNumber>\
                <EnableDate>2026-01-01T00:00:00Z</EnableDate></member></MFADevices>",
        ));
        script.extend(last_accessed());
        let wire = Wire::answering(script);
        let answers = answered(&wire, &PrincipalName::User("ana".parse().unwrap())).await;
        let responses = answers.responses();
        assert_eq!((answers.gaps(), responses.len()), (vec![], 15));
        assert_eq!(responses[0]["Tags"], json!([{"Key": "team", "Value": "ops"}]));
        assert_eq!(responses[0]["PasswordLastUsed"], "2026-11-19T00:00:00Z");
        assert_eq!(responses[1]["AccessKeyMetadata"][0]["Status"], "Active");
        assert_eq!(responses[2]["AccessKeyLastUsed"]["ServiceName"], "s3");
        assert_eq!(responses[5]["PolicyDocument"], "no json");
        assert_eq!(responses[6]["Groups"][0]["GroupName"], "ops");
        assert_eq!(responses[9]["PolicyDocument"], json!({}));
        assert_eq!(responses[11]["Document"], json!({"v": 3}), "what a group is given is read too");
        assert_eq!(responses[12], &Value::Null, "no password is no gap");
        assert_eq!(responses[13]["MFADevices"][0]["SerialNumber"], "arn:aws:iam::111122223333:mfa/ana");
    }

    #[tokio::test]
    async fn what_is_denied_is_a_gap_and_the_rest_is_collected() {
        let wire = Wire::answering([
            query_error(403, "AccessDenied"),
            answer("ListAttachedRolePolicies", "<AttachedPolicies/>"),
            query_error(400, "Throttling"),
        ]);
        let answers = answered(&wire, &role()).await;
        assert_eq!(answers.gaps(), [("iam:GetRole", Lack::Denied), ("iam:ListRolePolicies", Lack::Throttled)]);
        assert_eq!(answers.responses().len(), 1);
    }

    #[tokio::test]
    async fn of_a_role_that_is_gone_there_are_gaps_only() {
        let gone = || query_error(404, "NoSuchEntity");
        let answers = answered(&Wire::answering([gone(), gone(), gone()]), &role()).await;
        assert!(answers.gaps().iter().all(|(_, lack)| *lack == Lack::Gone) && answers.gaps().len() == 3);
        assert!(answers.responses().is_empty());
    }
}
