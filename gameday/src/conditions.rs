//! The conditions that a game day is played under: how late CloudTrail's events and IAM's changes arrive, and which
//! service control policies hold. They are set beside AWS, on a path of the emulator's own.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use iam_eval::organisation::{Names, Scp};
use iam_eval::{Caller, Request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATH: &str = "/_firebreak/conditions";
const JUDGE: &str = "/_firebreak/judge";

/// The conditions. The default is fair weather: no events, changes of IAM in force at once, no policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// From a call to its event on the default bus; without it there are no events.
    pub cloudtrail_delay: Option<Duration>,
    /// How long authorisation does not see a change of IAM.
    pub iam_delay: Duration,
    /// The organisation's policies.
    pub scps: Vec<Value>,
}

impl Conditions {
    /// Sets them all, whatever held before.
    ///
    /// # Errors
    /// Where the emulator does not take them.
    pub async fn set(&self, endpoint: &str) -> Result<()> {
        let body = json!({
            "cloudtrail_delay": self.cloudtrail_delay.map(|delay| delay.as_secs_f64()),
            "iam_delay": self.iam_delay.as_secs_f64(),
            "scps": self.scps,
        });
        exchange(endpoint, PATH, "POST", &body.to_string()).await.map(|_| ())
    }
}

/// Makes these accounts the members of an organisation; without it each that ever asks is one of its own.
///
/// # Errors
/// Where the emulator does not take it.
pub async fn organisation(endpoint: &str, id: &str, accounts: &[&str]) -> Result<()> {
    let body = json!({"organisation": {"id": id, "accounts": accounts}});
    exchange(endpoint, PATH, "POST", &body.to_string()).await.map(|_| ())
}

/// Policies of the organisation as they are deployed, for the stack and the account of the game day.
///
/// # Errors
/// Where a document is no JSON.
pub fn policies(of: &[Scp]) -> Result<Vec<Value>> {
    let role = |name: &str| vec![format!("arn:*:iam::*:role/firebreak-drill/{name}")];
    let names = Names {
        stack: "firebreak".to_owned(),
        deployers: role("deployer-*"),
        responders: role("responder"),
        boundaries: role("deployer-*"),
        identities: role("makers-*"),
        chains: role("collector-*"),
    };
    of.iter().map(|policy| Ok(names.document(*policy)?)).collect()
}

/// What the emulator has counted since its start: events delivered, and calls that a policy denied.
///
/// # Errors
/// Where the emulator does not say.
pub async fn counted(endpoint: &str) -> Result<Value> {
    let answer = exchange(endpoint, PATH, "GET", "").await?;
    answer.get("counted").cloned().context("the emulator counts nothing")
}

/// Which of these calls the emulator's own evaluator says that the policies deny, in their order.
///
/// # Errors
/// Where no policy is set, or the emulator does not say.
pub async fn denied(endpoint: &str, calls: &[Request]) -> Result<Vec<bool>> {
    let calls: Vec<Value> = calls
        .iter()
        .map(|call| {
            let Caller::Principal { arn, .. } = &call.caller else { bail!("no service is bound by the policy") };
            let one = |values: &Vec<String>| match values.as_slice() {
                [only] => json!(only),
                several => json!(several),
            };
            let keys: BTreeMap<&String, Value> = call.keys().iter().map(|(key, values)| (key, one(values))).collect();
            Ok(json!({"principal": arn, "action": call.action, "resource": call.resource, "keys": keys}))
        })
        .collect::<Result<_>>()?;
    let answer = exchange(endpoint, JUDGE, "POST", &json!({"calls": calls}).to_string()).await?;
    serde_json::from_value(answer.get("denied").cloned().unwrap_or_default()).context("it does not say")
}

/// One request and its answer, as JSON.
async fn exchange(endpoint: &str, path: &str, method: &str, body: &str) -> Result<Value> {
    let host = endpoint.strip_prefix("http://").with_context(|| format!("`{endpoint}` is no plain HTTP"))?;
    let mut stream = TcpStream::connect(host).await.with_context(|| format!("cannot connect to `{host}`"))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("the emulator does not take the conditions: {head}\n{body}");
    }
    // The answer comes whole or in chunks, and is one line of JSON.
    let json = body.find('{').zip(body.rfind('}')).and_then(|(from, to)| body.get(from..=to));
    serde_json::from_str(json.context("the answer is no JSON")?).context("the answer is no JSON")
}
