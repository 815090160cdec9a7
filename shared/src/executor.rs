//! Carries out one step of a frozen plan: prior state on record, then `apply`, `verify`, and the outcome
//! on record. The only way in which an action is run.

use firebreak_model::guard::Veto;
use firebreak_model::ladder::{self, Refusal};
use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::plan::Step;
use jiff::Timestamp;
use serde_json::Value;
use tracing::{info, warn};

use crate::action::{Action, ActionError, Order, Reverted, Verified};
use crate::clock;
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::chain;

/// How a step ended, with the record that says so.
#[derive(Debug)]
pub struct Executed {
    /// As it now stands in the ledger.
    pub record: StepRecord,
    /// Whether another try may go better.
    pub transient: bool,
    /// Why AWS does not take what was there before back as it stands: what it needs is gone, or a quota is full.
    pub not_taken_back: Option<Refusal>,
}

impl Executed {
    /// A step that came to its end.
    pub fn ended(record: StepRecord) -> Self {
        Self { record, transient: false, not_taken_back: None }
    }
}

/// Carries out a step. What was applied before is read back, and carried out again where it is no longer in force.
pub async fn execute(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    let fresh = incident.step_record(step, clock::now());
    match ledger.step(&fresh).await? {
        Some(record) if record.state == StepState::Applied => {
            let order = Order { incident, step, now: clock::now() };
            match prior_of(&record) {
                Ok(prior) if matches!(action.verify(order, &prior).await, Ok(Verified::NotInForce(_))) => {
                    // A release that began meanwhile is no tampering: what it undoes stays undone.
                    if superseded(ledger, incident).await? {
                        return Ok(Executed::ended(record));
                    }
                    warn!(incident.id = %incident.incident_id, step = %record.step, "undone by someone: applied again");
                    carry_out(ledger, incident, step, action, record).await
                }
                _ => Ok(Executed::ended(record)),
            }
        }
        Some(record) if record.state != StepState::Intended && record.state != StepState::Failed => {
            Ok(Executed::ended(record))
        }
        Some(record) => take_up(ledger, incident, step, action, record).await,
        None => take_up(ledger, incident, step, action, fresh).await,
    }
}

/// Carries out what another try may have begun: where that is in force by now, it is only put on record. So a finding
/// that joins, or a second try, does not deny again what is denied.
async fn take_up(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
    record: StepRecord,
) -> Result<Executed, LedgerError> {
    let order = Order { incident, step, now: clock::now() };
    let can_tell = record.prior.is_some() || action.record().additive;
    if can_tell
        && let Ok(prior) = prior_of(&record)
        && let Ok(Verified::InForce) = action.verify(order, &prior).await
    {
        return found_in_force(ledger, incident, action, record).await;
    }
    carry_out(ledger, incident, step, action, record).await
}

/// Puts on record what was read back without this function having carried it out just now.
async fn found_in_force(
    ledger: &Ledger,
    incident: &Incident,
    action: &dyn Action,
    mut record: StepRecord,
) -> Result<Executed, LedgerError> {
    let now = clock::now();
    record.state = StepState::Applied;
    record.attempts += 1;
    record.applied_at = record.applied_at.or(Some(now));
    read_back(&mut record, now);
    record.updated_at = now;
    record.refused = None;
    record.filled_by.clear();
    action.record().summary.clone_into(&mut record.detail);
    info!(incident.id = %incident.incident_id, step = %record.step, "read back: in force already");
    ledger.record(&record).await?;
    Ok(Executed::ended(record))
}

/// A step was read back. The first time stays.
fn read_back(record: &mut StepRecord, now: Timestamp) {
    record.first_verified_at = record.first_verified_at.or(record.verified_at).or(Some(now));
    record.verified_at = Some(now);
}

/// Puts a step on record that its caller has read back, unless its end is on record already.
pub async fn put_on_record(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    let fresh = incident.step_record(step, clock::now());
    match ledger.step(&fresh).await? {
        Some(record) if record.state != StepState::Intended && record.state != StepState::Failed => {
            Ok(Executed::ended(record))
        }
        record => found_in_force(ledger, incident, action, record.unwrap_or(fresh)).await,
    }
}

