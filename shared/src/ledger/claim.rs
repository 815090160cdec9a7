//! Claiming an incident: one transaction that opens it, counts it in the breaker, checks the pause and
//! records the finding. Losers get the existing record back.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use firebreak_model::decision::Decision;
use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{
    FindingRecord, Incident, IncidentState, Joined, Origin, Record, breaker_keys, pause_keys,
};
use jiff::Timestamp;

use super::{Ledger, LedgerError, item, key, record};

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
}

impl Claimed {
    /// The incident.
    pub fn incident(&self) -> &Incident {
        match self {
            Self::Opened(incident) | Self::Widened(incident) | Self::Joined(incident) | Self::Stale(incident) => {
                incident
            }
        }
    }
}

/// Which part of the transaction was refused.
enum Refusal {
    /// The incident is there already: as it stands.
    Incident(Box<Incident>),
    /// Somebody wrote the incident in between.
    Moved,
    Breaker,
    Paused,
    /// Two transactions met.
    Conflict,
}

impl Ledger {
    /// Claims the incident of `claim.candidate`. With the breaker tripped or containment paused, an automatic
    /// containment is lowered to one that waits for a person; a person's own request is refused while paused.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, LedgerError> {
        let by_person = matches!(claim.candidate.origin, Origin::Person { .. });
        let mut candidate = claim.candidate.clone();
        let mut next = candidate.clone();
        let mut counts = candidate.state == IncidentState::Ordered;
        let mut existing: Option<Incident> = None;
        for _ in 0..16 {
            let counted = counts && !by_person;
            let refusal = match self.transact(claim, &next, existing.as_ref(), counts, counted).await? {
                Ok(()) => {
                    let reopened = existing.as_ref().is_none_or(|existing| existing.episode != next.episode);
                    return Ok(if reopened || counts { Claimed::Opened(next) } else { Claimed::Widened(next) });
                }
                Err(refusal) => refusal,
            };
            match refusal {
                Refusal::Conflict => {}
                Refusal::Incident(found) => existing = Some(*found),
                Refusal::Moved => existing = self.incident(&candidate.incident_id).await?,
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
                Some(existing) => match existing.join(&candidate, claim.last_seen) {
                    Joined::Changed { next, counts } => (*next, counts),
                    Joined::Unchanged => {
                        self.note_joined(claim, existing, None).await?;
                        return Ok(Claimed::Joined(existing.clone()));
                    }
                    Joined::Later => return Err(LedgerError::Releasing(candidate.incident_id)),
                    Joined::Stale => {
                        let why = "the activity is from before the incident was released: nothing is done";
                        self.note_joined(claim, existing, Some(why)).await?;
                        return Ok(Claimed::Stale(existing.clone()));
                    }
                },
            };
        }
        Err(LedgerError::Contended(candidate.incident_id))
    }

    /// Records the finding of a claim that changes no incident; `stale` says why it changes nothing at all.
    async fn note_joined(&self, claim: &Claim, incident: &Incident, stale: Option<&str>) -> Result<(), LedgerError> {
        let Some(mut finding) = claim.finding.clone() else { return Ok(()) };
        if incident.state == IncidentState::AwaitingApproval && finding.effective == Decision::Act {
            finding.effective = Decision::Approve;
            finding.reason.clone_from(&incident.reason);
        }
        if let Some(why) = stale {
            finding.effective = Decision::Ignore;
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
        if !was_counted || matches!(before.origin, Origin::Person { .. }) {
            return self.advance(next).await;
        }
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item(&Record::Incident(Box::new(next.clone())))?))
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
        existing: Option<&Incident>,
        counts: bool,
        counted: bool,
    ) -> Result<Result<(), Refusal>, LedgerError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item(&Record::Incident(Box::new(next.clone())))?))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match existing {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(existing) => put
                .condition_expression("#version = :before")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":before", AttributeValue::N(existing.version.to_string())),
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
                .update_expression("ADD #count :one SET #kind = if_not_exists(#kind, :kind)")
                .condition_expression("attribute_not_exists(#count) OR #count < :limit")
                .expression_attribute_names("#count", "count")
                .expression_attribute_names("#kind", "kind")
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
        match refusal(&reasons, existing.is_some(), counts, counted)? {
            Some(refusal) => Ok(Err(refusal)),
            None => Err(LedgerError::call("TransactWriteItems", error)),
        }
    }
}

/// The order of the parts: incident, pause, breaker, finding.
fn refusal(
    reasons: &[CancellationReason],
    had_existing: bool,
    counts: bool,
    counted: bool,
) -> Result<Option<Refusal>, LedgerError> {
    let code = |index: usize| reasons.get(index).and_then(CancellationReason::code).unwrap_or("None");
    let failed = |index: usize| code(index) == "ConditionalCheckFailed";
    if failed(0) {
        let found = reasons.first().and_then(CancellationReason::item).filter(|item| !item.is_empty());
        return Ok(Some(match found.cloned().map(record).transpose()? {
            Some(Record::Incident(incident)) if !had_existing => Refusal::Incident(incident),
            _ => Refusal::Moved,
        }));
    }
    if counts && failed(1) {
        return Ok(Some(Refusal::Paused));
    }
    if counted && failed(2) {
        return Ok(Some(Refusal::Breaker));
    }
    let conflict = (0..reasons.len()).any(|i| code(i) == "TransactionConflict");
    Ok(conflict.then_some(Refusal::Conflict))
}

/// The builders refuse only what this file does not do: leaving out a required part.
fn built<T>(result: Result<T, aws_sdk_dynamodb::error::BuildError>) -> Result<T, LedgerError> {
    result.map_err(|error| LedgerError::Call { call: "TransactWriteItems", transient: false, source: Box::new(error) })
}
