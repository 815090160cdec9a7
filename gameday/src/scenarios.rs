//! The scenarios, one a file, and the list of them.

mod adversary_blinds_the_guard;
mod adversary_under_both_policies;
mod adversary_under_the_policy;
mod adversary_without_the_policy;
mod attack_sequence_role_with_path;
mod attack_sequence_without_its_block;
mod deny_detached;
mod ecs_task_role;
mod filled_quota;
mod firebreak_blinded;
mod forged_command_on_the_bus;
mod healthy_function_lives_on;
mod iam_user_key_compromised;
mod innocent_namesake;
mod instance_profile_role;
mod lambda_c2_activity;
mod lambda_credentials_exfiltrated;
mod manual_containment;
mod minted_user;
mod observe_mode;
mod pause_and_release;
mod protected_role;
mod role_chaining;
mod role_without_its_function;
mod sample_finding;
mod securityhub_custom_action;
mod securityhub_ocsf_finding;
mod sessions_of_a_users_key;
mod shared_role;

pub use adversary_without_the_policy::{ONE_BOUT, ONE_LATE_BOUT};

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;

use crate::check::judged;
use crate::scene::Victim;
use crate::stage::Stage;

/// Which stack a scenario is played against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum House {
    /// The one whose mode is `enforce`.
    Enforcing,
    /// The one whose mode is `observe`.
    Observing,
}

/// A scenario being played.
pub type Playing<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in a line.
    pub summary: &'static str,
    /// Where it is played.
    pub house: House,
    /// Plays it.
    pub play: for<'a> fn(&'a mut Stage) -> Playing<'a>,
}

/// Every scenario, in the order that they are played in.
pub const ALL: &[Scenario] = &[
    lambda_credentials_exfiltrated::SCENARIO,
    lambda_c2_activity::SCENARIO,
    attack_sequence_role_with_path::SCENARIO,
    attack_sequence_without_its_block::SCENARIO,
    instance_profile_role::SCENARIO,
    ecs_task_role::SCENARIO,
    securityhub_ocsf_finding::SCENARIO,
    securityhub_custom_action::SCENARIO,
    iam_user_key_compromised::SCENARIO,
    filled_quota::SCENARIO,
    innocent_namesake::SCENARIO,
    sample_finding::SCENARIO,
    protected_role::SCENARIO,
    observe_mode::SCENARIO,
    forged_command_on_the_bus::SCENARIO,
    manual_containment::SCENARIO,
    pause_and_release::SCENARIO,
    role_chaining::SCENARIO,
    sessions_of_a_users_key::SCENARIO,
    healthy_function_lives_on::SCENARIO,
    deny_detached::SCENARIO,
    minted_user::SCENARIO,
    role_without_its_function::SCENARIO,
    shared_role::SCENARIO,
    firebreak_blinded::SCENARIO,
    adversary_blinds_the_guard::SCENARIO,
    adversary_under_the_policy::SCENARIO,
    adversary_under_both_policies::SCENARIO,
    adversary_without_the_policy::SCENARIO,
];

/// Played by name alone: they wait for longer than all others take together.
pub const LONG: [&str; 1] = ["healthy-function-lives-on"];

/// The scenarios of these names, in the order that they are asked for; where none is named, all but the long ones.
///
/// # Errors
/// Where a name is none, with the names that there are.
pub fn named(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(ALL.iter().filter(|scenario| !LONG.contains(&scenario.name)).collect());
    }
    let mut scenarios = Vec::new();
    for name in names {
        let Some(scenario) = ALL.iter().find(|scenario| scenario.name == name) else {
            let known: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
            bail!("there is no scenario `{name}`; there are: {}", known.join(", "));
        };
        scenarios.push(scenario);
    }
    Ok(scenarios)
}

/// The function does its work: a call to AWS with the credentials of its role.
async fn function_works(stage: &mut Stage, victim: &Victim) -> Option<Timestamp> {
    let works = victim.work(&stage.aws).await;
    let said = works.as_ref().err().map_or("it works".to_owned(), |error| format!("{error:#}"));
    stage.check(judged("the function writes an order with its role", "it works", said, works.is_ok()));
    works.ok()
}

/// The function works after the release, in an environment whose credentials are from after the revocation.
async fn function_works_again(stage: &mut Stage, victim: &Victim) -> Result<()> {
    let began = function_works(stage, victim).await;
    let book = stage.look().await?;
    let released = book.incident(&victim.role.incident()?).and_then(|i| i.release.as_ref()).map(|release| release.at);
    let (Some(began), Some(released)) = (began, released) else { return Ok(()) };
    let found = format!("{} ms after it", began.duration_since(released).as_millis());
    stage.check(judged("its environment began", "after the revocation's time", found, began > released));
    Ok(())
}

/// A session's issue time is given in whole seconds: one that is issued in the second of the revocation is revoked.
async fn until_issued_after_the_revocation() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn scenarios_are_found_by_name_and_an_unknown_name_lists_them() {
        assert_eq!(named(&[]).unwrap().len(), ALL.len() - LONG.len());
        assert!(LONG.iter().all(|name| named(&[(*name).to_owned()]).is_ok()));
        assert_eq!(named(&["sample-finding".to_owned()]).unwrap()[0].name, "sample-finding");
        let error = named(&["sampel".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`sampel`") && ALL.iter().all(|s| error.contains(s.name)), "{error}");
    }

    #[test]
    fn no_two_scenarios_have_one_name() {
        let mut names: Vec<_> = ALL.iter().map(|s| s.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
