//! Game days: incidents played against the deployed template, on a local emulator with IAM enforced.
//!
//! A game day is made of [`scenarios`]. Each sets a [`scene`], lets a [`thief`] work, has Firebreak find out, and
//! checks what became of the world. Nothing here knows how Firebreak works inside: it deploys the template, sends
//! events and requests as AWS and people do, and looks at AWS and at the ledger.

pub mod acts;
pub mod adversary;
pub mod archive;
pub mod aws;
pub mod central;
pub mod check;
pub mod conditions;
pub mod deploy;
pub mod emulator;
pub mod evidence;
pub mod findings;
pub mod ledger;
pub mod narrator;
pub mod pages;
pub mod report;
pub mod scenarios;
pub mod scene;
pub mod stage;
pub mod storm;
pub mod theatre;
pub mod thief;
pub mod world;
