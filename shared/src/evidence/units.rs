//! Carries the units of a run on, several at once, each from where it stands.

use aws_config::SdkConfig;
use firebreak_model::evidence::{Subject, Unit};
use firebreak_model::ledger::Incident;
use futures_util::{StreamExt as _, stream};

use super::{End, UnitError, Work, documents, function, ledger, logs, principal};
use crate::clock;

/// What the units are about, and how AWS is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) config: &'a SdkConfig,
    pub(super) iam: &'a aws_sdk_iam::Client,
    pub(super) incident: &'a Incident,
}

/// The units that are not done. That of the ledger waits for all others: what it reads stands at the end of the run.
pub(super) fn open(work: Work<'_>) -> Vec<Unit<'_>> {
    let done = |unit: &Unit<'_>| work.before(unit).last().is_some_and(|piece| piece.next.is_none());
    let open = work.run.units().into_iter().filter(|unit| !done(unit));
    let (last, others): (Vec<_>, Vec<_>) = open.partition(|unit| unit.subject == Subject::Ledger);
    if others.is_empty() { last } else { others }
}

/// Carries units on, and says of each how far it came.
pub(super) async fn collect(
    work: Work<'_>,
    scene: Scene<'_>,
    units: Vec<Unit<'_>>,
) -> Vec<(u32, Result<End, UnitError>)> {
    // However little time there is, the first ones do something: an invocation that does nothing has nobody go on.
    let first = work.limits.at_once;
    let each = stream::iter(units).enumerate().map(async |(n, unit)| {
        let number = unit.number;
        (number, one(work, scene, unit, n < first).await)
    });
    each.buffer_unordered(work.limits.at_once).collect().await
}

async fn one(work: Work<'_>, scene: Scene<'_>, unit: Unit<'_>, must: bool) -> Result<End, UnitError> {
    if !must && clock::now() >= work.deadline {
        return Ok(End::Cut(false));
    }
    let (what, answers) = match unit.subject {
        Subject::Logs(group, slice) => {
            let client = logs::client_in(scene.config, &group.region);
            let latest = work.before(&unit).last();
            return Box::pin(logs::collect(&client, work, &unit, (group, slice), latest)).await;
        }
        Subject::Ledger => {
            let id = &scene.incident.incident_id;
            (id.to_string(), Box::pin(ledger::answers(work.ledger, id)).await)
        }
        Subject::Principal => {
            let name = &scene.incident.principal.name;
            (name.to_string(), Box::pin(principal::answers(scene.iam, work.ledger, scene.incident)).await)
        }
        Subject::Function(function) => {
            return Box::pin(function::collect(scene, work, &unit, function, must)).await;
        }
    };
    documents::keep(work, &unit, &what, answers).await
}
