//! An administrator whom nobody contains takes Firebreak's parts away, one after the other; there is no organisation.

use anyhow::{Context as _, Result};
use firebreak_model::action::FunctionName;
use firebreak_model::ledger::IncidentState;
use firebreak_model::tamper::Nature;
use serde_json::json;

use super::{House, Playing, Scenario};
use crate::adversary::moves::Move;
use crate::adversary::{Adversary, Greed};
use crate::aws::Aws;
use crate::check::judged;
use crate::conditions::Conditions;
use crate::deploy::Stack;
use crate::narrator::Tone;
use crate::scene::random_hex;
use crate::stage::Stage;
use crate::theatre::TRAIL;
use crate::thief::Outcome;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "firebreak-blinded",
    summary: "an administrator disables rule, permission, responder, key, deny policy, pages and trail: each is noticed",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

/// What is done, by which call CloudTrail tells of it, and what the sweep says; the trail last.
const BLINDED: [(Move, &str, &str); 7] = [
    (Move::DisableRule, "events:DisableRule", "the rule `drill-findings` is not enabled"),
    (Move::RemovePermission, "lambda:RemovePermission", "may not invoke `quarantine-principal`"),
    (Move::StopResponder, "lambda:PutFunctionConcurrency", "the function `quarantine-principal` has concurrency 0"),
    (Move::DisableKey, "kms:DisableKey", "the key of the ledger's seals is `Disabled`"),
    (Move::EmptyDenyPolicy, "iam:CreatePolicyVersion", "somebody changed the deny policy"),
    (Move::Unsubscribe, "sns:Unsubscribe", "nobody is subscribed to the pages"),
    (Move::StopTrail, "cloudtrail:StopLogging", "no trail is logging"),
];

async fn play(stage: &mut Stage) -> Result<()> {
    let suffix = random_hex(6);
    stage.tell("", Tone::Dim, "setting the scene: a session of an administrator's role, events at once");
    let adversary = Adversary::set_up(stage, &suffix, Greed::Alone).await?;
    let aws = stage.aws.clone();
    let events = Conditions { cloudtrail_delay: Some(std::time::Duration::ZERO), ..Conditions::default() };
    for (which, call, missing) in BLINDED {
        let before = Parts::look(&aws, &stage.stack).await?;
        events.set(&aws.endpoint).await?;
        if which == Move::StopTrail {
            // The account's own trail: with any other, events go on.
            aws.cloudtrail.stop_logging().name(TRAIL).send().await?;
        }
        let outcome = adversary.attempt(which).await?;
        let done = outcome == Outcome::Succeeded;
        stage.check(judged(which.name(), "succeeded: nothing forbids it", outcome.shown(), done));
        let told = |book: &crate::ledger::Book| {
            book.tampers.iter().any(|t| {
                let by_call = t.call.as_ref().is_some_and(|seen| seen.name == call);
                t.nature == Nature::OwnPart && by_call && format!("{:?}", t.actor).contains(&suffix)
            })
        };
        stage.until(&format!("that somebody {} is on record, and who", which.name()), |book, _| told(book)).await?;
        Conditions::default().set(&aws.endpoint).await?;
        let said = sweep(stage).await?;
        let found = said.contains(missing);
        stage.check(judged(&format!("the sweep, after somebody {}", which.name()), missing, said, found));
        before.put_right(&aws, &stage.stack, &adversary, which).await?;
        let said = sweep(stage).await?;
        let whole = said.contains("all parts are there");
        stage.check(judged(&format!("once put right what somebody who {}", which.name()), "all is there", said, whole));
    }
    // The table's own policy keeps out whoever is none of ours, whatever IAM allows them.
    let outcome = adversary.attempt(Move::ForgeRecord).await?;
    let refused = matches!(outcome, Outcome::Denied(_));
    stage.check(judged("a forged record", "denied", outcome.shown(), refused));
    let id = adversary.target().incident.clone();
    let asked = |book: &crate::ledger::Book| {
        book.incident(&id).is_some_and(|incident| incident.state == IncidentState::AwaitingApproval)
    };
    let book = stage.until("a person is asked about whoever did it", |book, _| asked(book)).await?;
    let steps = book.steps_of(&id).len();
    stage.check(judged("steps against them unasked", "0", steps.to_string(), steps == 0));
    aws.cloudtrail.delete_trail().name(&adversary.target().trail).send().await?;
    Ok(())
}

async fn sweep(stage: &mut Stage) -> Result<String> {
    let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event", "reason": "the guard's schedule"});
    let answer = stage.invoke(FunctionName::GuardContainment, &tick).await?;
    Ok(answer.text("message").to_owned())
}

/// What the operator needs to put a part right.
struct Parts {
    /// Of the statement that lets the rule invoke: its id and the rule.
    permission: (String, String),
    /// Protocol and endpoint of the responders.
    subscription: (String, String),
}

impl Parts {
    async fn look(aws: &Aws, stack: &Stack) -> Result<Self> {
        let function = stack.function(FunctionName::QuarantinePrincipal);
        let policy = aws.lambda.get_policy().function_name(function).send().await?.policy.unwrap_or_default();
        let policy: serde_json::Value = serde_json::from_str(&policy)?;
        let text = |path: &str| policy.pointer(path).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let permission = (text("/Statement/0/Sid"), text("/Statement/0/Condition/ArnLike/AWS:SourceArn"));
        let found = aws.sns.list_subscriptions_by_topic().topic_arn(stack.output("PagesTopicArn")?).send().await?;
        let first = found.subscriptions().first().context("nobody is subscribed")?;
        let subscription =
            (first.protocol().unwrap_or_default().to_owned(), first.endpoint().unwrap_or_default().to_owned());
        Ok(Self { permission, subscription })
    }

    async fn put_right(&self, aws: &Aws, stack: &Stack, adversary: &Adversary, which: Move) -> Result<()> {
        let function = stack.function(FunctionName::QuarantinePrincipal);
        match which {
            Move::DisableRule => {
                aws.events.enable_rule().name(adversary.target().rule()).send().await?;
            }
            Move::RemovePermission => {
                let (sid, source) = &self.permission;
                let add = aws.lambda.add_permission().function_name(function).statement_id(sid);
                let add = add.action("lambda:InvokeFunction").principal("events.amazonaws.com");
                add.source_arn(source).send().await?;
            }
            Move::StopResponder => {
                aws.lambda.delete_function_concurrency().function_name(function).send().await?;
            }
            Move::DisableKey => {
                aws.kms.enable_key().key_id(stack.output("SealKeyArn")?).send().await?;
            }
            Move::EmptyDenyPolicy => {
                let arn = stack.output("DenyPolicyArn")?;
                let versions = aws.iam.list_policy_versions().policy_arn(arn).send().await?;
                let emptied = versions.versions().iter().find(|version| version.is_default_version());
                let emptied = emptied.and_then(|version| version.version_id()).context("no default version")?;
                let whole = firebreak_model::policy::deny_everything().to_string();
                let put = aws.iam.create_policy_version().policy_arn(arn).policy_document(whole);
                put.set_as_default(true).send().await?;
                aws.iam.delete_policy_version().policy_arn(arn).version_id(emptied).send().await?;
            }
            Move::Unsubscribe => {
                let (protocol, endpoint) = &self.subscription;
                let again = aws.sns.subscribe().topic_arn(stack.output("PagesTopicArn")?).protocol(protocol);
                again.endpoint(endpoint).send().await?;
            }
            _ => {
                aws.cloudtrail.start_logging().name(TRAIL).send().await?;
            }
        }
        Ok(())
    }
}
