//! Log groups of the class Infrequent Access, which are read by queries.

use firebreak_model::evidence::Gap;

use super::*;
use crate::testing::ok;

const GROUP: &str = "/aws/lambda/orders";

fn status(status: &str) -> Wired {
    ok(json!({"status": status}).to_string())
}

/// A house whose log group is of that class. Its lines are so many seconds old, and a query gives four of them.
fn house(ages: &[i64]) -> House {
    let mut house = House::with(&incident());
    house.limits.query_events = 4;
    let now = clock::now().as_millisecond();
    house.account.infrequent(GROUP, ages.iter().map(|age| (now - age * 1_000, format!("{age}"))));
    house
}

/// So many lines, a second apart, the last of them a minute old; and as they come in the order of time.
fn a_second_apart(count: i64) -> (House, Vec<String>) {
    let ages: Vec<i64> = (60..60 + count).rev().collect();
    (house(&ages), ages.iter().map(ToString::to_string).collect())
}

/// What the queries were about, in milliseconds.
fn windows(house: &House) -> Vec<(i64, i64)> {
    let number = |query: &str, behind: &str| {
        let rest = query.split_once(behind).unwrap().1;
        rest.split(' ').next().unwrap().parse::<i64>().unwrap()
    };
    let window = |call: Value| {
        let query = call["queryString"].as_str().unwrap().to_owned();
        let (from, to) = (number(&query, "(@timestamp) >= "), number(&query, "(@timestamp) <= "));
        assert_eq!(call["startTime"], from.div_euclid(1_000), "{call}");
        assert_eq!(call["endTime"], to.div_euclid(1_000) + 1, "{call}");
        assert_eq!((&call["logGroupName"], call["limit"].as_u64()), (&json!(GROUP), Some(4)), "{call}");
        (from, to)
    };
    house.account.query_calls("StartQuery").into_iter().map(window).collect()
}

fn gaps(house: &House) -> Vec<Gap> {
    house.manifest(1).0.gaps.into_iter().filter(|gap| gap.what.starts_with("log group")).collect()
}

/// Goes on by the queue until it is done. Answers how many invocations it took, and the longest delay of a message.
async fn until_done(house: &House, deadline: &str) -> (usize, u64) {
    let mut messages = vec![(json!({"detail": {"incident_id": incident().incident_id}}), 0)];
    let (mut invocations, mut longest) = (0, 0);
    while let Some((message, delay)) = messages.pop() {
        if message["detail"]["follow_up"] != true {
            invocations += 1;
            longest = longest.max(delay);
            assert!(invocations < 100, "it goes on for ever");
            house.invoke(&message, deadline).await.unwrap();
            messages.extend(house.account.take_messages());
        }
    }
    (invocations, longest)
}

#[tokio::test]
async fn a_group_of_infrequent_access_is_read_by_a_query() {
    let house = house(&[]);
    let now = clock::now().as_millisecond();
    house.account.infrequent(GROUP, [(now - 2_000, "b".to_owned()), (now - 3_001, "a".to_owned())]);
    house.account.query_pages(None, 1_234.0);
    house.take().await.unwrap();
    assert_eq!((house.lines(1), gaps(&house)), (vec!["a".to_owned(), "b".to_owned()], vec![]));
    assert_eq!((house.account.log_calls().len(), windows(&house).len()), (1, 1), "its class is learnt once");
    let (manifest, _) = house.manifest(1);
    let entry = manifest.entries.iter().find(|entry| entry.collector == "logs").unwrap();
    let call = &entry.sources[0].call;
    let told = |name: &str| call.parameters[name].clone();
    assert_eq!((call.api.as_str(), told("logGroupName")), ("logs:StartQuery", json!(GROUP)));
    assert_eq!((told("queries"), told("bytesScanned")), (json!(1), json!(1_234)), "what AWS counts by");
    let slice = manifest.log_window;
    assert_eq!(windows(&house), [(slice.from.as_millisecond(), slice.to.as_millisecond())]);
    let line = documents(&house.bucket.object(&entry.key).unwrap()).remove(0);
    assert_eq!(line["timestamp"], now - 3_001);
    for (name, value) in [("log_stream", "s"), ("event_id", "p-a"), ("log_group", GROUP)] {
        assert_eq!(line[name], value, "{name}");
    }
}

