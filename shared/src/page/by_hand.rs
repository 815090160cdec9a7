//! What a person with more rights than Firebreak does where every rung of the ladder was refused: plain `aws` commands,
//! put together from parsed identifiers only.

use firebreak_model::ids::{FunctionArn, Partition, PolicyArn};
use firebreak_model::ladder::{Refusal, Standing};
use firebreak_model::ledger::{Incident, StepRecord};
use firebreak_model::plan::{Step, Target};
use firebreak_model::policy;

use super::text::{Command, clean};
use super::{Draft, Setting};

/// The name of the inline policy that a person puts in place: not one that Firebreak knows, so that a release leaves it.
const BY_HAND_POLICY: &str = "denied-by-hand";

/// The rungs that were refused, of the first step of the plan all of whose rungs were.
pub(super) fn refused<'a>(incident: &Incident, steps: &'a [StepRecord]) -> Option<(Step, Vec<&'a StepRecord>)> {
    incident.plan.steps.iter().find_map(|step| match Standing::of(step, steps) {
        Standing::Refused(rungs) => Some((step.clone(), rungs)),
        _ => None,
    })
}

/// The section of a page: why each rung was refused, and what to do in its place.
pub(super) fn section(draft: &mut Draft, incident: &Incident, steps: &[StepRecord], setting: &Setting) {
    let Some((step, rungs)) = refused(incident, steps) else { return };
    draft.section("Contain it by hand, now");
    draft.line("Firebreak has tried, and was refused:");
    for rung in &rungs {
        draft.line(&format!("  {}: {}", clean(&rung.step, 300), clean(&rung.detail, 600)));
    }
    if rungs.iter().any(|rung| rung.refused == Some(Refusal::Denied)) {
        draft.line("A call that was denied: a policy on Firebreak's own role, or a service control policy of the");
        draft.line("organisation. Whoever is above both, and is not the thief, does this:");
    } else {
        draft.line("Whoever has more rights, and is not the thief, does this:");
    }
    let deny_all = PolicyArn::deny_all(partition(setting)).to_string();
    let (kind, name) = match &step.target {
        Target::Role(role) => ("role", role.as_str()),
        Target::User(user) => ("user", user.as_str()),
        Target::Function(_) => return,
    };
    let named = |words: &str| Command::aws(&format!("iam {words}")).option(&format!("{kind}-name"), name);
    let filling: Vec<&PolicyArn> = rungs.iter().flat_map(|rung| &rung.filled_by).collect();
    numbered(
        draft,
        1,
        "The boundary: an explicit deny on everything, over every grant. Note what it was before.",
        [
            named(&format!("get-{kind}")).words("--query '*.PermissionsBoundary'"),
            named(&format!("put-{kind}-permissions-boundary")).option("permissions-boundary", &deny_all),
        ],
    );
    let attach = named(&format!("attach-{kind}-policy")).option("policy-arn", &deny_all);
    if filling.is_empty() {
        numbered(draft, 2, "And the same as an attached policy.", [attach]);
    } else {
        let what =
            "And the same as an attached policy. The quota is full: detach one of these first (and put it back later).";
        let detach =
            filling.iter().map(|arn| named(&format!("detach-{kind}-policy")).option("policy-arn", &arn.to_string()));
        numbered(draft, 2, what, detach.chain([attach]));
    }
    let inline = named(&format!("put-{kind}-policy"))
        .option("policy-name", BY_HAND_POLICY)
        .option("policy-document", &policy::deny_everything().to_string());
    numbered(draft, 3, "Where neither goes: the same as an inline policy.", [inline]);
    let mut at = 4;
    if kind == "user" {
        let keys = incident
            .access_keys
            .iter()
            .map(|key| named("update-access-key").option("access-key-id", key.as_str()).words("--status Inactive"));
        let what =
            "Its access keys. Sessions that were taken out with them live on: only a deny on the user stops those.";
        numbered(draft, at, what, [named("list-access-keys")].into_iter().chain(keys));
        let what = "Its password. It cannot be had back: the user gets a new one afterwards.";
        numbered(draft, at + 1, what, [named("delete-login-profile")]);
        at += 2;
    }
    if !incident.functions.is_empty() {
        let functions = incident.functions.iter().map(stopped);
        numbered(draft, at, "The functions that run as it, where no step above says that they are stopped.", functions);
        at += 1;
    }
    numbered(
        draft,
        at,
        "Look whether it holds: this must say explicitDeny, and then the thief must be refused.",
        [Command::aws("iam simulate-principal-policy")
            .option("policy-source-arn", &arn_of(incident, partition(setting), kind, name))
            .option("action-names", "s3:ListAllMyBuckets")
            .words("--query 'EvaluationResults[].EvalDecision'")],
    );
}

fn numbered(draft: &mut Draft, at: u32, what: &str, commands: impl IntoIterator<Item = Command>) {
    draft.line("");
    draft.line(&format!("{at}. {what}"));
    for command in commands {
        if let Some(line) = command.line() {
            draft.command(&line);
        }
    }
}

fn stopped(function: &FunctionArn) -> Command {
    Command::aws("lambda put-function-concurrency")
        .option("region", function.region().as_str())
        .option("function-name", function.name())
        .words("--reserved-concurrent-executions 0")
}

/// The partition that our own deny policy is in.
fn partition(setting: &Setting) -> Partition {
    setting.deny_policy_arn.parse().map_or(Partition::Aws, |arn: PolicyArn| arn.partition())
}

/// The ARN that was read; without a path where it never was.
fn arn_of(incident: &Incident, partition: Partition, kind: &str, name: &str) -> String {
    let principal = &incident.principal;
    let pinned = principal.arn.as_deref().and_then(|arn| firebreak_model::principal::Principal::from_arn(arn).ok());
    match pinned.and_then(|read| read.arn) {
        Some(arn) => arn,
        None => format!("arn:{partition}:iam::{}:{kind}/{name}", incident.account),
    }
}
