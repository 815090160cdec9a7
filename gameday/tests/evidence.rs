//! Evidence against a real wire: killed at any call, cut off by its time, over more logs than one object holds, it ends as
//! an undisturbed collection ends.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "evidence/insights.rs"]
mod insights;
#[path = "evidence/keys.rs"]
mod keys;
#[path = "evidence/retention.rs"]
mod retention;
#[path = "evidence/runs.rs"]
mod runs;

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::time::Duration;

use aws_sdk_cloudwatchlogs::types::{InputLogEvent, LogGroupClass};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{Environment, FunctionCode, LayerVersionContentInput, Runtime};
use common::mortal::{Kill, Mortal};
use common::table;
use firebreak_model::action::Response;
use firebreak_model::evidence::{Codec, Manifest, Purpose};
use firebreak_model::ids::{FunctionArn, IncidentId, sha256_hex};
use firebreak_model::ledger::{Incident, Origin, Record};
use firebreak_model::principal::Principal;
use firebreak_shared::clock;
use firebreak_shared::evidence::snapshot::Snapshots;
use firebreak_shared::evidence::store::Access;
use firebreak_shared::evidence::{Limits, Settings};
use firebreak_shared::failure::Failure;
use firebreak_shared::ledger::{Ledger, Seal};
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::emulator::Emulator;
use gameday::scene::Role;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const GROUP: &str = "/aws/lambda/orders";

/// The account that all is played in: a role, and the logs of a function that is gone.
struct House {
    _emulator: Emulator,
    aws: Aws,
    signing_key: String,
    key: String,
    opened: Timestamp,
}

/// How old a house may grow, of those that are played in one after the other.
const YOUNG: SignedDuration = SignedDuration::from_mins(2);

/// What lies somewhere, each under its key.
type Left = BTreeMap<String, String>;

/// A ledger, a bucket and a queue of its own.
struct Case<'a> {
    house: &'a House,
    name: String,
    queue: String,
    id: IncidentId,
    limits: Limits,
}

fn order(id: &IncidentId, follow_up: bool) -> Value {
    json!({"detail-type": "Containment Ordered", "detail": {"incident_id": id, "follow_up": follow_up}})
}

fn ample() -> Timestamp {
    clock::now() + SignedDuration::from_hours(1)
}

impl House {
    async fn set_up() -> Self {
        Self::of_class(LogGroupClass::Standard).await
    }

