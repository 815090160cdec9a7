//! What a game day came to: for a person, and as JSON.
#![expect(clippy::print_stdout, reason = "the summary is the program's output")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::adversary::score::Score;
use crate::check::Check;
use crate::narrator::Line;

/// One scenario.
#[derive(Debug, Clone, Serialize)]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub summary: String,
    /// Whether every check held and it came to its end.
    pub passed: bool,
    /// What ended it early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: i64,
    /// Times of note, in milliseconds.
    pub measures: BTreeMap<String, i64>,
    /// What an adversary achieved, bout by bout.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Score>,
    /// What was checked.
    pub checks: Vec<Check>,
    /// What happened.
    pub timeline: Vec<Line>,
}

impl ScenarioReport {
    /// What did not hold, one line each.
    pub fn failures(&self) -> Vec<String> {
        let unheld = self.checks.iter().filter(|check| !check.held);
        let mut failures: Vec<String> =
            unheld.map(|c| format!("{}: expected {}, found {}", c.name, c.expected, c.found)).collect();
        failures.extend(self.error.iter().map(|error| format!("ended early: {error}")));
        failures
    }
}

/// The whole day.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of this layout.
    pub schema: u32,
    /// When it began.
    pub began_at: Timestamp,
    /// How long it took, the emulator's start and the deployment included.
    pub duration_ms: i64,
    /// Whether every scenario passed.
    pub passed: bool,
    /// The scenarios, in the order that they were played in.
    pub scenarios: Vec<ScenarioReport>,
}

impl Report {
    /// Adds it up.
    pub fn of(began_at: Timestamp, scenarios: Vec<ScenarioReport>) -> Self {
        let now = firebreak_shared::clock::now();
        let duration_ms = i64::try_from(now.duration_since(began_at).as_millis()).unwrap_or(i64::MAX);
        let passed = !scenarios.is_empty() && scenarios.iter().all(|scenario| scenario.passed);
        Self { schema: 1, began_at, duration_ms, passed, scenarios }
    }

    /// Prints it.
    pub fn print(&self) {
        println!("\nSummary");
        println!("  {:<32} {:<7} {:>7} {:>9}  times", "scenario", "result", "checks", "took");
        for scenario in &self.scenarios {
            let held = scenario.checks.iter().filter(|check| check.held).count();
            let checks = format!("{held}/{}", scenario.checks.len());
            let result = if scenario.passed { "passed" } else { "FAILED" };
            let times: Vec<_> = scenario.measures.iter().map(|(name, ms)| format!("{name} {ms} ms")).collect();
            let took = seconds(scenario.duration_ms);
            println!("  {:<32} {result:<7} {checks:>7} {took:>9}  {}", scenario.name, times.join(", "));
            for score in &scenario.scores {
                println!("      {}", score.shown());
            }
            for failure in scenario.failures() {
                println!("      {failure}");
            }
        }
        let passed = self.scenarios.iter().filter(|scenario| scenario.passed).count();
        let failed = self.scenarios.len() - passed;
        println!("\n{passed} passed, {failed} failed, in {}", seconds(self.duration_ms));
    }
}

fn seconds(ms: i64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
