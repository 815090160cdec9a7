//! Where a function logs, and what is not read there.

use super::*;
use crate::testing::ok;

const FUNCTIONS: &str = "/2015-03-31/functions/orders";

fn logs_to(group: &str) -> Value {
    json!({"LoggingConfig": {"LogGroup": group}})
}

/// A function whose `$LATEST` logs to one group, and its versions to others.
fn house(latest: &str, versions: &[&str]) -> House {
    let house = House::with(&incident());
    house.account.place(&format!("{FUNCTIONS}/configuration"), [ok(logs_to(latest).to_string())]);
    let versions: Vec<Value> = versions.iter().map(|group| logs_to(group)).collect();
    house.account.place(&format!("{FUNCTIONS}/versions"), [ok(json!({"Versions": versions}).to_string())]);
    house
}

/// The groups that were asked for events, each once.
fn asked(house: &House) -> Vec<String> {
    let mut groups: Vec<String> =
        house.account.log_calls().iter().map(|call| call["logGroupName"].as_str().unwrap().to_owned()).collect();
    groups.sort();
    groups.dedup();
    groups
}

fn log_gaps(house: &House) -> Vec<(String, String)> {
    let gaps = house.manifest(1).0.gaps.into_iter().filter(|gap| gap.what.starts_with("log group"));
    gaps.map(|gap| (gap.what, gap.reason)).collect()
}

#[tokio::test]
async fn the_groups_of_every_version_are_read_and_the_default_one_though_no_configuration_names_it() {
    let house = house("/thief", &["/thief", "/shop", "/shop"]);
    house.account.group("/aws/lambda/orders", json_error(400, "ResourceNotFoundException"));
    house.take().await.unwrap();
    assert_eq!(asked(&house), ["/aws/lambda/orders", "/shop", "/thief"]);
    assert_eq!(house.lines(1), ["a", "b", "c", "a", "b", "c"]);
    assert_eq!(log_gaps(&house), [], "what no configuration names may not be there");
    let (manifest, _) = house.manifest(1);
    let told = manifest.entries.iter().find(|entry| entry.what.contains("/aws/lambda/orders in")).unwrap();
    assert!(told.what.contains("there is none of that name") && told.lines == 0, "{}", told.what);
    // Where it is there, it is read like the others.
    let house = self::house("/shop", &[]);
    house.take().await.unwrap();
    assert_eq!(house.lines(1).len(), 6);
    // Where a configuration names it, it is missing.
    let house = self::house("/aws/lambda/orders", &["/shop"]);
    house.account.group("/aws/lambda/orders", json_error(400, "ResourceNotFoundException"));
    house.take().await.unwrap();
    assert_eq!(log_gaps(&house).len(), 1, "{:?}", log_gaps(&house));
}

#[tokio::test]
async fn a_configuration_that_aws_does_not_give_for_now_is_waited_for_and_one_that_it_refuses_is_a_gap() {
    let place = format!("{FUNCTIONS}/configuration");
    let house = house("", &[]);
    let busy = || json_error(429, "TooManyRequestsException");
    house.account.place(&place, [busy(), busy(), ok(logs_to("/shop").to_string())]);
    let mut order = json!({"detail": {"incident_id": incident().incident_id}});
    let mut waits = Vec::new();
    while house.invoke(&order, AMPLE).await.unwrap().outcome == "collecting" {
        assert_eq!(house.account.records("evidence"), Vec::<Value>::new(), "nothing is fixed before it is known");
        let (message, wait) = house.account.take_messages().remove(0);
        (order, waits) = (message, [waits, vec![wait]].concat());
    }
    assert_eq!((waits, log_gaps(&house)), (vec![STALLED, STALLED], vec![]));
    assert!(asked(&house).contains(&"/shop".to_owned()));
    // It never answers, or refuses: the run begins with what is known.
    for (answer, waited) in [(busy(), 5), (json_error(403, "AccessDeniedException"), 0)] {
        let house = self::house("", &["/shop"]);
        house.account.place(&place, [answer]);
        let mut order = json!({"detail": {"incident_id": incident().incident_id}});
        let mut waits = 0;
        while house.account.records("evidence").is_empty() {
            house.invoke(&order, AMPLE).await.unwrap();
            waits += u32::from(house.account.records("evidence").is_empty());
            order = house.account.take_messages().remove(0).0;
        }
        while house.account.records("evidence")[0].get("done_at").is_none() {
            house.invoke(&order, AMPLE).await.unwrap();
            order = house.account.take_messages().remove(0).0;
        }
        assert_eq!(waits, waited);
        let gaps = log_gaps(&house);
        assert!(gaps.len() == 1 && gaps[0].0.starts_with("log groups of arn:"), "{gaps:?}");
        assert_eq!(asked(&house), ["/aws/lambda/orders", "/shop"]);
    }
}

#[tokio::test]
async fn more_groups_than_are_read_are_named() {
    let groups: Vec<String> = (0..100).map(|n| format!("/g{n:03}")).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let house = house("/latest", &groups);
    house.take().await.unwrap();
    let asked = asked(&house);
    assert_eq!(asked.len(), 20 + 1, "{asked:?}");
    assert!(asked.contains(&"/latest".to_owned()) && asked.contains(&"/g099".to_owned()), "{asked:?}");
    let gaps = log_gaps(&house);
    assert!(gaps.len() == 1 && gaps[0].1.contains("81 more log groups") && gaps[0].1.contains("/g080"), "{gaps:?}");
}

#[tokio::test]
async fn a_follow_up_reads_the_group_that_a_thief_has_led_the_log_to_since() {
    let house = house("/shop", &[]);
    house.take().await.unwrap();
    house.account.place(&format!("{FUNCTIONS}/configuration"), [ok(logs_to("/thief").to_string())]);
    let (order, _) = house.account.take_messages().remove(0);
    let before = house.account.log_calls().len();
    house.invoke(&order, AMPLE).await.unwrap();
    let since = &house.account.log_calls()[before..];
    for group in ["/aws/lambda/orders", "/shop", "/thief"] {
        assert!(since.iter().any(|call| call["logGroupName"] == group), "{group}");
    }
}
