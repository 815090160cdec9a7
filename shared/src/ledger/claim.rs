//! Claiming an incident: one transaction that opens it, counts it in the breaker, checks the pause and
//! records the finding. Losers get the existing record back.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use firebreak_model::SCHEMA;
use firebreak_model::decision::Decision;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{
    FindingRecord, Incident, IncidentState, Joined, Origin, Record, breaker_keys, incident_keys, pause_keys,
};
use jiff::Timestamp;

use super::{Item, Ledger, LedgerError, item, key, record};

/// What is asked of the ledger.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The incident as it would be opened.
    pub candidate: Incident,
    /// The finding behind it; a person's request has none.
    pub finding: Option<FindingRecord>,
    /// When the finding's activity was last seen: decides whether a released incident reopens.
    pub last_seen: Option<Timestamp>,
    /// New enforced containments that the breaker lets through an hour.
    pub per_hour: u32,
    /// Now.
    pub now: Timestamp,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// The incident is new, reopened, or raised: none of its steps was begun.
    Opened(Incident),
    /// It was there already, and is wider now, or asked for once more: some of its steps may be done.
    Widened(Incident),
    /// It was there already and nothing is new.
    Joined(Incident),
    /// It is released, and the finding is about activity from before the release.
    Stale(Incident),
    /// Somebody had claimed it and not sealed it yet. What this claim knows of it goes in its place, or is there already:
    /// what is not sealed is not believed, and whoever wrote it asks again.
    TakenOver(Incident),
}

impl Claimed {
    /// The incident.
    pub fn incident(&self) -> &Incident {
        match self {
            Self::Opened(incident)
            | Self::Widened(incident)
            | Self::Joined(incident)
            | Self::Stale(incident)
            | Self::TakenOver(incident) => incident,
        }
    }
}

/// Which part of the transaction was refused.
enum Refusal {
    /// The incident is there already: as it stands.
    Incident(Item),
    /// Somebody wrote the incident in between.
    Moved,
    Breaker,
    Paused,
    /// Two transactions met.
    Conflict,
}

/// The incident that is there already.
struct Existing {
    incident: Incident,
    /// Whether it is as one of our functions wrote it; else nobody vouches for more than its version.
    sealed: bool,
}

