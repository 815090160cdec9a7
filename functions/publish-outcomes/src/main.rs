//! Turns the ledger's stream into outcome events and metrics.

mod handler;

use std::sync::Arc;

use firebreak_shared::config::{self, ConfigError};
use firebreak_shared::publish::Publisher;
use firebreak_shared::{clients, telemetry};
use lambda_runtime::{Error, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let publisher = Arc::new(publisher().inspect_err(|error| tracing::error!("cannot start: {error}"))?);
    run(service_fn(|event| handler::handle(publisher.clone(), event))).await
}

fn publisher() -> Result<Publisher, ConfigError> {
    let bus = config::bus()?;
    let sdk = clients::load();
    Ok(Publisher { events: clients::events(&sdk), bus })
}
