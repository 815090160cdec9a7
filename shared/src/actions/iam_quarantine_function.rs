//! Denies everything to the code of one function, by an inline policy on the role that it shares with others.
//!
//! It holds the function and not its credentials: those that left the function do not carry
//! `lambda:SourceFunctionArn`. See `docs/decisions/0048-one-function-of-a-shared-role.md`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_iam::Client;
use firebreak_model::action::ActionId;
use firebreak_model::guard::Veto;
use firebreak_model::ids::FunctionArn;
use firebreak_model::plan::Target;
use firebreak_model::policy::{FUNCTIONS_POLICY, denied_functions, functions_denied};
use firebreak_model::principal::PrincipalName;
use serde_json::Value;

use super::inline_policy::InlinePolicy;
use super::target;
use crate::action::{Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified};

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::QuarantineFunction,
    summary: "whatever the code of the function calls with its role is denied; credentials that left it are not",
    permissions: &[
        Permission { action: "iam:GetRolePolicy", on: Resource::Role },
        Permission { action: "iam:PutRolePolicy", on: Resource::Role },
    ],
    revert_permissions: &[
        Permission { action: "iam:GetRolePolicy", on: Resource::Role },
        Permission { action: "iam:PutRolePolicy", on: Resource::Role },
        Permission { action: "iam:DeleteRolePolicy", on: Resource::Role },
    ],
    additive: false,
    reversible: "wholly: the function is taken out of the policy, and the policy goes with the last of them",
    idempotent_because: "a function that the policy names already is not written again",
    disrupts: "the function, its logs included; the others of its role go on",
};

/// Denies one function.
#[derive(Debug, Clone)]
pub struct QuarantineFunction {
    policy: InlinePolicy,
}

/// What stands under our policy's name.
enum Found {
    Nothing,
    Ours(BTreeSet<FunctionArn>),
    Foreign,
}

impl QuarantineFunction {
    /// With this client.
    pub fn new(iam: Client) -> Self {
        Self { policy: InlinePolicy::new(iam, FUNCTIONS_POLICY) }
    }

    async fn found(&self, role: &Target) -> Result<Found, ActionError> {
        Ok(match self.policy.document(role).await? {
            None => Found::Nothing,
            Some(document) => functions_denied(&document).map_or(Found::Foreign, Found::Ours),
        })
    }
}

/// The incident's role, and the function. A function of another account runs as another role.
fn of(order: Order<'_>) -> Result<(Target, FunctionArn), ActionError> {
    let function = target::function(order)?.unqualified();
    if *function.account() != order.incident.account {
        return Err(Veto(format!("`{function}` is in another account")).into());
    }
    match &order.incident.principal.name {
        PrincipalName::Role(role) => Ok((Target::Role(role.clone()), function)),
        PrincipalName::User(user) => Err(Veto(format!("`user/{user}` runs no function")).into()),
    }
}

