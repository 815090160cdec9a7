//! What every containment action is: a record, and `observe`, `apply`, `verify`, `revert`.
//!
//! Actions know neither the ledger, nor pages, nor each other. Each of the four steps is safe to run
//! twice. `revert` restores only what is still ours.

use async_trait::async_trait;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use firebreak_model::action::ActionId;
use firebreak_model::guard::Veto;
use firebreak_model::ids::PolicyArn;
use firebreak_model::ladder::Refusal;
use firebreak_model::ledger::Incident;
use firebreak_model::plan::Step;
use jiff::Timestamp;
use serde_json::Value;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a call of an action did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// What it was to act on is not there.
    #[error("`{target}` does not exist")]
    Gone {
        /// What.
        target: String,
    },
    /// IAM, an SCP or a boundary refuses Firebreak the call.
    #[error("`{call}` on `{target}` was denied: a person with more rights must do it")]
    Denied {
        /// The API call.
        call: &'static str,
        /// On what.
        target: String,
        /// What AWS said.
        #[source]
        source: Source,
    },
    /// A quota is full.
    #[error("`{call}` on `{target}` ran into a quota")]
    Quota {
        /// The API call.
        call: &'static str,
        /// On what.
        target: String,
        /// The policies that fill it, as far as they were read.
        filled_by: Vec<PolicyArn>,
        /// What AWS said.
        #[source]
        source: Source,
    },
    /// The target is there; the policy that it was to get is not.
    #[error("`{call}` on `{target}`: policy `{policy}` does not exist any more")]
    PolicyGone {
        /// The API call.
        call: &'static str,
        /// On what.
        target: String,
        /// Which policy.
        policy: String,
    },
    /// AWS is busy or changing the same thing: worth another try.
    #[error("`{call}` on `{target}` was throttled, or met a change under way")]
    Busy {
        /// The API call.
        call: &'static str,
        /// On what.
        target: String,
        /// What AWS said.
        #[source]
        source: Source,
    },
    /// No answer came: the call may have been carried out all the same.
    #[error("`{call}` on `{target}` got no answer")]
    NoAnswer {
        /// The API call.
        call: &'static str,
        /// On what.
        target: String,
        /// What happened.
        #[source]
        source: Source,
    },
    /// AWS does not take the signature: the clock here is wrong, or the credentials have run out.
    #[error(
        "`{call}` on `{target}` was refused for its signature: the clock here is wrong, or its credentials are over"
    )]
    Unsigned {
        /// The API call.
        call: &'static str,
        /// On what.
        target: String,
        /// What AWS said.
        #[source]
        source: Source,
    },
    /// AWS refuses the call as it stands.
    #[error("`{call}` on `{target}` failed")]
    Rejected {
        /// The API call.
        call: &'static str,
        /// On what.
        target: String,
        /// What AWS said.
        #[source]
        source: Source,
    },
    /// An answer, or a recorded prior state, that makes no sense.
    #[error("`{target}`: {problem}")]
    Unreadable {
        /// What it is about.
        target: String,
        /// What is wrong.
        problem: String,
    },
    /// A guard rail.
    #[error("withheld: {0}")]
    Withheld(#[from] Veto),
}

const GONE: [&str; 3] = ["NoSuchEntity", "ResourceNotFoundException", "ProvisionedConcurrencyConfigNotFoundException"];
const DENIED: [&str; 3] = ["AccessDenied", "AccessDeniedException", "UnmodifiableEntity"];
const QUOTA: [&str; 3] = ["LimitExceeded", "LimitExceededException", "PolicyLengthExceededException"];
const BUSY: [&str; 10] = [
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "ResourceConflictException",
    "ResourceInUseException",
    "ConcurrentModification",
    "PreconditionFailedException",
    "EntityTemporarilyUnmodifiable",
    "ServiceUnavailable",
];

/// How services say that a signature is too old, too new, or by credentials that have run out. Another environment has
/// another clock and newer credentials.
const UNSIGNED: [&str; 8] = [
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "RequestTimeTooSkewed",
    "RequestExpired",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
];

