//! Containments over time: re-checks by delayed messages, calls as CloudTrail tells of them, a regular sweep. What
//! `guard-containment` does.
//!
//! It looks and records; it changes nothing in IAM or Lambda. What it finds undone, the owners of the steps put back:
//! they start on the record. A message and an event are hints: the incident, its steps and its state come from the
//! ledger, and an incident that is being released is left alone.

mod call;
mod look;
mod opinion;
mod parts;
mod revocations;
mod search;
mod stranded;
mod trail;

use aws_config::SdkConfig;
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ids::{IncidentId, Region};
use firebreak_model::ladder;
use firebreak_model::ledger::{Incident, IncidentState};
use firebreak_model::outcome;
use firebreak_model::playbook::Glob;
use firebreak_model::principal::Home;
use firebreak_model::tamper::Tamper;
use firebreak_model::trigger::is_scheduled;
use firebreak_model::watch::change::{Change, Own};
use firebreak_model::watch::{Cause, Look, Pace, Standing, Watch};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::{Instrument, error, info, info_span, warn};

use crate::action::{ActionError, Permission, Resource};
use crate::answer::Answer;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::{Ledger, LedgerError};
use crate::telemetry::chain;

/// What guarding needs beside reading what the actions read, and the ledger.
pub const PERMISSIONS: &[Permission] = &[
    Permission { action: "sqs:SendMessage", on: Resource::RecheckQueue },
    Permission { action: "sqs:DeleteMessage", on: Resource::RecheckQueue },
    Permission { action: "sqs:GetQueueAttributes", on: Resource::RecheckQueue },
    Permission { action: "sqs:ReceiveMessage", on: Resource::RecheckQueue },
    Permission { action: "iam:SimulatePrincipalPolicy", on: Resource::Role },
    Permission { action: "iam:SimulatePrincipalPolicy", on: Resource::User },
    Permission { action: "cloudtrail:LookupEvents", on: Resource::Any },
];

/// What looking at Firebreak's own parts needs.
pub use parts::PERMISSIONS as OWN_PARTS;

/// The longest that SQS delays a message, in seconds.
const LONGEST_DELAY: i64 = 900;

/// When CloudTrail's history may be asked next, Region by Region: the account has two calls a second, for everybody.
#[derive(Debug)]
pub struct Lookups(crate::evidence::pace::Pace);

impl Default for Lookups {
    fn default() -> Self {
        Self(crate::evidence::pace::Pace::every(crate::trace::PACE))
    }
}

impl Lookups {
    async fn turn(&self, region: &Region) {
        self.0.turn(region).await;
    }
}

/// Everything that guarding needs.
#[derive(Debug)]
pub struct Guard {
    /// The ledger.
    pub ledger: Ledger,
    /// The IAM client.
    pub iam: aws_sdk_iam::Client,
    /// The SQS client.
    pub sqs: aws_sdk_sqs::Client,
    /// The configuration that clients of other Regions are built from.
    pub sdk: SdkConfig,
    /// Where it runs.
    pub home: Home,
    /// The stack's name.
    pub stack: String,
    /// The deny policy.
    pub deny_policy_arn: String,
    /// The queue of re-checks.
    pub queue_url: String,
    /// The guard's own role: the simulator's control, for what it is allowed.
    pub own_role_arn: String,
    /// The ledger's table, as the control's resource.
    pub table_arn: String,
    /// When re-checks fall due.
    pub pace: Pace,
    /// What belongs to Firebreak.
    pub own: Own,
    /// The roles that deploy Firebreak: what they do to its parts is no tampering.
    pub deployers: Vec<Glob>,
    /// Whether `revoke-sessions` is left out of the stack.
    pub without_revocation: bool,
    /// Whether drills are enabled.
    pub with_drills: bool,
    /// The pace of calls of CloudTrail's history.
    pub lookups: Lookups,
    /// The clients that Firebreak's own parts are looked at with.
    pub lambda: aws_sdk_lambda::Client,
    /// Rules and the bus.
    pub events: aws_sdk_eventbridge::Client,
    /// The ledger's table.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// The topic.
    pub sns: aws_sdk_sns::Client,
}

/// What an invocation answers: to the bus and to the schedule, or to the queue.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Handled {
    /// A sweep, or a reaction to a call.
    Order(Answer),
    /// The messages that are to come again.
    Queue(SqsBatchResponse),
}

/// What was found undone, with the call that did it where CloudTrail told of it.
fn with_the_call(tamper: Tamper, told: Option<Tamper>) -> Tamper {
    match told {
        Some(Tamper { call, actor, suspects, key, .. }) => Tamper { call, actor, suspects, key, ..tamper },
        None => tamper,
    }
}

