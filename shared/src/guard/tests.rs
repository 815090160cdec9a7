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
mod calls;
mod odd;
mod outlived;
mod parts;
mod stranded;
mod trail;

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
