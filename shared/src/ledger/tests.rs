//! Records and their seals, on a scripted wire.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use firebreak_model::action::ActionId;
use firebreak_model::ledger::{IncidentState, RevocationRecord, StepState};
use serde_json::{Value, json};

use super::trust::{NO_SEAL, WRONG_SEAL};
use super::*;
use crate::evidence::testing::item as stored;
use crate::testing::{Answer, Wire, json_error, ok, role_order};

/// A ledger, its wire, and the wire to KMS.
struct Bench {
    ledger: Ledger,
    table: Wire,
    kms: Wire,
}

fn key(byte: u8) -> Answer {
    let mac = aws_smithy_types::base64::encode([byte; 32]);
    ok(json!({"Mac": mac, "MacAlgorithm": "HMAC_SHA_256", "KeyId": "k"}).to_string())
}

fn bench(table: impl IntoIterator<Item = Answer>, kms: impl IntoIterator<Item = Answer>) -> Bench {
    let (table, kms) = (Wire::answering(table), Wire::answering(kms));
    let seal = Seal::new(&kms.config(), "arn:aws:kms:eu-west-1:111122223333:key/k".to_owned());
    Bench { ledger: Ledger::new(Client::new(&table.config()), "ledger".to_owned(), seal), table, kms }
}

/// The items that were put, as DynamoDB's JSON.
fn put(wire: &Wire) -> Vec<Value> {
    let body = |line: &String| line.split_once(".PutItem ").map(|(_, body)| body.to_owned());
    let bodies = wire.requests().iter().filter_map(body).collect::<Vec<_>>();
    bodies.iter().map(|body| serde_json::from_str::<Value>(body).unwrap()["Item"].clone()).collect()
}

/// A step as one of our functions writes it, sealed with `key(1)`.
async fn sealed_step() -> (StepRecord, Value) {
    let (incident, step) = role_order("orders");
    let record = StepRecord { prior: Some("5".to_owned()), ..incident.step_record(&step, incident.opened_at) };
    let bench = bench([ok("{}")], [key(1)]);
    bench.ledger.record(&record).await.unwrap();
    (record, put(&bench.table).remove(0))
}

/// An incident as one of our functions writes it, sealed with `key(1)`.
async fn sealed_incident(change: impl FnOnce(&mut Incident)) -> (Incident, Value) {
    let (mut incident, _) = role_order("orders");
    incident.version = 2;
    change(&mut incident);
    let bench = bench([ok("{}")], [key(1)]);
    assert!(bench.ledger.advance(&incident).await.unwrap());
    (incident, put(&bench.table).remove(0))
}

fn got(item: &Value) -> Answer {
    ok(json!({"Item": item}).to_string())
}

#[tokio::test]
async fn kms_is_asked_once_whatever_is_written_and_read() {
    let ((incident, written), (step, step_written)) = (sealed_incident(|_| ()).await, sealed_step().await);
    let table = [got(&written), got(&written), ok("{}"), got(&step_written), ok("{}"), got(&written), ok("{}")];
    let bench = bench(table, [key(1)]);
    assert_eq!(bench.ledger.incident(&incident.incident_id).await.unwrap(), Some(incident.clone()));
    let change = |now: Incident| Ok::<_, LedgerError>(Some(Incident { rule: "other".to_owned(), ..now }));
    bench.ledger.update(&incident.incident_id, change).await.unwrap();
    assert_eq!(bench.ledger.step(&step).await.unwrap(), Some(step.clone()));
    bench.ledger.record(&StepRecord { state: StepState::Applied, ..step }).await.unwrap();
    bench.ledger.clone().update(&incident.incident_id, change).await.unwrap();
    assert_eq!((bench.kms.requests().len(), bench.table.unused()), (1, 0));
    let asked = bench.kms.requests().remove(0);
    let message = aws_smithy_types::base64::encode("firebreak ledger seal 1 ledger");
    assert!(asked.contains("TrentService.GenerateMac") && asked.contains(&message), "{asked}");
    assert!(put(&bench.table).iter().all(|item| item["seal"]["S"].is_string()));
}

