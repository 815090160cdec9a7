//! Session revocation: on an ordered containment, at a release, and its end. What `revoke-sessions` does.
//!
//! It takes an incident id and reads the rest from the ledger; a caller cannot choose a principal or a time.

use aws_sdk_iam::Client;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::guard::Rails;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{Incident, IncidentState, RevocationRecord, StepRecord, StepState};
use firebreak_model::outcome;
use firebreak_model::plan::Step;
use firebreak_model::playbook::Protected;
use firebreak_model::principal::Home;
use firebreak_model::request::{self, Request};
use firebreak_model::revoked::ends_at;
use firebreak_model::{SCHEMA, trigger::is_scheduled};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::{Instrument, info, info_span, warn};

use crate::action::{Action, ActionError, Order, Reverted};
use crate::actions::{QuarantineFunction, RevokeSessions};
use crate::answer::Answer;
use crate::clock;
use crate::executor::{self, Executed};
use crate::failure::Failure;
use crate::identity;
use crate::ledger::Ledger;
use crate::queue::{self, Batch, Handled};
use crate::trace::Tracer;

mod chained;
mod outlived;

pub(crate) use outlived::{each_once, sessions_of};

pub(crate) use firebreak_model::revoked::longest_session;

/// Everything that revoking needs.
#[derive(Debug)]
pub struct Revocation {
    /// The ledger.
    pub ledger: Ledger,
    /// The IAM client.
    pub iam: Client,
    /// Where it runs.
    pub home: Home,
    /// Finds the sessions that were made from stolen ones.
    pub tracer: Tracer,
    /// How late CloudTrail may be.
    pub trail_lag: SignedDuration,
}

impl Revocation {
    /// Handles one invocation: an outcome event, messages of the queue that hold such events, a request of
    /// `release-containment`, or the schedule.
    pub async fn handle(&self, payload: &Value) -> Result<Handled, Failure> {
        if queue::is_batch(payload) {
            let mut batch = Batch::of(payload)?;
            for (id, event) in batch.events() {
                let end = match event {
                    Ok(event) => self.on_message(&event).await,
                    Err(failure) => Err(failure),
                };
                batch.ended(id, end)?;
            }
            return Ok(batch.answer());
        }
        Box::pin(self.obey(payload)).await.map(Handled::Order)
    }

    async fn obey(&self, payload: &Value) -> Result<Answer, Failure> {
        if is_scheduled(payload) {
            return self.end_what_is_over().await;
        }
        if request::is_request(payload) {
            return match request::read(payload, &self.home)? {
                Request::Revoke(id, _) => {
                    let span = info_span!("revoke", incident.id = %id);
                    self.at_release(&id).instrument(span).await
                }
                _ => Err(Failure::Malformed("only `revoke` goes to this function".to_owned())),
            };
        }
        let id = outcome::incident_id(payload)
            .ok_or_else(|| Failure::Malformed("the event carries no incident id".to_owned()))?;
        let span = info_span!("revoke", incident.id = %id);
        Box::pin(self.on_order(&id, outlived::is_told(payload))).instrument(span).await
    }

    fn action(&self) -> RevokeSessions {
        RevokeSessions::new(self.iam.clone())
    }

    /// The action of a step of the plan that is this function's.
    async fn action_of(&self, incident: &Incident, step: &Step) -> Result<Box<dyn Action>, Failure> {
        if step.action == ActionId::QuarantineFunction {
            return Ok(Box::new(QuarantineFunction::new(self.iam.clone())));
        }
        let record = self.ledger.step(&incident.step_record(step, clock::now())).await?;
        let first = record.and_then(|record| record.first_verified_at.or(record.verified_at));
        Ok(Box::new(self.action().again(first)))
    }

    /// Whether the release that this was asked for is still under way: whoever asked may have given it up, and what is
    /// contained again keeps its denies.
    async fn is_releasing(&self, incident: &Incident) -> Result<bool, Failure> {
        if !incident.plan.steps.iter().any(|step| step.action == ActionId::QuarantineFunction) {
            return Ok(true);
        }
        let now = self.incident(&incident.incident_id).await?;
        Ok(now.state == incident.state && now.episode == incident.episode)
    }

