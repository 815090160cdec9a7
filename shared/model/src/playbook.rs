//! The playbook: what to do about which finding. It ships with the stack and is checked by the code
//! that runs it; an unknown key is refused by name.

use serde::{Deserialize, Deserializer};

use crate::action::Response;
use crate::decision::{Decision, Mode, Verdict};
use crate::finding::Finding;
use crate::ids::sha256_hex;

/// Why a playbook is refused.
#[derive(Debug, thiserror::Error)]
pub enum PlaybookError {
    /// Not the YAML that a playbook is; the message names the line and the key.
    #[error("the playbook cannot be read: {0}")]
    Yaml(String),
    /// A version that this code does not know.
    #[error("playbook version {0} is not supported: this release reads version 1")]
    Version(u32),
    /// A rule that contradicts itself.
    #[error("rule `{rule}`: {problem}")]
    Rule {
        /// Which.
        rule: String,
        /// What is wrong.
        problem: &'static str,
    },
}

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

/// One rule: the first that matches a finding decides.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, for the record.
    pub name: String,
    /// Finding types that it is for.
    pub types: Vec<Glob>,
    /// The least severity, 0–10; a finding without one does not match a rule that asks for it.
    #[serde(default)]
    pub min_severity: Option<f64>,
    /// What to do.
    pub decision: Decision,
    /// How far to go, where it differs from the playbook's mode.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// With what, where it differs from the playbook's response.
    #[serde(default)]
    pub response: Option<Vec<Response>>,
}

/// What is never touched, by name or by path: never by a tag on the target, which the thief could set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// Roles: a pattern on path and name together, such as `/break-glass/*` or `*/deploy-production`.
    #[serde(default)]
    pub roles: Vec<Glob>,
    /// Users: a pattern on path and name together.
    #[serde(default)]
    pub users: Vec<Glob>,
    /// Functions: a pattern on the name. Their roles may still be contained.
    #[serde(default)]
    pub functions: Vec<Glob>,
}

/// The circuit breaker: past it, containments wait for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// New enforced containments per account and clock hour.
    pub per_hour: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u32,
    mode: Mode,
    response: Vec<Response>,
    breaker: Breaker,
    #[serde(default)]
    protected: Protected,
    rules: Vec<Rule>,
}

/// A checked playbook.
#[derive(Debug, Clone, PartialEq)]
pub struct Playbook {
    mode: Mode,
    response: Vec<Response>,
    /// The circuit breaker.
    pub breaker: Breaker,
    /// What is never touched.
    pub protected: Protected,
    rules: Vec<Rule>,
    digest: String,
}

/// The rule of findings that no rule matches: unknown types included.
const NO_RULE: &str = "no-rule";

impl Playbook {
    /// Reads and checks a playbook.
    pub fn from_yaml(text: &str) -> Result<Self, PlaybookError> {
        let wire: Wire = serde_saphyr::from_str(text).map_err(|error| PlaybookError::Yaml(error.to_string()))?;
        if wire.version != 1 {
            return Err(PlaybookError::Version(wire.version));
        }
        check_response("response", &wire.response)?;
        for (index, rule) in wire.rules.iter().enumerate() {
            let refused = |problem| Err(PlaybookError::Rule { rule: rule.name.clone(), problem });
            if rule.types.is_empty() {
                return refused("`types` is empty: it would match nothing");
            }
            if rule.name.is_empty() || rule.name == NO_RULE || rule.name.len() > 64 {
                return refused("the name must have 1 to 64 characters and not be `no-rule`");
            }
            if wire.rules.iter().take(index).any(|earlier| earlier.name == rule.name) {
                return refused("another rule has the same name");
            }
            if rule.min_severity.is_some_and(|s| !(0.0..=10.0).contains(&s)) {
                return refused("`min_severity` must lie between 0 and 10");
            }
            if let Some(response) = &rule.response {
                check_response(&rule.name, response)?;
            }
        }
        Ok(Self {
            mode: wire.mode,
            response: wire.response,
            breaker: wire.breaker,
            protected: wire.protected,
            rules: wire.rules,
            digest: sha256_hex(text.as_bytes()),
        })
    }

