//! Who made a call, as a finding or a record describes it: which role or user that is, or why nobody can be contained.

use crate::finding::{Lookup, Subject, SubjectKind};
use crate::foreign::principal_id;
use crate::ids::{AccessKeyId, AccountId, UniqueId, shown};
use crate::principal::{Principal, PrincipalKind, PrincipalName};

const ROOT: &str = "the root user cannot be denied from inside its account: sign in as root, rotate its password, \
                    delete its access keys";

/// A federated session bears a name that its maker chose: a user of that name may exist, and is innocent.
const FEDERATED: &str = "the finding names a federated session without its access key: find the user who minted it in \
                         CloudTrail's `GetFederationToken` and contain it by hand";

const IDENTITY_CENTER: &str = "a user of IAM Identity Center is no IAM user: end the session there";

/// A caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actor<'a> {
    /// `AssumedRole`, `IAMUser`, `Root`, …; empty where it is not said.
    pub(crate) user_type: &'a str,
    /// For an assumed role the bare name of the role: a user of the same name may exist, and is innocent.
    pub(crate) name: Option<&'a str>,
    /// `AROA…:session`, `AIDA…`, an account, or nothing.
    pub(crate) principal_id: &'a str,
    /// The ARN of the role or user behind the session: the best source, it has the path.
    pub(crate) issuer: Option<&'a str>,
    /// The account that the caller belongs to.
    pub(crate) account: &'a AccountId,
}

