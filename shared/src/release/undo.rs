//! Undoing what is on record, in an order in which nothing is let in before all that it needs works again.

use std::time::Duration;

use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ids::FunctionArn;
use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::plan::Target;
use jiff::SignedDuration;

use super::{Releasing, recycle};
use crate::action::{Action, ActionError};
use crate::actions;
use crate::clients;
use crate::clock;
use crate::executor::{self, Executed};
use crate::failure::Failure;
use crate::identity;
use crate::ledger::LedgerError;

/// How often what could not be undone is tried again within one release, and how long it waits in between.
const AGAIN: usize = 6;
const PAUSE_BETWEEN: Duration = Duration::from_secs(5);

/// How long after a release began what AWS refuses may be so because IAM has not lifted the deny everywhere.
const PERSISTENT: SignedDuration = SignedDuration::from_mins(5);

/// What is undone while the functions are still shut: the deny first, so that nothing that is let in again fails for it.
const WHILE_SHUT: [ActionId; 8] = [
    ActionId::QuarantineRole,
    ActionId::QuarantineUser,
    ActionId::BoundRole,
    ActionId::BoundUser,
    ActionId::ClearDestinations,
    ActionId::RemovePublicStatements,
    ActionId::CloseFunctionUrls,
    ActionId::RecycleEnvironments,
];

/// What lets work in again: event sources and keys last, when all they reach works.
const OPENING: [ActionId; 3] =
    [ActionId::ZeroConcurrency, ActionId::DisableEventSources, ActionId::DeactivateAccessKeys];

/// How far a release goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing is let in yet: the environments that are still warm have credentials that are revoked.
    WhileShut,
    /// To the end.
    All,
}

impl Reach {
    fn place(self, action: ActionId) -> Option<usize> {
        let opening: &[ActionId] = if self == Self::All { &OPENING } else { &[] };
        WHILE_SHUT.iter().chain(opening).position(|id| *id == action)
    }
}

/// What became of the steps that were undone.
#[derive(Debug, Default)]
pub(super) struct Undone {
    /// How each stands.
    pub(super) records: Vec<StepRecord>,
    /// Which records in the place of a step were refused.
    pub(super) refused: Vec<LedgerError>,
}

impl Undone {
    /// What is still to be undone.
    pub(super) fn open(&self) -> impl Iterator<Item = &StepRecord> {
        let is_open = |r: &&StepRecord| matches!(r.state, StepState::Intended | StepState::Applied | StepState::Failed);
        self.records.iter().filter(is_open)
    }

    /// What is still to be undone, and why, in a sentence; `None` where nothing is.
    pub(super) fn open_shown(&self) -> Option<String> {
        let open: Vec<String> = self.open().map(|r| format!("`{}`: {}", r.step, r.detail)).collect();
        (!open.is_empty()).then(|| open.join("; "))
    }

    /// Whether the principal is still denied, as far as we know.
    pub(super) fn denies(&self) -> bool {
        self.open().any(|r| matches!(r.target, Target::Role(_) | Target::User(_)))
    }
}

impl Releasing {
    /// The steps that a release undoes, and which records in their place were refused.
    pub(super) async fn steps(&self, incident: &Incident) -> Result<(Vec<StepRecord>, Vec<LedgerError>), Failure> {
        let mut owners = incident.plan.owners();
        owners.remove(&FunctionName::SnapshotLogs);
        owners.remove(&FunctionName::RevokeSessions);
        Ok(self.ledger.steps_and_refused(incident, owners).await?)
    }

    /// Undoes what is on record, and tries again for some seconds what could not be undone: Lambda checks what the
    /// execution role may do, and IAM takes its time to lift the deny everywhere.
    pub(super) async fn undo_patiently(&self, incident: &Incident, reach: Reach) -> Result<Undone, Failure> {
        let mut undone = self.undo(incident, reach).await?;
        for _ in 0..AGAIN {
            if undone.open().next().is_none() {
                break;
            }
            tokio::time::sleep(PAUSE_BETWEEN).await;
            undone = self.undo(incident, reach).await?;
        }
        Ok(undone)
    }

    /// Undoes what is on record, each step once.
    pub(super) async fn undo(&self, incident: &Incident, reach: Reach) -> Result<Undone, Failure> {
        let (mut records, refused) = self.steps(incident).await?;
        records.retain(|r| reach.place(r.action).is_some() && !recycle::is_ours(r));
        records.sort_by_key(|r| reach.place(r.action));
        let replaced = self.replaced(incident).await?;
        let mut undone = Vec::new();
        for mut record in records {
            if matches!(record.state, StepState::Reverted | StepState::LeftAlone | StepState::Gone) {
                undone.push(record);
                continue;
            }
            if let (Some(why), Target::Role(_) | Target::User(_)) = (&replaced, &record.target) {
                record.state = StepState::LeftAlone;
                record.detail.clone_from(why);
                record.updated_at = clock::now();
                self.ledger.record(&record).await?;
                undone.push(record);
                continue;
            }
            let action = self.action(&record)?;
            let end = executor::revert(&self.ledger, incident, record, action.as_ref()).await?;
            undone.push(self.given_up(incident, end).await?);
        }
        Ok(Undone { records: undone, refused })
    }

