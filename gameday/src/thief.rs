//! The thief: calls with stolen credentials, each with its name and its outcome.
//!
//! `sts:GetCallerIdentity` is not among them: no policy can deny it.

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;

use crate::aws::Aws;
use crate::scene::Goods;

/// What the thief tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Looks for buckets.
    ListBuckets,
    /// Steals an object.
    GetObject,
    /// Plants an object.
    PutObject,
    /// Orders something.
    SendMessage,
    /// Reads the customers.
    GetItem,
    /// Changes the customers.
    PutItem,
    /// Looks for a better role.
    ListRoles,
}

impl Call {
    /// Every call, in the order that the thief makes them.
    pub const ALL: [Self; 7] = [
        Self::ListBuckets,
        Self::GetObject,
        Self::PutObject,
        Self::SendMessage,
        Self::GetItem,
        Self::PutItem,
        Self::ListRoles,
    ];

    /// Every call but that of IAM.
    pub const BUT_IAM: [Self; 6] =
        [Self::ListBuckets, Self::GetObject, Self::PutObject, Self::SendMessage, Self::GetItem, Self::PutItem];

    /// The action, as IAM names it.
    pub fn action(self) -> &'static str {
        match self {
            Self::ListBuckets => "s3:ListAllMyBuckets",
            Self::GetObject => "s3:GetObject",
            Self::PutObject => "s3:PutObject",
            Self::SendMessage => "sqs:SendMessage",
            Self::GetItem => "dynamodb:GetItem",
            Self::PutItem => "dynamodb:PutItem",
            Self::ListRoles => "iam:ListRoles",
        }
    }
}

/// What AWS said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The call went through.
    Succeeded,
    /// Refused for want of permission, with the code.
    Denied(String),
    /// Refused because the access key is not, or no longer, valid.
    KeyRefused(String),
    /// Anything else: proves nothing.
    Other(String),
}

impl Outcome {
    /// The outcome in a word or two.
    pub fn shown(&self) -> String {
        match self {
            Self::Succeeded => "succeeded".to_owned(),
            Self::Denied(code) => format!("denied ({code})"),
            Self::KeyRefused(code) => format!("key refused ({code})"),
            Self::Other(text) => format!("failed otherwise: {text}"),
        }
    }

    /// Whether the thief got nothing, and got it for the right reason.
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::KeyRefused(_))
    }
}

/// Somebody with stolen credentials.
#[derive(Debug)]
pub struct Thief {
    /// How its lines are told.
    pub name: String,
    /// The access key that it stole.
    pub access_key: String,
    /// What it tries.
    pub calls: &'static [Call],
    aws: Aws,
    goods: Goods,
}

impl Thief {
    /// With these credentials, after these goods.
    pub fn with(aws: &Aws, name: &str, credentials: Credentials, goods: &Goods) -> Self {
        let access_key = credentials.access_key_id().to_owned();
        Self {
            name: name.to_owned(),
            access_key,
            calls: &Call::ALL,
            aws: aws.as_identity(credentials),
            goods: goods.clone(),
        }
    }

    /// With a session that was taken out with a user's key: AWS lets none of those call IAM.
    pub fn with_session_of_a_user(aws: &Aws, name: &str, credentials: Credentials, goods: &Goods) -> Self {
        Self { calls: &Call::BUT_IAM, ..Self::with(aws, name, credentials, goods) }
    }

    /// Makes one call.
    pub async fn attempt(&self, call: Call) -> Outcome {
        let Goods { bucket, object, queue_url, table } = &self.goods;
        let aws = &self.aws;
        match call {
            Call::ListBuckets => outcome(aws.s3.list_buckets().send().await),
            Call::GetObject => outcome(aws.s3.get_object().bucket(bucket).key(object).send().await),
            Call::PutObject => {
                let body = ByteStream::from_static(b"planted");
                outcome(aws.s3.put_object().bucket(bucket).key("planted").body(body).send().await)
            }
            Call::SendMessage => {
                outcome(aws.sqs.send_message().queue_url(queue_url).message_body("{\"order\": 666}").send().await)
            }
            Call::GetItem => {
                let key = AttributeValue::S("customer-1".to_owned());
                outcome(aws.dynamodb.get_item().table_name(table).key("id", key).send().await)
            }
            Call::PutItem => {
                let key = AttributeValue::S("planted".to_owned());
                outcome(aws.dynamodb.put_item().table_name(table).item("id", key).send().await)
            }
            Call::ListRoles => outcome(aws.iam.list_roles().send().await),
        }
    }
}

/// What an answer says.
pub(crate) fn outcome<T, E: ProvideErrorMetadata, R>(result: Result<T, SdkError<E, R>>) -> Outcome {
    let Err(error) = result else { return Outcome::Succeeded };
    let Some(said) = error.as_service_error() else { return Outcome::Other("no answer".to_owned()) };
    let code = said.code().unwrap_or_default().to_owned();
    match code.as_str() {
        "AccessDenied" | "AccessDeniedException" | "AuthorizationError" => Outcome::Denied(code),
        "InvalidClientTokenId" | "InvalidAccessKeyId" | "UnrecognizedClientException" => Outcome::KeyRefused(code),
        _ => Outcome::Other(format!("{code}: {}", said.message().unwrap_or_default())),
    }
}
