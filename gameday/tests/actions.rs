//! Every action of the registry on a real scene: applied twice is applied once, and a failure at any call is
//! undone or carried to its end, without a trace.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[path = "actions/killed.rs"]
mod killed;
#[path = "actions/sabotaged.rs"]
mod sabotaged;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_config::SdkConfig;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use firebreak_model::action::{ActionId, Response};
use firebreak_model::ledger::{Incident, Origin};
use firebreak_model::plan::{Step, Target};
use firebreak_model::principal::{Principal, PrincipalKind};
use firebreak_shared::action::{Action, Order, Reverted, Verified};
use firebreak_shared::ledger::{Claim, Ledger};
use firebreak_shared::{actions, clock};
use gameday::aws::{Aws, REGION};
use gameday::emulator::Emulator;
use gameday::scene::{User, Victim};
use gameday::world::World;
use jiff::SignedDuration;
use serde_json::{Value, json};

/// Fails the n-th call of its clients, before it is sent or after its answer came.
#[derive(Debug, Clone, Default)]
struct Fault {
    calls: Arc<AtomicUsize>,
    before: Option<usize>,
    after: Option<usize>,
}

impl Intercept for Fault {
    fn name(&self) -> &'static str {
        "fault"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.before == Some(call) { Err("cut before it was sent".into()) } else { Ok(()) }
    }

    fn read_before_deserialization(
        &self,
        _: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let call = self.calls.load(Ordering::SeqCst) - 1;
        if self.after == Some(call) { Err("cut after it was answered".into()) } else { Ok(()) }
    }
}

struct Bench {
    _emulator: Emulator,
    aws: Aws,
    deny: String,
    victim: Victim,
    user: User,
}

