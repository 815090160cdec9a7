//! Undoing a containment: the revocation first, then exactly our own steps, in the safe order. And the
//! pause. What `release-containment` does, by direct invocation only.

mod backlog;
mod many;
mod recycle;
mod taken_back;
mod undo;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_lambda::primitives::Blob;
use firebreak_model::SCHEMA;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ids::{FunctionArn, IncidentId};
use firebreak_model::ledger::{Incident, IncidentState, Pause, ReleaseOrder, StepRecord, StepState};
use firebreak_model::plan::Step;
use firebreak_model::principal::PrincipalName;
use firebreak_model::request::{Asked, Release, Request};
use firebreak_model::trigger::{self, Trigger};
use serde_json::{Value, json};
use tracing::{Instrument, info, info_span, warn};

use crate::action::{ActionError, Permission, Resource};
use crate::answer::Answer;
use crate::clock;
use crate::config::Base;
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::revoke::longest_session;
use crate::telemetry::chain;
use undo::Reach;

/// What having the revocation written, and telling what has piled up, need.
pub const PERMISSIONS: &[Permission] = &[
    Permission { action: "lambda:InvokeFunction", on: Resource::RevokeFunction },
    Permission { action: "lambda:ListEventSourceMappings", on: Resource::Any },
    Permission { action: "sqs:GetQueueAttributes", on: Resource::Queue },
];

/// Everything that releasing needs.
#[derive(Debug)]
pub struct Releasing {
    /// The ledger.
    pub ledger: Ledger,
    /// The IAM client.
    pub iam: aws_sdk_iam::Client,
    /// The Lambda client of this Region, to call `revoke-sessions`.
    pub lambda: aws_sdk_lambda::Client,
    /// The configuration that Lambda clients of other Regions are built from.
    pub sdk: SdkConfig,
    /// Where it runs.
    pub base: Base,
    /// The deny policy.
    pub deny_policy_arn: String,
    /// `revoke-sessions`, where it is part of the stack.
    pub revoke_function: Option<String>,
    /// How long to wait between the revocation that was read back and the end of the deny.
    pub lead: Duration,
}

/// A release that is begun: what is on record of it, and what was said of the revocation.
struct Begun {
    incident: Incident,
    /// What the person who asked should know.
    told: String,
    /// Whether a revocation was written, which IAM takes its time to propagate.
    waits: bool,
}

impl Releasing {
    /// Handles one invocation.
    pub async fn handle(&self, payload: &Value, invocation: &str) -> Result<Answer, Failure> {
        match trigger::read(payload, &self.base.home) {
            Trigger::Request(request) => match *request {
                Request::Release(release, asked) => {
                    let span = info_span!("release", incident.id = %release.incident_id);
                    self.release(release, asked, invocation).instrument(span).await
                }
                Request::ReleaseSince(many, asked) => Box::pin(self.since(many, &asked, invocation)).await,
                Request::List => Box::pin(self.list()).await,
                Request::Pause(asked) => self.pause(asked, invocation).await,
                Request::Resume(asked) => self.resume(&asked).await,
                _ => Err(Failure::Malformed(
                    "only `release`, `list`, `pause` and `resume` go to this function".to_owned(),
                )),
            },
            Trigger::BadRequest(error) => Err(error.into()),
            Trigger::Findings(..) | Trigger::Malformed(_) => {
                Err(Failure::Refused("this function obeys direct invocations only, never an event".to_owned()))
            }
        }
    }

    async fn pause(&self, asked: Asked, invocation: &str) -> Result<Answer, Failure> {
        let pause = Pause {
            schema: SCHEMA,
            since: clock::now(),
            by: asked.by,
            reason: asked.reason,
            invocation: invocation.to_owned(),
        };
        let set = self.ledger.pause(&pause).await?;
        warn!("containment is paused: {}", pause.reason);
        let message = "findings now wait for a person; what is contained stays contained";
        Ok(Answer::of(if set { "paused" } else { "already paused" }).saying(message))
    }

    async fn resume(&self, asked: &Asked) -> Result<Answer, Failure> {
        let was = self.ledger.paused().await?;
        self.ledger.resume().await?;
        warn!("containment is resumed by `{}`: {}", asked.by, asked.reason);
        let message = "incidents that were opened meanwhile still wait for approval";
        Ok(Answer::of(if was.is_some() { "resumed" } else { "was not paused" }).saying(message))
    }

