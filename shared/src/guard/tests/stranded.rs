//! What no watch is over: a release that was killed in the middle, and an order whose message was lost.

use firebreak_model::ledger::{LONGEST_RELEASE, ReleaseOrder};
use firebreak_model::watch::Check;

use super::*;
use crate::testing::release_order;

/// The contained role whose release was last written so long ago.
fn releasing(ago: SignedDuration) -> (Incident, StepRecord) {
    let (ordered, step) = contained();
    let at = clock::now() - ago;
    let release = ReleaseOrder { from: Some(IncidentState::Ordered), ..release_order(at) };
    (Incident { state: IncidentState::Releasing, release: Some(release), updated_at: at, ..ordered }, step)
}

fn stranded() -> (Incident, StepRecord) {
    releasing(LONGEST_RELEASE + SignedDuration::from_secs(1))
}

/// What the index of open incidents says.
fn open(incidents: &[&Incident]) -> Scripted {
    let key = |incident: &&Incident| json!({"pk": {"S": format!("incident#{}", incident.incident_id)}});
    ok(json!({"Items": incidents.iter().map(key).collect::<Vec<_>>()}).to_string())
}

/// What a look at the incident reads of the ledger, between the incident itself and what is written.
fn read_of(incident: &Incident, step: &StepRecord, watch: Scripted) -> Vec<Scripted> {
    vec![items(&[Record::Step(Box::new(step.clone()))]), watch, stored(incident)]
}

async fn looked(wires: &Wires) -> (Vec<String>, Vec<String>) {
    let end = wires.guard().look_at_unwatched(&[]).await.unwrap();
    assert_eq!(wires.unused(), 0, "{:?} {:?}", wires.ledger.requests(), wires.iam.requests());
    end
}

fn puts(wires: &Wires) -> Vec<String> {
    wires.ledger.requests().into_iter().filter(|request| request.contains(".PutItem")).collect()
}

