//! What lies in the queues of failures, sent again.

use super::*;

#[test]
fn redrives_what_could_not_be_delivered_and_leaves_what_names_another_function() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let role = Role::create(aws, &format!("cli-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let event = drill(aws, &role);
        let ours = stack.output("QuarantinePrincipalArn").unwrap();
        let deliveries = stack.output("DeliveryFailuresUrl").unwrap();
        let failures = stack.output("FunctionFailuresUrl").unwrap();
        let policies = (open(aws, deliveries).await, open(aws, failures).await);
        let send = |queue: &str, body: String| aws.sqs.send_message().queue_url(queue).message_body(body);
        send(deliveries, event.to_string()).message_attributes("TARGET_ARN", attribute(ours)).send().await.unwrap();
        let recycle = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}-recycle", stack.name);
        let order = json!({"detail-type": "Containment Ordered", "detail": {}});
        let order = send(deliveries, order.to_string()).message_attributes("TARGET_ARN", attribute(&recycle));
        order.send().await.unwrap();
        let foreign = "arn:aws:lambda:us-east-1:111122223333:function:payments";
        let forged = json!({"requestContext": {"functionArn": foreign}, "requestPayload": event});
        send(failures, forged.to_string()).send().await.unwrap();

        let told = badly(&firebreak(theatre, &["redrive"]));
        assert!(told.contains(&format!("{}-delivery-failures: 2 sent again, 0 left", stack.name)), "{told}");
        assert!(told.contains(&format!("{}-function-failures: 0 sent again, 1 left", stack.name)), "{told}");
        assert!(told.contains("payments"), "{told}");
        contained(theatre, stack, &role.incident().unwrap()).await;
        aws.sqs.purge_queue().queue_url(failures).send().await.unwrap();
        let told = well(&firebreak(theatre, &["redrive"]));
        assert!(told.contains("delivery-failures: 0 sent again, 0 left"), "{told}");
        set_policy(aws, deliveries, &policies.0).await;
        set_policy(aws, failures, &policies.1).await;
    });
}

