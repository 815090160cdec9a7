//! What is to be done about each subject of a finding: the playbook's ruling, held down by guard rails and by who else
//! uses the role. The same judgement in the function and in `firebreak explain`.

use crate::decision::{Decision, Mode, Verdict};
use crate::finding::{Finding, Lookup, Subject};
use crate::guard::{Rails, Veto};
use crate::ids::{AccessKeyId, FunctionArn};
use crate::playbook::{Playbook, Ruling};
use crate::principal::Principal;

/// Who judges.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The playbook.
    pub playbook: &'a Playbook,
    /// The guard rails.
    pub rails: Rails<'a>,
    /// The stack's ceiling over the playbook's modes.
    pub ceiling: Mode,
}

/// A judgement about one subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The playbook's ruling.
    pub ruling: Ruling,
    /// What follows from it.
    pub course: Course,
}

/// What follows from a ruling.
#[derive(Debug, Clone, PartialEq)]
pub enum Course {
    /// The principal is contained, or a person is asked, as the verdict says.
    Contain {
        /// Whom.
        principal: Principal,
        /// The access key that the finding names.
        access_key: Option<AccessKeyId>,
        /// The functions that are touched with it.
        functions: Vec<FunctionArn>,
        /// The functions that guard rails keep from being touched, with the reason.
        spared: Vec<(FunctionArn, Veto)>,
    },
    /// The principal must be found first; then it is judged again.
    LookUp(Lookup),
    /// The rule of the principal hangs on its path: it must be read first, then it is judged again.
    ReadPath(Principal),
    /// It is only noted, with the reason.
    Note {
        /// Whom it is about, where that is known.
        principal: Option<Principal>,
        /// The functions that run as it, as the finding names them.
        functions: Vec<FunctionArn>,
        /// Why nothing is done.
        reason: String,
    },
}

impl Course {
    /// Nothing is done, and nobody is known whom it would be done to.
    pub fn note(reason: String) -> Self {
        Self::Note { principal: None, functions: Vec::new(), reason }
    }
}

impl Judgement {
    /// What is done: a finding that is only noted goes no further than a page.
    pub fn decision(&self) -> Decision {
        let effective = self.ruling.verdict.effective;
        match self.course {
            Course::Note { .. } => effective.min(Decision::Notify),
            Course::Contain { .. } | Course::LookUp(_) | Course::ReadPath(_) => effective,
        }
    }
}

