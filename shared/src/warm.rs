//! Opens connections during a start that no event waits for, by reads that change nothing.
//!
//! It must never keep a function from starting, nor from its first event for long. Where an event does wait, it opens
//! nothing: the first calls open their own connections, and a read before them would only be one more call before the
//! deny. See `docs/decisions/0020-what-a-cold-start-pays-for.md`.

use std::time::Duration;

use tracing::info;

use crate::action::ActionError;
use crate::config;
use crate::contain::Containment;
use crate::telemetry::chain;

/// The longest that a start waits for its connections.
const PATIENCE: Duration = Duration::from_secs(2);

/// Has connections to the ledger and to IAM ready for the first event, unless it is there already.
pub async fn up(containment: &Containment) {
    if config::start_is_awaited() {
        return;
    }
    // The only role whose name is known before there is an event: the function's own.
    let role = format!("{}-quarantine-principal", containment.base.stack);
    let reads = async {
        let role_read = containment.iam.get_role().role_name(&role).send();
        let (pause, role_read) = tokio::join!(containment.ledger.paused(), role_read);
        let role_read = role_read.map_err(|error| ActionError::of("iam:GetRole", &role, error));
        [pause.err().map(|error| chain(&error)), role_read.err().map(|error| chain(&error))]
    };
    let Ok(problems) = tokio::time::timeout(PATIENCE, reads).await else {
        info!("the first event opens its own connections: no answer within {PATIENCE:?}");
        return;
    };
    for problem in problems.into_iter().flatten() {
        info!("the first event opens its own connection: {problem}");
    }
}
