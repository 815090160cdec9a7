//! What the playbook would do with an event and why, without AWS: what `firebreak explain` prints.
//!
//! More is read here than a function would take: a finding without its envelope, the dump of `GetFindings`, a CloudTrail
//! log file. Firebreak is taken to be deployed in the account that the event is about.

mod sniff;

use serde::Serialize;
use serde_json::Value;

use crate::action::{ActionId, Response, named};
use crate::decision::{Decision, Mode};
use crate::each_once;
use crate::finding::{Finding, Format, Subject, SubjectKind};
use crate::foreign::partition_of;
use crate::guard::Rails;
use crate::ids::{AccountId, FunctionArn, Partition, shown_text};
use crate::inventory::Inventory;
use crate::judge::{Course, Judge, Judgement};
use crate::plan::Plan;
use crate::playbook::Playbook;
use crate::principal::{Home, Principal, PrincipalKind, PrincipalName};
use crate::request::{self, Request};
use sniff::Read;

named!(
    /// What an input is.
    Kind {
        /// A GuardDuty finding.
        GuardDuty = "guardduty",
        /// A finding of Security Hub in ASFF, imported or sent by a custom action.
        Asff = "securityhub-asff",
        /// A finding of Security Hub V2 in OCSF.
        Ocsf = "securityhub-ocsf",
        /// A CloudTrail record.
        CloudTrail = "cloudtrail",
        /// A person's request.
        Manual = "manual",
        /// One of Firebreak's own events.
        Own = "own",
        /// Nothing that Firebreak knows.
        Unknown = "unknown",
    }
);

impl From<Format> for Kind {
    fn from(format: Format) -> Self {
        match format {
            Format::GuardDuty => Self::GuardDuty,
            Format::Asff => Self::Asff,
            Format::Ocsf => Self::Ocsf,
            Format::CloudTrail => Self::CloudTrail,
        }
    }
}

named!(
    /// What would be done: a decision, or that the input is no event.
    Outcome {
        /// Contained at once.
        Act = "act",
        /// A person is asked.
        Approve = "approve",
        /// Recorded and paged.
        Notify = "notify",
        /// Recorded.
        Ignore = "ignore",
        /// It cannot be read as an event.
        Malformed = "malformed",
    }
);

impl From<Decision> for Outcome {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Act => Self::Act,
            Decision::Approve => Self::Approve,
            Decision::Notify => Self::Notify,
            Decision::Ignore => Self::Ignore,
        }
    }
}

/// A role, user or function that the event points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Role, user or function.
    pub kind: SubjectKind,
    /// Its name; `None` where it must be looked up.
    pub name: Option<String>,
    /// Its ARN, or the ARN that it is looked up by.
    pub arn: Option<String>,
    /// Whether Firebreak could contain it, whatever the playbook says.
    pub containable: bool,
    /// How it is known, or why it cannot be contained.
    pub reason: String,
}

/// What would be done with one input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// What the input is.
    pub kind: Kind,
    /// The finding's id.
    pub finding_id: Option<String>,
    /// Its type.
    pub finding_type: Option<String>,
    /// 0–10.
    pub severity: Option<f64>,
    /// The highest decision over the targets, as far as the mode lets it go.
    pub decision: Outcome,
    /// Whom it points at.
    pub targets: Vec<Target>,
    /// What would be done, at once or on approval; in the order of the plan.
    pub actions: Vec<ActionId>,
    /// Why.
    pub reason: String,
}

impl Explanation {
    /// An input that cannot be read.
    pub fn malformed(kind: Kind, reason: impl Into<String>) -> Self {
        Self { decision: Outcome::Malformed, ..Self::of(kind, reason) }
    }

    fn of(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            finding_id: None,
            finding_type: None,
            severity: None,
            decision: Outcome::Ignore,
            targets: Vec::new(),
            actions: Vec::new(),
            reason: reason.into(),
        }
    }
}

/// What decisions are explained by.
#[derive(Debug, Clone, Copy)]
pub struct Explainer<'a> {
    /// The playbook.
    pub playbook: &'a Playbook,
    /// Who uses what: without it a role counts as not shared, and what must be looked up stays open.
    pub inventory: &'a Inventory,
    /// The stack's ceiling over the playbook's modes.
    pub ceiling: Mode,
}

