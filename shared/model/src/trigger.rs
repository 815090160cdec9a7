//! What woke a function: an EventBridge envelope or a request. Total: every JSON value is something.

use serde_json::Value;

use crate::finding::{Finding, Source};
use crate::guardduty;
use crate::ids::shown;
use crate::principal::Home;
use crate::request::{self, Request, RequestError};

/// A payload, understood as far as it can be.
#[derive(Debug)]
pub enum Trigger {
    /// A finding.
    Finding(Box<Finding>),
    /// A request by direct invocation.
    Request(Box<Request>),
    /// A request that is refused as it stands.
    BadRequest(RequestError),
    /// An event that was delivered as a finding but cannot be read as one: recorded with its reason.
    Malformed(Malformed),
}

/// An event that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The id of the envelope, cleaned for display.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads the payload of an invocation of `quarantine-principal` or `release-containment`.
pub fn read(payload: &Value, home: &Home) -> Trigger {
    if request::is_request(payload) {
        return match request::read(payload, home) {
            Ok(request) => Trigger::Request(Box::new(request)),
            Err(error) => Trigger::BadRequest(error),
        };
    }
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
    let malformed = |reason: String| Trigger::Malformed(Malformed { id: shown(text("id")), reason });
    let source = match (text("source"), text("detail-type")) {
        ("aws.guardduty", "GuardDuty Finding") => Source::GuardDuty,
        ("firebreak.drill", "GuardDuty Finding") => Source::Drill,
        (source, detail_type) => {
            return malformed(format!(
                "an event with source `{}` and detail-type `{}` is none that this function reads",
                shown(source),
                shown(detail_type)
            ));
        }
    };
    // The envelope's account is set by EventBridge and cannot be forged: an event of another account is not ours to act on.
    if text("account") != home.account.as_str() {
        return malformed(format!("the event comes from account `{}`, not from this one", shown(text("account"))));
    }
    if payload.get("replay-name").is_some() {
        return malformed("the event is a replay from an archive".to_owned());
    }
    match guardduty::read(payload.get("detail").unwrap_or(&Value::Null), source) {
        Ok(finding) => Trigger::Finding(Box::new(finding)),
        Err(reason) => malformed(reason),
    }
}

/// Whether the payload is a tick of an EventBridge schedule.
pub fn is_scheduled(payload: &Value) -> bool {
    let is = |name: &str, value: &str| payload.get(name).and_then(Value::as_str) == Some(value);
    is("source", "aws.events") && is("detail-type", "Scheduled Event")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::ids::Partition;

    fn home() -> Home {
        Home { partition: Partition::Aws, account: "111122223333".parse().unwrap() }
    }

    #[test]
    fn what_is_no_finding_is_malformed_with_its_reason() {
        let finding = json!({"id": "f1", "type": "Backdoor:Lambda/C&CActivity.B"});
        let envelope = |detail: Value| {
            json!({"id": "e1", "source": "aws.guardduty", "detail-type": "GuardDuty Finding",
                   "account": "111122223333", "detail": detail})
        };
        assert!(matches!(read(&envelope(finding.clone()), &home()), Trigger::Finding(_)));
        let mut foreign = envelope(finding.clone());
        foreign["account"] = json!("444455556666");
        let mut forged = envelope(finding.clone());
        forged["source"] = json!("my.guardduty");
        let mut replay = envelope(finding);
        replay["replay-name"] = json!("again");
        for (payload, names) in [
            (foreign, "444455556666"),
            (forged, "my.guardduty"),
            (replay, "replay"),
            (envelope(json!([])), "no object"),
            (envelope(json!({"type": "x"})), "`id`"),
            (envelope(json!({"id": "x", "type": 7})), "`type`"),
            (json!(null), "source"),
            (json!("text"), "source"),
        ] {
            let Trigger::Malformed(malformed) = read(&payload, &home()) else { panic!("{payload}") };
            assert!(malformed.reason.contains(names), "{payload}: {}", malformed.reason);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
            prop_oneof![
                Just("AssumedRole"),
                Just("IAMUser"),
                Just("Root"),
                Just("arn:aws:iam::111122223333:role/a/b"),
                Just("AROAEXAMPLELAMBDA001:worker"),
            ]
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            let key = prop_oneof![
                Just("resource"),
                Just("Resource"),
                Just("accessKeyDetails"),
                Just("lambdaDetails"),
                Just("userType"),
                Just("userName"),
                Just("principalId"),
                Just("service"),
                Just("detection"),
                Just("sequence"),
                Just("actors"),
                Just("user"),
                Just("session"),
                Just("issuer"),
                Just("type"),
                Just("name"),
                Just("severity"),
                Just("role"),
                Just("functionArn"),
                Just("additionalInfo"),
                Just("value"),
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.prop_map(str::to_owned), inner, 0..8)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_detail_makes_the_reader_crash_or_lose_the_event(mut detail in any_json(), keep in any::<bool>()) {
            if keep && let Some(object) = detail.as_object_mut() {
                object.insert("id".into(), json!("f1"));
                object.insert("type".into(), json!("Backdoor:Lambda/C&CActivity.B"));
                object.insert("accountId".into(), json!("111122223333"));
            }
            let payload = json!({"id": "e1", "source": "aws.guardduty", "detail-type": "GuardDuty Finding",
                                 "account": "111122223333", "detail": detail});
            match read(&payload, &home()) {
                Trigger::Finding(finding) => prop_assert!(!finding.subjects.is_empty()),
                Trigger::Malformed(malformed) => prop_assert!(!malformed.reason.is_empty()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
