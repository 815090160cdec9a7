//! Undoes containments, and pauses and resumes them: by direct invocation only.

mod handler;

use std::sync::Arc;

use firebreak_shared::config::{self, Base, ConfigError};
use firebreak_shared::ledger::{Ledger, Seal};
use firebreak_shared::release::Releasing;
use firebreak_shared::{clients, telemetry};
use lambda_runtime::{Error, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let releasing = Arc::new(releasing().inspect_err(|error| tracing::error!("cannot start: {error}"))?);
    run(service_fn(|event| handler::handle(releasing.clone(), event))).await
}

fn releasing() -> Result<Releasing, ConfigError> {
    let base = Base::from_env()?;
    let deny_policy_arn = config::deny_policy_arn()?;
    let lead = config::revocation_lead()?;
    let table = config::table()?;
    let seal_key_arn = config::seal_key_arn()?;
    let sdk = clients::load();
    Ok(Releasing {
        ledger: Ledger::new(clients::dynamodb(&sdk), table, Seal::new(&sdk, seal_key_arn)),
        iam: clients::iam(&sdk),
        lambda: clients::lambda_invoking(&sdk),
        base,
        deny_policy_arn,
        revoke_function: config::revoke_function(),
        lead,
        sdk,
    })
}
