//! The ledger: the authority on every finding, incident and step, in one DynamoDB table.
//!
//! Its stream is the only outbox: pages, events and metrics all derive from what is recorded here.
//! The records and keys are those of `docs/SCHEMAS.md`; how records change is decided in
//! [`firebreak_model::ledger`]. What anybody acts on is sealed when it is written and held to its seal when it is read,
//! here, so that nobody can forget it.

mod claim;
mod evidence;
mod inventory;
mod open;
mod pages;
mod revocations;
mod seal;
mod story;
#[cfg(test)]
mod tests;
mod trust;
mod watch;

pub use claim::{Claim, Claimed};
pub use evidence::Pieces;
pub use inventory::Known;
pub use open::PERMISSIONS as OPEN_PERMISSIONS;
pub use seal::{PERMISSIONS as SEAL_PERMISSIONS, Seal};
pub use story::Story;
pub use watch::Watched;

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use firebreak_model::SCHEMA;
use firebreak_model::action::FunctionName;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{
    FindingRecord, Incident, Pause, Record, StepRecord, incident_keys, pause_keys, step_partition, step_sort,
};
use futures_util::future::try_join_all;
use tracing::warn;

type Item = HashMap<String, AttributeValue>;

/// Why the ledger could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The call failed.
    #[error("the ledger did not accept `{call}`")]
    Call {
        /// The API call.
        call: &'static str,
        /// Whether another try may go better.
        transient: bool,
        /// Whether the ledger does not answer at all, rather than that it says no.
        outage: bool,
        /// What AWS said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A claim that the ledger answered, and then could not be brought to its end: it may have said no.
    #[error("the ledger stopped answering in the midst of a claim")]
    CutShort(#[source] Box<LedgerError>),
    /// A record that cannot be read: edited by hand, or of another version.
    #[error("the record `{key}` in the ledger cannot be read")]
    Unreadable {
        /// Its keys.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_dynamo::Error,
    },
    /// A record of another version of Firebreak.
    #[error("the record `{key}` in the ledger has schema {found}, and this is schema {SCHEMA}: {next}")]
    OtherSchema {
        /// Its keys.
        key: String,
        /// The version of its layout; 0 where it says none.
        found: u64,
        /// What to do.
        next: &'static str,
    },
    /// A record that cannot be written.
    #[error("a record cannot be written")]
    Unwritable(#[source] serde_dynamo::Error),
    /// A record that cannot be brought into the form that is sealed.
    #[error("a record cannot be sealed")]
    Unsealable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// KMS does not give the key of the seals.
    #[error("the key that seals the ledger's records is not to be had from KMS")]
    NoSeal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record that none of our functions wrote as it stands.
    #[error("the record `{key}` is not as Firebreak wrote it, so nothing is done on it: {problem}")]
    Forged {
        /// Its keys.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An incident that was claimed and is not sealed yet.
    #[error(
        "incident `{0}` is not sealed yet: try again; if it stays so, ask for its principal to be contained once more"
    )]
    Unsealed(IncidentId),
    /// Somebody else wrote in between, again and again.
    #[error("the incident `{0}` keeps changing: try again")]
    Contended(IncidentId),
    /// A release of the same principal is under way.
    #[error("a release of incident `{0}` is under way: this is for when it is done")]
    Releasing(IncidentId),
    /// A person asked to contain while containment is paused.
    #[error("containment is paused: `resume` first")]
    Paused,
}

/// Errors of a table that is there and answers: what was asked of it does not fit, or somebody else is at the same item.
const ANSWERS: [&str; 7] = [
    "ConditionalCheckFailedException",
    "IdempotentParameterMismatchException",
    "ItemCollectionSizeLimitExceededException",
    "TransactionCanceledException",
    "TransactionConflictException",
    "TransactionInProgressException",
    "ValidationException",
];

impl LedgerError {
    /// Whether another try may go better.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Call { transient, .. } => *transient,
            Self::Contended(_) | Self::Releasing(_) | Self::NoSeal(_) | Self::Unsealed(_) | Self::CutShort(_) => true,
            _ => false,
        }
    }

    /// Whether the ledger does not answer: its table is gone, closed to us, throttled or silent. An answer that says no
    /// (the pause, the breaker, a release under way, a record that cannot be gone by) is none.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Call { outage: true, .. })
    }

    fn call<E>(call: &'static str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
        let refused = ["AccessDeniedException", "ValidationException", "ResourceNotFoundException"].contains(&code);
        let outage = match &error {
            SdkError::ConstructionFailure(_) => false,
            SdkError::ServiceError(_) => !ANSWERS.contains(&code),
            _ => true,
        };
        Self::Call { call, transient: !refused, outage, source: Box::new(error) }
    }
}

