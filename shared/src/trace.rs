//! Asks CloudTrail which sessions were made, Region by Region, and follows those that lead back to what was stolen.
//!
//! Calls of STS are recorded where they are made, so that every Region is asked, all at once and each at the pace that
//! AWS allows. What was not read is said: a Region that does not answer, and what lies beyond the bounds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_cloudtrail::primitives::DateTime;
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use firebreak_model::chain::{self, Call, Chain, Minting};
use firebreak_model::ids::{AccessKeyId, Partition, Region};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tracing::{info, warn};

use crate::action::{ActionError, Permission, Resource};
use crate::clients;
use crate::telemetry::chain as told;

/// What tracing needs.
pub const PERMISSIONS: &[Permission] = &[Permission { action: "cloudtrail:LookupEvents", on: Resource::Any }];

/// `LookupEvents` takes two calls a second in each Region, from the whole account.
pub(crate) const PACE: Duration = Duration::from_millis(510);

/// The Regions that every account has, without asking for them.
const COMMERCIAL: [&str; 17] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
];

/// The bounds of one search.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Pages of all calls of one name, of 50 records each.
    pub pages: usize,
    /// Pages of all calls with one key.
    pub pages_a_key: usize,
    /// Keys that a Region is asked about.
    pub keys: usize,
    /// How long it may take.
    pub time: Duration,
    /// Between two calls in one Region.
    pub pace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { pages: 40, pages_a_key: 4, keys: 50, time: Duration::from_secs(90), pace: PACE }
    }
}

/// Follows sessions.
#[derive(Debug)]
pub struct Tracer {
    sdk: SdkConfig,
    regions: BTreeSet<Region>,
    bounds: Bounds,
}

/// What of the past a search reads.
#[derive(Debug, Clone)]
pub struct Past {
    /// From when on: a session that was made then may have been alive when the theft began.
    pub since: Timestamp,
    /// When the theft was first seen.
    pub seen: Timestamp,
    /// When what was stolen was denied, and that was in force everywhere.
    pub denied: Timestamp,
    /// Names that sessions of it have in CloudTrail, as far as known: they are asked about where not everything is read.
    pub names: Vec<String>,
}

/// What a search found, and what it did not look at.
#[derive(Debug)]
pub struct Traced {
    /// The sessions.
    pub chain: Chain,
    /// The Regions whose records were read to the end.
    pub regions: Vec<Region>,
    /// What was not read, a sentence each.
    pub gaps: Vec<String>,
    /// Whether another search may read more.
    pub again: bool,
}

/// How the reading of a Region ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// Everything was read.
    Whole,
    /// There is more.
    Cut,
    /// It does not answer, and may do so later.
    Busy(String),
    /// It does not answer.
    Closed(String),
}

impl End {
    /// The worse of two.
    fn or(self, other: End) -> End {
        match (&self, &other) {
            (_, End::Whole) | (End::Busy(_) | End::Closed(_), _) => self,
            _ => other,
        }
    }
}

/// The Regions of a partition in which calls may be recorded: those that every account has, and these.
pub fn regions(partition: Partition, more: Vec<Region>) -> BTreeSet<Region> {
    let always: &[&str] = match partition {
        Partition::Aws => &COMMERCIAL,
        Partition::AwsCn => &["cn-north-1", "cn-northwest-1"],
        Partition::AwsUsGov => &["us-gov-east-1", "us-gov-west-1"],
    };
    always.iter().filter_map(|name| name.parse().ok()).chain(more).collect()
}

impl Tracer {
    /// Over the Regions of the partition that every account has, and these.
    pub fn new(sdk: SdkConfig, partition: Partition, more: Vec<Region>, bounds: Bounds) -> Self {
        Self { sdk, regions: regions(partition, more), bounds }
    }

