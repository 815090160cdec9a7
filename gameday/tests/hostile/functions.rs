//! The functions that obey an order, a batch or a request: whatever they are given instead, they say what is wrong.

use firebreak_model::action::FunctionName;
use firebreak_model::ids::IncidentId;
use gameday::aws::{ACCOUNT, Aws};
use gameday::deploy::Stack;
use serde_json::{Value, json};

use super::{Said, invoke};

/// An incident that the ledger does not hold.
const NOBODYS: &str = "fb-000000000000000000000000";

/// What no function is made for.
fn payloads() -> Vec<(String, String)> {
    let order = |id: &Value| {
        json!({"version": "0", "id": "e1", "source": "firebreak", "detail-type": "Containment Ordered",
               "account": ACCOUNT, "detail": {"schema": 1, "incident_id": id, "episode": 1, "responses": ["isolate"]}})
    };
    let named = |name: &str, value: &Value| (name.to_owned(), value.to_string());
    let mut all = vec![
        named("null", &json!(null)),
        named("true", &json!(true)),
        named("a number", &json!(-1)),
        named("a text", &json!("{\"firebreak\": \"resume\"}")),
        named("a list", &json!([])),
        named("an object", &json!({})),
        named("a detail that is a list", &json!({"detail": ["fb-"]})),
        named("a detail that is a text", &json!({"detail-type": "Containment Ordered", "detail": NOBODYS})),
        named("records that are a text", &json!({"Records": "x"})),
        named("records that are an object", &json!({"Records": {"a": 1}})),
        named(
            "a request with more in it",
            &json!({"firebreak": "revoke", "incident_id": NOBODYS, "reason": "r",
            "requested_by": "ana", "until": "2030-01-01T00:00:00Z"}),
        ),
        named(
            "a request for somebody else",
            &json!({"firebreak": "contain", "role": "x", "reason": "r", "requested_by": "a"}),
        ),
        named("a request without who", &json!({"firebreak": "release", "incident_id": NOBODYS, "reason": "r"})),
        named("a request that is a list", &json!({"firebreak": ["pause"], "reason": "r", "requested_by": "ana"})),
        named(
            "a request in an event",
            &json!({"firebreak": "resume", "reason": "r", "requested_by": "ana",
            "detail-type": "Containment Ordered", "detail": {}}),
        ),
        named("a pause with a line break", &json!({"firebreak": "pause", "reason": "a\nb", "requested_by": "ana"})),
        named("an order of a megabyte", &order(&json!("f".repeat(1_000_000)))),
        ("nested deeper than can be read".to_owned(), format!("{}0{}", "[".repeat(300), "]".repeat(300))),
        ("half a surrogate pair".to_owned(), r#"{"detail": {"incident_id": "\ud800"}}"#.to_owned()),
    ];
    for id in [
        "*",
        "",
        "fb-../../../x",
        "fb-0000000000000000000000000",
        "FB-000000000000000000000000",
        "fb-00000000000000000000000\n",
        "fb-${aws:username}",
        "incident#fb-000000000000000000000000",
        "fb-\u{43e}00000000000000000000000",
    ] {
        all.push(named(&format!("an order with the id {id:?}"), &order(&json!(id))));
    }
    for id in [json!(null), json!(7), json!([NOBODYS]), json!({"S": NOBODYS})] {
        all.push(named(&format!("an order whose id is {id}"), &order(&id)));
    }
    all
}

/// Plays every payload against every function that is not there to read findings; answers how many, and what does not
/// hold.
pub(crate) async fn play(aws: &Aws, stack: &Stack) -> (usize, Vec<String>) {
    let mut wrong = Vec::new();
    let mut played = 0;
    for &function in FunctionName::ALL.iter().filter(|f| **f != FunctionName::QuarantinePrincipal) {
        for (name, payload) in payloads() {
            played += 1;
            let said = invoke(aws, stack, function, payload.as_bytes()).await;
            if let Some(what) = unclear(&said, &["Malformed", "Refused"]) {
                wrong.push(format!("{function}, {name}: {what}"));
            }
        }
    }
    for (function, name, payload, ends) in well_formed() {
        played += 1;
        let said = invoke(aws, stack, function, payload.to_string().as_bytes()).await;
        let held = match (&said, ends) {
            (Said::Answer(answer), Ends::Answers(expected)) => *answer == expected,
            (_, Ends::Fails(kind)) => unclear(&said, &[kind]).is_none(),
            _ => false,
        };
        if !held {
            wrong.push(format!("{function}, {name}: {said:.300?}"));
        }
    }
    (played, wrong)
}

enum Ends {
    Answers(Value),
    Fails(&'static str),
}

/// Orders and batches that are well-formed, and have nothing behind them.
fn well_formed() -> Vec<(FunctionName, &'static str, Value, Ends)> {
    let id: IncidentId = NOBODYS.parse().unwrap();
    let order = json!({"source": "firebreak", "detail-type": "Containment Ordered", "detail": {"incident_id": id}});
    let noted = |subject: &str| json!({"source": "firebreak", "detail-type": "Finding Noted", "detail": {"subject": subject, "finding_key": "*"}});
    let request = |what: &str| json!({"firebreak": what, "incident_id": id, "reason": "r", "requested_by": "ana"});
    let message = |body: &str| json!({"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": body}]});
    let garbage = json!({"Records": [null, 1, "x", [], {}, {"dynamodb": null}, {"dynamodb": {"NewImage": "x"}},
        {"dynamodb": {"SequenceNumber": [1], "NewImage": {"kind": {"S": "incident"}, "pk": {"S": "\u{0}"}}}},
        {"dynamodb": {"NewImage": {"kind": {"S": "*"}}, "OldImage": {"kind": {"N": "NaN"}}}},
        {"dynamodb": {"NewImage": {"kind": {"M": {"L": {"N": "1"}}}}}}]});
    let none = json!({"batchItemFailures": []});
    let unknown =
        json!({"outcome": "nothing to do", "incident_id": id, "message": "the ledger knows no such incident"});
    let nothing = json!({"outcome": "nothing to page"});
    vec![
        (FunctionName::IsolateFunction, "an order of nobody's", order.clone(), Ends::Fails("Malformed")),
        (FunctionName::RevokeSessions, "an order of nobody's", order.clone(), Ends::Fails("Refused")),
        (FunctionName::SnapshotLogs, "an order of nobody's", order.clone(), Ends::Answers(unknown)),
        (FunctionName::RevokeSessions, "a revocation of nobody's", request("revoke"), Ends::Fails("Refused")),
        (FunctionName::ReleaseContainment, "a release of nobody's", request("release"), Ends::Fails("Refused")),
        (FunctionName::ReleaseContainment, "a forged order", order, Ends::Fails("Refused")),
        (FunctionName::IsolateFunction, "a message that is no event", message("\u{0}{"), Ends::Answers(none.clone())),
        (
            FunctionName::IsolateFunction,
            "a message of nobody's",
            message(&json!({"detail": {"incident_id": id}}).to_string()),
            Ends::Answers(none.clone()),
        ),
        (FunctionName::PublishOutcomes, "records that are garbage", garbage, Ends::Answers(none)),
        (FunctionName::NotifyResponders, "a finding of nobody's", noted(NOBODYS), Ends::Answers(nothing)),
        (
            FunctionName::NotifyResponders,
            "a finding with another's key",
            noted("unattributed-../incident"),
            Ends::Fails("Malformed"),
        ),
    ]
}

/// What is not clear about an end: it is to be an error of one of these types, with a message that can be shown.
fn unclear(said: &Said, kinds: &[&str]) -> Option<String> {
    let Said::Error(error) = said else { return Some(format!("no error: {said:.300?}")) };
    let (kind, message) = (Said::text(error, "errorType"), Said::text(error, "errorMessage"));
    let plain = |c: char| c.is_ascii_graphic() || c == ' ' || "\u{fffd}…".contains(c);
    let clear =
        kinds.contains(&kind) && !message.is_empty() && message.chars().count() < 1_000 && message.chars().all(plain);
    (!clear).then(|| format!("{error:.300?}"))
}
