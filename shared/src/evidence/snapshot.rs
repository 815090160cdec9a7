//! One collection after the other: from an incident in the ledger to a signed manifest that was read back.
//!
//! What a run reads is fixed when it begins. An invocation carries on what is open and has others go on, through the
//! queue, when its time is over; the one that finds everything done ends the run. However often an order comes, and
//! wherever a function is killed, the same objects come of it.

use std::fmt::Write as _;
use std::time::SystemTime;

use aws_config::SdkConfig;
use firebreak_model::action::FunctionName;
use firebreak_model::evidence::{Chained, EvidenceRun, MISSING, Purpose, Sealed, TOLD_GAPS, Worker, of_each};
use firebreak_model::ledger::{Incident, IncidentState, StepRecord, StepState};
use firebreak_model::plan::Step;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::{Instrument, info, info_span, warn};

use super::calls::Trail;
use super::logs::Asking;
use super::pace::Pace;
use super::queue::{self, Order, Queue};
use super::report::{self, Place};
use super::seal::Sealing;
use super::store::Store;
use super::units::{self, Scene};
use super::{End, Limits, Settings, UnitError, Work};
use crate::answer::Answer;
use crate::clients;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::{Ledger, LedgerError};
use crate::queue::{self as messages, Batch, Handled, Next};
use crate::telemetry::chain;

/// Log events are collected from this long before the activity was first seen.
const LEAD: SignedDuration = SignedDuration::from_mins(60);

/// So long an order waits for the seal of an incident that was claimed just now, in seconds.
const SEALED_WITHIN: u64 = 5;

/// So long an order waits where AWS does not answer, in seconds.
const STALLED: u64 = 60;

/// Whoever a run was handed on to is done with it after this, or has handed it on: no invocation is longer.
const HANDED_ON: SignedDuration = SignedDuration::from_mins(15);

/// Reports of one incident are made no more often than this, in seconds.
const REPORTS_APART: u64 = 60;

/// So often a report is put off: by then somebody else has made it, or something is wrong that a report does not mend.
const MOST_PUT_OFF: u32 = 30;

/// Takes snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    config: SdkConfig,
    iam: aws_sdk_iam::Client,
    kms: aws_sdk_kms::Client,
    queue: Queue,
    store: Store,
    ledger: Ledger,
    settings: Settings,
    limits: Limits,
    pace: Pace,
    policies: Pace,
    events: Pace,
    queries: Pace,
}

