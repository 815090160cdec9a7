//! What holds of whatever comes out of the readers. The alphabets are written down here once more, from AWS's
//! documentation, so that a mistake in the identifiers is not its own witness.

use firebreak_model::decision::{Decision, Mode};
use firebreak_model::explain::{Explainer, Outcome};
use firebreak_model::finding::{Caller, Finding, MOST_SUBJECTS, Nature, Subject};
use firebreak_model::guard::Rails;
use firebreak_model::ids::Partition;
use firebreak_model::inventory::Inventory;
use firebreak_model::judge::{Course, Judge};
use firebreak_model::outcome;
use firebreak_model::plan::Plan;
use firebreak_model::playbook::Playbook;
use firebreak_model::principal::{Home, Principal};
use firebreak_model::request::Request;
use firebreak_model::trigger::{self, MOST_FINDINGS, Trigger};
use proptest::prelude::*;
use serde_json::Value;

const ACCOUNT: &str = "111122223333";

/// What a record may hold beside the event's own text (at most 200 KB), below DynamoDB's 400 KB.
const MOST_BYTES: usize = 180_000;

/// The playbook that Firebreak ships with, and what goes with it.
pub(crate) struct Suite {
    playbook: Playbook,
    inventory: Inventory,
}

impl Suite {
    pub(crate) fn new() -> Self {
        let playbook = Playbook::from_yaml(include_str!("../../../../playbook.yaml")).unwrap();
        Self { playbook, inventory: Inventory::default() }
    }

    /// Explains raw bytes: always one JSON object with its decision, all of it printable.
    pub(crate) fn explained(&self, input: &[u8]) -> Result<Outcome, TestCaseError> {
        let Self { playbook, inventory } = self;
        let explanation = Explainer { playbook, inventory, ceiling: Mode::Enforce }.explain(input);
        prop_assert!(!explanation.reason.is_empty());
        let written = serde_json::to_string(&explanation).unwrap();
        let read: Value = serde_json::from_str(&written).unwrap();
        prop_assert!(read.as_object().is_some_and(|object| object["decision"].is_string()));
        printable(&read)?;
        let names_nobody = explanation.targets.is_empty() && explanation.actions.is_empty();
        prop_assert!(explanation.decision != Outcome::Malformed || names_nobody, "{}", written);
        let opens = matches!(explanation.decision, Outcome::Act | Outcome::Approve);
        prop_assert!(opens || explanation.actions.is_empty(), "{}", written);
        if serde_json::from_slice::<Value>(input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input)).is_err() {
            prop_assert_eq!(explanation.decision, Outcome::Malformed);
        }
        Ok(explanation.decision)
    }

    /// Reads a payload as `quarantine-principal` does, and judges what it names.
    pub(crate) fn read(&self, payload: &Value) -> Result<(), TestCaseError> {
        let home = home(payload);
        let mut texts = Vec::new();
        collect(payload, &mut texts);
        if let Some(id) = outcome::incident_id(payload) {
            prop_assert!(is_incident(id.as_str()), "{}", id);
        }
        match trigger::read(payload, &home) {
            Trigger::Malformed(malformed) => is_a_reason(&malformed.reason)?,
            Trigger::BadRequest(error) => is_a_reason(&error.to_string())?,
            Trigger::Request(request) => {
                if let Request::Contain(contain, asked) = *request {
                    prop_assert!(asked.reason.chars().count() <= 500 && !asked.reason.contains(char::is_control));
                    named_by(&contain.principal, &texts)?;
                    prop_assert_eq!(contain.principal.account.as_str(), ACCOUNT);
                }
            }
            Trigger::Findings(findings, unread) => {
                prop_assert!(!findings.is_empty() && findings.len() <= MOST_FINDINGS);
                let subjects: usize = findings.iter().map(|finding| finding.subjects.len()).sum();
                prop_assert!(subjects <= 2 * MOST_SUBJECTS + MOST_FINDINGS, "one event leads to {} subjects", subjects);
                for finding in &findings {
                    self.finding(finding, &home, &texts)?;
                }
                if let Some(malformed) = unread {
                    is_a_reason(&malformed.reason)?;
                }
            }
        }
        Ok(())
    }

    fn finding(&self, finding: &Finding, home: &Home, texts: &[&str]) -> Result<(), TestCaseError> {
        prop_assert!(!finding.subjects.is_empty(), "a finding without a subject says nothing about itself");
        printable(&serde_json::to_value(finding).unwrap())?;
        prop_assert!(finding.severity.is_none_or(|s| s == 0.0 || (0.0001..=10.0).contains(&s)));
        prop_assert!(finding.key().as_str().len() == 32 && finding.key().as_str().bytes().all(is_hex));
        let protected = &self.playbook.protected;
        let rails = Rails { home, stack: "firebreak", protected, deployers: &[], source: Some(finding.source) };
        let judge = Judge { playbook: &self.playbook, rails, ceiling: Mode::Enforce };
        let highest = self.highest(finding);
        let mut reasons = String::new();
        for subject in &finding.subjects {
            let judgement = judge.judge(finding, subject, None);
            prop_assert!(judgement.decision() <= highest, "{:?} for {:?}", judgement.decision(), subject);
            prop_assert!(!judgement.ruling.verdict.reason.is_empty());
            match &judgement.course {
                Course::Contain { principal, functions, .. } => {
                    prop_assert_eq!(principal.account.as_str(), ACCOUNT);
                    prop_assert!(finding.account.is_some());
                    let here = format!("arn:{}:", home.partition);
                    prop_assert!(
                        principal.arn.as_ref().is_none_or(|arn| arn.starts_with(&here)),
                        "{:?}",
                        principal.arn
                    );
                    named_by(principal, texts)?;
                    planned(principal, &Plan::of(&principal.name, functions, &judgement.ruling.response))?;
                }
                Course::ReadPath(principal) => named_by(principal, texts)?,
                Course::LookUp(lookup) => {
                    prop_assert!(lookup.to_string().chars().all(is_plain), "{}", lookup);
                    if let Some(arn) = lookup.arn() {
                        prop_assert!(texts.iter().any(|text| text.contains(&arn)), "nobody named `{}`", arn);
                    }
                }
                Course::Note { reason, .. } => {
                    is_a_reason(reason)?;
                    reasons.push_str(reason);
                }
            }
        }
        let subjects = serde_json::to_string(&finding.subjects).unwrap();
        let bytes = subjects.len() + reasons.len() + finding.id.len() + finding.finding_type.len();
        prop_assert!(bytes < MOST_BYTES, "{} bytes of {} subjects", bytes, finding.subjects.len());
        Ok(())
    }

    /// The highest that the type of a finding can lead to, whoever called and however severe.
    fn highest(&self, finding: &Finding) -> Decision {
        let decide = |affiliated| {
            let worst = Finding {
                severity: Some(10.0),
                nature: Nature::Detection,
                caller: Caller { addresses: Vec::new(), affiliated },
                ..finding.clone()
            };
            self.playbook.decide(&worst, None, Mode::Enforce).verdict.effective
        };
        [None, Some(true), Some(false)].into_iter().map(decide).max().unwrap()
    }
}

