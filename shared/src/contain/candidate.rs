//! Builds the records that a finding or a request gives rise to. No call is made here.

use firebreak_model::SCHEMA;
use firebreak_model::action::Response;
use firebreak_model::decision::{Decision, Mode, Verdict};
use firebreak_model::each_once;
use firebreak_model::finding::{Finding, Source};
use firebreak_model::ids::{AccessKeyId, FindingKey, FunctionArn, IncidentId, sha256_hex};
use firebreak_model::ledger::{FindingRecord, Incident, IncidentState, Origin};
use firebreak_model::plan::Plan;
use firebreak_model::playbook::Ruling;
use firebreak_model::principal::Principal;
use firebreak_model::request::{Asked, Contain};
use firebreak_model::trigger::Malformed;
use jiff::Timestamp;

use crate::deadline::Deadline;

/// The most of an event that is kept in the ledger, in bytes: an item holds 400 KB at most.
const EVENT_BYTES: usize = 200_000;

/// An invocation: when it began, its id, and when it must have ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) now: Timestamp,
    pub(super) invocation: &'a str,
    pub(super) deadline: Deadline,
}

/// A finding as it was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) finding: &'a Finding,
    pub(super) event: &'a Event,
    pub(super) playbook: &'a str,
    /// The incident of the contained principal that made whoever it is about, where that is certain.
    pub(super) born_of: Option<&'a IncidentId>,
}

/// A principal that a finding leads to the containment of.
#[derive(Debug)]
pub(super) struct Chosen {
    principal: Principal,
    access_keys: Vec<AccessKeyId>,
    functions: Vec<FunctionArn>,
    ruling: Ruling,
}

/// A subject that is only noted.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) principal: Option<Principal>,
    pub(super) functions: Vec<FunctionArn>,
    pub(super) reason: String,
    pub(super) ruling: Ruling,
}

/// Adds a principal to those chosen; the same one named twice is one, under the higher ruling.
pub(super) fn choose(
    chosen: &mut Vec<Chosen>,
    principal: Principal,
    access_key: Option<AccessKeyId>,
    functions: Vec<FunctionArn>,
    ruling: Ruling,
) {
    let same = |known: &&mut Chosen| known.principal.incident_id() == principal.incident_id();
    let Some(known) = chosen.iter_mut().find(same) else {
        let access_keys = access_key.into_iter().collect();
        return chosen.push(Chosen { principal, access_keys, functions, ruling });
    };
    each_once::extend(&mut known.access_keys, access_key);
    each_once::extend(&mut known.functions, functions);
    known.principal.arn = known.principal.arn.take().or(principal.arn);
    known.principal.unique_id = known.principal.unique_id.take().or(principal.unique_id);
    if ruling.verdict.effective > known.ruling.verdict.effective {
        known.ruling = ruling;
    }
}

/// A ruling under which a person is asked first, for this reason.
pub(super) fn asking(mut ruling: Ruling, why: Option<&str>) -> Ruling {
    if let Some(why) = why.filter(|_| ruling.verdict.effective == Decision::Act) {
        ruling.verdict.effective = Decision::Approve;
        ruling.verdict.reason = format!("{}; but {why}", ruling.verdict.reason);
    }
    ruling
}

/// Why nothing is done, each reason once.
pub(super) fn reasons(noted: &[Noted]) -> String {
    let mut said: Vec<&str> = Vec::new();
    each_once::extend(&mut said, noted.iter().map(|noted| noted.reason.as_str()));
    said.join("; ")
}

/// The event as it goes on record, made once however many records it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its text, cut where it is too long.
    text: String,
    truncated: bool,
    /// Of the whole.
    sha256: String,
}

impl Event {
    pub(super) fn of(mut text: String) -> Self {
        let sha256 = sha256_hex(text.as_bytes());
        let truncated = text.len() > EVENT_BYTES;
        let mut end = text.len().min(EVENT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Self { text, truncated, sha256 }
    }
}

impl Reading<'_> {
    /// The record of a finding for a principal that it opens or joins the incident of.
    pub(super) fn record(&self, chosen: &Chosen, received: Received<'_>) -> FindingRecord {
        self.record_of(Some(chosen.principal.incident_id()), &chosen.ruling.verdict, received)
    }

    fn record_of(&self, incident_id: Option<IncidentId>, verdict: &Verdict, received: Received<'_>) -> FindingRecord {
        let Self { finding, event, .. } = self;
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
            format: Some(finding.format),
            decision: verdict.decision,
            effective: verdict.effective,
            mode: verdict.mode,
            rule: verdict.rule.clone(),
            reason: verdict.reason.clone(),
            playbook_digest: self.playbook.to_owned(),
            subjects: finding.subjects.clone(),
            would_be: None,
            first_seen: finding.first_seen,
            last_seen: finding.last_seen,
            received_at: received.now,
            event: event.text.clone(),
            event_truncated: event.truncated,
            event_sha256: event.sha256.clone(),
        }
    }
}

