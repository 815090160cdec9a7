//! Disables the event source mappings of a function, on whichever version or alias they are.

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use firebreak_model::action::ActionId;
use firebreak_model::ids::FunctionArn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lambda_target::Functions;
use super::several::{both, in_force_unless, restored_unless, unless_gone};
use super::{prior, target};
use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};
use crate::paging;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::DisableEventSources,
    summary: "every event source mapping of the function is disabled, or is being disabled",
    permissions: &[
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:ListEventSourceMappings", on: Resource::Any },
        Permission { action: "lambda:UpdateEventSourceMapping", on: Resource::EventSourceMapping },
    ],
    revert_permissions: &[
        Permission { action: "lambda:ListEventSourceMappings", on: Resource::Any },
        Permission { action: "lambda:UpdateEventSourceMapping", on: Resource::EventSourceMapping },
    ],
    additive: false,
    reversible: "the mappings are enabled again; what a stream or queue let expire meanwhile does not come back",
    idempotent_because: "a mapping that is disabled is not touched, and what was enabled is recorded once",
    disrupts: "reading from queues and streams: the backlog grows until the release, then is worked off",
};

/// A mapping, and whether it reads from its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mapping {
    uuid: String,
    /// As Lambda says it: the change is asynchronous.
    state: String,
    enabled: bool,
}

impl Mapping {
    fn of(uuid: &str, state: &str) -> Self {
        // `Creating`, `Enabling` and `Updating` end in `Enabled`, or in what was before: they count as enabled.
        let enabled = !["Disabled", "Disabling", "Deleting"].contains(&state);
        Self { uuid: uuid.to_owned(), state: state.to_owned(), enabled }
    }
}

/// Disables event source mappings.
#[derive(Debug, Clone)]
pub struct DisableEventSources {
    functions: Functions,
}

impl DisableEventSources {
    /// With the client of the function's Region, and the name of the stack.
    pub fn new(lambda: Client, stack: String) -> Self {
        Self { functions: Functions::new(lambda, stack) }
    }

    /// The mappings of the function. Asked for by the function's name, Lambda leaves out those that are on a
    /// version or an alias, so all of the Region are read.
    async fn mappings(&self, function: &FunctionArn) -> Result<Vec<Mapping>, ActionError> {
        let pages = self.functions.client.list_event_source_mappings().into_paginator().send();
        let (call, name) = ("lambda:ListEventSourceMappings", function.to_string());
        let pages = paging::read(pages, call, &name).await?;
        let mut found = Vec::new();
        for mapping in pages.iter().flat_map(|page| page.event_source_mappings().iter()) {
            if mapping.function_arn().is_some_and(|arn| function.is_of(arn)) {
                found.push(Mapping::of(mapping.uuid().unwrap_or_default(), mapping.state().unwrap_or_default()));
            }
        }
        Ok(found)
    }

    async fn set(&self, uuid: &str, enabled: Enabled) -> Result<(), ActionError> {
        let update = self.functions.client.update_event_source_mapping().uuid(uuid).enabled(enabled == Enabled::Yes);
        update.send().await.map_err(|e| ActionError::of("lambda:UpdateEventSourceMapping", uuid, e))?;
        Ok(())
    }
}

