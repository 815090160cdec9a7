//! An account for tests, on the wire: a table that keeps what is put under its conditions, a log of pages, a queue, a key.
//! It goes where no emulator can: throttles and tokens that have run out. Every request is counted.

mod insights;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_config::SdkConfig;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use firebreak_model::ids::unhex;
use firebreak_model::ledger::Record;
use serde_json::{Value, json};

use crate::evidence::testing::stored;
use crate::testing::{Answer, Wire, json_error, ok, query_error};

#[derive(Debug, Default)]
struct State {
    table: BTreeMap<(String, String), Value>,
    pages: Vec<Vec<String>>,
    /// Answers of the log that come before its pages.
    log_answers: VecDeque<Answer>,
    /// What is answered of one log group, whatever the others hold.
    groups: BTreeMap<String, Answer>,
    /// Answers to queries of a partition, one after the other: none where the table answers.
    queries: BTreeMap<String, VecDeque<Option<Answer>>>,
    /// What somebody else puts before the next run is begun.
    overtaker: Option<Record>,
    log_calls: Vec<Value>,
    /// For how many days log groups keep events, where it is not for ever, and what is answered to who asks first.
    retention: BTreeMap<String, u32>,
    retention_answers: VecDeque<Answer>,
    /// What was asked about log groups, with the Region.
    group_calls: Vec<Value>,
    /// What CloudTrail holds in each Region, the latest first.
    trail: BTreeMap<String, Vec<Value>>,
    /// Answers of CloudTrail in a Region that come before its records.
    trail_answers: BTreeMap<String, VecDeque<Answer>>,
    trail_calls: Vec<Value>,
    insights: insights::Insights,
    sent: Vec<Value>,
    kms: Option<Answer>,
    /// What lies at an address, or is answered to a call without a body: the last answer stays.
    places: BTreeMap<String, VecDeque<Answer>>,
    /// So many bytes more are announced than come.
    cut_off: BTreeMap<String, u64>,
    asked: Vec<String>,
    calls: Vec<String>,
}

/// An account.
#[derive(Debug, Clone, Default)]
pub(super) struct Account(Arc<Mutex<State>>);

/// The DER of a P-256 key.
fn public_key() -> Vec<u8> {
    let before = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
    unhex(&format!("{before}04{}", "ab".repeat(64))).unwrap_or_default()
}

/// DynamoDB takes no longer item.
const MOST_BYTES: usize = 400 << 10;

/// The length of an item, or of a value in it, about as DynamoDB counts it: names and texts.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::String(text) => text.len(),
        _ => 1,
    }
}

