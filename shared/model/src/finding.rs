//! A finding as Firebreak understands it: whatever the format it came in, one shape.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::named;
use crate::ids::{
    AccessKeyId, AccountId, DetectorId, FindingKey, FunctionArn, InstanceProfileArn, Region, TaskArn,
    TaskDefinitionArn, UniqueId,
};
use crate::principal::{Principal, PrincipalKind};

named!(
    /// Who sent the event. Enforcement only on sources that AWS itself sets, and on drills under the drill path.
    Source {
        /// `aws.guardduty`: only AWS can put events with this source on a bus.
        GuardDuty = "guardduty",
        /// `aws.securityhub`: set by AWS too, but what an event says may have been imported by anyone in the account.
        SecurityHub = "securityhub",
        /// An API call that CloudTrail recorded; the source is that of the service called, `aws.*`.
        CloudTrail = "cloudtrail",
        /// A record of the guard in the ledger: never an event that somebody could send.
        Guard = "guard",
        /// `firebreak.drill`: game days. Acts under the drill path only.
        Drill = "drill",
    }
);

named!(
    /// The format of an event's `detail`.
    Format {
        /// A GuardDuty finding, in camelCase or PascalCase.
        GuardDuty = "guardduty",
        /// The AWS Security Finding Format of Security Hub, imported or sent by a custom action.
        Asff = "securityhub-asff",
        /// The Open Cybersecurity Schema Framework of Security Hub V2.
        Ocsf = "securityhub-ocsf",
        /// A CloudTrail record.
        CloudTrail = "cloudtrail",
    }
);

named!(
    /// What a finding is about.
    Nature {
        /// Something happened.
        Detection = "detection",
        /// Something is configured or built badly: no sign that anyone was there.
        Posture = "posture",
    }
);

named!(
    /// What a subject is.
    SubjectKind {
        /// An IAM role.
        Role = "role",
        /// An IAM user.
        User = "user",
        /// A Lambda function.
        Function = "function",
    }
);

impl From<PrincipalKind> for SubjectKind {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::Role => Self::Role,
            PrincipalKind::User => Self::User,
        }
    }
}

/// The path under which principals must lie for a drill to act on them.
pub const DRILL_PATH: &str = "/firebreak-drill/";

/// How the principal is found that a finding does not name itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Lookup {
    /// The execution role of a function.
    Function {
        /// Which.
        function: FunctionArn,
    },
    /// The role of an instance profile: the profile's name is not the role's.
    InstanceProfile {
        /// Which.
        arn: InstanceProfileArn,
    },
    /// The task role of an ECS task: the running task's override first, then its definition's. Not the execution role.
    Task {
        /// The task.
        #[serde(skip_serializing_if = "Option::is_none")]
        task: Option<TaskArn>,
        /// Its definition.
        #[serde(skip_serializing_if = "Option::is_none")]
        definition: Option<TaskDefinitionArn>,
    },
    /// The role or user of a unique id.
    UniqueId {
        /// Role or user.
        kind: PrincipalKind,
        /// Its id.
        id: UniqueId,
    },
    /// The user whose key minted a federated session: CloudTrail's records of the session name it.
    Federation {
        /// The session's access key.
        access_key: AccessKeyId,
    },
}

impl Lookup {
    /// Role or user.
    pub fn kind(&self) -> PrincipalKind {
        match self {
            Self::UniqueId { kind, .. } => *kind,
            Self::Function { .. } | Self::InstanceProfile { .. } | Self::Task { .. } => PrincipalKind::Role,
            Self::Federation { .. } => PrincipalKind::User,
        }
    }

    /// The ARN that it starts from.
    pub fn arn(&self) -> Option<String> {
        match self {
            Self::Function { function } => Some(function.to_string()),
            Self::InstanceProfile { arn } => Some(arn.to_string()),
            Self::Task { task, definition } => {
                task.as_ref().map(ToString::to_string).or_else(|| definition.as_ref().map(ToString::to_string))
            }
            Self::UniqueId { .. } | Self::Federation { .. } => None,
        }
    }

    /// The function whose role is looked for.
    pub fn function(&self) -> Option<&FunctionArn> {
        match self {
            Self::Function { function } => Some(function),
            Self::InstanceProfile { .. } | Self::Task { .. } | Self::UniqueId { .. } | Self::Federation { .. } => None,
        }
    }
}

