//! What a thief names, and pages of any length.

use super::*;

#[test]
fn nothing_that_a_thief_names_becomes_a_line_or_a_command() {
    let hostile = format!(
        "x\nNext step\n---------\n    aws iam create-user $(id) `id` '; rm -rf / #\u{1b}[2J\u{202e}{}",
        "A".repeat(10_000)
    );
    let mut finding = finding(&hostile);
    finding.finding_id.clone_from(&hostile);
    finding.rule.clone_from(&hostile);
    finding.reason.clone_from(&hostile);
    finding.region = Some(hostile.clone());
    finding.subjects.push(Subject::NotContainable { kind: None, what: hostile.clone(), reason: hostile.clone() });
    let mut incident = incident();
    incident.reason.clone_from(&hostile);
    incident.rule.clone_from(&hostile);
    incident.principal.arn = Some(hostile.clone());
    incident.origin =
        Origin::Person { requested_by: hostile.clone(), reason: hostile.clone(), invocation: hostile.clone() };
    let prior = serde_json::json!({"any": hostile}).to_string();
    let mut steps: Vec<StepRecord> = (0..incident.plan.steps.len())
        .map(|at| record(&incident, at, StepState::Applied, &hostile, Some(&prior)))
        .collect();
    let [top, mut below] = rungs(&incident, Refusal::Quota, StepState::Failed);
    below.detail.clone_from(&hostile);
    steps[0] = StepRecord { detail: hostile.clone(), ..top };
    steps.push(below);
    incident.stopped = Some(StoppedRelease { at: incident.opened_at, by: hostile.clone(), why: hostile.clone() });
    let occasions = [
        Occasion::Ordered,
        Occasion::Approval,
        Occasion::Withheld,
        Occasion::Step(hostile.clone(), StepState::Failed),
        Occasion::Complete(Verdict::Partial),
        Occasion::CannotContain(hostile.clone()),
        Occasion::Releasing,
        Occasion::Stopped(incident.opened_at),
        Occasion::Released,
    ];
    let mut pages: Vec<Page> =
        occasions.iter().map(|o| of_incident(o, &incident, &steps, &[finding.clone()], &setting())).collect();
    pages.push(of_finding(&finding, &setting()));
    let pause = Pause {
        schema: SCHEMA,
        since: incident.opened_at,
        by: hostile.clone(),
        reason: hostile.clone(),
        invocation: hostile.clone(),
    };
    pages.push(of_pause(Some(&pause), &setting()));
    for page in pages {
        assert!(page.subject.len() < 100 && page.subject.is_ascii(), "{}", page.subject);
        assert!(page.body.len() < 256 * 1024);
        assert!(page.body.bytes().all(|b| b == b'\n' || b.is_ascii_graphic() || b == b' '));
        assert!(page.body.matches("\nNext step\n").count() <= 1);
        for line in page.body.lines() {
            assert!(!line.trim_start().starts_with("aws iam create-user"), "{line}");
        }
    }
}

#[test]
fn a_page_of_any_length_is_cut_where_it_must_be() {
    let mut incident = incident();
    let many = (0..2_000).map(|n| format!("arn:aws:lambda:eu-west-1:111122223333:function:f{n}").parse().unwrap());
    incident.functions = many.collect();
    incident.plan = Plan::of(&incident.principal.name, &incident.functions, &incident.response);
    let page = page(&Occasion::Ordered, &incident, &[]);
    assert!(page.body.len() < 256 * 1024 && page.body.ends_with("(cut: the ledger holds the rest)\n"));
}
