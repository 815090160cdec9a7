//! What CloudTrail recorded: a page of calls for each key or name that is asked about, in the Region that is asked first.

use serde_json::{Value, json};

use super::{ACCOUNT, Answer, FUNCTION, REGION, ROLE, World};
use crate::call::Call;

/// Records of a page, as many as a page holds.
const RECORDS: usize = 50;

impl World {
    pub(super) fn cloudtrail(&mut self, call: &Call) -> Option<Answer> {
        if call.operation != "LookupEvents" {
            return None;
        }
        let asked = call.parameters.get("LookupAttributes").and_then(|attributes| attributes.get(0))?;
        let asked = asked.get("AttributeValue").and_then(Value::as_str)?.to_owned();
        let records = if self.looked_up.insert(asked.clone()) {
            (0..RECORDS).map(|at| record(&asked, at)).collect()
        } else {
            Vec::new()
        };
        Some(Answer::json(&json!({"Events": records})))
    }
}

/// A call of the function, as CloudTrail tells it: the record is JSON within JSON.
fn record(asked: &str, at: usize) -> Value {
    let id = format!("{at:08x}-{:04x}-4c5d-8bbf-c3bc7c8cf8cd", asked.len());
    let record = json!({
        "eventVersion": "1.11", "eventID": id, "eventName": "ListBuckets", "eventSource": "s3.amazonaws.com",
        "eventTime": format!("2026-11-21T03:{:02}:00Z", at % 60), "awsRegion": REGION, "eventType": "AwsApiCall",
        "readOnly": true, "managementEvent": true, "eventCategory": "Management", "recipientAccountId": ACCOUNT,
        "sourceIPAddress": "198.51.100.7", "userAgent": "aws-cli/2.31.0", "requestID": format!("{at:016X}"),
        "requestParameters": {"Host": format!("s3.{REGION}.amazonaws.com")}, "responseElements": null,
        "userIdentity": {
            "type": "AssumedRole", "principalId": format!("AROAEXAMPLEROLE00001:{FUNCTION}"), "accountId": ACCOUNT,
            "arn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{FUNCTION}"), "accessKeyId": "ASIAEXAMPLEKEY000001",
            "sessionContext": {"sessionIssuer": {"type": "Role", "principalId": "AROAEXAMPLEROLE00001",
                "accountId": ACCOUNT, "userName": ROLE}, "attributes": {"creationDate": "2026-11-21T02:58:00Z"}}},
    });
    json!({"EventId": id, "EventName": "ListBuckets", "EventSource": "s3.amazonaws.com", "ReadOnly": "true",
           "EventTime": 1_795_230_000, "Username": FUNCTION, "Resources": [], "CloudTrailEvent": record.to_string()})
}