/// Carries out a step of an incident that was opened just now, whose steps can have no record yet: nothing
/// stands between the claim and an additive action.
pub async fn execute_fresh(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    if !action.record().additive {
        return execute(ledger, incident, step, action).await;
    }
    carry_out(ledger, incident, step, action, incident.step_record(step, clock::now())).await
}

/// Carries out a step again whatever its record says: a release moves a revocation forward that is applied already.
/// The prior state that was recorded first stands.
pub async fn renew(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    let fresh = incident.step_record(step, clock::now());
    let record = ledger.step(&fresh).await?.unwrap_or(fresh);
    carry_out(ledger, incident, step, action, record).await
}

/// Carries out at once what was applied and does not show any more, from the record that the caller holds. `None` where
/// the incident has moved on: what a release undoes stays undone.
pub async fn apply_again(
    ledger: &Ledger,
    incident: &Incident,
    record: StepRecord,
    action: &dyn Action,
) -> Result<Option<Executed>, LedgerError> {
    if superseded(ledger, incident).await? {
        return Ok(None);
    }
    let step = Step { action: record.action, target: record.target.clone() };
    warn!(incident.id = %incident.incident_id, step = %record.step, "undone by someone: applied again");
    carry_out(ledger, incident, &step, action, record).await.map(Some)
}

async fn carry_out(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
    mut record: StepRecord,
) -> Result<Executed, LedgerError> {
    let order = Order { incident, step, now: clock::now() };
    let result = attempt(ledger, order, action, &mut record).await?;
    record.attempts += 1;
    record.updated_at = clock::now();
    record.refused = ladder::top(step.action).and_then(|_| refusal(&result));
    record.filled_by = match &result {
        Err(ActionError::Quota { filled_by, .. }) => filled_by.clone(),
        _ => Vec::new(),
    };
    let transient = match result {
        Ok(Verified::InForce) => {
            record.state = StepState::Applied;
            let now = record.updated_at;
            read_back(&mut record, now);
            action.record().summary.clone_into(&mut record.detail);
            info!(incident.id = %incident.incident_id, step = %record.step, "applied and read back");
            false
        }
        Ok(Verified::NotInForce(found)) => {
            record.state = StepState::Failed;
            record.detail = format!("the call was accepted, but reading it back shows: {found}");
            warn!(incident.id = %incident.incident_id, step = %record.step, "not in force: {found}");
            true
        }
        Err(ActionError::Withheld(veto)) => {
            record.state = StepState::Withheld;
            record.detail = veto.to_string();
            warn!(incident.id = %incident.incident_id, step = %record.step, "withheld: {veto}");
            false
        }
        Err(ActionError::Gone { target }) => {
            record.state = StepState::Gone;
            record.detail = format!("`{target}` does not exist: there is nothing to contain");
            info!(incident.id = %incident.incident_id, step = %record.step, "{}", record.detail);
            false
        }
        Err(error) => {
            record.state = StepState::Failed;
            record.detail = chain(&error);
            warn!(incident.id = %incident.incident_id, step = %record.step, "failed: {}", record.detail);
            error.is_transient()
        }
    };
    ledger.record(&record).await?;
    Ok(Executed { record, transient, not_taken_back: None })
}

/// Why a rung of a ladder gives way to the one below.
fn refusal(result: &Result<Verified, ActionError>) -> Option<Refusal> {
    match result {
        Ok(Verified::InForce) => None,
        Ok(Verified::NotInForce(_)) => Some(Refusal::NotShown),
        Err(error) => error.refusal(),
    }
}

