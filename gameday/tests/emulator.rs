//! The emulator under the conditions that a game day sets: CloudTrail's events, IAM's propagation, the organisation's
//! policy. What the adversary and the guard are measured with must itself be right.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use aws_sdk_eventbridge::types::Target;
use aws_sdk_iam::error::ProvideErrorMetadata;
use aws_sdk_iam::types::StatusType;
use aws_sdk_sqs::types::QueueAttributeName;
use gameday::aws::{ACCOUNT, Aws};
use gameday::conditions::{self, Conditions};
use gameday::scene::{Role, User, random_hex};
use gameday::theatre::Theatre;
use iam_eval::organisation::{Scp, table};
use serde_json::{Value, json};

/// An administrator under a path, and a session of it.
async fn administrator(aws: &Aws) -> (String, Credentials) {
    let name = format!("admin-{}", random_hex(6));
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}, "Action": "sts:AssumeRole"}]});
    let role = aws.iam.create_role().role_name(&name).path("/firebreak-drill/people/");
    role.assume_role_policy_document(trust.to_string()).send().await.unwrap();
    let all = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let put = aws.iam.put_role_policy().role_name(&name).policy_name("all");
    put.policy_document(all.to_string()).send().await.unwrap();
    let session = session_of(aws, &name).await;
    (name, session)
}

async fn session_of(aws: &Aws, role: &str) -> Credentials {
    let arn = format!("arn:aws:iam::{ACCOUNT}:role/firebreak-drill/people/{role}");
    let answer = aws.sts.assume_role().role_arn(arn).role_session_name("ana").send().await.unwrap();
    let given = answer.credentials().unwrap();
    let token = Some(given.session_token().to_owned());
    Credentials::new(given.access_key_id(), given.secret_access_key(), token, None, "ana's")
}

/// A queue that every event of CloudTrail comes to.
async fn record_of_events(aws: &Aws) -> String {
    let name = format!("events-{}", random_hex(6));
    let url = aws.sqs.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
    let arn = QueueAttributeName::QueueArn;
    let answer = aws.sqs.get_queue_attributes().queue_url(&url).attribute_names(arn.clone()).send().await.unwrap();
    let arn = answer.attributes().unwrap()[&arn].clone();
    let pattern = json!({"detail-type": ["AWS API Call via CloudTrail"], "account": [ACCOUNT]});
    aws.events.put_rule().name(&name).event_pattern(pattern.to_string()).send().await.unwrap();
    let target = Target::builder().id("queue").arn(arn).build().unwrap();
    aws.events.put_targets().rule(&name).targets(target).send().await.unwrap();
    url
}

