//! A log group of the class Infrequent Access, which `FilterLogEvents` does not serve.

use super::*;

/// Five events a query, and objects that end with each query.
fn query_by_query() -> Limits {
    Limits { query_events: 5, ..page_by_page() }
}

async fn house() -> House {
    let house = House::of_class(LogGroupClass::InfrequentAccess).await;
    // Twelve lines over half a minute, three in each moment.
    for n in 0..4 {
        let at = clock::now() - SignedDuration::from_secs(40 - 10 * n);
        house.log_at(at, &format!("s{n}"), 3, 100, |n| format!("line {n} ")).await;
    }
    house
}

impl Case<'_> {
    /// What the log objects hold, one behind the other.
    async fn log_lines(&self, manifest: &Manifest) -> String {
        let objects = self.objects().await;
        let logs = manifest.entries.iter().filter(|entry| entry.collector == "logs");
        logs.map(|entry| unpacked(&objects[&entry.key])).collect()
    }
}

/// The calls at which a collection of such a group is killed: of each kind that differs from how other groups are collected,
/// the first, one midway and the last. All the others are killed one by one in `evidence.rs`.
fn kills(made: &[String]) -> Vec<(String, Kill)> {
    const KINDS: [&str; 6] = [
        "logs FilterLogEvents",
        "logs StartQuery",
        "logs GetQueryResults",
        "s3 PUT",
        "dynamodb PutItem",
        "dynamodb Query",
    ];
    let mut kills = Vec::new();
    for kind in KINDS {
        let count = made.iter().filter(|one| *one == kind).count();
        assert!(count > 0, "no call `{kind}` was made: {made:?}");
        let mut at = vec![0, count / 2, count - 1];
        at.dedup();
        kills.extend(at.into_iter().flat_map(Kill::at).map(|kill| (kind.to_owned(), kill)));
    }
    kills
}

/// In one object, whose digest is compared: with the time, other queries make it up.
#[tokio::test]
async fn a_log_group_of_infrequent_access_that_is_killed_at_any_call_ends_with_the_same_objects() {
    let house = house().await;
    let refused = house.aws.logs.filter_log_events().log_group_name(GROUP).send().await.unwrap_err();
    assert!(refused.into_service_error().to_string().contains("InvalidOperation"), "as AWS does");
    let limits = Limits { object_bytes: 32 << 20, ..query_by_query() };
    let process = Mortal::undisturbed();
    let (whole, _) = played(&house.case("whole", limits).await, false, Some(&process)).await;
    assert!(whole.0.len() > 5, "{:?}", whole.0.keys());
    for (kind, kill) in kills(&process.made()) {
        let case = house.case(&format!("{kind} {kill:?}"), limits).await;
        let (left, lived) = played(&case, false, Some(&Mortal::killed_at(&kind, kill))).await;
        assert!(!lived, "{kind}, {kill:?}: nothing was killed");
        assert_eq!(table::differences(&whole.0, &left.0), Vec::<String>::new(), "the bucket, {kind}, {kill:?}");
        assert_eq!(table::differences(&whole.1, &left.1), Vec::<String>::new(), "the ledger, {kind}, {kill:?}");
    }
}

/// In an object a query, each of which is gone on behind.
#[tokio::test]
async fn queries_that_are_killed_midway_find_each_event_once() {
    let house = house().await;
    let whole = house.case("whole", query_by_query()).await;
    let process = Mortal::undisturbed();
    played(&whole, false, Some(&process)).await;
    let wanted = whole.log_lines(&whole.manifests().await.remove(0).0).await;
    assert_eq!(wanted.lines().count(), 12);
    for (kind, kill) in kills(&process.made()) {
        let case = house.case(&format!("{kind} {kill:?}"), query_by_query()).await;
        let process = Mortal::killed_at(&kind, kill);
        let lived = case.invoke(&process, &order(&case.id, false), ample()).await;
        assert!(lived.is_none(), "{kind}, {kill:?}: nothing was killed");
        case.collect(false).await;
        let (manifest, _) = case.manifests().await.pop().unwrap();
        assert!(case.log_lines(&manifest).await == wanted, "{kind}, {kill:?}");
        let gaps: Vec<_> = manifest.gaps.iter().filter(|gap| gap.what.starts_with("log group")).collect();
        assert!(gaps.is_empty(), "{kind}, {kill:?}: {gaps:?}");
        assert_eq!(manifest.set_aside, [], "{kind}, {kill:?}");
    }
}

#[tokio::test]
async fn a_log_group_of_infrequent_access_is_read_whole_by_queries() {
    let house = house().await;
    let case = house.case("infrequent", query_by_query()).await;
    assert_eq!(case.collect(false).await, "collected");
    let (manifest, _) = case.manifests().await.remove(0);
    let logs: Vec<_> = manifest.entries.iter().filter(|entry| entry.collector == "logs").collect();
    assert!(logs.len() > 2, "{logs:?}");
    let objects = case.objects().await;
    let lines: Vec<Value> = logs
        .iter()
        .flat_map(|entry| unpacked(&objects[&entry.key]).lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    let mut told: Vec<(String, String)> =
        lines.iter().map(|line| (line["log_stream"].to_string(), line["message"].to_string())).collect();
    let times: Vec<i64> = lines.iter().map(|line| line["timestamp"].as_i64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(lines.iter().all(|line| line["ingestion_time"].as_i64() > line["timestamp"].as_i64()), "{lines:?}");
    told.sort();
    told.dedup();
    assert_eq!((lines.len(), told.len()), (12, 12), "each once");
    assert!(manifest.gaps.iter().all(|gap| !gap.what.starts_with("log group")), "{:?}", manifest.gaps);
    let call = &logs[0].sources[0].call;
    assert_eq!((call.api.as_str(), &call.parameters["logGroupName"]), ("logs:StartQuery", &json!(GROUP)));
    assert!(call.parameters["bytesScanned"].as_u64().is_some_and(|bytes| bytes > 0), "{call:?}");
}
