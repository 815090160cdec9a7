//! Who runs as a role, as the last scan of the account found it: what keeps a shared role from being denied unasked.
//!
//! A scan that could not look everywhere takes nobody away: whoever was found where it could not look stays on record.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, FunctionArn, InstanceProfileArn, Region, RoleName, TaskDefinitionArn};
use crate::inventory::Inventory;

/// The most users of a role that are named; of more, the number is kept.
pub const MOST_NAMED: usize = 50;

/// What is known of a role's users is called old from this age on.
pub const OLD: SignedDuration = SignedDuration::from_hours(24);

/// A record that still holds is written again from this age on: between, a scan that finds nothing new writes nothing.
pub const REFRESHED_AFTER: SignedDuration = SignedDuration::from_hours(6);

/// Where a scan looks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The functions of a Region.
    Functions(Region),
    /// The instance profiles of the account.
    InstanceProfiles,
    /// The task definitions of a Region.
    TaskDefinitions(Region),
}

impl Place {
    /// Where a user of a role was found.
    fn of(user: &str) -> Option<Self> {
        if let Ok(function) = FunctionArn::from_str(user) {
            return Some(Self::Functions(function.region().clone()));
        }
        if let Ok(definition) = TaskDefinitionArn::from_str(user) {
            return Some(Self::TaskDefinitions(definition.region().clone()));
        }
        InstanceProfileArn::from_str(user).is_ok().then_some(Self::InstanceProfiles)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Functions(region) => write!(f, "functions in {region}"),
            Self::InstanceProfiles => f.write_str("instance profiles"),
            Self::TaskDefinitions(region) => write!(f, "task definitions in {region}"),
        }
    }
}

/// Who runs as a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The ARNs of functions, instance profiles and task definitions (without their revision); some where there are many.
    pub users: Vec<String>,
    /// How many there are.
    pub count: usize,
    /// When the account was scanned.
    pub scanned_at: Timestamp,
    /// Where the scan could not look: there may be more users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

impl Usage {
    /// How many run as the role, those with it that a finding names: they may be younger than the scan.
    pub fn count_with(&self, named: &[FunctionArn]) -> usize {
        let mut all: BTreeSet<String> = self.users.iter().cloned().collect();
        all.extend(named.iter().map(|function| function.unqualified().to_string()));
        all.len().max(self.count)
    }

    /// The functions among the users that are named.
    pub fn functions(&self) -> impl Iterator<Item = FunctionArn> {
        self.users.iter().filter_map(|user| user.parse::<FunctionArn>().ok()).map(|function| function.unqualified())
    }

    /// The users that are no function of `functions`, and how many there are beside those that are named.
    pub fn beside(&self, functions: &[FunctionArn]) -> (Vec<&str>, usize) {
        let known: BTreeSet<String> = functions.iter().map(|function| function.unqualified().to_string()).collect();
        let others = self.users.iter().map(String::as_str).filter(|user| !known.contains(*user)).collect();
        (others, self.count.saturating_sub(self.users.len()))
    }

    /// How old it is at `now`.
    pub fn age(&self, now: Timestamp) -> SignedDuration {
        now.duration_since(self.scanned_at).max(SignedDuration::ZERO)
    }

    /// Whether the same is said of the role, whenever it was found.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        (&self.users, self.count, &self.unread) == (&other.users, other.count, &other.unread)
    }
}

/// The record of a role's users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleUsage {
    /// The version of this layout.
    pub schema: u32,
    /// The account.
    pub account: AccountId,
    /// The role.
    pub role: RoleName,
    /// Who runs as it.
    pub usage: Usage,
}

/// What one scan of an account found.
#[derive(Debug, Clone)]
pub struct Scan {
    account: AccountId,
    at: Timestamp,
    found: Inventory,
    unread: BTreeSet<Place>,
}

impl Scan {
    /// A scan that has found nothing yet.
    pub fn new(account: AccountId, at: Timestamp) -> Self {
        Self { account, at, found: Inventory::default(), unread: BTreeSet::new() }
    }

    /// When it began.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Puts down that a function, instance profile or task definition runs as a role.
    pub fn saw(&mut self, user: &str, role: &str) {
        if Place::of(user).is_some() {
            self.found.uses(Some(user.to_owned()), Some(role));
        }
    }

    /// Puts down that a place was not, or not wholly, looked at.
    pub fn missed(&mut self, place: Place) {
        self.unread.insert(place);
    }

    /// Where it did not look, or not wholly.
    pub fn unread(&self) -> &BTreeSet<Place> {
        &self.unread
    }

