//! The ladder over the wire, with IAM enforced: each rung refused in turn, by what refuses it on AWS.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::Duration;

use firebreak_model::action::ActionId;
use firebreak_model::decision::Mode;
use firebreak_model::ids::{IncidentId, Partition};
use firebreak_model::ladder::Refusal;
use firebreak_model::ledger::{StepRecord, StepState};
use firebreak_model::playbook::Playbook;
use firebreak_model::principal::{Home, Principal, PrincipalKind};
use firebreak_shared::answer::Answer;
use firebreak_shared::config::Base;
use firebreak_shared::contain::{Containment, Outage};
use firebreak_shared::failure::Failure;
use firebreak_shared::ledger::{Ledger, Seal};
use firebreak_shared::release::Releasing;
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::emulator::Emulator;
use gameday::scene::{Role, User, random_hex};
use gameday::world::World;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

const DENY_ALL: &str = "arn:aws:iam::aws:policy/AWSDenyAll";
const EVERYTHING: &str = "arn:aws:iam::aws:policy/AdministratorAccess";

/// What keeps the attached deny from holding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hindrance {
    /// The quota of attached policies is full.
    Quota,
    /// The responder is denied the call, as by an SCP.
    Denied,
    /// The deny policy was deleted.
    PolicyGone,
    /// The deny policy was emptied: it attaches, and denies nothing.
    Emptied,
}

impl Hindrance {
    const ALL: [Self; 4] = [Self::Quota, Self::Denied, Self::PolicyGone, Self::Emptied];

    fn refusal(self) -> Refusal {
        match self {
            Self::Quota => Refusal::Quota,
            Self::Denied => Refusal::Denied,
            Self::PolicyGone => Refusal::PolicyGone,
            Self::Emptied => Refusal::NotShown,
        }
    }
}

struct Bench {
    _emulator: Emulator,
    aws: Aws,
    ledger: Ledger,
}

/// Someone to contain, and a session of it.
struct Target {
    kind: PrincipalKind,
    name: String,
    arn: String,
    session: Aws,
}

impl Target {
    fn incident(&self) -> IncidentId {
        Principal::from_arn(&self.arn).unwrap().incident_id()
    }

    fn thing(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    async fn is_denied(&self) -> bool {
        self.session.s3.list_buckets().send().await.is_err()
    }
}

impl Bench {
    async fn set_up() -> Self {
        let emulator = Emulator::start(&common::settings().emulator).await.unwrap();
        let aws = Aws::operator(emulator.endpoint(), REGION);
        common::table::create(&aws, "ledger").await;
        let ledger = Ledger::new(aws.dynamodb.clone(), "ledger".to_owned(), Seal::none());
        Self { _emulator: emulator, aws, ledger }
    }

    async fn policy(&self, name: &str, effect: &str) -> String {
        let document = statement(effect, &["*"]);
        let create = self.aws.iam.create_policy().policy_name(name).policy_document(document);
        create.send().await.unwrap().policy.unwrap().arn.unwrap()
    }

    /// The deny policy, as the hindrance leaves it.
    async fn deny_policy(&self, hindrance: Option<Hindrance>) -> String {
        let arn = self.policy(&format!("deny-{}", random_hex(8)), "Deny").await;
        match hindrance {
            Some(Hindrance::PolicyGone) => {
                self.aws.iam.delete_policy().policy_arn(&arn).send().await.unwrap();
            }
            Some(Hindrance::Emptied) => {
                let version = self.aws.iam.create_policy_version().policy_arn(&arn).set_as_default(true);
                version.policy_document(statement("Allow", &["*"])).send().await.unwrap();
            }
            _ => {}
        }
        arn
    }

    /// A role or user with all rights, under the boundary where there is one.
    async fn target(&self, kind: PrincipalKind, boundary: Option<&str>) -> Target {
        let (aws, name) = (&self.aws, format!("target-{}", random_hex(8)));
        match kind {
            PrincipalKind::Role => {
                let role = Role::create(aws, &name, "/team/").await.unwrap();
                if let Some(arn) = boundary {
                    let put = aws.iam.put_role_permissions_boundary().role_name(&name).permissions_boundary(arn);
                    put.send().await.unwrap();
                }
                let session = aws.as_identity(role.steal_session(aws, "thief").await.unwrap());
                Target { kind, name, arn: role.arn, session }
            }
            PrincipalKind::User => {
                let user = User::create(aws, &name, "/team/").await.unwrap();
                if let Some(arn) = boundary {
                    let put = aws.iam.put_user_permissions_boundary().user_name(&name).permissions_boundary(arn);
                    put.send().await.unwrap();
                }
                let session = user.session_of(aws, user.keys.first().unwrap()).await.unwrap();
                Target { kind, name, arn: user.arn, session: aws.as_identity(session) }
            }
        }
    }

