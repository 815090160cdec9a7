//! Replaces the warm execution environments of a function, so that it lives on with credentials from after the
//! revocation: an update of nothing but the description.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use aws_sdk_lambda::types::LastUpdateStatus;
use firebreak_model::action::ActionId;
use firebreak_model::guard::Veto;
use firebreak_model::ledger::{Incident, IncidentState};
use firebreak_model::policy::REVOCATION_AHEAD_SECONDS;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lambda_target::{Functions, qualifier};
use super::several::in_force_unless;
use super::{prior, target};
use crate::action::{
    Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified, absent_is_none,
};

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::RecycleEnvironments,
    summary: "the environments of `$LATEST` are replaced and have fresh credentials; no alias leads to another version",
    permissions: &[
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:ListAliases", on: Resource::Function },
        Permission { action: "lambda:ListProvisionedConcurrencyConfigs", on: Resource::Function },
    ],
    revert_permissions: &[
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionConfiguration", on: Resource::Function },
    ],
    additive: false,
    reversible: "wholly: the description comes back",
    idempotent_because: "a description that bears the mark of this episode is not written again",
    disrupts: "nothing but cold starts: Lambda calls the old environments until the new ones are ready",
};

/// What Lambda takes at most.
const LONGEST_DESCRIPTION: usize = 256;

/// How long after the revocation's time an environment may start: a revocation is written some seconds after the
/// incident was opened, and its time counts from then.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// An environment that starts before this time gets credentials that are revoked as well.
#[derive(Debug, thiserror::Error)]
#[error("environments that start before {0} would be revoked as well")]
struct TooEarly(Timestamp);

/// What was there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Described {
    /// Without our mark.
    description: String,
}

impl Described {
    fn now(configuration: &GetFunctionConfigurationOutput, mark: &str) -> Self {
        let description = configuration.description().unwrap_or_default();
        Self { description: description.strip_suffix(mark).unwrap_or(description).to_owned() }
    }

    /// The description with the mark, cut where the two are too long for Lambda.
    fn marked(&self, mark: &str) -> String {
        let room = LONGEST_DESCRIPTION.saturating_sub(mark.chars().count());
        self.description.chars().take(room).chain(mark.chars()).collect()
    }
}

fn mark(incident: &Incident) -> String {
    format!(" [firebreak: recycled {}]", incident.episode)
}

/// From when on an environment starts with credentials that live.
fn due(incident: &Incident) -> Timestamp {
    let ahead = SignedDuration::from_secs(REVOCATION_AHEAD_SECONDS);
    let ordered = incident.ordered_since().saturating_add(ahead + MARGIN).unwrap_or(Timestamp::MAX);
    match (&incident.release, incident.state) {
        // A release revokes up to its own time; a revocation of the containment may reach further.
        (Some(release), IncidentState::Releasing) => {
            let revoked = incident.plan.steps.iter().any(|step| step.action == ActionId::RevokeSessions);
            if revoked { release.at.max(ordered) } else { release.at }
        }
        _ => ordered,
    }
}

/// Recycles execution environments.
#[derive(Debug, Clone)]
pub struct RecycleEnvironments {
    functions: Functions,
}

impl RecycleEnvironments {
    /// With the client of the function's Region, and the name of the stack.
    pub fn new(lambda: Client, stack: String) -> Self {
        Self { functions: Functions::new(lambda, stack) }
    }

    /// Writes the description, unless the function was changed since `configuration` was read.
    async fn describe(
        &self,
        name: &str,
        configuration: &GetFunctionConfigurationOutput,
        description: &str,
    ) -> Result<(), ActionError> {
        let update = self.functions.client.update_function_configuration().function_name(name);
        let update = update.description(description).set_revision_id(configuration.revision_id.clone());
        let updated = update.send().await;
        let updated = updated.map_err(|e| ActionError::of("lambda:UpdateFunctionConfiguration", name, e))?;
        if updated.last_update_status() == Some(&LastUpdateStatus::InProgress) {
            self.until_updated(name).await?;
        }
        Ok(())
    }

