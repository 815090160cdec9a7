//! An administrator's session is stolen, and its thief pushes back; there is no organisation.

use std::time::Duration;

use anyhow::Result;

use super::adversary_under_the_policy::IAM_DELAY;
use super::{House, Playing, Scenario};
use crate::adversary::{Adversary, Greed};
use crate::check::judged;
use crate::conditions::Conditions;
use crate::narrator::Tone;
use crate::scene::random_hex;
use crate::stage::Stage;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "adversary-without-the-policy",
    summary: "a thief with an administrator's session strips and mints, and the guard puts back: who wins, and when",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

/// Bout by bout: from a call to its event, and what the thief goes for.
const BOUTS: [(Duration, Greed); 4] = [
    (Duration::ZERO, Greed::Alone),
    (Duration::from_secs(2), Greed::Alone),
    (Duration::from_secs(5), Greed::Alone),
    (Duration::from_secs(2), Greed::Minting),
];

async fn play(stage: &mut Stage) -> Result<()> {
    for (delay, greed) in BOUTS {
        let suffix = random_hex(6);
        stage.tell("", Tone::Dim, &format!("setting the scene of a bout: events after {delay:?}, {greed:?}"));
        let adversary = Adversary::set_up(stage, &suffix, greed).await?;
        let conditions = Conditions { cloudtrail_delay: Some(delay), iam_delay: IAM_DELAY, scp: None };
        let score = adversary.fight(stage, &conditions).await?;
        // A thief that is not even able to strip the deny would show nothing about the guard.
        let name = format!("events after {delay:?}, {greed:?}: the deny is undone in IAM's window");
        stage.check(judged(&name, "at least once", score.undone.to_string(), score.undone > 0));
        // Whoever made itself an administrator of another name is another containment: that bout is only scored.
        if greed == Greed::Alone {
            let name = format!("events after {delay:?}: the containment");
            stage.check(judged(&name, "holds in the end", score.shown(), score.held));
        }
        stage.score(score);
    }
    stage.nothing_failed().await
}
