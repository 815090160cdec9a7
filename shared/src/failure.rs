//! How an invocation ends when it does not end well: a closed set, which retries, dead-letter queues
//! and alarms key on.

use firebreak_model::request::RequestError;
use lambda_runtime::Diagnostic;

use crate::action::ActionError;
use crate::ledger::LedgerError;
use crate::telemetry::chain;

/// The end of an invocation that failed. The name of the variant is the `errorType` of the answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Worth another try: Lambda's retries, then the on-failure queue.
    #[error("{0}")]
    Transient(String),
    /// Another try changes nothing: a person must look.
    #[error("{0}")]
    Permanent(String),
    /// A guard rail, the pause or the state of the incident forbids it.
    #[error("{0}")]
    Refused(String),
    /// The payload is not what it must be.
    #[error("{0}")]
    Malformed(String),
}

impl Failure {
    /// The closed name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Transient(_) => "Transient",
            Self::Permanent(_) => "Permanent",
            Self::Refused(_) => "Refused",
            Self::Malformed(_) => "Malformed",
        }
    }
}

impl Failure {
    /// The same end, in other words.
    #[must_use]
    pub fn map(self, say: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Transient(text) => Self::Transient(say(text)),
            Self::Permanent(text) => Self::Permanent(say(text)),
            Self::Refused(text) => Self::Refused(say(text)),
            Self::Malformed(text) => Self::Malformed(say(text)),
        }
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self { error_type: failure.kind().to_owned(), error_message: failure.to_string() }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let text = chain(&error);
        match error {
            LedgerError::Forged { .. } => Self::Refused(text),
            error if error.is_transient() => Self::Transient(text),
            _ => Self::Permanent(text),
        }
    }
}

impl From<ActionError> for Failure {
    fn from(error: ActionError) -> Self {
        let text = chain(&error);
        match error {
            ActionError::Withheld(_) => Self::Refused(text),
            error if error.is_transient() => Self::Transient(text),
            _ => Self::Permanent(text),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::OtherAccount { .. } => Self::Refused(error.to_string()),
            _ => Self::Malformed(error.to_string()),
        }
    }
}