    /// What serves calls from published versions, which nobody can change: aliases that lead to one, and provisioned
    /// concurrency of one. Their warm environments have credentials from before.
    async fn published(&self, name: &str) -> Result<Vec<String>, ActionError> {
        let mut found = Vec::new();
        let mut aliases = self.functions.client.list_aliases().function_name(name).into_paginator().items().send();
        while let Some(alias) = aliases.next().await {
            let alias = alias.map_err(|e| ActionError::of("lambda:ListAliases", name, e));
            let Some(alias) = absent_is_none(alias)? else { break };
            let weighted = alias.routing_config().and_then(|routing| routing.additional_version_weights());
            let weighted = weighted.into_iter().flat_map(|weights| weights.keys().map(String::as_str));
            let mut versions: Vec<&str> = alias.function_version().into_iter().chain(weighted).collect();
            versions.retain(|version| *version != "$LATEST");
            versions.sort_unstable();
            if !versions.is_empty() {
                found.push(format!("alias `{}` (version {})", alias.name().unwrap_or_default(), versions.join(", ")));
            }
        }
        let list = self.functions.client.list_provisioned_concurrency_configs().function_name(name);
        let mut provisioned = list.into_paginator().items().send();
        while let Some(one) = provisioned.next().await {
            let one = one.map_err(|e| ActionError::of("lambda:ListProvisionedConcurrencyConfigs", name, e));
            let Some(one) = absent_is_none(one)? else { break };
            if let Some(qualifier) = qualifier(one.function_arn().unwrap_or_default()) {
                found.push(format!("provisioned concurrency of `{qualifier}`"));
            }
        }
        Ok(found)
    }

