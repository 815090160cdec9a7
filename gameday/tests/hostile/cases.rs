//! The table of cases: what arrives, and what must come of it.

use gameday::aws::{ACCOUNT, REGION};
use gameday::scene::random_hex;
use serde_json::{Value, json};

/// How an event gets to `quarantine-principal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the default bus and the drill rule, which takes at most 1 MB.
    Bus,
    /// By a direct invocation, as EventBridge would with what nobody but AWS can put on a bus.
    Invoke,
}

/// What must come of it.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// One record of a finding, with this in its reason; the answer names the outcome.
    Recorded(&'static str, String),
    /// An error of this type with this in its message, and no record: whoever asked is told.
    Refused(&'static str, String),
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) way: Way,
    pub(crate) payload: String,
    pub(crate) end: End,
}

pub(crate) fn case(name: &str, payload: &Value, outcome: &'static str, reason: impl Into<String>) -> Case {
    let end = End::Recorded(outcome, reason.into());
    Case { name: name.to_owned(), way: Way::Invoke, payload: payload.to_string(), end }
}

pub(crate) fn envelope(source: &str, detail_type: &str, detail: &Value) -> Value {
    json!({"version": "0", "id": random_hex(32), "detail-type": detail_type, "source": source, "account": ACCOUNT,
           "time": "2026-11-21T03:00:00Z", "region": REGION, "resources": [], "detail": detail})
}

/// A finding of GuardDuty that would be acted on at once, had it named somebody.
pub(crate) fn finding(details: &Value) -> Value {
    json!({"schemaVersion": "2.0", "accountId": ACCOUNT, "region": REGION, "partition": "aws", "id": random_hex(32),
           "type": "Exfiltration:IAMUser/AnomalousBehavior", "severity": 8, "updatedAt": "2026-11-21T03:19:58Z",
           "resource": {"resourceType": "AccessKey", "accessKeyDetails": details},
           "service": {"serviceName": "guardduty", "archived": false, "eventFirstSeen": "2026-11-21T03:01:12Z",
                       "eventLastSeen": "2026-11-21T03:14:55Z"}})
}

pub(crate) fn guardduty(detail: &Value) -> Value {
    envelope("aws.guardduty", "GuardDuty Finding", detail)
}

pub(crate) fn of(user_type: &str, name: &Value) -> Value {
    json!({"accessKeyId": "ASIAEXAMPLEKEY000001", "principalId": "", "userType": user_type, "userName": name})
}

pub(crate) fn with(mut detail: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    detail.pointer_mut(parent).unwrap()[name] = value;
    detail
}

/// Texts that are no name of anybody, each made from the name of somebody who is there.
pub(crate) fn hostile_names(name: &str) -> Vec<(&'static str, String)> {
    vec![
        ("quotes", format!("{name}\"}},{{\"Effect\":\"Allow")),
        ("a single quote", format!("{name}' OR '1'='1")),
        ("a line break at the end", format!("{name}\n")),
        ("a line break inside", format!("{name}\r\nX-Amz: 1")),
        ("a NUL", format!("{name}\0")),
        ("a policy variable", "${aws:username}".to_owned()),
        ("a policy variable after the name", format!("{name}${{aws:username}}")),
        ("a star", "*".to_owned()),
        ("a star after the name", format!("{name}*")),
        ("a question mark", format!("{}?", &name[..name.len() - 1])),
        ("path traversal", format!("../../{name}")),
        ("a path", format!("/break-glass/{name}")),
        ("percent encoding", format!("{name}%00")),
        ("a homoglyph", name.replacen('o', "\u{43e}", 1)),
        ("a full-width letter", name.replacen('o', "\u{ff4f}", 1)),
        ("a zero-width space", name.replacen('o', "o\u{200b}", 1)),
        ("a no-break space before it", format!("\u{a0}{name}")),
        ("a right-to-left mark", format!("\u{202e}{name}")),
        ("a combining accent", format!("{name}\u{301}")),
        ("an escape sequence", format!("\u{1b}[2J{name}")),
        ("10,000 characters", name.repeat(10_000 / name.len())),
        ("an ARN in place of a name", format!("arn:aws:iam::{ACCOUNT}:role/{name}")),
        ("a command", format!("$(id)`id`;{name}&|")),
    ]
}
