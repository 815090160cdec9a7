//! Aliases, the versions behind them, and whoever calls those by their numbers.

use super::*;

#[tokio::test]
async fn an_alias_is_led_to_a_twin_of_its_version() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let order = late(&incident, &step);
    let latest = || version("$LATEST", "a", &format!("x{MARK}"));
    let before = || vec![latest(), version("6", "b", "old"), version("7", "a", "seven")];
    let twin = || version("8", "a", &format!("seven{MARK}"));
    let with_twin = || [before(), vec![twin()]].concat();
    let live = || plain("live", "7");
    let canary = |seven: &str, weight: f64| alias("canary", "6", &json!({seven: weight}));
    let script = [
        // observe
        vec![configuration("x", "Successful"), aliases(&[live(), canary("7", 0.1), plain("dev", "$LATEST")])],
        vec![provisioned(&[("live", 3, "READY", "2026-11-20T10:29:14+0000")])],
        // apply
        vec![configuration("x", "Successful"), ok("{}"), aliases(&[live(), canary("7", 0.1)]), versions(&before())],
        vec![ok(json!({"Version": "8", "State": "Pending"}).to_string()), ok(json!({"State": "Active"}).to_string())],
        vec![ok("{}"), ok("{}"), aliases(&[plain("live", "8"), canary("8", 0.1)]), versions(&with_twin())],
        vec![provisioned(&[("live", 3, "IN_PROGRESS", "2026-11-20T10:29:14+0000")])],
        // verify: not ready yet, then ready, with what is left
        vec![configuration(MARK, "Successful"), aliases(&[plain("live", "8"), canary("8", 0.1)])],
        vec![versions(&with_twin()), provisioned(&[("live", 3, "IN_PROGRESS", "2026-11-20T10:29:14+0000")])],
        vec![configuration(MARK, "Successful"), aliases(&[plain("live", "8"), canary("8", 0.1)])],
        vec![versions(&with_twin()), provisioned(&[("live", 3, "READY", "2026-11-20T10:29:14+0000")])],
        vec![no_mappings(), no_policy(), no_policy()],
    ];
    let wire = Wire::answering(script.concat());
    let observed = action(&wire).observe(order).await.unwrap();
    let recorded = json!([{"name": "live", "version": "7"},
                          {"name": "canary", "version": "6", "weights": {"7": 0.1}}]);
    assert_eq!(observed["aliases"], recorded);
    action(&wire).apply(order, &observed).await.unwrap();
    let publish = format!(
        "POST /2015-03-31/functions/{PATH}/versions {{\"CodeSha256\":\"a\",\"Description\":\"seven{MARK}\",\"RevisionId\":\"r-$LATEST\"}}"
    );
    let canary = format!(
        "PUT /2015-03-31/functions/{PATH}/aliases/canary {{\"FunctionVersion\":\"6\",\"RevisionId\":\"r-canary\",\
         \"RoutingConfig\":{{\"AdditionalVersionWeights\":{{\"8\":0.1}}}}}}"
    );
    let asked = format!("GET /2015-03-31/functions/{PATH}/configuration?Qualifier=8");
    assert_eq!(changes(&wire), [describe(&format!("x{MARK}")), publish, lead("live", "8"), canary]);
    assert!(wire.requests().contains(&asked), "{:?}", wire.requests());
    let verified = action(&wire).verify(order, &observed).await.unwrap();
    assert_eq!(verified, Verified::NotInForce("provisioned concurrency of `live` is `IN_PROGRESS`".to_owned()));
    // What the other version of the canary runs in cannot be replaced, and is named.
    let error = action(&wire).verify(order, &observed).await.unwrap_err();
    assert!(matches!(error, ActionError::Withheld(_)), "{error}");
    assert!(error.to_string().contains("through alias `canary` (version 6, 8) may meet"), "{error}");
    assert!(!error.to_string().contains("`live`"), "{error}");
    assert_eq!(wire.unused(), 0, "{:?}", wire.requests());
}

