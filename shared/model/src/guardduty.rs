//! Reads GuardDuty findings: camelCase as EventBridge sends them, PascalCase as `GetFindings` does.
//!
//! Wrong or missing fields are normal. Only a finding without a type is malformed; all
//! else that is missing makes a finding less containable, with the reason said.
//! The paths and their traps are those of the GuardDuty user guide, "Finding details".

mod sequence;

use serde_json::Value;

use crate::actor::Actor;
use crate::finding::{Caller, Finding, Format, Lookup, Source, Subject, SubjectKind};
use crate::foreign::{account, address, at, flag, list, partition_of, principal_id, severity, text, time};
use crate::ids::{AccountId, FunctionArn, InstanceProfileArn, Region, RoleArn, shown, shown_id};
use crate::principal::{Principal, PrincipalName};

/// Reads the `detail` of a GuardDuty event. `fallback_id` names it where it does not name itself.
///
/// # Errors
/// A sentence saying what is missing, where the value is no finding at all.
pub fn read(detail: &Value, source: Source, fallback_id: &str) -> Result<Finding, String> {
    if !detail.is_object() {
        return Err("the `detail` of the event is no object".to_owned());
    }
    let finding_type = text(detail, &["type"]).ok_or("the finding has no `type`")?;
    let id = text(detail, &["id"]).or(Some(fallback_id).filter(|id| !id.is_empty()));
    let mut finding = Finding::new(id.ok_or("the finding has no `id`")?, finding_type, source, Format::GuardDuty);
    finding.severity = severity(detail, &["severity"], 10.0);
    finding.account = account(detail, &["accountId"]);
    finding.region = text(detail, &["region"]).and_then(|t| t.parse().ok());
    finding.first_seen = time(detail, &["service", "eventFirstSeen"]);
    finding.last_seen = time(detail, &["service", "eventLastSeen"]);
    finding.updated_at = shown_id(text(detail, &["updatedAt"]).unwrap_or_default());
    finding.sample = is_sample(detail);
    finding.archived = flag(detail, &["service", "archived"]) == Some(true);
    finding.resource_types = text(detail, &["resource", "resourceType"]).map(shown).into_iter().collect();
    finding.caller = caller(detail);
    if sequence::is_missing(detail) {
        finding.reread_from = text(detail, &["service", "detectorId"]).and_then(|t| t.parse().ok());
    }
    let owner = Owner { account: finding.owner(), region: finding.region.clone() };
    Ok(finding.pointing_at(subjects(detail, &owner)))
}

/// Whom the actors of a sequence are: Security Hub carries the block too.
pub(crate) fn actors_of_sequence(sequence: &Value, account: &AccountId) -> Vec<Subject> {
    list(sequence, &["actors"]).filter_map(|actor| sequence::of_actor(actor, account)).collect()
}

/// The account and Region that the finding is about.
struct Owner {
    account: AccountId,
    region: Option<Region>,
}

/// What generated samples hold where AWS, not the owner of a resource, chooses the text. A name is no marker: a thief
/// could call a user of his own `GeneratedFindingUserName`.
const GENERATED: [&[&str]; 8] = [
    &["resource", "accessKeyDetails", "accessKeyId"],
    &["resource", "accessKeyDetails", "principalId"],
    &["resource", "lambdaDetails", "functionArn"],
    &["resource", "eksClusterDetails", "arn"],
    &["resource", "ecsClusterDetails", "arn"],
    &["resource", "rdsDbInstanceDetails", "dbInstanceArn"],
    &["service", "action", "awsApiCallAction", "remoteIpDetails", "organization", "isp"],
    &["service", "action", "networkConnectionAction", "remoteIpDetails", "organization", "isp"],
];

/// The marker is a flag, or a flag inside a JSON text, or a text that only a sample has.
fn is_sample(detail: &Value) -> bool {
    let info = at(detail, &["service", "additionalInfo"]);
    let marked = info.and_then(|i| flag(i, &["sample"])) == Some(true);
    let inside = info
        .and_then(|i| text(i, &["value"]))
        .and_then(|t| serde_json::from_str::<Value>(t).ok())
        .and_then(|v| flag(&v, &["sample"]))
        == Some(true);
    let generated = GENERATED.iter().any(|path| text(detail, path).is_some_and(|t| t.starts_with("GeneratedFinding")));
    marked || inside || generated
}

