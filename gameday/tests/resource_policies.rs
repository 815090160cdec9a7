//! The policies of Firebreak's own resources, as they are deployed, by an evaluator of their own: a table of callers and
//! calls, and mutants of each policy, every one of which the table notices.
//!
//! The table says what a policy of a resource decides by itself: it denies, it allows, or it is silent and leaves it to
//! what IAM allows the caller.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use aws_sdk_sqs::types::QueueAttributeName;
use firebreak_model::action::FunctionName;
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::deploy::Stack;
use iam_eval::{Caller, Decision, Policy, Request, mutants};
use serde_json::Value;

const ELSEWHERE: &str = "444455556666";

/// What a policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Denies,
    Allows,
    Nothing,
}

/// A call, and what the policy says of it.
struct Row(String, Request, Says);

/// A resource's policy and its table.
struct Sheet {
    name: String,
    document: Value,
    rows: Vec<Row>,
}

impl Sheet {
    fn new(name: &str, document: &str) -> Self {
        Self { name: name.to_owned(), document: serde_json::from_str(document).unwrap(), rows: Vec::new() }
    }

    fn row(&mut self, request: Request, says: Says) {
        let name = format!("{:?} {} on {} {:?}", request.caller, request.action, request.resource, request.keys());
        self.rows.push(Row(name, request, says));
    }

    /// The rows that a document does not judge as the table says.
    fn wrong<'a>(&'a self, document: &Value) -> impl Iterator<Item = &'a str> {
        let policy = Policy::read(document).unwrap();
        let judged = move |request: &Request| match policy.judge(request) {
            Decision::Denied(_) => Says::Denies,
            Decision::Allowed => Says::Allows,
            Decision::Silent => Says::Nothing,
        };
        self.rows
            .iter()
            .filter(move |Row(_, request, says)| judged(request) != *says)
            .map(|Row(name, ..)| name.as_str())
    }

    fn hold(&self) {
        let wrong: Vec<&str> = self.wrong(&self.document).collect();
        assert!(wrong.is_empty(), "{}: {} rows are wrong:\n{}", self.name, wrong.len(), wrong.join("\n"));
        let mutants = mutants::of(&self.document);
        assert!(mutants.len() > 3, "{}: {} mutants", self.name, mutants.len());
        let unnoticed: Vec<&str> =
            mutants.iter().filter(|(_, one)| self.wrong(one).next().is_none()).map(|(what, _)| what.as_str()).collect();
        let list = unnoticed.join("\n");
        assert!(unnoticed.is_empty(), "{}: {} of {} unnoticed:\n{list}", self.name, unnoticed.len(), mutants.len());
    }
}

fn principal(account: &str, what: &str) -> Caller {
    let arn = format!("arn:aws:iam::{account}:{what}");
    let session = what.rsplit_once('/').filter(|_| what.starts_with("role/"));
    let session = session.map(|(_, name)| format!("arn:aws:sts::{account}:assumed-role/{name}/session"));
    Caller::Principal { arn, session }
}

fn service(name: &str) -> Caller {
    Caller::Service(format!("{name}.amazonaws.com"))
}

/// A call over TLS.
fn call(caller: &Caller, action: &str, resource: &str) -> Request {
    Request::new(caller.clone(), action, resource).with("aws:SecureTransport", ["true"])
}

fn over_plain_http(request: Request) -> Request {
    request.with("aws:SecureTransport", ["false"])
}

/// Who is none of ours: people, pipelines, namesakes of the functions' roles, other accounts, services.
fn strangers(stack: &str) -> Vec<Caller> {
    let mut all: Vec<Caller> =
        ["root", "role/Admin", "user/ops/ana", "role/firebreak/other"].map(|what| principal(ACCOUNT, what)).into();
    for function in FunctionName::ALL {
        let name = format!("{stack}-{function}");
        for what in [
            format!("role/{name}"),
            format!("role/other/{name}"),
            format!("role/firebreak/x/{name}"),
            format!("user/firebreak/{name}"),
            format!("role/firebreak/{name}-2"),
        ] {
            all.push(principal(ACCOUNT, &what));
        }
        all.push(principal(ELSEWHERE, &format!("role/firebreak/{name}")));
    }
    all.extend(["dynamodb", "events", "lambda"].map(service));
    all
}

fn role_of(stack: &str, function: FunctionName) -> Caller {
    principal(ACCOUNT, &format!("role/firebreak/{stack}-{function}"))
}

