//! What several scenarios have in common: the looks at what was contained, the evidence, the release.

pub mod report;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::FunctionUrlAuthType;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::evidence::{Chained, EvidenceRun, MANIFEST, Manifest, Purpose};
use firebreak_model::ids::{IncidentId, sha256_hex};
use firebreak_model::ladder;
use firebreak_model::ledger::{IncidentState, StepState};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::check::{equal, judged, listed};
use crate::ledger::Book;
use crate::narrator::Tone;
use crate::scene::{Role, Victim};
use crate::stage::Stage;
use crate::world::World;

/// The inline policy that stays behind a release.
pub const REVOCATION: &str = "firebreak-revoke-sessions";

/// The deny is attached to the principal (`role/NAME`, `user/NAME`).
///
/// # Errors
/// Where AWS does not answer.
pub async fn deny_is_attached(stage: &mut Stage, principal: &str) -> Result<()> {
    let deny = stage.stack.output("DenyPolicyArn")?.to_owned();
    let world = World::look(&stage.aws).await?;
    let attached = world.thing(&format!("{principal} attached policies")).unwrap_or("nothing").to_owned();
    let held = attached.contains(&deny);
    stage.check(judged(&format!("policies attached to {principal}"), &deny, attached, held));
    Ok(())
}

/// The function is stopped and its doors are closed.
///
/// # Errors
/// Where AWS does not answer.
pub async fn function_is_isolated(stage: &mut Stage, victim: &Victim) -> Result<()> {
    let lambda = stage.aws.lambda.clone();
    let name = &victim.function;
    let concurrency = lambda.get_function_concurrency().function_name(name).send().await?;
    let concurrency = concurrency.reserved_concurrent_executions().map_or("unset".to_owned(), |n| n.to_string());
    stage.check(equal("reserved concurrency", "0", &concurrency));
    let mapping = lambda.get_event_source_mapping().uuid(&victim.mapping).send().await?;
    stage.check(equal("the event source mapping", "Disabled", mapping.state().unwrap_or("?")));
    let urls = lambda.list_function_url_configs().function_name(name).send().await?;
    let auth: Vec<_> = urls.function_url_configs().iter().map(|url| url.auth_type().as_str().to_owned()).collect();
    stage.check(equal("who may call the function URL", FunctionUrlAuthType::AwsIam.as_str(), &listed(&auth)));
    let policy = lambda.get_policy().function_name(name).send().await.map(|answer| answer.policy.unwrap_or_default());
    let policy = policy.unwrap_or_else(|_| "{}".to_owned());
    let policy: Value = serde_json::from_str(&policy)?;
    let statements = policy.get("Statement").and_then(Value::as_array).cloned().unwrap_or_default();
    let sids: Vec<String> =
        statements.iter().filter_map(|s| s.get("Sid").and_then(Value::as_str).map(str::to_owned)).collect();
    stage.check(equal("statements of the resource policy", "our-rules", &listed(&sids)));
    let invoke = lambda.list_function_event_invoke_configs().function_name(name).send().await?;
    let destinations: Vec<String> = invoke
        .function_event_invoke_configs()
        .iter()
        .filter_map(|config| config.destination_config())
        .flat_map(|d| [d.on_success().and_then(|s| s.destination()), d.on_failure().and_then(|f| f.destination())])
        .flatten()
        .filter(|destination| !destination.is_empty())
        .map(str::to_owned)
        .collect();
    stage.check(equal("asynchronous destinations", "none", &listed(&destinations)));
    let works = victim.work(&stage.aws).await;
    let said = works.as_ref().err().map_or("it runs".to_owned(), |error| shortened(&format!("{error:#}")));
    stage.check(judged("an invocation of the function", "refused", said, works.is_err()));
    Ok(())
}

