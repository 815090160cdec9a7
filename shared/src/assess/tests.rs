//! The exact requests of a scan, and what is on record after one that was cut short.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use firebreak_model::ids::Partition;
use firebreak_model::ledger::Record;
use firebreak_model::usage::{RoleUsage, Usage};
use serde_json::json;

use super::*;
use crate::evidence::testing::items;
use crate::testing::{Answer as Wired, Odd, Wire, json_error, ok, query_error};

const ACCOUNT: &str = "111122223333";

struct Scene {
    iam: Wire,
    regional: Wire,
    ledger: Wire,
}

impl Scene {
    fn of(iam: Vec<Wired>, regional: Vec<Wired>, ledger: Vec<Wired>) -> Self {
        Self { iam: Wire::answering(iam), regional: Wire::answering(regional), ledger: Wire::answering(ledger) }
    }

    async fn scan_within(&self, regions: &[&str], budget: SignedDuration) -> Result<Answer, Failure> {
        let assessment = Assessment {
            ledger: Ledger::new(
                aws_sdk_dynamodb::Client::new(&self.ledger.config()),
                "ledger".to_owned(),
                crate::ledger::Seal::none(),
            ),
            iam: aws_sdk_iam::Client::new(&self.iam.config()),
            sdk: self.regional.config(),
            home: Home { partition: Partition::Aws, account: ACCOUNT.parse().unwrap() },
            regions: regions.iter().map(|region| region.parse().unwrap()).collect(),
            budget,
        };
        assessment.handle(&json!({"source": "aws.events", "detail-type": "Scheduled Event"})).await
    }

    async fn scan(&self, regions: &[&str]) -> Result<Answer, Failure> {
        self.scan_within(regions, BUDGET).await
    }

    /// The requests that change the ledger.
    fn writes(&self) -> Vec<String> {
        self.ledger.requests().into_iter().filter(|request| !request.contains(".Query")).collect()
    }

    fn unused(&self) -> usize {
        self.iam.unused() + self.regional.unused() + self.ledger.unused()
    }
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/app/{name}")
}

fn function(region: &str, name: &str) -> String {
    format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}")
}

fn functions(region: &str, pairs: &[(&str, &str)], next: Option<&str>) -> Wired {
    let list: Vec<_> = pairs
        .iter()
        .map(|(name, of)| json!({"FunctionArn": function(region, name), "FunctionName": name, "Role": role(of)}))
        .collect();
    ok(json!({"Functions": list, "NextMarker": next}).to_string())
}

fn no_families() -> Wired {
    ok(json!({"families": []}).to_string())
}

fn profiles(pairs: &[(&str, &str)], next: Option<&str>) -> Wired {
    let member = |(name, of): &(&str, &str)| {
        format!(
            "<member><Path>/</Path><InstanceProfileName>{name}</InstanceProfileName><InstanceProfileId>AIPA\
             </InstanceProfileId><Arn>arn:aws:iam::{ACCOUNT}:instance-profile/{name}</Arn><CreateDate>\
             2026-01-12T08:00:00Z</CreateDate><Roles><member><Path>/app/</Path><RoleName>{of}</RoleName><RoleId>AROA\
             </RoleId><Arn>{}</Arn><CreateDate>2026-01-12T08:00:00Z</CreateDate></member></Roles></member>",
            role(of)
        )
    };
    let members: String = pairs.iter().map(member).collect();
    let marker = next.map(|marker| format!("<Marker>{marker}</Marker>")).unwrap_or_default();
    ok(format!(
        "<ListInstanceProfilesResponse><ListInstanceProfilesResult><IsTruncated>{}</IsTruncated>{marker}\
         <InstanceProfiles>{members}</InstanceProfiles></ListInstanceProfilesResult></ListInstanceProfilesResponse>",
        next.is_some()
    ))
}

fn record(name: &str, users: &[String], scanned_at: Timestamp) -> Record {
    let usage = Usage { users: users.to_vec(), count: users.len(), scanned_at, unread: Vec::new() };
    Record::Inventory(RoleUsage { schema: 1, account: ACCOUNT.parse().unwrap(), role: name.parse().unwrap(), usage })
}

