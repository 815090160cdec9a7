#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;

const SHIPPED: &str = include_str!("../../../../playbook.yaml");

fn explain(input: &Value) -> Explanation {
    let playbook = Playbook::from_yaml(SHIPPED).unwrap();
    let inventory = Inventory::default();
    let explainer = Explainer { playbook: &playbook, inventory: &inventory, ceiling: Mode::Enforce };
    explainer.explain(input.to_string().as_bytes())
}

fn finding(finding_type: &str) -> Value {
    json!({"id": finding_type, "type": finding_type, "accountId": "111122223333", "region": "eu-west-1", "severity": 8,
        "service": {}, "resource": {"accessKeyDetails": {"userType": "IAMUser", "userName": "ana"}}})
}

#[test]
fn of_several_events_in_one_file_the_highest_speaks() {
    let (low, high) = ("Discovery:IAMUser/AnomalousBehavior", "Exfiltration:IAMUser/AnomalousBehavior");
    for pair in [[low, high], [high, low]] {
        let explanation = explain(&json!([finding(pair[0]), finding(pair[1])]));
        assert_eq!(explanation.decision, Outcome::Act);
        assert_eq!(explanation.finding_type.as_deref(), Some(high));
        assert_eq!(explanation.targets.len(), 1, "the same user is one target");
    }
}

#[test]
fn the_reason_of_the_highest_decision_comes_first() {
    let actor = |user: Value| json!({"user": user});
    let mut sequence = finding("AttackSequence:IAM/CompromisedCredentials");
    sequence["resource"] = json!({"resourceType": "AttackSequence"});
    sequence["service"] = json!({"detection": {"sequence": {"actors": [
        actor(json!({"type": "Root", "name": "root"})),
        actor(json!({"type": "IAMUser", "name": "ana"})),
    ]}}});
    let explanation = explain(&sequence);
    assert_eq!(explanation.decision, Outcome::Act);
    let (first, then) = explanation.reason.split_once("; ").unwrap();
    assert!(first.contains("says act"), "{}", explanation.reason);
    assert!(then.starts_with("rule ") && then.contains("root user"), "{}", explanation.reason);
    let containable: Vec<bool> = explanation.targets.iter().map(|target| target.containable).collect();
    assert_eq!(containable, [false, true]);
}

#[test]
fn nobody_of_no_account_is_containable() {
    let mut homeless = finding("Exfiltration:IAMUser/AnomalousBehavior");
    homeless["accountId"] = json!("1234567891234");
    let explanation = explain(&homeless);
    assert_eq!(explanation.decision, Outcome::Notify);
    assert_eq!(explanation.targets[0].name.as_deref(), Some("ana"));
    assert!(!explanation.targets[0].containable);
}

#[test]
fn the_inventory_with_two_users_of_a_role_makes_it_ask() {
    let playbook = Playbook::from_yaml(SHIPPED).unwrap();
    let mut inventory = Inventory::default();
    let function = |name: &str| {
        json!({"FunctionArn": format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}"),
               "Role": "arn:aws:iam::111122223333:role/app/orders"})
    };
    inventory.add(&json!({"Functions": [function("a"), function("b")]})).unwrap();
    let explainer = Explainer { playbook: &playbook, inventory: &inventory, ceiling: Mode::Enforce };
    let mut event = finding("Exfiltration:IAMUser/AnomalousBehavior");
    event["resource"] = json!({"accessKeyDetails": {"userType": "AssumedRole", "userName": "orders"}});
    let explanation = explainer.explain(event.to_string().as_bytes());
    assert_eq!(explanation.decision, Outcome::Approve, "{}", explanation.reason);
    assert_eq!(explanation.targets[0].arn.as_deref(), Some("arn:aws:iam::111122223333:role/app/orders"));
}
