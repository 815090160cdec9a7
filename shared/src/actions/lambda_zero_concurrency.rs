//! Stops a function: reserved concurrency 0, after provisioned concurrency is taken away.

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use firebreak_model::action::ActionId;
use firebreak_model::ids::FunctionArn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lambda_provisioned::Provisioned;
use super::lambda_target::Functions;
use super::several::{both, in_force_unless, restored_unless, unless_gone};
use super::{prior, target};
use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};
use crate::telemetry::chain;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::ZeroConcurrency,
    summary: "reserved concurrency is 0: no version or alias is invoked any more; what runs already runs to its time-out",
    permissions: &[
        Permission { action: "lambda:DeleteProvisionedConcurrencyConfig", on: Resource::Function },
        Permission { action: "lambda:GetFunctionConcurrency", on: Resource::Function },
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:ListProvisionedConcurrencyConfigs", on: Resource::Function },
        Permission { action: "lambda:PutFunctionConcurrency", on: Resource::Function },
    ],
    revert_permissions: &[
        Permission { action: "lambda:DeleteFunctionConcurrency", on: Resource::Function },
        Permission { action: "lambda:GetFunctionConcurrency", on: Resource::Function },
        Permission { action: "lambda:ListProvisionedConcurrencyConfigs", on: Resource::Function },
        Permission { action: "lambda:PutFunctionConcurrency", on: Resource::Function },
        Permission { action: "lambda:PutProvisionedConcurrencyConfig", on: Resource::Function },
    ],
    additive: false,
    reversible: "the figures come back; asynchronous events that were refused meanwhile do not",
    idempotent_because: "0 set twice is 0, and provisioned concurrency that is gone is not deleted again",
    disrupts: "every invocation of the function, on all versions and aliases",
};

/// What was there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Concurrency {
    /// `None`: nothing was reserved.
    reserved: Option<i32>,
    provisioned: Vec<Provisioned>,
}

/// Sets reserved concurrency to 0.
#[derive(Debug, Clone)]
pub struct ZeroConcurrency {
    functions: Functions,
}

impl ZeroConcurrency {
    /// With the client of the function's Region, and the name of the stack.
    pub fn new(lambda: Client, stack: String) -> Self {
        Self { functions: Functions::new(lambda, stack) }
    }

    fn lambda(&self) -> &Client {
        &self.functions.client
    }

    async fn reserved(&self, function: &FunctionArn) -> Result<Option<i32>, ActionError> {
        let name = function.to_string();
        let answer = self.lambda().get_function_concurrency().function_name(&name).send().await;
        let answer = answer.map_err(|e| ActionError::of("lambda:GetFunctionConcurrency", &name, e))?;
        Ok(answer.reserved_concurrent_executions)
    }

    async fn concurrency(&self, function: &FunctionArn) -> Result<Concurrency, ActionError> {
        Ok(Concurrency {
            reserved: self.reserved(function).await?,
            provisioned: self.functions.provisioned(function).await?,
        })
    }

    async fn reserve(&self, function: &FunctionArn, figure: i32) -> Result<(), ActionError> {
        let name = function.to_string();
        let put = self.lambda().put_function_concurrency().function_name(&name).reserved_concurrent_executions(figure);
        put.send().await.map_err(|e| ActionError::of("lambda:PutFunctionConcurrency", &name, e))?;
        Ok(())
    }

    async fn unreserve(&self, function: &FunctionArn) -> Result<(), ActionError> {
        let name = function.to_string();
        let delete = self.lambda().delete_function_concurrency().function_name(&name);
        delete.send().await.map_err(|e| ActionError::of("lambda:DeleteFunctionConcurrency", &name, e))?;
        Ok(())
    }
}

