//! What the template deploys: every promise of its resources, but for its rules (`rules.rs`) and roles (`permissions.rs`).

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use aws_sdk_dynamodb::types::{PointInTimeRecoveryStatus, StreamViewType};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled, ObjectLockRetentionMode, ServerSideEncryption};
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use firebreak_model::action::FunctionName;
use gameday::aws::Aws;
use gameday::deploy::{self, Stack};
use gameday::pages::queue_arn;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

fn deployed<T>(work: impl AsyncFnOnce(&Aws, &Stack) -> T) -> T {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        work(&theatre.aws, stack).await
    })
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
        let failed = kept(aws, stack, |body| body["requestPayload"]["reason"] == json!(reason)).await;
        assert_eq!(failed["requestContext"]["condition"], "RetriesExhausted");
    });
}

/// What comes by a rule is kept like what comes by hand: nobody waits for its answer either.
#[test]
fn what_a_rule_hands_to_a_function_that_fails_on_it_is_not_lost() {
    deployed(async |aws, stack| {
        let id = format!("no id, {}", gameday::scene::random_hex(12));
        let detail = json!({"schema": 1, "incident_id": id, "episode": 1, "responses": ["snapshot"]});
        let entry = PutEventsRequestEntry::builder().source("firebreak").detail_type("Containment Ordered");
        let entry = entry.event_bus_name(stack.output("OutcomeBusName").unwrap()).detail(detail.to_string()).build();
        let answer = aws.events.put_events().entries(entry).send().await.unwrap();
        assert_eq!(answer.failed_entry_count(), 0, "{answer:?}");
        let collector = stack.function(FunctionName::SnapshotLogs);
        let is_of_it = |body: &Value| {
            let function = body["requestContext"]["functionArn"].as_str().unwrap_or_default();
            body["requestPayload"]["detail"]["incident_id"] == json!(id) && function.contains(&collector)
        };
        let failed = kept(aws, stack, is_of_it).await;
        assert_eq!(failed["requestContext"]["condition"], "RetriesExhausted");
    });
}

/// The message of the queue of failed invocations that is meant.
async fn kept(aws: &Aws, stack: &Stack, is_meant: impl Fn(&Value) -> bool) -> Value {
    let url = stack.output("FunctionFailuresUrl").unwrap();
    for _ in 0..20 {
        let receive = aws.sqs.receive_message().queue_url(url).wait_time_seconds(1).max_number_of_messages(10);
        let answer = receive.send().await.unwrap();
        let read = |message: &Message| serde_json::from_str::<Value>(message.body().unwrap()).unwrap();
        if let Some(found) = answer.messages().iter().map(read).find(&is_meant) {
            return found;
        }
    }
    panic!("the failed invocation does not arrive in the queue");
}

/// The functions between a finding and its page, and those that end or keep a containment.
const RESPONDERS: [FunctionName; 7] = [
    FunctionName::QuarantinePrincipal,
    FunctionName::RevokeSessions,
    FunctionName::IsolateFunction,
    FunctionName::PublishOutcomes,
    FunctionName::NotifyResponders,
    FunctionName::ReleaseContainment,
    FunctionName::GuardContainment,
];

#[test]
fn concurrency_is_kept_free_for_the_responders_where_it_is_asked_for_and_nowhere_else() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = theatre.aws.in_region("eu-north-1");
        let settings = common::settings();
        let url = deploy::upload(&aws, &settings.template, &settings.functions).await.unwrap();
        let parameters = [("HomeRegion", "this-region"), ("ResponderConcurrency", "3")];
        let reserving = deploy::create(&aws, &url, "firebreak-reserving", &parameters).await.unwrap();
        for &function in FunctionName::ALL {
            let of = async |aws: &Aws, stack: &Stack| {
                let get = aws.lambda.get_function_concurrency().function_name(stack.function(function));
                get.send().await.unwrap().reserved_concurrent_executions
            };
            assert_eq!(of(&theatre.aws, stack).await, None, "{function}");
            assert_eq!(of(&aws, &reserving).await, RESPONDERS.contains(&function).then_some(3), "{function}");
        }
    });
}

/// A call may take 20 seconds, all its attempts together; one that stalls must not be all that an invocation does. What
/// waits for another function, or for IAM, has time for that besides.
#[test]
fn every_function_has_time_for_several_calls_that_stall() {
    deployed(async |aws, stack| {
        for &function in FunctionName::ALL {
            let configuration = aws.lambda.get_function_configuration().function_name(stack.function(function));
            let timeout = configuration.send().await.unwrap().timeout().unwrap();
            let waits = match function {
                // For a revocation by another function, and until it has reached every Region.
                FunctionName::ReleaseContainment => 60 + 300,
                // While a containment is fought over.
                FunctionName::QuarantinePrincipal => 40,
                _ => 0,
            };
            assert!(timeout - waits >= 3 * 20, "{function}: {timeout} s");
        }
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

/// The other stack is given other values than the defaults, 90 days and governance, and than this one.
#[test]
fn how_and_for_how_long_evidence_is_locked_are_parameters() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.observing().await.unwrap();
        let aws = Aws::operator(&theatre.aws.endpoint, &stack.region);
        let lock = aws.s3.get_object_lock_configuration().bucket(stack.output("EvidenceBucketName").unwrap());
        let lock = lock.send().await.unwrap().object_lock_configuration.unwrap();
        let retention = lock.rule().unwrap().default_retention().unwrap();
        assert_eq!((retention.mode(), retention.days()), (Some(&ObjectLockRetentionMode::Compliance), Some(7)));
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
        assert_eq!(retention.mode(), Some(&ObjectLockRetentionMode::Governance));
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

/// The queue's own time to come again is what spaces the searches out; CloudTrail has an hour to be complete.
#[test]
fn a_search_comes_again_for_an_hour_and_is_then_kept() {
    deployed(async |aws, stack| {
        let url = stack.output("TraceQueueUrl").unwrap();
        let all = aws.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All).send().await;
        let attributes = all.unwrap().attributes.unwrap();
        let number = |name| attributes.get(&name).and_then(|text| text.parse::<u64>().ok()).unwrap();
        let redrive: Value = serde_json::from_str(&attributes[&QueueAttributeName::RedrivePolicy]).unwrap();
        let failures = queue_arn(aws, stack.output("TraceFailuresUrl").unwrap()).await.unwrap();
        assert_eq!(redrive["deadLetterTargetArn"], json!(failures));
        let times: u64 = redrive["maxReceiveCount"].to_string().trim_matches('"').parse().unwrap();
        let again = number(QueueAttributeName::VisibilityTimeout);
        assert_eq!(times * again, 3_600);
        let name = stack.function(FunctionName::RevokeSessions);
        let function = aws.lambda.get_function_configuration().function_name(&name).send().await.unwrap();
        assert!(u64::try_from(function.timeout().unwrap()).unwrap() < again, "one search at a time");
        let arn = queue_arn(aws, url).await.unwrap();
        let mappings = aws.lambda.list_event_source_mappings().function_name(&name).event_source_arn(arn).send().await;
        assert_eq!(mappings.unwrap().event_source_mappings().len(), 1);
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
