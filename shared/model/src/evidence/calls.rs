//! What a run asks CloudTrail, in which Regions: fixed when it begins, like everything else that it reads.
//!
//! `LookupEvents` takes one attribute a call. It is asked for every key that findings name or that chained sessions have,
//! for the names of sessions, and for a user's name. Names come from findings, which anyone may have written: they are
//! asked for, and nothing is made of them.

use std::collections::{BTreeMap, BTreeSet};

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

/// CloudTrail's event history goes back 90 days: it is asked for nothing before, less an hour in which a run reads it.
const HISTORY: SignedDuration = SignedDuration::from_hours(90 * 24 - 1);

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
    /// Regions in which it is asked for from an earlier time: those that an earlier run did not ask, or did not hear.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub behind: BTreeMap<Region, Timestamp>,
}

impl Question {
    fn is(&self, by: By, value: &str) -> bool {
        self.by == by && self.value == value
    }

    /// From when on it is asked in a Region.
    pub fn from_in(&self, region: &Region) -> Timestamp {
        self.behind.get(region).copied().unwrap_or(self.from)
    }

    /// From when on it is asked anywhere.
    pub fn earliest(&self) -> Timestamp {
        self.behind.values().copied().fold(self.from, Timestamp::min)
    }
}

/// A question, and the Regions that it is asked in, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Where.
    pub regions: Vec<Region>,
    /// What.
    #[serde(flatten)]
    pub question: Question,
}

/// What an earlier run of the episode asked, and what of it CloudTrail did not answer.
#[derive(Debug, Clone)]
pub struct Before<'a> {
    /// What it asked.
    pub asked: &'a Asked,
    /// What it got no answer to.
    pub unread: Vec<Ask>,
}

impl Before<'_> {
    /// From when on a question goes on in a Region behind this run; `None` where that did not ask it there.
    fn goes_on(&self, by: By, value: &str, region: &Region) -> Option<Timestamp> {
        let question = self.asked.questions.iter().find(|question| question.is(by, value))?;
        if !self.asked.regions.contains(region) {
            return None;
        }
        let unread = self.unread.iter().any(|ask| ask.question.is(by, value) && ask.regions.contains(region));
        Some(if unread { question.from_in(region) } else { self.asked.complete_to() })
    }
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
    /// From when on something would have been asked that lies before CloudTrail's history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_history: Option<Timestamp>,
    /// The id of the contained principal, by which its calls are told from those of others with the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_id: Option<UniqueId>,
}

