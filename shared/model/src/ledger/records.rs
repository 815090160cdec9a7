//! The records beside the incident, and the keys of all.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Incident, StepState};
use crate::action::{ActionId, FunctionName};
use crate::chain::Link;
use crate::decision::{Decision, Mode};
use crate::deployed::Deployed;
use crate::evidence::{self, Aside, EvidenceRun, Piece};
use crate::finding::{Format, Subject};
use crate::ids::{AccountId, FindingKey, IncidentId, PolicyArn, Region, RoleName, sha256_hex};
use crate::ladder::Refusal;
use crate::plan::{Plan, Target};
use crate::principal::Principal;
use crate::tamper::Tamper;
use crate::usage::{self, RoleUsage};
use crate::watch::{WATCHES, Watch};

/// A step of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The version of this layout.
    pub schema: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// The episode of the incident.
    pub episode: u32,
    /// `<action id>@<target>`.
    pub step: String,
    /// What is done.
    pub action: ActionId,
    /// To what.
    pub target: Target,
    /// By whom.
    pub owner: FunctionName,
    /// Where it stands.
    pub state: StepState,
    /// What was there before, as JSON text: written once, before `apply`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior: Option<String>,
    /// What happened, in a sentence.
    pub detail: String,
    /// Why a rung of the ladder was refused for good: what holds in its place, the rung below says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// The policies that fill the quota which refused it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filled_by: Vec<PolicyArn>,
    /// How often it was tried.
    pub attempts: u32,
    /// When the plan came in force: the clock of "finding to deny" starts here.
    pub ordered_at: Timestamp,
    /// When the prior state was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intended_at: Option<Timestamp>,
    /// When the call that made the change had answered, or the change was first seen to be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Timestamp>,
    /// When it was read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Timestamp>,
    /// When it was first read back in the episode: what is put back later does not move it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_verified_at: Option<Timestamp>,
    /// When it was undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverted_at: Option<Timestamp>,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// One update of a finding, as received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FindingRecord {
    /// The version of this layout.
    pub schema: u32,
    /// The key of this update.
    pub finding_key: FindingKey,
    /// The incident that it opened or joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_id: Option<IncidentId>,
    /// Its id.
    pub finding_id: String,
    /// Its type, or `malformed`.
    pub finding_type: String,
    /// 1.0–10.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<f64>,
    /// The account that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The Region that it was found in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Who sent it: `guardduty`, `securityhub`, `cloudtrail`, `drill`, or `malformed`.
    pub source: String,
    /// The format that it came in; none where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// What the playbook says.
    pub decision: Decision,
    /// What is done.
    pub effective: Decision,
    /// The mode that was in force.
    pub mode: Mode,
    /// The rule that decided.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// SHA-256 of the playbook.
    pub playbook_digest: String,
    /// What it points at.
    pub subjects: Vec<Subject>,
    /// The plan that mode or a guard rail kept from being carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_be: Option<Plan>,
    /// When the activity was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// When it was last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// When the invocation that recorded it began.
    pub received_at: Timestamp,
    /// The event as received, as JSON text, cut where it is too long.
    pub event: String,
    /// Whether it was cut.
    pub event_truncated: bool,
    /// SHA-256 of the whole event.
    pub event_sha256: String,
}

impl FindingRecord {
    /// The part of the partition key after `finding#`: all updates of a finding share it.
    pub fn subject(&self) -> String {
        match &self.incident_id {
            Some(id) => id.to_string(),
            None => format!("unattributed-{}", FindingKey::of(&self.finding_id, "")),
        }
    }
}

/// The pause: while it is there, no new containment begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The version of this layout.
    pub schema: u32,
    /// Since when.
    pub since: Timestamp,
    /// Set by whom, as the request says.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The id of the invocation.
    pub invocation: String,
}

/// A page that was sent: each occasion pages once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRecord {
    /// The version of this layout.
    pub schema: u32,
    /// The incident id, or the subject of a finding.
    pub subject: String,
    /// The episode of the incident; 0 for a finding.
    pub episode: u32,
    /// What it was about.
    pub occasion: String,
    /// When.
    pub sent_at: Timestamp,
}

/// A page that is being sent: whoever else would send it leaves it, until it is on record as sent, or the claim is old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageClaim {
    /// The version of this layout.
    pub schema: u32,
    /// As in the page's record.
    pub subject: String,
    /// As there.
    pub episode: u32,
    /// As there.
    pub occasion: String,
    /// A digest of the event that the page is sent on: what failed on it goes on at once when it comes again.
    pub on: String,
    /// Since when.
    pub since: Timestamp,
}

