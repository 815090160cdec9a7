//! An administrator's session is stolen, and its thief pushes back; there is no organisation.

use std::time::Duration;

use anyhow::Result;

use super::adversary_under_the_policy::{IAM_DELAY, TRIES};
use super::{House, Playing, Scenario};
use crate::adversary::score::{Score, table};
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

/// A small form of the race, for a test.
pub const ONE_BOUT: Scenario = Scenario {
    name: "adversary-in-one-bout",
    summary: "a thief with an administrator's session strips and mints more users than the breaker counts, and runs out",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(one_bout(stage)) },
};

/// The same where events are late, by a thief who fights for its session.
pub const ONE_LATE_BOUT: Scenario = Scenario {
    name: "adversary-in-one-late-bout",
    summary: "a thief with an administrator's session strips, events come after five seconds, and the guard wins",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(one_late_bout(stage)) },
};

/// Bout by bout: from a call to its event, and what the thief goes for.
const BOUTS: [(Duration, Greed); 6] = [
    (Duration::from_secs(2), Greed::Alone),
    (Duration::from_secs(2), Greed::Filling),
    (Duration::from_secs(2), Greed::Recreating),
    (Duration::ZERO, Greed::Minting),
    (Duration::from_secs(2), Greed::Minting),
    (Duration::from_secs(5), Greed::Minting),
];

async fn play(stage: &mut Stage) -> Result<()> {
    let mut scores = Vec::new();
    for (delay, greed) in BOUTS {
        scores.push(bout(stage, delay, greed).await?);
    }
    for line in table(&scores) {
        stage.tell("the race", Tone::Plain, &line);
    }
    for score in scores {
        stage.score(score);
    }
    stage.nothing_failed().await
}

/// A thief that makes no more others than that shows little.
const MANY: usize = 3;

async fn one_bout(stage: &mut Stage) -> Result<()> {
    won(stage, Duration::from_secs(2), Greed::Minting).await
}

async fn one_late_bout(stage: &mut Stage) -> Result<()> {
    won(stage, Duration::from_secs(5), Greed::Alone).await
}

/// Not only is the thief out: it is said, with when.
async fn won(stage: &mut Stage, delay: Duration, greed: Greed) -> Result<()> {
    let score = bout(stage, delay, greed).await?;
    for line in table(std::slice::from_ref(&score)) {
        stage.tell("the race", Tone::Plain, &line);
    }
    let (out, settled) = (score.out_after_ms, score.settled_ms);
    let after = out.zip(settled).is_some_and(|(out, settled)| settled > out);
    let name = format!("events after {delay:?}, {greed:?}: the guard calls it settled");
    stage.check(judged(&name, "after the thief is out", format!("out {out:?} ms, settled {settled:?} ms"), after));
    stage.score(score);
    stage.nothing_failed().await
}

async fn bout(stage: &mut Stage, delay: Duration, greed: Greed) -> Result<Score> {
    let conditions = Conditions { cloudtrail_delay: Some(delay), iam_delay: IAM_DELAY, scps: Vec::new() };
    let mut tries = 0;
    let score = loop {
        stage.tell("", Tone::Dim, &format!("setting the scene of a bout: events after {delay:?}, {greed:?}"));
        let adversary = Adversary::set_up(stage, &random_hex(6), greed).await?;
        let score = adversary.fight(stage, &conditions).await?;
        tries += 1;
        let struck = score.undone > 0 && (greed != Greed::Minting || score.made > MANY);
        if struck || tries == TRIES {
            break score;
        }
    };
    let name = |what: &str| format!("events after {delay:?}, {greed:?}: {what}");
    // A thief that is not even able to strip the deny, or to make itself others, would show nothing about the guard.
    let undone = score.undone > 0;
    stage.check(judged(&name("the deny is undone in IAM's window"), "at least once", score.undone.to_string(), undone));
    if greed == Greed::Minting {
        let most = crate::adversary::MOST_USERS;
        let many = score.made > MANY;
        stage.check(judged(
            &name("identities made"),
            &format!("some of {most} and more"),
            score.made.to_string(),
            many,
        ));
        let all = score.asked_about.is_empty();
        stage.check(judged(&name("of them not contained"), "none", crate::check::listed(&score.asked_about), all));
        // Denied too soon, it never came to make one.
        let refused = score.chained_refused_ms.is_some() || !score.chained;
        stage.check(judged(&name("the chained session"), "is refused", score.shown(), refused));
    }
    stage.check(judged(&name("every credential of the thief"), "is out in the end", score.shown(), score.held));
    let none = score.still_at_work.is_empty();
    stage.check(judged(&name("still at work"), "none", crate::check::listed(&score.still_at_work), none));
    Ok(score)
}
