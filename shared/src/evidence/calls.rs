//! What CloudTrail recorded of the keys, sessions and names that an incident is about: each record once, as it is, in
//! objects that end where a page ends.
//!
//! `LookupEvents` gives one answer a question and fifty records a page, the latest first, twice a second in a Region. A
//! record that answers several questions is written for the first of them. What an earlier invocation wrote is read back
//! from the bucket, so that a token which has run out costs a question that is asked again, and no record twice.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_cloudtrail::Client;
use aws_sdk_cloudtrail::operation::lookup_events::LookupEventsOutput;
use aws_sdk_cloudtrail::primitives::DateTime;
use aws_sdk_cloudtrail::types::{Event, LookupAttribute, LookupAttributeKey};
use firebreak_model::deeds::{Suspects, mark};
use firebreak_model::evidence::{
    ApiCall, Ask, By, Cursor, Entry, EvidenceRun, Found, Gap, Lack, MOST_QUESTIONS, Piece, Source, Subject, Unit,
};
use firebreak_model::ids::{self, AccessKeyId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::pace::Pace;
use super::sink::Sink;
use super::store::StoreError;
use super::{End, Slot, UnitError, Work, entry, gap};
use crate::action::ActionError;
use crate::clients;
use crate::clock;

pub(super) const CALL: &str = "cloudtrail:LookupEvents";

/// So often one page is asked for. Between two tries go turns of the Region: one, two, four, eight, sixteen.
const TRIES: u32 = 6;

/// How CloudTrail is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trail<'a> {
    pub(super) config: &'a SdkConfig,
    pub(super) pace: &'a Pace,
}

