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
use super::look::Bound;
use crate::action::ActionError;
use crate::clients;
use crate::telemetry::chain;

/// The most pages, of 50 events each, that are read in one go.
const MOST_PAGES: usize = 10;

/// Where there is more, the most slices of time that are read from the oldest on, in one look. The next look goes on there.
const MOST_SLICES: usize = 2;

/// How old CloudTrail's word on a settled containment may become before a sweep asks again.
const STALE: SignedDuration = SignedDuration::from_hours(1);

impl Guard {
    /// The successful calls, since it was bound, of the principal or of those of its sessions that are; in the Regions where
    /// they can be expected.
    pub(super) async fn trail(
        &self,
        incident: &Incident,
        watch: &Watch,
        cause: Cause,
        bound: Bound,
        now: Timestamp,
    ) -> TrailLook {
        let complete_until = self.pace.complete_until(now);
        let fresh = |until: Timestamp| complete_until.duration_since(until) < STALE;
        let known = watch.standing == Standing::Settled && watch.cloudtrail_complete_until.is_some_and(fresh);
        if cause == Cause::Call || (cause == Cause::Sweep && known) {
            return TrailLook::NotAsked;
        }
        let since = bound.since.max(watch.since);
        let is_bound =
            |record: &&Value| bound.sessions_before.is_none_or(|before| call::is_of_a_session_before(record, before));
        // What was complete at the last look need not be asked for again.
        let from = watch.cloudtrail_complete_until.map_or(since, |until| until.max(since));
        let mut calls: Vec<Call> = Vec::new();
        let (mut read_to, mut behind) = (complete_until, None);
        let regions = self.regions(incident);
        for region in &regions {
            for (key, value) in questions(incident) {
                let (records, to) = match self.slices(region, &key, &value, from).await {
                    Ok(found) => found,
                    Err(why) => return TrailLook::Unread(format!("{region}, by {}: {why}", key.as_str())),
                };
                let made = records.iter().filter(is_bound);
                calls.extend(made.filter_map(|record| call::succeeded(record, &incident.principal)));
                // What was found is evidence all the same; that there is nothing else is known up to there only.
                if let Some(to) = to.filter(|to| *to < read_to) {
                    read_to = to;
                    behind = Some(format!("{region}, by {}: more than was read; the next look goes on", key.as_str()));
                }
            }
        }
        // An event's time has whole seconds: one in the second of the deny may have been before it.
        calls.retain(|call| call.at > since);
        calls.sort_by(|a, b| (&a.event_id, a.at).cmp(&(&b.event_id, b.at)));
        calls.dedup_by(|a, b| a.event_id == b.event_id);
        calls.sort_by_key(|call| call.at);
        TrailLook::Calls { calls, complete_until: read_to, regions: regions.into_iter().collect(), behind }
    }

    /// The records since a time: all at one go, or else the newest, and then from the oldest on as far as it goes in one
    /// look. Answers until when there can be no others; `None` where all were read.
    async fn slices(
        &self,
        region: &Region,
        key: &LookupAttributeKey,
        value: &str,
        from: Timestamp,
    ) -> Result<(Vec<Value>, Option<Timestamp>), String> {
        let (mut found, whole) = self.records(region, key, value, from, None).await?;
        if whole {
            return Ok((found, None));
        }
        let times = || found.iter().filter_map(|record| record.get("eventTime")?.as_str()?.parse::<Timestamp>().ok());
        // As many as were read fill so much time; they come no thicker before, for all that is known.
        let (Some(oldest), Some(newest)) = (times().min(), times().max()) else { return Ok((found, Some(from))) };
        let mut width = newest.duration_since(oldest).max(SignedDuration::from_secs(1));
        let mut to = from;
        for _ in 0..MOST_SLICES {
            let end = to.saturating_add(width).unwrap_or(Timestamp::MAX);
            let (records, whole) = self.records(region, key, value, to, Some(end)).await?;
            found.extend(records);
            if whole {
                to = end;
            } else {
                width = SignedDuration::from_secs((width.as_secs() / 2).max(1));
            }
            if to >= oldest {
                return Ok((found, None));
            }
        }
        Ok((found, Some(to)))
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
                match self.records(&region, &key, &value, since, None).await {
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

    /// The records since a time, until another, and whether they are all.
    async fn records(
        &self,
        region: &Region,
        key: &LookupAttributeKey,
        value: &str,
        from: Timestamp,
        until: Option<Timestamp>,
    ) -> Result<(Vec<Value>, bool), String> {
        let attribute = LookupAttribute::builder().attribute_key(key.clone()).attribute_value(value).build();
        let attribute = attribute.map_err(|error| chain(&error))?;
        let request = clients::cloudtrail_in(&self.sdk, region).lookup_events().lookup_attributes(attribute);
        let request = request.start_time(DateTime::from_secs(from.as_second()));
        let request = request.set_end_time(until.map(|until| DateTime::from_secs(until.as_second())));
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            // What is asked beside the usual question keeps to the pace of the account.
            if until.is_some() {
                self.lookups.turn(region).await;
            }
            let answer = request.clone().set_next_token(token.clone()).send().await;
            let answer = answer.map_err(|e| chain(&ActionError::of("cloudtrail:LookupEvents", value, e)))?;
            let Some(events) = answer.events else { return Err("the answer holds no list of records".to_owned()) };
            let records = events.iter().filter_map(|event| event.cloud_trail_event());
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
