//! Many incidents at once: which are open, and the release of all that were ordered since a time.

use std::time::Duration;

use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{Incident, IncidentState, StepState};
use firebreak_model::request::{Asked, Release, ReleaseSince};
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use tracing::{Instrument, info_span, warn};

use super::{Begun, Releasing};
use crate::answer::{Answer, IncidentAnswer};
use crate::clock;
use crate::failure::Failure;
use crate::telemetry::chain;

/// The most incidents that one answer lists.
const MOST: usize = 500;

/// So many are read at the same time.
const AT_ONCE: usize = 8;

/// When no further release is begun: the function's time is nearly over, and what is left is told.
const PATIENCE: SignedDuration = SignedDuration::from_mins(8);

impl Releasing {
    /// What is open: every incident that is not released, the oldest first, and which of its steps stand.
    pub(super) async fn list(&self) -> Result<Answer, Failure> {
        let mut ids = self.ledger.open().await?;
        let more = ids.len().saturating_sub(MOST);
        ids.truncate(MOST);
        let entries = stream::iter(ids).map(|id| self.entry(id)).buffered(AT_ONCE).collect::<Vec<_>>().await;
        let incidents = entries.into_iter().collect::<Result<Vec<_>, _>>()?;
        let said = match more {
            0 => format!("{} incidents are open", incidents.len()),
            more => format!("the oldest {MOST} are shown, {more} more are open"),
        };
        Ok(Answer { incidents, ..Answer::of("listed") }.saying(said))
    }

    async fn entry(&self, id: IncidentId) -> Result<IncidentAnswer, Failure> {
        let incident = match self.ledger.incident(&id).await {
            Ok(Some(incident)) => incident,
            Ok(None) => return Ok(IncidentAnswer::unknown(id, "it is not in the ledger any more")),
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => return Ok(IncidentAnswer::unknown(id, &chain(&error))),
        };
        let (steps, refused) = self.ledger.steps_and_refused(&incident, incident.plan.owners()).await?;
        let stands = |state| matches!(state, StepState::Applied | StepState::Intended | StepState::Failed);
        let standing = steps.iter().filter(|step| stands(step.state));
        let standing = standing.map(|step| format!("{} {}", step.step, step.state)).collect();
        let message = (!refused.is_empty()).then(|| format!("{} records of its steps are refused", refused.len()));
        Ok(IncidentAnswer { standing, message, ..IncidentAnswer::of(&incident) })
    }

    /// Releases every incident that was ordered at or after a time, one by one, the oldest first. Those that fail are
    /// told, and keep none of the others back.
    pub(super) async fn since(&self, many: ReleaseSince, asked: &Asked, invocation: &str) -> Result<Answer, Failure> {
        let until = clock::now().saturating_add(PATIENCE).unwrap_or(Timestamp::MAX);
        let mut told = Vec::new();
        let mut failed = Vec::new();
        let mut begun: Vec<Begun> = Vec::new();
        for id in self.ledger.open().await? {
            let incident = match self.ledger.incident(&id).await {
                Ok(Some(incident)) if is_meant(&incident, many) => incident,
                Ok(_) => continue,
                Err(error) => {
                    failed.push(IncidentAnswer::unknown(id, &chain(&error)));
                    continue;
                }
            };
            if clock::now() > until {
                failed.push(IncidentAnswer::of(&incident).saying("its turn did not come: ask again"));
                continue;
            }
            let without_revocation = many.without_revocation;
            let release = Release { incident_id: id.clone(), reactivate_keys: Vec::new(), without_revocation };
            let span = info_span!("release", incident.id = %id);
            match self.begin(&release, asked.clone(), invocation).instrument(span).await {
                Ok(one) => begun.push(one),
                Err(failure) => failed.push(IncidentAnswer::of(&incident).saying(failure.to_string())),
            }
        }
        // The revocations are all written: IAM needs its time only once.
        if begun.iter().any(|one| one.waits) {
            tokio::time::sleep(self.lead.min(Duration::from_mins(5))).await;
        }
        for one in begun {
            let entry = IncidentAnswer::of(&one.incident);
            if clock::now() > until {
                failed.push(entry.saying("it is begun, and its turn did not come: ask again"));
                continue;
            }
            let span = info_span!("release", incident.id = %one.incident.incident_id);
            match self.complete(one).instrument(span).await {
                Ok(answer) => told
                    .push(IncidentAnswer { state: answer.outcome, ..entry.saying(answer.message.unwrap_or_default()) }),
                Err(failure) => failed.push(entry.saying(failure.to_string())),
            }
        }
        conclude(told, &failed)
    }
}