#[tokio::test]
async fn where_a_query_gives_no_more_it_goes_on_behind_its_last_event_over_less_time() {
    let before = clock::now().as_millisecond();
    let (house, wanted) = a_second_apart(23);
    let after = clock::now().as_millisecond();
    house.take().await.unwrap();
    assert_eq!((house.lines(1), gaps(&house)), (wanted, vec![]), "each line once, in the order of time");
    let asked = windows(&house);
    let (first, second) = (asked[0], asked[1]);
    // A query gives four of 23 lines, of which three are kept: 20 are left, and in an eighth of the time less than four.
    assert_eq!(second.1 - second.0 + 1, (first.1 - second.0 + 1) / 8);
    let fourth = before - 79_000..=after - 79_000;
    assert!(fourth.contains(&second.0), "it begins with the fourth line, which was read: {} in {fourth:?}", second.0);
    assert!(asked.windows(2).all(|pair| pair[0].0 < pair[1].0), "{asked:?}");
    assert!(asked.len() < 14, "{}", asked.len());
    let last = house.manifest(1).0.log_window.to.as_millisecond();
    assert_eq!(asked[asked.len() - 1].1, last, "up to the end");
}

#[tokio::test]
async fn a_millisecond_with_more_than_a_query_gives_is_a_gap_and_what_follows_is_read() {
    let house = house(&[90, 90, 90, 90, 90, 90, 70]);
    house.take().await.unwrap();
    let lines = house.lines(1);
    assert_eq!(lines, ["90", "90", "90", "90", "70"], "what came is kept");
    let gaps = gaps(&house);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].reason.contains("4 events or more are of") && gaps[0].lack == Lack::Rejected, "{gaps:?}");
}

#[tokio::test]
async fn a_query_that_runs_is_polled_and_one_that_is_scheduled_too() {
    let (house, wanted) = a_second_apart(3);
    house.account.query_results([status("Scheduled"), status("Running"), status("Running")]);
    house.take().await.unwrap();
    assert_eq!(house.lines(1), wanted);
    let polls = house.account.query_calls("GetQueryResults");
    assert_eq!((polls.len(), windows(&house).len()), (4, 1));
    assert!(polls.iter().all(|poll| poll["queryId"] == "q0-4" && poll["maxItems"] == 100), "{polls:?}");
}

/// A query may run for an hour, and an invocation a quarter of one.
#[tokio::test]
async fn a_query_that_outlives_the_invocation_is_taken_up_by_the_next_one() {
    let (house, wanted) = a_second_apart(3);
    house.account.query_results([status("Running"), status("Running"), status("Running")]);
    let (invocations, _) = until_done(&house, OVER).await;
    assert!(invocations >= 4, "{invocations}");
    assert_eq!((house.lines(1), windows(&house).len()), (wanted, 1), "it is started once");
    assert_eq!(gaps(&house), []);
    // What AWS knows no more is asked anew.
    let (house, wanted) = a_second_apart(3);
    house.account.query_results([status("Running"), json_error(400, "ResourceNotFoundException")]);
    until_done(&house, OVER).await;
    assert_eq!((house.lines(1), windows(&house).len(), gaps(&house)), (wanted, 2, vec![]));
}

#[tokio::test]
async fn where_the_account_runs_too_many_queries_they_are_waited_for() {
    let too_many = || json_error(400, "LimitExceededException");
    let (house, wanted) = a_second_apart(3);
    house.account.query_starts([too_many(), too_many()]);
    house.take().await.unwrap();
    assert_eq!((house.lines(1), windows(&house).len(), gaps(&house)), (wanted, 3, vec![]));
    // All the time of an invocation: another one asks, a minute later.
    let (house, wanted) = a_second_apart(3);
    house.account.query_starts(std::iter::repeat_with(too_many).take(6 * 4 + 1));
    let (invocations, longest) = until_done(&house, AMPLE).await;
    assert_eq!((house.lines(1), invocations > 1, longest, gaps(&house)), (wanted, true, STALLED, vec![]));
    // For ever: a gap in the end, and the rest is there.
    let (house, _) = a_second_apart(3);
    house.account.query_starts(std::iter::repeat_with(too_many).take(10_000));
    until_done(&house, AMPLE).await;
    let gaps = gaps(&house);
    assert_eq!((gaps.len(), gaps[0].lack), (1, Lack::Throttled), "{gaps:?}");
    assert!(gaps[0].reason.contains("aws logs start-query --region eu-west-1"), "{gaps:?}");
}

