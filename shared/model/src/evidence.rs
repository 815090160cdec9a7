//! Evidence as the ledger keeps track of it: a run is a fixed list of units, each object that a unit has stored is on
//! record with the cursor behind it, and from these records the manifest follows, whoever makes it and however often.

mod calls;
mod key;
mod manifest;

pub use calls::{Ask, Asked, Before, By, LATE, MOST_QUESTIONS, Question};
pub use key::{PublicKey, Unsuitable};
pub use manifest::{
    ApiCall, Chained, Entry, Gap, Lack, MANIFEST, Manifest, PUBLIC_KEY, SetAside, Signer, Source, Window, is_manifest,
    manifest_name, told,
};

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::action::named;
use crate::ids::{AccessKeyId, AccountId, FunctionArn, IncidentId, Region, sha256_hex};

named!(
    /// Why a run collects.
    Purpose {
        /// What is there when the containment is ordered.
        Snapshot = "snapshot",
        /// The log events from then until some minutes after the deny.
        FollowUp = "follow_up",
        /// Nothing but the ledger, for a report of how things stand now.
        Report = "report",
    }
);

named!(
    /// How objects are compressed.
    Codec {
        /// Zstandard, level 1.
        Zstd = "zstd",
        /// Gzip.
        Gzip = "gzip",
    }
);

impl Codec {
    /// The end of an object's key.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Zstd => "zst",
            Self::Gzip => "gz",
        }
    }

    /// What S3 is told that it is.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Zstd => "application/zstd",
            Self::Gzip => "application/gzip",
        }
    }
}

/// A log group that is read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogGroup {
    /// Where it is.
    pub region: Region,
    /// Its name.
    pub name: String,
    /// No configuration names it, and some name others: it may well not be there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
}

impl std::fmt::Display for LogGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "log group {} in {}", self.name, self.region)
    }
}

/// One piece of work of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit<'a> {
    /// Its number in the run.
    pub number: u32,
    /// What is collected.
    pub subject: Subject<'a>,
    /// The beginning of its objects' keys.
    pub base: String,
}

/// What a unit collects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The incident and its findings.
    Ledger,
    /// The documents of the principal.
    Principal,
    /// The documents of a function.
    Function(&'a FunctionArn),
    /// The events of a log group in a slice of the window.
    Logs(&'a LogGroup, Window),
    /// What CloudTrail recorded in a Region.
    Calls(&'a Region),
    /// What CloudTrail recorded of sessions that the calls found made.
    Chained,
    /// What the calls touched, and what they left behind.
    Deeds,
    /// The incident report.
    Report,
}

impl Subject<'_> {
    /// The name of the collector.
    pub fn collector(&self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Principal => "principal",
            Self::Function(_) => "function",
            Self::Logs(..) => "logs",
            Self::Calls(_) | Self::Chained => "calls",
            Self::Deeds => "deeds",
            Self::Report => "report",
        }
    }

    /// Whether it can be collected only once the other one is.
    pub fn awaits(&self, other: &Subject<'_>) -> bool {
        match self {
            // What the ledger holds is read at the end of the run.
            Self::Ledger => !matches!(other, Subject::Ledger | Subject::Report),
            Self::Chained => matches!(other, Subject::Calls(_)),
            Self::Deeds => matches!(other, Subject::Calls(_) | Subject::Chained),
            Self::Report => !matches!(other, Subject::Report),
            Self::Principal | Self::Function(_) | Self::Logs(..) | Self::Calls(_) => false,
        }
    }

    /// Whether it awaits any: then it is whoever's that finds it can be collected.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Ledger | Self::Chained | Self::Deeds | Self::Report)
    }
}

/// One collection: what it reads is fixed when it begins, so that whoever goes on with it does the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidenceRun {
    /// The version of this layout.
    pub schema: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// Its episode.
    pub episode: u32,
    /// The number of the run in the episode, from 1.
    pub run: u32,
    /// Why.
    pub purpose: Purpose,
    /// The account.
    pub account: AccountId,
    /// Who is contained: kind and name.
    pub principal: String,
    /// The functions whose documents and logs are asked for.
    pub functions: Vec<FunctionArn>,
    /// Their log groups, each once, as the configurations of all their versions named them when the run began.
    pub log_groups: Vec<LogGroup>,
    /// What was not to be known when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// What CloudTrail is asked.
    #[serde(default)]
    pub calls: Asked,
    /// SHA-256 of the playbook that decided.
    pub playbook_digest: String,
    /// A game day's.
    pub drill: bool,
    /// What collects: name and version.
    pub collected_by: String,
    /// How objects are compressed.
    pub codec: Codec,
    /// When it began.
    pub began_at: Timestamp,
    /// The window of log events.
    pub window: Window,
    /// The last manifest of the incident before this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Chained>,
    /// How many invocations in a row were turned away by CloudWatch Logs and got nothing.
    #[serde(default)]
    pub stalls: u32,
    /// Who is at work on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Worker>,
    /// Whose signature the manifest gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Signer>,
    /// The manifest, once it is stored and its signature made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    /// When there was nothing left to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Timestamp>,
}

