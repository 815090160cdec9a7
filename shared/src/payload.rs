//! The payload of an invocation, as it arrives: JSON that may still be more than JSON's readers take.
//!
//! Lambda lets through whatever is JSON by its grammar: nested without end, numbers that no type holds, halves of
//! surrogate pairs. A function that had the runtime read it would never see such an event, and could not record it.

use firebreak_model::ids::shown_id;
use firebreak_model::trigger::Malformed;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::Failure;

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.reason)
    }
}

/// Reads a payload.
pub fn read(payload: &RawValue) -> Result<Value, Malformed> {
    serde_json::from_str(payload.get()).map_err(|error| Malformed {
        id: shown_id(&envelope_id(payload).unwrap_or_default()),
        reason: format!("the payload cannot be read: {error}"),
    })
}

/// The id of the envelope, where that much can be read: what lies deeper is passed over.
fn envelope_id(payload: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        id: String,
    }
    serde_json::from_str::<Envelope>(payload.get()).ok().map(|envelope| envelope.id)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn raw(text: String) -> Box<RawValue> {
        RawValue::from_string(text).unwrap()
    }

    #[test]
    fn what_cannot_be_read_is_malformed_with_the_id_of_its_envelope() {
        let deep = format!("{}0{}", "[".repeat(100_000), "]".repeat(100_000));
        for detail in [deep.as_str(), "1e999", r#""\ud800""#] {
            let malformed = read(&raw(format!(r#"{{"id": "e1", "detail": {detail}}}"#))).unwrap_err();
            assert_eq!(malformed.id, "e1");
            assert!(malformed.reason.starts_with("the payload cannot be read: "), "{}", malformed.reason);
            assert_eq!(read(&raw(detail.to_owned())).unwrap_err().id, "");
        }
        assert_eq!(read(&raw(r#"{"id": "e1"}"#.to_owned())).unwrap(), serde_json::json!({"id": "e1"}));
    }
}
