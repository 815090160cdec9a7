//! Who runs as which role: a light scan of the account into the ledger. What `assess-identities` does.
//!
//! It lists the functions of the Regions that the stack is told of, the account's instance profiles and the families of
//! ECS task definitions. A scan that is cut short, or that is not let in somewhere, takes nobody away: see
//! [`firebreak_model::usage`]. It only reads, and writes its own records.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_ecs::operation::describe_task_definition::DescribeTaskDefinitionError;
use firebreak_model::ids::Region;
use firebreak_model::ledger::inventory_keys;
use firebreak_model::principal::Home;
use firebreak_model::trigger;
use firebreak_model::usage::{Place, REFRESHED_AFTER, Scan};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::{info, warn};

use crate::action::{ActionError, Permission, Resource};
use crate::answer::Answer;
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::telemetry::chain;
use crate::{clients, clock};

/// What scanning needs.
pub const PERMISSIONS: &[Permission] = &[
    Permission { action: "lambda:ListFunctions", on: Resource::Any },
    Permission { action: "iam:ListInstanceProfiles", on: Resource::Any },
    Permission { action: "ecs:ListTaskDefinitionFamilies", on: Resource::Any },
    Permission { action: "ecs:DescribeTaskDefinition", on: Resource::Any },
];

/// The most pages of one list that are read: 50 functions a page, 100 families.
const MOST_PAGES: usize = 400;

/// The most families of task definitions that are described in a Region: each is a call.
const MOST_FAMILIES: usize = 200;

/// How long a scan may look around, so that there is time left to write down what it saw.
pub const BUDGET: SignedDuration = SignedDuration::from_secs(180);

/// Everything that scanning needs.
#[derive(Debug)]
pub struct Assessment {
    /// The ledger.
    pub ledger: Ledger,
    /// IAM.
    pub iam: aws_sdk_iam::Client,
    /// The configuration that regional clients are built from.
    pub sdk: SdkConfig,
    /// Where it runs.
    pub home: Home,
    /// The Regions whose functions and task definitions are listed.
    pub regions: Vec<Region>,
    /// How long it may look around.
    pub budget: SignedDuration,
}

/// Why a place was not, or not wholly, looked at.
#[derive(Debug)]
enum Cut {
    /// A call failed.
    Failed(ActionError),
    /// There is more than one scan reads.
    Short(&'static str),
}

/// An answer without the list that was asked for says nothing about who is in it.
const NO_LIST: Cut = Cut::Short("an answer holds no list");

impl From<ActionError> for Cut {
    fn from(error: ActionError) -> Self {
        Self::Failed(error)
    }
}

/// The pages of one list: as many as there are, unless AWS goes round in a circle or the time is over.
struct Pages {
    token: Option<String>,
    seen: BTreeSet<String>,
    deadline: Timestamp,
}

impl Pages {
    fn new(deadline: Timestamp) -> Self {
        Self { token: None, seen: BTreeSet::new(), deadline }
    }

    /// Goes on to the page of this token; answers whether there is one.
    fn turn(&mut self, token: Option<String>) -> Result<bool, Cut> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(false) };
        if !self.seen.insert(token.clone()) {
            return Err(Cut::Short("AWS gives the same page again"));
        }
        if self.seen.len() >= MOST_PAGES {
            return Err(Cut::Short("there is more than one scan reads"));
        }
        self.token = Some(token);
        in_time(self.deadline)?;
        Ok(true)
    }
}

fn in_time(deadline: Timestamp) -> Result<(), Cut> {
    if clock::now() >= deadline { Err(Cut::Short("the time of the scan is over")) } else { Ok(()) }
}

