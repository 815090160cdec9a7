//! Documents: what AWS answered about a thing, one answer a line, in the order of the manifest's sources.

use firebreak_model::evidence::{ApiCall, Cursor, Found, Gap, Piece, Source, Unit};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::store::StoreError;
use super::{End, Form, Slot, UnitError, Work, entry, gap};
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

    /// Whether one of them did not come for now.
    pub(super) fn wait(&self) -> bool {
        self.0.iter().any(|(_, _, answer)| answer.as_ref().is_err_and(ActionError::is_transient))
    }

    /// As what is stored, and what is missing; what `known` holds is left out.
    fn sorted(self, what: &str, known: &[ApiCall], patient: bool) -> Sorted {
        let mut sorted = Sorted::default();
        for (call, at, answer) in self.0.into_iter().filter(|(call, ..)| !known.contains(call)) {
            match answer {
                Ok(response) => sorted.answered.push((call, at, response)),
                Err(error) if patient && error.is_transient() => sorted.waits = true,
                Err(error) => sorted.gaps.push(gap(what, call, &error)),
            }
        }
        sorted
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

#[derive(Debug, Default)]
struct Sorted {
    answered: Vec<(ApiCall, Timestamp, Value)>,
    gaps: Vec<Gap>,
    waits: bool,
}

/// How far the documents of a unit are kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// All that AWS gives: this is the last object of them.
    Whole(Piece),
    /// Some of them AWS did not give for now. Whether others were put on record.
    Stalled(bool),
}

/// The word of a cursor behind documents of which some did not come: all are asked for again, and what is on record is not
/// kept a second time.
const AGAIN: &str = "again";

/// Whether documents are still missing behind a piece.
pub(super) fn goes_on(piece: &Piece) -> bool {
    piece.next.as_ref().is_some_and(|next| next.token == AGAIN)
}

impl Kept {
    fn of(piece: Piece) -> Self {
        if goes_on(&piece) { Self::Stalled(true) } else { Self::Whole(piece) }
    }
}

/// Stores the answers about `what`, all that there is of a unit.
pub(super) async fn keep(work: Work<'_>, unit: &Unit<'_>, what: &str, answers: Answers) -> Result<End, UnitError> {
    Ok(match keep_before(work, unit, what, answers, None).await? {
        Kept::Whole(_) => End::Done,
        Kept::Stalled(kept) => End::Stalled(kept),
    })
}

/// Stores the answers about `what`, behind which a unit goes on at `next`. What AWS did not answer is a gap; what it did
/// not answer for now, where the rest can be put on record meanwhile, is asked for once more.
pub(super) async fn keep_before(
    work: Work<'_>,
    unit: &Unit<'_>,
    what: &str,
    answers: Answers,
    next: Option<Cursor>,
) -> Result<Kept, UnitError> {
    let before = work.before(unit);
    let mut known = Vec::new();
    for piece in before {
        let Found { entry, gaps } = piece.read()?;
        known.extend(entry.into_iter().flat_map(|entry| entry.sources).map(|source| source.call));
        known.extend(gaps.into_iter().map(|gap| gap.source));
    }
    let sorted = answers.sorted(what, &known, work.is_patient());
    if sorted.waits && sorted.answered.is_empty() && sorted.gaps.is_empty() {
        return Ok(Kept::Stalled(false));
    }
    let next = if sorted.waits { Some(Cursor::left(AGAIN.to_owned())) } else { next };
    let part = before.last().map_or(1, |piece| piece.part + 1);
    store(work, Slot { unit, part, tries: 0 }, Form::Lines, what, sorted, next).await.map(Kept::of)
}

/// Stores answers that are asked for by themselves, as the next object of a unit. `None` where they did not come for now.
pub(super) async fn keep_apart(
    work: Work<'_>,
    slot: Slot<'_>,
    what: &str,
    answers: Answers,
    next: Option<Cursor>,
) -> Result<Option<Piece>, UnitError> {
    if work.is_patient() && answers.wait() {
        return Ok(None);
    }
    let sorted = answers.sorted(what, &[], false);
    store(work, slot, Form::Secrets, what, sorted, next).await.map(Some)
}

async fn store(
    work: Work<'_>,
    mut slot: Slot<'_>,
    form: Form,
    what: &str,
    Sorted { answered, gaps, .. }: Sorted,
    next: Option<Cursor>,
) -> Result<Piece, UnitError> {
    if answered.is_empty() {
        return work.keep(slot, Found { entry: None, gaps }, next).await;
    }
    loop {
        let mut sink = work.sink_of(slot, form)?;
        for (call, _, response) in &answered {
            sink.line(&Document { call, response }).await?;
        }
        match sink.finish().await {
            Ok(stored) => {
                let last = answered.iter().map(|(_, at, _)| *at).max().unwrap_or(work.run.began_at);
                let sources = answered.into_iter().map(|(call, at, _)| Source { call, collected_at: at }).collect();
                let entry = Some(entry(slot.unit, what, stored, sources, last));
                return work.keep(slot, Found { entry, gaps }, next).await;
            }
            Err(StoreError::Taken { key }) => {
                if let Some(first) = work.taken(slot, key).await? {
                    return Ok(first);
                }
                slot.tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
