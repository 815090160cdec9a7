#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use firebreak_model::ledger::ReleaseOrder;
use firebreak_model::plan::Step;
use serde_json::json;

use super::super::lambda_target::testing::{ARN, PATH, functions, get_configuration};
use super::*;
use crate::testing::{Answer, Wire, function_order, json_error, ok};

mod aliases;

const MARK: &str = " [firebreak: recycled 1]";

fn action(wire: &Wire) -> RecycleEnvironments {
    RecycleEnvironments { functions: functions(wire) }
}

fn after(incident: &Incident, seconds: i64) -> Timestamp {
    incident.opened_at + SignedDuration::from_secs(seconds)
}

/// The order, once the revocation's time has passed.
fn late<'a>(incident: &'a Incident, step: &'a Step) -> Order<'a> {
    Order { incident, step, now: after(incident, 75) }
}

fn releasing(incident: &Incident, seconds: i64) -> Incident {
    let release = ReleaseOrder {
        at: after(incident, seconds),
        by: "test".into(),
        reason: "test".into(),
        invocation: "test".into(),
        reactivate_keys: Vec::new(),
        left_alone: Vec::new(),
        from: None,
    };
    Incident { state: IncidentState::Releasing, release: Some(release), ..incident.clone() }
}

fn configuration(description: &str, status: &str) -> Answer {
    ok(json!({"Role": "arn:aws:iam::111122223333:role/orders-role", "RevisionId": "r1",
              "Description": description, "LastUpdateStatus": status})
    .to_string())
}

fn describe(description: &str) -> String {
    let body = json!(description);
    format!("PUT /2015-03-31/functions/{PATH}/configuration {{\"Description\":{body},\"RevisionId\":\"r1\"}}")
}

fn prior(description: &str) -> Value {
    json!({"description": description})
}

/// A version: its number, what makes it what it is, its description.
fn version(number: &str, code: &str, description: &str) -> Value {
    json!({"FunctionName": "orders", "FunctionArn": format!("{ARN}:{number}"), "Version": number, "CodeSha256": code,
           "Description": description, "RevisionId": format!("r-{number}"), "Timeout": 15,
           "LastModified": "2026-11-21T03:01:15.000+0000"})
}

fn versions(all: &[Value]) -> Answer {
    ok(json!({"Versions": all}).to_string())
}

/// Nothing is published.
fn unpublished() -> Answer {
    versions(&[version("$LATEST", "a", "")])
}

fn alias(name: &str, version: &str, weights: &Value) -> Value {
    json!({"Name": name, "FunctionVersion": version, "RevisionId": format!("r-{name}"),
           "RoutingConfig": {"AdditionalVersionWeights": weights}})
}

fn plain(name: &str, version: &str) -> Value {
    json!({"Name": name, "FunctionVersion": version, "RevisionId": format!("r-{name}")})
}

fn aliases(all: &[Value]) -> Answer {
    ok(json!({"Aliases": all}).to_string())
}

fn provisioned(items: &[(&str, i32, &str, &str)]) -> Answer {
    let items: Vec<Value> = items
        .iter()
        .map(|(of, figure, status, at)| {
            json!({"FunctionArn": format!("{ARN}:{of}"), "RequestedProvisionedConcurrentExecutions": figure,
                   "Status": status, "LastModified": at})
        })
        .collect();
    ok(json!({"ProvisionedConcurrencyConfigs": items}).to_string())
}

