//! Outcome events: what a change in the ledger means to the other functions and to people.

use serde::Serialize;
use serde_json::{Value, json};

use crate::SCHEMA;
use crate::action::named;
use crate::decision::Decision;
use crate::ids::IncidentId;
use crate::ledger::{ChainRecord, Incident, IncidentState, Record, StepState};
use crate::watch::{Standing, Watch};

/// The source of our events. Anyone who may put events can forge one: an event carries an id, never an order.
pub const SOURCE: &str = "firebreak";

named!(
    /// The `detail-type` of an outcome event.
    OutcomeKind {
        /// An incident's plan is in force, or grew.
        ContainmentOrdered = "Containment Ordered",
        /// A person must approve.
        ApprovalRequested = "Approval Requested",
        /// A guard rail vetoed a containment.
        ContainmentWithheld = "Containment Withheld",
        /// A step came to an end.
        StepRecorded = "Step Recorded",
        /// Sessions were found that were made from stolen ones, or the search for them came to its end.
        SessionsTraced = "Sessions Traced",
        /// A release began.
        ReleaseStarted = "Release Started",
        /// A release stopped before anything was undone.
        ReleaseStopped = "Release Stopped",
        /// A release is done.
        ContainmentReleased = "Containment Released",
        /// A finding was recorded that a person should know of.
        FindingNoted = "Finding Noted",
        /// New containments are stopped.
        ContainmentPaused = "Containment Paused",
        /// New containments may begin again.
        ContainmentResumed = "Containment Resumed",
        /// A record was refused: it is not as one of our functions wrote it.
        RecordRefused = "Record Refused",
        /// A containment held at every re-check, and CloudTrail shows no call since.
        ContainmentSettled = "Containment Settled",
        /// A containment does not hold wholly, or the principal made calls in spite of it.
        ContainmentUnsettled = "Containment Unsettled",
        /// Something of a containment was found undone: its owners put it back.
        ContainmentUndone = "Containment Undone",
        /// Somebody acted against a containment, or against Firebreak itself.
        TamperingFound = "Tampering Found",
        /// Parts of Firebreak are missing or changed, or all are there again.
        PartsChanged = "Parts Changed",
    }
);

/// An outcome event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Its `detail-type`.
    pub kind: OutcomeKind,
    /// Its `detail`: an id, and hints that nobody believes.
    pub detail: Value,
}

fn of_incident(kind: OutcomeKind, incident: &Incident) -> Outcome {
    let carried_out = if incident.unvetted { &[] } else { incident.response.as_slice() };
    let detail = json!({
        "schema": SCHEMA,
        "incident_id": incident.incident_id,
        "episode": incident.episode,
        "state": incident.state,
        "responses": carried_out,
    });
    Outcome { kind, detail }
}

