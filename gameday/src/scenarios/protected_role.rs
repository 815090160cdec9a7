//! A finding about a break-glass role, which the playbook protects.

use anyhow::Result;
use firebreak_model::finding::DRILL_PATH;
use firebreak_model::ledger::IncidentState;

use super::{House, Playing, Scenario};
use crate::acts;
use crate::check::equal;
use crate::findings::{self, INSTANCE, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "protected-role",
    summary: "a finding names a break-glass role: it is withheld and paged, nothing changes",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a role under a path that the playbook protects");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let role = Role::create(&aws, &format!("rescue-{suffix}"), &format!("{DRILL_PATH}break-glass/")).await?;
    let id = role.incident()?;
    let owner = Thief::with(&aws, "the owner", role.steal_session(&aws, INSTANCE).await?, &goods);
    let before = World::look(&aws).await?;

    // The finding gives the bare name: that the role is protected shows only when it is read.
    let session = RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: &owner.access_key };
    stage.send_finding(&findings::access_key_of_instance(&aws, &session)?).await?;
    let withheld = |state: Option<IncidentState>| state == Some(IncidentState::Withheld);
    stage.until("the containment is withheld", |book, _| withheld(book.incident(&id).map(|i| i.state))).await?;
    acts::responder_is_paged(stage, &id, &[&role.name, "withheld"]).await?;
    let book = stage.stay_quiet().await?;
    let now = book.incident(&id).map_or("none", |incident| incident.state.as_str());
    stage.check(equal("the incident's state", "withheld", now));
    stage.check(equal("steps on record", "0", &book.steps_of(&id).len().to_string()));
    stage.world_is("the world, against before", &before, &[]).await?;
    stage.thief_works(&owner).await;
    stage.nothing_failed().await
}