/// Firebreak, at home in the partition that the event says.
fn home(payload: &Value) -> Home {
    let partition = match payload.get("region").and_then(Value::as_str).unwrap_or_default() {
        region if region.starts_with("us-gov-") => Partition::AwsUsGov,
        region if region.starts_with("cn-") => Partition::AwsCn,
        _ => Partition::Aws,
    };
    Home { partition, account: ACCOUNT.parse().unwrap() }
}

/// Every text of a document.
fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(elements) => elements.iter().for_each(|element| collect(element, texts)),
        Value::Object(members) => members.values().for_each(|member| collect(member, texts)),
        _ => {}
    }
}

/// A principal that is well-formed in every part, and that the event names.
fn named_by(principal: &Principal, texts: &[&str]) -> Result<(), TestCaseError> {
    let name = principal.name.as_str();
    let in_a_name = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    prop_assert!((1..=64).contains(&name.len()) && name.chars().all(in_a_name), "`{}` is no name", name);
    prop_assert!(texts.iter().any(|text| text.contains(name)), "nobody named `{}`", name);
    prop_assert!(
        principal.account.as_str().len() == 12 && principal.account.as_str().bytes().all(|b| b.is_ascii_digit())
    );
    prop_assert!(is_incident(principal.incident_id().as_str()));
    if let Some(arn) = &principal.arn {
        prop_assert!(texts.iter().any(|text| text.contains(arn.as_str())), "nobody named `{}`", arn);
        prop_assert!(arn.chars().all(|c| c.is_ascii_graphic()) && arn.ends_with(name), "`{}` is no ARN", arn);
        let expected = format!(":iam::{}:{}/", principal.account, principal.name.kind());
        prop_assert!(arn.contains(&expected), "`{}` is not `{}`", arn, expected);
    }
    if let Some(id) = &principal.unique_id {
        prop_assert!(id.as_str().chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()), "`{}` is no id", id);
    }
    Ok(())
}

fn planned(principal: &Principal, plan: &Plan) -> Result<(), TestCaseError> {
    prop_assert!(!plan.steps.is_empty());
    for step in &plan.steps {
        let key = step.key();
        let in_a_key = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-/:".contains(c);
        prop_assert!(key.len() <= 400 && key.chars().all(in_a_key), "`{}` is no key", key);
        let on_it = key.ends_with(&format!("@{}", principal.name)) || key.contains(&format!(":{ACCOUNT}:function:"));
        prop_assert!(on_it, "`{}` is not about `{}`", key, principal.name);
    }
    Ok(())
}

fn is_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

fn is_incident(id: &str) -> bool {
    id.strip_prefix("fb-").is_some_and(|hex| hex.len() == 24 && hex.bytes().all(is_hex))
}

/// Printable ASCII, the sign for what was replaced, the sign for what was cut.
fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() || c == ' ' || c == '\u{fffd}' || c == '…'
}

fn is_a_reason(reason: &str) -> Result<(), TestCaseError> {
    prop_assert!(!reason.is_empty() && reason.len() < 4_000 && reason.chars().all(is_plain), "{:?}", reason);
    Ok(())
}

/// No text of a record, a page or an explanation holds anything but printable characters.
fn printable(value: &Value) -> Result<(), TestCaseError> {
    let mut texts = Vec::new();
    collect(value, &mut texts);
    for text in texts {
        prop_assert!(text.chars().all(is_plain), "{:?}", text);
    }
    Ok(())
}

/// Everything that an event points at.
pub(crate) fn subjects_of(payload: &Value) -> Vec<Subject> {
    match trigger::read(payload, &home(payload)) {
        Trigger::Findings(findings, _) => findings.into_iter().flat_map(|finding| finding.subjects).collect(),
        _ => Vec::new(),
    }
}
