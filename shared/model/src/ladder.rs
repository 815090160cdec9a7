//! The ladder of a quarantine: which rung follows one that was refused for good, and which of those on record holds.
//!
//! The plan says what is to be reached; the rungs below the planned one are steps of the same owner, on record only
//! where they were tried. Each is looked at, and undone, by itself.

use crate::action::{ActionId, named};
use crate::ledger::{StepRecord, StepState};
use crate::plan::Step;

named!(
    /// Why a rung was refused for good: another try of the same call changes nothing.
    Refusal {
        /// A quota is full.
        Quota = "quota",
        /// An SCP, or anything else that Firebreak's role meets, denies the call.
        Denied = "denied",
        /// The policy does not exist any more.
        PolicyGone = "policy-gone",
        /// The call was accepted, and what it should have changed does not show.
        NotShown = "not-shown",
        /// AWS refuses the call as it stands.
        Rejected = "rejected",
    }
);

/// The rungs that stand under a planned action, from the top; only the action itself where it has no ladder.
fn rungs(top: ActionId) -> &'static [ActionId] {
    match top {
        ActionId::QuarantineRole => &[ActionId::QuarantineRole, ActionId::BoundRole],
        ActionId::QuarantineUser => &[ActionId::QuarantineUser, ActionId::BoundUser],
        _ => &[],
    }
}

/// The action on top of the ladder that this one is a rung of.
pub fn top(action: ActionId) -> Option<ActionId> {
    [ActionId::QuarantineRole, ActionId::QuarantineUser].into_iter().find(|top| rungs(*top).contains(&action))
}

/// The rung below an action.
pub fn below(action: ActionId) -> Option<ActionId> {
    let rungs = rungs(top(action)?);
    let at = rungs.iter().position(|rung| *rung == action)?;
    rungs.get(at + 1).copied()
}

/// What is to be tried in place of a rung that ended so: the one below, where this one was refused for good.
pub fn next(record: &StepRecord) -> Option<Step> {
    if record.state != StepState::Failed {
        return None;
    }
    record.refused?;
    Some(Step { action: below(record.action)?, target: record.target.clone() })
}

/// Every rung of a step that is in force, from the top: one that was reached while the others were refused stays.
pub fn in_force<'a>(step: &Step, records: &'a [StepRecord]) -> Vec<&'a StepRecord> {
    let single = [step.action];
    let rungs = match rungs(step.action) {
        [] => single.as_slice(),
        several => several,
    };
    let applied = |record: &&StepRecord| record.target == step.target && record.state == StepState::Applied;
    rungs.iter().filter_map(|rung| records.iter().filter(applied).find(|record| record.action == *rung)).collect()
}

