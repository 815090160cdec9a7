//! The adversary, with and without the organisation's policy, in a theatre of its own: what it leaves behind is nobody
//! else's scene.

mod common;

#[test]
fn a_thief_who_mints_more_users_than_the_breaker_counts_runs_out_of_them() {
    common::play_it(&gameday::scenarios::ONE_BOUT);
}

#[test]
fn a_thief_who_strips_is_out_and_it_is_settled_though_events_are_five_seconds_late() {
    common::play_it(&gameday::scenarios::ONE_LATE_BOUT);
}

#[test]
fn adversary_blinds_the_guard() {
    common::play("adversary-blinds-the-guard");
}

#[test]
fn adversary_under_the_policy() {
    common::play("adversary-under-the-policy");
}

#[test]
fn adversary_under_both_policies() {
    common::play("adversary-under-both-policies");
}
