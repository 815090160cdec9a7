//! Tells what happens as it happens: one line a thing, with the time since the scenario began.
#![expect(clippy::print_stdout, reason = "telling is what a game day is for")]

use std::io::{IsTerminal as _, Write as _};

use jiff::Timestamp;
use serde::Serialize;

/// How a line is to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// The world goes on.
    Plain,
    /// The thief gets what it wants.
    Bad,
    /// It does not, or something is contained or restored.
    Good,
    /// Waiting, or something in between.
    Dim,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bad => "31",
            Self::Good => "32",
            Self::Dim => "2",
        }
    }
}

/// Whether a narrator prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// On standard output, in colour where that is a terminal.
    Aloud,
    /// Only remembers.
    Silent,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Milliseconds since the scenario began.
    pub at_ms: i64,
    /// Who did it.
    pub who: String,
    /// What happened.
    pub what: String,
}

/// The narrator of one scenario.
#[derive(Debug)]
pub struct Narrator {
    began: Timestamp,
    voice: Voice,
    colour: bool,
    held: Vec<(Timestamp, Tone, Line)>,
    lines: Vec<Line>,
}

impl Narrator {
    /// Begins now.
    pub fn begin(voice: Voice) -> Self {
        let colour = voice == Voice::Aloud && in_colour();
        Self { began: firebreak_shared::clock::now(), voice, colour, held: Vec::new(), lines: Vec::new() }
    }

    /// Tells what happened just now, after everything that was held.
    pub fn tell(&mut self, who: &str, tone: Tone, what: &str) {
        self.hold(firebreak_shared::clock::now(), who, tone, what);
        self.tell_held();
    }

    /// Keeps what happened at a time until others have said what happened before.
    pub fn hold(&mut self, at: Timestamp, who: &str, tone: Tone, what: &str) {
        let at_ms = self.since_the_beginning(at);
        self.held.push((at, tone, Line { at_ms, who: who.to_owned(), what: what.to_owned() }));
    }

    /// Tells what was held, in the order that it happened in.
    pub fn tell_held(&mut self) {
        self.held.sort_by_key(|(at, _, _)| *at);
        for (_, tone, line) in std::mem::take(&mut self.held) {
            if self.voice == Voice::Aloud {
                let text = format!("{:>9}  {:<20}  {}", offset(line.at_ms), line.who, line.what);
                if self.colour {
                    println!("\u{1b}[{}m{text}\u{1b}[0m", tone.code());
                } else {
                    println!("{text}");
                }
            }
            self.lines.push(line);
        }
        let _ = std::io::stdout().flush();
    }

    /// A time as milliseconds since the scenario began.
    pub fn since_the_beginning(&self, at: Timestamp) -> i64 {
        i64::try_from(at.duration_since(self.began).as_millis()).unwrap_or(i64::MAX)
    }

    /// Everything that was told.
    pub fn into_lines(mut self) -> Vec<Line> {
        self.tell_held();
        self.lines
    }
}

/// Colour only on a terminal, and not where the user has said no.
fn in_colour() -> bool {
    let unwanted = std::env::vars_os().any(|(name, value)| name == "NO_COLOR" && !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted
}

fn offset(ms: i64) -> String {
    let sign = if ms < 0 { '-' } else { '+' };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03} s", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::offset;

    #[test]
    fn offsets_are_seconds_with_a_sign() {
        assert_eq!(offset(1234), "+1.234 s");
        assert_eq!(offset(-56), "-0.056 s");
    }
}
