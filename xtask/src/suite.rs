//! `cargo xtask test`: everything that can fail, and one line that adds it up.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::process::{Counts, cargo};
use crate::{checks, package, setup};

/// Sets up, builds, runs the tests and the checks of the template.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let emulator = setup::emulator(root)?;
    package::build(root, package::Profile::Quick)?;
    package::functions(root, package::Profile::Quick)?;
    let mut tests = cargo(root);
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    tests.env("FIREBREAK_EMULATOR", emulator);
    tests.env("FIREBREAK_FUNCTIONS", package::directory(root));
    tests.env("FIREBREAK_TEMPLATE", root.join("template.yaml"));
    println!("==> cargo test --workspace");
    let mut counts = checks::counted(&mut tests, result)?;
    counts += checks::run(root)?;
    println!("\n{counts}");
    Ok(counts.exit_code())
}

/// Reads the closing line of one test program, `test result: ok. 3 passed; 0 failed; …`.
fn result(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers = numbers.split("; ");
    let passed = numbers.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = numbers.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some(Counts { passed, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_program_is_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(result(line), Some(Counts { passed: 3, failed: 2 }));
        assert_eq!(result("test some::name ... ok"), None);
    }
}
