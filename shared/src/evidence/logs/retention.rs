//! What log groups keep no longer. A group gives nothing of the time before its retention, and does not say so: it looks like
//! a group that nothing was logged to.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_cloudwatchlogs::Client;
use firebreak_model::evidence::{ApiCall, Gap, Lack, LogGroup};
use firebreak_model::ids::Region;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::super::gap;
use crate::action::ActionError;
use crate::clients;

const CALL: &str = "logs:DescribeLogGroups";

/// AWS takes no more names at once.
const MOST_NAMES: usize = 50;

/// So many groups are told of one by one: what a run begins with is one record.
const MOST_TOLD: usize = 100;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A gap for each group that keeps events for less than the time since `from`. No group keeps them for less than a day:
/// where the window is younger nothing is asked. That AWS does not tell is a gap too, and holds nothing up.
pub(in crate::evidence) async fn passed(
    config: &SdkConfig,
    groups: &[LogGroup],
    from: Timestamp,
    now: Timestamp,
) -> Vec<Gap> {
    if now.duration_since(from) <= DAY {
        return Vec::new();
    }
    let mut regions: BTreeMap<&Region, Vec<&str>> = BTreeMap::new();
    for group in groups {
        regions.entry(&group.region).or_default().push(&group.name);
    }
    let mut gaps = Vec::new();
    for (region, names) in regions {
        let client = clients::logs(&clients::in_region(config, region));
        for names in names.chunks(MOST_NAMES) {
            match kept(&client, names).await {
                Ok(kept) => {
                    let passed = kept.iter().filter_map(|(name, days)| expired((region, name), *days, (from, now)));
                    gaps.extend(passed);
                }
                Err(error) => {
                    let what = format!("for how long {} log groups in {region} keep events", names.len());
                    gaps.push(gap(&what, asked(region, names), &error));
                }
            }
        }
    }
    let more = gaps.len().saturating_sub(MOST_TOLD);
    if more > 0 {
        gaps.truncate(MOST_TOLD);
        gaps.push(Gap {
            what: format!("events of {more} more log groups"),
            source: ApiCall::new(CALL, json!({})),
            lack: Lack::Expired,
            reason: format!("{more} more groups keep events for less than the time since {from}"),
        });
    }
    gaps
}

fn asked(region: &Region, names: &[&str]) -> ApiCall {
    ApiCall::new(CALL, json!({"region": region, "logGroupIdentifiers": names}))
}

/// The groups that are there and do not keep events for ever, with the days.
async fn kept(client: &Client, names: &[&str]) -> Result<Vec<(String, i32)>, ActionError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let target = names.first().cloned().unwrap_or_default();
    let call = client.describe_log_groups().set_log_group_identifiers(Some(names.clone()));
    let mut groups = call.into_paginator().items().send();
    let mut kept = Vec::new();
    while let Some(group) = groups.next().await {
        let group = group.map_err(|error| ActionError::of(CALL, &target, error))?;
        if let (Some(name), Some(days)) = (group.log_group_name, group.retention_in_days)
            && names.contains(&name)
        {
            kept.push((name, days));
        }
    }
    Ok(kept)
}

fn expired((region, name): (&Region, &str), days: i32, (from, now): (Timestamp, Timestamp)) -> Option<Gap> {
    let since = now.saturating_sub(DAY * days.max(0)).ok()?;
    (from < since).then(|| Gap {
        what: format!("log group {name} in {region}, events from {from} to {since}"),
        source: ApiCall::new(
            super::CALL,
            json!({"region": region, "logGroupName": name, "startTime": from.as_millisecond(),
                   "endTime": since.as_millisecond()}),
        ),
        lack: Lack::Expired,
        reason: format!(
            "the group keeps events for {days} days (`retentionInDays`, as it stood at {now}): from {since} on they can still \
             be there"
        ),
    })
}
