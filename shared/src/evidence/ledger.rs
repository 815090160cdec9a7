//! The incident and its findings as the ledger has them, with each event as it was received.

use firebreak_model::ledger::{Incident, Record};
use serde_json::json;

use super::manifest::{ApiCall, Gap, Lack};
use super::sink::Sink;
use super::{Collected, Run};
use crate::ledger::Ledger;
use crate::telemetry::chain;

/// Collects the incident and its findings.
pub(super) async fn collect(ledger: &Ledger, run: &Run<'_>, incident: &Incident) -> Collected {
    let id = incident.incident_id.to_string();
    let call = ApiCall::new("dynamodb:Query", json!({"pk": format!("finding#{id}")}));
    let mut collected = Collected::default();
    let mut records = vec![Record::Incident(Box::new(incident.clone()))];
    match ledger.findings(&id).await {
        Ok(findings) => records.extend(findings.into_iter().map(|f| Record::Finding(Box::new(f)))),
        Err(error) => {
            let lack = if error.is_transient() { Lack::NoAnswer } else { Lack::Rejected };
            collected.gaps.push(Gap { what: id.clone(), source: call.clone(), lack, reason: chain(&error) });
        }
    }
    let mut sink = Sink::new(run.store, format!("{}/ledger/records", run.prefix), &id);
    sink.source(call.clone());
    for record in &records {
        if let Err(error) = sink.line(record).await {
            collected.not_stored(&id, call.clone(), error);
        }
    }
    let (entries, result) = sink.finish().await;
    collected.entries = entries;
    if let Err(error) = result {
        collected.not_stored(&id, call, error);
    }
    collected
}
