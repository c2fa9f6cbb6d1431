//! The control plane, called in process: a request of the public port that is not for `/v1`
//! becomes a `tower` call, and its response goes back on the same connection.

use super::buffers::Buffers;
use super::read::{self, Bounds};
use super::refusal::Refusal;
use super::reply::{self, Replier};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::header;
use http_body_util::BodyExt;
use pingora_core::Result;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_http::ResponseHeader;
use std::future::ready;
use std::time::Duration;
use tower::ServiceExt;

/// Answers one request from `router`. Returns the status.
///
/// # Errors
/// When the caller is gone.
pub async fn serve(
    session: &mut ServerSession,
    router: &Router,
    bounds: Bounds,
    buffers: &Buffers,
    replier: &Replier<'_>,
) -> Result<u16> {
    let (limit, mut is_too_large) = (bounds.bytes, false);
    let mut held = buffers.hold(None, replier.head.address);
    let body = match read::read(session, bounds, &mut held, ready(Ok(()))).await {
        Ok(body) => body,
        // Said by the router itself, as it says everything: it goes by the announced length.
        Err(Refusal::BodyTooLarge { .. }) => {
            session.set_keepalive(None);
            is_too_large = true;
            Bytes::new()
        }
        Err(refusal) => return replier.refuse(session, refusal, None).await,
    };
    let Some(mut request) = request(session, body) else {
        return replier
            .refuse(session, Refusal::BadHead("the request target is not a path"), None)
            .await;
    };
    if is_too_large {
        request.headers_mut().insert(header::CONTENT_LENGTH, (limit + 1).into());
    }
    let response = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    send(session, response, replier.patience).await
}

fn request(session: &ServerSession, body: Bytes) -> Option<http::Request<Body>> {
    let head = session.req_header();
    let target = std::str::from_utf8(head.raw_path()).ok()?;
    let mut request = http::Request::builder()
        .method(head.method.clone())
        .uri(target)
        .body(Body::from(body))
        .ok()?;
    request.headers_mut().clone_from(&head.headers);
    if let Some(peer) = session.client_addr().and_then(SocketAddr::as_inet) {
        request.extensions_mut().insert(ConnectInfo(*peer));
    }
    Some(request)
}

async fn send(
    session: &mut ServerSession,
    response: http::Response<Body>,
    patience: Duration,
) -> Result<u16> {
    let (parts, mut body) = response.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len() + 1))?;
    for (name, value) in &parts.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    let bodiless = parts.status == http::StatusCode::NO_CONTENT
        || parts.status == http::StatusCode::NOT_MODIFIED;
    if !bodiless && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        match axum::body::HttpBody::size_hint(&body).exact() {
            Some(length) => head.insert_header(header::CONTENT_LENGTH, length)?,
            None => head.insert_header(header::TRANSFER_ENCODING, "chunked")?,
        }
    }
    reply::send_head(session, head, patience).await?;
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            reply::send(session, data, false, patience).await?;
        }
    }
    reply::send(session, Bytes::new(), true, patience).await?;
    Ok(parts.status.as_u16())
}
