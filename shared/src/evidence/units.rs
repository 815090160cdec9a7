//! Carries the units of a run on, several at once, each from where it stands.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use firebreak_model::evidence::{Piece, Subject, Unit};
use firebreak_model::ledger::Incident;
use futures_util::{StreamExt as _, stream};

use super::{End, UnitError, Work, documents, function, ledger, logs, principal};
use crate::clients;
use crate::clock;

/// What the units are about, and how AWS is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) config: &'a SdkConfig,
    pub(super) iam: &'a aws_sdk_iam::Client,
    pub(super) incident: &'a Incident,
}

/// The units that are not done.
pub(super) fn open<'a>(work: Work<'a>, latest: &BTreeMap<u32, Piece>) -> Vec<Unit<'a>> {
    let done = |unit: &Unit<'_>| latest.get(&unit.number).is_some_and(|piece| piece.next.is_none());
    work.run.units().into_iter().filter(|unit| !done(unit)).collect()
}

/// Carries units on, and says of each how far it came.
pub(super) async fn collect(
    work: Work<'_>,
    scene: Scene<'_>,
    units: Vec<Unit<'_>>,
    latest: &BTreeMap<u32, Piece>,
) -> Vec<(u32, Result<End, UnitError>)> {
    // However little time there is, the first ones do something: an invocation that does nothing has nobody go on.
    let first = work.limits.at_once;
    let each = stream::iter(units).enumerate().map(async |(n, unit)| {
        let number = unit.number;
        (number, one(work, scene, unit, latest, n < first).await)
    });
    each.buffer_unordered(work.limits.at_once).collect().await
}

async fn one(
    work: Work<'_>,
    scene: Scene<'_>,
    unit: Unit<'_>,
    latest: &BTreeMap<u32, Piece>,
    must: bool,
) -> Result<End, UnitError> {
    if !must && clock::now() >= work.deadline {
        return Ok(End::Cut(false));
    }
    let (what, answers) = match unit.subject {
        Subject::Logs(group, slice) => {
            let client = logs::client_in(scene.config, &group.region);
            let latest = latest.get(&unit.number);
            return Box::pin(logs::collect(&client, work, &unit, (group, slice), latest)).await;
        }
        Subject::Ledger => (scene.incident.incident_id.to_string(), ledger::answers(work.ledger, scene.incident).await),
        Subject::Principal => {
            let name = &scene.incident.principal.name;
            (name.to_string(), Box::pin(principal::answers(scene.iam, name)).await)
        }
        Subject::Function(function) => {
            let function = function.unqualified();
            let client = clients::lambda_in(scene.config, function.region());
            (function.to_string(), Box::pin(function::answers(&client, &function)).await)
        }
    };
    documents::keep(work, &unit, &what, answers).await?;
    Ok(End::Done)
}
