//! The control plane with the console, from its parts.

use super::{EffectiveConfig, Services};
use crate::config::Config;
use crate::console;
use crate::control as control_plane;
use crate::control::auth::identity::Identity;
use crate::control::external_login::SignIn;
use crate::control::health::{Checks, Readiness};
use crate::control::near_limits;
use crate::control::routes;
use crate::control::routes::admin::reload::ReloadRequest;
use crate::control::state::{ControlState, EdgeConfig, InstanceInfo};
use crate::links::Links;
use crate::mail::Mailer;
use std::sync::Arc;
use system::clock;
use tokio::sync::{Mutex, mpsc};

/// The router of everything outside `/v1`.
pub(super) fn control(
    config: &Config,
    parts: &Services,
    readiness: &Readiness,
    (reloads, effective): (mpsc::Sender<ReloadRequest>, Arc<EffectiveConfig>),
    (links, mailer): (Arc<Links>, Mailer),
) -> axum::Router {
    let identity = Identity::new(&parts.pepper, config.accounts.clone(), config.billing);
    let instance = InstanceInfo {
        readiness: readiness.clone(),
        started_at: clock::instant(),
        metrics: Arc::clone(&parts.metrics),
        upstreams: parts.upstreams.clone(),
        reloads,
        checks: Checks::default(),
        config: effective,
        upstream_test: Mutex::default(),
    };
    let state = ControlState {
        store: Arc::clone(&parts.store),
        quota: Arc::clone(&parts.quota),
        callers: Arc::clone(&parts.callers),
        pepper: parts.pepper.clone(),
        identity: Arc::new(identity),
        sign_in: SignIn::new(&parts.pepper, config.oidc.as_ref()),
        links,
        mailer,
        instance: Arc::new(instance),
        overviews: Arc::new(routes::admin::overview::overviews()),
        top_reports: Arc::new(routes::admin::top_users::reports()),
        near_limits: Arc::new(near_limits::near_limits()),
        announcements: Arc::new(routes::announcements::cache()),
        model_reports: Arc::new(routes::admin::usage::model_reports()),
        daily_totals: Arc::new(routes::admin::stats::daily_totals()),
    };
    let edge = EdgeConfig {
        cors: config.cors.clone(),
        trusted_proxies: config.listener.trusted_proxies.clone().into(),
    };
    let pages = console::router(&state);
    control_plane::router(state, edge, pages)
}