impl Actor<'_> {
    /// The principal to contain, how to find it, or why there is none.
    pub(crate) fn subject(&self, access_key: Option<AccessKeyId>) -> Subject {
        let what = self.name.or(self.issuer).or(Some(self.principal_id).filter(|id| !id.is_empty()));
        let what = what.unwrap_or("the caller");
        if let Some(mut principal) = self.issuer.and_then(|arn| Principal::from_arn(arn).ok()) {
            principal.unique_id = self.unique_id(principal.name.kind());
            return Subject::Principal { principal, access_key, function: None };
        }
        let no = |kind: SubjectKind, reason: &str| Subject::not_containable(Some(kind), what, reason);
        let kind = match self.user_type {
            "AssumedRole" | "Role" => PrincipalKind::Role,
            "IAMUser" | "User" => PrincipalKind::User,
            "Root" | "RootUser" => return Subject::not_containable(Some(SubjectKind::User), "root", ROOT),
            "FederatedUser" => match access_key {
                Some(key) => {
                    let lookup = Lookup::Federation { access_key: key.clone() };
                    return Subject::Lookup { lookup, access_key: Some(key) };
                }
                None => return no(SubjectKind::User, FEDERATED),
            },
            "IdentityCenterUser" => return no(SubjectKind::User, IDENTITY_CENTER),
            "AWSAccount" => return no(SubjectKind::Role, "the caller belongs to another account: tell its owner"),
            "AWSService" => return Subject::not_containable(None, what, "the caller is an AWS service"),
            "" => {
                let reason = "the finding does not say whether this is a user or a role: one of the two is innocent";
                return Subject::not_containable(self.name.map(|_| SubjectKind::User), what, reason);
            }
            other => {
                let reason = format!("a principal of type `{}` cannot be contained by IAM policy", shown(other));
                return Subject::not_containable(None, what, reason);
            }
        };
        let name = match (kind, self.name.or_else(|| self.name_in_arn())) {
            (PrincipalKind::Role, Some(name)) => name.parse().map(PrincipalName::Role),
            (PrincipalKind::User, Some(name)) => name.parse().map(PrincipalName::User),
            (kind, None) => match self.unique_id(kind) {
                Some(id) => return Subject::Lookup { lookup: Lookup::UniqueId { kind, id }, access_key },
                None => return no(kind.into(), &format!("the finding does not name the {kind}")),
            },
        };
        match name {
            Ok(name) => {
                let unique_id = self.unique_id(kind);
                let principal = Principal { account: self.account.clone(), name, arn: None, unique_id };
                Subject::Principal { principal, access_key, function: None }
            }
            Err(error) => no(kind.into(), &format!("the {kind}'s name cannot be one: {error}")),
        }
    }

    /// The role's name in `arn:…:sts::…:assumed-role/NAME/SESSION`, which has no path.
    fn name_in_arn(&self) -> Option<&str> {
        let resource = self.issuer?.splitn(6, ':').nth(5)?;
        resource.strip_prefix("assumed-role/")?.split('/').next()
    }

    /// The unique id, where it is one of the kind.
    fn unique_id(&self, kind: PrincipalKind) -> Option<UniqueId> {
        let (id, _) = principal_id(self.principal_id);
        let prefix = match kind {
            PrincipalKind::Role => "AROA",
            PrincipalKind::User => "AIDA",
        };
        id.filter(|id| id.as_str().starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    fn subject(user_type: &str, name: Option<&str>, principal_id: &str, issuer: Option<&str>) -> Subject {
        let account: AccountId = "111122223333".parse().unwrap();
        Actor { user_type, name, principal_id, issuer, account: &account }.subject(None)
    }

    #[test]
    fn the_issuer_says_it_best_and_brings_the_path() {
        let arn = "arn:aws-cn:iam::444455556666:role/team/orders";
        let Subject::Principal { principal, .. } =
            subject("AssumedRole", Some("other"), "AROAEXAMPLE000000001:s", Some(arn))
        else {
            panic!("an issuer is a principal");
        };
        assert_eq!(principal.arn.as_deref(), Some(arn));
        assert_eq!(principal.account.as_str(), "444455556666");
        assert_eq!(principal.unique_id.unwrap().as_str(), "AROAEXAMPLE000000001");
    }

    #[test]
    fn a_federated_user_is_its_issuer_or_is_looked_up_by_its_key() {
        let parent = "arn:aws:iam::111122223333:user/ana";
        let Subject::Principal { principal, .. } = subject("FederatedUser", Some("bo"), "1:bo", Some(parent)) else {
            panic!("the issuer is the parent");
        };
        assert_eq!(principal.name.to_string(), "user/ana");
        let Subject::NotContainable { kind, .. } = subject("FederatedUser", Some("bo"), "1:bo", None) else {
            panic!("the session's name is nobody's");
        };
        assert_eq!(kind, Some(SubjectKind::User));
        let account: AccountId = "111122223333".parse().unwrap();
        let key: AccessKeyId = "ASIAEXAMPLEFED000001".parse().unwrap();
        let actor = Actor {
            user_type: "FederatedUser",
            name: Some("bo"),
            principal_id: "1:bo",
            issuer: None,
            account: &account,
        };
        let lookup = Lookup::Federation { access_key: key.clone() };
        assert_eq!(actor.subject(Some(key.clone())), Subject::Lookup { lookup, access_key: Some(key) });
    }

    #[test]
    fn without_a_name_the_unique_id_is_looked_up_if_it_is_of_the_kind() {
        let found = subject("AssumedRole", None, "AROAEXAMPLE000000001:s", None);
        let Subject::Lookup { lookup: Lookup::UniqueId { kind, id }, .. } = found else { panic!("{found:?}") };
        assert_eq!((kind, id.as_str()), (PrincipalKind::Role, "AROAEXAMPLE000000001"));
        assert!(matches!(subject("IAMUser", None, "AROAEXAMPLE000000001", None), Subject::NotContainable { .. }));
        assert!(matches!(subject("IAMUser", None, "", None), Subject::NotContainable { .. }));
    }

    #[test]
    fn the_name_in_an_assumed_role_arn_is_the_roles() {
        let arn = "arn:aws:sts::111122223333:assumed-role/orders/session";
        let Subject::Principal { principal, .. } = subject("AssumedRole", None, "", Some(arn)) else {
            panic!("an assumed role is a role");
        };
        assert_eq!((principal.name.to_string().as_str(), principal.arn), ("role/orders", None));
    }

    #[test]
    fn who_cannot_be_contained_is_said_with_the_reason() {
        for (user_type, name, says) in [
            ("Root", Some("root"), "root user"),
            ("AWSAccount", None, "another account"),
            ("AWSService", Some("ec2.amazonaws.com"), "AWS service"),
            ("IdentityCenterUser", Some("ana"), "Identity Center"),
            ("", Some("ana"), "whether this is a user or a role"),
            ("Unknown", Some("ana"), "type `Unknown`"),
            ("IAMUser", Some("${aws:username}"), "no user name"),
            ("AssumedRole", Some("../../admin"), "no role name"),
        ] {
            let Subject::NotContainable { reason, .. } = subject(user_type, name, "", None) else {
                panic!("{user_type} is not containable");
            };
            assert!(reason.contains(says), "{user_type}: {reason}");
        }
    }
}
