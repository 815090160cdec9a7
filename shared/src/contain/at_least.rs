//! The deny where the ledger cannot be gone by.

use firebreak_model::action::FunctionName;
use firebreak_model::guard::Rails;
use firebreak_model::ledger::{Incident, IncidentState};
use firebreak_model::principal::Identity;
use serde_json::Value;
use tracing::warn;

use super::Containment;
use crate::action::{ActionError, Order, Verified};
use crate::actions;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::LedgerError;
use crate::telemetry::chain;

impl Containment {
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
        let mut done = Vec::new();
        if let Some(veto) =
            vetoed.or_else(|| (candidate.state != IncidentState::Ordered).then(|| "it waits for a person".to_owned()))
        {
            done.push(format!("nothing is denied: {veto}"));
        } else {
            for step in candidate.plan.owned_by(FunctionName::QuarantinePrincipal) {
                let Some(action) = actions::for_principal(step.action, &self.iam, &self.deny_policy_arn) else {
                    continue;
                };
                if !action.record().additive {
                    continue;
                }
                let order = Order { incident: candidate, step, now: clock::now() };
                let end = match action.apply(order, &Value::Null).await {
                    Err(error) if !error.may_have_applied() => Err(error),
                    _ => action.verify(order, &Value::Null).await,
                };
                done.push(match end {
                    Ok(Verified::InForce) => format!("`{}` all the same, read back", step.key()),
                    Ok(Verified::NotInForce(found)) => format!("`{}` is not in force: {found}", step.key()),
                    Err(error) => format!("`{}` failed: {}", step.key(), chain(&error)),
                });
            }
        }
        let (transient, text) = (why.is_transient(), format!("{}; {}", chain(&why), done.join("; ")));
        warn!("{text}");
        if transient { Failure::Transient(text) } else { Failure::Refused(text) }
    }
}
