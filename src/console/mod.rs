//! The console: pages at `/console/` for callers and admins, made on the server.
//!
//! A request passes [`guard`], which refuses cross-site changes and adds the headers of every page, an extractor
//! of [`session`] that decides who may see the page, and one handler of [`pages`]. Handlers call the same
//! functions as the JSON API, and never a model. Templates are in `templates/console`, checked when they are
//! compiled; every page works without JavaScript, and `assets/console` makes it smoother.

pub mod texts;
pub mod assets;
pub mod page;
pub mod error;
pub mod error_text;
pub mod forms;
pub mod form_results;
pub mod notice;
pub mod fields;
pub mod query;
pub mod session;
pub mod guard;
pub mod format;
pub mod outcome;
pub mod program;
pub mod chart;
pub mod pages;

use crate::control::http::middleware::bounded;
use crate::control::state::ControlState;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use form_results::FormResults;
use pages::{
    account, admin, confirm, keys, links, login, oidc, overview, plans, playground, preferences,
    signup, usage,
};
use std::sync::Arc;

/// All pages, below `/console`. A page that does not exist is a 404 in the form of a page.
pub fn router(state: &ControlState) -> Router<ControlState> {
    let results = (Arc::<FormResults>::default(), state.clone());
    let pages = Router::new()
        .route("/console", get(overview::show))
        .route("/console/meters", get(overview::meters))
        .route("/console/login", get(login::form).post(login::log_in))
        .route("/console/logout", post(login::log_out))
        .route("/console/signup", get(signup::form).post(signup::sign_up))
        .route("/console/confirm", get(confirm::form).post(confirm::confirm))
        .route("/console/preferences", post(preferences::change))
        .route("/console/assets/{file}", get(assets::serve))
        .merge(oidc::routes())
        .merge(account::routes())
        .merge(links::routes())
        .merge(keys::routes())
        .merge(usage::routes())
        .merge(plans::routes())
        .merge(playground::routes())
        .merge(admin::routes())
        .route("/console/{*path}", get(pages::not_found))
        .method_not_allowed_fallback(pages::method_not_allowed)
        .layer(from_fn_with_state(results, form_results::once));
    bounded(pages).layer(from_fn_with_state(state.pepper.clone(), guard::guard))
}

#[cfg(test)]
mod tests;