/// The evidence is in the bucket: manifests, each naming the one before, every object that they name with its digest, and the lines of the logs.
///
/// # Errors
/// Where the bucket cannot be read.
pub async fn evidence_is_secured(stage: &mut Stage, id: &IncidentId, log_lines: &[&str]) -> Result<()> {
    let bucket = stage.stack.output("EvidenceBucketName")?.to_owned();
    let s3 = stage.aws.s3.clone();
    let prefix = format!("incidents/{}/{id}/", crate::aws::ACCOUNT);
    let listing = s3.list_objects_v2().bucket(&bucket).prefix(&prefix).send().await?;
    let keys: Vec<String> = listing.contents().iter().filter_map(|o| o.key().map(str::to_owned)).collect();
    let mut manifest_keys: Vec<&String> = keys.iter().filter(|key| key.ends_with(MANIFEST)).collect();
    manifest_keys.sort();
    if manifest_keys.is_empty() {
        stage.check(judged("the evidence has a manifest", MANIFEST, listed(&keys), false));
        return Ok(());
    }
    let (mut entries, mut gaps, mut unchained) = (Vec::new(), Vec::new(), Vec::new());
    let mut before: Option<Chained> = None;
    for key in manifest_keys {
        let bytes = object(stage, &bucket, key).await?;
        let manifest: Manifest = serde_json::from_slice(&bytes)?;
        if manifest.previous != before {
            unchained.push(key.clone());
        }
        before = Some(Chained { key: key.clone(), sha256: sha256_hex(&bytes) });
        entries.extend(manifest.entries);
        gaps.extend(manifest.gaps);
    }
    stage.check(equal("manifests that do not name the one before", "none", &listed(&unchained)));
    let mut wrong = Vec::new();
    let mut text = String::new();
    for entry in &entries {
        let bytes = object(stage, &bucket, &entry.key).await?;
        if let Some(sound) = report::is_plain(&entry.key, &bytes, &entry.sha256) {
            wrong.extend((!sound).then(|| entry.key.clone()));
            continue;
        }
        let mut content = Vec::new();
        // A code package is kept as it came.
        let packed = std::path::Path::new(&entry.key).extension().is_none_or(|extension| extension != "zip");
        let read: &mut dyn std::io::Read =
            if packed { &mut zstd::stream::read::Decoder::new(bytes.as_slice())? } else { &mut bytes.as_slice() };
        read.read_to_end(&mut content)?;
        if sha256_hex(&bytes) != entry.sha256 || sha256_hex(&content) != entry.content_sha256 {
            wrong.push(entry.key.clone());
        }
        text.push_str(&String::from_utf8_lossy(&content));
    }
    let found = format!("{} objects, digests wrong: {}", entries.len(), listed(&wrong));
    let held = !entries.is_empty() && wrong.is_empty();
    stage.check(judged("every object of the manifest is there", "with its SHA-256", found, held));
    let gaps: Vec<String> = gaps.iter().map(|gap| format!("{}: {}", gap.what, shortened(&gap.reason))).collect();
    stage.check(equal("gaps in the evidence", "none", &listed(&gaps)));
    let missing: Vec<String> = log_lines.iter().filter(|l| !text.contains(**l)).map(|l| (*l).to_owned()).collect();
    if !log_lines.is_empty() {
        stage.check(equal("lines of the log that are missing from the evidence", "none", &listed(&missing)));
    }
    Ok(())
}

/// The log is read once more after the deny, and the manifests fit each other.
///
/// # Errors
/// Where the ledger or the bucket cannot be read.
pub async fn log_is_read_again(stage: &mut Stage, id: &IncidentId) -> Result<()> {
    let followed = |book: &Book| {
        let of_it = |run: &&EvidenceRun| run.incident_id == *id && run.purpose == Purpose::FollowUp;
        book.runs.iter().filter(of_it).filter(|run| run.done_at.is_some()).count()
    };
    let book = stage.until("the log is read again after the deny", |book, _| followed(book) > 0).await?;
    stage.check(equal("follow-ups of the snapshot", "1", &followed(&book).to_string()));
    evidence_is_secured(stage, id, &[]).await
}

async fn object(stage: &Stage, bucket: &str, key: &str) -> Result<Vec<u8>> {
    let answer = stage.aws.s3.get_object().bucket(bucket).key(key).send().await;
    let answer = answer.with_context(|| format!("`{key}` cannot be read"))?;
    Ok(answer.body.collect().await?.into_bytes().to_vec())
}

