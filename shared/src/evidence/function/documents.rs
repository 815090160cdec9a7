//! The documents of a function, as AWS answered, and nothing that cannot be told of it: `null` where AWS says that there is
//! none. The values of environment variables are secrets, and are left out.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_lambda::Client;
use firebreak_model::action::FunctionName;
use firebreak_model::evidence::ApiCall;
use firebreak_model::ids::FunctionArn;
use firebreak_model::ledger::FindingRecord;
use firebreak_model::plan::Target;
use serde_json::{Value, json};

use super::answered::{listed, sent};
use super::{Answers, Left, Rest, call, qualifier};
use crate::action::{ActionError, absent_is_none};
use crate::evidence::ledger::{found_before, unread};
use crate::evidence::units::Scene;
use crate::ledger::Ledger;

const MAPPINGS: &str = "EventSourceMappings";
const LATEST: &str = "$LATEST";

/// So many versions of a function are collected with their code: `$LATEST`, those that findings name, those behind aliases.
const MOST_VERSIONS: usize = 40;

/// So many times a function is asked for a resource policy: of the function, its aliases, the versions that are collected,
/// and the newest of the others. Lambda takes 15 such calls a second from everyone together, and isolating comes first.
const MOST_POLICIES: usize = 60;

/// The documents, and what is left to be collected. What is `known` is on record, and a policy that is is not asked for again.
pub(super) async fn answers(
    client: &Client,
    ledger: &Ledger,
    Scene { incident, policies, .. }: Scene<'_>,
    function: &FunctionArn,
    known: &[ApiCall],
) -> (Answers, Rest) {
    let name = function.name();
    let mut answers = Answers::default();

    let list = client.list_aliases().function_name(name);
    let aliases: Result<Value, ActionError> = listed!(list.clone(), "lambda:ListAliases", name, "Aliases");
    let list = client.list_versions_by_function().function_name(name);
    let versions: Result<Value, ActionError> = listed!(list.clone(), "lambda:ListVersionsByFunction", name, "Versions");
    let aliases = (call("lambda:ListAliases", function, None), aliases);
    let versions = (call("lambda:ListVersionsByFunction", function, None), versions.map(of_versions));

    let findings = ledger.findings(incident.incident_id.as_str()).await.unwrap_or_else(|error| {
        // Which versions they name is not known then.
        let call = ApiCall::new("dynamodb:Query", json!({"findings": incident.incident_id, "of": function}));
        answers.push(call, Err(unread(incident.incident_id.as_str(), error)));
        Vec::new()
    });
    let named = findings.iter().flat_map(|finding| named_by(finding, function));
    let named = named.chain(incident.functions.iter().filter(|arn| arn.unqualified() == *function).filter_map(version));
    let (implicated, more) = implicated(aliases.1.as_ref().ok(), named);
    if more > 0 {
        let problem = format!(
            "{more} more versions are behind aliases, or named by findings, and were not collected: \
             `aws lambda get-function --function-name {name} --qualifier VERSION`"
        );
        let call = ApiCall::new("lambda:GetFunction", json!({"of": "MoreVersions", "function": function}));
        answers.push(call, Err(ActionError::Unreadable { target: function.to_string(), problem }));
    }

    let mut rest = Rest::default();
    let mut codes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut layers = BTreeSet::new();
    let mut with_variables = Vec::new();
    for version in &implicated {
        let asked = client.get_function().function_name(name).set_qualifier(qualifier(version));
        let answer = sent!(asked, "lambda:GetFunction", name).map(|(_, mut answer)| {
            let configuration = answer.get("Configuration").cloned().unwrap_or_default();
            if let Some(sha256) = configuration.get("CodeSha256").and_then(Value::as_str)
                && configuration.get("PackageType").and_then(Value::as_str) != Some("Image")
            {
                codes.entry(sha256.to_owned()).or_default().push(version.clone());
            }
            let of_it = configuration.get("Layers").and_then(Value::as_array).into_iter().flatten();
            layers.extend(of_it.filter_map(|layer| layer.get("Arn")?.as_str().map(str::to_owned)));
            if configuration.pointer("/Environment/Variables").and_then(Value::as_object).is_some_and(|v| !v.is_empty())
            {
                with_variables.push(version.clone());
            }
            without_secrets(&mut answer);
            answer
        });
        let unread = answer.as_ref().ok().and_then(unread_environment);
        let asked = call("lambda:GetFunction", function, qualifier(version).as_deref());
        answers.push(asked.clone(), answer);
        if let Some(problem) = unread {
            // AWS gives the function and keeps its environment back.
            let of_it = ApiCall::new("lambda:GetFunction", json!({"of": "Environment", "call": asked.parameters}));
            answers.push(of_it, Err(ActionError::Unreadable { target: function.to_string(), problem }));
        }
    }

    let mut places = places(aliases.1.as_ref().ok(), versions.1.as_ref().ok(), &implicated);
    let more = places.split_off(places.len().min(MOST_POLICIES)).len();
    for place in places {
        let of_it = call("lambda:GetPolicy", function, place.as_deref());
        if known.contains(&of_it) {
            continue;
        }
        policies.turn(function.region()).await;
        let asked = client.get_policy().function_name(name).set_qualifier(place);
        let answer = absent_is_none(sent!(asked, "lambda:GetPolicy", name));
        answers.push(of_it, answer.map(|answer| answer.map_or(Value::Null, |(_, answer)| with_document(answer))));
    }
    if more > 0 {
        let problem = format!(
            "{more} more aliases and older versions were not asked for their policy: \
             `aws lambda get-policy --function-name {name} --qualifier VERSION`"
        );
        let call = ApiCall::new("lambda:GetPolicy", json!({"of": "MoreVersions", "function": function}));
        answers.push(call, Err(ActionError::Unreadable { target: function.to_string(), problem }));
    }
    answers.push(aliases.0, aliases.1);
    answers.push(versions.0, versions.1);
    settings(client, function, &mut answers).await;
    let about = |target: &Target| matches!(target, Target::Function(arn) if arn.unqualified() == *function);
    found_before(ledger, incident, FunctionName::IsolateFunction, about, &mut answers).await;

    if !with_variables.is_empty() {
        rest.0.push_back(Left::Environment(with_variables));
    }
    for mut same in codes.into_values() {
        // A published version cannot be changed: it gives what its digest says, whatever becomes of `$LATEST`.
        same.sort_by_key(|version| (version == LATEST, version.clone()));
        let version = same.remove(0);
        rest.0.push_back(Left::Code { version, same });
    }
    rest.0.extend(layers.into_iter().map(Left::Layer));
    (answers, rest)
}

