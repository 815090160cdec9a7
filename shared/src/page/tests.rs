//! What pages say, and what nothing in them can say.

#![expect(clippy::unwrap_used, reason = "tests")]

use firebreak_model::SCHEMA;
use firebreak_model::action::{ActionId, Response};
use firebreak_model::decision::{Decision, Mode};
use firebreak_model::finding::{Format, Subject};
use firebreak_model::ladder::Refusal;
use firebreak_model::ledger::{IncidentState, Origin, ReleaseOrder, StoppedRelease};
use firebreak_model::plan::{Plan, Step};
use firebreak_model::principal::Principal;
use firebreak_model::usage::Usage;

use super::*;
use crate::testing::{function_order, role_order, user_order};

mod hostile;
mod release;

/// Prior states as the actions on a function record them, in the order of the plan.
const PRIORS: [Option<&str>; 5] = [
    Some(r#"{"reserved": 5, "provisioned": [{"qualifier": "live", "requested": 2}]}"#),
    Some(
        r#"[{"uuid": "0b7c", "state": "Enabled", "enabled": true}, {"uuid": "1d2e", "state": "Disabled", "enabled": false}]"#,
    ),
    Some(r#"[{"qualifier": null, "auth_type": "NONE"}, {"qualifier": "live", "auth_type": "AWS_IAM"}]"#),
    Some(
        r#"[{"qualifier": null, "statement": {"Sid": "open", "Effect": "Allow", "Principal": "*",
             "Action": "lambda:InvokeFunctionUrl", "Resource": "arn:aws:lambda:eu-west-1:111122223333:function:orders",
             "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}}}]"#,
    ),
    Some(
        r#"{"destinations": [{"qualifier": "live", "on_success": null, "on_failure": "arn:aws:sqs:eu-west-1:111122223333:q"},
             {"qualifier": "1", "on_success": null, "on_failure": null}],
             "dead_letter": "arn:aws:sqs:eu-west-1:111122223333:dlq"}"#,
    ),
];

pub(super) fn setting() -> Setting {
    Setting {
        stack: "firebreak".into(),
        region: "eu-west-1".into(),
        deny_policy_arn: "arn:aws:iam::111122223333:policy/firebreak/firebreak-deny-everything".into(),
        table: "firebreak-ledger".into(),
        revokes: true,
    }
}

pub(crate) fn finding(kind: &str) -> FindingRecord {
    let principal = Principal::from_arn("arn:aws:iam::111122223333:role/team/orders-role").unwrap();
    FindingRecord {
        schema: SCHEMA,
        finding_key: FindingKey::of("f1", "u1"),
        incident_id: None,
        finding_id: "f1".into(),
        finding_type: kind.into(),
        severity: Some(8.0),
        account: Some("111122223333".parse().unwrap()),
        region: Some("eu-west-1".into()),
        source: "guardduty".into(),
        format: Some(Format::GuardDuty),
        decision: Decision::Act,
        effective: Decision::Notify,
        mode: Mode::Observe,
        rule: "workload-credentials-used-outside-aws".into(),
        reason: "the stack observes".into(),
        playbook_digest: "d".into(),
        would_be: Some(Plan::of(&principal.name, &[], &[Response::Quarantine, Response::Snapshot])),
        subjects: vec![Subject::Principal {
            principal,
            access_key: Some("ASIAEXAMPLE00000001".parse().unwrap()),
            function: None,
        }],
        first_seen: Some("2026-11-21T02:40:00Z".parse().unwrap()),
        last_seen: Some("2026-11-21T02:55:00Z".parse().unwrap()),
        received_at: "2026-11-21T03:00:00Z".parse().unwrap(),
        event: String::new(),
        event_truncated: false,
        event_sha256: String::new(),
    }
}

