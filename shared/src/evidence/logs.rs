//! Log events: every stream of a log group, for a slice of the window, in objects that end where a page ends. Those of the
//! class `INFREQUENT_ACCESS` are asked for otherwise: `insights.rs`.

mod insights;
pub(super) mod retention;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::operation::filter_log_events::FilterLogEventsOutput;
use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use firebreak_model::evidence::{ApiCall, Cursor, Found, Gap, Lack, LogGroup, Piece, Source, Unit, Window};
use firebreak_model::ids;
use serde::Serialize;
use serde_json::json;

use insights::{Insights, Place};

use super::pace::Pace;
use super::store::StoreError;
use super::{End, Slot, UnitError, Work, entry, gap};
use crate::action::ActionError;
use crate::clients;
use crate::clock;

const CALL: &str = "logs:FilterLogEvents";

/// What `FilterLogEvents` answers of a log group of the class `INFREQUENT_ACCESS`.
const NOT_SERVED: &str = "InvalidOperationException";

/// So often a page without events that leads to itself is asked for again.
const REPEATS: u32 = 20;

/// So often one page is asked for. Between two tries go turns of the Region: one, two, four, eight, and then sixteen.
const TRIES: u32 = 8;

/// How logs are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) config: &'a SdkConfig,
    /// How often `FilterLogEvents` is called.
    pub(super) events: &'a Pace,
    /// How often Logs Insights is.
    pub(super) queries: &'a Pace,
}

impl Asking<'_> {
    /// A client for a Region, which sends a call so many times at most. It waits longer for an answer than other clients do,
    /// since what is not collected now may be gone later.
    fn client(&self, region: &ids::Region, attempts: u32) -> Client {
        let mut builder = clients::in_region(self.config, region).into_builder();
        if let Some(retry) = self.config.retry_config().filter(|retry| retry.has_retry()) {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(2))
                .operation_attempt_timeout(Duration::from_secs(10))
                .operation_timeout(Duration::from_secs(45));
            builder = builder.retry_config(retry.clone().with_max_attempts(attempts)).timeout_config(timeouts.build());
        }
        clients::logs(&builder.build())
    }
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names that CloudWatch Logs uses")]
struct Event<'a> {
    log_group: &'a str,
    log_stream: Option<&'a str>,
    /// Milliseconds since 1970, as the function said.
    timestamp: Option<i64>,
    /// Milliseconds since 1970, as CloudWatch Logs says.
    ingestion_time: Option<i64>,
    event_id: Option<&'a str>,
    message: Option<&'a str>,
}

impl<'a> Event<'a> {
    fn of(log_group: &'a str, event: &'a FilteredLogEvent) -> Self {
        Self {
            log_group,
            log_stream: event.log_stream_name(),
            timestamp: event.timestamp(),
            ingestion_time: event.ingestion_time(),
            event_id: event.event_id(),
            message: event.message(),
        }
    }
}

/// The events of a log group in a slice of the window, page by page.
#[derive(Debug)]
struct Reader<'a> {
    client: &'a Client,
    pace: &'a Pace,
    group: &'a LogGroup,
    slice: Window,
    what: String,
}

/// How the writing of an object ended.
enum Closed {
    /// It is full, or holds the last events: what is on record.
    Kept(Piece),
    /// What lies at its place is another's: it is made again elsewhere.
    Again,
    /// Not a page more could be read in time.
    Late,
    /// AWS does not answer.
    Stalled,
    /// The group is of a class whose events are to be had by Logs Insights alone.
    NotServed,
}