#[async_trait]
impl Action for ZeroConcurrency {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        self.functions.guarded(order).await?;
        prior::record(order, &self.concurrency(target::function(order)?).await?)
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        self.functions.guarded(order).await?;
        let function = target::function(order)?;
        // Provisioned concurrency counts against the reserved figure, so it goes first; the 0 is tried all the same.
        let mut result = Ok(());
        for provisioned in self.functions.provisioned(function).await? {
            result = both(result, unless_gone(self.functions.unprovision(function, &provisioned.qualifier).await));
        }
        both(result, self.reserve(function, 0).await)
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let now = self.concurrency(target::function(order)?).await?;
        let mut found = Vec::new();
        match now.reserved {
            Some(0) => {}
            Some(figure) => found.push(format!("reserved concurrency is {figure}")),
            None => found.push("no concurrency is reserved".to_owned()),
        }
        found.extend(now.provisioned.iter().map(|p| format!("`{}` has {} provisioned", p.qualifier, p.requested)));
        Ok(in_force_unless(&found))
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        let before: Concurrency = prior::read(order, prior)?;
        let function = target::function(order)?;
        let mut left = Vec::new();
        match (self.reserved(function).await?, before.reserved) {
            (now, before) if now == before => {}
            (Some(0), Some(figure)) => self.reserve(function, figure).await?,
            (Some(0), None) => self.unreserve(function).await?,
            (now, _) => {
                let now = now.map_or_else(|| "not set".to_owned(), |figure| figure.to_string());
                left.push(format!("reserved concurrency is {now} now, not 0"));
            }
        }
        let figure_is_ours = left.is_empty();
        if !before.provisioned.is_empty() {
            let now = self.functions.provisioned(function).await?;
            for wanted in &before.provisioned {
                match now.iter().find(|p| p.qualifier == wanted.qualifier) {
                    Some(same) if same == wanted => {}
                    Some(other) => left.push(format!("`{}` has {} provisioned now", other.qualifier, other.requested)),
                    None => match self.functions.provision(function, wanted).await {
                        Err(ActionError::Gone { .. }) => left.push(format!("`{}` is gone", wanted.qualifier)),
                        // What somebody reserves now may not hold what was provisioned: a person must see to it.
                        Err(error @ (ActionError::Rejected { .. } | ActionError::Quota { .. })) if !figure_is_ours => {
                            left.push(format!(
                                "{} cannot be provisioned for `{}`: {}",
                                wanted.requested,
                                wanted.qualifier,
                                chain(&error)
                            ));
                        }
                        result => result?,
                    },
                }
            }
        }
        Ok(restored_unless(&left))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::super::lambda_target::testing::{ARN, PATH, configuration, functions, get_configuration};
    use super::*;
    use crate::testing::{Answer, Wire, function_order, json_error, ok, order};

    fn action(wire: &Wire) -> ZeroConcurrency {
        ZeroConcurrency { functions: functions(wire) }
    }

    fn get() -> String {
        format!("GET /2019-09-30/functions/{PATH}/concurrency")
    }

    fn list() -> String {
        format!("GET /2019-09-30/functions/{PATH}/provisioned-concurrency?List=ALL")
    }

    fn put(figure: i32) -> String {
        format!("PUT /2017-10-31/functions/{PATH}/concurrency {{\"ReservedConcurrentExecutions\":{figure}}}")
    }

    fn delete_provisioned(qualifier: &str) -> String {
        format!("DELETE /2019-09-30/functions/{PATH}/provisioned-concurrency?Qualifier={qualifier}")
    }

    fn put_provisioned(qualifier: &str, figure: i32) -> String {
        format!(
            "PUT /2019-09-30/functions/{PATH}/provisioned-concurrency?Qualifier={qualifier} \
             {{\"ProvisionedConcurrentExecutions\":{figure}}}"
        )
    }

    fn reserved(figure: Option<i32>) -> Answer {
        ok(figure.map_or_else(|| json!({}), |f| json!({"ReservedConcurrentExecutions": f})).to_string())
    }

    fn provisioned(items: &[(&str, i32)]) -> Answer {
        let items: Vec<Value> = items
            .iter()
            .map(|(q, f)| json!({"FunctionArn": format!("{ARN}:{q}"), "RequestedProvisionedConcurrentExecutions": f}))
            .collect();
        ok(json!({"ProvisionedConcurrencyConfigs": items}).to_string())
    }

    fn prior(reserved: Option<i32>, items: &[(&str, i32)]) -> Value {
        let items: Vec<Value> = items.iter().map(|(q, f)| json!({"qualifier": q, "requested": f})).collect();
        json!({"reserved": reserved, "provisioned": items})
    }

    #[tokio::test]
    async fn records_takes_provisioned_concurrency_away_then_sets_0_and_reads_back() {
        let wire = Wire::answering([
            configuration(),
            reserved(Some(7)),
            ok(json!({"ProvisionedConcurrencyConfigs": [
                {"FunctionArn": format!("{ARN}:live"), "RequestedProvisionedConcurrentExecutions": 3}
            ], "NextMarker": "m"})
            .to_string()),
            provisioned(&[("4", 2)]),
            configuration(),
            provisioned(&[("live", 3), ("4", 2)]),
            ok(""),
            ok(""),
            reserved(Some(0)),
            reserved(Some(0)),
            provisioned(&[]),
        ]);
        let (incident, step) = function_order(ActionId::ZeroConcurrency);
        let order = order(&incident, &step);
        let observed = action(&wire).observe(order).await.unwrap();
        assert_eq!(observed, prior(Some(7), &[("live", 3), ("4", 2)]));
        action(&wire).apply(order, &observed).await.unwrap();
        assert_eq!(action(&wire).verify(order, &observed).await.unwrap(), Verified::InForce);
        let next_page = format!("GET /2019-09-30/functions/{PATH}/provisioned-concurrency?List=ALL&Marker=m");
        let expected = [
            get_configuration(),
            get(),
            list(),
            next_page,
            get_configuration(),
            list(),
            delete_provisioned("live"),
            delete_provisioned("4"),
            put(0),
            get(),
            list(),
        ];
        assert_eq!(wire.requests(), expected);
    }

    #[tokio::test]
    async fn a_function_that_is_at_0_already_is_set_again_without_harm() {
        let wire = Wire::answering([configuration(), provisioned(&[]), reserved(Some(0))]);
        let (incident, step) = function_order(ActionId::ZeroConcurrency);
        action(&wire).apply(order(&incident, &step), &prior(Some(0), &[])).await.unwrap();
        assert_eq!(wire.requests(), [get_configuration(), list(), put(0)]);
    }