impl Ledger {
    /// Claims the incident of `claim.candidate`. With the breaker tripped or containment paused, an automatic
    /// containment is lowered to one that waits for a person; a person's own request is refused while paused.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, LedgerError> {
        let mut answered = false;
        self.claimed(claim, &mut answered).await.map_err(|error| match error {
            // What it said before was a reason not to act at once.
            error if answered && error.is_outage() => LedgerError::CutShort(Box::new(error)),
            error => error,
        })
    }

    /// `answered` becomes true once the ledger has said anything but yes.
    async fn claimed(&self, claim: &Claim, answered: &mut bool) -> Result<Claimed, LedgerError> {
        let by_person = matches!(claim.candidate.origin, Origin::Person { .. });
        let is_counted = claim.candidate.counts_in_the_breaker();
        let mut candidate = claim.candidate.clone();
        let mut next = candidate.clone();
        let mut counts = candidate.state == IncidentState::Ordered;
        let mut existing: Option<Existing> = None;
        let id = &claim.candidate.incident_id;
        for _ in 0..16 {
            let counted = counts && is_counted;
            let before = existing.as_ref().map(|existing| existing.incident.version);
            let refusal = match self.transact(claim, &next, before, counts, counted).await? {
                Ok(()) if existing.as_ref().is_some_and(|e| !e.sealed) => return Ok(Claimed::TakenOver(next)),
                Ok(()) => {
                    let same = |existing: &Existing| existing.incident.episode == next.episode;
                    let widened = existing.as_ref().is_some_and(same) && !counts;
                    return Ok(if widened { Claimed::Widened(next) } else { Claimed::Opened(next) });
                }
                Err(refusal) => refusal,
            };
            *answered |= !matches!(refusal, Refusal::Conflict);
            match refusal {
                Refusal::Conflict => {}
                Refusal::Incident(found) => existing = Some(self.existing(found, id).await?),
                Refusal::Moved => {
                    existing = match self.fetch(incident_keys(id)).await? {
                        Some(found) => Some(self.existing(found, id).await?),
                        None => None,
                    };
                }
                Refusal::Paused if by_person => return Err(LedgerError::Paused),
                Refusal::Paused => candidate = candidate.lowered("containment is paused, so a person must approve"),
                Refusal::Breaker => {
                    let why = format!(
                        "more than {} new containments this hour: the circuit breaker asks a person",
                        claim.per_hour
                    );
                    candidate = candidate.lowered(&why);
                }
            }
            (next, counts) = match &existing {
                None => (candidate.clone(), candidate.state == IncidentState::Ordered),
                Some(Existing { incident, sealed: false }) if incident.asks_for_the_same(&candidate) => {
                    // It was counted when it was claimed, and whoever seals first puts its own in its place.
                    let candidate = Incident { version: incident.version, ..candidate };
                    self.note_joined(claim, &candidate, None).await?;
                    return Ok(Claimed::TakenOver(candidate));
                }
                // Decisions only rise: what may be a claim under way is not lowered by what waits for a person. It is asked
                // again when it has its seal.
                Some(Existing { incident, sealed: false })
                    if incident.state == IncidentState::Ordered && candidate.state != IncidentState::Ordered =>
                {
                    return Err(LedgerError::Unsealed(candidate.incident_id));
                }
                Some(Existing { incident, sealed: false }) => {
                    let next = Incident { version: incident.version + 1, ..candidate.clone() };
                    (next, candidate.state == IncidentState::Ordered)
                }
                Some(Existing { incident: existing, sealed: true }) => match existing.join(&candidate, claim.last_seen)
                {
                    Joined::Changed { next, counts } => (*next, counts),
                    Joined::Unchanged => {
                        self.note_joined(claim, existing, None).await?;
                        return Ok(Claimed::Joined(existing.clone()));
                    }
                    Joined::Later => return Err(LedgerError::Releasing(candidate.incident_id)),
                    Joined::Stale => {
                        self.note_joined(claim, existing, Some(stale(claim.last_seen))).await?;
                        return Ok(Claimed::Stale(existing.clone()));
                    }
                },
            };
        }
        Err(LedgerError::Contended(candidate.incident_id))
    }

    /// The incident that stands in the way of a claim. One that is not sealed is taken for a claim that is under way,
    /// or that was cut short; one with a wrong seal is refused.
    async fn existing(&self, item: Item, id: &IncidentId) -> Result<Existing, LedgerError> {
        let unsealed = record(item.clone());
        match self.trusted(item, id).await {
            Ok(Record::Incident(incident)) => Ok(Existing { incident: *incident, sealed: true }),
            Ok(_) => Err(LedgerError::Contended(id.clone())),
            Err(LedgerError::Unsealed(_)) => match unsealed? {
                Record::Incident(incident) => Ok(Existing { incident: *incident, sealed: false }),
                _ => Err(LedgerError::Contended(id.clone())),
            },
            Err(error) => Err(error),
        }
    }

    /// Records the finding of a claim that changes no incident; `stale` says why it changes nothing at all.
    async fn note_joined(
        &self,
        claim: &Claim,
        incident: &Incident,
        stale: Option<(Decision, &str)>,
    ) -> Result<(), LedgerError> {
        let Some(mut finding) = claim.finding.clone() else { return Ok(()) };
        if incident.state == IncidentState::AwaitingApproval && finding.effective == Decision::Act {
            finding.effective = Decision::Approve;
            finding.reason.clone_from(&incident.reason);
        }
        if let Some((effective, why)) = stale {
            finding.effective = effective;
            why.clone_into(&mut finding.reason);
        }
        self.note(&finding).await
    }

    /// Updates an incident that was counted in the breaker to one that a guard rail withheld, and takes it out of the
    /// count again. Both in one transaction: a function that is killed in between would leave the count too high.
    pub async fn withhold<E: From<LedgerError>>(
        &self,
        id: &IncidentId,
        change: impl FnMut(Incident) -> Result<Option<Incident>, E>,
    ) -> Result<Option<Incident>, E> {
        self.update_by(id, change, async |before, next| self.advance_uncounted(before, next).await).await
    }

    async fn advance_uncounted(&self, before: &Incident, next: &Incident) -> Result<bool, LedgerError> {
        let was_counted = before.state == IncidentState::Ordered && before.approval.is_none();
        if !was_counted || !before.counts_in_the_breaker() {
            return self.advance(next).await;
        }
        let mut incident = item(&Record::Incident(Box::new(next.clone())))?;
        self.seal.put_on(&self.table, &mut incident).await?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(incident))
            .condition_expression("#version = :before")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":before", AttributeValue::N(before.version.to_string()));
        let uncount = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(breaker_keys(&before.account, before.updated_at))))
            .update_expression("ADD #count :minus_one")
            .condition_expression("#count > :zero")
            .expression_attribute_names("#count", "count")
            .expression_attribute_values(":minus_one", AttributeValue::N("-1".to_owned()))
            .expression_attribute_values(":zero", AttributeValue::N("0".to_owned()));
        let parts = vec![
            TransactWriteItem::builder().put(built(put.build())?).build(),
            TransactWriteItem::builder().update(built(uncount.build())?).build(),
        ];
        let Err(error) = self.client.transact_write_items().set_transact_items(Some(parts)).send().await else {
            return Ok(true);
        };
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() else {
            return Err(LedgerError::call("TransactWriteItems", error));
        };
        let code = |index: usize| cancelled.cancellation_reasons().get(index).and_then(CancellationReason::code);
        match (code(0), code(1)) {
            (Some("ConditionalCheckFailed" | "TransactionConflict"), _) | (_, Some("TransactionConflict")) => Ok(false),
            // The count is not what it was: there is nothing to take it out of.
            (_, Some("ConditionalCheckFailed")) => self.advance(next).await,
            _ => Err(LedgerError::call("TransactWriteItems", error)),
        }
    }

    async fn transact(
        &self,
        claim: &Claim,
        next: &Incident,
        before: Option<u64>,
        counts: bool,
        counted: bool,
    ) -> Result<Result<(), Refusal>, LedgerError> {
        let mut incident = item(&Record::Incident(Box::new(next.clone())))?;
        self.seal.put_on_at_once(&mut incident)?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(incident))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match before {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(before) => put
                .condition_expression("#version = :before")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":before", AttributeValue::N(before.to_string())),
        };
        let mut parts = vec![TransactWriteItem::builder().put(built(put.build())?).build()];
        if counts {
            let check = ConditionCheck::builder()
                .table_name(&self.table)
                .set_key(Some(key(pause_keys())))
                .condition_expression("attribute_not_exists(pk)")
                .build();
            parts.push(TransactWriteItem::builder().condition_check(built(check)?).build());
        }
        if counted {
            let update = Update::builder()
                .table_name(&self.table)
                .set_key(Some(key(breaker_keys(&next.account, claim.now))))
                .update_expression("ADD #count :one SET #kind = if_not_exists(#kind, :kind), #schema = :schema")
                .condition_expression("attribute_not_exists(#count) OR #count < :limit")
                .expression_attribute_names("#count", "count")
                .expression_attribute_names("#kind", "kind")
                .expression_attribute_names("#schema", "schema")
                .expression_attribute_values(":schema", AttributeValue::N(SCHEMA.to_string()))
                .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
                .expression_attribute_values(":kind", AttributeValue::S("breaker".to_owned()))
                .expression_attribute_values(":limit", AttributeValue::N(claim.per_hour.to_string()))
                .build();
            parts.push(TransactWriteItem::builder().update(built(update)?).build());
        }
        if let Some(finding) = &claim.finding {
            let mut finding = finding.clone();
            finding.effective = if next.state == IncidentState::Ordered { Decision::Act } else { Decision::Approve };
            finding.reason.clone_from(&next.reason);
            let put = Put::builder()
                .table_name(&self.table)
                .set_item(Some(item(&Record::Finding(Box::new(finding)))?))
                .build();
            parts.push(TransactWriteItem::builder().put(built(put)?).build());
        }
        let Err(error) = self.client.transact_write_items().set_transact_items(Some(parts)).send().await else {
            return Ok(Ok(()));
        };
        let reasons = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                cancelled.cancellation_reasons().to_vec()
            }
            _ => return Err(LedgerError::call("TransactWriteItems", error)),
        };
        match refusal(&reasons, before.is_some(), counts, counted) {
            Some(refusal) => Ok(Err(refusal)),
            None => Err(match LedgerError::call("TransactWriteItems", error) {
                LedgerError::Call { call, transient, source, .. } => {
                    LedgerError::Call { call, transient, outage: is_busy(&reasons), source }
                }
                other => other,
            }),
        }
    }
}

