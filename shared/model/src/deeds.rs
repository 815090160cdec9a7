//! What a thief did, as CloudTrail has it: one call after the other, what each touched, and what it left behind that
//! outlives a session.
//!
//! A record is foreign text. It is shown, counted and sorted; nothing in it is believed or acted on.

mod tally;
mod whose;

pub use tally::{LeftBehind, MOST_AGENTS, MOST_CALLS, MOST_LEFT, MOST_THINGS, Tally, Touched};
pub use whose::{Suspects, Whose};

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::action::named;
use crate::foreign::{at, list, text, time};
use crate::ids::{shown, shown_id, shown_text};
use crate::watch::change::undated;

/// The most things that one call is said to have touched.
const MOST_TOUCHED: usize = 20;

/// How deep ARNs are looked for in what a call asked and was answered.
const DEPTH: usize = 4;

named!(
    /// What a call may leave behind: a way back in, a grant, or blindness.
    Leftover {
        /// A user.
        User = "user",
        /// An access key, or another long-lived credential.
        Credential = "credential",
        /// A password of the console.
        Password = "password",
        /// A role.
        Role = "role",
        /// Who may assume a role.
        Trust = "trust",
        /// A policy, or its attachment: a grant.
        Grant = "grant",
        /// A boundary or a second factor that was taken away.
        Unguarded = "unguarded",
        /// An identity provider, a trust anchor: a door for identities from elsewhere.
        Provider = "provider",
        /// A session that goes on by itself.
        Session = "session",
        /// Code that runs: a function, a layer, an instance, a stack.
        Code = "code",
        /// What starts code: a rule, a schedule, an event source, a URL.
        Start = "start",
        /// A resource that was opened to others.
        Opened = "opened",
        /// A watcher that was turned off.
        Blinded = "blinded",
    }
);

