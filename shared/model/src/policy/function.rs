//! The inline policy that denies what the code of single functions does with their role.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::ids::FunctionArn;

/// The name of the inline policy that denies single functions of a role: ours alone.
pub const FUNCTIONS_POLICY: &str = "firebreak-deny-functions";

/// Deny everything that the code of these functions calls, in whichever version it runs. Lambda sets
/// `lambda:SourceFunctionArn` for calls from its environments alone: credentials that left them do not carry it, and are
/// not denied.
pub fn denied_functions(functions: &BTreeSet<FunctionArn>) -> Value {
    let arns: Vec<String> = functions.iter().flat_map(|arn| [arn.to_string(), format!("{arn}:*")]).collect();
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "FirebreakDenyFunctions",
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {"ArnLike": {"lambda:SourceFunctionArn": arns}}
        }]
    })
}

/// The functions that a document denies, or `None` where it is not exactly one of ours.
pub fn functions_denied(document: &Value) -> Option<BTreeSet<FunctionArn>> {
    let arns = document.pointer("/Statement/0/Condition/ArnLike/lambda:SourceFunctionArn")?.as_array()?;
    let named = arns.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
    let functions = named.iter().filter(|arn| !arn.ends_with(":*")).map(|arn| arn.parse().ok());
    let functions = functions.collect::<Option<BTreeSet<FunctionArn>>>()?;
    (!functions.is_empty() && denied_functions(&functions) == *document).then_some(functions)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use iam_eval::{Caller, Decision, Policy, Request};

    use super::*;

    fn functions(names: &[&str]) -> BTreeSet<FunctionArn> {
        names
            .iter()
            .map(|name| format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}").parse().unwrap())
            .collect()
    }

    #[test]
    fn functions_are_denied_in_every_version_and_read_back() {
        let both = functions(&["orders", "refunds"]);
        let document = denied_functions(&both);
        assert_eq!(functions_denied(&document), Some(both));
        assert_eq!(
            document["Statement"][0]["Condition"]["ArnLike"]["lambda:SourceFunctionArn"][1],
            "arn:aws:lambda:eu-west-1:111122223333:function:orders:*"
        );
    }

    /// What the document says about a call of the role, where Lambda says that this function made it, or nobody says so.
    fn judged(document: &Value, source: Option<&str>) -> Decision {
        let role = "arn:aws:iam::111122223333:role/orders".to_owned();
        let call = Request::new(Caller::Principal { arn: role, session: None }, "s3:GetObject", "arn:aws:s3:::b/o");
        let call = match source {
            Some(arn) => call.with("lambda:SourceFunctionArn", [arn]),
            None => call,
        };
        Policy::read(document).unwrap().judge(&call)
    }

    #[test]
    fn the_code_of_the_function_is_denied_in_whichever_version_and_nobody_else() {
        let document = denied_functions(&functions(&["orders"]));
        let of = |name: &str| format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}");
        let denied = Decision::Denied("FirebreakDenyFunctions".to_owned());
        for its_own in ["orders", "orders:live", "orders:7", "orders:$LATEST"] {
            assert_eq!(judged(&document, Some(&of(its_own))), denied, "{its_own}");
        }
        for other in ["refunds", "refunds:live", "orders-2", "orders-2:live", "order", "Orders"] {
            assert_eq!(judged(&document, Some(&of(other))), Decision::Silent, "{other}");
        }
        for (part, with) in [("eu-west-1", "us-east-1"), ("111122223333", "444455556666")] {
            assert_eq!(judged(&document, Some(&of("orders").replace(part, with))), Decision::Silent, "{with}");
        }
        // Credentials that left the function, and whoever else has the role: the revocation is for those.
        assert_eq!(judged(&document, None), Decision::Silent);
        let mut by_name_alone = document.clone();
        by_name_alone["Statement"][0]["Condition"]["ArnLike"]["lambda:SourceFunctionArn"] = json!([of("orders")]);
        assert_eq!(judged(&by_name_alone, Some(&of("orders:live"))), Decision::Silent, "the second pattern is needed");
        let both = denied_functions(&functions(&["orders", "refunds"]));
        assert_eq!(judged(&both, Some(&of("refunds:live"))), denied);
    }

    #[test]
    fn a_weakened_deny_of_functions_is_not_taken_for_ours() {
        let whole = denied_functions(&functions(&["orders"]));
        for (path, value) in [
            ("/Statement/0/Effect", json!("Allow")),
            ("/Statement/0/Action", json!("s3:*")),
            ("/Statement/0/Condition/ArnLike/lambda:SourceFunctionArn", json!([])),
            ("/Statement/0/Condition/ArnLike/lambda:SourceFunctionArn", json!(["*"])),
            (
                "/Statement/0/Condition/ArnLike/lambda:SourceFunctionArn",
                json!(["arn:aws:lambda:eu-west-1:111122223333:function:orders"]),
            ),
            ("/Statement/0/Condition/ArnLike", json!({})),
            ("/Statement", json!([])),
        ] {
            let mut changed = whole.clone();
            *changed.pointer_mut(path).unwrap() = value.clone();
            assert_eq!(functions_denied(&changed), None, "{path} {value}");
        }
    }
}