    /// With a log of that class.
    async fn of_class(class: LogGroupClass) -> Self {
        let emulator = Emulator::start(&common::settings().emulator).await.unwrap();
        let aws = Aws::operator(emulator.endpoint(), REGION);
        // A session that is named after the function makes some calls, which are refused.
        let role = Role::create(&aws, "orders", "/").await.unwrap();
        let session = aws.as_identity(role.steal_session(&aws, "orders").await.unwrap());
        for _ in 0..3 {
            assert!(session.iam.create_user().user_name("backdoor").send().await.is_err());
        }
        // CloudTrail has whole seconds, and a run asks up to the one in which it begins.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        aws.logs.create_log_group().log_group_name(GROUP).log_group_class(class).send().await.unwrap();
        let create = aws.kms.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::SignVerify);
        let signing_key = create.send().await.unwrap().key_metadata.unwrap().arn.unwrap();
        let key = aws.kms.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
        Self { _emulator: emulator, aws, signing_key, key, opened: clock::now() }
    }

    /// A function with two versions that differ, an alias for the first of them, a layer, and a secret.
    async fn with_a_function(self) -> Self {
        let lambda = &self.aws.lambda;
        let zip = |text: &str| Blob::new(gameday::archive::of_one_file("index.py", text).unwrap());
        let content = LayerVersionContentInput::builder().zip_file(zip("TOOLS = 7")).build();
        let layer = lambda.publish_layer_version().layer_name("tools").content(content).send().await.unwrap();
        let variables = HashMap::from([("DB_PASSWORD".to_owned(), "hunter2".to_owned())]);
        let create = lambda.create_function().function_name("orders").runtime(Runtime::Python312);
        let create = create.handler("index.handler").role(format!("arn:aws:iam::{ACCOUNT}:role/orders"));
        let create = create.environment(Environment::builder().set_variables(Some(variables)).build());
        let create = create.layers(layer.layer_version_arn.unwrap());
        create.code(FunctionCode::builder().zip_file(zip("OLD = 1")).build()).send().await.unwrap();
        gameday::scene::until_active(&self.aws, "orders").await.unwrap();
        let version = lambda.publish_version().function_name("orders").send().await.unwrap().version.unwrap();
        lambda.create_alias().function_name("orders").name("live").function_version(version).send().await.unwrap();
        lambda.update_function_code().function_name("orders").zip_file(zip("NEW = 2")).send().await.unwrap();
        gameday::scene::until_active(&self.aws, "orders").await.unwrap();
        self
    }

    /// Writes lines into a stream of the log, so many bytes each.
    async fn log(&self, stream: &str, lines: usize, bytes: usize, text: impl Fn(usize) -> String) {
        self.log_at(clock::now(), stream, lines, bytes, text).await;
    }

    /// The same, stamped by a clock that says so.
    async fn log_at(&self, at: Timestamp, stream: &str, lines: usize, bytes: usize, text: impl Fn(usize) -> String) {
        let create = self.aws.logs.create_log_stream().log_group_name(GROUP).log_stream_name(stream);
        create.send().await.unwrap();
        let now = at.as_millisecond();
        let each: Vec<InputLogEvent> = (0..lines)
            .map(|n| {
                let mut message = format!("{stream} {n} ");
                while message.len() < bytes {
                    message.push_str(&text(n + message.len()));
                }
                message.truncate(bytes.max(40));
                InputLogEvent::builder().timestamp(now).message(message).build().unwrap()
            })
            .collect();
        for batch in each.chunks((900_000 / bytes.max(1)).clamp(1, 5_000)) {
            let put = self.aws.logs.put_log_events().log_group_name(GROUP).log_stream_name(stream);
            put.set_log_events(Some(batch.to_vec())).send().await.unwrap();
        }
    }

    async fn case(&self, name: &str, limits: Limits) -> Case<'_> {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = name.to_lowercase().trim_matches('-').to_owned();
        table::create(&self.aws, &name).await;
        self.aws.create_bucket(&name).await.unwrap();
        let queue = self.aws.sqs.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
        let principal = Principal::from_arn(&format!("arn:aws:iam::{ACCOUNT}:role/orders")).unwrap();
        let functions: Vec<FunctionArn> =
            vec![format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:orders").parse().unwrap()];
        let origin = Origin::Person {
            requested_by: "ana".to_owned(),
            reason: "a test".to_owned(),
            invocation: "invocation".to_owned(),
        };
        let incident = Incident::ordered(principal, functions, vec![Response::Snapshot], origin, self.opened);
        let id = incident.incident_id.clone();
        let record = Record::Incident(Box::new(incident));
        let mut item: std::collections::HashMap<_, _> = serde_dynamo::to_item(&record).unwrap();
        let (pk, sk) = record.keys();
        for (name, value) in [("pk", pk), ("sk", sk)] {
            item.insert(name.to_owned(), aws_sdk_dynamodb::types::AttributeValue::S(value));
        }
        self.aws.dynamodb.put_item().table_name(&name).set_item(Some(item)).send().await.unwrap();
        Case { house: self, name, queue, id, limits }
    }
}

