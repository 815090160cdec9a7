//! A process that can be killed at any of its calls.
//!
//! All that an action does is calls of AWS: between two of them a kill changes nothing that the next try could meet. So a
//! kill is played where it can be told: before a call is sent, or when it was carried out and its answer was not seen.
//! The work is then dropped where it stands. The code under test has no switch for it.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Where the process is killed: at its call of this number, from 0.
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
    /// The time that its calls are signed with, where its clock is wrong.
    signs_at: Option<Timestamp>,
    calls: Arc<AtomicUsize>,
    killed: Arc<Notify>,
}

impl Mortal {
    /// A process that is killed there.
    pub(crate) fn killed(kill: Kill) -> Self {
        Self { kill: Some(kill), ..Self::undisturbed() }
    }

    /// A process that lives as long as it wants to.
    pub(crate) fn undisturbed() -> Self {
        let inner = SharedHttpConnector::new(Connector::builder().build_http());
        Self { inner, kill: None, signs_at: None, calls: Arc::default(), killed: Arc::default() }
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

impl HttpConnector for Mortal {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
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
