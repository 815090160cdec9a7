//! A clock that is wrong: AWS refuses what is signed more than five minutes off, so that nothing is half done. The next try
//! finds another machine, with another clock.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::lives::{Case, House, Work, drill, session};
use common::mortal::Mortal;
use common::table;
use firebreak_shared::failure::Failure;
use gameday::findings;
use gameday::scene::Victim;
use jiff::SignedDuration;
use serde_json::json;

/// Does nothing, anywhere, and says that it is worth another try.
async fn does_nothing(case: &Case<'_>, work: &Work, off: SignedDuration) {
    let before = case.left().await;
    let wire = Mortal::with_a_clock_off_by(off);
    let end = case.invoke(work, &wire).await.unwrap();
    assert!(matches!(end, Err(Failure::Transient(_))), "{off}: {work:?}: {end:?}");
    assert!(wire.calls() > 0, "{off}: {work:?}");
    let after = case.left().await;
    assert_eq!(before.0.changes(&after.0), Vec::<String>::new(), "{off}: {work:?}");
    assert_eq!(table::differences(&before.1, &after.1), Vec::<String>::new(), "{off}: {work:?}");
}

/// Every function, in the order of a containment and its release: before each is done, a wrong clock tries.
async fn contained_and_released(name: &str, off: SignedDuration, tries: bool) {
    let house = House::set_up().await;
    let victim = Victim::set_up(&house.aws, "clock", "").await.unwrap();
    let id = victim.role.incident().unwrap();
    let case = house.case(name).await;
    let before = house.look().await;
    let finding = drill(&findings::access_key_of_instance(&house.aws, &session(&victim.role)).unwrap());
    let by_hand = json!({"firebreak": "contain", "role": victim.role.arn, "functions": [victim.function_arn],
        "response": ["quarantine", "isolate", "revoke"], "reason": "a test", "requested_by": "ana"});
    for work in [
        Work::Contain(finding),
        Work::Contain(by_hand),
        Work::Isolate(id.clone()),
        Work::Revoke(id.clone()),
        Work::Page(id.clone()),
        Work::Release(id.clone()),
    ] {
        if tries {
            does_nothing(&case, &work, off).await;
            case.carry_through(&work, name).await;
        } else {
            // Within what AWS allows it is the same as with the right time.
            let end = case.invoke(&work, &Mortal::with_a_clock_off_by(off)).await.unwrap();
            assert!(end.is_ok(), "{off}: {work:?}: {end:?}");
        }
        if matches!(work, Work::Isolate(_)) {
            assert_ne!(before.changes(&house.look().await), Vec::<String>::new(), "nothing was changed");
        }
    }
    house.end_revocations().await;
    assert_eq!(before.changes(&house.look().await), Vec::<String>::new(), "{name}, then released");
}

#[tokio::test]
async fn a_clock_ten_minutes_ahead_contains_and_releases_nothing_and_another_does_it_all() {
    contained_and_released("ahead", SignedDuration::from_mins(10), true).await;
}

#[tokio::test]
async fn a_clock_ten_minutes_behind_contains_and_releases_nothing_and_another_does_it_all() {
    contained_and_released("behind", SignedDuration::from_mins(-10), true).await;
}

#[tokio::test]
async fn a_clock_four_minutes_off_contains_and_releases_as_a_right_one() {
    contained_and_released("a-little-ahead", SignedDuration::from_mins(4), false).await;
    contained_and_released("a-little-behind", SignedDuration::from_mins(-4), false).await;
}
