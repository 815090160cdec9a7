//! What an invocation answers: to a person who invoked by hand, and in the logs.

use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{Incident, StepRecord};
use firebreak_model::plan::Target;
use jiff::Timestamp;
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
    /// Several incidents, where the answer is about more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incidents: Vec<IncidentAnswer>,
    /// What to know beside that, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One of several incidents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncidentAnswer {
    /// Its id.
    pub incident_id: IncidentId,
    /// Whom it is about: `role/NAME`, `user/NAME`; `?` where its record cannot be gone by.
    pub principal: String,
    /// Its state, or what became of it.
    pub state: String,
    /// Since when its plan is in force, or when it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// A game day's.
    pub drill: bool,
    /// Its steps that are not undone, each with its state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub standing: Vec<String>,
    /// What to know beside that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl IncidentAnswer {
    /// An incident as it stands.
    pub fn of(incident: &Incident) -> Self {
        Self {
            incident_id: incident.incident_id.clone(),
            principal: Target::from(&incident.principal.name).to_string(),
            state: incident.state.to_string(),
            since: Some(incident.ordered_since()),
            drill: incident.drill,
            standing: Vec::new(),
            message: None,
        }
    }

    /// An incident whose record cannot be gone by, and why.
    pub fn unknown(id: IncidentId, why: &str) -> Self {
        Self {
            incident_id: id,
            principal: "?".to_owned(),
            state: "unknown".to_owned(),
            since: None,
            drill: false,
            standing: Vec::new(),
            message: Some(why.to_owned()),
        }
    }

    /// The same with a message.
    #[must_use]
    pub fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
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
            incidents: Vec::new(),
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
