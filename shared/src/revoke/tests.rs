//! The search for sessions and their denial, request by request.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use firebreak_model::action::Response;
use firebreak_model::chain::{Call, Link, OfRole, Session};
use firebreak_model::ids::{FunctionArn, Partition};
use firebreak_model::ledger::{ChainRecord, Record};
use firebreak_model::plan::{Plan, Target};
use firebreak_model::policy::{ChainedDeny, chained, denied_functions};
use firebreak_model::principal::Principal;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::*;
use crate::evidence::testing::{item, items};
use crate::testing::{Answer as Wired, Odd, Wire, ok, query_error, release_order, role_order};
use crate::trace::Bounds;

mod chained;
mod outlived;

const ROLE_ID: &str = "AROAEXAMPLE000000002";

/// In a partition of two Regions.
fn revocation(wire: &Wire) -> Revocation {
    let sdk = wire.config();
    let bounds = Bounds { pace: Duration::ZERO, ..Bounds::default() };
    Revocation {
        ledger: Ledger::new(aws_sdk_dynamodb::Client::new(&sdk), "ledger".to_owned(), crate::ledger::Seal::none()),
        iam: Client::new(&sdk),
        home: Home { partition: Partition::Aws, account: "111122223333".parse().unwrap() },
        tracer: Tracer::new(sdk, Partition::AwsCn, Vec::new(), bounds),
        trail_lag: SignedDuration::from_mins(15),
    }
}

fn quarantined() -> Incident {
    let (mut incident, _) = role_order("orders");
    incident.principal.unique_id = Some("AROAEXAMPLE000000001".parse().unwrap());
    incident
}

fn stored(incident: &Incident) -> Wired {
    item(&Record::Incident(Box::new(incident.clone())))
}

fn messages(incident: &Incident) -> Value {
    let event = json!({"detail-type": "Containment Ordered", "detail": {"incident_id": incident.incident_id}});
    json!({"Records": [{"messageId": "m1", "body": event.to_string(), "eventSource": "aws:sqs"}]})
}

async fn answer(wire: &Wire, incident: &Incident) -> Value {
    serde_json::to_value(revocation(wire).handle(&messages(incident)).await.unwrap()).unwrap()
}

fn comes_again() -> Value {
    json!({"batchItemFailures": [{"itemIdentifier": "m1"}]})
}

fn done_with() -> Value {
    json!({"batchItemFailures": []})
}

/// A session of the contained role makes one of role `billing`.
fn record(ends: &str) -> Value {
    json!({"eventSource": "sts.amazonaws.com", "eventName": "AssumeRole", "eventTime": "2026-11-21T02:59:00Z",
        "eventID": "e1",
        "userIdentity": {"type": "AssumedRole", "principalId": "AROAEXAMPLE000000001:i-1",
            "accessKeyId": "ASIAEXAMPLE000000001"},
        "responseElements": {"credentials": {"accessKeyId": "ASIAEXAMPLE000000002", "expiration": ends},
            "assumedRoleUser": {"assumedRoleId": format!("{ROLE_ID}:x1"),
                "arn": "arn:aws:sts::111122223333:assumed-role/billing/x1"}}})
}

fn found(records: &[Value]) -> Wired {
    let events: Vec<_> = records.iter().map(|r| json!({"CloudTrailEvent": r.to_string()})).collect();
    ok(json!({"Events": events}).to_string())
}

fn billing(id: &str, path: &str) -> Wired {
    ok(format!(
        "<GetRoleResponse><GetRoleResult><Role><Path>{path}</Path><RoleName>billing</RoleName><RoleId>{id}</RoleId>\
         <Arn>arn:aws:iam::111122223333:role{path}billing</Arn><CreateDate>2026-01-12T08:00:00Z</CreateDate></Role>\
         </GetRoleResult></GetRoleResponse>"
    ))
}

fn no_policy() -> Wired {
    query_error(404, "NoSuchEntity")
}

