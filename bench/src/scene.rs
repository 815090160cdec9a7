//! What each function is measured on: an event, the account that it meets, and what must come of it.
//!
//! The events and accounts are not made up. One incident is played with the packaged functions themselves, from a
//! finding to its release; what one function left is what the next one meets.

use std::collections::BTreeMap;
use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::endpoint::{Endpoint, Recorded};
use crate::report::listed;
use crate::runtime::{Answered, Function, Program};
use crate::world::{ACCOUNT, REGION, ROLE, World};

const FINDING: &str = "guardduty-lambda-c2-role-arn.json";

/// The function that denies, and the call that does it.
pub(crate) const DENIES: &str = "quarantine-principal";
/// The call that denies.
pub(crate) const DENY: &str = "AttachRolePolicy";

/// The calls of each function on its event. A function that makes others is measured on something else than before: where
/// that is meant, its line here changes with it.
const EXPECTED: [(&str, &str); 7] = [
    ("publish-outcomes", "events:PutEvents"),
    ("notify-responders", "dynamodb:GetItem ×5, dynamodb:PutItem ×6, dynamodb:Query ×5, sns:Publish ×2"),
    (
        "revoke-sessions",
        "dynamodb:GetItem ×4, dynamodb:PutItem ×3, iam:GetRole, iam:GetRolePolicy ×3, iam:PutRolePolicy, \
         kms:GenerateMac",
    ),
    (
        "isolate-function",
        "dynamodb:GetItem ×11, dynamodb:PutItem ×10, kms:GenerateMac, lambda:GetFunctionConcurrency ×2, \
         lambda:GetFunctionConfiguration ×11, lambda:GetPolicy ×3, lambda:ListAliases ×3, \
         lambda:ListEventSourceMappings ×3, lambda:ListFunctionEventInvokeConfigs ×3, \
         lambda:ListFunctionUrlConfigs ×3, lambda:ListProvisionedConcurrencyConfigs ×3, \
         lambda:ListVersionsByFunction ×3, lambda:PutFunctionConcurrency, lambda:UpdateEventSourceMapping",
    ),
    (
        "quarantine-principal",
        "dynamodb:GetItem, dynamodb:PutItem ×2, dynamodb:TransactWriteItems, iam:AttachRolePolicy, \
         iam:GetPolicy, iam:GetPolicyVersion, iam:GetRole, iam:ListAttachedRolePolicies, \
         kms:GenerateMac",
    ),
    (
        "snapshot-logs",
        "cloudtrail:LookupEvents ×17, dynamodb:GetItem ×5, dynamodb:PutItem ×41, dynamodb:Query ×39, \
         iam:GenerateServiceLastAccessedDetails, iam:GetPolicy ×2, iam:GetPolicyVersion ×2, iam:GetRole, \
         iam:GetServiceLastAccessedDetails, iam:ListAttachedRolePolicies, iam:ListPolicyVersions, iam:ListRolePolicies, \
         kms:GenerateMac, kms:GetPublicKey, kms:Sign, lambda:GetFunction ×2, lambda:GetFunctionCodeSigningConfig, \
         lambda:GetFunctionConcurrency, lambda:GetFunctionConfiguration ×2, lambda:GetPolicy, lambda:ListAliases, \
         lambda:ListEventSourceMappings, lambda:ListFunctionEventInvokeConfigs, lambda:ListFunctionUrlConfigs, \
         lambda:ListProvisionedConcurrencyConfigs, lambda:ListTags, lambda:ListVersionsByFunction ×2, \
         logs:DescribeLogGroups, logs:FilterLogEvents ×8, s3:GetObject ×7, s3:PutObject ×21, sqs:SendMessage",
    ),
    (
        "release-containment",
        "dynamodb:GetItem ×5, dynamodb:PutItem ×10, dynamodb:Query ×8, iam:DetachRolePolicy, iam:GetRole ×3, \
         kms:GenerateMac, lambda:DeleteFunctionConcurrency, lambda:GetFunctionConcurrency, \
         lambda:GetFunctionConfiguration ×4, lambda:Invoke, lambda:ListAliases ×3, \
         lambda:ListEventSourceMappings ×2, lambda:ListFunctionUrlConfigs, \
         lambda:ListProvisionedConcurrencyConfigs ×3, lambda:ListVersionsByFunction ×2, \
         lambda:UpdateEventSourceMapping, lambda:UpdateFunctionConfiguration ×2, sqs:GetQueueAttributes",
    ),
];

