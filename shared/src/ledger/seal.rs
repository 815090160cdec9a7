//! The seal of what is acted on: who may seal, and what is made of a record that carries none or a wrong one.
//!
//! KMS gives the key once in a process's life, and never on the way to a deny: see
//! `docs/decisions/0053-records-are-sealed.md`.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::MacAlgorithmSpec;
use firebreak_model::ledger::Record;
use firebreak_model::seal::{self, ATTRIBUTE, KEY_PURPOSE, Key, Standing};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{Item, LedgerError, text};
use crate::action::{Permission, Resource};

/// What sealing and telling a seal needs.
pub const PERMISSIONS: &[Permission] = &[Permission { action: "kms:GenerateMac", on: Resource::SealKey }];

/// Seals records, and tells whether a record is as it was sealed.
#[derive(Debug, Clone)]
pub struct Seal(Option<Arc<Source>>);

#[derive(Debug)]
struct Source {
    kms: Client,
    key_arn: String,
    key: OnceCell<Key>,
}

impl Seal {
    /// With the KMS key of that ARN.
    pub fn new(config: &SdkConfig, key_arn: String) -> Self {
        Self(Some(Arc::new(Source { kms: crate::clients::kms(config), key_arn, key: OnceCell::new() })))
    }

    /// Of one who shows records and never acts on one: tells nothing, and what it writes nobody acts on.
    pub fn none() -> Self {
        Self(None)
    }

    /// The key, where KMS has given it before.
    fn at_hand(&self) -> Option<&Key> {
        self.0.as_ref().and_then(|source| source.key.get())
    }

    /// Whether an item can be sealed at once. One who has no key owes none.
    pub(super) fn is_at_hand(&self) -> bool {
        self.0.is_none() || self.at_hand().is_some()
    }

    /// The key; `None` for one who has none.
    async fn key(&self, table: &str) -> Result<Option<&Key>, LedgerError> {
        let Some(source) = &self.0 else { return Ok(None) };
        // Boxed: it happens once, and every future that reads or writes a record would hold its room.
        source.key.get_or_try_init(|| Box::pin(source.derive(table))).await.map(Some)
    }

    pub(super) async fn fetch(&self, table: &str) -> Result<(), LedgerError> {
        self.key(table).await.map(|_| ())
    }

    /// Seals an item that somebody may act on.
    pub(super) async fn put_on(&self, table: &str, item: &mut Item) -> Result<(), LedgerError> {
        self.key(table).await?.map_or(Ok(()), |key| seal(key, item))
    }

    /// Seals an item if the key is at hand: a claim waits for nobody.
    pub(super) fn put_on_at_once(&self, item: &mut Item) -> Result<(), LedgerError> {
        self.at_hand().map_or(Ok(()), |key| seal(key, item))
    }

    /// Whether an item is as it was sealed. For one who has no key, everything is.
    pub(super) async fn standing(&self, table: &str, item: &Item) -> Result<Standing, LedgerError> {
        // That there is no seal can be seen without the key.
        if self.0.is_some() && !item.contains_key(ATTRIBUTE) {
            return Ok(Standing::Unsealed);
        }
        let Some(key) = self.key(table).await? else { return Ok(Standing::Sealed) };
        Ok(key.standing(&shown(item)?))
    }
}

impl Source {
    /// One call of KMS: the HMAC of a fixed text is a key that nobody has who may not make that call.
    async fn derive(&self, table: &str) -> Result<Key, LedgerError> {
        let made = self
            .kms
            .generate_mac()
            .key_id(&self.key_arn)
            .mac_algorithm(MacAlgorithmSpec::HmacSha256)
            .message(Blob::new(format!("{KEY_PURPOSE} {table}")))
            .send()
            .await
            .map_err(|error| LedgerError::NoSeal(Box::new(error)))?;
        let mac = made.mac.unwrap_or_else(|| Blob::new(Vec::new()));
        Key::new(mac.as_ref()).ok_or_else(|| LedgerError::NoSeal("the answer holds no key".into()))
    }
}

/// Whether records of this kind are acted on, so that they carry a seal.
pub(super) fn is_due(record: &Record) -> bool {
    match record {
        Record::Incident(_)
        | Record::Step(_)
        | Record::Revocation(_)
        | Record::Chain(_)
        | Record::Deployed(_)
        | Record::Evidence(_)
        | Record::Piece(_)
        | Record::Aside(_) => true,
        // What a watch, a tampering and the parts say is looked for in AWS before anything is done.
        Record::Watch(_)
        | Record::Tamper(_)
        | Record::Parts(_)
        | Record::Finding(_)
        | Record::Page(_)
        | Record::Paging(_)
        | Record::Pause(_)
        | Record::Breaker {}
        | Record::Forgery(_)
        | Record::Inventory(_) => false,
    }
}

fn seal(key: &Key, item: &mut Item) -> Result<(), LedgerError> {
    item.remove(ATTRIBUTE);
    let seal = key.seal(&shown(item)?);
    item.insert(ATTRIBUTE.to_owned(), text(seal));
    Ok(())
}

/// The item as DynamoDB's JSON.
fn shown(item: &Item) -> Result<Value, LedgerError> {
    let item: serde_dynamo::Item = item.clone().into();
    serde_json::to_value(item).map_err(|error| LedgerError::Unsealable(Box::new(error)))
}

/// Tells one state of an item from another.
pub(super) fn digest(item: &Item) -> Result<String, LedgerError> {
    Ok(seal::digest(&shown(item)?))
}
