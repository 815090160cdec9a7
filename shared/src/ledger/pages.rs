//! The pages that were sent, and who is sending one.

use firebreak_model::ledger::{PageClaim, PageRecord, Record};
use jiff::SignedDuration;

use super::{Ledger, LedgerError, held, text};

/// For so long others leave a page to whoever claimed it. Who fails to send it is called again with the same event.
const CLAIMED_FOR: SignedDuration = SignedDuration::from_mins(1);

impl Ledger {
    /// Claims a page, so that of several events that have the same page due one sends it. Answers whether it is ours to
    /// send: not where it was sent, nor where another event's claim is fresh.
    ///
    /// # Errors
    /// Where the ledger does not answer.
    pub async fn claim_page(&self, claim: &PageClaim) -> Result<bool, LedgerError> {
        let record = Record::Paging(claim.clone());
        match self.get(record.keys()).await? {
            None => self.put_if_absent(&record).await,
            Some(Record::Paging(before)) if before.on == claim.on || before.since + CLAIMED_FOR < claim.since => {
                let put = self
                    .putting(&record)
                    .await?
                    .condition_expression("#kind = :paging AND #on = :on AND #since = :since")
                    .expression_attribute_names("#kind", "kind")
                    .expression_attribute_names("#on", "on")
                    .expression_attribute_names("#since", "since")
                    .expression_attribute_values(":paging", text("paging"))
                    .expression_attribute_values(":on", text(before.on))
                    .expression_attribute_values(":since", text(before.since.to_string()));
                held(put).await
            }
            Some(_) => Ok(false),
        }
    }

    /// Records that a page was sent, in the place of the claim.
    ///
    /// # Errors
    /// Where the ledger does not answer.
    pub async fn paged(&self, page: &PageRecord) -> Result<(), LedgerError> {
        self.put(&Record::Page(page.clone())).await
    }
}