/// Takes events from the queue until one answers, and gives it back.
async fn event(aws: &Aws, queue: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
    let mut seen = Vec::new();
    for _ in 0..200 {
        let answer = aws.sqs.receive_message().queue_url(queue).max_number_of_messages(10).send().await.unwrap();
        for message in answer.messages() {
            let event: Value = serde_json::from_str(message.body().unwrap()).unwrap();
            aws.sqs
                .delete_message()
                .queue_url(queue)
                .receipt_handle(message.receipt_handle().unwrap())
                .send()
                .await
                .unwrap();
            if is(&event) {
                return event;
            }
            seen.push(event["detail"]["eventName"].clone());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the event does not come; there came {seen:?}")
}

fn named(name: &'static str) -> impl Fn(&Value) -> bool {
    move |event| event["detail"]["eventName"] == name
}

/// Plays under these conditions and puts fair weather back.
fn under<T>(conditions: &Conditions, work: impl AsyncFnOnce(&Theatre) -> T) -> T {
    common::in_the_theatre(|theatre| async {
        conditions.set(theatre.aws.endpoint.as_str()).await.unwrap();
        let found = work(theatre).await;
        Conditions::default().set(&theatre.aws.endpoint).await.unwrap();
        found
    })
}

fn with_events() -> Conditions {
    Conditions { cloudtrail_delay: Some(Duration::from_millis(10)), ..Conditions::default() }
}

#[test]
fn a_call_becomes_an_event_in_cloudtrails_shape() {
    under(&with_events(), async |theatre| {
        let aws = &theatre.aws;
        let queue = record_of_events(aws).await;
        let (role, session) = administrator(aws).await;
        let thief = aws.as_identity(session.clone());
        let user = format!("minted-{}", random_hex(6));
        thief.iam.create_user().user_name(&user).path("/firebreak-drill/").send().await.unwrap();
        let key = thief.iam.create_access_key().user_name(&user).send().await.unwrap();
        let found = event(aws, &queue, named("CreateAccessKey")).await;
        assert_eq!(found["source"], "aws.iam");
        assert_eq!(found["account"], ACCOUNT);
        assert_eq!(found["region"], "us-east-1");
        let detail = &found["detail"];
        assert_eq!(detail["eventSource"], "iam.amazonaws.com");
        assert_eq!(detail["requestParameters"], json!({"userName": user}));
        let minted = &detail["responseElements"]["accessKey"];
        assert_eq!(minted["accessKeyId"], key.access_key().unwrap().access_key_id());
        assert_eq!(minted["userName"], user.as_str());
        assert!(!found.to_string().contains(key.access_key().unwrap().secret_access_key()), "{found}");
        assert!(detail.get("errorCode").is_none(), "{detail}");
        let caller = &detail["userIdentity"];
        let issued_by = aws.iam.get_role().role_name(&role).send().await.unwrap().role.unwrap();
        assert_eq!(caller["type"], "AssumedRole");
        assert_eq!(caller["arn"], format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/ana"));
        assert_eq!(caller["principalId"], format!("{}:ana", issued_by.role_id()));
        assert_eq!(caller["accessKeyId"], session.access_key_id());
        let issuer = &caller["sessionContext"]["sessionIssuer"];
        assert_eq!(issuer["arn"], issued_by.arn());
        assert_eq!(issuer["principalId"], issued_by.role_id());
        assert_eq!(issuer["userName"], role.as_str());
    });
}

#[test]
fn a_refused_call_is_an_event_too_and_a_read_or_a_message_is_none() {
    under(&with_events(), async |theatre| {
        let aws = &theatre.aws;
        let queue = record_of_events(aws).await;
        let (_, session) = administrator(aws).await;
        let (target, _) = administrator(aws).await;
        let thief = aws.as_identity(session);
        thief.iam.get_role().role_name(&target).send().await.unwrap();
        thief.sqs.send_message().queue_url(&queue).message_body("{}").send().await.unwrap();
        let gone = thief.iam.detach_role_policy().role_name(&target).policy_arn("arn:aws:iam::aws:policy/AWSDenyAll");
        gone.send().await.unwrap_err();
        let mut between = Vec::new();
        let found = event(aws, &queue, |event| {
            between.push(event["detail"]["eventName"].to_string());
            event["detail"]["eventName"] == "DetachRolePolicy"
        });
        let found = found.await;
        assert_eq!(found["detail"]["errorCode"], "NoSuchEntity");
        assert_eq!(found["detail"]["requestParameters"]["roleName"], target.as_str());
        assert!(!between.iter().any(|name| name.contains("GetRole") || name.contains("SendMessage")), "{between:?}");
    });
}

#[test]
fn lambdas_events_have_dates_in_their_names_and_sts_names_the_session_it_gave() {
    under(&with_events(), async |theatre| {
        let aws = &theatre.aws;
        let queue = record_of_events(aws).await;
        let (role, session) = administrator(aws).await;
        let thief = aws.as_identity(session);
        let name = format!("nowhere-{}", random_hex(6));
        thief
            .lambda
            .put_function_concurrency()
            .function_name(&name)
            .reserved_concurrent_executions(7)
            .send()
            .await
            .ok();
        let found = event(aws, &queue, named("PutFunctionConcurrency20171031")).await;
        assert_eq!(found["source"], "aws.lambda");
        let wanted = json!({"functionName": name, "reservedConcurrentExecutions": 7});
        assert_eq!(found["detail"]["requestParameters"], wanted);
        assert_eq!(found["detail"]["errorCode"], "ResourceNotFoundException");
        let again = session_of(&thief, &role).await;
        let found = event(aws, &queue, |event| {
            event["detail"]["eventName"] == "AssumeRole" && event["detail"]["userIdentity"]["type"] == "AssumedRole"
        });
        let given = found.await["detail"]["responseElements"].clone();
        assert_eq!(given["credentials"]["accessKeyId"], again.access_key_id());
        assert!(given["assumedRoleUser"]["assumedRoleId"].as_str().unwrap().ends_with(":ana"), "{given}");
        assert!(!given.to_string().contains(again.secret_access_key()));
    });
}

#[test]
fn the_record_of_a_call_names_the_call_its_caller_and_its_error() {
    common::in_the_theatre(|theatre| async {
        let aws = &theatre.aws;
        let (role, session) = administrator(aws).await;
        let thief = aws.as_identity(session.clone());
        let user = format!("minted-{}", random_hex(6));
        thief.iam.create_user().user_name(&user).send().await.unwrap();
        thief.iam.create_user().user_name(&user).send().await.unwrap_err();
        thief.sqs.create_queue().queue_name(&user).send().await.unwrap();
        let url = thief.sqs.get_queue_url().queue_name(&user).send().await.unwrap().queue_url.unwrap();
        thief.sqs.send_message().queue_url(url).message_body("{}").send().await.unwrap();
        let by_key = LookupAttribute::builder().attribute_key(LookupAttributeKey::AccessKeyId);
        let by_key = by_key.attribute_value(session.access_key_id()).build().unwrap();
        let found = aws.cloudtrail.lookup_events().lookup_attributes(by_key).send().await.unwrap();
        let names: Vec<_> = found.events().iter().map(|event| event.event_name().unwrap()).collect();
        assert_eq!(names, ["GetQueueUrl", "CreateQueue", "CreateUser", "CreateUser"]);
        let records: Vec<Value> =
            found.events().iter().map(|e| serde_json::from_str(e.cloud_trail_event().unwrap()).unwrap()).collect();
        assert_eq!(records[2]["errorCode"], "EntityAlreadyExists");
        assert!(records[3].get("errorCode").is_none(), "{}", records[3]);
        assert_eq!(records[3]["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"], role.as_str());
        assert_eq!(records[0]["readOnly"], true);
        assert_eq!(found.events()[3].username(), Some("ana"));
    });
}

#[test]
fn nothing_arrives_while_no_trail_logs() {
    under(&with_events(), async |theatre| {
        let aws = &theatre.aws;
        let queue = record_of_events(aws).await;
        let name = format!("trail-{}", random_hex(6));
        let user = |n: u32| format!("made-{n}-{name}");
        aws.cloudtrail.create_trail().name(&name).s3_bucket_name(&name).send().await.unwrap();
        aws.cloudtrail.start_logging().name(&name).send().await.unwrap();
        aws.cloudtrail.stop_logging().name(&name).send().await.unwrap();
        event(aws, &queue, named("StopLogging")).await;
        aws.iam.create_user().user_name(user(1)).send().await.unwrap();
        aws.cloudtrail.start_logging().name(&name).send().await.unwrap();
        aws.iam.create_user().user_name(user(2)).send().await.unwrap();
        let next = event(aws, &queue, named("CreateUser")).await;
        aws.cloudtrail.delete_trail().name(&name).send().await.unwrap();
        assert_eq!(next["detail"]["requestParameters"]["userName"], user(2));
    });
}

#[test]
fn a_change_of_iam_shows_at_once_and_is_in_force_later() {
    let delay = Duration::from_secs(4);
    let (role, session) = common::in_the_theatre(|theatre| administrator(&theatre.aws));
    under(&Conditions { iam_delay: delay, ..Conditions::default() }, async |theatre| {
        let aws = &theatre.aws;
        let thief = aws.as_identity(session.clone());
        let deny = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]});
        let put = aws.iam.put_role_policy().role_name(&role).policy_name("deny");
        let began = std::time::Instant::now();
        put.policy_document(deny.to_string()).send().await.unwrap();
        let shown = aws.iam.list_role_policies().role_name(&role).send().await.unwrap();
        assert!(shown.policy_names().contains(&"deny".to_owned()), "IAM itself does not show what was written");
        let first = thief.iam.list_roles().send().await;
        if began.elapsed() < delay {
            first.unwrap();
        }
        until(async || thief.iam.list_roles().send().await.is_err()).await;
        // And it ends as late as it began.
        let began = std::time::Instant::now();
        aws.iam.delete_role_policy().role_name(&role).policy_name("deny").send().await.unwrap();
        let first = thief.iam.list_roles().send().await;
        if began.elapsed() < delay {
            assert_eq!(first.unwrap_err().code(), Some("AccessDenied"));
        }
        until(async || thief.iam.list_roles().send().await.is_ok()).await;
    });
}

