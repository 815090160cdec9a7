//! What CloudTrail tells of calls since the deny, and how much of it a look reads.

use super::*;

fn events(seconds: &[i64], error: Option<&str>, token: Option<&str>) -> Scripted {
    let (incident, _) = contained();
    let record = |second: &i64| {
        let time = incident.ordered_since() + SignedDuration::from_secs(*second);
        let mut record = json!({"eventName": "PutObject", "eventSource": "s3.amazonaws.com", "eventID": second.to_string(),
            "eventTime": time.to_string(), "recipientAccountId": "111122223333",
            "userIdentity": {"type": "AssumedRole", "accountId": "111122223333",
                "principalId": "AROAEXAMPLE000000001:i-0", "sessionContext": {"sessionIssuer": {
                    "userName": "orders", "arn": "arn:aws:iam::111122223333:role/orders"}}}});
        if let Some(code) = error {
            record["errorCode"] = json!(code);
        }
        json!({"CloudTrailEvent": record.to_string()})
    };
    let mut answer = json!({"Events": seconds.iter().map(record).collect::<Vec<_>>()});
    if let Some(token) = token {
        answer["NextToken"] = json!(token);
    }
    ok(answer.to_string())
}

async fn told(answers: impl IntoIterator<Item = Scripted>) -> TrailLook {
    let (incident, step) = contained();
    let wires = Wires { trail: Wire::answering(answers), ..Wires::default() };
    let guard = wires.guard();
    let watch = Watch::of(&incident, &guard.pace, clock::now());
    let bound = Bound { since: step.verified_at.unwrap(), sessions_before: None };
    guard.trail(&incident, &watch, Cause::Recheck, bound, clock::now()).await
}

#[tokio::test]
async fn calls_since_the_deny_are_read_on_every_page_and_what_was_refused_is_none() {
    let TrailLook::Calls { calls, .. } =
        told([events(&[20, -30], None, Some("t1")), events(&[40], None, None), events(&[20], None, None)]).await
    else {
        unreachable!("CloudTrail answered")
    };
    let ids: Vec<&str> = calls.iter().map(|call| call.event_id.as_str()).collect();
    assert_eq!(ids, ["20", "40"], "each once, and none from before the deny");
    let TrailLook::Calls { calls, .. } = told([events(&[20], Some("AccessDenied"), None), nothing_recorded()]).await
    else {
        unreachable!("CloudTrail answered")
    };
    assert!(calls.is_empty());
}

#[tokio::test]
async fn what_cloudtrail_did_not_answer_wholly_is_said_so() {
    let denied = told([json_error(400, "AccessDeniedException")]).await;
    assert!(matches!(&denied, TrailLook::Unread(why) if why.contains("denied")), "{denied:?}");
    let repeated = told([events(&[], None, Some("t1")), events(&[], None, Some("t1"))]).await;
    assert!(matches!(&repeated, TrailLook::Unread(why) if why.contains("repeats")), "{repeated:?}");
}

/// The role whose sessions are revoked while it lives on, and the record of that.
fn revoked() -> (Incident, StepRecord) {
    let (mut incident, _) = contained();
    let step = Step { action: ActionId::RevokeSessions, target: (&incident.principal.name).into() };
    let ordered = incident.ordered_since();
    incident.plan.steps = vec![step.clone()];
    let record = incident.step_record(&step, ordered);
    let at = Some(ordered + SignedDuration::from_secs(1));
    (incident, StepRecord { state: StepState::Applied, verified_at: at, first_verified_at: at, ..record })
}

