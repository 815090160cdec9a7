//! The incident report: what happened and when on one timeline, who and what is affected, what was touched and left
//! behind, what Firebreak did and how it was verified, the evidence, what is still open, and how to release.
//!
//! Made from records alone, the same ones give the same report. Texts in it are foreign: [`html`] and [`markdown`]
//! escape every one of them.

mod html;
mod markdown;
mod open;
mod timeline;

pub use html::html;
pub use markdown::markdown;
pub use timeline::{Moment, Tone, Who};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::SCHEMA;
use crate::deeds::{LeftBehind, Tally, Touched};
use crate::evidence::Purpose;
use crate::ids::{IncidentId, sha256_hex};
use crate::ledger::{
    ChainRecord, FindingRecord, ForgeryRecord, Incident, IncidentState, PageRecord, RevocationRecord, StepRecord,
    StepState,
};
use crate::tamper::Tamper;
use crate::watch::{Standing, Watch, lasts};

/// The most things that are listed as touched: the rest is counted.
const MOST_TOUCHED: usize = 200;

/// The most things that are listed as left behind.
const MOST_LEFT: usize = 200;

/// The most tools that are named.
const MOST_AGENTS: usize = 10;

/// What the calls that are told do not hold, whatever was collected.
const MANAGEMENT_ALONE: &str = "CloudTrail was asked for management events, which is what its event history has: objects \
                                of buckets, items of tables and invocations are in trails that record data events, and not \
                                here.";

/// The most objects that are listed of one collection, and the most gaps.
const MOST_OBJECTS: usize = 200;

/// Everything that a report is made from: of one incident, whatever its episode.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// When the report is made.
    pub made_at: Timestamp,
    /// The stack's name, for commands.
    pub stack: &'a str,
    /// The Region of the stack.
    pub region: &'a str,
    /// Whether `revoke-sessions` is part of it: a release is asked for otherwise without it.
    pub revokes: bool,
    /// The incident.
    pub incident: &'a Incident,
    /// Its findings.
    pub findings: &'a [FindingRecord],
    /// Its steps, of every episode.
    pub steps: &'a [StepRecord],
    /// The guard's watch, where there is one.
    pub watch: Option<&'a Watch>,
    /// What was done against it.
    pub tampers: &'a [Tamper],
    /// The sessions that were made from stolen ones.
    pub chains: &'a [ChainRecord],
    /// Revocations that are still in place.
    pub revocations: &'a [RevocationRecord],
    /// Records that were refused.
    pub forgeries: &'a [ForgeryRecord],
    /// Pages that were sent.
    pub pages: &'a [PageRecord],
    /// What the thief did.
    pub deeds: &'a Tally,
    /// Until when CloudTrail was complete when it was asked what the thief did; none where it was not asked.
    pub deeds_complete_to: Option<Timestamp>,
    /// The evidence, a snapshot each.
    pub evidence: &'a [Snapshot],
}

/// A snapshot, as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The manifest's key in the bucket.
    pub manifest: String,
    /// SHA-256 of the manifest; none of the one that names this report itself.
    pub sha256: Option<String>,
    /// Why it was made.
    pub purpose: Purpose,
    /// When it began.
    pub began_at: Timestamp,
    /// What is there.
    pub objects: Vec<Object>,
    /// How many more objects there are than are listed.
    #[serde(default)]
    pub objects_more: usize,
    /// What could not be collected, a sentence each.
    pub gaps: Vec<String>,
    /// How many more gaps there are than are listed.
    #[serde(default)]
    pub gaps_more: usize,
}

impl Snapshot {
    /// As it is listed: what is beyond the bounds is counted.
    fn listed(&self) -> Self {
        let mut listed = self.clone();
        listed.objects_more = listed.objects.len().saturating_sub(MOST_OBJECTS);
        listed.objects.truncate(MOST_OBJECTS);
        listed.gaps_more = listed.gaps.len().saturating_sub(MOST_OBJECTS);
        listed.gaps.truncate(MOST_OBJECTS);
        listed
    }
}

