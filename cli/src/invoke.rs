//! Invokes a function of the stack and makes its answer readable.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use serde_json::Value;

use crate::CliError;

/// The ARN of whoever calls.
pub(crate) async fn caller(sdk: &SdkConfig) -> Result<String, CliError> {
    let answer = aws_sdk_sts::Client::new(sdk).get_caller_identity().send().await.map_err(|e| CliError::Aws {
        what: "the caller's identity could not be found out: set AWS credentials, or give --requested-by".to_owned(),
        source: Box::new(e),
    })?;
    Ok(answer.arn.unwrap_or_default())
}

/// Invokes a function and waits for its answer: a release takes as long as IAM does to propagate.
pub(crate) async fn invoke(sdk: &SdkConfig, function: &str, payload: &Value) -> Result<Value, CliError> {
    let patience = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_mins(11)).build();
    let config = aws_sdk_lambda::config::Builder::from(sdk)
        .timeout_config(patience)
        .retry_config(RetryConfig::disabled())
        .build();
    let lambda = aws_sdk_lambda::Client::from_conf(config);
    let answer = lambda.invoke().function_name(function).payload(Blob::new(payload.to_string())).send().await.map_err(
        |error| {
            let not_there = error.as_service_error().is_some_and(InvokeError::is_resource_not_found_exception);
            let hint = if not_there {
                ": is the stack in this Region and account? (AWS_REGION, AWS_PROFILE, --stack)"
            } else {
                ""
            };
            CliError::Aws { what: format!("`{function}` could not be invoked{hint}"), source: Box::new(error) }
        },
    )?;
    let body = answer.payload.map(Blob::into_inner).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if answer.function_error.is_some() {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = text("errorMessage").unwrap_or_else(|| "it does not say why".to_owned());
        // Lambda's own, of a function that was ended, have no type, or one of the runtime's.
        let kind = text("errorType").unwrap_or_else(|| "the function was ended; ask again, it goes on".to_owned());
        return Err(CliError::Function { kind, message });
    }
    Ok(body)
}

/// An answer as lines: outcome, incident, steps, message.
pub(crate) fn readable(answer: &Value) -> String {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut lines = vec![text(answer, "outcome")];
    let incident = text(answer, "incident_id");
    if !incident.is_empty() {
        lines.push(format!("incident  {incident}"));
    }
    for step in answer.get("steps").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("{:<10}{}  {}", text(step, "state"), text(step, "step"), text(step, "detail")));
    }
    for incident in answer.get("incidents").and_then(Value::as_array).into_iter().flatten() {
        let drill = if incident.get("drill") == Some(&Value::Bool(true)) { "  (drill)" } else { "" };
        let columns = ["incident_id", "state", "since", "principal"].map(|name| text(incident, name));
        let [id, state, since, principal] = columns;
        lines.push(format!("{id}  {state:<18}{since:<32}{principal}{drill}"));
        for step in incident.get("standing").and_then(Value::as_array).into_iter().flatten() {
            lines.push(format!("    {}", step.as_str().unwrap_or_default()));
        }
        let said = text(incident, "message");
        if !said.is_empty() {
            lines.push(format!("    {said}"));
        }
    }
    let message = text(answer, "message");
    if !message.is_empty() {
        lines.push(message);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_reads_as_lines() {
        let answer = json!({"outcome": "contained", "incident_id": "fb-1",
            "steps": [{"step": "quarantine-role@role/orders", "state": "applied", "detail": "attached"}]});
        assert_eq!(readable(&answer), "contained\nincident  fb-1\napplied   quarantine-role@role/orders  attached");
        assert_eq!(readable(&Value::Null), "");
    }
}
