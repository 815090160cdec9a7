//! Deploys the real template: its text with each `CodeUri` of a packaged folder replaced by an uploaded archive,
//! and nothing else changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aws_sdk_cloudformation::types::{Capability, Parameter, StackEvent};
use aws_sdk_s3::primitives::ByteStream;
use firebreak_model::action::FunctionName;

use crate::aws::Aws;

const PATIENCE: Duration = Duration::from_mins(2);

/// A deployed stack.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// The Region.
    pub region: String,
    outputs: BTreeMap<String, String>,
}

impl Stack {
    /// An output.
    ///
    /// # Errors
    /// Where the template has none of that name.
    pub fn output(&self, key: &str) -> Result<&str> {
        self.outputs.get(key).map(String::as_str).with_context(|| format!("the stack has no output `{key}`"))
    }

    /// The name of one of its functions.
    pub fn function(&self, name: FunctionName) -> String {
        format!("{}-{name}", self.name)
    }
}

/// Uploads the template and the functions' archives, once for a Region: CloudFormation takes code from its own.
///
/// # Errors
/// Where an archive is missing, or the template does not name a function's folder.
pub async fn upload(aws: &Aws, template: &Path, functions: &Path) -> Result<String> {
    let bucket = &format!("firebreak-gameday-code-{}", aws.region);
    aws.create_bucket(bucket).await?;
    let text = std::fs::read_to_string(template).with_context(|| format!("cannot read `{}`", template.display()))?;
    let text = with_uploaded_code(&text, bucket)?;
    for function in FunctionName::ALL {
        let archive = functions.join(format!("{function}.zip"));
        let body = std::fs::read(&archive)
            .with_context(|| format!("cannot read `{}`: run `cargo xtask package --quick`", archive.display()))?;
        put(aws, bucket, &format!("{function}.zip"), body).await?;
    }
    put(aws, bucket, "template.yaml", text.into_bytes()).await?;
    Ok(format!("{}/{bucket}/template.yaml", aws.endpoint))
}

async fn put(aws: &Aws, bucket: &str, key: &str, body: Vec<u8>) -> Result<()> {
    let request = aws.s3.put_object().bucket(bucket).key(key).body(ByteStream::from(body)).customize();
    // An unoptimised build hashes slowly, and nobody stands between.
    request.disable_payload_signing().send().await.with_context(|| format!("cannot upload `{key}`"))?;
    Ok(())
}

/// The template with each function's folder replaced by its archive in the bucket.
///
/// # Errors
/// Where a function's line is not there exactly once, or a folder is left over.
pub fn with_uploaded_code(template: &str, bucket: &str) -> Result<String> {
    let mut text = template.to_owned();
    for function in FunctionName::ALL {
        let line = format!("CodeUri: target/lambda/{function}/\n");
        let found = text.matches(&line).count();
        if found != 1 {
            bail!("the template holds `{}` {found} times, not once", line.trim());
        }
        text = text.replace(&line, &format!("CodeUri: s3://{bucket}/{function}.zip\n"));
    }
    if let Some(left) = text.lines().find(|line| line.contains("CodeUri: target/")) {
        bail!("the template packages a function that is not known: `{}`", left.trim());
    }
    Ok(text)
}

/// Creates a stack of the uploaded template and waits for it.
///
/// # Errors
/// With the reason of the resource that failed first.
pub async fn create(aws: &Aws, url: &str, name: &str, parameters: &[(&str, &str)]) -> Result<Stack> {
    let parameters = parameters
        .iter()
        .map(|(key, value)| Parameter::builder().parameter_key(*key).parameter_value(*value).build())
        .collect();
    aws.cloudformation
        .create_stack()
        .stack_name(name)
        .template_url(url)
        .set_parameters(Some(parameters))
        .capabilities(Capability::CapabilityIam)
        .capabilities(Capability::CapabilityNamedIam)
        .capabilities(Capability::CapabilityAutoExpand)
        .send()
        .await
        .with_context(|| format!("stack `{name}` is refused"))?;
    let start = Instant::now();
    loop {
        let answer = aws.cloudformation.describe_stacks().stack_name(name).send().await?;
        let stack = answer.stacks().first().with_context(|| format!("stack `{name}` is not there"))?;
        let status = stack.stack_status().map_or("", |s| s.as_str());
        if status == "CREATE_COMPLETE" {
            let pairs = stack.outputs().iter().filter_map(|o| Some((o.output_key()?.into(), o.output_value()?.into())));
            let region = aws.region.clone();
            return Ok(Stack { name: name.to_owned(), region, outputs: pairs.collect() });
        }
        if !status.ends_with("_IN_PROGRESS") || status.starts_with("ROLLBACK") {
            let events = aws.cloudformation.describe_stack_events().stack_name(name).send().await?;
            bail!("stack `{name}` is {status}: {}", first_failure(events.stack_events()));
        }
        if start.elapsed() > PATIENCE {
            bail!("stack `{name}` is still {status} after {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn first_failure(events: &[StackEvent]) -> String {
    let failed = |event: &&StackEvent| event.resource_status().is_some_and(|s| s.as_str().ends_with("_FAILED"));
    match events.iter().rev().find(failed) {
        Some(event) => format!(
            "`{}` ({}): {}",
            event.logical_resource_id().unwrap_or("?"),
            event.resource_type().unwrap_or("?"),
            event.resource_status_reason().unwrap_or("no reason given")
        ),
        None => "no resource says why".to_owned(),
    }
}

/// The parameters of a stack that a game day is played on, with this ceiling over the playbook.
///
/// Evidence of the one that only observes is locked otherwise than the template locks it by itself: nothing is collected there
/// that would have to go.
pub fn parameters(mode: &'static str) -> Vec<(&'static str, &'static str)> {
    let (lock, days) = if mode == "observe" { ("COMPLIANCE", "7") } else { ("GOVERNANCE", "1") };
    vec![
        ("HomeRegion", "this-region"),
        ("WorkloadRegions", OBSERVING_REGION),
        ("Mode", mode),
        ("Drills", "enabled"),
        ("RevocationLeadSeconds", "1"),
        ("RecheckSeconds", "1,2,4"),
        ("CloudTrailLagSeconds", "1"),
        ("DeployerRolePatterns", "arn:aws:iam::*:role/firebreak-drill/deployer-*"),
        ("EvidenceLockMode", lock),
        ("EvidenceRetentionDays", days),
        ("EvidenceFollowUpSeconds", "1"),
    ]
}

/// The Region where the stack with mode `observe` is, so that a drill reaches one stack only.
pub const OBSERVING_REGION: &str = "eu-central-1";

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_function_of_the_template_is_replaced_and_nothing_else() {
        let template = include_str!("../../template.yaml");
        let text = with_uploaded_code(template, "code").unwrap();
        let changed: Vec<_> = template.lines().zip(text.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!(changed.len(), FunctionName::ALL.len());
        assert!(changed.iter().all(|(_, now)| now.trim().starts_with("CodeUri: s3://code/")));
    }

    #[test]
    fn a_missing_line_and_a_line_too_many_are_errors() {
        let template = include_str!("../../template.yaml");
        let missing = template.replace("CodeUri: target/lambda/snapshot-logs/\n", "");
        assert!(with_uploaded_code(&missing, "code").unwrap_err().to_string().contains("snapshot-logs"));
        let more = format!("{template}\n      CodeUri: target/lambda/other/\n");
        assert!(with_uploaded_code(&more, "code").unwrap_err().to_string().contains("other"));
    }
}