    /// Reads every call of these names, and follows what leads back to the root of `chain`.
    pub async fn follow(&self, mut chain: Chain, calls: &[Call], past: &Past) -> Traced {
        let until = Instant::now() + self.bounds.time;
        let mut places: Vec<Place<'_>> =
            self.regions.iter().map(|region| Place::new(self, region, past, until)).collect();
        let scans = join_all(places.iter_mut().map(|place| place.scan(calls))).await;
        chain.grow(scans.into_iter().flatten());
        // A finding on a function names no key; its sessions are named after it.
        let names: Vec<&str> = past.names.iter().map(String::as_str).take(self.bounds.keys).collect();
        let open = places.iter_mut().filter(|place| place.end == End::Cut);
        let found = join_all(open.map(|place| place.ask(&LookupAttributeKey::Username, &names))).await;
        chain.grow(found.into_iter().flatten());
        // Where all was read, a key leads to nothing more.
        let mut asked = BTreeSet::new();
        loop {
            let keys: Vec<AccessKeyId> =
                chain.keys().into_iter().filter(|key| !asked.contains(key)).take(self.bounds.keys).collect();
            let open = places.iter_mut().filter(|place| place.end == End::Cut);
            if keys.is_empty() || asked.len() >= self.bounds.keys {
                break;
            }
            let values: Vec<&str> = keys.iter().map(AccessKeyId::as_str).collect();
            let found = join_all(open.map(|place| place.ask(&LookupAttributeKey::AccessKeyId, &values))).await;
            asked.extend(keys);
            chain.grow(found.into_iter().flatten());
        }
        let left = chain.keys().iter().any(|key| !asked.contains(key));
        self.conclude(chain, &places, asked.len() + names.len(), left)
    }

    fn conclude(&self, chain: Chain, places: &[Place<'_>], asked: usize, keys_left: bool) -> Traced {
        let mut gaps = Vec::new();
        let mut again = false;
        for place in places {
            let region = place.region;
            match &place.end {
                End::Whole => {}
                End::Cut => {
                    let most = self.bounds.pages * 50;
                    let rest = match asked {
                        0 => "the rest was not looked at, for no key and no session is known to look for".to_owned(),
                        _ => "of the rest those with a known key or session were looked for".to_owned(),
                    };
                    gaps.push(format!(
                        "{region}: there are more than the {most} calls that are read at a time; {rest}"
                    ));
                    if keys_left {
                        gaps.push(format!("{region}: not every key was asked about"));
                    }
                }
                End::Busy(why) => {
                    again = true;
                    gaps.push(format!("{region}: {why}"));
                }
                End::Closed(why) => gaps.push(format!("{region} could not be asked: {why}")),
            }
        }
        let calls: usize = places.iter().map(|place| place.calls).sum();
        info!(chain.sessions = chain.links().len(), cloudtrail.calls = calls, "traced {} Regions", places.len());
        let whole = places.iter().filter(|place| place.end == End::Whole);
        let regions = whole.map(|place| place.region.clone()).collect();
        Traced { chain, regions, gaps, again }
    }
}

/// One Region, while it is asked.
struct Place<'a> {
    region: &'a Region,
    client: aws_sdk_cloudtrail::Client,
    bounds: Bounds,
    past: &'a Past,
    until: Instant,
    last: Option<Instant>,
    calls: usize,
    /// How far back the records go that the last reading gave.
    reached: Option<Timestamp>,
    end: End,
}

/// How long to wait before the next call, that long after the last.
fn wait(pace: Duration, since_last: Option<Duration>) -> Duration {
    since_last.map_or(Duration::ZERO, |since| pace.saturating_sub(since))
}

impl<'a> Place<'a> {
    fn new(tracer: &'a Tracer, region: &'a Region, past: &'a Past, until: Instant) -> Self {
        let client = clients::cloudtrail_in(&tracer.sdk, region);
        let bounds = tracer.bounds;
        Self { region, client, bounds, past, until, last: None, calls: 0, reached: None, end: End::Whole }
    }

    /// Every call of these names.
    async fn scan(&mut self, calls: &[Call]) -> Vec<Minting> {
        let mut found = Vec::new();
        for call in calls {
            let end = self.of_name(*call, &mut found).await;
            self.ended(end);
        }
        found
    }

