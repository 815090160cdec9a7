//! What is there and switched on, and is not what was deployed: no event is needed to see it.

use std::collections::HashMap;

use aws_sdk_eventbridge::types::{RetryPolicy, Target};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{Environment, Filter, FilterCriteria};
use aws_sdk_sqs::types::QueueAttributeName;
use firebreak_model::action::FunctionName;
use gameday::aws::Aws;
use gameday::deploy::Stack;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{common, is_whole, notices, queues_of};

/// A rule that hears nothing, or sends something else, is as good as disabled, and looks enabled.
pub(super) async fn deafened(aws: &Aws, stack: &Stack) {
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
        let (mut hollow, mut untried) = (targets[0].clone(), targets[0].clone());
        hollow.input = Some("{}".to_owned());
        untried.retry_policy = Some(RetryPolicy::builder().maximum_retry_attempts(0).build());
        for other in [hollow, untried] {
            put(other).await;
            notices(aws, stack, &format!("what the rule `{rule}` sends is not what was deployed")).await;
            put(targets[0].clone()).await;
            is_whole(aws, stack, "the target").await;
        }
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
pub(super) async fn changed(aws: &Aws, stack: &Stack) {
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

    let queues = queues_of(aws, stack).await;
    let (_, url, before) = queues.iter().find(|(name, ..)| name == "trace").unwrap();
    let kept = QueueAttributeName::MessageRetentionPeriod;
    let keep = async |seconds: &str| {
        aws.sqs.set_queue_attributes().queue_url(url).attributes(kept.clone(), seconds).send().await.unwrap();
    };
    keep("60").await;
    notices(aws, stack, "the configuration of the queue `trace` is not what was deployed").await;
    keep(&before[&kept]).await;
    is_whole(aws, stack, "what the queue keeps").await;

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

/// What the roles may do, who may use the keys, the table and the bus, and what becomes of an invocation that fails.
pub(super) async fn rights(aws: &Aws, stack: &Stack) {
    let role = stack.function(FunctionName::QuarantinePrincipal);
    let iam = &aws.iam;
    let open = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]});
    let rights = "what the role of `quarantine-principal` may do is not what was deployed";
    iam.put_role_policy().role_name(&role).policy_name("mine").policy_document(open.to_string()).send().await.unwrap();
    notices(aws, stack, rights).await;
    iam.delete_role_policy().role_name(&role).policy_name("mine").send().await.unwrap();
    is_whole(aws, stack, "the role's policy").await;
    let arn = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    iam.attach_role_policy().role_name(&role).policy_arn(arn).send().await.unwrap();
    notices(aws, stack, rights).await;
    iam.detach_role_policy().role_name(&role).policy_arn(arn).send().await.unwrap();
    is_whole(aws, stack, "what was attached").await;
    iam.put_role_permissions_boundary().role_name(&role).permissions_boundary(arn).send().await.unwrap();
    notices(aws, stack, rights).await;
    iam.delete_role_permissions_boundary().role_name(&role).send().await.unwrap();
    is_whole(aws, stack, "the boundary").await;
    let read = iam.get_role().role_name(&role).send().await.unwrap().role.unwrap();
    let before = percent_decode_str(read.assume_role_policy_document().unwrap()).decode_utf8().unwrap().into_owned();
    let trust = async |document: String| {
        iam.update_assume_role_policy().role_name(&role).policy_document(document).send().await.unwrap();
    };
    let mut wide: Value = serde_json::from_str(&before).unwrap();
    wide["Statement"][0]["Principal"]["AWS"] = json!("444455556666");
    trust(wide.to_string()).await;
    notices(aws, stack, "the trust of the role of `quarantine-principal` is not what was deployed").await;
    trust(before).await;
    is_whole(aws, stack, "the trust").await;

    for (output, what) in [
        ("KeyArn", "the policy of the key of evidence and pages is not what was deployed"),
        ("SealKeyArn", "the policy of the key of the ledger's seals is not what was deployed"),
        ("EvidenceSigningKeyArn", "the policy of the key that signs evidence is not what was deployed"),
    ] {
        let arn = stack.output(output).unwrap();
        let read = aws.kms.get_key_policy().key_id(arn).policy_name("default").send().await.unwrap();
        let before = read.policy.unwrap();
        let put = async |text: String| {
            aws.kms.put_key_policy().key_id(arn).policy_name("default").policy(text).send().await.unwrap();
        };
        put(with_a_stranger(&before, "kms:*")).await;
        notices(aws, stack, what).await;
        put(before).await;
        is_whole(aws, stack, what).await;
    }

    let table = aws.dynamodb.describe_table().table_name(stack.output("LedgerTableName").unwrap()).send().await;
    let arn = table.unwrap().table.unwrap().table_arn.unwrap();
    let read = aws.dynamodb.get_resource_policy().resource_arn(&arn).send().await.unwrap();
    let before = read.policy.unwrap();
    let put = async |text: String| {
        aws.dynamodb.put_resource_policy().resource_arn(&arn).policy(text).send().await.unwrap();
    };
    aws.dynamodb.delete_resource_policy().resource_arn(&arn).send().await.unwrap();
    notices(aws, stack, "the policy of the ledger is not what was deployed").await;
    put(with_a_stranger(&before, "dynamodb:GetItem")).await;
    notices(aws, stack, "the policy of the ledger is not what was deployed").await;
    put(before).await;
    is_whole(aws, stack, "the ledger's policy").await;

    let table = aws.dynamodb.describe_table().table_name(stack.output("LedgerTableName").unwrap()).send().await;
    let stream = table.unwrap().table.unwrap().latest_stream_arn.unwrap();
    let deaf = json!({"Version": "2012-10-17", "Statement": [{"Sid": "mine", "Effect": "Deny", "Principal": "*",
        "Action": "dynamodb:GetRecords", "Resource": "*"}]});
    aws.dynamodb.put_resource_policy().resource_arn(&stream).policy(deaf.to_string()).send().await.unwrap();
    notices(aws, stack, "the policy of the ledger's stream is not what was deployed").await;
    aws.dynamodb.delete_resource_policy().resource_arn(&stream).send().await.unwrap();
    is_whole(aws, stack, "the stream's policy").await;

    let bus = stack.output("OutcomeBusName").unwrap();
    let permit = aws.events.put_permission().event_bus_name(bus).statement_id("mine").principal("444455556666");
    permit.action("events:PutEvents").send().await.unwrap();
    notices(aws, stack, "the policy of the bus is not what was deployed").await;
    aws.events.remove_permission().event_bus_name(bus).statement_id("mine").send().await.unwrap();
    is_whole(aws, stack, "the bus's policy").await;

    let read =
        aws.lambda.get_function_event_invoke_config().function_name(&role).qualifier("$LATEST").send().await.unwrap();
    let put = aws.lambda.put_function_event_invoke_config().function_name(&role).qualifier("$LATEST");
    put.maximum_retry_attempts(0).send().await.unwrap();
    let what = "what becomes of an invocation of `quarantine-principal` that fails is not what was deployed";
    notices(aws, stack, what).await;
    let put = aws.lambda.put_function_event_invoke_config().function_name(&role).qualifier("$LATEST");
    let put = put.set_maximum_retry_attempts(read.maximum_retry_attempts);
    let put = put.set_maximum_event_age_in_seconds(read.maximum_event_age_in_seconds);
    put.set_destination_config(read.destination_config).send().await.unwrap();
    is_whole(aws, stack, what).await;
}

/// A policy with a statement more, which lets another account in.
fn with_a_stranger(policy: &str, action: &str) -> String {
    let mut policy: Value = serde_json::from_str(policy).unwrap();
    let more = json!({"Sid": "mine", "Effect": "Allow", "Action": action, "Resource": "*",
        "Principal": {"AWS": "arn:aws:iam::444455556666:root"}});
    policy["Statement"].as_array_mut().unwrap().push(more);
    policy.to_string()
}
