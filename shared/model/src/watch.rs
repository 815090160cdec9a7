//! A containment over time: when it is looked at again, what was found, and what may be said of it.
//!
//! *Applied* is what one reading back showed. *Settled* is what re-checks over time showed and CloudTrail did not
//! contradict; nothing less is called that. Pure: the guard looks, this decides what the look means.

pub mod call;
pub mod change;
mod pace;

pub use pace::Pace;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::SCHEMA;
use crate::action::{ActionId, named};
use crate::ids::{FunctionArn, IncidentId, Region};
use crate::ladder;
use crate::ledger::{Incident, StepState};
use crate::principal::Principal;

/// The partition of the watches: all of them are one query.
pub const WATCHES: &str = "watch";

/// IAM takes seconds to reach every endpoint: calls that succeed in this time after the deny are told, and are no sign
/// that it does not hold.
pub const PROPAGATION: SignedDuration = SignedDuration::from_secs(15);

/// So late a first look counts as the first re-check all the same.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// So long after the last re-check, what is not settled is told.
const OVERDUE: SignedDuration = SignedDuration::from_mins(30);

/// The most checks, and the most calls, that a watch remembers.
const MOST_KEPT: usize = 12;

named!(
    /// What may be said of a containment.
    Standing {
        /// It held so far; the re-checks are not over, or CloudTrail is not complete yet.
        Watching = "watching",
        /// It held at every re-check, and CloudTrail shows no successful call since.
        Settled = "settled",
        /// Some of it does not hold, or the principal made calls in spite of it.
        Partial = "partial",
        /// Nothing of it took hold.
        CannotContain = "cannot_contain",
        /// What had been applied is gone: its owner is asked to apply it again.
        Undone = "undone",
        /// It held at every re-check, long ago; CloudTrail, or the search for chained sessions, has not said since that
        /// nobody is left.
        Unproven = "unproven",
        /// A release of it began, and nobody brings it to its end: what is not undone yet is in force, and nobody puts it
        /// back.
        Stranded = "stranded",
    }
);

named!(
    /// Why a containment was looked at.
    Cause {
        /// It was ordered, or its plan grew.
        Order = "order",
        /// A re-check fell due.
        Recheck = "recheck",
        /// The regular sweep.
        Sweep = "sweep",
        /// CloudTrail told of a change.
        Call = "call",
    }
);

/// How one step of the plan was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "says", rename_all = "snake_case")]
pub enum Found {
    /// Read back, and in force.
    InForce,
    /// It had been applied, and is not in force.
    Gone(String),
    /// What it acts on does not exist.
    Absent,
    /// Its owner has not come to an end with it.
    Pending,
    /// Its owner did not bring it about.
    NotApplied(String),
    /// It could not be read.
    Unread(String),
}

/// One step of the plan, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepLook {
    /// Its key.
    pub step: String,
    /// How it was found.
    pub found: Found,
}

impl StepLook {
    /// How the ledger's record of a step makes it stand before anything is read; `None` where it must be read.
    pub fn on_record(state: Option<StepState>, detail: &str) -> Option<Found> {
        match state {
            None | Some(StepState::Intended) => Some(Found::Pending),
            Some(StepState::Applied) => None,
            Some(StepState::Gone) => Some(Found::Absent),
            Some(state @ (StepState::Failed | StepState::Withheld | StepState::Reverted | StepState::LeftAlone)) => {
                Some(Found::NotApplied(format!("{state}: {detail}")))
            }
        }
    }
}

/// What IAM's policy simulator says of the deny: a second opinion, never the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "says", rename_all = "snake_case")]
pub enum Opinion {
    /// Not asked: the plan denies no principal.
    NotAsked,
    /// `explicitDeny`, beside a control that is `allowed`.
    Agrees,
    /// Anything else than `explicitDeny`, beside a control that is `allowed`.
    Disagrees(String),
    /// The simulator did not answer, or its control was not `allowed`: there is no second opinion.
    None(String),
}

/// A successful call of the principal, as CloudTrail has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// When.
    pub at: Timestamp,
    /// Service and name: `s3:GetObject`.
    pub name: String,
    /// The id of its event.
    pub event_id: String,
}

