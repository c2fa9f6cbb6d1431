//! What all users used in a month, by user, by user and model, or by model.

use super::Choice;
use crate::console::error::{PageError, html};
use crate::console::format::{count, dollars};
use crate::console::page::{Page, text};
use crate::console::query::{PageQuery, Pager};
use crate::console::session::AdminOrAuditor;
use crate::control::routes::admin::usage::{UsageBy, UsageQuery, UsageRow, csv_of, page as rows};
use crate::control::routes::usage::history::Format;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use jiff::ToSpan;
use jiff::tz::TimeZone;
use serde::Deserialize;
use system::clock;

/// Months that the page offers.
const MONTHS: i32 = 13;
/// Rows of a page: each is the sum of a month's rows of its user.
const ROWS: u32 = 20;

#[derive(Template)]
#[template(path = "console/admin/usage.html")]
struct AdminUsagePage {
    page: Page,
    months: Vec<Choice>,
    groupings: Vec<Choice>,
    /// This page as a file.
    csv: String,
    has_users: bool,
    has_models: bool,
    rows: Vec<UserUsageRow>,
    pager: Pager,
}

/// The filters, as the address has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageFilter {
    month: Option<String>,
    by: Option<UsageBy>,
    cursor: Option<String>,
    format: Option<Format>,
}

struct UserUsageRow {
    /// The page of the user, if the account exists.
    link: Option<String>,
    user: String,
    plan: String,
    model: String,
    calls: String,
    failed: String,
    prompt: String,
    cached: String,
    completion: String,
    reasoning: String,
    cost: String,
}

/// `GET /console/admin/usage`.
pub async fn show(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PageQuery(filter): PageQuery<UsageFilter>,
) -> Result<Response, PageError> {
    let page = reader.page;
    let by = filter.by.unwrap_or(UsageBy::User);
    let query = UsageQuery {
        month: filter.month.clone(),
        by: Some(by),
        cursor: filter.cursor.clone(),
        limit: Some(ROWS),
        ..UsageQuery::default()
    };
    if filter.format == Some(Format::Csv) {
        return Ok(csv_of(&state, query).await?);
    }
    let found = rows(&state, query).await?;
    let months = months(filter.month.as_deref());
    let month =
        months.iter().find(|month| month.is_chosen).map_or("", |month| month.value.as_str());
    html(&AdminUsagePage {
        csv: format!("/console/admin/usage?month={month}&by={}&format=csv", word_of(by)),
        groupings: grouping_choices(&page, by),
        has_users: by != UsageBy::Model,
        has_models: by != UsageBy::User,
        pager: Pager::new(&page.path, filter.cursor.as_deref(), found.next_cursor.as_deref()),
        rows: found.data.iter().map(|row| UserUsageRow::of(&page, row)).collect(),
        months,
        page,
    })
}

/// The last months, the latest first. The chosen one is the present month by default.
fn months(asked: Option<&str>) -> Vec<Choice> {
    let today = clock::now().to_zoned(TimeZone::UTC).date();
    let month = |ago: i32| today.saturating_sub(ago.months()).strftime("%Y-%m").to_string();
    let mut names: Vec<String> = (0..MONTHS).map(month).collect();
    let chosen = asked.map_or_else(|| month(0), str::to_owned);
    if !names.contains(&chosen) {
        names.push(chosen.clone());
    }
    names.iter().map(|name| Choice::new(name, name, *name == chosen)).collect()
}

fn grouping_choices(page: &Page, chosen: UsageBy) -> Vec<Choice> {
    let all = [
        (UsageBy::User, text("by user")),
        (UsageBy::UserModel, text("by user and model")),
        (UsageBy::Model, text("by model")),
    ];
    all.map(|(by, name)| Choice::new(word_of(by), page.t(name), by == chosen)).into()
}

fn word_of(by: UsageBy) -> &'static str {
    match by {
        UsageBy::User => "user",
        UsageBy::UserModel => "user_model",
        UsageBy::Model => "model",
    }
}

impl UserUsageRow {
    fn of(page: &Page, row: &UsageRow) -> Self {
        let (sums, tokens) = (&row.sums, row.sums.tokens);
        let deleted = || page.t(text("deleted account")).to_owned();
        Self {
            link: row.user_id.map(|id| format!("/console/admin/users/{id}")),
            user: row.email.clone().unwrap_or_else(deleted),
            plan: row.plan.as_ref().map(ToString::to_string).unwrap_or_default(),
            model: row.model.clone().unwrap_or_default(),
            calls: count(sums.calls),
            failed: count(sums.failed),
            prompt: count(tokens.prompt),
            cached: count(tokens.cached),
            completion: count(tokens.completion),
            reasoning: count(tokens.reasoning),
            cost: dollars(sums.cost_micro_dollars),
        }
    }
}
