//! A user's key is stolen, and the thief has taken out with it what outlives it: a session of the user, a federated
//! one, and from the first a session of a role, and from there of another. Somebody innocent works in the first role.

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sdk_iam::types::StatusType;
use firebreak_model::action::ActionId;
use firebreak_model::finding::DRILL_PATH;
use firebreak_model::ledger::StepState;
use firebreak_model::policy::CHAINED_POLICY;

use super::role_chaining::chaining_role;
use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::{equal, judged};
use crate::findings;
use crate::narrator::Tone;
use crate::scene::{Goods, User};
use crate::stage::Stage;
use crate::thief::{Call, Thief};
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "sessions-of-a-users-key",
    summary: "a thief took out sessions with a user's key, and roles from there: all of them end, not the key alone",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a user who may assume a role, which may assume another");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let user = User::create(&aws, &format!("deployer-{suffix}"), DRILL_PATH).await?;
    user.may_take_out_sessions(&aws).await?;
    let first = chaining_role(&aws, &format!("stage-{suffix}")).await?;
    let second = chaining_role(&aws, &format!("production-{suffix}")).await?;
    let id = user.incident()?;
    let [stolen_key, other_key] = user.keys.as_slice() else { anyhow::bail!("the user has not two keys") };
    let colleague = first.steal_session(&aws, "colleague").await?;

    let session = user.session_of(&aws, stolen_key).await?;
    let federated = user.federated_session_of(&aws, stolen_key, "innocent-name").await?;
    let assume = async |from: &Credentials, role: &crate::scene::Role, name: &str| {
        let taken = role.steal_session(&aws.as_identity(from.clone()), name).await;
        taken.with_context(|| format!("the thief does not get into `{}`", role.name))
    };
    let in_first = assume(&session, &first, "x-1").await?;
    let in_second = assume(&in_first, &second, "x-2").await?;
    let by_key = assume(stolen_key, &second, "x-3").await?;

    let key = Thief::with(&aws, "the thief (key)", stolen_key.clone(), &goods);
    let other = Thief::with(&aws, "the other key", other_key.clone(), &goods);
    let sessions = [("session", session), ("federated session", federated)]
        .map(|(name, session)| Thief::with_session_of_a_user(&aws, &format!("the thief ({name})"), session, &goods));
    let went_on = [("first role", in_first), ("second role", in_second), ("second role, by the key", by_key)]
        .map(|(name, session)| Thief::with(&aws, &format!("the thief ({name})"), session, &goods));
    let innocent = Thief::with(&aws, "a colleague", colleague, &goods);
    let before = World::look(&aws).await?;
    for thief in sessions.iter().chain(&went_on).chain([&key, &innocent]) {
        stage.thief_works(thief).await;
    }

    // What deactivating the key alone would do: nothing to what was taken out with it.
    let deactivate = aws.iam.update_access_key().user_name(&user.name).access_key_id(stolen_key.access_key_id());
    deactivate.clone().status(StatusType::Inactive).send().await?;
    let outcome = key.attempt(Call::ListBuckets).await;
    stage.check(judged("the key, Inactive", "refused", outcome.shown(), outcome.is_stopped()));
    for thief in &sessions {
        stage.thief_works(thief).await;
    }
    deactivate.status(StatusType::Active).send().await?;

    let finding = findings::access_key_of_user(&aws, &user.name, &user.id, stolen_key.access_key_id())?;
    let sent = stage.send_finding(&finding).await?;
    for thief in sessions.iter().chain([&key, &other]) {
        stage.thief_is_stopped(thief, sent).await?;
    }
    stage.until_contained(&id).await?;
    let chained = |book: &crate::ledger::Book| {
        let steps = book.steps_of(&id).into_iter().filter(|step| step.action == ActionId::RevokeChainedSessions);
        steps.filter(|step| step.state == StepState::Applied).map(|step| step.target.to_string()).collect::<Vec<_>>()
    };
    stage.until("the sessions in both roles are denied", |book, _| chained(book).len() == 2).await?;
    for thief in &went_on {
        stage.thief_is_stopped(thief, sent).await?;
    }
    stage.thief_works(&innocent).await;
    let is_its = |chain: &&firebreak_model::ledger::ChainRecord| chain.incident_id == id;
    let book = stage.until("the chain is on record", |book, _| book.chains.iter().any(|chain| is_its(&chain))).await?;
    let found = book.chains.iter().find(is_its);
    let (sessions_found, gaps) = found.map(|chain| (chain.sessions.len(), chain.gaps.join("; "))).unwrap_or_default();
    stage.check(equal("sessions that were traced", "5", &sessions_found.to_string()));
    stage.check(equal("what was not read or not followed", "", &gaps));
    acts::responder_is_paged(stage, &id, &[&user.name, &first.name, &second.name]).await?;

    let stays = |role: &str| format!("`role/{role} inline policy {CHAINED_POLICY}` is new");
    let inactive = format!("`user/{} access key {}` was Active, is Inactive", user.name, stolen_key.access_key_id());
    let changes = vec![stays(&first.name), stays(&second.name), inactive];
    let left = Left { changes, reactivate_keys: Vec::new() };
    acts::release(stage, &id, &format!("user/{}", user.name), &before, &left).await?;
    for thief in sessions.iter().chain(&went_on).chain([&key]) {
        stage.thief_stays_out(thief, "after the release").await;
    }
    stage.thief_works(&other).await;
    stage.thief_works(&innocent).await;
    stage.nothing_failed().await
}
