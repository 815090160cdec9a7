//! Malware on an instance; the finding names the instance profile, whose name another role has.

use anyhow::Result;
use firebreak_model::finding::DRILL_PATH;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::equal;
use crate::findings::{self, INSTANCE};
use crate::narrator::Tone;
use crate::scene::workload::InstanceProfile;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "instance-profile-role",
    summary: "a finding names an instance profile: its role is denied on approval, not the role of that name",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: an instance profile, its role, and a role of the profile's name");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let name = format!("storefront-{suffix}");
    let role = Role::create(&aws, &format!("web-tier-{suffix}"), DRILL_PATH).await?;
    let namesake = Role::create(&aws, &name, DRILL_PATH).await?;
    let profile = InstanceProfile::create(&aws, &name, &role).await?;
    let id = role.incident()?;
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, INSTANCE).await?, &goods);
    let innocent = Thief::with(&aws, "the namesake", namesake.steal_session(&aws, INSTANCE).await?, &goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    stage.send_finding(&findings::runtime_on_instance(&aws, &profile.arn, &profile.id)?).await?;
    acts::approval_is_asked_for(stage, &id, &role.name).await?;
    stage.world_is("the world while it waits, against before", &before, &[]).await?;
    stage.thief_works(&thief).await;

    let sent = acts::approve(stage, &id, "the instance talks to a known controller").await?;
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    let arn = book.incident(&id).and_then(|incident| incident.principal.arn.clone()).unwrap_or_default();
    stage.check(equal("the role on record", &role.arn, &arn));
    acts::deny_is_attached(stage, &format!("role/{}", role.name)).await?;
    acts::evidence_is_secured(stage, &id, &[]).await?;
    acts::is_not_touched(stage, &before, &namesake).await?;
    stage.thief_works(&innocent).await;

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
