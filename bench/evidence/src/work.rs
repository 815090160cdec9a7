//! One piece of work, in a process of its own.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use firebreak_model::evidence::Codec;
use firebreak_shared::clients;
use firebreak_shared::evidence::sink::Sink;
use firebreak_shared::evidence::store::{Access, Store};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::events;

/// So much is handed over at a time: a page of log events.
const PAGE: usize = 1 << 20;

/// Does it, and tells how long it took, what would be stored, and the most memory that it took.
pub(crate) fn run(work: &str, codec: Codec, mib: u64) -> Result<Value> {
    let lines = events::lines();
    let began = Instant::now();
    let stored = match work {
        "limit" => limit(&lines, codec, mib)?,
        "stream" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(stream(&lines, codec, mib))?
        }
        _ => bail!("there is no such work as `{work}`"),
    };
    let seconds = began.elapsed().as_secs_f64();
    let (user, system) = cpu()?;
    Ok(json!({"seconds": seconds, "stored": stored, "peak_kb": peak_kb()?, "user": user, "system": system}))
}

/// Seconds of processors' time that this process took: its own code's, and the kernel's for it.
fn cpu() -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("only Linux tells of a process's time so")?;
    let figures = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11)).context("no figures")?;
    let mut figures = figures.map(|ticks| ticks.parse::<f64>().unwrap_or_default() / 100.0);
    Ok((figures.next().unwrap_or_default(), figures.next().unwrap_or_default()))
}

/// The pages of that many MiB.
fn pages(lines: &[u8], mib: u64) -> impl Iterator<Item = &[u8]> {
    let count = usize::try_from(mib).unwrap_or(usize::MAX);
    lines.chunks(PAGE).filter(|page| page.len() == PAGE).cycle().take(count)
}

async fn stream(lines: &[u8], codec: Codec, mib: u64) -> Result<u64> {
    let sdk = clients::load();
    let store = Store::new(
        clients::s3(&sdk),
        "evidence".to_owned(),
        "arn:aws:kms:eu-west-1:111122223333:key/k".to_owned(),
        Access::ReadBack,
    );
    let mut sink = Sink::new(&store, "incidents/bench.jsonl".to_owned(), codec)?;
    for page in pages(lines, mib) {
        sink.write(page).await?;
    }
    Ok(sink.finish().await?.bytes)
}

/// Hashes what is written, and throws it away.
struct Hashing(Sha256, u64);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        self.1 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What one core can do: the same bytes compressed and hashed on both sides.
fn limit(lines: &[u8], codec: Codec, mib: u64) -> Result<u64> {
    let out = Hashing(Sha256::new(), 0);
    let mut content = Sha256::new();
    let mut through = |encoder: &mut dyn Write| -> Result<()> {
        for page in pages(lines, mib) {
            content.update(page);
            encoder.write_all(page)?;
        }
        Ok(())
    };
    let out = match codec {
        Codec::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out, 1)?;
            through(&mut encoder)?;
            encoder.finish()?
        }
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            through(&mut encoder)?;
            encoder.finish()?
        }
    };
    // Used, so that nothing of it is left out.
    let digests = (content.finalize(), out.0.finalize());
    if digests.0 == digests.1 {
        bail!("nothing was compressed");
    }
    Ok(out.1)
}

/// The most memory that this process ever held, as Linux tells.
fn peak_kb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("only Linux tells of a process's memory so")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("there is no VmHWM")?;
    line.trim().trim_end_matches("kB").trim().parse().context("VmHWM is no number")
}
