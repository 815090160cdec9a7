//! One snapshot: from an incident in the ledger to a manifest that was read back.

use std::time::SystemTime;

use aws_config::SdkConfig;
use firebreak_model::SCHEMA;
use firebreak_model::action::FunctionName;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{Incident, IncidentState, StepRecord, StepState};
use firebreak_model::outcome;
use futures_util::{StreamExt as _, future, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::{Instrument, info, info_span, warn};

use super::manifest::{Manifest, Reach, Window};
use super::store::{Store, Stored};
use super::{Collected, Run, function, ledger as records, logs, principal};
use crate::answer::Answer;
use crate::clients;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::{Ledger, Seal};
use crate::telemetry::chain;

/// Log events are collected from this long before the activity was first seen.
const LEAD: SignedDuration = SignedDuration::from_mins(60);

/// So much time is left for the last part and the manifest.
const RESERVE: SignedDuration = SignedDuration::from_secs(90);

/// Functions whose documents and logs are collected at the same time: bounds memory and the rate of calls.
const AT_ONCE: usize = 3;

/// Takes snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    config: SdkConfig,
    iam: aws_sdk_iam::Client,
    store: Store,
    ledger: Ledger,
}

impl Snapshots {
    /// With clients of this configuration, and the names of bucket, keys and table. Lambda and logs are read in each
    /// function's own Region.
    pub fn new(config: SdkConfig, bucket: String, key_arn: String, table: String, seal_key_arn: String) -> Self {
        let store = Store::new(clients::s3(&config), bucket, key_arn);
        let ledger = Ledger::new(clients::dynamodb(&config), table, Seal::new(&config, seal_key_arn));
        Self { iam: clients::iam(&config), config, store, ledger }
    }

    /// Takes the snapshot of the incident that an outcome event points at. `deadline` is when the invocation ends.
    pub async fn handle(&self, event: &Value, deadline: SystemTime) -> Result<Answer, Failure> {
        let id = outcome::incident_id(event)
            .ok_or_else(|| Failure::Malformed("the event holds no well-formed incident id".to_owned()))?;
        let deadline = Timestamp::try_from(deadline).unwrap_or(Timestamp::UNIX_EPOCH);
        let span = info_span!("snapshot", incident.id = %id);
        self.take(&id, deadline).instrument(span).await
    }

    /// Takes the snapshot that the incident's plan asks for, unless there is one of the incident as it stands.
    async fn take(&self, id: &IncidentId, deadline: Timestamp) -> Result<Answer, Failure> {
        let nothing = |why: &str| {
            info!("nothing to collect: {why}");
            Ok(Answer { incident_id: Some(id.clone()), ..Answer::of("nothing to do") }.saying(why))
        };
        let Some(incident) = self.ledger.incident(id).await? else {
            return nothing("the ledger knows no such incident");
        };
        if !matches!(incident.state, IncidentState::Ordered | IncidentState::Releasing) {
            return nothing(&format!("the incident is `{}`", incident.state));
        }
        let Some(step) = incident.plan.owned_by(FunctionName::SnapshotLogs).next() else {
            return nothing("the plan holds no snapshot");
        };
        let fresh = incident.step_record(step, clock::now());
        let before = self.ledger.step(&fresh).await?;
        if let Some(record) = &before
            && self.stands(record, &incident).await
        {
            return Ok(Answer::on("collected before", id, std::slice::from_ref(record)));
        }
        let record = self.begin(before, fresh).await?;
        self.collect_into(&incident, record, deadline - RESERVE).await
    }

    /// Whether a snapshot is there that covers the incident: one that found more functions since is collected again.
    async fn stands(&self, record: &StepRecord, incident: &Incident) -> bool {
        match record.state {
            StepState::Applied => {
                let key = manifest_key(&prefix(incident, record.attempts));
                let body = self.store.get(&key).await.unwrap_or_default();
                serde_json::from_slice::<Reach>(&body)
                    .is_ok_and(|reach| incident.functions.iter().all(|f| reach.functions.contains(f)))
            }
            StepState::Intended | StepState::Failed => false,
            StepState::Gone | StepState::Withheld | StepState::Reverted | StepState::LeftAlone => true,
        }
    }

    /// Puts the attempt on record before anything is written under its number.
    async fn begin(&self, before: Option<StepRecord>, fresh: StepRecord) -> Result<StepRecord, Failure> {
        let began = |record: StepRecord| {
            let now = clock::now();
            let state = StepState::Intended;
            StepRecord { state, attempts: record.attempts + 1, intended_at: Some(now), updated_at: now, ..record }
        };
        let before = if let Some(record) = before {
            record
        } else {
            let first = began(fresh);
            let recorded = self.ledger.intend(&first).await?;
            if recorded == first {
                return Ok(first);
            }
            // Another invocation began in the same moment: ours is the next attempt.
            recorded
        };
        let record = began(before);
        self.ledger.record(&record).await?;
        Ok(record)
    }

