//! What the tests over the deployed template share: one emulator a test program.

#![allow(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each test program uses its part; a test fails by a panic"
)]

pub(crate) mod lives;
pub(crate) mod mortal;
pub(crate) mod table;

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use gameday::narrator::Voice;
use gameday::scenarios::{self, Scenario};
use gameday::theatre::{Settings, Theatre};
use tokio::runtime::Runtime;

/// A setting that `cargo xtask test` gives.
#[expect(clippy::disallowed_methods, reason = "the tests are told where things are by the environment")]
fn setting(name: &str) -> PathBuf {
    match std::env::var_os(name) {
        Some(value) => PathBuf::from(value),
        None => panic!("`{name}` is not set: run `cargo xtask test`, which sets everything up"),
    }
}

/// Where things are.
pub(crate) fn settings() -> Settings {
    Settings {
        emulator: setting("FIREBREAK_EMULATOR"),
        functions: setting("FIREBREAK_FUNCTIONS"),
        template: setting("FIREBREAK_TEMPLATE"),
    }
}

struct House {
    runtime: Runtime,
    theatre: Theatre,
}

/// Runs `work` in the theatre that all tests of this program share, one at a time: scenarios look at the whole
/// world, and a pause is everyone's. The emulator ends with this program.
pub(crate) fn in_the_theatre<'a, T, F: Future<Output = T> + 'a>(work: impl FnOnce(&'a Theatre) -> F) -> T {
    static HOUSE: OnceLock<Result<House, String>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let house = HOUSE.get_or_init(|| {
        let settings = settings();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let theatre = runtime.block_on(Theatre::open(&settings)).map_err(|e| format!("{e:#}"))?;
        Ok(House { runtime, theatre })
    });
    match house {
        Ok(house) => house.runtime.block_on(work(&house.theatre)),
        Err(error) => panic!("the emulator cannot be started: {error}"),
    }
}

/// Plays a scenario in that theatre; every check of it must hold.
pub(crate) fn play(name: &str) {
    play_it(scenarios::named(&[name.to_owned()]).unwrap()[0]);
}

/// The same, for one that is not in the list.
pub(crate) fn play_it(scenario: &Scenario) {
    let name = scenario.name;
    let (report, log) = in_the_theatre(|theatre| async {
        let report = theatre.play(scenario, Voice::Silent).await;
        let log = if report.passed { String::new() } else { theatre.log() };
        (report, log)
    });
    if !report.passed {
        let told: Vec<_> = report.timeline.iter().map(|l| format!("{:>6} {}: {}", l.at_ms, l.who, l.what)).collect();
        panic!("{name}:\n{}\n\n{}\n\n{log}", report.failures().join("\n"), told.join("\n"));
    }
    assert!(report.checks.len() > 4, "{name} checks next to nothing");
}