/// The events that a change of one ledger record gives rise to.
pub fn outcomes(old: Option<&Record>, new: Option<&Record>) -> Vec<Outcome> {
    match (old, new) {
        (old, Some(Record::Incident(new))) => {
            let old = match old {
                Some(Record::Incident(old)) => Some(old.as_ref()),
                _ => None,
            };
            release_stopped(old, new).into_iter().chain(incident_outcome(old, new)).collect()
        }
        (old, Some(Record::Step(new))) => {
            let same = matches!(old, Some(Record::Step(old)) if old.state == new.state && old.episode == new.episode);
            if same || new.state == StepState::Intended {
                return Vec::new();
            }
            let mut detail = json!({
                "schema": SCHEMA,
                "incident_id": new.incident_id,
                "episode": new.episode,
                "step": new.step,
                "state": new.state,
            });
            if let (Some(refused), Some(detail)) = (new.refused, detail.as_object_mut()) {
                detail.insert("refused".to_owned(), json!(refused));
            }
            vec![Outcome { kind: OutcomeKind::StepRecorded, detail }]
        }
        (old, Some(Record::Chain(new))) => {
            let told = |r: &ChainRecord| (r.sessions.len(), r.gaps.clone(), r.settled_at.is_some());
            let same = matches!(old, Some(Record::Chain(old)) if told(old) == told(new));
            // That nobody chained anything is no news until it is certain.
            if same || (old.is_none() && new.sessions.is_empty() && new.settled_at.is_none()) {
                return Vec::new();
            }
            let detail = json!({
                "schema": SCHEMA,
                "incident_id": new.incident_id,
                "episode": new.episode,
                "sessions": new.sessions.len(),
            });
            vec![Outcome { kind: OutcomeKind::SessionsTraced, detail }]
        }
        (None, Some(Record::Finding(new))) if new.effective == Decision::Notify => {
            let detail = json!({
                "schema": SCHEMA,
                "incident_id": new.incident_id,
                "finding_key": new.finding_key,
                "subject": new.subject(),
            });
            vec![Outcome { kind: OutcomeKind::FindingNoted, detail }]
        }
        (None, Some(Record::Forgery(new))) => {
            let detail = json!({"schema": SCHEMA, "incident_id": new.incident_id, "digest": new.digest});
            vec![Outcome { kind: OutcomeKind::RecordRefused, detail }]
        }
        (None, Some(Record::Pause(_))) => {
            vec![Outcome { kind: OutcomeKind::ContainmentPaused, detail: json!({"schema": SCHEMA}) }]
        }
        (Some(Record::Pause(_)), None) => {
            vec![Outcome { kind: OutcomeKind::ContainmentResumed, detail: json!({"schema": SCHEMA}) }]
        }
        (old, Some(Record::Watch(new))) => {
            let old = match old {
                Some(Record::Watch(old)) => Some(old.as_ref()),
                _ => None,
            };
            watch_outcome(old, new).into_iter().collect()
        }
        (None, Some(Record::Tamper(new))) => {
            let kind = if new.owners.is_empty() { OutcomeKind::TamperingFound } else { OutcomeKind::ContainmentUndone };
            let detail = json!({
                "schema": SCHEMA,
                "incident_id": new.incident_id,
                "episode": new.episode,
                "owners": new.owners,
                "subject": new.subject(),
                "tamper": new.key,
            });
            vec![Outcome { kind, detail }]
        }
        (old, Some(Record::Parts(new))) => {
            let before = match old {
                Some(Record::Parts(old)) => old.missing.as_slice(),
                _ => &[],
            };
            if before == new.missing {
                return Vec::new();
            }
            let detail = json!({"schema": SCHEMA, "missing": new.missing.len()});
            vec![Outcome { kind: OutcomeKind::PartsChanged, detail }]
        }
        _ => Vec::new(),
    }
}

/// A watch is announced when something else may be said of the containment; that it is watched is no news.
fn watch_outcome(old: Option<&Watch>, new: &Watch) -> Option<Outcome> {
    let found = |watch: &Watch| watch.checks.last().map(|check| check.found.clone());
    let same = old.is_some_and(|old| {
        // What a release left is all there is to tell, each time that it is another.
        let left = new.standing != Standing::Stranded || (old.since == new.since && found(old) == found(new));
        old.standing == new.standing && old.episode == new.episode && left
    });
    let kind = match new.standing {
        Standing::Settled => OutcomeKind::ContainmentSettled,
        Standing::Partial | Standing::CannotContain | Standing::Unproven | Standing::Stranded => {
            OutcomeKind::ContainmentUnsettled
        }
        // The record of the tampering says so.
        Standing::Undone | Standing::Watching => return None,
    };
    let detail = json!({
        "schema": SCHEMA,
        "incident_id": new.incident_id,
        "episode": new.episode,
        "standing": new.standing,
    });
    (!same).then_some(Outcome { kind, detail })
}

/// What is in force again is ordered once more besides: whoever looks after it begins anew.
fn release_stopped(old: Option<&Incident>, new: &Incident) -> Option<Outcome> {
    let was_releasing = old.is_some_and(|old| old.state == IncidentState::Releasing && old.episode == new.episode);
    let goes_on = matches!(new.state, IncidentState::Releasing | IncidentState::Released);
    (was_releasing && !goes_on).then(|| of_incident(OutcomeKind::ReleaseStopped, new))
}

