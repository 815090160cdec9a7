//! A function as it was: every version that matters, its secrets by themselves, its code compared with its digest.

use aws_smithy_types::base64;
use firebreak_model::usage::Usage;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::testing::ok;

const BASE: &str = "/2015-03-31/functions/orders";

fn code_sha256(package: &str) -> String {
    base64::encode(Sha256::digest(package))
}

fn address(of: &str) -> String {
    format!("https://awslambda-eu-west-1-tasks.s3.eu-west-1.amazonaws.com/{of}?X-Amz-Signature=s")
}

/// What `GetFunction` answers of a version whose package is told.
fn version(package: &str, at: &str) -> Value {
    json!({"Configuration": {"FunctionName": "orders", "CodeSha256": code_sha256(package), "FieldOfTheFuture": 7,
                             "Environment": {"Variables": {"DB_PASSWORD": "hunter2"}}},
           "Code": {"RepositoryType": "S3", "Location": address(at)}})
}

fn is_package(key: &str) -> bool {
    std::path::Path::new(key).extension().is_some_and(|extension| extension == "zip")
}

fn found(answer: &Value) -> [Wired; 1] {
    [ok(answer.to_string())]
}

/// A function with an alias that leads to two versions, a third one that nobody uses, and a layer.
fn house() -> House {
    let house = House::with(&incident());
    let place = |place: &str, answer: &Value| house.account.place(place, found(answer));
    let aliases = format!("{BASE}/aliases");
    let weights = json!({"AdditionalVersionWeights": {"1": 0.1}});
    let live = json!({"Name": "live", "FunctionVersion": "2", "RoutingConfig": weights});
    place(&aliases, &json!({"Aliases": [live], "NextMarker": "m"}));
    place(&format!("{aliases}?Marker=m"), &json!({"Aliases": [{"Name": "next", "FunctionVersion": "$LATEST"}]}));
    let versions = ["$LATEST", "1", "2", "3"]
        .map(|number| json!({"Version": number, "Environment": {"Variables": {"DB_PASSWORD": "hunter2"}}}));
    place(&format!("{BASE}/versions"), &json!({"Versions": versions}));
    let mut latest = version("new", "new");
    latest["Configuration"]["Layers"] = json!([{"Arn": "arn:aws:lambda:eu-west-1:444455556666:layer:tools:7"}]);
    place(BASE, &latest);
    place(&format!("{BASE}?Qualifier=1"), &version("old", "old"));
    place(&format!("{BASE}?Qualifier=2"), &version("new", "new"));
    place(
        &format!("{BASE}/configuration"),
        &json!({"Environment": {"Variables": {"DB_PASSWORD": "hunter2"}},
                                                    "LoggingConfig": {"LogGroup": "/aws/lambda/orders"}}),
    );
    for number in ["1", "2"] {
        let variables = json!({"Environment": {"Variables": {"DB_PASSWORD": "hunter2", "A": "b"}}});
        place(&format!("{BASE}/configuration?Qualifier={number}"), &variables);
    }
    let open = json!({"Policy": "{\"Statement\":[{\"Sid\":\"open\"}]}"});
    place(&format!("{BASE}/policy?Qualifier=live"), &open);
    let layer =
        "/2018-10-31/layers?find=LayerVersion&Arn=arn%3Aaws%3Alambda%3Aeu-west-1%3A444455556666%3Alayer%3Atools%3A7";
    let content = json!({"Location": address("tools"), "CodeSha256": code_sha256("tools")});
    place(layer, &json!({"Content": content}));
    for (list, name) in [
        ("/2019-09-30/functions/orders/provisioned-concurrency?List=ALL", "ProvisionedConcurrencyConfigs"),
        ("/2021-10-31/functions/orders/urls", "FunctionUrlConfigs"),
        ("/2019-09-25/functions/orders/event-invoke-config/list", "FunctionEventInvokeConfigs"),
    ] {
        place(list, &json!({name: [{"here": true}]}));
    }
    let mapping = |uuid: &str, arn: &str| json!({"UUID": uuid, "FunctionArn": arn});
    let orders = "arn:aws:lambda:eu-west-1:111122223333:function:orders";
    let mappings = [
        mapping("of-the-function", orders),
        mapping("of-an-alias", &format!("{orders}:live")),
        mapping("of-another", "arn:aws:lambda:eu-west-1:111122223333:function:orders-2"),
    ];
    place("/2015-03-31/event-source-mappings", &json!({"EventSourceMappings": mappings}));
    let signing = "arn:aws:lambda:eu-west-1:111122223333:csc";
    let signed = json!({"FunctionName": "orders", "CodeSigningConfigArn": signing});
    place("/2020-06-30/functions/orders/code-signing-config", &signed);
    place("/2019-09-30/functions/orders/concurrency", &json!({"ReservedConcurrentExecutions": 0}));
    place(
        "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Aorders",
        &json!({"Tags": {"team": "orders"}}),
    );
    for package in ["new", "old", "tools"] {
        house.account.place(&place_of(package), [ok(package)]);
    }
    house
}

