//! What an investigator does with the evidence of a deployed stack: pull it, verify it, and find whatever was changed.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "investigator/foreign.rs"]
mod foreign;
#[path = "investigator/tampering.rs"]
mod tampering;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use aws_sdk_sqs::types::QueueAttributeName;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use firebreak_model::action::FunctionName;
use firebreak_model::deeds::Whose;
use firebreak_model::evidence::{EvidenceRun, Manifest, Purpose};
use firebreak_model::ids::IncidentId;
use firebreak_model::report::{Report, Who};
use gameday::aws::{Aws, REGION};
use gameday::deploy::Stack;
use gameday::findings::RoleSession;
use gameday::ledger::Book;
use gameday::scene::{Role, Victim, random_hex};
use gameday::theatre::Theatre;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The program that the workspace's build made, beside this test's; without an endpoint where it must ask nobody.
fn firebreak(endpoint: Option<&str>, arguments: &[&str]) -> Output {
    let here = std::env::current_exe().unwrap();
    let program = here.ancestors().map(|folder| folder.join("firebreak")).find(|program| program.is_file());
    let program = program.unwrap_or_else(|| panic!("`firebreak` is not built: run `cargo xtask test`"));
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    if let Some(endpoint) = endpoint {
        command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", REGION);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

#[test]
fn an_investigator_pulls_the_evidence_in_pieces_and_verifies_it_offline() {
    common::in_the_theatre(|theatre: &Theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        // No report is made again beside what is compared.
        let again = format!("{}-report", stack.name);
        let bus = stack.output("OutcomeBusName").unwrap();
        theatre.aws.events.disable_rule().name(&again).event_bus_name(bus).send().await.unwrap();
        let victim = Victim::set_up(&theatre.aws, &format!("pulled-{}", random_hex(4)), "").await.unwrap();
        let id = victim.role.incident().unwrap();
        let endpoint = Some(theatre.aws.endpoint.as_str());
        let contain =
            ["contain", "--role", &victim.role.name, "--function", &victim.function_arn, "--reason", "a test"];
        let told = firebreak(endpoint, &contain);
        assert!(told.status.success(), "{}", said(&told));
        let mut followed = false;
        for _ in 0..600 {
            let book = Book::read(&theatre.aws, stack).await.unwrap();
            let of_it = |run: &&firebreak_model::evidence::EvidenceRun| run.incident_id == id;
            followed =
                book.runs.iter().filter(of_it).any(|run| run.purpose == Purpose::FollowUp && run.done_at.is_some());
            if followed {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(followed, "the log is not read again");

        let place = tempfile::TempDir::new().unwrap();
        let folder = place.path().join("evidence");
        let into = folder.to_str().unwrap();
        let pull = || {
            let output = firebreak(endpoint, &["evidence", "pull", id.as_str(), "--into", into]);
            assert!(output.status.success(), "{}", said(&output));
            said(&output)
        };
        let verify = |more: &[&str]| firebreak(None, &[&["evidence", "verify", into], more].concat());
        pull();
        let sound = verify(&[]);
        assert!(sound.status.success() && !said(&sound).contains("in 1 manifests"), "{}", said(&sound));
        assert!(said(&sound).contains("gaps           0"), "{}", said(&sound));
        tampering::each_is_found(&folder);

        // A download that was cut off: one object is missing, of one there is a part.
        let all = files(&folder);
        let log = all.iter().find(|path| path.to_string_lossy().contains("/logs/")).unwrap();
        let manifest = all.iter().find(|path| path.ends_with("manifest.json")).unwrap();
        let whole = fs::read(log).unwrap();
        fs::write(format!("{}.part", log.display()), whole.get(..whole.len() / 2).unwrap()).unwrap();
        fs::remove_file(log).unwrap();
        fs::remove_file(manifest).unwrap();
        let cut = verify(&[]);
        assert!(!cut.status.success() && said(&cut).contains("not sound"), "{}", said(&cut));
        let told = pull();
        assert!(told.contains(", 2 of them fetched now"), "{told}");
        assert_eq!(fs::read(log).unwrap(), whole);
        assert!(verify(&[]).status.success());

        // The page says the same as the ledger; whatever else is said of the last manifest is refused.
        let head =
            said(&sound).lines().find_map(|l| l.strip_prefix("last manifest  ")?.split(' ').next().map(str::to_owned));
        let page = Book::read(&theatre.aws, stack).await.unwrap();
        let step = page.steps.iter().find(|s| s.incident_id == id && s.owner == FunctionName::SnapshotLogs).unwrap();
        assert!(step.detail.contains(&head.unwrap()), "{}", step.detail);
        assert!(!verify(&["--head", "0"]).status.success());

        let mut bytes = whole.clone();
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
        fs::write(log, bytes).unwrap();
        let tampered = verify(&[]);
        assert!(!tampered.status.success(), "{}", said(&tampered));
        assert!(said(&tampered).contains(log.file_name().unwrap().to_str().unwrap()), "{}", said(&tampered));
        theatre.aws.events.enable_rule().name(&again).event_bus_name(bus).send().await.unwrap();
    });
}

/// The collections of an incident that are done, once one of this purpose is.
async fn collected(theatre: &Theatre, stack: &Stack, id: &IncidentId, purpose: Purpose) -> Vec<EvidenceRun> {
    for _ in 0..1_200 {
        let book = Book::read(&theatre.aws, stack).await.unwrap();
        let done = book.runs.into_iter().filter(|run| run.incident_id == *id && run.done_at.is_some());
        let done: Vec<_> = done.collect();
        if done.iter().any(|run| run.purpose == purpose) {
            return done;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no {purpose} of {id} comes to its end");
}

/// A thief makes itself a user with a key, and a session in another role that opens a queue; is contained; tries again.
#[test]
fn the_report_tells_the_whole_story_of_a_thief() {
    common::in_the_theatre(|theatre: &Theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let suffix = random_hex(6);
        let (role, other) = (format!("robbed-{suffix}"), format!("reached-{suffix}"));
        let (role, other) =
            (Role::create(aws, &role, "/").await.unwrap(), Role::create(aws, &other, "/").await.unwrap());
        let rights = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*",
            "Action": ["iam:CreateUser", "iam:CreateAccessKey", "sts:AssumeRole"]}]});
        let put = aws.iam.put_role_policy().role_name(&role.name).policy_name("more");
        put.policy_document(rights.to_string()).send().await.unwrap();
        let stolen = role.steal_session(aws, "i-0123456789abcdef0").await.unwrap();
        let thief = aws.as_identity(stolen.clone());
        let backdoor = format!("backdoor-{suffix}");
        thief.iam.create_user().user_name(&backdoor).send().await.unwrap();
        let key = thief.iam.create_access_key().user_name(&backdoor).send().await.unwrap().access_key.unwrap();
        let assume = thief.sts.assume_role().role_arn(&other.arn).role_session_name("onwards");
        let minted = assume.send().await.unwrap().credentials.unwrap();
        let minted = Credentials::new(
            minted.access_key_id,
            minted.secret_access_key,
            Some(minted.session_token),
            None,
            "chained",
        );
        let onwards = aws.as_identity(minted.clone());
        onwards.iam.list_users().send().await.unwrap();

        let id = role.incident().unwrap();
        let contain = json!({"firebreak": "contain", "role": role.name, "reason": "a test", "requested_by": "ana",
            "access_keys": [stolen.access_key_id()], "response": ["quarantine"]});
        let ask = async |contain: &Value| {
            let invoke = aws.lambda.invoke().function_name(stack.function(FunctionName::QuarantinePrincipal));
            let answer = invoke.payload(contain.to_string().into_bytes().into()).send().await.unwrap();
            assert_eq!(answer.function_error, None, "{:?}", answer.payload);
        };
        ask(&contain).await;
        assert_eq!(code(&thief.iam.list_roles().send().await.unwrap_err()), "AccessDenied");
        // CloudTrail has whole seconds, and a run asks up to the one in which it begins: what was refused lies before it.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let mut contain = contain;
        contain["response"] = json!(["quarantine", "snapshot"]);
        ask(&contain).await;
        let runs = collected(theatre, stack, &id, Purpose::FollowUp).await;
        let followed = runs.iter().find(|run| run.purpose == Purpose::FollowUp).unwrap();

        let place = tempfile::TempDir::new().unwrap();
        let into = place.path().join("evidence");
        let into = into.to_str().unwrap();
        let pulled = firebreak(Some(&aws.endpoint), &["evidence", "pull", id.as_str(), "--into", into]);
        assert!(pulled.status.success() && said(&pulled).contains("report.html"), "{}", said(&pulled));
        let sound = firebreak(None, &["evidence", "verify", into]);
        assert!(sound.status.success() && said(&sound).contains("gaps           0"), "{}", said(&sound));
        let file = |name: &str| fs::read(Path::new(into).join(followed.prefix()).join(name)).unwrap();
        let report: Report = serde_json::from_slice(&file("report/report.json")).unwrap();
        let page = String::from_utf8(file("report/report.html")).unwrap();

        let calls: Vec<(Timestamp, &str)> =
            report.timeline.iter().filter(|m| m.who == Who::Thief).map(|m| (m.at, m.what.as_str())).collect();
        for call in
            ["iam:CreateUser", "iam:CreateAccessKey", "sts:AssumeRole", "iam:ListUsers", "iam:ListRoles: AccessDenied"]
        {
            assert!(calls.iter().any(|(_, what)| *what == call), "{call}: {calls:?}");
            assert!(page.contains(call), "{call}");
        }
        let deny = report.steps.iter().find(|step| step.step.starts_with("quarantine-role")).unwrap();
        let verified = deny.verified_at.unwrap();
        let at = |call: &str| calls.iter().find(|(_, what)| *what == call).unwrap().0;
        assert!(
            at("iam:CreateUser") < verified && at("iam:ListRoles: AccessDenied").as_second() >= verified.as_second()
        );
        let left: Vec<(&str, Whose)> = report.left_behind.iter().map(|left| (left.what.as_str(), left.whose)).collect();
        let made = format!("access key {}, user {backdoor}", key.access_key_id);
        for what in [format!("user {backdoor}"), made, format!("role {}", other.name)] {
            assert!(left.contains(&(&what, Whose::Stolen)), "{what}: {left:?}");
        }
        assert!(report.open.iter().any(|open| open.contains("left behind")), "{:?}", report.open);
        assert!(report.release.iter().any(|line| line.starts_with(&format!("firebreak release {id}"))));
        let first = &report.evidence[0];
        let manifest = fs::read(Path::new(into).join(&first.manifest)).unwrap();
        assert_eq!(first.sha256, Some(firebreak_model::ids::sha256_hex(&manifest)));
        for object in report.evidence.iter().flat_map(|one| &one.objects) {
            let bytes = fs::read(Path::new(into).join(&object.key)).unwrap();
            assert_eq!(object.sha256, firebreak_model::ids::sha256_hex(&bytes), "{}", object.key);
        }
        // The chained session's own records are there too, though nobody had named its key: in the second run at the
        // latest, for the first one ends with the second in which all this happens.
        let asked = json!({"AccessKeyId": minted.access_key_id()});
        let mut questions = Vec::new();
        for one in &report.evidence {
            let Ok(manifest) = fs::read(Path::new(into).join(&one.manifest)) else { continue };
            let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
            let calls = manifest.entries.into_iter().filter(|entry| entry.collector == "calls");
            let sources = calls.flat_map(|entry| entry.sources);
            questions.extend(sources.filter_map(|source| source.call.parameters.get("lookupAttribute").cloned()));
        }
        assert!(questions.contains(&asked), "{asked}: {questions:?}");
        let release = json!({"firebreak": "release", "incident_id": id, "reason": "over", "requested_by": "ana"});
        let invoke = aws.lambda.invoke().function_name(stack.function(FunctionName::ReleaseContainment));
        invoke.payload(release.to_string().into_bytes().into()).send().await.unwrap();
        let runs = collected(theatre, stack, &id, Purpose::Report).await;
        assert!(runs.iter().any(|run| run.purpose == Purpose::Report));
        aws.iam.delete_role_policy().role_name(&role.name).policy_name("more").send().await.unwrap();
    });
}

