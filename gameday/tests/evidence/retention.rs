//! A log group that keeps events for a day, of which an incident wants three.

use firebreak_model::evidence::Lack;

use super::*;

#[tokio::test]
async fn what_is_past_a_groups_retention_is_a_gap_and_the_rest_is_read() {
    let ago = |hours: i64| clock::now() - SignedDuration::from_hours(hours);
    let house = House { opened: ago(72), ..House::set_up().await };
    house.log_at(ago(30), "lost", 3, 100, |n| format!("line {n} ")).await;
    house.log_at(ago(2), "kept", 4, 100, |n| format!("line {n} ")).await;
    let put = house.aws.logs.put_retention_policy().log_group_name(GROUP).retention_in_days(1);
    put.send().await.unwrap();
    // Others whose names begin like its own keep everything, or less than it: nobody asks about them.
    for (name, days) in [("-2", None), ("-3", Some(1))] {
        let name = format!("{GROUP}{name}");
        house.aws.logs.create_log_group().log_group_name(&name).send().await.unwrap();
        if let Some(days) = days {
            let put = house.aws.logs.put_retention_policy().log_group_name(&name).retention_in_days(days);
            put.send().await.unwrap();
        }
    }
    let case = house.case("retention", Limits::default()).await;
    assert_eq!(case.collect(false).await, "collected");
    let (manifest, _) = case.manifests().await.remove(0);
    let lines: u64 = manifest.entries.iter().filter(|entry| entry.collector == "logs").map(|entry| entry.lines).sum();
    assert_eq!(lines, 4, "what is past it is gone");
    let gaps: Vec<_> = manifest.gaps.iter().filter(|gap| gap.what.contains("log group")).collect();
    assert_eq!((gaps.len(), gaps[0].lack), (1, Lack::Expired), "{gaps:?}");
    let since = manifest.began_at - SignedDuration::from_hours(24);
    let told = format!("log group {GROUP} in {REGION}, events from {} to {since}", manifest.log_window.from);
    assert_eq!(gaps[0].what, told);
    // With a retention of a week there is none, and with none neither.
    for days in [Some(7), None] {
        match days {
            Some(days) => {
                let put = house.aws.logs.put_retention_policy().log_group_name(GROUP).retention_in_days(days);
                put.send().await.unwrap();
            }
            None => {
                house.aws.logs.delete_retention_policy().log_group_name(GROUP).send().await.unwrap();
            }
        }
        let case = house.case(&format!("retention {days:?}"), Limits::default()).await;
        assert_eq!(case.collect(false).await, "collected");
        let (manifest, _) = case.manifests().await.remove(0);
        assert!(manifest.gaps.iter().all(|gap| !gap.what.contains("log group")), "{days:?}: {:?}", manifest.gaps);
    }
}