/// A role whose function is isolated, opened by a finding.
pub(super) fn incident() -> Incident {
    let (mut incident, _) = function_order(ActionId::ZeroConcurrency);
    incident.response.push(Response::Snapshot);
    incident.plan = Plan::of(&incident.principal.name, &incident.functions, &incident.response);
    incident.first_seen = Some("2026-11-21T02:40:00Z".parse().unwrap());
    incident.origin = Origin::Finding {
        finding_id: "f1".into(),
        finding_type: "UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.OutsideAWS".into(),
        severity: Some(8.0),
        finding_key: FindingKey::of("f1", "u1"),
    };
    incident
}

pub(super) fn record(
    incident: &Incident,
    at: usize,
    state: StepState,
    detail: &str,
    prior: Option<&str>,
) -> StepRecord {
    let now = "2026-11-21T03:00:02Z".parse().unwrap();
    StepRecord {
        state,
        detail: detail.into(),
        prior: prior.map(str::to_owned),
        applied_at: (state == StepState::Applied).then_some(now),
        verified_at: (state == StepState::Applied).then_some(now),
        first_verified_at: None,
        ..incident.step_record(&incident.plan.steps[at], now)
    }
}

fn shown(page: &Page) -> String {
    format!("Subject: {}\n\n{}", page.subject, page.body)
}

fn page(occasion: &Occasion, incident: &Incident, steps: &[StepRecord]) -> Page {
    let kind = "UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.OutsideAWS";
    of_incident(occasion, incident, steps, &[finding(kind)], &setting())
}

#[test]
fn an_order_under_way() {
    let incident = incident();
    let steps = [record(&incident, 0, StepState::Applied, "the deny policy is attached", None)];
    insta::assert_snapshot!(shown(&page(&Occasion::Ordered, &incident, &steps)));
}

#[test]
fn a_containment_in_part() {
    let incident = incident();
    let states = [
        (StepState::Applied, "the deny policy is attached", None),
        (StepState::Applied, "reserved concurrency is 0", PRIORS[0]),
        (StepState::Applied, "event sources are disabled", PRIORS[1]),
        (StepState::Applied, "URLs need IAM authentication", PRIORS[2]),
        (StepState::Applied, "public statements are removed", PRIORS[3]),
        (StepState::Failed, "`lambda:PutFunctionEventInvokeConfig` on `orders` was denied", PRIORS[4]),
        (
            StepState::Applied,
            "4 objects and 2 gaps, in manifest `m`; not collected: log group /aws/lambda/orders in eu-west-1: it does not exist, or no longer (logs:FilterLogEvents); not collected: role/orders: Firebreak was denied it (iam:GetRole and 2 more calls)",
            None,
        ),
    ];
    let step = |(at, (state, detail, prior))| record(&incident, at, state, detail, prior);
    let steps: Vec<StepRecord> = states.into_iter().enumerate().map(step).collect();
    assert_eq!(incident::verdict(&incident, &steps), Some(Verdict::Partial));
    insta::assert_snapshot!(shown(&page(&Occasion::Complete(Verdict::Partial), &incident, &steps)));
}

#[test]
fn a_user_with_two_keys_in_a_drill() {
    let (mut incident, _) = user_order("ci-bot", ActionId::QuarantineUser);
    incident.drill = true;
    incident.access_keys = vec!["AKIASTOLEN000000001".parse().unwrap()];
    let keys = r#"[{"id": "AKIASTOLEN000000001", "active": true}, {"id": "AKIAOTHER0000000001", "active": true},
                   {"id": "AKIAOLD000000000001", "active": false}]"#;
    let steps = [
        record(&incident, 0, StepState::Applied, "the deny policy is attached", None),
        record(&incident, 1, StepState::Applied, "the keys are Inactive", Some(keys)),
    ];
    assert_eq!(incident::verdict(&incident, &steps), Some(Verdict::Contained));
    insta::assert_snapshot!(shown(&page(&Occasion::Complete(Verdict::Contained), &incident, &steps)));
}