impl Case<'_> {
    fn process(&self, wire: &Mortal) -> Snapshots {
        let config = wire.config(&self.house.aws.config);
        let settings = Settings {
            bucket: self.name.clone(),
            key_arn: self.house.key.clone(),
            access: Access::ReadBack,
            signing_key_arn: self.house.signing_key.clone(),
            queue_url: self.queue.clone(),
            codec: Codec::Zstd,
            follow_up: Duration::from_mins(15),
            regions: vec![REGION.parse().unwrap()],
            stack: "firebreak".to_owned(),
            revokes: true,
        };
        let ledger = Ledger::new(aws_sdk_dynamodb::Client::new(&config), self.name.clone(), Seal::none());
        Snapshots::new(config, settings, ledger, self.limits)
    }

    /// Invokes the function in a process of its own; `None` where it was killed. Answers what it says.
    async fn invoke(&self, wire: &Mortal, event: &Value, deadline: Timestamp) -> Option<Result<String, Failure>> {
        let process = self.process(wire);
        let deadline = std::time::SystemTime::from(deadline);
        let handled = wire.live(process.handle(event, deadline)).await?;
        Some(handled.map(|handled| json!(handled)["outcome"].as_str().unwrap_or("a batch").to_owned()))
    }

    async fn collect(&self, follow_up: bool) -> String {
        let said = self.invoke(&Mortal::undisturbed(), &order(&self.id, follow_up), ample()).await.unwrap();
        said.unwrap_or_else(|failure| panic!("{}: {failure}", self.name))
    }

    /// Messages of the queue that could be received now.
    async fn messages(&self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let receive = self.house.aws.sqs.receive_message().queue_url(&self.queue).max_number_of_messages(10);
            let answer = receive.send().await.unwrap();
            if answer.messages().is_empty() {
                return all;
            }
            for message in answer.messages() {
                all.push(serde_json::from_str(message.body().unwrap()).unwrap());
                let delete = self.house.aws.sqs.delete_message().queue_url(&self.queue);
                delete.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
            }
        }
    }

    async fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let s3 = &self.house.aws.s3;
        let mut objects = BTreeMap::new();
        let mut pages = s3.list_objects_v2().bucket(&self.name).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page.unwrap().contents() {
                let key = object.key().unwrap();
                let body = s3.get_object().bucket(&self.name).key(key).send().await.unwrap().body;
                objects.insert(key.to_owned(), body.collect().await.unwrap().to_vec());
            }
        }
        objects
    }

    async fn manifests(&self) -> Vec<(Manifest, String)> {
        let objects = self.objects().await;
        let manifests = objects.iter().filter(|(key, _)| key.ends_with("/manifest.json"));
        manifests.map(|(_, body)| (serde_json::from_slice(body).unwrap(), sha256_hex(body))).collect()
    }

    /// What lies in the bucket and in the ledger, but for times and what follows from them.
    async fn left(&self) -> (Left, Left) {
        let objects = self.objects().await.into_iter().map(|(key, body)| {
            let told = match key.rsplit('/').next().unwrap() {
                "manifest.json" => {
                    let mut manifest: Value = serde_json::from_slice(&body).unwrap();
                    for entry in manifest["entries"].as_array_mut().unwrap() {
                        without_window(entry);
                    }
                    // The digest of a manifest follows from the times in it.
                    if let Some(previous) = manifest.pointer_mut("/previous/sha256") {
                        *previous = json!("a digest");
                    }
                    gameday::world::without_times(&manifest.to_string())
                }
                "manifest.json.sig" => "a signature".to_owned(),
                "report.json" => {
                    let mut report: Value = serde_json::from_slice(&body).unwrap();
                    report["gist"] = json!("a digest");
                    for run in report["evidence"].as_array_mut().unwrap() {
                        run["sha256"] = json!("a digest");
                        let objects = run["objects"].as_array_mut().unwrap();
                        objects.retain(|one| HAVE_TIMES.iter().all(|of| !one["key"].as_str().unwrap().contains(of)));
                    }
                    gameday::world::without_times(&report.to_string())
                }
                // They are made from the JSON.
                "report.md" | "report.html" => "the report".to_owned(),
                _ if key.contains("/ledger/") => ledger_lines(&body),
                _ if key.contains("/deeds/") => gameday::world::without_times(&unpacked(&body)),
                _ => sha256_hex(&body),
            };
            (key, told)
        });
        let objects = objects.collect();
        let mut records = table::records(&self.house.aws, &self.name).await;
        // The window, the digest of the manifest and the signature differ with the time.
        records.retain(|key, _| key.contains("#unit#") || key.contains(" unit#"));
        let cleaned = records.into_iter().map(|(key, record)| {
            let mut record: Value = serde_json::from_str(&record).unwrap();
            let mut found: Value = serde_json::from_str(record["found"].as_str().unwrap()).unwrap();
            if let Some(entry) = found.get_mut("entry") {
                without_window(entry);
            }
            record["found"] = found;
            (key, record.to_string())
        });
        (objects, cleaned.collect())
    }
}

fn is_of(key: &str, extension: &str) -> bool {
    std::path::Path::new(key).extension().is_some_and(|found| found == extension)
}

