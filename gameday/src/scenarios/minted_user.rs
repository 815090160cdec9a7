//! A contained thief uses the seconds in which IAM propagates, and an administrator's hand afterwards: what it makes is
//! contained, who helps is asked about, a role that is made again is contained in the old one's place.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use firebreak_model::action::ActionId;
use firebreak_model::finding::DRILL_PATH;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{IncidentState, StepState};
use firebreak_model::tamper::Nature;
use serde_json::json;

use super::{House, Playing, Scenario};
use crate::acts;
use crate::check::{equal, judged};
use crate::conditions::Conditions;
use crate::findings::{self, INSTANCE, RoleSession};
use crate::ledger::Book;
use crate::narrator::Tone;
use crate::scene::{Goods, Role, User};
use crate::stage::Stage;
use crate::thief::Thief;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "minted-user",
    summary: "a thief mints a user while the deny propagates, an administrator undoes it, the role is made again",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let endpoint = stage.aws.endpoint.clone();
    let played = under_weather(stage).await;
    Conditions::default().set(&endpoint).await?;
    played
}

async fn under_weather(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a role that may do anything in IAM, an administrator, slow weather");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let role = Role::create(&aws, &format!("deploy-role-{suffix}"), DRILL_PATH).await?;
    let anything =
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iam:*", "Resource": "*"}]});
    let put = aws.iam.put_role_policy().role_name(&role.name).policy_name("anything");
    put.policy_document(anything.to_string()).send().await?;
    let id = role.incident()?;
    let stolen = role.steal_session(&aws, INSTANCE).await?;
    let admin = User::create(&aws, &format!("admin-{suffix}"), DRILL_PATH).await?;
    let put = aws.iam.put_user_policy().user_name(&admin.name).policy_name("anything");
    put.policy_document(anything.to_string()).send().await?;
    let weather = Conditions {
        cloudtrail_delay: Some(Duration::from_millis(200)),
        iam_delay: Duration::from_secs(6),
        ..Conditions::default()
    };
    weather.set(&stage.aws.endpoint).await?;
    // The rights of the scene are older than what happens in it.
    tokio::time::sleep(Duration::from_secs(7)).await;

    let thief = Thief::with(&aws, "the thief", stolen.clone(), &goods);
    let session = RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: &thief.access_key };
    let finding = findings::access_key_of_instance(&aws, &session)?;
    stage.send_finding(&finding).await?;
    let denied = |book: &Book| book.steps_of(&id).iter().any(|step| step.state == StepState::Applied);
    stage.until("the deny is read back", |book, _| denied(book)).await?;

    let backdoor = format!("backdoor-{suffix}");
    mint(stage, &stolen, &backdoor).await?;
    let minted = user_incident(&backdoor)?;
    let contained = |book: &Book| {
        let keys = book.steps_of(&minted).into_iter().find(|step| step.action == ActionId::DeactivateAccessKeys);
        keys.is_some_and(|step| step.state == StepState::Applied)
    };
    let book = stage.until("the minted user is contained", |book, _| contained(book)).await?;
    let decided_by = book.incident(&minted).map_or("none", |incident| incident.rule.as_str());
    stage.check(equal("the rule that contained it", "made-by-a-contained-principal", decided_by));
    acts::deny_is_attached(stage, &format!("user/{backdoor}")).await?;
    paged(stage, &format!("drill: minted: role/{}", role.name)).await?;

    let deny = stage.stack.output("DenyPolicyArn")?.to_owned();
    let helper = aws.as_identity(admin.keys.first().context("the administrator has no key")?.clone());
    helper.iam.detach_role_policy().role_name(&role.name).policy_arn(&deny).send().await?;
    stage.tell("the administrator", Tone::Bad, "detaches the deny");
    let asked = user_incident(&admin.name)?;
    let told = |book: &Book| {
        book.tampers_of(&id).iter().any(|tamper| tamper.nature == Nature::Undone && tamper.call.is_some())
    };
    stage.until("who detached it is on record", |book, _| told(book)).await?;
    let waits = |book: &Book| book.incident(&asked).map(|i| i.state) == Some(IncidentState::AwaitingApproval);
    let book = stage.until("a person is asked about the administrator", |book, _| waits(book)).await?;
    let steps = book.steps_of(&asked).len();
    stage.check(equal("steps against the administrator", "0", &steps.to_string()));
    until_attached(stage, &role.name).await?;

    // The role is made again under its name: another role, which the deny was never attached to.
    remake(&helper, &role.name, &deny).await?;
    let again = Role::create(&helper, &role.name, DRILL_PATH).await?;
    stage.tell("the administrator", Tone::Bad, "deletes the role and makes it again");
    let moved = |book: &Book| {
        let principal = book.incident(&id).map(|incident| incident.principal.clone());
        principal.and_then(|p| p.unique_id).is_some_and(|unique| unique.as_str() == again.id)
    };
    stage.until("the incident is about the new role", |book, _| moved(book)).await?;
    until_attached(stage, &role.name).await?;
    paged(stage, &format!("drill: made again: role/{}", role.name)).await?;
    super::deny_detached::settles(stage, &id, "the containment of the new role").await?;
    stage.nothing_failed().await
}

/// The thief's hand in the seconds that are left to it.
async fn mint(stage: &mut Stage, stolen: &Credentials, name: &str) -> Result<()> {
    let thief = stage.aws.as_identity(stolen.clone());
    let made = thief.iam.create_user().user_name(name).path(DRILL_PATH).send().await;
    let key = thief.iam.create_access_key().user_name(name).send().await;
    let found = format!("user {}, key {}", made.is_ok(), key.is_ok());
    stage.tell("the thief", Tone::Bad, &format!("mints `{name}` while the deny propagates: {found}"));
    stage.check(judged("the thief is quicker than IAM", "user true, key true", &found, made.is_ok() && key.is_ok()));
    Ok(())
}

fn user_incident(name: &str) -> Result<IncidentId> {
    let arn = format!("arn:aws:iam::{}:user{DRILL_PATH}{name}", crate::aws::ACCOUNT);
    Ok(firebreak_model::principal::Principal::from_arn(&arn)?.incident_id())
}

async fn paged(stage: &mut Stage, subject: &str) -> Result<()> {
    stage.until(&format!("the page `{subject}`"), |_, pages| pages.iter().any(|p| p.subject.contains(subject))).await?;
    Ok(())
}

async fn until_attached(stage: &mut Stage, role: &str) -> Result<()> {
    let deny = stage.stack.output("DenyPolicyArn")?.to_owned();
    for _ in 0..200 {
        let answer = stage.aws.iam.list_attached_role_policies().role_name(role).send().await;
        let policies = answer.map(|answer| answer.attached_policies.unwrap_or_default()).unwrap_or_default();
        if policies.iter().any(|policy| policy.policy_arn() == Some(deny.as_str())) {
            break;
        }
        stage.look().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    acts::deny_is_attached(stage, &format!("role/{role}")).await
}

async fn remake(admin: &crate::aws::Aws, role: &str, deny: &str) -> Result<()> {
    for policy in ["generous", "anything"] {
        admin.iam.delete_role_policy().role_name(role).policy_name(policy).send().await?;
    }
    // The guard is quick: the deny is attached again between two calls, and a role with a policy cannot be deleted.
    for _ in 0..50 {
        let _ = admin.iam.detach_role_policy().role_name(role).policy_arn(deny).send().await;
        if admin.iam.delete_role().role_name(role).send().await.is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("the role cannot be deleted")
}