#[tokio::test]
async fn what_was_edited_moved_or_forged_is_refused_and_put_on_record() {
    let (record, item) = sealed_step().await;
    let mut edited = item.clone();
    edited["prior"] = json!({"S": "1000"});
    let mut moved = item.clone();
    moved["sk"] = json!({"S": "000002#quarantine-role@role/orders"});
    let mut unsealed = item.clone();
    unsealed.as_object_mut().unwrap().remove("seal");
    let mut others = item.clone();
    others["incident_id"] = json!({"S": "fb-000000000000000000000000"});
    for (forged, problem) in [(edited, WRONG_SEAL), (moved, WRONG_SEAL), (unsealed, NO_SEAL), (others, WRONG_SEAL)] {
        let bench = bench([got(&forged), ok("{}")], [key(1)]);
        let error = bench.ledger.step(&record).await.unwrap_err();
        assert!(matches!(error, LedgerError::Forged { .. }) && !error.is_transient(), "{error}");
        let refusal = put(&bench.table).remove(0);
        assert_eq!(refusal["pk"]["S"], format!("forgery#{}", record.incident_id));
        assert_eq!(refusal["problem"]["S"], problem);
        let condition = bench.table.requests().remove(1);
        assert!(condition.contains("attribute_not_exists(pk)"), "once for each state: {condition}");
    }
    let bench = bench([got(&item), ok("{}")], [key(2)]);
    assert!(matches!(bench.ledger.step(&record).await, Err(LedgerError::Forged { .. })), "another key's seal");
}

#[tokio::test]
async fn a_refusal_that_cannot_be_recorded_is_a_refusal() {
    let (record, mut item) = sealed_step().await;
    item["state"] = json!({"S": "reverted"});
    let bench = bench([got(&item), json_error(400, "AccessDeniedException")], [key(1)]);
    assert!(matches!(bench.ledger.step(&record).await, Err(LedgerError::Forged { .. })));
}

#[tokio::test]
async fn one_forged_step_does_not_keep_the_others_from_being_acted_on() {
    let (record, item) = sealed_step().await;
    let (incident, _) = role_order("orders");
    let mut forged = item.clone();
    forged["detail"] = json!({"S": "edited"});
    let answer = ok(json!({"Items": [forged, item], "Count": 2}).to_string());
    let owners = || [FunctionName::QuarantinePrincipal];
    let bench_one = bench([answer.clone(), ok("{}")], [key(1)]);
    let (steps, refused) = bench_one.ledger.steps_and_refused(&incident, owners()).await.unwrap();
    assert_eq!((steps, refused.len()), (vec![record], 1));
    let bench_two = bench([answer, ok("{}")], [key(1)]);
    assert!(matches!(bench_two.ledger.steps(&incident, owners()).await, Err(LedgerError::Forged { .. })));
}

#[tokio::test]
async fn a_claim_that_is_not_sealed_yet_is_waited_for_and_anything_else_without_a_seal_is_forged() {
    for (change, transient) in [
        (Box::new(|_: &mut Incident| ()) as Box<dyn FnOnce(&mut Incident)>, true),
        (Box::new(|incident: &mut Incident| incident.episode = 2), false),
        (Box::new(|incident: &mut Incident| incident.state = IncidentState::Released), false),
    ] {
        let (incident, mut item) = sealed_incident(change).await;
        item.as_object_mut().unwrap().remove("seal");
        let bench = bench([got(&item), ok("{}")], []);
        let error = bench.ledger.incident(&incident.incident_id).await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{error}");
        assert_eq!(matches!(error, LedgerError::Unsealed(_)), transient, "{error}");
        assert!(bench.kms.requests().is_empty(), "that there is no seal is seen without the key");
    }
}

