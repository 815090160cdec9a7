//! What both formats of Security Hub have in common: kinds of resource, finding types that GuardDuty wrote, severities.

pub mod asff;
pub mod ocsf;

use serde_json::Value;

use crate::actor::Actor;
use crate::finding::{Lookup, Nature, Subject, SubjectKind};
use crate::foreign::{at, text};
use crate::ids::{AccessKeyId, AccountId, FunctionArn, InstanceProfileArn, RoleArn};
use crate::playbook::Glob;
use crate::principal::Principal;

/// The product that GuardDuty's findings bear, in every partition and Region: of the first format, and of the second.
pub(crate) const GUARDDUTY: [&str; 2] =
    ["arn:aws*:securityhub:*::product/aws/guardduty", "arn:aws*:securityhub:*::productv2/aws/guardduty"];

/// Whether a product is GuardDuty: nobody else can import under its ARN.
fn is_guardduty(product: &str) -> bool {
    GUARDDUTY.iter().any(|glob| Glob::from(*glob).matches(product))
}

/// The finding's own id in the id that GuardDuty gives it in Security Hub: an ARN that ends in it.
fn last_part(id: &str) -> &str {
    id.rsplit('/').find(|part| !part.is_empty()).unwrap_or(id)
}

/// The types that say how something is configured or built, not that anything happened.
const POSTURE: [&str; 4] =
    ["Software and Configuration Checks", "Sensitive Data Identifications", "Exposure/", "Vulnerabilities"];

fn nature<'a>(types: impl Iterator<Item = &'a str>, says_so: bool) -> Nature {
    let mut types = types.peekable();
    let all_posture = types.peek().is_some() && types.all(|t| POSTURE.iter().any(|prefix| t.starts_with(prefix)));
    if says_so || all_posture { Nature::Posture } else { Nature::Detection }
}

/// GuardDuty's own type in a type of Security Hub: `TTPs/Discovery/Recon:IAMUser-ResourcePermissions` and
/// `TTPs/PenTest:IAMUser/KaliLinux` both occur.
fn guardduty_type(text: &str) -> Option<String> {
    let colon = text.find(':')?;
    let from = text.get(..colon)?.rfind('/').map_or(0, |slash| slash + 1);
    let (purpose, family) = (text.get(from..colon)?, text.get(colon + 1..)?);
    let family = if family.contains('/') { family.to_owned() } else { family.replacen('-', "/", 1) };
    Some(format!("{purpose}:{family}"))
}

/// A label of severity on GuardDuty's scale of 0 to 10.
fn severity_of_label(label: &str) -> Option<f64> {
    Some(match label.to_ascii_uppercase().as_str() {
        "INFORMATIONAL" => 0.0,
        "LOW" => 2.0,
        "MEDIUM" => 5.0,
        "HIGH" => 8.0,
        "CRITICAL" => 9.0,
        "FATAL" => 10.0,
        _ => return None,
    })
}

/// The kind of a resource without the spelling: `AwsIamRole`, `AWSIAMRole` and `AWS::IAM::Role` are one.
fn kind_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The details of a resource: under a key named after its kind, with or without `Details`, or at the top.
fn details_of<'a>(data: &'a Value, kind: &str) -> &'a Value {
    let named = data.as_object().and_then(|object| {
        object.iter().find(|(key, value)| {
            let key = kind_of(key);
            value.is_object() && (key == kind || key.strip_suffix("details") == Some(kind))
        })
    });
    named.map_or(data, |(_, value)| value)
}

/// The first of several names that a member may have.
fn any_text<'a>(value: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| text(value, &[*name]))
}

/// Whom a resource points at; `None` for kinds that are nobody.
fn of_resource(kind: &str, uid: &str, data: &Value, account: &AccountId) -> Option<Subject> {
    let kind = kind_of(kind);
    let details = details_of(data, &kind);
    match kind.as_str() {
        "awsiamaccesskey" => Some(access_key(uid, details, account)),
        "awsiamrole" | "awsiamuser" => Some(principal(&kind, uid, details, account)),
        "awslambdafunction" => Some(function(uid, details)),
        "awsec2instance" => Some(instance(uid, details)),
        "awsecstask" => {
            let definition = any_text(details, &["taskDefinitionArn"]).and_then(|t| t.parse().ok());
            let task = uid.parse().ok();
            let named = task.is_some() || definition.is_some();
            named.then_some(Subject::Lookup { lookup: Lookup::Task { task, definition }, access_key: None })
        }
        _ => None,
    }
}

/// An access key. The identifier may be `AWS::IAM::AccessKey:null`, and `UserName` may name a role beside an `ASIA` key.
fn access_key(uid: &str, details: &Value, account: &AccountId) -> Subject {
    let id = any_text(details, &["accessKeyId"]).or_else(|| uid.rsplit(':').next());
    let key: Option<AccessKeyId> = id.and_then(|t| t.parse().ok());
    let principal_id = any_text(details, &["principalId"]).unwrap_or_default();
    let issuer = at(details, &["sessionContext", "sessionIssuer"]).unwrap_or(&Value::Null);
    let said = any_text(details, &["principalType", "userType"]);
    let long_term = key.as_ref().is_some_and(|key| key.as_str().starts_with("AKIA"));
    let user_type = said.unwrap_or(match principal_id.get(..4) {
        Some("AROA") => "AssumedRole",
        Some("AIDA") => "IAMUser",
        _ if long_term => "IAMUser",
        _ => "",
    });
    let actor = Actor {
        user_type,
        name: text(issuer, &["userName"])
            .or_else(|| any_text(details, &["principalName", "userName"]))
            .or_else(|| text(details, &["user", "name"])),
        principal_id,
        issuer: text(issuer, &["arn"]),
        account,
    };
    actor.subject(key)
}

