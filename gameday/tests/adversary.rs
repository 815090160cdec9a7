//! The adversary, with and without the organisation's policy, in a theatre of its own: what it leaves behind is nobody
//! else's scene.

mod common;

#[test]
fn a_thief_who_mints_more_users_than_the_breaker_counts_runs_out_of_them() {
    common::play_it(&gameday::scenarios::ONE_BOUT);
}

#[test]
fn adversary_under_the_policy() {
    common::play("adversary-under-the-policy");
}

#[test]
fn adversary_under_both_policies() {
    common::play("adversary-under-both-policies");
}
