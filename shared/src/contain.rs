//! From an event or a request to a verified deny: parse, decide, {claim ‖ read the principal}, deny, read
//! back, record. What `quarantine-principal` does.

mod candidate;

use aws_config::SdkConfig;
use firebreak_model::action::{FunctionName, Response};
use firebreak_model::decision::{Decision, Mode, Verdict};
use firebreak_model::finding::{Finding, Source, Subject};
use firebreak_model::guard::{Rails, Veto};
use firebreak_model::ids::{FunctionArn, IncidentId};
use firebreak_model::ledger::{Approval, FindingRecord, Incident, IncidentState, StepRecord, StepState};
use firebreak_model::playbook::{Glob, Playbook};
use firebreak_model::principal::{Identity, Principal};
use firebreak_model::request::{Asked, Contain, Request};
use firebreak_model::trigger::{self, Trigger};
use jiff::Timestamp;
use serde_json::Value;
use tracing::{Instrument, info, info_span, warn};

use crate::action::{ActionError, Permission, Resource};
use crate::actions;
use crate::answer::Answer;
use crate::clients;
use crate::clock;
use crate::config::Base;
use crate::executor::{self, Executed};
use crate::failure::Failure;
use crate::identity;
use crate::ledger::{Claim, Claimed, Ledger};
use crate::telemetry::chain;
use candidate::{Reading, Received};

/// What finding the role of a function needs.
pub const PERMISSIONS: &[Permission] =
    &[Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function }];

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
}

/// A principal that is to be contained, or not.
enum Judged {
    /// The playbook and the name allow it.
    Contain(Principal, Vec<FunctionArn>),
    /// It is only to be noted, with the reason.
    Note(Option<Principal>, Vec<FunctionArn>, String),
}

