//! The ledger's own outage: a deny that is to be put in force at once goes ahead without a record, within narrow bounds,
//! and the invocation fails as transient, so that the next try puts it on record.
//!
//! Only what adds: our own deny policy, attached and read back. Whatever replaces something needs its prior state on
//! record first, and waits. See `docs/decisions/0032-a-deny-without-a-record.md`.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firebreak_model::guard::Rails;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{Incident, IncidentState};
use firebreak_model::principal::{Identity, PrincipalName};
use firebreak_model::usage::Usage;
use jiff::{SignedDuration, Timestamp};
use tracing::{error, warn};

use super::{Containment, at_least};
use crate::action::{ActionError, Verified};
use crate::answer::Answer;
use crate::executor;
use crate::failure::Failure;
use crate::ledger::{Claim, Claimed, LedgerError};
use crate::metrics::{self, Metric};
use crate::telemetry::chain;

/// How many principals an execution environment denies without a record: the breaker cannot count them.
const MOST: usize = 3;

/// How old a finding's activity may be: whether it was released since, only the ledger knows.
const FRESH: SignedDuration = SignedDuration::from_hours(1);

/// How long the ledger is listened to for a reason not to: reads may work where writes do not.
const LISTEN: Duration = Duration::from_secs(2);

/// What this execution environment remembers of claims, and of denies without a record.
#[derive(Debug, Default)]
pub struct Outage(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// The last claim that was to contain at once was held back, by the pause or the breaker.
    held_back: bool,
    denied: BTreeSet<IncidentId>,
}

impl Outage {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers how a claim ended that was to contain at once.
    pub(super) fn remember(&self, claim: &Claim, claimed: &Claimed) {
        if let (IncidentState::Ordered, Claimed::Opened(incident)) = (claim.candidate.state, claimed) {
            self.memory().held_back = incident.state == IncidentState::AwaitingApproval;
        }
    }

    pub(super) fn has_denied(&self, id: &IncidentId) -> bool {
        self.memory().denied.contains(id)
    }

    /// Takes one of the few places, or says why there is none.
    fn admit(&self, id: &IncidentId) -> Result<(), String> {
        let mut memory = self.memory();
        if memory.held_back {
            return Err("the last claim was held back by the pause or the breaker".to_owned());
        }
        if memory.denied.len() >= MOST && !memory.denied.contains(id) {
            return Err(format!("this execution environment has denied {MOST} principals without a record already"));
        }
        memory.denied.insert(id.clone());
        Ok(())
    }
}

impl Containment {
    /// What becomes of a claim that failed. Where the ledger does not answer, the deny goes ahead within narrow bounds;
    /// the invocation fails as transient all the same, so that the next try puts it on record.
    pub(super) async fn without_record(
        &self,
        claim: &Claim,
        identity: Result<Identity, ActionError>,
        usage: Option<&Usage>,
        rails: Rails<'_>,
        error: LedgerError,
    ) -> Failure {
        if !error.is_outage() {
            return error.into();
        }
        let (id, name) = (&claim.candidate.incident_id, &claim.candidate.principal.name);
        let why = chain(&error);
        match self.deny_without_record(claim, identity, usage, rails).await {
            Ok(()) => {
                error!(incident.id = %id, "`{name}` is denied everything, and nothing of it is on record: {why}");
                metrics::write(&[Metric::count("DeniedWithoutRecord", 1)]);
                Failure::Transient(format!(
                    "`{name}` is denied everything, read back, but the ledger does not answer: the next try puts it on \
                     record: {why}"
                ))
            }
            Err(withheld) => {
                warn!(incident.id = %id, "not denied without a record: {withheld}");
                Failure::Transient(format!("{why}; nothing was done about `{name}` meanwhile: {withheld}"))
            }
        }
    }

