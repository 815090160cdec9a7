//! Down the ladder: a rung that was refused for good gives way to the one below, at once and in the same invocation.
//! Which one follows is decided in [`firebreak_model::ladder`].

use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ladder::{self, Standing};
use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::plan::Step;
use tracing::warn;

use super::Containment;
use crate::actions;
use crate::answer::Answer;
use crate::clock;
use crate::executor::{self, Executed};
use crate::failure::Failure;

impl Containment {
    /// Carries out what the plan leaves to this function, each step down its ladder.
    pub(super) async fn quarantine(&self, incident: &Incident, fresh: bool) -> Result<Vec<Executed>, Failure> {
        let mut executed = Vec::new();
        for step in incident.plan.owned_by(FunctionName::QuarantinePrincipal) {
            let mut rung = step.clone();
            loop {
                let done = self.rung(incident, &rung, fresh).await?;
                let below = match ladder::next(&done.record) {
                    Some(below) => {
                        warn!(incident.id = %incident.incident_id, step = %done.record.step, "refused for good: `{}` is \
                              tried in its place", below.action);
                        Some(below)
                    }
                    // Of an incident that was opened just now, nothing can be on record.
                    None if fresh && incident.version == 1 => None,
                    None => self.in_force_below(incident, &rung).await?,
                };
                executed.push(done);
                match below {
                    Some(below) => rung = below,
                    None => break,
                }
            }
        }
        Ok(executed)
    }

    async fn rung(&self, incident: &Incident, step: &Step, fresh: bool) -> Result<Executed, Failure> {
        let action = actions::for_principal(step.action, &self.iam, &self.deny_policy_arn)
            .ok_or_else(|| Failure::Permanent(format!("`{}` is no action on a principal", step.action)))?;
        Ok(if fresh {
            executor::execute_fresh(&self.ledger, incident, step, action.as_ref()).await?
        } else {
            executor::execute(&self.ledger, incident, step, action.as_ref()).await?
        })
    }

    /// A rung below that is in force from an earlier attempt: it is looked after whatever became of the one above.
    async fn in_force_below(&self, incident: &Incident, rung: &Step) -> Result<Option<Step>, Failure> {
        let Some(action) = ladder::below(rung.action) else { return Ok(None) };
        let below = Step { action, target: rung.target.clone() };
        let record = self.ledger.step(&incident.step_record(&below, clock::now())).await?;
        Ok(record.filter(|record| record.state == StepState::Applied).map(|_| below))
    }
}

/// The answer, or the failure that has Lambda try again. A rung that failed is no failure where one below it holds.
pub(super) fn conclude(incident: &Incident, executed: Vec<Executed>) -> Result<Answer, Failure> {
    let id = &incident.incident_id;
    let (records, transient): (Vec<StepRecord>, Vec<bool>) =
        executed.into_iter().map(|done| (done.record, done.transient)).unzip();
    let mut open = Vec::new();
    let mut again = false;
    let mut instead = Vec::new();
    for (record, transient) in records.iter().zip(transient) {
        if matches!(record.state, StepState::Applied | StepState::Gone) {
            continue;
        }
        if let Some(holds) = in_its_place(record, &records) {
            instead.push(format!("`{holds}` holds in place of `{}`: {}", record.step, record.detail));
        } else {
            again |= transient;
            open.push(format!("`{}`: {}", record.step, record.detail));
        }
    }
    if open.is_empty() {
        let answer = Answer::on("contained", id, &records);
        return Ok(if instead.is_empty() { answer } else { answer.saying(instead.join("; ")) });
    }
    let text = format!("incident `{id}` is not contained: {}", open.join("; "));
    Err(if again { Failure::Transient(text) } else { Failure::Permanent(text) })
}

