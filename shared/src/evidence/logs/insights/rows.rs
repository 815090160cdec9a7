//! Events as queries give them, put in order.

use aws_sdk_cloudwatchlogs::types::ResultField;
use jiff::Timestamp;

use super::super::Event;
use crate::evidence::sink::Sink;
use crate::evidence::store::StoreError;

/// So much of one millisecond is put in order at once, in bytes.
const TIES_BYTES: usize = 4 << 20;

/// An event as a query gives it. The order is that in which those of one millisecond are written.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) timestamp: Option<i64>,
    ingestion_time: Option<i64>,
    log_stream: Option<String>,
    pointer: Option<String>,
    message: Option<String>,
}

/// `2026-11-21 03:00:00.000`, which is UTC, in milliseconds since 1970.
fn millis(text: &str) -> Option<i64> {
    format!("{text}Z").parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

impl Row {
    pub(super) fn of(fields: &[ResultField]) -> Self {
        let mut row = Self::default();
        for field in fields {
            let value = field.value().unwrap_or_default();
            match field.field().unwrap_or_default() {
                "@timestamp" => row.timestamp = millis(value),
                "@ingestionTime" => row.ingestion_time = millis(value),
                "@logStream" => row.log_stream = Some(value.to_owned()),
                "@ptr" => row.pointer = Some(value.to_owned()),
                "@message" => row.message = Some(value.to_owned()),
                _ => {}
            }
        }
        row
    }

    fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, String::len) + 256
    }
}

/// The events of one millisecond, which AWS gives in no order: they wait for each other.
pub(super) struct Ties {
    pub(super) ms: i64,
    pub(super) rows: Vec<Row>,
    bytes: usize,
    /// There are so many of them that some are written already.
    pub(super) torn: bool,
    /// AWS went back in time.
    pub(super) unordered: bool,
}

impl Ties {
    pub(super) fn at(ms: i64) -> Self {
        Self { ms, rows: Vec::new(), bytes: 0, torn: false, unordered: false }
    }

    pub(super) async fn take(&mut self, row: Row, group: &str, sink: &mut Sink<'_>) -> Result<(), StoreError> {
        let ms = row.timestamp.unwrap_or(self.ms);
        if ms > self.ms {
            self.write(group, sink).await?;
            (self.ms, self.torn) = (ms, false);
        }
        self.unordered |= ms < self.ms;
        self.bytes += row.bytes();
        self.rows.push(row);
        if self.bytes > TIES_BYTES {
            self.write(group, sink).await?;
            self.torn = true;
        }
        Ok(())
    }

    pub(super) async fn write(&mut self, group: &str, sink: &mut Sink<'_>) -> Result<(), StoreError> {
        self.rows.sort();
        for row in self.rows.drain(..) {
            let event = Event {
                log_group: group,
                log_stream: row.log_stream.as_deref(),
                timestamp: row.timestamp,
                ingestion_time: row.ingestion_time,
                event_id: row.pointer.as_deref(),
                message: row.message.as_deref(),
            };
            sink.line(&event).await?;
        }
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_logs_insights_writes_it() {
        assert_eq!(millis("2026-11-21 03:00:00.123"), Some(1_795_230_000_123));
        assert_eq!(millis("2026-11-21 03:00:00"), Some(1_795_230_000_000));
        for none in ["", "soon", "1795230000123"] {
            assert_eq!(millis(none), None, "{none}");
        }
    }
}
