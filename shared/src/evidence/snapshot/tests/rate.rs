//! How often a Region is asked for log events, as if every answer came at once.

use super::*;

const HERE: &str = "eu-west-1";

fn throttle() -> Wired {
    json_error(400, "ThrottlingException")
}

/// A house whose turns at the log are noted, and whose clients would try again by themselves.
fn paced(incident: &Incident) -> (House, Pace) {
    let mut house = House::with(incident);
    let pace = Pace::noted(Limits::default().events);
    (house.events, house.tries_again) = (Some(pace.clone()), true);
    (house, pace)
}

/// Who was turned away lets one, two, four, eight and then sixteen others go by. No client makes a call again by itself.
#[tokio::test]
async fn every_try_takes_its_turn_and_the_rate_is_kept_while_the_log_throttles() {
    let (house, pace) = paced(&incident());
    house.account.log_answers(std::iter::repeat_n(throttle(), 6));
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    assert_eq!(house.account.log_calls().len(), 6 + 3, "six that were turned away, and three pages");
    assert_eq!(pace.turns(HERE), [0, 2, 5, 10, 19, 36, 53, 54, 55]);
    assert_eq!(house.lines(1), ["a", "b", "c"]);
    // It throttles for good: after eight tries others go on in a minute.
    let (house, pace) = paced(&incident());
    house.account.log_answers(std::iter::repeat_n(throttle(), 8));
    assert_eq!(house.take().await.unwrap().outcome, "collecting");
    assert_eq!((house.account.log_calls().len(), pace.turns(HERE).len()), (8, 8));
    // The time is over: nobody waits for another turn.
    let (house, pace) = paced(&incident());
    house.account.log_answers(std::iter::repeat_n(throttle(), 100));
    let order = json!({"detail": {"incident_id": incident().incident_id}});
    house.invoke(&order, OVER).await.unwrap();
    assert_eq!((house.account.log_calls().len(), pace.turns(HERE)), (1, vec![0]));
}

/// Two functions of one Region and one of another, eight slices each, three units at a time.
#[tokio::test]
async fn the_units_of_a_region_share_its_turns_and_no_other_region_waits() {
    let mut incident = incident();
    incident.first_seen = Some(clock::now() - SignedDuration::from_hours(20));
    let elsewhere = "arn:aws:lambda:us-east-1:111122223333:function:far".parse().unwrap();
    incident.functions = vec![function("a"), function("b"), elsewhere];
    let (house, pace) = paced(&incident);
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    let of = |group: &str| house.account.log_calls().iter().filter(|call| call["logGroupName"] == group).count();
    assert_eq!((of("/aws/lambda/a"), of("/aws/lambda/b"), of("/aws/lambda/far")), (24, 24, 24));
    assert_eq!(pace.turns(HERE), (0..48).collect::<Vec<_>>(), "each turn is taken once");
    assert_eq!(pace.turns("us-east-1"), (0..24).collect::<Vec<_>>());
}

/// Four lanes ask in four processes: each takes every fourth turn, so that all of them keep the rate.
#[tokio::test]
async fn lanes_keep_the_rate_of_one_together() {
    let mut large = incident();
    large.first_seen = Some(clock::now() - SignedDuration::from_hours(20));
    let mut house = House::with(&large);
    house.limits.object_bytes = 1;
    let order = json!({"detail": {"incident_id": large.incident_id}});
    house.invoke(&order, OVER).await.unwrap();
    let lanes: Vec<Value> = house.account.take_messages().into_iter().map(|(message, _)| message).collect();
    assert_eq!(lanes.len(), 4, "{lanes:?}");
    let mut turns = 0;
    for lane in &lanes {
        let pace = Pace::noted(Limits::default().events);
        house.events = Some(pace.clone());
        house.invoke(lane, AMPLE).await.unwrap();
        let taken = pace.turns(HERE);
        turns += taken.len();
        let apart = (0..taken.len()).map(|n| 4 * n as u128).collect::<Vec<_>>();
        assert_eq!(taken, apart, "{lane}");
    }
    assert!(turns > 12, "{turns}");
}
