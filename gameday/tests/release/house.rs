//! The deployed stack that these tests contain and release with.

use std::collections::HashMap;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_lambda::primitives::Blob;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ids::{FindingKey, IncidentId};
use firebreak_model::ledger::{Incident, IncidentState, StepState};
use gameday::aws::Aws;
use gameday::deploy::Stack;
use gameday::findings::{self, INSTANCE, RoleSession};
use gameday::ledger::{self, Book};
use gameday::scene::Role;
use gameday::world::World;
use serde_json::{Value, json};

pub(crate) struct House<'a> {
    pub(crate) aws: &'a Aws,
    pub(crate) stack: &'a Stack,
}

/// Runs `work` in an hour of its own: not paused, and with nothing counted.
pub(crate) fn in_the_house<T>(work: impl AsyncFnOnce(House<'_>) -> T) -> T {
    crate::common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let house = House { aws: &theatre.aws, stack };
        house.resume().await;
        house.with_the_guard().await;
        ledger::close_breaker(house.aws, stack).await.unwrap();
        work(house).await
    })
}

/// What an answer says of one of several incidents.
pub(crate) fn entry<'a>(answer: &'a Value, id: &IncidentId) -> Option<&'a Value> {
    answer["incidents"].as_array().into_iter().flatten().find(|entry| entry["incident_id"] == json!(id))
}

impl House<'_> {
    /// What the function answers, or the error that it ends in.
    pub(crate) async fn invoke(&self, function: FunctionName, request: &Value) -> Value {
        let invoke = self.aws.lambda.invoke().function_name(self.stack.function(function));
        let answer = invoke.payload(Blob::new(request.to_string())).send().await.unwrap();
        serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap()
    }

    async fn ask(&self, function: FunctionName, what: &str, mut request: Value) -> Value {
        request["firebreak"] = json!(what);
        request["requested_by"] = json!("ana");
        request["reason"] = json!("a test");
        self.invoke(function, &request).await
    }

    pub(crate) async fn contain(&self, request: Value) -> Value {
        self.ask(FunctionName::QuarantinePrincipal, "contain", request).await
    }

    pub(crate) async fn release(&self, request: Value) -> Value {
        self.ask(FunctionName::ReleaseContainment, "release", request).await
    }

    pub(crate) async fn pause(&self) -> Value {
        self.ask(FunctionName::ReleaseContainment, "pause", json!({})).await
    }

    pub(crate) async fn resume(&self) -> Value {
        self.ask(FunctionName::ReleaseContainment, "resume", json!({})).await
    }

    pub(crate) async fn list(&self) -> Value {
        self.invoke(FunctionName::ReleaseContainment, &json!({"firebreak": "list"})).await
    }

    pub(crate) async fn book(&self) -> Book {
        Book::read(self.aws, self.stack).await.unwrap()
    }

    pub(crate) async fn incident(&self, id: &IncidentId) -> Option<Incident> {
        self.book().await.incident(id).cloned()
    }

    pub(crate) async fn state(&self, id: &IncidentId) -> Option<IncidentState> {
        self.incident(id).await.map(|incident| incident.state)
    }

    pub(crate) async fn look(&self) -> World {
        World::look(self.aws).await.unwrap()
    }

    /// Contains by hand, and waits until every step has come to its end.
    pub(crate) async fn contain_wholly(&self, id: &IncidentId, request: Value) -> Result<(), String> {
        let answer = self.contain(request).await;
        if answer["outcome"] != "contained" {
            return Err(format!("not contained: {answer}"));
        }
        let bad = self.until_contained(id).await;
        if bad.is_empty() { Ok(()) } else { Err(bad.join("\n")) }
    }

    /// Waits until every step of the plan has come to an end, and answers those that did not come to a good one. A deny
    /// that found no room has, where the boundary in its place holds.
    pub(crate) async fn until_contained(&self, id: &IncidentId) -> Vec<String> {
        for _ in 0..1200 {
            let book = self.book().await;
            let steps = book.steps_of(id);
            let plan = book.incident(id).map(|incident| incident.plan.clone()).unwrap_or_default();
            let has_ended = |key: String| steps.iter().any(|s| s.step == key && s.state != StepState::Intended);
            if !plan.steps.is_empty() && plan.steps.iter().all(|step| has_ended(step.key())) {
                let bound = [ActionId::BoundRole, ActionId::BoundUser];
                let bound = steps.iter().any(|s| bound.contains(&s.action) && s.state == StepState::Applied);
                let bad = steps.iter().filter(|s| s.state != StepState::Applied && !(bound && s.refused.is_some()));
                return bad.map(|step| format!("{} is {}: {}", step.step, step.state, step.detail)).collect();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        vec![format!("not every step came to an end: {:#?}", self.book().await.steps_of(id))]
    }

    /// Puts a finding on the bus as GuardDuty would, and waits until it is on record.
    pub(crate) async fn send(&self, detail: &Value) {
        let entry = PutEventsRequestEntry::builder()
            .source("firebreak.drill")
            .detail_type("GuardDuty Finding")
            .detail(detail.to_string())
            .build();
        self.aws.events.put_events().entries(entry).send().await.unwrap();
        let (id, updated) = (detail["id"].as_str().unwrap(), detail["updatedAt"].as_str().unwrap());
        let key = FindingKey::of(id, updated);
        for _ in 0..200 {
            if self.book().await.findings.iter().any(|finding| finding.finding_key == key) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the finding is not on record");
    }

    /// A finding of its own on a role, whose session was stolen: it orders at once.
    pub(crate) async fn finding(&self, role: &Role) -> (Value, Credentials) {
        let stolen = role.steal_session(self.aws, INSTANCE).await.unwrap();
        let access_key = stolen.access_key_id().to_owned();
        let session = RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: &access_key };
        (findings::access_key_of_instance(self.aws, &session).unwrap(), stolen)
    }

    /// The guard takes what someone changes of a containment for tampering, and has it put back: here it looks away.
    pub(crate) async fn without_the_guard(&self) {
        let guard = self.stack.function(FunctionName::GuardContainment);
        let stop = self.aws.lambda.put_function_concurrency().function_name(guard).reserved_concurrent_executions(0);
        stop.send().await.unwrap();
    }

    pub(crate) async fn with_the_guard(&self) {
        let guard = self.stack.function(FunctionName::GuardContainment);
        self.aws.lambda.delete_function_concurrency().function_name(guard).send().await.unwrap();
    }

    fn ledger_table(&self) -> &str {
        self.stack.output("LedgerTableName").unwrap()
    }

    /// Edits an incident's record by hand; answers what it was.
    pub(crate) async fn forge(&self, id: &IncidentId) -> HashMap<String, AttributeValue> {
        let get = self.aws.dynamodb.get_item().table_name(self.ledger_table());
        let get = get.key("pk", AttributeValue::S(format!("incident#{id}")));
        let get = get.key("sk", AttributeValue::S("incident".to_owned()));
        let ours = get.send().await.unwrap().item.unwrap();
        let mut edited = ours.clone();
        edited.insert("reason".to_owned(), AttributeValue::S("edited by hand".to_owned()));
        self.put_back(edited).await;
        ours
    }

    pub(crate) async fn put_back(&self, item: HashMap<String, AttributeValue>) {
        self.aws.dynamodb.put_item().table_name(self.ledger_table()).set_item(Some(item)).send().await.unwrap();
    }
}
