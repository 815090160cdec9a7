//! What somebody took away that no plan holds: the revocation of a release, and the denies of chained sessions. The event is
//! a hint: what was written, how far and on whom come from the ledger, and what is there is read first.

use std::collections::BTreeSet;

use firebreak_model::action::ActionId;
use firebreak_model::chain::Link;
use firebreak_model::ids::SessionId;
use firebreak_model::ledger::{Incident, RevocationRecord, StepRecord};
use firebreak_model::outcome::OutcomeKind;
use firebreak_model::plan::{Step, Target};
use firebreak_model::revoked::{Outlived, to_deny};
use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::warn;

use super::{Revocation, settled};
use crate::action::{Action, ActionError, Order, Verified};
use crate::actions::RevokeChainedSessions;
use crate::clock;
use crate::executor::{self, Executed};
use crate::failure::Failure;

/// Whether an event tells that the guard found something undone.
pub(super) fn is_told(event: &Value) -> bool {
    event.get("detail-type") == Some(&json!(OutcomeKind::ContainmentUndone.as_str()))
}

/// The sessions of one role that are denied by name, and when the last of them was made.
pub(crate) fn sessions_of(links: &[&Link]) -> (BTreeSet<SessionId>, Timestamp) {
    let ids = links.iter().filter_map(|link| Some(link.session.role.as_ref()?.id.clone())).collect();
    (ids, links.iter().map(|link| link.at).max().unwrap_or(Timestamp::MIN))
}

/// Of several records of one thing the one that ends last: it reaches furthest.
pub(crate) fn each_once(mut kept: Vec<RevocationRecord>) -> Vec<RevocationRecord> {
    let what = |one: &RevocationRecord| {
        let episode = if one.action == ActionId::RevokeChainedSessions { one.episode } else { 0 };
        (one.incident_id.clone(), one.action, one.principal.name.to_string(), episode)
    };
    kept.sort_by(|a, b| (what(a), b.ends_at).cmp(&(what(b), a.ends_at)));
    kept.dedup_by(|later, first| what(later) == what(first));
    kept
}

impl Revocation {
    /// Writes again what is to be in place and is not. One that fails keeps no other back.
    pub(super) async fn put_back(&self, incident: &Incident) -> Result<Vec<StepRecord>, Failure> {
        let kept = self.ledger.standing_revocations(clock::now()).await?;
        let of_it = kept.into_iter().filter(|one| one.incident_id == incident.incident_id).collect();
        let (mut back, mut failure) = (Vec::new(), None);
        for one in each_once(of_it) {
            let end = match one.action {
                ActionId::RevokeChainedSessions => self.chained_again(incident, &one).await,
                _ => self.revoked_again(incident, &one).await,
            };
            match end.and_then(|done| done.map(settled).transpose()) {
                Ok(record) => back.extend(record),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(back), Err)
    }

    /// The revocation of a release: up to the time of that release, and no further.
    async fn revoked_again(&self, incident: &Incident, kept: &RevocationRecord) -> Result<Option<Executed>, Failure> {
        let Some(outlived) = Outlived::of(kept, incident) else { return Ok(None) };
        let (incident, step) = (&outlived.incident, &outlived.step);
        let action = self.action();
        if !self.is_gone(&outlived, &action).await? {
            return Ok(None);
        }
        if let Some(record) = self.kept_off(incident, step).await? {
            return Ok(Some(Executed::ended(record)));
        }
        warn!(incident.id = %incident.incident_id, "`{}` is undone by someone: applied again", step.key());
        Ok(Some(executor::renew(&self.ledger, incident, step, &action).await?))
    }

    /// The deny of the sessions that were made in one role.
    async fn chained_again(&self, incident: &Incident, kept: &RevocationRecord) -> Result<Option<Executed>, Failure> {
        let incident = Incident { episode: kept.episode, ..incident.clone() };
        let found = self.ledger.chain(&incident).await?.map(|chain| chain.sessions).unwrap_or_default();
        let by_role = to_deny(&incident, &found, clock::now());
        let target: Target = (&kept.principal.name).into();
        let Some((role, links)) = by_role.iter().find(|(role, _)| Target::Role((**role).clone()) == target) else {
            return Ok(None);
        };
        let (sessions, issued_by) = sessions_of(links);
        let action = RevokeChainedSessions::new(self.iam.clone(), sessions, issued_by);
        let step = Step { action: kept.action, target: target.clone() };
        let fresh = incident.step_record(&step, clock::now());
        let Some(record) = self.ledger.step(&fresh).await?.filter(|record| record.verified_at.is_some()) else {
            return Ok(None);
        };
        if !reads_as_gone(&incident, &record, &action).await? {
            return Ok(None);
        }
        let (record, transient) = self.deny(&incident, role, links, &[]).await?;
        Ok(Some(Executed { transient, ..Executed::ended(record) }))
    }

    /// Whether what was once read back is there no more.
    async fn is_gone(&self, outlived: &Outlived, action: &dyn Action) -> Result<bool, Failure> {
        let fresh = outlived.incident.step_record(&outlived.step, clock::now());
        match self.ledger.step(&fresh).await? {
            Some(record) if outlived.was_there(&record) => reads_as_gone(&outlived.incident, &record, action).await,
            _ => Ok(false),
        }
    }
}

async fn reads_as_gone(incident: &Incident, record: &StepRecord, action: &dyn Action) -> Result<bool, Failure> {
    let step = Step { action: record.action, target: record.target.clone() };
    let order = Order { incident, step: &step, now: clock::now() };
    match action.verify(order, &Value::Null).await {
        Ok(Verified::NotInForce(_)) => Ok(true),
        // Whoever is gone has no sessions.
        Ok(Verified::InForce) | Err(ActionError::Gone { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
