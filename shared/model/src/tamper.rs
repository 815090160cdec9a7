//! What somebody did against a containment or against Firebreak itself: the guard's record of it, which the stream
//! makes pages, put-backs and findings of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::SCHEMA;
use crate::action::{FunctionName, named};
use crate::finding::{Finding, Format, Source, Subject};
use crate::ids::{IncidentId, digest};
use crate::principal::Home;

named!(
    /// What was done.
    Nature {
        /// Something of a containment was undone.
        Undone = "undone",
        /// What was ordered was not carried out: the guard rails were not held against who is there.
        Unbegun = "unbegun",
        /// A contained principal made itself a role or a user.
        Minted = "minted",
        /// A contained principal opened itself something that was there before.
        Widened = "widened",
        /// The contained role or user was deleted and made again under its name.
        Recreated = "recreated",
        /// Who may assume a contained role was changed.
        TrustChanged = "trust_changed",
        /// A part of Firebreak was changed.
        OwnPart = "own_part",
    }
);

/// Where tampering with Firebreak itself is kept, which belongs to no incident.
pub const OWN: &str = "own";

/// The call that did it, as CloudTrail has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenCall {
    /// The id of its event.
    pub event_id: String,
    /// Service and name: `iam:DetachRolePolicy`.
    pub name: String,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub region: String,
    /// From where.
    pub address: String,
}

/// A record of tampering. Written once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tamper {
    /// The version of this layout.
    pub schema: u32,
    /// The incident; none for Firebreak's own parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_id: Option<IncidentId>,
    /// Its episode; 0 for Firebreak's own parts.
    pub episode: u32,
    /// 24 hex digits, of what was found, where and when: the same call is one record, however often delivered.
    pub key: String,
    /// When it was found.
    pub at: Timestamp,
    /// What was done.
    pub nature: Nature,
    /// In a sentence.
    pub detail: String,
    /// The keys of the steps that are to be applied again.
    #[serde(default)]
    pub steps: Vec<String>,
    /// Whose they are.
    #[serde(default)]
    pub owners: Vec<FunctionName>,
    /// The call, where CloudTrail told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<SeenCall>,
    /// Who did it, where CloudTrail told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Subject>,
    /// Whom a decision is asked about: the one who did it, or what was minted.
    #[serde(default)]
    pub suspects: Vec<Subject>,
    /// A game day's.
    pub drill: bool,
}

impl Tamper {
    /// Steps of an incident that had been applied and were found undone.
    pub fn undone(
        incident: &crate::ledger::Incident,
        steps: Vec<(String, String)>,
        owners: Vec<FunctionName>,
        at: Timestamp,
    ) -> Self {
        let detail: Vec<String> = steps.iter().map(|(step, found)| format!("`{step}`: {found}")).collect();
        let steps: Vec<String> = steps.into_iter().map(|(step, _)| step).collect();
        let key = key_of(&[Nature::Undone.as_str(), &steps.join(" "), &at.to_string()]);
        Self {
            schema: SCHEMA,
            incident_id: Some(incident.incident_id.clone()),
            episode: incident.episode,
            key,
            at,
            nature: Nature::Undone,
            detail: detail.join("; "),
            steps,
            owners,
            call: None,
            actor: None,
            suspects: Vec::new(),
            drill: incident.drill,
        }
    }

    /// An incident that was ordered, and that nobody has held to the guard rails since: it is to be gone on with.
    pub fn unbegun(incident: &crate::ledger::Incident, at: Timestamp) -> Self {
        let detail = format!(
            "it was ordered at {}, and nobody has held it to the guard rails since: neither the read of the principal nor \
             another try has succeeded",
            incident.ordered_since()
        );
        Self {
            key: key_of(&[Nature::Unbegun.as_str(), &at.to_string()]),
            nature: Nature::Unbegun,
            detail,
            ..Self::undone(incident, Vec::new(), vec![FunctionName::QuarantinePrincipal], at)
        }
    }

    /// The part of the partition key after `tamper#`.
    pub fn subject(&self) -> String {
        self.incident_id.as_ref().map_or_else(|| OWN.to_owned(), ToString::to_string)
    }

    /// What pages it once: the same steps undone again by the same hand are no new occasion.
    pub fn occasion(&self) -> String {
        let who = self.actor.as_ref().map(|actor| serde_json::to_string(actor).unwrap_or_default());
        let call = self.call.as_ref().filter(|_| self.nature != Nature::Undone).map(|call| call.event_id.as_str());
        let parts = [self.steps.join(" "), who.unwrap_or_default(), call.unwrap_or_default().to_owned()];
        let [steps, who, call] = &parts;
        format!("{}-{}", self.nature, key_of(&[steps, who, call]))
    }
}

impl Tamper {
    /// The finding that the playbook decides about: our own, on the word of the record; `None` where nobody is suspected.
    pub fn finding(&self, home: &Home) -> Option<Finding> {
        if self.suspects.is_empty() {
            return None;
        }
        let name = match self.nature {
            Nature::Undone | Nature::Unbegun | Nature::TrustChanged => "Firebreak:IAM/ContainmentUndone",
            Nature::Minted => "Firebreak:IAM/MintedByContained",
            Nature::Widened => "Firebreak:IAM/WidenedByContained",
            Nature::Recreated => RECREATED,
            Nature::OwnPart => "Firebreak:Self/PartChanged",
        };
        let source = if self.drill { Source::Drill } else { Source::Guard };
        let mut finding = Finding::new(&format!("firebreak-{}", self.key), name, source, Format::CloudTrail);
        let at = self.call.as_ref().map_or(self.at, |call| call.at);
        finding.severity = Some(8.0);
        finding.account = Some(home.account.clone());
        finding.region = self.call.as_ref().and_then(|call| call.region.parse().ok());
        finding.first_seen = Some(at);
        finding.last_seen = Some(at);
        finding.updated_at = self.at.to_string();
        Some(finding.pointing_at(self.suspects.clone()))
    }
}

/// The type of the finding on a contained principal that was deleted and made again: it alone moves an incident to the
/// new one.
pub const RECREATED: &str = "Firebreak:IAM/RecreatedWhileContained";

/// The key of a record, from what tells it from others.
pub fn key_of(parts: &[&str]) -> String {
    digest(parts).chars().take(24).collect()
}

/// Whether a text can be the key of a record.
pub fn is_key(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