fn no_mappings() -> Answer {
    ok(r#"{"EventSourceMappings": []}"#)
}

fn no_policy() -> Answer {
    json_error(404, "ResourceNotFoundException")
}

/// What `apply` looks at where nothing is published, after the update.
fn nothing_else() -> [Answer; 3] {
    [aliases(&[]), unpublished(), provisioned(&[])]
}

fn lead(name: &str, to: &str) -> String {
    format!(
        "PUT /2015-03-31/functions/{PATH}/aliases/{name} {{\"FunctionVersion\":\"{to}\",\"RevisionId\":\"r-{name}\"}}"
    )
}

fn changes(wire: &Wire) -> Vec<String> {
    wire.requests().into_iter().filter(|request| !request.starts_with("GET ")).collect()
}

#[tokio::test]
async fn marks_the_description_and_reads_back() {
    let marked = format!("takes orders{MARK}");
    let script = [
        vec![configuration("takes orders", "Successful"), aliases(&[]), provisioned(&[])],
        vec![configuration("takes orders", "Successful"), ok("{}")],
        nothing_else().into(),
        vec![configuration(&marked, "InProgress"), configuration(&marked, "Successful")],
        vec![aliases(&[plain("live", "$LATEST")]), unpublished(), provisioned(&[])],
    ];
    let wire = Wire::answering(script.concat());
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let order = late(&incident, &step);
    let observed = action(&wire).observe(order).await.unwrap();
    assert_eq!(observed, json!({"description": "takes orders", "mark": MARK}));
    action(&wire).apply(order, &observed).await.unwrap();
    let verified = action(&wire).verify(order, &observed).await.unwrap();
    assert_eq!(verified, Verified::NotInForce("the update is under way".to_owned()));
    assert_eq!(action(&wire).verify(order, &observed).await.unwrap(), Verified::InForce);
    assert_eq!(changes(&wire), [describe(&marked)]);
    assert_eq!((wire.requests().len(), wire.unused()), (13, 0));
}

#[tokio::test]
async fn what_is_provisioned_is_put_again_once() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let order = late(&incident, &step);
    let (old, new) = ("2026-11-20T10:29:14+0000", "2026-11-21T03:01:11+0000");
    let before = json!({"description": "", "provisioned": [{"qualifier": "7", "requested": 3},
                                                           {"qualifier": "6", "requested": 2}]});
    let all = || versions(&[version("$LATEST", "a", MARK), version("6", "b", ""), version("7", "b", "")]);
    let begin = |now: &[(&str, i32, &str, &str)]| {
        vec![configuration(MARK, "Successful"), aliases(&[]), all(), provisioned(now)]
    };
    // An earlier try has taken away that of version 6, and was killed.
    let wire = Wire::answering([begin(&[("7", 3, "READY", old)]), vec![ok("{}"), ok("{}"), ok("{}")]].concat());
    action(&wire).apply(order, &before).await.unwrap();
    let path = format!("/2019-09-30/functions/{PATH}/provisioned-concurrency?Qualifier=");
    let put = |of: &str, figure: i32| format!("PUT {path}{of} {{\"ProvisionedConcurrentExecutions\":{figure}}}");
    assert_eq!(changes(&wire), [format!("DELETE {path}7"), put("7", 3), put("6", 2)]);

    let wire = Wire::answering(begin(&[("7", 3, "READY", new), ("6", 2, "IN_PROGRESS", new)]));
    action(&wire).apply(order, &before).await.unwrap();
    assert_eq!(changes(&wire), [""; 0]);

    for (now, says) in [
        (vec![("7", 3, "READY", old), ("6", 2, "READY", new)], "what is provisioned for `7` is from before"),
        (vec![("7", 3, "READY", "?"), ("6", 2, "READY", new)], "what is provisioned for `7` is from before"),
        (vec![("7", 3, "READY", new)], "nothing is provisioned for `6` any more"),
        (vec![("7", 3, "FAILED", new), ("6", 2, "READY", new)], "provisioned concurrency of `7` is `FAILED`"),
    ] {
        let wire = Wire::answering(begin(&now));
        assert_eq!(action(&wire).verify(order, &before).await.unwrap(), Verified::NotInForce(says.to_owned()));
    }
    // Whoever calls a version by its number meets more than what is provisioned.
    let policy = ok(json!({"Policy": "{}"}).to_string());
    let script = [begin(&[("7", 3, "READY", new), ("6", 2, "READY", new)]), vec![no_mappings(), no_policy(), policy]];
    let wire = Wire::answering(script.concat());
    let error = action(&wire).verify(order, &before).await.unwrap_err().to_string();
    assert!(error.contains("calls of version 7 by its number"), "{error}");
}

