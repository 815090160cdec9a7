//! A thief who goes on: from the stolen role to a second, from there to a third, back to the first, to itself, and
//! into another account. Somebody innocent has a session of the second role, and keeps it.

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::finding::DRILL_PATH;
use firebreak_model::ledger::StepState;
use firebreak_model::policy::CHAINED_POLICY;
use serde_json::json;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::aws::{ACCOUNT, Aws};
use crate::check::{equal, judged};
use crate::findings::{self, INSTANCE, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::{Call, Thief};
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "role-chaining",
    summary: "a thief assumes one role from another: every session it made is denied, and nobody else's",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

/// Whose role the thief reaches in the end.
const PARTNER: &str = "444455556666";

/// A role that may assume others, and that this account may assume.
pub(super) async fn chaining_role(aws: &Aws, name: &str) -> Result<Role> {
    let role = Role::create(aws, name, DRILL_PATH).await?;
    let policy = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]});
    let put = aws.iam.put_role_policy().role_name(name).policy_name("goes-on");
    put.policy_document(policy.to_string()).send().await?;
    Ok(role)
}

/// A role of another account that trusts this one.
async fn partners_role(partner: &Aws, name: &str) -> Result<Role> {
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}, "Action": "sts:AssumeRole"}]});
    let create = partner.iam.create_role().role_name(name);
    let answer = create.assume_role_policy_document(trust.to_string()).send().await?;
    let role = answer.role().context("the partner's role is not shown")?;
    let all = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let put = partner.iam.put_role_policy().role_name(name).policy_name("all");
    put.policy_document(all.to_string()).send().await?;
    Ok(Role { name: name.to_owned(), arn: role.arn().to_owned(), id: role.role_id().to_owned() })
}

/// Goes on from a session to a role.
async fn assume(aws: &Aws, from: &Credentials, role: &Role, session: &str) -> Result<Credentials> {
    let taken = role.steal_session(&aws.as_identity(from.clone()), session).await;
    taken.with_context(|| format!("the thief does not get into `{}`", role.name))
}