/// The mappings that a release has read from their sources again, by what was recorded of them.
pub(crate) fn read_again(prior: &Value) -> Vec<String> {
    let before: Vec<Mapping> = serde_json::from_value(prior.clone()).unwrap_or_default();
    before.into_iter().filter(|mapping| mapping.enabled).map(|mapping| mapping.uuid).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Enabled {
    Yes,
    No,
}

#[async_trait]
impl Action for DisableEventSources {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        self.functions.guarded(order).await?;
        prior::record(order, &self.mappings(target::function(order)?).await?)
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        self.functions.guarded(order).await?;
        let mut result = Ok(());
        // Those that are enabled now: one that was made since is disabled as well.
        for mapping in self.mappings(target::function(order)?).await?.iter().filter(|m| m.enabled) {
            result = both(result, unless_gone(self.set(&mapping.uuid, Enabled::No).await));
        }
        result
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let now = self.mappings(target::function(order)?).await?;
        let found: Vec<String> =
            now.iter().filter(|m| m.enabled).map(|m| format!("`{}` is `{}`", m.uuid, m.state)).collect();
        Ok(in_force_unless(&found))
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        let before: Vec<Mapping> = prior::read(order, prior)?;
        let now = self.mappings(target::function(order)?).await?;
        let mut result = Ok(());
        let mut left = Vec::new();
        for mapping in before.iter().filter(|m| m.enabled) {
            match now.iter().find(|m| m.uuid == mapping.uuid) {
                Some(now) if now.enabled => {}
                Some(now) if now.state != "Deleting" => {
                    result = both(result, self.set(&now.uuid, Enabled::Yes).await);
                }
                _ => left.push(format!("`{}` was deleted, or moved to another function", mapping.uuid)),
            }
        }
        let made_since = now.iter().filter(|now| !now.enabled && before.iter().all(|m| m.uuid != now.uuid));
        left.extend(made_since.map(|m| format!("`{}` was made since, and is off: enable it if it is yours", m.uuid)));
        result.map(|()| restored_unless(&left))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::super::lambda_target::testing::{ARN, configuration, functions, get_configuration};
    use super::*;
    use crate::testing::{Answer, Wire, function_order, json_error, ok, order};

    const LIST: &str = "GET /2015-03-31/event-source-mappings";

    fn action(wire: &Wire) -> DisableEventSources {
        DisableEventSources { functions: functions(wire) }
    }

    fn update(uuid: &str, enabled: &str) -> String {
        format!("PUT /2015-03-31/event-source-mappings/{uuid} {{\"Enabled\":{enabled}}}")
    }

    fn page(mappings: &[(&str, &str, &str)], next: Option<&str>) -> Answer {
        let mappings: Vec<Value> = mappings
            .iter()
            .map(|(uuid, qualifier, state)| {
                json!({"UUID": uuid, "FunctionArn": format!("{ARN}{qualifier}"), "State": state})
            })
            .collect();
        ok(json!({"EventSourceMappings": mappings, "NextMarker": next}).to_string())
    }

    fn listed(mappings: &[(&str, &str)]) -> Answer {
        let mappings: Vec<_> = mappings.iter().map(|(uuid, state)| (*uuid, "", *state)).collect();
        page(&mappings, None)
    }

    fn mapping(uuid: &str, state: &str, enabled: bool) -> Value {
        json!({"uuid": uuid, "state": state, "enabled": enabled})
    }

    #[tokio::test]
    async fn disables_what_is_enabled_on_every_qualifier_and_accepts_that_it_takes_time() {
        let first = [("a", "", "Enabled"), ("x", "-other", "Enabled")];
        let second = [("b", ":live", "Updating"), ("c", "", "Disabled")];
        let all = || [page(&first, Some("m")), page(&second, None)];
        let [one, two] = all();
        let [three, four] = all();
        let after = page(&[("a", "", "Disabling"), ("b", ":live", "Disabled"), ("x", "-other", "Enabled")], None);
        let wire =
            Wire::answering([configuration(), one, two, configuration(), three, four, ok("{}"), ok("{}"), after]);
        let (incident, step) = function_order(ActionId::DisableEventSources);
        let order = order(&incident, &step);
        let observed = action(&wire).observe(order).await.unwrap();
        let expected = [mapping("a", "Enabled", true), mapping("b", "Updating", true), mapping("c", "Disabled", false)];
        assert_eq!(observed, json!(expected));
        action(&wire).apply(order, &observed).await.unwrap();
        assert_eq!(action(&wire).verify(order, &observed).await.unwrap(), Verified::InForce);
        let next = format!("{LIST}?Marker=m");
        let expected = [
            &get_configuration(),
            LIST,
            &next,
            &get_configuration(),
            LIST,
            &next,
            &update("a", "false"),
            &update("b", "false"),
            LIST,
        ];
        assert_eq!(wire.requests(), expected);
    }

    #[tokio::test]
    async fn what_is_disabled_already_is_not_touched() {
        let wire = Wire::answering([configuration(), listed(&[("a", "Disabled"), ("b", "Disabling")])]);
        let (incident, step) = function_order(ActionId::DisableEventSources);
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(wire.requests(), [&get_configuration(), LIST]);
    }

    #[tokio::test]
    async fn what_is_not_read_back_is_not_in_force() {
        let wire = Wire::answering([listed(&[("a", "Disabling"), ("b", "Enabled")])]);
        let (incident, step) = function_order(ActionId::DisableEventSources);
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(verified, Verified::NotInForce("`b` is `Enabled`".to_owned()));
    }

    #[tokio::test]
    async fn one_that_cannot_be_disabled_does_not_keep_the_others_enabled() {
        for (answer, transient, may_have_applied) in [
            (json_error(403, "AccessDeniedException"), false, false),
            (json_error(429, "TooManyRequestsException"), true, false),
            (json_error(400, "ResourceInUseException"), true, false),
            (Answer::Lost, true, true),
        ] {
            let list = listed(&[("a", "Enabled"), ("b", "Enabled")]);
            let wire = Wire::answering([configuration(), list, answer.clone(), ok("{}")]);
            let (incident, step) = function_order(ActionId::DisableEventSources);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!(error.is_transient(), transient, "{answer:?}: {error}");
            assert_eq!(error.may_have_applied(), may_have_applied, "{answer:?}: {error}");
            assert_eq!(wire.requests()[2..], [update("a", "false"), update("b", "false")]);
        }
    }

    #[tokio::test]
    async fn one_that_is_deleted_in_between_needs_no_disabling() {
        let gone = json_error(404, "ResourceNotFoundException");
        let wire = Wire::answering([configuration(), listed(&[("a", "Enabled")]), gone]);
        let (incident, step) = function_order(ActionId::DisableEventSources);
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(wire.unused(), 0);
    }

    #[tokio::test]
    async fn a_function_that_is_gone_is_reported() {
        let wire = Wire::answering([json_error(404, "ResourceNotFoundException")]);
        let (incident, step) = function_order(ActionId::DisableEventSources);
        let error = action(&wire).observe(order(&incident, &step)).await.unwrap_err();
        assert!(matches!(error, ActionError::Gone { .. }), "{error}");
    }

    #[tokio::test]
    async fn reverting_enables_what_was_enabled_and_nothing_else() {
        let prior = json!([mapping("a", "Enabled", true), mapping("b", "Disabled", false)]);
        let wire = Wire::answering([
            listed(&[("a", "Disabled"), ("b", "Disabled")]),
            ok("{}"),
            listed(&[("a", "Enabling"), ("b", "Disabled")]),
        ]);
        let (incident, step) = function_order(ActionId::DisableEventSources);
        for _ in 0..2 {
            let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
            assert_eq!(reverted, Reverted::Restored);
        }
        assert_eq!(wire.requests(), [LIST, &update("a", "true"), LIST]);
    }

    #[tokio::test]
    async fn what_was_made_since_is_told_where_it_is_off() {
        let prior = json!([mapping("a", "Enabled", true)]);
        let wire = Wire::answering([listed(&[("a", "Disabled"), ("c", "Disabled"), ("d", "Enabled")]), ok("{}")]);
        let (incident, step) = function_order(ActionId::DisableEventSources);
        let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
        let told = "`c` was made since, and is off: enable it if it is yours";
        assert_eq!(reverted, Reverted::LeftAlone(told.to_owned()));
        assert_eq!(wire.requests(), [LIST, &update("a", "true")]);
    }

    #[tokio::test]
    async fn what_was_deleted_since_is_left_alone() {
        let prior = json!([mapping("a", "Enabled", true), mapping("b", "Enabled", true)]);
        let wire = Wire::answering([listed(&[("b", "Disabled")]), ok("{}")]);
        let (incident, step) = function_order(ActionId::DisableEventSources);
        let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
        assert_eq!(reverted, Reverted::LeftAlone("`a` was deleted, or moved to another function".to_owned()));
        assert_eq!(wire.requests(), [LIST, &update("b", "true")]);
    }

    #[tokio::test]
    async fn an_unreadable_prior_state_changes_nothing() {
        let wire = Wire::answering([]);
        let (incident, step) = function_order(ActionId::DisableEventSources);
        let error = action(&wire).revert(order(&incident, &step), &json!({})).await.unwrap_err();
        assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
        assert_eq!(wire.requests(), [""; 0]);
    }
}
