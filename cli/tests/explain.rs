//! `firebreak explain` as a script meets it: the program itself, real files, its exit code.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn events() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")
}

fn event(name: &str) -> String {
    events().join(name).to_str().unwrap().to_owned()
}

fn explain(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firebreak")).arg("explain").args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn every_sample_is_one_object_on_its_line_in_the_order_given() {
    let mut files: Vec<String> = std::fs::read_dir(events())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    files.sort();
    files.reverse();
    let mut arguments = vec!["--json"];
    arguments.extend(files.iter().map(String::as_str));
    let output = explain(&arguments);
    let named: Vec<String> = lines(&output).iter().map(|line| line["file"].as_str().unwrap().to_owned()).collect();
    assert_eq!(named, files);
    for line in lines(&output) {
        assert!(!line["reason"].as_str().unwrap().is_empty(), "{line}");
        let kinds = ["role", "user", "function"];
        assert!(line["targets"].as_array().unwrap().iter().all(|t| kinds.contains(&t["kind"].as_str().unwrap())));
    }
}

#[test]
fn what_is_no_event_is_malformed_and_the_exit_code_says_so() {
    let folder = folder("malformed");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let good = event("guardduty-lambda-c2-role-arn.json");
    assert!(explain(&[&good]).status.success());
    for (name, content) in [
        ("empty.json", Vec::new()),
        ("text.json", b"hello".to_vec()),
        ("number.json", b"7".to_vec()),
        ("list.json", b"[]".to_vec()),
        ("object.json", b"{\"a\": 1}".to_vec()),
        ("cut.json", b"{\"source\": \"aws.guardduty\", \"detail\": {".to_vec()),
        ("nul.json", b"{\"source\": \"a\0b\"}".to_vec()),
        ("bytes.json", vec![0xff, 0xfe, 0x00, 0x80]),
        ("deep.json", deep.into_bytes()),
        ("large.json", vec![b'x'; 1 << 20]),
    ] {
        let bad = file(&folder, name, content);
        let output = explain(&["--json", &bad, &good]);
        assert!(!output.status.success(), "{name}");
        let lines = lines(&output);
        assert_eq!(lines.len(), 2, "{name}: what follows is explained all the same");
        assert_eq!(lines[0]["decision"], "malformed", "{name}");
        assert_eq!(lines[1]["decision"], "act", "{name}");
    }
    let output = explain(&["--json", "no/such/file.json", folder.to_str().unwrap()]);
    assert!(lines(&output).iter().all(|line| line["decision"] == "malformed"));
    assert!(!output.status.success());
}

#[test]
fn a_finding_at_hand_is_read_without_its_envelope() {
    let folder = folder("bare");
    let envelope: Value =
        serde_json::from_str(&std::fs::read_to_string(event("guardduty-lambda-c2-role-arn.json")).unwrap()).unwrap();
    let detail = envelope["detail"].clone();
    for (name, content) in [
        ("detail.json", detail.clone()),
        ("dump.json", json!({"Findings": [detail.clone()]})),
        ("list.json", json!([envelope.clone()])),
        ("unknown-source.json", json!({"source": "...", "detail-type": "...", "detail": detail.clone()})),
    ] {
        let path = file(&folder, name, content.to_string());
        let output = explain(&["--json", &path]);
        assert!(output.status.success(), "{name}");
        let line = &lines(&output)[0];
        assert_eq!((&line["kind"], &line["decision"]), (&json!("guardduty"), &json!("act")), "{name}");
        assert_eq!(line["targets"][0]["name"], "orders-worker-role", "{name}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_firebreak"))
        .args(["explain", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(detail.to_string().as_bytes()).unwrap();
    assert_eq!(lines(&child.wait_with_output().unwrap())[0]["decision"], "act");
}

#[test]
fn an_inventory_resolves_and_makes_a_shared_role_ask() {
    let folder = folder("inventory");
    let role = "arn:aws:iam::111122223333:role/app/web-role";
    let profiles = json!({"InstanceProfiles": [{"Arn": "arn:aws:iam::111122223333:instance-profile/app/web-profile",
                                                "Roles": [{"Arn": role}]}]});
    let profiles = file(&folder, "profiles.json", profiles.to_string());
    let finding = event("guardduty-runtime-on-instance.json");
    let without = &lines(&explain(&["--json", &finding]))[0];
    assert_eq!(without["targets"][0]["name"], Value::Null);
    let with = &lines(&explain(&["--json", "--inventory", &profiles, &finding]))[0];
    assert_eq!(with["targets"][0]["arn"], role);

    let function = |name: &str| {
        json!({"FunctionArn": format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}"),
               "Role": "arn:aws:iam::111122223333:role/service-role/orders-worker-role"})
    };
    let functions = json!({"Functions": [function("orders-worker"), function("orders-mailer")]});
    let functions = file(&folder, "functions.json", functions.to_string());
    let finding = event("guardduty-lambda-c2-role-arn.json");
    let shared = &lines(&explain(&["--json", "--inventory", &functions, &finding]))[0];
    assert_eq!(shared["decision"], "approve", "{shared}");

    let output = explain(&["--inventory", &event("request-pause.json"), &finding]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("has none of the members"));
}

#[test]
fn a_playbook_of_ones_own_and_the_stacks_mode_decide() {
    let folder = folder("playbook");
    let playbook = "version: 1\nmode: enforce\nresponse: [quarantine]\nbreaker: {per_hour: 5}\nrules:\n  - {name: all, types: \
                    ['*'], decision: approve}\n";
    let playbook = file(&folder, "mine.yaml", playbook);
    let finding = event("guardduty-lambda-c2-role-arn.json");
    let line = &lines(&explain(&["--json", "--playbook", &playbook, &finding]))[0];
    assert_eq!((&line["decision"], &line["actions"]), (&json!("approve"), &json!(["quarantine-role"])));
    let line = &lines(&explain(&["--json", "--mode", "observe", &finding]))[0];
    assert_eq!((&line["decision"], &line["actions"]), (&json!("notify"), &json!([])));
    let refused = explain(&["--playbook", &finding, &finding]);
    assert!(!refused.status.success() && refused.stdout.is_empty());
}
