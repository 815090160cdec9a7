//! Many incidents at once: which are open, and the release of all that were ordered since a time.

use firebreak_model::action::FunctionName;
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
const READ_AT_ONCE: usize = 8;

/// So many are begun before IAM is given the time to propagate their revocations, then completed.
const TOGETHER: usize = 24;

/// So many are released at the same time: IAM takes low tens of changes a second.
const AT_ONCE: usize = 4;

/// When no further release is begun: the function's time is nearly over, and what is left is told.
const PATIENCE: SignedDuration = SignedDuration::from_mins(7);

impl Releasing {
    /// What is open: every incident that is not released, the oldest first, and which of its steps stand.
    pub(super) async fn list(&self) -> Result<Answer, Failure> {
        let mut ids = self.ledger.open().await?;
        let more = ids.len().saturating_sub(MOST);
        ids.truncate(MOST);
        let entries = stream::iter(ids).map(|id| self.entry(id)).buffered(READ_AT_ONCE).collect::<Vec<_>>().await;
        let incidents = entries.into_iter().collect::<Result<Vec<_>, _>>()?;
        let said = match (more, incidents.len()) {
            (0, 1) => "1 incident is open".to_owned(),
            (0, count) => format!("{count} incidents are open"),
            (more, _) => format!("the oldest {MOST} are shown, {more} more are open"),
        };
        let said = match self.ledger.paused().await? {
            Some(pause) => format!("{said}; PAUSED since {} by {}: {}", pause.since, pause.by, pause.reason),
            None => said,
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
        let mut owners = incident.plan.owners();
        // Evidence contains nobody.
        owners.remove(&FunctionName::SnapshotLogs);
        let (steps, refused) = self.ledger.steps_and_refused(&incident, owners).await?;
        let stands = |state| matches!(state, StepState::Applied | StepState::Intended | StepState::Failed);
        let standing = steps.iter().filter(|step| stands(step.state));
        let standing = standing.map(|step| format!("{} {}", step.step, step.state)).collect();
        let message = (!refused.is_empty()).then(|| format!("{} records of its steps are refused", refused.len()));
        Ok(IncidentAnswer { standing, message, ..IncidentAnswer::of(&incident) })
    }

    /// Releases every incident that was ordered at or after a time, the oldest first. Those that fail are told, and keep
    /// none of the others back.
    pub(super) async fn since(&self, many: ReleaseSince, asked: &Asked, invocation: &str) -> Result<Answer, Failure> {
        let until = clock::now().saturating_add(PATIENCE).unwrap_or(Timestamp::MAX);
        let ids = self.ledger.open().await?;
        let read = stream::iter(ids).map(async |id| (self.ledger.incident(&id).await, id)).buffered(READ_AT_ONCE);
        let mut ended = Ended::default();
        let mut meant = Vec::new();
        for (incident, id) in read.collect::<Vec<_>>().await {
            match incident {
                Ok(Some(incident)) if incident.state == IncidentState::AwaitingApproval => ended.waiting += 1,
                Ok(Some(incident)) if is_meant(&incident, many) => meant.push(incident),
                Ok(_) => {}
                Err(error) => ended.failed.push(IncidentAnswer::unknown(id, &chain(&error))),
            }
        }
        // A batch at a time: where there is not enough time for all, what was begun is completed, and asking again goes on.
        for batch in meant.chunks(TOGETHER) {
            if clock::now() > until {
                let turn = |incident| IncidentAnswer::of(incident).saying("its turn did not come: ask again");
                ended.failed.extend(batch.iter().map(turn));
                continue;
            }
            self.release_batch(batch, many, asked, invocation, &mut ended).await;
        }
        ended.conclude()
    }

    /// Releases some: all are begun before the first is completed, so that IAM is waited for once.
    async fn release_batch(
        &self,
        batch: &[Incident],
        many: ReleaseSince,
        asked: &Asked,
        invocation: &str,
        ended: &mut Ended,
    ) {
        let start = async |incident: &Incident| {
            let release = Release {
                incident_id: incident.incident_id.clone(),
                reactivate_keys: Vec::new(),
                without_revocation: many.without_revocation,
            };
            let span = info_span!("release", incident.id = %release.incident_id);
            let begun = Box::pin(self.begin(&release, asked.clone(), invocation)).instrument(span).await;
            begun.map_err(|failure| IncidentAnswer::of(incident).saying(failure.to_string()))
        };
        let begun = stream::iter(batch).map(start).buffered(AT_ONCE).collect::<Vec<_>>().await;
        if begun.iter().flatten().any(|one| one.waits) {
            tokio::time::sleep(self.lead).await;
        }
        let finish = async |started: Result<Begun, IncidentAnswer>| {
            let begun = started?;
            let entry = IncidentAnswer::of(&begun.incident);
            let span = info_span!("release", incident.id = %begun.incident.incident_id);
            match Box::pin(self.complete(begun)).instrument(span).await {
                Ok(answer) => {
                    let said = answer.message.unwrap_or_default();
                    Ok(IncidentAnswer { state: answer.outcome, ..entry.saying(said) })
                }
                Err(failure) => Err(entry.saying(failure.to_string())),
            }
        };
        let completed = stream::iter(begun).map(finish).buffered(AT_ONCE).collect::<Vec<_>>().await;
        for one in completed {
            match one {
                Ok(entry) => ended.released.push(entry),
                Err(entry) => ended.failed.push(entry),
            }
        }
    }
}

/// How a release of many ended.
#[derive(Debug, Default)]
struct Ended {
    released: Vec<IncidentAnswer>,
    failed: Vec<IncidentAnswer>,
    /// How many wait for a person, and contain nobody.
    waiting: usize,
}

impl Ended {
    /// The answer; partial success is failure.
    fn conclude(self) -> Result<Answer, Failure> {
        let all = self.released.len() + self.failed.len();
        let waiting = match self.waiting {
            0 => String::new(),
            waiting => format!("; {waiting} more wait for approval, contain nobody, and are left so"),
        };
        if self.failed.is_empty() {
            let said = format!("{all} incidents are released{waiting}");
            return Ok(Answer { incidents: self.released, ..Answer::of("released") }.saying(said));
        }
        warn!("{} of {all} incidents could not be released", self.failed.len());
        let line = |entry: &IncidentAnswer| {
            let said = entry.message.as_deref().unwrap_or_default();
            format!("{} ({}): {said}", entry.incident_id, entry.principal)
        };
        let left: Vec<String> = self.failed.iter().map(line).collect();
        let text = format!("{} of {all} incidents are released{waiting}; ask again for the rest", self.released.len());
        Err(Failure::Transient(format!("{text}: {}", left.join("; "))))
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::testing::role_order;

    #[test]
    fn what_was_ordered_since_is_meant_and_drills_only_when_asked_for() {
        let (ordered, _) = role_order("orders");
        let since =
            |text: &str| ReleaseSince { since: text.parse().unwrap(), drills: false, without_revocation: false };
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
        let ended = |failed| Ended { released: vec![IncidentAnswer::of(&incident)], failed, waiting: 3 };
        let answer = ended(Vec::new()).conclude().unwrap();
        assert_eq!(answer.incidents.len(), 1);
        let said = answer.message.unwrap();
        assert!(said.starts_with("1 incidents are released; 3 more wait for approval"), "{said}");
        let failed = IncidentAnswer::unknown("fb-000000000000000000000000".parse().unwrap(), "forged");
        let text = ended(vec![failed]).conclude().unwrap_err().to_string();
        assert!(text.starts_with("1 of 2 incidents are released") && text.contains("fb-0000"), "{text}");
        assert!(text.contains("3 more wait for approval"), "{text}");
    }
}
