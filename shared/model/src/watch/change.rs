//! Changes as CloudTrail tells of them, over the bus: what was changed, by whom, and what that means for what is
//! contained and for Firebreak itself. Every field is foreign text; what is made of it are parsed identifiers.

use serde_json::Value;

use crate::action::FunctionName;
use crate::cloudtrail;
use crate::finding::{Source, Subject};
use crate::foreign::{at, list, text, time};
use crate::ids::{FunctionArn, Region, shown, shown_id};
use crate::policy::{CHAINED_POLICY, FUNCTIONS_POLICY, REVOCATION_POLICY};
use crate::principal::{Home, Principal, PrincipalName};
use crate::tamper::SeenCall;
use crate::trigger;

use super::call::caller_alone;

/// A call that changed something, or tried to.
#[derive(Debug, Clone)]
pub struct Change {
    /// As it goes on record.
    pub call: SeenCall,
    /// Who made it.
    pub actor: Subject,
    /// Whether an AWS service made it on somebody's behalf: CloudFormation, mostly.
    pub by_service: bool,
    /// Whether that was CloudFormation.
    pub by_cloudformation: bool,
    /// Whether it was refused.
    pub refused: bool,
    service: String,
    name: String,
    detail: Value,
}

/// What of a contained principal or function a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A role or user.
    Principal(Principal),
    /// A function.
    Function(FunctionArn),
}

/// What a contained principal made of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Minted {
    /// A role or user that did not exist before.
    Born(Principal),
    /// Something that was there before, and lets it in now: a role, a user, or what is none.
    Widened(Option<Principal>),
}

impl Change {
    /// Reads an event of the default bus.
    ///
    /// # Errors
    /// A sentence saying why it is none: another's, a replay, no record.
    pub fn read(event: &Value, home: &Home) -> Result<Self, String> {
        let envelope = |name: &str| text(event, &[name]).unwrap_or_default();
        if envelope("detail-type") != "AWS API Call via CloudTrail" || !envelope("source").starts_with("aws.") {
            return Err("the event is no call that CloudTrail recorded".to_owned());
        }
        if envelope("account") != home.account.as_str() {
            return Err(format!("the event comes from account `{}`, not from this one", shown(envelope("account"))));
        }
        if trigger::is_replay(event) {
            return Err("the event is a replay from an archive".to_owned());
        }
        let detail = at(event, &["detail"]).filter(|detail| detail.is_object()).ok_or("the event holds no record")?;
        Self::of_record(detail, envelope("id"))
    }

    /// Reads a record of CloudTrail's that came without an event; `id` is for one that says none.
    ///
    /// # Errors
    /// A sentence saying why it is none.
    pub fn of_record(detail: &Value, id: &str) -> Result<Self, String> {
        let read = cloudtrail::read(&caller_alone(detail), Source::CloudTrail, id)?;
        let service = text(detail, &["eventSource"]).unwrap_or_default();
        let service = service.strip_suffix(".amazonaws.com").unwrap_or(service).to_owned();
        let name = undated(text(detail, &["eventName"]).unwrap_or_default()).to_owned();
        let actor = read.subjects.into_iter().next().ok_or("the record has no caller")?;
        let invoked_by = text(detail, &["userIdentity", "invokedBy"]);
        let by_service = text(detail, &["userIdentity", "type"]) == Some("AWSService")
            || invoked_by.is_some_and(|by| by.ends_with(".amazonaws.com"));
        Ok(Self {
            call: SeenCall {
                event_id: read.id,
                name: shown_id(&format!("{service}:{name}")),
                at: time(detail, &["eventTime"]).ok_or("the record has no `eventTime`")?,
                region: shown(text(detail, &["awsRegion"]).unwrap_or_default()),
                address: shown(text(detail, &["sourceIPAddress"]).unwrap_or_default()),
            },
            actor,
            by_service,
            by_cloudformation: invoked_by == Some("cloudformation.amazonaws.com"),
            refused: text(detail, &["errorCode"]).is_some(),
            service,
            name,
            detail: detail.clone(),
        })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        text(&self.detail, &["requestParameters", name])
    }

    fn element(&self, path: &[&str]) -> Option<&str> {
        let path: Vec<&str> = std::iter::once("responseElements").chain(path.iter().copied()).collect();
        text(&self.detail, &path)
    }

