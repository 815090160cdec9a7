//! The rules as they are deployed, asked of the emulator's own pattern engine: what wakes which function, what must not.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
#[path = "rules/kinds.rs"]
mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aws_sdk_eventbridge::types::RuleState;
use firebreak_model::outcome::OutcomeKind;
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::deploy::{self, Stack};
use gameday::pages::queue_arn;
use kinds::kinds;
use serde_json::{Value, json};

/// Every rule of the stack, and the bus that it is on.
const RULES: [(&str, Bus); 16] = [
    ("changes", Bus::Default),
    ("sweep", Bus::Default),
    ("findings", Bus::Default),
    ("drill-findings", Bus::Default),
    ("expire-revocations", Bus::Default),
    ("assess-identities", Bus::Default),
    ("assess-after-deployment", Bus::Default),
    ("revoke", Bus::Outcomes),
    ("trace", Bus::Outcomes),
    ("isolate", Bus::Outcomes),
    ("recycle", Bus::Outcomes),
    ("snapshot", Bus::Outcomes),
    ("report", Bus::Outcomes),
    ("notify", Bus::Outcomes),
    ("put-back", Bus::Outcomes),
    ("watch", Bus::Outcomes),
];

/// What was undone goes to its owners; `put-back` to the decider, whatever it is.
const OWNERS: [(&str, &str); 2] = [("revoke-sessions", "revoke"), ("isolate-function", "isolate")];

/// What an incident's report is made again for.
const RETOLD: [&str; 7] = [
    "Containment Released",
    "Containment Settled",
    "Containment Unsettled",
    "Containment Undone",
    "Tampering Found",
    "Sessions Traced",
    "Record Refused",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bus {
    Default,
    Outcomes,
}

impl Bus {
    fn name(self, stack: &Stack) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::Outcomes => stack.output("OutcomeBusName").unwrap().to_owned(),
        }
    }
}

fn deployed<T>(work: impl AsyncFnOnce(&Aws, &Stack) -> T) -> T {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        work(&theatre.aws, stack).await
    })
}

async fn pattern(aws: &Aws, stack: &Stack, rule: &str, bus: Bus) -> Option<String> {
    let name = format!("{}-{rule}", stack.name);
    let rule = aws.events.describe_rule().name(&name).event_bus_name(bus.name(stack)).send().await;
    let rule = rule.unwrap_or_else(|error| panic!("rule `{name}`: {error:?}"));
    assert_eq!(rule.state(), Some(&RuleState::Enabled), "{name}");
    rule.event_pattern().map(str::to_owned)
}

/// The rules that an event matches, whichever bus it came over.
async fn matching(aws: &Aws, patterns: &[(&'static str, String)], event: &Value) -> BTreeSet<&'static str> {
    let mut rules = BTreeSet::new();
    for (rule, pattern) in patterns {
        let test = aws.events.test_event_pattern().event_pattern(pattern).event(event.to_string());
        if test.send().await.unwrap_or_else(|error| panic!("{rule}: {error:?}")).result() {
            rules.insert(*rule);
        }
    }
    rules
}

fn samples() -> BTreeMap<String, Value> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events");
    let mut events = BTreeMap::new();
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        let event: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        if event.get("detail-type").is_some() {
            events.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), event);
        }
    }
    assert!(events.len() > 20);
    events
}

/// Samples that no rule takes, for what they say or because they are of another partition than the stack.
const LEFT: [&str; 20] = [
    "cloudtrail-call-of-a-role",
    "cloudtrail-federated-user",
    "cloudtrail-other-account-cn",
    "cloudtrail-own-policy-of-that-name",
    "cloudtrail-quarantine-denied",
    "cloudtrail-root-sign-in",
    "cloudtrail-service",
    "guardduty-from-another-account",
    "guardduty-replayed",
    "schedule-expire-revocations",
    "securityhub-configuration-check",
    "securityhub-custom-action-of-another-tool",
    "securityhub-imported-forged-action",
    "securityhub-imported-suppressed",
    "securityhub-imported-us-gov",
    "securityhub-untrusted-product",
    "securityhub-v2-cn",
    "securityhub-v2-compliance",
    "securityhub-v2-exposure",
    "securityhub-v2-vulnerability",
];

/// Samples that tell of a change in this account and partition, which the guard looks at.
const CHANGES: [&str; 3] =
    ["cloudtrail-call-of-a-role", "cloudtrail-exposed-key-quarantined", "cloudtrail-own-policy-of-that-name"];

