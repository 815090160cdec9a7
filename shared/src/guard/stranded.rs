//! What no watch is over though it may contain somebody: a release that was killed between its beginning and its end, and
//! an order whose message was lost. The index of open incidents names both.
//!
//! While a release is under way nobody puts anything back, contains anew or looks: what it undoes is no tampering. Where
//! nobody can be at it any more, what it left is looked at by each sweep and told; whoever asks for the release again has
//! it go on, or taken back.

use std::collections::BTreeSet;

use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{Incident, IncidentState};
use firebreak_model::watch::{Cause, Standing};
use futures_util::stream::{self, StreamExt as _};
use tracing::{Instrument, info_span, warn};

use super::Guard;
use crate::answer::Answer;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::{LedgerError, Watched};
use crate::telemetry::chain;

/// So many incidents are read at the same time.
const READ_AT_ONCE: usize = 8;

impl Guard {
    /// Looks at what is open and not watched. Answers what is to be said of it, and what could not be looked at.
    pub(super) async fn look_at_unwatched(&self, watched: &[Watched]) -> Result<(Vec<String>, Vec<String>), Failure> {
        let known: BTreeSet<&IncidentId> = watched.iter().map(|one| &one.id).collect();
        let open = self.ledger.open().await?;
        let unwatched = open.into_iter().filter(|id| !known.contains(id));
        let read = stream::iter(unwatched).map(async |id| (self.ledger.incident(&id).await, id)).buffered(READ_AT_ONCE);
        let (mut said, mut failed) = (Vec::new(), Vec::new());
        for (incident, id) in read.collect::<Vec<_>>().await {
            let span = info_span!("unwatched", incident.id = %id);
            let looked = match incident {
                Ok(Some(incident)) if incident.state == IncidentState::Ordered => {
                    Box::pin(self.check(&id, Cause::Sweep, None)).instrument(span).await
                }
                Ok(Some(incident)) if incident.is_stranded(clock::now()) => {
                    Box::pin(self.look_at_stranded(&incident)).instrument(span).await
                }
                Ok(_) => continue,
                Err(error @ LedgerError::Call { .. }) => Err(error.into()),
                // What cannot be gone by is on record as such, or has no seal yet.
                Err(error) => {
                    warn!(incident.id = %id, "the incident was not looked at: {}", chain(&error));
                    continue;
                }
            };
            match looked {
                Ok(answer) => said.push(format!("`{id}` is {}", answer.outcome)),
                Err(failure) => failed.push(format!("`{id}`: {failure}")),
            }
        }
        Ok((said, failed))
    }

    /// Looks at what a release left that nobody brings to its end, and records it.
    pub(super) async fn look_at_stranded(&self, incident: &Incident) -> Result<Answer, Failure> {
        let id = &incident.incident_id;
        let now = clock::now();
        let searched = self.searched(incident).await?;
        let made_again = self.made_again(incident).await?;
        let (steps, _) = self.steps(incident, made_again.is_some(), &searched, now).await?;
        let next = self.watch_over(incident).await?.stranded(incident, &steps, now);
        if !self.still(incident).await? {
            return Ok(Answer::on("nothing to watch", id, &[]).saying("the release goes on"));
        }
        // Somebody else looked meanwhile: what they found is as good.
        self.ledger.keep_watch(&next).await?;
        warn!("a release began at {}, and nobody brings it to its end", incident.updated_at);
        Ok(Answer::on(Standing::Stranded.as_str(), id, &[]))
    }
}
