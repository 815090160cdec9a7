//! Metrics in the CloudWatch embedded metric format: a line on standard output, no call.

use std::io::Write;

use serde_json::{Value, json};

use crate::clock;

const NAMESPACE: &str = "Firebreak";

/// One value of a metric.
#[derive(Debug, PartialEq)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: i64,
    pub(crate) dimensions: Vec<(&'static str, String)>,
}

impl Metric {
    /// A count without dimensions.
    pub(crate) fn count(name: &'static str, value: i64) -> Self {
        Self { name, unit: "Count", value, dimensions: Vec::new() }
    }

    pub(crate) fn line(&self, now: i64) -> Value {
        let names: Vec<_> = self.dimensions.iter().map(|(name, _)| *name).collect();
        let mut line = json!({
            "_aws": {"Timestamp": now, "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [names],
                "Metrics": [{"Name": self.name, "Unit": self.unit}],
            }]},
            self.name: self.value,
        });
        if let Some(object) = line.as_object_mut() {
            object.extend(self.dimensions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        }
        line
    }
}

/// Writes them. One that cannot be written is not worth failing for: its alarm, if it has one, takes silence for what
/// it is.
pub(crate) fn write(metrics: &[Metric]) {
    let now = clock::now().as_millisecond();
    let mut out = std::io::stdout().lock();
    for metric in metrics {
        let line = metric.line(now);
        #[cfg(test)]
        written::keep(&line);
        let _ = writeln!(out, "{line}");
    }
}

/// What was written on the thread of a test.
#[cfg(test)]
pub(crate) mod written {
    use std::cell::RefCell;

    use serde_json::Value;

    thread_local! {
        static LINES: RefCell<Vec<Value>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn keep(line: &Value) {
        LINES.with_borrow_mut(|lines| lines.push(line.clone()));
    }

    /// The lines since the last time.
    pub(crate) fn taken() -> Vec<Value> {
        LINES.take()
    }
}
