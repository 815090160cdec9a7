//! The guard's own records: what it watches, what was done against it, how Firebreak's parts were found.

use aws_sdk_dynamodb::types::AttributeValue;
use firebreak_model::deployed::Deployed;
use firebreak_model::ids::{FunctionArn, IncidentId};
use firebreak_model::ledger::{PartsRecord, Record, deployed_keys, parts_keys, tamper_partition, watch_keys};
use firebreak_model::seal::Standing;
use firebreak_model::tamper::Tamper;
use firebreak_model::watch::{WATCHES, Watch};
use jiff::Timestamp;

use super::trust::WRONG_SEAL;
use super::{Ledger, LedgerError, held, record, shown_key};

/// An incident that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Which.
    pub id: IncidentId,
    /// The functions of its plan.
    pub functions: Vec<FunctionArn>,
    /// When it was last looked at.
    pub updated_at: Option<Timestamp>,
}

impl Ledger {
    /// The watch over an incident, where there is one.
    pub async fn watch(&self, id: &IncidentId) -> Result<Option<Watch>, LedgerError> {
        Ok(match self.get(watch_keys(id)).await? {
            Some(Record::Watch(watch)) => Some(*watch),
            _ => None,
        })
    }

    /// What is watched, whatever was not looked at for longest first: of each incident the id, which stands in its key, and
    /// its functions.
    pub async fn watches(&self) -> Result<Vec<Watched>, LedgerError> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(WATCHES.to_owned()))
            .projection_expression("sk, #functions, #updated")
            .expression_attribute_names("#functions", "functions")
            .expression_attribute_names("#updated", "updated_at")
            .into_paginator()
            .items()
            .send();
        let mut watched = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|e| LedgerError::call("Query", e))?;
            let Some(id) = item.get("sk").and_then(|sk| sk.as_s().ok()).and_then(|sk| sk.parse().ok()) else {
                continue;
            };
            let functions = item.get("functions").and_then(|list| list.as_l().ok());
            let functions = functions.into_iter().flatten().filter_map(|one| one.as_s().ok()?.parse().ok()).collect();
            let updated_at = item.get("updated_at").and_then(|at| at.as_s().ok()?.parse().ok());
            watched.push(Watched { id, functions, updated_at });
        }
        watched.sort_by_key(|one| one.updated_at);
        Ok(watched)
    }

    /// Writes the next version of a watch. Answers `false` where somebody else wrote in between.
    pub async fn keep_watch(&self, next: &Watch) -> Result<bool, LedgerError> {
        let put = self
            .putting(&Record::Watch(Box::new(next.clone())))
            .await?
            .condition_expression("attribute_not_exists(pk) OR #version = :before")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":before", AttributeValue::N(next.version.saturating_sub(1).to_string()));
        held(put).await
    }

    /// Ends a watch.
    pub async fn forget_watch(&self, id: &IncidentId) -> Result<(), LedgerError> {
        self.delete(watch_keys(id)).await
    }

    /// Records tampering, once. Answers whether it is new.
    pub async fn record_tamper(&self, tamper: &Tamper) -> Result<bool, LedgerError> {
        self.put_if_absent(&Record::Tamper(Box::new(tamper.clone()))).await
    }

    /// One record of tampering.
    pub async fn tamper(&self, subject: &str, key: &str) -> Result<Option<Tamper>, LedgerError> {
        Ok(match self.get((tamper_partition(subject), key.to_owned())).await? {
            Some(Record::Tamper(tamper)) => Some(*tamper),
            _ => None,
        })
    }

    /// All tampering with an incident, or with Firebreak itself. What cannot be read is passed over: nobody acts on it.
    pub async fn tampers(&self, subject: &str) -> Result<Vec<Tamper>, LedgerError> {
        let items = self.items(tamper_partition(subject), "").await?;
        Ok(items
            .into_iter()
            .filter_map(|item| match record(item) {
                Ok(Record::Tamper(tamper)) => Some(*tamper),
                _ => None,
            })
            .collect())
    }

    /// How Firebreak's own parts were found.
    pub async fn parts(&self) -> Result<Option<PartsRecord>, LedgerError> {
        Ok(match self.get(parts_keys()).await {
            Ok(Some(Record::Parts(parts))) => Some(parts),
            Ok(_) | Err(LedgerError::Unreadable { .. } | LedgerError::OtherSchema { .. }) => None,
            Err(error) => return Err(error),
        })
    }

    /// Records how Firebreak's own parts were found.
    pub async fn keep_parts(&self, parts: &PartsRecord) -> Result<(), LedgerError> {
        self.put(&Record::Parts(parts.clone())).await
    }

    /// How Firebreak's own parts were when they were deployed. One that is not as the guard wrote it hides what was changed
    /// since, and is refused.
    pub async fn deployed(&self) -> Result<Option<Deployed>, LedgerError> {
        let Some(item) = self.fetch(deployed_keys()).await? else { return Ok(None) };
        if self.seal.standing(&self.table, &item).await? != Standing::Sealed {
            return Err(LedgerError::Forged { key: shown_key(&item), problem: WRONG_SEAL });
        }
        Ok(match record(item)? {
            Record::Deployed(deployed) => Some(deployed),
            _ => None,
        })
    }

    /// Records how they were.
    pub async fn keep_deployed(&self, deployed: &Deployed) -> Result<(), LedgerError> {
        self.put(&Record::Deployed(deployed.clone())).await
    }
}
