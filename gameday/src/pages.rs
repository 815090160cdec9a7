//! The responder's end of the pages: a queue that is subscribed to the topic.

use anyhow::{Context as _, Result};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::deploy::Stack;

/// A page as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub body: String,
}

/// A responder's inbox.
#[derive(Debug, Clone)]
pub struct Inbox {
    queue_url: String,
}

impl Inbox {
    /// Subscribes a new queue to the stack's topic.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn subscribe(aws: &Aws, stack: &Stack) -> Result<Self> {
        let topic = stack.output("PagesTopicArn")?;
        let name = format!("{}-responder", stack.name);
        let answer = aws.sqs.create_queue().queue_name(name).send().await?;
        let queue_url = answer.queue_url().context("the new queue has no URL")?.to_owned();
        let arn = queue_arn(aws, &queue_url).await?;
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": topic}}}]});
        let set = aws.sqs.set_queue_attributes().queue_url(&queue_url);
        set.attributes(QueueAttributeName::Policy, policy.to_string()).send().await?;
        aws.sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(&arn).send().await?;
        Ok(Self { queue_url })
    }

    /// What has arrived since the last look.
    ///
    /// # Errors
    /// Where the queue cannot be read.
    pub async fn take(&self, aws: &Aws) -> Result<Vec<Page>> {
        let mut pages = Vec::new();
        loop {
            let request = aws.sqs.receive_message().queue_url(&self.queue_url).max_number_of_messages(10);
            let answer = request.wait_time_seconds(0).send().await?;
            if answer.messages().is_empty() {
                return Ok(pages);
            }
            for message in answer.messages() {
                let body: Value = serde_json::from_str(message.body().unwrap_or_default())?;
                let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                pages.push(Page { subject: text("Subject"), body: text("Message") });
                let receipt = message.receipt_handle().unwrap_or_default();
                aws.sqs.delete_message().queue_url(&self.queue_url).receipt_handle(receipt).send().await?;
            }
        }
    }
}

/// The ARN of a queue.
///
/// # Errors
/// Where there is none of that URL.
pub async fn queue_arn(aws: &Aws, queue_url: &str) -> Result<String> {
    let request = aws.sqs.get_queue_attributes().queue_url(queue_url).attribute_names(QueueAttributeName::QueueArn);
    let answer = request.send().await?;
    let arn = answer.attributes().and_then(|all| all.get(&QueueAttributeName::QueueArn));
    Ok(arn.with_context(|| format!("`{queue_url}` has no ARN"))?.clone())
}
