//! What a bout came to: for the report, and a line for people.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Greed;
use super::moves::Move;
use crate::conditions::Conditions;

/// A move that was made.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When its answer came.
    pub at: Timestamp,
    /// Who made it.
    pub who: String,
    /// The move.
    pub which: Move,
    /// Whether it went through.
    pub went_through: bool,
}

/// What the adversary achieved in one bout, under which conditions.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// How many of the organisation's policies were in force.
    pub policies: usize,
    /// What it went for.
    pub greed: Greed,
    /// From a call to its event.
    pub event_delay_ms: u64,
    /// From a change of IAM to its being in force.
    pub iam_delay_ms: u64,
    /// Between two looks of the adversary at what it may.
    pub poll_ms: u64,
    /// From the finding to the deny as IAM shows it.
    pub deny_written_ms: Option<i64>,
    /// From the finding to the first call of the stolen session that was refused.
    pub first_refusal_ms: Option<i64>,
    /// From the finding to the last thing that the stolen session achieved, or that set a principal free.
    pub last_achievement_ms: Option<i64>,
    /// From the finding to the last call that went through, of whatever credentials it holds but a chained session's: from
    /// then on it is out.
    pub out_after_ms: Option<i64>,
    /// From the finding to the first refusal of the chained session, where the search for it came again when all else
    /// held.
    pub chained_refused_ms: Option<i64>,
    /// It made itself a session of another role.
    pub chained: bool,
    /// From the finding to the guard's word that the containment is settled.
    pub settled_ms: Option<i64>,
    /// Whether nothing of its went through any more, for as long as was waited.
    pub held: bool,
    /// The rounds that the adversary made.
    pub rounds: usize,
    /// The identities that it made or assumed.
    pub made: usize,
    /// Those of them that nobody had contained in the end.
    pub asked_about: Vec<String>,
    /// How often a part of the containment was undone.
    pub undone: usize,
    /// The same, after the first refusal.
    pub undone_after_refusal: usize,
    /// What went through before the deny was written, by move.
    pub before_the_deny: BTreeMap<String, usize>,
    /// What went through between the deny's writing and the first refusal.
    pub in_the_window: BTreeMap<String, usize>,
    /// What the stolen session achieved after its first refusal.
    pub after_by_the_session: BTreeMap<String, usize>,
    /// What identities that it had made or assumed by then achieved after it.
    pub after_by_others: BTreeMap<String, usize>,
    /// The moves that were refused, and never went through.
    pub refused: Vec<String>,
    /// The identities that it had made or assumed, and that still worked at the end.
    pub still_at_work: Vec<String>,
}

/// The stolen session, as attempts name it.
pub const SESSION: &str = "the stolen session";

/// The session that it made in another role.
pub const CHAINED: &str = "the chained session";

impl Score {
    /// A score of nothing yet, under these conditions.
    pub fn under(conditions: &Conditions, greed: Greed, poll: Duration) -> Self {
        let ms = |delay: Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Self {
            policies: conditions.scps.len(),
            greed,
            event_delay_ms: ms(conditions.cloudtrail_delay.unwrap_or_default()),
            iam_delay_ms: ms(conditions.iam_delay),
            poll_ms: ms(poll),
            deny_written_ms: None,
            first_refusal_ms: None,
            last_achievement_ms: None,
            out_after_ms: None,
            chained_refused_ms: None,
            chained: false,
            settled_ms: None,
            held: false,
            rounds: 0,
            made: 0,
            asked_about: Vec::new(),
            undone: 0,
            undone_after_refusal: 0,
            before_the_deny: BTreeMap::new(),
            in_the_window: BTreeMap::new(),
            after_by_the_session: BTreeMap::new(),
            after_by_others: BTreeMap::new(),
            refused: Vec::new(),
            still_at_work: Vec::new(),
        }
    }

    /// Counts what a bout's attempts came to.
    pub fn count(&mut self, sent: Timestamp, denied: Option<Timestamp>, attempts: &[Attempt]) {
        let ms = |at: Timestamp| i64::try_from(at.duration_since(sent).as_millis()).unwrap_or(i64::MAX);
        // Of all moves only stealing is refused by nothing but the containment.
        let refused =
            |attempt: &&Attempt| attempt.who == SESSION && attempt.which == Move::Steal && !attempt.went_through;
        let first_refusal =
            attempts.iter().filter(refused).map(|a| a.at).find(|at| denied.is_none_or(|denied| *at > denied));
        let achieved = || attempts.iter().filter(|attempt| attempt.went_through);
        self.deny_written_ms = denied.map(ms);
        self.first_refusal_ms = first_refusal.map(ms);
        let counts = |attempt: &&Attempt| attempt.who == SESSION || Move::FREEING.contains(&attempt.which);
        self.last_achievement_ms = achieved().filter(counts).map(|attempt| ms(attempt.at)).max();
        self.out_after_ms = achieved().filter(|attempt| attempt.who != CHAINED).map(|attempt| ms(attempt.at)).max();
        for attempt in achieved() {
            let is_after = first_refusal.is_some_and(|first| attempt.at > first);
            if Move::UNDOING.contains(&attempt.which) {
                self.undone += 1;
                self.undone_after_refusal += usize::from(is_after);
            }
            let place = if is_after && attempt.who == SESSION {
                &mut self.after_by_the_session
            } else if is_after {
                &mut self.after_by_others
            } else if denied.is_none_or(|denied| attempt.at < denied) {
                &mut self.before_the_deny
            } else {
                &mut self.in_the_window
            };
            *place.entry(attempt.which.name().to_owned()).or_default() += 1;
        }
        let mut never: Vec<String> = attempts
            .iter()
            .filter(|attempt| !achieved().any(|other| other.which == attempt.which))
            .map(|attempt| attempt.which.name().to_owned())
            .collect();
        never.sort();
        never.dedup();
        self.refused = never;
    }