/// An object of the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its key in the bucket.
    pub key: String,
    /// What it is about.
    pub what: String,
    /// Bytes as stored.
    pub bytes: u64,
    /// SHA-256 of the bytes as stored.
    pub sha256: String,
}

/// How far the incident is contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every step held at every re-check, and CloudTrail shows no call since.
    Settled,
    /// Every step was read back.
    Contained,
    /// Some of it holds, some does not.
    Partial,
    /// Nothing is in force.
    NotContained,
    /// Released.
    Released,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this layout.
    pub schema: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// The incident.
    pub incident_id: IncidentId,
    /// Its episode.
    pub episode: u32,
    /// A game day's.
    pub drill: bool,
    /// The account.
    pub account: String,
    /// Kind and name of who is contained.
    pub principal: String,
    /// Its ARN, where it was read.
    pub arn: Option<String>,
    /// Its unique id, where it was read.
    pub unique_id: Option<String>,
    /// How far it is contained.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub sentence: String,
    /// What happened first and how long things took, a line each: label and value.
    pub facts: Vec<(String, String)>,
    /// Everything in the order in which it happened.
    pub timeline: Vec<Moment>,
    /// Calls and other moments that the timeline leaves out: it has room for so many.
    pub left_out: u64,
    /// Who and what is affected, a line each: label and value.
    pub affected: Vec<(String, String)>,
    /// What the thief's calls were about.
    pub touched: Vec<Touched>,
    /// How many more things were touched than are listed.
    pub touched_more: u64,
    /// What may outlive the session.
    pub left_behind: Vec<LeftBehind>,
    /// How much more was left behind than is listed.
    pub left_behind_more: u64,
    /// What Firebreak did.
    pub steps: Vec<Done>,
    /// The evidence.
    pub evidence: Vec<Snapshot>,
    /// What is still open, a sentence each.
    pub open: Vec<String>,
    /// How to release, a command each.
    pub release: Vec<String>,
    /// Digest of what the ledger told: as long as it is the same, a report that is made again says nothing new.
    pub gist: String,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The episode that it belongs to.
    pub episode: u32,
    /// What is done to what.
    pub step: String,
    /// Where it stands.
    pub state: StepState,
    /// What happened.
    pub detail: String,
    /// When the call had answered.
    pub applied_at: Option<Timestamp>,
    /// When it was read back.
    pub verified_at: Option<Timestamp>,
    /// When it was undone.
    pub reverted_at: Option<Timestamp>,
    /// How often it was tried.
    pub attempts: u32,
}

/// Makes the report.
pub fn of(sources: &Sources<'_>) -> Report {
    Report { gist: gist(sources), ..told(sources) }
}

/// What the ledger tells, as a digest: without the pages that follow from it.
pub fn gist(sources: &Sources<'_>) -> String {
    let report = told(&Sources {
        made_at: Timestamp::UNIX_EPOCH,
        pages: &[],
        deeds: &Tally::default(),
        deeds_complete_to: None,
        evidence: &[],
        ..*sources
    });
    sha256_hex(&serde_json::to_vec(&report).unwrap_or_default())
}

fn told(sources: &Sources<'_>) -> Report {
    let incident = sources.incident;
    let (verdict, sentence) = verdict(sources);
    let (timeline, left_out) = timeline::of(sources);
    let touched = sources.deeds.touched();
    let more = |all: usize, most: usize| all.saturating_sub(most) as u64;
    let touched_more = more(touched.len(), MOST_TOUCHED) + sources.deeds.touched_more();
    let left_behind_more = more(sources.deeds.left().count(), MOST_LEFT) + sources.deeds.left_more();
    let mut steps: Vec<Done> = sources.steps.iter().map(done).collect();
    steps.sort_by(|a, b| (a.episode, a.applied_at, &a.step).cmp(&(b.episode, b.applied_at, &b.step)));
    Report {
        schema: SCHEMA,
        made_at: sources.made_at,
        incident_id: incident.incident_id.clone(),
        episode: incident.episode,
        drill: incident.drill,
        account: incident.account.to_string(),
        principal: incident.principal.name.to_string(),
        arn: incident.principal.arn.clone(),
        unique_id: incident.principal.unique_id.as_ref().map(|id| id.as_str().to_owned()),
        verdict,
        sentence,
        facts: facts(sources),
        timeline,
        left_out,
        affected: affected(sources),
        touched: touched.into_iter().take(MOST_TOUCHED).cloned().collect(),
        touched_more,
        left_behind: sources.deeds.left().take(MOST_LEFT).cloned().collect(),
        left_behind_more,
        steps,
        evidence: sources.evidence.iter().map(Snapshot::listed).collect(),
        open: open::open(sources),
        release: open::release(sources),
        gist: String::new(),
    }
}

