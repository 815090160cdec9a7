//! Downloads an incident's evidence: what its manifests account for, and from the ledger what the last of them is; or, for
//! who reads another account's bucket and no ledger, what lies in it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use firebreak_model::evidence::{EvidenceRun, PUBLIC_KEY, is_manifest, run_partition};
use firebreak_model::ids::{AccountId, IncidentId};
use firebreak_model::ledger::Record;

use super::{ANCHOR, Anchor};
use crate::CliError;

fn aws(what: impl Into<String>, error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Aws { what: what.into(), source: Box::new(error) }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> CliError + '_ {
    move |source| CliError::File { path: path.display().to_string(), source }
}

fn refused(problem: impl Into<String>) -> CliError {
    CliError::Pull(problem.into())
}

/// An object of the bucket.
#[derive(Clone)]
struct Object {
    key: String,
    bytes: u64,
}

/// Downloads what is not there yet, and says what was done.
pub(super) async fn pull(sdk: &SdkConfig, stack: &str, id: &IncidentId, into: &Path) -> Result<String, CliError> {
    let (bucket, table) = places(sdk, stack).await?;
    let runs = runs(sdk, &table, id).await?;
    let (done, open): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.done_at.is_some());
    let last = done.last().ok_or_else(|| refused(format!("no collection of `{id}` is finished yet")))?;
    let (Some(sealed), Some(signer)) = (&last.sealed, &last.signer) else {
        return Err(refused(format!("the ledger knows no manifest of `{id}`")));
    };
    let anchor = Anchor {
        incident_id: id.clone(),
        account: last.account.clone(),
        head: sealed.manifest.clone(),
        fingerprint: signer.fingerprint.clone(),
    };
    let s3 = s3(sdk);
    let mut objects = Vec::new();
    for run in &done {
        objects.extend(listed(&s3, &bucket, &run.prefix()).await?);
    }
    let mut said = fetch_all(&s3, &bucket, &objects, into).await?;
    // Last: a download that is cut off is not taken for a whole one.
    let at = into.join(ANCHOR);
    let text = serde_json::to_string_pretty(&anchor).map_err(|error| refused(error.to_string()))?;
    fs::write(&at, format!("{text}\n")).map_err(file(&at))?;
    let _ = write!(said, "\nlast manifest  {}\nsigned with    {}", anchor.head.sha256, anchor.fingerprint);
    with_the_report(&mut said, &place(into, &last.report())?);
    if !open.is_empty() {
        said.push_str(UNDER_WAY);
    }
    Ok(said)
}

/// Downloads what lies in a bucket of an incident: of the collections that have come to their end, for the others are
/// accounted for by nothing yet. No ledger is asked, so that the page has to say what the evidence is held to.
pub(super) async fn pull_from(
    sdk: &SdkConfig,
    (bucket, account): (&str, &AccountId),
    id: &IncidentId,
    into: &Path,
) -> Result<String, CliError> {
    let s3 = s3(sdk);
    let all = listed(&s3, bucket, &format!("incidents/{account}/{id}")).await?;
    if all.is_empty() {
        return Err(refused(format!("nothing of `{id}` in account {account} lies in `{bucket}`")));
    }
    let ended = ended(&all);
    let of_one = |object: &Object| ended.iter().any(|run| is_under(&object.key, run));
    let (objects, open): (Vec<_>, Vec<_>) = all.into_iter().partition(of_one);
    let Some(last) = ended.last() else {
        return Err(refused(format!("no collection of `{id}` is finished yet")));
    };
    let mut said = fetch_all(&s3, bucket, &objects, into).await?;
    with_the_report(&mut said, &place(into, &format!("{last}/report/report.html"))?);
    let _ = write!(said, "\nthe page says what this is held to: firebreak evidence verify {} --head …", into.display());
    said.push_str(" --key …");
    if !open.is_empty() {
        said.push_str(UNDER_WAY);
    }
    Ok(said)
}

