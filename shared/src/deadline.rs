//! The end of an invocation's time. Work that is not done by then is dropped where it stands, shortly before Lambda
//! would kill the process: what a kill may leave, this may leave, and the next try goes on from there. In return the
//! process lives on, the end has a name, and the findings of one event cannot take each other's time.
//! See `docs/decisions/0061-an-invocation-ends-before-its-time-is-up.md`.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::failure::Failure;

/// What is kept back for the answer.
const MARGIN: Duration = Duration::from_secs(2);

/// When work must have come to an end.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No end: of work that nobody kills.
    pub const NONE: Self = Self(None);

    /// Before Lambda's own: `killed_at` is when it kills the process.
    pub fn before(killed_at: SystemTime) -> Self {
        let left = Timestamp::try_from(killed_at).ok().map(|at| at.duration_since(clock::now()));
        // An invocation that was over before it began tells of a clock, not of an end.
        let left = left.and_then(|left| Duration::try_from(left).ok()).filter(|left| !left.is_zero());
        Self::after(left.map(|left| left.saturating_sub(MARGIN)))
    }

    pub(crate) fn after(left: Option<Duration>) -> Self {
        Self(left.and_then(|left| Instant::now().checked_add(left)))
    }

    /// The part of what is left that one of so many takes at most, so that the others get theirs.
    #[must_use]
    pub fn share(self, among: usize) -> Self {
        let among = u32::try_from(among).unwrap_or(u32::MAX).max(1);
        Self::after(self.0.map(|end| end.saturating_duration_since(Instant::now()) / among))
    }

    /// Does the work, or as much of it as there is time for.
    pub async fn hold<T>(self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(end) = self.0 else { return work.await };
        let over = "the time for it was over: the next try goes on where this one stopped";
        timeout_at(end, work).await.unwrap_or_else(|_| Err(Failure::Transient(over.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn left(deadline: Deadline) -> Duration {
        deadline.0.unwrap().saturating_duration_since(Instant::now())
    }

    #[tokio::test]
    async fn work_without_an_end_ends_before_lambda_would_end_it() {
        let end = Deadline::after(Some(Duration::ZERO));
        let never = std::future::pending::<Result<(), Failure>>();
        let end_of_it = end.hold(never).await;
        let transient = matches!(&end_of_it, Err(Failure::Transient(text)) if text.contains("the next try"));
        assert!(transient, "{end_of_it:?}");
        // What is done is done, however little time is left.
        assert_eq!(end.hold(async { Ok(7) }).await.unwrap(), 7);
        assert_eq!(Deadline::NONE.hold(async { Ok(7) }).await.unwrap(), 7);
    }

    #[test]
    fn a_deadline_keeps_time_for_the_answer_and_one_that_is_past_is_none() {
        let minute = Duration::from_mins(1);
        let now = SystemTime::from(clock::now());
        assert!(left(Deadline::before(now + minute)) + MARGIN <= minute);
        let soon = SystemTime::from(clock::now()) + MARGIN / 2;
        assert_eq!(left(Deadline::before(soon)), Duration::ZERO);
        assert!(Deadline::before(now - minute).0.is_none() && Deadline::before(SystemTime::UNIX_EPOCH).0.is_none());
    }

    #[test]
    fn each_of_several_has_its_share_and_what_the_first_leave_goes_to_the_last() {
        let hour = Duration::from_hours(1);
        let whole = Deadline::after(Some(hour));
        assert!(left(whole.share(4)) <= hour / 4);
        assert!(left(whole.share(1)) > hour / 4 * 3, "nobody before it took anything");
        assert!(left(whole.share(0)) <= hour);
        assert!(Deadline::NONE.share(3).0.is_none());
    }
}
