//! Carries out one step of a frozen plan: prior state on record, then `apply`, `verify`, and the outcome
//! on record. The only way in which an action is run.

use firebreak_model::guard::Veto;
use firebreak_model::ladder::{self, Refusal};
use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::plan::Step;
use serde_json::Value;
use tracing::{info, warn};

use crate::action::{Action, ActionError, Order, Reverted, Verified};
use crate::clock;
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::chain;

/// How a step ended, with the record that says so.
#[derive(Debug)]
pub struct Executed {
    /// As it now stands in the ledger.
    pub record: StepRecord,
    /// Whether another try may go better.
    pub transient: bool,
    /// Why AWS does not take what was there before back as it stands: what it needs is gone, or a quota is full.
    pub not_taken_back: Option<Refusal>,
}

impl Executed {
    /// A step that came to its end.
    pub fn ended(record: StepRecord) -> Self {
        Self { record, transient: false, not_taken_back: None }
    }
}

/// Carries out a step. What was applied before is read back, and carried out again where it is no longer in force.
pub async fn execute(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    let fresh = incident.step_record(step, clock::now());
    match ledger.step(&fresh).await? {
        Some(record) if record.state == StepState::Applied => {
            let order = Order { incident, step, now: clock::now() };
            match prior_of(&record) {
                Ok(prior) if matches!(action.verify(order, &prior).await, Ok(Verified::NotInForce(_))) => {
                    // A release that began meanwhile is no tampering: what it undoes stays undone.
                    if superseded(ledger, incident).await? {
                        return Ok(Executed::ended(record));
                    }
                    warn!(incident.id = %incident.incident_id, step = %record.step, "undone by someone: applied again");
                    carry_out(ledger, incident, step, action, record).await
                }
                _ => Ok(Executed::ended(record)),
            }
        }
        Some(record) if record.state != StepState::Intended && record.state != StepState::Failed => {
            Ok(Executed::ended(record))
        }
        Some(record) => take_up(ledger, incident, step, action, record).await,
        None => take_up(ledger, incident, step, action, fresh).await,
    }
}

/// Carries out what another try may have begun: where that is in force by now, it is only put on record. So a finding
/// that joins, or a second try, does not deny again what is denied.
async fn take_up(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
    record: StepRecord,
) -> Result<Executed, LedgerError> {
    let order = Order { incident, step, now: clock::now() };
    let can_tell = record.prior.is_some() || action.record().additive;
    if can_tell
        && let Ok(prior) = prior_of(&record)
        && let Ok(Verified::InForce) = action.verify(order, &prior).await
    {
        return found_in_force(ledger, incident, action, record).await;
    }
    carry_out(ledger, incident, step, action, record).await
}

/// Puts on record what was read back without this function having carried it out just now.
async fn found_in_force(
    ledger: &Ledger,
    incident: &Incident,
    action: &dyn Action,
    mut record: StepRecord,
) -> Result<Executed, LedgerError> {
    let now = clock::now();
    record.state = StepState::Applied;
    record.attempts += 1;
    record.applied_at = record.applied_at.or(Some(now));
    record.verified_at = Some(now);
    record.updated_at = now;
    record.refused = None;
    record.filled_by.clear();
    action.record().summary.clone_into(&mut record.detail);
    info!(incident.id = %incident.incident_id, step = %record.step, "read back: in force already");
    ledger.record(&record).await?;
    Ok(Executed::ended(record))
}

/// Puts a step on record that its caller has read back, unless its end is on record already.
pub async fn put_on_record(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    let fresh = incident.step_record(step, clock::now());
    match ledger.step(&fresh).await? {
        Some(record) if record.state != StepState::Intended && record.state != StepState::Failed => {
            Ok(Executed::ended(record))
        }
        record => found_in_force(ledger, incident, action, record.unwrap_or(fresh)).await,
    }
}

/// Carries out a step of an incident that was opened just now, whose steps can have no record yet: nothing
/// stands between the claim and an additive action.
pub async fn execute_fresh(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    if !action.record().additive {
        return execute(ledger, incident, step, action).await;
    }
    carry_out(ledger, incident, step, action, incident.step_record(step, clock::now())).await
}

/// Carries out a step again whatever its record says: a release moves a revocation forward that is applied already.
/// The prior state that was recorded first stands.
pub async fn renew(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    let fresh = incident.step_record(step, clock::now());
    let record = ledger.step(&fresh).await?.unwrap_or(fresh);
    carry_out(ledger, incident, step, action, record).await
}

