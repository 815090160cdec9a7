//! What one of the adversary's identities does in a round.

use anyhow::Result;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::Identity;
use super::moves::{Made, Move, Target, Whose};
use crate::acts::REVOCATION;
use crate::aws::Aws;
use crate::thief::Outcome;

/// What an identity is to do in a round.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) identity: Identity,
    pub(super) provoked: bool,
    /// The users that it makes, if it can.
    pub(super) mints: Vec<String>,
    /// One of the others, whom it frees.
    pub(super) peer: Option<Whose>,
    /// What is done once.
    pub(super) once: Vec<Move>,
}

/// One move, as it ended.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) which: Move,
    pub(super) made: Made,
    pub(super) at: Timestamp,
}

/// What one identity does in a round: it looks, strips what it sees, and takes what it can.
pub(super) async fn play(target: &Target, task: &Task) -> Result<Vec<Played>> {
    let Task { identity, provoked, mints, peer, once } = task;
    let aws = &identity.aws;
    let mut played = Vec::new();
    let mut note = |which: Move, made: Made| played.push(Played { which, made, at: firebreak_shared::clock::now() });
    let stolen = target.make(aws, Move::Steal).await?;
    let alive = stolen.outcome == Outcome::Succeeded;
    note(Move::Steal, stolen);
    if !provoked || identity.whose == Whose::Chained {
        return Ok(played);
    }
    // First what outlives it.
    if alive {
        for made in join_all(mints.iter().map(|name| target.mint_user(aws, name))).await {
            note(Move::MintUser, made);
        }
    }
    let mut moves = Box::pin(what_holds_the_role(target, aws)).await;
    moves.extend(once);
    for which in moves {
        note(which, target.make(aws, which).await?);
    }
    for whose in [Some(&identity.whose), peer.as_ref()].into_iter().flatten() {
        match whose {
            Whose::Minted(user) => {
                let (freed, woken) = tokio::join!(target.free_user(aws, user), target.wake_keys(aws, user));
                for (which, done) in [(Move::FreeUser, freed), (Move::WakeKey, woken)] {
                    if let Some(done) = done {
                        note(which, done.into());
                    }
                }
            }
            Whose::MintedRole => {
                let freed = target.free_minted_role(aws).await;
                if let Some(done) = freed {
                    note(Move::FreeMintedRole, done.into());
                }
            }
            Whose::Stolen | Whose::MadeAgain | Whose::Chained => {}
        }
    }
    Ok(played)
}

/// What IAM and Lambda show of the containment of the stolen role, as moves against it. Who may not look strikes blindly.
async fn what_holds_the_role(target: &Target, aws: &Aws) -> Vec<Move> {
    let (role, function) = (&target.victim.role.name, &target.victim.function);
    let (attached, shown, inline, concurrency) = tokio::join!(
        aws.iam.list_attached_role_policies().role_name(role).send(),
        aws.iam.get_role().role_name(role).send(),
        aws.iam.list_role_policies().role_name(role).send(),
        aws.lambda.get_function_concurrency().function_name(function).send(),
    );
    let Ok(attached) = attached else { return vec![Move::DetachDeny] };
    let mut moves = Vec::new();
    let deny = target.stack.output("DenyPolicyArn").ok();
    if attached.attached_policies().iter().any(|policy| policy.policy_arn() == deny) {
        moves.push(Move::DetachDeny);
    }
    if let Ok(answer) = shown {
        let boundary = answer.role().and_then(|role| role.permissions_boundary());
        if boundary.is_some_and(|b| b.permissions_boundary_arn().is_some_and(|arn| arn.ends_with("/AWSDenyAll"))) {
            moves.extend([Move::ReplaceBoundary, Move::DropBoundary]);
        }
    }
    if inline.is_ok_and(|inline| inline.policy_names().iter().any(|name| name == REVOCATION)) {
        moves.push(Move::DropRevocation);
    }
    if concurrency.is_ok_and(|answer| answer.reserved_concurrent_executions() == Some(0)) {
        moves.push(Move::FreeFunction);
    }
    moves
}
