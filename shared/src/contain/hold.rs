//! A containment that is fought over is held: what was undone once is looked at again and again for a while, and
//! applied again at once where it is gone.
//!
//! IAM takes seconds until a deny is in force, and so until its removal is. Whoever strips it twice a second can go on
//! for as long as a removal stands for longer than it takes to look again: each moment without a deny comes back, some
//! seconds later, as a moment in which the thief is free to strip the next one. Waiting for CloudTrail's event leaves
//! that moment seconds long; here it is a fraction of one, and the thief's chances die out.
//!
//! A look is one call a step, made for all steps at once, and what is gone is put back before anything else is read or
//! written but the incident's state. After as long as IAM is known to take without a change the looks become rare.

use std::time::Duration;

use firebreak_model::ledger::{Incident, StepRecord, StepState};
use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::warn;

use super::Containment;
use crate::action::{ActionError, Order, Verified};
use crate::actions;
use crate::clock;
use crate::executor::{self, Executed};
use crate::failure::Failure;
use crate::telemetry::chain;

/// How a containment is held.
#[derive(Debug, Clone, Copy)]
struct Grip {
    /// Between two looks.
    pause: Duration,
    /// So many looks in a row that find all in force, and the looks become rare.
    quiet: u32,
    /// So many rare ones then.
    rare: u32,
    /// Between two of those, and where IAM throttles.
    long_pause: Duration,
    /// So many looks at the most.
    most: u32,
    /// The function ends before its time is up, and the guard starts it again.
    longest: Duration,
}

/// Quiet for longer than IAM is known to take, at whatever pace IAM answers.
const GRIP: Grip = Grip {
    pause: Duration::from_millis(100),
    quiet: 50,
    rare: 4,
    long_pause: Duration::from_millis(800),
    most: 120,
    longest: Duration::from_secs(40),
};

impl Grip {
    /// How long to wait before the next look; `None` where it is over.
    fn next(&self, quiet: u32, looks: u32) -> Option<Duration> {
        let pause = if quiet < self.quiet { self.pause } else { self.long_pause };
        (looks < self.most && quiet < self.quiet + self.rare).then_some(pause)
    }
}

/// What a look found.
enum Sight {
    /// Everything that was applied shows.
    Whole,
    /// These do not.
    Lost(Vec<StepRecord>),
    /// It could not be seen this time.
    Unclear,
}

impl Containment {
    /// Applies what was undone again, and holds it.
    pub(super) async fn hold(&self, incident: &Incident) -> Result<Vec<Executed>, Failure> {
        self.hold_by(GRIP, incident).await
    }

    async fn hold_by(&self, grip: Grip, incident: &Incident) -> Result<Vec<Executed>, Failure> {
        let began = Instant::now();
        let mut executed = self.quarantine(incident, false).await?;
        let (mut quiet, mut looks, mut again) = (0, 0, 0_u32);
        while let Some(pause) = grip.next(quiet, looks).filter(|_| began.elapsed() < grip.longest) {
            tokio::time::sleep(pause).await;
            looks += 1;
            match self.sight(incident, &executed).await {
                Sight::Whole => quiet += 1,
                // It is no sign of quiet, and IAM has enough to do.
                Sight::Unclear => tokio::time::sleep(grip.long_pause).await,
                Sight::Lost(lost) => {
                    (quiet, again) = (0, again + 1);
                    if !self.put_back_at_once(incident, &mut executed, lost).await? {
                        break;
                    }
                }
            }
        }
        if again > 0 {
            warn!(incident.id = %incident.incident_id, again, looks, "fought over: applied again while it was held");
        }
        Ok(executed)
    }

    /// Looks at every step that was applied, at once.
    async fn sight(&self, incident: &Incident, executed: &[Executed]) -> Sight {
        // What was refused for a while is tried again like what is gone.
        let unfinished = |one: &&Executed| one.record.state == StepState::Failed && one.transient;
        let mut lost: Vec<StepRecord> = executed.iter().filter(unfinished).map(|one| one.record.clone()).collect();
        let applied = executed.iter().filter(|one| one.record.state == StepState::Applied);
        let looked = applied.map(async |one| (one.record.clone(), self.shows(incident, &one.record).await));
        let mut unclear = false;
        for (record, shown) in join_all(looked).await {
            match shown {
                Ok(Verified::NotInForce(_)) => lost.push(record),
                // What does not exist has nothing to lose.
                Ok(Verified::InForce) | Err(ActionError::Gone { .. }) => {}
                Err(error) => {
                    warn!(incident.id = %incident.incident_id, step = %record.step, "not seen: {}", chain(&error));
                    unclear = true;
                }
            }
        }
        match lost.is_empty() {
            true if unclear => Sight::Unclear,
            true => Sight::Whole,
            false => Sight::Lost(lost),
        }
    }

