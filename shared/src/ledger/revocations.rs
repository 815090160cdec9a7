//! Revocations that outlive their release, and the sessions that were found chained.

use aws_sdk_dynamodb::types::AttributeValue;
use firebreak_model::ledger::{ChainRecord, Incident, REVOCATIONS, Record, RevocationRecord, chain_keys};
use jiff::Timestamp;

use super::{Ledger, LedgerError, held, record};

impl Ledger {
    /// Remembers a revocation that outlives its release.
    pub async fn keep_revocation(&self, revocation: &RevocationRecord) -> Result<(), LedgerError> {
        self.put(&Record::Revocation(revocation.clone())).await
    }

    /// The revocations whose time is over. One that was forged ends nothing.
    pub async fn ended_revocations(&self, now: Timestamp) -> Result<Vec<RevocationRecord>, LedgerError> {
        self.revocations(|revocation| revocation.ends_at <= now).await
    }

    /// The revocations that must be in place at `now`. One that was forged keeps nothing.
    pub async fn standing_revocations(&self, now: Timestamp) -> Result<Vec<RevocationRecord>, LedgerError> {
        self.revocations(|revocation| revocation.ends_at > now).await
    }

    async fn revocations(
        &self,
        wanted: impl Fn(&RevocationRecord) -> bool,
    ) -> Result<Vec<RevocationRecord>, LedgerError> {
        let mut found = Vec::new();
        for item in self.items(REVOCATIONS.to_owned(), "").await? {
            let Record::Revocation(revocation) = record(item.clone())? else { continue };
            if !wanted(&revocation) {
                continue;
            }
            match self.trusted(item, &revocation.incident_id).await {
                Ok(_) => found.push(revocation),
                Err(LedgerError::Forged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The sessions that were found for the incident's episode, where there was a look for them.
    pub async fn chain(&self, incident: &Incident) -> Result<Option<ChainRecord>, LedgerError> {
        let keys = chain_keys(&incident.incident_id, incident.episode);
        let Some(item) = self.fetch(keys).await? else { return Ok(None) };
        Ok(match self.trusted(item, &incident.incident_id).await? {
            Record::Chain(chain) => Some(*chain),
            _ => None,
        })
    }

    /// Records the sessions that were found, over what was read before. Answers whether it did: another search may have
    /// recorded what it found.
    pub async fn record_chain(&self, chain: &ChainRecord, before: Option<&ChainRecord>) -> Result<bool, LedgerError> {
        let record = Record::Chain(Box::new(chain.clone()));
        let Some(before) = before else { return self.put_if_absent(&record).await };
        let put = self.putting(&record).await?.condition_expression("#rounds = :before");
        let put = put.expression_attribute_names("#rounds", "rounds");
        held(put.expression_attribute_values(":before", AttributeValue::N(before.rounds.to_string()))).await
    }

    /// Forgets a revocation that is no longer in place.
    pub async fn forget_revocation(&self, revocation: &RevocationRecord) -> Result<(), LedgerError> {
        self.delete(Record::Revocation(revocation.clone()).keys()).await
    }
}
