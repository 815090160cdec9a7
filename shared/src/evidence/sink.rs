//! One object on its way into the bucket: compressed, hashed on both sides, in parts. What is held in memory is one
//! part, whatever the object's size.

use std::io::Write as _;

use firebreak_model::evidence::Codec;
use firebreak_model::ids::hex;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::store::{Store, StoreError, Upload};

/// What is held in memory of an object. S3 takes no part but the last of less than 5 MiB, and no more than 10,000.
pub(super) const PART_BYTES: usize = 8 << 20;

/// So much is compressed at once, so that a part is never much longer than it may be.
const BITE: usize = 1 << 20;

enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
    /// What is compressed already stays as it is.
    AsItIs(Vec<u8>),
}

impl Encoder {
    fn new(codec: Option<Codec>, room: usize) -> Result<Self, StoreError> {
        let out = Vec::with_capacity(room);
        Ok(match codec {
            Some(Codec::Zstd) => Self::Zstd(zstd::stream::write::Encoder::new(out, 1)?),
            Some(Codec::Gzip) => Self::Gzip(GzEncoder::new(out, Compression::default())),
            None => Self::AsItIs(out),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Zstd(zstd) => zstd.write_all(bytes),
            Self::Gzip(gzip) => gzip.write_all(bytes),
            Self::AsItIs(out) => out.write_all(bytes),
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Zstd(zstd) => zstd.get_mut(),
            Self::Gzip(gzip) => gzip.get_mut(),
            Self::AsItIs(out) => out,
        }
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zstd(zstd) => zstd.finish(),
            Self::Gzip(gzip) => gzip.finish(),
            Self::AsItIs(out) => Ok(out),
        }
    }
}

/// Takes what becomes one object.
pub struct Sink<'a> {
    store: &'a Store,
    key: String,
    codec: Option<Codec>,
    part_bytes: usize,
    encoder: Encoder,
    content: Sha256,
    content_bytes: u64,
    stored: Sha256,
    stored_bytes: u64,
    lines: u64,
    upload: Option<Upload>,
}

impl std::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What S3 is told that it is. What stays as it is are code packages.
fn content_type(codec: Option<Codec>) -> &'static str {
    codec.map_or("application/zip", Codec::content_type)
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// How many lines it holds.
    pub lines: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// SHA-256 of the bytes as stored.
    pub sha256: String,
    /// Bytes before compression.
    pub content_bytes: u64,
    /// SHA-256 of the bytes before compression.
    pub content_sha256: String,
}

impl<'a> Sink<'a> {
    /// For an object under that key.
    ///
    /// # Errors
    /// Where there is no room to compress in.
    pub fn new(store: &'a Store, key: String, codec: Codec) -> Result<Self, StoreError> {
        Self::in_parts_of(store, key, Some(codec), PART_BYTES)
    }

