//! An attack sequence arrives without its sequence: who acted is known to GuardDuty alone.

use anyhow::Result;
use firebreak_model::finding::DRILL_PATH;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::{equal, judged};
use crate::findings::{self, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "attack-sequence-without-its-block",
    summary: "an attack sequence comes without its actors: it is read again from GuardDuty, the role is denied",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a generous role, and a finding that GuardDuty holds");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let role = Role::create(&aws, &format!("ledger-role-{suffix}"), &format!("{DRILL_PATH}team/books/")).await?;
    let id = role.incident()?;
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, "close-the-books").await?, &goods);
    let session =
        RoleSession { role: &role.name, role_id: &role.id, session: "close-the-books", access_key: &thief.access_key };
    let whole = findings::attack_sequence(&aws, &role.arn, &session)?;
    findings::hold_in_guardduty(&aws, &whole).await?;
    let part = findings::without_its_sequence(whole.clone())?;
    let told = part.to_string();
    let named = told.contains(&role.name) || told.contains(&thief.access_key);
    stage.check(judged(
        "the copy that is sent",
        "names nobody",
        if named { "names the role" } else { "names nobody" },
        !named,
    ));
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let sent = stage.send_finding(&part).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    acts::measure_the_deny(stage, &id, sent).await?;
    let arn = book.incident(&id).and_then(|incident| incident.principal.arn.clone()).unwrap_or_default();
    stage.check(equal("the role on record", &role.arn, &arn));
    let on_record = if book.finding(&findings::id(&part)).is_some() { "the finding" } else { "none" };
    stage.check(equal("findings on record", "the finding", on_record));
    acts::deny_is_attached(stage, &format!("role/{}", role.name)).await?;
    acts::evidence_is_secured(stage, &id, &[]).await?;

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