#[tokio::test]
async fn every_page_of_every_list_is_read_once_and_each_role_is_one_record() {
    let definition = |family: &str, of: Option<&str>| {
        let arn = format!("arn:aws:ecs:eu-west-1:{ACCOUNT}:task-definition/{family}:7");
        ok(json!({"taskDefinition": {"taskDefinitionArn": arn, "taskRoleArn": of.map(role)}}).to_string())
    };
    let scene = Scene::of(
        vec![profiles(&[("web", "shared")], Some("m1")), profiles(&[("batch", "alone")], None)],
        vec![
            functions("eu-west-1", &[("a", "shared"), ("b", "Shared")], Some("f1")),
            functions("eu-west-1", &[("c", "own")], Some("")),
            ok(json!({"families": ["web"], "nextToken": "t1"}).to_string()),
            ok(json!({"families": ["gone", "none"]}).to_string()),
            definition("web", Some("shared")),
            json_error(400, "ClientException"),
            definition("none", None),
            functions("us-east-1", &[("a", "own")], None),
            no_families(),
        ],
        vec![items(&[]), ok("{}"), ok("{}"), ok("{}")],
    );
    let answer = scene.scan(&["eu-west-1", "us-east-1"]).await.unwrap();
    assert_eq!((answer.outcome.as_str(), answer.message.as_deref()), ("scanned", Some("3 roles are in use")));
    assert_eq!(scene.unused(), 0);

    let iam = scene.iam.requests();
    assert!(iam[0].contains("Action=ListInstanceProfiles") && iam[0].contains("MaxItems=1000"), "{iam:?}");
    assert!(!iam[0].contains("Marker") && iam[1].contains("Marker=m1"), "{iam:?}");
    let regional = scene.regional.requests();
    assert_eq!(
        regional[..2],
        ["GET /2015-03-31/functions?MaxItems=50", "GET /2015-03-31/functions?Marker=f1&MaxItems=50"]
    );
    assert!(regional[2].contains(".ListTaskDefinitionFamilies") && regional[2].contains(r#""status":"ACTIVE""#));
    assert!(regional[3].contains(r#""nextToken":"t1""#), "{regional:?}");
    assert!(regional[4].contains(r#"{"taskDefinition":"web"}"#), "{regional:?}");
    let hosts = scene.regional.hosts();
    assert!(hosts[..7].iter().all(|host| host.contains("eu-west-1")), "{hosts:?}");
    assert!(hosts[7..].iter().all(|host| host.contains("us-east-1")), "{hosts:?}");

    let writes = scene.writes();
    assert_eq!(writes.len(), 3, "{writes:?}");
    let shared = writes.iter().find(|write| write.contains("instance-profile/web")).unwrap();
    for part in [
        &function("eu-west-1", "a"),
        &function("eu-west-1", "b"),
        "task-definition/web\"",
        r#""count":{"N":"4"}"#,
        r#""kind":{"S":"inventory"}"#,
        r#""pk":{"S":"inventory#111122223333"}"#,
        "attribute_not_exists(#usage.#at) OR #usage.#at <= :at",
    ] {
        assert!(shared.contains(part), "{part}: {shared}");
    }
    let keys: String = writes.iter().filter_map(|write| write.split(r#""sk":{"S":""#).nth(1)?.get(..37)).collect();
    assert!(!keys.contains("shared") && !keys.contains("own"), "no name stands in a key: {keys}");
}

#[tokio::test]
async fn what_still_holds_is_not_written_and_whoever_is_gone_is_taken_away() {
    let now = clock::now();
    let hour = |n: i64| Timestamp::from_second(now.as_second() - n * 3_600).unwrap();
    let known = [
        record("holds", &[function("eu-west-1", "a")], hour(1)),
        record("old", &[function("eu-west-1", "b")], hour(7)),
        record("gone", &[function("eu-west-1", "c")], hour(1)),
    ];
    let (_, gone) = known[2].keys();
    let script = vec![items(&known), ok("{}"), ok("{}")];
    let found = functions("eu-west-1", &[("a", "holds"), ("b", "old")], None);
    let scene = Scene::of(vec![profiles(&[], None)], vec![found, no_families()], script);
    scene.scan(&["eu-west-1"]).await.unwrap();
    let writes = scene.writes();
    assert_eq!((writes.len(), scene.unused()), (2, 0), "{writes:?}");
    assert!(writes[0].contains(".PutItem") && writes[0].contains(r#""role":{"S":"old"}"#), "{writes:?}");
    assert!(writes[1].contains(".DeleteItem") && writes[1].contains(&gone), "{writes:?}");
    assert!(writes[1].contains("#usage.#at <= :at"), "a later scan's record is not taken away: {writes:?}");
}

#[tokio::test]
async fn a_scan_that_is_cut_short_takes_nobody_away_and_says_so() {
    let at = Timestamp::from_second(clock::now().as_second() - 60).unwrap();
    let known = || {
        [
            record("shared", &[function("eu-west-1", "a"), function("eu-west-1", "b")], at),
            record("alone", &[function("eu-west-1", "c")], at),
        ]
    };
    let page = |next| functions("eu-west-1", &[("a", "shared")], next);
    for (functions, transient) in [
        (vec![page(Some("f1")), json_error(429, "TooManyRequestsException")], Some(true)),
        (vec![page(Some("f1")), Wired::Lost], Some(true)),
        (vec![json_error(403, "AccessDeniedException")], Some(false)),
        (vec![page(Some("f1")), page(Some("f1"))], None),
    ] {
        let script = vec![items(&known()), ok("{}"), ok("{}")];
        let regional = [functions.clone(), vec![no_families()]].concat();
        let scene = Scene::of(vec![profiles(&[], None)], regional, script);
        let end = scene.scan(&["eu-west-1"]).await;
        match (transient, &end) {
            (Some(true), Err(Failure::Transient(text))) | (Some(false), Err(Failure::Permanent(text))) => {
                assert!(text.contains("functions in eu-west-1"), "{text}");
            }
            (None, Ok(answer)) => assert_eq!(answer.outcome, "partly scanned"),
            _ => panic!("{functions:?}: {end:?}"),
        }
        let writes = scene.writes();
        assert_eq!((writes.len(), scene.unused()), (2, 0), "{functions:?}: {writes:?}");
        assert!(writes.iter().all(|write| write.contains(".PutItem")), "nothing is taken away: {writes:?}");
        assert!(writes.iter().all(|write| write.contains(r#""unread":{"L":[{"S":"functions in eu-west-1"}]}"#)));
        assert!(writes.iter().any(|write| write.contains(r#""count":{"N":"2"}"#)), "still shared: {writes:?}");
    }
}

#[tokio::test]
async fn a_scan_without_time_looks_nowhere_and_keeps_everything() {
    let at = Timestamp::from_second(clock::now().as_second() - 60).unwrap();
    let known = record("shared", &[function("eu-west-1", "a"), function("eu-west-1", "b")], at);
    let scene = Scene::of(Vec::new(), Vec::new(), vec![items(&[known]), ok("{}")]);
    let answer = scene.scan_within(&["eu-west-1"], SignedDuration::ZERO).await.unwrap();
    assert_eq!((answer.outcome.as_str(), scene.unused()), ("partly scanned", 0));
    assert!(scene.writes()[0].contains(r#""count":{"N":"2"}"#));
}

#[tokio::test]
async fn one_place_that_is_refused_keeps_no_other_from_being_read() {
    let scene = Scene::of(
        vec![query_error(403, "AccessDenied")],
        vec![functions("eu-west-1", &[("a", "one")], None), json_error(400, "AccessDeniedException")],
        vec![items(&[]), ok("{}")],
    );
    let end = scene.scan(&["eu-west-1"]).await;
    assert!(
        matches!(&end, Err(Failure::Permanent(text)) if text.contains("instance profiles, task definitions")),
        "{end:?}"
    );
    assert_eq!((scene.writes().len(), scene.unused()), (1, 0));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_written_anew_or_taken_away() {
    let (_, mine) = record("one", &[], Timestamp::UNIX_EPOCH).keys();
    let stored = json!({"Items": [
        {"pk": {"S": "inventory#111122223333"}, "sk": {"S": mine}, "kind": {"S": "inventory"}, "usage": {"S": "x"}},
        {"pk": {"S": "inventory#111122223333"}, "sk": {"S": "role#forged"}, "kind": {"S": "pause"}},
    ]});
    let scene = Scene::of(
        vec![profiles(&[], None)],
        vec![functions("eu-west-1", &[("a", "one")], None), no_families()],
        vec![ok(stored.to_string()), ok("{}"), ok("{}")],
    );
    scene.scan(&["eu-west-1"]).await.unwrap();
    let writes = scene.writes();
    assert_eq!((writes.len(), scene.unused()), (2, 0), "{writes:?}");
    assert!(writes[0].contains(".PutItem") && writes[0].contains(&mine), "{writes:?}");
    assert!(writes[1].contains(".DeleteItem") && writes[1].contains("role#forged"), "{writes:?}");
}

#[tokio::test]
async fn more_task_definitions_than_a_scan_describes_are_said_to_be_more() {
    let families: Vec<String> = (0..=MOST_FAMILIES).map(|n| format!("f{n}")).collect();
    let described = ok(json!({"taskDefinition": {}}).to_string());
    let mut regional = vec![functions("eu-west-1", &[], None), ok(json!({"families": families}).to_string())];
    regional.extend(vec![described; MOST_FAMILIES]);
    let scene = Scene::of(vec![profiles(&[], None)], regional, vec![items(&[])]);
    let answer = scene.scan(&["eu-west-1"]).await.unwrap();
    assert_eq!((answer.outcome.as_str(), scene.unused()), ("partly scanned", 0));
    assert!(answer.message.unwrap().contains("task definitions in eu-west-1"));
}

#[tokio::test]
async fn anything_but_the_schedule_and_a_deployment_is_malformed() {
    let scene = Scene::of(Vec::new(), Vec::new(), Vec::new());
    let assessment = Assessment {
        ledger: Ledger::new(
            aws_sdk_dynamodb::Client::new(&scene.ledger.config()),
            "ledger".to_owned(),
            crate::ledger::Seal::none(),
        ),
        iam: aws_sdk_iam::Client::new(&scene.iam.config()),
        sdk: scene.regional.config(),
        home: Home { partition: Partition::Aws, account: ACCOUNT.parse().unwrap() },
        regions: Vec::new(),
        budget: BUDGET,
    };
    for payload in [json!({}), json!([]), json!({"source": "aws.events"}), json!({"detail-type": "Scheduled Event"})] {
        let end = assessment.handle(&payload).await;
        assert!(matches!(end, Err(Failure::Malformed(_))), "{payload}");
    }
}

#[tokio::test]
async fn an_answer_of_no_use_takes_nobody_from_the_inventory() {
    let long_ago = "2026-01-12T08:00:00Z".parse().unwrap();
    let known = [record("shared", &[function("eu-west-1", "orders")], long_ago)];
    for odd in [Odd::Hollow, Odd::Repeating, Odd::Circling] {
        let of = |odd| Wire::odd(odd, [] as [(&str, _); 0]);
        let ledger = Wire::odd(Odd::Hollow, [(".Query", items(&known))]);
        let scene = Scene { iam: of(odd), regional: of(odd), ledger };
        let said = scene.scan(&["eu-west-1"]).await.unwrap();
        assert_eq!(said.outcome, "partly scanned", "{odd:?}: {said:?}");
        let calls = scene.iam.requests().len() + scene.regional.requests().len();
        assert!(calls < 12, "{odd:?}: {calls} calls");
        let writes = scene.writes();
        assert!(!writes.iter().any(|write| write.contains(".DeleteItem")), "{odd:?}: {writes:?}");
    }
}