fn place_of(package: &str) -> String {
    format!("/{package}?X-Amz-Signature=s")
}

impl House {
    /// The objects of the function, with what each is about.
    fn of_the_function(&self) -> Vec<(String, String, Vec<u8>)> {
        let (manifest, _) = self.manifest(1);
        let entries = manifest.entries.into_iter().filter(|entry| entry.collector == "function");
        entries.map(|entry| (entry.what, entry.key.clone(), self.bucket.object(&entry.key).unwrap())).collect()
    }

    fn function_gaps(&self) -> Vec<(String, Lack, String)> {
        let gaps = self.manifest(1).0.gaps.into_iter().filter(|gap| gap.source.api.starts_with("lambda:"));
        gaps.map(|gap| (gap.what, gap.lack, gap.reason)).collect()
    }
}

#[tokio::test]
async fn a_function_is_kept_with_the_code_of_every_version_that_matters() {
    let house = house();
    house.take().await.unwrap();
    assert_eq!(house.function_gaps(), []);
    let objects = house.of_the_function();
    let arn = "arn:aws:lambda:eu-west-1:111122223333:function:orders";
    let whats: Vec<&str> = objects.iter().map(|(what, ..)| what.as_str()).collect();
    assert_eq!(
        whats,
        [
            arn,
            &format!("values of the environment of {arn}"),
            &format!("code of {arn}: 2, $LATEST"),
            &format!("code of {arn}: 1"),
            "arn:aws:lambda:eu-west-1:444455556666:layer:tools:7"
        ]
    );
    let packages: Vec<&[u8]> = objects.iter().filter(|(_, k, _)| is_package(k)).map(|o| &*o.2).collect();
    let wanted: [&[u8]; 3] = [b"new", b"old", b"tools"];
    assert_eq!(packages, wanted, "each package once, as it is");
    let told = documents(&objects[0].2);
    let of = |api: &str| told.iter().filter(|line| line["api"] == api).collect::<Vec<_>>();
    let versions: Vec<_> =
        of("lambda:GetFunction").iter().map(|line| line["parameters"]["Qualifier"].clone()).collect();
    assert_eq!(versions, [json!(null), json!("1"), json!("2")], "version 3 is nobody's");
    assert_eq!(of("lambda:GetFunction")[0]["response"]["Configuration"]["FieldOfTheFuture"], 7);
    assert_eq!(of("lambda:ListAliases")[0]["response"]["Aliases"].as_array().unwrap().len(), 2);
    let policies = of("lambda:GetPolicy");
    let places: Vec<_> = policies.iter().map(|line| line["parameters"]["Qualifier"].clone()).collect();
    assert_eq!(places, [json!(null), json!("live"), json!("next"), json!("1"), json!("2"), json!("3")]);
    assert_eq!(policies[1]["response"]["PolicyDocument"]["Statement"][0]["Sid"], "open");
    assert_eq!(policies[0]["response"], json!(null), "no policy is no gap");
    let here = json!([{"here": true}]);
    for (api, name, held) in [
        ("ListProvisionedConcurrencyConfigs", "ProvisionedConcurrencyConfigs", here.clone()),
        ("ListFunctionUrlConfigs", "FunctionUrlConfigs", here.clone()),
        ("ListFunctionEventInvokeConfigs", "FunctionEventInvokeConfigs", here),
        ("GetFunctionCodeSigningConfig", "CodeSigningConfigArn", json!("arn:aws:lambda:eu-west-1:111122223333:csc")),
        ("GetFunctionConcurrency", "ReservedConcurrentExecutions", json!(0)),
        ("ListTags", "Tags", json!({"team": "orders"})),
    ] {
        let told = of(&format!("lambda:{api}"));
        assert_eq!(told.len(), 1, "{api}");
        assert_eq!(told[0]["response"][name], held, "{api}");
    }
    let mappings = of("lambda:ListEventSourceMappings")[0]["response"]["EventSourceMappings"].clone();
    let uuids: Vec<_> = mappings.as_array().unwrap().iter().map(|mapping| mapping["UUID"].clone()).collect();
    assert_eq!(uuids, [json!("of-the-function"), json!("of-an-alias")]);
}