impl Explainer<'_> {
    /// Explains an input. Never fails: what is no event is malformed, with the reason.
    pub fn explain(&self, input: &[u8]) -> Explanation {
        let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
        match serde_json::from_slice::<Value>(input) {
            Ok(payload) => self.explain_json(&payload),
            Err(error) => Explanation::malformed(Kind::Unknown, format!("it is no JSON: {error}")),
        }
    }

    fn explain_json(&self, payload: &Value) -> Explanation {
        if request::is_request(payload) {
            return self.request(payload);
        }
        let mut highest: Option<Explanation> = None;
        for read in sniff::events(payload) {
            let next = match read {
                Read::Finding(finding) => self.finding(&finding),
                Read::Own(reason) => Explanation::of(Kind::Own, reason),
                Read::Unknown(reason) => {
                    Explanation { decision: Outcome::Notify, ..Explanation::of(Kind::Unknown, reason) }
                }
                Read::Malformed(kind, reason) => Explanation::malformed(kind, reason),
            };
            highest = Some(match highest {
                Some(before) => merge(before, next),
                None => next,
            });
        }
        highest.unwrap_or_else(|| Explanation::malformed(Kind::Unknown, "it holds no event"))
    }

    fn finding(&self, finding: &Finding) -> Explanation {
        let home = home_of(finding);
        let rails = self.rails(&home);
        let judge = Judge { playbook: self.playbook, rails, ceiling: self.ceiling };
        let mut explanation = Explanation {
            finding_id: Some(finding.id.clone()),
            finding_type: Some(finding.finding_type.clone()),
            severity: finding.severity,
            ..Explanation::of(finding.format.into(), "")
        };
        let mut reasons: Vec<(Decision, String)> = Vec::new();
        let mut highest = Decision::Ignore;
        for subject in &finding.subjects {
            let subject = self.known(subject);
            let users = match &subject {
                Subject::Principal { principal, function, .. } => Some(self.users(principal, function.as_ref())),
                Subject::Lookup { .. } | Subject::NotContainable { .. } => None,
            };
            let judgement = judge.judge(finding, &subject, users);
            let decision = judgement.decision();
            highest = highest.max(decision);
            each_once::extend(&mut explanation.targets, targets(&subject, &rails));
            if decision.opens_incident() {
                each_once::extend(&mut explanation.actions, actions(&judgement, &subject));
            }
            reasons.push((decision, reason(&judgement, &subject)));
        }
        if finding.reread_from.is_some() {
            reasons.push((highest, "Firebreak reads the whole finding from GuardDuty before it decides".to_owned()));
        }
        explanation.decision = highest.into();
        reasons.sort_by_key(|(decision, _)| std::cmp::Reverse(*decision));
        let mut said: Vec<String> = Vec::new();
        each_once::extend(&mut said, reasons.into_iter().map(|(_, reason)| reason));
        explanation.reason = said.join("; ");
        explanation
    }

    /// How many run as a principal as far as the inventory knows, the function with it that the finding names.
    fn users(&self, principal: &Principal, named: Option<&FunctionArn>) -> usize {
        let users = self.inventory.users(principal);
        if users.is_empty() {
            return 0;
        }
        let unlisted = named.is_some_and(|function| !users.contains(function.unqualified().to_string().as_str()));
        users.len() + usize::from(unlisted)
    }

    fn rails<'b>(&'b self, home: &'b Home) -> Rails<'b> {
        Rails { home, stack: "firebreak", protected: &self.playbook.protected, deployers: &[], source: None }
    }

    /// The subject, as far as the inventory knows more about it than the finding says.
    fn known(&self, subject: &Subject) -> Subject {
        match subject {
            Subject::Lookup { lookup, .. } => match self.inventory.resolve(lookup) {
                Some(principal) => subject.clone().known_as(principal),
                None => subject.clone(),
            },
            Subject::Principal { principal, .. } if principal.arn.is_none() => {
                match self.inventory.with_path(principal) {
                    Some(principal) => subject.clone().known_as(principal),
                    None => subject.clone(),
                }
            }
            Subject::Principal { .. } | Subject::NotContainable { .. } => subject.clone(),
        }
    }

    fn request(&self, payload: &Value) -> Explanation {
        let home = home_of_request(payload);
        let request = match request::read(payload, &home) {
            Ok(request) => request,
            Err(error) => return Explanation::malformed(Kind::Manual, error.to_string()),
        };
        let (contain, asked) = match request {
            Request::Contain(contain, asked) => (contain, asked),
            Request::Approve(id, _) => {
                let reason = format!("the plan of incident `{id}` is carried out");
                return Explanation { decision: Outcome::Act, ..Explanation::of(Kind::Manual, reason) };
            }
            Request::Release(..)
            | Request::ReleaseSince(..)
            | Request::List
            | Request::Pause(_)
            | Request::Resume(_)
            | Request::Revoke(..) => {
                let reason = "the request contains nobody: it is carried out, and the playbook has no say in it";
                return Explanation::of(Kind::Manual, reason);
            }
        };
        let rails = self.rails(&home);
        let mut found = targets(&Subject::principal(contain.principal.clone()), &rails);
        found.extend(contain.functions.iter().map(|function| of_function(function, &rails)));
        let refused = found.iter().find(|target| !target.containable).map(|target| target.reason.clone());
        let response = contain.response.as_deref().unwrap_or(self.playbook.default_response());
        let plan = Plan::of(&contain.principal.name, &contain.functions, response);
        Explanation {
            decision: if refused.is_some() { Outcome::Ignore } else { Outcome::Act },
            targets: found,
            actions: if refused.is_some() { Vec::new() } else { actions_of(&plan) },
            reason: if let Some(reason) = refused {
                format!("the request is refused: {reason}")
            } else {
                let given = shown_text(&asked.reason);
                format!("a person's request is carried out in every mode; reason given: {given}")
            },
            ..Explanation::of(Kind::Manual, "")
        }
    }
}

