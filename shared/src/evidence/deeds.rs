//! What the calls that were found touched, and what they left behind: one thing a line, made from the records as they
//! were stored.

use firebreak_model::deeds::{Deed, Suspects, Tally};
use firebreak_model::evidence::{ApiCall, EvidenceRun, Found, Gap, Lack, Piece, Source, Subject, Unit};
use serde::Serialize;
use serde_json::{Value, json};

use super::calls::CALL;
use super::store::{Store, StoreError};
use super::{Slot, UnitError, Work, entry};
use crate::clock;

/// A line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    /// The first one: what the others are made from.
    About {
        calls: u64,
        refused: u64,
        of_the_principal: u64,
        complete_to: jiff::Timestamp,
        touched_more: u64,
        left_more: u64,
    },
    /// Something that was left behind.
    LeftBehind(Left<'a>),
    /// Something that was touched.
    Touched(&'a firebreak_model::deeds::Touched),
}

#[derive(Serialize)]
struct Left<'a> {
    leftover: &'a str,
    at: jiff::Timestamp,
    what: &'a str,
    call: &'a str,
    whose: &'a str,
    event_id: &'a str,
}

/// The pieces of a run that hold records of CloudTrail.
pub(super) fn of_calls<'a>(run: &EvidenceRun, pieces: &'a [Piece]) -> Vec<&'a Piece> {
    let is_it = |subject: &Subject<'_>| matches!(subject, Subject::Calls(_) | Subject::Chained);
    let units: Vec<u32> = run.units().iter().filter(|unit| is_it(&unit.subject)).map(|unit| unit.number).collect();
    pieces.iter().filter(|piece| units.contains(&piece.unit)).collect()
}

/// Takes every call of some objects that is the suspects' into a tally. Reads them twice: a record may tell that another
/// one, which came before it, is theirs. An object that is gone, or is not as it was stored, is a gap.
pub(super) async fn count(store: &Store, runs: &[(&EvidenceRun, Vec<&Piece>)]) -> Result<(Tally, Vec<Gap>), UnitError> {
    let mut tally = Tally::default();
    let mut gaps = Vec::new();
    let mut entries = Vec::new();
    for (run, pieces) in runs {
        for piece in pieces {
            entries.extend(piece.read()?.entry.map(|entry| (entry, run.codec)));
        }
    }
    let Some((first, _)) = runs.first() else { return Ok((tally, gaps)) };
    let mut suspects = Suspects::of(&first.calls);
    runs.iter().skip(1).for_each(|(run, _)| suspects.add(&run.calls));
    let parsed = |line: &[u8]| serde_json::from_slice::<Value>(line).ok();
    let mut sound = Vec::new();
    for (entry, codec) in entries {
        let learn = |line: &[u8]| {
            if let Some(record) = parsed(line) {
                suspects.learn(&record);
            }
        };
        match store.lines(&entry, codec, learn).await {
            Ok(()) => sound.push((entry, codec)),
            Err(StoreError::Differs { key }) => gaps.push(Gap {
                what: "calls that were collected before".to_owned(),
                source: ApiCall::new("s3:GetObject", json!({"key": key})),
                lack: Lack::Gone,
                reason: "the object is hidden, gone, or not as it was stored: its calls are not told here".to_owned(),
            }),
            Err(error) => return Err(error.into()),
        }
    }
    for (entry, codec) in &sound {
        let take = |line: &[u8]| {
            let Some(record) = parsed(line) else { return };
            if let Some(deed) = suspects.whose(&record).and_then(|whose| Deed::read(&record, whose)) {
                tally.take(deed);
            }
        };
        store.lines(entry, *codec, take).await?;
    }
    Ok((tally, gaps))
}

/// Makes the document, and stores it as the one object of its unit.
pub(super) async fn collect(work: Work<'_>, unit: &Unit<'_>, pieces: &[Piece]) -> Result<(), UnitError> {
    let run = work.run;
    if !work.store.gives() {
        let call = ApiCall::new("s3:GetObject", json!({"collector": "calls"}));
        let what = "what the calls touched and left behind".to_owned();
        let reason = "the bucket gives nothing back: it is to be seen from the records themselves".to_owned();
        let gaps = vec![Gap { what, source: call, lack: Lack::Denied, reason }];
        let slot = Slot { unit, part: 1, tries: 0 };
        return work.keep(slot, Found { entry: None, gaps }, None).await.map(|_| ());
    }
    let (tally, mut gaps) = count(work.store, &[(run, of_calls(run, pieces))]).await?;
    let mut slot = Slot { unit, part: 1, tries: 0 };
    let asked: Vec<Value> =
        run.calls.questions.iter().map(|question| json!({question.by.as_str(): question.value})).collect();
    let call = ApiCall::new(CALL, json!({"regions": run.calls.regions, "lookupAttributes": asked}));
    let what = format!("what the calls touched and left behind, complete up to {}", run.calls.complete_to());
    if tally.touched_more() + tally.left_more() > 0 {
        let reason = "there are more things than are told apart: the calls themselves are all there".to_owned();
        gaps.push(Gap { what: what.clone(), source: call.clone(), lack: Lack::Rejected, reason });
    }
    loop {
        let mut sink = work.sink(slot)?;
        sink.line(&Line::About {
            calls: tally.calls(),
            refused: tally.refused(),
            of_the_principal: tally.of_the_principal(),
            complete_to: run.calls.complete_to(),
            touched_more: tally.touched_more(),
            left_more: tally.left_more(),
        })
        .await?;
        for left in tally.left() {
            let line = Left {
                leftover: left.kind.as_str(),
                at: left.at,
                what: &left.what,
                call: &left.call,
                whose: left.whose.as_str(),
                event_id: &left.event_id,
            };
            sink.line(&Line::LeftBehind(line)).await?;
        }
        for touched in tally.touched() {
            sink.line(&Line::Touched(touched)).await?;
        }
        let at = clock::now();
        match sink.finish().await {
            Ok(stored) => {
                let sources = vec![Source { call, collected_at: at }];
                let entry = Some(entry(unit, &what, stored, sources, at));
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
