//! What a step acts on, as the action needs it: a step on something else is refused.

use firebreak_model::ids::FunctionArn;
use firebreak_model::plan::Target;
use firebreak_model::principal::PrincipalName;

use crate::action::{ActionError, Order};

fn refused<T>(order: Order<'_>, wanted: &str) -> Result<T, ActionError> {
    Err(ActionError::Unreadable { target: order.step.target.to_string(), problem: format!("it is no {wanted}") })
}

/// The role that the step is on.
pub(super) fn role(order: Order<'_>) -> Result<&str, ActionError> {
    match &order.step.target {
        Target::Role(role) => Ok(role.as_str()),
        _ => refused(order, "role"),
    }
}

/// The user that the step is on.
pub(super) fn user(order: Order<'_>) -> Result<&str, ActionError> {
    match &order.step.target {
        Target::User(user) => Ok(user.as_str()),
        _ => refused(order, "user"),
    }
}

/// The principal that the step is on.
pub(super) fn principal(order: Order<'_>) -> Result<PrincipalName, ActionError> {
    match &order.step.target {
        Target::Role(role) => Ok(PrincipalName::Role(role.clone())),
        Target::User(user) => Ok(PrincipalName::User(user.clone())),
        Target::Function(_) => refused(order, "principal"),
    }
}

/// The function that the step is on.
pub(super) fn function(order: Order<'_>) -> Result<&FunctionArn, ActionError> {
    match &order.step.target {
        Target::Function(function) => Ok(function),
        _ => refused(order, "function"),
    }
}
