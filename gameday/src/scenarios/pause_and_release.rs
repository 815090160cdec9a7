//! Containment is paused when a finding comes; it waits for a person, is approved, contained and released.

use anyhow::Result;
use firebreak_model::action::FunctionName;
use firebreak_model::finding::DRILL_PATH;
use firebreak_model::ledger::IncidentState;
use serde_json::json;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::{equal, judged};
use crate::findings::{self, INSTANCE, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "pause-and-release",
    summary: "paused, a finding waits and nothing is attached; resumed and approved, it is contained; release",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a generous role");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let role = Role::create(&aws, &format!("migration-role-{suffix}"), DRILL_PATH).await?;
    let id = role.incident()?;
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, INSTANCE).await?, &goods);
    let before = World::look(&aws).await?;

    let request = |what: &str, reason: &str| json!({"firebreak": what, "requested_by": "game day", "reason": reason});
    let pause = request("pause", "a migration makes findings that are none");
    let paused = stage.invoke(FunctionName::ReleaseContainment, &pause).await?;
    stage.check(equal("the pause", "paused", paused.text("outcome")));
    stage
        .until("the responder hears of the pause", |_, pages| pages.iter().any(|p| p.subject.contains("pause")))
        .await?;
    let session = RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: &thief.access_key };
    stage.send_finding(&findings::access_key_of_instance(&aws, &session)?).await?;
    let waits = |state: Option<IncidentState>| state == Some(IncidentState::AwaitingApproval);
    stage.until("the incident waits for approval", |book, _| waits(book.incident(&id).map(|i| i.state))).await?;
    acts::responder_is_paged(stage, &id, &[&role.name, "approv"]).await?;
    stage.stay_quiet().await?;
    stage.world_is("the world while it waits, against before", &before, &[]).await?;
    stage.thief_works(&thief).await;

    let mut approval = request("approve", "it is no migration");
    if let Some(approval) = approval.as_object_mut() {
        approval.insert("incident_id".to_owned(), json!(id));
    }
    let refused = stage.invoke(FunctionName::QuarantinePrincipal, &approval).await?;
    stage.check(judged("an approval during the pause", "Refused", refused.text("errorType"), refused.failed));
    let resumed = stage.invoke(FunctionName::ReleaseContainment, &request("resume", "the migration is over")).await?;
    stage.check(equal("the end of the pause", "resumed", resumed.text("outcome")));
    let sent = firebreak_shared::clock::now();
    let approved = stage.invoke(FunctionName::QuarantinePrincipal, &approval).await?;
    let said = if approved.failed { approved.text("errorMessage") } else { approved.text("outcome") };
    stage.check(equal("the approval", "contained", said));
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    let approval = book.incident(&id).and_then(|incident| incident.approval.clone());
    let found = approval.map_or("none".to_owned(), |a| format!("{}: {}", a.by, a.reason));
    stage.check(equal("the approval on record", "game day: it is no migration", &found));

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}