/// The record of a finding for the subjects that it opens no incident for; `None` where there are none.
pub(super) fn noted(reading: &Reading<'_>, noted: &[Noted], received: Received<'_>) -> Option<FindingRecord> {
    let highest = noted.iter().max_by_key(|noted| noted.ruling.verdict.decision)?;
    let principal = noted.iter().find(|noted| noted.principal.is_some());
    let id = principal.and_then(|noted| noted.principal.as_ref()).map(Principal::incident_id);
    let mut record = reading.record_of(id, &highest.ruling.verdict, received);
    record.effective = record.effective.min(Decision::Notify);
    record.reason = reasons(noted);
    if let Some(Noted { principal: Some(principal), functions, ruling, .. }) = principal
        && ruling.verdict.decision.opens_incident()
    {
        record.would_be = Some(Plan::of(&principal.name, functions, &ruling.response));
    }
    Some(record)
}

/// The record of an event that cannot be read.
pub(super) fn malformed(
    malformed: &Malformed,
    event: &Event,
    received: Received<'_>,
    playbook: &str,
    mode: Mode,
) -> FindingRecord {
    FindingRecord {
        schema: SCHEMA,
        finding_key: FindingKey::of(&malformed.id, &event.sha256),
        incident_id: None,
        finding_id: malformed.id.clone(),
        finding_type: "malformed".to_owned(),
        severity: None,
        account: None,
        region: None,
        source: "malformed".to_owned(),
        format: None,
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
        event: event.text.clone(),
        event_truncated: event.truncated,
        event_sha256: event.sha256.clone(),
    }
}

/// The incident that a finding would open.
pub(super) fn by_finding(reading: &Reading<'_>, chosen: Chosen, received: Received<'_>) -> Incident {
    let Reading { finding, playbook, born_of, .. } = *reading;
    let Chosen { principal, access_keys, functions, ruling: Ruling { verdict, response, .. } } = chosen;
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
        unvetted: true,
        ordered_at: (verdict.effective == Decision::Act).then_some(received.now),
        decision: verdict.effective,
        mode: verdict.mode,
        rule: verdict.rule,
        reason: verdict.reason,
        playbook_digest: playbook.to_owned(),
        drill: finding.source == Source::Drill,
        born_of: born_of.cloned(),
        first_seen: finding.first_seen,
        ..Incident::ordered(principal, functions, response, origin, received.now)
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
        unvetted: true,
        reason,
        playbook_digest: playbook.to_owned(),
        access_keys,
        first_seen: session_started,
        ..Incident::ordered(principal, functions, response, origin, received.now)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use firebreak_model::ids::Partition;
    use firebreak_model::playbook::Playbook;
    use firebreak_model::principal::Home;
    use firebreak_model::trigger::{self, Trigger};
    use serde_json::json;

    use super::*;

    /// What DynamoDB takes of one item.
    const ITEM_BYTES: usize = 400 * 1024;

    #[test]
    fn the_record_of_the_largest_event_fits_in_the_ledger() {
        let playbook = Playbook::from_yaml(include_str!("../../../playbook.yaml")).unwrap();
        let home = Home { partition: Partition::Aws, account: "111122223333".parse().unwrap() };
        let received =
            Received { now: "2026-11-21T03:00:00Z".parse().unwrap(), invocation: "i", deadline: Deadline::NONE };
        let long = "\u{1f525}".repeat(10_000);
        let resource = |n: usize| match n % 3 {
            0 => json!({"Type": "AwsIamRole", "Id": format!("{n}{long:.100}")}),
            1 => {
                json!({"Type": "AwsIamRole", "Id": format!("arn:aws:iam::111122223333:role/{}/r{n}", "p".repeat(400))})
            }
            _ => {
                json!({"Type": "AwsIamUser", "Id": format!("u{n}{long:.100}"), "Details": {"AwsIamUser": {"UserName": "*"}}})
            }
        };
        let finding = json!({"Id": long, "ProductArn": long, "AwsAccountId": "111122223333", "UpdatedAt": long,
            "Types": [long], "Severity": {"Label": "HIGH"}, "Resources": (0..5_000).map(resource).collect::<Vec<_>>()});
        let event = json!({"id": long, "source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported",
            "account": "111122223333", "detail": {"findings": [finding], "padding": "\u{7}".repeat(400_000)}});
        let Trigger::Findings(findings, None) = trigger::read(&event, &home) else { panic!("no finding") };
        let finding = &findings[0];
        let ruling = playbook.decide(finding, None, Mode::Enforce);
        let all: Vec<Noted> = finding
            .subjects
            .iter()
            .enumerate()
            .map(|(n, subject)| Noted {
                principal: None,
                functions: Vec::new(),
                reason: format!("{n} {}; {subject:?}", ruling.verdict.reason),
                ruling: ruling.clone(),
            })
            .collect();
        let record = noted(
            &Reading { finding, event: &Event::of(event.to_string()), playbook: playbook.digest(), born_of: None },
            &all,
            received,
        )
        .unwrap();
        let bytes = serde_json::to_string(&record).unwrap().len();
        assert!(record.event_truncated && bytes < ITEM_BYTES, "{bytes} bytes");
    }

    #[test]
    fn a_long_event_is_cut_on_a_character_and_its_digest_is_of_the_whole() {
        let event = serde_json::json!({"text": "é".repeat(EVENT_BYTES)});
        let cut = Event::of(event.to_string());
        assert!(cut.truncated && cut.text.len() <= EVENT_BYTES);
        assert_eq!(cut.sha256, sha256_hex(event.to_string().as_bytes()));
        let whole = Event::of(r#"{"a":1}"#.to_owned());
        assert_eq!((whole.text.as_str(), whole.truncated), (r#"{"a":1}"#, false));
    }
}