#[tokio::test]
async fn nothing_is_led_to_a_version_that_takes_no_calls_yet() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let all = [version("$LATEST", "a", MARK), version("7", "a", "")];
    let begin = || {
        vec![
            configuration(MARK, "Successful"),
            aliases(&[plain("live", "7")]),
            versions(&all),
            ok(r#"{"Version": "8"}"#),
        ]
    };
    let rest = || provisioned(&[]);
    let failed = ok(json!({"State": "Failed", "StateReason": "no \u{1b}room"}).to_string());
    for (answer, transient) in [(failed, false), (json_error(429, "TooManyRequestsException"), true)] {
        let wire = Wire::answering([begin(), vec![answer, rest()]].concat());
        let error = action(&wire).apply(late(&incident, &step), &prior("")).await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{error}");
        assert!(!changes(&wire).iter().any(|change| change.contains("/aliases/")), "{:?}", changes(&wire));
        assert_eq!(wire.unused(), 0);
    }
}

#[tokio::test]
async fn an_alias_is_led_back_when_its_old_environments_are_gone_and_only_where_it_is_still_ours() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let before = json!({"description": "x", "mark": MARK, "aliases": [{"name": "live", "version": "7"}]});
    let mut again = version("10", "a", " [firebreak: released 1]");
    again["LastModified"] = json!("2026-11-22T03:01:15.000+0000");
    let all =
        [version("$LATEST", "a", ""), version("7", "a", ""), version("8", "a", MARK), version("9", "c", MARK), again];
    let reverted = async |alias: Value, hours: i64, answers: Vec<Answer>| {
        let begin = vec![configuration("x", "Successful"), aliases(&[alias]), versions(&all)];
        let wire = Wire::answering([begin, answers].concat());
        let order = Order { now: after(&incident, hours * 3600 + 75), ..late(&incident, &step) };
        let reverted = action(&wire).revert(order, &before).await.unwrap();
        assert_eq!(wire.unused(), 0);
        (reverted, changes(&wire))
    };
    assert_eq!(reverted(plain("live", "8"), 12, vec![ok("{}")]).await, (Reverted::Restored, vec![lead("live", "7")]));
    // The release itself has led it on: what counts is since when the old version was left.
    assert_eq!(reverted(plain("live", "10"), 12, vec![ok("{}")]).await, (Reverted::Restored, vec![lead("live", "7")]));
    assert_eq!(reverted(plain("live", "7"), 1, vec![]).await, (Reverted::Restored, vec![]));
    for (alias, hours, says) in [
        (
            plain("live", "8"),
            11,
            "alias `live` (version 8) is not led back to version 7: of that, environments with dead \
          credentials may be warm until 2026-11-21T15:01:15Z; the two are the same code and configuration",
        ),
        // A deployment since, which kept the mark of the description.
        (plain("live", "9"), 99, "alias `live` (version 9) was led elsewhere since"),
        (alias("live", "8", &json!({"7": 0.5})), 99, "alias `live` (version 8, 7) was led elsewhere since"),
        (plain("other", "8"), 99, "alias `live` is gone"),
    ] {
        assert_eq!(reverted(alias, hours, vec![]).await, (Reverted::LeftAlone(says.to_owned()), vec![]));
    }
}

