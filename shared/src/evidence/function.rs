//! The documents of a function: configuration, resource policy, event sources, URLs, concurrency, as AWS
//! answered, whatever AWS adds to them later. The values of environment variables are secrets, and are
//! left out.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_lambda::Client;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use firebreak_model::evidence::{ApiCall, LogGroup};
use firebreak_model::ids::FunctionArn;
use serde_json::{Map, Value, json};

use super::documents::Answers;
use crate::action::{ActionError, absent_is_none};
use crate::paging::Tokens;

/// Keeps the body of an answer as it came.
#[derive(Debug, Clone, Default)]
struct AsAnswered(Arc<Mutex<Value>>);

impl Intercept for AsAnswered {
    fn name(&self) -> &'static str {
        "AsAnswered"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = serde_json::from_slice(body).unwrap_or_default();
        Ok(())
    }
}

impl AsAnswered {
    fn take(&self) -> Value {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends a call and answers what came back, beside the body as it came.
macro_rules! sent {
    ($call:expr, $name:literal, $function:expr) => {{
        let answer = AsAnswered::default();
        let result = $call.customize().interceptor(answer.clone()).send().await;
        result.map(|output| (output, answer.take())).map_err(|e| ActionError::of($name, $function.name(), e))
    }};
}

/// The documents of a function, and nothing that cannot be told of it: `null` where AWS says that there is none.
pub(super) async fn answers(client: &Client, function: &FunctionArn) -> Answers {
    let mut answers = Answers::default();
    let call = |api| ApiCall::new(api, json!({"region": function.region(), "FunctionName": function.name()}));
    answers.push(call("lambda:GetFunctionConfiguration"), configuration(client, function).await);
    answers.push(call("lambda:GetPolicy"), policy(client, function).await);
    answers.push(call("lambda:GetFunctionConcurrency"), concurrency(client, function).await);
    answers.push(call("lambda:ListFunctionUrlConfigs"), urls(client, function).await);
    answers.push(call("lambda:ListEventSourceMappings"), event_sources(client, function).await);
    answers
}

/// The log group of a function: the default one where its configuration cannot be read, for a thief may have deleted the
/// function and left its logs.
pub(super) async fn log_group(client: &Client, function: &FunctionArn) -> LogGroup {
    let configuration = configuration(client, function).await;
    let named = configuration.ok().and_then(|c| Some(c.pointer("/LoggingConfig/LogGroup")?.as_str()?.to_owned()));
    let name = named.unwrap_or_else(|| format!("/aws/lambda/{}", function.name()));
    LogGroup { region: function.region().clone(), name }
}

async fn configuration(client: &Client, function: &FunctionArn) -> Result<Value, ActionError> {
    let call = client.get_function_configuration().function_name(function.name());
    let (_, mut answer) = sent!(call, "lambda:GetFunctionConfiguration", function)?;
    keep_names_only(&mut answer);
    Ok(answer)
}

/// Replaces the environment by the names of its variables.
fn keep_names_only(configuration: &mut Value) {
    let Some(environment) = configuration.get_mut("Environment") else { return };
    let names: Vec<Value> = match environment.get("Variables").and_then(Value::as_object) {
        Some(variables) => variables.keys().map(|name| Value::String(name.clone())).collect(),
        None => Vec::new(),
    };
    *environment = json!({"VariableNames": names});
}

/// `null` where there is no resource policy, or no function: `GetFunctionConfiguration` says which.
async fn policy(client: &Client, function: &FunctionArn) -> Result<Value, ActionError> {
    let call = client.get_policy().function_name(function.name());
    let answer = absent_is_none(sent!(call, "lambda:GetPolicy", function))?;
    let Some((_, mut answer)) = answer else { return Ok(Value::Null) };
    let document = answer.get("Policy").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    if let (Some(fields), Some(document)) = (answer.as_object_mut(), document) {
        fields.insert("PolicyDocument".to_owned(), document);
    }
    Ok(answer)
}

async fn concurrency(client: &Client, function: &FunctionArn) -> Result<Value, ActionError> {
    let call = client.get_function_concurrency().function_name(function.name());
    sent!(call, "lambda:GetFunctionConcurrency", function).map(|(_, answer)| answer)
}

/// Adds the list `name` of a page to what earlier pages held.
fn gather(all: &mut Vec<Value>, page: &mut Value, name: &str) {
    if let Some(items) = page.get_mut(name).and_then(Value::as_array_mut) {
        all.append(items);
    }
}

fn list(name: &str, items: Vec<Value>) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), Value::Array(items))]))
}

async fn urls(client: &Client, function: &FunctionArn) -> Result<Value, ActionError> {
    let mut all = Vec::new();
    let mut marker = None;
    let mut tokens = Tokens::default();
    loop {
        let call = client.list_function_url_configs().function_name(function.name()).set_marker(marker);
        let (page, mut answer) = sent!(call, "lambda:ListFunctionUrlConfigs", function)?;
        gather(&mut all, &mut answer, "FunctionUrlConfigs");
        marker = tokens.next(page.next_marker(), "lambda:ListFunctionUrlConfigs", function.name())?;
        if marker.is_none() {
            return Ok(list("FunctionUrlConfigs", all));
        }
    }
}