#[test]
fn a_key_that_was_deactivated_works_for_a_while() {
    let delay = Duration::from_secs(4);
    under(&Conditions { iam_delay: delay, ..Conditions::default() }, async |theatre| {
        let aws = &theatre.aws;
        let user = format!("key-{}", random_hex(6));
        aws.iam.create_user().user_name(&user).send().await.unwrap();
        let key = aws.iam.create_access_key().user_name(&user).send().await.unwrap().access_key.unwrap();
        let credentials = Credentials::new(key.access_key_id(), key.secret_access_key(), None, None, "a user's");
        let holder = aws.as_identity(credentials);
        until(async || holder.sts.get_caller_identity().send().await.is_ok()).await;
        let off = aws.iam.update_access_key().user_name(&user).access_key_id(key.access_key_id());
        let began = std::time::Instant::now();
        off.status(StatusType::Inactive).send().await.unwrap();
        let first = holder.sts.get_caller_identity().send().await;
        if began.elapsed() < delay {
            first.unwrap();
        }
        until(async || holder.sts.get_caller_identity().send().await.is_err()).await;
    });
}

#[test]
fn the_organisations_policy_denies_whom_it_names_by_the_roles_arn_and_not_root() {
    common::in_the_theatre(|theatre| async {
        let aws = &theatre.aws;
        let ((exempt, by_exempt), (other, by_other)) = (administrator(aws).await, administrator(aws).await);
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Sid": "OnlyOne", "Effect": "Deny", "Action": "iam:CreateUser", "Resource": "*",
            "Condition": {"ArnNotLike": {"aws:PrincipalArn": format!("arn:aws:iam::*:role/firebreak-drill/people/{exempt}")}}
        }]});
        let conditions = Conditions { scps: vec![policy], ..Conditions::default() };
        conditions.set(&aws.endpoint).await.unwrap();
        let user = || format!("made-{}", random_hex(6));
        let refused = aws.as_identity(by_other.clone()).iam.create_user().user_name(user()).send().await.unwrap_err();
        aws.as_identity(by_exempt).iam.create_user().user_name(user()).send().await.unwrap();
        aws.iam.create_user().user_name(user()).send().await.unwrap();
        let counted = conditions::counted(&aws.endpoint).await.unwrap();
        Conditions::default().set(&aws.endpoint).await.unwrap();
        aws.as_identity(by_other).iam.create_user().user_name(user()).send().await.unwrap();
        assert_eq!(refused.code(), Some("AccessDenied"));
        let said = refused.message().unwrap_or_default().to_owned();
        assert!(said.contains("in a service control policy"), "{said}");
        let last = counted["scp_denials"].as_array().unwrap().last().unwrap();
        assert_eq!(last["sid"], "OnlyOne");
        assert_eq!(last["principal"], format!("arn:aws:sts::{ACCOUNT}:assumed-role/{other}/ana"));
    });
}

