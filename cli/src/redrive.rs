//! Sends what lies in the failure queues through again: events that EventBridge could not deliver,
//! invocations that failed three times, and recyclings that did.

use aws_config::SdkConfig;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use firebreak_model::action::FunctionName;
use firebreak_model::ids::FunctionArn;
use serde_json::Value;

use crate::CliError;

/// What is to be sent again: to a function, or to the queue of recyclings.
#[derive(Debug, PartialEq)]
struct Again {
    target: String,
    payload: String,
}

fn aws(what: impl Into<String>, error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Aws { what: what.into(), source: Box::new(error) }
}

/// Redrives the three failure queues of a stack. A message goes from its queue only when its invocation was accepted.
pub(crate) async fn redrive(sdk: &SdkConfig, stack: &str, most: u32) -> Result<String, CliError> {
    let sqs = aws_sdk_sqs::Client::new(sdk);
    let lambda = aws_sdk_lambda::Client::new(sdk);
    let mut lines = Vec::new();
    let mut left = 0;
    for (queue, read) in [
        ("delivery-failures", of_delivery as fn(&Message) -> Result<Again, String>),
        ("function-failures", of_invocation),
    ] {
        let name = format!("{stack}-{queue}");
        let url = queue_url(&sqs, &name).await?;
        let (mut sent, mut kept) = (0, Vec::new());
        // What fails again comes back to the queue: it waits for the next redrive.
        let waiting = waiting(&sqs, &url, &name).await?.min(u64::from(most));
        while ((sent + kept.len()) as u64) < waiting {
            let batch = sqs
                .receive_message()
                .queue_url(&url)
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
                match again(&lambda, &sqs, stack, &message, read).await {
                    Ok(()) => {
                        let receipt = message.receipt_handle.unwrap_or_default();
                        let delete = sqs.delete_message().queue_url(&url).receipt_handle(receipt);
                        delete.send().await.map_err(|e| aws(format!("a message stays in `{name}`"), e))?;
                        sent += 1;
                    }
                    Err(why) => kept.push(why),
                }
            }
        }
        left += kept.len();
        lines.push(format!("{name}: {sent} sent again, {} left", kept.len()));
        lines.extend(kept.into_iter().map(|why| format!("  left: {why}")));
    }
    lines.push(move_back(&sqs, &format!("{stack}-recycle-failures")).await?);
    lines.push(move_back(&sqs, &format!("{stack}-evidence-failures")).await?);
    // A stack may leave `revoke-sessions` out, and has no searches then.
    let searches = format!("{stack}-trace-failures");
    if queue_url(&sqs, &searches).await.is_ok() {
        lines.push(move_back(&sqs, &searches).await?);
    }
    let text = lines.join("\n");
    if left > 0 {
        return Err(CliError::Redrive(text));
    }
    Ok(text)
}

async fn queue_url(sqs: &aws_sdk_sqs::Client, name: &str) -> Result<String, CliError> {
    let answer = sqs.get_queue_url().queue_name(name).send().await;
    Ok(answer.map_err(|e| aws(format!("the queue `{name}` was not found"), e))?.queue_url.unwrap_or_default())
}

async fn attribute(
    sqs: &aws_sdk_sqs::Client,
    url: &str,
    name: &str,
    attribute: QueueAttributeName,
) -> Result<String, CliError> {
    let answer = sqs.get_queue_attributes().queue_url(url).attribute_names(attribute.clone()).send().await;
    let attributes = answer.map_err(|e| aws(format!("`{name}` could not be read"), e))?.attributes;
    Ok(attributes.and_then(|mut all| all.remove(&attribute)).unwrap_or_default())
}

/// How many messages wait in a queue, as far as SQS knows.
async fn waiting(sqs: &aws_sdk_sqs::Client, url: &str, name: &str) -> Result<u64, CliError> {
    let count = attribute(sqs, url, name, QueueAttributeName::ApproximateNumberOfMessages).await?;
    Ok(count.parse().unwrap_or(0))
}