/// Carries out at once what was applied and does not show any more, from the record that the caller holds. `None` where
/// the incident has moved on: what a release undoes stays undone.
pub async fn apply_again(
    ledger: &Ledger,
    incident: &Incident,
    record: StepRecord,
    action: &dyn Action,
) -> Result<Option<Executed>, LedgerError> {
    if superseded(ledger, incident).await? {
        return Ok(None);
    }
    let step = Step { action: record.action, target: record.target.clone() };
    warn!(incident.id = %incident.incident_id, step = %record.step, "undone by someone: applied again");
    carry_out(ledger, incident, &step, action, record).await.map(Some)
}

async fn carry_out(
    ledger: &Ledger,
    incident: &Incident,
    step: &Step,
    action: &dyn Action,
    mut record: StepRecord,
) -> Result<Executed, LedgerError> {
    let order = Order { incident, step, now: clock::now() };
    let result = attempt(ledger, order, action, &mut record).await?;
    record.attempts += 1;
    record.updated_at = clock::now();
    record.refused = ladder::top(step.action).and_then(|_| refusal(&result));
    record.filled_by = match &result {
        Err(ActionError::Quota { filled_by, .. }) => filled_by.clone(),
        _ => Vec::new(),
    };
    let transient = match result {
        Ok(Verified::InForce) => {
            record.state = StepState::Applied;
            record.verified_at = Some(record.updated_at);
            action.record().summary.clone_into(&mut record.detail);
            info!(incident.id = %incident.incident_id, step = %record.step, "applied and read back");
            false
        }
        Ok(Verified::NotInForce(found)) => {
            record.state = StepState::Failed;
            record.detail = format!("the call was accepted, but reading it back shows: {found}");
            warn!(incident.id = %incident.incident_id, step = %record.step, "not in force: {found}");
            true
        }
        Err(ActionError::Withheld(veto)) => {
            record.state = StepState::Withheld;
            record.detail = veto.to_string();
            warn!(incident.id = %incident.incident_id, step = %record.step, "withheld: {veto}");
            false
        }
        Err(ActionError::Gone { target }) => {
            record.state = StepState::Gone;
            record.detail = format!("`{target}` does not exist: there is nothing to contain");
            info!(incident.id = %incident.incident_id, step = %record.step, "{}", record.detail);
            false
        }
        Err(error) => {
            record.state = StepState::Failed;
            record.detail = chain(&error);
            warn!(incident.id = %incident.incident_id, step = %record.step, "failed: {}", record.detail);
            error.is_transient()
        }
    };
    ledger.record(&record).await?;
    Ok(Executed { record, transient, not_taken_back: None })
}

/// Why a rung of a ladder gives way to the one below.
fn refusal(result: &Result<Verified, ActionError>) -> Option<Refusal> {
    match result {
        Ok(Verified::InForce) => None,
        Ok(Verified::NotInForce(_)) => Some(Refusal::NotShown),
        Err(error) => error.refusal(),
    }
}

