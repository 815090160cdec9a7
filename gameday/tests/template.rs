//! What the template deploys: rules asked of the emulator's own pattern engine, and every promise of its resources.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aws_sdk_dynamodb::types::{PointInTimeRecoveryStatus, StreamViewType};
use aws_sdk_eventbridge::types::RuleState;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled, ServerSideEncryption};
use aws_sdk_sqs::types::QueueAttributeName;
use firebreak_model::action::FunctionName;
use firebreak_model::outcome::OutcomeKind;
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::deploy::{self, Stack};
use gameday::pages::queue_arn;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// Every rule of the stack, and the bus that it is on.
const RULES: [(&str, Bus); 8] = [
    ("findings", Bus::Default),
    ("drill-findings", Bus::Default),
    ("expire-revocations", Bus::Default),
    ("revoke", Bus::Outcomes),
    ("isolate", Bus::Outcomes),
    ("recycle", Bus::Outcomes),
    ("snapshot", Bus::Outcomes),
    ("notify", Bus::Outcomes),
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

/// The rules that a sample event must match, by its name: no rule but these.
fn wanted(name: &str, event: &Value) -> BTreeSet<&'static str> {
    let mut rules = BTreeSet::new();
    match name {
        "guardduty-from-another-account" | "guardduty-replayed" => {}
        _ if name.starts_with("guardduty-") => {
            rules.insert("findings");
        }
        _ if name.starts_with("drill-") => {
            rules.insert("drill-findings");
        }
        _ if name.starts_with("outcome-") => {
            rules.insert("notify");
            let ordered = event["detail-type"] == "Containment Ordered";
            let responses = event.pointer("/detail/responses").and_then(Value::as_array).cloned().unwrap_or_default();
            for rule in ["revoke", "isolate", "recycle", "snapshot"] {
                if ordered && responses.contains(&json!(rule)) {
                    rules.insert(rule);
                }
            }
        }
        "schedule-expire-revocations" => {}
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
        assert_eq!(patterns.len(), RULES.len() - 1, "only the schedule has no pattern");
        for (name, event) in samples() {
            assert_eq!(matching(aws, &patterns, &event).await, wanted(&name, &event), "{name}");
        }
        // Each finding also: from elsewhere, replayed, of another kind, of another source.
        for (name, event) in samples().into_iter().filter(|(name, event)| !wanted(name, event).is_empty()) {
            for (change, value) in [
                ("account", json!("444455556666")),
                ("source", json!("aws.guardduty.forged")),
                ("source", json!("aws.securityhub")),
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

#[test]
fn every_outcome_and_every_response_reaches_its_function() {
    deployed(async |aws, stack| {
        let mut patterns = Vec::new();
        for (rule, bus) in RULES.into_iter().filter(|(_, bus)| *bus == Bus::Outcomes) {
            patterns.push((rule, pattern(aws, stack, rule, bus).await.unwrap()));
        }
        for kind in OutcomeKind::ALL {
            for responses in
                [json!([]), json!(["revoke"]), json!(["quarantine", "isolate"]), json!(["recycle", "snapshot"])]
            {
                let event = json!({"version": "0", "id": "1", "source": "firebreak", "detail-type": kind.as_str(),
                    "account": ACCOUNT, "time": "2026-11-21T03:00:00Z", "region": REGION, "resources": [],
                    "detail": {"schema": 1, "responses": responses}});
                let mut wanted = BTreeSet::from(["notify"]);
                if *kind == OutcomeKind::ContainmentOrdered {
                    let asked = responses.as_array().unwrap();
                    let rules = ["revoke", "isolate", "recycle", "snapshot"];
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
        as_drill["source"] = json!(["firebreak.drill"]);
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
fn every_function_parks_what_it_fails_on() {
    deployed(async |aws, stack| {
        let parked = queue_arn(aws, stack.output("FunctionFailuresUrl").unwrap()).await.unwrap();
        for &function in FunctionName::ALL {
            if function == FunctionName::PublishOutcomes {
                continue;
            }
            let get = aws.lambda.get_function_event_invoke_config().function_name(stack.function(function));
            let get = get.qualifier("$LATEST");
            let config = get.send().await.unwrap_or_else(|error| panic!("{function}: {error:?}"));
            let destination = config.destination_config().and_then(|d| d.on_failure()).and_then(|f| f.destination());
            assert_eq!(destination, Some(parked.as_str()), "{function}");
            assert_eq!(config.maximum_retry_attempts(), Some(2), "{function}");
        }
        let mapping =
            aws.lambda.list_event_source_mappings().function_name(stack.function(FunctionName::PublishOutcomes));
        let mapping = mapping.send().await.unwrap();
        let [mapping] = mapping.event_source_mappings() else { panic!("one mapping: {mapping:?}") };
        let destination = mapping.destination_config().and_then(|d| d.on_failure()).and_then(|f| f.destination());
        assert_eq!(destination, Some(parked.as_str()));
        assert_eq!(mapping.bisect_batch_on_function_error(), Some(true));
        assert_eq!(mapping.function_response_types().len(), 1);
    });
}

#[test]
fn what_a_function_fails_on_arrives_in_the_queue_and_is_not_lost() {
    deployed(async |aws, stack| {
        let reason = format!("no role and no user, {}", gameday::scene::random_hex(12));
        let request = json!({"firebreak": "contain", "reason": reason, "requested_by": "a test"}).to_string();
        let invoke = aws.lambda.invoke().function_name(stack.function(FunctionName::QuarantinePrincipal));
        invoke.invocation_type(InvocationType::Event).payload(Blob::new(request)).send().await.unwrap();
        let url = stack.output("FunctionFailuresUrl").unwrap();
        for _ in 0..20 {
            let receive = aws.sqs.receive_message().queue_url(url).wait_time_seconds(1).max_number_of_messages(10);
            let answer = receive.send().await.unwrap();
            for message in answer.messages() {
                let body: Value = serde_json::from_str(message.body().unwrap()).unwrap();
                if body["requestPayload"]["reason"] == json!(reason) {
                    assert_eq!(body["requestContext"]["condition"], "RetriesExhausted");
                    return;
                }
            }
        }
        panic!("the failed request does not arrive in the queue");
    });
}

#[test]
fn the_deny_policy_denies_everything_on_everything() {
    deployed(async |aws, stack| {
        let arn = stack.output("DenyPolicyArn").unwrap();
        assert!(arn.contains(":policy/firebreak/"), "{arn}");
        let policy = aws.iam.get_policy().policy_arn(arn).send().await.unwrap();
        let version = policy.policy().unwrap().default_version_id().unwrap();
        let version = aws.iam.get_policy_version().policy_arn(arn).version_id(version).send().await.unwrap();
        let document = version.policy_version().unwrap().document().unwrap().to_owned();
        let document = percent_decode_str(&document).decode_utf8().unwrap();
        let document: Value = serde_json::from_str(&document).unwrap();
        let [statement] = document["Statement"].as_array().unwrap().as_slice() else { panic!("{document}") };
        assert_eq!(statement["Effect"], "Deny");
        assert_eq!((&statement["Action"], &statement["Resource"]), (&json!("*"), &json!("*")));
        assert!(statement.get("Condition").is_none() && statement.get("NotAction").is_none(), "{statement}");
    });
}

#[test]
fn the_ledger_streams_recovers_and_is_not_deleted() {
    deployed(async |aws, stack| {
        let name = stack.output("LedgerTableName").unwrap();
        let table = aws.dynamodb.describe_table().table_name(name).send().await.unwrap().table.unwrap();
        let stream = table.stream_specification().unwrap();
        assert!(stream.stream_enabled());
        assert_eq!(stream.stream_view_type(), Some(&StreamViewType::NewAndOldImages));
        assert_eq!(table.deletion_protection_enabled(), Some(true));
        let backups = aws.dynamodb.describe_continuous_backups().table_name(name).send().await.unwrap();
        let recovery = backups.continuous_backups_description().unwrap().point_in_time_recovery_description().unwrap();
        assert_eq!(recovery.point_in_time_recovery_status(), Some(&PointInTimeRecoveryStatus::Enabled));
        assert!(aws.dynamodb.delete_table().table_name(name).send().await.is_err(), "the ledger can be deleted");
    });
}

#[test]
fn the_evidence_is_versioned_locked_encrypted_and_private() {
    deployed(async |aws, stack| {
        let bucket = stack.output("EvidenceBucketName").unwrap();
        let key = stack.output("KeyArn").unwrap();
        let versioning = aws.s3.get_bucket_versioning().bucket(bucket).send().await.unwrap();
        assert_eq!(versioning.status(), Some(&BucketVersioningStatus::Enabled));
        let lock = aws.s3.get_object_lock_configuration().bucket(bucket).send().await.unwrap();
        let lock = lock.object_lock_configuration().unwrap();
        assert_eq!(lock.object_lock_enabled(), Some(&ObjectLockEnabled::Enabled));
        let retention = lock.rule().unwrap().default_retention().unwrap();
        assert_eq!(retention.days(), Some(1), "the parameter EvidenceRetentionDays");
        let encryption = aws.s3.get_bucket_encryption().bucket(bucket).send().await.unwrap();
        let rules = encryption.server_side_encryption_configuration().unwrap().rules();
        let default = rules[0].apply_server_side_encryption_by_default().unwrap();
        assert_eq!(default.sse_algorithm(), &ServerSideEncryption::AwsKms);
        assert_eq!(default.kms_master_key_id(), Some(key));
        let block = aws.s3.get_public_access_block().bucket(bucket).send().await.unwrap();
        let block = block.public_access_block_configuration().unwrap();
        assert_eq!(
            [
                block.block_public_acls(),
                block.ignore_public_acls(),
                block.block_public_policy(),
                block.restrict_public_buckets()
            ],
            [Some(true); 4]
        );
        let policy = aws.s3.get_bucket_policy().bucket(bucket).send().await.unwrap();
        let policy: Value = serde_json::from_str(policy.policy().unwrap()).unwrap();
        let tls = json!({"Bool": {"aws:SecureTransport": "false"}});
        let denies_plain = |s: &Value| s["Effect"] == "Deny" && s["Condition"] == tls && s["Action"] == "s3:*";
        assert!(policy["Statement"].as_array().unwrap().iter().any(denies_plain), "{policy}");
    });
}

#[test]
fn recycling_waits_and_a_failed_order_is_kept() {
    deployed(async |aws, stack| {
        let url = stack.output("RecycleQueueUrl").unwrap();
        let all = aws.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All).send().await;
        let attributes = all.unwrap().attributes.unwrap();
        let value = |name| attributes.get(&name).map_or("", String::as_str);
        assert_eq!(value(QueueAttributeName::DelaySeconds), "75");
        let redrive: Value = serde_json::from_str(value(QueueAttributeName::RedrivePolicy)).unwrap();
        let failures = queue_arn(aws, stack.output("RecycleFailuresUrl").unwrap()).await.unwrap();
        assert_eq!(redrive["deadLetterTargetArn"], json!(failures));
        assert_eq!(redrive["maxReceiveCount"].to_string().trim_matches('"'), "5");
        for output in ["RecycleFailuresUrl", "DeliveryFailuresUrl", "FunctionFailuresUrl"] {
            let retention = QueueAttributeName::MessageRetentionPeriod;
            let get = aws.sqs.get_queue_attributes().queue_url(stack.output(output).unwrap());
            let answer = get.attribute_names(retention.clone()).send().await.unwrap();
            assert_eq!(answer.attributes().unwrap().get(&retention).unwrap(), "1209600", "{output}: two weeks");
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
        assert_eq!(ids, ["ForwardFailures", "ForwardFailuresPolicy", "ForwardFindingsRole", "ForwardFindingsRule"]);
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
