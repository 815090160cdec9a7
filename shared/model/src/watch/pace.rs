//! When a containment is looked at again, and how late CloudTrail may be.

use jiff::{SignedDuration, Timestamp};

/// When re-checks fall due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Seconds after the beginning of the watch, rising.
    pub rechecks: Vec<u32>,
    /// How late CloudTrail may be, in seconds.
    pub trail_lag: u32,
}

fn after(time: Timestamp, seconds: u32) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}

impl Pace {
    /// When the re-check after `done` others falls due: the last one when CloudTrail is complete over the others. `None`
    /// when all are done.
    pub fn due(&self, since: Timestamp, done: usize) -> Option<Timestamp> {
        match self.rechecks.get(done) {
            Some(seconds) => Some(after(since, *seconds)),
            None if done == self.rechecks.len() => Some(after(self.watched_until(since), self.trail_lag)),
            None => None,
        }
    }

    /// Until when CloudTrail must be complete before anything is settled.
    pub(super) fn watched_until(&self, since: Timestamp) -> Timestamp {
        after(since, self.rechecks.last().copied().unwrap_or_default())
    }

    /// Until when CloudTrail is complete at `now`.
    pub fn complete_until(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(SignedDuration::from_secs(i64::from(self.trail_lag))).unwrap_or(Timestamp::MIN)
    }
}
