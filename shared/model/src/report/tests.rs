#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser};

use super::*;
use crate::action::ActionId;
use crate::decision::{Decision, Mode};
use crate::deeds::{Deed, Leftover, Thing, Whose};
use crate::finding::Format;
use crate::ids::FindingKey;
use crate::ledger::tests::incident;
use crate::ledger::{Approval, ReleaseOrder};
use crate::plan::Step;
use crate::plan::Target;
use crate::tamper::{Nature, SeenCall};
use crate::watch::{Call, Cause, Check, Opinion, Pace};

fn at(seconds: i64) -> Timestamp {
    incident(Decision::Act).opened_at + SignedDuration::from_secs(seconds)
}

fn deed(second: i64, name: &str, thing: (&str, &str), refused: bool, leaves: Option<Leftover>) -> Deed {
    Deed {
        at: at(second),
        event_id: format!("e{second}-{name}"),
        name: name.to_owned(),
        region: "eu-west-1".to_owned(),
        address: "198.51.100.7".to_owned(),
        agent: "aws-cli/2".to_owned(),
        access_key: "ASIAEXAMPLE000000001".to_owned(),
        session: "orders-worker".to_owned(),
        refused: refused.then(|| "AccessDenied".to_owned()),
        touched: vec![Thing { kind: thing.0.to_owned(), id: thing.1.to_owned() }],
        leaves,
        whose: Whose::Stolen,
    }
}

/// An incident with everything in it. What others may have written is `foreign`, wherever it stands.
struct Story {
    incident: Incident,
    findings: Vec<FindingRecord>,
    steps: Vec<StepRecord>,
    watch: Watch,
    tampers: Vec<Tamper>,
    forgeries: Vec<ForgeryRecord>,
    pages: Vec<PageRecord>,
    deeds: Vec<Deed>,
    evidence: Vec<Snapshot>,
}

