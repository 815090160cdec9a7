//! AWS in bad weather: a proxy before the emulator that throttles, fails, loses answers and drops connections, by a
//! seed, and counts what came of every call.
//!
//! Every caller has a port of its own, so that the proxy knows whose call it sees. It listens on this machine alone.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpListener;

use super::call::{Call, Protocol};

/// How bad the weather is. Shares of all calls, in thousandths.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// What the draws follow from.
    pub seed: u64,
    /// Throttled, and not carried out.
    pub throttled: u64,
    /// An error of the service's own, and not carried out.
    pub failed: u64,
    /// Carried out, and the answer never comes.
    pub lost: u64,
    /// The connection is dropped before the call is carried out.
    pub dropped: u64,
    /// After how long the connection of a lost answer is closed. Longer than any caller waits, it meets its time-out.
    pub lost_for: Duration,
}

impl Weather {
    /// 30 % throttled, 5 % failed, 2 % lost, 1 % dropped.
    pub const STORM: Self =
        Self { seed: 1, throttled: 300, failed: 50, lost: 20, dropped: 10, lost_for: Duration::from_secs(30) };
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Carried out, and answered so.
    Carried,
    /// Carried out or refused by the service: an answer that is an error of the caller's.
    Refused,
    /// Throttled here.
    Throttled,
    /// Failed here with an error of the service's.
    Failed,
    /// Carried out, and not answered.
    Lost,
    /// Not carried out, and not answered.
    Dropped,
}

impl Outcome {
    /// In the order of the tables.
    pub const ALL: [Self; 6] = [Self::Carried, Self::Refused, Self::Throttled, Self::Failed, Self::Lost, Self::Dropped];

    /// Its heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::Carried => "carried out",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Failed => "5xx",
            Self::Lost => "answer lost",
            Self::Dropped => "dropped",
        }
    }
}

/// A call that changed a principal or a function, or was to: carried out, whether or not its answer was seen.
#[derive(Debug, Clone)]
pub struct Change {
    /// The operation.
    pub operation: String,
    /// On what.
    pub resource: String,
    /// Whose call: the number of the caller's port.
    pub caller: usize,
    /// When AWS had carried it out.
    pub at: Instant,
    /// Whether its answer was lost.
    pub lost: bool,
}

/// A call that was not answered as AWS would have: throttled, failed, lost or dropped.
#[derive(Debug, Clone)]
pub struct Struck {
    /// The operation.
    pub operation: String,
    /// Whose call.
    pub caller: usize,
    /// When.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Counted {
    calls: BTreeMap<(String, Outcome), usize>,
    changes: Vec<Change>,
    struck: Vec<Struck>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    weather: Weather,
    draws: AtomicU64,
    client: Client<HttpConnector, Full<Bytes>>,
    counted: Mutex<Counted>,
}

impl Shared {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proxy. It answers as long as the runtime lives.
#[derive(Debug, Clone)]
pub struct Proxy(Arc<Shared>);

impl Proxy {
    /// Before `target`, in this weather.
    pub fn new(target: &str, weather: Weather) -> Self {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let (target, draws, counted) = (target.to_owned(), AtomicU64::new(0), Mutex::default());
        Self(Arc::new(Shared { target, weather, draws, client, counted }))
    }

    /// A port for one caller: the URL that it calls.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn open(&self, caller: usize) -> Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = self.0.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| respond(shared.clone(), caller, request));
                    // A dropped connection and a lost answer end here with an error: that is their point.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(url)
    }

    /// How many calls of which operation came to what.
    pub fn calls(&self) -> BTreeMap<(String, Outcome), usize> {
        self.0.counted().calls.clone()
    }

    /// The calls of IAM and Lambda that were struck, in their order.
    pub fn struck(&self) -> Vec<Struck> {
        self.0.counted().struck.clone()
    }

    /// The changes that were carried out, in their order.
    pub fn changes(&self) -> Vec<Change> {
        self.0.counted().changes.clone()
    }
}

