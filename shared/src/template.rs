//! What the template says that nothing notices when it is wrong: alarms that hear nothing, and the times that are shipped.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use firebreak_model::action::FunctionName;
use serde_json::{Value, json};

/// The template, with its references as text: `!Ref X` is `Ref.X`, `!GetAtt X.Y` is `GetAtt.X.Y`. Other functions are
/// left out, and what they are given stands there.
fn template() -> Value {
    let mut text = include_str!("../../template.yaml").to_owned();
    for name in ["Ref", "GetAtt"] {
        text = text.replace(&format!("!{name} "), &format!("{name}."));
    }
    for name in ["Sub", "Join", "Select", "Split", "If", "Equals", "Not", "And", "Or", "Condition", "FindInMap"] {
        text = text.replace(&format!("!{name} "), "").replace(&format!("!{name}\n"), "\n");
    }
    serde_saphyr::from_str(&text).unwrap()
}

/// The names and properties of the resources of a type.
fn of_type(template: &Value, kind: &str) -> Vec<(String, Value)> {
    let all = template["Resources"].as_object().unwrap().iter();
    let found: Vec<_> = all.filter(|(_, r)| r["Type"] == kind).map(|(name, r)| (name.clone(), r.clone())).collect();
    assert!(!found.is_empty(), "{kind}");
    found
}

fn alarms(template: &Value) -> Vec<(String, Value)> {
    of_type(template, "AWS::CloudWatch::Alarm")
}

/// What an alarm listens for: `namespace name`, and its dimensions.
fn heard(alarm: &Value) -> (String, Vec<(String, String)>) {
    let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (properties, none) = (&alarm["Properties"], Vec::new());
    let dimensions = properties["Dimensions"].as_array().unwrap_or(&none).iter();
    let dimensions = dimensions.map(|one| (said(&one["Name"]), said(&one["Value"]))).collect();
    (format!("{} {}", said(&properties["Namespace"]), said(&properties["MetricName"])), dimensions)
}

/// Asserts that these lines are what the alarms of these names listen for: namespace, name and no dimension.
pub(crate) fn assert_heard(lines: &[Value], names: &[&str]) {
    let template = template();
    let wanted: BTreeSet<_> =
        alarms(&template).iter().map(|(_, a)| heard(a)).filter(|(n, _)| n.starts_with("Firebreak ")).collect();
    let mut found = Vec::new();
    for line in lines {
        let [of] = line["_aws"]["CloudWatchMetrics"].as_array().unwrap().as_slice() else { panic!("{line}") };
        let name = of["Metrics"][0]["Name"].as_str().unwrap();
        assert_eq!(of["Dimensions"], json!([[]]), "an alarm without dimensions hears none that has some: {line}");
        assert!(line[name].is_i64(), "{line}");
        let key = (format!("{} {name}", of["Namespace"].as_str().unwrap()), Vec::new());
        assert!(wanted.contains(&key), "no alarm listens for {key:?}");
        found.push(name);
    }
    assert_eq!(found, names);
}

#[test]
fn every_alarm_pages_and_listens_for_what_is_there() {
    let template = template();
    let named = |kind| of_type(&template, kind).into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
    let (queues, functions) = (named("AWS::SQS::Queue"), named("AWS::Serverless::Function"));
    for (name, alarm) in alarms(&template) {
        let properties = &alarm["Properties"];
        let topic = match alarm["Condition"].as_str() {
            Some("IsAway") => "Ref.ForwardPagesTopic",
            Some(_) => "Ref.PagesTopic",
            None => panic!("{name} has no home"),
        };
        assert_eq!(properties["AlarmActions"], json!([topic]), "{name}");
        assert!(properties.get("ActionsEnabled").is_none(), "{name}");
        let (metric, dimensions) = heard(&alarm);
        let of = |name: &str, prefix: &str, suffix: &str, among: &BTreeSet<String>| {
            let [(key, value)] = dimensions.as_slice() else { return false };
            let resource = value.strip_prefix(prefix).and_then(|value| value.strip_suffix(suffix));
            key == name && resource.is_some_and(|resource| among.contains(resource))
        };
        let heard = match metric.as_str() {
            "AWS/SQS ApproximateNumberOfMessagesVisible" | "AWS/SQS ApproximateAgeOfOldestMessage" => {
                of("QueueName", "GetAtt.", ".QueueName", &queues)
            }
            "AWS/Lambda Errors" | "AWS/Lambda Throttles" | "AWS/Lambda IteratorAge" => {
                of("FunctionName", "Ref.", "", &functions)
            }
            // The tests of what writes them compare with the lines.
            "Firebreak GuardHeartbeat" | "Firebreak PartsMissing" | "Firebreak DeniedWithoutRecord" => {
                dimensions.is_empty()
            }
            _ => false,
        };
        assert!(heard, "{name} listens for {metric} of {dimensions:?}");
    }
}

