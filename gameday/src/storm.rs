//! A storm: thousands of findings about hundreds of principals, repeated and shuffled, through several processes of the
//! real functions, while AWS throttles, fails, loses answers and drops connections.
//!
//! Deliveries are made as Lambda makes them: what fails is tried twice more, then waits in the queue of failures, from
//! where it is sent through again. (Lambda waits a minute and two between its tries; here a try goes to the end of the
//! queue.) Each `Containment Ordered` reaches `revoke-sessions` as often as a finding reaches `quarantine-principal`.

pub mod balance;
mod call;
pub mod faults;
pub mod process;
pub mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use firebreak_model::action::FunctionName;
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::aws::{ACCOUNT, Aws, REGION};
use crate::deploy::{self, Stack};
use crate::emulator::Emulator;
use crate::findings::{self, INSTANCE, RoleSession};
use crate::ledger::Book;
use crate::scene::{Role, User};
use crate::theatre::Settings;
use balance::{Balance, Invocation};
use faults::{Proxy, Weather, draw};
use process::{Ended, Function, Program, lay_out};
use report::{Ends, Report};

/// How large a storm is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Different findings.
    pub findings: usize,
    /// Principals that they are about: every fifth a user, the others roles.
    pub principals: usize,
    /// How often each is delivered.
    pub copies: usize,
    /// Processes of `quarantine-principal`; a quarter as many of `revoke-sessions`.
    pub processes: usize,
    /// What stands in the way.
    pub weather: Weather,
    /// New containments that the circuit breaker lets through an hour; the shipped figure where there is none.
    pub breaker: Option<u32>,
}

/// Which principal, and what is known of it.
#[derive(Debug, Clone)]
enum Principal {
    Role(Role),
    User(User),
}

/// What one delivery hands to a function.
#[derive(Debug, Clone)]
struct Delivery {
    id: String,
    to: FunctionName,
    event: Arc<str>,
    /// The principal, where the finding alone is reason enough to contain it.
    acts_on: Option<usize>,
    tries: u32,
}

/// Tries that Lambda makes of an event.
const TRIES: u32 = 3;

/// What an invocation says that denied without a record.
const WITHOUT_RECORD: &str = "is denied everything, read back, but the ledger does not answer";

/// How often the queue of failures is sent through again, at most.
const REDRIVES: usize = 10;

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<FunctionName, VecDeque<Delivery>>,
    running: usize,
    failed: Vec<Delivery>,
    ordered: BTreeSet<String>,
    invocations: Vec<Invocation>,
    ends: Ends,
    /// When a finding that is reason enough was first handed to a process, by principal.
    handed: BTreeMap<usize, Instant>,
}

/// What a process is to do next.
enum Next {
    Deliver(Box<Delivery>),
    Wait,
    End,
}

struct Storm<'a> {
    size: Size,
    state: Mutex<State>,
    tell: &'a dyn Fn(&str),
}