/// Triggers, doors and limits.
async fn settings(client: &Client, function: &FunctionArn, answers: &mut Answers) {
    let name = function.name();
    let answer = sent!(client.get_function_concurrency().function_name(name), "lambda:GetFunctionConcurrency", name);
    answers.push(call("lambda:GetFunctionConcurrency", function, None), answer.map(|(_, answer)| answer));
    let list = client.list_provisioned_concurrency_configs().function_name(name);
    let answer =
        listed!(list.clone(), "lambda:ListProvisionedConcurrencyConfigs", name, "ProvisionedConcurrencyConfigs");
    answers.push(call("lambda:ListProvisionedConcurrencyConfigs", function, None), answer);
    let list = client.list_function_url_configs().function_name(name);
    let answer = listed!(list.clone(), "lambda:ListFunctionUrlConfigs", name, "FunctionUrlConfigs");
    answers.push(call("lambda:ListFunctionUrlConfigs", function, None), answer);
    // Asked for by the function's name, Lambda leaves out those that are on a version or an alias: all are read.
    let list = client.list_event_source_mappings();
    let answer = listed!(list.clone(), "lambda:ListEventSourceMappings", name, MAPPINGS);
    let answer = answer.map(|answer| of_function(answer, function));
    answers.push(ApiCall::new("lambda:ListEventSourceMappings", json!({"kept_of": function})), answer);
    let list = client.list_function_event_invoke_configs().function_name(name);
    let answer = listed!(list.clone(), "lambda:ListFunctionEventInvokeConfigs", name, "FunctionEventInvokeConfigs");
    answers.push(call("lambda:ListFunctionEventInvokeConfigs", function, None), answer);
    let asked = client.get_function_code_signing_config().function_name(name);
    let answer = absent_is_none(sent!(asked, "lambda:GetFunctionCodeSigningConfig", name));
    let answer = answer.map(|answer| answer.map_or(Value::Null, |(_, answer)| answer));
    answers.push(call("lambda:GetFunctionCodeSigningConfig", function, None), answer);
    let asked = client.list_tags().resource(function.to_string());
    let answer = sent!(asked, "lambda:ListTags", name).map(|(_, answer)| answer);
    answers.push(call("lambda:ListTags", function, None), answer);
}

/// The event source mappings of the function, its versions and its aliases, out of all of the Region.
fn of_function(mut mappings: Value, function: &FunctionArn) -> Value {
    let is_of =
        |mapping: &Value| mapping.get("FunctionArn").and_then(Value::as_str).is_some_and(|arn| function.is_of(arn));
    if let Some(all) = mappings.get_mut(MAPPINGS).and_then(Value::as_array_mut) {
        all.retain(is_of);
    }
    mappings
}

/// The list of versions repeats the configuration of each: what of it is secret is left out, and all the rest.
fn of_versions(mut versions: Value) -> Value {
    for version in versions.get_mut("Versions").and_then(Value::as_array_mut).into_iter().flatten() {
        keep_names_only(version);
    }
    versions
}

/// Without the values of the environment, and without the address of the code: whoever has it may fetch the code for ten
/// minutes.
fn without_secrets(answer: &mut Value) {
    if let Some(configuration) = answer.get_mut("Configuration") {
        keep_names_only(configuration);
    }
    if let Some(code) = answer.get_mut("Code").and_then(Value::as_object_mut) {
        code.remove("Location");
    }
}

