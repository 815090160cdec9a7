//! Every action sabotaged in turn: AWS says that the call was accepted, and nothing changes. The outcome must say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_config::SdkConfig;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use firebreak_model::ledger::StepState;
use firebreak_shared::clock;
use firebreak_shared::executor;
use firebreak_shared::ledger::{Ledger, Seal};

use super::common::table;
use super::{Bench, changing, open, ordered_before};

/// A wire on which whatever would change something is swallowed and answered with a success.
#[derive(Debug, Clone)]
struct Swallowing {
    inner: SharedHttpConnector,
    swallowed: Arc<AtomicUsize>,
}

impl Swallowing {
    fn new() -> Self {
        Self { inner: SharedHttpConnector::new(Connector::builder().build_http()), swallowed: Arc::default() }
    }

    fn config(&self, like: &SdkConfig) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        let client = http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone());
        like.to_builder().http_client(SharedHttpClient::new(client)).build()
    }
}

/// Whether a request of IAM or Lambda only reads.
fn reads(request: &HttpRequest) -> bool {
    let body = request.body().bytes().map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default();
    match body.split('&').find_map(|pair| pair.strip_prefix("Action=")) {
        Some(action) => action.starts_with("Get") || action.starts_with("List"),
        None => request.method() == "GET",
    }
}

impl HttpConnector for Swallowing {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if reads(&request) {
            return self.inner.call(request);
        }
        self.swallowed.fetch_add(1, Ordering::SeqCst);
        // Each service's own way of saying that all is well.
        let body = request.body().bytes().map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default();
        let accepted = match body.split('&').find_map(|pair| pair.strip_prefix("Action=")) {
            Some(action) => format!("<{action}Response><ResponseMetadata/></{action}Response>"),
            None => "{}".to_owned(),
        };
        let status = 200.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(accepted))))
    }
}

#[tokio::test]
async fn an_action_whose_call_is_accepted_and_changes_nothing_has_failed_and_says_so() {
    let bench = Bench::set_up().await;
    table::create(&bench.aws, "ledger").await;
    let ledger = Ledger::new(bench.aws.dynamodb.clone(), "ledger".to_owned(), Seal::none());
    for id in changing() {
        let (incident, step) = ordered_before(&bench, id);
        open(&ledger, &incident).await;
        let before = bench.look().await;
        let wire = Swallowing::new();
        let action = bench.action_with(id, &wire.config(&bench.aws.config));
        for round in 1..=3 {
            let executed = executor::execute(&ledger, &incident, &step, action.as_ref()).await.unwrap();
            let record = &executed.record;
            assert_eq!(record.state, StepState::Failed, "`{id}`, round {round}: {}", record.detail);
            assert!(record.verified_at.is_none(), "`{id}` is called verified");
            assert!(record.detail.contains("reading it back shows"), "`{id}`: {}", record.detail);
            assert!(executed.transient, "`{id}` is not tried again");
        }
        assert!(wire.swallowed.load(Ordering::SeqCst) >= 3, "`{id}` changed nothing, or elsewhere");
        assert_eq!(before.changes(&bench.look().await), Vec::<String>::new(), "`{id}`");
        // What is on record is undone all the same, and nothing is there to undo.
        let fresh = incident.step_record(&step, clock::now());
        let record = ledger.step(&fresh).await.unwrap().expect("the step is on record");
        let action = bench.action_with(id, &bench.aws.config);
        let undone = executor::revert(&ledger, &incident, record, action.as_ref()).await.unwrap();
        assert_eq!(undone.record.state, StepState::Reverted, "`{id}`: {}", undone.record.detail);
        assert_eq!(before.changes(&bench.look().await), Vec::<String>::new(), "`{id}`, then undone");
    }
}