/// Two evaluators, written apart, over the same tables.
#[test]
fn the_emulators_own_evaluator_agrees_with_the_tables_of_the_organisations_policies() {
    for policy in Scp::ALL {
        let scps = vec![table::names().document(policy).unwrap()];
        under(&Conditions { scps, ..Conditions::default() }, async |theatre| {
            let rows = table::rows(policy);
            let calls: Vec<_> = rows.iter().map(|row| row.request.clone()).collect();
            let denied = conditions::denied(&theatre.aws.endpoint, &calls).await.unwrap();
            assert_eq!(denied.len(), rows.len());
            let wrong: Vec<_> = rows.iter().zip(denied).filter(|(row, denied)| row.denied != *denied).collect();
            let names: Vec<_> = wrong.iter().map(|(row, _)| row.name.as_str()).collect();
            assert!(names.is_empty(), "{policy:?}, {} of {}:\n{}", names.len(), rows.len(), names.join("\n"));
        });
    }
}

#[test]
fn each_of_several_policies_of_the_organisation_denies() {
    common::in_the_theatre(|theatre| async {
        let aws = &theatre.aws;
        let (_, session) = administrator(aws).await;
        let deny = |sid: &str, action: &str| {
            json!({"Version": "2012-10-17", "Statement": [
                {"Sid": sid, "Effect": "Deny", "Action": action, "Resource": "*"}]})
        };
        let scps = vec![deny("First", "iam:CreateUser"), deny("Second", "sts:AssumeRole")];
        Conditions { scps, ..Conditions::default() }.set(&aws.endpoint).await.unwrap();
        let holder = aws.as_identity(session);
        let user = holder.iam.create_user().user_name(format!("made-{}", random_hex(6))).send().await.unwrap_err();
        let role = format!("arn:aws:iam::{ACCOUNT}:role/anything");
        let assume = holder.sts.assume_role().role_arn(role).role_session_name("on").send().await.unwrap_err();
        holder.iam.list_users().send().await.unwrap();
        let counted = conditions::counted(&aws.endpoint).await.unwrap();
        Conditions::default().set(&aws.endpoint).await.unwrap();
        let sids: Vec<_> =
            counted["scp_denials"].as_array().unwrap().iter().rev().take(2).map(|one| &one["sid"]).collect();
        assert_eq!(sids, ["Second", "First"]);
        for said in [user.message(), assume.message()] {
            assert!(said.unwrap_or_default().contains("in a service control policy"), "{said:?}");
        }
    });
}

