//! The scene: what a scenario plays with. Every name ends in a suffix of its own, so that scenarios share an account.

pub mod workload;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use aws_credential_types::Credentials;
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use aws_sdk_dynamodb::types::ScalarAttributeType;
use aws_sdk_dynamodb::types::{AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    DestinationConfig, Environment, FunctionCode, FunctionUrlAuthType, LastUpdateStatus, OnFailure, OnSuccess, Runtime,
    State,
};
use aws_sdk_s3::primitives::ByteStream;
use firebreak_model::finding::DRILL_PATH;
use firebreak_model::ids::{IncidentId, sha256_hex};
use firebreak_model::principal::Principal;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::archive;
use crate::aws::{ACCOUNT, Aws};
use crate::pages::queue_arn;

/// The code of the function that becomes a victim.
const VICTIM: &str = include_str!("victim.py");

/// So many hex digits that nobody else has.
pub fn random_hex(digits: usize) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let seed = format!("{} {} {count}", std::process::id(), firebreak_shared::clock::now());
    sha256_hex(seed.as_bytes()).chars().take(digits).collect()
}

/// What there is to steal.
#[derive(Debug, Clone)]
pub struct Goods {
    /// A bucket.
    pub bucket: String,
    /// An object in it.
    pub object: String,
    /// A queue.
    pub queue_url: String,
    /// A table.
    pub table: String,
}

impl Goods {
    /// Lays them out.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn lay_out(aws: &Aws, suffix: &str) -> Result<Self> {
        let name = format!("orders-{suffix}");
        aws.create_bucket(&name).await?;
        let object = "customers.csv";
        let body = ByteStream::from_static(b"id,name\n1,Ana\n");
        aws.s3.put_object().bucket(&name).key(object).body(body).send().await?;
        let queue = aws.sqs.create_queue().queue_name(&name).send().await?;
        let table = aws.dynamodb.create_table().table_name(&name).billing_mode(BillingMode::PayPerRequest);
        let attribute =
            AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build()?;
        let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build()?;
        table.attribute_definitions(attribute).key_schema(key).send().await?;
        let id = AttributeValue::S("customer-1".to_owned());
        aws.dynamodb.put_item().table_name(&name).item("id", id).send().await?;
        let queue_url = queue.queue_url().context("the new queue has no URL")?.to_owned();
        Ok(Self { bucket: name.clone(), object: object.to_owned(), queue_url, table: name })
    }
}

/// A role.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Its unique id.
    pub id: String,
}

impl Role {
    /// A role that may do far too much, and that both Lambda and this account may assume.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn create(aws: &Aws, name: &str, path: &str) -> Result<Self> {
        let trust = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
            {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}, "Action": "sts:AssumeRole"},
        ]});
        let request = aws.iam.create_role().role_name(name).path(path);
        let answer = request.assume_role_policy_document(trust.to_string()).send().await?;
        let role = answer.role().context("the new role is not shown")?;
        let put = aws.iam.put_role_policy().role_name(name).policy_name("generous");
        put.policy_document(generous().to_string()).send().await?;
        Ok(Self { name: name.to_owned(), arn: role.arn().to_owned(), id: role.role_id().to_owned() })
    }

    /// Steals a session of it.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn steal_session(&self, aws: &Aws, session: &str) -> Result<Credentials> {
        let answer = aws.sts.assume_role().role_arn(&self.arn).role_session_name(session).send().await?;
        let stolen = answer.credentials().context("no credentials")?;
        let token = Some(stolen.session_token().to_owned());
        Ok(Credentials::new(stolen.access_key_id(), stolen.secret_access_key(), token, None, "stolen"))
    }

    /// The incident that its containment is kept under.
    ///
    /// # Errors
    /// None for a role that AWS has made.
    pub fn incident(&self) -> Result<IncidentId> {
        Ok(Principal::from_arn(&self.arn)?.incident_id())
    }
}

fn generous() -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", "Action": [
        "s3:*", "sqs:*", "dynamodb:*", "logs:*", "iam:Get*", "iam:List*", "lambda:InvokeFunction"]}]})
}

/// A Lambda function in production: a generous role, a queue that feeds it, an open URL, a destination, logs.
#[derive(Debug, Clone)]
pub struct Victim {
    /// Its role.
    pub role: Role,
    /// Its name.
    pub function: String,
    /// Its ARN.
    pub function_arn: String,
    /// Its event source mapping.
    pub mapping: String,
    /// What its role can reach.
    pub goods: Goods,
}

