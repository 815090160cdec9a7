//! Documents: what AWS answered about a thing, one answer a line, in the order of the manifest's sources. Of many things
//! there are many parts: the record of each names every line of it, and an item of the ledger holds 400 KB.

use std::collections::VecDeque;

use firebreak_model::evidence::{ApiCall, Cursor, Found, Gap, Piece, Source, Unit};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::store::StoreError;
use super::{End, Form, Slot, UnitError, Work, entry, gap, weight};
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
                Ok(response) => sorted.answered.push_back((call, at, response)),
                Err(error) if patient && error.is_transient() => sorted.waits = true,
                Err(error) => sorted.gaps.push_back(gap(what, call, &error)),
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
    answered: VecDeque<(ApiCall, Timestamp, Value)>,
    gaps: VecDeque<Gap>,
    waits: bool,
}

impl Sorted {
    fn is_empty(&self) -> bool {
        self.answered.is_empty() && self.gaps.is_empty()
    }

    /// The first of it, as much as one record of the ledger tells of in so many bytes, and one thing at least. The same
    /// answers are the same parts, wherever an earlier invocation ended.
    fn part(&mut self, most: usize) -> Self {
        let mut part = Self::default();
        let mut told = 0;
        while let Some(gap) = self.gaps.pop_front_if(|gap| told == 0 || told + weight(gap) <= most) {
            told += weight(&gap);
            part.gaps.push_back(gap);
        }
        let of = |(call, ..): &(ApiCall, Timestamp, Value)| weight(call);
        while let Some(answer) = self.answered.pop_front_if(|answer| told == 0 || told + of(answer) <= most) {
            told += of(&answer);
            part.answered.push_back(answer);
        }
        part
    }

    /// Without what is on record.
    fn leave_out(&mut self, known: &[ApiCall]) {
        self.answered.retain(|(call, ..)| !known.contains(call));
        self.gaps.retain(|gap| !known.contains(&gap.source));
    }
}

/// How far the documents of a unit are kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// All that AWS gives: this is the last object of them.
    Whole(Piece),
    /// Some of them AWS did not give for now. Whether others were put on record.
    Stalled(bool),
}

/// The word of a cursor behind documents of which some did not come, or are in the next part: all are asked for again, and
/// what is on record is not kept a second time.
const AGAIN: &str = "again";

/// The calls of which a piece tells what came of them.
fn told_by(piece: &Piece) -> Result<Vec<ApiCall>, serde_json::Error> {
    let Found { entry, gaps } = piece.read()?;
    let sources = entry.into_iter().flat_map(|entry| entry.sources).map(|source| source.call);
    Ok(sources.chain(gaps.into_iter().map(|gap| gap.source)).collect())
}

/// The calls of which it is on record what came of them.
pub(super) fn known(work: Work<'_>, unit: &Unit<'_>) -> Result<Vec<ApiCall>, serde_json::Error> {
    let each = work.before(unit).iter().map(told_by).collect::<Result<Vec<_>, _>>()?;
    Ok(each.into_iter().flatten().collect())
}

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
    let mut left = answers.sorted(what, &known(work, unit)?, work.is_patient());
    if left.waits && left.is_empty() {
        return Ok(Kept::Stalled(false));
    }
    let mut part = work.before(unit).last().map_or(1, |piece| piece.part + 1);
    loop {
        let some = left.part(work.limits.record_bytes);
        let all = left.is_empty() && !left.waits;
        let next = if all { next.clone() } else { Some(Cursor::left(AGAIN.to_owned())) };
        let piece = store(work, Slot { unit, part, tries: 0 }, Form::Lines, what, some, next).await?;
        // Where another invocation was first, its piece may tell of other calls.
        left.leave_out(&told_by(&piece)?);
        if left.is_empty() || !goes_on(&piece) {
            return Ok(Kept::of(piece));
        }
        part = piece.part + 1;
    }
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
    let gaps = Vec::from(gaps);
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
