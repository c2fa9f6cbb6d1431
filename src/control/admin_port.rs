//! The admin port: metrics, health and the quota counters. It requires no credential and must not be
//! reachable from outside.

use super::api_error::ApiError;
use super::health::Readiness;
use super::http::extract::Query;
use super::routes::health;
use super::views::period;
use super::with_fallbacks;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use domain::day::Day;
use jiff::tz::TimeZone;
use quota::backend::QuotaBackend;
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use store::Used;
use system::clock;
use telemetry::metrics::Metrics;

/// The state of the admin port's routes.
#[derive(Clone)]
pub struct AdminState {
    pub metrics: Arc<Metrics>,
    pub quota: Arc<dyn QuotaBackend>,
    pub readiness: Readiness,
    /// Host names with a dot that requests to this port may carry.
    pub names: Vec<String>,
}

#[derive(Deserialize)]
struct DayQuery {
    /// `YYYY-MM-DD`; default: today in UTC.
    day: Option<String>,
}

/// The routes of the admin port.
pub fn router(state: AdminState) -> Router {
    let names: Arc<[String]> = state.names.into();
    let router = Router::new()
        .route("/health/ping", get(health::ping))
        .route("/health/ready", get(ready).with_state(state.readiness))
        .route("/metrics", get(scrape).with_state(state.metrics))
        .route("/debug/quota", get(used).with_state(state.quota));
    with_fallbacks(router).layer(from_fn_with_state(names, reject_foreign_hosts))
}

/// Rejects requests whose `Host` is a domain name that is not configured. A web page can point its own domain
/// at this port (DNS rebinding), but not an IP address or a name without a dot.
async fn reject_foreign_hosts(
    State(names): State<Arc<[String]>>,
    request: Request,
    next: Next,
) -> Response {
    // Browsers always send it.
    let Some(host) = request.headers().get(HOST) else { return next.run(request).await };
    if host.to_str().is_ok_and(|host| is_own_host(host, &names)) {
        return next.run(request).await;
    }
    ApiError::ForeignHost.into_response()
}

fn is_own_host(host: &str, names: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_address = name.parse::<IpAddr>().is_ok();
    is_address || !name.contains('.') || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    health::readiness(&readiness)
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

async fn used(
    State(quota): State<Arc<dyn QuotaBackend>>,
    Query(query): Query<DayQuery>,
) -> Result<Json<Vec<Used>>, ApiError> {
    let day = period::day("day", query.day.as_deref())?;
    let day = day.unwrap_or_else(|| Day::at(clock::now(), &TimeZone::UTC));
    Ok(Json(quota.used_on(day).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_a_page_may_own_are_foreign() {
        let names = ["knockx.internal.example".to_owned()];
        for host in [
            "127.0.0.1:9090",
            "[::1]:9090",
            "[::1]",
            "10.0.0.7",
            "localhost:9090",
            "gateway-1:9090",
            "Knockx.Internal.example:9090",
        ] {
            assert!(is_own_host(host, &names), "{host}");
        }
        for host in [
            "",
            "attacker.example",
            "attacker.example:9090",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example:9090",
            "knockx.internal.example.attacker.example",
            "attacker.example.",
            "127.0.0.1@attacker.example",
            "a b",
        ] {
            assert!(!is_own_host(host, &names), "{host}");
        }
    }
}