/// The rules that a sample event must match, by its name: no rule but these.
fn wanted(name: &str, event: &Value) -> BTreeSet<&'static str> {
    let mut rules = BTreeSet::new();
    if CHANGES.contains(&name) {
        rules.insert("changes");
    }
    match name {
        _ if LEFT.contains(&name) => {}
        _ if ["guardduty-", "securityhub-", "cloudtrail-"].iter().any(|source| name.starts_with(source)) => {
            rules.insert("findings");
        }
        "cloudformation-stack-updated" => {
            rules.insert("assess-after-deployment");
        }
        _ if name.starts_with("drill-") => {
            rules.insert("drill-findings");
        }
        _ if name.starts_with("outcome-") => {
            rules.insert("notify");
            let ordered = event["detail-type"] == "Containment Ordered";
            // What was undone may be the deny of a chained session, which the search puts back.
            let searched = ordered || event["detail-type"] == "Containment Undone";
            rules.extend(searched.then_some("trace"));
            if ordered {
                rules.insert("watch");
            }
            if RETOLD.iter().any(|kind| event["detail-type"] == *kind) {
                rules.insert("report");
            }
            let owners = event.pointer("/detail/owners").and_then(Value::as_array).cloned().unwrap_or_default();
            if event["detail-type"] == "Tampering Found" {
                rules.insert("put-back");
            }
            if event["detail-type"] == "Containment Undone" {
                rules.insert("put-back");
                for (owner, rule) in OWNERS {
                    if owners.contains(&json!(owner)) {
                        rules.insert(rule);
                    }
                }
            }
            let responses = event.pointer("/detail/responses").and_then(Value::as_array).cloned().unwrap_or_default();
            for rule in ["revoke", "isolate", "recycle", "snapshot"] {
                if ordered && responses.contains(&json!(rule)) {
                    rules.insert(rule);
                }
            }
            if ordered && responses.contains(&json!("quarantine-function")) {
                rules.insert("revoke");
            }
        }
        _ => panic!("`{name}` is a sample that this test does not know"),
    }
    rules
}

#[test]
fn each_rule_matches_the_events_it_must_and_none_that_it_must_not() {
    deployed(async |aws, stack| {
        let mut patterns = Vec::new();
        for (rule, bus) in RULES {
            if let Some(pattern) = pattern(aws, stack, rule, bus).await {
                patterns.push((rule, pattern));
            }
        }
        assert_eq!(patterns.len(), RULES.len() - 3, "only the schedules have no pattern");
        for (name, event) in samples() {
            assert_eq!(matching(aws, &patterns, &event).await, wanted(&name, &event), "{name}");
        }
        // Each finding also: from elsewhere, replayed, of another kind, of another source.
        for (name, event) in samples().into_iter().filter(|(name, event)| !wanted(name, event).is_empty()) {
            for (change, value) in [
                ("account", json!("444455556666")),
                ("source", json!("aws.guardduty.forged")),
                ("source", json!("aws.inspector2")),
                ("detail-type", json!("GuardDuty Finding Forged")),
            ] {
                let mut changed = event.clone();
                changed[change] = value.clone();
                let rules = matching(aws, &patterns, &changed).await;
                assert!(rules.is_empty(), "{name} with {change} {value} matches {rules:?}");
            }
            if !name.starts_with("outcome-") {
                let mut replayed = event.clone();
                replayed["replay-name"] = json!("last-week");
                assert!(matching(aws, &patterns, &replayed).await.is_empty(), "{name}, replayed");
            }
        }
        // An outcome forged by anyone who may put events on the default bus is read by no rule there.
        let default: Vec<_> = patterns.iter().filter(|(rule, _)| rule.ends_with("findings")).cloned().collect();
        for (name, event) in samples().into_iter().filter(|(name, _)| name.starts_with("outcome-")) {
            assert!(matching(aws, &default, &event).await.is_empty(), "{name} on the default bus");
        }
    });
}

/// An event as it stands on the bus; `over` is laid over it, member by member.
fn event(source: &str, detail_type: &str, detail: &Value, over: &Value) -> Value {
    let mut event = json!({"version": "0", "id": "1", "source": source, "detail-type": detail_type,
        "account": ACCOUNT, "time": "2026-11-21T03:00:00Z", "region": REGION, "resources": [], "detail": detail});
    lay_over(&mut event, over);
    event
}

