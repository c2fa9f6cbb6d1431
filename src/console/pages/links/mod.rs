//! Pages that one-time links lead to, and the page that asks for one.
//!
//! Opening a link shows a page with a button; only the button uses the link, because scanners of mail open links
//! too. The token is in the address of the first page, and in the form afterwards. It is not logged: the
//! control plane logs paths without queries, and no page links to another site.

mod forgot;
mod password;
mod setup;
mod verify;

use crate::console::error::{PageError, html};
use crate::console::page::{Page, text};
use crate::control::api_error::ApiError;
use crate::control::state::ControlState;
use askama::Template;
use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

/// The page of a link that cannot be used.
#[derive(Template)]
#[template(path = "console/links/invalid.html")]
struct InvalidPage {
    page: Page,
    reason: &'static str,
    advice: &'static str,
    /// Leads to the page that sends another link.
    offers_reset: bool,
}

#[derive(Default, Deserialize)]
pub struct LinkQuery {
    #[serde(default)]
    token: String,
}

/// The pages of links.
pub fn routes() -> Router<ControlState> {
    Router::new()
        .route("/console/forgot", get(forgot::form).post(forgot::send))
        .route("/console/reset", get(password::reset_form).post(password::reset))
        .route("/console/invitation", get(password::invitation_form).post(password::accept))
        .route("/console/verify", get(verify::form).post(verify::verify))
        .route("/console/setup", get(setup::form).post(setup::create))
}

/// The page of a link that cannot be used; other errors stay errors.
fn unusable(page: Page, error: ApiError, advice: &'static str) -> Result<Response, PageError> {
    let reason = match error {
        ApiError::InvalidLink => {
            text("It was used before, has expired, or was replaced by a newer one.")
        }
        ApiError::AdminExists => text("This gateway has an admin already."),
        error => return Err(error.into()),
    };
    let offers_reset = advice == SEND_ANOTHER;
    // The token is of no use any more, so another language or theme need not keep it.
    let page = Page { path: "/console/login".to_owned(), ..page };
    let mut response = html(&InvalidPage { page, reason, advice, offers_reset })?;
    *response.status_mut() = StatusCode::FORBIDDEN;
    Ok(response)
}

const SEND_ANOTHER: &str = text("Ask for another link, and open the one in the newest mail.");
