//! Whose call a record of CloudTrail is, as far as keys and ids tell: a name is no proof, for anyone may bear it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::action::named;
use crate::chain::{self, Chain, Root};
use crate::evidence::Asked;
use crate::foreign::{at, principal_id, text};
use crate::ids::{AccessKeyId, UniqueId};

named!(
    /// Whose call it is.
    Whose {
        /// A key that a finding names signed it.
        Stolen = "stolen",
        /// A key of a session that was made from what was stolen signed it: from a key that a finding names, or from another
        /// session of the principal, which may be the thief's too.
        Chained = "chained",
        /// The contained principal made it, with a key that no finding names: its own work, or a thief's.
        Principal = "principal",
    }
);

/// Who is looked for. Takes records in whatever order, and learns from them which sessions were made.
#[derive(Debug, Clone)]
pub struct Suspects {
    stolen: BTreeSet<AccessKeyId>,
    chained: BTreeSet<AccessKeyId>,
    unique_id: Option<UniqueId>,
    chain: Chain,
}

impl Suspects {
    /// Those that a run asked about.
    pub fn of(asked: &Asked) -> Self {
        let (chained, stolen): (Vec<_>, Vec<_>) = asked.keys().partition(|(_, chained)| *chained);
        let keys = |all: Vec<(AccessKeyId, bool)>| all.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>();
        let (stolen, chained) = (keys(stolen), keys(chained));
        let root = Root {
            unique_id: asked.unique_id.clone(),
            access_keys: stolen.iter().chain(&chained).cloned().collect(),
            healthy_from: None,
        };
        Self { stolen, chained, unique_id: asked.unique_id.clone(), chain: Chain::of(root, Vec::new()) }
    }

    /// Adds those that another run asked about.
    pub fn add(&mut self, asked: &Asked) {
        let Self { stolen, chained, unique_id, .. } = Self::of(asked);
        self.stolen.extend(stolen);
        self.chained.extend(chained);
        self.unique_id = self.unique_id.take().or(unique_id);
        let root = Root {
            unique_id: self.unique_id.clone(),
            access_keys: self.stolen.iter().chain(&self.chained).cloned().collect(),
            healthy_from: None,
        };
        self.chain = Chain::of(root, self.chain.links().to_vec());
    }

    /// Takes a record that may have made a session. Answers the keys of sessions that are new by it.
    pub fn learn(&mut self, record: &Value) -> Vec<AccessKeyId> {
        let Some(minting) = chain::read(record) else { return Vec::new() };
        let before: BTreeSet<AccessKeyId> = self.chain.keys().into_iter().collect();
        self.chain.grow([minting]);
        let new: Vec<AccessKeyId> = self.chain.keys().into_iter().filter(|key| !before.contains(key)).collect();
        self.chained.extend(new.iter().cloned());
        new
    }

    /// Puts keys in the order in which they are worth a look: the nearest to what is known to be stolen first.
    pub fn nearest_first(&self, keys: &mut Vec<AccessKeyId>) {
        let all = self.chain.keys();
        let place = |key: &AccessKeyId| all.iter().position(|other| other == key).unwrap_or(all.len());
        keys.sort_by_cached_key(|key| (place(key), key.clone()));
        keys.dedup();
    }

    /// What leads to a session and cannot be followed, in a sentence each.
    pub fn not_followed(&self) -> Vec<String> {
        self.chain.not_followed()
    }

