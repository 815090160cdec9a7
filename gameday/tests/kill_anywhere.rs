//! Each function killed at every call it makes: Lambda's next try ends where an undisturbed run ends, in the account and
//! in the ledger. What a function does from its event to its answer runs here in one process, on a real wire.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::lives::{Case, House, Work, drill, request, session};
use common::mortal::{Kill, Mortal};
use common::table;
use firebreak_model::ids::IncidentId;
use firebreak_shared::failure::Failure;
use gameday::findings::{self, INSTANCE};
use gameday::scene::{Role, User, Victim};
use gameday::world::World;
use serde_json::json;

/// More calls than any function makes.
const MOST: usize = 200;

/// A function that is killed, after what led to it.
struct Scene {
    name: &'static str,
    before: Vec<Work>,
    killed: Work,
    /// The incident that is released at the end; none where nothing was done.
    release: Option<IncidentId>,
}

/// Plays a scene without a kill, then with one at each call, and compares.
async fn play(house: &House, scene: &Scene) {
    let before = house.look().await;
    let (whole, kills) = play_killed(house, scene, None, &before).await;
    assert_eq!(kills, None);
    for call in 0..MOST {
        for kill in Kill::at(call) {
            let told = format!("{}, {kill:?}", scene.name);
            let (left, outcome) = play_killed(house, scene, Some(kill), &before).await;
            assert_eq!(whole.0.0.changes(&left.0.0), Vec::<String>::new(), "the world: {told}");
            assert_eq!(table::differences(&whole.0.1, &left.0.1), Vec::<String>::new(), "the ledger: {told}");
            // A page that is out is not sent again.
            assert!(whole.1 == left.1 || left.1 == "nothing to page", "{told}: `{}`, not `{}`", left.1, whole.1);
            if outcome.is_some() {
                assert!(call >= 3, "{}: it made {call} calls", scene.name);
                return;
            }
        }
    }
    panic!("{}: more than {MOST} calls", scene.name);
}

/// What is left and what the next try answers; and, where it lived through the kill, that it did.
async fn play_killed(
    house: &House,
    scene: &Scene,
    kill: Option<Kill>,
    before: &World,
) -> (((World, BTreeMap<String, String>), String), Option<()>) {
    let told = format!("{}, {kill:?}", scene.name);
    let case = house.case(&told.replace(|c: char| !c.is_ascii_alphanumeric(), "-")).await;
    for work in &scene.before {
        case.carry_through(work, &told).await;
    }
    let mut lived = None;
    if let Some(kill) = kill {
        lived = case.invoke(&scene.killed, &Mortal::killed(kill)).await.map(|_| ());
    }
    let outcome = case.carry_through(&scene.killed, &told).await;
    let left = case.left().await;
    if let Some(id) = &scene.release {
        assert_ne!(before.changes(&left.0), Vec::<String>::new(), "{told}: nothing was changed");
        case.carry_through(&Work::Release(id.clone()), &told).await;
        house.end_revocations().await;
    }
    assert_eq!(before.changes(&house.look().await), Vec::<String>::new(), "{told}, then released");
    ((left, outcome), lived)
}

#[tokio::test]
async fn containing_by_a_finding_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let role = Role::create(&house.aws, "orders-role", "/firebreak-drill/").await.unwrap();
    let finding = drill(&findings::access_key_of_instance(&house.aws, &session(&role)).unwrap());
    let release = Some(role.incident().unwrap());
    play(&house, &Scene { name: "a finding", before: Vec::new(), killed: Work::Contain(finding), release }).await;
}

#[tokio::test]
async fn containing_a_user_by_a_request_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let user = User::create(&house.aws, "ci-bot", "/firebreak-drill/").await.unwrap();
    let contain = json!({"firebreak": "contain", "user": user.arn, "reason": "a test", "requested_by": "ana"});
    let release = Some(user.incident().unwrap());
    play(&house, &Scene { name: "a request", before: Vec::new(), killed: Work::Contain(contain), release }).await;
}

#[tokio::test]
async fn approving_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let role = Role::create(&house.aws, "orders-role", "/firebreak-drill/").await.unwrap();
    let finding = findings::access_key_of_instance_inside_aws(&house.aws, &session(&role)).unwrap();
    let id = role.incident().unwrap();
    let before = vec![Work::Contain(drill(&finding))];
    let killed = Work::Contain(request("approve", &id));
    play(&house, &Scene { name: "an approval", before, killed, release: Some(id) }).await;
}

#[tokio::test]
async fn withholding_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    // A drill may not touch it, and only its path says so.
    let role = Role::create(&house.aws, "orders-role", "/production/").await.unwrap();
    let finding = drill(&findings::access_key_of_instance(&house.aws, &session(&role)).unwrap());
    let killed = Work::Contain(finding);
    play(&house, &Scene { name: "a withheld finding", before: Vec::new(), killed, release: None }).await;
}

/// A role that nothing runs as, and the request that contains it with this response.
async fn role(house: &House, response: &[&str]) -> (IncidentId, Work) {
    let role = Role::create(&house.aws, "orders-role", "/firebreak-drill/").await.unwrap();
    let contain = json!({"firebreak": "contain", "role": role.arn, "response": response, "reason": "a test",
        "requested_by": "ana"});
    (role.incident().unwrap(), Work::Contain(contain))
}

