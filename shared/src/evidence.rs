//! Evidence: what a containment would destroy, and what a thief may destroy meanwhile, copied into the
//! object-locked bucket before anyone has asked for it.
//!
//! A run is a fixed list of units ([`firebreak_model::evidence`]). Each collector writes compressed JSON Lines into the
//! bucket and says what it could not get; none of them stops the others. Every object is on record when it is stored,
//! so that another invocation goes on where one ended, on purpose or not. A signed manifest names every object with its
//! SHA-256, and every gap with its reason. Nothing is ever overwritten. No text that a thief can choose stands in a key:
//! the manifest says which object is about what.

pub mod seal;
pub mod sink;
pub mod snapshot;
pub mod store;

mod calls;
mod deeds;
mod documents;
mod function;
mod ledger;
mod logs;
pub(crate) mod pace;
mod principal;
mod queue;
mod report;
#[cfg(test)]
pub(crate) mod testing;
mod units;

use std::collections::BTreeMap;
use std::time::Duration;

use firebreak_model::SCHEMA;
use firebreak_model::evidence::{Aside, Codec, Cursor, Entry, EvidenceRun, Found, Gap, Lack, Piece, Source, Unit};
use firebreak_model::ids::Region;
use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use crate::action::{ActionError, Permission, Resource};
use crate::ledger::{Ledger, LedgerError};
use sink::{Sink, Stored};
use store::{Access, Store, StoreError};

/// What collecting evidence needs, beside the ledger.
pub const PERMISSIONS: &[Permission] = &[
    Permission { action: "cloudtrail:LookupEvents", on: Resource::Any },
    Permission { action: "iam:GenerateServiceLastAccessedDetails", on: Resource::Role },
    Permission { action: "iam:GenerateServiceLastAccessedDetails", on: Resource::User },
    Permission { action: "iam:GetAccessKeyLastUsed", on: Resource::User },
    Permission { action: "iam:GetGroupPolicy", on: Resource::Group },
    Permission { action: "iam:GetLoginProfile", on: Resource::User },
    Permission { action: "iam:GetPolicy", on: Resource::Policy },
    Permission { action: "iam:GetPolicyVersion", on: Resource::Policy },
    Permission { action: "iam:GetRole", on: Resource::Role },
    Permission { action: "iam:GetRolePolicy", on: Resource::Role },
    Permission { action: "iam:GetServiceLastAccessedDetails", on: Resource::Any },
    Permission { action: "iam:GetUser", on: Resource::User },
    Permission { action: "iam:GetUserPolicy", on: Resource::User },
    Permission { action: "iam:ListAccessKeys", on: Resource::User },
    Permission { action: "iam:ListAttachedGroupPolicies", on: Resource::Group },
    Permission { action: "iam:ListAttachedRolePolicies", on: Resource::Role },
    Permission { action: "iam:ListAttachedUserPolicies", on: Resource::User },
    Permission { action: "iam:ListGroupPolicies", on: Resource::Group },
    Permission { action: "iam:ListGroupsForUser", on: Resource::User },
    Permission { action: "iam:ListMFADevices", on: Resource::User },
    Permission { action: "iam:ListPolicyVersions", on: Resource::Policy },
    Permission { action: "iam:ListRolePolicies", on: Resource::Role },
    Permission { action: "iam:ListUserPolicies", on: Resource::User },
    Permission { action: "kms:Decrypt", on: Resource::Key },
    Permission { action: "kms:GenerateDataKey", on: Resource::Key },
    Permission { action: "kms:GetPublicKey", on: Resource::EvidenceSigningKey },
    Permission { action: "kms:Sign", on: Resource::EvidenceSigningKey },
    Permission { action: "lambda:GetFunction", on: Resource::Function },
    Permission { action: "lambda:GetFunctionCodeSigningConfig", on: Resource::Function },
    Permission { action: "lambda:GetFunctionConcurrency", on: Resource::Function },
    Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
    Permission { action: "lambda:GetLayerVersion", on: Resource::LayerVersion },
    Permission { action: "lambda:GetPolicy", on: Resource::Function },
    Permission { action: "lambda:ListAliases", on: Resource::Function },
    Permission { action: "lambda:ListEventSourceMappings", on: Resource::Any },
    Permission { action: "lambda:ListFunctionEventInvokeConfigs", on: Resource::Function },
    Permission { action: "lambda:ListFunctionUrlConfigs", on: Resource::Function },
    Permission { action: "lambda:ListProvisionedConcurrencyConfigs", on: Resource::Function },
    Permission { action: "lambda:ListTags", on: Resource::Function },
    Permission { action: "lambda:ListVersionsByFunction", on: Resource::Function },
    Permission { action: "logs:DescribeLogGroups", on: Resource::Any },
    Permission { action: "logs:FilterLogEvents", on: Resource::LogGroup },
    Permission { action: "logs:GetQueryResults", on: Resource::LogGroup },
    Permission { action: "logs:StartQuery", on: Resource::LogGroup },
    Permission { action: "s3:GetObject", on: Resource::EvidenceObject },
    Permission { action: "s3:GetObjectRetention", on: Resource::EvidenceObject },
    // Without it S3 says of what is not there that it is forbidden.
    Permission { action: "s3:ListBucket", on: Resource::EvidenceBucket },
    Permission { action: "s3:PutObject", on: Resource::EvidenceObject },
    Permission { action: "sqs:DeleteMessage", on: Resource::EvidenceQueue },
    Permission { action: "sqs:GetQueueAttributes", on: Resource::EvidenceQueue },
    Permission { action: "sqs:ReceiveMessage", on: Resource::EvidenceQueue },
    Permission { action: "sqs:SendMessage", on: Resource::EvidenceQueue },
];

