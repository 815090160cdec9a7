//! The function that a step acts on: read, and held against the guard rails, before anything is changed.
//!
//! A namesake, one that runs as another role than the incident's, and Firebreak's own are not touched.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use firebreak_model::guard::{Rails, Veto};
use firebreak_model::ids::{FunctionArn, RoleArn};
use firebreak_model::playbook::Protected;
use firebreak_model::principal::{Home, PrincipalName};

use super::target::function;
use crate::action::{ActionError, Order};

/// The functions of one Region, and the stack whose own are not among them.
#[derive(Debug, Clone)]
pub(super) struct Functions {
    /// The client of the Region.
    pub(super) client: Client,
    stack: String,
}

impl Functions {
    pub(super) fn new(client: Client, stack: String) -> Self {
        Self { client, stack }
    }

    /// The configuration of the step's function, once the guard rails let us touch it.
    pub(super) async fn guarded(&self, order: Order<'_>) -> Result<GetFunctionConfigurationOutput, ActionError> {
        let arn = function(order)?;
        let home = Home { partition: arn.partition(), account: order.incident.account.clone() };
        let rails =
            Rails { home: &home, stack: &self.stack, protected: &Protected::default(), deployers: &[], source: None };
        rails.on_function(arn)?;
        let configuration = self.configuration(arn).await?;
        runs_as_the_principal(order, arn, configuration.role().unwrap_or_default())?;
        Ok(configuration)
    }

    /// The configuration as it stands.
    pub(super) async fn configuration(&self, arn: &FunctionArn) -> Result<GetFunctionConfigurationOutput, ActionError> {
        let get = self.client.get_function_configuration().function_name(arn.to_string());
        get.send().await.map_err(|e| ActionError::of("lambda:GetFunctionConfiguration", &arn.to_string(), e))
    }
}

/// A user has no functions: those that a person names for a user are taken at their word.
fn runs_as_the_principal(order: Order<'_>, arn: &FunctionArn, role: &str) -> Result<(), Veto> {
    let principal = &order.incident.principal;
    let PrincipalName::Role(name) = &principal.name else { return Ok(()) };
    let same = role.parse::<RoleArn>().is_ok_and(|role| role.name() == name && *role.account() == principal.account);
    if same {
        return Ok(());
    }
    Err(Veto(format!(
        "`{}` runs as `{}`, not as `{}`: it is not touched",
        arn.name(),
        firebreak_model::ids::shown(role),
        principal.name
    )))
}

/// The version or alias that an ARN in an answer of Lambda names; `None` for the function itself.
pub(super) fn qualifier(arn: &str) -> Option<String> {
    exact_qualifier(arn).filter(|qualifier| qualifier != "$LATEST")
}

/// The same as Lambda writes it, `$LATEST` included.
pub(super) fn exact_qualifier(arn: &str) -> Option<String> {
    let arn: FunctionArn = arn.parse().ok()?;
    arn.qualifier().map(str::to_owned)
}

/// A qualifier, or its absence, to be read by a person.
pub(super) fn shown(qualifier: Option<&str>) -> String {
    qualifier.map_or_else(|| "the function itself".to_owned(), |name| format!("`{name}`"))
}

#[cfg(test)]
pub(super) mod testing {
    //! What the tests of the actions on functions share.

    use super::Functions;
    use crate::testing::{Answer, Wire, ok};

    /// The function of [`crate::testing::function_order`], as a path holds it.
    pub(crate) const PATH: &str = "arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Aorders";
    /// The same as text.
    pub(crate) const ARN: &str = "arn:aws:lambda:eu-west-1:111122223333:function:orders";

    /// The read that every guarded step begins with.
    pub(crate) fn get_configuration() -> String {
        format!("GET /2015-03-31/functions/{PATH}/configuration")
    }

