//! Denies single sessions of a role by `aws:userId`: those that a thief made from stolen ones. Others of the same role
//! live on.
//!
//! Several incidents may lead into one role: each has a statement of its own in one inline policy of ours.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_iam::Client;
use firebreak_model::action::ActionId;
use firebreak_model::ids::SessionId;
use firebreak_model::plan::Target;
use firebreak_model::policy::{
    CHAINED_POLICY, ChainedDeny, INLINE_QUOTA, REVOCATION_AHEAD_SECONDS, chained, chained_denies, counted,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::inline_policy::InlinePolicy;
use super::target;
use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::RevokeChainedSessions,
    summary: "the sessions that were made from stolen ones are denied everything; others of the role are not",
    permissions: &[
        Permission { action: "iam:GetRolePolicy", on: Resource::Role },
        Permission { action: "iam:PutRolePolicy", on: Resource::Role },
    ],
    revert_permissions: &[
        Permission { action: "iam:GetRolePolicy", on: Resource::Role },
        Permission { action: "iam:PutRolePolicy", on: Resource::Role },
        Permission { action: "iam:DeleteRolePolicy", on: Resource::Role },
    ],
    additive: false,
    reversible: "wholly: the incident's statement is taken out, and the policy with the last of them",
    idempotent_because: "sessions that a statement of the incident denies already are not written again",
    disrupts: "the sessions named, and any that was issued under the same name before",
};

/// The policy would not fit: the thief has made, or named, too many sessions.
#[derive(Debug, thiserror::Error)]
#[error("the policy would have {0} characters, of which IAM takes {INLINE_QUOTA} for all of a role")]
struct TooLong(usize);

/// Denies these sessions.
#[derive(Debug, Clone)]
pub struct RevokeChainedSessions {
    policy: InlinePolicy,
    sessions: BTreeSet<SessionId>,
    /// The last of them was issued by then.
    issued_by: Timestamp,
}

impl RevokeChainedSessions {
    /// These sessions of one role, the last of which was issued at `issued_by`.
    pub fn new(iam: Client, sessions: BTreeSet<SessionId>, issued_by: Timestamp) -> Self {
        Self { policy: InlinePolicy::new(iam, CHAINED_POLICY), sessions, issued_by }
    }

    async fn put(&self, order: Order<'_>, denies: &[ChainedDeny]) -> Result<(), ActionError> {
        let document = chained(denies);
        let counted = counted(&document);
        if counted > INLINE_QUOTA {
            let source = Box::new(TooLong(counted));
            let (call, target, filled_by) = ("iam:PutRolePolicy", target::role(order)?.to_owned(), Vec::new());
            return Err(ActionError::Quota { call, target, filled_by, source });
        }
        self.policy.put(&order.step.target, &document).await
    }

    fn is_held_by(&self, deny: &ChainedDeny) -> bool {
        self.sessions.is_subset(&deny.sessions) && deny.issued_before > self.issued_by
    }
}

/// The role that the step is on; nothing else has chained sessions.
fn role(order: Order<'_>) -> Result<&Target, ActionError> {
    target::role(order).map(|_| &order.step.target)
}

/// The deny of the order's incident, and those of the others.
fn apart(order: Order<'_>, denies: Vec<ChainedDeny>) -> (Option<ChainedDeny>, Vec<ChainedDeny>) {
    let id = &order.incident.incident_id;
    let (own, others): (Vec<_>, Vec<_>) = denies.into_iter().partition(|deny| deny.is_of(id, order.incident.episode));
    (own.into_iter().next(), others)
}

