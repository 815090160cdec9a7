//! Replaces the warm execution environments of a function, so that it lives on with credentials from after the
//! revocation. Those of `$LATEST` by an update of nothing but the description; those behind an alias by leading it to
//! a twin of its version; provisioned ones by taking them away and putting them again.

mod published;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use aws_sdk_lambda::types::LastUpdateStatus;
use firebreak_model::action::ActionId;
use firebreak_model::guard::Veto;
use firebreak_model::ids::FunctionArn;
use firebreak_model::ledger::{Incident, IncidentState};
use firebreak_model::policy::REVOCATION_AHEAD_SECONDS;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::published::{Alias, LATEST, Published};
use super::lambda_provisioned::{Allocation, Provisioned};
use super::lambda_target::{Functions, exact_qualifier};
use super::several::{both, in_force_unless, restored_unless, unless_gone};
use super::{prior, target};
use crate::action::{
    Action, ActionError, ActionRecord, Order, Permission, Resource, Reverted, Verified, absent_is_none,
};
use crate::paging;

pub(super) static RECORD: ActionRecord = ActionRecord {
    id: ActionId::RecycleEnvironments,
    summary: "the environments of `$LATEST`, of provisioned concurrency and behind aliases are replaced and have fresh \
              credentials; nothing that leads to others was found",
    permissions: &[
        Permission { action: "lambda:DeleteProvisionedConcurrencyConfig", on: Resource::Function },
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:GetPolicy", on: Resource::Function },
        Permission { action: "lambda:ListAliases", on: Resource::Function },
        Permission { action: "lambda:ListEventSourceMappings", on: Resource::Any },
        Permission { action: "lambda:ListProvisionedConcurrencyConfigs", on: Resource::Function },
        Permission { action: "lambda:ListVersionsByFunction", on: Resource::Function },
        Permission { action: "lambda:PublishVersion", on: Resource::Function },
        Permission { action: "lambda:PutProvisionedConcurrencyConfig", on: Resource::Function },
        Permission { action: "lambda:UpdateAlias", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionConfiguration", on: Resource::Function },
    ],
    revert_permissions: &[
        Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
        Permission { action: "lambda:ListAliases", on: Resource::Function },
        Permission { action: "lambda:ListProvisionedConcurrencyConfigs", on: Resource::Function },
        Permission { action: "lambda:ListVersionsByFunction", on: Resource::Function },
        Permission { action: "lambda:PutProvisionedConcurrencyConfig", on: Resource::Function },
        Permission { action: "lambda:UpdateAlias", on: Resource::Function },
        Permission { action: "lambda:UpdateFunctionConfiguration", on: Resource::Function },
    ],
    additive: false,
    reversible: "the description and the provisioned figures come back, and the aliases once their old environments are \
                 gone; a version that was published stays, used by nothing",
    idempotent_because: "a description that bears the mark of this episode is not written again, a version that bears \
                         it is published once, and what was provisioned since is not provisioned again",
    disrupts: "nothing but cold starts: Lambda calls the old environments until the new ones are ready; provisioned \
               concurrency is away for as long as it takes to be put again",
};

/// What Lambda takes at most.
const LONGEST_DESCRIPTION: usize = 256;

/// How long after the revocation's time an environment may start: a revocation is written some seconds after the
/// incident was opened, and its time counts from then.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// How long environments that nobody calls may stay warm. AWS says "every few hours"; an alias that is led back before
/// would wake those whose credentials are dead.
const IDLE: SignedDuration = SignedDuration::from_hours(12);

/// An environment that starts before this time gets credentials that are revoked as well.
#[derive(Debug, thiserror::Error)]
#[error("environments that start before {0} would be revoked as well")]
struct TooEarly(Timestamp);

/// What was there before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Before {
    /// Without our mark.
    description: String,
    /// What the description is marked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// Those that lead to a published version. None where a release recycles: it leads none back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<Alias>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    provisioned: Vec<Provisioned>,
}

