//! The stage of one scenario: what it plays with, what it tells, what it checks.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_sqs::types::QueueAttributeName;
use firebreak_model::action::FunctionName;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{IncidentState, StepState};
use jiff::Timestamp;
use serde_json::Value;

use crate::adversary::score::Score;
use crate::aws::Aws;
use crate::check::{Check, equal, judged};
use crate::deploy::Stack;
use crate::findings::securityhub::SecurityHubEvent;
use crate::ledger::{self, Book};
use crate::narrator::{Line, Narrator, Tone, Voice};
use crate::pages::{Inbox, Page};
use crate::scene::random_hex;
use crate::thief::{Call, Outcome, Thief};
use crate::world::World;

/// The most that anything here waits for something to happen.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How long nothing may happen where nothing may happen.
const QUIET: Duration = Duration::from_millis(1500);

/// Between two looks at the ledger.
const PACE: Duration = Duration::from_millis(40);

/// What a function answered to an invocation.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The answer, or the error's object.
    pub payload: Value,
    /// Whether it is an error.
    pub failed: bool,
}

impl Answered {
    /// A text of the answer.
    pub fn text(&self, name: &str) -> &str {
        self.payload.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The stage.
#[derive(Debug)]
pub struct Stage {
    /// AWS, as its operator.
    pub aws: Aws,
    /// The stack that is played against.
    pub stack: Stack,
    /// The suffix of every name of the scene.
    pub suffix: String,
    /// Every page that has arrived since the scenario began.
    pub pages: Vec<Page>,
    narrator: Narrator,
    inbox: Inbox,
    checks: Vec<Check>,
    scores: Vec<Score>,
    measures: BTreeMap<String, i64>,
    told: BTreeMap<String, String>,
}

impl Stage {
    /// Opens the stage: what the ledger and the inbox hold so far is history, and what was contained in this hour
    /// does not count towards the circuit breaker.
    ///
    /// # Errors
    /// Where they cannot be read, or the breaker's counter cannot be deleted.
    pub async fn open(aws: Aws, stack: Stack, inbox: Inbox, voice: Voice) -> Result<Self> {
        ledger::close_breaker(&aws, &stack).await?;
        let book = Book::read(&aws, &stack).await?;
        inbox.take(&aws).await?;
        let told = happenings(&book).into_iter().map(|h| (h.thing, h.state)).collect();
        Ok(Self {
            aws,
            stack,
            suffix: random_hex(6),
            pages: Vec::new(),
            narrator: Narrator::begin(voice),
            inbox,
            checks: Vec::new(),
            scores: Vec::new(),
            measures: BTreeMap::new(),
            told,
        })
    }

    /// Everything that was found and told.
    pub fn close(self) -> (Vec<Check>, Vec<Score>, BTreeMap<String, i64>, Vec<Line>) {
        (self.checks, self.scores, self.measures, self.narrator.into_lines())
    }

    /// Records what an adversary achieved.
    pub fn score(&mut self, score: Score) {
        self.scores.push(score);
    }

    /// Tells something that happens now.
    pub fn tell(&mut self, who: &str, tone: Tone, what: &str) {
        self.narrator.tell(who, tone, what);
    }

    /// Records a check.
    pub fn check(&mut self, check: Check) {
        let (tone, text) = if check.held {
            (Tone::Good, format!("holds: {} ({})", check.name, check.found))
        } else {
            (Tone::Bad, format!("DOES NOT HOLD: {}: expected {}, found {}", check.name, check.expected, check.found))
        };
        self.narrator.tell("check", tone, &text);
        self.checks.push(check);
    }

    /// Records a time of note.
    pub fn measure(&mut self, name: &str, from: Timestamp, to: Timestamp) {
        let ms = i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX);
        self.measures.insert(name.to_owned(), ms);
    }

    /// Sends a drill finding of GuardDuty over the default bus; answers when.
    ///
    /// # Errors
    /// Where EventBridge does not take it.
    pub async fn send_finding(&mut self, detail: &Value) -> Result<Timestamp> {
        let kind = detail.get("type").and_then(Value::as_str).unwrap_or("?");
        self.tell("GuardDuty (drill)", Tone::Plain, &format!("finding `{kind}`"));
        self.send("GuardDuty Finding", &[], detail).await
    }

    /// Sends a drill finding of Security Hub over the default bus; answers when.
    ///
    /// # Errors
    /// Where EventBridge does not take it.
    pub async fn send_from_security_hub(&mut self, event: &SecurityHubEvent) -> Result<Timestamp> {
        self.tell("Security Hub (drill)", Tone::Plain, &format!("`{}`, {}", event.detail_type, event.shown()));
        self.send(event.detail_type, &event.resources, &event.detail).await
    }

    async fn send(&mut self, detail_type: &str, resources: &[String], detail: &Value) -> Result<Timestamp> {
        let entry = PutEventsRequestEntry::builder()
            .source("firebreak.drill")
            .detail_type(detail_type)
            .set_resources(Some(resources.to_vec()))
            .detail(detail.to_string());
        let at = firebreak_shared::clock::now();
        let answer = self.aws.events.put_events().entries(entry.build()).send().await?;
        if answer.failed_entry_count() != 0 {
            bail!("EventBridge does not take the finding: {:?}", answer.entries());
        }
        Ok(at)
    }

    /// Invokes one of Firebreak's functions directly, as a person or a runbook does.
    ///
    /// # Errors
    /// Where it cannot be invoked; not where it refuses.
    pub async fn invoke(&mut self, function: FunctionName, request: &Value) -> Result<Answered> {
        let what = request.get("firebreak").and_then(Value::as_str).unwrap_or("?");
        let reason = request.get("reason").and_then(Value::as_str).unwrap_or_default();
        self.tell("a person", Tone::Plain, &format!("invokes {function}: {what} (\"{reason}\")"));
        let invoke = self.aws.lambda.invoke().function_name(self.stack.function(function));
        let mut invocation = pin!(invoke.payload(Blob::new(request.to_string())).send());
        // What it does shows in the ledger before it answers.
        let answer = loop {
            tokio::select! {
                answer = &mut invocation => break answer?,
                () = tokio::time::sleep(PACE) => self.look().await?,
            };
        };
        let bytes = answer.payload().map(|p| p.as_ref().to_vec()).unwrap_or_default();
        let payload: Value = serde_json::from_slice(&bytes).context("the answer is no JSON")?;
        let answered = Answered { payload, failed: answer.function_error().is_some() };
        let (tone, said) = if answered.failed {
            (Tone::Bad, format!("{}: {}", answered.text("errorType"), answered.text("errorMessage")))
        } else {
            (Tone::Good, format!("answers: {}. {}", answered.text("outcome"), answered.text("message")))
        };
        self.tell(function.as_str(), tone, &said);
        Ok(answered)
    }

    /// Reads the ledger and the inbox, and tells what is new.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub async fn look(&mut self) -> Result<Book> {
        let book = Book::read(&self.aws, &self.stack).await?;
        let mut happened = happenings(&book);
        happened.retain(|h| self.told.get(&h.thing) != Some(&h.state));
        happened.sort_by_key(|h| h.at);
        for happening in happened {
            self.narrator.hold(happening.at, &happening.who, happening.tone, &happening.state);
            self.told.insert(happening.thing, happening.state);
        }
        for page in self.inbox.take(&self.aws).await? {
            let now = firebreak_shared::clock::now();
            self.narrator.hold(now, "the responder", Tone::Plain, &format!("is paged: {}", page.subject));
            self.pages.push(page);
        }
        self.narrator.tell_held();
        Ok(book)
    }

