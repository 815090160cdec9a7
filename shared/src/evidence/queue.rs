//! How an invocation has others go on: messages of a queue, which say which incident, and which share of its units.

use firebreak_model::ids::IncidentId;
use firebreak_model::outcome::{self, OutcomeKind};
use serde_json::{Value, json};

use crate::action::ActionError;

/// What a message, or an event, asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) id: IncidentId,
    /// Whether the log is to be read again.
    pub(super) follow_up: bool,
    /// Whether the report is to be made again, where it is to be; and how often that was put off.
    pub(super) report: Option<u32>,
    pub(super) lane: Lane,
    /// How often it was put off because AWS did not tell what a run begins with.
    pub(super) waited: u32,
    /// The id of the event that it came by: whoever has the same one comes again. None where it goes on.
    pub(super) event: Option<String>,
}

/// What an incident's report is made again for. The rule `report` lets through no other.
pub(super) const RETOLD: [OutcomeKind; 7] = [
    OutcomeKind::ContainmentReleased,
    OutcomeKind::ContainmentSettled,
    OutcomeKind::ContainmentUnsettled,
    OutcomeKind::ContainmentUndone,
    OutcomeKind::TamperingFound,
    OutcomeKind::SessionsTraced,
    OutcomeKind::RecordRefused,
];

/// Whether an event tells what a report is made again for.
pub(super) fn is_retold(event: &Value) -> bool {
    let kind = event.get("detail-type").and_then(Value::as_str).and_then(OutcomeKind::from_name);
    kind.is_some_and(|kind| RETOLD.contains(&kind))
}

/// A share of a run's units: those whose number leaves `lane` over when divided by `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lane {
    lane: u32,
    of: u32,
}

impl Lane {
    /// All units.
    pub(super) const WHOLE: Self = Self { lane: 0, of: 1 };

    /// How many lanes there are.
    pub(super) fn of(self) -> u32 {
        self.of.max(1)
    }

    pub(super) fn holds(self, unit: u32) -> bool {
        unit % self.of.max(1) == self.lane
    }

    /// The lanes that go on with these units, so that none has nothing to do.
    pub(super) fn for_units(self, units: &[u32], most: usize) -> Vec<Self> {
        if self.of > 1 || units.len() < 2 {
            return vec![self];
        }
        let of = u32::try_from(most.clamp(1, units.len())).unwrap_or(1);
        let lanes = (0..of).map(|lane| Self { lane, of });
        lanes.filter(|lane| units.iter().any(|unit| lane.holds(*unit))).collect()
    }
}

impl Order {
    /// Has an incident collected.
    pub(super) fn about(id: IncidentId) -> Self {
        Self { id, follow_up: false, report: None, lane: Lane::WHOLE, waited: 0, event: None }
    }

    /// Reads an order. A message is a hint: of a lane that makes no sense, all is carried on.
    pub(super) fn read(event: &Value) -> Option<Self> {
        let id = outcome::incident_id(event)?;
        let follow_up = event.pointer("/detail/follow_up").and_then(Value::as_bool).unwrap_or(false);
        // What happened to an incident is an event; what is put off is a message.
        let put_off = event.pointer("/detail/report").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let report = is_retold(event).then_some(0).or(put_off);
        let number = |name: &str| {
            let value = event.pointer("/detail/lane")?.get(name)?.as_u64()?;
            u32::try_from(value).ok()
        };
        let lane = match (number("lane"), number("of")) {
            (Some(lane), Some(of)) if lane < of && of <= 64 => Lane { lane, of },
            _ => Lane::WHOLE,
        };
        let waited = event.pointer("/detail/waited").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        // Of an event its own id; of a message that of the event it was made for.
        let by = if event.get("detail-type").is_some() { event.get("id") } else { event.pointer("/detail/event") };
        let by = by.and_then(Value::as_str).filter(|id| is_event_id(id)).map(str::to_owned);
        Some(Self { id, follow_up, report, lane, waited: waited.unwrap_or(0), event: by })
    }

    fn message(&self) -> String {
        let Self { id, follow_up, report, lane: Lane { lane, of }, waited, event } = self;
        let mut detail = json!({"incident_id": id, "follow_up": follow_up, "lane": {"lane": lane, "of": of}});
        if let (Some(put_off), Some(detail)) = (report, detail.as_object_mut()) {
            detail.insert("report".to_owned(), json!(put_off));
        }
        if let (Some(event), Some(detail)) = (event, detail.as_object_mut()) {
            detail.insert("event".to_owned(), json!(event));
        }
        if let (1.., Some(detail)) = (waited, detail.as_object_mut()) {
            detail.insert("waited".to_owned(), json!(waited));
        }
        json!({"detail": detail}).to_string()
    }
}

/// EventBridge numbers events by UUIDs. What is none is no id: nothing else is kept of it.
fn is_event_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// The queue.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) sqs: aws_sdk_sqs::Client,
    pub(super) url: String,
}

/// SQS holds a message back for no longer.
const LONGEST_DELAY: u64 = 900;

impl Queue {
    /// Has an order come in so many seconds.
    pub(super) async fn send(&self, order: &Order, seconds: u64) -> Result<(), ActionError> {
        let delay = i32::try_from(seconds.min(LONGEST_DELAY)).unwrap_or(0);
        let send = self.sqs.send_message().queue_url(&self.url).delay_seconds(delay).message_body(order.message());
        send.send().await.map_err(|e| ActionError::of("sqs:SendMessage", &self.url, e))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn order(lane: Lane) -> Order {
        let order = Order::about("fb-0123456789abcdef01234567".parse().unwrap());
        let event = Some("6a7e8feb-b491-4cf7-a9f1-bf3703467718".to_owned());
        Order { follow_up: true, report: Some(3), lane, waited: 2, event, ..order }
    }

    #[test]
    fn an_order_is_read_as_it_was_sent_and_a_lane_without_sense_is_the_whole() {
        for lane in [Lane::WHOLE, Lane { lane: 3, of: 4 }] {
            let sent = order(lane);
            assert_eq!(Order::read(&serde_json::from_str(&sent.message()).unwrap()), Some(sent));
        }
        for lane in [json!({"lane": 4, "of": 4}), json!({"lane": 0, "of": 0}), json!({"lane": -1, "of": 4}), json!("x")]
        {
            let event = json!({"detail": {"incident_id": order(Lane::WHOLE).id, "lane": lane}});
            assert_eq!(Order::read(&event).unwrap().lane, Lane::WHOLE, "{lane}");
        }
    }

    #[test]
    fn lanes_share_all_units_and_each_has_some() {
        for units in [vec![], vec![7], vec![4, 8], vec![1, 2, 3, 4, 5, 6, 7], vec![4, 8, 12, 16]] {
            let lanes = Lane::WHOLE.for_units(&units, 4);
            for unit in &units {
                assert_eq!(lanes.iter().filter(|lane| lane.holds(*unit)).count(), 1, "{unit} of {units:?}");
            }
            assert!(units.is_empty() || lanes.iter().all(|lane| units.iter().any(|unit| lane.holds(*unit))));
        }
        let lane = Lane { lane: 1, of: 4 };
        assert_eq!(lane.for_units(&[1, 5, 9], 4), [lane], "a lane is not divided again");
    }
}
