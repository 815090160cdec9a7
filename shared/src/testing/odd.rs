//! Answers that are well-formed and of no use: what nothing may be believed for.

use super::{Answer, ok};

/// So many requests are answered; who goes round gets an error then, so that a test ends.
pub(super) const MOST: usize = 400;

/// A kind of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    /// Nothing in them.
    Hollow,
    /// States that no version of AWS's documentation knows.
    Unknown,
    /// Empty pages, each of which names itself as the next.
    Repeating,
    /// Empty pages that name each other.
    Circling,
}

impl Odd {
    pub(crate) const ALL: [Self; 4] = [Self::Hollow, Self::Unknown, Self::Repeating, Self::Circling];

    /// What comes for a request, `METHOD path?query body`, in the protocol of its service.
    pub(super) fn answer(self, request: &str) -> Answer {
        let token = match self {
            Self::Circling if request.contains("page-a") => "page-b",
            _ => "page-a",
        };
        let call = request.split_once("Action=").and_then(|(_, rest)| rest.split('&').next());
        ok(match (call, self) {
            (Some(call), Self::Hollow) => format!("<{call}Response><{call}Result/></{call}Response>"),
            (Some(call), Self::Unknown) => {
                format!("<{call}Response><{call}Result>{}</{call}Result></{call}Response>", unknown_to_iam())
            }
            (Some(call), Self::Repeating | Self::Circling) => format!(
                "<{call}Response><{call}Result><IsTruncated>true</IsTruncated><Marker>{token}</Marker></{call}Result>\
                 </{call}Response>"
            ),
            (None, Self::Hollow) => "{}".to_owned(),
            (None, Self::Unknown) => UNKNOWN.to_owned(),
            (None, Self::Repeating | Self::Circling) => {
                format!(r#"{{"NextToken": "{token}", "nextToken": "{token}", "NextMarker": "{token}"}}"#)
            }
        })
    }
}

fn unknown_to_iam() -> String {
    let decided = |action: &str| {
        format!("<member><EvalActionName>{action}</EvalActionName><EvalDecision>perhaps</EvalDecision></member>")
    };
    let decisions = ["dynamodb:GetItem", "sts:GetSessionToken"].map(decided).concat();
    format!(
        "<AccessKeyMetadata><member><UserName>ci-bot</UserName><AccessKeyId>AKIAEXAMPLE000000001</AccessKeyId>\
         <Status>Dormant</Status></member></AccessKeyMetadata><EvaluationResults>{decisions}</EvaluationResults>\
         <AttachedPolicies/><IsTruncated>false</IsTruncated>"
    )
}

/// The members of all services together: each reads its own.
const UNKNOWN: &str = r#"{"State": "HIBERNATING", "LastUpdateStatus": "Dreaming",
    "EventSourceMappings": [{"UUID": "u", "State": "Hibernating",
        "FunctionArn": "arn:aws:lambda:eu-west-1:111122223333:function:orders"}],
    "FunctionUrlConfigs": [{"AuthType": "MAYBE", "CreationTime": "t", "FunctionUrl": "https://u.example",
        "FunctionArn": "arn:aws:lambda:eu-west-1:111122223333:function:orders"}],
    "KeyMetadata": {"KeyId": "k", "KeyState": "Frozen"}, "Table": {"TableStatus": "MELTING"},
    "trailList": [], "Events": []}"#;