    async fn fill_the_quota(&self, target: &Target) {
        for _ in 0..10 {
            let arn = self.policy(&format!("filling-{}", random_hex(8)), "Allow").await;
            self.attach(target, &arn).await.unwrap();
        }
        let one_more = self.policy(&format!("filling-{}", random_hex(8)), "Allow").await;
        assert!(self.attach(target, &one_more).await.is_err(), "the quota is not full");
    }

    async fn attach(&self, target: &Target, arn: &str) -> Result<(), String> {
        let iam = &self.aws.iam;
        match target.kind {
            PrincipalKind::Role => {
                let sent = iam.attach_role_policy().role_name(&target.name).policy_arn(arn).send().await;
                sent.map(|_| ()).map_err(|error| format!("{error:?}"))
            }
            PrincipalKind::User => {
                let sent = iam.attach_user_policy().user_name(&target.name).policy_arn(arn).send().await;
                sent.map(|_| ()).map_err(|error| format!("{error:?}"))
            }
        }
    }

    /// `quarantine-principal` with this deny policy, whose calls of these names are denied.
    async fn responder(&self, deny_policy_arn: &str, denied: &[&str]) -> Containment {
        let name = format!("responder-{}", random_hex(8));
        let user = User::create(&self.aws, &name, "/responders/").await.unwrap();
        let mut documents = vec![("all", statement("Allow", &["*"]))];
        if !denied.is_empty() {
            documents.push(("not-these", statement("Deny", denied)));
        }
        for (policy, document) in documents {
            let put = self.aws.iam.put_user_policy().user_name(&name).policy_name(policy);
            put.policy_document(document).send().await.unwrap();
        }
        let aws = self.aws.as_identity(user.keys.first().unwrap().clone());
        Containment {
            ledger: Ledger::new(aws.dynamodb.clone(), "ledger".to_owned(), Seal::none()),
            iam: aws.iam.clone(),
            sdk: aws.config.clone(),
            base: base(),
            playbook: Playbook::from_yaml(include_str!("../../playbook.yaml")).unwrap(),
            ceiling: Mode::Enforce,
            deployers: Vec::new(),
            deny_policy_arn: deny_policy_arn.to_owned(),
            outage: Outage::default(),
        }
    }

    async fn contain(&self, responder: &Containment, target: &Target) -> Result<Answer, Failure> {
        let request = json!({"firebreak": "contain", target.kind.as_str(): target.name, "response": ["quarantine"],
            "reason": "a test", "requested_by": "ana"});
        responder.handle(&to_raw_value(&request).unwrap(), "i").await
    }

    async fn step(&self, target: &Target, action: ActionId) -> Option<StepRecord> {
        let incident = self.ledger.incident(&target.incident()).await.unwrap().unwrap();
        let steps = self.ledger.steps(&incident, incident.plan.owners()).await.unwrap();
        steps.into_iter().find(|step| step.action == action)
    }

    async fn release(&self, deny_policy_arn: &str, target: &Target) -> Answer {
        let aws = &self.aws;
        let releasing = Releasing {
            ledger: self.ledger.clone(),
            iam: aws.iam.clone(),
            lambda: aws.lambda.clone(),
            sdk: aws.config.clone(),
            base: base(),
            deny_policy_arn: deny_policy_arn.to_owned(),
            revoke_function: None,
            lead: Duration::ZERO,
        };
        let request = json!({"firebreak": "release", "incident_id": target.incident(), "reason": "over",
            "requested_by": "ana", "without_revocation": true});
        releasing.handle(&request, "i").await.unwrap()
    }

