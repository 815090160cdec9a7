//! What the guard found: our own steps that were undone are applied again. The event is a hint: the
//! incident and its plan come from the ledger, and one that is being released is left alone.

use firebreak_model::finding::Subject;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::IncidentState;
use firebreak_model::outcome::{self, OutcomeKind, SOURCE};
use firebreak_model::tamper::{self, Nature, Tamper};
use serde_json::Value;
use tracing::{Instrument, info_span, warn};

use super::candidate::{Event, Received};
use super::ladder::conclude;
use super::{Containment, settle};
use crate::action::ActionError;
use crate::answer::Answer;
use crate::failure::Failure;
use crate::identity;
use crate::telemetry::chain;

/// How the principal that a finding is about came to be, as far as that is certain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Birth {
    /// The incident of the contained principal that made it, so late that it is nobody's production.
    pub(super) of: Option<IncidentId>,
    /// Why a person is asked, whatever the playbook says: it was made too early for that.
    pub(super) asks: Option<String>,
}

/// What an event of the guard's records tells; `None` for whatever else woke the function.
pub(super) fn told(payload: &Value) -> Option<OutcomeKind> {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = OutcomeKind::from_name(text("detail-type")).filter(|_| text("source") == SOURCE)?;
    matches!(kind, OutcomeKind::ContainmentUndone | OutcomeKind::TamperingFound).then_some(kind)
}

impl Containment {
    pub(super) async fn on_tampering(
        &self,
        kind: OutcomeKind,
        event: &Value,
        received: Received<'_>,
    ) -> Result<Answer, Failure> {
        // What is open and who did it, at once: holding on to the one may take long, and neither keeps the other back.
        let back = async {
            if kind != OutcomeKind::ContainmentUndone {
                return None;
            }
            let Some(id) = outcome::incident_id(event) else {
                return Some(Err(Failure::Malformed("the event carries no incident id".to_owned())));
            };
            let span = info_span!("put back", incident.id = %id);
            Some(self.put_back(&id).instrument(span).await)
        };
        let judged = Box::pin(self.judge_tampering(event, received));
        let (back, judged) = tokio::join!(Box::pin(back), judged);
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for end in back.into_iter().chain([judged]) {
            match end {
                Ok(answer) => answers.push(answer),
                Err(failure) => failures.push(failure),
            }
        }
        settle(answers, failures)
    }

    /// Has the playbook decide about whom a record of the guard suspects. What the event says of them is not read.
    async fn judge_tampering(&self, event: &Value, received: Received<'_>) -> Result<Answer, Failure> {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (subject, key) = (text("/detail/subject"), text("/detail/tamper"));
        if !tamper::is_key(key) || (subject != tamper::OWN && subject.parse::<IncidentId>().is_err()) {
            return Ok(Answer::of("nothing to do").saying("the event names no tampering that could be there"));
        }
        let Some(tamper) = self.ledger.tamper(subject, key).await? else {
            return Ok(Answer::of("nothing to do").saying("the ledger knows no such tampering"));
        };
        let Some(finding) = tamper.finding(&self.base.home) else { return Ok(Answer::of("nothing to do")) };
        let text = serde_json::to_string(&tamper).unwrap_or_default();
        let birth = self.birth(&tamper).await?;
        self.on_finding(finding, &Event::of(text), &birth, received).await
    }

    /// The incident of the contained principal that made the one this is about. The record says who made it, and carries
    /// no seal: so what IAM says counts, that the new one is no older than the theft, and the incident, which is sealed.
    /// Whoever forges such a record gains no more on what was there before than that a person is asked.
    async fn birth(&self, tamper: &Tamper) -> Result<Birth, Failure> {
        let (Nature::Minted, [Subject::Principal { principal, .. }]) = (tamper.nature, tamper.suspects.as_slice())
        else {
            return Ok(Birth::default());
        };
        let Some(id) = &tamper.incident_id else { return Ok(Birth::default()) };
        let (by, made) = tokio::join!(self.ledger.incident(id), identity::read(&self.iam, &principal.name));
        let Some(by) = by?.filter(|by| by.state == IncidentState::Ordered) else { return Ok(Birth::default()) };
        if !by.is_in_force() {
            return Err(Failure::Transient(format!("incident `{id}`: {}", by.not_in_force())));
        }
        match made.map(|made| made.created_at) {
            Ok(Some(at)) if at >= by.newborn_since() => Ok(Birth { of: Some(by.incident_id), asks: None }),
            Ok(Some(at)) => {
                let name = &principal.name;
                let why =
                    format!("`{name}` is of {at}, long before the containment of whoever made it: it may be in use");
                Ok(Birth { of: None, asks: Some(why) })
            }
            Ok(None) => Ok(Birth::default()),
            // It is read again before anything is done to it.
            Err(error) => {
                warn!(incident.id = %id, "`{}` could not be read: {}", principal.name, chain(&error));
                Ok(Birth::default())
            }
        }
    }

    /// Applies again what is no longer in force, on the principal that was pinned and on nobody else. What nobody has held
    /// to the guard rails yet goes the way of a claim.
    async fn put_back(&self, id: &IncidentId) -> Result<Answer, Failure> {
        let Some(incident) = self.ledger.incident(id).await? else {
            return Err(Failure::Malformed(format!("the event names incident `{id}`, which the ledger does not hold")));
        };
        if incident.state != IncidentState::Ordered {
            return Ok(Answer::on("nothing to do", id, &[]).saying(format!("the incident is `{}`", incident.state)));
        }
        if !incident.is_in_force() {
            return self.go_on(incident).await;
        }
        let (rails, principal) = (self.rails_of(&incident), &incident.principal);
        let kept_off = match identity::read(&self.iam, &principal.name).await {
            Ok(identity) => rails.on_identity(principal, &identity).err().map(|veto| veto.to_string()),
            Err(error @ ActionError::Gone { .. }) => Some(chain(&error)),
            Err(error) => return Err(error.into()),
        };
        if let Some(why) = kept_off {
            return Ok(Answer::on("not put back", id, &[]).saying(why));
        }
        let executed = Box::pin(self.hold(&incident)).await?;
        if executed.is_empty() {
            return Ok(Answer::on("nothing to do", id, &[]).saying("the plan holds no such step for this function"));
        }
        conclude(&incident, executed)
    }
}
