//! Recycling over the real wire: what is behind aliases and provisioned is replaced too, wherever the process is killed,
//! and everything is put back that can be.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_iam::error::ProvideErrorMetadata;
use aws_sdk_lambda::types::AliasRoutingConfiguration;
use common::mortal::{Kill, Mortal};
use firebreak_model::action::{ActionId, Response};
use firebreak_model::ledger::{Incident, IncidentState, Origin, ReleaseOrder};
use firebreak_model::plan::{Step, Target};
use firebreak_model::principal::Principal;
use firebreak_shared::action::{Action, ActionError, Order, Reverted, Verified};
use firebreak_shared::actions::RecycleEnvironments;
use firebreak_shared::clock;
use gameday::aws::{Aws, REGION};
use gameday::emulator::Emulator;
use gameday::scene::{self, Victim};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A function whose alias `live` leads to a version that is what `$LATEST` is, with concurrency provisioned.
struct Bench {
    _emulator: Emulator,
    aws: Aws,
    victim: Victim,
    version: String,
}

/// What leads to environments, and what is published.
#[derive(Debug, Clone, PartialEq)]
struct Doors {
    description: String,
    aliases: BTreeMap<String, String>,
    provisioned: BTreeMap<String, i32>,
    versions: Vec<String>,
}

impl Bench {
    async fn set_up() -> Self {
        let emulator = Emulator::start(&common::settings().emulator).await.unwrap();
        let aws = Aws::operator(emulator.endpoint(), REGION);
        let victim = Victim::set_up(&aws, "bench", "").await.unwrap();
        let version = scene::publish(&aws, &victim.function).await.unwrap();
        let bench = Self { _emulator: emulator, aws, victim, version };
        bench.alias("live", &bench.version, &[]).await;
        bench.provision("live", 2).await.unwrap();
        bench
    }

    async fn alias(&self, name: &str, version: &str, weights: &[(&str, f64)]) {
        let weights = weights.iter().map(|(of, weight)| ((*of).to_owned(), *weight)).collect();
        let routing = AliasRoutingConfiguration::builder().set_additional_version_weights(Some(weights)).build();
        let create = self.aws.lambda.create_alias().function_name(&self.victim.function).name(name);
        create.function_version(version).routing_config(routing).send().await.unwrap();
    }

    async fn provision(&self, qualifier: &str, figure: i32) -> Result<(), String> {
        let put = self.aws.lambda.put_provisioned_concurrency_config().function_name(&self.victim.function);
        let put = put.qualifier(qualifier).provisioned_concurrent_executions(figure).send().await;
        put.map(|_| ()).map_err(|error| error.message().unwrap_or_default().to_owned())
    }

    /// Another configuration for `$LATEST`, published.
    async fn publish_another(&self) -> String {
        let update = self.aws.lambda.update_function_configuration().function_name(&self.victim.function);
        update.timeout(16).send().await.unwrap();
        scene::publish(&self.aws, &self.victim.function).await.unwrap()
    }

    async fn doors(&self) -> Doors {
        let (lambda, function) = (&self.aws.lambda, &self.victim.function);
        scene::until_updated(&self.aws, function).await.unwrap();
        let configuration = lambda.get_function_configuration().function_name(function).send().await.unwrap();
        let aliases = lambda.list_aliases().function_name(function).send().await.unwrap();
        let provisioned = lambda.list_provisioned_concurrency_configs().function_name(function).send().await.unwrap();
        let versions = lambda.list_versions_by_function().function_name(function).send().await.unwrap();
        Doors {
            description: configuration.description().unwrap_or_default().to_owned(),
            aliases: (aliases.aliases().iter())
                .map(|alias| {
                    let leads = format!("{} {:?}", alias.function_version().unwrap(), alias.routing_config());
                    (alias.name().unwrap().to_owned(), leads)
                })
                .collect(),
            provisioned: (provisioned.provisioned_concurrency_configs().iter())
                .map(|one| {
                    let of = one.function_arn().unwrap().rsplit(':').next().unwrap().to_owned();
                    (of, one.requested_provisioned_concurrent_executions().unwrap())
                })
                .collect(),
            versions: versions.versions().iter().map(|version| version.version().unwrap().to_owned()).collect(),
        }
    }

