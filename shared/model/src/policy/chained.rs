//! The inline policy that denies single sessions of a role: one statement for each incident that led to some.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::whole_seconds;
use crate::ids::{IncidentId, SessionId};

/// The name of the inline policy that denies sessions made by chaining: ours alone.
pub const CHAINED_POLICY: &str = "firebreak-revoke-chained";

/// What IAM gives a role for all its inline policies together, white space not counted.
pub const INLINE_QUOTA: usize = 10_240;

/// What one episode of an incident denies in a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedDeny {
    /// Names the incident and its episode.
    sid: String,
    /// The sessions.
    pub sessions: BTreeSet<SessionId>,
    /// Those of them that were issued before this time: whoever takes out a session of the same name later is somebody
    /// else.
    pub issued_before: Timestamp,
}

/// The Sid of an episode of an incident.
fn sid(incident: &IncidentId, episode: u32) -> String {
    format!("FirebreakChain{}E{episode}", incident.as_str().trim_start_matches("fb-"))
}

/// Whether a Sid is one of ours.
fn is_ours(sid: &str) -> bool {
    let Some((hex, episode)) = sid.strip_prefix("FirebreakChain").and_then(|rest| rest.split_once('E')) else {
        return false;
    };
    format!("fb-{hex}").parse::<IncidentId>().is_ok() && episode.parse::<u32>().is_ok()
}

impl ChainedDeny {
    /// What this episode of an incident denies.
    pub fn new(incident: &IncidentId, episode: u32, sessions: BTreeSet<SessionId>, issued_before: Timestamp) -> Self {
        Self { sid: sid(incident, episode), sessions, issued_before: whole_seconds(issued_before) }
    }

    /// Whether it is this episode's.
    pub fn is_of(&self, incident: &IncidentId, episode: u32) -> bool {
        self.sid == sid(incident, episode)
    }

    fn statement(&self) -> Value {
        json!({
            "Sid": self.sid,
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {
                "StringEquals": {"aws:userId": self.sessions},
                "DateLessThan": {"aws:TokenIssueTime": self.issued_before.to_string()}
            }
        })
    }

    /// The statement, where it is exactly what [`Self::statement`] writes.
    fn read(statement: &Value) -> Option<Self> {
        let condition = statement.get("Condition")?;
        // IAM may give a list of one as its value.
        let sessions = match condition.pointer("/StringEquals/aws:userId")? {
            Value::Array(many) => many.iter().map(|one| one.as_str()?.parse().ok()).collect::<Option<BTreeSet<_>>>()?,
            one => BTreeSet::from([one.as_str()?.parse().ok()?]),
        };
        let issued_before = condition.pointer("/DateLessThan/aws:TokenIssueTime")?.as_str()?.parse().ok()?;
        let sid = statement.get("Sid")?.as_str().filter(|sid| is_ours(sid))?.to_owned();
        let read = Self { sid, sessions, issued_before };
        let mut same = statement.clone();
        *same.pointer_mut("/Condition/StringEquals/aws:userId")? = json!(read.sessions);
        (same == read.statement() && !read.sessions.is_empty()).then_some(read)
    }
}

/// The document of these denies.
pub fn chained(denies: &[ChainedDeny]) -> Value {
    let statements: Vec<Value> = denies.iter().map(ChainedDeny::statement).collect();
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// The denies of a document that are ours, and whether it holds nothing else.
pub fn chained_denies(document: &Value) -> (Vec<ChainedDeny>, bool) {
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(single) => std::slice::from_ref(single),
        None => return (Vec::new(), false),
    };
    let ours: Vec<ChainedDeny> = statements.iter().filter_map(ChainedDeny::read).collect();
    let whole = ours.len() == statements.len();
    (ours, whole)
}

/// What a document counts against the quota.
pub fn counted(document: &Value) -> usize {
    document.to_string().chars().filter(|c| !c.is_whitespace()).count()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn deny(hex: char, sessions: &[&str]) -> ChainedDeny {
        let id: IncidentId = format!("fb-{}", hex.to_string().repeat(24)).parse().unwrap();
        let sessions = sessions.iter().map(|s| format!("AROAEXAMPLE000000001:{s}").parse().unwrap()).collect();
        ChainedDeny::new(&id, 2, sessions, "2026-11-21T03:04:05.2Z".parse().unwrap())
    }

    #[test]
    fn several_incidents_share_a_document_and_read_back() {
        let denies = [deny('a', &["x1", "x2"]), deny('b', &["y1"])];
        let document = chained(&denies);
        assert_eq!(chained_denies(&document), (denies.to_vec(), true));
        assert_eq!(document["Statement"][0]["Sid"], "FirebreakChainaaaaaaaaaaaaaaaaaaaaaaaaE2");
        assert_eq!(
            document["Statement"][0]["Condition"],
            json!({"StringEquals": {"aws:userId": ["AROAEXAMPLE000000001:x1", "AROAEXAMPLE000000001:x2"]},
                   "DateLessThan": {"aws:TokenIssueTime": "2026-11-21T03:04:06Z"}})
        );
        let mut single = chained(&denies[1..]);
        single["Statement"] = single["Statement"][0].clone();
        single["Statement"]["Condition"]["StringEquals"]["aws:userId"] = json!("AROAEXAMPLE000000001:y1");
        assert_eq!(chained_denies(&single), (denies[1..].to_vec(), true));
    }

    #[test]
    fn a_changed_statement_is_not_taken_for_ours() {
        let whole = chained(&[deny('a', &["x1"])]);
        for (path, value) in [
            ("/Statement/0/Effect", json!("Allow")),
            ("/Statement/0/Action", json!("s3:*")),
            ("/Statement/0/Resource", json!("arn:aws:s3:::none")),
            ("/Statement/0/Sid", json!("Mine")),
            ("/Statement/0/Sid", json!("FirebreakChainxE1")),
            ("/Statement/0/Condition/StringEquals/aws:userId", json!(["*"])),
            ("/Statement/0/Condition/StringEquals/aws:userId", json!([])),
            ("/Statement/0/Condition/StringEquals", json!({"aws:userId": ["AROAEXAMPLE000000001:x1"], "aws:x": "y"})),
            ("/Statement/0/Condition/DateLessThan/aws:TokenIssueTime", json!("never")),
            ("/Statement/0", json!({"NotAction": "*"})),
            ("/Statement", json!("text")),
        ] {
            let mut changed = whole.clone();
            *changed.pointer_mut(path).unwrap() = value.clone();
            assert_eq!(chained_denies(&changed), (Vec::new(), false), "{path} {value}");
        }
        assert_eq!(chained_denies(&json!(null)), (Vec::new(), false));
    }

    #[test]
    fn white_space_does_not_count() {
        let document = json!({"a": "b c\n"});
        assert_eq!(counted(&document), r#"{"a":"bc\n"}"#.len());
    }
}