fn incident_outcome(old: Option<&Incident>, new: &Incident) -> Option<Outcome> {
    let same_state = old.is_some_and(|old| old.state == new.state && old.episode == new.episode);
    // A person who asks again has the order go out again: it may have been lost on its way.
    let same_plan = old.is_some_and(|old| old.plan == new.plan);
    // It is ordered once when it is claimed, for whoever watches, and for whoever acts when the guard rails have passed it.
    let same_order =
        same_plan && old.is_some_and(|old| old.approval == new.approval && (new.unvetted || !old.unvetted));
    let kind = match new.state {
        IncidentState::Ordered if same_state && same_order => return None,
        IncidentState::Ordered => OutcomeKind::ContainmentOrdered,
        // What an approval would do is more than was asked about.
        IncidentState::AwaitingApproval if same_state && !same_plan => OutcomeKind::ApprovalRequested,
        _ if same_state => return None,
        IncidentState::AwaitingApproval => OutcomeKind::ApprovalRequested,
        IncidentState::Withheld => OutcomeKind::ContainmentWithheld,
        IncidentState::Releasing => OutcomeKind::ReleaseStarted,
        IncidentState::Released => OutcomeKind::ContainmentReleased,
    };
    Some(of_incident(kind, new))
}

/// The incident that an outcome event points at: the only thing taken from it.
pub fn incident_id(event: &Value) -> Option<IncidentId> {
    event.pointer("/detail/incident_id")?.as_str()?.parse().ok()
}

