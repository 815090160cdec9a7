//! Closes function URLs to everyone who cannot sign: `AuthType` `AWS_IAM`. Never deletes one: a new one would have
//! another address.

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::FunctionUrlAuthType;
use firebreak_model::action::ActionId;
use firebreak_model::ids::FunctionArn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lambda_target::{Functions, qualifier, shown};
use super::several::{both, in_force_unless, restored_unless, unless_gone};
use super::{prior, target};
use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};
use crate::paging;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::CloseFunctionUrls,
    summary: "every URL of the function asks for a signed request (AWS_IAM)",
    permissions: &[
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:ListFunctionUrlConfigs", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionUrlConfig", on: Resource::Function },
    ],
    revert_permissions: &[
        Permission { action: "lambda:ListFunctionUrlConfigs", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionUrlConfig", on: Resource::Function },
    ],
    additive: false,
    reversible: "wholly: the URLs keep their addresses",
    idempotent_because: "a URL that asks for a signed request is not touched, and what was open is recorded once",
    disrupts: "everyone who calls the function by its URL without signing",
};

/// The URL of a function or of one of its aliases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Url {
    /// The alias; `None` for the function itself.
    qualifier: Option<String>,
    auth_type: String,
}

impl Url {
    fn is_open(&self) -> bool {
        // Whatever else there may come to be: only this is known to be closed.
        self.auth_type != FunctionUrlAuthType::AwsIam.as_str()
    }
}

/// Closes function URLs.
#[derive(Debug, Clone)]
pub struct CloseFunctionUrls {
    functions: Functions,
}

impl CloseFunctionUrls {
    /// With the client of the function's Region, and the name of the stack.
    pub fn new(lambda: Client, stack: String) -> Self {
        Self { functions: Functions::new(lambda, stack) }
    }

    async fn urls(&self, function: &FunctionArn) -> Result<Vec<Url>, ActionError> {
        let name = function.to_string();
        let list = self.functions.client.list_function_url_configs().function_name(&name);
        let pages = list.into_paginator().send();
        let pages = paging::read(pages, "lambda:ListFunctionUrlConfigs", &name).await?;
        let mut found = Vec::new();
        for url in pages.iter().flat_map(|page| page.function_url_configs().iter()) {
            let auth_type = url.auth_type().as_str().to_owned();
            found.push(Url { qualifier: qualifier(url.function_arn()), auth_type });
        }
        Ok(found)
    }

    async fn set(&self, function: &FunctionArn, url: &Url, auth: FunctionUrlAuthType) -> Result<(), ActionError> {
        let name = function.to_string();
        let update = self.functions.client.update_function_url_config().function_name(&name).auth_type(auth);
        let update = update.set_qualifier(url.qualifier.clone());
        update.send().await.map_err(|e| ActionError::of("lambda:UpdateFunctionUrlConfig", &name, e))?;
        Ok(())
    }
}

#[async_trait]
impl Action for CloseFunctionUrls {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        self.functions.guarded(order).await?;
        prior::record(order, &self.urls(target::function(order)?).await?)
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        self.functions.guarded(order).await?;
        let function = target::function(order)?;
        let mut result = Ok(());
        // Those that are open now: one that was made since is closed as well.
        for url in self.urls(function).await?.iter().filter(|url| url.is_open()) {
            result = both(result, unless_gone(self.set(function, url, FunctionUrlAuthType::AwsIam).await));
        }
        result
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let now = self.urls(target::function(order)?).await?;
        let found: Vec<String> = now
            .iter()
            .filter(|url| url.is_open())
            .map(|url| format!("the URL of {} is open to everyone", shown(url.qualifier.as_deref())))
            .collect();
        Ok(in_force_unless(&found))
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        let before: Vec<Url> = prior::read(order, prior)?;
        let function = target::function(order)?;
        let now = self.urls(function).await?;
        let mut result = Ok(());
        let mut left = Vec::new();
        for url in before.iter().filter(|url| url.is_open()) {
            match now.iter().find(|now| now.qualifier == url.qualifier) {
                Some(now) if now.is_open() => {}
                Some(_) => {
                    let before = FunctionUrlAuthType::from(url.auth_type.as_str());
                    result = both(result, self.set(function, url, before).await);
                }
                None => left.push(format!("the URL of {} was deleted", shown(url.qualifier.as_deref()))),
            }
        }
        result.map(|()| restored_unless(&left))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::super::lambda_target::testing::{ARN, PATH, configuration, functions, get_configuration};
    use super::*;
    use crate::testing::{Answer, Wire, function_order, json_error, ok, order};

