//! Pages about what the guard found: a containment that is settled or does not hold, what was undone, and Firebreak's
//! own parts.

use firebreak_model::action::ActionId;
use firebreak_model::finding::Subject;
use firebreak_model::ladder;
use firebreak_model::ledger::{Incident, IncidentState, PartsRecord};
use firebreak_model::principal::PrincipalName;
use firebreak_model::tamper::{Nature, Tamper};
use firebreak_model::watch::{Call, Opinion, Standing, Watch, keeps_from_calling};

use super::text::{Command, clean};
use super::{Draft, Page, Setting};

/// The page about how a watched containment stands. What is merely watched, or was undone, has none of this kind.
pub(super) fn of_watch(incident: &Incident, watch: &Watch, setting: &Setting) -> Option<Page> {
    let who = format!("{} in account {}", incident.principal.name, incident.account);
    let (word, headline) = match watch.standing {
        Standing::Settled => ("settled", format!("The containment of {who} is settled: it held at every re-check.")),
        Standing::Partial => ("holds in part", format!("The containment of {who} does not hold wholly.")),
        Standing::CannotContain => ("cannot contain", format!("Nothing of the containment of {who} took hold.")),
        Standing::Unproven => (
            "held, not proven",
            format!("The containment of {who} held at every re-check; that nobody is left in it is not proven."),
        ),
        Standing::Stranded => (
            "release unfinished",
            format!("A release of {who} was begun, and nobody brings it to its end: it was killed in the middle."),
        ),
        Standing::Watching | Standing::Undone => return None,
    };
    let mut draft = Draft::default();
    draft.line(&headline);
    drill(&mut draft, incident.drill);
    draft.section("What was found");
    let last = watch.checks.last();
    for found in last.map(|check| check.found.as_slice()).unwrap_or_default() {
        draft.line(&format!("- {}", clean(found, 600)));
    }
    if last.is_none_or(|check| check.found.is_empty()) {
        draft.line("Every step that contains was read back, and is in force.");
    }
    if watch.opinion == Opinion::Agrees {
        draft.line("IAM's policy simulator agrees: an explicit deny, beside a control that is allowed.");
    }
    if watch.standing == Standing::Stranded {
        stranded(&mut draft, incident, watch, setting);
        return Some(draft.page(&format!("{}{word}: {}", prefix(incident.drill), incident.principal.name)));
    }
    match watch.cloudtrail_complete_until {
        Some(until) => {
            draft.line(&format!("CloudTrail, complete until {until}, was asked for calls since."));
            if let Some(regions) = watch.regions_shown() {
                draft.line(&format!("It was asked in {regions}: of calls in other Regions this says nothing."));
            }
        }
        None => draft.line("CloudTrail was not asked for calls since."),
    }
    let planned = |is: fn(ActionId) -> bool| incident.plan.steps.iter().any(|step| is(step.action));
    if !planned(keeps_from_calling) {
        draft.line("Nothing of the plan keeps the principal from making calls, so that CloudTrail would prove nothing: this rests");
        draft.line("on the re-checks alone.");
    } else if !planned(|action| ladder::top(action).is_some()) {
        draft.line(
            "Of its calls, those of sessions from before the revocation are meant: later sessions live on, as ordered.",
        );
    }
    let late: Vec<&Call> = watch.late_calls().collect();
    let early: Vec<&Call> = watch.calls.iter().filter(|call| !late.contains(call)).collect();
    calls(&mut draft, "Calls that succeeded in the seconds in which IAM propagates a deny", &early);
    calls(&mut draft, "Calls that succeeded after that: the deny does not hold them", &late);
    draft.section("Next step");
    match watch.standing {
        Standing::Settled => draft.line("Investigate and recover. The guard goes on watching until the release."),
        Standing::Unproven => {
            draft.line("Find out why what is named above was not to be had, and look in CloudTrail by hand. The guard goes on trying,");
            draft.line("and tells when it is settled.");
        }
        _ => draft.line("Do by hand what does not hold above. Until then the thief may still act."),
    }
    draft.line("When it is over, release it:");
    draft.release(incident, setting);
    draft.field("Incident", &format!("{}, episode {}", incident.incident_id, incident.episode));
    Some(draft.page(&format!("{}{word}: {}", prefix(incident.drill), incident.principal.name)))
}