impl Story {
    #[expect(clippy::too_many_lines, reason = "everything that can be in a report")]
    fn told(foreign: &str) -> Self {
        let with = |text: &str| format!("{text}{foreign}");
        let mut incident = incident(Decision::Act);
        incident.first_seen = Some(at(-540));
        incident.reason = with("rule says act");
        incident.approval =
            Some(Approval { at: at(5), by: with("ana"), reason: with("go on"), invocation: "i".to_owned() });
        incident.functions = vec!["arn:aws:lambda:eu-west-1:111122223333:function:orders".parse().unwrap()];
        let mut steps: Vec<StepRecord> =
            incident.plan.steps.iter().map(|step| incident.step_record(step, at(0))).collect();
        for (step, second) in steps.iter_mut().zip(1..) {
            step.state = StepState::Applied;
            step.applied_at = Some(at(second));
            step.verified_at = Some(at(second + 1));
            step.detail = with("read back");
        }
        let failed =
            Step { action: ActionId::ZeroConcurrency, target: Target::Function(incident.functions[0].clone()) };
        let failed = incident.step_record(&failed, at(0));
        steps.push(StepRecord { state: StepState::Failed, detail: with("denied"), updated_at: at(9), ..failed });
        let finding = FindingRecord {
            schema: SCHEMA,
            finding_key: FindingKey::of("f", "u"),
            incident_id: Some(incident.incident_id.clone()),
            finding_id: with("f"),
            finding_type: with("UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.OutsideAWS"),
            severity: Some(8.0),
            account: Some(incident.account.clone()),
            region: Some("eu-west-1".to_owned()),
            source: "guardduty".to_owned(),
            format: Some(Format::GuardDuty),
            decision: Decision::Act,
            effective: Decision::Act,
            mode: Mode::Enforce,
            rule: "stolen".to_owned(),
            reason: with("rule says act"),
            playbook_digest: "d".to_owned(),
            subjects: Vec::new(),
            would_be: None,
            first_seen: Some(at(-540)),
            last_seen: Some(at(-60)),
            received_at: at(0),
            event: "{}".to_owned(),
            event_truncated: false,
            event_sha256: "0".repeat(64),
        };
        let rhythm = Pace { rechecks: vec![5, 30, 300], trail_lag: 900 };
        let mut watch = Watch::of(&incident, &rhythm, at(0));
        watch.checks =
            vec![Check { at: at(20), cause: Cause::Call, held: false, found: vec![with("the deny is gone")] }];
        watch.opinion = Opinion::Agrees;
        watch.calls = vec![Call { at: at(40), name: with("s3:GetObject"), event_id: "e40".to_owned() }];
        let call = SeenCall {
            event_id: "e19".to_owned(),
            name: with("iam:DetachRolePolicy"),
            at: at(19),
            region: "us-east-1".to_owned(),
            address: with("203.0.113.9"),
        };
        let undone = Tamper::undone(&incident, vec![("quarantine".to_owned(), with("gone"))], vec![], at(20));
        let tamper = Tamper { call: Some(call), nature: Nature::Undone, ..undone };
        let forgery = ForgeryRecord {
            schema: SCHEMA,
            incident_id: incident.incident_id.clone(),
            record: with("step#"),
            digest: "0".repeat(16),
            problem: with("its seal does not fit"),
            found_at: at(50),
        };
        let page = PageRecord {
            schema: SCHEMA,
            subject: incident.incident_id.to_string(),
            episode: 1,
            occasion: "ordered-1".to_owned(),
            sent_at: at(3),
        };
        let thing = with("orders-data");
        let mut deeds: Vec<Deed> =
            (0..40).map(|n| deed(-500 + n, "s3:GetObject", ("bucket", &thing), false, None)).collect();
        deeds.push(deed(-300, &with("iam:CreateUser"), ("user", &with("backdoor")), false, Some(Leftover::User)));
        deeds.push(deed(-200, "iam:CreateRole", ("role", &with("r")), true, None));
        deeds.push(deed(2, "s3:GetObject", ("bucket", &thing), true, None));
        for deed in &mut deeds {
            deed.agent = with("aws-cli/2");
        }
        let object = Object {
            key: "incidents/1/log-0001.jsonl.gz".to_owned(),
            what: with("function orders"),
            bytes: 12_345,
            sha256: "a".repeat(64),
        };
        let snapshot = Snapshot {
            manifest: "incidents/1/manifest.json".to_owned(),
            sha256: Some("b".repeat(64)),
            purpose: Purpose::Snapshot,
            began_at: at(60),
            objects: vec![object],
            objects_more: 0,
            gaps_more: 0,
            gaps: vec![with("logs:FilterLogEvents on /aws/lambda/x: the group is gone")],
        };
        Self {
            incident,
            findings: vec![finding],
            steps,
            watch,
            tampers: vec![tamper],
            forgeries: vec![forgery],
            pages: vec![page],
            deeds,
            evidence: vec![snapshot],
        }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.deeds.iter().for_each(|deed| tally.take(deed.clone()));
        tally
    }

    fn sources<'a>(&'a self, deeds: &'a Tally) -> Sources<'a> {
        Sources {
            made_at: at(600),
            stack: "firebreak",
            revokes: true,
            region: "eu-west-1",
            incident: &self.incident,
            findings: &self.findings,
            steps: &self.steps,
            watch: Some(&self.watch),
            tampers: &self.tampers,
            chains: &[],
            revocations: &[],
            forgeries: &self.forgeries,
            pages: &self.pages,
            deeds,
            deeds_complete_to: Some(at(-100)),
            evidence: &self.evidence,
        }
    }

    fn report(&self) -> Report {
        of(&self.sources(&self.tally()))
    }
}

#[test]
fn the_whole_story_is_in_each_form() {
    let report = Story::told("").report();
    insta::assert_json_snapshot!("report.json", report);
    insta::assert_snapshot!("report.md", markdown(&report));
    insta::assert_snapshot!("report.html", html(&report));
}

#[test]
fn the_timeline_is_in_order_and_calls_that_follow_closely_are_one_moment() {
    let report = Story::told("").report();
    assert!(report.timeline.is_sorted_by_key(|moment| moment.at));
    let read: Vec<_> = report.timeline.iter().filter(|m| m.what.starts_with("s3:GetObject")).collect();
    assert_eq!(
        read.iter().map(|m| m.what.as_str()).collect::<Vec<_>>(),
        ["s3:GetObject 40 times", "s3:GetObject: AccessDenied"]
    );
    assert_eq!((read[0].tone, read[1].tone), (Tone::Bad, Tone::Good));
}

