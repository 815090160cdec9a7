//! Turns an invocation into one call of `firebreak-shared`, and its end into an answer.

use std::sync::Arc;

use firebreak_shared::answer::Answer;
use firebreak_shared::contain::Containment;
use firebreak_shared::deadline::Deadline;
use firebreak_shared::failure::Failure;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::value::RawValue;
use tracing::{Instrument, error, info_span};

pub(crate) async fn handle(
    containment: Arc<Containment>,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<Answer, Diagnostic> {
    let deadline = Deadline::before(event.context.deadline());
    let request_id = event.context.request_id;
    let span = info_span!("invocation", request.id = %request_id);
    async {
        let result = deadline.hold(Box::pin(containment.handle_by(&event.payload, &request_id, deadline))).await;
        result.inspect_err(|failure| error!(error.kind = failure.kind(), "{failure}"))
    }
    .instrument(span)
    .await
    .map_err(Failure::into)
}
