//! One session of a function's role has leaked, and the function must not stop: the session is revoked, and when the
//! revocation's time has passed the function goes on in new environments, behind its alias too.

use anyhow::Result;
use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{StepRecord, StepState};
use firebreak_model::policy::REVOCATION_AHEAD_SECONDS;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{House, Playing, Scenario};
use crate::acts::REVOCATION;
use crate::aws::Aws;
use crate::check::{equal, judged, listed};
use crate::findings::INSTANCE;
use crate::narrator::Tone;
use crate::scene::{self, Victim};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "healthy-function-lives-on",
    summary: "a leaked session is revoked, and the function goes on in new environments (waits over a minute)",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

/// The revocation lies a minute ahead, its order waits a little longer.
const AT_MOST: SignedDuration = SignedDuration::from_secs(180);

/// Who calls the function: itself, and its alias.
const DOORS: [Option<&str>; 2] = [None, Some("live")];

fn door(qualifier: Option<&str>) -> String {
    qualifier.map_or_else(|| "the function".to_owned(), |alias| format!("its alias `{alias}`"))
}

async fn put_behind_an_alias(aws: &Aws, function: &str) -> Result<String> {
    let version = scene::publish(aws, function).await?;
    let create = aws.lambda.create_alias().function_name(function).name("live").function_version(&version);
    create.send().await?;
    let put = aws.lambda.put_provisioned_concurrency_config().function_name(function).qualifier("live");
    put.provisioned_concurrent_executions(2).send().await?;
    Ok(version)
}

/// It works through every door, in environments that began after `since`.
async fn lives_on(stage: &mut Stage, victim: &Victim, since: Timestamp, what: &str) {
    for qualifier in DOORS {
        let works = victim.work_as(&stage.aws, qualifier).await;
        let (found, held) = match &works {
            Ok(began) => (format!("began {began}"), *began > since),
            Err(error) => (format!("{error:#}"), false),
        };
        stage.check(judged(&format!("{} works {what}", door(qualifier)), &format!("began after {since}"), found, held));
    }
}

async fn step(stage: &mut Stage, id: &IncidentId, action: ActionId) -> Result<Option<StepRecord>> {
    let book = stage.look().await?;
    Ok(book.steps_of(id).into_iter().find(|step| step.action == action).cloned())
}

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell("", Tone::Dim, "setting the scene: a function behind an alias, with concurrency provisioned");
    let victim = Victim::set_up(&aws, &suffix, "").await?;
    let version = put_behind_an_alias(&aws, &victim.function).await?;
    let id = victim.role.incident()?;
    let stolen = victim.role.steal_session(&aws, INSTANCE).await?;
    let thief = Thief::with(&aws, "the thief (stolen)", stolen, &victim.goods);
    let before = World::look(&aws).await?;
    stage.thief_works(&thief).await;
    lives_on(stage, &victim, Timestamp::UNIX_EPOCH, "before").await;

    let request = json!({"firebreak": "contain", "role": victim.role.arn, "functions": [victim.function_arn],
        "response": ["revoke", "recycle", "snapshot"], "requested_by": "game day",
        "reason": "one session leaked, the function must not stop"});
    let sent = firebreak_shared::clock::now();
    let answer = stage.invoke(FunctionName::QuarantinePrincipal, &request).await?;
    stage.check(judged("the request", "is taken", answer.payload.to_string(), !answer.failed));
    stage.thief_is_stopped(&thief, sent).await?;
    let applied = |step: Option<&StepRecord>| step.is_some_and(|step| step.state == StepState::Applied);
    let revocation = |book: &crate::ledger::Book| {
        book.steps_of(&id).into_iter().find(|step| step.action == ActionId::RevokeSessions).cloned()
    };
    stage.until("the revocation is read back", |book, _| applied(revocation(book).as_ref())).await?;
    for qualifier in DOORS {
        let works = victim.work_as(&aws, qualifier).await;
        let said = works.as_ref().err().map_or("it works".to_owned(), |error| format!("{error:#}"));
        let name = format!("{}, with the credentials from before", door(qualifier));
        stage.check(judged(&name, "denied with the thief", said.clone(), said.contains("AccessDenied")));
    }

    stage.tell("", Tone::Dim, "waiting until the revocation's time has passed and the order to recycle arrives");
    let begun = firebreak_shared::clock::now();
    let recycled = loop {
        let found = step(stage, &id, ActionId::RecycleEnvironments).await?;
        if applied(found.as_ref()) || begun.duration_until(firebreak_shared::clock::now()) > AT_MOST {
            break found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    };
    let told = |step: &StepRecord| format!("{}: {}", step.state, step.detail);
    let found = recycled.as_ref().map_or("none".to_owned(), told);
    stage.check(judged("the recycling", "applied", found, applied(recycled.as_ref())));
    let revoked = step(stage, &id, ActionId::RevokeSessions).await?.and_then(|step| step.verified_at);
    let (Some(revoked), Some(recycled)) = (revoked, recycled.and_then(|step| step.applied_at)) else { return Ok(()) };
    let ahead = SignedDuration::from_secs(REVOCATION_AHEAD_SECONDS);
    let waited = revoked.duration_until(recycled);
    stage.check(judged("it waited for the revocation's time", "a minute", format!("{waited:#}"), waited > ahead));
    lives_on(stage, &victim, revoked + ahead, "when it is recycled").await;
    stage.thief_stays_out(&thief, "when the function is recycled").await;

    let request = json!({"firebreak": "release", "incident_id": id, "requested_by": "game day",
        "reason": "the leak is closed"});
    let answer = stage.invoke(FunctionName::ReleaseContainment, &request).await?;
    let said = if answer.failed { answer.text("errorMessage") } else { answer.text("outcome") };
    stage.check(equal("the release", "released", said));
    let told = answer.text("message").to_owned();
    let named = format!("is not led back to version {version}");
    let held = told.contains("alias `live`") && told.contains(&named);
    stage.check(judged("what the release leaves", "the alias and why", told, held));
    let book = stage.look().await?;
    let released = book.incident(&id).and_then(|incident| incident.release.as_ref()).map(|release| release.at);
    lives_on(stage, &victim, released.unwrap_or(Timestamp::MAX), "after the release").await;
    stage.thief_stays_out(&thief, "after the release").await;
    let mut changes = before.changes(&World::look(&aws).await?);
    // The alias leads to the last twin; the versions that were published stay.
    changes.retain(|change| {
        !change.contains("alias `live`") && !change.contains(" version ") && !change.contains(" of `")
    });
    let expected = format!("`role/{} inline policy {REVOCATION}` is new", victim.role.name);
    stage.check(equal("what else is different", &expected, &listed(&changes)));
    stage.nothing_failed().await
}
