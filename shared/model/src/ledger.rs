//! What the ledger remembers: the records of `docs/SCHEMAS.md`.

mod joining;
mod records;

pub use joining::Joined;
pub use records::{
    ChainRecord, FindingRecord, ForgeryRecord, PageClaim, PageRecord, PartsRecord, Pause, REVOCATIONS, Record,
    RevocationRecord, StepRecord, breaker_keys, chain_keys, deployed_keys, forgery_partition, incident_keys,
    inventory_keys, inventory_partition, parts_keys, pause_keys, step_partition, step_sort, tamper_partition,
    watch_keys,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::SCHEMA;
use crate::action::{Response, named};
use crate::decision::{Decision, Mode};
use crate::ids::{AccessKeyId, AccountId, FindingKey, FunctionArn, IncidentId};
use crate::plan::{Plan, Step};
use crate::principal::Principal;
use crate::usage::Usage;

named!(
    /// Where an incident stands. Whether it is contained, its steps say.
    IncidentState {
        /// The plan is in force.
        Ordered = "ordered",
        /// A person must approve first.
        AwaitingApproval = "awaiting_approval",
        /// A guard rail vetoed it.
        Withheld = "withheld",
        /// A release is under way.
        Releasing = "releasing",
        /// Released: only new activity reopens it.
        Released = "released",
    }
);

named!(
    /// Where a step stands.
    StepState {
        /// The prior state is on record; not yet verified.
        Intended = "intended",
        /// Read back.
        Applied = "applied",
        /// Did not work; `detail` says why.
        Failed = "failed",
        /// A guard rail vetoed it.
        Withheld = "withheld",
        /// What it was to act on does not exist: there is nothing to contain there, and nothing to undo.
        Gone = "gone",
        /// Undone by a release.
        Reverted = "reverted",
        /// Somebody changed it since: left as it is, and reported.
        LeftAlone = "left_alone",
    }
);

/// How long before the order what a contained principal made is still taken for the thief's alone. A finding may come, or
/// be approved, weeks after the activity began, and a pipeline's role makes production every day.
const THE_THIEFS_ALONE: SignedDuration = SignedDuration::from_hours(6);

/// So long after an incident was last written a release of it may still be under way. No invocation lives longer, and the
/// next try of one that failed, two minutes later at most, writes it anew; nobody redrives a release.
pub const LONGEST_RELEASE: SignedDuration = SignedDuration::from_mins(15);

/// So long after an incident was last written an invocation, or another try of one, may still hold it to the guard rails.
const LONGEST_VETTING: SignedDuration = SignedDuration::from_mins(10);

/// What opened an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Origin {
    /// A finding.
    Finding {
        /// Its id.
        finding_id: String,
        /// Its type.
        finding_type: String,
        /// 1.0–10.0.
        severity: Option<f64>,
        /// The key of the update that opened the incident.
        finding_key: FindingKey,
    },
    /// A person, by direct invocation.
    Person {
        /// As the request says.
        requested_by: String,
        /// Why.
        reason: String,
        /// The id of the invocation, to be matched with CloudTrail.
        invocation: String,
    },
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// When.
    pub at: Timestamp,
    /// By whom, as the request says.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The id of the invocation.
    pub invocation: String,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOrder {
    /// When it began: sessions issued before stay revoked.
    pub at: Timestamp,
    /// By whom, as the request says.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The id of the invocation.
    pub invocation: String,
    /// Keys of the finding that may live again.
    pub reactivate_keys: Vec<AccessKeyId>,
    /// Step keys of what someone changed since and that was therefore left alone.
    #[serde(default)]
    pub left_alone: Vec<String>,
    /// In which state it found the incident, which goes back to it where the release stops before anything is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IncidentState>,
}

/// A release that stopped before anything was undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedRelease {
    /// When it stopped.
    pub at: Timestamp,
    /// Who had asked for it, as the request says.
    pub by: String,
    /// Why it stopped.
    pub why: String,
}

