//! The records of evidence: runs, what they have stored, what lies beside it.

use firebreak_model::evidence::{Aside, EvidenceRun, Piece, piece_partition, run_keys, run_partition};
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::Record;
use serde_json::Value;

use super::{Ledger, LedgerError, held, text};

/// What a run has on record.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    /// Objects, in the order of units and parts.
    pub pieces: Vec<Piece>,
    /// What was set aside.
    pub asides: Vec<Aside>,
}

impl Ledger {
    /// The latest run of an incident, where there is one.
    pub async fn latest_run(&self, id: &IncidentId) -> Result<Option<EvidenceRun>, LedgerError> {
        let latest = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(run_partition(id)))
            .scan_index_forward(false)
            .limit(1);
        let answer = latest.send().await.map_err(|e| LedgerError::call("Query", e))?;
        let Some(item) = answer.items.unwrap_or_default().into_iter().next() else { return Ok(None) };
        Ok(match self.trusted(item, id).await? {
            Record::Evidence(run) => Some(*run),
            _ => None,
        })
    }

    /// All runs of an incident, in order.
    pub async fn runs(&self, id: &IncidentId) -> Result<Vec<EvidenceRun>, LedgerError> {
        let mut runs = Vec::new();
        for item in self.items(run_partition(id), "").await? {
            if let Record::Evidence(run) = self.trusted(item, id).await? {
                runs.push(*run);
            }
        }
        Ok(runs)
    }

    /// A run as it stands now.
    pub async fn run(&self, run: &EvidenceRun) -> Result<Option<EvidenceRun>, LedgerError> {
        let Some(item) = self.fetch(run_keys(run)).await? else { return Ok(None) };
        Ok(match self.trusted(item, &run.incident_id).await? {
            Record::Evidence(run) => Some(*run),
            _ => None,
        })
    }

    /// Begins a run. Answers whether it did: another invocation may have begun the same.
    pub async fn begin_run(&self, run: &EvidenceRun) -> Result<bool, LedgerError> {
        self.put_if_absent(&Record::Evidence(Box::new(run.clone()))).await
    }

    /// Writes a run that is not sealed yet. Answers whether it did.
    pub async fn keep_run(&self, run: &EvidenceRun) -> Result<bool, LedgerError> {
        let put = self.putting(&Record::Evidence(Box::new(run.clone()))).await?;
        held(
            put.condition_expression("attribute_exists(pk) AND attribute_not_exists(#sealed)")
                .expression_attribute_names("#sealed", "sealed"),
        )
        .await
    }

    /// Ends a run whose manifest is stored and signed.
    pub async fn end_run(&self, run: &EvidenceRun) -> Result<(), LedgerError> {
        self.put(&Record::Evidence(Box::new(run.clone()))).await
    }

    /// Names who signs the manifest of a run, once. Answers whether it did.
    pub async fn name_signer(&self, run: &EvidenceRun) -> Result<bool, LedgerError> {
        let put = self.putting(&Record::Evidence(Box::new(run.clone()))).await?;
        held(
            put.condition_expression("attribute_exists(pk) AND attribute_not_exists(#signer)")
                .expression_attribute_names("#signer", "signer"),
        )
        .await
    }

    /// Everything that a run has stored.
    pub async fn pieces(&self, run: &EvidenceRun) -> Result<Pieces, LedgerError> {
        let id = &run.incident_id;
        let mut all = Pieces::default();
        for item in self.items(piece_partition(id, run.episode, run.run), "").await? {
            match self.trusted(item, id).await? {
                Record::Piece(piece) => all.pieces.push(*piece),
                Record::Aside(aside) => all.asides.push(aside),
                _ => {}
            }
        }
        Ok(all)
    }

    /// What lies in a partition, under sort keys that begin so, each as it lies there: for people to read, and for nobody to
    /// act on.
    pub async fn as_it_lies(&self, partition: String, prefix: &str) -> Result<Vec<(String, Value)>, LedgerError> {
        let mut records = Vec::new();
        for item in self.items(partition, prefix).await? {
            let sort = item.get("sk").and_then(|sort| sort.as_s().ok()).cloned().unwrap_or_default();
            let record = serde_dynamo::from_item(item);
            records.push((sort.clone(), record.map_err(|source| LedgerError::Unreadable { key: sort, source })?));
        }
        Ok(records)
    }

    /// Records an object, once. Answers whether it did: another invocation may have stored the same.
    pub async fn keep_piece(&self, piece: &Piece) -> Result<bool, LedgerError> {
        self.put_if_absent(&Record::Piece(Box::new(piece.clone()))).await
    }

    /// The piece of that unit and number, where there is one.
    pub async fn piece(&self, piece: &Piece) -> Result<Option<Piece>, LedgerError> {
        let keys = Record::Piece(Box::new(piece.clone())).keys();
        let Some(item) = self.fetch(keys).await? else { return Ok(None) };
        Ok(match self.trusted(item, &piece.incident_id).await? {
            Record::Piece(piece) => Some(*piece),
            _ => None,
        })
    }

    /// Records that an object lies under a run's keys which is none of its own.
    pub async fn set_aside(&self, aside: &Aside) -> Result<(), LedgerError> {
        self.put(&Record::Aside(aside.clone())).await
    }
}
