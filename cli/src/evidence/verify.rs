//! Checks a download against its manifests, the manifests against their signatures and each other, and the last of them
//! against what the ledger says. What is wrong first is named.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use aws_smithy_types::base64;
use firebreak_model::SCHEMA;
use firebreak_model::evidence::{Chained, Entry, MANIFEST, Manifest, PUBLIC_KEY, PublicKey, SetAside, is_manifest};
use firebreak_model::ids::{sha256_hex, shown, shown_id};

use super::{ANCHOR, Anchor, unpack};

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {problem}", shown_id(.place))]
pub(crate) struct Wrong {
    /// Which file.
    place: String,
    /// What is wrong with it.
    problem: String,
}

fn wrong<T>(place: impl Into<String>, problem: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { place: place.into(), problem: problem.into() })
}

/// What a caller holds evidence to, from the page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) head: Option<String>,
    pub(crate) key: Option<String>,
}

/// What was found to be as it was collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sound {
    incident: String,
    manifests: usize,
    objects: usize,
    bytes: u64,
    head: Chained,
    fingerprint: String,
    /// What the first of these two was held to, and the second.
    held_to: [&'static str; 2],
    /// How many manifests came after the one that the caller named.
    newer: usize,
    gaps: Vec<String>,
    set_aside: usize,
}

impl fmt::Display for Sound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { incident, manifests, objects, bytes, head, fingerprint, held_to, newer, gaps, set_aside } = self;
        writeln!(f, "sound: {objects} objects, {bytes} bytes, in {manifests} manifests of {incident}")?;
        writeln!(f, "last manifest  {} ({})", head.sha256, head.key)?;
        writeln!(f, "signed with    {fingerprint}")?;
        writeln!(f, "held to        the manifest of {}, the key of {}", held_to[0], held_to[1])?;
        if held_to.contains(&ANCHOR) {
            writeln!(
                f,
                "               (whoever can write here can write {ANCHOR}: compare with a page, or the ledger)"
            )?;
        }
        if *newer > 0 {
            writeln!(f, "newer          {newer} manifests came after the one that --head names")?;
        }
        if *set_aside > 0 {
            writeln!(f, "set aside      {set_aside} objects, which are no evidence")?;
        }
        write!(f, "gaps           {}", gaps.len())?;
        for gap in gaps {
            write!(f, "\n  {gap}")?;
        }
        Ok(())
    }
}

/// Checks a folder. A manifest that the caller names may be any of the chain: each names the one before it, so that it
/// vouches for all up to itself, and a page that named the last one is overtaken by the next collection.
pub(crate) fn verify(place: &Path, held: &Held) -> Result<Sound, Wrong> {
    let files = Files::under(place)?;
    let anchor = anchor(&files)?;
    let of_anchor = |of: fn(&Anchor) -> String| anchor.as_ref().map(of);
    let last = of_anchor(|anchor| anchor.head.sha256.clone());
    let key = held.key.clone().or_else(|| of_anchor(|anchor| anchor.fingerprint.clone()));
    let (Some(digest), Some(key)) = (held.head.clone().or(last), key) else {
        let problem = "is not there: give both --head and --key, which say what the evidence is held to, from the page, or \
                       pull the evidence again";
        return wrong(ANCHOR, problem);
    };
    let manifests = manifests(&files, &key)?;
    let newer = chained(&manifests, anchor.as_ref(), &digest)?;
    if let (None, Some(last), true) = (&held.head, manifests.last(), newer > 0) {
        return wrong(&last.key, format!("is not the last manifest: that has SHA-256 {digest}"));
    }
    let held_to =
        [(&held.head, "--head"), (&held.key, "--key")].map(|(given, flag)| given.as_ref().map_or(ANCHOR, |_| flag));
    let named = objects(&files, &manifests)?;
    files.nothing_but(&named)?;
    let entries = || manifests.iter().flat_map(|read| &read.manifest.entries);
    let gaps = manifests.iter().flat_map(|read| &read.manifest.gaps);
    let Some(last) = manifests.last() else { return wrong(MANIFEST, "there is none") };
    Ok(Sound {
        incident: last.manifest.incident_id.to_string(),
        manifests: manifests.len(),
        objects: entries().count(),
        bytes: entries().map(|entry| entry.bytes).sum(),
        head: last.chained(),
        fingerprint: last.manifest.signed_with.fingerprint.clone(),
        held_to,
        newer,
        gaps: gaps.map(|gap| format!("{}: {} ({})", shown(&gap.what), shown(&gap.source.api), gap.lack)).collect(),
        set_aside: manifests.iter().map(|read| read.manifest.set_aside.len()).sum(),
    })
}

/// The files of a download, by the keys that they had in the bucket.
struct Files {
    root: PathBuf,
    keys: BTreeSet<String>,
}