    /// SHA-256 of the text, in every record that the playbook decided.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The response of requests that name none.
    pub fn default_response(&self) -> &[Response] {
        &self.response
    }

    /// What the playbook says about a finding, under the stack's ceiling; before any guard rail.
    pub fn decide(&self, finding: &Finding, ceiling: Mode) -> (Verdict, Vec<Response>) {
        let verdict = |decision: Decision, mode: Mode, rule: &str, reason: String| Verdict {
            decision,
            effective: decision.under(mode),
            mode,
            rule: rule.to_owned(),
            reason,
        };
        let mode = self.mode.min(ceiling);
        if finding.sample {
            let reason = "the finding is a generated sample".to_owned();
            return (verdict(Decision::Ignore, mode, "sample", reason), Vec::new());
        }
        if finding.archived {
            return (verdict(Decision::Ignore, mode, "archived", "the finding is archived".to_owned()), Vec::new());
        }
        let Some(severity) = finding.severity else {
            let reason = "the finding has no severity".to_owned();
            return (verdict(Decision::Notify, mode, "no-severity", reason), self.response.clone());
        };
        let matching = self.rules.iter().find(|rule| {
            rule.types.iter().any(|glob| glob.matches(&finding.finding_type))
                && rule.min_severity.is_none_or(|least| severity >= least)
        });
        let Some(rule) = matching else {
            let reason = format!("no rule is for `{}` at severity {severity}", finding.finding_type);
            return (verdict(Decision::Notify, mode, NO_RULE, reason), self.response.clone());
        };
        let mode = rule.mode.unwrap_or(self.mode).min(ceiling);
        let reason = format!(
            "rule `{}` says {} for `{}` at severity {severity}",
            rule.name, rule.decision, finding.finding_type
        );
        let response = rule.response.clone().unwrap_or_else(|| self.response.clone());
        (verdict(rule.decision, mode, &rule.name, reason), response)
    }
}

