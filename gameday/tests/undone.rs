//! Each part of a containment, undone by itself: the guard's sweep finds it, and its owner puts it back.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sdk_iam::types::StatusType;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::finding::DRILL_PATH;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{IncidentState, StepState};
use firebreak_model::policy::CHAINED_POLICY;
use firebreak_model::principal::Principal;
use firebreak_model::watch::Standing;
use gameday::acts::REVOCATION;
use gameday::aws::Aws;
use gameday::check::{equal, judged};
use gameday::conditions::Conditions;
use gameday::scenarios::{House, Scenario};
use gameday::scene::{Role, User, Victim};
use gameday::stage::{PATIENCE, Stage};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

const DENY_ALL: &str = "arn:aws:iam::aws:policy/AWSDenyAll";
const ADMINISTRATOR: &str = "arn:aws:iam::aws:policy/AdministratorAccess";

macro_rules! played {
    (fn $name:ident() plays $play:ident) => {
        #[test]
        fn $name() {
            const SCENARIO: Scenario = Scenario {
                name: stringify!($name),
                summary: "",
                house: House::Enforcing,
                play: |stage| Box::pin($play(stage)),
            };
            common::play_it(&SCENARIO);
        }
    };
}

played!(fn a_boundary_that_is_taken_away_or_replaced_is_put_back() plays boundary);
played!(fn a_key_that_is_activated_again_or_made_anew_goes_inactive() plays keys);
played!(fn a_revocation_that_is_overwritten_or_deleted_is_written_again() plays revocation);
played!(fn concurrency_and_event_source_are_each_put_back() plays function);
played!(fn a_widened_trust_is_paged_with_the_command_that_restores_it() plays trust);
played!(fn a_revocation_that_is_deleted_after_the_release_is_written_again_and_paged() plays revocation_of_a_release);
played!(fn the_deny_of_a_chained_session_is_written_again_while_it_is_contained_and_after_the_release() plays chained);
played!(fn a_deny_policy_that_is_emptied_is_noticed_at_once_and_a_boundary_holds() plays emptied);
played!(fn what_holds_in_part_is_called_partial_and_paged_step_by_step() plays partial);

/// Has somebody contained, and waits until everything of the plan is on record.
async fn contained(stage: &mut Stage, request: Value) -> Result<()> {
    let mut request = request;
    let whole = request.as_object_mut().context("a request is an object")?;
    whole.extend(
        json!({"firebreak": "contain", "requested_by": "a test", "reason": "a test"}).as_object().unwrap().clone(),
    );
    let answer = stage.invoke(FunctionName::QuarantinePrincipal, &request).await?;
    stage.check(judged("the request", "accepted", answer.payload.to_string(), !answer.failed));
    Ok(())
}

async fn swept(stage: &mut Stage) -> Result<()> {
    let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event", "reason": "the guard's schedule"});
    let answer = stage.invoke(FunctionName::GuardContainment, &tick).await?;
    stage.check(equal("the guard's sweep", "swept", answer.text("outcome")));
    Ok(())
}

/// Undoes something and has the guard look, until something was found undone once more; each time it is put back, as
/// `back` says. An order to put back what was undone before may be under way still, and quicker than the look.
async fn put_back(
    stage: &mut Stage,
    id: &IncidentId,
    what: &str,
    undo: impl AsyncFn(&Aws) -> Result<()>,
    back: impl AsyncFn(&Aws) -> Result<bool>,
) -> Result<()> {
    let aws = stage.aws.clone();
    let mut more = 0;
    for _ in 0..5 {
        // A re-check may come before the guard is asked to look.
        let known = stage.look().await?.tampers_of(id).len();
        undo(&aws).await?;
        until_back(stage, what, &back).await?;
        more = stage.look().await?.tampers_of(id).len() - known;
        if more > 0 {
            break;
        }
    }
    stage.check(judged(&format!("{what} is on record"), "on record", more.to_string(), more > 0));
    Ok(())
}

/// The same while it is still held on to after it was undone once: whoever holds it may be quicker than the guard's look,
/// and then there is nothing undone that anyone sees.
async fn until_back(stage: &mut Stage, what: &str, back: &impl AsyncFn(&Aws) -> Result<bool>) -> Result<()> {
    let aws = stage.aws.clone();
    swept(stage).await?;
    let began = std::time::Instant::now();
    let mut is_back = false;
    while !is_back && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
        is_back = back(&aws).await?;
    }
    stage.check(judged(&format!("{what} is put back"), "put back", format!("{is_back}"), is_back));
    Ok(())
}