/// Where evidence goes, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bucket.
    pub bucket: String,
    /// The key that encrypts it.
    pub key_arn: String,
    /// Whether it gives back what it took.
    pub access: Access,
    /// The key that signs manifests.
    pub signing_key_arn: String,
    /// The queue by which an invocation has another one go on.
    pub queue_url: String,
    /// How objects are compressed.
    pub codec: Codec,
    /// How long after a snapshot the log is read again.
    pub follow_up: Duration,
    /// The Regions in which CloudTrail is asked.
    pub regions: Vec<Region>,
    /// The stack's name, for the report.
    pub stack: String,
    /// Whether `revoke-sessions` is part of it.
    pub revokes: bool,
}

/// How much at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// An object of log events is closed at the end of the page that fills it, compressed, to this.
    pub object_bytes: u64,
    /// How long a part of an object is; two are held in memory.
    pub part_bytes: usize,
    /// So much of an invocation's time is left for what is under way, and the manifest.
    pub reserve: SignedDuration,
    /// Units that are collected at the same time: bounds memory and the rate of calls.
    pub at_once: usize,
    /// Invocations that go on side by side with a run that is too large for one.
    pub lanes: usize,
    /// So many invocations in a row may be turned away by an API before that is a gap.
    pub stalls: u32,
    /// The record of one object tells so much of where it came from and what is missing, in bytes: an item of the ledger
    /// holds 400 KB, the cursor and the seal among them.
    pub record_bytes: usize,
    /// Pages of CloudTrail, of 50 records each, that one question is asked for.
    pub pages: u32,
    /// Between two calls of CloudTrail in one Region.
    pub pace: Duration,
    /// Between two questions for the policy of a version. Lambda takes 15 such calls a second, from everybody in the
    /// account, and whoever isolates the function makes some of them in the same moment.
    pub policies: Duration,
    /// Between two calls of `FilterLogEvents` in one Region, of all lanes together. The Regions with the lowest quota take five
    /// a second, from everybody in the account.
    pub events: Duration,
    /// So many events a query of Logs Insights is asked for: 10,000 is what every Region gives.
    pub query_events: u32,
    /// Between two calls of Logs Insights in one Region.
    pub queries: Duration,
    /// So long the end of a query is waited for at first, and twice as long each time, up to eight times as long.
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            object_bytes: 32 << 20,
            part_bytes: sink::PART_BYTES,
            reserve: SignedDuration::from_secs(90),
            at_once: 3,
            lanes: 4,
            stalls: 5,
            record_bytes: 128 << 10,
            pages: 2_000,
            pace: crate::trace::PACE,
            policies: Duration::from_millis(100),
            events: Duration::from_millis(200),
            query_events: 10_000,
            queries: Duration::from_millis(250),
            poll: Duration::from_secs(1),
        }
    }
}

