//! A containment that is fought over is held: what was undone once is looked at again and again for a while, and
//! applied again at once where it is gone.
//!
//! IAM takes seconds until a deny is in force, and so until its removal is. Whoever strips it twice a second can go on
//! for as long as a removal stands for longer than it takes to look again: each moment without a deny comes back, some
//! seconds later, as a moment in which the thief is free to strip the next one. Waiting for CloudTrail's event leaves
//! that moment seconds long; here it is a fraction of one, and the thief's chances die out.

use std::time::Duration;

use firebreak_model::ledger::Incident;
use jiff::Timestamp;
use tracing::warn;

use super::Containment;
use crate::executor::Executed;
use crate::failure::Failure;

/// How a containment is held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grip {
    /// Between two looks.
    pub(super) pause: Duration,
    /// So many looks in a row must find it in force.
    pub(super) quiet: u32,
    /// So many looks at the most: the function ends before its time is up, and the guard starts it again.
    pub(super) longest: u32,
}

/// At AWS's pace of some 100 ms a call: quiet for longer than IAM is known to take, and no longer than 40 seconds.
pub(super) const GRIP: Grip = Grip { pause: Duration::from_millis(150), quiet: 40, longest: 130 };

impl Containment {
    /// Applies what was undone again, and holds it.
    pub(super) async fn hold(&self, incident: &Incident) -> Result<Vec<Executed>, Failure> {
        let mut executed = Vec::new();
        let again = held(GRIP, async || {
            executed = self.quarantine(incident, false).await?;
            Ok(verified(&executed))
        })
        .await?;
        if again > 0 {
            warn!(incident.id = %incident.incident_id, again, "fought over: applied again while it was held");
        }
        Ok(executed)
    }
}

/// When each step was read back: a step that was applied again has another time.
fn verified(executed: &[Executed]) -> Vec<Option<Timestamp>> {
    executed.iter().map(|one| one.record.verified_at).collect()
}

/// Looks until nothing changes any more; answers how often something did after the first look.
async fn held<T: PartialEq>(grip: Grip, mut look: impl AsyncFnMut() -> Result<T, Failure>) -> Result<u32, Failure> {
    let mut last = look().await?;
    let (mut quiet, mut again) = (0, 0);
    for _ in 0..grip.longest {
        if quiet >= grip.quiet {
            break;
        }
        tokio::time::sleep(grip.pause).await;
        let now = look().await?;
        if now == last {
            quiet += 1;
        } else {
            quiet = 0;
            again += 1;
        }
        last = now;
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const SHORT: Grip = Grip { pause: Duration::ZERO, quiet: 3, longest: 10 };

    /// How often is looked, and how often something had changed, where what is seen follows from the look's number.
    async fn looks(seen: impl Fn(u32) -> u32) -> (u32, u32) {
        let mut count = 0;
        let again = held(SHORT, async || {
            count += 1;
            Ok(seen(count))
        });
        let again = again.await.unwrap();
        (count, again)
    }

    #[tokio::test]
    async fn what_is_left_alone_is_let_go_and_what_is_fought_over_is_held_on_to() {
        assert_eq!(looks(|_| 0).await, (4, 0));
        // Applied again at the third look: from there it must be quiet anew.
        assert_eq!(looks(|look| u32::from(look >= 3)).await, (6, 1));
        assert_eq!(looks(|look| look).await, (11, 10), "it ends, whoever goes on");
    }

    #[tokio::test]
    async fn a_look_that_fails_ends_it_for_the_next_try() {
        let mut count = 0;
        let ended = held(SHORT, async || {
            count += 1;
            if count == 2 { Err(Failure::Transient("throttled".to_owned())) } else { Ok(0) }
        });
        assert!(matches!(ended.await, Err(Failure::Transient(_))));
        assert_eq!(count, 2);
    }
}
