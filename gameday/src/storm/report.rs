//! What became of a storm, and whether it is what it must be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use firebreak_model::ledger::{IncidentState, StepState};
use serde_json::{Value, json};

use super::Size;
use super::balance::Balance;
use super::faults::Outcome;
use crate::ledger::Book;

/// How the invocations ended.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// All of them, tries included.
    pub invocations: usize,
    /// By the outcome of the answer, or the type of the error; `killed` where one took too long.
    pub by_name: BTreeMap<String, usize>,
    /// The first message of each type of error.
    pub said: BTreeMap<String, String>,
    /// Those that denied while the ledger did not answer, and left it to the next try to put that on record.
    pub without_record: usize,
    /// Deliveries that came into the queue of failures.
    pub into_the_queue: usize,
    /// How often that queue was sent through again.
    pub redrives: usize,
    /// Deliveries that were sent through again.
    pub redriven: usize,
}

/// A storm that is over.
#[derive(Debug, Clone)]
pub struct Report {
    /// How large it was.
    pub size: Size,
    /// The load of the machine when it began.
    pub load: String,
    /// From the first delivery to the end of the last.
    pub took: Duration,
    /// How the invocations ended.
    pub ends: Ends,
    /// From the hand-out of the first finding that is reason enough to the deny, of each principal, sorted.
    pub to_deny: Vec<Duration>,
    /// Calls by operation and outcome.
    pub calls: BTreeMap<(String, Outcome), usize>,
    /// The changes.
    pub balance: Balance,
    /// Deliveries that were left in the queue of failures.
    pub lost: usize,
    /// Principals that are contained, read back.
    pub contained: usize,
    /// Principals that wait for a person.
    pub waiting: usize,
    /// Findings on record.
    pub findings: usize,
    /// What is not as it must be.
    pub problems: Vec<String>,
}

/// The load of the machine: the last minute, five, fifteen.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Changes that containing takes: the deny and the revocation; of a user also its two access keys.
fn changes_of(contained: usize, users: usize) -> usize {
    2 * contained + 2 * users
}

impl Report {
    /// Of a storm of that size, of which nothing is known yet.
    pub(super) fn default_of(size: Size) -> Self {
        Self {
            size,
            load: String::new(),
            took: Duration::ZERO,
            ends: Ends::default(),
            to_deny: Vec::new(),
            calls: BTreeMap::new(),
            balance: Balance::default(),
            lost: 0,
            contained: 0,
            waiting: 0,
            findings: 0,
            problems: Vec::new(),
        }
    }

    /// Compares what the ledger says and what is attached with what must be.
    pub(super) fn judge(&mut self, book: &Book, denied: &BTreeSet<String>) {
        let Size { findings, principals, .. } = self.size;
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        check(self.lost == 0, format!("{} deliveries are left in the queue of failures", self.lost));
        let recorded: BTreeSet<&str> = book.findings.iter().map(|f| f.finding_id.as_str()).collect();
        self.findings = recorded.len();
        check(self.findings == findings, format!("{} of {findings} findings are on record", self.findings));
        check(
            book.findings.len() == findings,
            format!("{} records of {findings} findings: one update, one record", book.findings.len()),
        );
        let incidents = book.incidents.len();
        check(incidents == principals, format!("{incidents} incidents about {principals} principals"));
        let once = book.incidents.iter().filter(|i| i.episode == 1).count();
        check(once == incidents, format!("{} incidents were opened more than once", incidents - once));

        let ordered = book.incidents.iter().filter(|i| i.state == IncidentState::Ordered);
        let ordered: Vec<_> = ordered.collect();
        let whole = ordered.iter().filter(|i| {
            let steps = book.steps_of(&i.incident_id);
            steps.len() == i.plan.steps.len() && steps.iter().all(|step| step.state == StepState::Applied)
        });
        self.contained = whole.count();
        self.waiting = book.incidents.iter().filter(|i| i.state == IncidentState::AwaitingApproval).count();
        check(
            self.contained == ordered.len(),
            format!("{} of {} ordered containments are whole", self.contained, ordered.len()),
        );
        let names: BTreeSet<String> = ordered.iter().map(|incident| incident.principal.name.to_string()).collect();
        check(names.is_subset(denied), format!("{} of those ordered to be denied are not", (&names - denied).len()));
        // What is denied without a record may be held back by the breaker when the ledger answers again.
        let beyond = (denied - &names).len();
        let without_record = self.ends.without_record;
        check(
            beyond <= without_record,
            format!("{beyond} principals are denied and not ordered to be, {without_record} denies had no record"),
        );
        check(
            self.contained + self.waiting == principals,
            format!("{} contained and {} waiting, of {principals}", self.contained, self.waiting),
        );
        if self.size.breaker.is_some() {
            check(self.contained == principals, format!("{} of {principals} are contained", self.contained));
        }
        let users = names.iter().filter(|name| name.starts_with("user/")).count();
        let needed = changes_of(self.contained, users) + beyond;
        check(
            self.balance.needed() == needed,
            format!("{} different changes were carried out, {needed} are needed", self.balance.needed()),
        );
        // A deny without a record is unknown to the other environments: it may meet one, and one may meet it.
        let is_deny = |change: &&String| change.starts_with("Attach");
        let (attached, others): (Vec<_>, Vec<_>) = self.balance.needless.iter().partition(is_deny);
        check(
            others.is_empty() && attached.len() <= 2 * without_record,
            format!(
                "changes made again without need: {attached:?} and {others:?}; {without_record} denies had no record"
            ),
        );
        self.problems = problems;
    }

