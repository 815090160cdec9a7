//! What Lambda answered, as it came, whatever it adds to an answer later; and the connector that the answer came by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{HttpClient as _, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use serde_json::{Map, Value};

/// How long a connection to where a package lies may take to be there, and its first byte to come.
const CONNECT: Duration = Duration::from_secs(2);
const FIRST_BYTE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Seen {
    body: Value,
    connector: Option<SharedHttpConnector>,
}

/// Keeps the body of an answer as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct AsAnswered(Arc<Mutex<Seen>>);

impl Intercept for AsAnswered {
    fn name(&self) -> &'static str {
        "AsAnswered"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default();
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).read_timeout(FIRST_BYTE).build();
        let connector = components.http_client().map(|client| client.http_connector(&settings, components));
        *self.seen() = Seen { body: serde_json::from_slice(body).unwrap_or_default(), connector };
        Ok(())
    }
}

impl AsAnswered {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Value {
        std::mem::take(&mut self.seen().body)
    }

    /// The connector of the client whose call it was: what it gives is fetched by the same.
    pub(super) fn connector(&self) -> Option<SharedHttpConnector> {
        self.seen().connector.clone()
    }
}

/// Sends a call and answers what came back, beside the body as it came.
macro_rules! sent {
    ($call:expr, $name:literal, $of:expr) => {{
        let answer = $crate::evidence::function::answered::AsAnswered::default();
        let result = $call.customize().interceptor(answer.clone()).send().await;
        result.map(|output| (output, answer.take())).map_err(|error| $crate::action::ActionError::of($name, $of, error))
    }};
}

/// All pages of a list, as one answer.
macro_rules! listed {
    ($call:expr, $name:literal, $of:expr, $list:expr) => {{
        let mut all = Vec::new();
        let mut marker = None;
        let mut tokens = $crate::paging::Tokens::default();
        loop {
            let page = $crate::evidence::function::answered::sent!($call.set_marker(marker), $name, $of);
            let (page, mut answer) = match page {
                Ok(page) => page,
                Err(error) => break Err(error),
            };
            $crate::evidence::function::answered::gather(&mut all, &mut answer, $list);
            marker = match tokens.next(page.next_marker(), $name, $of) {
                Ok(None) => break Ok($crate::evidence::function::answered::list($list, all)),
                Ok(next) => next,
                Err(error) => break Err(error),
            };
        }
    }};
}

pub(super) use {listed, sent};

/// Adds the list `name` of a page to what earlier pages held.
pub(super) fn gather(all: &mut Vec<Value>, page: &mut Value, name: &str) {
    if let Some(items) = page.get_mut(name).and_then(Value::as_array_mut) {
        all.append(items);
    }
}

pub(super) fn list(name: &str, items: Vec<Value>) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), Value::Array(items))]))
}
