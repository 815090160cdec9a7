//! Guard rails: what Firebreak does not touch, whoever asks. Checked on the name before anything is
//! read, on the identity that was read, and again by the action itself.

use crate::action::FunctionName;
use crate::finding::{DRILL_PATH, Source};
use crate::ids::FunctionArn;
use crate::playbook::{Glob, Protected};
use crate::principal::{Home, Identity, Principal, PrincipalKind};

/// The path of Firebreak's own roles.
pub const OWN_PATH: &str = "/firebreak/";

/// Why something is not touched: a sentence for the record and the page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Veto(pub String);

/// The rails of one decision.
#[derive(Debug, Clone, Copy)]
pub struct Rails<'a> {
    /// Where Firebreak runs.
    pub home: &'a Home,
    /// The stack's name, which Firebreak's own functions begin with.
    pub stack: &'a str,
    /// What the playbook protects.
    pub protected: &'a Protected,
    /// Patterns on the ARNs of the roles that deploy Firebreak.
    pub deployers: &'a [Glob],
    /// Whether a drill is asking.
    pub source: Option<Source>,
}

/// Roles that IAM does not let anyone edit, or that the organisation needs to get back in.
const UNTOUCHABLE_ROLES: [(&str, &str); 4] = [
    ("AWSServiceRoleFor*", "a service-linked role cannot be edited"),
    ("AWSReservedSSO_*", "a role of IAM Identity Center cannot be edited: end the session there"),
    ("AWSControlTowerExecution", "the role is Control Tower's way into this account"),
    ("OrganizationAccountAccessRole", "the role is the organisation's way into this account"),
];

/// The partition that an ARN says.
fn partition_in(arn: Option<&str>) -> Option<&str> {
    arn?.split(':').nth(1)
}

fn veto<T>(reason: impl Into<String>) -> Result<T, Veto> {
    Err(Veto(reason.into()))
}

