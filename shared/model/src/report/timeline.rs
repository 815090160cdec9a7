//! One timeline of everything: findings, the thief's calls, what Firebreak did and read back, what persons did.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Sources, seconds};
use crate::action::named;
use crate::deeds::{Deed, Tally, Whose};
use crate::ids::FunctionArn;
use crate::ledger::{Origin, StepRecord, StepState};
use crate::tamper::Nature;
use crate::watch::Standing;

/// The most moments that a timeline has room for. Findings, steps and persons come first.
const MOST: usize = 600;

/// Calls of one name that follow each other this closely are one moment.
const CLOSE: SignedDuration = SignedDuration::from_secs(60);

named!(
    /// Whose moment it is.
    Who {
        /// Whoever uses what was stolen.
        Thief = "thief",
        /// The contained principal, with a key that no finding names: its own work, or a thief's.
        Principal = "principal",
        /// A finding's source.
        Detection = "detection",
        /// One of our functions.
        Firebreak = "firebreak",
        /// A person who asked Firebreak for something.
        Person = "person",
        /// Whoever else.
        Somebody = "somebody",
    }
);

named!(
    /// What a moment means for whoever reads it.
    Tone {
        /// It happened.
        Plain = "plain",
        /// Something holds.
        Good = "good",
        /// Harm, or something that does not hold.
        Bad = "bad",
    }
);

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// Whose it is.
    pub who: Who,
    /// What it means.
    pub tone: Tone,
    /// What happened, in a few words.
    pub what: String,
    /// More of it.
    pub detail: String,
}

/// The moments in order, and how many there was no room for.
pub(super) fn of(sources: &Sources<'_>) -> (Vec<Moment>, u64) {
    let mut all = Vec::new();
    findings(sources, &mut all);
    orders(sources, &mut all);
    sources.steps.iter().for_each(|step| of_step(step, sources.region, &mut all));
    guarded(sources, &mut all);
    let room = MOST.saturating_sub(all.len());
    let mut calls = calls(sources.deeds);
    // Where there is no room for all, what left something behind and what succeeded stays.
    calls.sort_by_key(|(weight, _, moment)| (*weight, moment.at));
    let mut left_out = calls.iter().skip(room).map(|(.., times, _)| *times).sum::<u64>();
    left_out += sources.deeds.calls() - sources.deeds.kept().len() as u64;
    all.extend(calls.into_iter().take(room).map(|(.., moment)| moment));
    left_out += all.len().saturating_sub(MOST) as u64;
    // A sort that is stable: what has one time stays in the order of the story.
    all.sort_by_key(|moment| moment.at);
    all.truncate(MOST);
    (all, left_out)
}

fn moment(at: Timestamp, who: Who, tone: Tone, what: impl Into<String>, detail: impl Into<String>) -> Moment {
    Moment { at, who, tone, what: what.into(), detail: detail.into() }
}

fn findings(sources: &Sources<'_>, all: &mut Vec<Moment>) {
    if let Some(seen) = sources.incident.first_seen {
        all.push(moment(seen, Who::Thief, Tone::Bad, "The activity is first seen", "as the finding says"));
    }
    for finding in sources.findings {
        let severity = finding.severity.map(|severity| format!(", severity {severity}")).unwrap_or_default();
        let what = format!("{} reports {}{severity}", finding.source, finding.finding_type);
        let detail = format!("{} by rule {}: {}", finding.effective, finding.rule, finding.reason);
        all.push(moment(finding.received_at, Who::Detection, Tone::Plain, what, detail));
    }
}

/// A step's key, with the name of a function in place of its ARN, and its Region where it is not the stack's.
fn shown(key: &str, home: &str) -> String {
    let parts = key.split_once('@').and_then(|(action, target)| {
        let (arn, phase) = target.split_once('@').map_or((target, None), |(arn, phase)| (arn, Some(phase)));
        Some((action, arn.parse::<FunctionArn>().ok()?, phase))
    });
    let Some((action, arn, phase)) = parts else { return key.to_owned() };
    let phase = phase.map(|phase| format!("@{phase}")).unwrap_or_default();
    let region = if arn.region().as_str() == home { String::new() } else { format!(" in {}", arn.region()) };
    format!("{action}@function/{}{phase}{region}", arn.name())
}

