//! Measures: from spawn to the first answer, and from an event to the deny.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::endpoint::{Recorded, sequential};
use crate::runtime::{Function, Program};
use crate::scene::{Case, Counts, DENY, Stage, counts, finding, name_of};
use crate::world::World;

/// What is held against each call on the way to the deny.
pub(crate) const HELD: Duration = Duration::from_millis(30);

/// Invocations of a warm process, beside its first.
const WARM: usize = 5;

/// Figures of one kind, of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    fn push(&mut self, figure: f64) {
        let at = self.0.partition_point(|other| *other < figure);
        self.0.insert(at, figure);
    }

    /// The figure in the middle.
    pub(crate) fn median(&self) -> f64 {
        let middle = |at: usize| self.0.get(at).copied().unwrap_or(f64::NAN);
        let half = self.0.len() / 2;
        if self.0.len() % 2 == 1 { middle(half) } else { f64::midpoint(middle(half.wrapping_sub(1)), middle(half)) }
    }

    /// The largest figure.
    pub(crate) fn worst(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

/// From spawn to the first answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    /// Wall time, in milliseconds.
    pub(crate) wall_ms: Series,
    /// CPU, in milliseconds.
    pub(crate) cpu_ms: Series,
    /// Of that, until its first call was there.
    pub(crate) first_call_cpu_ms: Series,
    /// Peak memory, in megabytes.
    pub(crate) peak_mb: Series,
    /// The calls of one spawn.
    pub(crate) calls: Counts,
    /// The TLS connections of one spawn.
    pub(crate) connections: usize,
}

/// From an event to the deny.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToDeny {
    /// From spawn, in milliseconds.
    pub(crate) from_spawn_ms: Series,
    /// From when the first event was handed out, in milliseconds.
    pub(crate) from_first_event_ms: Series,
    /// From when a later event was handed out, in milliseconds.
    pub(crate) warm_ms: Series,
    /// The calls before the first event was handed out.
    pub(crate) before_event: Vec<String>,
    /// The calls from an event to the deny and with it.
    pub(crate) calls: Vec<String>,
    /// How many of those followed one another.
    pub(crate) round_trips: usize,
    /// The calls of one warm invocation, in their order.
    pub(crate) warm_calls: Vec<Vec<Recorded>>,
}

fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}

/// Spawns a program again and again; every spawn meets the same account.
pub(crate) async fn starts(stage: &Stage, program: &Program, case: &Case, event: &Value, spawns: u32) -> Result<Start> {
    let mut start = Start::default();
    for _ in 0..spawns {
        let mut function = stage.start(program, case.world.clone(), Duration::ZERO, event.clone()).await?;
        let answered = function.answer().await?;
        let (connections, first) = (stage.endpoint.connections(), stage.endpoint.before_first());
        let calls = counts(&stage.went_well(&function, &answered)?);
        ensure!(start.calls.is_empty() || start.calls == calls, "`{}` made other calls: {calls:?}", program.name);
        (start.calls, start.connections) = (calls, connections);
        start.wall_ms.push(ms(function.spawned, answered.at));
        start.cpu_ms.push(answered.usage.cpu_ms);
        start.peak_mb.push(answered.usage.peak_mb);
        start.first_call_cpu_ms.push(first.map_or(f64::NAN, |usage| usage.cpu_ms));
        function.end().await?;
    }
    Ok(start)
}

/// How the events of a process are made: its first, and later ones on other principals.
pub(crate) enum Events<'a> {
    /// The findings themselves.
    Findings,
    /// The calls that were made on each finding.
    Calls(&'a [Vec<Recorded>]),
}

impl Events<'_> {
    fn of(&self, stage: &Stage, number: usize) -> Result<Value> {
        let finding = finding(&stage.root, number)?;
        match self {
            Self::Findings => Ok(finding),
            Self::Calls(calls) => {
                Ok(Stage::asked_of_theirs(&finding, calls.get(number).context("no calls are known")?))
            }
        }
    }
}

/// From events to denies: each spawn takes one event cold and some more warm, each on another principal.
pub(crate) async fn to_deny(stage: &Stage, program: &Program, events: &Events<'_>, spawns: u32) -> Result<ToDeny> {
    let mut deny = ToDeny::default();
    for _ in 0..spawns {
        let mut function = stage.start(program, World::default(), HELD, events.of(stage, 0)?).await?;
        let mut all = Vec::new();
        for number in 0..=WARM {
            if number > 0 {
                function.send(events.of(stage, number)?)?;
            }
            let (handed, calls) = answered(stage, &mut function).await?;
            let (before, calls): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.began < handed);
            let denied = calls.iter().find(|call| call.call.operation == DENY).context("nothing was denied")?;
            let made: Vec<String> = calls.iter().filter(|call| call.began <= denied.began).map(name_of).collect();
            // One call goes beside the deny, and may begin a moment before it: the deny waits for the fewest that were seen.
            let fewest = deny.calls.len();
            ensure!(fewest == 0 || made.len().abs_diff(fewest) <= 1, "the calls to the deny differ: {made:?}");
            if fewest == 0 || made.len() < fewest {
                (deny.round_trips, deny.calls) = (sequential(&calls, denied), made);
            }
            if number == 0 {
                deny.from_spawn_ms.push(ms(function.spawned, denied.ended));
                deny.from_first_event_ms.push(ms(handed, denied.ended));
                deny.before_event = before.iter().map(name_of).collect();
            } else {
                deny.warm_ms.push(ms(handed, denied.ended));
            }
            all.push(calls);
        }
        deny.warm_calls = all;
        function.end().await?;
    }
    Ok(deny)
}

async fn answered(stage: &Stage, function: &mut Function) -> Result<(Instant, Vec<Recorded>)> {
    let answered = function.answer().await?;
    Ok((answered.handed, stage.went_well(function, &answered)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_worst_at_the_end() {
        let mut series = Series::default();
        let figures = |series: &Series| (series.median().to_string(), series.worst().to_string());
        assert_eq!(figures(&series), ("NaN".to_owned(), "NaN".to_owned()));
        for figure in [3.0, 1.0, 2.0] {
            series.push(figure);
        }
        assert_eq!(figures(&series), ("2".to_owned(), "3".to_owned()));
        series.push(4.0);
        assert_eq!(figures(&series), ("2.5".to_owned(), "4".to_owned()));
    }
}
