//! The control plane: everything on the public port outside `/v1`.
//!
//! A request passes the layers of [`http`], an extractor of [`auth`] that decides who may call, and one
//! handler of [`mod@routes`], which reads and writes the store and the quota counters through
//! [`state::ControlState`]. Every error is an [`api_error::ApiError`]. Running calls are never touched, and
//! the data plane works without the control plane.
//!
//! [`router`] serves the public port in process, [`admin_port::router`] the admin port.

pub mod state;
mod lookup;
pub mod account_links;
pub mod external_login;
pub mod api_error;
mod error_sources;
pub mod health;
pub mod near_limits;
pub mod admin_port;
pub mod http;
pub mod auth;
pub mod views;
pub mod routes;
mod openapi;
#[cfg(test)]
pub(crate) mod tests;

use api_error::ApiError;
use axum::Router;
use axum::routing::get;
use http::middleware;
use routes::{account, account_links as links, admin, announcements, export};
use routes::{
    health as health_routes, identities, keys, plans, profile, root, second_factor, session,
};
use routes::{sessions, setup, usage};
use state::{ControlState, EdgeConfig};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// All routes within their layers, with the console's `pages`.
pub fn router(state: ControlState, edge: EdgeConfig, pages: Router<ControlState>) -> Router {
    let (router, description) = routes().split_for_parts();
    let description = root::Description::of(description);
    let router = router
        .route("/api/openapi.json", get(root::openapi).with_state(description))
        .with_state(state.clone());
    let router = middleware::bounded(with_fallbacks(router)).merge(pages.with_state(state));
    middleware::layers(router, &edge.cors, edge.trusted_proxies)
}

/// The handler of each path and method, with the OpenAPI document of both planes.
fn routes() -> OpenApiRouter<ControlState> {
    OpenApiRouter::with_openapi(openapi::data_plane::described(openapi::Description::openapi()))
        .routes(routes!(root::root))
        .routes(routes!(root::api))
        .routes(routes!(health_routes::full))
        .routes(routes!(health_routes::ping))
        .routes(routes!(health_routes::ready))
        .routes(routes!(health_routes::database))
        .routes(routes!(health_routes::keep_alive))
        .routes(routes!(session::register))
        .routes(routes!(session::login))
        .routes(routes!(session::refresh))
        .routes(routes!(session::logout))
        .routes(routes!(links::send_verification))
        .routes(routes!(links::verify_email))
        .routes(routes!(links::forgot_password))
        .routes(routes!(links::reset_password))
        .routes(routes!(links::accept_invitation))
        .routes(routes!(setup::setup))
        .routes(routes!(profile::show, profile::change))
        .routes(routes!(profile::change_password))
        .routes(routes!(sessions::list, sessions::end_others))
        .routes(routes!(sessions::end))
        .routes(routes!(second_factor::show, second_factor::set_up))
        .routes(routes!(second_factor::enable))
        .routes(routes!(second_factor::recovery_codes))
        .routes(routes!(second_factor::disable))
        .routes(routes!(identities::list))
        .routes(routes!(identities::unlink))
        .routes(routes!(export::export))
        .routes(routes!(account::delete))
        .routes(routes!(keys::regenerate))
        .routes(routes!(keys::list, keys::add))
        .routes(routes!(keys::change, keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(usage::live::chat))
        .routes(routes!(usage::live::current))
        .routes(routes!(usage::daily::daily))
        .routes(routes!(usage::monthly::monthly))
        .routes(routes!(usage::history::history))
        .routes(routes!(usage::receipt::receipt))
        .routes(routes!(usage::stats::stats))
        .routes(routes!(plans::list))
        .routes(routes!(plans::show))
        .routes(routes!(plans::compare))
        .routes(routes!(plans::upgrade))
        .routes(routes!(announcements::list))
        .routes(routes!(admin::overview::overview))
        .routes(routes!(admin::stats::daily))
        .routes(routes!(admin::users::list, admin::invitations::add))
        .routes(routes!(admin::invitations::invite))
        .routes(routes!(admin::users::show, admin::users::change, admin::deletion::delete))
        .routes(routes!(admin::calls::list))
        .routes(routes!(admin::calls::show))
        .routes(routes!(admin::keys::list))
        .routes(routes!(admin::keys::revoke))
        .routes(routes!(admin::second_factor::remove))
        .routes(routes!(admin::reset::reset))
        .routes(routes!(admin::top_users::top_users))
        .routes(routes!(admin::plans::add))
        .routes(routes!(admin::plans::change, admin::plans::retire))
        .routes(routes!(admin::upgrades::list))
        .routes(routes!(admin::upgrades::approve))
        .routes(routes!(admin::upgrades::reject))
        .routes(routes!(admin::usage::usage))
        .routes(routes!(admin::announcements::list, admin::announcements::add))
        .routes(routes!(admin::announcements::change, admin::announcements::delete))
        .routes(routes!(admin::models::list))
        .routes(routes!(admin::audit::audit))
        .routes(routes!(admin::system::health))
        .routes(routes!(admin::config::config))
        .routes(routes!(admin::upstreams::list))
        .routes(routes!(admin::upstreams::test))
        .routes(routes!(admin::reload::reload))
}

fn with_fallbacks(router: Router) -> Router {
    router
        .fallback(async || ApiError::RouteNotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
}
