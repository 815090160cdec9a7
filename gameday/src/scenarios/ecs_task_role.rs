//! Malware in a task of ECS that was started with another role than its definition's.

use anyhow::Result;
use firebreak_model::finding::DRILL_PATH;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::equal;
use crate::findings;
use crate::narrator::Tone;
use crate::scene::workload::EcsTask;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ecs-task-role",
    summary: "a finding names a task: the role it was started with is denied, not its definition's, not ECS's own",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a task, the role it was started with, its definition's two roles");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let role = Role::create(&aws, &format!("task-started-{suffix}"), DRILL_PATH).await?;
    let defined = Role::create(&aws, &format!("task-defined-{suffix}"), DRILL_PATH).await?;
    let execution = Role::create(&aws, &format!("task-execution-{suffix}"), DRILL_PATH).await?;
    let task = EcsTask::run(&aws, &suffix, &defined, &execution, &role).await?;
    let id = role.incident()?;
    // The session of a task's credentials bears the task's id.
    let session = task.arn.rsplit('/').next().unwrap_or_default();
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, session).await?, &goods);
    let innocent = Thief::with(&aws, "another task", defined.steal_session(&aws, session).await?, &goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    stage.send_finding(&findings::runtime_on_task(&aws, &task)?).await?;
    acts::approval_is_asked_for(stage, &id, &role.name).await?;
    stage.world_is("the world while it waits, against before", &before, &[]).await?;

    let sent = acts::approve(stage, &id, "the container was taken over").await?;
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    let arn = book.incident(&id).and_then(|incident| incident.principal.arn.clone()).unwrap_or_default();
    stage.check(equal("the role on record", &role.arn, &arn));
    acts::deny_is_attached(stage, &format!("role/{}", role.name)).await?;
    acts::evidence_is_secured(stage, &id, &[]).await?;
    for other in [&defined, &execution] {
        acts::is_not_touched(stage, &before, other).await?;
    }
    stage.thief_works(&innocent).await;

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
