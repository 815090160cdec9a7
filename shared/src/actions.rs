//! The containment actions: one file each, named `<service>_<verb>_<noun>`.

#[cfg(test)]
mod hollow;
mod iam_bound_role;
mod iam_bound_user;
mod iam_boundary;
mod iam_deactivate_access_keys;
pub(crate) mod iam_deny_policy;
mod iam_quarantine_function;
mod iam_quarantine_role;
mod iam_quarantine_user;
mod iam_revoke_chained_sessions;
mod iam_revoke_sessions;
mod inline_policy;
mod lambda_clear_destinations;
mod lambda_close_function_urls;
mod lambda_disable_event_sources;
mod lambda_provisioned;
mod lambda_public_statement;
mod lambda_recycle_environments;
mod lambda_remove_public_statements;
mod lambda_target;
mod lambda_zero_concurrency;
mod prior;
mod several;
mod target;

pub use iam_bound_role::BoundRole;
pub use iam_bound_user::BoundUser;
pub use iam_deactivate_access_keys::DeactivateAccessKeys;
pub use iam_quarantine_function::QuarantineFunction;
pub use iam_quarantine_role::QuarantineRole;
pub use iam_quarantine_user::QuarantineUser;
pub use iam_revoke_chained_sessions::RevokeChainedSessions;
pub use iam_revoke_sessions::RevokeSessions;
pub use lambda_clear_destinations::ClearDestinations;
pub use lambda_close_function_urls::CloseFunctionUrls;
pub use lambda_disable_event_sources::DisableEventSources;
pub(crate) use lambda_disable_event_sources::read_again;
pub use lambda_recycle_environments::RecycleEnvironments;
pub use lambda_remove_public_statements::RemovePublicStatements;
pub use lambda_zero_concurrency::ZeroConcurrency;

use firebreak_model::action::ActionId;

use crate::action::{Action, ActionRecord};

/// The records of all actions, in the order of their ids.
pub static RECORDS: &[&ActionRecord] = &[
    &iam_quarantine_role::RECORD,
    &iam_quarantine_user::RECORD,
    &iam_bound_role::RECORD,
    &iam_bound_user::RECORD,
    &iam_deactivate_access_keys::RECORD,
    &iam_revoke_sessions::RECORD,
    &iam_revoke_chained_sessions::RECORD,
    &iam_quarantine_function::RECORD,
    &lambda_zero_concurrency::RECORD,
    &lambda_disable_event_sources::RECORD,
    &lambda_close_function_urls::RECORD,
    &lambda_remove_public_statements::RECORD,
    &lambda_clear_destinations::RECORD,
    &lambda_recycle_environments::RECORD,
];

/// The action on a principal of that id; `None` for an action on something else.
pub fn for_principal(id: ActionId, iam: &aws_sdk_iam::Client, deny_policy_arn: &str) -> Option<Box<dyn Action>> {
    let iam = iam.clone();
    match id {
        ActionId::QuarantineRole => Some(Box::new(QuarantineRole::new(iam, deny_policy_arn.to_owned()))),
        ActionId::QuarantineUser => Some(Box::new(QuarantineUser::new(iam, deny_policy_arn.to_owned()))),
        ActionId::BoundRole => Some(Box::new(BoundRole::new(iam, deny_policy_arn))),
        ActionId::BoundUser => Some(Box::new(BoundUser::new(iam, deny_policy_arn))),
        ActionId::DeactivateAccessKeys => Some(Box::new(DeactivateAccessKeys::new(iam))),
        ActionId::RevokeSessions => Some(Box::new(RevokeSessions::new(iam))),
        ActionId::QuarantineFunction => Some(Box::new(QuarantineFunction::new(iam))),
        _ => None,
    }
}

/// The action on a function of that id, for the Region that `lambda` calls; `None` for an action on something else.
pub fn for_function(id: ActionId, lambda: &aws_sdk_lambda::Client, stack: &str) -> Option<Box<dyn Action>> {
    let (lambda, stack) = (lambda.clone(), stack.to_owned());
    match id {
        ActionId::ZeroConcurrency => Some(Box::new(ZeroConcurrency::new(lambda, stack))),
        ActionId::DisableEventSources => Some(Box::new(DisableEventSources::new(lambda, stack))),
        ActionId::CloseFunctionUrls => Some(Box::new(CloseFunctionUrls::new(lambda, stack))),
        ActionId::RemovePublicStatements => Some(Box::new(RemovePublicStatements::new(lambda, stack))),
        ActionId::ClearDestinations => Some(Box::new(ClearDestinations::new(lambda, stack))),
        ActionId::RecycleEnvironments => Some(Box::new(RecycleEnvironments::new(lambda, stack))),
        _ => None,
    }
}