impl Asked {
    /// What is asked now about an incident whose logs begin at `since`: keys of findings first, then names, then the keys of
    /// chained sessions. What a Region was asked `before`, and answered, it is asked from then on, less what came late.
    pub fn of(
        incident: &Incident,
        findings: &[FindingRecord],
        chained: &[AccessKeyId],
        regions: impl IntoIterator<Item = Region>,
        (since, now): (Timestamp, Timestamp),
        before: &[Before<'_>],
    ) -> Self {
        let begins = since.saturating_sub(LONGEST).unwrap_or(since).max(Timestamp::UNIX_EPOCH);
        let oldest = now.saturating_sub(HISTORY).unwrap_or(Timestamp::UNIX_EPOCH);
        let regions: BTreeSet<Region> = regions.into_iter().collect();
        let mut all: Vec<Question> = Vec::new();
        let mut before_history: Option<Timestamp> = None;
        let mut add = |by: By, value: &str, from: Timestamp, chained: bool| {
            if all.iter().any(|known| known.is(by, value)) {
                return;
            }
            let goes_on = |region| before.iter().rev().find_map(|run| run.goes_on(by, value, region)).unwrap_or(from);
            let mut behind: BTreeMap<Region, Timestamp> =
                regions.iter().map(|region| (region.clone(), goes_on(region))).collect();
            let earliest = behind.values().copied().min().filter(|earliest| *earliest < oldest);
            before_history = before_history.into_iter().chain(earliest).min();
            for from in behind.values_mut() {
                *from = (*from).max(oldest);
            }
            let from = behind.values().copied().max().unwrap_or(from);
            behind.retain(|_, earlier| *earlier < from);
            all.push(Question { by, value: value.to_owned(), from, chained, behind });
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
        // What was asked by the runs before, and is in no record of a search.
        for known in before.iter().flat_map(|run| &run.asked.questions) {
            add(known.by, &known.value, known.earliest(), known.chained);
        }
        let left_out = u32::try_from(all.len().saturating_sub(MOST_QUESTIONS)).unwrap_or(u32::MAX);
        all.truncate(MOST_QUESTIONS);
        Self {
            at: now,
            regions: regions.into_iter().collect(),
            questions: all,
            left_out,
            before_history,
            unique_id: incident.principal.unique_id.clone(),
        }
    }

    /// Up to when CloudTrail was complete then, as far as AWS says.
    pub fn complete_to(&self) -> Timestamp {
        self.at.saturating_sub(LATE).unwrap_or(Timestamp::MIN)
    }

    /// The questions of a Region.
    pub fn in_region(&self, region: &Region) -> Vec<Ask> {
        let ask = |question: &Question| {
            let question = Question { from: question.from_in(region), behind: BTreeMap::new(), ..question.clone() };
            Ask { regions: vec![region.clone()], question }
        };
        self.questions.iter().map(ask).collect()
    }

    /// The question for a chained session's key, in every Region.
    pub fn about_chained(&self, key: &AccessKeyId, from: Timestamp) -> Ask {
        let value = key.as_str().to_owned();
        let question = Question { by: By::AccessKey, value, from, chained: true, behind: BTreeMap::new() };
        Ask { regions: self.regions.clone(), question }
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
        let asked = Asked::of(&incident, &[finding], &chained, regions(), (at(SINCE), at(NOW)), &[]);
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
        let first = Asked::of(&incident, &[], &[], regions(), (at(SINCE), at(NOW)), &[]);
        incident.access_keys.push("ASIAEXAMPLE000000003".parse().unwrap());
        let before = [Before { asked: &first, unread: Vec::new() }];
        let second = Asked::of(&incident, &[], &[], regions(), (at(SINCE), at(NOW)), &before);
        assert_eq!(
            told(&second),
            [
                "AccessKeyId ASIAEXAMPLE000000001 2026-11-21T03:15:00Z false",
                "AccessKeyId ASIAEXAMPLE000000003 2026-11-20T14:00:00Z false",
            ]
        );
    }

    #[test]
    fn a_region_that_did_not_answer_or_was_not_asked_is_asked_from_where_it_stands() {
        let mut incident = incident(Decision::Act);
        incident.access_keys = vec!["ASIAEXAMPLE000000001".parse().unwrap()];
        incident.functions = Vec::new();
        let first = Asked::of(&incident, &[], &[], regions(), (at(SINCE), at(NOW)), &[]);
        let us: Region = "us-east-1".parse().unwrap();
        let unread = first.in_region(&us);
        let grown = || regions().into_iter().chain(["ap-south-1".parse().unwrap()]);
        let later = at("2026-11-21T04:00:00Z");
        let run = |asked, unread| Before { asked, unread };
        let second = Asked::of(&incident, &[], &[], grown(), (at(SINCE), later), &[run(&first, unread)]);
        let from = |asked: &Asked, region: &str| asked.in_region(&region.parse().unwrap())[0].question.from.to_string();
        assert_eq!(from(&second, "eu-west-1"), "2026-11-21T03:15:00Z");
        assert_eq!(from(&second, "us-east-1"), "2026-11-20T14:00:00Z", "it did not answer");
        assert_eq!(from(&second, "ap-south-1"), "2026-11-20T14:00:00Z", "it was not asked");
        assert_eq!(second.questions[0].earliest(), at("2026-11-20T14:00:00Z"));
        // Nor does it answer again; the run after that knows from both.
        let before = [run(&first, Vec::new()), run(&second, second.in_region(&us))];
        let third = Asked::of(&incident, &[], &[], grown(), (at(SINCE), later), &before);
        assert_eq!(from(&third, "us-east-1"), "2026-11-20T14:00:00Z");
        assert_eq!(from(&third, "ap-south-1"), "2026-11-21T03:45:00Z");
        let written = serde_json::to_string(&third).unwrap();
        assert_eq!(serde_json::from_str::<Asked>(&written).unwrap(), third);
    }

    #[test]
    fn nothing_is_asked_from_before_cloudtrails_history() {
        let mut incident = incident(Decision::Act);
        incident.access_keys = vec!["ASIAEXAMPLE000000001".parse().unwrap()];
        incident.functions = Vec::new();
        let asked = |since: &str, before: &[Before<'_>]| {
            Asked::of(&incident, &[], &[], regions(), (at(since), at(NOW)), before)
        };
        let old = asked("1970-01-01T00:00:00Z", &[]);
        assert_eq!(old.questions[0].from, at("2026-08-23T04:30:00Z"));
        assert_eq!(old.before_history, Some(at("1970-01-01T00:00:00Z")));
        let read = asked("1970-01-01T00:00:00Z", &[Before { asked: &old, unread: Vec::new() }]);
        assert_eq!(read.before_history, None, "what was read goes on behind it");
        assert_eq!(asked(SINCE, &[]).before_history, None);
    }

    /// As many questions as there are, in as many Regions as there could be, fit into one record beside what was found.
    #[test]
    fn all_that_is_still_to_be_asked_fits_into_a_record() {
        let regions: Vec<Region> = (0..40).map(|n| format!("ap-southeast-{n}").parse().unwrap()).collect();
        let asked = Asked { regions, ..Asked::default() };
        let about = |n: usize| asked.about_chained(&key(&format!("ASIAEXAMPLE000000{n:03}")), at(SINCE));
        let pending: Vec<Ask> = (0..MOST_QUESTIONS).map(about).collect();
        assert!(serde_json::to_string(&pending).unwrap().len() < 100_000);
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_counted() {
        let mut incident = incident(Decision::Act);
        incident.functions = Vec::new();
        incident.access_keys = vec!["ASIAEXAMPLE000000001".parse().unwrap()];
        let chained: Vec<AccessKeyId> = (100..300).map(|n| key(&format!("ASIAEXAMPLE000000{n}"))).collect();
        let asked = Asked::of(&incident, &[], &chained, regions(), (at(SINCE), at(NOW)), &[]);
        assert_eq!((asked.questions.len(), asked.left_out), (MOST_QUESTIONS, 141));
        assert_eq!(asked.questions[0].value, "ASIAEXAMPLE000000001", "what was stolen is asked for first");
    }
}
