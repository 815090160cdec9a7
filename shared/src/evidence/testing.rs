//! An evidence bucket for tests: keeps objects as S3 does, and every request with its headers. And ledger records
//! as DynamoDB answers them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use firebreak_model::ledger::Record;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::store::{Access, Store};
use crate::testing::{Answer, Wire, ok};

/// A request to the bucket.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) line: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Vec<u8>, String)>,
    /// The parts of each upload, in the order in which uploads were begun.
    uploads: Vec<Vec<Vec<u8>>>,
    requests: Vec<Sent>,
    puts_fail_with: Option<u16>,
    fails_from: Option<(usize, u16)>,
    locked_until: Option<String>,
    spoils_writes: bool,
    access: Access,
    held: Option<Arc<Semaphore>>,
}

fn checksum(body: &[u8]) -> String {
    base64::encode(Sha256::digest(body))
}

/// An evidence bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Bucket(Arc<Mutex<State>>);

impl Bucket {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn store(&self) -> Store {
        let connector = SharedHttpConnector::new(self.clone());
        let client = http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone());
        let config: SdkConfig =
            Wire::default().config().into_builder().http_client(SharedHttpClient::new(client)).build();
        let builder = aws_sdk_s3::config::Builder::from(&config).force_path_style(true);
        let key_arn = "arn:aws:kms:eu-west-1:111122223333:key/k";
        let client = aws_sdk_s3::Client::from_conf(builder.build());
        Store::new(client, "evidence".to_owned(), key_arn.to_owned(), self.state().access)
    }

    /// A bucket of another account: it takes, and gives nothing.
    pub(super) fn of_another_account() -> Self {
        let bucket = Self::default();
        bucket.state().access = Access::WriteOnly;
        bucket
    }

    pub(super) fn requests(&self) -> Vec<Sent> {
        self.state().requests.clone()
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    pub(super) fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.state().objects.get(key).map(|(body, _)| body.clone())
    }

    pub(super) fn replace(&self, key: &str, body: &[u8]) {
        self.state().objects.insert(key.to_owned(), (body.to_vec(), checksum(body)));
    }

    /// From now on, what is stored is not what was sent.
    pub(super) fn spoil_writes(&self) {
        self.state().spoils_writes = true;
    }

    /// Answers every put with this from now on.
    pub(super) fn answer_puts_with(&self, status: Option<u16>) {
        self.state().puts_fail_with = status;
    }

    /// Takes a fault at the call of this number, from 0, and at each one after it.
    pub(super) fn fail_from(&self, call: usize) {
        self.answer_from(call, 503);
    }

    /// Answers the call of this number, from 0, and each one after it with a status.
    pub(super) fn answer_from(&self, call: usize, status: u16) {
        self.state().fails_from = Some((call, status));
    }

    /// From now on it does what it should.
    pub(super) fn recover(&self) {
        self.state().fails_from = None;
    }

    /// Takes what is sent, and keeps the answers back.
    pub(super) fn hold(&self) {
        self.state().held = Some(Arc::new(Semaphore::new(0)));
    }

    /// Gives the answers that it kept back, and all others.
    pub(super) fn let_go(&self) {
        if let Some(held) = self.state().held.take() {
            held.close();
        }
    }

    /// Says of every object that it is locked until then.
    pub(super) fn lock_until(&self, until: &str) {
        self.state().locked_until = Some(until.to_owned());
    }
}

impl State {
    /// Puts an object where none is, as S3 does for `If-None-Match: *`.
    fn put(&mut self, key: String, body: Vec<u8>, checksum: String) -> (u16, Vec<u8>) {
        if self.objects.contains_key(&key) {
            return (412, Vec::new());
        }
        let spoilt = b"spoilt".to_vec();
        let kept = if self.spoils_writes { (spoilt.clone(), self::checksum(&spoilt)) } else { (body, checksum) };
        self.objects.insert(key, kept);
        (200, Vec::new())
    }

