//! The control plane: everything on the public port outside `/v1`.
//!
//! Plain data in, JSON out; every refusal is an [`api_error::ApiError`]. It never touches a
//! running call: it reads the store and the counters like any other client, and the data plane
//! works without it. [`router`] is called in process, [`admin_router`] on a port of its own.

pub mod api_error;
pub mod health;
pub mod admin;
mod around;
mod auth;
mod plans;
mod usage;
mod validator;
mod not_built;
#[cfg(test)]
mod tests;

use crate::account::key::Pepper;
use crate::callers::cache::CallerCache;
use crate::config::Cors;
use crate::quota::counters::Counters;
use crate::store::Store;
use api_error::ApiError;
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use std::sync::Arc;
use std::time::Instant;

pub use admin::{AdminState, router as admin_router};
pub use health::{Phase, Readiness};

/// What the routes work with.
#[derive(Clone)]
pub struct ControlState {
    pub store: Arc<dyn Store>,
    pub counters: Arc<dyn Counters>,
    pub callers: Arc<CallerCache>,
    pub pepper: Pepper,
    pub readiness: Readiness,
    pub started_at: Instant,
    pub cors: Cors,
}

/// The routes as one table, and what surrounds them.
pub fn router(state: ControlState) -> Router {
    let cors = state.cors.clone();
    let built = [
        ("/", get(about)),
        ("/api", get(about)),
        ("/health", get(health::full)),
        ("/health/ping", get(health::ping)),
        ("/health/ready", get(health::ready).with_state(state.readiness.clone())),
        ("/health/database", get(health::database)),
        ("/health/keep-alive", get(health::keep_alive)),
        ("/api/v1/chat/usage", get(usage::live)),
        ("/api/v1/plans", get(plans::list)),
        ("/api/v1/plans/{id}", get(plans::show)),
    ];
    let table = built.into_iter().chain(not_built::routes());
    let router = table.fold(Router::new(), with_and_without_slash).with_state(state);
    around::surround(refusing_the_rest(router), &cors)
}

/// Every route answers with and without a trailing slash: a redirect would lose a POST's body.
fn with_and_without_slash<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    (path, methods): (&str, MethodRouter<S>),
) -> Router<S> {
    let router = router.route(path, methods.clone());
    if path.ends_with('/') { router } else { router.route(&format!("{path}/"), methods) }
}

fn refusing_the_rest(router: Router) -> Router {
    router
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
}

async fn about() -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "name": "KnockXPrime",
        "version": env!("CARGO_PKG_VERSION"),
        "links": {
            "chat_completions": "/v1/chat/completions",
            "models": "/v1/models",
            "usage": "/api/v1/chat/usage",
            "plans": "/api/v1/plans/",
            "health": "/health/",
        },
    }))
}
