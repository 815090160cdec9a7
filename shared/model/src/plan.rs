//! The frozen plan of an incident: which action, on what, by whom. It leaves its executor no choices.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::action::{ActionId, FunctionName, Response};
use crate::ids::{FunctionArn, RoleName, UserName};
use crate::principal::PrincipalName;

/// What a step acts on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "lowercase")]
pub enum Target {
    /// A role.
    Role(RoleName),
    /// A user.
    User(UserName),
    /// A function, unqualified.
    Function(FunctionArn),
}

impl From<&PrincipalName> for Target {
    fn from(name: &PrincipalName) -> Self {
        match name {
            PrincipalName::Role(name) => Self::Role(name.clone()),
            PrincipalName::User(name) => Self::User(name.clone()),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role(name) => write!(f, "role/{name}"),
            Self::User(name) => write!(f, "user/{name}"),
            Self::Function(arn) => write!(f, "{arn}"),
        }
    }
}

/// One action on one target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    pub action: ActionId,
    /// To what.
    pub target: Target,
}

impl Step {
    /// `<action id>@<target>`: the name of the step within its incident.
    pub fn key(&self) -> String {
        format!("{}@{}", self.action, self.target)
    }

    /// The one function that carries it out.
    pub fn owner(&self) -> FunctionName {
        self.action.owner()
    }
}

/// The steps of an incident, in the order they are listed to a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The plan for a principal and the functions that are known to run as it.
    ///
    /// A plan holds either *isolate* or *recycle* for a function, never both: isolation wins.
    pub fn of(principal: &PrincipalName, functions: &[FunctionArn], responses: &[Response]) -> Self {
        let wants = |response| responses.contains(&response);
        let on_principal = |action| Step { action, target: principal.into() };
        let mut steps = Vec::new();
        if wants(Response::Quarantine) {
            match principal {
                PrincipalName::Role(_) => steps.push(on_principal(ActionId::QuarantineRole)),
                PrincipalName::User(_) => {
                    steps.push(on_principal(ActionId::QuarantineUser));
                    steps.push(on_principal(ActionId::DeactivateAccessKeys));
                }
            }
        }
        if wants(Response::Revoke) {
            steps.push(on_principal(ActionId::RevokeSessions));
        }
        let on_functions: &[ActionId] = if wants(Response::Isolate) {
            &[
                ActionId::ZeroConcurrency,
                ActionId::DisableEventSources,
                ActionId::CloseFunctionUrls,
                ActionId::RemovePublicStatements,
                ActionId::ClearDestinations,
            ]
        } else if wants(Response::Recycle) {
            &[ActionId::RecycleEnvironments]
        } else {
            &[]
        };
        let functions: BTreeSet<FunctionArn> = functions.iter().map(FunctionArn::unqualified).collect();
        // Where no function is known to be the one, nothing less than the role will do.
        let one_alone = wants(Response::QuarantineFunction) && !wants(Response::Quarantine);
        if one_alone && let PrincipalName::Role(_) = principal {
            for function in &functions {
                let target = Target::Function(function.clone());
                steps.push(Step { action: ActionId::QuarantineFunction, target });
            }
            if functions.is_empty() {
                steps.insert(0, on_principal(ActionId::QuarantineRole));
            }
        }
        for function in &functions {
            for &action in on_functions {
                steps.push(Step { action, target: Target::Function(function.clone()) });
            }
        }
        if wants(Response::Snapshot) {
            steps.push(on_principal(ActionId::SnapshotLogs));
        }
        Self { steps }
    }

    /// The steps that a function carries out.
    pub fn owned_by(&self, owner: FunctionName) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.owner() == owner)
    }

    /// The functions that take part, each once.
    pub fn owners(&self) -> BTreeSet<FunctionName> {
        self.steps.iter().map(Step::owner).collect()
    }

    /// The Lambda functions that the plan touches or that evidence is collected of.
    pub fn functions(&self) -> BTreeSet<&FunctionArn> {
        self.steps
            .iter()
            .filter_map(|step| match &step.target {
                Target::Function(arn) => Some(arn),
                Target::Role(_) | Target::User(_) => None,
            })
            .collect()
    }

    /// Adds the steps of `other` that are missing here. Steps are never taken away; a function that
    /// either plan isolates is not recycled. Answers whether anything was added.
    pub fn absorb(&mut self, other: &Plan) -> bool {
        let before = self.clone();
        for step in &other.steps {
            if !self.steps.contains(step) {
                self.steps.push(step.clone());
            }
        }
        let isolated: BTreeSet<Target> = self
            .steps
            .iter()
            .filter(|step| step.action == ActionId::ZeroConcurrency)
            .map(|step| step.target.clone())
            .collect();
        self.steps.retain(|step| step.action != ActionId::RecycleEnvironments || !isolated.contains(&step.target));
        *self != before
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn role() -> PrincipalName {
        PrincipalName::Role("orders".parse().unwrap())
    }

    fn function(name: &str) -> FunctionArn {
        format!("arn:aws:lambda:eu-west-1:111122223333:function:{name}").parse().unwrap()
    }

    #[test]
    fn isolation_wins_over_recycling() {
        let both = Plan::of(&role(), &[function("a")], &[Response::Recycle, Response::Isolate]);
        assert!(both.steps.iter().all(|s| s.action != ActionId::RecycleEnvironments));
        assert!(both.steps.iter().any(|s| s.action == ActionId::ZeroConcurrency));
    }

    #[test]
    fn one_function_of_a_role_is_denied_alone_where_it_is_known() {
        let responses = [Response::QuarantineFunction, Response::Revoke, Response::Isolate];
        let actions = |plan: &Plan| plan.steps.iter().map(|step| step.action).collect::<Vec<_>>();
        let alone = actions(&Plan::of(&role(), &[function("a")], &responses));
        assert!(alone.contains(&ActionId::QuarantineFunction) && alone.contains(&ActionId::RevokeSessions));
        assert!(!alone.contains(&ActionId::QuarantineRole));
        // Not known: the role. And where the role is denied anyway, the function is with it.
        let unknown = actions(&Plan::of(&role(), &[], &responses));
        assert!(unknown.contains(&ActionId::QuarantineRole) && !unknown.contains(&ActionId::QuarantineFunction));
        let both = [Response::Quarantine, Response::QuarantineFunction];
        assert_eq!(actions(&Plan::of(&role(), &[function("a")], &both)), [ActionId::QuarantineRole]);
    }

    #[test]
    fn a_joining_plan_that_isolates_takes_recycling_out() {
        let mut plan = Plan::of(&role(), &[function("a"), function("b")], &[Response::Revoke, Response::Recycle]);
        assert!(plan.absorb(&Plan::of(&role(), &[function("a")], &[Response::Isolate])));
        let recycled: Vec<_> = plan.steps.iter().filter(|s| s.action == ActionId::RecycleEnvironments).collect();
        assert_eq!(recycled.len(), 1);
        assert_eq!(recycled[0].target, Target::Function(function("b")));
        assert!(!plan.clone().absorb(&plan));
    }

    #[test]
    fn a_qualified_and_an_unqualified_arn_are_one_function() {
        let qualified: FunctionArn = "arn:aws:lambda:eu-west-1:111122223333:function:a:live".parse().unwrap();
        let plan = Plan::of(&role(), &[function("a"), qualified], &[Response::Isolate]);
        assert_eq!(plan.functions().len(), 1);
    }
}
