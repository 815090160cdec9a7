//! Evidence as `snapshot-logs` leaves it, and everything that somebody might do to it afterwards.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use aws_smithy_types::base64;
use firebreak_model::SCHEMA;
use firebreak_model::evidence::{
    ApiCall, Chained, Entry, Gap, Lack, Manifest, PublicKey, Purpose, SetAside, Signer, Source, Window,
};
use firebreak_model::ids::{IncidentId, sha256_hex, unhex};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::verify::{Held, verify};
use super::{ANCHOR, Anchor};

mod tamperings;
use tamperings::{LAST, TAMPERINGS};

const ACCOUNT: &str = "111122223333";
const INCIDENT: &str = "fb-0123456789abcdef01234567";
const OTHER: &str = "fb-ffffffffffffffffffffffff";

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn public(&self) -> PublicKey {
        let before = unhex("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        PublicKey::from_der(&[before, self.0.public_key().as_ref().to_vec()].concat()).unwrap()
    }

    fn signer(&self) -> Signer {
        let public = self.public();
        let key_arn = "arn:aws:kms:eu-west-1:111122223333:key/k".to_owned();
        Signer { key_arn, public_key: public.to_hex(), fingerprint: public.fingerprint() }
    }

    /// Signs a manifest, and leaves all three files.
    fn sign(&self, root: &Path, prefix: &str, manifest: &[u8]) {
        let signature = self.0.sign(&SystemRandom::new(), manifest).unwrap();
        write(root, &format!("{prefix}/manifest.json"), manifest);
        write(root, &format!("{prefix}/manifest.json.sig"), signature.as_ref());
        write(root, &format!("{prefix}/public-key.pem"), self.public().to_pem(|der| base64::encode(der)).as_bytes());
    }
}

fn write(root: &Path, key: &str, bytes: &[u8]) {
    let path = root.join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn at() -> Timestamp {
    "2026-11-21T03:00:00Z".parse().unwrap()
}

/// Stores an object as the collector does.
fn entry(root: &Path, prefix: &str, name: &str, content: &str, gzip: bool) -> Entry {
    let (stored, extension) = if gzip {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut out, content.as_bytes()).unwrap();
        (out.finish().unwrap(), "gz")
    } else {
        (zstd::encode_all(content.as_bytes(), 1).unwrap(), "zst")
    };
    let key = format!("{prefix}/{name}-0001.jsonl.{extension}");
    write(root, &key, &stored);
    Entry {
        key,
        what: "log group /aws/lambda/orders in eu-west-1".to_owned(),
        collector: name.split('/').next().unwrap().to_owned(),
        sources: vec![Source {
            call: ApiCall::new("logs:FilterLogEvents", json!({"logGroupName": "/aws/lambda/orders"})),
            collected_at: at(),
        }],
        collected_at: at(),
        lines: content.lines().count() as u64,
        bytes: stored.len() as u64,
        sha256: sha256_hex(&stored),
        content_bytes: content.len() as u64,
        content_sha256: sha256_hex(content.as_bytes()),
    }
}

fn prefix(incident: &str, episode: u32, run: u32) -> String {
    format!("incidents/{ACCOUNT}/{incident}/{episode:06}/{run:06}")
}

/// One run with three objects and one that was set aside.
fn run(root: &Path, key: &Key, incident: &str, (episode, run): (u32, u32), previous: Option<Chained>) -> Chained {
    let prefix = prefix(incident, episode, run);
    let text = |name: &str| format!("{{\"message\": \"{incident} {episode} {run} {name}\"}}\n").repeat(40);
    let entries = vec![
        entry(root, &prefix, "function/aa", &text("f"), false),
        entry(root, &prefix, "ledger/records", &text("l"), true),
        entry(root, &prefix, "logs/bb-01", &text("g"), false),
    ];
    let aside = format!("{prefix}/logs/cc-01-0001.jsonl.zst");
    write(root, &aside, b"something else");
    let manifest = Manifest {
        schema: SCHEMA,
        incident_id: incident.parse().unwrap(),
        episode,
        run,
        purpose: if run == 1 { Purpose::Snapshot } else { Purpose::FollowUp },
        account: ACCOUNT.parse().unwrap(),
        principal: "role/orders".to_owned(),
        functions: Vec::new(),
        playbook_digest: "d".to_owned(),
        drill: false,
        collected_by: "firebreak snapshot-logs 0.1.0".to_owned(),
        began_at: at(),
        ended_at: at(),
        log_window: Window { from: at(), to: at() },
        previous,
        signed_with: key.signer(),
        entries,
        gaps: vec![Gap {
            what: "function orders".to_owned(),
            source: ApiCall::new("lambda:GetPolicy", json!({"FunctionName": "orders"})),
            lack: Lack::Denied,
            reason: "denied".to_owned(),
        }],
        set_aside: vec![SetAside { key: aside, bytes: Some(14), sha256: Some(sha256_hex(b"something else")) }],
    };
    let bytes = manifest.to_bytes().unwrap();
    key.sign(root, &prefix, &bytes);
    Chained { key: format!("{prefix}/manifest.json"), sha256: sha256_hex(&bytes) }
}