/// The addresses and the other account that the calls came from.
fn caller(detail: &Value) -> Caller {
    let call = ["service", "action", "awsApiCallAction"];
    let path = |rest: &[&'static str]| call.iter().copied().chain(rest.iter().copied()).collect::<Vec<_>>();
    let mut addresses: Vec<_> = ["ipAddressV4", "ipAddressV6"]
        .into_iter()
        .filter_map(|name| address(detail, &path(&["remoteIpDetails", name])))
        .collect();
    for endpoint in list(detail, &["service", "detection", "sequence", "endpoints"]) {
        addresses.extend(address(endpoint, &["ip"]));
    }
    Caller { addresses, affiliated: flag(detail, &path(&["remoteAccountDetails", "affiliated"])) }
}

fn subjects(detail: &Value, owner: &Owner) -> Vec<Subject> {
    let mut found = Vec::new();
    let object = |path: &[&str]| at(detail, path).filter(|v| v.is_object());
    if let Some(details) = object(&["resource", "accessKeyDetails"]) {
        found.push(access_key(details, detail, owner));
    }
    if let Some(details) = object(&["resource", "lambdaDetails"]) {
        found.push(lambda(details, owner));
    }
    // Whose credentials they were stands above all; the instance's profile may have another role by now.
    let named = found.iter().any(|s| matches!(s, Subject::Principal { .. } | Subject::Lookup { .. }));
    // A container of ECS has the credentials of its task; any other has those of the instance.
    let task = object(&["resource", "ecsClusterDetails", "taskDetails"]).and_then(task);
    let instance = object(&["resource", "instanceDetails"]);
    match (task, instance) {
        _ if named => {}
        (Some(task), _) => found.push(task),
        (None, Some(instance)) => found
            .push(instance_profile(text(instance, &["iamInstanceProfile", "arn"]), text(instance, &["instanceId"]))),
        (None, None) => {
            if object(&["resource", "ecsClusterDetails"]).is_some() {
                let cluster = text(detail, &["resource", "ecsClusterDetails", "name"]).unwrap_or("the ECS cluster");
                let reason = "the finding names the cluster, not the task whose role was used";
                found.push(Subject::not_containable(None, cluster, reason));
            }
        }
    }
    if found.is_empty() {
        found.extend(nobody_in_iam(detail));
    }
    found.extend(sequence::subjects(detail, owner));
    found
}

/// `resource.accessKeyDetails`.
fn access_key(details: &Value, detail: &Value, owner: &Owner) -> Subject {
    let key = text(details, &["accessKeyId"]).and_then(|t| t.parse().ok());
    let id = text(details, &["principalId"]).unwrap_or_default();
    let actor = Actor {
        user_type: text(details, &["userType"]).unwrap_or_default(),
        name: text(details, &["userName"]),
        principal_id: id,
        issuer: None,
        account: &owner.account,
    };
    let mut subject = actor.subject(key);
    if let Subject::Principal { principal, function, .. } = &mut subject
        && matches!(principal.name, PrincipalName::Role(_))
    {
        let (_, session) = principal_id(id);
        *function = session.and_then(|name| function_of_session(name, detail, owner));
    }
    subject
}

/// The session of a Lambda function's credentials bears the function's name. Only where the finding
/// says that these are a function's credentials: elsewhere a session may be called anything.
fn function_of_session(session: &str, detail: &Value, owner: &Owner) -> Option<FunctionArn> {
    let of_lambda = text(detail, &["type"])?.contains("ResourceCredentialExfiltration");
    let region = owner.region.as_ref()?;
    if !of_lambda {
        return None;
    }
    let partition = text(detail, &["partition"]).and_then(|t| t.parse().ok()).unwrap_or(partition_of(region));
    FunctionArn::new(partition, region, &owner.account, session).ok()
}

/// `resource.lambdaDetails`. `role` is documented only as "execution role": an ARN, a name or nothing.
fn lambda(details: &Value, owner: &Owner) -> Subject {
    let function = match text(details, &["functionArn"]).unwrap_or_default().parse::<FunctionArn>() {
        Ok(function) => function.unqualified(),
        Err(error) => {
            let name = text(details, &["functionName"]).unwrap_or("the function");
            return Subject::not_containable(Some(SubjectKind::Function), name, error.to_string());
        }
    };
    let role = text(details, &["role"]).unwrap_or_default();
    let principal = match (role.parse::<RoleArn>(), role.parse()) {
        (Ok(_), _) => Principal::from_arn(role).ok(),
        (Err(_), Ok(name)) => Some(Principal {
            account: owner.account.clone(),
            name: PrincipalName::Role(name),
            arn: None,
            unique_id: None,
        }),
        (Err(_), Err(_)) => None,
    };
    match principal {
        Some(principal) => Subject::Principal { principal, access_key: None, function: Some(function) },
        None => Subject::Lookup { lookup: Lookup::Function { function }, access_key: None },
    }
}

/// An instance's profile, whose role is another name; `instance` names it where it has none.
fn instance_profile(profile: Option<&str>, instance: Option<&str>) -> Subject {
    let what = profile.or(instance).unwrap_or("the instance");
    match profile.map(str::parse::<InstanceProfileArn>) {
        Some(Ok(arn)) => Subject::Lookup { lookup: Lookup::InstanceProfile { arn }, access_key: None },
        Some(Err(error)) => Subject::not_containable(Some(SubjectKind::Role), what, error.to_string()),
        None => {
            let reason = "the finding names no instance profile: an instance without one has no AWS credentials";
            Subject::not_containable(None, what, reason)
        }
    }
}

/// `taskDetails`: the task, whose role may be overridden, and its definition.
fn task(details: &Value) -> Option<Subject> {
    let task = text(details, &["arn"]).and_then(|t| t.parse().ok());
    let definition = text(details, &["definitionArn"]).and_then(|t| t.parse().ok());
    if task.is_none() && definition.is_none() {
        return None;
    }
    Some(Subject::Lookup { lookup: Lookup::Task { task, definition }, access_key: None })
}

/// Whoever acted is known to a database or a cluster, not to IAM.
fn nobody_in_iam(detail: &Value) -> Option<Subject> {
    let user = text(detail, &["resource", "rdsDbUserDetails", "user"]);
    if let Some(user) = user.or_else(|| text(detail, &["resource", "rdsDbInstanceDetails", "dbInstanceIdentifier"])) {
        return Some(Subject::not_containable(
            None,
            user,
            "a database user is no IAM principal: block it in the database",
        ));
    }
    let user = text(detail, &["resource", "kubernetesDetails", "kubernetesUserDetails", "username"]);
    if let Some(user) = user.or_else(|| text(detail, &["resource", "eksClusterDetails", "name"])) {
        let reason = "a Kubernetes user is no IAM principal: revoke it in the cluster";
        return Some(Subject::not_containable(None, user, reason));
    }
    None
}
