//! An administrator's session is stolen, and its thief pushes back, under the organisation's policy for the containment
//! alone: what it minted before the deny was in force works on until each is contained.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use iam_eval::organisation::Scp;

use super::{House, Playing, Scenario};
use crate::adversary::moves::Move;
use crate::adversary::{Adversary, Greed};
use crate::check::{judged, listed};
use crate::conditions::{Conditions, policies};
use crate::narrator::Tone;
use crate::scene::random_hex;
use crate::stage::Stage;
use crate::thief::Outcome;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "adversary-under-the-policy",
    summary: "a thief with an administrator's session strips, mints, forges and blinds under the organisation's policy",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

/// Bout by bout: from a call to its event, and what the thief goes for.
const BOUTS: [(Duration, Greed); 3] = [
    (Duration::ZERO, Greed::Minting),
    (Duration::from_secs(5), Greed::Minting),
    (Duration::from_secs(2), Greed::Recreating),
];

/// How often a thief comes whom the deny was in force against before it could strike: a slow machine shows nothing by that.
pub(super) const TRIES: u32 = 3;

/// From a change of IAM to its being in force.
pub(super) const IAM_DELAY: Duration = Duration::from_secs(4);

async fn play(stage: &mut Stage) -> Result<()> {
    nothing_is_blinded(stage).await?;
    for (delay, greed) in BOUTS {
        let suffix = random_hex(6);
        stage.tell("", Tone::Dim, &format!("setting the scene of a bout: events after {delay:?}, {greed:?}"));
        let adversary = Adversary::set_up(stage, &suffix, greed).await?;
        let conditions =
            Conditions { cloudtrail_delay: Some(delay), iam_delay: IAM_DELAY, scps: policies(&[Scp::Containment])? };
        let score = adversary.fight(stage, &conditions).await?;
        let name = |what: &str| format!("events after {delay:?}, {greed:?}: {what}");
        let is_undoing = |of: &BTreeMap<String, usize>| {
            Move::FREEING.iter().filter(|which| of.contains_key(which.name())).map(|w| w.name().to_owned()).collect()
        };
        let undone: Vec<String> =
            [&score.before_the_deny, &score.in_the_window, &score.after_by_the_session, &score.after_by_others]
                .into_iter()
                .flat_map(|of| -> Vec<String> { is_undoing(of) })
                .collect();
        stage.check(judged(&name("the quarantine is undone"), "never", listed(&undone), undone.is_empty()));
        let after: Vec<String> = score.after_by_the_session.keys().cloned().collect();
        let held = score.first_refusal_ms.is_some() && after.is_empty();
        stage.check(judged(&name("what the session achieves once it was refused"), "none", listed(&after), held));
        stage.check(judged(&name("the containment"), "holds", score.shown(), score.held));
        stage.score(score);
    }
    stage.nothing_failed().await
}

/// What blinds Firebreak is refused to an administrator that nobody contains, and goes through without the policy.
async fn nothing_is_blinded(stage: &mut Stage) -> Result<()> {
    let suffix = random_hex(6);
    let adversary = Adversary::set_up(stage, &suffix, Greed::Minting).await?;
    let endpoint = stage.aws.endpoint.clone();
    Conditions { scps: policies(&[Scp::Containment])?, ..Conditions::default() }.set(&endpoint).await?;
    let before = World::look(&stage.aws).await?;
    let mut through = Vec::new();
    for which in Move::BLINDING {
        let outcome = adversary.attempt(which).await?;
        let tone = if outcome.is_stopped() { Tone::Good } else { Tone::Bad };
        stage.tell("an administrator", tone, &format!("{}: {}", which.name(), outcome.shown()));
        if !matches!(outcome, Outcome::Denied(_)) {
            through.push(format!("{}: {}", which.name(), outcome.shown()));
        }
    }
    let works = adversary.attempt(Move::Steal).await?;
    Conditions::default().set(&endpoint).await?;
    stage.check(judged("what blinds or forges under the policy", "none", listed(&through), through.is_empty()));
    stage.world_is("the world after that, against before", &before, &[]).await?;
    let worked = works == Outcome::Succeeded;
    stage.check(judged("what the policy is not about", "succeeded", works.shown(), worked));
    // The same call goes through where there is no policy: it was the policy that refused it.
    let without = adversary.attempt(Move::StopTrail).await?;
    let stopped = without == Outcome::Succeeded;
    stage.check(judged("stopping the trail without the policy", "succeeded", without.shown(), stopped));
    stage.aws.cloudtrail.start_logging().name(&adversary.target().trail).send().await?;
    stage.aws.cloudtrail.delete_trail().name(&adversary.target().trail).send().await?;
    Ok(())
}
