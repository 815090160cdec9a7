//! Writes JSON Lines, compressed, into numbered objects: memory stays bounded whatever a log group holds.

use std::io::Write as _;

use firebreak_model::ids::hex;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::manifest::{ApiCall, Entry};
use super::store::{Store, StoreError};
use crate::clock;

/// A part is closed when it holds this many compressed bytes.
const PART_BYTES: usize = 8 << 20;

/// Takes documents and stores them in parts: `<base>-0001.jsonl.gz`, `<base>-0002.jsonl.gz`, …
pub(super) struct Sink<'a> {
    store: &'a Store,
    base: String,
    what: String,
    sources: Vec<ApiCall>,
    part_bytes: usize,
    part: Part,
    entries: Vec<Entry>,
}

struct Part {
    gzip: GzEncoder<Vec<u8>>,
    content: Sha256,
    content_bytes: u64,
    lines: u64,
}

impl Part {
    fn new() -> Self {
        Self {
            gzip: GzEncoder::new(Vec::new(), Compression::default()),
            content: Sha256::new(),
            content_bytes: 0,
            lines: 0,
        }
    }
}

impl<'a> Sink<'a> {
    /// A sink for documents about `what`.
    pub(super) fn new(store: &'a Store, base: String, what: &str) -> Self {
        Self {
            store,
            base,
            what: what.to_owned(),
            sources: Vec::new(),
            part_bytes: PART_BYTES,
            part: Part::new(),
            entries: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn rolling_at(mut self, part_bytes: usize) -> Self {
        self.part_bytes = part_bytes;
        self
    }

    /// Names a call that the documents come from.
    pub(super) fn source(&mut self, source: ApiCall) {
        self.sources.push(source);
    }

    /// Takes one document.
    pub(super) async fn line(&mut self, document: &impl Serialize) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(document).map_err(std::io::Error::from)?;
        line.push(b'\n');
        self.part.gzip.write_all(&line)?;
        self.part.content.update(&line);
        self.part.content_bytes += line.len() as u64;
        self.part.lines += 1;
        if self.part.gzip.get_ref().len() >= self.part_bytes {
            self.close().await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        let Part { gzip, content, content_bytes, lines } = std::mem::replace(&mut self.part, Part::new());
        let key = format!("{}-{:04}.jsonl.gz", self.base, self.entries.len() + 1);
        let stored = self.store.put(key, "application/gzip", gzip.finish()?).await?;
        self.entries.push(Entry {
            key: stored.key,
            what: self.what.clone(),
            sources: self.sources.clone(),
            collected_at: clock::now(),
            lines,
            bytes: stored.bytes,
            sha256: stored.sha256,
            content_bytes,
            content_sha256: hex(&content.finalize()),
        });
        Ok(())
    }

    /// Stores the rest. What was asked for and found empty is an object without lines, not a silence.
    /// What was stored before an error stays on the list.
    pub(super) async fn finish(mut self) -> (Vec<Entry>, Result<(), StoreError>) {
        let result = if self.part.lines > 0 || self.entries.is_empty() { self.close().await } else { Ok(()) };
        (self.entries, result)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ids::sha256_hex;
    use serde_json::json;

    use super::*;
    use crate::evidence::testing::{Bucket, unzipped};

    #[tokio::test]
    async fn parts_hold_every_line_once_and_their_digests_are_theirs() {
        let bucket = Bucket::default();
        let store = bucket.store();
        let mut sink = Sink::new(&store, "p/logs/x".into(), "w").rolling_at(1 << 10);
        let mut expected = String::new();
        for n in 0_u32..8_000 {
            let document = json!({"n": n, "noise": sha256_hex(&n.to_le_bytes())});
            expected.push_str(&document.to_string());
            expected.push('\n');
            sink.line(&document).await.unwrap();
        }
        let (entries, result) = sink.finish().await;
        result.unwrap();
        assert!(entries.len() > 2, "{}", entries.len());
        let mut all = String::new();
        for (n, entry) in entries.iter().enumerate() {
            assert_eq!(entry.key, format!("p/logs/x-{:04}.jsonl.gz", n + 1));
            let stored = bucket.object(&entry.key).unwrap();
            let content = unzipped(&stored);
            assert_eq!((entry.bytes, &entry.sha256), (stored.len() as u64, &sha256_hex(&stored)));
            assert_eq!(
                (entry.content_bytes, &entry.content_sha256),
                (content.len() as u64, &sha256_hex(content.as_bytes()))
            );
            assert_eq!(entry.lines, content.lines().count() as u64);
            all.push_str(&content);
        }
        assert!(all == expected, "the parts together are what went in");
    }

    #[tokio::test]
    async fn nothing_found_is_an_object_without_lines() {
        let bucket = Bucket::default();
        let store = bucket.store();
        let (entries, result) = Sink::new(&store, "p/logs/x".into(), "w").finish().await;
        result.unwrap();
        assert_eq!(entries.iter().map(|e| e.lines).collect::<Vec<_>>(), [0]);
        assert_eq!(unzipped(&bucket.object("p/logs/x-0001.jsonl.gz").unwrap()), "");
    }

    #[tokio::test]
    async fn what_was_stored_before_an_error_stays_on_the_list() {
        let bucket = Bucket::default();
        let store = bucket.store();
        let mut sink = Sink::new(&store, "p/x".into(), "w").rolling_at(0);
        sink.line(&1).await.unwrap();
        bucket.answer_puts_with(503);
        assert!(sink.line(&2).await.is_err());
        let (entries, _) = sink.finish().await;
        assert_eq!(entries.len(), 1);
    }

    #[tokio::test]
    async fn foreign_text_stays_on_its_line() {
        let bucket = Bucket::default();
        let store = bucket.store();
        let mut sink = Sink::new(&store, "p/x".into(), "w");
        let message = "a\r\nb\u{0}\u{1b}[31m\u{2028}\"\\ \u{1f525}";
        sink.line(&json!({"message": message})).await.unwrap();
        sink.finish().await.1.unwrap();
        let content = unzipped(&bucket.object("p/x-0001.jsonl.gz").unwrap());
        assert_eq!(content.matches('\n').count(), 1);
        let back: serde_json::Value = serde_json::from_str(&content).unwrap();
        assert_eq!(back["message"], message);
    }
}
