//! `firebreak explain`: what the playbook would do with an event and why, from files alone.

use std::io::{ErrorKind, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use firebreak_model::decision::Mode;
use firebreak_model::explain::{Explainer, Explanation, Kind, Outcome, Target};
use firebreak_model::inventory::Inventory;
use firebreak_model::playbook::Playbook;
use serde::Serialize;
use serde_json::Value;

use crate::{CliError, read_playbook};

/// The playbook that Firebreak ships with.
const SHIPPED: &str = include_str!("../../playbook.yaml");

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Events, findings, CloudTrail records or requests, one a file; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The playbook; by default the one that Firebreak ships with
    #[arg(long)]
    playbook: Option<PathBuf>,
    /// What AWS knows, as `aws lambda list-functions`, `aws iam list-instance-profiles`, `list-roles`, `list-users`, `aws
    /// ecs describe-task-definition` and `describe-tasks` print it; may be repeated
    #[arg(long)]
    inventory: Vec<PathBuf>,
    /// The most that the stack lets a rule do (its parameter `Mode`)
    #[arg(long, value_enum, default_value_t = Ceiling::Enforce)]
    mode: Ceiling,
    /// One JSON object a file, a line each, in the order given
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ceiling {
    Observe,
    Approve,
    Enforce,
}

impl From<Ceiling> for Mode {
    fn from(ceiling: Ceiling) -> Self {
        match ceiling {
            Ceiling::Observe => Self::Observe,
            Ceiling::Approve => Self::Approve,
            Ceiling::Enforce => Self::Enforce,
        }
    }
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

impl Explain {
    /// Explains every file. Ends in failure where one of them is no event.
    pub(crate) fn run(&self) -> Result<ExitCode, CliError> {
        let (playbook, inventory) = (self.playbook()?, self.inventory()?);
        let explainer = Explainer { playbook: &playbook, inventory: &inventory, ceiling: self.mode.into() };
        let mut all_events = true;
        let mut out = std::io::stdout().lock();
        for file in &self.files {
            let explanation = match read(file) {
                Ok(input) => explainer.explain(&input),
                Err(error) => Explanation::malformed(Kind::Unknown, format!("it cannot be read: {error}")),
            };
            all_events &= explanation.decision != Outcome::Malformed;
            let name = file.to_string_lossy();
            let text = if self.json {
                let line = Line { file: &name, explanation: &explanation };
                serde_json::to_string(&line).unwrap_or_default()
            } else {
                readable(&name, &explanation)
            };
            match writeln!(out, "{text}") {
                Ok(()) => {}
                // Whoever reads has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                Err(source) => return Err(CliError::File { path: "standard output".to_owned(), source }),
            }
        }
        Ok(if all_events { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn playbook(&self) -> Result<Playbook, CliError> {
        match &self.playbook {
            Some(file) => read_playbook(file),
            None => Ok(Playbook::from_yaml(SHIPPED)?),
        }
    }

    fn inventory(&self) -> Result<Inventory, CliError> {
        let mut inventory = Inventory::default();
        for file in &self.inventory {
            let path = file.display().to_string();
            let input = read(file).map_err(|source| CliError::File { path: path.clone(), source })?;
            let document: Value = serde_json::from_slice(&input).map_err(|error| CliError::Inventory {
                path: path.clone(),
                problem: format!("it is no JSON: {error}"),
            })?;
            inventory
                .add(&document)
                .map_err(|error| CliError::Inventory { path: path.clone(), problem: error.to_string() })?;
        }
        Ok(inventory)
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut input = Vec::new();
        std::io::stdin().lock().read_to_end(&mut input)?;
        return Ok(input);
    }
    std::fs::read(file)
}

/// Text of an event for a terminal: no control character reaches it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn readable(file: &str, explanation: &Explanation) -> String {
    let Explanation { kind, finding_id, finding_type, severity, decision, targets, actions, reason } = explanation;
    let mut lines = vec![plain(file)];
    let mut what = vec![kind.to_string()];
    what.extend(finding_type.iter().map(|t| plain(t)));
    what.extend(severity.map(|s| format!("severity {s}")));
    lines.push(format!("  what      {}", what.join("  ")));
    if let Some(id) = finding_id {
        lines.push(format!("  id        {}", plain(id)));
    }
    lines.push(format!("  decision  {decision}"));
    lines.push(format!("  because   {}", plain(reason)));
    for Target { kind, name, arn, containable, reason } in targets {
        let who = plain(arn.as_deref().or(name.as_deref()).unwrap_or_default());
        let line = match (name, containable) {
            (None, true) => plain(reason),
            (_, true) => who,
            (_, false) => format!("{who}: cannot be contained, {}", plain(reason)),
        };
        lines.push(format!("  {:<8}  {line}", kind.to_string()));
    }
    if !actions.is_empty() {
        let names: Vec<_> = actions.iter().map(|action| action.as_str()).collect();
        let when = if *decision == Outcome::Act { "at once" } else { "on approval" };
        lines.push(format!("  actions   {when}: {}", names.join(", ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn explain(input: &str) -> Explanation {
        let playbook = Playbook::from_yaml(SHIPPED).unwrap();
        let inventory = Inventory::default();
        Explainer { playbook: &playbook, inventory: &inventory, ceiling: Mode::Enforce }.explain(input.as_bytes())
    }

    #[test]
    fn a_line_of_json_has_the_members_that_scripts_rely_on() {
        let explanation = explain(include_str!("../../events/guardduty-lambda-c2-role-arn.json"));
        let line = serde_json::to_value(Line { file: "f.json", explanation: &explanation }).unwrap();
        let members: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let wanted =
            ["actions", "decision", "file", "finding_id", "finding_type", "kind", "reason", "severity", "targets"];
        assert_eq!(members, wanted);
        assert_eq!(line["decision"], "act");
        assert_eq!(line["targets"][0]["kind"], "role");
        assert_eq!(line["actions"][0], "quarantine-role");
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        let hostile = "{\"id\":\"\\u001b[2J\",\"type\":\"a\\u0007b\",\"service\":{},\"accountId\":\"111122223333\"}";
        let text = readable("a\nb", &explain(hostile));
        assert!(text.lines().all(|line| !line.chars().any(char::is_control)), "{text:?}");
    }
}