/// The steps of the present episode that are part of the containment, and whether each is in force.
fn present<'a>(sources: &Sources<'a>) -> impl Iterator<Item = &'a StepRecord> {
    let episode = sources.incident.episode;
    sources.steps.iter().filter(move |step| step.episode == episode && lasts(step.action))
}

fn verdict(sources: &Sources<'_>) -> (Verdict, String) {
    let incident = sources.incident;
    let say = |verdict, sentence: &str| (verdict, sentence.to_owned());
    match incident.state {
        IncidentState::AwaitingApproval => {
            return say(Verdict::NotContained, "Nothing is denied: it waits for a person to approve");
        }
        IncidentState::Withheld => {
            return say(Verdict::NotContained, "Nothing is denied: a guard rail withheld it");
        }
        IncidentState::Released => return say(Verdict::Released, "Released: what Firebreak did is undone"),
        IncidentState::Releasing => return say(Verdict::Partial, "A release is under way"),
        IncidentState::Ordered => {}
    }
    let watch = sources.watch.filter(|watch| watch.episode == incident.episode);
    match watch.map(|watch| watch.standing) {
        Some(Standing::Settled) => {
            let asked = watch.filter(|watch| watch.cloudtrail_complete_until.is_some());
            let told = match asked.map(Watch::regions_shown) {
                Some(Some(regions)) => format!("and CloudTrail, asked in {regions}, shows no call since"),
                Some(None) => "and CloudTrail shows no call since".to_owned(),
                None => "and CloudTrail was not asked: this rests on the re-checks alone".to_owned(),
            };
            return say(Verdict::Settled, &format!("Contained and settled: every step held at every re-check, {told}"));
        }
        Some(Standing::Partial) => {
            return say(Verdict::Partial, "Partly contained: some of it does not hold, or calls went through");
        }
        Some(Standing::CannotContain) => return say(Verdict::NotContained, "Not contained: nothing took hold"),
        Some(Standing::Undone) => {
            return say(Verdict::Partial, "Somebody undid some of it: it is being put back");
        }
        Some(Standing::Watching | Standing::Unproven | Standing::Stranded) | None => {}
    }
    // A rung that gave way to the one below it is no failure.
    let stands = |step: &StepRecord| step.state == StepState::Applied || step.state == StepState::Gone;
    let counted: Vec<_> = present(sources).filter(|step| step.refused.is_none() || stands(step)).collect();
    let planned = incident.plan.steps.iter().filter(|step| lasts(step.action)).count();
    let (held, all) = (counted.iter().filter(|step| stands(step)).count(), planned.max(counted.len()));
    match held {
        0 => say(Verdict::NotContained, "Nothing was read back yet"),
        held if held < all => (Verdict::Partial, format!("Partly contained: {held} of {all} steps were read back")),
        _ => say(Verdict::Contained, "Contained: every step was read back; re-checks go on"),
    }
}

/// The first time that a deny was read back in this episode.
fn denied_at(sources: &Sources<'_>) -> Option<Timestamp> {
    let denies = |step: &&StepRecord| crate::ladder::top(step.action).is_some();
    present(sources).filter(denies).filter_map(|step| step.verified_at).min()
}