impl Assessment {
    /// Handles one invocation: a tick of the schedule, or the end of a deployment of our own stack.
    pub async fn handle(&self, payload: &Value) -> Result<Answer, Failure> {
        if !trigger::is_scheduled(payload) && !trigger::is_deployed(payload) {
            return Err(Failure::Malformed("this function scans on a schedule and after a deployment".to_owned()));
        }
        // In whole seconds, so that times on record compare as texts.
        let at = Timestamp::from_second(clock::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
        let deadline = clock::now() + self.budget;
        let mut scan = Scan::new(self.home.account.clone(), at);
        let mut failed: Vec<ActionError> = Vec::new();
        let profiles = self.instance_profiles(&mut scan, deadline).await;
        note(&mut scan, &mut failed, Place::InstanceProfiles, profiles);
        for region in &self.regions {
            let functions = self.functions(&mut scan, region, deadline).await;
            note(&mut scan, &mut failed, Place::Functions(region.clone()), functions);
            let definitions = self.task_definitions(&mut scan, region, deadline).await;
            note(&mut scan, &mut failed, Place::TaskDefinitions(region.clone()), definitions);
        }
        let roles = self.write_down(&scan).await?;
        let missed: Vec<String> = scan.unread().iter().map(ToString::to_string).collect();
        let said = format!("{roles} roles are in use");
        if !failed.is_empty() {
            let text = format!("{said}, but not everything could be read: {}", missed.join(", "));
            let transient = failed.iter().any(ActionError::is_transient);
            return Err(if transient { Failure::Transient(text) } else { Failure::Permanent(text) });
        }
        Ok(if missed.is_empty() {
            Answer::of("scanned").saying(said)
        } else {
            Answer::of("partly scanned").saying(format!("{said}; not wholly read: {}", missed.join(", ")))
        })
    }

    async fn instance_profiles(&self, scan: &mut Scan, deadline: Timestamp) -> Result<(), Cut> {
        in_time(deadline)?;
        let mut pages = Pages::new(deadline);
        loop {
            let request = self.iam.list_instance_profiles().max_items(1000).set_marker(pages.token.clone());
            let page =
                request.send().await.map_err(|e| ActionError::of("iam:ListInstanceProfiles", "the account", e))?;
            for profile in &page.instance_profiles {
                for role in &profile.roles {
                    scan.saw(&profile.arn, &role.arn);
                }
            }
            if !page.is_truncated {
                return Ok(());
            }
            if !pages.turn(page.marker)? {
                return Err(Cut::Short("AWS says that there is more, and not where"));
            }
        }
    }

    /// The functions of a Region, as they are now: a published version that was made with another role is not seen.
    async fn functions(&self, scan: &mut Scan, region: &Region, deadline: Timestamp) -> Result<(), Cut> {
        in_time(deadline)?;
        let lambda = clients::lambda_in(&self.sdk, region);
        let mut pages = Pages::new(deadline);
        loop {
            let request = lambda.list_functions().max_items(50).set_marker(pages.token.clone());
            let page = request.send().await.map_err(|e| ActionError::of("lambda:ListFunctions", region.as_str(), e))?;
            let functions = page.functions.ok_or(NO_LIST)?;
            for function in &functions {
                if let (Some(arn), Some(role)) = (function.function_arn(), function.role()) {
                    scan.saw(arn, role);
                }
            }
            if !pages.turn(page.next_marker)? {
                return Ok(());
            }
        }
    }

    /// The newest definition of each family: what still runs by an older one is not seen.
    async fn task_definitions(&self, scan: &mut Scan, region: &Region, deadline: Timestamp) -> Result<(), Cut> {
        in_time(deadline)?;
        let ecs = clients::ecs_in(&self.sdk, region);
        let mut pages = Pages::new(deadline);
        let mut families: Vec<String> = Vec::new();
        let mut more = true;
        while more && families.len() <= MOST_FAMILIES {
            let active = aws_sdk_ecs::types::TaskDefinitionFamilyStatus::Active;
            let request = ecs.list_task_definition_families().status(active).max_results(100);
            let page = request.set_next_token(pages.token.clone()).send().await;
            let page = page.map_err(|e| ActionError::of("ecs:ListTaskDefinitionFamilies", region.as_str(), e))?;
            families.extend(page.families.ok_or(NO_LIST)?);
            more = pages.turn(page.next_token)?;
        }
        for family in families.iter().take(MOST_FAMILIES) {
            in_time(deadline)?;
            let answer = match ecs.describe_task_definition().task_definition(family).send().await {
                Ok(answer) => answer,
                // Deregistered since it was listed.
                Err(error)
                    if error.as_service_error().is_some_and(DescribeTaskDefinitionError::is_client_exception) =>
                {
                    continue;
                }
                Err(error) => return Err(ActionError::of("ecs:DescribeTaskDefinition", region.as_str(), error).into()),
            };
            let definition = answer.task_definition();
            if let (Some(arn), Some(role)) = (
                definition.and_then(|d| d.task_definition_arn()),
                definition.and_then(|d| d.task_role_arn()).filter(|role| !role.is_empty()),
            ) {
                scan.saw(arn, role);
            }
        }
        if more || families.len() > MOST_FAMILIES {
            return Err(Cut::Short("there are more task definitions than one scan describes"));
        }
        Ok(())
    }

    /// Writes what is new, or old enough to be confirmed, and takes away roles that nobody runs as any more. Answers how
    /// many roles are in use.
    async fn write_down(&self, scan: &Scan) -> Result<usize, Failure> {
        let account = &self.home.account;
        let known = self.ledger.inventory(account).await?;
        let renewed = scan.renew(&known.roles);
        let (mut written, mut cleared) = (0_usize, 0_usize);
        for (role, record) in &renewed {
            let still_holds = known.roles.get(role).is_some_and(|old| {
                old.usage.says_the_same_as(&record.usage) && old.usage.age(scan.at()) < REFRESHED_AFTER
            });
            if !still_holds && self.ledger.keep_usage(record).await? {
                written += 1;
            }
        }
        let gone = known.roles.iter().filter(|(role, _)| !renewed.contains_key(*role));
        let gone = gone.map(|(_, record)| inventory_keys(account, &record.role).1);
        let kept: BTreeSet<String> = renewed.values().map(|r| inventory_keys(account, &r.role).1).collect();
        let broken = known.unreadable.iter().filter(|sort| !kept.contains(*sort)).cloned();
        for sort in gone.chain(broken).collect::<Vec<_>>() {
            self.ledger.forget_usage(account, &sort, scan.at()).await?;
            cleared += 1;
        }
        info!(roles = renewed.len(), written, cleared, "who runs as which role is on record");
        Ok(renewed.len())
    }
}

/// Puts down that a place was missed.
fn note(scan: &mut Scan, failed: &mut Vec<ActionError>, place: Place, looked: Result<(), Cut>) {
    match looked {
        Ok(()) => return,
        Err(Cut::Failed(error)) => {
            warn!("{place} were not wholly read: {}", chain(&error));
            failed.push(error);
        }
        Err(Cut::Short(why)) => warn!("{place} were not wholly read: {why}"),
    }
    scan.missed(place);
}

#[cfg(test)]
mod tests;
