//! Reads the principal that is really there: its path and unique id are what guard rails judge.

use aws_sdk_iam::Client;
use firebreak_model::principal::{Identity, PrincipalName};
use jiff::Timestamp;

use crate::action::{ActionError, Permission, Resource};

/// What reading a principal needs.
pub const PERMISSIONS: &[Permission] = &[
    Permission { action: "iam:GetRole", on: Resource::Role },
    Permission { action: "iam:GetUser", on: Resource::User },
];

/// Reads a role or user. One call.
pub async fn read(iam: &Client, name: &PrincipalName) -> Result<Identity, ActionError> {
    let (arn, path, id, created) = match name {
        PrincipalName::Role(role) => {
            let answer = iam.get_role().role_name(role.as_str()).send().await;
            let answer = answer.map_err(|e| ActionError::of("iam:GetRole", role.as_str(), e))?;
            answer.role.map(|r| (r.arn, r.path, r.role_id, Some(r.create_date))).unwrap_or_default()
        }
        PrincipalName::User(user) => {
            let answer = iam.get_user().user_name(user.as_str()).send().await;
            let answer = answer.map_err(|e| ActionError::of("iam:GetUser", user.as_str(), e))?;
            answer.user.map(|u| (u.arn, u.path, u.user_id, Some(u.create_date))).unwrap_or_default()
        }
    };
    let unique_id = id.parse().map_err(|error| ActionError::Unreadable {
        target: name.to_string(),
        problem: format!("IAM's answer holds no unique id: {error}"),
    })?;
    let created_at = created.and_then(|at| Timestamp::from_second(at.secs()).ok());
    Ok(Identity { arn, path, unique_id, created_at })
}
