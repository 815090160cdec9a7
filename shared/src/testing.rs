//! A scripted wire for tests: real clients, real serialisation, answers in order. It goes where no
//! emulator can: throttles, denials, lost answers. Every request is kept, so that a test can pin it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::SdkConfig;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use firebreak_model::SCHEMA;
use firebreak_model::action::{ActionId, Response};
use firebreak_model::ids::FunctionArn;
use firebreak_model::ledger::{Incident, IncidentState, Origin, ReleaseOrder, RevocationRecord, StepRecord, StepState};
use firebreak_model::plan::{Step, Target};
use firebreak_model::principal::Principal;
use firebreak_model::revoked::ends_at;
use jiff::{SignedDuration, Timestamp};

use crate::action::Order;
use crate::clock;

mod odd;

pub(crate) use odd::Odd;

/// One answer of the wire.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status and a body.
    Http(u16, String),
    /// The request was sent; no answer came.
    Lost,
    /// The request was sent; whoever waits for its answer waits for ever.
    Stalled,
}

/// `200` with a body.
pub(crate) fn ok(body: impl Into<String>) -> Answer {
    Answer::Http(200, body.into())
}

/// An error of the query protocol (IAM, STS, SNS).
pub(crate) fn query_error(status: u16, code: &str) -> Answer {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>scripted</Message></Error></ErrorResponse>"
    );
    Answer::Http(status, body)
}

