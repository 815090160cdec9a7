//! Sends what lies in the failure queues through again: events that EventBridge could not deliver, here or to the home
//! Region, invocations that failed three times, and messages that were taken up in vain too often.
//!
//! It invokes with the rights of a person who may command Firebreak, and a message says what whoever put it there wanted
//! said. So nothing goes to a function that it would take for a command: events only.

use aws_config::{Region, SdkConfig};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use firebreak_model::action::FunctionName;
use firebreak_model::ids::FunctionArn;
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

fn aws(what: impl Into<String>, error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Aws { what: what.into(), source: Box::new(error) }
}

/// Redrives the failure queues of a stack; of one in another Region where that is named. A message goes from its queue
/// only when it was accepted where it is sent.
pub(crate) async fn redrive(
    sdk: &SdkConfig,
    stack: &str,
    most: u32,
    forwarded_from: Option<String>,
) -> Result<String, CliError> {
    let home = Stack { name: stack, sqs: aws_sdk_sqs::Client::new(sdk), lambda: aws_sdk_lambda::Client::new(sdk) };
    let mut told = Told::default();
    if let Some(region) = forwarded_from {
        let away = sdk.to_builder().region(Region::new(region)).build();
        let sqs = aws_sdk_sqs::Client::new(&away);
        let url = queue_url(&sqs, &format!("{stack}-{}", AWAY.0)).await?;
        home.drain(&sqs, &url, AWAY, most, &mut told).await?;
    } else {
        for failures in AT_HOME {
            let url = queue_url(&home.sqs, &format!("{stack}-{}", failures.0)).await;
            // A stack may leave `revoke-sessions` out, and has no searches then.
            if url.is_err() && failures.0 == "trace-failures" {
                continue;
            }
            home.drain(&home.sqs, &url?, failures, most, &mut told).await?;
        }
    }
    let text = told.lines.join("\n");
    if told.left > 0 {
        return Err(CliError::Redrive(text));
    }
    Ok(text)
}

/// What a person is told.
#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    left: usize,
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
    async fn drain(
        &self,
        from: &aws_sdk_sqs::Client,
        url: &str,
        (queue, read): Failures,
        most: u32,
        told: &mut Told,
    ) -> Result<(), CliError> {
        let name = format!("{}-{queue}", self.name);
        let (mut sent, mut kept) = (0, Vec::new());
        // What fails again comes back to the queue: it waits for the next redrive.
        let waiting = waiting(from, url, &name).await?.min(u64::from(most));
        while ((sent + kept.len()) as u64) < waiting {
            let batch = from
                .receive_message()
                .queue_url(url)
                .max_number_of_messages(10)
                .wait_time_seconds(1)
                .visibility_timeout(60)
                .message_attribute_names("All")
                .send()
                .await
                .map_err(|e| aws(format!("`{name}` could not be read"), e))?;
            let messages = batch.messages.unwrap_or_default();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let again = match read(&message) {
                    Ok(again) => self.send(again).await,
                    Err(why) => Err(why),
                };
                match again {
                    Ok(()) => {
                        let receipt = message.receipt_handle.unwrap_or_default();
                        let delete = from.delete_message().queue_url(url).receipt_handle(receipt);
                        delete.send().await.map_err(|e| aws(format!("a message stays in `{name}`"), e))?;
                        sent += 1;
                    }
                    Err(why) => kept.push(why),
                }
            }
        }
        told.left += kept.len();
        told.lines.push(format!("{name}: {sent} sent again, {} left", kept.len()));
        told.lines.extend(kept.into_iter().map(|why| format!("  left: {why}")));
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
                        let shown = firebreak_model::ids::shown(&target);
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
        let url = queue_url(&self.sqs, &name).await.map_err(|e| e.to_string())?;
        let sent = self.sqs.send_message().queue_url(url).message_body(payload).send().await;
        sent.map(|_| ()).map_err(|e| format!("`{name}` did not accept it: {e}"))
    }

    async fn invoke(&self, function: &str, payload: String) -> Result<(), String> {
        let payload = event(&payload)?;
        let invoke = self.lambda.invoke().function_name(function).invocation_type(InvocationType::Event);
        let accepted = invoke.payload(Blob::new(payload)).send().await;
        accepted
            .map(|_| ())
            .map_err(|e| format!("`{function}` did not accept it: {}", aws_sdk_lambda::error::DisplayErrorContext(e)))
    }
}

async fn queue_url(sqs: &aws_sdk_sqs::Client, name: &str) -> Result<String, CliError> {
    let answer = sqs.get_queue_url().queue_name(name).send().await;
    Ok(answer.map_err(|e| aws(format!("the queue `{name}` was not found"), e))?.queue_url.unwrap_or_default())
}

/// How many messages wait in a queue, as far as SQS knows.
async fn waiting(sqs: &aws_sdk_sqs::Client, url: &str, name: &str) -> Result<u64, CliError> {
    let count = QueueAttributeName::ApproximateNumberOfMessages;
    let answer = sqs.get_queue_attributes().queue_url(url).attribute_names(count.clone()).send().await;
    let attributes = answer.map_err(|e| aws(format!("`{name}` could not be read"), e))?.attributes;
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
        return Err(format!("it came by `{}`, which forwards nothing", firebreak_model::ids::shown(rule)));
    };
    let payload = message.body().ok_or("it has no body")?;
    Ok(Again { to: To::Function(function), payload: payload.to_owned() })
}

/// What was taken from a queue in vain: the same message once more.
fn of_queue(queue: &'static str, message: &Message) -> Result<Again, String> {
    let payload = message.body().ok_or("it has no body")?;
    Ok(Again { to: To::Queue(queue), payload: payload.to_owned() })
}

/// What Lambda leaves on failure: the request with its context. A batch of the stream leaves only its position.
fn of_invocation(message: &Message) -> Result<Again, String> {
    let body: Value = serde_json::from_str(message.body().unwrap_or_default()).map_err(|e| e.to_string())?;
    if body.get("DDBStreamBatchInfo").is_some() {
        let text = "it is a batch of the ledger's stream, which holds no records: the ledger has them; look at the \
                    incidents of that time, then delete the message";
        return Err(text.to_owned());
    }
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
        for (body, says) in [
            (json!({"DDBStreamBatchInfo": {}}), "ledger's stream"),
            (json!({}), "no request"),
            (json!([]), "no request"),
        ] {
            let refused = of_invocation(&Message::builder().body(body.to_string()).build()).unwrap_err();
            assert!(refused.contains(says), "{body}: {refused}");
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
