//! The API keys of a user. A key is shown once, on the page that answers its creation or rotation.

mod list;
mod settings;
mod create;
mod change;
mod rotate;
mod revoke;

use crate::console::error::{PageError, html};
use crate::console::page::Page;
use crate::console::pages::overview::{Snippet, snippets};
use crate::control::state::ControlState;
use askama::Template;
use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use domain::key::{Key, PlainKey};

/// The pages below `/console/keys`.
pub fn routes() -> Router<ControlState> {
    Router::new()
        .route("/console/keys", get(list::show))
        .route("/console/keys/new", get(create::form).post(create::create))
        .route("/console/keys/{id}", get(change::form).post(change::change))
        .route("/console/keys/{id}/rotate", get(rotate::form).post(rotate::rotate))
        .route("/console/keys/{id}/revoke", get(revoke::form).post(revoke::revoke))
}

/// A new key, which no other page shows.
#[derive(Template)]
#[template(path = "console/keys/created.html")]
struct CreatedPage {
    page: Page,
    name: String,
    api_key: String,
    /// What becomes of the key that it replaces; empty if there is none.
    old: String,
    snippets: Vec<Snippet>,
}

fn created(
    page: Page,
    state: &ControlState,
    (plain, key): (PlainKey, Key),
    old: String,
) -> Result<Response, PageError> {
    let api_key = plain.reveal().to_owned();
    let snippets = snippets(&page, state, &api_key);
    let mut response = html(&CreatedPage { page, name: key.name, api_key, old, snippets })?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}
