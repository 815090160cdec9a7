//! Logs: one JSON object a line, with the fields of all its spans (`request.id`, `incident.id`) on each.

use tracing_subscriber::EnvFilter;

use crate::config;

/// Starts logging to standard output, which Lambda takes to the function's log group.
pub fn start() {
    let filter = EnvFilter::try_new(config::log_filter()).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true)
        .with_target(false)
        .with_ansi(false)
        .with_env_filter(filter)
        .init();
}

/// An error with its sources, outermost first: what an operator needs in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
