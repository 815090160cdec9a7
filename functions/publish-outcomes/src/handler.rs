//! Turns an invocation into one call of `firebreak-shared`, and its end into an answer.

use std::sync::Arc;

use aws_lambda_events::streams::DynamoDbEventResponse;
use firebreak_shared::failure::Failure;
use firebreak_shared::publish::Publisher;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::Value;
use tracing::{Instrument, error, info_span};

pub(crate) async fn handle(
    publisher: Arc<Publisher>,
    event: LambdaEvent<Value>,
) -> Result<DynamoDbEventResponse, Diagnostic> {
    let request_id = event.context.request_id;
    let span = info_span!("invocation", request.id = %request_id);
    async {
        let result = publisher.handle(&event.payload).await;
        result.inspect_err(|failure| error!(error.kind = failure.kind(), "{failure}"))
    }
    .instrument(span)
    .await
    .map_err(Failure::into)
}
