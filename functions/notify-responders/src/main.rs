//! Pages people: what happened, what is verified, what is not, how to undo it.

mod handler;

use std::sync::Arc;

use firebreak_shared::config::{self, Base, ConfigError};
use firebreak_shared::page::Setting;
use firebreak_shared::page::notify::Notifier;
use firebreak_shared::{clients, telemetry};
use lambda_runtime::{Error, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let notifier = Arc::new(notifier().inspect_err(|error| tracing::error!("cannot start: {error}"))?);
    run(service_fn(|event| handler::handle(notifier.clone(), event))).await
}

fn notifier() -> Result<Notifier, ConfigError> {
    let topic_arn = config::topic_arn()?;
    let setting = Setting {
        stack: Base::from_env()?.stack,
        region: config::region().unwrap_or_default(),
        deny_policy_arn: config::deny_policy_arn()?,
        table: config::table()?,
        revokes: config::revoke_function().is_some(),
    };
    Ok(Notifier::new(&clients::load(), topic_arn, setting))
}
