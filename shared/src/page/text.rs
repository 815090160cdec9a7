//! Foreign text in a page, and values in a command. A finding's author chooses names, types and reasons: none of
//! them may look like a line of ours, or mean anything to a shell.

use jiff::SignedDuration;

/// At most `most` printable ASCII characters of foreign text.
pub(super) fn clean(text: &str, most: usize) -> String {
    let mut out: String =
        text.chars().take(most).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if text.chars().nth(most).is_some() {
        out.push_str("...");
    }
    out
}

/// A length of time, to the two largest units.
pub(super) fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// An `aws` command that is put together from our words and foreign values.
#[derive(Debug, Clone)]
pub(super) struct Command {
    line: String,
    fit: bool,
}

impl Command {
    /// `aws` and these words, which are ours.
    pub(super) fn aws(words: &str) -> Self {
        Self { line: format!("aws {words}"), fit: true }
    }

    /// An option with a value, whatever is in it: quoted, and never taken for an option or a file to be read.
    #[must_use]
    pub(super) fn option(mut self, name: &str, value: &str) -> Self {
        self.fit &= value.chars().all(|c| c.is_ascii_graphic() || c == ' ')
            && !["file://", "fileb://", "http://", "https://"].iter().any(|scheme| value.starts_with(scheme));
        let joint = if value.starts_with('-') { "=" } else { " " };
        self.line.extend([" --", name, joint, &quoted(value)]);
        self
    }

    /// Words that are ours.
    #[must_use]
    pub(super) fn words(mut self, words: &str) -> Self {
        self.line.push(' ');
        self.line.push_str(words);
        self
    }

    /// The command, unless one of its values cannot be written in one line of a page.
    pub(super) fn line(self) -> Option<String> {
        self.fit.then_some(self.line)
    }
}

/// A value in single quotes: nothing in it means anything to a shell.
pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(7, "7 s"), (65, "1 min 5 s"), (7_500, "2 h 5 min"), (90_000, "1 d 1 h")] {
            assert_eq!(span(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_value_is_one_word_whatever_is_in_it() {
        let line = |value: &str| Command::aws("x").option("name", value).line();
        assert_eq!(line("orders").as_deref(), Some("aws x --name 'orders'"));
        assert_eq!(line("$(id)`id`;'&").as_deref(), Some(r"aws x --name '$(id)`id`;'\''&'"));
        assert_eq!(line("-rf").as_deref(), Some("aws x --name='-rf'"));
        for unfit in ["a\nb", "a\u{1b}[2Jb", "file:///etc/passwd", "h\u{e9}"] {
            assert_eq!(line(unfit), None, "{unfit}");
        }
    }

    /// What a shell makes of a single-quoted word.
    fn unquoted(word: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = word;
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix(r"\'") {
                out.push('\'');
                rest = tail;
                continue;
            }
            let (inside, tail) = rest.strip_prefix('\'')?.split_once('\'')?;
            out.push_str(inside);
            rest = tail;
        }
        Some(out)
    }

    proptest! {
        #[test]
        fn quoting_is_undone_by_a_shell(value in ".*") {
            prop_assert_eq!(unquoted(&quoted(&value)), Some(value));
        }

        #[test]
        fn cleaned_text_is_one_printable_line(value in ".*") {
            let cleaned = clean(&value, 50);
            prop_assert!(cleaned.len() <= 53 && cleaned.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
        }
    }
}
