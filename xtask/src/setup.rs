//! The Python programs that the game day and the tests use, each set in a virtual environment of its own.
//!
//! What is installed is pinned and hash-checked by `requirements/*.txt`; an environment is made anew only when its
//! requirements or the interpreter changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::process::{command, step};

const OLDEST: (u32, u32) = (3, 10);
const CANDIDATES: [&str; 6] = ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python"];

/// Sets the emulator up and names the program that starts it.
pub(crate) fn emulator(root: &Path) -> Result<PathBuf> {
    let python = environment(root, "emulator", "the emulator, about 130 MB of Python packages, once")?;
    let launcher = root.join("emulator").join("launch.py");
    let program = root.join(".venv").join("emulator").join("bin").join("firebreak-emulator");
    let text = format!("#!/bin/sh\nexec '{}' '{}' \"$@\"\n", python.display(), launcher.display());
    if fs::read_to_string(&program).ok().as_deref() != Some(&text) {
        fs::write(&program, text).with_context(|| format!("cannot write `{}`", program.display()))?;
        make_executable(&program)?;
    }
    Ok(program)
}

/// Sets an environment up and names its interpreter.
pub(crate) fn environment(root: &Path, name: &str, size: &str) -> Result<PathBuf> {
    let place = root.join(".venv").join(name);
    let requirements = root.join("requirements").join(format!("{name}.txt"));
    let wanted =
        fs::read_to_string(&requirements).with_context(|| format!("cannot read `{}`", requirements.display()))?;
    let (base, version) = interpreter()?;
    let wanted = format!("# {version}\n{wanted}");
    let stamp = place.join("installed.txt");
    let python = place.join("bin").join("python");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && python.exists() {
        return Ok(python);
    }
    step(&format!("installing {name} for Python {version}"), size, || {
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| format!("cannot remove `{}`", place.display()))?;
        }
        quietly(command(base).args(["-m", "venv"]).arg(&place)).context(
            "cannot make a virtual environment; on Debian and Ubuntu the package `python3-venv` holds what is missing",
        )?;
        // The lists are complete: without the resolver the install is quicker, and nothing unlisted can come in.
        let mut pip = command(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
        quietly(pip.args(["--only-binary", ":all:", "-r"]).arg(&requirements))?;
        fs::write(&stamp, &wanted).with_context(|| format!("cannot write `{}`", stamp.display()))?;
        Ok(())
    })?;
    Ok(python)
}

/// The first Python that is new enough, and its version.
fn interpreter() -> Result<(&'static str, String)> {
    static FOUND: OnceLock<Option<(&'static str, String)>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            CANDIDATES.into_iter().find_map(|name| {
                let program = "import sys; print('%d.%d' % sys.version_info[:2])";
                let output = command(name).args(["-c", program]).output().ok()?;
                let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
                is_new_enough(&version).then_some((name, version))
            })
        })
        .clone()
        .ok_or_else(|| {
            let (major, minor) = OLDEST;
            anyhow!("no Python {major}.{minor} or newer among {CANDIDATES:?}: install one and run this again")
        })
}

fn is_new_enough(version: &str) -> bool {
    let parsed = version.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parsed.is_some_and(|version: (u32, u32)| version >= OLDEST)
}

/// Runs to the end and shows what it said only if it failed.
fn quietly(command: &mut std::process::Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", command.get_program().display(), output.status, said.trim());
    }
    Ok(())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make `{}` executable", path.display()))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    bail!("the game day and the tests need Linux: they run the functions as Lambda does")
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_new_enough("3.10"));
        assert!(is_new_enough("3.13"));
        assert!(!is_new_enough("3.9"));
        assert!(!is_new_enough("2.7"));
        assert!(!is_new_enough(""));
    }
}