#[test]
fn a_role_that_is_made_again_does_not_revive_the_sessions_of_the_first() {
    common::in_the_theatre(|theatre| async {
        let aws = &theatre.aws;
        let (role, session) = administrator(aws).await;
        let old = aws.as_identity(session);
        old.iam.list_roles().send().await.unwrap();
        let was = aws.iam.get_role().role_name(&role).send().await.unwrap().role.unwrap();
        aws.iam.delete_role_policy().role_name(&role).policy_name("all").send().await.unwrap();
        aws.iam.delete_role().role_name(&role).send().await.unwrap();
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}, "Action": "sts:AssumeRole"}]});
        let again = aws.iam.create_role().role_name(&role).path(was.path());
        again.assume_role_policy_document(trust.to_string()).send().await.unwrap();
        let all = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
        let put = aws.iam.put_role_policy().role_name(&role).policy_name("all");
        put.policy_document(all.to_string()).send().await.unwrap();
        let error = old.iam.list_roles().send().await.unwrap_err();
        assert_eq!(error.code(), Some("InvalidClientTokenId"));
        aws.as_identity(session_of(aws, &role).await).iam.list_roles().send().await.unwrap();
    });
}

#[test]
fn settings_that_are_none_are_refused() {
    common::in_the_theatre(|theatre| async {
        let endpoint = &theatre.aws.endpoint;
        let wrong = Conditions { scps: vec![json!("deny")], ..Conditions::default() };
        assert!(wrong.set(endpoint).await.unwrap_err().to_string().contains("policy document"));
        let late = Conditions { iam_delay: Duration::from_secs(601), ..Conditions::default() };
        assert!(late.set(endpoint).await.unwrap_err().to_string().contains("0 to 600"));
    });
}

/// Waits until something is so: far longer than any delay that is set here.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..1200 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it never is so");
}

#[test]
fn the_sessions_of_a_users_key_may_do_no_more_than_on_aws() {
    common::in_the_theatre(async |theatre| {
        let aws = &theatre.aws;
        let user = User::create(aws, &format!("user-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        user.may_take_out_sessions(aws).await.unwrap();
        let key = &user.keys[0];
        let of_the_user = aws.as_identity(user.session_of(aws, key).await.unwrap());
        let federated = aws.as_identity(user.federated_session_of(aws, key, "anyone").await.unwrap());
        for session in [&of_the_user, &federated] {
            session.s3.list_buckets().send().await.unwrap();
            session.sts.get_caller_identity().send().await.unwrap();
            assert!(session.iam.list_roles().send().await.is_err(), "it calls IAM");
            assert!(session.sts.get_session_token().send().await.is_err(), "it takes out another");
        }
        let role = Role::create(aws, &format!("role-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
        role.steal_session(&of_the_user, "on").await.unwrap();
        assert!(role.steal_session(&federated, "on").await.is_err(), "a federated session goes on to a role");
        let bare = aws.as_identity(key.clone()).sts.get_federation_token().name("bare").send().await.unwrap();
        let bare = bare.credentials().unwrap();
        let token = Some(bare.session_token().to_owned());
        let bare = Credentials::new(bare.access_key_id(), bare.secret_access_key(), token, None, "bare");
        let bare = aws.as_identity(bare);
        assert!(bare.s3.list_buckets().send().await.is_err(), "a session without a policy may do something");
    });
}
