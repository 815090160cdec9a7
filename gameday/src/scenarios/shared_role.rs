//! Two functions share a role, and one of them is compromised: a person is asked before the other is stopped with it.

use anyhow::Result;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::{equal, judged};
use crate::findings::{self, INSTANCE, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Goods, Victim};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "shared-role",
    summary: "two functions share the stolen role: whatever is found, it waits for a person, who is told of both",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: two functions in production, and one role for both");
    let victim = Victim::set_up(&aws, &suffix, "").await?;
    let other = format!("{suffix}-innocent");
    let goods = Goods::lay_out(&aws, &other).await?;
    let innocent = Victim::around(&aws, &other, victim.role.clone(), goods).await?;
    let (role, id) = (&victim.role, victim.role.incident()?);
    acts::who_runs_as_what_is_known(stage, &role.name, 2).await?;
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, INSTANCE).await?, &victim.goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let c2 = findings::lambda_c2(&aws, &victim.function_arn, &victim.function, Some(&role.arn))?;
    stage.send_finding(&c2).await?;
    acts::approval_is_asked_for(stage, &id, &role.name).await?;
    acts::responder_is_paged(stage, &id, &[&victim.function_arn, &innocent.function_arn]).await?;

    // The same again, another of the same weight, and one that names the role alone.
    let session = RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: &thief.access_key };
    for finding in
        [c2, findings::attack_sequence(&aws, &role.arn, &session)?, findings::access_key_of_instance(&aws, &session)?]
    {
        stage.send_finding(&finding).await?;
        let on_record = findings::id(&finding);
        stage.until("the finding is on record", |book, _| book.finding(&on_record).is_some()).await?;
    }
    let book = stage.stay_quiet().await?;
    let standing = book.incident(&id).map_or("none", |incident| incident.state.as_str());
    stage.check(equal("the incident, whatever was found since", "awaiting_approval", standing));
    let acted: Vec<_> = book.findings.iter().filter(|f| f.incident_id.as_ref() == Some(&id)).collect();
    let done = acted.iter().filter(|finding| finding.effective.as_str() == "act").count();
    let found = format!("{done} of {}", acted.len());
    stage.check(judged("findings that say that it was acted on them", "0 of 3", found, done == 0 && acted.len() == 3));
    stage.world_is("the world while it waits, against before", &before, &[]).await?;
    super::function_works(stage, &innocent).await;

    let sent = acts::approve(stage, &id, "the invoices can wait").await?;
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    let isolated: Vec<String> = acts::functions_named(&book, &id).into_iter().collect();
    stage.check(equal("the functions that are isolated", &victim.function_arn, &isolated.join(", ")));
    let stopped = if innocent.work(&aws).await.is_err() { "denied with its role" } else { "works" };
    stage.check(equal("the other function", "denied with its role", stopped));
    acts::responder_is_paged(stage, &id, &["Who else is hit", &innocent.function_arn]).await?;

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    super::function_works_again(stage, &victim).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
