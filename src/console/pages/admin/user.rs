//! One user: live meters, limits, keys, this month, and what was changed.

use super::audit::{self, AuditRow};
use super::{Choice, Tag, done_sentence, plan_choices, users};
use crate::console::error::{PageError, html};
use crate::console::format::{Time, count, dollars};
use crate::console::page::{Page, text};
use crate::console::pages::overview::{Meter, meters_of};
use crate::console::query::PageQuery;
use crate::console::session::AdminOrAuditor;
use crate::control::http::extract::PathParam;
use crate::control::routes::usage::live;
use crate::control::state::ControlState;
use crate::control::views::period::Period;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::day::Day;
use domain::key::{Key, has_expired};
use domain::user::{LimitOverrides, User, UserStatus};
use jiff::Timestamp;
use std::collections::HashMap;
use store::audit::AuditFilter;
use store::reports::Sums;
use store::sessions::{SessionInfo, SessionKind};
use store::{KeyFilter, LIVE_KEYS};
use system::clock;

/// Entries of the audit log that the page shows.
const RECENT: u32 = 10;

#[derive(Template)]
#[template(path = "console/admin/user.html")]
#[expect(clippy::struct_excessive_bools, reason = "each shows or hides one part of the page")]
struct UserPage {
    page: Page,
    done: String,
    id: String,
    email: String,
    username: String,
    registered: Time,
    status: Tag,
    is_active: bool,
    is_deleted: bool,
    is_oneself: bool,
    has_second_factor: bool,
    roles: Vec<Choice>,
    plans: Vec<Choice>,
    /// Limits of the user's own, in words.
    overrides: Vec<String>,
    meters: Vec<Meter>,
    resets_at: Time,
    month: MonthRow,
    models: Vec<MonthRow>,
    keys: Vec<UserKeyRow>,
    sessions: Vec<UserSessionRow>,
    entries: Vec<AuditRow>,
}

/// The meters alone, as the page loads them again.
#[derive(Template)]
#[template(path = "console/admin/user_meters.html")]
struct UserMeters {
    page: Page,
    id: String,
    meters: Vec<Meter>,
    resets_at: Time,
}

/// The sums of this month, of all models or of one.
struct MonthRow {
    model: String,
    calls: String,
    failed: String,
    tokens: String,
    cost: String,
}

/// A key that is not revoked.
struct UserKeyRow {
    id: String,
    name: String,
    last_four: String,
    created: Time,
    last_used: Option<Time>,
    /// Limits of the key's own and its expiry, in words.
    limits: String,
    has_expired: bool,
}

/// A session that has not expired.
struct UserSessionRow {
    id: String,
    kind: &'static str,
    /// What the client said about itself.
    program: String,
    address: String,
    began: Time,
    seen: Time,
}

/// `GET /console/admin/users/{id}`.
pub async fn show(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PathParam(id): PathParam,
    PageQuery(query): PageQuery<super::DoneQuery>,
) -> Result<Response, PageError> {
    let AdminOrAuditor { page, reader, .. } = reader;
    let user = state.user(&id).await?;
    let usage = live::of(&state, &user).await?;
    let filter =
        AuditFilter { subject: Some(format!("user:{}", user.id)), ..AuditFilter::default() };
    let store = &*state.store;
    // None needs another. Three at once leave connections for other pages.
    let ((month, models), keys, sessions) = tokio::try_join!(
        month_of(&state, &page, &user, usage.day),
        keys_of(&state, &page, &user),
        async { Ok(store.sessions_of(user.id, clock::now()).await?) },
    )?;
    let (plans, entries, factor) = tokio::try_join!(
        store.plans(),
        store.audit(&filter, None, RECENT),
        store.second_factor(user.id),
    )?;
    html(&UserPage {
        done: done_sentence(&page, query.done.as_deref()),
        id: user.id.to_string(),
        username: user.username.clone().unwrap_or_default(),
        registered: Time(user.created_at),
        status: Tag::status(&page, user.status),
        is_active: user.status == UserStatus::Active,
        is_deleted: user.status == UserStatus::Deleted,
        is_oneself: user.id == reader.user.id,
        roles: users::role_choices(&page, Some(user.role)),
        plans: plan_choices(&plans, &user.plan),
        overrides: overrides_in_words(&page, &user),
        meters: meters_of(&page, &usage),
        resets_at: Time(usage.resets_at),
        month,
        models,
        has_second_factor: factor.is_some_and(|factor| factor.enabled_at.is_some()),
        keys,
        sessions: sessions.into_iter().map(UserSessionRow::of).collect(),
        entries: audit::entries(&state, &page, entries).await?,
        email: user.email,
        page,
    })
}