#[tokio::test]
async fn a_release_leads_no_alias_elsewhere_but_those_that_the_containment_led_to_a_twin() {
    let (ordered, step) = function_order(ActionId::RecycleEnvironments);
    let incident = releasing(&ordered, 3600);
    let order = Order { now: after(&ordered, 3610), ..late(&incident, &step) };
    let released = " [firebreak: released 1]";
    let all = |more: Vec<Value>| {
        let latest = version("$LATEST", "a", &format!("x{released}"));
        versions(&[vec![latest, version("7", "a", "seven"), version("8", "a", &format!("seven{MARK}"))], more].concat())
    };
    let nine = || vec![version("9", "a", &format!("seven{released}"))];
    let wire = Wire::answering([
        configuration("x", "Successful"),
        aliases(&[plain("live", "8"), plain("other", "7")]),
        provisioned(&[]),
        configuration("x", "Successful"),
        ok("{}"),
        aliases(&[plain("live", "8"), plain("other", "7")]),
        all(vec![]),
        ok(r#"{"Version": "9"}"#),
        ok(r#"{"State": "Active"}"#),
        ok("{}"),
        aliases(&[plain("live", "9"), plain("other", "7")]),
        all(nine()),
        provisioned(&[]),
        configuration(&format!("x{released}"), "Successful"),
        aliases(&[plain("live", "9"), plain("other", "7")]),
        all(nine()),
        provisioned(&[]),
        no_mappings(),
        no_policy(),
        configuration(&format!("x{released}"), "Successful"),
        ok("{}"),
    ]);
    let observed = action(&wire).observe(order).await.unwrap();
    assert_eq!(observed, json!({"description": "x", "mark": released}));
    action(&wire).apply(order, &observed).await.unwrap();
    let error = action(&wire).verify(order, &observed).await.unwrap_err();
    assert!(error.to_string().contains("through alias `other` (version 7) may meet"), "{error}");
    assert_eq!(action(&wire).revert(order, &observed).await.unwrap(), Reverted::Restored);
    let publish = format!(
        "POST /2015-03-31/functions/{PATH}/versions {{\"CodeSha256\":\"a\",\"Description\":\"seven{released}\",\"RevisionId\":\"r-$LATEST\"}}"
    );
    assert_eq!(changes(&wire), [describe(&format!("x{released}")), publish, lead("live", "9"), describe("x")]);
    assert_eq!(wire.unused(), 0);
}

#[test]
fn whatever_shares_traffic_keeps_its_share() {
    let alias = |version: &str, weights: &[(&str, f64)]| -> Alias {
        let weights: serde_json::Map<String, Value> =
            weights.iter().map(|(of, weight)| ((*of).to_owned(), json!(weight))).collect();
        serde_json::from_value(json!({"name": "live", "version": version, "weights": weights})).unwrap()
    };
    let stands_for =
        |twin: &'static str| move |of: &str| if of == "7" || of == "8" { twin.to_owned() } else { of.to_owned() };
    for (was, is) in [
        (alias("7", &[]), alias("9", &[])),
        (alias("6", &[("7", 0.25)]), alias("6", &[("9", 0.25)])),
        (alias("7", &[("6", 0.25)]), alias("9", &[("6", 0.25)])),
        // Both are the same code: all of it goes to the one.
        (alias("7", &[("8", 0.25)]), alias("9", &[])),
        (alias("6", &[("7", 0.25), ("8", 0.5)]), alias("6", &[("9", 0.75)])),
    ] {
        assert!(was.led(stands_for("9")).leads_as(&is), "{was:?}");
        assert!(!was.leads_as(&is), "{was:?}");
    }
    assert!(!alias("6", &[("7", 0.25)]).leads_as(&alias("6", &[("7", 0.5)])));
}

#[tokio::test]
async fn what_is_marked_already_is_not_updated_again() {
    let marked = format!("takes orders{MARK}");
    let observed = vec![configuration(&marked, "Successful"), aliases(&[]), provisioned(&[])];
    let applied = [vec![configuration(&marked, "Successful")], nothing_else().into()].concat();
    let wire = Wire::answering([observed, applied].concat());
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let observed = action(&wire).observe(late(&incident, &step)).await.unwrap();
    assert_eq!(observed, json!({"description": "takes orders", "mark": MARK}));
    action(&wire).apply(late(&incident, &step), &observed).await.unwrap();
    assert_eq!(changes(&wire), [""; 0]);
    assert_eq!(wire.unused(), 0);
}

#[tokio::test]
async fn nothing_is_recycled_before_the_revocation_has_passed() {
    let (ordered, step) = function_order(ActionId::RecycleEnvironments);
    let released = releasing(&ordered, 20);
    let mut revoked = released.clone();
    revoked.plan.steps.push(Step { action: ActionId::RevokeSessions, target: (&revoked.principal.name).into() });
    let mark = |incident: &Incident| mark(incident);
    for (incident, early, on_time) in [(&ordered, 69, 70), (&released, 19, 20), (&revoked, 69, 70)] {
        let wire = Wire::answering([]);
        let order = Order { now: after(incident, early), ..late(incident, &step) };
        let error = action(&wire).apply(order, &prior("x")).await.unwrap_err();
        assert!(error.is_transient() && !error.may_have_applied(), "{error}");
        assert_eq!(wire.requests(), [""; 0]);
        let wire = Wire::answering([vec![configuration("x", "Successful"), ok("{}")], nothing_else().into()].concat());
        let order = Order { now: after(incident, on_time), ..order };
        action(&wire).apply(order, &prior("x")).await.unwrap();
        assert_eq!(changes(&wire), [describe(&format!("x{}", mark(incident)))]);
    }
}

#[tokio::test]
async fn errors_say_what_can_be_done_about_them() {
    for (answer, transient, may_have_applied) in [
        (json_error(403, "AccessDeniedException"), false, false),
        (json_error(404, "ResourceNotFoundException"), false, false),
        (json_error(429, "TooManyRequestsException"), true, false),
        (json_error(409, "ResourceConflictException"), true, false),
        (json_error(412, "PreconditionFailedException"), true, false),
        (Answer::Lost, true, true),
    ] {
        let wire = Wire::answering([configuration("x", "Successful"), answer.clone()]);
        let (incident, step) = function_order(ActionId::RecycleEnvironments);
        let error = action(&wire).apply(late(&incident, &step), &prior("x")).await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{answer:?}: {error}");
        assert_eq!(error.may_have_applied(), may_have_applied, "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn what_is_not_read_back_is_not_in_force() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    for (description, status, says) in [
        ("x", "Successful", "the description does not bear the mark of the update"),
        (" [firebreak: recycled 1]", "Failed", "the update is `Failed`"),
    ] {
        let wire = Wire::answering([configuration(description, status)]);
        let verified = action(&wire).verify(late(&incident, &step), &prior("x")).await.unwrap();
        assert_eq!(verified, Verified::NotInForce(says.to_owned()));
    }
}

#[tokio::test]
async fn a_long_description_is_cut_for_the_mark_and_restored_whole() {
    let long = "ü".repeat(256);
    let marked = format!("{}{MARK}", "ü".repeat(256 - MARK.len()));
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let wire = Wire::answering([vec![configuration(&long, "Successful"), ok("{}")], nothing_else().into()].concat());
    action(&wire).apply(late(&incident, &step), &prior(&long)).await.unwrap();
    assert_eq!(changes(&wire), [describe(&marked)]);
    let wire = Wire::answering([configuration(&marked, "Successful"), ok("{}")]);
    let reverted = action(&wire).revert(late(&incident, &step), &prior(&long)).await.unwrap();
    assert_eq!(reverted, Reverted::Restored);
    assert_eq!(wire.requests(), [get_configuration(), describe(&long)]);
}

#[tokio::test]
async fn reverting_twice_changes_nothing_the_second_time_and_drift_is_left_alone() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    for (now, expected) in [
        ("x".to_owned(), Reverted::Restored),
        (format!("y{MARK}"), Reverted::LeftAlone("the description was changed since".to_owned())),
        (String::new(), Reverted::LeftAlone("the description was changed since".to_owned())),
    ] {
        let wire = Wire::answering([configuration(&now, "Successful")]);
        let reverted = action(&wire).revert(late(&incident, &step), &prior("x")).await.unwrap();
        assert_eq!(reverted, expected);
        assert_eq!(wire.requests(), [get_configuration()]);
    }
}

#[tokio::test]
async fn an_unreadable_prior_state_changes_nothing() {
    let wire = Wire::answering([]);
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let order = late(&incident, &step);
    for error in [
        action(&wire).apply(order, &Value::Null).await.unwrap_err(),
        action(&wire).verify(order, &Value::Null).await.unwrap_err(),
        action(&wire).revert(order, &Value::Null).await.unwrap_err(),
    ] {
        assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
    }
    assert_eq!(wire.requests(), [""; 0]);
}
