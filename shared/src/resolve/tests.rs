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
    format!("<ListRolesResponse><ListRolesResult><Roles>{members}</Roles>{more}</ListRolesResult></ListRolesResponse>")
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