#[tokio::test]
async fn without_kms_a_claim_goes_on_and_everything_that_acts_waits() {
    let (incident, item) = sealed_incident(|_| ()).await;
    let candidate = Incident { version: 1, ..incident.clone() };
    let now = incident.opened_at;
    let claim = Claim { candidate, finding: None, last_seen: None, per_hour: 10, now };
    let down = || json_error(500, "KMSInternalException");
    let bench = bench([ok("{}"), got(&item)], [down(), down(), down()]);
    assert!(matches!(bench.ledger.claim(&claim).await.unwrap(), Claimed::Opened(_)));
    let claimed = bench.table.requests().remove(0);
    assert!(claimed.contains("TransactWriteItems") && !claimed.contains(r#""seal""#), "{claimed}");
    assert!(bench.kms.requests().is_empty(), "a claim does not ask for the key");
    for error in [
        bench.ledger.incident(&incident.incident_id).await.unwrap_err(),
        bench.ledger.advance(&incident).await.unwrap_err(),
    ] {
        assert!(matches!(error, LedgerError::NoSeal(_)) && error.is_transient(), "{error}");
    }
    assert_eq!((bench.table.unused(), bench.kms.unused()), (0, 1));
}

#[tokio::test]
async fn a_claim_is_sealed_where_the_key_is_at_hand() {
    let (incident, item) = sealed_incident(|_| ()).await;
    let claim = Claim {
        candidate: Incident { version: 1, ..incident.clone() },
        finding: None,
        last_seen: None,
        per_hour: 10,
        now: incident.opened_at,
    };
    let bench = bench([got(&item), ok("{}")], [key(1)]);
    bench.ledger.incident(&incident.incident_id).await.unwrap();
    bench.ledger.claim(&claim).await.unwrap();
    assert!(bench.table.requests().remove(1).contains(r#""seal":{"S":""#));
}

#[tokio::test]
async fn a_record_of_another_schema_is_refused_by_name() {
    let (incident, _) = role_order("orders");
    for (schema, next) in [(json!({"N": "2"}), "newer"), (json!({"N": "0"}), "older"), (json!(null), "older")] {
        let Answer::Http(_, body) = stored(&Record::Incident(Box::new(incident.clone()))) else { panic!("an answer") };
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        answer["Item"]["schema"] = schema.clone();
        answer["Item"]["pk"] = json!({"S": format!("incident#{}", incident.incident_id)});
        answer["Item"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let bench = bench([ok(answer.to_string())], []);
        let error = bench.ledger.incident(&incident.incident_id).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, LedgerError::OtherSchema { .. }) && !error.is_transient(), "{text}");
        assert!(text.contains(next) && text.contains(incident.incident_id.as_str()), "{text}");
        assert_eq!(bench.table.requests().len(), 1, "another version's record is no forgery");
    }
}

#[tokio::test]
async fn a_forged_end_of_a_revocation_ends_nothing() {
    let (incident, _) = role_order("orders");
    let ends_at = incident.opened_at;
    let principal = incident.principal.clone();
    let revocation = RevocationRecord {
        schema: SCHEMA,
        incident_id: incident.incident_id.clone(),
        principal,
        ends_at,
        action: ActionId::RevokeSessions,
        episode: 0,
    };
    let ours = bench([ok("{}")], [key(1)]);
    ours.ledger.keep_revocation(&revocation).await.unwrap();
    let ours = put(&ours.table).remove(0);
    let mut forged = ours.clone();
    forged["ends_at"] = json!({"S": "2020-01-01T00:00:00Z"});
    let answer = ok(json!({"Items": [forged, ours], "Count": 2}).to_string());
    let bench = bench([answer, ok("{}")], [key(1)]);
    assert_eq!(bench.ledger.ended_revocations(ends_at).await.unwrap(), [revocation]);
    assert!(put(&bench.table)[0]["record"]["S"].as_str().unwrap().starts_with("revocation "));
}
