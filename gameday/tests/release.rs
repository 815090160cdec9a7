//! Contain, then release, through the deployed functions: the emulated account is as before, save the revocation, for
//! roles, users and functions as they come. And what a release does when it is asked twice, or asked for many.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "release/changed.rs"]
mod changed;
mod common;
#[path = "release/house.rs"]
mod house;
#[path = "release/scene.rs"]
mod scene;

use std::time::Duration;

use firebreak_model::action::ActionId;
use firebreak_model::ledger::IncidentState;
use gameday::acts::REVOCATION;
use gameday::findings::INSTANCE;
use gameday::scene::{Role, User, Victim, random_hex};
use gameday::thief::{Call, Thief};
use jiff::SignedDuration;
use proptest::strategy::{Strategy as _, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

use house::{House, entry, in_the_house};
use scene::{Scene, Stood};

/// So many scenes are played at least, where nobody says otherwise.
const CASES: usize = 10;

/// So many smaller scenes are tried where one fails.
const SMALLER: usize = 12;

impl House<'_> {
    /// Contains what stands there and releases it: what is different then, beside what is meant to be.
    async fn contain_and_release(&self, scene: &Scene) -> Result<(), String> {
        gameday::ledger::close_breaker(self.aws, self.stack).await.map_err(|error| format!("{error:#}"))?;
        let stood = Stood::set_up(self.aws, scene).await.map_err(|error| format!("the scene: {error:#}"))?;
        if stood.still_does().await.is_none() {
            return Err("the stolen session may do nothing before it is contained".to_owned());
        }
        let before = self.look().await;
        for _ in 0..if scene.twice { 2 } else { 1 } {
            self.contain_wholly(&stood.incident, stood.request(scene)).await?;
        }
        if before.changes(&self.look().await).is_empty() {
            return Err("a containment that changes nothing".to_owned());
        }
        if let Some(call) = stood.still_does().await {
            return Err(format!("contained, and yet the stolen session may {call}"));
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
        if changes != expected {
            return Err(format!("{changes:#?}\ninstead of {expected:#?}"));
        }
        match stood.still_does().await {
            Some(call) => Err(format!("released, and the stolen session may {call} again")),
            None => Ok(()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how many scenes are played is said by the environment")]
fn cases() -> usize {
    std::env::var("FIREBREAK_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

/// A scene, and those that are smaller.
type Tree = Box<dyn ValueTree<Value = Scene>>;

/// At least so many scenes, of every kind among them; the same every time, so that a failure is found again.
fn scenes(count: usize) -> Vec<Tree> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut missing: Vec<_> = scene::KINDS.iter().collect();
    let mut kept: Vec<Tree> = Vec::new();
    while !missing.is_empty() || kept.len() < count {
        let tree = scene::scenes().new_tree(&mut runner).unwrap();
        let were_missing = missing.len();
        missing.retain(|is_of| !is_of(&tree.current()));
        if missing.is_empty() || missing.len() < were_missing {
            kept.push(Box::new(tree));
        }
    }
    kept
}

#[test]
fn whatever_is_contained_a_release_leaves_the_account_as_it_was() {
    in_the_house(async |house| {
        let scenes = scenes(cases());
        for (case, mut tree) in scenes.into_iter().enumerate() {
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
        let victim = Victim::set_up(house.aws, &random_hex(6), "").await.unwrap();
        let stolen = victim.role.steal_session(house.aws, INSTANCE).await.unwrap();
        let thief = Thief::with(house.aws, "the thief", stolen, &victim.goods);
        let id = victim.role.incident().unwrap();
        let before = house.look().await;
        for _ in 0..2 {
            let request = json!({"role": victim.role.name, "functions": [victim.function_arn]});
            house.contain_wholly(&id, request).await.unwrap();
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
fn fresh_credentials_come_before_anything_is_let_in_again() {
    in_the_house(async |house| {
        let victim = Victim::set_up(house.aws, &random_hex(6), "").await.unwrap();
        let id = victim.role.incident().unwrap();
        let request = json!({"role": victim.role.name, "functions": [victim.function_arn]});
        house.contain_wholly(&id, request).await.unwrap();
        assert_eq!(house.release(json!({"incident_id": id})).await["outcome"], "released");
        let book = house.book().await;
        let steps = book.steps_of(&id);
        let undone = |action: ActionId| {
            let step = steps.iter().find(|step| step.action == action).unwrap();
            step.reverted_at.unwrap_or_else(|| panic!("{} is {}: {}", step.step, step.state, step.detail))
        };
        let order = [
            ActionId::QuarantineRole,
            ActionId::RecycleEnvironments,
            ActionId::ZeroConcurrency,
            ActionId::DisableEventSources,
        ];
        let times = order.map(undone);
        assert!(times.is_sorted(), "{order:?} at {times:?}");
    });
}

#[test]
fn what_piled_up_and_what_was_lost_is_told_to_whoever_releases() {
    in_the_house(async |house| {
        let victim = Victim::set_up(house.aws, &random_hex(6), "").await.unwrap();
        let id = victim.role.incident().unwrap();
        let request = json!({"role": victim.role.name, "functions": [victim.function_arn]});
        house.contain_wholly(&id, request).await.unwrap();
        for n in 0..3 {
            let send = house.aws.sqs.send_message().queue_url(&victim.goods.queue_url);
            send.message_body(format!(r#"{{"order": {n}}}"#)).send().await.unwrap();
        }
        let book = house.book().await;
        let steps = book.steps_of(&id);
        let shut = steps.iter().find(|step| step.action == ActionId::ZeroConcurrency).unwrap().applied_at.unwrap();
        let answer = house.release(json!({"incident_id": id})).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(&format!("about 3 messages wait for `{}`", victim.function)), "{answer}");
        let lost = format!("asynchronous events to `{}` since {shut} were refused and are lost", victim.function);
        assert!(message.contains(&lost), "{answer}");
    });
}

#[test]
fn paused_in_a_storm_and_released_since() {
    in_the_house(async |house| {
        let suffix = random_hex(6);
        let role = async |name: &str| {
            Role::create(house.aws, &format!("storm-{name}-{suffix}"), "/firebreak-drill/").await.unwrap()
        };
        let of = |role: &Role| role.incident().unwrap();
        let earlier = role("earlier").await;
        house.contain_wholly(&of(&earlier), json!({"role": earlier.name})).await.unwrap();
        let stormed = [role("a").await, role("b").await, role("c").await];
        let late = [role("d").await, role("e").await];
        let user = User::create(house.aws, &format!("storm-user-{suffix}"), "/team/").await.unwrap();
        let before = house.look().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let since = firebreak_shared::clock::now();

        // The storm: findings, and somebody who contains by hand.
        let mut stolen = Vec::new();
        for role in &stormed {
            let (finding, session) = house.finding(role).await;
            stolen.push(session);
            house.send(&finding).await;
        }
        house.contain_wholly(&user.incident().unwrap(), json!({"user": user.name})).await.unwrap();
        for role in &stormed {
            assert_eq!(house.until_contained(&of(role)).await, Vec::<String>::new());
        }

        // It is the wrong thing: no more of it, and all of it back.
        assert_eq!(house.pause().await["outcome"], "paused");
        let contained = house.look().await;
        for role in &late {
            house.send(&house.finding(role).await.0).await;
            assert_eq!(house.state(&of(role)).await, Some(IncidentState::AwaitingApproval));
        }
        let refused = house.contain(json!({"role": late[0].name})).await;
        assert!(refused["errorMessage"].as_str().unwrap().contains("paused"), "{refused}");
        assert_eq!(contained.changes(&house.look().await), Vec::<String>::new(), "nothing new after the pause");

        let listed = house.list().await;
        let shown = entry(&listed, &of(&stormed[0])).unwrap();
        assert_eq!(
            (&shown["principal"], &shown["state"]),
            (&json!(format!("role/{}", stormed[0].name)), &json!("ordered"))
        );
        assert_eq!(shown["standing"], json!([format!("quarantine-role@role/{} applied", stormed[0].name)]));
        assert_eq!(entry(&listed, &of(&late[0])).unwrap()["state"], "awaiting_approval");
        assert!(entry(&listed, &of(&late[0])).unwrap()["standing"].is_null(), "{listed}");

        // Drills are released only when they are asked for.
        let released = house.release(json!({"since": since})).await;
        let ids: Vec<_> = released["incidents"].as_array().unwrap().iter().map(|one| &one["incident_id"]).collect();
        assert_eq!(ids, [&json!(user.incident().unwrap())], "{released}");
        assert!(released["message"].as_str().unwrap().contains("wait for approval"), "{released}");
        // One of them cannot be gone by: the others are released all the same.
        let forged = house.forge(&of(&stormed[1])).await;
        let partly = house.release(json!({"since": since, "drills": true})).await;
        assert_eq!(partly["errorType"], "Transient", "{partly}");
        let told = partly["errorMessage"].as_str().unwrap();
        assert!(told.starts_with("2 of 3 incidents are released"), "{told}");
        assert!(told.contains(of(&stormed[1]).as_str()) && !told.contains(of(&stormed[0]).as_str()), "{told}");
        house.put_back(forged).await;
        let rest = house.release(json!({"since": since, "drills": true})).await;
        let ids: Vec<_> = rest["incidents"].as_array().unwrap().iter().map(|one| &one["incident_id"]).collect();
        assert_eq!(ids, [&json!(of(&stormed[1]))], "{rest}");

        let mut expected: Vec<String> =
            stormed.iter().map(|role| format!("`role/{} inline policy {REVOCATION}` is new", role.name)).collect();
        expected.push(format!("`user/{} inline policy {REVOCATION}` is new", user.name));
        assert_eq!(before.changes(&house.look().await), expected);
        for session in stolen {
            house.aws.as_identity(session).s3.list_buckets().send().await.unwrap_err();
        }
        assert_eq!(house.state(&of(&earlier)).await, Some(IncidentState::Ordered), "what was ordered before stays");
        let listed = house.list().await;
        assert!(entry(&listed, &of(&earlier)).is_some() && entry(&listed, &of(&stormed[0])).is_none(), "{listed}");
        let again = house.release(json!({"since": since, "drills": true})).await;
        assert!(again["message"].as_str().unwrap().starts_with("0 incidents are released"), "{again}");
        assert_eq!(house.resume().await["outcome"], "resumed");
    });
}

#[test]
fn the_same_finding_again_reopens_on_new_activity_only() {
    in_the_house(async |house| {
        let role = Role::create(house.aws, &format!("again-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let (mut finding, _) = house.finding(&role).await;
        let id = role.incident().unwrap();
        let before = house.look().await;
        house.send(&finding).await;
        assert_eq!(house.until_contained(&id).await, Vec::<String>::new());
        assert_eq!(house.release(json!({"incident_id": id})).await["outcome"], "released");
        let released = house.look().await;
        assert_eq!(before.changes(&released), [format!("`role/{} inline policy {REVOCATION}` is new", role.name)]);

        // GuardDuty sends the same id again, with a new `updatedAt`, for activity from before the release.
        let later =
            |seconds: i64| json!((firebreak_shared::clock::now() + SignedDuration::from_secs(seconds)).to_string());
        finding["updatedAt"] = later(1);
        house.send(&finding).await;
        assert_eq!(house.state(&id).await, Some(IncidentState::Released), "old activity");
        assert_eq!(released.changes(&house.look().await), Vec::<String>::new(), "nobody is contained again");

        finding["updatedAt"] = later(60);
        finding["service"]["eventLastSeen"] = later(30);
        house.send(&finding).await;
        assert_eq!(house.until_contained(&id).await, Vec::<String>::new());
        let incident = house.incident(&id).await.unwrap();
        assert_eq!((incident.state, incident.episode), (IncidentState::Ordered, 2), "new activity");
        assert_eq!(house.release(json!({"incident_id": id})).await["outcome"], "released");
        assert_eq!(released.without_times().changes(&house.look().await.without_times()), Vec::<String>::new());
    });
}
