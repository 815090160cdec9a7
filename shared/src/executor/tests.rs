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