/// What is to be said of a release that nobody brings to its end.
fn stranded(draft: &mut Draft, incident: &Incident, watch: &Watch, setting: &Setting) {
    if watch.checks.last().is_some_and(|check| !check.found.is_empty()) {
        draft.line(
            "Every other step that contains was read back, and is in force. What reads as undone, the release may have",
        );
        draft.line("undone without having recorded it, or somebody else since: nothing is put back now.");
    }
    if let Some(release) = &incident.release {
        draft.field("Begun", &release.at.to_string());
        draft.field("Asked by", &clean(&release.by, 256));
        draft.field("Reason", &clean(&release.reason, 500));
    }
    draft.section("Next step");
    draft.line("Until it is finished nobody guards what is still in force, and findings on it wait. Ask for the release again:");
    draft.line("it goes on where it stopped, and is taken back where the sessions cannot be revoked.");
    draft.release(incident, setting);
    draft.line("If it is to stay contained, do the same first, and at once when it is released contain it again:");
    draft.command(&setting.contain(&incident.principal.name));
    draft.field("Incident", &format!("{}, episode {}", incident.incident_id, incident.episode));
}

fn calls(draft: &mut Draft, title: &str, calls: &[&Call]) {
    if calls.is_empty() {
        return;
    }
    draft.line(&format!("{title}:"));
    for call in calls {
        draft.line(&format!("  {} {} (event {})", call.at, clean(&call.name, 150), clean(&call.event_id, 80)));
    }
}

fn prefix(drill: bool) -> &'static str {
    if drill { "drill: " } else { "" }
}

fn drill(draft: &mut Draft, drill: bool) {
    if drill {
        draft.line("This is a drill: everything named here belongs to a game day.");
    }
}

/// The page about something that somebody did against a containment, or against Firebreak.
pub(super) fn of_tamper(tamper: &Tamper, incident: Option<&Incident>, setting: &Setting) -> Page {
    let who = incident.map_or_else(|| "Firebreak".to_owned(), |incident| incident.principal.name.to_string());
    let outlives = incident.is_some_and(|incident| incident.state != IncidentState::Ordered);
    let (word, headline) = match tamper.nature {
        Nature::Undone if outlives => (
            "revocation undone",
            format!("Somebody took away what keeps the sessions from before the release of {who} dead."),
        ),
        Nature::Undone => ("undone", format!("Somebody undid a part of the containment of {who}.")),
        Nature::Unbegun => {
            ("not carried out", format!("The containment of {who} was ordered, and is not carried out."))
        }
        Nature::Minted => ("minted", format!("{who}, though contained, made a role or a user.")),
        Nature::Widened => ("way in", format!("{who}, though contained, opened itself another way in.")),
        Nature::Recreated => ("made again", format!("{who} was deleted and made again: the new one is not contained.")),
        Nature::TrustChanged => ("trust changed", format!("Who may assume {who} was changed while it is contained.")),
        Nature::OwnPart => ("firebreak itself", "Somebody changed a part of Firebreak itself.".to_owned()),
    };
    let mut draft = Draft::default();
    draft.line(&headline);
    drill(&mut draft, tamper.drill);
    draft.section("What was found");
    draft.line(&clean(&tamper.detail, 2_000));
    draft.field("Found", &tamper.at.to_string());
    if let Some(call) = &tamper.call {
        draft.field("Call", &format!("{} at {} in {}", clean(&call.name, 150), call.at, clean(&call.region, 40)));
        draft.field("From", &clean(&call.address, 80));
        draft.field("Event", &clean(&call.event_id, 80));
    }
    match &tamper.actor {
        // Nobody did it.
        _ if tamper.nature == Nature::Unbegun => {}
        Some(actor) => draft.field("By", &named(actor)),
        None => draft.field("By", "not known: CloudTrail has not told of the call"),
    }
    for suspect in &tamper.suspects {
        draft.field("Decided on", &format!("{}, by the playbook; its own page says how", named(suspect)));
    }
    draft.section("Next step");
    if tamper.nature == Nature::Undone && outlives {
        draft.line("It is written again, up to the same time, now and as often as it is undone, and pages no second time for the");
        draft.line("same hand. Find out who it was. It ends by itself when the longest of those sessions has ended; a tool that");
        draft.line(
            "removes inline policies that it does not know must leave the names that begin with `firebreak-` alone.",
        );
    } else if tamper.nature == Nature::Unbegun {
        draft.line(
            "It is tried again now and by each sweep of the guard, and pages no second time. Until then nothing is",
        );
        draft.line(
            "isolated or revoked, and the deny may not be there either: see why IAM does not answer, and deny by hand",
        );
        draft.line("what cannot wait.");
    } else if tamper.nature == Nature::Undone {
        draft
            .line("It is put back, now and as often as it is undone, and pages no second time for the same hand. Find");
        draft.line("out who it was. If it was you: release the incident instead.");
    } else {
        draft.line("Find out who it was, and undo what was done with rights that Firebreak does not have.");
    }
    if let (Nature::TrustChanged, Some(PrincipalName::Role(role))) =
        (tamper.nature, incident.map(|i| &i.principal.name))
    {
        draft.line("What it was is in the evidence: the answer to iam:GetRole in the objects that the manifest of the");
        draft.line("step `snapshot-logs` lists. Save its AssumeRolePolicyDocument as trust.json, then:");
        let restore = Command::aws("iam update-assume-role-policy").option("role-name", role.as_str());
        draft.command(&restore.words("--policy-document file://trust.json").line().unwrap_or_default());
    }
    if let Some(incident) = incident {
        if !outlives {
            if !matches!(tamper.nature, Nature::Undone | Nature::Unbegun) {
                draft.line("Do not release for this. When everything is over, the incident is released with:");
            }
            draft.release(incident, setting);
        }
        draft.field("Incident", &format!("{}, episode {}", incident.incident_id, tamper.episode));
    }
    draft.page(&format!("{}{word}: {who}", prefix(tamper.drill)))
}