    async fn release(&self, release: Release, asked: Asked, invocation: &str) -> Result<Answer, Failure> {
        let begun = self.begin(&release, asked, invocation).await?;
        if begun.waits {
            info!("waiting {:?} for IAM to propagate the revocation", self.lead);
            tokio::time::sleep(self.lead).await;
        }
        self.complete(begun).await
    }

    /// The first half of a release: it is on record, and the sessions from before it are revoked.
    async fn begin(&self, release: &Release, asked: Asked, invocation: &str) -> Result<Begun, Failure> {
        let (incident, alone) = self.order(release, asked, invocation).await?;
        if incident.state == IncidentState::Released {
            let told = "nothing had been done, or it was undone before".to_owned();
            return Ok(Begun { incident, told, waits: false });
        }
        match self.revoke(&incident, release.without_revocation).await {
            Ok((told, waits)) => Ok(Begun { incident, told, waits }),
            Err(failure) if alone => Err(self.take_back(&incident, failure).await),
            Err(failure) => Err(failure),
        }
    }

    /// The second half: everything of ours is undone, what let live again gets fresh credentials, and it is on record.
    async fn complete(&self, begun: Begun) -> Result<Answer, Failure> {
        let Begun { incident, told, .. } = begun;
        let id = incident.incident_id.clone();
        if incident.state == IncidentState::Released {
            return Ok(Answer::on("released", &id, &[]).saying(told));
        }
        let piled_up = backlog::told(&self.sdk, &self.steps(&incident).await?.0).await;
        let shut = self.undo_patiently(&incident, Reach::WhileShut).await?;
        if shut.denies() {
            // What was let in now would fail, and be lost.
            return Err(incomplete(&incident, &shut.open_shown().unwrap_or_default()));
        }
        // Before anything is let in: the environments that are still warm have credentials from before.
        let notes = self.recycle(&incident).await?;
        let undone = self.undo_patiently(&incident, Reach::All).await?;
        if let Some(open) = undone.open_shown() {
            return Err(incomplete(&incident, &open));
        }
        if !undone.refused.is_empty() {
            let why: Vec<String> = undone.refused.iter().map(|error| chain(error)).collect();
            return Err(Failure::Refused(format!(
                "the release of `{id}` has undone every step whose record is ours, and is not complete: put back what \
                 the other records were, or delete what never was one, and ask for it again: {}",
                why.join("; ")
            )));
        }
        // What another function was in the middle of when the release began is on record by now.
        let undone = self.undo(&incident, Reach::All).await?;
        if !undone.refused.is_empty() || undone.open().next().is_some() {
            return Err(Failure::Transient(format!("a step of `{id}` was begun late: ask for the release again")));
        }
        let records = undone.records;
        let left: Vec<&StepRecord> = records.iter().filter(|r| r.state == StepState::LeftAlone).collect();
        let left_alone: Vec<String> = left.iter().map(|r| r.step.clone()).collect();
        self.finish(&incident, &left_alone).await?;
        let mut messages = vec![told];
        messages.extend(piled_up);
        messages
            .extend(left.iter().map(|r| format!("`{}` is not all ours any more, and left so: {}", r.step, r.detail)));
        messages.extend(notes);
        messages.extend(not_recycled(&incident));
        Ok(Answer::on("released", &id, &records).saying(messages.join("; ")))
    }

