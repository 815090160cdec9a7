//! What is made of a record that somebody is about to act on: believed where it is as one of our functions wrote it,
//! else refused, and put on record as refused, which pages.

use firebreak_model::SCHEMA;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{ForgeryRecord, Record, forgery_partition};
use firebreak_model::seal::Standing;
use tracing::error;

use super::{Item, Ledger, LedgerError, record, seal, shown_key};
use crate::clock;
use crate::telemetry::chain;

pub(super) const NO_SEAL: &str = "it carries no seal";
pub(super) const WRONG_SEAL: &str = "its seal does not fit: it was edited, moved or made by someone else";

impl Ledger {
    /// The record of an item that is acted on, where it is as one of our functions wrote it. Any other is put on record
    /// as refused, which pages.
    pub(super) async fn trusted(&self, item: Item, about: &IncidentId) -> Result<Record, LedgerError> {
        let problem = match self.seal.standing(&self.table, &item).await? {
            Standing::Sealed => return record(item),
            Standing::Unsealed => match record(item.clone()) {
                Ok(Record::Incident(incident)) if incident.is_claim() => {
                    return Err(LedgerError::Unsealed(incident.incident_id));
                }
                Err(error @ LedgerError::OtherSchema { .. }) => return Err(error),
                _ => NO_SEAL,
            },
            Standing::Forged => WRONG_SEAL,
        };
        self.refuse(&item, about, problem).await
    }

    /// Puts on record that an item was refused, once for each state of it, and says so.
    async fn refuse<T>(&self, item: &Item, about: &IncidentId, problem: &'static str) -> Result<T, LedgerError> {
        let key = shown_key(item);
        error!(incident.id = %about, "the record `{key}` is refused: {problem}");
        let forgery = ForgeryRecord {
            schema: SCHEMA,
            incident_id: about.clone(),
            record: key.clone(),
            digest: seal::digest(item)?,
            problem: problem.to_owned(),
            found_at: clock::now(),
        };
        if let Err(unrecorded) = self.put_if_absent(&Record::Forgery(forgery)).await {
            error!(incident.id = %about, "that it was refused could not be recorded: {}", chain(&unrecorded));
        }
        Err(LedgerError::Forged { key, problem })
    }

    /// The records about an incident that were refused.
    pub async fn forgeries(&self, id: &IncidentId) -> Result<Vec<ForgeryRecord>, LedgerError> {
        let items = self.items(forgery_partition(id), "").await?;
        let records = items.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
        Ok(records
            .into_iter()
            .filter_map(|r| match r {
                Record::Forgery(forgery) => Some(forgery),
                _ => None,
            })
            .collect())
    }
}
