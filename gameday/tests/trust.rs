//! The ledger as the authority: what somebody else wrote there is refused and paged, through the deployed functions.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kms::types::MacAlgorithmSpec;
use aws_sdk_lambda::primitives::Blob;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{IncidentState, StepState};
use gameday::acts::REVOCATION;
use gameday::aws::Aws;
use gameday::deploy::Stack;
use gameday::ledger::Book;
use gameday::pages::{Inbox, Page};
use gameday::scene::{Role, Victim, random_hex};
use gameday::world::World;
use serde_json::{Value, json};

type Item = HashMap<String, AttributeValue>;

/// A deployed stack, its table and the responder's inbox.
struct House<'a> {
    aws: &'a Aws,
    stack: &'a Stack,
    inbox: &'a Inbox,
    pages: Vec<Page>,
}

fn in_the_house<T>(work: impl AsyncFnOnce(House<'_>) -> T) -> T {
    common::in_the_theatre(|theatre| async {
        let (stack, inbox) = theatre.enforcing().await.unwrap();
        work(House { aws: &theatre.aws, stack, inbox, pages: Vec::new() }).await
    })
}

impl House<'_> {
    fn table(&self) -> &str {
        self.stack.output("LedgerTableName").unwrap()
    }

    /// What the function answers, or the error that it ends in.
    async fn invoke(&self, function: FunctionName, mut request: Value) -> Value {
        request["requested_by"] = json!("ana");
        request["reason"] = json!("a test");
        let invoke = self.aws.lambda.invoke().function_name(self.stack.function(function));
        let answer = invoke.payload(Blob::new(request.to_string())).send().await.unwrap();
        serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap()
    }

    async fn contain(&self, role: &Role, functions: &[&str]) -> Value {
        let request = json!({"firebreak": "contain", "role": role.name, "functions": functions});
        self.invoke(FunctionName::QuarantinePrincipal, request).await
    }

    async fn release(&self, id: &IncidentId) -> Value {
        self.invoke(FunctionName::ReleaseContainment, json!({"firebreak": "release", "incident_id": id})).await
    }

    async fn book(&self) -> Book {
        Book::read(self.aws, self.stack).await.unwrap()
    }

    async fn until(&self, what: &str, done: impl Fn(&Book) -> bool) -> Book {
        for _ in 0..600 {
            let book = self.book().await;
            if done(&book) {
                return book;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}: {:#?}", self.book().await.steps);
    }

    /// The responder is paged with these words.
    async fn paged(&mut self, words: &str) -> bool {
        for _ in 0..100 {
            self.pages.extend(self.inbox.take(self.aws).await.unwrap());
            if self.pages.iter().any(|page| page.subject.contains(words) || page.body.contains(words)) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// All items of the table.
    async fn items(&self) -> Vec<Item> {
        let scan = self.aws.dynamodb.scan().table_name(self.table()).into_paginator().items().send();
        scan.collect::<Result<Vec<_>, _>>().await.unwrap()
    }

    async fn item(&self, pk: &str, sk: &str) -> Item {
        let found = self.items().await;
        let is = |item: &Item, name: &str, text: &str| item[name].as_s().unwrap().contains(text);
        found.into_iter().find(|item| is(item, "pk", pk) && is(item, "sk", sk)).unwrap()
    }

    async fn put(&self, item: &Item) {
        self.aws.dynamodb.put_item().table_name(self.table()).set_item(Some(item.clone())).send().await.unwrap();
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

#[test]
fn a_step_that_was_edited_is_not_undone_and_the_release_goes_on_when_it_is_put_back() {
    in_the_house(async |mut house| {
        let victim = Victim::set_up(house.aws, &random_hex(6), "").await.unwrap();
        let before = World::look(house.aws).await.unwrap();
        let id = victim.role.incident().unwrap();
        assert_eq!(house.contain(&victim.role, &[&victim.function_arn]).await["outcome"], "contained");
        house
            .until("all seven steps", |book| {
                let steps = book.steps_of(&id);
                steps.len() == 7 && steps.iter().all(|step| step.state == StepState::Applied)
            })
            .await;
        for item in house.items().await {
            let acted_on = ["incident", "step", "revocation", "chain", "evidence", "piece", "aside", "deployed"];
            let acted_on = acted_on.contains(&item["kind"].as_s().unwrap().as_str());
            assert_eq!(item.contains_key("seal"), acted_on, "{item:?}");
            assert!(item.contains_key("schema"), "{item:?}");
        }

        let ours = house.item(&format!("#{id}"), "zero-concurrency@").await;
        let mut edited = ours.clone();
        edited.insert("prior".to_owned(), text(r#"{"reserved": 900, "provisioned": []}"#));
        house.put(&edited).await;
        let refused = house.release(&id).await;
        assert_eq!(refused["errorType"], "Refused", "{refused}");
        assert!(refused["errorMessage"].as_str().unwrap().contains("zero-concurrency@"), "{refused}");
        let concurrency = house.aws.lambda.get_function_concurrency().function_name(&victim.function);
        assert_eq!(concurrency.send().await.unwrap().reserved_concurrent_executions, Some(0), "nothing is done on it");
        let book = house.book().await;
        assert_eq!(book.incident(&id).unwrap().state, IncidentState::Releasing);
        for step in book.steps_of(&id) {
            let undone =
                !matches!(step.action, ActionId::ZeroConcurrency | ActionId::SnapshotLogs | ActionId::RevokeSessions);
            assert_eq!(step.state == StepState::Reverted, undone, "{}", step.step);
        }
        assert!(house.paged("FORGED RECORD refused: step#isolate-function#").await);

        house.put(&ours).await;
        let released = house.release(&id).await;
        assert_eq!(released["outcome"], "released", "{released}");
        let left = format!("`role/{} inline policy {REVOCATION}` is new", victim.role.name);
        assert_eq!(before.changes(&World::look(house.aws).await.unwrap()), [left]);
    });
}

#[test]
fn a_forged_incident_is_neither_approved_nor_released_nor_does_it_keep_anyone_from_being_denied() {
    in_the_house(async |mut house| {
        let suffix = random_hex(6);
        let role = |name: &str| format!("trust-{name}-{suffix}");
        let one = Role::create(house.aws, &role("one"), "/firebreak-drill/").await.unwrap();
        let other = Role::create(house.aws, &role("other"), "/firebreak-drill/").await.unwrap();
        let innocent = Role::create(house.aws, &role("innocent"), "/firebreak-drill/").await.unwrap();
        assert_eq!(house.contain(&one, &[]).await["outcome"], "contained");
        let deny = house.stack.output("DenyPolicyArn").unwrap();
        let attached = async |role: &Role| {
            let answer = house.aws.iam.list_attached_role_policies().role_name(&role.name).send().await.unwrap();
            answer.attached_policies().iter().any(|policy| policy.policy_arn() == Some(deny))
        };

        // The sealed record of one, moved to another's key: a containment that nobody asked for.
        let id = one.incident().unwrap();
        let ours = house.item(id.as_str(), "incident").await;
        let other_id = other.incident().unwrap();
        let mut moved = ours.clone();
        moved.insert("pk".to_owned(), text(&format!("incident#{other_id}")));
        moved.insert("incident_id".to_owned(), text(other_id.as_str()));
        moved.insert("state".to_owned(), text("awaiting_approval"));
        house.put(&moved).await;
        let approve = json!({"firebreak": "approve", "incident_id": other_id});
        let refused = house.invoke(FunctionName::QuarantinePrincipal, approve).await;
        assert_eq!(refused["errorType"], "Refused", "{refused}");
        assert_eq!(house.release(&other_id).await["errorType"], "Refused");
        assert!(!attached(&other).await && !attached(&innocent).await);
        assert!(house.book().await.forgeries.iter().any(|forgery| forgery.incident_id == other_id));

        // A forgery does not keep its principal from being denied, and what it says of another is not done.
        let mut plan = moved.clone();
        plan.remove("seal");
        plan.insert("state".to_owned(), text("released"));
        let target = HashMap::from([("kind".to_owned(), text("role")), ("id".to_owned(), text(&innocent.name))]);
        let step = AttributeValue::M(HashMap::from([
            ("action".to_owned(), text("quarantine-role")),
            ("target".to_owned(), AttributeValue::M(target)),
        ]));
        plan.insert(
            "plan".to_owned(),
            AttributeValue::M(HashMap::from([("steps".to_owned(), AttributeValue::L(vec![step]))])),
        );
        house.put(&plan).await;
        let answer = house.contain(&other, &[]).await;
        assert_eq!(answer["errorType"], "Refused", "{answer}");
        assert!(answer["errorMessage"].as_str().unwrap().contains("all the same, read back"), "{answer}");
        assert!(attached(&other).await && !attached(&innocent).await);
        assert!(house.paged(&format!("FORGED RECORD refused: incident#{other_id}")).await);

        // What was the truth is put back: nothing ever was on record of the other, so its record goes.
        let keys = |id: &IncidentId| {
            HashMap::from([("pk".to_owned(), text(&format!("incident#{id}"))), ("sk".to_owned(), text("incident"))])
        };
        let delete = house.aws.dynamodb.delete_item().table_name(house.table()).set_key(Some(keys(&other_id)));
        delete.send().await.unwrap();
        for (role, id) in [(&one, &id), (&other, &other_id)] {
            assert_eq!(house.contain(role, &[]).await["outcome"], "contained");
            assert_eq!(house.release(id).await["outcome"], "released");
            assert!(!attached(role).await);
        }
    });
}

#[test]
fn a_claim_that_was_cut_short_is_taken_over_and_sealed() {
    in_the_house(async |house| {
        let role = Role::create(house.aws, &format!("cut-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let id = role.incident().unwrap();
        assert_eq!(house.contain(&role, &[]).await["outcome"], "contained");
        // As the claim left it: the process ended before the seal, and before the deny.
        let mut claimed = house.item(id.as_str(), "incident").await;
        claimed.remove("seal");
        house.put(&claimed).await;
        let deny = house.stack.output("DenyPolicyArn").unwrap();
        house.aws.iam.detach_role_policy().role_name(&role.name).policy_arn(deny).send().await.unwrap();
        let waits = house.release(&id).await;
        assert_eq!(waits["errorType"], "Transient", "{waits}");
        assert!(waits["errorMessage"].as_str().unwrap().contains("not sealed yet"), "{waits}");
        let answer = house.contain(&role, &[]).await;
        assert_eq!(answer["outcome"], "contained", "{answer}");
        assert!(house.item(id.as_str(), "incident").await.contains_key("seal"));
        assert_eq!(house.release(&id).await["outcome"], "released");
        assert!(house.book().await.forgeries.iter().all(|forgery| forgery.incident_id != id), "it is no forgery");
    });
}

#[test]
fn nobody_else_writes_the_ledger_or_gets_its_key_whatever_iam_allows_them() {
    in_the_house(async |house| {
        let name = format!("admin-{}", random_hex(6));
        let role = Role::create(house.aws, &name, "/").await.unwrap();
        let everything = json!({"Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
        let put = house.aws.iam.put_role_policy().role_name(&name).policy_name("everything");
        put.policy_document(everything.to_string()).send().await.unwrap();
        let admin = house.aws.as_identity(role.steal_session(house.aws, "admin").await.unwrap());
        let items = house.items().await;
        let item = items.first().unwrap();
        let keys: Item = item
            .iter()
            .filter(|(name, _)| ["pk", "sk"].contains(&name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let table = house.table();
        let put = admin.dynamodb.put_item().table_name(table).set_item(Some(item.clone())).send().await;
        assert_eq!(code(&put.unwrap_err()), "AccessDeniedException");
        let delete = admin.dynamodb.delete_item().table_name(table).set_key(Some(keys.clone())).send().await;
        assert_eq!(code(&delete.unwrap_err()), "AccessDeniedException");
        let read = admin.dynamodb.get_item().table_name(table).set_key(Some(keys)).send().await;
        assert!(read.unwrap().item.is_some(), "reading is what IAM says");
        let key = house.stack.output("SealKeyArn").unwrap();
        let mac = admin.kms.generate_mac().key_id(key).mac_algorithm(MacAlgorithmSpec::HmacSha256);
        let mac = mac.message(aws_sdk_kms::primitives::Blob::new("firebreak ledger seal 1")).send().await;
        assert_eq!(code(&mac.unwrap_err()), "AccessDeniedException");
        assert!(admin.kms.describe_key().key_id(key).send().await.is_ok(), "the key is governed by IAM");
    });
}

fn code<E: ProvideErrorMetadata, R>(error: &aws_smithy_runtime_api::client::result::SdkError<E, R>) -> String {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    code.unwrap_or_default().to_owned()
}
