//! The incident and its findings as the ledger has them, with each event as it was received.

use firebreak_model::evidence::ApiCall;
use firebreak_model::ledger::{Incident, Record};
use serde_json::{Value, json};

use super::documents::Answers;
use crate::action::ActionError;
use crate::ledger::{Ledger, LedgerError};

/// The incident and its findings.
pub(super) async fn answers(ledger: &Ledger, incident: &Incident) -> Answers {
    let id = incident.incident_id.to_string();
    let mut answers = Answers::default();
    let call = ApiCall::new("dynamodb:GetItem", json!({"pk": format!("incident#{id}")}));
    let record = serde_json::to_value(Record::Incident(Box::new(incident.clone())));
    answers.push(call, Ok(record.unwrap_or(Value::Null)));
    let call = ApiCall::new("dynamodb:Query", json!({"pk": format!("finding#{id}")}));
    match ledger.findings(&id).await {
        Ok(findings) => {
            for finding in findings {
                let record = serde_json::to_value(Record::Finding(Box::new(finding)));
                answers.push(call.clone(), Ok(record.unwrap_or(Value::Null)));
            }
        }
        Err(error) => answers.push(call, Err(unread(&id, error))),
    }
    answers
}

fn unread(id: &str, error: LedgerError) -> ActionError {
    let (call, target) = ("dynamodb:Query", id.to_owned());
    if error.is_transient() {
        ActionError::NoAnswer { call, target, source: Box::new(error) }
    } else {
        ActionError::Rejected { call, target, source: Box::new(error) }
    }
}
