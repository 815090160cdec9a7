//! Denies everything to a user, by attaching the pre-deployed deny policy: long-term keys, console and the
//! sessions that its keys minted alike.

use async_trait::async_trait;
use aws_sdk_iam::Client;
use firebreak_model::action::ActionId;
use serde_json::Value;

use crate::action::{
    Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified, absent_is_none,
};
use crate::actions::iam_deny_policy::{self, emptied, filled_by, which_is_gone};
use crate::actions::target::{principal, user};
use crate::paging;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::QuarantineUser,
    summary: "the deny policy is attached to the user: its keys, its console and its sessions are denied everything",
    permissions: &[
        Permission { action: "iam:AttachUserPolicy", on: Resource::UserAndDenyPolicy },
        Permission { action: "iam:ListAttachedUserPolicies", on: Resource::User },
        Permission { action: "iam:GetUser", on: Resource::User },
        iam_deny_policy::READ[0],
        iam_deny_policy::READ[1],
    ],
    revert_permissions: &[Permission { action: "iam:DetachUserPolicy", on: Resource::UserAndDenyPolicy }],
    additive: true,
    reversible: "wholly: the policy is detached",
    idempotent_because: "attaching a policy that is attached changes nothing",
    disrupts: "everything that the user does, by key or in the console",
};

const ATTACH: &str = "iam:AttachUserPolicy";

/// Attaches the deny policy to a user.
#[derive(Debug, Clone)]
pub struct QuarantineUser {
    iam: Client,
    deny_policy_arn: String,
}

impl QuarantineUser {
    /// With this client, and this policy.
    pub fn new(iam: Client, deny_policy_arn: String) -> Self {
        Self { iam, deny_policy_arn }
    }

    async fn attached(&self, user: &str) -> Result<Vec<String>, ActionError> {
        let pages = self.iam.list_attached_user_policies().user_name(user).into_paginator().send();
        let pages = paging::read(pages, "iam:ListAttachedUserPolicies", user).await?;
        Ok(pages
            .into_iter()
            .flat_map(|page| page.attached_policies.unwrap_or_default())
            .filter_map(|p| p.policy_arn)
            .collect())
    }

    async fn is_attached(&self, user: &str) -> Result<Verified, ActionError> {
        if self.attached(user).await?.contains(&self.deny_policy_arn) {
            return Ok(Verified::InForce);
        }
        Ok(Verified::NotInForce("the deny policy is not among the user's attached policies".to_owned()))
    }
}

