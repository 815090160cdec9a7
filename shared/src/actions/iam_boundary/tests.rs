//! What is the same on a role and on a user: both rungs, one test each.

#![expect(clippy::unwrap_used, reason = "tests")]

use firebreak_model::action::ActionId;
use firebreak_model::ladder::Refusal;
use firebreak_model::ledger::Incident;
use firebreak_model::plan::Step;
use serde_json::json;

use super::super::{BoundRole, BoundUser};
use super::*;
use crate::action::Action;
use crate::testing::{Answer, Wire, ok, order, query_error, role_bounded_by, role_order, user_bounded_by, user_order};

const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/deny-all";
const DENY_ALL: &str = "arn:aws:iam::aws:policy/AWSDenyAll";
const BEFORE: &str = "arn:aws:iam::111122223333:policy/team/boundary";

/// Whom the boundary is on.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Role,
    User,
}

const KINDS: [Kind; 2] = [Kind::Role, Kind::User];

impl Kind {
    /// A call of IAM on the principal.
    fn call(self, verb: &str, what: &str) -> String {
        let (kind, name) = match self {
            Self::Role => ("Role", "orders"),
            Self::User => ("User", "ci-bot"),
        };
        format!("POST / Action={verb}{kind}{what}&Version=2010-05-08&{kind}Name={name}")
    }

    fn get(self) -> String {
        self.call("Get", "")
    }

    fn delete(self) -> String {
        self.call("Delete", "PermissionsBoundary")
    }

    fn put(self, arn: &str) -> String {
        let arn = arn.replace(':', "%3A").replace('/', "%2F");
        format!("{}&PermissionsBoundary={arn}", self.call("Put", "PermissionsBoundary"))
    }

    fn done(self) -> Answer {
        match self {
            Self::Role => ok("<PutRolePermissionsBoundaryResponse/>"),
            Self::User => ok("<PutUserPermissionsBoundaryResponse/>"),
        }
    }

    fn bounded_by(self, boundary: Option<&str>) -> Answer {
        match self {
            Self::Role => role_bounded_by(boundary),
            Self::User => user_bounded_by(boundary),
        }
    }

    fn order(self) -> (Incident, Step) {
        match self {
            Self::Role => {
                let (incident, step) = role_order("orders");
                (incident, Step { action: ActionId::BoundRole, ..step })
            }
            Self::User => user_order("ci-bot", ActionId::BoundUser),
        }
    }

    fn action(self, wire: &Wire) -> Box<dyn Action> {
        let iam = Client::new(&wire.config());
        match self {
            Self::Role => Box::new(BoundRole::new(iam, DENY)),
            Self::User => Box::new(BoundUser::new(iam, DENY)),
        }
    }
}

#[tokio::test]
async fn records_the_boundary_that_was_there_puts_its_own_and_reads_it_back() {
    for kind in KINDS {
        let (incident, step) = kind.order();
        let order = order(&incident, &step);
        for before in [None, Some(BEFORE)] {
            let wire = Wire::answering([kind.bounded_by(before), kind.done(), kind.bounded_by(Some(DENY_ALL))]);
            let prior = kind.action(&wire).observe(order).await.unwrap();
            assert_eq!(prior, json!(before));
            kind.action(&wire).apply(order, &prior).await.unwrap();
            assert_eq!(kind.action(&wire).verify(order, &prior).await.unwrap(), Verified::InForce);
            assert_eq!(wire.requests(), [kind.get(), kind.put(DENY_ALL), kind.get()]);
        }
    }
}

