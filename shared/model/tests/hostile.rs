//! Hostile input: whatever is made of an event, nothing crashes, nothing is lost, nobody is invented, and nothing
//! foreign gets further than it may. More cases by `PROPTEST_CASES`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "hostile/hold.rs"]
mod hold;
#[path = "hostile/mutate.rs"]
mod mutate;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use firebreak_model::explain::Outcome;
use firebreak_model::finding::{MOST_SUBJECTS, Subject};
use hold::{Suite, subjects_of};
use mutate::{Change, TEXTS, changed, changes, hostile_text, pointers, seeds};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

static SEEDS: LazyLock<Vec<(String, String)>> = LazyLock::new(seeds);
static EVENTS: LazyLock<Vec<Value>> =
    LazyLock::new(|| SEEDS.iter().map(|(_, text)| serde_json::from_str(text).unwrap()).collect());
static SUITE: LazyLock<Suite> = LazyLock::new(Suite::new);

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// An event and what is done to it.
fn mutated() -> impl Strategy<Value = (usize, Vec<(Index, Change)>)> {
    (0..SEEDS.len(), changes())
}

/// What is done to the bytes of an event.
#[derive(Debug, Clone)]
enum Cut {
    At(Index),
    Insert(Index, Vec<u8>),
    Byte(Index, u8),
    /// A member of the same name before one that is there.
    Member(Index, String),
}

fn cut() -> impl Strategy<Value = Cut> {
    prop_oneof![
        any::<Index>().prop_map(Cut::At),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Cut::Insert(at, bytes)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Cut::Byte(at, byte)),
        (any::<Index>(), hostile_text()).prop_map(|(at, text)| Cut::Member(at, text)),
    ]
}

