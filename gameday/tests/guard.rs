//! Firebreak's own parts, each taken away in turn: the guard's sweep notices, and notices when it is back.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashMap;

use aws_sdk_eventbridge::types::Target;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{Environment, Filter, FilterCriteria};
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

async fn rules(aws: &Aws, stack: &Stack) {
    let bus = stack.output("OutcomeBusName").unwrap();
    for rule in ["trace", "assess-identities", "drill-findings", "expire-revocations"] {
        let on_bus = (rule == "trace").then(|| bus.to_owned());
        let name = format!("{}-{rule}", stack.name);
        aws.events.disable_rule().name(&name).set_event_bus_name(on_bus.clone()).send().await.unwrap();
        notices(aws, stack, &format!("the rule `{rule}` is not enabled")).await;
        aws.events.enable_rule().name(&name).set_event_bus_name(on_bus).send().await.unwrap();
    }
    is_whole(aws, stack, "those rules").await;
    let findings = format!("{}-findings", stack.name);
    aws.events.disable_rule().name(&findings).send().await.unwrap();
    notices(aws, stack, "the rule `findings` is not enabled").await;
    aws.events.enable_rule().name(&findings).send().await.unwrap();
    is_whole(aws, stack, "the rule").await;

    let isolate = format!("{}-isolate", stack.name);
    let targets = aws.events.list_targets_by_rule().rule(&isolate).event_bus_name(bus).send().await.unwrap();
    let targets = targets.targets().to_vec();
    let remove = aws.events.remove_targets().rule(&isolate).event_bus_name(bus);
    remove.ids(targets[0].id()).send().await.unwrap();
    notices(aws, stack, "the rule `isolate` has lost its target").await;
    let put = aws.events.put_targets().rule(&isolate).event_bus_name(bus);
    put.set_targets(Some(targets)).send().await.unwrap();
    is_whole(aws, stack, "the target").await;
}

async fn permission(aws: &Aws, stack: &Stack) {
    let function = stack.function(FunctionName::NotifyResponders);
    let policy = aws.lambda.get_policy().function_name(&function).send().await.unwrap();
    let policy: Value = serde_json::from_str(policy.policy().unwrap()).unwrap();
    let statement = &policy["Statement"][0];
    let (sid, source) =
        (statement["Sid"].as_str().unwrap(), statement["Condition"]["ArnLike"]["AWS:SourceArn"].as_str().unwrap());
    aws.lambda.remove_permission().function_name(&function).statement_id(sid).send().await.unwrap();
    notices(aws, stack, "the rule `notify` may not invoke `notify-responders`").await;
    let add = aws.lambda.add_permission().function_name(&function).statement_id(sid).action("lambda:InvokeFunction");
    add.principal("events.amazonaws.com").source_arn(source).send().await.unwrap();
    is_whole(aws, stack, "the permission").await;
}

async fn functions(aws: &Aws, stack: &Stack) {
    let function = stack.function(FunctionName::QuarantinePrincipal);
    let zero = aws.lambda.put_function_concurrency().function_name(&function);
    zero.reserved_concurrent_executions(0).send().await.unwrap();
    notices(aws, stack, "the function `quarantine-principal` has concurrency 0").await;
    aws.lambda.delete_function_concurrency().function_name(&function).send().await.unwrap();
    is_whole(aws, stack, "the concurrency").await;

    for polls in [FunctionName::PublishOutcomes, FunctionName::RevokeSessions, FunctionName::SnapshotLogs] {
        let mappings =
            aws.lambda.list_event_source_mappings().function_name(stack.function(polls)).send().await.unwrap();
        let uuid = mappings.event_source_mappings()[0].uuid().unwrap();
        aws.lambda.update_event_source_mapping().uuid(uuid).enabled(false).send().await.unwrap();
        notices(aws, stack, &format!("the event source of `{polls}` is off")).await;
        aws.lambda.update_event_source_mapping().uuid(uuid).enabled(true).send().await.unwrap();
        is_whole(aws, stack, "the event source").await;
    }
}