/// Three runs of one incident, and what the ledger says of them.
fn runs(root: &Path, key: &Key, incident: &str) -> Chained {
    let first = run(root, key, incident, (1, 1), None);
    let second = run(root, key, incident, (1, 2), Some(first));
    run(root, key, incident, (2, 1), Some(second))
}

struct Download {
    folder: TempDir,
    key: Key,
}

impl Download {
    fn new() -> Self {
        let (folder, key) = (TempDir::new().unwrap(), Key::new());
        let head = runs(folder.path(), &key, INCIDENT);
        let download = Self { folder, key };
        download.anchor(INCIDENT, head, &download.key);
        download
    }

    fn anchor(&self, incident: &str, head: Chained, key: &Key) {
        let account = ACCOUNT.parse().unwrap();
        let incident_id: IncidentId = incident.parse().unwrap();
        let anchor = Anchor { incident_id, account, head, fingerprint: key.public().fingerprint() };
        write(self.root(), ANCHOR, &serde_json::to_vec(&anchor).unwrap());
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    fn read(&self, below: &str) -> Vec<u8> {
        fs::read(self.path(below)).unwrap()
    }

    fn change(&self, below: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.read(below);
        change(&mut bytes);
        fs::write(self.path(below), bytes).unwrap();
    }

    fn edit(&self, below: &str, edit: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&self.read(below)).unwrap();
        edit(&mut value);
        let mut text = serde_json::to_vec_pretty(&value).unwrap();
        text.push(b'\n');
        fs::write(self.path(below), text).unwrap();
    }

    fn remove(&self, below: &str) {
        fs::remove_file(self.path(below)).unwrap();
    }

    fn drop_run(&self, episode: u32, run: u32) {
        fs::remove_dir_all(self.path(&prefix(INCIDENT, episode, run))).unwrap();
    }

    fn verify(&self) -> Result<String, String> {
        verify(self.root(), &Held::default()).map(|sound| sound.to_string()).map_err(|wrong| wrong.to_string())
    }
}

#[test]
fn every_tampering_is_found_and_what_is_wrong_first_is_named() {
    assert!(TAMPERINGS.len() >= 15);
    for (done, tamper, place, problem) in TAMPERINGS {
        let download = Download::new();
        assert!(download.verify().is_ok(), "{:?}", download.verify());
        tamper(&download);
        let wrong = download.verify().unwrap_err_or_else(done);
        assert!(wrong.contains(place) && wrong.contains(problem), "{done}: {wrong}");
    }
}

trait Refused {
    fn unwrap_err_or_else(self, done: &str) -> String;
}

impl Refused for Result<String, String> {
    fn unwrap_err_or_else(self, done: &str) -> String {
        match self {
            Ok(sound) => panic!("{done}: {sound}"),
            Err(wrong) => wrong,
        }
    }
}

/// Objects made with the right key whose manifest lies about them: each digest is looked at for itself.
#[test]
fn a_manifest_that_is_signed_and_lies_is_found() {
    type Lie = (&'static str, fn(&mut Value), &'static str);
    let lies: [Lie; 7] = [
        ("content_sha256", |m| m["entries"][0]["content_sha256"] = json!("0"), "something else than was read"),
        ("content_bytes", |m| m["entries"][0]["content_bytes"] = json!(0), "something else than was read"),
        ("lines", |m| m["entries"][0]["lines"] = json!(0), "lines, and was stored with 0"),
        ("sha256", |m| m["entries"][0]["sha256"] = json!("0"), "has SHA-256"),
        ("collector", |m| m["entries"][0]["collector"] = json!("logs"), "no object of the collector"),
        ("twice", |m| m["entries"][1] = m["entries"][0].clone(), "is named twice"),
        ("elsewhere", |m| m["entries"][0]["key"] = json!("../../etc/passwd"), "no object of its run"),
    ];
    for (lie, tell, problem) in lies {
        let download = Download::new();
        download.edit(&format!("{LAST}/manifest.json"), tell);
        let bytes = download.read(&format!("{LAST}/manifest.json"));
        download.key.sign(download.root(), LAST, &bytes);
        let head = Chained { key: format!("{LAST}/manifest.json"), sha256: sha256_hex(&bytes) };
        download.anchor(INCIDENT, head, &download.key);
        let wrong = download.verify().unwrap_err_or_else(lie);
        assert!(wrong.contains(problem), "{lie}: {wrong}");
    }
}