#[test]
fn whoever_may_send_to_the_queues_of_failures_has_nothing_commanded_by_who_redrives_them() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let role = Role::create(aws, &format!("cli-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let asked = ["--reason", "r", "--requested-by", "ana"];
        well(&firebreak(theatre, &[&["contain", "--role", &role.name][..], &asked[..]].concat()));
        let id = role.incident().unwrap();
        let victim = User::create(aws, &format!("cli-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let commands = [
            (FunctionName::ReleaseContainment, json!({"firebreak": "release", "incident_id": id})),
            (FunctionName::ReleaseContainment, json!({"firebreak": "release", "since": "2020-01-01T00:00:00Z"})),
            (FunctionName::ReleaseContainment, json!({"firebreak": "pause"})),
            (FunctionName::QuarantinePrincipal, json!({"firebreak": "contain", "user": victim.name})),
            (FunctionName::QuarantinePrincipal, json!({"firebreak": "approve", "incident_id": id})),
            (FunctionName::RevokeSessions, json!({"firebreak": "revoke", "incident_id": id})),
        ];
        let messages: Vec<(String, String, String)> = commands
            .into_iter()
            .map(|(function, mut command)| {
                command["requested_by"] = json!("ana");
                command["reason"] = json!("over");
                let arn = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", stack.function(function));
                let failed =
                    json!({"requestContext": {"functionArn": format!("{arn}:$LATEST")}, "requestPayload": command});
                (arn, command.to_string(), failed.to_string())
            })
            .collect();
        let deliveries = stack.output("DeliveryFailuresUrl").unwrap();
        let failures = stack.output("FunctionFailuresUrl").unwrap();
        let leave = async |sqs: &aws_sdk_sqs::Client| {
            let mut accepted = 0;
            for (arn, command, failed) in &messages {
                let delivery = sqs.send_message().queue_url(deliveries).message_body(command);
                accepted += usize::from(delivery.message_attributes("TARGET_ARN", attribute(arn)).send().await.is_ok());
                accepted +=
                    usize::from(sqs.send_message().queue_url(failures).message_body(failed).send().await.is_ok());
            }
            accepted
        };
        // A thief whose role may do anything with any queue is kept out by the queues' own policies.
        let accomplice = Role::create(aws, &format!("cli-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let thief = aws.as_identity(accomplice.steal_session(aws, "thief").await.unwrap());
        let own = thief.sqs.create_queue().queue_name(format!("cli-{}", random_hex(6))).send().await.unwrap();
        thief.sqs.send_message().queue_url(own.queue_url().unwrap()).message_body("{}").send().await.unwrap();
        assert_eq!(leave(&thief.sqs).await, 0);
        let told = well(&firebreak(theatre, &["redrive"]));
        assert_eq!(told.matches(" 0 sent again, 0 left").count(), 6, "{told}");

        // What gets there all the same is left there.
        let policies = (open(aws, deliveries).await, open(aws, failures).await);
        assert_eq!(leave(&aws.sqs).await, 2 * messages.len());
        let told = badly(&firebreak(theatre, &["redrive"]));
        for queue in ["delivery-failures", "function-failures"] {
            assert!(told.contains(&format!("{queue}: 0 sent again, {} left", messages.len())), "{told}");
        }
        assert!(told.contains("ask for it again"), "{told}");
        for queue in [deliveries, failures] {
            aws.sqs.purge_queue().queue_url(queue).send().await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let book = Book::read(aws, stack).await.unwrap();
        assert_eq!(book.incident(&id).unwrap().state, IncidentState::Ordered);
        assert!(book.incident(&victim.incident().unwrap()).is_none() && book.pause.is_none());
        set_policy(aws, deliveries, &policies.0).await;
        set_policy(aws, failures, &policies.1).await;
    });
}

#[test]
fn a_queue_that_cannot_be_read_is_told_by_awss_own_word_and_keeps_no_other_from_being_redriven() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let role = Role::create(aws, &format!("cli-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let closed = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}-function-failures", stack.name);
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": "sqs:*", "Resource": closed},
        ]});
        let put = aws.iam.put_role_policy().role_name(&role.name).policy_name("generous");
        put.policy_document(policy.to_string()).send().await.unwrap();
        // Whoever redrives is not the one that the finding has denied.
        let victim = Role::create(aws, &format!("cli-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let event = drill(aws, &victim).to_string();
        let deliveries = stack.output("DeliveryFailuresUrl").unwrap();
        let before = open(aws, deliveries).await;
        let ours = attribute(stack.output("QuarantinePrincipalArn").unwrap());
        let send = aws.sqs.send_message().queue_url(deliveries).message_body(event);
        send.message_attributes("TARGET_ARN", ours).send().await.unwrap();
        let session = role.steal_session(aws, "responder").await.unwrap();
        let credentials = [
            ("AWS_ACCESS_KEY_ID", session.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", session.secret_access_key()),
            ("AWS_SESSION_TOKEN", session.session_token().unwrap_or_default()),
        ];
        let told = badly(&firebreak_as(theatre, credentials, &["redrive"]));
        assert!(told.contains(&format!("{}-delivery-failures: 1 sent again, 0 left", stack.name)), "{told}");
        assert!(told.contains(&format!("{}-trace-failures: 0 sent again, 0 left", stack.name)), "{told}");
        let unread = told.split("not read, or not to the end:\n").nth(1).unwrap();
        assert!(unread.contains("function-failures: AccessDenied") && unread.lines().count() == 1, "{told}");
        assert!(!told.contains("not found"), "{told}");
        // Where there is no such stack, that is what is said, of each queue.
        let told = badly(&firebreak(theatre, &["--stack", "elsewhere", "redrive"]));
        assert_eq!(told.matches("is the stack in this Region and account?").count(), 5, "{told}");
        set_policy(aws, deliveries, &before).await;
    });
}

#[test]
fn a_batch_of_the_stream_is_dropped_when_a_person_says_so_twice_and_nothing_else_is() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let failures = stack.output("FunctionFailuresUrl").unwrap();
        let policy = open(aws, failures).await;
        let publishes =
            format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", stack.function(FunctionName::PublishOutcomes));
        let batch = json!({"requestContext": {"functionArn": publishes}, "DDBStreamBatchInfo": {"batchSize": 3,
            "approximateArrivalOfFirstRecord": "2026-11-21T03:00:00Z",
            "approximateArrivalOfLastRecord": "2026-11-21T03:00:02Z"}});
        let request = json!({"requestContext": {"functionArn": publishes}, "requestPayload": {"firebreak": "pause"}});
        let fill = async || {
            for body in [&batch, &batch, &request] {
                aws.sqs.send_message().queue_url(failures).message_body(body.to_string()).send().await.unwrap();
            }
        };
        // What was read stays out of sight for a minute: each look has messages of its own.
        for arguments in [&["redrive"][..], &["redrive", "--drop-stream-batches"][..]] {
            fill().await;
            let told = badly(&firebreak(theatre, arguments));
            assert!(told.contains("function-failures: 0 sent again, 3 left\n"), "{told}");
            assert!(told.contains("3 records from 2026-11-21T03:00:00Z to 2026-11-21T03:00:02Z"), "{told}");
            assert!(told.contains("(orders to the other functions, pages, metrics) is lost"), "{told}");
            aws.sqs.purge_queue().queue_url(failures).send().await.unwrap();
        }
        let told = badly(&firebreak(theatre, &["redrive", "--yes"]));
        assert!(told.contains("--drop-stream-batches"), "{told}");
        fill().await;
        let told = badly(&firebreak(theatre, &["redrive", "--drop-stream-batches", "--yes"]));
        assert!(told.contains("function-failures: 0 sent again, 1 left, 2 dropped"), "{told}");
        assert!(told.contains("it is no batch of the ledger's stream"), "{told}");
        aws.sqs.purge_queue().queue_url(failures).send().await.unwrap();
        set_policy(aws, failures, &policy).await;
    });
}

