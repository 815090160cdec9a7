//! Carries the units of a run on, several at once, each from where it stands.

use aws_config::SdkConfig;
use firebreak_model::evidence::{Subject, Unit};
use firebreak_model::ledger::Incident;
use futures_util::future::join;
use futures_util::{StreamExt as _, stream};

use super::calls::{self, Trail};
use super::logs::Asking;
use super::pace::Pace;
use super::report::{self, Place};
use super::{End, UnitError, Work, deeds, documents, function, ledger, logs, principal};
use crate::clock;

/// What the units are about, and how AWS is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) config: &'a SdkConfig,
    pub(super) iam: &'a aws_sdk_iam::Client,
    pub(super) incident: &'a Incident,
    pub(super) trail: Trail<'a>,
    /// How often Lambda is asked for the policy of one more version.
    pub(super) policies: &'a Pace,
    pub(super) logs: Asking<'a>,
    pub(super) place: Place<'a>,
}

/// Regions whose calls are read at the same time: each waits for its own turns.
const REGIONS_AT_ONCE: usize = 40;

/// The units that are not done.
pub(super) fn open(work: Work<'_>) -> Vec<Unit<'_>> {
    let done = |unit: &Unit<'_>| work.before(unit).last().is_some_and(|piece| piece.next.is_none());
    work.run.units().into_iter().filter(|unit| !done(unit)).collect()
}

/// Those of them that nothing else is to be collected before.
pub(super) fn ready<'a>(open: &[Unit<'a>]) -> Vec<Unit<'a>> {
    let awaits = |unit: &Unit<'_>| open.iter().any(|other| unit.subject.awaits(&other.subject));
    open.iter().filter(|unit| !awaits(unit)).cloned().collect()
}

/// Carries units on, and says of each how far it came.
pub(super) async fn collect(
    work: Work<'_>,
    scene: Scene<'_>,
    units: Vec<Unit<'_>>,
) -> Vec<(u32, Result<End, UnitError>)> {
    // However little time there is, the first ones do something: an invocation that does nothing has nobody go on.
    let first: Vec<u32> = units.iter().take(work.limits.at_once).map(|unit| unit.number).collect();
    let (calls, others): (Vec<_>, Vec<_>) =
        units.into_iter().partition(|unit| matches!(unit.subject, Subject::Calls(_)));
    let each = async |unit: Unit<'_>| {
        let number = unit.number;
        (number, one(work, scene, unit, first.contains(&number)).await)
    };
    let calls = stream::iter(calls).map(&each).buffer_unordered(REGIONS_AT_ONCE).collect::<Vec<_>>();
    let others = stream::iter(others).map(&each).buffer_unordered(work.limits.at_once).collect::<Vec<_>>();
    let (mut all, calls) = join(others, calls).await;
    all.extend(calls);
    all
}

async fn one(work: Work<'_>, scene: Scene<'_>, unit: Unit<'_>, must: bool) -> Result<End, UnitError> {
    if !must && clock::now() >= work.deadline {
        return Ok(End::Cut(false));
    }
    let (what, answers) = match unit.subject {
        Subject::Logs(group, slice) => {
            let latest = work.before(&unit).last();
            return Box::pin(logs::collect(scene.logs, work, &unit, (group, slice), latest)).await;
        }
        Subject::Calls(_) | Subject::Chained => {
            return Box::pin(calls::collect(scene.trail, work, &unit, &work.pieces())).await;
        }
        Subject::Deeds => {
            Box::pin(deeds::collect(work, &unit, &work.pieces())).await?;
            return Ok(End::Done);
        }
        Subject::Report => {
            Box::pin(report::collect(work, scene.place, scene.incident, &unit, &work.pieces())).await?;
            return Ok(End::Done);
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
