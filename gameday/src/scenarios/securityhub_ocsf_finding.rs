//! Security Hub sends two findings that name one function and its role: a package to update, and a detection.

use anyhow::Result;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::equal;
use crate::findings::securityhub::{lambda_c2_v2, vulnerable_package_v2};
use crate::narrator::Tone;
use crate::scene::Victim;
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "securityhub-ocsf-finding",
    summary: "a detection in Security Hub's second format: deny, isolate, release; a vulnerability: nothing",
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
    let victim = Victim::set_up(&aws, &suffix, "team/orders/").await?;
    let id = victim.role.incident()?;
    let stolen = victim.role.steal_session(&aws, "implant").await?;
    let thief = Thief::with(&aws, "the implant", stolen, &victim.goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let vulnerability = vulnerable_package_v2(&aws, &victim)?;
    stage.send_from_security_hub(&vulnerability).await?;
    let book = stage.stay_quiet().await?;
    let found = if book.incident(&id).is_some() { "there is one" } else { "none" };
    stage.check(equal("incidents for a vulnerability", "none", found));
    stage.world_is("the world after the vulnerability, against before", &before, &[]).await?;
    super::function_works(stage, &victim).await;

    let detection = lambda_c2_v2(&aws, &victim)?;
    let sent = stage.send_from_security_hub(&detection).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    acts::measure_the_deny(stage, &id, sent).await?;
    let arn = book.incident(&id).and_then(|incident| incident.principal.arn.clone()).unwrap_or_default();
    stage.check(equal("the role on record", &victim.role.arn, &arn));
    let decided_by = book.finding(detection.finding_id()).map_or("none", |finding| finding.rule.as_str());
    stage.check(equal("the rule that decided", "function-talks-to-its-controller", decided_by));
    acts::function_is_isolated(stage, &victim).await?;

    acts::release(stage, &id, &format!("role/{}", victim.role.name), &before, &Left::default()).await?;
    super::function_works_again(stage, &victim).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