#[test]
fn a_revocation_comes_with_a_warning() {
    let (mut incident, _) = role_order("orders");
    incident.plan = Plan::of(&incident.principal.name, &[], &[Response::Revoke]);
    let steps = [record(&incident, 0, StepState::Applied, "revoked", Some("null"))];
    let body = page(&Occasion::Complete(Verdict::Contained), &incident, &steps).body;
    assert!(body.contains("aws iam delete-role-policy --role-name 'orders' --policy-name 'firebreak-revoke-sessions'"));
    assert!(body.contains("this wakes every stolen session"));
}

#[test]
fn an_alias_that_was_led_elsewhere_comes_with_the_command_that_leads_it_back() {
    let (mut incident, step) = function_order(ActionId::RecycleEnvironments);
    incident.plan.steps = vec![step];
    let prior =
        r#"{"description": "takes orders", "aliases": [{"name": "live", "version": "7", "weights": {"6": 0.25}}]}"#;
    for state in [StepState::Applied, StepState::Withheld] {
        let now = incident.opened_at;
        let step = StepRecord { applied_at: Some(now), ..record(&incident, 0, state, "recycled", Some(prior)) };
        let body = page(&Occasion::Complete(Verdict::Contained), &incident, &[step]).body;
        let back = "aws lambda update-alias --region 'eu-west-1' --function-name 'orders' --name 'live' \
                    --function-version '7' --routing-config '{\"AdditionalVersionWeights\":{\"6\":0.25}}'";
        assert!(body.contains(back) && body.contains("have dead credentials"), "{body}");
        assert!(
            body.contains(
                "update-function-configuration --region 'eu-west-1' --function-name 'orders' \
                               --description 'takes orders'"
            ),
            "{body}"
        );
    }
    let untouched = record(&incident, 0, StepState::Withheld, "another role", Some(prior));
    let body = page(&Occasion::Complete(Verdict::Contained), &incident, &[untouched]).body;
    assert!(!body.contains("update-alias"), "{body}");
}

#[test]
fn a_prior_state_of_an_unknown_shape_is_printed_as_recorded() {
    let incident = incident();
    let odd = [
        r#"{"reserved": "many"}"#,
        r#"{"uuid": 7}"#,
        r#"[{"qualifier": "a\nb", "auth_type": "NONE"}]"#,
        r#"[{"qualifier": null, "statement": {"Sid": "s", "Effect": "Allow", "NotPrincipal": "x", "Action": "a"}}]"#,
        r#"[{"qualifier": null, "statement": {"Sid": "s", "Effect": "Allow", "Principal": "*", "Action": "a",
             "Condition": {"StringNotLike": {"aws:SourceArn": "x"}}}}]"#,
    ];
    for (at, prior) in [(1, odd[0]), (2, odd[1]), (3, odd[2]), (4, odd[3]), (4, odd[4])] {
        let steps = [record(&incident, at, StepState::Applied, "done", Some(prior))];
        let body = page(&Occasion::Complete(Verdict::Contained), &incident, &steps).body;
        let recorded: String = prior.replace('\n', "?");
        assert!(body.contains("cannot be put into a command") && body.contains(&recorded), "{prior}: {body}");
    }
}

