//! A file's length and digest, as it lies there and unpacked, in one go and in bounded memory.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use firebreak_model::ids::hex;
use sha2::{Digest, Sha256};

/// A stream, measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// How many lines end in it.
    pub(super) lines: u64,
}

/// Measures what passes.
struct Measuring<R> {
    inner: R,
    bytes: u64,
    digest: Sha256,
    lines: u64,
    counts_lines: bool,
}

impl<R: Read> Measuring<R> {
    fn new(inner: R, counts_lines: bool) -> Self {
        Self { inner, bytes: 0, digest: Sha256::new(), lines: 0, counts_lines }
    }

    /// Reads to the end.
    fn drain(&mut self) -> io::Result<()> {
        let mut room = vec![0; 64 << 10];
        while self.read(&mut room)? > 0 {}
        Ok(())
    }

    fn measure(self) -> Measure {
        Measure { bytes: self.bytes, sha256: hex(&self.digest.finalize()), lines: self.lines }
    }
}

impl<R: Read> Read for Measuring<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(room)?;
        let passed = room.get(..read).unwrap_or_default();
        self.bytes += passed.len() as u64;
        self.digest.update(passed);
        if self.counts_lines {
            self.lines += passed.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        }
        Ok(read)
    }
}

/// Measures a file as it lies there.
pub(super) fn plain(path: &Path) -> io::Result<Measure> {
    let mut file = Measuring::new(File::open(path)?, false);
    file.drain()?;
    Ok(file.measure())
}

/// Measures a file as it lies there and unpacked, where its name says that it is packed; `Err` within says that it cannot
/// be unpacked.
pub(super) fn both(path: &Path) -> io::Result<(Measure, io::Result<Measure>)> {
    let mut stored = Measuring::new(BufReader::with_capacity(64 << 10, File::open(path)?), false);
    let is = |of: &str| path.extension().is_some_and(|extension| extension == of);
    if is("zip") {
        // A code package is kept as it came: nothing is unpacked here, and no name in it becomes a path.
        stored.drain()?;
        let measure = stored.measure();
        return Ok((measure.clone(), Ok(measure)));
    }
    let unpacked = if is("gz") {
        unpacked(flate2::read::MultiGzDecoder::new(&mut stored))
    } else if ["json", "md", "html"].into_iter().any(is) {
        // The report is stored as it is read.
        unpacked(&mut stored)
    } else {
        zstd::stream::read::Decoder::new(&mut stored).and_then(unpacked)
    };
    // What the decoder left unread is measured too.
    stored.drain()?;
    Ok((stored.measure(), unpacked))
}

fn unpacked(reader: impl Read) -> io::Result<Measure> {
    let mut content = Measuring::new(reader, true);
    content.drain()?;
    Ok(content.measure())
}