/// The game day's deploying role, and who only looks like it.
const DEPLOYER: &str = "role/firebreak-drill/deployer-eu";
const NOT_DEPLOYERS: [&str; 4] = [
    "role/deployer-eu",
    "user/firebreak-drill/deployer-eu",
    "role/firebreak-drill/x-deployer-eu",
    "role/x/deployer-eu",
];

fn ledger(stack: &str, arn: &str, document: &str) -> Sheet {
    const WRITES: [&str; 7] =
        ["BatchWriteItem", "DeleteItem", "PartiQLDelete", "PartiQLInsert", "PartiQLUpdate", "PutItem", "UpdateItem"];
    let mut sheet = Sheet::new("the ledger's table", document);
    for write in WRITES.map(|write| format!("dynamodb:{write}")) {
        for &function in FunctionName::ALL {
            let says = if function == FunctionName::PublishOutcomes { Says::Denies } else { Says::Nothing };
            sheet.row(call(&role_of(stack, function), &write, arn), says);
        }
        sheet.row(call(&principal(ACCOUNT, DEPLOYER), &write, arn), Says::Nothing);
        let not_deployers = NOT_DEPLOYERS.iter().map(|what| principal(ACCOUNT, what));
        for stranger in strangers(stack).into_iter().chain(not_deployers) {
            sheet.row(call(&stranger, &write, arn), Says::Denies);
        }
    }
    for read in ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateTable"] {
        for caller in [principal(ACCOUNT, "role/Admin"), role_of(stack, FunctionName::PublishOutcomes)] {
            sheet.row(call(&caller, read, arn), Says::Nothing);
        }
    }
    sheet
}

fn seal_key(stack: &str, arn: &str, document: &str) -> Sheet {
    const SEALING: [FunctionName; 6] = [
        FunctionName::QuarantinePrincipal,
        FunctionName::RevokeSessions,
        FunctionName::IsolateFunction,
        FunctionName::GuardContainment,
        FunctionName::SnapshotLogs,
        FunctionName::ReleaseContainment,
    ];
    let actions = ["kms:GenerateMac", "kms:VerifyMac", "kms:CreateGrant"];
    held_key(Sheet::new("the key of the seals", document), stack, arn, &actions, &SEALING)
}

fn signing_key(stack: &str, arn: &str, document: &str) -> Sheet {
    let sheet = Sheet::new("the key that signs manifests", document);
    held_key(sheet, stack, arn, &["kms:Sign", "kms:CreateGrant"], &[FunctionName::SnapshotLogs])
}

/// A key that only these functions use so, and IAM governs.
fn held_key(mut sheet: Sheet, stack: &str, arn: &str, actions: &[&str], holders: &[FunctionName]) -> Sheet {
    for action in actions {
        for &function in FunctionName::ALL {
            let says = if holders.contains(&function) { Says::Allows } else { Says::Denies };
            sheet.row(call(&role_of(stack, function), action, arn), says);
        }
        for stranger in strangers(stack).into_iter().chain([principal(ACCOUNT, DEPLOYER)]) {
            sheet.row(call(&stranger, action, arn), Says::Denies);
        }
    }
    for action in ["kms:DescribeKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"] {
        sheet.row(call(&principal(ACCOUNT, "role/Admin"), action, arn), Says::Allows);
        sheet.row(call(&principal(ELSEWHERE, "role/Admin"), action, arn), Says::Nothing);
        sheet.row(call(&service("cloudwatch"), action, arn), Says::Nothing);
    }
    sheet
}

fn evidence_key(arn: &str, document: &str) -> Sheet {
    let mut sheet = Sheet::new("the key of evidence and pages", document);
    for action in ["kms:Decrypt", "kms:GenerateDataKey", "kms:PutKeyPolicy"] {
        sheet.row(call(&principal(ACCOUNT, "role/Admin"), action, arn), Says::Allows);
        sheet.row(call(&principal(ELSEWHERE, "role/Admin"), action, arn), Says::Nothing);
    }
    let alarms =
        |action: &str, account: &str| call(&service("cloudwatch"), action, arn).with("aws:SourceAccount", [account]);
    for action in ["kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"] {
        sheet.row(alarms(action, ACCOUNT), Says::Allows);
        sheet.row(alarms(action, ELSEWHERE), Says::Nothing);
        sheet.row(call(&service("cloudwatch"), action, arn), Says::Nothing);
        sheet.row(call(&service("events"), action, arn).with("aws:SourceAccount", [ACCOUNT]), Says::Nothing);
        let foreign = call(&principal(ELSEWHERE, "role/Admin"), action, arn);
        sheet.row(foreign.with("aws:SourceAccount", [ACCOUNT]), Says::Nothing);
    }
    for action in ["kms:Encrypt", "kms:CreateGrant", "kms:PutKeyPolicy"] {
        sheet.row(alarms(action, ACCOUNT), Says::Nothing);
    }
    sheet
}

