//! A call: what is asked for, on what, by whom, with which condition keys.

use std::collections::BTreeMap;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A role or user of IAM, by its ARN, path included; a session of a role is its role, and has its own ARN too.
    Principal {
        /// The ARN, as `aws:PrincipalArn` has it.
        arn: String,
        /// The session's ARN, where it is one.
        session: Option<String>,
    },
    /// A service, as `events.amazonaws.com`.
    Service(String),
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The action, as `iam:AttachRolePolicy`.
    pub action: String,
    /// The ARN, or `*` where the action has none.
    pub resource: String,
    /// Who calls.
    pub caller: Caller,
    keys: BTreeMap<String, Vec<String>>,
}

impl Request {
    /// A call with the condition keys that follow from its caller.
    pub fn new(caller: Caller, action: &str, resource: &str) -> Self {
        let mut request =
            Self { action: action.to_owned(), resource: resource.to_owned(), caller, keys: BTreeMap::new() };
        let mut service = "true";
        if let Caller::Principal { arn, .. } = &request.caller {
            let account = arn.split(':').nth(4).unwrap_or_default().to_owned();
            let arn = arn.clone();
            request = request.with("aws:PrincipalArn", [arn]).with("aws:PrincipalAccount", [account]);
            service = "false";
        }
        request.with("aws:PrincipalIsAWSService", [service])
    }

    /// The same call with a condition key more.
    #[must_use]
    pub fn with<T: Into<String>>(mut self, key: &str, values: impl IntoIterator<Item = T>) -> Self {
        self.keys.insert(key.to_ascii_lowercase(), values.into_iter().map(Into::into).collect());
        self
    }

    /// The values of a condition key, whose name is matched whatever its case; none where it is absent.
    pub fn key(&self, name: &str) -> Option<&[String]> {
        self.keys.get(&name.to_ascii_lowercase()).map(Vec::as_slice)
    }

    /// Every condition key, in small letters.
    pub fn keys(&self) -> &BTreeMap<String, Vec<String>> {
        &self.keys
    }
}
