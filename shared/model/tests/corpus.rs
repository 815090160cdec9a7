//! Real events that nobody of this project wrote, where they are (`FIREBREAK_CORPUS` names the folder; by default beside the
//! project): none is lost, and every decision and target that differs from the reference is one that `docs/FINDINGS.md`
//! argues. Elsewhere these tests say that they were skipped.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use firebreak_model::decision::Mode;
use firebreak_model::explain::{Explainer, Explanation, Kind, Outcome};
use firebreak_model::finding::SubjectKind;
use firebreak_model::inventory::Inventory;
use firebreak_model::playbook::Playbook;
use firebreak_model::principal::Home;
use firebreak_model::trigger::{self, Trigger};
use serde_json::{Value, json};

const PLAYBOOK: &str = include_str!("../../../playbook.yaml");

/// Where it is. A folder that is named and is not there is an error.
fn place() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("FIREBREAK_CORPUS") {
        let named = PathBuf::from(named);
        assert!(named.is_dir(), "`FIREBREAK_CORPUS` names `{}`, which is no folder", named.display());
        return Some(named);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    if !beside.is_dir() {
        eprintln!("skipped: there is no corpus beside the project, and `FIREBREAK_CORPUS` names none");
    }
    beside.is_dir().then_some(beside)
}

/// The rows of a table, each by the names of its columns.
fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| {
        let cells = line.split('\t').chain(std::iter::repeat(""));
        names.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.to_owned())).collect()
    };
    lines.map(row).collect()
}

fn files(place: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![place.join("events"), place.join("generated")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn explain(input: &[u8]) -> Explanation {
    let playbook = Playbook::from_yaml(PLAYBOOK).unwrap();
    let inventory = Inventory::default();
    Explainer { playbook: &playbook, inventory: &inventory, ceiling: Mode::Enforce }.explain(input)
}

/// The first word of what the reference says.
fn reference(decision: &str) -> Outcome {
    let word = decision.split_whitespace().next().unwrap().to_lowercase();
    Outcome::from_name(&word).unwrap()
}

/// Fragments of findings without a type: they say nothing that could be decided.
const NO_FINDINGS: [&str; 3] =
    ["gd-guard_duty_all-0.json", "gd-pascal-EKSCluster-L692.json", "gd-pascal-RDSDBInstance-L965.json"];

#[test]
fn no_event_of_the_corpus_is_lost() {
    let Some(place) = place() else { return };
    let files = files(&place);
    assert!(files.len() >= 300, "{}", files.len());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let input = fs::read(&file).unwrap();
        let explanation = explain(&input);
        let is_fragment = NO_FINDINGS.contains(&name);
        assert_eq!(explanation.decision == Outcome::Malformed, is_fragment, "{name}: {}", explanation.reason);
        assert!(!explanation.reason.is_empty(), "{name} has no reason");
        // As the function gets it, deployed in the account of the envelope.
        let payload: Value = serde_json::from_slice(&input).unwrap();
        let account = payload["account"].as_str().and_then(|a| a.parse().ok());
        let home = Home {
            partition: firebreak_model::ids::Partition::Aws,
            account: account.unwrap_or_else(|| "111122223333".parse().unwrap()),
        };
        match trigger::read(&payload, &home) {
            Trigger::Findings(findings, _) => {
                assert!(findings.iter().all(|finding| !finding.subjects.is_empty()), "{name}");
            }
            Trigger::Malformed(malformed) => assert!(!malformed.reason.is_empty(), "{name}"),
            other => panic!("{name} is taken for {other:?}"),
        }
    }
}

/// A decision may differ from the reference in two ways only: samples are ignored, and where there is nobody to contain, a
/// person is paged.
#[test]
fn the_corpus_is_decided_as_the_reference_says() {
    let Some(place) = place() else { return };
    let decisions: BTreeMap<String, String> = table(&place.join("decisions.tsv"))
        .into_iter()
        .map(|row| (row["type"].clone(), row["decision"].clone()))
        .collect();
    let samples: BTreeSet<String> = table(&place.join("index.tsv"))
        .into_iter()
        .filter(|row| row["is_sample"] == "Y")
        .map(|row| row["file"].rsplit('/').next().unwrap().to_owned())
        .collect();
    let mut compared = 0;
    for file in files(&place) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let Explanation { kind, finding_type, decision, targets, reason, .. } = explain(&fs::read(&file).unwrap());
        if kind != Kind::GuardDuty || decision == Outcome::Malformed {
            continue;
        }
        let wanted = decisions.get(finding_type.as_deref().unwrap_or_default());
        let wanted = wanted.map_or(Outcome::Notify, |decision| reference(decision));
        compared += 1;
        let nobody = decision == Outcome::Notify && !targets.iter().any(|target| target.containable);
        let agreed = decision == wanted || (decision == Outcome::Ignore && samples.contains(&name)) || nobody;
        assert!(agreed, "{name}: {decision} instead of {wanted}: {reason}");
    }
    assert!(compared >= 100, "{compared}");
}

