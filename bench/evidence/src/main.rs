//! How fast evidence streams, and in how much memory: log-like events through the function's own sink into a stub of S3,
//! beside the limit of one core (the same bytes compressed and hashed on both sides, and thrown away) and beside Python
//! with boto3. Each runs in a process of its own, whose peak memory the kernel tells.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table, and how it grows, are for the person at the terminal"
)]

mod events;
mod stub;
mod work;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use firebreak_model::evidence::Codec;
use serde_json::Value;

/// What is to be reached: this share of the limit, in this much memory.
const SHARE: f64 = 0.90;
const MEMORY_MB: f64 = 40.0;

/// A size is measured again until this much was streamed, and what is told is the median: the machine is shared.
const ENOUGH_MIB: u64 = 3 * 1024;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench evidence", version)]
struct Arguments {
    /// How much is streamed, in MiB; may be repeated.
    #[arg(long = "mib", value_name = "MIB", default_values_t = [1024, 8192])]
    sizes: Vec<u64>,
    /// How it is compressed, `zstd` or `gzip`; may be repeated.
    #[arg(long = "codec", value_name = "CODEC", default_values = ["zstd", "gzip"])]
    codecs: Vec<String>,
    /// A Python with boto3; without, nothing stands beside.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// The Python program that does the same.
    #[arg(long, value_name = "FILE", requires = "python")]
    script: Option<PathBuf>,
    /// Also puts the table into a document, between its marks.
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Does one piece of work and tells its figures.
    #[arg(long, hide = true)]
    work: Option<String>,
}

/// What a process tells of its work.
#[derive(Debug, Clone, Copy)]
struct Figures {
    seconds: f64,
    stored: u64,
    peak_mb: f64,
    user: f64,
    system: f64,
}

/// The same work again and again.
#[derive(Debug, Default)]
struct Series(Vec<Figures>);

impl Series {
    /// The figures of the run that took the middle time, and the most memory of all.
    fn told(mut self) -> Result<Figures> {
        self.0.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let peak_mb = self.0.iter().map(|figures| figures.peak_mb).fold(0.0, f64::max);
        let middle = self.0.get(self.0.len() / 2).context("nothing was measured")?;
        Ok(Figures { peak_mb, ..*middle })
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let named = |name: &String| Codec::from_name(name).context("a codec is `zstd` or `gzip`");
    let codecs = arguments.codecs.iter().map(named).collect::<Result<Vec<_>>>()?;
    if let Some(work) = &arguments.work {
        let mib = arguments.sizes.first().copied().unwrap_or(1);
        println!("{}", work::run(work, codecs.first().copied().unwrap_or(Codec::Zstd), mib)?);
        return Ok(ExitCode::SUCCESS);
    }
    let stub = stub::start()?;
    let (load, cores) = (read("/proc/loadavg"), std::thread::available_parallelism()?);
    let mut table = format!(
        "On {cores} cores, with a load of {} at the start.\n\n| MiB | | MB/s | of the limit | CPU s: user, system | peak MB | \
         stored MB |\n|---|---|--:|--:|--:|--:|--:|\n",
        load.split_whitespace().next().unwrap_or("unknown")
    );
    let mut verdict = String::new();
    for &mib in &arguments.sizes {
        for &codec in &codecs {
            let python = arguments.python.as_ref().zip(arguments.script.as_ref()).filter(|_| codec == Codec::Gzip);
            let (mut limit, mut stream, mut beside) = (Series::default(), Series::default(), Series::default());
            // In turns, so that what else the machine does meets all of them.
            for _ in 0..(ENOUGH_MIB / mib.max(1)).clamp(1, 9) {
                limit.0.push(ours("limit", codec, mib, &stub)?);
                stream.0.push(ours("stream", codec, mib, &stub)?);
                if let Some((python, script)) = python {
                    let mut command = Command::new(python);
                    beside.0.push(figures(command.arg(script).arg(mib.to_string()), &stub)?);
                }
            }
            let (limit, stream) = (limit.told()?, stream.told()?);
            let mut rows = line(mib, &format!("{codec}, the limit"), limit, limit);
            rows += &line(mib, &format!("{codec}, the function's sink"), stream, limit);
            if python.is_some() {
                rows += &line(mib, &format!("{codec}, Python with boto3"), beside.told()?, limit);
            }
            eprint!("{rows}");
            table += &rows;
            let share = limit.seconds / stream.seconds;
            if share < SHARE || stream.peak_mb >= MEMORY_MB {
                let _ = write!(verdict, " {codec} at {mib} MiB misses it.");
            }
        }
    }
    let verdict = if verdict.is_empty() { " Met throughout." } else { &verdict };
    let _ = writeln!(
        table,
        "\nThe aim: at least {:.0} % of the limit in less than {MEMORY_MB} MB.{verdict}",
        SHARE * 100.0
    );
    println!("{table}");
    arguments.into.map_or(Ok(()), |path| put_into(&path, &table))?;
    Ok(ExitCode::SUCCESS)
}

const BEGIN: &str = "<!-- written by `cargo xtask bench evidence` -->\n";
const END: &str = "<!-- end -->\n";

/// Puts the table between the marks of a document.
fn put_into(path: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.with_context(|| format!("`{}` has no place for the table", path.display()))?;
    fs::write(path, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?;
    Ok(())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn line(mib: u64, what: &str, figures: Figures, limit: Figures) -> String {
    let bytes = to_f64(mib << 20);
    format!(
        "| {mib} | {what} | {:.0} | {:.0} % | {:.2}, {:.2} | {:.1} | {:.1} |\n",
        bytes / figures.seconds / 1e6,
        limit.seconds / figures.seconds * 100.0,
        figures.user,
        figures.system,
        figures.peak_mb,
        to_f64(figures.stored) / 1e6
    )
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
    let names = ["seconds", "stored", "peak_kb", "user", "system"].map(number);
    let [Some(seconds), Some(stored), Some(peak), Some(user), Some(system)] = names else {
        bail!("a process told `{told}`");
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of bytes")]
    let stored = stored as u64;
    Ok(Figures { seconds, stored, peak_mb: peak * 1024.0 / 1e6, user, system })
}