/// What is done about a finding that reopens nothing. Where nobody can say whether it is about what was dealt with, a
/// person is told.
fn stale(last_seen: Option<Timestamp>) -> (Decision, &'static str) {
    match last_seen {
        Some(_) => (Decision::Ignore, "the activity is from before the incident was released: nothing is done"),
        None => (
            Decision::Notify,
            "the incident was released, and the finding does not say when the activity was last seen: nothing is done; \
             contain by hand where it is new",
        ),
    }
}

/// Whether a part was turned away because the table, or the one item, takes no more.
fn is_busy(reasons: &[CancellationReason]) -> bool {
    let busy = |code: &str| matches!(code, "ThrottlingError" | "ProvisionedThroughputExceeded");
    reasons.iter().filter_map(CancellationReason::code).any(busy)
}

/// The order of the parts: incident, pause, breaker, finding.
fn refusal(reasons: &[CancellationReason], had_existing: bool, counts: bool, counted: bool) -> Option<Refusal> {
    let code = |index: usize| reasons.get(index).and_then(CancellationReason::code).unwrap_or("None");
    let failed = |index: usize| code(index) == "ConditionalCheckFailed";
    if failed(0) {
        let found = reasons.first().and_then(CancellationReason::item).filter(|item| !item.is_empty() && !had_existing);
        return Some(found.map_or(Refusal::Moved, |found| Refusal::Incident(found.clone())));
    }
    if counts && failed(1) {
        return Some(Refusal::Paused);
    }
    if counted && failed(2) {
        return Some(Refusal::Breaker);
    }
    let conflict = (0..reasons.len()).any(|i| code(i) == "TransactionConflict");
    conflict.then_some(Refusal::Conflict)
}

/// The builders refuse only what this file does not do: leaving out a required part.
fn built<T>(result: Result<T, aws_sdk_dynamodb::error::BuildError>) -> Result<T, LedgerError> {
    result.map_err(|error| LedgerError::Call {
        call: "TransactWriteItems",
        transient: false,
        outage: false,
        source: Box::new(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_told_from_new_activity_is_told_to_a_person() {
        let (known, _) = stale(Some(Timestamp::UNIX_EPOCH));
        let (unknown, why) = stale(None);
        assert_eq!((known, unknown), (Decision::Ignore, Decision::Notify));
        assert!(why.contains("does not say when"), "{why}");
    }
}
