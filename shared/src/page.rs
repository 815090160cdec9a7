//! Pages: what happened, what is verified, what is not, the next step, and how to undo it without Firebreak.
//!
//! The text is made from ledger records by pure functions; [`notify`] decides which pages are due and sends
//! them. Foreign text is cleaned, and quoted where it stands in a command.

pub mod notify;

mod by_hand;
mod chain;
mod finding;
mod forgery;
mod incident;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod undo;
mod watched;

use firebreak_model::ids::{FindingKey, IncidentId, digest};
use firebreak_model::ledger::{ChainRecord, FindingRecord, ForgeryRecord, Incident, Pause, StepRecord, StepState};
use firebreak_model::principal::PrincipalName;
use firebreak_model::revoked::longest_session;
use jiff::Timestamp;

use crate::action::{Permission, Resource};
use text::{Command, clean};

/// What sending pages needs, beside the ledger.
pub const PERMISSIONS: &[Permission] = &[
    Permission { action: "kms:Decrypt", on: Resource::Key },
    Permission { action: "kms:GenerateDataKey", on: Resource::Key },
    Permission { action: "sns:Publish", on: Resource::Topic },
];

/// SNS takes subjects of fewer than 100 characters.
const SUBJECT_MOST: usize = 99;

/// SNS takes 256 KiB; some of what it delivers to takes less.
const BODY_MOST: usize = 200 * 1024;

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Fewer than 100 ASCII characters.
    pub subject: String,
    /// Plain ASCII text.
    pub body: String,
}

/// What the commands in a page name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The stack's name, which the functions begin with.
    pub stack: String,
    /// The Region of the stack.
    pub region: String,
    /// The deny policy.
    pub deny_policy_arn: String,
    /// The ledger's table.
    pub table: String,
    /// Whether `revoke-sessions` is part of the stack: a release is another without it.
    pub revokes: bool,
}

impl Setting {
    /// An invocation of one of our functions with this payload, whose `WHO` and `WHY` a person fills in.
    fn invoke(&self, function: &str, payload: &str) -> String {
        Command::aws("lambda invoke")
            .option("function-name", &format!("{}-{function}", self.stack))
            .option("region", &self.region)
            // A release takes minutes, and the CLI asks again after one.
            .option("cli-read-timeout", "660")
            .option("cli-binary-format", "raw-in-base64-out")
            .option("payload", payload)
            .words("/dev/stdout")
            .line()
            .unwrap_or_else(|| format!("(invoke `{function}` with a payload as in docs/SCHEMAS.md)"))
    }

    /// What `firebreak` must be told of the stack.
    fn of_stack(&self) -> String {
        if self.stack == "firebreak" { String::new() } else { format!(" --stack {}", self.stack) }
    }

    fn contain(&self, principal: &PrincipalName) -> String {
        let (kind, name) = match principal {
            PrincipalName::Role(role) => ("role", role.as_str()),
            PrincipalName::User(user) => ("user", user.as_str()),
        };
        let payload =
            format!(r#"{{"firebreak": "contain", "{kind}": "{name}", "requested_by": "WHO", "reason": "WHY"}}"#);
        self.invoke("quarantine-principal", &payload)
    }

    fn approve(&self, id: &IncidentId) -> String {
        let payload =
            format!(r#"{{"firebreak": "approve", "incident_id": "{id}", "requested_by": "WHO", "reason": "WHY"}}"#);
        self.invoke("quarantine-principal", &payload)
    }

    fn release(&self, id: &IncidentId) -> String {
        let without = if self.revokes { "" } else { r#""without_revocation": true, "# };
        let payload = format!(
            r#"{{"firebreak": "release", "incident_id": "{id}", {without}"requested_by": "WHO", "reason": "WHY"}}"#
        );
        self.invoke("release-containment", &payload)
    }

    fn resume(&self) -> String {
        let payload = r#"{"firebreak": "resume", "requested_by": "WHO", "reason": "WHY"}"#;
        self.invoke("release-containment", payload)
    }

    fn pause(&self) -> String {
        let payload = r#"{"firebreak": "pause", "requested_by": "WHO", "reason": "WHY"}"#;
        self.invoke("release-containment", payload)
    }
}

/// How a containment stands when every step of its plan that contains has come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every step that contains was read back.
    Contained,
    /// Some were.
    Partial,
    /// None was.
    CannotContain,
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contained => "contained",
            Self::Partial => "partial",
            Self::CannotContain => "cannot contain",
        }
    }
}

/// What a page is about. Each occasion of an episode pages once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occasion {
    /// A plan is in force, or grew.
    Ordered,
    /// A person must approve.
    Approval,
    /// A guard rail vetoed it.
    Withheld,
    /// A step did not come to a good end.
    Step(String, StepState),
    /// Every rung of a step's ladder was refused: a person with more rights must do it, now.
    CannotContain(String),
    /// Every step that contains has come to an end.
    Complete(Verdict),
    /// The evidence is kept, after the page that said how the containment ended.
    Evidence,
    /// Sessions were made from what was stolen: a digest of what is said of them.
    Traced(String),
    /// A release began.
    Releasing,
    /// A release stopped, at this time, before anything was undone.
    Stopped(Timestamp),
    /// A release is done.
    Released,
    /// A finding that opens no incident: a digest of its id and of what is said of it.
    Finding(FindingKey),
    /// A record was refused: a digest of it.
    Forgery(String),
    /// New containments are stopped.
    Paused,
    /// New containments may begin again.
    Resumed,
}

