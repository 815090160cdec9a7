//! Well-formed events, and what an attacker or an accident makes of them.

use std::path::Path;
use std::{fs, iter};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Every sample event, by its file's name.
pub(crate) fn seeds() -> Vec<(String, String)> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let mut files: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let read = |file: &Path| fs::read_to_string(file).unwrap();
    files.iter().map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), read(file))).collect()
}

/// Texts that mean something to a policy, a path, a shell, a terminal, a log or a reader.
pub(crate) const TEXTS: &[&str] = &[
    "",
    " ",
    "\n",
    "\0",
    "null",
    "*",
    "?",
    "orders?",
    "order*",
    "${aws:username}",
    "${aws:PrincipalTag/x}",
    "orders-role\n",
    "orders-role\0",
    "orders-role\r\nAction: *",
    "\u{a0}orders-role",
    "orders\"},{\"Effect\":\"Allow",
    "orders' OR '1'='1",
    "$(id)`id`;&|",
    "../../break-glass/admin",
    "/etc/passwd",
    "a/../b",
    "orders%2f..%2f",
    "\u{430}rders-role",
    "or\u{200b}ders",
    "\u{202e}sredro",
    "orders\u{301}",
    "\u{ff4f}rders",
    "\u{1f525}",
    "\u{1b}[2J\u{7}",
    "-rf",
    "file:///etc/passwd",
    "root",
    "AWSServiceRoleForLambda",
    "AWSReservedSSO_Admin_0123456789abcdef",
    "OrganizationAccountAccessRole",
    "arn:aws:iam::111122223333:root",
    "arn:aws:iam::111122223333:role/",
    "arn:aws:iam::111122223333:role/firebreak/firebreak-quarantine-principal",
    "arn:aws:iam::111122223333:role/aws-service-role/x.amazonaws.com/AWSServiceRoleForX",
    "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_x",
    "arn:aws:iam::111122223333:role/../break-glass/admin",
    "arn:aws:iam::111122223333:role/${aws:username}",
    "arn:aws:iam::111122223333:role/orders:extra:colons",
    "arn:aws:iam::444455556666:role/orders-role",
    "arn:aws-cn:iam::111122223333:role/orders-role",
    "arn:aws-us-gov:iam::111122223333:user/ana",
    "arn:aws-iso:iam::111122223333:role/orders-role",
    "arn:aws:iam:eu-west-1:111122223333:role/orders-role",
    "arn:aws:sts::111122223333:assumed-role/orders-role/session/more",
    "arn:aws:lambda:eu-west-1:111122223333:function:orders:a:b",
    "arn:aws:lambda:eu-west-1:111122223333:function:*",
    "arn:aws:lambda:evil.example/:111122223333:function:orders",
    "arn:::::",
    "::::::::",
    "AROAEXAMPLE000000001:\u{1b}[2J",
    "AROA:session",
    "AIDA*",
    "ASIA",
    "111122223333",
    "0111122223333",
    "-1",
    "1e999",
    "NaN",
    "-009999-01-02T01:59:59Z",
    "9999-12-30T22:00:00Z",
    "{\"sample\":true}",
    "GeneratedFindingUserName",
    "Backdoor:Lambda/C&CActivity.B",
    "AttackSequence:IAM/CompromisedCredentials",
];

pub(crate) fn hostile_text() -> impl Strategy<Value = String> {
    let written = prop::sample::select(TEXTS).prop_map(str::to_owned);
    let long = prop::sample::select(vec!["a", "\u{e9}", "*", "/", ":", "\""]).prop_map(|text| text.repeat(10_000));
    prop_oneof![12 => written, 1 => long, 2 => "\\PC{0,80}", 1 => ".{0,80}"]
}

/// A value of a type that nobody expects.
fn hostile_value() -> impl Strategy<Value = Value> {
    let odd = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(1e-300),
        json!(111_122_223_333_u64),
        json!([]),
        json!({}),
        json!([[[[]]]]),
        json!({"": ""}),
        json!([null, 1, "a", {}]),
    ]);
    prop_oneof![2 => odd, 3 => hostile_text().prop_map(Value::from), 1 => (1_usize..120).prop_map(nested)]
}

/// Lists in lists.
fn nested(depth: usize) -> Value {
    (0..depth)
        .fold(json!("orders-role"), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) })
}

