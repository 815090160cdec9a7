//! What CloudTrail says of the principal since the deny. `LookupEvents` takes one attribute at a time and two calls a
//! second, and knows no roles: it is asked by the names that are known, and for what changes something.

use std::collections::BTreeSet;

use aws_sdk_cloudtrail::primitives::DateTime;
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use firebreak_model::ids::{Partition, Region};
use firebreak_model::ledger::Incident;
use firebreak_model::principal::PrincipalName;
use firebreak_model::tamper::Tamper;
use firebreak_model::watch::change::Change;
use firebreak_model::watch::{Call, Cause, Standing, TrailLook, Watch, call};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::warn;

use super::Guard;
use crate::action::ActionError;
use crate::clients;
use crate::telemetry::chain;

/// The most pages, of 50 events each, that one question is asked for.
const MOST_PAGES: usize = 10;

/// How old CloudTrail's word on a settled containment may become before a sweep asks again.
const STALE: SignedDuration = SignedDuration::from_hours(1);

impl Guard {
    /// The successful calls of the principal since `denied`, in the Regions where they can be expected.
    pub(super) async fn trail(
        &self,
        incident: &Incident,
        watch: &Watch,
        cause: Cause,
        denied: Timestamp,
        now: Timestamp,
    ) -> TrailLook {
        let complete_until = self.pace.complete_until(now);
        let fresh = |until: Timestamp| complete_until.duration_since(until) < STALE;
        let known = watch.standing == Standing::Settled && watch.cloudtrail_complete_until.is_some_and(fresh);
        if cause == Cause::Call || (cause == Cause::Sweep && known) {
            return TrailLook::NotAsked;
        }
        let since = denied.max(watch.since);
        // What was complete at the last look need not be asked for again.
        let from = watch.cloudtrail_complete_until.map_or(since, |until| until.max(since));
        let mut calls: Vec<Call> = Vec::new();
        for region in self.regions(incident) {
            for (key, value) in questions(incident) {
                let found = self.records(&region, &key, &value, from).await.and_then(|(records, whole)| {
                    let found: Vec<Call> =
                        records.iter().filter_map(|record| call::succeeded(record, &incident.principal)).collect();
                    // What was found is evidence all the same; that there is nothing else is not known.
                    let unknown = !whole && found.is_empty();
                    if unknown { Err(format!("more than {MOST_PAGES} pages: not read to the end")) } else { Ok(found) }
                });
                match found {
                    Ok(found) => calls.extend(found),
                    Err(why) => return TrailLook::Unread(format!("{region}, by {}: {why}", key.as_str())),
                }
            }
        }
        // An event's time has whole seconds: one in the second of the deny may have been before it.
        calls.retain(|call| call.at > since);
        calls.sort_by(|a, b| (&a.event_id, a.at).cmp(&(&b.event_id, b.at)));
        calls.dedup_by(|a, b| a.event_id == b.event_id);
        calls.sort_by_key(|call| call.at);
        TrailLook::Calls { calls, complete_until }
    }

    /// The ways in that the principal made itself since the theft began, and that no event told of in time: one that came
    /// before the order, or before the order of whoever made it, was nobody's. What events tell too is the same record.
    pub(super) async fn hunted(&self, incident: &Incident) -> Vec<Tamper> {
        let since = incident.theft_since();
        let mut found = Vec::new();
        for region in self.regions(incident) {
            // By name alone: everything that changes something in an account is too much to be read to the end.
            for (key, value) in questions(incident).into_iter().filter(|(key, _)| *key != LookupAttributeKey::ReadOnly)
            {
                match self.records(&region, &key, &value, since).await {
                    Ok((records, _)) => found.extend(records),
                    Err(why) => warn!(incident.id = %incident.incident_id, "{region}, by {}: {why}", key.as_str()),
                }
            }
        }
        let by_it = found.iter().filter(|record| call::succeeded(record, &incident.principal).is_some());
        let changes = by_it.filter_map(|record| Change::of_record(record, "record").ok());
        let mut tampers: Vec<Tamper> = changes.filter_map(|change| self.minted(incident, &change)).collect();
        tampers.sort_by(|a, b| a.key.cmp(&b.key));
        tampers.dedup_by(|a, b| a.key == b.key);
        tampers
    }

    /// Where calls are recorded: here, where the functions are, and where those of the global services are.
    fn regions(&self, incident: &Incident) -> BTreeSet<Region> {
        let global = match self.home.partition {
            Partition::Aws => "us-east-1",
            Partition::AwsCn => "cn-north-1",
            Partition::AwsUsGov => "us-gov-west-1",
        };
        let here = self.sdk.region().map(AsRef::as_ref).unwrap_or_default();
        let functions = incident.functions.iter().map(|function| function.region().clone());
        [global, here].into_iter().filter_map(|name| name.parse().ok()).chain(functions).collect()
    }

    /// The records since a time, and whether they are all.
    async fn records(
        &self,
        region: &Region,
        key: &LookupAttributeKey,
        value: &str,
        from: Timestamp,
    ) -> Result<(Vec<Value>, bool), String> {
        let attribute = LookupAttribute::builder().attribute_key(key.clone()).attribute_value(value).build();
        let attribute = attribute.map_err(|error| chain(&error))?;
        let request = clients::cloudtrail_in(&self.sdk, region).lookup_events().lookup_attributes(attribute);
        let request = request.start_time(DateTime::from_secs(from.as_second()));
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let answer = request.clone().set_next_token(token.clone()).send().await;
            let answer = answer.map_err(|e| chain(&ActionError::of("cloudtrail:LookupEvents", value, e)))?;
            let records = answer.events().iter().filter_map(|event| event.cloud_trail_event());
            found.extend(records.filter_map(|text| serde_json::from_str::<Value>(text).ok()));
            // An answer that repeats its token leads nowhere.
            match answer.next_token {
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                Some(_) => return Err("the answer repeats its token".to_owned()),
                None => return Ok((found, true)),
            }
        }
        Ok((found, false))
    }
}

/// What CloudTrail is asked about: the keys that findings name, the sessions that Lambda names after its functions, a
/// user by its name, and every call that changes something.
fn questions(incident: &Incident) -> Vec<(LookupAttributeKey, String)> {
    let keys = incident.access_keys.iter().map(|key| (LookupAttributeKey::AccessKeyId, key.as_str().to_owned()));
    let sessions = incident.functions.iter().map(|f| (LookupAttributeKey::Username, f.name().to_owned()));
    let user = match &incident.principal.name {
        PrincipalName::User(name) => Some((LookupAttributeKey::Username, name.as_str().to_owned())),
        PrincipalName::Role(_) => None,
    };
    let changes = (LookupAttributeKey::ReadOnly, "false".to_owned());
    keys.chain(sessions).chain(user).chain([changes]).collect()
}