    /// Whose a record is; `None` where it is somebody else's who bears the name.
    pub fn whose(&self, record: &Value) -> Option<Whose> {
        let identity = at(record, &["userIdentity"])?;
        let key: Option<AccessKeyId> = text(identity, &["accessKeyId"]).and_then(|key| key.parse().ok());
        if let Some(key) = &key {
            if self.stolen.contains(key) {
                return Some(Whose::Stolen);
            }
            if self.chained.contains(key) {
                return Some(Whose::Chained);
            }
        }
        let own = text(identity, &["principalId"]).and_then(|id| principal_id(id).0);
        let issuer = text(identity, &["sessionContext", "sessionIssuer", "principalId"]).and_then(|id| id.parse().ok());
        let same = self.unique_id.is_some() && (own == self.unique_id || issuer == self.unique_id);
        same.then_some(Whose::Principal)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::evidence::{By, Question};

    fn key(n: u32) -> String {
        format!("ASIAEXAMPLE{n:09}")
    }

    fn suspects() -> Suspects {
        let question = |n, chained| Question {
            by: By::AccessKey,
            value: key(n),
            from: "2026-11-21T03:00:00Z".parse().unwrap(),
            chained,
        };
        let unique_id = Some("AROAEXAMPLE000000001".parse().unwrap());
        Suspects::of(&Asked { questions: vec![question(1, false), question(2, true)], unique_id, ..Asked::default() })
    }

    fn by(key: &str, role: &str) -> Value {
        json!({"userIdentity": {"type": "AssumedRole", "principalId": format!("{role}:s"), "accessKeyId": key}})
    }

    /// The key of that number, of a session of role 5, makes another one of role 6.
    fn assumed(from: u32, to: u32) -> Value {
        json!({"eventSource": "sts.amazonaws.com", "eventName": "AssumeRole", "eventTime": "2026-11-21T03:00:00Z",
            "eventID": format!("{from}-{to}"),
            "userIdentity": {"type": "AssumedRole", "principalId": "AROAEXAMPLE000000005:s", "accessKeyId": key(from)},
            "responseElements": {"credentials": {"accessKeyId": key(to), "expiration": "Nov 21, 2026, 4:00:00 AM"},
                "assumedRoleUser": {"assumedRoleId": "AROAEXAMPLE000000006:s6",
                    "arn": "arn:aws:sts::111122223333:assumed-role/six/s6"}}})
    }

    #[test]
    fn a_key_tells_whose_a_call_is_and_a_name_does_not() {
        let suspects = suspects();
        assert_eq!(suspects.whose(&by(&key(1), "AROAEXAMPLE000000001")), Some(Whose::Stolen));
        assert_eq!(suspects.whose(&by(&key(2), "AROAEXAMPLE000000009")), Some(Whose::Chained));
        assert_eq!(suspects.whose(&by(&key(3), "AROAEXAMPLE000000001")), Some(Whose::Principal));
        assert_eq!(suspects.whose(&by(&key(3), "AROAEXAMPLE000000009")), None, "another role's session of that name");
        let issued = json!({"userIdentity": {"type": "AssumedRole", "principalId": "x",
            "sessionContext": {"sessionIssuer": {"principalId": "AROAEXAMPLE000000001"}}}});
        assert_eq!(suspects.whose(&issued), Some(Whose::Principal));
        for junk in [json!(null), json!({}), json!({"userIdentity": 7}), json!({"userIdentity": {"accessKeyId": [1]}})]
        {
            assert_eq!(suspects.whose(&junk), None, "{junk}");
        }
    }

    #[test]
    fn a_session_that_was_made_is_followed_in_whatever_order_the_records_come() {
        let mut suspects = suspects();
        assert_eq!(suspects.learn(&assumed(10, 11)), [], "nothing leads there yet");
        let new = suspects.learn(&assumed(1, 10));
        assert_eq!(new.iter().map(AccessKeyId::as_str).collect::<Vec<_>>(), [key(10), key(11)]);
        assert_eq!(suspects.whose(&by(&key(11), "AROAEXAMPLE000000006")), Some(Whose::Chained));
        assert_eq!(suspects.learn(&assumed(1, 10)), [], "a record that is read again adds nothing");
        let mut keys = [11, 10, 10, 1].map(|n| key(n).parse().unwrap()).to_vec();
        suspects.nearest_first(&mut keys);
        assert_eq!(keys.iter().map(AccessKeyId::as_str).collect::<Vec<_>>(), [key(1), key(10), key(11)]);
        assert_eq!(suspects.learn(&assumed(77, 78)), []);
        assert_eq!(suspects.whose(&by(&key(78), "AROAEXAMPLE000000006")), None);
    }
}
