//! From an event or a request to a verified deny: parse, decide, {claim ‖ read the principal ‖ read who else uses it},
//! deny, read back, record. What `quarantine-principal` does.

mod approval;
mod at_least;
mod candidate;
mod claimed;
mod hold;
mod ladder;
mod outage;
mod put_back;
mod shared_role;

use aws_config::SdkConfig;
use firebreak_model::action::Response;
use firebreak_model::decision::{Decision, Mode};
use firebreak_model::finding::{Finding, Source, Subject};
use firebreak_model::guard::Rails;
use firebreak_model::judge::{Course, Judge, Judgement};
use firebreak_model::ledger::{FindingRecord, Incident, IncidentState, Origin};
use firebreak_model::playbook::{Glob, Playbook};
use firebreak_model::principal::{Identity, Principal};
use firebreak_model::request::{Asked, Contain, Request};
use firebreak_model::trigger::{self, Malformed, Trigger};
use firebreak_model::usage::Usage;
use jiff::Timestamp;
use serde_json::value::RawValue;
use tracing::{Instrument, info, info_span, warn};

use crate::action::ActionError;
use crate::answer::Answer;
use crate::clock;
use crate::config::Base;
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::identity;
use crate::ledger::{Claim, Claimed, Ledger, LedgerError};
use crate::payload;
use crate::resolve::{ResolveError, Resolver};
use crate::telemetry::chain;
pub use outage::Outage;

use candidate::{Chosen, Event, Noted, Reading, Received};
use put_back::Birth;

/// What this invocation wrote of the incident just now.
#[derive(Debug, Clone, Copy)]
struct Opened<'a> {
    claim: &'a Claim,
    /// Nobody can have recorded a step of it yet.
    fresh: bool,
    /// It may carry no seal yet: the key was not at hand.
    unsealed: bool,
}

/// Everything that containing needs.
#[derive(Debug)]
pub struct Containment {
    /// The ledger.
    pub ledger: Ledger,
    /// The IAM client.
    pub iam: aws_sdk_iam::Client,
    /// The configuration that Lambda clients of other Regions are built from.
    pub sdk: SdkConfig,
    /// Where it runs.
    pub base: Base,
    /// The playbook.
    pub playbook: Playbook,
    /// The stack's ceiling over the playbook's modes.
    pub ceiling: Mode,
    /// The roles that deploy Firebreak.
    pub deployers: Vec<Glob>,
    /// The deny policy.
    pub deny_policy_arn: String,
    /// What is remembered of the ledger's outages.
    pub outage: Outage,
}

/// What was read beside a claim, and the finding that was recorded with it.
struct Read<'a> {
    identity: Result<Identity, ActionError>,
    /// Who runs as the principal, as far as that is known.
    usage: Option<Usage>,
    finding: Option<&'a FindingRecord>,
}

impl Containment {
    /// Handles one invocation, however long it takes.
    pub async fn handle(&self, payload: &RawValue, invocation: &str) -> Result<Answer, Failure> {
        self.handle_by(payload, invocation, Deadline::NONE).await
    }

    /// Handles one invocation. Of several findings each has its share of the time until the deadline.
    pub async fn handle_by(&self, payload: &RawValue, invocation: &str, deadline: Deadline) -> Result<Answer, Failure> {
        let received = Received { now: clock::now(), invocation, deadline };
        let payload = &match payload::read(payload) {
            Ok(payload) => payload,
            Err(malformed) => {
                return self.on_malformed(malformed, &Event::of(payload.get().to_owned()), received).await;
            }
        };
        if let Some(kind) = put_back::told(payload) {
            return Box::pin(self.on_tampering(kind, payload, received)).await;
        }
        let event = || Event::of(payload.to_string());
        match trigger::read(payload, &self.base.home) {
            Trigger::Findings(findings, unread) => {
                Box::pin(self.on_findings(findings, unread, &event(), received)).await
            }
            Trigger::Malformed(malformed) => self.on_malformed(malformed, &event(), received).await,
            Trigger::BadRequest(error) => Err(error.into()),
            Trigger::Request(request) => match *request {
                Request::Contain(contain, asked) => Box::pin(self.on_request(contain, asked, received)).await,
                Request::Approve(incident, asked) => Box::pin(self.on_approval(&incident, asked, received)).await,
                Request::Release(..)
                | Request::ReleaseSince(..)
                | Request::List
                | Request::Pause(_)
                | Request::Resume(_) => {
                    Err(Failure::Malformed("release, list, pause and resume go to `release-containment`".to_owned()))
                }
                Request::Revoke(..) => Err(Failure::Malformed("revoke goes to `revoke-sessions`".to_owned())),
            },
        }
    }