/// An error of the JSON protocols (Lambda, DynamoDB, EventBridge).
pub(crate) fn json_error(status: u16, code: &str) -> Answer {
    Answer::Http(status, format!(r#"{{"__type":"{code}","Code":"{code}","Message":"scripted","message":"scripted"}}"#))
}

/// What IAM answers about the deny policy: its default version, and what that says.
pub(crate) fn deny_policy(document: &str) -> [Answer; 2] {
    let document = percent_encoding::utf8_percent_encode(document, percent_encoding::NON_ALPHANUMERIC);
    [
        ok("<GetPolicyResponse><GetPolicyResult><Policy><DefaultVersionId>v3</DefaultVersionId></Policy>\
            </GetPolicyResult></GetPolicyResponse>"),
        ok(format!(
            "<GetPolicyVersionResponse><GetPolicyVersionResult><PolicyVersion><Document>{document}</Document>\
             <VersionId>v3</VersionId></PolicyVersion></GetPolicyVersionResult></GetPolicyVersionResponse>"
        )),
    ]
}

/// The deny policy as it was deployed.
pub(crate) fn whole_deny() -> [Answer; 2] {
    deny_policy(&firebreak_model::policy::deny_everything().to_string())
}

/// What `GetRole` answers: a role with this boundary.
pub(crate) fn role_bounded_by(boundary: Option<&str>) -> Answer {
    ok(format!(
        "<GetRoleResponse><GetRoleResult><Role><Path>/</Path><RoleName>orders</RoleName>\
         <RoleId>AROAEXAMPLE000000001</RoleId><Arn>arn:aws:iam::111122223333:role/orders</Arn>\
         <CreateDate>2026-01-12T08:00:00Z</CreateDate>{}</Role></GetRoleResult></GetRoleResponse>",
        bounded(boundary)
    ))
}

/// What `GetUser` answers: a user with this boundary.
pub(crate) fn user_bounded_by(boundary: Option<&str>) -> Answer {
    ok(format!(
        "<GetUserResponse><GetUserResult><User><Path>/</Path><UserName>ci-bot</UserName>\
         <UserId>AIDAEXAMPLE000000001</UserId><Arn>arn:aws:iam::111122223333:user/ci-bot</Arn>\
         <CreateDate>2026-01-12T08:00:00Z</CreateDate>{}</User></GetUserResult></GetUserResponse>",
        bounded(boundary)
    ))
}

/// What `GetRolePolicy` answers: the inline policy that stands there.
pub(crate) fn standing(document: &serde_json::Value) -> Answer {
    let document =
        percent_encoding::utf8_percent_encode(&document.to_string(), percent_encoding::NON_ALPHANUMERIC).to_string();
    ok(format!(
        "<GetRolePolicyResponse><GetRolePolicyResult><RoleName>orders</RoleName><PolicyName>p</PolicyName>\
         <PolicyDocument>{document}</PolicyDocument></GetRolePolicyResult></GetRolePolicyResponse>"
    ))
}

fn bounded(boundary: Option<&str>) -> String {
    boundary.map_or_else(String::new, |arn| {
        format!(
            "<PermissionsBoundary><PermissionsBoundaryType>Policy</PermissionsBoundaryType>\
             <PermissionsBoundaryArn>{arn}</PermissionsBoundaryArn></PermissionsBoundary>"
        )
    })
}

#[derive(Debug, Default)]
struct Script {
    /// How what is not scripted is answered, whatever it is.
    odd: Option<Odd>,
    /// What is answered whenever a request holds this.
    standing: Vec<(String, Answer)>,
    answers: VecDeque<Answer>,
    requests: Vec<String>,
    hosts: Vec<String>,
}

/// A scripted wire.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Script>>);

impl Wire {
    /// A wire that answers in this order, then fails the test with an error of its own.
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self(Arc::new(Mutex::new(Script { answers: answers.into_iter().collect(), ..Script::default() })))
    }

    /// A wire that answers in this order, and then with nothing in its answers.
    pub(crate) fn hollow_after(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = answers.into_iter().collect();
        Self(Arc::new(Mutex::new(Script { odd: Some(Odd::Hollow), answers, ..Script::default() })))
    }

    /// A wire whose answers are well-formed and of no use, but for those to requests that hold one of these.
    pub(crate) fn odd<T: Into<String>>(odd: Odd, but: impl IntoIterator<Item = (T, Answer)>) -> Self {
        let standing = but.into_iter().map(|(part, answer)| (part.into(), answer)).collect();
        Self(Arc::new(Mutex::new(Script { odd: Some(odd), standing, ..Script::default() })))
    }

    /// The configuration of a client on this wire; no retries, so that every call is one request.
    pub(crate) fn config(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        let client = http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone());
        SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("eu-west-1"))
            .credentials_provider(aws_sdk_iam::config::SharedCredentialsProvider::new(
                aws_sdk_iam::config::Credentials::new("AKIDTEST", "secret", None, None, "test"),
            ))
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .http_client(SharedHttpClient::new(client))
            .build()
    }

    /// The requests so far: `METHOD path?query body`, decoded as far as a reader needs.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).requests.clone()
    }

    /// The hosts that they went to: the Region stands there.
    pub(crate) fn hosts(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hosts.clone()
    }

    /// How many answers are left.
    pub(crate) fn unused(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).answers.len()
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().split_once("://").map_or(request.uri(), |(_, rest)| rest);
        let path = uri.find('/').and_then(|at| uri.get(at..)).unwrap_or("/");
        let body = request.body().bytes().map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let line =
            [request.method(), path, target, &body].iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>();
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line.join(" ");
        script.requests.push(line.clone());
        script.hosts.push(uri.split('/').next().unwrap_or_default().to_owned());
        let standing = script.standing.iter().find(|(part, _)| line.contains(part)).map(|(_, answer)| answer.clone());
        let odd = script.odd.filter(|_| script.requests.len() <= odd::MOST).map(|odd| odd.answer(&line));
        let scripted = script.answers.pop_front().or(standing).or(odd);
        let result = match scripted {
            Some(Answer::Http(status, body)) => {
                let status = status.try_into().unwrap_or_else(|_| unreachable!("a test scripts valid statuses"));
                Ok(HttpResponse::new(status, SdkBody::from(body)))
            }
            Some(Answer::Stalled) => return HttpConnectorFuture::new(std::future::pending()),
            Some(Answer::Lost) => Err(ConnectorError::timeout("the answer was lost".into())),
            None => Err(ConnectorError::user("the script has no answer for this request".into())),
        };
        HttpConnectorFuture::ready(result)
    }
}