/// Whoever works on a run: others leave it alone meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// The event that it works for: whoever comes with the same one comes after it has failed. None where it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// By then it is done, or dead, or has handed on.
    pub until: Timestamp,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The manifest's key and digest.
    pub manifest: Chained,
    /// The signature over the manifest's SHA-256: DER, in hex.
    pub signature: String,
    /// How many objects the manifest names.
    pub objects: u32,
    /// How many gaps.
    pub gaps: u32,
    /// Whether the manifest was read back: a bucket of another account gives nothing.
    pub read_back: bool,
    /// Until when nobody can delete the manifest; none where the bucket does not lock what it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
    /// What is missing, in a few words each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// When it was signed.
    pub at: Timestamp,
}

/// So many are told on the page; all gaps are in the manifest.
pub const TOLD_GAPS: usize = 6;

/// What stands in the step's detail before the gaps that are told.
pub const MISSING: &str = "; not collected: ";

/// A slice of the window is no shorter than this.
const SHORTEST_SLICE: SignedDuration = SignedDuration::from_hours(1);

/// A window is cut into no more slices than this.
const MOST_SLICES: i64 = 8;

/// The window in slices that touch and do not overlap: both ends of each belong to it, to the millisecond.
pub fn slices(window: Window) -> Vec<Window> {
    let (from, to) = (window.from.as_millisecond(), window.to.as_millisecond().max(window.from.as_millisecond()));
    let shortest = SHORTEST_SLICE.as_millis().try_into().unwrap_or(i64::MAX);
    let count = ((to - from) / shortest).clamp(1, MOST_SLICES);
    let length = (to - from) / count;
    let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or(window.to);
    (0..count)
        .map(|n| {
            let begins = from + n * length;
            let ends = if n + 1 == count { to } else { from + (n + 1) * length - 1 };
            Window { from: at(begins), to: at(ends) }
        })
        .collect()
}

/// The part of an object's key that stands for a foreign name: never the name itself, which someone chose.
fn file_name(name: &str) -> String {
    sha256_hex(name.as_bytes()).chars().take(16).collect()
}

impl EvidenceRun {
    /// The beginning of all its keys.
    pub fn prefix(&self) -> String {
        let Self { account, incident_id, episode, run, .. } = self;
        format!("incidents/{account}/{incident_id}/{episode:06}/{run:06}")
    }

    /// Its units, in order: what a containment changes first, then the logs, then CloudTrail and what follows from it.
    pub fn units(&self) -> Vec<Unit<'_>> {
        let prefix = self.prefix();
        let slices = slices(self.window);
        let mut parts: Vec<(Subject<'_>, String)> = vec![(Subject::Ledger, format!("{prefix}/ledger/records"))];
        if self.purpose == Purpose::Snapshot {
            parts.push((Subject::Principal, format!("{prefix}/principal/documents")));
            parts.extend(self.functions.iter().map(|function| {
                let base = format!("{prefix}/function/{}", file_name(&function.to_string()));
                (Subject::Function(function), base)
            }));
        }
        let logs = self.log_groups.iter().filter(|_| self.purpose != Purpose::Report);
        for group in logs {
            let name = file_name(&format!("{} {}", group.region, group.name));
            for (n, slice) in slices.iter().enumerate() {
                parts.push((Subject::Logs(group, *slice), format!("{prefix}/logs/{name}-{:02}", n + 1)));
            }
        }
        if self.purpose != Purpose::Report && !self.calls.regions.is_empty() {
            let regions = self.calls.regions.iter();
            parts.extend(regions.map(|region| (Subject::Calls(region), format!("{prefix}/calls/{region}"))));
            parts.push((Subject::Chained, format!("{prefix}/calls/chained")));
            parts.push((Subject::Deeds, format!("{prefix}/deeds/deeds")));
        }
        parts.push((Subject::Report, format!("{prefix}/report/report")));
        let numbered = (1..).zip(parts);
        numbered.map(|(number, (subject, base))| Unit { number, subject, base }).collect()
    }

    /// The key of the report that people read.
    pub fn report(&self) -> String {
        format!("{}/report/report.html", self.prefix())
    }

    /// Whether it reaches everything that the incident is about as it stands.
    pub fn covers(&self, episode: u32, functions: &[FunctionArn]) -> bool {
        self.episode == episode && functions.iter().all(|function| self.functions.contains(function))
    }
}