/// What CloudTrail says of the time since the deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrailLook {
    /// Not asked: the plan denies neither the principal nor its sessions, or nothing new can be known.
    NotAsked,
    /// The successful calls, as far as CloudTrail is complete, and what was asked for.
    Calls {
        /// They.
        calls: Vec<Call>,
        /// Until when there can be no others.
        complete_until: Timestamp,
        /// Where it was asked.
        regions: Vec<Region>,
        /// Why that is not as far as CloudTrail is complete, where it is not.
        behind: Option<String>,
    },
    /// It could not be asked, or not wholly.
    Unread(String),
}

/// Where the search for sessions that were made from stolen ones stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// There is none: nothing keeps the principal from making sessions, or the stack leaves revocation out.
    NotAsked,
    /// It came to its end.
    Over,
    /// It goes on, or cannot: why.
    Open(String),
}

/// One look at a containment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Every step that contains.
    pub steps: Vec<StepLook>,
    /// The simulator's.
    pub opinion: Opinion,
    /// CloudTrail's.
    pub trail: TrailLook,
    /// The search for chained sessions.
    pub search: Search,
}

impl Look {
    /// The steps that had been applied, and are gone.
    pub fn gone(&self) -> impl Iterator<Item = (&str, &str)> {
        self.steps.iter().filter_map(|look| match &look.found {
            Found::Gone(says) => Some((look.step.as_str(), says.as_str())),
            _ => None,
        })
    }

    /// Whether this may be the last re-check: CloudTrail was asked, and is complete until then. What it does not answer,
    /// the sweep asks it; a look that a call caused does not ask.
    fn ends(&self, watched_until: Timestamp) -> bool {
        match &self.trail {
            TrailLook::Calls { complete_until, behind, .. } => behind.is_some() || *complete_until >= watched_until,
            TrailLook::NotAsked => self.cause != Cause::Call,
            TrailLook::Unread(_) => true,
        }
    }

    /// Whether something is in force that would show in CloudTrail where it did not hold.
    fn is_asked_about(&self) -> bool {
        let action = |key: &str| key.split('@').next().and_then(ActionId::from_name);
        let binds = |look: &StepLook| action(&look.step).is_some_and(keeps_from_calling);
        self.steps.iter().any(|look| look.found == Found::InForce && binds(look))
    }

    fn any(&self, is: impl Fn(&Found) -> bool) -> bool {
        self.steps.iter().any(|look| is(&look.found))
    }

    /// What does not hold, in sentences.
    fn complaints(&self) -> Vec<String> {
        let mut all = complaints(&self.steps);
        match &self.opinion {
            Opinion::Disagrees(says) => all.push(format!("IAM's policy simulator disagrees: {says}")),
            Opinion::None(says) => all.push(format!("there is no second opinion: {says}")),
            Opinion::NotAsked | Opinion::Agrees => {}
        }
        match &self.trail {
            TrailLook::Unread(says) => {
                all.push(format!("CloudTrail could not be asked: {says}"));
            }
            TrailLook::Calls { behind: Some(says), .. } => {
                all.push(format!("CloudTrail is not read to the end: {says}"));
            }
            TrailLook::Calls { .. } | TrailLook::NotAsked => {}
        }
        if let Search::Open(says) = &self.search {
            all.push(format!("the search for sessions that were made from stolen ones is not over: {says}"));
        }
        all
    }
}

/// Which steps do not hold, in sentences.
fn complaints(steps: &[StepLook]) -> Vec<String> {
    let complaint = |look: &StepLook| match &look.found {
        Found::InForce | Found::Absent => None,
        Found::Pending => Some(format!("`{}` has not come to an end", look.step)),
        Found::Gone(says) => Some(format!("`{}` is undone: {says}", look.step)),
        Found::NotApplied(says) => Some(format!("`{}` {says}", look.step)),
        Found::Unread(says) => Some(format!("`{}` could not be read: {says}", look.step)),
    };
    steps.iter().filter_map(complaint).collect()
}

/// A look, as a watch remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Whether every step that contains was in force.
    pub held: bool,
    /// What was not as it should be.
    #[serde(default)]
    pub found: Vec<String>,
}