/// What one function is measured on.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// The function.
    pub(crate) name: &'static str,
    /// The event in a few words.
    pub(crate) about: &'static str,
    /// The account that it meets.
    pub(crate) world: World,
    /// The event.
    pub(crate) event: Value,
    /// The calls it makes, in their order.
    pub(crate) calls: Vec<Recorded>,
}

/// How many calls of which operation.
pub(crate) type Counts = BTreeMap<String, usize>;

/// Where everything lies.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The endpoint that all call.
    pub(crate) endpoint: Endpoint,
    /// The packaged functions.
    pub(crate) functions: PathBuf,
    /// The repository.
    pub(crate) root: PathBuf,
    /// The roots that all trust.
    pub(crate) bundle: PathBuf,
    /// The interpreter of the environment that holds boto3.
    pub(crate) python: PathBuf,
    /// Where logs go.
    pub(crate) scratch: PathBuf,
}

/// What an operation is called in tables.
pub(crate) fn name_of(call: &Recorded) -> String {
    format!("{}:{}", call.call.service, call.call.operation)
}

/// Counts calls by operation.
pub(crate) fn counts(calls: &[Recorded]) -> Counts {
    let mut counts = Counts::new();
    for call in calls {
        *counts.entry(name_of(call)).or_default() += 1;
    }
    counts
}

/// A finding on the function's role, or on another role for each further number.
pub(crate) fn finding(root: &Path, number: usize) -> Result<Value> {
    let path = root.join("events").join(FINDING);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let role = if number == 0 { ROLE.to_owned() } else { format!("{ROLE}-{number}") };
    let mut event: Value = serde_json::from_str(&text.replace(ROLE, &role))?;
    if let Some(id) = event.pointer_mut("/detail/id") {
        *id = json!(format!("{number:032x}"));
    }
    Ok(event)
}

impl Stage {
    /// The packaged function of that name.
    pub(crate) fn ours(&self, name: &str) -> Program {
        let place = self.functions.join(name);
        let arn = |what: &str| format!("arn:aws:{what}");
        let mut environment = vec![
            ("SSL_CERT_FILE", self.bundle.display().to_string()),
            ("FIREBREAK_ACCOUNT", ACCOUNT.to_owned()),
            ("FIREBREAK_CLOUDTRAIL_LAG_SECONDS", "900".to_owned()),
            ("FIREBREAK_BUS", "firebreak".to_owned()),
            ("FIREBREAK_DENY_POLICY_ARN", arn(&format!("iam::{ACCOUNT}:policy/firebreak/firebreak-deny"))),
            ("FIREBREAK_EVIDENCE_BUCKET", "firebreak-evidence".to_owned()),
            ("FIREBREAK_EVIDENCE_ACCESS", "read-back".to_owned()),
            ("FIREBREAK_EVIDENCE_KEY_ARN", arn(&format!("kms:{REGION}:{ACCOUNT}:key/4d3f1a2b"))),
            ("FIREBREAK_EVIDENCE_SIGNING_KEY_ARN", arn(&format!("kms:{REGION}:{ACCOUNT}:key/6f5e3c4d"))),
            (
                "FIREBREAK_EVIDENCE_QUEUE_URL",
                format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/firebreak-evidence"),
            ),
            ("FIREBREAK_EVIDENCE_COMPRESSION", "zstd".to_owned()),
            ("FIREBREAK_EVIDENCE_FOLLOW_UP_SECONDS", "900".to_owned()),
            ("FIREBREAK_MODE", "enforce".to_owned()),
            ("FIREBREAK_PARTITION", "aws".to_owned()),
            ("FIREBREAK_REVOCATION_LEAD_SECONDS", "0".to_owned()),
            ("FIREBREAK_REVOKE_FUNCTION", "firebreak-revoke-sessions".to_owned()),
            ("FIREBREAK_SEAL_KEY_ARN", arn(&format!("kms:{REGION}:{ACCOUNT}:key/5e4f2b3c"))),
            ("FIREBREAK_STACK", "firebreak".to_owned()),
            ("FIREBREAK_TABLE", "firebreak-ledger".to_owned()),
            ("FIREBREAK_TOPIC_ARN", arn(&format!("sns:{REGION}:{ACCOUNT}:firebreak-pages"))),
        ];
        environment.extend(self.endpoint.environment());
        Program { name: name.to_owned(), command: vec![place.join("bootstrap")], place, environment }
    }

