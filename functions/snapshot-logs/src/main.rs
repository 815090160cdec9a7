//! Copies what a containment would destroy, and what a thief may destroy meanwhile, into the evidence bucket.

mod handler;

use std::sync::Arc;

use firebreak_shared::config::{self, ConfigError};
use firebreak_shared::evidence::Limits;
use firebreak_shared::evidence::snapshot::Snapshots;
use firebreak_shared::ledger::{Ledger, Seal};
use firebreak_shared::{clients, telemetry};
use lambda_runtime::{Error, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let snapshots = Arc::new(snapshots().inspect_err(|error| tracing::error!("cannot start: {error}"))?);
    run(service_fn(|event| handler::handle(snapshots.clone(), event))).await
}

fn snapshots() -> Result<Snapshots, ConfigError> {
    let settings = config::evidence()?;
    let table = config::table()?;
    let seal_key_arn = config::seal_key_arn()?;
    let sdk = clients::load();
    let ledger = Ledger::new(clients::dynamodb(&sdk), table, Seal::new(&sdk, seal_key_arn));
    Ok(Snapshots::new(sdk, settings, ledger, Limits::default()))
}
