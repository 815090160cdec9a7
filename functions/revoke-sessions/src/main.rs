//! Kills the sessions of a principal that were issued before a time, and those that a thief made from them in other roles:
//! on an ordered containment, at a release.

mod handler;

use std::sync::Arc;

use firebreak_shared::config::{self, Base, ConfigError};
use firebreak_shared::ledger::{Ledger, Seal};
use firebreak_shared::revoke::Revocation;
use firebreak_shared::trace::{Bounds, Tracer};
use firebreak_shared::{clients, telemetry};
use lambda_runtime::{Error, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let revocation = Arc::new(revocation().inspect_err(|error| tracing::error!("cannot start: {error}"))?);
    run(service_fn(|event| Box::pin(handler::handle(revocation.clone(), event)))).await
}

fn revocation() -> Result<Revocation, ConfigError> {
    let home = Base::from_env()?.home;
    let table = config::table()?;
    let seal_key_arn = config::seal_key_arn()?;
    let regions = config::opt_in_regions()?;
    let trail_lag = config::trail_lag()?;
    let sdk = clients::load();
    let ledger = Ledger::new(clients::dynamodb(&sdk), table, Seal::new(&sdk, seal_key_arn));
    let iam = clients::iam(&sdk);
    let tracer = Tracer::new(sdk, home.partition, regions, Bounds::default());
    Ok(Revocation { ledger, iam, home, tracer, trail_lag })
}
