//! What becomes of evidence that the bucket, or a key, does not take.

use super::*;

#[tokio::test]
async fn evidence_that_cannot_be_stored_fails_the_step_and_goes_on_when_it_can() {
    for (status, transient) in [(503, true), (403, false), (400, false)] {
        let house = House::with(&incident());
        house.bucket.answer_puts_with(Some(status));
        let failure = house.take().await.unwrap_err();
        assert_eq!(matches!(failure, Failure::Transient(_)), transient, "{failure}");
        assert_eq!(house.step()["state"]["S"], "failed");
        house.bucket.answer_puts_with(None);
        assert_eq!(house.take().await.unwrap().outcome, "collected");
        assert_eq!(house.step()["state"]["S"], "applied");
        assert_eq!(house.account.records("evidence").len(), 1, "the same run goes on");
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_signed_or_reads_back_otherwise_is_none() {
    for answer in [json_error(400, "DisabledException"), json_error(400, "AccessDeniedException")] {
        let house = House::with(&incident());
        house.account.kms_answers(Some(answer));
        assert!(matches!(house.take().await, Err(Failure::Permanent(_))));
        assert_eq!(house.step()["state"]["S"], "failed");
        house.account.kms_answers(None);
        assert_eq!(house.take().await.unwrap().outcome, "collected");
    }
    let house = House::with(&incident());
    house.bucket.spoil_writes();
    assert!(matches!(house.take().await, Err(Failure::Permanent(_))));
    assert_eq!(house.step()["state"]["S"], "failed");
}

/// Left there by a try that found other records, or by someone else.
#[tokio::test]
async fn a_manifest_whose_place_is_taken_gets_another_name() {
    let undisturbed = House::with(&incident());
    undisturbed.take().await.unwrap();
    let of_it = |key: &&String| key.ends_with("/manifest.json");
    let place = undisturbed.bucket.keys().iter().find(of_it).unwrap().clone();
    let house = House::with(&incident());
    house.bucket.replace(&place, b"planted");
    assert_eq!(house.take().await.unwrap().outcome, "collected");
    assert_eq!(house.bucket.object(&place).unwrap(), b"planted", "nothing is overwritten");
    let named = place.replace("manifest.json", "manifest.2.json");
    let body = house.bucket.object(&named).unwrap();
    let manifest: Manifest = serde_json::from_slice(&body).unwrap();
    assert_eq!((&manifest.set_aside[0].key, manifest.set_aside[0].bytes), (&place, Some(7)));
    assert!(house.bucket.keys().contains(&format!("{named}.sig")));
    let detail = house.step()["detail"]["S"].as_str().unwrap().to_owned();
    assert!(detail.contains(&named) && detail.contains(&sha256_hex(&body)), "{detail}");
}

/// Whoever deploys may have made the bucket otherwise, or another key than the one that was there in the beginning is in use.
#[tokio::test]
async fn a_bucket_that_locks_nothing_is_told_and_one_that_does_too() {
    let house = House::with(&incident());
    house.take().await.unwrap();
    let detail = |house: &House| house.step()["detail"]["S"].as_str().unwrap().to_owned();
    assert!(detail(&house).contains("NOT LOCKED"), "{}", detail(&house));
    let house = House::with(&incident());
    house.bucket.lock_until("2027-11-21T03:00:00Z");
    house.take().await.unwrap();
    assert!(detail(&house).contains(", locked until 2027-11-21T03:00:00Z"), "{}", detail(&house));
}

/// The key of the bucket is disabled at any call of the bucket, and enabled again.
#[tokio::test]
async fn a_key_that_is_disabled_midway_fails_the_step_and_leaves_nothing_out() {
    let whole = House::with(&incident());
    whole.take().await.unwrap();
    let calls = whole.bucket.requests().len();
    assert!(calls >= 5, "{calls}");
    for call in 0..calls {
        let house = House::with(&incident());
        house.bucket.answer_from(call, 400);
        let end = house.take().await;
        assert!(matches!(end, Err(Failure::Permanent(_))), "{call}: {end:?}");
        assert_eq!(house.step()["state"]["S"], "failed", "{call}");
        house.bucket.recover();
        assert_eq!(house.take().await.unwrap().outcome, "collected", "{call}");
        assert_eq!(house.lines(1), whole.lines(1), "{call}");
        assert_eq!(house.manifest(1).0.set_aside, [], "{call}");
    }
}

/// It takes, and gives nothing: not even what an earlier try has put there.
#[tokio::test]
async fn a_bucket_of_another_account_is_asked_for_nothing_and_never_overwritten() {
    let whole = House::with(&incident());
    whole.take().await.unwrap();
    let planted = whole.bucket.keys().into_iter().find(|key| key.contains("/logs/")).unwrap();
    for plants in [false, true] {
        let mut house = House::with(&incident());
        house.bucket = Bucket::of_another_account();
        if plants {
            house.bucket.replace(&planted, b"something else");
        }
        assert_eq!(house.take().await.unwrap().outcome, "collected");
        assert!(house.bucket.requests().iter().all(|request| request.line.starts_with("PUT ")), "it only writes");
        assert_eq!(house.lines(1), whole.lines(1));
        let (manifest, _) = house.manifest(1);
        let unknown = |aside: &firebreak_model::evidence::SetAside| aside.key == planted && aside.sha256.is_none();
        assert_eq!(manifest.set_aside.iter().filter(|aside| unknown(aside)).count(), usize::from(plants));
        let detail = house.step()["detail"]["S"].as_str().unwrap().to_owned();
        assert!(detail.contains("not read back: the bucket is another account's"), "{detail}");
    }
    // Killed at any call of the bucket: what lies there may be its own, and is set aside all the same.
    let mut undisturbed = House::with(&incident());
    undisturbed.bucket = Bucket::of_another_account();
    undisturbed.take().await.unwrap();
    for call in 0..undisturbed.bucket.requests().len() {
        let mut house = House::with(&incident());
        house.bucket = Bucket::of_another_account();
        house.bucket.answer_from(call, 503);
        house.take().await.unwrap_err();
        house.bucket.recover();
        assert_eq!(house.take().await.unwrap().outcome, "collected", "{call}");
        assert_eq!(house.lines(1), whole.lines(1), "{call}");
    }
}
