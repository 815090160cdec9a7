//! The effects of Firebreak: what calls AWS, reads the environment or the clock, and writes logs.
//!
//! Decisions are made in `firebreak-model`; this crate carries them out. Actions know neither the
//! ledger, nor pages, nor each other: the [`executor`] brings them together.

pub mod action;
pub mod actions;
pub mod answer;
pub mod assess;
pub mod clients;
pub mod clock;
pub mod config;
pub mod contain;
pub mod deadline;
pub mod evidence;
pub mod executor;
pub mod failure;
pub mod guard;
pub mod identity;
pub mod isolate;
pub mod ledger;
pub(crate) mod metrics;
pub mod page;
mod paging;
pub mod payload;
pub mod publish;
pub mod queue;
pub mod registry;
pub mod release;
pub mod resolve;
pub mod revoke;
pub mod telemetry;
#[cfg(test)]
mod template;
#[cfg(test)]
pub(crate) mod testing;
pub mod trace;
pub mod warm;
