//! Cacheable replies: an `ETag` of the content, and 304 if it has not changed.

use crate::control::api_error::ApiError;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Fresh for a minute, then revalidated by `ETag`.
const MAX_AGE: HeaderValue = HeaderValue::from_static("public, max-age=60");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Returns `body` as JSON, or 304 if the client has the current version.
pub fn respond(request: &HeaderMap, body: &impl Serialize) -> Response {
    let Ok(json) = serde_json::to_vec(body) else { return ApiError::Internal.into_response() };
    let tag = tag(&json);
    let validators = [(ETAG, tag.clone()), (CACHE_CONTROL, MAX_AGE)];
    if is_current(request, &tag) {
        return (StatusCode::NOT_MODIFIED, validators).into_response();
    }
    (validators, [(CONTENT_TYPE, JSON)], json).into_response()
}

/// A weak tag, because the same content may be sent with different compressions.
fn tag(json: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(json);
    let head = digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    HeaderValue::try_from(format!("W/\"{head:016x}\"")).unwrap_or(HeaderValue::from_static(""))
}

fn is_current(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let Ok(tag) = tag.to_str().map(opaque) else { return false };
    let known = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).any(|one| one.trim() == "*" || opaque(one) == tag)
}
