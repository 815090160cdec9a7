//! Documents: what AWS answered about a thing, one answer a line, in the order of the manifest's sources.

use firebreak_model::evidence::{ApiCall, Found, Source, Unit};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::store::StoreError;
use super::{Slot, UnitError, Work, entry, gap};
use crate::action::ActionError;
use crate::clock;

/// One line. When it was asked stands in the manifest: the same answer is the same object whenever it was asked.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    call: &'a ApiCall,
    response: &'a Value,
}

/// What was asked, when, and what came of it, in order.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<(ApiCall, Timestamp, Result<Value, ActionError>)>);

impl Answers {
    /// An answer that came just now.
    pub(super) fn push(&mut self, call: ApiCall, answer: Result<Value, ActionError>) {
        self.0.push((call, clock::now(), answer));
    }

    #[cfg(test)]
    pub(super) fn responses(&self) -> Vec<&Value> {
        self.0.iter().filter_map(|(_, _, answer)| answer.as_ref().ok()).collect()
    }

    /// The calls that got nothing, and why.
    #[cfg(test)]
    pub(super) fn gaps(&self) -> Vec<(&str, firebreak_model::evidence::Lack)> {
        self.0
            .iter()
            .filter_map(|(call, _, answer)| Some((call.api.as_str(), super::lack(answer.as_ref().err()?))))
            .collect()
    }
}

/// Stores the answers about `what` as the one object of a unit; what AWS did not answer is a gap.
pub(super) async fn keep(work: Work<'_>, unit: &Unit<'_>, what: &str, answers: Answers) -> Result<(), UnitError> {
    let mut gaps = Vec::new();
    let mut answered = Vec::new();
    for (call, at, answer) in answers.0 {
        match answer {
            Ok(response) => answered.push((call, at, response)),
            Err(error) => gaps.push(gap(what, call, &error)),
        }
    }
    let mut slot = Slot { unit, part: 1, tries: 0 };
    if answered.is_empty() {
        return work.keep(slot, Found { entry: None, gaps }, None).await.map(|_| ());
    }
    loop {
        let mut sink = work.sink(slot)?;
        for (call, _, response) in &answered {
            sink.line(&Document { call, response }).await?;
        }
        match sink.finish().await {
            Ok(stored) => {
                let last = answered.iter().map(|(_, at, _)| *at).max().unwrap_or(work.run.began_at);
                let sources = answered.into_iter().map(|(call, at, _)| Source { call, collected_at: at }).collect();
                let entry = Some(entry(unit, what, stored, sources, last));
                return work.keep(slot, Found { entry, gaps }, None).await.map(|_| ());
            }
            Err(StoreError::Taken { key }) => {
                if work.taken(slot, key).await?.is_some() {
                    return Ok(());
                }
                slot.tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