impl ActionError {
    /// Sorts an SDK error by what can be done about it.
    pub fn of<E>(call: &'static str, target: &str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let target = target.to_owned();
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default().to_owned();
        let status = error.raw_response().map(|r| r.status().as_u16());
        let answered = matches!(error, SdkError::ServiceError(_));
        let source: Source = Box::new(error);
        match code.as_str() {
            c if GONE.contains(&c) => Self::Gone { target },
            c if DENIED.contains(&c) => Self::Denied { call, target, source },
            c if QUOTA.contains(&c) => Self::Quota { call, target, filled_by: Vec::new(), source },
            c if BUSY.contains(&c) => Self::Busy { call, target, source },
            c if UNSIGNED.contains(&c) => Self::Unsigned { call, target, source },
            _ if answered && status.is_some_and(|s| s < 500) => Self::Rejected { call, target, source },
            _ => Self::NoAnswer { call, target, source },
        }
    }

    /// Whether another try may go better.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::NoAnswer { .. } | Self::Unsigned { .. })
    }

    /// Why another try changes nothing; `None` where it may, where the target is gone, and for a guard rail.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Quota { .. } => Some(Refusal::Quota),
            Self::Denied { .. } => Some(Refusal::Denied),
            Self::PolicyGone { .. } => Some(Refusal::PolicyGone),
            Self::Rejected { .. } | Self::Unreadable { .. } => Some(Refusal::Rejected),
            Self::Gone { .. }
            | Self::Busy { .. }
            | Self::NoAnswer { .. }
            | Self::Unsigned { .. }
            | Self::Withheld(_) => None,
        }
    }

    /// Whether the call may have been carried out in spite of the error.
    pub fn may_have_applied(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }
}

/// `Ok(None)` in place of "it does not exist".
pub fn absent_is_none<T>(result: Result<T, ActionError>) -> Result<Option<T>, ActionError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ActionError::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an action is given: the step, the incident that it belongs to, and the time.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The incident, as the ledger has it.
    pub incident: &'a Incident,
    /// The step.
    pub step: &'a Step,
    /// Now.
    pub now: Timestamp,
}

/// What `verify` read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// The change is there.
    InForce,
    /// It is not, or not wholly: what was found.
    NotInForce(String),
}

/// What `revert` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reverted {
    /// What was there before is there again.
    Restored,
    /// Somebody changed it since: left as it is.
    LeftAlone(String),
}

/// One AWS permission that an action uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission {
    /// Such as `iam:AttachRolePolicy`.
    pub action: &'static str,
    /// On what, and under which condition.
    pub on: Resource,
}

/// The resources that permissions are held to; `registry` renders them as ARNs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Any role of the account.
    Role,
    /// Any user of the account.
    User,
    /// Any role, and only to attach or detach the deny policy (`iam:PolicyARN`).
    RoleAndDenyPolicy,
    /// Any user, and only to attach or detach the deny policy (`iam:PolicyARN`).
    UserAndDenyPolicy,
    /// The deny policy itself.
    DenyPolicy,
    /// Any role, and only where the boundary is the policy of AWS's own that denies everything
    /// (`iam:PermissionsBoundary`: the one being set, or the one that is taken away).
    RoleAndDenyAll,
    /// Any user, and only where the boundary is the policy of AWS's own that denies everything.
    UserAndDenyAll,
    /// Any managed policy, AWS's own included.
    Policy,
    /// Any group of the account.
    Group,
    /// Any function of the account, in any Region.
    Function,
    /// Any version of a layer, of other accounts too, in any Region.
    LayerVersion,
    /// Any instance profile of the account.
    InstanceProfile,
    /// Any ECS task of the account, in any Region.
    EcsTask,
    /// Any event source mapping of the account.
    EventSourceMapping,
    /// Any log group of the account, in any Region.
    LogGroup,
    /// The evidence bucket.
    EvidenceBucket,
    /// Objects in the evidence bucket.
    EvidenceObject,
    /// The key.
    Key,
    /// The key that the ledger's seals are made with.
    SealKey,
    /// The key that signs the manifests of evidence.
    EvidenceSigningKey,
    /// The ledger's table.
    Table,
    /// The ledger's index of open incidents.
    OpenIndex,
    /// The ledger's stream.
    Stream,
    /// The bus of outcome events.
    Bus,
    /// The topic of pages.
    Topic,
    /// Any queue of the account, in any Region.
    Queue,
    /// The function's own log streams.
    OwnLogs,
    /// The queue of failed invocations.
    FailureQueue,
    /// The queue of delayed recycling.
    RecycleQueue,
    /// The queue of delayed looks at CloudTrail.
    TraceQueue,
    /// The queue of re-checks.
    RecheckQueue,
    /// The queue of evidence that is still to be collected.
    EvidenceQueue,
    /// The stack's rules, on both buses.
    OwnRule,
    /// The stack's queues.
    OwnQueue,
    /// The stack itself.
    OwnStack,
    /// Any trail of the account.
    Trail,
    /// The function `revoke-sessions`.
    RevokeFunction,
    /// `*`: the call knows no resource.
    Any,
}

