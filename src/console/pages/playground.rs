//! The playground: one message to a model. A script of the page calls `/v1` with the user's own key, as any client
//! does; the key never comes here.

use super::overview::{Snippet, snippets};
use crate::console::error::{PageError, html};
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::state::ControlState;
use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use domain::plan::PlanLimits;
use std::sync::Arc;
use store::KeyFilter;
use wire::surface::Surface;

#[derive(Template)]
#[template(path = "console/playground.html")]
struct PlaygroundPage {
    page: Page,
    models: Vec<Arc<str>>,
    has_key: bool,
    /// The call by curl, for readers without scripts.
    snippets: Vec<Snippet>,
}

/// The page `/console/playground`.
pub fn routes() -> Router<ControlState> {
    Router::new().route("/console/playground", get(show))
}

/// `GET /console/playground`.
pub async fn show(
    State(state): State<ControlState>,
    signed_in: SignedIn,
) -> Result<Response, PageError> {
    let SignedIn { page, current, .. } = signed_in;
    let limits = state.limits_of(&current.user).await?;
    let filter = KeyFilter { live: true, after: None };
    let has_key = !state.store.keys(current.user.id, &filter, 1).await?.is_empty();
    let snippets = snippets(&page, &state, "$KNOCKX_KEY").into_iter().take(1).collect();
    html(&PlaygroundPage { models: chat_models(&state, &limits), has_key, snippets, page })
}

/// The models within the limits that chat.
fn chat_models(state: &ControlState, limits: &PlanLimits) -> Vec<Arc<str>> {
    let upstreams = state.instance.upstreams.load();
    let models = upstreams.catalog.models.iter().filter(|model| limits.allows(&model.id));
    let chats = models
        .filter(|model| model.routes.iter().any(|route| route.offers(Surface::ChatCompletions)));
    chats.map(|model| Arc::clone(&model.id)).collect()
}