async fn deny_policy(aws: &Aws, stack: &Stack) {
    let deny = stack.output("DenyPolicyArn").unwrap();
    let weak = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]});
    let create = aws.iam.create_policy_version().policy_arn(deny).policy_document(weak.to_string());
    let version = create.set_as_default(true).send().await.unwrap();
    let version = version.policy_version().unwrap().version_id().unwrap().to_owned();
    notices(aws, stack, "the deny policy does not deny everything any more").await;
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

async fn queues(aws: &Aws, stack: &Stack) {
    for (queue, attribute, what) in [
        ("recheck", QueueAttributeName::RedrivePolicy, "what fails in the queue `recheck` goes nowhere"),
        ("recheck", QueueAttributeName::Policy, "the queue `recheck` does not let the rule `watch` in"),
        ("evidence", QueueAttributeName::RedrivePolicy, "what fails in the queue `evidence` goes nowhere"),
        ("trace", QueueAttributeName::Policy, "the queue `trace` does not let the rule `trace` in"),
        ("delivery-failures", QueueAttributeName::Policy, "what the rule `findings` cannot deliver is lost"),
    ] {
        let named = aws.sqs.get_queue_url().queue_name(format!("{}-{queue}", stack.name)).send().await.unwrap();
        let url = named.queue_url().unwrap();
        let read =
            aws.sqs.get_queue_attributes().queue_url(url).attribute_names(attribute.clone()).send().await.unwrap();
        let before = read.attributes().unwrap()[&attribute].clone();
        let set =
            |value: &str| aws.sqs.set_queue_attributes().queue_url(url).attributes(attribute.clone(), value).send();
        set("").await.unwrap();
        notices(aws, stack, what).await;
        set(&before).await.unwrap();
        is_whole(aws, stack, &format!("`{queue}`")).await;
    }
}

async fn keys(aws: &Aws, stack: &Stack) {
    for (output, what) in [
        ("KeyArn", "the key of evidence and pages is `Disabled`"),
        ("SealKeyArn", "the key of the ledger's seals is `Disabled`"),
    ] {
        let arn = stack.output(output).unwrap();
        aws.kms.disable_key().key_id(arn).send().await.unwrap();
        notices(aws, stack, what).await;
        aws.kms.enable_key().key_id(arn).send().await.unwrap();
        is_whole(aws, stack, what).await;
    }
}