    /// What it is about, where that is a role, a user or a function of this account.
    pub fn things(&self, home: &Home) -> Vec<Thing> {
        match self.service.as_str() {
            "iam" => self.principal(home).map(Thing::Principal).into_iter().collect(),
            "lambda" => self.function(home).map(Thing::Function).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The role or user that an IAM call names; a user's own key may go without the user's name.
    fn principal(&self, home: &Home) -> Option<Principal> {
        let role = self.parameter("roleName").and_then(|name| name.parse().ok()).map(PrincipalName::Role);
        let user = self.parameter("userName").and_then(|name| name.parse().ok()).map(PrincipalName::User);
        let name = role.or(user);
        let Some(name) = name else {
            return match &self.actor {
                Subject::Principal { principal, .. } if self.name.ends_with("AccessKey") => Some(principal.clone()),
                _ => None,
            };
        };
        // Of what was made, the answer gives the ARN with its path.
        let arn = self.element(&["role", "arn"]).or_else(|| self.element(&["user", "arn"]));
        let made = arn.and_then(|arn| Principal::from_arn(arn).ok()).filter(|made| made.name == name);
        Some(made.unwrap_or(Principal { account: home.account.clone(), name, arn: None, unique_id: None }))
    }

    /// The function that a Lambda call names: by ARN, by part of one, or by name.
    fn function(&self, home: &Home) -> Option<FunctionArn> {
        let named = self.parameter("functionName").or_else(|| self.element(&["functionArn"]))?;
        let named = self.element(&["functionArn"]).unwrap_or(named);
        if let Ok(function) = named.parse::<FunctionArn>() {
            return Some(function.unqualified());
        }
        let region: Region = self.call.region.parse().ok()?;
        let name = named.rsplit_once("function:").map_or(named, |(_, name)| name).split(':').next()?;
        FunctionArn::new(home.partition, &region, &home.account, name).ok()
    }

    /// Whether it takes something of a containment away, from whatever it is about. `deny` is the deny policy.
    pub fn undoes(&self, deny: &str) -> bool {
        let is = |name: &str, value: &str| self.parameter(name) == Some(value);
        match (self.service.as_str(), self.name.as_str()) {
            ("iam", "DetachRolePolicy" | "DetachUserPolicy") => is("policyArn", deny),
            ("iam", "DeleteRolePolicy" | "DeleteUserPolicy" | "PutRolePolicy" | "PutUserPolicy") => {
                self.is_on_an_inline_policy_of_ours()
            }
            ("iam", "UpdateAccessKey") => is("status", "Active"),
            ("lambda", "PutFunctionConcurrency") => {
                at(&self.detail, &["requestParameters", "reservedConcurrentExecutions"]).and_then(Value::as_i64)
                    != Some(0)
            }
            ("iam", "DeleteRole" | "DeleteUser" | "CreateRole" | "CreateUser" | "UpdateAssumeRolePolicy")
            | (
                "lambda",
                "DeleteFunctionConcurrency"
                | "PutProvisionedConcurrencyConfig"
                | "CreateEventSourceMapping"
                | "AddPermission"
                | "PutFunctionEventInvokeConfig"
                | "UpdateFunctionEventInvokeConfig",
            ) => true,
            ("lambda", "UpdateEventSourceMapping") => {
                at(&self.detail, &["requestParameters", "enabled"]).and_then(Value::as_bool) == Some(true)
            }
            ("lambda", "CreateFunctionUrlConfig" | "UpdateFunctionUrlConfig") => is("authType", "NONE"),
            ("lambda", "UpdateFunctionConfiguration") => {
                at(&self.detail, &["requestParameters", "deadLetterConfig"]).is_some()
            }
            ("iam", name) => name.ends_with("PermissionsBoundary"),
            _ => false,
        }
    }

    /// Whether it is on one of the inline policies that Firebreak writes, which outlive their containment.
    pub fn is_on_an_inline_policy_of_ours(&self) -> bool {
        let ours = [REVOCATION_POLICY, CHAINED_POLICY, FUNCTIONS_POLICY];
        self.service == "iam" && self.parameter("policyName").is_some_and(|name| ours.contains(&name))
    }

    /// Whether it may change what the managed policy of this ARN says: whoever has it attached is changed with it.
    pub fn is_on_the_policy(&self, arn: &str) -> bool {
        let changes = ["CreatePolicyVersion", "SetDefaultPolicyVersion", "DeletePolicyVersion", "DeletePolicy"];
        self.service == "iam" && changes.contains(&self.name.as_str()) && self.parameter("policyArn") == Some(arn)
    }

    /// Whether it is what a service does to anybody's table or key in the course of its work: it takes nothing away.
    pub fn is_a_services_upkeep(&self) -> bool {
        self.by_service
            && matches!(
                (self.service.as_str(), self.name.as_str()),
                ("kms", "CreateGrant") | ("dynamodb", "CreateBackup")
            )
    }

    /// Whether it changes who may assume a role.
    pub fn changes_trust(&self) -> bool {
        (self.service.as_str(), self.name.as_str()) == ("iam", "UpdateAssumeRolePolicy")
    }

    /// What a contained principal that made this call got by it; `None` where it opens no way in.
    pub fn mints(&self, home: &Home) -> Option<Minted> {
        let born = |principal: Option<Principal>| principal.map(Minted::Born);
        match (self.service.as_str(), self.name.as_str()) {
            ("iam", "CreateUser" | "CreateRole") => born(self.principal(home)),
            (
                "iam",
                "CreateAccessKey"
                | "CreateLoginProfile"
                | "UpdateLoginProfile"
                | "CreateServiceSpecificCredential"
                | "UploadSSHPublicKey"
                | "UploadSigningCertificate"
                | "UpdateAssumeRolePolicy"
                | "AttachUserPolicy"
                | "AttachRolePolicy"
                | "PutUserPolicy"
                | "PutRolePolicy"
                | "DeleteUserPermissionsBoundary"
                | "DeleteRolePermissionsBoundary"
                | "AddUserToGroup",
            ) => Some(Minted::Widened(self.principal(home))),
            ("iam", "UpdateAccessKey") if self.parameter("status") == Some("Active") => {
                Some(Minted::Widened(self.principal(home)))
            }
            ("iam", "CreatePolicyVersion" | "SetDefaultPolicyVersion" | "PutGroupPolicy" | "AttachGroupPolicy")
            | ("sts", "GetFederationToken" | "GetSessionToken")
            | (
                "lambda",
                "AddPermission" | "CreateFunctionUrlConfig" | "UpdateFunctionUrlConfig" | "UpdateFunctionCode",
            ) => Some(Minted::Widened(None)),
            ("lambda", "CreateFunction") => {
                let role = self.parameter("role").and_then(|arn| Principal::from_arn(arn).ok());
                Some(Minted::Widened(role))
            }
            _ => None,
        }
    }

    /// The part of Firebreak that it is about, in a few words.
    pub fn own_part(&self, own: &Own) -> Option<String> {
        let ours = |name: &str| self.parameter(name).is_some_and(|value| own.is_named(value));
        match self.service.as_str() {
            "events" => {
                let bus = self.parameter("name").or_else(|| self.parameter("eventBusName")) == Some(own.stack.as_str());
                (ours("name") || ours("rule") || bus).then(|| "a rule or the bus".to_owned())
            }
            "lambda" => {
                let named = self.parameter("functionName").or_else(|| self.element(&["functionArn"]))?;
                own.is_named(named.rsplit_once("function:").map_or(named, |(_, name)| name))
                    .then(|| "a function, its permissions or its event source".to_owned())
            }
            "dynamodb" => {
                let table = self.parameter("tableName").or_else(|| self.parameter("resourceArn"))?;
                // By its name or its ARN; its stream and its index lie under that.
                let table = table.rsplit_once(":table/").map_or(table, |(_, named)| named);
                (table.split('/').next() == Some(own.table.as_str())).then(|| "the ledger".to_owned())
            }
            "kms" => {
                let key = self.parameter("keyId").or_else(|| self.parameter("targetKeyId"));
                let aliases = ["", "-seals", "-evidence"].map(|of| format!("alias/{}{of}", own.stack));
                let alias = self.parameter("aliasName").is_some_and(|alias| aliases.iter().any(|ours| ours == alias));
                let is = |ours: &str| {
                    key.is_some_and(|key| !ours.is_empty() && (ours == key || ours.ends_with(&format!("/{key}"))))
                };
                if is(&own.seal_key) {
                    return Some("the key of the ledger's seals".to_owned());
                }
                if is(&own.signing_key) {
                    return Some("the key that signs evidence".to_owned());
                }
                (is(&own.key) || alias).then(|| "the key".to_owned())
            }
            "sns" => {
                let topic = self.parameter("topicArn").or_else(|| self.parameter("subscriptionArn"))?;
                let rest = topic.strip_prefix(own.topic_arn.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
                    .then(|| "the topic of pages".to_owned())
            }
            "sqs" => {
                let queue = self.parameter("queueUrl")?.rsplit('/').next()?;
                own.is_named(queue).then(|| "a queue".to_owned())
            }
            // Any trail: without one nothing is told of.
            "cloudtrail" => Some("a trail".to_owned()),
            "cloudformation" => {
                let stack = self.parameter("stackName")?;
                let same = stack == own.stack || stack.contains(&format!(":stack/{}/", own.stack));
                same.then(|| "the stack".to_owned())
            }
            "iam" => {
                let policy = self.parameter("policyArn") == Some(own.deny_policy_arn.as_str());
                // Attaching and detaching are about the principal, not about the policy.
                let of_the_policy = policy && !self.name.starts_with("Attach") && !self.name.starts_with("Detach");
                (of_the_policy || ours("roleName")).then(|| "the deny policy or a function's role".to_owned())
            }
            "monitoring" => {
                let names = list(&self.detail, &["requestParameters", "alarmNames"]).filter_map(Value::as_str);
                let one = self.parameter("alarmName").into_iter();
                names.chain(one).any(|name| own.is_named(name)).then(|| "an alarm".to_owned())
            }
            _ => None,
        }
    }
}

/// What the names of the stack's rules, queues and alarms have after the stack's own and a hyphen; functions and their
/// roles are named by themselves.
pub const PARTS: [&str; 33] = [
    "assess-after-deployment",
    "changes",
    "delivery-failures",
    "denied-without-record",
    "deny-everything",
    "drill-findings",
    "evidence",
    "evidence-failures",
    "expire-revocations",
    "findings",
    "forward-changes",
    "forward-findings",
    "function-failures",
    "guard-silent",
    "isolate",
    "notify",
    "parts-missing",
    "publish-outcomes-lag",
    "put-back",
    "quarantine-principal-throttles",
    "recheck",
    "recheck-failures",
    "recycle",
    "recycle-failures",
    "recycle-waiting",
    "report",
    "revoke",
    "snapshot",
    "sweep",
    "trace",
    "trace-failures",
    "trace-waiting",
    "watch",
];

/// What an alarm on a function has after the function's name.
const FUNCTION_ALARMS: [&str; 1] = ["-errors"];

/// What belongs to Firebreak.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// The stack's name, which the names of its parts begin with, and the bus's name.
    pub stack: String,
    /// The ledger's table.
    pub table: String,
    /// The ARN of the key.
    pub key: String,
    /// The ARN of the key that the ledger's seals are made with.
    pub seal_key: String,
    /// The ARN of the key that signs the manifests of evidence.
    pub signing_key: String,
    /// The topic.
    pub topic_arn: String,
    /// The deny policy.
    pub deny_policy_arn: String,
}

impl Own {
    /// Whether a name is that of a part of the stack: of this one, not of another whose name goes on where ours ends.
    fn is_named(&self, name: &str) -> bool {
        let part = name.strip_prefix(self.stack.as_str()).and_then(|rest| rest.strip_prefix('-'));
        part.is_some_and(|part| {
            let function = FunctionName::ALL.iter().any(|function| {
                let rest = part.strip_prefix(function.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':') || FUNCTION_ALARMS.contains(&rest))
            });
            // The role that forwards to the home Region is named after its own.
            function || PARTS.contains(&part) || part.starts_with("forward-")
        })
    }

    /// Whether a principal is one of the functions' roles.
    pub fn is_role(&self, principal: &Principal) -> bool {
        let named = matches!(&principal.name, PrincipalName::Role(name) if self.is_named(name.as_str()));
        named && principal.path().is_some_and(|path| path.starts_with("/firebreak/"))
    }
}

/// The name of a call without the date of its API, which Lambda's events carry: `UpdateFunctionCode20150331v2`.
pub(crate) fn undated(name: &str) -> &str {
    let digits = name.find(|c: char| c.is_ascii_digit());
    match digits.and_then(|from| Some((name.get(..from)?, name.get(from..)?))) {
        Some((plain, date)) if date.bytes().take_while(u8::is_ascii_digit).count() == 8 => plain,
        _ => name,
    }
}

#[cfg(test)]
mod tests;
