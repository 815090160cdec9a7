//! What all calls together touched and left behind, in bounded memory however many there are: the weightiest calls are
//! kept, the rest is counted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Deed, Leftover, Thing, Whose, mark};

/// The most calls that are kept with everything that is known of them.
pub const MOST_CALLS: usize = 2_000;

/// The most things that are told apart.
pub const MOST_THINGS: usize = 10_000;

/// The most leftovers that are told of.
pub const MOST_LEFT: usize = 1_000;

/// The most tools that are told apart: whoever calls may name a new one each time.
pub const MOST_AGENTS: usize = 100;

/// Something that calls were about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// What.
    #[serde(flatten)]
    pub thing: Thing,
    /// The calls, by name, with how often each succeeded and how often it was refused.
    pub calls: BTreeMap<String, (u64, u64)>,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
}

impl Touched {
    /// How many calls succeeded, and how many were refused.
    pub fn counts(&self) -> (u64, u64) {
        self.calls.values().fold((0, 0), |(succeeded, refused), (a, b)| (succeeded + a, refused + b))
    }
}

/// Something that may outlive the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeftBehind {
    /// When.
    pub at: Timestamp,
    /// The id of the call's event.
    pub event_id: String,
    /// The kind of it.
    pub kind: Leftover,
    /// What.
    pub what: String,
    /// The call that left it.
    pub call: String,
    /// Whose call it was.
    pub whose: Whose,
}

/// All calls.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    seen: BTreeSet<u128>,
    refused: u64,
    of_the_principal: u64,
    /// The weightiest calls, each under its weight, the heaviest first.
    kept: BTreeMap<(u8, Timestamp, String), Deed>,
    things: BTreeMap<Thing, Touched>,
    things_more: u64,
    left: BTreeSet<LeftBehind>,
    left_more: u64,
    /// How often each tool succeeded, and how often it was refused.
    agents: BTreeMap<String, (u64, u64)>,
    agents_more: u64,
}

/// What left something behind, then what succeeded, then what was refused; the principal's own work after a thief's.
fn weight(deed: &Deed) -> u8 {
    let own = u8::from(deed.whose == Whose::Principal);
    match (&deed.refused, deed.leaves) {
        (None, Some(_)) => own,
        (None, None) => 2 + 2 * own,
        (Some(_), _) => 3 + 2 * own,
    }
}

impl Tally {
    /// Takes a call. One that is taken twice counts once: windows overlap.
    pub fn take(&mut self, deed: Deed) {
        if !self.seen.insert(mark(&deed.event_id)) {
            return;
        }
        self.refused += u64::from(deed.refused.is_some());
        self.of_the_principal += u64::from(deed.whose == Whose::Principal);
        self.touch(&deed);
        self.count_agent(&deed);
        if let (Some(kind), None) = (deed.leaves, &deed.refused) {
            self.left.insert(LeftBehind {
                at: deed.at,
                event_id: deed.event_id.clone(),
                kind,
                what: deed.touched.iter().map(Thing::to_string).collect::<Vec<_>>().join(", "),
                call: deed.name.clone(),
                whose: deed.whose,
            });
            if self.left.len() > MOST_LEFT {
                self.left.pop_last();
                self.left_more += 1;
            }
        }
        self.kept.insert((weight(&deed), deed.at, deed.event_id.clone()), deed);
        if self.kept.len() > MOST_CALLS {
            self.kept.pop_last();
        }
    }

    fn count_agent(&mut self, deed: &Deed) {
        if !self.agents.contains_key(&deed.agent) && self.agents.len() >= MOST_AGENTS {
            self.agents_more += 1;
            return;
        }
        let (succeeded, refused) = self.agents.entry(deed.agent.clone()).or_default();
        *(if deed.refused.is_none() { succeeded } else { refused }) += 1;
    }

    fn touch(&mut self, deed: &Deed) {
        for thing in &deed.touched {
            if !self.things.contains_key(thing) && self.things.len() >= MOST_THINGS {
                self.things_more += 1;
                continue;
            }
            let touched = self.things.entry(thing.clone()).or_insert_with(|| Touched {
                thing: thing.clone(),
                calls: BTreeMap::new(),
                first: deed.at,
                last: deed.at,
            });
            let (succeeded, refused) = touched.calls.entry(deed.name.clone()).or_default();
            *(if deed.refused.is_none() { succeeded } else { refused }) += 1;
            touched.first = touched.first.min(deed.at);
            touched.last = touched.last.max(deed.at);
        }
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.seen.len() as u64
    }

    /// How many of them were refused, or failed.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How many of them the contained principal made with keys that no finding names.
    pub fn of_the_principal(&self) -> u64 {
        self.of_the_principal
    }

