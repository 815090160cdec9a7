//! The ledger's own outage, through the deployed functions: the deny goes ahead, and when the ledger is back it is
//! recorded, paged and released like any other.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ledger::{IncidentState, StepState};
use gameday::acts::REVOCATION;
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::deploy::Stack;
use gameday::findings::{self, INSTANCE, RoleSession};
use gameday::ledger::Book;
use gameday::scene::{Role, random_hex};
use gameday::world::World;
use serde_json::{Value, json};

/// An inline policy on a function's role: the ledger is closed to it.
const CLOSED: &str = "the-ledger-is-closed";

struct House<'a> {
    aws: &'a Aws,
    stack: &'a Stack,
}

impl House<'_> {
    async fn invoke(&self, function: FunctionName, payload: &Value) -> Value {
        let invoke = self.aws.lambda.invoke().function_name(self.stack.function(function));
        let answer = invoke.payload(Blob::new(payload.to_string())).send().await.unwrap();
        serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap()
    }

    /// As the drill rule delivers it.
    async fn deliver(&self, role: &Role) -> Value {
        let session =
            RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: "ASIAEXAMPLEKEY000001" };
        let detail = findings::access_key_of_instance(self.aws, &session).unwrap();
        let event = json!({"version": "0", "id": "6f1b5a9e-0000-4000-8000-000000000001",
            "detail-type": "GuardDuty Finding", "source": "firebreak.drill", "account": ACCOUNT,
            "time": "2026-11-21T03:00:00Z", "region": REGION, "resources": [], "detail": detail});
        self.invoke(FunctionName::QuarantinePrincipal, &event).await
    }

    async fn close_the_ledger(&self) {
        let deny = json!({"Version": "2012-10-17",
            "Statement": [{"Effect": "Deny", "Action": "dynamodb:*", "Resource": "*"}]});
        let role = self.stack.function(FunctionName::QuarantinePrincipal);
        let put = self.aws.iam.put_role_policy().role_name(role).policy_name(CLOSED);
        put.policy_document(deny.to_string()).send().await.unwrap();
    }

    async fn open_the_ledger(&self) {
        let role = self.stack.function(FunctionName::QuarantinePrincipal);
        self.aws.iam.delete_role_policy().role_name(role).policy_name(CLOSED).send().await.unwrap();
    }

    async fn is_denied(&self, role: &Role) -> bool {
        let deny = self.stack.output("DenyPolicyArn").unwrap();
        let attached = self.aws.iam.list_attached_role_policies().role_name(&role.name).send().await.unwrap();
        attached.attached_policies().iter().any(|policy| policy.policy_arn() == Some(deny))
    }

    async fn book(&self) -> Book {
        Book::read(self.aws, self.stack).await.unwrap()
    }
}

#[test]
fn while_the_ledger_is_closed_the_deny_goes_ahead_and_is_recorded_paged_and_released_when_it_is_back() {
    common::in_the_theatre(|theatre| async {
        let (stack, inbox) = theatre.enforcing().await.unwrap();
        let house = House { aws: &theatre.aws, stack };
        let suffix = random_hex(6);
        let role = |name: &str, path: &'static str| {
            let name = format!("{name}-{suffix}");
            async move { Role::create(house.aws, &name, path).await.unwrap() }
        };
        let stolen = role("stolen", "/firebreak-drill/").await;
        let rescue = role("rescue", "/firebreak-drill/break-glass/").await;
        let id = stolen.incident().unwrap();
        let before = World::look(house.aws).await.unwrap();

        house.close_the_ledger().await;
        for attempt in 0..2 {
            let failed = house.deliver(&stolen).await;
            assert_eq!(failed["errorType"], "Transient", "{attempt}: {failed}");
            assert!(failed["errorMessage"].as_str().unwrap().contains("is denied everything, read back"), "{failed}");
            assert!(house.is_denied(&stolen).await);
        }
        let withheld = house.deliver(&rescue).await;
        assert_eq!(withheld["errorType"], "Transient", "{withheld}");
        assert!(withheld["errorMessage"].as_str().unwrap().contains("nothing was done about"), "{withheld}");
        assert!(!house.is_denied(&rescue).await, "what is protected needs no ledger to be");
        let book = house.book().await;
        assert!(book.incident(&id).is_none() && book.findings.is_empty(), "nothing could be recorded");

        house.open_the_ledger().await;
        let answer = house.deliver(&stolen).await;
        assert_eq!(answer["outcome"], "contained", "{answer}");
        assert_eq!(house.deliver(&rescue).await["outcome"], "withheld");
        let book = house.book().await;
        assert_eq!(book.incident(&id).unwrap().state, IncidentState::Ordered);
        let quarantine = book.steps_of(&id).into_iter().find(|step| step.action == ActionId::QuarantineRole).unwrap();
        assert_eq!(quarantine.state, StepState::Applied);
        let mut told = false;
        for _ in 0..100 {
            let pages = inbox.take(house.aws).await.unwrap();
            told |= pages.iter().any(|page| page.subject.contains("contained") && page.body.contains(&stolen.name));
            if told {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(told, "no page tells of it: {:?}", house.book().await.pages);

        let release = json!({"firebreak": "release", "incident_id": id, "reason": "a test", "requested_by": "ana"});
        let released = house.invoke(FunctionName::ReleaseContainment, &release).await;
        assert_eq!(released["outcome"], "released", "{released}");
        let left = format!("`role/{} inline policy {REVOCATION}` is new", stolen.name);
        assert_eq!(before.changes(&World::look(house.aws).await.unwrap()), [left]);
    });
}