    async fn look(&self) -> World {
        World::look(&self.aws).await.unwrap()
    }
}

fn base() -> Base {
    let home = Home { partition: Partition::Aws, account: ACCOUNT.parse().unwrap() };
    Base { home, stack: "firebreak".to_owned() }
}

fn statement(effect: &str, actions: &[&str]) -> String {
    let statement = json!({"Effect": effect, "Action": actions, "Resource": "*"});
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

fn rungs(kind: PrincipalKind) -> (ActionId, ActionId, [&'static str; 2]) {
    match kind {
        PrincipalKind::Role => {
            (ActionId::QuarantineRole, ActionId::BoundRole, ["iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"])
        }
        PrincipalKind::User => {
            (ActionId::QuarantineUser, ActionId::BoundUser, ["iam:AttachUserPolicy", "iam:PutUserPermissionsBoundary"])
        }
    }
}

#[tokio::test]
async fn where_the_deny_is_refused_the_boundary_holds_and_a_release_puts_the_old_one_back() {
    let bench = Bench::set_up().await;
    let team = bench.policy("team-boundary", "Allow").await;
    for kind in [PrincipalKind::Role, PrincipalKind::User] {
        for (hindrance, boundary) in Hindrance::ALL.into_iter().zip([None, Some(&team), Some(&team), None]) {
            let case = format!("{kind}, {hindrance:?}");
            let (top, below, calls) = rungs(kind);
            let target = bench.target(kind, boundary.map(String::as_str)).await;
            if hindrance == Hindrance::Quota {
                bench.fill_the_quota(&target).await;
            }
            let deny = bench.deny_policy(Some(hindrance)).await;
            let denied = if hindrance == Hindrance::Denied { &calls[..1] } else { &[] };
            let responder = bench.responder(&deny, denied).await;
            let before = bench.look().await;
            assert!(!target.is_denied().await, "{case}");

            let answer = bench.contain(&responder, &target).await.expect(&case);
            let said = answer.message.unwrap_or_default();
            assert!(said.starts_with(&format!("`{below}` holds in place of `{top}@")), "{case}: {said}");
            assert_eq!(answer.outcome, "contained", "{case}");
            assert!(target.is_denied().await, "{case}");
            let refused = bench.step(&target, top).await.unwrap();
            assert_eq!((refused.state, refused.refused), (StepState::Failed, Some(hindrance.refusal())), "{case}");
            assert_eq!(refused.filled_by.len(), if hindrance == Hindrance::Quota { 10 } else { 0 }, "{case}");
            let holds = bench.step(&target, below).await.unwrap();
            assert_eq!((holds.state, holds.prior), (StepState::Applied, Some(json!(boundary).to_string())), "{case}");

            // Once more, as Lambda delivers twice: nothing of what was there before is recorded anew.
            bench.contain(&responder, &target).await.expect(&case);
            let holds = bench.step(&target, below).await.unwrap();
            assert_eq!(holds.prior, Some(json!(boundary).to_string()), "{case}");
            assert!(target.is_denied().await, "{case}");

            let answer = bench.release(&deny, &target).await;
            assert_eq!(answer.outcome, "released", "{case}: {answer:?}");
            for action in [top, below] {
                assert_eq!(bench.step(&target, action).await.unwrap().state, StepState::Reverted, "{case}");
            }
            assert_eq!(before.changes(&bench.look().await), Vec::<String>::new(), "{case}");
            assert!(!target.is_denied().await, "{case}");
        }
    }
}

#[tokio::test]
async fn a_boundary_that_was_taken_away_is_put_back_when_the_next_finding_comes() {
    let bench = Bench::set_up().await;
    for kind in [PrincipalKind::Role, PrincipalKind::User] {
        let (top, below, calls) = rungs(kind);
        let target = bench.target(kind, None).await;
        let deny = bench.deny_policy(None).await;
        let before = bench.look().await;
        bench.contain(&bench.responder(&deny, &calls[..1]).await, &target).await.unwrap();
        let iam = &bench.aws.iam;
        match kind {
            PrincipalKind::Role => {
                iam.delete_role_permissions_boundary().role_name(&target.name).send().await.map(|_| ()).unwrap();
            }
            PrincipalKind::User => {
                iam.delete_user_permissions_boundary().user_name(&target.name).send().await.map(|_| ()).unwrap();
            }
        }
        assert!(!target.is_denied().await);
        // Nothing hinders any more: the deny is attached, and what held in its place is looked after all the same.
        bench.contain(&bench.responder(&deny, &[]).await, &target).await.unwrap();
        assert_eq!(bench.step(&target, top).await.unwrap().state, StepState::Applied);
        assert_eq!(bench.step(&target, below).await.unwrap().prior.as_deref(), Some("null"));
        let now = bench.look().await;
        assert!(now.thing(&target.thing()).unwrap().contains(DENY_ALL));
        bench.release(&deny, &target).await;
        let mut changes = before.changes(&bench.look().await);
        changes.retain(|change| change.contains(&target.name));
        assert_eq!(changes, Vec::<String>::new());
    }
}

#[tokio::test]
async fn where_every_rung_is_refused_nothing_is_changed_and_it_is_not_called_contained() {
    let bench = Bench::set_up().await;
    for kind in [PrincipalKind::Role, PrincipalKind::User] {
        let (top, below, calls) = rungs(kind);
        let target = bench.target(kind, None).await;
        let deny = bench.deny_policy(None).await;
        let responder = bench.responder(&deny, &calls).await;
        let before = bench.look().await;
        let failure = bench.contain(&responder, &target).await.unwrap_err();
        assert!(matches!(&failure, Failure::Permanent(text) if text.contains("is not contained")), "{failure}");
        for action in [top, below] {
            let step = bench.step(&target, action).await.unwrap();
            assert_eq!((step.state, step.refused), (StepState::Failed, Some(Refusal::Denied)));
        }
        let mut changes = before.changes(&bench.look().await);
        changes.retain(|change| !change.contains(" access key "));
        assert_eq!(changes, Vec::<String>::new());
        // The rights came back: the same request contains now.
        let answer = bench.contain(&bench.responder(&deny, &[]).await, &target).await.unwrap();
        let in_place = answer.message.is_some_and(|text| text.contains("holds in place"));
        assert_eq!((answer.outcome.as_str(), in_place), ("contained", false));
        assert!(target.is_denied().await);
        bench.release(&deny, &target).await;
    }
}

#[tokio::test]
async fn a_principal_that_is_gone_gives_way_to_no_rung() {
    let bench = Bench::set_up().await;
    let target = bench.target(PrincipalKind::Role, None).await;
    let deny = bench.deny_policy(Some(Hindrance::PolicyGone)).await;
    let responder = bench.responder(&deny, &[]).await;
    let iam = &bench.aws.iam;
    iam.delete_role_policy().role_name(&target.name).policy_name("generous").send().await.unwrap();
    iam.delete_role().role_name(&target.name).send().await.unwrap();
    let answer = bench.contain(&responder, &target).await.unwrap();
    assert_eq!(answer.outcome, "withheld", "{answer:?}");
    assert_eq!(bench.step(&target, ActionId::BoundRole).await, None);
}

#[tokio::test]
async fn an_explicit_deny_in_the_boundary_overrides_what_a_resource_policy_grants() {
    let bench = Bench::set_up().await;
    let target = bench.target(PrincipalKind::Role, None).await;
    bench.attach(&target, EVERYTHING).await.unwrap();
    bench.aws.create_bucket("goods").await.unwrap();
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": target.arn},
        "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::goods"}]});
    bench.aws.s3.put_bucket_policy().bucket("goods").policy(policy.to_string()).send().await.unwrap();
    let works = async || target.session.s3.list_objects_v2().bucket("goods").send().await.is_ok();
    assert!(works().await);
    let deny = bench.deny_policy(None).await;
    bench.contain(&bench.responder(&deny, &["iam:AttachRolePolicy"]).await, &target).await.unwrap();
    assert!(!works().await);
}

