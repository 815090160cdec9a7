//! Lists that AWS gives in pages, read to their end: all of it, or an error.
//!
//! The SDK takes a page that points at itself for the last one, and follows two that point at each other for ever. Either way
//! a door that is still open may stand on a page that was never read.

use std::collections::BTreeSet;

use aws_smithy_async::future::pagination_stream::PaginationStream;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::action::ActionError;

/// The most pages of one list: far more than any account has, and far fewer than it takes to run out of time unseen.
const MOST: usize = 1000;

/// The tokens of one list.
#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeSet<String>);

impl Tokens {
    /// The token to go on with; none where this was the last page.
    pub(crate) fn next(
        &mut self,
        token: Option<&str>,
        call: &'static str,
        target: &str,
    ) -> Result<Option<String>, ActionError> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
        if self.0.insert(token.to_owned()) && self.0.len() < MOST {
            return Ok(Some(token.to_owned()));
        }
        let problem = format!("`{call}` gives the same page again, or no end: what it lists was not wholly read");
        Err(ActionError::Unreadable { target: target.to_owned(), problem })
    }
}

/// A page, and where the next one is.
pub(crate) trait Paged {
    fn token(&self) -> Option<&str>;
}

macro_rules! paged {
    ($($service:ident::$operation:ident::$output:ident: $token:ident),* $(,)?) => {
        $(impl Paged for $service::operation::$operation::$output {
            fn token(&self) -> Option<&str> {
                self.$token()
            }
        })*
    };
}

paged!(
    aws_sdk_iam::list_access_keys::ListAccessKeysOutput: marker,
    aws_sdk_iam::list_attached_role_policies::ListAttachedRolePoliciesOutput: marker,
    aws_sdk_iam::list_role_policies::ListRolePoliciesOutput: marker,
    aws_sdk_iam::list_attached_user_policies::ListAttachedUserPoliciesOutput: marker,
    aws_sdk_lambda::list_aliases::ListAliasesOutput: next_marker,
    aws_sdk_lambda::list_event_source_mappings::ListEventSourceMappingsOutput: next_marker,
    aws_sdk_lambda::list_function_event_invoke_configs::ListFunctionEventInvokeConfigsOutput: next_marker,
    aws_sdk_lambda::list_function_url_configs::ListFunctionUrlConfigsOutput: next_marker,
    aws_sdk_lambda::list_provisioned_concurrency_configs::ListProvisionedConcurrencyConfigsOutput: next_marker,
    aws_sdk_lambda::list_versions_by_function::ListVersionsByFunctionOutput: next_marker,
);

/// All pages of a list.
pub(crate) async fn read<P, E>(
    mut pages: PaginationStream<Result<P, SdkError<E, HttpResponse>>>,
    call: &'static str,
    target: &str,
) -> Result<Vec<P>, ActionError>
where
    P: Paged,
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let mut tokens = Tokens::default();
    let mut all = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| ActionError::of(call, target, error))?;
        tokens.next(page.token(), call, target)?;
        all.push(page);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::testing::{Answer, Wire, ok};

    async fn versions(answers: Vec<Answer>) -> (Result<usize, String>, usize) {
        let wire = Wire::answering(answers);
        let list = aws_sdk_lambda::Client::new(&wire.config()).list_versions_by_function().function_name("orders");
        let read = read(list.into_paginator().send(), "lambda:ListVersions", "orders").await;
        let count = read.map(|pages| pages.iter().map(|page| page.versions().len()).sum());
        (count.map_err(|error| error.to_string()), wire.requests().len())
    }

    fn page(versions: &[&str], next: Option<&str>) -> Answer {
        let versions: Vec<_> = versions.iter().map(|version| json!({"Version": version})).collect();
        ok(json!({"Versions": versions, "NextMarker": next}).to_string())
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end_or_not_believed() {
        let (all, calls) = versions(vec![page(&["1"], Some("a")), page(&[], Some("b")), page(&["2", "3"], None)]).await;
        assert_eq!((all.unwrap(), calls), (3, 3), "an empty page is not the last");
        assert_eq!(versions(vec![page(&["1"], Some(""))]).await.0.unwrap(), 1, "an empty token ends the list");
        assert_eq!(versions(vec![ok("{}")]).await.0.unwrap(), 0, "a list that is missing is empty");
        for circle in [
            vec![page(&["1"], Some("a")), page(&["1"], Some("a"))],
            vec![page(&["1"], Some("a")), page(&[], Some("b")), page(&[], Some("a"))],
        ] {
            let wanted = circle.len();
            let (all, calls) = versions(circle).await;
            assert!(all.unwrap_err().contains("not wholly read"));
            assert_eq!(calls, wanted, "it does not go round");
        }
    }

    #[test]
    fn a_list_without_end_ends() {
        let mut tokens = Tokens::default();
        let pages = (0..).take_while(|n| tokens.next(Some(&n.to_string()), "lambda:ListVersions", "orders").is_ok());
        assert_eq!(pages.count(), MOST - 1);
    }
}
