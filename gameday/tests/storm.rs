//! A small storm: nothing is lost, nobody is contained twice, nothing is changed without need.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use firebreak_model::ledger::breaker_keys;
use gameday::aws::ACCOUNT;
use gameday::storm::faults::{Outcome, Weather};
use gameday::storm::report::Report;
use gameday::storm::{Size, rage};

/// The storm's own weather. A lost answer is lost sooner: the connection goes, and no time-out is waited for.
const WEATHER: Weather = Weather { lost_for: Duration::from_millis(300), ..Weather::STORM };

async fn raged(size: Size) -> Report {
    let report = rage(&common::settings(), size, &|_| {}).await.unwrap();
    let struck = |outcome| report.calls.keys().any(|(_, of)| *of == outcome);
    assert!(Outcome::ALL.into_iter().all(struck), "the weather was too fair:\n{}", report.markdown());
    assert_eq!(report.problems, Vec::<String>::new(), "\n{}{:?}", report.markdown(), report.ends.said);
    report
}

#[tokio::test]
async fn in_a_storm_every_principal_is_contained_once_and_no_finding_is_lost() {
    let size = Size { findings: 200, principals: 20, copies: 3, processes: 12, weather: WEATHER, breaker: Some(1000) };
    let report = raged(size).await;
    assert_eq!((report.contained, report.waiting, report.findings), (20, 0, 200));
    // Sixteen roles, four users: a deny and a revocation each, and the two keys of each user.
    assert_eq!(report.balance.needed(), 20 * 2 + 4 * 2);
    assert_eq!(report.balance.count("Attach"), 20);
}

#[tokio::test]
async fn in_a_storm_the_breaker_holds() {
    let size = Size { findings: 60, principals: 20, copies: 3, processes: 12, weather: WEATHER, breaker: None };
    let began = hour();
    let report = raged(size).await;
    // Ten an hour, and a storm over the full hour meets the next ten. Fewer where a claim was overtaken by another finding
    // before it had its seal: nobody vouches for it then, and it is counted again.
    assert!((1..=20).contains(&report.contained), "\n{}", report.markdown());
    assert!(report.contained <= 10 || hour() != began, "\n{}", report.markdown());
    assert_eq!(report.contained + report.waiting, 20);
    assert_eq!(report.findings, 60);
    assert!(report.balance.count("Attach") <= report.contained + report.ends.without_record);
}

/// The hour that the breaker counts in.
fn hour() -> String {
    let (_, hour) = breaker_keys(&ACCOUNT.parse().unwrap(), firebreak_shared::clock::now());
    hour
}
