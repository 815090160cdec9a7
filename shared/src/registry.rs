//! What each function may do: the one list that the deployed roles are held to, exactly.
//!
//! An action declares what it needs; a function has what its actions, its room in this crate and the
//! ledger need, and nothing else.

use std::collections::BTreeSet;

use firebreak_model::action::FunctionName;

use crate::action::{ActionRecord, Permission, Resource};
use crate::{actions, assess, guard, identity, publish, release, resolve, trace};

/// The records of all actions.
pub fn records() -> &'static [&'static ActionRecord] {
    actions::RECORDS
}

const fn on(resource: Resource, action: &'static str) -> Permission {
    Permission { action, on: resource }
}

/// What reading the ledger needs.
const READ: [Permission; 2] = [on(Resource::Table, "dynamodb:GetItem"), on(Resource::Table, "dynamodb:Query")];

/// What reading a whole partition of it needs.
const LIST: [Permission; 1] = [on(Resource::Table, "dynamodb:Query")];

/// What writing records needs.
const WRITE: [Permission; 1] = [on(Resource::Table, "dynamodb:PutItem")];

/// What claiming needs beyond that: one transaction with the breaker's counter and the pause.
const CLAIM: [Permission; 2] =
    [on(Resource::Table, "dynamodb:UpdateItem"), on(Resource::Table, "dynamodb:ConditionCheckItem")];

/// What forgetting a record needs.
const FORGET: [Permission; 1] = [on(Resource::Table, "dynamodb:DeleteItem")];

/// What telling and making the seals of records needs: all who act on one.
const SEAL: &[Permission] = crate::ledger::SEAL_PERMISSIONS;

/// What every function needs to write its logs.
const LOGS: [Permission; 2] =
    [on(Resource::OwnLogs, "logs:CreateLogStream"), on(Resource::OwnLogs, "logs:PutLogEvents")];

/// What Lambda needs to put a failed invocation into the queue.
const FAILURES: [Permission; 1] = [on(Resource::FailureQueue, "sqs:SendMessage")];

/// What polling the ledger's stream needs.
const STREAM: [Permission; 4] = [
    on(Resource::Stream, "dynamodb:DescribeStream"),
    on(Resource::Stream, "dynamodb:GetRecords"),
    on(Resource::Stream, "dynamodb:GetShardIterator"),
    on(Resource::Any, "dynamodb:ListStreams"),
];

/// What polling the queue of delayed recyclings needs.
const RECYCLE_QUEUE: [Permission; 3] = [
    on(Resource::RecycleQueue, "sqs:DeleteMessage"),
    on(Resource::RecycleQueue, "sqs:GetQueueAttributes"),
    on(Resource::RecycleQueue, "sqs:ReceiveMessage"),
];

/// What polling the queue of delayed looks at CloudTrail needs.
const TRACE_QUEUE: [Permission; 3] = [
    on(Resource::TraceQueue, "sqs:DeleteMessage"),
    on(Resource::TraceQueue, "sqs:GetQueueAttributes"),
    on(Resource::TraceQueue, "sqs:ReceiveMessage"),
];