/// Has the storm rage over a stack of its own.
///
/// # Errors
/// Where the scene cannot be set, or a process cannot be started.
pub async fn rage(settings: &Settings, size: Size, tell: &dyn Fn(&str)) -> Result<Report> {
    let emulator = Emulator::start_without_trail(&settings.emulator).await?;
    let aws = Aws::operator(emulator.endpoint(), REGION);
    tell("deploying the template");
    let url = deploy::upload(&aws, &settings.template, &settings.functions).await?;
    let stack = deploy::create(&aws, &url, "firebreak", &deploy::parameters("enforce")).await?;
    still_the_stream(&aws, &stack).await?;
    tell(&format!("setting up {} principals", size.principals));
    let principals = principals(&aws, size.principals).await?;
    let mut deliveries = Vec::new();
    for number in 0..size.findings {
        let (event, acts_on) = finding(&aws, &principals, number)?;
        for copy in 0..size.copies {
            let id = format!("00000000-0000-4000-8000-{:012x}", number * size.copies + copy);
            let to = FunctionName::QuarantinePrincipal;
            deliveries.push(Delivery { id, to, event: event.clone(), acts_on, tries: 0 });
        }
    }
    shuffle(&mut deliveries, size.weather.seed);

    let place = tempfile::tempdir()?;
    let proxy = Proxy::new(&aws.endpoint, size.weather);
    let mut workers = Vec::new();
    for (function, count) in [
        (FunctionName::QuarantinePrincipal, size.processes),
        (FunctionName::RevokeSessions, size.processes.div_ceil(4)),
    ] {
        let program = program(&aws, &stack, settings, function, place.path(), size.breaker).await?;
        for _ in 0..count {
            let caller = workers.len();
            workers.push((caller, function, Function::new(&program, proxy.open(caller).await?)));
        }
    }
    let state =
        State { waiting: BTreeMap::from([(FunctionName::QuarantinePrincipal, deliveries.into())]), ..State::default() };
    let storm = Storm { size, state: Mutex::new(state), tell };
    let load = report::load();
    tell(&format!("{} deliveries to {} processes", size.findings * size.copies, workers.len()));
    let began = Instant::now();
    try_join_all(workers.into_iter().map(|(caller, to, function)| storm.work(caller, to, function))).await?;
    let took = began.elapsed();

    tell("looking at what is left");
    let State { invocations, ends, handed, failed, .. } =
        storm.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let balance = Balance::of(&proxy.changes(), &proxy.struck(), &invocations);
    let to_deny = principals.iter().enumerate().filter_map(|(number, principal)| {
        let denied = balance.first("Attach", &principal.resource())?;
        Some(denied.saturating_duration_since(*handed.get(&number)?))
    });
    let mut report = Report {
        size,
        load,
        took,
        ends,
        to_deny: to_deny.collect(),
        calls: proxy.calls(),
        balance,
        lost: failed.len(),
        ..Report::default_of(size)
    };
    report.to_deny.sort_unstable();
    report.judge(&Book::read(&aws, &stack).await?, &denied(&aws, &stack).await?);
    Ok(report)
}

impl Storm<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, to: FunctionName) -> Next {
        let mut state = self.state();
        if let Some(delivery) = state.waiting.get_mut(&to).and_then(VecDeque::pop_front) {
            state.running += 1;
            if let Some(principal) = delivery.acts_on {
                state.handed.entry(principal).or_insert_with(Instant::now);
            }
            return Next::Deliver(Box::new(delivery));
        }
        if state.running > 0 || state.waiting.values().any(|queue| !queue.is_empty()) {
            return Next::Wait;
        }
        if state.failed.is_empty() || state.ends.redrives >= REDRIVES {
            return Next::End;
        }
        state.ends.redrives += 1;
        let failed = std::mem::take(&mut state.failed);
        state.ends.redriven += failed.len();
        for delivery in failed {
            state.waiting.entry(delivery.to).or_default().push_back(Delivery { tries: 0, ..delivery });
        }
        Next::Wait
    }

    async fn work(&self, caller: usize, to: FunctionName, mut function: Function) -> Result<()> {
        loop {
            match self.next(to) {
                Next::End => return Ok(()),
                Next::Wait => tokio::time::sleep(Duration::from_millis(20)).await,
                Next::Deliver(delivery) => {
                    let began = Instant::now();
                    let ended = function.invoke(&delivery.id, &delivery.event).await?;
                    self.ended(*delivery, ended, Invocation { caller, began });
                }
            }
        }
    }

    fn ended(&self, delivery: Delivery, ended: Ended, invocation: Invocation) {
        let mut state = self.state();
        state.running -= 1;
        state.invocations.push(invocation);
        state.ends.invocations += 1;
        if state.ends.invocations.is_multiple_of(1000) {
            let waiting: usize = state.waiting.values().map(VecDeque::len).sum();
            (self.tell)(&format!("{} invocations, {waiting} deliveries wait", state.ends.invocations));
        }
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = match ended {
            Ended::Answered(answer) => {
                let outcome = text(&answer, "outcome");
                let id = text(&answer, "incident_id");
                if delivery.to == FunctionName::QuarantinePrincipal
                    && outcome == "contained"
                    && state.ordered.insert(id.clone())
                {
                    let order: Arc<str> = order(&id).into();
                    let number = state.ordered.len();
                    let to = FunctionName::RevokeSessions;
                    for copy in 0..self.size.copies {
                        let id = format!("00000000-0000-4000-8000-f{number:010x}{copy:x}");
                        let delivery = Delivery { id, to, event: order.clone(), acts_on: None, tries: 0 };
                        state.waiting.entry(to).or_default().push_back(delivery);
                    }
                }
                outcome
            }
            failure => {
                let tries = delivery.tries + 1;
                let again = Delivery { tries, ..delivery };
                if tries < TRIES {
                    state.waiting.entry(again.to).or_default().push_back(again);
                } else {
                    state.ends.into_the_queue += 1;
                    state.failed.push(again);
                }
                match failure {
                    Ended::Failed(error) => {
                        let (name, said) = (text(&error, "errorType"), text(&error, "errorMessage"));
                        state.ends.without_record += usize::from(said.contains(WITHOUT_RECORD));
                        state.ends.said.entry(name.clone()).or_insert(said);
                        name
                    }
                    _ => "killed".to_owned(),
                }
            }
        };
        *state.ends.by_name.entry(name).or_default() += 1;
    }
}

