//! What the stub endpoint knows: as much of an account as the functions read and write, in memory.
//!
//! It believes every caller and checks no permission. It answers an operation that it does not know with an error, so
//! that nobody measures a path that the function does not take in an account.

mod aws_lambda;
mod cloudtrail;
mod dynamodb;
mod iam;
mod s3;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::call::Call;

/// The account that everything lies in.
pub(crate) const ACCOUNT: &str = "111122223333";
/// The Region that everything lies in.
pub(crate) const REGION: &str = "eu-west-1";
/// The function that the findings are about.
pub(crate) const FUNCTION: &str = "orders-worker";
/// The path of every role.
pub(crate) const ROLE_PATH: &str = "/service-role/";
/// The role that the function runs as.
pub(crate) const ROLE: &str = "orders-worker-role";

/// The bucket in which Lambda keeps code.
const PACKAGES: &str = "awslambda-eu-west-1-tasks";

/// Log events that the function's log group holds.
const LOG_EVENTS: usize = 1000;

/// The state of the account.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// The ledger's items by `pk` and `sk`.
    pub(crate) items: BTreeMap<(String, String), Value>,
    /// What `PutEvents` was given.
    pub(crate) events: Vec<Value>,
    /// What `Invoke` was given.
    pub(crate) invoked: Vec<Value>,
    /// Whether an invoked function answers that it failed.
    pub(crate) invoked_fails: bool,
    /// What the ledger held when a function was invoked that fails.
    pub(crate) items_at_failure: BTreeMap<(String, String), Value>,
    /// Items that an invoked function leaves in the ledger, verified in that moment.
    pub(crate) left_by_invoked: Vec<Value>,
    attached: BTreeSet<(String, String)>,
    inline: BTreeMap<(String, String), String>,
    reserved: Option<Value>,
    mapping_disabled: bool,
    description: String,
    objects: BTreeMap<String, Vec<u8>>,
    /// What CloudTrail was asked about.
    looked_up: BTreeSet<String>,
    /// Where code packages are fetched.
    pub(crate) packages: String,
}

/// An answer, before it is an HTTP response.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The content type.
    pub(crate) content_type: &'static str,
    /// The headers beside.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    fn json(value: &Value) -> Self {
        Self::new(200, "application/json", value.to_string())
    }

    fn json_error(status: u16, code: &str) -> Self {
        let body = json!({"__type": code, "message": "from the stub"}).to_string();
        let mut answer = Self::new(status, "application/json", body);
        answer.headers.push(("x-amzn-errortype", code.to_owned()));
        answer
    }

    fn xml(operation: &str, result: &str) -> Self {
        let body = format!(
            "<{operation}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><{operation}Result>{result}\
             </{operation}Result><ResponseMetadata><RequestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestId>\
             </ResponseMetadata></{operation}Response>"
        );
        Self::new(200, "text/xml", body)
    }

    fn xml_error(status: u16, code: &str) -> Self {
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>from the stub</Message></Error>\
             <RequestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestId></ErrorResponse>"
        );
        Self::new(status, "text/xml", body)
    }

    /// What is answered to an operation that the stub does not know.
    pub(crate) fn unknown() -> Self {
        Self::json_error(400, "NotKnownToTheStub")
    }
}

/// What KMS makes the key of the ledger's seals from, as it stands in its answer and as what it is.
const SEAL_KEY_BASE64: &str = "c2VhbGVkIGJ5IHRoZSBzdHViIG9mIHRoZSBiZW5jaCE=";
const SEAL_KEY: &[u8] = b"sealed by the stub of the bench!";

impl World {
    /// Answers a call; `None` where it does not know the operation.
    pub(crate) fn answer(&mut self, call: &Call) -> Option<Answer> {
        match call.service {
            "cloudtrail" => self.cloudtrail(call),
            "dynamodb" => self.dynamodb(call),
            "iam" => self.iam(call),
            "lambda" => self.aws_lambda(call),
            "s3" => self.s3(call),
            "events" if call.operation == "PutEvents" => {
                let entries = call.parameters.get("Entries").and_then(Value::as_array).cloned().unwrap_or_default();
                let taken: Vec<Value> = entries.iter().map(|_| json!({"EventId": "11710aed-b79e-4468"})).collect();
                self.events.extend(entries);
                Some(Answer::json(&json!({"FailedEntryCount": 0, "Entries": taken})))
            }
            "sns" if call.operation == "Publish" => {
                Some(Answer::xml("Publish", "<MessageId>94f20ce6-13c5-43a0-9a9e-ca52d816e90b</MessageId>"))
            }
            "kms" if call.operation == "GenerateMac" => {
                Some(Answer::json(&json!({"Mac": SEAL_KEY_BASE64, "MacAlgorithm": "HMAC_SHA_256"})))
            }
            "kms" if call.operation == "GetPublicKey" => Some(Answer::json(&json!({"PublicKey": PUBLIC_KEY}))),
            "kms" if call.operation == "Sign" => Some(Answer::json(&json!({"Signature": "c2lnbmVk"}))),
            "sqs" if call.operation == "SendMessage" => {
                Some(Answer::json(&json!({"MessageId": "5fea7756-0ea4-451a-a703-a558b933e274"})))
            }
            "sqs" if call.operation == "GetQueueAttributes" => {
                Some(Answer::json(&json!({"Attributes": {"ApproximateNumberOfMessages": "12"}})))
            }
            "logs" if call.operation == "DescribeLogGroups" => Some(Answer::json(&json!({"logGroups": []}))),
            "logs" if call.operation == "FilterLogEvents" => Some(log_events()),
            _ => None,
        }
    }

    /// The item of the ledger whose partition key begins so.
    pub(crate) fn item(&self, partition: &str) -> Option<&Value> {
        self.items.iter().find(|((pk, _), _)| pk.starts_with(partition)).map(|(_, item)| item)
    }
}

/// Of P-256, in DER, in base64: the generator of the curve, whose private half is 1.
const PUBLIC_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

fn log_events() -> Answer {
    let events: Vec<Value> = (0..LOG_EVENTS)
        .map(|at| {
            let message = format!("{{\"level\":\"INFO\",\"order\":\"{:08x}\",\"message\":\"taken\"}}\n", at * 2_654_435);
            json!({"logStreamName": "2026/11/21/[$LATEST]0123456789abcdef", "timestamp": 1_795_230_000_000_u64 + at as u64,
                   "ingestionTime": 1_795_230_001_000_u64 + at as u64, "eventId": format!("{at:056}"), "message": message})
        })
        .collect();
    Answer::json(&json!({"events": events, "searchedLogStreams": []}))
}