    /// The calls that are kept, in order of time.
    pub fn kept(&self) -> Vec<&Deed> {
        let mut kept: Vec<&Deed> = self.kept.values().collect();
        kept.sort_by(|a, b| (a.at, &a.event_id).cmp(&(b.at, &b.event_id)));
        kept
    }

    /// What was touched: what something was done to before what was only tried, the most before the least.
    pub fn touched(&self) -> Vec<&Touched> {
        let mut all: Vec<&Touched> = self.things.values().collect();
        let weight = |touched: &Touched| {
            let (succeeded, refused) = touched.counts();
            (succeeded > 0, succeeded + refused)
        };
        all.sort_by(|a, b| weight(b).cmp(&weight(a)).then_with(|| a.thing.cmp(&b.thing)));
        all
    }

    /// What the calls say that they were made with, each with how often it succeeded and was refused, the most before the
    /// least.
    pub fn agents(&self) -> Vec<(&str, u64, u64)> {
        let mut all: Vec<_> = self.agents.iter().map(|(agent, (done, not))| (agent.as_str(), *done, *not)).collect();
        all.sort_by(|a, b| (b.1 + b.2).cmp(&(a.1 + a.2)).then_with(|| a.0.cmp(b.0)));
        all
    }

    /// How many calls were made with a tool that there was no room to tell apart.
    pub fn agents_more(&self) -> u64 {
        self.agents_more
    }

    /// How often something was touched that there was no room to tell apart.
    pub fn touched_more(&self) -> u64 {
        self.things_more
    }

    /// What was left behind, in order of time.
    pub fn left(&self) -> impl Iterator<Item = &LeftBehind> {
        self.left.iter()
    }

    /// How much more was left behind.
    pub fn left_more(&self) -> u64 {
        self.left_more
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn deed(n: u32, whose: Whose, refused: bool, leaves: Option<Leftover>) -> Deed {
        Deed {
            at: Timestamp::from_second(1_800_000_000 + i64::from(n)).unwrap(),
            event_id: format!("e{n}"),
            name: "s3:PutBucketPolicy".to_owned(),
            region: "eu-west-1".to_owned(),
            address: "198.51.100.7".to_owned(),
            agent: format!("tool {}", if n.is_multiple_of(100) || n >= 20_000 { 0 } else { n }),
            access_key: String::new(),
            session: String::new(),
            refused: refused.then(|| "AccessDenied".to_owned()),
            touched: vec![Thing { kind: "bucket".to_owned(), id: format!("b{n}") }],
            leaves,
            whose,
        }
    }

    #[test]
    fn a_call_that_comes_twice_counts_once() {
        let mut tally = Tally::default();
        for n in [1, 2, 1] {
            tally.take(deed(n, Whose::Stolen, n == 2, None));
        }
        assert_eq!((tally.calls(), tally.refused(), tally.kept().len()), (2, 1, 2));
        assert_eq!(tally.touched()[0].counts(), (1, 0));
    }

    #[test]
    fn a_flood_is_counted_in_bounded_memory_and_what_was_left_behind_stays() {
        let mut tally = Tally::default();
        for n in 0..20_000 {
            tally.take(deed(n, Whose::Stolen, true, None));
        }
        tally.take(deed(30_000, Whose::Stolen, false, Some(Leftover::Opened)));
        tally.take(deed(30_001, Whose::Principal, false, None));
        assert_eq!((tally.calls(), tally.refused(), tally.of_the_principal()), (20_002, 20_000, 1));
        let agents: u64 = tally.agents().iter().map(|(_, done, not)| done + not).sum();
        assert_eq!(
            (tally.agents().len(), agents + tally.agents_more()),
            (MOST_AGENTS, 20_002),
            "nor do new names grow it"
        );
        assert_eq!(tally.agents()[0], ("tool 0", 2, 200), "what was used most is first");
        let kept = tally.kept();
        assert_eq!((kept.len(), kept[0].event_id.as_str()), (MOST_CALLS, "e0"));
        assert!(kept.iter().any(|deed| deed.event_id == "e30000"));
        assert!(kept.iter().all(|deed| deed.event_id != "e30001"), "the thief's calls before the principal's own");
        assert_eq!((tally.touched().len(), tally.touched_more()), (MOST_THINGS, 10_002));
        assert_eq!(tally.left().map(|left| left.what.as_str()).collect::<Vec<_>>(), ["bucket b30000"]);
        for n in 0..2_000 {
            tally.take(deed(40_000 + n, Whose::Stolen, false, Some(Leftover::Opened)));
        }
        assert_eq!((tally.left().count(), tally.left_more()), (MOST_LEFT, 1_001));
    }
}
