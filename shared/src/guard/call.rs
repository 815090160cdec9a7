//! What CloudTrail tells of as it happens: a change to something contained, a way in that a contained principal made
//! itself, a change to Firebreak's own parts.

use std::time::Duration;

use firebreak_model::SCHEMA;
use firebreak_model::finding::Subject;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{Incident, IncidentState};
use firebreak_model::principal::{Principal, PrincipalName};
use firebreak_model::tamper::{Nature, OWN, Tamper, key_of};
use firebreak_model::watch::Cause;
use firebreak_model::watch::change::{Change, Minted, Thing};
use futures_util::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::{Instrument, info_span, warn};

use super::Guard;
use crate::answer::Answer;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::LedgerError;

/// How many containments are looked at at once when all are.
const AT_ONCE: usize = 8;

/// How long a seal is waited for before it is looked for again, and how often.
const WAIT: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });
const WAITS: usize = 20;

/// The calls that a deployment of the stack begins with.
const DEPLOYS: [&str; 4] = [
    "cloudformation:CreateStack",
    "cloudformation:DeleteStack",
    "cloudformation:ExecuteChangeSet",
    "cloudformation:UpdateStack",
];

/// How long after its beginning a deployment may still change parts of the stack.
const A_DEPLOYMENT: SignedDuration = SignedDuration::from_hours(1);

impl Guard {
    /// Reacts to a call. One that was refused changed nothing.
    pub(super) async fn on_call(&self, event: &Value) -> Result<Answer, Failure> {
        let change = Change::read(event, &self.home).map_err(Failure::Malformed)?;
        if change.refused {
            return Ok(Answer::of("nothing changed"));
        }
        let mut said = Vec::new();
        let by = self.contained(&change).await?;
        if let Some(part) = self.own_part(&change).await? {
            self.record(self.on_own_part(&change, &part, by.is_some())).await?;
            said.push(format!("{part} of Firebreak"));
        }
        if let Some(incident) = &by
            && let Some(tamper) = self.minted(incident, &change)
        {
            said.push(tamper.detail.clone());
            self.record(tamper).await?;
        }
        for incident in self.contained_things(&change).await? {
            let span = info_span!("call", incident.id = %incident.incident_id);
            let looked = Box::pin(self.check(&incident.incident_id, Cause::Call, Some((&change, by.is_some()))));
            let answer = looked.instrument(span).await?;
            said.push(format!("`{}` is {}", incident.incident_id, answer.outcome));
        }
        if change.is_on_an_inline_policy_of_ours() {
            said.extend(self.look_at_revocations(Some((&change, by.is_some()))).await?);
        }
        if change.is_on_the_policy(&self.deny_policy_arn) {
            said.push(self.look_at_everybody().await?);
        }
        if said.is_empty() {
            return Ok(Answer::of("nothing to do"));
        }
        Ok(Answer::of("looked").saying(said.join("; ")))
    }

    /// Looks at everything that is contained: the deny policy itself was changed, and frees or denies all of them at once.
    async fn look_at_everybody(&self) -> Result<String, Failure> {
        let watched = self.ledger.watches().await?;
        let looks = stream::iter(&watched).map(async |one| {
            let span = info_span!("policy", incident.id = %one.id);
            Box::pin(self.check(&one.id, Cause::Call, None)).instrument(span).await
        });
        let failed: Vec<String> = looks
            .buffer_unordered(AT_ONCE)
            .filter_map(async |end| end.err().map(|failure| failure.to_string()))
            .collect()
            .await;
        if failed.is_empty() {
            return Ok(format!("the deny policy was changed: {} containments looked at", watched.len()));
        }
        Err(Failure::Transient(failed.join("; ")))
    }

    /// The way in that a contained principal made itself by a call, where it is one and belongs to the theft.
    pub(super) fn minted(&self, incident: &Incident, change: &Change) -> Option<Tamper> {
        let minted = change.mints(&self.home).filter(|_| counts(incident, change))?;
        Some(minted_by(incident, change, minted))
    }

    pub(super) async fn record(&self, tamper: Tamper) -> Result<(), Failure> {
        warn!(tamper.nature = %tamper.nature, "{}", tamper.detail);
        self.ledger.record_tamper(&tamper).await?;
        Ok(())
    }

