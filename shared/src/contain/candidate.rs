//! Builds the records that a finding or a request gives rise to. No call is made here.

use firebreak_model::SCHEMA;
use firebreak_model::action::Response;
use firebreak_model::decision::{Decision, Mode, Verdict};
use firebreak_model::finding::{Finding, Source, Subject};
use firebreak_model::ids::{AccessKeyId, FindingKey, FunctionArn, IncidentId, sha256_hex};
use firebreak_model::ledger::{FindingRecord, Incident, IncidentState, Origin};
use firebreak_model::plan::Plan;
use firebreak_model::principal::Principal;
use firebreak_model::request::{Asked, Contain};
use firebreak_model::trigger::Malformed;
use jiff::Timestamp;
use serde_json::Value;

/// The most of an event that is kept in the ledger, in bytes: an item holds 400 KB at most.
const EVENT_BYTES: usize = 200_000;

/// An invocation: when it began, and its id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) now: Timestamp,
    pub(super) invocation: &'a str,
}

/// A finding with what the playbook says about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) finding: &'a Finding,
    pub(super) event: &'a Value,
    pub(super) verdict: &'a Verdict,
    pub(super) response: &'a [Response],
    pub(super) playbook: &'a str,
}

/// The event as text, cut where it is too long; whether it was cut; the SHA-256 of the whole.
fn event_text(event: &Value) -> (String, bool, String) {
    let text = event.to_string();
    let digest = sha256_hex(text.as_bytes());
    if text.len() <= EVENT_BYTES {
        return (text, false, digest);
    }
    let mut end = EVENT_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (text.get(..end).unwrap_or_default().to_owned(), true, digest)
}

impl Reading<'_> {
    pub(super) fn record(
        &self,
        incident_id: Option<IncidentId>,
        effective: Decision,
        received: Received<'_>,
    ) -> FindingRecord {
        let (event, event_truncated, event_sha256) = event_text(self.event);
        let finding = self.finding;
        FindingRecord {
            schema: SCHEMA,
            finding_key: finding.key(),
            incident_id,
            finding_id: finding.id.clone(),
            finding_type: finding.finding_type.clone(),
            severity: finding.severity,
            account: finding.account.clone(),
            region: finding.region.as_ref().map(ToString::to_string),
            source: finding.source.to_string(),
            decision: self.verdict.decision,
            effective,
            mode: self.verdict.mode,
            rule: self.verdict.rule.clone(),
            reason: self.verdict.reason.clone(),
            playbook_digest: self.playbook.to_owned(),
            subjects: finding.subjects.clone(),
            would_be: None,
            first_seen: finding.first_seen,
            last_seen: finding.last_seen,
            received_at: received.now,
            event,
            event_truncated,
            event_sha256,
        }
    }
}

/// The record of a finding that opens no incident, for the subjects that it was not contained on.
pub(super) fn noted(
    reading: &Reading<'_>,
    noted: &[(Option<Principal>, Vec<FunctionArn>, String)],
    received: Received<'_>,
) -> FindingRecord {
    let principal = noted.iter().find_map(|(principal, functions, _)| principal.as_ref().map(|p| (p, functions)));
    let effective = reading.verdict.effective.min(Decision::Notify);
    let mut record = reading.record(principal.map(|(p, _)| p.incident_id()), effective, received);
    let reasons: Vec<&str> = noted.iter().map(|(_, _, reason)| reason.as_str()).collect();
    record.reason = reasons.join("; ");
    if reading.verdict.decision.opens_incident() {
        record.would_be = principal.map(|(p, functions)| Plan::of(&p.name, functions, reading.response));
    }
    record
}

/// The record of an event that cannot be read.
pub(super) fn malformed(
    malformed: &Malformed,
    event: &Value,
    received: Received<'_>,
    playbook: &str,
    mode: Mode,
) -> FindingRecord {
    let (event, event_truncated, event_sha256) = event_text(event);
    FindingRecord {
        schema: SCHEMA,
        finding_key: FindingKey::of(&malformed.id, &event_sha256),
        incident_id: None,
        finding_id: malformed.id.clone(),
        finding_type: "malformed".to_owned(),
        severity: None,
        account: None,
        region: None,
        source: "malformed".to_owned(),
        decision: Decision::Notify,
        effective: Decision::Notify,
        mode,
        rule: "malformed".to_owned(),
        reason: malformed.reason.clone(),
        playbook_digest: playbook.to_owned(),
        subjects: Vec::new(),
        would_be: None,
        first_seen: None,
        last_seen: None,
        received_at: received.now,
        event,
        event_truncated,
        event_sha256,
    }
}

/// The access keys that a finding names for a principal.
fn access_keys(finding: &Finding, principal: &Principal) -> Vec<AccessKeyId> {
    finding
        .subjects
        .iter()
        .filter_map(|subject| match subject {
            Subject::Principal { principal: named, access_key, .. }
                if named.incident_id() == principal.incident_id() =>
            {
                access_key.clone()
            }
            _ => None,
        })
        .collect()
}

/// The incident that a finding would open.
pub(super) fn by_finding(
    reading: &Reading<'_>,
    principal: Principal,
    functions: Vec<FunctionArn>,
    received: Received<'_>,
) -> Incident {
    let Reading { finding, verdict, response, playbook, .. } = *reading;
    let access_keys = access_keys(finding, &principal);
    let origin = Origin::Finding {
        finding_id: finding.id.clone(),
        finding_type: finding.finding_type.clone(),
        severity: finding.severity,
        finding_key: finding.key(),
    };
    Incident {
        access_keys,
        state: match verdict.effective {
            Decision::Act => IncidentState::Ordered,
            _ => IncidentState::AwaitingApproval,
        },
        ordered_at: (verdict.effective == Decision::Act).then_some(received.now),
        decision: verdict.effective,
        mode: verdict.mode,
        rule: verdict.rule.clone(),
        reason: verdict.reason.clone(),
        playbook_digest: playbook.to_owned(),
        drill: finding.source == Source::Drill,
        first_seen: finding.first_seen,
        ..Incident::ordered(principal, functions, response.to_vec(), origin, received.now)
    }
}

/// The incident that a person's request opens: contained at once, whatever the mode.
pub(super) fn by_person(
    contain: Contain,
    response: Vec<Response>,
    asked: Asked,
    playbook: &str,
    received: Received<'_>,
) -> Incident {
    let Contain { principal, functions, access_keys, session_started, .. } = contain;
    let reason = format!("asked for by hand: {}", asked.reason);
    let origin =
        Origin::Person { requested_by: asked.by, reason: asked.reason, invocation: received.invocation.to_owned() };
    Incident {
        reason,
        playbook_digest: playbook.to_owned(),
        access_keys,
        first_seen: session_started,
        ..Incident::ordered(principal, functions, response, origin, received.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_event_is_cut_on_a_character_and_its_digest_is_of_the_whole() {
        let event = serde_json::json!({"text": "é".repeat(EVENT_BYTES)});
        let (text, cut, digest) = event_text(&event);
        assert!(cut && text.len() <= EVENT_BYTES);
        assert_eq!(digest, sha256_hex(event.to_string().as_bytes()));
        let (whole, cut, _) = event_text(&serde_json::json!({"a": 1}));
        assert_eq!((whole.as_str(), cut), (r#"{"a":1}"#, false));
    }
}
