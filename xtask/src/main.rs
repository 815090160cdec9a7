//! Development commands: set-up, build, packaging, game day, tests.
//!
//! Assumes Rust and Python 3.10 or newer, nothing else. Uses no SDK crate, so that it starts at once.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "progress, results and errors are for the person at the terminal"
)]

mod bench;
mod checks;
mod package;
mod process;
mod setup;
mod suite;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Firebreak's development commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays incidents against the deployed template on a local emulator; sets everything up by itself.
    Gameday {
        /// Only names the scenarios.
        #[arg(long)]
        list: bool,
        /// Also writes the report as JSON.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        /// Also keeps the evidence of every incident, as it lies in the bucket: the report to look at among it.
        #[arg(long, value_name = "DIR")]
        evidence: Option<PathBuf>,
        /// The scenarios to play; all but the long ones where none is named.
        names: Vec<String>,
    },
    /// Runs every test: unit, property, end-to-end through the deployed template, and the template itself.
    Test,
    /// Builds the functions into `target/lambda`, for `sam deploy`.
    Package {
        /// The development profile: built in a tenth of the time, ten times as large, slower to start.
        #[arg(long)]
        quick: bool,
    },
    /// Measures the functions as they are deployed, beside boto3 functions that make the same calls.
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        #[command(subcommand)]
        instead: Option<Instead>,
        /// How often each program is started.
        #[arg(long, default_value_t = 20)]
        spawns: u32,
        /// Also writes the figures as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Also puts the tables into a document, between its marks (docs/PERFORMANCE.md).
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
    /// Has independent tools examine the template.
    CheckTemplate,
    /// Checks the format and runs clippy with warnings denied.
    Lint,
}

#[derive(Debug, Subcommand)]
enum Instead {
    /// Sends thousands of findings through the functions while AWS throttles, fails and loses answers.
    #[command(disable_help_flag = true)]
    Storm {
        /// What the storm is told: `--help` names it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        told: Vec<String>,
    },
    /// Streams log-like events through the evidence function's sink, beside its serial limit and Python.
    #[command(disable_help_flag = true)]
    Evidence {
        /// What it is told: `--help` names it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        told: Vec<String>,
    },
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let root = root()?;
    match Arguments::parse().command {
        Command::Gameday { list, report, evidence, names } => gameday(&root, list, [report, evidence], names),
        Command::Test => suite::run(&root),
        Command::Package { quick } => {
            let profile = if quick { package::Profile::Quick } else { package::Profile::Release };
            package::build(&root, profile)?;
            package::functions(&root, profile)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench { instead: Some(Instead::Storm { told }), .. } => bench::storm(&root, &told),
        Command::Bench { instead: Some(Instead::Evidence { told }), .. } => bench::evidence(&root, &told),
        Command::Bench { instead: None, spawns, json, into } => {
            bench::run(&root, bench::Options { spawns, json, into })
        }
        Command::CheckTemplate => {
            let counts = checks::run(&root)?;
            println!("\n{counts}");
            Ok(counts.exit_code())
        }
        Command::Lint => lint(&root),
    }
}

fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("the xtask crate lies outside the workspace")?.to_path_buf())
}

fn gameday(root: &Path, list: bool, [report, evidence]: [Option<PathBuf>; 2], names: Vec<String>) -> Result<ExitCode> {
    if !list {
        setup::emulator(root)?;
    }
    package::build(root, package::Profile::Quick)?;
    let mut gameday = process::command(package::binary(root, package::Profile::Quick, "gameday")?);
    if list {
        gameday.arg("--list");
    } else {
        package::functions(root, package::Profile::Quick)?;
        gameday.arg("--emulator").arg(setup::emulator(root)?);
        gameday.arg("--functions").arg(package::directory(root));
        gameday.arg("--template").arg(root.join("template.yaml"));
    }
    for (option, place) in [("--report", report), ("--evidence", evidence)] {
        if let Some(place) = place {
            gameday.arg(option).arg(place);
        }
    }
    gameday.args(names);
    process::exit_code(&mut gameday)
}

fn lint(root: &Path) -> Result<ExitCode> {
    let format = process::exit_code(process::cargo(root).args(["fmt", "--all", "--check"]))?;
    let mut clippy = process::cargo(root);
    clippy.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let clippy = process::exit_code(&mut clippy)?;
    Ok(if format == ExitCode::SUCCESS { clippy } else { format })
}