    async fn collect_into(
        &self,
        incident: &Incident,
        mut record: StepRecord,
        deadline: Timestamp,
    ) -> Result<Answer, Failure> {
        let began_at = clock::now();
        let run = Run {
            store: &self.store,
            prefix: prefix(incident, record.attempts),
            from: window_begins(incident),
            to: began_at,
            deadline,
        };
        let mut collected = self.collectors(incident, &run).await;
        let unstored = collected.unstored.take();
        let (objects, gaps) = (collected.entries.len(), collected.gaps.len());
        let manifest = manifest(incident, &record, &run, began_at, collected);
        let result = match self.write(&run, &manifest).await {
            Ok(stored) => match unstored {
                None => Ok(stored),
                Some(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        record.updated_at = clock::now();
        match result {
            Ok(stored) => {
                record.state = StepState::Applied;
                record.applied_at = Some(record.updated_at);
                record.verified_at = Some(record.updated_at);
                record.detail = format!(
                    "{objects} objects and {gaps} gaps, in manifest `{}`, SHA-256 `{}`",
                    stored.key, stored.sha256
                );
                info!(evidence.objects = objects, evidence.gaps = gaps, "collected, manifest `{}`", stored.key);
                self.ledger.record(&record).await?;
                Ok(Answer::on("collected", &incident.incident_id, &[record]))
            }
            Err(error) => {
                record.state = StepState::Failed;
                record.detail = format!("evidence could not be stored: {}", chain(&error));
                // A snapshot that another invocation finished meanwhile stands.
                let now = self.ledger.step(&record).await?;
                if now.is_none_or(|now| now.state != StepState::Applied) {
                    self.ledger.record(&record).await?;
                }
                warn!("{}", record.detail);
                Err(if error.is_transient() { Failure::Transient } else { Failure::Permanent }(record.detail))
            }
        }
    }

    /// Runs the collectors side by side.
    async fn collectors(&self, incident: &Incident, run: &Run<'_>) -> Collected {
        let functions = stream::iter(&incident.functions)
            .map(|arn| async move {
                let arn = arn.unqualified();
                let lambda = clients::lambda_in(&self.config, arn.region());
                let (documents, log_group) = function::collect(&lambda, run, &arn).await;
                let client = logs::client_in(&self.config, arn.region());
                documents.and(logs::collect(&client, run, &arn, &log_group).await)
            })
            .buffer_unordered(AT_ONCE)
            .fold(Collected::default(), |all, one| future::ready(all.and(one)));
        let (ledger, principal, functions) = future::join3(
            Box::pin(records::collect(&self.ledger, run, incident)),
            Box::pin(principal::collect(&self.iam, run, &incident.principal.name)),
            Box::pin(functions),
        )
        .await;
        ledger.and(principal).and(functions)
    }

    async fn write(&self, run: &Run<'_>, manifest: &Manifest) -> Result<Stored, super::StoreError> {
        let mut body = serde_json::to_vec_pretty(manifest).map_err(std::io::Error::from)?;
        body.push(b'\n');
        let stored = self.store.put(manifest_key(&run.prefix), "application/json", body).await?;
        self.store.verify(&stored).await?;
        Ok(stored)
    }
}

/// When the logs begin that are collected. A finding may name any time at all; there are no logs from before 1970.
fn window_begins(incident: &Incident) -> Timestamp {
    let seen = incident.first_seen.map_or(incident.opened_at, |seen| seen.min(incident.opened_at));
    seen.saturating_sub(LEAD).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH)
}

fn prefix(incident: &Incident, attempt: u32) -> String {
    let Incident { account, incident_id, episode, .. } = incident;
    format!("incidents/{account}/{incident_id}/{episode:06}/{attempt:06}")
}

fn manifest_key(prefix: &str) -> String {
    format!("{prefix}/manifest.json")
}

fn manifest(
    incident: &Incident,
    record: &StepRecord,
    run: &Run<'_>,
    began_at: Timestamp,
    collected: Collected,
) -> Manifest {
    let Collected { mut entries, mut gaps, .. } = collected;
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    gaps.sort_by(|a, b| (&a.what, &a.source.api).cmp(&(&b.what, &b.source.api)));
    Manifest {
        schema: SCHEMA,
        incident_id: incident.incident_id.clone(),
        episode: incident.episode,
        attempt: record.attempts,
        account: incident.account.clone(),
        principal: incident.principal.name.to_string(),
        functions: incident.functions.clone(),
        playbook_digest: incident.playbook_digest.clone(),
        drill: incident.drill,
        collected_by: concat!("firebreak snapshot-logs ", env!("CARGO_PKG_VERSION")).to_owned(),
        began_at,
        ended_at: clock::now(),
        log_window: Window { from: run.from, to: run.to },
        entries,
        gaps,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::action::{ActionId, Response};
    use firebreak_model::ids::sha256_hex;
    use firebreak_model::ledger::Record;
    use firebreak_model::plan::{Plan, Step};
    use serde_json::json;

    use super::*;
    use crate::evidence::testing::{Bucket, documents, item};
    use crate::testing::{Answer as Wired, Wire, json_error, ok, query_error, role_order};

    fn incident() -> Incident {
        let (mut incident, _) = role_order("orders");
        incident.response.push(Response::Snapshot);
        incident.plan = Plan::of(&incident.principal.name, &[], &incident.response);
        incident
    }

    fn of(incident: &Incident) -> Wired {
        item(&Record::Incident(Box::new(incident.clone())))
    }

    fn step_of(incident: &Incident, state: StepState, attempts: u32) -> StepRecord {
        let step = Step { action: ActionId::SnapshotLogs, target: (&incident.principal.name).into() };
        StepRecord { state, attempts, ..incident.step_record(&step, incident.opened_at) }
    }

    /// Snapshots whose ledger answers this; the role is gone, so that IAM has three gaps to offer.
    fn snapshots(ledger: &Wire, bucket: &Bucket) -> Snapshots {
        let gone = || query_error(404, "NoSuchEntity");
        let config = Wire::answering([gone(), gone(), gone()]).config();
        let client = aws_sdk_dynamodb::Client::new(&ledger.config());
        Snapshots {
            iam: aws_sdk_iam::Client::new(&config),
            config,
            store: bucket.store(),
            ledger: Ledger::new(client, "ledger".to_owned(), Seal::none()),
        }
    }

    #[test]
    fn logs_are_asked_for_from_a_time_that_there_is() {
        let opened: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        let begins = |seen: Option<&str>| {
            let first_seen = seen.map(|seen| seen.parse().unwrap());
            window_begins(&Incident { first_seen, opened_at: opened, ..incident() }).to_string()
        };
        assert_eq!(begins(None), "2026-11-21T02:00:00Z");
        assert_eq!(begins(Some("2026-11-21T01:30:00Z")), "2026-11-21T00:30:00Z");
        assert_eq!(begins(Some("9999-12-30T22:00:00Z")), "2026-11-21T02:00:00Z");
        for long_ago in ["-009999-01-02T01:59:59Z", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(begins(Some(long_ago)), "1970-01-01T00:00:00Z", "{long_ago}");
        }
    }

    async fn take(ledger: &Wire, bucket: &Bucket, id: &IncidentId) -> Result<Answer, Failure> {
        let event = json!({"detail": {"incident_id": id, "state": "released", "bucket": "elsewhere"}});
        let deadline = "9000-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
        snapshots(ledger, bucket).handle(&event, deadline.into()).await
    }

    fn base(attempt: u32) -> String {
        prefix(&incident(), attempt)
    }

    fn recorded(wire: &Wire) -> String {
        wire.requests().last().unwrap().clone()
    }

    #[tokio::test]
    async fn a_snapshot_is_applied_when_its_manifest_was_read_back() {
        let incident = incident();
        let id = &incident.incident_id;
        let ledger = Wire::answering([of(&incident), ok("{}"), ok("{}"), ok(r#"{"Items": []}"#), ok("{}")]);
        let bucket = Bucket::default();
        let answer = take(&ledger, &bucket, id).await.unwrap();
        assert_eq!(answer.outcome, "collected");
        let base = base(1);
        assert!(base.starts_with("incidents/111122223333/fb-") && base.ends_with("/000001/000001"), "{base}");
        assert_eq!(bucket.keys(), [format!("{base}/ledger/records-0001.jsonl.gz"), format!("{base}/manifest.json")]);
        let manifest = bucket.object(&format!("{base}/manifest.json")).unwrap();
        let read: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(read["gaps"].as_array().unwrap().len(), 3);
        let records = bucket.object(read["entries"][0]["key"].as_str().unwrap()).unwrap();
        assert_eq!(read["entries"][0]["sha256"], sha256_hex(&records));
        assert_eq!(documents(&records)[0]["kind"], "incident");
        assert_eq!(read["log_window"]["from"], "2026-11-21T02:00:00Z");
        let last = recorded(&ledger);
        assert!(last.contains(r#""state":{"S":"applied"}"#) && last.contains(&sha256_hex(&manifest)), "{last}");
        assert!(last.contains("1 objects and 3 gaps"), "{last}");
        assert_eq!(ledger.unused(), 0);
    }

    #[tokio::test]
    async fn a_manifest_that_reads_back_otherwise_is_no_snapshot() {
        let incident = incident();
        let empty = || ok("{}");
        let ledger = Wire::answering([of(&incident), empty(), empty(), ok(r#"{"Items": []}"#), empty(), empty()]);
        let bucket = Bucket::default();
        bucket.spoil_writes();
        let failure = take(&ledger, &bucket, &incident.incident_id).await.unwrap_err();
        assert!(matches!(failure, Failure::Permanent(_)), "{failure}");
        assert!(recorded(&ledger).contains(r#""state":{"S":"failed"}"#));
    }

    #[tokio::test]
    async fn there_is_nothing_to_do_where_nothing_is_ordered() {
        let ordered = incident();
        let mut waiting = ordered.clone();
        waiting.state = IncidentState::AwaitingApproval;
        let mut released = ordered.clone();
        released.state = IncidentState::Released;
        let (without, _) = role_order("orders");
        for answer in [ok("{}"), of(&waiting), of(&released), of(&without)] {
            let bucket = Bucket::default();
            let ledger = Wire::answering([answer]);
            let answer = take(&ledger, &bucket, &ordered.incident_id).await.unwrap();
            assert_eq!((answer.outcome.as_str(), bucket.keys().len(), ledger.unused()), ("nothing to do", 0, 0));
        }
    }

    #[tokio::test]
    async fn a_snapshot_that_stands_is_not_taken_again_unless_the_incident_grew() {
        let mut incident = incident();
        let applied = Record::Step(Box::new(step_of(&incident, StepState::Applied, 1)));
        let bucket = Bucket::default();
        bucket.replace(&format!("{}/manifest.json", base(1)), br#"{"functions": []}"#);
        let ledger = Wire::answering([of(&incident), item(&applied)]);
        let answer = take(&ledger, &bucket, &incident.incident_id).await.unwrap();
        assert_eq!((answer.outcome.as_str(), bucket.keys().len()), ("collected before", 1));

        incident.functions = vec!["arn:aws:lambda:eu-west-1:111122223333:function:orders".parse().unwrap()];
        let ledger = Wire::answering([of(&incident), item(&applied), ok("{}"), ok(r#"{"Items": []}"#), ok("{}")]);
        let answer = take(&ledger, &bucket, &incident.incident_id).await.unwrap();
        assert_eq!(answer.outcome, "collected");
        assert!(bucket.object(&format!("{}/manifest.json", base(2))).is_some());
    }

    #[tokio::test]
    async fn after_a_crash_the_next_attempt_leaves_the_first_as_it_is() {
        let incident = incident();
        let intended = Record::Step(Box::new(step_of(&incident, StepState::Intended, 1)));
        let bucket = Bucket::default();
        let half = format!("{}/ledger/records-0001.jsonl.gz", base(1));
        bucket.replace(&half, b"half");
        let ledger = Wire::answering([of(&incident), item(&intended), ok("{}"), ok(r#"{"Items": []}"#), ok("{}")]);
        take(&ledger, &bucket, &incident.incident_id).await.unwrap();
        assert_eq!(bucket.object(&half).unwrap(), b"half");
        assert!(bucket.object(&format!("{}/manifest.json", base(2))).is_some());
    }

    #[tokio::test]
    async fn evidence_that_cannot_be_stored_fails_the_step_and_the_invocation() {
        for (status, transient) in [(503, true), (403, false)] {
            let incident = incident();
            let bucket = Bucket::default();
            bucket.answer_puts_with(status);
            let empty = || ok("{}");
            let ledger = Wire::answering([of(&incident), empty(), empty(), ok(r#"{"Items": []}"#), empty(), empty()]);
            let failure = take(&ledger, &bucket, &incident.incident_id).await.unwrap_err();
            assert_eq!(matches!(failure, Failure::Transient(_)), transient, "{failure}");
            assert!(recorded(&ledger).contains(r#""state":{"S":"failed"}"#));
        }
    }

    #[tokio::test]
    async fn an_event_without_an_incident_id_is_malformed() {
        for event in [json!({}), json!({"detail": {"incident_id": "fb-../../x"}})] {
            let snapshots = snapshots(&Wire::default(), &Bucket::default());
            let result = snapshots.handle(&event, SystemTime::UNIX_EPOCH).await;
            assert!(matches!(result, Err(Failure::Malformed(_))), "{event}");
        }
    }

    #[tokio::test]
    async fn findings_that_cannot_be_read_are_a_gap() {
        let incident = incident();
        let denied = json_error(400, "AccessDeniedException");
        let ledger = Wire::answering([of(&incident), ok("{}"), ok("{}"), denied, ok("{}")]);
        let bucket = Bucket::default();
        assert_eq!(take(&ledger, &bucket, &incident.incident_id).await.unwrap().outcome, "collected");
        assert!(recorded(&ledger).contains("1 objects and 4 gaps"));
    }
}
