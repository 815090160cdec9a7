//! Removes the statements that admit everyone from a function's resource policies: its own, and those of its
//! aliases and versions.
//!
//! Only what is on record is removed, and only what `AddPermission` can write again: the rest is reported.

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::FunctionUrlAuthType;
use firebreak_model::action::ActionId;
use firebreak_model::ids::{self, FunctionArn};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lambda_public_statement::{Grant, is_public, sid};
use super::lambda_target::{Functions, qualifier, shown};
use super::several::{both, in_force_unless, restored_unless, unless_gone};
use super::{prior, target};
use crate::action::{
    Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified, absent_is_none,
};
use crate::paging;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::RemovePublicStatements,
    summary: "no resource policy of the function, its aliases and its versions admits everyone",
    permissions: &[
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:GetPolicy", on: Resource::Function },
        Permission { action: "lambda:ListAliases", on: Resource::Function },
        Permission { action: "lambda:ListVersionsByFunction", on: Resource::Function },
        Permission { action: "lambda:RemovePermission", on: Resource::Function },
    ],
    revert_permissions: &[
        Permission { action: "lambda:AddPermission", on: Resource::Function },
        Permission { action: "lambda:GetPolicy", on: Resource::Function },
    ],
    additive: false,
    reversible: "wholly: what AddPermission could not write again is not removed, but reported",
    idempotent_because: "a statement that is gone is not removed again, and each is recorded once",
    disrupts: "every caller that only a public statement lets in, such as those of an open URL",
};

/// A statement, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Placed {
    /// The alias or version; `None` for the function itself.
    qualifier: Option<String>,
    statement: Value,
}

impl Placed {
    fn grant(&self, function: &FunctionArn) -> Option<Grant> {
        Grant::of(&self.statement, function, self.qualifier.as_deref())
    }

    fn shown(&self) -> String {
        format!("statement `{}` of {}", ids::shown(sid(&self.statement)), shown(self.qualifier.as_deref()))
    }
}

/// Removes public statements.
#[derive(Debug, Clone)]
pub struct RemovePublicStatements {
    functions: Functions,
}

impl RemovePublicStatements {
    /// With the client of the function's Region, and the name of the stack.
    pub fn new(lambda: Client, stack: String) -> Self {
        Self { functions: Functions::new(lambda, stack) }
    }

    fn lambda(&self) -> &Client {
        &self.functions.client
    }

    /// Everything that can have a resource policy: the function itself, its aliases, its versions.
    async fn qualifiers(&self, name: &str) -> Result<Vec<Option<String>>, ActionError> {
        let mut found = vec![None];
        let aliases = self.lambda().list_aliases().function_name(name).into_paginator().send();
        let aliases = paging::read(aliases, "lambda:ListAliases", name).await?;
        found.extend(aliases.into_iter().flat_map(|page| page.aliases.unwrap_or_default()).map(|alias| alias.name));
        let versions = self.lambda().list_versions_by_function().function_name(name).into_paginator().send();
        let versions = paging::read(versions, "lambda:ListVersionsByFunction", name).await?;
        let versions = versions.into_iter().flat_map(|page| page.versions.unwrap_or_default());
        found.extend(versions.map(|version| version.version).filter(|version| version.as_deref() != Some("$LATEST")));
        Ok(found)
    }

    /// The statements of one resource policy.
    async fn statements(&self, name: &str, asked: Option<&str>) -> Result<Vec<Placed>, ActionError> {
        let get = self.lambda().get_policy().function_name(name).set_qualifier(asked.map(str::to_owned));
        let answer = get.send().await.map_err(|e| ActionError::of("lambda:GetPolicy", name, e));
        let Some(text) = absent_is_none(answer)?.and_then(|a| a.policy) else { return Ok(Vec::new()) };
        let policy: Value = serde_json::from_str(&text).map_err(|error| ActionError::Unreadable {
            target: name.to_owned(),
            problem: format!("the resource policy of {} cannot be read: {error}", shown(asked)),
        })?;
        let statements = match policy.get("Statement") {
            Some(Value::Array(statements)) => statements.clone(),
            Some(single) => vec![single.clone()],
            None => Vec::new(),
        };
        let placed = statements.into_iter().map(|statement| {
            // A statement says itself what it is on.
            let on = statement.get("Resource").and_then(Value::as_str).and_then(qualifier);
            Placed { qualifier: on.or_else(|| asked.map(str::to_owned)), statement }
        });
        Ok(placed.collect())
    }

    /// All public statements, each once.
    async fn public(&self, function: &FunctionArn) -> Result<Vec<Placed>, ActionError> {
        let name = function.to_string();
        let mut found: Vec<Placed> = Vec::new();
        for qualifier in self.qualifiers(&name).await? {
            for placed in self.statements(&name, qualifier.as_deref()).await? {
                if is_public(&placed.statement) && !found.contains(&placed) {
                    found.push(placed);
                }
            }
        }
        Ok(found)
    }

