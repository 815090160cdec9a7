//! A statement of a function's resource policy that admits everyone: how it is recognised, and whether
//! `AddPermission` could write it again.

use firebreak_model::ids::FunctionArn;
use serde_json::{Map, Value};

/// Whether the statement lets in everyone. Conditions do not make it safe: a URL's own condition
/// (`lambda:FunctionUrlAuthType`) is met by every caller of an open URL, others can be forged or guessed.
pub(super) fn is_public(statement: &Value) -> bool {
    let everyone = |principal: &Value| match principal {
        Value::String(who) => who == "*",
        Value::Object(kinds) => kinds.get("AWS").is_some_and(|who| strings(who).contains(&"*")),
        _ => false,
    };
    let allows = statement.get("Effect").and_then(Value::as_str) == Some("Allow");
    // `NotPrincipal` admits everyone but a few.
    allows && (statement.get("Principal").is_some_and(everyone) || statement.get("NotPrincipal").is_some())
}

/// The id of a statement.
pub(super) fn sid(statement: &Value) -> &str {
    statement.get("Sid").and_then(Value::as_str).unwrap_or_default()
}

/// A value of a policy that may be one string or a list of strings.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A public statement in the terms of `AddPermission`. Two that are equal let in the same callers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) sid: String,
    pub(super) action: String,
    pub(super) source_arn: Option<String>,
    pub(super) source_account: Option<String>,
    pub(super) organisation: Option<String>,
    pub(super) url_auth_type: Option<String>,
    pub(super) via_url: Option<bool>,
    pub(super) token: Option<String>,
}

impl Grant {
    /// The statement, on this version or alias of the function, as `AddPermission` would take it; `None` where it
    /// holds anything that the call cannot express.
    pub(super) fn of(statement: &Value, function: &FunctionArn, qualifier: Option<&str>) -> Option<Self> {
        let fields = statement.as_object()?;
        let known = ["Sid", "Effect", "Principal", "Action", "Resource", "Condition"];
        if !fields.keys().all(|key| known.contains(&key.as_str())) || !is_public(statement) {
            return None;
        }
        let principal = fields.get("Principal")?;
        let alone = match principal {
            Value::Object(kinds) => kinds.len() == 1 && kinds.get("AWS").is_some_and(|who| only(who) == Some("*")),
            other => other == "*",
        };
        let resource = qualifier.map_or_else(|| function.to_string(), |q| format!("{function}:{q}"));
        if !alone || only(fields.get("Resource")?)? != resource {
            return None;
        }
        let sid = Some(sid(statement)).filter(|sid| !sid.is_empty())?.to_owned();
        let grant = Self { sid, action: only(fields.get("Action")?)?.to_owned(), ..Self::default() };
        match fields.get("Condition") {
            None => Some(grant),
            Some(conditions) => grant.under(conditions.as_object()?),
        }
    }

    fn under(mut self, conditions: &Map<String, Value>) -> Option<Self> {
        for (operator, keys) in conditions {
            for (key, value) in keys.as_object()? {
                let value = only(value)?;
                let slot = match (operator.as_str(), key.to_ascii_lowercase().as_str()) {
                    ("ArnLike" | "StringLike", "aws:sourcearn") => &mut self.source_arn,
                    ("StringEquals", "aws:sourceaccount") => &mut self.source_account,
                    ("StringEquals", "aws:principalorgid") => &mut self.organisation,
                    ("StringEquals", "lambda:functionurlauthtype") => &mut self.url_auth_type,
                    ("StringEquals", "lambda:eventsourcetoken") => &mut self.token,
                    ("Bool", "lambda:invokedviafunctionurl") if self.via_url.is_none() => {
                        self.via_url = Some(value.parse().ok()?);
                        continue;
                    }
                    _ => return None,
                };
                if slot.replace(value.to_owned()).is_some() {
                    return None;
                }
            }
        }
        Some(self)
    }
}

