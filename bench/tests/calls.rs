//! The calls that each packaged function makes on one incident: the bench measures these and no others.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::process::Command;

#[test]
#[expect(clippy::disallowed_methods, reason = "the tests are told where things are by the environment")]
fn each_function_makes_the_calls_that_it_is_measured_on() {
    let Some(functions) = std::env::var_os("FIREBREAK_FUNCTIONS") else {
        panic!("`FIREBREAK_FUNCTIONS` is not set: run `cargo xtask test`, which sets everything up");
    };
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench
        .args(["--calls-only", "--root", concat!(env!("CARGO_MANIFEST_DIR"), "/..")])
        .arg("--functions")
        .arg(functions);
    let said = bench.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}
