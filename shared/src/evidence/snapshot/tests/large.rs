//! More than one record of the ledger can tell of: an item holds 400 KB, and a thief chooses how many records, versions and
//! sessions there are.

use firebreak_model::evidence::Entry;

use super::*;
use crate::testing::ok;

const FUNCTIONS: &str = "/2015-03-31/functions/orders";

/// As many records about the incident as somebody may have it write.
fn flooded(incident: &Incident, records: u32) -> House {
    let house = House::with(incident);
    for n in 0..records {
        let mut finding = crate::page::tests::finding("a");
        finding.incident_id = Some(incident.incident_id.clone());
        finding.finding_key = firebreak_model::ids::FindingKey::of("f", &n.to_string());
        finding.event = json!({"detail": {"number": n}}).to_string();
        house.account.put(&Record::Finding(Box::new(finding)));
    }
    house
}

impl House {
    /// The objects of a collector with their digests, and the lines in them.
    fn objects_of(&self, collector: &str) -> (Vec<(String, String)>, Vec<Value>) {
        let entries = self.manifest(1).0.entries.into_iter().filter(|entry| entry.collector == collector);
        let entries: Vec<_> = entries.collect();
        let lines = entries.iter().flat_map(|entry| documents(&self.bucket.object(&entry.key).unwrap())).collect();
        (entries.into_iter().map(|entry| (entry.key, entry.content_sha256)).collect(), lines)
    }
}