fn lay_over(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(members), Value::Object(others)) => {
            for (name, other) in others {
                lay_over(members.entry(name).or_insert(Value::Null), other);
            }
        }
        (Value::Array(items), Value::Object(_)) => items.iter_mut().for_each(|item| lay_over(item, over)),
        (value, over) => *value = over.clone(),
    }
}

#[test]
fn what_security_hub_and_cloudtrail_send_wakes_the_function_only_where_it_may_be_about_a_theft() {
    deployed(async |aws, stack| {
        let mut patterns = Vec::new();
        for rule in ["findings", "drill-findings"] {
            let pattern = pattern(aws, stack, rule, Bus::Default).await.unwrap();
            // EventBridge takes no longer one.
            assert!(pattern.len() < 2048, "{rule}: {} characters", pattern.len());
            patterns.push((rule, pattern));
        }
        for kind in kinds() {
            let all = json!({"resources": kind.resources});
            for (source, rule) in [(kind.source, "findings"), ("firebreak.drill", "drill-findings")] {
                let whole = event(source, kind.detail_type, &kind.detail, &all);
                let changed = |change: &Value| {
                    let mut event = whole.clone();
                    lay_over(&mut event, change);
                    event
                };
                let only = BTreeSet::from([rule]);
                assert_eq!(matching(aws, &patterns, &whole).await, only, "{} from {source}", kind.name);
                for change in &kind.taken {
                    let rules = matching(aws, &patterns, &changed(change)).await;
                    assert_eq!(rules, only, "{} from {source}, with {change}", kind.name);
                }
                let elsewhere = [
                    json!({"account": "444455556666"}),
                    json!({"replay-name": "last-week"}),
                    json!({"source": "aws.securityhub.forged"}),
                    json!({"source": "aws.guardduty"}),
                    json!({"detail-type": "Security Hub Insight Results"}),
                    json!({"detail-type": "AWS Console Sign In via CloudTrail"}),
                ];
                for change in kind.left.iter().chain(&elsewhere) {
                    let rules = matching(aws, &patterns, &changed(change)).await;
                    assert!(rules.is_empty(), "{} from {source}, with {change}, matches {rules:?}", kind.name);
                }
            }
        }
    });
}

#[test]
fn every_outcome_and_every_response_reaches_its_function() {
    deployed(async |aws, stack| {
        let mut patterns = Vec::new();
        for (rule, bus) in RULES.into_iter().filter(|(_, bus)| *bus == Bus::Outcomes) {
            patterns.push((rule, pattern(aws, stack, rule, bus).await.unwrap()));
        }
        for kind in OutcomeKind::ALL {
            for responses in [
                json!([]),
                json!(["revoke"]),
                json!(["quarantine", "isolate"]),
                json!(["recycle", "snapshot"]),
                json!(["quarantine-function"]),
            ] {
                let event = json!({"version": "0", "id": "1", "source": "firebreak", "detail-type": kind.as_str(),
                    "account": ACCOUNT, "time": "2026-11-21T03:00:00Z", "region": REGION, "resources": [],
                    "detail": {"schema": 1, "responses": responses}});
                let mut wanted = BTreeSet::from(["notify"]);
                if matches!(kind, OutcomeKind::ContainmentUndone | OutcomeKind::TamperingFound) {
                    wanted.insert("put-back");
                }
                if *kind == OutcomeKind::ContainmentUndone {
                    wanted.insert("trace");
                }
                if RETOLD.contains(&kind.as_str()) {
                    wanted.insert("report");
                }
                if *kind == OutcomeKind::ContainmentOrdered {
                    wanted.insert("watch");
                    let asked = responses.as_array().unwrap();
                    let rules = ["revoke", "isolate", "recycle", "snapshot"];
                    wanted.insert("trace");
                    wanted.extend(asked.contains(&json!("quarantine-function")).then_some("revoke"));
                    wanted.extend(rules.into_iter().filter(|rule| asked.contains(&json!(rule))));
                }
                assert_eq!(matching(aws, &patterns, &event).await, wanted, "{kind} {responses}");
            }
        }
    });
}

