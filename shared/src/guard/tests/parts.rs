//! Firebreak's own parts: what a look at them costs, and what differs from what was deployed.

use std::collections::BTreeSet;

use aws_sdk_eventbridge::operation::describe_rule::DescribeRuleOutput;
use aws_sdk_eventbridge::types::builders::TargetBuilder;
use aws_sdk_eventbridge::types::{InputTransformer, Target};
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput as Configuration;
use aws_sdk_lambda::types::{
    DestinationConfig, EnvironmentError, EnvironmentResponse, FunctionEventInvokeConfig, Layer, OnFailure, Runtime,
    State,
};
use firebreak_model::deployed::{Deployed, Digests};

use super::super::parts::deployed::{Seen, Stack};
use super::super::parts::rights::Rights;
use super::*;

const FIRST: &str = "2026-11-21T01:00:00Z";
const LATER: &str = "2026-11-21T02:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn stack(updated: &str, status: &str) -> Scripted {
    ok(format!(
        "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>firebreak</StackName>\
         <CreationTime>2026-01-01T00:00:00Z</CreationTime><LastUpdatedTime>{updated}</LastUpdatedTime>\
         <StackStatus>{status}</StackStatus></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
    ))
}

#[tokio::test]
async fn what_a_look_at_the_parts_costs_is_counted() {
    let hollow = |first: Vec<Scripted>| Wire::hollow_after(first);
    let shown = "<GetRoleResponse><GetRoleResult><Role><Path>/firebreak/</Path><RoleName>r</RoleName><RoleId>AROA1</RoleId>\
                 <Arn>arn:aws:iam::111122223333:role/firebreak/r</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
                 <AssumeRolePolicyDocument>%7B%7D</AssumeRolePolicyDocument></Role></GetRoleResult></GetRoleResponse>";
    // Somebody wrote a hundred policies into each role.
    let names = "<member>mine</member>".repeat(100);
    let listed = format!(
        "<ListRolePoliciesResponse><ListRolePoliciesResult><PolicyNames>{names}</PolicyNames></ListRolePoliciesResult>\
         </ListRolePoliciesResponse>"
    );
    let document = "<GetRolePolicyResponse><GetRolePolicyResult><RoleName>r</RoleName><PolicyName>mine</PolicyName>\
                    <PolicyDocument>%7B%7D</PolicyDocument></GetRolePolicyResult></GetRolePolicyResponse>";
    let role = [
        ("Action=GetRole&", ok(shown)),
        ("Action=ListRolePolicies&", ok(listed)),
        ("Action=GetRolePolicy&", ok(document)),
    ];
    let streaming =
        r#"{"Table": {"LatestStreamArn": "arn:aws:dynamodb:eu-west-1:111122223333:table/ledger/stream/1"}}"#;
    let table = [("DescribeTable", ok(streaming)), ("Action=DescribeStacks", stack(FIRST, "UPDATE_COMPLETE"))];
    let wires = Wires {
        ledger: hollow(vec![]),
        iam: Wire::odd(Odd::Hollow, role),
        sqs: hollow(vec![]),
        trail: Wire::odd(Odd::Hollow, table),
        searching: true,
        ..Wires::default()
    };
    let mut guard = wires.guard();
    guard.own.table = "ledger".to_owned();
    guard.look_at_own_parts().await.unwrap();
    let of = |wire: &Wire, what: &str| wire.requests().iter().filter(|request| request.contains(what)).count();
    let all = FunctionName::ALL.len();
    let counted: Vec<(&str, usize)> = [
        ("/configuration", all),
        ("/concurrency", all),
        ("/policy", all),
        ("/event-invoke-config/list", all),
        ("/event-source-mappings", 5),
        ("AWSEvents.DescribeRule", 16),
        ("AWSEvents.ListTargetsByRule", 16),
        ("TrentService.DescribeKey", 3),
        ("TrentService.GetKeyPolicy", 3),
        ("DynamoDB_20120810.DescribeTable", 1),
        ("DynamoDB_20120810.GetResourcePolicy", 2),
        ("AWSEvents.DescribeEventBus", 1),
        ("Action=GetTopicAttributes", 1),
        (".DescribeTrails", 1),
        ("Action=DescribeStacks", 2),
    ]
    .to_vec();
    for (what, times) in &counted {
        assert_eq!(of(&wires.trail, what), *times, "{what}");
    }
    let known: usize = counted.iter().map(|(_, times)| times).sum();
    assert_eq!(wires.trail.requests().len(), known, "and nothing else: {:?}", wires.trail.requests());
    for (what, times) in [
        ("GetPolicy&", 1),
        ("GetRole&", 1),
        ("ListAttachedRolePolicies&", 1),
        ("ListRolePolicies&", 1),
        ("GetRolePolicy&", 8),
    ] {
        let expected = if what == "GetPolicy&" { times } else { times * all };
        assert_eq!(of(&wires.iam, &format!("Action={what}")), expected, "{what}");
    }
    assert_eq!((wires.iam.requests().len(), of(&wires.sqs, ".GetQueueAttributes")), (1 + 11 * all, 10));
    assert_eq!(wires.sqs.requests().len(), 10);
}

