//! The evidence bucket: put once, never overwritten, encrypted with our key, checked by S3 on the way in.

mod read;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, ServerSideEncryption,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::base64;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use bytes::Bytes;
use firebreak_model::ids::hex;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why the bucket did not take evidence, or did not give it back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something else lies there.
    #[error("`{key}` holds something else already")]
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
    /// The task that hashed or uploaded a part ended early.
    #[error("the upload of a part broke off")]
    Broken(#[from] tokio::task::JoinError),
    /// It cannot be written down.
    #[error("a document cannot be encoded")]
    Encode(#[from] std::io::Error),
}

impl StoreError {
    /// Whether another try may go better.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Call { transient, .. } => *transient,
            Self::Broken(_) => true,
            Self::Taken { .. } | Self::Differs { .. } | Self::Encode(_) => false,
        }
    }

    fn call<E>(call: &'static str, key: &str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|r| r.status().as_u16());
        // An upload that S3 no longer knows is begun anew.
        let lost = error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("NoSuchUpload");
        let refused =
            !lost && matches!(error, SdkError::ServiceError(_)) && status.is_some_and(|s| (400..500).contains(&s));
        Self::Call { call, key: key.to_owned(), transient: !refused, source: Box::new(error) }
    }
}

/// Whether S3 says that something lies there already, or is being put there by someone else.
fn is_taken<E>(error: &SdkError<E, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|r| [409, 412].contains(&r.status().as_u16()))
}

/// An upload in parts.
#[derive(Debug)]
pub(super) struct Upload {
    id: String,
    parts: Vec<CompletedPart>,
    /// The digests of the parts, of which S3 makes the checksum of the whole.
    digests: Sha256,
}

/// A part, with the SHA-256 that S3 is to compare.
#[derive(Debug)]
pub(super) struct Part {
    body: Vec<u8>,
    sha256: [u8; 32],
}

impl Part {
    pub(super) fn new(body: Vec<u8>) -> Self {
        let sha256 = Sha256::digest(&body).into();
        Self { body, sha256 }
    }
}

/// What a bucket lets us do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// Put objects, and read them back.
    #[default]
    ReadBack,
    /// Put objects: the bucket is another account's, and gives nothing.
    WriteOnly,
}

/// What was read of an object.
struct Read {
    bytes: u64,
    sha256: String,
    locked_until: Option<Timestamp>,
}

/// The evidence bucket.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    bucket: String,
    key_arn: String,
    access: Access,
}

impl Store {
    /// The bucket of that name, written with this key.
    pub fn new(client: Client, bucket: String, key_arn: String, access: Access) -> Self {
        Self { client, bucket, key_arn, access }
    }

    /// Whether what was put can be read back.
    pub(super) fn gives(&self) -> bool {
        self.access == Access::ReadBack
    }

    /// Puts an object of which there is only one. Where the bucket gives nothing, what lies there is taken for it: whoever
    /// reads the evidence finds out.
    pub(super) async fn put_the_one(&self, key: &str, content_type: &str, body: Vec<u8>) -> Result<(), StoreError> {
        match self.put(key, content_type, body).await {
            Err(StoreError::Taken { .. }) if !self.gives() => Ok(()),
            put => put,
        }
    }

    /// Puts an object where none is. S3 compares the SHA-256 and refuses anything else; the same again is no error.
    pub async fn put(&self, key: &str, content_type: &str, body: Vec<u8>) -> Result<(), StoreError> {
        let checksum = base64::encode(Sha256::digest(&body));
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(content_type)
            .if_none_match("*")
            .server_side_encryption(ServerSideEncryption::AwsKms)
            .ssekms_key_id(&self.key_arn)
            .checksum_sha256(&checksum)
            .body(ByteStream::from(body));
        // S3 holds the body to the checksum, which is signed: hashing it once more for the signature proves nothing.
        match put.customize().disable_payload_signing().send().await {
            Ok(_) => Ok(()),
            Err(error) if is_taken(&error) => self.is_the_same(key, &checksum).await,
            Err(error) => Err(StoreError::call("s3:PutObject", key, error)),
        }
    }

    /// Begins an upload in parts.
    pub(super) async fn begin(&self, key: &str, content_type: &str) -> Result<Upload, StoreError> {
        let create = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .content_type(content_type)
            .server_side_encryption(ServerSideEncryption::AwsKms)
            .ssekms_key_id(&self.key_arn)
            .checksum_algorithm(ChecksumAlgorithm::Sha256);
        let answer = create.send().await.map_err(|e| StoreError::call("s3:CreateMultipartUpload", key, e))?;
        Ok(Upload { id: answer.upload_id.unwrap_or_default(), parts: Vec::new(), digests: Sha256::new() })
    }

