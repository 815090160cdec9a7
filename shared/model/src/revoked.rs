//! Revocations: how long one must stay, whose it is once its containment is over, and which sessions of a chain are denied
//! by name.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::action::ActionId;
use crate::chain::Link;
use crate::ids::RoleName;
use crate::ledger::{Incident, IncidentState, ReleaseOrder, RevocationRecord, StepRecord};
use crate::plan::{Step, Target};
use crate::principal::PrincipalName;

/// A revocation stays so much longer than the longest session lives.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// The longest that a session of the principal can live, whatever its maximum is set to now: 36 hours for what a
/// user's key mints (`GetFederationToken`), 12 hours for a role.
pub fn longest_session(name: &PrincipalName) -> SignedDuration {
    match name {
        PrincipalName::User(_) => SignedDuration::from_hours(36),
        PrincipalName::Role(_) => SignedDuration::from_hours(12),
    }
}

/// Until when the revocation of a release must stay.
pub fn ends_at(released_at: Timestamp, name: &PrincipalName) -> Timestamp {
    released_at.saturating_add(longest_session(name) + MARGIN).unwrap_or(Timestamp::MAX)
}

/// A revocation that its containment does not look after any more, as it stands to its incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlived {
    /// The incident as it was when the revocation was written: its episode, its principal, its release.
    pub incident: Incident,
    /// The step that wrote it.
    pub step: Step,
    /// Until when it must have been read back for this very revocation to have been there.
    since: Timestamp,
}

impl Outlived {
    /// How `kept` stands to the incident as it is now; `None` while the incident is contained in the episode that wrote it:
    /// then it belongs to the containment.
    pub fn of(kept: &RevocationRecord, incident: &Incident) -> Option<Self> {
        // A record from before episodes were kept is of a release, and of the present one if of any.
        let episode = if kept.episode == 0 { incident.episode } else { kept.episode };
        if incident.state == IncidentState::Ordered && episode == incident.episode {
            return None;
        }
        let mut then = Incident { episode, ..incident.clone() };
        if kept.action == ActionId::RevokeChainedSessions {
            let PrincipalName::Role(role) = &kept.principal.name else { return None };
            let step = Step { action: kept.action, target: Target::Role(role.clone()) };
            return Some(Self { incident: then, step, since: Timestamp::MIN });
        }
        let at = kept.released_at();
        let before = incident.release.clone().filter(|release| release.at == at);
        then.principal = kept.principal.clone();
        then.state = IncidentState::Released;
        then.release = Some(before.unwrap_or(ReleaseOrder {
            at,
            by: String::new(),
            reason: String::new(),
            invocation: String::new(),
            reactivate_keys: Vec::new(),
            left_alone: Vec::new(),
            from: None,
        }));
        let step = Step { action: kept.action, target: (&kept.principal.name).into() };
        Some(Self { incident: then, step, since: at })
    }

    /// Whether the record of the step shows that the revocation was once read back: it is kept on record before it is
    /// written, and what was never there was not taken away.
    pub fn was_there(&self, record: &StepRecord) -> bool {
        record.verified_at.is_some_and(|at| at >= self.since)
    }
}

impl RevocationRecord {
    /// When the release was that it belongs to.
    pub fn released_at(&self) -> Timestamp {
        self.ends_at.saturating_sub(longest_session(&self.principal.name) + MARGIN).unwrap_or(Timestamp::MIN)
    }
}

/// Whether the plan keeps the principal from making more sessions: then those that it made are looked for.
pub fn ends_sessions(incident: &Incident) -> bool {
    is_quarantined(incident) || incident.plan.steps.iter().any(|step| step.action == ActionId::RevokeSessions)
}

/// Whether the plan denies the principal everything, whenever its sessions began.
pub fn is_quarantined(incident: &Incident) -> bool {
    let denies = [ActionId::QuarantineRole, ActionId::QuarantineUser];
    incident.plan.steps.iter().any(|step| denies.contains(&step.action))
}

/// The living sessions in this account that nothing else of the incident denies, by role.
pub fn to_deny<'a>(incident: &Incident, links: &'a [Link], now: Timestamp) -> BTreeMap<&'a RoleName, Vec<&'a Link>> {
    let mut by_role: BTreeMap<&RoleName, Vec<&Link>> = BTreeMap::new();
    for link in links.iter().filter(|link| link.lives(now)) {
        let Some(role) = link.session.role.as_ref().filter(|role| role.account == incident.account) else { continue };
        let own = matches!(&incident.principal.name, PrincipalName::Role(name) if *name == role.name);
        let denied = own && (is_quarantined(incident) || link.at < incident.ordered_since());
        if !denied {
            by_role.entry(&role.name).or_default().push(link);
        }
    }
    by_role
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::SCHEMA;
    use crate::decision::Decision;
    use crate::ledger::StepState;
    use crate::ledger::tests::incident;

    fn kept(incident: &Incident, episode: u32, released: Timestamp) -> RevocationRecord {
        RevocationRecord {
            schema: SCHEMA,
            incident_id: incident.incident_id.clone(),
            principal: incident.principal.clone(),
            ends_at: ends_at(released, &incident.principal.name),
            action: ActionId::RevokeSessions,
            episode,
        }
    }

    #[test]
    fn a_revocation_is_its_containments_while_that_lasts_and_outlives_it_afterwards() {
        let ordered = incident(Decision::Act);
        let released: Timestamp = ordered.opened_at + SignedDuration::from_mins(7);
        let one = kept(&ordered, 1, released);
        assert_eq!(one.released_at(), released);
        assert_eq!(Outlived::of(&one, &ordered), None);
        for (state, episode) in [
            (IncidentState::Released, 1),
            (IncidentState::Releasing, 1),
            (IncidentState::AwaitingApproval, 2),
            (IncidentState::Ordered, 2),
        ] {
            let now = Incident { episode, state, ..ordered.clone() };
            let found = Outlived::of(&one, &now).unwrap();
            assert_eq!((found.incident.episode, found.incident.release.unwrap().at), (1, released), "{state}");
            assert_eq!(found.step.key(), "revoke-sessions@role/orders");
        }
        // One without an episode is the present one's.
        let old = Incident { state: IncidentState::Released, episode: 3, ..ordered };
        assert_eq!(Outlived::of(&kept(&old, 0, released), &old).unwrap().incident.episode, 3);
    }

    #[test]
    fn what_was_kept_on_record_and_never_written_was_not_taken_away() {
        let ordered = incident(Decision::Act);
        let released: Timestamp = ordered.opened_at + SignedDuration::from_mins(7);
        let now = Incident { state: IncidentState::Released, ..ordered.clone() };
        let found = Outlived::of(&kept(&ordered, 1, released), &now).unwrap();
        let record = now.step_record(&found.step, released);
        let read = |at: Option<Timestamp>| StepRecord { state: StepState::Failed, verified_at: at, ..record.clone() };
        assert!(!found.was_there(&read(None)) && !found.was_there(&read(Some(ordered.opened_at))));
        assert!(found.was_there(&read(Some(released))), "it was, though it could not be put back");
    }
}
