//! The sessions that lead back to what was stolen: a tree that grows as records are read, in whatever order.
//!
//! Cycles and self-assumption exist: a session is in the tree once, and what it is known by is its access key.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Call, Caller, Minting};
use crate::ids::{AccessKeyId, AccountId, Region, RoleName, SessionId, UniqueId};

/// The most sessions that are followed for one incident. What is beyond is told of.
pub const MOST_LINKS: usize = 400;

/// The most of them that lead back to a session of the principal which no finding names: a function that assumes a role
/// with every request leaves room for what the thief made.
const MOST_OWN: usize = MOST_LINKS / 2;

/// Where a chain begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Root {
    /// The contained principal's unique id: whatever its sessions made is stolen too.
    pub unique_id: Option<UniqueId>,
    /// The keys that findings name.
    pub access_keys: Vec<AccessKeyId>,
    /// Sessions of the principal that began at this time or later are healthy again. `None` where it has none that are.
    pub healthy_from: Option<Timestamp>,
}

/// A session of a role, in whichever account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfRole {
    /// Whose role.
    pub account: AccountId,
    /// The role.
    pub name: RoleName,
    /// The session.
    pub id: SessionId,
}

/// A session that a call made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose session it is; `None` for one of the user who called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<OfRole>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<AccessKeyId>,
    /// When it ends by itself.
    pub ends_at: Timestamp,
}

/// A session of the chain, and how it came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The call that made it.
    pub call: Call,
    /// When.
    pub at: Timestamp,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// The key that called, where the record says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AccessKeyId>,
    /// How many calls lie between it and what was stolen.
    pub depth: u32,
    /// The session.
    #[serde(flatten)]
    pub session: Session,
}

impl Link {
    /// Whether the session can still be used.
    pub fn lives(&self, now: Timestamp) -> bool {
        self.session.ends_at > now
    }
}

/// What a session leads back to: the nearest to what is known to be stolen comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// A key that a finding names.
    Stolen,
    /// Another session of the principal: a thief's, or its own work.
    Own,
}

/// What is known of a chain.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    root: Root,
    links: Vec<Link>,
    /// What each key that is stolen or was made from what is leads back to, and how far it is from that.
    keys: BTreeMap<AccessKeyId, (Origin, u32)>,
    /// The same for sessions, for callers whose key the record leaves out.
    sessions: BTreeMap<SessionId, (Origin, u32)>,
    heard: BTreeSet<String>,
    waiting: Vec<Minting>,
    unread: BTreeSet<String>,
    own: usize,
    cut: bool,
}

impl Chain {
    /// From this root, with what was found before.
    pub fn of(root: Root, before: Vec<Link>) -> Self {
        let mut chain = Self { root, ..Self::default() };
        chain.keys = chain.root.access_keys.iter().map(|key| (key.clone(), (Origin::Stolen, 0))).collect();
        for link in before {
            // One whose maker is not known by its key was made by another session of the principal.
            let by = link.by.as_ref();
            let origin = by.map_or(Origin::Stolen, |by| chain.keys.get(by).map_or(Origin::Own, |(origin, _)| *origin));
            chain.add(link, origin);
        }
        chain
    }

    /// Takes what records say. Answers whether the chain grew.
    pub fn grow(&mut self, mintings: impl IntoIterator<Item = Minting>) -> bool {
        for minting in mintings {
            if self.heard.insert(minting.event_id.clone()) {
                self.waiting.push(minting);
            }
        }
        let mut grew = false;
        loop {
            let before = self.links.len() + self.unread.len();
            // What leads nowhere now may do so when another record is read.
            for minting in std::mem::take(&mut self.waiting) {
                match (self.place_of(&minting.by), &minting.made) {
                    (None, _) => self.waiting.push(minting),
                    (Some(_), Err(told)) => {
                        self.unread.insert(told.clone());
                    }
                    (Some((origin, depth)), Ok(session)) => {
                        let Minting { call, at, region, by, .. } = &minting;
                        let link = Link {
                            call: *call,
                            at: *at,
                            region: region.clone(),
                            by: by.access_key.clone(),
                            depth: depth.saturating_add(1),
                            session: session.clone(),
                        };
                        self.add(link, origin);
                    }
                }
            }
            if self.links.len() + self.unread.len() == before {
                return grew;
            }
            grew = true;
        }
    }

    fn add(&mut self, link: Link, origin: Origin) {
        let Session { role, access_key, .. } = &link.session;
        let known = match access_key {
            Some(key) => self.keys.contains_key(key) && self.links.iter().any(|l| l.session.access_key == *access_key),
            None => self.links.iter().any(|l| l.session == link.session && l.at == link.at),
        };
        if known {
            return;
        }
        if self.links.len() >= MOST_LINKS || (origin == Origin::Own && self.own >= MOST_OWN) {
            self.cut = true;
            return;
        }
        self.own += usize::from(origin == Origin::Own);
        if let Some(key) = access_key {
            self.keys.entry(key.clone()).or_insert((origin, link.depth));
        }
        if let Some(role) = role {
            self.sessions.entry(role.id.clone()).or_insert((origin, link.depth));
        }
        self.links.push(link);
    }

