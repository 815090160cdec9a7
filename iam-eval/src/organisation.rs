//! The organisation's service control policy, as it is deployed: `org/scp.json` with its names put in.

pub mod table;

use serde_json::Value;

/// The document with its placeholders.
pub const TEMPLATE: &str = include_str!("../../org/scp.json");

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
}

impl Names {
    /// The document.
    ///
    /// # Errors
    /// Where the template is no JSON.
    pub fn document(&self) -> Result<Value, serde_json::Error> {
        let mut document = serde_json::from_str(TEMPLATE)?;
        self.put_in(&mut document);
        Ok(document)
    }

    fn put_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = text.replace("${StackName}", &self.stack),
            Value::Object(members) => members.values_mut().for_each(|member| self.put_in(member)),
            Value::Array(items) => {
                let list = |item: &Value| match item.as_str() {
                    Some("${DeployerRoles}") => self.deployers.iter().cloned().map(Value::String).collect(),
                    Some("${ResponderRoles}") => self.responders.iter().cloned().map(Value::String).collect(),
                    Some("${BoundaryRoles}") => self.boundaries.iter().cloned().map(Value::String).collect(),
                    _ => vec![item.clone()],
                };
                *items = items.iter().flat_map(list).collect();
                for item in items {
                    self.put_in(item);
                }
            }
            _ => {}
        }
    }
}