    /// Puts the release on record; one that was begun before goes on. Answers besides whether nobody else can be at it.
    async fn order(&self, release: &Release, asked: Asked, invocation: &str) -> Result<(Incident, bool), Failure> {
        let id = &release.incident_id;
        if release.without_revocation && self.revoke_function.is_some() && !self.outlived(id).await? {
            let text = "sessions from before the containment may still be alive, and this stack can revoke them: \
                        `without_revocation` is for later, or for stacks that leave `revoke-sessions` out";
            return Err(Failure::Refused(text.to_owned()));
        }
        if self.revoke_function.is_none() && !release.without_revocation {
            let text = "this stack leaves `revoke-sessions` out, so that stolen sessions would wake up again: wait \
                        until the role's longest session has ended, then say `without_revocation`";
            return Err(Failure::Refused(text.to_owned()));
        }
        let begun = self.begun_while_waiting(id).await?;
        let now = clock::now();
        let order = ReleaseOrder {
            at: now,
            by: asked.by,
            reason: asked.reason,
            invocation: invocation.to_owned(),
            reactivate_keys: release.reactivate_keys.clone(),
            left_alone: Vec::new(),
            from: None,
        };
        let mut alone = true;
        let change = |mut incident: Incident| {
            alone = taken_back::is_alone(&incident, now);
            match incident.state {
                IncidentState::Released => return Ok::<_, Failure>(None),
                IncidentState::Releasing => {
                    // A second call may name further keys; the time of the first stands.
                    let Some(running) = incident.release.as_mut() else { return Ok(None) };
                    let more: Vec<_> = order
                        .reactivate_keys
                        .iter()
                        .filter(|key| !running.reactivate_keys.contains(key))
                        .cloned()
                        .collect();
                    // Written whether there are any or not: whoever began it knows by that that it is not alone any more.
                    running.reactivate_keys.extend(more);
                }
                IncidentState::AwaitingApproval if !begun => {
                    incident.state = IncidentState::Released;
                    incident.release = Some(order.clone());
                }
                // Other functions may have begun before a guard rail came down.
                IncidentState::Ordered | IncidentState::Withheld | IncidentState::AwaitingApproval => {
                    incident.release = Some(ReleaseOrder { from: Some(incident.state), ..order.clone() });
                    incident.state = IncidentState::Releasing;
                    incident.stopped = None;
                }
            }
            incident.updated_at = now;
            Ok(Some(incident))
        };
        let incident = self.ledger.update(id, change).await?;
        let incident = incident.ok_or_else(|| Failure::Refused(format!("there is no incident `{id}`")))?;
        Ok((incident, alone))
    }

    /// Whether something was done for an incident that waits for a person: it may have been in force for a moment, until it
    /// was known that others share the role.
    async fn begun_while_waiting(&self, id: &IncidentId) -> Result<bool, Failure> {
        let waiting = self.ledger.incident(id).await?.filter(|i| i.state == IncidentState::AwaitingApproval);
        let Some(incident) = waiting else { return Ok(false) };
        let mut owners = incident.plan.owners();
        owners.remove(&FunctionName::SnapshotLogs);
        Ok(!self.ledger.steps(&incident, owners).await?.is_empty())
    }

    /// Whether the containment has lasted longer than any session: then nothing is left to revoke.
    async fn outlived(&self, id: &IncidentId) -> Result<bool, Failure> {
        let incident = self.ledger.incident(id).await?;
        let over = |incident: Incident| {
            let since = clock::now().duration_since(incident.ordered_since());
            incident.ordered_at.is_some() && since > longest_session(&incident.principal.name)
        };
        Ok(incident.is_some_and(over))
    }

    /// Has `revoke-sessions` kill the sessions issued before the release, and believes the ledger, not the answer.
    async fn revoke(&self, incident: &Incident, without: bool) -> Result<(String, bool), Failure> {
        // What `revoke-sessions` has written into the role, it alone takes out.
        let wrote = |step: &Step| step.action == ActionId::QuarantineFunction;
        let needed = !without || incident.plan.steps.iter().any(wrote);
        let Some(function) = self.revoke_function.as_ref().filter(|_| needed) else {
            return Ok(("no revocation was left in place, as asked".to_owned(), false));
        };
        let Some(release) = &incident.release else {
            return Err(Failure::Permanent(format!("incident `{}` holds no release", incident.incident_id)));
        };
        let payload = json!({
            "firebreak": "revoke",
            "incident_id": incident.incident_id,
            "requested_by": "release-containment",
            "reason": "the stolen sessions must stay dead when the deny is lifted",
        });
        let answer = self
            .lambda
            .invoke()
            .function_name(function)
            .payload(Blob::new(payload.to_string()))
            .send()
            .await
            .map_err(|e| ActionError::of("lambda:InvokeFunction", function, e))?;
        if answer.function_error.is_some() {
            let said = answer.payload.map(|p| String::from_utf8_lossy(p.as_ref()).into_owned()).unwrap_or_default();
            let said = firebreak_model::ids::shown(&said);
            return Err(Failure::Transient(format!(
                "the release stops before anything is undone: the revocation failed: {said}"
            )));
        }
        let step = Step { action: ActionId::RevokeSessions, target: (&incident.principal.name).into() };
        let record = self.ledger.step(&incident.step_record(&step, clock::now())).await?;
        // A principal that is gone, or another by now, has no sessions that could wake up.
        let in_force = record.is_some_and(|r| match r.state {
            StepState::Applied => r.verified_at.is_some_and(|at| at >= release.at),
            StepState::Gone | StepState::Withheld => r.updated_at >= release.at,
            _ => false,
        });
        if !in_force {
            let text = "the release stops before anything is undone: the ledger does not show the revocation in force";
            return Err(Failure::Transient(text.to_owned()));
        }
        info!("sessions issued before {} are revoked", release.at);
        Ok((format!("sessions issued before {} stay revoked", release.at), true))
    }

