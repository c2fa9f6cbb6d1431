//! The first page of admins: what all users used, how calls ended, and who used most.

use crate::console::chart::{self, Bar};
use crate::console::error::{PageError, html};
use crate::console::format::{count, dollars};
use crate::console::page::{Page, text};
use crate::console::session::AdminOrAuditor;
use crate::control::near_limits;
use crate::control::routes::admin::overview::Overview;
use crate::control::routes::admin::{overview, stats, top_users};
use crate::control::state::ControlState;
use crate::control::views::period::Period;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::day::Day;
use domain::id::PlanId;
use domain::plan::Plan;
use domain::user::User;
use jiff::ToSpan;
use store::reports::{DayTotals, Latency, NearLimit, Sums, TopBy};

/// Users that each list shows.
const LISTED: usize = 10;

#[derive(Template)]
#[template(path = "console/admin/overview.html")]
struct AdminOverviewPage {
    page: Page,
    cards: Vec<Card>,
    chart: String,
    days: Vec<AdminDayRow>,
    top: Vec<TopList>,
    near: Vec<NearLimitRow>,
    plans: Vec<PlanRow>,
}

/// A number with what it means.
struct Card {
    name: String,
    value: String,
    note: String,
}

/// A day of the chart's table.
struct AdminDayRow {
    day: Day,
    calls: String,
    tokens: String,
    cost: String,
    errors: String,
}

/// The users who used most of one day.
struct TopList {
    name: String,
    rows: Vec<TopRow>,
}

struct TopRow {
    id: String,
    email: String,
    tokens: String,
    calls: String,
    cost: String,
}

/// A user who has used most of a limit of today.
struct NearLimitRow {
    id: String,
    email: String,
    limit: String,
    percent: u64,
}

struct PlanRow {
    name: String,
    users: String,
}

/// `GET /console/admin`.
pub async fn show(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
) -> Result<Response, PageError> {
    let page = reader.page;
    let overview = overview::today(&state).await?;
    let today = overview.day;
    let period = Period::asked(None, None, today)?;
    let totals = stats::of_period(&state, period).await?;
    let plans = state.store.plans().await?;
    let day = |day: Day| Period { from: day, to: day };
    let yesterday = Day(today.0.saturating_sub(1.day()));
    let used_today = top_users::top_of(&state, day(today), TopBy::Tokens).await?;
    let used_yesterday = top_users::top_of(&state, day(yesterday), TopBy::Tokens).await?;
    let near = near_limits::of_day(&state, today).await?;
    let by_day = totals.iter().map(|day| (day.day, day.sums)).collect();
    let by_day: Vec<(Day, Sums)> = period.filled(by_day);
    let bars: Vec<Bar> = by_day.iter().map(|(day, sums)| bar(*day, sums)).collect();
    html(&AdminOverviewPage {
        cards: cards(&page, &overview, &totals),
        chart: chart::bars(page.t("Tokens of all users per day"), &bars),
        days: by_day.iter().rev().map(|(day, sums)| AdminDayRow::of(*day, sums)).collect(),
        top: vec![
            TopList { name: page.t("Most tokens today").to_owned(), rows: top_rows(&used_today) },
            TopList {
                name: page.t("Most tokens yesterday").to_owned(),
                rows: top_rows(&used_yesterday),
            },
        ],
        near: near.iter().map(|near| NearLimitRow::of(&page, near)).collect(),
        plans: plan_rows(&plans, &overview),
        page,
    })
}

