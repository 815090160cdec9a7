//! Evaluates IAM policy documents as AWS does, for tests.
//!
//! It judges one document at a time: identity policies, service control policies, and policies of resources with their
//! principals. What it does not know it refuses to read, rather than take it for a statement that matches nothing: an
//! unknown operator, a policy variable, a member that is misspelt. It asks nobody, and no function links it.
//!
//! The rules are those of the IAM user guide: [elements](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html),
//! [condition operators](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html),
//! [single and several values](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html).

mod condition;
pub mod mutants;
pub mod organisation;
mod pattern;
mod policy;
mod principal;
mod request;

pub use policy::{Decision, Policy, Unreadable};
pub use request::{Caller, Request};