    fn action(wire: &Wire) -> CloseFunctionUrls {
        CloseFunctionUrls { functions: functions(wire) }
    }

    fn list() -> String {
        format!("GET /2021-10-31/functions/{PATH}/urls")
    }

    fn update(query: &str, auth: &str) -> String {
        format!("PUT /2021-10-31/functions/{PATH}/url{query} {{\"AuthType\":\"{auth}\"}}")
    }

    fn config(qualifier: &str, auth: &str) -> Value {
        json!({"FunctionUrl": "https://x.lambda-url.eu-west-1.on.aws/", "FunctionArn": format!("{ARN}{qualifier}"),
               "AuthType": auth, "CreationTime": "", "LastModifiedTime": ""})
    }

    fn page(urls: &[(&str, &str)], next: Option<&str>) -> Answer {
        let urls: Vec<Value> = urls.iter().map(|(qualifier, auth)| config(qualifier, auth)).collect();
        ok(json!({"FunctionUrlConfigs": urls, "NextMarker": next}).to_string())
    }

    fn listed(urls: &[(&str, &str)]) -> Answer {
        page(urls, None)
    }

    fn updated() -> Answer {
        ok(config("", "NONE").to_string())
    }

    #[tokio::test]
    async fn closes_what_is_open_on_the_function_and_its_aliases_and_reads_back() {
        let first = [("", "NONE")];
        let second = [(":live", "NONE"), (":beta", "AWS_IAM")];
        let wire = Wire::answering([
            configuration(),
            page(&first, Some("m")),
            page(&second, None),
            configuration(),
            page(&first, Some("m")),
            page(&second, None),
            updated(),
            updated(),
            listed(&[("", "AWS_IAM"), (":live", "AWS_IAM"), (":beta", "AWS_IAM")]),
        ]);
        let (incident, step) = function_order(ActionId::CloseFunctionUrls);
        let order = order(&incident, &step);
        let observed = action(&wire).observe(order).await.unwrap();
        let expected = json!([
            {"qualifier": null, "auth_type": "NONE"},
            {"qualifier": "live", "auth_type": "NONE"},
            {"qualifier": "beta", "auth_type": "AWS_IAM"}
        ]);
        assert_eq!(observed, expected);
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
            update("", "AWS_IAM"),
            update("?Qualifier=live", "AWS_IAM"),
            list(),
        ];
        assert_eq!(wire.requests(), expected);
    }

    #[tokio::test]
    async fn what_is_closed_already_is_not_touched() {
        for urls in [vec![], vec![("", "AWS_IAM")]] {
            let wire = Wire::answering([configuration(), listed(&urls)]);
            let (incident, step) = function_order(ActionId::CloseFunctionUrls);
            action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(wire.requests(), [get_configuration(), list()]);
        }
    }

    #[tokio::test]
    async fn what_is_not_read_back_is_not_in_force() {
        let wire = Wire::answering([listed(&[("", "AWS_IAM"), (":live", "NONE")])]);
        let (incident, step) = function_order(ActionId::CloseFunctionUrls);
        let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(verified, Verified::NotInForce("the URL of `live` is open to everyone".to_owned()));
    }

    #[tokio::test]
    async fn an_authentication_that_is_not_known_counts_as_open_and_comes_back_as_it_was() {
        let (incident, step) = function_order(ActionId::CloseFunctionUrls);
        let order = order(&incident, &step);
        let odd = || listed(&[("", "SOME_DAY")]);
        let closed = || ok(config("", "AWS_IAM").to_string());
        let wire = Wire::answering([odd(), configuration(), odd(), closed(), listed(&[("", "AWS_IAM")]), closed()]);
        assert!(matches!(action(&wire).verify(order, &Value::Null).await.unwrap(), Verified::NotInForce(_)));
        action(&wire).apply(order, &Value::Null).await.unwrap();
        let prior = json!([{"qualifier": null, "auth_type": "SOME_DAY"}]);
        assert_eq!(action(&wire).revert(order, &prior).await.unwrap(), Reverted::Restored);
        assert_eq!(wire.requests()[3], update("", "AWS_IAM"));
        assert_eq!(wire.requests()[5], update("", "SOME_DAY"));
    }

    #[tokio::test]
    async fn a_list_that_goes_round_in_a_circle_is_not_believed() {
        let (incident, step) = function_order(ActionId::CloseFunctionUrls);
        let shut = || page(&[("", "AWS_IAM")], Some("again"));
        let wire = Wire::answering([shut(), shut()]);
        let error = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap_err();
        assert!(error.to_string().contains("not wholly read"), "{error}");
        assert_eq!(wire.unused(), 0);
    }

    #[tokio::test]
    async fn one_that_cannot_be_closed_does_not_keep_the_others_open() {
        for (answer, transient, may_have_applied) in [
            (json_error(403, "AccessDeniedException"), false, false),
            (json_error(429, "TooManyRequestsException"), true, false),
            (Answer::Lost, true, true),
        ] {
            let list = listed(&[("", "NONE"), (":live", "NONE")]);
            let wire = Wire::answering([configuration(), list, answer.clone(), updated()]);
            let (incident, step) = function_order(ActionId::CloseFunctionUrls);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!(error.is_transient(), transient, "{answer:?}: {error}");
            assert_eq!(error.may_have_applied(), may_have_applied, "{answer:?}: {error}");
            assert_eq!(wire.requests()[2..], [update("", "AWS_IAM"), update("?Qualifier=live", "AWS_IAM")]);
        }
    }

    #[tokio::test]
    async fn what_is_gone_needs_no_closing_but_a_function_that_is_gone_is_reported() {
        let gone = || json_error(404, "ResourceNotFoundException");
        let (incident, step) = function_order(ActionId::CloseFunctionUrls);
        let wire = Wire::answering([configuration(), listed(&[("", "NONE")]), gone()]);
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        let wire = Wire::answering([gone()]);
        let error = action(&wire).observe(order(&incident, &step)).await.unwrap_err();
        assert!(matches!(error, ActionError::Gone { .. }), "{error}");
    }

    #[tokio::test]
    async fn reverting_opens_what_was_open_and_nothing_else() {
        let prior = json!([{"qualifier": "live", "auth_type": "NONE"}, {"qualifier": null, "auth_type": "AWS_IAM"}]);
        let wire = Wire::answering([
            listed(&[("", "AWS_IAM"), (":live", "AWS_IAM")]),
            updated(),
            listed(&[("", "AWS_IAM"), (":live", "NONE")]),
        ]);
        let (incident, step) = function_order(ActionId::CloseFunctionUrls);
        for _ in 0..2 {
            let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
            assert_eq!(reverted, Reverted::Restored);
        }
        assert_eq!(wire.requests(), [list(), update("?Qualifier=live", "NONE"), list()]);
    }

    #[tokio::test]
    async fn what_was_deleted_since_is_left_alone() {
        let prior = json!([{"qualifier": null, "auth_type": "NONE"}, {"qualifier": "live", "auth_type": "NONE"}]);
        let wire = Wire::answering([listed(&[(":live", "AWS_IAM")]), updated()]);
        let (incident, step) = function_order(ActionId::CloseFunctionUrls);
        let reverted = action(&wire).revert(order(&incident, &step), &prior).await.unwrap();
        assert_eq!(reverted, Reverted::LeftAlone("the URL of the function itself was deleted".to_owned()));
        assert_eq!(wire.requests(), [list(), update("?Qualifier=live", "NONE")]);
    }

    #[tokio::test]
    async fn an_unreadable_prior_state_changes_nothing() {
        let wire = Wire::answering([]);
        let (incident, step) = function_order(ActionId::CloseFunctionUrls);
        let error = action(&wire).revert(order(&incident, &step), &json!("x")).await.unwrap_err();
        assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
        assert_eq!(wire.requests(), [""; 0]);
    }
}
