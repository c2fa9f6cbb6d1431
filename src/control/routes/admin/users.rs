//! Users, for admins: searched, shown in full, changed.

use crate::account::id::{PlanId, UserId};
use crate::account::plan::{Plan, Window};
use crate::account::user::{LimitOverrides, Role, User, UserStatus};
use crate::clock;
use crate::control::api_error::ApiError;
use crate::control::auth::{Admin, Reader};
use crate::control::http::extract::{Form, Object, Params, Segment};
use crate::control::http::pagination::{self, Page};
use crate::control::openapi::errors::{
    Away, BadBody, BadQuery, NoSuchPlan, NoSuchUser, NotAdmin, NotThisChange,
};
use crate::control::routes::keys::{self, KeyView, MOST_REQUESTS, MOST_TOKENS, ModelId, bounded};
use crate::control::routes::plans::WindowView;
use crate::control::routes::profile::UserView;
use crate::control::routes::usage::live::{self, Usage};
use crate::control::state::ControlState;
use crate::control::views::fields::{Email, Username, present};
use crate::control::views::period::Period;
use crate::control::views::usage::SumsView;
use crate::store::reports::Sums;
use crate::store::{UserChange, UserFilter};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// No e-mail is longer.
const LONGEST_SEARCH: usize = 254;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsersQuery {
    /// A part of the e-mail or the username; of one or two letters, its beginning.
    #[param(max_length = 254)]
    search: Option<String>,
    #[param(example = "leveler")]
    plan: Option<String>,
    #[param(value_type = Option<String>, pattern = "^(active|suspended)$")]
    status: Option<UserStatus>,
    #[param(value_type = Option<String>, pattern = "^(user|admin)$")]
    role: Option<Role>,
    /// Users of a page, 50 unless said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A user in full.
#[derive(Serialize, ToSchema)]
pub struct UserInFull {
    user: UserView,
    /// What differs from the plan; `null` = the plan's.
    overrides: OverridesView,
    usage: Usage,
    this_month: SumsView,
    /// Those that are not revoked; all of them are at `/users/{id}/keys`.
    keys: Vec<KeyView>,
}

/// Limits of a user in place of the plan's.
#[derive(Serialize, ToSchema)]
pub struct OverridesView {
    #[schema(required)]
    max_tokens_per_day: Option<u64>,
    #[schema(required)]
    max_requests_per_day: Option<u64>,
    #[schema(required)]
    window: Option<WindowView>,
    #[schema(required)]
    concurrent_streams: Option<u32>,
    #[schema(required)]
    models: Option<Vec<String>>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    #[serde(default)]
    email: Option<Email>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Username>)]
    username: Option<Option<Username>>,
    #[serde(default)]
    #[schema(example = "log-min")]
    plan_id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(user|admin)$", example = "user")]
    role: Option<Role>,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(active|suspended)$", example = "active")]
    status: Option<UserStatus>,
    /// All of them anew: what is left out is the plan's again.
    #[serde(default)]
    #[schema(value_type = Option<OverridesForm>)]
    overrides: Option<Object<OverridesForm>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverridesForm {
    #[serde(default)]
    #[schema(maximum = 1_000_000_000_000_i64)]
    max_tokens_per_day: Option<u64>,
    #[serde(default)]
    #[schema(maximum = 1_000_000_000)]
    max_requests_per_day: Option<u64>,
    #[serde(default)]
    #[schema(value_type = Option<WindowView>)]
    window: Option<Object<WindowView>>,
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    concurrent_streams: Option<u32>,
    #[serde(default)]
    #[schema(max_items = 100)]
    models: Option<Vec<ModelId>>,
}

/// List users
///
/// In the order of registration.
#[utoipa::path(get, path = "/api/v1/admin/users", tag = "Admin", security(("token" = [])),
    params(UsersQuery),
    responses((status = 200, body = Page<UserView>), BadQuery, NotAdmin, Away))]
pub async fn list(
    State(state): State<ControlState>,
    _admin: Admin,
    Params(query): Params<UsersQuery>,
) -> Result<Json<Page<UserView>>, ApiError> {
    let limit = pagination::limit(query.limit)?;
    let after = pagination::cursor::<UserId>(query.cursor.as_deref())?;
    let filter = UserFilter {
        search: search(query.search)?,
        plan: query.plan.as_deref().map(PlanId::from),
        status: query.status,
        role: query.role,
    };
    let users = state.store.users(&filter, after, limit + 1).await?;
    // Read after them: plans come and never go.
    let plans = state.store.plans().await?;
    let users = users.into_iter().filter_map(|user| {
        let plan = plans.iter().find(|plan| plan.id == user.plan)?.clone();
        Some((user, plan))
    });
    let page = Page::of(
        users.collect(),
        limit,
        |(user, _): &(User, Plan)| user.id.to_string(),
        |(user, plan)| UserView::new(user, plan),
    );
    Ok(Json(page))
}

/// Show a user
#[utoipa::path(get, path = "/api/v1/admin/users/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "The user's id")),
    responses((status = 200, body = UserInFull), NotAdmin, NoSuchUser, Away))]
