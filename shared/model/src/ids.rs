//! Identifiers: foreign text becomes one of these types at the door, or is refused there.
//!
//! Every type has private fields and [`std::str::FromStr`] as its only way in, so a value that exists
//! is well-formed: ASCII, bounded, and free of anything that could mean something to a policy, a
//! path or a shell.

mod arn;

pub use arn::{FunctionArn, InstanceProfileArn, Partition, PolicyArn, RoleArn, TaskArn, TaskDefinitionArn, UserArn};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a text is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is no {what}: expected {expected}")]
pub struct InvalidId {
    what: &'static str,
    expected: &'static str,
    shown: String,
}

impl InvalidId {
    fn new(what: &'static str, expected: &'static str, text: &str) -> Self {
        Self { what, expected, shown: shown(text) }
    }
}

/// At most 80 printable characters of foreign text, for messages and logs.
pub fn shown(text: &str) -> String {
    printable(text, 80)
}

/// At most 400 printable characters of a message that may repeat foreign text.
pub fn shown_text(text: &str) -> String {
    printable(text, 400)
}

fn printable(text: &str, most: usize) -> String {
    let mut out: String =
        text.chars().take(most).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '\u{fffd}' }).collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

/// Foreign text that names a thing: at most 512 printable characters. What was changed or cut is told apart from its
/// like by a digest of the whole, so that two things never become one.
pub fn shown_id(text: &str) -> String {
    let clean = |c: char| c.is_ascii_graphic() || c == ' ';
    if text.len() <= 512 && text.chars().all(clean) {
        return text.to_owned();
    }
    let kept: String = text.chars().take(480).map(|c| if clean(c) { c } else { '\u{fffd}' }).collect();
    let hex = digest(&[text]);
    format!("{kept}~{}", hex.get(..16).unwrap_or_default())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId::new($what, $expected, text))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn all(text: &str, length: std::ops::RangeInclusive<usize>, ok: fn(u8) -> bool) -> bool {
    length.contains(&text.len()) && text.bytes().all(ok)
}

fn is_iam_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)
}

fn is_upper_alphanumeric(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}

fn is_lower_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

fn prefixed(text: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|p| text.strip_prefix(p).is_some_and(|rest| all(rest, 12..=124, is_upper_alphanumeric)))
}

text_id!(
    /// An AWS account: 12 digits.
    AccountId, "account id", "12 digits",
    |t| all(t, 12..=12, |b| b.is_ascii_digit())
);
text_id!(
    /// An AWS Region, such as `eu-west-1` or `us-gov-west-1`.
    Region, "Region", "lower-case letters, digits and hyphens",
    |t| all(t, 5..=25, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);
text_id!(
    /// The friendly name of an IAM role: 1–64 of letters, digits and `_+=,.@-`, without its path.
    RoleName, "role name", "1 to 64 letters, digits or _+=,.@-",
    |t| all(t, 1..=64, is_iam_name_byte)
);
text_id!(
    /// The friendly name of an IAM user: 1–64 of letters, digits and `_+=,.@-`, without its path.
    UserName, "user name", "1 to 64 letters, digits or _+=,.@-",
    |t| all(t, 1..=64, is_iam_name_byte)
);
text_id!(
    /// The name of an instance profile: 1–128 of letters, digits and `_+=,.@-`. It need not be its role's.
    InstanceProfileName, "instance profile name", "1 to 128 letters, digits or _+=,.@-",
    |t| all(t, 1..=128, is_iam_name_byte)
);
text_id!(
    /// A GuardDuty detector: 32 hex digits; there is one in each Region of an account.
    DetectorId, "detector id", "32 hex digits",
    |t| all(t, 32..=32, is_lower_hex)
);
text_id!(
    /// The unique id of a role (`AROA…`) or user (`AIDA…`): changes when the principal is made again.
    UniqueId, "unique id", "AROA or AIDA followed by 12 or more upper-case letters or digits",
    |t| prefixed(t, &["AROA", "AIDA"])
);
text_id!(
    /// An access key: `AKIA…` (long-term, a user's) or `ASIA…` (of a session).
    AccessKeyId, "access key id", "AKIA or ASIA followed by 12 or more upper-case letters or digits",
    |t| prefixed(t, &["AKIA", "ASIA"])
);
text_id!(
    /// The id of a finding: up to 512 printable ASCII characters without white space.
    FindingId, "finding id", "1 to 512 printable ASCII characters",
    |t| all(t, 1..=512, |b| b.is_ascii_graphic())
);
text_id!(
    /// The name of a role session: 2–64 of letters, digits and `_+=,.@-`.
    SessionName, "session name", "2 to 64 letters, digits or _+=,.@-",
    |t| all(t, 2..=64, is_iam_name_byte)
);
text_id!(
    /// A session of a role as `aws:userId` names it: `AROA…:session`. No character of it means anything in a policy.
    SessionId, "session id", "AROA… and a session name, with a colon between",
    |t| t.split_once(':').is_some_and(|(role, session)| {
        prefixed(role, &["AROA"]) && all(session, 2..=64, is_iam_name_byte)
    })
);
text_id!(
    /// An incident: `fb-` and 24 hex digits, derived from account, kind and lower-case name.
    IncidentId, "incident id", "fb- followed by 24 hex digits",
    |t| t.strip_prefix("fb-").is_some_and(|hex| all(hex, 24..=24, is_lower_hex))
);
text_id!(
    /// One update of one finding: 32 hex digits of SHA-256 over its id and `updatedAt`.
    FindingKey, "finding key", "32 hex digits",
    |t| all(t, 32..=32, is_lower_hex)
);

impl AccountId {
    /// An account that is nobody's: AWS gives none of zeros.
    pub(crate) fn nobody() -> Self {
        Self("0".repeat(12))
    }
}

impl SessionId {
    /// The unique id of the role.
    pub fn role_id(&self) -> Option<UniqueId> {
        self.0.split_once(':')?.0.parse().ok()
    }

    /// The name of the session.
    pub fn session(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, session)| session)
    }
}

