//! What woke a function: an EventBridge envelope or a request. Total: every JSON value is something.

use serde_json::Value;

use crate::each_once;
use crate::finding::{Finding, Format, MOST_SUBJECTS, Source};
use crate::foreign::list;
use crate::ids::{shown, shown_id};
use crate::principal::Home;
use crate::request::{self, Request, RequestError};
use crate::securityhub::{asff, ocsf};
use crate::{cloudtrail, guardduty};

/// A payload, understood as far as it can be.
#[derive(Debug)]
pub enum Trigger {
    /// The findings of an event: one, but a custom action of Security Hub may send several. That some of them cannot be
    /// read is beside them.
    Findings(Vec<Finding>, Option<Malformed>),
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

/// The most findings that one event may hold: Security Hub sends no more of what a person chose.
pub const MOST_FINDINGS: usize = 20;

/// The prefix of a custom action's ARN resource.
const CUSTOM_ACTION: &str = ":action/custom/";

fn envelope_text<'a>(payload: &'a Value, name: &str) -> &'a str {
    payload.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Reads the payload of an invocation of `quarantine-principal` or `release-containment`.
pub fn read(payload: &Value, home: &Home) -> Trigger {
    if request::is_request(payload) {
        return match request::read(payload, home) {
            Ok(request) => Trigger::Request(Box::new(request)),
            Err(error) => Trigger::BadRequest(error),
        };
    }
    let text = |name: &str| envelope_text(payload, name);
    let malformed = |reason: String| Malformed { id: shown_id(text("id")), reason };
    let Some((source, format)) = format_of(payload) else {
        return Trigger::Malformed(malformed(format!(
            "an event with source `{}` and detail-type `{}` is none that this function reads",
            shown(text("source")),
            shown(text("detail-type"))
        )));
    };
    // The envelope's account is set by EventBridge and cannot be forged: an event of another account is not ours to act on.
    if text("account") != home.account.as_str() {
        let account = shown(text("account"));
        return Trigger::Malformed(malformed(format!("the event comes from account `{account}`, not from this one")));
    }
    if is_replay(payload) {
        return Trigger::Malformed(malformed("the event is a replay from an archive".to_owned()));
    }
    let mut findings = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    for read in findings_of(payload, source, format) {
        match read {
            Ok(_) if findings.len() == MOST_FINDINGS => {
                let reason = format!("the event holds more than {MOST_FINDINGS} findings: the rest is not read");
                each_once::add(&mut reasons, reason);
            }
            Ok(finding) => findings.push(finding),
            Err(reason) => {
                each_once::add(&mut reasons, reason);
            }
        }
    }
    let each = match findings.len() {
        0 | 1 => MOST_SUBJECTS,
        several => 2 * MOST_SUBJECTS / several,
    };
    for finding in &mut findings {
        finding.cut_to(each);
    }
    match (findings.is_empty(), reasons.is_empty()) {
        (true, true) => Trigger::Malformed(malformed("the event holds no finding".to_owned())),
        (true, false) => Trigger::Malformed(malformed(reasons.join("; "))),
        (false, true) => Trigger::Findings(findings, None),
        (false, false) => Trigger::Findings(findings, Some(malformed(reasons.join("; ")))),
    }
}

/// Whether the event is a replay from an archive.
pub(crate) fn is_replay(payload: &Value) -> bool {
    payload.get("replay-name").is_some()
}

/// Who sent an event, and what its `detail` is: by what EventBridge sets, never by what the detail looks like.
pub(crate) fn format_of(payload: &Value) -> Option<(Source, Format)> {
    let source = envelope_text(payload, "source");
    let format = match envelope_text(payload, "detail-type") {
        "GuardDuty Finding" => Format::GuardDuty,
        "Security Hub Findings - Imported" | "Security Hub Findings - Custom Action" => Format::Asff,
        "Findings Imported V2" => Format::Ocsf,
        detail_type if detail_type.ends_with(" via CloudTrail") => Format::CloudTrail,
        _ => return None,
    };
    let source = match (source, format) {
        ("firebreak.drill", _) => Source::Drill,
        ("aws.guardduty", Format::GuardDuty) => Source::GuardDuty,
        ("aws.securityhub", Format::Asff | Format::Ocsf) => Source::SecurityHub,
        (source, Format::CloudTrail) if source.starts_with("aws.") => Source::CloudTrail,
        _ => return None,
    };
    Some((source, format))
}

/// Every finding of an event, or why it is none.
pub(crate) fn findings_of(payload: &Value, source: Source, format: Format) -> Vec<Result<Finding, String>> {
    let detail = payload.get("detail").unwrap_or(&Value::Null);
    let id = envelope_text(payload, "id");
    match format {
        Format::GuardDuty => vec![guardduty::read(detail, source, id)],
        Format::CloudTrail => vec![cloudtrail::read(detail, source, id)],
        Format::Asff => {
            let action = list(payload, &["resources"]).find_map(|r| r.as_str()?.split_once(CUSTOM_ACTION)).map(|a| a.1);
            let by_hand = envelope_text(payload, "detail-type").ends_with("Custom Action");
            let action = action.filter(|_| by_hand);
            // Whoever presses the button means what they see now, whenever the activity was.
            let asked_at = action.and_then(|_| envelope_text(payload, "time").parse().ok());
            let read = |finding: &Value| {
                let mut finding = asff::read(finding, source, action)?;
                finding.last_seen = finding.last_seen.max(asked_at);
                Ok(finding)
            };
            list(detail, &["findings"]).map(read).collect()
        }
        Format::Ocsf => list(detail, &["findings"]).map(|finding| ocsf::read(finding, source)).collect(),
    }
}

