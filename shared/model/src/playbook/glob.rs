//! Patterns of the playbook.

use serde::{Deserialize, Deserializer};

/// A text with `*` for any run of characters and `?` for one; everything else is literal, case included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Whether `text` matches, in time proportional to the product of the lengths at worst.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(&byte) = text.get(t) {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&wanted) if wanted == b'?' || wanted == byte => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((star_p, star_t)) => {
                        star = Some((star_p, star_t + 1));
                        p = star_p + 1;
                        t = star_t + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern.get(p..).unwrap_or_default().iter().all(|&b| b == b'*')
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Glob {
    fn from(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pattern = String::deserialize(deserializer)?;
        if pattern.is_empty() {
            return Err(serde::de::Error::custom("an empty pattern matches nothing"));
        }
        Ok(Self(pattern))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_are_literal_but_for_star_and_question_mark() {
        for (pattern, text, expected) in [
            ("*:Lambda/*", "Backdoor:Lambda/C&CActivity.B", true),
            ("*:Lambda/*", "Backdoor:EC2/C&CActivity.B", false),
            ("a.c", "abc", false),
            ("a?c", "abc", true),
            ("*", "", true),
            ("", "a", false),
            ("*a*b", "xxaxxbxb", true),
            ("/break-glass/*", "/break-glass/ana", true),
            ("/break-glass/*", "/not/break-glass/ana", false),
        ] {
            assert_eq!(Glob::from(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_a_star(text in "[a-zA-Z0-9:/.&]{0,40}", cut in 0usize..40) {
            prop_assert!(Glob::from(text.as_str()).matches(&text));
            let cut = cut.min(text.len());
            let pattern = format!("{}*", &text[..cut]);
            prop_assert!(Glob::from(pattern.as_str()).matches(&text));
        }
    }
}