    async fn remove(&self, name: &str, public: &Placed) -> Result<(), ActionError> {
        let remove = self.lambda().remove_permission().function_name(name).statement_id(sid(&public.statement));
        let remove = remove.set_qualifier(public.qualifier.clone());
        remove.send().await.map_err(|e| ActionError::of("lambda:RemovePermission", name, e))?;
        Ok(())
    }

    async fn add(&self, name: &str, qualifier: Option<&str>, grant: Grant) -> Result<(), ActionError> {
        let url_auth_type = grant.url_auth_type.as_deref().map(FunctionUrlAuthType::from);
        self.lambda()
            .add_permission()
            .function_name(name)
            .set_qualifier(qualifier.map(str::to_owned))
            .statement_id(grant.sid)
            .principal("*")
            .action(grant.action)
            .set_source_arn(grant.source_arn)
            .set_source_account(grant.source_account)
            .set_principal_org_id(grant.organisation)
            .set_function_url_auth_type(url_auth_type)
            .set_invoked_via_function_url(grant.via_url)
            .set_event_source_token(grant.token)
            .send()
            .await
            .map_err(|e| ActionError::of("lambda:AddPermission", name, e))?;
        Ok(())
    }
}

#[async_trait]
impl Action for RemovePublicStatements {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        self.functions.guarded(order).await?;
        prior::record(order, &self.public(target::function(order)?).await?)
    }

    async fn apply(&self, order: Order<'_>, prior: &Value) -> Result<(), ActionError> {
        let recorded: Vec<Placed> = prior::read(order, prior)?;
        self.functions.guarded(order).await?;
        let function = target::function(order)?;
        let mut result = Ok(());
        for public in self.public(function).await? {
            if recorded.contains(&public) && public.grant(function).is_some() {
                result = both(result, unless_gone(self.remove(&function.to_string(), &public).await));
            }
        }
        result
    }

    async fn verify(&self, order: Order<'_>, prior: &Value) -> Result<Verified, ActionError> {
        let recorded: Vec<Placed> = prior::read(order, prior)?;
        let function = target::function(order)?;
        let now = self.public(function).await?;
        let found: Vec<String> = now
            .iter()
            .map(|public| {
                let what = public.shown();
                if public.grant(function).is_none() {
                    format!("{what} cannot be restored by AddPermission: remove it by hand")
                } else if recorded.contains(public) {
                    format!("{what} still admits everyone")
                } else {
                    format!("{what} admits everyone and is not on record, for it was added since: remove it by hand")
                }
            })
            .collect();
        Ok(in_force_unless(&found))
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        let recorded: Vec<Placed> = prior::read(order, prior)?;
        let function = target::function(order)?;
        let name = function.to_string();
        let mut result = Ok(());
        let mut left = Vec::new();
        for public in &recorded {
            // What could not be written again was not removed.
            let Some(grant) = public.grant(function) else { continue };
            let qualifier = public.qualifier.as_deref();
            let now = self.statements(&name, qualifier).await?;
            match now.iter().find(|p| p.qualifier == public.qualifier && sid(&p.statement) == grant.sid) {
                None => match self.add(&name, qualifier, grant).await {
                    Err(ActionError::Gone { .. }) => left.push(format!("{} has nothing to stand on", public.shown())),
                    added => result = both(result, added),
                },
                Some(now) if now.grant(function).as_ref() == Some(&grant) => {}
                Some(_) => left.push(format!("{} is another one now", public.shown())),
            }
        }
        result.map(|()| restored_unless(&left))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::super::lambda_target::testing::{ARN, PATH, configuration, functions, get_configuration};
    use super::*;
    use crate::testing::{Answer, Wire, function_order, json_error, ok, order};

    fn action(wire: &Wire) -> RemovePublicStatements {
        RemovePublicStatements { functions: functions(wire) }
    }

    fn path(rest: &str) -> String {
        format!("/2015-03-31/functions/{PATH}/{rest}")
    }

    fn get(query: &str) -> String {
        format!("GET {}", path(&format!("policy{query}")))
    }

    fn remove(sid: &str, query: &str) -> String {
        format!("DELETE {}", path(&format!("policy/{sid}{query}")))
    }

    /// The reads of a function with alias `live` and version 1.
    fn reads() -> Vec<String> {
        let lists = ["aliases", "versions"].map(|list| format!("GET {}", path(list)));
        lists.into_iter().chain([get(""), get("?Qualifier=live"), get("?Qualifier=1")]).collect()
    }

    fn statement(sid: &str, qualifier: &str) -> Value {
        json!({"Sid": sid, "Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunctionUrl",
               "Resource": format!("{ARN}{qualifier}"),
               "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}})
    }

    fn of_a_service() -> Value {
        json!({"Sid": "s3", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"},
               "Action": "lambda:InvokeFunction", "Resource": ARN})
    }

    /// Not to be said by `AddPermission`.
    fn odd() -> Value {
        let mut odd = statement("odd", "");
        odd["Condition"] = json!({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}});
        odd
    }

    fn policy(statements: &[Value]) -> Answer {
        let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        ok(json!({"Policy": policy, "RevisionId": "r"}).to_string())
    }

    fn none() -> Answer {
        json_error(404, "ResourceNotFoundException")
    }

    fn answers(own: &[Value], of_live: &[Value]) -> Vec<Answer> {
        let or_none = |statements: &[Value]| if statements.is_empty() { none() } else { policy(statements) };
        vec![
            ok(json!({"Aliases": [{"Name": "live"}]}).to_string()),
            ok(json!({"Versions": [{"Version": "$LATEST"}, {"Version": "1"}]}).to_string()),
            or_none(own),
            or_none(of_live),
            none(),
        ]
    }

    fn prior() -> Value {
        json!([
            {"qualifier": null, "statement": statement("url", "")},
            {"qualifier": "live", "statement": statement("url", ":live")}
        ])
    }

    #[tokio::test]
    async fn removes_what_admits_everyone_wherever_it_stands_and_reads_back() {
        let before = || answers(&[of_a_service(), statement("url", "")], &[statement("url", ":live")]);
        let mut script = vec![configuration()];
        script.extend(before());
        script.push(configuration());
        script.extend(before());
        script.extend([ok(""), ok("")]);
        script.extend(answers(&[of_a_service()], &[]));
        let wire = Wire::answering(script);
        let (incident, step) = function_order(ActionId::RemovePublicStatements);
        let order = order(&incident, &step);
        let observed = action(&wire).observe(order).await.unwrap();
        assert_eq!(observed, prior());
        action(&wire).apply(order, &observed).await.unwrap();
        assert_eq!(action(&wire).verify(order, &observed).await.unwrap(), Verified::InForce);
        let mut expected = vec![get_configuration()];
        expected.extend(reads());
        expected.push(get_configuration());
        expected.extend(reads());
        expected.extend([remove("url", ""), remove("url", "?Qualifier=live")]);
        expected.extend(reads());
        assert_eq!(wire.requests(), expected);
    }

    #[tokio::test]
    async fn aliases_and_versions_are_read_to_the_last_page() {
        let wire = Wire::answering([
            ok(json!({"Aliases": [{"Name": "a"}], "NextMarker": "m"}).to_string()),
            ok(json!({"Aliases": [{"Name": "b"}]}).to_string()),
            ok(json!({"Versions": [{"Version": "1"}], "NextMarker": "n"}).to_string()),
            ok(json!({"Versions": [{"Version": "2"}]}).to_string()),
        ]);
        let found = action(&wire).qualifiers(ARN).await.unwrap();
        let names: Vec<_> = found.iter().map(Option::as_deref).collect();
        assert_eq!(names, [None, Some("a"), Some("b"), Some("1"), Some("2")]);
    }

    #[tokio::test]
    async fn a_statement_that_the_unqualified_policy_lists_too_is_one_statement() {
        let on_live = statement("url", ":live");
        let mut script = vec![configuration()];
        script.extend(answers(std::slice::from_ref(&on_live), std::slice::from_ref(&on_live)));
        let wire = Wire::answering(script);
        let (incident, step) = function_order(ActionId::RemovePublicStatements);
        let observed = action(&wire).observe(order(&incident, &step)).await.unwrap();
        assert_eq!(observed, json!([{"qualifier": "live", "statement": on_live}]));
    }

    #[tokio::test]
    async fn what_is_removed_already_is_not_removed_again() {
        let mut script = vec![configuration()];
        script.extend(answers(&[], &[]));
        let wire = Wire::answering(script);
        let (incident, step) = function_order(ActionId::RemovePublicStatements);
        action(&wire).apply(order(&incident, &step), &prior()).await.unwrap();
        assert_eq!(wire.requests().len(), 6);
    }

    #[tokio::test]
    async fn what_could_not_be_restored_is_left_in_place_and_reported() {
        let recorded = json!([{"qualifier": null, "statement": odd()}]);
        let mut script = vec![configuration()];
        script.extend(answers(&[odd(), statement("new", "")], &[]));
        script.extend(answers(&[odd(), statement("new", "")], &[]));
        let wire = Wire::answering(script);
        let (incident, step) = function_order(ActionId::RemovePublicStatements);
        let order = order(&incident, &step);
        action(&wire).apply(order, &recorded).await.unwrap();
        assert!(wire.requests().iter().all(|request| request.starts_with("GET ")));
        let Verified::NotInForce(found) = action(&wire).verify(order, &recorded).await.unwrap() else {
            unreachable!("two statements are left")
        };
        assert!(
            found.contains("statement `odd` of the function itself cannot be restored by AddPermission"),
            "{found}"
        );
        assert!(
            found.contains("statement `new` of the function itself admits everyone and is not on record"),
            "{found}"
        );
    }

    #[tokio::test]
    async fn what_is_not_read_back_is_not_in_force() {
        let wire = Wire::answering(answers(&[], &[statement("url", ":live")]));
        let (incident, step) = function_order(ActionId::RemovePublicStatements);
        let verified = action(&wire).verify(order(&incident, &step), &prior()).await.unwrap();
        assert_eq!(verified, Verified::NotInForce("statement `url` of `live` still admits everyone".to_owned()));
    }

    #[tokio::test]
    async fn one_that_cannot_be_removed_does_not_keep_the_others() {
        for (answer, ends) in [
            (json_error(403, "AccessDeniedException"), Some((false, false))),
            (json_error(429, "TooManyRequestsException"), Some((true, false))),
            (Answer::Lost, Some((true, true))),
            (none(), None),
        ] {
            let mut script = vec![configuration()];
            script.extend(answers(&[statement("url", "")], &[statement("url", ":live")]));
            script.extend([answer.clone(), ok("")]);
            let wire = Wire::answering(script);
            let (incident, step) = function_order(ActionId::RemovePublicStatements);
            let result = action(&wire).apply(order(&incident, &step), &prior()).await;
            let ended = result.err().map(|error| (error.is_transient(), error.may_have_applied()));
            assert_eq!(ended, ends, "{answer:?}");
            assert_eq!(wire.requests()[6..], [remove("url", ""), remove("url", "?Qualifier=live")]);
        }
    }

    #[tokio::test]
    async fn a_policy_that_cannot_be_read_is_no_empty_policy() {
        let lists = answers(&[], &[]).into_iter().take(2);
        let wire = Wire::answering(lists.chain([ok(json!({"Policy": "{"}).to_string())]));
        let (incident, step) = function_order(ActionId::RemovePublicStatements);
        let error = action(&wire).verify(order(&incident, &step), &prior()).await.unwrap_err();
        assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
    }

    #[tokio::test]
    async fn reverting_writes_the_statements_again_as_they_were() {
        let wire = Wire::answering([
            policy(&[of_a_service()]),
            ok("{}"),
            none(),
            ok("{}"),
            policy(&[statement("url", "")]),
            policy(&[statement("url", ":live")]),
        ]);
        let (incident, step) = function_order(ActionId::RemovePublicStatements);
        for _ in 0..2 {
            let reverted = action(&wire).revert(order(&incident, &step), &prior()).await.unwrap();
            assert_eq!(reverted, Reverted::Restored);
        }
        let add = |query: &str| {
            let body = "{\"Action\":\"lambda:InvokeFunctionUrl\",\"FunctionUrlAuthType\":\"NONE\",\
                        \"Principal\":\"*\",\"StatementId\":\"url\"}";
            format!("POST {} {body}", path(&format!("policy{query}")))
        };
        let (own, live) = (get(""), get("?Qualifier=live"));
        assert_eq!(wire.requests(), [own.clone(), add(""), live.clone(), add("?Qualifier=live"), own, live]);
    }

    #[tokio::test]
    async fn what_was_changed_since_is_left_alone() {
        let mut other = statement("url", "");
        other["Action"] = json!("lambda:GetFunction");
        let wire = Wire::answering([policy(&[other]), none(), none()]);
        let (incident, step) = function_order(ActionId::RemovePublicStatements);
        let reverted = action(&wire).revert(order(&incident, &step), &prior()).await.unwrap();
        let found = "statement `url` of the function itself is another one now; \
                     statement `url` of `live` has nothing to stand on";
        assert_eq!(reverted, Reverted::LeftAlone(found.to_owned()));
    }

    #[tokio::test]
    async fn an_unreadable_prior_state_changes_nothing() {
        let (incident, step) = function_order(ActionId::RemovePublicStatements);
        let wire = Wire::answering([]);
        let prior = json!([{"qualifier": 7}]);
        for error in [
            action(&wire).apply(order(&incident, &step), &prior).await.unwrap_err(),
            action(&wire).revert(order(&incident, &step), &prior).await.unwrap_err(),
        ] {
            assert!(matches!(error, ActionError::Unreadable { .. }), "{error}");
        }
        assert_eq!(wire.requests(), [""; 0]);
    }
}
