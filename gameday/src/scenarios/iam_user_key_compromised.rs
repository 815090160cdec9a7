//! An access key of a user is compromised, and the thief has taken out a session that outlives the key.

use anyhow::Result;
use firebreak_model::finding::DRILL_PATH;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::findings;
use crate::narrator::Tone;
use crate::scene::{Goods, User};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "iam-user-key-compromised",
    summary: "a user's key is stolen: deny and keys Inactive, also for the session taken out with it",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a user with two access keys");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let user = User::create(&aws, &format!("uploader-{suffix}"), DRILL_PATH).await?;
    let id = user.incident()?;
    let [stolen_key, other_key] = user.keys.as_slice() else { anyhow::bail!("the user has not two keys") };
    let session = user.session_of(&aws, stolen_key).await?;
    let by_key = Thief::with(&aws, "the thief (key)", stolen_key.clone(), &goods);
    let by_session = Thief::with_session_of_a_user(&aws, "the thief (session)", session, &goods);
    let by_other = Thief::with(&aws, "the other key", other_key.clone(), &goods);
    let before = World::look(&aws).await?;

    for thief in [&by_key, &by_session] {
        stage.thief_works(thief).await;
    }
    let finding = findings::access_key_of_user(&aws, &user.name, &user.id, stolen_key.access_key_id())?;
    let sent = stage.send_finding(&finding).await?;
    for thief in [&by_session, &by_key, &by_other] {
        stage.thief_is_stopped(thief, sent).await?;
    }
    stage.until_contained(&id).await?;
    acts::measure_the_deny(stage, &id, sent).await?;
    let principal = format!("user/{}", user.name);
    acts::deny_is_attached(stage, &principal).await?;
    let world = World::look(&aws).await?;
    for key in &user.keys {
        let name = format!("{principal} access key {}", key.access_key_id());
        let status = world.thing(&name).unwrap_or("gone").to_owned();
        stage.check(crate::check::equal(&name, "Inactive", &status));
    }
    acts::evidence_is_secured(stage, &id, &[]).await?;
    acts::responder_is_paged(stage, &id, &[&user.name, "aws iam detach-user-policy"]).await?;

    // The stolen key is not named in the release: it stays Inactive, the other one lives again.
    let stays = format!("`{principal} access key {}` was Active, is Inactive", stolen_key.access_key_id());
    let left = Left { changes: vec![stays], reactivate_keys: Vec::new() };
    acts::release(stage, &id, &principal, &before, &left).await?;
    stage.thief_works(&by_other).await;
    stage.thief_stays_out(&by_key, "after the release").await;
    stage.thief_stays_out(&by_session, "after the release").await;
    stage.nothing_failed().await
}
