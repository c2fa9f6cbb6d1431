//! HTTP client of one upstream: pooled connections, verified certificates, every wait bounded.
//!
//! The only file that uses pingora's client side: it connects, and verifies certificates. Each upstream has a
//! client, connection pool and certificate authority of its own. Dropping an [`Exchange`] closes its
//! connection (that is how a call is cancelled); one that was read to its end may be released.

use super::breaker::Breaker;
use super::caller_rests::CallerRests;
use super::catalog::Upstream;
use super::concurrency::{FairLimiter, Permit};
use super::cooldown::Cooldowns;
use super::drains::Drains;
use super::exchange::Connection;
pub use super::exchange::{BodyError, Exchange, ReadAhead, SendError};
use super::idle_pool::IdlePool;
use super::recent_calls::RecentCalls;
use bytes::Bytes;
use domain::id::{IdMap, RequestId};
use domain::secret::Secret;
use futures_util::future::BoxFuture;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT,
};
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error as PingoraError, ErrorType};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use system::clock;
use wire::redact::Redactor;
use wire::redact_reply::ReplyRedactor;
use wire::surface::Surface;

/// pingora's own pool stays empty; see [`IdlePool`].
const NO_POOL: usize = 1;
/// Time for which resolved addresses are cached.
const DNS_CACHE_TTL: Duration = Duration::from_secs(30);
/// The `user-agent` of every request.
const USER_AGENT_VALUE: &str = concat!("knockx/", env!("CARGO_PKG_VERSION"));
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Number of headers that the gateway adds.
const OWN_HEADERS: usize = 8;

/// HTTP client of one upstream, with what is known of its health and load.
pub struct UpstreamClient {
    upstream: Arc<Upstream>,
    /// Headers and targets that every request shares; `None` if they cannot be written as HTTP.
    template: Option<RequestTemplate>,
    connector: TransportConnector,
    idle: IdlePool,
    pub breaker: Arc<Breaker>,
    /// Latest calls and failures, for operators.
    pub recent: RecentCalls,
    /// Models that are cooling down after a 429.
    pub cooldowns: Cooldowns,
    /// Callers to whom it did not respond in time.
    pub caller_rests: CallerRests,
    /// Bounds the calls in flight.
    pub limiter: Arc<FairLimiter>,
    /// Bounds the drained calls of each user.
    pub drains: Arc<Drains>,
    /// Set when the upstream rejects the operator's key or account, until it answers a call again.
    pub refuses_account: AtomicBool,
    /// Set when the upstream rejects `stream_options`: they are left out from then on.
    pub refuses_stream_options: AtomicBool,
    /// Removes the operator's secrets from successful replies.
    pub reply_redactor: Arc<ReplyRedactor>,
    addresses: Mutex<Option<(Instant, Arc<[SocketAddr]>)>>,
}

/// A request to an upstream, without the headers that the gateway adds to each.
pub struct UpstreamRequest {
    pub method: Method,
    /// Below the upstream's base path, such as `/chat/completions`.
    pub path: Cow<'static, str>,
    /// The call that it is for.
    pub request: Option<RequestId>,
    /// The caller's headers.
    pub forwarded: HeaderMap,
    pub body: Bytes,
    /// Never send it twice: use a new connection, because an idle one may turn out to be closed.
    pub send_once: bool,
}

impl UpstreamRequest {
    /// A request without a body that may be sent again.
    #[must_use]
    pub fn without_body(method: Method, path: impl Into<Cow<'static, str>>) -> Self {
        Self {
            method,
            path: path.into(),
            request: None,
            forwarded: HeaderMap::new(),
            body: Bytes::new(),
            send_once: false,
        }
    }
}

/// Reason why [`UpstreamClient::call`] returned no response head.
pub enum CallError<C> {
    /// `cancelled` resolved first.
    Cancelled {
        by: C,
        /// Set once the whole request has been written: an upstream neither answers nor bills a part of one.
        pending: Option<PendingReply>,
    },
    Failed(SendError),
}

/// A request that has been sent and whose response head has not arrived. Dropping it closes the connection.
pub struct PendingReply {
    pub sending: BoxFuture<'static, Result<Exchange, SendError>>,
    pub client: Arc<UpstreamClient>,
}

/// The parts that are the same in every request.
struct RequestTemplate {
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    /// The targets of calls, by their paths.
    targets: IdMap<&'static str, Uri>,
}