/// `observe` and the intent, unless they are on record or the action is additive; then `apply` and `verify`.
/// A call that got no answer is settled by reading back.
async fn attempt(
    ledger: &Ledger,
    order: Order<'_>,
    action: &dyn Action,
    record: &mut StepRecord,
) -> Result<Result<Verified, ActionError>, LedgerError> {
    if record.prior.is_none() && !action.record().additive {
        let prior = match action.observe(order).await {
            Ok(prior) => prior,
            Err(error) => return Ok(Err(error)),
        };
        let intent = StepRecord {
            prior: Some(prior.to_string()),
            state: StepState::Intended,
            intended_at: Some(order.now),
            ..record.clone()
        };
        *record = ledger.intend(&intent).await?;
        // Between the order and now a person may have begun to release it: what was not begun is not begun any more.
        if superseded(ledger, order.incident).await? {
            let veto = Veto("the incident is no longer ordered: a release began".to_owned());
            return Ok(Err(ActionError::Withheld(veto)));
        }
    }
    let prior = match prior_of(record) {
        Ok(prior) => prior,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = action.apply(order, &prior).await
        && !error.may_have_applied()
    {
        return Ok(Err(error));
    }
    record.applied_at = Some(clock::now());
    Ok(action.verify(order, &prior).await)
}

/// Whether the incident has moved on from the state in which this invocation read it.
async fn superseded(ledger: &Ledger, incident: &Incident) -> Result<bool, LedgerError> {
    match ledger.incident(&incident.incident_id).await {
        Ok(now) => Ok(now.is_none_or(|now| now.episode != incident.episode || now.state != incident.state)),
        // It was claimed just now and is sealed when its denies stand: no release begins before that.
        Err(LedgerError::Unsealed(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The prior state on record.
pub(crate) fn prior_of(record: &StepRecord) -> Result<Value, ActionError> {
    match &record.prior {
        None => Ok(Value::Null),
        Some(text) => serde_json::from_str(text).map_err(|error| ActionError::Unreadable {
            target: record.step.clone(),
            problem: format!("its prior state in the ledger cannot be read ({error}): nothing is changed"),
        }),
    }
}

/// Undoes a step that was applied, or that may have been. What was undone before is left as it is.
pub async fn revert(
    ledger: &Ledger,
    incident: &Incident,
    record: StepRecord,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    let mut record = record;
    let touched = match record.state {
        StepState::Applied => true,
        StepState::Intended | StepState::Failed => record.prior.is_some() || action.record().additive,
        // An earlier attempt may have changed something before a guard rail came down.
        StepState::Withheld if record.prior.is_some() => true,
        StepState::Gone | StepState::Withheld | StepState::Reverted | StepState::LeftAlone => {
            return Ok(Executed::ended(record));
        }
    };
    if !touched {
        // It failed before the prior state was on record, and `apply` runs only after that.
        record.state = StepState::Reverted;
        record.updated_at = clock::now();
        record.reverted_at = Some(record.updated_at);
        "nothing had been changed".clone_into(&mut record.detail);
        ledger.record(&record).await?;
        return Ok(Executed::ended(record));
    }
    let step = Step { action: record.action, target: record.target.clone() };
    let order = Order { incident, step: &step, now: clock::now() };
    let result = match prior_of(&record) {
        Ok(prior) => action.revert(order, &prior).await,
        Err(error) => Err(error),
    };
    record.updated_at = clock::now();
    match result {
        Ok(Reverted::Restored) => {
            record.state = StepState::Reverted;
            record.reverted_at = Some(record.updated_at);
            "what was there before is there again".clone_into(&mut record.detail);
            info!(incident.id = %incident.incident_id, step = %record.step, "reverted");
        }
        Ok(Reverted::LeftAlone(found)) => {
            record.state = StepState::LeftAlone;
            record.detail = found;
            warn!(incident.id = %incident.incident_id, step = %record.step, "left alone: {}", record.detail);
        }
        // What is gone needs no undoing.
        Err(ActionError::Gone { target }) => {
            record.state = StepState::LeftAlone;
            record.detail = format!("`{target}` does not exist any more");
        }
        Err(error) => {
            let transient = error.is_transient();
            record.detail = format!("could not be undone: {}", chain(&error));
            warn!(incident.id = %incident.incident_id, step = %record.step, "{}", record.detail);
            ledger.record(&record).await?;
            let not_taken_back = match error {
                ActionError::Rejected { .. } => Some(Refusal::Rejected),
                ActionError::Quota { .. } => Some(Refusal::Quota),
                _ => None,
            };
            return Ok(Executed { record, transient, not_taken_back });
        }
    }
    ledger.record(&record).await?;
    Ok(Executed::ended(record))
}

#[cfg(test)]
mod tests;
