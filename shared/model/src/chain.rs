//! Role chaining: which sessions a call of STS made, as its CloudTrail record says, and which of them lead back to
//! what was stolen.
//!
//! A record is foreign text, and its callers are thieves: what does not parse as an identifier is told of as text and
//! never enters a policy. Fields after the CloudTrail user guide, "CloudTrail userIdentity element", and AWS's examples
//! of STS records.

mod tree;

pub use tree::{Chain, Link, MOST_LINKS, OfRole, Root, Session};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::action::named;
use crate::foreign::{at, number, principal_id, text, time};
use crate::ids::{AccessKeyId, AccountId, Region, RoleName, SessionId, UniqueId, shown};

named!(
    /// A call of STS that makes a session.
    Call {
        /// From any identity to a role.
        AssumeRole = "AssumeRole",
        /// From an identity provider's token to a role. Who calls has no credentials of AWS.
        AssumeRoleWithWebIdentity = "AssumeRoleWithWebIdentity",
        /// From a SAML assertion to a role. Who calls has no credentials of AWS.
        AssumeRoleWithSaml = "AssumeRoleWithSAML",
        /// From a user's key to a federated session of the user.
        GetFederationToken = "GetFederationToken",
        /// From a user's key to a session of the user.
        GetSessionToken = "GetSessionToken",
    }
);

impl Call {
    /// The longest that such a session lives, where the record does not say. Role chaining has an hour, whatever the
    /// role allows.
    fn longest(self, by_session: bool) -> SignedDuration {
        match self {
            Self::AssumeRole if by_session => SignedDuration::from_hours(1),
            Self::AssumeRole | Self::AssumeRoleWithWebIdentity | Self::AssumeRoleWithSaml => {
                SignedDuration::from_hours(12)
            }
            Self::GetFederationToken | Self::GetSessionToken => SignedDuration::from_hours(36),
        }
    }
}

/// Who made a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key that signed it. Calls from another account come without.
    pub access_key: Option<AccessKeyId>,
    /// The role or user behind it.
    pub unique_id: Option<UniqueId>,
    /// The session, where the caller is a role's.
    pub session: Option<SessionId>,
    /// When the session began, where the record says.
    pub began: Option<Timestamp>,
}

/// A call that succeeded in making a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minting {
    /// The record's id: a record that is read twice counts once.
    pub event_id: String,
    /// The call.
    pub call: Call,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub region: Option<Region>,
    /// By whom.
    pub by: Caller,
    /// The session; or in a few words what the record says instead, where it says none that can be.
    pub made: Result<Session, String>,
}

/// What a record says was made; `None` where it is no call that makes a session, or one that failed.
pub fn read(record: &Value) -> Option<Minting> {
    if text(record, &["eventSource"]) != Some("sts.amazonaws.com") || at(record, &["errorCode"]).is_some_and(is_said) {
        return None;
    }
    let call = Call::from_name(text(record, &["eventName"])?)?;
    let at_time = time(record, &["eventTime"])?;
    let by = caller(at(record, &["userIdentity"]).unwrap_or(&Value::Null));
    let made = made(record, call, at_time, by.session.is_some());
    let key = made.as_ref().ok().and_then(|made| made.access_key.as_ref());
    let event_id = text(record, &["eventID"]).map(shown);
    // A record without an id is told apart by what it made and when.
    let event_id = event_id.unwrap_or_else(|| format!("{at_time} {}", key.map_or("", AccessKeyId::as_str)));
    let region = text(record, &["awsRegion"]).and_then(|region| region.parse().ok());
    Some(Minting { event_id, call, at: at_time, region, by, made })
}

