//! The sessions that a thief made from stolen ones: looked for in CloudTrail, and denied one by one.
//!
//! CloudTrail is minutes late. So the order waits in a queue and comes again until CloudTrail is complete up to after the
//! last deny: nothing can be made any more by then. See `docs/decisions/0045-chains-are-followed-until-cloudtrail-is-complete.md`.

use std::collections::BTreeSet;

use firebreak_model::action::{ActionId, FunctionName};
use firebreak_model::chain::{Call, Chain, Link, Root};
use firebreak_model::finding::Source;
use firebreak_model::guard::{Rails, Veto};
use firebreak_model::ids::{RoleName, SessionId};
use firebreak_model::ledger::{ChainRecord, Incident, IncidentState, RevocationRecord, StepRecord, StepState};
use firebreak_model::plan::{Step, Target};
use firebreak_model::playbook::Protected;
use firebreak_model::principal::{Identity, Principal, PrincipalName};
use firebreak_model::revoked::{ends_sessions, is_quarantined, to_deny};
use firebreak_model::{SCHEMA, outcome};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::{Instrument, info_span, warn};

use super::{Revocation, in_an_hour, longest_session};
use crate::action::ActionError;
use crate::actions::RevokeChainedSessions;
use crate::clock;
use crate::executor;
use crate::failure::Failure;
use crate::identity;
use crate::queue::Next;
use crate::trace::{Past, Traced};

/// How long after a deny was read back a call may still go through, at the most: IAM propagates it. Where CloudTrail is not
/// that late, as in a game day, as long as that.
const PROPAGATION: SignedDuration = SignedDuration::from_mins(1);

/// How often a search's record is tried where another search writes it too: two run at once.
const TRIES: usize = 5;

/// CloudTrail's event history.
const HISTORY: SignedDuration = SignedDuration::from_hours(89 * 24);

impl Revocation {
    /// One look, as a message of the queue asks for it.
    pub(super) async fn on_message(&self, event: &Value) -> Result<Next, Failure> {
        let id = outcome::incident_id(event)
            .ok_or_else(|| Failure::Malformed("the event carries no incident id".to_owned()))?;
        // What is ordered before the guard rails have passed it is ordered again then, and looked for once.
        if outcome::orders_nothing(event) {
            return Ok(Next::Done);
        }
        let span = info_span!("trace", incident.id = %id);
        async {
            let Some(incident) = self.ledger.incident(&id).await? else {
                return Err(Failure::Malformed(format!("the ledger does not hold incident `{id}`")));
            };
            // A release ends the search: what was denied stays so until the sessions have ended.
            if !incident.is_in_force() || !ends_sessions(&incident) {
                return Ok(Next::Done);
            }
            self.chase(&incident).await
        }
        .instrument(span)
        .await
    }

