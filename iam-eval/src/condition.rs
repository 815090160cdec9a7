//! Conditions: an operator, a key, the values of the policy.

use jiff::Timestamp;
use serde_json::Value;

use crate::pattern;
use crate::policy::{Unreadable, texts};
use crate::request::Request;

/// How one value of the request is compared with one of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equals,
    EqualsIgnoreCase,
    Like,
    Arn,
    Bool,
    Number(Order),
    Date(Order),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

/// What is made of several values of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    /// No set operator: any of them.
    Plain,
    ForAny,
    ForAll,
}

/// One operator on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    /// Whether the key is absent.
    Null(bool),
    Compare {
        comparison: Comparison,
        negated: bool,
        if_exists: bool,
        quantifier: Quantifier,
        values: Vec<String>,
    },
}

impl Condition {
    /// Every condition of a statement; all must hold.
    pub(crate) fn read(block: &Value) -> Result<Vec<Self>, Unreadable> {
        let mut conditions = Vec::new();
        for (operator, keys) in block.as_object().ok_or_else(|| Unreadable::at("Condition", block))? {
            for (key, values) in keys.as_object().ok_or_else(|| Unreadable::at(operator, keys))? {
                let values = texts(key, values)?;
                conditions.push(Self { key: key.clone(), test: Test::read(operator, values)? });
            }
        }
        Ok(conditions)
    }

    pub(crate) fn holds(&self, request: &Request) -> bool {
        let found = request.key(&self.key);
        match &self.test {
            Test::Null(absent) => found.is_none() == *absent,
            Test::Compare { comparison, negated, if_exists, quantifier, values } => {
                // A key with no values is as good as absent.
                let Some(found) = found.filter(|found| !found.is_empty()) else {
                    return match quantifier {
                        Quantifier::ForAll => true,
                        Quantifier::ForAny => *if_exists,
                        Quantifier::Plain => *if_exists || *negated,
                    };
                };
                let fits = |one: &String| values.iter().any(|value| comparison.holds(value, one)) != *negated;
                match quantifier {
                    Quantifier::ForAll => found.iter().all(fits),
                    // Several values without a set operator: as long as none contradicts a negated one.
                    Quantifier::Plain if *negated => found.iter().all(fits),
                    Quantifier::Plain | Quantifier::ForAny => found.iter().any(fits),
                }
            }
        }
    }
}

impl Test {
    fn read(operator: &str, values: Vec<String>) -> Result<Self, Unreadable> {
        let unknown = || Unreadable::Operator(operator.to_owned());
        let name = operator.to_ascii_lowercase();
        if name == "null" {
            let [value] = values.as_slice() else { return Err(unknown()) };
            return value.parse().map(Self::Null).map_err(|_| unknown());
        }
        let (quantifier, name) = match name.split_once(':') {
            Some(("forallvalues", rest)) => (Quantifier::ForAll, rest),
            Some(("foranyvalue", rest)) => (Quantifier::ForAny, rest),
            Some(_) => return Err(unknown()),
            None => (Quantifier::Plain, name.as_str()),
        };
        let (if_exists, name) = match name.strip_suffix("ifexists") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let (comparison, negated) = match name {
            "stringequals" => (Comparison::Equals, false),
            "stringnotequals" => (Comparison::Equals, true),
            "stringequalsignorecase" => (Comparison::EqualsIgnoreCase, false),
            "stringnotequalsignorecase" => (Comparison::EqualsIgnoreCase, true),
            "stringlike" => (Comparison::Like, false),
            "stringnotlike" => (Comparison::Like, true),
            // The two are the same: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
            "arnequals" | "arnlike" => (Comparison::Arn, false),
            "arnnotequals" | "arnnotlike" => (Comparison::Arn, true),
            "bool" => (Comparison::Bool, false),
            "numericequals" => (Comparison::Number(Order::Equal), false),
            "numericnotequals" => (Comparison::Number(Order::Equal), true),
            "numericlessthan" => (Comparison::Number(Order::Less), false),
            "numericlessthanequals" => (Comparison::Number(Order::LessOrEqual), false),
            "numericgreaterthan" => (Comparison::Number(Order::Greater), false),
            "numericgreaterthanequals" => (Comparison::Number(Order::GreaterOrEqual), false),
            "dateequals" => (Comparison::Date(Order::Equal), false),
            "datenotequals" => (Comparison::Date(Order::Equal), true),
            "datelessthan" => (Comparison::Date(Order::Less), false),
            "datelessthanequals" => (Comparison::Date(Order::LessOrEqual), false),
            "dategreaterthan" => (Comparison::Date(Order::Greater), false),
            "dategreaterthanequals" => (Comparison::Date(Order::GreaterOrEqual), false),
            _ => return Err(unknown()),
        };
        Ok(Self::Compare { comparison, negated, if_exists, quantifier, values })
    }
}

impl Comparison {
    fn holds(self, policy: &str, request: &str) -> bool {
        match self {
            Self::Equals => policy == request,
            Self::EqualsIgnoreCase | Self::Bool => policy.eq_ignore_ascii_case(request),
            Self::Like => pattern::matches(policy, request),
            Self::Arn => pattern::arn_matches(policy, request),
            Self::Number(order) => {
                policy.parse::<f64>().ok().zip(request.parse().ok()).is_some_and(|(p, r)| order.holds(&r, &p))
            }
            Self::Date(order) => date(policy).zip(date(request)).is_some_and(|(p, r)| order.holds(&r, &p)),
        }
    }
}

impl Order {
    fn holds<T: PartialOrd>(self, request: &T, policy: &T) -> bool {
        match self {
            Self::Less => request < policy,
            Self::LessOrEqual => request <= policy,
            Self::Equal => request == policy,
            Self::GreaterOrEqual => request >= policy,
            Self::Greater => request > policy,
        }
    }
}

