//! Reads CloudTrail records as EventBridge delivers them ("AWS API Call via CloudTrail" and its like).
//!
//! A record is no finding: it says who called what, and has no severity. Its subject is the caller; only where AWS itself
//! has quarantined a user over an exposed key (`AWSCompromisedKeyQuarantine*`) it is that user.
//! Fields after the CloudTrail user guide, "CloudTrail userIdentity element".

use serde_json::Value;

use crate::actor::Actor;
use crate::finding::{Caller, Finding, Format, Source, Subject, SubjectKind};
use crate::foreign::{account, address, at, text, time};
use crate::ids::{AccountId, shown_id};
use crate::principal::{Principal, PrincipalName};

/// The policies that AWS attaches to a user whose key it found in public: they deny only some calls.
const QUARANTINE: &str = ":iam::aws:policy/AWSCompromisedKeyQuarantine";

/// Reads the `detail` of a CloudTrail event. `fallback_id` names it where it does not name itself.
///
/// # Errors
/// A sentence saying what is missing, where the value is no record at all.
pub fn read(detail: &Value, source: Source, fallback_id: &str) -> Result<Finding, String> {
    if !detail.is_object() {
        return Err("the `detail` of the event is no object".to_owned());
    }
    let name = text(detail, &["eventName"]).ok_or("the record has no `eventName`")?;
    let service = text(detail, &["eventSource"]).unwrap_or("unknown");
    let id = text(detail, &["eventID"]).or(Some(fallback_id).filter(|id| !id.is_empty()));
    let quarantined = quarantined_user(detail, name);
    let service = service.strip_suffix(".amazonaws.com").unwrap_or(service);
    let finding_type = match quarantined {
        Some(_) => format!("CloudTrail:{service}/{name}.AWSCompromisedKeyQuarantine"),
        None => format!("CloudTrail:{service}/{name}"),
    };
    let mut finding = Finding::new(id.ok_or("the record has no `eventID`")?, &finding_type, source, Format::CloudTrail);
    let identity = at(detail, &["userIdentity"]).unwrap_or(&Value::Null);
    let caller_account = account(identity, &["accountId"]).or_else(|| account_in_arn(identity));
    finding.account = account(detail, &["recipientAccountId"]).or_else(|| caller_account.clone());
    finding.region = text(detail, &["awsRegion"]).and_then(|t| t.parse().ok());
    finding.first_seen = time(detail, &["eventTime"]);
    finding.last_seen = finding.first_seen;
    finding.updated_at = shown_id(text(detail, &["eventTime"]).unwrap_or_default());
    finding.caller =
        Caller { addresses: address(detail, &["sourceIPAddress"]).into_iter().collect(), affiliated: None };
    let subject = match quarantined {
        Some(user) => of_quarantine(user, &finding.owner()),
        None => of_identity(identity, &caller_account.unwrap_or_else(|| finding.owner())),
    };
    Ok(finding.pointing_at(vec![subject]))
}

/// The account in the caller's ARN, which stands where `accountId` is left out.
fn account_in_arn(identity: &Value) -> Option<AccountId> {
    text(identity, &["arn"])?.split(':').nth(4)?.parse().ok()
}

/// The user that somebody put AWS's quarantine policy on, where the call succeeded.
fn quarantined_user<'a>(detail: &'a Value, name: &str) -> Option<&'a str> {
    let policy = text(detail, &["requestParameters", "policyArn"])?;
    let done = text(detail, &["errorCode"]).is_none();
    if name == "AttachUserPolicy" && policy.contains(QUARANTINE) && done {
        text(detail, &["requestParameters", "userName"])
    } else {
        None
    }
}

fn of_quarantine(user: &str, account: &AccountId) -> Subject {
    match user.parse() {
        Ok(name) => Subject::principal(Principal {
            account: account.clone(),
            name: PrincipalName::User(name),
            arn: None,
            unique_id: None,
        }),
        Err(error) => Subject::not_containable(Some(SubjectKind::User), user, error.to_string()),
    }
}

/// `userIdentity`: the session's issuer where there is one, else the caller itself.
fn of_identity(identity: &Value, account: &AccountId) -> Subject {
    let arn = text(identity, &["arn"]);
    let issuer = at(identity, &["sessionContext", "sessionIssuer"]).unwrap_or(&Value::Null);
    let user_type = text(identity, &["type"]).unwrap_or_default();
    let name = text(issuer, &["userName"]).or_else(|| text(identity, &["userName"]));
    let actor = Actor {
        user_type,
        // The caller's own name is the session's or the user's: only a user's is a principal's.
        name: name.filter(|_| user_type != "AssumedRole" || text(issuer, &["userName"]).is_some()),
        principal_id: text(identity, &["principalId"]).unwrap_or_default(),
        issuer: text(issuer, &["arn"]).or(arn),
        account,
    };
    actor.subject(text(identity, &["accessKeyId"]).and_then(|t| t.parse().ok()))
}