impl Bench {
    async fn set_up() -> Self {
        let program = common::settings().emulator;
        let emulator = Emulator::start(&program).await.unwrap();
        let aws = Aws::operator(emulator.endpoint(), REGION);
        let document = json!({"Version": "2012-10-17",
            "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]});
        let policy = aws.iam.create_policy().policy_name("deny").policy_document(document.to_string());
        let deny = policy.send().await.unwrap().policy.unwrap().arn.unwrap();
        let victim = Victim::set_up(&aws, "bench", "").await.unwrap();
        let user = User::create(&aws, "ci-bot", "/firebreak-drill/").await.unwrap();
        Self { _emulator: emulator, aws, deny, victim, user }
    }

    fn incident(&self, on: ActionId) -> (Incident, Step) {
        let (arn, functions) = match on {
            ActionId::QuarantineUser | ActionId::BoundUser | ActionId::DeactivateAccessKeys => {
                (format!("arn:aws:iam::111122223333:user/firebreak-drill/{}", self.user.name), Vec::new())
            }
            _ => (self.victim.role.arn.clone(), vec![self.victim.function_arn.parse().unwrap()]),
        };
        let principal = Principal::from_arn(&arn).unwrap();
        let target = match on {
            ActionId::QuarantineRole
            | ActionId::QuarantineUser
            | ActionId::BoundRole
            | ActionId::BoundUser
            | ActionId::DeactivateAccessKeys
            | ActionId::RevokeSessions
            | ActionId::RevokeChainedSessions => Target::from(&principal.name),
            _ => Target::Function(self.victim.function_arn.parse().unwrap()),
        };
        assert_eq!(principal.name.kind() == PrincipalKind::User, functions.is_empty());
        let origin = Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: "i".into() };
        let incident = Incident::ordered(principal, functions, vec![Response::Quarantine], origin, clock::now());
        (incident, Step { action: on, target })
    }

    fn action(&self, id: ActionId, fault: &Fault) -> Box<dyn Action> {
        let iam = aws_sdk_iam::config::Builder::from(&self.aws.config).interceptor(fault.clone()).build();
        let lambda = aws_sdk_lambda::config::Builder::from(&self.aws.config).interceptor(fault.clone()).build();
        self.action_of(id, &aws_sdk_iam::Client::from_conf(iam), &aws_sdk_lambda::Client::from_conf(lambda))
    }

    fn action_with(&self, id: ActionId, config: &SdkConfig) -> Box<dyn Action> {
        self.action_of(id, &aws_sdk_iam::Client::new(config), &aws_sdk_lambda::Client::new(config))
    }

    fn action_of(&self, id: ActionId, iam: &aws_sdk_iam::Client, lambda: &aws_sdk_lambda::Client) -> Box<dyn Action> {
        if id == ActionId::RevokeChainedSessions {
            let session = format!("{}:thief", self.victim.role.id).parse().unwrap();
            return Box::new(actions::RevokeChainedSessions::new(iam.clone(), [session].into(), clock::now()));
        }
        actions::for_principal(id, iam, &self.deny)
            .or_else(|| actions::for_function(id, lambda, "firebreak"))
            .expect("every action is one on a principal or on a function")
    }

    async fn look(&self) -> World {
        World::look(&self.aws).await.unwrap()
    }
}

/// The actions that change something, in the order of their ids.
fn changing() -> impl Iterator<Item = ActionId> {
    ActionId::ALL.iter().copied().filter(|id| *id != ActionId::SnapshotLogs)
}

/// An incident that was ordered long enough ago for what waits for a revocation, and the step that does `id`.
fn ordered_before(bench: &Bench, id: ActionId) -> (Incident, Step) {
    let (incident, step) = bench.incident(id);
    let at = clock::now() - SignedDuration::from_mins(3);
    (Incident { opened_at: at, ordered_at: Some(at), ..incident }, step)
}

/// Puts an incident into the ledger, as a person's request does.
async fn open(ledger: &Ledger, incident: &Incident) {
    let now = incident.opened_at;
    let claim = Claim { candidate: incident.clone(), finding: None, last_seen: None, per_hour: 10, now };
    ledger.claim(&claim).await.unwrap();
}

async fn in_force(action: &dyn Action, order: Order<'_>, prior: &Value) {
    for _ in 0..40 {
        if action.verify(order, prior).await.unwrap() == Verified::InForce {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("`{}` did not come in force", order.step.action);
}

#[tokio::test]
async fn the_registry_holds_every_action_that_changes_something() {
    let ids: Vec<ActionId> = firebreak_shared::registry::records().iter().map(|record| record.id).collect();
    assert_eq!(ids, changing().collect::<Vec<_>>());
}

#[tokio::test]
async fn applying_twice_is_applying_once() {
    let bench = Bench::set_up().await;
    for id in changing() {
        let (incident, step) = bench.incident(id);
        let order = Order { incident: &incident, step: &step, now: clock::now() + SignedDuration::from_mins(3) };
        let action = bench.action(id, &Fault::default());
        let before = bench.look().await;
        let prior = action.observe(order).await.unwrap();
        action.apply(order, &prior).await.unwrap();
        in_force(action.as_ref(), order, &prior).await;
        let once = bench.look().await;
        assert_ne!(before.changes(&once), Vec::<String>::new(), "`{id}` changes nothing");
        action.apply(order, &prior).await.unwrap();
        in_force(action.as_ref(), order, &prior).await;
        assert_eq!(once.changes(&bench.look().await), Vec::<String>::new(), "`{id}` twice");
        assert_eq!(action.revert(order, &prior).await.unwrap(), Reverted::Restored, "`{id}`");
        assert_eq!(before.changes(&bench.look().await), Vec::<String>::new(), "`{id}` reverted");
        action.revert(order, &prior).await.unwrap();
        assert_eq!(before.changes(&bench.look().await), Vec::<String>::new(), "`{id}` reverted twice");
    }
}

#[tokio::test]
async fn what_was_not_done_is_not_called_done() {
    let bench = Bench::set_up().await;
    for id in changing() {
        let (incident, step) = bench.incident(id);
        let order = Order { incident: &incident, step: &step, now: clock::now() + SignedDuration::from_mins(3) };
        let action = bench.action(id, &Fault::default());
        let prior = action.observe(order).await.unwrap();
        let before = action.verify(order, &prior).await.unwrap();
        assert!(matches!(before, Verified::NotInForce(_)), "`{id}` is called done before it is");
        action.apply(order, &prior).await.unwrap();
        in_force(action.as_ref(), order, &prior).await;
        action.revert(order, &prior).await.unwrap();
        let undone = action.verify(order, &prior).await.unwrap();
        assert!(matches!(undone, Verified::NotInForce(_)), "`{id}` is called done after it was undone");
    }
}

#[tokio::test]
async fn a_failure_at_any_step_is_undone() {
    let bench = Bench::set_up().await;
    for id in changing() {
        let (incident, step) = bench.incident(id);
        let order = Order { incident: &incident, step: &step, now: clock::now() + SignedDuration::from_mins(3) };
        let whole = bench.action(id, &Fault::default());
        let before = bench.look().await;
        let prior = whole.observe(order).await.unwrap();
        let counted = Fault::default();
        bench.action(id, &counted).apply(order, &prior).await.unwrap();
        in_force(whole.as_ref(), order, &prior).await;
        let applied = bench.look().await;
        whole.revert(order, &prior).await.unwrap();
        let calls = counted.calls.load(Ordering::SeqCst);
        assert!(calls > 0, "`{id}` makes no call");
        for call in 0..calls {
            for fault in
                [Fault { before: Some(call), ..Fault::default() }, Fault { after: Some(call), ..Fault::default() }]
            {
                let cut = format!("`{id}` cut at call {call}: {fault:?}");
                let broken = bench.action(id, &fault).apply(order, &prior).await;
                assert!(broken.is_err(), "{cut}");
                whole.revert(order, &prior).await.unwrap();
                assert_eq!(before.changes(&bench.look().await), Vec::<String>::new(), "{cut}, then undone");

                let again = Fault { calls: Arc::default(), ..fault };
                assert!(bench.action(id, &again).apply(order, &prior).await.is_err(), "{cut}");
                whole.apply(order, &prior).await.unwrap();
                in_force(whole.as_ref(), order, &prior).await;
                assert_eq!(applied.changes(&bench.look().await), Vec::<String>::new(), "{cut}, then carried on");
                whole.revert(order, &prior).await.unwrap();
                assert_eq!(before.changes(&bench.look().await), Vec::<String>::new(), "{cut}, carried on, undone");
            }
        }
    }
}