/// A page about the incident has arrived, and holds what it must.
///
/// # Errors
/// Where the inbox cannot be read.
pub async fn responder_is_paged(stage: &mut Stage, id: &IncidentId, must_say: &[&str]) -> Result<()> {
    let about = |page: &crate::pages::Page| page.body.contains(id.as_str());
    let all = |pages: &[crate::pages::Page]| {
        let about_it: Vec<_> = pages.iter().filter(|page| about(page)).collect();
        let said = |words: &str| about_it.iter().any(|p| p.subject.contains(words) || p.body.contains(words));
        must_say.iter().filter(|words| !said(words)).map(|w| (*w).to_owned()).collect::<Vec<_>>()
    };
    stage
        .until("a page about the incident arrives", |_, pages| pages.iter().any(about) && all(pages).is_empty())
        .await?;
    let missing = all(&stage.pages);
    let count = stage.pages.iter().filter(|page| about(page)).count();
    let found = format!("{count} pages, missing: {}", listed(&missing));
    stage.check(judged(
        "the responder is paged",
        "with what they need to know",
        found,
        count > 0 && missing.is_empty(),
    ));
    Ok(())
}

/// The incident waits for a person, who is told so.
///
/// # Errors
/// Where the ledger or the inbox cannot be read.
pub async fn approval_is_asked_for(stage: &mut Stage, id: &IncidentId, principal: &str) -> Result<()> {
    let waits = |state: Option<IncidentState>| state == Some(IncidentState::AwaitingApproval);
    stage.until("the incident waits for approval", |book, _| waits(book.incident(id).map(|i| i.state))).await?;
    responder_is_paged(stage, id, &[principal, "approv"]).await?;
    stage.stay_quiet().await?;
    Ok(())
}

/// A person approves; answers when.
///
/// # Errors
/// Where the function cannot be invoked.
pub async fn approve(stage: &mut Stage, id: &IncidentId, reason: &str) -> Result<Timestamp> {
    let request = json!({"firebreak": "approve", "incident_id": id, "requested_by": "game day", "reason": reason});
    let sent = firebreak_shared::clock::now();
    let answer = stage.invoke(FunctionName::QuarantinePrincipal, &request).await?;
    let said = if answer.failed { answer.text("errorMessage") } else { answer.text("outcome") };
    stage.check(equal("the approval", "contained", said));
    Ok(sent)
}

/// Nothing of the role is different from `before`, and there is no incident on it.
///
/// # Errors
/// Where AWS does not answer.
pub async fn is_not_touched(stage: &mut Stage, before: &World, role: &Role) -> Result<()> {
    let mine = format!("`role/{}", role.name);
    let mut changes = before.changes(&World::look(&stage.aws).await?);
    changes.retain(|change| change.starts_with(&mine));
    stage.check(equal(&format!("changes of role/{}", role.name), "none", &listed(&changes)));
    let book = stage.look().await?;
    let found = if book.incident(&role.incident()?).is_some() { "there is one" } else { "none" };
    stage.check(equal(&format!("incidents on role/{}", role.name), "none", found));
    Ok(())
}

/// The account is scanned as on a schedule, and the ledger then knows how many run as a role.
///
/// # Errors
/// Where the function cannot be invoked.
pub async fn who_runs_as_what_is_known(stage: &mut Stage, role: &str, users: usize) -> Result<()> {
    stage.tell("EventBridge", Tone::Dim, "a tick of the schedule");
    let tick = include_bytes!("../../events/schedule-expire-revocations.json");
    let function = stage.stack.function(FunctionName::AssessIdentities);
    let answer = stage.aws.lambda.invoke().function_name(function).payload(Blob::new(tick)).send().await?;
    let said = answer.payload().map(|p| String::from_utf8_lossy(p.as_ref()).into_owned()).unwrap_or_default();
    let outcome = serde_json::from_str::<Value>(&said).unwrap_or_default();
    let scanned = outcome.get("outcome").and_then(Value::as_str) == Some("scanned");
    stage.check(judged("the scan", "everything was read", said, scanned));
    let book = stage.look().await?;
    let found =
        book.inventory.iter().find(|record| record.role.as_str() == role).map_or(0, |record| record.usage.count);
    stage.check(equal(&format!("users of role/{role} on record"), &users.to_string(), &found.to_string()));
    Ok(())
}