/// Firebreak is taken to live in the account that the finding is about, and in the partition of its Region; where it
/// names none, of the first ARN that it points at.
fn home_of(finding: &Finding) -> Home {
    let of_subject = |subject: &Subject| match subject {
        Subject::Principal { principal, .. } => partition_in(principal.arn.as_deref()?),
        Subject::Lookup { lookup, .. } => partition_in(&lookup.arn()?),
        Subject::NotContainable { .. } => None,
    };
    let partition = finding.region.as_ref().map(partition_of);
    let partition = partition.or_else(|| finding.subjects.iter().find_map(of_subject));
    Home { partition: partition.unwrap_or(Partition::Aws), account: finding.owner() }
}

fn partition_in(arn: &str) -> Option<Partition> {
    arn.split(':').nth(1)?.parse().ok()
}

/// The account and partition of the first ARN that a request holds.
fn home_of_request(payload: &Value) -> Home {
    let of_arn = |arn: &Value| {
        let arn = arn.as_str()?;
        Some(Home { partition: partition_in(arn)?, account: arn.split(':').nth(4)?.parse().ok()? })
    };
    let functions = payload.get("functions").and_then(Value::as_array).and_then(|f| f.first());
    let named = [payload.get("role"), payload.get("user"), functions];
    let home = named.into_iter().flatten().find_map(of_arn);
    home.unwrap_or_else(|| Home { partition: Partition::Aws, account: AccountId::nobody() })
}

fn targets(subject: &Subject, rails: &Rails<'_>) -> Vec<Target> {
    match subject {
        Subject::Principal { principal, function, .. } => {
            let mut found = vec![of_principal(principal, rails)];
            found.extend(function.iter().map(|function| of_function(function, rails)));
            found
        }
        Subject::Lookup { lookup, .. } => {
            let mut found = vec![Target {
                kind: lookup.kind().into(),
                name: None,
                arn: lookup.arn(),
                containable: true,
                reason: format!("to be looked up: {lookup}"),
            }];
            found.extend(lookup.function().map(|function| of_function(function, rails)));
            found
        }
        Subject::NotContainable { kind: Some(kind), what, reason } => vec![Target {
            kind: *kind,
            name: Some(what.clone()),
            arn: None,
            containable: false,
            reason: reason.clone(),
        }],
        Subject::NotContainable { kind: None, .. } => Vec::new(),
    }
}

