//! temporary
use crate::account::key::Pepper;
use crate::callers::cache::CallerCache;
use crate::config::Cors;
use crate::quota::counters::Counters;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::time::Instant;
pub struct ControlState { pub store: Arc<dyn Store>, pub counters: Arc<dyn Counters>, pub callers: Arc<CallerCache>, pub pepper: Pepper, pub readiness: Readiness, pub started_at: Instant, pub cors: Cors }
pub struct AdminState { pub metrics: Arc<Metrics>, pub counters: Arc<dyn Counters>, pub readiness: Readiness }
#[derive(Clone)] pub struct Readiness;
pub enum Phase { Ready, Draining }
impl Readiness { pub fn new() -> Self { Self } pub fn set(&self, _: Phase) {} }
pub fn router(_: ControlState) -> axum::Router { axum::Router::new() }
pub fn admin_router(s: AdminState) -> axum::Router { axum::Router::new().route("/metrics", axum::routing::get(move || { let m = s.metrics.clone(); async move { m.render() } })) }
