//! Denies everything to a user by its permissions boundary: the rung below the attached deny policy.

use async_trait::async_trait;
use aws_sdk_iam::Client;
use firebreak_model::action::ActionId;
use serde_json::Value;

use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};
use crate::actions::iam_boundary::{Boundary, Bounded};
use crate::actions::target::user;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::BoundUser,
    summary: "AWSDenyAll is the user's permissions boundary: its keys, its console and its sessions are denied everything",
    permissions: &[
        Permission { action: "iam:GetUser", on: Resource::User },
        Permission { action: "iam:PutUserPermissionsBoundary", on: Resource::UserAndDenyAll },
    ],
    revert_permissions: &[
        Permission { action: "iam:GetUser", on: Resource::User },
        Permission { action: "iam:DeleteUserPermissionsBoundary", on: Resource::UserAndDenyAll },
        Permission { action: "iam:PutUserPermissionsBoundary", on: Resource::User },
    ],
    additive: false,
    reversible: "wholly: the boundary that was there is put back, unless its policy was deleted meanwhile",
    idempotent_because: "what was the boundary before is recorded once, and a user has one boundary",
    disrupts: "everything that the user does, by key or in the console",
};

/// Makes AWS's own policy that denies everything the boundary of a user.
#[derive(Debug, Clone)]
pub struct BoundUser(Boundary);

impl BoundUser {
    /// With this client, in the partition of the deny policy.
    pub fn new(iam: Client, deny_policy_arn: &str) -> Self {
        Self(Boundary::new(iam, deny_policy_arn))
    }
}

#[async_trait]
impl Action for BoundUser {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        self.0.observe(order, Bounded::User(user(order)?)).await
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        self.0.apply(order, Bounded::User(user(order)?)).await
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        self.0.verify(Bounded::User(user(order)?)).await
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        self.0.revert(order, Bounded::User(user(order)?), prior).await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ladder::Refusal;
    use firebreak_model::ledger::Incident;
    use firebreak_model::plan::Step;
    use serde_json::json;

    use super::*;
    use crate::testing::{Wire, ok, order, query_error, user_bounded_by, user_order};

    const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/deny-all";
    const DENY_ALL: &str = "arn:aws:iam::aws:policy/AWSDenyAll";
    const BEFORE: &str = "arn:aws:iam::111122223333:policy/team/boundary";
    const GET: &str = "POST / Action=GetUser&Version=2010-05-08&UserName=ci-bot";
    const DELETE: &str = "POST / Action=DeleteUserPermissionsBoundary&Version=2010-05-08&UserName=ci-bot";

    fn put(arn: &str) -> String {
        let arn = arn.replace(':', "%3A").replace('/', "%2F");
        format!("POST / Action=PutUserPermissionsBoundary&Version=2010-05-08&UserName=ci-bot&PermissionsBoundary={arn}")
    }

    fn action(wire: &Wire) -> BoundUser {
        BoundUser::new(Client::new(&wire.config()), DENY)
    }

    fn bound() -> (Incident, Step) {
        user_order("ci-bot", ActionId::BoundUser)
    }

    fn done() -> crate::testing::Answer {
        ok("<PutUserPermissionsBoundaryResponse/>")
    }

    #[tokio::test]
    async fn records_the_boundary_that_was_there_puts_its_own_and_reads_it_back() {
        let (incident, step) = bound();
        let order = order(&incident, &step);
        for before in [None, Some(BEFORE)] {
            let wire = Wire::answering([user_bounded_by(before), done(), user_bounded_by(Some(DENY_ALL))]);
            let prior = action(&wire).observe(order).await.unwrap();
            assert_eq!(prior, json!(before));
            action(&wire).apply(order, &prior).await.unwrap();
            assert_eq!(action(&wire).verify(order, &prior).await.unwrap(), Verified::InForce);
            assert_eq!(wire.requests(), [GET.to_owned(), put(DENY_ALL), GET.to_owned()]);
        }
    }

    #[tokio::test]
    async fn another_boundary_is_not_in_force() {
        let (incident, step) = bound();
        for found in [None, Some(BEFORE), Some("arn:aws-cn:iam::aws:policy/AWSDenyAll")] {
            let wire = Wire::answering([user_bounded_by(found)]);
            let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
            assert!(matches!(verified, Verified::NotInForce(_)), "{found:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_says_whether_another_try_may_go_better() {
        let (incident, step) = bound();
        for (answers, refusal, transient) in [
            (vec![query_error(403, "AccessDenied")], Some(Refusal::Denied), false),
            (vec![query_error(400, "UnmodifiableEntity")], Some(Refusal::Denied), false),
            (vec![query_error(404, "NoSuchEntity"), user_bounded_by(None)], Some(Refusal::PolicyGone), false),
            (vec![query_error(404, "NoSuchEntity"), query_error(404, "NoSuchEntity")], None, false),
            (vec![query_error(400, "Throttling")], None, true),
        ] {
            let wire = Wire::answering(answers);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!((error.refusal(), error.is_transient(), wire.unused()), (refusal, transient, 0), "{error}");
        }
    }

    #[tokio::test]
    async fn a_release_puts_back_what_was_there_or_deletes_its_own() {
        let (incident, step) = bound();
        let order = order(&incident, &step);
        for (prior, expected) in [(json!(null), DELETE.to_owned()), (json!(BEFORE), put(BEFORE))] {
            let wire = Wire::answering([user_bounded_by(Some(DENY_ALL)), done()]);
            assert_eq!(action(&wire).revert(order, &prior).await.unwrap(), Reverted::Restored);
            assert_eq!(wire.requests(), [GET.to_owned(), expected]);
            // And once more.
            let wire = Wire::answering([user_bounded_by(prior.as_str())]);
            assert_eq!(action(&wire).revert(order, &prior).await.unwrap(), Reverted::Restored);
            assert_eq!(wire.requests(), [GET]);
        }
    }

    #[tokio::test]
    async fn a_step_on_a_role_of_the_same_name_is_refused_before_any_call() {
        let (incident, step) = crate::testing::role_order("ci-bot");
        let wire = Wire::answering([]);
        assert!(action(&wire).apply(order(&incident, &step), &Value::Null).await.is_err());
        assert!(wire.requests().is_empty());
    }
}
