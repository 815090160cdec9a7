//! The end of a run: its manifest, made from what is on record, stored, read back and signed.
//!
//! Every step is on record before the next one builds on it, so that whoever goes on with it ends with the same manifest
//! and the same signature.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use aws_smithy_types::base64;
use firebreak_model::SCHEMA;
use firebreak_model::evidence::{
    Aside, Chained, EvidenceRun, Manifest, PUBLIC_KEY, Piece, PublicKey, Sealed, SetAside, Signer, manifest_name, told,
};
use firebreak_model::ids::{hex, unhex};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::store::{Store, StoreError};
use super::{MOST_TRIES, Settings};
use crate::action::ActionError;
use crate::clock;
use crate::ledger::{Ledger, LedgerError, Pieces};

/// Why a run has no end yet.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signature.
    #[error("the manifest cannot be signed")]
    Sign(#[from] ActionError),
    /// The key is none that manifests are signed with.
    #[error("the key `{0}` is no P-256 key: manifests are signed with one of ECC_NIST_P256")]
    Key(String),
    /// What is on record of an object cannot be read.
    #[error("what the ledger holds of the run cannot be read")]
    Unreadable(#[from] serde_json::Error),
}

impl SealError {
    /// Whether another try may go better.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Ledger(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Sign(error) => error.is_transient(),
            Self::Key(_) | Self::Unreadable(_) => false,
        }
    }
}

/// What sealing needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealing<'a> {
    pub(super) store: &'a Store,
    pub(super) ledger: &'a Ledger,
    pub(super) kms: &'a aws_sdk_kms::Client,
    pub(super) settings: &'a Settings,
}

impl Sealing<'_> {
    /// Ends a run all of whose units are done. Answers the run with its end.
    pub(super) async fn seal(&self, run: EvidenceRun, pieces: Pieces) -> Result<EvidenceRun, SealError> {
        let (run, signer) = self.signer(run).await?;
        let prefix = run.prefix();
        let run = if run.sealed.is_some() { run } else { self.sign(run, &signer, pieces, &prefix).await? };
        let Some(sealed) = &run.sealed else { return Ok(run) };
        let signature = unhex(&sealed.signature).unwrap_or_default();
        // Beside the manifest, under whichever name that has.
        let beside = format!("{}.sig", sealed.manifest.key);
        self.store.put_the_one(&beside, "application/octet-stream", signature).await?;
        let key = PublicKey::from_hex(&signer.public_key).map_err(|_| SealError::Key(signer.key_arn.clone()))?;
        let pem = key.to_pem(|bytes| base64::encode(bytes)).into_bytes();
        self.store.put_the_one(&format!("{prefix}/{PUBLIC_KEY}"), "application/x-pem-file", pem).await?;
        Ok(run)
    }

    /// Who signs: put on record before anything names it.
    async fn signer(&self, mut run: EvidenceRun) -> Result<(EvidenceRun, Signer), SealError> {
        if let Some(signer) = run.signer.clone() {
            return Ok((run, signer));
        }
        let key_arn = self.settings.signing_key_arn.clone();
        let answer = self.kms.get_public_key().key_id(&key_arn).send().await;
        let answer = answer.map_err(|e| ActionError::of("kms:GetPublicKey", &key_arn, e))?;
        let der = answer.public_key.map(Blob::into_inner).unwrap_or_default();
        let key = PublicKey::from_der(&der).map_err(|_| SealError::Key(key_arn.clone()))?;
        let signer = Signer { key_arn, public_key: key.to_hex(), fingerprint: key.fingerprint() };
        run.signer = Some(signer.clone());
        if self.ledger.name_signer(&run).await? {
            return Ok((run, signer));
        }
        let now = self.ledger.run(&run).await?.unwrap_or(run);
        let first = now.signer.clone().unwrap_or(signer);
        Ok((now, first))
    }

    async fn sign(
        &self,
        mut run: EvidenceRun,
        signer: &Signer,
        pieces: Pieces,
        prefix: &str,
    ) -> Result<EvidenceRun, SealError> {
        let mut asides = pieces.asides;
        let mut taken = 0;
        let (manifest, chained, digest) = loop {
            let manifest = self.manifest(&run, signer, &pieces.pieces, &asides).await?;
            let body = manifest.to_bytes()?;
            let digest = Sha256::digest(&body);
            let chained = Chained { key: format!("{prefix}/{}", manifest_name(taken)), sha256: hex(&digest) };
            match self.store.put(&chained.key, "application/json", body).await {
                Ok(()) => break (manifest, chained, digest),
                // Put there by a try that found other records, or by someone else.
                Err(StoreError::Taken { key }) if taken + 1 < MOST_TRIES => {
                    warn!("`{key}` holds something else: it is set aside");
                    let EvidenceRun { incident_id, episode, run: number, .. } = &run;
                    let incident_id = incident_id.clone();
                    let aside = Aside { schema: SCHEMA, incident_id, episode: *episode, run: *number, key };
                    self.ledger.set_aside(&aside).await?;
                    asides = self.ledger.pieces(&run).await?.asides;
                    taken += 1;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let locked_until = self.store.verify(&chained.key, &chained.sha256).await?;

        let signing = self
            .kms
            .sign()
            .key_id(&signer.key_arn)
            .message(Blob::new(digest.to_vec()))
            .message_type(MessageType::Digest)
            .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256);
        let answer = signing.send().await.map_err(|e| ActionError::of("kms:Sign", &signer.key_arn, e))?;
        let signature = hex(&answer.signature.map(Blob::into_inner).unwrap_or_default());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        run.sealed = Some(Sealed {
            manifest: chained,
            signature,
            objects: count(manifest.entries.len()),
            gaps: count(manifest.gaps.len()),
            read_back: self.store.gives(),
            locked_until,
            missing: told(&manifest.gaps),
            at: clock::now(),
        });
        if !self.ledger.keep_run(&run).await? {
            // Another invocation was first: its signature stands.
            run = self.ledger.run(&run).await?.unwrap_or(run);
        }
        Ok(run)
    }

    async fn manifest(
        &self,
        run: &EvidenceRun,
        signer: &Signer,
        pieces: &[Piece],
        asides: &[Aside],
    ) -> Result<Manifest, SealError> {
        let found = pieces.iter().map(Piece::read).collect::<Result<Vec<_>, _>>()?;
        let named: Vec<&str> = found.iter().filter_map(|f| f.entry.as_ref()).map(|entry| entry.key.as_str()).collect();
        let mut set_aside = Vec::new();
        for aside in asides.iter().filter(|aside| !named.contains(&aside.key.as_str())) {
            let key = aside.key.clone();
            if !self.store.gives() {
                set_aside.push(SetAside { key, bytes: None, sha256: None });
            } else if let Some((bytes, sha256)) = self.store.digest(&key).await? {
                set_aside.push(SetAside { key, bytes: Some(bytes), sha256: Some(sha256) });
            }
        }
        Ok(Manifest::of(run, signer, found, set_aside))
    }
}
