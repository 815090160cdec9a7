//! Stops a compromised function, or replaces its warm environments so that it lives on with fresh credentials.

mod handler;

use std::sync::Arc;

use firebreak_shared::config::{self, Base, ConfigError};
use firebreak_shared::isolate::Isolation;
use firebreak_shared::ledger::{Ledger, Seal};
use firebreak_shared::{clients, telemetry};
use lambda_runtime::{Error, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let isolation = Arc::new(isolation().inspect_err(|error| tracing::error!("cannot start: {error}"))?);
    run(service_fn(|event| handler::handle(isolation.clone(), event))).await
}

fn isolation() -> Result<Isolation, ConfigError> {
    let stack = Base::from_env()?.stack;
    let table = config::table()?;
    let seal_key_arn = config::seal_key_arn()?;
    let sdk = clients::load();
    let ledger = Ledger::new(clients::dynamodb(&sdk), table, Seal::new(&sdk, seal_key_arn));
    Ok(Isolation { ledger, sdk, stack })
}