#[tokio::test]
async fn another_boundary_is_not_in_force() {
    for kind in KINDS {
        let (incident, step) = kind.order();
        for found in [None, Some(BEFORE), Some("arn:aws-cn:iam::aws:policy/AWSDenyAll")] {
            let wire = Wire::answering([kind.bounded_by(found)]);
            let verified = kind.action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
            assert!(matches!(verified, Verified::NotInForce(_)), "{found:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_says_whether_another_try_may_go_better() {
    for kind in KINDS {
        let (incident, step) = kind.order();
        for (answers, refusal, transient) in [
            (vec![query_error(403, "AccessDenied")], Some(Refusal::Denied), false),
            (vec![query_error(400, "UnmodifiableEntity")], Some(Refusal::Denied), false),
            (vec![query_error(404, "NoSuchEntity"), kind.bounded_by(None)], Some(Refusal::PolicyGone), false),
            (vec![query_error(404, "NoSuchEntity"), query_error(404, "NoSuchEntity")], None, false),
            (vec![query_error(400, "Throttling")], None, true),
        ] {
            let wire = Wire::answering(answers);
            let error = kind.action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!((error.refusal(), error.is_transient(), wire.unused()), (refusal, transient, 0), "{error}");
        }
    }
}

#[tokio::test]
async fn a_release_puts_back_what_was_there_or_deletes_its_own() {
    for kind in KINDS {
        let (incident, step) = kind.order();
        let order = order(&incident, &step);
        for (prior, expected) in [(json!(null), kind.delete()), (json!(BEFORE), kind.put(BEFORE))] {
            let wire = Wire::answering([kind.bounded_by(Some(DENY_ALL)), kind.done()]);
            assert_eq!(kind.action(&wire).revert(order, &prior).await.unwrap(), Reverted::Restored);
            assert_eq!(wire.requests(), [kind.get(), expected]);
            // And once more.
            let wire = Wire::answering([kind.bounded_by(prior.as_str())]);
            assert_eq!(kind.action(&wire).revert(order, &prior).await.unwrap(), Reverted::Restored);
            assert_eq!(wire.requests(), [kind.get()]);
        }
    }
}

#[tokio::test]
async fn a_boundary_that_somebody_changed_since_is_left_alone() {
    for kind in KINDS {
        let (incident, step) = kind.order();
        let other = "arn:aws:iam::111122223333:policy/other";
        for (prior, found) in [(json!(BEFORE), Some(other)), (json!(BEFORE), None), (json!(null), Some(other))] {
            let wire = Wire::answering([kind.bounded_by(found)]);
            let reverted = kind.action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
            assert!(matches!(&reverted, Reverted::LeftAlone(text) if text.contains("somebody changed it since")));
            assert_eq!(wire.requests(), [kind.get()]);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_put_back_leaves_the_deny_in_place_and_says_so() {
    for kind in KINDS {
        let (incident, step) = kind.order();
        let order = order(&incident, &step);
        let there = || kind.bounded_by(Some(DENY_ALL));
        let wire = Wire::answering([there(), query_error(404, "NoSuchEntity"), there()]);
        let reverted = kind.action(&wire).revert(order, &json!(BEFORE)).await.unwrap();
        let Reverted::LeftAlone(text) = reverted else { unreachable!("{reverted:?}") };
        assert!(text.contains(BEFORE) && text.contains("everything is denied until a person"), "{text}");
        let wire = Wire::answering([there()]);
        let reverted = kind.action(&wire).revert(order, &json!(DENY_ALL)).await.unwrap();
        assert!(matches!(reverted, Reverted::LeftAlone(text) if text.contains("before the containment too")));
        // Gone in between: the role, not its policy.
        let gone = || query_error(404, "NoSuchEntity");
        let wire = Wire::answering([there(), gone(), gone()]);
        let error = kind.action(&wire).revert(order, &json!(BEFORE)).await.unwrap_err();
        assert!(matches!(error, ActionError::Gone { .. }), "{error}");
        for answer in [query_error(403, "AccessDenied"), query_error(400, "Throttling"), Answer::Lost] {
            let wire = Wire::answering([there(), answer]);
            assert!(kind.action(&wire).revert(order, &json!(BEFORE)).await.is_err());
        }
    }
}

#[tokio::test]
async fn an_edited_record_puts_nothing_in_place() {
    for kind in KINDS {
        let (incident, step) = kind.order();
        for edited in [json!({"arn": BEFORE}), json!("arn:aws:iam::111122223333:role/x"), json!(7), json!("*")] {
            let wire = Wire::answering([]);
            let error = kind.action(&wire).revert(order(&incident, &step), &edited).await.unwrap_err();
            assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
            assert!(wire.requests().is_empty());
        }
    }
}
