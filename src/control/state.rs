//! What the control plane works with: the store, the counters, log-ins and this instance.

use super::auth::identity::Identity;
use super::external_login::SignIn;
use super::health::{self, Readiness};
use super::near_limits::NearLimits;
use super::routes::admin::overview::Overviews;
use super::routes::admin::reload::Reloads;
use super::routes::admin::stats::DailyTotals;
use super::routes::admin::top_users::TopReports;
use super::routes::admin::usage::ModelReports;
use super::routes::announcements::CurrentAnnouncements;
use crate::callers::cache::CallerCache;
use crate::config::Cors;
use crate::config::report::SectionReport;
use crate::links::Links;
use crate::mail::Mailer;
use crate::upstream::Upstreams;
use arc_swap::ArcSwap;
use domain::key::Pepper;
use ipnet::IpNet;
use quota::backend::QuotaBackend;
use std::sync::Arc;
use std::time::Instant;
use store::Store;
use telemetry::metrics::Metrics;

/// The state of the control plane's routes.
#[derive(Clone)]
pub struct ControlState {
    pub store: Arc<dyn Store>,
    pub quota: Arc<dyn QuotaBackend>,
    pub callers: Arc<CallerCache>,
    pub pepper: Pepper,
    pub identity: Arc<Identity>,
    /// `None` = users log in with passwords alone.
    pub sign_in: Option<Arc<SignIn>>,
    pub links: Arc<Links>,
    pub mailer: Mailer,
    pub instance: Arc<InstanceInfo>,
    pub overviews: Arc<Overviews>,
    pub top_reports: Arc<TopReports>,
    pub near_limits: Arc<NearLimits>,
    pub announcements: Arc<CurrentAnnouncements>,
    pub model_reports: Arc<ModelReports>,
    pub daily_totals: Arc<DailyTotals>,
}

/// This instance of the gateway, for health and reload.
pub struct InstanceInfo {
    pub readiness: Readiness,
    pub started_at: Instant,
    pub metrics: Arc<Metrics>,
    pub upstreams: Arc<ArcSwap<Upstreams>>,
    pub reloads: Reloads,
    pub checks: health::Checks,
    /// The configuration in force, without secrets.
    pub config: Arc<ArcSwap<Vec<SectionReport>>>,
    /// Held while an upstream is tested.
    pub upstream_test: tokio::sync::Mutex<()>,
}

/// Settings of the edge: allowed origins and trusted proxies.
pub struct EdgeConfig {
    pub cors: Cors,
    pub trusted_proxies: Arc<[IpNet]>,
}
