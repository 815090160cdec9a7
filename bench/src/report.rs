//! What was measured, as Markdown and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::measure::{Series, Start, ToDeny};
use crate::scene::{Case, Counts};

/// A function with everything that was measured of it.
#[derive(Debug)]
pub(crate) struct Row {
    /// The function, and what it was given.
    pub(crate) case: Case,
    /// Its archive, in megabytes of 10^6 bytes.
    pub(crate) zip_mb: f64,
    /// Its program, in the same.
    pub(crate) program_mb: f64,
    /// The function.
    pub(crate) ours: Start,
    /// The boto3 function.
    pub(crate) theirs: Start,
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    /// Where and with what.
    pub(crate) setting: Vec<(&'static str, String)>,
    /// A row a function.
    pub(crate) rows: Vec<Row>,
    /// From an event to the deny.
    pub(crate) ours: ToDeny,
    /// The same where the start was over before the event, as with provisioned concurrency.
    pub(crate) provisioned: ToDeny,
    /// The same with boto3.
    pub(crate) theirs: ToDeny,
}

impl Row {
    /// The services that are called: one SDK crate each.
    fn services(&self) -> usize {
        let mut services: Vec<&str> = self.case.calls.iter().map(|call| call.call.service).collect();
        services.sort_unstable();
        services.dedup();
        services.len()
    }