fn cut_up(text: &str, cuts: &[Cut]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for cut in cuts {
        match cut {
            Cut::At(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Cut::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            Cut::Byte(at, byte) => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            Cut::Member(at, value) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let names: Vec<usize> = text.match_indices("\": ").map(|(end, _)| end).collect();
                let Some(end) = (!names.is_empty()).then(|| names[at.index(names.len())]) else { continue };
                let Some(start) = text[..end].rfind('"') else { continue };
                let member = format!("{}\": {}, ", &text[start..end], json!(value));
                bytes.splice(start..start, member.into_bytes());
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_is_made_of_an_event_what_must_hold_holds(events in prop::collection::vec(mutated(), 4)) {
        for (seed, changes) in &events {
            let payload = changed(EVENTS[*seed].clone(), changes);
            SUITE.read(&payload).map_err(|error| named(*seed, &error))?;
            SUITE.explained(payload.to_string().as_bytes()).map_err(|error| named(*seed, &error))?;
        }
    }

    #[test]
    fn whatever_becomes_of_its_bytes_an_event_is_explained(
        events in prop::collection::vec((0..SEEDS.len(), prop::collection::vec(cut(), 1..4)), 4)
    ) {
        for (seed, cuts) in &events {
            let bytes = cut_up(&SEEDS[*seed].1, cuts);
            SUITE.explained(&bytes).map_err(|error| named(*seed, &error))?;
            if let Ok(payload) = serde_json::from_slice::<Value>(&bytes) {
                SUITE.read(&payload).map_err(|error| named(*seed, &error))?;
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_explained(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        SUITE.explained(&bytes)?;
    }

    /// Whatever stands where a name stands: only a name that IAM could have given leads to anybody.
    #[test]
    fn a_name_that_iam_would_not_give_is_nobodys(name in hostile_text()) {
        let well_formed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        let given = name.trim_matches(' ');
        let could_be = (1..=64).contains(&given.len()) && given.chars().all(well_formed);
        for (file, pointer) in NAMES {
            let seed = SEEDS.iter().position(|(name, _)| name == file).unwrap();
            let mut payload = EVENTS[seed].clone();
            *payload.pointer_mut(pointer).unwrap() = json!(name);
            let principals = subjects_of(&payload);
            let [Subject::Principal { principal, .. }] = &principals[..] else {
                prop_assert!(!could_be, "{}: {:?}", file, principals);
                continue;
            };
            prop_assert!(could_be && principal.name.as_str() == given, "{}: {:?}", file, principal);
            SUITE.read(&payload)?;
        }
    }
}

/// Where a name of a role or user stands, of which nothing else in the event says who it is.
const NAMES: [(&str, &str); 4] = [
    ("guardduty-access-key-of-role.json", "/detail/resource/accessKeyDetails/userName"),
    ("guardduty-access-key-of-user.json", "/detail/resource/accessKeyDetails/userName"),
    ("guardduty-pascal-case.json", "/detail/Resource/AccessKeyDetails/UserName"),
    ("cloudtrail-exposed-key-quarantined.json", "/detail/requestParameters/userName"),
];

fn named(seed: usize, error: &TestCaseError) -> TestCaseError {
    TestCaseError::fail(format!("{}: {error}", SEEDS[seed].0))
}

#[test]
fn every_event_as_it_stands_holds_too() {
    assert!(SEEDS.len() > 50);
    for ((file, text), event) in SEEDS.iter().zip(EVENTS.iter()) {
        SUITE.read(event).unwrap_or_else(|error| panic!("{file}: {error}"));
        SUITE.explained(text.as_bytes()).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn what_is_no_json_is_malformed() {
    let event = &SEEDS[0].1;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000)).into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("white space", b" \n\t ".to_vec()),
        ("a byte order mark alone", b"\xef\xbb\xbf".to_vec()),
        ("one NUL", vec![0]),
        ("a megabyte of NULs", vec![0; 1_000_000]),
        ("a NUL after the event", [event.as_bytes(), b"\0"].concat()),
        ("a NUL in a text", event.replacen("\"id\": \"", "\"id\": \"\0", 1).into_bytes()),
        ("half an event", event.as_bytes()[..event.len() / 2].to_vec()),
        ("two events", format!("{event}{event}").into_bytes()),
        ("lists without end", deep("[", "]")),
        ("a million open lists", vec![b'['; 1_000_000]),
        ("objects without end", format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)).into_bytes()),
        ("half a surrogate pair", br#"{"id": "\ud800"}"#.to_vec()),
        ("a number that is too large", br#"{"severity": 1e999}"#.to_vec()),
        ("no UTF-8", b"{\"id\": \"\xff\xfe\"}".to_vec()),
        ("UTF-16", event.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("YAML", b"id: 1".to_vec()),
        ("a comment", b"// a\n{}".to_vec()),
    ];
    for (case, bytes) in cases {
        assert_eq!(SUITE.explained(&bytes).unwrap(), Outcome::Malformed, "{case}");
    }
}

#[test]
fn what_is_json_but_no_event_is_malformed_too() {
    for text in
        ["null", "true", "1", "\"text\"", "[]", "{}", "[[]]", "[null]", r#"{"detail": {}}"#, r#"{"findings": []}"#]
    {
        assert_eq!(SUITE.explained(text.as_bytes()).unwrap(), Outcome::Malformed, "{text}");
    }
}

#[test]
fn of_two_members_of_one_name_the_last_counts_as_everywhere_in_json() {
    let (_, text) = SEEDS.iter().find(|(file, _)| file == "guardduty-access-key-of-user.json").unwrap();
    let event: Value = serde_json::from_str(text).unwrap();
    let name = event.pointer("/detail/resource/accessKeyDetails/userName").unwrap();
    let (first, last) =
        ("\"userName\": \"bait\", \"userName\"", format!("\"userName\": {name}, \"userName\": \"bait\""));
    for (text, expected) in [
        (text.replacen("\"userName\"", first, 1), name.as_str().unwrap()),
        (text.replacen(&format!("\"userName\": {name}"), &last, 1), "bait"),
    ] {
        let subjects = subjects_of(&serde_json::from_str(&text).unwrap());
        let [Subject::Principal { principal, .. }] = &subjects[..] else { panic!("{subjects:?}") };
        assert_eq!(principal.name.as_str(), expected);
    }
}

/// Every ARN of a principal in every event, and every severity, gives way to everything that it should not be.
#[test]
fn wherever_an_arn_or_a_severity_stands_it_may_be_anything() {
    let severities: Vec<Value> = serde_json::from_str(
        r#"[1e-300, "1e-300", 1e-140, -1, 10.1, 1e300, "1e999", "NaN", "inf", "8,5", [8], {"Label": 8}, null, true, ""]"#,
    )
    .unwrap();
    let arns: Vec<Value> = TEXTS.iter().filter(|text| text.contains(':')).map(|text| json!(text)).collect();
    let mut played = 0;
    for ((file, _), event) in SEEDS.iter().zip(EVENTS.iter()) {
        for pointer in pointers(event) {
            let is_principal = |v: &Value| v.as_str().is_some_and(|t| t.starts_with("arn:") && t.contains(":iam::"));
            let is_severity = pointer.to_lowercase().contains("severity");
            let instead = match event.pointer(&pointer) {
                Some(value) if is_principal(value) => &arns,
                Some(_) if is_severity => &severities,
                _ => continue,
            };
            for value in instead {
                let mut payload = event.clone();
                *payload.pointer_mut(&pointer).unwrap() = value.clone();
                SUITE.read(&payload).unwrap_or_else(|error| panic!("{file} {pointer}: {value}: {error}"));
                played += 1;
            }
        }
    }
    assert!(played > 1_500, "{played}");
}

#[test]
fn what_a_person_writes_is_shown_plainly() {
    for text in TEXTS {
        let request = json!({"firebreak": "contain", "role": "orders-role", "requested_by": text, "reason": text});
        SUITE.explained(request.to_string().as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    }
}

/// An event of a megabyte, in every way that one can be large.
#[test]
fn a_large_event_is_read_at_once_and_leads_to_no_more_than_a_small_one() {
    let seed = |file: &str| EVENTS[SEEDS.iter().position(|(name, _)| name == file).unwrap()].clone();
    let asff = seed("securityhub-imported-access-key.json");
    let long = |pointer: &str, text: &str| {
        let mut event = seed("guardduty-access-key-of-role.json");
        *event.pointer_mut(pointer).unwrap() = json!(text.repeat(1_000_000 / text.len()));
        event
    };
    let resources = |make: fn(usize) -> Value| {
        let mut event = asff.clone();
        event["detail"]["findings"][0]["Resources"] = (0..8_000).map(make).collect();
        event
    };
    let many = |finding: fn(usize) -> Value| {
        let mut event = asff.clone();
        event["detail"]["findings"] = (0..20_000).map(finding).collect();
        event
    };
    let role = |n: usize| json!({"Type": "AwsIamRole", "Id": format!("arn:aws:iam::111122223333:role/r{n}")});
    let junk = |n: usize| json!({"Type": "AwsIamRole", "Id": format!("\u{430}{n}{}", "\u{430}".repeat(60))});
    let finding = |n: usize| {
        json!({"Id": format!("f{n}"), "AwsAccountId": "111122223333", "Types": ["x"],
               "Resources": [{"Type": "AwsIamRole", "Id": format!("arn:aws:iam::111122223333:role/r{n}")}]})
    };
    let full = |n: usize| {
        let resources: Vec<Value> = (0..40)
            .map(|m| json!({"Type": "AwsIamRole", "Id": format!("arn:aws:iam::111122223333:role/r{n}-{m}")}))
            .collect();
        json!({"Id": format!("f{n}"), "AwsAccountId": "111122223333", "Types": ["x"], "Resources": resources})
    };
    let mut as_many_as_there_may_be = asff.clone();
    as_many_as_there_may_be["detail"]["findings"] = (0..20).map(full).collect();
    let events = [
        ("findings with roles", as_many_as_there_may_be),
        ("a type", long("/detail/type", "a")),
        ("an id of many bytes a character", long("/detail/id", "\u{1f525}")),
        ("a name", long("/detail/resource/accessKeyDetails/userName", "a")),
        ("an update", long("/detail/updatedAt", "\n")),
        ("roles", resources(role)),
        ("names that are none", resources(junk)),
        ("findings", many(finding)),
        ("findings that are none", many(|_| json!(0))),
        ("findings without an id", many(|n| json!({"Types": [n]}))),
    ];
    for (case, event) in events {
        let began = Instant::now();
        SUITE.read(&event).unwrap_or_else(|error| panic!("{case}: {error}"));
        let took = began.elapsed();
        assert!(took < Duration::from_mins(1), "{case}: {took:?}");
        let subjects = subjects_of(&event);
        assert!(subjects.len() <= 2 * MOST_SUBJECTS + 20, "{case}: {}", subjects.len());
    }
}
