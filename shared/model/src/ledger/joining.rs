//! What a later finding or request makes of an incident that is there already.

use jiff::Timestamp;

use super::{Approval, Incident, IncidentState, Origin, by_person};
use crate::decision::Decision;
use crate::each_once;
use crate::principal::{Identity, Principal};
use crate::tamper;

/// What a candidate makes of the incident that is already there.
#[derive(Debug, Clone, PartialEq)]
pub enum Joined {
    /// Nothing new: the finding is recorded, the incident stays as it is.
    Unchanged,
    /// The incident is released and the finding is about activity from before the release.
    Stale,
    /// A release is under way, and this is about activity from after it began: to be asked again when it is done.
    Later,
    /// The incident is to be written anew.
    Changed {
        /// The new record.
        next: Box<Incident>,
        /// Whether this is a new enforced containment, which the breaker counts and the pause stops.
        counts: bool,
    },
}

impl Incident {
    /// What `candidate` makes of this incident. Decisions only rise and plans only grow; a released
    /// incident reopens only on activity after its release (`last_seen`), or by a person.
    pub fn join(&self, candidate: &Incident, last_seen: Option<Timestamp>) -> Joined {
        // An invocation that Lambda makes again asks for nothing new.
        let by_person = match &candidate.origin {
            Origin::Person { invocation, .. } => !self.is_on_record(invocation),
            Origin::Finding { .. } => false,
        };
        let newer = match (last_seen, self.release.as_ref().map(|r| r.at)) {
            (Some(seen), Some(released)) => seen > released,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        match self.state {
            IncidentState::Released if newer || by_person => self.reopened(candidate),
            IncidentState::Releasing if newer || by_person => Joined::Later,
            IncidentState::Released | IncidentState::Releasing => Joined::Stale,
            IncidentState::Withheld => {
                let another_view = candidate.playbook_digest != self.playbook_digest || by_person;
                let dearer = candidate.decision > self.decision;
                let another_id = candidate.principal.unique_id != self.principal.unique_id;
                // Whoever may put events can have a drill withheld; what is no drill is not for that.
                let in_earnest = self.drill && !candidate.drill;
                let anew = another_view || dearer || another_id || in_earnest;
                if anew && (self.drill || !candidate.drill) { self.reopened(candidate) } else { Joined::Unchanged }
            }
            IncidentState::Ordered | IncidentState::AwaitingApproval => self.grown(candidate),
        }
    }

    fn reopened(&self, candidate: &Incident) -> Joined {
        let next = Incident { episode: self.episode + 1, version: self.version + 1, ..candidate.clone() };
        let counts = next.state == IncidentState::Ordered;
        Joined::Changed { next: Box::new(next), counts }
    }

    fn grown(&self, candidate: &Incident) -> Joined {
        let mut next = self.clone();
        let mut changed = next.plan.absorb(&candidate.plan);
        changed |= each_once::extend(&mut next.access_keys, candidate.access_keys.iter().cloned());
        changed |= each_once::extend(&mut next.functions, candidate.functions.iter().cloned());
        changed |= each_once::extend(&mut next.response, candidate.response.iter().copied());
        // A person who asks for what waits for a person has it done.
        let answered = by_person(candidate)
            && self.state == IncidentState::AwaitingApproval
            && candidate.state == IncidentState::Ordered;
        let raised = candidate.decision > self.decision || answered;
        if raised {
            next.decision = candidate.decision;
            next.unvetted = candidate.unvetted;
            next.state = candidate.state;
            next.ordered_at = candidate.ordered_at;
            next.mode = candidate.mode;
            next.rule.clone_from(&candidate.rule);
            next.reason.clone_from(&candidate.reason);
            next.playbook_digest.clone_from(&candidate.playbook_digest);
            next.born_of = next.born_of.or_else(|| candidate.born_of.clone());
        }
        if next.principal.unique_id.is_none() && candidate.principal.unique_id.is_some() {
            next.principal.unique_id.clone_from(&candidate.principal.unique_id);
            changed = true;
        }
        // Nobody was pinned yet, and what a drill says of whom it is about anybody can have said.
        if self.unvetted && self.drill && !candidate.drill {
            next.principal = candidate.principal.clone();
        }
        if self.is_made_again_as(candidate) {
            // The one that was contained is gone; whoever bears its name now is contained in its place. A person who asked
            // for that meant the name; where nobody did and the playbook asks, a person is asked.
            next.principal = candidate.principal.clone();
            next.unvetted = candidate.unvetted;
            if candidate.decision != Decision::Act && !self.is_asked_for() {
                next.state = IncidentState::AwaitingApproval;
                next.ordered_at = None;
                next.reason = format!("{}; but it was deleted and made again since", self.reason);
            }
            changed = true;
        }
        if let Origin::Person { requested_by, reason, invocation } = &candidate.origin {
            // Who asked is kept, whatever it changes: the order goes out once more. The same invocation once more is
            // another try of it, and nobody has asked again.
            if !self.is_on_record(invocation) {
                next.approval = Some(Approval {
                    at: candidate.opened_at,
                    by: requested_by.clone(),
                    reason: reason.clone(),
                    invocation: invocation.clone(),
                });
                changed = true;
            }
        }
        // Whichever came first: one that is no drill makes it none, and the earliest activity counts.
        next.drill = self.drill && candidate.drill;
        next.first_seen = [self.first_seen, candidate.first_seen].into_iter().flatten().min();
        changed |= next.drill != self.drill || next.first_seen != self.first_seen;
        if !(raised || changed) {
            return Joined::Unchanged;
        }
        next.updated_at = candidate.updated_at;
        next.version = self.version + 1;
        let counts = raised && next.state == IncidentState::Ordered;
        Joined::Changed { next: Box::new(next), counts }
    }

    /// Whether a person's invocation opened this incident, or was the last to ask for it.
    fn is_on_record(&self, invocation: &str) -> bool {
        let opened = matches!(&self.origin, Origin::Person { invocation: id, .. } if id == invocation);
        opened || self.approval.as_ref().is_some_and(|approval| approval.invocation == invocation)
    }

    /// Whether the guard found the principal deleted and made again, and the playbook says to contain the new one, or to
    /// ask. What a finding says of another unique id does not count: it may be an old one.
    fn is_made_again_as(&self, candidate: &Incident) -> bool {
        let found =
            matches!(&candidate.origin, Origin::Finding { finding_type, .. } if finding_type == tamper::RECREATED);
        let another =
            candidate.principal.unique_id.is_some() && candidate.principal.unique_id != self.principal.unique_id;
        found && another && self.state == IncidentState::Ordered
    }

    /// The incident on whoever bears the name now, where a person asks for what is in force to be done again and it was
    /// deleted and made again meanwhile; `None` where it is the same.
    #[must_use]
    pub fn on_whoever_is_there(&self, identity: &Identity, now: Timestamp) -> Option<Self> {
        let pinned = self.principal.unique_id.as_ref().filter(|_| self.state == IncidentState::Ordered)?;
        (*pinned != identity.unique_id).then(|| {
            let (arn, unique_id) = (Some(identity.arn.clone()), Some(identity.unique_id.clone()));
            let principal = Principal { arn, unique_id, ..self.principal.clone() };
            Self { principal, updated_at: now, ..self.clone() }
        })
    }
}