#[async_trait]
impl Action for QuarantineFunction {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        Ok(self.policy.document(&of(order)?.0).await?.unwrap_or(Value::Null))
    }

    async fn apply(&self, order: Order<'_>, _: &Value) -> Result<(), ActionError> {
        let (role, function) = of(order)?;
        // What is not ours under our name is overwritten, and on record as the prior state.
        let mut functions = match self.found(&role).await? {
            Found::Ours(functions) if functions.contains(&function) => return Ok(()),
            Found::Ours(functions) => functions,
            Found::Nothing | Found::Foreign => BTreeSet::new(),
        };
        functions.insert(function);
        self.policy.put(&role, &denied_functions(&functions)).await
    }

    async fn verify(&self, order: Order<'_>, _: &Value) -> Result<Verified, ActionError> {
        let (role, function) = of(order)?;
        Ok(match self.found(&role).await? {
            Found::Ours(functions) if functions.contains(&function) => Verified::InForce,
            Found::Ours(_) => Verified::NotInForce(format!("`{FUNCTIONS_POLICY}` does not name the function")),
            Found::Nothing => Verified::NotInForce(format!("there is no inline policy `{FUNCTIONS_POLICY}`")),
            Found::Foreign => {
                Verified::NotInForce(format!("the inline policy `{FUNCTIONS_POLICY}` is not what was written"))
            }
        })
    }

    async fn revert(&self, order: Order<'_>, _: &Value) -> Result<Reverted, ActionError> {
        let (role, function) = of(order)?;
        let mut functions = match self.found(&role).await? {
            Found::Ours(functions) if functions.contains(&function) => functions,
            Found::Ours(_) | Found::Nothing => return Ok(Reverted::Restored),
            Found::Foreign => {
                let text = format!("the inline policy `{FUNCTIONS_POLICY}` is not what was written");
                return Ok(Reverted::LeftAlone(text));
            }
        };
        functions.remove(&function);
        if functions.is_empty() {
            self.policy.delete(&role).await?;
        } else {
            self.policy.put(&role, &denied_functions(&functions)).await?;
        }
        Ok(Reverted::Restored)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use percent_encoding::percent_decode_str;
    use serde_json::json;

    use super::*;
    use crate::testing::{Answer, Wire, function_order, ok, order, query_error, standing, user_order};

    const ORDERS: &str = "arn:aws:lambda:eu-west-1:111122223333:function:orders";
    const REFUNDS: &str = "arn:aws:lambda:eu-west-1:111122223333:function:refunds";

    fn action(wire: &Wire) -> QuarantineFunction {
        QuarantineFunction::new(Client::new(&wire.config()))
    }

    fn denying(arns: &[&str]) -> Value {
        denied_functions(&arns.iter().map(|arn| arn.parse().unwrap()).collect())
    }

    fn none() -> Answer {
        query_error(404, "NoSuchEntity")
    }

    fn put_ok() -> Answer {
        ok("<PutRolePolicyResponse/>")
    }

    /// The document of the last request, which puts one on the incident's role.
    fn put(wire: &Wire) -> Value {
        let request = wire.requests().pop().unwrap();
        assert!(request.contains("Action=PutRolePolicy") && request.contains("RoleName=orders-role"), "{request}");
        assert!(request.contains("PolicyName=firebreak-deny-functions"), "{request}");
        let document = request.split("PolicyDocument=").nth(1).unwrap().split('&').next().unwrap();
        serde_json::from_str(&percent_decode_str(document).decode_utf8().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn one_function_is_denied_beside_those_that_are_already() {
        let (incident, step) = function_order(ActionId::QuarantineFunction);
        for (found, expected) in [
            (none(), denying(&[ORDERS])),
            (standing(&denying(&[REFUNDS])), denying(&[ORDERS, REFUNDS])),
            (standing(&json!({"Statement": {"Effect": "Allow"}})), denying(&[ORDERS])),
        ] {
            let wire = Wire::answering([found, put_ok()]);
            action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(put(&wire), expected);
        }
        let wire = Wire::answering([standing(&denying(&[ORDERS]))]);
        action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(wire.requests().len(), 1);
    }

    #[tokio::test]
    async fn it_is_read_back() {
        let (incident, step) = function_order(ActionId::QuarantineFunction);
        for (found, holds) in [
            (standing(&denying(&[ORDERS, REFUNDS])), true),
            (standing(&denying(&[REFUNDS])), false),
            (standing(&json!({})), false),
            (none(), false),
        ] {
            let wire = Wire::answering([found]);
            let verified = action(&wire).verify(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(verified == Verified::InForce, holds, "{verified:?}");
        }
    }

    #[tokio::test]
    async fn it_is_taken_out_and_the_others_stay() {
        let (incident, step) = function_order(ActionId::QuarantineFunction);
        let wire = Wire::answering([standing(&denying(&[ORDERS, REFUNDS])), put_ok()]);
        action(&wire).revert(order(&incident, &step), &Value::Null).await.unwrap();
        assert_eq!(put(&wire), denying(&[REFUNDS]));
        let wire = Wire::answering([standing(&denying(&[ORDERS])), ok("<DeleteRolePolicyResponse/>")]);
        action(&wire).revert(order(&incident, &step), &Value::Null).await.unwrap();
        assert!(wire.requests()[1].contains("Action=DeleteRolePolicy"), "{:?}", wire.requests());
        for (found, left) in [(none(), false), (standing(&denying(&[REFUNDS])), false), (standing(&json!({})), true)] {
            let wire = Wire::answering([found]);
            let reverted = action(&wire).revert(order(&incident, &step), &Value::Null).await.unwrap();
            assert_eq!(matches!(reverted, Reverted::LeftAlone(_)), left, "{reverted:?}");
        }
    }

    #[tokio::test]
    async fn a_user_and_a_function_of_another_account_are_refused() {
        let (_, step) = function_order(ActionId::QuarantineFunction);
        let (incident, _) = user_order("ci-bot", ActionId::QuarantineUser);
        let wire = Wire::answering([]);
        let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
        assert!(matches!(error, ActionError::Withheld(_)), "{error}");
        let (mut incident, step) = function_order(ActionId::QuarantineFunction);
        incident.account = "444455556666".parse().unwrap();
        let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
        assert!(matches!(error, ActionError::Withheld(_)), "{error}");
    }

    #[tokio::test]
    async fn errors_say_what_can_be_done_about_them() {
        let (incident, step) = function_order(ActionId::QuarantineFunction);
        for (answer, transient, applied) in [
            (query_error(403, "AccessDenied"), false, false),
            (query_error(409, "LimitExceeded"), false, false),
            (query_error(400, "Throttling"), true, false),
            (Answer::Lost, true, true),
        ] {
            let wire = Wire::answering([none(), answer]);
            let error = action(&wire).apply(order(&incident, &step), &Value::Null).await.unwrap_err();
            assert_eq!((error.is_transient(), error.may_have_applied()), (transient, applied), "{error}");
        }
    }
}
