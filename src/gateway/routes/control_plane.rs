//! The control plane, on the same connections: a request of the public port that is not for `/v1` is a `tower`
//! call, whose body is bounded here.

use crate::gateway::call::body_memory::BodyMemory;
use crate::gateway::call::end::{CALLER_GONE, outcome_of_http};
use crate::gateway::call::read_body::{self, BodyLimits};
use crate::gateway::listener::session::{Gone, ResponseHead, Session};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::{Gateway, Handled};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use http_body_util::BodyExt;
use std::future::ready;
use telemetry::labels::Route;
use tower::ServiceExt;

/// Largest request body, in bytes.
const BODY_BYTES: usize = 64 * 1024;
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl Gateway {
    /// Responds from the control plane.
    pub(crate) async fn control_plane(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
    ) -> Handled {
        let limits = self.body_limits(BODY_BYTES);
        let router = (&self.control, self.tls.is_some());
        let served = call_router(session, router, limits, &self.body_memory, writer);
        let status = served.await.unwrap_or(CALLER_GONE);
        Handled { route: Route::Control, status, outcome: outcome_of_http(status) }
    }
}

/// Responds to one request from `router`, which came over TLS or not. Returns the status.
///
/// # Errors
/// When the caller is gone.
async fn call_router(
    session: &mut Session,
    (router, over_tls): (&Router, bool),
    limits: BodyLimits,
    body_memory: &BodyMemory,
    writer: &ResponseWriter<'_>,
) -> Result<u16, Gone> {
    let (limit, mut is_too_large) = (limits.bytes, false);
    let mut body_permit = body_memory.empty_permit(None, writer.head.address);
    let body = match read_body::read(session, limits, &mut body_permit, ready(Ok(()))).await {
        Ok(body) => body,
        // Said by the router itself, as it says everything: it goes by the announced length.
        Err(Refusal::BodyTooLarge { .. }) => {
            session.close_after_reply();
            is_too_large = true;
            Bytes::new()
        }
        Err(refusal) => return writer.refuse(session, refusal, None).await,
    };
    let Some(mut request) = request(session, body, over_tls) else {
        return writer
            .refuse(session, Refusal::BadHead("the request target must be a path"), None)
            .await;
    };
    if is_too_large {
        request.headers_mut().insert(header::CONTENT_LENGTH, (limit + 1).into());
    }
    let response = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    send(session, response).await
}

/// The request as the router reads it: with the host of HTTP/2 in `Host`, and with our own TLS as a proxy's.
fn request(session: &Session, body: Bytes, over_tls: bool) -> Option<http::Request<Body>> {
    let mut request = http::Request::builder()
        .method(session.method().clone())
        .uri(session.target())
        .body(Body::from(body))
        .ok()?;
    let headers = request.headers_mut();
    headers.clone_from(session.headers());
    if let Some(authority) = session.authority()
        && let Ok(host) = HeaderValue::from_str(authority)
    {
        headers.entry(header::HOST).or_insert(host);
    }
    if over_tls {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
    request.extensions_mut().insert(ConnectInfo(session.peer()));
    Some(request)
}

async fn send(session: &mut Session, response: http::Response<Body>) -> Result<u16, Gone> {
    let (parts, mut body) = response.into_parts();
    let mut head = ResponseHead::of(parts.status, parts.headers);
    if head.is_bodiless() {
        session.reply(head, Bytes::new()).await?;
        return Ok(parts.status.as_u16());
    }
    if let Some(length) = axum::body::HttpBody::size_hint(&body).exact()
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        head.set(header::CONTENT_LENGTH, length);
    }
    session.send_head(head).await?;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            // A part of a report must not look like all of it.
            session.cut_off().await;
            return Err(Gone);
        };
        if let Ok(data) = frame.into_data() {
            session.send(data, false).await?;
        }
    }
    session.send(Bytes::new(), true).await?;
    Ok(parts.status.as_u16())
}