    /// Uploads the next part. S3 compares its SHA-256. Gives back the room that the part took.
    pub(super) async fn part(&self, key: &str, upload: &mut Upload, part: Part) -> Result<Vec<u8>, StoreError> {
        let body = Bytes::from(part.body);
        let checksum = base64::encode(part.sha256);
        let number = i32::try_from(upload.parts.len() + 1).unwrap_or(i32::MAX);
        let call = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(&upload.id)
            .part_number(number)
            .checksum_sha256(&checksum)
            .body(ByteStream::from(body.clone()));
        let answer = call.customize().disable_payload_signing().send().await;
        let answer = answer.map_err(|e| StoreError::call("s3:UploadPart", key, e))?;
        let completed = CompletedPart::builder().part_number(number).checksum_sha256(checksum);
        upload.parts.push(completed.set_e_tag(answer.e_tag).build());
        upload.digests.update(part.sha256);
        // Nobody else holds it any more, or it is freed by whoever does.
        let mut room = body.try_into_mut().unwrap_or_default();
        room.clear();
        Ok(room.into())
    }

    /// Makes the parts an object, where none is.
    pub(super) async fn complete(&self, key: &str, upload: Upload) -> Result<(), StoreError> {
        let checksum = format!("{}-{}", base64::encode(upload.digests.finalize()), upload.parts.len());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(upload.parts)).build();
        let complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(&upload.id)
            .if_none_match("*")
            .multipart_upload(parts);
        match complete.send().await {
            Ok(_) => Ok(()),
            Err(error) if is_taken(&error) => self.is_the_same(key, &checksum).await,
            Err(error) => Err(StoreError::call("s3:CompleteMultipartUpload", key, error)),
        }
    }

    /// A put that got no answer and was tried again finds its own first try. Where the bucket gives nothing, nobody knows
    /// what lies there: then it is taken, and ours goes elsewhere.
    async fn is_the_same(&self, key: &str, checksum: &str) -> Result<(), StoreError> {
        if !self.gives() {
            return Err(StoreError::Taken { key: key.to_owned() });
        }
        let head = self.client.head_object().bucket(&self.bucket).key(key).checksum_mode(ChecksumMode::Enabled);
        match head.send().await {
            Ok(answer) if answer.checksum_sha256.as_deref() == Some(checksum) => Ok(()),
            Ok(_) => Err(StoreError::Taken { key: key.to_owned() }),
            // Somebody else was about to put it there, and did not.
            Err(error) if error.raw_response().is_some_and(|r| r.status().as_u16() == 404) => {
                let source = Box::new(error);
                Err(StoreError::Call { call: "s3:HeadObject", key: key.to_owned(), transient: true, source })
            }
            Err(error) => Err(StoreError::call("s3:HeadObject", key, error)),
        }
    }

    /// Length and SHA-256 of an object, read piece by piece; `None` where there is none.
    pub async fn digest(&self, key: &str) -> Result<Option<(u64, String)>, StoreError> {
        Ok(self.read(key).await?.map(|read| (read.bytes, read.sha256)))
    }

    async fn read(&self, key: &str) -> Result<Option<Read>, StoreError> {
        let answer = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) if error.raw_response().is_some_and(|r| r.status().as_u16() == 404) => return Ok(None),
            Err(error) => return Err(StoreError::call("s3:GetObject", key, error)),
        };
        let until = answer.object_lock_retain_until_date.and_then(|at| Timestamp::from_second(at.secs()).ok());
        let locked_until = until.filter(|_| answer.object_lock_mode.is_some());
        let mut body = answer.body;
        let (mut bytes, mut digest) = (0, Sha256::new());
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|e| StoreError::Call {
                call: "s3:GetObject",
                key: key.to_owned(),
                transient: true,
                source: Box::new(e),
            })?;
            bytes += chunk.len() as u64;
            digest.update(&chunk);
        }
        Ok(Some(Read { bytes, sha256: hex(&digest.finalize()), locked_until }))
    }

    /// Reads an object back and compares, where the bucket lets us: S3 has compared its SHA-256 when it took it. Answers until when nobody can delete it; `None` where anybody may who has the right.
    pub async fn verify(&self, key: &str, sha256: &str) -> Result<Option<Timestamp>, StoreError> {
        if !self.gives() {
            return Ok(None);
        }
        match self.read(key).await? {
            Some(read) if read.sha256 == sha256 => Ok(read.locked_until),
            _ => Err(StoreError::Differs { key: key.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::evidence::testing::Bucket;

    const KEY: &str = "incidents/111122223333/fb-0/000001/000001/logs/x-0001.jsonl.gz";

    async fn put(bucket: &Bucket, body: &[u8]) -> Result<(), StoreError> {
        bucket.store().put(KEY, "application/gzip", body.to_vec()).await
    }

    async fn uploaded(bucket: &Bucket, parts: &[&[u8]]) -> Result<(), StoreError> {
        let store = bucket.store();
        let mut upload = store.begin(KEY, "application/zstd").await?;
        for part in parts {
            store.part(KEY, &mut upload, Part::new(part.to_vec())).await?;
        }
        store.complete(KEY, upload).await
    }

    #[tokio::test]
    async fn an_object_is_put_once_encrypted_and_checked() {
        let bucket = Bucket::default();
        put(&bucket, b"evidence").await.unwrap();
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
        assert!(put.headers.get("authorization").is_some_and(|signed| signed.contains("x-amz-checksum-sha256")));
        assert_eq!(put.body, b"evidence");
        let read = bucket.store().digest(KEY).await.unwrap();
        assert_eq!(read, Some((8, firebreak_model::ids::sha256_hex(b"evidence"))));
    }

    #[tokio::test]
    async fn an_upload_in_parts_is_checked_part_by_part_and_completed_once() {
        let bucket = Bucket::default();
        uploaded(&bucket, &[b"one", b"two"]).await.unwrap();
        assert_eq!(bucket.object(KEY).unwrap(), b"onetwo");
        let requests = bucket.requests();
        let lines: Vec<&str> = requests.iter().map(|r| r.line.split('?').next().unwrap()).collect();
        let path = format!("/evidence/{KEY}");
        assert_eq!(lines, ["POST", "PUT", "PUT", "POST"].map(|method| format!("{method} {path}")));
        assert_eq!(requests[0].headers["x-amz-checksum-algorithm"], "SHA256");
        assert_eq!(requests[0].headers["x-amz-server-side-encryption"], "aws:kms");
        for (part, body) in [(1, b"one"), (2, b"two")] {
            let digest = base64::encode(Sha256::digest(body));
            assert_eq!(requests[part].headers["x-amz-checksum-sha256"], digest);
            assert!(String::from_utf8_lossy(&requests[3].body).contains(&digest));
        }
        assert_eq!(requests[3].headers["if-none-match"], "*");
    }

    #[tokio::test]
    async fn what_is_there_is_not_overwritten_and_the_same_again_is_no_error() {
        let bucket = Bucket::default();
        put(&bucket, b"evidence").await.unwrap();
        put(&bucket, b"evidence").await.unwrap();
        let error = put(&bucket, b"other").await.unwrap_err();
        assert!(matches!(error, StoreError::Taken { .. }) && !error.is_transient(), "{error:?}");
        assert_eq!(bucket.object(KEY).unwrap(), b"evidence");
        // An object of one piece and the same bytes in parts have other checksums.
        assert!(matches!(uploaded(&bucket, &[b"evidence"]).await, Err(StoreError::Taken { .. })));

        let bucket = Bucket::default();
        uploaded(&bucket, &[b"one", b"two"]).await.unwrap();
        uploaded(&bucket, &[b"one", b"two"]).await.unwrap();
        let error = uploaded(&bucket, &[b"one", b"TWO"]).await.unwrap_err();
        assert!(matches!(error, StoreError::Taken { .. }), "{error:?}");
        assert_eq!(bucket.object(KEY).unwrap(), b"onetwo");
    }

    #[tokio::test]
    async fn what_reads_back_otherwise_is_noticed() {
        let bucket = Bucket::default();
        let store = bucket.store();
        put(&bucket, b"evidence").await.unwrap();
        let sha256 = firebreak_model::ids::sha256_hex(b"evidence");
        assert_eq!(store.verify(KEY, &sha256).await.unwrap(), None, "nothing keeps anybody from deleting it");
        bucket.lock_until("2027-11-21T03:00:00Z");
        assert_eq!(store.verify(KEY, &sha256).await.unwrap(), Some("2027-11-21T03:00:00Z".parse().unwrap()));
        bucket.replace(KEY, b"forged");
        assert!(matches!(store.verify(KEY, &sha256).await, Err(StoreError::Differs { .. })));
        assert!(matches!(store.verify("elsewhere", &sha256).await, Err(StoreError::Differs { .. })));
    }

    #[tokio::test]
    async fn of_a_bucket_that_gives_nothing_nothing_is_asked() {
        let bucket = Bucket::of_another_account();
        let store = bucket.store();
        store.put(KEY, "application/gzip", b"evidence".to_vec()).await.unwrap();
        let again = store.put(KEY, "application/gzip", b"evidence".to_vec()).await;
        assert!(matches!(again, Err(StoreError::Taken { .. })), "whether it is the same nobody knows");
        store.put_the_one(KEY, "application/gzip", b"evidence".to_vec()).await.unwrap();
        let sha256 = firebreak_model::ids::sha256_hex(b"evidence");
        assert_eq!(store.verify(KEY, &sha256).await.unwrap(), None);
        assert!(bucket.requests().iter().all(|request| request.line.starts_with("PUT ")));
        let ours = Bucket::default();
        put(&ours, b"evidence").await.unwrap();
        assert!(ours.store().put_the_one(KEY, "application/gzip", b"other".to_vec()).await.is_err());
    }

    #[tokio::test]
    async fn a_refusal_is_for_a_person_and_a_fault_for_another_try() {
        for (status, transient) in [(403, false), (404, false), (503, true), (500, true)] {
            let bucket = Bucket::default();
            bucket.answer_puts_with(Some(status));
            assert_eq!(put(&bucket, b"").await.unwrap_err().is_transient(), transient, "{status}");
            assert_eq!(uploaded(&bucket, &[b"one"]).await.unwrap_err().is_transient(), transient, "{status}");
        }
    }
}