/// A rule that hears nothing, or sends something else, is as good as disabled, and looks enabled.
async fn deafened(aws: &Aws, stack: &Stack) {
    let bus = stack.output("OutcomeBusName").unwrap();
    for (rule, on_bus) in [("changes", false), ("findings", false), ("isolate", true)] {
        let name = format!("{}-{rule}", stack.name);
        let bus = on_bus.then(|| bus.to_owned());
        let read = aws.events.describe_rule().name(&name).set_event_bus_name(bus.clone()).send().await.unwrap();
        let put = |pattern: &str| {
            let put = aws.events.put_rule().name(&name).set_event_bus_name(bus.clone()).event_pattern(pattern);
            put.set_state(read.state().cloned()).set_description(read.description().map(str::to_owned))
        };
        put(r#"{"source": ["nobody"]}"#).send().await.unwrap();
        notices(aws, stack, &format!("what the rule `{rule}` listens for is not what was deployed")).await;
        put(read.event_pattern().unwrap()).send().await.unwrap();
        is_whole(aws, stack, "the pattern").await;

        let list = aws.events.list_targets_by_rule().rule(&name).set_event_bus_name(bus.clone());
        let targets = list.send().await.unwrap().targets().to_vec();
        let put = async |target: Target| {
            let put = aws.events.put_targets().rule(&name).set_event_bus_name(bus.clone()).targets(target);
            put.send().await.unwrap();
        };
        let mut other = targets[0].clone();
        other.input = Some("{}".to_owned());
        put(other).await;
        notices(aws, stack, &format!("what the rule `{rule}` sends is not what was deployed")).await;
        put(targets[0].clone()).await;
        is_whole(aws, stack, "the target").await;
    }
    let polls = stack.function(FunctionName::IsolateFunction);
    let mappings = aws.lambda.list_event_source_mappings().function_name(polls).send().await.unwrap();
    let uuid = mappings.event_source_mappings()[0].uuid().unwrap().to_owned();
    let filtered =
        |filters: FilterCriteria| aws.lambda.update_event_source_mapping().uuid(&uuid).filter_criteria(filters);
    let nothing = Filter::builder().pattern(r#"{"body": ["nothing"]}"#).build();
    filtered(FilterCriteria::builder().filters(nothing).build()).send().await.unwrap();
    notices(aws, stack, "what wakes the function `isolate-function` is not what was deployed").await;
    filtered(FilterCriteria::builder().set_filters(Some(Vec::new())).build()).send().await.unwrap();
    is_whole(aws, stack, "the filter").await;
}

/// No event is needed to see what was changed: each is other than it was at the first look after the deployment.
async fn changed(aws: &Aws, stack: &Stack) {
    let function = stack.function(FunctionName::QuarantinePrincipal);
    let read = aws.lambda.get_function_configuration().function_name(&function).send().await.unwrap();
    let deployed = read.environment.and_then(|environment| environment.variables).unwrap();
    let set = async |variables: HashMap<String, String>| {
        let environment = Environment::builder().set_variables(Some(variables)).build();
        let update = aws.lambda.update_function_configuration().function_name(&function);
        update.environment(environment).send().await.unwrap();
    };
    let mut weak = deployed.clone();
    weak.insert("FIREBREAK_MODE".to_owned(), "observe".to_owned());
    set(weak).await;
    notices(aws, stack, "the environment of the function `quarantine-principal` is not what was deployed").await;
    set(deployed).await;
    is_whole(aws, stack, "the environment").await;

    let release = stack.function(FunctionName::ReleaseContainment);
    let add = aws.lambda.add_permission().function_name(&release).statement_id("mine").action("lambda:InvokeFunction");
    add.principal("444455556666").send().await.unwrap();
    notices(aws, stack, "the policy of the function `release-containment` is not what was deployed").await;
    aws.lambda.remove_permission().function_name(&release).statement_id("mine").send().await.unwrap();
    is_whole(aws, stack, "that statement").await;

    let assess = stack.function(FunctionName::AssessIdentities);
    let put = async |program: &str| {
        let archive = std::fs::read(common::settings().functions.join(format!("{program}.zip"))).unwrap();
        aws.lambda.update_function_code().function_name(&assess).zip_file(Blob::new(archive)).send().await.unwrap();
    };
    put("publish-outcomes").await;
    notices(aws, stack, "the code of the function `assess-identities` is not what was deployed").await;
    put("assess-identities").await;
    is_whole(aws, stack, "the code").await;

    let topic = stack.output("PagesTopicArn").unwrap();
    let read = aws.sns.get_topic_attributes().topic_arn(topic).send().await.unwrap();
    let before = read.attributes.and_then(|all| all.get("Policy").cloned()).unwrap();
    let mut policy: Value = serde_json::from_str(&before).unwrap();
    policy["Statement"].as_array_mut().unwrap().push(json!({"Sid": "mine", "Effect": "Allow", "Action": "sns:Publish",
        "Principal": {"AWS": "444455556666"}, "Resource": topic}));
    let set =
        |text: String| aws.sns.set_topic_attributes().topic_arn(topic).attribute_name("Policy").attribute_value(text);
    set(policy.to_string()).send().await.unwrap();
    notices(aws, stack, "the policy of the topic of pages is not what was deployed").await;
    set(before).send().await.unwrap();
    is_whole(aws, stack, "the topic's policy").await;
}

#[test]
fn each_part_of_firebreak_that_is_taken_away_is_noticed() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        is_whole(aws, stack, "the beginning").await;
        rules(aws, stack).await;
        permission(aws, stack).await;
        functions(aws, stack).await;
        deny_policy(aws, stack).await;
        topic_table_and_trail(aws, stack).await;
        queues(aws, stack).await;
        keys(aws, stack).await;
        changed(aws, stack).await;
        deafened(aws, stack).await;
    });
}