#[async_trait]
impl Action for QuarantineUser {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, _: Order<'_>) -> Result<Value, ActionError> {
        Ok(Value::Null)
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        let user = user(order)?;
        let attach = self.iam.attach_user_policy().user_name(user).policy_arn(&self.deny_policy_arn);
        let Err(error) = attach.send().await.map_err(|e| ActionError::of(ATTACH, user, e)) else { return Ok(()) };
        let error = filled_by(error, self.attached(user)).await;
        Err(which_is_gone(&self.iam, ATTACH, principal(order)?, &self.deny_policy_arn, error).await)
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let user = user(order)?;
        let (shows, emptied) = tokio::join!(self.is_attached(user), emptied(&self.iam, &self.deny_policy_arn));
        let shows = shows?;
        if shows != Verified::InForce {
            return Ok(shows);
        }
        Ok(emptied?.map_or(Verified::InForce, Verified::NotInForce))
    }

    async fn shows(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        self.is_attached(user(order)?).await
    }

    async fn revert(&self, order: Order<'_>, _: &Value) -> Result<Reverted, ActionError> {
        let user = user(order)?;
        let detach = self.iam.detach_user_policy().user_name(user).policy_arn(&self.deny_policy_arn);
        // `NoSuchEntity`: not attached, or the user is gone; either way nothing of ours is left.
        absent_is_none(detach.send().await.map_err(|e| ActionError::of("iam:DetachUserPolicy", user, e)))?;
        Ok(Reverted::Restored)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ladder::Refusal;

    use super::*;
    use crate::testing::{Answer, Wire, deny_policy, ok, order, query_error, user_bounded_by, user_order, whole_deny};

    const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/deny-all";
    const ATTACH_REQUEST: &str = "POST / Action=AttachUserPolicy&Version=2010-05-08&UserName=ci-bot\
                          &PolicyArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Apolicy%2Ffirebreak%2Fdeny-all";

    fn action(wire: &Wire) -> QuarantineUser {
        QuarantineUser::new(Client::new(&wire.config()), DENY.to_owned())
    }

    fn attached(arn: &str) -> Answer {
        ok(format!(
            "<ListAttachedUserPoliciesResponse><ListAttachedUserPoliciesResult><AttachedPolicies><member>\
             <PolicyArn>{arn}</PolicyArn></member></AttachedPolicies><IsTruncated>false</IsTruncated>\
             </ListAttachedUserPoliciesResult></ListAttachedUserPoliciesResponse>"
        ))
    }

    #[tokio::test]
    async fn attaches_to_the_user_and_reads_back() {
        let answers = [ok("<AttachUserPolicyResponse/>"), attached(DENY)];
        let wire = Wire::answering(answers.into_iter().chain(whole_deny()));
        let (incident, step) = user_order("ci-bot", ActionId::QuarantineUser);
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(verified, Verified::InForce);
        assert_eq!(wire.requests()[0], ATTACH_REQUEST);
        let awss_own = attached("arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3");
        let wire = Wire::answering([awss_own].into_iter().chain(whole_deny()));
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(matches!(verified, Verified::NotInForce(_)), "AWS's own quarantine denies a list, not everything");
    }

    #[tokio::test]
    async fn a_step_on_a_role_of_the_same_name_is_refused_before_any_call() {
        let wire = Wire::answering([]);
        let (incident, step) = crate::testing::role_order("ci-bot");
        assert!(action(&wire).apply(order(&incident, &step), &Value::Null).await.is_err());
        assert!(wire.requests().is_empty());
    }

    #[tokio::test]
    async fn errors_say_what_can_be_done_about_them() {
        let (incident, step) = user_order("ci-bot", ActionId::QuarantineUser);
        for (answer, transient, applied) in [
            (query_error(403, "AccessDenied"), false, false),
            (query_error(409, "LimitExceeded"), false, false),
            (query_error(400, "Throttling"), true, false),
            (Answer::Lost, true, true),
        ] {
            let wire = Wire::answering([answer]);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!((error.is_transient(), error.may_have_applied()), (transient, applied), "{error}");
        }
    }

    #[tokio::test]
    async fn an_emptied_policy_a_missing_one_and_a_full_quota_are_told_apart() {
        let (incident, step) = user_order("ci-bot", ActionId::QuarantineUser);
        let emptied = deny_policy(r#"{"Statement": []}"#);
        let wire = Wire::answering([attached(DENY)].into_iter().chain(emptied));
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(matches!(&verified, Verified::NotInForce(found) if found.contains("somebody changed")), "{verified:?}");
        for (answers, refusal) in [
            ([query_error(404, "NoSuchEntity"), user_bounded_by(None)], Some(Refusal::PolicyGone)),
            ([query_error(404, "NoSuchEntity"), query_error(404, "NoSuchEntity")], None),
            ([query_error(409, "LimitExceeded"), attached("arn:aws:iam::aws:policy/x")], Some(Refusal::Quota)),
        ] {
            let wire = Wire::answering(answers);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!((error.refusal(), wire.unused()), (refusal, 0), "{error}");
        }
    }

    #[tokio::test]
    async fn reverting_what_is_not_attached_is_no_error() {
        let (incident, step) = user_order("ci-bot", ActionId::QuarantineUser);
        for answer in [ok("<DetachUserPolicyResponse/>"), query_error(404, "NoSuchEntity")] {
            let wire = Wire::answering([answer]);
            let reverted = action(&wire).revert(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(reverted, Reverted::Restored);
        }
    }
}