/// Why a unit could not be carried on.
#[derive(Debug, thiserror::Error)]
enum UnitError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("what the ledger holds of a unit cannot be read")]
    Unreadable(#[from] serde_json::Error),
}

impl UnitError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Ledger(error) => error.is_transient(),
            Self::Unreadable(_) => false,
        }
    }
}

/// How far a unit came in this invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// All of it is on record.
    Done,
    /// The invocation nears its end. Whether something was put on record.
    Cut(bool),
    /// AWS does not answer for now. Whether something was put on record.
    Stalled(bool),
}

/// What the collectors of a run are given.
#[derive(Debug, Clone, Copy)]
struct Work<'a> {
    store: &'a Store,
    ledger: &'a Ledger,
    run: &'a EvidenceRun,
    limits: Limits,
    /// When collecting must end.
    deadline: Timestamp,
    /// What each unit has on record.
    before: &'a BTreeMap<u32, Vec<Piece>>,
}

/// So often an object is tried under another key, where something else lies already.
const MOST_TRIES: u32 = 8;

/// An object that is being written: one part of a unit.
#[derive(Debug, Clone, Copy)]
struct Slot<'a> {
    unit: &'a Unit<'a>,
    part: u32,
    /// How often something else was met under its key.
    tries: u32,
}

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Documents or events, one a line.
    Lines,
    /// The same, with what nobody should read who reads the rest: their keys tell them apart.
    Secrets,
    /// A code package, as it came.
    Package,
}

