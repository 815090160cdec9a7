//! An administrator, or a thief with an administrator's rights, undoes a containment by hand: the guard has it put back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_sdk_lambda::types::FunctionUrlAuthType;
use firebreak_model::action::FunctionName;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::StepState;
use firebreak_model::watch::{Opinion, Standing};
use jiff::Timestamp;
use serde_json::json;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::{equal, judged};
use crate::findings;
use crate::ledger::Book;
use crate::narrator::Tone;
use crate::scene::Victim;
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "deny-detached",
    summary: "a containment is settled, undone by hand, put back and settled again; a release is no tampering",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a function in production, a stolen session of its role");
    let victim = Victim::set_up(&aws, &suffix, "").await?;
    let id = victim.role.incident()?;
    let stolen = victim.role.steal_session(&aws, &victim.function).await?;
    let thief = Thief::with(&aws, "the thief", stolen, &victim.goods);
    let before = World::look(&aws).await?;
    let finding = findings::lambda_c2(&aws, &victim.function_arn, &victim.function, None)?;
    let sent = stage.send_finding(&finding).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    stage.until_contained(&id).await?;
    let first = settles(stage, &id, "the containment").await?;
    let on = |word: &str| format!("drill: {word}: role/{}", victim.role.name);
    stage
        .until("the page that it is settled", |_, pages| pages.iter().any(|p| p.subject.contains(&on("settled"))))
        .await?;

    // What the thief would do, if it had got hold of an administrator.
    undo(stage, &victim).await?;
    stage.tell("the administrator", Tone::Bad, "detached the deny, gave the function concurrency, opened its doors");
    sweep(stage).await?;
    let book = stage.until("all of it is put back", |book, _| is_back(book, &id, sent, 3)).await?;
    let owners: BTreeSet<&str> =
        book.tampers_of(&id).into_iter().flat_map(|t| t.owners.iter().map(|owner| owner.as_str())).collect();
    stage.check(equal(
        "who puts it back",
        "isolate-function, quarantine-principal",
        &owners.into_iter().collect::<Vec<_>>().join(", "),
    ));
    acts::deny_is_attached(stage, &format!("role/{}", victim.role.name)).await?;
    acts::function_is_isolated(stage, &victim).await?;
    stage.thief_stays_out(&thief, "after it was put back").await;
    let second = settles(stage, &id, "what was put back").await?;
    stage.check(judged(
        "it is watched anew",
        "from later on",
        format!("from {second}, before from {first}"),
        second > first,
    ));

    undo(stage, &victim).await?;
    stage.tell("the administrator", Tone::Bad, "does it again");
    sweep(stage).await?;
    stage.until("it is put back again", |book, _| is_back(book, &id, second, 3)).await?;
    settles(stage, &id, "what was put back again").await?;
    let subjects: Vec<&str> = stage.pages.iter().map(|page| page.subject.as_str()).collect();
    let paged = subjects.iter().filter(|subject| subject.contains(&on("undone"))).count();
    let book = stage.look().await?;
    let undone = book.tampers_of(&id);
    // A look may come while the administrator is at it: then it finds a part, which is an occasion of its own.
    let occasions: BTreeSet<String> = undone.iter().map(|tamper| tamper.occasion()).collect();
    let (wanted, found) = (occasions.len().to_string(), paged.to_string());
    stage.check(equal("pages about the undoing, one for the same hand and the same steps", &wanted, &found));
    let more = undone.len() > 1;
    stage.check(judged("times that it was found undone", "more than once", undone.len().to_string(), more));

    let known = stage.look().await?.tampers_of(&id).len();
    acts::release(stage, &id, &format!("role/{}", victim.role.name), &before, &Left::default()).await?;
    sweep(stage).await?;
    let book = stage.stay_quiet().await?;
    stage.check(equal("tampering on record since the release", "0", &(book.tampers_of(&id).len() - known).to_string()));
    let watched = book.watches.iter().any(|watch| watch.incident_id == id);
    stage.check(equal("what is released is watched", "false", &watched.to_string()));
    super::function_works_again(stage, &victim).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}

