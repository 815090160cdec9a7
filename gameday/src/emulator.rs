//! The emulator: one process, its functions as its children, one temporary folder. Nothing of it is left behind.
//!
//! A guardian process stands between: it starts the emulator in a process group of their own and waits for its
//! standard input to close, which happens however this program ends. Then it ends the group and removes the folder.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::aws::{ACCOUNT, Aws, REGION};

/// Longer than any start that was seen, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// Starts the emulator, waits for the end of its starter, ends the process group. The group is the guardian's own.
const GUARDIAN: &str = r#"
trap '' INT HUP
"$1" </dev/null >"$2/emulator.log" 2>&1 &
emulator=$!
trap '' TERM
cat >/dev/null
kill -TERM 0
( sleep 2; kill -KILL "$emulator" ) 2>/dev/null &
wait "$emulator"
rm -rf "$2"
kill -KILL 0
"#;

/// A running emulator.
#[derive(Debug)]
pub struct Emulator {
    guardian: Child,
    place: PathBuf,
    endpoint: String,
}

impl Emulator {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// With what the emulator wrote, where it does not answer in time.
    pub async fn start(program: &Path) -> Result<Self> {
        Self::start_with(program, "1").await
    }

    /// The same, without a record of every call: what makes hundreds of thousands of them reads none.
    ///
    /// # Errors
    /// With what the emulator wrote, where it does not answer in time.
    pub async fn start_without_trail(program: &Path) -> Result<Self> {
        Self::start_with(program, "0").await
    }

    async fn start_with(program: &Path, trail: &str) -> Result<Self> {
        let port = free_port()?;
        let endpoint = format!("http://{}:{port}", Ipv4Addr::LOCALHOST);
        let place = tempfile::Builder::new().prefix("firebreak-gameday-").tempdir()?.keep();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARDIAN, "guardian"]).arg(program).arg(&place).current_dir(&place);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        // Nothing of the caller's AWS settings reaches the emulator, nor the functions, which inherit from it.
        let path: Vec<_> = std::env::vars_os().filter(|(name, _)| name == "PATH").collect();
        command.env_clear().envs(path).env("LANG", "C.UTF-8").env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("HOME", &place).env("TMPDIR", &place).env("STATE_DIR", &place).env("S3_DATA_DIR", place.join("s3"));
        command.env("BIND_HOST", "127.0.0.1").env("MINISTACK_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
        command.env("IOT_MTLS_ENABLED", "0").env("AUTH", "true").env("CLOUDTRAIL_RECORDING", trail);
        command.env("MINISTACK_ACCOUNT_ID", ACCOUNT).env("MINISTACK_REGION", REGION).env("AWS_DEFAULT_REGION", REGION);
        // Lambda waits minutes between its own retries.
        command.env("LAMBDA_ASYNC_RETRY_BASE_SECONDS", "0.2");
        command.env("AWS_ENDPOINT_URL", &endpoint).env("LOG_LEVEL", "WARNING");
        let guardian = command.spawn().context("cannot start `/bin/sh`")?;
        let emulator = Self { guardian, place, endpoint };
        emulator.until_it_answers(program).await?;
        Ok(emulator)
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The end of what it wrote.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let read = std::fs::File::open(self.place.join("emulator.log")).and_then(|mut f| f.read_to_string(&mut text));
        match read {
            Ok(_) => {
                let lines: Vec<&str> = text.lines().collect();
                lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
            }
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }

    async fn until_it_answers(&self, program: &Path) -> Result<()> {
        let aws = Aws::operator(&self.endpoint, REGION);
        let start = Instant::now();
        loop {
            let last = match aws.sts.get_caller_identity().send().await {
                Ok(answer) if answer.account() == Some(ACCOUNT) => return Ok(()),
                Ok(answer) => format!("it says that its account is {:?}", answer.account()),
                Err(error) => format!("{error:?}"),
            };
            if start.elapsed() > PATIENCE {
                bail!("`{}` does not answer after {PATIENCE:?}: {last}\n{}", program.display(), self.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let start = Instant::now();
        while let Ok(None) = self.guardian.try_wait() {
            if start.elapsed() > Duration::from_secs(10) {
                let _ = self.guardian.kill();
                let _ = self.guardian.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port of 127.0.0.1 is free")?;
    Ok(listener.local_addr()?.port())
}