impl Occasion {
    /// The name under which the ledger remembers that it was paged. `plan` tells a plan that grew from what it was.
    fn name(&self, plan: &str) -> String {
        match self {
            Self::Ordered => format!("ordered-{plan}"),
            Self::Approval => format!("approval-{plan}"),
            Self::Withheld => "withheld".to_owned(),
            Self::Step(key, state) => format!("step-{state}-{key}"),
            Self::CannotContain(key) => format!("every-rung-refused-{key}"),
            Self::Complete(verdict) => format!("complete-{}-{plan}", verdict.as_str().replace(' ', "-")),
            Self::Evidence => "evidence".to_owned(),
            Self::Traced(told) => format!("traced-{told}"),
            Self::Releasing => "releasing".to_owned(),
            Self::Stopped(at) => format!("release-stopped-{at}"),
            Self::Released => "released".to_owned(),
            Self::Finding(key) => format!("finding-{key}"),
            Self::Forgery(digest) => format!("forgery-{digest}"),
            Self::Paused => "paused".to_owned(),
            Self::Resumed => "resumed".to_owned(),
        }
    }
}

/// Twelve hex digits for the plan of an incident.
fn plan_digest(incident: &Incident) -> String {
    let keys: Vec<String> = incident.plan.steps.iter().map(firebreak_model::plan::Step::key).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    digest(&keys).chars().take(12).collect()
}

/// The page about an incident.
pub fn of_incident(
    occasion: &Occasion,
    incident: &Incident,
    steps: &[StepRecord],
    findings: &[FindingRecord],
    setting: &Setting,
) -> Page {
    incident::page(occasion, incident, steps, findings, setting)
}

/// The page about sessions that were made from what was stolen.
pub fn of_chain(incident: &Incident, chain: &ChainRecord, steps: &[StepRecord]) -> Page {
    chain::page(incident, chain, steps)
}

/// The page about a finding that opens no incident.
pub fn of_finding(finding: &FindingRecord, setting: &Setting) -> Page {
    finding::page(finding, setting)
}

/// The page about a record that was refused.
pub fn of_forgery(forgery: &ForgeryRecord, setting: &Setting) -> Page {
    forgery::page(forgery, setting)
}

/// The page about the pause, as the ledger has it now.
pub fn of_pause(pause: Option<&Pause>, setting: &Setting) -> Page {
    let mut draft = Draft::default();
    let subject = if let Some(pause) = pause {
        draft.line("Containment is paused: no new containment begins until it is resumed.");
        draft.line("What is contained stays contained; findings that would be contained wait for a person.");
        draft.section("The pause");
        draft.field("Since", &pause.since.to_string());
        draft.field("By", &clean(&pause.by, 256));
        draft.field("Why", &clean(&pause.reason, 500));
        draft.field("Invocation", &clean(&pause.invocation, 80));
        draft.section("Next step");
        draft.line("If you do not know why, find out at once: a pause is what a thief would want.");
        draft.line("CloudTrail's data event of the invocation says who it was. To resume:");
        draft.command(&setting.resume());
        "containment is paused"
    } else {
        draft.line("Containment is not paused: findings are contained again as the playbook says.");
        draft.line("Incidents that were opened during the pause still wait for approval.");
        draft.section("Next step");
        draft.line("Nothing. To pause again:");
        draft.command(&setting.pause());
        "containment is resumed"
    };
    draft.page(subject)
}

/// A page that is being written.
#[derive(Debug, Default)]
struct Draft(String);

impl Draft {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn section(&mut self, title: &str) {
        self.0.push('\n');
        self.line(title);
        self.line(&"-".repeat(title.len()));
    }

    fn field(&mut self, name: &str, value: &str) {
        self.line(&format!("{name:<13}{value}"));
    }

    fn command(&mut self, command: &str) {
        self.line(&format!("    {command}"));
    }

    /// The command that releases an incident; where the stack revokes nothing, with what that costs.
    fn release(&mut self, incident: &Incident, setting: &Setting) {
        self.command(&setting.release(&incident.incident_id));
        if setting.revokes || incident.ordered_at.is_none() {
            return;
        }
        let over = incident.ordered_since().saturating_add(longest_session(&incident.principal.name));
        self.line(
            "This stack leaves `revoke-sessions` out (`without_revocation`): stolen sessions that are still alive work",
        );
        self.line(&format!(
            "again as soon as it is released. None from before the containment is alive after {}.",
            over.unwrap_or(Timestamp::MAX)
        ));
    }

    /// The page, cut where SNS would refuse it.
    fn page(mut self, subject: &str) -> Page {
        if self.0.len() > BODY_MOST {
            self.0.truncate(BODY_MOST);
            self.0.push_str("\n\n(cut: the ledger holds the rest)\n");
        }
        let subject: String = clean(&format!("[Firebreak] {subject}"), SUBJECT_MOST - 3);
        Page { subject, body: self.0 }
    }
}