async fn boundary(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    let role = Role::create(&aws, &format!("bounded-{suffix}"), DRILL_PATH).await?;
    for number in 0..10 {
        let document = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]});
        let made = aws.iam.create_policy().policy_name(format!("filling-{suffix}-{number}"));
        let made = made.policy_document(document.to_string()).send().await?;
        let arn = made.policy().and_then(|policy| policy.arn()).context("the policy has no ARN")?;
        aws.iam.attach_role_policy().role_name(&role.name).policy_arn(arn).send().await?;
    }
    let id = role.incident()?;
    contained(stage, json!({"role": role.arn, "response": ["quarantine"]})).await?;
    stage
        .until("the boundary holds", |book, _| book.steps_of(&id).iter().any(|s| s.state == StepState::Applied))
        .await?;
    let holds = async |aws: &Aws| {
        let answer = aws.iam.get_role().role_name(&role.name).send().await?;
        let boundary = answer.role().and_then(|role| role.permissions_boundary());
        Ok(boundary.and_then(|b| b.permissions_boundary_arn()) == Some(DENY_ALL))
    };
    stage.check(judged("the boundary", "is there", String::new(), holds(&aws).await?));
    let undo = async |aws: &Aws| {
        aws.iam.delete_role_permissions_boundary().role_name(&role.name).send().await?;
        Ok(())
    };
    put_back(stage, &id, "a deleted boundary", undo, holds).await?;
    let put = aws.iam.put_role_permissions_boundary().role_name(&role.name);
    put.permissions_boundary(ADMINISTRATOR).send().await?;
    until_back(stage, "a replaced boundary", &holds).await?;
    stage.nothing_failed().await
}

async fn keys(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    let user = User::create(&aws, &format!("keyed-{suffix}"), DRILL_PATH).await?;
    let id = Principal::from_arn(&user.arn)?.incident_id();
    contained(stage, json!({"user": user.arn, "response": ["quarantine"]})).await?;
    stage.until_contained(&id).await?;
    let dead = async |aws: &Aws| {
        let answer = aws.iam.list_access_keys().user_name(&user.name).send().await?;
        Ok(answer.access_key_metadata().iter().all(|key| key.status() == Some(&StatusType::Inactive)))
    };
    let key = user.keys.first().context("a user has keys")?.access_key_id();
    let undo = async |aws: &Aws| {
        let update = aws.iam.update_access_key().user_name(&user.name).access_key_id(key);
        update.status(StatusType::Active).send().await?;
        Ok(())
    };
    put_back(stage, &id, "a key that was activated", undo, dead).await?;
    let other = user.keys.last().context("a user has keys")?.access_key_id();
    aws.iam.delete_access_key().user_name(&user.name).access_key_id(other).send().await?;
    aws.iam.create_access_key().user_name(&user.name).send().await?;
    until_back(stage, "a key that was made anew", &dead).await?;
    stage.nothing_failed().await
}

async fn revocation(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    let role = Role::create(&aws, &format!("revoked-{suffix}"), DRILL_PATH).await?;
    let id = role.incident()?;
    contained(stage, json!({"role": role.arn, "response": ["revoke"]})).await?;
    stage.until_contained(&id).await?;
    let denies = async |aws: &Aws| {
        let answer = aws.iam.get_role_policy().role_name(&role.name).policy_name(REVOCATION).send().await;
        let Ok(answer) = answer else { return Ok(false) };
        let document = percent_decode_str(answer.policy_document()).decode_utf8()?.into_owned();
        let document: Value = serde_json::from_str(&document)?;
        let statement = document.pointer("/Statement/0").cloned().unwrap_or_default();
        let until = statement.pointer("/Condition/DateLessThan/aws:TokenIssueTime").and_then(Value::as_str);
        let denies = statement.get("Effect").and_then(Value::as_str) == Some("Deny");
        Ok(denies && until.is_some_and(|until| until > "2026"))
    };
    let weak = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*",
        "Condition": {"DateLessThan": {"aws:TokenIssueTime": "2001-01-01T00:00:00Z"}}}]});
    let undo = async |aws: &Aws| {
        let put = aws.iam.put_role_policy().role_name(&role.name).policy_name(REVOCATION);
        put.policy_document(weak.to_string()).send().await?;
        Ok(())
    };
    put_back(stage, &id, "an overwritten revocation", undo, denies).await?;
    let undo = async |aws: &Aws| unrevoked(aws, &role).await;
    put_back(stage, &id, "a deleted revocation", undo, denies).await?;
    stage.nothing_failed().await
}