#[tokio::test]
async fn what_a_release_left_that_nobody_brings_to_its_end_is_looked_at_and_recorded() {
    let (incident, step) = stranded();
    let undone = StepRecord { state: StepState::Reverted, ..step.clone() };
    for (why, record, iam, found) in [
        ("nothing is undone", &step, [vec![as_pinned()], read(DENY)].concat(), r#""found":{"L":[]}"#),
        (
            "the deny is gone",
            &step,
            [vec![as_pinned()], read("arn:aws:iam::aws:policy/ReadOnlyAccess")].concat(),
            "`quarantine-role@role/orders` is undone",
        ),
        ("the release undid it", &undone, vec![as_pinned()], "`quarantine-role@role/orders` reverted"),
    ] {
        let script = [vec![open(&[&incident]), stored(&incident)], read_of(&incident, record, ok("{}"))].concat();
        let wires = Wires {
            ledger: Wire::answering(script.into_iter().chain([ok("{}")])),
            iam: Wire::answering(iam),
            ..Wires::default()
        };
        let (said, failed) = looked(&wires).await;
        assert_eq!((said, failed.len()), (vec![format!("`{}` is stranded", incident.incident_id)], 0), "{why}");
        let puts = puts(&wires);
        // Nothing is put on record as tampering: nobody puts it back while a release is under way.
        assert!(puts.len() == 1 && puts[0].contains(r#""pk":{"S":"watch"}"#), "{why}: {puts:?}");
        let since = format!(r#""since":{{"S":"{}"}}"#, incident.updated_at);
        for part in [r#""standing":{"S":"stranded"}"#, found, &since] {
            assert!(puts[0].contains(part), "{why}, {part}: {}", puts[0]);
        }
        assert!(!puts[0].contains("next_check_at"), "{}", puts[0]);
    }
}

#[tokio::test]
async fn what_was_ordered_and_never_held_to_the_guard_rails_is_told_and_gone_on_with() {
    let (ordered, _) = contained();
    let unvetted = |minutes| {
        let updated_at = clock::now() - SignedDuration::from_mins(minutes);
        Incident { unvetted: true, updated_at, ..ordered.clone() }
    };
    let left = unvetted(11);
    let wires =
        Wires { ledger: Wire::answering([open(&[&left]), stored(&left), stored(&left), ok("{}")]), ..Wires::default() };
    let (said, failed) = looked(&wires).await;
    assert_eq!((said, failed.len()), (vec![format!("`{}` is not carried out", left.incident_id)], 0));
    let puts = puts(&wires);
    // The stream makes of it what has the owner go on.
    for part in
        [r#""kind":{"S":"tamper"}"#, r#""nature":{"S":"unbegun"}"#, r#""owners":{"L":[{"S":"quarantine-principal"}]}"#]
    {
        assert!(puts.len() == 1 && puts[0].contains(part), "{part}: {puts:?}");
    }
    // An invocation may still be at it, or another try of one.
    assert!(!unvetted(9).is_unbegun(clock::now()) && !ordered.is_unbegun(clock::now()));
}

#[tokio::test]
async fn a_release_that_may_be_under_way_is_left_alone_and_so_is_what_only_waits() {
    let (young, _) = releasing(LONGEST_RELEASE - SignedDuration::from_secs(30));
    let (mut waiting, _) = contained();
    waiting.state = IncidentState::AwaitingApproval;
    let withheld = Incident { state: IncidentState::Withheld, ..waiting.clone() };
    for incident in [young, waiting, withheld] {
        let wires = Wires { ledger: Wire::answering([open(&[&incident]), stored(&incident)]), ..Wires::default() };
        assert_eq!(looked(&wires).await, (vec![], vec![]), "{}", incident.state);
        assert_eq!(wires.ledger.requests().len(), 2, "one read of the index, and one of each incident in it");
    }
    // Somebody asks for it again in the midst of the look.
    let (incident, step) = stranded();
    let again = Incident { updated_at: clock::now(), version: 7, ..incident.clone() };
    let script = [vec![open(&[&incident]), stored(&incident)], read_of(&again, &step, ok("{}"))].concat();
    let wires = Wires {
        ledger: Wire::answering(script),
        iam: Wire::answering([vec![as_pinned()], read(DENY)].concat()),
        ..Wires::default()
    };
    looked(&wires).await;
    assert!(puts(&wires).is_empty());
}

#[tokio::test]
async fn the_watch_over_what_a_release_left_is_not_forgotten_and_does_not_read_it_twice() {
    let (incident, step) = stranded();
    let watch = Watch::of(&incident, &Wires::default().guard().pace, clock::now());
    let watch = Watch { version: 3, ..watch };
    let watched = item(&Record::Watch(Box::new(watch)));
    let script = [vec![stored(&incident)], read_of(&incident, &step, watched), vec![ok("{}")]].concat();
    let wires = Wires {
        ledger: Wire::answering(script),
        iam: Wire::answering([vec![as_pinned()], read(DENY)].concat()),
        ..Wires::default()
    };
    let answer = Box::pin(wires.guard().check(&incident.incident_id, Cause::Sweep, None)).await.unwrap();
    assert_eq!((answer.outcome.as_str(), wires.unused()), ("stranded", 0));
    assert!(!wires.ledger.requests().iter().any(|request| request.contains(".DeleteItem")));
    assert!(puts(&wires)[0].contains(r#""version":{"N":"4"}"#), "{:?}", puts(&wires));
    // What is watched, the sweep reads by itself.
    let known = [crate::ledger::Watched { id: incident.incident_id.clone(), functions: vec![], updated_at: None }];
    let wires = Wires { ledger: Wire::answering([open(&[&incident])]), ..Wires::default() };
    assert_eq!(wires.guard().look_at_unwatched(&known).await.unwrap(), (vec![], vec![]));
    assert_eq!(wires.unused(), 0);
}

#[tokio::test]
async fn an_order_whose_message_was_lost_is_watched_from_the_next_sweep_on() {
    let (incident, step) = contained();
    let script = [open(&[&incident]), stored(&incident), stored(&incident), ok("{}")];
    let wires = Wires {
        ledger: Wire::answering(script.into_iter().chain([items(&[Record::Step(Box::new(step))]), ok("{}")])),
        iam: Wire::answering(in_force()),
        sqs: Wire::answering([sent()]),
        trail: Wire::answering([nothing_recorded(), nothing_recorded()]),
        ..Wires::default()
    };
    let (said, _) = looked(&wires).await;
    assert_eq!(said, [format!("`{}` is watching", incident.incident_id)]);
}

#[tokio::test]
async fn an_incident_that_cannot_be_gone_by_fails_no_sweep_and_a_silent_ledger_does() {
    let (incident, _) = contained();
    let newer = ok(json!({"Item": {"kind": {"S": "incident"}, "schema": {"N": "9"}}}).to_string());
    let wires = Wires { ledger: Wire::answering([open(&[&incident]), newer]), ..Wires::default() };
    assert_eq!(looked(&wires).await, (vec![], vec![]));
    let throttled = json_error(400, "ProvisionedThroughputExceededException");
    let wires = Wires { ledger: Wire::answering([open(&[&incident]), throttled]), ..Wires::default() };
    assert_eq!(looked(&wires).await.1.len(), 1);
}

#[test]
fn what_a_release_left_is_watched_anew_when_it_is_taken_back() {
    let (incident, _) = stranded();
    let pace = Wires::default().guard().pace;
    let at = clock::now();
    let watch = Watch { done: 4, next_check_at: None, ..Watch::of(&incident, &pace, at) }.stranded(&incident, &[], at);
    let back = Incident { state: IncidentState::Ordered, ..incident.clone() };
    let look = Look {
        at,
        cause: Cause::Order,
        steps: Vec::new(),
        opinion: Opinion::NotAsked,
        trail: TrailLook::NotAsked,
        search: firebreak_model::watch::Search::NotAsked,
    };
    let next = watch.looked(&back, &look, &pace);
    assert_eq!((next.since, next.done, next.next_check_at), (at, 0, pace.due(at, 0)));
    assert_eq!(next.standing, Standing::Watching);
    let kept: Vec<&Check> = next.checks.iter().collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
}
