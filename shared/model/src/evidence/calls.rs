//! What a run asks CloudTrail, in which Regions: fixed when it begins, like everything else that it reads.
//!
//! `LookupEvents` takes one attribute a call. It is asked for every key that findings name or that chained sessions have,
//! for the names of sessions, and for a user's name. Names come from findings, which anyone may have written: they are
//! asked for, and nothing is made of them.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::named;
use crate::ids::{AccessKeyId, Region, SessionId, SessionName, UniqueId};
use crate::ledger::{FindingRecord, Incident};
use crate::principal::PrincipalName;

/// What was late when CloudTrail was asked comes within this time, as far as AWS says: "on average within about 5
/// minutes", and no promise.
pub const LATE: SignedDuration = SignedDuration::from_mins(15);

/// A key is asked for from this long before the activity was first seen on: a role's session lives no longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(12);

/// The most questions that one Region is asked. Each costs half a second.
pub const MOST_QUESTIONS: usize = 60;

/// How deep a finding is searched for the names of sessions.
const DEPTH: usize = 12;

named!(
    /// The attribute that a question asks by, as CloudTrail names it.
    By {
        /// The access key that signed the call.
        AccessKey = "AccessKeyId",
        /// A user's name, or a session's.
        Name = "Username",
    }
);

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Question {
    /// By what.
    pub by: By,
    /// Which key or name.
    pub value: String,
    /// From when on.
    pub from: Timestamp,
    /// Whether it is the key of a session that was made from what was stolen.
    #[serde(default)]
    pub chained: bool,
}

/// A question, and the Region that it is asked in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Where.
    pub region: Region,
    /// What.
    #[serde(flatten)]
    pub question: Question,
}

/// Everything that a run asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When, and for what was recorded until then.
    #[serde(default)]
    pub at: Timestamp,
    /// The Regions, in order.
    pub regions: Vec<Region>,
    /// What each is asked.
    pub questions: Vec<Question>,
    /// How many more questions there would have been.
    #[serde(default)]
    pub left_out: u32,
    /// The id of the contained principal, by which its calls are told from those of others with the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_id: Option<UniqueId>,
}

impl Asked {
    /// What is asked now about an incident whose logs begin at `since`: keys of findings first, then names, then the keys of
    /// chained sessions. What was asked `before` is asked from then on, less what came late.
    pub fn of(
        incident: &Incident,
        findings: &[FindingRecord],
        chained: &[AccessKeyId],
        regions: impl IntoIterator<Item = Region>,
        (since, now): (Timestamp, Timestamp),
        before: Option<&Self>,
    ) -> Self {
        let begins = since.saturating_sub(LONGEST).unwrap_or(since).max(Timestamp::UNIX_EPOCH);
        let mut all: Vec<Question> = Vec::new();
        let mut add = |by: By, value: &str, from: Timestamp, chained: bool| {
            if all.iter().any(|known| known.by == by && known.value == value) {
                return;
            }
            let asked = |asked: &Self| {
                let known = asked.questions.iter().any(|known| known.by == by && known.value == value);
                known.then(|| asked.complete_to())
            };
            let from = before.and_then(asked).unwrap_or(from);
            all.push(Question { by, value: value.to_owned(), from, chained });
        };
        for key in &incident.access_keys {
            add(By::AccessKey, key.as_str(), begins, false);
        }
        if let PrincipalName::User(user) = &incident.principal.name {
            add(By::Name, user.as_str(), since, false);
        }
        for session in sessions(incident, findings) {
            add(By::Name, &session, since, false);
        }
        for key in chained {
            add(By::AccessKey, key.as_str(), begins, true);
        }
        // What was found by the run before, and is in no record of a search.
        for known in before.iter().flat_map(|asked| &asked.questions) {
            add(known.by, &known.value, known.from, known.chained);
        }
        let left_out = u32::try_from(all.len().saturating_sub(MOST_QUESTIONS)).unwrap_or(u32::MAX);
        all.truncate(MOST_QUESTIONS);
        let regions: BTreeSet<Region> = regions.into_iter().collect();
        Self {
            at: now,
            regions: regions.into_iter().collect(),
            questions: all,
            left_out,
            unique_id: incident.principal.unique_id.clone(),
        }
    }

    /// Up to when CloudTrail was complete then, as far as AWS says.
    pub fn complete_to(&self) -> Timestamp {
        self.at.saturating_sub(LATE).unwrap_or(Timestamp::MIN)
    }

    /// The questions of a Region.
    pub fn in_region(&self, region: &Region) -> Vec<Ask> {
        self.questions.iter().map(|question| Ask { region: region.clone(), question: question.clone() }).collect()
    }

    /// The question for a chained session's key, in every Region.
    pub fn about_chained<'a>(&'a self, key: &AccessKeyId, from: Timestamp) -> impl Iterator<Item = Ask> + 'a {
        let question = Question { by: By::AccessKey, value: key.as_str().to_owned(), from, chained: true };
        self.regions.iter().map(move |region| Ask { region: region.clone(), question: question.clone() })
    }

    /// The keys that are asked for, each with whether it is a chained session's.
    pub fn keys(&self) -> impl Iterator<Item = (AccessKeyId, bool)> + '_ {
        let keys = self.questions.iter().filter(|question| question.by == By::AccessKey);
        keys.filter_map(|question| Some((question.value.parse().ok()?, question.chained)))
    }
}

