//! What the ledger remembers: the records of `docs/SCHEMAS.md`, and how a later finding changes an incident.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::SCHEMA;
use crate::action::{ActionId, FunctionName, Response, named};
use crate::decision::{Decision, Mode};
use crate::finding::Subject;
use crate::ids::{AccessKeyId, AccountId, FindingKey, FunctionArn, IncidentId};
use crate::plan::{Plan, Step, Target};
use crate::principal::Principal;

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
    /// `approve` or `act`; never falls within an episode.
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
    /// The frozen plan.
    pub plan: Plan,
    /// Access keys that findings name: a release does not re-activate them unless they are named.
    pub access_keys: Vec<AccessKeyId>,
    /// A game day's.
    pub drill: bool,
    /// What opened it.
    pub origin: Origin,
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
}

/// What a candidate makes of the incident that is already there.
#[derive(Debug, Clone, PartialEq)]
pub enum Joined {
    /// Nothing new: the finding is recorded, the incident stays as it is.
    Unchanged,
    /// The incident is released and the finding is about activity from before the release.
    Stale,
    /// A release is under way, and this is about activity from after it began: to be asked again when it is done.
    Later,
    /// The incident is to be written anew.
    Changed {
        /// The new record.
        next: Box<Incident>,
        /// Whether this is a new enforced containment, which the breaker counts and the pause stops.
        counts: bool,
    },
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
            state: IncidentState::Ordered,
            decision: Decision::Act,
            mode: Mode::Enforce,
            rule: "manual".to_owned(),
            reason: String::new(),
            playbook_digest: String::new(),
            response,
            access_keys: Vec::new(),
            drill: false,
            origin,
            first_seen: None,
            opened_at: now,
            ordered_at: Some(now),
            updated_at: now,
            approval: None,
            release: None,
        }
    }

    /// What `candidate` makes of this incident. Decisions only rise and plans only grow; a released
    /// incident reopens only on activity after its release (`last_seen`), or by a person.
    pub fn join(&self, candidate: &Incident, last_seen: Option<Timestamp>) -> Joined {
        let by_person = matches!(candidate.origin, Origin::Person { .. });
        let newer = match (last_seen, self.release.as_ref().map(|r| r.at)) {
            (Some(seen), Some(released)) => seen > released,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        match self.state {
            IncidentState::Released if newer || by_person => self.reopened(candidate),
            IncidentState::Releasing if newer || by_person => Joined::Later,
            IncidentState::Released | IncidentState::Releasing => Joined::Stale,
            IncidentState::Withheld => {
                let another_view = candidate.playbook_digest != self.playbook_digest || by_person;
                let dearer = candidate.decision > self.decision;
                let another_id = candidate.principal.unique_id != self.principal.unique_id;
                if another_view || dearer || another_id { self.reopened(candidate) } else { Joined::Unchanged }
            }
            IncidentState::Ordered | IncidentState::AwaitingApproval => self.grown(candidate),
        }
    }

    fn reopened(&self, candidate: &Incident) -> Joined {
        let next = Incident { episode: self.episode + 1, version: self.version + 1, ..candidate.clone() };
        let counts = next.state == IncidentState::Ordered;
        Joined::Changed { next: Box::new(next), counts }
    }

    fn grown(&self, candidate: &Incident) -> Joined {
        let mut next = self.clone();
        let mut changed = next.plan.absorb(&candidate.plan);
        changed |= extend(&mut next.access_keys, &candidate.access_keys);
        changed |= extend(&mut next.functions, &candidate.functions);
        changed |= extend(&mut next.response, &candidate.response);
        let raised = candidate.decision > self.decision;
        if raised {
            next.decision = candidate.decision;
            next.state = candidate.state;
            next.ordered_at = candidate.ordered_at;
            next.mode = candidate.mode;
            next.rule.clone_from(&candidate.rule);
            next.reason.clone_from(&candidate.reason);
            next.playbook_digest.clone_from(&candidate.playbook_digest);
        }
        if next.principal.unique_id.is_none() && candidate.principal.unique_id.is_some() {
            next.principal.unique_id.clone_from(&candidate.principal.unique_id);
            changed = true;
        }
        if let Origin::Person { requested_by, reason, invocation } = &candidate.origin {
            // Who asked is kept, whatever it changes: the order goes out once more.
            next.approval = Some(Approval {
                at: candidate.opened_at,
                by: requested_by.clone(),
                reason: reason.clone(),
                invocation: invocation.clone(),
            });
            changed = true;
        }
        if !(raised || changed) {
            return Joined::Unchanged;
        }
        next.drill = self.drill && candidate.drill;
        next.first_seen = [self.first_seen, candidate.first_seen].into_iter().flatten().min();
        next.updated_at = candidate.updated_at;
        next.version = self.version + 1;
        let counts = raised && next.state == IncidentState::Ordered;
        Joined::Changed { next: Box::new(next), counts }
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

    /// Since when the plan is in force, or when the incident was opened where it is not.
    pub fn ordered_since(&self) -> Timestamp {
        self.ordered_at.unwrap_or(self.opened_at)
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
            attempts: 0,
            ordered_at: self.ordered_since(),
            intended_at: None,
            applied_at: None,
            verified_at: None,
            reverted_at: None,
            updated_at: now,
        }
    }
}

