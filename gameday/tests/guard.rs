//! Firebreak's own parts, each taken away: the guard's sweep notices, by name, and notices when it is back. What there is
//! to take away is asked of AWS, not of the guard: a part that the guard does not know stands out. Parts of one kind are
//! taken away together, for each is named by itself.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "guard/changed.rs"]
mod changed;
mod common;

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_sqs::types::QueueAttributeName;
use firebreak_model::action::FunctionName;
use gameday::aws::Aws;
use gameday::deploy::Stack;
use gameday::theatre::TRAIL;
use serde_json::{Value, json};

/// What the guard's sweep says.
async fn swept(aws: &Aws, stack: &Stack) -> String {
    let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event"}).to_string();
    let invoke = aws.lambda.invoke().function_name(stack.function(FunctionName::GuardContainment));
    let answer = invoke.payload(Blob::new(tick)).send().await.unwrap();
    let payload = answer.payload().map(|p| p.as_ref().to_vec()).unwrap_or_default();
    let answer: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(answer["outcome"], "swept", "{answer}");
    answer["message"].as_str().unwrap().to_owned()
}

const WHOLE: &str = "all parts are there";

/// Something was taken away: it is noticed.
async fn notices(aws: &Aws, stack: &Stack, what: &str) {
    let said = swept(aws, stack).await;
    assert!(said.contains(what), "`{what}` is not noticed: {said}");
}

/// It is back: nothing is missing.
async fn is_whole(aws: &Aws, stack: &Stack, after: &str) {
    let said = swept(aws, stack).await;
    assert!(said.contains(WHOLE), "after {after}: {said}");
}

/// Every rule of the stack: its name as the guard says it, its name in AWS, and its bus where that is our own.
async fn rules_of(aws: &Aws, stack: &Stack) -> Vec<(String, String, Option<String>)> {
    let prefix = format!("{}-", stack.name);
    let mut found = Vec::new();
    for bus in [None, Some(stack.output("OutcomeBusName").unwrap().to_owned())] {
        let list = aws.events.list_rules().name_prefix(&prefix).set_event_bus_name(bus.clone()).send().await.unwrap();
        for rule in list.rules() {
            let name = rule.name().unwrap().to_owned();
            found.push((name.strip_prefix(&prefix).unwrap().to_owned(), name, bus.clone()));
        }
    }
    // All that the template has, but for those of other Regions: one that the guard does not know would stand out.
    let template = std::fs::read_to_string(common::settings().template).unwrap();
    let count = |text: &str| template.matches(&format!("Type: AWS::Events::Rule\n{text}")).count();
    assert_eq!(found.len(), count("") - count("    Condition: IsAway\n"), "{found:?}");
    found
}

async fn rules(aws: &Aws, stack: &Stack) {
    let rules = rules_of(aws, stack).await;
    for (_, full, bus) in &rules {
        aws.events.disable_rule().name(full).set_event_bus_name(bus.clone()).send().await.unwrap();
    }
    let said = swept(aws, stack).await;
    for (name, ..) in &rules {
        assert!(said.contains(&format!("the rule `{name}` is not enabled")), "`{name}` is not missed: {said}");
    }
    for (_, full, bus) in &rules {
        aws.events.enable_rule().name(full).set_event_bus_name(bus.clone()).send().await.unwrap();
    }
    is_whole(aws, stack, "the rules").await;

    let mut taken = Vec::new();
    for (_, full, bus) in &rules {
        let list = aws.events.list_targets_by_rule().rule(full).set_event_bus_name(bus.clone());
        let targets = list.send().await.unwrap().targets.unwrap_or_default();
        assert!(!targets.is_empty(), "`{full}` leads nowhere");
        let remove = aws.events.remove_targets().rule(full).set_event_bus_name(bus.clone());
        let ids = targets.iter().map(|target| target.id().to_owned()).collect();
        remove.set_ids(Some(ids)).send().await.unwrap();
        taken.push(targets);
    }
    let said = swept(aws, stack).await;
    for (name, ..) in &rules {
        assert!(said.contains(&format!("the rule `{name}` has lost its target")), "`{name}` is not missed: {said}");
    }
    for ((_, full, bus), targets) in rules.iter().zip(taken) {
        let put = aws.events.put_targets().rule(full).set_event_bus_name(bus.clone());
        put.set_targets(Some(targets)).send().await.unwrap();
    }
    is_whole(aws, stack, "the targets").await;
}

