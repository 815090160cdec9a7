//! The organisation's service control policies, as they are deployed: the documents in `org/` with their names put in.

pub mod table;

use serde_json::Value;

/// A policy of the organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scp {
    /// A quarantine ends by release only, and Firebreak's own parts stay.
    Containment,
    /// Nobody makes identities, or goes on into other roles, but the roles that are named. Optional.
    Identities,
}

impl Scp {
    /// Both, as the template deploys them.
    pub const ALL: [Self; 2] = [Self::Containment, Self::Identities];

    /// The document with its placeholders.
    pub fn template(self) -> &'static str {
        match self {
            Self::Containment => include_str!("../../org/containment.json"),
            Self::Identities => include_str!("../../org/identities.json"),
        }
    }
}

/// What is put in for the placeholders.
#[derive(Debug, Clone)]
pub struct Names {
    /// The stack in the member accounts.
    pub stack: String,
    /// ARN patterns of the roles that deploy: they alone may change Firebreak's own parts.
    pub deployers: Vec<String>,
    /// ARN patterns of the roles of the people who contain and release.
    pub responders: Vec<String>,
    /// ARN patterns of the roles that may set permissions boundaries, beside Firebreak's own.
    pub boundaries: Vec<String>,
    /// ARN patterns of the roles that may make users, keys and roles, beside the deployers.
    pub identities: Vec<String>,
    /// ARN patterns of the roles that may assume others.
    pub chains: Vec<String>,
}

impl Names {
    /// The document of a policy.
    ///
    /// # Errors
    /// Where the template is no JSON.
    pub fn document(&self, policy: Scp) -> Result<Value, serde_json::Error> {
        let mut document = serde_json::from_str(policy.template())?;
        self.put_in(&mut document);
        Ok(document)
    }

    fn put_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = text.replace("${StackName}", &self.stack),
            Value::Object(members) => members.values_mut().for_each(|member| self.put_in(member)),
            Value::Array(items) => {
                *items = items.iter().flat_map(|item| self.listed(item)).collect();
                for item in items {
                    self.put_in(item);
                }
            }
            _ => {}
        }
    }

    /// The patterns that a member of a list stands for, or the member.
    fn listed(&self, item: &Value) -> Vec<Value> {
        let patterns = match item.as_str() {
            Some("${DeployerRoles}") => &self.deployers,
            Some("${ResponderRoles}") => &self.responders,
            Some("${BoundaryRoles}") => &self.boundaries,
            Some("${IdentityRoles}") => &self.identities,
            Some("${ChainRoles}") => &self.chains,
            _ => return vec![item.clone()],
        };
        patterns.iter().cloned().map(Value::String).collect()
    }
}