/// Whether a response makes sense: `rule` names it in the error.
pub fn check_response(rule: &str, response: &[Response]) -> Result<(), PlaybookError> {
    let refused = |problem| Err(PlaybookError::Rule { rule: rule.to_owned(), problem });
    let wants = |wanted| response.contains(&wanted);
    if response.is_empty() {
        return refused("the response is empty: say `decision: notify` to change nothing");
    }
    if wants(Response::Isolate) && wants(Response::Recycle) {
        return refused("the response holds both `isolate` and `recycle`: choose one");
    }
    if wants(Response::Recycle) && !wants(Response::Revoke) {
        return refused("`recycle` without `revoke` gives a thief's session fresh neighbours and leaves it alive");
    }
    if wants(Response::Recycle) && wants(Response::Quarantine) {
        return refused("`recycle` beside `quarantine` keeps nothing alive: the role is denied everything");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::finding::Source;

    const SHIPPED: &str = include_str!("../../../playbook.yaml");

    fn finding(finding_type: &str, severity: Option<f64>) -> Finding {
        Finding {
            id: "f".into(),
            finding_type: finding_type.into(),
            severity,
            account: None,
            region: None,
            source: Source::GuardDuty,
            first_seen: None,
            last_seen: None,
            updated_at: String::new(),
            sample: false,
            archived: false,
            subjects: Vec::new(),
        }
    }

    fn decide(finding_type: &str, severity: f64) -> Verdict {
        let playbook = Playbook::from_yaml(SHIPPED).unwrap();
        playbook.decide(&finding(finding_type, Some(severity)), Mode::Enforce).0
    }

    #[test]
    fn the_shipped_playbook_decides_as_it_says() {
        for (finding_type, severity, decision) in [
            ("AttackSequence:IAM/CompromisedCredentials", 9.0, Decision::Act),
            ("AttackSequence:S3/CompromisedData", 9.0, Decision::Act),
            ("AttackSequence:EKS/CompromisedCluster", 9.0, Decision::Approve),
            ("UnauthorizedAccess:IAMUser/ResourceCredentialExfiltration.OutsideAWS", 8.0, Decision::Act),
            ("Backdoor:Lambda/C&CActivity.B", 8.0, Decision::Act),
            ("UnauthorizedAccess:Lambda/MaliciousIPCaller.Custom", 5.0, Decision::Approve),
            ("Exfiltration:IAMUser/AnomalousBehavior", 8.0, Decision::Act),
            ("Exfiltration:IAMUser/AnomalousBehavior", 5.0, Decision::Approve),
            ("Discovery:IAMUser/AnomalousBehavior", 8.0, Decision::Notify),
            ("Policy:IAMUser/RootCredentialUsage", 2.0, Decision::Notify),
            ("Brand:New/Type", 9.0, Decision::Notify),
        ] {
            assert_eq!(decide(finding_type, severity).decision, decision, "{finding_type} at {severity}");
        }
    }

    #[test]
    fn samples_and_archived_findings_are_ignored_whatever_the_rule() {
        let playbook = Playbook::from_yaml(SHIPPED).unwrap();
        let act = finding("Backdoor:Lambda/C&CActivity.B", Some(8.0));
        let sample = Finding { sample: true, ..act.clone() };
        let archived = Finding { archived: true, ..act };
        for finding in [sample, archived] {
            assert_eq!(playbook.decide(&finding, Mode::Enforce).0.decision, Decision::Ignore);
        }
        let bare = finding("Backdoor:Lambda/C&CActivity.B", None);
        assert_eq!(playbook.decide(&bare, Mode::Enforce).0.decision, Decision::Notify);
    }

    #[test]
    fn the_ceiling_of_the_stack_holds_the_effective_decision_down() {
        let playbook = Playbook::from_yaml(SHIPPED).unwrap();
        let act = finding("Backdoor:Lambda/C&CActivity.B", Some(8.0));
        let under = |mode| playbook.decide(&act, mode).0;
        assert_eq!(under(Mode::Observe).effective, Decision::Notify);
        assert_eq!(under(Mode::Observe).decision, Decision::Act);
        assert_eq!(under(Mode::Approve).effective, Decision::Approve);
        assert_eq!(under(Mode::Enforce).effective, Decision::Act);
    }

    #[test]
    fn a_wrong_playbook_is_refused_and_the_key_is_named() {
        let base = "version: 1\nmode: enforce\nresponse: [quarantine]\nbreaker: {per_hour: 5}\nrules: []\n";
        assert!(Playbook::from_yaml(base).is_ok());
        let rule = |rest: &str| base.replace("rules: []", &format!("rules:\n  - {{name: a, types: ['*'], {rest}}}"));
        for (text, names) in [
            (base.replace("mode:", "moode:"), "moode"),
            (base.replace("version: 1", "version: 2"), "version 2"),
            (base.replace("per_hour", "per_day"), "per_day"),
            (base.replace("[quarantine]", "[isolate, recycle]"), "choose one"),
            (base.replace("[quarantine]", "[]"), "empty"),
            (base.replace("[quarantine]", "[recycle]"), "without `revoke`"),
            (rule("decision: shoot"), "shoot"),
            (rule("decision: act, severity: 7"), "severity"),
            (rule("decision: act, min_severity: 70"), "between 0 and 10"),
            (String::new(), "playbook"),
            ("- 1\n".to_owned(), "playbook"),
        ] {
            let error = Playbook::from_yaml(&text).unwrap_err().to_string();
            assert!(error.contains(names), "{text}\n{error}");
        }
    }

    #[test]
    fn the_digest_changes_with_the_text() {
        let a = Playbook::from_yaml(SHIPPED).unwrap();
        let b = Playbook::from_yaml(&format!("{SHIPPED}\n# a remark\n")).unwrap();
        assert_ne!(a.digest(), b.digest());
        assert_eq!(a.digest().len(), 64);
    }

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
