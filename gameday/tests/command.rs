//! The `firebreak` command against a deployed stack: what a person types at three in the morning.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "command/redrive.rs"]
mod redrive;

use std::process::{Command, Output};
use std::time::Duration;

use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName};
use firebreak_model::action::FunctionName;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{IncidentState, StepRecord, StepState};
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::deploy::Stack;
use gameday::findings::{self, INSTANCE, RoleSession};
use gameday::ledger::Book;
use gameday::scene::{Role, User, Victim, random_hex};
use gameday::theatre::Theatre;
use serde_json::{Value, json};

/// The program that the workspace's build made, beside this test's.
fn firebreak(theatre: &Theatre, arguments: &[&str]) -> Output {
    firebreak_as(theatre, [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")], arguments)
}

/// The same, with these credentials.
fn firebreak_as<'a>(
    theatre: &Theatre,
    credentials: impl IntoIterator<Item = (&'a str, &'a str)>,
    arguments: &[&str],
) -> Output {
    let here = std::env::current_exe().unwrap();
    let program = here.ancestors().find_map(|folder| {
        let program = folder.join("firebreak");
        program.is_file().then_some(program)
    });
    let program = program.unwrap_or_else(|| panic!("`firebreak` is not built: run `cargo xtask test`"));
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("AWS_ENDPOINT_URL", &theatre.aws.endpoint)
        .env("AWS_REGION", REGION)
        .envs(credentials)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn well(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

fn badly(output: &Output) -> String {
    assert!(!output.status.success(), "{}", said(output));
    said(output)
}

#[test]
fn contains_and_releases_with_the_caller_and_the_reason_on_record() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let role = Role::create(&theatre.aws, &format!("cli-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let told = well(&firebreak(theatre, &["contain", "--role", &role.name, "--reason", "seen on a paste site"]));
        assert!(told.starts_with("contained\n"), "{told}");
        let id = role.incident().unwrap();
        assert!(told.contains(id.as_str()), "{told}");
        let book = Book::read(&theatre.aws, stack).await.unwrap();
        let origin = serde_json::to_value(&book.incident(&id).unwrap().origin).unwrap();
        assert_eq!(origin["reason"], "seen on a paste site");
        assert!(origin["requested_by"].as_str().unwrap().starts_with("arn:aws:iam::111122223333:"), "{origin}");

        let told = well(&firebreak(theatre, &["release", id.as_str(), "--reason", "over", "--requested-by", "ana"]));
        assert!(told.starts_with("released\n") && told.contains("stay revoked"), "{told}");
        let book = Book::read(&theatre.aws, stack).await.unwrap();
        assert_eq!(book.incident(&id).unwrap().state, IncidentState::Released);
        let told = well(&firebreak(theatre, &["release", id.as_str(), "--reason", "again", "--requested-by", "ana"]));
        assert!(told.starts_with("released\n"), "releasing twice is releasing once: {told}");
    });
}

#[test]
fn lists_what_is_open_and_releases_what_was_ordered_since_a_time() {
    common::in_the_theatre(|theatre| async {
        theatre.enforcing().await.unwrap();
        let role = Role::create(&theatre.aws, &format!("cli-{}", random_hex(6)), "/team/").await.unwrap();
        let id = role.incident().unwrap();
        let run = |arguments: &[&str]| {
            let asked = ["--reason", "r", "--requested-by", "ana"];
            firebreak(theatre, &[arguments, &asked].concat())
        };
        let since = firebreak_shared::clock::now().to_string();
        well(&run(&["contain", "--role", &role.name]));
        let listed = well(&firebreak(theatre, &["list"]));
        let line = listed.lines().find(|line| line.starts_with(id.as_str())).unwrap();
        assert!(line.contains("ordered") && line.contains(&format!("role/{}", role.name)), "{line}");
        assert!(listed.contains(&format!("    quarantine-role@role/{} applied\n", role.name)), "{listed}");
        let key = ["release", "--since", &since, "--reactivate-key", "AKIAEXAMPLE000000001"];
        for wrong in [
            &["release"][..],
            &["release", id.as_str(), "--since", &since],
            &["release", id.as_str(), "--drills"],
            &key,
        ] {
            assert!(badly(&run(wrong)).contains("Usage"), "{wrong:?}");
        }
        let told = badly(&run(&["release", "--since", "yesterday"]));
        assert!(told.contains("invalid value 'yesterday'"), "{told}");
        let told = well(&run(&["release", "--since", &since]));
        assert!(
            told.starts_with("released\n") && told.contains(id.as_str()) && told.contains("stay revoked"),
            "{told}"
        );
        assert!(!well(&firebreak(theatre, &["list"])).contains(id.as_str()));
    });
}

#[test]
fn refusals_are_told_with_their_reason() {
    common::in_the_theatre(|theatre| async {
        theatre.enforcing().await.unwrap();
        let run = |arguments: &[&str]| badly(&firebreak(theatre, arguments));
        let told = run(&["contain", "--role", "AWSServiceRoleForLambda", "--reason", "r", "--requested-by", "ana"]);
        assert!(told.contains("Refused") && told.contains("service-linked"), "{told}");
        let told = run(&["release", "fb-000000000000000000000000", "--reason", "r", "--requested-by", "ana"]);
        assert!(told.contains("there is no incident"), "{told}");
        let told = run(&["release", "../etc/passwd", "--reason", "r", "--requested-by", "ana"]);
        assert!(told.contains("invalid value '../etc/passwd'"), "{told}");
        let told = run(&["pause", "--reason", "", "--requested-by", "ana"]);
        assert!(told.contains("`reason`"), "{told}");
        let told = run(&["--stack", "elsewhere", "resume", "--reason", "r", "--requested-by", "ana"]);
        assert!(told.contains("elsewhere-release-containment"), "{told}");
    });
}

/// The ledger, once the principal of an incident is denied, and pinned: the last that the invocation writes.
async fn contained(theatre: &Theatre, stack: &Stack, id: &IncidentId) -> Book {
    for _ in 0..100 {
        let book = Book::read(&theatre.aws, stack).await.unwrap();
        // A finding may give the unique id; the ARN is what was read.
        let pinned = book.incident(id).is_some_and(|incident| incident.principal.arn.is_some());
        let denied = |step: &&StepRecord| step.state == StepState::Applied && step.step.contains("quarantine");
        if pinned && book.steps_of(id).iter().any(denied) {
            return book;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("`{id}` is not contained");
}

#[test]
fn what_was_undone_by_someone_is_contained_again_when_asked() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let role = Role::create(&theatre.aws, &format!("cli-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let contain =
            || firebreak(theatre, &["contain", "--role", &role.name, "--reason", "r", "--requested-by", "ana"]);
        well(&contain());
        let deny = stack.output("DenyPolicyArn").unwrap();
        theatre.aws.iam.detach_role_policy().role_name(&role.name).policy_arn(deny).send().await.unwrap();
        assert!(well(&contain()).starts_with("contained\n"));
        let attached = theatre.aws.iam.list_attached_role_policies().role_name(&role.name).send().await.unwrap();
        let attached: Vec<_> = attached.attached_policies().iter().filter_map(|p| p.policy_arn()).collect();
        assert_eq!(attached, [deny]);
    });
}

#[test]
fn a_release_finishes_though_the_role_was_deleted_meanwhile() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let victim = Victim::set_up(aws, &random_hex(6), "").await.unwrap();
        let asked = ["--reason", "r", "--requested-by", "ana"];
        let contain = ["contain", "--role", &victim.role.name, "--function", &victim.function_arn];
        well(&firebreak(theatre, &[&contain[..], &asked[..]].concat()));
        let reserved = || async {
            let answer = aws.lambda.get_function_concurrency().function_name(&victim.function).send().await.unwrap();
            answer.reserved_concurrent_executions
        };
        for _ in 0..100 {
            let book = Book::read(aws, stack).await.unwrap();
            let steps = book.steps_of(&victim.role.incident().unwrap());
            if steps.len() == 7 && steps.iter().all(|step| step.state == StepState::Applied) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(reserved().await, Some(0));
        let deny = stack.output("DenyPolicyArn").unwrap();
        aws.iam.delete_role_policy().role_name(&victim.role.name).policy_name("generous").send().await.unwrap();
        aws.iam.detach_role_policy().role_name(&victim.role.name).policy_arn(deny).send().await.unwrap();
        aws.iam.delete_role().role_name(&victim.role.name).send().await.unwrap();
        let id = victim.role.incident().unwrap();
        let told = well(&firebreak(theatre, &[&["release", id.as_str()][..], &asked[..]].concat()));
        assert!(told.starts_with("released\n") && told.contains("does not exist any more"), "{told}");
        assert_eq!(reserved().await, Some(5));
    });
}

#[test]
fn a_release_stops_before_anything_is_undone_where_the_revocation_cannot_be_written() {
    common::in_the_theatre(|theatre| async {
        let (stack, inbox) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let role = Role::create(aws, &format!("cli-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let asked = ["--reason", "r", "--requested-by", "ana"];
        well(&firebreak(theatre, &[&["contain", "--role", &role.name][..], &asked[..]].concat()));
        let id = role.incident().unwrap();
        let release = [&["release", id.as_str()][..], &asked[..]].concat();
        let revoke = stack.function(FunctionName::RevokeSessions);
        let stopped = aws.lambda.put_function_concurrency().function_name(&revoke);
        stopped.reserved_concurrent_executions(0).send().await.unwrap();
        let told = badly(&firebreak(theatre, &release));
        assert!(told.contains("Transient"), "{told}");
        let attached = aws.iam.list_attached_role_policies().role_name(&role.name).send().await.unwrap();
        assert_eq!(attached.attached_policies().len(), 1, "the deny stays");
        // It is what it was, guarded as before, and a person hears of it.
        assert!(told.contains("nothing is undone, the incident is `ordered` as before"), "{told}");
        let incident = Book::read(aws, stack).await.unwrap().incident(&id).cloned().unwrap();
        assert_eq!((incident.state, incident.release), (IncidentState::Ordered, None));
        let stopped = incident.stopped.unwrap();
        let (mut watched, mut paged) = (false, false);
        for _ in 0..150 {
            // A watch that began after the release was taken back, not the one from before.
            let book = Book::read(aws, stack).await.unwrap();
            watched = book.watch(&id).is_some_and(|watch| watch.updated_at >= stopped.at);
            let arrived = inbox.take(aws).await.unwrap();
            paged |= arrived.iter().any(|page| page.subject.contains(&format!("NOT released: role/{}", role.name)));
            if watched && paged {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(watched && paged, "watched again: {watched}, paged: {paged}");
        let deny = stack.output("DenyPolicyArn").unwrap();
        aws.iam.detach_role_policy().role_name(&role.name).policy_arn(deny).send().await.unwrap();
        let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event", "reason": "the guard's schedule"});
        let sweep = aws.lambda.invoke().function_name(stack.function(FunctionName::GuardContainment));
        sweep.payload(aws_sdk_lambda::primitives::Blob::new(tick.to_string())).send().await.unwrap();
        let mut back = 0;
        for _ in 0..150 {
            let attached = aws.iam.list_attached_role_policies().role_name(&role.name).send().await.unwrap();
            back = attached.attached_policies().len();
            if back == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(back, 1, "what is stripped after that is put back");
        let told = badly(&firebreak(theatre, &[&release[..], &["--without-revocation"]].concat()));
        assert!(told.contains("Refused"), "{told}");
        aws.lambda.delete_function_concurrency().function_name(&revoke).send().await.unwrap();
        let told = well(&firebreak(theatre, &release));
        assert!(told.starts_with("released\n"), "{told}");
        let attached = aws.iam.list_attached_role_policies().role_name(&role.name).send().await.unwrap();
        assert_eq!(attached.attached_policies().len(), 0);
    });
}
