//! One function with one enabled event source, without URLs, versions, aliases or destinations.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ACCOUNT, Answer, FUNCTION, PACKAGES, REGION, ROLE, ROLE_PATH, World};
use crate::call::Call;

/// How long the code of the function is.
const CODE_BYTES: usize = 148_211;
/// Its SHA-256, in base64, to which the function holds what it fetches.
const CODE_SHA256: &str = "HLg+BJssbDLGMuzlsDRUBas5pNwxMcR7eWdToXI2SVs=";

/// The code of the function, which is no real one: as long as one, and as hard to compress.
pub(super) fn package() -> Vec<u8> {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut bytes = b"PK\x03\x04".to_vec();
    while bytes.len() < CODE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(CODE_BYTES);
    bytes
}

impl World {
    pub(super) fn aws_lambda(&mut self, call: &Call) -> Option<Answer> {
        let given = |name: &str| call.parameters.get(name).cloned();
        let arn = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{FUNCTION}");
        let answer = match call.operation.as_str() {
            "GetFunctionConfiguration" => self.configuration(&arn),
            "GetFunction" => json!({
                "Configuration": self.configuration(&arn), "Tags": {"team": "orders"},
                "Code": {"RepositoryType": "S3", "Location": format!("{}/{PACKAGES}/{FUNCTION}", self.packages)},
            }),
            "GetFunctionCodeSigningConfig" => json!({
                "CodeSigningConfigArn": format!("arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-0a1b2c3d4e5f60718"),
                "FunctionName": FUNCTION,
            }),
            "ListTags" => json!({"Tags": {"team": "orders"}}),
            "UpdateFunctionConfiguration" => {
                if let Some(description) = given("Description") {
                    description.as_str().unwrap_or_default().clone_into(&mut self.description);
                }
                self.configuration(&arn)
            }
            "GetFunctionConcurrency" => match &self.reserved {
                Some(figure) => json!({"ReservedConcurrentExecutions": figure}),
                None => json!({}),
            },
            "PutFunctionConcurrency" => {
                self.reserved = given("ReservedConcurrentExecutions");
                json!({"ReservedConcurrentExecutions": self.reserved})
            }
            "DeleteFunctionConcurrency" => {
                self.reserved = None;
                return Some(Answer::new(204, "application/json", ""));
            }
            "ListProvisionedConcurrencyConfigs" => json!({"ProvisionedConcurrencyConfigs": []}),
            "ListFunctionUrlConfigs" => json!({"FunctionUrlConfigs": []}),
            "ListFunctionEventInvokeConfigs" => json!({"FunctionEventInvokeConfigs": []}),
            "GetPolicy" => return Some(Answer::json_error(404, "ResourceNotFoundException")),
            "ListAliases" => json!({"Aliases": []}),
            "ListVersionsByFunction" => json!({"Versions": [self.configuration(&format!("{arn}:$LATEST"))]}),
            "ListEventSourceMappings" => json!({"EventSourceMappings": [self.mapping(&arn)]}),
            "UpdateEventSourceMapping" => {
                self.mapping_disabled = given("Enabled") == Some(json!(false));
                self.mapping(&arn)
            }
            "Invoke" => {
                self.invoked.push(serde_json::from_str(call.text("Payload")).unwrap_or_default());
                self.leave(&Timestamp::now().to_string());
                let mut answer = Answer::json(&json!({"outcome": "revoked"}));
                if self.invoked_fails {
                    self.items_at_failure.clone_from(&self.items);
                    answer.headers.push(("x-amz-function-error", "Unhandled".to_owned()));
                }
                return Some(answer);
            }
            _ => return None,
        };
        Some(Answer::json(&answer))
    }

    fn configuration(&self, arn: &str) -> Value {
        json!({
            "FunctionName": FUNCTION, "FunctionArn": arn, "Runtime": "python3.13", "Handler": "app.handler",
            "Role": format!("arn:aws:iam::{ACCOUNT}:role{ROLE_PATH}{ROLE}"), "CodeSize": CODE_BYTES,
            "Description": self.description, "Timeout": 30, "MemorySize": 512, "Version": "$LATEST",
            "LastModified": "2026-10-02T09:11:43.000+0000", "CodeSha256": CODE_SHA256,
            "Environment": {"Variables": {"TABLE": "orders", "TOKEN": "not-to-be-collected"}},
            "TracingConfig": {"Mode": "PassThrough"}, "RevisionId": "0a1b2c3d-4e5f-4061-8273-94a5b6c7d8e9",
            "State": "Active", "LastUpdateStatus": "Successful", "PackageType": "Zip", "Architectures": ["x86_64"],
            "EphemeralStorage": {"Size": 512}, "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": format!("/aws/lambda/{FUNCTION}")},
        })
    }

    fn mapping(&self, arn: &str) -> Value {
        json!({
            "UUID": "14e0db71-5d35-4eb5-b481-8945cf9d10c2", "BatchSize": 10, "FunctionArn": arn,
            "EventSourceArn": format!("arn:aws:sqs:{REGION}:{ACCOUNT}:orders"), "LastModified": 1_790_000_000,
            "State": if self.mapping_disabled { "Disabled" } else { "Enabled" }, "StateTransitionReason": "USER_INITIATED",
        })
    }
}