#[test]
fn a_flood_of_calls_leaves_room_for_what_matters_and_is_counted() {
    let mut story = Story::told("");
    // None of them can be put together with another one.
    story.deeds =
        (0..5_000).map(|n| deed(n, &format!("s3:Call{n}"), ("bucket", &format!("b{n}")), true, None)).collect();
    story.deeds.push(deed(4_000, "iam:CreateUser", ("user", "backdoor"), false, Some(Leftover::User)));
    let report = story.report();
    assert_eq!(report.timeline.len(), 600);
    assert!(report.timeline.iter().any(|moment| moment.what == "iam:CreateUser"), "what was left behind stays");
    assert!(report.timeline.iter().any(|moment| moment.what == "The containment is ordered"));
    assert_eq!((report.touched.len(), report.touched_more), (200, 4_801));
    let without = Story { deeds: Vec::new(), ..Story::told("") };
    let others = without.report().timeline.len();
    assert_eq!(report.left_out, 5_001 - (600 - others as u64));
    assert!(html(&report).len() < 600_000);
}

#[test]
fn what_was_done_to_stands_before_what_was_only_tried() {
    let report = Story::told("").report();
    let order: Vec<&str> = report.touched.iter().map(|touched| touched.thing.id.as_str()).collect();
    assert_eq!(order, ["orders-data", "backdoor", "r"]);
    assert_eq!(report.touched[0].calls["s3:GetObject"], (40, 1));
    assert_eq!(report.left_behind.len(), 1, "what was refused leaves nothing");
}

#[test]
fn the_verdict_is_what_was_verified_and_no_more() {
    let verdict = |change: &dyn Fn(&mut Story)| {
        let mut story = Story::told("");
        story.steps.pop();
        change(&mut story);
        story.report().verdict
    };
    assert_eq!(verdict(&|_| {}), Verdict::Contained);
    assert_eq!(verdict(&|story| story.watch.standing = Standing::Settled), Verdict::Settled);
    // A watch over an earlier episode says nothing about this one.
    assert_eq!(
        verdict(&|story| {
            story.watch.standing = Standing::Settled;
            story.watch.episode = 0;
        }),
        Verdict::Contained
    );
    assert_eq!(verdict(&|story| story.watch.standing = Standing::Undone), Verdict::Partial);
    assert_eq!(verdict(&|story| story.watch.standing = Standing::CannotContain), Verdict::NotContained);
    assert_eq!(verdict(&|story| story.steps.clear()), Verdict::NotContained);
    assert_eq!(verdict(&|story| story.steps[0].state = StepState::Failed), Verdict::NotContained);
    assert_eq!(verdict(&|story| story.incident.state = IncidentState::AwaitingApproval), Verdict::NotContained);
    assert_eq!(verdict(&|story| story.incident.state = IncidentState::Withheld), Verdict::NotContained);
    let whole = Story::told("").report();
    assert_eq!(
        (whole.verdict, whole.sentence.as_str()),
        (Verdict::Partial, "Partly contained: 1 of 2 steps were read back")
    );
}

#[test]
fn settled_says_in_which_regions_cloudtrail_was_asked_and_whether_it_was() {
    let mut story = Story::told("");
    story.watch.standing = Standing::Settled;
    story.watch.settled_at = Some(at(1_200));
    let said = |story: &Story| {
        let report = story.report();
        let settled = report.timeline.iter().find(|moment| moment.what.ends_with("is settled")).unwrap();
        (report.verdict, report.sentence, settled.detail.clone())
    };
    let (verdict, says, detail) = said(&story);
    assert_eq!((verdict, detail.as_str()), (Verdict::Settled, "CloudTrail was not asked"));
    assert!(says.ends_with("CloudTrail was not asked: this rests on the re-checks alone"), "{says}");
    story.watch.cloudtrail_complete_until = Some(at(300));
    assert!(said(&story).1.ends_with("and CloudTrail shows no call since"), "an older record does not say where");
    story.watch.cloudtrail_regions = vec!["eu-west-1".parse().unwrap(), "us-east-1".parse().unwrap()];
    let (_, says, detail) = said(&story);
    assert!(says.ends_with("and CloudTrail, asked in eu-west-1, us-east-1, shows no call since"), "{says}");
    assert!(detail.starts_with("CloudTrail, asked in eu-west-1, us-east-1, was complete up to"), "{detail}");
}

