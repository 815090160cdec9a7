//! How containment fails in the field, through the deployed functions: sessions that are issued afterwards, denies of a
//! list, grants of resource policies, and tags that exempt. Drills that mean production are in the scenario
//! *forged-command-on-the-bus*.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use aws_sdk_iam::types::Tag;
use aws_sdk_lambda::primitives::Blob;
use firebreak_model::action::FunctionName;
use firebreak_model::finding::DRILL_PATH;
use gameday::aws::Aws;
use gameday::deploy::Stack;
use gameday::scene::{Goods, Role, User, random_hex};
use gameday::thief::{Call, Outcome, Thief};
use serde_json::{Value, json};

/// A stack that enforces, and what there is to steal.
struct Scene<'a> {
    aws: &'a Aws,
    stack: &'a Stack,
    goods: Goods,
    suffix: String,
}

fn on_a_scene<T>(work: impl AsyncFnOnce(Scene<'_>) -> T) -> T {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let suffix = random_hex(6);
        let goods = Goods::lay_out(&theatre.aws, &suffix).await.unwrap();
        work(Scene { aws: &theatre.aws, stack, goods, suffix }).await
    })
}

impl Scene<'_> {
    async fn role(&self, name: &str) -> Role {
        Role::create(self.aws, &format!("{name}-{}", self.suffix), DRILL_PATH).await.unwrap()
    }

    async fn thief(&self, role: &Role, session: &str) -> Thief {
        Thief::with(self.aws, session, role.steal_session(self.aws, session).await.unwrap(), &self.goods)
    }

    async fn contain(&self, mut request: Value) {
        request["firebreak"] = json!("contain");
        request["requested_by"] = json!("ana");
        request["reason"] = json!("a test");
        let invoke = self.aws.lambda.invoke().function_name(self.stack.function(FunctionName::QuarantinePrincipal));
        let answer = invoke.payload(Blob::new(request.to_string())).send().await.unwrap();
        let answer: Value = serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap();
        assert_eq!(answer["outcome"], "contained", "{answer}");
    }
}

async fn works(thief: &Thief) {
    for &call in thief.calls {
        assert_eq!(thief.attempt(call).await, Outcome::Succeeded, "{} {call:?}", thief.name);
    }
}

async fn is_denied(thief: &Thief) {
    for &call in thief.calls {
        let outcome = thief.attempt(call).await;
        assert!(matches!(outcome, Outcome::Denied(_)), "{} {call:?} {}", thief.name, outcome.shown());
    }
}

#[test]
fn a_session_that_is_issued_after_the_deny_is_denied_too() {
    on_a_scene(async |scene| {
        let role = scene.role("orders").await;
        let before = scene.thief(&role, "before").await;
        works(&before).await;
        scene.contain(json!({"role": role.name})).await;
        is_denied(&before).await;
        // Issued after everything that was done, by whoever can have the role assumed.
        let after = scene.thief(&role, "after").await;
        is_denied(&after).await;
    });
}

#[test]
fn a_deny_of_a_list_of_actions_is_no_containment_and_an_action_off_the_list_is_denied() {
    on_a_scene(async |scene| {
        let user = User::create(scene.aws, &format!("uploader-{}", scene.suffix), DRILL_PATH).await.unwrap();
        // Some of what AWS's own quarantine of an exposed key denies; under its name, which proves nothing.
        let listed = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Resource": "*", "Action": [
            "iam:AttachUserPolicy", "iam:CreateAccessKey", "iam:CreateUser", "ec2:RunInstances", "lambda:CreateFunction",
            "s3:DeleteBucket", "s3:PutBucketPolicy", "organizations:CreateAccount"]}]});
        let policy = scene.aws.iam.create_policy().policy_name("AWSCompromisedKeyQuarantineV3");
        let policy =
            policy.path(format!("/{}/", scene.suffix)).policy_document(listed.to_string()).send().await.unwrap();
        let attach = scene.aws.iam.attach_user_policy().user_name(&user.name);
        attach.policy_arn(policy.policy().unwrap().arn().unwrap()).send().await.unwrap();
        let session = user.session_of(scene.aws, &user.keys[0]).await.unwrap();
        let thief = Thief::with_session_of_a_user(scene.aws, "the thief", session, &scene.goods);
        works(&thief).await;
        scene.contain(json!({"user": user.name})).await;
        is_denied(&thief).await;
    });
}

#[test]
fn what_a_resources_policy_grants_is_denied_too() {
    on_a_scene(async |scene| {
        let role = scene.role("reader").await;
        scene.aws.iam.delete_role_policy().role_name(&role.name).policy_name("generous").send().await.unwrap();
        let thief = scene.thief(&role, "reader").await;
        assert!(thief.attempt(Call::GetObject).await.is_stopped());
        let bucket = &scene.goods.bucket;
        let session = format!("arn:aws:sts::{}:assumed-role/{}/reader", gameday::aws::ACCOUNT, role.name);
        for named in [&role.arn, &session] {
            let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": named},
                "Action": ["s3:GetObject", "s3:PutObject"], "Resource": format!("arn:aws:s3:::{bucket}/*")}]});
            scene.aws.s3.put_bucket_policy().bucket(bucket).policy(policy.to_string()).send().await.unwrap();
            assert_eq!(thief.attempt(Call::GetObject).await, Outcome::Succeeded, "{named}");
        }
        scene.contain(json!({"role": role.name})).await;
        is_denied(&thief).await;
    });
}

#[test]
fn a_tag_exempts_nobody() {
    on_a_scene(async |scene| {
        let role = scene.role("tagged").await;
        let thief = scene.thief(&role, "tagged").await;
        for (key, value) in
            [("firebreak", "exempt"), ("Firebreak", "false"), ("DoNotContain", "true"), ("break-glass", "yes")]
        {
            let tag = Tag::builder().key(key).value(value).build().unwrap();
            scene.aws.iam.tag_role().role_name(&role.name).tags(tag).send().await.unwrap();
        }
        works(&thief).await;
        scene.contain(json!({"role": role.name})).await;
        is_denied(&thief).await;
    });
}
