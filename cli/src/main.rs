//! The `firebreak` command: contain, approve, release, pause and redrive by hand, over the functions of
//! a deployed stack; fetch and check evidence. It holds no right of its own: IAM decides what the caller may do.

mod evidence;
mod explain;
mod invoke;
mod redrive;

use std::path::PathBuf;
use std::process::ExitCode;

use aws_config::{BehaviorVersion, SdkConfig};
use clap::{Args, Parser, Subcommand};
use firebreak_model::ids::IncidentId;
use firebreak_model::playbook::Playbook;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Why the command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A file that cannot be opened.
    #[error("`{path}` cannot be opened")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A playbook that is refused.
    #[error(transparent)]
    Playbook(#[from] firebreak_model::playbook::PlaybookError),
    /// An AWS call that failed.
    #[error("{what}")]
    Aws {
        /// What was tried, and on what.
        what: String,
        /// What AWS said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The function ran and refused, or failed.
    #[error("{kind}: {message}")]
    Function {
        /// `Transient`, `Permanent`, `Refused` or `Malformed`.
        kind: String,
        /// What it said.
        message: String,
    },
    /// Something could not be redriven.
    #[error("{0}")]
    Redrive(String),
    /// Evidence could not be fetched.
    #[error("{0}")]
    Pull(String),
    /// Evidence is not as it was collected.
    #[error("the evidence is not sound: {0}")]
    Evidence(evidence::Wrong),
    /// A file that is no inventory.
    #[error("`{path}`: {problem}")]
    Inventory {
        /// Which.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Debug, Parser)]
#[command(
    name = "firebreak",
    version,
    about = "Contain compromised AWS identities, and release them again",
    after_help = "It asks AWS with the credentials and the Region of the environment, as `aws` does (AWS_PROFILE, AWS_REGION): \
                  give the home Region of the stack.\nIt ends with 0 where what was asked for is done, with 3 where \
                  Firebreak answered and did something else (an incident that waits for approval, or is withheld), with 1 \
                  where it could not be asked or failed, with 2 where the command line is wrong."
)]
struct Cli {
    /// The name of the stack that Firebreak is deployed as
    #[arg(long, global = true, default_value = "firebreak")]
    stack: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Contain a role or a user now
    Contain {
        #[command(flatten)]
        target: Target,
        /// A function that runs as the principal (ARN); may be repeated
        #[arg(long = "function", value_name = "ARN")]
        functions: Vec<String>,
        /// An access key that is known to be stolen; may be repeated
        #[arg(long = "access-key", value_name = "ID")]
        access_keys: Vec<String>,
        /// What to do, separated by commas, as in the playbook (quarantine,isolate,snapshot,revoke,recycle,
        /// quarantine-function); by default what the playbook says
        #[arg(long, value_name = "WHAT", value_delimiter = ',')]
        response: Vec<String>,
        /// When the stolen session began, where that is known (2026-11-21T02:00:00Z)
        #[arg(long, value_name = "TIME")]
        session_started: Option<Timestamp>,
        #[command(flatten)]
        asked: Asked,
    },
    /// Approve an incident that waits for it
    Approve {
        /// The incident, as the page names it
        incident_id: IncidentId,
        #[command(flatten)]
        asked: Asked,
    },
    /// Undo a containment, or all since a time; the stolen sessions stay revoked
    Release {
        /// The incident, as the page names it
        #[arg(required_unless_present = "since", conflicts_with = "since")]
        incident_id: Option<IncidentId>,
        /// Release every incident that was ordered at or after this time (2026-11-21T02:00:00Z)
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
        /// Drills as well
        #[arg(long, conflicts_with = "incident_id")]
        drills: bool,
        /// An access key of the finding that may live again; may be repeated
        #[arg(long = "reactivate-key", value_name = "ID", conflicts_with = "since")]
        reactivate_keys: Vec<String>,
        /// Go ahead without a revocation (only where the stack leaves `revoke-sessions` out): stolen sessions that are still
        /// alive work again
        #[arg(long)]
        without_revocation: bool,
        #[command(flatten)]
        asked: Asked,
    },
    /// List the incidents that are not released, and which of their steps stand
    List,
    /// Stop new containments at once
    Pause {
        #[command(flatten)]
        asked: Asked,
    },
    /// Let new containments begin again
    Resume {
        #[command(flatten)]
        asked: Asked,
    },
    /// Send what lies in the failure queues through again
    Redrive(redrive::Redrive),
    /// Bring an incident's evidence here, and check it
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    /// Say what the playbook would do with an event and why; asks AWS nothing
    Explain(explain::Explain),
    /// Check a playbook with the code that runs it
    CheckPlaybook {
        /// The playbook
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// The role, by name or ARN
    #[arg(long)]
    role: Option<String>,
    /// The user, by name or ARN
    #[arg(long)]
    user: Option<String>,
}

#[derive(Debug, Args)]
struct Asked {
    /// Why: kept on record
    #[arg(long)]
    reason: String,
    /// Who asks: kept on record; by default the caller's ARN
    #[arg(long)]
    requested_by: Option<String>,
}

/// The exit code where Firebreak answered, and what was asked for is not in force.
const DONE_OTHERWISE: u8 = 3;

/// What a command has to say.
struct Told {
    lines: String,
    /// Whether what was asked for is done.
    done: bool,
}

impl Told {
    fn of(lines: String) -> Self {
        Self { lines, done: true }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Explain(explain) => explain.run(),
        Verb::Evidence(evidence) => evidence.run(&cli.stack, sdk).await.map(|lines| {
            show(&lines);
            ExitCode::SUCCESS
        }),
        verb => run(&cli.stack, verb).await.map(|told| {
            show(&told.lines);
            if told.done { ExitCode::SUCCESS } else { ExitCode::from(DONE_OTHERWISE) }
        }),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is the command's output")]
fn show(text: &str) {
    println!("{text}");
}

/// What a person waits for.
#[expect(clippy::print_stderr, reason = "this is no part of the command's output")]
fn mention(what: &str) {
    eprintln!("firebreak: {what}");
}

#[expect(clippy::print_stderr, reason = "this is where a command complains")]
fn complain(error: &CliError) {
    eprintln!("firebreak: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        eprintln!("  because: {inner}");
        source = inner.source();
    }
}

async fn run(stack: &str, verb: Verb) -> Result<Told, CliError> {
    let request = |verb: &str, more: Value, asked: Asked| (verb.to_owned(), more, asked);
    let (function, (verb, more, asked)) = match verb {
        Verb::Explain(_) | Verb::Evidence(_) => return Ok(Told::of(String::new())),
        Verb::CheckPlaybook { file } => return check_playbook(&file).map(Told::of),
        Verb::Redrive(asked) => return redrive::redrive(&sdk().await, stack, &asked).await.map(Told::of),
        Verb::Contain { target, functions, access_keys, response, session_started, asked } => {
            let mut more = json!({"functions": functions, "access_keys": access_keys});
            let given = [
                ("role", target.role.map(Value::from)),
                ("user", target.user.map(Value::from)),
                ("response", (!response.is_empty()).then(|| json!(response))),
                ("session_started", session_started.map(|at| json!(at))),
            ];
            for (name, value) in given {
                if let (Some(value), Some(object)) = (value, more.as_object_mut()) {
                    object.insert(name.to_owned(), value);
                }
            }
            ("quarantine-principal", request("contain", more, asked))
        }
        Verb::Approve { incident_id, asked } => {
            ("quarantine-principal", request("approve", json!({"incident_id": incident_id}), asked))
        }
        Verb::List => {
            let payload = json!({"firebreak": "list"});
            let answer = invoke::invoke(&sdk().await, &format!("{stack}-release-containment"), &payload).await?;
            return Ok(Told::of(invoke::readable(&answer)));
        }
        Verb::Release { incident_id, since, drills, reactivate_keys, without_revocation, asked } => {
            let more = match since {
                Some(since) => json!({"since": since, "drills": drills, "without_revocation": without_revocation}),
                None => json!({"incident_id": incident_id, "reactivate_keys": reactivate_keys,
                               "without_revocation": without_revocation}),
            };
            ("release-containment", request("release", more, asked))
        }
        Verb::Pause { asked } => ("release-containment", request("pause", json!({}), asked)),
        Verb::Resume { asked } => ("release-containment", request("resume", json!({}), asked)),
    };
    let sdk = sdk().await;
    let requested_by = match asked.requested_by {
        Some(name) => name,
        None => invoke::caller(&sdk).await?,
    };
    let mut payload = json!({"firebreak": verb, "reason": asked.reason, "requested_by": requested_by});
    if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
        payload.extend(more);
    }
    if verb == "release" {
        mention("sessions are revoked first, then IAM is given its time: a release takes about two minutes");
    }
    let answer = invoke::invoke(&sdk, &format!("{stack}-{function}"), &payload).await?;
    let outcome = answer.get("outcome").and_then(Value::as_str).unwrap_or_default();
    let done = !matches!(verb.as_str(), "contain" | "approve") || matches!(outcome, "contained" | "ordered");
    Ok(Told { lines: invoke::readable(&answer), done })
}

async fn sdk() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest()).load().await
}

fn check_playbook(file: &std::path::Path) -> Result<String, CliError> {
    let playbook = read_playbook(file)?;
    Ok(format!("`{}` is a good playbook\nsha256 {}", file.display(), playbook.digest()))
}

fn read_playbook(file: &std::path::Path) -> Result<Playbook, CliError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| CliError::File { path: file.display().to_string(), source })?;
    Ok(Playbook::from_yaml(&text)?)
}