fn facts(sources: &Sources<'_>) -> Vec<(String, String)> {
    let incident = sources.incident;
    let mut facts = Vec::new();
    let mut fact = |label: &str, value: String| facts.push((label.to_owned(), value));
    let received = sources.findings.iter().map(|finding| finding.received_at).min();
    let ordered = incident.ordered_at;
    let denied = denied_at(sources);
    if let Some(seen) = incident.first_seen {
        fact("Activity first seen", seconds(seen));
    }
    if let Some(received) = received {
        fact("First finding received", seconds(received));
        if let Some(seen) = incident.first_seen {
            fact("Head start before the finding", span(received.duration_since(seen)));
        }
    }
    if let Some(denied) = denied {
        fact("Deny read back", seconds(denied));
        if let Some(ordered) = ordered {
            fact("Order to deny", millis(denied.duration_since(ordered)));
        }
    }
    if let Some(until) = sources.deeds_complete_to {
        fact("Calls on record", calls(sources.deeds));
        let agents = sources.deeds.agents();
        for (agent, done, refused) in agents.iter().take(MOST_AGENTS) {
            let said = if agent.is_empty() { "nothing" } else { agent };
            fact(
                "The calls say that they were made with",
                format!("{said}: {} calls, {refused} refused", done + refused),
            );
        }
        let more: u64 = agents.iter().skip(MOST_AGENTS).map(|(_, done, refused)| done + refused).sum();
        let more = more + sources.deeds.agents_more();
        if more > 0 {
            fact("The calls say that they were made with", format!("something else: {more} calls"));
        }
        fact("CloudTrail complete up to", seconds(until));
    }
    fact("Rule", incident.rule.clone());
    fact("Reason", incident.reason.clone());
    facts
}

/// How many calls there were, and whose.
fn calls(deeds: &Tally) -> String {
    let own = deeds.of_the_principal();
    let own = if own == 0 { String::new() } else { format!("; {own} with keys that no finding names") };
    format!("{}, of which {} were refused{own}", deeds.calls(), deeds.refused())
}

fn affected(sources: &Sources<'_>) -> Vec<(String, String)> {
    let incident = sources.incident;
    let mut lines = vec![("Contained".to_owned(), incident.principal.name.to_string())];
    let mut line = |label: &str, value: String| lines.push((label.to_owned(), value));
    for function in &incident.functions {
        line("Function that runs as it", function.to_string());
    }
    if let Some(usage) = &incident.usage {
        for user in usage.users.iter().filter(|user| incident.functions.iter().all(|f| f.to_string() != **user)) {
            line("Also runs as it", user.clone());
        }
        let more = usage.count.saturating_sub(usage.users.len());
        if more > 0 {
            line("Also runs as it", format!("{more} more"));
        }
    }
    for key in &incident.access_keys {
        line("Access key named by a finding", key.as_str().to_owned());
    }
    for link in sources.chains.iter().flat_map(|chain| &chain.sessions) {
        let role = link.session.role.as_ref().map_or("a session of the user itself".to_owned(), |role| {
            format!("role/{} in account {}", role.name, role.account)
        });
        line("Session made from a stolen one", format!("{role}, by {}, {}", link.call, seconds(link.at)));
    }
    lines
}

fn done(step: &StepRecord) -> Done {
    Done {
        episode: step.episode,
        step: step.step.clone(),
        state: step.state,
        detail: step.detail.clone(),
        applied_at: step.applied_at,
        verified_at: step.verified_at,
        reverted_at: step.reverted_at,
        attempts: step.attempts,
    }
}

/// A time, to the second in which it lies, as CloudTrail has it.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// A length of time, to the two largest units.
fn span(length: SignedDuration) -> String {
    let (sign, seconds) = (if length.is_negative() { "-" } else { "" }, length.as_secs().unsigned_abs());
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let text = match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    };
    format!("{sign}{text}")
}

fn millis(length: SignedDuration) -> String {
    if length.as_secs().abs() < 10 { format!("{} ms", length.as_millis()) } else { span(length) }
}

#[cfg(test)]
mod tests;