/// A revocation that outlives its release, until the longest session has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationRecord {
    /// The version of this layout.
    pub schema: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// Whose sessions.
    pub principal: Principal,
    /// When no session from before the release can be alive any more.
    pub ends_at: Timestamp,
    /// What is to end: all sessions from before a time, or the single ones that `principal`, a role, owes to chaining.
    #[serde(default = "of_the_principal")]
    pub action: ActionId,
    /// The episode whose sessions are denied; 0 where all are.
    #[serde(default)]
    pub episode: u32,
}

fn of_the_principal() -> ActionId {
    ActionId::RevokeSessions
}

/// The sessions that were made from what was stolen, as far as CloudTrail tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRecord {
    /// The version of this layout.
    pub schema: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// The episode of the incident.
    pub episode: u32,
    /// The sessions, in the order in which they were found.
    pub sessions: Vec<Link>,
    /// The Regions whose records were read to the end.
    pub regions: Vec<Region>,
    /// What was not read or not followed, a sentence each.
    pub gaps: Vec<String>,
    /// How often CloudTrail was asked.
    pub rounds: u32,
    /// The time up to which CloudTrail was complete at the last look, as far as AWS promises.
    pub complete_to: Timestamp,
    /// When nothing more could be found: CloudTrail was complete up to after the last deny.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
    /// When it was last written.
    pub updated_at: Timestamp,
}

impl ChainRecord {
    /// This search's record, to be written over what is on record: what others found stays. Which of the two looked later
    /// says where was read, and how complete that is.
    #[must_use]
    pub fn beside(mut self, other: Option<&Self>) -> Self {
        let Some(other) = other else { return Self { rounds: 1, ..self } };
        let is_new = |link: &&Link| !self.sessions.iter().any(|mine| mine.session == link.session);
        let more: Vec<Link> = other.sessions.iter().filter(is_new).cloned().collect();
        self.sessions.extend(more);
        self.rounds = other.rounds.saturating_add(1);
        if other.complete_to > self.complete_to {
            self.regions.clone_from(&other.regions);
            self.gaps.clone_from(&other.gaps);
            (self.complete_to, self.settled_at) = (other.complete_to, other.settled_at);
        }
        self
    }
}

/// A record that one of our functions refused to act on, because it is not as one of them wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgeryRecord {
    /// The version of this layout.
    pub schema: u32,
    /// The incident that the record is about.
    pub incident_id: IncidentId,
    /// The keys of the record.
    pub record: String,
    /// Tells the state that was refused from another one of the same record.
    pub digest: String,
    /// What is wrong with it.
    pub problem: String,
    /// When it was found.
    pub found_at: Timestamp,
}

/// How Firebreak's own parts were found by the guard's last sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsRecord {
    /// The version of this layout.
    pub schema: u32,
    /// What is missing or changed, each in a sentence, in order; empty where all is there.
    pub missing: Vec<String>,
    /// Since when it is so.
    pub since: Timestamp,
}

/// Any record that the ledger's stream can carry, told apart by `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// An incident.
    Incident(Box<Incident>),
    /// A finding.
    Finding(Box<FindingRecord>),
    /// A step.
    Step(Box<StepRecord>),
    /// A page.
    Page(PageRecord),
    /// A page that is being sent, in the place of its record.
    Paging(PageClaim),
    /// The pause.
    Pause(Pause),
    /// The breaker's counter.
    Breaker {},
    /// A revocation that is still in place.
    Revocation(RevocationRecord),
    /// A record that was refused.
    Forgery(ForgeryRecord),
    /// The sessions that a thief made from stolen ones.
    Chain(Box<ChainRecord>),
    /// A containment that the guard watches.
    Watch(Box<Watch>),
    /// Something that somebody did against a containment or against Firebreak.
    Tamper(Box<Tamper>),
    /// How Firebreak's own parts were found.
    Parts(PartsRecord),
    /// How they were when they were deployed.
    Deployed(Deployed),
    /// Who runs as a role.
    Inventory(RoleUsage),
    /// A collection of evidence.
    Evidence(Box<EvidenceRun>),
    /// An object that it stored.
    Piece(Box<Piece>),
    /// An object that is none of its own.
    Aside(Aside),
}