impl Trail<'_> {
    /// A client for a Region, which tries nothing again by itself: every try takes its turn.
    fn client(&self, region: &ids::Region) -> Client {
        let config = clients::in_region(self.config, region).into_builder();
        clients::cloudtrail(&config.retry_config(RetryConfig::disabled()).build())
    }

    async fn page(
        &self,
        run: &EvidenceRun,
        ask: &Ask,
        token: Option<&String>,
    ) -> Result<LookupEventsOutput, ActionError> {
        let key = match ask.question.by {
            By::AccessKey => LookupAttributeKey::AccessKeyId,
            By::Name => LookupAttributeKey::Username,
        };
        let attribute = LookupAttribute::builder().attribute_key(key).attribute_value(&ask.question.value).build();
        let attribute = attribute.map_err(|error| ActionError::Rejected {
            call: CALL,
            target: ask.region.to_string(),
            source: Box::new(error),
        })?;
        let lookup = self.client(&ask.region).lookup_events().lookup_attributes(attribute).max_results(50);
        let lookup = lookup.start_time(DateTime::from_secs(ask.question.from.as_second()));
        let lookup = lookup.end_time(DateTime::from_secs(run.calls.at.as_second())).set_next_token(token.cloned());
        let mut tries = 1;
        loop {
            self.pace.turn(&ask.region).await;
            match lookup.clone().send().await.map_err(|error| ActionError::of(CALL, ask.region.as_str(), error)) {
                Err(error) if error.is_transient() && tries < TRIES => {
                    self.pace.skip(&ask.region, 1 << (tries - 1));
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// What a question is, for the manifest.
fn source(run: &EvidenceRun, ask: &Ask) -> ApiCall {
    let Ask { region, question } = ask;
    ApiCall::new(
        CALL,
        json!({"region": region, "lookupAttribute": {question.by.as_str(): question.value},
               "startTime": question.from.as_second(), "endTime": run.calls.at.as_second()}),
    )
}

/// What has been asked and found of a unit, up to the end of an object.
#[derive(Debug, Clone)]
struct Place {
    pending: Vec<Ask>,
    token: Option<String>,
    seen: BTreeSet<u128>,
    suspects: Suspects,
    /// How many keys were asked about because a call was found to have made them.
    followed: usize,
    /// Those of them that no object of this unit tells of yet.
    made: Vec<AccessKeyId>,
    /// What is missing, and no object of this unit tells of yet.
    gaps: Vec<Gap>,
}

/// Reads one unit.
struct Reader<'a> {
    trail: Trail<'a>,
    work: Work<'a>,
    unit: &'a Unit<'a>,
    what: String,
}

/// An object on its way.
struct Draft<'a> {
    sink: Option<Sink<'a>>,
    place: Place,
    sources: Vec<Source>,
    answered: bool,
}

/// How the writing of an object ended.
enum Closed {
    Kept(Piece),
    Again,
    Late,
    Stalled,
}

/// The record of an event, as it is: one line. What is no JSON is a text.
fn record(event: &Event) -> (Value, Box<RawValue>) {
    let text = event.cloud_trail_event().unwrap_or_default();
    let value: Value = serde_json::from_str(text).unwrap_or_else(|_| json!({"text": text, "eventID": event.event_id}));
    let on_a_line = !text.contains(['\n', '\r']) && value.is_object();
    let raw = on_a_line.then(|| RawValue::from_string(text.trim().to_owned()).ok()).flatten();
    let raw = raw.or_else(|| RawValue::from_string(value.to_string()).ok());
    (value, raw.unwrap_or_else(|| RawValue::NULL.to_owned()))
}

impl<'a> Reader<'a> {
    fn is_chained(&self) -> bool {
        self.unit.subject == Subject::Chained
    }

    /// Where the unit stands by what is on record, of this unit and of those that it follows.
    async fn place(&self, pieces: &[Piece]) -> Result<Place, UnitError> {
        let run = self.work.run;
        let pending = match self.unit.subject {
            Subject::Calls(region) => run.calls.in_region(region),
            _ => Vec::new(),
        };
        let suspects = Suspects::of(&run.calls);
        let mut place = Place {
            pending,
            token: None,
            seen: BTreeSet::new(),
            suspects,
            followed: 0,
            made: Vec::new(),
            gaps: Vec::new(),
        };
        if self.is_chained() {
            let calls: Vec<u32> = run
                .units()
                .iter()
                .filter(|unit| matches!(unit.subject, Subject::Calls(_)))
                .map(|unit| unit.number)
                .collect();
            let mut new = Vec::new();
            for piece in pieces.iter().filter(|piece| calls.contains(&piece.unit)) {
                new.extend(self.read_back(piece, &mut place).await?);
            }
            place.suspects.nearest_first(&mut new);
            self.follow(&mut place, new);
            let told = place.suspects.not_followed();
            place.gaps.extend(told.into_iter().map(|told| self.gap(ApiCall::new(CALL, json!({})), told)));
        }
        for piece in pieces.iter().filter(|piece| piece.unit == self.unit.number) {
            self.resume(piece, &mut place).await?;
        }
        Ok(place)
    }

    /// Goes on behind an object of this unit.
    async fn resume(&self, piece: &Piece, place: &mut Place) -> Result<(), UnitError> {
        (place.made, place.gaps) = (Vec::new(), Vec::new());
        self.read_back(piece, place).await?;
        place.followed = piece.made.len() + if piece.part == 1 { 0 } else { place.followed };
        place.pending.clone_from(&piece.pending);
        place.token = piece.next.as_ref().map(|next| next.token.clone()).filter(|token| !token.is_empty());
        Ok(())
    }

    /// Takes up what an object holds. Answers the keys of sessions that its calls made.
    async fn read_back(&self, piece: &Piece, place: &mut Place) -> Result<Vec<AccessKeyId>, UnitError> {
        let mut new = Vec::new();
        let Some(entry) = piece.read()?.entry else { return Ok(new) };
        if !self.work.store.gives() {
            let reason = "the bucket gives nothing back: sessions that these calls made were not asked about, and what is \
                          collected behind them may be there twice";
            place.gaps.push(self.gap(ApiCall::new("s3:GetObject", json!({"key": entry.key})), reason.to_owned()));
            return Ok(new);
        }
        let take = |line: &[u8]| {
            let Ok(record) = serde_json::from_slice::<Value>(line) else { return };
            if let Some(id) = record.get("eventID").and_then(Value::as_str) {
                place.seen.insert(mark(id));
            }
            new.extend(place.suspects.learn(&record));
        };
        self.work.store.lines(&entry, self.work.run.codec, take).await?;
        Ok(new)
    }

    /// Has the keys of sessions asked about in every Region.
    fn follow(&self, place: &mut Place, new: Vec<AccessKeyId>) {
        for key in new {
            if place.followed >= MOST_QUESTIONS {
                place.gaps.push(self.gap(
                    ApiCall::new(CALL, json!({"lookupAttribute": {By::AccessKey.as_str(): key}})),
                    format!("more than {MOST_QUESTIONS} sessions were made from what was stolen: this one was not asked about"),
                ));
                continue;
            }
            place.followed += 1;
            let from = self.work.run.calls.questions.iter().map(|question| question.from).min();
            let from = from.unwrap_or(self.work.run.window.from);
            place.pending.extend(self.work.run.calls.about_chained(&key, from));
            place.made.push(key);
        }
    }

    fn gap(&self, source: ApiCall, reason: String) -> Gap {
        Gap { what: self.what.clone(), source, lack: Lack::Rejected, reason }
    }

    /// Writes one object, from a place on. `must` says that it is to be closed and kept however little it holds, should
    /// the invocation end.
    async fn object(&self, slot: Slot<'_>, from: &Place, must: bool) -> Result<(Closed, Place), UnitError> {
        let (work, run) = (self.work, self.work.run);
        let mut draft = Draft { sink: None, place: from.clone(), sources: Vec::new(), answered: false };
        let mut pages = 0_u32;
        while let Some(ask) = draft.place.pending.first().cloned() {
            let token = draft.place.token.clone();
            let page = match self.trail.page(run, &ask, token.as_ref()).await {
                Ok(page) => page,
                // The place is no longer known. The question is asked again; what was written is not written twice.
                Err(ActionError::Rejected { .. }) if token.is_some() => {
                    draft.place.token = None;
                    continue;
                }
                Err(error) if error.is_transient() && run.stalls < work.limits.stalls => {
                    if must && draft.answered {
                        break;
                    }
                    return Ok((Closed::Stalled, draft.place));
                }
                // Nor will the Region answer what else it is asked.
                Err(error) => {
                    draft.place.gaps.push(gap(&self.what, source(run, &ask), &error));
                    draft.place.pending.retain(|other| other.region != ask.region);
                    draft.place.token = None;
                    continue;
                }
            };
            draft.answered = true;
            pages += 1;
            self.take(&mut draft, slot, &ask, &page).await?;
            let next = page.next_token.filter(|next| !next.is_empty());
            let (repeated, too_many) = (next.is_some() && next == token, pages >= work.limits.pages);
            if next.is_none() || repeated || too_many {
                if let (Some(_), true) = (&next, repeated || too_many) {
                    let reason = if repeated {
                        "the API repeated a page instead of going on".to_owned()
                    } else {
                        format!("there are more than the {} calls that were read, the latest first", pages * 50)
                    };
                    draft.place.gaps.push(self.gap(source(run, &ask), reason));
                }
                draft.place.pending.remove(0);
                draft.place.token = None;
                pages = 0;
            } else {
                draft.place.token = next;
            }
            let full = draft.sink.as_mut().is_some_and(|sink| sink.stored_bytes() >= work.limits.object_bytes);
            let late = clock::now() >= work.deadline;
            if late && !full && !must && !draft.place.pending.is_empty() {
                return Ok((Closed::Late, draft.place));
            }
            if full || late {
                break;
            }
        }
        self.close(draft, slot, from).await
    }

    /// Writes the records of a page that are new.
    async fn take(
        &self,
        draft: &mut Draft<'a>,
        slot: Slot<'_>,
        ask: &Ask,
        page: &LookupEventsOutput,
    ) -> Result<(), UnitError> {
        let mut wrote = false;
        for event in page.events() {
            let (value, raw) = record(event);
            let id = event.event_id().or_else(|| value.get("eventID").and_then(Value::as_str)).unwrap_or_default();
            if !draft.place.seen.insert(mark(id)) {
                continue;
            }
            if draft.sink.is_none() {
                draft.sink = Some(self.work.sink(slot)?);
            }
            if let Some(sink) = &mut draft.sink {
                sink.line(&raw).await?;
            }
            wrote = true;
            let new = draft.place.suspects.learn(&value);
            if self.is_chained() {
                self.follow(&mut draft.place, new);
            }
        }
        let call = source(self.work.run, ask);
        if wrote && draft.sources.last().is_none_or(|last| last.call != call) {
            draft.sources.push(Source { call, collected_at: clock::now() });
        }
        Ok(())
    }

    async fn close(&self, draft: Draft<'a>, slot: Slot<'_>, from: &Place) -> Result<(Closed, Place), UnitError> {
        let Draft { sink, mut place, sources, .. } = draft;
        let at = clock::now();
        let (mut gaps, made) = (std::mem::take(&mut place.gaps), std::mem::take(&mut place.made));
        let next = (!place.pending.is_empty()).then(|| Cursor {
            token: place.token.clone().unwrap_or_default(),
            from_ms: self.work.run.window.from.as_millisecond(),
            latest_ms: self.work.run.window.from.as_millisecond(),
        });
        if self.is_chained() && slot.part == 1 && self.work.run.calls.left_out > 0 {
            let left_out = self.work.run.calls.left_out;
            let reason = format!("{left_out} more keys and names were not asked about");
            gaps.push(self.gap(ApiCall::new(CALL, Value::Null), reason));
        }
        let stored = match sink {
            None => None,
            Some(sink) => match sink.finish().await {
                Ok(stored) => Some(stored),
                Err(StoreError::Taken { key }) => {
                    return Ok(match self.work.taken(slot, key).await? {
                        Some(piece) => self.behind(piece, from).await?,
                        None => (Closed::Again, place),
                    });
                }
                Err(error) => return Err(error.into()),
            },
        };
        let ours: Option<Entry> = stored.map(|stored| entry(self.unit, &self.what, stored, sources, at));
        let found = Found { entry: ours.clone(), gaps };
        let piece = self.work.keep_asking(slot, found, next, place.pending.clone(), made).await?;
        if piece.read()?.entry != ours {
            return self.behind(piece, from).await;
        }
        Ok((Closed::Kept(piece), place))
    }

    /// Another invocation was first, and its object may end elsewhere.
    async fn behind(&self, piece: Piece, from: &Place) -> Result<(Closed, Place), UnitError> {
        let mut place = from.clone();
        self.resume(&piece, &mut place).await?;
        Ok((Closed::Kept(piece), place))
    }
}

/// Collects what CloudTrail recorded, behind what is on record: in a Region, or of the sessions that were found made.
pub(super) async fn collect(
    trail: Trail<'_>,
    work: Work<'_>,
    unit: &Unit<'_>,
    pieces: &[Piece],
    must: bool,
) -> Result<End, UnitError> {
    let complete = work.run.calls.complete_to();
    let what = match unit.subject {
        Subject::Calls(region) => format!("calls recorded in {region}, complete up to {complete}"),
        _ => format!("calls of sessions made from stolen ones, complete up to {complete}"),
    };
    let reader = Reader { trail, work, unit, what };
    let mut place = reader.place(pieces).await?;
    let before = pieces.iter().filter(|piece| piece.unit == unit.number).map(|piece| piece.part).max();
    let mut slot = Slot { unit, part: before.map_or(1, |part| part + 1), tries: 0 };
    let mut kept = false;
    loop {
        match reader.object(slot, &place, must && !kept).await? {
            (Closed::Kept(piece), there) => {
                kept = true;
                place = there;
                if piece.next.is_none() {
                    return Ok(End::Done);
                }
                slot = Slot { unit, part: piece.part + 1, tries: 0 };
                if clock::now() >= work.deadline {
                    return Ok(End::Cut(kept));
                }
            }
            (Closed::Again, _) => slot.tries += 1,
            (Closed::Late, _) => return Ok(End::Cut(kept)),
            (Closed::Stalled, _) => return Ok(End::Stalled(kept)),
        }
    }
}
