//! Who uses what, as AWS's own commands print it: what a finding leaves to be looked up is found here without AWS.
//!
//! Read are the members `Functions` (`aws lambda list-functions`), `InstanceProfiles` and `Roles`, `Users` (`aws iam
//! list-…`), `taskDefinition` (`aws ecs describe-task-definition`) and `tasks` (`aws ecs describe-tasks`), one or many
//! of them in a document.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::finding::Lookup;
use crate::foreign::{list, text};
use crate::ids::{FunctionArn, RoleArn};
use crate::principal::{Principal, PrincipalName};

/// The members that are read.
const MEMBERS: &str = "`Functions`, `InstanceProfiles`, `Roles`, `Users`, `taskDefinition`, `tasks`";

/// Why a document is no inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the inventory has none of the members {MEMBERS}: give it what AWS's commands print")]
pub struct NoInventory;

/// What is known of an account without asking AWS.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// The role of each function, instance profile, task definition and overriding task, by its ARN.
    roles: BTreeMap<String, RoleArn>,
    /// The definition of each task.
    definitions: BTreeMap<String, String>,
    /// Principals by their unique id.
    by_id: BTreeMap<String, Principal>,
}

impl Inventory {
    /// Adds what a document holds.
    pub fn add(&mut self, document: &Value) -> Result<(), NoInventory> {
        let known = ["functions", "instanceProfiles", "roles", "users", "taskDefinition", "tasks"];
        if !known.iter().any(|name| crate::foreign::field(document, name).is_some()) {
            return Err(NoInventory);
        }
        for function in list(document, &["functions"]) {
            let arn = text(function, &["functionArn"]).and_then(|t| t.parse::<FunctionArn>().ok());
            self.uses(arn.map(|arn| arn.unqualified().to_string()), text(function, &["role"]));
        }
        for profile in list(document, &["instanceProfiles"]) {
            let role = list(profile, &["roles"]).find_map(|role| text(role, &["arn"]));
            self.uses(text(profile, &["arn"]).map(str::to_owned), role);
        }
        let definition = crate::foreign::field(document, "taskDefinition").unwrap_or(&Value::Null);
        let arn = text(definition, &["taskDefinitionArn"]).map(str::to_owned);
        self.uses(arn, text(definition, &["taskRoleArn"]));
        for task in list(document, &["tasks"]) {
            let arn = text(task, &["taskArn"]).map(str::to_owned);
            self.uses(arn.clone(), text(task, &["overrides", "taskRoleArn"]));
            if let (Some(arn), Some(definition)) = (arn, text(task, &["taskDefinitionArn"])) {
                self.definitions.insert(arn, definition.to_owned());
            }
        }
        for (members, id) in [("roles", "roleId"), ("users", "userId")] {
            for entity in list(document, &[members]) {
                let principal = text(entity, &["arn"]).and_then(|arn| Principal::from_arn(arn).ok());
                if let (Some(id), Some(principal)) = (text(entity, &[id]), principal) {
                    self.by_id.insert(id.to_owned(), principal);
                }
            }
        }
        Ok(())
    }

    /// Puts down that something runs as a role.
    pub(crate) fn uses(&mut self, user: Option<String>, role: Option<&str>) {
        if let (Some(user), Some(role)) = (user, role.and_then(|role| role.parse().ok())) {
            self.roles.insert(user, role);
        }
    }

    /// The principal that a lookup leads to, where the inventory knows.
    pub fn resolve(&self, lookup: &Lookup) -> Option<Principal> {
        let of_arn = |arn: &str| Principal::from_arn(&self.roles.get(arn)?.to_string()).ok();
        match lookup {
            Lookup::Function { function } => of_arn(&function.unqualified().to_string()),
            Lookup::InstanceProfile { arn } => of_arn(&arn.to_string()),
            Lookup::Task { task, definition } => {
                let task = task.as_ref().map(ToString::to_string);
                let by_task =
                    task.as_deref().and_then(|task| of_arn(task).or_else(|| of_arn(self.definitions.get(task)?)));
                by_task.or_else(|| of_arn(&definition.as_ref()?.to_string()))
            }
            Lookup::UniqueId { kind, id } => {
                let principal = self.by_id.get(id.as_str()).filter(|p| p.name.kind() == *kind)?;
                Some(Principal { unique_id: Some(id.clone()), ..principal.clone() })
            }
            Lookup::Federation { .. } => None,
        }
    }

    /// The principal with its path, where the finding did not give it and the inventory knows the only one of its name.
    pub fn with_path(&self, principal: &Principal) -> Option<Principal> {
        let same = |other: &&Principal| other.incident_id() == principal.incident_id();
        let known = self.by_id.values().find(same).cloned();
        let used =
            || self.roles.values().filter_map(|arn| Principal::from_arn(&arn.to_string()).ok()).find(|p| same(&p));
        let arn = known.or_else(used)?.arn;
        Some(Principal { arn, ..principal.clone() })
    }

