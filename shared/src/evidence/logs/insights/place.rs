//! Where reading goes on, and how much time the next query is about.

use firebreak_model::evidence::{Cursor, Window};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where reading goes on, as a cursor has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Place {
    /// In milliseconds since 1970.
    #[serde(skip)]
    pub(super) from_ms: i64,
    /// How much time the next query is about, in milliseconds.
    pub(super) width_ms: i64,
    /// The query that runs already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) query: Option<String>,
}

impl Place {
    /// The place that a cursor tells, where it is one of these: a token of `FilterLogEvents` never reads like it.
    pub(in super::super) fn behind(cursor: &Cursor) -> Option<Self> {
        let token = Some(&cursor.token).filter(|token| token.starts_with('{'))?;
        let place: Self = serde_json::from_str(token).ok()?;
        Some(Self { from_ms: cursor.from_ms, ..place })
    }

    /// The begin of a slice.
    pub(in super::super) fn of(slice: Window) -> Self {
        Self { from_ms: slice.from.as_millisecond(), width_ms: length(slice), query: None }
    }

    pub(super) fn cursor(&self) -> Result<Cursor, serde_json::Error> {
        let token = serde_json::to_string(self)?;
        Ok(Cursor { token, from_ms: self.from_ms, latest_ms: self.from_ms, pages: 0 })
    }

    pub(super) fn window(&self, slice: Window) -> Window {
        let to = self.from_ms.saturating_add(self.width_ms.max(1) - 1).min(slice.to.as_millisecond());
        Window { from: at(self.from_ms, slice), to: at(to, slice) }
    }

    pub(super) fn go_on_from(&mut self, from_ms: i64) {
        (self.from_ms, self.query) = (from_ms, None);
    }
}

pub(super) fn at(ms: i64, slice: Window) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(slice.to)
}

/// How many milliseconds a window has.
pub(super) fn length(window: Window) -> i64 {
    (window.to.as_millisecond() - window.from.as_millisecond()).max(0).saturating_add(1)
}

/// How much of the time from a place on the next query is about, where so many events are left: halved as often as it takes
/// for them to fit into what one query gives, if they lie evenly.
pub(super) fn narrowed(rest: Window, left: f64, most: u32) -> i64 {
    let (mut width, mut left) = (length(rest), left);
    while left >= f64::from(most) && width > 1 {
        (width, left) = (width / 2, left / 2.0);
    }
    width
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn window(from: i64, to: i64) -> Window {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        Window { from: at(from), to: at(to) }
    }

    #[test]
    fn a_window_is_halved_as_often_as_its_events_ask_for() {
        let hour = window(0, 3_599_999);
        let of_hour = |left| narrowed(hour, left, 10_000);
        for (left, width) in [(9_999.0, 3_600_000), (10_000.0, 1_800_000), (20_000.0, 900_000), (100_000.0, 225_000)] {
            assert_eq!(of_hour(left), width, "{left}");
        }
        assert_eq!(narrowed(window(5, 5), 1e9, 10_000), 1, "no window is without time");
    }

    #[test]
    fn a_place_survives_its_cursor_and_no_token_of_another_call_is_taken_for_one() {
        let slice = window(1_000, 9_999);
        let place = Place { from_ms: 4_000, width_ms: 500, query: Some("q".to_owned()) };
        assert_eq!(Place::behind(&place.cursor().unwrap()), Some(place.clone()));
        assert_eq!(place.window(slice), window(4_000, 4_499));
        assert_eq!(Place { from_ms: 9_900, ..place }.window(slice), window(9_900, 9_999));
        assert_eq!(Place::of(slice).window(slice), slice);
        for token in ["", "t1", "Bxkq6kVGFtq2y_MoigeqscPOdhXVbhiVtLoAmXb5jCqv", "{}", "[1]", "7"] {
            assert_eq!(Place::behind(&Cursor::left(token.to_owned())), None, "{token}");
        }
    }
}
