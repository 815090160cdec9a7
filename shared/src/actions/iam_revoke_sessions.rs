//! Revokes the sessions of a role or user that were issued before a time, by an inline policy of our own.
//! The time only ever moves forward.

use async_trait::async_trait;
use aws_sdk_iam::Client;
use firebreak_model::action::ActionId;
use firebreak_model::ledger::{Incident, IncidentState};
use firebreak_model::plan::Target;
use firebreak_model::policy::{REVOCATION_AHEAD_SECONDS, REVOCATION_POLICY, revocation, revocation_time};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::inline_policy::InlinePolicy;
use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::RevokeSessions,
    summary: "the sessions issued before the time of the revocation are denied everything",
    permissions: &[
        Permission { action: "iam:GetRolePolicy", on: Resource::Role },
        Permission { action: "iam:PutRolePolicy", on: Resource::Role },
        Permission { action: "iam:GetUserPolicy", on: Resource::User },
        Permission { action: "iam:PutUserPolicy", on: Resource::User },
    ],
    revert_permissions: &[
        Permission { action: "iam:GetRolePolicy", on: Resource::Role },
        Permission { action: "iam:DeleteRolePolicy", on: Resource::Role },
        Permission { action: "iam:GetUserPolicy", on: Resource::User },
        Permission { action: "iam:DeleteUserPolicy", on: Resource::User },
    ],
    additive: false,
    reversible: "wholly: the policy is deleted, once the sessions that it denies have ended",
    idempotent_because: "a revocation that reaches as far or further is left as it is",
    disrupts: "everything that runs on a session issued before, healthy warm environments of a function included",
};

/// Writes the revocation.
#[derive(Debug, Clone)]
pub struct RevokeSessions {
    policy: InlinePolicy,
    first: Option<Timestamp>,
}

/// What stands under our policy's name.
enum Found {
    Nothing,
    /// One of ours, and how far it reaches.
    Ours(Timestamp),
    Foreign,
}

impl RevokeSessions {
    /// With this client.
    pub fn new(iam: Client) -> Self {
        Self { policy: InlinePolicy::new(iam, REVOCATION_POLICY), first: None }
    }

    /// With when it was first read back in the episode, where it was: what is written again reaches no further than it did.
    /// The environments that were begun anew since have sessions from after that.
    #[must_use]
    pub fn again(self, first: Option<Timestamp>) -> Self {
        Self { first, ..self }
    }

    /// How far it is written to: ahead of now, and of the order where the clock here is behind the one that gave it; written
    /// again, as far as at first. At a release, and whenever it is written again after one, not beyond it: what started since
    /// must live.
    fn written(&self, order: Order<'_>) -> Timestamp {
        let required = required(order.incident);
        match order.incident.state {
            IncidentState::Releasing | IncidentState::Released => required,
            _ => self
                .first
                .unwrap_or(order.now)
                .max(required)
                .saturating_add(SignedDuration::from_secs(REVOCATION_AHEAD_SECONDS))
                .unwrap_or(Timestamp::MAX),
        }
    }

    async fn found(&self, target: &Target) -> Result<Found, ActionError> {
        Ok(match self.policy.document(target).await? {
            None => Found::Nothing,
            Some(document) => revocation_time(&document).map_or(Found::Foreign, Found::Ours),
        })
    }
}

/// How far the revocation must reach at least: the order to contain, or the release that is under way or done.
fn required(incident: &Incident) -> Timestamp {
    match (&incident.release, incident.state) {
        (Some(release), IncidentState::Releasing | IncidentState::Released) => release.at,
        _ => incident.ordered_since(),
    }
}

