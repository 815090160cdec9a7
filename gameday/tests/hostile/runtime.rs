//! `quarantine-principal` as Lambda runs it, against a stub of the runtime API: the emulator reads a payload before it
//! passes it on, so that what only the bytes can say does not reach the function through it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebreak_model::action::FunctionName;
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::deploy::Stack;
use gameday::scene::random_hex;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

use super::{Said, common};

/// What must come of a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ends {
    /// It is JSON: recorded with this in its reason.
    Recorded(&'static str),
    /// It is none, and Lambda lets none through: an error, and the function lives on.
    NotTaken,
}

/// Payloads of which only the bytes can say what they are.
pub(crate) fn payloads() -> Vec<(&'static str, Vec<u8>, Ends)> {
    let unread = Ends::Recorded("the payload cannot be read");
    let event = |detail: &str| {
        let head =
            format!(r#"{{"id": "{}", "detail-type": "GuardDuty Finding", "source": "aws.guardduty","#, random_hex(8));
        format!(r#"{head} "account": "{ACCOUNT}", "detail": {detail}}}"#).into_bytes()
    };
    let finding = |more: &str| event(&format!(r#"{{"id": "{}", "accountId": "{ACCOUNT}"{more}}}"#, random_hex(8)));
    let deep = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
    vec![
        ("a number that no type holds", finding(r#", "type": "t", "severity": 1e999"#), unread),
        ("half a surrogate pair", finding(r#", "type": "\ud800""#), unread),
        ("nested a hundred thousand deep", event(&deep(100_000)), unread),
        ("nested two million deep", event(&deep(2_000_000)), unread),
        ("nested deep, and no event at all", deep(100_000).into_bytes(), unread),
        (
            "the same type twice, the last one wrong",
            finding(r#", "type": "t", "type": 7"#),
            Ends::Recorded("no `type`"),
        ),
        ("the detail twice, the last one null", event(r#"{"type": "t"}, "detail": null"#), Ends::Recorded("no object")),
        ("a NUL written out", finding(r#", "type": ["\u0000"]"#), Ends::Recorded("no `type`")),
        ("white space of a megabyte", [vec![b' '; 1_000_000], event("1")].concat(), Ends::Recorded("no object")),
        ("nothing", Vec::new(), Ends::NotTaken),
        ("half an event", event("{}")[..40].to_vec(), Ends::NotTaken),
        ("NULs", vec![0; 1_000], Ends::NotTaken),
        ("a million open lists", vec![b'['; 1_000_000], Ends::NotTaken),
        ("no UTF-8", b"{\"id\": \"\xff\"}".to_vec(), Ends::NotTaken),
        ("an event after all that", event("2"), Ends::Recorded("no object")),
    ]
}

type Reply = oneshot::Sender<Said>;

/// What is to be invoked, and who waits for the end of it.
type Invocation = (Vec<u8>, Reply);

/// Lambda's runtime API, as far as a function needs it.
#[derive(Clone, Default)]
struct Api {
    events: Arc<Mutex<VecDeque<Invocation>>>,
    waiting: Arc<Mutex<Option<Reply>>>,
    arrived: Arc<Notify>,
}

impl Api {
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
                .body(Full::new(Bytes::from(event)))
                .unwrap();
        }
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(reply) = self.waiting.lock().unwrap().take() {
            let _ = reply.send(if path.ends_with("/response") { Said::Answer(value) } else { Said::Error(value) });
        }
        Response::builder().status(202).body(Full::default()).unwrap()
    }
}

/// The packaged function, running; it ends with the test.
pub(crate) struct Function {
    process: Child,
    api: Api,
    _place: tempfile::TempDir,
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Function {
    /// Starts it with the environment that the template gives it.
    pub(crate) async fn start(aws: &Aws, stack: &Stack) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let api = Api::default();
        let served = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = served.clone();
                let service = service_fn(move |request| {
                    let api = api.clone();
                    async move { Ok::<_, Infallible>(api.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let name = stack.function(FunctionName::QuarantinePrincipal);
        let configuration = aws.lambda.get_function_configuration().function_name(name).send().await.unwrap();
        let variables = configuration.environment().unwrap().variables().unwrap().clone();
        let place = tempfile::tempdir().unwrap();
        let archive = common::settings().functions.join("quarantine-principal.zip");
        let archive = zip::ZipArchive::new(std::fs::File::open(archive).unwrap());
        archive.unwrap().extract(place.path()).unwrap();
        let mut command = Command::new(place.path().join("bootstrap"));
        command.env_clear().envs(variables).current_dir(place.path()).stdin(Stdio::null());
        command.env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{port}")).env("LAMBDA_TASK_ROOT", place.path());
        command.env("AWS_ENDPOINT_URL", &aws.endpoint).env("AWS_REGION", REGION);
        command.env("AWS_LAMBDA_FUNCTION_NAME", "quarantine-principal").env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256").env("AWS_LAMBDA_LOG_STREAM_NAME", "test");
        command.env("AWS_LAMBDA_LOG_GROUP_NAME", "test");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, api, _place: place }
    }

    /// Invokes it with these bytes, and waits for what it says.
    pub(crate) async fn invoke(&self, payload: Vec<u8>) -> Said {
        let (reply, said) = oneshot::channel();
        self.api.events.lock().unwrap().push_back((payload, reply));
        self.api.arrived.notify_waiters();
        match tokio::time::timeout(Duration::from_secs(20), said).await {
            Ok(Ok(said)) => said,
            _ => Said::NotTaken("the function does not answer".to_owned()),
        }
    }
}
