//! From an event to the deny in two sequential round trips, once warm: counted by a proxy that records.
//!
//! The real `quarantine-principal` runs against a stub of Lambda's runtime API, as Lambda runs it, and calls AWS
//! through a proxy that holds every call back until no other comes: calls that are made together are one round, however
//! slow the machine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::deploy::Stack;
use gameday::findings::{self, INSTANCE, RoleSession};
use gameday::scene::{Role, random_hex};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

/// How long no other call must come for those that wait to go on: many times what a call takes here.
const QUIET: Duration = Duration::from_millis(300);

/// One call, as the proxy saw it: with its status, and the round in which it went on.
struct Call {
    name: String,
    round: usize,
}

/// A recording proxy before the emulator. What waits goes on together.
struct Proxy {
    port: u16,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    arrived: Notify,
    waiting: Mutex<Vec<oneshot::Sender<usize>>>,
    calls: Mutex<Vec<Call>>,
}

impl Proxy {
    async fn start(target: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let (target, recorded) = (target.to_owned(), seen.clone());
        tokio::spawn(let_rounds_go(seen.clone()));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (client, target, seen) = (client.clone(), target.clone(), recorded.clone());
                let service = service_fn(move |request| forward(client.clone(), target.clone(), seen.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { port, seen }
    }

    /// What was recorded since the last look.
    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.seen.calls.lock().unwrap())
    }
}

/// Lets the calls that wait go on, each time that no other has come for a while.
async fn let_rounds_go(seen: Arc<Seen>) {
    let mut round = 0;
    loop {
        seen.arrived.notified().await;
        while tokio::time::timeout(QUIET, seen.arrived.notified()).await.is_ok() {}
        for call in seen.waiting.lock().unwrap().drain(..) {
            let _ = call.send(round);
        }
        round += 1;
    }
}