fn text(value: &Value, at: &str) -> String {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Account {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn config(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        let client = http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone());
        Wire::default().config().into_builder().http_client(SharedHttpClient::new(client)).build()
    }

    /// Puts a record, whatever is there.
    pub(super) fn put(&self, record: &Record) {
        self.state().table.insert(record.keys(), stored(record));
    }

    /// The records of a kind.
    pub(super) fn records(&self, kind: &str) -> Vec<Value> {
        let of_it = |item: &&Value| text(item, "/kind/S") == kind;
        self.state().table.values().filter(of_it).cloned().collect()
    }

    /// What the log holds, page by page.
    pub(super) fn logs(&self, pages: &[&[&str]]) {
        self.state().pages = pages.iter().map(|page| page.iter().map(|line| (*line).to_owned()).collect()).collect();
    }

    /// What the log answers first.
    pub(super) fn log_answers(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().log_answers.extend(answers);
    }

    /// What is answered of one log group.
    pub(super) fn group(&self, name: &str, answer: Answer) {
        self.state().groups.insert(name.to_owned(), answer);
    }

    /// A log group keeps events for so many days.
    pub(super) fn keeps(&self, name: &str, days: u32) {
        self.state().retention.insert(name.to_owned(), days);
    }

    /// What asking about log groups answers first.
    pub(super) fn group_answers(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().retention_answers.extend(answers);
    }

    /// What was asked about log groups, with the Region.
    pub(super) fn group_calls(&self) -> Vec<Value> {
        self.state().group_calls.clone()
    }

    /// A log group is of the class Infrequent Access, and holds lines, each with its milliseconds since 1970.
    pub(super) fn infrequent(&self, name: &str, events: impl IntoIterator<Item = (i64, String)>) {
        self.group(name, json_error(400, "InvalidOperationException"));
        self.state().insights.events.extend(events);
    }

    /// What starting a query of Logs Insights answers first.
    pub(super) fn query_starts(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().insights.starts.extend(answers);
    }

    /// What asking for the results of a query answers first.
    pub(super) fn query_results(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().insights.results.extend(answers.into_iter().map(Some));
    }

    /// The same after so many true answers.
    pub(super) fn query_results_after(&self, answered: usize, answers: impl IntoIterator<Item = Answer>) {
        self.state().insights.results.extend(std::iter::repeat_n(None, answered));
        self.query_results(answers);
    }

    /// So many rows an answer of Logs Insights has at the most, and so many bytes each query says that it scanned.
    pub(super) fn query_pages(&self, rows: Option<usize>, scanned: f64) {
        let mut state = self.state();
        (state.insights.most_rows, state.insights.scanned) = (rows, scanned);
    }

    /// What Logs Insights was asked, by the name of the call.
    pub(super) fn query_calls(&self, name: &str) -> Vec<Value> {
        self.state().insights.calls.iter().filter(|call| call["call"] == name).cloned().collect()
    }

    /// What queries of a partition are answered, one after the other: none where the table answers.
    pub(super) fn queries(&self, partition: &str, answers: impl IntoIterator<Item = Option<Answer>>) {
        self.state().queries.insert(partition.to_owned(), answers.into_iter().collect());
    }

    /// Somebody else puts a record in the moment before the next run is begun.
    pub(super) fn overtake_with(&self, record: Record) {
        self.state().overtaker = Some(record);
    }

    /// What the log was asked.
    pub(super) fn log_calls(&self) -> Vec<Value> {
        self.state().log_calls.clone()
    }

    /// What CloudTrail holds in a Region, the latest first.
    pub(super) fn trail(&self, region: &str, records: Vec<Value>) {
        self.state().trail.insert(region.to_owned(), records);
    }

    /// What CloudTrail answers first in a Region.
    pub(super) fn trail_answers(&self, region: &str, answers: impl IntoIterator<Item = Answer>) {
        self.state().trail_answers.entry(region.to_owned()).or_default().extend(answers);
    }

    /// `region attribute value token` of every call of CloudTrail, in order.
    pub(super) fn trail_calls(&self) -> Vec<String> {
        let told = |call: &Value| {
            let attribute = |name: &str| text(call, &format!("/LookupAttributes/0/{name}"));
            let told = [
                text(call, "/region"),
                attribute("AttributeKey"),
                attribute("AttributeValue"),
                text(call, "/NextToken"),
            ];
            told.join(" ").trim().to_owned()
        };
        self.state().trail_calls.iter().map(told).collect()
    }

    /// From when on CloudTrail was asked in a Region for a key or name, in order.
    pub(super) fn trail_from(&self, region: &str, value: &str) -> Vec<i64> {
        let state = self.state();
        let of_it = state
            .trail_calls
            .iter()
            .filter(|call| call["region"] == region && text(call, "/LookupAttributes/0/AttributeValue") == value);
        #[expect(clippy::cast_possible_truncation, reason = "a time of today, in whole seconds")]
        let from = |call: &Value| call["StartTime"].as_f64().unwrap_or(0.0) as i64;
        of_it.map(from).collect()
    }

    /// The messages that were sent, each with its delay; and takes them away.
    pub(super) fn take_messages(&self) -> Vec<(Value, u64)> {
        let sent = std::mem::take(&mut self.state().sent);
        let message = |one: Value| {
            let body = serde_json::from_str(&text(&one, "/MessageBody")).unwrap_or_default();
            (body, one["DelaySeconds"].as_u64().unwrap_or(0))
        };
        sent.into_iter().map(message).collect()
    }

    /// What a place answers, such as `/2015-03-31/functions/orders`: one after the other, the last one for ever.
    pub(super) fn place(&self, place: &str, answers: impl IntoIterator<Item = Answer>) {
        self.state().places.insert(place.to_owned(), answers.into_iter().collect());
    }

    /// An answer that ends early, so many times.
    pub(super) fn cut_off(&self, place: &str, times: u64) {
        self.state().cut_off.insert(place.to_owned(), times);
    }

    /// The places that were asked.
    pub(super) fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    /// Every call, in order: its name and what it is about, or the place.
    pub(super) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// What KMS answers from now on.
    pub(super) fn kms_answers(&self, answer: Option<Answer>) {
        self.state().kms = answer;
    }
}

