//! The principal that an incident is about, and what was read of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::named;
use crate::ids::{AccountId, IncidentId, InvalidId, Partition, RoleArn, RoleName, UniqueId, UserArn, UserName};

named!(
    /// Role or user: never guessed from the name.
    PrincipalKind {
        /// An IAM role.
        Role = "role",
        /// An IAM user.
        User = "user",
    }
);

/// The typed name of a principal: a role and a user of the same name are two things.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "lowercase")]
pub enum PrincipalName {
    /// A role, by its friendly name.
    Role(RoleName),
    /// A user, by its friendly name.
    User(UserName),
}

impl PrincipalName {
    /// Role or user.
    pub fn kind(&self) -> PrincipalKind {
        match self {
            Self::Role(_) => PrincipalKind::Role,
            Self::User(_) => PrincipalKind::User,
        }
    }

    /// The friendly name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Role(name) => name.as_str(),
            Self::User(name) => name.as_str(),
        }
    }
}

impl std::fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind(), self.as_str())
    }
}

/// A principal as a finding or a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The owning account.
    pub account: AccountId,
    /// Kind and name.
    #[serde(flatten)]
    pub name: PrincipalName,
    /// The ARN with its path, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The unique id, as far as it is known: pinned, so that a namesake made later is not touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_id: Option<UniqueId>,
}

impl Principal {
    /// The incident that this principal's containment is kept under.
    pub fn incident_id(&self) -> IncidentId {
        IncidentId::of(&self.account, self.name.kind().as_str(), self.name.as_str())
    }

    /// The path, where the ARN is known.
    pub fn path(&self) -> Option<&str> {
        let arn = self.arn.as_deref()?;
        let resource = arn.splitn(6, ':').nth(5)?;
        let from = resource.find('/')?;
        let to = resource.rfind('/')?;
        resource.get(from..=to)
    }

    /// A principal named by its ARN.
    pub fn from_arn(text: &str) -> Result<Self, InvalidId> {
        if let Ok(arn) = text.parse::<UserArn>() {
            return Ok(Self {
                account: arn.account().clone(),
                name: PrincipalName::User(arn.name().clone()),
                arn: Some(arn.to_string()),
                unique_id: None,
            });
        }
        let arn = text.parse::<RoleArn>()?;
        Ok(Self {
            account: arn.account().clone(),
            name: PrincipalName::Role(arn.name().clone()),
            arn: Some(arn.to_string()),
            unique_id: None,
        })
    }
}

/// What `GetRole` or `GetUser` said: the identity that is really there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The full ARN.
    pub arn: String,
    /// The path, with its slashes.
    pub path: String,
    /// The unique id.
    pub unique_id: UniqueId,
    /// When it was made, where IAM says.
    pub created_at: Option<Timestamp>,
}

/// Where Firebreak runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The partition.
    pub partition: Partition,
    /// The account that it is deployed in: the only one it contains in.
    pub account: AccountId,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_role_and_a_user_of_one_name_are_two_incidents() {
        let role = Principal::from_arn("arn:aws:iam::111122223333:role/team/orders").unwrap();
        let user = Principal::from_arn("arn:aws:iam::111122223333:user/orders").unwrap();
        assert_ne!(role.incident_id(), user.incident_id());
        assert_eq!(role.path(), Some("/team/"));
        assert_eq!(user.path(), Some("/"));
    }

    #[test]
    fn the_path_does_not_make_another_incident() {
        let a = Principal::from_arn("arn:aws:iam::111122223333:role/team/orders").unwrap();
        let b = Principal::from_arn("arn:aws:iam::111122223333:role/orders").unwrap();
        assert_eq!(a.incident_id(), b.incident_id());
    }
}
