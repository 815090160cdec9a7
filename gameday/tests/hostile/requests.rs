//! Requests that are refused: whoever asks is told at once, and nothing is recorded but what begins.

use gameday::aws::{ACCOUNT, REGION};
use serde_json::{Value, json};

use super::bait::Bait;
use super::cases::{Case, End, Way, hostile_names};

/// Requests: whoever asks is told, and nothing is recorded but what begins.
pub(crate) fn requests(bait: &Bait) -> Vec<Case> {
    let own = format!("arn:aws:iam::{ACCOUNT}:role/firebreak/{}-quarantine-principal", bait.stack);
    let mut cases = Vec::new();
    let mut ask = |name: &str, request: Value, kind: &'static str, says: &str| {
        let mut payload = json!({"firebreak": "contain", "reason": "r", "requested_by": "ana"});
        for (key, value) in request.as_object().unwrap() {
            payload[key] = value.clone();
        }
        let end = End::Refused(kind, says.to_owned());
        cases.push(Case { name: format!("request, {name}"), way: Way::Invoke, payload: payload.to_string(), end });
    };
    for (what, name) in hostile_names(&bait.role.name) {
        let (kind, says) = if name.starts_with("arn:") { continue } else { ("Malformed", "is no ") };
        ask(&format!("a role named by {what}"), json!({"role": name}), kind, says);
        ask(&format!("a user named by {what}"), json!({"user": name}), kind, says);
    }
    for (what, arn, says) in [
        ("another account", bait.role.arn.replace(ACCOUNT, "444455556666"), "not in this account"),
        ("another partition", bait.role.arn.replacen("aws", "aws-us-gov", 1), "in partition aws-us-gov"),
        ("services", bait.of_service.arn.clone(), "service-linked"),
        ("Identity Center", bait.of_sso.arn.clone(), "Identity Center"),
        ("Firebreak", own, "Firebreak's own"),
        ("the playbook's protection", bait.protected.arn.clone(), "the playbook protects"),
    ] {
        ask(&format!("a role of {what}"), json!({"role": arn}), "Refused", says);
    }
    let function = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}-quarantine-principal", bait.stack);
    let role = &bait.role.name;
    ask("the root user", json!({"user": format!("arn:aws:iam::{ACCOUNT}:root")}), "Malformed", "is no role ARN");
    ask("neither role nor user", json!({}), "Malformed", "exactly one");
    ask("role and user", json!({"role": role, "user": role}), "Malformed", "exactly one");
    ask("a role that is a list", json!({"role": [role]}), "Malformed", "cannot be read");
    ask("a role that is null and no user", json!({"role": null}), "Malformed", "exactly one");
    ask("an unknown key of a megabyte", json!({"role": role, "k".repeat(1_000_000): 1}), "Malformed", "unknown field");
    ask("a reason of a megabyte", json!({"role": role, "reason": "r".repeat(1_000_000)}), "Malformed", "`reason`");
    ask("a reason with an escape sequence", json!({"role": role, "reason": "\u{1b}[2J"}), "Malformed", "`reason`");
    ask("nobody who asks", json!({"role": role, "requested_by": " "}), "Malformed", "`requested_by`");
    ask(
        "one of Firebreak's own functions",
        json!({"role": role, "functions": [function]}),
        "Refused",
        "Firebreak's own",
    );
    ask("every function", json!({"role": role, "functions": ["*"]}), "Malformed", "no function ARN");
    ask(
        "a thousand functions",
        json!({"role": role, "functions": vec![function; 1_000]}),
        "Malformed",
        "more than 100",
    );
    ask("a key that is none", json!({"role": role, "access_keys": ["AKIA*"]}), "Malformed", "no access key");
    ask("a response that is none", json!({"role": role, "response": ["destroy"]}), "Malformed", "destroy");
    ask("a command that is none", json!({"firebreak": "$(id)"}), "Malformed", "unknown variant");
    ask("a command that is an object", json!({"firebreak": {"a": 1}}), "Malformed", "cannot be read");
    for id in ["fb-../../x", "*", "", "fb-000000000000000000000000\n", "FB-000000000000000000000000"] {
        let request = json!({"firebreak": "approve", "incident_id": id, "reason": "r", "requested_by": "ana"});
        cases.push(Case {
            name: format!("request, approval of {id:?}"),
            way: Way::Invoke,
            payload: request.to_string(),
            end: End::Refused("Malformed", "no incident id".to_owned()),
        });
    }
    cases
}
