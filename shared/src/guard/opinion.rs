//! What IAM's policy simulator says of a deny. It shows what is written, not what every endpoint has heard of, and it
//! knows no resource policies: a second opinion beside what was read back, never instead of it.

use aws_sdk_iam::types::PolicyEvaluationDecisionType;
use firebreak_model::principal::Principal;
use firebreak_model::watch::Opinion;
use tracing::warn;

use super::Guard;
use crate::action::ActionError;
use crate::telemetry::chain;

/// A call that nobody needs to be granted to be denied it explicitly.
const PROBE: &str = "sts:GetSessionToken";

/// A call that the guard itself is allowed on the ledger.
const CONTROL: &str = "dynamodb:GetItem";

impl Guard {
    /// `explicitDeny` for the principal, beside `allowed` for the guard itself: without the control a simulator that
    /// denies everyone would agree with anything.
    pub(super) async fn opinion(&self, principal: &Principal) -> Opinion {
        let Some(arn) = &principal.arn else {
            return Opinion::None("the ARN of the principal is not on record yet".to_owned());
        };
        let asked = tokio::join!(
            self.simulated(&self.own_role_arn, CONTROL, Some(&self.table_arn)),
            self.simulated(arn, PROBE, None)
        );
        match asked {
            (Err(error), _) | (_, Err(error)) => {
                warn!("there is no second opinion: {}", chain(&error));
                Opinion::None(chain(&error))
            }
            (Ok(control), _) if control != Some(PolicyEvaluationDecisionType::Allowed) => Opinion::None(format!(
                "the control, which is allowed, is `{}` in the simulator",
                shown(control.as_ref())
            )),
            (_, Ok(Some(PolicyEvaluationDecisionType::ExplicitDeny))) => Opinion::Agrees,
            (_, Ok(other)) => Opinion::Disagrees(format!("`{}`, not `explicitDeny`", shown(other.as_ref()))),
        }
    }

    /// The decision about this very action; `None` where the answer holds none.
    async fn simulated(
        &self,
        arn: &str,
        action: &str,
        resource: Option<&str>,
    ) -> Result<Option<PolicyEvaluationDecisionType>, ActionError> {
        let request = self.iam.simulate_principal_policy().policy_source_arn(arn).action_names(action);
        let request = request.set_resource_arns(resource.map(|resource| vec![resource.to_owned()]));
        let answer = request.send().await.map_err(|e| ActionError::of("iam:SimulatePrincipalPolicy", arn, e))?;
        let about = answer.evaluation_results().iter().find(|result| result.eval_action_name() == action);
        Ok(about.map(|result| result.eval_decision().clone()))
    }
}

fn shown(decision: Option<&PolicyEvaluationDecisionType>) -> String {
    firebreak_model::ids::shown(decision.map_or("no decision", PolicyEvaluationDecisionType::as_str))
}
