//! The records of who runs as which role: written by the scan, read beside a claim.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use firebreak_model::ids::{AccountId, RoleName};
use firebreak_model::ledger::{Record, inventory_keys, inventory_partition};
use firebreak_model::usage::{self, RoleUsage, Usage};
use jiff::Timestamp;
use tracing::warn;

use super::{Ledger, LedgerError, held, key, record, text};

/// What the ledger holds of an account's roles.
#[derive(Debug, Default)]
pub struct Known {
    /// By the role's name in lower case.
    pub roles: BTreeMap<String, RoleUsage>,
    /// Sort keys of records that cannot be read: written anew, or taken away.
    pub unreadable: Vec<String>,
}

impl Ledger {
    /// Who runs as a role; `None` where nothing is on record, or what is cannot be read.
    pub async fn usage(&self, account: &AccountId, role: &RoleName) -> Result<Option<Usage>, LedgerError> {
        match self.get(inventory_keys(account, role)).await {
            Ok(Some(Record::Inventory(record)))
                if record.account == *account && usage::key(&record.role) == usage::key(role) =>
            {
                Ok(Some(record.usage))
            }
            Ok(None) => Ok(None),
            Ok(Some(_)) => {
                warn!("the inventory's record of `{role}` is about something else: who runs as it is not known");
                Ok(None)
            }
            // A record that somebody broke must not hold up a containment.
            Err(error @ (LedgerError::Unreadable { .. } | LedgerError::OtherSchema { .. })) => {
                warn!("who runs as `{role}` is not known: {}", crate::telemetry::chain(&error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Everything that is on record of the account's roles.
    pub async fn inventory(&self, account: &AccountId) -> Result<Known, LedgerError> {
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(inventory_partition(account)));
        let mut pages = request.into_paginator().items().send();
        let mut known = Known::default();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|e| LedgerError::call("Query", e))?;
            let sort = item.get("sk").and_then(|v| v.as_s().ok()).cloned().unwrap_or_default();
            match record(item) {
                Ok(Record::Inventory(found)) if inventory_keys(account, &found.role).1 == sort => {
                    known.roles.insert(usage::key(&found.role), found);
                }
                _ => known.unreadable.push(sort),
            }
        }
        Ok(known)
    }

    /// Puts down who runs as a role, unless a later scan has. Answers whether it did.
    pub async fn keep_usage(&self, record: &RoleUsage) -> Result<bool, LedgerError> {
        let put = self
            .putting(&Record::Inventory(record.clone()))
            .await?
            .condition_expression("attribute_not_exists(#usage.#at) OR #usage.#at <= :at")
            .expression_attribute_names("#usage", "usage")
            .expression_attribute_names("#at", "scanned_at")
            .expression_attribute_values(":at", text(record.usage.scanned_at.to_string()));
        held(put).await
    }

    /// Takes away what is on record under a sort key, unless a scan later than `at` wrote it.
    pub async fn forget_usage(&self, account: &AccountId, sort: &str, at: Timestamp) -> Result<(), LedgerError> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key((inventory_partition(account), sort.to_owned()))))
            .condition_expression("attribute_not_exists(#usage.#at) OR #usage.#at <= :at")
            .expression_attribute_names("#usage", "usage")
            .expression_attribute_names("#at", "scanned_at")
            .expression_attribute_values(":at", AttributeValue::S(at.to_string()));
        match delete.send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error.as_service_error().is_some_and(DeleteItemError::is_conditional_check_failed_exception) =>
            {
                Ok(())
            }
            Err(error) => Err(LedgerError::call("DeleteItem", error)),
        }
    }
}
