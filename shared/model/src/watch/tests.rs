#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::decision::Decision;
use crate::ledger::tests::incident;

const PACE: [u32; 3] = [5, 30, 300];

fn pace() -> Pace {
    Pace { rechecks: PACE.to_vec(), trail_lag: 900 }
}

fn regions() -> Vec<Region> {
    vec!["eu-west-1".parse().unwrap(), "us-east-1".parse().unwrap()]
}

fn at(seconds: i64) -> Timestamp {
    incident(Decision::Act).opened_at + SignedDuration::from_secs(seconds)
}

/// A look at which everything holds, the simulator agrees and CloudTrail shows nothing.
fn holding(seconds: i64) -> Look {
    let steps = vec![StepLook { step: "quarantine-role@role/orders".to_owned(), found: Found::InForce }];
    let complete_until = pace().complete_until(at(seconds));
    Look {
        at: at(seconds),
        cause: Cause::Recheck,
        steps,
        opinion: Opinion::Agrees,
        trail: TrailLook::Calls { calls: Vec::new(), complete_until, regions: regions(), behind: None },
        search: Search::Over,
    }
}

fn finding(seconds: i64, found: Found) -> Look {
    let mut look = holding(seconds);
    look.steps[0].found = found;
    look
}

/// The watch after these looks.
fn after(looks: &[Look]) -> Watch {
    let incident = incident(Decision::Act);
    let begun = Watch::of(&incident, &pace(), at(0));
    looks.iter().fold(begun, |watch, look| watch.looked(&incident, look, &pace()))
}

fn call(seconds: i64) -> Call {
    Call { at: at(seconds), name: "s3:GetObject".to_owned(), event_id: format!("e{seconds}") }
}

#[test]
fn settled_is_said_when_every_recheck_held_and_cloudtrail_is_complete_over_them() {
    let looks = [holding(5), holding(30), holding(300), holding(1200)];
    for count in 1..4 {
        let watch = after(&looks[..count]);
        assert_eq!((watch.standing, watch.done), (Standing::Watching, count), "after {count} looks");
    }
    let watch = after(&looks);
    assert_eq!((watch.standing, watch.settled_at), (Standing::Settled, Some(at(1200))));
    assert_eq!(watch.cloudtrail_complete_until, Some(at(300)));
    assert_eq!(watch.regions_shown().as_deref(), Some("eu-west-1, us-east-1"), "settled says where it was asked");
    assert_eq!(watch.next_check_at, None, "the sweep goes on from here");
    let later = watch.looked(&incident(Decision::Act), &holding(2000), &pace());
    assert_eq!((later.standing, later.settled_at), (Standing::Settled, Some(at(1200))));
}

#[test]
fn rechecks_fall_due_at_their_times_and_an_early_look_is_none_of_them() {
    let pace = pace();
    let due: Vec<_> = (0..5).map(|done| pace.due(at(0), done)).collect();
    assert_eq!(due, [Some(at(5)), Some(at(30)), Some(at(300)), Some(at(1200)), None]);
    let watch = after(&[holding(5), holding(9), holding(20)]);
    assert_eq!((watch.done, watch.next_check_at), (1, Some(at(30))));
    assert!(!watch.is_due(at(28)) && watch.is_due(at(29)) && watch.is_due(at(40)));
}

#[test]
fn the_last_recheck_is_one_that_asked_cloudtrail_when_it_was_complete() {
    let incident = incident(Decision::Act);
    let watch = after(&[holding(5), holding(30), holding(300)]);
    let by_a_call = Look { cause: Cause::Call, trail: TrailLook::NotAsked, ..holding(1200) };
    let watch = watch.looked(&incident, &by_a_call, &pace());
    assert_eq!(
        (watch.standing, watch.next_check_at),
        (Standing::Watching, Some(at(1200))),
        "its message is on its way"
    );
    let watch = watch.looked(&incident, &holding(1199), &pace());
    assert_eq!((watch.standing, watch.next_check_at), (Standing::Watching, Some(at(1200))), "it is still to come");
    let watch = watch.looked(&incident, &holding(1200), &pace());
    assert_eq!((watch.standing, watch.next_check_at), (Standing::Settled, None));
}