impl Containment {
    /// Handles one invocation.
    pub async fn handle(&self, payload: &Value, invocation: &str) -> Result<Answer, Failure> {
        let received = Received { now: clock::now(), invocation };
        match trigger::read(payload, &self.base.home) {
            Trigger::Finding(finding) => Box::pin(self.on_finding(&finding, payload, received)).await,
            Trigger::Malformed(malformed) => {
                warn!(envelope.id = %malformed.id, "an event that cannot be read: {}", malformed.reason);
                let record = candidate::malformed(&malformed, payload, received, self.playbook.digest(), self.ceiling);
                self.ledger.note(&record).await?;
                Ok(Answer::of("malformed").saying(malformed.reason))
            }
            Trigger::BadRequest(error) => Err(error.into()),
            Trigger::Request(request) => match *request {
                Request::Contain(contain, asked) => Box::pin(self.on_request(contain, asked, received)).await,
                Request::Approve(incident, asked) => self.on_approval(&incident, asked, received).await,
                Request::Release(..) | Request::Pause(_) | Request::Resume(_) => {
                    Err(Failure::Malformed("release, pause and resume go to `release-containment`".to_owned()))
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

    async fn on_finding(&self, finding: &Finding, event: &Value, received: Received<'_>) -> Result<Answer, Failure> {
        let (verdict, response) = self.playbook.decide(finding, self.ceiling);
        info!(finding.id = %finding.id, finding.type = %finding.finding_type, "{}: {}", verdict.effective, verdict.reason);
        let reading =
            Reading { finding, event, verdict: &verdict, response: &response, playbook: self.playbook.digest() };
        let mut contained: Vec<(Principal, Vec<FunctionArn>)> = Vec::new();
        let mut noted: Vec<(Option<Principal>, Vec<FunctionArn>, String)> = Vec::new();
        for subject in &finding.subjects {
            match self.judge(subject, &verdict, finding.source).await? {
                Judged::Note(principal, functions, reason) => noted.push((principal, functions, reason)),
                Judged::Contain(principal, functions) => {
                    match contained.iter_mut().find(|(seen, _)| seen.incident_id() == principal.incident_id()) {
                        Some((_, known)) => known.extend(functions),
                        None => contained.push((principal, functions)),
                    }
                }
            }
        }
        if !noted.is_empty() {
            let record = candidate::noted(&reading, &noted, received);
            self.ledger.note(&record).await?;
        }
        let mut answers = Vec::new();
        let mut failures = Vec::new();
        for (principal, functions) in contained {
            let incident = candidate::by_finding(&reading, principal, functions, received);
            let record = reading.record(Some(incident.incident_id.clone()), verdict.effective, received);
            let id = incident.incident_id.clone();
            let claim = self.claim_of(incident, Some(record), finding.last_seen, received.now);
            let span = info_span!("contain", incident.id = %id, finding.id = %finding.id);
            match Box::pin(self.contain(claim, self.rails(Some(finding.source)))).instrument(span).await {
                Ok(answer) => answers.push(answer),
                Err(failure) => failures.push(failure),
            }
        }
        // One principal's failure never keeps another's containment back, and is never lost behind its success.
        match failures.into_iter().min_by_key(|f| !matches!(f, Failure::Transient(_))) {
            Some(failure) => Err(failure),
            None => Ok(answers.into_iter().next().unwrap_or_else(|| {
                let reasons: Vec<_> = noted.into_iter().map(|(_, _, reason)| reason).collect();
                Answer::of(if verdict.effective == Decision::Ignore { "ignored" } else { "noted" })
                    .saying(reasons.join("; "))
            })),
        }
    }

    /// What is to be done about one subject. A function whose role the finding does not name is looked up.
    async fn judge(&self, subject: &Subject, verdict: &Verdict, source: Source) -> Result<Judged, Failure> {
        let (principal, functions) = match subject {
            Subject::NotContainable { what, reason } => {
                return Ok(Judged::Note(None, Vec::new(), format!("`{what}`: {reason}")));
            }
            Subject::Principal { principal, function, .. } => {
                (principal.clone(), function.iter().cloned().collect::<Vec<_>>())
            }
            Subject::Function { function } => {
                if !verdict.effective.opens_incident() {
                    return Ok(Judged::Note(None, vec![function.clone()], verdict.reason.clone()));
                }
                match self.role_of(function).await {
                    Ok(principal) => (principal, vec![function.clone()]),
                    Err(Failure::Transient(text)) => return Err(Failure::Transient(text)),
                    Err(failure) => return Ok(Judged::Note(None, vec![function.clone()], failure.to_string())),
                }
            }
        };
        if !verdict.effective.opens_incident() {
            return Ok(Judged::Note(Some(principal), functions, verdict.reason.clone()));
        }
        if let Err(veto) = self.rails(Some(source)).on_name(&principal) {
            return Ok(Judged::Note(Some(principal), functions, format!("protected: {veto}")));
        }
        Ok(Judged::Contain(principal, self.touchable(functions)))
    }

    /// The functions that guard rails let us touch; the others keep their principal's containment company only in the log.
    fn touchable(&self, functions: Vec<FunctionArn>) -> Vec<FunctionArn> {
        let rails = self.rails(None);
        let (touchable, kept): (Vec<_>, Vec<_>) =
            functions.into_iter().map(|f| (rails.on_function(&f), f)).partition(|(verdict, _)| verdict.is_ok());
        for (veto, function) in kept {
            if let Err(veto) = veto {
                warn!(function = %function, "the function is not touched: {veto}");
            }
        }
        touchable.into_iter().map(|(_, function)| function).collect()
    }

    async fn role_of(&self, function: &FunctionArn) -> Result<Principal, Failure> {
        if *function.account() != self.base.home.account {
            return Err(Failure::Refused(format!("`{function}` is in another account")));
        }
        let lambda = clients::lambda_in(&self.sdk, function.region());
        let answer = lambda.get_function_configuration().function_name(function.to_string()).send().await;
        let answer =
            answer.map_err(|e| ActionError::of("lambda:GetFunctionConfiguration", &function.to_string(), e))?;
        let role = answer.role.unwrap_or_default();
        Principal::from_arn(&role).map_err(|error| Failure::Permanent(format!("the role of `{function}`: {error}")))
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
        let (claimed, identity) = tokio::join!(self.ledger.claim(&claim), identity::read(&self.iam, &principal.name));
        let claimed = claimed?;
        let incident = claimed.incident().clone();
        let fresh = match &claimed {
            Claimed::Stale(_) => {
                info!("the finding is about activity from before the release: recorded, nothing changed");
                let message = "the incident is released, and the finding is about activity from before that";
                return Ok(Answer::on("stale", &incident.incident_id, &[]).saying(message));
            }
            Claimed::Opened(_) => true,
            Claimed::Joined(_) => false,
        };
        self.carry_on(incident, identity, rails, fresh).await
    }

    /// From a claimed incident and what was read of its principal to the end.
    async fn carry_on(
        &self,
        incident: Incident,
        identity: Result<Identity, ActionError>,
        rails: Rails<'_>,
        fresh: bool,
    ) -> Result<Answer, Failure> {
        let id = incident.incident_id.clone();
        let open = matches!(incident.state, IncidentState::Ordered | IncidentState::AwaitingApproval);
        if !open {
            return Ok(Answer::on(incident.state.as_str(), &id, &[]).saying(incident.reason));
        }
        let checked = match identity {
            Ok(identity) => rails.on_identity(&incident.principal, &identity).map(|()| identity),
            Err(error @ ActionError::Gone { .. }) => Err(Veto(chain(&error))),
            Err(error) => return Err(error.into()),
        };
        let identity = match checked {
            Ok(identity) => identity,
            Err(veto) => return self.withhold(&incident, &veto).await,
        };
        if incident.state == IncidentState::AwaitingApproval {
            self.pin(&incident, &identity).await?;
            return Ok(Answer::on("awaiting approval", &id, &[]).saying(incident.reason));
        }
        let executed = self.quarantine(&incident, fresh).await?;
        self.pin(&incident, &identity).await?;
        if executed.is_empty() {
            // What the plan holds, others do: their steps say how it went.
            return Ok(Answer::on("ordered", &id, &[]));
        }
        conclude(&id, executed)
    }

    async fn quarantine(&self, incident: &Incident, fresh: bool) -> Result<Vec<Executed>, Failure> {
        let mut executed = Vec::new();
        for step in incident.plan.owned_by(FunctionName::QuarantinePrincipal) {
            let action = actions::for_principal(step.action, &self.iam, &self.deny_policy_arn)
                .ok_or_else(|| Failure::Permanent(format!("`{}` is no action on a principal", step.action)))?;
            let run = if fresh {
                executor::execute_fresh(&self.ledger, incident, step, action.as_ref()).await
            } else {
                executor::execute(&self.ledger, incident, step, action.as_ref()).await
            };
            executed.push(run?);
        }
        Ok(executed)
    }

    /// Puts the ARN and the unique id that were read on record: a namesake made later is not ours.
    async fn pin(&self, incident: &Incident, identity: &Identity) -> Result<(), Failure> {
        let pinned = |incident: &Incident| {
            incident.principal.unique_id.as_ref() == Some(&identity.unique_id)
                && incident.principal.arn.as_ref() == Some(&identity.arn)
        };
        if pinned(incident) {
            return Ok(());
        }
        let change = |mut now: Incident| {
            if now.episode != incident.episode || pinned(&now) {
                return Ok::<_, Failure>(None);
            }
            now.principal.unique_id = Some(identity.unique_id.clone());
            now.principal.arn = Some(identity.arn.clone());
            Ok(Some(now))
        };
        self.ledger.update(&incident.incident_id, change).await?;
        Ok(())
    }

    /// Withholds an incident of which nothing was done yet. One that was begun stays as it is: its steps are to be
    /// released, whatever became of the principal since.
    async fn withhold(&self, incident: &Incident, veto: &Veto) -> Result<Answer, Failure> {
        if !self.ledger.steps(incident, incident.plan.owners()).await?.is_empty() {
            let text = format!("incident `{}` is contained in part or whole, but now: {veto}", incident.incident_id);
            return Err(Failure::Refused(text));
        }
        warn!("withheld: {veto}");
        let counted = incident.state == IncidentState::Ordered && incident.approval.is_none();
        let change = |mut now: Incident| {
            if now.episode != incident.episode || now.state == IncidentState::Withheld {
                return Ok::<_, Failure>(None);
            }
            now.state = IncidentState::Withheld;
            now.reason = format!("{}; withheld: {veto}", now.reason);
            now.updated_at = clock::now();
            Ok(Some(now))
        };
        let before = incident.version;
        let now = self.ledger.update(&incident.incident_id, change).await?;
        let by_us = now.is_some_and(|now| now.state == IncidentState::Withheld && now.version > before);
        if counted && by_us {
            self.ledger.uncount(incident).await?;
        }
        Ok(Answer::on("withheld", &incident.incident_id, &[]).saying(veto.to_string()))
    }

    async fn on_approval(&self, id: &IncidentId, asked: Asked, received: Received<'_>) -> Result<Answer, Failure> {
        if let Some(pause) = self.ledger.paused().await? {
            let Asked { by, .. } = &asked;
            return Err(Failure::Refused(format!(
                "containment is paused since {} by `{}`: `resume` first, then `{by}` can approve",
                pause.since, pause.by
            )));
        }
        let approval = Approval {
            at: received.now,
            by: asked.by,
            reason: asked.reason,
            invocation: received.invocation.to_owned(),
        };
        let change = |mut now: Incident| match now.state {
            IncidentState::AwaitingApproval => {
                now.state = IncidentState::Ordered;
                now.decision = Decision::Act;
                now.ordered_at = Some(received.now);
                now.approval = Some(approval.clone());
                now.updated_at = received.now;
                Ok(Some(now))
            }
            IncidentState::Ordered => Ok(None),
            state => Err(Failure::Refused(format!("the incident is `{state}`: there is nothing to approve"))),
        };
        let incident = self.ledger.update(id, change).await?;
        let incident = incident.ok_or_else(|| Failure::Refused(format!("there is no incident `{id}`")))?;
        let span = info_span!("approve", incident.id = %id);
        async {
            let identity = identity::read(&self.iam, &incident.principal.name).await;
            let source = incident.drill.then_some(Source::Drill);
            self.carry_on(incident, identity, self.rails(source), false).await
        }
        .instrument(span)
        .await
    }
}

/// The answer, or the failure that has Lambda try again.
fn conclude(id: &IncidentId, executed: Vec<Executed>) -> Result<Answer, Failure> {
    let transient = executed.iter().any(|e| e.transient);
    let records: Vec<StepRecord> = executed.into_iter().map(|e| e.record).collect();
    let unfinished: Vec<String> = records
        .iter()
        .filter(|r| !matches!(r.state, StepState::Applied | StepState::Gone))
        .map(|r| format!("`{}`: {}", r.step, r.detail))
        .collect();
    if unfinished.is_empty() {
        return Ok(Answer::on("contained", id, &records));
    }
    let text = format!("incident `{id}` is not contained: {}", unfinished.join("; "));
    Err(if transient { Failure::Transient(text) } else { Failure::Permanent(text) })
}