impl Judge<'_> {
    /// Judges one subject. `users` is how many functions, instance profiles and task definitions run as its role,
    /// where that is known.
    pub fn judge(&self, finding: &Finding, subject: &Subject, users: Option<usize>) -> Judgement {
        let named = match subject {
            Subject::Principal { principal, .. } => Some(principal),
            Subject::Lookup { .. } | Subject::NotContainable { .. } => None,
        };
        let mut ruling = self.playbook.decide(finding, named, self.ceiling);
        if let Some(users) = users {
            ruling = self.playbook.ask_if_shared(ruling, users);
        }
        let course = self.course(&ruling, subject);
        Judgement { ruling, course }
    }

    fn course(&self, ruling: &Ruling, subject: &Subject) -> Course {
        let Verdict { decision, effective, reason, .. } = &ruling.verdict;
        // Where the mode holds a decision down, the record still says whom it would have been about. What hangs on a path
        // may rise when it is read.
        let opens = decision.opens_incident() || ruling.passed_over.is_some();
        match subject {
            Subject::NotContainable { what, reason, .. } => {
                Course::Note { principal: None, functions: Vec::new(), reason: format!("`{what}`: {reason}") }
            }
            Subject::Lookup { lookup, .. } if opens => Course::LookUp(lookup.clone()),
            Subject::Lookup { lookup, .. } => {
                let functions = lookup.function().cloned().into_iter().collect();
                Course::Note { principal: None, functions, reason: reason.clone() }
            }
            Subject::Principal { principal, access_key, function } => {
                let functions: Vec<FunctionArn> = function.iter().cloned().collect();
                let note = |reason: String| Course::Note {
                    principal: Some(principal.clone()),
                    functions: functions.clone(),
                    reason,
                };
                if opens && let Err(veto) = self.rails.on_name(principal) {
                    return note(format!("protected: {veto}"));
                }
                if ruling.passed_over.is_some() && principal.path().is_none() {
                    return Course::ReadPath(principal.clone());
                }
                if !effective.opens_incident() {
                    return note(reason.clone());
                }
                let (functions, spared) = self.spare(functions);
                Course::Contain { principal: principal.clone(), access_key: access_key.clone(), functions, spared }
            }
        }
    }

    /// Parts the functions that may be touched from those that guard rails keep.
    fn spare(&self, functions: Vec<FunctionArn>) -> (Vec<FunctionArn>, Vec<(FunctionArn, Veto)>) {
        let mut touched = Vec::new();
        let mut spared = Vec::new();
        for function in functions {
            match self.rails.on_function(&function) {
                Ok(()) => touched.push(function),
                Err(veto) => spared.push((function, veto)),
            }
        }
        (touched, spared)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::finding::{Format, Source};
    use crate::ids::Partition;
    use crate::principal::Home;

    const SHIPPED: &str = include_str!("../../../playbook.yaml");

    fn judge(finding_type: &str, subject: &Subject, ceiling: Mode, users: Option<usize>) -> Judgement {
        let playbook = Playbook::from_yaml(SHIPPED).unwrap();
        let home = Home { partition: Partition::Aws, account: "111122223333".parse().unwrap() };
        let rails =
            Rails { home: &home, stack: "firebreak", protected: &playbook.protected, deployers: &[], source: None };
        let finding = Finding {
            severity: Some(8.0),
            account: Some(home.account.clone()),
            ..Finding::new("f", finding_type, Source::GuardDuty, Format::GuardDuty)
        };
        Judge { playbook: &playbook, rails, ceiling }.judge(&finding, subject, users)
    }

    fn role(arn: &str) -> Subject {
        let function = "arn:aws:lambda:eu-west-1:111122223333:function:firebreak-revoke-sessions".parse().unwrap();
        Subject::Principal { principal: Principal::from_arn(arn).unwrap(), access_key: None, function: Some(function) }
    }

    fn profile() -> Subject {
        let arn = "arn:aws:iam::111122223333:instance-profile/web".parse().unwrap();
        Subject::Lookup { lookup: Lookup::InstanceProfile { arn }, access_key: None }
    }

    const C2: &str = "Backdoor:Lambda/C&CActivity.B";
    const ORDERS: &str = "arn:aws:iam::111122223333:role/orders";

    #[test]
    fn a_principal_is_contained_and_the_functions_that_rails_protect_are_spared() {
        let judgement = judge(C2, &role(ORDERS), Mode::Enforce, None);
        assert_eq!(judgement.decision(), Decision::Act);
        let Course::Contain { functions, spared, .. } = judgement.course else { unreachable!() };
        assert_eq!((functions.len(), spared.len()), (0, 1), "{spared:?}");
    }

    #[test]
    fn what_is_protected_is_only_noted_and_the_reason_is_the_rails() {
        let judgement = judge(C2, &role("arn:aws:iam::444455556666:role/orders"), Mode::Enforce, None);
        assert_eq!(judgement.decision(), Decision::Notify);
        assert!(matches!(&judgement.course, Course::Note { reason, .. } if reason.contains("only in its own")));
    }

    #[test]
    fn whom_it_would_be_about_is_looked_up_in_every_mode_and_only_where_it_matters() {
        let runtime = "Backdoor:Runtime/C&CActivity.B";
        for mode in [Mode::Observe, Mode::Approve, Mode::Enforce] {
            let judgement = judge(runtime, &profile(), mode, None);
            assert!(matches!(judgement.course, Course::LookUp(_)), "{mode}");
            assert_eq!(judgement.decision(), Decision::Approve.under(mode));
        }
        let noted = judge("Discovery:Runtime/SuspiciousCommand.X", &profile(), Mode::Enforce, None);
        assert!(matches!(noted.course, Course::LookUp(_)), "a high runtime finding is looked up");
        let noted = judge("Discovery:IAMUser/AnomalousBehavior", &profile(), Mode::Enforce, None);
        assert!(matches!(noted.course, Course::Note { .. }));
        let observed = judge(C2, &role(ORDERS), Mode::Observe, None);
        assert!(matches!(&observed.course, Course::Note { principal: Some(_), .. }));
    }

    #[test]
    fn a_shared_role_waits_for_a_person() {
        assert_eq!(judge(C2, &role(ORDERS), Mode::Enforce, Some(1)).decision(), Decision::Act);
        assert_eq!(judge(C2, &role(ORDERS), Mode::Enforce, Some(2)).decision(), Decision::Approve);
    }
}