/// An incident: one per principal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// The version of this layout.
    pub schema: u32,
    /// Its id.
    pub incident_id: IncidentId,
    /// 1, 2, …: counts the times it was opened.
    pub episode: u32,
    /// Counts every write; each is conditional on the one before.
    pub version: u64,
    /// The account.
    pub account: AccountId,
    /// Who is contained.
    pub principal: Principal,
    /// Functions that are known to run as the principal.
    pub functions: Vec<FunctionArn>,
    /// Where it stands.
    pub state: IncidentState,
    /// Whether the guard rails are still to be held against who is really there: until then nobody acts on it but who
    /// denies, and that one not before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unvetted: bool,
    /// `approve` or `act`; never falls within an episode. What is to be acted on waits for a person all the same where
    /// others run as the role.
    pub decision: Decision,
    /// The mode that was in force.
    pub mode: Mode,
    /// The playbook rule, or `manual`.
    pub rule: String,
    /// Why, in a sentence.
    pub reason: String,
    /// SHA-256 of the playbook.
    pub playbook_digest: String,
    /// What was asked for.
    pub response: Vec<Response>,
    /// Who runs as the role, as far as the inventory knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The frozen plan.
    pub plan: Plan,
    /// Access keys that findings name: a release does not re-activate them unless they are named.
    pub access_keys: Vec<AccessKeyId>,
    /// A game day's.
    pub drill: bool,
    /// What opened it.
    pub origin: Origin,
    /// The incident of the contained principal that made this one, where IAM says that it was made since that theft
    /// began: nothing is lost by its containment, and the breaker does not count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born_of: Option<IncidentId>,
    /// When the activity was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// When the invocation that opened it began.
    pub opened_at: Timestamp,
    /// When the plan came in force: at once, at a raise, or with the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_at: Option<Timestamp>,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Who approved, or asked by hand for what was open already: the last to do so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Who released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseOrder>,
    /// The last release, where it stopped before anything was undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StoppedRelease>,
}

impl Incident {
    /// A first episode that is contained at once, as a person's request opens it. A finding's differs in what it
    /// says of itself.
    pub fn ordered(
        principal: Principal,
        functions: Vec<FunctionArn>,
        response: Vec<Response>,
        origin: Origin,
        now: Timestamp,
    ) -> Self {
        Self {
            schema: SCHEMA,
            incident_id: principal.incident_id(),
            episode: 1,
            version: 1,
            account: principal.account.clone(),
            plan: Plan::of(&principal.name, &functions, &response),
            principal,
            functions,
            usage: None,
            state: IncidentState::Ordered,
            unvetted: false,
            decision: Decision::Act,
            mode: Mode::Enforce,
            rule: "manual".to_owned(),
            reason: String::new(),
            playbook_digest: String::new(),
            response,
            access_keys: Vec::new(),
            drill: false,
            origin,
            born_of: None,
            first_seen: None,
            opened_at: now,
            ordered_at: Some(now),
            updated_at: now,
            approval: None,
            release: None,
            stopped: None,
        }
    }

    /// The candidate as it stands when the breaker or the pause holds it back.
    #[must_use]
    pub fn lowered(mut self, why: &str) -> Self {
        self.decision = Decision::Approve;
        self.state = IncidentState::AwaitingApproval;
        self.ordered_at = None;
        self.reason = format!("{}; {why}", self.reason);
        self
    }

    /// Whether a claim can have left it behind before it was sealed: nothing but an order or a question was made of it,
    /// for the first time.
    pub fn is_claim(&self) -> bool {
        self.episode == 1
            && self.approval.is_none()
            && self.release.is_none()
            && self.stopped.is_none()
            && matches!(self.state, IncidentState::Ordered | IncidentState::AwaitingApproval)
    }

    /// Whether both ask for the same to be done to the same.
    pub fn asks_for_the_same(&self, other: &Incident) -> bool {
        self.principal.name == other.principal.name
            && self.account == other.account
            && (self.state, self.decision, self.drill) == (other.state, other.decision, other.drill)
            && self.plan == other.plan
            && self.functions == other.functions
            && self.access_keys == other.access_keys
    }

    /// The incident as it was before the release that is under way, which stopped before anything was undone; `None` where
    /// no release is under way.
    #[must_use]
    pub fn taken_back(&self, why: &str, now: Timestamp) -> Option<Self> {
        let release = self.release.as_ref().filter(|_| self.state == IncidentState::Releasing)?;
        let stopped = StoppedRelease { at: now, by: release.by.clone(), why: why.to_owned() };
        Some(Self { state: release.from?, release: None, stopped: Some(stopped), updated_at: now, ..self.clone() })
    }