    /// Its answer: the function runs as the incident's role, under a path.
    pub(crate) fn configuration() -> Answer {
        ok(r#"{"Role": "arn:aws:iam::111122223333:role/team/orders-role", "RevisionId": "r1"}"#)
    }

    pub(crate) fn functions(wire: &Wire) -> Functions {
        Functions::new(aws_sdk_lambda::Client::new(&wire.config()), "firebreak".to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::action::ActionId;
    use firebreak_model::plan::{Step, Target};

    use super::testing::{configuration, functions, get_configuration};
    use super::*;
    use crate::testing::{Answer, Wire, function_order, json_error, ok, order, user_order};

    #[tokio::test]
    async fn the_principals_function_is_let_through_whatever_the_path_of_its_role() {
        let wire = Wire::answering([configuration()]);
        let (incident, step) = function_order(ActionId::ZeroConcurrency);
        functions(&wire).guarded(order(&incident, &step)).await.unwrap();
        assert_eq!(wire.requests(), [get_configuration()]);
    }

    #[tokio::test]
    async fn a_function_that_runs_as_another_role_is_not_touched() {
        for role in [
            "arn:aws:iam::111122223333:role/other-role",
            "arn:aws:iam::444455556666:role/orders-role",
            "arn:aws:iam::111122223333:user/orders-role",
            "",
        ] {
            let wire = Wire::answering([ok(format!(r#"{{"Role": "{role}"}}"#))]);
            let (incident, step) = function_order(ActionId::ZeroConcurrency);
            let error = functions(&wire).guarded(order(&incident, &step)).await.unwrap_err();
            assert!(matches!(error, ActionError::Withheld(_)), "{role}: {error}");
        }
    }

    #[tokio::test]
    async fn a_function_of_firebreak_or_of_another_account_is_not_even_read() {
        for arn in [
            "arn:aws:lambda:eu-west-1:111122223333:function:firebreak-revoke-sessions",
            "arn:aws:lambda:eu-west-1:444455556666:function:orders",
        ] {
            let wire = Wire::answering([]);
            let (incident, step) = function_order(ActionId::ZeroConcurrency);
            let step = Step { target: Target::Function(arn.parse().unwrap()), ..step };
            let error = functions(&wire).guarded(order(&incident, &step)).await.unwrap_err();
            assert!(matches!(error, ActionError::Withheld(_)), "{arn}: {error}");
            assert_eq!(wire.requests(), [""; 0]);
        }
    }

    #[tokio::test]
    async fn a_function_named_for_a_user_is_let_through() {
        let wire = Wire::answering([ok(r#"{"Role": "arn:aws:iam::111122223333:role/any"}"#)]);
        let (incident, _) = user_order("ci-bot", ActionId::QuarantineUser);
        let (_, step) = function_order(ActionId::ZeroConcurrency);
        functions(&wire).guarded(order(&incident, &step)).await.unwrap();
    }

    #[tokio::test]
    async fn a_step_on_a_principal_is_refused() {
        let (incident, step) = user_order("ci-bot", ActionId::QuarantineUser);
        let error = functions(&Wire::answering([])).guarded(order(&incident, &step)).await.unwrap_err();
        assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_function_that_cannot_be_read_says_why() {
        for (answer, gone, transient) in [
            (json_error(404, "ResourceNotFoundException"), true, false),
            (json_error(403, "AccessDeniedException"), false, false),
            (json_error(429, "TooManyRequestsException"), false, true),
            (Answer::Lost, false, true),
        ] {
            let wire = Wire::answering([answer.clone()]);
            let (incident, step) = function_order(ActionId::ZeroConcurrency);
            let error = functions(&wire).guarded(order(&incident, &step)).await.unwrap_err();
            assert_eq!(matches!(error, ActionError::Gone { .. }), gone, "{answer:?}: {error}");
            assert_eq!(error.is_transient(), transient, "{answer:?}: {error}");
        }
    }

    #[test]
    fn the_latest_version_is_the_function_itself() {
        assert_eq!(qualifier(&format!("{}:live", super::testing::ARN)).as_deref(), Some("live"));
        assert_eq!(qualifier(&format!("{}:$LATEST", super::testing::ARN)), None);
        assert_eq!(qualifier(super::testing::ARN), None);
    }
}