impl RequestTemplate {
    fn of(upstream: &Upstream) -> Option<Self> {
        let host = HeaderValue::try_from(upstream.authority()).ok()?;
        let authorization = match &upstream.api_key {
            Some(key) => {
                let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let target = |surface: Surface| {
            let path = surface.path();
            Some((path, target(upstream, path).ok()?))
        };
        let targets = Surface::ALL.into_iter().filter_map(target).collect();
        Some(Self { host, authorization, targets })
    }
}

fn target(upstream: &Upstream, path: &str) -> Result<Uri, InvalidUri> {
    Uri::try_from(format!("{}{path}", upstream.base_path))
}

impl UpstreamClient {
    /// A client of `upstream`; nothing is connected yet.
    #[must_use]
    pub fn new(upstream: Arc<Upstream>) -> Self {
        let mut options = ConnectorOptions::new(NO_POOL);
        options.ca_file.clone_from(&upstream.ca_file);
        let limiter = FairLimiter::new(upstream.max_in_flight, upstream.queue_length as usize);
        let drains = Drains::new(upstream.max_in_flight);
        Self {
            template: RequestTemplate::of(&upstream),
            reply_redactor: Arc::new(ReplyRedactor::new(
                upstream.api_key.as_ref().map(Secret::expose),
                &upstream.host,
            )),
            upstream,
            connector: TransportConnector::new(Some(options)),
            idle: IdlePool::default(),
            breaker: Arc::default(),
            recent: RecentCalls::default(),
            cooldowns: Cooldowns::default(),
            caller_rests: CallerRests::default(),
            limiter,
            drains,
            refuses_account: AtomicBool::new(false),
            refuses_stream_options: AtomicBool::new(false),
            addresses: Mutex::new(None),
        }
    }

    /// The upstream's configuration.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Sends a request and waits for the response head, or until `cancelled` resolves.
    ///
    /// # Errors
    /// [`CallError`]: no response head arrived.
    pub async fn call<C>(
        self: &Arc<Self>,
        permit: Permit,
        request: UpstreamRequest,
        cancelled: impl Future<Output = C>,
    ) -> Result<Exchange, CallError<C>> {
        let sent = Arc::new(AtomicBool::new(false));
        // It owns what it needs, so that it can continue after the client has disconnected.
        let mut sending: BoxFuture<'static, _> = {
            let (client, sent) = (Arc::clone(self), Arc::clone(&sent));
            Box::pin(async move { client.send(permit, &request, &sent).await })
        };
        tokio::select! {
            biased;
            replied = &mut sending => replied.map_err(CallError::Failed),
            by = cancelled => {
                let pending = sent.load(Ordering::Relaxed);
                let pending =
                    pending.then_some(PendingReply { sending, client: Arc::clone(self) });
                Err(CallError::Cancelled { by, pending })
            }
        }
    }

    /// As [`UpstreamClient::call`], if the concurrency limit permits it now.
    ///
    /// # Errors
    /// [`CallError`]; [`SendError::Busy`] at the concurrency limit.
    pub async fn try_call<C>(
        self: &Arc<Self>,
        request: UpstreamRequest,
        cancelled: impl Future<Output = C>,
    ) -> Result<Exchange, CallError<C>> {
        let permit = self.limiter.try_acquire().ok_or(CallError::Failed(SendError::Busy))?;
        self.call(permit, request, cancelled).await
    }

    /// Sends a request. An idle connection that turns out to be closed before a byte of the reply is replaced by
    /// a new one, once. `sent` is set once the whole request has been written.
    async fn send(
        &self,
        permit: Permit,
        request: &UpstreamRequest,
        sent: &AtomicBool,
    ) -> Result<Exchange, SendError> {
        let (mut connection, reused) = self.connect(request.send_once).await?;
        let address = connection.address;
        let reply = match self.head(&mut connection, request, sent).await {
            Err(SendError::Closed(_)) if reused && !connection.has_replied() => {
                connection = self.open(address).await?;
                self.head(&mut connection, request, sent).await?
            }
            reply => reply?,
        };
        Ok(Exchange::new(connection, reply, self.upstream.timeouts.idle, permit))
    }

    /// Returns the connection of a reply that was read to its end to the pool.
    pub fn release(&self, exchange: Exchange) {
        let mut connection = exchange.into_connection();
        if connection.is_reusable() {
            self.idle.put(connection, clock::instant());
        }
    }

    /// Closes idle connections that are old or that the upstream has closed.
    pub fn sweep_idle(&self) {
        self.idle.sweep(clock::instant());
    }

    /// An idle connection unless `must_be_new`, or a new one to the first address that accepts one; true if it
    /// was idle.
    async fn connect(&self, must_be_new: bool) -> Result<(Connection, bool), SendError> {
        let mut last = SendError::Connect("the host name has no address".to_owned());
        let addresses = self.look_up().await?;
        // Before any is connected to: the first address may be one that never accepts.
        let mut idle = addresses.iter().filter(|_| !must_be_new);
        if let Some(idle) = idle.find_map(|address| self.idle.take(*address, clock::instant())) {
            return Ok((idle, true));
        }
        for (index, address) in addresses.iter().enumerate() {
            match self.open(*address).await {
                Ok(connection) => {
                    self.prefer(&addresses, index);
                    return Ok((connection, false));
                }
                Err(e) => last = e,
            }
        }
        self.addresses.lock().take();
        Err(last)
    }

    /// Moves the address that accepted a connection to the front of the cached ones.
    fn prefer(&self, addresses: &Arc<[SocketAddr]>, index: usize) {
        if index == 0 {
            return;
        }
        let mut kept = self.addresses.lock();
        if let Some((_, found)) = &mut *kept
            && found == addresses
        {
            let mut reordered = addresses.to_vec();
            reordered[..=index].rotate_right(1);
            *found = reordered.into();
        }
    }

    async fn open(&self, address: SocketAddr) -> Result<Connection, SendError> {
        // Boxed: every call would carry room for a handshake that few need.
        let peer = self.peer(address);
        let connected = Box::pin(self.connector.new_stream(&peer)).await;
        Connection::over(connected.map_err(|e| connect_error(&e))?, address).await
    }

    /// Sends the request and reads the reply's head.
    async fn head(
        &self,
        connection: &mut Connection,
        request: &UpstreamRequest,
        sent: &AtomicBool,
    ) -> Result<Response<Incoming>, SendError> {
        let request = self.http_request(request)?;
        connection.send(request, sent, self.upstream.timeouts.first_byte).await
    }

    fn http_request(&self, outgoing: &UpstreamRequest) -> Result<Request<Full<Bytes>>, SendError> {
        let unwritable = || SendError::NotHttp("the request cannot be written");
        let template = self.template.as_ref().ok_or_else(unwritable)?;
        let target = match template.targets.get(&*outgoing.path) {
            Some(target) => target.clone(),
            None => target(&self.upstream, &outgoing.path).map_err(|_| unwritable())?,
        };
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        headers.clone_from(&outgoing.forwarded);
        headers.reserve(OWN_HEADERS);
        // A stream is asked for in the body; OpenAI's own SDKs send this for streams too.
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // What was read as JSON is read as JSON: no other charset or encoding may make it mean more.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        // Without our `req_`: servers built on starlette-context answer 400 to what is no UUID.
        if let Some(id) = outgoing.request
            && let Ok(id) = HeaderValue::from_str(&id.0.hyphenated().to_string())
        {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(HOST, template.host.clone());
        headers.insert(CONTENT_LENGTH, outgoing.body.len().into());
        if let Some(key) = &template.authorization {
            headers.insert(AUTHORIZATION, key.clone());
        }
        Ok(request)
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.upstream.tls, self.upstream.host.clone());
        peer.options.connection_timeout = Some(self.upstream.timeouts.connect);
        peer.options.total_connection_timeout = Some(self.upstream.timeouts.connect);
        peer
    }

    /// The upstream's addresses. pingora's own look-up would block the thread.
    async fn look_up(&self) -> Result<Arc<[SocketAddr]>, SendError> {
        let now = clock::instant();
        let kept = self.addresses.lock().clone();
        if let Some((at, found)) = kept
            && now.duration_since(at) < DNS_CACHE_TTL
        {
            return Ok(found);
        }
        let asked = tokio::net::lookup_host((self.upstream.host.as_str(), self.upstream.port));
        let found = tokio::time::timeout(self.upstream.timeouts.connect, asked).await;
        let found = found.map_err(|_| SendError::ConnectTimeout)?;
        let found: Arc<[SocketAddr]> =
            found.map_err(|e| SendError::Connect(e.to_string()))?.collect();
        *self.addresses.lock() = Some((now, Arc::clone(&found)));
        Ok(found)
    }
}

impl Upstream {
    /// Redactor of the operator's key and host name at this upstream.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.api_key.as_ref().map(Secret::expose), &self.host)
    }

    /// `host` or `host:port`, as the `Host` header wants it.
    #[must_use]
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default_port = if self.tls { 443 } else { 80 };
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }
}

/// Connects once, with the certificate checked, and returns the time that took.
///
/// # Errors
/// The reason in one sentence, if the upstream was not reached.
pub async fn probe(upstream: &Arc<Upstream>) -> Result<Duration, String> {
    let client = UpstreamClient::new(Arc::clone(upstream));
    let started = clock::instant();
    client.connect(true).await.map_err(|e| e.to_string())?;
    Ok(clock::instant().duration_since(started))
}

fn connect_error(error: &PingoraError) -> SendError {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => SendError::ConnectTimeout,
        _ => SendError::Connect(error.to_string()),
    }
}