/// What is found unlike what was deployed, and what is written, where the ledger has this.
async fn unlike(before: Scripted, seen: &Seen, answers: Vec<Scripted>) -> (Vec<String>, Option<String>) {
    let wires =
        Wires { ledger: Wire::answering([before, ok("{}")]), trail: Wire::answering(answers), ..Wires::default() };
    let found = wires.guard().unlike_deployed(Stack::At(at(FIRST)), seen).await.unwrap();
    assert_eq!(wires.trail.unused(), 0);
    (found, wires.ledger.requests().into_iter().find(|request| request.contains(".PutItem")))
}

fn seen(policy: &Value) -> Seen {
    let mut seen = Seen::default();
    seen.policy("the queue `recheck`", policy);
    seen
}

#[tokio::test]
async fn what_is_not_as_it_was_deployed_is_told_and_a_deployment_is_waited_for() {
    let done = || vec![stack(FIRST, "UPDATE_COMPLETE")];
    let deployed = json!({"Statement": [{"Sid": "a"}, {"Sid": "b"}]});
    let (found, put) = unlike(ok("{}"), &seen(&deployed), done()).await;
    let put = put.unwrap();
    assert!(found.is_empty() && put.contains(r#""sk":{"S":"deployed"}"#) && put.contains(FIRST), "{put}");
    let record =
        |digests: Digests| Deployed { schema: 1, deployed_at: at(FIRST), digests, looks: 2, changed: Digests::new() };
    let stored = |digests: Digests| item(&Record::Deployed(record(digests)));
    let known = Deployed::looked(None, at(FIRST), seen(&deployed).digests()).digests;
    let reordered = json!({"Statement": [{"Sid": "b"}, {"Sid": "a"}]});
    assert_eq!(unlike(stored(known.clone()), &seen(&reordered), done()).await, (vec![], None));
    let more = json!({"Statement": [{"Sid": "a"}, {"Sid": "b"}, {"Sid": "c", "Principal": {"AWS": "444455556666"}}]});
    let (found, put) = unlike(stored(known.clone()), &seen(&more), done()).await;
    assert_eq!(found, ["the policy of the queue `recheck` is not what was deployed"]);
    assert!(put.unwrap().contains(r#""changed":{"M":{"the policy of the queue `recheck`""#));
    // A deployment that began within the look, or is over since: the next look compares.
    for now in [stack(FIRST, "UPDATE_IN_PROGRESS"), stack(LATER, "UPDATE_COMPLETE")] {
        assert_eq!(unlike(ok("{}"), &seen(&more), vec![now]).await, (vec![], None));
    }
    let wires = Wires::default();
    let found = wires.guard().unlike_deployed(Stack::Changing, &seen(&more)).await.unwrap();
    assert!(found.is_empty() && wires.trail.requests().is_empty());
    // One that was brought to no end is told, and what cannot be looked up: nothing else that is missing is lost for it.
    let broken = wires.guard().unlike_deployed(Stack::Broken("UPDATE_FAILED".to_owned()), &seen(&more)).await.unwrap();
    assert_eq!(broken, ["the stack is `UPDATE_FAILED`: nothing is held to what was deployed"]);
    let (found, put) = unlike(json_error(400, "ResourceNotFoundException"), &seen(&more), done()).await;
    assert!(found[0].starts_with("what was deployed cannot be looked up: ") && put.is_none(), "{found:?}");
    // A record that somebody edited is told, and not written over.
    let edited = ok(r#"{"Item": {"kind": {"S": "deployed"}, "schema": {"N": "1"}, "digests": {"S": "none"}}}"#);
    let (found, put) = unlike(edited, &seen(&more), done()).await;
    assert!(found[0].contains("is not as Firebreak wrote it") && put.is_none(), "{found:?}");
}

#[tokio::test]
async fn how_the_stack_stands_is_what_cloudformation_says() {
    for (answer, expected) in [
        (stack(LATER, "UPDATE_COMPLETE"), Stack::At(at(LATER))),
        (stack(LATER, "UPDATE_ROLLBACK_COMPLETE"), Stack::At(at(LATER))),
        (stack(LATER, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), Stack::Changing),
        (stack(LATER, "UPDATE_ROLLBACK_FAILED"), Stack::Broken("UPDATE_ROLLBACK_FAILED".to_owned())),
    ] {
        let wires = Wires { trail: Wire::answering([answer]), ..Wires::default() };
        assert_eq!(wires.guard().stack().await.unwrap(), expected);
    }
}

#[test]
fn each_thing_of_a_function_that_matters_changes_its_own_digest_and_what_aws_changes_none() {
    let base = || {
        Configuration::builder()
            .code_sha256("code")
            .role("arn:aws:iam::111122223333:role/firebreak/own")
            .handler("bootstrap")
            .runtime(Runtime::Providedal2023)
            .environment(EnvironmentResponse::builder().variables("FIREBREAK_MODE", "enforce").build())
    };
    let digests = |read: Configuration| {
        let mut seen = Seen::default();
        seen.function(FunctionName::QuarantinePrincipal, &read);
        seen.digests().clone()
    };
    let before = digests(base().build());
    let environment = |name: &str, value: &str| EnvironmentResponse::builder().variables(name, value).build();
    for (read, changes) in [
        (base().code_sha256("other").build(), Some("the code of")),
        (base().environment(environment("FIREBREAK_MODE", "observe")).build(), Some("the environment of")),
        (base().environment(environment("FIREBREAK_MODES", "enforce")).build(), Some("the environment of")),
        (base().role("arn:aws:iam::111122223333:role/x/firebreak/own").build(), Some("the configuration of")),
        (base().handler("other").build(), Some("the configuration of")),
        (base().layers(Layer::builder().arn("arn:layer").build()).build(), Some("the configuration of")),
        (base().kms_key_arn("arn:key").build(), Some("the configuration of")),
        (base().state(State::Inactive).last_modified("2026-11-21").revision_id("r").build(), None),
    ] {
        let now = digests(read);
        let other: Vec<&String> =
            before.iter().filter(|(thing, digest)| now.get(*thing) != Some(digest)).map(|(t, _)| t).collect();
        assert_eq!(other.len(), usize::from(changes.is_some()), "{other:?}");
        assert!(other.iter().all(|thing| changes.is_some_and(|changes| thing.starts_with(changes))), "{other:?}");
    }
    let unreadable = EnvironmentResponse::builder().error(EnvironmentError::builder().build()).build();
    let now = digests(base().environment(unreadable).build());
    assert_eq!(now.len(), before.len() - 1, "what could not be decrypted is not compared");
}

#[test]
fn what_a_role_may_do_and_what_a_policy_says_has_a_digest_of_its_own() {
    let function = FunctionName::QuarantinePrincipal;
    let digests = |arn: &str, trust: &str, boundary: &str, policies: &[&str]| {
        let policies = policies.iter().map(|&policy| policy.to_owned()).collect();
        let mut seen = Seen::default();
        seen.role(
            function,
            Rights { arn: arn.to_owned(), trust: trust.to_owned(), boundary: boundary.to_owned(), policies },
        );
        seen.digests().clone()
    };
    let before = digests("arn", "trust", "", &["a {}", "b {}"]);
    assert_eq!(digests("arn", "trust", "", &["b {}", "a {}"]), before, "in whatever order");
    let (trust, rights) =
        ("the trust of the role of `quarantine-principal`", "what the role of `quarantine-principal` may do");
    for (now, changes) in [
        (digests("arn", "other", "", &["a {}", "b {}"]), trust),
        (digests("another/arn", "trust", "", &["a {}", "b {}"]), trust),
        (digests("arn", "trust", "arn:boundary", &["a {}", "b {}"]), rights),
        (digests("arn", "trust", "", &["a {}"]), rights),
        (digests("arn", "trust", "", &["a {}", "b {}", "arn:aws:iam::aws:policy/AdministratorAccess"]), rights),
    ] {
        let other: Vec<&String> =
            before.iter().filter(|(thing, digest)| now.get(*thing) != Some(digest)).map(|(thing, _)| thing).collect();
        assert_eq!(other, [changes]);
    }

    let failures = |retries: i32, parked: &str| {
        let mut seen = Seen::default();
        let to = DestinationConfig::builder().on_failure(OnFailure::builder().destination(parked).build()).build();
        let config = FunctionEventInvokeConfig::builder().maximum_retry_attempts(retries).destination_config(to);
        seen.failures(function, [config.build()].into_iter());
        seen.digests().clone()
    };
    assert!(
        failures(2, "arn:queue") != failures(0, "arn:queue") && failures(2, "arn:queue") != failures(2, "arn:mine")
    );

    // A policy is one statement or several, or nothing that IAM knows: none of it is no policy.
    let said = [
        json!(null),
        json!({"Statement": [{"Sid": "a"}]}),
        json!({"Statement": {"Sid": "b"}}),
        json!({"Statements": []}),
        json!("a text"),
    ];
    let digests: BTreeSet<String> =
        said.iter().flat_map(|policy| seen(policy).digests().clone().into_values()).collect();
    assert_eq!(digests.len(), said.len());
}

#[test]
fn a_rule_that_hears_or_sends_something_else_is_not_what_was_deployed() {
    let rule = |pattern: &str| DescribeRuleOutput::builder().event_pattern(pattern).build();
    let target = || Target::builder().id("t").arn("arn:aws:sqs:eu-west-1:111122223333:firebreak-recheck");
    let digests = |rule: DescribeRuleOutput, target: TargetBuilder| {
        let mut seen = Seen::default();
        seen.rule("changes", &rule, &[target.build().unwrap()]);
        seen.digests().clone()
    };
    let before = digests(rule(r#"{"source": ["aws.iam"], "account": ["1"]}"#), target());
    let transformer = InputTransformer::builder().input_template("{}").build().unwrap();
    for (rule, target, changes) in [
        (rule(r#"{"account":["1"],"source":["aws.iam"]}"#), target().id("another"), None),
        (rule(r#"{"source": ["nobody"], "account": ["1"]}"#), target(), Some("what the rule `changes` listens for")),
        (
            rule(r#"{"source": ["aws.iam"], "account": ["1"]}"#),
            target().input("{}"),
            Some("what the rule `changes` sends"),
        ),
        (
            rule(r#"{"source": ["aws.iam"], "account": ["1"]}"#),
            target().input_transformer(transformer),
            Some("what the rule `changes` sends"),
        ),
    ] {
        let now = digests(rule, target);
        let other: Vec<&String> =
            before.iter().filter(|(thing, digest)| now.get(*thing) != Some(digest)).map(|(thing, _)| thing).collect();
        assert_eq!(other, changes.as_slice());
    }
}
