//! Every file in `events/`, as the model reads it and as the shipped playbook decides: one snapshot a file.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use firebreak_model::decision::Mode;
use firebreak_model::finding::Finding;
use firebreak_model::guard::Rails;
use firebreak_model::ids::Partition;
use firebreak_model::judge::{Course, Judge};
use firebreak_model::ledger::Record;
use firebreak_model::outcome;
use firebreak_model::plan::Plan;
use firebreak_model::playbook::Playbook;
use firebreak_model::principal::Home;
use firebreak_model::request::Request;
use firebreak_model::trigger::{self, Trigger};
use serde_json::{Map, Value, json};

const PLAYBOOK: &str = include_str!("../../../playbook.yaml");

fn events() -> Vec<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let mut files: Vec<PathBuf> = fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Firebreak, at home in the partition that the event comes from.
fn home(payload: &Value) -> Home {
    let region = payload.get("region").and_then(Value::as_str).unwrap_or("eu-west-1");
    let partition = match region.split('-').next() {
        Some("us") if region.starts_with("us-gov-") => Partition::AwsUsGov,
        Some("cn") => Partition::AwsCn,
        _ => Partition::Aws,
    };
    Home { partition, account: "111122223333".parse().unwrap() }
}

/// What becomes of a payload, by whichever function gets it.
fn read(payload: &Value) -> Value {
    if let Some(records) = payload.get("Records").and_then(Value::as_array) {
        return Value::Array(records.iter().map(record).collect());
    }
    if payload.get("source").and_then(Value::as_str) == Some(outcome::SOURCE) {
        return json!({"an outcome event; all that is taken from it": {"incident_id": outcome::incident_id(payload)}});
    }
    if trigger::is_scheduled(payload) {
        return json!("a tick of the schedule");
    }
    if trigger::is_deployed(payload) {
        return json!("a stack was deployed");
    }
    let home = home(payload);
    match trigger::read(payload, &home) {
        Trigger::Findings(findings, unread) => {
            let unread: Vec<_> = unread.iter().map(|malformed| json!({"malformed": malformed.reason})).collect();
            Value::Array(findings.iter().map(|finding| decided(finding, &home)).chain(unread).collect())
        }
        Trigger::Malformed(malformed) => json!({"malformed": malformed.reason}),
        Trigger::BadRequest(error) => json!({"refused": error.to_string()}),
        Trigger::Request(request) => requested(&request),
    }
}

/// A record of the ledger's stream, or a message of the queue.
fn record(record: &Value) -> Value {
    if let Some(body) = record.get("body").and_then(Value::as_str) {
        return json!({"message": read(&serde_json::from_str(body).unwrap())});
    }
    let image = |which: &str| {
        let image = record.pointer(&format!("/dynamodb/{which}"))?;
        Some(serde_json::from_value::<Record>(plain_item(image)).unwrap())
    };
    json!({"announces": outcome::outcomes(image("OldImage").as_ref(), image("NewImage").as_ref())})
}

/// DynamoDB's typed JSON, without its types.
fn plain_item(item: &Value) -> Value {
    Value::Object(
        item.as_object().unwrap().iter().map(|(key, value)| (key.clone(), plain(value))).collect::<Map<_, _>>(),
    )
}

fn plain(value: &Value) -> Value {
    let (kind, inner) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "N" => serde_json::from_str(inner.as_str().unwrap()).unwrap(),
        "L" => Value::Array(inner.as_array().unwrap().iter().map(plain).collect()),
        "M" => plain_item(inner),
        "NULL" => Value::Null,
        _ => inner.clone(),
    }
}

fn requested(request: &Request) -> Value {
    match request {
        Request::Contain(contain, asked) => {
            let playbook = Playbook::from_yaml(PLAYBOOK).unwrap();
            let response = contain.response.clone().unwrap_or_else(|| playbook.default_response().to_vec());
            let plan = Plan::of(&contain.principal.name, &contain.functions, &response);
            json!({
                "contain": contain.principal,
                "incident_id": contain.principal.incident_id(),
                "access_keys": contain.access_keys,
                "session_started": contain.session_started,
                "by": asked.by,
                "reason": asked.reason,
                "plan": steps(&plan),
            })
        }
        other => json!(format!("{other:?}")),
    }
}

