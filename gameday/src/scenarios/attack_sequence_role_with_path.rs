//! An attack sequence whose actor is a session of a role with a path.

use anyhow::Result;
use firebreak_model::finding::DRILL_PATH;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::equal;
use crate::findings::{self, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "attack-sequence-role-with-path",
    summary: "an attack sequence names a role deep in a path: the right role is denied and released",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a generous role under a path of three parts");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let role = Role::create(&aws, &format!("etl-role-{suffix}"), &format!("{DRILL_PATH}team/orders/")).await?;
    let id = role.incident()?;
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, "nightly-etl").await?, &goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let session =
        RoleSession { role: &role.name, role_id: &role.id, session: "nightly-etl", access_key: &thief.access_key };
    let sent = stage.send_finding(&findings::attack_sequence(&aws, &role.arn, &session)?).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    acts::measure_the_deny(stage, &id, sent).await?;
    let arn = book.incident(&id).and_then(|incident| incident.principal.arn.clone()).unwrap_or_default();
    stage.check(equal("the role on record", &role.arn, &arn));
    acts::deny_is_attached(stage, &format!("role/{}", role.name)).await?;
    acts::evidence_is_secured(stage, &id, &[]).await?;

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    super::until_issued_after_the_revocation().await;
    let fresh =
        Thief::with(&aws, "the owner, with a new session", role.steal_session(&aws, "nightly-etl").await?, &goods);
    stage.thief_works(&fresh).await;
    stage.nothing_failed().await
}
