//! The process killed at every call of every action: the next try ends where an undisturbed run ends.

use std::collections::BTreeMap;
use std::time::Duration;

use firebreak_model::ledger::{Incident, StepRecord, StepState};
use firebreak_model::plan::Step;
use firebreak_shared::clock;
use firebreak_shared::executor::{self, Executed};
use firebreak_shared::ledger::{Ledger, Seal};
use gameday::world::World;

use super::common::mortal::{Kill, Mortal};
use super::common::table;
use super::{Bench, changing, open, ordered_before};

/// More calls than any action makes.
const MOST: usize = 100;

/// One step of one incident, whose ledger is a table of its own.
struct Case<'a> {
    bench: &'a Bench,
    incident: &'a Incident,
    step: &'a Step,
    table: String,
}

impl<'a> Case<'a> {
    async fn new(bench: &'a Bench, (incident, step): &'a (Incident, Step), table: &str) -> Self {
        table::create(&bench.aws, table).await;
        let case = Self { bench, incident, step, table: table.to_owned() };
        open(&case.ledger(&Mortal::undisturbed()), incident).await;
        case
    }

    fn ledger(&self, process: &Mortal) -> Ledger {
        Ledger::new(
            aws_sdk_dynamodb::Client::new(&process.config(&self.bench.aws.config)),
            self.table.clone(),
            Seal::none(),
        )
    }

    /// Executes the step once, as an invocation does; `None` where it was killed.
    async fn execute(&self, process: &Mortal) -> Option<Executed> {
        let action = self.bench.action_with(self.step.action, &process.config(&self.bench.aws.config));
        let ledger = self.ledger(process);
        process.live(executor::execute(&ledger, self.incident, self.step, action.as_ref())).await.map(Result::unwrap)
    }

    /// Reverts it once, from what is on record; `None` where it was killed.
    async fn revert(&self, process: &Mortal) -> Option<Executed> {
        let action = self.bench.action_with(self.step.action, &process.config(&self.bench.aws.config));
        let ledger = self.ledger(process);
        let fresh = self.incident.step_record(self.step, clock::now());
        let work = async {
            let record: StepRecord = ledger.step(&fresh).await.unwrap().expect("the step is on record");
            executor::revert(&ledger, self.incident, record, action.as_ref()).await.unwrap()
        };
        process.live(work).await
    }

    /// What is left: the world and the ledger, but for times.
    async fn left(&self) -> (World, BTreeMap<String, String>) {
        (self.bench.look().await.without_times(), table::records(&self.bench.aws, &self.table).await)
    }

    /// As Lambda and its queues do: again, until it has come to its end.
    async fn until(&self, end: StepState) {
        for _ in 0..40 {
            let done = match end {
                StepState::Applied => self.execute(&Mortal::undisturbed()).await,
                _ => self.revert(&Mortal::undisturbed()).await,
            };
            if done.expect("nobody kills it").record.state == end {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("`{}` did not come to `{end}`", self.step.key());
    }
}

/// Both must be the same.
fn same(one: &(World, BTreeMap<String, String>), other: &(World, BTreeMap<String, String>), told: &str) {
    assert_eq!(one.0.changes(&other.0), Vec::<String>::new(), "the world: {told}");
    assert_eq!(table::differences(&one.1, &other.1), Vec::<String>::new(), "the ledger: {told}");
}

#[tokio::test]
async fn killed_at_any_call_of_any_action_the_next_try_ends_as_an_undisturbed_run() {
    let bench = Bench::set_up().await;
    for id in changing() {
        let of = ordered_before(&bench, id);
        let before = bench.look().await;
        let whole = Case::new(&bench, &of, &format!("{id}-whole")).await;
        whole.until(StepState::Applied).await;
        let applied = whole.left().await;
        assert_ne!(before.changes(&applied.0), Vec::<String>::new(), "`{id}` changes nothing");
        whole.until(StepState::Reverted).await;
        let reverted = whole.left().await;

        let mut survived = None;
        for call in 0..MOST {
            for kill in Kill::at(call) {
                let told = format!("`{id}`, {kill:?}");
                let case = Case::new(&bench, &of, &format!("{id}-{kill:?}").replace(['(', ')'], "-")).await;
                if case.execute(&Mortal::killed(kill)).await.is_some() {
                    survived = Some(call);
                }
                case.until(StepState::Applied).await;
                same(&applied, &case.left().await, &told);
                case.until(StepState::Reverted).await;
                same(&reverted, &case.left().await, &format!("{told}, then reverted"));
                assert_eq!(before.changes(&bench.look().await), Vec::<String>::new(), "{told}, then reverted");
            }
            if survived.is_some() {
                break;
            }
        }
        // It reads the ledger, changes something, reads it back, and records it: at least.
        assert!(survived.is_some_and(|calls| calls >= 4), "`{id}` was killed at {survived:?} calls");
    }
}

#[tokio::test]
async fn killed_at_any_call_of_its_undoing_the_next_try_undoes_the_rest() {
    let bench = Bench::set_up().await;
    for id in changing() {
        let of = ordered_before(&bench, id);
        let before = bench.look().await;
        let whole = Case::new(&bench, &of, &format!("{id}-whole")).await;
        whole.until(StepState::Applied).await;
        whole.until(StepState::Reverted).await;
        let reverted = whole.left().await;

        let mut survived = None;
        for call in 0..MOST {
            for kill in Kill::at(call) {
                let told = format!("undoing `{id}`, {kill:?}");
                let case = Case::new(&bench, &of, &format!("{id}-{kill:?}").replace(['(', ')'], "-")).await;
                case.until(StepState::Applied).await;
                if case.revert(&Mortal::killed(kill)).await.is_some() {
                    survived = Some(call);
                }
                case.until(StepState::Reverted).await;
                same(&reverted, &case.left().await, &told);
                assert_eq!(before.changes(&bench.look().await), Vec::<String>::new(), "{told}");
            }
            if survived.is_some() {
                break;
            }
        }
        assert!(survived.is_some_and(|calls| calls >= 2), "undoing `{id}` was killed at {survived:?} calls");
    }
}
