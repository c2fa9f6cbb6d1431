//! Connections to upstreams: pooled, verified, every wait bounded.
//!
//! The only file that knows pingora's client side: it connects, and verifies certificates. One
//! [`Connections`] serves one upstream, so its pool and its certificate authority are its own. An
//! [`Exchange`] that is dropped closes its connection (that is how a call is cancelled); one that was read
//! to its end may be released.

use super::breaker::Breaker;
use super::catalog::Upstream;
use super::drains::Drains;
use super::exchange::Wire;
pub use super::exchange::{Cut, Exchange, SendError};
use super::idle::Idle;
use super::places::{Place, Places};
use super::rests::Rests;
use bytes::Bytes;
use domain::id::{IdMap, RequestId};
use domain::secret::Secret;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT,
};
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error as PingoraError, ErrorType};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use system::clock;
use wire::redact::Redactor;
use wire::redact_reply::ReplyRedactor;
use wire::surface::Surface;

/// pingora's own pool stays empty; see [`Idle`].
const NO_POOL: usize = 1;
/// How long looked-up addresses are used again.
const ADDRESSES_KEPT: Duration = Duration::from_secs(30);
/// The gateway's `user-agent`.
const AGENT: &str = concat!("knockx/", env!("CARGO_PKG_VERSION"));
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Number of headers that the gateway adds.
const OWN_HEADERS: usize = 8;

/// Connections to one upstream.
pub struct Connections {
    upstream: Arc<Upstream>,
    /// Its name and the operator's key, as they stand in each request; `None` where they cannot.
    prepared: Option<Prepared>,
    connector: TransportConnector,
    idle: Idle,
    /// Whether it is worth asking.
    pub breaker: Arc<Breaker>,
    /// Models that are cooling down after a 429.
    pub rests: Rests,
    /// Who may ask it now.
    pub places: Arc<Places>,
    /// Drained calls by user.
    pub drains: Arc<Drains>,
    /// It refused a call because of the operator's key or account, and none was answered since.
    pub refuses_account: AtomicBool,
    /// It refused a call because of its `stream_options`: they are left out from then on.
    pub refuses_stream_options: AtomicBool,
    /// Cleans its replies that are not errors as a whole.
    pub reply_redactor: Arc<ReplyRedactor>,
    addresses: Mutex<Option<(Instant, Arc<[SocketAddr]>)>>,
}

/// A request to an upstream, without the headers that the gateway adds to each.
pub struct Outgoing {
    pub method: Method,
    /// Below the upstream's base path, such as `/chat/completions`.
    pub path: Cow<'static, str>,
    /// The call that it is for.
    pub request: Option<RequestId>,
    /// The caller's headers.
    pub forwarded: HeaderMap,
    pub body: Bytes,
    /// Set once all of it has been written: an upstream can neither answer nor bill a part of a request.
    pub sent: AtomicBool,
}

/// What is the same in every request.
struct Prepared {
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    /// The targets of calls, by their paths.
    targets: IdMap<&'static str, Uri>,
}

impl Prepared {
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

impl Connections {
    /// A pool for `upstream`; nothing is connected yet.
    #[must_use]
    pub fn new(upstream: Arc<Upstream>) -> Self {
        let mut options = ConnectorOptions::new(NO_POOL);
        options.ca_file.clone_from(&upstream.ca_file);
        let places = Places::new(upstream.max_in_flight, upstream.queue_length as usize);
        let drains = Drains::new(upstream.max_in_flight);
        Self {
            prepared: Prepared::of(&upstream),
            reply_redactor: Arc::new(ReplyRedactor::new(
                upstream.api_key.as_ref().map(Secret::expose),
                &upstream.host,
            )),
            upstream,
            connector: TransportConnector::new(Some(options)),
            idle: Idle::default(),
            breaker: Arc::default(),
            rests: Rests::default(),
            places,
            drains,
            refuses_account: AtomicBool::new(false),
            refuses_stream_options: AtomicBool::new(false),
            addresses: Mutex::new(None),
        }
    }

    /// The upstream that it connects to.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Sends a request, in its `place`, and waits for the reply's head. A pooled connection that turns out dead
    /// before a byte of the reply is replaced by a new one, once.
    ///
    /// # Errors
    /// [`SendError`]: nothing of a reply was seen.
    pub async fn send(&self, place: Place, outgoing: &Outgoing) -> Result<Exchange, SendError> {
        let (mut wire, reused) = self.connect().await?;
        let address = wire.address;
        let reply = match self.head(&mut wire, outgoing).await {
            Err(SendError::Closed(_)) if reused && !wire.has_replied() => {
                wire = self.connect_anew(address).await?;
                self.head(&mut wire, outgoing).await?
            }
            reply => reply?,
        };
        Ok(Exchange::new(wire, reply, self.upstream.timeouts.idle, place))
    }