fn topic(stack: &str, arn: &str, document: &str) -> Sheet {
    let mut sheet = Sheet::new("the topic of pages", document);
    let alarm = |account: &str, region: &str, name: &str| format!("arn:aws:cloudwatch:{region}:{account}:alarm:{name}");
    let ours = alarm(ACCOUNT, REGION, &format!("{stack}-delivery-failures"));
    let by = |caller: &Caller, account: &str, source: &str, on: &str| {
        call(caller, "sns:Publish", on).with("aws:SourceAccount", [account]).with("aws:SourceArn", [source])
    };
    let cloudwatch = service("cloudwatch");
    sheet.row(by(&cloudwatch, ACCOUNT, &ours, arn), Says::Allows);
    sheet.row(over_plain_http(by(&cloudwatch, ACCOUNT, &ours, arn)), Says::Denies);
    sheet.row(by(&cloudwatch, ELSEWHERE, &ours, arn), Says::Nothing);
    sheet.row(by(&service("events"), ACCOUNT, &ours, arn), Says::Nothing);
    let another = format!("{arn}-2");
    sheet.row(by(&cloudwatch, ACCOUNT, &ours, &another), Says::Nothing);
    sheet.row(over_plain_http(by(&service("events"), ACCOUNT, &ours, &another)), Says::Nothing);
    for source in [
        alarm(ACCOUNT, REGION, "other"),
        alarm(ACCOUNT, "eu-west-1", &format!("{stack}-delivery-failures")),
        alarm(ELSEWHERE, REGION, &format!("{stack}-delivery-failures")),
    ] {
        sheet.row(by(&cloudwatch, ACCOUNT, &source, arn), Says::Nothing);
    }
    sheet.row(call(&cloudwatch, "sns:Publish", arn), Says::Nothing);
    for caller in [principal(ACCOUNT, "role/Admin"), principal(ELSEWHERE, "role/Admin"), service("events")] {
        sheet.row(call(&caller, "sns:Publish", arn), Says::Nothing);
        sheet.row(over_plain_http(call(&caller, "sns:Publish", arn)), Says::Denies);
        sheet.row(call(&caller, "sns:Subscribe", arn), Says::Nothing);
        sheet.row(over_plain_http(call(&caller, "sns:Subscribe", arn)), Says::Nothing);
    }
    sheet
}

fn bucket(stack: &str, key: &str, arn: &str, document: &str) -> Sheet {
    const ENCRYPTION: &str = "s3:x-amz-server-side-encryption";
    const KEY: &str = "s3:x-amz-server-side-encryption-aws-kms-key-id";
    const UNTIL: &str = "s3:object-lock-retain-until-date";
    let mut sheet = Sheet::new("the evidence bucket", document);
    let object = format!("{arn}/incidents/1");
    let another = format!("{arn}-2/incidents/1");
    for stranger in strangers(stack) {
        sheet.row(call(&stranger, "s3:PutObject", &object), Says::Denies);
    }
    for (caller, collects) in [
        (principal(ACCOUNT, "role/Admin"), false),
        (role_of(stack, FunctionName::SnapshotLogs), true),
        (principal(ELSEWHERE, "role/Admin"), false),
        (service("logging.s3"), false),
    ] {
        let put = |on: &str| call(&caller, "s3:PutObject", on);
        for (action, on) in [("s3:ListBucket", arn), ("s3:GetObject", &object), ("s3:PutObject", &object)] {
            let denied = action == "s3:PutObject" && !collects;
            sheet.row(call(&caller, action, on), if denied { Says::Denies } else { Says::Nothing });
            sheet.row(over_plain_http(call(&caller, action, on)), Says::Denies);
        }
        sheet.row(over_plain_http(put(&another)), Says::Nothing);
        // What makes an object says that none may be there; beginning an upload and its parts make none.
        let making = |request: Request, makes: &str| request.with("s3:ObjectCreationOperation", [makes]);
        let else_denied = |says| if collects { says } else { Says::Denies };
        sheet.row(making(put(&object), "true"), Says::Denies);
        sheet.row(making(put(&object), "true").with("s3:if-none-match", ["*"]), else_denied(Says::Nothing));
        sheet.row(making(put(&object), "false"), else_denied(Says::Nothing));
        sheet.row(making(put(&another), "true"), Says::Nothing);
        sheet.row(making(call(&caller, "s3:GetObject", &object), "true"), Says::Nothing);
        for (action, says) in [("s3:DeleteObject", Says::Denies), ("s3:DeleteObjectVersion", Says::Nothing)] {
            sheet.row(call(&caller, action, &object), says);
            sheet.row(call(&caller, action, &another), Says::Nothing);
        }
        for (header, value, says) in [
            (ENCRYPTION, "aws:kms", Says::Nothing),
            (ENCRYPTION, "AES256", Says::Denies),
            (ENCRYPTION, "aws:kms:dsse", Says::Denies),
            (KEY, key, Says::Nothing),
            (KEY, "arn:aws:kms:us-east-1:111122223333:key/other", Says::Denies),
            (UNTIL, "2026-11-21T03:00:00Z", Says::Denies),
        ] {
            sheet.row(put(&object).with(header, [value]), if collects { says } else { Says::Denies });
            sheet.row(put(&another).with(header, [value]), Says::Nothing);
            sheet.row(call(&caller, "s3:GetObject", &object).with(header, [value]), Says::Nothing);
        }
    }
    sheet
}

