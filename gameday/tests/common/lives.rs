//! The functions, each from its event to its answer in one process, on a real wire that the process may be killed at.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use firebreak_model::decision::Mode;
use firebreak_model::ids::{IncidentId, Partition};
use firebreak_model::playbook::Playbook;
use firebreak_model::principal::Home;
use firebreak_model::watch::Pace;
use firebreak_model::watch::change::Own;
use firebreak_shared::answer::Answer;
use firebreak_shared::config::Base;
use firebreak_shared::contain::{Containment, Outage};
use firebreak_shared::failure::Failure;
use firebreak_shared::guard::{self, Guard, Lookups};
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
use gameday::findings::{INSTANCE, RoleSession};
use gameday::scene::Role;
use gameday::world::World;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::mortal::Mortal;
use super::table;

/// What a function is invoked with.
#[derive(Debug, Clone)]
pub(crate) enum Work {
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
    /// `revoke-sessions`, by the order to look for the sessions that were made from stolen ones.
    Trace(IncidentId),
    /// `guard-containment`, by the order to watch.
    Look(IncidentId),
    /// Somebody detaches the deny from the role of this name.
    Undo(String),
}

/// The account that all are played in.
pub(crate) struct House {
    _emulator: Emulator,
    pub(crate) aws: Aws,
    pub(crate) deny: String,
    topic: String,
    seal_key: String,
    /// The queue of re-checks.
    rechecks: String,
}

/// A ledger of its own in that account.
pub(crate) struct Case<'a> {
    pub(crate) house: &'a House,
    pub(crate) table: String,
}

pub(crate) fn order(id: &IncidentId) -> Value {
    json!({"detail-type": "Containment Ordered", "source": "firebreak", "account": ACCOUNT, "id": "e",
        "region": REGION, "detail": {"incident_id": id}})
}

/// The order, as the queue has it that the bus puts it into.
fn queued(id: &IncidentId) -> Value {
    json!({"Records": [{"messageId": "m", "body": order(id).to_string(), "eventSource": "aws:sqs"}]})
}

pub(crate) fn request(what: &str, id: &IncidentId) -> Value {
    json!({"firebreak": what, "incident_id": id, "reason": "a test", "requested_by": "ana"})
}