    /// The boto3 function, with the clients that these calls need.
    pub(crate) fn theirs(&self, calls: &[Recorded]) -> Program {
        let mut services: Vec<&str> = calls.iter().map(|call| call.call.service).collect();
        services.sort_unstable();
        services.dedup();
        let mut environment =
            vec![("AWS_CA_BUNDLE", self.bundle.display().to_string()), ("BENCH_SERVICES", services.join(","))];
        environment.extend(self.endpoint.environment());
        let command = vec![self.python.clone(), "-m".into(), "awslambdaric".into(), "same_calls.handler".into()];
        let place = self.root.join("bench").join("python");
        Program { name: "same-calls".to_owned(), command, place, environment }
    }

    /// What the boto3 function is invoked with: the event, and the calls.
    pub(crate) fn asked_of_theirs(event: &Value, calls: &[Recorded]) -> Value {
        let calls: Vec<Value> = calls
            .iter()
            .map(|Recorded { call, .. }| {
                json!({"service": call.service, "operation": call.operation, "parameters": call.parameters})
            })
            .collect();
        json!({"event": event, "calls": calls})
    }

    /// Starts a process against an account, with its first event.
    pub(crate) async fn start(
        &self,
        program: &Program,
        world: World,
        delay: Duration,
        event: Value,
    ) -> Result<Function> {
        self.endpoint.reset(world, delay);
        let function = Function::start(program, &self.scratch.join("log"), Some(event)).await?;
        self.endpoint.watch(function.pid());
        Ok(function)
    }

    /// Checks that an invocation went as it was to, and answers the calls that it made.
    pub(crate) fn went_well(&self, function: &Function, answered: &Answered) -> Result<Vec<Recorded>> {
        let unknown = self.endpoint.unknown();
        ensure!(unknown.is_empty(), "the stub does not know {}: teach it", unknown.join(", "));
        if let Err(error) = &answered.result {
            bail!("the function failed: {error}\n{}", function.said());
        }
        Ok(self.endpoint.take())
    }

    /// Has a function handle an event once, without delay.
    async fn play(
        &self,
        name: &'static str,
        world: &World,
        event: &Value,
    ) -> Result<(Result<Value, Value>, Vec<Recorded>)> {
        let mut function = self.start(&self.ours(name), world.clone(), Duration::ZERO, event.clone()).await?;
        let answered = function.answer().await?;
        let unknown = self.endpoint.unknown();
        ensure!(unknown.is_empty(), "`{name}` asks what the stub does not know, {}: teach it", unknown.join(", "));
        let calls = self.endpoint.take();
        let calls = calls.into_iter().filter(|call| call.began >= answered.handed).collect();
        function.end().await?;
        Ok((answered.result, calls))
    }

    /// Has a function handle an event once and makes a case of it, if it came to what is expected.
    async fn case(
        &self,
        name: &'static str,
        about: &'static str,
        world: World,
        event: Value,
        expected: (&str, Value),
    ) -> Result<Case> {
        let (result, calls) = self.play(name, &world, &event).await?;
        let answer = result.map_err(|error| anyhow::anyhow!("`{name}` failed: {error}"))?;
        let (pointer, value) = expected;
        ensure!(answer.pointer(pointer) == Some(&value), "`{name}` came to {answer}, not to {value}");
        Ok(Case { name, about, world, event, calls })
    }

