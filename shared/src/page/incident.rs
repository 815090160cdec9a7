//! The page about an incident: how each step stands, and how to undo it.

use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::evidence::MISSING;
use firebreak_model::ladder::{self, Standing};
use firebreak_model::ledger::{FindingRecord, Incident, Origin, StepRecord, StepState};
use firebreak_model::plan::Step;
use firebreak_model::principal::PrincipalKind;
use firebreak_model::usage::OLD;
use jiff::SignedDuration;

use super::text::{clean, span};
use super::{Draft, Occasion, Page, Setting, Verdict, by_hand, finding, undo};

/// The verdict on an incident, once every step of its plan that contains has come to an end. Evidence may take hours:
/// nobody waits for it, and where there is nothing else there is no verdict.
pub(super) fn verdict(incident: &Incident, steps: &[StepRecord]) -> Option<Verdict> {
    let containing = incident.plan.steps.iter().filter(|step| step.action != ActionId::SnapshotLogs);
    let states: Vec<StepState> = containing.map(|step| ended(step, steps)).collect::<Option<_>>()?;
    if states.is_empty() || states.contains(&StepState::Intended) {
        return None;
    }
    // What does not exist need not be contained.
    let there: Vec<_> = states.iter().filter(|state| **state != StepState::Gone).collect();
    let applied = there.iter().filter(|state| ***state == StepState::Applied).count();
    Some(match applied {
        n if n == there.len() => Verdict::Contained,
        0 => Verdict::CannotContain,
        _ => Verdict::Partial,
    })
}

/// How the collection of evidence stands, where it was begun.
fn evidence<'a>(incident: &Incident, steps: &'a [StepRecord]) -> Option<&'a StepRecord> {
    let snapshot = incident.plan.steps.iter().find(|step| step.action == ActionId::SnapshotLogs)?;
    record_of(snapshot, steps)
}

/// Whether the evidence of an incident is kept. What became of a collection that failed is a page of its step.
pub(super) fn is_kept(incident: &Incident, steps: &[StepRecord]) -> bool {
    evidence(incident, steps).is_some_and(|record| record.state == StepState::Applied)
}

/// How a step of the plan came to its end, with the rungs below it; `None` while it has not.
fn ended(step: &Step, steps: &[StepRecord]) -> Option<StepState> {
    match Standing::of(step, steps) {
        Standing::NotBegun | Standing::UnderWay => None,
        Standing::Held(_) => Some(StepState::Applied),
        Standing::Ended(record) => Some(record.state),
        Standing::Refused(_) => Some(StepState::Failed),
    }
}

/// The pages about single steps: those that ended badly, and those all of whose rungs were refused. A rung that gave way
/// to one that holds, or that is being tried, pages nothing of its own.
pub(super) fn ended_badly(incident: &Incident, steps: &[StepRecord]) -> Vec<Occasion> {
    let bad = |record: &&StepRecord| matches!(record.state, StepState::Failed | StepState::Withheld);
    let occasion = |record: &StepRecord| Occasion::Step(record.step.clone(), record.state);
    let mut occasions = Vec::new();
    for step in &incident.plan.steps {
        match Standing::of(step, steps) {
            Standing::Ended(record) if bad(&record) => occasions.push(occasion(record)),
            Standing::Refused(_) => occasions.push(Occasion::CannotContain(step.key())),
            _ => {}
        }
    }
    let planned = |record: &&StepRecord| incident.plan.steps.iter().any(|step| step.key() == record.step);
    let others = steps.iter().filter(|record| !planned(record) && ladder::top(record.action).is_none());
    occasions.extend(others.filter(bad).map(occasion));
    occasions
}

/// The page about a deny that is in force though its incident waits for a person: it was put there while the ledger did
/// not answer.
pub(super) fn in_force_unasked(incident: &Incident, steps: &[StepRecord]) -> Option<Occasion> {
    let mut records = incident.plan.steps.iter().filter_map(|step| record_of(step, steps));
    let denied = |record: &&StepRecord| record.state == StepState::Applied && ladder::top(record.action).is_some();
    records.find(denied).map(|record| Occasion::Step(record.step.clone(), StepState::Applied))
}

