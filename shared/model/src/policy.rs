//! The policy documents that Firebreak writes, and how to tell one that was weakened. No foreign text ever enters them: parsed identifiers and times alone.

mod chained;
mod function;

pub use chained::{CHAINED_POLICY, ChainedDeny, INLINE_QUOTA, chained, chained_denies, counted};
pub use function::{FUNCTIONS_POLICY, denied_functions, functions_denied};

use jiff::Timestamp;
use serde_json::{Value, json};

/// The name of the inline policy that revokes sessions: ours alone.
pub const REVOCATION_POLICY: &str = "firebreak-revoke-sessions";

/// How far ahead of now a revocation reaches, in seconds: a token minted while IAM still propagates
/// the policy dies too.
pub const REVOCATION_AHEAD_SECONDS: i64 = 60;

/// Deny everything to sessions issued before `issued_before` (what the IAM console's "revoke active
/// sessions" writes). `aws:TokenIssueTime` is absent for long-term keys: those it passes by.
pub fn revocation(issued_before: Timestamp) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "FirebreakRevokeSessions",
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {"DateLessThan": {"aws:TokenIssueTime": whole_seconds(issued_before).to_string()}}
        }]
    })
}

/// The time that a revocation document reaches to, or `None` where the document is not one of ours.
pub fn revocation_time(document: &Value) -> Option<Timestamp> {
    let statement = match document.get("Statement")? {
        Value::Array(statements) => match statements.as_slice() {
            [only] => only,
            _ => return None,
        },
        single => single,
    };
    let is = |key: &str, value: &str| statement.get(key).and_then(Value::as_str) == Some(value);
    if !(is("Effect", "Deny") && is("Action", "*") && is("Resource", "*")) {
        return None;
    }
    let condition = statement.get("Condition")?.as_object()?;
    let date = condition.get("DateLessThan")?.as_object()?;
    if condition.len() != 1 || date.len() != 1 {
        return None;
    }
    date.get("aws:TokenIssueTime")?.as_str()?.parse().ok()
}

/// Deny everything on everything: what the pre-deployed policy says, for a person who must write it.
pub fn deny_everything() -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]
    })
}

/// Whether a document denies everything to everyone who carries it, whatever else it says.
pub fn denies_everything(document: &Value) -> bool {
    let every = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text == "*",
        Some(Value::Array(several)) => several.iter().any(|one| one == "*"),
        _ => false,
    };
    let whole = |statement: &Value| {
        statement.get("Effect").and_then(Value::as_str) == Some("Deny")
            && every(statement.get("Action"))
            && every(statement.get("Resource"))
            && statement.get("Condition").is_none()
    };
    match document.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().any(whole),
        Some(single) => whole(single),
        None => false,
    }
}

/// The time without its fraction: rounded up, so that the policy never reaches less far than asked.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    let seconds = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
    Timestamp::from_second(seconds).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_revocation_reads_back() {
        let time: Timestamp = "2026-11-21T03:04:05.2Z".parse().unwrap();
        let document = revocation(time);
        assert_eq!(revocation_time(&document).unwrap().to_string(), "2026-11-21T03:04:06Z");
    }

    #[test]
    fn a_deny_that_leaves_anything_open_does_not_deny_everything() {
        assert!(denies_everything(&deny_everything()));
        let deny = json!({"Effect": "Deny", "Action": "*", "Resource": "*"});
        let allow = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
        for whole in [
            json!({"Statement": deny}),
            json!({"Statement": [allow, deny]}),
            json!({"Statement": [{"Sid": "DenyAll", "Effect": "Deny", "Action": ["*"], "Resource": ["*"]}]}),
        ] {
            assert!(denies_everything(&whole), "{whole}");
        }
        let but = |key: &str, value: Value| {
            let mut deny = deny.clone();
            deny[key] = value;
            json!({"Statement": [deny]})
        };
        for open in [
            json!({}),
            json!(null),
            json!({"Statement": []}),
            json!({"Statement": [allow]}),
            but("Action", json!("s3:*")),
            but("Action", json!(["s3:*"])),
            but("Action", json!(null)),
            but("Resource", json!("arn:aws:s3:::*")),
            but("Condition", json!({"StringEquals": {"aws:username": "nobody"}})),
            json!({"Statement": [{"Effect": "Deny", "NotAction": "*", "Resource": "*"}]}),
            json!({"Statement": [{"Effect": "Deny", "Action": "*", "NotResource": "*"}]}),
        ] {
            assert!(!denies_everything(&open), "{open}");
        }
    }

    #[test]
    fn a_weakened_revocation_is_not_taken_for_ours() {
        let time: Timestamp = "2026-11-21T03:04:05Z".parse().unwrap();
        let mut narrowed = revocation(time);
        narrowed["Statement"][0]["Condition"]["StringEquals"] = json!({"aws:username": "nobody"});
        let mut fewer = revocation(time);
        fewer["Statement"][0]["Action"] = json!("s3:*");
        let mut allow = revocation(time);
        allow["Statement"][0]["Effect"] = json!("Allow");
        for document in [narrowed, fewer, allow, json!({}), json!(null), json!({"Statement": []})] {
            assert_eq!(revocation_time(&document), None, "{document}");
        }
    }
}
