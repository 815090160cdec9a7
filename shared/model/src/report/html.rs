//! The report as one file that any browser shows: no script, nothing that is fetched, printable, for a telephone and a
//! desk, light and dark.

use std::fmt::Write as _;

use super::{Report, Verdict, seconds};
use crate::action::ActionId;
use crate::evidence::Purpose;
use crate::ledger::StepState;

const STYLE: &str = include_str!("report.css");

/// Columns that hold times, which are not broken.
const TIMES: [&str; 5] = ["When", "First", "Last", "Read back", "Undone"];

/// Text is escaped; only what is written here is markup.
struct Page(String);

impl Page {
    /// Markup: ours alone, so that it must be there when this is compiled.
    fn markup(&mut self, ours: &'static str) -> &mut Self {
        self.0.push_str(ours);
        self
    }

    /// Text, whoever wrote it.
    fn text(&mut self, foreign: &str) -> &mut Self {
        for c in foreign.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // What turns text round, or hides in it, is shown as what it is.
                c if is_unseen(c) => {
                    let _ = write!(self.0, "\\u{{{:x}}}", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
        self
    }

    fn section(&mut self, title: &'static str) -> &mut Self {
        self.markup("<section><h2>").markup(title).markup("</h2>\n")
    }

    fn end(&mut self) -> &mut Self {
        self.markup("</section>\n")
    }

    /// Labels and values.
    fn pairs(&mut self, pairs: &[(String, String)]) {
        self.markup("<dl>\n");
        for (label, value) in pairs {
            self.markup("<dt>").text(label).markup("</dt><dd>").text(value).markup("</dd>\n");
        }
        self.markup("</dl>\n");
    }

    /// A table whose cells carry their column's name, for narrow screens.
    fn table(&mut self, columns: &[&'static str], rows: impl Iterator<Item = Vec<String>>) {
        self.markup("<table><thead><tr>");
        for column in columns {
            self.markup("<th scope=\"col\">").markup(column).markup("</th>");
        }
        self.markup("</tr></thead><tbody>\n");
        for row in rows {
            self.markup("<tr>");
            for (column, cell) in columns.iter().zip(&row) {
                let kind = if TIMES.contains(column) { "\" class=\"at\">" } else { "\">" };
                self.markup("<td data-is=\"").markup(column).markup(kind).text(cell).markup("</td>");
            }
            self.markup("</tr>\n");
        }
        self.markup("</tbody></table>\n");
    }

    fn list(&mut self, lines: &[String]) {
        self.markup("<ul>\n");
        for line in lines {
            self.markup("<li>").text(line).markup("</li>\n");
        }
        self.markup("</ul>\n");
    }

    fn none(&mut self, says: &'static str) {
        self.markup("<p class=\"none\">").markup(says).markup("</p>\n");
    }
}

/// Control characters, and those that change the direction of text or have no width.
pub(super) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
}

/// The report as HTML.
pub fn html(report: &Report) -> String {
    let mut page = Page(String::new());
    page.markup("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    // Nothing is fetched and nothing runs, whatever should ever slip through.
    page.markup(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n",
    );
    page.markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.markup(
        "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n",
    );
    page.markup("<title>Incident ").text(report.incident_id.as_str()).markup(": ").text(&report.principal);
    page.markup("</title>\n<style>\n").markup(STYLE).markup("</style></head>\n<body><main>\n");
    head(&mut page, report);
    open(&mut page, report);
    timeline(&mut page, report);
    affected(&mut page, report);
    evidence(&mut page, report);
    release(&mut page, report);
    page.markup("</main>\n<footer>Made ").text(&seconds(report.made_at)).markup(" by Firebreak. All times are UTC. ");
    page.markup(
        "Everything here was taken from the ledger, CloudTrail and the evidence; names and texts are as their ",
    );
    page.markup("authors wrote them.</footer>\n</body></html>\n");
    page.0
}

fn head(page: &mut Page, report: &Report) {
    page.markup("<header class=\"").markup(class(report.verdict)).markup("\">\n");
    if report.drill {
        page.markup("<p class=\"drill\">A drill of a game day</p>\n");
    }
    page.markup("<h1>").text(&report.principal).markup("</h1>\n<p class=\"verdict\">").text(&report.sentence);
    page.markup(".</p>\n<p class=\"ids\">Account ").text(&report.account).markup(", incident <code>");
    page.text(report.incident_id.as_str()).markup("</code>, episode ").text(&report.episode.to_string());
    page.markup("</p>\n</header>\n");
    page.section("At a glance");
    page.pairs(&report.facts);
    page.end();
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Settled | Verdict::Contained => "good",
        Verdict::Partial | Verdict::NotContained => "bad",
        Verdict::Released => "plain",
    }
}

fn open(page: &mut Page, report: &Report) {
    page.section("Still open");
    match report.open.as_slice() {
        [] => page.none("Nothing."),
        open => page.list(open),
    }
    page.end();
}

fn timeline(page: &mut Page, report: &Report) {
    page.section("What happened");
    page.markup("<ol class=\"timeline\">\n");
    let mut day = String::new();
    for moment in &report.timeline {
        let time = moment.at.to_string();
        let (date, clock) = time.split_once('T').unwrap_or((&time, ""));
        if date != day {
            page.markup("<li class=\"day\">").text(date).markup("</li>\n");
            date.clone_into(&mut day);
        }
        page.markup("<li class=\"").markup(moment.tone.as_str()).markup(" ").markup(moment.who.as_str());
        page.markup("\"><time datetime=\"")
            .text(&time)
            .markup("\">")
            .text(clock.get(..12).unwrap_or(clock).trim_end_matches('Z'))
            .markup("</time>");
        page.markup("<span class=\"who\">").markup(moment.who.as_str()).markup("</span><span class=\"what\">");
        page.text(&moment.what);
        if !moment.detail.is_empty() {
            page.markup("<small>").text(&moment.detail).markup("</small>");
        }
        page.markup("</span></li>\n");
    }
    page.markup("</ol>\n");
    if report.left_out > 0 {
        page.markup("<p>").text(&report.left_out.to_string());
        page.markup(" more calls are in the evidence, in the objects of the collector <code>calls</code>: this page has no room for \
             them.</p>\n");
    }
    page.end();
}

fn affected(page: &mut Page, report: &Report) {
    page.section("Who and what is affected");
    page.pairs(&report.affected);
    page.end();
    page.section("What was left behind");
    match report.left_behind.as_slice() {
        [] => page.none("Nothing that CloudTrail tells of."),
        left => page.table(
            &["When", "Kind", "What", "Call", "Whose key", "Event"],
            left.iter().map(|one| {
                let whose = one.whose.as_str().to_owned();
                let (kind, what) = (one.kind.as_str().to_owned(), one.what.clone());
                vec![seconds(one.at), kind, what, one.call.clone(), whose, one.event_id.clone()]
            }),
        ),
    }
    more(page, report.left_behind_more);
    page.end();
    page.section("What was touched");
    match report.touched.as_slice() {
        [] => page.none("Nothing that CloudTrail tells of."),
        touched => page.table(
            &["Kind", "What", "Calls", "First", "Last"],
            touched.iter().map(|one| {
                let calls = one.calls.iter().map(|(name, (done, refused))| match refused {
                    0 => format!("{name} ×{done}"),
                    refused => format!("{name} ×{done}, refused ×{refused}"),
                });
                let calls = calls.collect::<Vec<_>>().join("; ");
                vec![one.thing.kind.clone(), one.thing.id.clone(), calls, seconds(one.first), seconds(one.last)]
            }),
        ),
    }
    more(page, report.touched_more);
    page.none(super::MANAGEMENT_ALONE);
    page.end();
    page.section("What Firebreak did");
    page.table(
        &["Step", "State", "Read back", "Undone", "What happened"],
        report.steps.iter().map(|step| {
            let time = |at: Option<jiff::Timestamp>| at.map(seconds).unwrap_or_default();
            let state = match step.state {
                StepState::Applied if step.step.starts_with(ActionId::SnapshotLogs.as_str()) => "kept".to_owned(),
                StepState::Applied => "in force when read back".to_owned(),
                other => other.to_string(),
            };
            vec![step.step.clone(), state, time(step.verified_at), time(step.reverted_at), step.detail.clone()]
        }),
    );
    page.end();
}

/// What a list leaves out.
fn more(page: &mut Page, count: u64) {
    if count > 0 {
        page.markup("<p>And ").text(&count.to_string()).markup(" more, in the objects of the collector ");
        page.markup("<code>deeds</code>.</p>\n");
    }
}

fn evidence(page: &mut Page, report: &Report) {
    page.section("Evidence");
    if report.evidence.is_empty() {
        page.none("None was collected.");
    }
    for snapshot in &report.evidence {
        page.markup("<h3>").text(purpose(snapshot.purpose)).markup(", ").text(&seconds(snapshot.began_at));
        page.markup("</h3>\n<p>Manifest <code>").text(&snapshot.manifest).markup("</code><br>");
        match &snapshot.sha256 {
            Some(sha256) => page.markup("SHA-256 <code>").text(sha256).markup("</code></p>\n"),
            None => page.markup("names this report too: its SHA-256 stands in the ledger and on the page.</p>\n"),
        };
        if !snapshot.gaps.is_empty() {
            page.markup("<p>Could not be collected:</p>\n");
            page.list(&snapshot.gaps);
            uncounted(page, snapshot.gaps_more);
        }
        page.markup("<details><summary>").text(&snapshot.objects.len().to_string()).markup(" objects</summary>\n");
        page.table(
            &["Object", "About", "Bytes", "SHA-256"],
            snapshot.objects.iter().map(|object| {
                vec![object.key.clone(), object.what.clone(), object.bytes.to_string(), object.sha256.clone()]
            }),
        );
        page.markup("</details>\n");
        uncounted(page, snapshot.objects_more);
    }
    page.end();
}

/// What this page does not list and the manifest does.
fn uncounted(page: &mut Page, count: usize) {
    if count > 0 {
        page.markup("<p>And ").text(&count.to_string()).markup(" more, which the manifest names.</p>\n");
    }
}

/// Why a collection was made, as a heading.
pub(super) fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Snapshot => "When the containment was ordered",
        Purpose::FollowUp => "Read again after the deny",
        Purpose::Report => "Report made again",
    }
}

fn release(page: &mut Page, report: &Report) {
    if report.release.is_empty() {
        return;
    }
    page.section("How to release");
    page.markup("<p>First the sessions issued until then are revoked, then our own steps are undone.</p>\n<pre>");
    for line in &report.release {
        page.text(line).markup("\n");
    }
    page.markup("</pre>\n");
    page.end();
}
