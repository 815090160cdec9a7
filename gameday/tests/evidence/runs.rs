//! One run after another: page by page, after another, and beside what is there already.

use super::*;

/// Noise that cannot be made much shorter, so that an object has several parts.
#[tokio::test]
async fn more_than_an_object_holds_is_read_page_by_page_in_as_many_invocations_as_it_takes() {
    let house = House::set_up().await;
    house.log("noise", 60, 250_000, |n| sha256_hex(&n.to_le_bytes())).await;
    let limits = Limits { object_bytes: 6 << 20, part_bytes: 5 << 20, ..Limits::default() };
    let whole = house.case("whole", limits).await;
    assert_eq!(whole.collect(false).await, "collected");
    let (manifest, _) = whole.manifests().await.remove(0);
    let logs: Vec<_> = manifest.entries.iter().filter(|entry| entry.collector == "logs").collect();
    assert!(logs.len() >= 2 && logs[0].bytes > 5 << 20, "an object of several parts: {logs:?}");
    let lines: u64 = logs.iter().map(|entry| entry.lines).sum();
    assert_eq!(lines, 60);

    // An invocation that has no time at all does one object, and has the next one go on.
    let cut = house.case("cut", limits).await;
    let mut invocations = 1;
    let mut said = cut.invoke(&Mortal::undisturbed(), &order(&cut.id, false), clock::now()).await.unwrap().unwrap();
    assert_eq!(said, "collecting");
    while said == "collecting" {
        let messages = cut.messages().await;
        assert!(!messages.is_empty(), "nobody goes on");
        for message in messages {
            invocations += 1;
            assert!(invocations < 50, "it goes on for ever");
            said = cut.invoke(&Mortal::undisturbed(), &message, clock::now()).await.unwrap().unwrap();
        }
    }
    assert!(invocations >= 3, "{invocations}");
    let content = async |case: &Case<'_>| {
        let mut all = String::new();
        for (_, body) in case.objects().await.into_iter().filter(|(key, _)| key.contains("/logs/")) {
            all.push_str(&unpacked(&body));
        }
        all
    };
    assert!(content(&whole).await == content(&cut).await, "the same lines in the same order");
}

#[tokio::test]
async fn a_follow_up_holds_what_came_after_and_names_the_manifest_before_it() {
    let house = House::set_up().await;
    house.log("before", 3, 100, |n| format!("line {n} ")).await;
    let case = house.case("followed", Limits::default()).await;
    assert_eq!(case.collect(true).await, "collected", "an order comes as it comes: first there is a snapshot");
    assert_eq!(case.collect(false).await, "collected before");
    house.log("after", 3, 100, |n| format!("line {n} ")).await;
    assert_eq!(case.collect(true).await, "collected");
    assert_eq!(case.collect(true).await, "collected before", "once");
    let manifests = case.manifests().await;
    let [(first, first_digest), (second, _)] = manifests.as_slice() else { panic!("{}", manifests.len()) };
    assert_eq!((first.purpose, &first.previous), (Purpose::Snapshot, &None));
    assert_eq!(second.purpose, Purpose::FollowUp);
    assert_eq!(second.previous.as_ref().unwrap().sha256, *first_digest);
    assert!(second.log_window.from < first.log_window.to && second.log_window.to > first.log_window.to);
    let lines: u64 = second.entries.iter().filter(|entry| entry.collector == "logs").map(|entry| entry.lines).sum();
    assert_eq!(lines, 6, "the minutes before the end of the first window are read again");
    assert!(second.entries.iter().all(|entry| !entry.key.contains("/function/")));
}

/// What lies at an object's place is kept and named, and is no evidence.
#[tokio::test]
async fn an_object_that_is_there_already_is_set_aside_and_named() {
    let house = House::set_up().await;
    house.log("one", 3, 100, |n| format!("line {n} ")).await;
    let first = house.case("undisturbed", Limits::default()).await;
    first.collect(false).await;
    let planted: Vec<String> = first.objects().await.into_keys().filter(|key| key.contains("/logs/")).collect();
    let case = house.case("planted", Limits::default()).await;
    for key in &planted {
        let put = house.aws.s3.put_object().bucket(&case.name).key(key);
        put.body(b"something else".to_vec().into()).send().await.unwrap();
    }
    assert_eq!(case.collect(false).await, "collected");
    let (manifest, _) = case.manifests().await.remove(0);
    assert_eq!(
        manifest.set_aside.iter().map(|aside| &aside.key).collect::<Vec<_>>(),
        planted.iter().collect::<Vec<_>>()
    );
    assert_eq!(manifest.set_aside[0].sha256, Some(sha256_hex(b"something else")));
    let logs: Vec<_> = manifest.entries.iter().filter(|entry| entry.collector == "logs").collect();
    assert_eq!((logs.len(), logs[0].lines), (1, 3));
    assert!(logs[0].key.ends_with("-0001.2.jsonl.zst"), "{}", logs[0].key);
    assert_eq!(case.objects().await[&planted[0]], b"something else", "nothing is overwritten");
}