/// The guard's record of a containment that it watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The version of this layout.
    pub schema: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// Its episode.
    pub episode: u32,
    /// Counts every write; each is conditional on the one before.
    pub version: u64,
    /// Who is contained.
    pub principal: Principal,
    /// How many steps its plan had when it was last looked at: plans only grow.
    pub planned: usize,
    /// The functions of the plan: whatever changes one of them is looked at.
    pub functions: Vec<FunctionArn>,
    /// A game day's.
    pub drill: bool,
    /// What may be said.
    pub standing: Standing,
    /// Since when it is watched: from the last time that something had to be put back.
    pub since: Timestamp,
    /// Re-checks done since.
    pub done: usize,
    /// When the next one is due; none when all are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_check_at: Option<Timestamp>,
    /// The last checks.
    pub checks: Vec<Check>,
    /// The second opinion, when it was last asked for.
    pub opinion: Opinion,
    /// Successful calls of the principal since the deny was read back.
    pub calls: Vec<Call>,
    /// Until when CloudTrail was asked and complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloudtrail_complete_until: Option<Timestamp>,
    /// In which Regions it was asked: of calls in others it says nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cloudtrail_regions: Vec<Region>,
    /// When it was first settled since `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
    /// When it was last written.
    pub updated_at: Timestamp,
}

impl Watch {
    /// A watch that begins: with the order, or now where the order is long past.
    pub fn of(incident: &Incident, pace: &Pace, now: Timestamp) -> Self {
        let ordered = incident.ordered_since();
        let first = pace.due(ordered, 0).unwrap_or(ordered);
        let since = if now.duration_since(first) > LATE { now } else { ordered };
        Self {
            schema: SCHEMA,
            incident_id: incident.incident_id.clone(),
            episode: incident.episode,
            version: 0,
            principal: incident.principal.clone(),
            planned: incident.plan.steps.len(),
            functions: incident.plan.functions().into_iter().cloned().collect(),
            drill: incident.drill,
            standing: Standing::Watching,
            since,
            done: 0,
            next_check_at: pace.due(since, 0),
            checks: Vec::new(),
            opinion: Opinion::NotAsked,
            calls: Vec::new(),
            cloudtrail_complete_until: None,
            cloudtrail_regions: Vec::new(),
            settled_at: None,
            updated_at: now,
        }
    }

    /// Whether a re-check is due.
    pub fn is_due(&self, now: Timestamp) -> bool {
        // A message that comes a second early must not be the last one.
        self.next_check_at.is_some_and(|due| due.duration_since(now) <= SignedDuration::from_secs(1))
    }