async fn permissions(aws: &Aws, stack: &Stack) {
    let prefix = format!("{}-", stack.name);
    let mut taken = Vec::new();
    for name in FunctionName::ALL {
        let function = stack.function(*name);
        // Who is only asked, or only polls, admits nobody.
        let Ok(policy) = aws.lambda.get_policy().function_name(&function).send().await else { continue };
        let policy: Value = serde_json::from_str(policy.policy().unwrap()).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            let text = |path: &str| statement.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            if text("/Principal/Service") != "events.amazonaws.com" {
                continue;
            }
            let (sid, source) = (text("/Sid"), text("/Condition/ArnLike/AWS:SourceArn"));
            aws.lambda.remove_permission().function_name(&function).statement_id(&sid).send().await.unwrap();
            let rule = source.rsplit('/').next().unwrap().strip_prefix(&prefix).unwrap().to_owned();
            taken.push((*name, sid, source, rule));
        }
    }
    assert!(taken.len() >= 10, "{taken:?}");
    let said = swept(aws, stack).await;
    for (function, _, _, rule) in &taken {
        let missing = format!("the rule `{rule}` may not invoke `{function}`");
        assert!(said.contains(&missing), "`{missing}` is not said: {said}");
    }
    for (function, sid, source, _) in taken {
        let add = aws.lambda.add_permission().function_name(stack.function(function)).statement_id(sid);
        let add = add.action("lambda:InvokeFunction").principal("events.amazonaws.com").source_arn(source);
        add.send().await.unwrap();
    }
    is_whole(aws, stack, "the permissions").await;
}

/// Sets a function's reserved concurrency; none where there was none.
async fn reserve(aws: &Aws, function: &str, concurrency: Option<i32>) {
    match concurrency {
        Some(reserved) => {
            let put = aws.lambda.put_function_concurrency().function_name(function);
            put.reserved_concurrent_executions(reserved).send().await.unwrap();
        }
        None => {
            aws.lambda.delete_function_concurrency().function_name(function).send().await.unwrap();
        }
    }
}

/// All functions but the guard itself, which is what looks.
fn others() -> impl Iterator<Item = FunctionName> {
    FunctionName::ALL.iter().copied().filter(|name| *name != FunctionName::GuardContainment)
}

async fn functions(aws: &Aws, stack: &Stack) {
    let mut before = Vec::new();
    for name in FunctionName::ALL {
        let read = aws.lambda.get_function_concurrency().function_name(stack.function(*name)).send().await.unwrap();
        before.push((*name, read.reserved_concurrent_executions()));
    }
    for name in others() {
        reserve(aws, &stack.function(name), Some(0)).await;
    }
    let said = swept(aws, stack).await;
    for name in others() {
        assert!(said.contains(&format!("the function `{name}` has concurrency 0")), "`{name}` is not missed: {said}");
    }
    // A guard that is stopped says nothing, and its heartbeat stops: that is an alarm.
    let guard = stack.function(FunctionName::GuardContainment);
    reserve(aws, &guard, Some(0)).await;
    assert!(aws.lambda.invoke().function_name(&guard).send().await.is_err(), "the guard runs at concurrency 0");
    for (name, concurrency) in before {
        reserve(aws, &stack.function(name), concurrency).await;
    }
    is_whole(aws, stack, "the concurrency").await;

    let role = |name: FunctionName| {
        let account = gameday::aws::ACCOUNT;
        format!("arn:aws:iam::{account}:role/firebreak/{}", stack.function(name))
    };
    for name in others() {
        let foreign = if name == FunctionName::NotifyResponders {
            FunctionName::SnapshotLogs
        } else {
            FunctionName::NotifyResponders
        };
        let update = aws.lambda.update_function_configuration().function_name(stack.function(name));
        update.role(role(foreign)).send().await.unwrap();
    }
    let said = swept(aws, stack).await;
    for name in others() {
        assert!(
            said.contains(&format!("the function `{name}` runs as another role")),
            "`{name}` is not missed: {said}"
        );
    }
    for name in others() {
        let function = stack.function(name);
        gameday::scene::until_updated(aws, &function).await.unwrap();
        let update = aws.lambda.update_function_configuration().function_name(&function);
        update.role(role(name)).send().await.unwrap();
        gameday::scene::until_updated(aws, &function).await.unwrap();
    }
    is_whole(aws, stack, "the roles").await;
}

