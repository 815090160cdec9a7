//! A policy document, read strictly, and its judgement of a call.

use serde_json::Value;

use crate::condition::Condition;
use crate::pattern;
use crate::principal::Principals;
use crate::request::Request;

/// What cannot be read, and so is not judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A member is missing, or not of its form.
    #[error("`{member}` is not of its form: `{found}`")]
    Member {
        /// Its name.
        member: String,
        /// What was found.
        found: String,
    },
    /// A condition operator that is not known here.
    #[error("the operator `{0}` is not known, or its value is none")]
    Operator(String),
    /// A policy variable, which is not resolved here.
    #[error("`{0}` holds a policy variable")]
    Variable(String),
}

impl Unreadable {
    pub(crate) fn at(member: &str, found: &Value) -> Self {
        Self::Member { member: member.to_owned(), found: found.to_string() }
    }
}

/// What a document says about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A statement denies it, by its `Sid`: nothing can allow it.
    Denied(String),
    /// A statement allows it, and none denies it.
    Allowed,
    /// No statement is about it.
    Silent,
}

/// A policy document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

/// Which of a list, or all but which.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice<T> {
    of: T,
    inverted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    sid: String,
    denies: bool,
    actions: Choice<Vec<String>>,
    resources: Option<Choice<Vec<String>>>,
    principals: Option<Choice<Principals>>,
    conditions: Vec<Condition>,
}

const MEMBERS: [&str; 9] =
    ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal", "Condition"];

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    /// Where a member is not known or not of its form.
    pub fn read(document: &Value) -> Result<Self, Unreadable> {
        let found = document.get("Statement").unwrap_or(&Value::Null);
        let statements = match found {
            Value::Array(all) => all.iter().map(Statement::read).collect::<Result<_, _>>()?,
            Value::Object(_) => vec![Statement::read(found)?],
            _ => return Err(Unreadable::at("Statement", found)),
        };
        Ok(Self { statements })
    }

    /// What the document says about a call. A denial wins wherever it stands.
    pub fn judge(&self, request: &Request) -> Decision {
        let applying = || self.statements.iter().filter(|statement| statement.applies(request));
        if let Some(denial) = applying().find(|statement| statement.denies) {
            return Decision::Denied(denial.sid.clone());
        }
        if applying().next().is_some() { Decision::Allowed } else { Decision::Silent }
    }
}

impl Statement {
    fn read(value: &Value) -> Result<Self, Unreadable> {
        let members = value.as_object().ok_or_else(|| Unreadable::at("Statement", value))?;
        if let Some((name, found)) = members.iter().find(|(name, _)| !MEMBERS.contains(&name.as_str())) {
            return Err(Unreadable::at(name, found));
        }
        let choice = |name: &str| -> Result<Option<Choice<Vec<String>>>, Unreadable> {
            either(value, name, |found| texts(name, found))
        };
        let denies = match value.get("Effect").and_then(Value::as_str) {
            Some("Deny") => true,
            Some("Allow") => false,
            _ => return Err(Unreadable::at("Effect", value)),
        };
        Ok(Self {
            sid: value.get("Sid").and_then(Value::as_str).unwrap_or_default().to_owned(),
            denies,
            actions: choice("Action")?.ok_or_else(|| Unreadable::at("Action", value))?,
            resources: choice("Resource")?,
            principals: either(value, "Principal", Principals::read)?,
            conditions: value.get("Condition").map_or(Ok(Vec::new()), Condition::read)?,
        })
    }

    fn applies(&self, request: &Request) -> bool {
        let action = || self.actions.of.iter().any(|one| pattern::action_matches(one, &request.action));
        let resource = |resources: &Choice<Vec<String>>| {
            resources.of.iter().any(|one| pattern::arn_matches(one, &request.resource)) != resources.inverted
        };
        let principal = |principals: &Choice<Principals>| principals.of.names(&request.caller) != principals.inverted;
        action() != self.actions.inverted
            && self.resources.as_ref().is_none_or(resource)
            && self.principals.as_ref().is_none_or(principal)
            && self.conditions.iter().all(|condition| condition.holds(request))
    }
}

/// `Name` or `NotName`, one of the two.
fn either<T>(
    statement: &Value,
    name: &str,
    read: impl Fn(&Value) -> Result<T, Unreadable>,
) -> Result<Option<Choice<T>>, Unreadable> {
    match (statement.get(name), statement.get(format!("Not{name}"))) {
        (Some(_), Some(both)) => Err(Unreadable::at(name, both)),
        (Some(found), None) => Ok(Some(Choice { of: read(found)?, inverted: false })),
        (None, Some(found)) => Ok(Some(Choice { of: read(found)?, inverted: true })),
        (None, None) => Ok(None),
    }
}

