//! A function as it was: its documents, the values of its environment, its code.
//!
//! Documents come first, for a containment changes them: everything that anybody may read. Then the values of environment
//! variables, which are secrets, in an object of their own; then the packages of the versions that matter. What is left
//! stands in the cursor of each object, so that an invocation goes on behind it.

mod answered;
mod code;
mod documents;
mod fetch;
mod logging;

pub(super) use logging::{Logging, log_groups};

use std::collections::VecDeque;

use aws_sdk_lambda::Client;
use firebreak_model::evidence::{ApiCall, Cursor, Piece, Unit};
use firebreak_model::ids::FunctionArn;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::documents::{self as papers, Answers, Kept};
use super::units::Scene;
use super::{End, Slot, UnitError, Work};
use crate::action::ActionError;
use crate::clients;
use crate::clock;

/// What of a function is collected after its documents, one object each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Left {
    /// The values of environment variables of these versions.
    Environment(Vec<String>),
    /// The code of a version, and which others have the same.
    Code {
        /// The version that is asked for it.
        version: String,
        /// The others.
        same: Vec<String>,
    },
    /// A version of a layer, by its ARN.
    Layer(String),
}

/// What is left, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Rest(VecDeque<Left>);

impl Rest {
    fn of(cursor: &Cursor) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&cursor.token)
    }

    fn cursor(&self) -> Result<Option<Cursor>, serde_json::Error> {
        if self.0.is_empty() { Ok(None) } else { serde_json::to_string(self).map(|token| Some(Cursor::left(token))) }
    }
}

/// A call about a function, or about one of its versions.
fn call(api: &str, function: &FunctionArn, qualifier: Option<&str>) -> ApiCall {
    let mut parameters = json!({"region": function.region(), "FunctionName": function.name()});
    if let (Some(fields), Some(qualifier)) = (parameters.as_object_mut(), qualifier) {
        fields.insert("Qualifier".to_owned(), json!(qualifier));
    }
    ApiCall::new(api, parameters)
}

/// `$LATEST` is what a function without a qualifier is.
fn qualifier(version: &str) -> Option<String> {
    (version != "$LATEST").then(|| version.to_owned())
}

/// Collects a function, behind what is on record. `must` says that something is to be kept however late it is.
pub(super) async fn collect(
    scene: Scene<'_>,
    work: Work<'_>,
    unit: &Unit<'_>,
    function: &FunctionArn,
    must: bool,
) -> Result<End, UnitError> {
    let function = function.unqualified();
    let client = clients::lambda_in(scene.config, function.region());
    let mut kept = false;
    let mut last = match work.before(unit).last() {
        Some(piece) if !papers::goes_on(piece) => piece.clone(),
        _ => {
            let known = papers::known(work, unit)?;
            let answers = documents::answers(&client, work.ledger, scene, &function, &known);
            let (answers, rest) = Box::pin(answers).await;
            match papers::keep_before(work, unit, &function.to_string(), answers, rest.cursor()?).await? {
                Kept::Whole(piece) => {
                    kept = true;
                    piece
                }
                Kept::Stalled(kept) => return Ok(End::Stalled(kept)),
            }
        }
    };
    loop {
        let Some(next) = &last.next else { return Ok(End::Done) };
        if (kept || !must) && clock::now() >= work.deadline {
            return Ok(End::Cut(kept));
        }
        let mut rest = Rest::of(next)?;
        let Some(left) = rest.0.pop_front() else { return Ok(End::Done) };
        let slot = Slot { unit, part: last.part + 1, tries: 0 };
        match Box::pin(one(&client, scene, work, slot, (&function, left), rest.cursor()?)).await? {
            Some(piece) => last = piece,
            None => return Ok(End::Stalled(kept)),
        }
        kept = true;
    }
}

/// One object of what is left; `None` where AWS does not give it for now.
async fn one(
    client: &Client,
    scene: Scene<'_>,
    work: Work<'_>,
    slot: Slot<'_>,
    (function, left): (&FunctionArn, Left),
    next: Option<Cursor>,
) -> Result<Option<Piece>, UnitError> {
    let package = match left {
        Left::Environment(versions) => {
            let what = format!("values of the environment of {function}");
            let answers = environment(client, function, &versions).await;
            return papers::keep_apart(work, slot, &what, answers, next).await;
        }
        Left::Code { version, same } => code::Package::code(function, version, &same),
        Left::Layer(arn) => code::Package::layer(function.region(), arn),
    };
    package.keep(client, scene.config.endpoint_url(), work, slot, next).await
}

/// The values of environment variables.
async fn environment(client: &Client, function: &FunctionArn, versions: &[String]) -> Answers {
    let mut answers = Answers::default();
    for version in versions {
        let asked = client.get_function_configuration().function_name(function.name());
        let asked = asked.set_qualifier(qualifier(version)).send().await;
        let answer = asked.map_err(|e| ActionError::of("lambda:GetFunctionConfiguration", function.name(), e));
        let answer =
            answer.map(|answer| json!({"Variables": answer.environment.and_then(|e| e.variables).map(sorted)}));
        answers.push(call("lambda:GetFunctionConfiguration", function, qualifier(version).as_deref()), answer);
    }
    answers
}

/// In the order of their names: the same environment is the same object.
fn sorted(variables: std::collections::HashMap<String, String>) -> std::collections::BTreeMap<String, String> {
    variables.into_iter().collect()
}
