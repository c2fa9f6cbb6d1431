//! The pages, one module each.

pub mod login;
pub mod oidc;
pub mod signup;
pub mod confirm;
pub mod preferences;
pub mod overview;
pub mod account;
pub mod links;
pub mod keys;
pub mod usage;
pub mod plans;
pub mod playground;
pub mod admin;

use super::error::{PageError, redirect};
use crate::control::api_error::ApiError;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};

/// A path below `/console` that has no page.
pub async fn not_found() -> PageError {
    PageError::not_found()
}

/// A page that is asked for with a method it does not have. The address of a form alone, opened after a log-in, a
/// change of language or a reload, leads to the page that has the form.
pub async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    if method.is_safe() {
        redirect(&page_with_form(uri.path()))
    } else {
        PageError::Api(ApiError::MethodNotAllowed).into_response()
    }
}

/// The page that has the form of this address, by the first segments of its path.
fn page_with_form(path: &str) -> String {
    let segments = match path {
        path if path.starts_with("/console/admin/users/") => 4,
        path if path.starts_with("/console/account/sessions/") => 3,
        path if path.starts_with("/console/admin/") => 3,
        path if path.starts_with("/console/account/") || path.starts_with("/console/plans/") => 2,
        _ => 1,
    };
    let kept = path.split('/').skip(1).take(segments);
    kept.fold(String::new(), |path, segment| format!("{path}/{segment}"))
}