    /// Plays the incident, and makes a case for every function.
    pub(crate) async fn cases(&self) -> Result<Vec<Case>> {
        let outcome = |name: &str| ("/outcome", json!(name));
        let found = finding(&self.root, 0)?;
        let quarantine =
            self.case(DENIES, "a finding on a function", World::default(), found, outcome("contained")).await?;
        let contained = self.endpoint.world();

        let incident = contained.item("incident#").context("the ledger holds no incident")?;
        let stream = json!({"Records": [{
            "eventID": "c4ca4238a0b943828dcc509a6f75849b", "eventName": "INSERT", "eventSource": "aws:dynamodb",
            "awsRegion": REGION, "dynamodb": {"SequenceNumber": "1", "NewImage": incident}}]});
        let nothing_failed = ("/batchItemFailures", json!([]));
        let publish = self
            .case("publish-outcomes", "the record of an incident", contained.clone(), stream, nothing_failed)
            .await?;
        let put = self.endpoint.world().events;
        let put = put.first().context("`publish-outcomes` put no event")?;
        let detail: Value = serde_json::from_str(put.get("Detail").and_then(Value::as_str).unwrap_or_default())?;
        let id = detail.get("incident_id").cloned().context("the event names no incident")?;
        let order = json!({
            "version": "0", "id": "090a7af6-ce3f-4c5d-8bbf-c3bc7c8cf8cd", "detail-type": put.get("DetailType"),
            "source": put.get("Source"), "account": ACCOUNT, "time": "2026-11-21T03:20:07Z", "region": REGION,
            "resources": [], "detail": detail});

        let ordered = "an ordered containment";
        let isolate = self.case("isolate-function", ordered, contained, order.clone(), outcome("isolated")).await?;
        let isolated = self.endpoint.world();
        let snapshot =
            self.case("snapshot-logs", ordered, isolated.clone(), order.clone(), outcome("collected")).await?;
        let collected = self.endpoint.world();
        let page = "a containment that is complete";
        let notify = self.case("notify-responders", page, collected.clone(), order, outcome("paged")).await?;

        // A release has `revoke-sessions` invoked: what it asks for, and in which account, is taken from a first try,
        // which is taken back as soon as that fails.
        let request = json!({"firebreak": "release", "incident_id": id, "reason": "role reviewed",
            "requested_by": "ana@example.com"});
        let mut failing = collected.clone();
        failing.invoked_fails = true;
        self.play("release-containment", &failing, &request).await?.0.err().context("the release did not stop")?;
        let mut releasing = self.endpoint.world();
        let asked = releasing.invoked.pop().context("`release-containment` had nothing revoked")?;
        releasing.invoked_fails = false;
        releasing.items = mem::take(&mut releasing.items_at_failure);
        let revoke = self.case("revoke-sessions", "a release", releasing, asked, outcome("revoked")).await?;
        let revoked = self.endpoint.world();
        let step = revoked.item("step#revoke-sessions#").context("`revoke-sessions` recorded nothing")?;
        let mut ready = collected;
        ready.left_by_invoked = vec![step.clone()];
        let asked = "a release that a person asks for";
        let release = self.case("release-containment", asked, ready, request, outcome("released")).await?;
        let cases = vec![publish, notify, revoke, isolate, quarantine, snapshot, release];
        let strayed: Vec<String> = cases.iter().filter_map(strayed).collect();
        ensure!(strayed.is_empty(), "other calls were made than are expected here:\n{}", strayed.join("\n"));
        Ok(cases)
    }
}

/// What a function did otherwise than is expected of it.
fn strayed(case: &Case) -> Option<String> {
    let made = listed(&counts(&case.calls));
    let meant = EXPECTED.iter().find(|(function, _)| *function == case.name).map_or("", |(_, calls)| *calls);
    (made != meant).then(|| format!("`{}`:\n{made}\ninstead of\n{meant}", case.name))
}
