//! The incident report: made once a run from what the ledger, the calls and the manifests tell, and stored as JSON; its
//! other forms are made from that, so that all three say the same, whoever makes them and whenever.

use firebreak_model::action::FunctionName;
use firebreak_model::deeds::Tally;
use firebreak_model::evidence::{ApiCall, Cursor, Entry, EvidenceRun, Found, Gap, MANIFEST, Piece, Source, Unit};
use firebreak_model::ids::sha256_hex;
use firebreak_model::ledger::Incident;
use firebreak_model::report::{self, Object, Report, Snapshot, Sources, html, markdown};
use jiff::Timestamp;
use serde_json::json;

use super::deeds::{count, of_calls};
use super::store::{Store, StoreError};
use super::{Slot, UnitError, Work};
use crate::clock;
use crate::ledger::{Ledger, Story};

/// Where the report is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The stack's name.
    pub(super) stack: &'a str,
    /// Its Region.
    pub(super) region: &'a str,
    /// Whether `revoke-sessions` is part of it.
    pub(super) revokes: bool,
}

/// The forms, in the order in which they are stored: what is after the name, and what S3 is told.
const FORMS: [(&str, &str); 3] =
    [("json", "application/json"), ("md", "text/markdown; charset=utf-8"), ("html", "text/html; charset=utf-8")];

/// A run as the report lists it, with what it has on record so far.
fn snapshot(run: &EvidenceRun, pieces: &[Piece]) -> Result<Snapshot, UnitError> {
    let (mut objects, mut gaps): (Vec<_>, Vec<_>) = (Vec::new(), run.gaps.iter().map(told_of).collect());
    for piece in pieces {
        let Found { entry, gaps: found } = piece.read()?;
        objects.extend(entry.map(|Entry { key, what, bytes, sha256, .. }| Object { key, what, bytes, sha256 }));
        gaps.extend(found.iter().map(told_of));
    }
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Snapshot {
        manifest: run
            .sealed
            .as_ref()
            .map_or_else(|| format!("{}/{MANIFEST}", run.prefix()), |sealed| sealed.manifest.key.clone()),
        sha256: run.sealed.as_ref().map(|sealed| sealed.manifest.sha256.clone()),
        purpose: run.purpose,
        began_at: run.began_at,
        objects,
        objects_more: 0,
        gaps,
        gaps_more: 0,
    })
}

/// A gap in a sentence.
fn told_of(gap: &Gap) -> String {
    format!("{}: {} ({}: {})", gap.what, gap.source.api, gap.lack, gap.reason)
}

fn sources<'a>(
    at: Place<'a>,
    incident: &'a Incident,
    story: &'a Story,
    deeds: &'a Tally,
    made_at: Timestamp,
) -> Sources<'a> {
    Sources {
        made_at,
        stack: at.stack,
        region: at.region,
        revokes: at.revokes,
        incident,
        findings: &story.findings,
        steps: &story.steps,
        watch: story.watch.as_ref(),
        tampers: &story.tampers,
        chains: &story.chains,
        revocations: &story.revocations,
        forgeries: &story.forgeries,
        pages: &story.pages,
        deeds,
        deeds_complete_to: None,
        evidence: &[],
    }
}

/// What the ledger tells, but for the step that makes the report: it has not come to an end when that is made.
async fn told_by(ledger: &Ledger, incident: &Incident) -> Result<Story, UnitError> {
    let mut all = ledger.story(incident).await?;
    all.steps.retain(|step| step.owner != FunctionName::SnapshotLogs);
    Ok(all)
}

/// Whether a report made now would say something that the one of `run` does not.
pub(super) async fn is_outdated(
    store: &Store,
    ledger: &Ledger,
    at: Place<'_>,
    incident: &Incident,
    run: &EvidenceRun,
) -> Result<bool, UnitError> {
    let key = format!("{}.json", run.report().trim_end_matches(".html"));
    let Some(bytes) = store.whole(&key).await? else { return Ok(true) };
    let Ok(last) = serde_json::from_slice::<Report>(&bytes) else { return Ok(true) };
    let known = told_by(ledger, incident).await?;
    let none = Tally::default();
    Ok(last.gist != report::gist(&sources(at, incident, &known, &none, Timestamp::UNIX_EPOCH)))
}

