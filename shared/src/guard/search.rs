//! The sessions that a thief made from stolen ones, as a part of a containment: each deny of them is looked at like a step
//! of the plan, and nothing is settled while they are still searched for.

use firebreak_model::action::ActionId;
use firebreak_model::ledger::{ChainRecord, Incident, StepRecord};
use firebreak_model::plan::{Step, Target};
use firebreak_model::principal::PrincipalName;
use firebreak_model::revoked::{ends_sessions, to_deny};
use firebreak_model::watch::{Found, Search, StepLook};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::Guard;
use super::look::found;
use crate::action::{Action as _, Order};
use crate::actions::RevokeChainedSessions;
use crate::failure::Failure;
use crate::ledger::LedgerError;
use crate::revoke::sessions_of;
use crate::telemetry::chain;

/// What the ledger has of the search.
pub(super) enum Searched {
    /// There is none.
    NotDue,
    /// It has not been begun.
    NotBegun,
    /// What was found so far.
    Found(Box<ChainRecord>),
    /// The record is none that anybody goes by.
    Refused(String),
}

impl Searched {
    pub(super) fn is_due(&self) -> bool {
        !matches!(self, Self::NotDue)
    }

    pub(super) fn stands(&self) -> Search {
        match self {
            Self::NotDue => Search::NotAsked,
            Self::NotBegun => Search::Open("it has not begun".to_owned()),
            Self::Found(record) if record.settled_at.is_some() => Search::Over,
            Self::Found(record) => Search::Open(format!("CloudTrail was complete to {}", record.complete_to)),
            Self::Refused(why) => Search::Open(why.clone()),
        }
    }
}

impl Guard {
    /// What is known of the sessions that were made from what was stolen.
    pub(super) async fn searched(&self, incident: &Incident) -> Result<Searched, Failure> {
        if self.without_revocation || !ends_sessions(incident) {
            return Ok(Searched::NotDue);
        }
        match self.ledger.chain(incident).await {
            Ok(None) => Ok(Searched::NotBegun),
            Ok(Some(record)) => Ok(Searched::Found(Box::new(record))),
            // A record that somebody edited must not blind the guard to the rest.
            Err(
                error @ (LedgerError::Forged { .. } | LedgerError::Unreadable { .. } | LedgerError::OtherSchema { .. }),
            ) => Ok(Searched::Refused(chain(&error))),
            Err(error) => Err(error.into()),
        }
    }

    /// The denies of such sessions, each read back. One whose sessions have ended denies nobody any more.
    pub(super) async fn chained(
        &self,
        incident: &Incident,
        records: &[StepRecord],
        searched: &Searched,
        now: Timestamp,
    ) -> Vec<StepLook> {
        let denies = records.iter().filter(|record| record.action == ActionId::RevokeChainedSessions);
        let looks = denies.map(async |record| {
            let on_record = StepLook::on_record(Some(record.state), &record.detail);
            let found = match (on_record, searched) {
                (Some(found), _) => found,
                (None, Searched::Found(chain)) => self.chained_in(incident, record, chain, now).await,
                (None, Searched::Refused(why)) => Found::Unread(why.clone()),
                (None, Searched::NotBegun | Searched::NotDue) => {
                    Found::Unread("the ledger does not say which sessions".to_owned())
                }
            };
            StepLook { step: record.step.clone(), found }
        });
        join_all(looks).await
    }

    /// How the deny of the living sessions of one role reads.
    pub(super) async fn chained_in(
        &self,
        incident: &Incident,
        record: &StepRecord,
        chain: &ChainRecord,
        now: Timestamp,
    ) -> Found {
        let by_role = to_deny(incident, &chain.sessions, now);
        let of_it = by_role.iter().find(|(role, _)| Target::Role((**role).clone()) == record.target);
        let Some((role, links)) = of_it else { return Found::Absent };
        let (sessions, issued_by) = sessions_of(links);
        let action = RevokeChainedSessions::new(self.iam.clone(), sessions, issued_by);
        let step = Step { action: record.action, target: record.target.clone() };
        let read = found(action.verify(Order { incident, step: &step, now }, &serde_json::Value::Null).await);
        let ids: Vec<_> = links.iter().filter_map(|link| link.session.role.as_ref()?.id.role_id()).collect();
        match self.of_the_same(&PrincipalName::Role((*role).clone()), &ids, read).await {
            Ok(read) => read,
            Err(failure) => Found::Unread(failure.to_string()),
        }
    }
}