/// The one string that a value of a policy holds.
fn only(value: &Value) -> Option<&str> {
    match (value, strings(value).as_slice()) {
        (Value::Array(many), [one]) if many.len() == 1 => Some(*one),
        (Value::String(_), [one]) => Some(*one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:lambda:eu-west-1:111122223333:function:orders";

    fn statement(change: impl FnOnce(&mut Value)) -> Value {
        let mut statement = json!({"Sid": "open", "Effect": "Allow", "Principal": "*",
                                   "Action": "lambda:InvokeFunction", "Resource": ARN});
        change(&mut statement);
        statement
    }

    fn grant(statement: &Value) -> Option<Grant> {
        Grant::of(statement, &ARN.parse().unwrap(), None)
    }

    #[test]
    fn who_is_everyone() {
        for (principal, public) in [
            (json!("*"), true),
            (json!({"AWS": "*"}), true),
            (json!({"AWS": ["arn:aws:iam::111122223333:root", "*"]}), true),
            (json!({"AWS": "arn:aws:iam::111122223333:root"}), false),
            (json!({"AWS": "111122223333"}), false),
            (json!({"Service": "s3.amazonaws.com"}), false),
            (json!(null), false),
        ] {
            assert_eq!(is_public(&statement(|s| s["Principal"] = principal.clone())), public, "{principal}");
        }
        assert!(!is_public(&statement(|s| s["Effect"] = json!("Deny"))));
        assert!(is_public(&json!({"Effect": "Allow", "NotPrincipal": {"AWS": "111122223333"}})));
        let url = json!({"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}});
        assert!(is_public(&statement(|s| s["Condition"] = url)));
    }

    #[test]
    fn all_that_add_permission_can_say_is_understood() {
        let conditions = json!({
            "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"},
            "StringEquals": {"AWS:SourceAccount": "111122223333", "aws:PrincipalOrgID": "o-1",
                             "lambda:FunctionUrlAuthType": "NONE", "lambda:EventSourceToken": "t"},
            "Bool": {"lambda:InvokedViaFunctionUrl": "true"}
        });
        let expected = Grant {
            sid: "open".into(),
            action: "lambda:InvokeFunction".into(),
            source_arn: Some("arn:aws:s3:::b".into()),
            source_account: Some("111122223333".into()),
            organisation: Some("o-1".into()),
            url_auth_type: Some("NONE".into()),
            via_url: Some(true),
            token: Some("t".into()),
        };
        assert_eq!(grant(&statement(|s| s["Condition"] = conditions)), Some(expected));
        let in_lists = statement(|s| {
            s["Principal"] = json!({"AWS": ["*"]});
            s["Action"] = json!(["lambda:InvokeFunction"]);
        });
        assert_eq!(grant(&in_lists), grant(&statement(|_| ())));
    }

    #[test]
    fn what_add_permission_cannot_say_is_no_grant() {
        let set = |key: &'static str, value: Value| statement(move |s| s[key] = value);
        for other in [
            set("Principal", json!({"AWS": ["*", "111122223333"]})),
            set("Principal", json!({"AWS": "*", "Service": "s3.amazonaws.com"})),
            set("Principal", json!({"AWS": "111122223333"})),
            set("NotPrincipal", json!({"AWS": "111122223333"})),
            set("Action", json!(["lambda:InvokeFunction", "lambda:GetFunction"])),
            set("Action", json!(["lambda:InvokeFunction", 7])),
            set("Resource", json!(format!("{ARN}:live"))),
            set("Resource", json!("*")),
            set("Sid", json!("")),
            set("Sid", json!(null)),
            set("Effect", json!("Deny")),
            set("Condition", json!({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}})),
            set("Condition", json!({"StringNotEquals": {"AWS:SourceAccount": "111122223333"}})),
            set("Condition", json!({"StringEquals": {"AWS:SourceAccount": ["1", "2"]}})),
            set("Condition", json!({"ArnLike": {"AWS:SourceArn": "a"}, "StringLike": {"aws:SourceArn": "b"}})),
            set("Condition", json!({"Bool": {"lambda:InvokedViaFunctionUrl": "maybe"}})),
        ] {
            assert_eq!(grant(&other), None, "{other}");
        }
    }
}