    /// A release that can never end would keep every new finding on its principal waiting. What a function cannot be given
    /// back, minutes after the release began, is left alone and told: a queue that was deleted, a figure that is not to be
    /// had any more. What keeps a principal denied is never given up.
    async fn given_up(&self, incident: &Incident, end: Executed) -> Result<StepRecord, Failure> {
        let Executed { mut record, not_taken_back, .. } = end;
        let now = clock::now();
        let began = incident.release.as_ref().map_or(now, |release| release.at);
        let is_over = now.duration_since(began) > PERSISTENT;
        if not_taken_back.is_some() && is_over && matches!(record.target, Target::Function(_)) {
            record.state = StepState::LeftAlone;
            record.detail = format!("AWS does not take it back, see to it by hand: {}", record.detail);
            record.updated_at = now;
            self.ledger.record(&record).await?;
        }
        Ok(record)
    }

    /// Why the principal's steps are left alone: it is gone, or another has its name now.
    async fn replaced(&self, incident: &Incident) -> Result<Option<String>, Failure> {
        let name = &incident.principal.name;
        match identity::read(&self.iam, name).await {
            Ok(now) => Ok(incident.principal.unique_id.as_ref().filter(|id| **id != now.unique_id).map(|id| {
                format!(
                    "`{name}` was deleted and made again: what was contained was `{id}`, this is `{}`",
                    now.unique_id
                )
            })),
            Err(ActionError::Gone { .. }) => Ok(Some(format!("`{name}` does not exist any more"))),
            Err(error) => Err(error.into()),
        }
    }

    fn action(&self, record: &StepRecord) -> Result<Box<dyn Action>, Failure> {
        let unknown = || Failure::Permanent(format!("`{}` cannot be undone", record.step));
        match &record.target {
            Target::Role(_) | Target::User(_) => {
                actions::for_principal(record.action, &self.iam, &self.deny_policy_arn).ok_or_else(unknown)
            }
            Target::Function(function) => self.on_function(record.action, function).ok_or_else(unknown),
        }
    }