/// A role or user, by its ARN or by its name.
fn principal(kind: &str, uid: &str, details: &Value, account: &AccountId) -> Subject {
    let (user_type, name) = match kind {
        "awsiamrole" => ("AssumedRole", any_text(details, &["roleName"])),
        _ => ("IAMUser", any_text(details, &["userName"])),
    };
    let principal_id = any_text(details, &["roleId", "userId"]).unwrap_or_default();
    Actor { user_type, name, principal_id, issuer: Some(uid), account }.subject(None)
}

/// A function, with its role where the finding says it.
fn function(uid: &str, details: &Value) -> Subject {
    let function = match uid.parse::<FunctionArn>() {
        Ok(function) => function.unqualified(),
        Err(error) => return Subject::not_containable(Some(SubjectKind::Function), uid, error.to_string()),
    };
    let role = any_text(details, &["executionRoleArn", "role"]).filter(|role| role.parse::<RoleArn>().is_ok());
    match role.and_then(|role| Principal::from_arn(role).ok()) {
        Some(principal) => Subject::Principal { principal, access_key: None, function: Some(function) },
        None => Subject::Lookup { lookup: Lookup::Function { function }, access_key: None },
    }
}

fn instance(uid: &str, details: &Value) -> Subject {
    let profile =
        any_text(details, &["iamInstanceProfileArn"]).or_else(|| text(details, &["iamInstanceProfile", "arn"]));
    match profile.map(str::parse::<InstanceProfileArn>) {
        Some(Ok(arn)) => Subject::Lookup { lookup: Lookup::InstanceProfile { arn }, access_key: None },
        Some(Err(error)) => Subject::not_containable(Some(SubjectKind::Role), uid, error.to_string()),
        None => Subject::not_containable(None, uid, "the finding names no instance profile of the instance"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn guarddutys_own_type_is_found_in_either_spelling() {
        for (text, expected) in [
            ("TTPs/Discovery/Recon:IAMUser-ResourcePermissions", Some("Recon:IAMUser/ResourcePermissions")),
            ("TTPs/PenTest:IAMUser/KaliLinux", Some("PenTest:IAMUser/KaliLinux")),
            (
                "Effects/Data Exfiltration/UnauthorizedAccess:IAMUser-InstanceCredentialExfiltration.OutsideAWS",
                Some("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS"),
            ),
            ("Custom:IAMUser-Of-Ours", Some("Custom:IAMUser/Of-Ours")),
            ("AttackSequence:IAM/CompromisedCredentials", Some("AttackSequence:IAM/CompromisedCredentials")),
            ("Unusual Behaviors/User", None),
        ] {
            assert_eq!(guardduty_type(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn only_guardduty_is_guardduty() {
        assert!(is_guardduty("arn:aws-us-gov:securityhub:us-gov-west-1::product/aws/guardduty"));
        assert!(is_guardduty("arn:aws:securityhub:us-east-1::productv2/aws/guardduty"));
        for other in [
            "arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default",
            "arn:aws:securityhub:eu-west-1::product/aws/guardduty2",
            "arn:aws:securityhub:eu-west-1::product/aws/inspector",
            "arn:aws:securityhub:eu-west-1::productv2/aws/inspector",
        ] {
            assert!(!is_guardduty(other), "{other}");
        }
    }

    /// As Security Hub sends it, with the ids replaced.
    #[test]
    fn an_access_key_of_the_second_format_names_its_role_in_snake_case() {
        let data = json!({"access_key_id": "ASIAEXAMPLEKEY000001", "principal_id": "AROAEXAMPLEROLE00001:session-1",
            "user_name": "orders-worker-role", "user_type": "AssumedRole"});
        let account = "111122223333".parse().unwrap();
        let subject = of_resource("AWS::IAM::AccessKey", "ASIAEXAMPLEKEY000001", &data, &account);
        let Some(Subject::Principal { principal, access_key, .. }) = subject else { panic!("{subject:?}") };
        assert_eq!(principal.name.to_string(), "role/orders-worker-role");
        assert_eq!(principal.unique_id.unwrap().as_str(), "AROAEXAMPLEROLE00001");
        assert_eq!(access_key.unwrap().as_str(), "ASIAEXAMPLEKEY000001");
    }

    #[test]
    fn a_kind_is_one_in_every_spelling() {
        for text in ["AwsIamAccessKey", "AWSIAMAccessKey", "AWS::IAM::AccessKey"] {
            assert_eq!(kind_of(text), "awsiamaccesskey");
        }
    }
}