/// `observe` and the intent, unless they are on record or the action is additive; then `apply` and `verify`.
/// A call that got no answer is settled by reading back.
async fn attempt(
    ledger: &Ledger,
    order: Order<'_>,
    action: &dyn Action,
    record: &mut StepRecord,
) -> Result<Result<Verified, ActionError>, LedgerError> {
    if record.prior.is_none() && !action.record().additive {
        let prior = match action.observe(order).await {
            Ok(prior) => prior,
            Err(error) => return Ok(Err(error)),
        };
        let intent = StepRecord {
            prior: Some(prior.to_string()),
            state: StepState::Intended,
            intended_at: Some(order.now),
            ..record.clone()
        };
        *record = ledger.intend(&intent).await?;
        // Between the order and now a person may have begun to release it: what was not begun is not begun any more.
        if superseded(ledger, order.incident).await? {
            let veto = Veto("the incident is no longer ordered: a release began".to_owned());
            return Ok(Err(ActionError::Withheld(veto)));
        }
    }
    let prior = match prior_of(record) {
        Ok(prior) => prior,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = action.apply(order, &prior).await
        && !error.may_have_applied()
    {
        return Ok(Err(error));
    }
    record.applied_at = Some(clock::now());
    Ok(action.verify(order, &prior).await)
}

/// Whether the incident has moved on from the state in which this invocation read it.
async fn superseded(ledger: &Ledger, incident: &Incident) -> Result<bool, LedgerError> {
    match ledger.incident(&incident.incident_id).await {
        Ok(now) => Ok(now.is_none_or(|now| now.episode != incident.episode || now.state != incident.state)),
        // It was claimed just now and is sealed when its denies stand: no release begins before that.
        Err(LedgerError::Unsealed(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The prior state on record.
pub(crate) fn prior_of(record: &StepRecord) -> Result<Value, ActionError> {
    match &record.prior {
        None => Ok(Value::Null),
        Some(text) => serde_json::from_str(text).map_err(|error| ActionError::Unreadable {
            target: record.step.clone(),
            problem: format!("its prior state in the ledger cannot be read ({error}): nothing is changed"),
        }),
    }
}

/// Undoes a step that was applied, or that may have been. What was undone before is left as it is.
pub async fn revert(
    ledger: &Ledger,
    incident: &Incident,
    record: StepRecord,
    action: &dyn Action,
) -> Result<Executed, LedgerError> {
    let mut record = record;
    let touched = match record.state {
        StepState::Applied => true,
        StepState::Intended | StepState::Failed => record.prior.is_some() || action.record().additive,
        // An earlier attempt may have changed something before a guard rail came down.
        StepState::Withheld if record.prior.is_some() => true,
        StepState::Gone | StepState::Withheld | StepState::Reverted | StepState::LeftAlone => {
            return Ok(Executed::ended(record));
        }
    };
    if !touched {
        // It failed before the prior state was on record, and `apply` runs only after that.
        record.state = StepState::Reverted;
        record.updated_at = clock::now();
        record.reverted_at = Some(record.updated_at);
        "nothing had been changed".clone_into(&mut record.detail);
        ledger.record(&record).await?;
        return Ok(Executed::ended(record));
    }
    let step = Step { action: record.action, target: record.target.clone() };
    let order = Order { incident, step: &step, now: clock::now() };
    let result = match prior_of(&record) {
        Ok(prior) => action.revert(order, &prior).await,
        Err(error) => Err(error),
    };
    record.updated_at = clock::now();
    match result {
        Ok(Reverted::Restored) => {
            record.state = StepState::Reverted;
            record.reverted_at = Some(record.updated_at);
            "what was there before is there again".clone_into(&mut record.detail);
            info!(incident.id = %incident.incident_id, step = %record.step, "reverted");
        }
        Ok(Reverted::LeftAlone(found)) => {
            record.state = StepState::LeftAlone;
            record.detail = found;
            warn!(incident.id = %incident.incident_id, step = %record.step, "left alone: {}", record.detail);
        }
        // What is gone needs no undoing.
        Err(ActionError::Gone { target }) => {
            record.state = StepState::LeftAlone;
            record.detail = format!("`{target}` does not exist any more");
        }
        Err(error) => {
            let transient = error.is_transient();
            record.detail = format!("could not be undone: {}", chain(&error));
            warn!(incident.id = %incident.incident_id, step = %record.step, "{}", record.detail);
            ledger.record(&record).await?;
            let not_taken_back = match error {
                ActionError::Rejected { .. } => Some(Refusal::Rejected),
                ActionError::Quota { .. } => Some(Refusal::Quota),
                _ => None,
            };
            return Ok(Executed { record, transient, not_taken_back });
        }
    }
    ledger.record(&record).await?;
    Ok(Executed::ended(record))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ledger::{IncidentState, Record};

    use super::*;
    use crate::actions::QuarantineRole;
    use crate::evidence::testing::item;
    use crate::ledger::Seal;
    use crate::testing::{Answer, Wire, ok, query_error, role_bounded_by, role_order, user_order, whole_deny};
    use firebreak_model::action::ActionId;

    const OTHER: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    const DENY: &str = "arn:aws:iam::111122223333:policy/deny";

    fn ledger(wire: &Wire) -> Ledger {
        Ledger::new(aws_sdk_dynamodb::Client::new(&wire.config()), "ledger".to_owned(), Seal::none())
    }

    fn quarantine(wire: &Wire) -> QuarantineRole {
        QuarantineRole::new(aws_sdk_iam::Client::new(&wire.config()), DENY.to_owned())
    }

    fn attached(arn: &str) -> Answer {
        ok(format!(
            "<ListAttachedRolePoliciesResponse><ListAttachedRolePoliciesResult><AttachedPolicies><member><PolicyArn>{arn}\
             </PolicyArn></member></AttachedPolicies></ListAttachedRolePoliciesResult></ListAttachedRolePoliciesResponse>"
        ))
    }

    /// A call, and what is read back after it.
    fn read(call: Answer, attached: Answer) -> Vec<Answer> {
        [call, attached].into_iter().chain(whole_deny()).collect()
    }

    fn attach() -> Answer {
        ok("<AttachRolePolicyResponse/>")
    }

    fn stored(state: StepState) -> Answer {
        let (incident, step) = role_order("orders");
        let record = StepRecord { state, ..incident.step_record(&step, incident.opened_at) };
        item(&Record::Step(Box::new(record)))
    }

    /// What a fresh step ends as, and what was put into the ledger about it.
    async fn fresh(iam: &Wire) -> (Executed, String) {
        let wire = Wire::answering([ok("{}")]);
        let (incident, step) = role_order("orders");
        let executed = execute_fresh(&ledger(&wire), &incident, &step, &quarantine(iam)).await.unwrap();
        (executed, wire.requests().remove(0))
    }

    #[tokio::test]
    async fn an_outcome_comes_from_reading_back_whatever_the_call_said() {
        for (answers, state, transient) in [
            (read(attach(), attached(DENY)), StepState::Applied, false),
            (read(attach(), attached(OTHER)), StepState::Failed, true),
            (read(Answer::Lost, attached(DENY)), StepState::Applied, false),
            (read(Answer::Lost, attached(OTHER)), StepState::Failed, true),
            (read(attach(), query_error(403, "AccessDenied")), StepState::Failed, false),
            (vec![query_error(403, "AccessDenied")], StepState::Failed, false),
            (vec![query_error(400, "Throttling")], StepState::Failed, true),
            (vec![query_error(404, "NoSuchEntity"), query_error(404, "NoSuchEntity")], StepState::Gone, false),
        ] {
            let iam = Wire::answering(answers.clone());
            let (executed, put) = fresh(&iam).await;
            assert_eq!((executed.record.state, executed.transient), (state, transient), "{answers:?}");
            assert!(put.contains(&format!(r#""state":{{"S":"{state}"}}"#)), "{put}");
            assert_eq!(executed.record.verified_at.is_some(), state == StepState::Applied);
            assert_eq!(iam.unused(), 0);
        }
    }

    #[tokio::test]
    async fn only_a_rung_that_is_refused_for_good_says_so_on_record() {
        let filling = || attached("arn:aws:iam::111122223333:policy/filling");
        for (answers, refused, filled_by) in [
            (read(attach(), attached(DENY)), None, 0),
            (read(attach(), attached(OTHER)), Some(Refusal::NotShown), 0),
            (vec![query_error(409, "LimitExceeded"), filling()], Some(Refusal::Quota), 1),
            (vec![query_error(403, "AccessDenied")], Some(Refusal::Denied), 0),
            (vec![query_error(404, "NoSuchEntity"), role_bounded_by(None)], Some(Refusal::PolicyGone), 0),
            (vec![query_error(400, "InvalidInput")], Some(Refusal::Rejected), 0),
            (vec![query_error(400, "Throttling")], None, 0),
            (vec![query_error(404, "NoSuchEntity"), query_error(404, "NoSuchEntity")], None, 0),
        ] {
            let (executed, put) = fresh(&Wire::answering(answers.clone())).await;
            assert_eq!(executed.record.refused, refused, "{answers:?}");
            assert_eq!(executed.record.filled_by.len(), filled_by);
            let on_record = refused.map(|refused| format!(r#""refused":{{"S":"{refused}"}}"#));
            assert_eq!(put.contains(r#""refused""#), refused.is_some(), "{put}");
            assert!(on_record.is_none_or(|text| put.contains(&text)), "{put}");
        }
    }

    #[tokio::test]
    async fn an_applied_step_is_read_back_and_applied_again_where_it_is_gone() {
        let (incident, step) = role_order("orders");
        let gone = [attached(OTHER)].into_iter().chain(whole_deny());
        for (answers, calls) in [
            ([attached(DENY)].into_iter().chain(whole_deny()).collect(), 3),
            (gone.chain(read(attach(), attached(DENY))).collect::<Vec<_>>(), 7),
        ] {
            let still = item(&Record::Incident(Box::new(incident.clone())));
            let wire = Wire::answering([stored(StepState::Applied), still, ok("{}")]);
            let iam = Wire::answering(answers);
            let executed = execute(&ledger(&wire), &incident, &step, &quarantine(&iam)).await.unwrap();
            assert_eq!(executed.record.state, StepState::Applied);
            assert_eq!(iam.requests().len(), calls);
        }
    }

    #[tokio::test]
    async fn what_another_try_brought_in_force_is_put_on_record_and_not_done_again() {
        let (incident, step) = role_order("orders");
        let other = || [attached(OTHER)].into_iter().chain(whole_deny());
        let there = || [attached(DENY)].into_iter().chain(whole_deny());
        for record in [stored(StepState::Failed), stored(StepState::Intended), ok("{}")] {
            let again: Vec<_> = other().chain([attach()]).chain(there()).collect();
            for (answers, calls) in [(there().collect(), 3), (again, 7)] {
                let (wire, iam) = (Wire::answering([record.clone(), ok("{}")]), Wire::answering(answers));
                let executed = execute(&ledger(&wire), &incident, &step, &quarantine(&iam)).await.unwrap();
                assert_eq!(executed.record.state, StepState::Applied);
                assert!(executed.record.applied_at.is_some() && executed.record.verified_at.is_some());
                assert_eq!((iam.requests().len(), wire.unused()), (calls, 0));
            }
        }
    }

    #[tokio::test]
    async fn what_a_release_undoes_meanwhile_is_not_applied_again() {
        let (incident, step) = role_order("orders");
        let releasing = Incident { state: IncidentState::Releasing, ..incident.clone() };
        let wire = Wire::answering([stored(StepState::Applied), item(&Record::Incident(Box::new(releasing)))]);
        let iam = Wire::answering([attached(OTHER)].into_iter().chain(whole_deny()));
        execute(&ledger(&wire), &incident, &step, &quarantine(&iam)).await.unwrap();
        assert_eq!(iam.requests().len(), 3, "it is read back, and left alone");
    }

    #[tokio::test]
    async fn an_incident_that_is_not_sealed_yet_is_not_superseded() {
        let (incident, step) = user_order("ci-bot", ActionId::DeactivateAccessKeys);
        let claimed = item(&Record::Incident(Box::new(incident.clone())));
        let key = ok(r#"{"Mac": "c2VhbGVkIGluIGEgdGVzdCBvZiB0aGUgZXhlY3V0b3Ih"}"#);
        let (wire, kms) = (Wire::answering([ok("{}"), ok("{}"), claimed, ok("{}")]), Wire::answering([key]));
        let seal = Seal::new(&kms.config(), "arn:aws:kms:eu-west-1:111122223333:key/k".to_owned());
        let ledger = Ledger::new(aws_sdk_dynamodb::Client::new(&wire.config()), "ledger".to_owned(), seal);
        let none = || {
            ok(
                "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata/></ListAccessKeysResult></ListAccessKeysResponse>",
            )
        };
        let iam = Wire::answering([none(), none(), none()]);
        let action = crate::actions::DeactivateAccessKeys::new(aws_sdk_iam::Client::new(&iam.config()));
        let executed = execute(&ledger, &incident, &step, &action).await.unwrap();
        assert_eq!(executed.record.state, StepState::Applied);
        assert_eq!((wire.unused(), iam.unused()), (0, 0));
    }

    #[tokio::test]
    async fn what_a_release_ended_is_not_done_again() {
        let (incident, step) = role_order("orders");
        for state in [StepState::Withheld, StepState::Gone, StepState::Reverted, StepState::LeftAlone] {
            let (wire, iam) = (Wire::answering([stored(state)]), Wire::answering([]));
            let executed = execute(&ledger(&wire), &incident, &step, &quarantine(&iam)).await.unwrap();
            assert_eq!(executed.record.state, state);
            assert!(iam.requests().is_empty());
        }
    }

    #[tokio::test]
    async fn a_step_that_failed_before_its_prior_state_was_known_needs_no_undoing() {
        let (incident, step) = role_order("orders");
        let keys = crate::actions::DeactivateAccessKeys::new(aws_sdk_iam::Client::new(&Wire::answering([]).config()));
        let failed = StepRecord { state: StepState::Failed, ..incident.step_record(&step, incident.opened_at) };
        let wire = Wire::answering([ok("{}")]);
        let executed = revert(&ledger(&wire), &incident, failed, &keys).await.unwrap();
        assert_eq!(executed.record.state, StepState::Reverted);
        assert_eq!(executed.record.detail, "nothing had been changed");
    }
}
