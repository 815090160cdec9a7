//! Sends what lies in the failure queues through again: events that EventBridge could not deliver, here or to the home
//! Region, invocations that failed three times, and messages that were taken up in vain too often.
//!
//! It invokes with the rights of a person who may command Firebreak, and a message says what whoever put it there wanted
//! said. So nothing goes to a function that it would take for a command: events only.

use aws_config::{Region, SdkConfig};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use firebreak_model::action::FunctionName;
use firebreak_model::ids::{FunctionArn, shown};
use jiff::Timestamp;
use serde_json::Value;

use crate::CliError;

/// Where something is sent again.
#[derive(Debug, Clone, PartialEq)]
enum To {
    /// To what a message names: a function, or a queue of the stack.
    Named(String),
    /// To this function of the stack.
    Function(FunctionName),
    /// To the stack's queue of this name.
    Queue(&'static str),
}

/// What is to be sent again.
#[derive(Debug, PartialEq)]
struct Again {
    to: To,
    payload: String,
}

/// A failure queue, and how its messages are read.
type Failures = (&'static str, fn(&Message) -> Result<Again, String>);

/// The failure queues of a stack at home. The first two are always there.
const AT_HOME: [Failures; 6] = [
    ("delivery-failures", of_delivery),
    ("function-failures", of_invocation),
    ("recycle-failures", |message| of_queue("recycle", message)),
    ("recheck-failures", |message| of_queue("recheck", message)),
    ("evidence-failures", |message| of_queue("evidence", message)),
    ("trace-failures", |message| of_queue("trace", message)),
];

/// The one of a stack that only forwards.
const AWAY: Failures = ("forward-failures", of_forwarding);

/// What to do with what lies there.
#[derive(Debug, clap::Args)]
pub(crate) struct Redrive {
    /// The most messages to take from each queue
    #[arg(long, default_value_t = 100)]
    most: u32,
    /// What a stack of the same name in this other Region could not forward home, instead
    #[arg(long, value_name = "REGION")]
    forwarded_from: Option<String>,
    /// Delete the batches of the ledger's stream that lie in `function-failures`, and nothing else: what they would have
    /// had ordered and paged is lost, the ledger keeps its records. Only told without `--yes`
    #[arg(long, conflicts_with = "forwarded_from")]
    drop_stream_batches: bool,
    /// Do delete them
    #[arg(long, requires = "drop_stream_batches")]
    yes: bool,
}

/// Redrives the failure queues of a stack; of one in another Region where that is named. A message goes from its queue
/// only when it was accepted where it is sent. A queue that cannot be read keeps no other from being redriven.
pub(crate) async fn redrive(sdk: &SdkConfig, stack: &str, asked: &Redrive) -> Result<String, CliError> {
    let home = Stack { name: stack, sqs: aws_sdk_sqs::Client::new(sdk), lambda: aws_sdk_lambda::Client::new(sdk) };
    let mut told = Told::default();
    if let Some(region) = &asked.forwarded_from {
        let away = sdk.to_builder().region(Region::new(region.clone())).build();
        home.drain(&aws_sdk_sqs::Client::new(&away), AWAY, asked, &mut told).await;
    } else {
        for failures in AT_HOME {
            home.drain(&home.sqs, failures, asked, &mut told).await;
        }
    }
    told.conclude()
}

/// What a person is told.
#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    left: usize,
    /// The queues that were not read, or not to their end, each with AWS's word on it.
    unread: Vec<String>,
}

impl Told {
    /// Whatever is left anywhere is a failure.
    fn conclude(mut self) -> Result<String, CliError> {
        let whole = self.left == 0 && self.unread.is_empty();
        if !self.unread.is_empty() {
            self.lines.push("not read, or not to the end:".to_owned());
            self.lines.extend(self.unread.into_iter().map(|queue| format!("  {queue}")));
        }
        let text = self.lines.join("\n");
        if whole { Ok(text) } else { Err(CliError::Redrive(text)) }
    }
}

/// What AWS said, by its code: what is denied is not taken for what does not exist.
fn said(error: &(impl ProvideErrorMetadata + std::error::Error)) -> String {
    match error.code() {
        Some(code) => shown(&format!("{code}: {}", error.message().unwrap_or("it does not say why"))),
        None => DisplayErrorContext(error).to_string(),
    }
}

/// The stack whose functions and queues take up again what failed.
#[derive(Debug)]
struct Stack<'a> {
    name: &'a str,
    sqs: aws_sdk_sqs::Client,
    lambda: aws_sdk_lambda::Client,
}