fn code<E: ProvideErrorMetadata, R>(error: &aws_smithy_runtime_api::client::result::SdkError<E, R>) -> String {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default().to_owned()
}

#[test]
fn nobody_else_writes_evidence_or_signs_manifests_whatever_iam_allows_them() {
    common::in_the_theatre(|theatre: &Theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let name = format!("admin-{}", random_hex(6));
        let role = Role::create(&theatre.aws, &name, "/").await.unwrap();
        let everything = json!({"Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
        let put = theatre.aws.iam.put_role_policy().role_name(&name).policy_name("everything");
        put.policy_document(everything.to_string()).send().await.unwrap();
        let admin = theatre.aws.as_identity(role.steal_session(&theatre.aws, "admin").await.unwrap());
        let bucket = stack.output("EvidenceBucketName").unwrap();
        let put = admin.s3.put_object().bucket(bucket).key("incidents/planted").body(b"x".to_vec().into());
        assert_eq!(code(&put.send().await.unwrap_err()), "AccessDenied");
        let key = stack.output("EvidenceSigningKeyArn").unwrap();
        let sign = admin.kms.sign().key_id(key).message(Blob::new([0; 32])).message_type(MessageType::Digest);
        let sign = sign.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256).send().await;
        assert_eq!(code(&sign.unwrap_err()), "AccessDeniedException");
        assert!(admin.kms.get_public_key().key_id(key).send().await.is_ok(), "the public half is nobody's secret");
        theatre.aws.iam.delete_role_policy().role_name(&name).policy_name("everything").send().await.unwrap();
    });
}