impl Record {
    /// Partition and sort key.
    pub fn keys(&self) -> (String, String) {
        match self {
            Self::Incident(r) => incident_keys(&r.incident_id),
            Self::Finding(r) => (format!("finding#{}", r.subject()), r.finding_key.to_string()),
            Self::Step(r) => (step_partition(r.owner, &r.incident_id), step_sort(r.episode, &r.step)),
            Self::Page(r) => (format!("page#{}", r.subject), step_sort(r.episode, &r.occasion)),
            Self::Paging(r) => (format!("page#{}", r.subject), step_sort(r.episode, &r.occasion)),
            Self::Pause(_) => pause_keys(),
            Self::Breaker {} => (String::new(), String::new()),
            Self::Revocation(r) => (REVOCATIONS.to_owned(), revocation_sort(r)),
            Self::Chain(r) => chain_keys(&r.incident_id, r.episode),
            Self::Watch(r) => watch_keys(&r.incident_id),
            Self::Tamper(r) => (tamper_partition(&r.subject()), r.key.clone()),
            Self::Parts(_) => parts_keys(),
            Self::Deployed(_) => deployed_keys(),
            Self::Forgery(r) => (forgery_partition(&r.incident_id), r.digest.clone()),
            Self::Inventory(r) => inventory_keys(&r.account, &r.role),
            Self::Evidence(r) => evidence::run_keys(r),
            Self::Piece(r) => evidence::piece_keys(r),
            Self::Aside(r) => evidence::aside_keys(r),
        }
    }
}

/// The partition of revocations that are still in place.
pub const REVOCATIONS: &str = "revocation";

/// The partition of the records about an incident that were refused.
pub fn forgery_partition(id: &IncidentId) -> String {
    format!("forgery#{id}")
}

/// By the time of its end. An incident has one revocation of its own, and one in each role that was chained into.
fn revocation_sort(revocation: &RevocationRecord) -> String {
    let own = format!("{}#{}", revocation.ends_at, revocation.incident_id);
    match revocation.action {
        ActionId::RevokeChainedSessions => {
            let role = revocation.principal.unique_id.as_ref().map_or("", |id| id.as_str());
            format!("{own}#{role}#{:06}", revocation.episode)
        }
        _ => own,
    }
}

/// The keys of the sessions that were found for an episode of an incident.
pub fn chain_keys(id: &IncidentId, episode: u32) -> (String, String) {
    (format!("chain#{id}"), format!("{episode:06}"))
}

/// The keys of the guard's watch over an incident.
pub fn watch_keys(id: &IncidentId) -> (String, String) {
    (WATCHES.to_owned(), id.to_string())
}

/// The partition of what was done against an incident, or against Firebreak itself.
pub fn tamper_partition(subject: &str) -> String {
    format!("tamper#{subject}")
}

/// The keys of how Firebreak's own parts were found.
pub fn parts_keys() -> (String, String) {
    ("parts".to_owned(), "parts".to_owned())
}

/// The keys of how they were when they were deployed.
pub fn deployed_keys() -> (String, String) {
    ("parts".to_owned(), "deployed".to_owned())
}

/// The partition of what is known of an account's roles.
pub fn inventory_partition(account: &AccountId) -> String {
    format!("inventory#{account}")
}

/// The keys of what is known of a role's users.
pub fn inventory_keys(account: &AccountId, role: &RoleName) -> (String, String) {
    let digest: String = sha256_hex(usage::key(role).as_bytes()).chars().take(32).collect();
    (inventory_partition(account), format!("role#{digest}"))
}

/// The keys of an incident.
pub fn incident_keys(id: &IncidentId) -> (String, String) {
    (format!("incident#{id}"), "incident".to_owned())
}

/// The keys of the pause.
pub fn pause_keys() -> (String, String) {
    ("control".to_owned(), "pause".to_owned())
}

/// The keys of the breaker's counter for the hour that `now` is in.
pub fn breaker_keys(account: &AccountId, now: Timestamp) -> (String, String) {
    let hour: String = now.to_string().chars().take(13).collect();
    (format!("breaker#{account}"), hour)
}

/// The partition of the steps of an incident that one function owns.
pub fn step_partition(owner: FunctionName, id: &IncidentId) -> String {
    format!("step#{owner}#{id}")
}

/// The sort key of a step, or the prefix of an episode's steps where `key` is empty.
pub fn step_sort(episode: u32, key: &str) -> String {
    format!("{episode:06}#{key}")
}