async fn event_sources(client: &Client, function: &FunctionArn) -> Result<Value, ActionError> {
    let mut all = Vec::new();
    let mut marker = None;
    let mut tokens = Tokens::default();
    loop {
        let call = client.list_event_source_mappings().function_name(function.name()).set_marker(marker);
        let (page, mut answer) = sent!(call, "lambda:ListEventSourceMappings", function)?;
        gather(&mut all, &mut answer, "EventSourceMappings");
        marker = tokens.next(page.next_marker(), "lambda:ListEventSourceMappings", function.name())?;
        if marker.is_none() {
            return Ok(list("EventSourceMappings", all));
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::evidence::Lack;

    use super::*;
    use crate::testing::{Answer, Wire, json_error, ok};

    fn function() -> FunctionArn {
        "arn:aws:lambda:eu-west-1:111122223333:function:orders".parse().unwrap()
    }

    fn configuration_answer() -> Answer {
        ok(r#"{"FunctionName": "orders", "Role": "arn:aws:iam::111122223333:role/orders", "CodeSha256": "x",
               "FieldOfTheFuture": 7, "LoggingConfig": {"LogGroup": "/custom/orders"},
               "Environment": {"Variables": {"DB_PASSWORD": "hunter2", "MODE": "s3cret"}}}"#)
    }

    async fn answered(wire: &Wire) -> Answers {
        answers(&Client::new(&wire.config()), &function()).await
    }

    #[tokio::test]
    async fn every_document_is_kept_as_answered_without_the_values_of_the_environment() {
        let wire = Wire::answering([
            configuration_answer(),
            ok(r#"{"Policy": "{\"Statement\":[{\"Sid\":\"open\"}]}", "RevisionId": "r"}"#),
            ok(r#"{"ReservedConcurrentExecutions": 5}"#),
            ok(r#"{"FunctionUrlConfigs": [{"AuthType": "NONE"}], "NextMarker": "m1"}"#),
            ok(r#"{"FunctionUrlConfigs": [{"AuthType": "AWS_IAM"}]}"#),
            ok(r#"{"EventSourceMappings": [{"UUID": "u1"}], "NextMarker": "m2"}"#),
            ok(r#"{"EventSourceMappings": [{"UUID": "u2"}]}"#),
        ]);
        let answers = answered(&wire).await;
        assert_eq!(answers.gaps(), []);
        assert_eq!(
            wire.requests(),
            [
                "GET /2015-03-31/functions/orders/configuration",
                "GET /2015-03-31/functions/orders/policy",
                "GET /2019-09-30/functions/orders/concurrency",
                "GET /2021-10-31/functions/orders/urls",
                "GET /2021-10-31/functions/orders/urls?Marker=m1",
                "GET /2015-03-31/event-source-mappings?FunctionName=orders",
                "GET /2015-03-31/event-source-mappings?FunctionName=orders&Marker=m2",
            ]
        );
        let responses = answers.responses();
        assert_eq!(responses[0]["Environment"], json!({"VariableNames": ["DB_PASSWORD", "MODE"]}));
        assert_eq!(responses[0]["FieldOfTheFuture"], 7);
        assert_eq!(responses[1]["PolicyDocument"]["Statement"][0]["Sid"], "open");
        assert_eq!(responses[2], &json!({"ReservedConcurrentExecutions": 5}));
        assert_eq!(responses[3]["FunctionUrlConfigs"].as_array().unwrap().len(), 2);
        assert_eq!(responses[4]["EventSourceMappings"][1]["UUID"], "u2");
        let text = responses.iter().map(ToString::to_string).collect::<String>();
        assert!(!text.contains("hunter2") && !text.contains("s3cret"), "{text}");
    }

    #[tokio::test]
    async fn one_call_that_is_denied_is_one_gap_and_no_policy_is_no_gap() {
        let wire = Wire::answering([
            configuration_answer(),
            json_error(404, "ResourceNotFoundException"),
            json_error(403, "AccessDeniedException"),
            json_error(429, "TooManyRequestsException"),
            ok(r#"{"EventSourceMappings": []}"#),
        ]);
        let answers = answered(&wire).await;
        assert_eq!(
            answers.gaps(),
            [("lambda:GetFunctionConcurrency", Lack::Denied), ("lambda:ListFunctionUrlConfigs", Lack::Throttled)]
        );
        assert_eq!((answers.responses().len(), answers.responses()[1]), (3, &Value::Null));
    }

    #[tokio::test]
    async fn of_a_deleted_function_the_default_log_group_is_still_looked_at() {
        let group = async |answer| {
            let wire = Wire::answering([answer]);
            log_group(&Client::new(&wire.config()), &function()).await.name
        };
        assert_eq!(group(configuration_answer()).await, "/custom/orders");
        assert_eq!(group(json_error(404, "ResourceNotFoundException")).await, "/aws/lambda/orders");
        assert_eq!(group(json_error(403, "AccessDeniedException")).await, "/aws/lambda/orders");
        assert_eq!(group(ok("{}")).await, "/aws/lambda/orders");
    }
}