/// The policy that the page gives for another account.
fn policy_in(page: &str) -> Option<&str> {
    page.split("--policy-document '").nth(1)?.split('\'').next()
}

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: three roles that may assume each other, one of a partner's account");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let partner = Aws::with(&aws.endpoint, &aws.region, Credentials::new(PARTNER, "test", None, None, "a partner"));
    let first = chaining_role(&aws, &format!("frontend-{suffix}")).await?;
    let second = chaining_role(&aws, &format!("billing-{suffix}")).await?;
    let third = chaining_role(&aws, &format!("deploy-{suffix}")).await?;
    let theirs = partners_role(&partner, &format!("partner-{suffix}")).await?;
    let id = first.incident()?;
    let colleague = second.steal_session(&aws, "colleague").await?;

    let stolen = first.steal_session(&aws, INSTANCE).await?;
    let in_second = assume(&aws, &stolen, &second, "x-1").await?;
    let in_third = assume(&aws, &in_second, &third, "x-2").await?;
    let back = assume(&aws, &in_third, &first, "x-3").await?;
    // The other Region's STS records it there.
    let elsewhere = aws.in_region("eu-west-1");
    let again = assume(&elsewhere, &in_second, &second, "x-4").await?;
    let abroad = assume(&aws, &in_third, &theirs, "x-5").await?;

    let thief = Thief::with(&aws, "the thief (stolen)", stolen.clone(), &goods);
    let innocent = Thief::with(&aws, "a colleague", colleague, &goods);
    let went_on: Vec<Thief> = [
        ("the thief (second role)", in_second),
        ("the thief (third role)", in_third),
        ("the thief (back in the first)", back),
        ("the thief (second role, by itself)", again),
    ]
    .into_iter()
    .map(|(name, session)| Thief::with(&aws, name, session, &goods))
    .collect();
    let before = World::look(&aws).await?;
    for one in went_on.iter().chain([&thief, &innocent]) {
        stage.thief_works(one).await;
    }

    let session =
        RoleSession { role: &first.name, role_id: &first.id, session: INSTANCE, access_key: stolen.access_key_id() };
    let sent = stage.send_finding(&findings::access_key_of_instance(&aws, &session)?).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    stage.until_contained(&id).await?;
    let chained = |book: &crate::ledger::Book| {
        let steps = book.steps_of(&id).into_iter().filter(|step| step.action == ActionId::RevokeChainedSessions);
        steps.filter(|step| step.state == StepState::Applied).map(|step| step.target.to_string()).collect::<Vec<_>>()
    };
    let book = stage.until("the sessions in both other roles are denied", |book, _| chained(book).len() == 2).await?;
    let mut denied = chained(&book);
    denied.sort();
    let mut expected = [format!("role/{}", second.name), format!("role/{}", third.name)];
    expected.sort();
    stage.check(equal("roles in which sessions are denied", &expected.join(", "), &denied.join(", ")));
    for one in &went_on {
        stage.thief_is_stopped(one, sent).await?;
    }
    stage.thief_works(&innocent).await;
    // The sessions are denied before the chain is on record.
    let on_record = |book: &crate::ledger::Book| book.chains.iter().any(|chain| chain.incident_id == id);
    let book = stage.until("the chain is on record", |book, _| on_record(book)).await?;
    let found = book.chains.iter().find(|chain| chain.incident_id == id);
    let (sessions, gaps) = found.map(|chain| (chain.sessions.len(), chain.gaps.join("; "))).unwrap_or_default();
    stage.check(equal("sessions that were traced", "5", &sessions.to_string()));
    stage.check(equal("what was not read or not followed", "", &gaps));

    // What lies in another account: the page has the policy, and the policy holds.
    acts::responder_is_paged(stage, &id, &[PARTNER, "aws iam put-role-policy", &theirs.name]).await?;
    let page = stage.pages.iter().rev().find(|page| page.body.contains(&format!("--role-name '{}'", theirs.name)));
    let policy = page.and_then(|page| policy_in(&page.body)).context("the page holds no policy")?.to_owned();
    let abroad = Thief::with(&aws, "the thief (abroad)", abroad, &goods);
    stage.check(judged(
        "the thief abroad, before",
        "it works",
        "asked",
        !abroad.attempt(Call::ListRoles).await.is_stopped(),
    ));
    let put = partner.iam.put_role_policy().role_name(&theirs.name).policy_name(CHAINED_POLICY);
    put.policy_document(policy).send().await.context("the partner cannot apply the policy")?;
    let outcome = abroad.attempt(Call::ListRoles).await;
    stage.check(judged(
        "the thief abroad, with the policy of the page",
        "denied",
        outcome.shown(),
        outcome.is_stopped(),
    ));

    // CloudTrail may be late: the order comes again, and finds what is new.
    let event = json!({"detail-type": "Containment Ordered", "source": "firebreak", "detail": {"incident_id": id}});
    let again = json!({"Records": [{"messageId": "m1", "eventSource": "aws:sqs", "body": event.to_string()}]});
    let answer = stage.invoke(FunctionName::RevokeSessions, &again).await?;
    let failures = answer.payload.get("batchItemFailures").and_then(|f| f.as_array()).map_or(0, Vec::len);
    let book = stage.look().await?;
    let over = book.chains.iter().any(|chain| chain.incident_id == id && chain.settled_at.is_some());
    stage.check(equal(
        "messages that are to come again, as long as CloudTrail is not complete up to after the last deny",
        if over { "0" } else { "1" },
        &failures.to_string(),
    ));

    let stays = |role: &Role| format!("`role/{} inline policy {CHAINED_POLICY}` is new", role.name);
    let left = Left { changes: vec![stays(&second), stays(&third)], reactivate_keys: Vec::new() };
    acts::release(stage, &id, &format!("role/{}", first.name), &before, &left).await?;
    for one in went_on.iter().chain([&thief]) {
        stage.thief_stays_out(one, "after the release").await;
    }
    stage.thief_works(&innocent).await;
    stage.nothing_failed().await
}