/// Deletes the revocation of a role.
async fn unrevoked(aws: &Aws, role: &Role) -> Result<()> {
    aws.iam.delete_role_policy().role_name(&role.name).policy_name(REVOCATION).send().await?;
    Ok(())
}

/// A role that may do anything, which this account may assume.
async fn mighty_role(aws: &Aws, name: &str) -> Result<Role> {
    let role = Role::create(aws, name, DRILL_PATH).await?;
    let all = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    aws.iam.put_role_policy().role_name(name).policy_name("all").policy_document(all.to_string()).send().await?;
    Ok(role)
}

/// Releases an incident.
async fn released(stage: &mut Stage, id: &IncidentId) -> Result<()> {
    let request =
        json!({"firebreak": "release", "incident_id": id, "requested_by": "a test", "reason": "the keys were rotated"});
    let answer = stage.invoke(FunctionName::ReleaseContainment, &request).await?;
    stage.check(judged("the release", "released", answer.payload.to_string(), !answer.failed));
    let is = |book: &gameday::ledger::Book| book.incident(id).is_some_and(|i| i.state == IncidentState::Released);
    stage.until("the incident is released", |book, _| is(book)).await.map(|_| ())
}

/// Whether whoever has a session is let do anything.
async fn is_refused(aws: &Aws, session: &Credentials) -> bool {
    aws.as_identity(session.clone()).iam.list_roles().send().await.is_err()
}

async fn revocation_of_a_release(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    let role = mighty_role(&aws, &format!("outlived-{suffix}")).await?;
    let id = role.incident()?;
    let stolen = role.steal_session(&aws, "x-1").await?;
    let refused = is_refused(&aws, &stolen).await;
    stage.check(judged("the stolen session before", "works", format!("refused: {refused}"), !refused));
    contained(stage, json!({"role": role.arn, "response": ["quarantine"]})).await?;
    stage.until_contained(&id).await?;
    released(stage, &id).await?;
    let reach = async |aws: &Aws| -> Result<Option<String>> {
        let answer = aws.iam.get_role_policy().role_name(&role.name).policy_name(REVOCATION).send().await;
        let Ok(answer) = answer else { return Ok(None) };
        let document: Value = serde_json::from_str(&percent_decode_str(answer.policy_document()).decode_utf8()?)?;
        let time = document.pointer("/Statement/0/Condition/DateLessThan/aws:TokenIssueTime");
        Ok(time.and_then(Value::as_str).map(str::to_owned))
    };
    let first = reach(&aws).await?.context("the release left no revocation")?;
    let refused = is_refused(&aws, &stolen).await;
    stage.check(judged("the stolen session after the release", "refused", format!("{refused}"), refused));
    let same = async |aws: &Aws| Ok(reach(aws).await?.as_ref() == Some(&first));
    // Found by the sweep.
    let undo = async |aws: &Aws| unrevoked(aws, &role).await;
    put_back(stage, &id, "the revocation of a release", undo, same).await?;
    // Told by CloudTrail: with whoever did it, and at once.
    let known = stage.look().await?.tampers_of(&id).len();
    Conditions { cloudtrail_delay: Some(Duration::ZERO), ..Conditions::default() }.set(&aws.endpoint).await?;
    unrevoked(&aws, &role).await?;
    let told = |book: &gameday::ledger::Book| {
        let all = book.tampers_of(&id);
        all.len() > known && all.iter().any(|tamper| tamper.call.is_some())
    };
    stage.until("the call that did it is on record", |book, _| told(book)).await?;
    Conditions::default().set(&aws.endpoint).await?;
    until_back(stage, "the revocation that CloudTrail told of", &same).await?;
    let refused = is_refused(&aws, &stolen).await;
    stage.check(judged("the stolen session after all that", "refused", format!("{refused}"), refused));
    let subject = format!("revocation undone: role/{}", role.name);
    stage.until("the page about it", |_, pages| pages.iter().any(|page| page.subject.contains(&subject))).await?;
    stage.nothing_failed().await
}