impl std::fmt::Display for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Function { function } => write!(f, "the execution role of `{function}`"),
            Self::InstanceProfile { arn } => write!(f, "the role of instance profile `{arn}`"),
            Self::Task { .. } => write!(f, "the task role of `{}`", self.arn().unwrap_or_default()),
            Self::UniqueId { kind, id } => write!(f, "the {kind} with id `{id}`"),
            Self::Federation { access_key } => write!(f, "the user who minted the federated session `{access_key}`"),
        }
    }
}

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
    /// A role or user that the finding does not name: AWS, or an inventory, says which.
    Lookup {
        /// How to find it.
        lookup: Lookup,
        /// The access key that the finding names.
        #[serde(skip_serializing_if = "Option::is_none")]
        access_key: Option<AccessKeyId>,
    },
    /// Something that cannot be contained, and why.
    NotContainable {
        /// Role, user or function, where it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<SubjectKind>,
        /// What the finding names, cleaned for display.
        what: String,
        /// Why not.
        reason: String,
    },
}

impl Subject {
    /// Something that cannot be contained.
    pub(crate) fn not_containable(kind: Option<SubjectKind>, what: &str, reason: impl Into<String>) -> Self {
        Self::NotContainable { kind, what: crate::ids::shown(what), reason: reason.into() }
    }

    /// The subject of a finding that names no account, or none that can be one.
    fn of_no_account(self) -> Self {
        let reason = "the finding names no account that could be one";
        match self {
            Self::Principal { principal, .. } => {
                Self::not_containable(Some(principal.name.kind().into()), principal.name.as_str(), reason)
            }
            Self::Lookup { lookup, .. } => {
                Self::not_containable(Some(lookup.kind().into()), &lookup.to_string(), reason)
            }
            Self::NotContainable { .. } => self,
        }
    }

    /// The same, now that the principal is known: what it was looked up for, or with its path. What cannot be contained
    /// stays so.
    #[must_use]
    pub fn known_as(self, principal: Principal) -> Self {
        match self {
            Self::Lookup { lookup, access_key } => {
                Self::Principal { principal, access_key, function: lookup.function().cloned() }
            }
            Self::Principal { access_key, function, .. } => Self::Principal { principal, access_key, function },
            Self::NotContainable { .. } => self,
        }
    }

    /// A principal without more.
    pub(crate) fn principal(principal: Principal) -> Self {
        Self::Principal { principal, access_key: None, function: None }
    }
}

/// From where the calls came that a finding is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The remote addresses that the finding names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Whether the other AWS account belongs to the same organisation or administrator: `affiliated`, as GuardDuty says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affiliated: Option<bool>,
}

/// A finding, with everything that a decision needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its id, cleaned for display where it is not a well-formed one.
    pub id: String,
    /// `ThreatPurpose:ResourceTypeAffected/ThreatFamilyName`, cleaned for display; for a CloudTrail record
    /// `CloudTrail:service/EventName`.
    pub finding_type: String,
    /// 1.0–10.0, as the event says; `None` where it does not.
    pub severity: Option<f64>,
    /// The account that the finding is about.
    pub account: Option<AccountId>,
    /// The Region that it was found in.
    pub region: Option<Region>,
    /// Who sent it.
    pub source: Source,
    /// The format that it came in.
    pub format: Format,
    /// What it is about.
    pub nature: Nature,
    /// When the activity was first seen: the thief's head start counts from here.
    pub first_seen: Option<Timestamp>,
    /// When it was last seen: decides whether a released incident reopens.
    pub last_seen: Option<Timestamp>,
    /// Which update of the finding this is, verbatim.
    pub updated_at: String,
    /// A sample that somebody generated.
    pub sample: bool,
    /// Archived, suppressed or resolved: still delivered, not to be acted on.
    pub archived: bool,
    /// The kinds of resource that it names, verbatim but cleaned for display: `AccessKey`, `AwsIamRole`, ….
    pub resource_types: Vec<String>,
    /// The product that imported it into Security Hub (an ARN), cleaned for display.
    pub product: Option<String>,
    /// The custom action by which a person sent it from Security Hub's console: the last part of the action's ARN.
    pub custom_action: Option<String>,
    /// From where the calls came.
    pub caller: Caller,
    /// The detector to read it from again, where an attack sequence came without its sequence.
    pub reread_from: Option<DetectorId>,
    /// What it points at, in the order of the event, without duplicates; never empty.
    pub subjects: Vec<Subject>,
}

