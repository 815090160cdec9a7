//! The playbook: what to do about which finding. It ships with the stack and is checked by the code
//! that runs it; an unknown key is refused by name.

mod decide;
mod glob;

pub use decide::Ruling;
pub use glob::Glob;

use ipnet::IpNet;
use serde::Deserialize;

use crate::action::{Response, named};
use crate::decision::{Decision, Mode};
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

named!(
    /// From where a finding's calls came, as a rule asks for it.
    CallerIs {
        /// Every address that the finding names lies in the playbook's `egress`.
        OwnEgress = "own-egress",
        /// Another AWS account of the same organisation, as GuardDuty says.
        AffiliatedAccount = "affiliated-account",
        /// Another AWS account that GuardDuty says is not of the same organisation.
        UnaffiliatedAccount = "unaffiliated-account",
    }
);

/// One rule: the first that matches a finding decides. A condition that is left out is met by everything.
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
    /// Kinds of resource of which the finding names one, as it writes them: `AccessKey`, `AwsIamRole`, ….
    #[serde(default)]
    pub resource_types: Option<Vec<Glob>>,
    /// Accounts that the principal belongs to.
    #[serde(default)]
    pub accounts: Option<Vec<Glob>>,
    /// Principals: patterns on path and name together. Where the finding does not give the path, it is read first.
    #[serde(default)]
    pub principals: Option<Vec<Glob>>,
    /// From where the calls came.
    #[serde(default)]
    pub caller: Option<CallerIs>,
    /// Custom actions of Security Hub by which a person sent the finding.
    #[serde(default)]
    pub custom_actions: Option<Vec<Glob>>,
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

/// When a shared role waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedRoles {
    /// A role that more than this many functions, instance profiles and task definitions use is not denied unasked.
    pub ask_above: usize,
}

/// One function's role is its own: a second user makes it shared.
impl Default for SharedRoles {
    fn default() -> Self {
        Self { ask_above: 1 }
    }
}

/// GuardDuty alone: everything else in Security Hub may have been imported by anyone in the account.
fn only_guardduty() -> Vec<Glob> {
    crate::securityhub::GUARDDUTY.into_iter().map(Glob::from).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u32,
    mode: Mode,
    response: Vec<Response>,
    breaker: Breaker,
    #[serde(default)]
    shared_roles: SharedRoles,
    #[serde(default)]
    protected: Protected,
    #[serde(default)]
    egress: Vec<IpNet>,
    #[serde(default = "only_guardduty")]
    trusted_products: Vec<Glob>,
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
    shared_roles: SharedRoles,
    egress: Vec<IpNet>,
    trusted_products: Vec<Glob>,
    rules: Vec<Rule>,
    digest: String,
}

/// Names of rules that are built in: a rule of the playbook cannot bear them.
const BUILT_IN: [&str; 7] =
    ["no-rule", "no-severity", "sample", "archived", "posture", "malformed", "untrusted-product"];