impl Files {
    fn under(root: &Path) -> Result<Self, Wrong> {
        let mut files = Self { root: root.to_owned(), keys: BTreeSet::new() };
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            let unreadable = |error: io::Error| Wrong {
                place: folder.display().to_string(),
                problem: format!("cannot be read: {error}"),
            };
            for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let kind = entry.file_type().map_err(unreadable)?;
                let path = entry.path();
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    let below = path.strip_prefix(root).unwrap_or(&path);
                    let names: Vec<String> = below.iter().map(|name| name.to_string_lossy().into_owned()).collect();
                    files.keys.insert(names.join("/"));
                } else {
                    return wrong(path.display().to_string(), "is neither a file nor a folder");
                }
            }
        }
        Ok(files)
    }

    fn path(&self, key: &str) -> PathBuf {
        key.split('/').fold(self.root.clone(), |path, name| path.join(name))
    }

    /// Whether the key was found: one of a file that lies elsewhere never is.
    fn has(&self, key: &str) -> Result<(), Wrong> {
        if self.keys.contains(key) { Ok(()) } else { wrong(key, "is missing") }
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, Wrong> {
        self.has(key)?;
        std::fs::read(self.path(key)).or_else(|error| wrong(key, format!("cannot be read: {error}")))
    }

    fn nothing_but(&self, named: &BTreeSet<String>) -> Result<(), Wrong> {
        match self.keys.iter().find(|key| key.as_str() != ANCHOR && !named.contains(*key)) {
            Some(key) => wrong(key, "is named by no manifest: it was not collected by Firebreak"),
            None => Ok(()),
        }
    }
}

fn anchor(files: &Files) -> Result<Option<Anchor>, Wrong> {
    if !files.keys.contains(ANCHOR) {
        return Ok(None);
    }
    let bytes = files.read(ANCHOR)?;
    serde_json::from_slice(&bytes).map(Some).or_else(|error| wrong(ANCHOR, format!("cannot be read: {error}")))
}

/// A manifest that is signed, and lies where it says.
struct Signed {
    key: String,
    prefix: String,
    sha256: String,
    manifest: Manifest,
}

impl Signed {
    fn chained(&self) -> Chained {
        Chained { key: self.key.clone(), sha256: self.sha256.clone() }
    }
}

/// All manifests, in order, each with a good signature of that key.
fn manifests(files: &Files, fingerprint: &str) -> Result<Vec<Signed>, Wrong> {
    let mut all: Vec<Signed> = Vec::new();
    // Of a run whose manifest has a later name, that is read first: it says what lies under the earlier ones.
    let mut keys: Vec<(&str, &str)> = files.keys.iter().filter_map(|key| key.rsplit_once('/')).collect();
    keys.retain(|(_, name)| is_manifest(name));
    keys.sort_by_key(|(prefix, name)| (*prefix, Reverse((name.len(), *name))));
    for (prefix, name) in keys {
        let (key, prefix) = (&format!("{prefix}/{name}"), prefix.to_owned());
        let set_aside = |last: &Signed| last.prefix == prefix && last.manifest.set_aside.iter().any(|a| a.key == *key);
        if all.last().is_some_and(set_aside) {
            continue;
        }
        let bytes = files.read(key)?;
        let manifest: Manifest = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => return wrong(key, format!("is no manifest: {error}")),
        };
        if manifest.schema != SCHEMA {
            let found = manifest.schema;
            return wrong(
                key,
                format!("is of schema {found}, and this is schema {SCHEMA}: use that version of firebreak"),
            );
        }
        signed(files, key, &prefix, &bytes, &manifest, fingerprint)?;
        let Manifest { account, incident_id, episode, run, .. } = &manifest;
        if prefix != format!("incidents/{account}/{incident_id}/{episode:06}/{run:06}") {
            return wrong(key, format!("is the manifest of run {run} in episode {episode} of {incident_id}"));
        }
        all.push(Signed { key: key.clone(), prefix, sha256: sha256_hex(&bytes), manifest });
    }
    if all.is_empty() { wrong(MANIFEST, "there is none in this folder") } else { Ok(all) }
}

fn signed(
    files: &Files,
    key: &str,
    prefix: &str,
    bytes: &[u8],
    manifest: &Manifest,
    fingerprint: &str,
) -> Result<(), Wrong> {
    let signature = files.read(&format!("{key}.sig"))?;
    let Ok(public) = PublicKey::from_hex(&manifest.signed_with.public_key) else {
        return wrong(key, "names no P-256 key that it was signed with");
    };
    if public.fingerprint() != fingerprint || manifest.signed_with.fingerprint != fingerprint {
        let found = public.fingerprint();
        return wrong(key, format!("is signed with another key: its fingerprint is {found}, not {fingerprint}"));
    }
    let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public.point()).verify(bytes, &signature);
    if verified.is_err() {
        return wrong(key, "does not fit its signature: one of them was changed");
    }
    let beside = format!("{prefix}/{PUBLIC_KEY}");
    let pem = String::from_utf8_lossy(&files.read(&beside)?).into_owned();
    if pem != public.to_pem(|der| base64::encode(der)) {
        return wrong(beside, "is not the key that the manifest names");
    }
    Ok(())
}