fn incident_on(arn: &str, functions: Vec<FunctionArn>, responses: &[Response]) -> Incident {
    let unreachable_parse = || unreachable!("a test names well-formed principals");
    let principal = Principal::from_arn(arn).unwrap_or_else(|_| unreachable_parse());
    let now: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap_or_else(|_| unreachable!("a constant"));
    let origin =
        Origin::Person { requested_by: "test".to_owned(), reason: "test".to_owned(), invocation: "test".to_owned() };
    Incident {
        rule: "test".to_owned(),
        reason: "test".to_owned(),
        ..Incident::ordered(principal, functions, responses.to_vec(), origin, now)
    }
}

/// A release that was asked for at a time, and names no key.
pub(crate) fn release_order(at: Timestamp) -> ReleaseOrder {
    ReleaseOrder {
        at,
        by: "ana".to_owned(),
        reason: "over".to_owned(),
        invocation: "i".to_owned(),
        reactivate_keys: Vec::new(),
        left_alone: Vec::new(),
        from: None,
    }
}

/// An incident an hour after its release, what is kept of its revocation, and the record of the step that wrote it.
pub(crate) fn released(ordered: Incident) -> (Incident, RevocationRecord, StepRecord) {
    let at = clock::now() - SignedDuration::from_hours(1);
    let incident = Incident { state: IncidentState::Released, release: Some(release_order(at)), ..ordered };
    let kept = RevocationRecord {
        schema: SCHEMA,
        incident_id: incident.incident_id.clone(),
        principal: incident.principal.clone(),
        ends_at: ends_at(at, &incident.principal.name),
        action: ActionId::RevokeSessions,
        episode: incident.episode,
    };
    let step = Step { action: ActionId::RevokeSessions, target: (&incident.principal.name).into() };
    let record = incident.step_record(&step, at);
    let record = StepRecord { state: StepState::Applied, prior: Some("null".into()), verified_at: Some(at), ..record };
    (incident, kept, record)
}

/// An incident on role `name` in account 111122223333, opened 2026-11-21T03:00:00Z, and its quarantine step.
pub(crate) fn role_order(name: &str) -> (Incident, Step) {
    let arn = format!("arn:aws:iam::111122223333:role/{name}");
    let incident = incident_on(&arn, Vec::new(), &[Response::Quarantine]);
    let step = Step { action: ActionId::QuarantineRole, target: (&incident.principal.name).into() };
    (incident, step)
}

/// An incident on user `name`, and the step that does `action` to the user.
pub(crate) fn user_order(name: &str, action: ActionId) -> (Incident, Step) {
    let arn = format!("arn:aws:iam::111122223333:user/{name}");
    let incident = incident_on(&arn, Vec::new(), &[Response::Quarantine]);
    let step = Step { action, target: (&incident.principal.name).into() };
    (incident, step)
}

/// An incident on role `orders-role` with function `orders` in eu-west-1, and the step that does `action` to the function.
pub(crate) fn function_order(action: ActionId) -> (Incident, Step) {
    let function: FunctionArn =
        "arn:aws:lambda:eu-west-1:111122223333:function:orders".parse().unwrap_or_else(|_| unreachable!("a constant"));
    let incident = incident_on(
        "arn:aws:iam::111122223333:role/orders-role",
        vec![function.clone()],
        &[Response::Quarantine, Response::Isolate],
    );
    (incident, Step { action, target: Target::Function(function) })
}

/// The order of a step, five seconds after the incident was opened.
pub(crate) fn order<'a>(incident: &'a Incident, step: &'a Step) -> Order<'a> {
    Order { incident, step, now: incident.opened_at + jiff::SignedDuration::from_secs(5) }
}
