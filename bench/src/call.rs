//! Which operation of which service a request calls, and with which parameters: the wire protocols read backwards.
//!
//! Parameters have the names that the API gives them, so that boto3 takes them as they are.

use hyper::HeaderMap;
use hyper::Method;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

/// One call of an API.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// As boto3 names it.
    pub(crate) service: &'static str,
    /// As the API names it.
    pub(crate) operation: String,
    /// As the API names them.
    pub(crate) parameters: Map<String, Value>,
}

/// Services of the JSON protocols, by what their targets begin with.
const TARGETS: [(&str, &str); 7] = [
    ("CloudTrail_20131101", "cloudtrail"),
    ("DynamoDB_20120810", "dynamodb"),
    ("AWSEvents", "events"),
    ("Logs_20140328", "logs"),
    ("TrentService", "kms"),
    ("AmazonSQS", "sqs"),
    ("AmazonEC2ContainerServiceV20141113", "ecs"),
];

/// Services of the query protocol, by the version of their API.
const VERSIONS: [(&str, &str); 3] = [("2010-05-08", "iam"), ("2010-03-31", "sns"), ("2011-06-15", "sts")];

/// Operations of Lambda: method, path after the version, name. `*` is the function's name.
const LAMBDA: [(&str, &str, &str); 18] = [
    ("GET", "functions/*", "GetFunction"),
    ("GET", "functions/*/code-signing-config", "GetFunctionCodeSigningConfig"),
    ("GET", "tags/*", "ListTags"),
    ("GET", "functions/*/configuration", "GetFunctionConfiguration"),
    ("PUT", "functions/*/configuration", "UpdateFunctionConfiguration"),
    ("GET", "functions/*/concurrency", "GetFunctionConcurrency"),
    ("PUT", "functions/*/concurrency", "PutFunctionConcurrency"),
    ("DELETE", "functions/*/concurrency", "DeleteFunctionConcurrency"),
    ("GET", "functions/*/provisioned-concurrency", "ListProvisionedConcurrencyConfigs"),
    ("GET", "functions/*/urls", "ListFunctionUrlConfigs"),
    ("GET", "functions/*/event-invoke-config/list", "ListFunctionEventInvokeConfigs"),
    ("GET", "functions/*/policy", "GetPolicy"),
    ("GET", "functions/*/aliases", "ListAliases"),
    ("GET", "functions/*/versions", "ListVersionsByFunction"),
    ("POST", "functions/*/invocations", "Invoke"),
    ("GET", "event-source-mappings", "ListEventSourceMappings"),
    ("GET", "event-source-mappings/*", "GetEventSourceMapping"),
    ("PUT", "event-source-mappings/*", "UpdateEventSourceMapping"),
];

/// Headers of S3 that are parameters.
const S3_HEADERS: [(&str, &str); 6] = [
    ("content-type", "ContentType"),
    ("if-none-match", "IfNoneMatch"),
    ("x-amz-server-side-encryption", "ServerSideEncryption"),
    ("x-amz-server-side-encryption-aws-kms-key-id", "SSEKMSKeyId"),
    ("x-amz-checksum-sha256", "ChecksumSHA256"),
    ("x-amz-checksum-mode", "ChecksumMode"),
];

impl Call {
    /// Reads a request; what is not understood comes back as text.
    pub(crate) fn read(
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, String> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if let Some((prefix, operation)) = header("x-amz-target").rsplit_once('.') {
            // boto3 puts the package of the API before it.
            let prefix = prefix.rsplit('.').next().unwrap_or(prefix);
            let service = named(&TARGETS, prefix).ok_or_else(|| format!("{prefix}.{operation}"))?;
            let parameters = serde_json::from_slice(body).map_err(|error| format!("{operation}: {error}"))?;
            return Ok(Self { service, operation: operation.to_owned(), parameters });
        }
        if header("content-type").starts_with("application/x-www-form-urlencoded") {
            return Self::of_query(&String::from_utf8_lossy(body));
        }
        let unknown = || format!("{method} {path}");
        let (first, rest) = path.trim_start_matches('/').split_once('/').ok_or_else(unknown)?;
        if first.len() == 10 && first.starts_with("20") {
            return Self::of_lambda(method, rest, query, body).ok_or_else(unknown);
        }
        Self::of_s3(method, first, rest, headers, body).ok_or_else(unknown)
    }