impl Stack<'_> {
    /// Sends the messages of one queue again.
    async fn drain(&self, from: &aws_sdk_sqs::Client, failures: Failures, asked: &Redrive, told: &mut Told) {
        let name = format!("{}-{}", self.name, failures.0);
        let url = match queue_url(from, &name).await {
            Ok(url) => url,
            // A stack may leave `revoke-sessions` out, and has no searches then.
            Err(NoQueue { absent: true, .. }) if failures.0 == "trace-failures" => return,
            Err(NoQueue { why, .. }) => return told.unread.push(format!("{name}: {why}")),
        };
        let mut drained = Drained::default();
        if let Err(why) = self.drain_into(from, &url, failures, asked, &mut drained).await {
            told.unread.push(format!("{name}: {why}"));
        }
        let Drained { sent, dropped, kept } = drained;
        let dropped = if dropped == 0 { String::new() } else { format!(", {dropped} dropped") };
        told.left += kept.len();
        told.lines.push(format!("{name}: {sent} sent again, {} left{dropped}", kept.len()));
        told.lines.extend(kept.into_iter().map(|why| format!("  left: {why}")));
    }

    async fn drain_into(
        &self,
        from: &aws_sdk_sqs::Client,
        url: &str,
        (_, read): Failures,
        asked: &Redrive,
        drained: &mut Drained,
    ) -> Result<(), String> {
        // What fails again comes back to the queue: it waits for the next redrive.
        let waiting = waiting(from, url).await?.min(u64::from(asked.most));
        while (drained.count() as u64) < waiting {
            let receive = from.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(1);
            let receive = receive.visibility_timeout(60).message_attribute_names("All");
            let batch = receive.send().await.map_err(|e| said(&e))?;
            let messages = batch.messages.unwrap_or_default();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let lost = stream_batch(&message);
                let end = match &lost {
                    Some(_) if asked.drop_stream_batches && asked.yes => Ok(()),
                    Some(batch) if asked.drop_stream_batches => Err(format!("{batch}; --yes drops it")),
                    Some(batch) => Err(format!("{batch}; {THEN_DROP_IT}")),
                    None if asked.drop_stream_batches => Err("it is no batch of the ledger's stream".to_owned()),
                    None => match read(&message) {
                        Ok(again) => self.send(again).await,
                        Err(why) => Err(why),
                    },
                };
                if let Err(why) = end {
                    drained.kept.push(why);
                    continue;
                }
                let receipt = message.receipt_handle.unwrap_or_default();
                let delete = from.delete_message().queue_url(url).receipt_handle(receipt).send().await;
                delete.map_err(|e| format!("a message that is dealt with stays in it: {}", said(&e)))?;
                *(if lost.is_some() { &mut drained.dropped } else { &mut drained.sent }) += 1;
            }
        }
        Ok(())
    }

    async fn send(&self, Again { to, payload }: Again) -> Result<(), String> {
        match to {
            To::Queue(queue) => self.enqueue(queue, payload).await,
            To::Function(function) => self.invoke(&format!("{}-{function}", self.name), payload).await,
            To::Named(target) => match self.own_queue(&target) {
                Some(queue) => self.enqueue(queue, payload).await,
                None => match function_of(&target, self.name) {
                    Some(FunctionName::ReleaseContainment) => Err(ASK_AGAIN.to_owned()),
                    Some(_) => self.invoke(&target, payload).await,
                    None => {
                        let shown = shown(&target);
                        Err(format!("it names `{shown}`, which is no function of this stack"))
                    }
                },
            },
        }
    }

    /// The queue of the stack that an ARN names.
    fn own_queue(&self, arn: &str) -> Option<&'static str> {
        let name = arn.rsplit(':').next().unwrap_or_default();
        let own = |queue: &&str| format!("{}-{queue}", self.name) == name;
        ["recycle", "recheck", "evidence", "trace"]
            .into_iter()
            .find(own)
            .filter(|_| arn.split(':').nth(2) == Some("sqs"))
    }

    async fn enqueue(&self, queue: &str, payload: String) -> Result<(), String> {
        let name = format!("{}-{queue}", self.name);
        let url = queue_url(&self.sqs, &name).await.map_err(|NoQueue { why, .. }| format!("`{name}`: {why}"))?;
        let sent = self.sqs.send_message().queue_url(url).message_body(payload).send().await;
        sent.map(|_| ()).map_err(|e| format!("`{name}` did not accept it: {}", said(&e)))
    }

    async fn invoke(&self, function: &str, payload: String) -> Result<(), String> {
        let payload = event(&payload)?;
        let invoke = self.lambda.invoke().function_name(function).invocation_type(InvocationType::Event);
        let accepted = invoke.payload(Blob::new(payload)).send().await;
        accepted.map(|_| ()).map_err(|e| format!("`{function}` did not accept it: {}", said(&e)))
    }
}

