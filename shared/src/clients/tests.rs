//! How often each client makes a call, by what it is answered, and how long it waits in between. No time passes: waiting
//! is written down instead.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_async::time::TimeSource;

use super::*;
use crate::action::ActionError;
use crate::testing::{Answer, Wire, json_error, ok, query_error};

/// Whether time-outs come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum TimeOuts {
    Never,
    AtOnce,
}

/// How often the client looks whether a stream goes on.
const UPKEEP: Duration = Duration::from_millis(100);

/// A clock that stands still.
#[derive(Debug, Clone)]
struct Still {
    waits: Arc<Mutex<Vec<Duration>>>,
    time_outs: TimeOuts,
}

impl Still {
    fn new(time_outs: TimeOuts) -> Self {
        Self { waits: Arc::default(), time_outs }
    }

    /// What was waited between attempts.
    fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AsyncSleep for Still {
    fn sleep(&self, duration: Duration) -> Sleep {
        if duration == OPERATION || (duration == ATTEMPT && self.time_outs == TimeOuts::Never) {
            return Sleep::new(std::future::pending());
        }
        // What the client's own upkeep waits is no wait between attempts.
        if duration < ATTEMPT && duration != UPKEEP {
            self.waits.lock().unwrap_or_else(PoisonError::into_inner).push(duration);
        }
        Sleep::new(std::future::ready(()))
    }
}

fn config(wire: &Wire, still: &Still) -> SdkConfig {
    tried_again(wire.config().to_builder()).sleep_impl(still.clone()).build()
}

type Outcome = Pin<Box<dyn Future<Output = bool>>>;

/// A call of a service; whether it went well.
struct Service {
    name: &'static str,
    call: fn(SdkConfig) -> Outcome,
    /// A throttle as the service says it, and a refusal.
    throttled: fn() -> Answer,
    refused: fn() -> Answer,
}

const SERVICES: [Service; 9] = [
    Service {
        name: "iam",
        call: |sdk| {
            let call = iam(&sdk).attach_role_policy().role_name("r").policy_arn("p");
            Box::pin(async move { call.send().await.is_ok() })
        },
        throttled: || query_error(400, "Throttling"),
        refused: || query_error(409, "LimitExceeded"),
    },
    Service {
        name: "lambda",
        call: |sdk| {
            let call = lambda(&sdk).put_function_concurrency().function_name("f");
            Box::pin(async move { call.reserved_concurrent_executions(0).send().await.is_ok() })
        },
        throttled: || json_error(429, "TooManyRequestsException"),
        refused: || json_error(409, "ResourceConflictException"),
    },
    Service {
        name: "dynamodb",
        call: |sdk| {
            let call = dynamodb(&sdk).delete_item().table_name("t");
            Box::pin(async move { call.send().await.is_ok() })
        },
        throttled: || json_error(400, "ProvisionedThroughputExceededException"),
        refused: || json_error(400, "ConditionalCheckFailedException"),
    },
    Service {
        name: "sns",
        call: |sdk| {
            let call = sns(&sdk).publish().topic_arn("t").message("m");
            Box::pin(async move { call.send().await.is_ok() })
        },
        throttled: || query_error(400, "Throttling"),
        refused: || query_error(403, "AuthorizationError"),
    },
    Service {
        name: "sqs",
        call: |sdk| {
            let call = sqs(&sdk).send_message().queue_url("http://q").message_body("m");
            Box::pin(async move { call.send().await.is_ok() })
        },
        throttled: || json_error(400, "RequestThrottled"),
        refused: || json_error(400, "QueueDoesNotExist"),
    },
    Service {
        name: "events",
        call: |sdk| {
            let call = events(&sdk).describe_rule().name("r");
            Box::pin(async move { call.send().await.is_ok() })
        },
        throttled: || json_error(400, "ThrottlingException"),
        refused: || json_error(400, "ResourceNotFoundException"),
    },
    Service {
        name: "cloudtrail",
        call: |sdk| {
            let call = cloudtrail(&sdk).lookup_events();
            Box::pin(async move { call.send().await.is_ok() })
        },
        throttled: || json_error(400, "ThrottlingException"),
        refused: || json_error(400, "InvalidTimeRangeException"),
    },
    Service {
        name: "kms",
        call: |sdk| {
            let call = kms(&sdk).generate_mac().key_id("k");
            let message = aws_sdk_kms::primitives::Blob::new("m");
            let call = call.message(message).mac_algorithm(aws_sdk_kms::types::MacAlgorithmSpec::HmacSha256);
            Box::pin(async move { call.send().await.is_ok() })
        },
        throttled: || json_error(400, "ThrottlingException"),
        refused: || json_error(400, "DisabledException"),
    },
    Service {
        name: "logs",
        call: |sdk| {
            let call = logs(&sdk).filter_log_events().log_group_name("g");
            Box::pin(async move { call.send().await.is_ok() })
        },
        throttled: || json_error(400, "ThrottlingException"),
        refused: || json_error(400, "ResourceNotFoundException"),
    },
];

#[tokio::test]
async fn each_client_makes_a_throttled_call_five_times_and_a_refused_one_once() {
    for Service { name, call, throttled, refused } in SERVICES {
        for (answer, calls) in [(throttled(), 5), (refused(), 1), (Answer::Http(503, String::new()), 5)] {
            let (wire, still) = (Wire::answering(vec![answer.clone(); 20]), Still::new(TimeOuts::Never));
            assert!(!call(config(&wire, &still)).await, "{name}: {answer:?}");
            assert_eq!(wire.requests().len(), calls, "{name}: {answer:?}");
            let waits = still.waits();
            assert_eq!(waits.len(), calls - 1, "{name}: {answer:?}: {waits:?}");
            for (attempt, wait) in (0..).zip(&waits) {
                assert!(*wait <= Duration::from_secs(1 << attempt), "{name}: {waits:?}");
            }
        }
        // Whatever goes well at last has gone well.
        let wire = Wire::answering([vec![throttled(); 4], vec![ok("")]].concat());
        call(config(&wire, &Still::new(TimeOuts::Never))).await;
        assert_eq!(wire.unused(), 0, "{name}");
    }
}

#[tokio::test]
async fn no_two_callers_wait_alike() {
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let (wire, still) = (Wire::answering([query_error(400, "Throttling"), ok("")]), Still::new(TimeOuts::Never));
        let _ = aws_sdk_iam::Client::new(&config(&wire, &still)).get_role().role_name("r").send().await;
        assert_eq!(wire.unused(), 0);
        first.insert(still.waits());
    }
    assert!(first.len() > 10, "{first:?}");
}