    /// As [`Connections::send`], over a new connection and so never twice.
    ///
    /// # Errors
    /// [`SendError`]: nothing of a reply was seen.
    pub async fn send_once(
        &self,
        place: Place,
        outgoing: &Outgoing,
    ) -> Result<Exchange, SendError> {
        let mut last = SendError::Connect("the host name has no address".to_owned());
        for address in self.look_up().await?.iter() {
            match self.connect_anew(*address).await {
                Ok(mut wire) => {
                    let reply = self.head(&mut wire, outgoing).await?;
                    return Ok(Exchange::new(wire, reply, self.upstream.timeouts.idle, place));
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Gives a connection whose reply was read to its end back to the pool.
    pub fn release(&self, exchange: Exchange) {
        let mut wire = exchange.into_wire();
        if wire.is_quiet() {
            self.idle.put(wire, clock::instant());
        }
    }

    /// Closes idle connections that are old or that the upstream has closed.
    pub fn sweep_idle(&self) {
        self.idle.sweep(clock::instant());
    }

    /// A connection to the first address that takes one, and whether it was idle before.
    async fn connect(&self) -> Result<(Wire, bool), SendError> {
        let mut last = SendError::Connect("the host name has no address".to_owned());
        let addresses = self.look_up().await?;
        // Before any is connected to: the first may be one that never answers.
        for address in addresses.iter() {
            if let Some(wire) = self.idle.take(*address, clock::instant()) {
                return Ok((wire, true));
            }
        }
        for (place, address) in addresses.iter().enumerate() {
            match self.connect_anew(*address).await {
                Ok(wire) => {
                    self.prefer(&addresses, place);
                    return Ok((wire, false));
                }
                Err(e) => last = e,
            }
        }
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(last)
    }

    /// Puts the address that answered before those that did not, for as long as they are kept.
    fn prefer(&self, addresses: &Arc<[SocketAddr]>, place: usize) {
        if place == 0 {
            return;
        }
        let mut kept = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = &mut *kept
            && found == addresses
        {
            let mut reordered = addresses.to_vec();
            reordered[..=place].rotate_right(1);
            *found = reordered.into();
        }
    }

    async fn connect_anew(&self, address: SocketAddr) -> Result<Wire, SendError> {
        // Boxed: every call would carry room for a handshake that few need.
        let peer = self.peer(address);
        let connected = Box::pin(self.connector.new_stream(&peer)).await;
        Wire::over(connected.map_err(|e| connect_error(&e))?, address).await
    }

    /// Sends the request and reads the reply's head.
    async fn head(
        &self,
        wire: &mut Wire,
        outgoing: &Outgoing,
    ) -> Result<Response<Incoming>, SendError> {
        let request = self.request(outgoing)?;
        wire.send(request, &outgoing.sent, self.upstream.timeouts.first_byte).await
    }

    fn request(&self, outgoing: &Outgoing) -> Result<Request<Full<Bytes>>, SendError> {
        let unwritable = || SendError::NotHttp("the request cannot be written");
        let prepared = self.prepared.as_ref().ok_or_else(unwritable)?;
        let target = match prepared.targets.get(&*outgoing.path) {
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
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        // Without our `req_`: servers built on starlette-context answer 400 to what is no UUID.
        if let Some(id) = outgoing.request
            && let Ok(id) = HeaderValue::from_str(&id.0.hyphenated().to_string())
        {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(HOST, prepared.host.clone());
        headers.insert(CONTENT_LENGTH, outgoing.body.len().into());
        if let Some(key) = &prepared.authorization {
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
        let kept = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, found)) = kept
            && now.duration_since(at) < ADDRESSES_KEPT
        {
            return Ok(found);
        }
        let asked = tokio::net::lookup_host((self.upstream.host.as_str(), self.upstream.port));
        let found = tokio::time::timeout(self.upstream.timeouts.connect, asked).await;
        let found = found.map_err(|_| SendError::ConnectTimeout)?;
        let found: Arc<[SocketAddr]> =
            found.map_err(|e| SendError::Connect(e.to_string()))?.collect();
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((now, Arc::clone(&found)));
        Ok(found)
    }
}

impl Upstream {
    /// Takes out of a text what is the operator's business with this upstream.
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

/// Connects once, with the certificate checked, and says what came of it in one sentence.
///
/// # Errors
/// The sentence, when the upstream was not reached.
pub async fn probe(upstream: &Arc<Upstream>) -> Result<Duration, String> {
    let connections = Connections::new(Arc::clone(upstream));
    let started = clock::instant();
    connections.connect().await.map_err(|e| e.to_string())?;
    Ok(clock::instant().duration_since(started))
}

fn connect_error(error: &PingoraError) -> SendError {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => SendError::ConnectTimeout,
        _ => SendError::Connect(error.to_string()),
    }
}
