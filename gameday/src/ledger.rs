//! The ledger as a reader sees it.

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use firebreak_model::evidence::EvidenceRun;
use firebreak_model::ids::{AccountId, IncidentId};
use firebreak_model::ledger::{
    ChainRecord, FindingRecord, ForgeryRecord, Incident, PageRecord, Pause, Record, RevocationRecord, StepRecord,
    breaker_keys,
};
use firebreak_model::tamper::Tamper;
use firebreak_model::usage::RoleUsage;
use firebreak_model::watch::Watch;

use crate::aws::{ACCOUNT, Aws};
use crate::deploy::Stack;

/// Everything that the ledger holds, read at one time.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Incidents.
    pub incidents: Vec<Incident>,
    /// Findings.
    pub findings: Vec<FindingRecord>,
    /// Steps.
    pub steps: Vec<StepRecord>,
    /// Pages.
    pub pages: Vec<PageRecord>,
    /// The pause, where there is one.
    pub pause: Option<Pause>,
    /// Sessions that were made from stolen ones.
    pub chains: Vec<ChainRecord>,
    /// Revocations that outlive their release.
    pub revocations: Vec<RevocationRecord>,
    /// Records that were refused.
    pub forgeries: Vec<ForgeryRecord>,
    /// What the guard watches.
    pub watches: Vec<Watch>,
    /// What was done against it.
    pub tampers: Vec<Tamper>,
    /// Who runs as which role.
    pub inventory: Vec<RoleUsage>,
    /// Collections of evidence.
    pub runs: Vec<EvidenceRun>,
}

impl Book {
    /// Reads the whole ledger.
    ///
    /// # Errors
    /// Where it cannot be read, or holds a record that is none.
    pub async fn read(aws: &Aws, stack: &Stack) -> Result<Self> {
        let mut book = Self::default();
        let table = stack.output("LedgerTableName")?;
        let mut pages = aws.dynamodb.scan().table_name(table).into_paginator().items().send();
        while let Some(item) = pages.next().await {
            let item = item.context("the ledger cannot be read")?;
            match serde_dynamo::from_item(item).context("the ledger holds a record that cannot be read")? {
                Record::Incident(incident) => book.incidents.push(*incident),
                Record::Finding(finding) => book.findings.push(*finding),
                Record::Step(step) => book.steps.push(*step),
                Record::Page(page) => book.pages.push(page),
                Record::Pause(pause) => book.pause = Some(pause),
                Record::Revocation(revocation) => book.revocations.push(revocation),
                Record::Forgery(forgery) => book.forgeries.push(forgery),
                Record::Chain(chain) => book.chains.push(*chain),
                Record::Watch(watch) => book.watches.push(*watch),
                Record::Tamper(tamper) => book.tampers.push(*tamper),
                Record::Inventory(usage) => book.inventory.push(usage),
                Record::Evidence(run) => book.runs.push(*run),
                Record::Parts(_)
                | Record::Deployed(_)
                | Record::Breaker {}
                | Record::Piece(_)
                | Record::Aside(_)
                | Record::Paging(_) => {}
            }
        }
        Ok(book)
    }

    /// An incident.
    pub fn incident(&self, id: &IncidentId) -> Option<&Incident> {
        self.incidents.iter().find(|incident| incident.incident_id == *id)
    }

    /// The guard's watch over an incident's present episode.
    pub fn watch(&self, id: &IncidentId) -> Option<&Watch> {
        let episode = self.incident(id)?.episode;
        self.watches.iter().find(|watch| watch.incident_id == *id && watch.episode == episode)
    }

    /// What was found of the sessions that were made from what was stolen, in an incident's present episode.
    pub fn chain(&self, id: &IncidentId) -> Option<&ChainRecord> {
        let episode = self.incident(id)?.episode;
        self.chains.iter().find(|chain| chain.incident_id == *id && chain.episode == episode)
    }

    /// What was done against an incident.
    pub fn tampers_of(&self, id: &IncidentId) -> Vec<&Tamper> {
        self.tampers.iter().filter(|tamper| tamper.incident_id.as_ref() == Some(id)).collect()
    }

    /// The steps of an incident's present episode, in the order of its plan.
    pub fn steps_of(&self, id: &IncidentId) -> Vec<&StepRecord> {
        let Some(incident) = self.incident(id) else { return Vec::new() };
        let of_it = |step: &&StepRecord| step.incident_id == *id && step.episode == incident.episode;
        let mut steps: Vec<_> = self.steps.iter().filter(of_it).collect();
        steps.sort_by_key(|record| incident.plan.steps.iter().position(|step| step.key() == record.step));
        steps
    }

    /// The record of a finding, by the finding's id.
    pub fn finding(&self, finding_id: &str) -> Option<&FindingRecord> {
        self.findings.iter().find(|finding| finding.finding_id == finding_id)
    }
}

/// Deletes the counter of the circuit breaker for this hour.
///
/// # Errors
/// Where `DynamoDB` refuses.
pub async fn close_breaker(aws: &Aws, stack: &Stack) -> Result<()> {
    let (pk, sk) = breaker_keys(&ACCOUNT.parse::<AccountId>()?, firebreak_shared::clock::now());
    let request = aws.dynamodb.delete_item().table_name(stack.output("LedgerTableName")?);
    let request = request.key("pk", AttributeValue::S(pk)).key("sk", AttributeValue::S(sk));
    request.send().await.context("the breaker's counter cannot be deleted")?;
    Ok(())
}