/// The rung that holds where this one does not.
fn in_its_place(record: &StepRecord, records: &[StepRecord]) -> Option<ActionId> {
    let planned = Step { action: ladder::top(record.action)?, target: record.target.clone() };
    match Standing::of(&planned, records) {
        Standing::Held(holds) => Some(holds.action),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ladder::Refusal;
    use firebreak_model::ledger::Record;

    use super::*;
    use crate::contain::tests;
    use crate::evidence::testing::item;
    use crate::testing::{Answer as Wired, Wire, ok, query_error, role_bounded_by, role_order, whole_deny};

    const DENY: &str = "arn:aws:iam::111122223333:policy/deny";
    const DENY_ALL: &str = "arn:aws:iam::aws:policy/AWSDenyAll";

    fn containment(ledger: &Wire, iam: &Wire) -> Containment {
        Containment { deny_policy_arn: DENY.to_owned(), ..tests::containment(ledger, iam, iam) }
    }

    fn attached(arn: &str) -> Wired {
        ok(format!(
            "<ListAttachedRolePoliciesResponse><ListAttachedRolePoliciesResult><AttachedPolicies><member><PolicyArn>{arn}\
             </PolicyArn></member></AttachedPolicies></ListAttachedRolePoliciesResult></ListAttachedRolePoliciesResponse>"
        ))
    }

    fn done() -> Wired {
        ok("<Response/>")
    }

    /// What IAM answers to the rung on top, by what refuses it.
    fn refused(by: Refusal) -> Vec<Wired> {
        let other = "arn:aws:iam::111122223333:policy/filling";
        match by {
            Refusal::Quota => vec![query_error(409, "LimitExceeded"), attached(other)],
            Refusal::Denied => vec![query_error(403, "AccessDenied")],
            Refusal::PolicyGone => vec![query_error(404, "NoSuchEntity"), role_bounded_by(None)],
            Refusal::NotShown => [done(), attached(other)].into_iter().chain(whole_deny()).collect(),
            Refusal::Rejected => vec![query_error(400, "PolicyNotAttachable")],
        }
    }

    /// What the ledger answers while the rung on top is recorded, and then the one below from its beginning.
    fn recorded() -> Vec<Wired> {
        let (incident, _) = role_order("orders");
        let found = item(&Record::Incident(Box::new(incident)));
        // The rung on top; no record of the one below; its intent; whether a release began; its end.
        vec![ok("{}"), ok("{}"), ok("{}"), found, ok("{}")]
    }

    /// The names of the calls, in order.
    fn calls(wire: &Wire) -> Vec<String> {
        let action = |request: String| {
            request.split("Action=").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or("?").to_owned()
        };
        wire.requests().into_iter().map(action).collect()
    }

    async fn quarantined(ledger: &Wire, iam: &Wire) -> (Incident, Vec<Executed>) {
        let (incident, _) = role_order("orders");
        let executed = containment(ledger, iam).quarantine(&incident, true).await.unwrap();
        (incident, executed)
    }

    #[tokio::test]
    async fn whatever_refuses_the_deny_for_good_the_boundary_is_put_at_once() {
        for &by in Refusal::ALL {
            let below = [role_bounded_by(None), done(), role_bounded_by(Some(DENY_ALL))];
            let iam = Wire::answering(refused(by).into_iter().chain(below));
            let ledger = Wire::answering(recorded());
            let (incident, executed) = quarantined(&ledger, &iam).await;
            let states: Vec<_> = executed.iter().map(|done| (done.record.state, done.record.refused)).collect();
            assert_eq!(states, [(StepState::Failed, Some(by)), (StepState::Applied, None)]);
            let calls = calls(&iam);
            assert_eq!(calls[calls.len() - 3..], ["GetRole", "PutRolePermissionsBoundary", "GetRole"], "{by}");
            assert_eq!((iam.unused(), ledger.unused()), (0, 0), "{by}");
            // Prior state first: the intent is on record before the call that replaces something.
            assert!(ledger.requests()[2].contains(r#""prior":{"S":"null"}"#), "{:?}", ledger.requests());
            let answer = conclude(&incident, executed).unwrap();
            assert_eq!(answer.outcome, "contained");
            let said = answer.message.unwrap();
            assert!(said.starts_with("`bound-role` holds in place of `quarantine-role@role/orders`: "), "{said}");
        }
    }

    #[tokio::test]
    async fn what_may_go_better_another_time_and_what_is_gone_give_way_to_nothing() {
        let gone = || query_error(404, "NoSuchEntity");
        for (answers, state, transient) in [
            (vec![query_error(400, "Throttling")], StepState::Failed, Some(true)),
            (vec![query_error(503, "ServiceUnavailable")], StepState::Failed, Some(true)),
            (vec![gone(), gone()], StepState::Gone, None),
            (vec![gone(), query_error(400, "Throttling")], StepState::Failed, Some(true)),
        ] {
            let (iam, ledger) = (Wire::answering(answers.clone()), Wire::answering([ok("{}")]));
            let (incident, executed) = quarantined(&ledger, &iam).await;
            assert_eq!(executed.len(), 1, "{answers:?}");
            assert_eq!(executed[0].record.state, state);
            assert!(!calls(&iam).iter().any(|call| call.starts_with("Put")), "{answers:?}");
            match (conclude(&incident, executed), transient) {
                (Ok(answer), None) => assert_eq!(answer.outcome, "contained"),
                (Err(Failure::Transient(_)), Some(true)) => {}
                (other, _) => unreachable!("{answers:?}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn where_the_boundary_is_refused_too_the_end_says_both_reasons() {
        for (answer, transient) in
            [(query_error(403, "AccessDenied"), false), (query_error(400, "Throttling"), true), (Wired::Lost, true)]
        {
            let lost = matches!(answer, Wired::Lost).then(|| role_bounded_by(None));
            let below = [role_bounded_by(None), answer].into_iter().chain(lost);
            let iam = Wire::answering(refused(Refusal::Quota).into_iter().chain(below));
            let ledger = Wire::answering(recorded());
            let (incident, executed) = quarantined(&ledger, &iam).await;
            let failure = conclude(&incident, executed).unwrap_err();
            assert_eq!(matches!(failure, Failure::Transient(_)), transient, "{failure}");
            let text = failure.to_string();
            assert!(
                text.contains("`quarantine-role@role/orders`") && text.contains("`bound-role@role/orders`"),
                "{text}"
            );
            assert_eq!(iam.unused(), 0);
        }
    }

    #[tokio::test]
    async fn a_boundary_in_force_stays_looked_after_when_the_deny_comes_through_later() {
        let (incident, step) = role_order("orders");
        let record = |action: ActionId, state: StepState, prior: Option<&str>| {
            let step = Step { action, ..step.clone() };
            let fresh = incident.step_record(&step, incident.opened_at);
            item(&Record::Step(Box::new(StepRecord { state, prior: prior.map(str::to_owned), ..fresh })))
        };
        let top = || record(ActionId::QuarantineRole, StepState::Failed, None);
        let below = || record(ActionId::BoundRole, StepState::Applied, Some("null"));
        let ledger = Wire::answering([top(), ok("{}"), below(), below()]);
        let read = [attached(DENY)].into_iter().chain(whole_deny());
        let iam = Wire::answering(read.chain([role_bounded_by(Some(DENY_ALL))]));
        let executed = containment(&ledger, &iam).quarantine(&incident, false).await.unwrap();
        assert!(executed.iter().all(|done| done.record.state == StepState::Applied));
        assert_eq!((executed.len(), iam.unused(), ledger.unused()), (2, 0, 0));
        assert_eq!(conclude(&incident, executed).unwrap().message, None);
    }
}