fn orders(sources: &Sources<'_>, all: &mut Vec<Moment>) {
    let incident = sources.incident;
    if let Origin::Person { requested_by, reason, .. } = &incident.origin {
        let what = format!("{requested_by} asks to contain {}", incident.principal.name);
        all.push(moment(incident.opened_at, Who::Person, Tone::Plain, what, reason.clone()));
    }
    if let Some(approval) = &incident.approval {
        let what = format!("{} approves", approval.by);
        all.push(moment(approval.at, Who::Person, Tone::Plain, what, approval.reason.clone()));
    }
    if let Some(ordered) = incident.ordered_at {
        let plan: Vec<String> = incident.plan.steps.iter().map(|step| shown(&step.key(), sources.region)).collect();
        all.push(moment(ordered, Who::Firebreak, Tone::Plain, "The containment is ordered", plan.join(", ")));
    }
    if let Some(release) = &incident.release {
        let what = format!("{} releases", release.by);
        all.push(moment(release.at, Who::Person, Tone::Plain, what, release.reason.clone()));
    }
}

fn of_step(step: &StepRecord, home: &str, all: &mut Vec<Moment>) {
    let name = shown(&step.step, home);
    let verified = step.verified_at.filter(|_| step.state != StepState::Failed);
    match (verified, step.applied_at) {
        (Some(verified), applied) => {
            let took = applied.map(|applied| format!("applied {}", seconds(applied)));
            // What was undone since tells of its undoing.
            let detail = Some(step.detail.clone()).filter(|text| step.reverted_at.is_none() && !text.is_empty());
            let detail: Vec<String> = took.into_iter().chain(detail).collect();
            all.push(moment(verified, Who::Firebreak, Tone::Good, format!("{name} is read back"), detail.join("; ")));
        }
        (None, Some(applied)) if step.state == StepState::Applied => {
            let what = format!("{name} is applied");
            all.push(moment(applied, Who::Firebreak, Tone::Plain, what, step.detail.clone()));
        }
        _ => {}
    }
    let ended =
        |tone, what: &str| moment(step.updated_at, Who::Firebreak, tone, format!("{name} {what}"), step.detail.clone());
    match (step.state, step.reverted_at) {
        (_, Some(reverted)) => {
            let what = format!("{name} is undone");
            all.push(moment(reverted, Who::Firebreak, Tone::Plain, what, step.detail.clone()));
        }
        (StepState::Failed, None) => all.push(ended(Tone::Bad, "failed")),
        (StepState::Withheld, None) => all.push(ended(Tone::Bad, "was withheld")),
        (StepState::LeftAlone, None) => all.push(ended(Tone::Bad, "was left alone")),
        (StepState::Gone, None) => all.push(ended(Tone::Plain, "has nothing to act on")),
        (StepState::Intended | StepState::Applied | StepState::Reverted, None) => {}
    }
}

