//! Users, for admins: search, get, change.

use crate::control::account_links;
use crate::control::api_error::ApiError;
use crate::control::auth::{Admin, AdminReader, AnyCredential};
use crate::control::http::extract::{JsonBody, Object, PathParam, PreferredLanguage, Query};
use crate::control::http::middleware::RequestContext;
use crate::control::http::pagination::{self, Page};
use crate::control::openapi::errors::{
    AdminReaderRequired, AdminRequired, InvalidBody, InvalidQuery, InvalidUserChange, PlanNotFound,
    Unavailable, UserNotFound,
};
use crate::control::routes::keys;
use crate::control::routes::usage::live::{self, Usage};
use crate::control::state::ControlState;
use crate::control::views::fields::{NewEmail, Username, present};
use crate::control::views::key::KeyView;
use crate::control::views::limits::{
    ConcurrentStreams, ModelNames, RequestsPerDay, TokensPerDay, WindowForm,
};
use crate::control::views::period::Period;
use crate::control::views::plan::WindowView;
use crate::control::views::usage::SumsView;
use crate::control::views::user::UserView;
use axum::extract::State;
use axum::{Extension, Json};
use domain::id::{PlanId, UserId};
use domain::plan::Plan;
use domain::user::{LimitOverrides, Role, User, UserStatus};
use serde::{Deserialize, Serialize};
use store::reports::Sums;
use store::{UserChange, UserFilter};
use system::clock;
use utoipa::{IntoParams, ToSchema};

/// Maximum length of a search, in characters; no e-mail address is longer.
const MAX_SEARCH: usize = 254;

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsersQuery {
    /// Part of the e-mail address or username. One or two letters match only the beginning.
    #[param(max_length = 254)]
    pub search: Option<String>,
    #[param(example = "leveler")]
    pub plan: Option<String>,
    #[param(value_type = Option<String>, pattern = "^(active|suspended|deleted)$")]
    pub status: Option<UserStatus>,
    #[param(value_type = Option<String>, pattern = "^(user|auditor|admin)$")]
    pub role: Option<Role>,
    /// Users per page; default 50.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

/// A user with overrides, usage and keys.
#[derive(Serialize, ToSchema)]
pub struct UserInFull {
    user: UserView,
    /// Limits that replace those of the plan; `null` where the plan's limit applies.
    overrides: OverridesView,
    usage: Usage,
    this_month: SumsView,
    /// Keys that are not revoked. `GET /api/v1/admin/users/{id}/keys` lists all keys.
    keys: Vec<KeyView>,
}

/// Limits of a user that replace those of the plan.
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

/// Fields to change. Missing fields stay as they are.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    #[serde(default)]
    pub email: Option<NewEmail>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Username>)]
    pub username: Option<Option<Username>>,
    #[serde(default)]
    #[schema(example = "log-min")]
    pub plan_id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(user|auditor|admin)$", example = "user")]
    pub role: Option<Role>,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(active|suspended)$", example = "active")]
    pub status: Option<UserStatus>,
    /// Replaces all overrides: missing limits are again those of the plan.
    #[serde(default)]
    #[schema(value_type = Option<OverridesForm>)]
    pub overrides: Option<Object<OverridesForm>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverridesForm {
    #[serde(default)]
    pub max_tokens_per_day: Option<TokensPerDay>,
    #[serde(default)]
    pub max_requests_per_day: Option<RequestsPerDay>,
    #[serde(default)]
    #[schema(value_type = Option<WindowView>)]
    pub window: Option<WindowForm>,
    #[serde(default)]
    pub concurrent_streams: Option<ConcurrentStreams>,
    #[serde(default)]
    pub models: Option<ModelNames>,
}

/// List users
///
/// In order of registration.
#[utoipa::path(get, path = "/api/v1/admin/users", tag = "Admin", security(("token" = [])),
    params(UsersQuery),
    responses((status = 200, body = Page<UserView>), InvalidQuery, AdminReaderRequired, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    _reader: AdminReader,
    Query(query): Query<UsersQuery>,
) -> Result<Json<Page<UserView>>, ApiError> {
    let Page { data, next_cursor } = page_of(&state, query).await?;
    let data = data.into_iter().map(|(user, plan)| UserView::new(user, plan)).collect();
    Ok(Json(Page { data, next_cursor }))
}

/// A page of users with their plans.
pub async fn page_of(
    state: &ControlState,
    query: UsersQuery,
) -> Result<Page<(User, Plan)>, ApiError> {
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
    let cursor = |(user, _): &(User, Plan)| user.id.to_string();
    Ok(Page::of(users.collect(), limit, cursor, |row| row))
}

