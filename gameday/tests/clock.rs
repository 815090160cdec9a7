//! A clock that is wrong. AWS refuses what is signed too far off: some services at five minutes, those of the ledger and of
//! IAM at fifteen. Whatever could be done by then, the next try finds another machine with another clock, and completes it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use aws_credential_types::Credentials;
use common::lives::{Case, House, Work, drill, session};
use common::mortal::Mortal;
use common::table;
use firebreak_shared::failure::Failure;
use gameday::findings;
use gameday::scene::Victim;
use jiff::SignedDuration;
use serde_json::json;

/// What a function on a machine with a wrong clock comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It does nothing, anywhere, and says that it is worth another try.
    Nothing,
    /// It does all of it, or says that it is worth another try.
    AllOrAgain,
    /// It does all of it.
    All,
}

async fn with_a_wrong_clock(case: &Case<'_>, work: &Work, off: SignedDuration, wanted: End) {
    let before = case.left().await;
    let wire = Mortal::with_a_clock_off_by(off);
    let end = case.invoke(work, &wire).await.unwrap();
    let told = format!("{off}, {work:?}: {end:?}");
    let again = matches!(end, Err(Failure::Transient(_)));
    assert!(wire.calls() > 0 && (again || end.is_ok()), "{told}");
    assert!(wanted == End::AllOrAgain || again == (wanted == End::Nothing), "{told}");
    let after = case.left().await;
    if wanted == End::Nothing {
        assert_eq!(table::differences(&before.1, &after.1), Vec::<String>::new(), "{told}");
        assert_eq!(before.0.changes(&after.0), Vec::<String>::new(), "{told}");
    }
}

/// Every function, in the order of a containment and its release. Before each is done, a wrong clock tries.
async fn contained_and_released(minutes: i64, wanted: End) {
    let off = SignedDuration::from_mins(minutes);
    let mut house = House::set_up().await;
    // The signatures of the account's root user are not looked at.
    let operator = house.aws.clone();
    operator.iam.create_user().user_name("operator").send().await.unwrap();
    let all = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let put = operator.iam.put_user_policy().user_name("operator").policy_name("all");
    put.policy_document(all.to_string()).send().await.unwrap();
    let key = operator.iam.create_access_key().user_name("operator").send().await.unwrap().access_key.unwrap();
    house.aws = operator.as_identity(Credentials::new(key.access_key_id, key.secret_access_key, None, None, "a user"));
    let victim = Victim::set_up(&operator, "clock", "").await.unwrap();
    let id = victim.role.incident().unwrap();
    let case = house.case(&format!("off-by-{minutes}")).await;
    let before = house.look().await;
    let finding = drill(&findings::access_key_of_instance(&operator, &session(&victim.role)).unwrap());
    let by_hand = json!({"firebreak": "contain", "role": victim.role.arn, "functions": [victim.function_arn],
        "response": ["quarantine", "isolate", "revoke"], "reason": "a test", "requested_by": "ana"});
    let undenied = case.left().await;
    for work in [
        Work::Contain(finding),
        Work::Contain(by_hand),
        Work::Isolate(id.clone()),
        Work::Revoke(id.clone()),
        Work::Page(id.clone()),
        Work::Release(id.clone()),
    ] {
        with_a_wrong_clock(&case, &work, off, wanted).await;
        case.carry_through(&work, &format!("{off}")).await;
        if matches!(work, Work::Isolate(_)) {
            assert!(!undenied.0.changes(&house.look().await).is_empty(), "{off}: nothing was changed");
        }
    }
    house.end_revocations().await;
    assert_eq!(before.changes(&house.look().await), Vec::<String>::new(), "{off}, then released");
}

#[tokio::test]
async fn a_clock_twenty_minutes_off_contains_and_releases_nothing_and_another_does_it_all() {
    contained_and_released(20, End::Nothing).await;
    contained_and_released(-20, End::Nothing).await;
}

#[tokio::test]
async fn what_a_clock_ten_minutes_off_has_begun_another_completes_and_releases_whole() {
    contained_and_released(10, End::AllOrAgain).await;
    contained_and_released(-10, End::AllOrAgain).await;
}

#[tokio::test]
async fn a_clock_four_minutes_off_contains_and_releases_as_a_right_one() {
    contained_and_released(4, End::All).await;
    contained_and_released(-4, End::All).await;
}