/// Whoever isolates the function makes calls of the same kind in the same moment.
#[tokio::test]
async fn hundreds_of_versions_leave_lambda_time_for_others() {
    let mut house = house();
    let policies = Pace::noted(Limits::default().policies);
    house.policies = Some(policies.clone());
    let versions: Vec<Value> = (1..=300).map(|number: u32| json!({"Version": number.to_string()})).collect();
    house.account.place(&format!("{BASE}/versions"), found(&json!({"Versions": versions})));
    house.take().await.unwrap();
    let told = documents(&house.of_the_function()[0].2);
    let asked = told.iter().filter(|line| line["api"] == "lambda:GetPolicy").count();
    assert_eq!(asked, 60, "the function, its aliases, its newest versions");
    let turns: Vec<u128> = (0..60).collect();
    assert_eq!(policies.turns("eu-west-1"), turns);
    assert!(Limits::default().policies >= Duration::from_secs(1) / 10);
}

#[tokio::test]
async fn values_of_the_environment_are_in_an_object_of_their_own_and_nowhere_else() {
    let house = house();
    house.take().await.unwrap();
    let mut held = 0;
    for key in house.bucket.keys() {
        let body = house.bucket.object(&key).unwrap();
        let text = if key.contains(".jsonl.") { unpacked(&body) } else { String::from_utf8_lossy(&body).into_owned() };
        assert!(!text.contains("X-Amz-Signature"), "{key}: an address that gives the code away");
        if key.contains(".secrets.") {
            held += text.matches("hunter2").count();
        } else {
            assert!(!text.contains("hunter2"), "{key}");
        }
    }
    assert_eq!(held, 3, "of each version");
    let step = house.step().to_string();
    assert!(!step.contains("hunter2"));
}

#[tokio::test]
async fn code_that_is_not_what_aws_says_is_kept_and_a_gap() {
    let house = house();
    house.account.place(&place_of("old"), [ok("forged")]);
    house.take().await.unwrap();
    let gaps = house.function_gaps();
    assert_eq!((gaps.len(), gaps[0].1), (1, Lack::Differs), "{gaps:?}");
    assert!(gaps[0].0.ends_with(": 1") && gaps[0].2.contains(&sha256_hex(b"old")), "{gaps:?}");
    assert!(house.of_the_function().iter().any(|(.., body)| body == b"forged"));
    assert_eq!(
        house.account.asked().iter().filter(|place| **place == place_of("old")).count(),
        3,
        "it was tried again"
    );
}

#[tokio::test]
async fn a_download_that_is_cut_off_is_begun_again() {
    let house = house();
    house.account.cut_off(&place_of("new"), 2);
    house.take().await.unwrap();
    assert_eq!(house.function_gaps(), []);
    assert!(house.of_the_function().iter().any(|(.., body)| body == b"new"));
    assert_eq!(house.account.asked().iter().filter(|place| **place == place_of("new")).count(), 3);
}