/// A rung that was refused, and the one below it.
pub(super) fn rungs(incident: &Incident, refused: Refusal, below: StepState) -> [StepRecord; 2] {
    let step = incident.plan.steps[0].clone();
    let action = firebreak_model::ladder::below(step.action).unwrap();
    let mut top = record(incident, 0, StepState::Failed, "`iam:AttachRolePolicy` on `x` ran into a quota", None);
    top.refused = Some(refused);
    if refused == Refusal::Quota {
        top.filled_by = ["arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::111122223333:policy/a/b';id;'/c"]
            .map(|arn| arn.parse().unwrap())
            .to_vec();
    }
    let now = "2026-11-21T03:00:03Z".parse().unwrap();
    let fresh = incident.step_record(&Step { action, target: step.target }, now);
    let applied = (below == StepState::Applied).then_some(now);
    let below = StepRecord {
        state: below,
        detail: if applied.is_some() { "AWSDenyAll is the boundary" } else { "`iam:PutX` on `x` was denied" }.into(),
        refused: (below == StepState::Failed).then_some(Refusal::Denied),
        prior: Some(r#""arn:aws:iam::111122223333:policy/team""#.into()),
        applied_at: applied,
        verified_at: applied,
        first_verified_at: None,
        ..fresh
    };
    [top, below]
}

#[test]
fn a_boundary_in_the_place_of_the_deny_is_contained_and_says_why() {
    let mut incident = incident();
    incident.plan.steps.truncate(1);
    let steps = rungs(&incident, Refusal::Quota, StepState::Applied);
    assert_eq!(incident::verdict(&incident, &steps), Some(Verdict::Contained));
    assert_eq!(incident::ended_badly(&incident, &steps), []);
    insta::assert_snapshot!(shown(&page(&Occasion::Complete(Verdict::Contained), &incident, &steps)));
}

#[test]
fn every_rung_refused_is_loud_and_says_what_to_do_by_hand() {
    let incident = incident();
    let steps = rungs(&incident, Refusal::Quota, StepState::Failed);
    let key = incident.plan.steps[0].key();
    assert_eq!(incident::ended_badly(&incident, &steps), [Occasion::CannotContain(key.clone())]);
    assert_eq!(incident::verdict(&incident, &steps), None, "the function is not isolated yet");
    insta::assert_snapshot!(shown(&page(&Occasion::CannotContain(key), &incident, &steps)));
    let (mut user, _) = user_order("ci-bot", ActionId::QuarantineUser);
    user.access_keys = vec!["AKIASTOLEN000000001".parse().unwrap()];
    let steps = rungs(&user, Refusal::PolicyGone, StepState::Failed);
    let key = user.plan.steps[0].key();
    insta::assert_snapshot!(shown(&page(&Occasion::CannotContain(key), &user, &steps)));
}

#[test]
fn a_rung_that_is_tried_in_the_place_of_another_is_under_way() {
    let mut incident = incident();
    incident.plan.steps.truncate(1);
    let steps = rungs(&incident, Refusal::Denied, StepState::Intended);
    for steps in [&steps[..1], &steps[..]] {
        assert_eq!(incident::verdict(&incident, steps), None);
        assert_eq!(incident::ended_badly(&incident, steps), []);
    }
    // What may go better another time is told as before.
    let mut throttled = steps.clone();
    throttled[0].refused = None;
    let expected = Occasion::Step(throttled[0].step.clone(), StepState::Failed);
    assert_eq!(incident::ended_badly(&incident, &throttled[..1]), [expected]);
}

#[test]
fn a_boundary_that_a_release_left_alone_is_told_with_the_commands() {
    let release = ReleaseOrder {
        at: "2026-11-21T04:00:00Z".parse().unwrap(),
        by: "ana".into(),
        reason: "it was us".into(),
        invocation: "i".into(),
        reactivate_keys: Vec::new(),
        left_alone: vec!["bound-role@role/orders-role".into()],
        from: None,
    };
    let mut incident = Incident { state: IncidentState::Released, release: Some(release), ..incident() };
    incident.plan.steps.truncate(1);
    let [mut top, mut below] = rungs(&incident, Refusal::Quota, StepState::Applied);
    top.state = StepState::Reverted;
    below.state = StepState::LeftAlone;
    below.detail = "the policy `p`, which was the boundary before the containment, does not exist any more".into();
    let body = page(&Occasion::Released, &incident, &[top, below]).body;
    assert!(body.contains("left alone: the policy `p`, which was the boundary"), "{body}");
    assert!(body.contains("    aws iam delete-role-permissions-boundary --role-name 'orders-role'\n"), "{body}");
}

#[test]
fn an_approval_is_asked_for_with_the_command() {
    let incident = Incident { state: IncidentState::AwaitingApproval, ..incident() };
    insta::assert_snapshot!(shown(&page(&Occasion::Approval, &incident, &[])));
}

#[test]
fn a_deny_that_is_in_force_while_its_incident_waits_says_so_and_how_to_take_it_away() {
    let incident = Incident { state: IncidentState::AwaitingApproval, ..incident() };
    let quarantine = record(&incident, 0, StepState::Applied, "the deny policy is attached", None);
    assert_eq!(incident::in_force_unasked(&incident, &[]), None);
    let intended = StepRecord { state: StepState::Reverted, ..quarantine.clone() };
    assert_eq!(incident::in_force_unasked(&incident, &[intended]), None);
    let steps = [quarantine];
    let occasion = incident::in_force_unasked(&incident, &steps).unwrap();
    assert_eq!(occasion, Occasion::Step(steps[0].step.clone(), StepState::Applied));
    let page = page(&occasion, &incident, &steps);
    assert!(page.subject.contains("step applied"), "{}", page.subject);
    for told in ["is denied already, while the incident waits", "\"approve\"", "\"release\"", "detach-role-policy"] {
        assert!(page.body.contains(told), "{told}: {}", page.body);
    }
}

/// What is known of a role that `count` use.
fn usage(names: &[&str], count: usize, scanned_at: &str) -> Usage {
    let function = |name: &&str| format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}");
    let scanned_at = scanned_at.parse().unwrap();
    Usage { users: names.iter().map(function).collect(), count, scanned_at, unread: Vec::new() }
}