impl Before {
    fn mark(&self, incident: &Incident) -> String {
        self.mark.clone().unwrap_or_else(|| mark(incident))
    }
}

/// A description without a mark.
fn unmarked(description: Option<&str>, mark: &str) -> String {
    let description = description.unwrap_or_default();
    description.strip_suffix(mark).unwrap_or(description).to_owned()
}

/// A description with a mark, cut where the two are too long for Lambda.
fn marked(description: &str, mark: &str) -> String {
    let room = LONGEST_DESCRIPTION.saturating_sub(mark.chars().count());
    description.chars().take(room).chain(mark.chars()).collect()
}

/// The mark of what a containment recycles.
fn contained_mark(incident: &Incident) -> String {
    format!(" [firebreak: recycled {}]", incident.episode)
}

/// The mark of what a release recycles: what the containment recycled is from before it.
fn released_mark(incident: &Incident) -> String {
    format!(" [firebreak: released {}]", incident.episode)
}

/// The mark of what is recycled now.
fn mark(incident: &Incident) -> String {
    if is_release(incident) { released_mark(incident) } else { contained_mark(incident) }
}

fn is_release(incident: &Incident) -> bool {
    incident.release.is_some() && incident.state == IncidentState::Releasing
}

/// From when on an environment starts with credentials that live.
fn due(incident: &Incident) -> Timestamp {
    let ahead = SignedDuration::from_secs(REVOCATION_AHEAD_SECONDS);
    let ordered = incident.ordered_since().saturating_add(ahead + MARGIN).unwrap_or(Timestamp::MAX);
    match (&incident.release, incident.state) {
        // A release revokes up to its own time; a revocation of the containment may reach further.
        (Some(release), IncidentState::Releasing) => {
            let revoked = incident.plan.steps.iter().any(|step| step.action == ActionId::RevokeSessions);
            if revoked { release.at.max(ordered) } else { release.at }
        }
        _ => ordered,
    }
}

/// Everything of a function that leads to environments, and which of them are to be replaced.
struct Look<'a> {
    incident: &'a Incident,
    mark: String,
    published: Published,
    aliases: Vec<Alias>,
}

impl Look<'_> {
    /// Whether a version's environments all began after it was published with our mark.
    fn is_fresh(&self, version: &str) -> bool {
        version == LATEST || self.published.bears(version, &self.mark)
    }

    /// Whether an alias is led away from a version: its twin can be published from `$LATEST` alone. A release leaves
    /// every alias where it is, save those that the containment led to a twin: their environments are dead by now.
    fn is_replaced(&self, version: &str) -> bool {
        let ours = !is_release(self.incident) || self.published.bears(version, &contained_mark(self.incident));
        ours && !self.is_fresh(version) && self.published.same(version, LATEST)
    }

    /// Whether what is provisioned for a version or alias is from before.
    fn is_old(&self, allocation: &Allocation) -> bool {
        let of = &allocation.of.qualifier;
        let fresh = match self.aliases.iter().find(|alias| alias.name == *of) {
            Some(alias) => alias.versions().all(|version| self.is_fresh(version)),
            None => self.is_fresh(of),
        };
        // Lambda tells it to the second.
        !fresh && allocation.since.is_none_or(|since| since.as_second() < due(self.incident).as_second())
    }
}

/// Recycles execution environments.
#[derive(Debug, Clone)]
pub struct RecycleEnvironments {
    functions: Functions,
}

impl RecycleEnvironments {
    /// With the client of the function's Region, and the name of the stack.
    pub fn new(lambda: Client, stack: String) -> Self {
        Self { functions: Functions::new(lambda, stack) }
    }

    /// Writes the description, unless the function was changed since `configuration` was read.
    async fn describe(
        &self,
        name: &str,
        configuration: &GetFunctionConfigurationOutput,
        description: &str,
    ) -> Result<(), ActionError> {
        let update = self.functions.client.update_function_configuration().function_name(name);
        let update = update.description(description).set_revision_id(configuration.revision_id.clone());
        let updated = update.send().await;
        let updated = updated.map_err(|e| ActionError::of("lambda:UpdateFunctionConfiguration", name, e))?;
        if updated.last_update_status() == Some(&LastUpdateStatus::InProgress) {
            self.until_updated(name).await?;
        }
        Ok(())
    }