/// What the emulator's corrections say, as AWS does.
#[tokio::test]
async fn a_right_that_is_held_to_a_boundary_reaches_no_other() {
    let bench = Bench::set_up().await;
    let target = bench.target(PrincipalKind::Role, None).await;
    let team = bench.policy("another-boundary", "Allow").await;
    let name = format!("responder-{}", random_hex(8));
    let user = User::create(&bench.aws, &name, "/responders/").await.unwrap();
    let held = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*",
        "Action": ["iam:PutRolePermissionsBoundary", "iam:DeleteRolePermissionsBoundary"],
        "Condition": {"ArnEquals": {"iam:PermissionsBoundary": DENY_ALL}}}]});
    let put = bench.aws.iam.put_user_policy().user_name(&name).policy_name("held").policy_document(held.to_string());
    put.send().await.unwrap();
    let responder = bench.aws.as_identity(user.keys.first().unwrap().clone()).iam;
    let put = async |arn: &str| {
        let put = responder.put_role_permissions_boundary().role_name(&target.name).permissions_boundary(arn);
        put.send().await.is_ok()
    };
    let delete = async || responder.delete_role_permissions_boundary().role_name(&target.name).send().await.is_ok();
    assert!(!put(&team).await, "another boundary is set");
    assert!(put(DENY_ALL).await);
    assert!(delete().await);
    let other = bench.aws.iam.put_role_permissions_boundary().role_name(&target.name).permissions_boundary(&team);
    other.send().await.unwrap();
    assert!(!delete().await, "another boundary is taken away");
    let nothing = bench.aws.iam.attach_role_policy().role_name(&target.name);
    let missing: Value = json!(nothing.policy_arn("arn:aws:iam::aws:policy/NoSuchPolicy").send().await.is_err());
    assert_eq!(missing, json!(true), "a policy that does not exist is attached");
}