    /// The Regions in which CloudTrail was asked, in words; `None` where it was not, or an older record does not say.
    pub fn regions_shown(&self) -> Option<String> {
        let names: Vec<&str> = self.cloudtrail_regions.iter().map(Region::as_str).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// The calls that were made when the deny had reached every endpoint.
    pub fn late_calls(&self) -> impl Iterator<Item = &Call> {
        let from = self.since.saturating_add(PROPAGATION).unwrap_or(Timestamp::MAX);
        self.calls.iter().filter(move |call| call.at > from)
    }

    /// What the watch is after a look at the incident.
    #[must_use]
    pub fn looked(&self, incident: &Incident, look: &Look, pace: &Pace) -> Self {
        let undone = look.gone().next().is_some();
        let held = !undone && !look.any(|found| matches!(found, Found::NotApplied(_) | Found::Unread(_)));
        let grown = self.planned != incident.plan.steps.len();
        let check = Check { at: look.at, cause: look.cause, held, found: look.complaints() };
        let mut next = self.remembering(incident, check);
        if undone || grown || matches!(self.standing, Standing::Undone | Standing::Stranded) {
            // From here on it is watched anew; what is undone is soon looked at again.
            next.since = look.at;
            next.done = 0;
            next.next_check_at = pace.due(look.at, 0);
        } else if self.is_due(look.at) && (self.done < pace.rechecks.len() || look.ends(pace.watched_until(self.since)))
        {
            next.done = self.done + 1;
            next.next_check_at = pace.due(next.since, next.done);
        }
        if look.opinion != Opinion::NotAsked {
            next.opinion = look.opinion.clone();
        }
        if let TrailLook::Calls { calls, complete_until, regions, .. } = &look.trail {
            let new = calls.iter().filter(|call| self.calls.iter().all(|known| known.event_id != call.event_id));
            next.calls.extend(new.cloned());
            next.calls.sort_by_key(|call| call.at);
            let surplus = next.calls.len().saturating_sub(MOST_KEPT);
            next.calls.drain(..surplus);
            let before = self.cloudtrail_complete_until.unwrap_or(*complete_until);
            next.cloudtrail_complete_until = Some(before.max(*complete_until));
            next.cloudtrail_regions.clone_from(regions);
        }
        next.standing = next.stands(look, pace);
        if next.standing == Standing::Settled {
            next.settled_at = next.settled_at.or(Some(look.at));
        } else {
            next.settled_at = None;
        }
        next
    }

    /// What the watch is after a look at what a release left that nobody brings to its end. Nothing of it is put back, and
    /// nothing is due: it is watched anew when the release is taken back.
    #[must_use]
    pub fn stranded(&self, incident: &Incident, steps: &[StepLook], at: Timestamp) -> Self {
        let held = steps.iter().all(|look| matches!(look.found, Found::InForce | Found::Absent));
        let check = Check { at, cause: Cause::Sweep, held, found: complaints(steps) };
        Self {
            standing: Standing::Stranded,
            since: incident.updated_at,
            done: 0,
            next_check_at: None,
            settled_at: None,
            ..self.remembering(incident, check)
        }
    }

    /// The next version, with one check more.
    fn remembering(&self, incident: &Incident, check: Check) -> Self {
        let mut next = self.clone();
        next.version = self.version + 1;
        next.updated_at = check.at;
        next.functions = incident.plan.functions().into_iter().cloned().collect();
        next.principal = incident.principal.clone();
        next.planned = incident.plan.steps.len();
        next.checks.push(check);
        let surplus = next.checks.len().saturating_sub(MOST_KEPT);
        next.checks.drain(..surplus);
        next
    }

    fn stands(&self, look: &Look, pace: &Pace) -> Standing {
        if look.gone().next().is_some() {
            return Standing::Undone;
        }
        let there = look.steps.iter().filter(|step| step.found != Found::Absent).count();
        let in_force = look.steps.iter().filter(|step| step.found == Found::InForce).count();
        if look.any(|found| matches!(found, Found::NotApplied(_))) && !look.any(|found| *found == Found::Pending) {
            let unread = look.any(|found| matches!(found, Found::Unread(_)));
            return if in_force == 0 && !unread { Standing::CannotContain } else { Standing::Partial };
        }
        if self.late_calls().next().is_some() {
            return Standing::Partial;
        }
        let rechecked = self.done >= pace.rechecks.len();
        // Early on, the simulator may not have heard of the deny yet.
        if rechecked && matches!(look.opinion, Opinion::Disagrees(_)) {
            return Standing::Partial;
        }
        let told = self.cloudtrail_complete_until.is_some_and(|until| until >= pace.watched_until(self.since));
        let all = in_force == there && !look.steps.is_empty();
        let opinion = !matches!(look.opinion, Opinion::Disagrees(_)) && !matches!(look.search, Search::Open(_));
        if all && rechecked && opinion && self.next_check_at.is_none() && (told || !look.is_asked_about()) {
            return Standing::Settled;
        }
        let last = pace.due(self.since, pace.rechecks.len()).unwrap_or(Timestamp::MAX);
        if all && rechecked && self.next_check_at.is_none() && look.at.duration_since(last) > OVERDUE {
            return Standing::Unproven;
        }
        Standing::Watching
    }
}

/// Whether an action keeps the principal, or its sessions so far, from making any call: CloudTrail shows whether it does.
pub fn keeps_from_calling(action: ActionId) -> bool {
    ladder::top(action).is_some() || action == ActionId::RevokeSessions
}

/// Whether a step is one whose being in force can be read at any time. Evidence and fresh environments are done once.
pub fn lasts(action: ActionId) -> bool {
    !matches!(action, ActionId::SnapshotLogs | ActionId::RecycleEnvironments)
}

#[cfg(test)]
mod tests;
