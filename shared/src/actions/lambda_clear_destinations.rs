//! Clears where asynchronous invocations of a function report to: destinations of every version and alias, and the
//! dead-letter target. A thief may have chosen them.

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use aws_sdk_lambda::types::{DeadLetterConfig, DestinationConfig, OnFailure, OnSuccess};
use firebreak_model::action::ActionId;
use firebreak_model::ids;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lambda_target::{Functions, exact_qualifier, shown};
use super::several::{both, in_force_unless, restored_unless, unless_gone};
use super::{prior, target};
use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};
use crate::paging;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::ClearDestinations,
    summary: "asynchronous invocations report to no destination and no dead-letter target",
    permissions: &[
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:ListFunctionEventInvokeConfigs", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionEventInvokeConfig", on: Resource::Function },
    ],
    revert_permissions: &[
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:ListFunctionEventInvokeConfigs", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionEventInvokeConfig", on: Resource::Function },
    ],
    additive: false,
    reversible: "the settings come back; events that failed meanwhile went nowhere and are lost",
    idempotent_because: "what is cleared is not cleared again, and only what is on record is cleared",
    disrupts: "whoever reads the destinations; asynchronous events that fail are dropped",
};

/// Where one version or alias reports to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Destinations {
    /// The alias or version, as Lambda names it: the settings of the function itself are those of `$LATEST`.
    qualifier: Option<String>,
    on_success: Option<String>,
    on_failure: Option<String>,
}

impl Destinations {
    fn are_clear(&self) -> bool {
        self.on_success.is_none() && self.on_failure.is_none()
    }

    /// The same without any destination.
    fn cleared(&self) -> Self {
        Self { qualifier: self.qualifier.clone(), on_success: None, on_failure: None }
    }

    fn shown(&self) -> String {
        let of = shown(self.qualifier.as_deref());
        let to: Vec<String> = [("success", &self.on_success), ("failure", &self.on_failure)]
            .into_iter()
            .filter_map(|(on, to)| to.as_ref().map(|to| format!("on {on} to `{}`", ids::shown(to))))
            .collect();
        format!("{of} reports {}", to.join(" and "))
    }
}

/// What was there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Reporting {
    destinations: Vec<Destinations>,
    dead_letter: Option<String>,
}