    /// An incident that was ordered long enough ago, in an episode of its own.
    fn incident(&self) -> (Incident, Step) {
        static EPISODES: AtomicUsize = AtomicUsize::new(1);
        let function = self.victim.function_arn.parse().unwrap();
        let principal = Principal::from_arn(&self.victim.role.arn).unwrap();
        let origin = Origin::Person { requested_by: "ana".into(), reason: "r".into(), invocation: "i".into() };
        let at = clock::now() - SignedDuration::from_mins(3);
        let responses = vec![Response::Revoke, Response::Recycle];
        let mut incident = Incident::ordered(principal, vec![function], responses, origin, at);
        incident.episode = u32::try_from(EPISODES.fetch_add(1, Ordering::SeqCst)).unwrap();
        let step =
            Step { action: ActionId::RecycleEnvironments, target: Target::Function(incident.functions[0].clone()) };
        (incident, step)
    }

    /// When the environment began that serves a call.
    async fn began(&self, qualifier: Option<&str>) -> Timestamp {
        self.victim.work_as(&self.aws, qualifier).await.unwrap()
    }
}

fn action(config: &SdkConfig) -> RecycleEnvironments {
    RecycleEnvironments::new(aws_sdk_lambda::Client::new(config), "firebreak".to_owned())
}

fn now((incident, step): &(Incident, Step)) -> Order<'_> {
    Order { incident, step, now: clock::now() }
}

/// When the environments from before are gone.
fn much_later(ordered: &(Incident, Step)) -> Order<'_> {
    Order { now: clock::now() + SignedDuration::from_hours(13), ..now(ordered) }
}