const UNDER_WAY: &str = "\na collection is still under way: pull again later";

fn is_under(key: &str, folder: &str) -> bool {
    key.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The folders of collections whose manifest is signed.
fn ended(objects: &[Object]) -> BTreeSet<String> {
    let folders = |is: fn(&str) -> bool| -> BTreeSet<&str> {
        let split = objects.iter().filter_map(|object| object.key.rsplit_once('/'));
        split.filter(|(_, name)| is(name)).map(|(folder, _)| folder).collect()
    };
    let signed = folders(|name| name.strip_suffix(".sig").is_some_and(is_manifest));
    let with_their_key = folders(|name| name == PUBLIC_KEY);
    signed.intersection(&with_their_key).map(|folder| (*folder).to_owned()).collect()
}

/// Where the report lies, where there is one.
fn with_the_report(said: &mut String, report: &Path) {
    if report.is_file() {
        let _ = write!(said, "\nthe report     {}", report.display());
    }
}

/// Downloads what is not there yet of these objects, and says how much that was.
async fn fetch_all(s3: &aws_sdk_s3::Client, bucket: &str, objects: &[Object], into: &Path) -> Result<String, CliError> {
    fs::create_dir_all(into).map_err(file(into))?;
    let total: u64 = objects.iter().map(|object| object.bytes).sum();
    let mut bar = Bar::new(objects.len(), total);
    let mut fetched = 0;
    for object in objects {
        let path = place(into, &object.key)?;
        if fetch(s3, bucket, object, &path, &mut bar).await? {
            fetched += 1;
        }
        bar.object_done();
    }
    bar.end();
    let (count, into) = (objects.len(), into.display());
    Ok(format!("{count} objects, {total} bytes in `{into}`, {fetched} of them fetched now"))
}

/// The bucket and the ledger's table of a stack.
async fn places(sdk: &SdkConfig, stack: &str) -> Result<(String, String), CliError> {
    let cloudformation = aws_sdk_cloudformation::Client::new(sdk);
    let answer = cloudformation.describe_stacks().stack_name(stack).send().await;
    let answer = answer.map_err(|error| aws(format!("the stack `{stack}` could not be looked at"), error))?;
    let output = |name: &str| {
        let outputs = answer.stacks().first().map(aws_sdk_cloudformation::types::Stack::outputs).unwrap_or_default();
        let found = outputs.iter().find(|output| output.output_key() == Some(name));
        let value = found.and_then(|output| output.output_value()).map(str::to_owned);
        value.ok_or_else(|| refused(format!("the stack `{stack}` has no output `{name}`")))
    };
    Ok((output("EvidenceBucketName")?, output("LedgerTableName")?))
}

/// The collections of an incident, in order.
async fn runs(sdk: &SdkConfig, table: &str, id: &IncidentId) -> Result<Vec<EvidenceRun>, CliError> {
    let query = aws_sdk_dynamodb::Client::new(sdk)
        .query()
        .table_name(table)
        .consistent_read(true)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", AttributeValue::S(run_partition(id)));
    let mut pages = query.into_paginator().items().send();
    let mut runs = Vec::new();
    while let Some(item) = pages.next().await {
        let item = item.map_err(|error| aws(format!("the ledger `{table}` could not be read"), error))?;
        let record: Record = serde_dynamo::from_item(item).map_err(|error| aws("a record cannot be read", error))?;
        if let Record::Evidence(run) = record {
            runs.push(*run);
        }
    }
    Ok(runs)
}

/// An endpoint that was set by hand is one host, not one a bucket.
fn s3(sdk: &SdkConfig) -> aws_sdk_s3::Client {
    let by_path = sdk.endpoint_url().is_some();
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(sdk).force_path_style(by_path).build())
}

