//! Calls as CloudTrail records them: whether one is a contained principal's, made in spite of its deny.

use jiff::Timestamp;
use serde_json::Value;

use super::Call;
use crate::cloudtrail;
use crate::finding::{Source, Subject};
use crate::foreign::{text, time};
use crate::ids::shown_id;
use crate::principal::Principal;

/// Nobody can be denied it, so that it says nothing.
const UNDENIABLE: &str = "GetCallerIdentity";

/// The call of a record, where `principal` made it and it succeeded.
pub fn succeeded(record: &Value, principal: &Principal) -> Option<Call> {
    let name = text(record, &["eventName"])?;
    let refused = ["errorCode", "errorMessage"].iter().any(|field| text(record, &[field]).is_some());
    if refused || name == UNDENIABLE {
        return None;
    }
    is_by(record, principal).then_some(())?;
    let service = text(record, &["eventSource"]).unwrap_or("unknown");
    Some(Call {
        at: time(record, &["eventTime"])?,
        name: shown_id(&format!("{}:{name}", service.strip_suffix(".amazonaws.com").unwrap_or(service))),
        event_id: shown_id(text(record, &["eventID"])?),
    })
}

/// Whether a record's call was made by a session that began before a time. A user's own key has no session.
pub fn is_of_a_session_before(record: &Value, before: Timestamp) -> bool {
    let began = time(record, &["userIdentity", "sessionContext", "attributes", "creationDate"]);
    began.is_some_and(|began| began < before)
}

/// Whether `principal` made the call of a record: by name, and by unique id where both are known.
fn is_by(record: &Value, principal: &Principal) -> bool {
    let Ok(read) = cloudtrail::read(&caller_alone(record), Source::CloudTrail, "record") else { return false };
    read.subjects.iter().any(|subject| match subject {
        Subject::Principal { principal: caller, .. } => {
            let other = match (&caller.unique_id, &principal.unique_id) {
                (Some(theirs), Some(ours)) => theirs != ours,
                _ => false,
            };
            caller.incident_id() == principal.incident_id() && !other
        }
        Subject::Lookup { lookup: crate::finding::Lookup::UniqueId { id, .. }, .. } => {
            principal.unique_id.as_ref() == Some(id)
        }
        Subject::Lookup { .. } | Subject::NotContainable { .. } => false,
    })
}

/// The record without what it was about: the reader takes AWS's own quarantine for a finding on its target.
pub(super) fn caller_alone(record: &Value) -> Value {
    let mut alone = record.clone();
    if let Some(object) = alone.as_object_mut() {
        object.remove("requestParameters");
    }
    alone
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn principal() -> Principal {
        let principal = Principal::from_arn("arn:aws:iam::111122223333:role/team/orders").unwrap();
        Principal { unique_id: Some("AROAEXAMPLE000000001".parse().unwrap()), ..principal }
    }

    fn record(name: &str, role: &str, id: &str) -> Value {
        json!({"eventName": name, "eventSource": "s3.amazonaws.com", "eventID": "e1",
            "eventTime": "2026-11-21T03:01:00Z", "recipientAccountId": "111122223333",
            "userIdentity": {"type": "AssumedRole", "accountId": "111122223333", "principalId": format!("{id}:i-0123"),
                "arn": format!("arn:aws:sts::111122223333:assumed-role/{role}/i-0123"),
                "sessionContext": {"sessionIssuer": {"type": "Role", "userName": role,
                    "arn": format!("arn:aws:iam::111122223333:role/team/{role}")}}}})
    }

    #[test]
    fn a_session_is_told_by_when_it_began_and_a_users_own_key_is_none() {
        let before = "2026-11-21T03:00:00Z".parse().unwrap();
        let mut record = record("GetObject", "orders", "AROAEXAMPLE000000001");
        assert!(!is_of_a_session_before(&record, before), "it has no beginning");
        for (began, counts) in [
            ("2026-11-21T02:59:59Z", true),
            ("2026-11-21T03:00:00Z", false),
            ("2026-11-21T03:00:01Z", false),
            ("soon", false),
        ] {
            record["userIdentity"]["sessionContext"]["attributes"] = json!({"creationDate": began});
            assert_eq!(is_of_a_session_before(&record, before), counts, "{began}");
        }
    }

    #[test]
    fn only_what_the_principal_itself_did_and_could_be_denied_counts() {
        let ours = record("GetObject", "orders", "AROAEXAMPLE000000001");
        assert_eq!(succeeded(&ours, &principal()).unwrap().name, "s3:GetObject");
        for (why, record) in [
            ("another role", record("GetObject", "payments", "AROAEXAMPLE000000002")),
            ("a namesake made later", record("GetObject", "orders", "AROAEXAMPLE000000009")),
            ("nobody can be denied it", record("GetCallerIdentity", "orders", "AROAEXAMPLE000000001")),
        ] {
            assert_eq!(succeeded(&record, &principal()), None, "{why}");
        }
        let mut denied = ours;
        denied["errorCode"] = json!("AccessDenied");
        assert_eq!(succeeded(&denied, &principal()), None);
        for junk in [json!(null), json!([]), json!({"eventName": 7}), json!({"eventName": "GetObject"})] {
            assert_eq!(succeeded(&junk, &principal()), None, "{junk}");
        }
    }
}
