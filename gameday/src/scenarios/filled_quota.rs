//! A thief who may attach policies has filled the quota, so that no deny can be attached: the boundary holds instead.

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sdk_iam::error::ProvideErrorMetadata as _;
use aws_sdk_iam::types::PolicyScopeType;
use firebreak_model::action::ActionId;
use firebreak_model::ladder::Refusal;
use firebreak_model::ledger::StepState;
use serde_json::json;

use super::{House, Playing, Scenario};
use crate::acts::{self, Left};
use crate::aws::Aws;
use crate::check::{equal, judged, listed};
use crate::findings::{self, RoleSession};
use crate::narrator::Tone;
use crate::scene::{Role, Victim};
use crate::stage::Stage;
use crate::thief::Thief;
use crate::world::World;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "filled-quota",
    summary: "the thief has filled the quota of attached policies: a boundary denies instead, and is put back after",
    house: House::Enforcing,
    play: |stage| -> Playing<'_> { Box::pin(play(stage)) },
};

/// The policy of AWS's own that denies everything.
const DENY_ALL: &str = "arn:aws:iam::aws:policy/AWSDenyAll";

async fn play(stage: &mut Stage) -> Result<()> {
    let (aws, suffix) = (stage.aws.clone(), stage.suffix.clone());
    stage.tell(
        "",
        Tone::Dim,
        "setting the scene: a function whose role has a boundary, and may attach policies to itself",
    );
    let victim = Victim::set_up(&aws, &suffix, "").await?;
    let role = &victim.role;
    let id = role.incident()?;
    let principal = format!("role/{}", role.name);
    let boundary = bound(&aws, role, &suffix).await?;
    let stolen = role.steal_session(&aws, &victim.function).await?;
    let thief = Thief::with(&aws, "the thief", stolen.clone(), &victim.goods);
    let attached = fill_the_quota(&aws, role, stolen).await?;
    stage.tell(&thief.name, Tone::Bad, &format!("has filled the quota of {principal} with {attached} policies"));
    let before = World::look(&aws).await?;

    stage.thief_works(&thief).await;
    let session =
        RoleSession { role: &role.name, role_id: &role.id, session: &victim.function, access_key: &thief.access_key };
    let sent = stage.send_finding(&findings::access_key_of_role(&aws, &session)?).await?;
    stage.thief_is_stopped(&thief, sent).await?;
    let book = stage
        .until("the boundary holds, and every other step of the plan", |book, _| {
            let steps = book.steps_of(&id);
            let applied = steps.iter().filter(|step| step.state == StepState::Applied);
            let bound = applied.clone().any(|step| step.action == ActionId::BoundRole);
            bound && book.incident(&id).is_some_and(|incident| applied.count() == incident.plan.steps.len())
        })
        .await?;
    let steps = book.steps_of(&id);
    let of = |action: ActionId| steps.iter().find(|step| step.action == action);
    let top = of(ActionId::QuarantineRole);
    let ended = top.map(|step| format!("{}, {}", step.state, or(step.refused.map(Refusal::as_str))));
    stage.check(equal("the attached deny", "failed, quota", or(ended.as_deref())));
    let filling = top.map_or(0, |step| step.filled_by.len());
    stage.check(equal("policies on record that fill the quota", &attached.to_string(), &filling.to_string()));
    let recorded = of(ActionId::BoundRole).and_then(|step| step.prior.clone());
    let expected = json!(boundary).to_string();
    stage.check(equal("the boundary on record from before", &expected, or(recorded.as_deref())));
    let world = World::look(&aws).await?;
    let now = world.thing(&principal).unwrap_or("gone");
    stage.check(judged("the boundary of the role", DENY_ALL, now, now.contains(DENY_ALL)));
    acts::measure_the_deny(stage, &id, sent).await?;
    acts::function_is_isolated(stage, &victim).await?;
    let undo = format!("aws iam put-role-permissions-boundary --role-name '{}'", role.name);
    acts::responder_is_paged(stage, &id, &["contained: role/", "held by bound-role in its place", &undo]).await?;
    let alarming = |page: &&crate::pages::Page| {
        page.body.contains(id.as_str()) && ["step failed", "CANNOT", "partial"].iter().any(|w| page.subject.contains(w))
    };
    let alarming: Vec<String> = stage.pages.iter().filter(alarming).map(|page| page.subject.clone()).collect();
    stage.check(equal("pages that say it is not contained", "none", &listed(&alarming)));

    acts::release(stage, &id, &principal, &before, &Left::default()).await?;
    super::function_works_again(stage, &victim).await?;
    stage.thief_stays_out(&thief, "after the release").await;
    stage.nothing_failed().await
}

/// Gives the role a boundary that limits it to nothing less, and the right to attach policies to itself.
async fn bound(aws: &Aws, role: &Role, suffix: &str) -> Result<String> {
    let document = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let create = aws.iam.create_policy().policy_name(format!("team-boundary-{suffix}"));
    let policy = create.policy_document(document.to_string()).send().await?.policy.context("no policy")?;
    let arn = policy.arn.context("the new policy has no ARN")?;
    aws.iam.put_role_permissions_boundary().role_name(&role.name).permissions_boundary(&arn).send().await?;
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iam:AttachRolePolicy", "Resource": role.arn}]});
    let put = aws.iam.put_role_policy().role_name(&role.name).policy_name("may-attach");
    put.policy_document(document.to_string()).send().await?;
    Ok(arn)
}

/// Attaches, with stolen credentials, what AWS keeps for everybody, until the quota is full.
async fn fill_the_quota(aws: &Aws, role: &Role, stolen: Credentials) -> Result<usize> {
    let thief = aws.as_identity(stolen);
    let policies = thief.iam.list_policies().scope(PolicyScopeType::Aws).send().await?;
    let arns = policies.policies().iter().filter_map(|policy| policy.arn()).filter(|arn| *arn != DENY_ALL);
    let mut attached = 0;
    for arn in arns {
        match thief.iam.attach_role_policy().role_name(&role.name).policy_arn(arn).send().await {
            Ok(_) => attached += 1,
            Err(error) if error.as_service_error().and_then(|e| e.code()) == Some("LimitExceeded") => {
                return Ok(attached);
            }
            Err(error) => return Err(error).context("the thief cannot attach a policy"),
        }
    }
    anyhow::bail!("{attached} policies do not fill the quota")
}

fn or(value: Option<&str>) -> &str {
    value.unwrap_or("nothing")
}