    async fn shows(&self, incident: &Incident, record: &StepRecord) -> Result<Verified, ActionError> {
        let Some(action) = actions::for_principal(record.action, &self.iam, &self.deny_policy_arn) else {
            return Ok(Verified::InForce);
        };
        let step = firebreak_model::plan::Step { action: record.action, target: record.target.clone() };
        let order = Order { incident, step: &step, now: clock::now() };
        action.shows(order, &executor::prior_of(record)?).await
    }

    /// Applies what is lost again, each by itself; where one is refused, the ladder is gone down. `false` where the
    /// incident is not to be held any more.
    async fn put_back_at_once(
        &self,
        incident: &Incident,
        executed: &mut Vec<Executed>,
        lost: Vec<StepRecord>,
    ) -> Result<bool, Failure> {
        let mut refused = false;
        for record in lost {
            let Some(action) = actions::for_principal(record.action, &self.iam, &self.deny_policy_arn) else {
                continue;
            };
            let key = record.step.clone();
            let Some(done) = executor::apply_again(&self.ledger, incident, record, action.as_ref()).await? else {
                return Ok(false);
            };
            refused |= done.record.state != StepState::Applied;
            if let Some(known) = executed.iter_mut().find(|one| one.record.step == key) {
                *known = done;
            }
        }
        if refused {
            *executed = self.quarantine(incident, false).await?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::action::ActionId;
    use firebreak_model::ledger::{IncidentState, Record};

    use super::*;
    use crate::contain::tests;
    use crate::evidence::testing::item;
    use crate::testing::{Answer as Wired, Wire, ok, query_error, role_order, user_order, whole_deny};

    const DENY: &str = "arn:aws:iam::111122223333:policy/deny";
    const OTHER: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    const SHORT: Grip = Grip { pause: Duration::ZERO, quiet: 2, rare: 1, long_pause: Duration::ZERO, most: 6, ..GRIP };

    fn containment(ledger: &Wire, iam: &Wire) -> Containment {
        Containment { deny_policy_arn: DENY.to_owned(), ..tests::containment(ledger, iam, iam) }
    }

    fn attached(kind: &str, arn: &str) -> Wired {
        ok(format!(
            "<ListAttached{kind}PoliciesResponse><ListAttached{kind}PoliciesResult><AttachedPolicies><member><PolicyArn>\
             {arn}</PolicyArn></member></AttachedPolicies></ListAttached{kind}PoliciesResult>\
             </ListAttached{kind}PoliciesResponse>"
        ))
    }

    /// What is read back of a quarantine that is whole.
    fn whole() -> Vec<Wired> {
        [attached("Role", DENY)].into_iter().chain(whole_deny()).collect()
    }

    fn shows(times: usize) -> Vec<Wired> {
        vec![attached("Role", DENY); times]
    }

    fn applied(incident: &Incident, action: ActionId, prior: Option<&str>) -> Wired {
        let step = firebreak_model::plan::Step { action, target: (&incident.principal.name).into() };
        let fresh = incident.step_record(&step, incident.opened_at);
        let prior = prior.map(str::to_owned);
        item(&Record::Step(Box::new(StepRecord { state: StepState::Applied, prior, ..fresh })))
    }

    fn calls(wire: &Wire) -> Vec<String> {
        let action = |request: String| {
            request.split("Action=").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or("?").to_owned()
        };
        wire.requests().into_iter().map(action).collect()
    }

    #[test]
    fn looks_are_bounded_and_become_rare() {
        let looks = |most_quiet: u32| {
            let (mut quiet, mut looks, mut waited) = (0, 0, Duration::ZERO);
            while let Some(pause) = GRIP.next(quiet, looks) {
                (looks, waited) = (looks + 1, waited + pause);
                quiet = if quiet < most_quiet { quiet + 1 } else { 0 };
            }
            (looks, waited)
        };
        let (undisturbed, waited) = looks(u32::MAX);
        assert_eq!(undisturbed, 54, "a call a step each");
        assert!(waited > Duration::from_secs(8), "longer than IAM is known to take twice: {waited:?}");
        let (fought, waited) = looks(0);
        assert_eq!(fought, 120);
        assert!(waited < GRIP.longest, "{waited:?}");
    }

    #[tokio::test]
    async fn what_nothing_disturbs_costs_one_call_a_look_and_none_of_the_ledger() {
        let (incident, _) = role_order("orders");
        let ledger = Wire::answering([applied(&incident, ActionId::QuarantineRole, None), ok("{}")]);
        let iam = Wire::answering(whole().into_iter().chain(shows(3)));
        let executed = containment(&ledger, &iam).hold_by(SHORT, &incident).await.unwrap();
        assert_eq!((executed.len(), ledger.requests().len(), iam.requests().len()), (1, 2, 6));
        assert_eq!((ledger.unused(), iam.unused()), (0, 0));
    }

    #[tokio::test]
    async fn what_is_gone_is_applied_before_anything_else_is_read_of_it() {
        let (incident, _) = role_order("orders");
        let stored = item(&Record::Incident(Box::new(incident.clone())));
        let ledger = Wire::answering([applied(&incident, ActionId::QuarantineRole, None), ok("{}"), stored, ok("{}")]);
        let again = [attached("Role", OTHER), ok("<AttachRolePolicyResponse/>")].into_iter().chain(whole());
        let iam = Wire::answering(whole().into_iter().chain(shows(1)).chain(again).chain(shows(3)));
        let executed = containment(&ledger, &iam).hold_by(SHORT, &incident).await.unwrap();
        assert_eq!((ledger.unused(), iam.unused()), (0, 0), "{:?}", calls(&iam));
        let list = "ListAttachedRolePolicies";
        assert_eq!(calls(&iam)[3..6], [list, list, "AttachRolePolicy"]);
        assert!(ledger.requests()[2].contains("GetItem"), "whether a release began is asked first");
        assert!(ledger.requests()[3].contains(r#""state":{"S":"applied"}"#), "{:?}", ledger.requests());
        assert_eq!((executed.len(), executed[0].record.attempts), (1, 1));
    }

    #[tokio::test]
    async fn a_release_lets_go() {
        let (incident, _) = role_order("orders");
        let releasing = Incident { state: IncidentState::Releasing, ..incident.clone() };
        let stored = item(&Record::Incident(Box::new(releasing)));
        let ledger = Wire::answering([applied(&incident, ActionId::QuarantineRole, None), ok("{}"), stored]);
        let iam = Wire::answering(whole().into_iter().chain([attached("Role", OTHER)]));
        containment(&ledger, &iam).hold_by(SHORT, &incident).await.unwrap();
        assert_eq!((ledger.unused(), iam.unused()), (0, 0));
        assert!(!calls(&iam).iter().any(|call| call.starts_with("Attach")), "{:?}", calls(&iam));
    }

    #[tokio::test]
    async fn where_iam_throttles_the_looks_are_bounded_all_the_same() {
        let (incident, _) = role_order("orders");
        let ledger = Wire::answering([applied(&incident, ActionId::QuarantineRole, None), ok("{}")]);
        let throttled = vec![query_error(400, "Throttling"); 9];
        let iam = Wire::answering(whole().into_iter().chain(throttled));
        containment(&ledger, &iam).hold_by(SHORT, &incident).await.unwrap();
        assert_eq!(iam.requests().len(), 3 + 6);
    }

    #[tokio::test]
    async fn a_users_keys_are_held_with_its_deny() {
        let (incident, _) = user_order("ci-bot", ActionId::QuarantineUser);
        let keys = |status: &str| {
            ok(format!(
                "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata><member><AccessKeyId>AKIAEXAMPLE0000001\
                 </AccessKeyId><Status>{status}</Status></member></AccessKeyMetadata></ListAccessKeysResult>\
                 </ListAccessKeysResponse>"
            ))
        };
        let denied = || attached("User", DENY);
        let prior = Some("[]");
        let ledger = Wire::answering([
            applied(&incident, ActionId::QuarantineUser, None),
            ok("{}"),
            applied(&incident, ActionId::DeactivateAccessKeys, prior),
            item(&Record::Incident(Box::new(incident.clone()))),
            ok("{}"),
        ]);
        let first: Vec<Wired> = [denied()].into_iter().chain(whole_deny()).chain([keys("Inactive")]).collect();
        let lost = [denied(), keys("Active"), keys("Active"), ok("<UpdateAccessKeyResponse/>"), keys("Inactive")];
        let quiet = [denied(), keys("Inactive"), denied(), keys("Inactive"), denied(), keys("Inactive")];
        let iam = Wire::answering(first.into_iter().chain(lost).chain(quiet));
        let executed = containment(&ledger, &iam).hold_by(SHORT, &incident).await.unwrap();
        assert_eq!((executed.len(), ledger.unused(), iam.unused()), (2, 0, 0), "{:?}", calls(&iam));
        assert!(calls(&iam).contains(&"UpdateAccessKey".to_owned()));
    }
}