    /// An incident. One that was claimed a moment ago carries no seal yet: it is waited for, for Lambda itself would have the
    /// call come again in a minute.
    async fn sealed(&self, id: &IncidentId) -> Result<Option<Incident>, LedgerError> {
        for _ in 0..WAITS {
            match self.ledger.incident(id).await {
                Err(LedgerError::Unsealed(_)) => tokio::time::sleep(WAIT).await,
                read => return read,
            }
        }
        self.ledger.incident(id).await
    }

    /// The incident that the caller is contained by.
    async fn contained(&self, change: &Change) -> Result<Option<Incident>, Failure> {
        let Some(principal) = principal_of(&change.actor) else { return Ok(None) };
        let incident = self.sealed(&principal.incident_id()).await?;
        Ok(incident.filter(|incident| incident.state == IncidentState::Ordered))
    }

    /// The incidents that what was changed is contained by.
    async fn contained_things(&self, change: &Change) -> Result<Vec<Incident>, Failure> {
        let mut ids = Vec::new();
        for thing in change.things(&self.home) {
            match thing {
                Thing::Principal(principal) => ids.push(principal.incident_id()),
                Thing::Function(function) => {
                    let watched = self.ledger.watches().await?;
                    let on_it = watched.into_iter().filter(|one| one.functions.contains(&function));
                    ids.extend(on_it.map(|one| one.id));
                }
            }
        }
        let mut incidents = Vec::new();
        for id in ids {
            let incident = self.sealed(&id).await?;
            incidents.extend(incident.filter(|incident| incident.state == IncidentState::Ordered));
        }
        Ok(incidents)
    }

    /// A part of Firebreak that somebody changed who has no business with it. A service that acts for somebody is no better
    /// than they: anyone may have a document of Systems Manager, or a stack of their own, do it.
    async fn own_part(&self, change: &Change) -> Result<Option<String>, Failure> {
        let arn = principal_of(&change.actor).and_then(|principal| principal.arn.as_deref());
        let deploys = arn.is_some_and(|arn| self.deployers.iter().any(|glob| glob.matches(arn)));
        let Some(part) = change.own_part(&self.own).filter(|_| !deploys && !change.is_a_services_upkeep()) else {
            return Ok(None);
        };
        // Where nobody says who deploys, a deployment is what follows a call on the stack, which is on record itself.
        let by_a_stack = self.deployers.is_empty() && change.by_cloudformation;
        Ok(if by_a_stack && self.is_deployed_at(change.call.at).await? { None } else { Some(part) })
    }

    /// Whether somebody had begun to change the stack at that time.
    async fn is_deployed_at(&self, at: Timestamp) -> Result<bool, Failure> {
        let began = at.saturating_sub(A_DEPLOYMENT).unwrap_or(Timestamp::MIN);
        let told = self.ledger.tampers(OWN).await?;
        let calls = told.iter().filter_map(|tamper| tamper.call.as_ref());
        Ok(calls.into_iter().any(|call| DEPLOYS.contains(&call.name.as_str()) && (began..=at).contains(&call.at)))
    }

    pub(super) fn on_own_part(&self, change: &Change, part: &str, contained: bool) -> Tamper {
        let at = clock::now();
        let ours = principal_of(&change.actor).is_some_and(|principal| self.own.is_role(principal));
        Tamper {
            schema: SCHEMA,
            incident_id: None,
            episode: 0,
            key: key_of(&[Nature::OwnPart.as_str(), &change.call.event_id]),
            at,
            nature: Nature::OwnPart,
            detail: format!("`{}` on {part} of Firebreak", change.call.name),
            steps: Vec::new(),
            owners: Vec::new(),
            call: Some(change.call.clone()),
            actor: Some(change.actor.clone()),
            suspects: if contained || ours { Vec::new() } else { vec![change.actor.clone()] },
            drill: is_drill(&change.actor),
        }
    }

