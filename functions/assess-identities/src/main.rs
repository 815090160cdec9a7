//! Finds out who runs as which role, on a schedule and after a deployment: what is asked before a role is denied.

mod handler;

use std::sync::Arc;

use firebreak_shared::assess::{Assessment, BUDGET};
use firebreak_shared::config::{self, Base, ConfigError};
use firebreak_shared::ledger::{Ledger, Seal};
use firebreak_shared::{clients, telemetry};
use lambda_runtime::{Error, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let assessment = Arc::new(assessment().inspect_err(|error| tracing::error!("cannot start: {error}"))?);
    run(service_fn(|event| handler::handle(assessment.clone(), event))).await
}

fn assessment() -> Result<Assessment, ConfigError> {
    let home = Base::from_env()?.home;
    let regions = config::workload_regions()?;
    let table = config::table()?;
    let sdk = clients::load();
    let ledger = Ledger::new(clients::dynamodb(&sdk), table, Seal::none());
    Ok(Assessment { ledger, iam: clients::iam(&sdk), sdk, home, regions, budget: BUDGET })
}