    async fn finish(&self, incident: &Incident, left_alone: &[String]) -> Result<(), Failure> {
        let change = |mut now: Incident| {
            if now.state != IncidentState::Releasing || now.episode != incident.episode {
                return Ok::<_, Failure>(None);
            }
            now.state = IncidentState::Released;
            now.updated_at = clock::now();
            if let Some(release) = now.release.as_mut() {
                release.left_alone = left_alone.to_vec();
            }
            Ok(Some(now))
        };
        self.ledger.update(&incident.incident_id, change).await?;
        Ok(())
    }
}

fn incomplete(incident: &Incident, open: &str) -> Failure {
    let id = &incident.incident_id;
    Failure::Transient(format!("the release of `{id}` is not complete; ask for it again to go on: {open}"))
}

/// Which functions may still hold credentials from before the release, as far as is known.
fn not_recycled(incident: &Incident) -> Option<String> {
    const UNTIL: &str = "until they are replaced, within hours or by any update of its configuration";
    if !matches!(incident.principal.name, PrincipalName::Role(_)) {
        return None;
    }
    let Some((others, unnamed)) = incident.others() else {
        let none = incident.functions.is_empty();
        return none.then(|| {
            format!(
                "no function is known to run as the role, and the inventory has no record of it: one that does fails on \
                 its warm environments {UNTIL}"
            )
        });
    };
    let functions: Vec<&str> = others.into_iter().filter(|user| user.parse::<FunctionArn>().is_ok()).collect();
    let more = if unnamed == 0 { String::new() } else { format!(", and {unnamed} more users of the role") };
    (!functions.is_empty() || unnamed > 0).then(|| {
        format!(
            "a function that shared the role fails on its warm environments {UNTIL}: {}{more}",
            functions.join(", ")
        )
    })
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ids::Partition;
    use firebreak_model::ledger::Record;
    use firebreak_model::principal::Home;
    use firebreak_model::usage::Usage;

    use super::*;
    use crate::evidence::testing::item;
    use crate::ledger::Seal;
    use crate::testing::{Odd, Wire, ok, role_order};

    pub(crate) fn releasing(wire: &Wire, revoke_function: Option<&str>) -> Releasing {
        let sdk = wire.config();
        Releasing {
            ledger: Ledger::new(aws_sdk_dynamodb::Client::new(&sdk), "ledger".to_owned(), Seal::none()),
            iam: aws_sdk_iam::Client::new(&sdk),
            lambda: aws_sdk_lambda::Client::new(&sdk),
            base: Base {
                home: Home { partition: Partition::Aws, account: "111122223333".parse().unwrap() },
                stack: "firebreak".to_owned(),
            },
            deny_policy_arn: "arn:aws:iam::111122223333:policy/deny".to_owned(),
            revoke_function: revoke_function.map(str::to_owned),
            lead: Duration::ZERO,
            sdk,
        }
    }

    pub(super) fn request(incident: &Incident, without_revocation: bool) -> Value {
        json!({"firebreak": "release", "incident_id": incident.incident_id, "reason": "over", "requested_by": "ana",
               "without_revocation": without_revocation})
    }

    #[tokio::test]
    async fn a_revocation_that_the_ledger_does_not_show_stops_the_release() {
        let (incident, _) = role_order("orders");
        let stored = item(&Record::Incident(Box::new(incident.clone())));
        // The function answers well, and has recorded nothing.
        let answer = ok(r#"{"outcome": "revoked"}"#);
        let none = crate::evidence::testing::items(&[]);
        let wire = Wire::answering([stored.clone(), stored.clone(), ok("{}"), answer, ok("{}"), none, stored]);
        let failure = releasing(&wire, Some("revoke")).handle(&request(&incident, false), "i").await.unwrap_err();
        assert!(
            matches!(&failure, Failure::Transient(text) if text.contains("before anything is undone")),
            "{failure}"
        );
        assert!(!wire.requests().iter().any(|r| r.contains("Detach")), "{:?}", wire.requests());
        assert_eq!(wire.unused(), 0);
    }

    #[tokio::test]
    async fn what_was_begun_for_an_incident_that_only_waited_is_undone_too() {
        use crate::evidence::testing::items;
        let (ordered, step) = role_order("orders");
        let applied = StepRecord { state: StepState::Applied, ..ordered.step_record(&step, ordered.opened_at) };
        let waiting = Incident { state: IncidentState::AwaitingApproval, ordered_at: None, ..ordered };
        let stored = item(&Record::Incident(Box::new(waiting.clone())));
        for (begun, state) in [(vec![Record::Step(Box::new(applied))], "releasing"), (vec![], "released")] {
            let wire = Wire::answering([stored.clone(), items(&begun), stored.clone(), ok("{}")]);
            let end = releasing(&wire, Some("revoke")).handle(&request(&waiting, false), "i").await;
            assert_eq!(end.is_ok(), begun.is_empty(), "{end:?}");
            let put = wire.requests().into_iter().find(|request| request.contains(".PutItem")).unwrap();
            assert!(put.contains(&format!(r#""state":{{"S":"{state}"}}"#)), "{put}");
        }
    }

    #[tokio::test]
    async fn an_answer_of_no_use_ends_a_release_that_is_not_complete() {
        use crate::evidence::testing::items;
        let (ordered, step) = role_order("orders");
        let long_ago = clock::now() - jiff::SignedDuration::from_hours(24);
        let ordered = Incident { ordered_at: Some(long_ago), state: IncidentState::Ordered, ..ordered };
        let applied = StepRecord { state: StepState::Applied, ..ordered.step_record(&step, long_ago) };
        for odd in Odd::ALL {
            let stored = item(&Record::Incident(Box::new(ordered.clone())));
            let steps = items(&[Record::Step(Box::new(applied.clone()))]);
            let ledger = Wire::odd(Odd::Hollow, [(".GetItem", stored), (".Query", steps)]);
            let aws = Wire::odd(odd, [] as [(&str, _); 0]);
            let of_aws = releasing(&aws, None);
            // With and without the function that revokes: what it answers is not believed, and the ledger shows nothing.
            for revokes in [None, Some("revoke".to_owned())] {
                let releasing = Releasing {
                    ledger: releasing(&ledger, None).ledger,
                    iam: of_aws.iam.clone(),
                    lambda: of_aws.lambda.clone(),
                    sdk: of_aws.sdk.clone(),
                    revoke_function: revokes.clone(),
                    ..releasing(&ledger, None)
                };
                let failure = releasing.handle(&request(&ordered, revokes.is_none()), "i").await.unwrap_err();
                let ended = ledger
                    .requests()
                    .iter()
                    .any(|r| r.contains(r#""state":{"S":"released"}"#) || r.contains(r#""state":{"S":"reverted"}"#));
                assert!(!ended, "{odd:?}, {revokes:?}: {failure}; {:?}", ledger.requests());
            }
            assert!((1..10).contains(&aws.requests().len()), "{odd:?}: {:?}", aws.requests());
        }
    }

    #[test]
    fn whoever_is_not_given_fresh_credentials_is_named() {
        let (incident, _) = role_order("orders");
        assert!(not_recycled(&incident).unwrap().contains("no function is known to run as the role"));
        let arn = |name: &str| format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}");
        let known = |names: &[&str], count| Usage {
            users: names.iter().map(|name| arn(name)).collect(),
            count,
            scanned_at: incident.opened_at,
            unread: Vec::new(),
        };
        let of = |usage| Incident {
            functions: vec![arn("orders").parse().unwrap()],
            usage: Some(usage),
            ..incident.clone()
        };
        assert_eq!(not_recycled(&of(known(&["orders"], 1))), None);
        let told = not_recycled(&of(known(&["invoices", "orders"], 9))).unwrap();
        assert!(told.contains(&arn("invoices")) && !told.contains(&arn("orders")), "{told}");
        assert!(told.ends_with(", and 7 more users of the role"), "{told}");
    }

    #[tokio::test]
    async fn a_stack_without_revocation_asks_for_the_word_and_an_event_is_never_obeyed() {
        let (incident, _) = role_order("orders");
        let wire = Wire::answering([]);
        let failure = releasing(&wire, None).handle(&request(&incident, false), "i").await.unwrap_err();
        assert!(matches!(&failure, Failure::Refused(text) if text.contains("`without_revocation`")), "{failure}");
        let event = json!({"detail-type": "Release Started", "source": "firebreak", "account": "111122223333",
                           "firebreak": "release", "detail": {"incident_id": incident.incident_id}});
        let failure = releasing(&wire, None).handle(&event, "i").await.unwrap_err();
        assert!(matches!(failure, Failure::Refused(_)), "{failure}");
        assert!(wire.requests().is_empty());
    }
}