#[tokio::test]
async fn more_records_than_one_item_names_are_several_objects_and_each_is_there_once() {
    let house = flooded(&incident(), 3_000);
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    let (objects, lines) = house.objects_of("ledger");
    assert!(objects.len() >= 4, "{objects:?}");
    let findings = lines.iter().filter(|line| line["response"]["kind"] == "finding");
    let events: std::collections::BTreeSet<String> =
        findings.map(|line| line["response"]["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!((events.len(), lines.len()), (3_000, 3_000 + 2), "the incident and its step beside them");
    for entry in house.manifest(1).0.entries.iter().filter(|entry| entry.collector == "ledger") {
        assert_eq!(entry.sources.len() as u64, entry.lines, "of documents one source a line");
    }
}

#[tokio::test]
async fn records_in_several_objects_are_the_same_ones_wherever_it_was_killed() {
    let incident = incident();
    let small = || {
        let mut house = flooded(&incident, 40);
        house.limits.record_bytes = 2_000;
        house
    };
    let whole = small();
    whole.take().await.unwrap();
    let (wanted, _) = whole.objects_of("ledger");
    assert!(wanted.len() >= 4, "{wanted:?}");
    let calls = whole.bucket.requests().len();
    for call in 0..calls {
        let house = small();
        house.bucket.answer_from(call, 503);
        house.take().await.unwrap_err();
        house.bucket.recover();
        assert_eq!(house.take().await.unwrap().outcome, "collected", "{call}");
        let (objects, lines) = house.objects_of("ledger");
        assert_eq!(objects.len(), wanted.len(), "{call}");
        // The step says that it failed, and when.
        let alike = objects.iter().zip(&wanted).filter(|(a, b)| a == b).count();
        assert!(alike + 1 >= wanted.len() && lines.len() == 42, "{call}: {objects:?}");
    }
}

/// A function with so many published versions, all of them as plain as can be, and an alias to the first.
fn of_many_versions(count: u32) -> House {
    let house = House::with(&incident());
    let place = |place: &str, answer: Value| house.account.place(place, [ok(answer.to_string())]);
    let all = std::iter::once("$LATEST".to_owned()).chain((1..=count).map(|n| n.to_string()));
    let all: Vec<Value> = all.map(|version| json!({"Version": version})).collect();
    place(&format!("{FUNCTIONS}/versions"), json!({"Versions": all}));
    place(&format!("{FUNCTIONS}/aliases"), json!({"Aliases": [{"Name": "live", "FunctionVersion": "1"}]}));
    for version in ["", "?Qualifier=1"] {
        place(&format!("{FUNCTIONS}{version}"), json!({"Configuration": {"FunctionName": "orders"}}));
    }
    for qualifier in ["1", "live"].map(str::to_owned).into_iter().chain((1..=count).map(|n| n.to_string())) {
        place(&format!("{FUNCTIONS}/policy?Qualifier={qualifier}"), json!({"Policy": "{}"}));
    }
    house
}

#[tokio::test]
async fn of_a_function_with_thousands_of_versions_a_bounded_number_of_policies_is_asked_for_and_the_rest_counted() {
    let house = of_many_versions(3_000);
    let busy = json_error(429, "TooManyRequestsException");
    house.account.place("/2021-10-31/functions/orders/urls", [busy, ok(r#"{"FunctionUrlConfigs": []}"#)]);
    let mut order = json!({"detail": {"incident_id": incident().incident_id}});
    while house.invoke(&order, AMPLE).await.unwrap().outcome == "collecting" {
        order = house.account.take_messages().remove(0).0;
    }
    let asked = house.account.asked();
    let policies: Vec<&str> =
        asked.iter().filter_map(|place| place.split_once("/policy?Qualifier=")).map(|p| p.1).collect();
    assert_eq!(policies.len(), 59, "once each, though the rest was asked for again, and the function itself");
    assert_eq!(policies[..3], ["live", "1", "3000"], "what is in use, then the newest");
    let gaps = house.manifest(1).0.gaps;
    let more: Vec<_> = gaps.iter().filter(|gap| gap.source.api == "lambda:GetPolicy").collect();
    assert_eq!(more.len(), 1, "{gaps:?}");
    assert!(
        more[0].reason.contains("2942 more") && more[0].reason.contains("aws lambda get-policy"),
        "{}",
        more[0].reason
    );
}

#[tokio::test]
async fn of_more_versions_than_are_collected_those_that_findings_name_come_first_and_the_rest_is_counted() {
    let house = of_many_versions(100);
    let aliases: Vec<Value> =
        (1..=90).map(|n| json!({"Name": format!("a{n:02}"), "FunctionVersion": n.to_string()})).collect();
    house.account.place(&format!("{FUNCTIONS}/aliases"), [ok(json!({"Aliases": aliases}).to_string())]);
    let mut finding = crate::page::tests::finding("a");
    finding.incident_id = Some(incident().incident_id);
    finding.event = json!({"of": format!("{}:100", function("orders"))}).to_string();
    house.account.put(&Record::Finding(Box::new(finding)));
    house.take().await.unwrap();
    let code = |place: &&String| place.starts_with(&format!("{FUNCTIONS}?Qualifier=")) || **place == FUNCTIONS;
    let asked = house.account.asked();
    let gaps = house.manifest(1).0.gaps;
    let of = |n: &str| gaps.iter().any(|gap| gap.source.parameters["Qualifier"] == json!(n));
    assert!(of("100") && of("38") && !of("39"), "{gaps:?}");
    assert_eq!(asked.iter().filter(code).count(), 2, "`$LATEST` and 1 are there");
    assert!(gaps.iter().any(|gap| gap.reason.contains("52 more versions")), "{gaps:?}");
}

#[tokio::test]
async fn a_version_that_a_finding_names_is_kept_though_the_ledger_does_not_answer_for_a_while() {
    let house = of_many_versions(3);
    let named = json!({"Configuration": {"FunctionName": "orders", "Version": "3"}});
    house.account.place(&format!("{FUNCTIONS}?Qualifier=3"), [ok(named.to_string())]);
    let mut finding = crate::page::tests::finding("a");
    finding.incident_id = Some(incident().incident_id);
    finding.event = json!({"of": format!("{}:3", function("orders"))}).to_string();
    house.account.put(&Record::Finding(Box::new(finding)));
    // It answers what CloudTrail is to be asked, and then for a while nothing.
    let busy = || Some(json_error(400, "ProvisionedThroughputExceededException"));
    let partition = format!("finding#{}", incident().incident_id);
    house.account.queries(&partition, [None, busy()]);
    assert_eq!(house.take().await.unwrap().outcome, "collecting");
    let (order, _) = house.account.take_messages().remove(0);
    assert_eq!(house.invoke(&order, AMPLE).await.unwrap().outcome, "collected");
    assert!(house.account.asked().contains(&format!("{FUNCTIONS}?Qualifier=3")));
    assert!(house.manifest(1).0.gaps.iter().all(|gap| gap.source.api != "dynamodb:Query"));
    // It refuses: that is told.
    let house = of_many_versions(3);
    house.account.queries(&partition, [None, Some(json_error(400, "AccessDeniedException"))]);
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    let gaps = house.manifest(1).0.gaps;
    assert!(gaps.iter().any(|gap| gap.what.contains(":orders") && gap.source.api == "dynamodb:Query"), "{gaps:?}");
}

/// So much is read of each of eight slices, in pages of a megabyte. `docs/PERFORMANCE.md` tells of more.
const PAGES_A_SLICE: usize = 3;

/// Every invocation has no time at all: it does one object of each of the first units, and has others go on, in lanes.
#[tokio::test]
async fn many_megabytes_of_a_log_go_through_lanes_and_cursors_and_come_out_in_order_and_once() {
    let mut large = incident();
    large.first_seen = Some(clock::now() - SignedDuration::from_hours(20));
    let mut house = House::with(&large);
    house.limits.object_bytes = 256 << 10;
    let line = |page: usize, n: usize| {
        let noise = sha256_hex(&(page * 1_000 + n).to_le_bytes());
        format!("{page:04}-{n:03} order {noise} {}", "was taken over and paid for; ".repeat(32))
    };
    let pages: Vec<Vec<String>> = (0..PAGES_A_SLICE).map(|page| (0..1_000).map(|n| line(page, n)).collect()).collect();
    let pages: Vec<Vec<&str>> = pages.iter().map(|page| page.iter().map(String::as_str).collect()).collect();
    house.account.logs(&pages.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let invocations = house.take_a_little_at_a_time().await;
    let (manifest, _) = house.manifest(1);
    let logs: Vec<_> = manifest.entries.iter().filter(|entry| entry.collector == "logs").collect();
    // The slices of the log, each in the order of its objects.
    let mut slices = std::collections::BTreeMap::<&str, Vec<&Entry>>::new();
    for entry in &logs {
        slices.entry(entry.key.rsplit_once('-').unwrap().0).or_default().push(entry);
    }
    assert_eq!(slices.len(), 8, "{:?}", slices.keys());
    let mut bytes = 0;
    for (slice, entries) in slices {
        let mut wanted = pages.iter().flatten();
        for entry in entries {
            bytes += entry.content_bytes;
            for line in documents(&house.bucket.object(&entry.key).unwrap()) {
                assert!(
                    wanted.next().is_some_and(|wanted| line["message"] == **wanted),
                    "{slice}: {}",
                    line["message"]
                );
            }
        }
        assert_eq!(wanted.next(), None, "{slice}");
    }
    assert_eq!(house.account.log_calls().len(), 8 * PAGES_A_SLICE, "each page once");
    assert!(logs.len() > 8 && invocations > 8, "{} objects, {invocations} invocations", logs.len());
    assert!(bytes > 8_000_000 * PAGES_A_SLICE as u64, "{bytes}");
    assert!(manifest.gaps.iter().all(|gap| !gap.what.contains("log group")), "{:?}", manifest.gaps);
}
