//! What the playbook says about a finding and one of its subjects; before any guard rail.

use super::{CallerIs, Glob, Playbook, Rule};
use crate::action::Response;
use crate::decision::{Decision, Mode, Verdict};
use crate::finding::{Finding, Format, Nature};
use crate::ids::FunctionArn;
use crate::principal::Principal;
use crate::usage::Usage;

/// What the playbook says: the verdict, and what containing means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// The verdict.
    pub verdict: Verdict,
    /// The response of the rule, or the playbook's.
    pub response: Vec<Response>,
    /// A rule that would have come first, had the principal's path been known and matched: read the path and ask again.
    pub passed_over: Option<String>,
}

/// Whether a rule is for a finding.
enum Fit {
    Yes,
    No,
    /// It depends on the principal's path, which is not known.
    Unknown,
}

impl Playbook {
    /// What the playbook says about a finding, under the stack's ceiling. Rules on accounts and principals are about
    /// `principal`; where it, or its path, is not known, they do not match.
    pub fn decide(&self, finding: &Finding, principal: Option<&Principal>, ceiling: Mode) -> Ruling {
        let mode = self.mode.min(ceiling);
        let built_in = |decision: Decision, rule: &str, reason: String| Ruling {
            verdict: verdict(decision, mode, rule, reason),
            response: self.response.clone(),
            passed_over: None,
        };
        if finding.sample {
            return built_in(Decision::Ignore, "sample", "the finding is a generated sample".to_owned());
        }
        if finding.archived {
            return built_in(
                Decision::Ignore,
                "archived",
                "the finding is archived, suppressed or resolved".to_owned(),
            );
        }
        if finding.nature == Nature::Posture {
            let reason = "the finding says how something is configured or built, not that anyone was there";
            return built_in(Decision::Notify, "posture", reason.to_owned());
        }
        let by_hand = finding.custom_action.is_some();
        if finding.severity.is_none() && finding.format != Format::CloudTrail && !by_hand {
            return built_in(Decision::Notify, "no-severity", "the finding has no severity".to_owned());
        }
        let severity = finding.severity.map_or("without severity".to_owned(), |s| format!("at severity {s}"));
        let mut passed_over = None;
        let matching = self.rules.iter().find(|rule| match self.fit(rule, finding, principal) {
            Fit::Yes => true,
            Fit::No => false,
            Fit::Unknown => {
                passed_over.get_or_insert(rule.name.clone());
                false
            }
        });
        let unless = passed_over
            .as_ref()
            .map(|name| format!("; rule `{name}` was passed over, because the principal's path is not known"))
            .unwrap_or_default();
        let Some(rule) = matching else {
            let reason = format!("no rule is for `{}` {severity}{unless}", finding.finding_type);
            return Ruling { passed_over, ..built_in(Decision::Notify, "no-rule", reason) };
        };
        let mode = rule.mode.unwrap_or(self.mode).min(ceiling);
        let reason =
            format!("rule `{}` says {} for `{}` {severity}{unless}", rule.name, rule.decision, finding.finding_type);
        let response = rule.response.clone().unwrap_or_else(|| self.response.clone());
        if rule.decision.opens_incident() && rule.custom_actions.is_none() && !self.trusts(finding) {
            let product = finding.product.as_deref().unwrap_or("no product");
            let reason = format!("{reason}; but anyone in the account may import findings as `{product}`");
            return Ruling {
                verdict: verdict(Decision::Notify, mode, "untrusted-product", reason),
                response,
                passed_over,
            };
        }
        Ruling { verdict: verdict(rule.decision, mode, &rule.name, reason), response, passed_over }
    }

    /// The ruling on a principal that `users` functions, instance profiles and task definitions run as: one that is
    /// shared is not denied unasked.
    #[must_use]
    pub fn ask_if_shared(&self, mut ruling: Ruling, users: usize) -> Ruling {
        if ruling.verdict.decision == Decision::Act
            && let Some(why) = self.asks_about(users)
        {
            let Verdict { mode, rule, reason, .. } = ruling.verdict;
            ruling.verdict = verdict(Decision::Approve, mode, &rule, format!("{reason}; but {why}"));
        }
        ruling
    }

    /// Why a person is asked before a role is denied that so many run as; `None` where nobody needs to be.
    pub fn asks_about(&self, users: usize) -> Option<String> {
        let most = self.shared_roles.ask_above;
        (users > most).then(|| format!("{users} share the role, more than {most}: a person is asked first"))
    }

    /// The functions that are touched with a role where a finding or a request names none: those that are known to run as
    /// it, unless so many do that a person is asked about it.
    pub fn known_to_run(&self, usage: &Usage, named: &[FunctionArn]) -> Vec<FunctionArn> {
        if named.is_empty() && self.asks_about(usage.count).is_none() {
            usage.functions().collect()
        } else {
            Vec::new()
        }
    }

    /// Whether what the finding says may be acted on. Only Security Hub carries what others imported.
    fn trusts(&self, finding: &Finding) -> bool {
        match finding.format {
            Format::GuardDuty | Format::CloudTrail => true,
            Format::Asff | Format::Ocsf => {
                finding.product.as_ref().is_some_and(|product| any(&self.trusted_products, product))
            }
        }
    }

    fn fit(&self, rule: &Rule, finding: &Finding, principal: Option<&Principal>) -> Fit {
        let account = principal.map(|p| &p.account).or(finding.account.as_ref());
        let met = any(&rule.types, &finding.finding_type)
            && rule.min_severity.is_none_or(|least| finding.severity.is_some_and(|s| s >= least))
            && rule
                .resource_types
                .as_ref()
                .is_none_or(|globs| finding.resource_types.iter().any(|kind| any(globs, kind)))
            && rule.accounts.as_ref().is_none_or(|globs| account.is_some_and(|a| any(globs, a.as_str())))
            && rule
                .custom_actions
                .as_ref()
                .is_none_or(|globs| finding.custom_action.as_ref().is_some_and(|action| any(globs, action)))
            && rule.caller.is_none_or(|caller| self.caller_is(caller, finding));
        let Some(globs) = rule.principals.as_ref().filter(|_| met) else {
            return if met { Fit::Yes } else { Fit::No };
        };
        match principal.and_then(|p| Some(format!("{}{}", p.path()?, p.name.as_str()))) {
            Some(full) if any(globs, &full) => Fit::Yes,
            Some(_) => Fit::No,
            None => Fit::Unknown,
        }
    }

    fn caller_is(&self, caller: CallerIs, finding: &Finding) -> bool {
        let seen = &finding.caller;
        match caller {
            CallerIs::OwnEgress => {
                let ours = |address| self.egress.iter().any(|range| range.contains(address));
                !seen.addresses.is_empty() && seen.addresses.iter().all(ours)
            }
            CallerIs::AffiliatedAccount => seen.affiliated == Some(true),
            CallerIs::UnaffiliatedAccount => seen.affiliated == Some(false),
        }
    }
}

fn any(globs: &[Glob], text: &str) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

fn verdict(decision: Decision, mode: Mode, rule: &str, reason: String) -> Verdict {
    Verdict { decision, effective: decision.under(mode), mode, rule: rule.to_owned(), reason }
}
