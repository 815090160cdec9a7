//! What every action makes of answers that hold nothing: it ends, and where something has to be there to be in force,
//! it is not called in force.

#![expect(clippy::unwrap_used, reason = "tests")]

use firebreak_model::action::ActionId;
use serde_json::Value;

use super::{RECORDS, for_function, for_principal};
use crate::action::{Action, Verified};
use crate::testing::{Wire, function_order, order, role_order, user_order};

/// Of what is taken away, nothing is left where nothing is there.
const TAKES_AWAY: [ActionId; 4] = [
    ActionId::DeactivateAccessKeys,
    ActionId::DisableEventSources,
    ActionId::CloseFunctionUrls,
    ActionId::ClearDestinations,
];

#[tokio::test]
async fn answers_without_their_fields_end_every_action_and_put_nothing_in_force() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for record in RECORDS {
        let (incident, step) = match record.id {
            // It is built for each role that was chained into, and has tests of its own.
            ActionId::RevokeChainedSessions => continue,
            ActionId::QuarantineUser | ActionId::BoundUser | ActionId::DeactivateAccessKeys => {
                user_order("ci-bot", record.id)
            }
            ActionId::QuarantineRole
            | ActionId::BoundRole
            | ActionId::RevokeSessions
            | ActionId::QuarantineFunction => {
                let (incident, mut step) = role_order("orders");
                step.action = record.id;
                (incident, step)
            }
            _ => function_order(record.id),
        };
        let wire = Wire::hollow();
        let deny = "arn:aws:iam::111122223333:policy/deny";
        let action: Box<dyn Action> = for_principal(record.id, &aws_sdk_iam::Client::new(&wire.config()), deny)
            .or_else(|| for_function(record.id, &aws_sdk_lambda::Client::new(&wire.config()), "firebreak"))
            .unwrap();
        let order = order(&incident, &step);
        let prior = action.observe(order).await.unwrap_or(Value::Null);
        let _ = action.apply(order, &prior).await;
        let verified = action.verify(order, &prior).await;
        let in_force = matches!(verified, Ok(Verified::InForce));
        if in_force != TAKES_AWAY.contains(&record.id) {
            wrong.push(format!("{}: {verified:?}", record.id));
        }
        let _ = action.revert(order, &prior).await;
        assert!(wire.requests().len() < 60, "{}: {:?}", record.id, wire.requests());
        seen += 1;
    }
    assert_eq!((wrong, seen), (Vec::new(), RECORDS.len() - 1));
}