#[test]
fn a_watch_that_begins_late_gives_the_containment_its_time_all_the_same() {
    let begun = |seconds| Watch::of(&incident(Decision::Act), &pace(), at(seconds)).since;
    assert_eq!((begun(6), begun(60), begun(3_600)), (at(0), at(0), at(3_600)));
}

#[test]
fn nothing_is_settled_on_less() {
    let last = |look: Look| after(&[holding(5), holding(30), holding(300), look]).standing;
    let unread = Look { trail: TrailLook::Unread("denied".to_owned()), ..holding(1200) };
    let mut asked_early = holding(1200);
    asked_early.trail =
        TrailLook::Calls { calls: Vec::new(), complete_until: at(299), regions: regions(), behind: None };
    for (why, look) in [
        ("a step that cannot be read", finding(1200, Found::Unread("throttled".to_owned()))),
        ("a step that has not come to an end", finding(1200, Found::Pending)),
        ("no step at all", Look { steps: Vec::new(), ..holding(1200) }),
        ("cloudtrail not asked to the end", unread),
        ("cloudtrail not complete", asked_early),
        ("chained sessions still looked for", Look { search: Search::Open("again".to_owned()), ..holding(1200) }),
    ] {
        assert_eq!(last(look), Standing::Watching, "{why}");
    }
    let disagrees = Look { opinion: Opinion::Disagrees("`implicitDeny`".to_owned()), ..holding(1200) };
    assert_eq!(last(disagrees), Standing::Partial);
    let no_opinion = Look { opinion: Opinion::None("throttled".to_owned()), ..holding(1200) };
    assert_eq!(last(no_opinion), Standing::Settled, "a simulator that is silent is no failure of the containment");
}

#[test]
fn what_keeps_from_calling_is_settled_by_cloudtrail_and_what_does_not_by_its_rechecks() {
    for (action, asked) in [
        ("quarantine-role@role/orders", true),
        ("bound-role@role/orders", true),
        ("revoke-sessions@role/orders", true),
        ("zero-concurrency@arn:aws:lambda:eu-west-1:111122223333:function:orders", false),
    ] {
        let unasked = |seconds| {
            let mut look = Look { opinion: Opinion::NotAsked, trail: TrailLook::NotAsked, ..holding(seconds) };
            look.steps[0].step = action.to_owned();
            look
        };
        let watch = after(&[unasked(5), unasked(30), unasked(300), unasked(1200)]);
        let expected = if asked { Standing::Watching } else { Standing::Settled };
        assert_eq!((watch.standing, watch.cloudtrail_complete_until), (expected, None), "{action}");
    }
}

#[test]
fn what_nothing_proves_long_after_the_last_recheck_is_told_and_settled_when_it_is_proven() {
    let unread = |seconds| Look { trail: TrailLook::Unread("denied".to_owned()), ..holding(seconds) };
    let incident = incident(Decision::Act);
    let watch = after(&[holding(5), holding(30), holding(300), unread(1200), unread(2900)]);
    assert_eq!((watch.standing, watch.next_check_at), (Standing::Watching, None));
    let watch = watch.looked(&incident, &unread(3100), &pace());
    assert_eq!((watch.standing, watch.settled_at), (Standing::Unproven, None));
    let behind = Look {
        trail: TrailLook::Calls {
            calls: Vec::new(),
            complete_until: at(200),
            regions: regions(),
            behind: Some("busy".to_owned()),
        },
        ..holding(3400)
    };
    let watch = watch.looked(&incident, &behind, &pace());
    assert_eq!((watch.standing, watch.cloudtrail_complete_until), (Standing::Unproven, Some(at(200))));
    assert_eq!(watch.looked(&incident, &holding(3700), &pace()).standing, Standing::Settled);
}

#[test]
fn a_second_opinion_that_is_early_is_only_told() {
    let watch = after(&[Look { opinion: Opinion::Disagrees("`allowed`".to_owned()), ..holding(5) }]);
    assert_eq!(watch.standing, Standing::Watching);
    assert!(watch.checks[0].found[0].contains("`allowed`"), "{:?}", watch.checks);
    assert!(watch.checks[0].held, "what was read back held");
}