/// Service, call, and what it leaves behind. After the persistence and defence-evasion techniques that `MITRE ATT&CK`
/// lists for cloud accounts.
const LEFT_BEHIND: &[(&str, &str, Leftover)] = &[
    ("cloudformation", "CreateStack", Leftover::Code),
    ("cloudformation", "CreateStackSet", Leftover::Code),
    ("cloudformation", "UpdateStack", Leftover::Code),
    ("cloudtrail", "DeleteTrail", Leftover::Blinded),
    ("cloudtrail", "PutEventSelectors", Leftover::Blinded),
    ("cloudtrail", "StopLogging", Leftover::Blinded),
    ("cloudtrail", "UpdateTrail", Leftover::Blinded),
    ("codebuild", "CreateProject", Leftover::Code),
    ("config", "StopConfigurationRecorder", Leftover::Blinded),
    ("ec2", "AuthorizeSecurityGroupIngress", Leftover::Opened),
    ("ec2", "CreateKeyPair", Leftover::Credential),
    ("ec2", "ImportKeyPair", Leftover::Credential),
    ("ec2", "ModifyImageAttribute", Leftover::Opened),
    ("ec2", "ModifyInstanceAttribute", Leftover::Code),
    ("ec2", "ModifySnapshotAttribute", Leftover::Opened),
    ("ec2", "RunInstances", Leftover::Code),
    ("events", "PutRule", Leftover::Start),
    ("events", "PutTargets", Leftover::Start),
    ("guardduty", "CreateFilter", Leftover::Blinded),
    ("guardduty", "CreateIPSet", Leftover::Blinded),
    ("guardduty", "DeleteDetector", Leftover::Blinded),
    ("guardduty", "UpdateDetector", Leftover::Blinded),
    ("iam", "AddUserToGroup", Leftover::Grant),
    ("iam", "AttachGroupPolicy", Leftover::Grant),
    ("iam", "AttachRolePolicy", Leftover::Grant),
    ("iam", "AttachUserPolicy", Leftover::Grant),
    ("iam", "CreateAccessKey", Leftover::Credential),
    ("iam", "CreateLoginProfile", Leftover::Password),
    ("iam", "CreateOpenIDConnectProvider", Leftover::Provider),
    ("iam", "CreatePolicy", Leftover::Grant),
    ("iam", "CreatePolicyVersion", Leftover::Grant),
    ("iam", "CreateRole", Leftover::Role),
    ("iam", "CreateSAMLProvider", Leftover::Provider),
    ("iam", "CreateServiceSpecificCredential", Leftover::Credential),
    ("iam", "CreateUser", Leftover::User),
    ("iam", "DeactivateMFADevice", Leftover::Unguarded),
    ("iam", "DeleteRolePermissionsBoundary", Leftover::Unguarded),
    ("iam", "DeleteUserPermissionsBoundary", Leftover::Unguarded),
    ("iam", "PutGroupPolicy", Leftover::Grant),
    ("iam", "PutRolePolicy", Leftover::Grant),
    ("iam", "PutUserPolicy", Leftover::Grant),
    ("iam", "SetDefaultPolicyVersion", Leftover::Grant),
    ("iam", "UpdateAssumeRolePolicy", Leftover::Trust),
    ("iam", "UpdateLoginProfile", Leftover::Password),
    ("iam", "UpdateSAMLProvider", Leftover::Provider),
    ("iam", "UploadSSHPublicKey", Leftover::Credential),
    ("iam", "UploadSigningCertificate", Leftover::Credential),
    ("kms", "CreateGrant", Leftover::Opened),
    ("kms", "PutKeyPolicy", Leftover::Opened),
    ("lambda", "AddLayerVersionPermission", Leftover::Opened),
    ("lambda", "AddPermission", Leftover::Opened),
    ("lambda", "CreateEventSourceMapping", Leftover::Start),
    ("lambda", "CreateFunction", Leftover::Code),
    ("lambda", "CreateFunctionUrlConfig", Leftover::Start),
    ("lambda", "PublishLayerVersion", Leftover::Code),
    ("lambda", "UpdateFunctionCode", Leftover::Code),
    ("lambda", "UpdateFunctionConfiguration", Leftover::Code),
    ("lambda", "UpdateFunctionUrlConfig", Leftover::Start),
    ("logs", "DeleteLogGroup", Leftover::Blinded),
    ("logs", "PutSubscriptionFilter", Leftover::Start),
    ("rolesanywhere", "CreateProfile", Leftover::Provider),
    ("rolesanywhere", "CreateTrustAnchor", Leftover::Provider),
    ("s3", "PutBucketAcl", Leftover::Opened),
    ("s3", "PutBucketNotification", Leftover::Start),
    ("s3", "PutBucketPolicy", Leftover::Opened),
    ("s3", "PutBucketReplication", Leftover::Opened),
    ("scheduler", "CreateSchedule", Leftover::Start),
    ("secretsmanager", "PutResourcePolicy", Leftover::Opened),
    ("sns", "Subscribe", Leftover::Start),
    ("sqs", "AddPermission", Leftover::Opened),
    ("ssm", "CreateAssociation", Leftover::Start),
    ("states", "CreateStateMachine", Leftover::Code),
    ("sts", "AssumeRole", Leftover::Session),
    ("sts", "GetFederationToken", Leftover::Session),
    ("sts", "GetSessionToken", Leftover::Session),
];

/// What the parameters of a call name: member and kind.
const NAMED: &[(&str, &str)] = &[
    ("accessKeyId", "access key"),
    ("bucketName", "bucket"),
    ("dBInstanceIdentifier", "database"),
    ("functionName", "function"),
    ("groupName", "group"),
    ("instanceId", "instance"),
    ("keyId", "key"),
    ("layerName", "layer"),
    ("logGroupName", "log group"),
    ("policyArn", "policy"),
    ("policyName", "policy"),
    ("queueUrl", "queue"),
    ("roleArn", "role"),
    ("roleName", "role"),
    ("secretId", "secret"),
    ("stackName", "stack"),
    ("tableName", "table"),
    ("topicArn", "topic"),
    ("userName", "user"),
];

/// Something that a call was about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Thing {
    /// `role`, `bucket`, …; `service` where the record names nothing.
    pub kind: String,
    /// Its name or ARN, at most 512 printable characters.
    pub id: String,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// Tells one event id from another, in few bytes: of its digest.
