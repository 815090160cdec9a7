//! The manifest of a snapshot: every object with its digests, every gap with its reason.

use firebreak_model::ids::{AccountId, FunctionArn, IncidentId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::ActionError;

/// An API call that evidence came from, or should have come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ApiCall {
    /// Such as `logs:FilterLogEvents`.
    pub api: String,
    /// What it was asked.
    pub parameters: Value,
}

impl ApiCall {
    /// A call with these parameters.
    pub fn new(api: &str, parameters: Value) -> Self {
        Self { api: api.to_owned(), parameters }
    }
}

/// One object of the snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its key in the bucket.
    pub key: String,
    /// What it is about: a function's ARN, a principal, the incident.
    pub what: String,
    /// What was asked of AWS for it.
    pub sources: Vec<ApiCall>,
    /// When the last of it was read.
    pub collected_at: Timestamp,
    /// How many JSON documents it holds, one a line.
    pub lines: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// SHA-256 of the bytes as stored; S3 has checked it on the way in.
    pub sha256: String,
    /// Bytes before compression.
    pub content_bytes: u64,
    /// SHA-256 of the bytes before compression.
    pub content_sha256: String,
}

/// Why something is missing, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// It does not exist, or no longer.
    Gone,
    /// AWS refused Firebreak the call.
    Denied,
    /// AWS was busy, and stayed so.
    Throttled,
    /// No answer came.
    NoAnswer,
    /// AWS refused the call as it stood, or answered what makes no sense.
    Rejected,
    /// The time of the invocation was over.
    OutOfTime,
    /// It was read, but could not be stored.
    NotStored,
}

impl Lack {
    pub(crate) fn of(error: &ActionError) -> Self {
        match error {
            ActionError::Gone { .. } => Self::Gone,
            ActionError::Denied { .. } | ActionError::Withheld(_) => Self::Denied,
            ActionError::Busy { .. } => Self::Throttled,
            ActionError::NoAnswer { .. } => Self::NoAnswer,
            ActionError::Quota { .. }
            | ActionError::PolicyGone { .. }
            | ActionError::Rejected { .. }
            | ActionError::Unsigned { .. }
            | ActionError::Unreadable { .. } => Self::Rejected,
        }
    }
}

/// Something that could not be collected, or not wholly.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// What it is about.
    pub what: String,
    /// The call that would have got it.
    pub source: ApiCall,
    /// Why, in a word.
    pub lack: Lack,
    /// Why, in a sentence.
    pub reason: String,
}

/// The window of log events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// From here.
    pub from: Timestamp,
    /// To here.
    pub to: Timestamp,
}

/// The manifest, which lies beside the objects that it names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// The version of this layout.
    pub schema: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// Its episode.
    pub episode: u32,
    /// Which try of this episode.
    pub attempt: u32,
    /// The account.
    pub account: AccountId,
    /// Who is contained: kind and name.
    pub principal: String,
    /// The functions whose documents and logs were asked for.
    pub functions: Vec<FunctionArn>,
    /// SHA-256 of the playbook that decided.
    pub playbook_digest: String,
    /// A game day's.
    pub drill: bool,
    /// What collected it: name and version.
    pub collected_by: String,
    /// When collecting began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The window of log events.
    pub log_window: Window,
    /// What is there.
    pub entries: Vec<Entry>,
    /// What is not, and why.
    pub gaps: Vec<Gap>,
}

/// What a manifest says of its reach: enough to know whether it covers an incident that has grown since.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Reach {
    /// The functions whose documents and logs were asked for.
    pub functions: Vec<FunctionArn>,
}
