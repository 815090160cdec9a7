//! The manifest of a run: every object with its digests, every gap with its reason, and the manifest before it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EvidenceRun, Found, Purpose};
use crate::SCHEMA;
use crate::action::named;
use crate::ids::{AccountId, FunctionArn, IncidentId};

/// The name of a manifest, beside what it names. Its signature has the same and `.sig`: DER, as
/// `openssl dgst -sha256 -verify` reads it.
pub const MANIFEST: &str = "manifest.json";

/// The name of a run's manifest where so many of its places held something else: another name for each.
pub fn manifest_name(taken: u32) -> String {
    if taken == 0 { MANIFEST.to_owned() } else { format!("manifest.{}.json", taken + 1) }
}

/// Whether an object of that name could be a manifest.
pub fn is_manifest(name: &str) -> bool {
    let number = name.strip_prefix("manifest.").and_then(|rest| rest.strip_suffix(".json"));
    let again = number.and_then(|number| number.parse::<u32>().ok()).filter(|number| *number > 1);
    name == MANIFEST || again.is_some_and(|number| manifest_name(number - 1) == name)
}

/// The name of the key that it was signed with: PEM.
pub const PUBLIC_KEY: &str = "public-key.pem";

/// An API call that evidence came from, or should have come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// A call, and when it was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The call.
    pub call: ApiCall,
    /// When the last of its answers came.
    pub collected_at: Timestamp,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its key in the bucket.
    pub key: String,
    /// What it is about: a function's ARN, a log group, a principal, the incident.
    pub what: String,
    /// Which collector wrote it.
    pub collector: String,
    /// What was asked of AWS for it. Of documents, one for each line.
    pub sources: Vec<Source>,
    /// When the last of it was read.
    pub collected_at: Timestamp,
    /// How many JSON documents it holds, one a line.
    pub lines: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// SHA-256 of the bytes as stored.
    pub sha256: String,
    /// Bytes before compression.
    pub content_bytes: u64,
    /// SHA-256 of the bytes before compression.
    pub content_sha256: String,
}

named!(
    /// Why something is missing, in a word.
    Lack {
        /// It does not exist, or no longer.
        Gone = "gone",
        /// It was kept for so long, and no longer.
        Expired = "expired",
        /// AWS refused Firebreak the call.
        Denied = "denied",
        /// AWS was busy, and stayed so.
        Throttled = "throttled",
        /// No answer came.
        NoAnswer = "no_answer",
        /// AWS refused the call as it stood, or answered what makes no sense.
        Rejected = "rejected",
        /// It came, and is not what AWS says that it is.
        Differs = "differs",
        /// There is more than is collected.
        TooMany = "too_many",
    }
);

impl Lack {
    /// The same for a person.
    pub fn said(self) -> &'static str {
        match self {
            Self::Gone => "it does not exist, or no longer",
            Self::Expired => "it is kept no longer",
            Self::Denied => "Firebreak was denied it",
            Self::Throttled => "AWS turned Firebreak away",
            Self::NoAnswer => "no answer came",
            Self::Rejected => "AWS refused the call, or its answer made no sense",
            Self::Differs => "it is not what AWS says that it is",
            Self::TooMany => "there is more than Firebreak collects",
        }
    }
}

/// Something that could not be collected, or not wholly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Gaps in a few words: of what, why, and which call would have got it. Those of one thing for one reason are told once.
pub fn told(gaps: &[Gap]) -> Vec<String> {
    let mut alike: Vec<(&Gap, usize)> = Vec::new();
    for gap in gaps {
        match alike.iter_mut().find(|(first, _)| (&first.what, first.lack) == (&gap.what, gap.lack)) {
            Some((_, count)) => *count += 1,
            None => alike.push((gap, 1)),
        }
    }
    let said = |(gap, count): &(&Gap, usize)| {
        let more = if *count > 1 { format!(" and {} more calls", count - 1) } else { String::new() };
        format!("{}: {} ({}{more})", gap.what, gap.lack.said(), gap.source.api)
    };
    alike.iter().map(said).collect()
}

/// An object that lies under the run's keys and is not what the run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// Its key.
    pub key: String,
    /// Its length; none where the bucket does not give what it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// SHA-256 of it; none likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A window of time, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// From here.
    pub from: Timestamp,
    /// To here.
    pub to: Timestamp,
}

/// A manifest, by its key and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chained {
    /// Its key in the bucket.
    pub key: String,
    /// SHA-256 of it.
    pub sha256: String,
}

/// Whose signature a manifest carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The KMS key.
    pub key_arn: String,
    /// Its public half: the DER of its `SubjectPublicKeyInfo`, in hex.
    pub public_key: String,
    /// SHA-256 of that DER.
    pub fingerprint: String,
}

/// The manifest, which lies beside the objects that it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this layout.
    pub schema: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// Its episode.
    pub episode: u32,
    /// The run of this episode.
    pub run: u32,
    /// Why it collected.
    pub purpose: Purpose,
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
    /// When the last object was read.
    pub ended_at: Timestamp,
    /// The window of log events.
    pub log_window: Window,
    /// The manifest before this one; none where it is the incident's first.
    pub previous: Option<Chained>,
    /// Whose signature it carries.
    pub signed_with: Signer,
    /// What is there.
    pub entries: Vec<Entry>,
    /// What is not, and why.
    pub gaps: Vec<Gap>,
    /// What lies beside it and is no part of it.
    pub set_aside: Vec<SetAside>,
}

impl Manifest {
    /// The manifest of a run that found this: the same, byte for byte, whoever makes it.
    pub fn of(run: &EvidenceRun, signer: &Signer, found: Vec<Found>, set_aside: Vec<SetAside>) -> Self {
        let mut entries = Vec::new();
        let mut gaps = run.gaps.clone();
        for one in found {
            entries.extend(one.entry);
            gaps.extend(one.gaps);
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let named: BTreeSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let mut set_aside: Vec<_> = set_aside.into_iter().filter(|one| !named.contains(one.key.as_str())).collect();
        set_aside.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            schema: SCHEMA,
            incident_id: run.incident_id.clone(),
            episode: run.episode,
            run: run.run,
            purpose: run.purpose,
            account: run.account.clone(),
            principal: run.principal.clone(),
            functions: run.functions.clone(),
            playbook_digest: run.playbook_digest.clone(),
            drill: run.drill,
            collected_by: run.collected_by.clone(),
            began_at: run.began_at,
            ended_at: entries.iter().map(|entry| entry.collected_at).max().unwrap_or(run.began_at),
            log_window: run.window,
            previous: run.previous.clone(),
            signed_with: signer.clone(),
            entries,
            gaps,
            set_aside,
        }
    }

    /// As it is stored.
    ///
    /// # Errors
    /// Where it cannot be written down.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut body = serde_json::to_vec_pretty(self)?;
        body.push(b'\n');
        Ok(body)
    }
}
