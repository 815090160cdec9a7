//! Running other programs, and saying what takes long.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// What a run of tests or checks came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    /// Reads `N passed, N failed`, the last line of a check.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (passed, rest) = line.trim().split_once(" passed, ")?;
        let failed = rest.strip_suffix(" failed")?;
        Some(Self { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
    }

    pub(crate) fn exit_code(self) -> ExitCode {
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// A program that does not wait for input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Cargo, in the workspace.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut cargo = command("cargo");
    cargo.current_dir(root);
    cargo
}

/// Runs to the end, and gives the exit code back as our own.
pub(crate) fn exit_code(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot start `{}`", name(command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// Runs to the end; anything but success is an error.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", name(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", name(command));
    }
    Ok(())
}

/// Says what is done and why it is long, does it, and says how long it took.
pub(crate) fn step<T>(what: &str, why_long: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {what} ({why_long})");
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    match &result {
        Ok(_) => println!("    done in {seconds:.1} s: {what}"),
        Err(_) => println!("    failed after {seconds:.1} s: {what}"),
    }
    result
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_a_line_of_their_own() {
        assert_eq!(Counts::parse("12 passed, 3 failed\n"), Some(Counts { passed: 12, failed: 3 }));
        assert_eq!(Counts::parse("template: 12 passed, 3 failed"), None);
        assert_eq!(Counts::parse("12 passed"), None);
    }

    #[test]
    fn a_run_without_tests_is_no_success() {
        assert_eq!(Counts::default().exit_code(), ExitCode::FAILURE);
        assert_eq!(Counts { passed: 1, failed: 0 }.exit_code(), ExitCode::SUCCESS);
        assert_eq!(Counts { passed: 9, failed: 1 }.exit_code(), ExitCode::FAILURE);
    }
}