    /// Waits some seconds for an update that Lambda makes in the background; `verify` says how it ended.
    async fn until_updated(&self, name: &str) -> Result<(), ActionError> {
        for _ in 0..20 {
            let get = self.functions.client.get_function_configuration().function_name(name);
            let now = get.send().await.map_err(|e| ActionError::of("lambda:GetFunctionConfiguration", name, e))?;
            if now.last_update_status() != Some(&LastUpdateStatus::InProgress) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    async fn look<'a>(&self, order: Order<'a>, mark: String) -> Result<Look<'a>, ActionError> {
        let name = target::function(order)?.to_string();
        let aliases = self.functions.aliases(&name).await?;
        let published = Published::read(&self.functions, &name).await?;
        Ok(Look { incident: order.incident, mark, published, aliases })
    }

    /// Leads the aliases to a twin of the versions that can have one.
    async fn lead_to_a_twin(&self, name: &str, look: &mut Look<'_>) -> Result<(), ActionError> {
        let led: Vec<Alias> =
            look.aliases.iter().filter(|alias| alias.versions().any(|v| look.is_replaced(v))).cloned().collect();
        let Some(first) = led.iter().flat_map(Alias::versions).find(|version| look.is_replaced(version)) else {
            return Ok(());
        };
        let twin = if let Some(twin) = look.published.twin(&look.mark) {
            twin.to_owned()
        } else {
            let of = |version| look.published.of(version).ok_or_else(|| lost(name, version));
            let description = unmarked(of(first)?.description(), &contained_mark(look.incident));
            self.functions.publish(name, of(LATEST)?, &marked(&description, &look.mark)).await?
        };
        self.functions.until_active(name, &twin).await?;
        let mut result = Ok(());
        for alias in &led {
            let to = alias.led(|version| if look.is_replaced(version) { twin.clone() } else { version.to_owned() });
            result = both(result, unless_gone(self.functions.lead(name, alias, &to).await));
        }
        result?;
        // Where they lead to now is what decides about what is provisioned for them.
        look.aliases = self.functions.aliases(name).await?;
        look.published = Published::read(&self.functions, name).await?;
        Ok(())
    }

    /// Takes away what is provisioned from before and puts it again; what an earlier try took away is put again too.
    async fn provision_again(
        &self,
        function: &FunctionArn,
        look: &Look<'_>,
        before: &Before,
    ) -> Result<(), ActionError> {
        let now = self.functions.allocations(function).await?;
        let mut result = Ok(());
        for old in now.iter().filter(|allocation| look.is_old(allocation)) {
            let replaced = match unless_gone(self.functions.unprovision(function, &old.of.qualifier).await) {
                Ok(()) => unless_gone(self.functions.provision(function, &old.of).await),
                failed => failed,
            };
            result = both(result, replaced);
        }
        for missing in before.provisioned.iter().filter(|p| now.iter().all(|n| n.of.qualifier != p.qualifier)) {
            result = both(result, unless_gone(self.functions.provision(function, missing).await));
        }
        result
    }

    /// What calls a published version by its number: nothing can lead it elsewhere.
    async fn callers_by_number(&self, function: &FunctionArn, versions: &[&str]) -> Result<Vec<String>, ActionError> {
        let name = function.to_string();
        let pages = self.functions.client.list_event_source_mappings().into_paginator().send();
        let pages = paging::read(pages, "lambda:ListEventSourceMappings", &name).await?;
        let mut found = Vec::new();
        for mapping in pages.iter().flat_map(|page| page.event_source_mappings().iter()) {
            let of = mapping.function_arn().unwrap_or_default();
            let ours = function.is_of(of);
            let version = exact_qualifier(of).filter(|q| ours && q.bytes().all(|byte| byte.is_ascii_digit()));
            if let Some(version) = version {
                let uuid = firebreak_model::ids::shown(mapping.uuid().unwrap_or_default());
                found.push(format!("event source mapping `{uuid}` (version {version})"));
            }
        }
        for version in versions {
            let get = self.functions.client.get_policy().function_name(&name).qualifier(*version);
            let policy = get.send().await.map_err(|e| ActionError::of("lambda:GetPolicy", &name, e));
            if absent_is_none(policy)?.is_some_and(|answer| answer.policy.is_some()) {
                found.push(format!("calls of version {version} by its number, which its resource policy lets in"));
            }
        }
        Ok(found)
    }

