//! A process that can be killed at any of its calls.
//!
//! All that an action does is calls of AWS: between two of them a kill changes nothing that the next try could meet. So a
//! kill is played where it can be told: before a call is sent, or when it was carried out and its answer was not seen.
//! The work is then dropped where it stands. The code under test has no switch for it.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::SdkConfig;
use aws_smithy_async::time::{SharedTimeSource, StaticTimeSource};
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

/// Where the process is killed: at its call of this number, from 0; or at its call of this number of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kill {
    /// Before the call is sent.
    Before(usize),
    /// When the call was carried out, and its answer was not seen.
    After(usize),
}

impl Kill {
    /// Both kills at a call.
    pub(crate) fn at(call: usize) -> [Self; 2] {
        [Self::Before(call), Self::After(call)]
    }
}

/// The wire of a process that is killed at one of its calls, or at none.
#[derive(Debug, Clone)]
pub(crate) struct Mortal {
    inner: SharedHttpConnector,
    kill: Option<Kill>,
    /// The kind of calls that are counted; all where there is none.
    of: Option<String>,
    /// The time that its calls are signed with, where its clock is wrong.
    signs_at: Option<Timestamp>,
    calls: Arc<AtomicUsize>,
    /// The kind of each call that was made, in order.
    made: Arc<Mutex<Vec<String>>>,
    killed: Arc<Notify>,
}

impl Mortal {
    /// A process that is killed there.
    pub(crate) fn killed(kill: Kill) -> Self {
        Self { kill: Some(kill), ..Self::undisturbed() }
    }

    /// A process that is killed there, counting its calls of a kind alone.
    pub(crate) fn killed_at(kind: &str, kill: Kill) -> Self {
        Self { of: Some(kind.to_owned()), ..Self::killed(kill) }
    }

    /// The kind of each call that it has made, in order: `logs StartQuery`, `s3 PUT`.
    pub(crate) fn made(&self) -> Vec<String> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A process that lives as long as it wants to.
    pub(crate) fn undisturbed() -> Self {
        let inner = SharedHttpConnector::new(Connector::builder().build_http());
        let (calls, made, killed) = (Arc::default(), Arc::default(), Arc::default());
        Self { inner, kill: None, of: None, signs_at: None, calls, made, killed }
    }

    /// A process on a machine whose clock is so far off: ahead, or behind where it is negative.
    pub(crate) fn with_a_clock_off_by(off: SignedDuration) -> Self {
        Self { signs_at: Some(firebreak_shared::clock::now() + off), ..Self::undisturbed() }
    }

    /// How many calls it has made.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The same process, one of whose clients reaches something else.
    pub(crate) fn carrying(&self, inner: SharedHttpConnector) -> Self {
        Self { inner, ..self.clone() }
    }

    /// The configuration of this process's clients: as `like`, on this wire. No call is retried by a client.
    pub(crate) fn config(&self, like: &SdkConfig) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        let client = http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone());
        let mut config = like.to_builder().http_client(SharedHttpClient::new(client));
        if let Some(at) = self.signs_at {
            config.set_time_source(Some(SharedTimeSource::new(StaticTimeSource::new(at.into()))));
        }
        config.build()
    }

    /// Runs the work to its end, or until the process is killed: `None`.
    pub(crate) fn live<'a, T>(
        &'a self,
        work: impl Future<Output = T> + 'a,
    ) -> Pin<Box<dyn Future<Output = Option<T>> + 'a>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                () = self.killed.notified() => None,
                done = work => Some(done),
            }
        })
    }

    async fn die<T>(&self) -> T {
        self.killed.notify_one();
        pending().await
    }
}

/// The service that a request is signed for, and its operation, as far as the protocol has it in a header; else its method.
fn kind(request: &HttpRequest) -> String {
    let scope = request.headers().get("authorization").and_then(|signed| signed.split("Credential=").nth(1));
    let service = scope.and_then(|scope| scope.split('/').nth(3)).unwrap_or("?");
    let target = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
    format!("{service} {}", target.unwrap_or(request.method()))
}

impl HttpConnector for Mortal {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let kind = kind(&request);
            this.made.lock().unwrap_or_else(PoisonError::into_inner).push(kind.clone());
            if this.of.as_ref().is_some_and(|of| *of != kind) {
                return this.inner.call(request).await;
            }
            let call = this.calls.fetch_add(1, Ordering::SeqCst);
            if this.kill == Some(Kill::Before(call)) {
                return this.die().await;
            }
            let answer = this.inner.call(request).await;
            if this.kill == Some(Kill::After(call)) {
                return this.die().await;
            }
            answer
        })
    }
}