/// A victim, and the request that contains it with this response.
async fn victim(house: &House, response: &[&str]) -> (IncidentId, Work) {
    let victim = Victim::set_up(&house.aws, "killed", "").await.unwrap();
    let contain = json!({"firebreak": "contain", "role": victim.role.arn, "functions": [victim.function_arn],
        "response": response, "reason": "a test", "requested_by": "ana"});
    (victim.role.incident().unwrap(), Work::Contain(contain))
}

#[tokio::test]
async fn isolating_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let (id, contain) = victim(&house, &["quarantine", "isolate"]).await;
    let killed = Work::Isolate(id.clone());
    play(&house, &Scene { name: "isolating", before: vec![contain], killed, release: Some(id) }).await;
}

#[tokio::test]
async fn revoking_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let (id, contain) = role(&house, &["quarantine", "revoke"]).await;
    let killed = Work::Revoke(id.clone());
    play(&house, &Scene { name: "revoking", before: vec![contain], killed, release: Some(id) }).await;
}

#[tokio::test]
async fn denying_what_was_chained_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let (id, contain) = role(&house, &["quarantine", "revoke"]).await;
    let chains = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]});
    let put = house.aws.iam.put_role_policy().role_name("orders-role").policy_name("goes-on");
    put.policy_document(chains.to_string()).send().await.unwrap();
    let other = Role::create(&house.aws, "billing-role", "/firebreak-drill/").await.unwrap();
    let first = Role { name: "orders-role".to_owned(), arn: arn_of(&house, "orders-role").await, id: String::new() };
    let stolen = first.steal_session(&house.aws, INSTANCE).await.unwrap();
    other.steal_session(&house.aws.as_identity(stolen), "x-1").await.unwrap();
    let killed = Work::Trace(id.clone());
    let scene = Scene { name: "tracing", before: vec![contain], killed, release: Some(id.clone()) };
    // It is found and denied, or the kills show nothing.
    let case = house.case("shown").await;
    for work in scene.before.iter().chain([&scene.killed]) {
        case.carry_through(work, "shown").await;
    }
    let denied = house.aws.iam.get_role_policy().role_name("billing-role");
    let denied = denied.policy_name(firebreak_model::policy::CHAINED_POLICY).send().await.unwrap();
    assert!(denied.policy_document().contains("x-1"), "{}", denied.policy_document());
    case.carry_through(&Work::Release(id), "shown").await;
    house.end_revocations().await;
    play(&house, &scene).await;
}

async fn arn_of(house: &House, role: &str) -> String {
    house.aws.iam.get_role().role_name(role).send().await.unwrap().role.unwrap().arn
}

#[tokio::test]
async fn looking_at_what_was_undone_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let (id, contain) = role(&house, &["quarantine", "revoke"]).await;
    let before = vec![contain, Work::Revoke(id.clone()), Work::Undo("orders-role".to_owned())];
    let killed = Work::Look(id.clone());
    play(&house, &Scene { name: "looking", before, killed, release: Some(id) }).await;
}

#[tokio::test]
async fn paging_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let (id, contain) = role(&house, &["quarantine"]).await;
    let killed = Work::Page(id.clone());
    play(&house, &Scene { name: "paging", before: vec![contain], killed, release: Some(id) }).await;
}

#[tokio::test]
async fn releasing_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let (id, contain) = victim(&house, &["quarantine", "isolate"]).await;
    let before = vec![contain, Work::Isolate(id.clone())];
    let killed = Work::Release(id.clone());
    // What is compared is what the release leaves; once more it has nothing to do.
    play(&house, &Scene { name: "releasing", before, killed, release: Some(id) }).await;
}

#[tokio::test]
async fn a_deny_without_a_table_ends_on_record_as_an_undisturbed_run_when_there_is_one() {
    let house = House::set_up().await;
    let role = Role::create(&house.aws, "orders-role", "/firebreak-drill/").await.unwrap();
    let finding = Work::Contain(drill(&findings::access_key_of_instance(&house.aws, &session(&role)).unwrap()));
    let id = role.incident().unwrap();
    let before = house.look().await;
    let mut ends = Vec::new();
    for lost in [false, true] {
        let name = format!("lost-{lost}");
        let case = Case { house: &house, table: name.clone() };
        if lost {
            let failed = case.invoke(&finding, &Mortal::undisturbed()).await.unwrap();
            assert!(matches!(failed, Err(Failure::Transient(_))), "{failed:?}");
            assert_ne!(before.changes(&house.look().await), Vec::<String>::new(), "it is denied without a table");
        }
        table::create(&house.aws, &name).await;
        let outcome = case.carry_through(&finding, &name).await;
        ends.push((outcome, case.left().await));
        case.carry_through(&Work::Release(id.clone()), &name).await;
        house.end_revocations().await;
        assert_eq!(before.changes(&house.look().await), Vec::<String>::new(), "{name}, then released");
    }
    let [(one, (world, ledger)), (other, (late_world, late_ledger))] = ends.as_slice() else { panic!("two runs") };
    assert_eq!(one, other);
    assert_eq!(world.changes(late_world), Vec::<String>::new());
    assert_eq!(table::differences(ledger, late_ledger), Vec::<String>::new());
}
