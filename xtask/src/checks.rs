//! What independent tools say about the template: `checks/*.py`, each in the environment that holds its tool.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::process::{Counts, command};
use crate::setup;

const CHECKS: [(&str, &str); 6] = [
    ("checks", "lint.py"),
    ("checks", "policies.py"),
    ("checks", "writers.py"),
    ("checks", "organisation.py"),
    ("checks", "central.py"),
    ("checkov", "posture.py"),
];

/// Runs every check of the template.
pub(crate) fn run(root: &Path) -> Result<Counts> {
    let mut counts = Counts::default();
    for (environment, script) in CHECKS {
        let python = setup::environment(root, environment, "the template's checkers, about 300 MB, once")?;
        println!("\n==> checks/{script}");
        let mut check = command(python);
        check.current_dir(root).arg(root.join("checks").join(script));
        counts += counted(&mut check, Counts::parse)?;
    }
    Ok(counts)
}

/// Runs to the end, shows what is printed as it comes, and adds up the lines that hold counts.
///
/// A failure that no count shows counts as one.
pub(crate) fn counted(command: &mut Command, parse: impl Fn(&str) -> Option<Counts>) -> Result<Counts> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start it")?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            // The sum of all is the last line; the parts must not look like it.
            match Counts::parse(&line) {
                Some(part) => println!("    of these {} passed, {} failed", part.passed, part.failed),
                None => println!("{line}"),
            }
            counts += parse(&line).unwrap_or_default();
        }
    }
    if !child.wait()?.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}
