//! The adversary under the organisation's policy, in a theatre of its own: what it leaves behind is nobody else's scene.

mod common;

#[test]
fn adversary_under_the_policy() {
    common::play("adversary-under-the-policy");
}