#[test]
fn what_one_invocation_does_not_finish_is_kept_until_it_is() {
    common::in_the_theatre(|theatre: &Theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let attributes = async |output: &str| {
            let url = stack.output(output).unwrap();
            let get = theatre.aws.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
            get.send().await.unwrap().attributes.unwrap()
        };
        let (queue, failures) = (attributes("EvidenceQueueUrl").await, attributes("EvidenceFailuresUrl").await);
        let redrive: Value = serde_json::from_str(queue.get(&QueueAttributeName::RedrivePolicy).unwrap()).unwrap();
        let arn = failures.get(&QueueAttributeName::QueueArn).unwrap();
        assert_eq!(redrive.get("deadLetterTargetArn"), Some(&json!(arn)));
        assert_eq!(failures.get(&QueueAttributeName::MessageRetentionPeriod).map(String::as_str), Some("1209600"));
        let name = stack.function(FunctionName::SnapshotLogs);
        let function = theatre.aws.lambda.get_function_configuration().function_name(&name).send().await.unwrap();
        let visible: i32 = queue.get(&QueueAttributeName::VisibilityTimeout).unwrap().parse().unwrap();
        assert!(visible >= 6 * function.timeout().unwrap(), "nobody takes up what is being worked at");
        let arn = queue.get(&QueueAttributeName::QueueArn).unwrap();
        let list = theatre.aws.lambda.list_event_source_mappings().function_name(&name).event_source_arn(arn);
        let mappings = list.send().await.unwrap().event_source_mappings.unwrap();
        assert_eq!(mappings.len(), 1);
    });
}
