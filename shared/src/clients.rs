//! Builds AWS clients: credentials, endpoint and Region from the environment that Lambda sets.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use firebreak_model::ids;

/// The shared configuration of every client: five tries with jittered back-off, and time-outs well under
/// a function's own, so that a hanging connection is an error that is handled rather than the end of the invocation.
pub async fn load() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(5))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(2))
                .operation_attempt_timeout(Duration::from_secs(8))
                .operation_timeout(Duration::from_secs(20))
                .build(),
        )
        .load()
        .await
}

/// A Lambda client for the Region that a function lives in.
pub fn lambda_in(config: &SdkConfig, region: &ids::Region) -> aws_sdk_lambda::Client {
    let region = Region::new(region.as_str().to_owned());
    aws_sdk_lambda::Client::from_conf(aws_sdk_lambda::config::Builder::from(config).region(region).build())
}

/// A CloudTrail client for the Region that a finding was found in: calls are recorded where they are made.
pub fn cloudtrail_in(config: &SdkConfig, region: &ids::Region) -> aws_sdk_cloudtrail::Client {
    let region = Region::new(region.as_str().to_owned());
    aws_sdk_cloudtrail::Client::from_conf(aws_sdk_cloudtrail::config::Builder::from(config).region(region).build())
}

/// An ECS client for the Region that a task lives in.
pub fn ecs_in(config: &SdkConfig, region: &ids::Region) -> aws_sdk_ecs::Client {
    let region = Region::new(region.as_str().to_owned());
    aws_sdk_ecs::Client::from_conf(aws_sdk_ecs::config::Builder::from(config).region(region).build())
}

/// A GuardDuty client for the Region that a finding was found in.
pub fn guardduty_in(config: &SdkConfig, region: &ids::Region) -> aws_sdk_guardduty::Client {
    let region = Region::new(region.as_str().to_owned());
    aws_sdk_guardduty::Client::from_conf(aws_sdk_guardduty::config::Builder::from(config).region(region).build())
}

/// A Lambda client that waits for the functions it calls, longer than for any other answer, and never calls twice.
pub fn lambda_invoking(config: &SdkConfig) -> aws_sdk_lambda::Client {
    let patience = Duration::from_mins(1);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(patience)
        .operation_timeout(patience)
        .build();
    let builder = aws_sdk_lambda::config::Builder::from(config).timeout_config(timeouts);
    aws_sdk_lambda::Client::from_conf(builder.retry_config(RetryConfig::disabled()).build())
}

/// An S3 client. An endpoint that was set by hand is one host, not one a bucket: address it by path.
pub fn s3(config: &SdkConfig) -> aws_sdk_s3::Client {
    let by_path = config.endpoint_url().is_some();
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(config).force_path_style(by_path).build())
}
