//! Errors of pages. A handler returns a [`PageError`]; [`super::guard`] shows it as a page.

use crate::control::api_error::ApiError;
use askama::Template;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};

/// Tells htmx to load another page as a whole.
const HX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");

/// Why a page is not shown.
#[derive(Debug)]
pub enum PageError {
    /// The same error as the JSON API has.
    Api(ApiError),
    /// No user is logged in: the log-in page, which then leads to this path.
    LogInFirst { next: String },
    /// The user must be confirmed again: that page, which then leads to this path.
    ConfirmFirst { next: String },
    /// The request comes from another site, or its form is not ours.
    CrossSite,
}

/// A request that another site may have caused.
#[derive(Clone, Copy)]
pub struct ShownCrossSite;

impl PageError {
    /// There is no such page, or none for this person.
    #[must_use]
    pub fn not_found() -> Self {
        Self::Api(ApiError::RouteNotFound)
    }
}

impl<E: Into<ApiError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self::Api(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        match self {
            Self::Api(error) => error.into_response(),
            Self::LogInFirst { next } => detour("/console/login", &next),
            Self::ConfirmFirst { next } => detour("/console/confirm", &next),
            Self::CrossSite => {
                let mut response = StatusCode::FORBIDDEN.into_response();
                response.extensions_mut().insert(ShownCrossSite);
                response
            }
        }
    }
}

/// Marks a response to a form that was not taken, because something else comes first.
#[derive(Clone, Copy)]
pub struct FormRejected;

/// Leads to the page at `path`, which leads to `next` afterwards.
fn detour(path: &str, next: &str) -> Response {
    let mut response = redirect(&with_next(path, next));
    response.extensions_mut().insert(FormRejected);
    response
}

/// The page of a template.
///
/// # Errors
/// The template cannot be rendered.
pub fn html(template: &impl Template) -> Result<Response, PageError> {
    let text = template.render().map_err(|error| {
        tracing::error!(%error, "console page could not be rendered");
        ApiError::Internal
    })?;
    Ok(Html(text).into_response())
}

/// A page that shows its form again, with the error that it was refused with.
///
/// # Errors
/// The template cannot be rendered.
pub fn refused(template: &impl Template, error: &ApiError) -> Result<Response, PageError> {
    let mut response = html(template)?;
    *response.status_mut() = error.status();
    let seconds = error.retry_after().map(|seconds| (RETRY_AFTER, seconds.into()));
    response.headers_mut().extend(seconds);
    Ok(response)
}

/// The page of a form: for the first time, or refused with an error.
///
/// # Errors
/// The template cannot be rendered.
pub fn form_page(
    template: &impl Template,
    error: Option<&ApiError>,
) -> Result<Response, PageError> {
    match error {
        Some(error) => refused(template, error),
        None => html(template),
    }
}

/// A redirect that loads `path` with GET, in place of the whole page.
#[must_use]
pub fn redirect(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let location = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/console"));
    response.headers_mut().insert(LOCATION, location);
    response
}

/// For a fragment that htmx asked for: leads the whole page to `path`.
#[must_use]
pub fn whole_page_redirect(path: &str) -> Response {
    let mut response = StatusCode::OK.into_response();
    let location = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/console"));
    response.headers_mut().insert(HX_REDIRECT, location);
    response
}

/// `path` with a parameter that says where to go afterwards.
#[must_use]
pub fn with_next(path: &str, next: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    format!("{path}?{query}")
}

/// Where to go after log-in: a page of the console, never another site or another part of this one.
#[must_use]
pub fn safe_next(next: Option<&str>) -> &str {
    next.filter(|next| is_page(next)).unwrap_or("/console")
}

/// True if a browser, which resolves dots and backslashes and may decode a path, finds a page of the console there.
fn is_page(next: &str) -> bool {
    let path = next.split(['?', '#']).next().unwrap_or_default();
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    let is_plain = |byte: &u8| match byte {
        b'\\' | b'%' | b'?' | b'#' => false,
        byte => byte.is_ascii_graphic() || *byte == b' ',
    };
    let mut segments = decoded.split(|byte| *byte == b'/');
    let begins_well = segments.next() == Some(b"") && segments.next() == Some(b"console");
    let is_segment = |segment: &[u8]| !matches!(segment, b"" | b"." | b"..");
    next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && decoded.iter().all(is_plain)
        && decoded.split(|byte| *byte == b'/').count() == path.split('/').count()
        && begins_well
        && segments.all(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_one_of_the_console() {
        for path in [
            "/console",
            "/console/keys?x=1",
            "/console?x",
            "/console/usage?from=2026-11-01&next=%2Fconsole%2F..",
            "/console/admin/upstreams/my%20one/test",
            "/console/a.b/..c",
        ] {
            assert_eq!(safe_next(Some(path)), path);
        }
        for other in [
            "https://evil.example",
            "//evil.example",
            "/console.evil.example",
            "/consoles",
            "/\\evil.example",
            "/console/\\..",
            "/console/\r\nx: y",
            "",
            "console",
            "/api",
            "/console ",
            "/console/",
            "/console/../../x",
            "/console/keys/..",
            "/console/./keys",
            "/console/%2e%2e/x",
            "/console/%2E%2e%2fx",
            "/console/.%2e/x",
            "/console/%252e%252e/x",
            "/console/%5c..%5cx",
            "/console//evil.example",
            "/console%2f..%2fx",
            "/console/%00",
            "/%63onsole/../x",
            "/api/..//console",
        ] {
            assert_eq!(safe_next(Some(other)), "/console", "{other:?}");
        }
        assert_eq!(safe_next(None), "/console");
    }
}