    /// Leads the aliases back that still lead where they were led to. Answers what is left, and why.
    async fn lead_back(&self, order: Order<'_>, before: &Before) -> Result<Vec<String>, ActionError> {
        let mut left = Vec::new();
        if before.aliases.is_empty() {
            return Ok(left);
        }
        let name = target::function(order)?.to_string();
        let look = self.look(order, before.mark(order.incident)).await?;
        let mut result = Ok(());
        for was in &before.aliases {
            let Some(now) = look.aliases.iter().find(|alias| alias.name == was.name) else {
                left.push(format!("alias `{}` is gone", was.name));
                continue;
            };
            if now.leads_as(was) {
                continue;
            }
            // A twin of ours, and still one: a deployment since may have kept our mark, and is another code.
            let marks = [look.mark.clone(), released_mark(order.incident)];
            let twin = now.versions().find(|version| marks.iter().any(|mark| look.published.bears(version, mark)));
            let led =
                |twin: &str| was.led(|of| if look.published.same(of, twin) { twin.to_owned() } else { of.to_owned() });
            let Some(twin) = twin.filter(|twin| now.leads_as(&led(twin))) else {
                left.push(format!("{} was led elsewhere since", now.shown()));
                continue;
            };
            let away = look.published.first(&look.mark, twin).unwrap_or(order.now);
            let cold = away.saturating_add(IDLE).unwrap_or(Timestamp::MAX);
            if order.now < cold {
                left.push(format!(
                    "{} is not led back to version {}: of that, environments with dead credentials may be warm until \
                     {cold:.0}; the two are the same code and configuration",
                    now.shown(),
                    was.versions().collect::<Vec<_>>().join(", ")
                ));
                continue;
            }
            result = both(result, self.functions.lead(&name, now, was).await);
        }
        result.map(|()| left)
    }
}

fn lost(name: &str, version: &str) -> ActionError {
    let problem = format!("version {version} is not among its versions");
    ActionError::Unreadable { target: name.to_owned(), problem }
}

