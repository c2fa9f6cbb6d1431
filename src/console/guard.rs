//! The layer around all pages: refuses changes from other sites, adds headers, shows errors as pages.

use super::error::{PageError, ShownCrossSite, html, whole_page_redirect};
use super::error_text::message;
use super::forms;
use super::page::{Page, text};
use crate::control::api_error::{ApiError, ReportedError};
use crate::control::http::middleware::RequestContext;
use askama::Template;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, VARY,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::key::Pepper;

/// No inline script or style, nothing from elsewhere, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const HX_REQUEST: HeaderName = HeaderName::from_static("hx-request");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

const CROSS_SITE: &str = text(
    "This form was not sent by a page of this console, or its session has ended. Go back, reload the page and try again.",
);

/// An error, as a page.
#[derive(Template)]
#[template(path = "console/error.html")]
struct ErrorPage {
    page: Page,
    status: u16,
    message: String,
    /// The id of the request, for errors that are reported to the operator; otherwise empty.
    request: String,
}

/// Lets a request of our own pages pass, and finishes the response.
pub async fn guard(State(pepper): State<Pepper>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let context = RequestContext::of(&parts.extensions);
    let over_tls = context.over_tls;
    let page = Page::of(&parts, over_tls, &pepper);
    let by_htmx = parts.headers.contains_key(HX_REQUEST);
    let response = if parts.method.is_safe() || forms::is_same_origin(&parts, over_tls) {
        next.run(Request::from_parts(parts, body)).await
    } else {
        PageError::CrossSite.into_response()
    };
    let mut response = shown(response, page, context.request_id());
    if by_htmx && response.status() == StatusCode::SEE_OTHER {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let mut whole = whole_page_redirect(location.unwrap_or("/console"));
        let cookies = response.headers_mut().remove(axum::http::header::SET_COOKIE);
        whole.headers_mut().extend(cookies.map(|value| (axum::http::header::SET_COOKIE, value)));
        response = whole;
    }
    add_headers(&mut response);
    response
}

/// The response, or the page of its error.
fn shown(response: Response, page: Page, request: String) -> Response {
    let status = response.status();
    let extensions = response.extensions();
    let (message, is_internal) = if let Some(ReportedError(error)) = extensions.get() {
        (message(&page, error), matches!(**error, ApiError::Internal))
    } else if extensions.get::<ShownCrossSite>().is_some() {
        (page.t(CROSS_SITE).to_owned(), false)
    } else {
        return response;
    };
    let request = if is_internal { request } else { String::new() };
    let error = ErrorPage { page, status: status.as_u16(), message, request };
    let Ok(mut shown) = html(&error) else { return status.into_response() };
    *shown.status_mut() = status;
    let kept = [RETRY_AFTER, ALLOW];
    let kept = kept.into_iter().filter_map(|name| {
        let value = response.headers().get(&name)?.clone();
        Some((name, value))
    });
    shown.headers_mut().extend(kept);
    shown
}

fn add_headers(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // With `no-referrer`, browsers would send `Origin: null` with forms.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(
        PERMISSIONS_POLICY,
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    );
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
        // A fragment is never taken for the page.
        headers.append(VARY, HeaderValue::from_static("HX-Request, Cookie, Accept-Language"));
    }
}
