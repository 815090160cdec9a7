//! The only place that reads the environment. A variable that is missing or wrong fails the cold
//! start and is named.

use std::time::Duration;

use firebreak_model::decision::Mode;
use firebreak_model::evidence::Codec;
use firebreak_model::ids::{Partition, Region};
use firebreak_model::playbook::{Glob, Playbook, PlaybookError};
use firebreak_model::principal::Home;
use firebreak_model::watch::Pace;

use crate::evidence::{self, store::Access};
use crate::trace;

/// Why a function does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable that is not there.
    #[error("environment variable `{0}` is not set: redeploy the stack")]
    Missing(&'static str),
    /// A variable that is not what it must be.
    #[error("environment variable `{name}` is `{value}`: expected {expected}")]
    Wrong {
        /// Which.
        name: &'static str,
        /// What it holds, cleaned for display.
        value: String,
        /// What it must hold.
        expected: &'static str,
    },
    /// The playbook beside the function cannot be opened.
    #[error("the playbook `{path}` cannot be opened")]
    NoPlaybook {
        /// Where it was looked for.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The playbook is not accepted.
    #[error(transparent)]
    Playbook(#[from] PlaybookError),
}

/// What every function knows.
#[derive(Debug, Clone)]
pub struct Base {
    /// Where it runs.
    pub home: Home,
    /// The stack's name.
    pub stack: String,
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn read(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn required(name: &'static str) -> Result<String, ConfigError> {
    read(name).ok_or(ConfigError::Missing(name))
}

fn parsed<T>(name: &'static str, expected: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ConfigError> {
    let value = required(name)?;
    parse(&value).ok_or_else(|| ConfigError::Wrong { name, value: firebreak_model::ids::shown(&value), expected })
}

impl Base {
    /// Reads `FIREBREAK_ACCOUNT`, `FIREBREAK_PARTITION`, `FIREBREAK_STACK`.
    pub fn from_env() -> Result<Self, ConfigError> {
        let account = parsed("FIREBREAK_ACCOUNT", "an account id of 12 digits", |t| t.parse().ok())?;
        let partition: Partition = parsed("FIREBREAK_PARTITION", "aws, aws-cn or aws-us-gov", |t| t.parse().ok())?;
        Ok(Self { home: Home { partition, account }, stack: required("FIREBREAK_STACK")? })
    }
}

/// The Region that the function runs in (`AWS_REGION`, which Lambda sets).
pub fn region() -> Option<String> {
    read("AWS_REGION")
}

/// Whether an event waits for this start (`AWS_LAMBDA_INITIALIZATION_TYPE`): not where concurrency is provisioned.
pub fn start_is_awaited() -> bool {
    read("AWS_LAMBDA_INITIALIZATION_TYPE").is_none_or(|kind| kind == "on-demand")
}

/// Where AWS is (`AWS_ENDPOINT_URL`): set by what stands in for AWS, never by Lambda.
pub fn endpoint_url() -> Option<String> {
    read("AWS_ENDPOINT_URL")
}

/// A variable of that name for one service alone: `AWS_ENDPOINT_URL_CLOUDWATCH_LOGS`.
pub fn of_service(name: &str, service: &str) -> Option<String> {
    read(&format!("{name}_{}", service.to_uppercase().replace(' ', "_")))
}

/// Whether endpoints must be the FIPS ones (`AWS_USE_FIPS_ENDPOINT`).
pub fn fips_endpoints() -> Option<bool> {
    read("AWS_USE_FIPS_ENDPOINT").map(|value| value.eq_ignore_ascii_case("true"))
}

/// The log filter (`FIREBREAK_LOG`), `info` by default.
pub fn log_filter() -> String {
    read("FIREBREAK_LOG").unwrap_or_else(|| "info".to_owned())
}

/// The ledger's table (`FIREBREAK_TABLE`).
pub fn table() -> Result<String, ConfigError> {
    required("FIREBREAK_TABLE")
}

/// The key that the ledger's seals are made with (`FIREBREAK_SEAL_KEY_ARN`).
pub fn seal_key_arn() -> Result<String, ConfigError> {
    required("FIREBREAK_SEAL_KEY_ARN")
}

/// The key that signs the manifests of evidence (`FIREBREAK_EVIDENCE_SIGNING_KEY_ARN`).
pub fn signing_key_arn() -> Result<String, ConfigError> {
    required("FIREBREAK_EVIDENCE_SIGNING_KEY_ARN")
}

/// The ARN of the deny policy (`FIREBREAK_DENY_POLICY_ARN`).
pub fn deny_policy_arn() -> Result<String, ConfigError> {
    required("FIREBREAK_DENY_POLICY_ARN")
}

/// The bus of outcome events (`FIREBREAK_BUS`).
pub fn bus() -> Result<String, ConfigError> {
    required("FIREBREAK_BUS")
}

/// The topic of pages (`FIREBREAK_TOPIC_ARN`).
pub fn topic_arn() -> Result<String, ConfigError> {
    required("FIREBREAK_TOPIC_ARN")
}

/// Where evidence goes and how: `FIREBREAK_EVIDENCE_BUCKET`, `FIREBREAK_EVIDENCE_ACCESS` (`read-back`, or `write-only` where
/// the bucket is another account's), `FIREBREAK_EVIDENCE_KEY_ARN`,
/// `FIREBREAK_EVIDENCE_SIGNING_KEY_ARN`, `FIREBREAK_EVIDENCE_QUEUE_URL`, `FIREBREAK_EVIDENCE_COMPRESSION`,
/// `FIREBREAK_EVIDENCE_FOLLOW_UP_SECONDS` (0–900, as long as SQS holds a message back), and what [`Base`],
/// [`opt_in_regions`] and [`revoke_function`] read.
pub fn evidence() -> Result<evidence::Settings, ConfigError> {
    let follow_up = parsed("FIREBREAK_EVIDENCE_FOLLOW_UP_SECONDS", "a number from 0 to 900", |t| {
        t.parse::<u64>().ok().filter(|seconds| *seconds <= 900)
    })?;
    let Base { home, stack } = Base::from_env()?;
    Ok(evidence::Settings {
        regions: trace::regions(home.partition, opt_in_regions()?).into_iter().collect(),
        stack,
        revokes: revoke_function().is_some(),
        bucket: required("FIREBREAK_EVIDENCE_BUCKET")?,
        access: parsed("FIREBREAK_EVIDENCE_ACCESS", "`read-back` or `write-only`", |t| match t {
            "read-back" => Some(Access::ReadBack),
            "write-only" => Some(Access::WriteOnly),
            _ => None,
        })?,
        key_arn: required("FIREBREAK_EVIDENCE_KEY_ARN")?,
        signing_key_arn: signing_key_arn()?,
        queue_url: required("FIREBREAK_EVIDENCE_QUEUE_URL")?,
        codec: parsed("FIREBREAK_EVIDENCE_COMPRESSION", "zstd or gzip", Codec::from_name)?,
        follow_up: Duration::from_secs(follow_up),
    })
}

/// The ceiling over the playbook's modes (`FIREBREAK_MODE`).
pub fn mode_ceiling() -> Result<Mode, ConfigError> {
    parsed("FIREBREAK_MODE", "observe, approve or enforce", Mode::from_name)
}

/// Patterns on the ARNs of the roles that deploy Firebreak (`FIREBREAK_DEPLOYER_ROLES`, comma-separated, may be empty).
pub fn deployer_roles() -> Vec<Glob> {
    let list = read("FIREBREAK_DEPLOYER_ROLES").unwrap_or_default();
    list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()).map(Glob::from).collect()
}

/// The function that writes revocations (`FIREBREAK_REVOKE_FUNCTION`); `None` where it is left out of the stack.
pub fn revoke_function() -> Option<String> {
    read("FIREBREAK_REVOKE_FUNCTION")
}

/// Whether drills are enabled (`FIREBREAK_DRILLS`).
pub fn with_drills() -> bool {
    read("FIREBREAK_DRILLS").is_some_and(|drills| drills == "enabled")
}

/// The Regions that the account has opted in to, beside those that every account has (`FIREBREAK_OPT_IN_REGIONS`,
/// comma-separated, may be empty).
pub fn opt_in_regions() -> Result<Vec<Region>, ConfigError> {
    let name = "FIREBREAK_OPT_IN_REGIONS";
    let list = read(name).unwrap_or_default();
    let wrong = |text: &str| ConfigError::Wrong {
        name,
        value: firebreak_model::ids::shown(text),
        expected: "names of Regions, with commas between",
    };
    let names = list.split(',').map(str::trim).filter(|text| !text.is_empty());
    names.map(|text| text.parse().map_err(|_| wrong(text))).collect()
}

/// How long a release waits between the revocation that was read back and the end of the deny
/// (`FIREBREAK_REVOCATION_LEAD_SECONDS`, 0–300 as the template allows, default 10): IAM takes seconds to propagate.
pub fn revocation_lead() -> Result<Duration, ConfigError> {
    if read("FIREBREAK_REVOCATION_LEAD_SECONDS").is_none() {
        return Ok(Duration::from_secs(10));
    }
    let seconds = parsed("FIREBREAK_REVOCATION_LEAD_SECONDS", "a number from 0 to 300", |t| {
        t.parse::<u64>().ok().filter(|s| *s <= 300)
    })?;
    Ok(Duration::from_secs(seconds))
}

/// The guard's queue of re-checks (`FIREBREAK_RECHECK_QUEUE_URL`).
pub fn recheck_queue() -> Result<String, ConfigError> {
    required("FIREBREAK_RECHECK_QUEUE_URL")
}

/// What the simulator's control is asked about: the guard's own role (`FIREBREAK_GUARD_ROLE_ARN`), and the ledger's
/// table that it may read (`FIREBREAK_TABLE_ARN`).
pub fn control() -> Result<(String, String), ConfigError> {
    Ok((required("FIREBREAK_GUARD_ROLE_ARN")?, required("FIREBREAK_TABLE_ARN")?))
}

/// The key of evidence and pages (`FIREBREAK_KEY_ARN`).
pub fn key_arn() -> Result<String, ConfigError> {
    required("FIREBREAK_KEY_ARN")
}

/// When re-checks fall due (`FIREBREAK_RECHECK_SECONDS`, `FIREBREAK_CLOUDTRAIL_LAG_SECONDS`).
pub fn pace() -> Result<Pace, ConfigError> {
    let rising = |text: &str| {
        let seconds: Vec<u32> = text.split(',').map(|one| one.trim().parse().ok()).collect::<Option<_>>()?;
        let before = std::iter::once(0).chain(seconds.iter().copied());
        let fits = before.zip(&seconds).all(|(before, one)| before < *one && one - before <= 900);
        fits.then_some(seconds)
    };
    let rechecks = parsed("FIREBREAK_RECHECK_SECONDS", "rising numbers of seconds, no more than 900 apart", rising)?;
    Ok(Pace { rechecks, trail_lag: trail_lag_seconds()? })
}

/// How late CloudTrail may be (`FIREBREAK_CLOUDTRAIL_LAG_SECONDS`).
pub fn trail_lag() -> Result<jiff::SignedDuration, ConfigError> {
    Ok(jiff::SignedDuration::from_secs(trail_lag_seconds()?.into()))
}

fn trail_lag_seconds() -> Result<u32, ConfigError> {
    parsed("FIREBREAK_CLOUDTRAIL_LAG_SECONDS", "a number from 0 to 900", |t| {
        t.parse().ok().filter(|seconds| *seconds <= 900)
    })
}

/// The Regions whose workloads are told apart by the roles that they run as: our own (`AWS_REGION`) first, then those of
/// `FIREBREAK_WORKLOAD_REGIONS` (comma-separated, may be empty).
pub fn workload_regions() -> Result<Vec<firebreak_model::ids::Region>, ConfigError> {
    let mut regions = Vec::new();
    let home = parsed("AWS_REGION", "the name of a Region", |t| t.parse().ok())?;
    firebreak_model::each_once::add(&mut regions, home);
    if read("FIREBREAK_WORKLOAD_REGIONS").is_some() {
        let more: Vec<_> = parsed("FIREBREAK_WORKLOAD_REGIONS", "names of Regions, with commas between", |t| {
            let names = t.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(|name| name.parse().ok()).collect()
        })?;
        firebreak_model::each_once::extend(&mut regions, more);
    }
    Ok(regions)
}

/// Reads and checks the playbook that is packaged beside the function.
pub fn playbook() -> Result<Playbook, ConfigError> {
    let root = required("LAMBDA_TASK_ROOT")?;
    let path = std::path::Path::new(&root).join("playbook.yaml");
    let text = std::fs::read_to_string(&path)
        .map_err(|source| ConfigError::NoPlaybook { path: path.display().to_string(), source })?;
    Ok(Playbook::from_yaml(&text)?)
}