/// The report in JSON, and what of earlier evidence could not be read for it.
async fn made(
    work: Work<'_>,
    at: Place<'_>,
    incident: &Incident,
    pieces: &[Piece],
) -> Result<(Vec<u8>, Vec<Gap>), UnitError> {
    let id = &incident.incident_id;
    let known = told_by(work.ledger, incident).await?;
    let mut runs = Vec::new();
    for run in work.ledger.runs(id).await? {
        let this = run.prefix() == work.run.prefix();
        if this || run.sealed.is_some() {
            let pieces = if this { pieces.to_vec() } else { work.ledger.pieces(&run).await?.pieces };
            runs.push((run, pieces));
        }
    }
    let mut evidence = runs.iter().map(|(run, pieces)| snapshot(run, pieces)).collect::<Result<Vec<_>, _>>()?;
    let asked: Vec<(&EvidenceRun, Vec<&Piece>)> =
        runs.iter().map(|(run, pieces)| (run, of_calls(run, pieces))).filter(|(_, of)| !of.is_empty()).collect();
    // A bucket that gives nothing back leaves a report without the calls.
    let asked = if work.store.gives() { asked } else { Vec::new() };
    let (deeds, gaps) = count(work.store, &asked).await?;
    if let Some(this) = evidence.last_mut() {
        this.gaps.extend(gaps.iter().map(told_of));
    }
    let complete = asked.iter().map(|(run, _)| run.calls.complete_to()).max();
    let told = sources(at, incident, &known, &deeds, clock::now());
    let told = report::of(&Sources { deeds_complete_to: complete, evidence: &evidence, ..told });
    let mut bytes = serde_json::to_vec_pretty(&told)?;
    bytes.push(b'\n');
    Ok((bytes, gaps))
}

/// Makes the report and stores it in its forms, each as an object of the unit.
pub(super) async fn collect(
    work: Work<'_>,
    at: Place<'_>,
    incident: &Incident,
    unit: &Unit<'_>,
    pieces: &[Piece],
) -> Result<(), UnitError> {
    let on_record = |part: u32| pieces.iter().any(|piece| piece.unit == unit.number && piece.part == part);
    let stored = if on_record(1) { work.store.whole(&key(unit, FORMS[0].0, 0)).await? } else { None };
    let (bytes, mut gaps) = match stored {
        Some(bytes) => (bytes, Vec::new()),
        None => made(work, at, incident, pieces).await?,
    };
    let mut report = None;
    for (part, (form, content_type)) in (1..).zip(FORMS) {
        let body = match (&report, form) {
            (None, _) => bytes.clone(),
            (Some(report), "md") => markdown(report).into_bytes(),
            (Some(report), _) => html(report).into_bytes(),
        };
        let slot = Slot { unit, part, tries: 0 };
        let (key, body) = if on_record(part) {
            (String::new(), body)
        } else {
            stored_as(work, slot, (form, content_type), body).await?
        };
        let report = match &report {
            Some(report) => report,
            None => &*report.insert(serde_json::from_slice::<Report>(&body)?),
        };
        let last = usize::try_from(part).is_ok_and(|part| part >= FORMS.len());
        let next = (!last).then(|| Cursor::left(String::new()));
        if !on_record(part) {
            let entry = Some(entry(unit, key, &body, report));
            work.keep(slot, Found { entry, gaps: std::mem::take(&mut gaps) }, next).await?;
        }
    }
    Ok(())
}

fn key(unit: &Unit<'_>, form: &str, tries: u32) -> String {
    let again = if tries == 0 { String::new() } else { format!(".{}", tries + 1) };
    format!("{}{again}.{form}", unit.base)
}

/// Puts a form where none is. What an earlier try, killed before it could say so, has made of the ledger as it was then,
/// stands, as far as it can be read; else it is set aside. Answers the key, and what lies there.
async fn stored_as(
    work: Work<'_>,
    mut slot: Slot<'_>,
    (form, content_type): (&str, &str),
    body: Vec<u8>,
) -> Result<(String, Vec<u8>), UnitError> {
    loop {
        let key = key(slot.unit, form, slot.tries);
        match work.store.put(&key, content_type, body.clone()).await {
            Ok(()) => return Ok((key, body)),
            Err(StoreError::Taken { .. }) if work.store.gives() => {
                let there = work.store.whole(&key).await?.unwrap_or(body);
                return Ok((key, there));
            }
            Err(StoreError::Taken { key }) => {
                // What is on record meanwhile is looked at by whoever keeps this one.
                work.taken(slot, key).await?;
                slot.tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A form, which is stored as it is.
fn entry(unit: &Unit<'_>, key: String, body: &[u8], report: &Report) -> Entry {
    let (bytes, sha256) = (body.len() as u64, sha256_hex(body));
    let call = ApiCall::new("dynamodb:Query", json!({"incident_id": report.incident_id}));
    Entry {
        key,
        what: "the incident report".to_owned(),
        collector: unit.subject.collector().to_owned(),
        sources: vec![Source { call, collected_at: report.made_at }],
        collected_at: report.made_at,
        lines: body.iter().map(|byte| u64::from(*byte == b'\n')).sum(),
        bytes,
        sha256: sha256.clone(),
        content_bytes: bytes,
        content_sha256: sha256,
    }
}
