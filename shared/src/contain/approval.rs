//! A person approves what waits for it.

use firebreak_model::decision::Decision;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{Approval, Incident, IncidentState};
use firebreak_model::request::Asked;
use tracing::{Instrument, info_span};

use super::Containment;
use super::candidate::Received;
use crate::answer::Answer;
use crate::failure::Failure;

impl Containment {
    pub(super) async fn on_approval(
        &self,
        id: &IncidentId,
        asked: Asked,
        received: Received<'_>,
    ) -> Result<Answer, Failure> {
        if let Some(pause) = self.ledger.paused().await? {
            let Asked { by, .. } = &asked;
            return Err(Failure::Refused(format!(
                "containment is paused since {} by `{}`: `resume` first, then `{by}` can approve",
                pause.since, pause.by
            )));
        }
        let approval = Approval {
            at: received.now,
            by: asked.by,
            reason: asked.reason,
            invocation: received.invocation.to_owned(),
        };
        let change = |mut now: Incident| match now.state {
            IncidentState::AwaitingApproval => {
                now.state = IncidentState::Ordered;
                now.unvetted = true;
                now.decision = Decision::Act;
                now.ordered_at = Some(received.now);
                now.approval = Some(approval.clone());
                now.updated_at = received.now;
                Ok(Some(now))
            }
            IncidentState::Ordered => Ok(None),
            state => Err(Failure::Refused(format!("the incident is `{state}`: there is nothing to approve"))),
        };
        let incident = self.ledger.update(id, change).await?;
        let incident = incident.ok_or_else(|| Failure::Refused(format!("there is no incident `{id}`")))?;
        let span = info_span!("approve", incident.id = %id);
        self.go_on(incident).instrument(span).await
    }
}