#[tokio::test]
async fn code_that_cannot_be_fetched_is_a_gap_and_the_rest_is_kept() {
    for (answer, lack) in [
        (Wired::Http(404, String::new()), Lack::Gone),
        (Wired::Http(302, String::new()), Lack::Rejected),
        (Wired::Http(403, String::new()), Lack::Denied),
        (Wired::Lost, Lack::NoAnswer),
    ] {
        let mut house = house();
        house.limits.stalls = 0;
        house.account.place(&place_of("new"), [answer]);
        house.take().await.unwrap();
        let gaps = house.function_gaps();
        assert_eq!((gaps.len(), gaps[0].1), (1, lack), "{gaps:?}");
        assert_eq!(house.of_the_function().len(), 4);
    }
}

#[tokio::test]
async fn an_address_that_is_none_of_s3s_is_not_asked() {
    let house = house();
    let mut away = version("new", "new");
    away["Code"]["Location"] = json!("https://evil.example/new?X-Amz-Signature=s");
    house.account.place(&format!("{BASE}?Qualifier=2"), found(&away));
    house.account.place("https://evil.example/new?X-Amz-Signature=s", [ok("new")]);
    house.take().await.unwrap();
    let gaps = house.function_gaps();
    assert_eq!((gaps.len(), gaps[0].1), (1, Lack::Rejected), "{gaps:?}");
    assert!(house.account.asked().iter().all(|place| !place.contains("evil")));
}

#[tokio::test]
async fn of_an_image_its_name_and_digest_are_kept() {
    let house = house();
    let image = json!({"Configuration": {"PackageType": "Image", "CodeSha256": "x"}, "Code": {"RepositoryType": "ECR",
        "ImageUri": "1.dkr.ecr/orders:live", "ResolvedImageUri": "1.dkr.ecr/orders@sha256:abc"}});
    for place in ["", "?Qualifier=1", "?Qualifier=2"] {
        house.account.place(&format!("{BASE}{place}"), found(&image));
    }
    house.take().await.unwrap();
    let objects = house.of_the_function();
    assert_eq!((objects.len(), house.function_gaps()), (1, vec![]));
    let told = documents(&objects[0].2);
    assert_eq!(told[0]["response"]["Code"]["ResolvedImageUri"], "1.dkr.ecr/orders@sha256:abc");
}

#[tokio::test]
async fn an_environment_that_aws_keeps_back_is_a_gap() {
    let house = house();
    let mut locked = version("old", "old");
    locked["Configuration"]["Environment"] = json!({"Error": {"ErrorCode": "AccessDeniedException"}});
    house.account.place(&format!("{BASE}?Qualifier=1"), found(&locked));
    house.take().await.unwrap();
    let gaps = house.function_gaps();
    assert!(gaps.len() == 1 && gaps[0].2.contains("AccessDeniedException"), "{gaps:?}");
}

#[tokio::test]
async fn a_version_that_a_finding_names_is_kept_too() {
    let house = house();
    house.account.place(&format!("{BASE}?Qualifier=3"), found(&version("named", "named")));
    house.account.place(&place_of("named"), [ok("named")]);
    let mut finding = crate::page::tests::finding("a");
    let lambda = json!({"functionArn": function("orders"), "functionVersion": "3"});
    let other = json!({"functionArn": function("others"), "functionVersion": "9"});
    finding.incident_id = Some(incident().incident_id);
    finding.event = json!({"detail": {"resource": {"lambdaDetails": lambda}, "other": other}}).to_string();
    house.account.put(&Record::Finding(Box::new(finding)));
    house.take().await.unwrap();
    assert!(house.of_the_function().iter().any(|(.., body)| body == b"named"));
    assert!(house.account.asked().iter().all(|place| !place.contains("Qualifier=9")));
}

/// In invocations that have no time at all, each of which keeps one object.
#[tokio::test]
async fn a_function_that_takes_many_invocations_is_the_same_in_the_end() {
    let whole = house();
    whole.take().await.unwrap();
    let cut = house();
    let invocations = cut.take_a_little_at_a_time().await;
    assert!(invocations > 4, "{invocations}");
    assert_eq!(cut.of_the_function(), whole.of_the_function());
}

