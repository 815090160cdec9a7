//! Denies everything to a role, by attaching the pre-deployed deny policy.

use async_trait::async_trait;
use aws_sdk_iam::Client;
use firebreak_model::action::ActionId;
use serde_json::Value;

use crate::action::{
    Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified, absent_is_none,
};
use crate::actions::target::role;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::QuarantineRole,
    summary: "the deny policy is attached to the role: every session of it is denied everything",
    permissions: &[
        Permission { action: "iam:AttachRolePolicy", on: Resource::RoleAndDenyPolicy },
        Permission { action: "iam:ListAttachedRolePolicies", on: Resource::Role },
    ],
    revert_permissions: &[Permission { action: "iam:DetachRolePolicy", on: Resource::RoleAndDenyPolicy }],
    additive: true,
    reversible: "wholly: the policy is detached",
    idempotent_because: "attaching a policy that is attached changes nothing",
    disrupts: "everything that runs as the role: calls, log delivery, event sources, destinations",
};

/// Attaches the deny policy to a role.
#[derive(Debug, Clone)]
pub struct QuarantineRole {
    iam: Client,
    deny_policy_arn: String,
}

impl QuarantineRole {
    /// With this client, and this policy.
    pub fn new(iam: Client, deny_policy_arn: String) -> Self {
        Self { iam, deny_policy_arn }
    }
}

#[async_trait]
impl Action for QuarantineRole {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, _: Order<'_>) -> Result<Value, ActionError> {
        Ok(Value::Null)
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        let role = role(order)?;
        let attach = self.iam.attach_role_policy().role_name(role).policy_arn(&self.deny_policy_arn);
        attach.send().await.map_err(|e| ActionError::of("iam:AttachRolePolicy", role, e))?;
        Ok(())
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let role = role(order)?;
        let mut pages = self.iam.list_attached_role_policies().role_name(role).into_paginator().items().send();
        while let Some(policy) = pages.next().await {
            let policy = policy.map_err(|e| ActionError::of("iam:ListAttachedRolePolicies", role, e))?;
            if policy.policy_arn() == Some(&self.deny_policy_arn) {
                return Ok(Verified::InForce);
            }
        }
        Ok(Verified::NotInForce("the deny policy is not among the role's attached policies".to_owned()))
    }

    async fn revert(&self, order: Order<'_>, _: &Value) -> Result<Reverted, ActionError> {
        let role = role(order)?;
        let detach = self.iam.detach_role_policy().role_name(role).policy_arn(&self.deny_policy_arn);
        let result = detach.send().await.map_err(|e| ActionError::of("iam:DetachRolePolicy", role, e));
        // `NoSuchEntity` says that the policy was not attached, or that the role is gone: either way nothing of ours is left.
        absent_is_none(result)?;
        Ok(Reverted::Restored)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::testing::{Answer, Wire, ok, order, query_error, role_order};

    const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/deny-all";
    const LIST: &str = "POST / Action=ListAttachedRolePolicies&Version=2010-05-08&RoleName=orders";
    const ATTACH: &str = "POST / Action=AttachRolePolicy&Version=2010-05-08&RoleName=orders\
                          &PolicyArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2Ffirebreak%2Fdeny-all";

    fn action(wire: &Wire) -> QuarantineRole {
        QuarantineRole::new(Client::new(&wire.config()), DENY.to_owned())
    }

    fn attached(arns: &[&str]) -> Answer {
        let members: Vec<String> = arns
            .iter()
            .map(|arn| format!("<member><PolicyName>p</PolicyName><PolicyArn>{arn}</PolicyArn></member>"))
            .collect();
        let members = members.concat();
        ok(format!(
            "<ListAttachedRolePoliciesResponse><ListAttachedRolePoliciesResult><AttachedPolicies>{members}\
             </AttachedPolicies><IsTruncated>false</IsTruncated></ListAttachedRolePoliciesResult>\
             </ListAttachedRolePoliciesResponse>"
        ))
    }

    fn attach_ok() -> Answer {
        ok("<AttachRolePolicyResponse/>")
    }

    #[tokio::test]
    async fn attaches_and_reads_back() {
        let wire = Wire::answering([attach_ok(), attached(&["arn:aws:iam::aws:policy/ReadOnlyAccess", DENY])]);
        let (incident, step) = role_order("orders");
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(verified, Verified::InForce);
        assert_eq!(wire.requests(), [ATTACH, LIST]);
    }

    #[tokio::test]
    async fn what_is_not_read_back_is_not_in_force() {
        let wire = Wire::answering([attached(&["arn:aws:iam::111122223333:policy/deny-all"])]);
        let (incident, step) = role_order("orders");
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(matches!(verified, Verified::NotInForce(_)));
    }

    #[tokio::test]
    async fn errors_say_what_can_be_done_about_them() {
        for (answer, transient, may_have_applied) in [
            (query_error(403, "AccessDenied"), false, false),
            (query_error(409, "LimitExceeded"), false, false),
            (query_error(404, "NoSuchEntity"), false, false),
            (query_error(400, "UnmodifiableEntity"), false, false),
            (query_error(400, "Throttling"), true, false),
            (query_error(503, "ServiceUnavailable"), true, false),
            (Answer::Http(500, String::new()), true, true),
            (Answer::Lost, true, true),
        ] {
            let wire = Wire::answering([answer.clone()]);
            let (incident, step) = role_order("orders");
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!(error.is_transient(), transient, "{answer:?}: {error}");
            assert_eq!(error.may_have_applied(), may_have_applied, "{answer:?}: {error}");
            assert_eq!(wire.requests(), [ATTACH]);
        }
    }

    #[tokio::test]
    async fn reverting_what_is_not_attached_is_no_error() {
        for answer in [ok("<DetachRolePolicyResponse/>"), query_error(404, "NoSuchEntity")] {
            let wire = Wire::answering([answer]);
            let (incident, step) = role_order("orders");
            let reverted = action(&wire).revert(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(reverted, Reverted::Restored);
            assert!(wire.requests()[0].starts_with("POST / Action=DetachRolePolicy"));
        }
    }
}