fn cards(page: &Page, overview: &Overview, totals: &[DayTotals]) -> Vec<Card> {
    let month: Sums = totals.iter().map(|day| &day.sums).sum();
    let today = &overview.today;
    let of_today = totals.iter().filter(|day| day.day == overview.day);
    let latency: Latency = of_today.map(|day| &day.latency).sum();
    let durations: Latency = totals.iter().map(|day| &day.latency).sum();
    let card = |name: &str, value: String, month: String| Card {
        name: page.t(name).to_owned(),
        value,
        note: page.fill("30 days: {}", &[&month]),
    };
    let cents = i64::try_from(overview.monthly_recurring_revenue_cents).unwrap_or(i64::MAX);
    let users = &overview.users;
    vec![
        card(text("Calls today"), count(today.calls), count(month.calls)),
        card(text("Tokens today"), count(today.tokens.total), count(month.tokens())),
        card(
            text("Cost today"),
            dollars(today.cost_micro_dollars),
            dollars(month.cost_micro_dollars),
        ),
        card(
            text("Failed calls today"),
            percent(today.failed, today.calls),
            percent(month.failed, month.calls),
        ),
        card(text("Duration today (p50 / p95 / p99)"), shares(&latency), shares(&durations)),
        Card {
            name: page.t("Plan prices per month").to_owned(),
            value: dollars(cents.saturating_mul(10_000)),
            note: page.t("of all active users").to_owned(),
        },
        Card {
            name: page.t("Users").to_owned(),
            value: count(users.total),
            note: page.fill(
                text("{} with calls today, {} suspended"),
                &[&count(overview.active_today), &count(users.suspended)],
            ),
        },
    ]
}

/// A share of calls, with one decimal.
fn percent(part: u64, whole: u64) -> String {
    let tenths = part.saturating_mul(1000).checked_div(whole).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Three quantiles of durations, in seconds.
fn shares(latency: &Latency) -> String {
    let seconds = |share| {
        let ms = latency.quantile(share);
        ms.map_or_else(|| "–".to_owned(), |ms| format!("{:.1} s", f64::from(ms) / 1e3))
    };
    format!("{} / {} / {}", seconds(0.5), seconds(0.95), seconds(0.99))
}

fn bar(day: Day, sums: &Sums) -> Bar {
    Bar { label: day.0.strftime("%m-%d").to_string(), value: sums.tokens() }
}

impl AdminDayRow {
    fn of(day: Day, sums: &Sums) -> Self {
        Self {
            day,
            calls: count(sums.calls),
            tokens: count(sums.tokens()),
            cost: dollars(sums.cost_micro_dollars),
            errors: percent(sums.failed, sums.calls),
        }
    }
}

fn top_rows(users: &[(User, Sums)]) -> Vec<TopRow> {
    let row = |(user, sums): &(User, Sums)| TopRow {
        id: user.id.to_string(),
        email: user.email.clone(),
        tokens: count(sums.tokens()),
        calls: count(sums.calls),
        cost: dollars(sums.cost_micro_dollars),
    };
    users.iter().take(LISTED).map(row).collect()
}

impl NearLimitRow {
    /// The limit that is nearer of a user's tokens and requests.
    fn of(page: &Page, near: &NearLimit) -> Self {
        let (tokens, requests) = (near.tokens, near.requests);
        let (percent, limit) = if tokens.percent() >= requests.percent() {
            (tokens.percent(), page.fill("{} tokens", &[&count(tokens.limit)]))
        } else {
            (requests.percent(), page.fill("{} requests", &[&count(requests.limit)]))
        };
        Self { id: near.user.id.to_string(), email: near.user.email.clone(), limit, percent }
    }
}

fn plan_rows(plans: &[Plan], overview: &Overview) -> Vec<PlanRow> {
    let name = |id: &PlanId| {
        plans
            .iter()
            .find(|plan| plan.id == *id)
            .map_or_else(|| id.as_str().to_owned(), |p| p.name.clone())
    };
    let rows = overview.users.by_plan.iter();
    rows.map(|row| PlanRow { name: name(&row.plan), users: count(row.users) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_one_decimal() {
        for (part, whole, expected) in
            [(0, 0, "0.0 %"), (1, 3, "33.3 %"), (1, 1000, "0.1 %"), (7, 7, "100.0 %")]
        {
            assert_eq!(percent(part, whole), expected);
        }
        assert_eq!(shares(&Latency::default()), "– / – / –");
    }
}