#[tokio::test]
async fn a_twin_that_was_published_already_is_not_published_again_and_aliases_of_it_are_left() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let all = [version("$LATEST", "a", MARK), version("7", "a", ""), version("8", "a", MARK)];
    let wire = Wire::answering([
        configuration(MARK, "Successful"),
        aliases(&[plain("live", "7"), plain("other", "8")]),
        versions(&all),
        ok("{}"),
        ok("{}"),
        aliases(&[plain("live", "8"), plain("other", "8")]),
        versions(&all),
        provisioned(&[]),
    ]);
    action(&wire).apply(late(&incident, &step), &prior("")).await.unwrap();
    assert_eq!(changes(&wire), [lead("live", "8")]);
    assert_eq!(wire.unused(), 0);
}

#[tokio::test]
async fn a_version_that_is_another_than_latest_is_named_and_not_called_recycled() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let differs = |of: Value, how: Value| {
        let mut of = of;
        of.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
        of
    };
    let seven = || version("7", "a", "");
    for other in [
        version("7", "b", ""),
        differs(seven(), json!({"Timeout": 16})),
        differs(seven(), json!({"Environment": {"Variables": {"A": "1"}}})),
        differs(seven(), json!({"Environment": {"Error": {"ErrorCode": "KMSAccessDeniedException"}}})),
        differs(seven(), json!({"CodeSha256": null})),
    ] {
        let all = [version("$LATEST", "a", MARK), other];
        let wire = Wire::answering([
            configuration(MARK, "Successful"),
            aliases(&[plain("live", "7")]),
            versions(&all),
            provisioned(&[]),
            configuration(MARK, "Successful"),
            aliases(&[plain("live", "7")]),
            versions(&all),
            provisioned(&[]),
            no_mappings(),
            no_policy(),
        ]);
        action(&wire).apply(late(&incident, &step), &prior("")).await.unwrap();
        assert_eq!(changes(&wire), [""; 0]);
        let error = action(&wire).verify(late(&incident, &step), &prior("")).await.unwrap_err();
        assert!(matches!(error, ActionError::Withheld(_)), "{error}");
        assert!(error.to_string().contains("alias `live` (version 7)"), "{error}");
        assert_eq!(wire.unused(), 0);
    }
}

#[tokio::test]
async fn an_alias_that_was_not_led_away_is_not_recycled() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let all = [version("$LATEST", "a", MARK), version("7", "a", ""), version("8", "a", MARK)];
    for alias in [plain("live", "7"), alias("live", "8", &json!({"7": 0.1}))] {
        let wire = Wire::answering([
            configuration(MARK, "Successful"),
            aliases(&[plain("other", "8"), alias]),
            versions(&all),
            provisioned(&[]),
        ]);
        let verified = action(&wire).verify(late(&incident, &step), &prior("")).await.unwrap();
        let Verified::NotInForce(found) = verified else { panic!("{verified:?}") };
        assert!(found.starts_with("alias `live` (version ") && found.ends_with("leads to old environments still"));
        assert_eq!(wire.unused(), 0);
    }
}

#[tokio::test]
async fn whatever_calls_a_version_by_its_number_is_named() {
    let (incident, step) = function_order(ActionId::RecycleEnvironments);
    let before = json!({"description": "", "aliases": [{"name": "live", "version": "7"}]});
    let all = [version("$LATEST", "a", MARK), version("7", "a", ""), version("8", "a", MARK)];
    let mapping = |uuid: &str, of: &str| json!({"UUID": uuid, "FunctionArn": format!("{ARN}{of}")});
    let wire = Wire::answering([
        configuration(MARK, "Successful"),
        aliases(&[plain("live", "8")]),
        versions(&all),
        provisioned(&[]),
        ok(json!({"EventSourceMappings": [mapping("m1", ":7"), mapping("m2", ":live"), mapping("m3", ""),
                                          mapping("m4", "-other:7")]})
        .to_string()),
        ok(json!({"Policy": "{}"}).to_string()),
    ]);
    let error = action(&wire).verify(late(&incident, &step), &before).await.unwrap_err().to_string();
    let named = "through event source mapping `m1` (version 7) and calls of version 7 by its number, which its resource \
                 policy lets in may meet";
    assert!(error.contains(named), "{error}");
    assert_eq!(wire.unused(), 0);
}