/// Whether an event tells of an order of which nothing may be carried out yet.
pub fn orders_nothing(event: &Value) -> bool {
    event.pointer("/detail/responses").and_then(Value::as_array).is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Approval;
    use crate::ledger::tests::incident;

    fn record(incident: &Incident) -> Record {
        Record::Incident(Box::new(incident.clone()))
    }

    fn kinds(old: Option<&Record>, new: Option<&Record>) -> Vec<OutcomeKind> {
        outcomes(old, new).into_iter().map(|o| o.kind).collect()
    }

    #[test]
    fn each_state_is_announced_once() {
        let ordered = incident(Decision::Act);
        let releasing = Incident { state: IncidentState::Releasing, version: 2, ..ordered.clone() };
        let touched = Incident { version: 3, ..ordered.clone() };
        assert_eq!(kinds(None, Some(&record(&ordered))), [OutcomeKind::ContainmentOrdered]);
        assert_eq!(kinds(Some(&record(&ordered)), Some(&record(&touched))), []);
        assert_eq!(kinds(Some(&record(&ordered)), Some(&record(&releasing))), [OutcomeKind::ReleaseStarted]);
        let back = Incident { version: 4, ..ordered.clone() };
        let both = [OutcomeKind::ReleaseStopped, OutcomeKind::ContainmentOrdered];
        assert_eq!(kinds(Some(&record(&releasing)), Some(&record(&back))), both);
        let released = Incident { state: IncidentState::Released, ..back.clone() };
        assert_eq!(kinds(Some(&record(&releasing)), Some(&record(&released))), [OutcomeKind::ContainmentReleased]);
        let waiting = incident(Decision::Approve);
        assert_eq!(kinds(None, Some(&record(&waiting))), [OutcomeKind::ApprovalRequested]);
        assert_eq!(kinds(Some(&record(&waiting)), Some(&record(&ordered))), [OutcomeKind::ContainmentOrdered]);
    }

    #[test]
    fn an_order_names_what_to_carry_out_once_the_guard_rails_have_passed_it() {
        let passed = incident(Decision::Act);
        let claimed = Incident { unvetted: true, ..passed.clone() };
        let (claimed, passed) = (record(&claimed), record(&passed));
        let said = |old, new| {
            let outcomes = outcomes(old, Some(new));
            outcomes.into_iter().map(|outcome| (outcome.kind, outcome.detail["responses"].clone())).collect::<Vec<_>>()
        };
        let all = json!(["quarantine", "snapshot"]);
        assert_eq!(said(None, &claimed), [(OutcomeKind::ContainmentOrdered, json!([]))]);
        assert_eq!(said(Some(&claimed), &claimed), []);
        assert_eq!(said(Some(&claimed), &passed), [(OutcomeKind::ContainmentOrdered, all)]);
        assert_eq!(said(Some(&passed), &passed), []);
    }

    #[test]
    fn a_grown_plan_is_announced_again_and_a_new_episode_too() {
        let ordered = incident(Decision::Act);
        let mut grown = Incident { version: 2, ..ordered.clone() };
        grown.plan.steps.reverse();
        assert_eq!(kinds(Some(&record(&ordered)), Some(&record(&grown))), [OutcomeKind::ContainmentOrdered]);
        let approval = Approval {
            at: ordered.opened_at,
            by: "ana".into(),
            reason: "nothing happens".into(),
            invocation: "i".into(),
        };
        let asked_again = Incident { approval: Some(approval), version: 2, ..ordered.clone() };
        assert_eq!(kinds(Some(&record(&ordered)), Some(&record(&asked_again))), [OutcomeKind::ContainmentOrdered]);
        let waiting = incident(Decision::Approve);
        let mut wider = Incident { version: 2, ..waiting.clone() };
        assert_eq!(kinds(Some(&record(&waiting)), Some(&record(&wider))), []);
        wider.plan.steps.reverse();
        assert_eq!(kinds(Some(&record(&waiting)), Some(&record(&wider))), [OutcomeKind::ApprovalRequested]);
        let again = Incident { episode: 2, ..ordered.clone() };
        assert_eq!(kinds(Some(&record(&ordered)), Some(&record(&again))), [OutcomeKind::ContainmentOrdered]);
    }

    #[test]
    fn what_a_release_left_is_announced_once_and_again_when_it_is_another() {
        use crate::watch::{Found, Pace, StepLook};
        let incident = Incident { state: IncidentState::Releasing, ..incident(Decision::Act) };
        let at = incident.opened_at;
        let begun = Watch::of(&incident, &Pace { rechecks: vec![5], trail_lag: 0 }, at);
        let left = |found| [StepLook { step: "quarantine-role@role/orders".to_owned(), found }];
        let announced = |old: &Watch, new: &Watch| {
            let of = |watch: &Watch| Record::Watch(Box::new(watch.clone()));
            kinds(Some(&of(old)), Some(&of(new))) == [OutcomeKind::ContainmentUnsettled]
        };
        let held = begun.stranded(&incident, &left(Found::InForce), at);
        let same = held.stranded(&incident, &left(Found::InForce), at);
        let gone = same.stranded(&incident, &left(Found::Gone("nothing is attached".to_owned())), at);
        let later = Incident { updated_at: at + jiff::SignedDuration::from_hours(1), ..incident.clone() };
        let anew = same.stranded(&later, &left(Found::InForce), at);
        assert!(announced(&begun, &held) && announced(&same, &gone) && announced(&same, &anew));
        assert!(!announced(&held, &same));
    }

    #[test]
    fn a_step_is_announced_when_it_came_to_an_end() {
        let incident = incident(Decision::Act);
        let mut step = incident.step_record(&incident.plan.steps[0], incident.opened_at);
        let intended = Record::Step(Box::new(step.clone()));
        step.state = StepState::Applied;
        let applied = Record::Step(Box::new(step));
        assert_eq!(kinds(None, Some(&intended)), []);
        assert_eq!(kinds(Some(&intended), Some(&applied)), [OutcomeKind::StepRecorded]);
        assert_eq!(kinds(Some(&applied), Some(&applied)), []);
    }

    #[test]
    fn only_the_id_is_taken_from_an_event_and_only_a_well_formed_one() {
        let id = incident(Decision::Act).incident_id;
        assert_eq!(incident_id(&json!({"detail": {"incident_id": id.clone()}})), Some(id));
        for forged in [json!({"detail": {"incident_id": "fb-../x"}}), json!({}), json!({"detail": []})] {
            assert_eq!(incident_id(&forged), None);
        }
    }
}