#[test]
fn a_call_after_propagation_means_that_it_does_not_hold_and_one_before_is_told() {
    let with = |calls: Vec<Call>| Look {
        trail: TrailLook::Calls { calls, complete_until: at(300), regions: regions(), behind: None },
        ..holding(1200)
    };
    let before = [holding(5), holding(30), holding(300)];
    let early = after(&[&before[..], &[with(vec![call(3)])]].concat());
    assert_eq!((early.standing, early.calls.len(), early.late_calls().count()), (Standing::Settled, 1, 0));
    let late = after(&[&before[..], &[with(vec![call(3), call(16)])]].concat());
    assert_eq!((late.standing, late.late_calls().count()), (Standing::Partial, 1));
    // Reopened: what was settled is not any more, and the same event told twice is one call.
    let again = early.looked(&incident(Decision::Act), &with(vec![call(3), call(250)]), &pace());
    assert_eq!((again.standing, again.settled_at, again.calls.len()), (Standing::Partial, None, 2));
}

#[test]
fn what_is_undone_is_watched_anew_from_when_it_is_back() {
    let undone = finding(1300, Found::Gone("detached".to_owned()));
    let settled = [holding(5), holding(30), holding(300), holding(1200)];
    let watch = after(&[&settled[..], std::slice::from_ref(&undone)].concat());
    assert_eq!((watch.standing, watch.settled_at), (Standing::Undone, None));
    assert_eq!(watch.next_check_at, Some(at(1305)), "it is soon looked at again");
    let back = watch.looked(&incident(Decision::Act), &holding(1305), &pace());
    assert_eq!((back.standing, back.since, back.done), (Standing::Watching, at(1305), 0));
    let again = [1310, 1335, 1605, 2505].map(holding).iter().fold(back, |watch, look| {
        assert_ne!(watch.standing, Standing::Settled);
        watch.looked(&incident(Decision::Act), look, &pace())
    });
    assert_eq!((again.standing, again.settled_at), (Standing::Settled, Some(at(2505))));
}

#[test]
fn a_plan_that_grew_is_watched_from_the_beginning() {
    let settled = after(&[holding(5), holding(30), holding(300), holding(1200)]);
    let mut grown = incident(Decision::Act);
    let more = grown.plan.steps[0].clone();
    grown.plan.steps.push(more);
    let watch = settled.looked(&grown, &holding(1300), &pace());
    assert_eq!((watch.standing, watch.since, watch.done), (Standing::Watching, at(1300), 0));
}

#[test]
fn what_did_not_take_hold_is_partial_or_cannot_be_contained() {
    let failed = || Found::NotApplied("failed: denied".to_owned());
    assert_eq!(after(&[finding(5, failed())]).standing, Standing::CannotContain);
    let mut both = finding(5, failed());
    both.steps.push(StepLook { step: "zero-concurrency@f".to_owned(), found: Found::InForce });
    assert_eq!(after(&[both.clone()]).standing, Standing::Partial);
    both.steps[1].found = Found::Pending;
    assert_eq!(after(&[both]).standing, Standing::Watching, "it is not over yet");
    assert_eq!(after(&[finding(5, Found::Absent)]).standing, Standing::Watching);
}

#[test]
fn how_a_step_is_on_record_says_whether_it_is_to_be_read() {
    for (state, found) in [
        (None, Some(Found::Pending)),
        (Some(StepState::Intended), Some(Found::Pending)),
        (Some(StepState::Applied), None),
        (Some(StepState::Gone), Some(Found::Absent)),
        (Some(StepState::Failed), Some(Found::NotApplied("failed: denied".to_owned()))),
        (Some(StepState::Withheld), Some(Found::NotApplied("withheld: denied".to_owned()))),
    ] {
        assert_eq!(StepLook::on_record(state, "denied"), found);
    }
}

#[test]
fn a_watch_remembers_no_more_than_fits_and_reads_back() {
    let looks: Vec<Look> = (1..60).map(|n| holding(n * 10)).collect();
    let watch = after(&looks);
    assert_eq!(watch.checks.len(), MOST_KEPT);
    let value = serde_json::to_value(&watch).unwrap();
    assert_eq!(serde_json::from_value::<Watch>(value).unwrap(), watch);
}
