//! Fresh credentials for what is let live again: the environments that ran before the release hold credentials from
//! before it, revoked with the thief's. Each function is recycled once a release, and what was there before is on
//! record, so that a release that is cut short puts it back when it goes on.

use std::time::Duration;

use firebreak_model::action::ActionId;
use firebreak_model::ids::FunctionArn;
use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::plan::{Step, Target};
use tracing::warn;

use super::Releasing;
use crate::action::{ActionError, Order, Verified};
use crate::clock;
use crate::executor;
use crate::failure::Failure;
use crate::telemetry::chain;

/// What the record of a recycling at a release ends in: the plan may hold a recycling of its own.
const AT_RELEASE: &str = "@release";

/// Whether a step is a recycling that a release makes: what it was is put back by itself.
pub(super) fn is_ours(record: &StepRecord) -> bool {
    record.step.ends_with(AT_RELEASE)
}

impl Releasing {
    /// Recycles the incident's functions. Answers what a person should know.
    pub(super) async fn recycle(&self, incident: &Incident) -> Result<Vec<String>, Failure> {
        let mut notes = Vec::new();
        for function in &incident.functions {
            let error = match self.recycle_one(incident, function).await? {
                // A function that is gone, or that never ran as this role, holds no credentials of it.
                Ok(()) | Err(ActionError::Gone { .. } | ActionError::Withheld(_)) => continue,
                Err(error) => chain(&error),
            };
            warn!(function = %function, "its environments could not be recycled: {error}");
            notes.push(format!(
                "`{}` may fail until Lambda replaces its warm environments, within hours: {error}",
                function.name()
            ));
        }
        Ok(notes)
    }

    async fn recycle_one(
        &self,
        incident: &Incident,
        function: &FunctionArn,
    ) -> Result<Result<(), ActionError>, Failure> {
        let step = Step { action: ActionId::RecycleEnvironments, target: Target::Function(function.clone()) };
        let Some(action) = self.on_function(step.action, function) else { return Ok(Ok(())) };
        let order = Order { incident, step: &step, now: clock::now() };
        let fresh = incident.step_record(&step, order.now);
        let fresh = StepRecord { step: format!("{}{AT_RELEASE}", fresh.step), ..fresh };
        let mut record = match self.ledger.step(&fresh).await? {
            Some(record) if matches!(record.state, StepState::Reverted | StepState::LeftAlone) => return Ok(Ok(())),
            Some(record) => record,
            None => {
                let prior = match action.observe(order).await {
                    Ok(prior) => prior,
                    Err(error) => return Ok(Err(error)),
                };
                let intent = StepRecord { prior: Some(prior.to_string()), intended_at: Some(order.now), ..fresh };
                self.ledger.intend(&intent).await?
            }
        };
        let recycled = async {
            let prior = executor::prior_of(&record)?;
            action.apply(order, &prior).await?;
            for _ in 0..20 {
                if action.verify(order, &prior).await? == Verified::InForce {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(())
        };
        let recycled: Result<(), ActionError> = recycled.await;
        record.attempts += 1;
        record.applied_at = Some(clock::now());
        record.state = StepState::Applied;
        // What was there before is put back, whatever became of the recycling.
        let reverted = executor::revert(&self.ledger, incident, record, action.as_ref()).await?;
        if reverted.record.state == StepState::Applied {
            let text = format!("the description of `{function}` bears our mark still; ask for the release again");
            return Err(Failure::Transient(format!("{text}: {}", reverted.record.detail)));
        }
        Ok(recycled)
    }
}