#[test]
fn a_stack_that_revokes_nothing_is_released_with_the_word_for_it_and_the_cost() {
    let story = Story::told("");
    let lines = |revokes| of(&Sources { revokes, ..story.sources(&story.tally()) }).release.join("\n");
    let without = lines(false);
    for says in [" --without-revocation --reason", "alive work again after it", r#""without_revocation":true"#] {
        assert!(without.contains(says), "{says}: {without}");
        assert!(!lines(true).contains(says), "{says}");
    }
}

#[test]
fn what_is_open_is_said() {
    let open = Story::told("").report().open.join("\n");
    for line in [
        "failed: denied",
        "went through after the deny",
        "1 pieces of evidence",
        "What was left behind",
        "A record was refused",
        "CloudTrail was complete up to",
        "not settled yet",
    ] {
        assert!(open.contains(line), "{line}:\n{open}");
    }
    let mut story = Story::told("");
    story.incident.state = IncidentState::Released;
    story.incident.release = Some(ReleaseOrder {
        at: at(90),
        by: "bo".into(),
        reason: "rotated".into(),
        invocation: "j".into(),
        reactivate_keys: Vec::new(),
        left_alone: Vec::new(),
        from: None,
    });
    let report = story.report();
    assert_eq!((report.verdict, report.release.len()), (Verdict::Released, 0));
    assert!(report.timeline.iter().any(|moment| moment.what == "bo releases"));
}

/// The tags of a page, without its texts.
fn tags(html: &str) -> Vec<String> {
    html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default().to_owned()).collect()
}

/// What Markdown makes of a text, without its texts; an address is code, which changes no form.
fn structure(markdown: &str) -> Vec<String> {
    let events = Parser::new_ext(markdown, Options::all()).map(|event| match event {
        Event::Text(_) | Event::Code(_) | Event::SoftBreak => String::new(),
        other => format!("{other:?}"),
    });
    events.filter(|event| !event.is_empty()).collect()
}

#[test]
fn hostile_text_changes_no_form() {
    let plain = Story::told("x").report();
    for hostile in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</style><svg/onload=alert(1)>",
        "<!-- ",
        "]]>",
        "&lt;b&gt;",
        "\u{202e}txt.exe\u{200b}\u{feff}\u{0}\u{1b}[31m",
        "` [x](javascript:alert) <b> ` **b**",
        "`code` ``more`` ```\nfence\n```",
        "\n# heading\n- list\n> quote\n",
        "[link](javascript:alert(1)) ![img](https://example.com/x.png) <https://example.com>",
        "| a | b |\n|---|---|",
        "**bold** __bold__ ~~gone~~ $math$ {#id .class}",
    ] {
        let report = Story::told(hostile).report();
        let (page, text) = (html(&report), markdown(&report));
        assert_eq!(tags(&page), tags(&html(&plain)), "{hostile:?}");
        assert_eq!(structure(&text), structure(&markdown(&plain)), "{hostile:?}\n{text}");
        for unseen in ['\u{202e}', '\u{200b}', '\u{feff}', '\u{0}', '\u{1b}'] {
            assert!(!page.contains(unseen) && !text.contains(unseen), "{hostile:?} {unseen:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_changes_the_form_of_the_report(foreign in "\\PC{0,12}|[\\x00-\\x7f]{0,12}") {
        let plain = Story::told("x").report();
        let report = Story::told(&format!("x{foreign}")).report();
        prop_assert_eq!(tags(&html(&report)), tags(&html(&plain)));
        prop_assert_eq!(structure(&markdown(&report)), structure(&markdown(&plain)));
    }
}

#[test]
fn the_page_fetches_nothing_and_runs_nothing() {
    let page = html(&Story::told("").report());
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
    for never in ["<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "javascript:"] {
        assert!(!page.contains(never), "{never}");
    }
}
