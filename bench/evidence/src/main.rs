//! How fast evidence streams, and in how much memory: log-like events through the function's own sink into a stub of S3,
//! beside the limit of one core (the same bytes compressed and hashed on both sides, and thrown away) and beside Python
//! with boto3. Each runs in a process of its own, whose peak memory the kernel tells.
#![expect(clippy::print_stdout, reason = "the table is for the person at the terminal")]

mod events;
mod stub;
mod work;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use firebreak_model::evidence::Codec;
use serde_json::Value;

/// What is to be reached: this share of the limit, in this much memory.
const SHARE: f64 = 0.90;
const MEMORY_MB: f64 = 40.0;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench evidence", version)]
struct Arguments {
    /// How much is streamed, in MiB; may be repeated.
    #[arg(long = "mib", value_name = "MIB", default_values_t = [1024, 8192])]
    sizes: Vec<u64>,
    /// A Python with boto3; without, nothing stands beside.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// The Python program that does the same.
    #[arg(long, value_name = "FILE", requires = "python")]
    script: Option<PathBuf>,
    /// Does one piece of work and tells its figures.
    #[arg(long, hide = true)]
    work: Option<String>,
    /// How it compresses.
    #[arg(long, hide = true, default_value = "zstd")]
    codec: String,
}

/// What a process tells of its work.
#[derive(Debug, Clone, Copy)]
struct Figures {
    seconds: f64,
    stored: u64,
    peak_mb: f64,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let codec = Codec::from_name(&arguments.codec).context("a codec is `zstd` or `gzip`")?;
    if let Some(work) = &arguments.work {
        let mib = arguments.sizes.first().copied().unwrap_or(1);
        println!("{}", work::run(work, codec, mib)?);
        return Ok(ExitCode::SUCCESS);
    }
    let stub = stub::start()?;
    println!("| MiB | | MB/s | of the limit | peak MB | stored MB |\n|---|---|---|---|---|---|");
    let mut met = true;
    for &mib in &arguments.sizes {
        for codec in [Codec::Zstd, Codec::Gzip] {
            let limit = ours("limit", codec, mib, &stub)?;
            let stream = ours("stream", codec, mib, &stub)?;
            line(mib, &format!("{codec}, the limit"), limit, limit);
            line(mib, &format!("{codec}, the function's sink"), stream, limit);
            if codec == Codec::Zstd {
                met &= limit.seconds / stream.seconds >= SHARE && stream.peak_mb < MEMORY_MB;
            }
            if codec == Codec::Gzip
                && let (Some(python), Some(script)) = (&arguments.python, &arguments.script)
            {
                let mut command = Command::new(python);
                command.arg(script).arg(mib.to_string());
                line(mib, "gzip, Python with boto3", figures(&mut command, &stub)?, limit);
            }
        }
    }
    let verdict = if met { "met" } else { "missed" };
    println!("\nat least {:.0} % of the limit and under {MEMORY_MB} MB, with zstd: {verdict}", SHARE * 100.0);
    Ok(ExitCode::SUCCESS)
}

fn line(mib: u64, what: &str, figures: Figures, limit: Figures) {
    let bytes = to_f64(mib << 20);
    println!(
        "| {mib} | {what} | {:.0} | {:.0} % | {:.1} | {:.1} |",
        bytes / figures.seconds / 1e6,
        limit.seconds / figures.seconds * 100.0,
        figures.peak_mb,
        to_f64(figures.stored) / 1e6
    );
}

#[expect(clippy::cast_precision_loss, reason = "sizes for a table")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

fn ours(work: &str, codec: Codec, mib: u64, stub: &str) -> Result<Figures> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--work", work, "--codec", codec.as_str(), "--mib", &mib.to_string()]);
    figures(&mut command, stub)
}

/// Runs a process that tells its figures as JSON.
fn figures(command: &mut Command, stub: &str) -> Result<Figures> {
    for (name, value) in [
        ("AWS_ENDPOINT_URL", stub),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ] {
        command.env(name, value);
    }
    let output = command.stderr(Stdio::inherit()).output().context("a process cannot be started")?;
    let told: Value = serde_json::from_slice(&output.stdout).context("a process told no figures")?;
    let number = |name: &str| told.get(name).and_then(Value::as_f64);
    let (Some(seconds), Some(stored), Some(peak)) = (number("seconds"), number("stored"), number("peak_kb")) else {
        bail!("a process told `{told}`");
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of bytes")]
    let stored = stored as u64;
    Ok(Figures { seconds, stored, peak_mb: peak * 1024.0 / 1e6 })
}
