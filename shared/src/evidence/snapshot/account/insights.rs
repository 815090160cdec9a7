//! Logs Insights of the account: queries over events, each answered page by page.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::text;
use crate::testing::{Answer, json_error, ok};

#[derive(Debug, Default)]
pub(super) struct Insights {
    /// Milliseconds since 1970, and the line.
    pub(super) events: Vec<(i64, String)>,
    /// What comes before a query is started.
    pub(super) starts: VecDeque<Answer>,
    /// What asking for results answers, one after the other: none where the queries answer.
    pub(super) results: VecDeque<Option<Answer>>,
    /// No answer has more rows, whatever was asked for.
    pub(super) most_rows: Option<usize>,
    /// How many bytes each query says that it scanned.
    pub(super) scanned: f64,
    /// What was asked, with the name of the call.
    pub(super) calls: Vec<Value>,
    /// The rows of each query.
    queries: Vec<Vec<Value>>,
}

/// The number behind some words of a query.
fn number(query: &str, behind: &str) -> i64 {
    let rest = query.split_once(behind).map_or("", |(_, rest)| rest);
    rest.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn row((ms, line): &(i64, String)) -> Value {
    let at = jiff::Timestamp::from_millisecond(*ms).unwrap_or_default();
    let at = at.to_string().replace('T', " ").replace('Z', "");
    json!([
        {"field": "@timestamp", "value": at},
        {"field": "@ingestionTime", "value": at},
        {"field": "@logStream", "value": "s"},
        {"field": "@message", "value": line},
        {"field": "@ptr", "value": format!("p-{line}")},
    ])
}

impl Insights {
    pub(super) fn answer(&mut self, call: &str, body: &Value) -> Answer {
        let mut noted = body.clone();
        noted["call"] = json!(call);
        self.calls.push(noted);
        if call == "StartQuery" { self.start(body) } else { self.rows(body) }
    }

    fn start(&mut self, body: &Value) -> Answer {
        if let Some(answer) = self.starts.pop_front() {
            return answer;
        }
        let query = text(body, "/queryString");
        let (from, to) = (number(&query, "toMillis(@timestamp) >= "), number(&query, "toMillis(@timestamp) <= "));
        let mut found: Vec<_> = self.events.iter().filter(|(ms, _)| (from..=to).contains(ms)).collect();
        found.sort_by_key(|(ms, _)| *ms);
        self.queries.push(found.into_iter().map(row).collect());
        let limit = body["limit"].as_u64().unwrap_or(0);
        ok(json!({"queryId": format!("q{}-{limit}", self.queries.len() - 1)}).to_string())
    }

    fn rows(&mut self, body: &Value) -> Answer {
        if let Some(answer) = self.results.pop_front().flatten() {
            return answer;
        }
        let id = text(body, "/queryId");
        let parts = id.trim_start_matches('q').split_once('-');
        let Some((query, limit)) = parts.and_then(|(n, limit)| Some((n.parse::<usize>().ok()?, limit.parse().ok()?)))
        else {
            return json_error(400, "ResourceNotFoundException");
        };
        let all = self.queries.get(query).cloned().unwrap_or_default();
        let given: Vec<&Value> = all.iter().take(limit).collect();
        let from: usize = text(body, "/nextToken").parse().unwrap_or(0);
        let asked = body["maxItems"].as_u64().and_then(|most| most.try_into().ok()).unwrap_or(usize::MAX);
        let most = self.most_rows.unwrap_or(usize::MAX).min(asked);
        let next = (given.len() > from + most).then(|| (from + most).to_string());
        let page: Vec<_> = given.into_iter().skip(from).take(most).collect();
        let statistics =
            json!({"recordsMatched": all.len(), "recordsScanned": all.len(), "bytesScanned": self.scanned});
        ok(json!({"status": "Complete", "results": page, "statistics": statistics, "nextToken": next}).to_string())
    }
}
