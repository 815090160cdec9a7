//! A finding about a role, and a user of the same name who has nothing to do with it.

use anyhow::Result;
use firebreak_model::finding::DRILL_PATH;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::equal;
use crate::findings::{self, INSTANCE, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Goods, Role, User};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "innocent-namesake",
    summary: "a role is compromised, a user has the same name: the role is denied, the user is not touched",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a role and a user of one name");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let name = format!("reports-{suffix}");
    let role = Role::create(&aws, &name, DRILL_PATH).await?;
    let user = User::create(&aws, &name, DRILL_PATH).await?;
    let id = role.incident()?;
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, INSTANCE).await?, &goods);
    let [key, _] = user.keys.as_slice() else { anyhow::bail!("the user has not two keys") };
    let namesake = Thief::with(&aws, "the namesake", key.clone(), &goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let session = RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: &thief.access_key };
    let sent = stage.send_finding(&findings::access_key_of_instance(&aws, &session)?).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    stage.until("the deny is on record", |book, _| book.steps_of(&id).len() > 1).await?;
    acts::measure_the_deny(stage, &id, sent).await?;

    let book = stage.stay_quiet().await?;
    let after = World::look(&aws).await?;
    let mine = format!("`user/{name}");
    let touched: Vec<String> = before.changes(&after).into_iter().filter(|c| c.starts_with(&mine)).collect();
    stage.check(equal("changes of the user", "none", &crate::check::listed(&touched)));
    let of_user = user.incident()?;
    let found = if book.incident(&of_user).is_some() { "there is one" } else { "none" };
    stage.check(equal("incidents on the user", "none", found));
    stage.thief_works(&namesake).await;

    acts::release(stage, &id, &format!("role/{name}"), &before, &Left::default()).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