/// What there is to know about an action before anyone runs it.
#[derive(Debug)]
pub struct ActionRecord {
    /// Its id.
    pub id: ActionId,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// What `observe`, `apply` and `verify` need: permissions of the owner.
    pub permissions: &'static [Permission],
    /// What `revert` needs beyond nothing: permissions of `release-containment`.
    pub revert_permissions: &'static [Permission],
    /// Additive: takes nothing away, so that no prior state has to be on record before `apply`.
    pub additive: bool,
    /// Whether `revert` can bring everything back, or what it cannot.
    pub reversible: &'static str,
    /// Why running it twice is running it once.
    pub idempotent_because: &'static str,
    /// What stops working.
    pub disrupts: &'static str,
}

/// A containment action.
#[async_trait]
pub trait Action: Send + Sync + std::fmt::Debug {
    /// What there is to know about it.
    fn record(&self) -> &'static ActionRecord;

    /// What is there now: everything that `revert` needs. `null` where the action is additive.
    async fn observe(&self, order: Order<'_>) -> Result<Value, ActionError>;

    /// Makes the change. Guard rails are checked again here.
    async fn apply(&self, order: Order<'_>, prior: &Value) -> Result<(), ActionError>;

    /// Reads the change back.
    async fn verify(&self, order: Order<'_>, prior: &Value) -> Result<Verified, ActionError>;

    /// Whether what was read back before still shows on the target, in one call: what is asked again and again while a
    /// containment is fought over. Never what makes a step *applied*.
    async fn shows(&self, order: Order<'_>, prior: &Value) -> Result<Verified, ActionError> {
        self.verify(order, prior).await
    }

    /// Restores `prior` where what is there now is still ours.
    async fn revert(&self, order: Order<'_>, prior: &Value) -> Result<Reverted, ActionError>;
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::ledger::Ledger;
    use crate::testing::{Wire, json_error, query_error, role_order};

    #[tokio::test]
    async fn a_call_that_is_signed_at_the_wrong_time_is_worth_another_try_elsewhere() {
        for code in UNSIGNED {
            let wire = Wire::answering([query_error(403, code), json_error(400, code)]);
            let get = aws_sdk_iam::Client::new(&wire.config()).get_role().role_name("orders").send().await;
            let error = ActionError::of("iam:GetRole", "orders", get.unwrap_err());
            assert!(matches!(error, ActionError::Unsigned { .. }), "{code}: {error:?}");
            assert!(error.is_transient() && !error.may_have_applied(), "{code}");
            let ledger = Ledger::new(
                aws_sdk_dynamodb::Client::new(&wire.config()),
                "ledger".to_owned(),
                crate::ledger::Seal::none(),
            );
            let error = ledger.incident(&role_order("orders").0.incident_id).await.unwrap_err();
            assert!(error.is_transient(), "{code}: {error}");
        }
    }
}
