//! Building the workspace, and laying the functions out as Lambda wants them.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use firebreak_model::playbook::Playbook;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::process::{cargo, step, succeed};

/// How the functions are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build: tests and the game day.
    Quick,
    /// What is deployed.
    Release,
}

/// The newest minor version of glibc 2 that Lambda's `provided.al2023` has.
const GLIBC: u32 = 34;

/// Beside its program, `quarantine-principal` has the playbook.
const WITH_PLAYBOOK: &str = "quarantine-principal";

/// Builds everything that the profile needs.
pub(crate) fn build(root: &Path, profile: Profile) -> Result<()> {
    let mut build = cargo(root);
    match profile {
        Profile::Quick => {
            build.args(["build", "--workspace", "--all-targets"]);
            step("building the workspace", "the first build compiles the AWS SDK, a few minutes", || {
                succeed(&mut build)
            })
        }
        Profile::Release => {
            build.args(["build", "--release"]);
            for name in names(root)? {
                build.args(["--package", &name]);
            }
            step("building the functions", "whole-program optimisation, a quarter of an hour", || succeed(&mut build))
        }
    }
}

/// Lays out `target/lambda/<name>/` for `sam deploy`, and `target/lambda/<name>.zip`; names the functions.
pub(crate) fn functions(root: &Path, profile: Profile) -> Result<Vec<String>> {
    let names = names(root)?;
    check_playbook(&root.join("playbook.yaml"))?;
    step("packaging the functions", "one program and one archive each", || {
        for name in &names {
            let program = binary(root, profile, name)?;
            if profile == Profile::Release {
                check_program(&program)?;
            }
            package(root, profile, name, &program).with_context(|| format!("cannot package `{name}`"))?;
        }
        Ok(())
    })?;
    Ok(names)
}

/// Refuses what the function would refuse at its cold start, with the code that it would refuse it with.
fn check_playbook(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Playbook::from_yaml(&text).with_context(|| format!("`{}` is not packaged", path.display()))?;
    Ok(())
}

/// Refuses a program that could not start on Lambda: the template says x86-64, and this builds for where it runs.
fn check_program(path: &Path) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the functions run on x86-64 Linux, and are built for where this runs: build them there");
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    match newest_glibc(&bytes) {
        Some(minor) if minor > GLIBC => bail!(
            "`{}` asks for glibc 2.{minor}, and Lambda has 2.{GLIBC}: build it where glibc is older (Debian 12, Ubuntu 22.04)",
            path.display()
        ),
        _ => Ok(()),
    }
}

/// The newest version of glibc 2 that a program names.
fn newest_glibc(program: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"\0GLIBC_2.";
    let minor = |rest: &[u8]| {
        let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).take(3).collect();
        String::from_utf8(digits).ok()?.parse::<u32>().ok()
    };
    let named = program.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    named.filter_map(|(at, _)| minor(program.get(at + NAME.len()..)?)).max()
}

/// Where the packaged functions lie. Not in `CARGO_TARGET_DIR`: the template names this place.
pub(crate) fn directory(root: &Path) -> PathBuf {
    root.join("target").join("lambda")
}

/// A program that was built.
pub(crate) fn binary(root: &Path, profile: Profile, name: &str) -> Result<PathBuf> {
    let folder = match profile {
        Profile::Quick => "debug",
        Profile::Release => "release",
    };
    let path = target_directory(root)?.join(folder).join(name);
    if !path.is_file() {
        bail!("`{}` was not built", path.display());
    }
    Ok(path)
}

/// The functions are the folders of `functions/`.
fn names(root: &Path) -> Result<Vec<String>> {
    let place = root.join("functions");
    let mut names = Vec::new();
    for entry in fs::read_dir(&place).with_context(|| format!("cannot read `{}`", place.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn target_directory(root: &Path) -> Result<PathBuf> {
    let output = cargo(root).args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("`cargo metadata` failed")?;
    let directory = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(PathBuf::from(directory.context("`cargo metadata` names no target directory")?))
}

fn package(root: &Path, profile: Profile, name: &str, program: &Path) -> Result<()> {
    let mut files = vec![("bootstrap", program.to_path_buf(), 0o755)];
    if name == WITH_PLAYBOOK {
        files.push(("playbook.yaml", root.join("playbook.yaml"), 0o644));
    }
    let place = directory(root).join(name);
    let archive = directory(root).join(format!("{name}.zip"));
    if is_newer(&archive, &files) && files.iter().all(|(inside, ..)| place.join(inside).is_file()) {
        return Ok(());
    }
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    for (inside, from, _) in &files {
        // `fs::copy` takes the permissions along.
        fs::copy(from, place.join(inside)).with_context(|| format!("cannot copy `{}`", from.display()))?;
    }
    // Compressing programs of the development profile takes longer than the emulator needs to read them.
    let options = SimpleFileOptions::default();
    let options = match profile {
        Profile::Quick => options.compression_method(CompressionMethod::Stored),
        Profile::Release => options.compression_method(CompressionMethod::Deflated).compression_level(Some(9)),
    };
    let unfinished = archive.with_extension("zip.part");
    let mut zip = ZipWriter::new(BufWriter::new(File::create(&unfinished)?));
    for (inside, from, mode) in files {
        zip.start_file(inside, options.unix_permissions(mode))?;
        io::copy(&mut File::open(from)?, &mut zip)?;
    }
    zip.finish()?;
    fs::rename(unfinished, archive)?;
    Ok(())
}

/// Whether an archive was written after all of what goes into it, and of the same profile's programs.
fn is_newer(archive: &Path, files: &[(&str, PathBuf, u32)]) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let Some(packaged) = modified(archive) else { return false };
    let place = archive.with_extension("");
    files.iter().all(|(inside, from, _)| {
        let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
        modified(from).is_some_and(|built| built < packaged) && length(from) == length(&place.join(inside))
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_newest_glibc_that_a_program_names_is_found() {
        assert_eq!(newest_glibc(b"\x7fELF\0GLIBC_2.2.5\0memcpy\0GLIBC_2.38\0GLIBC_2.4\0"), Some(38));
        assert_eq!(newest_glibc(b"no GLIBC_2.99 of its own"), None);
        let own = std::env::current_exe().unwrap();
        assert!(newest_glibc(&fs::read(own).unwrap()).is_some_and(|minor| minor >= 2));
    }

    #[test]
    fn a_playbook_that_would_be_refused_is_not_packaged() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert!(check_playbook(&root.join("playbook.yaml")).is_ok());
        let error = format!("{:#}", check_playbook(&root.join("samconfig.toml")).unwrap_err());
        assert!(error.contains("is not packaged: the playbook cannot be read"), "{error}");
    }
}
