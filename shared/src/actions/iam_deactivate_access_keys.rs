//! Sets a user's active access keys to Inactive.

use async_trait::async_trait;
use aws_sdk_iam::Client;
use aws_sdk_iam::types::StatusType;
use firebreak_model::action::ActionId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};
use crate::actions::several::{both, restored_unless};
use crate::actions::target::user;
use crate::paging;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::DeactivateAccessKeys,
    summary: "every access key of the user is Inactive",
    permissions: &[
        Permission { action: "iam:ListAccessKeys", on: Resource::User },
        Permission { action: "iam:UpdateAccessKey", on: Resource::User },
    ],
    revert_permissions: &[
        Permission { action: "iam:ListAccessKeys", on: Resource::User },
        Permission { action: "iam:UpdateAccessKey", on: Resource::User },
    ],
    additive: false,
    reversible: "all but the keys that a finding names: those live again only when the release names them",
    idempotent_because: "an Inactive key is not touched, and what was Active is recorded once",
    disrupts: "everything that signs with a key of the user; sessions minted from the keys live on (the deny policy stops them)",
};

/// An access key and whether it was Active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    id: String,
    active: bool,
}

/// Sets access keys to Inactive.
#[derive(Debug, Clone)]
pub struct DeactivateAccessKeys {
    iam: Client,
}

impl DeactivateAccessKeys {
    /// With this client.
    pub fn new(iam: Client) -> Self {
        Self { iam }
    }

    async fn keys(&self, user: &str) -> Result<Vec<Key>, ActionError> {
        let pages = self.iam.list_access_keys().user_name(user).into_paginator().send();
        let pages = paging::read(pages, "iam:ListAccessKeys", user).await?;
        let mut keys = Vec::new();
        for key in pages.into_iter().flat_map(|page| page.access_key_metadata) {
            // What is not known to be dead counts as alive.
            let active = !matches!(key.status(), Some(StatusType::Inactive | StatusType::Expired));
            keys.push(Key { id: key.access_key_id.unwrap_or_default(), active });
        }
        Ok(keys)
    }

    async fn set(&self, user: &str, key: &str, status: StatusType) -> Result<(), ActionError> {
        let update = self.iam.update_access_key().user_name(user).access_key_id(key).status(status);
        update.send().await.map_err(|e| ActionError::of("iam:UpdateAccessKey", key, e))?;
        Ok(())
    }
}

#[async_trait]
impl Action for DeactivateAccessKeys {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        let keys = self.keys(user(order)?).await?;
        serde_json::to_value(keys).map_err(|e| unreadable(order, &e))
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        let user = user(order)?;
        // What is Active now, not what was when the prior state was recorded: a key made since is the thief's.
        for key in self.keys(user).await?.into_iter().filter(|key| key.active) {
            match self.set(user, &key.id, StatusType::Inactive).await {
                // Deleted in between: no key is as good as an Inactive one.
                Err(ActionError::Gone { .. }) => {}
                result => result?,
            }
        }
        Ok(())
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let active: Vec<String> =
            self.keys(user(order)?).await?.into_iter().filter(|key| key.active).map(|key| key.id).collect();
        Ok(if active.is_empty() {
            Verified::InForce
        } else {
            Verified::NotInForce(format!("still Active: {}", active.join(", ")))
        })
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        let user = user(order)?;
        let prior: Vec<Key> = serde_json::from_value(prior.clone()).map_err(|e| unreadable(order, &e))?;
        let now = self.keys(user).await?;
        let incident = order.incident;
        let named = |key: &str| incident.access_keys.iter().any(|k| k.as_str() == key);
        let allowed = |key: &str| {
            let release = incident.release.as_ref();
            release.is_some_and(|r| r.reactivate_keys.iter().any(|k| k.as_str() == key))
        };
        let mut result = Ok(());
        let mut left = Vec::new();
        for key in prior.iter().filter(|key| key.active && (!named(&key.id) || allowed(&key.id))) {
            match now.iter().find(|k| k.id == key.id) {
                Some(key) if key.active => {}
                Some(key) => result = both(result, self.set(user, &key.id, StatusType::Active).await),
                None => left.push(format!("`{}` was deleted since, and is not to be had back", key.id)),
            }
        }
        // A thief who mints a key has it deactivated: nobody else is to wake it up for a forgotten one.
        let made_since = now.iter().filter(|now| !now.active && prior.iter().all(|key| key.id != now.id));
        left.extend(made_since.map(|key| format!("`{}` was made since, and stays Inactive: whose is it?", key.id)));
        result.map(|()| restored_unless(&left))
    }
}