/// The permissions of a function's role: all of them.
pub fn permissions(function: FunctionName) -> BTreeSet<Permission> {
    let parts: &[&[Permission]] = match function {
        FunctionName::QuarantinePrincipal => {
            &[&READ, &WRITE, &CLAIM, SEAL, &FAILURES, identity::PERMISSIONS, resolve::PERMISSIONS]
        }
        FunctionName::RevokeSessions => {
            &[&READ, &WRITE, &FORGET, SEAL, &FAILURES, &TRACE_QUEUE, identity::PERMISSIONS, trace::PERMISSIONS]
        }
        FunctionName::IsolateFunction => &[&READ, &WRITE, SEAL, &FAILURES, &RECYCLE_QUEUE],
        FunctionName::SnapshotLogs => &[&READ, &WRITE, SEAL, &FAILURES, crate::evidence::PERMISSIONS],
        FunctionName::PublishOutcomes => &[&STREAM, &FAILURES, publish::PERMISSIONS],
        FunctionName::NotifyResponders => &[&READ, &WRITE, &FAILURES, crate::page::PERMISSIONS],
        FunctionName::ReleaseContainment => &[
            &READ,
            &WRITE,
            &FORGET,
            SEAL,
            &FAILURES,
            identity::PERMISSIONS,
            release::PERMISSIONS,
            crate::ledger::OPEN_PERMISSIONS,
        ],
        FunctionName::GuardContainment => &[
            &READ,
            &WRITE,
            &FORGET,
            SEAL,
            &FAILURES,
            identity::PERMISSIONS,
            guard::PERMISSIONS,
            guard::OWN_PARTS,
            crate::ledger::OPEN_PERMISSIONS,
        ],
        FunctionName::AssessIdentities => &[&LIST, &WRITE, &FORGET, &FAILURES, assess::PERMISSIONS],
    };
    let own = parts.iter().flat_map(|part| part.iter()).chain(&LOGS);
    let of_actions = records().iter().filter(|record| record.id.owner() == function).flat_map(|r| r.permissions);
    let mut all: BTreeSet<Permission> = own.chain(of_actions).copied().collect();
    if function == FunctionName::ReleaseContainment {
        // Undoing is its work alone; and it recycles what was isolated, so that warm environments get fresh credentials.
        for record in records() {
            let undone_here = record.id.owner() != FunctionName::RevokeSessions;
            if undone_here {
                all.extend(record.revert_permissions);
            }
            if record.id == firebreak_model::action::ActionId::RecycleEnvironments {
                all.extend(record.permissions);
            }
        }
    }
    if function == FunctionName::GuardContainment {
        // It reads back what all actions did, and does nothing of it.
        let reads = |permission: &&Permission| {
            let call = permission.action.split(':').nth(1).unwrap_or_default();
            ["Get", "List", "Describe"].iter().any(|verb| call.starts_with(verb))
        };
        let lasting = records().iter().filter(|record| firebreak_model::watch::lasts(record.id));
        all.extend(lasting.flat_map(|record| record.permissions).filter(reads));
    }
    if function == FunctionName::RevokeSessions {
        // The end of a revocation is its owner's work: it puts it there, and takes it away when its time is over.
        for record in records().iter().filter(|r| r.id.owner() == function) {
            all.extend(record.revert_permissions);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_function_can_write_an_inline_policy_and_none_can_grant_otherwise() {
        for &function in FunctionName::ALL {
            let all = permissions(function);
            let has = |action: &str| all.iter().any(|p| p.action == action);
            let puts = has("iam:PutRolePolicy") || has("iam:PutUserPolicy");
            assert_eq!(puts, function == FunctionName::RevokeSessions, "{function}");
            for grant in [
                "iam:PassRole",
                "iam:CreateAccessKey",
                "iam:UpdateAssumeRolePolicy",
                "iam:CreatePolicyVersion",
                "iam:CreateUser",
                "iam:CreateRole",
                "iam:CreateLoginProfile",
                "sts:AssumeRole",
                "lambda:UpdateFunctionCode",
            ] {
                assert!(!has(grant), "{function} has {grant}");
            }
            for permission in &all {
                let attaches =
                    permission.action.starts_with("iam:Attach") || permission.action.starts_with("iam:Detach");
                let held = matches!(permission.on, Resource::RoleAndDenyPolicy | Resource::UserAndDenyPolicy);
                assert_eq!(attaches, held, "{function}: {}", permission.action);
            }
        }
    }

    #[test]
    fn the_guard_changes_nothing_but_its_own_records_and_its_queue() {
        for permission in permissions(FunctionName::GuardContainment) {
            let (service, call) = permission.action.split_once(':').unwrap_or_default();
            let own = matches!(
                permission.on,
                Resource::Table
                    | Resource::OpenIndex
                    | Resource::SealKey
                    | Resource::RecheckQueue
                    | Resource::FailureQueue
            ) || service == "logs";
            let reads = ["Get", "List", "Describe", "Lookup", "Simulate"].iter().any(|verb| call.starts_with(verb));
            assert!(own || reads, "the guard has {}", permission.action);
        }
    }

    #[test]
    fn what_attaches_cannot_detach() {
        let quarantine = permissions(FunctionName::QuarantinePrincipal);
        assert!(!quarantine.iter().any(|p| p.action.starts_with("iam:Detach")));
        let release = permissions(FunctionName::ReleaseContainment);
        assert!(!release.iter().any(|p| p.action.starts_with("iam:Attach")));
    }

    #[test]
    fn a_boundary_is_set_to_the_one_that_denies_everything_and_only_a_release_puts_another_back() {
        for &function in FunctionName::ALL {
            for permission in permissions(function).iter().filter(|p| p.action.ends_with("PermissionsBoundary")) {
                let held = matches!(permission.on, Resource::RoleAndDenyAll | Resource::UserAndDenyAll);
                let puts_back =
                    function == FunctionName::ReleaseContainment && permission.action.starts_with("iam:Put");
                assert_eq!(held, !puts_back, "{function}: {}", permission.action);
                let bounds = [FunctionName::QuarantinePrincipal, FunctionName::ReleaseContainment];
                assert!(bounds.contains(&function), "{function}: {}", permission.action);
            }
        }
    }
}