/// Each of a function's event sources by itself: one that is on does not hide another that is off.
async fn event_sources(aws: &Aws, stack: &Stack) {
    let mut sources = Vec::new();
    for name in FunctionName::ALL {
        let list = aws.lambda.list_event_source_mappings().function_name(stack.function(*name));
        let found = list.send().await.unwrap().event_source_mappings.unwrap_or_default();
        sources.push((*name, found.iter().map(|source| source.uuid().unwrap().to_owned()).collect::<Vec<_>>()));
    }
    let most = sources.iter().map(|(_, uuids)| uuids.len()).max().unwrap();
    assert!(most > 0 && sources.iter().filter(|(_, uuids)| !uuids.is_empty()).count() >= 5, "{sources:?}");
    for number in 0..most {
        let these = || sources.iter().filter_map(|(name, uuids)| Some((*name, uuids.get(number)?)));
        for (_, uuid) in these() {
            aws.lambda.update_event_source_mapping().uuid(uuid).enabled(false).send().await.unwrap();
        }
        let said = swept(aws, stack).await;
        for (name, _) in these() {
            assert!(said.contains(&format!("the event source of `{name}` is off")), "`{name}` is not missed: {said}");
        }
        for (_, uuid) in these() {
            aws.lambda.update_event_source_mapping().uuid(uuid).enabled(true).send().await.unwrap();
        }
        is_whole(aws, stack, "the event sources").await;
    }
}

async fn deny_policy(aws: &Aws, stack: &Stack) {
    let deny = stack.output("DenyPolicyArn").unwrap();
    let weak = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]});
    let create = aws.iam.create_policy_version().policy_arn(deny).policy_document(weak.to_string());
    let version = create.set_as_default(true).send().await.unwrap();
    let version = version.policy_version().unwrap().version_id().unwrap().to_owned();
    notices(aws, stack, "somebody changed the deny policy").await;
    let whole = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]});
    let create = aws.iam.create_policy_version().policy_arn(deny).policy_document(whole.to_string());
    create.set_as_default(true).send().await.unwrap();
    aws.iam.delete_policy_version().policy_arn(deny).version_id(version).send().await.unwrap();
    is_whole(aws, stack, "the deny policy").await;
}

async fn topic_table_and_trail(aws: &Aws, stack: &Stack) {
    let topic = stack.output("PagesTopicArn").unwrap();
    let subscriptions = aws.sns.list_subscriptions_by_topic().topic_arn(topic).send().await.unwrap();
    let subscription = subscriptions.subscriptions()[0].clone();
    aws.sns.unsubscribe().subscription_arn(subscription.subscription_arn().unwrap()).send().await.unwrap();
    notices(aws, stack, "nobody is subscribed to the pages").await;
    let again = aws.sns.subscribe().topic_arn(topic).protocol(subscription.protocol().unwrap());
    again.endpoint(subscription.endpoint().unwrap()).send().await.unwrap();
    is_whole(aws, stack, "the subscription").await;

    let table = stack.output("LedgerTableName").unwrap();
    aws.dynamodb.update_table().table_name(table).deletion_protection_enabled(false).send().await.unwrap();
    notices(aws, stack, "the ledger may be deleted").await;
    aws.dynamodb.update_table().table_name(table).deletion_protection_enabled(true).send().await.unwrap();
    is_whole(aws, stack, "the ledger").await;

    aws.cloudtrail.stop_logging().name(TRAIL).send().await.unwrap();
    notices(aws, stack, "no trail is logging").await;
    aws.cloudtrail.start_logging().name(TRAIL).send().await.unwrap();
    is_whole(aws, stack, "the trail").await;
}

/// The stack's queues: name as the guard says it, URL, and attributes.
async fn queues_of(aws: &Aws, stack: &Stack) -> Vec<(String, String, HashMap<QueueAttributeName, String>)> {
    let prefix = format!("{}-", stack.name);
    let list = aws.sqs.list_queues().queue_name_prefix(&prefix).send().await.unwrap();
    let mut queues = Vec::new();
    for url in list.queue_urls() {
        let name = url.rsplit('/').next().unwrap().strip_prefix(&prefix).unwrap().to_owned();
        let read = aws.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
        queues.push((name, url.clone(), read.send().await.unwrap().attributes.unwrap_or_default()));
    }
    queues
}

/// The rules of ours that a queue's policy lets in.
fn let_in(policy: &str, stack: &Stack) -> Vec<String> {
    let policy: Value = serde_json::from_str(policy).unwrap();
    let mut rules = Vec::new();
    for statement in policy["Statement"].as_array().unwrap() {
        let sources = &statement["Condition"]["ArnEquals"]["aws:SourceArn"];
        let sources = sources.as_array().cloned().unwrap_or_else(|| vec![sources.clone()]);
        let names = sources.iter().filter_map(Value::as_str).filter_map(|arn| arn.rsplit('/').next());
        rules.extend(names.filter_map(|name| name.strip_prefix(&format!("{}-", stack.name))).map(str::to_owned));
    }
    rules
}