#[tokio::test]
async fn what_aws_does_not_give_for_now_is_asked_for_again_and_the_rest_is_kept() {
    let house = house();
    let busy = || json_error(429, "TooManyRequestsException");
    let urls = "/2021-10-31/functions/orders/urls";
    house.account.place(urls, [busy(), busy(), ok(r#"{"FunctionUrlConfigs": []}"#)]);
    let mut order = json!({"detail": {"incident_id": incident().incident_id}});
    let mut invocations = 0;
    while house.invoke(&order, AMPLE).await.unwrap().outcome == "collecting" {
        invocations += 1;
        order = house.account.take_messages().remove(0).0;
    }
    assert_eq!((invocations, house.function_gaps()), (2, vec![]));
    let about = house.of_the_function().into_iter().filter(|(what, ..)| *what == function("orders").to_string());
    let lines: Vec<Vec<Value>> = about.map(|(.., body)| documents(&body)).collect();
    assert_eq!(lines.len(), 2, "what came at once is kept at once");
    assert_eq!((lines[1].len(), &lines[1][0]["api"]), (1, &json!("lambda:ListFunctionUrlConfigs")), "nothing twice");
    assert_eq!(house.of_the_function().len(), 6);

    let house = self::house();
    house.account.place(urls, [busy()]);
    let mut waits = Vec::new();
    while house.invoke(&order, AMPLE).await.unwrap().outcome == "collecting" {
        let (message, wait) = house.account.take_messages().remove(0);
        order = message;
        waits.push(wait);
    }
    let gaps = house.function_gaps();
    assert_eq!((gaps.len(), gaps[0].1), (1, Lack::Throttled), "{gaps:?}");
    assert!(waits.len() >= 5, "{waits:?}");
}

#[tokio::test]
async fn what_our_own_steps_found_is_told_beside_what_is_there_now() {
    let house = house();
    let incident = incident();
    let target = firebreak_model::plan::Target::Function(function("orders"));
    let step = Step { action: firebreak_model::action::ActionId::ZeroConcurrency, target };
    let mut record = incident.step_record(&step, clock::now());
    record.prior = Some(r#"{"reserved": 7}"#.to_owned());
    house.account.put(&Record::Step(Box::new(record)));
    house.take().await.unwrap();
    let told = documents(&house.of_the_function()[0].2);
    let now = told.iter().find(|line| line["api"] == "lambda:GetFunctionConcurrency").unwrap();
    assert_eq!(now["response"]["ReservedConcurrentExecutions"], 0);
    let before = told.iter().find(|line| line["response"].get("found_before").is_some()).unwrap();
    assert_eq!(
        (&before["response"]["found_before"]["reserved"], &before["response"]["action"]),
        (&json!(7), &json!("zero-concurrency"))
    );
}

/// Whoever has the credentials of a role may have them from any function that runs as it.
#[tokio::test]
async fn every_function_that_runs_as_the_role_is_collected_and_those_without_a_name_are_a_gap() {
    let usage = Usage {
        users: [function("reports"), function("orders")].map(|arn| arn.to_string()).to_vec(),
        count: 60,
        scanned_at: clock::now(),
        unread: Vec::new(),
    };
    let house = House::with(&Incident { usage: Some(usage), ..incident() });
    house.take().await.unwrap();
    let (manifest, _) = house.manifest(1);
    assert_eq!(manifest.functions, [function("orders"), function("reports")]);
    let logs = manifest.entries.iter().filter(|entry| entry.collector == "logs");
    let logs: Vec<&str> = logs.map(|entry| entry.what.as_str()).collect();
    for name in ["orders", "reports"] {
        assert!(logs.iter().any(|what| what.contains(&format!("/aws/lambda/{name} in"))), "{logs:?}");
    }
    let gap = manifest.gaps.iter().find(|gap| gap.what.contains("that run as")).unwrap();
    assert_eq!(gap.what, "logs and documents of 58 more that run as role/orders");
}