async fn forward(
    client: Client<HttpConnector, Full<Bytes>>,
    target: String,
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let name = name(&parts.headers, &body);
    let (go, gone) = oneshot::channel();
    seen.waiting.lock().unwrap().push(go);
    seen.arrived.notify_one();
    let round = gone.await.unwrap();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    // The signature covers the host that the function called: it goes on as it is.
    let mut onward = Request::builder().method(parts.method).uri(format!("{target}{path}"));
    *onward.headers_mut().unwrap() = parts.headers;
    let answer = client.request(onward.body(Full::new(body)).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    seen.calls.lock().unwrap().push(Call { name: format!("{name} {}", parts.status.as_u16()), round });
    Ok(Response::from_parts(parts, Full::new(body)))
}

/// The API that a request calls: a JSON protocol names it in a header, a query protocol in the body.
fn name(headers: &hyper::HeaderMap, body: &[u8]) -> String {
    if let Some(target) = headers.get("x-amz-target") {
        return target.to_str().unwrap().rsplit('.').next().unwrap().to_owned();
    }
    let body = String::from_utf8_lossy(body);
    let action = body.split('&').find_map(|pair| pair.strip_prefix("Action="));
    action.unwrap_or("another call").to_owned()
}

/// Where the answer of an invocation goes: what the function returned, or its error.
type Answer = oneshot::Sender<Result<Value, Value>>;

/// Lambda's runtime API, as far as a function needs it.
#[derive(Clone, Default)]
struct RuntimeApi {
    events: Arc<Mutex<VecDeque<(Value, Answer)>>>,
    waiting: Arc<Mutex<Option<Answer>>>,
    arrived: Arc<Notify>,
}

impl RuntimeApi {
    async fn start(&self) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let api = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let api = api.clone();
                let service = service_fn(move |request| {
                    let api = api.clone();
                    async move { Ok::<_, Infallible>(api.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        port
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        if path.ends_with("/invocation/next") {
            let (event, reply) = loop {
                let arrived = self.arrived.notified();
                if let Some(next) = self.events.lock().unwrap().pop_front() {
                    break next;
                }
                arrived.await;
            };
            *self.waiting.lock().unwrap() = Some(reply);
            let deadline = firebreak_shared::clock::now().as_millisecond() + 60_000;
            return Response::builder()
                .header("lambda-runtime-aws-request-id", format!("00000000-0000-4000-8000-{}", random_hex(12)))
                .header("lambda-runtime-deadline-ms", deadline.to_string())
                .header("lambda-runtime-invoked-function-arn", format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:q"))
                .body(Full::new(Bytes::from(event.to_string())))
                .unwrap();
        }
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(reply) = self.waiting.lock().unwrap().take() {
            let _ = reply.send(if path.ends_with("/response") { Ok(value) } else { Err(value) });
        }
        Response::builder().status(202).body(Full::default()).unwrap()
    }

    /// Invokes the function and waits for its answer.
    async fn invoke(&self, event: Value) -> Value {
        let (reply, answer) = oneshot::channel();
        self.events.lock().unwrap().push_back((event, reply));
        self.arrived.notify_waiters();
        let answer = tokio::time::timeout(Duration::from_secs(30), answer).await;
        answer.unwrap().unwrap().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The function's process, which ends with the test.
struct Function(Child);

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the packaged function with the environment that the template gives it.
async fn run(aws: &Aws, stack: &Stack, place: &Path, api: u16, proxy: u16) -> Function {
    let configuration = aws.lambda.get_function_configuration();
    let configuration =
        configuration.function_name(format!("{}-quarantine-principal", stack.name)).send().await.unwrap();
    let variables = configuration.environment().unwrap().variables().unwrap().clone();
    let archive = common::settings().functions.join("quarantine-principal.zip");
    let mut archive = zip::ZipArchive::new(std::fs::File::open(archive).unwrap()).unwrap();
    archive.extract(place).unwrap();
    let mut command = Command::new(place.join("bootstrap"));
    command.env_clear().envs(variables).current_dir(place).stdin(Stdio::null()).stdout(Stdio::null());
    command.env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{api}")).env("LAMBDA_TASK_ROOT", place);
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{proxy}")).env("AWS_REGION", REGION);
    command.env("AWS_LAMBDA_FUNCTION_NAME", "quarantine-principal").env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
    command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256").env("AWS_LAMBDA_LOG_STREAM_NAME", "test");
    command.env("AWS_LAMBDA_LOG_GROUP_NAME", "test");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    Function(command.stderr(Stdio::null()).spawn().unwrap())
}

async fn finding(aws: &Aws) -> Value {
    let role = Role::create(aws, &format!("counted-{}", random_hex(6)), "/firebreak-drill/").await.unwrap();
    let session =
        RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key: "ASIAEXAMPLEKEY000001" };
    let detail = findings::access_key_of_instance(aws, &session).unwrap();
    json!({"version": "0", "id": random_hex(12), "detail-type": "GuardDuty Finding", "source": "firebreak.drill",
        "account": ACCOUNT, "time": "2026-11-21T03:00:00Z", "region": REGION, "resources": [], "detail": detail})
}

/// The names of the calls of each round, in order of name.
fn in_rounds(calls: Vec<Call>) -> Vec<Vec<String>> {
    let mut rounds = BTreeMap::<usize, Vec<String>>::new();
    for call in calls {
        rounds.entry(call.round).or_default().push(call.name);
    }
    for names in rounds.values_mut() {
        names.sort_unstable();
    }
    rounds.into_values().collect()
}

#[test]
fn a_warm_function_denies_in_two_sequential_round_trips() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let proxy = Proxy::start(&aws.endpoint).await;
        let api = RuntimeApi::default();
        let api_port = api.start().await;
        let place = tempfile::tempdir().unwrap();
        let _function = run(aws, stack, place.path(), api_port, proxy.port).await;

        let answer = api.invoke(finding(aws).await).await;
        assert_eq!(answer["outcome"], "contained", "{answer}");
        proxy.take();

        // A hiccup of the machine tears a round apart, and joins none: one good try shows what the function asks for at once.
        let mut rounds = Vec::new();
        for _ in 0..5 {
            let answer = api.invoke(finding(aws).await).await;
            assert_eq!(answer["outcome"], "contained", "{answer}");
            rounds = in_rounds(proxy.take());
            if rounds[0].len() == 3 {
                break;
            }
        }
        assert_eq!(rounds[0], ["GetItem 200", "GetRole 200", "TransactWriteItems 200"], "{rounds:#?}");
        assert!(rounds[1].iter().any(|call| call == "AttachRolePolicy 200"), "{rounds:#?}");
    });
}