/// The names of the principal's sessions: Lambda names them after its functions, and findings name theirs.
fn sessions(incident: &Incident, findings: &[FindingRecord]) -> BTreeSet<String> {
    let PrincipalName::Role(role) = &incident.principal.name else { return BTreeSet::new() };
    let mut names: BTreeSet<String> = incident.functions.iter().map(|function| function.name().to_owned()).collect();
    let marker = format!(":assumed-role/{}/", role.as_str());
    let mut take = |text: &str| {
        let id = text.parse::<SessionId>().ok().filter(|id| id.role_id() == incident.principal.unique_id);
        let of_arn = text.split_once(&marker).filter(|_| text.starts_with("arn:")).map(|(_, session)| session);
        let name = id.as_ref().map(SessionId::session).or(of_arn);
        if let Some(name) = name.filter(|name| name.parse::<SessionName>().is_ok())
            && names.len() < MOST_QUESTIONS
        {
            names.insert(name.to_owned());
        }
    };
    for finding in findings {
        if let Ok(event) = serde_json::from_str::<Value>(&finding.event) {
            texts(&event, DEPTH, &mut take);
        }
    }
    names
}

fn texts(value: &Value, depth: usize, take: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => take(text),
        Value::Array(all) if depth > 0 => all.iter().for_each(|one| texts(one, depth - 1, take)),
        Value::Object(all) if depth > 0 => all.values().for_each(|one| texts(one, depth - 1, take)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::decision::Decision;
    use crate::ledger::tests::incident;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const SINCE: &str = "2026-11-21T02:00:00Z";
    const NOW: &str = "2026-11-21T03:30:00Z";

    fn finding(event: &Value) -> FindingRecord {
        serde_json::from_value(json!({"schema": 1, "finding_key": "0".repeat(32), "finding_id": "f",
            "finding_type": "t", "source": "guardduty", "decision": "act", "effective": "act", "mode": "enforce",
            "rule": "r", "reason": "r", "playbook_digest": "d", "subjects": [], "received_at": SINCE,
            "event": event.to_string(), "event_truncated": false, "event_sha256": "0".repeat(64)}))
        .unwrap()
    }

    fn key(text: &str) -> AccessKeyId {
        text.parse().unwrap()
    }

    fn told(asked: &Asked) -> Vec<String> {
        asked.questions.iter().map(|q| format!("{} {} {} {}", q.by, q.value, q.from, q.chained)).collect()
    }

    fn regions() -> Vec<Region> {
        ["us-east-1", "eu-west-1", "us-east-1"].map(|name| name.parse().unwrap()).to_vec()
    }

    #[test]
    fn keys_sessions_and_what_was_made_from_them_are_asked_for_each_once() {
        let mut incident = incident(Decision::Act);
        incident.principal.unique_id = Some("AROAEXAMPLE000000001".parse().unwrap());
        incident.access_keys = vec!["ASIAEXAMPLE000000001".parse().unwrap()];
        incident.functions = vec!["arn:aws:lambda:eu-west-1:111122223333:function:orders".parse().unwrap()];
        let role = incident.principal.name.as_str().to_owned();
        let finding = finding(&json!({"detail": {"resource": {"accessKeyDetails": {
            "principalId": "AROAEXAMPLE000000001:i-0123", "userName": "AROAEXAMPLE000000002:innocent"}},
            "actor": format!("arn:aws:sts::111122223333:assumed-role/{role}/i-0456"),
            "deep": ["AROAEXAMPLE000000001:a b", "AROAEXAMPLE000000001:i-0123"]}}));
        let chained = [key("ASIAEXAMPLE000000002"), key("ASIAEXAMPLE000000001")];
        let asked = Asked::of(&incident, &[finding], &chained, regions(), (at(SINCE), at(NOW)), None);
        assert_eq!(
            told(&asked),
            [
                "AccessKeyId ASIAEXAMPLE000000001 2026-11-20T14:00:00Z false",
                "Username i-0123 2026-11-21T02:00:00Z false",
                "Username i-0456 2026-11-21T02:00:00Z false",
                "Username orders 2026-11-21T02:00:00Z false",
                "AccessKeyId ASIAEXAMPLE000000002 2026-11-20T14:00:00Z true",
            ]
        );
        assert_eq!(asked.regions.len(), 2);
        assert_eq!(asked.in_region(&asked.regions[0]).len(), 5);
    }

    #[test]
    fn what_was_asked_before_is_asked_from_then_on_and_what_is_new_from_the_beginning() {
        let mut incident = incident(Decision::Act);
        incident.access_keys = vec!["ASIAEXAMPLE000000001".parse().unwrap()];
        incident.functions = Vec::new();
        let first = Asked::of(&incident, &[], &[], regions(), (at(SINCE), at(NOW)), None);
        incident.access_keys.push("ASIAEXAMPLE000000003".parse().unwrap());
        let second = Asked::of(&incident, &[], &[], regions(), (at(SINCE), at(NOW)), Some(&first));
        assert_eq!(
            told(&second),
            [
                "AccessKeyId ASIAEXAMPLE000000001 2026-11-21T03:15:00Z false",
                "AccessKeyId ASIAEXAMPLE000000003 2026-11-20T14:00:00Z false",
            ]
        );
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_counted() {
        let mut incident = incident(Decision::Act);
        incident.functions = Vec::new();
        incident.access_keys = vec!["ASIAEXAMPLE000000001".parse().unwrap()];
        let chained: Vec<AccessKeyId> = (100..300).map(|n| key(&format!("ASIAEXAMPLE000000{n}"))).collect();
        let asked = Asked::of(&incident, &[], &chained, regions(), (at(SINCE), at(NOW)), None);
        assert_eq!((asked.questions.len(), asked.left_out), (MOST_QUESTIONS, 141));
        assert_eq!(asked.questions[0].value, "ASIAEXAMPLE000000001", "what was stolen is asked for first");
    }
}
