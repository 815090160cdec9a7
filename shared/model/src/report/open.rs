//! What a person has still to do: what is open, and how to release.

use jiff::Timestamp;

use super::{Sources, denied_at, present, seconds};
use crate::action::ActionId;
use crate::ledger::{IncidentState, StepState};
use crate::plan::Step;
use crate::principal::PrincipalName;
use crate::revoked::longest_session;
use crate::watch::{Standing, lasts};

/// What is still open, a sentence each.
pub(super) fn open(sources: &Sources<'_>) -> Vec<String> {
    let incident = sources.incident;
    let mut open = Vec::new();
    if incident.state == IncidentState::AwaitingApproval {
        open.push(format!("A person must approve: {}", incident.reason));
    }
    let on_record = |step: &Step| present(sources).any(|record| record.step == step.key());
    if incident.state == IncidentState::Ordered {
        for step in incident.plan.steps.iter().filter(|step| lasts(step.action) && !on_record(step)) {
            open.push(format!("{} has not begun", step.key()));
        }
    }
    for step in sources.steps.iter().filter(|step| step.episode == incident.episode) {
        match step.state {
            StepState::Failed if step.refused.is_none() => open.push(format!("{} failed: {}", step.step, step.detail)),
            StepState::Intended => open.push(format!("{} has not come to an end", step.step)),
            StepState::Withheld => open.push(format!("{} was withheld: {}", step.step, step.detail)),
            StepState::LeftAlone => open.push(format!("{} was left alone by the release: {}", step.step, step.detail)),
            StepState::Failed | StepState::Applied | StepState::Gone | StepState::Reverted => {}
        }
    }
    if let Some(watch) = sources.watch.filter(|watch| watch.episode == incident.episode) {
        for call in watch.late_calls() {
            open.push(format!("{} went through after the deny, {}", call.name, seconds(call.at)));
        }
        if matches!(watch.standing, Standing::Watching | Standing::Unproven) {
            let due = watch.next_check_at.map_or_else(|| "with the next sweep".to_owned(), seconds);
            open.push(format!("It is not settled yet: the next look is due {due}"));
        }
    }
    for gap in sources.chains.iter().flat_map(|chain| &chain.gaps) {
        open.push(format!("Sessions made from stolen ones: {gap}"));
    }
    for forgery in sources.forgeries {
        open.push(format!("A record was refused: {}: {}", forgery.record, forgery.problem));
    }
    match sources.deeds_complete_to {
        None => open.push(
            "What the thief did is not told here: CloudTrail was not asked, or its records cannot be read back"
                .to_owned(),
        ),
        Some(until) if denied_at(sources).is_some_and(|denied| until < denied) => {
            open.push(format!(
                "CloudTrail was complete up to {}: of what came later, some may be missing here",
                seconds(until)
            ));
        }
        Some(_) => {}
    }
    if sources.deeds.left().next().is_some() {
        open.push("What was left behind stays until somebody removes it: look at each".to_owned());
    }
    let gaps: usize = sources.evidence.iter().map(|snapshot| snapshot.gaps.len()).sum();
    if gaps > 0 {
        open.push(format!("{gaps} pieces of evidence could not be collected"));
    }
    if sources.evidence.is_empty() {
        open.push("No evidence was collected".to_owned());
    }
    for revocation in sources.revocations {
        let what = revocation.action == ActionId::RevokeChainedSessions;
        let what = if what { "Chained sessions of" } else { "Sessions of" };
        open.push(format!("{what} {} stay revoked until {}", revocation.principal.name, seconds(revocation.ends_at)));
    }
    open
}

/// How to release, a command each.
pub(super) fn release(sources: &Sources<'_>) -> Vec<String> {
    let incident = sources.incident;
    if matches!(incident.state, IncidentState::Released) {
        return Vec::new();
    }
    let stack = if sources.stack == "firebreak" { String::new() } else { format!(" --stack {}", sources.stack) };
    let (option, member) =
        if sources.revokes { ("", "") } else { (" --without-revocation", "\"without_revocation\":true,") };
    let mut lines = vec![format!("firebreak release {}{stack}{option} --reason 'WHY'", incident.incident_id)];
    if !sources.revokes && incident.ordered_at.is_some() {
        let longest = longest_session(&incident.principal.name);
        let over = incident.ordered_since().saturating_add(longest).unwrap_or(Timestamp::MAX);
        lines.push(format!(
            "# This stack leaves `revoke-sessions` out: stolen sessions that are still alive work again after it, until {}.",
            seconds(over)
        ));
    }
    if matches!(incident.principal.name, PrincipalName::User(_)) && !incident.access_keys.is_empty() {
        lines.push(
            "# Access keys that findings named stay Inactive unless they are named: --reactivate-key KEY".to_owned(),
        );
    }
    lines.push(format!(
        "aws lambda invoke --function-name {}-release-containment --region {} --cli-read-timeout 660 --cli-binary-format \
         raw-in-base64-out \
         --payload '{{\"firebreak\":\"release\",\"incident_id\":\"{}\",{member}\"reason\":\"WHY\",\"requested_by\":\"YOU\"}}' \
         answer.json",
        sources.stack, sources.region, incident.incident_id
    ));
    lines
}
