//! Which incidents are open: a sparse index holds those that are not released, and nothing of them but their keys.

use firebreak_model::ids::IncidentId;
use firebreak_model::ledger::{IncidentState, Record};

use super::{Item, Ledger, LedgerError, text};
use crate::action::{Permission, Resource};

/// What reading the index needs.
pub const PERMISSIONS: &[Permission] = &[Permission { action: "dynamodb:Query", on: Resource::OpenIndex }];

/// The index, and the attribute that it is over: an incident carries it for as long as it is open.
const OPEN: &str = "open";

/// Puts an incident into the index, or leaves it out once it is released.
pub(super) fn mark(record: &Record, item: &mut Item) {
    if let Record::Incident(incident) = record
        && incident.state != IncidentState::Released
    {
        item.insert(OPEN.to_owned(), text("incident"));
    }
}

impl Ledger {
    /// The incidents that are not released, the oldest first. The index is some moments behind: who acts on one reads it.
    pub async fn open(&self) -> Result<Vec<IncidentId>, LedgerError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(OPEN)
            .key_condition_expression("#open = :incident")
            .expression_attribute_names("#open", OPEN)
            .expression_attribute_values(":incident", text("incident"));
        let mut pages = query.into_paginator().items().send();
        let mut ids = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|e| LedgerError::call("Query", e))?;
            let key = item.get("pk").and_then(|v| v.as_s().ok()).and_then(|pk| pk.strip_prefix("incident#"));
            ids.extend(key.and_then(|id| id.parse::<IncidentId>().ok()));
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::super::{Seal, item};
    use super::*;
    use crate::testing::{Wire, ok, role_order};

    #[test]
    fn an_incident_is_open_until_it_is_released() {
        let (incident, _) = role_order("orders");
        for &state in IncidentState::ALL {
            let record = Record::Incident(Box::new(firebreak_model::ledger::Incident { state, ..incident.clone() }));
            assert_eq!(item(&record).unwrap().contains_key(OPEN), state != IncidentState::Released, "{state}");
        }
    }

    #[tokio::test]
    async fn every_page_is_read_and_what_is_no_incident_is_passed_over() {
        let page = |keys: &[&str], more: &str| {
            let items: Vec<_> = keys.iter().map(|pk| json!({"pk": {"S": pk}, "sk": {"S": "incident"}})).collect();
            let mut page = json!({"Items": items, "Count": items.len()});
            if !more.is_empty() {
                page["LastEvaluatedKey"] = json!({"pk": {"S": more}, "sk": {"S": "incident"}});
            }
            ok(page.to_string())
        };
        let one = "incident#fb-000000000000000000000001";
        let two = "incident#fb-000000000000000000000002";
        let wire = Wire::answering([page(&[one, "incident#../x", "step#x"], "a"), page(&[], "b"), page(&[two], "")]);
        let ledger = Ledger::new(aws_sdk_dynamodb::Client::new(&wire.config()), "ledger".to_owned(), Seal::none());
        let ids: Vec<String> = ledger.open().await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(ids, ["fb-000000000000000000000001", "fb-000000000000000000000002"]);
        assert_eq!(wire.unused(), 0);
    }
}
