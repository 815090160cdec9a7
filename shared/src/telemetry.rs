//! Logs: one JSON object a line, with the fields of all its spans (`request.id`, `incident.id`) on each.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config;

/// Starts logging to standard output, which Lambda takes to the function's log group.
pub fn start() {
    tracing_subscriber::registry().with(filter(&config::log_filter())).with(lines()).init();
}

/// What is logged: a level, or levels by module (`info,firebreak_shared::ledger=debug`). What names no level for all
/// leaves it at `info`: a slip of the pen must not silence a function.
fn filter(text: &str) -> Targets {
    let targets: Targets = text.parse().unwrap_or_default();
    if targets.default_level().is_some() { targets } else { targets.with_default(LevelFilter::INFO) }
}

fn lines<S>() -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true)
        .with_target(false)
        .with_ansi(false)
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

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::filter;

    #[test]
    fn a_level_counts_for_all_and_what_cannot_be_read_is_info() {
        for (text, ledger, other) in [
            ("warn", Level::WARN, Level::WARN),
            ("info,firebreak_shared::ledger=debug", Level::DEBUG, Level::INFO),
            ("firebreak_shared::ledger=debug", Level::DEBUG, Level::INFO),
            ("no such level", Level::INFO, Level::INFO),
            ("info,a=b=c", Level::INFO, Level::INFO),
        ] {
            let filter = filter(text);
            for (target, level) in [("firebreak_shared::ledger", ledger), ("hyper", other)] {
                assert!(filter.would_enable(target, &level), "{text}: {target}");
                let more = if level == Level::WARN { Level::INFO } else { Level::TRACE };
                assert!(!filter.would_enable(target, &more), "{text}: {target}");
            }
        }
    }
}
