//! Reads GuardDuty findings: camelCase as EventBridge sends them, PascalCase as `GetFindings` does.
//!
//! Wrong or missing fields are normal. Only a finding without an id or a type is malformed; all
//! else that is missing makes a finding less containable, with the reason said.
//! The paths and their traps are those of the GuardDuty user guide, "Finding details".

use jiff::Timestamp;
use serde_json::Value;

use crate::finding::{Finding, Source, Subject};
use crate::ids::{AccessKeyId, AccountId, FunctionArn, Partition, Region, RoleArn, UniqueId, shown};
use crate::principal::{Principal, PrincipalName};

/// A member of a JSON object, whichever case its first letter has.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    object.get(name).or_else(|| {
        let mut letters = name.chars();
        let first = letters.next()?;
        object.get(&format!("{}{}", first.to_ascii_uppercase(), letters.as_str()))
    })
}

/// A member by a path of names.
fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| field(value, name))
}

/// A non-empty string by a path of names.
fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

fn list<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    at(value, path).and_then(Value::as_array).into_iter().flatten()
}

fn time(value: &Value, path: &[&str]) -> Option<Timestamp> {
    text(value, path)?.parse().ok()
}

/// Reads the `detail` of a GuardDuty event.
///
/// # Errors
/// A sentence saying what is missing, where the value is no finding at all.
pub fn read(detail: &Value, source: Source) -> Result<Finding, String> {
    if !detail.is_object() {
        return Err("the `detail` of the event is no object".to_owned());
    }
    let id = text(detail, &["id"]).ok_or("the finding has no `id`")?;
    let finding_type = text(detail, &["type"]).ok_or("the finding has no `type`")?;
    let account: Option<AccountId> = text(detail, &["accountId"]).and_then(|t| t.parse().ok());
    let mut finding = Finding {
        id: shown(id),
        finding_type: shown(finding_type),
        severity: severity(detail),
        account: account.clone(),
        region: text(detail, &["region"]).and_then(|t| t.parse().ok()),
        source,
        first_seen: time(detail, &["service", "eventFirstSeen"]),
        last_seen: time(detail, &["service", "eventLastSeen"]),
        updated_at: shown(text(detail, &["updatedAt"]).unwrap_or_default()),
        sample: is_sample(detail),
        archived: at(detail, &["service", "archived"]).is_some_and(|v| v.as_bool() == Some(true)),
        subjects: Vec::new(),
    };
    finding.subjects = match account {
        Some(account) => subjects(detail, &Owner { account, region: finding.region.clone() }),
        None => vec![not_containable("the finding", "it names no account".to_owned())],
    };
    Ok(finding)
}

/// A number, or a number written as a string; never outside 0–10.
fn severity(detail: &Value) -> Option<f64> {
    let value = field(detail, "severity")?;
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (0.0..=10.0).contains(&number).then_some(number)
}

/// The marker is a flag, or a flag inside a JSON text, or the names that generated samples carry.
fn is_sample(detail: &Value) -> bool {
    let info = at(detail, &["service", "additionalInfo"]);
    let flag = info.and_then(|i| field(i, "sample")).is_some_and(|v| v.as_bool() == Some(true));
    let inside = info
        .and_then(|i| text(i, &["value"]))
        .and_then(|t| serde_json::from_str::<Value>(t).ok())
        .and_then(|v| field(&v, "sample").and_then(Value::as_bool))
        == Some(true);
    let generated = [
        &["resource", "accessKeyDetails", "userName"] as &[&str],
        &["resource", "accessKeyDetails", "accessKeyId"],
        &["resource", "lambdaDetails", "functionName"],
    ]
    .iter()
    .any(|path| text(detail, path).is_some_and(|t| t.starts_with("GeneratedFinding")));
    flag || inside || generated
}

const ROOT: &str = "the root user cannot be denied from inside its account";

