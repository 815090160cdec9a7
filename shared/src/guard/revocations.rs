//! What outlives a containment: the revocation that a release leaves, without which the stolen session would wake up, and
//! the denies of chained sessions. No watch is over them any more; they are looked at until their sessions have ended.

use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ids::UniqueId;
use firebreak_model::ledger::{RevocationRecord, StepRecord};
use firebreak_model::principal::PrincipalName;
use firebreak_model::revoked::Outlived;
use firebreak_model::tamper::Tamper;
use firebreak_model::watch::change::{Change, Thing};
use firebreak_model::watch::{Cause, Found};
use tracing::{Instrument, info_span, warn};

use super::look::found;
use super::{Guard, with_the_call};
use crate::action::{Action as _, ActionError, Order};
use crate::actions::RevokeSessions;
use crate::clock;
use crate::failure::Failure;
use crate::identity;
use crate::revoke::each_once;

impl Guard {
    /// Looks at all of them, or at those that a call was on: `by` is the call, and whether its caller is contained. One that
    /// cannot be looked at keeps no other from it.
    pub(super) async fn look_at_revocations(&self, by: Option<(&Change, bool)>) -> Result<Vec<String>, Failure> {
        let on = by.map(|(change, _)| change.things(&self.home));
        let of_it = |kept: &RevocationRecord| {
            on.as_ref().is_none_or(|things| {
                things.iter().any(|thing| match thing {
                    Thing::Principal(principal) => principal.incident_id() == kept.principal.incident_id(),
                    Thing::Function(_) => false,
                })
            })
        };
        let kept = self.ledger.standing_revocations(clock::now()).await?;
        let (mut said, mut failed) = (Vec::new(), Vec::new());
        for one in each_once(kept.into_iter().filter(of_it).collect()) {
            let span = info_span!("revocation", incident.id = %one.incident_id);
            match Box::pin(self.look_at_revocation(&one, by)).instrument(span).await {
                Ok(told) => said.extend(told),
                Err(failure) => {
                    warn!(incident.id = %one.incident_id, "a revocation could not be looked at: {failure}");
                    failed.push(format!("`{}`: {failure}", one.incident_id));
                }
            }
        }
        if failed.is_empty() { Ok(said) } else { Err(Failure::Transient(failed.join("; "))) }
    }

    async fn look_at_revocation(
        &self,
        kept: &RevocationRecord,
        by: Option<(&Change, bool)>,
    ) -> Result<Option<String>, Failure> {
        let Some(incident) = self.ledger.incident(&kept.incident_id).await? else { return Ok(None) };
        let Some(outlived) = Outlived::of(kept, &incident) else {
            // It belongs to the containment, whose principal may be another than the one that was changed.
            let other = kept.principal.incident_id() != incident.principal.incident_id();
            if by.is_some() && other {
                Box::pin(self.check(&incident.incident_id, Cause::Call, by)).await?;
            }
            return Ok(None);
        };
        let then = &outlived.incident;
        let record = self.ledger.step(&then.step_record(&outlived.step, clock::now())).await?;
        let Some(record) = record.filter(|record| outlived.was_there(record)) else { return Ok(None) };
        let Found::Gone(says) = self.outlived(&outlived, &record).await? else { return Ok(None) };
        if self.is_over(kept).await? {
            return Ok(None);
        }
        let told = by.and_then(|(change, contained)| self.undone_by(then, change, contained));
        let text = format!("`{}` is undone: {says}", record.step);
        let steps = vec![(record.step, says)];
        let tamper = Tamper::undone(then, steps, vec![FunctionName::RevokeSessions], clock::now());
        self.record(with_the_call(tamper, told)).await?;
        Ok(Some(text))
    }

    /// How it reads now.
    async fn outlived(&self, outlived: &Outlived, record: &StepRecord) -> Result<Found, Failure> {
        let (then, now) = (&outlived.incident, clock::now());
        if outlived.step.action == ActionId::RevokeChainedSessions {
            return Ok(match self.ledger.chain(then).await? {
                Some(chain) => self.chained_in(then, record, &chain, now).await,
                None => Found::Absent,
            });
        }
        let order = Order { incident: then, step: &outlived.step, now };
        let read = found(RevokeSessions::new(self.iam.clone()).verify(order, &serde_json::Value::Null).await);
        let ids: Vec<UniqueId> = then.principal.unique_id.iter().cloned().collect();
        self.of_the_same(&then.principal.name, &ids, read).await
    }

    /// What is gone of a principal that is gone itself, or was made again since, was not taken away: its old sessions died
    /// with it. `ids` are those that it had.
    pub(super) async fn of_the_same(
        &self,
        name: &PrincipalName,
        ids: &[UniqueId],
        read: Found,
    ) -> Result<Found, Failure> {
        if !matches!(read, Found::Gone(_)) {
            return Ok(read);
        }
        match identity::read(&self.iam, name).await {
            Ok(now) if ids.is_empty() || ids.contains(&now.unique_id) => Ok(read),
            Ok(_) | Err(ActionError::Gone { .. }) => Ok(Found::Absent),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether its owner has taken it away meanwhile, because its time is over.
    async fn is_over(&self, kept: &RevocationRecord) -> Result<bool, Failure> {
        Ok(!self.ledger.standing_revocations(clock::now()).await?.contains(kept))
    }
}
