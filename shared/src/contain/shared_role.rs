//! Who else uses a role: before it is denied a person is asked where others run as it, and where nobody else does the
//! functions that a finding leaves out are found.

use firebreak_model::action::FunctionName;
use firebreak_model::decision::Decision;
use firebreak_model::guard::Rails;
use firebreak_model::ids::FunctionArn;
use firebreak_model::ledger::{FindingRecord, Incident, IncidentState};
use firebreak_model::plan::Plan;
use firebreak_model::principal::{Identity, Principal, PrincipalName};
use firebreak_model::usage::{OLD, Usage};
use tracing::{info, warn};

use super::{Containment, Opened};
use crate::action::ActionError;
use crate::clients;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::LedgerError;
use crate::telemetry::chain;

impl Containment {
    /// Who runs as a principal, as far as the inventory knows; nobody runs as a user.
    pub(super) async fn usage(&self, principal: &Principal) -> Result<Option<Usage>, LedgerError> {
        match &principal.name {
            PrincipalName::Role(role) => self.ledger.usage(&principal.account, role).await,
            PrincipalName::User(_) => Ok(None),
        }
    }

    /// Holds an incident back whose role others use too, so that a person is asked first. Answers the incident as it then
    /// stands; `None` where nobody need be asked, or the deny was begun before.
    pub(super) async fn ask_first(
        &self,
        incident: &Incident,
        opened: Option<Opened<'_>>,
        usage: &Usage,
    ) -> Result<Option<Incident>, Failure> {
        let Some(why) = self.playbook.asks_about(usage.count_with(&incident.functions)) else { return Ok(None) };
        let why = format!("{why}{}", dated(usage, incident));
        let fresh = opened.is_some_and(|opened| opened.fresh);
        if incident.held_back(usage, &why, clock::now()).is_none() || self.is_begun(incident, fresh).await? {
            return Ok(None);
        }
        warn!("a person is asked first: {why}");
        let change = |now: Incident| {
            let same = now.episode == incident.episode;
            Ok::<_, Failure>(if same { now.held_back(usage, &why, clock::now()) } else { None })
        };
        self.seal(incident, opened).await?;
        let now = self.ledger.withhold(&incident.incident_id, change).await?;
        // A person may have approved meanwhile.
        Ok(now.filter(|now| now.state != IncidentState::Ordered))
    }

    /// Whether the deny is under way or there already: then the question comes too late, and holding back would only
    /// have the record say less than is true.
    async fn is_begun(&self, incident: &Incident, fresh: bool) -> Result<bool, Failure> {
        // Of an incident that was opened just now, nothing can be on record.
        let recorded = !(fresh && incident.version == 1);
        if recorded && !self.ledger.steps(incident, [FunctionName::QuarantinePrincipal]).await?.is_empty() {
            return Ok(true);
        }
        // An invocation may have ended between the deny and its record, or denied while the ledger did not answer.
        Ok(self.denied(incident).await?.is_some())
    }

    /// Has the record of a finding say what was done about it: it was recorded with the claim, before anyone knew.
    pub(super) async fn say_held_back(
        &self,
        finding: Option<&FindingRecord>,
        incident: &Incident,
    ) -> Result<(), Failure> {
        let Some(finding) = finding else { return Ok(()) };
        let held = FindingRecord {
            effective: Decision::Approve,
            reason: incident.reason.clone(),
            would_be: Some(incident.plan.clone()),
            ..finding.clone()
        };
        Ok(self.ledger.amend(&held).await?)
    }

    /// The functions that run as the role of an incident that names none, each asked of Lambda: what the inventory says is
    /// some minutes old, and anyone who could write it could have any function stopped.
    pub(super) async fn functions_of(
        &self,
        incident: &Incident,
        usage: Option<&Usage>,
        rails: Rails<'_>,
    ) -> Result<Vec<FunctionArn>, Failure> {
        let known = usage.map(|usage| self.playbook.known_to_run(usage, &incident.functions)).unwrap_or_default();
        let mut confirmed = Vec::new();
        for function in known {
            if let Err(veto) = rails.on_function(&function) {
                warn!(function = %function, "the function is not touched: {veto}");
                continue;
            }
            match self.runs_as(&function, &incident.principal).await {
                Ok(true) => confirmed.push(function),
                Ok(false) => info!(function = %function, "the function no longer runs as the role"),
                Err(error) if error.is_transient() => return Err(error.into()),
                Err(error) => warn!(function = %function, "the function is not touched: {}", chain(&error)),
            }
        }
        Ok(confirmed)
    }

    async fn runs_as(&self, function: &FunctionArn, principal: &Principal) -> Result<bool, ActionError> {
        let lambda = clients::lambda_in(&self.sdk, function.region());
        let answer = lambda.get_function_configuration().function_name(function.to_string()).send().await;
        let answer =
            answer.map_err(|e| ActionError::of("lambda:GetFunctionConfiguration", &function.to_string(), e))?;
        let role = answer.role().and_then(|arn| Principal::from_arn(arn).ok());
        Ok(role.is_some_and(|role| role.incident_id() == principal.incident_id()))
    }

    /// Puts on record that the guard rails pass it, and what was read of a principal: its ARN and unique id, so that a
    /// namesake made later is not ours; who runs as it; and the functions that were found with it, which the plan then
    /// covers as if they had been named.
    pub(super) async fn pin(
        &self,
        incident: &Incident,
        opened: Option<Opened<'_>>,
        identity: &Identity,
        usage: Option<&Usage>,
        functions: &[FunctionArn],
    ) -> Result<(), Failure> {
        let read = |mut now: Incident| {
            now.principal.unique_id = Some(identity.unique_id.clone());
            now.principal.arn = Some(identity.arn.clone());
            now.unvetted = false;
            let says_so = |known: &Usage| usage.is_none_or(|usage| known.says_the_same_as(usage));
            if !now.usage.as_ref().is_some_and(says_so) {
                now.usage = usage.cloned().or(now.usage);
            }
            if firebreak_model::each_once::extend(&mut now.functions, functions.iter().cloned()) {
                now.plan.absorb(&Plan::of(&now.principal.name, functions, &now.response));
            }
            now
        };
        if read(incident.clone()) == *incident {
            return self.seal(incident, opened).await;
        }
        let change = |now: Incident| {
            let open = matches!(now.state, IncidentState::Ordered | IncidentState::AwaitingApproval);
            if now.episode != incident.episode || !open {
                return None;
            }
            let next = read(now.clone());
            (next != now).then_some(next)
        };
        self.write(incident, opened, change).await
    }
}

/// How old what is known is, where it is old.
fn dated(usage: &Usage, incident: &Incident) -> String {
    let age = usage.age(incident.updated_at);
    if age < OLD { String::new() } else { format!(" (as of {}, {} h before)", usage.scanned_at, age.as_hours()) }
}

/// Who else is hit where a role is denied, in a sentence for whoever asked for it.
pub(super) fn who_else(incident: &Incident, usage: Option<&Usage>) -> Option<String> {
    if !matches!(incident.principal.name, PrincipalName::Role(_)) {
        return None;
    }
    let Some(usage) = usage else {
        return Some("who else uses the role is not known: the inventory holds no record of it".to_owned());
    };
    let (others, unnamed) = usage.beside(&incident.functions);
    if others.is_empty() && unnamed == 0 {
        return None;
    }
    let named = others.join(", ");
    let more = if unnamed == 0 { String::new() } else { format!(" and {unnamed} more") };
    Some(format!("the role is denied to others that run as it as well, as of {}: {named}{more}", usage.scanned_at))
}
