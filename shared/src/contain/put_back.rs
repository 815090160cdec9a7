//! What the guard found: our own steps that were undone are applied again. The event is a hint: the
//! incident and its plan come from the ledger, and one that is being released is left alone.

use firebreak_model::finding::Source;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::IncidentState;
use firebreak_model::outcome::{self, OutcomeKind, SOURCE};
use serde_json::Value;
use tracing::{Instrument, info_span};

use super::candidate::Received;
use super::{Containment, conclude};
use crate::action::ActionError;
use crate::answer::Answer;
use crate::failure::Failure;
use crate::identity;
use crate::telemetry::chain;

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
        _: Received<'_>,
    ) -> Result<Answer, Failure> {
        if kind != OutcomeKind::ContainmentUndone {
            return Ok(Answer::of("nothing to do"));
        }
        let id = outcome::incident_id(event)
            .ok_or_else(|| Failure::Malformed("the event carries no incident id".to_owned()))?;
        let span = info_span!("put back", incident.id = %id);
        self.put_back(&id).instrument(span).await
    }

    /// Applies again what is no longer in force, on the principal that was pinned and on nobody else.
    async fn put_back(&self, id: &IncidentId) -> Result<Answer, Failure> {
        let Some(incident) = self.ledger.incident(id).await? else {
            return Err(Failure::Malformed(format!("the event names incident `{id}`, which the ledger does not hold")));
        };
        if incident.state != IncidentState::Ordered {
            return Ok(Answer::on("nothing to do", id, &[]).saying(format!("the incident is `{}`", incident.state)));
        }
        let rails = self.rails(incident.drill.then_some(Source::Drill));
        let kept_off = match identity::read(&self.iam, &incident.principal.name).await {
            Ok(identity) => rails.on_identity(&incident.principal, &identity).err().map(|veto| veto.to_string()),
            Err(error @ ActionError::Gone { .. }) => Some(chain(&error)),
            Err(error) => return Err(error.into()),
        };
        if let Some(why) = kept_off {
            return Ok(Answer::on("not put back", id, &[]).saying(why));
        }
        let executed = self.hold(&incident).await?;
        if executed.is_empty() {
            return Ok(Answer::on("nothing to do", id, &[]).saying("the plan holds no such step for this function"));
        }
        conclude(id, executed)
    }
}
