//! Log events of the class `INFREQUENT_ACCESS`, which AWS gives to Logs Insights alone: one query after the other, each about
//! what those before it have left of the slice.
//!
//! A query gives its earliest events, and so many at the most. Where there are more, what came is kept, and the next query
//! begins in the millisecond of the last event, over so much time, halved, that its events should fit. A query may run
//! for longer than an invocation: its id is on record then, and the next one takes it up. AWS counts by the bytes that a
//! query scans: they stand in the manifest.

mod place;
mod rows;

use std::time::Duration;

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::operation::get_query_results::GetQueryResultsOutput;
use aws_sdk_cloudwatchlogs::types::QueryStatus;
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use firebreak_model::evidence::{ApiCall, Found, Gap, Lack, LogGroup, Source, Window};
use serde_json::json;

pub(super) use place::Place;
use place::{at, length, narrowed};
use rows::{Row, Ties};

use super::super::pace::Pace;
use super::super::sink::Sink;
use super::super::{Slot, UnitError, Work, gap};
use super::{Closed, Reader};
use crate::action::ActionError;
use crate::clock;

const START: &str = "logs:StartQuery";
const RESULTS: &str = "logs:GetQueryResults";

/// What `StartQuery` answers where the account runs as many queries as it may.
const TOO_MANY: &str = "LimitExceededException";

/// So often a query is started where there are too many. Between two tries go two, four, eight, sixteen and sixteen polls.
const TRIES: u32 = 6;

/// So many rows are asked for at once where they could be long: an event has 1 MB at the most.
const FEW_ROWS: i32 = 100;

/// The most rows that AWS gives at once.
const ALL_ROWS: i32 = 10_000;

/// What a query gives is no more than what it scanned: where that is so little, in bytes, all of it may come at once.
const LITTLE: f64 = 32_000_000.0;

/// A query that AWS gives up for its time is asked again about half as much, down to this part of a slice.
const SMALLEST_PART: i64 = 8;

/// How a person reads it.
fn by_hand(group: &LogGroup, window: Window) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-/.#".contains(c);
    let name = if group.name.chars().all(plain) { group.name.as_str() } else { "NAME" };
    format!(
        "to be read by hand: `aws logs start-query --region {} --log-group-name {name} --start-time {} --end-time {} --limit \
         10000 --query-string 'fields @timestamp, @logStream, @message, @ingestionTime | sort @timestamp asc'`, then `aws \
         logs get-query-results --query-id ID`",
        group.region,
        window.from.as_second(),
        window.to.as_second().saturating_add(1),
    )
}

/// How a query stands.
enum Stands {
    Complete(GetQueryResultsOutput),
    /// It runs, and the invocation nears its end.
    Runs,
    /// AWS gave it up after an hour.
    TimedOut,
    /// It came to another end.
    Ended(String),
}

/// An object on its way.
struct Draft<'a> {
    sink: Sink<'a>,
    place: Place,
    gaps: Vec<Gap>,
    /// How many queries have given it events, or that there are none.
    queries: u32,
    scanned: f64,
}

/// What became of asking once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It goes on from the place of the draft.
    On,
    /// The invocation nears its end.
    Late,
    /// AWS does not answer.
    Stalled,
}

/// How Logs Insights is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Insights<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) client: &'a Client,
    pub(super) pace: &'a Pace,
}