#[test]
fn whoever_shares_a_role_is_named_before_it_is_denied_and_after() {
    let usage = usage(&["invoices", "orders"], 2, "2026-11-21T02:45:00Z");
    let incident = Incident { usage: Some(usage), ..incident() };
    let waiting = Incident { state: IncidentState::AwaitingApproval, ordered_at: None, ..incident.clone() };
    insta::assert_snapshot!(shown(&page(&Occasion::Approval, &waiting, &[])));
    let body = page(&Occasion::Ordered, &incident, &[]).body;
    let told = "Who else is hit\n---------------\n2 run as the role, as of 2026-11-21T02:45:00Z.\n  arn:aws:lambda:eu-west-1:111122223333:function:invoices\n\n";
    assert!(body.contains(told), "{body}");
    let body = page(&Occasion::Releasing, &incident, &[]).body;
    assert!(!body.contains("function:invoices"), "{body}");
}

#[test]
fn what_is_known_of_a_role_is_told_with_its_age_its_gaps_and_its_number() {
    let mut known = usage(&["orders"], 60, "2026-11-19T02:00:00Z");
    known.unread = vec!["functions in us-east-1".into()];
    known.users.push("x\nForged: line".into());
    let body = page(&Occasion::Ordered, &Incident { usage: Some(known), ..incident() }, &[]).body;
    for told in [
        "60 run as the role, as of 2026-11-19T02:00:00Z, which is old: 2 d 1 h before this.",
        "  x?Forged: line",
        "  and 58 more",
        "There may be more: functions in us-east-1 could not be read.",
    ] {
        assert!(body.lines().any(|line| line == told), "{told}: {body}");
    }
    let alone = Incident { usage: Some(usage(&["orders"], 1, "2026-11-21T02:45:00Z")), ..incident() };
    let body = page(&Occasion::Ordered, &alone, &[]).body;
    assert!(!body.contains("Who else") && !body.contains("Also used by"), "{body}");
}

#[test]
fn a_release_says_what_was_left_alone() {
    let release = ReleaseOrder {
        at: "2026-11-21T04:00:00Z".parse().unwrap(),
        by: "ana".into(),
        reason: "it was us".into(),
        invocation: "i".into(),
        reactivate_keys: Vec::new(),
        left_alone: vec!["quarantine-role@role/orders-role".into()],
        from: None,
    };
    let incident = Incident { state: IncidentState::Released, release: Some(release), ..incident() };
    let steps = [
        record(&incident, 0, StepState::LeftAlone, "the policy had been detached", None),
        record(&incident, 1, StepState::Reverted, "what was there before is there again", None),
    ];
    insta::assert_snapshot!(shown(&page(&Occasion::Released, &incident, &steps)));
}