async fn listed(s3: &aws_sdk_s3::Client, bucket: &str, prefix: &str) -> Result<Vec<Object>, CliError> {
    let mut pages = s3.list_objects_v2().bucket(bucket).prefix(format!("{prefix}/")).into_paginator().send();
    let mut objects = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| aws(format!("`{bucket}` could not be listed"), error))?;
        for object in page.contents() {
            let (Some(key), Some(bytes)) = (object.key(), object.size()) else { continue };
            objects.push(Object { key: key.to_owned(), bytes: u64::try_from(bytes).unwrap_or(0) });
        }
    }
    Ok(objects)
}

/// Where an object goes: below the folder, whatever its key says.
fn place(into: &Path, key: &str) -> Result<PathBuf, CliError> {
    let good = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['\\', ':', '\0']);
    if key.split('/').all(good) {
        return Ok(key.split('/').fold(into.to_owned(), |path, name| path.join(name)));
    }
    Err(refused(format!("`{}` is no name for a file", firebreak_model::ids::shown(key))))
}

/// Fetches one object, behind what is there of it. Answers whether anything was left to fetch.
async fn fetch(
    s3: &aws_sdk_s3::Client,
    bucket: &str,
    object: &Object,
    path: &Path,
    bar: &mut Bar,
) -> Result<bool, CliError> {
    let length = |path: &Path| fs::metadata(path).map(|at| at.len()).ok();
    if length(path) == Some(object.bytes) {
        bar.add(object.bytes);
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(file(folder))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    // What is longer than the object is none of it.
    let have = length(&part).filter(|have| *have <= object.bytes).unwrap_or(0);
    bar.add(have);
    let mut out = if have > 0 {
        OpenOptions::new().append(true).open(&part).map_err(file(&part))?
    } else {
        File::create(&part).map_err(file(&part))?
    };
    if have < object.bytes {
        let get = s3.get_object().bucket(bucket).key(&object.key);
        let get = if have > 0 { get.range(format!("bytes={have}-")) } else { get };
        let unread = |key: &str| format!("`{key}` could not be read");
        let mut body = get.send().await.map_err(|error| aws(unread(&object.key), error))?.body;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| aws(unread(&object.key), error))?;
            out.write_all(&chunk).map_err(file(&part))?;
            bar.add(chunk.len() as u64);
        }
    }
    out.sync_all().map_err(file(&part))?;
    let have = length(&part).unwrap_or(0);
    if have != object.bytes {
        let problem = format!("`{}` came with {have} bytes instead of {}: pull again", object.key, object.bytes);
        return Err(refused(problem));
    }
    fs::rename(&part, path).map_err(file(path))?;
    Ok(true)
}

/// How far it is, where somebody looks on.
struct Bar {
    shown: bool,
    objects: usize,
    done: usize,
    total: u64,
    bytes: u64,
    last: u64,
}

