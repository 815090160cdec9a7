//! Decides about findings and requests, and denies everything to the principals that are to be contained.

mod handler;

use std::sync::Arc;

use firebreak_shared::config::{self, Base, ConfigError};
use firebreak_shared::contain::{Containment, Outage};
use firebreak_shared::ledger::{Ledger, Seal};
use firebreak_shared::{clients, telemetry, warm};
use lambda_runtime::{Error, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let containment = Arc::new(containment().inspect_err(|error| tracing::error!("cannot start: {error}"))?);
    warm::up(&containment.ledger, &containment.iam, &containment.base.stack).await;
    run(service_fn(|event| handler::handle(containment.clone(), event))).await
}

fn containment() -> Result<Containment, ConfigError> {
    let base = Base::from_env()?;
    let playbook = config::playbook()?;
    let ceiling = config::mode_ceiling()?;
    let deny_policy_arn = config::deny_policy_arn()?;
    let table = config::table()?;
    let seal_key_arn = config::seal_key_arn()?;
    let sdk = clients::load();
    Ok(Containment {
        ledger: Ledger::new(clients::dynamodb(&sdk), table, Seal::new(&sdk, seal_key_arn)),
        iam: clients::iam(&sdk),
        base,
        playbook,
        ceiling,
        deployers: config::deployer_roles(),
        deny_policy_arn,
        outage: Outage::default(),
        sdk,
    })
}
