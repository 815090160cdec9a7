//! What is asked of AWS, in which order, where others use a role and where nobody is named.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use firebreak_model::ids::{FindingKey, Partition};
use firebreak_model::ledger::{Origin, Record, StepRecord, StepState};
use firebreak_model::principal::Home;
use firebreak_model::tamper::{Nature, Tamper};
use firebreak_model::usage::RoleUsage;
use serde_json::{Value, json};

use super::*;
use crate::evidence::testing::item;
use crate::testing::{Answer as Wired, Wire, json_error, ok, whole_deny};

mod inventory;

const ACCOUNT: &str = "111122223333";
pub(super) const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/deny";
pub(super) const ON_A_FUNCTION: &str = include_str!("../../../events/guardduty-lambda-c2-role-arn.json");
pub(super) const ON_A_ROLE: &str = include_str!("../../../events/guardduty-access-key-of-instance.json");

/// A role as the events name it.
#[derive(Clone, Copy)]
pub(super) struct Role {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
}

pub(super) const OF_THE_FUNCTION: Role =
    Role { name: "orders-worker-role", path: "/service-role/", id: "AROAEXAMPLE000000007" };
pub(super) const OF_THE_INSTANCE: Role = Role { name: "web-server-role", path: "/", id: "AROAEXAMPLEROLE00002" };

impl Role {
    pub(super) fn arn(self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role{}{}", self.path, self.name)
    }

    pub(super) fn shown(self) -> Wired {
        let Self { name, path, id } = self;
        ok(format!(
            "<GetRoleResponse><GetRoleResult><Role><Path>{path}</Path><RoleName>{name}</RoleName><RoleId>{id}</RoleId>\
             <Arn>{}</Arn><CreateDate>2026-01-12T08:00:00Z</CreateDate></Role></GetRoleResult></GetRoleResponse>",
            self.arn()
        ))
    }

    pub(super) fn known_users(self, names: &[&str]) -> Wired {
        let users: Vec<String> = names.iter().map(|name| function(name)).collect();
        let usage = Usage {
            count: users.len(),
            users,
            scanned_at: Timestamp::from_second(clock::now().as_second() - 600).unwrap(),
            unread: Vec::new(),
        };
        item(&Record::Inventory(RoleUsage {
            schema: 1,
            account: ACCOUNT.parse().unwrap(),
            role: self.name.parse().unwrap(),
            usage,
        }))
    }

    /// The incident as a finding opens it.
    pub(super) fn incident(self, state: IncidentState) -> Incident {
        let principal = Principal::from_arn(&format!("arn:aws:iam::{ACCOUNT}:role/{}", self.name)).unwrap();
        let origin = Origin::Finding {
            finding_id: "f".into(),
            finding_type: "t".into(),
            severity: Some(8.0),
            finding_key: FindingKey::of("f", "u"),
        };
        let response = vec![Response::Quarantine, Response::Isolate, Response::Snapshot];
        Incident { state, ..Incident::ordered(principal, Vec::new(), response, origin, clock::now()) }
    }
}

pub(super) fn function(name: &str) -> String {
    format!("arn:aws:lambda:eu-west-1:{ACCOUNT}:function:{name}")
}

pub(super) fn stored(incident: &Incident) -> Wired {
    item(&Record::Incident(Box::new(incident.clone())))
}

pub(super) fn attached() -> [Wired; 4] {
    let [policy, version] = whole_deny();
    [
        ok("<AttachRolePolicyResponse/>"),
        ok(format!(
            "<ListAttachedRolePoliciesResponse><ListAttachedRolePoliciesResult><AttachedPolicies><member><PolicyArn>{DENY}\
             </PolicyArn></member></AttachedPolicies></ListAttachedRolePoliciesResult></ListAttachedRolePoliciesResponse>"
        )),
        policy,
        version,
    ]
}

