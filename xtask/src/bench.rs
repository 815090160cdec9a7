//! Measuring the functions as they are deployed, beside Python functions that make the same calls.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use crate::process::{cargo, command, exit_code, step, succeed};
use crate::{package, setup};

/// What is measured how often, and where it is written.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) spawns: u32,
    pub(crate) json: Option<PathBuf>,
    pub(crate) into: Option<PathBuf>,
}

/// Packages the functions, and runs the `bench` program on them.
pub(crate) fn run(root: &Path, options: Options) -> Result<ExitCode> {
    let python = setup::environment(root, "bench", "boto3 and Lambda's runtime client, about 30 MB, once")?;
    package::build(root, package::Profile::Release)?;
    package::functions(root, package::Profile::Release)?;
    // By itself: built together with the functions, its needs would become part of them.
    let mut build = cargo(root);
    build.args(["build", "--release", "--package", "bench"]);
    step("building the bench", "its stub of AWS speaks TLS", || succeed(&mut build))?;

    let mut bench = command(package::binary(root, package::Profile::Release, "bench")?);
    bench.arg("--functions").arg(package::directory(root)).arg("--root").arg(root).arg("--python").arg(python);
    bench.arg("--spawns").arg(options.spawns.to_string());
    for (option, file) in [("--json", options.json), ("--into", options.into)] {
        if let Some(file) = file {
            bench.arg(option).arg(file);
        }
    }
    exit_code(&mut bench)
}

/// Packages the functions as they are deployed, and has the `storm` program send findings through them. That itself is
/// quick to build: it waits more than it works.
pub(crate) fn storm(root: &Path, told: &[String]) -> Result<ExitCode> {
    let emulator = setup::emulator(root)?;
    package::build(root, package::Profile::Release)?;
    package::functions(root, package::Profile::Release)?;
    package::build(root, package::Profile::Quick)?;
    let mut storm = command(package::binary(root, package::Profile::Quick, "storm")?);
    storm.arg("--emulator").arg(emulator).arg("--functions").arg(package::directory(root));
    storm.arg("--template").arg(root.join("template.yaml")).args(told);
    exit_code(&mut storm)
}

/// Builds the program that streams as the function is built, and runs it.
pub(crate) fn evidence(root: &Path, told: &[String]) -> Result<ExitCode> {
    let python = setup::environment(root, "bench", "boto3 and Lambda's runtime client, about 30 MB, once")?;
    let mut build = cargo(root);
    build.args(["build", "--release", "--package", "bench-evidence"]);
    step("building the bench", "with the sink of the evidence function", || succeed(&mut build))?;
    let mut bench = command(package::binary(root, package::Profile::Release, "bench-evidence")?);
    bench.arg("--python").arg(python).arg("--script").arg(root.join("bench/python/stream_evidence.py")).args(told);
    exit_code(&mut bench)
}
