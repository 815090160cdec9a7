//! Reads findings of Security Hub V2 in the Open Cybersecurity Schema Framework: "Findings Imported V2", one an event.
//!
//! Classes after the schema: 2001 Security Finding (before 1.1), 2002 Vulnerability, 2003 Compliance, 2004 Detection.
//! Vulnerability and compliance findings name execution roles too, and are no reason to contain anybody.

use serde_json::Value;

use super::{guardduty_type, is_guardduty, last_part, nature, of_resource, severity_of_label};
use crate::actor::Actor;
use crate::finding::{Caller, Finding, Format, Source, Subject};
use crate::foreign::{account, address, at, flag, list, number, text, time};
use crate::ids::{AccountId, shown, shown_id};

/// The first of several paths that leads to a text.
fn first<'a>(value: &'a Value, paths: &[&[&str]]) -> Option<&'a str> {
    paths.iter().find_map(|path| text(value, path))
}

/// Reads one of `detail.findings`.
///
/// # Errors
/// A sentence saying what is missing, where the value is no finding at all.
pub fn read(ocsf: &Value, source: Source) -> Result<Finding, String> {
    if !ocsf.is_object() {
        return Err("one of `findings` is no object".to_owned());
    }
    let id = first(ocsf, &[&["finding_info", "uid"], &["finding", "uid"], &["metadata", "uid"]]);
    let id = id.ok_or("the finding has no `finding_info.uid`")?;
    let product = text(ocsf, &["metadata", "product", "uid"]).unwrap_or_default();
    let types: Vec<&str> = list(ocsf, &["finding_info", "types"])
        .chain(list(ocsf, &["finding", "types"]))
        .filter_map(Value::as_str)
        .collect();
    let of_guardduty = is_guardduty(product);
    let own_id = if of_guardduty { last_part(id) } else { id };
    let own_type = types.iter().find_map(|t| guardduty_type(t)).filter(|_| of_guardduty);
    let finding_type = own_type.as_deref().or_else(|| types.first().copied());
    let finding_type = finding_type.or_else(|| text(ocsf, &["class_name"])).unwrap_or("unknown");
    let mut finding = Finding::new(own_id, finding_type, source, Format::Ocsf);
    let class = number(ocsf, &["class_uid"]).unwrap_or_default();
    let says_so = at(ocsf, &["compliance"]).is_some_and(Value::is_object)
        || at(ocsf, &["vulnerabilities"]).is_some_and(Value::is_array)
        || [2002.0, 2003.0].iter().any(|posture| (class - posture).abs() < 0.5);
    finding.nature = nature(types.iter().copied(), says_so);
    finding.severity = severity(ocsf);
    finding.account = account(ocsf, &["cloud", "account", "uid"]).or_else(|| account(ocsf, &["cloud", "account_uid"]));
    finding.region = text(ocsf, &["cloud", "region"]).and_then(|t| t.parse().ok());
    finding.first_seen = seen(ocsf, "first_seen_time");
    finding.last_seen = seen(ocsf, "last_seen_time");
    finding.updated_at = updated(ocsf);
    finding.sample = is_sample(ocsf);
    finding.archived = first(ocsf, &[&["status"], &["state"]])
        .is_some_and(|s| ["archived", "suppressed", "resolved", "deleted"].contains(&s.to_ascii_lowercase().as_str()));
    finding.resource_types = list(ocsf, &["resources"]).filter_map(|r| text(r, &["type"])).map(shown).collect();
    finding.product = Some(shown_id(product)).filter(|p| !p.is_empty());
    finding.caller = caller(ocsf);
    let account = finding.owner();
    let actors = at(ocsf, &["actor"]).into_iter().chain(list(ocsf, &["evidences"]).filter_map(|e| at(e, &["actor"])));
    let mut subjects: Vec<Subject> = actors.filter_map(|actor| of_actor(actor, &account)).collect();
    subjects.extend(list(ocsf, &["resources"]).filter_map(|resource| {
        let kind = text(resource, &["type"])?;
        let uid = text(resource, &["uid"]).unwrap_or_default();
        // The details are an object, or the text of one.
        let written = text(resource, &["details"]).and_then(|t| serde_json::from_str::<Value>(t).ok());
        let data = at(resource, &["data"]).or(written.as_ref()).unwrap_or(resource);
        of_resource(kind, uid, data, &account)
    }));
    Ok(finding.pointing_at(subjects))
}

fn severity(ocsf: &Value) -> Option<f64> {
    let label = text(ocsf, &["severity"]).and_then(severity_of_label);
    label.or_else(|| {
        let labels = ["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"];
        let id = number(ocsf, &["severity_id"])?;
        let at = labels.iter().zip(1_u8..).find(|(_, n)| (f64::from(*n) - id).abs() < f64::EPSILON);
        severity_of_label(at?.0)
    })
}

/// A time of `finding_info` (or `finding`, before 1.1): milliseconds, or text under the name with `_dt`.
fn seen(ocsf: &Value, name: &str) -> Option<jiff::Timestamp> {
    let written = format!("{name}_dt");
    ["finding_info", "finding"]
        .into_iter()
        .find_map(|place| time(ocsf, &[place, name]).or_else(|| time(ocsf, &[place, &written])))
}

fn updated(ocsf: &Value) -> String {
    let at = seen(ocsf, "modified_time").or_else(|| time(ocsf, &["time"]));
    at.map(|at| at.to_string()).unwrap_or_default()
}

fn is_sample(ocsf: &Value) -> bool {
    let unmapped = at(ocsf, &["unmapped"]).and_then(Value::as_object);
    let marked = unmapped.is_some_and(|members| {
        members.iter().any(|(key, _)| {
            (key.ends_with("additionalInfo/sample") || key.ends_with("additionalInfo.sample") || key == "Sample")
                && flag(ocsf, &["unmapped", key]) == Some(true)
        })
    });
    marked
        || first(ocsf, &[&["finding_info", "title"], &["finding", "title"]])
            .is_some_and(|title| title.starts_with("[SAMPLE FINDING]"))
}

fn caller(ocsf: &Value) -> Caller {
    let mut addresses: Vec<_> = address(ocsf, &["src_endpoint", "ip"]).into_iter().collect();
    addresses.extend(list(ocsf, &["evidences"]).filter_map(|e| address(e, &["src_endpoint", "ip"])));
    addresses.dedup();
    Caller { addresses, affiliated: None }
}

/// `actor`, or the actor of one of the `evidences`. One without a user is a process.
fn of_actor(actor: &Value, owner: &AccountId) -> Option<Subject> {
    let user = at(actor, &["user"]).filter(|v| v.is_object());
    let issuer = text(actor, &["session", "issuer"]);
    if user.is_none() && issuer.is_none() {
        return None;
    }
    let user = user.unwrap_or(&Value::Null);
    let account = account(user, &["account", "uid"]).unwrap_or_else(|| owner.clone());
    let key = text(user, &["credential_uid"]).and_then(|t| t.parse().ok());
    let who = Actor {
        user_type: text(user, &["type"]).unwrap_or_default(),
        name: text(user, &["name"]),
        principal_id: first(user, &[&["uid_alt"], &["uid"]]).unwrap_or_default(),
        issuer: issuer.or_else(|| text(user, &["uid"])),
        account: &account,
    };
    Some(who.subject(key))
}
