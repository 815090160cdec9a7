//! Whom a statement of a resource's policy names.

use serde_json::Value;

use crate::pattern;
use crate::policy::Unreadable;
use crate::request::Caller;

/// Whom a statement names, or all but whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principals {
    everyone: bool,
    aws: Vec<String>,
    services: Vec<String>,
}

impl Principals {
    pub(crate) fn read(value: &Value) -> Result<Self, Unreadable> {
        let mut principals = Self { everyone: false, aws: Vec::new(), services: Vec::new() };
        if value.as_str() == Some("*") {
            principals.everyone = true;
            return Ok(principals);
        }
        let kinds = value.as_object().ok_or_else(|| Unreadable::at("Principal", value))?;
        for (kind, names) in kinds {
            let names = crate::policy::texts("Principal", names)?;
            match kind.as_str() {
                "AWS" => principals.aws.extend(names),
                "Service" => principals.services.extend(names),
                _ => return Err(Unreadable::at("Principal", value)),
            }
        }
        principals.everyone = principals.aws.iter().any(|name| name == "*");
        Ok(principals)
    }

    /// Whether the caller is named: by its ARN, its session's, or its account. Wildcards within an ARN are none here.
    pub(crate) fn names(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Service(name) => self.everyone || self.services.contains(name),
            Caller::Principal { arn, session } => {
                let account = arn.split(':').nth(4).unwrap_or_default();
                self.everyone
                    || self.aws.iter().any(|name| {
                        name == arn
                            || Some(name) == session.as_ref()
                            || name == account
                            || (name.ends_with(":root") && pattern::arn_matches(name, &with_root(arn)))
                    })
            }
        }
    }
}

/// The ARN of the account's root, which stands for the account.
fn with_root(arn: &str) -> String {
    let mut parts: Vec<&str> = arn.splitn(6, ':').collect();
    if let Some(last) = parts.last_mut() {
        *last = "root";
    }
    parts.join(":")
}