/// Nothing is attached, and the deny policy is read beside.
pub(super) fn not_attached() -> Vec<Wired> {
    let none = "<ListAttachedRolePoliciesResponse><ListAttachedRolePoliciesResult><AttachedPolicies/>\
                </ListAttachedRolePoliciesResult></ListAttachedRolePoliciesResponse>";
    [vec![ok(none)], whole_deny().to_vec()].concat()
}

pub(super) struct Scene {
    pub(super) ledger: Wire,
    pub(super) iam: Wire,
    lambda: Wire,
}

/// The room as it is deployed, over these wires.
pub(super) fn containment(ledger: &Wire, iam: &Wire, lambda: &Wire) -> Containment {
    Containment {
        ledger: Ledger::new(
            aws_sdk_dynamodb::Client::new(&ledger.config()),
            "ledger".to_owned(),
            crate::ledger::Seal::none(),
        ),
        iam: aws_sdk_iam::Client::new(&iam.config()),
        sdk: lambda.config(),
        base: Base {
            home: Home { partition: Partition::Aws, account: ACCOUNT.parse().unwrap() },
            stack: "firebreak".to_owned(),
        },
        playbook: Playbook::from_yaml(include_str!("../../../playbook.yaml")).unwrap(),
        ceiling: Mode::Enforce,
        deployers: Vec::new(),
        deny_policy_arn: DENY.to_owned(),
        outage: Outage::default(),
    }
}

/// One invocation.
pub(super) async fn handled(containment: &Containment, payload: &str) -> Result<Answer, Failure> {
    let payload = RawValue::from_string(payload.to_owned()).unwrap();
    Box::pin(containment.handle(&payload, "i")).await
}

impl Scene {
    pub(super) fn of(ledger: Vec<Wired>, iam: Vec<Wired>, lambda: Vec<Wired>) -> Self {
        Self { ledger: Wire::answering(ledger), iam: Wire::answering(iam), lambda: Wire::answering(lambda) }
    }

    pub(super) fn containment(&self) -> Containment {
        containment(&self.ledger, &self.iam, &self.lambda)
    }

    pub(super) async fn handle(&self, payload: &str) -> Result<Answer, Failure> {
        handled(&self.containment(), payload).await
    }

    pub(super) fn unused(&self) -> [usize; 3] {
        [self.ledger.unused(), self.iam.unused(), self.lambda.unused()]
    }

    pub(super) fn attaches(&self) -> usize {
        self.iam.requests().iter().filter(|request| request.contains("Action=AttachRolePolicy")).count()
    }
}

/// What a request to the ledger is about: the call, and the item's kind and state where it puts one.
pub(super) fn told(request: &str) -> String {
    let (line, body) = request.split_once('{').unwrap();
    let call = line.rsplit('.').next().unwrap().trim();
    let body: Value = serde_json::from_str(&format!("{{{body}")).unwrap();
    let text = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{call} {} {} {}", text("/Item/kind/S"), text("/Item/state/S"), text("/Item/effective/S")).trim().to_owned()
}

