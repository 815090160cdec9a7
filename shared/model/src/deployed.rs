//! What Firebreak's own parts were when they were first looked at after a deployment. What differs later, with no deployment
//! between, was changed by another way: an environment, the code, a policy. No event is needed to see it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::SCHEMA;

/// Digests of things, by what each is called in a sentence.
pub type Digests = BTreeMap<String, String>;

/// The record of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// The version of this layout.
    pub schema: u32,
    /// When the stack was last created or updated, as CloudFormation says.
    pub deployed_at: Timestamp,
    /// How each thing was then.
    pub digests: Digests,
    /// How often it was looked at since, as far as that matters.
    #[serde(default)]
    pub looks: u32,
    /// What differs since, and how it was found.
    #[serde(default)]
    pub changed: Digests,
}

/// So many looks after a deployment accept what they find: a queue may show its attributes a minute late.
const ACCEPTING: u32 = 2;

impl Deployed {
    /// The record after a look: what was not seen is as it was before. The first looks after a deployment accept what they
    /// find, but for what had been changed before and is still as it was changed to: nothing that was deployed has put
    /// that right.
    #[must_use]
    pub fn looked(before: Option<&Self>, deployed_at: Timestamp, seen: &Digests) -> Self {
        let Some(before) = before else {
            return Self { schema: SCHEMA, deployed_at, digests: seen.clone(), looks: 1, changed: Digests::new() };
        };
        let looks = if before.deployed_at == deployed_at { before.looks } else { 0 };
        let mut next = Self { deployed_at, looks: (looks + 1).min(ACCEPTING), ..before.clone() };
        for (thing, digest) in seen {
            let still = before.changed.get(thing) == Some(digest);
            if looks < ACCEPTING && !still {
                next.digests.insert(thing.clone(), digest.clone());
            }
            if next.digests.entry(thing.clone()).or_insert_with(|| digest.clone()) == digest {
                next.changed.remove(thing);
            } else {
                next.changed.insert(thing.clone(), digest.clone());
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn at(hour: u8) -> Timestamp {
        format!("2026-11-21T0{hour}:00:00Z").parse().unwrap()
    }

    fn seen(code: &str, policy: &str) -> Digests {
        [("the code", code), ("the policy", policy)].map(|(thing, digest)| (thing.into(), digest.into())).into()
    }

    fn changed(record: &Deployed) -> Vec<&str> {
        record.changed.keys().map(String::as_str).collect()
    }

    /// After two looks that found the same.
    fn deployed(digests: &Digests) -> Deployed {
        let first = Deployed::looked(None, at(1), digests);
        Deployed::looked(Some(&first), at(1), digests)
    }

    #[test]
    fn the_first_two_looks_accept_what_they_find() {
        let late = Deployed::looked(None, at(1), &seen("a", "not the new one yet"));
        let second = Deployed::looked(Some(&late), at(1), &seen("a", "p"));
        assert!(changed(&second).is_empty() && second.digests == seen("a", "p"));
        assert_eq!(changed(&Deployed::looked(Some(&second), at(1), &seen("a", "q"))), ["the policy"]);
        let again = Deployed::looked(Some(&second), at(2), &seen("b", "p"));
        assert_eq!((again.looks, changed(&Deployed::looked(Some(&again), at(2), &seen("c", "p")))), (1, vec![]));
    }

    #[test]
    fn what_differs_from_what_was_deployed_is_changed_until_it_is_put_back() {
        let first = deployed(&seen("a", "p"));
        assert!(changed(&first).is_empty());
        assert_eq!(Deployed::looked(Some(&first), at(1), &seen("a", "p")), first, "nothing is written");
        let other = Deployed::looked(Some(&first), at(1), &seen("b", "p"));
        assert_eq!(changed(&other), ["the code"]);
        assert_eq!(other.digests, first.digests, "what was deployed is what counts");
        // What cannot be read for once is neither put back nor changed.
        let unread = Deployed::looked(Some(&other), at(1), &Digests::new());
        assert_eq!(unread, other);
        assert_eq!(Deployed::looked(Some(&unread), at(1), &seen("a", "p")), first);
    }

    #[test]
    fn a_deployment_is_no_change_and_covers_none_up() {
        let first = deployed(&seen("a", "p"));
        let updated = Deployed::looked(Some(&first), at(2), &seen("b", "q"));
        let updated = Deployed::looked(Some(&updated), at(2), &seen("b", "q"));
        assert!(changed(&updated).is_empty() && updated.digests == seen("b", "q"));
        let tampered = Deployed::looked(Some(&updated), at(2), &seen("b", "evil"));
        assert_eq!(changed(&tampered), ["the policy"]);
        // The code is deployed anew; the policy is still what somebody made of it.
        let after = Deployed::looked(Some(&tampered), at(3), &seen("c", "evil"));
        assert_eq!((changed(&after), after.digests["the code"].as_str()), (vec!["the policy"], "c"));
        let back = Deployed::looked(Some(&after), at(3), &seen("c", "q"));
        assert!(changed(&back).is_empty());
        // A deployment that sets it is what counts from then on.
        let set = Deployed::looked(Some(&after), at(4), &seen("c", "r"));
        assert!(changed(&set).is_empty() && set.digests["the policy"] == "r");
    }

    #[test]
    fn what_is_read_later_is_taken_as_it_is_first_read() {
        let first = Deployed::looked(None, at(1), &Digests::new());
        let later = Deployed::looked(Some(&first), at(1), &seen("a", "p"));
        assert!(changed(&later).is_empty() && later.digests == seen("a", "p"));
    }
}
