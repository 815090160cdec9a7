//! Turns an invocation into one call of `firebreak-shared`, and its end into an answer.

use std::sync::Arc;

use firebreak_shared::deadline::Deadline;
use firebreak_shared::failure::Failure;
use firebreak_shared::guard::{Guard, Handled};
use firebreak_shared::payload;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::value::RawValue;
use tracing::{Instrument, error, info_span};

pub(crate) async fn handle(guard: Arc<Guard>, event: LambdaEvent<Box<RawValue>>) -> Result<Handled, Diagnostic> {
    let killed_at = event.context.deadline();
    let request_id = event.context.request_id;
    let span = info_span!("invocation", request.id = %request_id);
    async {
        let work = async { guard.handle(&payload::read(&event.payload)?).await };
        let result = Deadline::before(killed_at).hold(Box::pin(work)).await;
        result.inspect_err(|failure| error!(error.kind = failure.kind(), "{failure}"))
    }
    .instrument(span)
    .await
    .map_err(Failure::into)
}
