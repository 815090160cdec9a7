//! Everything that the ledger holds about an incident, over all its episodes: what a report tells.

use std::collections::BTreeSet;

use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ledger::{
    ChainRecord, FindingRecord, ForgeryRecord, Incident, PageRecord, REVOCATIONS, Record, RevocationRecord, StepRecord,
    chain_keys, step_partition, tamper_partition,
};
use firebreak_model::tamper::Tamper;
use firebreak_model::watch::Watch;
use futures_util::future::try_join_all;

use super::{Item, Ledger, LedgerError, record};

/// What is on record beside the incident itself.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// Its findings.
    pub findings: Vec<FindingRecord>,
    /// Its steps.
    pub steps: Vec<StepRecord>,
    /// The guard's watch.
    pub watch: Option<Watch>,
    /// What was done against it.
    pub tampers: Vec<Tamper>,
    /// The sessions that were made from stolen ones, an episode each.
    pub chains: Vec<ChainRecord>,
    /// Its revocations that are still in place.
    pub revocations: Vec<RevocationRecord>,
    /// Records that were refused.
    pub forgeries: Vec<ForgeryRecord>,
    /// Pages that were sent.
    pub pages: Vec<PageRecord>,
}

impl Ledger {
    /// All of it. What is not as one of our functions wrote it is left out, and on record as refused; what another version
    /// wrote is left out.
    pub async fn story(&self, incident: &Incident) -> Result<Story, LedgerError> {
        let id = &incident.incident_id;
        let owners: BTreeSet<FunctionName> = ActionId::ALL.iter().map(|action| action.owner()).collect();
        let steps = owners.into_iter().map(|owner| step_partition(owner, id));
        let others = [
            format!("finding#{id}"),
            chain_keys(id, 0).0,
            tamper_partition(id.as_str()),
            format!("page#{id}"),
            REVOCATIONS.to_owned(),
        ];
        let read = steps.chain(others).map(|partition| self.items(partition, ""));
        let mut story = Story { watch: self.watch(id).await?, ..Story::default() };
        for item in try_join_all(read).await?.into_iter().flatten() {
            let Ok(known) = record(item.clone()) else { continue };
            match known {
                Record::Finding(finding) => story.findings.push(*finding),
                Record::Tamper(tamper) => story.tampers.push(*tamper),
                Record::Page(page) => story.pages.push(page),
                Record::Revocation(of) if of.incident_id != *id => {}
                Record::Step(_) | Record::Chain(_) | Record::Revocation(_) => {
                    match self.believed(item, incident).await? {
                        Some(Record::Step(step)) => story.steps.push(*step),
                        Some(Record::Chain(chain)) => story.chains.push(*chain),
                        Some(Record::Revocation(revocation)) => story.revocations.push(revocation),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        story.findings.sort_by(|a, b| (a.received_at, &a.finding_key).cmp(&(b.received_at, &b.finding_key)));
        // What was refused just now is told of too.
        story.forgeries = self.forgeries(id).await?;
        Ok(story)
    }

    async fn believed(&self, item: Item, incident: &Incident) -> Result<Option<Record>, LedgerError> {
        match self.trusted(item, &incident.incident_id).await {
            Ok(record) => Ok(Some(record)),
            Err(LedgerError::Forged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