/// The ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    table: String,
    seal: Seal,
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn key((pk, sk): (String, String)) -> Item {
    HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

fn item(record: &Record) -> Result<Item, LedgerError> {
    let mut item: Item = serde_dynamo::to_item(record).map_err(LedgerError::Unwritable)?;
    item.extend(key(record.keys()));
    open::mark(record, &mut item);
    Ok(item)
}

fn shown_key(item: &Item) -> String {
    ["pk", "sk"].map(|name| item.get(name).and_then(|v| v.as_s().ok()).cloned().unwrap_or_default()).join(" ")
}

/// The record of an item. One of another schema is refused by name: what its members mean is not known here.
fn record(item: Item) -> Result<Record, LedgerError> {
    let key = shown_key(&item);
    let schema = item.get("schema").and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok()).unwrap_or(0);
    let next = match u64::from(SCHEMA) {
        ours if schema > ours => "a newer version of Firebreak wrote it: update this one",
        ours if schema < ours => "an older version of Firebreak wrote it, or a hand: release it with that version",
        _ => return serde_dynamo::from_item(item).map_err(|source| LedgerError::Unreadable { key, source }),
    };
    Err(LedgerError::OtherSchema { key, found: schema, next })
}

/// Sends a conditional put. Answers whether its condition held.
async fn held(put: PutItemFluentBuilder) -> Result<bool, LedgerError> {
    match put.send().await {
        Ok(_) => Ok(true),
        Err(error) if error.as_service_error().is_some_and(PutItemError::is_conditional_check_failed_exception) => {
            Ok(false)
        }
        Err(error) => Err(LedgerError::call("PutItem", error)),
    }
}

impl Ledger {
    /// The ledger in `table`, whose records carry this seal.
    pub fn new(client: Client, table: String, seal: Seal) -> Self {
        Self { client, table, seal }
    }

    /// Whether what is claimed now is sealed by the claim.
    pub fn seals_at_once(&self) -> bool {
        self.seal.is_at_hand()
    }

    /// Has the key at hand from now on.
    pub async fn fetch_key(&self) -> Result<(), LedgerError> {
        self.seal.fetch(&self.table).await
    }

