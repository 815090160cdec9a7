//! What an invocation answers: to a person who invoked by hand, and in the logs.

use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::StepRecord;
use serde::Serialize;

/// The answer of an invocation that ended well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What became of it, in a word or two: `contained`, `awaiting approval`, `noted`, `nothing to do`, …
    pub outcome: String,
    /// The incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_id: Option<IncidentId>,
    /// The steps that this invocation carried out or found done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepAnswer>,
    /// What to know beside that, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a step stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepAnswer {
    /// `<action id>@<target>`.
    pub step: String,
    /// Its state.
    pub state: String,
    /// What happened.
    pub detail: String,
}

impl From<&StepRecord> for StepAnswer {
    fn from(record: &StepRecord) -> Self {
        Self { step: record.step.clone(), state: record.state.to_string(), detail: record.detail.clone() }
    }
}

impl Answer {
    /// An answer without an incident.
    pub fn of(outcome: &str) -> Self {
        Self { outcome: outcome.to_owned(), ..Self::default() }
    }

    /// An answer about an incident and its steps.
    pub fn on(outcome: &str, incident: &IncidentId, steps: &[StepRecord]) -> Self {
        Self {
            outcome: outcome.to_owned(),
            incident_id: Some(incident.clone()),
            steps: steps.iter().map(StepAnswer::from).collect(),
            message: None,
        }
    }

    /// The same with a message.
    #[must_use]
    pub fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// The same with one message more.
    #[must_use]
    pub fn also_saying(self, message: impl Into<String>) -> Self {
        let message = message.into();
        let both = match &self.message {
            Some(first) => format!("{first}; {message}"),
            None => message,
        };
        self.saying(both)
    }
}
