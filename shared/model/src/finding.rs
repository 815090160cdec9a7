//! A finding as Firebreak understands it: whatever the format it came in, one shape.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::named;
use crate::ids::{AccessKeyId, AccountId, FindingKey, FunctionArn, Region};
use crate::principal::Principal;

named!(
    /// Who sent the event. Enforcement only on sources that AWS itself sets, and on drills under the drill path.
    Source {
        /// `aws.guardduty`: only AWS can put events with this source on a bus.
        GuardDuty = "guardduty",
        /// `firebreak.drill`: game days. Acts under the drill path only.
        Drill = "drill",
    }
);

/// The path under which principals must lie for a drill to act on them.
pub const DRILL_PATH: &str = "/firebreak-drill/";

/// What a finding points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "subject", rename_all = "snake_case")]
pub enum Subject {
    /// A role or user that can be contained.
    Principal {
        /// Who.
        principal: Principal,
        /// The access key that the finding names.
        #[serde(skip_serializing_if = "Option::is_none")]
        access_key: Option<AccessKeyId>,
        /// A function that runs as the principal, as the finding names it.
        #[serde(skip_serializing_if = "Option::is_none")]
        function: Option<FunctionArn>,
    },
    /// A function whose role the finding does not say: its configuration does.
    Function {
        /// Which.
        function: FunctionArn,
    },
    /// Something that cannot be contained, and why.
    NotContainable {
        /// What the finding names, cleaned for display.
        what: String,
        /// Why not.
        reason: String,
    },
}

/// A finding, with everything that a decision needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its id, cleaned for display where it is not a well-formed one.
    pub id: String,
    /// `ThreatPurpose:ResourceTypeAffected/ThreatFamilyName`, cleaned for display.
    pub finding_type: String,
    /// 1.0–10.0, as the event says; `None` where it does not.
    pub severity: Option<f64>,
    /// The account that the finding is about.
    pub account: Option<AccountId>,
    /// The Region that it was found in.
    pub region: Option<Region>,
    /// Who sent it.
    pub source: Source,
    /// When the activity was first seen: the thief's head start counts from here.
    pub first_seen: Option<Timestamp>,
    /// When it was last seen: decides whether a released incident reopens.
    pub last_seen: Option<Timestamp>,
    /// Which update of the finding this is, verbatim.
    pub updated_at: String,
    /// A sample that somebody generated.
    pub sample: bool,
    /// Archived: still delivered, not to be acted on.
    pub archived: bool,
    /// What it points at, in the order of the event, without duplicates.
    pub subjects: Vec<Subject>,
}

impl Finding {
    /// The key of this update of the finding.
    pub fn key(&self) -> FindingKey {
        FindingKey::of(&self.id, &self.updated_at)
    }
}
