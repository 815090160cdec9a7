//! From a claimed incident to its end: held to the guard rails, asked about, denied, pinned, or withheld.

use firebreak_model::guard::{Rails, Veto};
use firebreak_model::ledger::{Incident, IncidentState};
use tracing::warn;

use super::{Containment, Opened, Read, ladder, shared_role};
use crate::action::ActionError;
use crate::answer::Answer;
use crate::clock;
use crate::failure::Failure;
use crate::identity;
use crate::ledger::Claimed;
use crate::telemetry::chain;

impl Containment {
    /// Goes on with an incident that is on record, held to the guard rails of what it is by now.
    pub(super) async fn go_on(&self, incident: Incident) -> Result<Answer, Failure> {
        let principal = &incident.principal;
        let (identity, usage) = tokio::join!(identity::read(&self.iam, &principal.name), self.usage(principal));
        let read = Read { identity, usage: usage?, finding: None };
        let rails = self.rails_of(&incident);
        Box::pin(self.carry_on(incident, read, rails, None)).await
    }

    /// From a claimed incident and what was read of its principal to the end.
    pub(super) async fn carry_on(
        &self,
        incident: Incident,
        read: Read<'_>,
        rails: Rails<'_>,
        opened: Option<Opened<'_>>,
    ) -> Result<Answer, Failure> {
        let Read { identity, usage, finding } = read;
        let usage = usage.as_ref();
        let id = incident.incident_id.clone();
        let open = matches!(incident.state, IncidentState::Ordered | IncidentState::AwaitingApproval);
        if !open {
            return Ok(Answer::on(incident.state.as_str(), &id, &[]).saying(incident.reason));
        }
        let checked = match identity {
            Ok(identity) => rails.on_identity(&incident.principal, &identity).map(|()| identity),
            Err(error @ ActionError::Gone { .. }) => Err(Veto(chain(&error))),
            Err(error) => return Err(error.into()),
        };
        let identity = match checked {
            Ok(identity) => identity,
            Err(veto) => return self.withhold(&incident, opened, &veto).await,
        };
        let fresh = opened.is_some_and(|opened| opened.fresh);
        let held = match usage {
            Some(usage) => self.ask_first(&incident, opened, usage).await?,
            None => None,
        };
        let is_held = held.is_some();
        let incident = held.unwrap_or(incident);
        if !matches!(incident.state, IncidentState::Ordered | IncidentState::AwaitingApproval) {
            return Ok(Answer::on(incident.state.as_str(), &id, &[]).saying(incident.reason));
        }
        let deny = async {
            if incident.state == IncidentState::AwaitingApproval {
                return Ok(None);
            }
            // What was denied without a record is looked for first.
            let untouched = fresh && !self.outage.has_denied(&id);
            Box::pin(self.quarantine(&incident, untouched)).await.map(Some)
        };
        // Beside the deny: the others wait for it, and not for an IAM that refuses the deny for long.
        let pin = async {
            let functions = self.functions_of(&incident, usage, rails).await;
            let found = functions.as_deref().unwrap_or_default();
            self.pin(&incident, opened, &identity, usage, found).await.map(|()| functions)
        };
        let (executed, pinned) = tokio::join!(biased; deny, pin);
        let (executed, functions) = (executed?, pinned?);
        let Some(executed) = executed else {
            if is_held {
                self.say_held_back(finding, &incident).await?;
            }
            functions?;
            // What was to be denied at once may have been, while the ledger did not answer.
            if opened.is_some_and(|opened| opened.claim.candidate.state == IncidentState::Ordered)
                && !is_held
                && let Some(answer) = self.adopt(&incident).await?
            {
                return Ok(answer);
            }
            return Ok(Answer::on("awaiting approval", &id, &[]).saying(incident.reason));
        };
        let answer = if executed.is_empty() {
            // What the plan holds, others do: their steps say how it went.
            Answer::on("ordered", &id, &[])
        } else {
            ladder::conclude(&incident, executed)?
        };
        functions?;
        Ok(match shared_role::who_else(&incident, usage).filter(|_| incident.is_asked_for()) {
            Some(text) => answer.also_saying(text),
            None => answer,
        })
    }

    /// Writes the next version of an incident. One that this invocation claimed unsealed is written from what was
    /// claimed, whether anything changes or not; where somebody wrote in between, it is claimed once more, so that
    /// nothing of the claim is lost.
    pub(super) async fn write(
        &self,
        incident: &Incident,
        opened: Option<Opened<'_>>,
        mut change: impl FnMut(Incident) -> Option<Incident>,
    ) -> Result<(), Failure> {
        if let Some(Opened { claim, unsealed: true, .. }) = opened {
            let mut claimed = incident.clone();
            for _ in 0..8 {
                let mut next = change(claimed.clone()).unwrap_or_else(|| claimed.clone());
                next.version = claimed.version + 1;
                if self.ledger.advance(&next).await? {
                    return Ok(());
                }
                match self.ledger.claim(claim).await? {
                    Claimed::Opened(again) | Claimed::TakenOver(again) => claimed = again,
                    Claimed::Widened(_) | Claimed::Joined(_) | Claimed::Stale(_) => break,
                }
            }
        }
        self.ledger.update(&incident.incident_id, |now| Ok::<_, Failure>(change(now))).await?;
        Ok(())
    }

    /// Seals what this invocation claimed unsealed.
    pub(super) async fn seal(&self, incident: &Incident, opened: Option<Opened<'_>>) -> Result<(), Failure> {
        if opened.is_some_and(|opened| opened.unsealed) {
            self.write(incident, opened, |_| None).await?;
        }
        Ok(())
    }

    /// Withholds an incident of which nothing was done yet. One that was begun stays as it is: its steps are to be
    /// released, whatever became of the principal since.
    async fn withhold(&self, incident: &Incident, opened: Option<Opened<'_>>, veto: &Veto) -> Result<Answer, Failure> {
        if !self.ledger.steps(incident, incident.plan.owners()).await?.is_empty() {
            let text = format!("incident `{}` is contained in part or whole, but now: {veto}", incident.incident_id);
            return Err(Failure::Refused(text));
        }
        warn!("withheld: {veto}");
        let change = |mut now: Incident| {
            if now.episode != incident.episode || now.state == IncidentState::Withheld {
                return Ok::<_, Failure>(None);
            }
            // The veto is about what it was: what another finding made of it meanwhile is held to rails of its own.
            if (now.drill, &now.principal) != (incident.drill, &incident.principal) {
                return Err(Failure::Transient(format!("not withheld, for it is another by now: {veto}")));
            }
            now.state = IncidentState::Withheld;
            now.reason = format!("{}; withheld: {veto}", now.reason);
            now.updated_at = clock::now();
            Ok(Some(now))
        };
        self.seal(incident, opened).await?;
        self.ledger.withhold(&incident.incident_id, change).await?;
        Ok(Answer::on("withheld", &incident.incident_id, &[]).saying(veto.to_string()))
    }
}