/// What became of the messages of a queue.
#[derive(Debug, Default)]
struct Drained {
    sent: usize,
    dropped: usize,
    /// Why each of the others is left.
    kept: Vec<String>,
}

impl Drained {
    fn count(&self) -> usize {
        self.sent + self.dropped + self.kept.len()
    }
}

/// Why a queue has no address.
struct NoQueue {
    /// Whether AWS says that there is none.
    absent: bool,
    why: String,
}

async fn queue_url(sqs: &aws_sdk_sqs::Client, name: &str) -> Result<String, NoQueue> {
    let answer = sqs.get_queue_url().queue_name(name).send().await.map_err(|error| {
        let absent = error.as_service_error().is_some_and(GetQueueUrlError::is_queue_does_not_exist);
        let hint =
            if absent { " (is the stack in this Region and account? AWS_REGION, AWS_PROFILE, --stack)" } else { "" };
        NoQueue { absent, why: format!("{}{hint}", said(&error)) }
    })?;
    Ok(answer.queue_url.unwrap_or_default())
}

/// How many messages wait in a queue, as far as SQS knows.
async fn waiting(sqs: &aws_sdk_sqs::Client, url: &str) -> Result<u64, String> {
    let count = QueueAttributeName::ApproximateNumberOfMessages;
    let answer = sqs.get_queue_attributes().queue_url(url).attribute_names(count.clone()).send().await;
    let attributes = answer.map_err(|e| said(&e))?.attributes;
    Ok(attributes.and_then(|all| all.get(&count)?.parse().ok()).unwrap_or(0))
}

/// Which of our functions an ARN is of. What a message names is what its sender wrote: it can only be one of our own.
fn function_of(function: &str, stack: &str) -> Option<FunctionName> {
    let arn = function.parse::<FunctionArn>().ok()?;
    FunctionName::ALL.iter().copied().find(|own| arn.name() == format!("{stack}-{own}"))
}

/// What a person is told of a command that lies in a queue.
const ASK_AGAIN: &str =
    "it is a command, which only a person gives: if it was yours, ask for it again, and delete the message";

/// The payload, where it can be an event and no command: whoever may send to a queue of failures would otherwise have
/// the person who redrives it contain, approve, pause or release. What is sent is what was judged.
fn event(payload: &str) -> Result<String, String> {
    let read: Value = serde_json::from_str(payload).map_err(|error| format!("it holds no JSON: {error}"))?;
    if read.get("firebreak").is_some() { Err(ASK_AGAIN.to_owned()) } else { Ok(read.to_string()) }
}

fn attribute<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.message_attributes()?.get(name)?.string_value()
}

/// What EventBridge leaves in a rule's dead-letter queue: the event, with the target in an attribute.
fn of_delivery(message: &Message) -> Result<Again, String> {
    let target = attribute(message, "TARGET_ARN").ok_or("it does not say which target it was for (`TARGET_ARN`)")?;
    let payload = message.body().ok_or("it has no body")?;
    Ok(Again { to: To::Named(target.to_owned()), payload: payload.to_owned() })
}

/// What could not be forwarded home. It cannot be put on a bus again, for nobody may send in the name of AWS: it goes to
/// the function that the rule at home would have handed it to, which believes it as little as any other.
fn of_forwarding(message: &Message) -> Result<Again, String> {
    let rule = attribute(message, "RULE_ARN").ok_or("it does not say which rule it came by (`RULE_ARN`)")?;
    let function = if rule.ends_with("-forward-findings") {
        FunctionName::QuarantinePrincipal
    } else if rule.ends_with("-forward-changes") {
        FunctionName::GuardContainment
    } else {
        return Err(format!("it came by `{}`, which forwards nothing", shown(rule)));
    };
    let payload = message.body().ok_or("it has no body")?;
    Ok(Again { to: To::Function(function), payload: payload.to_owned() })
}

