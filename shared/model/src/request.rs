//! What a person asks for, by direct invocation. Unknown keys are refused by name.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::action::Response;
use crate::ids::{AccessKeyId, FunctionArn, IncidentId, InvalidId, RoleName, UserName, shown_text};
use crate::playbook::{PlaybookError, check_response};
use crate::principal::{Home, Principal, PrincipalName};

/// Why a request was refused as it stands.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not the JSON that a request is.
    #[error("the request cannot be read: {0}")]
    Shape(String),
    /// A value that is no identifier.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A response that contradicts itself.
    #[error(transparent)]
    Response(#[from] PlaybookError),
    /// A text that is too short or too long.
    #[error("`{field}` must be between 1 and {most} characters of text without control characters")]
    Text {
        /// Which.
        field: &'static str,
        /// The most characters.
        most: usize,
    },
    /// A list that is too long.
    #[error("`{field}` holds more than {most}: ask for the rest by a request of its own")]
    TooMany {
        /// Which.
        field: &'static str,
        /// The most that it may hold.
        most: usize,
    },
    /// Neither or both of `role` and `user`.
    #[error("give exactly one of `role` and `user`")]
    Target,
    /// Neither or both of `incident_id` and `since`, or what goes with the other.
    #[error("give `incident_id`, with or without `reactivate_keys`, or `since`, with or without `drills`")]
    WhichRelease,
    /// A principal that lives elsewhere.
    #[error("`{arn}` is not in this account: Firebreak contains only in its own")]
    OtherAccount {
        /// What was asked for.
        arn: String,
    },
}

/// The most functions of a request: the plan must fit in the ledger.
const MOST_FUNCTIONS: usize = 100;

/// The most access keys of a request: a user has two at a time.
const MOST_KEYS: usize = 20;

/// Who asks, and why: required of every request, kept on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who, in the caller's own words. IAM has authenticated the invocation; CloudTrail's data event says as whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A request to one of the functions.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Contain a principal now.
    Contain(Contain, Asked),
    /// Approve an incident that waits for it.
    Approve(IncidentId, Asked),
    /// Undo a containment.
    Release(Release, Asked),
    /// Undo every containment that was ordered since a time.
    ReleaseSince(ReleaseSince, Asked),
    /// Say what is open. Changes nothing, so that nobody has to say why.
    List,
    /// Stop new containments.
    Pause(Asked),
    /// Lift the pause.
    Resume(Asked),
    /// Write the revocation that the ledger orders; sent by `release-containment`.
    Revoke(IncidentId, Asked),
}

/// Contain a principal.
#[derive(Debug, Clone, PartialEq)]
pub struct Contain {
    /// Whom.
    pub principal: Principal,
    /// Functions that run as it.
    pub functions: Vec<FunctionArn>,
    /// Access keys that are known to be stolen.
    pub access_keys: Vec<AccessKeyId>,
    /// What to do, where it differs from the playbook's default.
    pub response: Option<Vec<Response>>,
    /// When the intrusion began, as far as known: evidence is collected from before it.
    pub session_started: Option<Timestamp>,
}

/// Release an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Which.
    pub incident_id: IncidentId,
    /// Access keys of the finding that may live again.
    pub reactivate_keys: Vec<AccessKeyId>,
    /// Go ahead without a revocation: only where `revoke-sessions` is left out.
    pub without_revocation: bool,
}

/// Release every incident that was ordered at or after a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseSince {
    /// The time.
    pub since: Timestamp,
    /// Drills as well.
    pub drills: bool,
    /// Go ahead without revocations: only where `revoke-sessions` is left out.
    pub without_revocation: bool,
}

#[derive(Deserialize)]
#[serde(tag = "firebreak", rename_all = "kebab-case", deny_unknown_fields)]
enum Wire {
    Contain {
        reason: String,
        requested_by: String,
        #[serde(default)]
        role: Option<String>,
        #[serde(default)]
        user: Option<String>,
        #[serde(default)]
        functions: Vec<FunctionArn>,
        #[serde(default)]
        access_keys: Vec<AccessKeyId>,
        #[serde(default)]
        response: Option<Vec<Response>>,
        #[serde(default)]
        session_started: Option<Timestamp>,
    },
    Approve {
        reason: String,
        requested_by: String,
        incident_id: IncidentId,
    },
    Release {
        reason: String,
        requested_by: String,
        #[serde(default)]
        incident_id: Option<IncidentId>,
        #[serde(default)]
        since: Option<Timestamp>,
        #[serde(default)]
        drills: bool,
        #[serde(default)]
        reactivate_keys: Vec<AccessKeyId>,
        #[serde(default)]
        without_revocation: bool,
    },
    List {},
    Pause {
        reason: String,
        requested_by: String,
    },
    Resume {
        reason: String,
        requested_by: String,
    },
    Revoke {
        reason: String,
        requested_by: String,
        incident_id: IncidentId,
    },
}

