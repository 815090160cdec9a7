//! What a request calls: enough of the wire protocols to count by.

use hyper::HeaderMap;

/// The wire protocol of a service: its errors look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// IAM, STS, SNS.
    Query,
    /// `DynamoDB`, which has throttles of its own.
    DynamoDb,
    /// `EventBridge`, SQS, Logs, KMS.
    Json,
    /// Lambda.
    Rest,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The service, as in an action's name.
    pub(super) service: &'static str,
    /// The operation.
    pub(super) operation: String,
    /// What its errors look like.
    pub(super) protocol: Protocol,
    /// The principal or function that it changes; none where it only reads, or writes elsewhere.
    pub(super) changes: Option<String>,
}

/// Services of the JSON protocols, by what their targets begin with.
const TARGETS: [(&str, &str); 6] = [
    ("DynamoDB_", "dynamodb"),
    ("AWSEvents", "events"),
    ("AmazonSQS", "sqs"),
    ("Logs_", "logs"),
    ("TrentService", "kms"),
    ("CloudTrail", "cloudtrail"),
];

/// Services of the query protocol, by the version of their API.
const VERSIONS: [(&str, &str); 3] = [("2010-05-08", "iam"), ("2010-03-31", "sns"), ("2011-06-15", "sts")];

impl Call {
    pub(super) fn read(method: &str, path: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        if let Some(target) = headers.get("x-amz-target").and_then(|t| t.to_str().ok()) {
            let service = TARGETS.iter().find(|(prefix, _)| target.contains(prefix)).map_or("other", |(_, s)| s);
            let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
            let protocol = if service == "dynamodb" { Protocol::DynamoDb } else { Protocol::Json };
            return Self { service, operation, protocol, changes: None };
        }
        let body = String::from_utf8_lossy(body);
        let field = |name: &str| {
            let value = body.split('&').filter_map(|pair| pair.split_once('='));
            value.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        if let Some(operation) = field("Action") {
            let version = field("Version").unwrap_or_default();
            let service = VERSIONS.iter().find(|(v, _)| *v == version).map_or("other", |(_, service)| service);
            let reads = ["Get", "List", "Simulate"].iter().any(|verb| operation.starts_with(verb));
            let named = [("role", "RoleName"), ("user", "UserName")];
            let named = named.iter().find_map(|(kind, name)| Some(format!("{kind}/{}", field(name)?)));
            let named = named.map(|on| field("AccessKeyId").map_or(on.clone(), |key| format!("{on}/{key}")));
            let changes = named.filter(|_| service == "iam" && !reads);
            return Self { service, operation: operation.to_owned(), protocol: Protocol::Query, changes };
        }
        // Lambda names an operation by its method and path: `PUT /2017-10-31/functions/<name>/concurrency`.
        let mut parts = path.split('/').skip(2);
        let (kind, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let what = parts.next().unwrap_or(kind);
        let changes = (method != "GET" && !name.is_empty() && what != "invocations").then(|| format!("{kind}/{name}"));
        Self { service: "lambda", operation: format!("{method} {what}"), protocol: Protocol::Rest, changes }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn calls_are_read_off_the_wire() {
        let none = HeaderMap::new();
        let iam = |body: &str| Call::read("POST", "/", &none, body.as_bytes());
        let attach = iam("Action=AttachRolePolicy&Version=2010-05-08&RoleName=orders&PolicyArn=arn%3Aaws");
        assert_eq!((attach.service, attach.operation.as_str()), ("iam", "AttachRolePolicy"));
        assert_eq!(attach.changes.as_deref(), Some("role/orders"));
        let key = iam("Action=UpdateAccessKey&Version=2010-05-08&UserName=ci&AccessKeyId=AKIA1&Status=Inactive");
        assert_eq!(key.changes.as_deref(), Some("user/ci/AKIA1"));
        assert_eq!(iam("Action=GetRole&Version=2010-05-08&RoleName=orders").changes, None);
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-target", "DynamoDB_20120810.TransactWriteItems".parse().unwrap());
        let claim = Call::read("POST", "/", &headers, b"{}");
        assert_eq!((claim.service, claim.operation.as_str(), claim.changes), ("dynamodb", "TransactWriteItems", None));
        let zero = Call::read("PUT", "/2017-10-31/functions/orders/concurrency", &none, b"{}");
        assert_eq!((zero.operation.as_str(), zero.changes.as_deref()), ("PUT concurrency", Some("functions/orders")));
        assert_eq!(Call::read("GET", "/2015-03-31/functions/orders/configuration", &none, b"").changes, None);
    }
}
