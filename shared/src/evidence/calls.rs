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
    ApiCall, Ask, By, Cursor, Entry, EvidenceRun, Found, Gap, Lack, MOST_QUESTIONS, Piece, Question, Source, Subject,
    Unit,
};
use firebreak_model::ids::{self, AccessKeyId, Region};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::pace::Pace;
use super::sink::Sink;
use super::store::StoreError;
use super::{End, Slot, UnitError, Work, entry, gap, weight};
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
        (region, question): (&Region, &Question),
        token: Option<&String>,
    ) -> Result<LookupEventsOutput, ActionError> {
        let key = match question.by {
            By::AccessKey => LookupAttributeKey::AccessKeyId,
            By::Name => LookupAttributeKey::Username,
        };
        let attribute = LookupAttribute::builder().attribute_key(key).attribute_value(&question.value).build();
        let attribute = attribute.map_err(|error| ActionError::Rejected {
            call: CALL,
            target: region.to_string(),
            source: Box::new(error),
        })?;
        let lookup = self.client(region).lookup_events().lookup_attributes(attribute).max_results(50);
        let lookup = lookup.start_time(DateTime::from_secs(question.from.as_second()));
        let lookup = lookup.end_time(DateTime::from_secs(run.calls.at.as_second())).set_next_token(token.cloned());
        let mut tries = 1;
        loop {
            self.pace.turn(region).await;
            match lookup.clone().send().await.map_err(|error| ActionError::of(CALL, region.as_str(), error)) {
                Err(error) if error.is_transient() && tries < TRIES => {
                    self.pace.skip(region, 1 << (tries - 1));
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// What a question is, for the manifest.
fn source(run: &EvidenceRun, (region, question): (&Region, &Question)) -> ApiCall {
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
    /// How many pages of the first question were read in its first Region.
    pages: u32,
    seen: BTreeSet<u128>,
    suspects: Suspects,
    /// How many keys were asked about because a call was found to have made them.
    followed: usize,
    /// Those of them that no object of this unit tells of yet.
    made: Vec<AccessKeyId>,
    /// What is missing, and no object of this unit tells of yet.
    gaps: Vec<Gap>,
    /// What was not answered, and likewise.
    unread: Vec<Ask>,
    /// How many sessions were not asked about, and likewise.
    passed_over: u32,
}

impl Place {
    /// What is asked next, and where.
    fn next(&self) -> Option<(Region, Question)> {
        let ask = self.pending.first()?;
        Some((ask.regions.first()?.clone(), ask.question.clone()))
    }

    /// The question has its answer.
    fn answered(&mut self) {
        if let Some(ask) = self.pending.first_mut()
            && !ask.regions.is_empty()
        {
            ask.regions.remove(0);
        }
        self.anew();
    }

    /// A Region is asked nothing more.
    fn give_up(&mut self, region: &Region) {
        for ask in self.pending.iter_mut().filter(|ask| ask.regions.contains(region)) {
            ask.regions.retain(|other| other != region);
            match self.unread.iter_mut().find(|unread| unread.question == ask.question) {
                Some(unread) => unread.regions.push(region.clone()),
                None => self.unread.push(Ask { regions: vec![region.clone()], question: ask.question.clone() }),
            }
        }
        self.anew();
    }

    fn anew(&mut self) {
        self.pending.retain(|ask| !ask.regions.is_empty());
        (self.token, self.pages) = (None, 0);
    }
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
    /// What it takes to tell of all that in a record, in bytes.
    told: usize,
}

impl Draft<'_> {
    fn gap(&mut self, gap: Gap) {
        self.told += weight(&gap);
        self.place.gaps.push(gap);
    }
}

/// Why the writing of an object ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It is full, or nothing is left.
    Full,
    /// The invocation nears its end.
    Late,
    /// AWS does not answer.
    Stalled,
}

/// How the writing of an object ended.
enum Closed {
    Kept(Piece),
    Again,
    /// AWS does not answer, and there is nothing to be kept.
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
            pages: 0,
            seen: BTreeSet::new(),
            suspects,
            followed: 0,
            made: Vec::new(),
            gaps: Vec::new(),
            unread: Vec::new(),
            passed_over: 0,
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
        (place.made, place.gaps, place.unread, place.passed_over) = (Vec::new(), Vec::new(), Vec::new(), 0);
        self.read_back(piece, place).await?;
        place.followed = piece.made.len() + if piece.part == 1 { 0 } else { place.followed };
        place.pending.clone_from(&piece.pending);
        place.token = piece.next.as_ref().map(|next| next.token.clone()).filter(|token| !token.is_empty());
        place.pages = piece.next.as_ref().map_or(0, |next| next.pages);
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

    /// Has the keys of sessions asked about in every Region, the first so many.
    fn follow(&self, place: &mut Place, new: Vec<AccessKeyId>) {
        for key in new {
            if place.followed >= MOST_QUESTIONS {
                place.passed_over = place.passed_over.saturating_add(1);
                continue;
            }
            place.followed += 1;
            let from = self.work.run.calls.questions.iter().map(Question::earliest).min();
            let from = from.unwrap_or(self.work.run.window.from);
            place.pending.push(self.work.run.calls.about_chained(&key, from));
            place.made.push(key);
        }
    }

    fn gap(&self, source: ApiCall, reason: String) -> Gap {
        Gap { what: self.what.clone(), source, lack: Lack::Rejected, reason }
    }

    /// Writes one object, from a place on. What was read is kept wherever it ends: a page costs half a second of what a
    /// Region answers everyone together.
    async fn object(&self, slot: Slot<'_>, from: &Place) -> Result<(Closed, Place, Why), UnitError> {
        let (work, run) = (self.work, self.work.run);
        let mut draft = Draft { sink: None, place: from.clone(), sources: Vec::new(), told: 0 };
        let (mut why, mut answered) = (Why::Full, false);
        while let Some((region, question)) = draft.place.next() {
            let full = draft.sink.as_mut().is_some_and(|sink| sink.stored_bytes() >= work.limits.object_bytes);
            if full || draft.told >= work.limits.record_bytes {
                break;
            }
            if answered && clock::now() >= work.deadline {
                why = Why::Late;
                break;
            }
            let (ask, token) = ((&region, &question), draft.place.token.clone());
            let page = match self.trail.page(run, ask, token.as_ref()).await {
                Ok(page) => page,
                // The place is no longer known. The question is asked again; what was written is not written twice. Its
                // pages count on, so that it ends though no place is ever known.
                Err(ActionError::Rejected { .. }) if token.is_some() => {
                    draft.place.token = None;
                    continue;
                }
                Err(error) if error.is_transient() && work.is_patient() => {
                    if !answered {
                        return Ok((Closed::Stalled, draft.place, Why::Stalled));
                    }
                    why = Why::Stalled;
                    break;
                }
                // Nor will the Region answer what else it is asked.
                Err(error) => {
                    draft.gap(gap(&self.what, source(run, ask), &error));
                    draft.place.give_up(&region);
                    continue;
                }
            };
            answered = true;
            draft.place.pages += 1;
            self.take(&mut draft, slot, ask, &page).await?;
            let next = page.next_token.filter(|next| !next.is_empty());
            let pages = draft.place.pages;
            let reason = match &next {
                Some(_) if next == token => "the API repeated a page instead of going on".to_owned(),
                Some(_) if pages >= work.limits.pages => {
                    format!("there are more than the {} calls that were read, the latest first", pages * 50)
                }
                Some(_) => {
                    draft.place.token = next;
                    continue;
                }
                None => String::new(),
            };
            if !reason.is_empty() {
                draft.gap(self.gap(source(run, ask), reason));
            }
            draft.place.answered();
        }
        let (closed, place) = self.close(draft, slot, from).await?;
        Ok((closed, place, why))
    }

    /// Writes the records of a page that are new.
    async fn take(
        &self,
        draft: &mut Draft<'a>,
        slot: Slot<'_>,
        ask: (&Region, &Question),
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
            draft.told += weight(&call);
            draft.sources.push(Source { call, collected_at: clock::now() });
        }
        Ok(())
    }

    async fn close(&self, draft: Draft<'a>, slot: Slot<'_>, from: &Place) -> Result<(Closed, Place), UnitError> {
        let Draft { sink, mut place, sources, .. } = draft;
        let at = clock::now();
        let (mut gaps, made) = (std::mem::take(&mut place.gaps), std::mem::take(&mut place.made));
        let (unread, passed_over) = (std::mem::take(&mut place.unread), std::mem::take(&mut place.passed_over));
        if passed_over > 0 {
            let reason = format!(
                "{passed_over} more sessions were made from what was stolen than the {MOST_QUESTIONS} that were asked about"
            );
            gaps.push(self.gap(ApiCall::new(CALL, json!({"lookupAttribute": By::AccessKey.as_str()})), reason));
        }
        let next = (!place.pending.is_empty()).then(|| Cursor {
            token: place.token.clone().unwrap_or_default(),
            from_ms: self.work.run.window.from.as_millisecond(),
            latest_ms: self.work.run.window.from.as_millisecond(),
            pages: place.pages,
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
        let found = serde_json::to_string(&Found { entry: ours.clone(), gaps })?;
        let pending = place.pending.clone();
        let piece = Piece { found, next, pending, made, unread, ..self.work.piece(slot) };
        let piece = self.work.keep_piece(piece).await?;
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
        let (closed, there, why) = reader.object(slot, &place).await?;
        match closed {
            Closed::Kept(piece) => {
                kept = true;
                place = there;
                if piece.next.is_none() {
                    return Ok(End::Done);
                }
                slot = Slot { unit, part: piece.part + 1, tries: 0 };
                match why {
                    Why::Stalled => return Ok(End::Stalled(kept)),
                    Why::Full if clock::now() < work.deadline => {}
                    Why::Full | Why::Late => return Ok(End::Cut(kept)),
                }
            }
            Closed::Again => slot.tries += 1,
            Closed::Stalled => return Ok(End::Stalled(kept)),
        }
    }
}