fn of_principal(principal: &Principal, rails: &Rails<'_>) -> Target {
    let vetoed = rails.on_name(principal).err();
    Target {
        kind: principal.name.kind().into(),
        name: Some(principal.name.as_str().to_owned()),
        arn: principal.arn.clone(),
        containable: vetoed.is_none(),
        reason: vetoed.map_or_else(|| "the event names it".to_owned(), |veto| veto.to_string()),
    }
}

fn of_function(function: &FunctionArn, rails: &Rails<'_>) -> Target {
    let vetoed = rails.on_function(function).err();
    Target {
        kind: SubjectKind::Function,
        name: Some(function.name().to_owned()),
        arn: Some(function.to_string()),
        containable: vetoed.is_none(),
        reason: vetoed.map_or_else(|| "the event names it".to_owned(), |veto| veto.to_string()),
    }
}

fn actions(judgement: &Judgement, subject: &Subject) -> Vec<ActionId> {
    let response = &judgement.ruling.response;
    match (&judgement.course, subject) {
        (Course::Contain { principal, functions, .. }, _) => {
            actions_of(&Plan::of(&principal.name, functions, response))
        }
        (Course::LookUp(lookup), _) => {
            let functions: Vec<_> = lookup.function().cloned().into_iter().collect();
            of_kind(lookup.kind(), &functions, response)
        }
        (Course::ReadPath(principal), Subject::Principal { function, .. }) => {
            let functions: Vec<_> = function.iter().cloned().collect();
            actions_of(&Plan::of(&principal.name, &functions, response))
        }
        (Course::ReadPath(_) | Course::Note { .. }, _) => Vec::new(),
    }
}

/// The actions on a principal whose name is not known yet: they depend on its kind alone.
fn of_kind(kind: PrincipalKind, functions: &[FunctionArn], response: &[Response]) -> Vec<ActionId> {
    let name = match kind {
        PrincipalKind::Role => "unknown".parse().map(PrincipalName::Role),
        PrincipalKind::User => "unknown".parse().map(PrincipalName::User),
    };
    name.map(|name| actions_of(&Plan::of(&name, functions, response))).unwrap_or_default()
}

fn actions_of(plan: &Plan) -> Vec<ActionId> {
    let mut actions = Vec::new();
    each_once::extend(&mut actions, plan.steps.iter().map(|step| step.action));
    actions
}

fn reason(judgement: &Judgement, subject: &Subject) -> String {
    let verdict = &judgement.ruling.verdict;
    let held = |reason: &str| {
        if verdict.effective < verdict.decision {
            format!("{reason}; in mode {} it goes no further than {}", verdict.mode, verdict.effective)
        } else {
            reason.to_owned()
        }
    };
    match (&judgement.course, subject) {
        (Course::Note { reason, .. }, Subject::Principal { .. } | Subject::Lookup { .. })
            if *reason == verdict.reason =>
        {
            held(reason)
        }
        (Course::Note { reason, .. }, _) => format!("{}; {reason}", verdict.reason),
        (Course::Contain { .. } | Course::LookUp(_) | Course::ReadPath(_), _) => held(&verdict.reason),
    }
}

/// The order in which several events of one input count.
fn rank(outcome: Outcome) -> usize {
    [Outcome::Ignore, Outcome::Malformed, Outcome::Notify, Outcome::Approve, Outcome::Act]
        .into_iter()
        .position(|o| o == outcome)
        .unwrap_or_default()
}

/// Two events of one input: the higher decision speaks, the targets of both are listed.
fn merge(before: Explanation, next: Explanation) -> Explanation {
    let (mut first, second) = if rank(next.decision) > rank(before.decision) { (next, before) } else { (before, next) };
    each_once::extend(&mut first.targets, second.targets);
    each_once::extend(&mut first.actions, second.actions);
    if !first.reason.contains(&second.reason) {
        first.reason = format!("{}; {}", first.reason, second.reason);
    }
    first
}

#[cfg(test)]
mod tests;