    async fn chase(&self, incident: &Incident) -> Result<Next, Failure> {
        let asked_at = clock::now();
        let before = self.ledger.chain(incident).await?;
        let known = before.as_ref().map(|record| record.sessions.clone()).unwrap_or_default();
        let calls: &[Call] = match &incident.principal.name {
            PrincipalName::Role(_) => &[Call::AssumeRole],
            PrincipalName::User(_) => &[Call::AssumeRole, Call::GetFederationToken, Call::GetSessionToken],
        };
        let chain = Chain::of(root(incident), known.clone());
        let Traced { chain, regions, mut gaps, mut again } =
            self.tracer.follow(chain, calls, &past(incident, asked_at)).await;
        gaps.extend(chain.not_followed());
        let mut ended = Vec::new();
        let mut failure = None;
        for (role, links) in to_deny(incident, chain.links(), asked_at) {
            match self.deny(incident, role, &links, &known).await {
                Ok((record, transient)) => {
                    again |= transient;
                    ended.push(record);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let found = ChainRecord {
            schema: SCHEMA,
            incident_id: incident.incident_id.clone(),
            episode: incident.episode,
            sessions: chain.links().to_vec(),
            regions,
            gaps,
            rounds: 0,
            complete_to: asked_at.saturating_sub(self.trail_lag).unwrap_or(Timestamp::MIN),
            // As far as this search knows.
            settled_at: (!again && failure.is_none()).then_some(asked_at),
            updated_at: clock::now(),
        };
        let (record, barrier) = self.keep(incident, &found, before, &ended).await?;
        match failure {
            Some(failure) => Err(failure),
            None if record.settled_at.is_some() => Ok(Next::Done),
            None => Ok(Next::Again(format!(
                "CloudTrail is complete to {}, the last deny is of {barrier}",
                record.complete_to
            ))),
        }
    }

    /// Records what a search found, beside what another one may have recorded since `before` was read. It is settled where
    /// CloudTrail was complete up to after the last deny, whoever wrote that. Answers the record, and that time.
    pub(super) async fn keep(
        &self,
        incident: &Incident,
        found: &ChainRecord,
        mut before: Option<ChainRecord>,
        ended: &[StepRecord],
    ) -> Result<(ChainRecord, Timestamp), Failure> {
        for _ in 0..TRIES {
            let barrier = self.barrier(incident, ended).await?;
            let mut record = found.clone().beside(before.as_ref());
            record.settled_at = record.settled_at.filter(|_| record.complete_to > barrier);
            if self.ledger.record_chain(&record, before.as_ref()).await? {
                return Ok((record, barrier));
            }
            before = self.ledger.chain(incident).await?;
        }
        Err(Failure::Transient(format!("others record the search of `{}` all the time", incident.incident_id)))
    }

    /// The time after which nothing more can have been made: the last deny, and what it takes to be in force everywhere.
    async fn barrier(&self, incident: &Incident, chained: &[StepRecord]) -> Result<Timestamp, Failure> {
        let owners = [FunctionName::QuarantinePrincipal, FunctionName::RevokeSessions];
        let steps = self.ledger.steps(incident, owners).await?;
        let at = |step: &StepRecord| step.applied_at.or(step.verified_at).unwrap_or(step.updated_at);
        let last = steps.iter().chain(chained).map(at).max().unwrap_or(incident.ordered_since());
        let propagated = last.max(incident.ordered_since()).saturating_add(PROPAGATION.min(self.trail_lag));
        Ok(propagated.unwrap_or(Timestamp::MAX))
    }

    /// Denies the sessions of one role. Answers the step, and whether another try may go better.
    pub(super) async fn deny(
        &self,
        incident: &Incident,
        role: &RoleName,
        links: &[&Link],
        known: &[Link],
    ) -> Result<(StepRecord, bool), Failure> {
        let step = Step { action: ActionId::RevokeChainedSessions, target: Target::Role(role.clone()) };
        let identity = match identity::read(&self.iam, &PrincipalName::Role(role.clone())).await {
            Ok(identity) => identity,
            Err(ActionError::Gone { target }) => {
                return self.not_denied(incident, &step, StepState::Gone, format!("`{target}` does not exist")).await;
            }
            Err(error) => return Err(error.into()),
        };
        // A role that was deleted took its sessions with it, whatever is there under its name now.
        let of_it = |link: &&&Link| {
            let id = link.session.role.as_ref().and_then(|role| role.id.role_id());
            id.as_ref() == Some(&identity.unique_id)
        };
        let links: Vec<&Link> = links.iter().filter(of_it).copied().collect();
        if links.is_empty() {
            let text = format!("`role/{role}` was deleted and made again since the sessions were made");
            return self.not_denied(incident, &step, StepState::Gone, text).await;
        }
        let principal = Principal {
            account: incident.account.clone(),
            name: PrincipalName::Role(role.clone()),
            arn: Some(identity.arn.clone()),
            unique_id: Some(identity.unique_id.clone()),
        };
        if let Err(veto) = self.may_deny_sessions_of(incident, &principal, &identity) {
            return self.not_denied(incident, &step, StepState::Withheld, veto.to_string()).await;
        }
        let ids = |links: &mut dyn Iterator<Item = &Link>| -> BTreeSet<SessionId> {
            links.filter_map(|link| Some(link.session.role.as_ref()?.id.clone())).collect()
        };
        let sessions = ids(&mut links.iter().copied());
        let ends_at = links.iter().map(|link| link.session.ends_at).max().unwrap_or(Timestamp::MAX);
        let issued_by = links.iter().map(|link| link.at).max().unwrap_or(Timestamp::MIN);
        // On record before it is written: a deny that nobody remembers would stay for ever.
        let kept = RevocationRecord {
            schema: SCHEMA,
            incident_id: incident.incident_id.clone(),
            principal,
            ends_at: ends_at.saturating_add(SignedDuration::from_mins(5)).unwrap_or(Timestamp::MAX),
            action: ActionId::RevokeChainedSessions,
            episode: incident.episode,
        };
        self.ledger.keep_revocation(&kept).await?;
        let before = ids(&mut known.iter());
        let action = RevokeChainedSessions::new(self.iam.clone(), sessions.clone(), issued_by);
        let done = if sessions.is_subset(&before) {
            executor::execute(&self.ledger, incident, &step, &action).await?
        } else {
            executor::renew(&self.ledger, incident, &step, &action).await?
        };
        Ok((done.record, done.transient))
    }

    /// What forbids it. Protection of the whole role does not: the deny hurts the session alone. A drill stays where
    /// drills are.
    fn may_deny_sessions_of(
        &self,
        incident: &Incident,
        principal: &Principal,
        identity: &Identity,
    ) -> Result<(), Veto> {
        let source = incident.drill.then_some(Source::Drill);
        let protected = Protected::default();
        let rails = Rails { home: &self.home, stack: "", protected: &protected, deployers: &[], source };
        rails.on_sessions_of(principal, identity)
    }

    /// Takes the deny of single sessions out again, once they have ended and the incident is released. While it is
    /// contained, the deny stays: whoever looks after the containment expects it there.
    pub(super) async fn end_chained(
        &self,
        incident: &Incident,
        revocation: &RevocationRecord,
        now: Timestamp,
    ) -> Result<String, Failure> {
        let this_episode = incident.episode == revocation.episode;
        if this_episode && incident.state != IncidentState::Released {
            self.put_off(revocation, in_an_hour(now)).await?;
            return Ok("still contained: stays".to_owned());
        }
        let PrincipalName::Role(role) = &revocation.principal.name else {
            return Err(Failure::Permanent(format!("`{}` is no role", revocation.principal.name)));
        };
        let incident = Incident { episode: revocation.episode, ..incident.clone() };
        let found = self.ledger.chain(&incident).await?.map(|chain| chain.sessions).unwrap_or_default();
        let of_it = |link: &&Link| link.session.role.as_ref().is_some_and(|of| of.name == *role);
        if found.iter().filter(of_it).any(|link| link.lives(now)) {
            self.ledger.forget_revocation(revocation).await?;
            return Ok("sessions were found that end later: their record stands".to_owned());
        }
        let step = Step { action: ActionId::RevokeChainedSessions, target: Target::Role(role.clone()) };
        let fresh = incident.step_record(&step, now);
        let action = RevokeChainedSessions::new(self.iam.clone(), BTreeSet::new(), now);
        let end = match self.ledger.step(&fresh).await? {
            Some(record) => {
                let done = executor::revert(&self.ledger, &incident, record, &action).await?;
                if matches!(done.record.state, StepState::Applied | StepState::Intended | StepState::Failed) {
                    let text = format!("`{}`: {}", done.record.step, done.record.detail);
                    return Err(if done.transient { Failure::Transient(text) } else { Failure::Permanent(text) });
                }
                done.record.detail
            }
            // Kept before the step was on record: nothing was written.
            None => "nothing had been written".to_owned(),
        };
        self.ledger.forget_revocation(revocation).await?;
        Ok(end)
    }

    async fn not_denied(
        &self,
        incident: &Incident,
        step: &Step,
        state: StepState,
        detail: String,
    ) -> Result<(StepRecord, bool), Failure> {
        warn!("`{}`: {detail}", step.key());
        let fresh = incident.step_record(step, clock::now());
        let mut record = self.ledger.step(&fresh).await?.unwrap_or(fresh);
        if record.state != state || record.detail != detail {
            record.state = state;
            record.detail = detail;
            record.updated_at = clock::now();
            self.ledger.record(&record).await?;
        }
        Ok((record, false))
    }
}

/// What was stolen. A principal that lives on has healthy sessions from the revocation's time on.
fn root(incident: &Incident) -> Root {
    let ahead = SignedDuration::from_secs(firebreak_model::policy::REVOCATION_AHEAD_SECONDS);
    let revoked_to = incident.ordered_since().saturating_add(ahead).unwrap_or(Timestamp::MAX);
    Root {
        unique_id: incident.principal.unique_id.clone(),
        access_keys: incident.access_keys.clone(),
        healthy_from: (!is_quarantined(incident)).then_some(revoked_to),
    }
}

/// Which records are read: from the longest session before the activity was first seen.
fn past(incident: &Incident, now: Timestamp) -> Past {
    let ordered = incident.ordered_since();
    let oldest = now.saturating_sub(HISTORY).unwrap_or(Timestamp::MIN);
    let seen = incident.first_seen.unwrap_or(ordered).min(ordered).max(oldest);
    let from = seen.saturating_sub(longest_session(&incident.principal.name)).unwrap_or(Timestamp::MIN);
    let names = match &incident.principal.name {
        PrincipalName::User(name) => vec![name.as_str().to_owned()],
        PrincipalName::Role(_) => incident.functions.iter().map(|function| function.name().to_owned()).collect(),
    };
    let denied = ordered.saturating_add(PROPAGATION).unwrap_or(Timestamp::MAX);
    Past { since: from.max(oldest), seen, denied, names }
}