#[async_trait]
impl Action for RecycleEnvironments {
    fn record(&self) -> &'static ActionRecord {
        &RECORD
    }

    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError> {
        let configuration = self.functions.guarded(order).await?;
        let function = target::function(order)?;
        let mark = mark(order.incident);
        let mut aliases = self.functions.aliases(&function.to_string()).await?;
        aliases.retain(|alias| alias.is_published() && !is_release(order.incident));
        let provisioned = self.functions.provisioned(function).await?;
        let description = unmarked(configuration.description(), &mark);
        prior::record(order, &Before { description, mark: Some(mark), aliases, provisioned })
    }

    async fn apply(&self, order: Order<'_>, prior: &Value) -> Result<(), ActionError> {
        let before: Before = prior::read(order, prior)?;
        let function = target::function(order)?;
        let name = function.to_string();
        let due = due(order.incident);
        if order.now < due {
            let source = Box::new(TooEarly(due));
            return Err(ActionError::Busy { call: "lambda:UpdateFunctionConfiguration", target: name, source });
        }
        let configuration = self.functions.guarded(order).await?;
        let mark = before.mark(order.incident);
        if !configuration.description().unwrap_or_default().ends_with(&mark) {
            let wanted = marked(configuration.description().unwrap_or_default(), &mark);
            self.describe(&name, &configuration, &wanted).await?;
        }
        let mut look = self.look(order, mark).await?;
        let led = self.lead_to_a_twin(&name, &mut look).await;
        both(led, self.provision_again(function, &look, &before).await)
    }

    async fn verify(&self, order: Order<'_>, prior: &Value) -> Result<Verified, ActionError> {
        let before: Before = prior::read(order, prior)?;
        let mark = before.mark(order.incident);
        let function = target::function(order)?;
        let configuration = self.functions.configuration(function).await?;
        let mut found = Vec::new();
        if !configuration.description().unwrap_or_default().ends_with(&mark) {
            found.push("the description does not bear the mark of the update".to_owned());
        }
        match configuration.last_update_status() {
            Some(LastUpdateStatus::Successful) => {}
            Some(LastUpdateStatus::InProgress) => found.push("the update is under way".to_owned()),
            other => found.push(format!("the update is `{}`", other.map_or("unknown", LastUpdateStatus::as_str))),
        }
        if !found.is_empty() {
            return Ok(in_force_unless(&found));
        }
        let look = self.look(order, mark).await?;
        let mut left = Vec::new();
        for alias in &look.aliases {
            if alias.versions().any(|version| look.is_replaced(version)) {
                found.push(format!("{} leads to old environments still", alias.shown()));
            } else if !alias.versions().all(|version| look.is_fresh(version)) {
                left.push(alias.shown());
            }
        }
        let now = self.functions.allocations(function).await?;
        for allocation in &now {
            found.extend(allocation.problem.clone());
            if look.is_old(allocation) {
                found.push(format!("what is provisioned for `{}` is from before", allocation.of.qualifier));
            }
        }
        let exists = |qualifier: &str| {
            look.published.of(qualifier).is_some() || look.aliases.iter().any(|alias| alias.name == qualifier)
        };
        let gone = before.provisioned.iter().filter(|p| now.iter().all(|n| n.of.qualifier != p.qualifier));
        let gone = gone.filter(|p| exists(&p.qualifier));
        found.extend(gone.map(|p| format!("nothing is provisioned for `{}` any more", p.qualifier)));
        if found.is_empty() && !look.published.is_empty() {
            let before = before.aliases.iter().chain(&look.aliases).flat_map(Alias::versions);
            let provisioned = now.iter().map(|allocation| allocation.of.qualifier.as_str());
            let mut versions: Vec<&str> = before.chain(provisioned).collect();
            versions.retain(|version| !look.is_fresh(version) && look.published.of(version).is_some());
            versions.sort_unstable();
            versions.dedup();
            left.extend(self.callers_by_number(function, &versions).await?);
        }
        if found.is_empty() && !left.is_empty() {
            return Err(Veto(format!(
                "the environments of `$LATEST`, of provisioned concurrency and behind other aliases are replaced; what \
                 comes through {} may meet some from before, for a published version cannot be changed: those fail \
                 until Lambda replaces them, within hours, or you publish a version and lead there what leads to it",
                left.join(" and ")
            ))
            .into());
        }
        Ok(in_force_unless(&found))
    }

    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError> {
        let before: Before = prior::read(order, prior)?;
        let mark = before.mark(order.incident);
        let function = target::function(order)?;
        let configuration = self.functions.configuration(function).await?;
        let now = configuration.description().unwrap_or_default();
        let mut left = Vec::new();
        if now == marked(&before.description, &mark) {
            self.describe(&function.to_string(), &configuration, &before.description).await?;
        } else if now != before.description {
            left.push("the description was changed since".to_owned());
        }
        left.extend(self.lead_back(order, &before).await?);
        if !before.provisioned.is_empty() {
            let now = self.functions.provisioned(function).await?;
            for missing in before.provisioned.iter().filter(|p| now.iter().all(|n| n.qualifier != p.qualifier)) {
                match self.functions.provision(function, missing).await {
                    Err(ActionError::Gone { .. }) => left.push(format!("`{}` is gone", missing.qualifier)),
                    result => result?,
                }
            }
        }
        Ok(restored_unless(&left))
    }
}

#[cfg(test)]
mod tests;
