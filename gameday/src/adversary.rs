//! The adversary: a thief with the stolen session of an administrator's role, who pushes back.
//!
//! It looks every half second at what holds it, as IAM shows it at once, and strips that while what it wrote itself is
//! still in force; it makes itself identities that outlive the session, and goes on with each, all at once, each freeing
//! itself, the stolen role and one of the others. A bout is played under [`Conditions`] and ends when nothing that it
//! holds has achieved anything for a while, or after the longest that a bout may take.

mod minting;
pub mod moves;
mod round;
pub mod score;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use firebreak_model::action::FunctionName;
use firebreak_model::finding::DRILL_PATH;
use firebreak_model::ids::IncidentId;
use firebreak_model::ladder;
use firebreak_model::principal::Principal;
use firebreak_model::watch::Standing;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use self::moves::{Made, Move, Target, Whose};
use self::round::{Played, Task, play};
use self::score::{Attempt, CHAINED, SESSION, Score};
use crate::acts;
use crate::aws::{ACCOUNT, Aws};
use crate::conditions::Conditions;
use crate::findings::{self, RoleSession};
use crate::ledger::Book;
use crate::narrator::Tone;
use crate::scene::{Role, Victim};
use crate::stage::{PATIENCE, Stage};
use crate::thief::{Outcome, outcome};

/// How long what is to be settled waits for the next sweep.
const SWEEP: Duration = Duration::from_secs(10);

/// Between two looks of the adversary.
const POLL: Duration = Duration::from_millis(500);

/// How long nothing may be achieved, beyond both delays, before the containment counts as holding.
const PROOF: Duration = Duration::from_secs(4);

/// So many rounds of the adversary, at the least, must achieve nothing: a slow machine makes fewer in the same time.
const QUIET_ROUNDS: usize = 8;

/// The longest that a bout takes: so many times both delays, and this. Who has not won by then has lost.
const LONGEST: (u32, Duration) = (20, Duration::from_mins(1));

/// Once the guard is stopped nobody puts anything back: what is the thief's after that stays so until a person comes.
const LONGEST_BLINDED: (u32, Duration) = (5, Duration::from_secs(20));

/// So many users a thief makes at the most: more than the circuit breaker lets through.
pub const MOST_USERS: usize = 12;

/// So many of them in a round, by each that it is; and so many by the stolen session, so that some are others' work.
const AT_ONCE: usize = 3;
const BY_ITSELF: usize = 9;

/// What the adversary goes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Greed {
    /// It fights for its session alone.
    Alone,
    /// It also makes itself other identities, and goes on with each.
    Minting,
    /// It has filled the quota of attached policies beforehand, and fights for its session.
    Filling,
    /// It deletes its role and makes it again under its name, and goes on as that.
    Recreating,
    /// It stops the guard and what wakes it, and fights for its session.
    Blinding,
}

impl Greed {
    /// In a word.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Alone => "strips",
            Self::Minting => "mints",
            Self::Filling => "fills",
            Self::Recreating => "recreates",
            Self::Blinding => "blinds",
        }
    }
}