/// The queue of recyclings is a dead-letter queue of SQS: SQS itself moves the messages back.
async fn move_back(sqs: &aws_sdk_sqs::Client, name: &str) -> Result<String, CliError> {
    let url = queue_url(sqs, name).await?;
    let waiting = waiting(sqs, &url, name).await?;
    if waiting == 0 {
        return Ok(format!("{name}: empty"));
    }
    let arn = attribute(sqs, &url, name, QueueAttributeName::QueueArn).await?;
    let task = sqs.start_message_move_task().source_arn(arn).send().await;
    task.map_err(|e| aws(format!("the messages of `{name}` could not be moved back"), e))?;
    Ok(format!("{name}: {waiting} on their way back"))
}

async fn again(
    lambda: &aws_sdk_lambda::Client,
    sqs: &aws_sdk_sqs::Client,
    stack: &str,
    message: &Message,
    read: fn(&Message) -> Result<Again, String>,
) -> Result<(), String> {
    let Again { target: function, payload } = read(message)?;
    let name = function.rsplit(':').next().unwrap_or_default();
    let queue = ["recycle", "trace"].iter().map(|of| format!("{stack}-{of}")).find(|queue| queue == name);
    if let (Some("sqs"), Some(queue)) = (function.split(':').nth(2), queue) {
        let url = queue_url(sqs, &queue).await.map_err(|e| e.to_string())?;
        let sent = sqs.send_message().queue_url(url).message_body(payload).send().await;
        return sent.map(|_| ()).map_err(|e| format!("`{queue}` did not accept it: {e}"));
    }
    if !is_ours(&function, stack) {
        return Err(format!(
            "it names `{}`, which is no function of this stack",
            firebreak_model::ids::shown(&function)
        ));
    }
    lambda
        .invoke()
        .function_name(&function)
        .invocation_type(InvocationType::Event)
        .payload(Blob::new(payload))
        .send()
        .await
        .map_err(|e| format!("`{function}` did not accept it: {}", aws_sdk_lambda::error::DisplayErrorContext(e)))?;
    Ok(())
}

/// A message is read by whoever holds the queue's rights, and written by AWS; all the same it can only name our own functions.
fn is_ours(function: &str, stack: &str) -> bool {
    let Ok(arn) = function.parse::<FunctionArn>() else { return false };
    FunctionName::ALL.iter().any(|own| arn.name() == format!("{stack}-{own}"))
}

/// What EventBridge leaves in a rule's dead-letter queue: the event, with the target in an attribute.
fn of_delivery(message: &Message) -> Result<Again, String> {
    let target = message.message_attributes().and_then(|a| a.get("TARGET_ARN")).and_then(|v| v.string_value());
    let target = target.ok_or("it does not say which target it was for (`TARGET_ARN`)")?;
    let payload = message.body().ok_or("it has no body")?;
    Ok(Again { target: target.to_owned(), payload: payload.to_owned() })
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
    Ok(Again { target: function.ok_or("it names no function")?.to_owned(), payload: payload.to_string() })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use aws_sdk_sqs::types::MessageAttributeValue;
    use serde_json::json;

    use super::*;

    const OURS: &str = "arn:aws:lambda:eu-west-1:111122223333:function:firebreak-quarantine-principal";

    #[test]
    fn an_undelivered_event_goes_to_its_target() {
        let target = MessageAttributeValue::builder().data_type("String").string_value(OURS).build().unwrap();
        let message = Message::builder().body(r#"{"detail":1}"#).message_attributes("TARGET_ARN", target).build();
        let again = of_delivery(&message).unwrap();
        assert_eq!(again, Again { target: OURS.into(), payload: r#"{"detail":1}"#.into() });
        assert!(of_delivery(&Message::builder().body("{}").build()).is_err());
    }

    #[test]
    fn a_failed_invocation_is_made_again_with_its_payload() {
        let body = json!({"requestContext": {"functionArn": format!("{OURS}:$LATEST")}, "requestPayload": {"a": 1}});
        let again = of_invocation(&Message::builder().body(body.to_string()).build()).unwrap();
        assert_eq!(again.payload, r#"{"a":1}"#);
        assert!(is_ours(&again.target, "firebreak"));
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
            (OURS, true),
            ("arn:aws:lambda:eu-west-1:111122223333:function:firebreak-evil", false),
            ("arn:aws:lambda:eu-west-1:111122223333:function:orders", false),
            ("firebreak-quarantine-principal", false),
        ] {
            assert_eq!(is_ours(function, "firebreak"), expected, "{function}");
        }
    }
}
