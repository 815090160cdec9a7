//! How to undo each step with plain `aws` commands, from the prior state that the ledger holds: for the day on
//! which Firebreak itself is what does not work.

use std::collections::BTreeMap;

use firebreak_model::action::ActionId;
use firebreak_model::ids::{AccessKeyId, FunctionArn, PolicyArn};
use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::plan::Target;
use firebreak_model::policy::{CHAINED_POLICY, FUNCTIONS_POLICY, REVOCATION_POLICY};
use firebreak_model::principal::PrincipalName;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::text::{Command, clean};
use super::{Draft, Setting};

/// What a person needs to undo one step.
#[derive(Debug, Default)]
struct Undo {
    notes: Vec<&'static str>,
    /// `None` where a value of the prior state cannot stand in a command.
    commands: Vec<Option<String>>,
}

impl Undo {
    fn note(note: &'static str) -> Self {
        Self { notes: vec![note], commands: Vec::new() }
    }

    fn commands(commands: impl IntoIterator<Item = Command>) -> Self {
        Self { notes: Vec::new(), commands: commands.into_iter().map(Command::line).collect() }
    }

    fn noting(mut self, note: &'static str) -> Self {
        self.notes.push(note);
        self
    }
}

/// Whether something of the step may be in place.
fn in_place(record: &StepRecord) -> bool {
    match record.state {
        StepState::Applied => true,
        StepState::Intended | StepState::Failed => record.applied_at.is_some() || record.prior.is_some(),
        // What was begun before something was found that cannot be done.
        StepState::Withheld => record.applied_at.is_some(),
        StepState::Gone | StepState::Reverted | StepState::LeftAlone => false,
    }
}

/// The order in which steps are undone: the deny first, so that nothing that is let in again fails for it; event
/// sources and keys late; the revocation last of all.
const ORDER: [ActionId; 14] = [
    ActionId::QuarantineRole,
    ActionId::QuarantineFunction,
    ActionId::QuarantineUser,
    ActionId::BoundRole,
    ActionId::BoundUser,
    ActionId::ClearDestinations,
    ActionId::RemovePublicStatements,
    ActionId::CloseFunctionUrls,
    ActionId::ZeroConcurrency,
    ActionId::RecycleEnvironments,
    ActionId::DisableEventSources,
    ActionId::DeactivateAccessKeys,
    ActionId::RevokeSessions,
    ActionId::RevokeChainedSessions,
];

/// The section of a page.
pub(super) fn section(draft: &mut Draft, incident: &Incident, steps: &[StepRecord], setting: &Setting) {
    let mut undoable: Vec<&StepRecord> =
        steps.iter().filter(|r| r.action != ActionId::SnapshotLogs && in_place(r)).collect();
    undoable.sort_by_key(|r| ORDER.iter().position(|id| *id == r.action));
    if undoable.is_empty() {
        return;
    }
    draft.section("Undo it without Firebreak");
    draft.line(
        "Firebreak's own release is safer: it keeps stolen sessions dead. While the guard runs, it puts back what",
    );
    draft.line("is undone by hand, and pages. Without them, step by step; first stop the guard. Where the policy of");
    draft.line("the organisation forbids it, detach that first (docs/ORGANISATION.md).");
    let guard = |words: &str| {
        Command::aws(words)
            .option("function-name", &format!("{}-guard-containment", setting.stack))
            .option("region", &setting.region)
    };
    let stop = guard("lambda put-function-concurrency").words("--reserved-concurrent-executions 0");
    draft.command(&stop.line().unwrap_or_default());
    for record in undoable {
        draft.line("");
        draft.line(&format!("# {}", clean(&record.step, 300)));
        if record.state != StepState::Applied {
            draft.line("# It was begun, not verified: look whether it is in place first.");
        }
        let undo = of_step(incident, record, setting);
        for note in undo.as_ref().map(|u| u.notes.as_slice()).unwrap_or_default() {
            draft.line(&format!("# {note}"));
        }
        let lines: Option<Vec<String>> = undo.and_then(|u| u.commands.into_iter().collect());
        if let Some(lines) = lines {
            for line in &lines {
                draft.command(line);
            }
        } else {
            draft.line("# What was there before cannot be put into a command here. This is the record of it:");
            draft.command(&clean(record.prior.as_deref().unwrap_or("none"), 8_000));
        }
    }
    draft.line("");
    draft.line(
        "# The incident is still open: release it when Firebreak works again, before the guard runs, or the guard",
    );
    draft.line("# puts all of this back. Let it run again (with its former figure, where it had one):");
    draft.command(&guard("lambda delete-function-concurrency").line().unwrap_or_default());
}