/// Replaces the environment by the names of its variables.
fn keep_names_only(configuration: &mut Value) {
    let Some(environment) = configuration.get_mut("Environment").and_then(Value::as_object_mut) else { return };
    let names: Vec<Value> = match environment.remove("Variables") {
        Some(Value::Object(variables)) => variables.into_iter().map(|(name, _)| Value::String(name)).collect(),
        _ => Vec::new(),
    };
    let error = environment.remove("Error");
    environment.clear();
    environment.insert("VariableNames".to_owned(), Value::Array(names));
    environment.extend(error.map(|error| ("Error".to_owned(), error)));
}

/// Why AWS gives no environment, where it does not.
fn unread_environment(answer: &Value) -> Option<String> {
    let error = answer.pointer("/Configuration/Environment/Error")?;
    let code = error.get("ErrorCode").and_then(Value::as_str).unwrap_or("no code");
    Some(format!("AWS gives no environment of it: {}", firebreak_model::ids::shown(code)))
}

/// Beside the policy's text the policy, so that both can be searched.
fn with_document(mut answer: Value) -> Value {
    let document = answer.get("Policy").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    if let (Some(fields), Some(document)) = (answer.as_object_mut(), document) {
        fields.insert("PolicyDocument".to_owned(), document);
    }
    answer
}

/// The version that an ARN names.
fn version(arn: &FunctionArn) -> Option<String> {
    arn.qualifier().map(str::to_owned)
}

/// The members of a list in an answer.
fn members<'a>(answer: Option<&'a Value>, list: &str) -> impl Iterator<Item = &'a Value> {
    answer.and_then(|answer| answer.get(list)?.as_array()).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// `$LATEST`, the versions that are named, and those that aliases lead to, in order of their numbers; and how many more
/// there are than are collected.
fn implicated(aliases: Option<&Value>, named: impl Iterator<Item = String>) -> (Vec<String>, usize) {
    let mut led_to = BTreeMap::new();
    for alias in members(aliases, "Aliases") {
        let weights = alias.pointer("/RoutingConfig/AdditionalVersionWeights").and_then(Value::as_object);
        let versions = text(alias, "FunctionVersion").map(str::to_owned).into_iter();
        let versions = versions.chain(weights.into_iter().flat_map(|weights| weights.keys().cloned()));
        led_to.entry(text(alias, "Name").unwrap_or_default()).or_insert_with(Vec::new).extend(versions);
    }
    // A finding may name an alias: the versions that it leads to are here already.
    let named = named.filter(|name| !led_to.contains_key(name.as_str()));
    let mut seen = BTreeSet::from([LATEST.to_owned()]);
    let mut others: Vec<String> = named.chain(led_to.values().flatten().cloned()).collect();
    others.retain(|version| seen.insert(version.clone()));
    let more = others.split_off(others.len().min(MOST_VERSIONS - 1)).len();
    others.sort();
    (std::iter::once(LATEST.to_owned()).chain(others).collect(), more)
}

/// The versions that a finding's event names: in the ARN of the function, or beside it.
fn named_by(finding: &FindingRecord, function: &FunctionArn) -> Vec<String> {
    let Ok(event) = serde_json::from_str::<Value>(&finding.event) else { return Vec::new() };
    let mut named = Vec::new();
    let mut open = vec![&event];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                open.extend(fields.values());
                let read = |names: [&str; 2]| names.iter().find_map(|name| fields.get(*name)?.as_str());
                let of_it = read(["functionArn", "FunctionArn"]).and_then(|arn| arn.parse::<FunctionArn>().ok());
                let version = read(["functionVersion", "FunctionVersion"]);
                if of_it.is_some_and(|arn| arn.unqualified() == *function) {
                    named.extend(version.filter(|v| is_version(v)).map(str::to_owned));
                }
            }
            Value::String(text) => {
                let arn = text.parse::<FunctionArn>().ok().filter(|arn| arn.unqualified() == *function);
                named.extend(arn.and_then(|arn| version(&arn)));
            }
            _ => {}
        }
    }
    named
}

fn is_version(text: &str) -> bool {
    text == LATEST || (!text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Where a resource policy may be: the function itself, each alias, each version that is collected; then the other published
/// versions, the newest first.
fn places(aliases: Option<&Value>, versions: Option<&Value>, implicated: &[String]) -> Vec<Option<String>> {
    let aliases = members(aliases, "Aliases").filter_map(|alias| text(alias, "Name"));
    let others: Vec<&str> = members(versions, "Versions").filter_map(|version| text(version, "Version")).collect();
    let named = aliases.chain(implicated.iter().map(String::as_str)).chain(others.into_iter().rev());
    let mut seen = BTreeSet::from([LATEST]);
    let named = named.filter(|name| seen.insert(name));
    [None].into_iter().chain(named.map(|name| Some(name.to_owned()))).collect()
}
