//! Published versions. Nobody can change one, and nothing replaces its environments but Lambda, within hours. What
//! can be changed is what leads to it: a twin is published, the same code and configuration under a new number, and
//! the aliases are led to the twin, whose environments are all new.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_lambda::types::{AliasConfiguration, AliasRoutingConfiguration, FunctionConfiguration, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::{ActionError, absent_is_none};
use crate::actions::lambda_target::Functions;
use crate::paging;

/// How Lambda calls what is not published.
pub(super) const LATEST: &str = "$LATEST";

/// The versions of a function, `$LATEST` among them.
#[derive(Debug)]
pub(super) struct Published(Vec<FunctionConfiguration>);

impl Published {
    pub(super) async fn read(functions: &Functions, name: &str) -> Result<Self, ActionError> {
        let pages = functions.client.list_versions_by_function().function_name(name).into_paginator().send();
        let pages = paging::read(pages, "lambda:ListVersionsByFunction", name).await?;
        Ok(Self(pages.into_iter().flat_map(|page| page.versions.unwrap_or_default()).collect()))
    }

    pub(super) fn of(&self, version: &str) -> Option<&FunctionConfiguration> {
        self.0.iter().find(|one| one.version() == Some(version))
    }

    /// Whether anything is published at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|one| one.version() == Some(LATEST))
    }

    /// Whether a version was published with this mark.
    pub(super) fn bears(&self, version: &str, mark: &str) -> bool {
        self.of(version).is_some_and(|one| one.description().unwrap_or_default().ends_with(mark))
    }

    /// Whether two versions are the same code and the same configuration.
    pub(super) fn same(&self, one: &str, other: &str) -> bool {
        let comparable = |version: &str| self.of(version).and_then(comparable);
        comparable(one).is_some_and(|one| comparable(other).is_some_and(|other| one == other))
    }

    /// The number of the version that was published with this mark and is what `$LATEST` is.
    pub(super) fn twin(&self, mark: &str) -> Option<&str> {
        let mut published = self.0.iter().rev().filter_map(FunctionConfiguration::version);
        published.find(|version| *version != LATEST && self.bears(version, mark) && self.same(version, LATEST))
    }

    /// When the first version was published that bears this mark and is what `twin` is, or what it was made of was last
    /// changed: Lambda says no more.
    pub(super) fn first(&self, mark: &str, twin: &str) -> Option<Timestamp> {
        let versions = self.0.iter().filter_map(FunctionConfiguration::version).filter(|version| *version != LATEST);
        let mut ours = versions.filter(|version| self.bears(version, mark) && self.same(version, twin));
        self.of(ours.next()?)?.last_modified()?.parse().ok()
    }
}

/// What makes a version what it is: not its number, its description and its states. `None` where that is not wholly
/// known.
fn comparable(version: &FunctionConfiguration) -> Option<FunctionConfiguration> {
    if version.code_sha256().is_none() || version.environment().is_some_and(|e| e.error().is_some()) {
        return None;
    }
    let mut version = version.clone();
    version.function_arn = None;
    version.version = None;
    version.description = None;
    version.revision_id = None;
    version.config_sha256 = None;
    version.last_modified = None;
    version.last_update_status = None;
    version.last_update_status_reason = None;
    version.last_update_status_reason_code = None;
    version.state = None;
    version.state_reason = None;
    version.state_reason_code = None;
    if let Some(snap_start) = version.snap_start.as_mut() {
        snap_start.optimization_status = None;
    }
    Some(version)
}

/// Where an alias leads to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Alias {
    pub(super) name: String,
    pub(super) version: String,
    /// Other versions that share its traffic.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) weights: BTreeMap<String, f64>,
    #[serde(skip)]
    revision: Option<String>,
}

impl Alias {
    fn of(alias: AliasConfiguration) -> Option<Self> {
        let weights = alias.routing_config.and_then(|routing| routing.additional_version_weights).unwrap_or_default();
        Some(Self {
            name: alias.name?,
            version: alias.function_version?,
            weights: weights.into_iter().collect(),
            revision: alias.revision_id,
        })
    }

    /// The versions that it leads to.
    pub(super) fn versions(&self) -> impl Iterator<Item = &str> {
        [self.version.as_str()].into_iter().chain(self.weights.keys().map(String::as_str))
    }

