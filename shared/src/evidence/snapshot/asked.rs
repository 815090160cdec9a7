//! What a run asks CloudTrail: of what findings and searches have told, and of what the runs before it have found.

use firebreak_model::evidence::{Asked, Before, EvidenceRun, Purpose};
use firebreak_model::ids::AccessKeyId;
use firebreak_model::ledger::Incident;
use jiff::Timestamp;

use super::{Snapshots, window_begins};
use crate::failure::Failure;

impl Snapshots {
    /// The questions of a run that comes after `runs` in its episode: whatever is between two that ask.
    pub(super) async fn asked(
        &self,
        incident: &Incident,
        runs: &[EvidenceRun],
        now: Timestamp,
    ) -> Result<Asked, Failure> {
        let findings = self.ledger.findings(incident.incident_id.as_str()).await?;
        let chain = self.ledger.chain(incident).await?;
        let links = chain.iter().flat_map(|chain| &chain.sessions);
        let mut chained: Vec<AccessKeyId> = links.filter_map(|link| link.session.access_key.clone()).collect();
        let mut before = Vec::new();
        // A report asks nothing, and only repeats what was asked before it.
        for run in runs.iter().filter(|run| run.episode == incident.episode && run.purpose != Purpose::Report) {
            let mut unread = Vec::new();
            for piece in self.ledger.pieces(run).await?.pieces {
                chained.extend(piece.made);
                unread.extend(piece.unread);
            }
            before.push(Before { asked: &run.calls, unread });
        }
        let regions = self.settings.regions.iter().cloned();
        let regions = regions.chain(incident.functions.iter().map(|function| function.region().clone()));
        let asked = Asked::of(incident, &findings, &chained, regions, (window_begins(incident), now), &before);
        // Where nothing is known to ask by, no Region is asked.
        Ok(if asked.questions.is_empty() { Asked::default() } else { asked })
    }
}
