//! One object on its way into the bucket: compressed, hashed on both sides, in parts. A part is hashed and uploaded while
//! the next one is compressed; what is held in memory are these two, whatever the object's size.

use std::io::Write as _;

use firebreak_model::evidence::Codec;
use firebreak_model::ids::hex;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::store::{Part, Store, StoreError, Upload};

/// How long a part is, two of which are held in memory of an object. S3 takes no part but the last of less than 5 MiB, and no more than 10,000.
pub(super) const PART_BYTES: usize = 8 << 20;

/// So much is compressed and hashed at once, and neither more nor less before the end: an object is the same however its
/// content came, and a part never much longer than it may be.
const BITE: usize = 128 << 10;

/// Room for a part, and for what its last bite is longer.
const fn room(part_bytes: usize) -> usize {
    part_bytes + 2 * BITE
}

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

/// What was stored of an object, up to the end of a part.
struct Parts {
    upload: Upload,
    stored: Sha256,
    /// Where the last part was: the next one but one takes its place.
    room: Vec<u8>,
}

impl Parts {
    fn none(upload: Upload) -> Self {
        Self { upload, stored: Sha256::new(), room: Vec::new() }
    }
}

/// Hashes a part by itself, and as what follows on those before it. Elsewhere, for compressing goes on meanwhile.
async fn hashed(stored: &mut Sha256, part: Vec<u8>) -> Result<Part, StoreError> {
    let mut so_far = stored.clone();
    let both = tokio::task::spawn_blocking(move || {
        so_far.update(&part);
        (so_far, Part::new(part))
    });
    let (so_far, part) = both.await?;
    *stored = so_far;
    Ok(part)
}