/// Whether nobody but AWS and these functions of ours leaves anything in a queue, because a person redrives what lies there.
fn senders(stack: &str, name: &str) -> Option<&'static [FunctionName]> {
    match name.strip_prefix(stack) {
        Some("-delivery-failures") => Some(&[]),
        Some("-function-failures") => Some(FunctionName::ALL),
        _ => None,
    }
}

/// A queue: over TLS alone, and what the rules of these ARNs may send to it.
fn queue(stack: &str, name: &str, arn: &str, document: &str, rules: &[String]) -> Sheet {
    let mut sheet = Sheet::new(&format!("the queue {name}"), document);
    let another = format!("{arn}-2");
    let held = senders(stack, name);
    if let Some(senders) = held {
        for &function in FunctionName::ALL {
            let says = if senders.contains(&function) { Says::Nothing } else { Says::Denies };
            sheet.row(call(&role_of(stack, function), "sqs:SendMessage", arn), says);
        }
        for stranger in strangers(stack).into_iter().chain([principal(ACCOUNT, DEPLOYER)]) {
            let says = if matches!(stranger, Caller::Service(_)) { Says::Nothing } else { Says::Denies };
            sheet.row(call(&stranger, "sqs:SendMessage", arn), says);
        }
    }
    for caller in [principal(ACCOUNT, "role/Admin"), principal(ELSEWHERE, "role/Admin"), service("sns")] {
        for action in ["sqs:SendMessage", "sqs:ReceiveMessage", "sqs:PurgeQueue"] {
            let stranger = held.is_some() && action == "sqs:SendMessage" && matches!(caller, Caller::Principal { .. });
            sheet.row(call(&caller, action, arn), if stranger { Says::Denies } else { Says::Nothing });
            sheet.row(over_plain_http(call(&caller, action, arn)), Says::Denies);
            sheet.row(over_plain_http(call(&caller, action, &another)), Says::Nothing);
        }
    }
    let send = |by: &Caller, source: &str, on: &str| call(by, "sqs:SendMessage", on).with("aws:SourceArn", [source]);
    let events = service("events");
    sheet.row(call(&events, "sqs:SendMessage", arn), Says::Nothing);
    for rule in rules {
        sheet.row(send(&events, rule, arn), Says::Allows);
        sheet.row(over_plain_http(send(&events, rule, arn)), Says::Denies);
        sheet.row(send(&events, rule, &another), Says::Nothing);
        sheet.row(send(&service("scheduler"), rule, arn), Says::Nothing);
        let elsewhere = if held.is_some() { Says::Denies } else { Says::Nothing };
        sheet.row(send(&principal(ELSEWHERE, "role/Admin"), rule, arn), elsewhere);
        sheet.row(call(&events, "sqs:ReceiveMessage", arn).with("aws:SourceArn", [rule]), Says::Nothing);
        let short = rule.rsplit('/').next().unwrap();
        for source in [
            format!("{rule}-2"),
            format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/other/{short}"),
            format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/x{short}"),
            rule.replace(REGION, "eu-west-1"),
            rule.replace(ACCOUNT, ELSEWHERE),
            if rule.contains(&format!(":rule/{short}")) {
                format!("{rule}-3")
            } else {
                format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/{short}")
            },
        ] {
            if !rules.contains(&source) {
                sheet.row(send(&events, &source, arn), Says::Nothing);
            }
        }
    }
    sheet
}

