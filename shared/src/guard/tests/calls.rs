//! What a call that CloudTrail tells of makes of a containment, and of Firebreak itself.

use super::*;
use crate::ledger::Seal;

#[tokio::test]
async fn who_undid_a_containment_is_on_record_though_it_is_back_already() {
    let (incident, step) = contained();
    let event = told_of("iam", "DetachRolePolicy", &json!({"roleName": "orders", "policyArn": DENY}), "user/ana");
    let wires = Wires {
        ledger: Wire::answering([
            ok("{}"),
            stored(&incident),
            stored(&incident),
            ok("{}"),
            items(&[Record::Step(Box::new(step))]),
            ok("{}"),
            ok("{}"),
        ]),
        iam: Wire::answering(in_force()),
        sqs: Wire::answering([sent()]),
        ..Wires::default()
    };
    played(&wires, &event).await;
    assert_eq!(wires.unused(), 0, "CloudTrail has just told: it is not asked");
    let tamper = wires.ledger.requests().pop().unwrap();
    for part in [r#""nature":{"S":"undone"}"#, r#""owners":{"L":[]}"#, "user/people/ana", "198.51.100.1"] {
        assert!(tamper.contains(part), "{tamper}");
    }
    assert!(tamper.contains(r#""suspects":{"L":[{"M""#), "{tamper}");
}

#[tokio::test]
async fn what_a_contained_principal_makes_is_suspected_and_it_itself_is_not() {
    let (incident, _) = contained();
    for (name, parameters, nature, suspects) in [
        ("CreateUser", json!({"userName": "backdoor"}), "minted", true),
        ("CreateAccessKey", json!({"userName": "ci-bot"}), "widened", true),
        ("SetDefaultPolicyVersion", json!({"policyArn": "arn:aws:iam::111122223333:policy/p"}), "widened", false),
    ] {
        let event = told_of("iam", name, &parameters, "role/orders");
        let wires = Wires { ledger: Wire::answering([stored(&incident), ok("{}"), ok("{}")]), ..Wires::default() };
        played(&wires, &event).await;
        let requests = wires.ledger.requests();
        let tamper = requests.iter().find(|request| request.contains("PutItem")).unwrap();
        assert!(tamper.contains(&format!(r#""nature":{{"S":"{nature}"}}"#)), "{tamper}");
        assert_eq!(!tamper.contains(r#""suspects":{"L":[]}"#), suspects, "{tamper}");
        // Nothing of it may lead back to the contained principal, which is contained.
        let body: Value = serde_json::from_str(tamper.split_at(tamper.find('{').unwrap()).1).unwrap();
        let own = body["Item"]["suspects"].to_string();
        assert!(!own.contains(r#""name":{"S":"orders"}"#), "{own}");
    }
}

#[tokio::test]
async fn firebreaks_own_parts_are_told_of_but_not_a_deployment() {
    let event = |actor: &str| told_of("events", "DisableRule", &json!({"name": "firebreak-findings"}), actor);
    let wires = Wires { ledger: Wire::answering([ok("{}"), ok("{}")]), ..Wires::default() };
    played(&wires, &event("user/ana")).await;
    let tamper = wires.ledger.requests().pop().unwrap();
    assert!(tamper.contains("tamper#own") && tamper.contains(r#""nature":{"S":"own_part"}"#), "{tamper}");

    let by = |service: &str| {
        let mut event = event("user/ana");
        event["detail"]["userIdentity"]["invokedBy"] = json!(format!("{service}.amazonaws.com"));
        event
    };
    let deployers: Vec<Glob> = vec!["arn:aws:iam::*:role/cicd/deploy".into()];
    // Anyone may have a service do it: a document of Systems Manager, a stack of their own.
    for (event, deployers) in
        [(by("ssm"), Vec::new()), (by("ssm"), deployers.clone()), (by("cloudformation"), deployers.clone())]
    {
        let wires = Wires { ledger: Wire::answering([ok("{}"), ok("{}")]), deployers, ..Wires::default() };
        played(&wires, &event).await;
        let tamper = wires.ledger.requests().pop().unwrap();
        assert!(tamper.contains(r#""nature":{"S":"own_part"}"#), "{tamper}");
    }
    let mut by_the_deployer = event("role/deploy");
    by_the_deployer["detail"]["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] =
        json!("arn:aws:iam::111122223333:role/cicd/deploy");
    let mut refused = event("user/ana");
    refused["detail"]["errorCode"] = json!("AccessDenied");
    let other = told_of("events", "DisableRule", &json!({"name": "nightly"}), "user/ana");
    for (why, event) in [("the deployer", by_the_deployer), ("refused", refused), ("another's", other)] {
        let wires = Wires { ledger: Wire::answering([ok("{}")]), deployers: deployers.clone(), ..Wires::default() };
        played(&wires, &event).await;
        assert!(wires.ledger.requests().iter().all(|request| !request.contains("PutItem")), "{why}");
    }
}

#[tokio::test]
async fn where_nobody_is_said_to_deploy_cloudformation_does_when_the_stack_was_told_to() {
    let mut event = told_of("events", "DisableRule", &json!({"name": "firebreak-findings"}), "user/ana");
    event["detail"]["userIdentity"]["invokedBy"] = json!("cloudformation.amazonaws.com");
    let on_the_stack = |name: &str, ago: SignedDuration| {
        let mut event = told_of("cloudformation", name, &json!({"stackName": "firebreak"}), "user/ana");
        event["detail"]["eventTime"] = json!((clock::now() - ago).to_string());
        let guard = Wires::default().guard();
        let change = Change::read(&event, &guard.home).unwrap();
        Record::Tamper(Box::new(guard.on_own_part(&change, "the stack", false)))
    };
    let minutes = SignedDuration::from_mins;
    for (why, found, told) in [
        ("nobody changes the stack", items(&[]), true),
        ("it was long ago", items(&[on_the_stack("UpdateStack", minutes(70))]), true),
        ("that begins nothing", items(&[on_the_stack("CreateChangeSet", minutes(2))]), true),
        ("a deployment", items(&[on_the_stack("ExecuteChangeSet", minutes(2))]), false),
    ] {
        let script = [ok("{}"), found].into_iter().chain(told.then(|| ok("{}")));
        let wires = Wires { ledger: Wire::answering(script), ..Wires::default() };
        played(&wires, &event).await;
        assert_eq!(wires.unused(), 0, "{why}");
        assert_eq!(wires.ledger.requests().iter().any(|request| request.contains("PutItem")), told, "{why}");
    }
}

#[tokio::test]
async fn what_is_done_to_an_incident_that_is_not_sealed_yet_is_told_when_it_is() {
    let (claimed, _) = contained();
    let claimed = Incident { version: 1, state: IncidentState::Ordered, ..claimed };
    assert!(claimed.is_claim());
    let event = told_of("iam", "CreateUser", &json!({"userName": "x"}), "role/orders");
    // Sealed within a second: here, gone. Never sealed: the call comes again.
    for (unsealed, then, reads) in [(2, Some(ok("{}")), 4), (21, None, 21)] {
        let kms = Wire::default();
        let answers = vec![stored(&claimed); unsealed].into_iter().chain(then.clone());
        let wires = Wires { ledger: Wire::answering(answers.chain(then.map(|_| ok("{}")))), ..Wires::default() };
        let mut guard = wires.guard();
        let client = aws_sdk_dynamodb::Client::new(&wires.ledger.config());
        guard.ledger = Ledger::new(client, "ledger".to_owned(), Seal::new(&kms.config(), "arn:key".to_owned()));
        let end = guard.handle(&event).await;
        assert_eq!((wires.ledger.requests().len(), wires.unused()), (reads, 0), "{end:?}");
        match end {
            Ok(_) => assert_eq!(reads, 4),
            Err(failure) => assert!(reads == 21 && matches!(failure, Failure::Transient(_)), "{failure}"),
        }
    }
}
