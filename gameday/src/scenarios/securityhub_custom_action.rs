//! A person looks at a finding in Security Hub and chooses to contain.

use anyhow::Result;
use firebreak_model::finding::DRILL_PATH;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::equal;
use crate::findings::RoleSession;
use crate::findings::securityhub::sent_by_custom_action;
use crate::narrator::Tone;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "securityhub-custom-action",
    summary: "a person sends a finding by the custom action `FirebreakContain`: deny; by another one: nothing",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a generous role");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let role = Role::create(&aws, &format!("export-role-{suffix}"), DRILL_PATH).await?;
    let id = role.incident()?;
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, "export").await?, &goods);
    let before = World::look(&aws).await?;
    let session = RoleSession { role: &role.name, role_id: &role.id, session: "export", access_key: &thief.access_key };

    stage.thief_works(&thief).await;
    let ticket = sent_by_custom_action(&aws, &session, "OpenTicket")?;
    stage.send_from_security_hub(&ticket).await?;
    let book = stage.stay_quiet().await?;
    let found = if book.finding(ticket.finding_id()).is_some() { "there is one" } else { "none" };
    stage.check(equal("findings on record, of another custom action", "none", found));
    stage.world_is("the world after another custom action, against before", &before, &[]).await?;
    stage.thief_works(&thief).await;

    let contain = sent_by_custom_action(&aws, &session, "FirebreakContain")?;
    let sent = stage.send_from_security_hub(&contain).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    acts::measure_the_deny(stage, &id, sent).await?;
    let decided_by = book.finding(contain.finding_id()).map_or("none", |finding| finding.rule.as_str());
    stage.check(equal("the rule that decided", "a-person-chose-to-contain", decided_by));
    acts::deny_is_attached(stage, &format!("role/{}", role.name)).await?;
    acts::evidence_is_secured(stage, &id, &[]).await?;
    acts::responder_is_paged(stage, &id, &[&role.name, "aws iam detach-role-policy"]).await?;

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
