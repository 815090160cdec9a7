//! A packaged function as Lambda runs it: one process, one event at a time, over Lambda's runtime API. What takes
//! longer than the function's time-out is killed, and the next event finds a new process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};

use crate::aws::{ACCOUNT, REGION};

/// How an invocation ended.
#[derive(Debug)]
pub enum Ended {
    /// With the function's answer.
    Answered(Value),
    /// With its error.
    Failed(Value),
    /// It took longer than it may, or its process ended.
    Killed,
}

/// What a function's processes are started from.
#[derive(Debug, Clone)]
pub struct Program {
    /// The function's name.
    pub name: String,
    /// Where its package is laid out.
    pub place: PathBuf,
    /// Its environment, as deployed.
    pub environment: HashMap<String, String>,
    /// How long an invocation may take, as deployed.
    pub timeout: Duration,
}

#[derive(Debug)]
struct Api {
    events: Mutex<mpsc::UnboundedReceiver<(String, String)>>,
    answers: mpsc::UnboundedSender<Ended>,
    timeout: Duration,
}

/// A process with its runtime API.
#[derive(Debug)]
pub struct Function {
    program: Program,
    endpoint: String,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    events: mpsc::UnboundedSender<(String, String)>,
    answers: mpsc::UnboundedReceiver<Ended>,
    api: tokio::task::JoinHandle<()>,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.api.abort();
    }
}

impl Function {
    /// A function that calls AWS at `endpoint`. Its process is started by the first event.
    pub fn new(program: &Program, endpoint: String) -> Self {
        Self { program: program.clone(), endpoint, running: None }
    }

    /// Invokes it under this id.
    ///
    /// # Errors
    /// Where its process cannot be started.
    pub async fn invoke(&mut self, id: &str, event: &str) -> Result<Ended> {
        if self.running.is_none() {
            self.running = Some(start(&self.program, &self.endpoint).await?);
        }
        let Some(running) = &mut self.running else { return Ok(Ended::Killed) };
        running.events.send((id.to_owned(), event.to_owned())).map_err(|_| anyhow!("the runtime API is not there"))?;
        let ended = tokio::select! {
            answer = tokio::time::timeout(self.program.timeout, running.answers.recv()) => answer.ok().flatten(),
            _ = running.child.wait() => None,
        };
        if let Some(ended) = ended {
            return Ok(ended);
        }
        let _ = running.child.kill().await;
        self.running = None;
        Ok(Ended::Killed)
    }
}

async fn start(program: &Program, endpoint: &str) -> Result<Running> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let (events, received) = mpsc::unbounded_channel();
    let (sender, answers) = mpsc::unbounded_channel();
    let api = Arc::new(Api { events: Mutex::new(received), answers: sender, timeout: program.timeout });
    let api = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let api = api.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let api = api.clone();
                    async move { Ok::<_, Infallible>(respond(&api, request).await) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let mut command = Command::new(program.place.join("bootstrap"));
    command.current_dir(&program.place).env_clear().envs(&program.environment).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{port}")).env("LAMBDA_TASK_ROOT", &program.place);
    command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", REGION).env("AWS_DEFAULT_REGION", REGION);
    command.env("AWS_LAMBDA_FUNCTION_NAME", &program.name).env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
    command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256").env("AWS_LAMBDA_LOG_GROUP_NAME", "storm");
    command.env("AWS_LAMBDA_LOG_STREAM_NAME", "storm").env("FIREBREAK_LOG", "error");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    let child = command.spawn().with_context(|| format!("cannot start `{}`", program.name))?;
    Ok(Running { events, answers, api, child })
}

async fn respond(api: &Api, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path.ends_with("/invocation/next") {
        let Some((id, event)) = api.events.lock().await.recv().await else { return Response::default() };
        let patience = i64::try_from(api.timeout.as_millis()).unwrap_or(i64::MAX);
        let deadline = firebreak_shared::clock::now().as_millisecond().saturating_add(patience);
        return Response::builder()
            .header("lambda-runtime-aws-request-id", id)
            .header("lambda-runtime-deadline-ms", deadline.to_string())
            .header("lambda-runtime-invoked-function-arn", format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"))
            .body(Full::new(Bytes::from(event)))
            .unwrap_or_default();
    }
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let ended = if path.ends_with("/response") { Ended::Answered(value) } else { Ended::Failed(value) };
    let _ = api.answers.send(ended);
    let mut accepted = Response::new(Full::default());
    *accepted.status_mut() = hyper::StatusCode::ACCEPTED;
    accepted
}

/// Lays a function's archive out.
///
/// # Errors
/// Where it cannot be read.
pub fn lay_out(archive: &Path, place: &Path) -> Result<()> {
    let file = std::fs::File::open(archive)
        .with_context(|| format!("cannot read `{}`: run `cargo xtask package --quick`", archive.display()))?;
    zip::ZipArchive::new(file)?.extract(place)?;
    Ok(())
}