    /// Who runs as which role: functions, instance profiles and task definitions; revisions of one definition are one.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &RoleArn)> {
        let users = self.roles.iter().filter(|(user, _)| !user.contains(":task/"));
        users.map(|(user, role)| (if user.contains(":task-definition/") { family(user) } else { user.as_str() }, role))
    }

    /// Who runs as a principal.
    pub fn users(&self, principal: &Principal) -> BTreeSet<&str> {
        let PrincipalName::Role(name) = &principal.name else { return BTreeSet::new() };
        let same = |role: &RoleArn| {
            *role.account() == principal.account && role.name().as_str().eq_ignore_ascii_case(name.as_str())
        };
        self.pairs().filter(|(_, role)| same(role)).map(|(user, _)| user).collect()
    }
}

/// A task definition without its revision.
fn family(arn: &str) -> &str {
    match arn.rsplit_once(':') {
        Some((family, revision)) if revision.bytes().all(|b| b.is_ascii_digit()) => family,
        _ => arn,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::principal::PrincipalKind::{Role, User};

    fn inventory() -> Inventory {
        let role = |name: &str| format!("arn:aws:iam::111122223333:role/app/{name}");
        let function = |name: &str| format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}");
        let mut inventory = Inventory::default();
        for document in [
            json!({"Functions": [{"FunctionArn": function("a"), "Role": role("shared")},
                                 {"FunctionArn": function("b"), "Role": role("shared")},
                                 {"FunctionArn": function("c"), "Role": role("own")}]}),
            json!({"InstanceProfiles": [{"Arn": "arn:aws:iam::111122223333:instance-profile/web",
                                         "Roles": [{"Arn": role("web-role")}]}]}),
            json!({"taskDefinition": {"taskDefinitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/o:6",
                                      "taskRoleArn": role("own")}}),
            json!({"taskDefinition": {"taskDefinitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/o:7",
                                      "taskRoleArn": role("seven")}}),
            json!({"taskDefinition": {"taskDefinitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/o:5",
                                      "taskRoleArn": role("own")}}),
            json!({"tasks": [{"taskArn": "arn:aws:ecs:eu-west-1:111122223333:task/prod/1",
                              "taskDefinitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/o:7",
                              "overrides": {"taskRoleArn": role("override")}},
                             {"taskArn": "arn:aws:ecs:eu-west-1:111122223333:task/prod/2",
                              "taskDefinitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/o:7",
                              "overrides": {}}]}),
            json!({"Roles": [{"Arn": role("by-id"), "RoleId": "AROAEXAMPLE000000001"}]}),
            json!({"Users": [{"Arn": "arn:aws:iam::111122223333:user/ana", "UserId": "AIDAEXAMPLE000000001"}]}),
        ] {
            inventory.add(&document).unwrap();
        }
        inventory
    }

    fn name(inventory: &Inventory, lookup: &Lookup) -> Option<String> {
        Some(inventory.resolve(lookup)?.name.to_string())
    }

    #[test]
    fn what_awss_commands_print_resolves_every_lookup() {
        let inventory = inventory();
        let task = |id: &str| Lookup::Task {
            task: Some(format!("arn:aws:ecs:eu-west-1:111122223333:task/prod/{id}").parse().unwrap()),
            definition: Some("arn:aws:ecs:eu-west-1:111122223333:task-definition/o:6".parse().unwrap()),
        };
        let by_id = |kind, id: &str| Lookup::UniqueId { kind, id: id.parse().unwrap() };
        let function = "arn:aws:lambda:eu-west-1:111122223333:function:a:live".parse().unwrap();
        let profile = "arn:aws:iam::111122223333:instance-profile/web".parse().unwrap();
        for (lookup, expected) in [
            (Lookup::Function { function }, Some("role/shared")),
            (Lookup::InstanceProfile { arn: profile }, Some("role/web-role")),
            (task("1"), Some("role/override")),
            (task("2"), Some("role/seven")),
            (task("3"), Some("role/own")),
            (by_id(Role, "AROAEXAMPLE000000001"), Some("role/by-id")),
            (by_id(User, "AIDAEXAMPLE000000001"), Some("user/ana")),
            (by_id(Role, "AROAEXAMPLE000000009"), None),
            (by_id(User, "AROAEXAMPLE000000001"), None),
        ] {
            assert_eq!(name(&inventory, &lookup).as_deref(), expected, "{lookup}");
        }
    }

    #[test]
    fn users_of_a_role_are_counted_once_each_whatever_the_path_and_revision() {
        let inventory = inventory();
        let bare = |name: &str| Principal {
            account: "111122223333".parse().unwrap(),
            name: PrincipalName::Role(name.parse().unwrap()),
            arn: None,
            unique_id: None,
        };
        assert_eq!(inventory.users(&bare("shared")).len(), 2);
        assert_eq!(inventory.users(&bare("own")).len(), 2, "one function and one task definition of two revisions");
        assert_eq!(inventory.users(&bare("web-role")).len(), 1);
        assert_eq!(inventory.users(&bare("nobody")).len(), 0);
        let known = inventory.with_path(&bare("shared")).unwrap();
        assert_eq!(known.path(), Some("/app/"));
    }

    #[test]
    fn a_document_of_something_else_is_refused() {
        for document in [json!({}), json!([]), json!({"functionz": []}), json!(null)] {
            assert_eq!(Inventory::default().add(&document), Err(NoInventory));
        }
    }
}
