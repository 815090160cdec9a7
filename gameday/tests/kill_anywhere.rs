//! Each function killed at every call it makes: Lambda's next try ends where an undisturbed run ends, in the account and
//! in the ledger. What a function does from its event to its answer runs here in one process, on a real wire.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use common::mortal::{Kill, Mortal};
use common::table;
use firebreak_model::decision::Mode;
use firebreak_model::ids::{IncidentId, Partition};
use firebreak_model::playbook::Playbook;
use firebreak_model::principal::Home;
use firebreak_shared::answer::Answer;
use firebreak_shared::config::Base;
use firebreak_shared::contain::{Containment, Outage};
use firebreak_shared::failure::Failure;
use firebreak_shared::isolate::Isolation;
use firebreak_shared::ledger::{Ledger, Seal};
use firebreak_shared::page::Setting;
use firebreak_shared::page::notify::Notifier;
use firebreak_shared::queue::Handled;
use firebreak_shared::release::Releasing;
use firebreak_shared::revoke::Revocation;
use firebreak_shared::trace::{Bounds, Tracer};
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::emulator::Emulator;
use gameday::findings::{self, INSTANCE, RoleSession};
use gameday::scene::{Role, User, Victim};
use gameday::world::World;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// More calls than any function makes.
const MOST: usize = 200;

/// What a function is invoked with.
#[derive(Debug, Clone)]
enum Work {
    /// `quarantine-principal`, by an event or a request.
    Contain(Value),
    /// `isolate-function`, by the order to isolate.
    Isolate(IncidentId),
    /// `revoke-sessions`, by the order.
    Revoke(IncidentId),
    /// `notify-responders`, by an outcome event.
    Page(IncidentId),
    /// `release-containment`, by a request, with the revocation that it has written.
    Release(IncidentId),
}

/// A function that is killed, after what led to it.
struct Scene {
    name: &'static str,
    before: Vec<Work>,
    killed: Work,
    /// The incident that is released at the end; none where nothing was done.
    release: Option<IncidentId>,
}

/// The account that all are played in.
struct House {
    _emulator: Emulator,
    aws: Aws,
    deny: String,
    topic: String,
    seal_key: String,
}

/// A ledger of its own in that account.
struct Case<'a> {
    house: &'a House,
    table: String,
}

fn order(id: &IncidentId) -> Value {
    json!({"detail-type": "Containment Ordered", "source": "firebreak", "account": ACCOUNT, "id": "e",
        "region": REGION, "detail": {"incident_id": id}})
}

fn request(what: &str, id: &IncidentId) -> Value {
    json!({"firebreak": what, "incident_id": id, "reason": "a test", "requested_by": "ana"})
}

fn drill(detail: &Value) -> Value {
    json!({"version": "0", "id": "6f1b5a9e-0000-4000-8000-000000000001", "detail-type": "GuardDuty Finding",
        "source": "firebreak.drill", "account": ACCOUNT, "time": "2026-11-21T03:00:00Z", "region": REGION,
        "resources": [], "detail": detail})
}

/// What one function's process is built from.
struct Process<'a> {
    case: &'a Case<'a>,
    wire: &'a Mortal,
}

