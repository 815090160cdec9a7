//! What was stored, read back: line by line in bounded memory, and held to its digest.

use std::io::Write as _;

use firebreak_model::evidence::{Codec, Entry};
use firebreak_model::ids::hex;
use flate2::write::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::{Store, StoreError};

/// Unpacks what it is given into memory.
enum Decoder {
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Decoder {
    fn of(codec: Codec) -> std::io::Result<Self> {
        Ok(match codec {
            Codec::Zstd => Self::Zstd(zstd::stream::write::Decoder::new(Vec::new())?),
            Codec::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Zstd(zstd) => zstd.write_all(bytes).and_then(|()| zstd.flush()),
            Self::Gzip(gzip) => gzip.write_all(bytes).and_then(|()| gzip.flush()),
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Zstd(zstd) => zstd.get_mut(),
            Self::Gzip(gzip) => gzip.get_mut(),
        }
    }

    /// Gives every whole line to `each`, and the rest too at the end.
    fn lines(&mut self, at_the_end: bool, each: &mut impl FnMut(&[u8])) {
        let out = self.out();
        let Some(end) = out.iter().rposition(|byte| *byte == b'\n') else {
            if at_the_end && !out.is_empty() {
                each(&std::mem::take(out));
            }
            return;
        };
        let rest = out.split_off(end + 1);
        out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(&mut *each);
        *out = rest;
        if at_the_end && !out.is_empty() {
            each(&std::mem::take(out));
        }
    }
}

impl Store {
    /// The whole of an object; `None` where there is none, or where the bucket gives nothing.
    pub(in crate::evidence) async fn whole(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if !self.gives() {
            return Ok(None);
        }
        let answer = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) if error.raw_response().is_some_and(|r| r.status().as_u16() == 404) => return Ok(None),
            Err(error) => return Err(StoreError::call("s3:GetObject", key, error)),
        };
        let body = answer.body.collect().await.map_err(|error| broken(key, error))?;
        Ok(Some(body.into_bytes().to_vec()))
    }

    /// Gives each line of a compressed object to `each`. What is not as it was stored is an error, though its lines were
    /// given by then.
    pub(in crate::evidence) async fn lines(
        &self,
        entry: &Entry,
        codec: Codec,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), StoreError> {
        let key = &entry.key;
        let differs = || StoreError::Differs { key: key.clone() };
        let answer = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) if error.raw_response().is_some_and(|r| r.status().as_u16() == 404) => return Err(differs()),
            Err(error) => return Err(StoreError::call("s3:GetObject", key, error)),
        };
        let (mut body, mut digest) = (answer.body, Sha256::new());
        let mut decoder = Decoder::of(codec)?;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| broken(key, error))?;
            digest.update(&chunk);
            // What cannot be unpacked is not what was stored.
            decoder.write(&chunk).map_err(|_| differs())?;
            decoder.lines(false, &mut each);
        }
        decoder.lines(true, &mut each);
        if hex(&digest.finalize()) == entry.sha256 { Ok(()) } else { Err(differs()) }
    }
}

fn broken(key: &str, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Call { call: "s3:GetObject", key: key.to_owned(), transient: true, source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::evidence::sink::Sink;
    use crate::evidence::testing::Bucket;

    fn entry(stored: &crate::evidence::sink::Stored) -> Entry {
        let at = jiff::Timestamp::UNIX_EPOCH;
        serde_json::from_value(json!({"key": stored.key, "what": "", "collector": "calls", "sources": [],
            "collected_at": at, "lines": stored.lines, "bytes": stored.bytes, "sha256": stored.sha256,
            "content_bytes": stored.content_bytes, "content_sha256": stored.content_sha256}))
        .unwrap()
    }

    #[tokio::test]
    async fn lines_come_back_as_they_were_written_and_what_was_changed_is_noticed() {
        for codec in [Codec::Zstd, Codec::Gzip] {
            let bucket = Bucket::default();
            let store = bucket.store();
            let mut sink = Sink::new(&store, "p/x".into(), codec).unwrap();
            for n in 0..50_000_u32 {
                sink.line(&json!({"n": n})).await.unwrap();
            }
            let entry = entry(&sink.finish().await.unwrap());
            let mut read = Vec::new();
            store
                .lines(&entry, codec, |line| read.push(serde_json::from_slice::<serde_json::Value>(line).unwrap()))
                .await
                .unwrap();
            assert_eq!(read.len(), 50_000);
            assert!(read.iter().enumerate().all(|(n, line)| line["n"] == n));

            let mut changed = bucket.object("p/x").unwrap();
            let middle = changed.len() / 2;
            changed[middle] ^= 1;
            bucket.replace("p/x", &changed);
            assert!(matches!(store.lines(&entry, codec, |_| ()).await, Err(StoreError::Differs { .. })));
            let gone = Entry { key: "elsewhere".to_owned(), ..entry };
            assert!(matches!(store.lines(&gone, codec, |_| ()).await, Err(StoreError::Differs { .. })));
        }
    }
}