/// `None` where the recorded prior state has a shape that is not known here.
fn of_step(incident: &Incident, record: &StepRecord, setting: &Setting) -> Option<Undo> {
    let prior: Value = record.prior.as_deref().map_or(Some(Value::Null), |text| serde_json::from_str(text).ok())?;
    match (&record.target, record.action) {
        (Target::Role(role), ActionId::QuarantineRole) => Some(
            Undo::commands([Command::aws("iam detach-role-policy")
                .option("role-name", role.as_str())
                .option("policy-arn", &setting.deny_policy_arn)])
            .noting(WAKES),
        ),
        (Target::User(user), ActionId::QuarantineUser) => Some(
            Undo::commands([Command::aws("iam detach-user-policy")
                .option("user-name", user.as_str())
                .option("policy-arn", &setting.deny_policy_arn)])
            .noting(WAKES),
        ),
        (Target::Role(_) | Target::User(_), ActionId::BoundRole | ActionId::BoundUser) => {
            boundary(&record.target, prior)
        }
        (Target::Role(role), ActionId::RevokeSessions) => Some(
            Undo::commands([Command::aws("iam delete-role-policy")
                .option("role-name", role.as_str())
                .option("policy-name", REVOCATION_POLICY)])
            .noting(REVIVES),
        ),
        (Target::User(user), ActionId::RevokeSessions) => Some(
            Undo::commands([Command::aws("iam delete-user-policy")
                .option("user-name", user.as_str())
                .option("policy-name", REVOCATION_POLICY)])
            .noting(REVIVES),
        ),
        (Target::Role(role), ActionId::RevokeChainedSessions) => Some(
            Undo::commands([Command::aws("iam delete-role-policy")
                .option("role-name", role.as_str())
                .option("policy-name", CHAINED_POLICY)])
            .noting(REVIVES)
            .noting("It may hold what other incidents deny in this role: look first."),
        ),
        (Target::User(user), ActionId::DeactivateAccessKeys) => keys(incident, user.as_str(), prior),
        (Target::Function(_), ActionId::QuarantineFunction) => {
            let PrincipalName::Role(role) = &incident.principal.name else { return None };
            Some(
                Undo::commands([Command::aws("iam delete-role-policy")
                    .option("role-name", role.as_str())
                    .option("policy-name", FUNCTIONS_POLICY)])
                .noting("It may deny other functions of this role too: look first."),
            )
        }
        (Target::Function(function), action) => of_function(action, function, prior),
        _ => None,
    }
}

/// A command on a role or user, whose words hold `{}` where its kind stands.
fn on_principal(target: &Target, words: &str) -> Option<Command> {
    let (kind, name) = match target {
        Target::Role(role) => ("role", role.as_str()),
        Target::User(user) => ("user", user.as_str()),
        Target::Function(_) => return None,
    };
    Some(Command::aws(&format!("iam {}", words.replace("{}", kind))).option(&format!("{kind}-name"), name))
}

fn boundary(target: &Target, prior: Value) -> Option<Undo> {
    let before: Option<PolicyArn> = serde_json::from_value(prior).ok()?;
    let command = match before {
        Some(arn) => {
            on_principal(target, "put-{}-permissions-boundary")?.option("permissions-boundary", &arn.to_string())
        }
        None => on_principal(target, "delete-{}-permissions-boundary")?,
    };
    Some(Undo::commands([command]).noting(WAKES))
}

/// What a person looks at where a release left a boundary alone: it may be the one that denies everything.
pub(super) fn left_alone(draft: &mut Draft, record: &StepRecord) {
    if !matches!(record.action, ActionId::BoundRole | ActionId::BoundUser) {
        return;
    }
    let commands = ["get-{}", "delete-{}-permissions-boundary"].map(|words| on_principal(&record.target, words));
    draft.line(&format!("{} may still be denied everything. Look at its boundary; where it is", record.target));
    draft.line("AWSDenyAll and should not be, put another in its place, or delete it:");
    for line in commands.into_iter().flatten().filter_map(Command::line) {
        draft.command(&line);
    }
}

const WAKES: &str = "Sessions that were stolen work again at once, unless they are revoked or have ended.";
const REVIVES: &str = "Careful: this wakes every stolen session that has not ended. Wait until the longest has.";