    /// Waits some seconds for an update that Lambda makes in the background; `verify` says how it ended.
    async fn until_updated(&self, name: &str) -> Result<(), ActionError> {
        for _ in 0..20 {
            let get = self.functions.client.get_function_configuration().function_name(name);
            let now = get.send().await.map_err(|e| ActionError::of("lambda:GetFunctionConfiguration", name, e))?;
            if now.last_update_status() != Some(&LastUpdateStatus::InProgress) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Action for RecycleEnvironments {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        let configuration = self.functions.guarded(order).await?;
        prior::record(order, &Described::now(&configuration, &mark(order.incident)))
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        let name = target::function(order)?.to_string();
        let due = due(order.incident);
        if order.now < due {
            let source = Box::new(TooEarly(due));
            return Err(ActionError::Busy { call: "lambda:UpdateFunctionConfiguration", target: name, source });
        }
        let configuration = self.functions.guarded(order).await?;
        let mark = mark(order.incident);
        if configuration.description().unwrap_or_default().ends_with(&mark) {
            return Ok(());
        }
        let wanted = Described::now(&configuration, &mark).marked(&mark);
        self.describe(&name, &configuration, &wanted).await
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let function = target::function(order)?;
        let configuration = self.functions.configuration(function).await?;
        let mut found = Vec::new();
        if !configuration.description().unwrap_or_default().ends_with(&mark(order.incident)) {
            found.push("the description does not bear the mark of the update".to_owned());
        }
        match configuration.last_update_status() {
            Some(LastUpdateStatus::Successful) => {}
            Some(LastUpdateStatus::InProgress) => found.push("the update is under way".to_owned()),
            other => found.push(format!("the update is `{}`", other.map_or("unknown", LastUpdateStatus::as_str))),
        }
        if found.is_empty() {
            let left = self.published(&function.to_string()).await?;
            if !left.is_empty() {
                return Err(Veto(format!(
                    "the environments of `$LATEST` are replaced; those behind {} are not, for a published version cannot \
                     be changed: they fail until Lambda replaces them, within hours, or you publish a version and move \
                     the alias",
                    left.join(" and ")
                ))
                .into());
            }
        }
        Ok(in_force_unless(&found))
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        let before: Described = prior::read(order, prior)?;
        let function = target::function(order)?;
        let configuration = self.functions.configuration(function).await?;
        let now = configuration.description().unwrap_or_default();
        if now == before.description {
            return Ok(Reverted::Restored);
        }
        if now != before.marked(&mark(order.incident)) {
            return Ok(Reverted::LeftAlone("the description was changed since".to_owned()));
        }
        self.describe(&function.to_string(), &configuration, &before.description).await?;
        Ok(Reverted::Restored)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ledger::ReleaseOrder;
    use firebreak_model::plan::Step;
    use serde_json::json;

    use super::super::lambda_target::testing::{ARN, PATH, functions, get_configuration};
    use super::*;
    use crate::testing::{Answer, Wire, function_order, json_error, ok};

    const MARK: &str = " [firebreak: recycled 1]";

    fn action(wire: &Wire) -> RecycleEnvironments {
        RecycleEnvironments { functions: functions(wire) }
    }

    fn after(incident: &Incident, seconds: i64) -> Timestamp {
        incident.opened_at + SignedDuration::from_secs(seconds)
    }

    /// The order, once the revocation's time has passed.
    fn late<'a>(incident: &'a Incident, step: &'a Step) -> Order<'a> {
        Order { incident, step, now: after(incident, 75) }
    }

    fn configuration(description: &str, status: &str) -> Answer {
        ok(json!({"Role": "arn:aws:iam::111122223333:role/orders-role", "RevisionId": "r1",
                  "Description": description, "LastUpdateStatus": status})
        .to_string())
    }

    fn describe(description: &str) -> String {
        let body = json!(description);
        format!("PUT /2015-03-31/functions/{PATH}/configuration {{\"Description\":{body},\"RevisionId\":\"r1\"}}")
    }

    fn prior(description: &str) -> Value {
        json!({"description": description})
    }

    #[tokio::test]
    async fn marks_the_description_and_reads_back() {
        let marked = format!("takes orders{MARK}");
        let wire = Wire::answering([
            configuration("takes orders", "Successful"),
            configuration("takes orders", "Successful"),
            ok("{}"),
            configuration(&marked, "InProgress"),
            configuration(&marked, "Successful"),
            ok(r#"{"Aliases": [{"Name": "live", "FunctionVersion": "$LATEST"}]}"#),
            ok(r#"{"ProvisionedConcurrencyConfigs": []}"#),
        ]);
        let (incident, step) = function_order(ActionId::RecycleEnvironments);
        let order = late(&incident, &step);
        let observed = action(&wire).observe(order).await.unwrap();
        assert_eq!(observed, prior("takes orders"));
        action(&wire).apply(order, &observed).await.unwrap();
        let verified = action(&wire).verify(order, &observed).await.unwrap();
        assert_eq!(verified, Verified::NotInForce("the update is under way".to_owned()));
        assert_eq!(action(&wire).verify(order, &observed).await.unwrap(), Verified::InForce);
        let get = get_configuration;
        assert_eq!(wire.requests()[..5], [get(), get(), describe(&marked), get(), get()]);
        assert_eq!((wire.requests().len(), wire.unused()), (7, 0));
    }

    #[tokio::test]
    async fn what_serves_from_a_published_version_is_named_and_not_called_recycled() {
        let (incident, step) = function_order(ActionId::RecycleEnvironments);
        let none = || ok(r#"{"ProvisionedConcurrencyConfigs": []}"#);
        let provisioned =
            || ok(json!({"ProvisionedConcurrencyConfigs": [{"FunctionArn": format!("{ARN}:7")}]}).to_string());
        let aliases = |alias: Value| ok(json!({"Aliases": [alias]}).to_string());
        for (alias, provisioned, says) in [
            (json!({"Name": "live", "FunctionVersion": "7"}), none(), "alias `live` (version 7)"),
            (
                json!({"Name": "live", "FunctionVersion": "7", "RoutingConfig": {"AdditionalVersionWeights": {"8": 0.1}}}),
                none(),
                "alias `live` (version 7, 8)",
            ),
            (json!({"Name": "live", "FunctionVersion": "$LATEST"}), provisioned(), "provisioned concurrency of `7`"),
        ] {
            let wire = Wire::answering([configuration(MARK, "Successful"), aliases(alias), provisioned]);
            let error = action(&wire).verify(late(&incident, &step), &Value::Null).await.unwrap_err();
            assert!(matches!(error, ActionError::Withheld(_)) && error.to_string().contains(says), "{error}");
            assert_eq!(wire.unused(), 0);
        }
        let wire = Wire::answering([configuration(MARK, "Successful"), json_error(429, "TooManyRequestsException")]);
        let error = action(&wire).verify(late(&incident, &step), &Value::Null).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }

    #[tokio::test]
    async fn what_is_marked_already_is_not_updated_again() {
        let marked = format!("takes orders{MARK}");
        let wire = Wire::answering([configuration(&marked, "Successful"), configuration(&marked, "Successful")]);
        let (incident, step) = function_order(ActionId::RecycleEnvironments);
        let observed = action(&wire).observe(late(&incident, &step)).await.unwrap();
        assert_eq!(observed, prior("takes orders"));
        action(&wire).apply(late(&incident, &step), &observed).await.unwrap();
        assert_eq!(wire.requests(), [get_configuration(), get_configuration()]);
    }

    #[tokio::test]
    async fn nothing_is_recycled_before_the_revocation_has_passed() {
        let (ordered, step) = function_order(ActionId::RecycleEnvironments);
        let release = ReleaseOrder {
            at: after(&ordered, 20),
            by: "test".into(),
            reason: "test".into(),
            invocation: "test".into(),
            reactivate_keys: Vec::new(),
            left_alone: Vec::new(),
        };
        let releasing = Incident { state: IncidentState::Releasing, release: Some(release), ..ordered.clone() };
        let mut revoked = releasing.clone();
        revoked.plan.steps.push(Step { action: ActionId::RevokeSessions, target: (&revoked.principal.name).into() });
        for (incident, early, on_time) in [(&ordered, 69, 70), (&releasing, 19, 20), (&revoked, 69, 70)] {
            let wire = Wire::answering([]);
            let order = Order { now: after(incident, early), ..late(incident, &step) };
            let error = action(&wire).apply(order, &Value::Null).await.unwrap_err();
            assert!(error.is_transient() && !error.may_have_applied(), "{error}");
            assert_eq!(wire.requests(), [""; 0]);
            let wire = Wire::answering([configuration("x", "Successful"), ok("{}")]);
            let order = Order { now: after(incident, on_time), ..order };
            action(&wire).apply(order, &Value::Null).await.unwrap();
            assert_eq!(wire.requests(), [get_configuration(), describe(&format!("x{MARK}"))]);
        }
    }

    #[tokio::test]
    async fn errors_say_what_can_be_done_about_them() {
        for (answer, transient, may_have_applied) in [
            (json_error(403, "AccessDeniedException"), false, false),
            (json_error(404, "ResourceNotFoundException"), false, false),
            (json_error(429, "TooManyRequestsException"), true, false),
            (json_error(409, "ResourceConflictException"), true, false),
            (json_error(412, "PreconditionFailedException"), true, false),
            (Answer::Lost, true, true),
        ] {
            let wire = Wire::answering([configuration("x", "Successful"), answer.clone()]);
            let (incident, step) = function_order(ActionId::RecycleEnvironments);
            let error = action(&wire).apply(late(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!(error.is_transient(), transient, "{answer:?}: {error}");
            assert_eq!(error.may_have_applied(), may_have_applied, "{answer:?}: {error}");
        }
    }

    #[tokio::test]
    async fn what_is_not_read_back_is_not_in_force() {
        let (incident, step) = function_order(ActionId::RecycleEnvironments);
        for (description, status, says) in [
            ("x", "Successful", "the description does not bear the mark of the update"),
            (" [firebreak: recycled 1]", "Failed", "the update is `Failed`"),
        ] {
            let wire = Wire::answering([configuration(description, status)]);
            let verified = action(&wire).verify(late(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(verified, Verified::NotInForce(says.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_long_description_is_cut_for_the_mark_and_restored_whole() {
        let long = "ü".repeat(256);
        let marked = format!("{}{MARK}", "ü".repeat(256 - MARK.len()));
        let (incident, step) = function_order(ActionId::RecycleEnvironments);
        let wire = Wire::answering([configuration(&long, "Successful"), ok("{}")]);
        action(&wire).apply(late(&incident, &step), &prior(&long)).await.unwrap();
        assert_eq!(wire.requests(), [get_configuration(), describe(&marked)]);
        let wire = Wire::answering([configuration(&marked, "Successful"), ok("{}")]);
        let reverted = action(&wire).revert(late(&incident, &step), &prior(&long)).await.unwrap();
        assert_eq!(reverted, Reverted::Restored);
        assert_eq!(wire.requests(), [get_configuration(), describe(&long)]);
    }

    #[tokio::test]
    async fn reverting_twice_changes_nothing_the_second_time_and_drift_is_left_alone() {
        let (incident, step) = function_order(ActionId::RecycleEnvironments);
        for (now, expected) in [
            ("x".to_owned(), Reverted::Restored),
            (format!("y{MARK}"), Reverted::LeftAlone("the description was changed since".to_owned())),
            (String::new(), Reverted::LeftAlone("the description was changed since".to_owned())),
        ] {
            let wire = Wire::answering([configuration(&now, "Successful")]);
            let reverted = action(&wire).revert(late(&incident, &step), &prior("x")).await.unwrap();
            assert_eq!(reverted, expected);
            assert_eq!(wire.requests(), [get_configuration()]);
        }
    }

    #[tokio::test]
    async fn an_unreadable_prior_state_changes_nothing() {
        let wire = Wire::answering([]);
        let (incident, step) = function_order(ActionId::RecycleEnvironments);
        let error = action(&wire).revert(late(&incident, &step), &Value::Null).await.unwrap_err();
        assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
        assert_eq!(wire.requests(), [""; 0]);
    }
}