/// The draw of that number: `SplitMix64`, which needs no state but the number.
pub(super) fn draw(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Weather {
    /// What the weather makes of a call: `None` where it lets it pass.
    fn strikes(&self, number: u64) -> Option<Outcome> {
        let drawn = draw(self.seed, number) % 1000;
        let mut upto = 0;
        [
            (self.throttled, Outcome::Throttled),
            (self.failed, Outcome::Failed),
            (self.lost, Outcome::Lost),
            (self.dropped, Outcome::Dropped),
        ]
        .into_iter()
        .find_map(|(share, outcome)| {
            upto += share;
            (drawn < upto).then_some(outcome)
        })
    }
}

async fn respond(
    shared: Arc<Shared>,
    caller: usize,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let broken = |why: &str| io::Error::other(why.to_owned());
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let call = Call::read(parts.method.as_str(), parts.uri.path(), &parts.headers, &body);
    let strike = shared.weather.strikes(shared.draws.fetch_add(1, Ordering::Relaxed));
    if let Some(outcome @ (Outcome::Throttled | Outcome::Failed | Outcome::Dropped)) = strike {
        count(&shared, &call, caller, outcome);
        return match outcome {
            Outcome::Throttled => Ok(throttled(call.protocol)),
            Outcome::Failed => Ok(failed(call.protocol)),
            _ => Err(broken("the connection is dropped")),
        };
    }
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut onward = Request::builder().method(parts.method).uri(format!("{}{path}", shared.target));
    if let Some(headers) = onward.headers_mut() {
        // The signature covers the host that the caller called: it goes on as it is.
        *headers = parts.headers;
    }
    let onward = onward.body(Full::new(body)).map_err(io::Error::other)?;
    let answer = shared.client.request(onward).await.map_err(io::Error::other)?;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let lost = strike == Some(Outcome::Lost);
    let carried = parts.status.is_success();
    if carried && let Some(resource) = &call.changes {
        let (operation, resource) = (call.operation.clone(), resource.clone());
        shared.counted().changes.push(Change { operation, resource, caller, at: Instant::now(), lost });
    }
    count(
        &shared,
        &call,
        caller,
        match (lost, carried) {
            (true, _) => Outcome::Lost,
            (false, true) => Outcome::Carried,
            (false, false) => Outcome::Refused,
        },
    );
    if lost {
        tokio::time::sleep(shared.weather.lost_for).await;
        return Err(broken("the answer is lost"));
    }
    Ok(Response::from_parts(parts, Full::new(body)))
}

fn count(shared: &Shared, call: &Call, caller: usize, outcome: Outcome) {
    let mut counted = shared.counted();
    *counted.calls.entry((format!("{}:{}", call.service, call.operation), outcome)).or_default() += 1;
    let struck = !matches!(outcome, Outcome::Carried | Outcome::Refused);
    if struck && matches!(call.service, "iam" | "lambda") {
        counted.struck.push(Struck { operation: call.operation.clone(), caller, at: Instant::now() });
    }
}

/// The throttle of each protocol, as its services send it.
fn throttled(protocol: Protocol) -> Response<Full<Bytes>> {
    match protocol {
        Protocol::Query => query(StatusCode::BAD_REQUEST, "Sender", "Throttling", "Rate exceeded"),
        Protocol::DynamoDb => {
            let kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
            json_error(StatusCode::BAD_REQUEST, kind, "The level of configured provisioned throughput was exceeded")
        }
        Protocol::Json => json_error(StatusCode::BAD_REQUEST, "ThrottlingException", "Rate exceeded"),
        Protocol::Rest => rest(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate exceeded"),
    }
}

/// The services' own error of each protocol.
fn failed(protocol: Protocol) -> Response<Full<Bytes>> {
    let down = StatusCode::SERVICE_UNAVAILABLE;
    match protocol {
        Protocol::Query => query(down, "Receiver", "ServiceUnavailable", "Service is unable to handle request."),
        Protocol::DynamoDb => {
            let kind = "com.amazonaws.dynamodb.v20120810#InternalServerError";
            json_error(StatusCode::INTERNAL_SERVER_ERROR, kind, "Internal server error")
        }
        Protocol::Json => json_error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", "Internal failure"),
        Protocol::Rest => rest(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", "Service exception"),
    }
}

fn query(status: StatusCode, kind: &str, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = format!(
        "<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestId></ErrorResponse>"
    );
    answer(status, "text/xml", &[], body)
}

fn json_error(status: StatusCode, kind: &str, message: &str) -> Response<Full<Bytes>> {
    answer(status, "application/x-amz-json-1.0", &[], json!({"__type": kind, "message": message}).to_string())
}

fn rest(status: StatusCode, kind: &'static str, message: &str) -> Response<Full<Bytes>> {
    let body = json!({"Type": "User", "Message": message}).to_string();
    answer(status, "application/json", &[("x-amzn-errortype", kind)], body)
}

fn answer(
    status: StatusCode,
    content: &'static str,
    more: &[(&'static str, &'static str)],
    body: String,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [("content-type", content)].iter().chain(more) {
        headers.insert(*name, hyper::header::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weather_keeps_its_shares_and_follows_from_the_seed() {
        let mut counts: BTreeMap<Option<Outcome>, u32> = BTreeMap::new();
        for number in 0..100_000 {
            *counts.entry(Weather::STORM.strikes(number)).or_default() += 1;
            assert_eq!(Weather::STORM.strikes(number), Weather::STORM.strikes(number));
        }
        let share = |outcome| counts.get(&Some(outcome)).copied().unwrap_or_default();
        for (outcome, wanted) in
            [(Outcome::Throttled, 30_000), (Outcome::Failed, 5_000), (Outcome::Lost, 2_000), (Outcome::Dropped, 1_000)]
        {
            assert!(share(outcome).abs_diff(wanted) < wanted / 10, "{outcome:?}: {}", share(outcome));
        }
        let other = Weather { seed: 2, ..Weather::STORM };
        assert!((0..1000).any(|number| other.strikes(number) != Weather::STORM.strikes(number)));
    }
}