#[test]
fn a_release_that_stopped_says_what_still_holds_and_how_to_go_on() {
    let at = "2026-11-21T04:00:00Z".parse().unwrap();
    let why = "the revocation failed: quota".to_owned();
    let incident = Incident { stopped: Some(StoppedRelease { at, by: "ana".into(), why }), ..incident() };
    let steps = [record(&incident, 0, StepState::Applied, "done", None)];
    let page = page(&Occasion::Stopped(at), &incident, &steps);
    assert_eq!(page.subject, "[Firebreak] NOT released: role/orders-role");
    for says in [
        "stopped before anything was undone: it is `ordered` as before",
        "Asked by     ana",
        "Why          the revocation failed: quota",
        "[x] quarantine-role@role/orders-role",
        r#""firebreak": "release""#,
        "aws iam detach-role-policy",
    ] {
        assert!(page.body.contains(says), "{says}: {}", page.body);
    }
}

#[test]
fn a_finding_that_was_only_noted() {
    let kind = "UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.OutsideAWS";
    insta::assert_snapshot!(shown(&of_finding(&finding(kind), &setting())));
}

#[test]
fn a_pause_is_loud() {
    let pause = Pause {
        schema: SCHEMA,
        since: "2026-11-21T03:00:00Z".parse().unwrap(),
        by: "ana".into(),
        reason: "a storm".into(),
        invocation: "i".into(),
    };
    insta::assert_snapshot!(shown(&of_pause(Some(&pause), &setting())));
    assert!(of_pause(None, &setting()).body.starts_with("Containment is not paused"));
}

#[test]
fn withheld_and_failed_steps_say_why() {
    let incident = incident();
    let steps = [
        record(&incident, 0, StepState::Withheld, "the playbook protects it", None),
        record(&incident, 1, StepState::Failed, "`x` was throttled", None),
    ];
    let withheld = page(&Occasion::Step(steps[0].step.clone(), StepState::Withheld), &incident, &steps);
    assert_eq!(withheld.subject, "[Firebreak] step withheld: role/orders-role");
    assert!(withheld.body.contains("    withheld: the playbook protects it\n"));
    let failed = page(&Occasion::Step(steps[1].step.clone(), StepState::Failed), &incident, &steps);
    assert!(failed.body.contains("    failed: `x` was throttled\n") && !failed.body.contains("Undo it"));
    let vetoed = page(&Occasion::Withheld, &incident, &[]);
    assert!(vetoed.body.contains("a guard rail forbids it"));
}

#[test]
fn the_verdict_waits_for_every_step() {
    let incident = incident();
    // The evidence is last, and not waited for.
    let last = incident.plan.steps.len() - 1;
    let all =
        |state: StepState| -> Vec<StepRecord> { (0..=last).map(|at| record(&incident, at, state, "", None)).collect() };
    assert_eq!(incident::verdict(&incident, &all(StepState::Applied)[..last - 1]), None);
    assert_eq!(incident::verdict(&incident, &all(StepState::Applied)[..last]), Some(Verdict::Contained));
    assert_eq!(incident::verdict(&incident, &all(StepState::Intended)), None);
    assert_eq!(incident::verdict(&incident, &all(StepState::Applied)), Some(Verdict::Contained));
    assert_eq!(incident::verdict(&incident, &all(StepState::Failed)), Some(Verdict::CannotContain));
    let mut without_evidence = all(StepState::Applied);
    without_evidence[last].state = StepState::Failed;
    assert_eq!(incident::verdict(&incident, &without_evidence), Some(Verdict::Contained));
    let mut evidence_only = all(StepState::Failed);
    evidence_only[last].state = StepState::Applied;
    assert_eq!(incident::verdict(&incident, &evidence_only), Some(Verdict::CannotContain));
    let mut nothing_else = incident.clone();
    nothing_else.plan.steps = vec![incident.plan.steps[last].clone()];
    assert_eq!(incident::verdict(&nothing_else, &all(StepState::Applied)[last..]), None);
    assert!(incident::is_kept(&nothing_else, &all(StepState::Applied)[last..]));
}