    /// A line for people.
    pub fn shown(&self) -> String {
        let time = |ms: Option<i64>| ms.map_or("never".to_owned(), |ms| format!("{ms} ms"));
        format!(
            "{}, {}, events after {} ms, IAM after {} ms: deny written {}, first refusal {}, undone {} times ({} after it), \
             out after {}, {} after {} rounds, settled {}; in the window: {}; after it, by the session: {}; by {} others: {}; \
             chained session refused: {}; not contained: {}; still at work: {}",
            match self.policies {
                0 => "without the policy",
                1 => "with the policy",
                _ => "with both policies",
            },
            self.greed.shown(),
            self.event_delay_ms,
            self.iam_delay_ms,
            time(self.deny_written_ms),
            time(self.first_refusal_ms),
            self.undone,
            self.undone_after_refusal,
            time(self.out_after_ms),
            if self.held { "HELD" } else { "NOT HELD" },
            self.rounds,
            time(self.settled_ms),
            counts(&self.in_the_window),
            counts(&self.after_by_the_session),
            self.made,
            counts(&self.after_by_others),
            if self.chained { time(self.chained_refused_ms) } else { "none made".to_owned() },
            crate::check::listed(&self.asked_about),
            crate::check::listed(&self.still_at_work),
        )
    }
}

/// How long the thief lasted, as a function of how late events are, a line each.
pub fn table(scores: &[Score]) -> Vec<String> {
    let time = |ms: Option<i64>| {
        ms.map_or_else(
            || "never".to_owned(),
            |ms| format!("{:.1} s", Duration::from_millis(ms.unsigned_abs()).as_secs_f64()),
        )
    };
    let mut lines = vec![format!(
        "{:>12}  {:>8}  {:>6}  {:>12}  {:>9}  {:>9}  {:>9}",
        "events after", "the thief", "others", "deny written", "out after", "settled", "undone"
    )];
    lines.extend(scores.iter().map(|score| {
        format!(
            "{:>12}  {:>8}  {:>6}  {:>12}  {:>9}  {:>9}  {:>9}",
            time(i64::try_from(score.event_delay_ms).ok()),
            score.greed.shown(),
            score.made,
            time(score.deny_written_ms),
            if score.held { time(score.out_after_ms) } else { "NOT OUT".to_owned() },
            time(score.settled_ms),
            score.undone,
        )
    }));
    lines
}

fn counts(of: &BTreeMap<String, usize>) -> String {
    if of.is_empty() {
        return "nothing".to_owned();
    }
    of.iter().map(|(name, count)| format!("{name} ×{count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap_or_default()
    }

    fn attempt(second: i64, who: &str, which: Move, went_through: bool) -> Attempt {
        Attempt { at: at(second), who: who.to_owned(), which, went_through }
    }

    #[test]
    fn achievements_are_counted_by_when_and_by_whom() {
        let attempts = [
            attempt(1, SESSION, Move::Steal, true),
            attempt(3, SESSION, Move::DetachDeny, true),
            attempt(3, SESSION, Move::ForgeRecord, false),
            attempt(4, SESSION, Move::MintUser, true),
            attempt(5, SESSION, Move::Steal, false),
            attempt(6, SESSION, Move::Steal, true),
            attempt(7, "the minted user", Move::DetachDeny, true),
            attempt(8, SESSION, Move::Steal, false),
        ];
        let mut score = Score::under(&Conditions::default(), Greed::Alone, Duration::from_millis(500));
        score.count(at(0), Some(at(2)), &attempts);
        assert_eq!((score.deny_written_ms, score.first_refusal_ms), (Some(2000), Some(5000)));
        assert_eq!((score.undone, score.undone_after_refusal), (2, 1));
        assert_eq!(counts(&score.before_the_deny), "steals an object ×1");
        assert_eq!(counts(&score.in_the_window), "detaches the deny ×1, mints a user and a key ×1");
        assert_eq!(counts(&score.after_by_the_session), "steals an object ×1");
        assert_eq!(counts(&score.after_by_others), "detaches the deny ×1");
        assert_eq!(score.last_achievement_ms, Some(7000));
        assert_eq!(score.refused, ["forges a record"]);
    }

    #[test]
    fn what_was_refused_before_the_deny_is_no_sign_of_it() {
        let attempts = [attempt(1, SESSION, Move::Steal, false), attempt(3, SESSION, Move::Steal, true)];
        let mut score = Score::under(&Conditions::default(), Greed::Alone, Duration::ZERO);
        score.count(at(0), Some(at(2)), &attempts);
        assert_eq!(score.first_refusal_ms, None);
    }
}