impl Bar {
    fn new(objects: usize, total: u64) -> Self {
        let shown = io::stderr().is_terminal();
        Self { shown, objects, done: 0, total, bytes: 0, last: u64::MAX }
    }

    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.draw();
    }

    fn object_done(&mut self) {
        self.done += 1;
        self.last = u64::MAX;
        self.draw();
    }

    fn draw(&mut self) {
        if self.shown
            && let Some(line) = self.line()
        {
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    /// A line of forty steps, where another per cent is there.
    fn line(&mut self) -> Option<String> {
        let percent = (self.bytes.min(self.total) * 100).checked_div(self.total).unwrap_or(100);
        if percent == self.last {
            return None;
        }
        self.last = percent;
        let full = usize::try_from(percent * 40 / 100).unwrap_or(0);
        Some(format!(
            "\r[{}{}] {percent:>3} %  {}/{} objects  {} of {} MB",
            "#".repeat(full),
            ".".repeat(40 - full.min(40)),
            self.done,
            self.objects,
            self.bytes / 1_000_000,
            self.total / 1_000_000
        ))
    }

    fn end(&self) {
        if self.shown {
            let _ = io::stderr().write_all(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::{Arc, Mutex};

    use aws_config::BehaviorVersion;
    use aws_config::retry::RetryConfig;
    use aws_sdk_s3::config::{Credentials, Region};
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;

    use super::*;

    /// A bucket of one object, which gives so many bytes of what it is asked for, and notes what that was.
    #[derive(Debug, Clone)]
    struct Bucket {
        body: Arc<Vec<u8>>,
        gives: Arc<Mutex<usize>>,
        asked: Arc<Mutex<Vec<(String, usize)>>>,
    }

    impl HttpConnector for Bucket {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let range = request.headers().get("range").unwrap_or_default().to_owned();
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
            let rest = self.body.get(from..).unwrap_or_default();
            let given = rest.get(..*self.gives.lock().unwrap()).unwrap_or(rest);
            self.asked.lock().unwrap().push((range, given.len()));
            let status = if from > 0 { 206 } else { 200 };
            let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(given.to_vec()));
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    impl Bucket {
        fn of(bytes: usize) -> Self {
            let body = (0..bytes).map(|n| n.to_le_bytes().iter().fold(7, |a, b| a ^ b)).collect();
            Self { body: Arc::new(body), gives: Arc::new(Mutex::new(usize::MAX)), asked: Arc::default() }
        }

        fn client(&self) -> aws_sdk_s3::Client {
            let connector = SharedHttpConnector::new(self.clone());
            let client = http_client_fn(move |_, _| connector.clone());
            let config = aws_sdk_s3::config::Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("eu-west-1"))
                .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "test"))
                .retry_config(RetryConfig::disabled())
                .http_client(SharedHttpClient::new(client));
            aws_sdk_s3::Client::from_conf(config.build())
        }

        /// Fetches the object; whether anything was left to fetch, and how many bytes the bar counts.
        async fn fetch(&self, path: &Path) -> (Result<bool, String>, u64) {
            let object = Object { key: "k".to_owned(), bytes: self.body.len() as u64 };
            let mut bar = Bar::new(1, object.bytes);
            let fetched = fetch(&self.client(), "evidence", &object, path, &mut bar).await;
            (fetched.map_err(|error| error.to_string()), bar.bytes)
        }

        /// The ranges that were asked for since, each with how many bytes came.
        fn asked(&self) -> Vec<(String, usize)> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }
    }

    #[tokio::test]
    async fn a_download_that_is_cut_off_goes_on_behind_what_is_there_and_no_byte_comes_twice() {
        let place = tempfile::TempDir::new().unwrap();
        let path = place.path().join("logs/x");
        let part = place.path().join("logs/x.part");
        let bucket = Bucket::of(1_000);
        let range = |from: &str, bytes: usize| vec![(from.to_owned(), bytes)];
        // The connection ends after 300 bytes, and then after 400 more.
        for (gives, asked) in [(300, range("", 300)), (400, range("bytes=300-", 400))] {
            *bucket.gives.lock().unwrap() = gives;
            let (fetched, _) = bucket.fetch(&path).await;
            assert!(fetched.as_ref().is_err_and(|error| error.contains("pull again")), "{fetched:?}");
            assert_eq!(bucket.asked(), asked);
            assert!(!path.exists(), "what is not whole has another name");
        }
        *bucket.gives.lock().unwrap() = usize::MAX;
        assert_eq!(bucket.fetch(&path).await, (Ok(true), 1_000), "the bar counts what was there");
        assert_eq!(bucket.asked(), range("bytes=700-", 300));
        assert!(fs::read(&path).unwrap() == *bucket.body && !part.exists());
        // It is there: nothing is asked for.
        assert_eq!(bucket.fetch(&path).await, (Ok(false), 1_000));
        assert_eq!(bucket.asked(), []);
        // All of it came, and the end was not seen; more is there than the object has.
        for (there, asked) in [(1_000, vec![]), (1_001, range("", 1_000))] {
            fs::remove_file(&path).unwrap();
            let mut bytes = bucket.body.to_vec();
            bytes.resize(there, 0);
            fs::write(&part, bytes).unwrap();
            assert_eq!(bucket.fetch(&path).await, (Ok(true), 1_000), "{there}");
            assert_eq!(bucket.asked(), asked, "{there}");
            assert!(fs::read(&path).unwrap() == *bucket.body, "{there}");
        }
    }

    #[test]
    fn the_bar_says_how_far_it_is_with_each_per_cent_and_each_object() {
        let mut bar = Bar { shown: false, objects: 3, done: 0, total: 40_000_000, bytes: 0, last: u64::MAX };
        let line = |full: usize, rest: &str| format!("\r[{}{}] {rest}", "#".repeat(full), ".".repeat(40 - full));
        assert_eq!(bar.line().unwrap(), line(0, "  0 %  0/3 objects  0 of 40 MB"));
        bar.add(399_999);
        assert_eq!(bar.line(), None, "not a whole per cent more");
        bar.bytes += 1;
        assert_eq!(bar.line().unwrap(), line(0, "  1 %  0/3 objects  0 of 40 MB"));
        assert_eq!(bar.line(), None, "once");
        bar.bytes = 21_000_000;
        assert_eq!(bar.line().unwrap(), line(20, " 52 %  0/3 objects  21 of 40 MB"));
        bar.object_done();
        bar.last = u64::MAX;
        assert_eq!(bar.line().unwrap(), line(20, " 52 %  1/3 objects  21 of 40 MB"));
        // More than was announced is no more than all; of nothing, all is there.
        bar.bytes = 50_000_000;
        assert_eq!(bar.line().unwrap(), line(40, "100 %  1/3 objects  50 of 40 MB"));
        let mut empty = Bar { shown: false, objects: 0, done: 0, total: 0, bytes: 0, last: u64::MAX };
        assert_eq!(empty.line().unwrap(), line(40, "100 %  0/0 objects  0 of 0 MB"));
        // Whoever does not look on is shown nothing, and it counts all the same.
        bar.add(1);
        assert_eq!((bar.bytes, bar.last), (50_000_001, 100));
    }

    #[test]
    fn a_collection_has_ended_when_its_manifest_is_signed() {
        let run = |run: u32, names: &[&str]| -> Vec<Object> {
            let key = |name: &&str| format!("incidents/1/fb-1/000001/{run:06}/{name}");
            names.iter().map(|name| Object { key: key(name), bytes: 1 }).collect()
        };
        let objects = [
            run(1, &["logs/x", "manifest.json", "manifest.json.sig", "public-key.pem"]),
            run(2, &["logs/x", "manifest.2.json", "manifest.2.json.sig", "public-key.pem", "manifest.json"]),
            // Without a signature, without a key, with something of that name elsewhere.
            run(3, &["logs/x", "manifest.json", "public-key.pem"]),
            run(4, &["logs/x", "manifest.json", "manifest.json.sig"]),
            run(5, &["logs/manifest.json.sig.x", "public-key.pem", "other.json.sig"]),
        ];
        let ended = ended(&objects.concat());
        assert_eq!(ended.into_iter().collect::<Vec<_>>(), [1, 2].map(|n| format!("incidents/1/fb-1/000001/{n:06}")));
        assert!(is_under("a/b/c", "a/b") && !is_under("a/bc", "a/b"));
    }

    #[test]
    fn no_key_leads_out_of_the_folder() {
        let into = Path::new("/x");
        assert!(place(into, "incidents/1/fb-1/manifest.json").is_ok_and(|path| path.starts_with(into)));
        for key in ["../x", "a/../../x", "/etc/passwd", "a//b", "", "a/.ssh", "C:\\x", "a\\..\\b", "a\0"] {
            assert!(place(into, key).is_err(), "{key}");
        }
    }
}
