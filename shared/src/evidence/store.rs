//! The evidence bucket: put once, never overwritten, encrypted with our key, checked by S3 on the way in.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::base64;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use firebreak_model::ids::hex;
use sha2::{Digest, Sha256};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why the bucket did not take evidence, or did not give it back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something else lies there.
    #[error("`{key}` holds something else already: another run collects under the same attempt")]
    Taken {
        /// Where.
        key: String,
    },
    /// The call failed.
    #[error("`{call}` of `{key}` failed")]
    Call {
        /// The API call.
        call: &'static str,
        /// Of which object.
        key: String,
        /// Whether another try may go better.
        transient: bool,
        /// What AWS said.
        #[source]
        source: Source,
    },
    /// What is read back is not what was written.
    #[error("`{key}` reads back with another SHA-256 than it was written with")]
    Differs {
        /// Which object.
        key: String,
    },
    /// It cannot be written down.
    #[error("a document cannot be encoded")]
    Encode(#[from] std::io::Error),
}

impl StoreError {
    /// Whether another try may go better: another try writes under another attempt.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Taken { .. } => true,
            Self::Call { transient, .. } => *transient,
            Self::Differs { .. } | Self::Encode(_) => false,
        }
    }

    fn call<E>(call: &'static str, key: &str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|r| r.status().as_u16());
        let refused = matches!(error, SdkError::ServiceError(_)) && status.is_some_and(|s| (400..500).contains(&s));
        Self::Call { call, key: key.to_owned(), transient: !refused, source: Box::new(error) }
    }
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// How long it is.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sha256: String,
}

/// The evidence bucket.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    bucket: String,
    key_arn: String,
}

impl Store {
    /// The bucket of that name, written with this key.
    pub fn new(client: Client, bucket: String, key_arn: String) -> Self {
        Self { client, bucket, key_arn }
    }

    /// Puts an object where none is. S3 compares the SHA-256 and refuses anything else.
    pub async fn put(&self, key: String, content_type: &str, body: Vec<u8>) -> Result<Stored, StoreError> {
        let digest = Sha256::digest(&body);
        let checksum = base64::encode(digest);
        let stored = Stored { bytes: body.len() as u64, sha256: hex(&digest), key };
        let result = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&stored.key)
            .content_type(content_type)
            .if_none_match("*")
            .server_side_encryption(ServerSideEncryption::AwsKms)
            .ssekms_key_id(&self.key_arn)
            .checksum_sha256(&checksum)
            .body(ByteStream::from(body))
            .send()
            .await;
        match result {
            Ok(_) => Ok(stored),
            // A put that got no answer and was tried again by the client finds its own first try.
            Err(error) if error.raw_response().is_some_and(|r| [409, 412].contains(&r.status().as_u16())) => {
                if self.checksum_of(&stored.key).await? == Some(checksum) {
                    Ok(stored)
                } else {
                    Err(StoreError::Taken { key: stored.key })
                }
            }
            Err(error) => Err(StoreError::call("s3:PutObject", &stored.key, error)),
        }
    }

    async fn checksum_of(&self, key: &str) -> Result<Option<String>, StoreError> {
        let head = self.client.head_object().bucket(&self.bucket).key(key).checksum_mode(ChecksumMode::Enabled);
        let answer = head.send().await.map_err(|e| StoreError::call("s3:HeadObject", key, e))?;
        Ok(answer.checksum_sha256)
    }

    /// What an object holds.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        let get = self.client.get_object().bucket(&self.bucket).key(key);
        let answer = get.send().await.map_err(|e| StoreError::call("s3:GetObject", key, e))?;
        let body = answer.body.collect().await.map_err(|e| StoreError::Call {
            call: "s3:GetObject",
            key: key.to_owned(),
            transient: true,
            source: Box::new(e),
        })?;
        Ok(body.to_vec())
    }

    /// Reads an object back and compares.
    pub async fn verify(&self, stored: &Stored) -> Result<(), StoreError> {
        if hex(&Sha256::digest(self.get(&stored.key).await?)) == stored.sha256 {
            Ok(())
        } else {
            Err(StoreError::Differs { key: stored.key.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::evidence::testing::Bucket;

    const KEY: &str = "incidents/111122223333/fb-0/000001/000001/logs/x-0001.jsonl.gz";

    #[tokio::test]
    async fn an_object_is_put_once_encrypted_and_checked() {
        let bucket = Bucket::default();
        let stored = bucket.store().put(KEY.into(), "application/gzip", b"evidence".to_vec()).await.unwrap();
        let requests = bucket.requests();
        assert_eq!(requests.len(), 1);
        let put = &requests[0];
        assert_eq!(put.line, format!("PUT /evidence/{KEY}?x-id=PutObject"));
        for (name, value) in [
            ("if-none-match", "*"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:eu-west-1:111122223333:key/k"),
            ("x-amz-checksum-sha256", "7oJQ+3bglLNLRx8Tpz275R0a4ULp31nXwNMewg8KCo4="),
            ("content-type", "application/gzip"),
        ] {
            assert_eq!(put.headers.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(put.body, b"evidence");
        assert_eq!((stored.bytes, stored.sha256), (8, firebreak_model::ids::sha256_hex(b"evidence")));
    }

    #[tokio::test]
    async fn what_is_there_is_not_overwritten_and_the_same_again_is_no_error() {
        let bucket = Bucket::default();
        let store = bucket.store();
        store.put(KEY.into(), "application/gzip", b"evidence".to_vec()).await.unwrap();
        store.put(KEY.into(), "application/gzip", b"evidence".to_vec()).await.unwrap();
        let error = store.put(KEY.into(), "application/gzip", b"other".to_vec()).await.unwrap_err();
        assert!(matches!(error, StoreError::Taken { .. }) && error.is_transient(), "{error:?}");
        assert_eq!(bucket.object(KEY).unwrap(), b"evidence");
    }

    #[tokio::test]
    async fn what_reads_back_otherwise_is_noticed() {
        let bucket = Bucket::default();
        let store = bucket.store();
        let stored = store.put(KEY.into(), "application/gzip", b"evidence".to_vec()).await.unwrap();
        store.verify(&stored).await.unwrap();
        bucket.replace(KEY, b"forged");
        assert!(matches!(store.verify(&stored).await, Err(StoreError::Differs { .. })));
    }

    #[tokio::test]
    async fn a_refusal_is_for_a_person_and_a_fault_for_another_try() {
        for (status, transient) in [(403, false), (404, false), (503, true), (500, true)] {
            let bucket = Bucket::default();
            bucket.answer_puts_with(status);
            let error = bucket.store().put(KEY.into(), "application/gzip", Vec::new()).await.unwrap_err();
            assert_eq!(error.is_transient(), transient, "{status}");
        }
    }
}