impl Process<'_> {
    fn ledger(&self) -> Ledger {
        let config = self.wire.config(&self.case.house.aws.config);
        let seal = Seal::new(&config, self.case.house.seal_key.clone());
        Ledger::new(aws_sdk_dynamodb::Client::new(&config), self.case.table.clone(), seal)
    }

    fn base() -> Base {
        let home = Home { partition: Partition::Aws, account: ACCOUNT.parse().unwrap() };
        Base { home, stack: "firebreak".to_owned() }
    }

    async fn contain(&self, payload: &Value) -> Result<Answer, Failure> {
        let sdk = self.wire.config(&self.case.house.aws.config);
        let containment = Containment {
            ledger: self.ledger(),
            iam: aws_sdk_iam::Client::new(&sdk),
            sdk,
            base: Self::base(),
            playbook: Playbook::from_yaml(include_str!("../../playbook.yaml")).unwrap(),
            ceiling: Mode::Enforce,
            deployers: Vec::new(),
            deny_policy_arn: self.case.house.deny.clone(),
            outage: Outage::default(),
        };
        let payload = RawValue::from_string(payload.to_string()).unwrap();
        Box::pin(containment.handle(&payload, "invocation")).await
    }

    fn revocation(&self) -> Revocation {
        let iam = aws_sdk_iam::Client::new(&self.wire.config(&self.case.house.aws.config));
        let config = self.wire.config(&self.case.house.aws.config);
        let home = Self::base().home;
        let tracer = Tracer::new(config, home.partition, Vec::new(), Bounds::default());
        Revocation { ledger: self.ledger(), iam, home, tracer, trail_lag: jiff::SignedDuration::from_mins(15) }
    }

    async fn revoke(&self, id: &IncidentId) -> Result<Answer, Failure> {
        match self.revocation().handle(&order(id)).await? {
            Handled::Order(answer) => Ok(answer),
            Handled::Queue(_) => panic!("it was no batch of messages"),
        }
    }

    async fn release(&self, id: &IncidentId) -> Result<Answer, Failure> {
        let sdk = self.wire.config(&self.case.house.aws.config);
        // The function that it invokes is another process, which lives on.
        let other = Process { case: self.case, wire: &Mortal::undisturbed() }.revocation();
        let invoking = self.wire.carrying(SharedHttpConnector::new(Invoked(std::sync::Arc::new(other))));
        let releasing = Releasing {
            ledger: self.ledger(),
            iam: aws_sdk_iam::Client::new(&sdk),
            lambda: aws_sdk_lambda::Client::new(&invoking.config(&self.case.house.aws.config)),
            sdk,
            base: Self::base(),
            deny_policy_arn: self.case.house.deny.clone(),
            revoke_function: Some("firebreak-revoke-sessions".to_owned()),
            lead: Duration::ZERO,
        };
        releasing.handle(&request("release", id), "invocation").await
    }

    async fn page(&self, id: &IncidentId) -> Result<Answer, Failure> {
        let config = self.wire.config(&self.case.house.aws.config);
        let House { topic, deny, .. } = self.case.house;
        let setting = Setting {
            stack: "firebreak".to_owned(),
            region: gameday::aws::REGION.to_owned(),
            deny_policy_arn: deny.clone(),
            table: self.case.table.clone(),
            revokes: true,
        };
        Notifier::new(&config, topic.clone(), setting).handle(&order(id)).await
    }

    async fn isolate(&self, id: &IncidentId) -> Result<Answer, Failure> {
        let sdk = self.wire.config(&self.case.house.aws.config);
        let isolation = Isolation { ledger: self.ledger(), sdk, stack: "firebreak".to_owned() };
        match isolation.handle(&order(id)).await? {
            Handled::Order(answer) => Ok(answer),
            Handled::Queue(_) => panic!("it was no batch of messages"),
        }
    }
}

/// `revoke-sessions`, as it is where it is invoked.
#[derive(Debug, Clone)]
struct Invoked(std::sync::Arc<Revocation>);

impl HttpConnector for Invoked {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let revocation = self.0.clone();
        HttpConnectorFuture::new(async move {
            let payload: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap();
            let answer = revocation.handle(&payload).await;
            let failed = answer.is_err();
            let body = answer.map_or_else(|failure| json!(failure.to_string()), |answer| json!(answer));
            let mut response = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(body.to_string()));
            if failed {
                response.headers_mut().insert("x-amz-function-error", "Unhandled");
            }
            Ok(response)
        })
    }
}