    pub(super) fn in_parts_of(
        store: &'a Store,
        key: String,
        codec: Option<Codec>,
        part_bytes: usize,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            key,
            codec,
            part_bytes,
            encoder: Encoder::new(codec, part_bytes + BITE)?,
            content: Sha256::new(),
            content_bytes: 0,
            stored: Sha256::new(),
            stored_bytes: 0,
            lines: 0,
            upload: None,
        })
    }

    /// SHA-256 of what was taken so far.
    pub(super) fn content_sha256(&self) -> String {
        hex(&self.content.clone().finalize())
    }

    /// How many bytes are compressed so far.
    pub(super) fn stored_bytes(&mut self) -> u64 {
        self.stored_bytes + self.encoder.out().len() as u64
    }

    /// Takes a document, which becomes one line.
    ///
    /// # Errors
    /// Where it cannot be written down, or a part that it fills cannot be stored.
    pub async fn line(&mut self, document: &impl Serialize) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(document).map_err(std::io::Error::from)?;
        line.push(b'\n');
        self.lines += 1;
        self.write(&line).await
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// Where a part that they fill cannot be stored.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        for bite in bytes.chunks(BITE) {
            self.encoder.write(bite)?;
            self.content.update(bite);
            self.content_bytes += bite.len() as u64;
            if self.encoder.out().len() >= self.part_bytes {
                let next = Vec::with_capacity(self.part_bytes + BITE);
                let part = std::mem::replace(self.encoder.out(), next);
                self.send(part).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, part: Vec<u8>) -> Result<(), StoreError> {
        self.stored.update(&part);
        self.stored_bytes += part.len() as u64;
        let upload = match self.upload.as_mut() {
            Some(upload) => upload,
            None => self.upload.insert(self.store.begin(&self.key, content_type(self.codec)).await?),
        };
        self.store.part(&self.key, upload, part).await
    }

    /// Stores the rest. What fits into one part is put at once.
    ///
    /// # Errors
    /// Where it cannot be stored, or something else lies there.
    pub async fn finish(mut self) -> Result<Stored, StoreError> {
        let encoder = std::mem::replace(&mut self.encoder, Encoder::new(self.codec, 0)?);
        let rest = encoder.finish()?;
        match self.upload.take() {
            None => {
                self.stored.update(&rest);
                self.stored_bytes += rest.len() as u64;
                self.store.put(&self.key, content_type(self.codec), rest).await?;
            }
            Some(upload) => {
                self.upload = Some(upload);
                if !rest.is_empty() {
                    self.send(rest).await?;
                }
                if let Some(upload) = self.upload.take() {
                    self.store.complete(&self.key, upload).await?;
                }
            }
        }
        Ok(Stored {
            key: self.key,
            lines: self.lines,
            bytes: self.stored_bytes,
            sha256: hex(&self.stored.finalize()),
            content_bytes: self.content_bytes,
            content_sha256: hex(&self.content.finalize()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ids::sha256_hex;
    use serde_json::json;

    use super::*;
    use crate::evidence::testing::{Bucket, unpacked};

    /// Lines that cannot be made much shorter.
    fn noise(lines: u32) -> String {
        let line = |n: u32| format!("{}\n", json!({"n": n, "noise": sha256_hex(&n.to_le_bytes())}));
        (0..lines).map(line).collect()
    }

    #[tokio::test]
    async fn an_object_of_any_size_is_stored_part_by_part_and_its_digests_are_its_own() {
        for (codec, part_bytes, calls) in [
            (Codec::Zstd, PART_BYTES, 1..=1),
            (Codec::Zstd, 100_000, 4..=20),
            (Codec::Gzip, PART_BYTES, 1..=1),
            (Codec::Gzip, 100_000, 4..=20),
        ] {
            let bucket = Bucket::default();
            let store = bucket.store();
            let content = noise(8_000);
            let mut sink = Sink::in_parts_of(&store, "p/x".into(), Some(codec), part_bytes).unwrap();
            for line in content.lines() {
                sink.line(&serde_json::value::RawValue::from_string(line.to_owned()).unwrap()).await.unwrap();
            }
            let stored = sink.finish().await.unwrap();
            let bytes = bucket.object("p/x").unwrap();
            assert!(unpacked(&bytes) == content);
            assert_eq!((stored.bytes, stored.sha256), (bytes.len() as u64, sha256_hex(&bytes)));
            assert_eq!((stored.content_bytes, stored.lines), (content.len() as u64, 8_000));
            assert_eq!(stored.content_sha256, sha256_hex(content.as_bytes()));
            assert!(calls.contains(&bucket.requests().len()), "{}", bucket.requests().len());
            let most = bucket.requests().iter().map(|request| request.body.len()).max().unwrap();
            assert!(most <= part_bytes + BITE, "{most}");
        }
    }

    #[tokio::test]
    async fn the_same_content_is_the_same_object_however_it_came() {
        let content = noise(4_000);
        let mut seen = Vec::new();
        for bite in [1_000, 65_536, 1 << 20] {
            let bucket = Bucket::default();
            let store = bucket.store();
            let mut sink = Sink::new(&store, "p/x".into(), Codec::Zstd).unwrap();
            for bytes in content.as_bytes().chunks(bite) {
                sink.write(bytes).await.unwrap();
            }
            seen.push(sink.finish().await.unwrap().sha256);
        }
        assert!(seen.iter().all(|sha256| *sha256 == seen[0]), "{seen:?}");
    }

    #[tokio::test]
    async fn what_is_compressed_already_is_stored_as_it_is() {
        for part_bytes in [PART_BYTES, 100_000] {
            let bucket = Bucket::default();
            let store = bucket.store();
            let package = noise(8_000);
            let mut sink = Sink::in_parts_of(&store, "p/x.zip".into(), None, part_bytes).unwrap();
            for bytes in package.as_bytes().chunks(30_000) {
                sink.write(bytes).await.unwrap();
            }
            assert_eq!(sink.content_sha256(), sha256_hex(package.as_bytes()));
            let stored = sink.finish().await.unwrap();
            assert!(bucket.object("p/x.zip").unwrap() == package.as_bytes());
            assert_eq!(bucket.requests()[0].headers["content-type"], "application/zip");
            assert_eq!(
                (stored.bytes, stored.content_bytes, stored.lines),
                (package.len() as u64, package.len() as u64, 0)
            );
            assert_eq!(
                (&stored.sha256, &stored.content_sha256),
                (&stored.content_sha256, &sha256_hex(package.as_bytes()))
            );
        }
    }

    #[tokio::test]
    async fn nothing_found_is_an_object_without_lines() {
        let bucket = Bucket::default();
        let store = bucket.store();
        let stored = Sink::new(&store, "p/x".into(), Codec::Zstd).unwrap().finish().await.unwrap();
        assert_eq!((stored.lines, stored.content_bytes), (0, 0));
        assert_eq!(unpacked(&bucket.object("p/x").unwrap()), "");
    }

    #[tokio::test]
    async fn an_upload_cut_at_any_call_leaves_no_object() {
        let content = noise(24_000);
        let stored = async |bucket: &Bucket| {
            let store = bucket.store();
            let mut sink = Sink::in_parts_of(&store, "p/x".into(), Some(Codec::Zstd), 100_000)?;
            sink.write(content.as_bytes()).await?;
            sink.finish().await
        };
        let undisturbed = Bucket::default();
        stored(&undisturbed).await.unwrap();
        let calls = undisturbed.requests().len();
        assert!(calls > 4, "{calls}");
        for cut in 0..calls {
            let bucket = Bucket::default();
            bucket.fail_from(cut);
            let error = stored(&bucket).await.unwrap_err();
            assert!(error.is_transient(), "{cut}: {error}");
            assert_eq!(bucket.object("p/x"), None, "{cut}");
        }
    }

    #[tokio::test]
    async fn foreign_text_stays_on_its_line() {
        let bucket = Bucket::default();
        let store = bucket.store();
        let mut sink = Sink::new(&store, "p/x".into(), Codec::Zstd).unwrap();
        let message = format!("a\r\nb\u{0}\u{1b}[31m\u{2028}\"\\ \u{1f525}{}", "x".repeat(256 << 10));
        sink.line(&json!({"message": message})).await.unwrap();
        sink.finish().await.unwrap();
        let content = unpacked(&bucket.object("p/x").unwrap());
        assert_eq!(content.matches('\n').count(), 1);
        let back: serde_json::Value = serde_json::from_str(&content).unwrap();
        assert_eq!(back["message"], message);
    }
}