#[test]
fn a_drill_goes_the_way_that_a_finding_goes() {
    deployed(async |aws, stack| {
        let mut targets = Vec::new();
        for rule in ["findings", "drill-findings"] {
            let rule = format!("{}-{rule}", stack.name);
            let answer = aws.events.list_targets_by_rule().rule(rule).send().await.unwrap();
            targets.push(answer.targets().to_vec());
        }
        assert_eq!(targets[0].len(), 1);
        // Target, input, role, retries and dead-letter queue: all of them.
        assert_eq!(targets[0], targets[1]);
        let function = stack.output("QuarantinePrincipalArn").unwrap();
        assert_eq!(targets[0][0].arn(), function);
        let patterns = [
            pattern(aws, stack, "findings", Bus::Default).await,
            pattern(aws, stack, "drill-findings", Bus::Default).await,
        ]
        .map(|pattern| serde_json::from_str::<Value>(&pattern.unwrap()).unwrap());
        let mut as_drill = patterns[0].clone();
        let ways = as_drill["$or"].as_array_mut().unwrap();
        assert_eq!(ways.len(), 1 + kinds().len());
        for way in ways {
            way["source"] = json!(["firebreak.drill"]);
        }
        assert_eq!(as_drill, patterns[1]);
    });
}

#[test]
fn every_target_retries_for_a_day_and_then_parks_the_event() {
    deployed(async |aws, stack| {
        let parked = queue_arn(aws, stack.output("DeliveryFailuresUrl").unwrap()).await.unwrap();
        for (rule, bus) in RULES {
            let list = aws.events.list_targets_by_rule().rule(format!("{}-{rule}", stack.name));
            let answer = list.event_bus_name(bus.name(stack)).send().await.unwrap();
            assert_eq!(answer.targets().len(), 1, "{rule}");
            for target in answer.targets() {
                let retries = target.retry_policy().unwrap();
                assert_eq!(retries.maximum_event_age_in_seconds(), Some(86_400), "{rule}");
                assert_eq!(retries.maximum_retry_attempts(), Some(185), "{rule}");
                assert_eq!(target.dead_letter_config().and_then(|d| d.arn()), Some(parked.as_str()), "{rule}");
            }
        }
    });
}

#[test]
fn away_from_home_a_stack_only_forwards_findings() {
    common::in_the_theatre(|theatre| async {
        let (home, _) = theatre.enforcing().await.unwrap();
        let aws = theatre.aws.in_region("ap-southeast-2");
        let settings = common::settings();
        let url = deploy::upload(&aws, &settings.template, &settings.functions).await.unwrap();
        let parameters = [("HomeRegion", REGION), ("Mode", "enforce"), ("Drills", "enabled")];
        let away = deploy::create(&aws, &url, "firebreak-away", &parameters).await.unwrap();
        let resources = aws.cloudformation.list_stack_resources().stack_name("firebreak-away").send().await.unwrap();
        let mut ids: Vec<_> =
            resources.stack_resource_summaries().iter().filter_map(|r| r.logical_resource_id()).collect();
        ids.sort_unstable();
        let forwarding = [
            "ForwardChangesRule",
            "ForwardFailures",
            "ForwardFailuresAlarm",
            "ForwardFailuresPolicy",
            "ForwardFindingsRole",
            "ForwardFindingsRule",
            "ForwardPagesTopic",
            "ForwardPagesTopicPolicy",
        ];
        assert_eq!(ids, forwarding);
        let failures = queue_arn(&aws, away.output("ForwardFailuresUrl").unwrap()).await.unwrap();
        assert!(
            failures.ends_with(":firebreak-away-forward-failures"),
            "{failures}: the name that `redrive` looks for"
        );
        let name = "firebreak-away-forward-changes";
        let changes = aws.events.describe_rule().name(name).send().await.unwrap();
        let changes: Value = serde_json::from_str(changes.event_pattern().unwrap()).unwrap();
        let watched = pattern(&theatre.aws, home, "changes", Bus::Default).await.unwrap();
        assert_eq!(changes, serde_json::from_str::<Value>(&watched).unwrap());
        let rule =
            aws.events.describe_rule().name(away.output("ForwardFindingsRuleName").unwrap()).send().await.unwrap();
        let forwarded: Value = serde_json::from_str(rule.event_pattern().unwrap()).unwrap();
        let taken = pattern(&theatre.aws, home, "findings", Bus::Default).await.unwrap();
        assert_eq!(forwarded, serde_json::from_str::<Value>(&taken).unwrap());
        let targets = aws.events.list_targets_by_rule().rule(rule.name().unwrap()).send().await.unwrap();
        let [target] = targets.targets() else { panic!("{targets:?}") };
        assert_eq!(target.arn(), format!("arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"));
        assert!(target.dead_letter_config().is_some() && target.role_arn().is_some());
    });
}