    /// Whether a release of it began that nobody can be carrying out any more.
    pub fn is_stranded(&self, now: Timestamp) -> bool {
        self.state == IncidentState::Releasing && now.duration_since(self.updated_at) > LONGEST_RELEASE
    }

    /// Whether others than who denies may act on it.
    pub fn is_in_force(&self) -> bool {
        self.state == IncidentState::Ordered && !self.unvetted
    }

    /// Whether it is ordered, and nobody can be holding it to the guard rails any more.
    pub fn is_unbegun(&self, now: Timestamp) -> bool {
        let ordered = self.state == IncidentState::Ordered && self.unvetted;
        ordered && now.duration_since(self.updated_at) > LONGEST_VETTING
    }

    /// Why it is not in force, in a sentence.
    pub fn not_in_force(&self) -> String {
        match self.state {
            IncidentState::Ordered => "the guard rails have not passed it yet: it is ordered again then".to_owned(),
            state => format!("the incident is `{state}`"),
        }
    }

    /// Whether a person asked for it, or approved it.
    pub fn is_asked_for(&self) -> bool {
        by_person(self) || self.approval.is_some()
    }

    /// The incident as it waits for a person because others run as its role; `None` where a person asked for it already,
    /// or it is not in force. The decision stands: no later finding of the same weight puts it in force unasked.
    #[must_use]
    pub fn held_back(&self, usage: &Usage, why: &str, now: Timestamp) -> Option<Self> {
        if self.state != IncidentState::Ordered || self.is_asked_for() {
            return None;
        }
        let reason =
            if self.reason.ends_with(why) { self.reason.clone() } else { format!("{}; but {why}", self.reason) };
        Some(Self {
            state: IncidentState::AwaitingApproval,
            ordered_at: None,
            reason,
            usage: Some(usage.clone()),
            updated_at: now,
            ..self.clone()
        })
    }

    /// Who runs as the role beside the functions that the incident names, and how many of them are not named; `None` where
    /// that is not known.
    pub fn others(&self) -> Option<(Vec<&str>, usize)> {
        self.usage.as_ref().map(|usage| usage.beside(&self.functions))
    }

    /// Since when the plan is in force, or when the incident was opened where it is not.
    pub fn ordered_since(&self) -> Timestamp {
        self.ordered_at.unwrap_or(self.opened_at)
    }

    /// Since when calls of the principal belong to the theft: the activity that was seen first, or the order. CloudTrail
    /// and IAM tell whole seconds.
    pub fn theft_since(&self) -> Timestamp {
        let ordered = self.ordered_since();
        let since = self.first_seen.map_or(ordered, |seen| seen.min(ordered));
        Timestamp::from_second(since.as_second()).unwrap_or(since)
    }

    /// Since when what the principal made is nobody's production: since the theft began, as long as that is not too long ago.
    pub fn newborn_since(&self) -> Timestamp {
        let earliest = self.ordered_since().saturating_sub(THE_THIEFS_ALONE).unwrap_or(Timestamp::MIN);
        self.theft_since().max(earliest)
    }

    /// Whether the breaker counts the order: not a person's, and not what a contained principal made itself.
    pub fn counts_in_the_breaker(&self) -> bool {
        !matches!(self.origin, Origin::Person { .. }) && self.born_of.is_none()
    }

    /// The record of a step of this incident, before anything was done.
    pub fn step_record(&self, step: &Step, now: Timestamp) -> StepRecord {
        StepRecord {
            schema: SCHEMA,
            incident_id: self.incident_id.clone(),
            episode: self.episode,
            step: step.key(),
            action: step.action,
            target: step.target.clone(),
            owner: step.owner(),
            state: StepState::Intended,
            prior: None,
            detail: String::new(),
            refused: None,
            filled_by: Vec::new(),
            attempts: 0,
            ordered_at: self.ordered_since(),
            intended_at: None,
            applied_at: None,
            verified_at: None,
            first_verified_at: None,
            reverted_at: None,
            updated_at: now,
        }
    }
}

fn by_person(incident: &Incident) -> bool {
    matches!(incident.origin, Origin::Person { .. })
}

#[cfg(test)]
pub(crate) mod tests;
