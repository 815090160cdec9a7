//! An inline policy under a name that is ours alone: read, written and deleted as IAM's calls for roles and users have it.
//! What stands in it, the action that has the name says.

use aws_sdk_iam::Client;
use firebreak_model::plan::Target;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::action::{ActionError, absent_is_none};

/// The policy of that name.
#[derive(Debug, Clone)]
pub(super) struct InlinePolicy {
    iam: Client,
    name: &'static str,
}

fn no_principal(target: &Target) -> ActionError {
    ActionError::Unreadable { target: target.to_string(), problem: "it is no role or user".to_owned() }
}

impl InlinePolicy {
    pub(super) fn new(iam: Client, name: &'static str) -> Self {
        Self { iam, name }
    }

    /// The document that stands under the name on a role or user.
    pub(super) async fn document(&self, target: &Target) -> Result<Option<Value>, ActionError> {
        let encoded = match target {
            Target::Role(role) => {
                let get = self.iam.get_role_policy().role_name(role.as_str()).policy_name(self.name);
                let answer = get.send().await.map_err(|e| ActionError::of("iam:GetRolePolicy", role.as_str(), e));
                absent_is_none(answer)?.map(|a| a.policy_document)
            }
            Target::User(user) => {
                let get = self.iam.get_user_policy().user_name(user.as_str()).policy_name(self.name);
                let answer = get.send().await.map_err(|e| ActionError::of("iam:GetUserPolicy", user.as_str(), e));
                absent_is_none(answer)?.map(|a| a.policy_document)
            }
            Target::Function(_) => return Err(no_principal(target)),
        };
        // IAM gives documents URL-encoded. One that does not parse is somebody else's, whatever it is.
        Ok(encoded.map(|text| {
            serde_json::from_str(&percent_decode_str(&text).decode_utf8_lossy()).unwrap_or(Value::String(text))
        }))
    }

    /// Writes the document, whatever stood under the name.
    pub(super) async fn put(&self, target: &Target, document: &Value) -> Result<(), ActionError> {
        let document = document.to_string();
        match target {
            Target::Role(role) => {
                let put = self.iam.put_role_policy().role_name(role.as_str()).policy_name(self.name);
                let answer = put.policy_document(document).send().await;
                answer.map(|_| ()).map_err(|e| ActionError::of("iam:PutRolePolicy", role.as_str(), e))
            }
            Target::User(user) => {
                let put = self.iam.put_user_policy().user_name(user.as_str()).policy_name(self.name);
                let answer = put.policy_document(document).send().await;
                answer.map(|_| ()).map_err(|e| ActionError::of("iam:PutUserPolicy", user.as_str(), e))
            }
            Target::Function(_) => Err(no_principal(target)),
        }
    }

    /// Deletes the policy. That it is gone already is as well.
    pub(super) async fn delete(&self, target: &Target) -> Result<(), ActionError> {
        let deleted = match target {
            Target::Role(role) => {
                let delete = self.iam.delete_role_policy().role_name(role.as_str()).policy_name(self.name);
                let answer = delete.send().await;
                answer.map(|_| ()).map_err(|e| ActionError::of("iam:DeleteRolePolicy", role.as_str(), e))
            }
            Target::User(user) => {
                let delete = self.iam.delete_user_policy().user_name(user.as_str()).policy_name(self.name);
                let answer = delete.send().await;
                answer.map(|_| ()).map_err(|e| ActionError::of("iam:DeleteUserPolicy", user.as_str(), e))
            }
            Target::Function(_) => Err(no_principal(target)),
        };
        absent_is_none(deleted).map(|_| ())
    }
}
