//! Denies everything to a role, by attaching the pre-deployed deny policy.

use async_trait::async_trait;
use aws_sdk_iam::Client;
use firebreak_model::action::ActionId;
use serde_json::Value;

use crate::action::{
    Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified, absent_is_none,
};
use crate::actions::iam_deny_policy::{self, emptied, filled_by, which_is_gone};
use crate::actions::target::{principal, role};
use crate::paging;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::QuarantineRole,
    summary: "the deny policy is attached to the role: every session of it is denied everything",
    permissions: &[
        Permission { action: "iam:AttachRolePolicy", on: Resource::RoleAndDenyPolicy },
        Permission { action: "iam:ListAttachedRolePolicies", on: Resource::Role },
        Permission { action: "iam:GetRole", on: Resource::Role },
        iam_deny_policy::READ[0],
        iam_deny_policy::READ[1],
    ],
    revert_permissions: &[Permission { action: "iam:DetachRolePolicy", on: Resource::RoleAndDenyPolicy }],
    additive: true,
    reversible: "wholly: the policy is detached",
    idempotent_because: "attaching a policy that is attached changes nothing",
    disrupts: "everything that runs as the role: calls, log delivery, event sources, destinations",
};

const ATTACH: &str = "iam:AttachRolePolicy";

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

    async fn attached(&self, role: &str) -> Result<Vec<String>, ActionError> {
        let pages = self.iam.list_attached_role_policies().role_name(role).into_paginator().send();
        let pages = paging::read(pages, "iam:ListAttachedRolePolicies", role).await?;
        Ok(pages
            .into_iter()
            .flat_map(|page| page.attached_policies.unwrap_or_default())
            .filter_map(|p| p.policy_arn)
            .collect())
    }

    async fn is_attached(&self, role: &str) -> Result<Verified, ActionError> {
        if self.attached(role).await?.contains(&self.deny_policy_arn) {
            return Ok(Verified::InForce);
        }
        Ok(Verified::NotInForce("the deny policy is not among the role's attached policies".to_owned()))
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
        let Err(error) = attach.send().await.map_err(|e| ActionError::of(ATTACH, role, e)) else { return Ok(()) };
        let error = filled_by(error, self.attached(role)).await;
        Err(which_is_gone(&self.iam, ATTACH, principal(order)?, &self.deny_policy_arn, error).await)
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let role = role(order)?;
        let (shows, emptied) = tokio::join!(self.is_attached(role), emptied(&self.iam, &self.deny_policy_arn));
        let shows = shows?;
        if shows != Verified::InForce {
            return Ok(shows);
        }
        Ok(emptied?.map_or(Verified::InForce, Verified::NotInForce))
    }

    async fn shows(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        self.is_attached(role(order)?).await
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
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use firebreak_model::ladder::Refusal;

    use super::*;
    use crate::testing::{Answer, Wire, deny_policy, ok, order, query_error, role_bounded_by, role_order, whole_deny};

    const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/deny-all";
    const LIST: &str = "POST / Action=ListAttachedRolePolicies&Version=2010-05-08&RoleName=orders";
    const ATTACH_REQUEST: &str = "POST / Action=AttachRolePolicy&Version=2010-05-08&RoleName=orders\
                          &PolicyArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2Ffirebreak%2Fdeny-all";

    const GET: &str = "POST / Action=GetRole&Version=2010-05-08&RoleName=orders";
    const POLICY: &str = "POST / Action=GetPolicy&Version=2010-05-08\
                          &PolicyArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2Ffirebreak%2Fdeny-all";
    const VERSION: &str = "POST / Action=GetPolicyVersion&Version=2010-05-08\
                           &PolicyArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2Ffirebreak%2Fdeny-all&VersionId=v3";

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
        let answers = [attach_ok(), attached(&["arn:aws:iam::aws:policy/ReadOnlyAccess", DENY])];
        let wire = Wire::answering(answers.into_iter().chain(whole_deny()));
        let (incident, step) = role_order("orders");
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(verified, Verified::InForce);
        assert_eq!(wire.requests(), [ATTACH_REQUEST, LIST, POLICY, VERSION]);
    }

    #[tokio::test]
    async fn what_is_not_read_back_is_not_in_force() {
        let other = attached(&["arn:aws:iam::111122223333:policy/deny-all"]);
        let wire = Wire::answering([other].into_iter().chain(whole_deny()));
        let (incident, step) = role_order("orders");
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(matches!(verified, Verified::NotInForce(_)));
    }

    #[tokio::test]
    async fn a_deny_policy_that_somebody_emptied_is_attached_and_not_in_force() {
        let (incident, step) = role_order("orders");
        let allow = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}"#;
        let some = r#"{"Statement": {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}}"#;
        for (answers, says) in [
            (deny_policy(allow).to_vec(), "somebody changed the deny policy: version `v3`"),
            (deny_policy(some).to_vec(), "somebody changed the deny policy"),
            (deny_policy("no document").to_vec(), "somebody changed the deny policy"),
            (vec![query_error(404, "NoSuchEntity")], "does not exist any more"),
        ] {
            let wire = Wire::answering([attached(&[DENY])].into_iter().chain(answers));
            let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
            assert!(matches!(&verified, Verified::NotInForce(found) if found.contains(says)), "{verified:?}");
        }
        // What cannot be read is not known to be whole.
        for answer in [query_error(400, "Throttling"), query_error(403, "AccessDenied"), Answer::Lost] {
            let wire = Wire::answering([attached(&[DENY]), answer]);
            assert!(action(&wire).verify(order(&incident, &step), &Value::Null).await.is_err());
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_found_out_where_iam_does_not_say() {
        let (incident, step) = role_order("orders");
        for (there, refusal) in
            [(role_bounded_by(None), Some(Refusal::PolicyGone)), (query_error(404, "NoSuchEntity"), None)]
        {
            let wire = Wire::answering([query_error(404, "NoSuchEntity"), there]);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!(error.refusal(), refusal, "{error}");
            assert_eq!(matches!(error, ActionError::Gone { .. }), refusal.is_none());
            assert_eq!(wire.requests(), [ATTACH_REQUEST, GET]);
        }
    }

    #[tokio::test]
    async fn a_full_quota_is_told_with_what_fills_it() {
        let (incident, step) = role_order("orders");
        let filling =
            attached(&["arn:aws:iam::aws:policy/ReadOnlyAccess", "no arn", "arn:aws:iam::111122223333:policy/x"]);
        for (answer, told) in [(filling, 2), (query_error(400, "Throttling"), 0)] {
            let wire = Wire::answering([query_error(409, "LimitExceeded"), answer]);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            let ActionError::Quota { filled_by, .. } = &error else { panic!("{error}") };
            assert_eq!((filled_by.len(), error.refusal()), (told, Some(Refusal::Quota)));
        }
    }

    #[tokio::test]
    async fn errors_say_what_can_be_done_about_them() {
        for (answer, transient, may_have_applied) in [
            (query_error(403, "AccessDenied"), false, false),
            (query_error(409, "LimitExceeded"), false, false),
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
            assert_eq!(wire.requests()[0], ATTACH_REQUEST);
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
