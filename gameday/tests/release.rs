//! Contain, then release, through the deployed functions: the emulated account is as before, save the revocation, for
//! roles, users and functions as they come. And what a release does when it is cut short, asked twice, or asked for many.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "release/scene.rs"]
mod scene;

use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{IncidentState, StepState};
use gameday::acts::REVOCATION;
use gameday::aws::Aws;
use gameday::deploy::Stack;
use gameday::findings::{self, INSTANCE, RoleSession};
use gameday::ledger::Book;
use gameday::scene::{Goods, Role, User, Victim, random_hex};
use gameday::thief::{Call, Thief};
use gameday::world::World;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use scene::{Scene, Stood};

/// So many scenes are played where nobody says otherwise.
const CASES: u32 = 5;

/// So many smaller scenes are tried where one fails.
const SMALLER: usize = 12;

struct House<'a> {
    aws: &'a Aws,
    stack: &'a Stack,
}

fn in_the_house<T>(work: impl AsyncFnOnce(House<'_>) -> T) -> T {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        work(House { aws: &theatre.aws, stack }).await
    })
}

impl House<'_> {
    /// What the function answers, or the error that it ends in.
    async fn invoke(&self, function: FunctionName, mut request: Value) -> Value {
        if request["firebreak"] != "list" {
            request["requested_by"] = json!("ana");
            request["reason"] = json!("a test");
        }
        let invoke = self.aws.lambda.invoke().function_name(self.stack.function(function));
        let answer = invoke.payload(Blob::new(request.to_string())).send().await.unwrap();
        serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap()
    }

    async fn contain(&self, request: Value) -> Value {
        let mut request = request;
        request["firebreak"] = json!("contain");
        self.invoke(FunctionName::QuarantinePrincipal, request).await
    }

    async fn release(&self, request: Value) -> Value {
        let mut request = request;
        request["firebreak"] = json!("release");
        self.invoke(FunctionName::ReleaseContainment, request).await
    }

    async fn book(&self) -> Book {
        Book::read(self.aws, self.stack).await.unwrap()
    }

    async fn state(&self, id: &IncidentId) -> Option<IncidentState> {
        self.book().await.incident(id).map(|incident| incident.state)
    }

    /// Waits until every step of the plan has come to an end, and answers those that did not come to a good one.
    async fn until_contained(&self, id: &IncidentId) -> Vec<String> {
        for _ in 0..300 {
            let book = self.book().await;
            let steps = book.steps_of(id);
            let planned = book.incident(id).map_or(0, |incident| incident.plan.steps.len());
            let ended = steps.iter().filter(|step| step.state != StepState::Intended).count();
            if planned > 0 && ended >= planned {
                let bad = steps.iter().filter(|step| step.state != StepState::Applied);
                return bad.map(|step| format!("{} is {}: {}", step.step, step.state, step.detail)).collect();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        vec![format!("not every step came to an end: {:#?}", self.book().await.steps_of(id))]
    }

    async fn look(&self) -> World {
        World::look(self.aws).await.unwrap()
    }

    /// Contains what stands there and releases it: what is different then, beside what is meant to be.
    async fn contain_and_release(&self, scene: &Scene) -> Result<(), String> {
        let stood = Stood::set_up(self.aws, scene).await.map_err(|error| format!("the scene: {error:#}"))?;
        let before = self.look().await;
        for _ in 0..if scene.twice { 2 } else { 1 } {
            let answer = self.contain(stood.request(scene)).await;
            if answer["outcome"] != "contained" {
                return Err(format!("not contained: {answer}"));
            }
            let bad = self.until_contained(&stood.incident).await;
            if !bad.is_empty() {
                return Err(bad.join("\n"));
            }
        }
        let contained = self.look().await;
        if before.changes(&contained).is_empty() {
            return Err("a containment that changes nothing".to_owned());
        }
        let answer =
            self.release(json!({"incident_id": stood.incident, "reactivate_keys": stood.named(scene, true)})).await;
        if answer["outcome"] != "released" {
            return Err(format!("not released: {answer}"));
        }
        let mut expected = vec![format!("`{} inline policy {REVOCATION}` is new", stood.principal)];
        expected.extend(stood.stays_inactive(scene));
        expected.sort();
        let mut changes = before.changes(&self.look().await);
        changes.sort();
        if changes == expected { Ok(()) } else { Err(format!("{changes:#?}\ninstead of {expected:#?}")) }
    }
}

#[expect(clippy::disallowed_methods, reason = "how many scenes are played is said by the environment")]
fn cases() -> u32 {
    std::env::var("FIREBREAK_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

#[test]
fn whatever_is_contained_a_release_leaves_the_account_as_it_was() {
    in_the_house(async |house| {
        // The same scenes every time: a failure is to be found again.
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        for case in 0..cases() {
            let mut tree = scene::scenes().new_tree(&mut runner).unwrap();
            let Err(problem) = house.contain_and_release(&tree.current()).await else { continue };
            let mut smallest = (tree.current(), problem);
            for _ in 0..SMALLER {
                if !tree.simplify() {
                    break;
                }
                match house.contain_and_release(&tree.current()).await {
                    Err(problem) => smallest = (tree.current(), problem),
                    Ok(()) if tree.complicate() => {}
                    Ok(()) => break,
                }
            }
            panic!("scene {case}, made smaller: {:#?}\n{}", smallest.0, smallest.1);
        }
    });
}

#[test]
fn contained_twice_and_released_the_stolen_session_is_still_denied() {
    in_the_house(async |house| {
        let suffix = random_hex(6);
        let victim = Victim::set_up(house.aws, &suffix, "").await.unwrap();
        let thief = Thief::with(
            house.aws,
            "the thief",
            victim.role.steal_session(house.aws, INSTANCE).await.unwrap(),
            &victim.goods,
        );
        let id = victim.role.incident().unwrap();
        let before = house.look().await;
        for _ in 0..2 {
            let answer = house.contain(json!({"role": victim.role.name, "functions": [victim.function_arn]})).await;
            assert_eq!(answer["outcome"], "contained", "{answer}");
            assert_eq!(house.until_contained(&id).await, Vec::<String>::new());
        }
        for _ in 0..2 {
            let answer = house.release(json!({"incident_id": id})).await;
            assert_eq!(answer["outcome"], "released", "released twice is released once: {answer}");
        }
        let left = format!("`role/{} inline policy {REVOCATION}` is new", victim.role.name);
        assert_eq!(before.changes(&house.look().await), [left]);
        for call in Call::ALL {
            let outcome = thief.attempt(call).await;
            assert!(outcome.is_stopped(), "the stolen session may {} again: {}", call.action(), outcome.shown());
        }
        victim.work(house.aws).await.unwrap();
    });
}

#[test]
fn what_piled_up_and_what_was_lost_is_told_to_whoever_releases() {
    in_the_house(async |house| {
        let victim = Victim::set_up(house.aws, &random_hex(6), "").await.unwrap();
        let id = victim.role.incident().unwrap();
        house.contain(json!({"role": victim.role.name, "functions": [victim.function_arn]})).await;
        assert_eq!(house.until_contained(&id).await, Vec::<String>::new());
        for n in 0..3 {
            let send = house.aws.sqs.send_message().queue_url(&victim.goods.queue_url);
            send.message_body(format!(r#"{{"order": {n}}}"#)).send().await.unwrap();
        }
        let answer = house.release(json!({"incident_id": id})).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(&format!("about 3 messages wait for `{}`", victim.function)), "{answer}");
        assert!(message.contains("were refused and are lost"), "{answer}");
    });
}

#[test]
fn what_someone_changed_since_is_left_alone_thing_by_thing() {
    in_the_house(async |house| {
        let (aws, suffix) = (house.aws, random_hex(6));
        let victim = Victim::set_up(aws, &suffix, "").await.unwrap();
        let id = victim.role.incident().unwrap();
        let before = house.look().await;
        house.contain(json!({"role": victim.role.name, "functions": [victim.function_arn]})).await;
        assert_eq!(house.until_contained(&id).await, Vec::<String>::new());
        let put = aws.lambda.put_function_concurrency().function_name(&victim.function);
        put.reserved_concurrent_executions(2).send().await.unwrap();
        let other = aws.sqs.create_queue().queue_name(format!("other-{suffix}")).send().await.unwrap();
        let other = gameday::pages::queue_arn(aws, other.queue_url().unwrap()).await.unwrap();
        let made = aws.lambda.create_event_source_mapping().function_name(&victim.function).event_source_arn(other);
        let made = made.enabled(false).send().await.unwrap().uuid.unwrap();
        let answer = house.release(json!({"incident_id": id})).await;
        assert_eq!(answer["outcome"], "released", "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("reserved concurrency is 2 now, not 0"), "{message}");
        assert!(message.contains(&format!("`{made}` was made since, and is off")), "{message}");
        let function = &victim.function;
        let mut expected = vec![
            format!("`function/{function} reserved concurrency` was 5, is 2"),
            format!("`mapping {made}` is new"),
            format!("`role/{} inline policy {REVOCATION}` is new", victim.role.name),
        ];
        expected.sort();
        let mut changes = before.changes(&house.look().await);
        changes.sort();
        assert_eq!(changes, expected, "the rest is as before");
        let book = house.book().await;
        let left = &book.incident(&id).unwrap().release.as_ref().unwrap().left_alone;
        assert_eq!(left.len(), 2, "{left:?}");
    });
}

#[test]
fn paused_in_a_storm_and_released_since() {
    in_the_house(async |house| {
        let suffix = random_hex(6);
        let made = |name: &str| format!("storm-{name}-{suffix}");
        let earlier = Role::create(house.aws, &made("earlier"), "/team/").await.unwrap();
        let answer = house.contain(json!({"role": earlier.name})).await;
        assert_eq!(answer["outcome"], "contained", "{answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let before = house.look().await;
        let since = firebreak_shared::clock::now();
        let mut stormed = Vec::new();
        for name in ["a", "b", "c"] {
            let role = Role::create(house.aws, &made(name), "/team/").await.unwrap();
            assert_eq!(house.contain(json!({"role": role.name})).await["outcome"], "contained");
            stormed.push(role);
        }
        let user = User::create(house.aws, &made("user"), "/team/").await.unwrap();
        assert_eq!(house.contain(json!({"user": user.name})).await["outcome"], "contained");
        let id_of = |role: &Role| role.incident().unwrap();
        let gone = house.aws.iam.delete_role_policy().role_name(&stormed[2].name).policy_name("generous");
        gone.send().await.unwrap();

        let pause = json!({"firebreak": "pause"});
        assert_eq!(house.invoke(FunctionName::ReleaseContainment, pause).await["outcome"], "paused");
        let refused = house.contain(json!({"role": stormed[0].name})).await;
        assert!(!refused["errorType"].is_null() || refused["outcome"] == "contained", "{refused}");

        let listed = house.invoke(FunctionName::ReleaseContainment, json!({"firebreak": "list"})).await;
        let open = listed["incidents"].as_array().unwrap();
        let entry = |id: &IncidentId| open.iter().find(|entry| entry["incident_id"] == json!(id)).unwrap();
        assert_eq!(entry(&id_of(&stormed[0]))["principal"], format!("role/{}", stormed[0].name));
        assert_eq!(
            entry(&id_of(&stormed[0]))["standing"],
            json!([format!("quarantine-role@role/{} applied", stormed[0].name)])
        );
        assert_eq!(entry(&id_of(&earlier))["state"], "ordered");

        // One of them cannot be gone by: the others are released all the same.
        let forged = house.forge(&id_of(&stormed[1])).await;
        let partly = house.release(json!({"since": since})).await;
        assert_eq!(partly["errorType"], "Transient", "{partly}");
        let told = partly["errorMessage"].as_str().unwrap();
        assert!(
            told.starts_with("3 of 4 incidents are released") && told.contains(id_of(&stormed[1]).as_str()),
            "{told}"
        );
        house.put_back(forged).await;
        let rest = house.release(json!({"since": since})).await;
        assert_eq!(rest["outcome"], "released", "{rest}");
        for role in &stormed {
            assert_eq!(house.state(&id_of(role)).await, Some(IncidentState::Released));
        }
        assert_eq!(house.state(&user.incident().unwrap()).await, Some(IncidentState::Released));
        assert_eq!(house.state(&id_of(&earlier)).await, Some(IncidentState::Ordered), "what was ordered before stays");
        let listed = house.invoke(FunctionName::ReleaseContainment, json!({"firebreak": "list"})).await;
        let still: Vec<_> =
            listed["incidents"].as_array().unwrap().iter().map(|entry| entry["incident_id"].clone()).collect();
        assert!(still.contains(&json!(id_of(&earlier))) && !still.contains(&json!(id_of(&stormed[0]))), "{listed}");
        let changes = before.changes(&house.look().await);
        assert!(!changes.iter().any(|change| change.contains("attached policies` was")), "{changes:#?}");
        let resume = json!({"firebreak": "resume"});
        assert_eq!(house.invoke(FunctionName::ReleaseContainment, resume).await["outcome"], "resumed");
        assert_eq!(house.release(json!({"incident_id": id_of(&earlier)})).await["outcome"], "released");
    });
}

impl House<'_> {
    /// Edits an incident's record; answers what it was.
    async fn forge(
        &self,
        id: &IncidentId,
    ) -> std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue> {
        use aws_sdk_dynamodb::types::AttributeValue::S;
        let table = self.stack.output("LedgerTableName").unwrap();
        let get = self.aws.dynamodb.get_item().table_name(table);
        let get = get.key("pk", S(format!("incident#{id}"))).key("sk", S("incident".to_owned()));
        let ours = get.send().await.unwrap().item.unwrap();
        let mut edited = ours.clone();
        edited.insert("reason".to_owned(), S("edited by hand".to_owned()));
        self.put_back(edited).await;
        ours
    }

    async fn put_back(&self, item: std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue>) {
        let table = self.stack.output("LedgerTableName").unwrap();
        self.aws.dynamodb.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
    }

    /// Puts a finding on the bus as GuardDuty would, and waits until it is on record.
    async fn send(&self, detail: &Value) {
        let entry = aws_sdk_eventbridge::types::PutEventsRequestEntry::builder()
            .source("firebreak.drill")
            .detail_type("GuardDuty Finding")
            .detail(detail.to_string())
            .build();
        self.aws.events.put_events().entries(entry).send().await.unwrap();
        let (id, updated) = (detail["id"].as_str().unwrap(), detail["updatedAt"].as_str().unwrap());
        let key = firebreak_model::ids::FindingKey::of(id, updated);
        for _ in 0..200 {
            if self.book().await.findings.iter().any(|finding| finding.finding_key == key) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the finding is not on record");
    }
}

#[test]
fn the_same_finding_again_reopens_on_new_activity_only() {
    in_the_house(async |house| {
        let suffix = random_hex(6);
        let goods = Goods::lay_out(house.aws, &suffix).await.unwrap();
        let role = Role::create(house.aws, &format!("again-{suffix}"), "/firebreak-drill/").await.unwrap();
        let thief = Thief::with(house.aws, "the thief", role.steal_session(house.aws, INSTANCE).await.unwrap(), &goods);
        let session =
            RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: &thief.access_key };
        let mut finding = findings::access_key_of_instance(house.aws, &session).unwrap();
        let id = role.incident().unwrap();
        house.send(&finding).await;
        for _ in 0..100 {
            let book = house.book().await;
            if book
                .steps_of(&id)
                .iter()
                .any(|step| step.action == ActionId::QuarantineRole && step.state == StepState::Applied)
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(house.release(json!({"incident_id": id})).await["outcome"], "released");

        // GuardDuty sends the same id again, with a new `updatedAt`, for activity from before the release.
        let later = |seconds: i64| {
            let at = firebreak_shared::clock::now() + jiff::SignedDuration::from_secs(seconds);
            json!(at.to_string())
        };
        finding["updatedAt"] = later(1);
        house.send(&finding).await;
        assert_eq!(house.state(&id).await, Some(IncidentState::Released), "old activity");
        finding["updatedAt"] = later(60);
        finding["service"]["eventLastSeen"] = later(30);
        house.send(&finding).await;
        let book = house.book().await;
        let incident = book.incident(&id).unwrap();
        assert_eq!((incident.state, incident.episode), (IncidentState::Ordered, 2), "new activity");
        assert_eq!(house.release(json!({"incident_id": id})).await["outcome"], "released");
    });
}
