//! The metrics of a change of the ledger.

use firebreak_model::ladder;
use firebreak_model::ledger::{Record, StepRecord, StepState};

use crate::metrics::{self, Metric};

/// Writes the metrics of one change of the ledger.
pub(super) fn write(old: Option<&Record>, new: Option<&Record>) {
    metrics::write(&of(old, new));
}

fn of(old: Option<&Record>, new: Option<&Record>) -> Vec<Metric> {
    match (old, new) {
        (None, Some(Record::Finding(finding))) => vec![Metric {
            name: "Findings",
            unit: "Count",
            value: 1,
            dimensions: vec![("Decision", finding.effective.to_string())],
        }],
        (old, Some(Record::Step(step))) if step.state != StepState::Intended => {
            let same = matches!(old, Some(Record::Step(old)) if old.state == step.state && old.episode == step.episode);
            if same { Vec::new() } else { of_step(step) }
        }
        _ => Vec::new(),
    }
}

fn of_step(step: &StepRecord) -> Vec<Metric> {
    let mut metrics = vec![Metric {
        name: "Steps",
        unit: "Count",
        value: 1,
        dimensions: vec![("Action", step.action.to_string()), ("Outcome", step.state.to_string())],
    }];
    let denies = ladder::top(step.action).is_some();
    if let (true, StepState::Applied, Some(verified)) = (denies, step.state, step.verified_at) {
        let took = verified.as_millisecond() - step.ordered_at.as_millisecond();
        metrics.push(Metric { name: "FindingToDeny", unit: "Milliseconds", value: took, dimensions: Vec::new() });
    }
    metrics
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use jiff::SignedDuration;

    use super::*;
    use crate::testing::role_order;

    #[test]
    fn a_verified_deny_says_how_long_it_took() {
        let (incident, step) = role_order("orders");
        let mut record = incident.step_record(&step, incident.opened_at);
        record.state = StepState::Applied;
        record.verified_at = Some(incident.opened_at + SignedDuration::from_millis(142));
        let step = Record::Step(Box::new(record));
        let metrics = of(None, Some(&step));
        assert_eq!(metrics[1].value, 142);
        assert_eq!(metrics[1].line(7)["FindingToDeny"], 142);
        assert_eq!(metrics[0].line(7)["Outcome"], "applied");
        assert_eq!(metrics[0].line(7).pointer("/_aws/CloudWatchMetrics/0/Namespace").unwrap(), "Firebreak");
        assert_eq!(of(Some(&step), Some(&step)), [], "a write that changes nothing counts nothing");
    }
}