fn policy(incident: &Incident, episode: u32) -> Wired {
    let sessions = [format!("{ROLE_ID}:x1").parse().unwrap()].into();
    let deny = ChainedDeny::new(&incident.incident_id, episode, sessions, "2100-01-01T00:00:00Z".parse().unwrap());
    let encoded = utf8_percent_encode(&chained(&[deny]).to_string(), NON_ALPHANUMERIC).to_string();
    ok(format!(
        "<GetRolePolicyResponse><GetRolePolicyResult><RoleName>billing</RoleName><PolicyName>p</PolicyName>\
         <PolicyDocument>{encoded}</PolicyDocument></GetRolePolicyResult></GetRolePolicyResponse>"
    ))
}

fn none() -> Wired {
    ok("{}")
}

/// Until the chain is on record: two Regions are asked, the first has this.
fn search(incident: &Incident, records: &[Value]) -> Vec<Wired> {
    vec![stored(incident), none(), found(records), found(&[])]
}

/// The names of the calls, and what was put on record as `kind`.
fn calls(wire: &Wire) -> Vec<String> {
    let name = |line: &String| {
        let query = line.split("Action=").nth(1).and_then(|rest| rest.split('&').next());
        query.or_else(|| line.split(' ').nth(2)).unwrap_or(line).rsplit('.').next().unwrap_or_default().to_owned()
    };
    wire.requests().iter().map(name).collect()
}

