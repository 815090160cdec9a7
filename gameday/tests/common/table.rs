//! A ledger's table by itself, without a stack, and what it holds.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
};
use gameday::aws::Aws;
use gameday::world::without_times;
use serde_json::Value;

/// Creates a table with the keys of the ledger.
pub(crate) async fn create(aws: &Aws, name: &str) {
    let attribute = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    aws.dynamodb
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk"))
        .attribute_definitions(attribute("sk"))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .send()
        .await
        .unwrap();
    let table = aws.dynamodb.describe_table().table_name(name).send().await.unwrap();
    assert_eq!(table.table.unwrap().table_status, Some(TableStatus::Active));
}

/// All records by their keys, but for times, seals, and how often something was tried, looked at or written.
pub(crate) async fn records(aws: &Aws, name: &str) -> BTreeMap<String, String> {
    let mut pages = aws.dynamodb.scan().table_name(name).consistent_read(true).into_paginator().items().send();
    let mut records = BTreeMap::new();
    while let Some(item) = pages.next().await {
        let mut record: Value = serde_dynamo::from_item(item.unwrap()).unwrap();
        let text = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
        // What was found undone is kept under a digest of its time: found twice, it is one occasion.
        if record["kind"] == "tamper" {
            for name in ["key", "sk"] {
                record[name] = Value::from("KEY");
            }
        }
        let keys = format!("{} {}", text(&record, "pk"), text(&record, "sk"));
        // The seal is over the times as well.
        for name in ["attempts", "checks", "rounds", "seal", "version"] {
            record.as_object_mut().unwrap().remove(name);
        }
        records.insert(without_times(&keys), without_times(&record.to_string()));
    }
    records
}

/// What differs, a line each.
pub(crate) fn differences(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differs = |key: &&&String| one.get(**key) != other.get(**key);
    let line = |key: &String| format!("`{key}`\n  was {:?}\n  is  {:?}", one.get(key), other.get(key));
    keys.iter().filter(differs).map(|key| line(key)).collect()
}
