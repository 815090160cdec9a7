//! A key that somebody disables while evidence is collected: that which encrypts it, or that which signs its manifest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

use super::*;

/// A wire on which a key is disabled before the call of a number, from 0, is sent.
#[derive(Debug, Clone)]
struct Disabling {
    inner: SharedHttpConnector,
    calls: Arc<AtomicUsize>,
    at: usize,
    kms: aws_sdk_kms::Client,
    key: String,
}

impl HttpConnector for Disabling {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            if this.calls.fetch_add(1, Ordering::SeqCst) == this.at {
                this.kms.disable_key().key_id(&this.key).send().await.unwrap();
            }
            this.inner.call(request).await
        })
    }
}

/// Disables the key at each third call. Whatever fails is on record as failed, and goes on when the key is enabled again.
async fn disabled_midway(house: &House, key: &str) {
    let kms = &house.aws.kms;
    let whole = house.case("whole", page_by_page()).await;
    assert_eq!(whole.collect(false).await, "collected");
    let whole = whole.left().await;
    let mut failures = 0;
    for at in (0..200).step_by(3) {
        let case = house.case(&format!("disabled {at}"), page_by_page()).await;
        let inner = SharedHttpConnector::new(Connector::builder().build_http());
        let wire = Disabling { inner, calls: Arc::default(), at, kms: kms.clone(), key: key.to_owned() };
        let process = Mortal::undisturbed().carrying(SharedHttpConnector::new(wire.clone()));
        let end = case.invoke(&process, &order(&case.id, false), ample()).await.unwrap();
        if let Err(failure) = end {
            failures += 1;
            let records = table::records(&house.aws, &case.name).await;
            let step = records.iter().find(|(key, _)| key.contains("step#snapshot-logs")).unwrap();
            assert!(step.1.contains("\"failed\"") && step.1.contains("could not be kept"), "{at}: {failure}: {step:?}");
            kms.enable_key().key_id(key).send().await.unwrap();
            assert_eq!(case.collect(false).await, "collected", "{at}");
        }
        kms.enable_key().key_id(key).send().await.unwrap();
        let left = case.left().await;
        assert_eq!(table::differences(&whole.0, &left.0), Vec::<String>::new(), "the bucket, {at}");
        assert_eq!(table::differences(&whole.1, &left.1), Vec::<String>::new(), "the ledger, {at}");
        if wire.calls.load(Ordering::SeqCst) <= at {
            assert!(failures > 5, "{failures} of {at} calls");
            return;
        }
    }
    panic!("more than 200 calls");
}

#[tokio::test]
async fn a_key_of_the_bucket_that_is_disabled_midway_leaves_nothing_out_once_it_is_enabled() {
    let house = House::set_up().await;
    house.log("one", 10, 200_000, |n| format!("line {n} ")).await;
    disabled_midway(&house, &house.key).await;
}

#[tokio::test]
async fn a_signing_key_that_is_disabled_midway_leaves_nothing_out_once_it_is_enabled() {
    let house = House::set_up().await;
    house.log("one", 3, 100, |n| format!("line {n} ")).await;
    disabled_midway(&house, &house.signing_key).await;
}