/// Takes what becomes one object.
pub struct Sink<'a> {
    store: &'a Store,
    key: String,
    codec: Option<Codec>,
    part_bytes: usize,
    /// Less than a bite that waits for the rest of it.
    staged: Vec<u8>,
    encoder: Encoder,
    content: Sha256,
    content_bytes: u64,
    stored_bytes: u64,
    lines: u64,
    /// The part that is on its way: one, or none. It ends with the sink.
    under_way: JoinSet<Result<Parts, StoreError>>,
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
            staged: Vec::new(),
            encoder: Encoder::new(codec, room(part_bytes))?,
            content: Sha256::new(),
            content_bytes: 0,
            stored_bytes: 0,
            lines: 0,
            under_way: JoinSet::new(),
        })
    }

    /// SHA-256 of what was taken so far.
    pub(super) fn content_sha256(&self) -> String {
        hex(&self.content.clone().chain_update(&self.staged).finalize())
    }

    /// How many bytes there are so far: what waits for the rest of a bite is counted as it came.
    pub(super) fn stored_bytes(&mut self) -> u64 {
        self.stored_bytes + (self.encoder.out().len() + self.staged.len()) as u64
    }

    /// Takes a document, which becomes one line.
    ///
    /// # Errors
    /// Where it cannot be written down, or a part that it fills cannot be stored.
    pub async fn line(&mut self, document: &impl Serialize) -> Result<(), StoreError> {
        let before = self.staged.len();
        if let Err(error) = serde_json::to_writer(&mut self.staged, document) {
            self.staged.truncate(before);
            return Err(std::io::Error::from(error).into());
        }
        self.staged.push(b'\n');
        self.lines += 1;
        self.eat().await
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// Where a part that earlier ones filled could not be stored.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let missing = if self.staged.is_empty() { 0 } else { BITE.saturating_sub(self.staged.len()) };
        let (first, rest) = bytes.split_at(missing.min(bytes.len()));
        self.staged.extend_from_slice(first);
        self.eat().await?;
        let whole = rest.chunks_exact(BITE);
        let left = whole.remainder();
        for bite in whole {
            self.bite(bite).await?;
        }
        self.staged.extend_from_slice(left);
        Ok(())
    }

    /// Takes the whole bites of what waits.
    async fn eat(&mut self) -> Result<(), StoreError> {
        if self.staged.len() < BITE {
            return Ok(());
        }
        let mut staged = std::mem::take(&mut self.staged);
        let bites = staged.chunks_exact(BITE);
        let eaten = staged.len() - bites.remainder().len();
        for bite in bites {
            self.bite(bite).await?;
        }
        staged.drain(..eaten);
        self.staged = staged;
        Ok(())
    }

    async fn bite(&mut self, bite: &[u8]) -> Result<(), StoreError> {
        self.encoder.write(bite)?;
        self.content.update(bite);
        self.content_bytes += bite.len() as u64;
        if self.encoder.out().len() >= self.part_bytes {
            let mut before = self.landed().await?;
            let room = before.as_mut().map(|parts| std::mem::take(&mut parts.room)).unwrap_or_default();
            let next = self.emptied(room);
            let part = std::mem::replace(self.encoder.out(), next);
            self.stored_bytes += part.len() as u64;
            self.under_way.spawn(self.sending(before, part));
        } else if !self.under_way.is_empty() {
            // Compressing leaves nobody else a turn: this is the turn of the part that is on its way.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The place of a part that was stored, or another one.
    fn emptied(&self, mut place: Vec<u8>) -> Vec<u8> {
        place.clear();
        place.reserve_exact(room(self.part_bytes));
        place
    }

    /// Waits for the part that is on its way; `None` where none ever was.
    async fn landed(&mut self) -> Result<Option<Parts>, StoreError> {
        match self.under_way.join_next().await {
            None => Ok(None),
            Some(Ok(parts)) => parts.map(Some),
            Some(Err(broken)) => Err(broken.into()),
        }
    }

    /// Sends a part on its way, behind those before it. Whoever polls it uploads it.
    fn sending(
        &self,
        before: Option<Parts>,
        part: Vec<u8>,
    ) -> impl Future<Output = Result<Parts, StoreError>> + Send + use<> {
        let (store, key, content_type) = (self.store.clone(), self.key.clone(), content_type(self.codec));
        let sending = async move {
            let mut parts = match before {
                Some(parts) => parts,
                None => Parts::none(store.begin(&key, content_type).await?),
            };
            let Parts { upload, stored, .. } = &mut parts;
            let part = hashed(stored, part).await?;
            parts.room = store.part(&key, upload, part).await?;
            Ok(parts)
        };
        sending.in_current_span()
    }

    /// Stores the rest. What fits into one part is put at once.
    ///
    /// # Errors
    /// Where it cannot be stored, or something else lies there.
    pub async fn finish(mut self) -> Result<Stored, StoreError> {
        self.encoder.write(&self.staged)?;
        self.content.update(&self.staged);
        self.content_bytes += self.staged.len() as u64;
        let encoder = std::mem::replace(&mut self.encoder, Encoder::new(self.codec, 0)?);
        let rest = encoder.finish()?;
        let stored = match self.landed().await? {
            None => {
                self.stored_bytes = rest.len() as u64;
                let stored = Sha256::digest(&rest);
                self.store.put(&self.key, content_type(self.codec), rest).await?;
                stored
            }
            Some(before) => {
                self.stored_bytes += rest.len() as u64;
                let all = if rest.is_empty() { before } else { self.sending(Some(before), rest).await? };
                self.store.complete(&self.key, all.upload).await?;
                all.stored.finalize()
            }
        };
        Ok(Stored {
            key: self.key,
            lines: self.lines,
            bytes: self.stored_bytes,
            sha256: hex(&stored),
            content_bytes: self.content_bytes,
            content_sha256: hex(&self.content.finalize()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::ids::sha256_hex;
    use futures_util::poll;
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
            assert!(most <= room(part_bytes), "{most}");
        }
    }

    #[tokio::test]
    async fn the_same_content_is_the_same_object_however_it_came() {
        let content = noise(4_000);
        for codec in [Codec::Zstd, Codec::Gzip] {
            let mut seen = Vec::new();
            for bite in [1_000, 65_536, 1 << 20] {
                let bucket = Bucket::default();
                let store = bucket.store();
                let mut sink = Sink::new(&store, "p/x".into(), codec).unwrap();
                for bytes in content.as_bytes().chunks(bite) {
                    sink.write(bytes).await.unwrap();
                }
                seen.push(sink.finish().await.unwrap().sha256);
            }
            assert!(seen.iter().all(|sha256| *sha256 == seen[0]), "{seen:?}");
        }
    }

    #[tokio::test]
    async fn a_part_is_on_its_way_while_the_next_one_is_filled_and_never_more_than_one() {
        let bucket = Bucket::default();
        bucket.hold();
        let store = bucket.store();
        let mut sink = Sink::in_parts_of(&store, "p/x".into(), None, 2 * BITE).unwrap();
        sink.write(&vec![b'a'; 2 * BITE]).await.unwrap();
        sink.write(&vec![b'b'; BITE]).await.unwrap();
        assert_eq!(bucket.requests().len(), 1, "it is on its way, and nobody has waited for it");
        {
            let content = vec![b'c'; BITE];
            let mut third = std::pin::pin!(sink.write(&content));
            assert!(poll!(third.as_mut()).is_pending(), "the one before has not landed");
            assert_eq!(bucket.requests().len(), 1);
            bucket.let_go();
            third.await.unwrap();
        }
        sink.write(b"d").await.unwrap();
        let stored = sink.finish().await.unwrap();
        let content = [&vec![b'a'; 2 * BITE][..], &vec![b'b'; BITE], &vec![b'c'; BITE], b"d"].concat();
        assert!(bucket.object("p/x").unwrap() == content);
        assert_eq!((stored.bytes, stored.sha256), (4 * BITE as u64 + 1, sha256_hex(&content)));
        assert_eq!(bucket.requests().len(), 5);
    }

    #[tokio::test]
    async fn of_an_object_that_is_given_up_nothing_more_is_sent() {
        let bucket = Bucket::default();
        bucket.hold();
        let store = bucket.store();
        let mut sink = Sink::in_parts_of(&store, "p/x".into(), None, 2 * BITE).unwrap();
        sink.write(&vec![b'a'; 2 * BITE]).await.unwrap();
        sink.write(&vec![b'b'; BITE]).await.unwrap();
        drop(sink);
        bucket.let_go();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bucket.requests().len(), 1);
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
