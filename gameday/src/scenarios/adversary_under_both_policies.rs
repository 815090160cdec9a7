//! An administrator's session is stolen, and its thief pushes back, under both policies of the organisation: for the
//! containment, and for identities.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use iam_eval::organisation::Scp;
use serde_json::json;

use super::adversary_under_the_policy::IAM_DELAY;
use super::{House, Playing, Scenario};
use crate::adversary::moves::Move;
use crate::adversary::score::Score;
use crate::adversary::{Adversary, Greed};
use crate::aws::Aws;
use crate::check::{equal, judged, listed};
use crate::conditions::{Conditions, policies};
use crate::narrator::Tone;
use crate::scene::random_hex;
use crate::stage::Stage;
use crate::thief::{Outcome, outcome};
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "adversary-under-both-policies",
    summary: "a thief with an administrator's session mints nothing under both policies, and is out once it was refused",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

/// Bout by bout: from a call to its event, and what the thief goes for.
const BOUTS: [(Duration, Greed); 3] = [
    (Duration::ZERO, Greed::Minting),
    (Duration::from_secs(5), Greed::Minting),
    (Duration::from_secs(2), Greed::Recreating),
];

async fn play(stage: &mut Stage) -> Result<()> {
    nothing_is_minted(stage).await?;
    for (delay, greed) in BOUTS {
        bout(stage, delay, greed).await?;
    }
    stage.nothing_failed().await
}

/// Once the stolen session was refused, nobody that the thief is achieves anything: it is nobody else.
async fn bout(stage: &mut Stage, delay: Duration, greed: Greed) -> Result<()> {
    let suffix = random_hex(6);
    stage.tell("", Tone::Dim, &format!("setting the scene of a bout: events after {delay:?}, {greed:?}"));
    let adversary = Adversary::set_up(stage, &suffix, greed).await?;
    let function = adversary.target().victim.function.clone();
    let conditions = Conditions { cloudtrail_delay: Some(delay), iam_delay: IAM_DELAY, scps: policies(&Scp::ALL)? };
    let score = adversary.fight(stage, &conditions).await?;
    let name = |what: &str| format!("events after {delay:?}, {greed:?}: {what}");
    let ever = [&score.before_the_deny, &score.in_the_window, &score.after_by_the_session, &score.after_by_others];
    for (what, moves) in [("the quarantine is undone", &Move::FREEING[..]), ("made what outlives it", &Move::MINTING)] {
        let found = among(moves, &ever);
        stage.check(judged(&name(what), "never", listed(&found), found.is_empty()));
    }
    stage.check(equal(&name("whom it is beside the session"), "0", &score.made.to_string()));
    let after = [&score.after_by_the_session, &score.after_by_others];
    let found: Vec<String> = after.into_iter().flat_map(|of| of.keys().cloned()).collect();
    let nothing = score.first_refusal_ms.is_some() && found.is_empty();
    stage.check(judged(&name("achieved by anyone once the session was refused"), "nothing", listed(&found), nothing));
    let answer = stage.aws.lambda.get_function_concurrency().function_name(&function).send().await?;
    let reserved = answer.reserved_concurrent_executions();
    stage.check(judged(&name("concurrency of the function"), "0", format!("{reserved:?}"), reserved == Some(0)));
    stage.check(judged(&name("the containment"), "holds", score.shown(), is_over(&score)));
    stage.score(score);
    Ok(())
}

fn is_over(score: &Score) -> bool {
    score.held && score.still_at_work.is_empty() && score.settled_ms.is_some()
}

/// Which of these moves went through, at any time that is looked at.
fn among(moves: &[Move], of: &[&BTreeMap<String, usize>]) -> Vec<String> {
    let went_through = |which: &&Move| of.iter().any(|counts| counts.contains_key(which.name()));
    moves.iter().filter(went_through).map(|which| which.name().to_owned()).collect()
}

/// What makes a credential or a way in is refused to an administrator that nobody contains, and goes through without the
/// policy for identities.
async fn nothing_is_minted(stage: &mut Stage) -> Result<()> {
    let adversary = Adversary::set_up(stage, &random_hex(6), Greed::Minting).await?;
    let (aws, neighbour) = (stage.aws.clone(), adversary.target().neighbour.clone());
    let key = key_of(&aws, &neighbour).await?;
    Conditions { scps: policies(&Scp::ALL)?, ..Conditions::default() }.set(&aws.endpoint).await?;
    let before = World::look(&aws).await?;
    let through = minted(stage, &adversary, &key, |outcome| !matches!(outcome, Outcome::Denied(_))).await?;
    stage.check(judged("what is minted under both policies", "none", listed(&through), through.is_empty()));
    stage.world_is("the world after that, against before", &before, &[]).await?;
    let works = adversary.attempt(Move::Steal).await?;
    stage.check(judged("what the policies are not about", "succeeded", works.shown(), works == Outcome::Succeeded));
    // The same goes through where only the other policy is: it was this one that refused it.
    Conditions { scps: policies(&[Scp::Containment])?, ..Conditions::default() }.set(&aws.endpoint).await?;
    let refused = minted(stage, &adversary, &key, |outcome| *outcome != Outcome::Succeeded).await?;
    stage.check(judged("what is refused without the second", "none", listed(&refused), refused.is_empty()));
    Conditions::default().set(&aws.endpoint).await?;
    adversary.clear_away(&aws).await;
    Ok(())
}

/// Tries all that mints, and says which attempts came to what is asked about.
async fn minted(
    stage: &mut Stage,
    adversary: &Adversary,
    key: &Credentials,
    is: impl Fn(&Outcome) -> bool,
) -> Result<Vec<String>> {
    let mut tried = Vec::new();
    for which in Move::MINTING {
        tried.push((which.name(), adversary.attempt(which).await?));
    }
    let all = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let take = stage.aws.as_identity(key.clone()).sts.get_federation_token().name("on").policy(all.to_string());
    tried.push(("takes out a federated session", outcome(take.send().await)));
    for (name, outcome) in &tried {
        let tone = if outcome.is_stopped() { Tone::Good } else { Tone::Bad };
        stage.tell("an administrator", tone, &format!("{name}: {}", outcome.shown()));
    }
    Ok(tried.iter().filter(|(_, o)| is(o)).map(|(name, o)| format!("{name}: {}", o.shown())).collect())
}

/// A key of a user who may take out federated sessions.
async fn key_of(aws: &Aws, user: &str) -> Result<Credentials> {
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "sts:GetFederationToken", "Resource": "*"}]});
    let put = aws.iam.put_user_policy().user_name(user).policy_name("federates");
    put.policy_document(policy.to_string()).send().await?;
    let answer = aws.iam.create_access_key().user_name(user).send().await?;
    let key = answer.access_key().context("the new key is not shown")?;
    Ok(Credentials::new(key.access_key_id(), key.secret_access_key(), None, None, "a user's"))
}
