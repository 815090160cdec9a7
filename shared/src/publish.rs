//! Turns the ledger's stream into outcome events and metrics: the only outbox. What `publish-outcomes` does.

mod metrics;

use aws_lambda_events::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use firebreak_model::ledger::Record;
use firebreak_model::outcome::{self, Outcome, SOURCE};
use serde_json::Value;
use tracing::{error, info, warn};

use crate::action::{Permission, Resource};
use crate::failure::Failure;
use crate::telemetry::chain;

/// What publishing needs.
pub const PERMISSIONS: &[Permission] = &[Permission { action: "events:PutEvents", on: Resource::Bus }];

/// The most entries that one `PutEvents` takes.
const BATCH: usize = 10;

/// The publisher.
#[derive(Debug)]
pub struct Publisher {
    /// The EventBridge client.
    pub events: Client,
    /// The bus.
    pub bus: String,
}

/// An outcome with the record of the stream that it comes from.
struct Pending {
    sequence: String,
    entry: PutEventsRequestEntry,
}

impl Publisher {
    /// Handles one batch of the stream. Where an event was not accepted, the stream goes on from its record:
    /// later records are published again, which their readers are made for.
    pub async fn handle(&self, payload: &Value) -> Result<DynamoDbEventResponse, Failure> {
        let records = payload
            .get("Records")
            .and_then(Value::as_array)
            .ok_or_else(|| Failure::Malformed("the payload is no batch of a DynamoDB stream".to_owned()))?;
        let mut pending = Vec::new();
        for stream_record in records {
            let text = |path: &str| stream_record.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let sequence = text("/dynamodb/SequenceNumber").to_owned();
            let (old, new) = (image(stream_record, "OldImage"), image(stream_record, "NewImage"));
            metrics::write(old.as_ref(), new.as_ref());
            for outcome in outcome::outcomes(old.as_ref(), new.as_ref()) {
                info!(incident.id = incident_id(&outcome), "{}", outcome.kind);
                pending.push(Pending { sequence: sequence.clone(), entry: self.entry(&outcome) });
            }
        }
        let failed = self.put(pending).await;
        let batch_item_failures = failed.into_iter().map(|sequence| {
            let mut failure = DynamoDbBatchItemFailure::default();
            failure.item_identifier = Some(sequence);
            failure
        });
        let mut response = DynamoDbEventResponse::default();
        response.batch_item_failures = batch_item_failures.collect();
        Ok(response)
    }

    fn entry(&self, outcome: &Outcome) -> PutEventsRequestEntry {
        PutEventsRequestEntry::builder()
            .event_bus_name(&self.bus)
            .source(SOURCE)
            .detail_type(outcome.kind.as_str())
            .detail(outcome.detail.to_string())
            .build()
    }

    /// Puts the events; answers the sequence number of the first record whose event was not accepted.
    async fn put(&self, pending: Vec<Pending>) -> Option<String> {
        for batch in pending.chunks(BATCH) {
            let entries: Vec<_> = batch.iter().map(|p| p.entry.clone()).collect();
            let answer = match self.events.put_events().set_entries(Some(entries)).send().await {
                Ok(answer) => answer,
                Err(failure) => {
                    error!("events were not accepted: {}", chain(&failure));
                    return batch.first().map(|p| p.sequence.clone());
                }
            };
            let refused = answer.entries().iter().zip(batch).find(|(entry, _)| entry.error_code().is_some());
            if let Some((entry, pending)) = refused {
                let (code, text) = (entry.error_code().unwrap_or_default(), entry.error_message().unwrap_or_default());
                warn!("an event was not accepted: {code}: {text}");
                return Some(pending.sequence.clone());
            }
        }
        None
    }
}

fn incident_id(outcome: &Outcome) -> &str {
    outcome.detail.get("incident_id").and_then(Value::as_str).unwrap_or_default()
}

/// A record of the stream. One that cannot be read is reported and passed over: it must not hold up the others.
fn image(stream_record: &Value, which: &str) -> Option<Record> {
    let image = stream_record.get("dynamodb")?.get(which)?.clone();
    let read = || -> Result<Record, String> {
        let item: serde_dynamo::Item = serde_json::from_value(image).map_err(|e| e.to_string())?;
        serde_dynamo::from_item(item).map_err(|e| e.to_string())
    };
    match read() {
        Ok(record) => Some(record),
        Err(problem) => {
            error!("a ledger record cannot be read, edited by hand or of another version: {problem}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::testing::{Answer, Wire, json_error, ok, role_order};

    fn publisher(wire: &Wire) -> Publisher {
        Publisher { events: Client::new(&wire.config()), bus: "firebreak".to_owned() }
    }

    /// What DynamoDB sends when an incident is opened.
    fn opened(sequence: &str) -> Value {
        let (incident, _) = role_order("orders");
        let item: serde_dynamo::Item = serde_dynamo::to_item(Record::Incident(Box::new(incident))).unwrap();
        json!({"eventName": "INSERT", "dynamodb": {"SequenceNumber": sequence, "NewImage": item}})
    }

    fn accepted(count: usize) -> Answer {
        ok(json!({"FailedEntryCount": 0, "Entries": vec![json!({"EventId": "e"}); count]}).to_string())
    }

    #[tokio::test]
    async fn an_opened_incident_is_announced_by_its_id() {
        let wire = Wire::answering([accepted(1)]);
        let answer = publisher(&wire).handle(&json!({"Records": [opened("1")]})).await.unwrap();
        assert!(answer.batch_item_failures.is_empty());
        let (incident, _) = role_order("orders");
        let request = wire.requests().remove(0);
        assert!(request.contains("AWSEvents.PutEvents"), "{request}");
        assert!(request.contains(r#""DetailType":"Containment Ordered""#), "{request}");
        assert!(request.contains(incident.incident_id.as_str()), "{request}");
        assert!(!request.contains("orders"), "no name travels on the bus: {request}");
    }

    #[tokio::test]
    async fn what_is_not_accepted_is_taken_up_again_from_its_record() {
        let refused = ok(json!({"FailedEntryCount": 1, "Entries": [
            {"EventId": "e"}, {"ErrorCode": "InternalFailure", "ErrorMessage": "try again"}]})
        .to_string());
        for (answer, from) in [(refused, "2"), (json_error(400, "ThrottlingException"), "1"), (Answer::Lost, "1")] {
            let wire = Wire::answering([answer]);
            let batch = json!({"Records": [opened("1"), opened("2")]});
            let answer = publisher(&wire).handle(&batch).await.unwrap();
            let failures: Vec<_> =
                answer.batch_item_failures.iter().map(|f| f.item_identifier.clone().unwrap()).collect();
            assert_eq!(failures, [from]);
        }
    }

    #[tokio::test]
    async fn an_edited_record_holds_up_nothing() {
        let wire = Wire::answering([accepted(1)]);
        let edited =
            json!({"dynamodb": {"SequenceNumber": "1", "NewImage": {"kind": {"S": "incident"}, "state": {"N": "7"}}}});
        let answer = publisher(&wire).handle(&json!({"Records": [edited, {}, opened("2")]})).await.unwrap();
        assert!(answer.batch_item_failures.is_empty());
        assert_eq!(wire.requests().len(), 1);
    }

    #[tokio::test]
    async fn events_go_ten_at_a_time() {
        let wire = Wire::answering([accepted(10), accepted(2)]);
        let records: Vec<Value> = (0..12).map(|i| opened(&i.to_string())).collect();
        publisher(&wire).handle(&json!({"Records": records})).await.unwrap();
        assert_eq!((wire.requests().len(), wire.unused()), (2, 0));
    }
}