impl Victim {
    /// Sets one up under the drill path and lets it work once.
    ///
    /// # Errors
    /// Where AWS refuses, or the function does not work.
    pub async fn set_up(aws: &Aws, suffix: &str, sub_path: &str) -> Result<Self> {
        let goods = Goods::lay_out(aws, suffix).await?;
        let role = Role::create(aws, &format!("orders-role-{suffix}"), &format!("{DRILL_PATH}{sub_path}")).await?;
        Self::around(aws, suffix, role, goods).await
    }

    /// Sets one up round a role that is there.
    ///
    /// # Errors
    /// Where AWS refuses, or the function does not work.
    pub async fn around(aws: &Aws, suffix: &str, role: Role, goods: Goods) -> Result<Self> {
        let function = format!("orders-worker-{suffix}");
        let group = format!("/aws/lambda/{function}");
        aws.logs.create_log_group().log_group_name(&group).send().await?;
        let zip = archive::of_one_file("index.py", VICTIM)?;
        let variables = HashMap::from([("TABLE".to_owned(), goods.table.clone())]);
        let answer = aws
            .lambda
            .create_function()
            .function_name(&function)
            .description("Takes orders from the queue.")
            .runtime(Runtime::Python312)
            .handler("index.lambda_handler")
            .role(&role.arn)
            .timeout(15)
            .environment(Environment::builder().set_variables(Some(variables)).build())
            .code(FunctionCode::builder().zip_file(Blob::new(zip)).build())
            .send()
            .await
            .context("cannot create the victim's function")?;
        let function_arn = answer.function_arn().context("the new function has no ARN")?.to_owned();
        until_active(aws, &function).await?;
        let concurrency = aws.lambda.put_function_concurrency().function_name(&function);
        concurrency.reserved_concurrent_executions(5).send().await?;
        open_doors(aws, &function).await?;
        let results = aws.sqs.create_queue().queue_name(format!("results-{suffix}")).send().await?;
        let results = queue_arn(aws, results.queue_url().unwrap_or_default()).await?;
        let destinations = DestinationConfig::builder()
            .on_success(OnSuccess::builder().destination(&results).build())
            .on_failure(OnFailure::builder().destination(&results).build())
            .build();
        let invoke = aws.lambda.put_function_event_invoke_config().function_name(&function);
        invoke.maximum_retry_attempts(1).destination_config(destinations).send().await?;
        let source = queue_arn(aws, &goods.queue_url).await?;
        let mapping = aws.lambda.create_event_source_mapping().function_name(&function).event_source_arn(source);
        let mapping = mapping.batch_size(1).send().await?.uuid().context("the mapping has no id")?.to_owned();
        let victim = Self { role, function, function_arn, mapping, goods };
        victim.work(aws).await.context("the victim does not work before anything has happened")?;
        write_logs(aws, &group).await?;
        Ok(victim)
    }

    /// Has the function do its work once: a call to AWS with the credentials of its role. Answers when the execution
    /// environment that did it began.
    ///
    /// # Errors
    /// With what the function, or Lambda, said.
    pub async fn work(&self, aws: &Aws) -> Result<Timestamp> {
        self.work_as(aws, None).await
    }