fn record_of<'a>(step: &Step, steps: &'a [StepRecord]) -> Option<&'a StepRecord> {
    let key = step.key();
    steps.iter().find(|record| record.step == key)
}

pub(super) fn page(
    occasion: &Occasion,
    incident: &Incident,
    steps: &[StepRecord],
    findings: &[FindingRecord],
    setting: &Setting,
) -> Page {
    let mut draft = Draft::default();
    let who = incident.principal.name.to_string();
    draft.line(&headline(occasion, incident, steps));
    if incident.drill {
        draft.line("This is a drill: everything named here belongs to a game day.");
    }
    happened(&mut draft, incident, findings);
    if *occasion == Occasion::Approval || *occasion == Occasion::Withheld {
        draft.section(if *occasion == Occasion::Approval { "What an approval would do" } else { "What was withheld" });
        for step in &incident.plan.steps {
            draft.line(&format!("  {}", step.key()));
        }
    } else {
        progress(&mut draft, occasion, incident, steps);
    }
    if matches!(occasion, Occasion::CannotContain(_) | Occasion::Complete(_)) {
        by_hand::section(&mut draft, incident, steps, setting);
    }
    who_else(&mut draft, occasion, incident);
    next_step(&mut draft, occasion, incident, steps, setting);
    let with_commands = matches!(
        occasion,
        Occasion::Step(..)
            | Occasion::CannotContain(_)
            | Occasion::Complete(_)
            | Occasion::Ordered
            | Occasion::Releasing
            | Occasion::Stopped(_)
    );
    if with_commands {
        undo::section(&mut draft, incident, steps, setting);
    }
    let drill = if incident.drill { "drill: " } else { "" };
    draft.page(&format!("{drill}{}: {who}", word(occasion)))
}

fn word(occasion: &Occasion) -> String {
    match occasion {
        Occasion::Ordered => "containing".to_owned(),
        Occasion::Approval => "approve or leave".to_owned(),
        Occasion::Withheld => "withheld".to_owned(),
        Occasion::Step(_, state) => format!("step {state}"),
        Occasion::CannotContain(_) => "CANNOT CONTAIN, act now".to_owned(),
        Occasion::Complete(verdict) => verdict.as_str().to_owned(),
        Occasion::Evidence => "evidence kept".to_owned(),
        Occasion::Traced(_) => "chained sessions".to_owned(),
        Occasion::Releasing => "releasing".to_owned(),
        Occasion::Stopped(_) => "NOT released".to_owned(),
        Occasion::Released => "released".to_owned(),
        Occasion::Finding(_) => "noted".to_owned(),
        Occasion::Paused => "paused".to_owned(),
        Occasion::Forgery(_) => "a record was refused".to_owned(),
        Occasion::Resumed => "resumed".to_owned(),
    }
}

fn headline(occasion: &Occasion, incident: &Incident, steps: &[StepRecord]) -> String {
    let who = format!("{} in account {}", incident.principal.name, incident.account);
    match occasion {
        Occasion::Ordered => format!("Firebreak is containing {who}."),
        Occasion::Approval => format!("Firebreak would contain {who}, and waits for your approval."),
        Occasion::Withheld => format!("Firebreak did not contain {who}: a guard rail forbids it."),
        Occasion::Step(key, StepState::Withheld) => {
            format!("A guard rail withheld a step against {who}: {}.", clean(key, 300))
        }
        Occasion::Step(key, StepState::Applied) => format!(
            "{who} is denied already, while the incident waits for your approval: {}. It was put in force while the \
             ledger did not answer.",
            clean(key, 300)
        ),
        Occasion::Step(key, _) => format!("A step against {who} failed: {}.", clean(key, 300)),
        Occasion::CannotContain(_) => {
            format!("Firebreak cannot deny {who} anything: every way of it was refused. The thief can still act.")
        }
        Occasion::Complete(Verdict::Contained) => {
            format!("{who} is contained: every step that contains was read back.")
        }
        Occasion::Complete(Verdict::Partial) => format!("{who} is contained in part only."),
        Occasion::Complete(Verdict::CannotContain) => format!("Firebreak cannot contain {who}: no step took hold."),
        Occasion::Evidence => format!("The evidence about {who} is collected and signed."),
        Occasion::Releasing => format!("The containment of {who} is being released."),
        Occasion::Stopped(_) => {
            format!("The release of {who} stopped before anything was undone: it is `{}` as before.", incident.state)
        }
        Occasion::Released if steps.is_empty() => {
            format!("The incident of {who} is closed: nothing had been contained.")
        }
        Occasion::Released => format!("The containment of {who} is released."),
        Occasion::Traced(_) | Occasion::Forgery(_) | Occasion::Finding(_) | Occasion::Paused | Occasion::Resumed => {
            format!("About {who}.")
        }
    }
}

