//! Evidence: what a containment would destroy, and what a thief may destroy meanwhile, copied into the
//! object-locked bucket before anyone has asked for it.
//!
//! A [`snapshot`] runs its collectors side by side. Each writes compressed JSON Lines into the bucket and
//! says what it could not get; none of them stops the others. A manifest names every object with its
//! SHA-256, and every gap with its reason. Nothing is ever overwritten. No text that a thief can choose stands
//! in a key: the manifest says which object is about what.

pub mod manifest;
pub mod snapshot;
pub mod store;

mod function;
mod ledger;
mod logs;
mod principal;
mod sink;
#[cfg(test)]
pub(crate) mod testing;

use jiff::Timestamp;

use crate::action::{ActionError, Permission, Resource};
use crate::telemetry::chain;
use manifest::{ApiCall, Entry, Gap, Lack};
use store::{Store, StoreError};

/// What collecting evidence needs, beside the ledger.
pub const PERMISSIONS: &[Permission] = &[
    Permission { action: "iam:GetPolicy", on: Resource::Policy },
    Permission { action: "iam:GetPolicyVersion", on: Resource::Policy },
    Permission { action: "iam:GetRole", on: Resource::Role },
    Permission { action: "iam:GetRolePolicy", on: Resource::Role },
    Permission { action: "iam:GetUser", on: Resource::User },
    Permission { action: "iam:GetUserPolicy", on: Resource::User },
    Permission { action: "iam:ListAccessKeys", on: Resource::User },
    Permission { action: "iam:ListAttachedRolePolicies", on: Resource::Role },
    Permission { action: "iam:ListAttachedUserPolicies", on: Resource::User },
    Permission { action: "iam:ListRolePolicies", on: Resource::Role },
    Permission { action: "iam:ListUserPolicies", on: Resource::User },
    Permission { action: "kms:Decrypt", on: Resource::Key },
    Permission { action: "kms:GenerateDataKey", on: Resource::Key },
    Permission { action: "lambda:GetFunctionConcurrency", on: Resource::Function },
    Permission { action: "lambda:GetFunctionConfiguration", on: Resource::Function },
    Permission { action: "lambda:GetPolicy", on: Resource::Function },
    Permission { action: "lambda:ListEventSourceMappings", on: Resource::Any },
    Permission { action: "lambda:ListFunctionUrlConfigs", on: Resource::Function },
    Permission { action: "logs:FilterLogEvents", on: Resource::LogGroup },
    Permission { action: "s3:GetObject", on: Resource::EvidenceObject },
    Permission { action: "s3:PutObject", on: Resource::EvidenceObject },
];

/// What every collector of one run is given.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a> {
    /// Where evidence goes.
    store: &'a Store,
    /// `incidents/<account>/<incident id>/<episode>/<attempt>`.
    prefix: String,
    /// Log events from here …
    from: Timestamp,
    /// … to here.
    to: Timestamp,
    /// When collecting must end, so that the manifest can still be written.
    deadline: Timestamp,
}

/// What a collector got, and what it did not get.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    entries: Vec<Entry>,
    gaps: Vec<Gap>,
    /// Whether something that was read could not be stored: then the run as a whole has failed.
    unstored: Option<StoreError>,
}

impl Collected {
    fn gap(&mut self, what: &str, source: ApiCall, error: &ActionError) {
        self.gaps.push(Gap { what: what.to_owned(), source, lack: Lack::of(error), reason: chain(error) });
    }

    fn not_stored(&mut self, what: &str, source: ApiCall, error: StoreError) {
        let reason = chain(&error);
        self.gaps.push(Gap { what: what.to_owned(), source, lack: Lack::NotStored, reason });
        self.unstored = Some(error);
    }

    /// Takes in what another collector got.
    fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self.gaps.extend(other.gaps);
        self.unstored = self.unstored.or(other.unstored);
        self
    }
}
