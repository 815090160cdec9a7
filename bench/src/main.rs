//! `cargo xtask bench`: what the packaged functions cost, beside Python functions that make the same calls.
//!
//! It drives the release programs from outside, as Lambda does: a stub of the runtime API hands them events, and a TLS
//! endpoint stands for AWS. Everything listens on this machine alone, and one process is measured at a time.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tables, progress and errors are for the person at the terminal"
)]

mod call;
mod endpoint;
mod measure;
mod report;
mod runtime;
mod scene;
mod tls;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use jiff::Timestamp;

use endpoint::Endpoint;
use measure::{Events, starts, to_deny};
use report::{Report, Row, megabytes};
use scene::{DENIES, Stage};

/// Measures the packaged functions.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// The packaged functions.
    #[arg(long)]
    functions: PathBuf,
    /// The repository.
    #[arg(long)]
    root: PathBuf,
    /// The interpreter of the environment that holds boto3.
    #[arg(long, required_unless_present = "calls_only")]
    python: Option<PathBuf>,
    /// Measures nothing: only plays the incident, and compares each function's calls with what is expected.
    #[arg(long)]
    calls_only: bool,
    /// How often each program is started.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    spawns: u32,
    /// Also writes the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also puts the tables into a document, between its marks.
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
}

const BEGIN: &str = "<!-- written by `cargo xtask bench` -->\n";
const END: &str = "<!-- end -->\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let bundle = scratch.path().join("roots.pem");
    let tls = tls::prepare(&bundle)?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    let stage = Stage {
        endpoint: Endpoint::start(&tls.acceptor).await?,
        functions: std::path::absolute(arguments.functions)?,
        root: std::path::absolute(arguments.root)?,
        bundle,
        // Not resolved: the interpreter knows its environment by the path that it is called by.
        python: arguments.python.map(std::path::absolute).transpose()?.unwrap_or_default(),
        scratch: scratch.path().to_owned(),
    };
    let spawns = arguments.spawns;
    eprintln!("playing one incident, to know what each function meets");
    let cases = stage.cases().await?;
    if arguments.calls_only {
        return Ok(());
    }
    let mut rows = Vec::new();
    for case in cases {
        eprintln!("`{}`: {spawns} starts of it, {spawns} of Python", case.name);
        let place = stage.functions.join(case.name);
        let ours = starts(&stage, &stage.ours(case.name), &case, &case.event, spawns).await?;
        let asked = Stage::asked_of_theirs(&case.event, &case.calls);
        let theirs = starts(&stage, &stage.theirs(&case.calls), &case, &asked, spawns).await?;
        let made = scene::counts(&case.calls);
        ensure!(theirs.calls == made, "Python made {:?}, and `{}` {made:?}", theirs.calls, case.name);
        let zip_mb = megabytes(&place.with_extension("zip"))?;
        rows.push(Row { zip_mb, program_mb: megabytes(&place.join("bootstrap"))?, case, ours, theirs });
    }
    eprintln!("from event to deny: {spawns} starts of each, some invocations of each process");
    let ours = to_deny(&stage, &stage.ours(DENIES), &Events::Findings, spawns).await?;
    let mut provisioned = stage.ours(DENIES);
    provisioned.environment.push(("AWS_LAMBDA_INITIALIZATION_TYPE", "provisioned-concurrency".to_owned()));
    let provisioned = to_deny(&stage, &provisioned, &Events::Findings, spawns).await?;
    let first = ours.warm_calls.first().context("nothing was denied")?;
    let theirs = to_deny(&stage, &stage.theirs(first), &Events::Calls(&ours.warm_calls), spawns).await?;
    let report = Report { setting: setting(spawns, tls.roots, &load, &stage.python), rows, ours, provisioned, theirs };

    let markdown = report.markdown();
    println!("{markdown}");
    if let Some(path) = arguments.json {
        fs::write(&path, format!("{:#}\n", report.json()))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    arguments.into.map_or(Ok(()), |path| put_into(&path, &markdown))
}

/// Puts the tables between the marks of a document.
fn put_into(path: &Path, markdown: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.with_context(|| format!("`{}` has no place for the tables", path.display()))?;
    fs::write(path, format!("{before}{BEGIN}\n{markdown}\n{END}{after}"))?;
    Ok(())
}

fn setting(spawns: u32, roots: usize, load: &str, python: &Path) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let said = |program: &Path, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    let boto3 = "import boto3; print('boto3', boto3.__version__)";
    let boto3 = Command::new(python).args(["-c", boto3]).output();
    let boto3 = boto3.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    vec![
        ("Date", Timestamp::now().strftime("%Y-%m-%d").to_string()),
        ("Machine", format!("{}, {cores} cores, load {load} at the start", model.map_or("unknown", |(_, name)| name))),
        ("Kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("Compiler", said(Path::new("rustc"), "--version")),
        ("Beside it", format!("{}, {boto3}", said(python, "--version"))),
        ("Roots trusted", roots.to_string()),
        ("Starts of each program", spawns.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn tables_take_the_place_of_older_ones() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("document.md");
        fs::write(&path, format!("# Title\n{BEGIN}\nold\n{END}after\n")).unwrap();
        put_into(&path, "| new |\n").unwrap();
        put_into(&path, "| new |\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("# Title\n{BEGIN}\n| new |\n\n{END}after\n"));
        fs::write(&path, "no marks").unwrap();
        assert!(put_into(&path, "").unwrap_err().to_string().contains("no place for the tables"));
    }
}