    async fn fetch(&self, keys: (String, String)) -> Result<Option<Item>, LedgerError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(keys)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| LedgerError::call("GetItem", e))?;
        Ok(answer.item)
    }

    /// A record that nobody acts on.
    async fn get(&self, keys: (String, String)) -> Result<Option<Record>, LedgerError> {
        self.fetch(keys).await?.map(record).transpose()
    }

    async fn putting(&self, record: &Record) -> Result<PutItemFluentBuilder, LedgerError> {
        let mut item = item(record)?;
        if seal::is_due(record) {
            self.seal.put_on(&self.table, &mut item).await?;
        }
        Ok(self.client.put_item().table_name(&self.table).set_item(Some(item)))
    }

    async fn put(&self, record: &Record) -> Result<(), LedgerError> {
        self.putting(record).await?.send().await.map_err(|e| LedgerError::call("PutItem", e))?;
        Ok(())
    }

    /// Puts a record where none is yet. Answers whether it did.
    async fn put_if_absent(&self, record: &Record) -> Result<bool, LedgerError> {
        held(self.putting(record).await?.condition_expression("attribute_not_exists(pk)")).await
    }

    /// All items of a partition whose sort key begins with `prefix`.
    async fn items(&self, partition: String, prefix: &str) -> Result<Vec<Item>, LedgerError> {
        let mut request = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .expression_attribute_values(":pk", text(partition));
        request = if prefix.is_empty() {
            request.key_condition_expression("pk = :pk")
        } else {
            request
                .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                .expression_attribute_values(":prefix", text(prefix))
        };
        let mut pages = request.into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            items.push(item.map_err(|e| LedgerError::call("Query", e))?);
        }
        Ok(items)
    }

    /// The incident of that id.
    pub async fn incident(&self, id: &IncidentId) -> Result<Option<Incident>, LedgerError> {
        let Some(item) = self.fetch(incident_keys(id)).await? else { return Ok(None) };
        Ok(match self.trusted(item, id).await? {
            Record::Incident(incident) => Some(*incident),
            _ => None,
        })
    }

    /// Writes the next version of an incident. Answers `false` where somebody else wrote in between.
    pub async fn advance(&self, next: &Incident) -> Result<bool, LedgerError> {
        let put = self
            .putting(&Record::Incident(Box::new(next.clone())))
            .await?
            .condition_expression("#version = :before")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":before", AttributeValue::N((next.version - 1).to_string()));
        held(put).await
    }

    /// Reads the incident, lets `change` make the next version of it, writes it, and begins again where
    /// somebody else wrote in between. `change` answers `None` to leave it as it is.
    pub async fn update<E: From<LedgerError>>(
        &self,
        id: &IncidentId,
        change: impl FnMut(Incident) -> Result<Option<Incident>, E>,
    ) -> Result<Option<Incident>, E> {
        self.update_by(id, change, async |_, next| self.advance(next).await).await
    }

    /// The same, with a way of one's own to write `next` over what was read; it answers `false` where somebody else
    /// wrote in between.
    async fn update_by<E: From<LedgerError>>(
        &self,
        id: &IncidentId,
        mut change: impl FnMut(Incident) -> Result<Option<Incident>, E>,
        write: impl AsyncFn(&Incident, &Incident) -> Result<bool, LedgerError>,
    ) -> Result<Option<Incident>, E> {
        for _ in 0..8 {
            let Some(now) = self.incident(id).await? else { return Ok(None) };
            let Some(mut next) = change(now.clone())? else { return Ok(Some(now)) };
            next.version = now.version + 1;
            if write(&now, &next).await? {
                return Ok(Some(next));
            }
        }
        Err(LedgerError::Contended(id.clone()).into())
    }

    /// Records a finding that opens no incident.
    pub async fn note(&self, finding: &FindingRecord) -> Result<(), LedgerError> {
        // The first record of an update stands: a later delivery of the same update adds nothing.
        self.put_if_absent(&Record::Finding(Box::new(finding.clone()))).await.map(|_| ())
    }

    /// Puts the record of a finding anew: what was done about it turned out otherwise.
    pub async fn amend(&self, finding: &FindingRecord) -> Result<(), LedgerError> {
        self.put(&Record::Finding(Box::new(finding.clone()))).await
    }

    /// The findings that an incident is built on, or the one of an unattributed subject.
    pub async fn findings(&self, subject: &str) -> Result<Vec<FindingRecord>, LedgerError> {
        let items = self.items(format!("finding#{subject}"), "").await?;
        let records = items.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
        Ok(records
            .into_iter()
            .filter_map(|r| match r {
                Record::Finding(finding) => Some(*finding),
                _ => None,
            })
            .collect())
    }

    /// Records a step's prior state before `apply`, once: a second caller gets the first record back.
    pub async fn intend(&self, step: &StepRecord) -> Result<StepRecord, LedgerError> {
        if self.put_step(step, "attribute_not_exists(pk) OR attribute_not_exists(#prior)").await? {
            return Ok(step.clone());
        }
        self.step(step).await?.ok_or_else(|| LedgerError::Contended(step.incident_id.clone()))
    }

    /// Records how a step stands. A prior state that is on record stays: a caller who knows another, or none, was
    /// overtaken, and writes nothing.
    pub async fn record(&self, step: &StepRecord) -> Result<(), LedgerError> {
        let condition = match step.prior {
            Some(_) => "attribute_not_exists(pk) OR attribute_not_exists(#prior) OR #prior = :prior",
            None => "attribute_not_exists(pk) OR attribute_not_exists(#prior)",
        };
        if !self.put_step(step, condition).await? {
            warn!(incident.id = %step.incident_id, step = %step.step, "another invocation is at this step");
        }
        Ok(())
    }

    /// Puts a step under a condition. Answers whether it did.
    async fn put_step(&self, step: &StepRecord, condition: &str) -> Result<bool, LedgerError> {
        let prior = step.prior.clone().filter(|_| condition.contains(":prior"));
        let put = self
            .putting(&Record::Step(Box::new(step.clone())))
            .await?
            .condition_expression(condition)
            .expression_attribute_names("#prior", "prior")
            .set_expression_attribute_values(prior.map(|p| HashMap::from([(":prior".to_owned(), text(p))])));
        held(put).await
    }

    /// The record of one step, where there is one.
    pub async fn step(&self, step: &StepRecord) -> Result<Option<StepRecord>, LedgerError> {
        let Some(item) = self.fetch(Record::Step(Box::new(step.clone())).keys()).await? else { return Ok(None) };
        Ok(match self.trusted(item, &step.incident_id).await? {
            Record::Step(step) => Some(*step),
            _ => None,
        })
    }

    /// The steps of the incident's episode that `owners` have recorded.
    pub async fn steps(
        &self,
        incident: &Incident,
        owners: impl IntoIterator<Item = FunctionName>,
    ) -> Result<Vec<StepRecord>, LedgerError> {
        let (steps, refused) = self.steps_and_refused(incident, owners).await?;
        refused.into_iter().next().map_or(Ok(steps), Err)
    }

    /// The steps of the incident's episode that `owners` have recorded, and why others in their place were refused: one
    /// forged record does not keep the rest from being acted on.
    pub async fn steps_and_refused(
        &self,
        incident: &Incident,
        owners: impl IntoIterator<Item = FunctionName>,
    ) -> Result<(Vec<StepRecord>, Vec<LedgerError>), LedgerError> {
        let prefix = step_sort(incident.episode, "");
        let queries = owners.into_iter().map(|owner| {
            let partition = step_partition(owner, &incident.incident_id);
            self.items(partition, &prefix)
        });
        let mut steps = Vec::new();
        let mut refused = Vec::new();
        for item in try_join_all(queries).await?.into_iter().flatten() {
            match self.trusted(item, &incident.incident_id).await {
                Ok(Record::Step(step)) => steps.push(*step),
                Ok(_) => {}
                Err(error @ LedgerError::Forged { .. }) => refused.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((steps, refused))
    }

    /// The pause, where containment is paused.
    pub async fn paused(&self) -> Result<Option<Pause>, LedgerError> {
        Ok(match self.get(pause_keys()).await? {
            Some(Record::Pause(pause)) => Some(pause),
            _ => None,
        })
    }

    /// Pauses containment. A pause that stands already stays as it is; answers whether this one was set.
    pub async fn pause(&self, pause: &Pause) -> Result<bool, LedgerError> {
        self.put_if_absent(&Record::Pause(pause.clone())).await
    }

    /// Lifts the pause.
    pub async fn resume(&self) -> Result<(), LedgerError> {
        self.delete(pause_keys()).await
    }

    async fn delete(&self, keys: (String, String)) -> Result<(), LedgerError> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key(keys)))
            .send()
            .await
            .map_err(|e| LedgerError::call("DeleteItem", e))?;
        Ok(())
    }
}
