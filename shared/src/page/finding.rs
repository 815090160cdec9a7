//! The page about a finding that opens no incident: what Firebreak did not do, and what a person can do.

use firebreak_model::finding::Subject;
use firebreak_model::ledger::FindingRecord;
use firebreak_model::principal::PrincipalName;

use super::text::clean;
use super::{Draft, Page, Setting};

pub(super) fn page(finding: &FindingRecord, setting: &Setting) -> Page {
    let mut draft = Draft::default();
    draft.line("Firebreak noted a finding and changed nothing.");
    draft.section("What happened");
    describe(&mut draft, finding);
    for subject in &finding.subjects {
        draft.field("Who", &who(subject));
    }
    draft.field("Decision", &decided(finding));
    draft.field("Why", &clean(&finding.reason, 500));
    if let Some(plan) = &finding.would_be {
        draft.section("What Firebreak would have done");
        for step in &plan.steps {
            draft.line(&format!("  {}", clean(&step.key(), 300)));
        }
    }
    draft.section("Next step");
    let principals: Vec<&PrincipalName> = finding
        .subjects
        .iter()
        .filter_map(|s| match s {
            Subject::Principal { principal, .. } => Some(&principal.name),
            Subject::Lookup { .. } | Subject::NotContainable { .. } => None,
        })
        .collect();
    if principals.is_empty() {
        draft.line("Look at the finding. Firebreak has nobody to contain here.");
    } else {
        draft.line("Look at the finding. If it is true, contain by hand:");
        for name in principals {
            let payload = format!(
                r#"{{"firebreak": "contain", "{}": "{}", "requested_by": "WHO", "reason": "WHY"}}"#,
                name.kind(),
                name.as_str()
            );
            draft.command(&setting.invoke("quarantine-principal", &payload));
        }
    }
    draft.page(&format!("noted: {}", clean(&finding.finding_type, 70)))
}

/// Type, severity, id and times of a finding.
pub(super) fn describe(draft: &mut Draft, finding: &FindingRecord) {
    let severity = finding.severity.map_or("without severity".to_owned(), |s| format!("severity {s:.1}"));
    draft.field("Finding", &format!("{} ({severity})", clean(&finding.finding_type, 150)));
    draft.field("Finding id", &clean(&finding.finding_id, 200));
    let place = [
        finding.account.as_ref().map(|a| format!("account {a}")),
        finding.region.as_ref().map(|r| format!("Region {}", clean(r, 30))),
    ];
    let place: Vec<String> = place.into_iter().flatten().collect();
    if !place.is_empty() {
        draft.field("Where", &place.join(", "));
    }
    let seen = |at: Option<jiff::Timestamp>| at.map_or("not said".to_owned(), |at| at.to_string());
    let times = format!("first {}, last {}", seen(finding.first_seen), seen(finding.last_seen));
    draft.field("Seen", &format!("{times}, received {}", finding.received_at));
}

fn who(subject: &Subject) -> String {
    match subject {
        Subject::Principal { principal, access_key, .. } => {
            let name = principal.arn.as_ref().map_or_else(|| principal.name.to_string(), |arn| clean(arn, 600));
            access_key.as_ref().map_or(name.clone(), |key| format!("{name} (access key {key})"))
        }
        Subject::Lookup { lookup, .. } => clean(&lookup.to_string(), 600),
        Subject::NotContainable { what, reason, .. } => {
            format!("{}: cannot be contained, {}", clean(what, 200), clean(reason, 300))
        }
    }
}

fn decided(finding: &FindingRecord) -> String {
    let rule = clean(&finding.rule, 80);
    if finding.decision == finding.effective {
        format!("{} (rule `{rule}`)", finding.effective)
    } else {
        format!("{} instead of {} (rule `{rule}`, mode {})", finding.effective, finding.decision, finding.mode)
    }
}
