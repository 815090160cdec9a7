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

    use firebreak_model::ladder::Refusal;
    use firebreak_model::ledger::Incident;
    use firebreak_model::plan::Step;
    use serde_json::json;

    use super::*;
    use crate::testing::{Answer, Wire, ok, order, query_error, role_bounded_by, role_order};

    const DENY: &str = "arn:aws:iam::111122223333:policy/firebreak/deny-all";
    const DENY_ALL: &str = "arn:aws:iam::aws:policy/AWSDenyAll";
    const BEFORE: &str = "arn:aws:iam::111122223333:policy/team/boundary";
    const GET: &str = "POST / Action=GetRole&Version=2010-05-08&RoleName=orders";
    const DELETE: &str = "POST / Action=DeleteRolePermissionsBoundary&Version=2010-05-08&RoleName=orders";

    fn put(arn: &str) -> String {
        let arn = arn.replace(':', "%3A").replace('/', "%2F");
        format!("POST / Action=PutRolePermissionsBoundary&Version=2010-05-08&RoleName=orders&PermissionsBoundary={arn}")
    }

    fn action(wire: &Wire) -> BoundRole {
        BoundRole::new(Client::new(&wire.config()), DENY)
    }

    fn bound() -> (Incident, Step) {
        let (incident, step) = role_order("orders");
        (incident, Step { action: ActionId::BoundRole, ..step })
    }

    fn done() -> crate::testing::Answer {
        ok("<PutRolePermissionsBoundaryResponse/>")
    }

    #[tokio::test]
    async fn records_the_boundary_that_was_there_puts_its_own_and_reads_it_back() {
        let (incident, step) = bound();
        let order = order(&incident, &step);
        for before in [None, Some(BEFORE)] {
            let wire = Wire::answering([role_bounded_by(before), done(), role_bounded_by(Some(DENY_ALL))]);
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
            let wire = Wire::answering([role_bounded_by(found)]);
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
            (vec![query_error(404, "NoSuchEntity"), role_bounded_by(None)], Some(Refusal::PolicyGone), false),
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
            let wire = Wire::answering([role_bounded_by(Some(DENY_ALL)), done()]);
            assert_eq!(action(&wire).revert(order, &prior).await.unwrap(), Reverted::Restored);
            assert_eq!(wire.requests(), [GET.to_owned(), expected]);
            // And once more.
            let wire = Wire::answering([role_bounded_by(prior.as_str())]);
            assert_eq!(action(&wire).revert(order, &prior).await.unwrap(), Reverted::Restored);
            assert_eq!(wire.requests(), [GET]);
        }
    }

    #[tokio::test]
    async fn a_boundary_that_somebody_changed_since_is_left_alone() {
        let (incident, step) = bound();
        let other = "arn:aws:iam::111122223333:policy/other";
        for (prior, found) in [(json!(BEFORE), Some(other)), (json!(BEFORE), None), (json!(null), Some(other))] {
            let wire = Wire::answering([role_bounded_by(found)]);
            let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
            assert!(matches!(&reverted, Reverted::LeftAlone(text) if text.contains("somebody changed it since")));
            assert_eq!(wire.requests(), [GET]);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_put_back_leaves_the_deny_in_place_and_says_so() {
        let (incident, step) = bound();
        let order = order(&incident, &step);
        let there = || role_bounded_by(Some(DENY_ALL));
        let wire = Wire::answering([there(), query_error(404, "NoSuchEntity"), there()]);
        let reverted = action(&wire).revert(order, &json!(BEFORE)).await.unwrap();
        let Reverted::LeftAlone(text) = reverted else { unreachable!("{reverted:?}") };
        assert!(text.contains(BEFORE) && text.contains("everything is denied until a person"), "{text}");
        let wire = Wire::answering([there()]);
        let reverted = action(&wire).revert(order, &json!(DENY_ALL)).await.unwrap();
        assert!(matches!(reverted, Reverted::LeftAlone(text) if text.contains("before the containment too")));
        // Gone in between: the role, not its policy.
        let gone = || query_error(404, "NoSuchEntity");
        let wire = Wire::answering([there(), gone(), gone()]);
        let error = action(&wire).revert(order, &json!(BEFORE)).await.unwrap_err();
        assert!(matches!(error, ActionError::Gone { .. }), "{error}");
        for answer in [query_error(403, "AccessDenied"), query_error(400, "Throttling"), Answer::Lost] {
            let wire = Wire::answering([there(), answer]);
            assert!(action(&wire).revert(order, &json!(BEFORE)).await.is_err());
        }
    }

    #[tokio::test]
    async fn an_edited_record_puts_nothing_in_place() {
        let (incident, step) = bound();
        for edited in [json!({"arn": BEFORE}), json!("arn:aws:iam::111122223333:role/x"), json!(7), json!("*")] {
            let wire = Wire::answering([]);
            let error = action(&wire).revert(order(&incident, &step), &edited).await.unwrap_err();
            assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
            assert!(wire.requests().is_empty());
        }
    }

    #[tokio::test]
    async fn a_role_made_again_under_the_name_is_not_bounded() {
        let (mut incident, step) = bound();
        incident.principal.unique_id = Some("AROAEXAMPLE000000002".parse().unwrap());
        let wire = Wire::answering([role_bounded_by(None)]);
        let error = action(&wire).observe(order(&incident, &step)).await.unwrap_err();
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