impl Principal {
    /// As the calls about it name it.
    fn resource(&self) -> String {
        match self {
            Self::Role(role) => format!("role/{}", role.name),
            Self::User(user) => format!("user/{}", user.name),
        }
    }
}

/// Nothing but this program invokes the functions.
async fn still_the_stream(aws: &Aws, stack: &Stack) -> Result<()> {
    let publisher = stack.function(FunctionName::PublishOutcomes);
    let mappings = aws.lambda.list_event_source_mappings().function_name(publisher).send().await?;
    for mapping in mappings.event_source_mappings() {
        aws.lambda.delete_event_source_mapping().uuid(mapping.uuid().unwrap_or_default()).send().await?;
    }
    Ok(())
}

async fn principals(aws: &Aws, count: usize) -> Result<Vec<Principal>> {
    let mut principals = Vec::new();
    for number in 0..count {
        let name = format!("storm-{number}");
        principals.push(if number % 5 == 4 {
            Principal::User(User::create(aws, &name, "/storm/").await?)
        } else {
            Principal::Role(Role::create(aws, &name, "/storm/").await?)
        });
    }
    Ok(principals)
}

/// A finding about one of the principals, and which it is where the finding alone is reason enough to contain it. Every
/// fourth about a role is not: a person would have to approve.
fn finding(aws: &Aws, principals: &[Principal], number: usize) -> Result<(Arc<str>, Option<usize>)> {
    let of = number % principals.len().max(1);
    let principal = principals.get(of).context("a storm is about somebody")?;
    let cheap = (number / principals.len()) % 4 == 3;
    let (mut detail, acts) = match principal {
        Principal::Role(role) => {
            let access_key = &format!("ASIAEXAMPLE{number:09}");
            let session = RoleSession { role: &role.name, role_id: &role.id, session: INSTANCE, access_key };
            if cheap {
                (findings::access_key_of_instance_inside_aws(aws, &session)?, false)
            } else {
                (findings::access_key_of_instance(aws, &session)?, true)
            }
        }
        Principal::User(user) => {
            let key = user.keys.first().context("the user has no key")?;
            (findings::access_key_of_user(aws, &user.name, &user.id, key.access_key_id())?, true)
        }
    };
    if let Some(id) = detail.get_mut("id") {
        *id = json!(format!("{number:032x}"));
    }
    let event = findings::delivered(number, &detail);
    Ok((event.to_string().into(), acts.then_some(of)))
}

fn order(incident: &str) -> String {
    json!({"version": "0", "id": incident, "detail-type": "Containment Ordered", "source": "firebreak",
        "account": ACCOUNT, "time": "2026-11-21T03:00:00Z", "region": REGION, "resources": [],
        "detail": {"incident_id": incident}})
    .to_string()
}