/// Where reading goes on behind an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The API's own token. Where it is no list that goes on: what is left to be collected, as the collector wrote it.
    pub token: String,
    /// The begin of what the token belongs to, in milliseconds since 1970.
    pub from_ms: i64,
    /// The time of the latest event so far, in milliseconds since 1970: a token lives for a day.
    pub latest_ms: i64,
    /// How many pages were read of what the token belongs to, where that is bounded.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub pages: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_none_yet(count: &u32) -> bool {
    *count == 0
}

impl Cursor {
    /// Behind something that is no list of events.
    pub fn left(token: String) -> Self {
        Self { token, from_ms: 0, latest_ms: 0, pages: 0 }
    }
}

/// One object of a unit, or the end of a unit that has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// The version of this layout.
    pub schema: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// Its episode.
    pub episode: u32,
    /// The run.
    pub run: u32,
    /// The unit.
    pub unit: u32,
    /// Its number in the unit, from 1.
    pub part: u32,
    /// What was found, as JSON text of [`Found`].
    pub found: String,
    /// Where it goes on; none where the unit is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
    /// What CloudTrail is still to be asked then; the token, where there is one, is the first question's in its first Region.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Ask>,
    /// Keys of sessions that the calls up to here were found to have made, and that nobody had asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<AccessKeyId>,
    /// What CloudTrail was asked up to here, and did not answer: a later run asks it again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Ask>,
}

/// What a piece holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The object.
    pub entry: Option<Entry>,
    /// What is missing.
    pub gaps: Vec<Gap>,
}

impl Piece {
    /// The object and the gaps.
    ///
    /// # Errors
    /// Where the text is none that was written here.
    pub fn read(&self) -> Result<Found, serde_json::Error> {
        serde_json::from_str(&self.found)
    }
}

/// An object of a run that is not evidence of it: an earlier try had stored something else there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// The version of this layout.
    pub schema: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// Its episode.
    pub episode: u32,
    /// The run.
    pub run: u32,
    /// Its key in the bucket.
    pub key: String,
}

/// The pieces of each unit that has some, in the order in which they were kept.
pub fn of_each(pieces: Vec<Piece>) -> BTreeMap<u32, Vec<Piece>> {
    let mut of_each: BTreeMap<u32, Vec<Piece>> = BTreeMap::new();
    for piece in pieces {
        of_each.entry(piece.unit).or_default().push(piece);
    }
    for pieces in of_each.values_mut() {
        pieces.sort_by_key(|piece| piece.part);
    }
    of_each
}

/// The partition of an incident's runs.
pub fn run_partition(id: &IncidentId) -> String {
    format!("evidence#{id}")
}

/// The keys of a run.
pub fn run_keys(run: &EvidenceRun) -> (String, String) {
    (run_partition(&run.incident_id), format!("{:06}#{:06}", run.episode, run.run))
}

/// The partition of what a run has stored.
pub fn piece_partition(id: &IncidentId, episode: u32, run: u32) -> String {
    format!("evidence#{id}#{episode:06}#{run:06}")
}

/// The keys of a piece.
pub fn piece_keys(piece: &Piece) -> (String, String) {
    let partition = piece_partition(&piece.incident_id, piece.episode, piece.run);
    (partition, format!("unit#{:06}#{:06}", piece.unit, piece.part))
}

/// The keys of what was set aside.
pub fn aside_keys(aside: &Aside) -> (String, String) {
    let partition = piece_partition(&aside.incident_id, aside.episode, aside.run);
    (partition, format!("aside#{}", file_name(&aside.key)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slices_hold_every_millisecond_of_the_window_once(from in 0_i64..4_000_000_000_000, length in 0_i64..2_000_000_000_000) {
            let at = |ms| Timestamp::from_millisecond(ms).unwrap();
            let cut = slices(Window { from: at(from), to: at(from + length) });
            prop_assert!((1..=8).contains(&cut.len()));
            prop_assert_eq!((cut[0].from, cut[cut.len() - 1].to), (at(from), at(from + length)));
            for pair in cut.windows(2) {
                prop_assert_eq!(pair[0].to.as_millisecond() + 1, pair[1].from.as_millisecond());
                prop_assert!(pair[0].to >= pair[0].from);
            }
        }
    }

    #[test]
    fn a_window_of_less_than_two_hours_is_one_slice() {
        let at = |text: &str| text.parse().unwrap();
        let short = Window { from: at("2026-11-21T02:00:00Z"), to: at("2026-11-21T03:59:59Z") };
        assert_eq!(slices(short), [short]);
        let day = Window { from: at("2026-11-21T00:00:00Z"), to: at("2026-11-22T00:00:00Z") };
        assert_eq!(slices(day).len(), 8);
        let backwards = Window { from: day.to, to: day.from };
        assert_eq!(slices(backwards).len(), 1, "a window without time is read all the same");
    }
}
