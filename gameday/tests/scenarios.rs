//! Every scenario of the game day, through the deployed template with real functions and IAM enforced.

mod common;

use gameday::scenarios;

/// Played in a theatre of their own (`adversary.rs`): what the adversary leaves behind is nobody else's scene.
const ALONE: [&str; 3] = ["adversary-blinds-the-guard", "adversary-under-the-policy", "adversary-under-both-policies"];

/// Who is quicker, the thief or the guard, is a score and no test: the game day plays it and prints it.
const RACE: &str = "adversary-without-the-policy";

macro_rules! scenarios {
    ($($test:ident),+ $(,)?) => {
        $(#[test]
        fn $test() {
            common::play(&stringify!($test).replace('_', "-"));
        })+

        #[test]
        fn every_scenario_has_its_test() {
            let tested = [$(stringify!($test).replace('_', "-")),+];
            let known = scenarios::ALL.iter().map(|scenario| scenario.name.to_owned());
            let elsewhere = |name: &String| name == RACE || ALONE.contains(&name.as_str()) || scenarios::LONG.contains(&name.as_str());
            let known: Vec<_> = known.filter(|name| !elsewhere(name)).collect();
            assert_eq!(known, tested);
        }
    };
}

scenarios!(
    lambda_credentials_exfiltrated,
    lambda_c2_activity,
    attack_sequence_role_with_path,
    attack_sequence_without_its_block,
    instance_profile_role,
    ecs_task_role,
    securityhub_ocsf_finding,
    securityhub_custom_action,
    iam_user_key_compromised,
    filled_quota,
    innocent_namesake,
    sample_finding,
    protected_role,
    observe_mode,
    forged_command_on_the_bus,
    manual_containment,
    pause_and_release,
    role_chaining,
    sessions_of_a_users_key,
    deny_detached,
    minted_user,
    role_without_its_function,
    shared_role,
    firebreak_blinded,
);
