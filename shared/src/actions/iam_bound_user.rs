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
    use super::*;
    use crate::testing::{Wire, order, role_order};

    #[tokio::test]
    async fn a_step_on_a_role_of_the_same_name_is_refused_before_any_call() {
        let (incident, step) = role_order("ci-bot");
        let wire = Wire::answering([]);
        let bound = BoundUser::new(Client::new(&wire.config()), "arn:aws:iam::111122223333:policy/deny");
        assert!(bound.apply(order(&incident, &step), &Value::Null).await.is_err());
        assert!(wire.requests().is_empty());
    }
}