/// Each manifest names the one before it, none is missing in between, and one of them has that digest. Answers how many
/// come after it.
fn chained(manifests: &[Signed], anchor: Option<&Anchor>, head: &str) -> Result<usize, Wrong> {
    let mut before: Option<&Signed> = None;
    for read in manifests {
        let Manifest { incident_id, account, .. } = &read.manifest;
        if let Some(anchor) = anchor
            && (*incident_id != anchor.incident_id || *account != anchor.account)
        {
            return wrong(&read.key, format!("is of {incident_id}, not of {}", anchor.incident_id));
        }
        if before.is_some_and(|other| other.manifest.incident_id != *incident_id) {
            return wrong(&read.key, "is of another incident than the manifests before it");
        }
        match (&read.manifest.previous, before) {
            (None, None) => {}
            (Some(named), Some(there)) if *named == there.chained() => {}
            (Some(named), Some(there)) if named.key == there.key => {
                return wrong(&there.key, format!("is not the manifest that `{}` names: it was replaced", read.key));
            }
            (Some(named), _) => return wrong(&named.key, format!("is missing: `{}` comes after it", read.key)),
            (None, Some(_)) => return wrong(&read.key, "names no manifest before it, and there is one"),
        }
        before = Some(read);
    }
    match (manifests.iter().rev().position(|read| read.sha256 == head), before) {
        (Some(newer), _) => Ok(newer),
        (None, Some(last)) => {
            wrong(&last.key, format!("is not the last manifest, nor is any before it: that has SHA-256 {head}"))
        }
        (None, None) => wrong(MANIFEST, "there is none"),
    }
}

/// Every object is there, and as it was collected. Answers every key that a manifest accounts for.
fn objects(files: &Files, manifests: &[Signed]) -> Result<BTreeSet<String>, Wrong> {
    let mut named = BTreeSet::new();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for read in manifests {
        named.extend([read.key.clone(), format!("{}.sig", read.key), format!("{}/{PUBLIC_KEY}", read.prefix)]);
        for entry in &read.manifest.entries {
            let Some(below) = entry.key.strip_prefix(&format!("{}/", read.prefix)) else {
                return wrong(&read.key, format!("names `{}`, which is no object of its run", shown(&entry.key)));
            };
            if let Some(other) = seen.insert(&entry.key, &read.key) {
                return wrong(&entry.key, format!("is named twice, by `{other}`"));
            }
            if !below.starts_with(&format!("{}/", entry.collector)) {
                return wrong(&entry.key, format!("is no object of the collector `{}`", shown(&entry.collector)));
            }
            object(files, entry)?;
            named.insert(entry.key.clone());
        }
        for aside in &read.manifest.set_aside {
            beside(files, aside)?;
            named.insert(aside.key.clone());
        }
    }
    Ok(named)
}

fn object(files: &Files, entry: &Entry) -> Result<(), Wrong> {
    let key = &entry.key;
    files.has(key)?;
    let (stored, content) =
        unpack::both(&files.path(key)).or_else(|error| wrong(key, format!("cannot be read: {error}")))?;
    if stored.bytes != entry.bytes {
        return wrong(key, format!("has {} bytes, and was stored with {}", stored.bytes, entry.bytes));
    }
    if stored.sha256 != entry.sha256 {
        return wrong(key, format!("has SHA-256 {}, and was stored with {}", stored.sha256, entry.sha256));
    }
    let content = content.or_else(|error| wrong(key, format!("cannot be unpacked: {error}")))?;
    if (content.bytes, &content.sha256) != (entry.content_bytes, &entry.content_sha256) {
        return wrong(key, "holds something else than was read");
    }
    if content.lines != entry.lines {
        return wrong(key, format!("holds {} lines, and was stored with {}", content.lines, entry.lines));
    }
    Ok(())
}

fn beside(files: &Files, aside: &SetAside) -> Result<(), Wrong> {
    let key = &aside.key;
    files.has(key)?;
    let found = unpack::plain(&files.path(key)).or_else(|error| wrong(key, format!("cannot be read: {error}")))?;
    // A bucket of another account gives nothing: then nobody knew what was there.
    let same = |bytes, sha256: &Option<String>| bytes == found.bytes && sha256.as_ref() == Some(&found.sha256);
    if aside.bytes.is_none_or(|bytes| same(bytes, &aside.sha256)) {
        return Ok(());
    }
    wrong(key, "is not what was set aside there")
}