fn is_said(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

fn caller(identity: &Value) -> Caller {
    let own = text(identity, &["principalId"]).unwrap_or_default();
    let issuer = text(identity, &["sessionContext", "sessionIssuer", "principalId"]);
    let unique_id = issuer.and_then(|id| id.parse().ok()).or_else(|| principal_id(own).0);
    Caller {
        access_key: text(identity, &["accessKeyId"]).and_then(|key| key.parse().ok()),
        unique_id,
        session: own.parse().ok(),
        began: time(identity, &["sessionContext", "attributes", "creationDate"]),
    }
}

fn made(record: &Value, call: Call, at_time: Timestamp, by_session: bool) -> Result<Session, String> {
    let answer = at(record, &["responseElements"]).unwrap_or(&Value::Null);
    let access_key = text(answer, &["credentials", "accessKeyId"]).and_then(|key| key.parse().ok());
    let seconds = number(record, &["requestParameters", "durationSeconds"]).filter(|s| (1.0..=129_600.0).contains(s));
    #[expect(clippy::cast_possible_truncation, reason = "held to 36 hours above")]
    let asked = seconds.map(|seconds| SignedDuration::from_secs(seconds as i64));
    let lasts = asked.unwrap_or_else(|| call.longest(by_session));
    let ends_at = text(answer, &["credentials", "expiration"])
        .and_then(expiration)
        .unwrap_or_else(|| at_time.saturating_add(lasts).unwrap_or(Timestamp::MAX));
    if matches!(call, Call::GetFederationToken | Call::GetSessionToken) {
        return Ok(Session { role: None, access_key, ends_at });
    }
    let id = text(answer, &["assumedRoleUser", "assumedRoleId"]);
    let arn = text(answer, &["assumedRoleUser", "arn"]);
    let asked_for = text(record, &["requestParameters", "roleArn"]);
    let parsed = id.and_then(|id| id.parse::<SessionId>().ok());
    let role = arn.and_then(assumed_role).or_else(|| asked_for.and_then(role_of));
    match (role, parsed) {
        (Some((account, name)), Some(id)) => {
            Ok(Session { role: Some(OfRole { account, name, id }), access_key, ends_at })
        }
        _ => Err(format!(
            "`{call}` at {at_time} on `{}` made a session that the record does not name (`{}`)",
            shown(asked_for.or(arn).unwrap_or("no role")),
            shown(id.unwrap_or("no id"))
        )),
    }
}

/// `arn:…:sts::ACCOUNT:assumed-role/NAME/SESSION`.
fn assumed_role(arn: &str) -> Option<(AccountId, RoleName)> {
    let mut parts = arn.splitn(6, ':').skip(2);
    let (service, _, account, resource) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let mut names = resource.strip_prefix("assumed-role/").filter(|_| service == "sts")?.split('/');
    Some((account.parse().ok()?, names.next()?.parse().ok()?))
}

fn role_of(arn: &str) -> Option<(AccountId, RoleName)> {
    let arn: crate::ids::RoleArn = arn.parse().ok()?;
    Some((arn.account().clone(), arn.name().clone()))
}

/// `Nov 21, 2026, 4:02:13 AM`, as records of STS have it, with and without the second comma and with whichever space;
/// or RFC 3339.
fn expiration(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let plain: String = text.chars().filter(|c| *c != ',').map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let local = DateTime::strptime("%b %d %Y %I:%M:%S %p", &plain).ok()?;
    Some(local.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn record() -> Value {
        json!({
            "eventVersion": "1.08", "eventSource": "sts.amazonaws.com", "eventName": "AssumeRole",
            "eventTime": "2026-11-21T03:02:13Z", "awsRegion": "eu-west-1", "eventID": "e-1",
            "userIdentity": {"type": "AssumedRole", "principalId": "AROAEXAMPLE000000001:orders",
                "arn": "arn:aws:sts::111122223333:assumed-role/orders-role/orders", "accountId": "111122223333",
                "accessKeyId": "ASIAEXAMPLE000000001",
                "sessionContext": {"sessionIssuer": {"type": "Role", "principalId": "AROAEXAMPLE000000001"},
                    "attributes": {"creationDate": "2026-11-21T02:00:00Z"}}},
            "requestParameters": {"roleArn": "arn:aws:iam::111122223333:role/team/billing", "roleSessionName": "x1"},
            "responseElements": {
                "credentials": {"accessKeyId": "ASIAEXAMPLE000000002", "expiration": "Nov 21, 2026, 4:02:13 AM"},
                "assumedRoleUser": {"assumedRoleId": "AROAEXAMPLE000000002:x1",
                    "arn": "arn:aws:sts::111122223333:assumed-role/billing/x1"}},
        })
    }

    #[test]
    fn a_record_says_who_made_which_session_and_until_when() {
        let minting = read(&record()).unwrap();
        assert_eq!(minting.by.access_key.unwrap().as_str(), "ASIAEXAMPLE000000001");
        assert_eq!(minting.by.unique_id.unwrap().as_str(), "AROAEXAMPLE000000001");
        assert_eq!(minting.by.began.unwrap().to_string(), "2026-11-21T02:00:00Z");
        let made = minting.made.unwrap();
        let role = made.role.unwrap();
        assert_eq!((role.account.as_str(), role.name.as_str()), ("111122223333", "billing"));
        assert_eq!(role.id.as_str(), "AROAEXAMPLE000000002:x1");
        assert_eq!(made.access_key.unwrap().as_str(), "ASIAEXAMPLE000000002");
        assert_eq!(made.ends_at.to_string(), "2026-11-21T04:02:13Z");
    }

    #[test]
    fn what_failed_or_makes_no_session_is_nothing() {
        for change in [
            json!({"errorCode": "AccessDenied"}),
            json!({"eventName": "GetCallerIdentity"}),
            json!({"eventSource": "sts.amazonaws.com.evil.example"}),
            json!({"eventTime": "yesterday"}),
            json!({"eventName": ["AssumeRole"]}),
        ] {
            let mut changed = record();
            changed.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            assert_eq!(read(&changed), None, "{change}");
        }
        for nothing in [json!(null), json!([]), json!("AssumeRole"), json!({})] {
            assert_eq!(read(&nothing), None);
        }
    }

    #[test]
    fn hostile_names_are_told_of_and_never_parsed() {
        for id in [
            json!("AROAEXAMPLE000000002:*"),
            json!("*:x1"),
            json!("AROAEXAMPLE000000002:${aws:userId}"),
            json!({"a": 1}),
            json!(null),
            json!("AIDAEXAMPLE000000002:x1"),
        ] {
            let mut hostile = record();
            hostile["responseElements"]["assumedRoleUser"]["assumedRoleId"] = id.clone();
            let made = read(&hostile).unwrap().made;
            assert!(made.as_ref().is_err_and(|told| told.contains("role/team/billing")), "{id}: {made:?}");
        }
        let mut nothing = record();
        nothing["responseElements"] = json!(null);
        assert!(read(&nothing).unwrap().made.is_err());
        nothing["userIdentity"] = json!("root");
        assert_eq!(read(&nothing).unwrap().by.access_key, None);
    }

    #[test]
    fn the_end_of_a_session_is_read_in_every_form_and_never_guessed_short() {
        for (said, ends) in [
            (json!("Nov 21, 2026 4:02:13 AM"), "2026-11-21T04:02:13Z"),
            (json!("Nov 21, 2026, 4:02:13\u{202f}AM"), "2026-11-21T04:02:13Z"),
            (json!("2026-11-21T04:02:13Z"), "2026-11-21T04:02:13Z"),
            // An hour is the most that role chaining gives.
            (json!("soon"), "2026-11-21T04:02:13Z"),
            (json!(null), "2026-11-21T04:02:13Z"),
        ] {
            let mut changed = record();
            changed["responseElements"]["credentials"]["expiration"] = said.clone();
            assert_eq!(read(&changed).unwrap().made.unwrap().ends_at.to_string(), ends, "{said}");
        }
        let mut by_user = record();
        by_user["responseElements"]["credentials"]["expiration"] = json!(null);
        by_user["userIdentity"] = json!({"type": "IAMUser", "principalId": "AIDAEXAMPLE000000001"});
        let ends = |record: &Value| read(record).unwrap().made.unwrap().ends_at.to_string();
        assert_eq!(ends(&by_user), "2026-11-21T15:02:13Z");
        by_user["requestParameters"]["durationSeconds"] = json!(900);
        assert_eq!(ends(&by_user), "2026-11-21T03:17:13Z");
    }

    /// Whoever calls with an identity provider's token has no credentials of AWS; the session is like any other.
    #[test]
    fn a_session_that_a_providers_token_opened_is_read_and_nobody_is_taken_for_its_maker() {
        let provider = json!({"type": "WebIdentityUser", "userName": "repo:example/orders:ref:refs/heads/main",
            "principalId": "arn:aws:iam::111122223333:oidc-provider/token.example.com:sts.amazonaws.com:repo:example/orders",
            "identityProvider": "arn:aws:iam::111122223333:oidc-provider/token.example.com"});
        let saml = json!({"type": "SAMLUser", "principalId": "SampleUkh1i4+ExamplexL/jEvs=:ana", "userName": "ana",
            "identityProvider": "SampleUkh1i4+ExamplexL/jEvs="});
        for (name, call, identity) in [
            ("AssumeRoleWithWebIdentity", Call::AssumeRoleWithWebIdentity, provider),
            ("AssumeRoleWithSAML", Call::AssumeRoleWithSaml, saml),
        ] {
            let mut opened = record();
            opened["eventName"] = json!(name);
            opened["userIdentity"] = identity;
            let minting = read(&opened).unwrap();
            assert_eq!(minting.call, call);
            let nobody = Caller { access_key: None, unique_id: None, session: None, began: None };
            assert_eq!(minting.by, nobody, "{name}");
            let made = minting.made.unwrap();
            assert_eq!(made.role.unwrap().id.as_str(), "AROAEXAMPLE000000002:x1");
            assert_eq!(made.access_key.unwrap().as_str(), "ASIAEXAMPLE000000002");
            // It is no chaining, so that it may live as long as a role allows.
            opened["responseElements"]["credentials"]["expiration"] = json!(null);
            assert_eq!(read(&opened).unwrap().made.unwrap().ends_at.to_string(), "2026-11-21T15:02:13Z", "{name}");
        }
    }

    #[test]
    fn a_users_tokens_are_sessions_of_the_user() {
        for name in ["GetSessionToken", "GetFederationToken"] {
            let mut token = record();
            token["eventName"] = json!(name);
            token["responseElements"] = json!({"credentials": {"accessKeyId": "ASIAEXAMPLE000000009"}});
            let made = read(&token).unwrap().made.unwrap();
            assert_eq!((made.role, made.access_key.unwrap().as_str()), (None, "ASIAEXAMPLE000000009"));
        }
    }

    proptest! {
        #[test]
        fn no_text_in_a_record_makes_the_reader_crash_or_invent_a_session(
            id in "\\PC{0,40}", arn in "\\PC{0,60}", key in "\\PC{0,24}", ends in "\\PC{0,30}"
        ) {
            let mut changed = record();
            changed["responseElements"] = json!({"credentials": {"accessKeyId": key, "expiration": ends},
                "assumedRoleUser": {"assumedRoleId": id, "arn": arn}});
            let minting = read(&changed).unwrap();
            if let Ok(Session { role: Some(role), .. }) = minting.made {
                prop_assert_eq!(role.id.as_str(), id.trim_matches(' '));
            }
        }
    }
}
