//! The recorded prior state, as the action that recorded it has it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::action::{ActionError, Order};

/// The state as it goes on record.
pub(super) fn record<T: Serialize>(order: Order<'_>, state: &T) -> Result<Value, ActionError> {
    serde_json::to_value(state).map_err(|error| unreadable(order, "cannot be recorded", &error))
}

/// The state that was recorded. What cannot be read is an error: nothing is changed on a guess.
pub(super) fn read<T: DeserializeOwned>(order: Order<'_>, prior: &Value) -> Result<T, ActionError> {
    T::deserialize(prior).map_err(|error| unreadable(order, "cannot be read: nothing is changed", &error))
}

fn unreadable(order: Order<'_>, what: &str, error: &serde_json::Error) -> ActionError {
    ActionError::Unreadable {
        target: order.step.target.to_string(),
        problem: format!("its prior state {what}: {error}"),
    }
}