    /// Whether it leads to a published version.
    pub(super) fn is_published(&self) -> bool {
        self.versions().any(|version| version != LATEST)
    }

    /// The alias with other versions, each with the traffic of the one that it stands for. Lambda takes no version
    /// twice: what stands for the first one adds to it.
    pub(super) fn led(&self, stands_for: impl Fn(&str) -> String) -> Self {
        let version = stands_for(&self.version);
        let mut weights = BTreeMap::new();
        for (of, weight) in &self.weights {
            let stand_in = stands_for(of);
            if stand_in != version {
                *weights.entry(stand_in).or_insert(0.0) += weight;
            }
        }
        Self { version, weights, ..self.clone() }
    }

    /// Whether both lead to the same versions, with the same traffic.
    pub(super) fn leads_as(&self, other: &Self) -> bool {
        let close = |one: f64, other: f64| (one - other).abs() < 1e-6;
        self.version == other.version
            && self.weights.len() == other.weights.len()
            && self.weights.iter().all(|(of, weight)| other.weights.get(of).is_some_and(|w| close(*w, *weight)))
    }

    /// The versions, to be read by a person.
    pub(super) fn shown(&self) -> String {
        let versions: Vec<&str> = self.versions().collect();
        format!("alias `{}` (version {})", self.name, versions.join(", "))
    }
}

impl Functions {
    pub(super) async fn aliases(&self, name: &str) -> Result<Vec<Alias>, ActionError> {
        let pages = self.client.list_aliases().function_name(name).into_paginator().send();
        let pages = absent_is_none(paging::read(pages, "lambda:ListAliases", name).await)?.unwrap_or_default();
        Ok(pages.into_iter().flat_map(|page| page.aliases.unwrap_or_default()).filter_map(Alias::of).collect())
    }

    /// Leads an alias elsewhere, unless somebody changed it since it was read.
    pub(super) async fn lead(&self, name: &str, alias: &Alias, to: &Alias) -> Result<(), ActionError> {
        let update = self.client.update_alias().function_name(name).name(&alias.name).function_version(&to.version);
        let routing = (!alias.weights.is_empty() || !to.weights.is_empty()).then(|| {
            let weights = to.weights.iter().map(|(version, weight)| (version.clone(), *weight)).collect();
            AliasRoutingConfiguration::builder().set_additional_version_weights(Some(weights)).build()
        });
        let update = update.set_routing_config(routing).set_revision_id(alias.revision.clone());
        update.send().await.map_err(|e| ActionError::of("lambda:UpdateAlias", name, e))?;
        Ok(())
    }

    /// Publishes `$LATEST` as it was read, or not at all. Answers the version's number.
    pub(super) async fn publish(
        &self,
        name: &str,
        latest: &FunctionConfiguration,
        description: &str,
    ) -> Result<String, ActionError> {
        let publish = self.client.publish_version().function_name(name).description(description);
        let publish = publish.set_code_sha256(latest.code_sha256.clone()).set_revision_id(latest.revision_id.clone());
        let published = publish.send().await.map_err(|e| ActionError::of("lambda:PublishVersion", name, e))?;
        published.version.ok_or_else(|| ActionError::Unreadable {
            target: name.to_owned(),
            problem: "a version was published, and Lambda does not say which".to_owned(),
        })
    }

    /// Waits some seconds until a version takes calls: nothing is led to one that does not.
    pub(super) async fn until_active(&self, name: &str, version: &str) -> Result<(), ActionError> {
        for _ in 0..20 {
            let get = self.client.get_function_configuration().function_name(name).qualifier(version);
            let now = get.send().await.map_err(|e| ActionError::of("lambda:GetFunctionConfiguration", name, e))?;
            match now.state() {
                Some(State::Pending) => tokio::time::sleep(Duration::from_millis(500)).await,
                Some(State::Active | State::Inactive) | None => return Ok(()),
                Some(other) => {
                    let reason = firebreak_model::ids::shown(now.state_reason().unwrap_or_default());
                    let problem = format!("version {version}, which was published, is `{}`: {reason}", other.as_str());
                    return Err(ActionError::Unreadable { target: name.to_owned(), problem });
                }
            }
        }
        let source = "the version is being prepared".into();
        Err(ActionError::Busy { call: "lambda:PublishVersion", target: name.to_owned(), source })
    }
}
