//! What the inventory says of a role, and what is done where it cannot be believed or asked.

use super::*;

#[tokio::test]
async fn a_function_that_the_inventory_names_is_touched_only_where_lambda_confirms_it() {
    let role = OF_THE_INSTANCE;
    let runs_as = |arn: &str| ok(json!({"FunctionArn": function("site"), "Role": arn}).to_string());
    let another = format!("arn:aws:iam::{ACCOUNT}:role/another");
    for (name, lambda, touched) in [
        ("site", vec![runs_as(&role.arn())], true),
        ("site", vec![runs_as(&another)], false),
        ("site", vec![json_error(404, "ResourceNotFoundException")], false),
        ("site", vec![json_error(403, "AccessDeniedException")], false),
        // One of our own is not even asked about.
        ("firebreak-revoke-sessions", vec![], false),
    ] {
        let incident = role.incident(IncidentState::Ordered);
        let script = vec![ok("{}"), role.known_users(&[name]), stored(&incident), ok("{}"), ok("{}")];
        let scene = Scene::of(script, [vec![role.shown()], attached().to_vec()].concat(), lambda.clone());
        let answer = scene.handle(ON_A_ROLE).await.unwrap();
        assert_eq!((answer.outcome.as_str(), scene.unused()), ("contained", [0; 3]), "{name} {lambda:?}");
        let pinned = |request: &String| told(request) == "PutItem incident ordered";
        let pinned = scene.ledger.requests().into_iter().find(pinned).unwrap();
        let plan = pinned.split(r#""plan":"#).nth(1).unwrap();
        assert_eq!(plan.contains("zero-concurrency"), touched, "{name} {lambda:?}: {plan}");
        assert_eq!(scene.attaches(), 1);
    }
}

#[tokio::test]
async fn what_lambda_does_not_answer_now_is_asked_again() {
    let role = OF_THE_INSTANCE;
    let incident = role.incident(IncidentState::Ordered);
    let script = vec![ok("{}"), role.known_users(&["site"]), stored(&incident), ok("{}"), ok("{}")];
    let iam = [vec![role.shown()], attached().to_vec()].concat();
    let scene = Scene::of(script, iam, vec![json_error(429, "TooManyRequestsException")]);
    let end = scene.handle(ON_A_ROLE).await;
    assert!(matches!(end, Err(Failure::Transient(_))), "{end:?}");
    assert_eq!((scene.attaches(), scene.unused()), (1, [0; 3]), "the deny does not wait for it");
}

#[tokio::test]
async fn a_broken_record_of_a_role_holds_up_nothing_and_a_silent_ledger_is_asked_again() {
    let role = OF_THE_INSTANCE;
    let incident = role.incident(IncidentState::Ordered);
    let broken = ok(json!({"Item": {"kind": {"S": "inventory"}, "usage": {"S": "many"}}}).to_string());
    let script = vec![ok("{}"), broken, stored(&incident), ok("{}"), ok("{}")];
    let scene = Scene::of(script, [vec![role.shown()], attached().to_vec()].concat(), Vec::new());
    assert_eq!(scene.handle(ON_A_ROLE).await.unwrap().outcome, "contained");
    assert_eq!((scene.attaches(), scene.unused()), (1, [0; 3]));

    let scene = Scene::of(vec![ok("{}"), Wired::Lost], vec![role.shown()], Vec::new());
    let end = scene.handle(ON_A_ROLE).await;
    assert!(matches!(end, Err(Failure::Transient(_))), "{end:?}");
    assert_eq!((scene.attaches(), scene.unused()), (0, [0; 3]));
}
