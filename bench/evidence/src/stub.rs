//! A stub of S3 on the loopback: takes parts, throws them away, and says that all is well.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Starts it on a thread of its own. Answers its address.
pub(crate) fn start() -> Result<String> {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("stub".to_owned()).spawn(move || runtime.block_on(serve(listener)))?;
    Ok(format!("http://{address}"))
}

async fn serve(listener: std::net::TcpListener) -> Result<()> {
    let listener = TcpListener::from_std(listener).context("the stub cannot listen")?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, query) = (request.method().clone(), request.uri().query().unwrap_or_default().to_owned());
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let xml = match (method, query.contains("uploadId=")) {
        (Method::POST, false) => {
            "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        }
        (Method::POST, true) => "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>",
        _ => "",
    };
    let mut response = Response::new(Full::new(Bytes::from_static(xml.as_bytes())));
    response.headers_mut().insert("etag", hyper::header::HeaderValue::from_static("\"e\""));
    Ok(response)
}
