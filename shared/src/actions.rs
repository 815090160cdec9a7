//! The containment actions: one file each, named `<service>_<verb>_<noun>`.

mod iam_quarantine_role;

pub use iam_quarantine_role::QuarantineRole;

use firebreak_model::action::ActionId;

use crate::action::Action;

/// The action on a principal of that id.
pub fn for_principal(id: ActionId, iam: &aws_sdk_iam::Client, deny_policy_arn: &str) -> Option<Box<dyn Action>> {
    match id {
        ActionId::QuarantineRole => Some(Box::new(QuarantineRole::new(iam.clone(), deny_policy_arn.to_owned()))),
        _ => None,
    }
}

/// The action on a function of that id, for the Region that `lambda` calls.
pub fn for_function(id: ActionId, lambda: &aws_sdk_lambda::Client, stack: &str) -> Option<Box<dyn Action>> {
    let _ = (id, lambda, stack);
    None
}