pub(crate) fn drill(detail: &Value) -> Value {
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
            playbook: Playbook::from_yaml(include_str!("../../../playbook.yaml")).unwrap(),
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
        // Of a partition with few Regions, and this one.
        let tracer = Tracer::new(config, Partition::AwsCn, vec![REGION.parse().unwrap()], Bounds::default());
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

    fn guard(&self) -> Guard {
        let sdk = self.wire.config(&self.case.house.aws.config);
        let (home, stack) = (Self::base().home, Self::base().stack);
        let House { deny, rechecks, .. } = self.case.house;
        Guard {
            ledger: self.ledger(),
            iam: aws_sdk_iam::Client::new(&sdk),
            sqs: aws_sdk_sqs::Client::new(&sdk),
            lambda: aws_sdk_lambda::Client::new(&sdk),
            events: aws_sdk_eventbridge::Client::new(&sdk),
            dynamodb: aws_sdk_dynamodb::Client::new(&sdk),
            sns: aws_sdk_sns::Client::new(&sdk),
            deny_policy_arn: deny.clone(),
            queue_url: rechecks.clone(),
            own_role_arn: format!("arn:aws:iam::{ACCOUNT}:role/firebreak/guard"),
            table_arn: format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{}", self.case.table),
            pace: Pace { rechecks: vec![5, 30, 300], trail_lag: 900 },
            own: Own { stack: stack.clone(), deny_policy_arn: deny.clone(), ..Own::default() },
            deployers: Vec::new(),
            without_revocation: false,
            with_drills: true,
            lookups: Lookups::default(),
            home,
            stack,
            sdk,
        }
    }

    /// A message that comes again by itself, because CloudTrail is not complete yet, is no failure.
    async fn trace(&self, id: &IncidentId) -> Result<Answer, Failure> {
        match self.revocation().handle(&queued(id)).await? {
            Handled::Order(_) => panic!("it was a batch of messages"),
            Handled::Queue(batch) => {
                Ok(Answer::of(if batch.batch_item_failures.is_empty() { "done" } else { "again" }))
            }
        }
    }

    async fn look(&self, id: &IncidentId) -> Result<Answer, Failure> {
        match self.guard().handle(&queued(id)).await? {
            guard::Handled::Order(_) => panic!("it was a batch of messages"),
            guard::Handled::Queue(batch) if batch.batch_item_failures.is_empty() => Ok(Answer::of("looked")),
            guard::Handled::Queue(_) => Err(Failure::Transient("the message comes again".to_owned())),
        }
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
    pub(crate) async fn invoke(&self, work: &Work, wire: &Mortal) -> Option<Result<Answer, Failure>> {
        let process = Process { case: self, wire };
        match work {
            Work::Contain(payload) => wire.live(process.contain(payload)).await,
            Work::Isolate(id) => wire.live(process.isolate(id)).await,
            Work::Revoke(id) => wire.live(process.revoke(id)).await,
            Work::Page(id) => wire.live(process.page(id)).await,
            Work::Release(id) => wire.live(process.release(id)).await,
            Work::Trace(id) => wire.live(process.trace(id)).await,
            Work::Look(id) => wire.live(process.look(id)).await,
            Work::Undo(role) => {
                let detach = self.house.aws.iam.detach_role_policy().role_name(role).policy_arn(&self.house.deny);
                detach.send().await.unwrap();
                Some(Ok(Answer::of("undone")))
            }
        }
    }

    /// As Lambda does: again, where it fails for a while. Answers what came of it.
    pub(crate) async fn carry_through(&self, work: &Work, told: &str) -> String {
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

    pub(crate) async fn left(&self) -> (World, BTreeMap<String, String>) {
        (self.house.look().await.without_times(), table::records(&self.house.aws, &self.table).await)
    }
}

impl House {
    pub(crate) async fn set_up() -> Self {
        let emulator = Emulator::start(&super::settings().emulator).await.unwrap();
        let aws = Aws::operator(emulator.endpoint(), REGION);
        let document = json!({"Version": "2012-10-17",
            "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]});
        let policy = aws.iam.create_policy().policy_name("deny").policy_document(document.to_string());
        let deny = policy.send().await.unwrap().policy.unwrap().arn.unwrap();
        let key = aws.kms.create_key().key_spec(KeySpec::Hmac256).key_usage(KeyUsageType::GenerateVerifyMac);
        let seal_key = key.send().await.unwrap().key_metadata.unwrap().arn.unwrap();
        let topic = aws.sns.create_topic().name("pages").send().await.unwrap().topic_arn.unwrap();
        let rechecks = aws.sqs.create_queue().queue_name("recheck").send().await.unwrap().queue_url.unwrap();
        Self { _emulator: emulator, aws, deny, topic, seal_key, rechecks }
    }

    pub(crate) async fn look(&self) -> World {
        World::look(&self.aws).await.unwrap()
    }

    pub(crate) async fn case(&self, table: &str) -> Case<'_> {
        table::create(&self.aws, table).await;
        Case { house: self, table: table.to_owned() }
    }

    /// Takes away what a release leaves on purpose.
    pub(crate) async fn end_revocations(&self) {
        let policy = firebreak_model::policy::REVOCATION_POLICY;
        for role in self.aws.iam.list_roles().send().await.unwrap().roles() {
            for policy in [policy, firebreak_model::policy::CHAINED_POLICY] {
                let _ = self.aws.iam.delete_role_policy().role_name(role.role_name()).policy_name(policy).send().await;
            }
        }
        for user in self.aws.iam.list_users().send().await.unwrap().users() {
            let _ = self.aws.iam.delete_user_policy().user_name(user.user_name()).policy_name(policy).send().await;
        }
    }
}

/// A session of the role, as a finding names it.
pub(crate) fn session(role: &Role) -> RoleSession<'_> {
    RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: "ASIAEXAMPLEKEY000001" }
}
