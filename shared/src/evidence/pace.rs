//! The pace of calls that AWS counts by Region: one for the whole process, whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use firebreak_model::ids::Region;

/// Turns, and when each was.
#[cfg(test)]
type Noted = Vec<(Region, Duration)>;

/// When the next call may go out, Region by Region.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    gap: Duration,
    next: Arc<Mutex<BTreeMap<Region, Instant>>>,
    /// The turns that were taken without waiting for them, and the time when all began.
    #[cfg(test)]
    noted: Option<(Instant, Arc<Mutex<Noted>>)>,
}

impl Pace {
    /// One call in each Region every so often.
    pub(crate) fn every(gap: Duration) -> Self {
        Self {
            gap,
            next: Arc::default(),
            #[cfg(test)]
            noted: None,
        }
    }

    /// The same turns, so many times as far apart: others take as many of their own, in other processes.
    pub(super) fn shared_by(&self, processes: u32) -> Self {
        Self { gap: self.gap * processes.max(1), ..self.clone() }
    }

    /// The same where calls take no time: turns are noted, and not waited for.
    #[cfg(test)]
    pub(super) fn noted(gap: Duration) -> Self {
        Self { noted: Some((Instant::now(), Arc::default())), ..Self::every(gap) }
    }

    /// When turns in a Region were taken, in gaps since the beginning.
    #[cfg(test)]
    pub(super) fn turns(&self, region: &str) -> Vec<u128> {
        let Some((_, noted)) = &self.noted else { return Vec::new() };
        let noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        let here = noted.iter().filter(|(at, _)| at.as_str() == region);
        here.map(|(_, since)| since.as_nanos() / self.gap.as_nanos()).collect()
    }

    /// Takes the next turn in a Region. Answers how long it is until then.
    fn reserve(&self, region: &Region, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.get(region).copied().unwrap_or(now).max(now);
        next.insert(region.clone(), turn + self.gap);
        turn.duration_since(now)
    }

    /// Waits for a turn in a Region.
    pub(crate) async fn turn(&self, region: &Region) {
        #[cfg(test)]
        if let Some((began, noted)) = &self.noted {
            let turn = self.reserve(region, *began);
            noted.lock().unwrap_or_else(PoisonError::into_inner).push((region.clone(), turn));
            return;
        }
        let wait = self.reserve(region, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Lets so many turns in a Region go by: AWS has turned somebody away, who may be another function.
    pub(super) fn skip(&self, region: &Region, turns: u32) {
        #[cfg(test)]
        if let Some((began, _)) = &self.noted {
            return self.skip_from(region, turns, *began);
        }
        self.skip_from(region, turns, Instant::now());
    }

    fn skip_from(&self, region: &Region, turns: u32, now: Instant) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = next.get_mut(region) {
            *at = (*at).max(now) + self.gap * turns;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn turns_in_a_region_are_apart_whoever_takes_them_and_regions_do_not_wait_for_each_other() {
        let ms = Duration::from_millis;
        let (pace, now) = (Pace::every(ms(500)), Instant::now());
        let (here, there): (Region, Region) = ("eu-west-1".parse().unwrap(), "us-east-1".parse().unwrap());
        let other = pace.clone();
        assert_eq!([pace.reserve(&here, now), other.reserve(&here, now)], [ms(0), ms(500)]);
        assert_eq!(pace.reserve(&there, now), ms(0));
        assert_eq!(pace.reserve(&here, now + ms(200)), ms(800));
        assert_eq!(pace.reserve(&here, now + ms(5_000)), ms(0), "a turn that nobody took is no credit");
        pace.skip_from(&here, 4, now);
        assert_eq!(pace.reserve(&here, now + ms(5_000)), ms(2_500));
        // Where the answer took long, the turns that go by are those from now on.
        pace.skip_from(&here, 4, now + ms(60_000));
        assert_eq!(pace.reserve(&here, now + ms(60_000)), ms(2_000));
    }
}