async fn chained(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    let first = mighty_role(&aws, &format!("first-{suffix}")).await?;
    let second = mighty_role(&aws, &format!("second-{suffix}")).await?;
    let id = first.incident()?;
    let stolen = first.steal_session(&aws, "x-1").await?;
    let onward = second.steal_session(&aws.as_identity(stolen), "x-2").await?;
    let refused = is_refused(&aws, &onward).await;
    stage.check(judged("the session that it made", "works", format!("refused: {refused}"), !refused));
    contained(stage, json!({"role": first.arn, "response": ["quarantine"]})).await?;
    let is_denied = |book: &gameday::ledger::Book| {
        let chained = |step: &&firebreak_model::ledger::StepRecord| step.action == ActionId::RevokeChainedSessions;
        book.steps_of(&id).into_iter().filter(chained).any(|step| step.state == StepState::Applied)
            && book.chains.iter().any(|chain| chain.incident_id == id)
    };
    stage.until("the session in the other role is denied", |book, _| is_denied(book)).await?;
    let denied = async |aws: &Aws| Ok(is_refused(aws, &onward).await);
    let delete = async |aws: &Aws| -> Result<()> {
        aws.iam.delete_role_policy().role_name(&second.name).policy_name(CHAINED_POLICY).send().await?;
        Ok(())
    };
    put_back(stage, &id, "the deny of a chained session", delete, denied).await?;
    released(stage, &id).await?;
    put_back(stage, &id, "the same after the release", delete, denied).await?;
    stage.nothing_failed().await
}

async fn emptied(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    let role = mighty_role(&aws, &format!("emptied-{suffix}")).await?;
    let id = role.incident()?;
    let stolen = role.steal_session(&aws, "x-1").await?;
    let refused = is_refused(&aws, &stolen).await;
    stage.check(judged("the stolen session before", "works", format!("refused: {refused}"), !refused));
    contained(stage, json!({"role": role.arn, "response": ["quarantine"]})).await?;
    stage.until_contained(&id).await?;
    let known = stage.look().await?.tampers_of(&id).len();
    Conditions { cloudtrail_delay: Some(Duration::ZERO), ..Conditions::default() }.set(&aws.endpoint).await?;
    let deny = stage.stack.output("DenyPolicyArn")?.to_owned();
    let with = async |statement: Value| -> Result<String> {
        let document = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
        let create = aws.iam.create_policy_version().policy_arn(&deny).policy_document(document).set_as_default(true);
        let made = create.send().await?;
        Ok(made.policy_version().and_then(|version| version.version_id()).unwrap_or_default().to_owned())
    };
    let weak = with(json!({"Effect": "Deny", "Action": "s3:*", "Resource": "*"})).await?;
    // No sweep, no re-check: the event alone.
    let noticed = |book: &gameday::ledger::Book| book.tampers_of(&id).len() > known;
    stage.until("that nobody is denied any more is on record", |book, _| noticed(book)).await?;
    let holds = |book: &gameday::ledger::Book| {
        book.steps_of(&id).iter().any(|step| step.action == ActionId::BoundRole && step.state == StepState::Applied)
    };
    stage.until("the boundary holds in its place", |book, _| holds(book)).await?;
    let refused = is_refused(&aws, &stolen).await;
    stage.check(judged("the stolen session under the boundary", "refused", format!("{refused}"), refused));
    with(json!({"Effect": "Deny", "Action": "*", "Resource": "*"})).await?;
    Conditions::default().set(&aws.endpoint).await?;
    aws.iam.delete_policy_version().policy_arn(&deny).version_id(weak).send().await?;
    Ok(())
}

async fn function(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    let victim = Victim::set_up(&aws, &suffix, "").await?;
    let id = victim.role.incident()?;
    contained(stage, json!({"role": victim.role.arn, "functions": [victim.function_arn]})).await?;
    stage.until_contained(&id).await?;
    let stopped = async |aws: &Aws| {
        let answer = aws.lambda.get_function_concurrency().function_name(&victim.function).send().await?;
        Ok(answer.reserved_concurrent_executions() == Some(0))
    };
    let undo = async |aws: &Aws| {
        let put = aws.lambda.put_function_concurrency().function_name(&victim.function);
        put.reserved_concurrent_executions(7).send().await?;
        Ok(())
    };
    put_back(stage, &id, "concurrency that was given", undo, stopped).await?;
    let undo = async |aws: &Aws| {
        aws.lambda.delete_function_concurrency().function_name(&victim.function).send().await?;
        Ok(())
    };
    put_back(stage, &id, "concurrency that was deleted", undo, stopped).await?;
    let off = async |aws: &Aws| {
        let answer = aws.lambda.get_event_source_mapping().uuid(&victim.mapping).send().await?;
        Ok(matches!(answer.state(), Some("Disabled" | "Disabling")))
    };
    let undo = async |aws: &Aws| {
        aws.lambda.update_event_source_mapping().uuid(&victim.mapping).enabled(true).send().await?;
        Ok(())
    };
    put_back(stage, &id, "an event source that was enabled", undo, off).await?;
    stage.nothing_failed().await
}