fn happened(draft: &mut Draft, incident: &Incident, findings: &[FindingRecord]) {
    draft.section("What happened");
    match &incident.origin {
        Origin::Finding { finding_id, finding_type, severity, finding_key } => {
            if let Some(record) = findings.iter().find(|f| f.finding_key == *finding_key) {
                finding::describe(draft, record);
            } else {
                let severity = severity.map_or("without severity".to_owned(), |s| format!("severity {s:.1}"));
                draft.field("Finding", &format!("{} ({severity})", clean(finding_type, 150)));
                draft.field("Finding id", &clean(finding_id, 200));
            }
            if findings.len() > 1 {
                draft.field("Findings", &format!("{} updates of findings led to this incident", findings.len()));
            }
        }
        Origin::Person { requested_by, reason, invocation } => {
            draft.field("Asked by", &format!("{} (a person, by direct invocation)", clean(requested_by, 256)));
            draft.field("Reason", &clean(reason, 500));
            draft.field("Invocation", &clean(invocation, 80));
        }
    }
    let principal = &incident.principal;
    draft.field("Who", &principal.arn.as_ref().map_or_else(|| principal.name.to_string(), |arn| clean(arn, 600)));
    if let Some(id) = &principal.unique_id {
        draft.field("Unique id", id.as_str());
    }
    for function in &incident.functions {
        draft.field("Function", &function.to_string());
    }
    if principal.name.kind() == PrincipalKind::Role && incident.others().is_none() {
        draft.field("Also used by", "not known: the inventory holds no record of the role");
    }
    for key in &incident.access_keys {
        draft.field("Access key", key.as_str());
    }
    draft.field(
        "Decision",
        &format!("{} (rule `{}`, mode {})", incident.decision, clean(&incident.rule, 80), incident.mode),
    );
    draft.field("Why", &clean(&incident.reason, 500));
    draft.field("Head start", &head_start(incident));
    let times = if incident.episode > 1 { " (it was released and opened again)" } else { "" };
    draft.field("Incident", &format!("{}, episode {}{times}", incident.incident_id, incident.episode));
}

/// Who else a denied role stops, or would stop.
fn who_else(draft: &mut Draft, occasion: &Occasion, incident: &Incident) {
    let (Some(usage), Some((others, unnamed))) = (&incident.usage, incident.others()) else { return };
    let over = matches!(occasion, Occasion::Withheld | Occasion::Releasing | Occasion::Released);
    if over || (others.is_empty() && unnamed == 0 && usage.unread.is_empty()) {
        return;
    }
    draft.section(if *occasion == Occasion::Approval { "Who else an approval would stop" } else { "Who else is hit" });
    let age = usage.age(incident.updated_at);
    let old = if age < OLD { String::new() } else { format!(", which is old: {} before this", span(age)) };
    draft.line(&format!("{} run as the role, as of {}{old}.", usage.count, usage.scanned_at));
    for user in others {
        draft.line(&format!("  {}", clean(user, 300)));
    }
    if unnamed > 0 {
        draft.line(&format!("  and {unnamed} more"));
    }
    for place in &usage.unread {
        draft.line(&format!("There may be more: {} could not be read.", clean(place, 100)));
    }
}

