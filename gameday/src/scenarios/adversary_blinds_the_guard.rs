//! An administrator's session is stolen, and its thief stops the guard in the midst of it; there is no organisation.
//!
//! Nothing of Firebreak's puts itself back: who wins such a bout is the score, and what is checked is what comes of it.
//! The guard's heartbeat stops, which is an alarm; and when a person has given the guard back, its first look finds what
//! is missing and what is undone, and that is put back.

use std::time::Duration;

use anyhow::Result;
use firebreak_model::action::FunctionName;
use serde_json::json;

use super::adversary_under_the_policy::{IAM_DELAY, TRIES};
use super::{House, Playing, Scenario};
use crate::acts;
use crate::adversary::moves::Move;
use crate::adversary::score::Score;
use crate::adversary::{Adversary, Greed};
use crate::check::judged;
use crate::conditions::Conditions;
use crate::narrator::Tone;
use crate::scene::random_hex;
use crate::stage::Stage;
use crate::thief::{Outcome, outcome};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "adversary-blinds-the-guard",
    summary: "a thief with an administrator's session stops the guard: who wins, and what a person finds who starts it again",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let aws = stage.aws.clone();
    stage.tell("", Tone::Dim, "setting the scene: a session of an administrator's role, events after two seconds");
    let guard = stage.stack.function(FunctionName::GuardContainment);
    let before = aws.lambda.get_function_concurrency().function_name(&guard).send().await?;
    let before = before.reserved_concurrent_executions();
    let conditions =
        Conditions { cloudtrail_delay: Some(Duration::from_secs(2)), iam_delay: IAM_DELAY, scps: Vec::new() };
    let mut tries = 0;
    let (target, score) = loop {
        let adversary = Adversary::set_up(stage, &random_hex(6), Greed::Blinding).await?;
        let target = adversary.target().clone();
        let fought = adversary.fight(stage, &conditions).await;
        if fought.is_err() {
            // What ends early leaves the next scenario a guard.
            give_back(stage, &guard, before).await?;
            aws.events.enable_rule().name(target.changes()).send().await?;
        }
        let score = fought?;
        tries += 1;
        // A thief whom the deny was in force against before it could strike shows nothing: it comes again.
        if tries == TRIES || went_through(&score, Move::StopGuard) {
            break (target, score);
        }
    };

    for which in [Move::StopGuard, Move::DisableChanges] {
        let done = went_through(&score, which);
        stage.check(judged(which.name(), "went through: nothing forbids it", score.shown(), done));
    }
    // The table's own policy keeps out whoever is none of ours.
    let forged = went_through(&score, Move::ForgeRecord);
    stage.check(judged(Move::ForgeRecord.name(), "never", score.shown(), !forged));
    stage.score(score);

    let asked = outcome(aws.lambda.invoke().function_name(&guard).send().await);
    let silent = asked != Outcome::Succeeded;
    stage.check(judged("the guard's heartbeat, while it is stopped", "none: an alarm", asked.shown(), silent));

    give_back(stage, &guard, before).await?;
    stage.tell("a person", Tone::Plain, "gives the guard its concurrency back");
    let missing = "the rule `changes` is not enabled";
    let said = sweep(stage).await?;
    let found = said.contains(missing);
    stage.check(judged("what its first look misses", missing, said, found));
    aws.events.enable_rule().name(target.changes()).send().await?;
    let id = target.incident.clone();
    let deny = stage.stack.output("DenyPolicyArn")?.to_owned();
    let began = std::time::Instant::now();
    while !is_denied(stage, &target.victim.role.name, &deny).await? && began.elapsed() < crate::stage::PATIENCE {
        stage.look().await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    acts::deny_is_attached(stage, &format!("role/{}", target.victim.role.name)).await?;
    let watched = |book: &crate::ledger::Book| book.watch(&id).is_some_and(|watch| watch.checks.iter().any(|c| c.held));
    stage.until("a look at the containment that found it whole", |book, _| watched(book)).await?;
    let said = sweep(stage).await?;
    let whole = said.contains("all parts are there");
    stage.check(judged("once the rule is enabled", "all is there", said, whole));
    Ok(())
}

async fn give_back(stage: &Stage, guard: &str, before: Option<i32>) -> Result<()> {
    let lambda = &stage.aws.lambda;
    match before {
        Some(reserved) => {
            let put = lambda.put_function_concurrency().function_name(guard);
            put.reserved_concurrent_executions(reserved).send().await?;
        }
        None => {
            lambda.delete_function_concurrency().function_name(guard).send().await?;
        }
    }
    Ok(())
}

fn went_through(score: &Score, which: Move) -> bool {
    let ever = [&score.before_the_deny, &score.in_the_window, &score.after_by_the_session, &score.after_by_others];
    ever.iter().any(|of| of.contains_key(which.name()))
}

async fn is_denied(stage: &Stage, role: &str, deny: &str) -> Result<bool> {
    let attached = stage.aws.iam.list_attached_role_policies().role_name(role).send().await?;
    Ok(attached.attached_policies().iter().any(|policy| policy.policy_arn() == Some(deny)))
}

async fn sweep(stage: &mut Stage) -> Result<String> {
    let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event", "reason": "the guard's schedule"});
    let answer = stage.invoke(FunctionName::GuardContainment, &tick).await?;
    Ok(answer.text("message").to_owned())
}
