//! Who may make which call under the organisation's policies: a rule for each call, written down beside the policy and
//! not derived from it. "May" means that the policy does not deny: what the caller's own policies say is another matter.

mod containment;
mod identities;

use super::{Names, Scp};
use crate::request::{Caller, Request};

const ACCOUNT: &str = "111122223333";
const SSO: &str = "role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_AdministratorAccess_0123456789abcdef";

/// Who may.
#[derive(Debug, Clone, Copy)]
enum May {
    Everyone,
    Nobody,
    /// These callers, by name.
    Only(&'static [&'static str]),
}

/// Callers: the name in the table, and the ARN after the account.
const CALLERS: &[(&str, &str)] = &[
    ("the thief", "role/firebreak-drill/orders"),
    ("an administrator", "role/Admin"),
    ("a person of Identity Center", SSO),
    ("a user", "user/ops/ana"),
    ("a namesake without the path", "role/firebreak-release-containment"),
    ("a namesake under another path", "role/other/firebreak/firebreak-release-containment"),
    ("a namesake in capitals", "role/Firebreak/firebreak-release-containment"),
    ("a user of the name", "user/firebreak/firebreak-release-containment"),
    ("a namesake of quarantine", "role/firebreak-quarantine-principal"),
    ("a user named like quarantine", "user/firebreak/firebreak-quarantine-principal"),
    ("a namesake of revoke", "role/firebreak-revoke-sessions"),
    ("a user named like revoke", "user/firebreak/firebreak-revoke-sessions"),
    ("a namesake of the responder", "role/responder"),
    ("a user named like the responder", "user/oncall/responder"),
    ("a namesake of the boundaries' role", "role/boundaries"),
    ("a user named like the boundaries' role", "user/landing-zone/boundaries"),
    ("a user named like the deployer", "user/ci/deployer-eu"),
    ("a longer name", "role/firebreak/firebreak-release-containment-2"),
    ("the makers' role without the path", "role/makers-eu"),
    ("a user named like the makers' role", "user/ci/makers-eu"),
    ("a namesake of the collector", "role/collector"),
    ("a longer name than the collector's", "role/apps/collector-2"),
    ("a user named like the collector", "user/apps/collector"),
    ("root", "root"),
    ("deployer", "role/ci/deployer-eu"),
    ("a deployer without the path", "role/deployer-eu"),
    ("responder", "role/oncall/responder"),
    ("boundaries", "role/landing-zone/boundaries"),
    ("makers", "role/ci/makers-eu"),
    ("collector", "role/apps/collector"),
    ("quarantine", "role/firebreak/firebreak-quarantine-principal"),
    ("revoke", "role/firebreak/firebreak-revoke-sessions"),
    ("isolate", "role/firebreak/firebreak-isolate-function"),
    ("snapshot", "role/firebreak/firebreak-snapshot-logs"),
    ("publish", "role/firebreak/firebreak-publish-outcomes"),
    ("notify", "role/firebreak/firebreak-notify-responders"),
    ("release", "role/firebreak/firebreak-release-containment"),
    ("guard", "role/firebreak/firebreak-guard-containment"),
];

/// Everything under Firebreak's path, and the people and pipelines that are named.
const TRUSTED: May = May::Only(&[
    "a longer name",
    "deployer",
    "responder",
    "quarantine",
    "revoke",
    "isolate",
    "snapshot",
    "publish",
    "notify",
    "release",
    "guard",
]);
const DEPLOYER: May = May::Only(&["deployer"]);

/// The names that the table is about.
pub fn names() -> Names {
    Names {
        stack: "firebreak".to_owned(),
        deployers: vec!["arn:*:iam::*:role/ci/deployer-*".to_owned()],
        responders: vec!["arn:*:iam::*:role/oncall/responder".to_owned()],
        boundaries: vec!["arn:*:iam::*:role/landing-zone/boundaries".to_owned()],
        identities: vec!["arn:*:iam::*:role/ci/makers-*".to_owned()],
        chains: vec!["arn:*:iam::*:role/apps/collector".to_owned()],
    }
}

/// A row: a caller, a call, and whether the policy denies it.
#[derive(Debug, Clone)]
pub struct Row {
    /// What the row is about.
    pub name: String,
    /// The call.
    pub request: Request,
    /// Whether it is denied.
    pub denied: bool,
}

/// A call: the action, the resource, the condition keys, and who may.
type Call<'a> = (&'a str, &'a str, &'a [(&'a str, &'a [&'a str])], May);

/// Every row of a policy: each of its calls by each caller.
pub fn rows(policy: Scp) -> Vec<Row> {
    let calls = match policy {
        Scp::Containment => containment::calls(),
        Scp::Identities => identities::calls(),
    };
    calls
        .iter()
        .flat_map(|(action, resource, keys, may)| {
            CALLERS.iter().map(move |(caller, arn)| Row {
                name: format!("{caller}: {action} on {resource} {keys:?}"),
                request: request(arn, action, resource, keys),
                denied: match may {
                    May::Everyone => false,
                    May::Nobody => true,
                    May::Only(names) => !names.contains(caller),
                },
            })
        })
        .collect()
}

fn request(caller: &str, action: &str, resource: &str, keys: &[(&str, &[&str])]) -> Request {
    let arn = format!("arn:aws:iam::{ACCOUNT}:{caller}");
    let session = caller.strip_prefix("role/").map(|role| {
        let name = role.rsplit('/').next().unwrap_or_default();
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/session")
    });
    let resource = match resource {
        "*" => "*".to_owned(),
        short => format!(
            "arn:aws:{}",
            short.replacen(":R:A:", &format!(":us-east-1:{ACCOUNT}:"), 1).replacen("::A:", &format!("::{ACCOUNT}:"), 1)
        ),
    };
    let request = Request::new(Caller::Principal { arn, session }, action, &resource);
    keys.iter().fold(request, |request, (key, values)| request.with(key, values.iter().copied()))
}