/// A value that is shown on one line.
#[derive(Clone)]
pub(crate) struct Json(Value);

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One change, at the value that the number leads to.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Takes it away.
    Delete,
    /// Puts another in its place.
    Replace(Json),
    /// Puts text before or after it.
    Around(String, String),
    /// A number as a text, a text as a number or a list.
    Retype,
    /// Adds a member of its own, or an element.
    Insert(String, Json),
    /// Adds the same member in the other case of its first letter, with another value.
    Twice(Json),
    /// Writes the names of members in the other case.
    SwapCase,
    /// Wraps it.
    Nest(usize),
    /// Repeats an element, each a little different.
    Repeat(usize),
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, Change)>> {
    let change = prop_oneof![
        2 => Just(Change::Delete),
        4 => hostile_value().prop_map(|value| Change::Replace(Json(value))),
        3 => (hostile_text(), hostile_text()).prop_map(|(before, after)| Change::Around(before, after)),
        2 => Just(Change::Retype),
        2 => (hostile_text(), hostile_value()).prop_map(|(name, value)| Change::Insert(name, Json(value))),
        1 => hostile_value().prop_map(|value| Change::Twice(Json(value))),
        1 => Just(Change::SwapCase),
        1 => (1_usize..60).prop_map(Change::Nest),
        1 => (2_usize..400).prop_map(Change::Repeat),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), change), 1..4)
}

/// The pointer of every value in a document, the document's own first.
pub(crate) fn pointers(value: &Value) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (format!("/{}", name.replace('~', "~0").replace('/', "~1")), value))
            .collect(),
        Value::Array(elements) => elements.iter().enumerate().map(|(at, value)| (format!("/{at}"), value)).collect(),
        _ => Vec::new(),
    };
    let below = inner.into_iter().flat_map(|(step, value)| {
        pointers(value).into_iter().map(move |rest| format!("{step}{rest}")).collect::<Vec<_>>()
    });
    iter::once(String::new()).chain(below).collect()
}

/// The document with the changes made to it.
pub(crate) fn changed(mut document: Value, changes: &[(prop::sample::Index, Change)]) -> Value {
    for (at, change) in changes {
        let pointers = pointers(&document);
        let pointer = pointers[at.index(pointers.len())].clone();
        change_at(&mut document, &pointer, change);
    }
    document
}

fn change_at(document: &mut Value, pointer: &str, change: &Change) {
    let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
    let name = name.replace("~1", "/").replace("~0", "~");
    match change {
        Change::Delete => match document.pointer_mut(parent) {
            Some(Value::Object(members)) => drop(members.remove(&name)),
            Some(Value::Array(elements)) => {
                if let Some(at) = name.parse().ok().filter(|at| *at < elements.len()) {
                    elements.remove(at);
                }
            }
            _ => {}
        },
        Change::Twice(value) => {
            if let Some(Value::Object(members)) = document.pointer_mut(parent) {
                members.insert(other_case(&name), value.0.clone());
            }
        }
        Change::Repeat(times) => {
            if let Some(Value::Array(elements)) = document.pointer_mut(parent)
                && let Some(element) = name.parse::<usize>().ok().and_then(|at| elements.get(at)).cloned()
            {
                elements.extend((0..*times).map(|number| numbered(&element, number)));
            }
        }
        _ => {
            if let Some(value) = document.pointer_mut(pointer) {
                change_value(value, change);
            }
        }
    }
}

fn change_value(value: &mut Value, change: &Change) {
    match change {
        Change::Replace(other) => *value = other.0.clone(),
        Change::Around(before, after) => {
            if let Value::String(text) = value {
                *text = format!("{before}{text}{after}");
            }
        }
        Change::Retype => {
            *value = match value.take() {
                Value::String(text) => text.parse::<f64>().map_or(json!([text]), Value::from),
                Value::Null => json!("null"),
                other => Value::from(other.to_string()),
            };
        }
        Change::Insert(name, inserted) => match value {
            Value::Object(members) => drop(members.insert(name.clone(), inserted.0.clone())),
            Value::Array(elements) => elements.push(inserted.0.clone()),
            _ => {}
        },
        Change::SwapCase => {
            if let Value::Object(members) = value {
                *members = std::mem::take(members).into_iter().map(|(name, v)| (other_case(&name), v)).collect();
            }
        }
        Change::Nest(depth) => *value = (0..*depth).fold(value.take(), |inner, _| json!([inner])),
        Change::Delete | Change::Twice(_) | Change::Repeat(_) => {}
    }
}

fn other_case(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().unwrap_or('A');
    let swapped = if first.is_uppercase() { first.to_ascii_lowercase() } else { first.to_ascii_uppercase() };
    format!("{swapped}{}", letters.as_str())
}

/// The same, but every text that ends in a letter or digit ends in the number too.
fn numbered(value: &Value, number: usize) -> Value {
    match value {
        Value::String(text) if text.ends_with(char::is_alphanumeric) => json!(format!("{text}{number}")),
        Value::Array(elements) => elements.iter().map(|element| numbered(element, number)).collect(),
        Value::Object(members) => {
            let members: Map<_, _> = members.iter().map(|(name, v)| (name.clone(), numbered(v, number))).collect();
            Value::Object(members)
        }
        other => other.clone(),
    }
}