/// Whether the payload is a tick of an EventBridge schedule.
pub fn is_scheduled(payload: &Value) -> bool {
    let is = |name: &str, value: &str| payload.get(name).and_then(Value::as_str) == Some(value);
    is("source", "aws.events") && is("detail-type", "Scheduled Event")
}

/// Whether a stack was created or updated.
pub fn is_deployed(payload: &Value) -> bool {
    let is = |name: &str, value: &str| payload.get(name).and_then(Value::as_str) == Some(value);
    is("source", "aws.cloudformation") && is("detail-type", "CloudFormation Stack Status Change")
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
        assert!(matches!(read(&envelope(finding.clone()), &home()), Trigger::Findings(..)));
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
            (envelope(json!({"id": "x"})), "`type`"),
            (envelope(json!({"id": "x", "type": 7})), "`type`"),
            (json!(null), "source"),
            (json!("text"), "source"),
        ] {
            let Trigger::Malformed(malformed) = read(&payload, &home()) else { panic!("{payload}") };
            assert!(malformed.reason.contains(names), "{payload}: {}", malformed.reason);
        }
    }

    #[test]
    fn a_custom_action_is_about_what_whoever_sent_it_sees() {
        let finding = json!({"Id": "f1", "AwsAccountId": "111122223333", "LastObservedAt": "2026-11-21T03:14:55Z"});
        let last_seen = |detail_type: &str, action: &str, time: &str| {
            let event = json!({"id": "e1", "source": "aws.securityhub", "detail-type": detail_type, "time": time,
                "account": "111122223333", "resources": [format!("arn:aws:securityhub:eu-west-1:111122223333:{action}")],
                "detail": {"findings": [finding]}});
            let Trigger::Findings(findings, None) = read(&event, &home()) else { panic!("{event}") };
            findings.first().and_then(|finding| finding.last_seen).map(|at| at.to_string())
        };
        let (sent, imported) = ("Security Hub Findings - Custom Action", "Security Hub Findings - Imported");
        let (ours, later, seen) = ("action/custom/FirebreakContain", "2026-11-21T09:00:00Z", "2026-11-21T03:14:55Z");
        for (detail_type, action, time, expected) in [
            (sent, ours, later, later),
            (sent, ours, "2026-11-21T01:00:00Z", seen),
            (sent, ours, "soon", seen),
            (imported, ours, later, seen),
            (sent, "another/thing", later, seen),
        ] {
            assert_eq!(
                last_seen(detail_type, action, time).as_deref(),
                Some(expected),
                "{detail_type} {action} {time}"
            );
        }
    }

    #[test]
    fn only_what_eventbridge_sets_says_what_an_event_is() {
        let event = |source: &str, detail_type: &str| {
            let finding = json!({"id": "f1", "type": "x", "Id": "f1", "AwsAccountId": "111122223333",
                                 "finding_info": {"uid": "f1"}});
            json!({"id": "e1", "source": source, "detail-type": detail_type, "account": "111122223333",
                   "detail": {"id": "f1", "type": "x", "eventName": "x", "eventID": "f1", "findings": [finding]}})
        };
        for (source, detail_type, read_as) in [
            ("aws.guardduty", "GuardDuty Finding", Some(Format::GuardDuty)),
            ("aws.securityhub", "Security Hub Findings - Imported", Some(Format::Asff)),
            ("aws.securityhub", "Security Hub Findings - Custom Action", Some(Format::Asff)),
            ("aws.securityhub", "Findings Imported V2", Some(Format::Ocsf)),
            ("aws.iam", "AWS API Call via CloudTrail", Some(Format::CloudTrail)),
            ("firebreak.drill", "Findings Imported V2", Some(Format::Ocsf)),
            ("my.app", "Security Hub Findings - Imported", None),
            ("my.app", "Findings Imported V2", None),
            ("aws.guardduty", "Findings Imported V2", None),
            ("aws.securityhub", "GuardDuty Finding", None),
            ("awesome.app", "AWS API Call via CloudTrail", None),
            ("firebreak", "GuardDuty Finding", None),
            ("firebreak.drill2", "GuardDuty Finding", None),
        ] {
            let format = match read(&event(source, detail_type), &home()) {
                Trigger::Findings(findings, _) => findings.first().map(|finding| finding.format),
                _ => None,
            };
            assert_eq!(format, read_as, "{source}, {detail_type}");
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
                Trigger::Findings(findings, _) => {
                    prop_assert!(!findings.is_empty() && findings.iter().all(|f| !f.subjects.is_empty()));
                }
                Trigger::Malformed(malformed) => prop_assert!(!malformed.reason.is_empty()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