/// A federated session bears a name that its maker chose: a user of that name may exist, and is innocent.
const FEDERATED: &str = "the finding names a federated session, not the user whose key minted it: find that \
                         user by the access key in CloudTrail's `GetFederationToken` and contain it by hand";

struct Owner {
    account: AccountId,
    region: Option<Region>,
}

fn not_containable(what: &str, reason: String) -> Subject {
    Subject::NotContainable { what: shown(what), reason }
}

fn subjects(detail: &Value, owner: &Owner) -> Vec<Subject> {
    let mut found = Vec::new();
    if let Some(details) = at(detail, &["resource", "accessKeyDetails"]).filter(|v| v.is_object()) {
        found.push(access_key(details, detail, owner));
    }
    if let Some(details) = at(detail, &["resource", "lambdaDetails"]).filter(|v| v.is_object()) {
        found.push(lambda(details, owner));
    }
    for actor in list(detail, &["service", "detection", "sequence", "actors"]) {
        if let Some(subject) = sequence_actor(actor, owner) {
            found.push(subject);
        }
    }
    if found.is_empty() {
        let resource = text(detail, &["resource", "resourceType"]).unwrap_or("no resource");
        let reason = "the finding names no role, user or function that could be contained".to_owned();
        found.push(not_containable(resource, reason));
    }
    let mut unique: Vec<Subject> = Vec::new();
    for subject in found {
        if !unique.contains(&subject) {
            unique.push(subject);
        }
    }
    unique
}

/// `resource.accessKeyDetails`. For an assumed role `userName` is the bare role name: a user of the
/// same name may exist, and is innocent.
fn access_key(details: &Value, detail: &Value, owner: &Owner) -> Subject {
    let user_type = text(details, &["userType"]).unwrap_or_default();
    let user_name = text(details, &["userName"]);
    let access_key = text(details, &["accessKeyId"]).and_then(|t| t.parse::<AccessKeyId>().ok());
    let (id, session) = principal_id(text(details, &["principalId"]).unwrap_or_default());
    let what = user_name.unwrap_or("the access key");
    let named =
        |name: PrincipalName| Principal { account: owner.account.clone(), name, arn: None, unique_id: id.clone() };
    match user_type {
        "AssumedRole" | "Role" => match user_name.map(str::parse) {
            Some(Ok(role)) => Subject::Principal {
                principal: named(PrincipalName::Role(role)),
                access_key,
                function: session.and_then(|name| function_of_session(name, detail, owner)),
            },
            Some(Err(error)) => not_containable(what, format!("the role's name cannot be one: {error}")),
            None => not_containable(what, "the finding does not name the role".to_owned()),
        },
        "IAMUser" => match user_name.map(str::parse) {
            Some(Ok(user)) => {
                Subject::Principal { principal: named(PrincipalName::User(user)), access_key, function: None }
            }
            Some(Err(error)) => not_containable(what, format!("the user's name cannot be one: {error}")),
            None => not_containable(what, "the finding does not name the user".to_owned()),
        },
        "FederatedUser" => not_containable(what, FEDERATED.to_owned()),
        "Root" => not_containable(what, ROOT.to_owned()),
        "" => not_containable(what, "the finding does not say whether this is a role or a user".to_owned()),
        other => {
            not_containable(what, format!("a principal of type `{}` cannot be contained by IAM policy", shown(other)))
        }
    }
}

/// `AROA…:session`, `AIDA…`, or something else.
fn principal_id(text: &str) -> (Option<UniqueId>, Option<&str>) {
    match text.split_once(':') {
        Some((id, session)) => (id.parse().ok(), Some(session)),
        None => (text.parse().ok(), None),
    }
}

/// The session of a Lambda function's credentials bears the function's name. Only where the finding
/// says that these are a function's credentials: elsewhere a session may be called anything.
fn function_of_session(session: &str, detail: &Value, owner: &Owner) -> Option<FunctionArn> {
    let finding_type = text(detail, &["type"])?;
    let of_lambda = finding_type.contains("ResourceCredentialExfiltration");
    let region = owner.region.as_ref()?;
    if !of_lambda {
        return None;
    }
    FunctionArn::new(partition(detail, region), region, &owner.account, session).ok()
}