/// Get a user
#[utoipa::path(get, path = "/api/v1/admin/users/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "Id of the user")),
    responses((status = 200, body = UserInFull), AdminReaderRequired, UserNotFound, Unavailable))]
pub async fn show(
    State(state): State<ControlState>,
    _reader: AdminReader,
    PathParam(id): PathParam,
) -> Result<Json<UserInFull>, ApiError> {
    let user = state.user(&id).await?;
    in_full(&state, user).await.map(Json)
}

/// Change a user
///
/// Takes effect with the next request. Suspending ends all sessions, and open streams within a second.
#[utoipa::path(patch, path = "/api/v1/admin/users/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "Id of the user")), request_body = UserPatch,
    responses((status = 200, body = UserInFull), InvalidBody, AdminRequired, UserNotFound, PlanNotFound,
        InvalidUserChange, Unavailable))]
pub async fn change(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
    Extension(context): Extension<RequestContext>,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<UserPatch>,
) -> Result<Json<UserInFull>, ApiError> {
    let (before, changed) = change_user(&state, &admin, &id, form).await?;
    account_links::after_change(&state, &before, &changed, (context.address, language)).await;
    in_full(&state, changed).await.map(Json)
}

/// Changes the user with this id. Returns the user before and afterwards. Mail about another e-mail address is
/// left to the caller, who knows the language.
pub async fn change_user(
    state: &ControlState,
    admin: &Admin,
    id: &str,
    form: UserPatch,
) -> Result<(User, User), ApiError> {
    let user = state.user(id).await?;
    if form.status == Some(UserStatus::Deleted) {
        let problem = "`status` must be `active` or `suspended`. To delete a user, send DELETE to this route.";
        return Err(ApiError::invalid("status", problem));
    }
    let locks_out = form.role.is_some_and(|role| role != Role::Admin)
        || form.status == Some(UserStatus::Suspended);
    if user.id == admin.user.id && locks_out {
        return Err(ApiError::OwnAccountLockout);
    }
    let plan = match &form.plan_id {
        Some(id) => Some(state.open_plan(id, &user.plan).await?.id),
        None => None,
    };
    let change = UserChange {
        plan,
        email: form.email.map(|email| email.0),
        username: form.username.map(|name| name.map(|name| name.0)),
        role: form.role,
        status: form.status,
        overrides: form.overrides.map(|overrides| overrides.0.resolved(state)).transpose()?,
        secret: Some(state.identity.secret().clone()),
        ..UserChange::default()
    };
    let changed = state.store.change_user(user.id, &change, &admin.by).await?;
    Ok((user, changed.ok_or(ApiError::NotFound("user"))?))
}

/// The search text; an empty one matches all users.
fn search(text: Option<String>) -> Result<Option<String>, ApiError> {
    let text = text.filter(|text| !text.is_empty());
    match text {
        Some(text) if text.chars().count() > MAX_SEARCH => {
            let problem = format!("`search` must have at most {MAX_SEARCH} characters.");
            Err(ApiError::invalid("search", problem))
        }
        text => Ok(text),
    }
}

async fn in_full(state: &ControlState, user: User) -> Result<UserInFull, ApiError> {
    let usage = live::of(state, &user).await?;
    let credential = AnyCredential::User(Box::new(user.clone()));
    let month = Period::month(None, live::today(state, &credential, clock::now()).await?)?;
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

impl OverridesForm {
    fn resolved(self, state: &ControlState) -> Result<LimitOverrides, ApiError> {
        Ok(LimitOverrides {
            tokens_per_day: self.max_tokens_per_day.map(|limit| limit.0),
            requests_per_day: self.max_requests_per_day.map(|limit| limit.0),
            window: self.window.map(|window| window.0),
            concurrent_streams: self.concurrent_streams.map(|limit| limit.0),
            models: state.model_ids("overrides.models", self.models)?,
            time_zone: None,
        })
    }
}

impl OverridesView {
    fn of(overrides: &LimitOverrides) -> Self {
        let models = overrides.models.as_ref();
        Self {
            max_tokens_per_day: overrides.tokens_per_day,
            max_requests_per_day: overrides.requests_per_day,
            window: overrides.window.map(WindowView::from),
            concurrent_streams: overrides.concurrent_streams,
            models: models.map(|models| models.iter().map(ToString::to_string).collect()),
        }
    }
}
