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

/// Messages, and those of them that are to come again.
#[derive(Debug)]
pub struct Batch {
    messages: Vec<SqsMessage>,
    again: SqsBatchResponse,
}

impl Batch {
    /// Reads the messages.
    pub fn of(payload: &Value) -> Result<Self, Failure> {
        let batch: SqsEvent = serde_json::from_value(payload.clone())
            .map_err(|error| Failure::Malformed(format!("the messages cannot be read: {error}")))?;
        Ok(Self { messages: batch.records, again: SqsBatchResponse::default() })
    }

    /// The event of each message, with the message's id.
    pub fn events(&self) -> Vec<(Option<String>, Result<Value, Failure>)> {
        self.messages.iter().map(|message| (message.message_id.clone(), event(message))).collect()
    }

    /// What became of a message. What cannot be read is no better the next time, and is let go.
    pub fn ended(&mut self, id: Option<String>, end: Result<Next, Failure>) -> Result<(), Failure> {
        let failure = match end {
            Ok(Next::Done) => return Ok(()),
            Ok(Next::Again(why)) => {
                info!("to come again: {why}");
                Failure::Transient(why)
            }
            Err(failure) => {
                error!(error.kind = failure.kind(), "{failure}");
                failure
            }
        };
        if !matches!(failure, Failure::Malformed(_)) {
            let id = id.ok_or(failure)?;
            self.again.add_failure(id);
        }
        Ok(())
    }

    /// What the queue is told.
    pub fn answer(self) -> Handled {
        Handled::Queue(self.again)
    }
}

fn event(message: &SqsMessage) -> Result<Value, Failure> {
    serde_json::from_str(message.body.as_deref().unwrap_or_default())
        .map_err(|error| Failure::Malformed(format!("a message holds no event: {error}")))
}
