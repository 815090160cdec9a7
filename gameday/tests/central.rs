//! Evidence in another account: the template of the central bucket deployed into a security account, Firebreak into a
//! member of the same organisation, a finding played, and everybody who must not trying to get at what came of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_sdk_s3::types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use firebreak_model::action::FunctionName;
use firebreak_model::evidence::{EvidenceRun, Manifest, Purpose, is_manifest};
use firebreak_model::ids::IncidentId;
use gameday::aws::{ACCOUNT, Aws, REGION};
use gameday::central::{self, Central, NEIGHBOUR, SECURITY_ACCOUNT, STRANGER};
use gameday::deploy::{self, Stack};
use gameday::emulator::Emulator;
use gameday::findings::{self, RoleSession};
use gameday::ledger::Book;
use gameday::narrator::Voice;
use gameday::pages::Inbox;
use gameday::scene::{Victim, random_hex};
use gameday::stage::Stage;
use gameday::thief::Thief;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../org/evidence-bucket.yaml");

/// A security account, and a member whose stack sends its evidence there.
struct House {
    emulator: Emulator,
    member: Aws,
    stack: Stack,
    inbox: Inbox,
    central: Central,
    /// Roles of the member: an administrator, and the one that collects.
    administrator: Aws,
    collector: Aws,
    /// Of the security account: it reads the bucket, and may use its key; and one that may do everything.
    reader: Aws,
    keeper: Aws,
    /// A role of the collector's name and path that may do everything, in another member and in an account outside.
    neighbour: Aws,
    stranger: Aws,
}