impl Case<'_> {
    /// Invokes a function in a process of its own; `None` where it was killed.
    async fn invoke(&self, work: &Work, wire: &Mortal) -> Option<Result<Answer, Failure>> {
        let process = Process { case: self, wire };
        match work {
            Work::Contain(payload) => wire.live(process.contain(payload)).await,
            Work::Isolate(id) => wire.live(process.isolate(id)).await,
            Work::Revoke(id) => wire.live(process.revoke(id)).await,
            Work::Page(id) => wire.live(process.page(id)).await,
            Work::Release(id) => wire.live(process.release(id)).await,
        }
    }

    /// As Lambda does: again, where it fails for a while. Answers what came of it.
    async fn carry_through(&self, work: &Work, told: &str) -> String {
        let mut last = String::new();
        for _ in 0..20 {
            match self.invoke(work, &Mortal::undisturbed()).await.unwrap() {
                Ok(answer) => return answer.outcome,
                Err(failure @ Failure::Transient(_)) => last = failure.to_string(),
                Err(failure) => panic!("{told}: {failure}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{told}: {last}");
    }

    async fn left(&self) -> (World, BTreeMap<String, String>) {
        (self.house.look().await.without_times(), table::records(&self.house.aws, &self.table).await)
    }
}

impl House {
    async fn set_up() -> Self {
        let emulator = Emulator::start(&common::settings().emulator).await.unwrap();
        let aws = Aws::operator(emulator.endpoint(), REGION);
        let document = json!({"Version": "2012-10-17",
            "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]});
        let policy = aws.iam.create_policy().policy_name("deny").policy_document(document.to_string());
        let deny = policy.send().await.unwrap().policy.unwrap().arn.unwrap();
        let key = aws.kms.create_key().key_spec(KeySpec::Hmac256).key_usage(KeyUsageType::GenerateVerifyMac);
        let seal_key = key.send().await.unwrap().key_metadata.unwrap().arn.unwrap();
        let topic = aws.sns.create_topic().name("pages").send().await.unwrap().topic_arn.unwrap();
        Self { _emulator: emulator, aws, deny, topic, seal_key }
    }

    async fn look(&self) -> World {
        World::look(&self.aws).await.unwrap()
    }

    async fn case(&self, table: &str) -> Case<'_> {
        table::create(&self.aws, table).await;
        Case { house: self, table: table.to_owned() }
    }

    /// Takes away what a release leaves on purpose.
    async fn end_revocations(&self) {
        let policy = firebreak_model::policy::REVOCATION_POLICY;
        for role in self.aws.iam.list_roles().send().await.unwrap().roles() {
            let _ = self.aws.iam.delete_role_policy().role_name(role.role_name()).policy_name(policy).send().await;
        }
        for user in self.aws.iam.list_users().send().await.unwrap().users() {
            let _ = self.aws.iam.delete_user_policy().user_name(user.user_name()).policy_name(policy).send().await;
        }
    }

    /// Plays a scene without a kill, then with one at each call, and compares.
    async fn play(&self, scene: &Scene) {
        let before = self.look().await;
        let (whole, kills) = self.play_killed(scene, None, &before).await;
        assert_eq!(kills, None);
        for call in 0..MOST {
            for kill in Kill::at(call) {
                let told = format!("{}, {kill:?}", scene.name);
                let (left, outcome) = self.play_killed(scene, Some(kill), &before).await;
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
        &self,
        scene: &Scene,
        kill: Option<Kill>,
        before: &World,
    ) -> (((World, BTreeMap<String, String>), String), Option<()>) {
        let told = format!("{}, {kill:?}", scene.name);
        let case = self.case(&told.replace(|c: char| !c.is_ascii_alphanumeric(), "-")).await;
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
            self.end_revocations().await;
        }
        assert_eq!(before.changes(&self.look().await), Vec::<String>::new(), "{told}, then released");
        ((left, outcome), lived)
    }
}

fn session(role: &Role) -> RoleSession<'_> {
    RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: "ASIAEXAMPLEKEY000001" }
}

#[tokio::test]
async fn containing_by_a_finding_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let role = Role::create(&house.aws, "orders-role", "/firebreak-drill/").await.unwrap();
    let finding = drill(&findings::access_key_of_instance(&house.aws, &session(&role)).unwrap());
    let release = Some(role.incident().unwrap());
    house.play(&Scene { name: "a finding", before: Vec::new(), killed: Work::Contain(finding), release }).await;
}

#[tokio::test]
async fn containing_a_user_by_a_request_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let user = User::create(&house.aws, "ci-bot", "/firebreak-drill/").await.unwrap();
    let contain = json!({"firebreak": "contain", "user": user.arn, "reason": "a test", "requested_by": "ana"});
    let release = Some(user.incident().unwrap());
    house.play(&Scene { name: "a request", before: Vec::new(), killed: Work::Contain(contain), release }).await;
}

#[tokio::test]
async fn approving_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let role = Role::create(&house.aws, "orders-role", "/firebreak-drill/").await.unwrap();
    let finding = findings::access_key_of_instance_inside_aws(&house.aws, &session(&role)).unwrap();
    let id = role.incident().unwrap();
    let before = vec![Work::Contain(drill(&finding))];
    let killed = Work::Contain(request("approve", &id));
    house.play(&Scene { name: "an approval", before, killed, release: Some(id) }).await;
}

#[tokio::test]
async fn withholding_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    // A drill may not touch it, and only its path says so.
    let role = Role::create(&house.aws, "orders-role", "/production/").await.unwrap();
    let finding = drill(&findings::access_key_of_instance(&house.aws, &session(&role)).unwrap());
    let killed = Work::Contain(finding);
    house.play(&Scene { name: "a withheld finding", before: Vec::new(), killed, release: None }).await;
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
    house.play(&Scene { name: "isolating", before: vec![contain], killed, release: Some(id) }).await;
}

#[tokio::test]
async fn revoking_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let (id, contain) = role(&house, &["quarantine", "revoke"]).await;
    let killed = Work::Revoke(id.clone());
    house.play(&Scene { name: "revoking", before: vec![contain], killed, release: Some(id) }).await;
}

#[tokio::test]
async fn paging_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let (id, contain) = role(&house, &["quarantine"]).await;
    let killed = Work::Page(id.clone());
    house.play(&Scene { name: "paging", before: vec![contain], killed, release: Some(id) }).await;
}

#[tokio::test]
async fn releasing_survives_a_kill_at_any_call() {
    let house = House::set_up().await;
    let (id, contain) = victim(&house, &["quarantine", "isolate"]).await;
    let before = vec![contain, Work::Isolate(id.clone())];
    let killed = Work::Release(id.clone());
    // What is compared is what the release leaves; once more it has nothing to do.
    house.play(&Scene { name: "releasing", before, killed, release: Some(id) }).await;
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
