//! Orders that come together: none is lost, and none makes the work of others more.

use super::*;

fn event(id: Option<&str>) -> Value {
    json!({"id": id, "detail-type": "Containment Ordered", "detail": {"incident_id": incident().incident_id}})
}

const FIRST: Option<&str> = Some("6a7e8feb-b491-4cf7-a9f1-bf3703467718");
const SECOND: Option<&str> = Some("7bf73129-1428-4cd3-a780-95db273d1602");

/// A run that failed in the middle: its worker's time is not over yet.
async fn begun(by: Option<&str>) -> House {
    let house = House::with(&incident());
    house.bucket.answer_from(3, 503);
    house.invoke(&event(by), AMPLE).await.unwrap_err();
    house.bucket.recover();
    house
}

#[tokio::test]
async fn an_order_that_meets_somebody_at_work_comes_again_and_a_retry_goes_on() {
    let house = begun(FIRST).await;
    let (calls, pieces) = (house.account.log_calls().len(), house.account.records("piece").len());
    let answer = house.invoke(&event(SECOND), AMPLE).await.unwrap();
    assert_eq!(answer.outcome, "collecting");
    assert_eq!((house.account.log_calls().len(), house.account.records("piece").len()), (calls, pieces));
    let messages = house.account.take_messages();
    let [(again, delay)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((again["detail"]["event"].as_str(), *delay), (SECOND, 900), "after the longest invocation");
    // Lambda tries the first one again.
    assert_eq!(house.invoke(&event(FIRST), AMPLE).await.unwrap().outcome, "collected");
    assert_eq!(house.invoke(again, AMPLE).await.unwrap().outcome, "collected before");
}

#[tokio::test]
async fn an_order_goes_on_with_what_was_left_when_the_time_of_its_worker_is_over() {
    let house = begun(FIRST).await;
    let (again, _) = {
        house.invoke(&event(SECOND), AMPLE).await.unwrap();
        house.account.take_messages().remove(0)
    };
    let mut run: EvidenceRun = serde_json::from_value(plain(&house.account.records("evidence")[0])).unwrap();
    run.worker.as_mut().unwrap().until = clock::now() - SignedDuration::from_secs(1);
    house.account.put(&Record::Evidence(Box::new(run)));
    assert_eq!(house.invoke(&again, AMPLE).await.unwrap().outcome, "collected");
}

/// A value of DynamoDB's as JSON has it.
fn plain(value: &Value) -> Value {
    let Some(fields) = value.as_object() else { return value.clone() };
    if let (1, Some((kind, inner))) = (fields.len(), fields.iter().next()) {
        match (kind.as_str(), inner) {
            ("S" | "BOOL", inner) => return inner.clone(),
            ("N", Value::String(number)) => return serde_json::from_str(number).unwrap(),
            ("L", Value::Array(items)) => return items.iter().map(plain).collect(),
            ("M", inner) => {
                return inner.as_object().unwrap().iter().map(|(name, v)| (name.clone(), plain(v))).collect();
            }
            ("NULL", _) => return Value::Null,
            _ => {}
        }
    }
    fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
}

#[tokio::test]
async fn what_is_handed_on_is_left_to_whoever_it_was_handed_to() {
    let mut house = House::with(&incident());
    house.limits.object_bytes = 1;
    assert_eq!(house.invoke(&event(FIRST), OVER).await.unwrap().outcome, "collecting");
    let lanes = house.account.take_messages();
    assert!(lanes.iter().all(|(lane, _)| lane["detail"].get("event").is_none()), "{lanes:?}");
    for late in [FIRST, SECOND] {
        assert_eq!(house.invoke(&event(late), AMPLE).await.unwrap().outcome, "collecting");
        assert_eq!(house.account.take_messages().len(), 1, "{late:?} comes again, and nobody else is sent");
    }
    let mut open = lanes;
    let mut ended = Vec::new();
    while let Some((lane, _)) = open.pop() {
        ended.push(house.invoke(&lane, AMPLE).await.unwrap().outcome);
        open.extend(house.account.take_messages().into_iter().filter(|(one, _)| one["detail"]["follow_up"] != true));
    }
    assert_eq!(ended.last().map(String::as_str), Some("collected"), "{ended:?}");
}

/// Sessions that were made are asked about at the pace of one.
#[tokio::test]
async fn what_follows_from_the_rest_is_one_lanes_while_others_are_at_work() {
    let mut large = incident();
    large.principal.unique_id = Some("AROAEXAMPLE000000001".parse().unwrap());
    large.access_keys = vec!["ASIAEXAMPLE000000000".parse().unwrap()];
    large.first_seen = Some(clock::now() - SignedDuration::from_hours(24));
    let mut house = House::with(&large);
    house.limits.object_bytes = 1;
    house.account.trail("eu-west-1", vec![super::super::calls_tests::assumed(0, 2)]);
    let order = json!({"detail": {"incident_id": large.incident_id}});
    house.invoke(&order, OVER).await.unwrap();
    let mut open: std::collections::VecDeque<Value> = house.account.take_messages().into_iter().map(|m| m.0).collect();
    let run: EvidenceRun = serde_json::from_value(plain(&house.account.records("evidence")[0])).unwrap();
    let number = |of: fn(&firebreak_model::evidence::Subject<'_>) -> bool| {
        run.units().iter().filter(|unit| of(&unit.subject)).map(|unit| unit.number).collect::<Vec<_>>()
    };
    let chained = number(|subject| matches!(subject, firebreak_model::evidence::Subject::Chained))[0];
    let others = number(|subject| !subject.is_late());
    let asked =
        |house: &House| house.account.trail_calls().iter().filter(|c| c.contains("ASIAEXAMPLE000000002")).count();
    let done = |house: &House| {
        let ended = house.account.records("piece").into_iter().filter(|piece| piece.get("next").is_none());
        let ended: Vec<u32> = ended.map(|piece| piece["unit"]["N"].as_str().unwrap().parse().unwrap()).collect();
        others.iter().all(|unit| ended.contains(unit))
    };
    let mut elsewhere = 0;
    // The lanes of the logs come last.
    while let Some(message) = open.pop_front() {
        if message["detail"]["follow_up"] == true {
            continue;
        }
        let lane = &message["detail"]["lane"];
        let (lane, of) = (lane["lane"].as_u64().unwrap(), lane["of"].as_u64().unwrap());
        let (before, over) = (asked(&house), done(&house));
        house.invoke(&message, OVER).await.unwrap();
        if u64::from(chained) % of != lane && !over && !done(&house) {
            assert_eq!(asked(&house), before, "lane {lane} of {of} asks what is another's");
            elsewhere += 1;
        }
        open.extend(house.account.take_messages().into_iter().map(|m| m.0));
    }
    assert!(elsewhere > 3, "{elsewhere}");
    assert_eq!(asked(&house), 2, "a page a Region");
    house.manifest(1);
}

/// Both begin in the same moment; what the one that comes second is for comes after the first.
#[tokio::test]
async fn a_follow_up_that_loses_the_race_to_begin_comes_again() {
    let house = House::with(&incident());
    house.take().await.unwrap();
    let (follow, _) = house.account.take_messages().remove(0);
    let first: EvidenceRun = serde_json::from_value(plain(&house.account.records("evidence")[0])).unwrap();
    let previous = first.sealed.clone().map(|sealed| sealed.manifest);
    let report = EvidenceRun {
        run: 2,
        purpose: Purpose::Report,
        previous,
        signer: None,
        sealed: None,
        done_at: None,
        began_at: clock::now(),
        ..first.clone()
    };
    house.account.overtake_with(Record::Evidence(Box::new(report.clone())));
    assert_eq!(house.invoke(&follow, AMPLE).await.unwrap().outcome, "collected");
    assert_eq!(house.manifest(2).0.purpose, Purpose::Report);
    let (again, delay) = house.account.take_messages().remove(0);
    assert_eq!((&again["detail"]["follow_up"], delay > 0), (&json!(true), true));
    assert_eq!(house.invoke(&again, AMPLE).await.unwrap().outcome, "collected");
    assert_eq!(house.manifest(3).0.purpose, Purpose::FollowUp);
    // One that loses to its like is done with it.
    let house = House::with(&incident());
    house.take().await.unwrap();
    let (follow, _) = house.account.take_messages().remove(0);
    house.account.overtake_with(Record::Evidence(Box::new(EvidenceRun { purpose: Purpose::FollowUp, ..report })));
    assert_eq!(house.invoke(&follow, AMPLE).await.unwrap().outcome, "collected");
    assert_eq!(house.account.take_messages(), []);
}