    #[tokio::test]
    async fn the_0_is_tried_though_provisioned_concurrency_cannot_be_taken_away() {
        let denied = json_error(403, "AccessDeniedException");
        let wire = Wire::answering([configuration(), provisioned(&[("live", 3)]), denied, reserved(Some(0))]);
        let (incident, step) = function_order(ActionId::ZeroConcurrency);
        let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
        assert!(matches!(error, ActionError::Denied { .. }), "{error}");
        assert_eq!(wire.requests().last(), Some(&put(0)));
    }

    #[tokio::test]
    async fn what_is_not_read_back_is_not_in_force() {
        for (now, items, says) in [
            (Some(5), vec![], "reserved concurrency is 5"),
            (None, vec![], "no concurrency is reserved"),
            (Some(0), vec![("live", 3)], "`live` has 3 provisioned"),
        ] {
            let wire = Wire::answering([reserved(now), provisioned(&items)]);
            let (incident, step) = function_order(ActionId::ZeroConcurrency);
            let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(verified, Verified::NotInForce(says.to_owned()));
        }
    }

    #[tokio::test]
    async fn errors_say_what_can_be_done_about_them() {
        for (answer, transient, may_have_applied) in [
            (json_error(403, "AccessDeniedException"), false, false),
            (json_error(404, "ResourceNotFoundException"), false, false),
            (json_error(429, "TooManyRequestsException"), true, false),
            (json_error(409, "ResourceConflictException"), true, false),
            (json_error(500, "ServiceException"), true, true),
            (Answer::Lost, true, true),
        ] {
            let wire = Wire::answering([configuration(), provisioned(&[]), answer.clone()]);
            let (incident, step) = function_order(ActionId::ZeroConcurrency);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!(error.is_transient(), transient, "{answer:?}: {error}");
            assert_eq!(error.may_have_applied(), may_have_applied, "{answer:?}: {error}");
            assert_eq!(wire.requests().last(), Some(&put(0)));
        }
    }

    #[tokio::test]
    async fn a_function_that_runs_as_another_role_is_not_stopped() {
        let wire = Wire::answering([ok(r#"{"Role": "arn:aws:iam::111122223333:role/other"}"#)]);
        let (incident, step) = function_order(ActionId::ZeroConcurrency);
        let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
        assert!(matches!(error, ActionError::Withheld(_)), "{error}");
        assert_eq!(wire.requests(), [get_configuration()]);
    }

    #[tokio::test]
    async fn reverting_restores_what_was_reserved_and_provisioned() {
        let unreserve = format!("DELETE /2017-10-31/functions/{PATH}/concurrency");
        for (before, change) in [(None, unreserve), (Some(7), put(7))] {
            let wire = Wire::answering([reserved(Some(0)), ok(""), provisioned(&[]), ok("{}")]);
            let (incident, step) = function_order(ActionId::ZeroConcurrency);
            let prior = prior(before, &[("live", 3)]);
            let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
            assert_eq!(reverted, Reverted::Restored);
            assert_eq!(wire.requests(), [get(), change, list(), put_provisioned("live", 3)]);
        }
    }

    #[tokio::test]
    async fn reverting_twice_changes_nothing_the_second_time() {
        let wire = Wire::answering([reserved(Some(7)), provisioned(&[("live", 3)])]);
        let (incident, step) = function_order(ActionId::ZeroConcurrency);
        let reverted = action(&wire).revert(order(&incident, &step), &prior(Some(7), &[("live", 3)])).await.unwrap();
        assert_eq!(reverted, Reverted::Restored);
        assert_eq!(wire.requests(), [get(), list()]);
    }

    #[tokio::test]
    async fn what_was_changed_since_is_left_alone() {
        let (incident, step) = function_order(ActionId::ZeroConcurrency);
        for now in [Some(5), None] {
            let wire = Wire::answering([reserved(now)]);
            let reverted = action(&wire).revert(order(&incident, &step), &prior(Some(7), &[])).await.unwrap();
            assert!(matches!(reverted, Reverted::LeftAlone(_)), "{reverted:?}");
            assert_eq!(wire.requests(), [get()]);
        }
        let wire = Wire::answering([
            reserved(None),
            provisioned(&[("live", 9)]),
            json_error(404, "ResourceNotFoundException"),
        ]);
        let prior = prior(None, &[("live", 3), ("4", 2)]);
        let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
        assert_eq!(reverted, Reverted::LeftAlone("`live` has 9 provisioned now; `4` is gone".to_owned()));
    }

    #[tokio::test]
    async fn an_unreadable_prior_state_changes_nothing() {
        let wire = Wire::answering([]);
        let (incident, step) = function_order(ActionId::ZeroConcurrency);
        let error = action(&wire).revert(order(&incident, &step), &json!({"reserved": "x"})).await.unwrap_err();
        assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
        assert_eq!(wire.requests(), [""; 0]);
    }
}
