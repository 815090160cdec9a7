//! A security account beside the one that game days play in: both in one organisation, with the central evidence bucket
//! of `org/evidence-bucket.yaml`.

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sdk_s3::primitives::ByteStream;
use serde_json::{Value, json};

use crate::aws::{ACCOUNT, Aws, REGION};
use crate::{conditions, deploy};

/// The account that keeps the organisation's evidence.
pub const SECURITY_ACCOUNT: &str = "999900001111";

/// Another member of the organisation.
pub const NEIGHBOUR: &str = "444455556666";

/// An account that is in no organisation.
pub const STRANGER: &str = "777788889999";

const ORGANISATION: &str = "o-gameday00001";

/// The central evidence bucket as deployed.
#[derive(Debug, Clone)]
pub struct Central {
    /// AWS, as the operator of the security account.
    pub aws: Aws,
    /// The bucket.
    pub bucket: String,
    /// The key that it is written with.
    pub key_arn: String,
}

/// AWS as the root user of an account.
pub fn operator_of(endpoint: &str, account: &str) -> Aws {
    Aws::with(endpoint, REGION, Credentials::new(account, "test", None, None, "another account"))
}

impl Central {
    /// Makes the organisation, and deploys the template for members whose stack has this name.
    ///
    /// # Errors
    /// With the reason of the resource that failed.
    pub async fn deploy(endpoint: &str, template: &str, members_stack: &str) -> Result<Self> {
        let accounts = [ACCOUNT, SECURITY_ACCOUNT, NEIGHBOUR];
        conditions::organisation(endpoint, ORGANISATION, &accounts).await?;
        let aws = operator_of(endpoint, SECURITY_ACCOUNT);
        let (code, name) = ("security-templates", "evidence-bucket.yaml");
        aws.create_bucket(code).await?;
        let body = ByteStream::from(template.as_bytes().to_vec());
        aws.s3.put_object().bucket(code).key(name).body(body).send().await?;
        let parameters =
            [("OrganizationId", ORGANISATION), ("StackName", members_stack), ("EvidenceRetentionDays", "1")];
        let url = format!("{endpoint}/{code}/{name}");
        let stack = deploy::create(&aws, &url, "central-evidence", &parameters).await?;
        let (bucket, key_arn) = (stack.output("BucketName")?.to_owned(), stack.output("KeyArn")?.to_owned());
        Ok(Self { aws, bucket, key_arn })
    }

    /// The bucket's policy.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn policy(&self) -> Result<Value> {
        let answer = self.aws.s3.get_bucket_policy().bucket(&self.bucket).send().await?;
        serde_json::from_str(answer.policy().context("the bucket has no policy")?).context("the policy is no JSON")
    }

    /// Puts another policy in its place.
    ///
    /// # Errors
    /// Where S3 does not take it.
    pub async fn put_policy(&self, policy: &Value) -> Result<()> {
        self.aws.s3.put_bucket_policy().bucket(&self.bucket).policy(policy.to_string()).send().await?;
        Ok(())
    }
}

/// A session of a role that may do what the statement says, made by the root user of its account.
///
/// # Errors
/// Where AWS refuses.
pub async fn session(operator: &Aws, account: &str, (path, name): (&str, &str), may: Value) -> Result<Aws> {
    let create = operator.iam.create_role().role_name(name).path(path);
    create.assume_role_policy_document(trust(account).to_string()).send().await?;
    let policy = json!({"Version": "2012-10-17", "Statement": may});
    let put = operator.iam.put_role_policy().role_name(name).policy_name("rights");
    put.policy_document(policy.to_string()).send().await?;
    assume(operator, &format!("arn:aws:iam::{account}:role{path}{name}")).await
}

/// A session of one of Firebreak's own roles, which trust Lambda alone until the operator of the emulator says otherwise.
///
/// # Errors
/// Where AWS refuses.
pub async fn session_of_a_function(operator: &Aws, role: &str) -> Result<Aws> {
    let update = operator.iam.update_assume_role_policy().role_name(role);
    update.policy_document(trust(ACCOUNT).to_string()).send().await?;
    assume(operator, &format!("arn:aws:iam::{ACCOUNT}:role/firebreak/{role}")).await
}

fn trust(account: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{account}:root")}, "Action": "sts:AssumeRole"},
    ]})
}

async fn assume(operator: &Aws, role: &str) -> Result<Aws> {
    let answer = operator.sts.assume_role().role_arn(role).role_session_name("game-day").send().await?;
    let made = answer.credentials().context("no credentials")?;
    let token = Some(made.session_token().to_owned());
    let credentials = Credentials::new(made.access_key_id(), made.secret_access_key(), token, None, "assumed");
    Ok(operator.as_identity(credentials))
}