    /// Takes the denies of single functions out again: a release has begun, and the revocation is in force.
    async fn free_functions(&self, incident: &Incident) -> Result<Vec<StepRecord>, Failure> {
        let action = QuarantineFunction::new(self.iam.clone());
        let mut records = Vec::new();
        for step in incident.plan.owned_by(FunctionName::RevokeSessions) {
            let fresh = incident.step_record(step, clock::now());
            if step.action != ActionId::QuarantineFunction {
                continue;
            }
            let Some(record) = self.ledger.step(&fresh).await? else { continue };
            let done = executor::revert(&self.ledger, incident, record, &action).await?;
            let ended = [StepState::Reverted, StepState::LeftAlone, StepState::Gone, StepState::Withheld];
            if !ended.contains(&done.record.state) {
                let text = format!("`{}`: {}", done.record.step, done.record.detail);
                return Err(if done.transient { Failure::Transient(text) } else { Failure::Permanent(text) });
            }
            records.push(done.record);
        }
        Ok(records)
    }

    async fn incident(&self, id: &IncidentId) -> Result<Incident, Failure> {
        self.ledger.incident(id).await?.ok_or_else(|| Failure::Refused(format!("there is no incident `{id}`")))
    }

    /// Carries out the plan; where the guard found something `undone`, also what the plan does not hold.
    async fn on_order(&self, id: &IncidentId, undone: bool) -> Result<Answer, Failure> {
        let incident = self.incident(id).await?;
        if undone && incident.state != IncidentState::Ordered {
            return self.put_back(&incident).await.map(|back| Answer::on("looked at", id, &back));
        }
        if !incident.is_in_force() {
            return Ok(Answer::on("nothing to do", id, &[]).saying(incident.not_in_force()));
        }
        let mut records = Vec::new();
        for step in incident.plan.owned_by(FunctionName::RevokeSessions) {
            let done = if let Some(record) = self.kept_off(&incident, step).await? {
                Executed::ended(record)
            } else {
                let action = self.action_of(&incident, step).await?;
                executor::execute(&self.ledger, &incident, step, action.as_ref()).await?
            };
            records.push(settled(done)?);
        }
        if undone {
            records.extend(self.put_back(&incident).await?);
        }
        Ok(Answer::on("revoked", id, &records))
    }

    /// The record of a step that a guard rail or the absence of the principal keeps us off: nobody but the principal
    /// that was pinned is to be denied, whatever the ledger came to say.
    async fn kept_off(&self, incident: &Incident, step: &Step) -> Result<Option<StepRecord>, Failure> {
        let rails =
            Rails { home: &self.home, stack: "", protected: &Protected::default(), deployers: &[], source: None };
        let principal = &incident.principal;
        let end = match rails.on_name(principal) {
            Err(veto) => Some((StepState::Withheld, veto.to_string())),
            Ok(()) => match identity::read(&self.iam, &principal.name).await {
                Ok(identity) => {
                    rails.on_identity(principal, &identity).err().map(|veto| (StepState::Withheld, veto.to_string()))
                }
                Err(ActionError::Gone { target }) => {
                    Some((StepState::Gone, format!("`{target}` does not exist: there is nothing to contain")))
                }
                Err(error) => return Err(error.into()),
            },
        };
        let Some((state, detail)) = end else { return Ok(None) };
        warn!("not revoked: {detail}");
        let fresh = incident.step_record(step, clock::now());
        let mut record = self.ledger.step(&fresh).await?.unwrap_or(fresh);
        record.state = state;
        record.detail = detail;
        record.updated_at = clock::now();
        self.ledger.record(&record).await?;
        Ok(Some(record))
    }

    async fn at_release(&self, id: &IncidentId) -> Result<Answer, Failure> {
        let incident = self.incident(id).await?;
        let Some(release) = incident.release.as_ref().filter(|_| incident.state == IncidentState::Releasing) else {
            return Err(Failure::Refused(format!("incident `{id}` is `{}`: no release is under way", incident.state)));
        };
        let step = Step { action: ActionId::RevokeSessions, target: (&incident.principal.name).into() };
        if let Some(record) = self.kept_off(&incident, &step).await? {
            let detail = record.detail.clone();
            return Ok(Answer::on("nothing to revoke", id, &[record]).saying(detail));
        }
        // On record before it is written: a revocation that nobody remembers would stay for ever.
        let kept = RevocationRecord {
            schema: SCHEMA,
            incident_id: id.clone(),
            principal: incident.principal.clone(),
            ends_at: ends_at(release.at, &incident.principal.name),
            action: ActionId::RevokeSessions,
            episode: incident.episode,
        };
        self.ledger.keep_revocation(&kept).await?;
        let done = executor::renew(&self.ledger, &incident, &step, &self.action()).await?;
        let mut records = vec![settled(done)?];
        if !self.is_releasing(&incident).await? {
            return Err(Failure::Refused(format!("the release of `{id}` was taken back meanwhile")));
        }
        records.extend(self.free_functions(&incident).await?);
        let mut until = format!("sessions issued before {} stay revoked until {}", release.at, kept.ends_at);
        let chained = self.ledger.chain(&incident).await?.map(|chain| chain.sessions).unwrap_or_default();
        if let Some(last) = chained.iter().filter(|link| link.session.role.is_some()).map(|l| l.session.ends_at).max() {
            until = format!("{until}; those that were made from stolen ones, until {last}");
        }
        Ok(Answer::on("revoked", id, &records).saying(until))
    }