fn head_start(incident: &Incident) -> String {
    match incident.first_seen {
        None => format!("not known; Firebreak opened the incident at {}", incident.opened_at),
        Some(seen) => {
            let length = incident.opened_at.duration_since(seen).max(SignedDuration::ZERO);
            format!("the thief had {}: first seen {seen}, incident opened {}", span(length), incident.opened_at)
        }
    }
}

/// What is verified, what is not.
fn progress(draft: &mut Draft, occasion: &Occasion, incident: &Incident, steps: &[StepRecord]) {
    // A release has the revocation written whether it was planned or not.
    let unplanned = steps.iter().filter(|r| incident.plan.steps.iter().all(|s| s.key() != r.step));
    let all: Vec<(String, Option<&StepRecord>)> = incident
        .plan
        .steps
        .iter()
        .map(|step| (step.key(), record_of(step, steps)))
        .chain(unplanned.map(|record| (record.step.clone(), Some(record))))
        .filter(|(_, record)| record.is_some() || *occasion != Occasion::Released)
        .collect();
    let (done, open): (Vec<_>, Vec<_>) = all.iter().partition(|(_, r)| {
        r.is_some_and(|r| {
            matches!(r.state, StepState::Applied | StepState::Gone | StepState::Reverted) || held(r, steps).is_some()
        })
    });
    draft.section("What is verified");
    if done.is_empty() {
        draft.line("Nothing.");
    }
    for (key, record) in done {
        let Some(record) = record else { continue };
        if let Some(holds) = held(record, steps) {
            draft.line(&format!("[x] {}", clean(key, 300)));
            draft.line(&format!(
                "    held by {} in its place; itself refused: {}",
                holds.action,
                clean(&record.detail, 600)
            ));
            continue;
        }
        let at = record.reverted_at.or(record.verified_at).unwrap_or(record.updated_at);
        draft.line(&format!("[x] {}", clean(key, 300)));
        let mut told = record.detail.split(MISSING);
        draft.line(&format!("    {} {at}: {}", record.state, clean(told.next().unwrap_or_default(), 600)));
        for gap in told {
            draft.line(&format!("    not collected: {}", clean(gap, 250)));
        }
    }
    if !open.is_empty() {
        draft.section("What is not, or not yet");
    }
    for (key, record) in open {
        draft.line(&format!("[ ] {}", clean(key, 300)));
        match record {
            None => draft.line("    under way: nothing is recorded yet"),
            Some(record) => draft.line(&format!("    {}: {}", state(record.state), clean(&record.detail, 600))),
        }
    }
}

/// The rung that holds in the place of one that failed.
fn held<'a>(record: &StepRecord, steps: &'a [StepRecord]) -> Option<&'a StepRecord> {
    let planned = Step { action: ladder::top(record.action)?, target: record.target.clone() };
    match Standing::of(&planned, steps) {
        Standing::Held(holds) if record.state == StepState::Failed => Some(holds),
        _ => None,
    }
}

fn state(state: StepState) -> &'static str {
    match state {
        StepState::Intended => "begun, not verified",
        StepState::LeftAlone => "left alone",
        other => other.as_str(),
    }
}