    pub(super) fn on_function(&self, action: ActionId, function: &FunctionArn) -> Option<Box<dyn Action>> {
        let lambda = clients::lambda_in(&self.sdk, function.region());
        actions::for_function(action, &lambda, &self.base.stack)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use firebreak_model::ledger::{IncidentState, Record, ReleaseOrder};
    use firebreak_model::plan::{Plan, Step};
    use serde_json::json;

    use super::super::tests::releasing;
    use super::*;
    use crate::evidence::testing::items;
    use crate::testing::{Wire, function_order, json_error, ok, role_bounded_by, role_order};

    /// What a release does not undo: a revocation outlives it, `revoke-sessions` takes its own denies out, and evidence stays.
    const NOT_UNDONE: [ActionId; 4] = [
        ActionId::RevokeSessions,
        ActionId::RevokeChainedSessions,
        ActionId::QuarantineFunction,
        ActionId::SnapshotLogs,
    ];

    #[test]
    fn every_action_is_undone_or_known_to_stay() {
        for action in ActionId::ALL {
            let undone = Reach::All.place(*action).is_some();
            assert_ne!(undone, NOT_UNDONE.contains(action), "{action}");
        }
    }

    /// What is undone in turn, and why it is its turn. In between nothing is known to matter.
    const TURNS: [(&[ActionId], &str); 6] = [
        (
            &[ActionId::QuarantineRole, ActionId::QuarantineUser, ActionId::BoundRole, ActionId::BoundUser],
            "Lambda checks what the execution role may do before it takes a destination or an event source back, and what is \
             let in must not fail for the deny",
        ),
        (
            &[ActionId::ClearDestinations, ActionId::RemovePublicStatements, ActionId::CloseFunctionUrls],
            "what comes in by the doors as they were meets a function that is still shut, and what fails goes where it did",
        ),
        (
            &[ActionId::RecycleEnvironments],
            "warm environments have credentials that are revoked: the first invocation must not meet one",
        ),
        (&[ActionId::ZeroConcurrency], "everything that the function needs works"),
        (
            &[ActionId::DisableEventSources],
            "a source that feeds a function at zero wears its messages out on the way to their dead letters",
        ),
        (&[ActionId::DeactivateAccessKeys], "whoever has the key comes back when all that it reaches works"),
    ];

    #[test]
    fn nothing_is_let_in_before_all_that_it_needs_works_again() {
        let mut before = 0;
        for (turn, (actions, why)) in TURNS.iter().enumerate() {
            let places: BTreeSet<_> = actions.iter().map(|action| Reach::All.place(*action)).collect();
            let expected = (before..before + actions.len()).map(Some).collect();
            assert_eq!(places, expected, "{actions:?}: {why}");
            before += actions.len();
            // Until the revocation is in force and the functions are recycled, nothing is let in at all.
            for action in *actions {
                let while_shut = Reach::WhileShut.place(*action);
                assert_eq!(while_shut, Reach::All.place(*action).filter(|_| turn < 3), "{action}");
            }
        }
        assert_eq!(before, ActionId::ALL.len() - NOT_UNDONE.len());
    }

    #[tokio::test]
    async fn steps_are_undone_in_that_order_whatever_the_ledger_has_first() {
        let (mut incident, on_function) = function_order(ActionId::ZeroConcurrency);
        let on_principal = Target::from(&incident.principal.name);
        let all: Vec<ActionId> = TURNS.iter().flat_map(|(actions, _)| *actions).copied().collect();
        let step = |action: &ActionId| {
            let is_quarantine = matches!(action.owner(), FunctionName::QuarantinePrincipal);
            let target = if is_quarantine { on_principal.clone() } else { on_function.target.clone() };
            Step { action: *action, target }
        };
        incident.plan = Plan { steps: vec![on_function.clone()] };
        for shuffled in [all.iter().rev().collect::<Vec<_>>(), all[4..].iter().chain(&all[..4]).collect()] {
            let records: Vec<Record> = shuffled
                .into_iter()
                .map(|action| {
                    let record = incident.step_record(&step(action), incident.opened_at);
                    Record::Step(Box::new(StepRecord { state: StepState::Reverted, ..record }))
                })
                .collect();
            let wire = Wire::answering([items(&records), role_bounded_by(None)]);
            let undone = releasing(&wire, None).undo(&incident, Reach::All).await.unwrap();
            let turn = |record: &StepRecord| TURNS.iter().position(|(actions, _)| actions.contains(&record.action));
            let turns: Vec<_> = undone.records.iter().map(turn).collect();
            assert!(turns.len() == all.len() && turns.is_sorted(), "{turns:?}");
        }
    }

    #[tokio::test]
    async fn what_aws_never_takes_back_does_not_hold_up_a_release_for_ever() {
        let (incident, step) = function_order(ActionId::DisableEventSources);
        let plan = Plan { steps: vec![step.clone()] };
        let prior = json!([{"uuid": "a", "state": "Enabled", "enabled": true}]).to_string();
        let applied = |incident: &Incident| {
            let record = incident.step_record(&step, incident.opened_at);
            let record = StepRecord { state: StepState::Applied, prior: Some(prior.clone()), ..record };
            items(&[Record::Step(Box::new(record))])
        };
        let mapping = json!({"UUID": "a", "State": "Disabled",
                             "FunctionArn": "arn:aws:lambda:eu-west-1:111122223333:function:orders"});
        let mappings = ok(json!({"EventSourceMappings": [mapping]}).to_string());
        let began_before = |minutes| SignedDuration::from_mins(minutes);
        for (minutes, code, state, records) in [
            (6, "InvalidParameterValueException", StepState::LeftAlone, 2),
            (4, "InvalidParameterValueException", StepState::Applied, 1),
            (6, "AccessDeniedException", StepState::Applied, 1),
            (6, "TooManyRequestsException", StepState::Applied, 1),
        ] {
            let release = ReleaseOrder {
                at: clock::now() - began_before(minutes),
                by: "ana".into(),
                reason: "over".into(),
                invocation: "i".into(),
                reactivate_keys: Vec::new(),
                left_alone: Vec::new(),
                from: None,
            };
            let incident = Incident {
                state: IncidentState::Releasing,
                release: Some(release),
                plan: plan.clone(),
                ..incident.clone()
            };
            let mut script = vec![applied(&incident), role_bounded_by(None), mappings.clone(), json_error(400, code)];
            script.extend((0..records).map(|_| ok("{}")));
            let wire = Wire::answering(script);
            let undone = releasing(&wire, None).undo(&incident, Reach::All).await.unwrap();
            let ends: Vec<_> = undone.records.iter().map(|record| record.state).collect();
            assert_eq!((ends, wire.unused()), (vec![state], 0), "{minutes} minutes, {code}: {:?}", wire.requests());
        }
    }

    #[test]
    fn what_keeps_a_principal_denied_is_told_from_what_keeps_a_function_shut() {
        let (incident, step) = role_order("orders");
        let (shut, on_function) = function_order(ActionId::ZeroConcurrency);
        let undone = |incident: &Incident, step: &Step, state| {
            let record = StepRecord { state, ..incident.step_record(step, incident.opened_at) };
            Undone { records: vec![record], refused: Vec::new() }
        };
        assert!(undone(&incident, &step, StepState::Applied).denies());
        assert!(!undone(&incident, &step, StepState::Reverted).denies());
        assert!(!undone(&shut, &on_function, StepState::Applied).denies());
    }
}
