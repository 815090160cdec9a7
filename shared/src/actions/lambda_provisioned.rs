//! Provisioned concurrency of a function's versions and aliases: listed, taken away, put again.

use aws_sdk_lambda::types::ProvisionedConcurrencyStatusEnum as Status;
use firebreak_model::ids::FunctionArn;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lambda_target::{Functions, qualifier};
use crate::action::{ActionError, absent_is_none};
use crate::paging;

/// Provisioned concurrency of one version or alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Provisioned {
    pub(super) qualifier: String,
    pub(super) requested: i32,
}

/// What Lambda says of it.
#[derive(Debug, Clone)]
pub(super) struct Allocation {
    pub(super) of: Provisioned,
    /// What is wrong with it, or not ready yet.
    pub(super) problem: Option<String>,
    /// Since when it is as it is; `None` where Lambda does not say so in a way that can be read.
    pub(super) since: Option<Timestamp>,
}

impl Functions {
    /// Everything that is provisioned of a function.
    pub(super) async fn allocations(&self, function: &FunctionArn) -> Result<Vec<Allocation>, ActionError> {
        let name = function.to_string();
        let pages = self.client.list_provisioned_concurrency_configs().function_name(&name).into_paginator().send();
        let call = "lambda:ListProvisionedConcurrencyConfigs";
        let pages = absent_is_none(paging::read(pages, call, &name).await)?;
        let mut found = Vec::new();
        for item in pages.iter().flatten().flat_map(|page| page.provisioned_concurrency_configs().iter()) {
            // Provisioned concurrency is always that of a version or an alias.
            let Some(qualifier) = qualifier(item.function_arn().unwrap_or_default()) else { continue };
            let requested = item.requested_provisioned_concurrent_executions.unwrap_or_default();
            let problem = match item.status() {
                Some(Status::Ready) => None,
                other => {
                    let status = other.map_or("unknown", Status::as_str);
                    let reason = item.status_reason().map(firebreak_model::ids::shown).unwrap_or_default();
                    Some(
                        format!("provisioned concurrency of `{qualifier}` is `{status}` {reason}")
                            .trim_end()
                            .to_owned(),
                    )
                }
            };
            let since = item.last_modified().and_then(|at| at.parse().ok());
            found.push(Allocation { of: Provisioned { qualifier, requested }, problem, since });
        }
        Ok(found)
    }

    /// The figures alone.
    pub(super) async fn provisioned(&self, function: &FunctionArn) -> Result<Vec<Provisioned>, ActionError> {
        Ok(self.allocations(function).await?.into_iter().map(|allocation| allocation.of).collect())
    }

    pub(super) async fn unprovision(&self, function: &FunctionArn, qualifier: &str) -> Result<(), ActionError> {
        let name = function.to_string();
        let delete = self.client.delete_provisioned_concurrency_config().function_name(&name).qualifier(qualifier);
        delete.send().await.map_err(|e| ActionError::of("lambda:DeleteProvisionedConcurrencyConfig", &name, e))?;
        Ok(())
    }

    pub(super) async fn provision(&self, function: &FunctionArn, wanted: &Provisioned) -> Result<(), ActionError> {
        let name = function.to_string();
        self.client
            .put_provisioned_concurrency_config()
            .function_name(&name)
            .qualifier(&wanted.qualifier)
            .provisioned_concurrent_executions(wanted.requested)
            .send()
            .await
            .map_err(|e| ActionError::of("lambda:PutProvisionedConcurrencyConfig", &name, e))?;
        Ok(())
    }
}
