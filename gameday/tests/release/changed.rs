//! What someone changed while it was contained: left alone thing by thing, and told; all else is as before.

use aws_sdk_lambda::types::{DeadLetterConfig, DestinationConfig, FunctionUrlAuthType, OnFailure};
use gameday::acts::REVOCATION;
use gameday::pages::queue_arn;
use gameday::scene::{User, Victim, random_hex};
use serde_json::json;

use crate::house::{House, in_the_house};

impl House<'_> {
    async fn queue(&self, name: &str) -> String {
        let made = self.aws.sqs.create_queue().queue_name(name).send().await.unwrap();
        queue_arn(self.aws, made.queue_url().unwrap()).await.unwrap()
    }

    async fn until_settled(&self, function: &str) {
        for _ in 0..100 {
            let now = self.aws.lambda.get_function_configuration().function_name(function).send().await.unwrap();
            if now.last_update_status.is_none_or(|status| status.as_str() != "InProgress") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("`{function}` is not settled");
    }
}

#[test]
fn what_someone_changed_of_a_function_is_left_alone_thing_by_thing() {
    in_the_house(async |house| {
        house.without_the_guard().await;
        let (aws, lambda, suffix) = (house.aws, &house.aws.lambda, random_hex(6));
        let victim = Victim::set_up(aws, &suffix, "").await.unwrap();
        let (id, function) = (victim.role.incident().unwrap(), &victim.function);
        // Beside what a victim has: a second statement and a second source, which nobody will touch, and a dead-letter queue.
        let second = lambda.add_permission().function_name(function).statement_id("everyone-else").principal("*");
        let second = second.action("lambda:InvokeFunctionUrl").function_url_auth_type(FunctionUrlAuthType::None);
        second.send().await.unwrap();
        let source = house.queue(&format!("second-{suffix}")).await;
        lambda.create_event_source_mapping().function_name(function).event_source_arn(source).send().await.unwrap();
        let dead = DeadLetterConfig::builder().target_arn(house.queue(&format!("dead-{suffix}")).await).build();
        lambda.update_function_configuration().function_name(function).dead_letter_config(dead).send().await.unwrap();
        house.until_settled(function).await;
        let before = house.look().await;
        let request = json!({"role": victim.role.name, "functions": [victim.function_arn]});
        house.contain_wholly(&id, request).await.unwrap();

        let put = lambda.put_function_concurrency().function_name(function).reserved_concurrent_executions(2);
        put.send().await.unwrap();
        lambda.delete_event_source_mapping().uuid(&victim.mapping).send().await.unwrap();
        let other = house.queue(&format!("other-{suffix}")).await;
        let made = lambda.create_event_source_mapping().function_name(function).event_source_arn(&other).enabled(false);
        let made = made.send().await.unwrap().uuid.unwrap();
        let statement = lambda.add_permission().function_name(function).statement_id("everyone-by-url");
        statement.action("lambda:InvokeFunction").principal("sns.amazonaws.com").send().await.unwrap();
        lambda.delete_function_url_config().function_name(function).send().await.unwrap();
        let to = DestinationConfig::builder().on_failure(OnFailure::builder().destination(&other).build()).build();
        let put = lambda.update_function_event_invoke_config().function_name(function).destination_config(to);
        put.send().await.unwrap();
        let target = DeadLetterConfig::builder().target_arn(&other).build();
        lambda.update_function_configuration().function_name(function).dead_letter_config(target).send().await.unwrap();
        house.until_settled(function).await;
        let changed = house.look().await;

        let answer = house.release(json!({"incident_id": id})).await;
        assert_eq!(answer["outcome"], "released", "{answer}");
        let message = answer["message"].as_str().unwrap();
        for told in [
            "reserved concurrency is 2 now, not 0".to_owned(),
            format!("`{}` was deleted, or moved to another function", victim.mapping),
            format!("`{made}` was made since, and is off"),
            "statement `everyone-by-url` of the function itself is another one now".to_owned(),
            "the URL of the function itself was deleted".to_owned(),
            format!("reports on failure to `{other}` now"),
            format!("the dead-letter target is `{other}` now"),
        ] {
            assert!(message.contains(&told), "{told}\nis not told in\n{message}");
        }

        // Thing by thing, it is what someone made of it, or what it was before: nothing is as the containment left it.
        let after = house.look().await;
        let theirs = [
            format!("function/{function} reserved concurrency"),
            format!("function/{function} URL"),
            format!("function/{function} asynchronous invocation {function}"),
            format!("mapping {}", victim.mapping),
            format!("mapping {made}"),
        ];
        for thing in &theirs {
            assert_eq!(after.thing(thing), changed.thing(thing), "`{thing}` is left as it is");
        }
        let of_both = [format!("function/{function}"), format!("function/{function} statements")];
        let revocation = format!("`role/{} inline policy {REVOCATION}` is new", victim.role.name);
        for change in before.changes(&after).iter().filter(|change| **change != revocation) {
            let thing = change.split('`').nth(1).unwrap();
            assert!(theirs.iter().chain(&of_both).any(|other| other == thing), "the rest is as before: {change}");
        }
        let statements = after.thing(&of_both[1]).unwrap();
        assert!(statements.contains("everyone-else") && statements.contains("sns.amazonaws.com"), "{statements}");
        let configuration = after.thing(&of_both[0]).unwrap();
        assert_eq!(
            configuration,
            changed.thing(&of_both[0]).unwrap(),
            "but for the dead-letter target nothing was changed"
        );
        let left = house.incident(&id).await.unwrap().release.unwrap().left_alone;
        assert_eq!(left.len(), 5, "{left:?}");
        house.with_the_guard().await;
    });
}

#[test]
fn what_someone_changed_of_a_user_is_left_alone_key_by_key() {
    in_the_house(async |house| {
        house.without_the_guard().await;
        let iam = &house.aws.iam;
        let user = User::create(house.aws, &format!("changed-{}", random_hex(6)), "/team/").await.unwrap();
        let id = user.incident().unwrap();
        let [one, two] = [0, 1].map(|n| user.keys[n].access_key_id());
        house.contain_wholly(&id, json!({"user": user.name})).await.unwrap();
        iam.delete_access_key().user_name(&user.name).access_key_id(one).send().await.unwrap();
        let minted = iam.create_access_key().user_name(&user.name).send().await.unwrap().access_key.unwrap();
        // The next finding, or a person who asks, has it deactivated.
        house.contain_wholly(&id, json!({"user": user.name})).await.unwrap();
        let answer = house.release(json!({"incident_id": id})).await;
        assert_eq!(answer["outcome"], "released", "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(&format!("`{one}` was deleted since")), "{message}");
        assert!(
            message.contains(&format!("`{}` was made since, and stays Inactive", minted.access_key_id)),
            "{message}"
        );
        let keys = iam.list_access_keys().user_name(&user.name).send().await.unwrap().access_key_metadata;
        let mut keys: Vec<_> =
            keys.iter().map(|key| (key.access_key_id().unwrap(), key.status().unwrap().as_str())).collect();
        keys.sort_unstable();
        let mut expected = [(two, "Active"), (minted.access_key_id.as_str(), "Inactive")];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        house.with_the_guard().await;
    });
}