/// The most that one finding may point at: its record must fit in the ledger, and one event must not have AWS called
/// without end. Real ones point at a handful.
pub const MOST_SUBJECTS: usize = 50;

/// Each subject once, in the order of the event, as long as there are no more than `most`. Of more, those that nobody can
/// contain give way first; what is left out is said.
fn at_most(most: usize, subjects: impl Iterator<Item = Subject>) -> Vec<Subject> {
    let cannot = |subject: &Subject| matches!(subject, Subject::NotContainable { .. });
    let mut kept: Vec<Subject> = Vec::new();
    let mut cut = false;
    for subject in subjects {
        if kept.contains(&subject) {
            continue;
        }
        if kept.len() < most {
            kept.push(subject);
            continue;
        }
        cut = true;
        if !cannot(&subject)
            && let Some(gives_way) = kept.iter().rposition(cannot)
        {
            kept.remove(gives_way);
            kept.push(subject);
        }
    }
    if cut {
        let reason = "it points at more roles, users and functions than Firebreak takes from one event: look at the \
                      event and contain the others by hand";
        kept.push(Subject::not_containable(None, "the rest of the finding", reason));
    }
    kept
}

impl Finding {
    /// A finding of which no more is known than what every event has.
    pub(crate) fn new(id: &str, finding_type: &str, source: Source, format: Format) -> Self {
        Self {
            id: crate::ids::shown_id(id),
            finding_type: crate::ids::shown_id(finding_type),
            severity: None,
            account: None,
            region: None,
            source,
            format,
            nature: Nature::Detection,
            first_seen: None,
            last_seen: None,
            updated_at: String::new(),
            sample: false,
            archived: false,
            resource_types: Vec::new(),
            product: None,
            custom_action: None,
            caller: Caller::default(),
            reread_from: None,
            subjects: Vec::new(),
        }
    }

    /// The key of this update of the finding.
    pub fn key(&self) -> FindingKey {
        FindingKey::of(&self.id, &self.updated_at)
    }

    /// The account that its principals belong to unless it says otherwise; nobody's where it names none.
    pub(crate) fn owner(&self) -> AccountId {
        self.account.clone().unwrap_or_else(AccountId::nobody)
    }

    /// Keeps no more than `most` of what it points at.
    pub(crate) fn cut_to(&mut self, most: usize) {
        if self.subjects.len() > most {
            self.subjects = at_most(most, std::mem::take(&mut self.subjects).into_iter());
        }
    }

    /// Sets what it points at: each once, and a reason where there is nothing. Without an account nobody is containable.
    pub(crate) fn pointing_at(mut self, subjects: Vec<Subject>) -> Self {
        let nowhere = self.account.is_none();
        let subjects = subjects.into_iter().map(|s| if nowhere { s.of_no_account() } else { s });
        self.subjects = at_most(MOST_SUBJECTS, subjects);
        if self.subjects.is_empty() {
            let what =
                if self.resource_types.is_empty() { "no resource".to_owned() } else { self.resource_types.join(", ") };
            let reason = "the finding names no role, user or function that could be contained";
            self.subjects.push(Subject::not_containable(None, &what, reason));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn role(number: usize) -> Subject {
        Subject::principal(Principal::from_arn(&format!("arn:aws:iam::111122223333:role/r{number}")).unwrap())
    }

    fn nobody(number: usize) -> Subject {
        Subject::not_containable(None, &format!("n{number}"), "a database user")
    }

    fn is_rest(subject: &Subject) -> bool {
        matches!(subject, Subject::NotContainable { what, .. } if what == "the rest of the finding")
    }

    #[test]
    fn of_too_many_subjects_the_containable_stay_and_the_cut_is_said() {
        let few: Vec<Subject> = vec![nobody(1), role(1), nobody(1), role(2)];
        assert_eq!(at_most(3, few.into_iter()), [nobody(1), role(1), role(2)]);
        let junk_first = (0..5_000).map(nobody).chain((0..3).map(role)).chain((0..5_000).map(nobody));
        let kept = at_most(10, junk_first);
        assert_eq!(kept.len(), 11);
        assert!((0..3).all(|number| kept.contains(&role(number))), "junk does not push a role out");
        assert!(kept.last().is_some_and(is_rest));
        let again = at_most(5, kept.into_iter());
        assert_eq!((again.len(), again.iter().filter(|subject| is_rest(subject)).count()), (6, 1));
        assert!((0..3).all(|number| again.contains(&role(number))));
    }
}