fn extend<T: Clone + PartialEq>(into: &mut Vec<T>, from: &[T]) -> bool {
    let before = into.len();
    for value in from {
        if !into.contains(value) {
            into.push(value.clone());
        }
    }
    into.len() != before
}

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
    /// How often it was tried.
    pub attempts: u32,
    /// When the plan came in force: the clock of "finding to deny" starts here.
    pub ordered_at: Timestamp,
    /// When the prior state was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intended_at: Option<Timestamp>,
    /// When the call that made the change had answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Timestamp>,
    /// When it was read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Timestamp>,
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
    /// `guardduty`, `drill` or `malformed`.
    pub source: String,
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
    /// The pause.
    Pause(Pause),
    /// The breaker's counter.
    Breaker {},
    /// A revocation that is still in place.
    Revocation(RevocationRecord),
}

impl Record {
    /// Partition and sort key.
    pub fn keys(&self) -> (String, String) {
        match self {
            Self::Incident(r) => incident_keys(&r.incident_id),
            Self::Finding(r) => (format!("finding#{}", r.subject()), r.finding_key.to_string()),
            Self::Step(r) => (step_partition(r.owner, &r.incident_id), step_sort(r.episode, &r.step)),
            Self::Page(r) => (format!("page#{}", r.subject), step_sort(r.episode, &r.occasion)),
            Self::Pause(_) => pause_keys(),
            Self::Breaker {} => (String::new(), String::new()),
            Self::Revocation(r) => (REVOCATIONS.to_owned(), format!("{}#{}", r.ends_at, r.incident_id)),
        }
    }
}