    /// What a call did to a contained thing, where it took something of the containment away and was none of ours.
    pub(super) fn undone_by(&self, incident: &Incident, change: &Change, contained: bool) -> Option<Tamper> {
        let ours = principal_of(&change.actor).is_some_and(|principal| self.own.is_role(principal));
        let since = change.call.at >= firebreak_model::policy::whole_seconds(incident.ordered_since());
        if ours || !since || !change.undoes(&self.deny_policy_arn) {
            return None;
        }
        let nature = if change.changes_trust() { Nature::TrustChanged } else { Nature::Undone };
        let more = match nature {
            Nature::TrustChanged => {
                "; under the deny it gives nothing, after a release it would: the document from before is in the evidence"
            }
            _ => "",
        };
        // A service acts for somebody whom the record does not name.
        let known = !contained && !change.by_service;
        Some(Tamper {
            schema: SCHEMA,
            incident_id: Some(incident.incident_id.clone()),
            episode: incident.episode,
            key: key_of(&[nature.as_str(), &change.call.event_id]),
            at: clock::now(),
            nature,
            detail: format!("`{}` on what is contained{more}", change.call.name),
            steps: Vec::new(),
            owners: Vec::new(),
            call: Some(change.call.clone()),
            actor: Some(change.actor.clone()),
            suspects: if known { vec![change.actor.clone()] } else { Vec::new() },
            drill: incident.drill,
        })
    }
}

fn principal_of(subject: &Subject) -> Option<&Principal> {
    match subject {
        Subject::Principal { principal, .. } => Some(principal),
        Subject::Lookup { .. } | Subject::NotContainable { .. } => None,
    }
}

/// Whether a call belongs to the theft: it was made since the activity was first seen, or since the order.
fn counts(incident: &Incident, change: &Change) -> bool {
    change.call.at >= incident.theft_since()
}

/// Whether whoever made a call belongs to a game day.
fn is_drill(subject: &Subject) -> bool {
    let path = principal_of(subject).and_then(Principal::path);
    path.is_some_and(|path| path.starts_with(firebreak_model::finding::DRILL_PATH))
}

/// The way in that a contained principal made itself. It itself is no suspect: it is contained.
fn minted_by(incident: &Incident, change: &Change, minted: Minted) -> Tamper {
    let (nature, made) = match minted {
        Minted::Born(principal) => (Nature::Minted, Some(principal)),
        Minted::Widened(principal) => (Nature::Widened, principal),
    };
    let made = made.filter(|made| made.incident_id() != incident.incident_id);
    let on = made.as_ref().map(|made| format!(" on `{}`", made.name)).unwrap_or_default();
    let suspects = made.map(|principal| Subject::Principal { principal, access_key: None, function: None });
    Tamper {
        schema: SCHEMA,
        incident_id: Some(incident.incident_id.clone()),
        episode: incident.episode,
        key: key_of(&[nature.as_str(), &change.call.event_id]),
        at: clock::now(),
        nature,
        detail: format!("`{}`{on}, by the contained `{}`", change.call.name, incident.principal.name),
        steps: Vec::new(),
        owners: Vec::new(),
        call: Some(change.call.clone()),
        actor: Some(change.actor.clone()),
        suspects: suspects.into_iter().collect(),
        drill: incident.drill,
    }
}

/// The principal of the incident as somebody made it again, under another unique id.
pub(super) fn recreated(incident: &Incident, now: &firebreak_model::principal::Identity) -> Tamper {
    let name: PrincipalName = incident.principal.name.clone();
    let principal = Principal {
        account: incident.account.clone(),
        name,
        arn: Some(now.arn.clone()),
        unique_id: Some(now.unique_id.clone()),
    };
    Tamper {
        schema: SCHEMA,
        incident_id: Some(incident.incident_id.clone()),
        episode: incident.episode,
        key: key_of(&[Nature::Recreated.as_str(), now.unique_id.as_str(), &incident.episode.to_string()]),
        at: clock::now(),
        nature: Nature::Recreated,
        detail: format!("`{}` is now `{}`: it was deleted and made again", principal.name, now.unique_id),
        steps: Vec::new(),
        owners: Vec::new(),
        call: None,
        actor: None,
        suspects: vec![Subject::Principal { principal, access_key: None, function: None }],
        drill: incident.drill,
    }
}
