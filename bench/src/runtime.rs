//! Lambda's runtime API, as far as one function's process needs it, and that process.
//!
//! What a process has used is read from `/proc` when its answer is there and before it is acknowledged: at that moment
//! it waits, and nothing runs on.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::endpoint::serve_plain;
use crate::world::{ACCOUNT, REGION};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// CPU and memory of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time of all its threads, in milliseconds.
    pub(crate) cpu_ms: f64,
    /// The most memory that was resident, in megabytes of 2^20 bytes.
    pub(crate) peak_mb: f64,
}

/// What came of an invocation.
#[derive(Debug)]
pub(crate) struct Answered {
    /// When the event was handed out.
    pub(crate) handed: Instant,
    /// When the answer was there.
    pub(crate) at: Instant,
    /// What the process had used until then, since it started.
    pub(crate) usage: Usage,
    /// What the function returned, or its error.
    pub(crate) result: Result<Value, Value>,
}

/// How a function is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The function's name.
    pub(crate) name: String,
    /// What is run, with its arguments.
    pub(crate) command: Vec<PathBuf>,
    /// Where it lies.
    pub(crate) place: PathBuf,
    /// Its environment beside what every function has.
    pub(crate) environment: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Shared {
    pid: AtomicU32,
    events: AsyncMutex<mpsc::UnboundedReceiver<Value>>,
    answers: mpsc::UnboundedSender<Answered>,
    handed: Mutex<Option<Instant>>,
}

/// A function's process with its runtime API. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Function {
    /// When it was started.
    pub(crate) spawned: Instant,
    events: mpsc::UnboundedSender<Value>,
    answers: mpsc::UnboundedReceiver<Answered>,
    shared: Arc<Shared>,
    api: tokio::task::JoinHandle<()>,
    child: Child,
    log: PathBuf,
}

impl Drop for Function {
    fn drop(&mut self) {
        self.api.abort();
    }
}

impl Function {
    /// Starts a process, with an event that waits for it where one is given.
    pub(crate) async fn start(program: &Program, log: &Path, first: Option<Value>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (events, received) = mpsc::unbounded_channel();
        let (sender, answers) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            pid: AtomicU32::new(0),
            events: AsyncMutex::new(received),
            answers: sender,
            handed: Mutex::default(),
        });
        let serving = shared.clone();
        let api = tokio::spawn(serve_plain(listener, move |request| respond(serving.clone(), request)));
        if let Some(event) = first {
            events.send(event).map_err(|_| anyhow!("the runtime API is not there"))?;
        }
        let (executable, arguments) = program.command.split_first().context("there is nothing to run")?;
        let output = fs::File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let mut command = Command::new(executable);
        command.args(arguments).current_dir(&program.place).env_clear().kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{port}")).env("LAMBDA_TASK_ROOT", &program.place);
        command.env("AWS_REGION", REGION).env("AWS_DEFAULT_REGION", REGION).env("PATH", "/usr/bin:/bin");
        command.env("AWS_LAMBDA_FUNCTION_NAME", &program.name).env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256").env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand");
        command.env("AWS_LAMBDA_LOG_GROUP_NAME", "bench").env("AWS_LAMBDA_LOG_STREAM_NAME", "bench");
        command.env("AWS_ACCESS_KEY_ID", "ASIAEXAMPLEBENCH0001").env("AWS_SECRET_ACCESS_KEY", "bench");
        command.env("AWS_SESSION_TOKEN", "bench").env("LANG", "en_US.UTF-8").env("TZ", ":UTC");
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        let spawned = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start `{}`", executable.display()))?;
        shared.pid.store(child.id().unwrap_or_default(), Ordering::SeqCst);
        Ok(Self { spawned, events, answers, shared, api, child, log: log.to_owned() })
    }

    /// Hands an event to a process that waits for one.
    pub(crate) fn send(&self, event: Value) -> Result<()> {
        self.events.send(event).map_err(|_| anyhow!("the runtime API is not there"))
    }

    /// Waits for the answer to the event that was handed out.
    pub(crate) async fn answer(&mut self) -> Result<Answered> {
        let answer = tokio::select! {
            answer = tokio::time::timeout(PATIENCE, self.answers.recv()) => answer.ok().flatten(),
            status = self.child.wait() => bail!("the process ended: {status:?}\n{}", self.said()),
        };
        answer.with_context(|| format!("the function does not answer\n{}", self.said()))
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.shared.pid.load(Ordering::SeqCst)
    }

    /// The end of what it logged.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    /// Ends the process.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end the process")
    }
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let arrived = Instant::now();
    let path = request.uri().path().to_owned();
    let usage = usage(shared.pid.load(Ordering::SeqCst));
    if path.ends_with("/invocation/next") {
        let Some(event) = shared.events.lock().await.recv().await else { return Response::default() };
        *shared.handed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let deadline = Timestamp::now().as_millisecond() + 600_000;
        return Response::builder()
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", "00000000-0000-4000-8000-000000000001")
            .header("lambda-runtime-deadline-ms", deadline.to_string())
            .header("lambda-runtime-invoked-function-arn", format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"))
            .header("lambda-runtime-trace-id", "Root=1-5e1b4151-5ac6c58f5b5dd5ab5b5dd5ab;Parent=0;Sampled=0")
            .body(Full::new(Bytes::from(event.to_string())))
            .unwrap_or_default();
    }
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = if path.ends_with("/response") { Ok(value) } else { Err(value) };
    let handed = shared.handed.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(arrived);
    let _ = shared.answers.send(Answered { handed, at: arrived, usage, result });
    Response::builder().status(202).body(Full::default()).unwrap_or_default()
}

/// What a process has used. Threads that have ended are in the coarser figure only: the larger of both counts.
pub(crate) fn usage(pid: u32) -> Usage {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds: f64 =
        threads.map(|thread| on_cpu(&fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default())).sum();
    Usage { cpu_ms: (nanoseconds / 1e6).max(ticks_ms(&read("stat"))), peak_mb: peak_mb(&read("status")) }
}

/// Nanoseconds on a CPU: the first figure of `schedstat`.
fn on_cpu(schedstat: &str) -> f64 {
    schedstat.split_whitespace().next().and_then(|figure| figure.parse().ok()).unwrap_or_default()
}

/// User and system time of `stat`, in milliseconds: ticks of 10 ms, all threads that ever ran.
fn ticks_ms(stat: &str) -> f64 {
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let figures = after_name.split_whitespace().skip(11).take(2);
    figures.filter_map(|figure| figure.parse::<f64>().ok()).sum::<f64>() * 10.0
}

/// `VmHWM` of `status`.
fn peak_mb(status: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_the_kernel_are_read() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(close(on_cpu("163406915 27725010 36\n"), 163_406_915.0));
        let stat = "42 (boot (strap)) S 1 42 42 0 -1 4194304 900 0 0 0 5 11 0 0 20 0 1 0 12345 8000000 700";
        assert!(close(ticks_ms(stat), 160.0));
        assert!(close(peak_mb("VmPeak:\t 16564 kB\nVmHWM:\t   13824 kB\nVmRSS:\t 13000 kB\n"), 13.5));
        assert!(close(ticks_ms(""), 0.0) && close(peak_mb(""), 0.0));
    }
}