#[tokio::test]
async fn a_shared_role_is_held_back_before_anything_is_attached_and_uncounted() {
    let role = OF_THE_FUNCTION;
    let held = role.incident(IncidentState::AwaitingApproval);
    let scene = Scene::of(
        vec![
            ok("{}"),
            role.known_users(&["orders-worker", "invoices"]),
            stored(&role.incident(IncidentState::Ordered)),
            ok("{}"),
            stored(&held),
            ok("{}"),
            ok("{}"),
        ],
        // It is looked for whether it was denied while the ledger did not answer.
        [vec![role.shown()], not_attached()].concat(),
        Vec::new(),
    );
    let answer = scene.handle(ON_A_FUNCTION).await.unwrap();
    assert_eq!(answer.outcome, "awaiting approval");
    assert!(answer.message.unwrap().contains("2 share the role, more than 1"));
    assert_eq!((scene.unused(), scene.attaches()), ([0; 3], 0), "{:?}", scene.ledger.requests());
    let requests = scene.ledger.requests();
    let calls: Vec<String> = requests.iter().map(|request| told(request)).collect();
    assert_eq!(
        calls,
        [
            "TransactWriteItems",
            "GetItem",
            "GetItem",
            "TransactWriteItems",
            "GetItem",
            "PutItem incident awaiting_approval",
            "PutItem finding  approve",
        ]
    );
    assert!(requests[3].contains(r#""decision":{"S":"act"}"#), "the decision stands: {}", requests[3]);
    assert!(requests[3].contains(&function("invoices")), "whoever shares it is on record: {}", requests[3]);
    assert!(requests[3].contains("ADD #count :minus_one"), "{}", requests[3]);
    assert!(requests[3].contains(r#""state":{"S":"awaiting_approval"}"#), "{}", requests[3]);
}

#[tokio::test]
async fn a_role_that_is_denied_already_is_not_held_back() {
    let role = OF_THE_FUNCTION;
    let incident = role.incident(IncidentState::Ordered);
    let step = incident.plan.steps[0].clone();
    let applied = StepRecord { state: StepState::Applied, ..incident.step_record(&step, clock::now()) };
    let applied = Record::Step(Box::new(applied));
    let [_, listed, policy, version] = attached();
    let scene = Scene::of(
        vec![
            already_there(&incident, 3),
            // The finding names a function and a version that the incident did not know.
            ok("{}"),
            role.known_users(&["orders-worker", "invoices"]),
            crate::evidence::testing::items(std::slice::from_ref(&applied)),
            crate::evidence::testing::item(&applied),
            stored(&incident),
            // It is pinned, and no rung below it is on record.
            ok("{}"),
            ok("{}"),
        ],
        // It is read back, and not attached again.
        vec![role.shown(), listed, policy, version],
        Vec::new(),
    );
    let answer = scene.handle(ON_A_FUNCTION).await.unwrap();
    assert_eq!((answer.outcome.as_str(), scene.unused()), ("contained", [0; 3]), "{:?}", scene.ledger.requests());
    let held = scene.ledger.requests().iter().any(|request| request.contains(r#""state":{"S":"awaiting_approval"}"#));
    assert!(!held, "what is denied is not said to wait");
}

/// What refuses a claim whose incident is there already, with so many other parts in its transaction.
fn already_there(incident: &Incident, others: usize) -> Wired {
    let stored: Value = serde_json::from_str(&body(&stored(incident))).unwrap();
    let mut reasons = vec![json!({"Code": "ConditionalCheckFailed", "Item": stored["Item"]})];
    reasons.extend(vec![json!({"Code": "None"}); others]);
    let refused = json!({"__type": "TransactionCanceledException", "Message": "m", "CancellationReasons": reasons});
    Wired::Http(400, refused.to_string())
}

pub(super) fn body(answer: &Wired) -> String {
    match answer {
        Wired::Http(_, body) => body.clone(),
        Wired::Lost | Wired::Stalled => String::new(),
    }
}

#[tokio::test]
async fn a_person_who_asks_is_told_who_else_is_hit_and_not_asked() {
    let role = OF_THE_INSTANCE;
    let by_hand = Incident {
        origin: Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: "i".into() },
        ..role.incident(IncidentState::Ordered)
    };
    let script = vec![ok("{}"), role.known_users(&["site", "shop"]), stored(&by_hand), ok("{}"), ok("{}")];
    let scene = Scene::of(script, [vec![role.shown()], attached().to_vec()].concat(), Vec::new());
    let request = json!({"firebreak": "contain", "role": role.name, "reason": "r", "requested_by": "ana",
        "functions": [function("site")]});
    let answer = scene.handle(&request.to_string()).await.unwrap();
    assert_eq!((answer.outcome.as_str(), scene.attaches(), scene.unused()), ("contained", 1, [0; 3]));
    assert!(
        scene.ledger.requests()[0].contains(r#""unvetted":{"BOOL":true}"#),
        "not even a person goes past the rails"
    );
    let message = answer.message.unwrap();
    assert!(message.contains(&function("shop")) && !message.contains(&function("site")), "{message}");
}

#[tokio::test]
async fn what_a_contained_principal_made_passes_the_breaker_and_what_is_older_is_asked_about() {
    let thief = OF_THE_FUNCTION.incident(IncidentState::Ordered);
    let made = Principal::from_arn(&format!("arn:aws:iam::{ACCOUNT}:user/backdoor")).unwrap();
    let shown = |at: Timestamp| {
        ok(format!(
            "<GetUserResponse><GetUserResult><User><Path>/</Path><UserName>backdoor</UserName>\
             <UserId>AIDAEXAMPLE000000001</UserId><Arn>arn:aws:iam::{ACCOUNT}:user/backdoor</Arn>\
             <CreateDate>{at}</CreateDate></User></GetUserResult></GetUserResponse>"
        ))
    };
    let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap();
    let since = whole(thief.ordered_since());
    let before = since - jiff::SignedDuration::from_secs(1);
    let released = Incident { state: IncidentState::Released, ..thief.clone() };
    // What a pipeline made in the weeks before is production, whoever says that a thief was in it then.
    let hours = |hours| jiff::SignedDuration::from_hours(hours);
    let aggregated = Incident { first_seen: Some(since - hours(500)), ..thief.clone() };
    let unvetted = Incident { unvetted: true, ..thief.clone() };
    for (nature, by, created, passes, asked) in [
        (Nature::Minted, &thief, since, true, false),
        (Nature::Minted, &thief, before, false, true),
        (Nature::Minted, &aggregated, since - hours(5), true, false),
        (Nature::Minted, &aggregated, since - hours(7), false, true),
        (Nature::Minted, &released, since, false, false),
        (Nature::Minted, &unvetted, since, false, false),
        (Nature::Recreated, &thief, since, false, false),
    ] {
        let is_asked = asked;
        let key = firebreak_model::tamper::key_of(&["k"]);
        let tamper = Tamper {
            nature,
            key: key.clone(),
            suspects: vec![Subject::Principal { principal: made.clone(), access_key: None, function: None }],
            ..Tamper::undone(&thief, Vec::new(), Vec::new(), clock::now())
        };
        let asked = if nature == Nature::Minted { vec![stored(by), ok("{}")] } else { vec![ok("{}")] };
        let script = [vec![item(&Record::Tamper(Box::new(tamper)))], asked].concat();
        let scene = Scene::of(script, vec![shown(created), shown(created)], Vec::new());
        let told = json!({"source": "firebreak", "detail-type": "Tampering Found",
            "detail": {"subject": thief.incident_id, "tamper": key}});
        // What follows the claim is another test's matter: the script ends here.
        let end = scene.handle(&told.to_string()).await;
        let requests = scene.ledger.requests();
        if by.unvetted {
            assert!(matches!(end, Err(Failure::Transient(_))) && requests.len() == 2, "{end:?}: {requests:?}");
            continue;
        }
        let claim = requests.iter().find(|request| request.contains("TransactWriteItems")).unwrap();
        assert_eq!(claim.contains(r#""state":{"S":"awaiting_approval"}"#), is_asked, "{nature} {created}: {claim}");
        assert_eq!(claim.contains("ADD #count"), !passes && !is_asked, "{nature} {created}: {claim}");
        assert_eq!(claim.contains(r#""born_of":{"S":"#), passes, "{nature} {created}: {claim}");
    }
}

#[tokio::test]
async fn a_person_who_asks_again_means_whoever_bears_the_name_now() {
    let role = OF_THE_INSTANCE;
    let by_hand = |id: &str| {
        let origin = Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: "earlier".into() };
        let mut incident = Incident { origin, ..role.incident(IncidentState::Ordered) };
        incident.principal.unique_id = Some(id.parse().unwrap());
        incident
    };
    let request = json!({"firebreak": "contain", "role": role.name, "reason": "r", "requested_by": "ana"});
    for (pinned, path, moved) in
        [("AROAEXAMPLEROLE00001", "/", true), (role.id, "/", false), ("AROAEXAMPLEROLE00001", "/firebreak/", false)]
    {
        let incident = by_hand(pinned);
        let script =
            vec![already_there(&incident, 1), ok("{}"), role.known_users(&["site"]), stored(&incident), ok("{}")];
        let scene = Scene::of(script, vec![Role { path, ..role }.shown()], Vec::new());
        // What follows is another test's matter: the script ends here.
        drop(scene.handle(&request.to_string()).await);
        let of_the_new = |r: &String| told(r) == "PutItem incident ordered" && r.contains(role.id);
        assert_eq!(scene.ledger.requests().iter().any(of_the_new), moved, "{pinned}: {:?}", scene.ledger.requests());
    }
}

#[tokio::test]
async fn a_deny_that_is_not_answered_keeps_nobody_else_from_acting() {
    let role = OF_THE_INSTANCE;
    let claimed = Incident { unvetted: true, ..role.incident(IncidentState::Ordered) };
    let script = vec![ok("{}"), ok("{}"), stored(&claimed), ok("{}")];
    let scene = Scene::of(script, vec![role.shown(), Wired::Stalled], Vec::new());
    let written =
        || scene.ledger.requests().into_iter().filter(|request| told(request).starts_with("PutItem incident"));
    let vetted = async {
        for _ in 0..100_000 {
            if written().any(|request| !request.contains("unvetted")) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        end = scene.handle(ON_A_ROLE) => unreachable!("{end:?}"),
        () = vetted => {}
    }
    assert_eq!((scene.attaches(), written().count()), (1, 1), "{:?}", scene.ledger.requests());
    assert!(scene.ledger.requests()[0].contains(r#""unvetted":{"BOOL":true}"#), "nobody acts on what is claimed alone");
}

#[tokio::test]
async fn a_drill_about_what_is_contained_in_earnest_keeps_nothing_from_being_done() {
    let role = OF_THE_INSTANCE;
    let in_earnest = Incident { unvetted: true, ..role.incident(IncidentState::Ordered) };
    let mut drill: Value = serde_json::from_str(ON_A_ROLE).unwrap();
    drill["source"] = json!("firebreak.drill");
    // It is joined, and the inventory read; the step; what is pinned; the step's record, and no rung below it.
    let read = [vec![already_there(&in_earnest, 3)], vec![ok("{}"); 3], vec![stored(&in_earnest)]].concat();
    let script = [read, vec![ok("{}"); 3]].concat();
    // Nobody knows what whoever claimed it has done: it is looked at first.
    let iam = [vec![role.shown()], not_attached(), attached().to_vec()].concat();
    let scene = Scene::of(script, iam, Vec::new());
    let end = scene.handle(&drill.to_string()).await;
    let calls: Vec<String> = scene.ledger.requests().iter().map(|request| told(request)).collect();
    assert!(matches!(&end, Ok(answer) if answer.outcome == "contained"), "{end:?}: {calls:?}");
    assert_eq!((scene.attaches(), scene.unused()), (1, [0; 3]), "{calls:?}");
}

#[tokio::test]
async fn a_drill_withholds_nothing_that_came_to_be_in_earnest_meanwhile() {
    let role = OF_THE_INSTANCE;
    let in_earnest = Incident { unvetted: true, version: 2, ..role.incident(IncidentState::Ordered) };
    let mut drill: Value = serde_json::from_str(ON_A_ROLE).unwrap();
    drill["source"] = json!("firebreak.drill");
    // It is claimed, the inventory read, and no step is on record; then somebody has joined.
    let none = || ok(r#"{"Items": []}"#);
    let script = vec![ok("{}"), ok("{}"), none(), none(), stored(&in_earnest)];
    let scene = Scene::of(script, vec![role.shown()], Vec::new());
    let end = scene.handle(&drill.to_string()).await;
    let calls: Vec<String> = scene.ledger.requests().iter().map(|request| told(request)).collect();
    assert!(matches!(&end, Err(Failure::Transient(why)) if why.contains("it is another by now")), "{end:?}: {calls:?}");
    assert_eq!(scene.unused(), [0; 3], "{calls:?}");
}

#[tokio::test]
async fn what_was_left_before_the_guard_rails_is_gone_on_with_and_asked_about() {
    let role = OF_THE_INSTANCE;
    let left = Incident { unvetted: true, ..role.incident(IncidentState::Ordered) };
    let undone = json!({"source": "firebreak", "detail-type": "Containment Undone",
        "detail": {"incident_id": left.incident_id, "owners": ["quarantine-principal"]}});
    let script = vec![stored(&left), ok("{}"), ok("{}"), stored(&left), ok("{}"), ok("{}"), ok("{}")];
    let iam = [vec![role.shown()], not_attached(), attached().to_vec()].concat();
    let scene = Scene::of(script, iam, Vec::new());
    let answer = scene.handle(&undone.to_string()).await;
    let requests = scene.ledger.requests();
    let calls: Vec<String> = requests.iter().map(|request| told(request)).collect();
    assert!(matches!(&answer, Ok(answer) if answer.outcome == "contained"), "{answer:?}: {calls:?}");
    assert_eq!((scene.attaches(), scene.unused()), (1, [0; 3]), "{calls:?}");
    let pinned = requests.iter().find(|request| told(request) == "PutItem incident ordered").unwrap();
    assert!(!pinned.contains("unvetted"), "{pinned}");
}

#[tokio::test]
async fn an_endpoint_that_stalls_ends_the_invocation_in_time_and_keeps_no_other_finding_waiting() {
    let event = include_str!("../../../events/securityhub-imported-access-key.json");
    let mut event: Value = serde_json::from_str(event).unwrap();
    let mut stalls = event["detail"]["findings"][0].clone();
    stalls["Id"] = json!("another finding");
    let details = &mut stalls["Resources"][0]["Details"]["AwsIamAccessKey"];
    details["PrincipalName"] = json!("stalled-role");
    details["PrincipalId"] = json!("AROAEXAMPLEROLE00009:stalled");
    event["detail"]["findings"].as_array_mut().unwrap().insert(0, stalls);

    let role = Role { name: "orders-worker-role", path: "/service-role/", id: "AROAEXAMPLEROLE00001" };
    let incident = role.incident(IncidentState::Ordered);
    let ledger = [vec![ok("{}"); 4], vec![stored(&incident), ok("{}"), ok("{}")]].concat();
    let iam = [vec![Wired::Stalled, role.shown()], attached().to_vec()].concat();
    let scene = Scene::of(ledger, iam, Vec::new());
    let containment = scene.containment();
    let payload = RawValue::from_string(event.to_string()).unwrap();
    let deadline = Deadline::after(Some(Duration::from_secs(2)));
    let end = deadline.hold(Box::pin(containment.handle_by(&payload, "i", deadline))).await;
    assert!(matches!(&end, Err(Failure::Transient(text)) if text.contains("the time for it was over")), "{end:?}");
    let denied: Vec<_> = scene.iam.requests().into_iter().filter(|r| r.contains("Action=AttachRolePolicy")).collect();
    assert!(matches!(denied.as_slice(), [one] if one.contains("RoleName=orders-worker-role")), "{denied:?}");
    assert_eq!(scene.unused(), [0; 3], "{:?}", scene.ledger.requests());
}