/// Waits until the guard calls it settled; answers since when it was watched for that.
pub(super) async fn settles(stage: &mut Stage, id: &IncidentId, what: &str) -> Result<Timestamp> {
    // Nothing is settled before CloudTrail is complete up to after the last deny, and the search has come again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    acts::search_again(stage, id).await?;
    let over = |book: &Book| book.chain(id).is_some_and(|chain| chain.settled_at.is_some());
    stage.until(&format!("{what}: the search for chained sessions is over"), |book, _| over(book)).await?;
    let checked = |book: &Book| book.watch(id).is_some_and(|watch| watch.next_check_at.is_none());
    stage.until(&format!("{what}: every re-check is done"), |book, _| checked(book)).await?;
    sweep(stage).await?;
    let is = |book: &Book| book.watch(id).is_some_and(|watch| watch.standing == Standing::Settled);
    let book = stage.until(&format!("{what} is settled"), |book, _| is(book)).await?;
    let watch = book.watch(id).context("nothing is watched")?;
    let found = watch.checks.iter().filter(|check| check.at >= watch.since && !check.held).count();
    stage.check(equal(&format!("{what}: looks that it did not hold at"), "0", &found.to_string()));
    stage.check(judged(
        &format!("{what}: the second opinion"),
        "agrees",
        format!("{:?}", watch.opinion),
        watch.opinion == Opinion::Agrees,
    ));
    let complete = watch.cloudtrail_complete_until.is_some_and(|until| until > watch.since);
    let shown = format!("complete until {:?}", watch.cloudtrail_complete_until);
    stage.check(judged(&format!("{what}: CloudTrail"), "complete over it", shown, complete));
    Ok(watch.since)
}

/// Has the guard look at everything now, as its schedule does every few minutes.
pub(super) async fn sweep(stage: &mut Stage) -> Result<()> {
    let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event", "reason": "the guard's schedule"});
    let answer = stage.invoke(FunctionName::GuardContainment, &tick).await?;
    stage.check(equal("the guard's sweep", "swept", answer.text("outcome")));
    Ok(())
}

async fn undo(stage: &Stage, victim: &Victim) -> Result<()> {
    let (iam, lambda) = (&stage.aws.iam, &stage.aws.lambda);
    let deny = stage.stack.output("DenyPolicyArn")?;
    iam.detach_role_policy().role_name(&victim.role.name).policy_arn(deny).send().await?;
    let concurrency = lambda.put_function_concurrency().function_name(&victim.function);
    concurrency.reserved_concurrent_executions(9).send().await?;
    lambda.update_event_source_mapping().uuid(&victim.mapping).enabled(true).send().await?;
    let open = lambda.update_function_url_config().function_name(&victim.function);
    open.auth_type(FunctionUrlAuthType::None).send().await?;
    Ok(())
}

/// Whether what was found undone later than `since` was read back after that, that many steps in all, and all of them are
/// applied. One look may find them all, or one after the other a part.
fn is_back(book: &Book, id: &IncidentId, since: Timestamp, least: usize) -> bool {
    let steps = book.steps_of(id);
    let mut undone: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for tamper in book.tampers_of(id).into_iter().filter(|tamper| tamper.at > since) {
        for step in &tamper.steps {
            let at = undone.entry(step).or_insert(tamper.at);
            *at = tamper.at.max(*at);
        }
    }
    let again = |step: &str, at: Timestamp| {
        steps.iter().any(|found| found.step == step && found.verified_at.is_some_and(|verified| verified > at))
    };
    undone.len() >= least
        && undone.iter().all(|(step, at)| again(step, *at))
        && steps.iter().all(|step| step.state == StepState::Applied)
}
