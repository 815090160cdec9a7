//! Evidence on the investigator's machine: `pull` brings it there with the rights of whoever asks, `verify` checks it
//! there and asks nobody.

mod pull;
#[cfg(test)]
mod tests;
mod unpack;
mod verify;

use std::path::PathBuf;

use aws_config::SdkConfig;
use clap::{Args, Subcommand};
use firebreak_model::evidence::Chained;
use firebreak_model::ids::{AccountId, IncidentId};
use serde::{Deserialize, Serialize};

pub(crate) use verify::Wrong;

use crate::CliError;

/// The file that `pull` leaves beside the evidence.
const ANCHOR: &str = "anchor.json";

/// What evidence is held to that lies not in the evidence: the ledger has it, and the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Anchor {
    /// The incident.
    pub(crate) incident_id: IncidentId,
    /// The account.
    pub(crate) account: AccountId,
    /// The last manifest.
    pub(crate) head: Chained,
    /// SHA-256 of the public key that manifests are signed with.
    pub(crate) fingerprint: String,
}

/// What is done with evidence.
#[derive(Debug, Subcommand)]
pub(crate) enum Evidence {
    /// Download an incident's evidence; goes on where it stopped
    Pull {
        /// The incident, as the page names it
        incident_id: IncidentId,
        /// Where to; by default a folder of the incident's name, here
        #[arg(long)]
        into: Option<PathBuf>,
        /// The bucket, where it is read in a security account: neither the stack nor its ledger is asked
        #[arg(long, requires = "account")]
        bucket: Option<String>,
        /// The account that the incident is of
        #[arg(long, requires = "bucket")]
        account: Option<AccountId>,
    },
    /// Check a download: every digest, every signature, the chain of manifests; asks AWS nothing
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The folder, or the incident whose folder lies here
    place: PathBuf,
    /// The SHA-256 of a manifest, as a page has it: what came after it is told; by default the last one's, as the ledger
    /// had it when it was pulled
    #[arg(long, value_name = "SHA256")]
    head: Option<String>,
    /// The fingerprint of the signing key, as the page has it; by default as the ledger had it when it was pulled
    #[arg(long, value_name = "SHA256")]
    key: Option<String>,
}

impl Evidence {
    /// Does it, and says what came of it.
    pub(crate) async fn run(self, stack: &str, sdk: impl AsyncFnOnce() -> SdkConfig) -> Result<String, CliError> {
        match self {
            Self::Pull { incident_id, into, bucket, account } => {
                let into = into.unwrap_or_else(|| PathBuf::from(incident_id.as_str()));
                match bucket.zip(account) {
                    Some((bucket, account)) => {
                        pull::pull_from(&sdk().await, (&bucket, &account), &incident_id, &into).await
                    }
                    None => pull::pull(&sdk().await, stack, &incident_id, &into).await,
                }
            }
            Self::Verify(verify) => {
                if !verify.place.is_dir() {
                    let place = verify.place.display();
                    return Err(CliError::Pull(format!(
                        "`{place}` is no folder: pull the evidence first, or name its folder"
                    )));
                }
                let held_to = verify::Held { head: verify.head, key: verify.key };
                let sound = verify::verify(&verify.place, &held_to).map_err(CliError::Evidence)?;
                Ok(sound.to_string())
            }
        }
    }
}
