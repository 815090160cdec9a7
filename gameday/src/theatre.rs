//! The theatre: one emulator with the deployed template, where scenarios are played one after the other.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use aws_sdk_cloudtrail::operation::create_trail::CreateTrailError;
use tokio::sync::OnceCell;

use crate::aws::{Aws, REGION};
use crate::deploy::{self, OBSERVING_REGION, Stack};
use crate::emulator::Emulator;
use crate::narrator::Voice;
use crate::pages::Inbox;
use crate::report::ScenarioReport;
use crate::scenarios::{House, Scenario};
use crate::stage::Stage;

/// What a theatre is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program that starts the emulator.
    pub emulator: PathBuf,
    /// Where the functions' archives are.
    pub functions: PathBuf,
    /// The template.
    pub template: PathBuf,
}

/// The theatre.
#[derive(Debug)]
pub struct Theatre {
    /// AWS, as its operator, in the Region of the enforcing stack.
    pub aws: Aws,
    settings: Settings,
    enforcing: OnceCell<(Stack, Inbox)>,
    observing: OnceCell<(Stack, Inbox)>,
    emulator: Emulator,
}

/// The trail of an account that is looked after: without one, the guard says that it is told of nothing.
pub const TRAIL: &str = "account";

/// Has the account's calls logged, as they are before anybody deploys Firebreak.
async fn log_calls(aws: &Aws) -> Result<()> {
    let bucket = format!("account-trail-{}", aws.region);
    aws.create_bucket(&bucket).await?;
    let made = aws.cloudtrail.create_trail().name(TRAIL).s3_bucket_name(&bucket).send().await;
    if let Err(error) = made
        && !error.as_service_error().is_some_and(CreateTrailError::is_trail_already_exists_exception)
    {
        return Err(error.into());
    }
    aws.cloudtrail.start_logging().name(TRAIL).send().await?;
    Ok(())
}

impl Theatre {
    /// Starts the emulator. Stacks are created when they are first needed.
    ///
    /// # Errors
    /// Where the emulator does not start.
    pub async fn open(settings: &Settings) -> Result<Self> {
        let emulator = Emulator::start(&settings.emulator).await?;
        let aws = Aws::operator(emulator.endpoint(), REGION);
        let settings = settings.clone();
        Ok(Self { aws, settings, enforcing: OnceCell::new(), observing: OnceCell::new(), emulator })
    }

    /// The stack that enforces.
    ///
    /// # Errors
    /// With the reason of the resource that failed.
    pub async fn enforcing(&self) -> Result<&(Stack, Inbox)> {
        let aws = &self.aws;
        self.enforcing.get_or_try_init(|| self.stack(aws.clone(), "firebreak", "enforce")).await
    }

    /// The stack that observes, in a Region of its own: a drill reaches one stack only.
    ///
    /// # Errors
    /// With the reason of the resource that failed.
    pub async fn observing(&self) -> Result<&(Stack, Inbox)> {
        let aws = self.aws.in_region(OBSERVING_REGION);
        self.observing.get_or_try_init(|| self.stack(aws, "firebreak-observe", "observe")).await
    }

    async fn stack(&self, aws: Aws, name: &str, mode: &'static str) -> Result<(Stack, Inbox)> {
        log_calls(&aws).await.context("cannot log what is called")?;
        let url = deploy::upload(&aws, &self.settings.template, &self.settings.functions).await?;
        let stack = deploy::create(&aws, &url, name, &deploy::parameters(mode)).await?;
        let inbox = Inbox::subscribe(&aws, &stack).await.context("cannot subscribe to the pages")?;
        Ok((stack, inbox))
    }

    /// Plays a scenario.
    pub async fn play(&self, scenario: &Scenario, voice: Voice) -> ScenarioReport {
        let began = firebreak_shared::clock::now();
        let (checks, scores, measures, timeline, error) = match self.stage(scenario.house, voice).await {
            Ok(mut stage) => {
                let result = (scenario.play)(&mut stage).await;
                let (checks, scores, measures, timeline) = stage.close();
                (checks, scores, measures, timeline, result.err())
            }
            Err(error) => (Vec::new(), Vec::new(), std::collections::BTreeMap::new(), Vec::new(), Some(error)),
        };
        let duration = firebreak_shared::clock::now().duration_since(began);
        let error = error.map(|error| format!("{error:#}"));
        ScenarioReport {
            name: scenario.name.to_owned(),
            summary: scenario.summary.to_owned(),
            passed: error.is_none() && !checks.is_empty() && checks.iter().all(|check| check.held),
            error,
            duration_ms: i64::try_from(duration.as_millis()).unwrap_or(i64::MAX),
            measures,
            scores,
            checks,
            timeline,
        }
    }

    async fn stage(&self, house: House, voice: Voice) -> Result<Stage> {
        let (aws, (stack, inbox)) = match house {
            House::Enforcing => (self.aws.clone(), self.enforcing().await?),
            House::Observing => (self.aws.in_region(OBSERVING_REGION), self.observing().await?),
        };
        Stage::open(aws, stack.clone(), inbox.clone(), voice).await
    }

    /// The end of what the emulator wrote.
    pub fn log(&self) -> String {
        self.emulator.log()
    }
}