impl Rails<'_> {
    /// What the name alone forbids, before anything is claimed or read.
    pub fn on_name(&self, principal: &Principal) -> Result<(), Veto> {
        if principal.account != self.home.account {
            return veto(format!(
                "`{}` is in account {}: Firebreak contains only in its own, {}",
                principal.name, principal.account, self.home.account
            ));
        }
        if let Some(elsewhere) = partition_in(principal.arn.as_deref()).filter(|p| *p != self.home.partition.as_str()) {
            let home = self.home.partition;
            return veto(format!("`{}` is in partition {elsewhere}, not in {home} as Firebreak is", principal.name));
        }
        if principal.name.kind() == PrincipalKind::Role {
            for (pattern, reason) in UNTOUCHABLE_ROLES {
                if Glob::from(pattern).matches(principal.name.as_str()) {
                    return veto(reason);
                }
            }
        }
        // A path that the finding claims can only forbid here; what permits is the path that is read.
        match principal.path() {
            Some(path) => self.on_path(principal, path),
            None => Ok(()),
        }
    }

    /// What the identity that is really there forbids.
    pub fn on_identity(&self, principal: &Principal, identity: &Identity) -> Result<(), Veto> {
        if let Some(pinned) = principal.unique_id.as_ref().filter(|pinned| **pinned != identity.unique_id) {
            return veto(format!(
                "the finding is about `{pinned}`, but `{}` is now `{}`: it was deleted and made again",
                principal.name, identity.unique_id
            ));
        }
        self.on_path(principal, &identity.path)?;
        if let Some(pattern) = self.deployers.iter().find(|glob| glob.matches(&identity.arn)) {
            return veto(format!("`{}` deploys Firebreak (`{}`)", principal.name, pattern.as_str()));
        }
        if self.source == Some(Source::Drill) && !identity.path.starts_with(DRILL_PATH) {
            return veto(format!("a drill acts under `{DRILL_PATH}` only, `{}` is not there", principal.name));
        }
        Ok(())
    }

    /// What forbids denying single sessions of a role. A role that is protected as a whole is not spared that: it hurts
    /// the session alone. What cannot be edited is, and Firebreak's own.
    pub fn on_sessions_of(&self, role: &Principal, identity: &Identity) -> Result<(), Veto> {
        let nothing = Protected::default();
        let bare = Rails { protected: &nothing, deployers: &[], ..*self };
        let editable = ["AWSControlTowerExecution", "OrganizationAccountAccessRole"].contains(&role.name.as_str());
        if !editable || role.account != self.home.account {
            bare.on_name(role)?;
        }
        bare.on_identity(role, identity)
    }

    fn on_path(&self, principal: &Principal, path: &str) -> Result<(), Veto> {
        let kind = principal.name.kind();
        if kind == PrincipalKind::Role {
            for (prefix, reason) in [
                (OWN_PATH, "the role is one of Firebreak's own"),
                ("/aws-service-role/", "a service-linked role cannot be edited"),
                ("/aws-reserved/", "a role of IAM Identity Center cannot be edited: end the session there"),
            ] {
                if path.starts_with(prefix) {
                    return veto(reason);
                }
            }
        }
        let patterns = match kind {
            PrincipalKind::Role => &self.protected.roles,
            PrincipalKind::User => &self.protected.users,
        };
        let full = format!("{path}{}", principal.name.as_str());
        match patterns.iter().find(|glob| glob.matches(&full)) {
            Some(glob) => veto(format!("the playbook protects `{}` (`{}`)", principal.name, glob.as_str())),
            None => Ok(()),
        }
    }

    /// What forbids touching a function.
    pub fn on_function(&self, function: &FunctionArn) -> Result<(), Veto> {
        if *function.account() != self.home.account {
            return veto(format!("`{function}` is in another account"));
        }
        if function.partition() != self.home.partition {
            return veto(format!("`{function}` is in another partition"));
        }
        if FunctionName::ALL.iter().any(|own| function.name() == format!("{}-{own}", self.stack)) {
            return veto(format!("`{}` is one of Firebreak's own functions", function.name()));
        }
        match self.protected.functions.iter().find(|glob| glob.matches(function.name())) {
            Some(glob) => veto(format!("the playbook protects `{}` (`{}`)", function.name(), glob.as_str())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::ids::Partition;

    struct World {
        home: Home,
        protected: Protected,
        deployers: Vec<Glob>,
    }

    fn world() -> World {
        World {
            home: Home { partition: Partition::Aws, account: "111122223333".parse().unwrap() },
            protected: Protected {
                roles: vec!["*/break-glass/*".into()],
                users: vec!["/root-ops".into()],
                functions: vec!["billing-*".into()],
            },
            deployers: vec!["arn:aws:iam::*:role/cicd/deploy".into()],
        }
    }

    impl World {
        fn rails(&self, source: Option<Source>) -> Rails<'_> {
            let Self { home, protected, deployers } = self;
            Rails { home, stack: "firebreak", protected, deployers, source }
        }
    }

    fn principal(arn: &str) -> Principal {
        Principal::from_arn(arn).unwrap()
    }

    fn identity(arn: &str, id: &str) -> Identity {
        let path = principal(arn).path().unwrap().to_owned();
        Identity { arn: arn.into(), path, unique_id: id.parse().unwrap(), created_at: None }
    }

    const ID: &str = "AROAEXAMPLE000000001";

    #[test]
    fn the_name_alone_protects() {
        let world = world();
        for arn in [
            "arn:aws:iam::444455556666:role/orders",
            "arn:aws-cn:iam::111122223333:role/orders",
            "arn:aws:iam::111122223333:role/AWSServiceRoleForLambda",
            "arn:aws:iam::111122223333:role/AWSReservedSSO_Admin_0123",
            "arn:aws:iam::111122223333:role/OrganizationAccountAccessRole",
            "arn:aws:iam::111122223333:role/AWSControlTowerExecution",
            "arn:aws:iam::111122223333:role/firebreak/any",
            "arn:aws:iam::111122223333:role/break-glass/ana",
            "arn:aws:iam::111122223333:user/root-ops",
        ] {
            assert!(world.rails(None).on_name(&principal(arn)).is_err(), "{arn}");
        }
        for arn in ["arn:aws:iam::111122223333:role/orders", "arn:aws:iam::111122223333:user/AWSReservedSSO_x"] {
            assert_eq!(world.rails(None).on_name(&principal(arn)), Ok(()), "{arn}");
        }
    }

    #[test]
    fn the_path_that_was_read_protects_where_the_finding_gave_none() {
        let world = world();
        let bare = Principal { arn: None, ..principal("arn:aws:iam::111122223333:role/ana") };
        assert_eq!(world.rails(None).on_name(&bare), Ok(()));
        for arn in [
            "arn:aws:iam::111122223333:role/break-glass/ana",
            "arn:aws:iam::111122223333:role/firebreak/ana",
            "arn:aws:iam::111122223333:role/aws-service-role/x.amazonaws.com/ana",
            "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/ana",
        ] {
            assert!(world.rails(None).on_identity(&bare, &identity(arn, ID)).is_err(), "{arn}");
        }
        assert_eq!(
            world.rails(None).on_identity(&bare, &identity("arn:aws:iam::111122223333:role/team/ana", ID)),
            Ok(())
        );
    }

    #[test]
    fn a_principal_made_again_under_the_same_name_is_not_touched() {
        let world = world();
        let arn = "arn:aws:iam::111122223333:role/orders";
        let pinned = Principal { unique_id: Some(ID.parse().unwrap()), ..principal(arn) };
        assert_eq!(world.rails(None).on_identity(&pinned, &identity(arn, ID)), Ok(()));
        assert!(world.rails(None).on_identity(&pinned, &identity(arn, "AROAEXAMPLE000000002")).is_err());
    }

    #[test]
    fn single_sessions_of_a_protected_role_may_be_denied_but_not_of_what_cannot_be_edited() {
        let world = world();
        for (arn, allowed) in [
            ("arn:aws:iam::111122223333:role/break-glass/ana", true),
            ("arn:aws:iam::111122223333:role/cicd/deploy", true),
            ("arn:aws:iam::111122223333:role/OrganizationAccountAccessRole", true),
            ("arn:aws:iam::111122223333:role/firebreak/any", false),
            ("arn:aws:iam::111122223333:role/AWSServiceRoleForLambda", false),
            ("arn:aws:iam::111122223333:role/AWSReservedSSO_Admin_0123", false),
            ("arn:aws:iam::444455556666:role/orders", false),
            ("arn:aws:iam::444455556666:role/OrganizationAccountAccessRole", false),
        ] {
            let role = principal(arn);
            assert_eq!(world.rails(None).on_sessions_of(&role, &identity(arn, ID)).is_ok(), allowed, "{arn}");
            let another = Principal { unique_id: Some("AROAEXAMPLE000000002".parse().unwrap()), ..role.clone() };
            assert!(world.rails(None).on_sessions_of(&another, &identity(arn, ID)).is_err(), "{arn}");
            assert!(world.rails(Some(Source::Drill)).on_sessions_of(&role, &identity(arn, ID)).is_err(), "{arn}");
        }
    }

    #[test]
    fn a_drill_stays_under_its_path() {
        let world = world();
        for (arn, allowed) in [
            ("arn:aws:iam::111122223333:role/firebreak-drill/orders", true),
            ("arn:aws:iam::111122223333:role/orders", false),
            ("arn:aws:iam::111122223333:role/x/firebreak-drill/orders", false),
        ] {
            let rails = world.rails(Some(Source::Drill));
            assert_eq!(rails.on_identity(&principal(arn), &identity(arn, ID)).is_ok(), allowed, "{arn}");
        }
    }

    #[test]
    fn deployers_and_own_functions_are_protected() {
        let world = world();
        let arn = "arn:aws:iam::111122223333:role/cicd/deploy";
        assert!(world.rails(None).on_identity(&principal(arn), &identity(arn, ID)).is_err());
        for (name, allowed) in [
            ("orders", true),
            ("firebreak-quarantine-principal", false),
            ("billing-run", false),
            ("firebreak-evil", true),
        ] {
            let function = format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}").parse().unwrap();
            assert_eq!(world.rails(None).on_function(&function).is_ok(), allowed, "{name}");
        }
        for foreign in
            ["arn:aws:lambda:eu-west-1:444455556666:function:o", "arn:aws-cn:lambda:cn-north-1:111122223333:function:o"]
        {
            assert!(world.rails(None).on_function(&foreign.parse().unwrap()).is_err(), "{foreign}");
        }
    }
}