/// Whether an invocation's payload is a request rather than an event: an event carries `detail-type`.
pub fn is_request(payload: &Value) -> bool {
    payload.get("firebreak").is_some() && payload.get("detail-type").is_none()
}

/// Reads a request.
pub fn read(payload: &Value, home: &Home) -> Result<Request, RequestError> {
    // The message may repeat what it does not know, whatever that is and however long.
    let wire: Wire =
        serde_json::from_value(payload.clone()).map_err(|error| RequestError::Shape(shown_text(&error.to_string())))?;
    let too_many = |field, number: usize, most| {
        if number > most { Err(RequestError::TooMany { field, most }) } else { Ok(()) }
    };
    if let Wire::Contain { functions, access_keys, .. } = &wire {
        too_many("functions", functions.len(), MOST_FUNCTIONS)?;
        too_many("access_keys", access_keys.len(), MOST_KEYS)?;
    }
    Ok(match wire {
        Wire::Contain { reason, requested_by, role, user, mut functions, access_keys, response, session_started } => {
            let principal = match (role, user) {
                (Some(role), None) => principal(&role, home, |n| Ok(PrincipalName::Role(n.parse::<RoleName>()?)))?,
                (None, Some(user)) => principal(&user, home, |n| Ok(PrincipalName::User(n.parse::<UserName>()?)))?,
                _ => return Err(RequestError::Target),
            };
            if let Some(elsewhere) = functions.iter().find(|f| *f.account() != home.account) {
                return Err(RequestError::OtherAccount { arn: elsewhere.to_string() });
            }
            if let Some(response) = &response {
                check_response("response", response)?;
            }
            functions = functions.iter().map(FunctionArn::unqualified).collect();
            let contain = Contain { principal, functions, access_keys, response, session_started };
            Request::Contain(contain, asked(requested_by, reason)?)
        }
        Wire::Approve { reason, requested_by, incident_id } => {
            Request::Approve(incident_id, asked(requested_by, reason)?)
        }
        Wire::Release { reason, requested_by, incident_id, since, drills, reactivate_keys, without_revocation } => {
            let asked = asked(requested_by, reason)?;
            match (incident_id, since) {
                (Some(incident_id), None) if !drills => {
                    Request::Release(Release { incident_id, reactivate_keys, without_revocation }, asked)
                }
                (None, Some(since)) if reactivate_keys.is_empty() => {
                    Request::ReleaseSince(ReleaseSince { since, drills, without_revocation }, asked)
                }
                _ => return Err(RequestError::WhichRelease),
            }
        }
        Wire::List {} => Request::List,
        Wire::Pause { reason, requested_by } => Request::Pause(asked(requested_by, reason)?),
        Wire::Resume { reason, requested_by } => Request::Resume(asked(requested_by, reason)?),
        Wire::Revoke { reason, requested_by, incident_id } => {
            Request::Revoke(incident_id, asked(requested_by, reason)?)
        }
    })
}

fn asked(by: String, reason: String) -> Result<Asked, RequestError> {
    let check = |text: &str, field, most| {
        let length = text.chars().count();
        if length == 0 || length > most || text.chars().any(char::is_control) || text.trim().is_empty() {
            return Err(RequestError::Text { field, most });
        }
        Ok(())
    };
    check(&reason, "reason", 500)?;
    check(&by, "requested_by", 256)?;
    Ok(Asked { by, reason })
}

