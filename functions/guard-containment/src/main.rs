//! Looks at what is contained again and again, and at Firebreak itself; records what was undone, so that it is put back.

mod handler;

use std::sync::Arc;

use firebreak_model::watch::change::Own;
use firebreak_shared::config::{self, Base, ConfigError};
use firebreak_shared::guard::{Guard, Lookups};
use firebreak_shared::ledger::{Ledger, Seal};
use firebreak_shared::{clients, telemetry};
use lambda_runtime::{Error, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let guard = Arc::new(guard().inspect_err(|error| tracing::error!("cannot start: {error}"))?);
    run(service_fn(|event| handler::handle(guard.clone(), event))).await
}

fn guard() -> Result<Guard, ConfigError> {
    let Base { home, stack } = Base::from_env()?;
    let table = config::table()?;
    let deny_policy_arn = config::deny_policy_arn()?;
    let queue_url = config::recheck_queue()?;
    let (own_role_arn, table_arn) = config::control()?;
    let pace = config::pace()?;
    let own = Own {
        stack: stack.clone(),
        table: table.clone(),
        key: config::key_arn()?,
        seal_key: config::seal_key_arn()?,
        signing_key: config::signing_key_arn()?,
        topic_arn: config::topic_arn()?,
        deny_policy_arn: deny_policy_arn.clone(),
    };
    let seal_key_arn = config::seal_key_arn()?;
    let sdk = clients::load();
    let (lambda, events) = (clients::lambda(&sdk), clients::events(&sdk));
    let (dynamodb, sns) = (clients::dynamodb(&sdk), clients::sns(&sdk));
    Ok(Guard {
        ledger: Ledger::new(dynamodb.clone(), table, Seal::new(&sdk, seal_key_arn)),
        iam: clients::iam(&sdk),
        sqs: clients::sqs(&sdk),
        sdk,
        home,
        stack,
        deny_policy_arn,
        queue_url,
        own_role_arn,
        table_arn,
        pace,
        own,
        deployers: config::deployer_roles(),
        without_revocation: config::revoke_function().is_none(),
        with_drills: config::with_drills(),
        lookups: Lookups::default(),
        lambda,
        events,
        dynamodb,
        sns,
    })
}