fn unreadable(order: Order<'_>, error: &serde_json::Error) -> ActionError {
    ActionError::Unreadable {
        target: order.step.target.to_string(),
        problem: format!("the recorded access keys cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ledger::ReleaseOrder;
    use serde_json::json;

    use super::*;
    use crate::testing::{Answer, Wire, ok, order, query_error, user_order};

    const STOLEN: &str = "AKIASTOLEN000000001";
    const OTHER: &str = "AKIAOTHER0000000001";
    const LIST: &str = "POST / Action=ListAccessKeys&Version=2010-05-08&UserName=ci-bot";

    fn update(key: &str, status: &str) -> String {
        format!("POST / Action=UpdateAccessKey&Version=2010-05-08&UserName=ci-bot&AccessKeyId={key}&Status={status}")
    }

    fn listed(keys: &[(&str, &str)]) -> Answer {
        let members: Vec<String> = keys
            .iter()
            .map(|(id, status)| format!("<member><AccessKeyId>{id}</AccessKeyId><Status>{status}</Status></member>"))
            .collect();
        let members = members.concat();
        ok(format!(
            "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata>{members}</AccessKeyMetadata>\
             <IsTruncated>false</IsTruncated></ListAccessKeysResult></ListAccessKeysResponse>"
        ))
    }

    fn updated() -> Answer {
        ok("<UpdateAccessKeyResponse/>")
    }

    fn action(wire: &Wire) -> DeactivateAccessKeys {
        DeactivateAccessKeys::new(Client::new(&wire.config()))
    }

    #[tokio::test]
    async fn only_active_keys_are_touched_and_all_are_read_back() {
        let both = [(STOLEN, "Active"), (OTHER, "Inactive")];
        let wire = Wire::answering([listed(&both), listed(&both), updated(), listed(&[(STOLEN, "Inactive")])]);
        let (incident, step) = user_order("ci-bot", ActionId::DeactivateAccessKeys);
        let order = order(&incident, &step);
        let prior = action(&wire).observe(order).await.unwrap();
        assert_eq!(prior, json!([{"id": STOLEN, "active": true}, {"id": OTHER, "active": false}]));
        action(&wire).apply(order, &prior).await.unwrap();
        assert_eq!(action(&wire).verify(order, &prior).await.unwrap(), Verified::InForce);
        assert_eq!(wire.requests(), [LIST.into(), LIST.into(), update(STOLEN, "Inactive"), LIST.into()]);
    }

    #[tokio::test]
    async fn a_key_that_is_still_active_is_not_contained() {
        let wire = Wire::answering([listed(&[(STOLEN, "Inactive"), (OTHER, "Active")])]);
        let (incident, step) = user_order("ci-bot", ActionId::DeactivateAccessKeys);
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(verified, Verified::NotInForce(format!("still Active: {OTHER}")));
    }

    #[tokio::test]
    async fn a_key_counts_as_alive_unless_it_is_known_to_be_dead() {
        let (incident, step) = user_order("ci-bot", ActionId::DeactivateAccessKeys);
        for (status, alive) in
            [("Active", true), ("SomeDay", true), ("", true), ("Inactive", false), ("Expired", false)]
        {
            let wire = Wire::answering([listed(&[(STOLEN, status)])]);
            let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(verified != Verified::InForce, alive, "`{status}`: {verified:?}");
        }
        // An answer without its list is not taken for a list without keys.
        let wire = Wire::answering([ok("<ListAccessKeysResponse/>")]);
        action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap_err();
    }

    #[tokio::test]
    async fn errors_are_told_and_a_key_deleted_meanwhile_is_none() {
        let (incident, step) = user_order("ci-bot", ActionId::DeactivateAccessKeys);
        for (answer, transient) in
            [(query_error(403, "AccessDenied"), false), (query_error(400, "Throttling"), true), (Answer::Lost, true)]
        {
            let wire = Wire::answering([listed(&[(STOLEN, "Active")]), answer]);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!(error.is_transient(), transient);
        }
        let wire = Wire::answering([listed(&[(STOLEN, "Active")]), query_error(404, "NoSuchEntity")]);
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
    }

    #[tokio::test]
    async fn a_release_wakes_no_key_that_a_finding_names_unless_it_is_named() {
        let prior = json!([{"id": STOLEN, "active": true}, {"id": OTHER, "active": true}]);
        for (named, expected) in [(false, vec![OTHER]), (true, vec![STOLEN, OTHER])] {
            let (mut incident, step) = user_order("ci-bot", ActionId::DeactivateAccessKeys);
            incident.access_keys = vec![STOLEN.parse().unwrap()];
            incident.release = Some(ReleaseOrder {
                at: incident.opened_at,
                by: "ana".into(),
                reason: "over".into(),
                invocation: "i".into(),
                reactivate_keys: if named { vec![STOLEN.parse().unwrap()] } else { Vec::new() },
                left_alone: Vec::new(),
                from: None,
            });
            let wire = Wire::answering(
                [listed(&[(STOLEN, "Inactive"), (OTHER, "Inactive")])]
                    .into_iter()
                    .chain(expected.iter().map(|_| updated())),
            );
            let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
            assert_eq!(reverted, Reverted::Restored);
            let updates: Vec<String> = expected.iter().map(|key| update(key, "Active")).collect();
            assert_eq!(wire.requests()[1..], updates);
        }
    }

    #[tokio::test]
    async fn one_key_that_cannot_be_woken_keeps_no_other_asleep_and_one_made_since_is_told() {
        let (incident, step) = user_order("ci-bot", ActionId::DeactivateAccessKeys);
        let prior = json!([{"id": STOLEN, "active": true}, {"id": OTHER, "active": true}]);
        let both = || listed(&[(STOLEN, "Inactive"), (OTHER, "Inactive")]);
        let wire = Wire::answering([both(), query_error(403, "AccessDenied"), updated()]);
        action(&wire).revert(order(&incident, &step), &prior).await.unwrap_err();
        assert_eq!(wire.requests()[1..], [update(STOLEN, "Active"), update(OTHER, "Active")]);
        let wire = Wire::answering([listed(&[(STOLEN, "Active"), (OTHER, "Inactive")])]);
        let reverted = action(&wire).revert(order(&incident, &step), &json!([{"id": STOLEN, "active": true}])).await;
        let told = format!("`{OTHER}` was made since, and stays Inactive: whose is it?");
        assert_eq!(reverted.unwrap(), Reverted::LeftAlone(told));
        assert_eq!(wire.requests(), [LIST]);
    }

    #[tokio::test]
    async fn a_deleted_key_is_reported_and_an_edited_record_changes_nothing() {
        let (incident, step) = user_order("ci-bot", ActionId::DeactivateAccessKeys);
        let wire = Wire::answering([listed(&[])]);
        let prior = json!([{"id": OTHER, "active": true}]);
        let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
        assert!(matches!(reverted, Reverted::LeftAlone(found) if found.contains(OTHER)));
        let wire = Wire::answering([]);
        assert!(action(&wire).revert(order(&incident, &step), &json!({"edited": 1})).await.is_err());
        assert!(wire.requests().is_empty());
    }
}
