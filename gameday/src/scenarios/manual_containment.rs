//! A person, or a runbook, contains a role by direct invocation.

use anyhow::Result;
use firebreak_model::action::FunctionName;
use firebreak_model::ledger::Origin;
use serde_json::json;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::check::{equal, judged, listed};
use crate::narrator::Tone;
use crate::scene::Victim;
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "manual-containment",
    summary: "a runbook contains a role and its function: reason and caller are on record; release",
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
    let thief = Thief::with(&aws, "the thief", role.steal_session(&aws, "leaked").await?, &victim.goods);
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let nameless = json!({"firebreak": "contain", "role": role.arn, "reason": "no name given"});
    let refused = stage.invoke(FunctionName::QuarantinePrincipal, &nameless).await?;
    stage.check(judged("a request without its caller", "Malformed", refused.text("errorType"), refused.failed));
    let request = json!({"firebreak": "contain", "role": role.arn, "functions": [victim.function_arn],
        "requested_by": "runbook contain-role, ana", "reason": "credentials in a public repository"});
    let sent = firebreak_shared::clock::now();
    let answer = stage.invoke(FunctionName::QuarantinePrincipal, &request).await?;
    let said = if answer.failed { answer.text("errorMessage") } else { answer.text("outcome") };
    stage.check(equal("the answer", "contained", said));
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage.until_contained(&id).await?;
    acts::measure_the_deny(stage, &id, sent).await?;
    let origin = book.incident(&id).map(|incident| incident.origin.clone());
    let (found, held) = match origin {
        Some(Origin::Person { requested_by, reason, invocation }) => {
            let held = requested_by == "runbook contain-role, ana"
                && reason == "credentials in a public repository"
                && !invocation.is_empty();
            (format!("{requested_by}: {reason} (invocation {invocation})"), held)
        }
        other => (format!("{other:?}"), false),
    };
    stage.check(judged("who asked, and why, on record", "caller, reason and invocation", found, held));
    // Each of its steps tells of it at once, and together they page once.
    let told = format!("contained: role/{}", role.name);
    stage.until("the page about it", |_, pages| pages.iter().any(|page| page.subject.ends_with(&told))).await?;
    acts::function_is_isolated(stage, &victim).await?;
    acts::evidence_is_secured(stage, &id, &["order 0 taken over before-1"]).await?;

    acts::release(stage, &id, &format!("role/{}", role.name), &before, &Left::default()).await?;
    super::function_works_again(stage, &victim).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    let mut twice: Vec<String> = Vec::new();
    for page in &stage.pages {
        if page.subject.contains(&role.name) && stage.pages.iter().filter(|other| *other == page).count() > 1 {
            twice.push(page.subject.clone());
        }
    }
    stage.check(judged("pages that came more than once", "none", listed(&twice), twice.is_empty()));
    let contained = stage.pages.iter().filter(|page| page.subject.ends_with(&told)).count();
    stage.check(equal("pages that it is contained", "1", &contained.to_string()));
    stage.nothing_failed().await
}