    /// What is to be on record: of each role in use by this scan, or by what is on record where it could not look. A
    /// role that is not in the answer has no users any more. The key is the role's name in lower case.
    pub fn renew(&self, known: &BTreeMap<String, RoleUsage>) -> BTreeMap<String, RoleUsage> {
        let mut found: BTreeMap<String, (RoleName, BTreeSet<String>)> = BTreeMap::new();
        for (user, role) in self.found.pairs().filter(|(_, role)| *role.account() == self.account) {
            let of_role = found.entry(key(role.name())).or_insert_with(|| (role.name().clone(), BTreeSet::new()));
            of_role.1.insert(user.to_owned());
        }
        if !self.unread.is_empty() {
            for (key, record) in known {
                found.entry(key.clone()).or_insert_with(|| (record.role.clone(), BTreeSet::new()));
            }
        }
        let renewed = found.into_iter().filter_map(|(key, (role, users))| {
            let usage = self.usage(users, known.get(&key).map(|record| &record.usage))?;
            Some((key, RoleUsage { schema: crate::SCHEMA, account: self.account.clone(), role, usage }))
        });
        renewed.collect()
    }

    fn usage(&self, mut users: BTreeSet<String>, old: Option<&Usage>) -> Option<Usage> {
        let mut least = 0;
        if let Some(old) = old.filter(|_| !self.unread.is_empty()) {
            let stays = |user: &&String| Place::of(user).is_none_or(|place| self.unread.contains(&place));
            users.extend(old.users.iter().filter(stays).cloned());
            // Where those that were not named lie is not known: the number does not fall.
            if old.count > old.users.len() {
                least = old.count;
            }
        }
        let count = users.len().max(least);
        (count > 0).then(|| Usage {
            users: users.into_iter().take(MOST_NAMED).collect(),
            count,
            scanned_at: self.at,
            unread: self.unread.iter().map(ToString::to_string).collect(),
        })
    }
}

