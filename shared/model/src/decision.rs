//! What to do about a finding: decisions only rise.

use serde::{Deserialize, Serialize};

use crate::action::named;

named!(
    /// From least to most: a later, higher decision replaces an earlier one, never the other way round.
    Decision {
        /// Record only.
        Ignore = "ignore",
        /// Record and page.
        Notify = "notify",
        /// Open an incident and wait for a person.
        Approve = "approve",
        /// Contain at once.
        Act = "act",
    }
);

named!(
    /// How far a playbook rule, or the stack's ceiling, lets a decision go.
    Mode {
        /// Decide, record, page; change nothing.
        Observe = "observe",
        /// Contain only what a person has approved.
        Approve = "approve",
        /// Contain at once where the decision is to act.
        Enforce = "enforce",
    }
);

impl Decision {
    /// The decision as far as `mode` lets it go.
    #[must_use]
    pub fn under(self, mode: Mode) -> Self {
        let ceiling = match mode {
            Mode::Observe => Self::Notify,
            Mode::Approve => Self::Approve,
            Mode::Enforce => Self::Act,
        };
        self.min(ceiling)
    }

    /// Whether the decision opens an incident.
    pub fn opens_incident(self) -> bool {
        self >= Self::Approve
    }
}

/// A decision with where it came from, for the record and the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What the playbook says.
    pub decision: Decision,
    /// What is done: the decision under the mode and the guard rails.
    pub effective: Decision,
    /// The mode that was in force.
    pub mode: Mode,
    /// The playbook rule that matched, or the name of the built-in one.
    pub rule: String,
    /// Why, in a sentence.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_ordered_from_ignore_to_act() {
        assert!(Decision::Ignore < Decision::Notify);
        assert!(Decision::Notify < Decision::Approve);
        assert!(Decision::Approve < Decision::Act);
    }

    #[test]
    fn a_mode_caps_and_never_raises() {
        for &decision in Decision::ALL {
            for &mode in Mode::ALL {
                assert!(decision.under(mode) <= decision);
            }
            assert_eq!(decision.under(Mode::Enforce), decision);
            assert!(decision.under(Mode::Observe) <= Decision::Notify);
        }
    }
}