/// What there is to do for an incident.
enum Due {
    /// This run goes on, or is ended.
    Run(Box<EvidenceRun>),
    /// Everything was done before.
    Done,
    /// The order comes again, and why.
    Later(&'static str),
    /// There is nothing to do, and why.
    Nothing(&'static str),
}

impl Snapshots {
    /// With clients of this configuration. Lambda and logs are read in each function's own Region.
    pub fn new(config: SdkConfig, settings: Settings, ledger: Ledger, limits: Limits) -> Self {
        Self {
            iam: clients::iam(&config),
            kms: clients::kms(&config),
            queue: Queue { sqs: clients::sqs(&config), url: settings.queue_url.clone() },
            store: Store::new(clients::s3(&config), settings.bucket.clone(), settings.key_arn.clone(), settings.access),
            config,
            ledger,
            settings,
            limits,
            pace: Pace::every(limits.pace),
            policies: Pace::every(limits.policies),
            events: Pace::every(limits.events),
            queries: Pace::every(limits.queries),
        }
    }

    /// Handles one invocation: an outcome event, or messages of the queue. `deadline` is when the invocation ends.
    pub async fn handle(&self, payload: &Value, deadline: SystemTime) -> Result<Handled, Failure> {
        let deadline = Timestamp::try_from(deadline).unwrap_or(Timestamp::UNIX_EPOCH);
        if !messages::is_batch(payload) {
            return match self.to_be_told(payload).await? {
                Some(answer) => Ok(Handled::Order(answer)),
                None => self.on_event(payload, deadline, true).await.map(Handled::Order),
            };
        }
        let mut batch = Batch::of(payload)?;
        for (id, event) in batch.events() {
            let end = match event {
                Ok(event) => self.on_event(&event, deadline, false).await.map(|_| Next::Done),
                Err(failure) => Err(failure),
            };
            batch.ended(id, end)?;
        }
        Ok(batch.answer())
    }

    /// Has the report made again in a while, where that is what an event is for: what happens together is told together.
    async fn to_be_told(&self, event: &Value) -> Result<Option<Answer>, Failure> {
        let retold = queue::is_retold(event);
        // Tampering with Firebreak itself belongs to no incident.
        if retold && event.pointer("/detail/incident_id").is_some_and(Value::is_null) {
            return Ok(Some(Answer::of("nothing to do").saying("it belongs to no incident")));
        }
        let Some(order) = Order::read(event).filter(|_| retold) else {
            return Ok(None);
        };
        self.queue.send(&order, self.report_delay()).await?;
        Ok(Some(Answer::on("the report is made again", &order.id, &[])))
    }

    /// So long what is to be told waits, in seconds.
    fn report_delay(&self) -> u64 {
        self.settings.follow_up.as_secs().min(REPORTS_APART)
    }

    /// `first` says that the order comes from the bus, and not by the queue.
    async fn on_event(&self, event: &Value, deadline: Timestamp, first: bool) -> Result<Answer, Failure> {
        let order = Order::read(event)
            .ok_or_else(|| Failure::Malformed("the event holds no well-formed incident id".to_owned()))?;
        let span = info_span!("snapshot", incident.id = %order.id);
        Box::pin(self.take(&order, deadline - self.limits.reserve, first)).instrument(span).await
    }

    async fn take(&self, order: &Order, deadline: Timestamp, first: bool) -> Result<Answer, Failure> {
        let nothing = |why: &str| {
            info!("nothing to collect: {why}");
            Ok(Answer { incident_id: Some(order.id.clone()), ..Answer::of("nothing to do") }.saying(why))
        };
        let incident = match self.ledger.incident(&order.id).await {
            // Its claim is told of before it is sealed: Lambda itself would try again in a minute.
            Err(LedgerError::Unsealed(id)) if first => {
                self.queue.send(order, SEALED_WITHIN).await?;
                return Ok(Answer::on("collected once it is sealed", &id, &[]));
            }
            other => other?,
        };
        let Some(incident) = incident else {
            return nothing("the ledger knows no such incident");
        };
        let Some(step) = incident.plan.owned_by(FunctionName::SnapshotLogs).next() else {
            return nothing("the plan holds no snapshot");
        };
        match self.due(order, (&incident, step), deadline + self.limits.reserve).await? {
            Due::Later(why) => {
                info!("collected later: {why}");
                Ok(Answer::on("collecting", &order.id, &[]).saying(why))
            }
            Due::Run(run) => self.carry_on(order, &incident, step, *run, deadline).await,
            Due::Nothing(why) => nothing(why),
            Due::Done => {
                // Somebody approved, or the plan grew: the report tells what the last one does not.
                if first && !order.follow_up {
                    self.queue.send(&Order { report: Some(0), ..order.clone() }, self.report_delay()).await?;
                }
                let record = self.ledger.step(&incident.step_record(step, clock::now())).await?;
                Ok(Answer::on("collected before", &order.id, record.as_slice()))
            }
        }
    }

    /// A run that is open goes on, whatever became of the incident: the next one names its manifest.
    async fn due(&self, order: &Order, (incident, step): (&Incident, &Step), until: Timestamp) -> Result<Due, Failure> {
        let runs = self.ledger.runs(&incident.incident_id).await?;
        if let Some(put_off) = order.report {
            return self.report_due(order, (incident, step), &runs, (put_off, until)).await;
        }
        let mut since = runs.iter().rev().take_while(|run| run.purpose != Purpose::Snapshot);
        let followed = since.any(|run| run.purpose == Purpose::FollowUp);
        let contained = incident.is_in_force() || incident.state == IncidentState::Releasing;
        match runs.last() {
            Some(run) if run.done_at.is_none() => {
                if let Some(seconds) = is_elsewhere(order, run) {
                    self.queue.send(order, seconds).await?;
                    return Ok(Due::Later("it is being collected elsewhere: it is looked at again after that"));
                }
                // What it asks for comes after the run that it has met.
                if order.follow_up && run.purpose == Purpose::Report {
                    self.queue.send(order, self.report_delay().max(1)).await?;
                }
                Ok(Due::Run(Box::new(run.clone())))
            }
            Some(run) if run.covers(incident.episode, &incident.functions) => {
                if !order.follow_up || followed {
                    return Ok(Due::Done);
                }
                self.begin(order, (incident, step), Purpose::FollowUp, &runs, until).await
            }
            _ if contained => self.begin(order, (incident, step), Purpose::Snapshot, &runs, until).await,
            _ => Ok(Due::Nothing("the incident is not contained, and nothing of it is being collected")),
        }
    }

    /// Whether the report is made again now. A collection that is under way ends with one, though perhaps with one that was
    /// made before what is to be told.
    async fn report_due(
        &self,
        order: &Order,
        (incident, step): (&Incident, &Step),
        runs: &[EvidenceRun],
        (put_off, until): (u32, Timestamp),
    ) -> Result<Due, Failure> {
        let Some(run) = runs.last() else { return Ok(Due::Nothing("no evidence of it was collected")) };
        let apart = SignedDuration::from_secs(self.report_delay().cast_signed());
        let just_told = run.purpose == Purpose::Report && clock::now().duration_since(run.began_at) < apart;
        match run.done_at {
            None if run.purpose == Purpose::Report => return Ok(Due::Run(Box::new(run.clone()))),
            Some(_) if !just_told => {}
            _ if put_off >= MOST_PUT_OFF => return Ok(Due::Nothing("a collection is under way, for long")),
            _ => {
                let later = Order { report: Some(put_off + 1), ..order.clone() };
                self.queue.send(&later, self.report_delay().max(1)).await?;
                return Ok(Due::Nothing("a collection is under way: the report is made again after it"));
            }
        }
        let outdated = report::is_outdated(&self.store, &self.ledger, self.place(), incident, run).await;
        match outdated {
            Ok(true) => self.begin(order, (incident, step), Purpose::Report, runs, until).await,
            Ok(false) => Ok(Due::Nothing("the report says it already")),
            Err(error) => self.failed(incident, step, chain(&error), error.is_transient()).await,
        }
    }

    fn place(&self) -> Place<'_> {
        let region = self.config.region().map(AsRef::as_ref).unwrap_or_default();
        Place { stack: &self.settings.stack, region, revokes: self.settings.revokes }
    }

    /// Carries a run on until it is done, or the invocation nears its end.
    async fn carry_on(
        &self,
        order: &Order,
        incident: &Incident,
        step: &Step,
        mut run: EvidenceRun,
        deadline: Timestamp,
    ) -> Result<Answer, Failure> {
        let Self { store, ledger, limits, .. } = self;
        let mut worked = false;
        let pieces = loop {
            let pieces = ledger.pieces(&run).await?;
            if run.sealed.is_some() {
                break pieces;
            }
            let before = of_each(pieces.pieces.clone());
            let work = Work { store, ledger, run: &run, limits: *limits, deadline, before: &before };
            let open = units::open(work);
            if open.is_empty() {
                break pieces;
            }
            // What follows from the rest is done by its lane, or by whoever finds all the rest done: by one, which asks
            // CloudTrail at the pace of one.
            let mut ready = units::ready(&open);
            let rest_is_done = open.iter().all(|unit| unit.subject.is_late());
            ready.retain(|unit| order.lane.holds(unit.number) || (rest_is_done && unit.subject.is_late()));
            if ready.is_empty() {
                let why = "what is left of the run is being collected elsewhere";
                return Ok(Answer::on("collecting", &incident.incident_id, &[]).saying(why));
            }
            let trail = Trail { config: &self.config, pace: &self.pace };
            // The other lanes ask at the same time, in other processes.
            let events = self.events.shared_by(order.lane.of());
            let Self { config, iam, policies, queries, .. } = self;
            let logs = Asking { config, events: &events, queries };
            let scene = Scene { config, iam, incident, trail, policies, logs, place: self.place() };
            let ends = if worked && clock::now() >= deadline {
                ready.iter().map(|unit| (unit.number, Ok(End::Cut(true)))).collect()
            } else {
                units::collect(work, scene, ready).await
            };
            worked = true;
            if let Some(answer) = self.goes_on(order, incident, step, &mut run, ends).await? {
                return Ok(answer);
            }
        };
        let sealing = Sealing { store, ledger, kms: &self.kms, settings: &self.settings };
        match Box::pin(sealing.seal(run, pieces)).await {
            Ok(run) => self.conclude(incident, step, &run).await,
            Err(error) => self.failed(incident, step, chain(&error), error.is_transient()).await,
        }
    }

    /// What is to be done where not every unit came to its end; `None` where all did.
    async fn goes_on(
        &self,
        order: &Order,
        incident: &Incident,
        step: &Step,
        run: &mut EvidenceRun,
        ends: Vec<(u32, Result<End, UnitError>)>,
    ) -> Result<Option<Answer>, Failure> {
        let (mut cut, mut stalled, mut moved, mut left) = (false, false, false, Vec::new());
        for (unit, end) in ends {
            match end {
                Ok(End::Done) => moved = true,
                Ok(End::Cut(kept)) => {
                    (cut, moved) = (true, moved || kept);
                    left.push(unit);
                }
                Ok(End::Stalled(kept)) => {
                    (stalled, moved) = (true, moved || kept);
                    left.push(unit);
                }
                Err(error) => return self.failed(incident, step, chain(&error), error.is_transient()).await.map(Some),
            }
        }
        if !cut && !stalled {
            return Ok(None);
        }
        // That AWS turns everyone away is on record, so that it ends as a gap and not never.
        let stalls = if moved { 0 } else { run.stalls + u32::from(stalled) };
        if stalls != run.stalls {
            run.stalls = stalls;
            if !self.ledger.keep_run(run).await? {
                return Ok(None);
            }
        }
        let lanes = order.lane.for_units(&left, self.limits.lanes);
        for lane in &lanes {
            let next = Order { lane: *lane, waited: 0, event: None, ..order.clone() };
            self.queue.send(&next, if stalled && !moved { STALLED } else { 0 }).await?;
        }
        // Whoever is ordered meanwhile leaves it to them.
        let now = clock::now();
        run.worker = Some(Worker { event: None, until: now.saturating_add(HANDED_ON).unwrap_or(now) });
        self.ledger.keep_run(run).await?;
        let why = if cut { "the time of this invocation is over" } else { "AWS does not answer for now" };
        info!(evidence.lanes = lanes.len(), "collecting goes on in other invocations: {why}");
        Ok(Some(Answer::on("collecting", &incident.incident_id, &[]).saying(why)))
    }

    /// Puts the end of a run on record, and has the log read again after a snapshot.
    async fn conclude(&self, incident: &Incident, step: &Step, run: &EvidenceRun) -> Result<Answer, Failure> {
        let Some(sealed) = &run.sealed else {
            return Err(Failure::Transient("the run has no end yet".to_owned()));
        };
        if run.purpose == Purpose::Snapshot {
            let order = Order { follow_up: true, ..Order::about(incident.incident_id.clone()) };
            self.queue.send(&order, self.settings.follow_up.as_secs()).await?;
        }
        let now = clock::now();
        let fresh = incident.step_record(step, now);
        let record = self.ledger.step(&fresh).await?.unwrap_or(fresh);
        let record = StepRecord {
            state: StepState::Applied,
            attempts: run.run,
            applied_at: record.applied_at.or(Some(now)),
            verified_at: Some(now),
            updated_at: now,
            detail: said(run, sealed),
            ..record
        };
        self.ledger.record(&record).await?;
        let (objects, gaps) = (sealed.objects, sealed.gaps);
        info!(evidence.objects = objects, evidence.gaps = gaps, "collected, manifest `{}`", sealed.manifest.key);
        if !run.covers(incident.episode, &incident.functions) {
            // The incident has grown meanwhile.
            self.queue.send(&Order::about(incident.incident_id.clone()), 0).await?;
        }
        self.ledger.end_run(&EvidenceRun { done_at: Some(now), ..run.clone() }).await?;
        Ok(Answer::on("collected", &incident.incident_id, &[record]))
    }

    /// What was stored stays, and the next try goes on behind it.
    async fn failed<T>(&self, incident: &Incident, step: &Step, why: String, transient: bool) -> Result<T, Failure> {
        let now = clock::now();
        let fresh = incident.step_record(step, now);
        let record = self.ledger.step(&fresh).await?.unwrap_or(fresh);
        let detail = format!("evidence could not be kept: {why}");
        warn!("{detail}");
        // What another invocation finished meanwhile stands.
        if record.state != StepState::Applied {
            let failed = StepRecord { state: StepState::Failed, updated_at: now, detail: detail.clone(), ..record };
            self.ledger.record(&failed).await?;
        }
        Err(if transient { Failure::Transient } else { Failure::Permanent }(detail))
    }
}

/// The step's detail: enough to find the evidence, to tell whether it is what was kept, and to know what is missing.
fn said(run: &EvidenceRun, sealed: &Sealed) -> String {
    let Sealed { manifest: Chained { key, sha256 }, objects, gaps, read_back, locked_until, missing, .. } = sealed;
    let fingerprint = run.signer.as_ref().map_or("", |signer| signer.fingerprint.as_str());
    let what = match run.purpose {
        Purpose::Snapshot => "",
        Purpose::FollowUp => "followed up: ",
        Purpose::Report => "report made again: ",
    };
    let mut said = format!(
        "{what}{objects} objects and {gaps} gaps, in manifest `{key}`, SHA-256 `{sha256}`, signed with the key of \
         fingerprint `{fingerprint}`; the report is `{}`",
        run.report()
    );
    let lock = match locked_until {
        Some(until) => format!(", locked until {until}"),
        None if !read_back => ", not read back: the bucket is another account's, and gives nothing".to_owned(),
        None => ", NOT LOCKED: whoever may delete objects of the bucket can delete it".to_owned(),
    };
    said.push_str(&lock);
    for gap in missing.iter().take(TOLD_GAPS) {
        said.push_str(MISSING);
        said.push_str(gap);
    }
    let more = missing.len().saturating_sub(TOLD_GAPS);
    if more > 0 {
        let _ = write!(said, "{MISSING}{more} things more, which the manifest names");
    }
    said
}

/// How many seconds an order leaves a run to whoever works on it. One that works for the same event has failed, and one that
/// goes on with a share of it is no new order.
fn is_elsewhere(order: &Order, run: &EvidenceRun) -> Option<u64> {
    let (Some(worker), Some(_)) = (&run.worker, &order.event) else { return None };
    let left = worker.until.duration_since(clock::now()).as_secs();
    (worker.event != order.event && left >= 0).then(|| left.unsigned_abs() + 1)
}

/// When the logs begin that are collected. A finding may name any time at all; there are no logs from before 1970.
fn window_begins(incident: &Incident) -> Timestamp {
    let seen = incident.first_seen.map_or(incident.opened_at, |seen| seen.min(incident.opened_at));
    seen.saturating_sub(LEAD).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH)
}

mod asked;
mod begin;

#[cfg(test)]
mod account;
#[cfg(test)]
mod calls_tests;
#[cfg(test)]
mod ledger_tests;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod tests;
