//! What was changed, and what was changed twice.
//!
//! A change that was carried out once is needed. Once more it changes nothing (attaching what is attached, deactivating
//! what is inactive), and there are two honest reasons for it: the invocation that made it had begun before the first was
//! carried out (its own first try, whose answer was lost; or another delivery at the same moment); or it could not read
//! whether the change was there, and then it is better made twice than not. Anything else is needless.

use std::collections::BTreeMap;
use std::time::Instant;

use super::faults::{Change, Struck};

/// An invocation: whose, and since when. The next of the same caller begins when this one has ended.
#[derive(Debug, Clone, Copy)]
pub struct Invocation {
    /// The number of the caller's port.
    pub caller: usize,
    /// When the event was handed out.
    pub began: Instant,
}

/// Reads that were struck twice in one invocation may have come to nothing.
const BLIND: usize = 2;

/// The changes, sorted out.
#[derive(Debug, Clone, Default)]
pub struct Balance {
    /// When each operation on each resource was carried out first.
    firsts: BTreeMap<(String, String), Instant>,
    /// Carried out once more by an invocation that had begun before the first was carried out.
    pub at_once: usize,
    /// Of these, after an answer that was lost.
    pub after_lost: usize,
    /// Carried out once more by an invocation that could not read whether the change was there.
    pub blind: usize,
    /// Carried out once more without need.
    pub needless: Vec<String>,
}

impl Balance {
    /// Sorts out what the proxy saw.
    pub fn of(changes: &[Change], struck: &[Struck], invocations: &[Invocation]) -> Self {
        let mut balance = Self::default();
        let mut lost: BTreeMap<(String, String), bool> = BTreeMap::new();
        for change in changes {
            let key = (change.operation.clone(), change.resource.clone());
            let Some(first) = balance.firsts.get(&key).copied() else {
                balance.firsts.insert(key.clone(), change.at);
                lost.insert(key, change.lost);
                continue;
            };
            let after_lost = lost.insert(key, change.lost).unwrap_or_default();
            let of_caller = invocations.iter().filter(|i| i.caller == change.caller && i.began <= change.at);
            let began = of_caller.map(|invocation| invocation.began).max();
            let reads_struck = struck
                .iter()
                .filter(|one| one.caller == change.caller && began.is_some_and(|began| one.at >= began))
                .filter(|one| {
                    one.at <= change.at && (one.operation.starts_with("Get") || one.operation.starts_with("List"))
                })
                .count();
            if began.is_some_and(|began| began <= first) {
                balance.at_once += 1;
                balance.after_lost += usize::from(after_lost);
            } else if reads_struck >= BLIND {
                balance.blind += 1;
            } else {
                balance.needless.push(format!("{} on {}", change.operation, change.resource));
            }
        }
        balance
    }

    /// How many changes were needed and carried out.
    pub fn needed(&self) -> usize {
        self.firsts.len()
    }

    /// How many different operations that begin so were carried out first.
    pub fn count(&self, operation: &str) -> usize {
        self.firsts.keys().filter(|(name, _)| name.starts_with(operation)).count()
    }

    /// When an operation that begins so was first carried out on a resource.
    pub fn first(&self, operation: &str, resource: &str) -> Option<Instant> {
        let mut firsts = self.firsts.iter();
        firsts.find(|((name, on), _)| name.starts_with(operation) && on == resource).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_change_is_needless_unless_it_was_made_at_once_or_blind() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let change = |caller, ms, lost| Change {
            operation: "AttachRolePolicy".to_owned(),
            resource: "role/orders".to_owned(),
            caller,
            at: at(ms),
            lost,
        };
        let began = |caller, ms| Invocation { caller, began: at(ms) };
        let invocations = [began(0, 0), began(1, 5), began(1, 50), began(2, 40)];
        let changes = [change(0, 10, true), change(0, 12, false), change(1, 15, false), change(2, 60, false)];
        let balance = Balance::of(&changes, &[], &invocations);
        assert_eq!((balance.needed(), balance.at_once, balance.after_lost, balance.blind), (1, 2, 1, 0));
        assert_eq!(balance.needless, ["AttachRolePolicy on role/orders"]);
        assert_eq!(balance.first("Attach", "role/orders"), Some(at(10)));
        let struck = |ms| Struck { operation: "ListAttachedRolePolicies".to_owned(), caller: 2, at: at(ms) };
        let balance = Balance::of(&changes, &[struck(45), struck(50)], &invocations);
        assert_eq!((balance.blind, balance.needless.len()), (1, 0));
        let balance = Balance::of(&changes, &[struck(20), struck(50)], &invocations);
        assert_eq!(balance.needless.len(), 1, "what struck the invocation before is no excuse");
    }
}
