//! `gameday`: plays incidents against the deployed template on a local emulator, shows what happens, and checks it.
#![expect(clippy::print_stdout, reason = "the game day is played for people to see")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use gameday::evidence;
use gameday::narrator::Voice;
use gameday::report::Report;
use gameday::scenarios::{self, Scenario};
use gameday::theatre::{Settings, Theatre};
use tokio::signal::unix::{SignalKind, signal};

/// Plays incidents against the deployed template on a local emulator.
#[derive(Debug, Parser)]
#[command(name = "gameday", version)]
struct Arguments {
    /// The program that starts the emulator.
    #[arg(long, value_name = "PATH", required_unless_present = "list")]
    emulator: Option<PathBuf>,
    /// Where the functions' archives are, one `<name>.zip` each.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    functions: Option<PathBuf>,
    /// The template.
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    template: Option<PathBuf>,
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
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            println!("the game day cannot be played: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let chosen = scenarios::named(&arguments.names)?;
    if arguments.list {
        let listed = if arguments.names.is_empty() { scenarios::ALL.iter().collect() } else { chosen };
        for scenario in listed {
            println!("{:<32} {}", scenario.name, scenario.summary);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (Some(emulator), Some(functions), Some(template)) =
        (arguments.emulator, arguments.functions, arguments.template)
    else {
        anyhow::bail!("`--emulator`, `--functions` and `--template` are required");
    };
    let settings = Settings { emulator: absolute(&emulator)?, functions, template };
    let mut terminate = signal(SignalKind::terminate())?;
    // The emulator ends with the future that holds it.
    let report = tokio::select! {
        report = play(&settings, &chosen, arguments.evidence.as_deref()) => report?,
        _ = tokio::signal::ctrl_c() => return Ok(interrupted(130)),
        _ = terminate.recv() => return Ok(interrupted(143)),
    };
    report.print();
    if let Some(path) = arguments.report {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        println!("the report is in `{}`", path.display());
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn interrupted(code: u8) -> ExitCode {
    println!("interrupted: the emulator is ended");
    ExitCode::from(code)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("`{}` is no path", path.display()))
}

async fn play(settings: &Settings, chosen: &[&'static Scenario], evidence: Option<&Path>) -> Result<Report> {
    let began = firebreak_shared::clock::now();
    println!("starting the emulator");
    let theatre = Theatre::open(settings).await?;
    println!("uploading the functions and deploying the template");
    let (stack, _) = theatre.enforcing().await.with_context(|| theatre.log())?;
    println!("stack `{}` is deployed, mode enforce, drills on; {} scenarios follow", stack.name, chosen.len());
    let mut reports = Vec::new();
    for (number, scenario) in chosen.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", number + 1, chosen.len(), scenario.name, scenario.summary);
        let report = theatre.play(scenario, Voice::Aloud).await;
        if let Some(error) = &report.error {
            println!("          ended early: {error}");
        }
        println!("          {}", if report.passed { "passed" } else { "FAILED" });
        reports.push(report);
    }
    if let Some(folder) = evidence {
        let kept = evidence::keep(&theatre, folder).await.context("the evidence cannot be kept")?;
        println!("\n{kept} objects of evidence are in `{}`", folder.display());
    }
    Ok(Report::of(began, reports))
}