#[derive(Deserialize)]
struct Key {
    id: AccessKeyId,
    active: bool,
}

fn keys(incident: &Incident, user: &str, prior: Value) -> Option<Undo> {
    let keys: Vec<Key> = serde_json::from_value(prior).ok()?;
    let was_active = keys.iter().filter(|key| key.active);
    let (stolen, others): (Vec<_>, Vec<_>) = was_active.partition(|key| incident.access_keys.contains(&key.id));
    let activate = |key: &&Key| {
        let command = Command::aws("iam update-access-key").option("user-name", user);
        command.option("access-key-id", key.id.as_str()).words("--status Active")
    };
    let mut undo = Undo::commands(others.iter().map(activate));
    if !stolen.is_empty() {
        undo.notes.push("A key that a finding names is left out here: it is stolen, give its owner a new one.");
    }
    if undo.commands.is_empty() {
        undo.notes.push("There is no other key that was Active before.");
    }
    Some(undo)
}

/// Nothing of a prior state that is empty needs a command.
fn or_nothing(undo: Undo, nothing: &'static str) -> Undo {
    if undo.commands.is_empty() { Undo::note(nothing) } else { undo }
}

fn of_function(action: ActionId, function: &FunctionArn, prior: Value) -> Option<Undo> {
    match action {
        ActionId::ZeroConcurrency => concurrency(function, prior),
        ActionId::DisableEventSources => event_sources(function, prior),
        ActionId::CloseFunctionUrls => urls(function, prior),
        ActionId::RemovePublicStatements => statements(function, prior),
        ActionId::ClearDestinations => destinations(function, prior),
        ActionId::RecycleEnvironments => recycled(function, prior),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Concurrency {
    reserved: Option<u32>,
    provisioned: Vec<Provisioned>,
}

#[derive(Deserialize)]
struct Provisioned {
    qualifier: String,
    requested: u32,
}

fn concurrency(function: &FunctionArn, prior: Value) -> Option<Undo> {
    let prior: Concurrency = serde_json::from_value(prior).ok()?;
    let reserved = match prior.reserved {
        Some(figure) => on("lambda put-function-concurrency", function)
            .option("reserved-concurrent-executions", &figure.to_string()),
        None => on("lambda delete-function-concurrency", function),
    };
    let provisioned = prior.provisioned.iter().map(|one| {
        on("lambda put-provisioned-concurrency-config", function)
            .option("qualifier", &one.qualifier)
            .option("provisioned-concurrent-executions", &one.requested.to_string())
    });
    Some(Undo::commands([reserved].into_iter().chain(provisioned)))
}

#[derive(Deserialize)]
struct EventSource {
    uuid: String,
    enabled: bool,
}

fn event_sources(function: &FunctionArn, prior: Value) -> Option<Undo> {
    let prior: Vec<EventSource> = serde_json::from_value(prior).ok()?;
    let enable = |one: &EventSource| {
        Command::aws("lambda update-event-source-mapping")
            .option("region", function.region().as_str())
            .option("uuid", &one.uuid)
            .words("--enabled")
    };
    let undo = Undo::commands(prior.iter().filter(|one| one.enabled).map(enable));
    Some(or_nothing(undo, "No event source was enabled before.").noting("What has piled up meanwhile is replayed."))
}

#[derive(Deserialize)]
struct Url {
    qualifier: Option<String>,
    auth_type: String,
}

fn urls(function: &FunctionArn, prior: Value) -> Option<Undo> {
    let prior: Vec<Url> = serde_json::from_value(prior).ok()?;
    let open = |url: &Url| {
        let command = qualified(on("lambda update-function-url-config", function), url.qualifier.as_deref());
        command.words("--auth-type NONE")
    };
    let undo = Undo::commands(prior.iter().filter(|url| url.auth_type == "NONE").map(open));
    Some(or_nothing(undo, "No function URL was open to everyone before."))
}

#[derive(Deserialize)]
struct Recycled {
    description: String,
    #[serde(default)]
    aliases: Vec<Alias>,
}

#[derive(Deserialize)]
struct Alias {
    name: String,
    version: String,
    #[serde(default)]
    weights: BTreeMap<String, f64>,
}

fn recycled(function: &FunctionArn, prior: Value) -> Option<Undo> {
    let prior: Recycled = serde_json::from_value(prior).ok()?;
    let describe = on("lambda update-function-configuration", function).option("description", &prior.description);
    let lead_back = |alias: &Alias| {
        on("lambda update-alias", function)
            .option("name", &alias.name)
            .option("function-version", &alias.version)
            .option("routing-config", &json!({"AdditionalVersionWeights": alias.weights}).to_string())
    };
    let undo = Undo::commands([describe].into_iter().chain(prior.aliases.iter().map(lead_back)));
    let undo = undo.noting("The function runs, in fresh environments. Nothing but its description has to be undone.");
    Some(if prior.aliases.is_empty() {
        undo
    } else {
        undo.noting(
            "Lead an alias back when its old environments are gone, after some hours; they have dead credentials.",
        )
    })
}

#[derive(Deserialize)]
struct Placed {
    qualifier: Option<String>,
    statement: Value,
}

fn statements(function: &FunctionArn, prior: Value) -> Option<Undo> {
    let prior: Vec<Placed> = serde_json::from_value(prior).ok()?;
    let commands: Option<Vec<Command>> = prior.iter().map(|placed| add_permission(function, placed)).collect();
    let undo = or_nothing(Undo::commands(commands?), "No statement was public before.");
    Some(if prior.is_empty() { undo } else { undo.noting("This lets everyone in again.") })
}

/// `None` where the statement holds anything that `add-permission` cannot express.
fn add_permission(function: &FunctionArn, placed: &Placed) -> Option<Command> {
    let fields = placed.statement.as_object()?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let everyone = *fields.get("Principal")? == json!("*") || *fields.get("Principal")? == json!({"AWS": "*"});
    let known = ["Sid", "Effect", "Principal", "Action", "Resource", "Condition"];
    if !everyone || text("Effect") != Some("Allow") || !fields.keys().all(|key| known.contains(&key.as_str())) {
        return None;
    }
    let command = qualified(on("lambda add-permission", function), placed.qualifier.as_deref());
    let mut command =
        command.option("statement-id", text("Sid")?).option("action", text("Action")?).option("principal", "*");
    let none = Map::new();
    for (operator, keys) in fields.get("Condition").map_or(Some(&none), Value::as_object)? {
        for (key, value) in keys.as_object()? {
            let value = value.as_str()?;
            command = match (operator.as_str(), key.to_ascii_lowercase().as_str()) {
                ("ArnLike" | "StringLike", "aws:sourcearn") => command.option("source-arn", value),
                ("StringEquals", "aws:sourceaccount") => command.option("source-account", value),
                ("StringEquals", "aws:principalorgid") => command.option("principal-org-id", value),
                ("StringEquals", "lambda:functionurlauthtype") => command.option("function-url-auth-type", value),
                ("StringEquals", "lambda:eventsourcetoken") => command.option("event-source-token", value),
                ("Bool", "lambda:invokedviafunctionurl") if value == "true" => {
                    command.words("--invoked-via-function-url")
                }
                _ => return None,
            };
        }
    }
    Some(command)
}

#[derive(Deserialize)]
struct Reporting {
    destinations: Vec<Destinations>,
    dead_letter: Option<String>,
}

#[derive(Deserialize)]
struct Destinations {
    qualifier: Option<String>,
    on_success: Option<String>,
    on_failure: Option<String>,
}

fn destinations(function: &FunctionArn, prior: Value) -> Option<Undo> {
    let prior: Reporting = serde_json::from_value(prior).ok()?;
    let side = |to: &Option<String>| to.as_ref().map_or_else(|| json!({}), |to| json!({"Destination": to}));
    let report = |one: &Destinations| {
        let to = json!({"OnSuccess": side(&one.on_success), "OnFailure": side(&one.on_failure)});
        qualified(on("lambda update-function-event-invoke-config", function), one.qualifier.as_deref())
            .option("destination-config", &to.to_string())
    };
    let bury = |to: &String| {
        on("lambda update-function-configuration", function)
            .option("dead-letter-config", &json!({"TargetArn": to}).to_string())
    };
    let set = prior.destinations.iter().filter(|one| one.on_success.is_some() || one.on_failure.is_some());
    let undo = Undo::commands(set.map(report).chain(prior.dead_letter.iter().map(bury)));
    Some(or_nothing(undo, "No destination and no dead-letter target was set before."))
}

fn qualified(command: Command, qualifier: Option<&str>) -> Command {
    match qualifier {
        Some(qualifier) => command.option("qualifier", qualifier),
        None => command,
    }
}

/// A command on a function, in its Region.
fn on(words: &str, function: &FunctionArn) -> Command {
    Command::aws(words).option("region", function.region().as_str()).option("function-name", function.name())
}