/// Whether a release of many means this one: what was never ordered contains nobody, and a drill is asked for by name.
fn is_meant(incident: &Incident, many: ReleaseSince) -> bool {
    let contains = match incident.state {
        IncidentState::Ordered | IncidentState::Releasing => true,
        // Other functions may have begun before a guard rail came down.
        IncidentState::Withheld => incident.ordered_at.is_some(),
        IncidentState::AwaitingApproval | IncidentState::Released => false,
    };
    contains && incident.ordered_since() >= many.since && (many.drills || !incident.drill)
}

fn conclude(told: Vec<IncidentAnswer>, failed: &[IncidentAnswer]) -> Result<Answer, Failure> {
    let all = told.len() + failed.len();
    if failed.is_empty() {
        let said = format!("{all} incidents are released");
        return Ok(Answer { incidents: told, ..Answer::of("released") }.saying(said));
    }
    warn!("{} of {all} incidents could not be released", failed.len());
    let line = |entry: &IncidentAnswer| {
        let said = entry.message.as_deref().unwrap_or_default();
        format!("{} ({}): {said}", entry.incident_id, entry.principal)
    };
    let left: Vec<String> = failed.iter().map(line).collect();
    Err(Failure::Transient(format!(
        "{} of {all} incidents are released; ask again for the rest: {}",
        told.len(),
        left.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use firebreak_model::ids::IncidentId;

    use super::*;
    use crate::testing::role_order;

    #[test]
    fn what_was_ordered_since_is_meant_and_drills_only_when_asked_for() {
        let (ordered, _) = role_order("orders");
        let since = |text: &str| ReleaseSince {
            since: text.parse().unwrap_or(Timestamp::MAX),
            drills: false,
            without_revocation: false,
        };
        let at = since("2026-11-21T03:00:00Z");
        assert!(is_meant(&ordered, at), "the time itself counts");
        assert!(!is_meant(&ordered, since("2026-11-21T03:00:01Z")));
        let drill = Incident { drill: true, ..ordered.clone() };
        assert!(!is_meant(&drill, at));
        assert!(is_meant(&drill, ReleaseSince { drills: true, ..at }));
        for (state, meant) in [
            (IncidentState::Releasing, true),
            (IncidentState::Withheld, true),
            (IncidentState::AwaitingApproval, false),
            (IncidentState::Released, false),
        ] {
            assert_eq!(is_meant(&Incident { state, ..ordered.clone() }, at), meant, "{state}");
        }
        let raised = Incident { ordered_at: "2026-11-21T05:00:00Z".parse().ok(), ..ordered };
        assert!(is_meant(&raised, since("2026-11-21T04:00:00Z")), "the order counts, not the opening");
    }

    #[test]
    fn partial_success_is_failure_and_each_is_told() {
        let (incident, _) = role_order("orders");
        let one = || IncidentAnswer::of(&incident);
        assert!(matches!(conclude(vec![one()], &[]), Ok(answer) if answer.incidents.len() == 1));
        let other: Result<IncidentId, _> = "fb-000000000000000000000000".parse();
        let failed: Vec<_> = other.map(|id| IncidentAnswer::unknown(id, "forged")).into_iter().collect();
        let failure = conclude(vec![one()], &failed);
        let text = failure.err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(text.starts_with("1 of 2 incidents are released") && text.contains("fb-0000"), "{text}");
    }
}