    /// The same, called by a version or an alias.
    ///
    /// # Errors
    /// With what the function, or Lambda, said.
    pub async fn work_as(&self, aws: &Aws, qualifier: Option<&str>) -> Result<Timestamp> {
        let payload = Blob::new(r#"{"order": 1}"#);
        let invoke = aws.lambda.invoke().function_name(&self.function).set_qualifier(qualifier.map(str::to_owned));
        let answer = invoke.payload(payload).send().await?;
        let said = answer.payload().map(|p| String::from_utf8_lossy(p.as_ref()).into_owned()).unwrap_or_default();
        let value: Value = serde_json::from_str(&said).unwrap_or_default();
        match value.get("environment_started_ms").and_then(Value::as_i64) {
            Some(started) if answer.function_error().is_none() => Ok(Timestamp::from_millisecond(started)?),
            _ => bail!("{said}"),
        }
    }
}

/// Publishes the function as it is. Answers the version's number.
///
/// # Errors
/// Where AWS refuses.
pub async fn publish(aws: &Aws, function: &str) -> Result<String> {
    until_updated(aws, function).await?;
    let published = aws.lambda.publish_version().function_name(function).send().await?;
    published.version.context("the new version has no number")
}

/// Waits until no change of the function is under way.
///
/// # Errors
/// Where it does not end.
pub async fn until_updated(aws: &Aws, function: &str) -> Result<()> {
    for _ in 0..200 {
        let answer = aws.lambda.get_function_configuration().function_name(function).send().await?;
        if answer.last_update_status() == Some(&LastUpdateStatus::Successful) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    bail!("the update of `{function}` does not end")
}

async fn open_doors(aws: &Aws, function: &str) -> Result<()> {
    let none = FunctionUrlAuthType::None;
    aws.lambda.create_function_url_config().function_name(function).auth_type(none.clone()).send().await?;
    let public = aws.lambda.add_permission().function_name(function).statement_id("everyone-by-url");
    let public = public.action("lambda:InvokeFunctionUrl").principal("*").function_url_auth_type(none);
    public.send().await?;
    let proper = aws.lambda.add_permission().function_name(function).statement_id("our-rules");
    proper.action("lambda:InvokeFunction").principal("events.amazonaws.com").source_account(ACCOUNT).send().await?;
    Ok(())
}

/// Waits until Lambda has made a function ready.
///
/// # Errors
/// Where Lambda does not answer, or the function is not ready in ten seconds.
pub async fn until_active(aws: &Aws, function: &str) -> Result<()> {
    for _ in 0..200 {
        let answer = aws.lambda.get_function_configuration().function_name(function).send().await?;
        if answer.state() == Some(&State::Active) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    bail!("`{function}` does not become active")
}

/// A few lines of the time before, in two streams, which the evidence must hold.
async fn write_logs(aws: &Aws, group: &str) -> Result<()> {
    let now = firebreak_shared::clock::now().as_millisecond();
    for stream in ["before-1", "before-2"] {
        aws.logs.create_log_stream().log_group_name(group).log_stream_name(stream).send().await?;
        let mut put = aws.logs.put_log_events().log_group_name(group).log_stream_name(stream);
        for line in 0..5 {
            let text = format!("order {line} taken over {stream}");
            put = put.log_events(InputLogEvent::builder().timestamp(now - 60_000 + line).message(text).build()?);
        }
        put.send().await?;
    }
    Ok(())
}

/// A user with two access keys.
#[derive(Debug, Clone)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Its unique id.
    pub id: String,
    /// Its access keys.
    pub keys: Vec<Credentials>,
}

impl User {
    /// Creates one.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn create(aws: &Aws, name: &str, path: &str) -> Result<Self> {
        let answer = aws.iam.create_user().user_name(name).path(path).send().await?;
        let user = answer.user().context("the new user is not shown")?;
        let put = aws.iam.put_user_policy().user_name(name).policy_name("generous");
        put.policy_document(generous().to_string()).send().await?;
        let mut keys = Vec::new();
        for _ in 0..2 {
            let answer = aws.iam.create_access_key().user_name(name).send().await?;
            let key = answer.access_key().context("the new key is not shown")?;
            keys.push(Credentials::new(key.access_key_id(), key.secret_access_key(), None, None, "a user's"));
        }
        Ok(Self { name: name.to_owned(), arn: user.arn().to_owned(), id: user.user_id().to_owned(), keys })
    }

    /// Lets the user take out federated sessions, and assume roles.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn may_take_out_sessions(&self, aws: &Aws) -> Result<()> {
        let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*",
            "Action": ["sts:AssumeRole", "sts:GetFederationToken"]}]});
        let put = aws.iam.put_user_policy().user_name(&self.name).policy_name("goes-on");
        put.policy_document(policy.to_string()).send().await?;
        Ok(())
    }

    /// A federated session that the holder of a key takes out, of any name: it may do what the user may.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn federated_session_of(&self, aws: &Aws, key: &Credentials, name: &str) -> Result<Credentials> {
        let all = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
        let take = aws.as_identity(key.clone()).sts.get_federation_token().name(name).policy(all.to_string());
        let answer = take.send().await?;
        let session = answer.credentials().context("no credentials")?;
        let token = Some(session.session_token().to_owned());
        Ok(Credentials::new(session.access_key_id(), session.secret_access_key(), token, None, "stolen"))
    }

    /// A session that the holder of a key takes out: it outlives the key.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn session_of(&self, aws: &Aws, key: &Credentials) -> Result<Credentials> {
        let answer = aws.as_identity(key.clone()).sts.get_session_token().send().await?;
        let session = answer.credentials().context("no credentials")?;
        let token = Some(session.session_token().to_owned());
        Ok(Credentials::new(session.access_key_id(), session.secret_access_key(), token, None, "stolen"))
    }

    /// The incident that its containment is kept under.
    ///
    /// # Errors
    /// None for a user that AWS has made.
    pub fn incident(&self) -> Result<IncidentId> {
        Ok(Principal::from_arn(&self.arn)?.incident_id())
    }
}
