//! The filtered calls as one CSV file. It is read and sent page by page, so that its size takes no memory.

use super::filters::{CallFilters, Filters};
use super::list::today;
use crate::console::error::PageError;
use crate::console::format::count;
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::http::csv;
use crate::control::http::extract::Query;
use crate::control::http::pagination;
use crate::control::routes::usage::history::{self, ChargeView};
use crate::control::state::ControlState;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use domain::id::UserId;
use futures_util::stream;

/// The most calls of one file.
const MAX_CALLS: u64 = 200_000;

/// What is left to send.
struct UsageExport {
    state: ControlState,
    user: UserId,
    query: CallFilters,
    filters: Filters,
    next: Next,
}

/// The next piece of the file.
enum Next {
    First,
    /// The page at this cursor.
    Page(String),
    Nothing,
}

/// `GET /console/usage.csv`.
pub async fn save(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    query: Result<Query<CallFilters>, ApiError>,
) -> Result<Response, PageError> {
    let Query(query) = query?;
    let SignedIn { page, current, .. } = signed_in;
    let user = current.user;
    let filters = query.read(&page, today(&state, &user).await?);
    let filters = filters.map_err(ApiError::FormField)?;
    let (from, to) = (filters.period.from, filters.period.to);
    // Found by its id, a request is one row or few.
    if query.request.is_empty() {
        let totals = state.store.usage_by_model(user.id, from, to).await?;
        let is_asked = |model: &str| query.model.is_empty() || query.model == model;
        let totals = totals.iter().filter(|(model, _)| is_asked(model));
        check(&page, totals.map(|(_, sums)| sums.calls).sum())?;
    }
    let export = UsageExport { state, user: user.id, query, filters, next: Next::First };
    // The first piece is read before the head is sent: an outage is still an error page.
    let first = piece(export).await?;
    let body = Body::from_stream(stream::try_unfold(first, |piece| async move {
        let Some((text, rest)) = piece else { return Ok::<_, ApiError>(None) };
        let next = if let Next::Nothing = rest.next { None } else { self::piece(rest).await? };
        Ok(Some((text, next)))
    }));
    Ok(csv::reply(body, "usage.csv"))
}

fn check(page: &Page, calls: u64) -> Result<(), ApiError> {
    if calls <= MAX_CALLS {
        return Ok(());
    }
    let problem = page.fill(
        "These days have {} calls, but a file has at most {}. Choose fewer days.",
        &[&count(calls), &count(MAX_CALLS)],
    );
    Err(ApiError::form_field(problem))
}

/// The next piece of the file, and what is left after it.
async fn piece(mut export: UsageExport) -> Result<Option<(Bytes, UsageExport)>, ApiError> {
    let (head, cursor) = match &export.next {
        Next::First => (Some(history::CSV_HEAD.map(str::to_owned)), export.query.cursor.clone()),
        Next::Page(cursor) => (None, cursor.clone()),
        Next::Nothing => return Ok(None),
    };
    let query = CallFilters { cursor, ..export.query.clone() };
    let asked = query.history(&export.filters, pagination::MAX_LIMIT);
    let rows = history::rows(&export.state, export.user, asked).await?;
    let text = csv::written(head.into_iter().chain(rows.data.iter().map(ChargeView::fields)))?;
    export.next = rows.next_cursor.map_or(Next::Nothing, Next::Page);
    Ok(Some((Bytes::from(text), export)))
}
