//! Builds AWS clients: credentials, endpoint and Region from the environment that Lambda sets, and from nowhere else.
//!
//! No chain of providers is asked, no file is read, no metadata service is called: what Lambda does not set is not
//! there. See `docs/decisions/0020-what-a-cold-start-pays-for.md`.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_iam::config::SharedCredentialsProvider;
use aws_sdk_iam::config::retry::{RetryPartition, TokenBucket};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_types::sdk_config::Builder;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use firebreak_model::ids;

use crate::config;

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(2);

/// How often a call is sent at most. Between two of them passes a time that is drawn, up to a second, two, four, eight.
const ATTEMPTS: u32 = 5;

/// So many further attempts the calls of one client have at once, and so many more come with each second.
const FURTHER: u16 = 100;
const FURTHER_A_SECOND: u16 = 10;

/// What a further attempt costs a budget, and what it costs after no answer, as the SDK weighs them.
const COST: u16 = 5;
const COST_OF_SILENCE: u16 = 10;

/// How long one answer may take.
const ATTEMPT: Duration = Duration::from_secs(8);

/// How long a call may take with all its attempts: well under every function's own time.
const OPERATION: Duration = Duration::from_secs(20);

/// Five attempts with jittered back-off, out of a [`budget`] that all calls of a client share, and time-outs, so that a
/// hanging connection is an error that is handled rather than the end of the invocation. See
/// `docs/decisions/0062-how-often-a-call-is-made.md`.
fn tried_again(sdk: Builder) -> Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION);
    sdk.retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS)).timeout_config(timeouts.build())
}

/// The shared configuration of every client.
pub fn load() -> SdkConfig {
    let mut sdk = tried_again(SdkConfig::builder())
        .behavior_version(BehaviorVersion::latest())
        .region(config::region().map(Region::new))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .identity_cache(IdentityCache::lazy().build())
        .http_client(transport())
        .sleep_impl(TokioSleep::new())
        .service_config(OfService);
    sdk.set_endpoint_url(config::endpoint_url());
    sdk.set_use_fips(config::fips_endpoints());
    sdk.build()
}

/// What is set for one service: `AWS_ENDPOINT_URL_IAM` and the like, which every SDK knows.
#[derive(Debug)]
struct OfService;

impl LoadServiceConfig for OfService {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        config::of_service(key.env(), key.service_id())
    }
}

/// One pool of connections for all clients, whose trusted roots are read once, and here: during the start, when Lambda
/// gives the whole CPU. By default each client reads them for itself, twice.
fn transport() -> SharedHttpClient {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).build();
    let connector = Connector::builder().connector_settings(settings).sleep_impl(TokioSleep::new());
    let connector = connector.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build();
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_, _| connector.clone())
}

/// What all calls of a client may be made again. It fills with time: a budget that only what goes well fills again, as the
/// SDK's own, leaves an environment that has seen an hour of throttling without a second attempt for the next finding.
fn budget(client: &'static str) -> RetryPartition {
    let bucket = TokenBucket::builder().capacity(usize::from(FURTHER * COST));
    let bucket = bucket.refill_rate(f32::from(FURTHER_A_SECOND * COST)).timeout_retry_cost(COST_OF_SILENCE.into());
    let bucket = bucket.retry_cost(COST.into()).throttling_retry_cost(COST.into());
    RetryPartition::custom(client).token_bucket(bucket.build()).build()
}

macro_rules! clients {
    ($($name:ident of $sdk:ident, $shown:literal;)*) => {$(
        #[doc = concat!("A client of ", $shown, ".")]
        pub fn $name(config: &SdkConfig) -> $sdk::Client {
            let builder = $sdk::config::Builder::from(config).retry_partition(budget(stringify!($name)));
            $sdk::Client::from_conf(builder.build())
        }
    )*};
}

clients! {
    cloudformation of aws_sdk_cloudformation, "CloudFormation";
    cloudtrail of aws_sdk_cloudtrail, "CloudTrail";
    dynamodb of aws_sdk_dynamodb, "DynamoDB";
    ecs of aws_sdk_ecs, "ECS";
    events of aws_sdk_eventbridge, "EventBridge";
    guardduty of aws_sdk_guardduty, "GuardDuty";
    iam of aws_sdk_iam, "IAM";
    kms of aws_sdk_kms, "KMS";
    lambda of aws_sdk_lambda, "Lambda";
    logs of aws_sdk_cloudwatchlogs, "CloudWatch Logs";
    sns of aws_sdk_sns, "SNS";
    sqs of aws_sdk_sqs, "SQS";
}

/// The same, elsewhere: a function, a queue, a task, a finding is asked about in its own Region.
pub fn in_region(config: &SdkConfig, region: &ids::Region) -> SdkConfig {
    config.to_builder().region(Region::new(region.as_str().to_owned())).build()
}

/// A Lambda client for the Region that a function lives in.
pub fn lambda_in(config: &SdkConfig, region: &ids::Region) -> aws_sdk_lambda::Client {
    lambda(&in_region(config, region))
}

/// An SQS client for the Region that a queue lives in.
pub fn sqs_in(config: &SdkConfig, region: &ids::Region) -> aws_sdk_sqs::Client {
    sqs(&in_region(config, region))
}

/// A CloudTrail client for the Region that a finding was found in: calls are recorded where they are made.
pub fn cloudtrail_in(config: &SdkConfig, region: &ids::Region) -> aws_sdk_cloudtrail::Client {
    cloudtrail(&in_region(config, region))
}

/// An ECS client for the Region that a task lives in.
pub fn ecs_in(config: &SdkConfig, region: &ids::Region) -> aws_sdk_ecs::Client {
    ecs(&in_region(config, region))
}

/// A GuardDuty client for the Region that a finding was found in.
pub fn guardduty_in(config: &SdkConfig, region: &ids::Region) -> aws_sdk_guardduty::Client {
    guardduty(&in_region(config, region))
}

/// A Lambda client that waits for the functions it calls, longer than for any other answer, and never calls twice.
pub fn lambda_invoking(config: &SdkConfig) -> aws_sdk_lambda::Client {
    let patience = Duration::from_mins(1);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(patience)
        .operation_timeout(patience)
        .build();
    let builder = aws_sdk_lambda::config::Builder::from(config).timeout_config(timeouts);
    aws_sdk_lambda::Client::from_conf(builder.retry_config(RetryConfig::disabled()).build())
}

/// An S3 client. An endpoint that was set by hand is one host, not one a bucket: address it by path.
pub fn s3(config: &SdkConfig) -> aws_sdk_s3::Client {
    let by_path = config.endpoint_url().is_some();
    let builder = aws_sdk_s3::config::Builder::from(config).retry_partition(budget("s3"));
    aws_sdk_s3::Client::from_conf(builder.force_path_style(by_path).build())
}

#[cfg(test)]
mod tests;