/// Whether an action denies the principal everything.
fn denies(action: ActionId) -> bool {
    ladder::top(action).is_some()
}

impl Guard {
    /// Handles one invocation: messages of the queue, the schedule, or a call that CloudTrail tells of.
    pub async fn handle(&self, payload: &Value) -> Result<Handled, Failure> {
        if payload.get("Records").is_some() {
            return self.on_messages(payload).await.map(Handled::Queue);
        }
        if is_scheduled(payload) {
            return self.sweep().await.map(Handled::Order);
        }
        Box::pin(self.on_call(payload)).await.map(Handled::Order)
    }

    async fn on_messages(&self, payload: &Value) -> Result<SqsBatchResponse, Failure> {
        let batch: SqsEvent = serde_json::from_value(payload.clone())
            .map_err(|error| Failure::Malformed(format!("the messages cannot be read: {error}")))?;
        let mut again = SqsBatchResponse::default();
        for message in batch.records {
            if let Err(failure) = self.on_message(&message).await {
                error!(error.kind = failure.kind(), "{failure}");
                // What cannot be read is no better the next time.
                if !matches!(failure, Failure::Malformed(_)) {
                    let id = message.message_id.ok_or(failure)?;
                    again.add_failure(id);
                }
            }
        }
        Ok(again)
    }

    async fn on_message(&self, message: &SqsMessage) -> Result<Answer, Failure> {
        let event: Value = serde_json::from_str(message.body.as_deref().unwrap_or_default())
            .map_err(|error| Failure::Malformed(format!("a message holds no event: {error}")))?;
        let id = outcome::incident_id(&event)
            .ok_or_else(|| Failure::Malformed("the message carries no incident id".to_owned()))?;
        // An order of the bus is always looked at: the plan may have grown. A message of our own waits for its time.
        let ordered = event.get("detail-type").is_some();
        let span = info_span!("recheck", incident.id = %id);
        Box::pin(self.check(&id, if ordered { Cause::Order } else { Cause::Recheck }, None)).instrument(span).await
    }

    /// Looks at everything that is watched.
    async fn sweep(&self) -> Result<Answer, Failure> {
        let missing = self.look_at_own_parts().await?;
        let mut failed = Vec::new();
        if let Err(failure) = self.look_at_revocations(None).await {
            failed.push(format!("revocations: {failure}"));
        }
        let watched = self.ledger.watches().await?;
        let (unwatched, unread) = self.look_at_unwatched(&watched).await?;
        failed.extend(unread);
        for one in &watched {
            let span = info_span!("sweep", incident.id = %one.id);
            if let Err(failure) = Box::pin(self.check(&one.id, Cause::Sweep, None)).instrument(span).await {
                warn!(incident.id = %one.id, "the containment could not be looked at: {failure}");
                failed.push(format!("`{}`: {failure}", one.id));
            }
        }
        if failed.is_empty() {
            let mut said = vec![format!("{} containments looked at", watched.len())];
            said.extend(unwatched);
            said.push(if missing.is_empty() { "all parts are there".to_owned() } else { missing.join("; ") });
            return Ok(Answer::of("swept").saying(said.join("; ")));
        }
        Err(Failure::Transient(failed.join("; ")))
    }

    /// Looks at a containment and records what may be said of it.
    async fn check(&self, id: &IncidentId, cause: Cause, by: Option<(&Change, bool)>) -> Result<Answer, Failure> {
        let incident = match self.ledger.incident(id).await? {
            Some(incident) if incident.state == IncidentState::Ordered => incident,
            Some(incident) if incident.is_stranded(clock::now()) => {
                return Box::pin(self.look_at_stranded(&incident)).await;
            }
            // Whatever else it is, it is watched no longer.
            _ => {
                self.ledger.forget_watch(id).await?;
                return Ok(Answer::on("nothing to watch", id, &[]));
            }
        };
        let now = clock::now();
        if cause == Cause::Sweep && incident.is_unbegun(now) {
            self.record(Tamper::unbegun(&incident, now)).await?;
            return Ok(Answer::on("not carried out", id, &[]));
        }
        let mut watch = self.watch_over(&incident).await?;
        if cause == Cause::Recheck && !watch.is_due(now) {
            return Ok(Answer::on("not due", id, &[]));
        }
        let (look, made_again) = self.look(&incident, &watch, cause, now).await?;
        if let Some(identity) = made_again {
            self.record(call::recreated(&incident, &identity)).await?;
        }
        let (read, gone) = (watch.version, look.gone().next().is_some());
        // Between the reading of the incident and that of its steps a release may have begun: it is no tampering.
        if gone && !self.still(&incident).await? {
            return Ok(Answer::on("nothing to watch", id, &[]).saying("a release began"));
        }
        // A re-check's own message is used up, whether it counted or came a moment early.
        let used_up = matches!(cause, Cause::Order | Cause::Recheck);
        for _ in 0..16 {
            // While a containment is fought over, many look at once: what one saw is old when another saw more since.
            if watch.version != read && watch.updated_at > look.at && !gone {
                if let Some(due) = watch.next_check_at.filter(|_| used_up) {
                    self.call_again(id, due, now).await?;
                }
                return self.say(&incident, &look, &watch, by).await;
            }
            let next = watch.looked(&incident, &look, &self.pace);
            if let Some(due) = next.next_check_at.filter(|_| used_up || next.next_check_at != watch.next_check_at) {
                self.call_again(id, due, now).await?;
            }
            if self.ledger.keep_watch(&next).await? {
                let answer = self.say(&incident, &look, &next, by).await?;
                if used_up {
                    for tamper in self.hunted(&incident).await {
                        self.record(tamper).await?;
                    }
                }
                return Ok(answer);
            }
            watch = self.watch_over(&incident).await?;
        }
        Err(LedgerError::Contended(id.clone()).into())
    }

