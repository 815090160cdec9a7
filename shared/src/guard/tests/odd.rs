//! Answers of no use: nothing is settled for one, and no part of ours is there.

use super::*;

fn none_but(odd: Odd) -> Wire {
    Wire::odd(odd, [] as [(&str, _); 0])
}

/// A containment at its last re-check, of which CloudTrail is complete: with answers that are of use it is settled.
fn about_to_settle() -> (Incident, Vec<Scripted>) {
    let (mut incident, step) = contained();
    let ordered = clock::now() - SignedDuration::from_mins(40);
    incident.ordered_at = Some(ordered);
    let watch = Watch {
        since: ordered,
        done: 3,
        next_check_at: Some(clock::now()),
        ..Watch::of(&incident, &Wires::default().guard().pace, ordered)
    };
    let step = StepRecord { verified_at: Some(ordered), ..step };
    let ledger = [stored(&incident), item(&Record::Watch(Box::new(watch))), items(&[Record::Step(Box::new(step))])];
    (incident, ledger.into_iter().collect())
}

async fn standing(ledger: Vec<Scripted>, incident: &Incident, iam: Wire, trail: Wire) -> (String, usize) {
    // What is undone is looked at once more, and goes on record.
    let ledger = ledger.into_iter().chain([ok("{}"), ok("{}"), ok("{}"), ok("{}")]);
    let wires = Wires { ledger: Wire::answering(ledger), iam, sqs: none_but(Odd::Hollow), trail, ..Wires::default() };
    let recheck = message(&json!({"detail": {"incident_id": incident.incident_id}}));
    // What could not be looked at comes again by itself.
    let _ = wires.guard().handle(&recheck).await;
    let mut puts = wires.ledger.requests().into_iter().filter(|request| request.contains(r#""standing""#));
    let said = puts.next_back().and_then(|put| {
        let rest = put.split(r#""standing":{"S":""#).nth(1)?;
        rest.split('"').next().map(str::to_owned)
    });
    (said.unwrap_or_default(), wires.iam.requests().len() + wires.trail.requests().len())
}

#[tokio::test]
async fn no_containment_is_settled_for_an_answer_of_no_use() {
    let (incident, ledger) = about_to_settle();
    let quiet = || Wire::answering([nothing_recorded(), nothing_recorded(), nothing_recorded(), nothing_recorded()]);
    let (said, _) = standing(ledger, &incident, Wire::answering(in_force()), quiet()).await;
    assert_eq!(said, "settled", "with answers that are of use");
    for odd in Odd::ALL {
        let (incident, ledger) = about_to_settle();
        let (said, calls) = standing(ledger, &incident, none_but(odd), quiet()).await;
        assert!(said != "settled" && calls < 40, "IAM is {odd:?}: {said}, {calls} calls");
        // The role and its deny read well, and the simulator is right about the control.
        let (incident, ledger) = about_to_settle();
        let attached = [("Action=GetRole&", as_pinned()), ("Action=ListAttachedRolePolicies&", attached(DENY))];
        let [policy, version] = whole_deny();
        let deny = [("Action=GetPolicy&", policy), ("Action=GetPolicyVersion&", version)];
        let simulated = [("dynamodb%3AGetItem", control())];
        let iam = Wire::odd(odd, attached.into_iter().chain(deny).chain(simulated));
        let (said, calls) = standing(ledger, &incident, iam, quiet()).await;
        assert!(!said.is_empty() && said != "settled", "the simulator is {odd:?}: {said}, {calls} calls");
        if odd == Odd::Unknown {
            // What nobody did is no state, and its list is one.
            continue;
        }
        let (incident, ledger) = about_to_settle();
        let (said, calls) = standing(ledger, &incident, Wire::answering(in_force()), none_but(odd)).await;
        assert!(said != "settled" && calls < 60, "CloudTrail is {odd:?}: {said}, {calls} calls");
    }
}

#[tokio::test]
async fn no_part_is_there_for_an_answer_of_no_use() {
    for odd in Odd::ALL {
        let wires = Wires {
            ledger: none_but(Odd::Hollow),
            iam: none_but(odd),
            sqs: none_but(odd),
            trail: none_but(odd),
            searching: true,
            ..Wires::default()
        };
        let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event"});
        let said = played(&wires, &tick).await["message"].as_str().unwrap_or_default().to_owned();
        let calls = wires.iam.requests().len() + wires.sqs.requests().len() + wires.trail.requests().len();
        assert!(calls < 200, "{odd:?}: {calls} calls");
        let functions = FunctionName::ALL.iter().map(|name| format!("the function `{name}` runs as another role"));
        let rules = ["findings", "sweep", "changes", "put-back", "revoke", "trace", "assess-identities"];
        let rules = rules.iter().map(|rule| format!("the rule `{rule}` is not enabled"));
        let polled = [FunctionName::RevokeSessions, FunctionName::GuardContainment, FunctionName::SnapshotLogs];
        let polled = polled.iter().map(|name| format!("the event source of `{name}` is off"));
        let queues =
            ["recheck", "trace", "evidence"].map(|name| format!("what fails in the queue `{name}` goes nowhere"));
        let others = [
            "the deny policy",
            "the role of `quarantine-principal` cannot be looked at",
            "the policy of the key of the ledger's seals cannot be looked at",
            "the key of evidence and pages is `",
            "the key of the ledger's seals is `",
            "the key that signs evidence is `",
            "the ledger has no stream",
            "the ledger may be deleted",
            "nobody is subscribed to the pages",
            "no trail is logging",
        ]
        .map(str::to_owned);
        for missing in functions.chain(rules).chain(polled).chain(queues).chain(others) {
            assert!(said.contains(&missing), "{odd:?}: `{missing}` is not missed: {said}");
        }
    }
}
