//! The ledger's table: items by key. Of conditions it knows the one that asks whether an item is new.

use firebreak_model::seal::{ATTRIBUTE, Key};
use serde_json::{Map, Value, json};

use super::{Answer, SEAL_KEY, World};
use crate::call::Call;

type Fields = Map<String, Value>;

fn keys(item: &Fields) -> (String, String) {
    let text = |name: &str| item.get(name).and_then(|v| v.get("S")).and_then(Value::as_str).unwrap_or_default();
    (text("pk").to_owned(), text("sk").to_owned())
}

fn object<'a>(fields: &'a Fields, name: &str) -> Option<&'a Fields> {
    fields.get(name).and_then(Value::as_object)
}

impl World {
    pub(super) fn dynamodb(&mut self, call: &Call) -> Option<Answer> {
        let parameters = &call.parameters;
        match call.operation.as_str() {
            "GetItem" => {
                let item = self.items.get(&keys(object(parameters, "Key")?));
                Some(Answer::json(&item.map_or_else(|| json!({}), |item| json!({"Item": item}))))
            }
            "Query" => {
                let values = object(parameters, "ExpressionAttributeValues")?;
                let text = |name: &str| values.get(name).and_then(|v| v.get("S")).and_then(Value::as_str);
                let (partition, prefix) = (text(":pk")?, text(":prefix").unwrap_or_default());
                let found = self.items.iter().filter(|((pk, sk), _)| pk == partition && sk.starts_with(prefix));
                let found: Vec<&Value> = found.map(|(_, item)| item).collect();
                Some(Answer::json(&json!({"Count": found.len(), "ScannedCount": found.len(), "Items": found})))
            }
            "PutItem" => Some(if self.put(parameters) {
                Answer::json(&json!({}))
            } else {
                Answer::json_error(400, "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException")
            }),
            "DeleteItem" => {
                self.items.remove(&keys(object(parameters, "Key")?));
                Some(Answer::json(&json!({})))
            }
            "UpdateItem" => Some(Answer::json(&json!({}))),
            "TransactWriteItems" => {
                for write in parameters.get("TransactItems")?.as_array()? {
                    if let Some(put) = write.get("Put").and_then(Value::as_object) {
                        self.put(put);
                    }
                }
                Some(Answer::json(&json!({})))
            }
            _ => None,
        }
    }

    /// Puts an item; answers whether its condition held.
    fn put(&mut self, put: &Fields) -> bool {
        let Some(item) = object(put, "Item") else { return false };
        let new_only = put.get("ConditionExpression").and_then(Value::as_str) == Some("attribute_not_exists(pk)");
        let key = keys(item);
        if new_only && self.items.contains_key(&key) {
            return false;
        }
        self.items.insert(key, Value::Object(item.clone()));
        true
    }

    /// Leaves items in the ledger as a function would that was invoked in this moment.
    pub(super) fn leave(&mut self, now: &str) {
        for mut item in self.left_by_invoked.clone() {
            let Some(fields) = item.as_object_mut() else { continue };
            for name in ["updated_at", "verified_at"] {
                fields.insert(name.to_owned(), json!({"S": now}));
            }
            reseal(&mut item);
            let Some(key) = item.as_object().map(keys) else { continue };
            self.items.insert(key, item);
        }
    }
}

/// Seals an item as the function would have: its times are others than those that it was sealed with.
fn reseal(item: &mut Value) {
    let Some(key) = Key::new(SEAL_KEY) else { return };
    if let Some(fields) = item.as_object_mut() {
        fields.remove(ATTRIBUTE);
    }
    let seal = key.seal(item);
    if let Some(fields) = item.as_object_mut() {
        fields.insert(ATTRIBUTE.to_owned(), json!({"S": seal}));
    }
}
