//! Reads the AWS Security Finding Format: "Security Hub Findings - Imported" and "- Custom Action".
//!
//! Paths after the Security Hub user guide, "AWS Security Finding Format (ASFF)". What is read here may have been
//! imported by anyone who may call `BatchImportFindings`: the playbook's trusted products decide what may be acted on.

use serde_json::Value;

use super::{guardduty_type, is_guardduty, last_part, nature, of_resource, severity_of_label};
use crate::finding::{Caller, Finding, Format, Source, Subject};
use crate::foreign::{account, address, at, field, flag, list, severity as figure, text, time};
use crate::guardduty;
use crate::ids::{shown, shown_id};

/// Reads one of `detail.findings`.
///
/// # Errors
/// A sentence saying what is missing, where the value is no finding at all.
pub fn read(asff: &Value, source: Source, custom_action: Option<&str>) -> Result<Finding, String> {
    if !asff.is_object() {
        return Err("one of `findings` is no object".to_owned());
    }
    let id = text(asff, &["id"]).ok_or("the finding has no `Id`")?;
    let product = text(asff, &["productArn"]).unwrap_or_default();
    let types: Vec<&str> = list(asff, &["types"])
        .chain(list(asff, &["findingProviderFields", "types"]))
        .filter_map(Value::as_str)
        .collect();
    let of_guardduty = is_guardduty(product);
    let own_id = if of_guardduty { last_part(id) } else { id };
    let own_type = types.iter().find_map(|t| guardduty_type(t)).filter(|_| of_guardduty);
    let finding_type = own_type.as_deref().or_else(|| types.first().copied()).unwrap_or("unknown");
    let mut finding = Finding::new(own_id, finding_type, source, Format::Asff);
    finding.severity = severity(asff, of_guardduty);
    finding.account = account(asff, &["awsAccountId"]);
    finding.region = region(asff, product);
    finding.nature = nature(types.iter().copied(), at(asff, &["compliance"]).is_some_and(Value::is_object));
    finding.first_seen = time(asff, &["firstObservedAt"]);
    finding.last_seen = time(asff, &["lastObservedAt"]);
    finding.updated_at = shown_id(text(asff, &["updatedAt"]).unwrap_or_default());
    finding.sample = is_sample(asff);
    finding.archived = is_archived(asff);
    finding.resource_types = list(asff, &["resources"]).filter_map(|r| text(r, &["type"])).map(shown).collect();
    finding.product = Some(shown_id(product)).filter(|p| !p.is_empty());
    finding.custom_action = custom_action.map(shown);
    finding.caller = caller(asff);
    let account = finding.owner();
    let mut subjects: Vec<Subject> = list(asff, &["resources"])
        .filter_map(|resource| {
            let kind = text(resource, &["type"])?;
            let uid = text(resource, &["id"]).unwrap_or_default();
            of_resource(kind, uid, field(resource, "details").unwrap_or(&Value::Null), &account)
        })
        .collect();
    if let Some(sequence) = at(asff, &["detection", "sequence"]) {
        subjects.extend(guardduty::actors_of_sequence(sequence, &account));
    }
    Ok(finding.pointing_at(subjects))
}

/// A field of the product, whatever prefix its name has: `aws/guardduty/service/archived` and `archived` both occur.
fn product_field<'a>(asff: &'a Value, name: &str) -> Option<&'a str> {
    let fields = at(asff, &["productFields"])?.as_object()?;
    let prefixed = format!("aws/guardduty/service/{name}");
    fields.get(name).or_else(|| fields.get(&prefixed))?.as_str()
}

/// The product's own figure for GuardDuty, else the normalised one, else the label.
fn severity(asff: &Value, of_guardduty: bool) -> Option<f64> {
    let own = figure(asff, &["severity", "product"], 10.0).filter(|_| of_guardduty);
    let normalised = figure(asff, &["severity", "normalized"], 100.0).map(|s| s / 10.0);
    let label =
        text(asff, &["severity", "label"]).or_else(|| text(asff, &["findingProviderFields", "severity", "label"]));
    own.or(normalised).or_else(|| severity_of_label(label?))
}

fn region(asff: &Value, product: &str) -> Option<crate::ids::Region> {
    let of_resource = list(asff, &["resources"]).find_map(|r| text(r, &["region"]));
    let of_product = product.split(':').nth(3).filter(|r| !r.is_empty());
    text(asff, &["region"]).or(of_resource).or(of_product)?.parse().ok()
}

fn is_sample(asff: &Value) -> bool {
    let inside = product_field(asff, "additionalInfo")
        .and_then(|t| serde_json::from_str::<Value>(t).ok())
        .and_then(|info| flag(&info, &["sample"]));
    let generated = list(asff, &["resources"]).any(|resource| {
        let id = text(resource, &["id"]).unwrap_or_default();
        id.starts_with("GeneratedFinding") || id.starts_with("AWS::IAM::AccessKey:GeneratedFinding")
    });
    flag(asff, &["sample"]) == Some(true)
        || inside == Some(true)
        || product_field(asff, "additionalInfo/sample") == Some("true")
        || text(asff, &["title"]).is_some_and(|title| title.starts_with("[SAMPLE FINDING]"))
        || generated
}

fn is_archived(asff: &Value) -> bool {
    let is = |path: &[&str], values: &[&str]| text(asff, path).is_some_and(|t| values.contains(&t));
    is(&["recordState"], &["ARCHIVED"])
        || is(&["workflow", "status"], &["SUPPRESSED", "RESOLVED"])
        || is(&["workflowState"], &["RESOLVED", "SUPPRESSED"])
        || product_field(asff, "archived") == Some("true")
}

fn caller(asff: &Value) -> Caller {
    let remote = "action/awsApiCallAction/remoteIpDetails/ipAddressV4";
    let addresses = [
        address(asff, &["action", "awsApiCallAction", "remoteIpDetails", "ipAddressV4"]),
        product_field(asff, remote).and_then(|t| t.trim().parse().ok()),
    ];
    let mut addresses: Vec<_> = addresses.into_iter().flatten().collect();
    addresses.dedup();
    let affiliated = product_field(asff, "action/awsApiCallAction/remoteAccountDetails/affiliated");
    Caller { addresses, affiliated: affiliated.and_then(|t| t.parse().ok()) }
}