#[tokio::test]
async fn a_query_that_comes_to_no_good_end_is_asked_again_and_then_a_gap_and_what_follows_is_read() {
    for end in ["Failed", "Cancelled", "Unknown", "Resting"] {
        let (house, wanted) = a_second_apart(3);
        house.account.query_results(std::iter::repeat_with(|| status(end)).take(5));
        let (_, longest) = until_done(&house, AMPLE).await;
        assert_eq!((house.lines(1), longest, gaps(&house)), (wanted, STALLED, vec![]), "{end}");
        // It never does for the second window: what is before it and behind it is there.
        let (mut house, wanted) = a_second_apart(23);
        house.limits.stalls = 0;
        house.account.query_results_after(1, [status(end)]);
        house.take().await.unwrap();
        let (gaps, asked) = (gaps(&house), windows(&house));
        assert_eq!((gaps.len(), gaps[0].lack), (1, Lack::Rejected), "{end}: {gaps:?}");
        assert!(gaps[0].reason.contains(&format!("`{end}`")), "{end}: {gaps:?}");
        let lines = house.lines(1);
        assert_eq!(lines[..3], wanted[..3], "{end}");
        assert!(asked.len() > 2 && asked[2].0 == asked[1].1 + 1, "{end}: {asked:?}");
    }
}

#[tokio::test]
async fn a_query_that_aws_gives_up_is_asked_again_about_less_time() {
    let (house, wanted) = a_second_apart(3);
    house.account.query_results([status("Timeout"), status("Timeout")]);
    house.take().await.unwrap();
    assert_eq!((house.lines(1), gaps(&house)), (wanted, vec![]));
    let length = |(from, to): (i64, i64)| to - from + 1;
    let asked = windows(&house);
    let begins: Vec<i64> = asked.iter().take(3).map(|window| window.0).collect();
    assert!(begins.iter().all(|from| *from == begins[0]), "{asked:?}");
    assert_eq!((length(asked[1]), length(asked[2])), (length(asked[0]) / 2, length(asked[0]) / 4));
    // Down to an eighth, which is a gap; what follows is read.
    let (house, wanted) = a_second_apart(3);
    house.account.query_results(std::iter::repeat_with(|| status("Timeout")).take(4));
    house.take().await.unwrap();
    let gaps = gaps(&house);
    assert_eq!((house.lines(1), gaps.len(), gaps[0].lack), (wanted, 1, Lack::NoAnswer), "{gaps:?}");
    assert!(gaps[0].reason.contains("after an hour"), "{gaps:?}");
}

#[tokio::test]
async fn results_of_many_pages_are_read_to_their_end_and_where_time_is_up_it_goes_on_behind_them() {
    for (scanned, size) in [(1.0, 10_000), (1e12, 100)] {
        let (mut house, wanted) = a_second_apart(9);
        house.limits.query_events = 100;
        house.account.query_pages(Some(2), scanned);
        house.take().await.unwrap();
        assert_eq!((house.lines(1), gaps(&house)), (wanted, vec![]));
        let pages = house.account.query_calls("GetQueryResults");
        assert_eq!((pages.len(), &pages[0]["maxItems"], &pages[1]["maxItems"]), (5, &json!(100), &json!(size)));
    }
    let (mut house, wanted) = a_second_apart(9);
    house.limits.query_events = 100;
    house.account.query_pages(Some(2), 1.0);
    let (invocations, _) = until_done(&house, OVER).await;
    assert!(invocations > 3, "{invocations}");
    assert_eq!((house.lines(1), gaps(&house)), (wanted, vec![]), "each line once");
    // A page that comes twice is no end.
    let (mut house, _) = a_second_apart(9);
    house.limits.query_events = 100;
    let again = || ok(json!({"status": "Complete", "results": [], "nextToken": "same"}).to_string());
    house.account.query_results([again(), again()]);
    house.take().await.unwrap();
    assert!(gaps(&house)[0].reason.starts_with("the API repeated a page"), "{:?}", gaps(&house));
}

