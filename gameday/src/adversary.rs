//! The adversary: a thief with the stolen session of an administrator's role, who pushes back.
//!
//! It looks every half second at what holds it, as IAM shows it at once, and strips that while what it wrote itself is
//! still in force; it makes itself identities that outlive the session, and goes on with each. A bout is played under
//! [`Conditions`] and ends when the containment has held for a while, or after the longest that a bout may take.

pub mod moves;
pub mod score;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use firebreak_model::action::ActionId;
use firebreak_model::finding::DRILL_PATH;
use jiff::Timestamp;
use serde_json::json;

use self::moves::{Made, Move, Target};
use self::score::{Attempt, SESSION, Score};
use crate::acts::REVOCATION;
use crate::aws::Aws;
use crate::conditions::Conditions;
use crate::findings::{self, RoleSession};
use crate::ledger::Book;
use crate::narrator::Tone;
use crate::scene::{Role, Victim};
use crate::stage::Stage;
use crate::thief::Outcome;

/// Between two looks of the adversary.
const POLL: Duration = Duration::from_millis(500);

/// The longest that a bout takes.
const BOUT: Duration = Duration::from_mins(1);

/// How long nothing may be achieved, beyond both delays, before the containment counts as holding.
const PROOF: Duration = Duration::from_secs(4);

/// What the adversary goes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greed {
    /// It fights for its session alone.
    Alone,
    /// It also makes itself other identities, and goes on with each.
    Minting,
}

/// Somebody that the adversary is.
#[derive(Debug)]
struct Identity {
    name: String,
    aws: Aws,
}

/// The adversary in one bout.
#[derive(Debug)]
pub struct Adversary {
    target: Target,
    identities: Vec<Identity>,
    access_key: String,
    attempts: Vec<Attempt>,
    greed: Greed,
    minted: bool,
}