    fn ratio(&self) -> f64 {
        self.theirs.cpu_ms.median() / self.ours.cpu_ms.median()
    }
}

fn both(series: &Series) -> String {
    format!("{:.1} / {:.1}", series.median(), series.worst())
}

/// Counts in one line.
pub(crate) fn listed(counts: &Counts) -> String {
    let item = |(name, count): (&String, &usize)| if *count == 1 { name.clone() } else { format!("{name} ×{count}") };
    counts.iter().map(item).collect::<Vec<_>>().join(", ")
}

impl Report {
    /// The tables.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.setting {
            let _ = writeln!(text, "- {name}: {value}");
        }
        let _ = writeln!(text, "\n### Size and cold start\n");
        text.push_str(
            "From spawn to the first answer, the event's work and its calls included. Median / worst. Python beside it makes \
             the same calls.\n\n\
             | Function | Services | Calls | TLS connections | Zip MB | Program MB | CPU ms | to its first call | Wall ms | Peak MB | boto3: CPU ms | Wall ms \
             | Peak MB | CPU, times less |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {:.2} | {:.2} | {} | {:.1} | {} | {} | {} | {} | {} | {:.0} |",
                row.case.name,
                row.services(),
                row.ours.calls.values().sum::<usize>(),
                row.ours.connections,
                row.zip_mb,
                row.program_mb,
                both(&row.ours.cpu_ms),
                row.ours.first_call_cpu_ms.median(),
                both(&row.ours.wall_ms),
                both(&row.ours.peak_mb),
                both(&row.theirs.cpu_ms),
                both(&row.theirs.wall_ms),
                both(&row.theirs.peak_mb),
                row.ratio(),
            );
        }
        let _ = writeln!(text, "\nWhat each was given, and the calls it made on it:\n");
        for row in &self.rows {
            let _ = writeln!(text, "- `{}`, {}: {}", row.case.name, row.case.about, listed(&row.ours.calls));
        }
        let _ = writeln!(text, "\n### From event to deny\n");
        text.push_str(
            "`quarantine-principal`, 30 ms added to each call, until the answer to `AttachRolePolicy` leaves. Median / worst.\n\n\
             | | Cold, from spawn ms | Cold, from the event ms | Warm ms | Calls from event to deny | One after another | Calls before the event |\n\
             |---|--:|--:|--:|--:|--:|--:|\n",
        );
        for (name, deny) in [
            ("Firebreak", &self.ours),
            ("Firebreak, concurrency provisioned", &self.provisioned),
            ("boto3, the same calls", &self.theirs),
        ] {
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} | {} | {} | {} |",
                both(&deny.from_spawn_ms),
                both(&deny.from_first_event_ms),
                both(&deny.warm_ms),
                deny.calls.len(),
                deny.round_trips,
                deny.before_event.len(),
            );
        }
        let mut before = self.provisioned.before_event.clone();
        before.sort();
        let _ = writeln!(
            text,
            "\nFrom event to deny: {}. Before the event, where concurrency is provisioned: {}.",
            self.ours.calls.join(", "),
            if before.is_empty() { "none".to_owned() } else { before.join(", ") }
        );
        let _ = writeln!(text, "\n### Aims\n\n| Aim | Measured (median) | |\n|---|---|---|");
        for (aim, measured, met) in self.aims() {
            let _ = writeln!(text, "| {aim} | {measured} | {} |", if met { "met" } else { "missed" });
        }
        text
    }

    /// What was aimed at, what was measured, and whether it is met.
    fn aims(&self) -> Vec<(String, String, bool)> {
        let mut aims = Vec::new();
        let mut push = |aim: &str, measured: String, met: bool| aims.push((aim.to_owned(), measured, met));
        let smallest = self.rows.iter().filter(|row| row.services() == 1);
        for row in smallest {
            let (cpu, peak) = (row.ours.cpu_ms.median(), row.ours.peak_mb.median());
            push("cold CPU under 6 ms, one SDK crate", format!("{cpu:.1} ms, `{}`", row.case.name), cpu < 6.0);
            push("peak memory under 12 MB, one SDK crate", format!("{peak:.1} MB, `{}`", row.case.name), peak < 12.0);
        }
        let most = |figure: fn(&Row) -> f64| {
            let row = self.rows.iter().max_by(|a, b| figure(a).total_cmp(&figure(b)));
            row.map_or((f64::NAN, ""), |row| (figure(row), row.case.name))
        };
        let (cpu, name) = most(|row| row.ours.cpu_ms.median());
        push("cold CPU under 8 ms, every function", format!("{cpu:.1} ms, `{name}`"), cpu < 8.0);
        let (peak, name) = most(|row| row.ours.peak_mb.median());
        push("peak memory under 16 MB, every function", format!("{peak:.1} MB, `{name}`"), peak < 16.0);
        let (least, name) = most(|row| -row.ratio());
        push("at least 30 times less CPU than boto3", format!("{:.0} times, `{name}`", -least), -least >= 30.0);
        let (zip, name) = most(|row| row.zip_mb);
        push("zip under 4 MB", format!("{zip:.2} MB, `{name}`"), zip < 4.0);
        let warm = self.ours.warm_ms.median();
        push("event to deny under 75 ms warm", format!("{warm:.1} ms"), warm < 75.0);
        let cold = self.ours.from_spawn_ms.median();
        push("event to deny under 110 ms cold, from spawn", format!("{cold:.1} ms"), cold < 110.0);
        aims
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let series = |series: &Series| json!({"median": series.median(), "worst": series.worst()});
        let start = |start: &Start| {
            json!({
                "cpu_ms": series(&start.cpu_ms), "first_call_cpu_ms": series(&start.first_call_cpu_ms),
                "wall_ms": series(&start.wall_ms), "peak_mb": series(&start.peak_mb),
                "calls": start.calls, "connections": start.connections,
            })
        };
        let deny = |deny: &ToDeny| {
            json!({
                "from_spawn_ms": series(&deny.from_spawn_ms), "from_first_event_ms": series(&deny.from_first_event_ms),
                "warm_ms": series(&deny.warm_ms), "calls": deny.calls, "round_trips": deny.round_trips,
                "before_event": deny.before_event,
            })
        };
        let row = |row: &Row| {
            json!({
                "function": row.case.name, "zip_mb": row.zip_mb, "program_mb": row.program_mb,
                "services": row.services(), "firebreak": start(&row.ours), "boto3": start(&row.theirs),
            })
        };
        let aims =
            self.aims().into_iter().map(|(aim, measured, met)| json!({"aim": aim, "measured": measured, "met": met}));
        json!({
            "setting": self.setting.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>(),
            "functions": self.rows.iter().map(row).collect::<Vec<_>>(),
            "event_to_deny": {"firebreak": deny(&self.ours), "provisioned": deny(&self.provisioned), "boto3": deny(&self.theirs)},
            "aims": aims.collect::<Vec<_>>(),
        })
    }
}

/// Millions of bytes that a file holds.
pub(crate) fn megabytes(path: &Path) -> std::io::Result<f64> {
    #[expect(clippy::cast_precision_loss, reason = "files are far smaller than 2^52 bytes")]
    fs::metadata(path).map(|metadata| metadata.len() as f64 / 1e6)
}