/// `GET /console/admin/users/{id}/meters`: the part of the page that changes.
pub async fn meters(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PathParam(id): PathParam,
) -> Result<Response, PageError> {
    let page = reader.page;
    let user = state.user(&id).await?;
    let usage = live::of(&state, &user).await?;
    html(&UserMeters {
        id: user.id.to_string(),
        meters: meters_of(&page, &usage),
        resets_at: Time(usage.resets_at),
        page,
    })
}

/// The sums of the current month, of all models and of each.
async fn month_of(
    state: &ControlState,
    page: &Page,
    user: &User,
    today: Day,
) -> Result<(MonthRow, Vec<MonthRow>), PageError> {
    let month = Period::month(None, today)?;
    let models = state.store.usage_by_model(user.id, month.from, month.to).await?;
    let total: Sums = models.iter().map(|(_, sums)| sums).sum();
    let rows = models.iter().map(|(model, sums)| MonthRow::of(model, sums)).collect();
    Ok((MonthRow::of(page.t("All models"), &total), rows))
}

async fn keys_of(
    state: &ControlState,
    page: &Page,
    user: &User,
) -> Result<Vec<UserKeyRow>, PageError> {
    let filter = KeyFilter { live: true, after: None };
    let limit = u32::try_from(LIVE_KEYS).unwrap_or(u32::MAX);
    let store = &*state.store;
    let keys = store.keys(user.id, &filter, limit).await?;
    let last_used = store.last_used(user.id).await?;
    let last_used: HashMap<_, _> = last_used.into_iter().collect();
    let now = clock::now();
    let row = |key: Key| UserKeyRow::of(page, last_used.get(&key.id).copied(), now, key);
    Ok(keys.into_iter().map(row).collect())
}

/// The limits in which a user differs from the plan.
fn overrides_in_words(page: &Page, user: &User) -> Vec<String> {
    let LimitOverrides {
        tokens_per_day,
        requests_per_day,
        window,
        concurrent_streams,
        models,
        time_zone,
    } = &user.overrides;
    let words = [
        tokens_per_day.map(|limit| page.fill("{} tokens per day", &[&count(limit)])),
        requests_per_day.map(|limit| page.fill("{} requests per day", &[&count(limit)])),
        window.map(|window| {
            let (requests, seconds) = (count(u64::from(window.capacity)), window.refill_seconds);
            page.fill("{} requests per {} s", &[&requests, &seconds])
        }),
        concurrent_streams.map(|limit| page.fill("{} open streams", &[&count(u64::from(limit))])),
        models.as_ref().map(|models| page.fill("only the models {}", &[&models.join(", ")])),
        time_zone.as_ref().map(|zone| page.fill("days of the time zone {}", &[zone])),
    ];
    words.into_iter().flatten().collect()
}

impl MonthRow {
    fn of(model: &str, sums: &Sums) -> Self {
        Self {
            model: model.to_owned(),
            calls: count(sums.calls),
            failed: count(sums.failed),
            tokens: count(sums.tokens()),
            cost: dollars(sums.cost_micro_dollars),
        }
    }
}

impl UserSessionRow {
    fn of(session: SessionInfo) -> Self {
        Self {
            id: session.id.to_string(),
            kind: match session.kind {
                SessionKind::Console => text("Console"),
                SessionKind::Api => text("API"),
            },
            program: session.client.user_agent.unwrap_or_default(),
            address: session.client.address.unwrap_or_default(),
            began: Time(session.created_at),
            seen: Time(session.seen_at),
        }
    }
}

impl UserKeyRow {
    fn of(page: &Page, last_used: Option<Timestamp>, now: Timestamp, key: Key) -> Self {
        let limits = [
            key.limits.tokens_per_day.map(|limit| page.fill("{} tokens per day", &[&count(limit)])),
            key.limits
                .requests_per_day
                .map(|limit| page.fill("{} requests per day", &[&count(limit)])),
            key.limits.models.as_ref().map(|models| models.join(", ")),
            key.expires_at.map(|end| page.fill("until {}", &[&Time(end)])),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        Self {
            has_expired: has_expired(key.expires_at, now),
            id: key.id.to_string(),
            name: key.name,
            last_four: key.last_four,
            created: Time(key.created_at),
            last_used: last_used.map(Time),
            limits: limits.join(" · "),
        }
    }
}
