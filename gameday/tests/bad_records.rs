//! Every function that acts on the ledger, on records that it cannot go by: edited by hand, of an older or a newer
//! version, and steps whose incident is gone. A clear error each, nothing changed, and nobody else held up.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kms::types::MacAlgorithmSpec;
use aws_sdk_lambda::primitives::Blob;
use firebreak_model::action::FunctionName;
use firebreak_model::ids::IncidentId;
use firebreak_model::seal::{ATTRIBUTE, KEY_PURPOSE, Key};
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::deploy::Stack;
use gameday::scene::{Role, random_hex};
use gameday::world::World;
use serde_json::{Value, json};

type Item = HashMap<String, AttributeValue>;

/// What is wrong with an incident's record.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    /// Somebody changed it, and could not seal it.
    Edited,
    /// An older version of Firebreak wrote and sealed it.
    Older,
    /// A newer one did.
    Newer,
    /// It is gone, and its steps are there.
    Gone,
}

struct House<'a> {
    aws: &'a Aws,
    stack: &'a Stack,
    key: Key,
}

impl<'a> House<'a> {
    async fn enter(aws: &'a Aws, stack: &'a Stack) -> Self {
        let table = stack.output("LedgerTableName").unwrap();
        let mac = aws.kms.generate_mac().key_id(stack.output("SealKeyArn").unwrap());
        let message = aws_sdk_kms::primitives::Blob::new(format!("{KEY_PURPOSE} {table}"));
        let mac = mac.mac_algorithm(MacAlgorithmSpec::HmacSha256).message(message).send().await.unwrap();
        Self { aws, stack, key: Key::new(mac.mac.unwrap().as_ref()).unwrap() }
    }

    fn table(&self) -> &str {
        self.stack.output("LedgerTableName").unwrap()
    }

    async fn invoke(&self, function: FunctionName, payload: &Value) -> Value {
        let invoke = self.aws.lambda.invoke().function_name(self.stack.function(function));
        let answer = invoke.payload(Blob::new(payload.to_string())).send().await.unwrap();
        serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap()
    }

    async fn contained(&self, name: &str) -> Role {
        let role = Role::create(self.aws, name, "/firebreak-drill/").await.unwrap();
        let contain = json!({"firebreak": "contain", "role": role.name, "response": ["quarantine"], "reason": "a test",
            "requested_by": "ana"});
        let answer = self.invoke(FunctionName::QuarantinePrincipal, &contain).await;
        assert_eq!(answer["outcome"], "contained", "{answer}");
        role
    }

    fn keys(id: &IncidentId) -> Item {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        HashMap::from([("pk".to_owned(), text(&format!("incident#{id}"))), ("sk".to_owned(), text("incident"))])
    }

    async fn item(&self, id: &IncidentId) -> Item {
        let get = self.aws.dynamodb.get_item().table_name(self.table()).set_key(Some(Self::keys(id)));
        get.consistent_read(true).send().await.unwrap().item.unwrap()
    }

    async fn put(&self, item: Item) {
        self.aws.dynamodb.put_item().table_name(self.table()).set_item(Some(item)).send().await.unwrap();
    }

    async fn spoil(&self, id: &IncidentId, wrong: Wrong) {
        let mut item = self.item(id).await;
        let schema = match wrong {
            Wrong::Gone => {
                let delete = self.aws.dynamodb.delete_item().table_name(self.table()).set_key(Some(Self::keys(id)));
                delete.send().await.unwrap();
                return;
            }
            Wrong::Edited => {
                item.insert("reason".to_owned(), AttributeValue::S("another".to_owned()));
                return self.put(item).await;
            }
            Wrong::Older => "0",
            Wrong::Newer => "99",
        };
        item.insert("schema".to_owned(), AttributeValue::N(schema.to_owned()));
        item.remove(ATTRIBUTE);
        let shown: serde_dynamo::Item = item.clone().into();
        let seal = self.key.seal(&serde_json::to_value(shown).unwrap());
        item.insert(ATTRIBUTE.to_owned(), AttributeValue::S(seal));
        self.put(item).await;
    }

    /// The steps that are on record of an incident, wherever it is.
    async fn steps(&self, id: &IncidentId) -> Vec<String> {
        let scan = self.aws.dynamodb.scan().table_name(self.table()).consistent_read(true).into_paginator().items();
        let items = scan.send().collect::<Result<Vec<_>, _>>().await.unwrap();
        let text = |item: &Item, name: &str| item.get(name).and_then(|v| v.as_s().ok()).cloned().unwrap_or_default();
        let of_it =
            items.iter().filter(|item| text(item, "kind") == "step" && text(item, "incident_id") == id.as_str());
        let mut steps: Vec<String> =
            of_it.map(|item| format!("{} {}", text(item, "sk"), text(item, "state"))).collect();
        steps.sort();
        steps
    }
}