    /// Whether the incident is what it was when it was read; a release that goes on has written it anew.
    async fn still(&self, incident: &Incident) -> Result<bool, Failure> {
        let now = self.ledger.incident(&incident.incident_id).await?;
        let same = |now: &Incident| now.state == incident.state && now.episode == incident.episode;
        let goes_on = |now: &Incident| now.state == IncidentState::Releasing && now.updated_at != incident.updated_at;
        Ok(now.is_some_and(|now| same(&now) && !goes_on(&now)))
    }

    /// The watch over this episode; a new episode begins a new one.
    async fn watch_over(&self, incident: &Incident) -> Result<Watch, Failure> {
        let stored = match self.ledger.watch(&incident.incident_id).await {
            // A record that somebody edited must not blind the guard.
            Err(unreadable @ (LedgerError::Unreadable { .. } | LedgerError::OtherSchema { .. })) => {
                error!("the watch is begun anew: {}", chain(&unreadable));
                self.ledger.forget_watch(&incident.incident_id).await?;
                None
            }
            other => other?,
        };
        Ok(match stored {
            Some(watch) if watch.episode == incident.episode => watch,
            other => Watch {
                version: other.map_or(0, |before| before.version),
                ..Watch::of(incident, &self.pace, clock::now())
            },
        })
    }

    /// Has the next re-check come when it is due.
    async fn call_again(&self, id: &IncidentId, due: Timestamp, now: Timestamp) -> Result<(), Failure> {
        let seconds = (due.as_millisecond() - now.as_millisecond() + 999) / 1000;
        let delay = i32::try_from(seconds.clamp(0, LONGEST_DELAY)).unwrap_or(0);
        let message = json!({"detail": {"incident_id": id}}).to_string();
        let send = self.sqs.send_message().queue_url(&self.queue_url).delay_seconds(delay).message_body(message);
        send.send().await.map_err(|e| ActionError::of("sqs:SendMessage", &self.queue_url, e))?;
        Ok(())
    }

    /// Puts on record what was found, and who did it where CloudTrail told: `by` is the call, and whether its caller is
    /// contained.
    async fn say(
        &self,
        incident: &Incident,
        look: &Look,
        watch: &Watch,
        by: Option<(&Change, bool)>,
    ) -> Result<Answer, Failure> {
        let id = &incident.incident_id;
        let gone: Vec<(String, String)> = look.gone().map(|(step, says)| (step.to_owned(), says.to_owned())).collect();
        let told = by.and_then(|(change, contained)| self.undone_by(incident, change, contained));
        if gone.is_empty() {
            info!("the containment is {}", watch.standing);
            // It may be back already, or every endpoint not have heard yet: who did it is to be known all the same.
            if let Some(told) = told {
                self.record(told).await?;
            }
        } else {
            // By the action, not by the plan: a rung of the ladder does not stand there.
            let action = |key: &str| key.split('@').next().and_then(ActionId::from_name);
            let mut owners: Vec<FunctionName> =
                gone.iter().filter_map(|(step, _)| action(step)).map(ActionId::owner).collect();
            owners.sort();
            owners.dedup();
            let tamper = Tamper::undone(incident, gone, owners, look.at);
            self.record(with_the_call(tamper, told)).await?;
        }
        let found = watch.checks.last().map(|check| check.found.join("; ")).unwrap_or_default();
        let answer = Answer::on(watch.standing.as_str(), id, &[]);
        Ok(if found.is_empty() || watch.standing == Standing::Settled { answer } else { answer.saying(found) })
    }
}

#[cfg(test)]
mod tests;
