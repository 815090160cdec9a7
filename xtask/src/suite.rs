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
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_closing_line_of_a_test_program_is_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(result(line), Some(Counts { passed: 3, failed: 2 }));
        assert_eq!(result("test some::name ... ok"), None);
    }

    /// All of the project's text of one kind, apart from what is built.
    fn sources(folder: &Path, ending: &str, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                sources(&path, ending, into);
            } else if name.ends_with(ending) {
                into.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }

    #[test]
    fn every_test_that_the_specification_names_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut code = String::new();
        sources(root, ".rs", &mut code);
        let specification = std::fs::read_to_string(root.join("docs/SPECIFICATION.md")).unwrap();
        let promises = specification.split_once("## 1.").unwrap().1;
        let tests: Vec<&str> =
            promises.split('`').skip(1).step_by(2).filter(|name| name.contains('_') && !name.contains('/')).collect();
        let scenarios: Vec<&str> = promises.split('*').skip(1).step_by(2).filter(|name| name.contains('-')).collect();
        assert!(tests.len() > 40 && scenarios.len() > 8, "{} tests, {} scenarios", tests.len(), scenarios.len());
        let missing: Vec<&&str> = tests
            .iter()
            .filter(|name| !code.contains(&format!("fn {name}(")))
            .chain(scenarios.iter().filter(|name| !code.contains(&format!("name: \"{name}\""))))
            .collect();
        assert!(missing.is_empty(), "docs/SPECIFICATION.md names what is not there: {missing:?}");
    }
}
