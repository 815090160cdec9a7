//! Reads foreign JSON: members whichever case their first letter has, numbers written as strings and the
//! other way round. A member that is missing or wrong is nothing, never an error.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use crate::ids::{AccountId, Partition, Region, UniqueId};

/// A member of a JSON object, by its name in camelCase: `GetFindings` and saved findings are in PascalCase, the details
/// of resources in Security Hub's second format in `snake_case`.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    object.get(name).or_else(|| object.get(&pascal(name))).or_else(|| object.get(&snake(name)))
}

fn pascal(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| format!("{}{}", first.to_ascii_uppercase(), letters.as_str())).unwrap_or_default()
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// A member by a path of names.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| field(value, name))
}

/// A string that is not blank, by a path of names; without the spaces around it. A line break or any other white space
/// belongs to it: a name that AWS would not give is not made one here.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str().filter(|text| !text.trim().is_empty()).map(|text| text.trim_matches(' '))
}

/// The members of an array by a path of names.
pub(crate) fn list<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    at(value, path).and_then(Value::as_array).into_iter().flatten()
}

/// A number, or a number written as a string.
pub(crate) fn number(value: &Value, path: &[&str]) -> Option<f64> {
    let value = at(value, path)?;
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    number.is_finite().then_some(number)
}

/// A severity, as a number from 0 to `most`. What is next to nothing is nothing: DynamoDB takes no number as small as a
/// text can say, and a finding that cannot be recorded would be lost.
pub(crate) fn severity(value: &Value, path: &[&str], most: f64) -> Option<f64> {
    let figure = number(value, path).filter(|figure| (0.0..=most).contains(figure))?;
    Some(if figure < 0.001 { 0.0 } else { figure })
}

/// A flag, or a flag written as a string.
pub(crate) fn flag(value: &Value, path: &[&str]) -> Option<bool> {
    let value = at(value, path)?;
    value.as_bool().or_else(|| match value.as_str()?.trim() {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    })
}

/// A time: RFC 3339, the same without its zone (then UTC), or milliseconds since the epoch.
pub(crate) fn time(value: &Value, path: &[&str]) -> Option<Timestamp> {
    let value = at(value, path)?;
    if let Some(milliseconds) = value.as_i64() {
        return Timestamp::from_millisecond(milliseconds).ok();
    }
    let text = value.as_str()?.trim();
    text.parse().ok().or_else(|| format!("{text}Z").parse().ok())
}

/// An account, also where somebody wrote it as a number and its leading zeros are gone.
pub(crate) fn account(value: &Value, path: &[&str]) -> Option<AccountId> {
    match at(value, path)? {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => format!("{:012}", number.as_u64()?).parse().ok(),
        _ => None,
    }
}

/// An address by a path of names.
pub(crate) fn address(value: &Value, path: &[&str]) -> Option<IpAddr> {
    text(value, path)?.parse().ok()
}

/// `AROA…:session`, `AIDA…`, or something else: the unique id and the session's name.
pub(crate) fn principal_id(text: &str) -> (Option<UniqueId>, Option<&str>) {
    match text.split_once(':') {
        Some((id, session)) => (id.parse().ok(), Some(session)),
        None => (text.parse().ok(), None),
    }
}

/// The partition that a Region lies in.
pub(crate) fn partition_of(region: &Region) -> Partition {
    match region.as_str() {
        r if r.starts_with("cn-") => Partition::AwsCn,
        r if r.starts_with("us-gov-") => Partition::AwsUsGov,
        _ => Partition::Aws,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_read_whichever_way_they_are_written() {
        let camel = json!({"accountId": "111122223333", "severity": 8, "archived": true, "at": "2026-01-01T00:00:00Z"});
        let pascal = json!({"AccountId": 111_122_223_333_u64, "Severity": " 8.0 ", "Archived": "true",
                            "At": 1_767_225_600_000_u64});
        for value in [camel, pascal] {
            assert_eq!(account(&value, &["accountId"]).map(|a| a.to_string()).as_deref(), Some("111122223333"));
            assert_eq!(number(&value, &["severity"]), Some(8.0));
            assert_eq!(flag(&value, &["archived"]), Some(true));
            assert_eq!(time(&value, &["at"]).map(|t| t.to_string()).as_deref(), Some("2026-01-01T00:00:00Z"));
        }
        let zeros = json!({"accountId": 12_345_678_901_u64});
        assert_eq!(account(&zeros, &["accountId"]).map(|a| a.to_string()).as_deref(), Some("012345678901"));
    }

    #[test]
    fn a_severity_is_a_figure_that_the_ledger_takes() {
        let severity = |figure: serde_json::Value| severity(&json!({"severity": figure}), &["severity"], 10.0);
        assert_eq!([8.5, 10.0, 0.5].map(|figure| severity(json!(figure))), [Some(8.5), Some(10.0), Some(0.5)]);
        for next_to_nothing in [json!(1e-300), json!("1e-300"), json!(-0.0), json!(0)] {
            assert_eq!(severity(next_to_nothing).map(f64::to_bits), Some(0.0_f64.to_bits()));
        }
        for wrong in [json!(10.5), json!(-1), json!("1e999"), json!("NaN"), json!([8]), json!(null)] {
            assert_eq!(severity(wrong), None);
        }
    }

    #[test]
    fn a_line_break_is_part_of_a_name() {
        let value = json!({"a": " orders ", "b": "orders\n", "c": "\u{a0}orders", "d": " \t\n"});
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| text(&value, &[name])),
            [Some("orders"), Some("orders\n"), Some("\u{a0}orders"), None]
        );
    }

    #[test]
    fn what_is_wrong_is_nothing() {
        let wrong = json!({"accountId": "1234567891234", "severity": "high", "archived": 1, "at": [], "name": "  "});
        assert_eq!(account(&wrong, &["accountId"]), None);
        assert_eq!(number(&wrong, &["severity"]), None);
        assert_eq!(flag(&wrong, &["archived"]), None);
        assert_eq!(time(&wrong, &["at"]), None);
        assert_eq!(text(&wrong, &["name"]), None);
        assert_eq!(text(&wrong, &["name", "more"]), None);
        assert_eq!(list(&wrong, &["at", "x"]).count(), 0);
    }
}