impl Playbook {
    /// Reads and checks a playbook.
    pub fn from_yaml(text: &str) -> Result<Self, PlaybookError> {
        let wire: Wire = serde_saphyr::from_str(text).map_err(|error| PlaybookError::Yaml(error.to_string()))?;
        if wire.version != 1 {
            return Err(PlaybookError::Version(wire.version));
        }
        check_response("response", &wire.response)?;
        let everything = wire.egress.iter().any(|range| range.prefix_len() == 0);
        if everything {
            let problem = "a range of every address would excuse every thief";
            return Err(PlaybookError::Rule { rule: "egress".to_owned(), problem });
        }
        for (index, rule) in wire.rules.iter().enumerate() {
            check_rule(rule, wire.rules.get(..index).unwrap_or_default(), !wire.egress.is_empty())?;
        }
        Ok(Self {
            mode: wire.mode,
            response: wire.response,
            breaker: wire.breaker,
            protected: wire.protected,
            shared_roles: wire.shared_roles,
            egress: wire.egress,
            trusted_products: wire.trusted_products,
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
}

fn check_rule(rule: &Rule, earlier: &[Rule], egress_is_listed: bool) -> Result<(), PlaybookError> {
    let refused = |problem| Err(PlaybookError::Rule { rule: rule.name.clone(), problem });
    if rule.types.is_empty() {
        return refused("`types` is empty: it would match nothing");
    }
    if rule.name.is_empty() || rule.name.len() > 64 {
        return refused("the name must have 1 to 64 characters");
    }
    if BUILT_IN.contains(&rule.name.as_str()) {
        return refused("the name is that of a rule that is built in");
    }
    if earlier.iter().any(|earlier| earlier.name == rule.name) {
        return refused("another rule has the same name");
    }
    if rule.min_severity.is_some_and(|s| !(0.0..=10.0).contains(&s)) {
        return refused("`min_severity` must lie between 0 and 10");
    }
    let conditions = [&rule.resource_types, &rule.accounts, &rule.principals, &rule.custom_actions];
    if conditions.into_iter().flatten().any(Vec::is_empty) {
        return refused("a condition with an empty list matches nothing: leave it out");
    }
    if rule.caller == Some(CallerIs::OwnEgress) && !egress_is_listed && rule.decision > Decision::Notify {
        return refused("it asks for `own-egress`, but `egress` lists no range: it would never match");
    }
    match &rule.response {
        Some(response) => check_response(&rule.name, response),
        None => Ok(()),
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
    if wants(Response::QuarantineFunction) && !(wants(Response::Revoke) || wants(Response::Quarantine)) {
        return refused(
            "`quarantine-function` holds the function, not credentials that left it: use `revoke` beside it",
        );
    }
    if wants(Response::QuarantineFunction) && wants(Response::Recycle) {
        return refused("`recycle` beside `quarantine-function` keeps alive what is denied: use `isolate`");
    }
    if wants(Response::Recycle) && wants(Response::Quarantine) {
        return refused("`recycle` beside `quarantine` keeps nothing alive: the role is denied everything");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::decision::Verdict;
    use crate::finding::{Caller, Finding, Format, Nature, Source};
    use crate::principal::Principal;

    const SHIPPED: &str = include_str!("../../../playbook.yaml");

    fn finding(finding_type: &str, severity: Option<f64>) -> Finding {
        let finding = Finding::new("f", finding_type, Source::GuardDuty, Format::GuardDuty);
        Finding { severity, ..finding }
    }

    fn decide(finding_type: &str, severity: f64) -> Verdict {
        let playbook = Playbook::from_yaml(SHIPPED).unwrap();
        playbook.decide(&finding(finding_type, Some(severity)), None, Mode::Enforce).verdict
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
            assert_eq!(playbook.decide(&finding, None, Mode::Enforce).verdict.decision, Decision::Ignore);
        }
        let bare = finding("Backdoor:Lambda/C&CActivity.B", None);
        assert_eq!(playbook.decide(&bare, None, Mode::Enforce).verdict.decision, Decision::Notify);
    }

    #[test]
    fn the_ceiling_of_the_stack_holds_the_effective_decision_down() {
        let playbook = Playbook::from_yaml(SHIPPED).unwrap();
        let act = finding("Backdoor:Lambda/C&CActivity.B", Some(8.0));
        let under = |mode| playbook.decide(&act, None, mode).verdict;
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
            (base.replace("[quarantine]", "[quarantine-function, isolate]"), "credentials that left it"),
            (base.replace("[quarantine]", "[quarantine-function, revoke, recycle]"), "keeps alive what is denied"),
            (rule("decision: shoot"), "shoot"),
            (rule("decision: act, severity: 7"), "severity"),
            (rule("decision: act, min_severity: 70"), "between 0 and 10"),
            (rule("decision: act, principals: []"), "empty list"),
            (rule("decision: act, caller: own-egress"), "`egress` lists no range"),
            (rule("decision: act, caller: anyone"), "anyone"),
            (rule("decision: act").replace("name: a", "name: posture"), "built in"),
            (format!("{base}egress: [0.0.0.0/0]\n"), "every thief"),
            (format!("{base}egress: [203.0.113.0/33]\n"), "egress"),
            (format!("{base}shared_roles: {{most: 1}}\n"), "most"),
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

    fn playbook(rules: &str) -> Playbook {
        let text = format!(
            "version: 1\nmode: enforce\nresponse: [quarantine]\nbreaker: {{per_hour: 5}}\negress: [203.0.113.0/24, \
             '2001:db8::/32']\nrules:\n{rules}"
        );
        Playbook::from_yaml(&text).unwrap()
    }

    fn of(playbook: &Playbook, finding: &Finding, principal: Option<&Principal>) -> (Decision, String) {
        let verdict = playbook.decide(finding, principal, Mode::Enforce).verdict;
        (verdict.decision, verdict.rule)
    }

    #[test]
    fn who_called_from_where_decides_about_exfiltration() {
        let playbook = playbook(
            "  - {name: ours, types: ['*.OutsideAWS'], caller: own-egress, decision: notify}\n  - {name: strange, types: \
             ['*.InsideAWS'], caller: unaffiliated-account, decision: act}\n  - {name: rest, types: ['*'], decision: approve}\n",
        );
        let from = |addresses: &[&str]| Finding {
            caller: Caller { addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(), affiliated: None },
            ..finding("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS", Some(8.0))
        };
        for (addresses, rule) in [
            (&["203.0.113.9"] as &[&str], "ours"),
            (&["2001:db8::1", "203.0.113.9"], "ours"),
            (&["203.0.113.9", "198.51.100.7"], "rest"),
            (&["203.0.114.9"], "rest"),
            (&[], "rest"),
        ] {
            assert_eq!(of(&playbook, &from(addresses), None).1, rule, "{addresses:?}");
        }
        let inside = |affiliated| Finding {
            caller: Caller { addresses: Vec::new(), affiliated },
            ..finding("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS", Some(8.0))
        };
        for (affiliated, rule) in [(Some(false), "strange"), (Some(true), "rest"), (None, "rest")] {
            assert_eq!(of(&playbook, &inside(affiliated), None).1, rule, "{affiliated:?}");
        }
    }

    #[test]
    fn a_rule_on_principals_waits_for_the_path() {
        let playbook = playbook(
            "  - {name: payments, types: ['*'], principals: ['/payments/*'], decision: act}\n  - {name: rest, types: \
             ['*'], accounts: ['1111*'], decision: approve}\n",
        );
        let finding = finding("x", Some(8.0));
        let known = Principal::from_arn("arn:aws:iam::111122223333:role/payments/worker").unwrap();
        let elsewhere = Principal::from_arn("arn:aws:iam::111122223333:role/other/worker").unwrap();
        let unknown = Principal { arn: None, ..known.clone() };
        let foreign = Principal { account: "444455556666".parse().unwrap(), ..elsewhere.clone() };
        assert_eq!(of(&playbook, &finding, Some(&known)), (Decision::Act, "payments".into()));
        assert_eq!(of(&playbook, &finding, Some(&elsewhere)), (Decision::Approve, "rest".into()));
        assert_eq!(of(&playbook, &finding, Some(&foreign)), (Decision::Notify, "no-rule".into()));
        let ruling = playbook.decide(&finding, Some(&unknown), Mode::Enforce);
        assert_eq!((ruling.verdict.rule.as_str(), ruling.passed_over.as_deref()), ("rest", Some("payments")));
        assert_eq!(playbook.decide(&finding, Some(&known), Mode::Enforce).passed_over, None);
    }

    #[test]
    fn what_anyone_may_import_goes_no_further_than_a_page_unless_a_person_sent_it() {
        let playbook = Playbook::from_yaml(SHIPPED).unwrap();
        let guardduty = Some("arn:aws:securityhub:eu-west-1::product/aws/guardduty".to_owned());
        let own = Some("arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default".to_owned());
        let asff = |product: &Option<String>, action: Option<&str>| Finding {
            format: Format::Asff,
            product: product.clone(),
            custom_action: action.map(str::to_owned),
            ..finding("Backdoor:Lambda/C&CActivity.B", Some(8.0))
        };
        for (product, action, expected) in [
            (&guardduty, None, Decision::Act),
            (&own, None, Decision::Notify),
            (&None, None, Decision::Notify),
            (&own, Some("FirebreakContain"), Decision::Act),
            (&own, Some("SendToChat"), Decision::Notify),
            (&guardduty, Some("SendToChat"), Decision::Act),
        ] {
            assert_eq!(of(&playbook, &asff(product, action), None).0, expected, "{product:?} {action:?}");
        }
        let bare = Finding { severity: None, ..asff(&own, Some("FirebreakContain")) };
        assert_eq!(of(&playbook, &bare, None).0, Decision::Act, "a person needs no figure");
        let posture = Finding { nature: Nature::Posture, ..asff(&guardduty, Some("FirebreakContain")) };
        assert_eq!(of(&playbook, &posture, None), (Decision::Notify, "posture".into()));
    }

    #[test]
    fn a_role_that_several_use_is_asked_about() {
        let playbook = Playbook::from_yaml(SHIPPED).unwrap();
        let ruling = || playbook.decide(&finding("Backdoor:Lambda/C&CActivity.B", Some(8.0)), None, Mode::Enforce);
        for (users, decision) in [(0, Decision::Act), (1, Decision::Act), (2, Decision::Approve)] {
            let verdict = playbook.ask_if_shared(ruling(), users).verdict;
            assert_eq!((verdict.decision, verdict.effective), (decision, decision), "{users}");
        }
    }

    #[test]
    fn kinds_of_resource_can_be_asked_for() {
        let playbook = playbook("  - {name: keys, types: ['*'], resource_types: ['*AccessKey'], decision: act}\n");
        let naming = |kinds: &[&str]| Finding {
            resource_types: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            ..finding("x", Some(8.0))
        };
        assert_eq!(of(&playbook, &naming(&["AwsS3Bucket", "AwsIamAccessKey"]), None).0, Decision::Act);
        assert_eq!(of(&playbook, &naming(&["Instance"]), None).0, Decision::Notify);
        assert_eq!(of(&playbook, &naming(&[]), None).0, Decision::Notify);
    }
}
