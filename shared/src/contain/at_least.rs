//! The deny alone: where the ledger cannot be gone by, and where it is looked for without a record.

use firebreak_model::action::FunctionName;
use firebreak_model::guard::Rails;
use firebreak_model::ledger::{Incident, IncidentState};
use firebreak_model::plan::Step;
use firebreak_model::principal::Identity;
use serde_json::Value;
use tracing::warn;

use super::Containment;
use crate::action::{Action, ActionError, Order, Verified};
use crate::actions;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::LedgerError;
use crate::telemetry::chain;

impl Containment {
    /// The steps of this function that only add: no prior state has to be on record before them.
    fn additive<'a>(&'a self, incident: &'a Incident) -> impl Iterator<Item = (&'a Step, Box<dyn Action>)> {
        incident.plan.owned_by(FunctionName::QuarantinePrincipal).filter_map(|step| {
            let action = actions::for_principal(step.action, &self.iam, &self.deny_policy_arn)?;
            action.record().additive.then_some((step, action))
        })
    }

    /// The deny of an incident, where it is in force, whatever is on record of it.
    pub(super) async fn denied<'a>(
        &'a self,
        incident: &'a Incident,
    ) -> Result<Option<(&'a Step, Box<dyn Action>)>, ActionError> {
        for (step, action) in self.additive(incident) {
            let order = Order { incident, step, now: clock::now() };
            if action.verify(order, &Value::Null).await? == Verified::InForce {
                return Ok(Some((step, action)));
            }
        }
        Ok(None)
    }

    /// Denies, and reads it back, without a word to the ledger. Answers how each step that adds ended.
    pub(super) async fn deny_alone(&self, incident: &Incident) -> Vec<(String, Result<Verified, ActionError>)> {
        let mut ends = Vec::new();
        for (step, action) in self.additive(incident) {
            let order = Order { incident, step, now: clock::now() };
            let end = match action.apply(order, &Value::Null).await {
                Err(error) if !error.may_have_applied() => Err(error),
                _ => action.verify(order, &Value::Null).await,
            };
            ends.push((step.key(), end));
        }
        ends
    }

    /// The deny alone, of a principal whose incident in the ledger cannot be believed: what somebody wrote there must
    /// not keep us from it. It goes by what the finding says, and stands on no record but the page about the forgery.
    pub(super) async fn deny_at_least(
        &self,
        candidate: &Incident,
        identity: Result<Identity, ActionError>,
        rails: Rails<'_>,
        why: LedgerError,
    ) -> Failure {
        let vetoed = match &identity {
            Ok(identity) => rails.on_identity(&candidate.principal, identity).err().map(|veto| veto.to_string()),
            Err(error) => Some(chain(error)),
        };
        let done = if let Some(veto) =
            vetoed.or_else(|| (candidate.state != IncidentState::Ordered).then(|| "it waits for a person".to_owned()))
        {
            format!("nothing is denied: {veto}")
        } else {
            told(&self.deny_alone(candidate).await)
        };
        let (transient, text) = (why.is_transient(), format!("{}; {done}", chain(&why)));
        warn!("{text}");
        if transient { Failure::Transient(text) } else { Failure::Refused(text) }
    }
}

/// How the steps ended, in words.
pub(super) fn told(ends: &[(String, Result<Verified, ActionError>)]) -> String {
    let told = ends.iter().map(|(key, end)| match end {
        Ok(Verified::InForce) => format!("`{key}` all the same, read back"),
        Ok(Verified::NotInForce(found)) => format!("`{key}` is not in force: {found}"),
        Err(error) => format!("`{key}` failed: {}", chain(error)),
    });
    told.collect::<Vec<_>>().join("; ")
}