#[test]
fn evidence_is_held_to_the_page_whatever_lies_beside_it() {
    let download = Download::new();
    let last = sha256_hex(&download.read(&format!("{LAST}/manifest.json")));
    let key = download.key.public().fingerprint();
    let held = |head: &str, key: &str| {
        let held = Held { head: Some(head.to_owned()), key: Some(key.to_owned()) };
        verify(download.root(), &held).map(|sound| sound.to_string()).map_err(|wrong| wrong.to_string())
    };
    let told = held(&last, &key).unwrap();
    assert!(told.contains("9 objects") && told.contains("of --head, the key of --key"), "{told}");
    assert!(!told.contains("newer"), "{told}");
    // The page that named the last manifest is overtaken by the next collection, and still good for what it named.
    let before: Value = serde_json::from_slice(&download.read(&format!("{LAST}/manifest.json"))).unwrap();
    let told = held(before["previous"]["sha256"].as_str().unwrap(), &key).unwrap();
    assert!(told.contains("newer          1 manifests came after"), "{told}");
    assert!(download.verify().unwrap().contains("compare with a page"));
    assert!(held("0", &key).unwrap_err().contains("is not the last manifest"));
    assert!(held(&last, "0").unwrap_err().contains("signed with another key"));
    // Somebody who replaces all of it, the anchor too, does not get at the page.
    fs::remove_dir_all(download.path("incidents")).unwrap();
    let thief = Key::new();
    let newest = runs(download.root(), &thief, INCIDENT);
    download.anchor(INCIDENT, newest, &thief);
    assert!(download.verify().is_ok());
    assert!(held(&last, &key).unwrap_err().contains("signed with another key"));
    fs::remove_file(download.path(ANCHOR)).unwrap();
    assert!(held(&last, &key).is_err());
}

/// Makes the manifest of the last run anew, signed, under a name.
fn remade(download: &Download, name: &str, edit: impl FnOnce(&mut Value)) {
    let below = prefix(INCIDENT, 2, 1);
    let mut manifest: Value = serde_json::from_slice(&download.read(&format!("{below}/manifest.json"))).unwrap();
    edit(&mut manifest);
    let bytes = serde_json::to_vec_pretty(&manifest).unwrap();
    let signature = download.key.0.sign(&SystemRandom::new(), &bytes).unwrap();
    let key = format!("{below}/{name}");
    write(download.root(), &key, &bytes);
    write(download.root(), &format!("{key}.sig"), signature.as_ref());
    download.anchor(INCIDENT, Chained { key, sha256: sha256_hex(&bytes) }, &download.key);
}

#[test]
fn a_manifest_under_a_later_name_accounts_for_what_lies_under_the_first() {
    let first = format!("{}/manifest.json", prefix(INCIDENT, 2, 1));
    let aside = json!({"key": first, "bytes": 7, "sha256": sha256_hex(b"planted")});
    let made = |with: Option<Value>| {
        let download = Download::new();
        remade(&download, "manifest.2.json", |manifest| {
            manifest["set_aside"].as_array_mut().unwrap().extend(with);
        });
        write(download.root(), &first, b"planted");
        download.remove(&format!("{first}.sig"));
        download
    };
    let download = made(Some(aside));
    let sound = download.verify().unwrap();
    assert!(sound.contains("in 3 manifests") && sound.contains("manifest.2.json"), "{sound}");
    write(download.root(), &first, b"PLANTED");
    assert!(download.verify().unwrap_err().contains("manifest.json"));
    assert!(made(None).verify().is_err(), "it must say so");
    // A bucket that gives nothing: nobody knew what lies there.
    let download = made(Some(json!({"key": first})));
    download.verify().unwrap();
    download.remove(&first);
    assert!(download.verify().unwrap_err().contains("is missing"));
}

#[test]
fn a_code_package_is_checked_as_it_lies() {
    let download = Download::new();
    let package = b"PK a package, whose names are nobody's paths: ../../x";
    let key = format!("{}/function/dd-0003.zip", prefix(INCIDENT, 2, 1));
    write(download.root(), &key, package);
    remade(&download, "manifest.json", |manifest| {
        let mut entry = manifest["entries"][0].clone();
        let (bytes, sha256) = (package.len(), sha256_hex(package));
        for (name, value) in [
            ("key", json!(key)),
            ("collector", json!("function")),
            ("lines", json!(0)),
            ("bytes", json!(bytes)),
            ("content_bytes", json!(bytes)),
            ("sha256", json!(sha256)),
            ("content_sha256", json!(sha256)),
        ] {
            entry[name] = value;
        }
        manifest["entries"].as_array_mut().unwrap().push(entry);
    });
    download.verify().unwrap();
    download.change(&key, |bytes| bytes[3] ^= 1);
    assert!(download.verify().unwrap_err().contains("dd-0003.zip"));
    download.change(&key, |bytes| bytes.truncate(20));
    assert!(download.verify().unwrap_err().contains("20 bytes"));
}