/// A clock that is set by hand, in seconds.
#[derive(Debug, Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn the_budget_of_a_client_bounds_what_all_its_calls_are_made_again_and_fills_with_time() {
    let wire = Wire::answering(vec![json_error(400, "ThrottlingException"); 1_000]);
    let clock = Clock::default();
    let sdk = config(&wire, &Still::new(TimeOuts::Never)).into_builder().time_source(clock.clone()).build();
    let ecs = ecs(&sdk);
    // Further attempts of so many calls that are all throttled.
    let further = async |calls: usize| {
        let before = wire.requests().len();
        for _ in 0..calls {
            ecs.describe_tasks().tasks("t").send().await.unwrap_err();
        }
        wire.requests().len() - before - calls
    };
    assert_eq!(further(60).await, 100, "a flood");
    assert_eq!(further(10).await, 0, "in the same second");
    for seconds in [1, 3] {
        clock.0.fetch_add(seconds, Ordering::Relaxed);
        assert_eq!(further(60).await, 10 * usize::try_from(seconds).unwrap(), "{seconds} seconds later");
    }
    clock.0.fetch_add(3_600, Ordering::Relaxed);
    assert_eq!(further(60).await, 100, "an hour later, and no more than at first");
}

#[tokio::test]
async fn an_endpoint_that_never_answers_ends_as_an_answer_that_was_lost() {
    let (wire, still) = (Wire::answering(vec![Answer::Stalled; 20]), Still::new(TimeOuts::AtOnce));
    let iam = aws_sdk_iam::Client::new(&config(&wire, &still));
    let attach = iam.attach_role_policy().role_name("orders").policy_arn("p").send().await.unwrap_err();
    let attach = ActionError::of("iam:AttachRolePolicy", "orders", attach);
    assert!(attach.is_transient() && attach.may_have_applied(), "{attach:?}");
    assert_eq!(wire.requests().len(), 5, "each attempt has its own time-out");
}