    /// Every call of one name, the latest first. Where there is too much, the time in which the thief was at work is read
    /// for itself, and that in which its sessions can have begun.
    async fn of_name(&mut self, call: Call, found: &mut Vec<Minting>) -> End {
        let Past { since, seen, denied, .. } = *self.past;
        let by = (&LookupAttributeKey::EventName, call.as_str());
        let pages = self.bounds.pages;
        self.reached = None;
        let end = self.read(by, (since, None), pages, found).await;
        if end != End::Cut {
            return end;
        }
        let reached = self.reached.unwrap_or(Timestamp::MAX);
        let mut end = if reached > denied { End::Cut } else { End::Whole };
        for (from, to) in [(seen, denied.min(reached)), (since, seen.min(reached))] {
            if from < to {
                end = end.or(self.read(by, (from, Some(to)), pages, found).await);
            }
        }
        end
    }

    /// Every call that has one of these as that attribute.
    async fn ask(&mut self, by: &LookupAttributeKey, values: &[&str]) -> Vec<Minting> {
        let mut found = Vec::new();
        for value in values {
            let pages = self.bounds.pages_a_key;
            let end = self.read((by, value), (self.past.since, None), pages, &mut found).await;
            self.ended(end);
        }
        found
    }

    /// The worst end stands.
    fn ended(&mut self, end: End) {
        self.end = std::mem::replace(&mut self.end, End::Whole).or(end);
    }

    /// The records of a time, to now where it has no end.
    async fn read(
        &mut self,
        (by, value): (&LookupAttributeKey, &str),
        (from, to): (Timestamp, Option<Timestamp>),
        pages: usize,
        found: &mut Vec<Minting>,
    ) -> End {
        let Ok(attribute) = LookupAttribute::builder().attribute_key(by.clone()).attribute_value(value).build() else {
            return End::Closed("the lookup cannot be made".to_owned());
        };
        let mut token: Option<String> = None;
        for _ in 0..pages {
            if Instant::now() >= self.until {
                return End::Busy("the time for one search was over before all was read".to_owned());
            }
            tokio::time::sleep(wait(self.bounds.pace, self.last.map(|last| last.elapsed()))).await;
            self.last = Some(Instant::now());
            self.calls += 1;
            let lookup = self.client.lookup_events().lookup_attributes(attribute.clone()).max_results(50);
            let lookup = lookup.start_time(DateTime::from_secs(from.as_second()));
            // Both ends belong to the time, and are whole seconds.
            let lookup = lookup.set_end_time(to.map(|to| DateTime::from_secs(to.as_second().saturating_add(1))));
            let answer = match lookup.set_next_token(token.clone()).send().await {
                Ok(answer) => answer,
                Err(error) => {
                    let error = ActionError::of("cloudtrail:LookupEvents", self.region.as_str(), error);
                    warn!(region = %self.region, "{}", told(&error));
                    let why = told(&error);
                    return if error.is_transient() { End::Busy(why) } else { End::Closed(why) };
                }
            };
            let Some(events) = answer.events else {
                return End::Busy("an answer holds no list of records".to_owned());
            };
            let records = events.iter().filter_map(|event| event.cloud_trail_event());
            let records: Vec<Value> = records.filter_map(|text| serde_json::from_str(text).ok()).collect();
            self.reached = records.iter().filter_map(time).min().into_iter().chain(self.reached).min();
            let records = records.into_iter();
            found.extend(records.filter_map(|record| chain::read(&record)).filter(leads_anywhere));
            let Some(next) = answer.next_token.filter(|next| !next.is_empty()) else { return End::Whole };
            // A token that comes again would never end, and what lies behind it was not read.
            if token.as_ref() == Some(&next) {
                return End::Busy("an answer repeats its token".to_owned());
            }
            token = Some(next);
        }
        End::Cut
    }
}

fn time(record: &Value) -> Option<Timestamp> {
    record.get("eventTime")?.as_str()?.parse().ok()
}

/// Most sessions are made by AWS's services, and lead back to nobody.
fn leads_anywhere(minting: &Minting) -> bool {
    minting.by.access_key.is_some() || minting.by.session.is_some() || minting.by.unique_id.is_some()
}

#[cfg(test)]
mod tests;
