//! Messages of a queue that delays: each holds an event, and comes again until it is done with.

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use serde::Serialize;
use serde_json::Value;
use tracing::{error, info};

use crate::answer::Answer;
use crate::failure::Failure;

/// What an invocation answers: to the bus and to people, or to the queue.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Handled {
    /// An order was carried out.
    Order(Answer),
    /// The messages that are to come again.
    Queue(SqsBatchResponse),
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is done with.
    Done,
    /// It comes again when the queue's time is over: why.
    Again(String),
}

/// Whether a payload is a batch of messages.
pub fn is_batch(payload: &Value) -> bool {
    payload.get("Records").is_some()
}

/// Has `handle` take the event of each message, and asks for those again that failed or are not done with. What cannot
/// be read is no better the next time, and is let go.
pub async fn each(
    payload: &Value,
    handle: impl AsyncFn(&Value) -> Result<Next, Failure>,
) -> Result<SqsBatchResponse, Failure> {
    let batch: SqsEvent = serde_json::from_value(payload.clone())
        .map_err(|error| Failure::Malformed(format!("the messages cannot be read: {error}")))?;
    let mut again = SqsBatchResponse::default();
    for message in batch.records {
        let failure = match event(&message) {
            Ok(event) => match handle(&event).await {
                Ok(Next::Done) => continue,
                Ok(Next::Again(why)) => {
                    info!("to come again: {why}");
                    Failure::Transient(why)
                }
                Err(failure) => {
                    error!(error.kind = failure.kind(), "{failure}");
                    failure
                }
            },
            Err(failure) => {
                error!(error.kind = failure.kind(), "{failure}");
                failure
            }
        };
        if !matches!(failure, Failure::Malformed(_)) {
            let id = message.message_id.ok_or(failure)?;
            again.add_failure(id);
        }
    }
    Ok(again)
}

fn event(message: &SqsMessage) -> Result<Value, Failure> {
    serde_json::from_str(message.body.as_deref().unwrap_or_default())
        .map_err(|error| Failure::Malformed(format!("a message holds no event: {error}")))
}