    fn rails(&self, source: Option<Source>) -> Rails<'_> {
        Rails {
            home: &self.base.home,
            stack: &self.base.stack,
            protected: &self.playbook.protected,
            deployers: &self.deployers,
            source,
        }
    }

    /// The rails of an incident: those of a drill where it is one.
    fn rails_of(&self, incident: &Incident) -> Rails<'_> {
        self.rails(incident.drill.then_some(Source::Drill))
    }

    async fn on_malformed(
        &self,
        malformed: Malformed,
        event: &Event,
        received: Received<'_>,
    ) -> Result<Answer, Failure> {
        warn!(envelope.id = %malformed.id, "an event that cannot be read: {}", malformed.reason);
        let record = candidate::malformed(&malformed, event, received, self.playbook.digest(), self.ceiling);
        self.ledger.note(&record).await?;
        Ok(Answer::of("malformed").saying(malformed.reason))
    }

    /// The findings of one event. One that fails never keeps another back, and is never lost behind its success.
    async fn on_findings(
        &self,
        findings: Vec<Finding>,
        unread: Option<Malformed>,
        event: &Event,
        received: Received<'_>,
    ) -> Result<Answer, Failure> {
        let mut answers = Vec::new();
        let mut failures = Vec::new();
        if let Some(malformed) = unread
            && let Err(failure) = self.on_malformed(malformed, event, received).await
        {
            failures.push(failure);
        }
        let mut left = findings.len();
        for finding in findings {
            let share = received.deadline.share(left);
            left -= 1;
            match share.hold(Box::pin(self.on_finding(finding, event, &Birth::default(), received))).await {
                Ok(answer) => answers.push(answer),
                Err(failure) => failures.push(failure),
            }
        }
        settle(answers, failures)
    }

    async fn on_finding(
        &self,
        finding: Finding,
        event: &Event,
        birth: &Birth,
        received: Received<'_>,
    ) -> Result<Answer, Failure> {
        let mut finding = self.whole(finding).await?;
        let mut chosen: Vec<Chosen> = Vec::new();
        let mut noted: Vec<Noted> = Vec::new();
        for subject in std::mem::take(&mut finding.subjects) {
            let (subject, judgement) = self.judge(&finding, subject).await?;
            finding.subjects.push(subject);
            let Judgement { ruling, course } = judgement;
            let ruling = candidate::asking(ruling, birth.asks.as_deref());
            info!(finding.id = %finding.id, finding.type = %finding.finding_type, "{}: {}", ruling.verdict.effective,
                ruling.verdict.reason);
            match course {
                Course::Contain { principal, access_key, functions, spared } => {
                    for (function, veto) in spared {
                        warn!(function = %function, "the function is not touched: {veto}");
                    }
                    candidate::choose(&mut chosen, principal, access_key, functions, ruling);
                }
                Course::Note { principal, functions, reason } => {
                    noted.push(Noted { principal, functions, reason, ruling });
                }
                Course::LookUp(lookup) => {
                    let reason = format!("{lookup} was not found");
                    noted.push(Noted { principal: None, functions: Vec::new(), reason, ruling });
                }
                Course::ReadPath(principal) => {
                    let reason = format!("the path of `{}` was not found", principal.name);
                    noted.push(Noted { principal: Some(principal), functions: Vec::new(), reason, ruling });
                }
            }
        }
        let reading =
            Reading { finding: &finding, event, playbook: self.playbook.digest(), born_of: birth.of.as_ref() };
        let mut answers = Vec::new();
        let mut failures = Vec::new();
        if let Some(record) = candidate::noted(&reading, &noted, received)
            && let Err(error) = self.ledger.note(&record).await
        {
            // Whoever is to be contained does not wait for the record of whoever is not.
            failures.push(error.into());
        }
        for chosen in chosen {
            let record = reading.record(&chosen, received);
            let incident = candidate::by_finding(&reading, chosen, received);
            let id = incident.incident_id.clone();
            let claim = self.claim_of(incident, Some(record), finding.last_seen, received.now);
            let span = info_span!("contain", incident.id = %id, finding.id = %finding.id);
            match Box::pin(self.contain(claim, self.rails(Some(finding.source)))).instrument(span).await {
                Ok(answer) => answers.push(answer),
                Err(failure) => failures.push(failure),
            }
        }
        if answers.is_empty() && failures.is_empty() {
            let ignored = noted.iter().all(|noted| noted.ruling.verdict.effective == Decision::Ignore);
            answers.push(Answer::of(if ignored { "ignored" } else { "noted" }).saying(candidate::reasons(&noted)));
        }
        settle(answers, failures)
    }

    /// The finding with its attack sequence, where it came without and GuardDuty has it.
    async fn whole(&self, finding: Finding) -> Result<Finding, Failure> {
        let (Some(detector), Some(region)) = (&finding.reread_from, &finding.region) else { return Ok(finding) };
        if finding.account.as_ref() != Some(&self.base.home.account) || finding.sample || finding.archived {
            return Ok(finding);
        }
        match self.resolver().whole(&finding, detector, region).await {
            Ok(Some(whole)) if whole.reread_from.is_none() => {
                // Which update it is stays what was delivered: the next delivery of it is still a duplicate.
                Ok(Finding { updated_at: finding.updated_at.clone(), ..whole })
            }
            Ok(_) => {
                warn!(finding.id = %finding.id, "guardduty does not have the sequence of the finding either");
                Ok(finding)
            }
            Err(error) if error.is_transient() => Err(Failure::Transient(chain(&error))),
            Err(error) => {
                warn!(finding.id = %finding.id, "the finding was not read again: {}", chain(&error));
                Ok(finding)
            }
        }
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver { iam: &self.iam, sdk: &self.sdk, account: &self.base.home.account }
    }

    /// Judges a subject; what must be looked up or read first is, and it is judged again.
    async fn judge(&self, finding: &Finding, subject: Subject) -> Result<(Subject, Judgement), Failure> {
        let rails = self.rails(Some(finding.source));
        let judge = Judge { playbook: &self.playbook, rails, ceiling: self.ceiling };
        let mut judgement = judge.judge(finding, &subject, None);
        match self.find(&judgement.course, finding).await {
            Ok(None) => Ok((subject, judgement)),
            Ok(Some(principal)) => {
                let subject = subject.known_as(principal);
                let judgement = judge.judge(finding, &subject, None);
                Ok((subject, judgement))
            }
            Err(error) if error.is_transient() => Err(Failure::Transient(chain(&error))),
            Err(error) => {
                judgement.course = Course::note(chain(&error));
                Ok((subject, judgement))
            }
        }
    }

    /// The principal that a course asks to be looked up, or to be read for its path; `None` where it asks for neither.
    async fn find(&self, course: &Course, finding: &Finding) -> Result<Option<Principal>, ResolveError> {
        match course {
            Course::LookUp(lookup) => self.resolver().principal(lookup, finding.region.as_ref()).await.map(Some),
            Course::ReadPath(principal) => {
                let arn = Some(identity::read(&self.iam, &principal.name).await?.arn);
                Ok(Some(Principal { arn, ..principal.clone() }))
            }
            Course::Contain { .. } | Course::Note { .. } => Ok(None),
        }
    }

    async fn on_request(&self, contain: Contain, asked: Asked, received: Received<'_>) -> Result<Answer, Failure> {
        self.rails(None).on_name(&contain.principal).map_err(|veto| Failure::Refused(veto.to_string()))?;
        for function in &contain.functions {
            self.rails(None).on_function(function).map_err(|veto| Failure::Refused(veto.to_string()))?;
        }
        let response: Vec<Response> =
            contain.response.clone().unwrap_or_else(|| self.playbook.default_response().to_vec());
        let digest = self.playbook.digest();
        let incident = candidate::by_person(contain, response, asked, digest, received);
        let span = info_span!("contain", incident.id = %incident.incident_id);
        let claim = self.claim_of(incident, None, None, received.now);
        Box::pin(self.contain(claim, self.rails(None))).instrument(span).await
    }

    fn claim_of(
        &self,
        candidate: Incident,
        finding: Option<FindingRecord>,
        last_seen: Option<Timestamp>,
        now: Timestamp,
    ) -> Claim {
        Claim { candidate, finding, last_seen, per_hour: self.playbook.breaker.per_hour, now }
    }

    /// Claims and reads at once, then denies: two round trips to the deny.
    async fn contain(&self, claim: Claim, rails: Rails<'_>) -> Result<Answer, Failure> {
        let principal = claim.candidate.principal.clone();
        let unsealed = !self.ledger.seals_at_once();
        let (claimed, identity, usage) =
            tokio::join!(self.ledger.claim(&claim), identity::read(&self.iam, &principal.name), self.usage(&principal));
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error @ (LedgerError::Forged { .. } | LedgerError::OtherSchema { .. } | LedgerError::NoSeal(_))) => {
                return Err(self.deny_at_least(&claim.candidate, identity, rails, error).await);
            }
            Err(error) => {
                let usage = usage.as_ref().ok().and_then(Option::as_ref);
                return Err(self.without_record(&claim, identity, usage, rails, error).await);
            }
        };
        self.outage.remember(&claim, &claimed);
        let incident = claimed.incident().clone();
        let opened = match &claimed {
            Claimed::Stale(_) => {
                if claim.candidate.state == IncidentState::Ordered {
                    self.left_behind(&claim.candidate).await?;
                }
                info!("the finding is not about activity since the release: recorded, nothing changed");
                let message = match claim.last_seen {
                    Some(_) => "the incident is released, and the finding is about activity from before that",
                    None => {
                        "the incident is released, and the finding does not say when the activity was: a person is told"
                    }
                };
                return Ok(Answer::on("stale", &incident.incident_id, &[]).saying(message));
            }
            Claimed::Opened(_) => Some(Opened { claim: &claim, fresh: true, unsealed }),
            Claimed::TakenOver(_) => Some(Opened { claim: &claim, fresh: false, unsealed: true }),
            // It was joined, so that the key is at hand: what was written is sealed.
            Claimed::Widened(_) | Claimed::Joined(_) => None,
        };
        // A drill that meets an incident which is none does not have it held to the rails of a drill.
        let rails = self.rails_of(&incident);
        let incident = self.on_whoever_is_there(incident, &claim, &identity, rails).await?;
        let read = Read { identity, usage: usage?, finding: claim.finding.as_ref() };
        Box::pin(self.carry_on(incident, read, rails, opened)).await
    }

    /// The incident, moved to whoever bears the name now where a person asks: a person means whoever is there.
    async fn on_whoever_is_there(
        &self,
        incident: Incident,
        claim: &Claim,
        identity: &Result<Identity, ActionError>,
        rails: Rails<'_>,
    ) -> Result<Incident, Failure> {
        let (Origin::Person { .. }, Ok(identity)) = (&claim.candidate.origin, identity) else { return Ok(incident) };
        let moved = |now: &Incident| {
            let next = now.on_whoever_is_there(identity, clock::now())?;
            rails.on_identity(&next.principal, identity).is_ok().then_some(next)
        };
        if moved(&incident).is_none() {
            return Ok(incident);
        }
        warn!("`{}` was deleted and made again: the new one is contained in its place", incident.principal.name);
        let change = |now: Incident| Ok::<_, Failure>(moved(&now).filter(|_| now.episode == incident.episode));
        Ok(self.ledger.update(&incident.incident_id, change).await?.unwrap_or(incident))
    }
}

/// The first answer where nothing failed; else the failure that asks most loudly for another try.
fn settle(answers: Vec<Answer>, failures: Vec<Failure>) -> Result<Answer, Failure> {
    match failures.into_iter().min_by_key(|f| !matches!(f, Failure::Transient(_))) {
        Some(failure) => Err(failure),
        None => answers.into_iter().next().ok_or_else(|| Failure::Permanent("the event led to nothing".to_owned())),
    }
}

#[cfg(test)]
mod tests;
