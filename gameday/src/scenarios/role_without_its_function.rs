//! A finding names a role and nothing else: the one function that runs as it is found in the inventory.

use anyhow::Result;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::equal;
use crate::findings::{self, INSTANCE, RoleSession};
use crate::narrator::Tone;
use crate::scene::Victim;
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "role-without-its-function",
    summary: "a finding names only the role: it is denied, and the one function that runs as it isolated",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a function with a role of its own");
    let victim = Victim::set_up(&aws, &suffix, "").await?;
    let (role, id) = (&victim.role, victim.role.incident()?);
    acts::who_runs_as_what_is_known(stage, &role.name, 1).await?;
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, INSTANCE).await?, &victim.goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let session = RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: &thief.access_key };
    let finding = findings::access_key_of_instance(&aws, &session)?;
    let names_it = if finding.to_string().contains(&victim.function) { "named" } else { "not named" };
    stage.check(equal("the function in the finding", "not named", names_it));
    let sent = stage.send_finding(&finding).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    stage.until("the plan covers the function", |book, _| !acts::functions_named(book, &id).is_empty()).await?;
    let book = stage.until_contained(&id).await?;
    acts::measure_the_deny(stage, &id, sent).await?;
    let named: Vec<String> = acts::functions_named(&book, &id).into_iter().collect();
    stage.check(equal("the function that the plan isolates", &victim.function_arn, &named.join(", ")));
    acts::function_is_isolated(stage, &victim).await?;

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    super::function_works_again(stage, &victim).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
