//! The report as Markdown, for a ticket: no markup of ours but headings, lists and code, and none of anyone else's.

use std::fmt::Write as _;

use super::{Report, seconds};

struct Text(String);

impl Text {
    fn ours(&mut self, ours: &'static str) -> &mut Self {
        self.0.push_str(ours);
        self
    }

    /// Foreign text, with everything escaped that Markdown or HTML could take for its own. An address is code: no reader
    /// makes a link of it.
    fn text(&mut self, foreign: &str) -> &mut Self {
        if foreign.contains("://") || foreign.to_ascii_lowercase().contains("www.") {
            return self.code(foreign);
        }
        for c in foreign.chars() {
            if super::html::is_unseen(c) {
                let _ = write!(self.0, "\\\\u\\{{{:x}\\}}", u32::from(c));
            } else {
                // Any ASCII punctuation may be escaped: all is, but what means nothing in the middle of a line.
                if c.is_ascii_punctuation() && !".,-'/;:()%+=".contains(c) {
                    self.0.push('\\');
                }
                self.0.push(c);
            }
        }
        self
    }

    /// Foreign text as code: the fence is longer than any row of backticks in it.
    fn code(&mut self, foreign: &str) -> &mut Self {
        let seen: String = foreign.chars().map(|c| if super::html::is_unseen(c) { '\u{fffd}' } else { c }).collect();
        let longest = seen.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest + 1);
        let _ = write!(self.0, "{fence} {seen} {fence}");
        self
    }

    fn pairs(&mut self, pairs: &[(String, String)]) {
        for (label, value) in pairs {
            self.ours("- ").text(label).ours(": ").text(value).ours("\n");
        }
    }
}

/// The report as Markdown.
pub fn markdown(report: &Report) -> String {
    let mut md = Text(String::new());
    md.ours("# ").text(&report.principal).ours("\n\n**").text(&report.sentence).ours(".**");
    if report.drill {
        md.ours(" A drill of a game day.");
    }
    md.ours("\n\nAccount ").text(&report.account).ours(", incident ").code(report.incident_id.as_str());
    md.ours(", episode ").text(&report.episode.to_string()).ours(". All times are UTC.\n\n## At a glance\n\n");
    md.pairs(&report.facts);
    md.ours("\n## Still open\n\n");
    for line in &report.open {
        md.ours("- ").text(line).ours("\n");
    }
    if report.open.is_empty() {
        md.ours("Nothing.\n");
    }
    md.ours("\n## What happened\n\n");
    for moment in &report.timeline {
        md.ours("- ").text(&moment.at.to_string()).ours(" ").ours(moment.who.as_str()).ours(": ").text(&moment.what);
        if !moment.detail.is_empty() {
            md.ours(" (").text(&moment.detail).ours(")");
        }
        md.ours("\n");
    }
    if report.left_out > 0 {
        md.ours("- and ").text(&report.left_out.to_string()).ours(" more calls, which are in the evidence\n");
    }
    md.ours("\n## Who and what is affected\n\n");
    md.pairs(&report.affected);
    md.ours("\n## What was left behind\n\n");
    for left in &report.left_behind {
        md.ours("- ")
            .text(&seconds(left.at))
            .ours(" ")
            .ours(left.kind.as_str())
            .ours(": ")
            .text(&left.what)
            .ours(", by ");
        md.text(&left.call).ours(", key: ").ours(left.whose.as_str()).ours(", event ").code(&left.event_id).ours("\n");
    }
    if report.left_behind.is_empty() {
        md.ours("Nothing that CloudTrail tells of.\n");
    }
    if report.left_behind_more > 0 {
        md.ours("- and ").text(&report.left_behind_more.to_string()).ours(" more\n");
    }
    md.ours("\n## What was touched\n\n");
    for touched in &report.touched {
        md.ours("- ").text(&touched.thing.kind).ours(" ").code(&touched.thing.id).ours(": ");
        let calls = touched.calls.iter().map(|(name, (done, refused))| format!("{name} {done} ({refused} refused)"));
        md.text(&calls.collect::<Vec<_>>().join("; ")).ours("\n");
    }
    if report.touched_more > 0 {
        md.ours("- and ").text(&report.touched_more.to_string()).ours(" more\n");
    }
    md.ours("\n").ours(super::MANAGEMENT_ALONE).ours("\n\n## What Firebreak did\n\n");
    for step in &report.steps {
        md.ours("- ").code(&step.step).ours(": ").text(step.state.as_str());
        if let Some(at) = step.verified_at {
            md.ours(", read back ").text(&seconds(at));
        }
        md.ours(". ").text(&step.detail).ours("\n");
    }
    md.ours("\n## Evidence\n\n");
    for snapshot in &report.evidence {
        md.ours("- ").ours(super::html::purpose(snapshot.purpose)).ours(", ").text(&seconds(snapshot.began_at));
        md.ours(": manifest ").code(&snapshot.manifest).ours(", ");
        match &snapshot.sha256 {
            Some(sha256) => md.ours("SHA-256 ").code(sha256),
            None => md.ours("whose SHA-256 stands in the ledger"),
        };
        md.ours(", ").text(&(snapshot.objects.len() + snapshot.objects_more).to_string()).ours(" objects\n");
        for gap in &snapshot.gaps {
            md.ours("  - not collected: ").text(gap).ours("\n");
        }
    }
    if !report.release.is_empty() {
        md.ours("\n## How to release\n\n```sh\n");
        for line in &report.release {
            md.0.push_str(line);
            md.ours("\n");
        }
        md.ours("```\n");
    }
    md.0
}
