//! The pre-deployed deny policy: whether it still denies, what fills the quota that keeps it out, and which of two things
//! is missing where IAM says that one is.

use aws_sdk_iam::Client;
use firebreak_model::ids::PolicyArn;
use firebreak_model::policy::denies_everything;
use firebreak_model::principal::PrincipalName;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::action::{ActionError, Permission, Resource, absent_is_none};
use crate::identity;

/// What [`emptied`] needs.
pub(super) const READ: [Permission; 2] = [
    Permission { action: "iam:GetPolicy", on: Resource::DenyPolicy },
    Permission { action: "iam:GetPolicyVersion", on: Resource::DenyPolicy },
];

/// The most policies that are told to fill a quota: no quota is higher.
const FILLING_MOST: usize = 25;

/// Why the deny policy denies nothing, or not everything: a policy that a thief emptied is attached like any other.
/// `None` where it is whole.
pub(crate) async fn emptied(iam: &Client, arn: &str) -> Result<Option<String>, ActionError> {
    let policy = iam.get_policy().policy_arn(arn).send().await.map_err(|e| ActionError::of("iam:GetPolicy", arn, e));
    let version = absent_is_none(policy)?.and_then(|answer| answer.policy).and_then(|policy| policy.default_version_id);
    let Some(version) = version else { return Ok(Some(format!("the deny policy `{arn}` does not exist any more"))) };
    let document = iam.get_policy_version().policy_arn(arn).version_id(&version).send().await;
    let document = absent_is_none(document.map_err(|e| ActionError::of("iam:GetPolicyVersion", arn, e)))?;
    let text = document.and_then(|answer| answer.policy_version).and_then(|version| version.document);
    let text = text.unwrap_or_default();
    let document: Value = serde_json::from_str(&percent_decode_str(&text).decode_utf8_lossy()).unwrap_or_default();
    if denies_everything(&document) {
        return Ok(None);
    }
    Ok(Some(format!("somebody changed the deny policy: version `{version}` of it does not deny everything")))
}

/// `NoSuchEntity` says that the principal is missing, or the policy that it was to get, and not which: this finds out.
pub(super) async fn which_is_gone(
    iam: &Client,
    call: &'static str,
    principal: PrincipalName,
    policy: &str,
    error: ActionError,
) -> ActionError {
    if !matches!(error, ActionError::Gone { .. }) {
        return error;
    }
    match identity::read(iam, &principal).await {
        Ok(_) => {
            let target = principal.as_str().to_owned();
            ActionError::PolicyGone { call, target, policy: policy.to_owned() }
        }
        Err(error) => error,
    }
}

/// The same error, where it is a quota with the policies that fill it. `attached` asks for them; where it gets no answer
/// the error stays as it is.
pub(super) async fn filled_by(
    error: ActionError,
    attached: impl Future<Output = Result<Vec<String>, ActionError>>,
) -> ActionError {
    match error {
        ActionError::Quota { call, target, source, .. } => {
            let attached = attached.await.unwrap_or_default();
            let filled_by: Vec<PolicyArn> =
                attached.iter().filter_map(|arn| arn.parse().ok()).take(FILLING_MOST).collect();
            ActionError::Quota { call, target, filled_by, source }
        }
        error => error,
    }
}