    /// Denies, or says why not.
    async fn deny_without_record(
        &self,
        claim: &Claim,
        identity: Result<Identity, ActionError>,
        usage: Option<&Usage>,
        rails: Rails<'_>,
    ) -> Result<(), String> {
        let incident = &claim.candidate;
        if incident.state != IncidentState::Ordered {
            return Err("a person must approve it".to_owned());
        }
        let fresh = |seen: Timestamp| claim.now.duration_since(seen) <= FRESH;
        if !incident.is_asked_for() && !claim.last_seen.is_some_and(fresh) {
            return Err("the activity is old, and only the ledger knows whether it was released since".to_owned());
        }
        let identity = identity.map_err(|error| chain(&error))?;
        rails.on_identity(&incident.principal, &identity).map_err(|veto| veto.to_string())?;
        let users = usage.map_or(incident.functions.len(), |usage| usage.count_with(&incident.functions));
        if let Some(why) = self.playbook.asks_about(users).filter(|_| !incident.is_asked_for()) {
            return Err(why);
        }
        if let Some(objection) = self.objection(&incident.incident_id).await {
            return Err(objection);
        }
        // Another try finds its own deny: nothing is changed twice.
        let known = self.outage.has_denied(&incident.incident_id);
        if known && matches!(self.denied(incident).await, Ok(Some(_))) {
            return Ok(());
        }
        self.outage.admit(&incident.incident_id)?;
        let ends = self.deny_alone(incident).await;
        let in_force = ends.iter().any(|(_, end)| matches!(end, Ok(Verified::InForce)));
        match (ends.is_empty(), in_force) {
            (true, _) => Err("its plan denies nothing".to_owned()),
            (false, true) => Ok(()),
            (false, false) => Err(at_least::told(&ends)),
        }
    }

    /// What the ledger says against it, where it can still be read: the pause, or that the incident is not to be
    /// contained. What cannot be read objects to nothing.
    async fn objection(&self, id: &IncidentId) -> Option<String> {
        let read = async { tokio::join!(self.ledger.paused(), Box::pin(self.ledger.incident(id))) };
        let (pause, incident) = tokio::time::timeout(LISTEN, read).await.ok()?;
        if let Ok(Some(pause)) = pause {
            return Some(format!("containment is paused since {}", pause.since));
        }
        match incident {
            Ok(Some(incident)) if incident.state != IncidentState::Ordered => {
                Some(format!("its incident is `{}`", incident.state))
            }
            _ => None,
        }
    }

    /// Puts a deny on record that is in force though its incident waits for a person: it was put there while the ledger
    /// did not answer, and then the pause or the breaker held the incident back. So a release undoes it.
    pub(super) async fn adopt(&self, incident: &Incident) -> Result<Option<Answer>, Failure> {
        let Some((step, action)) = self.denied(incident).await? else { return Ok(None) };
        let executed = executor::put_on_record(&self.ledger, incident, step, action.as_ref()).await?;
        let said = format!("{}; the deny is in force already, and a release takes it away", incident.reason);
        let id = &incident.incident_id;
        Ok(Some(Answer::on("awaiting approval", id, std::slice::from_ref(&executed.record)).saying(said)))
    }

    /// The deny of a principal that is released, and in force all the same: nobody here may take it away.
    pub(super) async fn left_behind(&self, incident: &Incident) -> Result<(), Failure> {
        if self.denied(incident).await?.is_none() {
            return Ok(());
        }
        let (kind, name) = match &incident.principal.name {
            PrincipalName::Role(role) => ("role", role.as_str()),
            PrincipalName::User(user) => ("user", user.as_str()),
        };
        Err(Failure::Permanent(format!(
            "incident `{}` is released, but the deny is attached: by hand, or while the ledger did not answer. To take it \
             away: aws iam detach-{kind}-policy --{kind}-name '{name}' --policy-arn '{}'",
            incident.incident_id, self.deny_policy_arn
        )))
    }
}

#[cfg(test)]
mod tests;