fn decided(finding: &Finding, home: &Home) -> Value {
    let playbook = Playbook::from_yaml(PLAYBOOK).unwrap();
    let protected = &playbook.protected;
    let rails = Rails { home, stack: "firebreak", protected, deployers: &[], source: Some(finding.source) };
    let judge = Judge { playbook: &playbook, rails, ceiling: Mode::Enforce };
    let subjects: Vec<Value> = finding
        .subjects
        .iter()
        .map(|subject| {
            let judgement = judge.judge(finding, subject, None);
            let course = match &judgement.course {
                Course::Contain { principal, functions, .. } => json!({
                    "incident_id": principal.incident_id(),
                    "plan": steps(&Plan::of(&principal.name, functions, &judgement.ruling.response)),
                }),
                Course::LookUp(lookup) => json!({"look up": lookup.to_string()}),
                Course::ReadPath(principal) => json!({"read the path of": principal.name.to_string()}),
                Course::Note { reason, .. } => json!({"note": reason}),
            };
            json!({"subject": subject, "verdict": judgement.ruling.verdict, "course": course})
        })
        .collect();
    let mut finding = serde_json::to_value(finding).unwrap();
    finding.as_object_mut().unwrap().remove("subjects");
    json!({"finding": finding, "subjects": subjects})
}

fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{} by {}", step.key(), step.owner())).collect()
}

#[test]
fn every_event_is_read_and_decided_as_its_snapshot_says() {
    let files = events();
    assert!(!files.is_empty());
    for path in files {
        let payload: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_json_snapshot!(name(&path), read(&payload));
        });
    }
}

#[test]
fn no_snapshot_is_without_its_event() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let snapshots: BTreeSet<String> = fs::read_dir(place)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".snap")?.to_owned()))
        .collect();
    let events: BTreeSet<String> = events().iter().map(|path| name(path)).collect();
    assert_eq!(snapshots, events);
}

#[test]
fn there_is_an_event_for_every_way_in() {
    let names: Vec<String> = events().iter().map(|path| name(path)).collect();
    for way in [
        "guardduty-",
        "securityhub-imported-",
        "securityhub-custom-action",
        "securityhub-v2-",
        "cloudtrail-",
        "drill-",
        "request-",
        "outcome-",
        "stream-",
        "queue-",
        "schedule-",
    ] {
        assert!(names.iter().any(|name| name.starts_with(way)), "no event is named `{way}…`");
    }
    for kind in outcome::OutcomeKind::ALL {
        let wanted = format!("outcome-{}", kind.as_str().to_lowercase().replace(' ', "-"));
        assert!(names.contains(&wanted), "`{kind}` has no event `{wanted}`");
    }
}

#[test]
fn there_is_a_finding_of_every_family_and_of_every_format_in_every_partition() {
    let mut kinds = BTreeSet::new();
    let mut places = BTreeSet::new();
    for path in events() {
        let payload: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let home = home(&payload);
        if let Trigger::Findings(findings, _) = trigger::read(&payload, &home) {
            for finding in findings {
                places.insert((finding.format.as_str(), home.partition));
                kinds.extend(finding.resource_types);
            }
        }
    }
    for kind in [
        "AccessKey",
        "Lambda",
        "Instance",
        "ECSCluster",
        "Container",
        "EKSCluster",
        "RDSDBInstance",
        "S3Bucket",
        "AttackSequence",
        "AwsIamAccessKey",
        "AwsIamRole",
        "AwsIamUser",
        "AwsLambdaFunction",
        "AWS::Lambda::Function",
    ] {
        assert!(kinds.contains(kind), "no event names a resource of kind `{kind}`: {kinds:?}");
    }
    for place in [
        ("guardduty", Partition::Aws),
        ("guardduty", Partition::AwsCn),
        ("guardduty", Partition::AwsUsGov),
        ("securityhub-asff", Partition::Aws),
        ("securityhub-asff", Partition::AwsUsGov),
        ("securityhub-ocsf", Partition::Aws),
        ("securityhub-ocsf", Partition::AwsCn),
        ("cloudtrail", Partition::Aws),
        ("cloudtrail", Partition::AwsCn),
    ] {
        assert!(places.contains(&place), "no event is of {place:?}");
    }
}
