//! The stub of AWS: a TLS endpoint for each service, which holds each call back for a while, answers and records it.
//!
//! Each has a port of its own: services share no connection in AWS, and so they must not here.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::call::Call;
use crate::runtime::{Usage, usage};
use crate::world::{Answer, World};

/// The variables that name the endpoint of each service, and the one for all others.
const VARIABLES: [&str; 13] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_CLOUDTRAIL",
    "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_ENDPOINT_URL_ECS",
    "AWS_ENDPOINT_URL_EVENTBRIDGE",
    "AWS_ENDPOINT_URL_GUARDDUTY",
    "AWS_ENDPOINT_URL_IAM",
    "AWS_ENDPOINT_URL_KMS",
    "AWS_ENDPOINT_URL_LAMBDA",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SNS",
    "AWS_ENDPOINT_URL_SQS",
];

/// A call that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// What was called.
    pub(crate) call: Call,
    /// When the request was there.
    pub(crate) began: Instant,
    /// When the answer left.
    pub(crate) ended: Instant,
}

#[derive(Debug, Default)]
struct State {
    world: World,
    delay: Duration,
    calls: Vec<Recorded>,
    connections: usize,
    unknown: Vec<String>,
    caller: u32,
    before_first: Option<Usage>,
}

/// The endpoint, which answers until the program ends.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    ports: Vec<u16>,
    state: Arc<Mutex<State>>,
}

impl Endpoint {
    /// Starts it on free ports.
    pub(crate) async fn start(acceptor: &TlsAcceptor) -> Result<Self> {
        let mut endpoint = Self { ports: Vec::new(), state: Arc::default() };
        for _ in VARIABLES {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            endpoint.ports.push(listener.local_addr()?.port());
            tokio::spawn(endpoint.clone().serve(listener, acceptor.clone()));
        }
        Ok(endpoint)
    }

    async fn serve(self, listener: TcpListener, acceptor: TlsAcceptor) {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, endpoint) = (acceptor.clone(), self.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let Ok(stream) = acceptor.accept(stream).await else { return };
                endpoint.state().connections += 1;
                let service = service_fn(|request| endpoint.respond(request));
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    /// What tells its callers where it is.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        VARIABLES.into_iter().zip(self.ports.iter().copied().map(url)).collect()
    }

    /// Begins anew, with this account and this delay before each answer.
    pub(crate) fn reset(&self, world: World, delay: Duration) {
        let mut state = self.state();
        (state.world, state.delay, state.connections) = (world, delay, 0);
        // Code is fetched at an address that Lambda gives: at the endpoint for everything that has none of its own.
        state.world.packages = self.ports.first().copied().map(url).unwrap_or_default();
        (state.caller, state.before_first) = (0, None);
        state.calls.clear();
        state.unknown.clear();
    }

    /// The calls since the last look.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.state().calls)
    }

    /// The connections since the last reset.
    pub(crate) fn connections(&self) -> usize {
        self.state().connections
    }

    /// Names the process that calls from now on.
    pub(crate) fn watch(&self, pid: u32) {
        self.state().caller = pid;
    }

    /// What that process had used when its first call was there.
    pub(crate) fn before_first(&self) -> Option<Usage> {
        self.state().before_first
    }

    /// The account as it stands.
    pub(crate) fn world(&self) -> World {
        self.state().world.clone()
    }

    /// What was asked and is not known.
    pub(crate) fn unknown(&self) -> Vec<String> {
        self.state().unknown.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn respond(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let query = parts.uri.query().unwrap_or_default();
        let call = Call::read(&parts.method, parts.uri.path(), query, &parts.headers, &body);
        let delay = {
            let mut state = self.state();
            let caller = state.caller;
            state.before_first.get_or_insert_with(|| usage(caller));
            state.delay
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut state = self.state();
        let answer = match call {
            Ok(call) => {
                let answer = state.world.answer(&call);
                if answer.is_none() {
                    state.unknown.push(format!("{}:{}", call.service, call.operation));
                }
                state.calls.push(Recorded { call, began, ended: Instant::now() });
                answer
            }
            Err(what) => {
                state.unknown.push(what);
                None
            }
        };
        Ok(response(answer.unwrap_or_else(Answer::unknown)))
    }
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(answer.status)
        .header("content-type", answer.content_type)
        .header("x-amzn-requestid", "7a62c49f-347e-4fc4-9331-6e8eEXAMPLE");
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(answer.body))).unwrap_or_default()
}

/// Serves one plain connection after another; for the runtime API.
pub(crate) async fn serve_plain<F, R>(listener: TcpListener, respond: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send,
{
    while let Ok((stream, _)) = listener.accept().await {
        let respond = respond.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(|request| {
                let answer = respond(request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The most calls that followed one another, each begun after the one before had ended, up to this one.
pub(crate) fn sequential(calls: &[Recorded], last: &Recorded) -> usize {
    let before = calls.iter().filter(|call| call.ended <= last.began);
    1 + before.map(|call| sequential(calls, call)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[test]
    fn calls_that_overlap_are_one_round_trip() {
        let start = Instant::now();
        let call = |from: u64, to: u64| Recorded {
            call: Call { service: "iam", operation: "GetRole".to_owned(), parameters: Map::new() },
            began: start + Duration::from_millis(from),
            ended: start + Duration::from_millis(to),
        };
        let calls = [call(0, 10), call(2, 12), call(13, 20), call(21, 30)];
        assert_eq!(calls.each_ref().map(|last| sequential(&calls, last)), [1, 1, 2, 3]);
    }
}