/// Reads back until it is in force, or until it is told that it cannot be.
async fn settled(action: &RecycleEnvironments, order: Order<'_>, prior: &Value) -> Result<(), ActionError> {
    let mut last = Verified::InForce;
    for _ in 0..80 {
        last = action.verify(order, prior).await?;
        if last == Verified::InForce {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come in force: {last:?}")
}

#[tokio::test]
async fn what_is_behind_an_alias_and_what_is_provisioned_begins_anew_and_leads_back_once_the_old_is_gone() {
    let bench = Bench::set_up().await;
    let qualifiers = [None, Some("live"), Some(bench.version.as_str())];
    for qualifier in qualifiers {
        bench.began(qualifier).await;
    }
    let before = bench.doors().await;
    let (ordered, recycle) = (bench.incident(), action(&bench.aws.config));
    let recycled_at = clock::now();
    let prior = recycle.observe(now(&ordered)).await.unwrap();
    recycle.apply(now(&ordered), &prior).await.unwrap();
    settled(&recycle, now(&ordered), &prior).await.unwrap();
    let recycled = bench.doors().await;
    let twin = recycled.versions.last().unwrap().clone();
    assert_eq!(recycled.versions.len(), before.versions.len() + 1);
    assert_eq!(recycled.aliases["live"], format!("{twin} None"));
    assert_eq!(recycled.provisioned, before.provisioned);
    for qualifier in [None, Some("live"), Some(twin.as_str())] {
        assert!(bench.began(qualifier).await > recycled_at, "{qualifier:?} is served as before");
    }
    // Nobody replaces those of a version: they are what the alias was led away from.
    assert!(bench.began(Some(&bench.version)).await < recycled_at);

    recycle.apply(now(&ordered), &prior).await.unwrap();
    assert_eq!(bench.doors().await, recycled, "applied twice");

    let Reverted::LeftAlone(left) = recycle.revert(now(&ordered), &prior).await.unwrap() else {
        panic!("the alias is led back to environments with dead credentials");
    };
    assert!(left.contains(&format!("alias `live` (version {twin}) is not led back to version {}", bench.version)));
    let kept = Doors { description: before.description.clone(), ..recycled.clone() };
    assert_eq!(bench.doors().await, kept);
    assert_eq!(recycle.revert(much_later(&ordered), &prior).await.unwrap(), Reverted::Restored);
    assert_eq!(bench.doors().await, Doors { versions: recycled.versions, ..before.clone() });
    assert_eq!(recycle.revert(much_later(&ordered), &prior).await.unwrap(), Reverted::Restored);
}

#[tokio::test]
async fn what_is_provisioned_for_a_version_is_put_again_and_a_version_that_is_not_latest_is_named() {
    let bench = Bench::set_up().await;
    let other = bench.publish_another().await;
    bench.alias("canary", &other, &[(&bench.version, 0.25)]).await;
    bench.provision(&bench.version, 1).await.unwrap();
    assert!(bench.provision("canary", 1).await.unwrap_err().contains("weights"));
    bench.began(Some("live")).await;
    bench.began(Some(&bench.version)).await;
    // LastModified is told to the second.
    let before = bench.doors().await;
    let (ordered, recycle) = (bench.incident(), action(&bench.aws.config));
    let due = Timestamp::from_second(clock::now().as_second() + 1).unwrap();
    let ordered = {
        let (incident, step) = ordered;
        // Everything that is provisioned so far is from before.
        let at = due - SignedDuration::from_secs(70);
        (Incident { opened_at: at, ordered_at: Some(at), ..incident }, step)
    };
    while clock::now() < due {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let recycled_at = clock::now();
    let prior = recycle.observe(now(&ordered)).await.unwrap();
    recycle.apply(now(&ordered), &prior).await.unwrap();
    let error = settled(&recycle, now(&ordered), &prior).await.unwrap_err();
    assert!(matches!(error, ActionError::Withheld(_)), "{error}");
    let twin = bench.doors().await.versions.last().unwrap().clone();
    // `live` leads to a version that is not `$LATEST` any more, and so does a quarter of `canary`.
    for named in [
        format!("alias `live` (version {})", bench.version),
        format!("alias `canary` (version {twin}, {})", bench.version),
    ] {
        assert!(error.to_string().contains(&named), "{named}: {error}");
    }
    for qualifier in ["live", &bench.version, "canary"] {
        assert!(bench.began(Some(qualifier)).await > recycled_at, "{qualifier} is served as before");
    }
    let recycled = bench.doors().await;
    assert_eq!(recycled.provisioned, before.provisioned);
    assert_eq!(recycle.revert(much_later(&ordered), &prior).await.unwrap(), Reverted::Restored);
    assert_eq!(bench.doors().await, Doors { versions: recycled.versions, ..before });
}

#[tokio::test]
async fn killed_at_any_call_the_next_try_recycles_the_rest_and_everything_leads_back() {
    let bench = Bench::set_up().await;
    let before = bench.doors().await;
    let calls = {
        let (ordered, process) = (bench.incident(), Mortal::undisturbed());
        let recycle = action(&process.config(&bench.aws.config));
        let prior = recycle.observe(now(&ordered)).await.unwrap();
        let before_it = process.calls();
        recycle.apply(now(&ordered), &prior).await.unwrap();
        let calls = process.calls() - before_it;
        settled(&recycle, now(&ordered), &prior).await.unwrap();
        assert_eq!(recycle.revert(much_later(&ordered), &prior).await.unwrap(), Reverted::Restored);
        calls
    };
    assert!(calls > 6, "it makes {calls} calls");
    let whole = action(&bench.aws.config);
    for kill in (0..calls).flat_map(Kill::at) {
        let ordered = bench.incident();
        let versions = bench.doors().await.versions.len();
        let prior = whole.observe(now(&ordered)).await.unwrap();
        let process = Mortal::killed(kill);
        let dying = action(&process.config(&bench.aws.config));
        let (Kill::Before(at) | Kill::After(at)) = kill;
        let lived = process.live(dying.apply(now(&ordered), &prior)).await.is_some();
        // How often it asks whether an update is over differs from run to run.
        assert!(!lived || process.calls() <= at, "{kill:?}");
        let again = async || {
            for _ in 0..40 {
                match whole.apply(now(&ordered), &prior).await {
                    Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(50)).await,
                    ended => return ended,
                }
            }
            panic!("{kill:?}: it stays busy")
        };
        again().await.unwrap();
        settled(&whole, now(&ordered), &prior).await.unwrap();
        let doors = bench.doors().await;
        assert_eq!(doors.versions.len(), versions + 1, "{kill:?}: {doors:?}");
        assert_eq!(doors.provisioned, before.provisioned, "{kill:?}");
        assert_eq!(whole.revert(much_later(&ordered), &prior).await.unwrap(), Reverted::Restored, "{kill:?}");
        let restored = bench.doors().await;
        assert_eq!(restored, Doors { versions: restored.versions.clone(), ..before.clone() }, "{kill:?}");
    }
}

#[tokio::test]
async fn a_release_leads_on_what_the_containment_led_to_a_twin_and_leaves_every_other_alias_where_it_is() {
    let bench = Bench::set_up().await;
    let latest = bench.doors().await;
    let ordered = bench.incident();
    let recycle = action(&bench.aws.config);
    let prior = recycle.observe(now(&ordered)).await.unwrap();
    recycle.apply(now(&ordered), &prior).await.unwrap();
    settled(&recycle, now(&ordered), &prior).await.unwrap();
    bench.alias("other", &bench.version, &[]).await;
    for qualifier in ["live", "other"] {
        bench.began(Some(qualifier)).await;
    }
    let released_at = clock::now();
    let release = ReleaseOrder {
        at: released_at,
        by: "ana".into(),
        reason: "over".into(),
        invocation: "i".into(),
        reactivate_keys: Vec::new(),
        left_alone: Vec::new(),
        from: None,
    };
    let (incident, step) = ordered;
    let released = (Incident { state: IncidentState::Releasing, release: Some(release), ..incident }, step);
    assert!(matches!(recycle.revert(now(&released), &prior).await.unwrap(), Reverted::LeftAlone(_)));
    let prior = recycle.observe(now(&released)).await.unwrap();
    assert_eq!(prior.get("aliases"), None);
    recycle.apply(now(&released), &prior).await.unwrap();
    let error = settled(&recycle, now(&released), &prior).await.unwrap_err();
    assert!(error.to_string().contains(&format!("alias `other` (version {})", bench.version)), "{error}");
    assert_eq!(recycle.revert(now(&released), &prior).await.unwrap(), Reverted::Restored);
    assert!(bench.began(None).await > released_at);
    assert!(bench.began(Some("live")).await > released_at);
    assert!(bench.began(Some("other")).await < released_at);
    let doors = bench.doors().await;
    assert_eq!(doors.description, latest.description);
    assert_eq!(doors.aliases["live"], format!("{} None", doors.versions.last().unwrap()));
}

#[tokio::test]
async fn whatever_calls_a_version_by_its_number_is_named() {
    let bench = Bench::set_up().await;
    let permit = bench.aws.lambda.add_permission().function_name(&bench.victim.function).qualifier(&bench.version);
    let permit = permit.statement_id("rule").action("lambda:InvokeFunction").principal("events.amazonaws.com");
    permit.send().await.unwrap();
    let (ordered, recycle) = (bench.incident(), action(&bench.aws.config));
    let prior = recycle.observe(now(&ordered)).await.unwrap();
    recycle.apply(now(&ordered), &prior).await.unwrap();
    let error = settled(&recycle, now(&ordered), &prior).await.unwrap_err();
    let named = format!("calls of version {} by its number", bench.version);
    assert!(error.to_string().contains(&named), "{error}");
    assert!(!error.to_string().contains("alias `"), "{error}");
    assert_eq!(prior["aliases"], json!([{"name": "live", "version": bench.version}]));
}

/// Played here, in a theatre of its own, while the others run: it waits for over a minute.
#[test]
fn healthy_function_lives_on() {
    common::play("healthy-function-lives-on");
}