impl State {
    /// What a place answers, and how many bytes it announces.
    fn at(&mut self, place: &str) -> Option<(Answer, Option<u64>)> {
        let answers = self.places.get_mut(place)?;
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }?;
        self.asked.push(place.to_owned());
        let Answer::Http(status, body) = &answer else { return Some((answer, None)) };
        let left = self.cut_off.get_mut(place).filter(|left| **left > 0);
        let Some(left) = left else {
            let length = body.len() as u64;
            return Some((answer, Some(length)));
        };
        *left -= 1;
        let half = body.chars().take(body.len() / 2).collect();
        Some((Answer::Http(*status, half), Some(body.len() as u64)))
    }

    /// Fifty records a page, of which a token names the next one.
    fn lookup(&mut self, region: &str, body: &Value) -> Answer {
        let mut call = body.clone();
        call["region"] = json!(region);
        self.trail_calls.push(call);
        if let Some(answer) = self.trail_answers.get_mut(region).and_then(VecDeque::pop_front) {
            return answer;
        }
        let value = text(body, "/LookupAttributes/0/AttributeValue");
        let by_key = body.pointer("/LookupAttributes/0/AttributeKey") == Some(&json!("AccessKeyId"));
        let at = |record: &Value| {
            text(record, "/eventTime").parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
        };
        let within = |record: &Value| {
            let [from, to] =
                ["/StartTime", "/EndTime"].map(|end| body.pointer(end).and_then(Value::as_f64).unwrap_or(0.0));
            #[expect(clippy::cast_precision_loss, reason = "a time of today")]
            let at = at(record) as f64;
            (from..=to).contains(&at)
        };
        let user = |record: &Value| text(record, "/userIdentity/principalId").split(':').next_back() == Some(&value);
        let matches = |record: &&Value| {
            let named = if by_key { text(record, "/userIdentity/accessKeyId") == value } else { user(record) };
            named && within(record)
        };
        let of_it: Vec<&Value> = self.trail.get(region).into_iter().flatten().filter(matches).collect();
        let from: usize = text(body, "/NextToken").parse().unwrap_or(0);
        let event = |record: &&&Value| json!({"EventId": record["eventID"], "CloudTrailEvent": record.to_string()});
        let page: Vec<Value> = of_it.iter().skip(from).take(50).map(|record| event(&record)).collect();
        let next = (from + 50 < of_it.len()).then(|| (from + 50).to_string());
        ok(json!({"Events": page, "NextToken": next}).to_string())
    }

    fn answer(&mut self, target: &str, body: &Value) -> Answer {
        match target.rsplit('.').next().unwrap_or_default() {
            "GetItem" => {
                let item = self.table.get(&(text(body, "/Key/pk/S"), text(body, "/Key/sk/S")));
                ok(item.map_or(json!({}), |item| json!({"Item": item})).to_string())
            }
            "PutItem" => self.put(body),
            "Query" => {
                let (pk, prefix) = (
                    text(body, "/ExpressionAttributeValues/:pk/S"),
                    text(body, "/ExpressionAttributeValues/:prefix/S"),
                );
                if let Some(answer) = self.queries.get_mut(&pk).and_then(VecDeque::pop_front).flatten() {
                    return answer;
                }
                let of_it = self.table.iter().filter(|((p, s), _)| *p == pk && s.starts_with(&prefix));
                let mut items: Vec<&Value> = of_it.map(|(_, item)| item).collect();
                if body["ScanIndexForward"] == json!(false) {
                    items.reverse();
                }
                items.truncate(body["Limit"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or(usize::MAX));
                ok(json!({"Items": items}).to_string())
            }
            "FilterLogEvents" => {
                self.log_calls.push(body.clone());
                if let Some(answer) = self.groups.get(&text(body, "/logGroupName")) {
                    return answer.clone();
                }
                self.log_answers.pop_front().unwrap_or_else(|| self.page(body))
            }
            call @ ("StartQuery" | "GetQueryResults") => self.insights.answer(call, body),
            "SendMessage" => {
                self.sent.push(body.clone());
                ok(json!({"MessageId": "m", "MD5OfMessageBody": ""}).to_string())
            }
            "GetPublicKey" => {
                self.kms.clone().unwrap_or_else(|| ok(json!({"PublicKey": base64::encode(public_key())}).to_string()))
            }
            "Sign" => {
                self.kms.clone().unwrap_or_else(|| ok(json!({"Signature": base64::encode("signed")}).to_string()))
            }
            "GenerateMac" => ok(json!({"Mac": base64::encode([7; 32])}).to_string()),
            "" => query_error(404, "NoSuchEntity"),
            _ => json_error(404, "ResourceNotFoundException"),
        }
    }

    /// Every group is there, and so is one that nobody has asked for.
    fn groups(&mut self, region: &str, body: &Value) -> Answer {
        let mut call = body.clone();
        call["region"] = json!(region);
        self.group_calls.push(call);
        if let Some(answer) = self.retention_answers.pop_front() {
            return answer;
        }
        let group = |name: &str, days: Option<&u32>| json!({"logGroupName": name, "retentionInDays": days});
        let names = body["logGroupIdentifiers"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut groups: Vec<Value> = names.map(|name| group(name, self.retention.get(name))).collect();
        groups.push(group("/another", Some(&1)));
        ok(json!({"logGroups": groups}).to_string())
    }

    fn page(&self, body: &Value) -> Answer {
        let token = text(body, "/nextToken");
        let at: usize = token.trim_start_matches('t').parse().unwrap_or(0);
        let Some(page) = self.pages.get(at) else { return ok(r#"{"events": []}"#) };
        let event = |line: &String| json!({"logStreamName": "s", "timestamp": 1_795_228_000_000_u64 + at as u64, "message": line});
        let next = (at + 1 < self.pages.len()).then(|| format!("t{}", at + 1));
        ok(json!({"events": page.iter().map(event).collect::<Vec<_>>(), "nextToken": next}).to_string())
    }

    fn put(&mut self, body: &Value) -> Answer {
        let item = &body["Item"];
        if size(item) > MOST_BYTES {
            return json_error(400, "ValidationException");
        }
        if item["kind"] == json!({"S": "evidence"})
            && let Some(record) = self.overtaker.take()
        {
            self.table.insert(record.keys(), stored(&record));
        }
        let keys = (text(item, "/pk/S"), text(item, "/sk/S"));
        let there = self.table.get(&keys);
        let name = |term: &str| {
            let named = text(body, &format!("/ExpressionAttributeNames/{term}"));
            if named.is_empty() { term.to_owned() } else { named }
        };
        let has = |term: &str| there.is_some_and(|item| item.get(name(term)).is_some());
        let holds = |term: &str| {
            let term = term.trim();
            if let Some(of) = term.strip_prefix("attribute_not_exists(") {
                return !has(of.trim_end_matches(')'));
            }
            if let Some(of) = term.strip_prefix("attribute_exists(") {
                return has(of.trim_end_matches(')'));
            }
            let (left, right) = term.split_once(" = ").unwrap_or_default();
            let value = body.pointer(&format!("/ExpressionAttributeValues/{right}"));
            there.and_then(|item| item.get(name(left))) == value
        };
        let condition = text(body, "/ConditionExpression");
        if !condition.is_empty() && !condition.split(" OR ").any(|part| part.split(" AND ").all(holds)) {
            return json_error(400, "ConditionalCheckFailedException");
        }
        self.table.insert(keys, item.clone());
        ok("{}")
    }
}

impl HttpConnector for Account {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        // Lambda has no such header: its function is gone.
        let target = match request.headers().get("x-amz-target") {
            Some(target) => target.to_owned(),
            None if request.uri().contains("lambda.") => "Lambda.Gone".to_owned(),
            None => String::new(),
        };
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let place = request.uri().split_once("amazonaws.com").map_or(request.uri(), |(_, place)| place);
        let name = target.rsplit('.').next().unwrap_or_default();
        let about = text(&body, "/ExpressionAttributeValues/:pk/S");
        let called = match name {
            "" | "Gone" => place.to_owned(),
            name => format!("{name} {about}").trim().to_owned(),
        };
        self.state().calls.push(called);
        let at = if target.is_empty() || target == "Lambda.Gone" { self.state().at(place) } else { None };
        let region = request.uri().split('.').nth(1).unwrap_or_default();
        let of_region = match name {
            "LookupEvents" => Some((self.state().lookup(region, &body), None)),
            "DescribeLogGroups" => Some((self.state().groups(region, &body), None)),
            _ => None,
        };
        let at = at.or(of_region);
        let (answer, announced) = at.unwrap_or_else(|| (self.state().answer(&target, &body), None));
        let Answer::Http(status, body) = answer else {
            let lost = aws_smithy_runtime_api::client::result::ConnectorError::timeout("the answer was lost".into());
            return HttpConnectorFuture::ready(Err(lost));
        };
        let status = status.try_into().unwrap_or_else(|_| unreachable!("a test scripts valid statuses"));
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        if let Some(length) = announced {
            response.headers_mut().insert("content-length", length.to_string());
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}