fn next_step(draft: &mut Draft, occasion: &Occasion, incident: &Incident, steps: &[StepRecord], setting: &Setting) {
    draft.section("Next step");
    let id = &incident.incident_id;
    match occasion {
        Occasion::Ordered => {
            draft.line("Wait for the page that says how it ended. If this is the wrong one, release it:");
            draft.release(incident, setting);
        }
        Occasion::Approval => {
            draft.line("Look at the finding. If it is true, approve:");
            draft.command(&setting.approve(id));
            draft.line("If it is not, close the incident:");
            draft.release(incident, setting);
        }
        Occasion::Withheld => {
            draft.line("Firebreak will not touch this principal. Decide by hand, with rights that Firebreak does not");
            draft.line("have; or correct the guard rail in the playbook, and contain again.");
        }
        Occasion::Step(_, StepState::Withheld) => {
            draft.line("Firebreak will not do this step. Decide whether a person must.");
        }
        Occasion::Step(_, StepState::Applied) => {
            draft.line("If the finding is true, approve, and the rest of the plan follows:");
            draft.command(&setting.approve(id));
            draft.line("If it is not, release it, which takes the deny away:");
            draft.release(incident, setting);
        }
        Occasion::Step(..) => {
            draft.line(
                "Transient failures are tried again, and page again when they end otherwise. What was denied, or",
            );
            draft.line("what ran into a quota, a person with more rights must do by hand.");
        }
        Occasion::CannotContain(_) => {
            draft
                .line("The commands above, at once. What else was planned goes on meanwhile. When they took hold, ask");
            draft.line("Firebreak to contain it again: what it does then, it can undo.");
            draft.command(&setting.contain(&incident.principal.name));
            draft.line("When it is over, release it, and take away what you put there by hand:");
            draft.release(incident, setting);
        }
        Occasion::Complete(verdict) => {
            draft.line(match verdict {
                Verdict::Contained => "Investigate and recover. What the thief did before, this does not undo.",
                Verdict::Partial => "Do by hand what is not verified above. Until then the thief may still act.",
                Verdict::CannotContain => "Contain by hand now: the thief can still act.",
            });
            if *verdict != Verdict::Contained {
                draft.line("Or have Firebreak try again, once what stood in its way is gone:");
                draft.command(&setting.contain(&incident.principal.name));
            }
            if evidence(incident, steps).is_some_and(|record| record.state == StepState::Intended) {
                draft.line("The evidence is still being collected: another page says when it is kept.");
            }
            draft.line("When it is over, or if this is the wrong one, release it:");
            draft.release(incident, setting);
        }
        Occasion::Evidence => {
            draft.line("Read the report first. The evidence goes onto your machine, and is checked there, with:");
            draft.command(&format!("firebreak evidence pull {id}{}", setting.of_stack()));
            draft.command(&format!("firebreak evidence verify {id}"));
            draft.line("The containment stays until it is released.");
        }
        Occasion::Releasing => {
            draft.line("Wait for the page that says that it is released. If none comes, ask for the release again:");
            draft.release(incident, setting);
        }
        Occasion::Stopped(_) => {
            if let Some(stopped) = &incident.stopped {
                draft.field("Stopped", &stopped.at.to_string());
                draft.field("Asked by", &clean(&stopped.by, 256));
                draft.field("Why", &clean(&stopped.why, 900));
            }
            draft.line(
                "What is in force stays in force, and is watched as before. See to the reason (a quota of inline",
            );
            draft.line("policies that is full, a policy of the organisation), then ask for the release again:");
            draft.release(incident, setting);
        }
        Occasion::Released => released(draft, incident, steps),
        Occasion::Traced(_) | Occasion::Forgery(_) | Occasion::Finding(_) | Occasion::Paused | Occasion::Resumed => {
            draft.line("Nothing.");
        }
    }
}

fn released(draft: &mut Draft, incident: &Incident, steps: &[StepRecord]) {
    if let Some(release) = &incident.release {
        draft.field("Released by", &clean(&release.by, 256));
        draft.field("Reason", &clean(&release.reason, 500));
        draft.field("Begun", &release.at.to_string());
        for step in &release.left_alone {
            draft.line(&format!("Someone changed this since, so it was left as it is: {}", clean(step, 300)));
        }
    }
    for record in steps.iter().filter(|record| record.state == StepState::LeftAlone) {
        undo::left_alone(draft, record);
    }
    draft
        .line("Check that the service works. Where a revocation is verified above, sessions issued before the release");
    draft.line("stay dead; Firebreak removes it when the longest of them has ended.");
}

/// The owners whose records a page about this incident reads.
pub(super) fn owners(incident: &Incident) -> std::collections::BTreeSet<FunctionName> {
    let mut owners = incident.plan.owners();
    owners.insert(FunctionName::RevokeSessions);
    owners
}