impl House {
    async fn set_up() -> Self {
        let settings = common::settings();
        let emulator = Emulator::start(&settings.emulator).await.unwrap();
        let endpoint = emulator.endpoint().to_owned();
        let member = Aws::operator(&endpoint, REGION);
        let central = Central::deploy(&endpoint, &fs::read_to_string(TEMPLATE).unwrap(), "firebreak").await.unwrap();
        let url = deploy::upload(&member, &settings.template, &settings.functions).await.unwrap();
        let mut parameters = deploy::parameters("enforce");
        // As late as on AWS: nothing is settled here, so that no report is made again beside what is compared.
        parameters.retain(|(name, _)| *name != "CloudTrailLagSeconds");
        parameters.push(("CentralEvidenceBucket", &central.bucket));
        parameters.push(("CentralEvidenceKeyArn", &central.key_arn));
        let stack = deploy::create(&member, &url, "firebreak", &parameters).await.unwrap();
        let inbox = Inbox::subscribe(&member, &stack).await.unwrap();
        let everything = json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]);
        let bucket = format!("arn:aws:s3:::{}", central.bucket);
        let reads = json!([
            {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": [&bucket, format!("{bucket}/*")]},
            {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": &central.key_arn},
        ]);
        let administrator = central::session(&member, ACCOUNT, ("/", "administrator"), everything.clone());
        let administrator = administrator.await.unwrap();
        let collector = stack.function(FunctionName::SnapshotLogs);
        let twin = ("/firebreak/", collector.as_str());
        let neighbour = central::operator_of(&endpoint, NEIGHBOUR);
        let neighbour = central::session(&neighbour, NEIGHBOUR, twin, everything.clone()).await.unwrap();
        let stranger = central::operator_of(&endpoint, STRANGER);
        let stranger = central::session(&stranger, STRANGER, twin, everything).await.unwrap();
        let reader = central::session(&central.aws, SECURITY_ACCOUNT, ("/", "reader"), reads).await.unwrap();
        let everything = json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]);
        let keeper = central::session(&central.aws, SECURITY_ACCOUNT, ("/", "keeper"), everything).await.unwrap();
        let collector = central::session_of_a_function(&member, &collector).await.unwrap();

        Self { emulator, member, stack, inbox, central, administrator, collector, reader, keeper, neighbour, stranger }
    }

    /// Plays a finding to its follow-up. Answers its incident, and the collections as the ledger has them.
    async fn played(&self) -> (IncidentId, Vec<EvidenceRun>) {
        let (aws, stack) = (&self.member, &self.stack);
        let mut stage = Stage::open(aws.clone(), stack.clone(), self.inbox.clone(), Voice::Silent).await.unwrap();
        let victim = Victim::set_up(aws, &random_hex(6), "").await.unwrap();
        let id = victim.role.incident().unwrap();
        let stolen = victim.role.steal_session(aws, &victim.function).await.unwrap();
        let thief = Thief::with(aws, "the thief", stolen, &victim.goods);
        stage.thief_works(&thief).await;
        let (role, role_id) = (victim.role.name.as_str(), victim.role.id.as_str());
        let session = RoleSession { role, role_id, session: &victim.function, access_key: &thief.access_key };
        let finding = findings::access_key_of_role(aws, &session).unwrap();
        let sent = stage.send_finding(&finding).await.unwrap();
        stage.thief_is_stopped(&thief, sent).await.unwrap();
        stage.until_contained(&id).await.unwrap();
        stage.nothing_failed().await.unwrap();
        let (checks, ..) = stage.close();
        let failed: Vec<_> = checks.iter().filter(|check| !check.held).collect();
        assert!(failed.is_empty() && checks.len() > 4, "{failed:?}");
        for _ in 0..1_200 {
            let book = Book::read(aws, stack).await.unwrap();
            let runs: Vec<_> = book.runs.into_iter().filter(|run| run.incident_id == id).collect();
            let followed = runs.iter().any(|run| run.purpose == Purpose::FollowUp);
            if followed && runs.iter().all(|run| run.done_at.is_some()) {
                return (id, runs);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{id} is not followed up: {}", self.emulator.log());
    }

    /// What lies in the bucket: each version of each object, with its digest by S3.
    async fn holds(&self) -> BTreeSet<(String, String, String)> {
        let (s3, bucket) = (&self.central.aws.s3, &self.central.bucket);
        let answer = s3.list_object_versions().bucket(bucket).send().await.unwrap();
        assert!(answer.delete_markers().is_empty() && answer.is_truncated() != Some(true), "{answer:?}");
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let versions = answer.versions().iter();
        versions.map(|v| (text(v.key()), text(v.version_id()), text(v.e_tag()))).collect()
    }

    async fn reads(&self, key: &str) -> Vec<u8> {
        let answer = self.reader.s3.get_object().bucket(&self.central.bucket).key(key).send().await.unwrap();
        answer.body.collect().await.unwrap().to_vec()
    }

    /// Puts an object as the collector does: under the bucket's key, where none is.
    async fn puts(&self, by: &Aws, key: &str) -> String {
        let put = by.s3.put_object().bucket(&self.central.bucket).key(key).body(b"planted".to_vec().into());
        let put = put.server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms);
        said(put.ssekms_key_id(&self.central.key_arn).if_none_match("*").send().await)
    }
}

/// What became of a call: `done`, or the error's code.
fn said<T, E: ProvideErrorMetadata + Debug, R: Debug>(answer: Result<T, SdkError<E, R>>) -> String {
    match answer {
        Ok(_) => "done".to_owned(),
        Err(SdkError::ServiceError(error)) => match error.err().code() {
            Some(code) => code.to_owned(),
            // The answer to HEAD has no body.
            None => format!("{:?}", error.raw()),
        },
        Err(other) => panic!("no answer: {other:?}"),
    }
}

fn in_the_house<F: Future<Output = ()>>(work: impl FnOnce(&'static House) -> F) {
    static HOUSE: OnceLock<(Runtime, House)> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (runtime, house) = HOUSE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let house = runtime.block_on(House::set_up());
        (runtime, house)
    });
    runtime.block_on(work(house));
}

/// The `firebreak` program, as somebody or as nobody.
fn firebreak(as_whom: Option<&Aws>, arguments: &[&str]) -> Output {
    let here = std::env::current_exe().unwrap();
    let program = here.ancestors().map(|folder| folder.join("firebreak")).find(|program| program.is_file());
    let program = program.unwrap_or_else(|| panic!("`firebreak` is not built: run `cargo xtask test`"));
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    if let Some(aws) = as_whom {
        use aws_credential_types::provider::ProvideCredentials as _;
        let provider = aws.config.credentials_provider().unwrap();
        let made = futures_util::FutureExt::now_or_never(provider.provide_credentials()).unwrap().unwrap();
        command.env("AWS_ENDPOINT_URL", &aws.endpoint).env("AWS_REGION", REGION);
        command.env("AWS_ACCESS_KEY_ID", made.access_key_id()).env("AWS_SECRET_ACCESS_KEY", made.secret_access_key());
        command.env("AWS_SESSION_TOKEN", made.session_token().unwrap());
    }
    command.output().unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn what_a_member_collects_is_whole_in_the_security_account_and_its_reader_verifies_it() {
    in_the_house(async |house: &House| {
        let (id, runs) = house.played().await;
        let last = runs.last().unwrap();
        let (sealed, signer) = (last.sealed.as_ref().unwrap(), last.signer.as_ref().unwrap());
        let prefix = format!("incidents/{ACCOUNT}/{id}/");

        // Everything is there that the manifests name, and nothing else; under the account's number, each once.
        let held = house.holds().await;
        let ours: Vec<&String> = held.iter().map(|(key, ..)| key).filter(|key| key.starts_with(&prefix)).collect();
        let keys: BTreeSet<&String> = ours.iter().copied().collect();
        assert_eq!(ours.len(), keys.len(), "something was overwritten: {ours:?}");
        let mut named = BTreeSet::new();
        let (mut collectors, mut gaps, mut log) = (BTreeSet::new(), Vec::new(), String::new());
        for key in keys.iter().filter(|key| is_manifest(key.rsplit('/').next().unwrap())) {
            let manifest: Manifest = serde_json::from_slice(&house.reads(key).await).unwrap();
            let folder = key.rsplit_once('/').unwrap().0;
            named.extend(["public-key.pem", "manifest.json", "manifest.json.sig"].map(|one| format!("{folder}/{one}")));
            for entry in manifest.entries {
                if entry.collector == "logs" {
                    let body = house.reads(&entry.key).await;
                    zstd::stream::read::Decoder::new(body.as_slice()).unwrap().read_to_string(&mut log).unwrap();
                }
                collectors.insert(entry.collector);
                named.insert(entry.key);
            }
            gaps.extend(manifest.gaps.into_iter().map(|gap| (gap.source.api, gap.reason)));
        }
        assert_eq!(keys.into_iter().cloned().collect::<BTreeSet<_>>(), named);
        let expected = ["calls", "function", "ledger", "logs", "principal", "report"].map(str::to_owned);
        assert_eq!(collectors, expected.into());
        assert!(log.contains("order 0 taken over before-1") && log.contains("order 4 taken over before-2"), "{log}");
        // What follows from reading the evidence again is missing, is said to be, and nothing else is.
        assert!(!gaps.is_empty());
        for (api, reason) in &gaps {
            assert!(api == "s3:GetObject" && reason.contains("the bucket gives nothing"), "{api}: {reason}");
        }
        let (s3, bucket) = (&house.central.aws.s3, &house.central.bucket);
        let locked = s3.head_object().bucket(bucket).key(&sealed.manifest.key).send().await.unwrap();
        assert_eq!(locked.ssekms_key_id(), Some(house.central.key_arn.as_str()));
        assert_eq!(locked.object_lock_mode(), Some(&ObjectLockMode::Compliance));

        // The security account's reader downloads and checks it, with what the member's page says and nothing else of it.
        let place = tempfile::TempDir::new().unwrap();
        let into = place.path().join("evidence");
        let into = into.to_str().unwrap();
        let pull = ["evidence", "pull", id.as_str(), "--into", into, "--bucket", bucket, "--account", ACCOUNT];
        let pulled = firebreak(Some(&house.reader), &pull);
        assert!(pulled.status.success() && told(&pulled).contains("report.html"), "{}", told(&pulled));
        let again = firebreak(Some(&house.reader), &pull);
        assert!(told(&again).contains(", 0 of them fetched now"), "{}", told(&again));
        let book = Book::read(&house.member, &house.stack).await.unwrap();
        let step = book.steps.iter().find(|s| s.incident_id == id && s.owner == FunctionName::SnapshotLogs).unwrap();
        for said in [&sealed.manifest.sha256, &signer.fingerprint] {
            assert!(step.detail.contains(said), "{}", step.detail);
        }
        let held_to = ["evidence", "verify", into, "--head", &sealed.manifest.sha256, "--key", &signer.fingerprint];
        let sound = firebreak(None, &held_to);
        assert!(sound.status.success() && told(&sound).starts_with("sound: "), "{}", told(&sound));
        assert!(!firebreak(None, &["evidence", "verify", into]).status.success(), "held to nothing");
        let log = named.iter().find(|key| key.contains("/logs/")).unwrap();
        fs::write(Path::new(into).join(log), b"nothing happened").unwrap();
        assert!(!firebreak(None, &held_to).status.success());
        // The member's own administrator downloads nothing.
        let elsewhere = place.path().join("member");
        let pull = ["evidence", "pull", id.as_str(), "--into", elsewhere.to_str().unwrap()];
        let pull = [&pull[..], &["--bucket", bucket, "--account", ACCOUNT]].concat();
        let refused = firebreak(Some(&house.administrator), &pull);
        assert!(!refused.status.success() && told(&refused).contains("AccessDenied"), "{}", told(&refused));
        assert!(!elsewhere.exists());
    });
}

/// What somebody could do to an object there, and to the bucket and its key, each with what became of it.
async fn tried(house: &House, by: &Aws, (key, version): (&str, &str)) -> BTreeMap<&'static str, String> {
    let (s3, bucket) = (&by.s3, house.central.bucket.as_str());
    let kms_key = &house.central.key_arn;
    let until = aws_smithy_types::DateTime::from_secs(0);
    let retention = ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Governance).retain_until_date(until);
    let open = json!({"Version": "2012-10-17", "Statement": []}).to_string();
    let plain = || s3.put_object().bucket(bucket).key(key).body(b"overwritten".to_vec().into());
    let put = plain().server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms);
    let put = put.ssekms_key_id(kms_key);
    let copy = s3.copy_object().bucket(bucket).key(format!("{key}.copy")).copy_source(format!("{bucket}/{key}"));
    let mut all = BTreeMap::new();
    let mut is = |what, said: String| assert!(all.insert(what, said).is_none(), "{what} twice");
    is("get", said(s3.get_object().bucket(bucket).key(key).send().await));
    is("get a version", said(s3.get_object().bucket(bucket).key(key).version_id(version).send().await));
    is("list", said(s3.list_objects_v2().bucket(bucket).send().await));
    is("list versions", said(s3.list_object_versions().bucket(bucket).send().await));
    is("list uploads", said(s3.list_multipart_uploads().bucket(bucket).send().await));
    is("delete", said(s3.delete_object().bucket(bucket).key(key).send().await));
    is("delete a version", said(s3.delete_object().bucket(bucket).key(key).version_id(version).send().await));
    let lift = s3.delete_object().bucket(bucket).key(key).version_id(version).bypass_governance_retention(true);
    is("delete under a lock", said(lift.send().await));
    is("overwrite", said(put.send().await));
    is("overwrite without the key", said(plain().send().await));
    is("copy", said(copy.send().await));
    let shorten = s3.put_object_retention().bucket(bucket).key(key).retention(retention.build());
    is("shorten the lock", said(shorten.bypass_governance_retention(true).send().await));
    is("change the policy", said(s3.put_bucket_policy().bucket(bucket).policy(open).send().await));
    is("delete the policy", said(s3.delete_bucket_policy().bucket(bucket).send().await));
    is("delete the bucket", said(s3.delete_bucket().bucket(bucket).send().await));
    is("disable the key", said(by.kms.disable_key().key_id(kms_key).send().await));
    is("delete the key", said(by.kms.schedule_key_deletion().key_id(kms_key).send().await));
    let data_key = by.kms.generate_data_key().key_id(kms_key).key_spec(aws_sdk_kms::types::DataKeySpec::Aes256);
    is("use the key", said(data_key.send().await));
    all
}

#[test]
fn a_member_reads_lists_deletes_and_overwrites_nothing_of_it() {
    in_the_house(async |house: &House| {
        let key = format!("incidents/{ACCOUNT}/fb-{}/000001/000001/logs/x-0001.jsonl.zst", random_hex(24));
        assert_eq!(house.puts(&house.collector, &key).await, "done");
        let before = house.holds().await;
        let version = before.iter().find(|(held, ..)| *held == key).unwrap().1.clone();
        for (who, by) in [("collector", &house.collector), ("administrator", &house.administrator)] {
            for (what, said) in tried(house, by, (&key, &version)).await {
                assert!(["AccessDenied", "AccessDeniedException"].contains(&said.as_str()), "{who}, {what}: {said}");
            }
        }
        // Its own second try meets the first one, and whoever is no collector puts nothing at all, nor who keeps the bucket.
        assert_eq!(house.puts(&house.collector, &key).await, "PreconditionFailed");
        assert_eq!(house.puts(&house.administrator, &format!("{key}.planted")).await, "AccessDenied");
        assert_eq!(house.puts(&house.keeper, &format!("{key}.planted")).await, "AccessDenied");
        let hide = house.keeper.s3.delete_object().bucket(&house.central.bucket).key(&key);
        assert_eq!(said(hide.send().await), "AccessDenied");
        assert_eq!(house.holds().await, before);
        // That they are refused is not for want of an object.
        assert_eq!(house.reads(&key).await, b"planted");
        assert!(house.reader.s3.list_objects_v2().bucket(&house.central.bucket).send().await.is_ok());
    });
}

#[test]
fn an_upload_in_parts_goes_there_too() {
    in_the_house(async |house: &House| {
        let key = format!("incidents/{ACCOUNT}/fb-{}/000001/000001/logs/x-0001.jsonl.zst", random_hex(24));
        let (s3, bucket) = (&house.collector.s3, house.central.bucket.as_str());
        let create = s3.create_multipart_upload().bucket(bucket).key(&key).ssekms_key_id(&house.central.key_arn);
        let create = create.server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::AwsKms);
        let upload = create.send().await.unwrap().upload_id.unwrap();
        let part = s3.upload_part().bucket(bucket).key(&key).upload_id(&upload).part_number(1);
        let tag = part.body(b"one".to_vec().into()).send().await.unwrap().e_tag.unwrap();
        let parts = aws_sdk_s3::types::CompletedPart::builder().part_number(1).e_tag(tag).build();
        let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder().parts(parts).build();
        let complete = s3.complete_multipart_upload().bucket(bucket).key(&key).upload_id(&upload);
        let complete = complete.multipart_upload(parts);
        // Without its condition it could take the place of what lies there.
        assert_eq!(said(complete.clone().send().await), "AccessDenied");
        assert_eq!(said(complete.if_none_match("*").send().await), "done");
        assert_eq!(house.reads(&key).await, b"one");
    });
}

#[test]
fn another_accounts_collector_writes_under_its_own_number_and_nowhere_else() {
    in_the_house(async |house: &House| {
        let name = random_hex(24);
        let of = |account: &str| format!("incidents/{account}/fb-{name}/000001/000001/manifest.json");
        let mut found = Vec::new();
        for (who, by) in [(NEIGHBOUR, &house.neighbour), (STRANGER, &house.stranger)] {
            for account in [ACCOUNT, NEIGHBOUR, STRANGER, SECURITY_ACCOUNT] {
                found.push((who, account, house.puts(by, &of(account)).await));
            }
        }
        let done =
            |(who, account, said): &(&str, &str, String)| (*who, *account) == (NEIGHBOUR, NEIGHBOUR) && said == "done";
        let refused = found.iter().filter(|one| !done(one));
        assert_eq!(refused.clone().count(), found.len() - 1, "{found:?}");
        assert!(refused.into_iter().all(|(_, _, said)| said == "AccessDenied"), "{found:?}");
        // Nor does it read what it wrote, nor what others did.
        let (s3, bucket) = (&house.neighbour.s3, &house.central.bucket);
        assert_eq!(said(s3.get_object().bucket(bucket).key(of(NEIGHBOUR)).send().await), "AccessDenied");
        // The member's own collector is held to its number by the bucket, and by its role.
        assert_eq!(house.puts(&house.collector, &of(NEIGHBOUR)).await, "AccessDenied");
        assert_eq!(house.puts(&house.collector, "incidents/x").await, "AccessDenied");
    });
}

/// What keeps members out is the statement that says so: with the bucket opened to the organisation by a mistake it still
/// does, and without it an administrator of the member lists and reads.
#[test]
fn opened_by_a_mistake_the_bucket_gives_nothing_until_the_denial_goes_too() {
    in_the_house(async |house: &House| {
        let key = format!("incidents/{ACCOUNT}/fb-{}/000001/000001/logs/x-0001.jsonl.zst", random_hex(24));
        assert_eq!(house.puts(&house.collector, &key).await, "done");
        let (central, bucket) = (&house.central, &house.central.bucket);
        let before = central.policy().await.unwrap();
        let organisation = before["Statement"][0]["Condition"]["StringEquals"]["aws:PrincipalOrgID"].clone();
        assert!(organisation.is_string(), "{before}");
        let mut opened = before.clone();
        opened["Statement"].as_array_mut().unwrap().push(json!({"Effect": "Allow", "Principal": "*",
            "Action": "s3:*", "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": organisation}}}));
        let mut undefended = opened.clone();
        let statements = undefended["Statement"].as_array_mut().unwrap();
        statements.retain(|statement| statement["Sid"] != "OnlyThisAccountReads");
        assert_eq!(statements.len(), opened["Statement"].as_array().unwrap().len() - 1);
        let lists = async |policy: &Value| {
            central.put_policy(policy).await.unwrap();
            let s3 = &house.administrator.s3;
            let list = said(s3.list_objects_v2().bucket(bucket).send().await);
            (list, said(s3.get_object().bucket(bucket).key(&key).send().await))
        };
        let (with, without) = (lists(&opened).await, lists(&undefended).await);
        central.put_policy(&before).await.unwrap();
        assert_eq!(with, ("AccessDenied".to_owned(), "AccessDenied".to_owned()));
        // It lists; what it would read is under a key that gives it nothing still.
        assert_eq!(without, ("done".to_owned(), "AccessDenied".to_owned()));
    });
}