fn unpacked(body: &[u8]) -> String {
    let mut text = String::new();
    zstd::stream::read::Decoder::new(body).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Where objects lie that have times in them: what the ledger held, up to when CloudTrail was complete, the report.
const HAVE_TIMES: [&str; 3] = ["/ledger/", "/deeds/", "/report/"];

/// What the ledger held, without the times, and without the record of the collection itself: a kill before that is written
/// leaves it to the end.
fn ledger_lines(body: &[u8]) -> String {
    let text = unpacked(body);
    let others = text.lines().filter(|line| !line.contains("step#snapshot-logs"));
    others.map(gameday::world::without_times).collect::<Vec<_>>().join("\n")
}

/// An object's entry without what differs with the time: the window that it was asked for, and all of what has times in it.
fn without_window(entry: &mut Value) {
    if HAVE_TIMES.iter().any(|of| entry["key"].as_str().is_some_and(|key| key.contains(of))) {
        *entry = json!(entry["key"]);
        return;
    }
    for source in entry.get_mut("sources").and_then(Value::as_array_mut).into_iter().flatten() {
        let parameters = source["call"]["parameters"].as_object_mut().unwrap();
        parameters.retain(|name, _| {
            !["startTime", "endTime", "queryString", "queries", "bytesScanned"].contains(&name.as_str())
        });
    }
}

/// Objects end with each page, and nothing is waited for.
fn page_by_page() -> Limits {
    let none = Duration::ZERO;
    Limits { object_bytes: 1, pace: none, events: none, queries: none, poll: none, ..Limits::default() }
}

/// Plays a collection in a case of that name, at first by a process that may be killed. Answers what it leaves, and whether
/// that process lived.
async fn played(case: &Case<'_>, follow_up: bool, first: Option<&Mortal>) -> ((Left, Left), bool) {
    if follow_up {
        assert_eq!(case.collect(false).await, "collected");
    }
    let mut lived = true;
    if let Some(process) = first {
        lived = case.invoke(process, &order(&case.id, follow_up), ample()).await.is_some();
    }
    let said = case.collect(follow_up).await;
    assert!(["collected", "collected before"].contains(&said.as_str()), "{}: {said}", case.name);
    assert_eq!(case.collect(follow_up).await, "collected before", "{}", case.name);
    (case.left().await, lived)
}

/// In one house after the other: a follow-up has what CloudTrail saw in the five minutes before the end of the run before it,
/// so that none may grow that old.
async fn killed_at_any_call(set_up: impl AsyncFn() -> House, follow_up: bool, limits: Limits) {
    let play = async |house: &House, kill: Option<Kill>| {
        let case = house.case(&format!("{follow_up} {kill:?}"), limits).await;
        let process = kill.map(Mortal::killed);
        played(&case, follow_up, process.as_ref()).await
    };
    let mut killed = 0;
    let mut kills = (0..200).flat_map(Kill::at);
    loop {
        let house = set_up().await;
        let (whole, _) = play(&house, None).await;
        assert!(whole.0.len() > 5, "{:?}", whole.0.keys());
        while clock::now().duration_since(house.opened) < YOUNG {
            let Some(kill) = kills.next() else { panic!("more than 200 calls") };
            let (left, lived) = play(&house, Some(kill)).await;
            assert_eq!(table::differences(&whole.0, &left.0), Vec::<String>::new(), "the bucket, {kill:?}");
            assert_eq!(table::differences(&whole.1, &left.1), Vec::<String>::new(), "the ledger, {kill:?}");
            if lived {
                assert!(killed > 30, "it was killed {killed} times");
                return;
            }
            killed += 1;
        }
    }
}

#[tokio::test]
async fn a_collection_that_is_killed_at_any_call_ends_with_the_same_objects() {
    let set_up = async || {
        let house = House::set_up().await;
        house.log("one", 10, 200_000, |n| format!("line {n} ")).await;
        house.log("two", 3, 100, |n| format!("line {n} ")).await;
        house
    };
    killed_at_any_call(set_up, false, page_by_page()).await;
}

#[tokio::test]
async fn a_function_that_is_collected_and_killed_at_any_call_ends_with_the_same_objects() {
    killed_at_any_call(async || House::set_up().await.with_a_function().await, false, Limits::default()).await;
}

#[tokio::test]
async fn the_code_of_each_version_and_layer_is_kept_as_lambda_has_it() {
    let house = House::set_up().await.with_a_function().await;
    let case = house.case("code", Limits::default()).await;
    assert_eq!(case.collect(false).await, "collected");
    let (manifest, _) = case.manifests().await.remove(0);
    let lambda = |gap: &&firebreak_model::evidence::Gap| gap.source.api.starts_with("lambda:");
    assert_eq!(manifest.gaps.iter().filter(lambda).count(), 0, "{:?}", manifest.gaps);
    let objects = case.objects().await;
    let mut packages = Vec::new();
    for entry in manifest.entries.iter().filter(|entry| is_of(&entry.key, "zip")) {
        let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&objects[&entry.key])).unwrap();
        let mut text = String::new();
        zip.by_name("index.py").unwrap().read_to_string(&mut text).unwrap();
        packages.push((entry.what.rsplit(':').next().unwrap().trim().to_owned(), text));
    }
    packages.sort();
    let wanted = [("$LATEST", "NEW = 2"), ("1", "OLD = 1"), ("1", "TOOLS = 7")];
    assert_eq!(packages, wanted.map(|(of, text)| (of.to_owned(), text.to_owned())));
    let holding = objects.iter().filter(|(key, body)| is_of(key, "zst") && unpacked(body).contains("hunter2"));
    let holding: Vec<&String> = holding.map(|(key, _)| key).collect();
    assert!(holding.len() == 1 && holding[0].contains(".secrets."), "{holding:?}");
}

#[tokio::test]
async fn a_follow_up_that_is_killed_at_any_call_ends_with_the_same_objects() {
    let set_up = async || {
        let house = House::set_up().await;
        house.log("one", 3, 100, |n| format!("line {n} ")).await;
        house
    };
    killed_at_any_call(set_up, true, page_by_page()).await;
}
