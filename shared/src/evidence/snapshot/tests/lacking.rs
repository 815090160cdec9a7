//! Logs that cannot be read, or not wholly, or not now.

use super::*;

#[tokio::test]
async fn what_cannot_be_read_is_a_gap_with_its_reason() {
    for (answer, lack) in [
        (json_error(400, "ResourceNotFoundException"), Lack::Gone),
        (json_error(400, "AccessDeniedException"), Lack::Denied),
        (json_error(400, "InvalidParameterException"), Lack::Rejected),
    ] {
        let house = House::with(&incident());
        house.account.log_answers(std::iter::repeat_n(answer, 24));
        assert_eq!(house.take().await.unwrap().outcome, "collected");
        let (manifest, _) = house.manifest(1);
        let gap = manifest.gaps.iter().find(|gap| gap.source.api == "logs:FilterLogEvents").unwrap();
        assert_eq!((gap.lack, &gap.source.parameters["logGroupName"]), (lack, &json!("/aws/lambda/orders")));
        assert!(gap.reason.contains("/aws/lambda/orders"), "{}", gap.reason);
        let detail = house.step()["detail"]["S"].as_str().unwrap().to_owned();
        let told = format!("; not collected: log group /aws/lambda/orders in eu-west-1: {}", lack.said());
        assert!(detail.contains(&told), "{detail}");
        assert!(manifest.entries.iter().all(|entry| entry.collector != "logs"));
    }
}

#[tokio::test]
async fn a_log_group_deleted_midway_leaves_what_was_read_and_a_gap() {
    let house = House::with(&incident());
    let page = json!({"events": [{"message": "a", "timestamp": 1}], "nextToken": "t9"}).to_string();
    let gone = || json_error(400, "ResourceNotFoundException");
    house
        .account
        .log_answers([crate::testing::ok(page), gone()].into_iter().chain(std::iter::repeat_with(gone).take(23)));
    house.take().await.unwrap();
    assert_eq!(house.lines(1), ["a"]);
    let (manifest, _) = house.manifest(1);
    assert!(manifest.gaps.iter().any(|gap| gap.what.contains("log group") && gap.lack == Lack::Gone));
}

#[tokio::test]
async fn a_log_that_turns_everyone_away_is_waited_for_and_then_a_gap() {
    for (answer, lack) in [(json_error(400, "ThrottlingException"), Lack::Throttled), (Wired::Lost, Lack::NoAnswer)] {
        let house = House::with(&incident());
        house.account.log_answers(std::iter::repeat_n(answer.clone(), 1_000));
        let mut order = json!({"detail": {"incident_id": incident().incident_id}});
        let mut waits = Vec::new();
        loop {
            let said = house.invoke(&order, AMPLE).await.unwrap().outcome;
            let mut messages = house.account.take_messages();
            let (message, delay) = messages.remove(0);
            if said == "collected" {
                break;
            }
            waits.push(delay);
            order = message;
        }
        // What can be done meanwhile is done first.
        let waiting: Vec<u64> = waits.iter().copied().skip_while(|wait| *wait == 0).collect();
        assert!(waiting.len() >= 4 && waiting.iter().all(|wait| *wait == STALLED), "{waits:?}");
        assert!(waits.len() - waiting.len() <= 4, "{waits:?}");
        let gaps = house.manifest(1).0.gaps;
        assert!(gaps.iter().any(|gap| gap.what.contains("log group") && gap.lack == lack), "{gaps:?}");
    }
}

/// Midway, so that what was read is kept, and reading goes on behind it.
#[tokio::test]
async fn a_throttle_costs_the_log_one_call_and_no_page_is_asked_for_twice() {
    let house = House::with(&incident());
    let first = json!({"events": [{"message": "a", "timestamp": 1}], "nextToken": "t1"}).to_string();
    let throttle = || json_error(400, "ThrottlingException");
    house.account.log_answers([throttle(), crate::testing::ok(first), throttle(), throttle()]);
    let mut order = json!({"detail": {"incident_id": incident().incident_id}});
    while house.invoke(&order, AMPLE).await.unwrap().outcome != "collected" {
        order = house.account.take_messages().remove(0).0;
    }
    let calls = house.account.log_calls();
    let tokens: Vec<_> = calls.iter().map(|call| call["nextToken"].as_str().unwrap_or_default()).collect();
    assert_eq!(tokens, ["", "", "t1", "t1", "t1", "t2"], "three pages, and three that were turned away");
    assert_eq!((house.lines(1), slices_of(&house)), (["a", "c"].map(str::to_owned).to_vec(), 1));
    assert!(house.manifest(1).0.gaps.iter().all(|gap| !gap.what.contains("log group")));
}

#[tokio::test]
async fn an_api_that_repeats_its_token_is_not_taken_for_the_end() {
    let house = House::with(&incident());
    let page = || crate::testing::ok(json!({"events": [{"message": "a"}], "nextToken": "t1"}).to_string());
    house.account.log_answers([page(), page()]);
    house.take().await.unwrap();
    let (manifest, _) = house.manifest(1);
    assert!(manifest.gaps.iter().any(|gap| gap.reason.contains("repeated a page")), "{:?}", manifest.gaps);
}

/// Seen of AWS: <https://github.com/boto/boto3/issues/1584>.
#[tokio::test]
async fn a_page_without_events_that_leads_to_itself_is_asked_for_again() {
    let page = |events: serde_json::Value| crate::testing::ok(json!({"events": events, "nextToken": "t1"}).to_string());
    let empty = || page(json!([]));
    let last = || crate::testing::ok(json!({"events": [{"message": "b"}]}).to_string());
    for (repeats, whole) in [(20, true), (21, false)] {
        let house = House::with(&incident());
        let first = page(json!([{"message": "a"}]));
        let answers = [vec![first], (0..repeats).map(|_| empty()).collect(), vec![last()]].concat();
        house.account.log_answers(answers);
        house.take().await.unwrap();
        let (manifest, _) = house.manifest(1);
        assert_eq!(manifest.gaps.iter().any(|gap| gap.reason.contains("repeated a page")), !whole, "{repeats}");
        let lines: u64 =
            manifest.entries.iter().filter(|entry| entry.collector == "logs").map(|entry| entry.lines).sum();
        assert_eq!(lines, 1 + u64::from(whole), "{repeats}");
    }
}

/// A token lives for a day; a message that is redriven comes later.
#[tokio::test]
async fn a_place_that_the_log_no_longer_knows_is_found_again_by_time() {
    let mut house = House::with(&incident());
    house.limits.object_bytes = 1;
    let order = json!({"detail": {"incident_id": incident().incident_id}});
    while house.account.records("piece").iter().all(|piece| piece.get("next").is_none()) {
        house.invoke(&order, OVER).await.unwrap();
    }
    house.account.take_messages();
    house.account.log_answers([json_error(400, "InvalidParameterException")]);
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    let calls = house.account.log_calls();
    let anew = calls.iter().filter(|call| call.get("nextToken").is_none()).count();
    assert_eq!(anew, 2, "once at the beginning, once by time: {calls:?}");
    let (manifest, _) = house.manifest(1);
    assert!(manifest.gaps.iter().any(|gap| gap.reason.contains("twice")), "{:?}", manifest.gaps);
    for line in ["a", "b", "c"] {
        assert!(house.lines(1).contains(&line.to_owned()), "nothing is lost");
    }
}