/// The time from the finding to the verified deny, as the ledger has it.
///
/// # Errors
/// Where the ledger cannot be read.
pub async fn measure_the_deny(stage: &mut Stage, id: &IncidentId, sent: Timestamp) -> Result<()> {
    let book = stage.look().await?;
    let mut denies = book.steps_of(id).into_iter().filter(|step| ladder::top(step.action).is_some());
    let deny = denies.find_map(|step| step.verified_at);
    if let Some(verified) = deny {
        stage.measure("finding to verified deny", sent, verified);
    }
    Ok(())
}

/// What a release leaves different, on purpose.
#[derive(Debug, Clone, Default)]
pub struct Left {
    /// Changes of the world beside the revocation.
    pub changes: Vec<String>,
    /// Keys that may live again.
    pub reactivate_keys: Vec<String>,
}

/// Has the search for chained sessions come again, as it does every five minutes.
///
/// # Errors
/// Where the queue does not take the message.
pub async fn search_again(stage: &mut Stage, id: &IncidentId) -> Result<()> {
    let sqs = &stage.aws.sqs;
    let queue = sqs.get_queue_url().queue_name(format!("{}-trace", stage.stack.name)).send().await?;
    let message = json!({"detail": {"incident_id": id}}).to_string();
    sqs.send_message().set_queue_url(queue.queue_url).message_body(message).send().await?;
    stage.tell("the schedule", Tone::Plain, "has the search for chained sessions come again");
    Ok(())
}

/// Releases the incident on `principal` (`role/NAME`, `user/NAME`): the world is as before, save the revocation.
///
/// # Errors
/// Where AWS does not answer.
pub async fn release(stage: &mut Stage, id: &IncidentId, principal: &str, before: &World, left: &Left) -> Result<()> {
    let request = json!({"firebreak": "release", "incident_id": id, "requested_by": "game day",
        "reason": "the credentials were rotated", "reactivate_keys": left.reactivate_keys});
    let answer = stage.invoke(FunctionName::ReleaseContainment, &request).await?;
    let said = if answer.failed { answer.text("errorMessage") } else { answer.text("outcome") };
    stage.check(equal("the release", "released", said));
    let released = |book: &crate::ledger::Book| {
        book.incident(id).is_some_and(|incident| incident.state == IncidentState::Released)
    };
    let book = stage.until("the incident is released", |book, _| released(book)).await?;
    let mut other = Vec::new();
    for step in book.steps_of(id) {
        let kept = [ActionId::SnapshotLogs, ActionId::RevokeSessions, ActionId::RevokeChainedSessions];
        let kept = kept.contains(&step.action);
        if step.state != if kept { StepState::Applied } else { StepState::Reverted } {
            other.push(format!("{} is {}: {}", step.step, step.state, step.detail));
        }
    }
    stage.check(equal("steps that were not undone", "none", &listed(&other)));
    let release = book.incident(id).and_then(|incident| incident.release.clone());
    let on_record = release.map_or("none".to_owned(), |r| format!("{}: {}", r.by, r.reason));
    stage.check(equal("the release on record", "game day: the credentials were rotated", &on_record));
    let mut expected = vec![format!("`{principal} inline policy {REVOCATION}` is new")];
    expected.extend(left.changes.iter().cloned());
    stage.world_is("the world after the release, against before", before, &expected).await
}

/// The functions of the plan, each once; where a plan must name a function, this says which it named.
pub fn functions_named(book: &crate::ledger::Book, id: &IncidentId) -> BTreeSet<String> {
    let plan = book.incident(id).map(|incident| incident.plan.clone()).unwrap_or_default();
    plan.functions().into_iter().map(ToString::to_string).collect()
}

/// The start of a long text.
fn shortened(text: &str) -> String {
    let line: String = text.chars().take(160).collect();
    if line.len() < text.len() { format!("{line}…") } else { line }
}
