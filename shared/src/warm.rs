//! Opens connections during a start that no event waits for, by reads that change nothing.
//!
//! It must never keep a function from starting, nor from its first event for long. Where an event does wait, it opens
//! nothing: the first calls open their own connections, and a read before them would only be one more call before the
//! deny. See `docs/decisions/0020-what-a-cold-start-pays-for.md`.

use std::time::Duration;

use aws_sdk_iam::Client;
use firebreak_model::action::FunctionName;
use tracing::info;

use crate::action::ActionError;
use crate::config;
use crate::ledger::Ledger;
use crate::telemetry::chain;

/// The longest that a start waits for its connections.
const PATIENCE: Duration = Duration::from_secs(2);

/// Has connections to the ledger and to IAM ready for the first event, unless it is there already. `stack` is our stack.
pub async fn up(ledger: &Ledger, iam: &Client, stack: &str) {
    if config::start_is_awaited() {
        return;
    }
    let Ok(problems) = tokio::time::timeout(PATIENCE, read(ledger, iam, stack)).await else {
        info!("the first event opens its own connections: no answer within {PATIENCE:?}");
        return;
    };
    for problem in problems {
        info!("the first event opens its own connection: {problem}");
    }
}

/// Reads what is there before any event: the pause, the function's own role, and the key of the seals. Answers what went
/// wrong.
async fn read(ledger: &Ledger, iam: &Client, stack: &str) -> Vec<String> {
    let name = format!("{stack}-{}", FunctionName::QuarantinePrincipal);
    let role = async {
        let role = iam.get_role().role_name(&name).send().await;
        role.map(|_| ()).map_err(|error| chain(&ActionError::of("iam:GetRole", &name, error)))
    };
    let pause = async { ledger.paused().await.map(|_| ()).map_err(|error| chain(&error)) };
    let key = Box::pin(async { ledger.fetch_key().await.map_err(|error| chain(&error)) });
    let (pause, role, key) = tokio::join!(pause, role, key);
    [pause, role, key].into_iter().filter_map(Result::err).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Seal;
    use crate::testing::{Answer, Wire, json_error, ok, query_error};

    async fn problems(ledger: Answer, iam: Answer) -> (usize, Vec<String>) {
        let (ledger, iam) = (Wire::answering([ledger]), Wire::answering([iam]));
        let reads = Ledger::new(aws_sdk_dynamodb::Client::new(&ledger.config()), "ledger".to_owned(), Seal::none());
        let problems = Box::pin(read(&reads, &Client::new(&iam.config()), "firebreak")).await.len();
        assert_eq!((ledger.unused(), iam.unused()), (0, 0));
        (problems, [ledger.requests(), iam.requests()].concat())
    }

    #[tokio::test]
    async fn the_pause_and_our_own_role_are_read() {
        let role = "<GetRoleResponse><GetRoleResult><Role><Path>/</Path><RoleName>r</RoleName><RoleId>AROA</RoleId>\
                    <Arn>a</Arn><CreateDate>2026-01-12T08:00:00Z</CreateDate></Role></GetRoleResult></GetRoleResponse>";
        let (problems, requests) = problems(ok("{}"), ok(role)).await;
        assert_eq!((problems, requests.len()), (0, 2), "{requests:?}");
        assert!(requests[0].contains("DynamoDB_20120810.GetItem"), "{requests:?}");
        assert!(
            requests[1].contains("Action=GetRole") && requests[1].contains("RoleName=firebreak-quarantine-principal")
        );
    }

    #[tokio::test]
    async fn one_that_fails_keeps_nobody_from_the_other() {
        let denied = || query_error(403, "AccessDenied");
        assert_eq!(problems(json_error(400, "AccessDeniedException"), denied()).await.0, 2);
        assert_eq!(problems(Answer::Lost, denied()).await.0, 2);
        assert_eq!(problems(ok("{}"), denied()).await.0, 1);
    }
}