fn principal(
    text: &str,
    home: &Home,
    by_name: impl Fn(&str) -> Result<PrincipalName, InvalidId>,
) -> Result<Principal, RequestError> {
    if !text.starts_with("arn:") {
        return Ok(Principal { account: home.account.clone(), name: by_name(text)?, arn: None, unique_id: None });
    }
    let principal = Principal::from_arn(text)?;
    if by_name(principal.name.as_str())? != principal.name {
        return Err(RequestError::Target);
    }
    if principal.account != home.account {
        return Err(RequestError::OtherAccount { arn: crate::ids::shown(text) });
    }
    Ok(principal)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::ids::Partition;

    fn home() -> Home {
        Home { partition: Partition::Aws, account: "111122223333".parse().unwrap() }
    }

    fn contain(extra: &Value) -> Result<Request, RequestError> {
        let mut payload = json!({"firebreak": "contain", "reason": "seen in the logs", "requested_by": "ana"});
        for (key, value) in extra.as_object().unwrap() {
            payload[key] = value.clone();
        }
        read(&payload, &home())
    }

    #[test]
    fn a_role_by_name_or_arn_is_one_principal() {
        let Request::Contain(by_name, _) = contain(&json!({"role": "orders"})).unwrap() else { unreachable!() };
        let Request::Contain(by_arn, asked) =
            contain(&json!({"role": "arn:aws:iam::111122223333:role/team/orders"})).unwrap()
        else {
            unreachable!()
        };
        assert_eq!(by_name.principal.incident_id(), by_arn.principal.incident_id());
        assert_eq!(asked, Asked { by: "ana".into(), reason: "seen in the logs".into() });
    }

    const FUNCTION: &str = "arn:aws:lambda:eu-west-1:111122223333:function:orders";

    #[test]
    fn a_message_stays_short_whatever_it_repeats() {
        let error = contain(&json!({"role": "orders", "x".repeat(1_000_000): 1})).unwrap_err().to_string();
        assert!(error.chars().count() < 500, "{} characters", error.chars().count());
    }

    #[test]
    fn a_release_is_of_one_incident_or_of_all_since_a_time() {
        let id = "fb-000000000000000000000000";
        let release = |extra: &Value| {
            let mut payload = json!({"firebreak": "release", "reason": "over", "requested_by": "ana"});
            payload.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            read(&payload, &home())
        };
        let Request::Release(one, _) = release(&json!({"incident_id": id})).unwrap() else { unreachable!() };
        assert_eq!(one.incident_id.as_str(), id);
        let since = release(&json!({"since": "2026-11-21T02:00:00Z", "drills": true})).unwrap();
        let Request::ReleaseSince(many, _) = since else { unreachable!() };
        assert_eq!((many.since.to_string().as_str(), many.drills), ("2026-11-21T02:00:00Z", true));
        for wrong in [
            json!({}),
            json!({"incident_id": id, "since": "2026-11-21T02:00:00Z"}),
            json!({"incident_id": id, "drills": true}),
            json!({"since": "2026-11-21T02:00:00Z", "reactivate_keys": ["AKIAEXAMPLE000000001"]}),
        ] {
            assert_eq!(release(&wrong).unwrap_err().to_string(), RequestError::WhichRelease.to_string(), "{wrong}");
        }
        release(&json!({"since": "yesterday"})).unwrap_err();
        assert!(matches!(read(&json!({"firebreak": "list"}), &home()), Ok(Request::List)));
    }

    #[test]
    fn what_is_wrong_is_refused_and_named() {
        for (extra, names) in [
            (json!({}), "exactly one of `role` and `user`"),
            (json!({"role": "a", "user": "b"}), "exactly one"),
            (json!({"role": "orders", "force": true}), "force"),
            (json!({"role": "arn:aws:iam::111122223333:user/orders"}), "exactly one"),
            (json!({"role": "arn:aws:iam::444455556666:role/orders"}), "not in this account"),
            (json!({"role": "or ders"}), "no role name"),
            (json!({"role": "orders", "reason": ""}), "`reason`"),
            (json!({"role": "orders", "reason": "a\nb"}), "`reason`"),
            (json!({"role": "orders", "requested_by": "x".repeat(257)}), "`requested_by`"),
            (json!({"role": "orders", "response": ["destroy"]}), "destroy"),
            (json!({"role": "orders", "response": []}), "empty"),
            (json!({"role": "orders", "response": ["isolate", "recycle"]}), "choose one"),
            (json!({"role": "orders", "functions": ["*"]}), "no function ARN"),
            (json!({"firebreak": "explode"}), "explode"),
            (json!({"firebreak": "\u{1b}[2Jexplode"}), "\u{fffd}[2Jexplode"),
            (json!({"role": "orders", "access_keys": vec!["AKIAEXAMPLE000000001"; 21]}), "more than 20"),
            (json!({"role": "orders", "functions": vec![FUNCTION; 101]}), "more than 100"),
        ] {
            let error = contain(&extra).unwrap_err().to_string();
            assert!(error.contains(names), "{extra}: {error}");
        }
    }

    #[test]
    fn an_event_is_never_a_request() {
        assert!(!is_request(&json!({"firebreak": "contain", "detail-type": "GuardDuty Finding"})));
        assert!(is_request(&json!({"firebreak": "pause"})));
        assert!(!is_request(&json!([])));
    }
}