/// A finding of a type, at the type's own severity, with whatever such a finding points at.
fn finding_of(row: &BTreeMap<String, String>) -> Value {
    let finding_type = &row["type"];
    let severity = match row["default_severity"].as_str() {
        "Low" => 2,
        "Medium" | "Varies" | "Variable" => 5,
        "High" => 8,
        "Critical" => 9,
        other => panic!("`{other}` is no severity"),
    };
    let family = finding_type.split([':', '/']).nth(1).unwrap();
    let key = json!({"userType": "AssumedRole", "userName": "orders", "principalId": "AROAEXAMPLE000000001:s",
                     "accessKeyId": "ASIAEXAMPLE000000001"});
    let instance = json!({"instanceId": "i-0abc123def4567890",
                          "iamInstanceProfile": {"arn": "arn:aws:iam::111122223333:instance-profile/web"}});
    let resource = match (finding_type.split(':').next().unwrap(), family) {
        ("AttackSequence", _) => json!({"resourceType": "AttackSequence"}),
        (_, "IAMUser" | "S3") => json!({"resourceType": "AccessKey", "accessKeyDetails": key}),
        (_, "Lambda") => json!({"resourceType": "Lambda", "lambdaDetails": {
            "functionArn": "arn:aws:lambda:eu-west-1:111122223333:function:orders",
            "role": "arn:aws:iam::111122223333:role/orders"}}),
        (_, "EC2" | "Runtime" | "Container") => json!({"resourceType": "Instance", "instanceDetails": instance}),
        (_, "ECS") => json!({"resourceType": "ECSCluster", "ecsClusterDetails": {"taskDetails": {
            "definitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/orders:7"}}}),
        (_, "Kubernetes") => json!({"resourceType": "EKSCluster", "eksClusterDetails": {"name": "prod"}}),
        (_, "RDS") => json!({"resourceType": "RDSDBInstance", "rdsDbUserDetails": {"user": "admin"}}),
        (_, other) => panic!("`{other}` is no family that is known"),
    };
    let actor = json!({"user": {"type": "AssumedRole", "name": "orders"},
                       "session": {"issuer": "arn:aws:iam::111122223333:role/orders"}});
    let sequence = json!({"sequence": {"actors": [actor], "resources": [{"data": {"ec2Instance": instance}}]}});
    let call = json!({"awsApiCallAction": {"remoteAccountDetails": {"affiliated": false}}});
    json!({"id": "e", "source": "aws.guardduty", "detail-type": "GuardDuty Finding", "account": "111122223333",
        "detail": {"id": "f", "type": finding_type, "accountId": "111122223333", "region": "eu-west-1",
            "severity": severity, "resource": resource, "service": {"detection": sequence, "action": call}}})
}

#[test]
fn every_type_of_guardduty_is_decided_as_the_reference_says() {
    let Some(place) = place() else { return };
    let rows = table(&place.join("decisions.tsv"));
    assert_eq!(rows.len(), 200);
    for row in rows {
        let explanation = explain(finding_of(&row).to_string().as_bytes());
        let wanted = reference(&row["decision"]);
        assert_eq!(explanation.decision, wanted, "{}: {}", row["type"], explanation.reason);
        let contains = matches!(wanted, Outcome::Act | Outcome::Approve);
        assert_eq!(!explanation.actions.is_empty(), contains, "{}: {:?}", row["type"], explanation.actions);
    }
}

/// Labels that the record itself contradicts, each argued in `docs/FINDINGS.md`.
const ARGUED_TARGETS: [&str; 6] = [
    "ct-lateral-movement.ec2-serial-console-send-ssh-public-key-EnableSerialConsoleAccess.json",
    "ct-lateral-movement.ec2-serial-console-send-ssh-public-key-SendSerialConsoleSSHPublicKey.json",
    "ct-aws_ec2_startup_script_change--ModifyInstanceAttributeUserdata.json",
    "ct-aws_s3_copy_object_to_external_account_bucket--S3-CopyObject-to-External-Account-Bucket.json",
    "ct-aws_saml_activity--CreateSAMLProvider.json",
    "ct-aws_saml_activity--DeleteSAMLProvider.json",
];

#[test]
fn the_corpus_points_at_whom_its_labels_say() {
    let Some(place) = place() else { return };
    let mut argued = BTreeSet::new();
    let mut compared = 0;
    for row in table(&place.join("index.tsv")) {
        let (kind, name) = match row["oracle_target"].as_str() {
            arn if arn.contains(":assumed-role/") => {
                (SubjectKind::Role, arn.split(":assumed-role/").nth(1).unwrap().split('/').next().unwrap())
            }
            arn if arn.contains(":user/") => (SubjectKind::User, arn.rsplit('/').next().unwrap()),
            arn if arn.ends_with(":root") => (SubjectKind::User, "root"),
            name if row["oracle_target_kind"] == "user" => (SubjectKind::User, name),
            _ => continue,
        };
        compared += 1;
        let explanation = explain(&fs::read(place.join(&row["file"])).unwrap());
        let found = explanation.targets.iter().any(|t| t.kind == kind && t.name.as_deref() == Some(name));
        if !found {
            argued.insert(row["file"].rsplit('/').next().unwrap().to_owned());
        }
    }
    assert!(compared >= 100, "{compared}");
    assert_eq!(argued, ARGUED_TARGETS.iter().map(|name| (*name).to_owned()).collect());
}
