//! Errors of pages. A handler returns a [`PageError`]; [`super::guard`] shows it as a page.

use crate::control::api_error::ApiError;
use askama::Template;
use axum::http::header::LOCATION;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use std::sync::Arc;

/// Tells htmx to load another page as a whole.
const HX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");

/// Why a page is not shown.
#[derive(Debug)]
pub enum PageError {
    /// The same error as the JSON API has.
    Api(ApiError),
    /// No user is logged in: the log-in page, which then leads to this path.
    LogInFirst { next: String },
    /// The password must be entered again: that page, which then leads to this path.
    ConfirmFirst { next: String },
    /// The request comes from another site, or its form is not ours.
    CrossSite,
}

/// The message of an error, for [`super::guard`] to show.
#[derive(Clone)]
pub struct ShownError(pub Arc<ApiError>);

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
            Self::Api(error) => {
                let status = error.status();
                let mut response = status.into_response();
                response.extensions_mut().insert(ShownError(Arc::new(error)));
                response
            }
            Self::LogInFirst { next } => redirect(&with_next("/console/login", &next)),
            Self::ConfirmFirst { next } => redirect(&with_next("/console/confirm", &next)),
            Self::CrossSite => {
                let mut response = StatusCode::FORBIDDEN.into_response();
                response.extensions_mut().insert(ShownCrossSite);
                response
            }
        }
    }
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

/// Where to go after log-in: a page of the console, never another site.
#[must_use]
pub fn safe_next(next: Option<&str>) -> &str {
    let is_ours = |path: &&str| {
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let rest = path.strip_prefix("/console");
        is_plain && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    };
    next.filter(is_ours).unwrap_or("/console")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_one_of_the_console() {
        for path in ["/console", "/console/keys?x=1", "/console?x"] {
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
        ] {
            assert_eq!(safe_next(Some(other)), "/console", "{other:?}");
        }
        assert_eq!(safe_next(None), "/console");
    }
}
