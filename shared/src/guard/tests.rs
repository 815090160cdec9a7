#![expect(clippy::unwrap_used, reason = "tests")]

use firebreak_model::ids::Partition;
use firebreak_model::ladder::Refusal;
use firebreak_model::ledger::{Record, StepRecord, StepState};
use firebreak_model::plan::Step;
use firebreak_model::watch::{Opinion, TrailLook};
use jiff::SignedDuration;

use super::look::Bound;
use super::*;
use crate::evidence::testing::{item, items};
use crate::testing::{
    Answer as Scripted, Odd, Wire, json_error, ok, query_error, role_bounded_by, role_order, whole_deny,
};

const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/deny";
mod odd;
mod outlived;
mod parts;
mod stranded;

const OWN: &str = "arn:aws:iam::111122223333:role/firebreak/guard";

/// The wires to each service, so that each script is read in its own order.
#[derive(Default)]
struct Wires {
    ledger: Wire,
    iam: Wire,
    sqs: Wire,
    trail: Wire,
    /// Whether the stack searches for chained sessions.
    searching: bool,
    /// Who deploys.
    deployers: Vec<Glob>,
}

impl Wires {
    fn guard(&self) -> Guard {
        Guard {
            ledger: Ledger::new(
                aws_sdk_dynamodb::Client::new(&self.ledger.config()),
                "ledger".to_owned(),
                crate::ledger::Seal::none(),
            ),
            iam: aws_sdk_iam::Client::new(&self.iam.config()),
            sqs: aws_sdk_sqs::Client::new(&self.sqs.config()),
            sdk: self.trail.config(),
            home: Home { partition: Partition::Aws, account: "111122223333".parse().unwrap() },
            stack: "firebreak".to_owned(),
            deny_policy_arn: DENY.to_owned(),
            queue_url: "https://sqs.eu-west-1.amazonaws.com/111122223333/firebreak-recheck".to_owned(),
            own_role_arn: OWN.to_owned(),
            table_arn: "arn:aws:dynamodb:eu-west-1:111122223333:table/ledger".to_owned(),
            pace: Pace { rechecks: vec![5, 30, 300], trail_lag: 900 },
            own: Own {
                stack: "firebreak".to_owned(),
                deny_policy_arn: DENY.to_owned(),
                table: "ledger".to_owned(),
                ..Own::default()
            },
            deployers: self.deployers.clone(),
            without_revocation: !self.searching,
            with_drills: true,
            lookups: Lookups(crate::evidence::pace::Pace::every(std::time::Duration::ZERO)),
            lambda: aws_sdk_lambda::Client::new(&self.trail.config()),
            events: aws_sdk_eventbridge::Client::new(&self.trail.config()),
            dynamodb: aws_sdk_dynamodb::Client::new(&self.trail.config()),
            sns: aws_sdk_sns::Client::new(&self.trail.config()),
        }
    }

    fn unused(&self) -> usize {
        [&self.ledger, &self.iam, &self.sqs, &self.trail].iter().map(|wire| wire.unused()).sum()
    }
}

/// An incident that was ordered a minute ago, with its ARN and id on record, and its quarantine as the ledger has it.
fn contained() -> (Incident, StepRecord) {
    let (mut incident, step) = role_order("orders");
    let ordered = clock::now() - SignedDuration::from_mins(1);
    incident.ordered_at = Some(ordered);
    incident.principal.unique_id = Some("AROAEXAMPLE000000001".parse().unwrap());
    let record = incident.step_record(&step, ordered);
    (incident, StepRecord { state: StepState::Applied, verified_at: Some(ordered), ..record })
}

fn stored(incident: &Incident) -> Scripted {
    item(&Record::Incident(Box::new(incident.clone())))
}

/// What is read back of a quarantine: what is attached, and the deny policy itself.
fn read(arn: &str) -> Vec<Scripted> {
    [attached(arn)].into_iter().chain(whole_deny()).collect()
}

/// The role as it is now, by its unique id.
fn role(id: &str) -> Scripted {
    ok(format!(
        "<GetRoleResponse><GetRoleResult><Role><Path>/</Path><RoleName>orders</RoleName><RoleId>{id}</RoleId>\
         <Arn>arn:aws:iam::111122223333:role/orders</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate></Role>\
         </GetRoleResult></GetRoleResponse>"
    ))
}

fn as_pinned() -> Scripted {
    role("AROAEXAMPLE000000001")
}

fn attached(arn: &str) -> Scripted {
    ok(format!(
        "<ListAttachedRolePoliciesResponse><ListAttachedRolePoliciesResult><AttachedPolicies><member><PolicyArn>{arn}\
         </PolicyArn></member></AttachedPolicies></ListAttachedRolePoliciesResult></ListAttachedRolePoliciesResponse>"
    ))
}