    /// Takes away the revocations whose last session has ended, unless the principal is contained again.
    async fn end_what_is_over(&self) -> Result<Answer, Failure> {
        let now = clock::now();
        let ended = self.ledger.ended_revocations(now).await?;
        let mut removed = Vec::new();
        let mut failed = Vec::new();
        for revocation in ended {
            let id = revocation.incident_id.clone();
            let span = info_span!("end revocation", incident.id = %id);
            match self.end(&revocation, now).instrument(span).await {
                Ok(what) => removed.push(format!("{}: {what}", revocation.principal.name)),
                Err(failure) => {
                    warn!(incident.id = %id, "the revocation could not be ended: {failure}");
                    failed.push(failure.to_string());
                }
            }
        }
        if failed.is_empty() {
            return Ok(Answer::of("swept").saying(format!(
                "{} revocations ended: {}",
                removed.len(),
                removed.join("; ")
            )));
        }
        Err(Failure::Transient(failed.join("; ")))
    }

    /// Has a revocation end later. Its new record is there before the old one goes.
    async fn put_off(&self, revocation: &RevocationRecord, ends_at: Timestamp) -> Result<(), Failure> {
        self.ledger.keep_revocation(&RevocationRecord { ends_at, ..revocation.clone() }).await?;
        self.ledger.forget_revocation(revocation).await?;
        Ok(())
    }

    async fn end(&self, revocation: &RevocationRecord, now: Timestamp) -> Result<String, Failure> {
        let incident = self.incident(&revocation.incident_id).await?;
        if revocation.action == ActionId::RevokeChainedSessions {
            return self.end_chained(&incident, revocation, now).await;
        }
        // Whoever looks after a containment expects it there, and an incident that waits for a person, or is withheld, may
        // be closed without another being written: it is remembered until somebody takes it out.
        if incident.state != IncidentState::Released {
            return Ok(format!("the incident is `{}` again: stays", incident.state));
        }
        // A later release has moved the policy forward, whether it kept a record of its own or not.
        let since = incident.release.as_ref().map(|r| ends_at(r.at, &incident.principal.name));
        if let Some(later) = since.filter(|later| *later > revocation.ends_at && *later > now) {
            self.put_off(revocation, later).await?;
            return Ok("released again since: the later revocation stands".to_owned());
        }
        let step = Step { action: ActionId::RevokeSessions, target: (&incident.principal.name).into() };
        let order = Order { incident: &incident, step: &step, now };
        let what = match self.action().revert(order, &Value::Null).await {
            Ok(Reverted::Restored) => "removed".to_owned(),
            Ok(Reverted::LeftAlone(found)) => format!("left alone: {found}"),
            Err(ActionError::Gone { .. }) => "the principal is gone".to_owned(),
            Err(error) => return Err(error.into()),
        };
        info!("the longest session has ended: {what}");
        self.ledger.forget_revocation(revocation).await?;
        Ok(what)
    }
}

fn in_an_hour(now: Timestamp) -> Timestamp {
    now.saturating_add(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MAX)
}

fn settled(executed: Executed) -> Result<StepRecord, Failure> {
    let record = executed.record;
    if matches!(record.state, StepState::Applied | StepState::Gone | StepState::Withheld) {
        return Ok(record);
    }
    let text = format!("`{}`: {}", record.step, record.detail);
    Err(if executed.transient { Failure::Transient(text) } else { Failure::Permanent(text) })
}

#[cfg(test)]
mod tests;