/// ISO 8601, or seconds since 1970.
fn date(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| Timestamp::from_second(text.parse().ok()?).ok())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::request::Caller;

    /// Whether a condition on the key `k` holds where the request has these values, or lacks the key.
    fn holds(operator: &str, policy: &Value, request: Option<&[&str]>) -> bool {
        let asked = Request::new(Caller::Service("a".to_owned()), "s3:GetObject", "*");
        let asked = match request {
            Some(values) => asked.with("K", values.iter().copied()),
            None => asked,
        };
        let conditions = Condition::read(&json!({operator: {"k": policy}})).unwrap();
        conditions.iter().all(|condition| condition.holds(&asked))
    }

    #[test]
    fn one_value_is_compared_by_its_operator() {
        for (operator, policy, request, expected) in [
            ("StringEquals", json!("a"), "a", true),
            ("StringEquals", json!("a"), "A", false),
            ("StringEquals", json!("a*"), "ab", false),
            ("StringEquals", json!(["a", "b"]), "b", true),
            ("StringNotEquals", json!(["a", "b"]), "b", false),
            ("StringNotEquals", json!(["a", "b"]), "c", true),
            ("StringEqualsIgnoreCase", json!("a"), "A", true),
            ("StringNotEqualsIgnoreCase", json!("a"), "A", false),
            ("StringLike", json!("a*"), "ab", true),
            ("StringNotLike", json!(["a*", "b*"]), "bc", false),
            ("stringlike", json!("a*"), "ab", true),
            ("ArnLike", json!("arn:*:iam::*:role/a"), "arn:aws:iam::1:role/a", true),
            ("ArnEquals", json!("arn:*:iam::*:role/a"), "arn:aws:iam::1:role/a", true),
            ("ArnNotLike", json!("arn:*:iam::*:role/a"), "arn:aws:iam::1:role/b", true),
            ("ArnLike", json!("arn:*"), "arn:aws:iam::1:role/a", false),
            ("Bool", json!(true), "true", true),
            ("Bool", json!("false"), "true", false),
            ("NumericLessThan", json!(300), "299", true),
            ("NumericLessThan", json!("300"), "300", false),
            ("NumericGreaterThanEquals", json!("300"), "300", true),
            ("NumericEquals", json!("3"), "3.0", true),
            ("NumericNotEquals", json!("3"), "4", true),
            ("NumericLessThanEquals", json!("3"), "many", false),
            ("DateLessThan", json!("2026-01-01T00:00:00Z"), "2025-12-31T23:59:59Z", true),
            ("DateLessThan", json!("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00Z", false),
            ("DateGreaterThan", json!("1767225600"), "2026-01-01T00:00:01Z", true),
            ("DateEquals", json!("1767225600"), "2026-01-01T00:00:00Z", true),
            ("DateNotEquals", json!("1767225600"), "2026-01-01T00:00:00Z", false),
            ("DateLessThanEquals", json!("1767225600"), "2026-01-01T00:00:00Z", true),
            ("DateGreaterThanEquals", json!("1767225600"), "2025-01-01T00:00:00Z", false),
        ] {
            assert_eq!(holds(operator, &policy, Some(&[request])), expected, "{operator} {policy} {request}");
        }
    }

    #[test]
    fn a_key_that_is_absent_satisfies_what_it_cannot_contradict() {
        for (operator, expected) in [
            ("StringEquals", false),
            ("StringEqualsIfExists", true),
            ("StringNotEquals", true),
            ("ArnNotLike", true),
            ("ArnLikeIfExists", true),
            ("DateLessThan", false),
            ("Bool", false),
            ("BoolIfExists", true),
            ("ForAllValues:StringEquals", true),
            ("ForAnyValue:StringEquals", false),
            ("ForAnyValue:StringNotEquals", false),
            ("ForAnyValue:StringEqualsIfExists", true),
        ] {
            let value = if operator.starts_with("Date") { json!("2026-01-01T00:00:00Z") } else { json!("true") };
            assert_eq!(holds(operator, &value, None), expected, "{operator}, absent");
            assert_eq!(holds(operator, &value, Some(&[])), expected, "{operator}, empty");
        }
        assert!(holds("Null", &json!("true"), None));
        assert!(!holds("Null", &json!(false), None));
        assert!(holds("Null", &json!("false"), Some(&["a"])));
    }

    #[test]
    fn several_values_are_all_or_any_of_them() {
        for (operator, request, expected) in [
            ("ForAllValues:StringEquals", &["a", "b"][..], true),
            ("ForAllValues:StringEquals", &["a", "c"], false),
            ("ForAnyValue:StringEquals", &["c", "b"], true),
            ("ForAnyValue:StringEquals", &["c", "d"], false),
            ("ForAllValues:StringNotEquals", &["c", "d"], true),
            ("ForAllValues:StringNotEquals", &["c", "a"], false),
            ("ForAnyValue:StringNotEquals", &["a", "c"], true),
            ("ForAnyValue:StringNotEquals", &["a", "b"], false),
        ] {
            assert_eq!(holds(operator, &json!(["a", "b"]), Some(request)), expected, "{operator} {request:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (operator, value) in [
            ("StringEqual", json!("a")),
            ("ForSomeValues:StringEquals", json!("a")),
            ("IpAddress", json!("10.0.0.0/8")),
            ("Null", json!("perhaps")),
            ("StringEquals", json!("${aws:username}")),
            ("StringEquals", json!({"a": "b"})),
        ] {
            assert!(Condition::read(&json!({operator: {"k": value}})).is_err(), "{operator}");
        }
    }
}
