//! The incident report, as it lies in the bucket.

use anyhow::{Context as _, Result};
use firebreak_model::evidence::{EvidenceRun, Purpose};
use firebreak_model::ids::{IncidentId, sha256_hex};
use firebreak_model::ledger::IncidentState;
use firebreak_model::report::{Report, Verdict, Who};
use jiff::Timestamp;

use super::object;
use crate::check::{equal, judged};
use crate::ledger::Book;
use crate::stage::Stage;

/// The report of the latest run that is done, in JSON and in HTML.
async fn latest(stage: &mut Stage, id: &IncidentId) -> Result<(Report, String)> {
    let book = stage.look().await?;
    let done = book.runs.iter().filter(|run| run.incident_id == *id && run.done_at.is_some());
    let run = done.max_by_key(|run| (run.episode, run.run)).context("no collection of evidence is done")?;
    let bucket = stage.stack.output("EvidenceBucketName")?.to_owned();
    let json = object(stage, &bucket, &format!("{}/report/report.json", run.prefix())).await?;
    let html = object(stage, &bucket, &format!("{}/report/report.html", run.prefix())).await?;
    Ok((serde_json::from_slice(&json)?, String::from_utf8(html)?))
}

/// The report tells the story of a contained role: the finding, the thief's calls before and after the deny, the deny and
/// when it was read back, what was touched, the evidence with its digests, how to release.
///
/// # Errors
/// Where the ledger or the bucket cannot be read.
pub async fn tells_the_story(stage: &mut Stage, id: &IncidentId, finding_type: &str, touched: &str) -> Result<()> {
    let (report, html) = latest(stage, id).await?;
    let named = report.timeline.iter().any(|m| m.who == Who::Detection && m.what.contains(finding_type));
    stage.check(judged("the report names the finding", finding_type, format!("in the timeline: {named}"), named));
    let deny = report.steps.iter().find(|step| step.step.starts_with("quarantine-role"));
    let denied = deny.and_then(|step| step.verified_at);
    let found = denied.map_or("not read back".to_owned(), |at| at.to_string());
    stage.check(judged("the report tells when the deny was read back", "a time", found, denied.is_some()));
    let by_thief = |after: bool| {
        // CloudTrail has whole seconds.
        let deny = denied.and_then(|at| Timestamp::from_second(at.as_second()).ok());
        let calls = report.timeline.iter().filter(|m| m.who == Who::Thief && m.what.contains(':'));
        let calls = calls.filter(|m| if after { m.what.contains("Denied") } else { !m.what.contains("Denied") });
        calls.filter(|m| deny.is_some_and(|deny| if after { m.at >= deny } else { m.at <= deny })).count()
    };
    let (before, after) = (by_thief(false), by_thief(true));
    let found = format!("{before} that went through before it, {after} refused since");
    stage.check(judged("the thief's calls around the deny", "some of each", found, before > 0 && after > 0));
    let things: Vec<String> = report.touched.iter().map(|one| one.thing.to_string()).collect();
    let held = things.iter().any(|thing| thing == touched);
    stage.check(judged("what was touched", touched, things.join(", "), held));
    let digests = report.evidence.iter().flat_map(|one| &one.objects).all(|object| object.sha256.len() == 64);
    let digests = digests && report.evidence.iter().any(|one| !one.objects.is_empty());
    stage.check(judged("the report names the evidence", "with its digests", format!("{digests}"), digests));
    let release = format!("firebreak release {id}");
    let held = report.release.iter().any(|line| line.starts_with(&release)) && html.contains(&release);
    stage.check(judged("the report says how to release", &release, report.release.join("; "), held));
    Ok(())
}

/// The report is made again once the incident is released, and says so.
///
/// # Errors
/// Where the ledger or the bucket cannot be read.
pub async fn is_made_again_after_the_release(stage: &mut Stage, id: &IncidentId) -> Result<()> {
    let released = |book: &Book| {
        let incident = book.incident(id).filter(|incident| incident.state == IncidentState::Released);
        incident.map(|incident| incident.updated_at)
    };
    let retold = |book: &Book| {
        let of_it = |run: &&EvidenceRun| run.incident_id == *id && run.purpose == Purpose::Report;
        let since = released(book);
        let done = |run: &EvidenceRun| run.done_at.is_some() && since.is_some_and(|since| run.began_at >= since);
        book.runs.iter().filter(of_it).any(done)
    };
    stage.until("the report is made again after the release", |book, _| retold(book)).await?;
    let (report, _) = latest(stage, id).await?;
    let said = format!("{:?}", report.verdict);
    stage.check(equal("the report after the release", &format!("{:?}", Verdict::Released), &said));
    super::evidence_is_secured(stage, id, &[]).await
}

/// Whether an object of that digest is one of the report's own forms, which are stored as they are read.
pub(super) fn is_plain(key: &str, bytes: &[u8], sha256: &str) -> Option<bool> {
    let plain = ["/report/report.json", "/report/report.md", "/report/report.html"];
    plain.iter().any(|end| key.ends_with(end)).then(|| sha256_hex(bytes) == sha256)
}
