//! What becomes of an action on several things: each is tried, and partial success is failure.

use crate::action::{ActionError, Reverted, Verified};

/// Both, and of two failures the one that is worth another try.
pub(super) fn both(first: Result<(), ActionError>, second: Result<(), ActionError>) -> Result<(), ActionError> {
    match (first, second) {
        (Err(first), Err(second)) if second.is_transient() && !first.is_transient() => Err(second),
        (Err(first), _) => Err(first),
        (Ok(()), second) => second,
    }
}

/// What is gone needs no change.
pub(super) fn unless_gone(result: Result<(), ActionError>) -> Result<(), ActionError> {
    match result {
        Err(ActionError::Gone { .. }) => Ok(()),
        other => other,
    }
}

/// In force where nothing was found that speaks against it.
pub(super) fn in_force_unless(found: &[String]) -> Verified {
    if found.is_empty() { Verified::InForce } else { Verified::NotInForce(found.join("; ")) }
}

/// Restored where nothing had to be left alone.
pub(super) fn restored_unless(left: &[String]) -> Reverted {
    if left.is_empty() { Reverted::Restored } else { Reverted::LeftAlone(left.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(transient: bool) -> Result<(), ActionError> {
        let (call, target) = ("c", String::new());
        let source = "s".into();
        Err(if transient {
            ActionError::Busy { call, target, source }
        } else {
            ActionError::Denied { call, target, source }
        })
    }

    #[test]
    fn of_two_failures_the_one_worth_another_try_is_told() {
        for (first, second, transient) in [
            (Ok(()), Ok(()), None),
            (failed(false), Ok(()), Some(false)),
            (Ok(()), failed(false), Some(false)),
            (failed(false), failed(true), Some(true)),
            (failed(true), failed(false), Some(true)),
            (failed(false), failed(false), Some(false)),
        ] {
            assert_eq!(both(first, second).err().map(|error| error.is_transient()), transient);
        }
    }
}