impl Insights<'_> {
    fn query(window: Window) -> String {
        let (from, to) = (window.from.as_millisecond(), window.to.as_millisecond());
        format!(
            "fields @timestamp, @ingestionTime, @logStream, @message | filter toMillis(@timestamp) >= {from} | filter \
             toMillis(@timestamp) <= {to} | sort @timestamp asc"
        )
    }

    /// `StartQuery` takes whole seconds. That in which the window ends belongs to it, whichever way AWS takes it.
    fn seconds(window: Window) -> (i64, i64) {
        (window.from.as_second(), window.to.as_second().saturating_add(1))
    }

    fn source(&self, work: Work<'_>, window: Window) -> ApiCall {
        let (from, to) = Self::seconds(window);
        let group = self.reader.group;
        ApiCall::new(
            START,
            json!({"region": group.region, "logGroupName": group.name, "startTime": from, "endTime": to,
                   "queryString": Self::query(window), "limit": work.limits.query_events}),
        )
    }

    async fn wait(&self, work: Work<'_>, polls: u32) {
        let wait = work.limits.poll.saturating_mul(polls);
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
    }

    /// Starts a query. Where there are too many it waits.
    async fn start(&self, work: Work<'_>, window: Window) -> Result<String, ActionError> {
        let Self { client, reader: Reader { group, .. }, .. } = self;
        let (from, to) = Self::seconds(window);
        let call = client.start_query().log_group_name(&group.name).start_time(from).end_time(to);
        let call = call.query_string(Self::query(window)).limit(work.limits.query_events.cast_signed());
        let mut tries = 1;
        loop {
            self.pace.turn(&group.region).await;
            let error = match call.clone().send().await {
                Ok(answer) => {
                    let target = group.name.clone();
                    let problem = "a query was started, and has no id".to_owned();
                    return answer.query_id.ok_or(ActionError::Unreadable { target, problem });
                }
                Err(error) => error,
            };
            if error.code() != Some(TOO_MANY) {
                return Err(ActionError::of(START, &group.name, error));
            }
            if tries >= TRIES || clock::now() >= work.deadline {
                return Err(ActionError::Busy { call: START, target: group.name.clone(), source: Box::new(error) });
            }
            self.wait(work, 1 << tries.min(4)).await;
            tries += 1;
        }
    }

    async fn results(&self, id: &str, token: Option<String>, rows: i32) -> Result<GetQueryResultsOutput, ActionError> {
        let Self { client, reader: Reader { group, .. }, .. } = self;
        self.pace.turn(&group.region).await;
        let call = client.get_query_results().query_id(id).set_next_token(token).max_items(rows);
        call.send().await.map_err(|error| ActionError::of(RESULTS, &group.name, error))
    }

    /// Waits for the end of a query.
    async fn end_of(&self, work: Work<'_>, id: &str) -> Result<Stands, ActionError> {
        let mut polls = 1;
        loop {
            let answer = self.results(id, None, FEW_ROWS).await?;
            return Ok(match &answer.status {
                Some(QueryStatus::Complete) => Stands::Complete(answer),
                Some(QueryStatus::Running | QueryStatus::Scheduled) if clock::now() < work.deadline => {
                    self.wait(work, polls).await;
                    polls = (2 * polls).min(8);
                    continue;
                }
                Some(QueryStatus::Running | QueryStatus::Scheduled) => Stands::Runs,
                Some(QueryStatus::Timeout) => Stands::TimedOut,
                other => Stands::Ended(other.as_ref().map_or("none", |status| status.as_str()).to_owned()),
            });
        }
    }

    /// What was not read of a window, for a reason.
    fn lost(&self, work: Work<'_>, window: Window, lack: Lack, reason: &str) -> Gap {
        Gap {
            what: self.reader.what.clone(),
            source: self.source(work, window),
            lack,
            reason: format!("{reason}; {}", by_hand(self.reader.group, window)),
        }
    }

    /// AWS refuses: nothing that follows is read.
    fn refused(&self, work: Work<'_>, draft: &mut Draft<'_>, window: Window, error: &ActionError) {
        let slice = self.reader.slice;
        let gap = gap(&self.reader.what, self.source(work, window), error);
        let rest = Window { from: window.from, to: slice.to };
        let reason = format!(
            "{}: what follows up to {} was not read; {}",
            gap.reason,
            slice.to,
            by_hand(self.reader.group, rest)
        );
        draft.gaps.push(Gap { reason, ..gap });
        draft.place.go_on_from(slice.to.as_millisecond().saturating_add(1));
    }

    /// Asks once, and takes what comes.
    async fn ask(&self, work: Work<'_>, draft: &mut Draft<'_>) -> Result<Asked, UnitError> {
        let slice = self.reader.slice;
        let window = draft.place.window(slice);
        let waits = |error: &ActionError| error.is_transient() && work.is_patient();
        let taken_up = draft.place.query.is_some();
        let id = match &draft.place.query {
            Some(id) => id.clone(),
            None => match self.start(work, window).await {
                Ok(id) => id,
                Err(error) if waits(&error) => return Ok(Asked::Stalled),
                Err(error) => {
                    self.refused(work, draft, window, &error);
                    return Ok(Asked::On);
                }
            },
        };
        draft.place.query = Some(id.clone());
        let stands = match self.end_of(work, &id).await {
            Ok(stands) => stands,
            Err(error) if waits(&error) => return Ok(Asked::Stalled),
            // AWS keeps results for some days.
            Err(ActionError::Gone { .. } | ActionError::Rejected { .. }) if taken_up => {
                draft.place.query = None;
                return Ok(Asked::On);
            }
            Err(error) => {
                self.refused(work, draft, window, &error);
                return Ok(Asked::On);
            }
        };
        draft.place.query = None;
        let (lack, reason) = match stands {
            Stands::Complete(first) => return self.read(work, draft, window, (&id, first)).await,
            Stands::Runs => {
                draft.place.query = Some(id);
                return Ok(Asked::Late);
            }
            Stands::TimedOut if length(window).saturating_mul(SMALLEST_PART) > length(slice) && length(window) > 1 => {
                draft.place.width_ms = length(window) / 2;
                return Ok(Asked::On);
            }
            Stands::Ended(_) if work.is_patient() => return Ok(Asked::Stalled),
            Stands::TimedOut => (Lack::NoAnswer, "AWS gave the query up after an hour".to_owned()),
            Stands::Ended(status) => {
                (Lack::Rejected, format!("the query came to the end `{status}`, whenever it was asked"))
            }
        };
        let reason = format!("{reason}: what is from {} up to {} was not read", window.from, window.to);
        draft.gaps.push(self.lost(work, window, lack, &reason));
        draft.place.go_on_from(window.to.as_millisecond().saturating_add(1));
        Ok(Asked::On)
    }

    /// Takes what a query has found, from its first rows on.
    async fn read(
        &self,
        work: Work<'_>,
        draft: &mut Draft<'_>,
        window: Window,
        (id, first): (&str, GetQueryResultsOutput),
    ) -> Result<Asked, UnitError> {
        let (matched, scanned) =
            first.statistics().map_or((0.0, 0.0), |told| (told.records_matched, told.bytes_scanned));
        let size = if scanned <= LITTLE { ALL_ROWS } else { FEW_ROWS };
        let (from, to) = (window.from.as_millisecond(), window.to.as_millisecond());
        let group = self.reader.group.name.as_str();
        let mut ties = Ties::at(from);
        let (mut rows, mut token, mut page) = (0_u32, None, first);
        loop {
            for row in page.results() {
                rows = rows.saturating_add(1);
                let row = Row::of(row);
                if row.timestamp.is_none_or(|ms| (from..=to).contains(&ms)) {
                    ties.take(row, group, &mut draft.sink).await?;
                }
            }
            let Some(next) = page.next_token.filter(|next| !next.is_empty()) else { break };
            // What came up to the last millisecond is kept, where that leaves something.
            let leaves = !ties.torn && ties.ms > from;
            if leaves && clock::now() >= work.deadline {
                return Ok(draft.cut(&ties, scanned, Asked::Late));
            }
            if token.as_ref() == Some(&next) {
                let reason = format!(
                    "the API repeated a page instead of going on: what is from {} up to {} may be missing",
                    at(ties.ms, window),
                    window.to
                );
                draft.gaps.push(self.lost(work, window, Lack::Rejected, &reason));
                break;
            }
            page = match self.results(id, Some(next.clone()), size).await {
                Ok(page) => page,
                Err(error) if error.is_transient() && work.is_patient() && leaves => {
                    return Ok(draft.cut(&ties, scanned, Asked::Stalled));
                }
                Err(error) if error.is_transient() && work.is_patient() && !ties.torn => {
                    draft.place.query = Some(id.to_owned());
                    return Ok(Asked::Stalled);
                }
                Err(error) => {
                    let gap = gap(&self.reader.what, self.source(work, window), &error);
                    let reason = format!(
                        "{}: what is from {} up to {} was not read wholly",
                        gap.reason,
                        at(ties.ms, window),
                        window.to
                    );
                    draft.gaps.push(self.lost(work, window, gap.lack, &reason));
                    rows = 0;
                    break;
                }
            };
            token = Some(next);
        }
        draft.queries += 1;
        draft.scanned += scanned;
        if ties.unordered {
            let reason = "AWS did not give the events in the order of time: some may be missing";
            draft.gaps.push(self.lost(work, window, Lack::Rejected, reason));
        }
        let most = work.limits.query_events;
        if rows >= most && ties.ms > from && !ties.torn {
            draft.place.go_on_from(ties.ms);
            let left = matched - f64::from(rows) + f64::from(u32::try_from(ties.rows.len()).unwrap_or(most));
            let rest = Window { from: at(ties.ms, window), to: window.to };
            draft.place.width_ms = if matched > f64::from(rows) {
                narrowed(rest, left, most)
            } else {
                // AWS did not count: about as much again.
                (length(rest) / 2).max(ties.ms - from)
            };
            return Ok(Asked::On);
        }
        ties.write(group, &mut draft.sink).await?;
        if rows >= most {
            let reason = format!(
                "{most} events or more are of {}, and a query gives no more: of that millisecond some may be missing",
                at(ties.ms, window)
            );
            draft.gaps.push(self.lost(work, window, Lack::Rejected, &reason));
            draft.place.go_on_from(ties.ms.saturating_add(1));
            return Ok(Asked::On);
        }
        if rows > 0 && matched > f64::from(rows) {
            let reason = format!("AWS counted {matched} events, and gave {rows}");
            draft.gaps.push(self.lost(work, window, Lack::Rejected, &reason));
        }
        draft.place.go_on_from(to.saturating_add(1));
        if rows < most / 2 {
            draft.place.width_ms = draft.place.width_ms.saturating_mul(2).min(length(self.reader.slice));
        }
        Ok(Asked::On)
    }

    /// Writes one object, from a place on.
    pub(super) async fn object(&self, work: Work<'_>, slot: Slot<'_>, begins: &Place) -> Result<Closed, UnitError> {
        let slice = self.reader.slice;
        let sink = work.sink(slot)?;
        let mut draft = Draft { sink, place: begins.clone(), gaps: Vec::new(), queries: 0, scanned: 0.0 };
        let is_done = |place: &Place| place.from_ms > slice.to.as_millisecond();
        let mut asked = Asked::On;
        while asked == Asked::On && !is_done(&draft.place) {
            let full = draft.sink.stored_bytes() >= work.limits.object_bytes;
            if draft.place != *begins && ((full && draft.queries > 0) || clock::now() >= work.deadline) {
                break;
            }
            asked = self.ask(work, &mut draft).await?;
        }
        let Draft { sink, place, gaps, queries, scanned } = draft;
        let next = if is_done(&place) { None } else { Some(place.cursor()?) };
        if place == *begins && gaps.is_empty() {
            return Ok(if asked == Asked::Stalled { Closed::Stalled } else { Closed::Late });
        }
        if queries == 0 {
            // That a query runs, or that nothing was to be had: there is no object.
            return Ok(Closed::Kept(work.keep(slot, Found { entry: None, gaps }, next).await?));
        }
        let read = Window { from: at(begins.from_ms, slice), to: at(place.from_ms.saturating_sub(1), slice) };
        let mut call = self.source(work, read);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole bytes, counted by AWS")]
        if let Some(parameters) = call.parameters.as_object_mut() {
            parameters.insert("queries".to_owned(), json!(queries));
            parameters.insert("bytesScanned".to_owned(), json!(scanned as u64));
        }
        let sources = vec![Source { call, collected_at: clock::now() }];
        self.reader.stored(work, slot, &self.reader.what, sink, (sources, gaps), next).await
    }
}

impl Draft<'_> {
    /// Leaves a query before its last page: the events of the last millisecond are asked for again.
    fn cut(&mut self, ties: &Ties, scanned: f64, why: Asked) -> Asked {
        self.queries += 1;
        self.scanned += scanned;
        let end = self.place.from_ms.saturating_add(self.place.width_ms);
        self.place.go_on_from(ties.ms);
        self.place.width_ms = end.saturating_sub(ties.ms).max(1);
        why
    }
}
