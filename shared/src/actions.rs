//! The containment actions: one file each, named `<service>_<verb>_<noun>`.

mod iam_quarantine_role;

pub use iam_quarantine_role::QuarantineRole;