fn named(subject: &Subject) -> String {
    match subject {
        Subject::Principal { principal, .. } => {
            let arn = principal.arn.clone().unwrap_or_else(|| principal.name.to_string());
            clean(&arn, 600)
        }
        Subject::Lookup { lookup, .. } => clean(&lookup.to_string(), 300),
        Subject::NotContainable { what, reason, .. } => format!("{} ({})", clean(what, 200), clean(reason, 300)),
    }
}

/// The page about Firebreak's own parts, as the ledger has it now.
pub(super) fn of_parts(parts: &PartsRecord, setting: &Setting) -> Page {
    let mut draft = Draft::default();
    if parts.missing.is_empty() {
        draft.line("All parts of Firebreak are there again.");
        draft.section("Next step");
        draft.line("Nothing, if you know who took them away and why.");
        return draft.page("firebreak is whole again");
    }
    draft.line("Parts of Firebreak are missing, switched off or changed: it may not contain what it should.");
    draft.section("What was found");
    for missing in &parts.missing {
        draft.line(&format!("- {}", clean(missing, 400)));
    }
    draft.field("Since", &parts.since.to_string());
    draft.section("Next step");
    draft.line("CloudTrail says who did it. Put each part back by hand: deploying the same template again changes");
    draft.line("nothing. A statement more in a policy shows in no drift: compare `aws lambda get-policy` and the like with the");
    draft.line("template. What is other than it was deployed, some minutes after the first of these:");
    for words in [
        "cloudformation detect-stack-drift",
        "cloudformation describe-stack-resource-drifts --stack-resource-drift-status-filters MODIFIED DELETED",
    ] {
        let compare = Command::aws(words).option("stack-name", &setting.stack).option("region", &setting.region);
        draft.command(&compare.line().unwrap_or_default());
    }
    draft.page("firebreak is blinded in part")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::setting;
    use crate::testing::role_order;

    #[test]
    fn what_was_ordered_and_is_not_carried_out_pages_what_to_do() {
        let (incident, _) = role_order("orders");
        let incident = Incident { unvetted: true, ..incident };
        let tamper = Tamper::unbegun(&incident, incident.opened_at);
        let page = of_tamper(&tamper, Some(&incident), &setting());
        assert_eq!(page.subject, "[Firebreak] not carried out: role/orders");
        for says in [
            "The containment of role/orders was ordered, and is not carried out.",
            "nobody has held it to the guard rails since",
            "It is tried again now and by each sweep",
            "deny by hand",
        ] {
            assert!(page.body.contains(says), "{says}: {}", page.body);
        }
        for says in ["Somebody undid", "It is put back", "not known: CloudTrail"] {
            assert!(!page.body.contains(says), "{says}: {}", page.body);
        }
        // The same again pages no second time.
        let later = Tamper::unbegun(&incident, incident.opened_at + jiff::SignedDuration::from_mins(5));
        assert!(later.occasion() == tamper.occasion() && later.key != tamper.key);
    }
}