#[async_trait]
impl Action for RevokeSessions {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        Ok(self.policy.document(&order.step.target).await?.unwrap_or(Value::Null))
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        let target = &order.step.target;
        let reach = self.written(order);
        if let Found::Ours(time) = self.found(target).await?
            && time >= required(order.incident)
            && (time >= reach || order.incident.state != IncidentState::Releasing)
        {
            return Ok(());
        }
        self.policy.put(target, &revocation(reach)).await
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let least = required(order.incident);
        Ok(match self.found(&order.step.target).await? {
            Found::Ours(time) if time >= least => Verified::InForce,
            Found::Ours(time) => Verified::NotInForce(format!("it reaches to {time} only, not to {least}")),
            Found::Nothing => Verified::NotInForce(format!("there is no inline policy `{REVOCATION_POLICY}`")),
            Found::Foreign => {
                Verified::NotInForce(format!("the inline policy `{REVOCATION_POLICY}` is not what was written"))
            }
        })
    }

    async fn revert(&self, order: Order<'_>, _: &Value) -> Result<Reverted, ActionError> {
        let target = &order.step.target;
        match self.found(target).await? {
            Found::Nothing => return Ok(Reverted::Restored),
            Found::Foreign => {
                let text = format!("the inline policy `{REVOCATION_POLICY}` is not what was written");
                return Ok(Reverted::LeftAlone(text));
            }
            Found::Ours(_) => {}
        }
        self.policy.delete(target).await?;
        Ok(Reverted::Restored)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ledger::ReleaseOrder;
    use percent_encoding::percent_decode_str;
    use serde_json::json;

    use super::*;
    use crate::testing::{Answer, Wire, ok, order, query_error, role_order, standing, user_order};

    fn action(wire: &Wire) -> RevokeSessions {
        RevokeSessions::new(Client::new(&wire.config()))
    }

    fn reaching(time: &str) -> Answer {
        standing(&revocation(time.parse().unwrap()))
    }

    fn none() -> Answer {
        query_error(404, "NoSuchEntity")
    }

    fn put_ok() -> Answer {
        ok("<PutRolePolicyResponse/>")
    }

    fn releasing(at: &str) -> (Incident, firebreak_model::plan::Step) {
        let (mut incident, step) = role_order("orders");
        incident.state = IncidentState::Releasing;
        incident.release = Some(ReleaseOrder {
            at: at.parse().unwrap(),
            by: "ana".into(),
            reason: "over".into(),
            invocation: "i".into(),
            reactivate_keys: Vec::new(),
            left_alone: Vec::new(),
            from: None,
        });
        (incident, step)
    }

    #[tokio::test]
    async fn writes_a_minute_ahead_and_reads_back() {
        let wire = Wire::answering([none(), none(), put_ok(), reaching("2026-11-21T03:01:05Z")]);
        let (incident, step) = role_order("orders");
        let order = order(&incident, &step);
        let prior = action(&wire).observe(order).await.unwrap();
        assert_eq!(prior, Value::Null);
        action(&wire).apply(order, &prior).await.unwrap();
        assert_eq!(action(&wire).verify(order, &prior).await.unwrap(), Verified::InForce);
        let requests = wire.requests();
        let put = percent_decode_str(&requests[2]).decode_utf8_lossy().into_owned();
        assert!(put.starts_with("POST / Action=PutRolePolicy"), "{put}");
        assert!(put.contains("&RoleName=orders&PolicyName=firebreak-revoke-sessions&"), "{put}");
        assert!(put.contains(r#""aws:TokenIssueTime":"2026-11-21T03:01:05Z""#), "{put}");
    }

    #[tokio::test]
    async fn a_clock_that_is_behind_does_not_write_a_revocation_from_before_the_order() {
        let (incident, step) = role_order("orders");
        let now = incident.opened_at - SignedDuration::from_mins(10);
        let wire = Wire::answering([none(), put_ok(), reaching("2026-11-21T03:01:00Z")]);
        let order = Order { incident: &incident, step: &step, now };
        action(&wire).apply(order, &Value::Null).await.unwrap();
        assert!(wire.requests()[1].contains("2026-11-21T03%3A01%3A00Z"), "{}", wire.requests()[1]);
        assert_eq!(action(&wire).verify(order, &Value::Null).await.unwrap(), Verified::InForce);
    }

    #[tokio::test]
    async fn a_revocation_that_reaches_far_enough_is_not_written_again() {
        for (incident, step) in [role_order("orders"), releasing("2026-11-21T03:01:00Z")] {
            let wire = Wire::answering([reaching("2026-11-21T03:01:02Z")]);
            action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(wire.requests().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_release_moves_it_forward_to_its_own_time_and_no_further() {
        let wire = Wire::answering([reaching("2026-11-21T03:01:02Z"), put_ok()]);
        let (incident, step) = releasing("2026-11-21T09:00:00Z");
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(wire.requests()[1].contains("2026-11-21T09%3A00%3A00Z"));
        let wire = Wire::answering([reaching("2026-11-21T03:01:02Z")]);
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(matches!(verified, Verified::NotInForce(found) if found.contains("2026-11-21T09:00:00Z")));
    }

    #[tokio::test]
    async fn what_somebody_else_put_under_the_name_is_overwritten_but_never_deleted() {
        let foreign = json!({"Version": "2012-10-17", "Statement": []});
        let (incident, step) = role_order("orders");
        let wire = Wire::answering([standing(&foreign), put_ok()]);
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(wire.requests().len(), 2);
        let wire = Wire::answering([standing(&foreign)]);
        let reverted = action(&wire).revert(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(matches!(reverted, Reverted::LeftAlone(_)));
        let wire = Wire::answering([standing(&foreign)]);
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(matches!(verified, Verified::NotInForce(_)));
    }

    #[tokio::test]
    async fn its_end_deletes_it_once() {
        let (incident, step) = role_order("orders");
        let wire = Wire::answering([reaching("2026-11-21T03:01:02Z"), ok("<DeleteRolePolicyResponse/>")]);
        assert_eq!(action(&wire).revert(order(&incident, &step), &Value::Null).await.unwrap(), Reverted::Restored);
        assert!(wire.requests()[1].starts_with("POST / Action=DeleteRolePolicy"));
        let wire = Wire::answering([none()]);
        assert_eq!(action(&wire).revert(order(&incident, &step), &Value::Null).await.unwrap(), Reverted::Restored);
    }

    #[tokio::test]
    async fn a_user_gets_the_same_under_the_calls_of_users() {
        let wire = Wire::answering([none(), ok("<PutUserPolicyResponse/>")]);
        let (incident, step) = user_order("ci-bot", ActionId::RevokeSessions);
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(
            wire.requests()[0].contains("Action=GetUserPolicy") && wire.requests()[1].contains("Action=PutUserPolicy")
        );
    }

    #[tokio::test]
    async fn errors_say_what_can_be_done_about_them() {
        let (incident, step) = role_order("orders");
        for (answer, transient, applied) in [
            (query_error(403, "AccessDenied"), false, false),
            (query_error(409, "LimitExceeded"), false, false),
            (query_error(400, "Throttling"), true, false),
            (query_error(404, "NoSuchEntity"), false, false),
            (Answer::Lost, true, true),
        ] {
            let wire = Wire::answering([none(), answer]);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!((error.is_transient(), error.may_have_applied()), (transient, applied), "{error}");
        }
    }
}
