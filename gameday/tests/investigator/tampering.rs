//! Whatever is changed of what a deployed stack collected, `firebreak evidence verify` finds, offline, and names.

use firebreak_model::ids::sha256_hex;

use super::*;

/// A download to be tampered with.
struct Download {
    place: tempfile::TempDir,
    /// The folder of each run, in their order.
    runs: Vec<PathBuf>,
    /// Two objects of the first run: records of the function, and its log.
    objects: [PathBuf; 2],
}

impl Download {
    /// A copy of a sound one.
    fn of(folder: &Path) -> Self {
        let place = tempfile::TempDir::new().unwrap();
        for file in files(folder) {
            let copy = place.path().join(file.strip_prefix(folder).unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(&file, copy).unwrap();
        }
        let all = files(place.path());
        let manifests = all.iter().filter(|path| path.ends_with("manifest.json"));
        let runs: Vec<PathBuf> = manifests.map(|path| path.parent().unwrap().to_owned()).collect();
        let object = |under: &str| {
            let is_it = |path: &&PathBuf| path.starts_with(runs[0].join(under));
            all.iter().find(is_it).unwrap_or_else(|| panic!("nothing under {under}: {all:?}")).clone()
        };
        let objects = [object("function"), object("logs")];
        Self { place, runs, objects }
    }

    fn log(&self) -> &Path {
        &self.objects[1]
    }

    fn first(&self, name: &str) -> PathBuf {
        self.runs[0].join(name)
    }

    fn last(&self, name: &str) -> PathBuf {
        self.runs.last().unwrap().join(name)
    }
}

fn edit(manifest: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    change(&mut value);
    fs::write(manifest, value.to_string()).unwrap();
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

fn flip(file: &Path) {
    change(file, |bytes| *bytes.last_mut().unwrap() ^= 1);
}

fn swap(one: &Path, other: &Path) {
    let (a, b) = (fs::read(one).unwrap(), fs::read(other).unwrap());
    fs::write(one, b).unwrap();
    fs::write(other, a).unwrap();
}

/// The three files that make a run provable.
const PROOF: [&str; 3] = ["manifest.json", "manifest.json.sig", "public-key.pem"];

/// What is done to a download.
type Tampering = fn(&Download);

const TAMPERINGS: [(&str, Tampering); 26] = [
    ("a byte of an object flipped", |d| flip(d.log())),
    ("an object truncated", |d| change(d.log(), |bytes| bytes.truncate(bytes.len() / 2))),
    ("an object emptied", |d| change(d.log(), Vec::clear)),
    ("an object deleted", |d| fs::remove_file(d.log()).unwrap()),
    ("something appended to an object", |d| change(d.log(), |bytes| bytes.push(b'\n'))),
    ("two objects swapped", |d| swap(&d.objects[0], &d.objects[1])),
    ("an object compressed anew from the same content", |d| {
        change(d.log(), |bytes| *bytes = zstd::encode_all(&*zstd::decode_all(&**bytes).unwrap(), 19).unwrap());
    }),
    ("a line taken out of a log", |d| {
        change(d.log(), |bytes| {
            let lines = zstd::decode_all(&**bytes).unwrap();
            let rest = lines.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            *bytes = zstd::encode_all(lines.get(rest..).unwrap(), 1).unwrap();
        });
    }),
    ("an object added", |d| fs::write(d.first("logs/zz-01-0001.jsonl.zst"), "x").unwrap()),
    ("a file added beside the incident", |d| fs::write(d.place.path().join("notes.txt"), "x").unwrap()),
    ("the report rewritten", |d| change(&d.last("report/report.html"), |bytes| bytes.extend(b"<!-- no -->"))),
    ("a byte of a manifest flipped", |d| flip(&d.first("manifest.json"))),
    ("a manifest deleted", |d| fs::remove_file(d.first("manifest.json")).unwrap()),
    ("a signature flipped", |d| flip(&d.first("manifest.json.sig"))),
    ("a signature deleted", |d| fs::remove_file(d.first("manifest.json.sig")).unwrap()),
    ("a signature emptied", |d| change(&d.first("manifest.json.sig"), Vec::clear)),
    ("two signatures swapped", |d| swap(&d.first("manifest.json.sig"), &d.last("manifest.json.sig"))),
    ("two manifests swapped, with their signatures", |d| {
        for name in PROOF {
            swap(&d.first(name), &d.last(name));
        }
    }),
    ("the first run dropped", |d| fs::remove_dir_all(&d.runs[0]).unwrap()),
    ("the last run dropped", |d| fs::remove_dir_all(d.runs.last().unwrap()).unwrap()),
    ("the last manifest dropped, with its proof", |d| {
        for name in PROOF {
            fs::remove_file(d.last(name)).unwrap();
        }
    }),
    ("a time edited", |d| {
        edit(&d.last("manifest.json"), |m| m["entries"][0]["collected_at"] = json!("2020-01-01T00:00:00Z"));
    }),
    ("a source edited", |d| {
        edit(&d.last("manifest.json"), |m| m["entries"][0]["sources"][0]["call"]["api"] = json!("s3:GetObject"));
    }),
    ("a gap made up", |d| {
        let gap = json!({"what": "all else", "lack": "gone", "reason": "r", "source": {"api": "a", "parameters": {}}});
        edit(&d.last("manifest.json"), |m| m["gaps"] = json!([gap]));
    }),
    ("an object taken away with its entry", |d| {
        edit(&d.first("manifest.json"), |m| {
            let entries = m["entries"].as_array_mut().unwrap();
            entries.retain(|entry| !d.log().ends_with(entry["key"].as_str().unwrap()));
        });
        fs::remove_file(d.log()).unwrap();
    }),
    ("a digest edited with its object", |d| {
        flip(d.log());
        let digest = sha256_hex(&fs::read(d.log()).unwrap());
        edit(&d.first("manifest.json"), |m| {
            let entries = m["entries"].as_array_mut().unwrap();
            let of_it = entries.iter_mut().find(|entry| d.log().ends_with(entry["key"].as_str().unwrap()));
            of_it.unwrap()["sha256"] = json!(digest);
        });
    }),
];

/// Each is tried on a copy of its own; one of them that passes is told by its name.
pub(super) fn each_is_found(folder: &Path) {
    let verify = |at: &Path| firebreak(None, &["evidence", "verify", at.to_str().unwrap()]);
    let untouched = Download::of(folder);
    assert!(untouched.runs.len() > 1, "{:?}", untouched.runs);
    assert!(verify(untouched.place.path()).status.success());
    let mut passed = Vec::new();
    for (name, tamper) in TAMPERINGS {
        let download = Download::of(folder);
        tamper(&download);
        let output = verify(download.place.path());
        let text = said(&output);
        if output.status.success() || !text.contains("not sound") || text.contains("panicked") {
            passed.push(format!("{name}: {}: {text}", output.status));
        }
    }
    assert!(passed.is_empty(), "{}", passed.join("\n"));
}