/// A role's name as records are told apart by it: IAM's names differ by more than case.
pub fn key(role: &RoleName) -> String {
    role.as_str().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    const ACCOUNT: &str = "111122223333";

    fn at(hour: i64) -> Timestamp {
        "2026-11-21T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hour)
    }

    fn function(region: &str, name: &str) -> String {
        format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}")
    }

    fn role(name: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/app/{name}")
    }

    fn scan(hour: i64, pairs: &[(String, &str)], missed: &[Place]) -> Scan {
        let mut scan = Scan::new(ACCOUNT.parse().unwrap(), at(hour));
        for (user, name) in pairs {
            scan.saw(user, &role(name));
        }
        for place in missed {
            scan.missed(place.clone());
        }
        scan
    }

    fn functions_in(region: &str) -> Place {
        Place::Functions(region.parse().unwrap())
    }

    fn counts(records: &BTreeMap<String, RoleUsage>) -> Vec<(&str, usize)> {
        records.iter().map(|(key, record)| (key.as_str(), record.usage.count)).collect()
    }

    #[test]
    fn users_are_gathered_by_role_whatever_the_case_and_another_accounts_role_is_nobodys() {
        let mut scan = scan(0, &[(function("eu-west-1", "a"), "Orders"), (function("eu-west-1", "b"), "orders")], &[]);
        scan.saw(&format!("arn:aws:iam::{ACCOUNT}:instance-profile/web"), &role("orders"));
        scan.saw(&format!("arn:aws:ecs:eu-west-1:{ACCOUNT}:task-definition/web"), &role("orders"));
        scan.saw("arn:aws:sqs:eu-west-1:111122223333:queue", &role("orders"));
        scan.saw(&function("eu-west-1", "c"), "arn:aws:iam::444455556666:role/orders");
        scan.saw(&function("eu-west-1", "d"), "orders");
        assert_eq!(counts(&scan.renew(&BTreeMap::new())), [("orders", 4)]);
    }

    #[test]
    fn a_whole_scan_clears_whoever_is_gone_and_a_partial_one_nobody() {
        let pairs = [(function("eu-west-1", "a"), "one"), (function("eu-central-1", "b"), "one")];
        let pairs = [pairs.as_slice(), &[(function("eu-central-1", "c"), "two")]].concat();
        let known = scan(0, &pairs, &[]).renew(&BTreeMap::new());
        assert_eq!(counts(&known), [("one", 2), ("two", 1)]);

        let partial = scan(1, &pairs[..1], &[functions_in("eu-central-1")]).renew(&known);
        assert_eq!(counts(&partial), [("one", 2), ("two", 1)], "what lies where it could not look stays");
        assert_eq!(partial["one"].usage.unread, ["functions in eu-central-1"]);
        let elsewhere = scan(1, &[], &[functions_in("eu-central-1")]).renew(&known);
        assert_eq!(counts(&elsewhere), [("one", 1), ("two", 1)], "what it did look at is taken at its word");

        let whole = scan(2, &pairs[..1], &[]).renew(&partial);
        assert_eq!(counts(&whole), [("one", 1)]);
        assert_eq!((whole["one"].usage.scanned_at, whole["one"].usage.unread.len()), (at(2), 0));
    }

    #[test]
    fn of_many_users_some_are_named_and_all_are_counted() {
        let pairs: Vec<_> = (0..MOST_NAMED + 7).map(|n| (function("eu-west-1", &format!("f{n:03}")), "one")).collect();
        let known = scan(0, &pairs, &[]).renew(&BTreeMap::new());
        let usage = &known["one"].usage;
        assert_eq!((usage.users.len(), usage.count), (MOST_NAMED, MOST_NAMED + 7));
        assert_eq!(usage.beside(&[]), (usage.users.iter().map(String::as_str).collect(), 7));
        let partial = scan(1, &[], &[functions_in("us-east-1")]).renew(&known);
        assert_eq!(partial["one"].usage.count, MOST_NAMED + 7, "the unnamed may lie where it could not look");
    }

    #[test]
    fn a_function_that_is_younger_than_the_scan_counts_too() {
        let known = scan(0, &[(function("eu-west-1", "a"), "one")], &[]).renew(&BTreeMap::new());
        let usage = &known["one"].usage;
        let named = |names: &[&str]| -> Vec<FunctionArn> {
            names.iter().map(|name| function("eu-west-1", name).parse().unwrap()).collect()
        };
        assert_eq!(usage.count_with(&[]), 1);
        assert_eq!(usage.count_with(&named(&["a"])), 1);
        assert_eq!(usage.count_with(&named(&["a:live"])), 1);
        assert_eq!(usage.count_with(&named(&["b"])), 2);
        assert_eq!(usage.beside(&named(&["a:live"])), (Vec::new(), 0));
        assert_eq!(usage.functions().collect::<Vec<_>>(), named(&["a"]));
    }

    #[test]
    fn what_stands_in_the_ledger_by_hand_is_no_function() {
        let usage = Usage { users: vec!["*".into(), role("x")], count: 1, scanned_at: at(0), unread: Vec::new() };
        assert_eq!(usage.functions().count(), 0);
        assert_eq!(usage.count_with(&[]), 2, "the number is never less than what is named");
    }

    proptest! {
        /// Whatever a partial scan finds, no role has fewer users after it than a whole scan of the same account would find
        /// in the places that it missed.
        #[test]
        fn a_partial_scan_never_makes_a_role_look_less_shared(
            first in prop::collection::btree_map((0u8..4, 0u8..3), 0u8..3, 0..12),
            then in prop::collection::btree_map((0u8..4, 0u8..3), 0u8..3, 0..12),
            missed in prop::collection::btree_set(0u8..3, 0..3),
        ) {
            let region = |n: u8| ["eu-west-1", "eu-central-1", "us-east-1"][usize::from(n)];
            let pair = |((f, p), r): (&(u8, u8), &u8)| {
                (function(region(*p), &format!("f{f}")), ["a", "b", "c"][usize::from(*r)])
            };
            let known = scan(0, &first.iter().map(pair).collect::<Vec<_>>(), &[]).renew(&BTreeMap::new());
            // Where it could not look nothing is known to have changed.
            let now: BTreeMap<_, _> = first.iter().filter(|((_, p), _)| missed.contains(p))
                .chain(then.iter().filter(|((_, p), _)| !missed.contains(p))).collect();
            let seen: Vec<_> = then.iter().filter(|((_, p), _)| !missed.contains(p)).map(pair).collect();
            let places: Vec<_> = missed.iter().map(|p| functions_in(region(*p))).collect();
            let after = scan(1, &seen, &places).renew(&known);
            let truth = scan(1, &now.into_iter().map(pair).collect::<Vec<_>>(), &[]).renew(&BTreeMap::new());
            for (role, record) in &truth {
                let told = after.get(role).map(|record| record.usage.users.clone()).unwrap_or_default();
                for user in &record.usage.users {
                    prop_assert!(told.contains(user), "{role} lost {user}");
                }
            }
        }
    }
}