impl Reader<'_> {
    fn source(&self, from_ms: i64) -> ApiCall {
        ApiCall::new(
            CALL,
            json!({"region": self.group.region, "logGroupName": self.group.name, "startTime": from_ms,
                   "endTime": self.slice.to.as_millisecond()}),
        )
    }

    /// A page; none where the group is of another class. Each try takes its turn in the Region; whoever is turned away lets
    /// others go by, and gives up where the time of the invocation does.
    async fn page(
        &self,
        work: Work<'_>,
        from_ms: i64,
        token: Option<String>,
    ) -> Result<Option<FilterLogEventsOutput>, ActionError> {
        let call = self.client.filter_log_events().log_group_name(&self.group.name).start_time(from_ms);
        let call = call.end_time(self.slice.to.as_millisecond()).set_next_token(token);
        let mut tries = 1;
        loop {
            self.pace.turn(&self.group.region).await;
            let error = match call.clone().send().await {
                Ok(page) => return Ok(Some(page)),
                Err(error) if error.code() == Some(NOT_SERVED) => return Ok(None),
                Err(error) => ActionError::of(CALL, &self.group.name, error),
            };
            if !error.is_transient() || tries >= TRIES || clock::now() >= work.deadline {
                return Err(error);
            }
            self.pace.skip(&self.group.region, 1 << (tries - 1).min(4));
            tries += 1;
        }
    }

    /// Writes one object, from a cursor on. `must` says that it is to be closed and kept however little it holds, should
    /// the invocation end: each comes at least so far.
    async fn object(
        &self,
        work: Work<'_>,
        slot: Slot<'_>,
        cursor: Option<&Cursor>,
        must: bool,
    ) -> Result<Closed, UnitError> {
        let mut sink = work.sink(slot)?;
        let mut gaps = Vec::new();
        let mut token = cursor.map(|cursor| cursor.token.clone());
        let begins = self.slice.from.as_millisecond();
        let mut from = cursor.map_or(begins, |cursor| cursor.from_ms);
        let mut latest = cursor.map_or(begins, |cursor| cursor.latest_ms);
        let mut answered = false;
        let mut repeated = 0;
        let next = loop {
            let page = match self.page(work, from, token.clone()).await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(Closed::NotServed),
                // A token lives for a day. What follows it is found again by time.
                Err(ActionError::Rejected { .. }) if !answered && token.is_some() => {
                    gaps.push(Gap {
                        what: self.what.clone(),
                        source: self.source(latest),
                        lack: Lack::Rejected,
                        reason: "the place where reading had stopped was no longer known: it went on by time, so that \
                                 some events are here twice"
                            .to_owned(),
                    });
                    (token, from) = (None, latest);
                    continue;
                }
                Err(error) if error.is_transient() && work.is_patient() => {
                    // What was read is kept, if nothing else was in this invocation.
                    if must && answered && token.is_some() {
                        let next = token.map(|token| Cursor { token, from_ms: from, latest_ms: latest, pages: 0 });
                        return self.close(work, (slot, &self.what), sink, gaps, next).await;
                    }
                    return Ok(Closed::Stalled);
                }
                Err(ActionError::Gone { .. }) if self.group.assumed && !answered && slot.part == 1 => {
                    let what = format!("{}: there is none of that name, and no configuration names it", self.what);
                    return self.close(work, (slot, &what), sink, gaps, None).await;
                }
                Err(error) => {
                    // What would lead on is lost with the page.
                    let gap = gap(&self.what, self.source(latest), &error);
                    let reason = format!("{}: what follows up to {} was not read", gap.reason, self.slice.to);
                    gaps.push(Gap { reason, ..gap });
                    if !answered && slot.part == 1 {
                        let piece = work.keep(slot, Found { entry: None, gaps }, None).await?;
                        return Ok(Closed::Kept(piece));
                    }
                    break None;
                }
            };
            answered = true;
            for event in page.events() {
                latest = latest.max(event.timestamp().unwrap_or(latest));
                sink.line(&Event::of(&self.group.name, event)).await?;
            }
            let empty = page.events().is_empty();
            match page.next_token.filter(|next| !next.is_empty()) {
                None => break None,
                // AWS was seen to lead a page without events to itself, and on when it was asked again.
                Some(next) if token.as_ref() == Some(&next) && empty && repeated < REPEATS => repeated += 1,
                Some(next) if token.as_ref() == Some(&next) => {
                    gaps.push(Gap {
                        what: self.what.clone(),
                        source: self.source(from),
                        lack: Lack::Rejected,
                        reason: "the API repeated a page instead of going on".to_owned(),
                    });
                    break None;
                }
                Some(next) => (token, repeated) = (Some(next), 0),
            }
            let full = sink.stored_bytes() >= work.limits.object_bytes;
            let late = clock::now() >= work.deadline;
            if late && !full && !must {
                return Ok(Closed::Late);
            }
            if full || late {
                break token.map(|token| Cursor { token, from_ms: from, latest_ms: latest, pages: 0 });
            }
        };
        self.close(work, (slot, &self.what), sink, gaps, next).await
    }

    async fn close(
        &self,
        work: Work<'_>,
        (slot, what): (Slot<'_>, &str),
        sink: super::Sink<'_>,
        gaps: Vec<Gap>,
        next: Option<Cursor>,
    ) -> Result<Closed, UnitError> {
        let source = Source { call: self.source(self.slice.from.as_millisecond()), collected_at: clock::now() };
        self.stored(work, slot, what, sink, (vec![source], gaps), next).await
    }

    /// Puts an object into the bucket and on record.
    async fn stored(
        &self,
        work: Work<'_>,
        slot: Slot<'_>,
        what: &str,
        sink: super::Sink<'_>,
        (sources, gaps): (Vec<Source>, Vec<Gap>),
        next: Option<Cursor>,
    ) -> Result<Closed, UnitError> {
        let at = clock::now();
        match sink.finish().await {
            Ok(stored) => {
                let entry = Some(entry(slot.unit, what, stored, sources, at));
                Ok(Closed::Kept(work.keep(slot, Found { entry, gaps }, next).await?))
            }
            Err(StoreError::Taken { key }) => Ok(work.taken(slot, key).await?.map_or(Closed::Again, Closed::Kept)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Collects the events of a log group in a slice of the window, behind `latest`, which is on record.
pub(super) async fn collect(
    asking: Asking<'_>,
    work: Work<'_>,
    unit: &Unit<'_>,
    (group, slice): (&LogGroup, Window),
    latest: Option<&Piece>,
) -> Result<End, UnitError> {
    // Of log events every try takes its turn.
    let (client, patient) = (asking.client(&group.region, 1), asking.client(&group.region, 10));
    let reader = Reader { client: &client, pace: asking.events, group, slice, what: group.to_string() };
    let mut slot = Slot { unit, part: latest.map_or(1, |piece| piece.part + 1), tries: 0 };
    let mut cursor = latest.and_then(|piece| piece.next.clone());
    let insights = Insights { reader: &reader, client: &patient, pace: asking.queries };
    let mut place = cursor.as_ref().and_then(Place::behind);
    let mut kept = false;
    loop {
        let closed = match &place {
            Some(place) => insights.object(work, slot, place).await?,
            None => reader.object(work, slot, cursor.as_ref(), !kept).await?,
        };
        match closed {
            Closed::NotServed => place = Some(Place::of(slice)),
            Closed::Kept(piece) => {
                kept = true;
                cursor = piece.next;
                if cursor.is_none() {
                    return Ok(End::Done);
                }
                place = cursor.as_ref().and_then(Place::behind);
                slot = Slot { unit, part: piece.part + 1, tries: 0 };
                if clock::now() >= work.deadline {
                    return Ok(End::Cut(kept));
                }
            }
            Closed::Again => slot.tries += 1,
            Closed::Late => return Ok(End::Cut(kept)),
            Closed::Stalled => return Ok(End::Stalled(kept)),
        }
    }
}