#[async_trait]
impl Action for RevokeChainedSessions {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        Ok(self.policy.document(role(order)?).await?.unwrap_or(Value::Null))
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        let role = role(order)?;
        let (denies, whole) =
            self.policy.document(role).await?.map_or((Vec::new(), true), |found| chained_denies(&found));
        let (own, mut all) = apart(order, denies);
        // What is not ours under our name is overwritten, and on record as the prior state.
        if whole && own.as_ref().is_some_and(|own| self.is_held_by(own)) {
            return Ok(());
        }
        // A session that is taken out while IAM propagates the deny dies too. The time only moves forward.
        let ahead = order.now.saturating_add(SignedDuration::from_secs(REVOCATION_AHEAD_SECONDS));
        let mut before = ahead.unwrap_or(Timestamp::MAX);
        let mut sessions = self.sessions.clone();
        if let Some(own) = own {
            before = before.max(own.issued_before);
            sessions.extend(own.sessions);
        }
        all.push(ChainedDeny::new(&order.incident.incident_id, order.incident.episode, sessions, before));
        self.put(order, &all).await
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let Some(found) = self.policy.document(role(order)?).await? else {
            return Ok(Verified::NotInForce(format!("there is no inline policy `{CHAINED_POLICY}`")));
        };
        Ok(match apart(order, chained_denies(&found).0).0 {
            Some(own) if self.is_held_by(&own) => Verified::InForce,
            Some(own) => {
                let missing = self.sessions.difference(&own.sessions).count();
                Verified::NotInForce(format!(
                    "of {} sessions {missing} are not denied, the others as far as {}",
                    self.sessions.len(),
                    own.issued_before
                ))
            }
            None => Verified::NotInForce(format!("`{CHAINED_POLICY}` holds no statement of this incident")),
        })
    }

    async fn revert(&self, order: Order<'_>, _: &Value) -> Result<Reverted, ActionError> {
        let role = role(order)?;
        let Some(found) = self.policy.document(role).await? else { return Ok(Reverted::Restored) };
        let (denies, whole) = chained_denies(&found);
        if !whole {
            let text = format!("the inline policy `{CHAINED_POLICY}` is not what was written");
            return Ok(Reverted::LeftAlone(text));
        }
        match apart(order, denies) {
            (None, _) => {}
            (Some(_), others) if others.is_empty() => {
                self.policy.delete(role).await?;
            }
            (Some(_), others) => self.put(order, &others).await?,
        }
        Ok(Reverted::Restored)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ids::IncidentId;
    use firebreak_model::ledger::Incident;
    use firebreak_model::plan::Step;
    use percent_encoding::percent_decode_str;
    use serde_json::json;

    use super::*;
    use crate::testing::{Answer, Wire, ok, order, query_error, role_order, standing};

    fn sessions(names: &[&str]) -> BTreeSet<SessionId> {
        names.iter().map(|name| format!("AROAEXAMPLE000000002:{name}").parse().unwrap()).collect()
    }

    fn action(wire: &Wire, names: &[&str]) -> RevokeChainedSessions {
        RevokeChainedSessions::new(
            Client::new(&wire.config()),
            sessions(names),
            "2026-11-21T03:00:00Z".parse().unwrap(),
        )
    }

    /// An incident on role `orders`, whose thief went on to role `billing`.
    fn chained_order() -> (Incident, Step) {
        let (incident, _) = role_order("orders");
        let target = Target::Role("billing".parse().unwrap());
        (incident, Step { action: ActionId::RevokeChainedSessions, target })
    }

    fn deny(incident: &Incident, names: &[&str], before: &str) -> ChainedDeny {
        ChainedDeny::new(&incident.incident_id, incident.episode, sessions(names), before.parse().unwrap())
    }

    /// What another incident denies in the same role.
    fn others() -> ChainedDeny {
        let id: IncidentId = format!("fb-{}", "c".repeat(24)).parse().unwrap();
        ChainedDeny::new(&id, 1, sessions(&["y1"]), "2026-11-21T02:00:00Z".parse().unwrap())
    }

    fn none() -> Answer {
        query_error(404, "NoSuchEntity")
    }

    fn put_ok() -> Answer {
        ok("<PutRolePolicyResponse/>")
    }

    /// The document of a request that puts one.
    fn put(wire: &Wire) -> (Vec<ChainedDeny>, bool) {
        let request = wire.requests().pop().unwrap();
        assert!(request.contains("Action=PutRolePolicy") && request.contains("RoleName=billing"), "{request}");
        assert!(request.contains("PolicyName=firebreak-revoke-chained"), "{request}");
        let document = request.split("PolicyDocument=").nth(1).unwrap().split('&').next().unwrap();
        chained_denies(&serde_json::from_str(&percent_decode_str(document).decode_utf8().unwrap()).unwrap())
    }

    #[tokio::test]
    async fn the_sessions_and_no_others_are_denied_beside_what_other_incidents_deny() {
        let (incident, step) = chained_order();
        for (found, expected) in [
            (none(), vec![deny(&incident, &["x1", "x2"], "2026-11-21T03:01:05Z")]),
            (standing(&chained(&[others()])), vec![others(), deny(&incident, &["x1", "x2"], "2026-11-21T03:01:05Z")]),
            // What was denied before stays denied, and the time only moves forward.
            (
                standing(&chained(&[deny(&incident, &["x0"], "2026-11-21T04:00:00Z"), others()])),
                vec![others(), deny(&incident, &["x0", "x1", "x2"], "2026-11-21T04:00:00Z")],
            ),
            // Nobody else writes under our name.
            (
                standing(&json!({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})),
                vec![deny(&incident, &["x1", "x2"], "2026-11-21T03:01:05Z")],
            ),
        ] {
            let wire = Wire::answering([found, put_ok()]);
            action(&wire, &["x1", "x2"]).apply(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(put(&wire), (expected, true));
        }
    }

    #[tokio::test]
    async fn what_is_denied_already_is_not_written_again_and_reads_back() {
        let (incident, step) = chained_order();
        let held = chained(&[deny(&incident, &["x1", "x2"], "2026-11-21T03:01:05Z")]);
        let wire = Wire::answering([standing(&held), standing(&held)]);
        action(&wire, &["x1"]).apply(order(&incident, &step), &Value::Null).await.unwrap();
        let verified = action(&wire, &["x1"]).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!((verified, wire.requests().len()), (Verified::InForce, 2));
    }

    #[tokio::test]
    async fn what_is_missing_reaches_too_short_or_is_anothers_is_not_in_force() {
        let (incident, step) = chained_order();
        for (found, says) in [
            (none(), "there is no inline policy `firebreak-revoke-chained`"),
            (standing(&chained(&[others()])), "`firebreak-revoke-chained` holds no statement of this incident"),
            (
                standing(&chained(&[deny(&incident, &["x1"], "2026-11-21T03:01:05Z")])),
                "of 2 sessions 1 are not denied, the others as far as 2026-11-21T03:01:05Z",
            ),
            (
                standing(&chained(&[deny(&incident, &["x1", "x2"], "2026-11-21T03:00:00Z")])),
                "of 2 sessions 0 are not denied, the others as far as 2026-11-21T03:00:00Z",
            ),
        ] {
            let wire = Wire::answering([found]);
            let verified = action(&wire, &["x1", "x2"]).verify(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(verified, Verified::NotInForce(says.to_owned()));
        }
    }

    #[tokio::test]
    async fn its_end_takes_out_its_own_statement_and_the_policy_with_the_last() {
        let (incident, step) = chained_order();
        let own = deny(&incident, &["x1"], "2026-11-21T03:01:05Z");
        let revert = async |found: Answer, then: Option<Answer>| {
            let wire = Wire::answering([found].into_iter().chain(then));
            let reverted = action(&wire, &[]).revert(order(&incident, &step), &Value::Null).await.unwrap();
            (reverted, wire)
        };
        let (reverted, wire) = revert(standing(&chained(&[own.clone(), others()])), Some(put_ok())).await;
        assert_eq!((reverted, put(&wire)), (Reverted::Restored, (vec![others()], true)));
        let (reverted, wire) = revert(standing(&chained(&[own])), Some(ok("<DeleteRolePolicyResponse/>"))).await;
        assert_eq!(reverted, Reverted::Restored);
        assert!(wire.requests()[1].contains("Action=DeleteRolePolicy"), "{:?}", wire.requests());
        for found in [none(), standing(&chained(&[others()]))] {
            let (reverted, wire) = revert(found, None).await;
            assert_eq!((reverted, wire.requests().len()), (Reverted::Restored, 1));
        }
        let (reverted, _) = revert(standing(&json!({"Statement": []})), None).await;
        assert_eq!(reverted, Reverted::Restored);
        let foreign = json!({"Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]});
        let (reverted, wire) = revert(standing(&foreign), None).await;
        assert!(matches!(reverted, Reverted::LeftAlone(_)) && wire.requests().len() == 1);
    }

    #[tokio::test]
    async fn what_would_not_fit_is_a_quota_and_is_not_even_sent() {
        let (incident, step) = chained_order();
        let names: Vec<String> = (0..130).map(|n| format!("{n:0>64}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let wire = Wire::answering([none()]);
        let error = action(&wire, &names).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
        assert!(matches!(error, ActionError::Quota { .. }), "{error}");
        assert_eq!(wire.requests().len(), 1);
        let wire = Wire::answering([none(), put_ok()]);
        action(&wire, &names[..100]).apply(order(&incident, &step), &Value::Null).await.unwrap();
    }

    #[tokio::test]
    async fn errors_say_what_can_be_done_about_them() {
        let (incident, step) = chained_order();
        for (answer, transient, applied) in [
            (query_error(403, "AccessDenied"), false, false),
            (query_error(409, "LimitExceeded"), false, false),
            (query_error(400, "Throttling"), true, false),
            (query_error(404, "NoSuchEntity"), false, false),
            (Answer::Lost, true, true),
        ] {
            let wire = Wire::answering([none(), answer]);
            let error = action(&wire, &["x1"]).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!((error.is_transient(), error.may_have_applied()), (transient, applied), "{error}");
        }
    }
}
