//! The only place that reads the clock.

use jiff::Timestamp;

/// The time now, in UTC.
pub fn now() -> Timestamp {
    Timestamp::now()
}