#[tokio::test]
async fn of_a_principal_that_lives_on_cloudtrail_is_asked_for_the_sessions_that_were_revoked() {
    let (incident, step) = revoked();
    let ordered = incident.ordered_since();
    let of_session = |id: &str, began: i64| {
        let at = |seconds| (ordered + SignedDuration::from_secs(seconds)).to_string();
        json!({"CloudTrailEvent": json!({"eventName": "PutObject", "eventSource": "s3.amazonaws.com", "eventID": id,
            "eventTime": at(40), "recipientAccountId": "111122223333",
            "userIdentity": {"type": "AssumedRole", "accountId": "111122223333",
                "principalId": "AROAEXAMPLE000000001:orders", "sessionContext": {
                    "attributes": {"creationDate": at(began)},
                    "sessionIssuer": {"userName": "orders", "arn": "arn:aws:iam::111122223333:role/orders"}}}})
            .to_string()})
    };
    let events = json!({"Events": [of_session("stolen", -60), of_session("fresh", 30)]}).to_string();
    let reach = firebreak_model::policy::whole_seconds(step.verified_at.unwrap() + SignedDuration::from_mins(1));
    let wires = Wires {
        ledger: Wire::answering([stored(&incident), ok("{}"), items(&[Record::Step(Box::new(step))]), ok("{}")]),
        iam: Wire::answering([as_pinned(), crate::testing::standing(&firebreak_model::policy::revocation(reach))]),
        sqs: Wire::answering([sent()]),
        trail: Wire::answering([ok(events), nothing_recorded()]),
        ..Wires::default()
    };
    played(&wires, &order_of(&incident)).await;
    assert_eq!(wires.unused(), 0, "{:?} {:?}", wires.iam.requests(), wires.trail.requests());
    let put = wires.ledger.requests().pop().unwrap();
    let asked = r#""cloudtrail_regions":{"L":[{"S":"eu-west-1"},{"S":"us-east-1"}]}"#;
    assert!(put.contains(asked), "where it was asked is on record: {put}");
    let hosts = ["cloudtrail.eu-west-1.amazonaws.com", "cloudtrail.us-east-1.amazonaws.com"];
    assert_eq!(wires.trail.hosts(), hosts, "and it was asked nowhere else, once each");
    assert!(put.contains(r#""event_id":{"S":"stolen"}"#) && !put.contains("fresh"), "{put}");
    assert!(put.contains(r#""standing":{"S":"partial"}"#), "forty seconds later it goes on: {put}");
    assert!(put.contains(r#""opinion":{"M":{"is":{"S":"not_asked"}}}"#), "{put}");
}

/// A page of one event.
fn page(at: Timestamp, more: bool) -> Scripted {
    let record = json!({"eventTime": at.to_string()}).to_string();
    let mut page = json!({"Events": [{"CloudTrailEvent": record}]});
    if more {
        page["NextToken"] = json!(format!("t{at}"));
    }
    ok(page.to_string())
}

#[tokio::test]
async fn what_is_too_much_for_one_look_is_read_slice_by_slice_from_the_oldest_on() {
    let (incident, _) = contained();
    let now = clock::now();
    let denied = firebreak_model::policy::whole_seconds(now - SignedDuration::from_hours(1));
    let bound = Bound { since: denied, sessions_before: None };
    let after = |seconds: i64| denied + SignedDuration::from_secs(seconds);
    // Ten pages that fill ten seconds, and there are more; the slice after the deny is whole, the next is not.
    let newest = (0..10).map(|n| page(after(1010 - n), true));
    let slices = [nothing_recorded()].into_iter().chain((0..10).map(|n| page(after(18 - n % 9), true)));
    let wires = Wires { trail: Wire::answering(newest.chain(slices).chain([nothing_recorded()])), ..Wires::default() };
    let guard = wires.guard();
    let watch = Watch { since: denied, ..Watch::of(&incident, &guard.pace, now) };
    let look = guard.trail(&incident, &watch, Cause::Recheck, bound, now).await;
    assert_eq!(wires.unused(), 0, "{:?}", wires.trail.requests());
    let TrailLook::Calls { complete_until, behind, .. } = look else { unreachable!("CloudTrail answered") };
    assert_eq!(complete_until, after(9), "what was whole is kept");
    assert!(behind.unwrap().contains("ReadOnly"));
    let asked = &wires.trail.requests()[10];
    assert!(asked.contains(&format!(r#""EndTime":{}"#, after(9).as_second())), "{asked}");
    // The next look goes on there, and is through.
    let watch = Watch { cloudtrail_complete_until: Some(after(9)), ..watch };
    let wires = Wires { trail: Wire::answering([nothing_recorded(), nothing_recorded()]), ..Wires::default() };
    let look = wires.guard().trail(&incident, &watch, Cause::Sweep, bound, now).await;
    assert!(matches!(look, TrailLook::Calls { behind: None, .. }), "{look:?}");
    assert!(wires.trail.requests()[0].contains(&format!(r#""StartTime":{}"#, after(9).as_second())));
}
