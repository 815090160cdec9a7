//! Stopping compromised functions, or replacing their warm environments. What `isolate-function` does.
//!
//! It takes an incident id from an event and believes nothing else of it: the plan comes from the ledger. The order
//! to isolate comes at once; the order to recycle comes through a queue that delays it until the revocation has
//! passed.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ids::{FunctionArn, IncidentId};
use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::outcome;
use firebreak_model::plan::{Step, Target};
use firebreak_model::policy::REVOCATION_AHEAD_SECONDS;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::{Instrument, info_span};

use crate::answer::Answer;
use crate::executor::{self, Executed};
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::queue::{self, Batch, Handled, Next};
use crate::{actions, clients, clock};

/// Everything that isolating needs.
#[derive(Debug)]
pub struct Isolation {
    /// The ledger.
    pub ledger: Ledger,
    /// The configuration that Lambda clients of the functions' Regions are built from.
    pub sdk: SdkConfig,
    /// The stack's name, which Firebreak's own functions begin with.
    pub stack: String,
}

/// Which of the function's steps an order is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Isolate,
    Recycle,
}

impl Part {
    fn holds(self, action: ActionId) -> bool {
        (action == ActionId::RecycleEnvironments) == (self == Self::Recycle)
    }

    fn done(self) -> &'static str {
        match self {
            Self::Isolate => "isolated",
            Self::Recycle => "recycled",
        }
    }
}

impl Isolation {
    /// Handles one invocation: an outcome event, or messages of the queue that hold such events.
    pub async fn handle(&self, payload: &Value) -> Result<Handled, Failure> {
        if queue::is_batch(payload) {
            let mut batch = Batch::of(payload)?;
            for (id, event) in batch.events() {
                let end = match event {
                    Ok(event) => self.on_event(&event, Part::Recycle).await.map(|_| Next::Done),
                    Err(failure) => Err(failure),
                };
                batch.ended(id, end)?;
            }
            return Ok(batch.answer());
        }
        self.on_event(payload, Part::Isolate).await.map(Handled::Order)
    }

    async fn on_event(&self, event: &Value, part: Part) -> Result<Answer, Failure> {
        let id = outcome::incident_id(event)
            .ok_or_else(|| Failure::Malformed("the event carries no incident id".to_owned()))?;
        let span = info_span!("isolate", incident.id = %id);
        self.on_order(&id, part).instrument(span).await
    }

    async fn on_order(&self, id: &IncidentId, part: Part) -> Result<Answer, Failure> {
        let Some(incident) = self.ledger.incident(id).await? else {
            return Err(Failure::Malformed(format!("the event names incident `{id}`, which the ledger does not hold")));
        };
        if !incident.is_in_force() {
            return Ok(Answer::on("nothing to do", id, &[]).saying(incident.not_in_force()));
        }
        if part == Part::Recycle {
            self.revoked_long_enough(&incident).await?;
        }
        let mut by_function: BTreeMap<&FunctionArn, Vec<&Step>> = BTreeMap::new();
        for step in incident.plan.owned_by(FunctionName::IsolateFunction).filter(|step| part.holds(step.action)) {
            if let Target::Function(function) = &step.target {
                by_function.entry(function).or_default().push(step);
            }
        }
        let on_each = by_function.into_iter().map(|(function, steps)| self.carry_out(&incident, function, steps));
        conclude(id, part, join_all(on_each).await.into_iter().flatten().collect())
    }

    /// Recycling waits for the revocation that was really written: an environment that starts before its time has come
    /// is revoked with the thief's session.
    async fn revoked_long_enough(&self, incident: &Incident) -> Result<(), Failure> {
        let Some(step) = incident.plan.owned_by(FunctionName::RevokeSessions).next() else { return Ok(()) };
        let record = self.ledger.step(&incident.step_record(step, clock::now())).await?;
        let verified = record.filter(|r| r.state == StepState::Applied).and_then(|r| r.verified_at);
        let passed =
            |at: Timestamp| clock::now().duration_since(at) > SignedDuration::from_secs(REVOCATION_AHEAD_SECONDS);
        if verified.is_some_and(passed) {
            return Ok(());
        }
        Err(Failure::Transient("the revocation is not in force for long enough yet: recycling waits".to_owned()))
    }

