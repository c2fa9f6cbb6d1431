//! Layers around every control route: request ids, timing, the request log, security headers, CORS,
//! compression, limits.

use crate::config::Cors;
use crate::control::api_error::ApiError;
use crate::http::client_ip;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, USER_AGENT, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use domain::id::{RequestId, UserId};
use http_body_util::Limited;
use ipnet::IpNet;
use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::StoreError;
use store::sessions::SessionClient;
use system::clock;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::normalize_path::NormalizePath;

/// Longer than the slowest route, which waits for a sleeping database to wake up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a request body.
pub const BODY_BYTES: usize = 64 * 1024;
/// Maximum length of a user agent that is stored with a session.
const USER_AGENT_CHARS: usize = 200;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const SECURITY: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (REFERRER_POLICY, "no-referrer"),
];

/// The id, client address and user of a request. Handlers set the user, the request log reads it.
#[derive(Clone)]
pub struct RequestContext {
    request: HeaderValue,
    pub address: IpAddr,
    /// True if the client reached us, or the proxy before us, over TLS.
    pub over_tls: bool,
    user_agent: Option<String>,
    user: Arc<OnceLock<UserId>>,
}

impl RequestContext {
    /// The context of the request with these extensions.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        let unknown = || Self {
            request: HeaderValue::from_static("none"),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            over_tls: false,
            user_agent: None,
            user: Arc::default(),
        };
        extensions.get().cloned().unwrap_or_else(unknown)
    }

    /// Sets the user for the request log.
    pub fn set_user(&self, user: UserId) {
        let _ = self.user.set(user);
    }

    /// The client, as a new session of it records it.
    #[must_use]
    pub fn client(&self) -> SessionClient {
        SessionClient {
            address: Some(self.address.to_string()),
            user_agent: self.user_agent.clone(),
        }
    }

    /// The `x-request-id` of the response.
    #[must_use]
    pub fn request_id(&self) -> String {
        self.request.to_str().unwrap_or_default().to_owned()
    }
}

/// Limits the size of bodies and the time of requests, and turns panics into errors. Pages and JSON routes have
/// these layers each for themselves, because they show errors in different forms.
pub fn bounded<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .layer(from_fn(limit_body))
        .layer(from_fn(timeout))
        .layer(CatchPanicLayer::custom(after_panic))
}

/// Wraps `router` in the layers; the last one added sees a request first.
pub fn layers(router: Router, cors: &Cors, trusted: Arc<[IpNet]>) -> Router {
    // Every path works with and without a trailing slash. A redirect would lose the body of a POST.
    let router = Router::new().fallback_service(NormalizePath::trim_trailing_slash(router));
    let router = router.layer(CatchPanicLayer::custom(after_panic)).layer(CompressionLayer::new());
    let router = match cors_layer(cors) {
        Some(layer) => router.layer(layer),
        None => router,
    };
    router.layer(from_fn_with_state(trusted, finalize_response))
}

/// Assigns the request id, adds the headers of every response, and logs the request.
async fn finalize_response(
    State(trusted): State<Arc<[IpNet]>>,
    mut request: Request,
    next: Next,
) -> Response {
    let began_at = clock::instant();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let client_request = client_request_id(request.headers());
    let over_tls = request.headers().get(FORWARDED_PROTO).is_some_and(|proto| proto == "https");
    let context = RequestContext {
        request: request_id(),
        address: client_ip::address(peer, request.headers(), &trusted),
        over_tls,
        user_agent: user_agent(request.headers()),
        user: Arc::default(),
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.headers_mut().insert(REQUEST_ID, context.request.clone());
    request.extensions_mut().insert(context.clone());
    let mut response = next.run(request).await;
    let took = clock::instant().saturating_duration_since(began_at);
    let status = response.status().as_u16();
    tracing::info!(
        request = %context.request_id(), client_request_id = client_request, %method, path, status, client = %context.address,
        user = context.user.get().map(tracing::field::display),
        total_ms = took.as_secs_f64() * 1000.0, "control request",
    );
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, context.request);
    // The console's pages come with a policy of their own.
    for (name, value) in SECURITY {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if over_tls {
        let a_year = HeaderValue::from_static("max-age=31536000");
        headers.insert(STRICT_TRANSPORT_SECURITY, a_year);
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let seconds = format!("{:.6}", took.as_secs_f64());
    headers.extend(HeaderValue::try_from(seconds).ok().map(|value| (PROCESS_TIME, value)));
    response
}

/// A new id. Ids that callers send are kept apart, as two callers may send the same one.
fn request_id() -> HeaderValue {
    let id = HeaderValue::try_from(RequestId::new().to_string());
    id.unwrap_or(HeaderValue::from_static("none"))
}

/// The request id that the caller sent, if it is safe to log.
fn client_request_id(headers: &HeaderMap) -> Option<String> {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    ((1..=128).contains(&id.len()) && id.bytes().all(is_safe)).then(|| id.to_owned())
}

/// The program of the client, cut to [`USER_AGENT_CHARS`].
fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(USER_AGENT_CHARS).collect())
}

async fn limit_body(request: Request, next: Next) -> Response {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|n| n.to_str().ok());
    let announced: Option<usize> = announced.and_then(|n| n.parse().ok());
    if announced.is_some_and(|bytes| bytes > BODY_BYTES) {
        return ApiError::BodyTooLarge { limit: BODY_BYTES }.into_response();
    }
    // A body without a length fails in the extractor once it exceeds the limit.
    next.run(request.map(|body| Body::new(Limited::new(body, BODY_BYTES)))).await
}

/// Ends a request for which the store does not respond in time.
async fn timeout(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let error = StoreError::Unavailable("no reply in time".to_owned());
            ApiError::StoreUnavailable(error).into_response()
        }
    }
}

/// Turns a panic into a 500. The panic hook has already logged its location.
fn after_panic(_cause: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("control plane request panicked");
    ApiError::Internal.into_response()
}

fn cors_layer(cors: &Cors) -> Option<CorsLayer> {
    let origins = match cors {
        Cors::SameOrigin => return None,
        Cors::Any => AllowOrigin::any(),
        Cors::Origins(origins) => {
            AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()))
        }
    };
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH, REQUEST_ID])
        .expose_headers([REQUEST_ID, PROCESS_TIME, ETAG, LINK, RETRY_AFTER, CONTENT_DISPOSITION])
        .max_age(Duration::from_hours(24));
    Some(layer)
}