/// What was taken from a queue in vain: the same message once more.
fn of_queue(queue: &'static str, message: &Message) -> Result<Again, String> {
    let payload = message.body().ok_or("it has no body")?;
    Ok(Again { to: To::Queue(queue), payload: payload.to_owned() })
}

/// What a person does before they drop a batch of the stream.
const THEN_DROP_IT: &str = "look at `firebreak list`, contain again what lacks steps, which has its order go out once more, and \
                            drop the batch with `firebreak redrive --drop-stream-batches --yes`";

/// What a message says that is a batch of the ledger's stream: Lambda leaves its position, and no records; `None` for any
/// other. Whatever holds a request is none: nothing that could be sent again is ever dropped.
fn stream_batch(message: &Message) -> Option<String> {
    let body: Value = serde_json::from_str(message.body().unwrap_or_default()).ok()?;
    let batch = body.get("DDBStreamBatchInfo").filter(|batch| batch.is_object())?;
    if body.get("requestPayload").is_some() {
        return None;
    }
    let time = |name: &str| batch.get(name).and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let records = batch.get("batchSize").and_then(Value::as_u64);
    let records = records.map_or_else(|| "some records".to_owned(), |count| format!("{count} records"));
    let when = match (time("approximateArrivalOfFirstRecord"), time("approximateArrivalOfLastRecord")) {
        (Some(first), Some(last)) => format!("from {first} to {last}"),
        _ => "of a time that it does not say".to_owned(),
    };
    Some(format!(
        "it is a batch of the ledger's stream, {records} {when}: the ledger has them, and what was to follow from them \
         (orders to the other functions, pages, metrics) is lost"
    ))
}

