//! Who is there to be hit by mistake.

use anyhow::Result;
use gameday::aws::Aws;
use gameday::scene::{Role, User, random_hex};

/// Principals that no case may change.
#[derive(Debug)]
pub(crate) struct Bait {
    /// The suffix of every name.
    pub(crate) suffix: String,
    /// The stack.
    pub(crate) stack: String,
    /// A role outside the drill path, as in production.
    pub(crate) role: Role,
    /// A user.
    pub(crate) user: User,
    /// A role that the playbook protects by its path.
    pub(crate) protected: Role,
    /// A service-linked role, by its name and its path.
    pub(crate) service_linked: Role,
    /// A role under the path of service-linked roles with a name like any other.
    pub(crate) of_service: Role,
    /// A role of Identity Center, by its name and its path.
    pub(crate) sso: Role,
    /// A role under the path of Identity Center with a name like any other.
    pub(crate) of_sso: Role,
}

impl Bait {
    pub(crate) async fn lay_out(aws: &Aws, stack: &str) -> Result<Self> {
        let suffix = random_hex(6);
        let role = async |name: &str, path: &str| Role::create(aws, &format!("{name}{suffix}"), path).await;
        Ok(Self {
            role: role("orders-", "/service-role/").await?,
            user: User::create(aws, &format!("operator-{suffix}"), "/").await?,
            protected: role("opener-", "/ops/break-glass/").await?,
            service_linked: role("AWSServiceRoleForOrders", "/aws-service-role/orders.amazonaws.com/").await?,
            of_service: role("orders-of-service-", "/aws-service-role/orders.amazonaws.com/").await?,
            sso: role("AWSReservedSSO_Operator_", "/aws-reserved/sso.amazonaws.com/").await?,
            of_sso: role("operator-of-sso-", "/aws-reserved/sso.amazonaws.com/eu-west-1/").await?,
            stack: stack.to_owned(),
            suffix: suffix.clone(),
        })
    }
}