async fn queues(aws: &Aws, stack: &Stack) {
    let queues = queues_of(aws, stack).await;
    for (attribute, at_least) in [(QueueAttributeName::RedrivePolicy, 4), (QueueAttributeName::Policy, 15)] {
        let mut missing = Vec::new();
        for (name, url, before) in &queues {
            let Some(value) = before.get(&attribute).filter(|value| !value.is_empty()) else { continue };
            if attribute == QueueAttributeName::RedrivePolicy {
                missing.push(format!("what fails in the queue `{name}` goes nowhere"));
            } else {
                missing.extend(let_in(value, stack).into_iter().map(|rule| match name.as_str() {
                    "delivery-failures" => format!("what the rule `{rule}` cannot deliver is lost"),
                    _ => format!("the queue `{name}` does not let the rule `{rule}` in"),
                }));
            }
            let set = aws.sqs.set_queue_attributes().queue_url(url);
            set.attributes(attribute.clone(), "").send().await.unwrap();
        }
        assert!(missing.len() >= at_least, "{missing:?}");
        let said = swept(aws, stack).await;
        for one in &missing {
            assert!(said.contains(one), "`{one}` is not said: {said}");
        }
        for (_, url, before) in &queues {
            if let Some(value) = before.get(&attribute).filter(|value| !value.is_empty()) {
                let set = aws.sqs.set_queue_attributes().queue_url(url);
                set.attributes(attribute.clone(), value).send().await.unwrap();
            }
        }
        is_whole(aws, stack, "the queues").await;
    }

    // Nothing polls the queues of what failed: they can be made again as they were.
    let failures: Vec<_> = queues.iter().filter(|(name, ..)| name.ends_with("-failures")).collect();
    assert!(failures.len() >= 6, "{failures:?}");
    for (_, url, _) in &failures {
        aws.sqs.delete_queue().queue_url(url).send().await.unwrap();
    }
    let said = swept(aws, stack).await;
    for (name, ..) in &failures {
        assert!(said.contains(&format!("the queue `{name}` does not exist")), "`{name}` is not missed: {said}");
    }
    for (_, url, before) in &failures {
        let create = aws.sqs.create_queue().queue_name(url.rsplit('/').next().unwrap());
        create.send().await.unwrap();
        for attribute in [
            QueueAttributeName::DelaySeconds,
            QueueAttributeName::KmsMasterKeyId,
            QueueAttributeName::MessageRetentionPeriod,
            QueueAttributeName::Policy,
            QueueAttributeName::VisibilityTimeout,
        ] {
            if let Some(value) = before.get(&attribute).filter(|value| !value.is_empty()) {
                let set = aws.sqs.set_queue_attributes().queue_url(url);
                set.attributes(attribute, value).send().await.unwrap();
            }
        }
    }
    is_whole(aws, stack, "the queues of failures").await;
}

async fn keys(aws: &Aws, stack: &Stack) {
    for (output, what) in [
        ("KeyArn", "the key of evidence and pages is `Disabled`"),
        ("SealKeyArn", "the key of the ledger's seals is `Disabled`"),
        ("EvidenceSigningKeyArn", "the key that signs evidence is `Disabled`"),
    ] {
        let arn = stack.output(output).unwrap();
        aws.kms.disable_key().key_id(arn).send().await.unwrap();
        notices(aws, stack, what).await;
        aws.kms.enable_key().key_id(arn).send().await.unwrap();
        is_whole(aws, stack, what).await;
    }
}

/// The last: a stream that is enabled again is another one, which nobody reads.
async fn stream(aws: &Aws, stack: &Stack) {
    let off = StreamSpecification::builder().stream_enabled(false).build().unwrap();
    let update = aws.dynamodb.update_table().table_name(stack.output("LedgerTableName").unwrap());
    update.stream_specification(off).send().await.unwrap();
    notices(aws, stack, "the ledger has no stream").await;
    let on = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    let update = aws.dynamodb.update_table().table_name(stack.output("LedgerTableName").unwrap());
    update.stream_specification(on.build().unwrap()).send().await.unwrap();
    notices(aws, stack, "nobody reads the ledger's stream").await;
}

#[test]
fn each_part_of_firebreak_that_is_taken_away_is_noticed() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        // Two looks say what was deployed.
        is_whole(aws, stack, "the deployment").await;
        is_whole(aws, stack, "the beginning").await;
        rules(aws, stack).await;
        permissions(aws, stack).await;
        functions(aws, stack).await;
        event_sources(aws, stack).await;
        deny_policy(aws, stack).await;
        topic_table_and_trail(aws, stack).await;
        queues(aws, stack).await;
        keys(aws, stack).await;
        changed::changed(aws, stack).await;
        changed::deafened(aws, stack).await;
        changed::rights(aws, stack).await;
        stream(aws, stack).await;
    });
}
