//! HTTP client of the sign-in provider: verified certificates, no redirects, and every wait and size bounded.
//!
//! The provider is no upstream: it is asked a few times per sign-in, so that each request has a connection of its own.

use super::ProviderError;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::Semaphore;

/// pingora's own pool stays empty.
const NO_POOL: usize = 1;
/// Time for a connection, its handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a request with all of its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// Largest response head and body. Key sets of large providers have a few KiB.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_BODY_BYTES: usize = 512 * 1024;
/// Requests at the same time; further ones are refused.
const MAX_REQUESTS: usize = 32;
const USER_AGENT_VALUE: &str = concat!("knockx/", env!("CARGO_PKG_VERSION"));

/// HTTP client of the provider.
pub(super) struct Client {
    connector: TransportConnector,
    requests: Semaphore,
}

/// The address of a document or an endpoint of the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    /// Host and port, as in the address.
    authority: String,
    /// Path and query.
    target: String,
}

/// A response that has been read.
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Endpoint {
    /// The endpoint at this address. `https` is required, except where the issuer itself is on this machine.
    pub fn parse(address: &str, may_be_plain: bool) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" if may_be_plain => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || address.contains('#') {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let authority = authority.as_str().to_owned();
        (!host.is_empty()).then_some(Self { tls, host, port, authority, target })
    }

    /// The endpoint as an address.
    pub fn address(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.target)
    }
}

impl Client {
    /// A client that trusts the authorities in `ca_file`, or those of the system. Connects to nothing.
    pub fn new(ca_file: Option<String>) -> Self {
        let mut options = ConnectorOptions::new(NO_POOL);
        options.ca_file = ca_file;
        Self {
            connector: TransportConnector::new(Some(options)),
            requests: Semaphore::new(MAX_REQUESTS),
        }
    }

    /// Requests a document with GET.
    pub async fn get(
        &self,
        endpoint: &Endpoint,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Reply, ProviderError> {
        let mut request = Request::new(Full::default());
        request.headers_mut().extend(header);
        self.send(endpoint, request).await
    }

    /// Sends a form with POST.
    pub async fn post(
        &self,
        endpoint: &Endpoint,
        header: Option<(HeaderName, HeaderValue)>,
        form: String,
    ) -> Result<Reply, ProviderError> {
        let mut request = Request::new(Full::new(Bytes::from(form)));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        headers.extend(header);
        self.send(endpoint, request).await
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Reply, ProviderError> {
        let _permit = self.requests.try_acquire().map_err(|_| unavailable("too many requests"))?;
        *request.uri_mut() = endpoint.target.parse().map_err(|_| unavailable("bad endpoint"))?;
        let headers = request.headers_mut();
        let host = HeaderValue::try_from(&endpoint.authority);
        headers.insert(HOST, host.map_err(|_| unavailable("bad endpoint"))?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        // Boxed: every page would carry room for a handshake that few need.
        let exchange = Box::pin(async {
            let stream = self.connect(endpoint).await?;
            exchange(stream, request).await
        });
        let replied = tokio::time::timeout(REQUEST_TIMEOUT, exchange).await;
        replied.map_err(|_| unavailable("no response in time"))?
    }

    /// A connection to the first address that accepts one.
    async fn connect(&self, endpoint: &Endpoint) -> Result<Stream, ProviderError> {
        let mut last = unavailable("the host name has no address");
        let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
        for address in found.map_err(unavailable)? {
            let mut peer = HttpPeer::new(address, endpoint.tls, endpoint.host.clone());
            peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
            peer.options.total_connection_timeout = Some(CONNECT_TIMEOUT);
            match self.connector.new_stream(&peer).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = unavailable(error),
            }
        }
        Err(last)
    }
}

/// One request and its response. The connection has no task: it is driven here, and closed at the end.
async fn exchange(stream: Stream, request: Request<Full<Bytes>>) -> Result<Reply, ProviderError> {
    let io = TokioIo::new(stream);
    let shaken = Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(io).await;
    let (mut sender, connection) = shaken.map_err(unavailable)?;
    let exchange = pin!(async {
        let (head, body) = sender.send_request(request).await.map_err(unavailable)?.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(unavailable)?;
        Ok(Reply { status: head.status, body: body.to_bytes() })
    });
    match select(exchange, pin!(connection)).await {
        Either::Left((replied, _)) => replied,
        // What was read before the connection ended is still there.
        Either::Right((_, exchange)) => exchange.await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` passes it")]
fn unavailable(cause: impl ToString) -> ProviderError {
    ProviderError::Unavailable(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_reached_over_tls() {
        let parse = |address: &str| Endpoint::parse(address, false);
        let endpoint = parse("https://id.example:8443/token?x=1").unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("id.example", 8443));
        assert_eq!(endpoint.address(), "https://id.example:8443/token?x=1");
        assert_eq!(parse("https://[::1]/").unwrap().host, "::1");
        let plain = "http://127.0.0.1:9/token";
        assert_eq!(Endpoint::parse(plain, true).unwrap().port, 9);
        for refused in [plain, "ftp://id.example/", "id.example", "/token", "", "https://a@b/"] {
            assert_eq!(parse(refused), None, "{refused}");
        }
        assert_eq!(Endpoint::parse("https://id.example/#x", true), None);
    }
}
