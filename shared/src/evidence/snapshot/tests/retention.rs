//! Log groups that keep events for so many days only.

use firebreak_model::evidence::Gap;

use super::*;
use crate::testing::ok;

const GROUP: &str = "/aws/lambda/orders";

/// An incident that was first seen so many hours ago: its window begins an hour before that.
fn seen(hours: i64) -> Incident {
    Incident { first_seen: Some(clock::now() - SignedDuration::from_hours(hours)), ..incident() }
}

fn gaps(house: &House) -> Vec<Gap> {
    house.manifest(1).0.gaps.into_iter().filter(|gap| gap.what.contains("log group")).collect()
}

#[tokio::test]
async fn what_a_log_group_keeps_no_longer_is_a_gap_that_says_from_when_on_events_can_be_there() {
    let house = House::with(&seen(72));
    house.account.keeps(GROUP, 1);
    house.take().await.unwrap();
    let (manifest, _) = house.manifest(1);
    let gaps = gaps(&house);
    assert_eq!((gaps.len(), gaps[0].lack), (1, Lack::Expired), "{gaps:?}");
    let since = manifest.began_at - SignedDuration::from_hours(24);
    let what = format!("log group {GROUP} in eu-west-1, events from {} to {since}", manifest.log_window.from);
    assert_eq!(gaps[0].what, what);
    assert!(gaps[0].reason.contains("for 1 days") && gaps[0].reason.contains(&format!("from {since} on")), "{gaps:?}");
    let asked = &gaps[0].source;
    assert_eq!((asked.api.as_str(), &asked.parameters["logGroupName"]), ("logs:FilterLogEvents", &json!(GROUP)));
    assert_eq!(asked.parameters["endTime"], since.as_millisecond());
    assert_eq!(house.lines(1).len(), 8 * 3, "what is there is read all the same: each slice");
    let detail = house.step()["detail"]["S"].as_str().unwrap().to_owned();
    assert!(detail.contains(&format!("; not collected: {what}: it is kept no longer")), "{detail}");
    // 73 hours are more than three days, and less than five; and most groups keep events for ever.
    for (days, told) in [(Some(3), 1), (Some(5), 0), (None, 0)] {
        let house = House::with(&seen(72));
        if let Some(days) = days {
            house.account.keeps(GROUP, days);
        }
        house.take().await.unwrap();
        assert_eq!((self::gaps(&house).len(), house.account.group_calls().len()), (told, 1), "{days:?}");
    }
}

#[tokio::test]
async fn for_how_long_groups_keep_events_is_asked_once_a_region_and_where_no_group_can_have_lost_any_not_at_all() {
    let house = House::with(&seen(22));
    house.account.keeps(GROUP, 1);
    house.take().await.unwrap();
    assert_eq!(
        (house.account.group_calls(), gaps(&house)),
        (vec![], vec![]),
        "no group keeps them for less than a day"
    );
    // Three functions of twenty groups and the default one each here, and one of one group elsewhere.
    let mut incident = seen(72);
    let elsewhere = "arn:aws:lambda:us-east-1:111122223333:function:far".parse().unwrap();
    incident.functions = vec![function("a"), function("b"), function("c"), elsewhere];
    let house = House::with(&incident);
    for name in ["a", "b", "c"] {
        let place = format!("/2015-03-31/functions/{name}/versions");
        let version = |n: u32| json!({"LoggingConfig": {"LogGroup": format!("/{name}/{n:02}")}});
        let versions: Vec<Value> = (0..20).map(version).collect();
        house.account.place(&place, [ok(json!({"Versions": versions}).to_string())]);
    }
    house.account.keeps("/b/07", 1);
    house.account.keeps("/aws/lambda/far", 1);
    house.take().await.unwrap();
    let calls = house.account.group_calls();
    let names = |call: &Value| call["logGroupIdentifiers"].as_array().unwrap().len();
    let mut told: Vec<_> = calls.iter().map(|call| (call["region"].as_str().unwrap(), names(call))).collect();
    told.sort_unstable();
    assert_eq!(told, [("eu-west-1", 13), ("eu-west-1", 50), ("us-east-1", 1)]);
    let mut whose: Vec<String> = gaps(&house).into_iter().map(|gap| gap.what).collect();
    whose.sort();
    assert!(whose.len() == 2 && whose[0].starts_with("log group /aws/lambda/far in us-east-1"), "{whose:?}");
    assert!(whose[1].starts_with("log group /b/07 in eu-west-1"), "{whose:?}");
    // What is read again after the deny is younger; a report reads nothing.
    for (order, _) in house.account.take_messages() {
        house.invoke(&order, AMPLE).await.unwrap();
    }
    assert_eq!(house.manifest(2).0.purpose, Purpose::FollowUp);
    assert_eq!(house.account.group_calls().len(), 3);
}

#[tokio::test]
async fn where_aws_does_not_tell_for_how_long_groups_keep_events_that_is_a_gap_and_holds_nothing_up() {
    for (answer, lack) in [
        (json_error(400, "AccessDeniedException"), Lack::Denied),
        (json_error(400, "ThrottlingException"), Lack::Throttled),
        (json_error(400, "InvalidParameterException"), Lack::Rejected),
        (Wired::Lost, Lack::NoAnswer),
    ] {
        let house = House::with(&seen(72));
        house.account.group_answers([answer]);
        assert_eq!(house.take().await.unwrap().outcome, "collected", "{lack}");
        let gaps = gaps(&house);
        assert_eq!((gaps.len(), gaps[0].lack), (1, lack), "{gaps:?}");
        assert_eq!(gaps[0].what, "for how long 1 log groups in eu-west-1 keep events");
        assert_eq!(gaps[0].source.parameters["logGroupIdentifiers"], json!([GROUP]));
        assert_eq!(house.lines(1).len(), 8 * 3, "{lack}");
    }
}
