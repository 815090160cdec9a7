//! An administrator's session is stolen, and its thief pushes back; there is no organisation.

use std::time::Duration;

use anyhow::Result;

use super::adversary_under_the_policy::IAM_DELAY;
use super::{House, Playing, Scenario};
use crate::adversary::Adversary;
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

/// From a call to its event, bout by bout.
const EVENT_DELAYS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(5)];

async fn play(stage: &mut Stage) -> Result<()> {
    for delay in EVENT_DELAYS {
        let suffix = random_hex(6);
        stage.tell("", Tone::Dim, &format!("setting the scene of a bout: events after {delay:?}"));
        let adversary = Adversary::set_up(stage, &suffix).await?;
        let conditions = Conditions { cloudtrail_delay: Some(delay), iam_delay: IAM_DELAY, scp: None };
        let score = adversary.fight(stage, &conditions).await?;
        let (pushed, held) = (score.undone > 0, score.held);
        let shown = score.shown();
        // A thief that is not even able to strip the deny would show nothing about the guard.
        let name = format!("events after {delay:?}: the deny is undone in IAM's window");
        stage.check(judged(&name, "at least once", score.undone.to_string(), pushed));
        stage.check(judged(&format!("events after {delay:?}: the containment"), "holds in the end", shown, held));
        stage.score(score);
    }
    stage.nothing_failed().await
}
