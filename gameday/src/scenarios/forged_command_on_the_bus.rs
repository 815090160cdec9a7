//! Somebody who may put events sends orders over the buses.

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use firebreak_model::action::FunctionName;
use firebreak_model::finding::DRILL_PATH;
use firebreak_model::ledger::IncidentState;
use serde_json::{Value, json};

use super::{House, Playing, Scenario};
use crate::check::{equal, judged, listed};
use crate::findings::{self, INSTANCE, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Goods, Role};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "forged-command-on-the-bus",
    summary: "whoever may put events orders approval, release, pause and containment: nothing changes, and nobody is spared",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: an incident that waits for approval, a role of production, a forger");
    let goods = Goods::lay_out(&aws, &suffix).await?;
    let waiting = Role::create(&aws, &format!("web-role-{suffix}"), DRILL_PATH).await?;
    let production = Role::create(&aws, &format!("payments-{suffix}"), "/").await?;
    let id = waiting.incident()?;
    let thief = Thief::with(&aws, "the owner", waiting.steal_session(&aws, INSTANCE).await?, &goods);
    let victim = Thief::with(&aws, "production", production.steal_session(&aws, INSTANCE).await?, &goods);
    let session =
        RoleSession { role: &waiting.name, role_id: &waiting.id, session: INSTANCE, access_key: &thief.access_key };
    let finding = findings::access_key_of_instance_inside_aws(&aws, &session)?;
    stage.send_finding(&finding).await?;
    let waits = |state: Option<IncidentState>| state == Some(IncidentState::AwaitingApproval);
    stage.until("the incident waits for approval", |book, _| waits(book.incident(&id).map(|i| i.state))).await?;
    let forger = aws.as_identity(forger(stage, &suffix).await?);
    let before = World::look(&aws).await?;

    let bus = stage.stack.output("OutcomeBusName")?.to_owned();
    let asked = |what: &str| json!({"firebreak": what, "incident_id": id, "requested_by": "root", "reason": "forged"});
    let order = json!({"schema": 1, "incident_id": id, "episode": 1, "state": "ordered",
        "responses": ["quarantine", "isolate", "revoke", "recycle", "snapshot"]});
    let of_production = RoleSession {
        role: &production.name,
        role_id: &production.id,
        session: INSTANCE,
        access_key: &victim.access_key,
    };
    let drill = findings::access_key_of_instance(&aws, &of_production)?;
    let drill_id = findings::id(&drill);
    let contain = json!({"firebreak": "contain", "role": production.name, "requested_by": "root", "reason": "forged"});
    let orders: Vec<(&str, &str, &str, Value)> = vec![
        (&bus, "firebreak", "Containment Ordered", order.clone()),
        (&bus, "firebreak", "Containment Released", order.clone()),
        (&bus, "firebreak", "Release Started", asked("release")),
        (&bus, "firebreak", "Approval Requested", asked("approve")),
        (&bus, "firebreak", "Containment Paused", asked("pause")),
        (&bus, "firebreak.drill", "GuardDuty Finding", drill.clone()),
        ("default", "firebreak", "Containment Ordered", order),
        ("default", "firebreak.drill", "GuardDuty Finding", asked("approve")),
        ("default", "firebreak.drill", "GuardDuty Finding", contain.clone()),
        ("default", "firebreak.drill", "Containment Ordered", contain),
        ("default", "firebreak.drill", "GuardDuty Finding", drill.clone()),
    ];
    for (bus, source, kind, detail) in &orders {
        let taken = put(&forger, bus, source, kind, detail).await?;
        stage.tell("the forger", Tone::Bad, &format!("`{kind}` from `{source}` on bus `{bus}`: {taken}"));
        stage.check(equal(&format!("forged `{kind}` from `{source}` on `{bus}`"), "taken", &taken));
    }
    let taken = put(&forger, "default", "aws.guardduty", "GuardDuty Finding", &drill).await?;
    stage.tell("the forger", Tone::Good, &format!("`GuardDuty Finding` from `aws.guardduty`: {taken}"));
    let held = taken.contains("NotAuthorizedForSource");
    stage.check(judged("an event with a source of AWS's", "NotAuthorizedForSource", taken, held));

    let seen = |finding: &str| finding == drill_id;
    stage.until("the forged finding is on record", |book, _| book.findings.iter().any(|f| seen(&f.finding_id))).await?;
    let of_production = production.incident()?;
    let withheld = |state: Option<IncidentState>| state == Some(IncidentState::Withheld);
    stage.until("it is withheld", |book, _| withheld(book.incident(&of_production).map(|i| i.state))).await?;
    let book = stage.stay_quiet().await?;
    let now = book.incident(&id).map_or("none", |incident| incident.state.as_str());
    stage.check(equal("the incident that waits", "awaiting_approval", now));
    let contained: Vec<String> = [&id, &of_production]
        .into_iter()
        .flat_map(|id| book.steps_of(id))
        .map(|step| format!("{} is {}", step.step, step.state))
        .collect();
    stage.check(equal("steps on record", "none", &listed(&contained)));
    let paused = book.pause.as_ref().map_or("not paused".to_owned(), |pause| format!("paused by {}", pause.by));
    stage.check(equal("the pause", "not paused", &paused));
    stage.world_is("the world, against before", &before, &[]).await?;
    stage.thief_works(&thief).await;
    stage.thief_works(&victim).await;

    // The forger has spared nobody: GuardDuty's own finding comes behind the drill.
    let mut in_earnest = drill;
    if let Some(id) = in_earnest.get_mut("id") {
        *id = json!("00000000000000000000000000000001");
    }
    let event = findings::delivered(1, &in_earnest);
    let sent = firebreak_shared::clock::now();
    let answered = stage.invoke(FunctionName::QuarantinePrincipal, &event).await?;
    stage.check(equal("GuardDuty's own finding about production", "contained", answered.text("outcome")));
    stage.thief_is_stopped(&victim, sent).await?;
    stage.until_contained(&of_production).await?;
    stage.nothing_failed().await
}

/// Someone who may put events, and nothing else.
async fn forger(stage: &Stage, suffix: &str) -> Result<Credentials> {
    let name = format!("forger-{suffix}");
    let iam = &stage.aws.iam;
    iam.create_user().user_name(&name).send().await?;
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "events:PutEvents", "Resource": "*"}]});
    iam.put_user_policy().user_name(&name).policy_name("events").policy_document(policy.to_string()).send().await?;
    let answer = iam.create_access_key().user_name(&name).send().await?;
    let key = answer.access_key().context("the new key is not shown")?;
    Ok(Credentials::new(key.access_key_id(), key.secret_access_key(), None, None, "the forger's"))
}

/// Puts an event: `taken`, or why not.
async fn put(forger: &crate::aws::Aws, bus: &str, source: &str, kind: &str, detail: &Value) -> Result<String> {
    let entry = PutEventsRequestEntry::builder().event_bus_name(bus).source(source).detail_type(kind);
    let answer = forger.events.put_events().entries(entry.detail(detail.to_string()).build()).send().await?;
    let code = answer.entries().first().and_then(|entry| entry.error_code());
    Ok(code.unwrap_or("taken").to_owned())
}
