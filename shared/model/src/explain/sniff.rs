//! Finds the events in what a person has at hand. A function goes by the envelope alone; here, where the envelope is
//! missing or unknown, the shape of the content says what it is.

use serde_json::{Value, json};

use super::Kind;
use crate::finding::{Finding, Format, Source};
use crate::foreign::{at, field, text};
use crate::ids::shown;
use crate::{outcome, trigger};

/// An event that was found.
pub(super) enum Read {
    /// A finding, or a CloudTrail record.
    Finding(Box<Finding>),
    /// One of Firebreak's own events, and what becomes of it.
    Own(String),
    /// An event of somebody else's.
    Unknown(String),
    /// What cannot be read.
    Malformed(Kind, String),
}

/// Every event in an input.
pub(super) fn events(payload: &Value) -> Vec<Read> {
    if let Some(many) = payload.as_array() {
        return many.iter().flat_map(one).collect();
    }
    for list in ["findings", "records"] {
        if let Some(many) =
            field(payload, list).and_then(Value::as_array).filter(|_| field(payload, "detail").is_none())
        {
            return many.iter().flat_map(one).collect();
        }
    }
    one(payload)
}

fn one(payload: &Value) -> Vec<Read> {
    if let Some(reason) = own(payload) {
        return vec![Read::Own(reason)];
    }
    let envelope_text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
    if trigger::is_replay(payload) {
        return vec![Read::Malformed(Kind::Unknown, "the event is a replay from an archive".to_owned())];
    }
    if let Some((source, format)) = trigger::format_of(payload) {
        let findings = trigger::findings_of(payload, source, format);
        if findings.is_empty() {
            return vec![Read::Malformed(format.into(), "the event holds no finding".to_owned())];
        }
        return findings.into_iter().map(|read| settle(read, format)).collect();
    }
    let content = field(payload, "detail").unwrap_or(payload);
    if let Some(format) = shape(content) {
        let source = match format {
            Format::GuardDuty => Source::GuardDuty,
            Format::Asff | Format::Ocsf => Source::SecurityHub,
            Format::CloudTrail => Source::CloudTrail,
        };
        let detail = match format {
            Format::Asff | Format::Ocsf if at(content, &["findings"]).is_none() => json!({"findings": [content]}),
            _ => content.clone(),
        };
        let wrapped = json!({"id": envelope_text("id"), "resources": payload.get("resources"), "detail": detail});
        return trigger::findings_of(&wrapped, source, format).into_iter().map(|read| settle(read, format)).collect();
    }
    let (source, detail_type) = (envelope_text("source"), envelope_text("detail-type"));
    if source.is_empty() || detail_type.is_empty() {
        let reason =
            "it is no event: no envelope with `source` and `detail-type`, and no finding or record that is known";
        return vec![Read::Malformed(Kind::Unknown, reason.to_owned())];
    }
    vec![Read::Unknown(format!(
        "Firebreak does not read events with source `{}` and detail-type `{}`: where a rule delivers one, it is recorded \
         and paged",
        shown(source),
        shown(detail_type)
    ))]
}

fn settle(read: Result<Finding, String>, format: Format) -> Read {
    match read {
        Ok(finding) => Read::Finding(Box::new(finding)),
        Err(reason) => Read::Malformed(format.into(), reason),
    }
}

/// What becomes of one of Firebreak's own events.
fn own(payload: &Value) -> Option<String> {
    if payload.get("source").and_then(Value::as_str) == Some(outcome::SOURCE) {
        return Some(
            "an outcome event is a hint: whoever receives it takes the incident's id from it and reads the ledger"
                .to_owned(),
        );
    }
    if trigger::is_scheduled(payload) {
        return Some("a tick of the schedule".to_owned());
    }
    match payload.get("eventSource").and_then(Value::as_str) {
        Some("aws:dynamodb") => Some("a record of the ledger's stream: it is announced".to_owned()),
        Some("aws:sqs") => Some("a message of a queue: what it holds is delivered to its function".to_owned()),
        _ => None,
    }
}

/// What content without a known envelope looks like.
fn shape(content: &Value) -> Option<Format> {
    let first = at(content, &["findings"]).and_then(Value::as_array).and_then(|findings| findings.first());
    let finding = first.unwrap_or(content);
    let has = |name: &str| field(finding, name).is_some();
    if has("class_uid") || has("finding_info") {
        return Some(Format::Ocsf);
    }
    if has("awsAccountId") && (has("productArn") || has("generatorId")) {
        return Some(Format::Asff);
    }
    if first.is_some() {
        return None;
    }
    if text(content, &["eventName"]).is_some() && (has("eventSource") || has("userIdentity")) {
        return Some(Format::CloudTrail);
    }
    let is_finding = text(content, &["type"]).is_some() && (has("service") || has("resource")) && has("id");
    is_finding.then_some(Format::GuardDuty)
}
