//! What every action makes of answers that are of no use: it ends, and where something has to be there to be in force, or
//! gone, it is not called in force.

#![expect(clippy::unwrap_used, reason = "tests")]

use firebreak_model::action::ActionId;
use serde_json::Value;

use super::{RECORDS, RevokeChainedSessions, for_function, for_principal};
use crate::action::{Action, Verified};
use crate::testing::{Odd, Wire, function_order, order, role_order, user_order};

/// Of what is taken away, nothing is left where an answer holds nothing. A state that nobody knows is none of the harmless
/// ones, and a list whose end was not seen may hold anything.
fn nothing_is_left(odd: Odd) -> &'static [ActionId] {
    match odd {
        Odd::Hollow => &[
            ActionId::DeactivateAccessKeys,
            ActionId::DisableEventSources,
            ActionId::CloseFunctionUrls,
            ActionId::ClearDestinations,
        ],
        Odd::Unknown => &[ActionId::ClearDestinations],
        Odd::Repeating | Odd::Circling => &[],
    }
}

#[tokio::test]
async fn answers_of_no_use_end_every_action_and_put_nothing_in_force() {
    let mut wrong = Vec::new();
    for odd in Odd::ALL {
        for record in RECORDS {
            let (incident, step) = match record.id {
                ActionId::QuarantineUser | ActionId::BoundUser | ActionId::DeactivateAccessKeys => {
                    user_order("ci-bot", record.id)
                }
                ActionId::QuarantineRole
                | ActionId::BoundRole
                | ActionId::RevokeSessions
                | ActionId::RevokeChainedSessions
                | ActionId::QuarantineFunction => {
                    let (incident, mut step) = role_order("orders");
                    step.action = record.id;
                    (incident, step)
                }
                _ => function_order(record.id),
            };
            let wire = Wire::odd(odd, [] as [(&str, _); 0]);
            let deny = "arn:aws:iam::111122223333:policy/deny";
            let iam = aws_sdk_iam::Client::new(&wire.config());
            let action: Box<dyn Action> = match record.id {
                // It is built for each role that was chained into.
                ActionId::RevokeChainedSessions => {
                    let sessions = ["AROAEXAMPLE000000001:i-1".parse().unwrap()].into();
                    Box::new(RevokeChainedSessions::new(iam, sessions, incident.opened_at))
                }
                id => for_principal(id, &iam, deny)
                    .or_else(|| for_function(id, &aws_sdk_lambda::Client::new(&wire.config()), "firebreak"))
                    .unwrap(),
            };
            let order = order(&incident, &step);
            let prior = action.observe(order).await.unwrap_or(Value::Null);
            let _ = action.apply(order, &prior).await;
            let verified = action.verify(order, &prior).await;
            let in_force = matches!(verified, Ok(Verified::InForce));
            if in_force != nothing_is_left(odd).contains(&record.id) {
                wrong.push(format!("{odd:?}, {}: {verified:?}", record.id));
            }
            let _ = action.revert(order, &prior).await;
            let calls = wire.requests().len();
            assert!(calls < 60, "{odd:?}, {}: {calls} calls", record.id);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