pub async fn show(
    State(state): State<ControlState>,
    _admin: Admin,
    Segment(id): Segment,
) -> Result<Json<UserInFull>, ApiError> {
    let user = find(&state, &id).await?;
    in_full(&state, user).await.map(Json)
}

/// Change a user
///
/// Holds from the next request on; suspending ends open streams within a second, and all sessions.
#[utoipa::path(patch, path = "/api/v1/admin/users/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "The user's id")), request_body = UserPatch,
    responses((status = 200, body = UserInFull), BadBody, NotAdmin, NoSuchUser, NoSuchPlan,
        NotThisChange, Away))]
pub async fn change(
    State(state): State<ControlState>,
    admin: Admin,
    Segment(id): Segment,
    Form(form): Form<UserPatch>,
) -> Result<Json<UserInFull>, ApiError> {
    let user = find(&state, &id).await?;
    let locks_out = form.role == Some(Role::User) || form.status == Some(UserStatus::Suspended);
    if user.id == admin.user.id && locks_out {
        return Err(ApiError::OwnAccount);
    }
    let change = UserChange {
        plan: plan(&state, &user, form.plan_id.as_deref()).await?,
        email: form.email.map(|email| email.0),
        username: form.username.map(|name| name.map(|name| name.0)),
        role: form.role,
        status: form.status,
        overrides: form.overrides.map(|overrides| overrides.0.checked(&state)).transpose()?,
        password_hash: None,
    };
    let changed = state.store.change_user(user.id, &change, &admin.by).await?;
    in_full(&state, changed.ok_or(ApiError::NoSuch("user"))?).await.map(Json)
}

/// What to look for; nothing is everybody.
fn search(text: Option<String>) -> Result<Option<String>, ApiError> {
    let text = text.filter(|text| !text.is_empty());
    match text {
        Some(text) if text.chars().count() > LONGEST_SEARCH => {
            let problem = format!("`search` has {LONGEST_SEARCH} characters at most.");
            Err(ApiError::invalid("search", problem))
        }
        text => Ok(text),
    }
}

/// The user with this id.
pub async fn find(state: &ControlState, id: &str) -> Result<User, ApiError> {
    let id: UserId = id.parse().map_err(|_| ApiError::NoSuch("user"))?;
    state.store.user(id).await?.ok_or(ApiError::NoSuch("user"))
}

async fn in_full(state: &ControlState, user: User) -> Result<UserInFull, ApiError> {
    let usage = live::of(state, &user).await?;
    let reader = Reader::User(Box::new(user.clone()));
    let month = Period::month(None, live::today(state, &reader, clock::now()).await?)?;
    let days = state.store.usage_by_day(user.id, month.from, month.to).await?;
    let this_month: Sums = days.iter().map(|(_, sums)| sums).sum();
    Ok(UserInFull {
        usage,
        this_month: this_month.into(),
        keys: keys::live(state, user.id).await?,
        overrides: OverridesView::of(&user.overrides),
        user: UserView::of(state, user).await?,
    })
}

/// The plan a user is to have: one that can still be had, or the one it is.
async fn plan(
    state: &ControlState,
    user: &User,
    id: Option<&str>,
) -> Result<Option<PlanId>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let plan = state.store.plan(&PlanId::from(id)).await?.ok_or(ApiError::NoSuch("plan"))?;
    if plan.retired && plan.id != user.plan {
        return Err(ApiError::RetiredPlan);
    }
    Ok(Some(plan.id))
}

impl OverridesForm {
    fn checked(self, state: &ControlState) -> Result<LimitOverrides, ApiError> {
        let streams = self.concurrent_streams;
        if streams.is_some_and(|streams| !(1..=1_000_000).contains(&streams)) {
            let problem = "`overrides.concurrent_streams` is 1 to 1000000.";
            return Err(ApiError::invalid("overrides.concurrent_streams", problem));
        }
        Ok(LimitOverrides {
            tokens_per_day: bounded(
                "overrides.max_tokens_per_day",
                self.max_tokens_per_day,
                MOST_TOKENS,
            )?,
            requests_per_day: bounded(
                "overrides.max_requests_per_day",
                self.max_requests_per_day,
                MOST_REQUESTS,
            )?,
            window: self.window.map(|window| window.0.checked("overrides.window")).transpose()?,
            concurrent_streams: streams,
            models: keys::models(state, "overrides.models", self.models)?,
            time_zone: None,
        })
    }
}

impl OverridesView {
    fn of(overrides: &LimitOverrides) -> Self {
        let window = |window: Window| WindowView {
            requests: window.capacity,
            seconds: window.refill_seconds,
        };
        let models = overrides.models.as_ref();
        Self {
            max_tokens_per_day: overrides.tokens_per_day,
            max_requests_per_day: overrides.requests_per_day,
            window: overrides.window.map(window),
            concurrent_streams: overrides.concurrent_streams,
            models: models.map(|models| models.iter().map(ToString::to_string).collect()),
        }
    }
}
