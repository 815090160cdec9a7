//! The seal of a ledger record: an HMAC over every attribute of it, its keys included.
//!
//! What is sealed cannot be edited, nor moved to another key, incident or episode, without the seal's key. A record
//! that was sealed for the same place before can be put back: `docs/decisions/0053-records-are-sealed.md`.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::ids::{hex, sha256_hex};

/// The attribute that holds the seal, as hex digits.
pub const ATTRIBUTE: &str = "seal";

/// What the key is derived from, beside the name of the table: another purpose has another text.
pub const KEY_PURPOSE: &str = "firebreak ledger seal 1";

/// What every sealed text begins with.
const PURPOSE: &[u8] = b"firebreak ledger record 1\0";

/// What a record's attributes say of where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is as one of our functions wrote it.
    Sealed,
    /// It carries no seal.
    Unsealed,
    /// It carries a seal that does not fit: it was edited, moved or forged.
    Forged,
}

/// The key of the seals.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// The key of these bytes; `None` where they are too few for one.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 32 {
            return None;
        }
        Hmac::new_from_slice(bytes).ok().map(Self)
    }

    /// The seal of a record, given as DynamoDB's JSON (`{"pk": {"S": "…"}, …}`).
    pub fn seal(&self, item: &Value) -> String {
        hex(&self.over(item).finalize().into_bytes())
    }

    /// Whether the record is as it was sealed.
    pub fn standing(&self, item: &Value) -> Standing {
        let Some(seal) = item.get(ATTRIBUTE) else { return Standing::Unsealed };
        let claimed = seal.get("S").and_then(Value::as_str).and_then(bytes);
        match claimed {
            Some(claimed) if self.over(item).verify_slice(&claimed).is_ok() => Standing::Sealed,
            _ => Standing::Forged,
        }
    }

    fn over(&self, item: &Value) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(PURPOSE);
        let mut canonical = Vec::new();
        write(&mut canonical, item, Some(ATTRIBUTE));
        mac.update(&canonical);
        mac
    }
}

/// Tells one state of a record from another, its seal included: sixteen hex digits.
pub fn digest(item: &Value) -> String {
    let mut canonical = Vec::new();
    write(&mut canonical, item, None);
    sha256_hex(&canonical).chars().take(16).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

/// One text for one value, whatever the order of its members: each part with its kind and length before it. `but` is
/// the member that is left out.
fn write(out: &mut Vec<u8>, value: &Value, but: Option<&str>) {
    let text = |out: &mut Vec<u8>, kind: u8, text: &str| {
        out.push(kind);
        out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(true) => out.push(b't'),
        Value::Bool(false) => out.push(b'f'),
        Value::Number(number) => text(out, b'd', &number.to_string()),
        Value::String(string) => text(out, b's', string),
        Value::Array(values) => {
            out.push(b'a');
            out.extend_from_slice(&(values.len() as u64).to_be_bytes());
            for value in values {
                write(out, value, None);
            }
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().filter(|(name, _)| Some(name.as_str()) != but).collect();
            members.sort_by_key(|(name, _)| name.as_str());
            out.push(b'o');
            out.extend_from_slice(&(members.len() as u64).to_be_bytes());
            for (name, value) in members {
                text(out, b's', name);
                write(out, value, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn key() -> Key {
        Key::new(&[7; 32]).unwrap()
    }

    fn record() -> Value {
        json!({
            "pk": {"S": "step#isolate-function#fb-1"}, "sk": {"S": "000001#zero-concurrency@f"}, "kind": {"S": "step"},
            "prior": {"S": "{\"reserved\":5}"}, "attempts": {"N": "1"}, "drill": {"BOOL": false},
            "target": {"M": {"function": {"S": "f"}}}, "functions": {"L": [{"S": "a"}, {"S": "b"}]},
            "severity": {"NULL": true}
        })
    }

    fn sealed(mut item: Value) -> Value {
        let seal = key().seal(&item);
        item[ATTRIBUTE] = json!({"S": seal});
        item
    }

    #[test]
    fn what_is_sealed_stands_and_what_is_not_does_not() {
        assert_eq!(key().standing(&sealed(record())), Standing::Sealed);
        assert_eq!(key().standing(&record()), Standing::Unsealed);
        assert_eq!(Key::new(&[8; 32]).unwrap().standing(&sealed(record())), Standing::Forged);
        for seal in [
            json!({"S": ""}),
            json!({"S": "é".repeat(32)}),
            json!({"S": "0".repeat(64)}),
            json!({"N": "1"}),
            json!(null),
        ] {
            let mut item = record();
            item[ATTRIBUTE] = seal.clone();
            assert_eq!(key().standing(&item), Standing::Forged, "{seal}");
        }
        assert!(Key::new(&[7; 31]).is_none(), "a short key is none");
    }

    #[test]
    fn no_attribute_can_be_edited_added_or_taken_away() {
        let whole = sealed(record());
        for (name, _) in record().as_object().unwrap() {
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(name);
            let mut edited = whole.clone();
            edited[name] = json!({"S": "edited"});
            for forged in [without, edited] {
                assert_eq!(key().standing(&forged), Standing::Forged, "`{name}`");
            }
        }
        let mut more = whole.clone();
        more["note"] = json!({"S": "unknown to every reader"});
        assert_eq!(key().standing(&more), Standing::Forged);
        let mut other_order = whole.clone();
        other_order["functions"] = json!({"L": [{"S": "b"}, {"S": "a"}]});
        assert_eq!(key().standing(&other_order), Standing::Forged);
    }

    #[test]
    fn the_order_of_members_means_nothing() {
        let reversed: Map<String, Value> = record().as_object().unwrap().clone().into_iter().rev().collect();
        assert_eq!(key().seal(&Value::Object(reversed)), key().seal(&record()));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            "[ab{}\":,\\[\\]]{0,4}".prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::btree_map("[ab]{0,2}", inner, 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn two_values_never_have_one_text(one in values(), other in values()) {
            let text = |value: &Value| {
                let mut out = Vec::new();
                write(&mut out, value, None);
                out
            };
            prop_assert_eq!(one == other, text(&one) == text(&other));
        }
    }
}
