//! A Lambda function talks to a command-and-control server; the finding does not say its role.

use anyhow::Result;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::equal;
use crate::findings;
use crate::narrator::Tone;
use crate::scene::Victim;
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lambda-c2-activity",
    summary: "a function talks to its controller, its role is looked up: deny, isolate, release",
    house: House::Enforcing,
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
    let id = victim.role.incident()?;
    let stolen = victim.role.steal_session(&aws, "implant").await?;
    let thief = Thief::with(&aws, "the implant", stolen, &victim.goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let finding = findings::lambda_c2(&aws, &victim.function_arn, &victim.function, None)?;
    let sent = stage.send_finding(&finding).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    acts::measure_the_deny(stage, &id, sent).await?;
    let named: Vec<String> = acts::functions_named(&book, &id).into_iter().collect();
    stage.check(equal("the function that the plan isolates", &victim.function_arn, &named.join(", ")));
    acts::function_is_isolated(stage, &victim).await?;

    acts::release(stage, &id, &format!("role/{}", victim.role.name), &before, &Left::default()).await?;
    super::function_works_again(stage, &victim).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
