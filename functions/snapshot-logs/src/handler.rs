//! Turns an invocation into one call of `firebreak-shared`, and its end into an answer.

use std::sync::Arc;

use firebreak_shared::answer::Answer;
use firebreak_shared::deadline::Deadline;
use firebreak_shared::evidence::snapshot::Snapshots;
use firebreak_shared::failure::Failure;
use firebreak_shared::payload;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::value::RawValue;
use tracing::{Instrument, error, info_span};

pub(crate) async fn handle(snapshots: Arc<Snapshots>, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Diagnostic> {
    let killed_at = event.context.deadline();
    let request_id = &event.context.request_id;
    let span = info_span!("invocation", request.id = %request_id);
    async {
        let work = async { snapshots.handle(&payload::read(&event.payload)?, event.context.deadline()).await };
        let result = Deadline::before(killed_at).hold(Box::pin(work)).await;
        result.inspect_err(|failure| error!(error.kind = failure.kind(), "{failure}"))
    }
    .instrument(span)
    .await
    .map_err(Failure::into)
}