pub fn mark(event_id: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(event_id.as_bytes()).into();
    digest.first_chunk().map_or(0, |half| u128::from_be_bytes(*half))
}

/// A call that CloudTrail recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// When, in whole seconds.
    pub at: Timestamp,
    /// The id of its event.
    pub event_id: String,
    /// Service and call: `iam:CreateUser`.
    pub name: String,
    /// The Region that recorded it.
    pub region: String,
    /// From where.
    pub address: String,
    /// With what.
    pub agent: String,
    /// The key that signed it; empty where the record has none.
    pub access_key: String,
    /// The session's name; empty for a user's own key.
    pub session: String,
    /// The error code, where it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What it was about.
    pub touched: Vec<Thing>,
    /// What it left behind, where it succeeded and may outlive the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves: Option<Leftover>,
    /// Whose call it is.
    pub whose: Whose,
}

impl Deed {
    /// Reads a record; `None` where it has no name, id or time.
    pub fn read(record: &Value, whose: Whose) -> Option<Self> {
        let service = text(record, &["eventSource"]).unwrap_or("unknown");
        let service = service.strip_suffix(".amazonaws.com").unwrap_or(service);
        let call = undated(text(record, &["eventName"])?);
        let refused = text(record, &["errorCode"]).map(shown);
        let leaves = LEFT_BEHIND.iter().find(|(of, name, _)| *of == service && *name == call).map(|(.., kind)| *kind);
        let woken = (service, call) == ("iam", "UpdateAccessKey")
            && text(record, &["requestParameters", "status"]) == Some("Active");
        let leaves = leaves.or_else(|| woken.then_some(Leftover::Credential));
        let identity = at(record, &["userIdentity"]).unwrap_or(&Value::Null);
        let session = text(identity, &["principalId"]).and_then(|id| id.split_once(':')).map_or("", |(_, name)| name);
        Some(Self {
            at: time(record, &["eventTime"])?,
            event_id: shown_id(text(record, &["eventID"])?),
            name: shown_id(&format!("{service}:{call}")),
            region: shown(text(record, &["awsRegion"]).unwrap_or_default()),
            address: shown(text(record, &["sourceIPAddress"]).unwrap_or_default()),
            agent: shown_text(text(record, &["userAgent"]).unwrap_or_default()),
            access_key: shown(text(identity, &["accessKeyId"]).unwrap_or_default()),
            session: shown(session),
            touched: touched(record, service),
            leaves: leaves.filter(|_| refused.is_none()),
            refused,
            whose,
        })
    }
}

/// What a call was about: what its parameters name; else the ARNs in it; else the service.
fn touched(record: &Value, service: &str) -> Vec<Thing> {
    let parameters = at(record, &["requestParameters"]).unwrap_or(&Value::Null);
    let mut things = BTreeSet::new();
    for (member, kind) in NAMED {
        if let Some(id) = text(parameters, &[member]) {
            things.insert(Thing { kind: (*kind).to_owned(), id: shown_id(short(kind, id)) });
        }
    }
    // What a call of events or of a trail is about has no name but `name`.
    let plain = match service {
        "events" => Some((&["rule", "name"][..], "rule")),
        "cloudtrail" => Some((&["trailName", "name"][..], "trail")),
        "scheduler" => Some((&["name"][..], "schedule")),
        _ => None,
    };
    if let Some((members, kind)) = plain
        && let Some(id) = members.iter().find_map(|member| text(parameters, &[member]))
    {
        things.insert(Thing { kind: kind.to_owned(), id: shown_id(id) });
    }
    // A key that was made has its id in the answer alone.
    if let Some(id) = text(record, &["responseElements", "accessKey", "accessKeyId"]) {
        things.insert(Thing { kind: "access key".to_owned(), id: shown_id(id) });
    }
    if things.is_empty() {
        let named = list(record, &["resources"]).filter_map(|one| one.get("ARN").or_else(|| one.get("arn")));
        let mut arns: BTreeSet<&str> = named.filter_map(Value::as_str).collect();
        arns_in(parameters, DEPTH, &mut arns);
        arns_in(at(record, &["responseElements"]).unwrap_or(&Value::Null), DEPTH, &mut arns);
        things.extend(arns.into_iter().map(|arn| Thing { kind: "resource".to_owned(), id: shown_id(arn) }));
    }
    if things.is_empty() {
        things.insert(Thing { kind: "service".to_owned(), id: shown(service) });
    }
    things.into_iter().take(MOST_TOUCHED).collect()
}

