//! What the ledger holds of an incident, record by record as it lies there with its seal: the findings, each with its event
//! as it was received, and what Firebreak did, in every episode. Read when all else is collected, so that it is the whole of
//! it.

use firebreak_model::action::FunctionName;
use firebreak_model::evidence::ApiCall;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{
    Incident, StepRecord, chain_keys, forgery_partition, incident_keys, step_partition, tamper_partition, watch_keys,
};
use firebreak_model::plan::Target;
use serde_json::{Value, json};

use super::documents::Answers;
use crate::action::ActionError;
use crate::ledger::{Ledger, LedgerError};

/// Where records about an incident lie: partition, and what their sort keys begin with.
fn places(id: &IncidentId) -> Vec<(String, String)> {
    let whole = |partition: String| (partition, String::new());
    let mut places = vec![incident_keys(id), whole(format!("finding#{id}"))];
    places.extend(FunctionName::ALL.iter().map(|owner| whole(step_partition(*owner, id))));
    places.extend(
        [chain_keys(id, 0).0, tamper_partition(id.as_str()), forgery_partition(id), format!("page#{id}")].map(whole),
    );
    places.push(watch_keys(id));
    places
}

/// All records about an incident.
pub(super) async fn answers(ledger: &Ledger, id: &IncidentId) -> Answers {
    let mut answers = Answers::default();
    for (partition, prefix) in places(id) {
        match ledger.as_it_lies(partition.clone(), &prefix).await {
            Ok(records) => {
                for (sort, record) in records {
                    let call = || ApiCall::new("dynamodb:Query", json!({"pk": partition, "sk": sort}));
                    let cut = record.get("event_truncated") == Some(&Value::Bool(true));
                    answers.push(call(), Ok(record));
                    if cut {
                        let problem = "the event was longer than a record may be: its end is not there".to_owned();
                        let call = ApiCall { api: "events:PutEvents".to_owned(), ..call() };
                        answers.push(call, Err(ActionError::Unreadable { target: sort, problem }));
                    }
                }
            }
            Err(error) => {
                let call = ApiCall::new("dynamodb:Query", json!({"pk": partition}));
                answers.push(call, Err(unread(id.as_str(), error)));
            }
        }
    }
    answers
}

/// What our own steps found of a thing before they changed it: what AWS answers may be from after.
pub(super) async fn found_before(
    ledger: &Ledger,
    incident: &Incident,
    owner: FunctionName,
    is_about: impl Fn(&Target) -> bool,
    answers: &mut Answers,
) {
    let partition = step_partition(owner, &incident.incident_id);
    match ledger.steps(incident, [owner]).await {
        Ok(steps) => {
            for step in steps.iter().filter(|step| is_about(&step.target)) {
                if let Some(found) = found(step) {
                    answers
                        .push(ApiCall::new("dynamodb:Query", json!({"pk": partition, "step": step.step})), Ok(found));
                }
            }
        }
        Err(error) => {
            let call = ApiCall::new("dynamodb:Query", json!({"pk": partition}));
            answers.push(call, Err(unread(incident.incident_id.as_str(), error)));
        }
    }
}

/// What a step found; `None` where it replaced nothing.
fn found(step: &StepRecord) -> Option<Value> {
    let prior = step.prior.as_ref()?;
    // What is no JSON is kept as text.
    let found: Value = serde_json::from_str(prior).unwrap_or_else(|_| Value::String(prior.clone()));
    Some(json!({"action": step.action, "target": step.target, "state": step.state, "found_before": found,
                "intended_at": step.intended_at, "applied_at": step.applied_at}))
}

/// Why something of an incident could not be read.
pub(super) fn unread(id: &str, error: LedgerError) -> ActionError {
    let (call, target) = ("dynamodb:Query", id.to_owned());
    if error.is_transient() {
        ActionError::NoAnswer { call, target, source: Box::new(error) }
    } else {
        ActionError::Rejected { call, target, source: Box::new(error) }
    }
}
