//! A stack that observes: it decides, records and pages, and changes nothing.

use anyhow::Result;
use firebreak_model::decision::Decision;

use super::{House, Playing, Scenario};
use crate::check::{equal, judged};
use crate::findings;
use crate::narrator::Tone;
use crate::scene::Victim;
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "observe-mode",
    summary: "a stack in mode observe gets a finding it would act on: plan and page, nothing changes",
    house: House::Observing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell(
        "",
        Tone::Dim,
        "setting the scene: a function with a queue, a URL, a destination, logs, a generous role",
    );
    let victim = Victim::set_up(&aws, &suffix, "").await?;
    let role = &victim.role;
    let id = role.incident()?;
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, "stolen").await?, &victim.goods);
    let before = World::look(&aws).await?;

    let finding = findings::lambda_c2(&aws, &victim.function_arn, &victim.function, Some(&role.arn))?;
    let finding_id = findings::id(&finding);
    stage.send_finding(&finding).await?;
    stage.until("the finding is on record", |book, _| book.finding(&finding_id).is_some()).await?;
    stage.until("the responder is paged", |_, pages| pages.iter().any(|page| page.body.contains(&finding_id))).await?;
    let book = stage.stay_quiet().await?;
    let record = book.finding(&finding_id);
    let decided = record.map(|r| (r.decision, r.effective));
    let held = decided == Some((Decision::Act, Decision::Notify));
    stage.check(judged("what is decided, and what is done", "act, notify", format!("{decided:?}"), held));
    let planned = record.and_then(|r| r.would_be.clone()).map_or(0, |plan| plan.steps.len());
    stage.check(equal("steps of the plan that would be carried out", "7", &planned.to_string()));
    let incident = if book.incident(&id).is_some() { "there is one" } else { "none" };
    stage.check(equal("incidents", "none", incident));
    stage.world_is("the world, against before", &before, &[]).await?;
    stage.thief_works(&thief).await;
    super::function_works(stage, &victim).await;
    stage.nothing_failed().await
}
