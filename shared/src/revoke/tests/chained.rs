//! Two searches at once, and one record of what they find.

use super::*;
use crate::testing::json_error;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What a search found that was complete to then: a session that ends at that time.
fn found(incident: &Incident, ends_at: &str, complete_to: &str) -> ChainRecord {
    let settled_at = Some(at(complete_to));
    ChainRecord { complete_to: at(complete_to), settled_at, ..chain(incident, ends_at) }
}

/// What a search is written as where another one recorded `other` meanwhile.
async fn kept_beside(ours: &ChainRecord, other: &ChainRecord) -> (ChainRecord, Wire) {
    let incident = quarantined();
    let refused = json_error(400, "ConditionalCheckFailedException");
    let recorded = item(&Record::Chain(Box::new(other.clone())));
    let barrier = || [none(), none()];
    let first = barrier().into_iter().chain([refused, recorded]);
    let wire = Wire::answering(first.chain(barrier()).chain([ok("{}")]));
    let (record, _) = revocation(&wire).keep(&incident, ours, None, &[]).await.unwrap();
    assert_eq!(wire.unused(), 0, "{:?}", wire.requests());
    (record, wire)
}

#[tokio::test]
async fn a_search_writes_over_nothing_that_another_one_recorded() {
    let incident = quarantined();
    let (early, late) = ("2100-01-01T00:00:00Z", "2100-01-01T01:00:00Z");
    let (mine, theirs) = ("2100-01-01T02:00:00Z", "2100-01-01T03:00:00Z");
    // Ours began first and comes second: what the other one says of CloudTrail stands.
    let ours = ChainRecord { settled_at: None, ..found(&incident, mine, early) };
    let (record, wire) = kept_beside(&ours, &ChainRecord { rounds: 4, ..found(&incident, theirs, late) }).await;
    let sessions: Vec<Timestamp> = record.sessions.iter().map(|link| link.session.ends_at).collect();
    assert_eq!(sessions, [at(mine), at(theirs)], "both are there");
    assert_eq!((record.rounds, record.complete_to, record.settled_at), (5, at(late), Some(at(late))));
    let puts: Vec<String> = wire.requests().into_iter().filter(|request| request.contains(".PutItem")).collect();
    assert!(puts[0].contains("attribute_not_exists(pk)"), "{puts:?}");
    assert!(puts[1].contains("#rounds = :before") && puts[1].contains(r#"":before":{"N":"4"}"#), "{puts:?}");
    // The other way round ours says it, and a session that both found is there once.
    let (record, _) = kept_beside(&found(&incident, mine, late), &found(&incident, mine, early)).await;
    assert_eq!((record.sessions.len(), record.complete_to), (1, at(late)));
}

#[tokio::test]
async fn a_search_is_over_only_where_cloudtrail_was_complete_after_the_last_deny_of_either() {
    let incident = quarantined();
    let ours = found(&incident, "2100-01-01T02:00:00Z", "2100-01-01T00:00:00Z");
    let step = Step { action: ActionId::RevokeChainedSessions, target: Target::Role("billing".parse().unwrap()) };
    let denied = |time: &str| {
        let record = incident.step_record(&step, at(time));
        items(&[Record::Step(Box::new(StepRecord { applied_at: Some(at(time)), ..record }))])
    };
    for (time, over) in [("2099-12-31T23:58:00Z", true), ("2099-12-31T23:59:30Z", false)] {
        let wire = Wire::answering([none(), denied(time), ok("{}")]);
        let (record, barrier) = revocation(&wire).keep(&incident, &ours, None, &[]).await.unwrap();
        assert_eq!((record.settled_at.is_some(), barrier > ours.complete_to), (over, !over), "{time}: {barrier}");
    }
}
