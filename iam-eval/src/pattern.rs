//! Wildcards: in any text, and in ARNs, whose first five parts are matched one by one.

/// Whether `text` matches `pattern`, in which `*` stands for any text and `?` for one character.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    // `?` stands for one character; no ARN, action or name holds one of more than one byte.
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut place) = (0, 0);
    // Where to go on from when what followed the last `*` does not match.
    let mut retry = None;
    while place < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at, place));
                at += 1;
            }
            Some(&one) if one == b'?' || text.get(place) == Some(&one) => {
                at += 1;
                place += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    at = star + 1;
                    place = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|one| *one == b'*')
}

/// Whether an action matches, whatever the case.
pub(crate) fn action_matches(pattern: &str, action: &str) -> bool {
    matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase())
}

/// Whether an ARN matches. A wildcard in one of the first five parts does not reach beyond its colon; in the last part
/// it does. `*` alone is everything.
pub(crate) fn arn_matches(pattern: &str, arn: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let parts = |text: &str| text.splitn(6, ':').count();
    parts(pattern) == 6
        && parts(arn) == 6
        && pattern.splitn(6, ':').zip(arn.splitn(6, ':')).all(|(one, other)| matches(one, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_any_text_and_for_one_character() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*", "a", true),
            ("a*c", "abbbc", true),
            ("a*c", "abcd", false),
            ("*a*a*", "aa", true),
            ("*a*a*", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.txt", "a.txt.txt", true),
            ("ab", "AB", false),
            ("(a+)", "(a+)", true),
            ("(a+)", "aa", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn actions_are_matched_whatever_the_case() {
        assert!(action_matches("IAM:attach*", "iam:AttachRolePolicy"));
        assert!(!action_matches("iam:Attach*", "iam:DetachRolePolicy"));
        assert!(action_matches("*", "s3:GetObject"));
    }

    #[test]
    fn a_wildcard_in_an_arn_stays_in_its_part_but_in_the_last() {
        let role = "arn:aws:iam::111122223333:role/a/b";
        assert!(arn_matches("arn:*:iam::*:role/*", role));
        assert!(arn_matches("*", role));
        assert!(arn_matches("arn:aws:logs:*:*:log-group:a*", "arn:aws:logs:us-east-1:1:log-group:a:*"));
        assert!(!arn_matches("arn:aws:*", role), "three parts are no ARN");
        assert!(!arn_matches("arn:aws:iam:*:role/a/b", role), "a wildcard does not take two parts");
        assert!(!arn_matches("arn:aws:iam::*:role/b", role));
        assert!(!arn_matches("arn:aws:iam::*:role/A/b", role), "case matters");
    }
}