fn simulated(action: &str, decision: &str) -> Scripted {
    ok(format!(
        "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults><member><EvalActionName>\
         {action}</EvalActionName><EvalDecision>{decision}</EvalDecision></member></EvaluationResults>\
         </SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    ))
}

fn control() -> Scripted {
    simulated("dynamodb:GetItem", "allowed")
}

/// What IAM says of a quarantine that is in force, to a look with its second opinion.
fn in_force() -> Vec<Scripted> {
    let opinion = [control(), simulated("sts:GetSessionToken", "explicitDeny")];
    [as_pinned()].into_iter().chain(read(DENY)).chain(opinion).collect()
}

fn nothing_recorded() -> Scripted {
    ok(r#"{"Events": []}"#)
}

fn sent() -> Scripted {
    ok(r#"{"MessageId": "m", "MD5OfMessageBody": "x"}"#)
}

fn message(body: &Value) -> Value {
    json!({"Records": [{"messageId": "m", "body": body.to_string(), "eventSource": "aws:sqs"}]})
}

fn order_of(incident: &Incident) -> Value {
    message(&json!({"detail-type": "Containment Ordered", "detail": {"incident_id": incident.incident_id}}))
}

async fn played(wires: &Wires, payload: &Value) -> Value {
    serde_json::to_value(wires.guard().handle(payload).await.unwrap()).unwrap()
}

#[tokio::test]
async fn an_order_is_looked_at_in_every_way_and_comes_again_by_a_delayed_message() {
    let (incident, step) = contained();
    let wires = Wires {
        ledger: Wire::answering([stored(&incident), ok("{}"), items(&[Record::Step(Box::new(step))]), ok("{}")]),
        iam: Wire::answering(in_force()),
        sqs: Wire::answering([sent()]),
        trail: Wire::answering([nothing_recorded(), nothing_recorded()]),
        ..Wires::default()
    };
    let answer = played(&wires, &order_of(&incident)).await;
    assert_eq!((answer["batchItemFailures"].clone(), wires.unused()), (json!([]), 0));
    let put = wires.ledger.requests().pop().unwrap();
    assert!(put.contains(r#""standing":{"S":"watching"}"#) && put.contains(r#""pk":{"S":"watch"}"#), "{put}");
    assert!(put.contains("attribute_not_exists(pk) OR #version = :before"), "{put}");
    let iam = wires.iam.requests();
    assert!(iam[4].contains("PolicySourceArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Ffirebreak%2Fguard"), "{iam:?}");
    assert!(iam[5].contains("PolicySourceArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Forders"), "{iam:?}");
    let hosts = wires.trail.hosts();
    assert!(hosts[0].contains("eu-west-1") && hosts[1].contains("us-east-1"), "{hosts:?}");
    assert!(wires.trail.requests()[0].contains(r#""AttributeKey":"ReadOnly","AttributeValue":"false""#));
    // The first re-check was this one: the next is due 30 seconds after the order, which is past.
    assert!(wires.sqs.requests()[0].contains(r#""DelaySeconds":0"#), "{:?}", wires.sqs.requests());
}

#[tokio::test]
async fn a_message_before_its_time_costs_two_reads() {
    let (incident, _) = contained();
    let guard = Wires::default().guard();
    let watch = Watch {
        next_check_at: Some(clock::now() + SignedDuration::from_mins(4)),
        ..Watch::of(&incident, &guard.pace, clock::now())
    };
    let wires = Wires {
        ledger: Wire::answering([stored(&incident), item(&Record::Watch(Box::new(watch)))]),
        ..Wires::default()
    };
    played(&wires, &message(&json!({"detail": {"incident_id": incident.incident_id}}))).await;
    assert_eq!((wires.ledger.requests().len(), wires.unused()), (2, 0));
}

#[tokio::test]
async fn a_last_recheck_that_comes_a_moment_early_comes_again() {
    let (incident, step) = contained();
    let guard = Wires::default().guard();
    // Due, and CloudTrail is not complete yet over the five minutes that were watched.
    let watch = Watch {
        since: clock::now() - SignedDuration::from_mins(19),
        done: 3,
        next_check_at: Some(clock::now()),
        ..Watch::of(&incident, &guard.pace, clock::now())
    };
    let wires = Wires {
        ledger: Wire::answering([
            stored(&incident),
            item(&Record::Watch(Box::new(watch))),
            items(&[Record::Step(Box::new(step))]),
            ok("{}"),
        ]),
        iam: Wire::answering(in_force()),
        sqs: Wire::answering([sent()]),
        trail: Wire::answering([nothing_recorded(), nothing_recorded()]),
        ..Wires::default()
    };
    played(&wires, &message(&json!({"detail": {"incident_id": incident.incident_id}}))).await;
    assert_eq!(wires.unused(), 0, "its message is sent again");
    let put = wires.ledger.requests().pop().unwrap();
    assert!(put.contains(r#""standing":{"S":"watching"}"#) && put.contains(r#""done":{"N":"3"}"#), "{put}");
}

#[tokio::test]
async fn what_is_gone_goes_on_record_with_its_owner_and_is_soon_looked_at_again() {
    let (incident, step) = contained();
    let wires = Wires {
        ledger: Wire::answering([
            stored(&incident),
            ok("{}"),
            items(&[Record::Step(Box::new(step))]),
            stored(&incident),
            ok("{}"),
            ok("{}"),
        ]),
        iam: Wire::answering([as_pinned()].into_iter().chain(read("arn:aws:iam::aws:policy/ReadOnlyAccess"))),
        sqs: Wire::answering([sent()]),
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    assert_eq!(wires.unused(), 0, "no second opinion is asked about what does not hold");
    let requests = wires.ledger.requests();
    assert!(requests[4].contains(r#""standing":{"S":"undone"}"#), "{}", requests[4]);
    assert!(requests[5].contains(r#""owners":{"L":[{"S":"quarantine-principal"}]}"#), "{}", requests[5]);
    assert!(requests[5].contains(&format!("tamper#{}", incident.incident_id)), "{}", requests[5]);
    assert!(wires.sqs.requests()[0].contains(r#""DelaySeconds":5"#), "{:?}", wires.sqs.requests());
}

#[tokio::test]
async fn the_rung_that_holds_is_the_one_that_is_looked_at() {
    let (incident, top) = contained();
    let ordered = incident.ordered_since();
    let refused =
        StepRecord { state: StepState::Failed, refused: Some(Refusal::Quota), verified_at: None, ..top.clone() };
    let step = Step { action: ActionId::BoundRole, target: top.target.clone() };
    let below = StepRecord {
        state: StepState::Applied,
        prior: Some("null".into()),
        verified_at: Some(ordered),
        ..incident.step_record(&step, ordered)
    };
    let records = || items(&[&refused, &below].map(|record| Record::Step(Box::new(record.clone()))));
    let wires = Wires {
        ledger: Wire::answering([stored(&incident), ok("{}"), records(), ok("{}")]),
        iam: Wire::answering([
            as_pinned(),
            role_bounded_by(Some("arn:aws:iam::aws:policy/AWSDenyAll")),
            control(),
            simulated("sts:GetSessionToken", "explicitDeny"),
        ]),
        sqs: Wire::answering([sent()]),
        trail: Wire::answering([nothing_recorded(), nothing_recorded()]),
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    assert_eq!(wires.unused(), 0, "{:?}", wires.iam.requests());
    let put = wires.ledger.requests().pop().unwrap();
    assert!(put.contains(r#""standing":{"S":"watching"}"#), "{put}");

    let wires = Wires {
        ledger: Wire::answering([stored(&incident), ok("{}"), records(), stored(&incident), ok("{}"), ok("{}")]),
        iam: Wire::answering([as_pinned(), role_bounded_by(None)]),
        sqs: Wire::answering([sent()]),
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    let requests = wires.ledger.requests();
    assert!(requests[5].contains(r#""owners":{"L":[{"S":"quarantine-principal"}]}"#), "{}", requests[5]);
}

#[tokio::test]
async fn of_two_rungs_in_force_each_is_looked_at() {
    let (incident, top) = contained();
    let step = Step { action: ActionId::BoundRole, target: top.target.clone() };
    let fresh = incident.step_record(&step, incident.ordered_since());
    let below = StepRecord { state: StepState::Applied, prior: Some("null".into()), ..fresh };
    let records = items(&[&top, &below].map(|record| Record::Step(Box::new(record.clone()))));
    let [policy, version] = whole_deny();
    let wires = Wires {
        ledger: Wire::answering([stored(&incident), ok("{}"), records, stored(&incident), ok("{}"), ok("{}")]),
        // The deny is there, the boundary is gone; both are read at once.
        iam: Wire::answering([as_pinned(), attached(DENY), policy, version, role_bounded_by(None)]),
        sqs: Wire::answering([sent()]),
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    assert_eq!(wires.unused(), 0, "{:?}", wires.iam.requests());
    let tamper = wires.ledger.requests().pop().unwrap();
    assert!(tamper.contains(r#""steps":{"L":[{"S":"bound-role@role/orders"}]}"#), "{tamper}");
}

#[tokio::test]
async fn what_no_event_told_in_time_is_looked_for_by_name() {
    let (mut incident, step) = contained();
    incident.access_keys = vec!["ASIAEXAMPLE0000001".parse().unwrap()];
    let stolen = incident.ordered_since() - SignedDuration::from_secs(30);
    incident.first_seen = Some(stolen);
    let made = |at: Timestamp, name: &str| {
        let mut record = told_of("iam", "CreateUser", &json!({"userName": name}), "role/orders")["detail"].clone();
        record["eventTime"] = json!(at.to_string());
        record["eventID"] = json!(name);
        record["userIdentity"]["principalId"] = json!("AROAEXAMPLE000000001:s");
        record["responseElements"] = json!({"user": {"arn": format!("arn:aws:iam::111122223333:user/{name}")}});
        json!({"CloudTrailEvent": record.to_string()})
    };
    let before = stolen - SignedDuration::from_secs(5);
    let page = json!({"Events": [made(stolen, "backdoor"), made(before, "colleague")]}).to_string();
    let none = nothing_recorded;
    let wires = Wires {
        ledger: Wire::answering([
            stored(&incident),
            ok("{}"),
            items(&[Record::Step(Box::new(step))]),
            ok("{}"),
            ok("{}"),
        ]),
        iam: Wire::answering(in_force()),
        sqs: Wire::answering([sent()]),
        // Since the deny: nothing, by key and by what changes something, in two Regions. Since the theft: by key.
        trail: Wire::answering([none(), none(), none(), none(), ok(page), none()]),
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    assert_eq!(wires.unused(), 0, "{:?} {:?}", wires.trail.requests(), wires.ledger.requests());
    let tampers: Vec<String> =
        wires.ledger.requests().into_iter().filter(|request| request.contains("tamper#")).collect();
    assert_eq!(tampers.len(), 1, "what was made before the theft is nobody's: {tampers:?}");
    assert!(tampers[0].contains(r#""nature":{"S":"minted"}"#) && tampers[0].contains("backdoor"), "{tampers:?}");
}

#[tokio::test]
async fn a_release_that_began_meanwhile_is_no_tampering() {
    let (incident, step) = contained();
    for state in [IncidentState::Releasing, IncidentState::Released] {
        let released = Incident { state, updated_at: clock::now(), ..incident.clone() };
        let wires = Wires {
            ledger: Wire::answering([
                stored(&incident),
                ok("{}"),
                items(&[Record::Step(Box::new(step.clone()))]),
                stored(&released),
            ]),
            iam: Wire::answering([as_pinned()].into_iter().chain(read("arn:aws:iam::aws:policy/ReadOnlyAccess"))),
            ..Wires::default()
        };
        played(&wires, &order_of(&incident)).await;
        assert!(wires.ledger.requests().iter().all(|request| !request.contains("PutItem")), "nothing is recorded");
        // And what is released when it is looked at is not read at all, and watched no longer.
        let wires = Wires { ledger: Wire::answering([stored(&released), ok("{}")]), ..Wires::default() };
        played(&wires, &order_of(&incident)).await;
        assert!(wires.ledger.requests()[1].contains("DeleteItem"), "{:?}", wires.ledger.requests());
    }
}

#[tokio::test]
async fn an_edited_watch_is_begun_anew() {
    let (incident, step) = contained();
    let edited = ok(r#"{"Item": {"kind": {"S": "watch"}, "pk": {"S": "watch"}, "standing": {"S": "fine"}}}"#);
    let wires = Wires {
        ledger: Wire::answering([
            stored(&incident),
            edited,
            ok("{}"),
            items(&[Record::Step(Box::new(step))]),
            ok("{}"),
        ]),
        iam: Wire::answering(in_force()),
        sqs: Wire::answering([sent()]),
        trail: Wire::answering([nothing_recorded(), nothing_recorded()]),
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    assert_eq!(wires.unused(), 0);
    assert!(wires.ledger.requests()[2].contains("DeleteItem"));
}

#[tokio::test]
async fn only_an_explicit_deny_beside_an_allowed_control_agrees() {
    let (incident, _) = contained();
    let target = |decision: &str| simulated("sts:GetSessionToken", decision);
    let unanswered =
        || ok("<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult/></SimulatePrincipalPolicyResponse>");
    for (answers, agrees, says) in [
        ([control(), target("explicitDeny")], Some(true), ""),
        ([control(), target("implicitDeny")], Some(false), "`implicitDeny`"),
        ([control(), target("allowed")], Some(false), "`allowed`"),
        ([control(), target("somethingNew")], Some(false), "`somethingNew`"),
        ([control(), unanswered()], Some(false), "`no decision`"),
        ([control(), simulated("s3:GetObject", "explicitDeny")], Some(false), "`no decision`"),
        ([simulated("dynamodb:GetItem", "explicitDeny"), target("explicitDeny")], None, "control"),
        ([unanswered(), target("explicitDeny")], None, "control"),
        ([control(), query_error(400, "Throttling")], None, "throttled"),
        ([query_error(403, "AccessDenied"), target("explicitDeny")], None, "denied"),
    ] {
        let wires = Wires { iam: Wire::answering(answers), ..Wires::default() };
        let opinion = wires.guard().opinion(&incident.principal).await;
        let found = match &opinion {
            Opinion::Agrees => Some(true),
            Opinion::Disagrees(_) => Some(false),
            Opinion::None(_) | Opinion::NotAsked => None,
        };
        assert_eq!(found, agrees, "{opinion:?}");
        assert!(format!("{opinion:?}").contains(says), "{opinion:?}");
    }
}

fn events(seconds: &[i64], error: Option<&str>, token: Option<&str>) -> Scripted {
    let (incident, _) = contained();
    let record = |second: &i64| {
        let time = incident.ordered_since() + SignedDuration::from_secs(*second);
        let mut record = json!({"eventName": "PutObject", "eventSource": "s3.amazonaws.com", "eventID": second.to_string(),
            "eventTime": time.to_string(), "recipientAccountId": "111122223333",
            "userIdentity": {"type": "AssumedRole", "accountId": "111122223333",
                "principalId": "AROAEXAMPLE000000001:i-0", "sessionContext": {"sessionIssuer": {
                    "userName": "orders", "arn": "arn:aws:iam::111122223333:role/orders"}}}});
        if let Some(code) = error {
            record["errorCode"] = json!(code);
        }
        json!({"CloudTrailEvent": record.to_string()})
    };
    let mut answer = json!({"Events": seconds.iter().map(record).collect::<Vec<_>>()});
    if let Some(token) = token {
        answer["NextToken"] = json!(token);
    }
    ok(answer.to_string())
}

async fn told(answers: impl IntoIterator<Item = Scripted>) -> TrailLook {
    let (incident, step) = contained();
    let wires = Wires { trail: Wire::answering(answers), ..Wires::default() };
    let guard = wires.guard();
    let watch = Watch::of(&incident, &guard.pace, clock::now());
    let bound = Bound { since: step.verified_at.unwrap(), sessions_before: None };
    guard.trail(&incident, &watch, Cause::Recheck, bound, clock::now()).await
}

#[tokio::test]
async fn calls_since_the_deny_are_read_on_every_page_and_what_was_refused_is_none() {
    let TrailLook::Calls { calls, .. } =
        told([events(&[20, -30], None, Some("t1")), events(&[40], None, None), events(&[20], None, None)]).await
    else {
        unreachable!("CloudTrail answered")
    };
    let ids: Vec<&str> = calls.iter().map(|call| call.event_id.as_str()).collect();
    assert_eq!(ids, ["20", "40"], "each once, and none from before the deny");
    let TrailLook::Calls { calls, .. } = told([events(&[20], Some("AccessDenied"), None), nothing_recorded()]).await
    else {
        unreachable!("CloudTrail answered")
    };
    assert!(calls.is_empty());
}

#[tokio::test]
async fn what_cloudtrail_did_not_answer_wholly_is_said_so() {
    let denied = told([json_error(400, "AccessDeniedException")]).await;
    assert!(matches!(&denied, TrailLook::Unread(why) if why.contains("denied")), "{denied:?}");
    let repeated = told([events(&[], None, Some("t1")), events(&[], None, Some("t1"))]).await;
    assert!(matches!(&repeated, TrailLook::Unread(why) if why.contains("repeats")), "{repeated:?}");
}

/// The role whose sessions are revoked while it lives on, and the record of that.
fn revoked() -> (Incident, StepRecord) {
    let (mut incident, _) = contained();
    let step = Step { action: ActionId::RevokeSessions, target: (&incident.principal.name).into() };
    let ordered = incident.ordered_since();
    incident.plan.steps = vec![step.clone()];
    let record = incident.step_record(&step, ordered);
    let at = Some(ordered + SignedDuration::from_secs(1));
    (incident, StepRecord { state: StepState::Applied, verified_at: at, first_verified_at: at, ..record })
}

#[tokio::test]
async fn of_a_principal_that_lives_on_cloudtrail_is_asked_for_the_sessions_that_were_revoked() {
    let (incident, step) = revoked();
    let ordered = incident.ordered_since();
    let of_session = |id: &str, began: i64| {
        let at = |seconds| (ordered + SignedDuration::from_secs(seconds)).to_string();
        json!({"CloudTrailEvent": json!({"eventName": "PutObject", "eventSource": "s3.amazonaws.com", "eventID": id,
            "eventTime": at(40), "recipientAccountId": "111122223333",
            "userIdentity": {"type": "AssumedRole", "accountId": "111122223333",
                "principalId": "AROAEXAMPLE000000001:orders", "sessionContext": {
                    "attributes": {"creationDate": at(began)},
                    "sessionIssuer": {"userName": "orders", "arn": "arn:aws:iam::111122223333:role/orders"}}}})
            .to_string()})
    };
    let events = json!({"Events": [of_session("stolen", -60), of_session("fresh", 30)]}).to_string();
    let reach = firebreak_model::policy::whole_seconds(step.verified_at.unwrap() + SignedDuration::from_mins(1));
    let wires = Wires {
        ledger: Wire::answering([stored(&incident), ok("{}"), items(&[Record::Step(Box::new(step))]), ok("{}")]),
        iam: Wire::answering([as_pinned(), crate::testing::standing(&firebreak_model::policy::revocation(reach))]),
        sqs: Wire::answering([sent()]),
        trail: Wire::answering([ok(events), nothing_recorded()]),
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    assert_eq!(wires.unused(), 0, "{:?} {:?}", wires.iam.requests(), wires.trail.requests());
    let put = wires.ledger.requests().pop().unwrap();
    let asked = r#""cloudtrail_regions":{"L":[{"S":"eu-west-1"},{"S":"us-east-1"}]}"#;
    assert!(put.contains(asked), "where it was asked is on record: {put}");
    let hosts = ["cloudtrail.eu-west-1.amazonaws.com", "cloudtrail.us-east-1.amazonaws.com"];
    assert_eq!(wires.trail.hosts(), hosts, "and it was asked nowhere else, once each");
    assert!(put.contains(r#""event_id":{"S":"stolen"}"#) && !put.contains("fresh"), "{put}");
    assert!(put.contains(r#""standing":{"S":"partial"}"#), "forty seconds later it goes on: {put}");
    assert!(put.contains(r#""opinion":{"M":{"is":{"S":"not_asked"}}}"#), "{put}");
}

/// A page of one event.
fn page(at: Timestamp, more: bool) -> Scripted {
    let record = json!({"eventTime": at.to_string()}).to_string();
    let mut page = json!({"Events": [{"CloudTrailEvent": record}]});
    if more {
        page["NextToken"] = json!(format!("t{at}"));
    }
    ok(page.to_string())
}

#[tokio::test]
async fn what_is_too_much_for_one_look_is_read_slice_by_slice_from_the_oldest_on() {
    let (incident, _) = contained();
    let now = clock::now();
    let denied = firebreak_model::policy::whole_seconds(now - SignedDuration::from_hours(1));
    let bound = Bound { since: denied, sessions_before: None };
    let after = |seconds: i64| denied + SignedDuration::from_secs(seconds);
    // Ten pages that fill ten seconds, and there are more; the slice after the deny is whole, the next is not.
    let newest = (0..10).map(|n| page(after(1010 - n), true));
    let slices = [nothing_recorded()].into_iter().chain((0..10).map(|n| page(after(18 - n % 9), true)));
    let wires = Wires { trail: Wire::answering(newest.chain(slices).chain([nothing_recorded()])), ..Wires::default() };
    let guard = wires.guard();
    let watch = Watch { since: denied, ..Watch::of(&incident, &guard.pace, now) };
    let look = guard.trail(&incident, &watch, Cause::Recheck, bound, now).await;
    assert_eq!(wires.unused(), 0, "{:?}", wires.trail.requests());
    let TrailLook::Calls { complete_until, behind, .. } = look else { unreachable!("CloudTrail answered") };
    assert_eq!(complete_until, after(9), "what was whole is kept");
    assert!(behind.unwrap().contains("ReadOnly"));
    let asked = &wires.trail.requests()[10];
    assert!(asked.contains(&format!(r#""EndTime":{}"#, after(9).as_second())), "{asked}");
    // The next look goes on there, and is through.
    let watch = Watch { cloudtrail_complete_until: Some(after(9)), ..watch };
    let wires = Wires { trail: Wire::answering([nothing_recorded(), nothing_recorded()]), ..Wires::default() };
    let look = wires.guard().trail(&incident, &watch, Cause::Sweep, bound, now).await;
    assert!(matches!(look, TrailLook::Calls { behind: None, .. }), "{look:?}");
    assert!(wires.trail.requests()[0].contains(&format!(r#""StartTime":{}"#, after(9).as_second())));
}

#[tokio::test]
async fn each_sweep_writes_the_heartbeat_and_what_is_missing_as_their_alarms_listen_for_them() {
    let hollow = || Wire::odd(Odd::Hollow, [] as [(&str, _); 0]);
    let wires = Wires { ledger: hollow(), iam: hollow(), sqs: hollow(), trail: hollow(), ..Wires::default() };
    let guard = wires.guard();
    for _ in 0..2 {
        let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event"});
        guard.handle(&tick).await.unwrap();
        let lines = crate::metrics::written::taken();
        crate::template::assert_heard(&lines, &["GuardHeartbeat", "PartsMissing"]);
        assert_eq!(lines[0]["GuardHeartbeat"], 1);
        assert!(
            lines[1]["PartsMissing"].as_i64().unwrap() > 20,
            "an account that answers nothing has none: {}",
            lines[1]
        );
    }
}

#[tokio::test]
async fn what_is_no_recheck_and_no_tick_is_malformed() {
    let forged = json!({"source": "my.iam", "detail-type": "AWS API Call via CloudTrail", "account": "111122223333"});
    for payload in [json!({}), json!({"Records": "x"}), json!({"source": "aws.events", "detail-type": "x"}), forged] {
        let failure = Wires::default().guard().handle(&payload).await.unwrap_err();
        assert!(matches!(failure, Failure::Malformed(_)), "{payload}: {failure}");
    }
    // A message that cannot be read does not come again.
    let answer = played(&Wires::default(), &message(&json!({"detail": {"incident_id": "fb-*"}}))).await;
    assert_eq!(answer["batchItemFailures"], json!([]));
}

/// A call of `actor` as CloudTrail tells of it: `role/NAME` or `user/NAME`.
fn told_of(service: &str, name: &str, parameters: &Value, actor: &str) -> Value {
    let (kind, plain) = actor.split_once('/').unwrap();
    let arn = format!("arn:aws:iam::111122223333:{kind}/people/{plain}");
    let identity = if kind == "role" {
        json!({"type": "AssumedRole", "accountId": "111122223333", "principalId": "AROAEXAMPLE000000007:s",
            "sessionContext": {"sessionIssuer": {"type": "Role", "userName": plain, "arn": arn}}})
    } else {
        json!({"type": "IAMUser", "accountId": "111122223333", "principalId": "AIDAEXAMPLE000000007", "userName": plain,
            "arn": arn})
    };
    json!({"id": "e1", "source": format!("aws.{service}"), "detail-type": "AWS API Call via CloudTrail",
        "account": "111122223333", "detail": {"eventName": name, "eventSource": format!("{service}.amazonaws.com"),
            "eventID": "e1", "eventTime": clock::now().to_string(), "awsRegion": "us-east-1",
            "recipientAccountId": "111122223333", "sourceIPAddress": "198.51.100.1", "userIdentity": identity,
            "requestParameters": parameters}})
}

#[tokio::test]
async fn who_undid_a_containment_is_on_record_though_it_is_back_already() {
    let (incident, step) = contained();
    let event = told_of("iam", "DetachRolePolicy", &json!({"roleName": "orders", "policyArn": DENY}), "user/ana");
    let wires = Wires {
        ledger: Wire::answering([
            ok("{}"),
            stored(&incident),
            stored(&incident),
            ok("{}"),
            items(&[Record::Step(Box::new(step))]),
            ok("{}"),
            ok("{}"),
        ]),
        iam: Wire::answering(in_force()),
        sqs: Wire::answering([sent()]),
        ..Wires::default()
    };
    played(&wires, &event).await;
    assert_eq!(wires.unused(), 0, "CloudTrail has just told: it is not asked");
    let tamper = wires.ledger.requests().pop().unwrap();
    for part in [r#""nature":{"S":"undone"}"#, r#""owners":{"L":[]}"#, "user/people/ana", "198.51.100.1"] {
        assert!(tamper.contains(part), "{tamper}");
    }
    assert!(tamper.contains(r#""suspects":{"L":[{"M""#), "{tamper}");
}

#[tokio::test]
async fn what_a_contained_principal_makes_is_suspected_and_it_itself_is_not() {
    let (incident, _) = contained();
    for (name, parameters, nature, suspects) in [
        ("CreateUser", json!({"userName": "backdoor"}), "minted", true),
        ("CreateAccessKey", json!({"userName": "ci-bot"}), "widened", true),
        ("SetDefaultPolicyVersion", json!({"policyArn": "arn:aws:iam::111122223333:policy/p"}), "widened", false),
    ] {
        let event = told_of("iam", name, &parameters, "role/orders");
        let wires = Wires { ledger: Wire::answering([stored(&incident), ok("{}"), ok("{}")]), ..Wires::default() };
        played(&wires, &event).await;
        let requests = wires.ledger.requests();
        let tamper = requests.iter().find(|request| request.contains("PutItem")).unwrap();
        assert!(tamper.contains(&format!(r#""nature":{{"S":"{nature}"}}"#)), "{tamper}");
        assert_eq!(!tamper.contains(r#""suspects":{"L":[]}"#), suspects, "{tamper}");
        // Nothing of it may lead back to the contained principal, which is contained.
        let body: Value = serde_json::from_str(tamper.split_at(tamper.find('{').unwrap()).1).unwrap();
        let own = body["Item"]["suspects"].to_string();
        assert!(!own.contains(r#""name":{"S":"orders"}"#), "{own}");
    }
}

#[tokio::test]
async fn firebreaks_own_parts_are_told_of_but_not_a_deployment() {
    let event = |actor: &str| told_of("events", "DisableRule", &json!({"name": "firebreak-findings"}), actor);
    let wires = Wires { ledger: Wire::answering([ok("{}"), ok("{}")]), ..Wires::default() };
    played(&wires, &event("user/ana")).await;
    let tamper = wires.ledger.requests().pop().unwrap();
    assert!(tamper.contains("tamper#own") && tamper.contains(r#""nature":{"S":"own_part"}"#), "{tamper}");

    let by = |service: &str| {
        let mut event = event("user/ana");
        event["detail"]["userIdentity"]["invokedBy"] = json!(format!("{service}.amazonaws.com"));
        event
    };
    let deployers: Vec<Glob> = vec!["arn:aws:iam::*:role/cicd/deploy".into()];
    // Anyone may have a service do it: a document of Systems Manager, a stack of their own.
    for (event, deployers) in
        [(by("ssm"), Vec::new()), (by("ssm"), deployers.clone()), (by("cloudformation"), deployers.clone())]
    {
        let wires = Wires { ledger: Wire::answering([ok("{}"), ok("{}")]), deployers, ..Wires::default() };
        played(&wires, &event).await;
        let tamper = wires.ledger.requests().pop().unwrap();
        assert!(tamper.contains(r#""nature":{"S":"own_part"}"#), "{tamper}");
    }
    let mut by_the_deployer = event("role/deploy");
    by_the_deployer["detail"]["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] =
        json!("arn:aws:iam::111122223333:role/cicd/deploy");
    let mut refused = event("user/ana");
    refused["detail"]["errorCode"] = json!("AccessDenied");
    let other = told_of("events", "DisableRule", &json!({"name": "nightly"}), "user/ana");
    for (why, event) in [("the deployer", by_the_deployer), ("refused", refused), ("another's", other)] {
        let wires = Wires { ledger: Wire::answering([ok("{}")]), deployers: deployers.clone(), ..Wires::default() };
        played(&wires, &event).await;
        assert!(wires.ledger.requests().iter().all(|request| !request.contains("PutItem")), "{why}");
    }
}

#[tokio::test]
async fn where_nobody_is_said_to_deploy_cloudformation_does_when_the_stack_was_told_to() {
    let mut event = told_of("events", "DisableRule", &json!({"name": "firebreak-findings"}), "user/ana");
    event["detail"]["userIdentity"]["invokedBy"] = json!("cloudformation.amazonaws.com");
    let on_the_stack = |name: &str, ago: SignedDuration| {
        let mut event = told_of("cloudformation", name, &json!({"stackName": "firebreak"}), "user/ana");
        event["detail"]["eventTime"] = json!((clock::now() - ago).to_string());
        let guard = Wires::default().guard();
        let change = Change::read(&event, &guard.home).unwrap();
        Record::Tamper(Box::new(guard.on_own_part(&change, "the stack", false)))
    };
    let minutes = SignedDuration::from_mins;
    for (why, found, told) in [
        ("nobody changes the stack", items(&[]), true),
        ("it was long ago", items(&[on_the_stack("UpdateStack", minutes(70))]), true),
        ("that begins nothing", items(&[on_the_stack("CreateChangeSet", minutes(2))]), true),
        ("a deployment", items(&[on_the_stack("ExecuteChangeSet", minutes(2))]), false),
    ] {
        let script = [ok("{}"), found].into_iter().chain(told.then(|| ok("{}")));
        let wires = Wires { ledger: Wire::answering(script), ..Wires::default() };
        played(&wires, &event).await;
        assert_eq!(wires.unused(), 0, "{why}");
        assert_eq!(wires.ledger.requests().iter().any(|request| request.contains("PutItem")), told, "{why}");
    }
}

#[tokio::test]
async fn a_role_made_again_is_another_and_goes_on_record_as_such() {
    let (incident, step) = contained();
    let wires = Wires {
        ledger: Wire::answering([
            stored(&incident),
            ok("{}"),
            items(&[Record::Step(Box::new(step))]),
            ok("{}"),
            ok("{}"),
        ]),
        iam: Wire::answering([role("AROAEXAMPLE000000002")]),
        sqs: Wire::answering([sent()]),
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    assert_eq!(wires.unused(), 0, "nothing of the new one is taken for a step of the old one");
    let tamper = &wires.ledger.requests()[3];
    assert!(tamper.contains(r#""nature":{"S":"recreated"}"#) && tamper.contains("AROAEXAMPLE000000002"), "{tamper}");
}
