//! Denies everything to a role by its permissions boundary: the rung below the attached deny policy.

use async_trait::async_trait;
use aws_sdk_iam::Client;
use firebreak_model::action::ActionId;
use serde_json::Value;

use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};
use crate::actions::iam_boundary::{Boundary, Bounded};
use crate::actions::target::role;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::BoundRole,
    summary: "AWSDenyAll is the role's permissions boundary: every session of it is denied everything",
    permissions: &[
        Permission { action: "iam:GetRole", on: Resource::Role },
        Permission { action: "iam:PutRolePermissionsBoundary", on: Resource::RoleAndDenyAll },
    ],
    revert_permissions: &[
        Permission { action: "iam:GetRole", on: Resource::Role },
        Permission { action: "iam:DeleteRolePermissionsBoundary", on: Resource::RoleAndDenyAll },
        Permission { action: "iam:PutRolePermissionsBoundary", on: Resource::Role },
    ],
    additive: false,
    reversible: "wholly: the boundary that was there is put back, unless its policy was deleted meanwhile",
    idempotent_because: "what was the boundary before is recorded once, and a role has one boundary",
    disrupts: "everything that runs as the role: calls, log delivery, event sources, destinations",
};

/// Makes AWS's own policy that denies everything the boundary of a role.
#[derive(Debug, Clone)]
pub struct BoundRole(Boundary);

impl BoundRole {
    /// With this client, in the partition of the deny policy.
    pub fn new(iam: Client, deny_policy_arn: &str) -> Self {
        Self(Boundary::new(iam, deny_policy_arn))
    }
}

#[async_trait]
impl Action for BoundRole {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        self.0.observe(order, Bounded::Role(role(order)?)).await
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        self.0.apply(order, Bounded::Role(role(order)?)).await
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        self.0.verify(Bounded::Role(role(order)?)).await
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        self.0.revert(order, Bounded::Role(role(order)?), prior).await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::plan::Step;

    use super::*;
    use crate::testing::{Wire, order, role_bounded_by, role_order};

    const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/deny-all";

    #[tokio::test]
    async fn a_role_made_again_under_the_name_is_not_bounded() {
        let (mut incident, step) = role_order("orders");
        let step = Step { action: ActionId::BoundRole, ..step };
        incident.principal.unique_id = Some("AROAEXAMPLE000000002".parse().unwrap());
        let wire = Wire::answering([role_bounded_by(None)]);
        let error =
            BoundRole::new(Client::new(&wire.config()), DENY).observe(order(&incident, &step)).await.unwrap_err();
        assert!(matches!(error, ActionError::Withheld(_)), "{error}");
    }

    #[test]
    fn the_boundary_is_of_the_partition_that_the_deny_policy_is_in() {
        for partition in ["aws", "aws-cn", "aws-us-gov"] {
            let deny = format!("arn:{partition}:iam::111122223333:policy/deny");
            let action = BoundRole::new(Client::new(&Wire::answering([]).config()), &deny);
            assert!(format!("{action:?}").contains(match partition {
                "aws" => "partition: Aws,",
                "aws-cn" => "partition: AwsCn,",
                _ => "partition: AwsUsGov,",
            }));
        }
    }
}