impl IncidentId {
    /// The incident of a principal. IAM names are unique in an account whatever the path, ignoring case.
    pub fn of(account: &AccountId, kind: &str, name: &str) -> Self {
        let hex = digest(&[account.as_str(), kind, &name.to_ascii_lowercase()]);
        Self(format!("fb-{}", hex.get(..24).unwrap_or_default()))
    }
}

impl FindingKey {
    /// The key of one update of a finding.
    pub fn of(id: &str, updated_at: &str) -> Self {
        let hex = digest(&[id, updated_at]);
        Self(hex.get(..32).unwrap_or_default().to_owned())
    }
}

/// SHA-256 over the parts, each followed by a zero byte, as lower-case hex.
pub fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hex(&hasher.finalize())
}

/// SHA-256 of bytes as lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// Hex as bytes.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn role_arn_keeps_its_path_in_every_partition() {
        for partition in ["aws", "aws-cn", "aws-us-gov"] {
            let text = format!("arn:{partition}:iam::111122223333:role/service-role/team/orders");
            let arn: RoleArn = text.parse().unwrap();
            assert_eq!(arn.path(), "/service-role/team/");
            assert_eq!(arn.name().as_str(), "orders");
            assert_eq!(arn.to_string(), text);
        }
        let plain: RoleArn = "arn:aws:iam::111122223333:role/orders".parse().unwrap();
        assert_eq!(plain.path(), "/");
    }

    #[test]
    fn what_is_no_role_arn_is_refused() {
        for text in [
            "",
            "orders",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:user/orders",
            "arn:aws:sts::111122223333:assumed-role/orders/session",
            "arn:aws:iam:eu-west-1:111122223333:role/orders",
            "arn:aws-evil:iam::111122223333:role/orders",
            "arn:aws:iam::1111:role/orders",
            "arn:aws:iam::111122223333:role/or ders",
            "arn:aws:iam::111122223333:role/a\u{430}b",
            "arn:aws:iam::111122223333:roles/orders",
        ] {
            assert!(text.parse::<RoleArn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_policy_is_an_accounts_or_one_of_awss_own() {
        for (text, own) in [
            ("arn:aws:iam::111122223333:policy/firebreak/deny", true),
            ("arn:aws-cn:iam::111122223333:policy/deny", true),
            ("arn:aws:iam::aws:policy/AWSDenyAll", false),
            ("arn:aws-us-gov:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole", false),
        ] {
            let arn: PolicyArn = text.parse().unwrap();
            assert_eq!((arn.to_string().as_str(), arn.account().is_some()), (text, own));
        }
        assert_eq!(PolicyArn::deny_all(Partition::AwsCn).to_string(), "arn:aws-cn:iam::aws:policy/AWSDenyAll");
        for text in [
            "AWSDenyAll",
            "arn:aws:iam::aws:policy/",
            "arn:aws:iam::awss:policy/AWSDenyAll",
            "arn:aws:iam::aws:role/AWSDenyAll",
            "arn:aws:iam:us-east-1:aws:policy/AWSDenyAll",
            "arn:aws:iam::aws:policyAWSDenyAll",
            "arn:aws:iam::aws:policy/AWS DenyAll",
            "arn:aws:iam::aws:policy/x\ny/AWSDenyAll",
        ] {
            assert!(text.parse::<PolicyArn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_session_id_holds_nothing_that_means_something_in_a_policy() {
        let id: SessionId = "AROAEXAMPLE000000001:i-0123.a+b=c,d@e_f".parse().unwrap();
        assert_eq!(id.role_id().unwrap().as_str(), "AROAEXAMPLE000000001");
        assert_eq!(id.session(), "i-0123.a+b=c,d@e_f");
        for text in [
            "AROAEXAMPLE000000001:*",
            "AROAEXAMPLE000000001:a?",
            "AROAEXAMPLE000000001:${aws:userId}",
            "AROAEXAMPLE000000001:a b",
            "AROAEXAMPLE000000001:a\"b",
            "AROAEXAMPLE000000001:a:b",
            "AROAEXAMPLE000000001:a",
            "AROAEXAMPLE000000001",
            "AIDAEXAMPLE000000001:ana",
            "*:ana",
            "AROA*:ana",
        ] {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
        assert!(format!("AROAEXAMPLE000000001:{}", "a".repeat(65)).parse::<SessionId>().is_err());
    }

    #[test]
    fn function_arn_carries_a_qualifier_or_none() {
        let arn: FunctionArn = "arn:aws-cn:lambda:cn-north-1:111122223333:function:orders:live".parse().unwrap();
        assert_eq!(arn.qualifier(), Some("live"));
        assert_eq!(arn.unqualified().to_string(), "arn:aws-cn:lambda:cn-north-1:111122223333:function:orders");
        let latest: FunctionArn = "arn:aws:lambda:eu-west-1:111122223333:function:orders:$LATEST".parse().unwrap();
        assert_eq!(latest.qualifier(), Some("$LATEST"));
        assert!("arn:aws:lambda:eu-west-1:111122223333:function:or/ders".parse::<FunctionArn>().is_err());
        assert!("arn:aws:lambda:eu-west-1:111122223333:function:orders:a:b".parse::<FunctionArn>().is_err());
    }

    #[test]
    fn incident_ids_ignore_the_case_of_the_name_and_nothing_else() {
        let account: AccountId = "111122223333".parse().unwrap();
        let other: AccountId = "444455556666".parse().unwrap();
        let id = IncidentId::of(&account, "role", "Orders");
        assert_eq!(id, IncidentId::of(&account, "role", "oRDERS"));
        assert_ne!(id, IncidentId::of(&account, "user", "Orders"));
        assert_ne!(id, IncidentId::of(&other, "role", "Orders"));
        assert_eq!(id.as_str().parse::<IncidentId>().unwrap(), id);
    }

    #[test]
    fn names_that_are_cut_or_cleaned_stay_apart() {
        let long = "a".repeat(600);
        assert_ne!(shown_id(&long), shown_id(&format!("{long}b")));
        assert_ne!(shown_id("a\u{430}"), shown_id("a\u{431}"));
        assert_eq!(shown_id("arn:aws:x/y z"), "arn:aws:x/y z");
        assert!(shown_id(&long).len() <= 512 && !shown_id("a\nb").contains('\n'));
    }

    #[test]
    fn messages_show_no_control_characters_and_stay_short() {
        let error = format!("a\nb{}", "x".repeat(500)).parse::<RoleName>().unwrap_err().to_string();
        assert!(!error.contains('\n') && error.len() < 250, "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_that_reads_back_or_an_error(text in "\\PC{0,80}") {
            if let Ok(arn) = text.parse::<RoleArn>() {
                prop_assert_eq!(arn.to_string(), text.clone());
            }
            if let Ok(arn) = text.parse::<FunctionArn>() {
                prop_assert_eq!(arn.to_string(), text.clone());
            }
            let _ = text.parse::<AccountId>();
        }

        #[test]
        fn well_formed_role_arns_read_back(path in "(/[a-z0-9]{1,8}){0,3}/", name in "[A-Za-z0-9_+=,.@-]{1,64}") {
            let text = format!("arn:aws-us-gov:iam::111122223333:role{path}{name}");
            prop_assert_eq!(text.parse::<RoleArn>().unwrap().to_string(), text);
        }
    }
}
