//! One look at a containment: every step that lasts, read back by the code that applied it.

use std::collections::BTreeSet;

use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ladder::{self, Standing};
use firebreak_model::ledger::{Incident, StepRecord};
use firebreak_model::plan::{Step, Target};
use firebreak_model::principal::Identity;
use firebreak_model::watch::{Cause, Found, Look, Opinion, StepLook, TrailLook, Watch, lasts};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::Guard;
use super::search::Searched;
use crate::action::{Action, ActionError, Order, Verified};
use crate::executor::prior_of;
use crate::failure::Failure;
use crate::telemetry::chain;
use crate::{actions, clients, identity};

impl Guard {
    /// Looks at an incident. A step that cannot be read is told as such; only the ledger's failure is one here.
    pub(super) async fn look(
        &self,
        incident: &Incident,
        watch: &Watch,
        cause: Cause,
        now: Timestamp,
    ) -> Result<(Look, Option<Identity>), Failure> {
        // One that was deleted and made again is another: nothing was ever applied to it.
        let made_again = self.made_again(incident).await?;
        let searched = self.searched(incident).await?;
        let (steps, records) = self.steps(incident, made_again.is_some(), &searched, now).await?;
        // What does not hold needs no second opinion.
        let holds = steps.iter().all(|look| matches!(look.found, Found::InForce | Found::Absent));
        let bound = Bound::by(&steps, &records).filter(|_| holds);
        let opinion = match bound {
            // The simulator is asked about whoever calls, whenever their session began.
            Some(Bound { sessions_before: None, .. }) => self.opinion(&incident.principal).await,
            _ => Opinion::NotAsked,
        };
        let trail = match bound {
            Some(bound) => self.trail(incident, watch, cause, bound, now).await,
            None => TrailLook::NotAsked,
        };
        Ok((Look { at: now, cause, steps, opinion, trail, search: searched.stands() }, made_again))
    }

    /// Every step that lasts, as it reads now, and what the ledger has of them.
    pub(super) async fn steps(
        &self,
        incident: &Incident,
        made_again: bool,
        searched: &Searched,
        now: Timestamp,
    ) -> Result<(Vec<StepLook>, Vec<StepRecord>), Failure> {
        let owners =
            incident.plan.owners().into_iter().chain(searched.is_due().then_some(FunctionName::RevokeSessions));
        let records = self.ledger.steps(incident, owners.collect::<BTreeSet<_>>()).await?;
        let lasting = incident.plan.steps.iter().filter(|step| lasts(step.action));
        // All at once: whoever undoes a deny does not wait for the function to be read.
        let looks = lasting.flat_map(|step| on_record(step, &records)).map(async |(step, record)| {
            let found = StepLook::on_record(record.map(|r| r.state), record.map_or("", |r| r.detail.as_str()));
            let found = match (found, record) {
                (Some(found), _) => found,
                (None, Some(_)) if made_again && !matches!(step.target, Target::Function(_)) => Found::Absent,
                (None, Some(record)) => {
                    let rung = Step { action: record.action, target: record.target.clone() };
                    self.read_back(incident, &rung, record, now).await
                }
                (None, None) => Found::Pending,
            };
            StepLook { step: record.map_or_else(|| step.key(), |record| record.step.clone()), found }
        });
        let (mut steps, chained) = tokio::join!(join_all(looks), self.chained(incident, &records, searched, now));
        steps.extend(chained);
        Ok((steps, records))
    }

    /// Who bears the principal's name now, where that is another than the one that was pinned.
    pub(super) async fn made_again(&self, incident: &Incident) -> Result<Option<Identity>, Failure> {
        let Some(pinned) = &incident.principal.unique_id else { return Ok(None) };
        match identity::read(&self.iam, &incident.principal.name).await {
            Ok(now) if now.unique_id != *pinned => Ok(Some(now)),
            // What cannot be read now, the steps tell.
            Ok(_) | Err(_) => Ok(None),
        }
    }

    async fn read_back(&self, incident: &Incident, step: &Step, record: &StepRecord, now: Timestamp) -> Found {
        let Some(action) = self.action(step) else {
            return Found::Unread("the action is not known to this function".to_owned());
        };
        let order = Order { incident, step, now };
        match prior_of(record) {
            Ok(prior) => found(action.verify(order, &prior).await),
            Err(error) => found(Err(error)),
        }
    }

    fn action(&self, step: &Step) -> Option<Box<dyn Action>> {
        match &step.target {
            Target::Role(_) | Target::User(_) => actions::for_principal(step.action, &self.iam, &self.deny_policy_arn),
            Target::Function(function) => {
                let lambda = clients::lambda_in(&self.sdk, function.region());
                let on_function = actions::for_function(step.action, &lambda, &self.stack);
                // A function may also be denied in its role.
                on_function.or_else(|| actions::for_principal(step.action, &self.iam, &self.deny_policy_arn))
            }
        }
    }
}

/// How what was read back is told.
pub(super) fn found(read: Result<Verified, ActionError>) -> Found {
    match read {
        Ok(Verified::InForce) => Found::InForce,
        Ok(Verified::NotInForce(found)) => Found::Gone(found),
        Err(ActionError::Gone { .. }) => Found::Absent,
        Err(error) => Found::Unread(chain(&error)),
    }
}

/// What is on record of a step: every rung that is in force, whichever it was reached by; else the one that says how far
/// it came.
fn on_record<'a>(step: &'a Step, records: &'a [StepRecord]) -> Vec<(&'a Step, Option<&'a StepRecord>)> {
    let in_force = ladder::in_force(step, records);
    if !in_force.is_empty() {
        return in_force.into_iter().map(|record| (step, Some(record))).collect();
    }
    let record = match Standing::of(step, records) {
        Standing::NotBegun | Standing::UnderWay => None,
        Standing::Held(record) | Standing::Ended(record) => Some(record),
        Standing::Refused(rungs) => rungs.last().copied(),
    };
    vec![(step, record)]
}

/// What keeps the principal from making calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    /// Since when it was read back.
    pub(super) since: Timestamp,
    /// Whose calls it keeps: all, or those of sessions that began before this time. Later ones live on, as ordered.
    pub(super) sessions_before: Option<Timestamp>,
}

impl Bound {
    /// By what is in force: a deny of everything, or else the revocation. That reaches a minute beyond its first reading
    /// back; a session that began before is certainly meant.
    fn by(steps: &[StepLook], records: &[StepRecord]) -> Option<Self> {
        let in_force =
            |record: &&StepRecord| steps.iter().any(|look| look.step == record.step && look.found == Found::InForce);
        let denies = records.iter().filter(in_force).filter(|record| super::denies(record.action));
        if let Some(since) = denies.filter_map(|record| record.verified_at).max() {
            return Some(Self { since, sessions_before: None });
        }
        let revokes = |record: &&StepRecord| record.action == ActionId::RevokeSessions;
        let record = records.iter().filter(in_force).find(revokes)?;
        let since = record.verified_at?;
        Some(Self { since, sessions_before: Some(record.first_verified_at.unwrap_or(since)) })
    }
}