    /// What a caller leads back to, and how far it is from that; `None` where nothing leads there.
    fn place_of(&self, caller: &Caller) -> Option<(Origin, u32)> {
        let by_key = caller.access_key.as_ref().and_then(|key| self.keys.get(key).copied());
        // A caller in another account is known to us by its session alone.
        let by_session = || {
            let session = caller.session.as_ref().filter(|_| caller.access_key.is_none())?;
            self.sessions.get(session).copied()
        };
        let by_id = || {
            let same = self.root.unique_id.is_some() && self.root.unique_id == caller.unique_id;
            let healthy = self.root.healthy_from.is_some_and(|from| caller.began.is_some_and(|began| began >= from));
            (same && !healthy).then_some((Origin::Own, 0))
        };
        by_key.or_else(by_session).or_else(by_id)
    }

    /// The keys whose calls are worth a look, the nearest to what is known to be stolen first.
    pub fn keys(&self) -> Vec<AccessKeyId> {
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_by_key(|(_, place)| **place);
        keys.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// The sessions, in the order in which they were found.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// What leads here and cannot be followed, in a sentence each.
    pub fn not_followed(&self) -> Vec<String> {
        let mut all: Vec<String> = self.unread.iter().cloned().collect();
        if self.cut {
            all.push(format!(
                "more than {MOST_LINKS} sessions were made, or more than {MOST_OWN} by sessions that no finding names: the rest \
                 is neither denied nor followed"
            ));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn key(n: u32) -> AccessKeyId {
        format!("ASIAEXAMPLE{n:09}").parse().unwrap()
    }

    fn id(role: u32) -> UniqueId {
        format!("AROAEXAMPLE{role:09}").parse().unwrap()
    }

    /// Key `from`, a session of role `by`, makes key `to`, a session of role `role`.
    fn minted(from: u32, by: u32, to: u32, role: u32) -> Minting {
        let at: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        let session: SessionId = format!("{}:s{to}", id(role)).parse().unwrap();
        Minting {
            event_id: format!("{from}-{to}"),
            call: Call::AssumeRole,
            at,
            region: None,
            by: Caller {
                access_key: Some(key(from)),
                unique_id: Some(id(by)),
                session: Some(format!("{}:s{from}", id(by)).parse().unwrap()),
                began: Some(at),
            },
            made: Ok(Session {
                role: Some(OfRole {
                    account: "111122223333".parse().unwrap(),
                    name: format!("role-{role}").parse().unwrap(),
                    id: session,
                }),
                access_key: Some(key(to)),
                ends_at: "2026-11-21T04:00:00Z".parse().unwrap(),
            }),
        }
    }

    fn stolen() -> Root {
        Root { access_keys: vec![key(0)], ..Root::default() }
    }

    fn found(chain: &Chain) -> Vec<(String, u32)> {
        let mut found: Vec<_> = chain
            .links()
            .iter()
            .map(|l| (l.session.access_key.as_ref().unwrap().as_str().chars().rev().take(1).collect(), l.depth))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn a_cycle_and_a_self_assumption_end() {
        // A(0) makes B(1), B makes C(2), C makes A again (3), and that one makes B (4); B assumes itself (5).
        let calls = [(0, 1, 1, 2), (1, 2, 2, 3), (2, 3, 3, 1), (3, 1, 4, 2), (1, 2, 5, 2)];
        let mut chain = Chain::of(stolen(), Vec::new());
        chain.grow(calls.iter().map(|&(f, b, t, r)| minted(f, b, t, r)));
        let expected = [("1", 1), ("2", 2), ("3", 3), ("4", 4), ("5", 2)].map(|(k, d)| (k.to_owned(), d));
        assert_eq!(found(&chain), expected);
        assert!(!chain.grow(calls.iter().map(|&(f, b, t, r)| minted(f, b, t, r))), "the same records add nothing");
    }

    #[test]
    fn innocent_sessions_of_the_same_roles_are_not_in_it() {
        let mut chain = Chain::of(stolen(), Vec::new());
        assert!(chain.grow([minted(0, 1, 1, 2)]));
        assert!(!chain.grow([minted(7, 9, 8, 2), minted(8, 2, 9, 3)]));
        assert_eq!(found(&chain), [("1".to_owned(), 1)]);
    }

    #[test]
    fn any_session_of_the_principal_leads_there_unless_it_is_healthy() {
        let root = Root { unique_id: Some(id(1)), ..Root::default() };
        let mut chain = Chain::of(root.clone(), Vec::new());
        chain.grow([minted(6, 1, 7, 2)]);
        assert_eq!(found(&chain), [("7".to_owned(), 1)]);
        for (healthy_from, leads) in [("2026-11-21T03:00:00Z", false), ("2026-11-21T03:00:01Z", true)] {
            let root = Root { healthy_from: Some(healthy_from.parse().unwrap()), ..root.clone() };
            assert_eq!(Chain::of(root, Vec::new()).grow([minted(6, 1, 7, 2)]), leads, "{healthy_from}");
        }
        // A key that is known to be stolen is, whenever its session began.
        let root =
            Root { healthy_from: Some("2026-11-21T02:00:00Z".parse().unwrap()), access_keys: vec![key(6)], ..root };
        assert!(Chain::of(root, Vec::new()).grow([minted(6, 1, 7, 2)]));
    }

    #[test]
    fn a_caller_of_another_account_is_known_by_its_session() {
        let mut back = minted(1, 2, 2, 3);
        back.by.access_key = None;
        let mut chain = Chain::of(stolen(), Vec::new());
        chain.grow([minted(0, 1, 1, 2), back.clone()]);
        assert_eq!(chain.links().len(), 2);
        // Its session is not enough where a key says that it is another one of that name.
        let mut namesake = minted(9, 2, 3, 3);
        namesake.by.session = back.by.session;
        assert!(!chain.grow([namesake]));
    }

    #[test]
    fn what_was_found_before_is_followed_on() {
        let mut first = Chain::of(stolen(), Vec::new());
        first.grow([minted(0, 1, 1, 2)]);
        let mut second = Chain::of(Root::default(), first.links().to_vec());
        assert!(second.grow([minted(1, 2, 2, 3)]));
        assert_eq!(found(&second), [("1".to_owned(), 1), ("2".to_owned(), 2)]);
    }

    #[test]
    fn a_flood_is_cut_and_said_and_a_session_that_cannot_be_read_too() {
        let mut chain = Chain::of(stolen(), Vec::new());
        let most = u32::try_from(MOST_LINKS).unwrap();
        chain.grow((1..=most + 5).map(|n| minted(0, 1, n, 2)));
        assert_eq!(chain.links().len(), MOST_LINKS);
        let mut unread = minted(0, 1, 999, 2);
        unread.made = Err("a session that the record does not name".to_owned());
        chain.grow([unread]);
        let told = chain.not_followed();
        assert!(told[0].contains("does not name") && told[1].contains("more than 400"), "{told:?}");
    }

    /// A function that assumes a role with every request; what the thief made is read last.
    #[test]
    fn what_the_thief_made_finds_room_and_comes_first() {
        let root = Root { unique_id: Some(id(1)), access_keys: vec![key(0)], ..Root::default() };
        let mut chain = Chain::of(root.clone(), Vec::new());
        let most = u32::try_from(MOST_LINKS).unwrap();
        chain.grow((0..=most).map(|n| minted(2_000 + n, 1, 3_000 + n, 2)));
        assert_eq!(chain.links().len(), MOST_OWN);
        assert!(chain.not_followed()[0].contains("that no finding names"), "{:?}", chain.not_followed());
        chain.grow([minted(0, 1, 9_000, 2), minted(9_000, 2, 9_001, 3)]);
        assert_eq!(chain.keys().get(..3).unwrap(), [key(0), key(9_000), key(9_001)]);
        // And so it stays when it is made again from what is on record.
        let mut again = Chain::of(root, chain.links().to_vec());
        assert_eq!(again.keys(), chain.keys());
        again.grow([minted(2_999, 1, 4_999, 2)]);
        assert_eq!(again.links().len(), MOST_OWN + 2);
    }

    proptest! {
        /// Whatever the order and however the records come in, the chain is what a search from the root finds.
        #[test]
        fn the_order_of_the_records_does_not_matter(
            calls in prop::collection::vec((0_u32..12, 1_u32..12), 0..30), cut in 0_usize..30, seed in any::<u64>()
        ) {
            // Each key is made once, by a key before or after it in the list.
            let mut made = BTreeSet::new();
            let calls: Vec<_> = calls.into_iter().filter(|(from, to)| from != to && made.insert(*to)).collect();
            let mut reached = BTreeSet::from([0]);
            while calls.iter().any(|(from, to)| reached.contains(from) && reached.insert(*to)) {}
            reached.remove(&0);
            let mut records: Vec<_> = calls.iter().map(|&(from, to)| minted(from, from + 20, to, to + 20)).collect();
            let turn = usize::try_from(seed % 31).unwrap().min(records.len());
            records.rotate_left(turn);
            let (first, second) = records.split_at(cut.min(records.len()));
            let mut chain = Chain::of(stolen(), Vec::new());
            chain.grow(first.to_vec());
            chain.grow(second.to_vec());
            let keys: BTreeSet<_> = chain.links().iter().map(|l| l.session.access_key.clone().unwrap()).collect();
            prop_assert_eq!(keys, reached.into_iter().map(key).collect::<BTreeSet<_>>());
        }
    }
}