fn guarded(sources: &Sources<'_>, all: &mut Vec<Moment>) {
    for tamper in sources.tampers {
        let at = tamper.call.as_ref().map_or(tamper.at, |call| call.at);
        let by_thief = matches!(tamper.nature, Nature::Minted | Nature::Widened);
        let who = if by_thief { Who::Thief } else { Who::Somebody };
        let told = tamper.call.as_ref().map(|call| format!("{} from {}", call.name, call.address)).unwrap_or_default();
        let what = match tamper.nature {
            Nature::Undone => "Something of the containment was undone",
            Nature::Unbegun => "What was ordered was not carried out",
            Nature::Minted => "A contained principal made itself another one",
            Nature::Widened => "A contained principal opened itself a way in",
            Nature::Recreated => "The contained principal was deleted and made again",
            Nature::TrustChanged => "Who may assume the role was changed",
            Nature::OwnPart => "A part of Firebreak was changed",
        };
        let detail = [told, tamper.detail.clone()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        all.push(moment(at, who, Tone::Bad, what, detail.join(": ")));
    }
    for chain in sources.chains {
        let count = chain.sessions.len();
        let what = format!("CloudTrail was asked for sessions made from stolen ones: {count}");
        let tone = if count == 0 { Tone::Plain } else { Tone::Bad };
        all.push(moment(chain.updated_at, Who::Firebreak, tone, what, chain.gaps.join("; ")));
    }
    if let Some(watch) = sources.watch {
        for check in watch.checks.iter().filter(|check| !check.held) {
            let what = "A look finds that it does not hold";
            all.push(moment(check.at, Who::Firebreak, Tone::Bad, what, check.found.join("; ")));
        }
        if let (Standing::Settled, Some(at)) = (watch.standing, watch.settled_at) {
            let place = watch.regions_shown().map(|regions| format!(", asked in {regions},")).unwrap_or_default();
            let detail = match watch.cloudtrail_complete_until.map(seconds) {
                Some(until) => format!("CloudTrail{place} was complete up to {until}"),
                None => "CloudTrail was not asked".to_owned(),
            };
            all.push(moment(at, Who::Firebreak, Tone::Good, "The containment is settled", detail));
        }
    }
    for forgery in sources.forgeries {
        let detail = format!("{}: {}", forgery.record, forgery.problem);
        all.push(moment(forgery.found_at, Who::Somebody, Tone::Bad, "A record of the ledger was forged", detail));
    }
    for page in sources.pages {
        let what = format!("A page goes out: {}", page.occasion.split('-').next().unwrap_or_default());
        all.push(moment(page.sent_at, Who::Firebreak, Tone::Plain, what, String::new()));
    }
}

/// The calls, those of one name that follow closely as one moment; each with what it weighs, the least first, and how many
/// calls it is.
fn calls(deeds: &Tally) -> Vec<(u8, u64, Moment)> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for deed in deeds.kept() {
        let run = runs.iter_mut().rev().take(8).find(|run| run.takes(deed));
        match run {
            Some(run) => run.count(deed),
            None => runs.push(Run { first: deed, last: deed, times: 1 }),
        }
    }
    runs.iter().map(Run::told).collect()
}

/// Calls of one name, one end, one key, that follow each other closely.
struct Run<'a> {
    first: &'a Deed,
    last: &'a Deed,
    times: u64,
}

impl<'a> Run<'a> {
    fn takes(&self, deed: &Deed) -> bool {
        let of = |deed: &Deed| {
            let from = (&deed.access_key, &deed.address, &deed.agent, deed.whose);
            (deed.name.clone(), deed.refused.clone(), from.0.clone(), from.1.clone(), from.2.clone(), from.3)
        };
        deed.leaves.is_none() && of(self.first) == of(deed) && deed.at.duration_since(self.last.at) <= CLOSE
    }

    fn count(&mut self, deed: &'a Deed) {
        self.last = deed;
        self.times += 1;
    }

    fn told(&self) -> (u8, u64, Moment) {
        let deed = self.first;
        let own = deed.whose == Whose::Principal;
        let (weight, tone) = match (&deed.refused, deed.leaves) {
            (None, Some(_)) => (0, Tone::Bad),
            (None, None) if own => (3, Tone::Plain),
            (None, None) => (1, Tone::Bad),
            (Some(_), _) => (2 + 2 * u8::from(own), Tone::Good),
        };
        let who = if own { Who::Principal } else { Who::Thief };
        let times = if self.times > 1 { format!(" {} times", self.times) } else { String::new() };
        let end = deed.refused.as_ref().map(|code| format!(": {code}")).unwrap_or_default();
        let about: Vec<String> = deed.touched.iter().map(ToString::to_string).collect();
        let until = if self.times > 1 { format!("; until {}", seconds(self.last.at)) } else { String::new() };
        let agent =
            if deed.agent.is_empty() { String::new() } else { format!(", by {}", crate::ids::shown(&deed.agent)) };
        let detail = format!("{}; from {} in {}{agent}{until}", about.join(", "), deed.address, deed.region);
        (weight, self.times, moment(deed.at, who, tone, format!("{}{times}{end}", deed.name), detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_without_its_arn_and_with_its_region_where_that_is_another() {
        let key = "zero-concurrency@arn:aws:lambda:eu-west-1:111122223333:function:orders";
        assert_eq!(shown(key, "eu-west-1"), "zero-concurrency@function/orders");
        assert_eq!(shown(key, "us-east-1"), "zero-concurrency@function/orders in eu-west-1");
        assert_eq!(shown(&format!("{key}@release"), "eu-west-1"), "zero-concurrency@function/orders@release");
        for other in ["quarantine-role@role/orders", "quarantine-user@user/ana@example.org", "no key", ""] {
            assert_eq!(shown(other, "eu-west-1"), other);
        }
    }
}