    /// Carries out the steps on one function, one after the other: Lambda refuses two changes of a function at once.
    async fn carry_out(
        &self,
        incident: &Incident,
        function: &FunctionArn,
        mut steps: Vec<&Step>,
    ) -> Vec<Result<Executed, Failure>> {
        // The harm first: nothing is invoked any more.
        steps.sort_by_key(|step| step.action != ActionId::ZeroConcurrency);
        let lambda = clients::lambda_in(&self.sdk, function.region());
        let mut ends = Vec::new();
        for step in steps {
            ends.push(match actions::for_function(step.action, &lambda, &self.stack) {
                Some(action) => {
                    executor::execute(&self.ledger, incident, step, action.as_ref()).await.map_err(Failure::from)
                }
                None => Err(Failure::Permanent(format!("`{}` is not known to this function", step.key()))),
            });
        }
        ends
    }
}

/// One end for all steps. Every one was tried; what is worth another try is asked for.
fn conclude(id: &IncidentId, part: Part, ends: Vec<Result<Executed, Failure>>) -> Result<Answer, Failure> {
    let mut records: Vec<StepRecord> = Vec::new();
    let mut again: Vec<String> = Vec::new();
    let mut broken: Option<Failure> = None;
    for end in ends {
        match end {
            Ok(Executed { record, transient, .. }) => {
                if transient {
                    again.push(format!("`{}`: {}", record.step, record.detail));
                }
                records.push(record);
            }
            Err(Failure::Transient(text)) => again.push(text),
            Err(failure) => broken = Some(failure),
        }
    }
    if !again.is_empty() {
        return Err(Failure::Transient(again.join("; ")));
    }
    if let Some(failure) = broken {
        return Err(failure);
    }
    let applied = records.iter().filter(|record| matches!(record.state, StepState::Applied | StepState::Gone)).count();
    Ok(match applied {
        _ if records.is_empty() => {
            Answer::on("nothing to do", id, &[]).saying("the plan holds no such step for this function")
        }
        all if all == records.len() => Answer::on(part.done(), id, &records),
        0 => Answer::on(&format!("not {}", part.done()), id, &records),
        _ => Answer::on(&format!("partly {}", part.done()), id, &records),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ledger::{IncidentState, Record};
    use serde_json::json;

    use super::*;
    use crate::evidence::testing::item;
    use crate::ledger::Seal;
    use crate::testing::{Answer as Scripted, Wire, function_order, json_error, ok};

    fn isolation(wire: &Wire) -> Isolation {
        let sdk = wire.config();
        let ledger = Ledger::new(aws_sdk_dynamodb::Client::new(&sdk), "ledger".to_owned(), Seal::none());
        Isolation { ledger, sdk, stack: "firebreak".to_owned() }
    }

    /// An incident whose plan holds these steps on the function `orders`, in this order.
    fn incident(actions: &[ActionId]) -> Incident {
        let (mut incident, step) = function_order(ActionId::ZeroConcurrency);
        incident.plan.steps = actions.iter().map(|&action| Step { action, target: step.target.clone() }).collect();
        incident
    }

    fn stored(incident: &Incident) -> Scripted {
        item(&Record::Incident(Box::new(incident.clone())))
    }

    fn event(incident: &Incident) -> Value {
        json!({"detail-type": "Containment Ordered", "source": "firebreak",
               "detail": {"schema": 1, "incident_id": incident.incident_id, "responses": ["isolate"]}})
    }

    fn queued(bodies: &[(&str, String)]) -> Value {
        let records: Vec<Value> =
            bodies.iter().map(|(id, body)| json!({"messageId": id, "body": body, "eventSource": "aws:sqs"})).collect();
        json!({"Records": records})
    }

    fn configuration() -> Scripted {
        ok(r#"{"Role": "arn:aws:iam::111122223333:role/orders-role", "RevisionId": "r1"}"#)
    }

    /// A step of `zero-concurrency` from the first look at the ledger to the record of the outcome.
    fn zeroed(incident: &Incident, reserved: i32) -> Vec<Scripted> {
        let figure = |figure: i32| ok(json!({"ReservedConcurrentExecutions": figure}).to_string());
        let none = || ok("{}");
        let observed = [ok("{}"), configuration(), figure(9), none(), ok("{}"), stored(incident)];
        let applied = [configuration(), none(), ok("{}"), figure(reserved), none(), ok("{}")];
        observed.into_iter().chain(applied).collect()
    }

    /// A step of `close-function-urls` on a function without one.
    fn closed(incident: &Incident) -> Vec<Scripted> {
        let none = || ok(r#"{"FunctionUrlConfigs": []}"#);
        let observed = vec![ok("{}"), configuration(), none(), ok("{}"), stored(incident)];
        [observed, vec![configuration(), none(), none(), ok("{}")]].concat()
    }

    fn calls(wire: &Wire) -> Vec<String> {
        wire.requests().iter().map(|line| line.split(' ').nth(2).unwrap_or(line).to_owned()).collect()
    }

    async fn answer(wire: &Wire, payload: &Value) -> Value {
        let handled = isolation(wire).handle(payload).await.unwrap();
        serde_json::to_value(handled).unwrap()
    }

    #[tokio::test]
    async fn isolates_and_stops_the_harm_first_whatever_the_order_of_the_plan() {
        let incident =
            incident(&[ActionId::CloseFunctionUrls, ActionId::RecycleEnvironments, ActionId::ZeroConcurrency]);
        let wire = Wire::answering([vec![stored(&incident)], zeroed(&incident, 0), closed(&incident)].concat());
        let answer = answer(&wire, &event(&incident)).await;
        assert_eq!(answer["outcome"], "isolated");
        assert_eq!(answer["incident_id"], json!(incident.incident_id));
        let steps: Vec<&str> =
            answer["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
        let on = "arn:aws:lambda:eu-west-1:111122223333:function:orders";
        assert_eq!(steps, [format!("zero-concurrency@{on}"), format!("close-function-urls@{on}")]);
        assert_eq!(wire.unused(), 0);
    }

    #[tokio::test]
    async fn what_is_worth_another_try_is_asked_for_after_all_were_tried() {
        let incident = incident(&[ActionId::ZeroConcurrency, ActionId::CloseFunctionUrls]);
        let wire = Wire::answering([vec![stored(&incident)], zeroed(&incident, 3), closed(&incident)].concat());
        let failure = isolation(&wire).handle(&event(&incident)).await.unwrap_err();
        assert!(matches!(failure, Failure::Transient(_)), "{failure}");
        assert!(failure.to_string().contains("zero-concurrency@"), "{failure}");
        assert!(!failure.to_string().contains("close-function-urls@"), "{failure}");
        assert_eq!(wire.unused(), 0, "{:?}", calls(&wire));
    }

    #[tokio::test]
    async fn a_step_that_fails_for_good_is_no_reason_to_try_again() {
        let incident = incident(&[ActionId::ZeroConcurrency]);
        let denied = json_error(403, "AccessDeniedException");
        let wire = Wire::answering([stored(&incident), ok("{}"), denied, ok("{}")]);
        let answer = answer(&wire, &event(&incident)).await;
        assert_eq!(answer["outcome"], "not isolated");
        assert_eq!(answer["steps"][0]["state"], "failed");
    }

    #[tokio::test]
    async fn a_function_that_does_not_exist_is_gone_and_no_failure() {
        let incident = incident(&[ActionId::ZeroConcurrency]);
        let gone = json_error(404, "ResourceNotFoundException");
        let wire = Wire::answering([stored(&incident), ok("{}"), gone, ok("{}")]);
        let answer = answer(&wire, &event(&incident)).await;
        assert_eq!(answer["outcome"], "isolated");
        assert_eq!(answer["steps"][0]["state"], "gone");
    }

    #[tokio::test]
    async fn an_event_is_only_a_hint() {
        let ordered = incident(&[ActionId::ZeroConcurrency]);
        let wire = Wire::answering([ok("{}")]);
        let failure = isolation(&wire).handle(&event(&ordered)).await.unwrap_err();
        assert!(matches!(failure, Failure::Malformed(_)), "{failure}");

        let failure = isolation(&Wire::answering([])).handle(&json!({"detail": {}})).await.unwrap_err();
        assert!(matches!(failure, Failure::Malformed(_)), "{failure}");

        for state in [IncidentState::AwaitingApproval, IncidentState::Releasing, IncidentState::Released] {
            let wire = Wire::answering([stored(&Incident { state, ..ordered.clone() })]);
            assert_eq!(answer(&wire, &event(&ordered)).await["outcome"], "nothing to do");
            assert_eq!(wire.requests().len(), 1);
        }
        let wire = Wire::answering([stored(&incident(&[ActionId::RecycleEnvironments]))]);
        assert_eq!(answer(&wire, &event(&ordered)).await["outcome"], "nothing to do");

        let wire = Wire::answering([stored(&Incident { unvetted: true, ..ordered.clone() })]);
        let said = answer(&wire, &event(&ordered)).await;
        assert_eq!((&said["outcome"], wire.requests().len()), (&json!("nothing to do"), 1), "{said}");
        assert!(said["message"].as_str().unwrap().contains("the guard rails have not passed it yet"), "{said}");
    }

    /// The calls of a recycling that finds a function without aliases and provisioned concurrency, beside the ledger's
    /// first.
    fn recycled(incident: &Incident) -> Vec<Scripted> {
        let described = |text: &str| {
            ok(json!({"Role": "arn:aws:iam::111122223333:role/orders-role", "Description": text,
                      "LastUpdateStatus": "Successful"})
            .to_string())
        };
        let marked = " [firebreak: recycled 1]";
        let aliases = || ok(r#"{"Aliases": []}"#);
        let versions = || ok(r#"{"Versions": [{"Version": "$LATEST"}]}"#);
        let provisioned = || ok(r#"{"ProvisionedConcurrencyConfigs": []}"#);
        [
            vec![ok("{}"), described(""), aliases(), provisioned(), ok("{}"), stored(incident)],
            vec![described(""), ok("{}"), aliases(), versions(), provisioned()],
            vec![described(marked), aliases(), versions(), provisioned(), ok("{}")],
        ]
        .concat()
    }

    fn ordered_long_ago(actions: &[ActionId]) -> Incident {
        Incident { ordered_at: Some("2020-01-01T00:00:00Z".parse().unwrap()), ..incident(actions) }
    }

    /// An environment that begins before the revocation's time has come has credentials that are revoked with the thief's.
    #[tokio::test]
    async fn a_recycling_comes_back_to_the_queue_until_the_revocation_that_was_written_has_passed() {
        let mut incident = ordered_long_ago(&[ActionId::RecycleEnvironments]);
        let revoke = Step { action: ActionId::RevokeSessions, target: (&incident.principal.name).into() };
        incident.plan.steps.push(revoke.clone());
        let ago = |seconds: i64| Some(clock::now() - SignedDuration::from_secs(seconds));
        let record = |state, verified_at| {
            let record = incident.step_record(&revoke, incident.opened_at);
            item(&Record::Step(Box::new(StepRecord { state, verified_at, ..record })))
        };
        let just = REVOCATION_AHEAD_SECONDS / 2;
        for (what, revocation) in [
            ("absent", ok("{}")),
            ("begun", record(StepState::Intended, None)),
            ("never read back", record(StepState::Applied, None)),
            ("failed, whenever it was read back", record(StepState::Failed, ago(600))),
            ("taken back", record(StepState::Reverted, ago(600))),
            ("late", record(StepState::Applied, ago(just))),
            ("of a clock that is ahead", record(StepState::Applied, ago(-600))),
            ("not to be read", json_error(400, "ProvisionedThroughputExceededException")),
        ] {
            let wire = Wire::answering([stored(&incident), revocation]);
            let answer = answer(&wire, &queued(&[("one", event(&incident).to_string())])).await;
            assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "one"}]}), "{what}");
            assert_eq!((wire.requests().len(), wire.unused()), (2, 0), "{what}: Lambda is not even asked");
        }
        let passed = record(StepState::Applied, ago(REVOCATION_AHEAD_SECONDS + 5));
        let wire = Wire::answering([vec![stored(&incident), passed], recycled(&incident)].concat());
        let answer = answer(&wire, &queued(&[("one", event(&incident).to_string())])).await;
        assert_eq!((answer, wire.unused()), (json!({"batchItemFailures": []}), 0), "{:?}", calls(&wire));
    }

    #[tokio::test]
    async fn the_queue_recycles_only_and_gets_back_what_is_to_come_again() {
        let incident = ordered_long_ago(&[ActionId::ZeroConcurrency, ActionId::RecycleEnvironments]);
        let good = [vec![stored(&incident)], recycled(&incident)].concat();
        let throttled = [json_error(400, "ProvisionedThroughputExceededException")];
        let wire = Wire::answering(good.into_iter().chain(throttled));
        let body = event(&incident).to_string();
        let payload = queued(&[("one", body.clone()), ("two", "no JSON".to_owned()), ("three", body)]);
        let answer = answer(&wire, &payload).await;
        assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "three"}]}));
        assert_eq!(wire.unused(), 0, "{:?}", calls(&wire));
    }
}