    /// Waits until the ledger shows something. Where it does not in time, that is a check that does not hold.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Book, &[Page]) -> bool) -> Result<Book> {
        let start = Instant::now();
        let mut told = false;
        loop {
            let book = self.look().await?;
            if done(&book, &self.pages) {
                return Ok(book);
            }
            if start.elapsed() > PATIENCE {
                self.check(judged(what, &format!("within {PATIENCE:?}"), "not in time", false));
                return Ok(book);
            }
            if start.elapsed() > Duration::from_secs(2) && !told {
                told = true;
                self.tell("", Tone::Dim, &format!("waiting: {what}, at most {PATIENCE:?}"));
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Gives anything that should not happen the time to happen.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub async fn stay_quiet(&mut self) -> Result<Book> {
        self.tell("", Tone::Dim, &format!("giving whatever must not happen {QUIET:?} to happen"));
        let start = Instant::now();
        loop {
            let book = self.look().await?;
            if start.elapsed() > QUIET {
                return Ok(book);
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Every call of the thief goes through.
    pub async fn thief_works(&mut self, thief: &Thief) {
        let mut failed = Vec::new();
        for &call in thief.calls {
            let outcome = thief.attempt(call).await;
            self.tell(&thief.name, Tone::Bad, &format!("{} {}", call.action(), outcome.shown()));
            if outcome != Outcome::Succeeded {
                failed.push(format!("{} {}", call.action(), outcome.shown()));
            }
        }
        let name = format!("{} can work", thief.name);
        self.check(judged(&name, "every call succeeds", some_or(&failed, "every call succeeds"), failed.is_empty()));
    }

    /// Waits until every call of the thief is refused for the right reason; answers when the last one was.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub async fn thief_is_stopped(&mut self, thief: &Thief, sent: Timestamp) -> Result<()> {
        let start = Instant::now();
        let mut open: Vec<(Call, Outcome)> = thief.calls.iter().map(|call| (*call, Outcome::Succeeded)).collect();
        while !open.is_empty() && start.elapsed() < PATIENCE {
            let mut still = Vec::new();
            for (call, _) in open {
                let outcome = thief.attempt(call).await;
                if outcome.is_stopped() {
                    let now = firebreak_shared::clock::now();
                    if !self.measures.contains_key("finding to first refusal") {
                        self.measure("finding to first refusal", sent, now);
                    }
                    self.measure("finding to last refusal", sent, now);
                    let text = format!("{} {}", call.action(), outcome.shown());
                    self.narrator.hold(now, &thief.name, Tone::Good, &text);
                } else {
                    still.push((call, outcome));
                }
            }
            open = still;
            self.look().await?;
        }
        let left: Vec<String> = open.iter().map(|(call, o)| format!("{} {}", call.action(), o.shown())).collect();
        let name = format!("{} is stopped", thief.name);
        self.check(judged(&name, "every call refused", some_or(&left, "every call refused"), left.is_empty()));
        Ok(())
    }

    /// Every call of the thief is refused at once.
    pub async fn thief_stays_out(&mut self, thief: &Thief, when: &str) {
        let mut through = Vec::new();
        for &call in thief.calls {
            let outcome = thief.attempt(call).await;
            if !outcome.is_stopped() {
                through.push(format!("{} {}", call.action(), outcome.shown()));
            }
        }
        let name = format!("{} stays out {when}", thief.name);
        self.check(judged(&name, "every call refused", some_or(&through, "every call refused"), through.is_empty()));
    }

    /// Nothing of IAM or Lambda is different from `before`, but for what `but_for` names.
    ///
    /// # Errors
    /// Where AWS does not answer.
    pub async fn world_is(&mut self, name: &str, before: &World, but_for: &[String]) -> Result<()> {
        let after = World::look(&self.aws).await?;
        let mut found = before.changes(&after);
        found.sort();
        let mut expected = but_for.to_vec();
        expected.sort();
        let held = found == expected;
        let expected = some_or(&expected, "nothing is different");
        self.check(judged(name, &expected, some_or(&found, "nothing is different"), held));
        Ok(())
    }

    /// No function has failed and no event was undeliverable since the stack was created.
    ///
    /// # Errors
    /// Where the queues cannot be read.
    pub async fn nothing_failed(&mut self) -> Result<()> {
        let mut found = Vec::new();
        for (output, what) in [("FunctionFailuresUrl", "failed invocations"), ("DeliveryFailuresUrl", "lost events")] {
            let url = self.stack.output(output)?;
            let count = QueueAttributeName::ApproximateNumberOfMessages;
            let answer = self.aws.sqs.get_queue_attributes().queue_url(url).attribute_names(count.clone());
            let answer = answer.send().await?;
            let number = answer.attributes().and_then(|all| all.get(&count)).map_or("?", String::as_str);
            if number != "0" {
                found.push(format!("{number} {what}: {}", self.lying_in(url).await?));
            }
        }
        self.check(judged("both failure queues are empty", "empty", some_or(&found, "empty"), found.is_empty()));
        Ok(())
    }

    /// What some messages of a queue say, for whoever looks why they lie there.
    async fn lying_in(&self, url: &str) -> Result<String> {
        let answer = self.aws.sqs.receive_message().queue_url(url).max_number_of_messages(10).visibility_timeout(0);
        let answer = answer.send().await?;
        let bodies = answer.messages().iter().filter_map(|message| message.body());
        Ok(bodies.map(|body| body.chars().take(1_500).collect::<String>()).collect::<Vec<_>>().join("; "))
    }

    /// Waits until every step of the incident's plan is verified.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub async fn until_contained(&mut self, id: &IncidentId) -> Result<Book> {
        let book = self
            .until("every step of the plan is on record", |book, _| {
                let Some(incident) = book.incident(id) else { return false };
                let steps = book.steps_of(id);
                let is_recorded = |key: String| steps.iter().any(|step| step.step == key);
                incident.plan.steps.iter().all(|step| is_recorded(step.key()))
                    && steps.iter().all(|step| step.state != StepState::Intended)
            })
            .await?;
        let state = book.incident(id).map_or("none", |incident| incident.state.as_str());
        self.check(equal("the incident's state", "ordered", state));
        for step in book.steps_of(id) {
            let name = format!("step {}", short(&step.step));
            let verified = step.verified_at.is_some() && step.state == StepState::Applied;
            let found = if verified { "applied and read back" } else { &format!("{}: {}", step.state, step.detail) };
            self.check(judged(&name, "applied and read back", found, verified));
        }
        Ok(book)
    }
}

fn some_or(items: &[String], none: &str) -> String {
    if items.is_empty() { none.to_owned() } else { items.join("; ") }
}

/// A state of a thing, to be told once.
struct Happening {
    thing: String,
    state: String,
    at: Timestamp,
    who: String,
    tone: Tone,
}

/// What the ledger says has happened.
fn happenings(book: &Book) -> Vec<Happening> {
    let mut all = Vec::new();
    let decider = FunctionName::QuarantinePrincipal.as_str();
    let releaser = FunctionName::ReleaseContainment.as_str();
    for finding in &book.findings {
        all.push(Happening {
            thing: format!("finding {}", finding.finding_key),
            state: format!("decides {}, does {}: {}", finding.decision, finding.effective, finding.reason),
            at: finding.received_at,
            who: decider.to_owned(),
            tone: Tone::Plain,
        });
    }
    for incident in &book.incidents {
        let by_release = matches!(incident.state, IncidentState::Releasing | IncidentState::Released);
        let reason = if by_release { String::new() } else { after_colon(&incident.reason) };
        all.push(Happening {
            thing: format!("incident {}", incident.incident_id),
            state: format!(
                "incident {} on {} is {}{reason}",
                incident.incident_id, incident.principal.name, incident.state
            ),
            at: incident.updated_at,
            who: if by_release { releaser } else { decider }.to_owned(),
            tone: Tone::Plain,
        });
    }
    for step in &book.steps {
        let (who, tone) = match step.state {
            StepState::Applied => (step.owner.as_str(), Tone::Good),
            StepState::Reverted => (releaser, Tone::Good),
            StepState::Intended | StepState::Gone => (step.owner.as_str(), Tone::Dim),
            StepState::Failed | StepState::Withheld | StepState::LeftAlone => (step.owner.as_str(), Tone::Bad),
        };
        all.push(Happening {
            thing: format!("step {} {} {}", step.incident_id, step.episode, step.step),
            state: format!("{} is {}{}", short(&step.step), step.state, after_colon(&step.detail)),
            at: step.updated_at,
            who: who.to_owned(),
            tone,
        });
    }
    if let Some(pause) = &book.pause {
        all.push(Happening {
            thing: format!("pause {}", pause.since),
            state: format!("new containments are paused by {}: {}", pause.by, pause.reason),
            at: pause.since,
            who: releaser.to_owned(),
            tone: Tone::Plain,
        });
    }
    for revocation in &book.revocations {
        all.push(Happening {
            thing: format!("revocation {} {}", revocation.incident_id, revocation.principal.name),
            state: format!("the revocation of {} stays until {}", revocation.principal.name, revocation.ends_at),
            at: firebreak_shared::clock::now(),
            who: FunctionName::RevokeSessions.as_str().to_owned(),
            tone: Tone::Plain,
        });
    }
    all
}

/// A text that follows another, where there is one.
fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// A step's key with the function's name in place of its ARN.
fn short(step: &str) -> String {
    match step.split_once("@arn:") {
        Some((action, arn)) => format!("{action}@function/{}", arn.rsplit(':').next().unwrap_or_default()),
        None => step.to_owned(),
    }
}