/// The partition of revocations that are still in place.
pub const REVOCATIONS: &str = "revocation";

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

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    pub(crate) fn incident(decision: Decision) -> Incident {
        let principal = Principal::from_arn("arn:aws:iam::111122223333:role/orders").unwrap();
        let origin = Origin::Finding {
            finding_id: "f".into(),
            finding_type: "t".into(),
            severity: Some(8.0),
            finding_key: FindingKey::of("f", "u"),
        };
        let now = "2026-11-21T03:00:00Z".parse().unwrap();
        let state = match decision {
            Decision::Act => IncidentState::Ordered,
            _ => IncidentState::AwaitingApproval,
        };
        let response = vec![Response::Quarantine, Response::Snapshot];
        let ordered_at = (decision == Decision::Act).then_some(now);
        let ordered = Incident::ordered(principal, Vec::new(), response, origin, now);
        Incident { decision, state, ordered_at, drill: true, ..ordered }
    }

    fn released(at: &str) -> Incident {
        Incident {
            state: IncidentState::Released,
            release: Some(ReleaseOrder {
                at: at.parse().unwrap(),
                by: "ana".into(),
                reason: "over".into(),
                invocation: "i".into(),
                reactivate_keys: Vec::new(),
                left_alone: Vec::new(),
            }),
            ..incident(Decision::Act)
        }
    }

    fn seen(at: &str) -> Timestamp {
        at.parse().unwrap()
    }

    #[test]
    fn decisions_only_rise_in_every_order() {
        let order = [Decision::Approve, Decision::Act];
        for first in order {
            for second in order {
                for third in order {
                    let mut now = incident(first);
                    for next in [second, third] {
                        if let Joined::Changed { next, .. } = now.join(&incident(next), None) {
                            now = *next;
                        }
                    }
                    assert_eq!(now.decision, first.max(second).max(third));
                    assert_eq!(now.state == IncidentState::Ordered, now.decision == Decision::Act);
                }
            }
        }
    }

    #[test]
    fn only_a_raise_to_act_counts_in_the_breaker() {
        let Joined::Changed { next, counts } = incident(Decision::Approve).join(&incident(Decision::Act), None) else {
            panic!("a raise changes the incident");
        };
        assert!(counts);
        assert_eq!(next.version, 2);
        assert_eq!(next.ordered_at, incident(Decision::Act).ordered_at, "the order dates from the raise");
        let mut wider = incident(Decision::Act);
        wider.functions = vec!["arn:aws:lambda:eu-west-1:111122223333:function:f".parse().unwrap()];
        wider.plan = Plan::of(&wider.principal.name, &wider.functions, &[Response::Isolate]);
        let Joined::Changed { next, counts } = incident(Decision::Act).join(&wider, None) else {
            panic!("new targets change the incident");
        };
        assert!(!counts);
        assert_eq!(next.plan.steps.len(), incident(Decision::Act).plan.steps.len() + 5);
        assert_eq!(incident(Decision::Act).join(&incident(Decision::Act), None), Joined::Unchanged);
    }

    #[test]
    fn a_released_incident_reopens_on_new_activity_only() {
        let old = released("2026-11-21T03:00:00Z");
        let again = incident(Decision::Act);
        assert_eq!(old.join(&again, Some(seen("2026-11-21T02:59:00Z"))), Joined::Stale);
        assert_eq!(old.join(&again, Some(seen("2026-11-21T03:00:00Z"))), Joined::Stale);
        assert_eq!(old.join(&again, None), Joined::Stale);
        let Joined::Changed { next, counts } = old.join(&again, Some(seen("2026-11-21T03:00:01Z"))) else {
            panic!("new activity reopens");
        };
        assert_eq!((next.episode, counts), (2, true));
        assert_eq!(next.release, None);
    }

    #[test]
    fn a_person_reopens_whatever_the_times() {
        let by_person = Incident {
            origin: Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: "i".into() },
            ..incident(Decision::Act)
        };
        assert!(matches!(released("2026-11-21T03:00:00Z").join(&by_person, None), Joined::Changed { .. }));
    }

    #[test]
    fn a_withheld_incident_is_looked_at_again_only_when_something_is_different() {
        let withheld = Incident { state: IncidentState::Withheld, ..incident(Decision::Act) };
        assert_eq!(withheld.join(&incident(Decision::Act), None), Joined::Unchanged);
        let playbook = Incident { playbook_digest: "other".into(), ..incident(Decision::Act) };
        assert!(matches!(withheld.join(&playbook, None), Joined::Changed { counts: true, .. }));
    }

    #[test]
    fn records_read_back() {
        let incident = incident(Decision::Act);
        let step = incident.step_record(&incident.plan.steps[0], incident.opened_at);
        for record in [Record::Incident(Box::new(incident)), Record::Step(Box::new(step))] {
            let value = serde_json::to_value(&record).unwrap();
            assert_eq!(serde_json::from_value::<Record>(value).unwrap(), record);
        }
    }
}
