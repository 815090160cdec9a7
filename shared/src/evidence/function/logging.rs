//! Where a function logs: the groups that the configurations of all its versions name, and the default one, to which it may
//! have logged before somebody changed that.

use std::collections::BTreeSet;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::LoggingConfig;
use firebreak_model::evidence::{ApiCall, Gap, Lack, LogGroup};
use firebreak_model::ids::{FunctionArn, shown_id};

use super::call;
use crate::action::ActionError;
use crate::evidence::gap;

/// So many log groups of one function are read: `$LATEST`'s first, then those of the newest versions.
const MOST_GROUPS: usize = 20;

/// So many versions are looked at, of which one call tells fifty.
const MOST_VERSIONS: usize = 2_000;

const CONFIGURATION: &str = "lambda:GetFunctionConfiguration";
const VERSIONS: &str = "lambda:ListVersionsByFunction";

/// The log groups of a function.
#[derive(Debug, Default)]
pub(in crate::evidence) struct Logging {
    pub(in crate::evidence) groups: Vec<LogGroup>,
    /// What is not known of them.
    pub(in crate::evidence) gaps: Vec<Gap>,
    /// Whether AWS does not tell for now.
    pub(in crate::evidence) waits: bool,
}

impl Logging {
    /// That the function is gone is no gap here: its logs may be there still, and its documents tell.
    fn missed(&mut self, function: &FunctionArn, call: ApiCall, error: &ActionError) {
        if !matches!(error, ActionError::Gone { .. }) {
            self.waits |= error.is_transient();
            self.gaps.push(gap(&format!("log groups of {function}"), call, error));
        }
    }
}

/// The log groups of a function.
pub(in crate::evidence) async fn log_groups(client: &Client, function: &FunctionArn) -> Logging {
    let name = function.name();
    let default = format!("/aws/lambda/{name}");
    let group_of = |config: Option<LoggingConfig>| config.and_then(|c| c.log_group).unwrap_or_else(|| default.clone());
    let mut found = Logging::default();
    let mut names = Vec::new();
    let latest = client.get_function_configuration().function_name(name).send().await;
    match latest.map_err(|error| ActionError::of(CONFIGURATION, name, error)) {
        Ok(latest) => names.push(group_of(latest.logging_config)),
        Err(error) => found.missed(function, call(CONFIGURATION, function, None), &error),
    }
    let mut versions = client.list_versions_by_function().function_name(name).into_paginator().items().send();
    let mut published = Vec::new();
    while let Some(version) = versions.next().await {
        match version {
            Ok(_) if published.len() == MOST_VERSIONS => {
                let problem = format!("it has more than {MOST_VERSIONS} versions: of the rest no log group is known");
                found.gaps.push(left_out(function, problem));
                break;
            }
            Ok(version) => published.push(group_of(version.logging_config)),
            Err(error) => {
                let error = ActionError::of(VERSIONS, name, error);
                found.missed(function, call(VERSIONS, function, None), &error);
                break;
            }
        }
    }
    names.extend(published.into_iter().rev());
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    if names.len() > MOST_GROUPS {
        let rest = names.split_off(MOST_GROUPS);
        let some: Vec<String> = rest.iter().take(MOST_GROUPS).map(|name| shown_id(name)).collect();
        let problem =
            format!("its versions name {} more log groups, which were not read: {}", rest.len(), some.join(", "));
        found.gaps.push(left_out(function, problem));
    }
    let group = |name: String, assumed| LogGroup { region: function.region().clone(), name, assumed };
    // Where nothing is known it is the only one that can be asked.
    let others = !names.is_empty();
    if !names.contains(&default) {
        found.groups.push(group(default, others));
    }
    found.groups.extend(names.into_iter().map(|name| group(name, false)));
    found
}

fn left_out(function: &FunctionArn, reason: String) -> Gap {
    let source = call(VERSIONS, function, None);
    Gap { what: format!("log groups of {function}"), source, lack: Lack::Rejected, reason }
}