    fn of_query(body: &str) -> Result<Self, String> {
        let mut parameters = pairs(body);
        let mut take = |name: &str| match parameters.remove(name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (operation, version) = (take("Action"), take("Version"));
        let service = named(&VERSIONS, &version).ok_or_else(|| format!("{operation} of {version}"))?;
        Ok(Self { service, operation, parameters })
    }

    fn of_lambda(method: &Method, path: &str, query: &str, body: &[u8]) -> Option<Self> {
        let path = path.trim_end_matches('/');
        let (operation, what) = LAMBDA.iter().find_map(|(verb, template, operation)| {
            let matched = if *verb == method.as_str() { segment(template, path)? } else { return None };
            Some((*operation, matched))
        })?;
        let mut parameters = pairs(query);
        parameters.remove("List");
        if operation == "Invoke" {
            parameters.insert("Payload".to_owned(), json!(String::from_utf8_lossy(body)));
        } else if let Ok(Value::Object(fields)) = serde_json::from_slice(body) {
            parameters.extend(fields);
        }
        if let Some(what) = what {
            let name = match path.split('/').next() {
                Some("functions") => "FunctionName",
                Some("tags") => "Resource",
                _ => "UUID",
            };
            parameters.insert(name.to_owned(), json!(decoded(what)));
        }
        Some(Self { service: "lambda", operation: operation.to_owned(), parameters })
    }

    fn of_s3(method: &Method, bucket: &str, key: &str, headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let operation = match method.as_str() {
            "PUT" => "PutObject",
            "GET" => "GetObject",
            "HEAD" => "HeadObject",
            _ => return None,
        };
        let mut parameters =
            Map::from_iter([("Bucket".to_owned(), json!(bucket)), ("Key".to_owned(), json!(decoded(key)))]);
        for (header, name) in S3_HEADERS {
            if let Some(value) = headers.get(header).and_then(|value| value.to_str().ok())
                && (operation == "PutObject" || name == "ChecksumMode")
            {
                parameters.insert(name.to_owned(), json!(value));
            }
        }
        if operation == "PutObject" {
            parameters.insert("Body".to_owned(), json!(hex(body)));
        }
        Some(Self { service: "s3", operation: operation.to_owned(), parameters })
    }

    /// A parameter that is text, or nothing.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.parameters.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

fn named(table: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    table.iter().find(|(name, _)| *name == key).map(|(_, service)| *service)
}

/// What stands at the `*` of the template; `None` within where there is none, and without where it does not match.
#[expect(clippy::option_option, reason = "whether it matches, and what it holds")]
fn segment<'a>(template: &str, path: &'a str) -> Option<Option<&'a str>> {
    let Some((before, after)) = template.split_once('*') else { return (template == path).then_some(None) };
    let middle = path.strip_prefix(before)?.strip_suffix(after)?;
    (!middle.is_empty() && !middle.contains('/')).then_some(Some(middle))
}

fn pairs(text: &str) -> Map<String, Value> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), json!(decoded(&value.replace('+', " "))))).collect()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Bytes as text, for Python's `bytes.fromhex`.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes that [`hex`] made text of.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let digit = |character: char| character.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default();
    let digits: Vec<u8> = text.chars().map(digit).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn read(method: &str, path: &str, query: &str, header: (&'static str, &'static str), body: &str) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert(header.0, header.1.parse().unwrap());
        Call::read(&method.parse().unwrap(), path, query, &headers, body.as_bytes()).unwrap()
    }

    #[test]
    fn every_protocol_is_read() {
        let json = ("x-amz-target", "DynamoDB_20120810.GetItem");
        let call = read("POST", "/", "", json, r#"{"TableName":"t"}"#);
        assert_eq!((call.service, call.operation.as_str(), call.text("TableName")), ("dynamodb", "GetItem", "t"));

        let package = ("x-amz-target", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents");
        let call = read("POST", "/", "", package, r#"{"MaxResults":50}"#);
        assert_eq!((call.service, call.operation.as_str()), ("cloudtrail", "LookupEvents"));

        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let call = read("POST", "/", "", form, "Action=GetRole&Version=2010-05-08&RoleName=a%2Bb+c");
        assert_eq!((call.service, call.operation.as_str(), call.text("RoleName")), ("iam", "GetRole", "a+b c"));
        assert_eq!(call.parameters.len(), 1);

        let none = ("accept", "*/*");
        let call = read("GET", "/2015-03-31/functions/arn%3Aaws%3Ax/policy", "Qualifier=live", none, "");
        assert_eq!((call.operation.as_str(), call.text("FunctionName")), ("GetPolicy", "arn:aws:x"));
        assert_eq!(call.text("Qualifier"), "live");
        let call = read("PUT", "/2015-03-31/event-source-mappings/u-1", "", none, r#"{"Enabled":false}"#);
        assert_eq!((call.operation.as_str(), call.text("UUID")), ("UpdateEventSourceMapping", "u-1"));
        assert_eq!(call.parameters["Enabled"], json!(false));

        let call = read("GET", "/2015-03-31/functions/f", "Qualifier=3", none, "");
        assert_eq!(
            (call.operation.as_str(), call.text("FunctionName"), call.text("Qualifier")),
            ("GetFunction", "f", "3")
        );
        let call = read("GET", "/2017-03-31/tags/arn%3Aaws%3Ax", "", none, "");
        assert_eq!((call.operation.as_str(), call.text("Resource")), ("ListTags", "arn:aws:x"));

        let call = read("PUT", "/bucket/a/b%20c", "x-id=PutObject", ("if-none-match", "*"), "\u{1}k");
        assert_eq!((call.service, call.text("Key"), call.text("IfNoneMatch")), ("s3", "a/b c", "*"));
        assert_eq!((call.text("Body"), bytes(call.text("Body"))), ("016b", b"\x01k".to_vec()));
    }

    #[test]
    fn what_is_not_known_is_named() {
        let read = |path: &str| Call::read(&Method::GET, path, "", &HeaderMap::new(), b"");
        assert_eq!(read("/2015-03-31/functions/f/code").unwrap_err(), "GET /2015-03-31/functions/f/code");
        assert_eq!(read("/detector").unwrap_err(), "GET /detector");
    }
}