impl Adversary {
    /// Sets the scene in fair weather: a function whose role is an administrator's, another role, a trail that logs.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn set_up(stage: &Stage, suffix: &str, greed: Greed) -> Result<Self> {
        let aws = &stage.aws;
        let victim = Victim::set_up(aws, suffix, "").await?;
        let all = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
        let put = aws.iam.put_role_policy().role_name(&victim.role.name).policy_name("administrator");
        put.policy_document(all.to_string()).send().await?;
        let other = Role::create(aws, &format!("batch-role-{suffix}"), DRILL_PATH).await?;
        let trail = format!("trail-{suffix}");
        aws.cloudtrail.create_trail().name(&trail).s3_bucket_name(&victim.goods.bucket).send().await?;
        aws.cloudtrail.start_logging().name(&trail).send().await?;
        let stolen = victim.role.steal_session(aws, &victim.function).await?;
        let access_key = stolen.access_key_id().to_owned();
        let identities = vec![Identity { name: SESSION.to_owned(), aws: aws.as_identity(stolen) }];
        let incident = victim.role.incident()?;
        let (stack, suffix) = (stage.stack.clone(), suffix.to_owned());
        let target = Target { victim, other, stack, incident, trail, suffix };
        Ok(Self { target, identities, access_key, attempts: Vec::new(), greed, minted: false })
    }

    /// What it is after.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Makes one move with the stolen session.
    ///
    /// # Errors
    /// Where a request cannot even be built.
    pub async fn attempt(&self, which: Move) -> Result<Outcome> {
        let session = self.identities.first().context("the stolen session is gone")?;
        Ok(self.target.make(&session.aws, which).await?.outcome)
    }

    /// Plays a bout, and puts fair weather back.
    ///
    /// # Errors
    /// Where AWS does not answer.
    pub async fn fight(mut self, stage: &mut Stage, conditions: &Conditions) -> Result<Score> {
        conditions.set(&stage.aws.endpoint).await?;
        let fought = self.bout(stage, conditions).await;
        Conditions::default().set(&stage.aws.endpoint).await?;
        self.clear_away(&stage.aws).await;
        fought
    }

    async fn bout(&mut self, stage: &mut Stage, conditions: &Conditions) -> Result<Score> {
        let role = &self.target.victim.role;
        let session = RoleSession {
            role: &role.name,
            role_id: &role.id,
            session: &self.target.victim.function,
            access_key: &self.access_key,
        };
        let sent = stage.send_finding(&findings::access_key_of_role(&stage.aws, &session)?).await?;
        let proof = conditions.iam_delay + conditions.cloudtrail_delay.unwrap_or_default() + PROOF;
        let began = Instant::now();
        let mut last = Instant::now();
        let mut denied = None;
        let mut held = false;
        while began.elapsed() < BOUT && !held {
            let book = stage.look().await?;
            denied = denied.or_else(|| self.denied_at(&book));
            let before = self.attempts.len();
            self.round(stage, denied.is_some()).await?;
            let made = self.attempts.get(before..).unwrap_or_default();
            // What it does in other names is counted too, and is the matter of their own containment.
            let achieved = |attempt: &Attempt| {
                attempt.went_through && (attempt.who == SESSION || Move::FREEING.contains(&attempt.which))
            };
            if denied.is_none() || made.iter().any(achieved) {
                last = Instant::now();
            }
            held = last.elapsed() > proof;
            tokio::time::sleep(POLL).await;
        }
        let mut score = Score::under(conditions, self.greed, POLL);
        score.held = held;
        score.count(sent, denied, &self.attempts);
        score.still_at_work = self.still_at_work().await?;
        let tone = if held { Tone::Good } else { Tone::Bad };
        stage.tell("the bout", tone, &score.shown());
        Ok(score)
    }

    /// When the deny was read back for the first time.
    fn denied_at(&self, book: &Book) -> Option<Timestamp> {
        let steps = book.steps_of(&self.target.incident);
        steps.iter().filter(|step| step.action == ActionId::QuarantineRole).find_map(|step| step.verified_at)
    }

    /// Every identity looks, strips what it sees, and takes what it can.
    async fn round(&mut self, stage: &mut Stage, provoked: bool) -> Result<()> {
        let mut gained = Vec::new();
        for number in 0..self.identities.len() {
            let Some(identity) = self.identities.get(number) else { break };
            let (name, aws) = (identity.name.clone(), identity.aws.clone());
            let mut moves = vec![Move::Steal];
            if provoked {
                moves.extend(self.what_holds_it(&aws).await);
            }
            if provoked && self.greed == Greed::Minting {
                let achieved = |which: &Move| self.attempts.iter().any(|a| a.which == *which && a.went_through);
                moves.extend(Move::GREEDY.iter().filter(|which| !achieved(which)));
            }
            for which in moves {
                let made = self.target.make(&aws, which).await?;
                gained.extend(self.note(stage, &name, which, made));
            }
        }
        if provoked && !self.minted && self.attempts.iter().any(|a| a.which == Move::MintRole && a.went_through) {
            for number in 0..self.identities.len() {
                let Some(identity) = self.identities.get(number) else { break };
                if let Some(found) = self.target.assume_minted(&identity.aws).await.gained {
                    self.minted = true;
                    gained.push(found);
                    break;
                }
            }
        }
        for (name, credentials) in gained {
            let aws = stage.aws.as_identity(credentials);
            self.identities.push(Identity { name, aws });
        }
        Ok(())
    }

    /// What IAM and Lambda show of the containment, as moves against it. Who may not look strikes blindly.
    async fn what_holds_it(&self, aws: &Aws) -> Vec<Move> {
        let role = &self.target.victim.role.name;
        let Ok(attached) = aws.iam.list_attached_role_policies().role_name(role).send().await else {
            return vec![Move::DetachDeny];
        };
        let mut moves = Vec::new();
        let deny = self.target.stack.output("DenyPolicyArn").ok();
        if attached.attached_policies().iter().any(|policy| policy.policy_arn() == deny) {
            moves.push(Move::DetachDeny);
        }
        if let Ok(answer) = aws.iam.get_role().role_name(role).send().await {
            let boundary = answer.role().and_then(|role| role.permissions_boundary());
            if boundary.is_some_and(|b| b.permissions_boundary_arn().is_some_and(|arn| arn.ends_with("/AWSDenyAll"))) {
                moves.extend([Move::ReplaceBoundary, Move::DropBoundary]);
            }
        }
        if let Ok(inline) = aws.iam.list_role_policies().role_name(role).send().await
            && inline.policy_names().iter().any(|name| name == REVOCATION)
        {
            moves.push(Move::DropRevocation);
        }
        let function = &self.target.victim.function;
        if let Ok(answer) = aws.lambda.get_function_concurrency().function_name(function).send().await
            && answer.reserved_concurrent_executions() == Some(0)
        {
            moves.push(Move::FreeFunction);
        }
        moves
    }

    /// Notes an attempt; tells the first of its kind and outcome.
    fn note(
        &mut self,
        stage: &mut Stage,
        who: &str,
        which: Move,
        made: Made,
    ) -> Option<(String, aws_credential_types::Credentials)> {
        let went_through = made.outcome == Outcome::Succeeded;
        let is_new = !self.attempts.iter().any(|a| a.who == who && a.which == which && a.went_through == went_through);
        if is_new {
            let tone = if went_through { Tone::Bad } else { Tone::Good };
            stage.tell(who, tone, &format!("{}: {}", which.name(), made.outcome.shown()));
        }
        let at = firebreak_shared::clock::now();
        self.attempts.push(Attempt { at, who: who.to_owned(), which, went_through });
        made.gained
    }

    async fn still_at_work(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for identity in &self.identities {
            if self.target.make(&identity.aws, Move::Steal).await?.outcome == Outcome::Succeeded {
                names.push(identity.name.clone());
            }
        }
        Ok(names)
    }

    /// Takes away what it made, as the operator: later scenarios find none of it. What is not there is no matter.
    async fn clear_away(&self, aws: &Aws) {
        let name = format!("minted-{}", self.target.suffix);
        let administrator = "arn:aws:iam::aws:policy/AdministratorAccess";
        if let Ok(keys) = aws.iam.list_access_keys().user_name(&name).send().await {
            for key in keys.access_key_metadata().iter().filter_map(|key| key.access_key_id()) {
                let _ = aws.iam.delete_access_key().user_name(&name).access_key_id(key).send().await;
            }
        }
        let _ = aws.iam.detach_user_policy().user_name(&name).policy_arn(administrator).send().await;
        let _ = aws.iam.detach_role_policy().role_name(&name).policy_arn(administrator).send().await;
        let _ = aws.iam.delete_user().user_name(&name).send().await;
        let _ = aws.iam.delete_role().role_name(&name).send().await;
        let _ = aws.cloudtrail.delete_trail().name(&self.target.trail).send().await;
    }
}
