//! The beginning of a run: what it reads is fixed, and on record before anything is read.

use firebreak_model::SCHEMA;
use firebreak_model::evidence::{ApiCall, EvidenceRun, Gap, Lack, LogGroup, Purpose, Window, Worker};
use firebreak_model::ids::FunctionArn;
use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::plan::Step;
use firebreak_model::usage::Usage;
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Due, STALLED, Snapshots, window_begins};
use crate::clients;
use crate::clock;
use crate::evidence::calls;
use crate::evidence::function::{self, Logging};
use crate::evidence::logs::retention;
use crate::evidence::queue::Order;
use crate::failure::Failure;

/// Log events arrive late: a follow-up begins this long before the end of what was read.
pub(super) const OVERLAP: SignedDuration = SignedDuration::from_mins(5);

/// CloudWatch Logs takes events that are stamped up to this far ahead.
const AHEAD: SignedDuration = SignedDuration::from_hours(2);

/// Functions whose log groups are asked for at the same time.
const AT_ONCE: usize = 3;

impl Snapshots {
    /// Fixes what a run after `runs` reads, and puts it on record. `until` is when this invocation is over.
    pub(super) async fn begin(
        &self,
        order: &Order,
        (incident, step): (&Incident, &Step),
        purpose: Purpose,
        runs: &[EvidenceRun],
        until: Timestamp,
    ) -> Result<Due, Failure> {
        let now = clock::now();
        let previous = runs.last();
        let before = previous.filter(|run| run.episode == incident.episode);
        // A report reads nothing: what comes after it goes on behind what was read before it.
        let told = previous.filter(|_| purpose == Purpose::Report);
        let functions = told.map_or_else(|| whose_logs(incident), |run| run.functions.clone());
        let (window, logging, calls) = if let Some(run) = told {
            let logging = Logging { groups: run.log_groups.clone(), ..Logging::default() };
            (run.window, logging, run.calls.clone())
        } else {
            let followed = before.filter(|_| purpose == Purpose::FollowUp);
            let known = followed.map_or(&[][..], |run| &run.log_groups);
            let logging = self.logging(&functions, known).await;
            if logging.waits && order.waited < self.limits.stalls {
                let again = Order { waited: order.waited + 1, ..order.clone() };
                self.queue.send(&again, STALLED).await?;
                return Ok(Due::Later("Lambda does not tell for now where the functions log: it is asked again"));
            }
            let from = followed.map_or_else(
                || window_begins(incident),
                |run| run.window.to.saturating_sub(OVERLAP).unwrap_or(run.window.from),
            );
            // Nothing is read after a follow-up: it also looks for events of clocks that are ahead.
            let to = if purpose == Purpose::FollowUp { now.saturating_add(AHEAD).unwrap_or(now) } else { now };
            (Window { from, to }, logging, self.asked(incident, runs, now).await?)
        };
        let mut gaps = logging.gaps;
        if told.is_none() {
            gaps.extend(retention::passed(&self.config, &logging.groups, window.from, now).await);
        }
        gaps.extend(calls.before_history.filter(|_| told.is_none()).map(before_history));
        gaps.extend(unnamed_users(incident).filter(|_| told.is_none()));
        let run = EvidenceRun {
            schema: SCHEMA,
            incident_id: incident.incident_id.clone(),
            episode: incident.episode,
            run: before.map_or(1, |run| run.run + 1),
            purpose,
            account: incident.account.clone(),
            principal: incident.principal.name.to_string(),
            functions,
            log_groups: logging.groups,
            gaps,
            calls,
            playbook_digest: incident.playbook_digest.clone(),
            drill: incident.drill,
            collected_by: concat!("firebreak snapshot-logs ", env!("CARGO_PKG_VERSION")).to_owned(),
            codec: self.settings.codec,
            began_at: now,
            window,
            previous: previous.and_then(|run| run.sealed.clone()).map(|sealed| sealed.manifest),
            stalls: 0,
            worker: Some(Worker { event: order.event.clone(), until }),
            signer: None,
            sealed: None,
            done_at: None,
        };
        let run = if self.ledger.begin_run(&run).await? {
            run
        } else {
            // Another invocation began one in the same moment. What this one is for comes after it, where that is something else.
            let first = self.ledger.latest_run(&incident.incident_id).await?;
            if first.as_ref().is_none_or(|first| first.purpose != purpose) {
                let again = Order { report: order.report.map(|put_off| put_off + 1), ..order.clone() };
                self.queue.send(&again, self.report_delay().max(1)).await?;
            }
            match first {
                Some(first) if first.done_at.is_none() => first,
                _ => return Ok(Due::Done),
            }
        };
        if purpose == Purpose::Snapshot {
            self.intend(incident, step, run.run).await?;
        }
        Ok(Due::Run(Box::new(run)))
    }

    /// The log groups of functions, each once, beside those that are known already.
    async fn logging(&self, functions: &[FunctionArn], known: &[LogGroup]) -> Logging {
        let functions: Vec<FunctionArn> = functions.iter().map(FunctionArn::unqualified).collect();
        let each = stream::iter(&functions)
            .map(async |arn| function::log_groups(&clients::lambda_in(&self.config, arn.region()), arn).await);
        let each: Vec<Logging> = each.buffered(AT_ONCE).collect().await;
        let mut all = Logging { groups: known.to_vec(), ..Logging::default() };
        for Logging { groups, gaps, waits } in each {
            all.groups.extend(groups);
            all.gaps.extend(gaps);
            all.waits |= waits;
        }
        // What one configuration names is not assumed because another one does not name it.
        all.groups.sort();
        all.groups.dedup_by(|a, b| (&a.region, &a.name) == (&b.region, &b.name));
        all
    }

    async fn intend(&self, incident: &Incident, step: &Step, attempts: u32) -> Result<(), Failure> {
        let now = clock::now();
        let fresh = incident.step_record(step, now);
        let record = self.ledger.step(&fresh).await?.unwrap_or(fresh);
        let state = StepState::Intended;
        let record = StepRecord { state, attempts, intended_at: Some(now), updated_at: now, ..record };
        Ok(self.ledger.record(&record).await?)
    }
}

/// The functions of the incident, and those that run as its principal beside: whoever has the role's credentials may have
/// them from any.
fn whose_logs(incident: &Incident) -> Vec<FunctionArn> {
    let mut all = incident.functions.clone();
    for function in incident.usage.iter().flat_map(Usage::functions) {
        if !all.iter().any(|known| known.unqualified() == function) {
            all.push(function);
        }
    }
    all
}

/// Of a role that very many use, not all are on record.
fn unnamed_users(incident: &Incident) -> Option<Gap> {
    let usage = incident.usage.as_ref()?;
    let (_, unnamed) = usage.beside(&incident.functions);
    (unnamed > 0).then(|| Gap {
        what: format!("logs and documents of {unnamed} more that run as {}", incident.principal.name),
        source: ApiCall::new("lambda:ListFunctions", json!({"scannedAt": usage.scanned_at.to_string()})),
        lack: Lack::TooMany,
        reason: format!("{} run as it, of which {} are on record by name", usage.count, usage.users.len()),
    })
}

/// What CloudTrail does not keep so long.
fn before_history(wanted: Timestamp) -> Gap {
    Gap {
        what: format!("calls recorded from {wanted} on, more than 90 days ago"),
        source: ApiCall::new(calls::CALL, json!({"startTime": wanted.to_string()})),
        lack: Lack::Gone,
        reason: "CloudTrail's event history goes back 90 days: what was recorded before is in a trail, if there is one"
            .to_owned(),
    }
}