/// A function and a role go by their names: calls name them either way.
fn short<'a>(kind: &str, id: &'a str) -> &'a str {
    match kind {
        "function" => id.rsplit_once(":function:").map_or(id, |(_, name)| name.split(':').next().unwrap_or(name)),
        "role" => id.rsplit_once('/').filter(|_| id.starts_with("arn:")).map_or(id, |(_, name)| name),
        _ => id,
    }
}

fn arns_in<'a>(value: &'a Value, depth: usize, into: &mut BTreeSet<&'a str>) {
    if depth == 0 || into.len() >= MOST_TOUCHED {
        return;
    }
    match value {
        Value::String(text) if text.starts_with("arn:aws") => {
            into.insert(text);
        }
        Value::Array(all) => all.iter().for_each(|one| arns_in(one, depth - 1, into)),
        Value::Object(all) => all.values().for_each(|one| arns_in(one, depth - 1, into)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn stolen(record: &Value) -> Option<Deed> {
        Deed::read(record, Whose::Stolen)
    }

    fn record(service: &str, call: &str, parameters: &Value) -> Value {
        json!({"eventName": call, "eventSource": format!("{service}.amazonaws.com"), "eventID": "e1",
            "eventTime": "2026-11-21T03:01:00Z", "awsRegion": "eu-west-1", "sourceIPAddress": "198.51.100.7",
            "userAgent": "aws-cli/2", "requestParameters": parameters,
            "userIdentity": {"type": "AssumedRole", "principalId": "AROAEXAMPLE000000001:i-0123",
                "accessKeyId": "ASIAEXAMPLE000000001"}})
    }

    fn things(deed: &Deed) -> String {
        deed.touched.iter().map(Thing::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_call_is_told_with_who_made_it_and_what_it_was_about() {
        let deed = stolen(&record("s3", "GetObject", &json!({"bucketName": "orders", "key": "a/b"}))).unwrap();
        assert_eq!((deed.name.as_str(), things(&deed).as_str()), ("s3:GetObject", "bucket orders"));
        assert_eq!((deed.access_key.as_str(), deed.session.as_str()), ("ASIAEXAMPLE000000001", "i-0123"));
        assert_eq!((deed.leaves, deed.refused), (None, None));
    }

    #[test]
    fn what_outlives_the_session_is_said_and_what_was_refused_leaves_nothing() {
        for (service, call, parameters, leaves, about) in [
            ("iam", "CreateUser", json!({"userName": "eve"}), Some(Leftover::User), "user eve"),
            (
                "iam",
                "UpdateAccessKey",
                json!({"accessKeyId": "AKIA", "status": "Active"}),
                Some(Leftover::Credential),
                "",
            ),
            ("iam", "UpdateAccessKey", json!({"accessKeyId": "AKIA", "status": "Inactive"}), None, ""),
            (
                "lambda",
                "CreateFunction20150331",
                json!({"functionName": "miner", "role": "arn:aws:iam::111122223333:role/x"}),
                Some(Leftover::Code),
                "function miner",
            ),
            (
                "lambda",
                "UpdateFunctionCode20150331v2",
                json!({"functionName": "arn:aws:lambda:eu-west-1:111122223333:function:orders:live"}),
                Some(Leftover::Code),
                "function orders",
            ),
            (
                "lambda",
                "PublishLayerVersion20181031",
                json!({"layerName": "tools"}),
                Some(Leftover::Code),
                "layer tools",
            ),
            (
                "lambda",
                "CreateFunctionUrlConfig",
                json!({"functionName": "orders", "authType": "NONE"}),
                Some(Leftover::Start),
                "function orders",
            ),
            (
                "lambda",
                "AddPermission20150331v2",
                json!({"functionName": "orders", "principal": "*"}),
                Some(Leftover::Opened),
                "function orders",
            ),
            ("iam", "CreateRole", json!({"roleName": "helper"}), Some(Leftover::Role), "role helper"),
            ("iam", "UpdateAssumeRolePolicy", json!({"roleName": "helper"}), Some(Leftover::Trust), "role helper"),
            ("iam", "CreatePolicy", json!({"policyName": "all"}), Some(Leftover::Grant), "policy all"),
            (
                "iam",
                "PutUserPolicy",
                json!({"userName": "eve", "policyName": "all"}),
                Some(Leftover::Grant),
                "policy all, user eve",
            ),
            ("events", "PutTargets", json!({"rule": "every-minute"}), Some(Leftover::Start), ""),
            ("events", "PutRule", json!({"name": "every-minute"}), Some(Leftover::Start), "rule every-minute"),
            ("cloudtrail", "StopLogging", json!({"name": "main"}), Some(Leftover::Blinded), "trail main"),
            (
                "sts",
                "AssumeRole",
                json!({"roleArn": "arn:aws:iam::111122223333:role/a/b"}),
                Some(Leftover::Session),
                "role b",
            ),
            ("iam", "ListRoles", json!(null), None, "service iam"),
        ] {
            let read = record(service, call, &parameters);
            let deed = stolen(&read).unwrap();
            assert_eq!(deed.leaves, leaves, "{call}");
            assert!(about.is_empty() || things(&deed) == about, "{call}: {}", things(&deed));
            let mut refused = read;
            refused["errorCode"] = json!("AccessDenied");
            let deed = stolen(&refused).unwrap();
            assert_eq!((deed.leaves, deed.refused.as_deref()), (None, Some("AccessDenied")), "{call}");
        }
    }

    #[test]
    fn a_key_that_was_made_is_known_by_the_answer() {
        let mut made = record("iam", "CreateAccessKey", &json!({"userName": "eve"}));
        made["responseElements"] = json!({"accessKey": {"accessKeyId": "AKIAEXAMPLE000000009", "userName": "eve"}});
        assert_eq!(things(&stolen(&made).unwrap()), "access key AKIAEXAMPLE000000009, user eve");
    }

    #[test]
    fn arns_are_found_where_nothing_has_a_name_and_no_more_than_are_read() {
        let arns: Vec<String> = (0..50).map(|n| format!("arn:aws:ecs:eu-west-1:111122223333:task/{n}")).collect();
        let deed = stolen(&record("ecs", "StopTask", &json!({"deep": {"er": arns}}))).unwrap();
        assert_eq!(deed.touched.len(), MOST_TOUCHED);
        let nested = json!({"a": {"b": {"c": {"d": {"e": "arn:aws:s3:::too-deep"}}}}});
        assert_eq!(things(&stolen(&record("s3", "X", &nested)).unwrap()), "service s3");
    }

    #[test]
    fn junk_is_no_deed_and_hostile_text_is_one_printable_line() {
        for junk in [json!(null), json!([]), json!({"eventName": 7}), json!({"eventName": "GetObject"})] {
            assert_eq!(stolen(&junk), None, "{junk}");
        }
        let mut hostile = record("s3", "GetObject\n<script>", &json!({"bucketName": "a\u{202e}b\r\nc"}));
        hostile["userAgent"] = json!("x".repeat(100_000));
        let deed = stolen(&hostile).unwrap();
        let all = serde_json::to_string(&deed).unwrap();
        assert!(all.len() < 2_000 && !all.contains("\\n") && !all.contains('\u{202e}'), "{all}");
    }

    #[test]
    fn the_table_is_sorted_and_says_each_call_once() {
        let keys: Vec<_> = LEFT_BEHIND.iter().map(|(service, call, _)| (*service, *call)).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(keys, sorted);
    }
}