impl<'a> Work<'a> {
    fn sink(&self, slot: Slot<'_>) -> Result<Sink<'a>, StoreError> {
        self.sink_of(slot, Form::Lines)
    }

    fn sink_of(&self, slot: Slot<'_>, form: Form) -> Result<Sink<'a>, StoreError> {
        let again = if slot.tries == 0 { String::new() } else { format!(".{}", slot.tries + 1) };
        let codec = self.run.codec;
        let (ending, codec) = match form {
            Form::Lines => (format!("jsonl.{}", codec.extension()), Some(codec)),
            Form::Secrets => (format!("secrets.jsonl.{}", codec.extension()), Some(codec)),
            Form::Package => ("zip".to_owned(), None),
        };
        let key = format!("{}-{:04}{again}.{ending}", slot.unit.base, slot.part);
        Sink::in_parts_of(self.store, key, codec, self.limits.part_bytes)
    }

    /// What a unit has on record, in order.
    fn before(&self, unit: &Unit<'_>) -> &'a [Piece] {
        self.before.get(&unit.number).map_or(&[], Vec::as_slice)
    }

    /// Everything that the run has on record.
    fn pieces(&self) -> Vec<Piece> {
        self.before.values().flatten().cloned().collect()
    }

    /// Whether what AWS does not answer for now is asked for once more, rather than a gap.
    fn is_patient(&self) -> bool {
        self.run.stalls < self.limits.stalls
    }

    fn piece(&self, slot: Slot<'_>) -> Piece {
        let EvidenceRun { incident_id, episode, run, .. } = self.run;
        let incident_id = incident_id.clone();
        let (unit, part) = (slot.unit.number, slot.part);
        Piece {
            schema: SCHEMA,
            incident_id,
            episode: *episode,
            run: *run,
            unit,
            part,
            found: String::new(),
            next: None,
            pending: Vec::new(),
            made: Vec::new(),
            unread: Vec::new(),
        }
    }

    /// Puts an object on record. Answers what is on record now: where another invocation was first, its object, and
    /// ours lies aside.
    async fn keep(&self, slot: Slot<'_>, found: Found, next: Option<Cursor>) -> Result<Piece, UnitError> {
        self.keep_piece(Piece { found: serde_json::to_string(&found)?, next, ..self.piece(slot) }).await
    }

    async fn keep_piece(&self, piece: Piece) -> Result<Piece, UnitError> {
        if self.ledger.keep_piece(&piece).await? {
            return Ok(piece);
        }
        let Some(first) = self.ledger.piece(&piece).await? else { return Ok(piece) };
        let key = |found: &Found| found.entry.as_ref().map(|entry| entry.key.clone());
        if let Some(ours) = key(&piece.read()?)
            && key(&first.read()?).as_ref() != Some(&ours)
        {
            self.set_aside(ours).await?;
        }
        Ok(first)
    }

    /// Something else lies where an object was to go: an earlier try, killed before it was on record, met other answers.
    /// Both are kept. Answers what another invocation has put on record meanwhile, or nothing: then the object is to be
    /// made again, under another key.
    async fn taken(&self, slot: Slot<'_>, key: String) -> Result<Option<Piece>, UnitError> {
        if let Some(first) = self.ledger.piece(&self.piece(slot)).await? {
            return Ok(Some(first));
        }
        if slot.tries + 1 >= MOST_TRIES {
            return Err(StoreError::Taken { key }.into());
        }
        warn!("`{key}` holds something else: it is set aside");
        self.set_aside(key).await?;
        Ok(None)
    }

    async fn set_aside(&self, key: String) -> Result<(), LedgerError> {
        let EvidenceRun { incident_id, episode, run, .. } = self.run;
        let aside = Aside { schema: SCHEMA, incident_id: incident_id.clone(), episode: *episode, run: *run, key };
        self.ledger.set_aside(&aside).await
    }
}

/// An object, as the manifest names it.
fn entry(unit: &Unit<'_>, what: &str, stored: Stored, sources: Vec<Source>, collected_at: Timestamp) -> Entry {
    Entry {
        key: stored.key,
        what: what.to_owned(),
        collector: unit.subject.collector().to_owned(),
        sources,
        collected_at,
        lines: stored.lines,
        bytes: stored.bytes,
        sha256: stored.sha256,
        content_bytes: stored.content_bytes,
        content_sha256: stored.content_sha256,
    }
}

/// Why something is missing, in a word.
fn lack(error: &ActionError) -> Lack {
    match error {
        ActionError::Gone { .. } => Lack::Gone,
        ActionError::Denied { .. } | ActionError::Withheld(_) => Lack::Denied,
        ActionError::Busy { .. } => Lack::Throttled,
        ActionError::NoAnswer { .. } => Lack::NoAnswer,
        ActionError::Quota { .. }
        | ActionError::PolicyGone { .. }
        | ActionError::Rejected { .. }
        | ActionError::Unsigned { .. }
        | ActionError::Unreadable { .. } => Lack::Rejected,
    }
}

/// The longest reason of a gap, in characters: AWS repeats in its answers what it was asked.
const LONGEST_REASON: usize = 1_000;

/// Something that AWS did not give.
fn gap(what: &str, source: firebreak_model::evidence::ApiCall, error: &ActionError) -> Gap {
    let mut reason = crate::telemetry::chain(error);
    if let Some((end, _)) = reason.char_indices().nth(LONGEST_REASON) {
        reason.truncate(end);
        reason.push('…');
    }
    Gap { what: what.to_owned(), source, lack: lack(error), reason }
}

/// What it takes to tell of something in a record, in bytes, with when it was: whose length differs from time to time, and
/// what is cut by this is the same whenever it is.
fn weight(of: &impl serde::Serialize) -> usize {
    // What cannot be written down fails where it is written.
    serde_json::to_string(of).map_or(0, |text| text.len()) + 64
}
