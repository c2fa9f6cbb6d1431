//! The totals of the chosen days, from the rollups, and the calls in pages.

use super::filters::{CallFilters, Filters};
use crate::console::error::{PageError, html};
use crate::console::format::{Time, duration};
use crate::console::outcome;
use crate::console::page::{Page, text};
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::auth::AnyCredential;
use crate::control::http::extract::Query;
use crate::control::http::pagination;
use crate::control::routes::usage::history::{self, ChargeView};
use crate::control::routes::usage::live;
use crate::control::state::ControlState;
use crate::control::views::period::Period;
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::charge::Status;
use domain::day::Day;
use domain::id::{KeyId, UserId};
use domain::key::Key;
use domain::user::User;
use std::collections::HashMap;
use store::all_keys;
use store::reports::Sums;
use system::clock;

/// Calls of one page.
const ROWS: u32 = 30;
const PATH: &str = "/console/usage";

#[derive(Template)]
#[template(path = "console/usage/list.html")]
struct UsagePage {
    page: Page,
    problem: String,
    query: CallFilters,
    keys: Vec<FilterChoice>,
    models: Vec<FilterChoice>,
    statuses: Vec<FilterChoice>,
    totals_title: String,
    totals: Vec<(String, Sums)>,
    sum: Sums,
    calls: Vec<CallRow>,
    csv: String,
    newest: Option<String>,
    older: Option<String>,
}

/// One value that a filter can have.
struct FilterChoice {
    value: String,
    name: String,
    is_chosen: bool,
}

/// One call of the list.
struct CallRow {
    request: String,
    admitted: Time,
    model: String,
    key: String,
    status: String,
    class: &'static str,
    tokens: u64,
    cost_micro_dollars: i64,
    took: String,
}

/// `GET /console/usage`.
pub async fn show(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    query: Result<Query<CallFilters>, ApiError>,
) -> Result<Response, PageError> {
    let Query(query) = query?;
    let SignedIn { page, current, .. } = signed_in;
    let user = current.user;
    // Bounded: an account has at most 600 keys.
    let keys = async { Ok(all_keys(&*state.store, user.id).await?) };
    let (today, keys) = tokio::try_join!(today(&state, &user), keys)?;
    let (found, problem, status) = match query.read(&page, today) {
        Ok(filters) => {
            (found(&state, user.id, &query, &filters).await?, String::new(), StatusCode::OK)
        }
        Err(problem) => (Found::nothing(today)?, problem, StatusCode::UNPROCESSABLE_ENTITY),
    };
    let view = view(page, (query, problem), &keys, found);
    let mut response = html(&view)?;
    *response.status_mut() = status;
    Ok(response)
}

/// The day that it is for the user.
pub async fn today(state: &ControlState, user: &User) -> Result<Day, ApiError> {
    let credential = AnyCredential::User(Box::new(user.clone()));
    live::today(state, &credential, clock::now()).await
}

/// What the filters find.
struct Found {
    period: Period,
    totals: Vec<(String, Sums)>,
    calls: pagination::Page<ChargeView>,
}

impl Found {
    fn nothing(today: Day) -> Result<Self, ApiError> {
        let calls = pagination::Page::single(Vec::new());
        Ok(Self { period: Period::asked(None, None, today)?, totals: Vec::new(), calls })
    }
}

async fn found(
    state: &ControlState,
    user: UserId,
    query: &CallFilters,
    filters: &Filters,
) -> Result<Found, ApiError> {
    let period = filters.period;
    let (totals, calls) = tokio::try_join!(
        async { Ok(state.store.usage_by_model(user, period.from, period.to).await?) },
        history::rows(state, user, query.history(filters, ROWS)),
    )?;
    Ok(Found { period, totals, calls })
}

fn view(
    page: Page,
    (query, problem): (CallFilters, String),
    keys: &[Key],
    found: Found,
) -> UsagePage {
    let Found { period, mut totals, calls } = found;
    let models = model_choices(&totals, &query.model);
    let title = if query.is_narrowed() {
        text("Totals of all keys and outcomes from {} to {}")
    } else {
        text("Totals from {} to {}")
    };
    totals.retain(|(model, _)| query.model.is_empty() || *model == query.model);
    let names: HashMap<&KeyId, &str> =
        keys.iter().map(|key| (&key.id, key.name.as_str())).collect();
    UsagePage {
        keys: key_choices(keys, &query.key),
        models,
        statuses: status_choices(&page, &query.status),
        totals_title: page.fill(title, &[&period.from, &period.to]),
        sum: totals.iter().map(|(_, sums)| sums).sum(),
        totals,
        calls: calls.data.iter().map(|call| CallRow::of(&page, &names, call)).collect(),
        csv: query.address("/console/usage.csv", None),
        newest: (!query.cursor.is_empty()).then(|| query.address(PATH, None)),
        older: calls.next_cursor.map(|cursor| query.address(PATH, Some(&cursor))),
        page,
        problem,
        query,
    }
}

/// The keys that work, and the chosen one.
fn key_choices(keys: &[Key], chosen: &str) -> Vec<FilterChoice> {
    let is_shown = |key: &&Key| key.revoked_at.is_none() || key.id.as_str() == chosen;
    let choice = |key: &Key| FilterChoice {
        value: key.id.to_string(),
        name: format!("{} (…{})", key.name, key.last_four),
        is_chosen: key.id.as_str() == chosen,
    };
    with_chosen(keys.iter().filter(is_shown).map(choice).collect(), chosen)
}

/// The models that were used on these days, and the chosen one.
fn model_choices(totals: &[(String, Sums)], chosen: &str) -> Vec<FilterChoice> {
    let choice = |(id, _): &(String, Sums)| FilterChoice {
        value: id.clone(),
        name: id.clone(),
        is_chosen: id == chosen,
    };
    with_chosen(totals.iter().map(choice).collect(), chosen)
}

fn status_choices(page: &Page, chosen: &str) -> Vec<FilterChoice> {
    let choice = |status: Status| FilterChoice {
        value: status.as_str().to_owned(),
        name: outcome::name(page, status).to_owned(),
        is_chosen: status.as_str() == chosen,
    };
    Status::ALL.map(choice).into()
}

/// Keeps a chosen value in the form although it is none of the usual ones.
fn with_chosen(mut choices: Vec<FilterChoice>, chosen: &str) -> Vec<FilterChoice> {
    if !chosen.is_empty() && !choices.iter().any(|choice| choice.is_chosen) {
        let (value, name) = (chosen.to_owned(), chosen.to_owned());
        choices.push(FilterChoice { value, name, is_chosen: true });
    }
    choices
}

impl CallRow {
    fn of(page: &Page, keys: &HashMap<&KeyId, &str>, call: &ChargeView) -> Self {
        let key = keys.get(&call.key_id).copied().unwrap_or(call.key_id.as_str());
        Self {
            request: call.request_id.clone(),
            admitted: Time(call.admitted_at),
            model: call.model.clone(),
            key: key.to_owned(),
            status: outcome::name(page, call.status).to_owned(),
            class: outcome::class(call.status),
            tokens: call.tokens.total,
            cost_micro_dollars: call.cost_micro_dollars,
            took: duration(call.total_ms),
        }
    }
}
