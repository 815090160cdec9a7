//! Fetches what AWS gives by address: code packages.
//!
//! An address in an answer is foreign text. It is asked where it is one of S3's, over TLS, or one of the endpoint that is
//! set by hand; no redirect is followed, nothing of ours is sent along, and no more is held than a part of an object.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::byte_stream::ByteStream;
use firebreak_model::evidence::Lack;

use crate::evidence::sink::Sink;
use crate::evidence::store::StoreError;

/// How long the next piece of a package may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// No package is longer: AWS takes 250 MB unpacked.
const MOST_BYTES: u64 = 512 << 20;

/// Why nothing was fetched, or not all.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// It is no address that is asked.
    #[error("the address that AWS gave is none of S3's: it was not asked")]
    Foreign,
    /// Whoever is there does not give it.
    #[error("its store answered with status {0}")]
    Status(u16),
    /// The answer ended early, or none came.
    #[error("it did not come whole: {0}")]
    Broken(String),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FetchError {
    /// Whether another try may go better.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Foreign => false,
            // An address lives for ten minutes: the next try has another one.
            Self::Status(status) => *status == 403 || *status == 429 || *status >= 500,
            Self::Broken(_) => true,
            Self::Store(error) => error.is_transient(),
        }
    }

    pub(super) fn lack(&self) -> Lack {
        match self {
            Self::Status(403) => Lack::Denied,
            Self::Status(404) => Lack::Gone,
            Self::Status(429) => Lack::Throttled,
            Self::Status(status) if *status < 500 => Lack::Rejected,
            Self::Status(_) | Self::Broken(_) => Lack::NoAnswer,
            Self::Foreign | Self::Store(_) => Lack::Rejected,
        }
    }
}

/// Whether an address is one of S3's, or of the endpoint that is set by hand.
fn may_be_asked(address: &str, endpoint: Option<&str>) -> bool {
    let of = |endpoint: &str| address.strip_prefix(endpoint.trim_end_matches('/')).is_some_and(|p| p.starts_with('/'));
    if endpoint.is_some_and(of) {
        return true;
    }
    let Some(rest) = address.strip_prefix("https://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    plain
        && (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"))
        && host.split('.').any(|label| label == "s3" || label.starts_with("s3-"))
}

/// Fetches a package into an object that is not ended yet.
pub(super) async fn fetch(
    connector: &SharedHttpConnector,
    address: &str,
    endpoint: Option<&str>,
    sink: &mut Sink<'_>,
) -> Result<(), FetchError> {
    if !may_be_asked(address, endpoint) {
        return Err(FetchError::Foreign);
    }
    let request = HttpRequest::get(address).map_err(|_| FetchError::Foreign)?;
    let answer = connector.call(request).await.map_err(|error| FetchError::Broken(error.to_string()))?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(FetchError::Status(status));
    }
    let announced = answer.headers().get("content-length").and_then(|length| length.parse::<u64>().ok());
    let mut body = ByteStream::new(answer.into_body());
    let mut came = 0_u64;
    loop {
        let next = tokio::time::timeout(PATIENCE, body.next()).await;
        let next = next.map_err(|_| FetchError::Broken("nothing came any more".to_owned()))?;
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(|error| FetchError::Broken(error.to_string()))?;
        came += chunk.len() as u64;
        if came > MOST_BYTES {
            return Err(FetchError::Broken("it is longer than any package".to_owned()));
        }
        sink.write(&chunk).await?;
    }
    match announced {
        Some(length) if length != came => Err(FetchError::Broken(format!("{came} bytes came of {length}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_where_it_is_one_of_s3_over_tls() {
        for address in [
            "https://awslambda-eu-west-1-tasks.s3.eu-west-1.amazonaws.com/snapshots/1/x?versionId=2&X-Amz-Signature=3",
            "https://prod-04-2014-layers.s3.amazonaws.com/snapshots/1/x",
            "https://awslambda-cn-north-1-tasks.s3.cn-north-1.amazonaws.com.cn/snapshots/1/x",
            "https://s3-us-gov-west-1.amazonaws.com/x",
        ] {
            assert!(may_be_asked(address, None), "{address}");
        }
        for address in [
            "http://awslambda-eu-west-1-tasks.s3.eu-west-1.amazonaws.com/x",
            "https://evil.example/x.s3.amazonaws.com",
            "https://s3.amazonaws.com.evil.example/x",
            "https://s3.amazonaws.com@evil.example/x",
            "https://evil.example#.s3.amazonaws.com",
            "https://evil.example\\.s3.amazonaws.com/x",
            "https://x.s3.amazonaws.com:8443/x",
            "https://x.execute-api.eu-west-1.amazonaws.com/x",
            "https://notamazonaws.com/s3",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "",
        ] {
            assert!(!may_be_asked(address, None), "{address}");
        }
    }

    #[test]
    fn an_endpoint_that_is_set_by_hand_is_asked_as_it_is() {
        let endpoint = Some("http://127.0.0.1:4566");
        assert!(may_be_asked("http://127.0.0.1:4566/code/x", endpoint));
        for address in
            ["http://127.0.0.1:45667/x", "http://127.0.0.1:4566@evil.example/", "http://127.0.0.1:4566", "/x"]
        {
            assert!(!may_be_asked(address, endpoint), "{address}");
        }
    }
}