    /// Of each principal's way to its deny: this share took no longer.
    fn quantile(&self, share: usize) -> Duration {
        let last = self.to_deny.len().saturating_sub(1);
        self.to_deny.get(last * share / 100).copied().unwrap_or_default()
    }

    /// Deliveries a second, from the first to the last.
    fn throughput(&self) -> f64 {
        let deliveries = u32::try_from(self.size.findings * self.size.copies).unwrap_or(u32::MAX);
        f64::from(deliveries) / self.took.as_secs_f64().max(0.001)
    }

    fn total(&self, outcome: Outcome) -> usize {
        self.calls.iter().filter(|((_, of), _)| *of == outcome).map(|(_, count)| count).sum()
    }

    /// Everything, as JSON.
    pub fn json(&self) -> Value {
        let mut calls: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for ((operation, outcome), count) in &self.calls {
            calls.entry(operation).or_default().insert(outcome.name(), *count);
        }
        let weather = self.size.weather;
        let ms = |share| u64::try_from(self.quantile(share).as_millis()).unwrap_or(u64::MAX);
        json!({
            "size": {"findings": self.size.findings, "principals": self.size.principals,
                "copies": self.size.copies, "processes": self.size.processes},
            "weather_per_mille": {"seed": weather.seed, "throttled": weather.throttled, "failed": weather.failed,
                "lost": weather.lost, "dropped": weather.dropped},
            "load_at_the_start": self.load,
            "seconds": self.took.as_secs_f64(),
            "deliveries_per_second": self.throughput(),
            "finding_to_deny_ms": {"p50": ms(50), "p99": ms(99), "worst": ms(100)},
            "invocations": {"all": self.ends.invocations, "by_end": self.ends.by_name,
                "denied_without_record": self.ends.without_record},
            "queue_of_failures": {"came_in": self.ends.into_the_queue, "sent_through": self.ends.redriven,
                "rounds": self.ends.redrives, "left": self.lost},
            "contained": self.contained,
            "waiting": self.waiting,
            "findings_on_record": self.findings,
            "changes": {"needed": self.balance.needed(), "again_at_once": self.balance.at_once,
                "of_these_after_a_lost_answer": self.balance.after_lost, "again_unseen": self.balance.blind,
                "again_needless": self.balance.needless.len()},
            "calls": calls,
            "problems": self.problems,
        })
    }

    /// The tables.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let Size { findings, principals, copies, processes, weather, .. } = self.size;
        let percent = |share: u64| format!("{}.{} %", share / 10, share % 10);
        let mut row = |name: &str, value: &str| writeln!(text, "| {name} | {value} |");
        let _ = row("A storm", "");
        let _ = row("---", "---");
        let _ = row("Findings, principals, deliveries", &format!("{findings}, {principals}, {}", findings * copies));
        let _ = row(
            "Processes",
            &format!("{processes} of `quarantine-principal`, {} of `revoke-sessions`", processes.div_ceil(4)),
        );
        let _ = row(
            "Calls that are throttled, fail, lose their answer, are dropped",
            &[weather.throttled, weather.failed, weather.lost, weather.dropped].map(percent).join(", "),
        );
        let _ = row("Load of the machine at the start", &self.load);
        let _ = row("Took", &format!("{:.0} s, {:.0} deliveries a second", self.took.as_secs_f64(), self.throughput()));
        let _ = row(
            "From the hand-out of the first finding that is reason enough to the deny: p50, p99, worst",
            &[50, 99, 100].map(|share| format!("{:.2} s", self.quantile(share).as_secs_f64())).join(", "),
        );
        let _ = row("Contained, waiting for a person", &format!("{}, {}", self.contained, self.waiting));
        let _ = row("Findings on record", &self.findings.to_string());
        let ends = &self.ends;
        let by_name: Vec<String> = ends.by_name.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let _ = row("Invocations", &format!("{}: {}", ends.invocations, by_name.join(", ")));
        let _ = row("Denied while the ledger did not answer, recorded later", &ends.without_record.to_string());
        let _ = row(
            "Came into the queue of failures, left there",
            &format!("{}, {} (sent through {} times)", ends.into_the_queue, self.lost, ends.redrives),
        );
        let balance = &self.balance;
        let _ = row("Changes that were needed, and carried out", &balance.needed().to_string());
        let _ = row(
            "Made again: at the same moment (of these, after a lost answer), unseen, needlessly",
            &format!("{} ({}), {}, {}", balance.at_once, balance.after_lost, balance.blind, balance.needless.len()),
        );

        let operations: BTreeSet<&str> = self.calls.keys().map(|(operation, _)| operation.as_str()).collect();
        let _ = writeln!(text, "\n| Calls | {} |", Outcome::ALL.map(Outcome::name).join(" | "));
        let _ = writeln!(text, "|---|{}", "---:|".repeat(Outcome::ALL.len()));
        for operation in operations {
            let counts = Outcome::ALL.map(|outcome| {
                self.calls.get(&(operation.to_owned(), outcome)).copied().unwrap_or_default().to_string()
            });
            let _ = writeln!(text, "| `{operation}` | {} |", counts.join(" | "));
        }
        let totals = Outcome::ALL.map(|outcome| self.total(outcome).to_string());
        let _ = writeln!(text, "| all | {} |", totals.join(" | "));
        text
    }
}
