//! Credentials of a Lambda function are used from outside AWS.

use anyhow::Result;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::findings::{self, RoleSession};
use crate::narrator::Tone;
use crate::scene::Victim;
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lambda-credentials-exfiltrated",
    summary: "a function's credentials are used elsewhere: deny, isolate, evidence, page, release",
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
    let victim = Victim::set_up(&aws, &suffix, "").await?;
    let role = &victim.role;
    let id = role.incident()?;
    let stolen = role.steal_session(&aws, &victim.function).await?;
    let thief = Thief::with(&aws, "the thief", stolen, &victim.goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let session =
        RoleSession { role: &role.name, role_id: &role.id, session: &victim.function, access_key: &thief.access_key };
    let sent = stage.send_finding(&findings::access_key_of_role(&aws, &session)?).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    stage.until_contained(&id).await?;
    acts::measure_the_deny(stage, &id, sent).await?;
    acts::deny_is_attached(stage, &format!("role/{}", role.name)).await?;
    acts::function_is_isolated(stage, &victim).await?;
    acts::evidence_is_secured(stage, &id, &["order 0 taken over before-1", "order 4 taken over before-2"]).await?;
    acts::responder_is_paged(stage, &id, &[&role.name, "aws iam detach-role-policy"]).await?;
    acts::log_is_read_again(stage, &id).await?;
    let finding_type = "UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.OutsideAWS";
    acts::report::tells_the_story(stage, &id, finding_type, "service iam").await?;

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    acts::report::is_made_again_after_the_release(stage, &id).await?;
    super::function_works_again(stage, &victim).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
