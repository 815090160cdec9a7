//! Fresh credentials for what is let live again: the environments that ran before the release hold credentials from
//! before it, revoked with the thief's. Each function is recycled once a release, before anything is let in again, and what
//! was there before is on record, so that a release that is cut short puts it back when it goes on.

use std::time::Duration;

use firebreak_model::action::ActionId;
use firebreak_model::ids::FunctionArn;
use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::plan::{Step, Target};
use tracing::warn;

use super::Releasing;
use crate::action::{Action, ActionError, Order, Verified};
use crate::clock;
use crate::executor;
use crate::failure::Failure;
use crate::telemetry::chain;

/// What the record of a recycling at a release ends in: the plan may hold a recycling of its own.
const AT_RELEASE: &str = "@release";

/// How often a recycling that meets another change of the function is tried again: the release has just changed it itself.
const AGAIN: usize = 3;
const PAUSE_BETWEEN: Duration = Duration::from_secs(2);

/// Whether a step is a recycling that a release makes: what it was is put back by itself.
pub(super) fn is_ours(record: &StepRecord) -> bool {
    record.step.ends_with(AT_RELEASE)
}

impl Releasing {
    /// Recycles the incident's functions. Answers what a person should know.
    pub(super) async fn recycle(&self, incident: &Incident) -> Result<Vec<String>, Failure> {
        let mut notes = Vec::new();
        for function in &incident.functions {
            if let Some(problem) = self.recycle_one(incident, function).await? {
                warn!(function = %function, "its environments could not be recycled: {problem}");
                notes.push(format!(
                    "`{}` may fail until Lambda replaces its warm environments, within hours: {problem}",
                    function.name()
                ));
            }
        }
        Ok(notes)
    }

    /// Recycles one. Answers what stood against it.
    async fn recycle_one(&self, incident: &Incident, function: &FunctionArn) -> Result<Option<String>, Failure> {
        let step = Step { action: ActionId::RecycleEnvironments, target: Target::Function(function.clone()) };
        let Some(action) = self.on_function(step.action, function) else { return Ok(None) };
        let order = Order { incident, step: &step, now: clock::now() };
        let fresh = incident.step_record(&step, order.now);
        let fresh = StepRecord { step: format!("{}{AT_RELEASE}", fresh.step), ..fresh };
        let mut record = match self.ledger.step(&fresh).await? {
            Some(record) if matches!(record.state, StepState::Reverted | StepState::LeftAlone) => return Ok(None),
            Some(record) => record,
            None => {
                let prior = match action.observe(order).await {
                    Ok(prior) => prior,
                    Err(error) => return Ok(told(&error)),
                };
                let intent = StepRecord { prior: Some(prior.to_string()), intended_at: Some(order.now), ..fresh };
                self.ledger.intend(&intent).await?
            }
        };
        let problem = carry_out(order, action.as_ref(), &record).await;
        record.attempts += 1;
        record.applied_at = Some(clock::now());
        record.state = StepState::Applied;
        // What was there before is put back, whatever became of the recycling.
        let reverted = executor::revert(&self.ledger, incident, record, action.as_ref()).await?;
        if reverted.record.state == StepState::Applied {
            let text = format!("the description of `{function}` bears our mark still; ask for the release again");
            return Err(Failure::Transient(format!("{text}: {}", reverted.record.detail)));
        }
        Ok(problem)
    }
}

/// Replaces the environments, and reads back that they are replaced. Answers what stood against it.
async fn carry_out(order: Order<'_>, action: &dyn Action, record: &StepRecord) -> Option<String> {
    let prior = match executor::prior_of(record) {
        Ok(prior) => prior,
        Err(error) => return told(&error),
    };
    let mut applied = action.apply(order, &prior).await;
    for _ in 0..AGAIN {
        if !applied.as_ref().is_err_and(ActionError::is_transient) {
            break;
        }
        tokio::time::sleep(PAUSE_BETWEEN).await;
        applied = action.apply(Order { now: clock::now(), ..order }, &prior).await;
    }
    if let Err(error) = applied {
        return told(&error);
    }
    let mut verified = action.verify(order, &prior).await;
    for _ in 0..20 {
        if !matches!(verified, Ok(Verified::NotInForce(_))) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        verified = action.verify(order, &prior).await;
    }
    match verified {
        Ok(Verified::InForce) => None,
        Ok(Verified::NotInForce(found)) => Some(found),
        // What cannot be replaced, such as what serves from a published version.
        Err(ActionError::Withheld(veto)) => Some(veto.to_string()),
        Err(error) => told(&error),
    }
}

/// What a person should know of an error.
fn told(error: &ActionError) -> Option<String> {
    match error {
        // A function that is gone, or that does not run as this role, holds no credentials of it.
        ActionError::Gone { .. } | ActionError::Withheld(_) => None,
        error => Some(chain(error)),
    }
}