/// Fisher and Yates, by the seed.
fn shuffle<T>(all: &mut [T], seed: u64) {
    for last in (1..all.len()).rev() {
        let drawn = draw(seed ^ 0x5707, last as u64) % (last as u64 + 1);
        all.swap(last, usize::try_from(drawn).unwrap_or(last));
    }
}

/// The function as it is deployed, with the playbook of the storm.
async fn program(
    aws: &Aws,
    stack: &Stack,
    settings: &Settings,
    function: FunctionName,
    place: &Path,
    breaker: Option<u32>,
) -> Result<Program> {
    let deployed = aws.lambda.get_function_configuration().function_name(stack.function(function)).send().await?;
    let variables = deployed.environment().and_then(|e| e.variables().cloned());
    let place = place.join(function.as_str());
    lay_out(&settings.functions.join(format!("{function}.zip")), &place)?;
    let playbook = place.join("playbook.yaml");
    if playbook.exists() {
        std::fs::write(&playbook, of_the_storm(&std::fs::read_to_string(&playbook)?, breaker)?)?;
    }
    Ok(Program {
        name: function.to_string(),
        place,
        environment: variables.context("the function has no environment")?,
        timeout: Duration::from_secs(u64::try_from(deployed.timeout().unwrap_or(60)).unwrap_or(60)),
    })
}

/// The shipped playbook with another answer, and another breaker where one is given.
fn of_the_storm(playbook: &str, breaker: Option<u32>) -> Result<String> {
    let (response, per_hour) = ("response: [quarantine, isolate, snapshot]\n", "  per_hour: 10\n");
    ensure!(
        playbook.matches(response).count() == 1 && playbook.matches(per_hour).count() == 1,
        "the playbook does not hold `{}` and `{}` once each",
        response.trim(),
        per_hour.trim()
    );
    let figure = breaker.map_or_else(|| per_hour.to_owned(), |figure| format!("  per_hour: {figure}\n"));
    Ok(playbook.replace(response, "response: [quarantine, revoke]\n").replace(per_hour, &figure))
}

/// The principals that the deny policy is attached to.
async fn denied(aws: &Aws, stack: &Stack) -> Result<BTreeSet<String>> {
    let policy = format!("policy/{}", stack.output("DenyPolicyArn")?.rsplit("policy/").next().unwrap_or_default());
    let mut denied = BTreeSet::new();
    let mut marker: Option<String> = None;
    loop {
        let answer = aws.iam.get_account_authorization_details().set_marker(marker).send().await?;
        let is_ours = |arn: Option<&str>| arn.is_some_and(|arn| arn.ends_with(&policy));
        for role in answer.role_detail_list() {
            if role.attached_managed_policies().iter().any(|p| is_ours(p.policy_arn())) {
                denied.insert(format!("role/{}", role.role_name().unwrap_or_default()));
            }
        }
        for user in answer.user_detail_list() {
            if user.attached_managed_policies().iter().any(|p| is_ours(p.policy_arn())) {
                denied.insert(format!("user/{}", user.user_name().unwrap_or_default()));
            }
        }
        marker = answer.marker().map(str::to_owned);
        if !answer.is_truncated() || marker.is_none() {
            return Ok(denied);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_playbook_of_the_storm_is_the_shipped_one_but_for_two_lines() {
        let shipped = include_str!("../../playbook.yaml");
        let playbook = of_the_storm(shipped, Some(100_000)).unwrap();
        let changed = shipped.lines().zip(playbook.lines()).filter(|(a, b)| a != b).count();
        assert_eq!(changed, 2);
        firebreak_model::playbook::Playbook::from_yaml(&playbook).unwrap();
        assert!(of_the_storm("mode: enforce\n", None).is_err());
    }

    #[test]
    fn a_shuffle_loses_nothing_and_follows_from_the_seed() {
        let shuffled = |seed| {
            let mut all: Vec<usize> = (0..100).collect();
            shuffle(&mut all, seed);
            all
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
