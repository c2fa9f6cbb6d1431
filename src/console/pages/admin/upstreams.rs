//! The upstreams as this gateway sees them now, and a test of each.

use super::{NoFields, Tag};
use crate::console::error::{PageError, html};
use crate::console::format::{Time, count};
use crate::console::forms::SafeForm;
use crate::console::notice::{Notice, NoticeQuery, noticed};
use crate::console::page::{Page, text};
use crate::console::query::PageQuery;
use crate::console::session::{AdminOnly, AdminOrAuditor};
use crate::control::http::extract::PathParam;
use crate::control::routes::admin::upstreams::{
    BreakerState, UpstreamDetail, UpstreamFailureView, UpstreamTest, all, tested,
};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use system::clock;

/// This page.
const PATH: &str = "/console/admin/upstreams";

#[derive(Template)]
#[template(path = "console/admin/upstreams.html")]
struct UpstreamsPage {
    page: Page,
    /// The result of a test, if one was asked for.
    notice: Option<Notice>,
    upstreams: Vec<UpstreamCard>,
}

struct UpstreamCard {
    name: String,
    base_url: String,
    breaker: Tag,
    rejects_account: bool,
    failures: String,
    in_flight: String,
    max_in_flight: String,
    waiting: String,
    calls: String,
    failed: String,
    errors: Vec<FailureRow>,
}

/// One of the last failures.
struct FailureRow {
    at: Time,
    reason: String,
    status: String,
}

/// `GET /console/admin/upstreams`.
pub async fn list(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PageQuery(query): PageQuery<NoticeQuery>,
) -> Result<Response, PageError> {
    let page = reader.page;
    let upstreams = all(&state, clock::now());
    let upstreams =
        upstreams.into_iter().map(|upstream| UpstreamCard::of(&page, upstream)).collect();
    html(&UpstreamsPage { notice: query.read(&page, PATH), upstreams, page })
}

/// `POST /console/admin/upstreams/{name}/test`. It costs nothing and changes nothing, so no password is asked.
pub async fn test(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(name): PathParam,
    SafeForm(_): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    let result = tested(&state, &name).await?;
    let notice = test_result(&admin.page, &name, &result);
    Ok(noticed(&admin.page, PATH, &notice))
}

fn test_result(page: &Page, name: &str, result: &UpstreamTest) -> Notice {
    let ms = format!("{:.0}", result.latency_ms);
    let took = page.fill("{} tested in {} ms", &[&name, &ms]);
    let status = result.status.map(|status| format!(" · HTTP {status}")).unwrap_or_default();
    Notice { failed: !result.ok, sentence: format!("{took}{status} · {}", meaning(page, result)) }
}

/// What the test has shown.
fn meaning<'a>(page: &'a Page, result: &'a UpstreamTest) -> &'a str {
    match result.status {
        None => page.t("The upstream did not respond."),
        Some(200..=299) => page.t("The upstream lists its models."),
        Some(401 | 403) => {
            page.t("The upstream rejects the API key. Check the key and its account.")
        }
        Some(402) => page.t("The upstream rejects the account. Check its balance."),
        Some(404 | 405) => page.t("The upstream responds, but does not list its models."),
        Some(429) => page.t("The rate limit of the upstream is reached."),
        Some(500..=599) => page.t("The upstream responds with a server error."),
        Some(_) => page.t("The upstream rejects the request. Check its base URL."),
    }
}

impl UpstreamCard {
    fn of(page: &Page, upstream: UpstreamDetail) -> Self {
        Self {
            breaker: match upstream.breaker {
                BreakerState::Closed => Tag::new(page, text("in use"), "good"),
                BreakerState::HalfOpen => Tag::new(page, text("being tried again"), "warn"),
                BreakerState::Open => Tag::new(page, text("paused after failures"), "bad"),
            },
            rejects_account: upstream.rejects_account,
            failures: count(u64::from(upstream.failures)),
            in_flight: count(u64::from(upstream.in_flight)),
            max_in_flight: count(u64::from(upstream.max_in_flight)),
            waiting: count(upstream.waiting),
            calls: count(upstream.recent_calls),
            failed: share(upstream.recent_failures, upstream.error_share),
            errors: upstream.last_errors.iter().map(FailureRow::of).collect(),
            name: upstream.name,
            base_url: upstream.base_url,
        }
    }
}

fn share(failures: u64, share: Option<f64>) -> String {
    match share {
        Some(share) => format!("{} ({:.1} %)", count(failures), share * 100.0),
        None => count(failures),
    }
}

impl FailureRow {
    fn of(failure: &UpstreamFailureView) -> Self {
        Self {
            at: Time(failure.at),
            reason: failure.reason.to_owned(),
            status: failure.status.map(|status| format!("HTTP {status}")).unwrap_or_default(),
        }
    }
}