fn put(wire: &Wire, kind: &str) -> String {
    let of_kind = format!(r#""kind":{{"S":"{kind}"}}"#);
    wire.requests().into_iter().rfind(|line| line.contains("PutItem") && line.contains(&of_kind)).unwrap()
}

#[tokio::test]
async fn a_session_that_was_made_is_denied_on_record_first_and_looked_for_again() {
    let incident = quarantined();
    let mut script = search(&incident, &[record("Jan 1, 2100, 12:00:00 AM")]);
    script.extend([billing(ROLE_ID, "/"), none()]);
    // The step: its record, the prior state, the intent, the incident once more, then the change and its reading back.
    script.extend([none(), no_policy(), none(), stored(&incident)]);
    script.extend([no_policy(), ok("<PutRolePolicyResponse/>"), policy(&incident, 1), none()]);
    script.extend([items(&[]), items(&[]), none()]);
    let wire = Wire::answering(script);
    assert_eq!(answer(&wire, &incident).await, comes_again());
    assert_eq!(wire.unused(), 0, "{:?}", calls(&wire));
    let named = calls(&wire);
    let at = |name: &str| named.iter().position(|call| call == name).unwrap();
    let kept = wire.requests().iter().position(|r| r.contains(r#""kind":{"S":"revocation"}"#)).unwrap();
    assert!(kept < at("PutRolePolicy"), "{named:?}");
    assert!(put(&wire, "revocation").contains("2100-01-01T00:05:00Z#"));
    let request = &wire.requests()[at("PutRolePolicy")];
    assert!(request.contains("RoleName=billing") && request.contains("AROAEXAMPLE000000002%3Ax1"), "{request}");
    assert!(!request.contains("AROAEXAMPLE000000001"), "{request}");
    let chain = put(&wire, "chain");
    assert!(chain.contains("ASIAEXAMPLE000000002") && !chain.contains("settled_at"), "{chain}");
}

#[tokio::test]
async fn a_search_is_not_over_for_an_answer_of_no_use() {
    let incident = quarantined();
    for odd in [Odd::Hollow, Odd::Repeating, Odd::Circling] {
        let wire = Wire::odd(odd, [] as [(&str, _); 0]);
        let revocation = Revocation { ledger: revocation(&ledger_of(&incident)).ledger, ..revocation(&wire) };
        let said = serde_json::to_value(revocation.handle(&messages(&incident)).await.unwrap()).unwrap();
        assert_eq!(said, comes_again(), "{odd:?}: {:?}", calls(&wire));
        assert!((2..200).contains(&wire.requests().len()), "{odd:?}: {} calls", wire.requests().len());
    }
}

/// A ledger that holds the incident, and nothing else.
fn ledger_of(incident: &Incident) -> Wire {
    Wire::odd(Odd::Hollow, [(r#""sk":{"S":"incident"}"#, stored(incident))])
}

#[tokio::test]
async fn where_nothing_was_made_and_cloudtrail_is_complete_the_search_is_over() {
    let incident = quarantined();
    let mut script = search(&incident, &[]);
    script.extend([items(&[]), items(&[]), none()]);
    let wire = Wire::answering(script);
    assert_eq!(answer(&wire, &incident).await, done_with());
    assert!(put(&wire, "chain").contains("settled_at"));
    // A deny that was just read back: what was done until then may not be in CloudTrail yet.
    let mut step = incident.step_record(&incident.plan.steps[0], clock::now());
    step.applied_at = Some(clock::now());
    let mut script = search(&incident, &[]);
    script.extend([items(&[Record::Step(Box::new(step))]), items(&[]), none()]);
    let wire = Wire::answering(script);
    assert_eq!(answer(&wire, &incident).await, comes_again());
    assert!(!put(&wire, "chain").contains("settled_at"));
}

#[tokio::test]
async fn a_region_that_is_busy_is_asked_again_and_one_that_is_closed_is_not() {
    let incident = quarantined();
    for (code, end) in [("ThrottlingException", comes_again()), ("AccessDeniedException", done_with())] {
        let wire = Wire::answering([
            stored(&incident),
            none(),
            crate::testing::json_error(400, code),
            found(&[]),
            items(&[]),
            items(&[]),
            none(),
        ]);
        assert_eq!(answer(&wire, &incident).await, end, "{code}");
        assert!(put(&wire, "chain").contains("cn-north"), "{code}");
    }
}

#[tokio::test]
async fn what_has_ended_or_is_denied_with_the_principal_needs_no_policy() {
    let mut back = record("Jan 1, 2100, 12:00:00 AM");
    back["responseElements"]["assumedRoleUser"] = json!({"assumedRoleId": "AROAEXAMPLE000000001:x1",
        "arn": "arn:aws:sts::111122223333:assumed-role/orders/x1"});
    let mut elsewhere = record("Jan 1, 2100, 12:00:00 AM");
    elsewhere["responseElements"]["assumedRoleUser"]["arn"] =
        json!("arn:aws:sts::444455556666:assumed-role/billing/x1");
    let incident = quarantined();
    for record in [record("Nov 21, 2026, 4:00:00 AM"), back.clone(), elsewhere] {
        let mut script = search(&incident, &[record]);
        script.extend([items(&[]), items(&[]), none()]);
        let wire = Wire::answering(script);
        assert_eq!(answer(&wire, &incident).await, done_with());
        assert!(put(&wire, "chain").contains("ASIAEXAMPLE000000002"));
    }
    // A role that lives on is revoked up to a time: what was made back into it later is denied by name.
    back["eventTime"] = json!("2026-11-21T03:00:30Z");
    let mut living = incident.clone();
    living.plan = Plan::of(&living.principal.name, &[], &[Response::Revoke]);
    let mut script = search(&living, &[back]);
    script.push(query_error(404, "NoSuchEntity"));
    script.extend([none(), none(), items(&[]), items(&[]), none()]);
    let wire = Wire::answering(script);
    answer(&wire, &living).await;
    assert!(wire.requests()[4].contains("RoleName=orders"), "{:?}", wire.requests());
}

#[tokio::test]
async fn a_role_that_was_made_again_or_is_ours_is_not_written_to_and_a_drill_stays_where_drills_are() {
    let incident = quarantined();
    let drill = Incident { drill: true, ..incident.clone() };
    for (incident, role, state) in [
        (&incident, billing("AROAEXAMPLE000000009", "/"), "gone"),
        (&incident, no_policy(), "gone"),
        (&incident, billing(ROLE_ID, "/firebreak/"), "withheld"),
        (&drill, billing(ROLE_ID, "/"), "withheld"),
    ] {
        let mut script = search(incident, &[record("Jan 1, 2100, 12:00:00 AM")]);
        script.extend([role, none(), none(), items(&[]), items(&[]), none()]);
        let wire = Wire::answering(script);
        answer(&wire, incident).await;
        assert_eq!(wire.unused(), 0);
        assert!(put(&wire, "step").contains(&format!(r#""state":{{"S":"{state}"}}"#)), "{}", put(&wire, "step"));
        assert!(!calls(&wire).contains(&"PutRolePolicy".to_owned()));
    }
}

#[tokio::test]
async fn a_search_ends_with_the_containment_and_what_cannot_be_read_is_let_go() {
    let incident = quarantined();
    let snapshot =
        Incident { plan: Plan::of(&incident.principal.name, &[], &[Response::Snapshot]), ..incident.clone() };
    let released = Incident { state: IncidentState::Released, ..incident.clone() };
    let unvetted = Incident { unvetted: true, ..incident.clone() };
    for found in [stored(&snapshot), stored(&released), stored(&unvetted), none()] {
        let wire = Wire::answering([found]);
        assert_eq!(answer(&wire, &incident).await, done_with());
        assert_eq!(wire.requests().len(), 1);
    }
    // What is ordered before the guard rails have passed it is ordered again then.
    let early =
        json!({"detail-type": "Containment Ordered", "detail": {"incident_id": incident.incident_id, "responses": []}});
    let early = json!({"Records": [{"messageId": "m1", "body": early.to_string(), "eventSource": "aws:sqs"}]});
    let wire = Wire::answering([]);
    let handled = revocation(&wire).handle(&early).await.unwrap();
    assert_eq!((serde_json::to_value(handled).unwrap(), wire.requests().len()), (done_with(), 0));
    let wire = Wire::answering([]);
    let forged = json!({"Records": [{"messageId": "m1", "body": "{\"detail\": {\"incident_id\": \"fb-x\"}}"},
        {"messageId": "m2", "body": "no JSON"}]});
    let handled = revocation(&wire).handle(&forged).await.unwrap();
    assert_eq!(serde_json::to_value(handled).unwrap(), done_with());
}

#[tokio::test]
async fn what_the_guard_rails_have_not_passed_is_not_revoked() {
    let unvetted = Incident { unvetted: true, ..quarantined() };
    let wire = Wire::answering([stored(&unvetted)]);
    let event = json!({"detail-type": "Containment Ordered", "detail": {"incident_id": unvetted.incident_id}});
    let answer = serde_json::to_value(revocation(&wire).handle(&event).await.unwrap()).unwrap();
    assert_eq!((&answer["outcome"], wire.requests().len()), (&json!("nothing to do"), 1), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("the guard rails have not passed it yet"), "{answer}");
}

fn chain(incident: &Incident, ends_at: &str) -> ChainRecord {
    let link = Link {
        call: Call::AssumeRole,
        at: "2026-11-21T02:59:00Z".parse().unwrap(),
        region: None,
        by: None,
        depth: 1,
        session: Session {
            role: Some(OfRole {
                account: "111122223333".parse().unwrap(),
                name: "billing".parse().unwrap(),
                id: format!("{ROLE_ID}:x1").parse().unwrap(),
            }),
            access_key: Some("ASIAEXAMPLE000000002".parse().unwrap()),
            ends_at: ends_at.parse().unwrap(),
        },
    };
    ChainRecord {
        schema: SCHEMA,
        incident_id: incident.incident_id.clone(),
        episode: 1,
        sessions: vec![link],
        regions: Vec::new(),
        gaps: Vec::new(),
        rounds: 1,
        complete_to: incident.opened_at,
        settled_at: None,
        updated_at: incident.opened_at,
    }
}

fn kept(incident: &Incident) -> Record {
    let role = Principal::from_arn("arn:aws:iam::111122223333:role/billing").unwrap();
    Record::Revocation(RevocationRecord {
        schema: SCHEMA,
        incident_id: incident.incident_id.clone(),
        principal: Principal { unique_id: Some(ROLE_ID.parse().unwrap()), ..role },
        ends_at: "2026-11-21T04:05:00Z".parse().unwrap(),
        action: ActionId::RevokeChainedSessions,
        episode: 1,
    })
}

fn applied(incident: &Incident) -> Wired {
    let target = Target::Role("billing".parse().unwrap());
    let step = Step { action: ActionId::RevokeChainedSessions, target };
    let record = incident.step_record(&step, incident.opened_at);
    item(&Record::Step(Box::new(StepRecord { state: StepState::Applied, prior: Some("null".into()), ..record })))
}

/// A policy of the contained role, which has these names.
fn standing(document: &Value) -> Wired {
    let encoded = utf8_percent_encode(&document.to_string(), NON_ALPHANUMERIC).to_string();
    ok(format!(
        "<GetRolePolicyResponse><GetRolePolicyResult><RoleName>orders</RoleName><PolicyName>p</PolicyName>\
         <PolicyDocument>{encoded}</PolicyDocument></GetRolePolicyResult></GetRolePolicyResponse>"
    ))
}

#[tokio::test]
async fn a_release_frees_the_function_after_the_revocation() {
    let function: FunctionArn = "arn:aws:lambda:eu-west-1:111122223333:function:orders".parse().unwrap();
    let mut incident = quarantined();
    incident.principal.unique_id = Some(ROLE_ID.parse().unwrap());
    incident.plan = Plan::of(
        &incident.principal.name,
        std::slice::from_ref(&function),
        &[Response::QuarantineFunction, Response::Revoke],
    );
    incident.state = IncidentState::Releasing;
    let at: Timestamp = "2026-11-21T04:00:00Z".parse().unwrap();
    incident.release = Some(release_order(at));
    let target = Target::Function(function.clone());
    let step = incident.step_record(&Step { action: ActionId::QuarantineFunction, target }, incident.opened_at);
    let step = StepRecord { state: StepState::Applied, prior: Some("null".into()), ..step };
    let denied = || standing(&denied_functions(&[function.clone()].into()));
    let revoke = json!({"firebreak": "revoke", "incident_id": incident.incident_id, "requested_by": "release-containment",
        "reason": "the stolen sessions must stay dead"});
    let script = |freed: Wired| {
        vec![
            stored(&incident),
            billing(ROLE_ID, "/"),
            none(),
            none(),
            no_policy(),
            none(),
            stored(&incident),
            no_policy(),
            ok("<PutRolePolicyResponse/>"),
            standing(&firebreak_model::policy::revocation(at)),
            none(),
            stored(&incident),
            item(&Record::Step(Box::new(step.clone()))),
            denied(),
            freed,
            none(),
        ]
    };
    let wire = Wire::answering(script(ok("<DeleteRolePolicyResponse/>")).into_iter().chain([none()]));
    revocation(&wire).handle(&revoke).await.unwrap();
    assert_eq!(wire.unused(), 0, "{:?}", calls(&wire));
    let named = calls(&wire);
    let at = |name: &str| named.iter().position(|call| call == name).unwrap();
    assert!(at("PutRolePolicy") < at("DeleteRolePolicy"), "{named:?}");
    assert!(wire.requests()[at("DeleteRolePolicy")].contains("PolicyName=firebreak-deny-functions"));
    assert!(put(&wire, "step").contains(r#""state":{"S":"reverted"}"#));
    // A release that was taken back meanwhile frees nothing.
    let taken_back = Incident { state: IncidentState::Ordered, release: None, ..incident.clone() };
    let mut overtaken = script(none());
    overtaken.truncate(11);
    overtaken.push(stored(&taken_back));
    let wire = Wire::answering(overtaken);
    let failure = revocation(&wire).handle(&revoke).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused(text) if text.contains("taken back")), "{failure}");
    assert_eq!(wire.unused(), 0, "{:?}", calls(&wire));
    // What could not be taken out keeps the release from going on.
    let wire = Wire::answering(script(query_error(400, "Throttling")));
    let failure = revocation(&wire).handle(&revoke).await.unwrap_err();
    assert!(matches!(failure, Failure::Transient(_)), "{failure}");
}

async fn sweep(script: Vec<Wired>) -> (Wire, String) {
    let wire = Wire::answering(script);
    let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event", "account": "111122223333"});
    let answer = serde_json::to_value(revocation(&wire).handle(&tick).await.unwrap()).unwrap();
    assert_eq!(wire.unused(), 0, "{:?}", calls(&wire));
    (wire, answer["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_deny_ends_with_its_sessions_once_the_incident_is_released() {
    let ordered = quarantined();
    let release = release_order("2026-11-21T03:30:00Z".parse().unwrap());
    let released = Incident { state: IncidentState::Released, release: Some(release), ..ordered.clone() };
    let ended = || item(&Record::Chain(Box::new(chain(&ordered, "2026-11-21T04:00:00Z"))));
    let (wire, said) = sweep(vec![
        items(&[kept(&released)]),
        stored(&released),
        ended(),
        applied(&released),
        policy(&released, 1),
        ok("<DeleteRolePolicyResponse/>"),
        none(),
        none(),
    ])
    .await;
    assert!(said.contains("what was there before is there again"), "{said}");
    assert!(
        calls(&wire).contains(&"DeleteRolePolicy".to_owned()) && calls(&wire).ends_with(&["DeleteItem".to_owned()])
    );
    // While it is contained the deny stays, and its end is put off.
    let (wire, said) = sweep(vec![items(&[kept(&ordered)]), stored(&ordered), none(), none()]).await;
    assert!(said.contains("still contained"), "{said}");
    assert_eq!(calls(&wire)[2..], ["PutItem", "DeleteItem"]);
    // Sessions that were found later end later, and have a record of their own.
    let living = item(&Record::Chain(Box::new(chain(&ordered, "2100-01-01T00:00:00Z"))));
    let (wire, _) = sweep(vec![items(&[kept(&released)]), stored(&released), living, none()]).await;
    assert_eq!(calls(&wire)[2..], ["GetItem", "DeleteItem"]);
    // An episode that is over ends whatever the present one does.
    let reopened = Incident { episode: 2, ..ordered.clone() };
    let (_, said) = sweep(vec![items(&[kept(&reopened)]), stored(&reopened), ended(), none(), none()]).await;
    assert!(said.contains("nothing had been written"), "{said}");
}

#[tokio::test]
async fn a_revocation_is_remembered_until_it_is_taken_out_whatever_becomes_of_the_incident() {
    let ordered = quarantined();
    let at = |time: &str| release_order(time.parse().unwrap());
    let kept = items(&[Record::Revocation(RevocationRecord {
        schema: SCHEMA,
        incident_id: ordered.incident_id.clone(),
        principal: ordered.principal.clone(),
        ends_at: "2026-11-21T16:05:00Z".parse().unwrap(),
        action: ActionId::RevokeSessions,
        episode: 0,
    })]);
    let released = |release| Incident { state: IncidentState::Released, release: Some(release), ..ordered.clone() };
    // While the incident is open again its record stays as it is: closing it need not write another.
    for state in
        [IncidentState::Ordered, IncidentState::AwaitingApproval, IncidentState::Withheld, IncidentState::Releasing]
    {
        let open = Incident { state, episode: 2, ..ordered.clone() };
        let (wire, said) = sweep(vec![kept.clone(), stored(&open)]).await;
        assert_eq!(calls(&wire).len(), 2, "{state}: {said}");
    }
    // A later release need not have kept a record: this one goes on as its.
    let later = released(at("2100-01-01T00:00:00Z"));
    let (wire, _) = sweep(vec![kept.clone(), stored(&later), none(), none()]).await;
    assert_eq!(calls(&wire)[2..], ["PutItem", "DeleteItem"]);
    assert!(put(&wire, "revocation").contains("2100-01-01T12:05:00Z#"), "{}", put(&wire, "revocation"));
    // In the end it is taken out.
    let over = released(at("2026-11-21T04:00:00Z"));
    let document = standing(&firebreak_model::policy::revocation("2026-11-21T04:00:00Z".parse().unwrap()));
    let script = vec![kept.clone(), stored(&over), document, ok("<DeleteRolePolicyResponse/>"), none()];
    let (wire, said) = sweep(script).await;
    assert_eq!(calls(&wire)[3..], ["DeleteRolePolicy", "DeleteItem"], "{said}");
}