/// A page that does not come is asked for once more, and then what follows it is a gap.
#[tokio::test]
async fn a_page_that_does_not_come_is_asked_for_again_and_then_a_gap() {
    let page = |house: &House| {
        let now = clock::now().as_millisecond();
        let at = Timestamp::from_millisecond(now - 100_000).unwrap().to_string().replace('T', " ").replace('Z', "");
        let row = |line: &str| json!([{"field": "@timestamp", "value": at}, {"field": "@message", "value": line}]);
        let first = json!({"status": "Complete", "results": [row("torn off")], "nextToken": "t"});
        house.account.query_results([ok(first.to_string()), json_error(400, "ThrottlingException")]);
    };
    let (house, wanted) = a_second_apart(3);
    page(&house);
    until_done(&house, AMPLE).await;
    assert_eq!((house.lines(1), gaps(&house)), (wanted, vec![]), "what was not whole is asked for again");
    let (mut house, _) = a_second_apart(3);
    house.limits.stalls = 0;
    page(&house);
    house.take().await.unwrap();
    let gaps = gaps(&house);
    assert_eq!((house.lines(1), gaps.len(), gaps[0].lack), (vec!["torn off".to_owned()], 1, Lack::Throttled));
    assert!(gaps[0].reason.contains("was not read wholly"), "{gaps:?}");
}

#[tokio::test]
async fn what_aws_counted_and_did_not_give_is_a_gap() {
    let (house, _) = a_second_apart(3);
    let at = clock::now().to_string().replace('T', " ").replace('Z', "");
    let statistics = json!({"recordsMatched": 3, "recordsScanned": 3, "bytesScanned": 9});
    let row = json!([{"field": "@timestamp", "value": at}, {"field": "@message", "value": "a"}]);
    let short = json!({"status": "Complete", "results": [row], "statistics": statistics});
    house.account.query_results([ok(short.to_string())]);
    house.take().await.unwrap();
    let gaps = gaps(&house);
    assert!(gaps.len() == 1 && gaps[0].reason.starts_with("AWS counted 3 events, and gave 1"), "{gaps:?}");
}

#[tokio::test]
async fn a_query_that_is_refused_is_a_gap_that_says_how_a_person_reads_it() {
    for (answer, lack) in [("AccessDeniedException", Lack::Denied), ("MalformedQueryException", Lack::Rejected)] {
        let (house, _) = a_second_apart(3);
        house.account.query_starts([json_error(400, answer)]);
        house.take().await.unwrap();
        let gaps = gaps(&house);
        assert_eq!((gaps.len(), gaps[0].lack), (1, lack), "{gaps:?}");
        let window = house.manifest(1).0.log_window;
        let wanted = format!(
            "to be read by hand: `aws logs start-query --region eu-west-1 --log-group-name {GROUP} --start-time {} --end-time {} ",
            window.from.as_second(),
            window.to.as_second() + 1
        );
        assert!(gaps[0].reason.contains(&wanted), "{}", gaps[0].reason);
    }
}

#[tokio::test]
async fn queries_that_are_killed_at_any_call_end_with_the_same_objects() {
    let small = || {
        let (mut house, lines) = a_second_apart(12);
        house.limits.object_bytes = 1;
        (house, lines)
    };
    let (whole, wanted) = small();
    whole.take().await.unwrap();
    let of_logs = |house: &House| {
        let entries = house.manifest(1).0.entries.into_iter().filter(|entry| entry.collector == "logs");
        entries.map(|entry| entry.key).collect::<Vec<_>>()
    };
    assert!(of_logs(&whole).len() >= 3, "{:?}", of_logs(&whole));
    for call in 0..whole.bucket.requests().len() {
        let (house, _) = small();
        house.bucket.answer_from(call, 503);
        house.take().await.unwrap_err();
        house.bucket.recover();
        assert_eq!(house.take().await.unwrap().outcome, "collected", "{call}");
        assert_eq!(house.lines(1), wanted, "{call}");
        assert_eq!((house.manifest(1).0.set_aside, gaps(&house)), (vec![], vec![]), "{call}");
    }
}