    fn answer(&mut self, method: &str, key: String, query: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let failing = self.fails_from.filter(|(call, _)| self.requests.len() > *call).map(|(_, status)| status);
        if self.access == Access::WriteOnly && ["GET", "HEAD"].contains(&method) {
            return (403, Vec::new());
        }
        if let Some(status) = failing.or(self.puts_fail_with.filter(|_| method != "GET" && method != "HEAD")) {
            return (status, Vec::new());
        }
        let upload = query.split('&').find_map(|pair| pair.strip_prefix("uploadId="));
        let upload = upload.and_then(|id| id.parse::<usize>().ok());
        match (method, upload) {
            ("POST", None) => {
                self.uploads.push(Vec::new());
                let id = self.uploads.len() - 1;
                let answer =
                    format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
                (200, answer.into_bytes())
            }
            ("PUT", Some(id)) => self.uploads.get_mut(id).map_or((404, Vec::new()), |parts| {
                parts.push(body);
                (200, Vec::new())
            }),
            ("POST", Some(id)) => {
                let parts = self.uploads.get(id).cloned().unwrap_or_default();
                let digests: Vec<u8> = parts.iter().flat_map(|part| Sha256::digest(part).to_vec()).collect();
                let whole = format!("{}-{}", checksum(&digests), parts.len());
                let (status, _) = self.put(key, parts.concat(), whole);
                (status, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>".to_vec())
            }
            ("PUT", None) => {
                let whole = checksum(&body);
                self.put(key, body, whole)
            }
            _ => self.objects.get(&key).map_or((404, Vec::new()), |(body, _)| (200, body.clone())),
        }
    }
}

impl HttpConnector for Bucket {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let path = request.uri().split_once("amazonaws.com").map_or("", |(_, path)| path);
        let (place, query) = path.split_once('?').unwrap_or((path, ""));
        let key = place.trim_start_matches("/evidence/").to_owned();
        let body = request.body().bytes().unwrap_or_default().to_vec();
        let mut state = self.state();
        state.requests.push(Sent {
            line: format!("{} {path}", request.method()),
            headers: request.headers().iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            body: body.clone(),
        });
        let (status, body) = state.answer(request.method(), key.clone(), query, body);
        let checksum = state.objects.get(&key).map(|(_, checksum)| checksum.clone());
        let locked_until = state.locked_until.clone();
        let status = status.try_into().unwrap_or_else(|_| unreachable!("a test scripts valid statuses"));
        let body = if request.method() == "HEAD" { Vec::new() } else { body };
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        if let Some(checksum) = checksum.filter(|_| response.status().is_success()) {
            response.headers_mut().insert("x-amz-checksum-sha256", checksum);
        }
        if let Some(until) = locked_until {
            response.headers_mut().insert("x-amz-object-lock-mode", "COMPLIANCE");
            response.headers_mut().insert("x-amz-object-lock-retain-until-date", until);
        }
        let Some(held) = state.held.clone() else { return HttpConnectorFuture::ready(Ok(response)) };
        HttpConnectorFuture::new(async move {
            let _ = held.acquire().await;
            Ok(response)
        })
    }
}

/// What is in a compressed file.
pub(super) fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    let read = if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut text)
    } else {
        zstd::stream::read::Decoder::new(bytes).and_then(|mut zstd| zstd.read_to_string(&mut text))
    };
    assert!(read.is_ok(), "{read:?}");
    text
}

/// The documents of an object.
pub(super) fn documents(object: &[u8]) -> Vec<Value> {
    let text = unpacked(object);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| unreachable!("{line}"))).collect()
}

fn typed(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::N(number) => json!({"N": number}),
        AttributeValue::Bool(yes) => json!({"BOOL": yes}),
        AttributeValue::L(items) => json!({"L": items.iter().map(typed).collect::<Vec<_>>()}),
        AttributeValue::M(map) => {
            let fields: Map<String, Value> = map.iter().map(|(name, value)| (name.clone(), typed(value))).collect();
            json!({"M": fields})
        }
        _ => json!({"NULL": true}),
    }
}

pub(super) fn stored(record: &Record) -> Value {
    let value = serde_dynamo::to_attribute_value(record).map(|item: AttributeValue| typed(&item));
    let mut item = value.ok().and_then(|v| v.get("M").cloned()).unwrap_or_default();
    if let Some(fields) = item.as_object_mut() {
        let (pk, sk) = record.keys();
        fields.extend([("pk".to_owned(), json!({"S": pk})), ("sk".to_owned(), json!({"S": sk}))]);
    }
    item
}

/// A record as `GetItem` answers it.
pub(crate) fn item(record: &Record) -> Answer {
    ok(json!({"Item": stored(record)}).to_string())
}

/// Records as `Query` answers them.
pub(crate) fn items(records: &[Record]) -> Answer {
    ok(json!({"Items": records.iter().map(stored).collect::<Vec<_>>()}).to_string())
}