/// What each function is given about an incident.
fn asked(id: &IncidentId) -> Vec<(FunctionName, Value)> {
    let order = json!({"detail-type": "Containment Ordered", "source": "firebreak", "account": ACCOUNT, "id": "e",
        "region": REGION, "detail": {"incident_id": id}});
    let request = |what: &str| json!({"firebreak": what, "incident_id": id, "reason": "a test", "requested_by": "ana"});
    vec![
        (FunctionName::QuarantinePrincipal, request("approve")),
        (FunctionName::RevokeSessions, order.clone()),
        (FunctionName::IsolateFunction, order.clone()),
        (FunctionName::SnapshotLogs, order.clone()),
        (FunctionName::NotifyResponders, order),
        (FunctionName::ReleaseContainment, request("release")),
    ]
}

#[test]
fn every_function_says_what_is_wrong_with_a_record_changes_nothing_and_goes_on_with_others() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let house = House::enter(&theatre.aws, stack).await;
        let suffix = random_hex(6);
        let healthy = house.contained(&format!("healthy-{suffix}")).await.incident().unwrap();
        let mut wrongs = Vec::new();
        for wrong in [Wrong::Edited, Wrong::Older, Wrong::Newer, Wrong::Gone] {
            let role = house.contained(&format!("{wrong:?}-{suffix}").to_lowercase()).await;
            let id = role.incident().unwrap();
            house.spoil(&id, wrong).await;
            let (world, steps) = (World::look(house.aws).await.unwrap(), house.steps(&id).await);
            assert!(!steps.is_empty());
            for (function, payload) in asked(&id) {
                let said = house.invoke(function, &payload).await;
                let text = said["errorMessage"].as_str().unwrap_or_default();
                let kind = said["errorType"].as_str().unwrap_or_default();
                let clear = match (wrong, function) {
                    // It shows what is there and acts on nothing: a page of its own tells of the forgery.
                    (Wrong::Edited | Wrong::Gone, FunctionName::NotifyResponders) => {
                        said["outcome"] == "nothing to page"
                    }
                    (Wrong::Edited, _) => kind == "Refused" && text.contains("its seal does not fit"),
                    (Wrong::Older, _) => kind == "Permanent" && text.contains("has schema 0"),
                    (Wrong::Newer, _) => kind == "Permanent" && text.contains("a newer version of Firebreak wrote it"),
                    (Wrong::Gone, FunctionName::SnapshotLogs) => said["outcome"] == "nothing to do",
                    (Wrong::Gone, _) => ["Refused", "Malformed"].contains(&kind) && text.contains(id.as_str()),
                };
                if !clear {
                    wrongs.push(format!("{wrong:?}, {function}: {said}"));
                }
            }
            wrongs.extend(world.changes(&World::look(house.aws).await.unwrap()));
            if house.steps(&id).await != steps {
                wrongs.push(format!("{wrong:?}: {:?}, not {steps:?}", house.steps(&id).await));
            }
        }
        assert_eq!(wrongs, Vec::<String>::new());
        // Whoever has a whole record is held up by none of it.
        for (function, payload) in asked(&healthy) {
            let said = house.invoke(function, &payload).await;
            assert!(said.get("errorType").is_none(), "{function}: {said}");
        }
    });
}

#[test]
fn a_principal_that_was_deleted_since_ends_every_order_clearly() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let house = House::enter(&theatre.aws, stack).await;
        let role = house.contained(&format!("deleted-{}", random_hex(6))).await;
        let id = role.incident().unwrap();
        let deny = stack.output("DenyPolicyArn").unwrap();
        let iam = &house.aws.iam;
        let inline = iam.list_role_policies().role_name(&role.name).send().await.unwrap();
        for policy in inline.policy_names() {
            iam.delete_role_policy().role_name(&role.name).policy_name(policy).send().await.unwrap();
        }
        iam.detach_role_policy().role_name(&role.name).policy_arn(deny).send().await.unwrap();
        iam.delete_role().role_name(&role.name).send().await.unwrap();
        let world = World::look(house.aws).await.unwrap();
        let contain = json!({"firebreak": "contain", "role": role.name, "reason": "again", "requested_by": "ana"});
        let said = house.invoke(FunctionName::QuarantinePrincipal, &contain).await;
        assert_eq!(said["errorType"], "Refused", "{said}");
        assert!(said["errorMessage"].as_str().unwrap().contains("does not exist"), "{said}");
        for (function, payload) in asked(&id).into_iter().filter(|(f, _)| *f != FunctionName::QuarantinePrincipal) {
            let said = house.invoke(function, &payload).await;
            assert!(said.get("errorType").is_none(), "{function}: {said}");
        }
        assert_eq!(world.changes(&World::look(house.aws).await.unwrap()), Vec::<String>::new());
    });
}