/// The partition, from the finding's own ARN or its Region.
fn partition(detail: &Value, region: &Region) -> Partition {
    let from_field = text(detail, &["partition"]).and_then(|t| t.parse().ok());
    from_field.unwrap_or_else(|| match region.as_str() {
        r if r.starts_with("cn-") => Partition::AwsCn,
        r if r.starts_with("us-gov-") => Partition::AwsUsGov,
        _ => Partition::Aws,
    })
}

/// `resource.lambdaDetails`. `role` is documented only as "execution role": an ARN, a name or nothing.
fn lambda(details: &Value, owner: &Owner) -> Subject {
    let arn_text = text(details, &["functionArn"]).unwrap_or_default();
    let function = match arn_text.parse::<FunctionArn>() {
        Ok(function) => function.unqualified(),
        Err(error) => return not_containable("the function", error.to_string()),
    };
    let principal = match text(details, &["role"]) {
        Some(role) if role.starts_with("arn:") => match role.parse::<RoleArn>() {
            Ok(arn) => Principal {
                account: arn.account().clone(),
                name: PrincipalName::Role(arn.name().clone()),
                arn: Some(arn.to_string()),
                unique_id: None,
            },
            Err(_) => return Subject::Function { function },
        },
        Some(name) => match name.parse() {
            Ok(name) => Principal {
                account: owner.account.clone(),
                name: PrincipalName::Role(name),
                arn: None,
                unique_id: None,
            },
            Err(_) => return Subject::Function { function },
        },
        None => return Subject::Function { function },
    };
    Subject::Principal { principal, access_key: None, function: Some(function) }
}

/// One of `service.detection.sequence.actors`: the session issuer is the best source, an ARN with its path.
/// An actor without a user is a process: it names no principal.
fn sequence_actor(actor: &Value, owner: &Owner) -> Option<Subject> {
    let user = field(actor, "user").filter(|v| v.is_object());
    let issuer = text(actor, &["session", "issuer"]);
    if user.is_none() && issuer.is_none() {
        return None;
    }
    let name = user.and_then(|u| text(u, &["name"]));
    let user_type = user.and_then(|u| text(u, &["type"])).unwrap_or_default();
    let account = user
        .and_then(|u| text(u, &["account", "uid"]))
        .and_then(|t| t.parse().ok())
        .unwrap_or_else(|| owner.account.clone());
    let (id, _) = principal_id(user.and_then(|u| text(u, &["uid"])).unwrap_or_default());
    let access_key = user.and_then(|u| text(u, &["credentialUid"])).and_then(|t| t.parse().ok());
    let what = issuer.or(name).unwrap_or("an actor");
    if let Some(mut principal) = issuer.and_then(|arn| Principal::from_arn(arn).ok()) {
        principal.unique_id = id;
        return Some(Subject::Principal { principal, access_key, function: None });
    }
    let parsed = match (user_type, name) {
        ("AssumedRole" | "Role", Some(name)) => name.parse().map(PrincipalName::Role),
        ("IAMUser", Some(name)) => name.parse().map(PrincipalName::User),
        ("Root", _) => return Some(not_containable(what, ROOT.to_owned())),
        ("FederatedUser", _) => return Some(not_containable(what, FEDERATED.to_owned())),
        (other, _) => {
            let reason = format!("an actor of type `{}` names no role or user that could be contained", shown(other));
            return Some(not_containable(what, reason));
        }
    };
    Some(match parsed {
        Ok(name) => {
            let principal = Principal { account, name, arn: None, unique_id: id };
            Subject::Principal { principal, access_key, function: None }
        }
        Err(error) => not_containable(what, error.to_string()),
    })
}
