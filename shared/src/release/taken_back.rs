//! A release that stops at its first half is taken back: what is still contained is guarded again, and findings on it
//! are acted on. A release that nobody can bring to its end would otherwise leave a deny that nobody looks after.

use firebreak_model::action::FunctionName;
use firebreak_model::ledger::{Incident, IncidentState, StepState};
use jiff::Timestamp;
use tracing::{error, warn};

use super::Releasing;
use crate::clock;
use crate::failure::Failure;
use crate::telemetry::chain;

/// Whether nobody else can be carrying out a release of an incident that is found so: none is under way, or whoever
/// was at it last is dead by now.
pub(super) fn is_alone(found: &Incident, now: Timestamp) -> bool {
    found.state != IncidentState::Releasing || found.is_stranded(now)
}

impl Releasing {
    /// Has the incident be what it was before a release that could not revoke, unless anything was undone or somebody
    /// else is at it too. Answers the failure, with what became of the incident.
    pub(super) async fn take_back(&self, incident: &Incident, failure: Failure) -> Failure {
        let taken = match self.is_untouched(incident).await {
            Ok(false) => return failure,
            Ok(true) => {
                let why = failure.to_string();
                let change = |now: Incident| {
                    // Whoever joined has written it anew.
                    let same = now.version == incident.version;
                    Ok::<_, Failure>(now.taken_back(&why, clock::now()).filter(|_| same))
                };
                self.ledger.update(&incident.incident_id, change).await
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(Some(now)) if now.state != IncidentState::Releasing => {
                warn!("the release stopped, and is taken back: the incident is `{}` again", now.state);
                let state = now.state;
                failure.map(|text| {
                    format!("{text}; nothing is undone, the incident is `{state}` as before: ask again when it can be")
                })
            }
            Ok(_) => failure,
            Err(error) => {
                error!("the release stopped, and could not be taken back: {}", chain(&error));
                failure
            }
        }
    }

    /// Whether nothing of the containment was undone yet.
    async fn is_untouched(&self, incident: &Incident) -> Result<bool, Failure> {
        let mut owners = incident.plan.owners();
        owners.remove(&FunctionName::SnapshotLogs);
        let (steps, _) = self.ledger.steps_and_refused(incident, owners).await?;
        Ok(!steps.iter().any(|step| matches!(step.state, StepState::Reverted | StepState::LeftAlone)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ledger::{Record, ReleaseOrder, StepRecord};
    use jiff::SignedDuration;

    use super::super::tests::{releasing, request};
    use super::*;
    use crate::evidence::testing::{item, items};
    use crate::testing::{Answer, Wire, json_error, ok, release_order, role_order};

    fn stored(incident: &Incident) -> Answer {
        item(&Record::Incident(Box::new(incident.clone())))
    }

    /// The incident while a release is under way that began in `from`.
    fn under_way(incident: &Incident, from: IncidentState, updated_at: Timestamp) -> Incident {
        let release = ReleaseOrder { from: Some(from), ..release_order(updated_at) };
        let version = incident.version + 1;
        Incident { state: IncidentState::Releasing, release: Some(release), version, updated_at, ..incident.clone() }
    }

    fn last_put(wire: &Wire) -> String {
        wire.requests().into_iter().rfind(|request| request.contains(".PutItem")).unwrap()
    }

    #[tokio::test]
    async fn a_release_that_cannot_revoke_is_taken_back_to_what_was_there() {
        let (ordered, step) = role_order("orders");
        let applied = StepRecord { state: StepState::Applied, ..ordered.step_record(&step, ordered.opened_at) };
        let withheld = Incident { state: IncidentState::Withheld, ..ordered.clone() };
        for (before, state) in [(ordered.clone(), "ordered"), (withheld, "withheld")] {
            let running = under_way(&before, before.state, clock::now());
            let wire = Wire::answering([
                stored(&before),
                stored(&before),
                ok("{}"),
                json_error(429, "TooManyRequestsException"),
                items(&[Record::Step(Box::new(applied.clone()))]),
                stored(&running),
                ok("{}"),
            ]);
            let failure = releasing(&wire, Some("revoke")).handle(&request(&before, false), "i").await.unwrap_err();
            let says = format!("nothing is undone, the incident is `{state}` as before");
            assert!(matches!(&failure, Failure::Transient(text) if text.contains(&says)), "{failure}");
            let put = last_put(&wire);
            assert!(put.contains(&format!(r#""state":{{"S":"{state}"}}"#)) && put.contains(r#""stopped":"#), "{put}");
            assert!(!put.contains(r#""release":"#) && put.contains(r#":before":{"N":"2"}"#), "{put}");
            assert_eq!(wire.unused(), 0, "{:?}", wire.requests());
        }
    }

    #[tokio::test]
    async fn what_is_undone_in_part_or_in_the_hands_of_another_is_not_taken_back() {
        let (ordered, step) = role_order("orders");
        let of = |state| Record::Step(Box::new(StepRecord { state, ..ordered.step_record(&step, ordered.opened_at) }));
        let throttled = || json_error(429, "TooManyRequestsException");
        let minutes_ago = |minutes| clock::now() - SignedDuration::from_mins(minutes);
        let dead = under_way(&ordered, IncidentState::Ordered, minutes_ago(16));
        let alive = under_way(&ordered, IncidentState::Ordered, minutes_ago(14));
        let joined = Incident { version: 9, ..dead.clone() };
        let after = |found: &Incident| Incident { version: found.version + 1, ..found.clone() };
        for (what, found, rest, puts) in [
            ("somebody may be at it", &alive, vec![], 1),
            ("a step was undone", &dead, vec![items(&[of(StepState::Reverted)])], 1),
            ("somebody joined", &dead, vec![items(&[of(StepState::Applied)]), stored(&joined)], 1),
            (
                "whoever began is dead",
                &dead,
                vec![items(&[of(StepState::Applied)]), stored(&after(&dead)), ok("{}")],
                2,
            ),
        ] {
            let wire = Wire::answering([vec![stored(found), stored(found), ok("{}"), throttled()], rest].concat());
            let end = releasing(&wire, Some("revoke")).handle(&request(&ordered, false), "j").await;
            assert!(matches!(end, Err(Failure::Transient(_))), "{what}: {end:?}");
            let written = wire.requests().iter().filter(|request| request.contains(".PutItem")).count();
            assert_eq!((written, wire.unused()), (puts, 0), "{what}: {:?}", wire.requests());
        }
    }
}
