//! Code packages, as they are: the code of a version, the versions of layers. What does not have the digest that AWS says it
//! has is kept all the same, and is a gap that says so.

use aws_sdk_lambda::Client;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_types::base64;
use firebreak_model::evidence::{ApiCall, Cursor, Found, Gap, Lack, Piece, Source};
use firebreak_model::ids::{FunctionArn, Region, hex};
use serde_json::json;

use super::answered::AsAnswered;
use super::fetch::{FetchError, fetch};
use super::{call, qualifier};
use crate::action::ActionError;
use crate::clock;
use crate::evidence::sink::Stored;
use crate::evidence::store::StoreError;
use crate::evidence::{Form, Slot, UnitError, Work, entry, gap};

/// So often a package is fetched at most in an invocation.
const MOST_FETCHES: u32 = 3;

/// A package.
#[derive(Debug)]
pub(super) struct Package {
    what: String,
    source: ApiCall,
    of: Of,
}

#[derive(Debug)]
enum Of {
    Version { name: String, version: String },
    Layer(String),
}

/// What AWS says of a package.
struct Offered {
    address: String,
    /// As hex.
    sha256: Option<String>,
    connector: Option<SharedHttpConnector>,
}

/// What came of fetching.
enum Fetched {
    Kept(Stored, Option<Gap>),
    Missing(Gap),
    NotNow,
}

impl Package {
    /// The code of a version, which others have too.
    pub(super) fn code(function: &FunctionArn, version: String, same: &[String]) -> Self {
        let versions: Vec<&str> = std::iter::once(&version).chain(same).map(String::as_str).collect();
        Self {
            what: format!("code of {function}: {}", versions.join(", ")),
            source: call("lambda:GetFunction", function, qualifier(&version).as_deref()),
            of: Of::Version { name: function.name().to_owned(), version },
        }
    }

    /// A version of a layer.
    pub(super) fn layer(region: &Region, arn: String) -> Self {
        Self {
            what: arn.clone(),
            source: ApiCall::new("lambda:GetLayerVersion", json!({"region": region, "Arn": arn})),
            of: Of::Layer(arn),
        }
    }

    /// Fetches it into the next object of a unit; `None` where AWS does not give it for now.
    pub(super) async fn keep(
        &self,
        client: &Client,
        endpoint: Option<&str>,
        work: Work<'_>,
        mut slot: Slot<'_>,
        next: Option<Cursor>,
    ) -> Result<Option<Piece>, UnitError> {
        loop {
            match self.fetched(client, endpoint, work, slot).await {
                Ok(Fetched::Kept(stored, gap)) => {
                    let at = clock::now();
                    let sources = vec![Source { call: self.source.clone(), collected_at: at }];
                    let entry = Some(entry(slot.unit, &self.what, stored, sources, at));
                    let gaps = gap.into_iter().collect();
                    return work.keep(slot, Found { entry, gaps }, next).await.map(Some);
                }
                Ok(Fetched::Missing(gap)) => {
                    return work.keep(slot, Found { entry: None, gaps: vec![gap] }, next).await.map(Some);
                }
                Ok(Fetched::NotNow) => return Ok(None),
                Err(StoreError::Taken { key }) => {
                    if let Some(first) = work.taken(slot, key).await? {
                        return Ok(Some(first));
                    }
                    slot.tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn fetched(
        &self,
        client: &Client,
        endpoint: Option<&str>,
        work: Work<'_>,
        slot: Slot<'_>,
    ) -> Result<Fetched, StoreError> {
        let mut fetches = 1;
        loop {
            let offered = match self.offered(client).await {
                Ok(offered) => offered,
                Err(error) if error.is_transient() && work.is_patient() => return Ok(Fetched::NotNow),
                Err(error) => return Ok(Fetched::Missing(gap(&self.what, self.source.clone(), &error))),
            };
            let mut sink = work.sink_of(slot, Form::Package)?;
            let came = match &offered.connector {
                Some(connector) => fetch(connector, &offered.address, endpoint, &mut sink).await,
                None => Err(FetchError::Foreign),
            };
            let last = fetches == MOST_FETCHES;
            fetches += 1;
            match came {
                Ok(()) => {
                    let differs = offered.sha256.as_ref().is_some_and(|sha256| *sha256 != sink.content_sha256());
                    if differs && !last {
                        continue;
                    }
                    let gap = differs.then(|| {
                        let said = offered.sha256.as_deref().unwrap_or_default();
                        self.gap(
                            Lack::Differs,
                            format!("AWS says that its SHA-256 is {said}: what came is kept, and is not that"),
                        )
                    });
                    return Ok(Fetched::Kept(sink.finish().await?, gap));
                }
                Err(FetchError::Store(error)) => return Err(error),
                Err(error) if error.is_transient() && !last => {}
                Err(error) if error.is_transient() && work.is_patient() => return Ok(Fetched::NotNow),
                Err(error) => return Ok(Fetched::Missing(self.gap(error.lack(), error.to_string()))),
            }
        }
    }

    fn gap(&self, lack: Lack, reason: String) -> Gap {
        Gap { what: self.what.clone(), source: self.source.clone(), lack, reason }
    }

    /// Asks AWS where the package lies now.
    async fn offered(&self, client: &Client) -> Result<Offered, ActionError> {
        let answered = AsAnswered::default();
        let (address, sha256) = match &self.of {
            Of::Version { name, version } => {
                let asked = client.get_function().function_name(name).set_qualifier(qualifier(version));
                let answer = asked.customize().interceptor(answered.clone()).send().await;
                let answer = answer.map_err(|e| ActionError::of("lambda:GetFunction", name, e))?;
                (answer.code.and_then(|code| code.location), answer.configuration.and_then(|c| c.code_sha256))
            }
            Of::Layer(arn) => {
                let asked = client.get_layer_version_by_arn().arn(arn);
                let answer = asked.customize().interceptor(answered.clone()).send().await;
                let answer = answer.map_err(|e| ActionError::of("lambda:GetLayerVersion", arn, e))?;
                let content = answer.content;
                (content.as_ref().and_then(|c| c.location.clone()), content.and_then(|c| c.code_sha256))
            }
        };
        let sha256 = sha256.and_then(|text| base64::decode(text).ok()).map(|digest| hex(&digest));
        Ok(Offered { address: address.unwrap_or_default(), sha256, connector: answered.connector() })
    }
}