/// A text, or a list of them. Numbers and truth values count as their text, as they do in AWS.
pub(crate) fn texts(name: &str, value: &Value) -> Result<Vec<String>, Unreadable> {
    let text = |one: &Value| match one {
        Value::String(text) if text.contains("${") => Err(Unreadable::Variable(text.clone())),
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(one.to_string()),
        _ => Err(Unreadable::at(name, value)),
    };
    match value {
        Value::Array(all) => all.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::request::Caller;

    fn by(arn: &str, action: &str, resource: &str) -> Request {
        let session = Some("arn:aws:sts::111122223333:assumed-role/a/session".to_owned());
        Request::new(Caller::Principal { arn: arn.to_owned(), session }, action, resource)
    }

    const A: &str = "arn:aws:iam::111122223333:role/path/a";

    fn judge(statements: &Value, request: &Request) -> Decision {
        Policy::read(&json!({"Statement": statements})).unwrap().judge(request)
    }

    #[test]
    fn a_denial_wins_wherever_it_stands_and_silence_is_neither() {
        let allow = json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"});
        let deny = json!({"Sid": "No", "Effect": "Deny", "Action": "s3:Delete*", "Resource": "*"});
        let both = [json!([allow, deny]), json!([deny, allow])];
        for statements in &both {
            let denied = Decision::Denied("No".to_owned());
            assert_eq!(judge(statements, &by(A, "s3:DeleteObject", "arn:aws:s3:::b/k")), denied);
            assert_eq!(judge(statements, &by(A, "s3:GetObject", "arn:aws:s3:::b/k")), Decision::Allowed);
            assert_eq!(judge(statements, &by(A, "sqs:SendMessage", "*")), Decision::Silent);
        }
        assert_eq!(judge(&allow, &by(A, "s3:GetObject", "*")), Decision::Allowed, "one statement without a list");
    }

    #[test]
    fn all_but_what_is_listed() {
        let statements =
            json!([{"Effect": "Deny", "NotAction": ["iam:Get*"], "NotResource": "arn:aws:iam::*:role/free/*"}]);
        let denied = |action, resource| matches!(judge(&statements, &by(A, action, resource)), Decision::Denied(_));
        assert!(denied("iam:PutRolePolicy", "arn:aws:iam::1:role/a"));
        assert!(denied("s3:GetObject", "arn:aws:s3:::b/k"));
        assert!(!denied("IAM:getrole", "arn:aws:iam::1:role/a"));
        assert!(!denied("iam:PutRolePolicy", "arn:aws:iam::1:role/free/a"));
    }

    #[test]
    fn a_resources_policy_names_roles_sessions_accounts_services_and_everyone() {
        let named = |principal: Value| {
            let statements = json!({"Effect": "Allow", "Principal": principal, "Action": "*"});
            judge(&statements, &by(A, "s3:GetObject", "*")) == Decision::Allowed
        };
        assert!(named(json!("*")));
        assert!(named(json!({"AWS": "*"})));
        assert!(named(json!({"AWS": A})));
        assert!(named(json!({"AWS": ["arn:aws:sts::111122223333:assumed-role/a/session"]})));
        assert!(named(json!({"AWS": "111122223333"})));
        assert!(named(json!({"AWS": "arn:aws:iam::111122223333:root"})));
        assert!(!named(json!({"AWS": "arn:aws:iam::999999999999:root"})));
        assert!(!named(json!({"AWS": "arn:aws:iam::111122223333:role/path/*"})), "no wildcard in a principal");
        assert!(!named(json!({"Service": "lambda.amazonaws.com"})));
        let but = json!({"Effect": "Deny", "NotPrincipal": {"AWS": A}, "Action": "*"});
        assert_eq!(judge(&but, &by(A, "s3:GetObject", "*")), Decision::Silent);
        let service = Request::new(Caller::Service("lambda.amazonaws.com".to_owned()), "s3:GetObject", "*");
        assert!(matches!(judge(&but, &service), Decision::Denied(_)));
    }

    #[test]
    fn a_document_with_a_slip_is_refused() {
        for statement in [
            json!({"Effect": "deny", "Action": "*", "Resource": "*"}),
            json!({"Effect": "Deny", "Resource": "*"}),
            json!({"Effect": "Deny", "Action": "*", "NotAction": "*", "Resource": "*"}),
            json!({"Effect": "Deny", "Action": "*", "Resources": "*"}),
            json!({"Effect": "Deny", "Action": "*", "Resource": "arn:aws:s3:::${aws:username}"}),
            json!({"Effect": "Deny", "Action": "*", "Principal": {"Federated": "x"}}),
            json!("Deny"),
        ] {
            assert!(Policy::read(&json!({"Statement": [statement]})).is_err(), "{statement}");
        }
        assert!(Policy::read(&json!({})).is_err());
    }
}