/// What Lambda leaves on failure: the request with its context.
fn of_invocation(message: &Message) -> Result<Again, String> {
    let body: Value = serde_json::from_str(message.body().unwrap_or_default()).map_err(|e| e.to_string())?;
    let function = body.pointer("/requestContext/functionArn").and_then(Value::as_str);
    let payload = body.get("requestPayload").ok_or("it holds no request")?;
    let function = function.ok_or("it names no function")?;
    Ok(Again { to: To::Named(function.to_owned()), payload: payload.to_string() })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use aws_sdk_sqs::types::MessageAttributeValue;
    use serde_json::json;

    use super::*;

    const OURS: &str = "arn:aws:lambda:eu-west-1:111122223333:function:firebreak-quarantine-principal";

    fn message(name: &str, value: &str) -> Message {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value).build().unwrap();
        Message::builder().body(r#"{"detail":1}"#).message_attributes(name, value).build()
    }

    #[test]
    fn an_undelivered_event_goes_to_its_target() {
        let again = of_delivery(&message("TARGET_ARN", OURS)).unwrap();
        assert_eq!(again, Again { to: To::Named(OURS.into()), payload: r#"{"detail":1}"#.into() });
        assert!(of_delivery(&Message::builder().body("{}").build()).is_err());
    }

    #[test]
    fn what_could_not_be_forwarded_goes_to_the_function_of_its_rule_at_home() {
        for (rule, function) in [
            ("firebreak-forward-findings", Some(FunctionName::QuarantinePrincipal)),
            ("firebreak-forward-changes", Some(FunctionName::GuardContainment)),
            ("firebreak-findings", None),
            ("", None),
        ] {
            let message = message("RULE_ARN", &format!("arn:aws:events:eu-north-1:111122223333:rule/{rule}"));
            let again = of_forwarding(&message).ok().map(|again| again.to);
            assert_eq!(again, function.map(To::Function), "{rule}");
        }
        assert!(of_forwarding(&message("TARGET_ARN", OURS)).is_err(), "what a message names is not asked");
    }

    #[test]
    fn a_failed_invocation_is_made_again_with_its_payload() {
        let body = json!({"requestContext": {"functionArn": format!("{OURS}:$LATEST")}, "requestPayload": {"a": 1}});
        let again = of_invocation(&Message::builder().body(body.to_string()).build()).unwrap();
        assert_eq!(again.payload, r#"{"a":1}"#);
        assert!(matches!(again.to, To::Named(target) if function_of(&target, "firebreak").is_some()));
        for (body, says) in [(json!({}), "no request"), (json!([]), "no request")] {
            let refused = of_invocation(&Message::builder().body(body.to_string()).build()).unwrap_err();
            assert!(refused.contains(says), "{body}: {refused}");
        }
    }

    #[test]
    fn a_batch_of_the_stream_is_told_and_nothing_that_holds_a_request_is_one() {
        let batch = json!({"requestContext": {"functionArn": OURS}, "DDBStreamBatchInfo": {"batchSize": 7,
            "approximateArrivalOfFirstRecord": "2026-11-21T03:00:00Z",
            "approximateArrivalOfLastRecord": "2026-11-21T03:00:04Z"}});
        let told = |body: &Value| stream_batch(&Message::builder().body(body.to_string()).build());
        let said = told(&batch).unwrap();
        assert!(said.contains("7 records from 2026-11-21T03:00:00Z to 2026-11-21T03:00:04Z"), "{said}");
        let hostile =
            json!({"DDBStreamBatchInfo": {"batchSize": "\u{1b}[2J", "approximateArrivalOfFirstRecord": "\u{1b}"}});
        let said = told(&hostile).unwrap();
        assert!(said.contains("some records of a time that it does not say") && !said.contains('\u{1b}'), "{said}");
        let mut event = batch;
        event["requestPayload"] = json!({"detail-type": "GuardDuty Finding"});
        for none in [event, json!({"DDBStreamBatchInfo": true}), json!({"requestPayload": {}}), json!([])] {
            assert_eq!(told(&none), None, "{none}");
        }
    }

    #[test]
    fn only_functions_of_the_stack_are_invoked() {
        for (function, expected) in [
            (OURS, Some(FunctionName::QuarantinePrincipal)),
            (&format!("{OURS}:$LATEST"), Some(FunctionName::QuarantinePrincipal)),
            ("arn:aws:lambda:eu-west-1:111122223333:function:firebreak-evil", None),
            ("arn:aws:lambda:eu-west-1:111122223333:function:orders", None),
            ("firebreak-quarantine-principal", None),
        ] {
            assert_eq!(function_of(function, "firebreak"), expected, "{function}");
        }
    }

    #[tokio::test]
    async fn a_command_out_of_a_queue_is_given_to_no_function() {
        let sdk = SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::latest()).build();
        let home =
            Stack { name: "firebreak", sqs: aws_sdk_sqs::Client::new(&sdk), lambda: aws_sdk_lambda::Client::new(&sdk) };
        let commands = ["contain", "approve", "release", "list", "pause", "resume", "revoke", "anything"];
        let mut wrong = Vec::new();
        let functions = FunctionName::ALL.iter().map(|name| OURS.replace("quarantine-principal", name.as_str()));
        for function in functions {
            for command in commands {
                for payload in [json!({"firebreak": command}), json!({"firebreak": command, "detail-type": "x"})] {
                    let failed = json!({"requestContext": {"functionArn": format!("{function}:$LATEST")},
                        "requestPayload": payload});
                    let failed = of_invocation(&Message::builder().body(failed.to_string()).build()).unwrap();
                    let lost = Again { to: To::Named(function.clone()), payload: payload.to_string() };
                    let forwarded =
                        Again { to: To::Function(FunctionName::QuarantinePrincipal), payload: payload.to_string() };
                    for again in [failed, lost, forwarded] {
                        let said = home.send(again).await.unwrap_err();
                        wrong.extend((said != ASK_AGAIN).then(|| format!("{function} {payload}: {said}")));
                    }
                }
            }
        }
        // An event has nothing to tell the function that obeys persons alone.
        let release = OURS.replace("quarantine-principal", "release-containment");
        let said = home.send(Again { to: To::Named(release), payload: "{}".to_owned() }).await.unwrap_err();
        wrong.extend((said != ASK_AGAIN).then_some(said));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(event(r#"{"detail-type":"GuardDuty Finding"}"#).unwrap(), r#"{"detail-type":"GuardDuty Finding"}"#);
        assert!(event("{").unwrap_err().contains("no JSON"));
    }
}
