//! The request body, whole and bounded in size and time.

use super::buffers::Held;
use super::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use pingora_core::protocols::http::ServerSession;
use pingora_core::{Error, ErrorType};
use std::time::Duration;

/// What a body may cost us.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Largest body, in bytes.
    pub bytes: usize,
    /// Longest it may take to arrive.
    pub time: Duration,
}

/// Reads the body. A declared length over the limit is refused before a byte is read, and an
/// undeclared one as soon as it passes the limit. Its memory is taken from `held`.
///
/// # Errors
/// Too large, too slow, broken off, or no room; the connection cannot be used again.
pub async fn read(
    session: &mut ServerSession,
    bounds: Bounds,
    held: &mut Held,
) -> Result<Bytes, Refusal> {
    let declared = declared_length(session)?;
    if declared.is_some_and(|length| length > bounds.bytes as u64) {
        return Err(Refusal::BodyTooLarge { limit: bounds.bytes });
    }
    let body = tokio::time::timeout(bounds.time, collect(session, bounds.bytes, held)).await;
    body.map_err(|_| Refusal::SlowBody)?
}

async fn collect(
    session: &mut ServerSession,
    limit: usize,
    held: &mut Held,
) -> Result<Bytes, Refusal> {
    if expects_continue(session) {
        session.write_continue_response().await.map_err(|_| Refusal::CutBody)?;
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(bytes) = session.read_request_body().await.map_err(|e| broken(&e))? {
        if first.len() + rest.len() + bytes.len() > limit {
            return Err(Refusal::BodyTooLarge { limit });
        }
        held.grow(bytes.len())?;
        // Most bodies arrive in one piece, which then needs no copy.
        if first.is_empty() && rest.is_empty() {
            first = bytes;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&bytes);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn declared_length(session: &ServerSession) -> Result<Option<u64>, Refusal> {
    let Some(value) = session.get_header(http::header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or(Refusal::BadHead("an unreadable Content-Length"))
}

/// pingora has a deadline of its own for each read.
fn broken(error: &Error) -> Refusal {
    match error.etype() {
        ErrorType::ReadTimedout => Refusal::SlowBody,
        _ => Refusal::CutBody,
    }
}

/// RFC 9110 section 10.1.1: a client may wait for this before it sends the body. One that speaks
/// HTTP/1.0 would take it for the answer.
fn expects_continue(session: &ServerSession) -> bool {
    if session.req_header().version == http::Version::HTTP_10 {
        return false;
    }
    let expect = session.get_header(http::header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