fn present(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn dead_letter(configuration: &GetFunctionConfigurationOutput) -> Option<String> {
    present(configuration.dead_letter_config().and_then(DeadLetterConfig::target_arn))
}

/// Clears destinations.
#[derive(Debug, Clone)]
pub struct ClearDestinations {
    functions: Functions,
}

impl ClearDestinations {
    /// With the client of the function's Region, and the name of the stack.
    pub fn new(lambda: Client, stack: String) -> Self {
        Self { functions: Functions::new(lambda, stack) }
    }

    async fn destinations(&self, name: &str) -> Result<Vec<Destinations>, ActionError> {
        let list = self.functions.client.list_function_event_invoke_configs().function_name(name);
        let pages = list.into_paginator().send();
        let call = "lambda:ListFunctionEventInvokeConfigs";
        let pages = paging::read(pages, call, name).await?;
        let mut found = Vec::new();
        for config in pages.iter().flat_map(|page| page.function_event_invoke_configs().iter()) {
            let to = config.destination_config();
            found.push(Destinations {
                qualifier: exact_qualifier(config.function_arn().unwrap_or_default()),
                on_success: present(to.and_then(|to| to.on_success()).and_then(OnSuccess::destination)),
                on_failure: present(to.and_then(|to| to.on_failure()).and_then(OnFailure::destination)),
            });
        }
        Ok(found)
    }

    /// Replaces the destinations of one version or alias and leaves retries and ages as they are. An object without a
    /// `Destination` is what Lambda itself shows where there is none.
    async fn report_to(&self, name: &str, wanted: &Destinations) -> Result<(), ActionError> {
        let to = DestinationConfig::builder()
            .on_success(OnSuccess::builder().set_destination(wanted.on_success.clone()).build())
            .on_failure(OnFailure::builder().set_destination(wanted.on_failure.clone()).build())
            .build();
        let update = self.functions.client.update_function_event_invoke_config().function_name(name);
        let update = update.set_qualifier(wanted.qualifier.clone()).destination_config(to);
        update.send().await.map_err(|e| ActionError::of("lambda:UpdateFunctionEventInvokeConfig", name, e))?;
        Ok(())
    }

    /// Sets or clears the dead-letter target, unless the function was changed since `configuration` was read.
    async fn bury_in(
        &self,
        name: &str,
        configuration: &GetFunctionConfigurationOutput,
        wanted: &str,
    ) -> Result<(), ActionError> {
        let update = self.functions.client.update_function_configuration().function_name(name);
        let update = update.dead_letter_config(DeadLetterConfig::builder().target_arn(wanted).build());
        let update = update.set_revision_id(configuration.revision_id.clone());
        update.send().await.map_err(|e| ActionError::of("lambda:UpdateFunctionConfiguration", name, e))?;
        Ok(())
    }
}

#[async_trait]
impl Action for ClearDestinations {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        let configuration = self.functions.guarded(order).await?;
        let destinations = self.destinations(&target::function(order)?.to_string()).await?;
        prior::record(order, &Reporting { destinations, dead_letter: dead_letter(&configuration) })
    }

    async fn apply(&self, order: Order<'_>, prior: &Value) -> Result<(), ActionError> {
        let before: Reporting = prior::read(order, prior)?;
        let configuration = self.functions.guarded(order).await?;
        let name = target::function(order)?.to_string();
        let mut result = Ok(());
        // Only what is on record: what was changed since would be lost. `verify` reports it.
        for now in self.destinations(&name).await? {
            if !now.are_clear() && before.destinations.contains(&now) {
                result = both(result, unless_gone(self.report_to(&name, &now.cleared()).await));
            }
        }
        let buried_in = dead_letter(&configuration);
        if buried_in.is_some() && buried_in == before.dead_letter {
            result = both(result, self.bury_in(&name, &configuration, "").await);
        }
        result
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let function = target::function(order)?;
        let configuration = self.functions.configuration(function).await?;
        let now = self.destinations(&function.to_string()).await?;
        let mut found: Vec<String> = now.iter().filter(|d| !d.are_clear()).map(Destinations::shown).collect();
        found.extend(dead_letter(&configuration).map(|to| format!("the dead-letter target is `{}`", ids::shown(&to))));
        Ok(in_force_unless(&found))
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        let before: Reporting = prior::read(order, prior)?;
        let function = target::function(order)?;
        let name = function.to_string();
        let mut result = Ok(());
        let mut left = Vec::new();
        if before.destinations.iter().any(|d| !d.are_clear()) {
            let now = self.destinations(&name).await?;
            for wanted in before.destinations.iter().filter(|d| !d.are_clear()) {
                match now.iter().find(|now| now.qualifier == wanted.qualifier) {
                    Some(now) if now == wanted => {}
                    Some(now) if now.are_clear() => result = both(result, self.report_to(&name, wanted).await),
                    Some(now) => left.push(format!("{} now", now.shown())),
                    None => left.push(format!(
                        "the asynchronous settings of {} were deleted",
                        shown(wanted.qualifier.as_deref())
                    )),
                }
            }
        }
        if let Some(wanted) = &before.dead_letter {
            let configuration = self.functions.configuration(function).await?;
            match dead_letter(&configuration) {
                Some(now) if now == *wanted => {}
                None => result = both(result, self.bury_in(&name, &configuration, wanted).await),
                Some(now) => left.push(format!("the dead-letter target is `{}` now", ids::shown(&now))),
            }
        }
        result.map(|()| restored_unless(&left))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::super::lambda_target::testing::{ARN, PATH, functions, get_configuration};
    use super::*;
    use crate::testing::{Answer, Wire, function_order, json_error, ok, order};

    const QUEUE: &str = "arn:aws:sqs:eu-west-1:111122223333:q";
    const BUS: &str = "arn:aws:events:eu-west-1:111122223333:event-bus/b";
    const DLQ: &str = "arn:aws:sqs:eu-west-1:111122223333:dlq";

    fn action(wire: &Wire) -> ClearDestinations {
        ClearDestinations { functions: functions(wire) }
    }

    fn configuration(dead_letter: Option<&str>) -> Answer {
        let dead_letter = dead_letter.map(|arn| json!({"TargetArn": arn}));
        ok(json!({"Role": "arn:aws:iam::111122223333:role/orders-role", "RevisionId": "r1",
                  "DeadLetterConfig": dead_letter})
        .to_string())
    }

    fn config(qualifier: &str, success: Option<&str>, failure: Option<&str>) -> Value {
        let side = |to: Option<&str>| to.map_or_else(|| json!({}), |to| json!({"Destination": to}));
        json!({"FunctionArn": format!("{ARN}:{qualifier}"), "MaximumRetryAttempts": 1,
               "DestinationConfig": {"OnSuccess": side(success), "OnFailure": side(failure)}})
    }

    fn page(configs: &[Value], next: Option<&str>) -> Answer {
        ok(json!({"FunctionEventInvokeConfigs": configs, "NextMarker": next}).to_string())
    }

    fn both_pages() -> [Answer; 2] {
        [
            page(&[config("$LATEST", None, Some(QUEUE))], Some("m")),
            page(&[config("live", Some(BUS), Some(QUEUE)), config("1", None, None)], None),
        ]
    }

    fn cleared() -> Answer {
        page(&[config("$LATEST", None, None), config("live", None, None), config("1", None, None)], None)
    }

    fn prior() -> Value {
        json!({"destinations": [
            {"qualifier": "$LATEST", "on_success": null, "on_failure": QUEUE},
            {"qualifier": "live", "on_success": BUS, "on_failure": QUEUE},
            {"qualifier": "1", "on_success": null, "on_failure": null}
        ], "dead_letter": DLQ})
    }

    fn list() -> String {
        format!("GET /2019-09-25/functions/{PATH}/event-invoke-config/list")
    }

    fn update(query: &str, success: &str, failure: &str) -> String {
        let side = |to: &str| if to.is_empty() { json!({}) } else { json!({"Destination": to}) };
        format!(
            "POST /2019-09-25/functions/{PATH}/event-invoke-config{query} \
             {{\"DestinationConfig\":{{\"OnSuccess\":{},\"OnFailure\":{}}}}}",
            side(success),
            side(failure)
        )
    }

    fn bury(target: &str) -> String {
        format!(
            "PUT /2015-03-31/functions/{PATH}/configuration \
             {{\"DeadLetterConfig\":{{\"TargetArn\":\"{target}\"}},\"RevisionId\":\"r1\"}}"
        )
    }

    #[tokio::test]
    async fn clears_destinations_and_dead_letter_target_and_reads_back() {
        let mut script = vec![configuration(Some(DLQ))];
        script.extend(both_pages());
        script.push(configuration(Some(DLQ)));
        script.extend(both_pages());
        script.extend([ok("{}"), ok("{}"), ok("{}"), configuration(Some("")), cleared()]);
        let wire = Wire::answering(script);
        let (incident, step) = function_order(ActionId::ClearDestinations);
        let order = order(&incident, &step);
        let observed = action(&wire).observe(order).await.unwrap();
        assert_eq!(observed, prior());
        action(&wire).apply(order, &observed).await.unwrap();
        assert_eq!(action(&wire).verify(order, &observed).await.unwrap(), Verified::InForce);
        let next = format!("{}?Marker=m", list());
        let expected = [
            get_configuration(),
            list(),
            next.clone(),
            get_configuration(),
            list(),
            next,
            update("?Qualifier=%24LATEST", "", ""),
            update("?Qualifier=live", "", ""),
            bury(""),
            get_configuration(),
            list(),
        ];
        assert_eq!(wire.requests(), expected);
    }

    #[tokio::test]
    async fn what_is_cleared_already_is_not_touched() {
        let wire = Wire::answering([configuration(None), cleared()]);
        let (incident, step) = function_order(ActionId::ClearDestinations);
        action(&wire).apply(order(&incident, &step), &prior()).await.unwrap();
        assert_eq!(wire.requests(), [get_configuration(), list()]);
    }

    #[tokio::test]
    async fn what_is_not_on_record_is_reported_not_lost() {
        let (incident, step) = function_order(ActionId::ClearDestinations);
        let now = || page(&[config("$LATEST", Some(BUS), None)], None);
        let wire = Wire::answering([configuration(Some(QUEUE)), now(), configuration(Some(QUEUE)), now()]);
        action(&wire).apply(order(&incident, &step), &prior()).await.unwrap();
        assert_eq!(wire.requests(), [get_configuration(), list()]);
        let verified = action(&wire).verify(order(&incident, &step), &prior()).await.unwrap();
        let found = format!("`$LATEST` reports on success to `{BUS}`; the dead-letter target is `{QUEUE}`");
        assert_eq!(verified, Verified::NotInForce(found));
    }

    #[tokio::test]
    async fn one_that_cannot_be_cleared_does_not_keep_the_others() {
        for (answer, ends) in [
            (json_error(403, "AccessDeniedException"), Some((false, false))),
            (json_error(429, "TooManyRequestsException"), Some((true, false))),
            (json_error(409, "ResourceConflictException"), Some((true, false))),
            (Answer::Lost, Some((true, true))),
            (json_error(404, "ResourceNotFoundException"), None),
        ] {
            let mut script = vec![configuration(Some(DLQ))];
            script.extend(both_pages());
            script.extend([answer.clone(), ok("{}"), ok("{}")]);
            let wire = Wire::answering(script);
            let (incident, step) = function_order(ActionId::ClearDestinations);
            let result = action(&wire).apply(order(&incident, &step), &prior()).await;
            let ended = result.err().map(|error| (error.is_transient(), error.may_have_applied()));
            assert_eq!(ended, ends, "{answer:?}");
            let expected = [update("?Qualifier=%24LATEST", "", ""), update("?Qualifier=live", "", ""), bury("")];
            assert_eq!(wire.requests()[3..], expected);
        }
    }

    #[tokio::test]
    async fn a_function_that_was_changed_in_between_is_worth_another_try() {
        let changed = json_error(412, "PreconditionFailedException");
        let wire = Wire::answering([configuration(Some(DLQ)), cleared(), changed]);
        let (incident, step) = function_order(ActionId::ClearDestinations);
        let error = action(&wire).apply(order(&incident, &step), &prior()).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }

    #[tokio::test]
    async fn reverting_puts_back_what_is_still_cleared() {
        let mut script = vec![cleared(), ok("{}"), ok("{}"), configuration(None), ok("{}")];
        script.extend(both_pages());
        script.push(configuration(Some(DLQ)));
        let wire = Wire::answering(script);
        let (incident, step) = function_order(ActionId::ClearDestinations);
        for _ in 0..2 {
            let reverted = action(&wire).revert(order(&incident, &step), &prior()).await.unwrap();
            assert_eq!(reverted, Reverted::Restored);
        }
        let expected = [
            list(),
            update("?Qualifier=%24LATEST", "", QUEUE),
            update("?Qualifier=live", BUS, QUEUE),
            get_configuration(),
            bury(DLQ),
            list(),
            format!("{}?Marker=m", list()),
            get_configuration(),
        ];
        assert_eq!(wire.requests(), expected);
    }

    #[tokio::test]
    async fn what_was_changed_since_is_left_alone() {
        let now = page(&[config("live", Some(QUEUE), None)], None);
        let wire = Wire::answering([now, configuration(Some(QUEUE))]);
        let (incident, step) = function_order(ActionId::ClearDestinations);
        let reverted = action(&wire).revert(order(&incident, &step), &prior()).await.unwrap();
        let found = format!(
            "the asynchronous settings of `$LATEST` were deleted; \
             `live` reports on success to `{QUEUE}` now; the dead-letter target is `{QUEUE}` now"
        );
        assert_eq!(reverted, Reverted::LeftAlone(found));
        assert_eq!(wire.requests(), [list(), get_configuration()]);
    }

    #[tokio::test]
    async fn an_unreadable_prior_state_changes_nothing() {
        let (incident, step) = function_order(ActionId::ClearDestinations);
        let wire = Wire::answering([]);
        for error in [
            action(&wire).apply(order(&incident, &step), &json!([])).await.unwrap_err(),
            action(&wire).revert(order(&incident, &step), &json!([])).await.unwrap_err(),
        ] {
            assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
        }
        assert_eq!(wire.requests(), [""; 0]);
    }
}