/// Takes away the policy of a queue, which keeps out even the operator: AWS alone leaves failures there. Answers it.
async fn open(aws: &Aws, queue: &str) -> String {
    let ask = aws.sqs.get_queue_attributes().queue_url(queue).attribute_names(QueueAttributeName::Policy);
    let attributes = ask.send().await.unwrap().attributes.unwrap();
    set_policy(aws, queue, "").await;
    attributes[&QueueAttributeName::Policy].clone()
}

async fn set_policy(aws: &Aws, queue: &str, policy: &str) {
    let set = aws.sqs.set_queue_attributes().queue_url(queue).attributes(QueueAttributeName::Policy, policy);
    set.send().await.unwrap();
}

fn attribute(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder().data_type("String").string_value(value).build().unwrap()
}

/// A drill's finding on a role.
fn drill(aws: &Aws, role: &Role) -> Value {
    let session =
        RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: "ASIAEXAMPLEKEY000001" };
    let detail = findings::access_key_of_instance(aws, &session).unwrap();
    json!({"version": "0", "id": "6f1b5a9e-0000-4000-8000-000000000002",
        "detail-type": "GuardDuty Finding", "source": "firebreak.drill", "account": ACCOUNT,
        "time": "2026-11-21T03:00:00Z", "region": "eu-north-1", "resources": [], "detail": detail})
}

#[test]
fn what_is_redriven_is_carried_out_once_however_often_it_lies_there() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let role = Role::create(aws, &format!("away-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        let event = drill(aws, &role);
        // As EventBridge leaves it in another Region: twice the finding, and what came by no rule of ours.
        let away = aws.in_region("eu-north-1");
        let queue =
            away.sqs.create_queue().queue_name(format!("{}-forward-failures", stack.name)).send().await.unwrap();
        for rule in ["firebreak-forward-findings", "firebreak-forward-findings", "payments"] {
            let came_by = attribute(&format!("arn:aws:events:eu-north-1:{ACCOUNT}:rule/{rule}"));
            let send = away.sqs.send_message().queue_url(queue.queue_url().unwrap()).message_body(event.to_string());
            send.message_attributes("RULE_ARN", came_by).send().await.unwrap();
        }
        let told = badly(&firebreak(theatre, &["redrive", "--forwarded-from", "eu-north-1"]));
        assert!(told.contains("forward-failures: 2 sent again, 1 left") && told.contains("rule/payments"), "{told}");
        let id = role.incident().unwrap();
        let book = contained(theatre, stack, &id).await;
        let findings: Vec<_> = book.findings.iter().filter(|f| f.incident_id.as_ref() == Some(&id)).collect();
        assert_eq!(findings.len(), 1, "{findings:?}");

        // An invocation that failed, twice in its queue, about what is contained by now; and a re-check that failed.
        let ours = stack.output("QuarantinePrincipalArn").unwrap();
        let failed = json!({"requestContext": {"functionArn": ours}, "requestPayload": event}).to_string();
        let failures = stack.output("FunctionFailuresUrl").unwrap();
        let policy = open(aws, failures).await;
        for _ in 0..2 {
            aws.sqs.send_message().queue_url(failures).message_body(&failed).send().await.unwrap();
        }
        let order = json!({"detail-type": "Containment Ordered", "source": "firebreak", "account": ACCOUNT, "id": "e",
            "region": REGION, "detail": {"incident_id": id}});
        let rechecks = stack.output("RecheckFailuresUrl").unwrap();
        aws.sqs.send_message().queue_url(rechecks).message_body(order.to_string()).send().await.unwrap();
        let told = well(&firebreak(theatre, &["redrive"]));
        for line in ["function-failures: 2 sent again, 0 left", "recheck-failures: 1 sent again, 0 left"] {
            assert!(told.contains(line), "{told}");
        }
        let told = well(&firebreak(theatre, &["redrive"]));
        assert_eq!(told.matches(" 0 sent again, 0 left").count(), 6, "{told}");
        let version = book.incident(&id).unwrap().version;
        for _ in 0..20 {
            let now = Book::read(aws, stack).await.unwrap();
            assert_eq!(now.incident(&id).unwrap().version, version, "the same finding changes nothing");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let attached = aws.iam.list_attached_role_policies().role_name(&role.name).send().await.unwrap();
        assert_eq!(attached.attached_policies().len(), 1);
        set_policy(aws, failures, &policy).await;
    });
}
