//! `cargo xtask bench storm`: a storm of findings through the packaged functions, in bad weather, and what became of it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tables, progress and errors are for the person at the terminal"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use gameday::storm::faults::Weather;
use gameday::storm::{Size, rage};
use gameday::theatre::Settings;

/// Sends a storm of findings through the packaged functions.
#[derive(Debug, Parser)]
#[command(name = "storm", version)]
struct Arguments {
    /// The program that starts the emulator.
    #[arg(long, value_name = "PATH")]
    emulator: PathBuf,
    /// Where the functions' archives are, one `<name>.zip` each.
    #[arg(long, value_name = "DIR")]
    functions: PathBuf,
    /// The template.
    #[arg(long, value_name = "FILE")]
    template: PathBuf,
    /// Different findings.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    findings: u32,
    /// Principals that they are about.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    principals: u32,
    /// How often each finding is delivered.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    copies: u32,
    /// Processes of `quarantine-principal`.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=500))]
    processes: u32,
    /// What the weather and the order of deliveries follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leaves the circuit breaker of the shipped playbook in.
    #[arg(long)]
    with_breaker: bool,
    /// The storm is ended, as a failure, after so many minutes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    minutes: u32,
    /// Also writes the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also puts the tables into a document, between its marks.
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
}

const BEGIN: &str = "<!-- written by `cargo xtask bench storm` -->\n";
const END: &str = "<!-- end of the storm -->\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let size = Size {
        findings: arguments.findings.try_into()?,
        principals: arguments.principals.try_into()?,
        copies: arguments.copies.try_into()?,
        processes: arguments.processes.try_into()?,
        weather: Weather { seed: arguments.seed, ..Weather::STORM },
        breaker: (!arguments.with_breaker).then_some(1_000_000),
    };
    let settings = Settings {
        emulator: std::path::absolute(arguments.emulator)?,
        functions: std::path::absolute(arguments.functions)?,
        template: arguments.template,
    };
    let tell = |what: &str| eprintln!("{what}");
    let patience = Duration::from_mins(arguments.minutes.into());
    // The emulator and the functions end with the future that holds them.
    let report = tokio::select! {
        report = tokio::time::timeout(patience, Box::pin(rage(&settings, size, &tell))) => match report {
            Ok(report) => report?,
            Err(_) => bail!("the storm is not over after {} minutes: ask for a smaller one", arguments.minutes),
        },
        _ = tokio::signal::ctrl_c() => bail!("interrupted: the emulator is ended"),
    };
    let markdown = report.markdown();
    println!("{markdown}");
    if let Some(path) = arguments.json {
        fs::write(&path, format!("{:#}\n", report.json()))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    if let Some(path) = arguments.into {
        put_into(&path, &markdown)?;
    }
    for problem in &report.problems {
        println!("does not hold: {problem}");
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts the tables between the marks of a document.
fn put_into(path: &Path, markdown: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.with_context(|| format!("`{}` has no place for the tables", path.display()))?;
    fs::write(path, format!("{before}{BEGIN}\n{markdown}\n{END}{after}"))?;
    Ok(())
}
