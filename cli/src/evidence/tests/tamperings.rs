//! The table of what somebody may do to a download.

use super::*;

const LOG: &str = "incidents/111122223333/fb-0123456789abcdef01234567/000001/000001/logs/bb-01-0001.jsonl.zst";
const DOCUMENTS: &str = "incidents/111122223333/fb-0123456789abcdef01234567/000001/000001/function/aa-0001.jsonl.zst";
const ASIDE: &str = "incidents/111122223333/fb-0123456789abcdef01234567/000001/000002/logs/cc-01-0001.jsonl.zst";
const FIRST: &str = "incidents/111122223333/fb-0123456789abcdef01234567/000001/000001";
const SECOND: &str = "incidents/111122223333/fb-0123456789abcdef01234567/000001/000002";
pub(super) const LAST: &str = "incidents/111122223333/fb-0123456789abcdef01234567/000002/000001";

/// What was done, doing it, and what is then said of which file.
pub(super) type Tampering = (&'static str, fn(&Download), &'static str, &'static str);

const FILES: [&str; 3] = ["manifest.json", "manifest.json.sig", "public-key.pem"];

pub(super) const TAMPERINGS: &[Tampering] = &[
    ("a byte of an object flipped", |d| d.change(LOG, |b| b[20] ^= 1), LOG, "has SHA-256"),
    ("a byte of a manifest flipped", |d| d.change(&format!("{FIRST}/manifest.json"), |b| b[40] ^= 1), FIRST, ""),
    (
        "a byte of a signature flipped",
        |d| d.change(&format!("{SECOND}/manifest.json.sig"), |b| *b.last_mut().unwrap() ^= 1),
        SECOND,
        "does not fit its signature",
    ),
    (
        "two objects swapped",
        |d| {
            let (one, other) = (d.read(LOG), d.read(DOCUMENTS));
            d.change(LOG, |b| *b = other);
            d.change(DOCUMENTS, |b| *b = one);
        },
        DOCUMENTS,
        "",
    ),
    ("an object deleted", |d| d.remove(LOG), LOG, "is missing"),
    ("an object truncated", |d| d.change(LOG, |b| b.truncate(b.len() / 2)), LOG, "bytes, and was stored with"),
    ("an object emptied", |d| d.change(LOG, Vec::clear), LOG, "has 0 bytes"),
    ("something appended to an object", |d| d.change(LOG, |b| b.push(b'\n')), LOG, "bytes, and was stored with"),
    (
        "an object compressed anew from the same content",
        |d| {
            let content = zstd::decode_all(d.read(LOG).as_slice()).unwrap();
            d.change(LOG, |b| *b = zstd::encode_all(content.as_slice(), 19).unwrap());
        },
        LOG,
        "",
    ),
    (
        "an object added",
        |d| write(d.root(), &format!("{FIRST}/logs/dd-01-0001.jsonl.zst"), b"x"),
        "dd-01",
        "named by no manifest",
    ),
    ("a file added elsewhere", |d| write(d.root(), "notes.txt", b"x"), "notes.txt", "named by no manifest"),
    (
        "an object replaced by a link to itself",
        |d| {
            fs::rename(d.path(LOG), d.path(&format!("{LOG}.was"))).unwrap();
            std::os::unix::fs::symlink(d.path(&format!("{LOG}.was")), d.path(LOG)).unwrap();
        },
        "bb-01",
        "neither a file nor a folder",
    ),
    ("an object that was set aside changed", |d| d.change(ASIDE, |b| b[0] ^= 1), ASIDE, "set aside"),
    ("an object that was set aside deleted", |d| d.remove(ASIDE), ASIDE, "is missing"),
    (
        "a manifest replaced by the one before it, with its signature",
        |d| {
            for file in FILES {
                let before = d.read(&format!("{FIRST}/{file}"));
                d.change(&format!("{SECOND}/{file}"), |b| *b = before);
            }
        },
        SECOND,
        "is the manifest of run 1 in episode 1",
    ),
    (
        "a manifest replaced by another incident's, with its signature",
        |d| {
            let elsewhere = TempDir::new().unwrap();
            runs(elsewhere.path(), &d.key, OTHER);
            for file in FILES {
                let other = fs::read(elsewhere.path().join(prefix(OTHER, 1, 1)).join(file)).unwrap();
                d.change(&format!("{FIRST}/{file}"), |b| *b = other);
            }
        },
        FIRST,
        OTHER,
    ),
    (
        "all of it replaced by another incident's",
        |d| {
            fs::remove_dir_all(d.path("incidents")).unwrap();
            runs(d.root(), &d.key, OTHER);
        },
        OTHER,
        "is of fb-f",
    ),
    (
        "another incident's evidence laid beside",
        |d| {
            runs(d.root(), &d.key, OTHER);
        },
        OTHER,
        "",
    ),
    ("the first run dropped", |d| d.drop_run(1, 1), FIRST, "is missing"),
    ("a run in the middle dropped", |d| d.drop_run(1, 2), SECOND, "is missing"),
    ("the last run dropped", |d| d.drop_run(2, 1), SECOND, "is not the last manifest"),
    (
        "the last manifest dropped, with its signature and key",
        |d| FILES.iter().for_each(|file| d.remove(&format!("{LAST}/{file}"))),
        SECOND,
        "is not the last manifest",
    ),
    ("a manifest deleted", |d| d.remove(&format!("{FIRST}/manifest.json")), FIRST, "is missing"),
    ("a signature deleted", |d| d.remove(&format!("{FIRST}/manifest.json.sig")), FIRST, "is missing"),
    ("a signature emptied", |d| d.change(&format!("{FIRST}/manifest.json.sig"), Vec::clear), FIRST, "does not fit"),
    (
        "the signature of another manifest",
        |d| {
            let other = d.read(&format!("{SECOND}/manifest.json.sig"));
            d.change(&format!("{FIRST}/manifest.json.sig"), |b| *b = other);
        },
        FIRST,
        "does not fit",
    ),
    (
        "everything signed anew with another key",
        |d| {
            fs::remove_dir_all(d.path("incidents")).unwrap();
            runs(d.root(), &Key::new(), INCIDENT);
        },
        FIRST,
        "signed with another key",
    ),
    (
        "another key laid beside",
        |d| {
            let other = Key::new().public().to_pem(|der| base64::encode(der)).into_bytes();
            d.change(&format!("{FIRST}/public-key.pem"), |b| *b = other);
        },
        "public-key.pem",
        "is not the key",
    ),
    (
        "a manifest of the right key put in the place of another",
        |d| {
            run(d.root(), &d.key, INCIDENT, (1, 2), None);
        },
        SECOND,
        "names no manifest before it",
    ),
    (
        "the first manifest made anew with the right key",
        |d| {
            d.edit(&format!("{FIRST}/manifest.json"), |m| m["principal"] = json!("role/innocent"));
            let bytes = d.read(&format!("{FIRST}/manifest.json"));
            d.key.sign(d.root(), FIRST, &bytes);
        },
        FIRST,
        "it was replaced",
    ),
    (
        "a size edited",
        |d| d.edit(&format!("{LAST}/manifest.json"), |m| m["entries"][0]["bytes"] = json!(1)),
        LAST,
        "does not fit its signature",
    ),
    (
        "a time edited",
        |d| {
            d.edit(&format!("{LAST}/manifest.json"), |m| {
                m["entries"][0]["collected_at"] = json!("2020-01-01T00:00:00Z");
            });
        },
        LAST,
        "does not fit its signature",
    ),
    (
        "a source edited",
        |d| {
            d.edit(&format!("{LAST}/manifest.json"), |m| {
                m["entries"][0]["sources"][0]["call"]["api"] = json!("s3:GetObject");
            });
        },
        LAST,
        "does not fit its signature",
    ),
    (
        "a digest edited with its object",
        |d| {
            let forged = zstd::encode_all(b"{}\n".as_slice(), 1).unwrap();
            let digests = (sha256_hex(&forged), sha256_hex(b"{}\n"), forged.len());
            d.change(LOG, |b| *b = forged);
            d.edit(&format!("{FIRST}/manifest.json"), |m| {
                let entry = &mut m["entries"][2];
                entry["sha256"] = json!(digests.0);
                entry["content_sha256"] = json!(digests.1);
                entry["bytes"] = json!(digests.2);
                entry["content_bytes"] = json!(3);
                entry["lines"] = json!(1);
            });
        },
        FIRST,
        "does not fit its signature",
    ),
    (
        "a gap taken away",
        |d| d.edit(&format!("{LAST}/manifest.json"), |m| m["gaps"] = json!([])),
        LAST,
        "does not fit its signature",
    ),
    (
        "an object taken away with its entry",
        |d| {
            d.remove(LOG);
            d.edit(&format!("{FIRST}/manifest.json"), |m| {
                m["entries"].as_array_mut().unwrap().pop();
            });
        },
        FIRST,
        "does not fit its signature",
    ),
    (
        "two runs exchanged",
        |d| {
            let between = d.path("between");
            fs::rename(d.path(FIRST), &between).unwrap();
            fs::rename(d.path(SECOND), d.path(FIRST)).unwrap();
            fs::rename(between, d.path(SECOND)).unwrap();
        },
        FIRST,
        "is the manifest of run 2",
    ),
    (
        "a run made up at the end with the right key",
        |d| {
            let last = sha256_hex(&d.read(&format!("{LAST}/manifest.json")));
            let previous = Chained { key: format!("{LAST}/manifest.json"), sha256: last };
            run(d.root(), &d.key, INCIDENT, (2, 2), Some(previous));
        },
        "000002/000002",
        "is not the last manifest",
    ),
    (
        "a manifest that is none",
        |d| d.change(&format!("{FIRST}/manifest.json"), |b| *b = b"{}".to_vec()),
        FIRST,
        "is no manifest",
    ),
    (
        "a manifest of another schema",
        |d| d.edit(&format!("{FIRST}/manifest.json"), |m| m["schema"] = json!(99)),
        FIRST,
        "schema 99",
    ),
    ("the anchor deleted", |d| d.remove(ANCHOR), ANCHOR, "is not there"),
    ("the anchor emptied", |d| d.change(ANCHOR, Vec::clear), ANCHOR, "cannot be read"),
    ("everything deleted", |d| fs::remove_dir_all(d.path("incidents")).unwrap(), "manifest.json", "there is none"),
];
