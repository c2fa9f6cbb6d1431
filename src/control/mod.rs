//! The control plane: everything on the public port outside `/v1`.
//!
//! Plain data in, JSON out; every refusal is an [`api_error::ApiError`], and who may ask is what a
//! handler takes from [`auth`]. It never touches a running call: it reads the store and the counters
//! like any other client, and the data plane works without it. [`router`] is called in process,
//! [`admin_router`] on a port of its own.

pub mod api_error;
pub mod health;
pub mod admin_port;
mod around;
mod body;
mod page;
mod kept;
mod fields;
mod validator;
mod token;
mod throttle;
mod guesses;
mod passwords;
pub mod identity;
mod auth;
mod session;
mod profile;
mod keys;
mod plans;
mod usage;
pub mod admin;
mod openapi;
mod data_plane;
mod about;
#[cfg(test)]
mod tests;

use crate::account::key::Pepper;
use crate::callers::cache::CallerCache;
use crate::config::Cors;
use crate::quota::counters::Counters;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::upstream::InForce;
use admin::overview::Overviews;
use admin::reload::Reloads;
use admin::top_users::TopReports;
use api_error::ApiError;
use axum::Router;
use axum::routing::get;
use identity::Identity;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Instant;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use admin_port::{AdminState, router as admin_router};
pub use health::{Phase, Readiness};

/// What the routes work with.
#[derive(Clone)]
pub struct ControlState {
    pub store: Arc<dyn Store>,
    pub counters: Arc<dyn Counters>,
    pub callers: Arc<CallerCache>,
    pub pepper: Pepper,
    pub identity: Arc<Identity>,
    pub instance: Arc<ThisInstance>,
    pub overviews: Arc<Overviews>,
    pub top_reports: Arc<TopReports>,
}

/// The gateway itself, as its health routes see it.
pub struct ThisInstance {
    pub readiness: Readiness,
    pub started_at: Instant,
    pub metrics: Arc<Metrics>,
    pub upstreams: InForce,
    pub reloads: Reloads,
    pub checks: health::Checks,
}

/// Who is answered, and how.
pub struct Doors {
    pub cors: Cors,
    pub trusted_proxies: Arc<[IpNet]>,
}

/// The routes as one table, and what surrounds them.
pub fn router(state: ControlState, doors: Doors) -> Router {
    let (router, description) = routes().split_for_parts();
    let description = about::Description::of(description);
    let router = router
        .route("/api/openapi.json", get(about::openapi).with_state(description))
        .route("/console", get(async || ApiError::NotBuilt("The console")))
        .with_state(state);
    around::surround(refusing_the_rest(router), &doors.cors, doors.trusted_proxies)
}

/// What each path and method is answered by; the description of both planes comes with it.
fn routes() -> OpenApiRouter<ControlState> {
    OpenApiRouter::with_openapi(data_plane::described(openapi::Description::openapi()))
        .routes(routes!(about::root))
        .routes(routes!(about::api))
        .routes(routes!(health::full))
        .routes(routes!(health::ping))
        .routes(routes!(health::ready))
        .routes(routes!(health::database))
        .routes(routes!(health::keep_alive))
        .routes(routes!(session::register))
        .routes(routes!(session::login))
        .routes(routes!(session::refresh))
        .routes(routes!(session::logout))
        .routes(routes!(profile::show, profile::change))
        .routes(routes!(profile::change_password))
        .routes(routes!(keys::regenerate))
        .routes(routes!(keys::list, keys::add))
        .routes(routes!(keys::change, keys::revoke))
        .routes(routes!(usage::live::chat))
        .routes(routes!(usage::live::current))
        .routes(routes!(usage::daily::daily))
        .routes(routes!(usage::monthly::monthly))
        .routes(routes!(usage::history::history))
        .routes(routes!(usage::stats::stats))
        .routes(routes!(plans::list))
        .routes(routes!(plans::show))
        .routes(routes!(plans::compare))
        .routes(routes!(plans::upgrade))
        .routes(routes!(admin::overview::overview))
        .routes(routes!(admin::users::list))
        .routes(routes!(admin::users::show, admin::users::change))
        .routes(routes!(admin::keys::list))
        .routes(routes!(admin::keys::revoke))
        .routes(routes!(admin::reset::reset))
        .routes(routes!(admin::top_users::top_users))
        .routes(routes!(admin::plans::add))
        .routes(routes!(admin::plans::change, admin::plans::retire))
        .routes(routes!(admin::upgrades::list))
        .routes(routes!(admin::upgrades::approve))
        .routes(routes!(admin::upgrades::reject))
        .routes(routes!(admin::audit::audit))
        .routes(routes!(admin::system::health))
        .routes(routes!(admin::reload::reload))
}

fn refusing_the_rest(router: Router) -> Router {
    router
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
}