#[test]
fn silence_of_the_guard_is_a_failure_and_of_nothing_else() {
    let template = template();
    let every = template["Resources"]["SweepRule"]["Properties"]["ScheduleExpression"].as_str();
    let minutes = |text: &str| text.strip_prefix("rate(")?.strip_suffix(" minutes)")?.parse::<u64>().ok();
    let every = every.and_then(minutes).unwrap();
    let mut heartbeats = 0;
    for (name, alarm) in alarms(&template) {
        let properties = &alarm["Properties"];
        if heard(&alarm).0 != "Firebreak GuardHeartbeat" {
            assert_eq!(properties["TreatMissingData"], "notBreaching", "{name}");
            assert_eq!(properties["ComparisonOperator"], "GreaterThanThreshold", "{name}");
            continue;
        }
        heartbeats += 1;
        assert_eq!(properties["TreatMissingData"], "breaching", "a guard that is gone writes nothing at all");
        assert_eq!(properties["ComparisonOperator"], "LessThanThreshold");
        assert_eq!((&properties["Statistic"], &properties["Threshold"]), (&json!("Sum"), &json!(1)));
        let seconds = properties["Period"].as_u64().unwrap() * properties["EvaluationPeriods"].as_u64().unwrap();
        assert!(seconds >= 2 * 60 * every, "one sweep may be late");
        assert!(seconds <= 3_600, "an hour without a guard is too long");
    }
    assert_eq!(heartbeats, 1);
}

#[test]
fn every_function_that_fails_and_every_queue_of_failures_has_its_alarm() {
    let template = template();
    let listened = |metric: &str| {
        let all = alarms(&template).into_iter().map(|(_, alarm)| heard(&alarm)).filter(|(name, _)| name == metric);
        all.flat_map(|(_, dimensions)| dimensions).map(|(_, value)| value).collect::<BTreeSet<_>>()
    };
    let functions = of_type(&template, "AWS::Serverless::Function");
    assert_eq!(functions.len(), FunctionName::ALL.len());
    let functions = functions.into_iter().map(|(name, _)| format!("Ref.{name}")).collect();
    assert_eq!(listened("AWS/Lambda Errors"), functions);
    let queues = of_type(&template, "AWS::SQS::Queue").into_iter().map(|(name, _)| name);
    let failures = queues.filter(|name| name.ends_with("Failures")).map(|name| format!("GetAtt.{name}.QueueName"));
    assert_eq!(listened("AWS/SQS ApproximateNumberOfMessagesVisible"), failures.collect());
}

/// A game day has its own times. What ships is what was promised.
#[test]
fn a_stack_looks_again_after_seconds_half_a_minute_and_minutes_unless_it_is_told_otherwise() {
    let template = template();
    let default = |name: &str| template["Parameters"][name]["Default"].clone();
    assert_eq!(default("RecheckSeconds"), "5,30,300");
    assert_eq!(default("CloudTrailLagSeconds"), 900, "CloudTrail's documented lag");
    let environment = |function: &str| {
        let resource = &template["Resources"][function]["Properties"]["Environment"]["Variables"];
        (resource["FIREBREAK_RECHECK_SECONDS"].clone(), resource["FIREBREAK_CLOUDTRAIL_LAG_SECONDS"].clone())
    };
    let guard = (json!([",", "Ref.RecheckSeconds"]), json!("Ref.CloudTrailLagSeconds"));
    assert_eq!(environment("GuardContainmentFunction"), guard);
    assert_eq!(environment("RevokeSessionsFunction").1, "Ref.CloudTrailLagSeconds");
    let delay = &template["Resources"]["RecheckQueue"]["Properties"]["DelaySeconds"];
    assert_eq!(*delay, json!([0, "Ref.RecheckSeconds"]), "an order's first look comes at the first of them");
}
