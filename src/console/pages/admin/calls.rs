//! Single calls of one user.

use super::{Choice, Tag};
use crate::console::error::{PageError, html};
use crate::console::format::{Time, count, dollars};
use crate::console::outcome;
use crate::console::page::Page;
use crate::console::query::{PageQuery, Pager};
use crate::console::session::AdminOrAuditor;
use crate::control::http::extract::PathParam;
use crate::control::routes::usage::history::{ChargeView, HistoryQuery, rows};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::charge::{Source, Status};
use domain::id::KeyId;
use serde::Deserialize;

/// Calls of one page.
const ROWS: u32 = 30;

#[derive(Template)]
#[template(path = "console/admin/calls.html")]
struct AdminCallsPage {
    page: Page,
    id: String,
    email: String,
    from: String,
    to: String,
    model: String,
    key: String,
    request_id: String,
    statuses: Vec<Choice>,
    rows: Vec<AdminCallRow>,
    pager: Pager,
}

/// The filters, as the address has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallsFilter {
    from: Option<String>,
    to: Option<String>,
    model: Option<String>,
    status: Option<Status>,
    key: Option<KeyId>,
    request_id: Option<String>,
    cursor: Option<String>,
}

struct AdminCallRow {
    request: String,
    at: Time,
    model: String,
    upstream: String,
    key: String,
    status: Tag,
    prompt: String,
    cached: String,
    output: String,
    is_estimate: bool,
    cost: String,
    seconds: String,
}

/// `GET /console/admin/users/{id}/calls`.
pub async fn list(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PathParam(id): PathParam,
    PageQuery(filter): PageQuery<CallsFilter>,
) -> Result<Response, PageError> {
    let page = reader.page;
    let user_id = ControlState::user_id(&id)?;
    let query = HistoryQuery {
        from: filter.from.clone(),
        to: filter.to.clone(),
        model: filter.model.clone(),
        status: filter.status,
        key: filter.key.clone(),
        request_id: filter.request_id.clone(),
        cursor: filter.cursor.clone(),
        limit: Some(ROWS),
        ..HistoryQuery::default()
    };
    // Both to their end, so that an unknown user is the error whatever the filters are.
    let (user, found) = tokio::join!(state.user(&id), rows(&state, user_id, query));
    let (user, found) = (user?, found?);
    html(&AdminCallsPage {
        id: user.id.to_string(),
        email: user.email,
        from: filter.from.unwrap_or_default(),
        to: filter.to.unwrap_or_default(),
        model: filter.model.unwrap_or_default(),
        key: filter.key.map(|key| key.to_string()).unwrap_or_default(),
        request_id: filter.request_id.unwrap_or_default(),
        statuses: status_choices(&page, filter.status),
        pager: Pager::new(&page.path, filter.cursor.as_deref(), found.next_cursor.as_deref()),
        rows: found.data.iter().map(|call| AdminCallRow::of(&page, call)).collect(),
        page,
    })
}

fn status_choices(page: &Page, chosen: Option<Status>) -> Vec<Choice> {
    let choice = |status: Status| {
        Choice::new(status.as_str(), outcome::name(page, status), chosen == Some(status))
    };
    Status::ALL.map(choice).into()
}

impl AdminCallRow {
    fn of(page: &Page, call: &ChargeView) -> Self {
        let tokens = call.tokens;
        Self {
            request: call.request_id.clone(),
            at: Time(call.admitted_at),
            model: call.model.clone(),
            upstream: call.upstream.clone(),
            key: call.key_id.to_string(),
            status: Tag {
                name: outcome::name(page, call.status).to_owned(),
                class: outcome::class(call.status),
            },
            prompt: count(tokens.prompt),
            cached: count(tokens.cached),
            output: count(tokens.completion.saturating_add(tokens.reasoning)),
            is_estimate: call.source == Source::Estimated,
            cost: dollars(call.cost_micro_dollars),
            seconds: format!("{:.1} s", f64::from(call.total_ms) / 1e3),
        }
    }
}