async fn trust(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    let role = Role::create(&aws, &format!("trusted-{suffix}"), DRILL_PATH).await?;
    let id = role.incident()?;
    contained(stage, json!({"role": role.arn, "response": ["quarantine"]})).await?;
    stage.until_contained(&id).await?;
    let endpoint = aws.endpoint.clone();
    Conditions { cloudtrail_delay: Some(Duration::ZERO), ..Conditions::default() }.set(&endpoint).await?;
    let foreign = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": "arn:aws:iam::999988887777:root"}}]});
    // An event has whole seconds: one in the second of the order may have been before it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let update = aws.iam.update_assume_role_policy().role_name(&role.name);
    update.policy_document(foreign.to_string()).send().await?;
    let subject = format!("trust changed: role/{}", role.name);
    let paged = |pages: &[gameday::pages::Page]| pages.iter().any(|page| page.subject.contains(&subject));
    stage.until("the page about the trust", |_, pages| paged(pages)).await?;
    Conditions::default().set(&endpoint).await?;
    let page = stage.pages.iter().find(|page| page.subject.contains(&subject)).context("no page")?;
    let command =
        format!("aws iam update-assume-role-policy --role-name '{}' --policy-document file://trust.json", role.name);
    let text = page.body.clone();
    stage.check(judged("the command that restores it", &command, text.clone(), text.contains(&command)));
    // It is told, not put back: that would be a right to grant. And the deny holds all the same.
    gameday::acts::deny_is_attached(stage, &format!("role/{}", role.name)).await?;
    swept(stage).await?;
    stage.nothing_failed().await
}

async fn partial(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    let victim = Victim::set_up(&aws, &suffix, "").await?;
    let id = victim.role.incident()?;
    let scp = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Action": "lambda:UpdateFunctionUrlConfig", "Resource": "*"}]});
    Conditions { scps: vec![scp], ..Conditions::default() }.set(&aws.endpoint).await?;
    contained(stage, json!({"role": victim.role.arn, "functions": [victim.function_arn]})).await?;
    let subject = format!("role/{}", victim.role.name);
    // Re-checks count from the order on: on a slow machine they are over before the last step has come to its end.
    let ended = |book: &gameday::ledger::Book| {
        let steps = book.steps_of(&id);
        let over = |key: String| steps.iter().any(|step| step.step == key && step.state != StepState::Intended);
        book.incident(&id).is_some_and(|incident| incident.plan.steps.iter().all(|step| over(step.key())))
    };
    stage.until("every step has come to its end", |book, _| ended(book)).await?;
    swept(stage).await?;
    let is = |book: &gameday::ledger::Book| book.watch(&id).is_some_and(|watch| watch.standing == Standing::Partial);
    let book = stage.until("the containment is called partial", |book, _| is(book)).await?;
    let paged = |page: &gameday::pages::Page| page.subject.contains(&subject) && page.subject.contains("partial");
    stage.until("the page about it", |_, pages| pages.iter().any(paged)).await?;
    Conditions::default().set(&aws.endpoint).await?;
    // What failed here, on purpose, is no failure of another test.
    aws.sqs.purge_queue().queue_url(stage.stack.output("FunctionFailuresUrl")?).send().await?;
    let failed: Vec<&str> = book
        .steps_of(&id)
        .iter()
        .filter(|step| step.state == StepState::Failed)
        .map(|step| step.step.as_str())
        .collect();
    stage.check(judged("what failed", "the one step", failed.join(", "), failed.len() == 1));
    let page = stage.pages.iter().find(|page| paged(page)).context("no page")?;
    let told = page.body.contains("close-function-urls");
    let text = page.body.clone();
    stage.check(judged("the page says which", "close-function-urls", text, told));
    gameday::acts::deny_is_attached(stage, &subject).await?;
    let never = !stage.pages.iter().any(|page| page.subject.contains(&subject) && page.subject.contains("settled:"));
    stage.check(judged("called settled", "never", format!("{never}"), never));
    Ok(())
}
