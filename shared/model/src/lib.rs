//! The pure half of Firebreak: what a finding says, what the playbook decides, what the plan holds,
//! what the ledger remembers.
//!
//! Nothing in this crate performs I/O, reads a clock, an environment variable or randomness: the same
//! input gives the same plan, on a laptop as in the function. Effects live in `firebreak-shared`.

pub mod action;
mod actor;
pub mod chain;
pub mod cloudtrail;
pub mod decision;
pub mod deeds;
pub mod deployed;
pub mod each_once;
pub mod evidence;
pub mod explain;
pub mod finding;
mod foreign;
pub mod guard;
pub mod guardduty;
pub mod ids;
pub mod inventory;
pub mod judge;
pub mod ladder;
pub mod ledger;
pub mod outcome;
pub mod plan;
pub mod playbook;
pub mod policy;
pub mod principal;
pub mod report;
pub mod request;
pub mod revoked;
pub mod seal;
pub mod securityhub;
pub mod tamper;
pub mod trigger;
pub mod usage;
pub mod watch;

/// The version of the layout of every record, request and event (`docs/SCHEMAS.md`).
pub const SCHEMA: u32 = 1;
