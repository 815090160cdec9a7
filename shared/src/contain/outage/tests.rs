//! What is asked of AWS while the ledger does not answer, and when it does again.

#![expect(clippy::unwrap_used, reason = "tests")]

use firebreak_model::decision::Mode;
use firebreak_model::ledger::{Pause, Record};
use serde_json::{Value, json};

use super::super::tests::{
    DENY, OF_THE_INSTANCE as ROLE, ON_A_ROLE, Role, Scene, attached, body, handled, not_attached, stored, told,
};
use super::*;
use crate::clock;
use crate::evidence::testing::item;
use crate::testing::{Answer as Wired, json_error, ok};

/// The finding on a role, whose activity was seen so long ago.
fn seen(ago: SignedDuration) -> String {
    edited(ON_A_ROLE, |service| {
        service["eventLastSeen"] = json!((clock::now() - ago).to_string());
    })
}

fn edited(event: &str, edit: impl Fn(&mut Value)) -> String {
    let mut event: Value = serde_json::from_str(event).unwrap();
    edit(&mut event["detail"]["service"]);
    event.to_string()
}

fn now() -> String {
    seen(SignedDuration::ZERO)
}

/// Why a transaction was cancelled: incident, pause, breaker, finding.
fn cancelled(codes: [&str; 4]) -> Wired {
    let reasons: Vec<Value> = codes.iter().map(|code| json!({"Code": code})).collect();
    let body = json!({"__type": "TransactionCanceledException", "Message": "m", "CancellationReasons": reasons});
    Wired::Http(400, body.to_string())
}

fn out() -> Wired {
    json_error(400, "ResourceNotFoundException")
}

/// The four calls that a try makes of a ledger that is out: the claim, the inventory, the pause, the incident.
fn all_out() -> Vec<Wired> {
    vec![out(); 4]
}

/// Our deny is attached, and read back.
fn there() -> Vec<Wired> {
    attached().into_iter().skip(1).collect()
}

