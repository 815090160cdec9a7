//! AWS clients on one endpoint, in one Region, with one identity.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

/// The account that game days play in.
pub const ACCOUNT: &str = "111122223333";

/// The Region that Firebreak lives in during a game day.
pub const REGION: &str = "us-east-1";

/// Clients of every service that a game day needs. No call is retried: what fails is to be seen.
#[derive(Debug, Clone)]
pub struct Aws {
    /// What the clients were built from.
    pub config: SdkConfig,
    /// The endpoint.
    pub endpoint: String,
    /// The Region.
    pub region: String,
    /// IAM.
    pub iam: aws_sdk_iam::Client,
    /// STS.
    pub sts: aws_sdk_sts::Client,
    /// Lambda.
    pub lambda: aws_sdk_lambda::Client,
    /// S3, addressed by path.
    pub s3: aws_sdk_s3::Client,
    /// KMS.
    pub kms: aws_sdk_kms::Client,
    /// DynamoDB.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// SQS.
    pub sqs: aws_sdk_sqs::Client,
    /// SNS.
    pub sns: aws_sdk_sns::Client,
    /// EventBridge.
    pub events: aws_sdk_eventbridge::Client,
    /// ECS.
    pub ecs: aws_sdk_ecs::Client,
    /// GuardDuty.
    pub guardduty: aws_sdk_guardduty::Client,
    /// CloudWatch Logs.
    pub logs: aws_sdk_cloudwatchlogs::Client,
    /// CloudTrail.
    pub cloudtrail: aws_sdk_cloudtrail::Client,
    /// CloudFormation.
    pub cloudformation: aws_sdk_cloudformation::Client,
}

impl Aws {
    /// As the account's root user: the operator of the game day.
    pub fn operator(endpoint: &str, region: &str) -> Self {
        Self::with(endpoint, region, Credentials::new("test", "test", None, None, "game day"))
    }

    /// With these credentials.
    pub fn with(endpoint: &str, region: &str, credentials: Credentials) -> Self {
        let patience = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_timeout(Duration::from_mins(2))
            .build();
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::disabled())
            .timeout_config(patience)
            .build();
        let s3 = aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .build();
        Self {
            endpoint: endpoint.to_owned(),
            region: region.to_owned(),
            iam: aws_sdk_iam::Client::new(&config),
            sts: aws_sdk_sts::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3),
            kms: aws_sdk_kms::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            sns: aws_sdk_sns::Client::new(&config),
            events: aws_sdk_eventbridge::Client::new(&config),
            ecs: aws_sdk_ecs::Client::new(&config),
            guardduty: aws_sdk_guardduty::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            cloudtrail: aws_sdk_cloudtrail::Client::new(&config),
            cloudformation: aws_sdk_cloudformation::Client::new(&config),
            config,
        }
    }

    /// The same endpoint and Region, as someone else.
    #[must_use]
    pub fn as_identity(&self, credentials: Credentials) -> Self {
        Self::with(&self.endpoint, &self.region, credentials)
    }

    /// Creates a bucket in the Region.
    ///
    /// # Errors
    /// Where S3 refuses.
    pub async fn create_bucket(&self, name: &str) -> Result<()> {
        let mut create = self.s3.create_bucket().bucket(name);
        // S3 takes its first Region as the default, and does not let it be named.
        if self.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.region.as_str());
            create = create
                .create_bucket_configuration(CreateBucketConfiguration::builder().location_constraint(place).build());
        }
        create.send().await.with_context(|| format!("cannot create bucket `{name}`"))?;
        Ok(())
    }

    /// The same endpoint and identity in another Region.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        Self::operator(&self.endpoint, region)
    }
}
