//! Somebody generates sample findings, one of which names a role that exists.

use anyhow::Result;
use firebreak_model::decision::Decision;
use firebreak_model::finding::DRILL_PATH;

use super::{House, Playing, Scenario};
use crate::check::{equal, judged};
use crate::findings::{self, INSTANCE, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "sample-finding",
    summary: "a generated sample names a role that exists: it is recorded, nothing changes",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a generous role");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let role = Role::create(&aws, &format!("batch-role-{suffix}"), DRILL_PATH).await?;
    let owner = Thief::with(&aws, "the owner", role.steal_session(&aws, INSTANCE).await?, &goods);
    let before = World::look(&aws).await?;

    let session = RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: &owner.access_key };
    let sample = findings::as_sample(findings::access_key_of_instance(&aws, &session)?)?;
    let finding_id = findings::id(&sample);
    stage.send_finding(&sample).await?;
    stage.until("the sample is on record", |book, _| book.finding(&finding_id).is_some()).await?;
    let book = stage.stay_quiet().await?;
    let decision = book.finding(&finding_id).map(|finding| finding.decision);
    let held = decision == Some(Decision::Ignore);
    stage.check(judged("the decision on record", "ignore", decision.map_or("none", Decision::as_str), held));
    let incident = if book.incident(&role.incident()?).is_some() { "there is one" } else { "none" };
    stage.check(equal("incidents", "none", incident));
    stage.check(equal("pages", "0", &stage.pages.len().to_string()));
    stage.world_is("the world, against before", &before, &[]).await?;
    stage.thief_works(&owner).await;
    stage.nothing_failed().await
}
