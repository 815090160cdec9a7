//! The policy of AWS's own that denies everything, as the permissions boundary of a role or user. Its deny is an explicit
//! one, which overrides every grant, those of resource policies too; and nobody in the account can edit or delete it, so
//! that it holds where our own deny policy was kept out, emptied or deleted.

use aws_sdk_iam::Client;
use firebreak_model::guard::Veto;
use firebreak_model::ids::{Partition, PolicyArn};
use serde_json::Value;

use super::iam_deny_policy::which_is_gone;
use super::prior;
use super::target::principal;
use crate::action::{ActionError, Order, Reverted, Verified};

/// Whose boundary it is: the step's target, by its kind.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bounded<'a> {
    Role(&'a str),
    User(&'a str),
}

impl Bounded<'_> {
    fn name(self) -> String {
        match self {
            Self::Role(name) | Self::User(name) => name.to_owned(),
        }
    }
}

/// Puts the boundary in place, and what was there back.
#[derive(Debug, Clone)]
pub(super) struct Boundary {
    iam: Client,
    deny_all: PolicyArn,
}

/// What is there: the boundary, and whose unique id it was read of.
struct Present {
    boundary: Option<String>,
    unique_id: String,
}

impl Boundary {
    /// In the partition of our own deny policy.
    pub(super) fn new(iam: Client, deny_policy_arn: &str) -> Self {
        let partition = deny_policy_arn.parse().map_or(Partition::Aws, |arn: PolicyArn| arn.partition());
        Self { iam, deny_all: PolicyArn::deny_all(partition) }
    }

    async fn present(&self, whose: Bounded<'_>) -> Result<Present, ActionError> {
        let arn = |boundary: Option<aws_sdk_iam::types::AttachedPermissionsBoundary>| {
            boundary.and_then(|boundary| boundary.permissions_boundary_arn)
        };
        let there = match whose {
            Bounded::Role(name) => {
                let answer = self.iam.get_role().role_name(name).send().await;
                let role = answer.map_err(|e| ActionError::of("iam:GetRole", name, e))?.role;
                role.map(|role| Present { boundary: arn(role.permissions_boundary), unique_id: role.role_id })
            }
            Bounded::User(name) => {
                let answer = self.iam.get_user().user_name(name).send().await;
                let user = answer.map_err(|e| ActionError::of("iam:GetUser", name, e))?.user;
                user.map(|user| Present { boundary: arn(user.permissions_boundary), unique_id: user.user_id })
            }
        };
        there.ok_or_else(|| ActionError::Unreadable {
            target: whose.name(),
            problem: "IAM's answer is empty".to_owned(),
        })
    }

    async fn put(&self, order: Order<'_>, whose: Bounded<'_>, policy: &str) -> Result<(), ActionError> {
        let (call, sent) = match whose {
            Bounded::Role(name) => {
                let call = "iam:PutRolePermissionsBoundary";
                let put = self.iam.put_role_permissions_boundary().role_name(name).permissions_boundary(policy);
                (call, put.send().await.map(|_| ()).map_err(|e| ActionError::of(call, name, e)))
            }
            Bounded::User(name) => {
                let call = "iam:PutUserPermissionsBoundary";
                let put = self.iam.put_user_permissions_boundary().user_name(name).permissions_boundary(policy);
                (call, put.send().await.map(|_| ()).map_err(|e| ActionError::of(call, name, e)))
            }
        };
        let Err(error) = sent else { return Ok(()) };
        Err(which_is_gone(&self.iam, call, principal(order)?, policy, error).await)
    }

    async fn delete(&self, whose: Bounded<'_>) -> Result<(), ActionError> {
        match whose {
            Bounded::Role(name) => {
                let sent = self.iam.delete_role_permissions_boundary().role_name(name).send().await;
                sent.map(|_| ()).map_err(|e| ActionError::of("iam:DeleteRolePermissionsBoundary", name, e))
            }
            Bounded::User(name) => {
                let sent = self.iam.delete_user_permissions_boundary().user_name(name).send().await;
                sent.map(|_| ()).map_err(|e| ActionError::of("iam:DeleteUserPermissionsBoundary", name, e))
            }
        }
    }

    /// The ARN of the boundary that is there, or `null`.
    pub(super) async fn observe(&self, order: Order<'_>, whose: Bounded<'_>) -> Result<Value, ActionError> {
        let present = self.present(whose).await?;
        if let Some(pinned) = order.incident.principal.unique_id.as_ref().filter(|id| id.as_str() != present.unique_id)
        {
            let name = whose.name();
            return Err(Veto(format!("`{name}` is not `{pinned}` any more: it was deleted and made again")).into());
        }
        prior::record(order, &present.boundary)
    }

    pub(super) async fn apply(&self, order: Order<'_>, whose: Bounded<'_>) -> Result<(), ActionError> {
        self.put(order, whose, &self.deny_all.to_string()).await
    }

    pub(super) async fn verify(&self, whose: Bounded<'_>) -> Result<Verified, ActionError> {
        let found = self.present(whose).await?.boundary;
        if found == Some(self.deny_all.to_string()) {
            return Ok(Verified::InForce);
        }
        Ok(Verified::NotInForce(format!("the boundary is {}", shown(found.as_deref()))))
    }

    /// Only where the boundary is still ours. What was there comes back; where that cannot be, ours stays: a principal
    /// without the limit that it had would be freer than before the containment.
    pub(super) async fn revert(
        &self,
        order: Order<'_>,
        whose: Bounded<'_>,
        recorded: &Value,
    ) -> Result<Reverted, ActionError> {
        let before: Option<PolicyArn> = prior::read(order, recorded)?;
        let present = self.present(whose).await?.boundary;
        let ours = self.deny_all.to_string();
        if present.as_deref() != Some(ours.as_str()) {
            if present == before.as_ref().map(ToString::to_string) {
                return Ok(Reverted::Restored);
            }
            return Ok(Reverted::LeftAlone(format!(
                "the boundary is {} now, and was {} before the containment: somebody changed it since",
                shown(present.as_deref()),
                shown(before.map(|arn| arn.to_string()).as_deref())
            )));
        }
        let Some(before) = before else {
            return match self.delete(whose).await {
                // Taken away by someone in between.
                Ok(()) | Err(ActionError::Gone { .. }) => Ok(Reverted::Restored),
                Err(error) => Err(error),
            };
        };
        if before == self.deny_all {
            return Ok(Reverted::LeftAlone(format!(
                "`{ours}` was the boundary before the containment too, and stays: everything is denied until a person \
                 puts another boundary in its place or deletes it"
            )));
        }
        match self.put(order, whose, &before.to_string()).await {
            Ok(()) => Ok(Reverted::Restored),
            Err(ActionError::PolicyGone { .. }) => Ok(Reverted::LeftAlone(format!(
                "the policy `{before}`, which was the boundary before the containment, does not exist any more: `{ours}` \
                 stays as the boundary, and everything is denied until a person puts another in its place or deletes it"
            ))),
            Err(error) => Err(error),
        }
    }
}

fn shown(boundary: Option<&str>) -> String {
    boundary.map_or("none".to_owned(), |arn| format!("`{}`", firebreak_model::ids::shown_text(arn)))
}

#[cfg(test)]
mod tests;