fn transient(end: Result<Answer, Failure>) -> String {
    match end {
        Err(Failure::Transient(text)) => text,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn while_the_ledger_is_out_the_deny_goes_ahead_once_and_the_next_try_puts_it_on_record() {
    for outage in [
        out(),
        json_error(400, "AccessDeniedException"),
        json_error(400, "ProvisionedThroughputExceededException"),
        json_error(400, "ThrottlingException"),
        json_error(500, "InternalServerError"),
        cancelled(["None", "None", "ThrottlingError", "None"]),
        Wired::Lost,
    ] {
        let reads = || vec![out(); 3];
        // The claim, the inventory and the step; what is pinned, the step's record and the rung below it.
        let done = vec![ok("{}"); 3];
        let back = [vec![stored(&ROLE.incident(IncidentState::Ordered))], done.clone()].concat();
        let ledger = [vec![outage.clone()], reads(), vec![outage.clone()], reads(), done, back].concat();
        let shown = || vec![ROLE.shown()];
        let iam = [shown(), attached().to_vec(), shown(), there(), shown(), there()].concat();
        let scene = Scene::of(ledger, iam, Vec::new());
        let containment = scene.containment();
        for attempt in 0..2 {
            let text = transient(handled(&containment, &now()).await);
            assert!(text.contains("is denied everything, read back"), "{outage:?}: {text}");
            crate::template::assert_heard(&crate::metrics::written::taken(), &["DeniedWithoutRecord"]);
            assert_eq!(scene.attaches(), 1, "{outage:?}, try {attempt}");
        }
        let answer = handled(&containment, &now()).await.unwrap();
        assert_eq!((answer.outcome.as_str(), scene.unused()), ("contained", [0; 3]), "{:?}", scene.ledger.requests());
        assert_eq!(scene.attaches(), 1, "what is in force is put on record, not attached again");
        let calls: Vec<String> = scene.ledger.requests().iter().skip(8).map(|request| told(request)).collect();
        assert_eq!(
            calls,
            [
                "TransactWriteItems",
                "GetItem",
                "GetItem",
                "GetItem",
                "PutItem incident ordered",
                "PutItem step applied",
                "GetItem"
            ]
        );
    }
}

#[tokio::test]
async fn what_says_no_is_no_outage() {
    let breaker = || cancelled(["None", "None", "ConditionalCheckFailed", "None"]);
    let paused = || cancelled(["None", "ConditionalCheckFailed", "None", "None"]);
    for (ledger, reads) in [
        // It was held back, and then the ledger went out.
        (vec![paused(), ok("{}"), Wired::Lost], 1),
        (vec![breaker(), ok("{}"), out()], 1),
        // The incident is there, and how it stands could not be read to the end.
        (vec![cancelled(["ConditionalCheckFailed", "None", "None", "None"]), ok("{}"), Wired::Lost], 1),
        (vec![json_error(400, "ValidationException"), ok("{}")], 1),
        (vec![cancelled(["ValidationError", "None", "None", "None"]), ok("{}")], 1),
    ] {
        let scene = Scene::of(ledger.clone(), vec![ROLE.shown(); reads], Vec::new());
        let end = scene.handle(&now()).await;
        assert!(end.is_err(), "{ledger:?}: {end:?}");
        assert_eq!((scene.attaches(), scene.unused()), (0, [0; 3]), "{ledger:?}");
    }
}

#[tokio::test]
async fn a_deny_without_a_record_keeps_to_its_bounds() {
    let hour = SignedDuration::from_hours(1);
    let never = edited(ON_A_ROLE, |service| {
        service.as_object_mut().unwrap().remove("eventLastSeen");
    });
    let paused = item(&Record::Pause(Pause {
        schema: 1,
        since: clock::now(),
        by: "ana".to_owned(),
        reason: "r".to_owned(),
        invocation: "i".to_owned(),
    }));
    let known = |state| stored(&ROLE.incident(state));
    let gone = crate::testing::query_error(404, "NoSuchEntity");
    let two = out;
    for (why, event, ledger, iam) in [
        ("the activity is old", seen(hour + SignedDuration::from_mins(1)), vec![two(), two()], ROLE.shown()),
        ("the activity is old", never, vec![two(), two()], ROLE.shown()),
        ("does not exist", now(), vec![two(), two()], gone),
        ("2 share the role", now(), vec![two(), ROLE.known_users(&["site", "shop"])], ROLE.shown()),
        ("containment is paused", now(), vec![two(), two(), paused, two()], ROLE.shown()),
        ("`released`", now(), vec![two(), two(), two(), known(IncidentState::Released)], ROLE.shown()),
        ("`awaiting_approval`", now(), vec![two(), two(), two(), known(IncidentState::AwaitingApproval)], ROLE.shown()),
        ("`releasing`", now(), vec![two(), two(), two(), known(IncidentState::Releasing)], ROLE.shown()),
    ] {
        let scene = Scene::of(ledger, vec![iam], Vec::new());
        let text = transient(scene.handle(&event).await);
        assert!(text.contains(why), "{why}: {text}");
        assert_eq!((scene.attaches(), scene.unused()), (0, [0; 3]), "{why}: {:?}", scene.ledger.requests());
    }

    // What waits for a person, and whom the playbook protects, wait for the ledger too.
    let scene = Scene::of(vec![out(); 2], vec![ROLE.shown()], Vec::new());
    let approve = Containment { ceiling: Mode::Approve, ..scene.containment() };
    let text = transient(handled(&approve, &now()).await);
    assert!(text.contains("a person must approve it"), "{text}");
    let scene = Scene::of(vec![out(); 2], vec![ROLE.shown()], Vec::new());
    let mut protecting = scene.containment();
    protecting.deployers = vec![ROLE.arn().as_str().into()];
    assert!(handled(&protecting, &now()).await.is_err());
    assert_eq!(scene.attaches(), 0);
}

#[tokio::test]
async fn an_environment_denies_few_without_a_record_and_none_after_it_was_held_back() {
    let memory = Outage::default();
    let ids: Vec<IncidentId> =
        ["a", "b", "c", "d"].map(|name| crate::testing::role_order(name).0.incident_id).into_iter().collect();
    for id in ids.iter().take(MOST) {
        memory.admit(id).unwrap();
    }
    assert!(memory.admit(&ids[MOST]).unwrap_err().contains("already"));
    memory.admit(&ids[0]).unwrap();

    // A claim that the breaker held back, and then an outage.
    let breaker = cancelled(["None", "None", "ConditionalCheckFailed", "None"]);
    let incident = ROLE.incident(IncidentState::AwaitingApproval);
    let held = vec![breaker, ok("{}"), ok("{}"), stored(&incident), ok("{}")];
    let iam = [vec![ROLE.shown()], not_attached(), vec![ROLE.shown()]].concat();
    let scene = Scene::of([held, all_out()].concat(), iam, Vec::new());
    let containment = scene.containment();
    assert_eq!(handled(&containment, &now()).await.unwrap().outcome, "awaiting approval");
    let text = transient(handled(&containment, &now()).await);
    assert!(text.contains("held back by the pause or the breaker"), "{text}");
    assert_eq!((scene.attaches(), scene.unused()), (0, [0; 3]), "{:?}", scene.ledger.requests());
}

#[tokio::test]
async fn a_deny_that_the_next_try_finds_held_back_is_put_on_record_so_that_a_release_undoes_it() {
    let breaker = cancelled(["None", "None", "ConditionalCheckFailed", "None"]);
    let incident = ROLE.incident(IncidentState::AwaitingApproval);
    let back = vec![breaker, ok("{}"), ok("{}"), stored(&incident), ok("{}"), ok("{}"), ok("{}")];
    let iam = [vec![ROLE.shown()], attached().to_vec(), vec![ROLE.shown()], there()].concat();
    let scene = Scene::of([all_out(), back].concat(), iam, Vec::new());
    transient(scene.handle(&now()).await);
    // Another environment, which remembers nothing.
    let answer = scene.handle(&now()).await.unwrap();
    assert_eq!(
        (answer.outcome.as_str(), scene.unused()),
        ("awaiting approval", [0; 3]),
        "{:?}",
        scene.ledger.requests()
    );
    assert!(answer.message.unwrap().contains("the deny is in force already"));
    assert_eq!(told(scene.ledger.requests().last().unwrap()), "PutItem step applied");
}

#[tokio::test]
async fn a_shared_role_that_was_denied_without_a_record_is_not_said_to_wait() {
    let incident = ROLE.incident(IncidentState::Ordered);
    let shared = ROLE.known_users(&["site", "shop"]);
    let back = vec![ok("{}"), shared, stored(&incident), ok("{}"), ok("{}")];
    let iam = [vec![ROLE.shown()], attached().to_vec(), vec![ROLE.shown()], there(), attached().to_vec()].concat();
    let scene = Scene::of([all_out(), back].concat(), iam, Vec::new());
    transient(scene.handle(&now()).await);
    let answer = scene.handle(&now()).await.unwrap();
    assert_eq!((answer.outcome.as_str(), scene.unused()), ("contained", [0; 3]), "{:?}", scene.ledger.requests());
}

#[tokio::test]
async fn a_deny_of_what_was_released_is_told_with_the_command_that_takes_it_away() {
    let mut released = ROLE.incident(IncidentState::Released);
    released.release = Some(firebreak_model::ledger::ReleaseOrder {
        at: clock::now(),
        by: "ana".to_owned(),
        reason: "r".to_owned(),
        invocation: "i".to_owned(),
        reactivate_keys: Vec::new(),
        left_alone: Vec::new(),
        from: None,
    });
    let item: Value = serde_json::from_str(&body(&stored(&released))).unwrap();
    let claimed = json!({"__type": "TransactionCanceledException", "Message": "m", "CancellationReasons": [
        {"Code": "ConditionalCheckFailed", "Item": item["Item"]}, {"Code": "None"}, {"Code": "None"}, {"Code": "None"}]});
    let claimed = Wired::Http(400, claimed.to_string());
    let earlier = seen(SignedDuration::from_mins(5));
    for (found, left) in [(there(), true), (not_attached(), false)] {
        let ledger = vec![claimed.clone(), ok("{}"), ok("{}")];
        let scene = Scene::of(ledger, [vec![ROLE.shown()], found].concat(), Vec::new());
        let end = scene.handle(&earlier).await;
        assert_eq!((scene.attaches(), scene.unused()), (0, [0; 3]), "{:?}", scene.ledger.requests());
        match end {
            Ok(answer) => assert!(!left && answer.outcome == "stale"),
            Err(Failure::Permanent(text)) => {
                let command = format!("aws iam detach-role-policy --role-name 'web-server-role' --policy-arn '{DENY}'");
                assert!(left && text.contains(&command), "{text}");
            }
            Err(other) => unreachable!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_person_who_asks_during_an_outage_is_told_to_ask_again() {
    let iam = [vec![ROLE.shown()], attached().to_vec()].concat();
    let scene = Scene::of(all_out(), iam, Vec::new());
    let request = json!({"firebreak": "contain", "role": ROLE.name, "reason": "r", "requested_by": "ana"});
    let text = transient(scene.handle(&request.to_string()).await);
    assert!(text.contains("the next try puts it on record"), "{text}");
    assert_eq!((scene.attaches(), scene.unused()), (1, [0; 3]));
}

#[tokio::test]
async fn whoever_is_only_noted_keeps_nobody_from_being_denied() {
    // Of the two actors of the sequence, one is root.
    let event = edited(include_str!("../../../../events/guardduty-attack-sequence-role-with-path.json"), |service| {
        service["eventLastSeen"] = json!(clock::now().to_string());
        service["detection"]["sequence"]["actors"][1] = json!({"id": "root", "user": {"name": "Root", "type": "Root",
            "uid": "111122223333", "account": {"uid": "111122223333"}}});
    });
    let role = Role { name: "orders-worker-role", path: "/team/orders/", id: "AROAEXAMPLEROLE00001" };
    let iam = [vec![role.shown()], attached().to_vec()].concat();
    let scene = Scene::of([vec![out()], all_out()].concat(), iam, Vec::new());
    let end = scene.handle(&event).await;
    assert!(end.is_err());
    assert_eq!((scene.attaches(), scene.unused()), (1, [0; 3]), "{end:?} {:?}", scene.ledger.requests());
    let calls: Vec<String> = scene.ledger.requests().iter().map(|request| told(request)).collect();
    assert_eq!(calls[..2], ["PutItem finding  notify".to_owned(), "TransactWriteItems".to_owned()]);
}