/// How a step of a plan stands, with the rungs below it.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing<'a> {
    /// Nothing is on record.
    NotBegun,
    /// A rung was refused, and the one below it is not on record yet or not verified.
    UnderWay,
    /// This rung is in force.
    Held(&'a StepRecord),
    /// This rung ended otherwise, and none is in force.
    Ended(&'a StepRecord),
    /// Every rung was refused, from the top.
    Refused(Vec<&'a StepRecord>),
}

impl<'a> Standing<'a> {
    /// Reads it from what is on record.
    pub fn of(step: &Step, records: &'a [StepRecord]) -> Self {
        let on_record = |action: ActionId| records.iter().find(|r| r.action == action && r.target == step.target);
        let single = [step.action];
        let rungs = match rungs(step.action) {
            [] => single.as_slice(),
            several => several,
        };
        let all: Vec<Option<&StepRecord>> = rungs.iter().map(|rung| on_record(*rung)).collect();
        // Whatever became of the others since: one that is in force contains.
        if let Some(held) = all.iter().flatten().find(|record| record.state == StepState::Applied) {
            return Self::Held(held);
        }
        let mut refused = Vec::new();
        for record in all {
            match record {
                None if refused.is_empty() => return Self::NotBegun,
                None => return Self::UnderWay,
                Some(record) if record.state == StepState::Intended && !refused.is_empty() => return Self::UnderWay,
                Some(record) if record.state == StepState::Failed && record.refused.is_some() => refused.push(record),
                Some(record) => return Self::Ended(record),
            }
        }
        match refused.as_slice() {
            [only] if top(only.action).is_none() => Self::Ended(only),
            _ => Self::Refused(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::decision::Decision;
    use crate::ledger::tests::incident;

    fn record(action: ActionId, state: StepState, refused: Option<Refusal>) -> StepRecord {
        let incident = incident(Decision::Act);
        let step = Step { action, target: (&incident.principal.name).into() };
        StepRecord { state, refused, ..incident.step_record(&step, incident.opened_at) }
    }

    fn planned() -> Step {
        incident(Decision::Act).plan.steps.first().unwrap().clone()
    }

    #[test]
    fn only_what_was_refused_for_good_gives_way_to_the_rung_below() {
        for &refusal in Refusal::ALL {
            let next = next(&record(ActionId::QuarantineRole, StepState::Failed, Some(refusal))).unwrap();
            assert_eq!(next.key(), "bound-role@role/orders");
            assert_eq!(super::next(&record(ActionId::BoundRole, StepState::Failed, Some(refusal))), None);
        }
        for &state in StepState::ALL {
            assert_eq!(next(&record(ActionId::QuarantineRole, state, None)), None, "{state}");
            if state != StepState::Failed {
                let record = record(ActionId::QuarantineRole, state, Some(Refusal::Quota));
                assert_eq!(next(&record), None, "{state}");
            }
        }
        assert_eq!(below(ActionId::QuarantineUser), Some(ActionId::BoundUser));
        let without = ActionId::ALL.iter().filter(|action| top(**action).is_none());
        assert!(without.clone().all(|action| below(*action).is_none()) && without.count() > 5);
    }

    #[test]
    fn every_rung_has_one_owner() {
        for top in [ActionId::QuarantineRole, ActionId::QuarantineUser] {
            assert!(rungs(top).iter().all(|rung| rung.owner() == top.owner()));
        }
    }

    #[test]
    fn a_step_stands_as_its_rungs_do() {
        use StepState::{Applied, Failed, Gone, Intended};
        let quarantine = |state, refused| record(ActionId::QuarantineRole, state, refused);
        let bound = |state, refused| record(ActionId::BoundRole, state, refused);
        let (quota, denied) = (Some(Refusal::Quota), Some(Refusal::Denied));
        for (records, wanted) in [
            (vec![], "not begun"),
            (vec![quarantine(Intended, None)], "ended quarantine-role"),
            (vec![quarantine(Applied, None)], "held quarantine-role"),
            (vec![quarantine(Gone, None)], "ended quarantine-role"),
            (vec![quarantine(Failed, None)], "ended quarantine-role"),
            (vec![quarantine(Failed, quota)], "under way"),
            (vec![quarantine(Failed, quota), bound(Intended, None)], "under way"),
            (vec![quarantine(Failed, quota), bound(Applied, None)], "held bound-role"),
            (vec![quarantine(Failed, quota), bound(Failed, None)], "ended bound-role"),
            (vec![quarantine(Failed, quota), bound(Failed, denied)], "refused 2"),
            // Tried again later: what is in force stays what contains.
            (vec![quarantine(Failed, None), bound(Applied, None)], "held bound-role"),
            (vec![quarantine(Applied, None), bound(Applied, None)], "held quarantine-role"),
            (vec![bound(Failed, denied), quarantine(Applied, None)], "held quarantine-role"),
        ] {
            let found = match Standing::of(&planned(), &records) {
                Standing::NotBegun => "not begun".to_owned(),
                Standing::UnderWay => "under way".to_owned(),
                Standing::Held(record) => format!("held {}", record.action),
                Standing::Ended(record) => format!("ended {}", record.action),
                Standing::Refused(rungs) => format!("refused {}", rungs.len()),
            };
            assert_eq!(found, wanted, "{records:?}");
        }
    }

    #[test]
    fn a_step_without_a_ladder_is_never_one() {
        let step = Step { action: ActionId::SnapshotLogs, ..planned() };
        let records = [record(ActionId::SnapshotLogs, StepState::Failed, Some(Refusal::Denied))];
        assert_eq!(Standing::of(&step, &records), Standing::Ended(&records[0]));
        assert_eq!(Standing::of(&step, &[]), Standing::NotBegun);
    }
}