/// Somebody that the adversary is.
#[derive(Debug, Clone)]
struct Identity {
    name: String,
    whose: Whose,
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
    users: usize,
    named: usize,
    rounds: usize,
    /// Whose incident the chained session is looked for under.
    chained_by: Option<Whose>,
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
        let neighbour = format!("clerk-{suffix}");
        aws.iam.create_user().user_name(&neighbour).path(DRILL_PATH).send().await?;
        let trail = format!("trail-{suffix}");
        aws.cloudtrail.create_trail().name(&trail).s3_bucket_name(&victim.goods.bucket).send().await?;
        aws.cloudtrail.start_logging().name(&trail).send().await?;
        if greed == Greed::Filling {
            fill(aws, &victim.role, suffix).await?;
        }
        let stolen = victim.role.steal_session(aws, &victim.function).await?;
        let access_key = stolen.access_key_id().to_owned();
        let session = Identity { name: SESSION.to_owned(), whose: Whose::Stolen, aws: aws.as_identity(stolen) };
        let incident = victim.role.incident()?;
        let (stack, suffix) = (stage.stack.clone(), suffix.to_owned());
        let target = Target { victim, other, neighbour, stack, incident, trail, suffix };
        let identities = vec![session];
        Ok(Self {
            target,
            identities,
            access_key,
            attempts: Vec::new(),
            greed,
            users: 0,
            named: 0,
            rounds: 0,
            chained_by: None,
        })
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
        let delays = conditions.iam_delay + conditions.cloudtrail_delay.unwrap_or_default();
        let proof = delays + PROOF;
        let (times, more) = if self.greed == Greed::Blinding { LONGEST_BLINDED } else { LONGEST };
        let longest = delays * times + more;
        let began = Instant::now();
        let (mut last, mut quiet) = (Instant::now(), 0);
        let mut denied = None;
        let mut held = false;
        while began.elapsed() < longest && !held {
            // The thief waits for nobody: once it knows that it is denied, what the ledger says is looked at now and then.
            if denied.is_none() || self.rounds.is_multiple_of(4) {
                let book = stage.look().await?;
                denied = denied.or_else(|| self.denied_at(&book));
            }
            let before = self.attempts.len();
            self.round(stage, denied.is_some()).await?;
            let made = self.attempts.get(before..).unwrap_or_default();
            // What was chained is denied by another search, and scored by itself.
            if denied.is_none() || made.iter().any(|attempt| attempt.went_through && attempt.who != CHAINED) {
                (last, quiet) = (Instant::now(), 0);
            } else {
                quiet += 1;
            }
            held = last.elapsed() > proof && quiet >= QUIET_ROUNDS;
            tokio::time::sleep(POLL).await;
        }
        let mut score = Score::under(conditions, self.greed, POLL);
        score.held = held;
        score.rounds = self.rounds;
        score.count(sent, denied, &self.attempts);
        let book = stage.look().await?;
        score.made = self.identities.len() - 1;
        score.chained = self.chained_by.is_some();
        score.asked_about = self.waiting(&book)?;
        if held {
            self.search_again(stage).await?;
            score.chained_refused_ms = self.until_chained_is_out(sent).await?;
            // A guard that was stopped calls nothing settled.
            if self.greed != Greed::Blinding {
                score.settled_ms = self.until_settled(stage, sent).await?;
            }
        }
        score.still_at_work = self.still_at_work().await?;
        let tone = if held { Tone::Good } else { Tone::Bad };
        stage.tell("the bout", tone, &score.shown());
        Ok(score)
    }

    /// When the deny was read back for the first time.
    fn denied_at(&self, book: &Book) -> Option<Timestamp> {
        let steps = book.steps_of(&self.target.incident);
        steps.iter().filter(|step| ladder::top(step.action).is_some()).find_map(|step| step.verified_at)
    }

    /// Whom it made and nobody has contained: a person is asked, or nothing is on record.
    fn waiting(&self, book: &Book) -> Result<Vec<String>> {
        let mut waiting = Vec::new();
        for identity in &self.identities {
            let Some(id) = self.incident_of(&identity.whose)? else { continue };
            let state = book.incident(&id).map_or("nothing on record", |incident| incident.state.as_str());
            if state != "ordered" {
                waiting.push(format!("{}: {state}", identity.name));
            }
        }
        Ok(waiting)
    }

    fn incident_of(&self, whose: &Whose) -> Result<Option<IncidentId>> {
        let arn = match whose {
            Whose::Minted(user) => format!("arn:aws:iam::{ACCOUNT}:user{DRILL_PATH}{user}"),
            Whose::MintedRole => format!("arn:aws:iam::{ACCOUNT}:role{DRILL_PATH}{}", self.target.minted_role()),
            Whose::Stolen | Whose::MadeAgain | Whose::Chained => return Ok(None),
        };
        Ok(Some(Principal::from_arn(&arn)?.incident_id()))
    }

    /// What every identity does, all at once.
    async fn round(&mut self, stage: &mut Stage, provoked: bool) -> Result<()> {
        self.rounds += 1;
        let mut tasks: Vec<Task> = Vec::new();
        for (number, identity) in self.identities.iter().enumerate() {
            let greedy = provoked && self.greed == Greed::Minting && identity.whose != Whose::Chained;
            let most = if identity.whose == Whose::Stolen { BY_ITSELF } else { MOST_USERS };
            let left = most.saturating_sub(self.users + tasks.iter().map(|task| task.mints.len()).sum::<usize>());
            let many = if greedy { AT_ONCE.min(left) } else { 0 };
            let mints: Vec<String> = (self.named..self.named + many).map(|number| self.target.user(number)).collect();
            self.named += many;
            let other = self.identities.get((number + self.rounds) % self.identities.len());
            let peer = other.map(|other| other.whose.clone()).filter(|peer| *peer != identity.whose);
            tasks.push(Task { identity: identity.clone(), provoked, mints, peer, once: Vec::new() });
        }
        if provoked && self.greed == Greed::Minting {
            let achieved = |which: &Move| self.attempts.iter().any(|a| a.which == *which && a.went_through);
            let once: Vec<Move> = Move::GREEDY.into_iter().filter(|which| !achieved(which)).collect();
            let alive = |who: &str| self.attempts.iter().rev().find(|a| a.who == who).is_some_and(|a| a.went_through);
            let first = tasks.iter().position(|task| alive(&task.identity.name)).unwrap_or(0);
            if let Some(task) = tasks.get_mut(first) {
                task.once = once;
            }
        }
        if provoked && self.greed == Greed::Blinding {
            let achieved = |which: &Move| self.attempts.iter().any(|a| a.which == *which && a.went_through);
            let left = || Move::AGAINST_THE_GUARD.into_iter().filter(|which| !achieved(which));
            tasks.iter_mut().take(1).for_each(|task| task.once.extend(left()));
        }
        let again = |a: &Attempt| a.which == Move::RecreateRole && a.went_through;
        if provoked && self.greed == Greed::Recreating && !self.attempts.iter().any(again) {
            tasks.iter_mut().take(1).for_each(|task| task.once.push(Move::RecreateRole));
        }
        let target = &self.target;
        let played = join_all(tasks.iter().map(|task| play(target, task))).await;
        let mut gained: Vec<(Whose, Credentials)> = Vec::new();
        for (task, played) in tasks.iter().zip(played) {
            for Played { which, made, at } in played? {
                self.users += usize::from(which == Move::MintUser && made.gained.is_some());
                if which == Move::ChainRole && made.gained.is_some() {
                    self.chained_by = Some(task.identity.whose.clone());
                }
                gained.extend(self.note(stage, &task.identity.name, which, made, at));
            }
        }
        self.assume_made(&mut gained).await;
        for (whose, credentials) in gained {
            let name = match &whose {
                Whose::Stolen => SESSION.to_owned(),
                Whose::Minted(user) => format!("the minted user {}", user.rsplit('-').next().unwrap_or_default()),
                Whose::MintedRole => "the minted role".to_owned(),
                Whose::Chained => CHAINED.to_owned(),
                Whose::MadeAgain => "the role made again".to_owned(),
            };
            self.identities.push(Identity { name, whose, aws: stage.aws.as_identity(credentials) });
        }
        Ok(())
    }

    /// Whoever can assumes the roles that were made: it takes a while until they can be.
    async fn assume_made(&self, gained: &mut Vec<(Whose, Credentials)>) {
        for (by, whose) in [(Move::MintRole, Whose::MintedRole), (Move::RecreateRole, Whose::MadeAgain)] {
            let is_made = self.attempts.iter().any(|a| a.which == by && a.went_through);
            if !is_made || self.identities.iter().any(|one| one.whose == whose) {
                continue;
            }
            for identity in &self.identities {
                let made = match whose {
                    Whose::MadeAgain => self.target.assume_again(&identity.aws).await,
                    _ => self.target.assume_minted(&identity.aws).await,
                };
                if let Some(found) = made.gained {
                    gained.push(found);
                    break;
                }
            }
        }
    }

    /// Notes an attempt; tells the first of its kind and outcome.
    fn note(
        &mut self,
        stage: &mut Stage,
        who: &str,
        which: Move,
        made: Made,
        at: Timestamp,
    ) -> Option<(Whose, Credentials)> {
        let went_through = made.outcome == Outcome::Succeeded;
        let is_new = !self.attempts.iter().any(|a| a.who == who && a.which == which && a.went_through == went_through);
        if is_new {
            let tone = if went_through { Tone::Bad } else { Tone::Good };
            stage.tell(who, tone, &format!("{}: {}", which.name(), made.outcome.shown()));
        }
        self.attempts.push(Attempt { at, who: who.to_owned(), which, went_through });
        made.gained
    }

    /// The search for what was chained comes again, as it does every five minutes.
    async fn search_again(&self, stage: &mut Stage) -> Result<()> {
        let Some(by) = &self.chained_by else { return Ok(()) };
        let id = self.incident_of(by)?.unwrap_or_else(|| self.target.incident.clone());
        acts::search_again(stage, &id).await
    }

    /// When the chained session was first refused, where there is one.
    async fn until_chained_is_out(&self, sent: Timestamp) -> Result<Option<i64>> {
        let Some(chained) = self.identities.iter().find(|one| one.whose == Whose::Chained) else { return Ok(None) };
        let began = Instant::now();
        // One search at a time looks through every Region, for each of those that were made too.
        while began.elapsed() < PATIENCE {
            if self.target.make(&chained.aws, Move::Steal).await?.outcome.is_stopped() {
                let took = firebreak_shared::clock::now().duration_since(sent).as_millis();
                return Ok(i64::try_from(took).ok());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(None)
    }

    /// When the guard called it settled.
    async fn until_settled(&self, stage: &mut Stage, sent: Timestamp) -> Result<Option<i64>> {
        acts::search_again(stage, &self.target.incident).await?;
        let mut began = Instant::now();
        let longest = began + PATIENCE;
        loop {
            // A sweep of a busy machine may take all the patience there is: what it came to is still looked at.
            let last = Instant::now() >= longest;
            let book = stage.look().await?;
            let watch = book.watch(&self.target.incident);
            let settled = watch.filter(|watch| watch.standing == Standing::Settled);
            if let Some(at) = settled.and_then(|watch| watch.settled_at) {
                return Ok(i64::try_from(at.duration_since(sent).as_millis()).ok());
            }
            if last {
                if let Some(watch) = watch {
                    let found = watch.checks.last().map(|check| check.found.join("; ")).unwrap_or_default();
                    let calls: Vec<&str> = watch.calls.iter().map(|call| call.name.as_str()).collect();
                    let said = format!("{}: {found}; {:?}; calls {}", watch.standing, watch.opinion, calls.join(", "));
                    stage.tell("the guard", Tone::Bad, &said);
                }
                return Ok(None);
            }
            // What came back to the queue of re-checks waits long; the schedule looks every few minutes. A look before the
            // search for chained sessions is over settles nothing.
            let over = book.chain(&self.target.incident).is_some_and(|chain| chain.settled_at.is_some());
            if over && began.elapsed() > SWEEP {
                began = Instant::now();
                let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event", "reason": "the schedule"});
                stage.invoke(FunctionName::GuardContainment, &tick).await?;
            }
            tokio::time::sleep(POLL).await;
        }
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
    pub async fn clear_away(&self, aws: &Aws) {
        let administrator = "arn:aws:iam::aws:policy/AdministratorAccess";
        let deny = self.target.stack.output("DenyPolicyArn").unwrap_or_default();
        for number in 0..self.named.max(1) {
            let name = self.target.user(number);
            if let Ok(keys) = aws.iam.list_access_keys().user_name(&name).send().await {
                for key in keys.access_key_metadata().iter().filter_map(|key| key.access_key_id()) {
                    let _ = aws.iam.delete_access_key().user_name(&name).access_key_id(key).send().await;
                }
            }
            for arn in [administrator, deny] {
                let _ = aws.iam.detach_user_policy().user_name(&name).policy_arn(arn).send().await;
            }
            let _ = aws.iam.delete_user().user_name(&name).send().await;
        }
        let role = self.target.minted_role();
        for arn in [administrator, deny] {
            let _ = aws.iam.detach_role_policy().role_name(&role).policy_arn(arn).send().await;
        }
        let _ = aws.iam.delete_role().role_name(&role).send().await;
        self.target.clear_ways_in(aws).await;
        let _ = aws.cloudtrail.delete_trail().name(&self.target.trail).send().await;
    }
}

/// Attaches policies to a role until no more go on.
async fn fill(aws: &Aws, role: &Role, suffix: &str) -> Result<()> {
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]});
    for number in 0.. {
        let made = aws.iam.create_policy().policy_name(format!("filling-{suffix}-{number}"));
        let made = made.policy_document(document.to_string()).send().await?;
        let arn = made.policy().and_then(|policy| policy.arn()).context("the new policy has no ARN")?;
        match outcome(aws.iam.attach_role_policy().role_name(&role.name).policy_arn(arn).send().await) {
            Outcome::Succeeded if number < 50 => {}
            Outcome::Other(full) if full.starts_with("LimitExceeded") => return Ok(()),
            other => anyhow::bail!("the quota is not filled: {}", other.shown()),
        }
    }
    Ok(())
}