/// The rules of the stack that send to a queue: as a target, or what they could not deliver.
async fn rules_to(aws: &Aws, stack: &Stack, queue: &str) -> Vec<String> {
    let mut found = Vec::new();
    for bus in ["default", stack.output("OutcomeBusName").unwrap()] {
        let rules = aws.events.list_rules().event_bus_name(bus).name_prefix(&stack.name).send().await.unwrap();
        for rule in rules.rules() {
            let name = rule.name().unwrap();
            if !name.starts_with(&format!("{}-", stack.name)) {
                continue;
            }
            let targets = aws.events.list_targets_by_rule().event_bus_name(bus).rule(name).send().await.unwrap();
            let sends = targets.targets().iter().any(|target| {
                target.arn() == queue || target.dead_letter_config().and_then(|d| d.arn()) == Some(queue)
            });
            if sends {
                // As EventBridge names a rule where it calls: one of the default bus without the bus.
                let place = if bus == "default" { name.to_owned() } else { format!("{bus}/{name}") };
                found.push(format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/{place}"));
            }
        }
    }
    found
}

async fn sheets(aws: &Aws, stack: &Stack) -> Vec<Sheet> {
    let output = |name: &str| stack.output(name).unwrap().to_owned();
    let name = stack.name.as_str();
    let mut sheets = Vec::new();

    let table = aws.dynamodb.describe_table().table_name(output("LedgerTableName")).send().await.unwrap();
    let arn = table.table.unwrap().table_arn.unwrap();
    let policy = aws.dynamodb.get_resource_policy().resource_arn(&arn).send().await.unwrap();
    sheets.push(ledger(name, &arn, &policy.policy.unwrap()));

    let (seals, evidence, signing) = (output("SealKeyArn"), output("KeyArn"), output("EvidenceSigningKeyArn"));
    let policy_of = async |arn: &str| {
        aws.kms.get_key_policy().key_id(arn).policy_name("default").send().await.unwrap().policy.unwrap()
    };
    sheets.push(seal_key(name, &seals, &policy_of(&seals).await));
    sheets.push(evidence_key(&evidence, &policy_of(&evidence).await));
    sheets.push(signing_key(name, &signing, &policy_of(&signing).await));

    let arn = output("PagesTopicArn");
    let attributes = aws.sns.get_topic_attributes().topic_arn(&arn).send().await.unwrap();
    sheets.push(topic(name, &arn, &attributes.attributes().unwrap()["Policy"]));

    let evidence_bucket = output("EvidenceBucketName");
    let policy = aws.s3.get_bucket_policy().bucket(&evidence_bucket).send().await.unwrap().policy.unwrap();
    sheets.push(bucket(name, &evidence, &format!("arn:aws:s3:::{evidence_bucket}"), &policy));

    let queues = aws.sqs.list_queues().queue_name_prefix(format!("{name}-")).send().await.unwrap();
    for url in queues.queue_urls() {
        let names = [QueueAttributeName::Policy, QueueAttributeName::QueueArn];
        let get = aws.sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
        let attributes = get.send().await.unwrap().attributes.unwrap();
        let arn = &attributes[&QueueAttributeName::QueueArn];
        if arn.ends_with("-responder") {
            // The game day's own: whoever is paged.
            continue;
        }
        let Some(policy) = attributes.get(&QueueAttributeName::Policy) else { panic!("`{url}` has no policy") };
        let queue_name = arn.rsplit(':').next().unwrap();
        sheets.push(queue(name, queue_name, arn, policy, &rules_to(aws, stack, arn).await));
    }
    sheets
}

#[test]
fn the_policies_of_our_own_resources_say_what_the_table_says_and_every_mutant_is_noticed() {
    common::in_the_theatre(|theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let sheets = sheets(&theatre.aws, stack).await;
        assert!(sheets.len() >= 16, "{} policies", sheets.len());
        for sheet in &sheets {
            sheet.hold();
        }
        // Which rules send to which queue is not taken from the policies: each has its own.
        for (queue, senders) in [("recycle", 1), ("recheck", 1), ("trace", 1), ("function-failures", 0)] {
            let arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}-{queue}", stack.name);
            assert_eq!(rules_to(&theatre.aws, stack, &arn).await.len(), senders, "{queue}");
        }
    });
}
