//! Limits of one user in place of the plan's.

use super::Choice;
use super::fields::{self, ids};
use super::user_changes::path_of;
use crate::console::error::{PageError, html, refused};
use crate::console::error_text::message;
use crate::console::format::count;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::query::done;
use crate::console::session::{AdminOnly, AdminOrAuditor};
use crate::control::api_error::ApiError;
use crate::control::http::extract::{Object, PathParam};
use crate::control::routes::admin::users::{OverridesForm, UserPatch, change_user};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::plan::PlanLimits;
use domain::user::{LimitOverrides, User};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "console/admin/limits.html")]
struct LimitsPage {
    page: Page,
    problem: String,
    id: String,
    email: String,
    /// The limits of the plan, which apply where a field is empty.
    plan: PlanHints,
    fields: LimitFields,
    models: Vec<Choice>,
}

/// The limits of the user's plan.
struct PlanHints {
    name: String,
    tokens: String,
    requests: String,
    window: String,
    streams: String,
}

/// The fields of the form, as typed.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitFields {
    tokens: String,
    requests: String,
    window_requests: String,
    window_seconds: String,
    streams: String,
    /// `some` if only `models` are allowed.
    scope: String,
    models: Vec<String>,
}

/// `GET /console/admin/users/{id}/limits`.
pub async fn form(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PathParam(id): PathParam,
) -> Result<Response, PageError> {
    reader.confirmed(&reader.page.path)?;
    let user = state.user(&id).await?;
    let fields = LimitFields::of(&user.overrides);
    html(&shown(&state, reader.page, &user, fields, String::new()).await?)
}

/// `POST /console/admin/users/{id}/limits`.
pub async fn save(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(fields): SafeForm<LimitFields>,
) -> Result<Response, PageError> {
    let user = state.user(&id).await?;
    let path = path_of(&id);
    admin.confirmed(&format!("{path}/limits"))?;
    let AdminOnly { page, admin, .. } = admin;
    let saved = async {
        let overrides = Some(Object(fields.overrides(&page)?));
        change_user(&state, &admin, &id, UserPatch { overrides, ..UserPatch::default() }).await
    };
    match saved.await {
        Ok(_) => Ok(done(&path, "limits")),
        Err(error) => {
            let problem = message(&page, &error);
            refused(&shown(&state, page, &user, fields, problem).await?, &error)
        }
    }
}

async fn shown(
    state: &ControlState,
    page: Page,
    user: &User,
    fields: LimitFields,
    problem: String,
) -> Result<LimitsPage, PageError> {
    let plan = state.plan_of(user).await?;
    Ok(LimitsPage {
        problem,
        id: user.id.to_string(),
        email: user.email.clone(),
        plan: PlanHints::of(&page, plan.name, &plan.limits),
        models: fields::model_choices(state, &fields.models),
        fields,
        page,
    })
}

impl LimitsPage {
    fn rule(&self) -> String {
        self.page
            .fill("An empty field leaves the limit of the plan {} in force.", &[&self.plan.name])
    }
}

impl LimitFields {
    fn of(overrides: &LimitOverrides) -> Self {
        let typed = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        let window = overrides.window;
        Self {
            tokens: typed(overrides.tokens_per_day),
            requests: typed(overrides.requests_per_day),
            window_requests: typed(window.map(|window| window.capacity.into())),
            window_seconds: typed(window.map(|window| window.refill_seconds.into())),
            streams: typed(overrides.concurrent_streams.map(u64::from)),
            scope: overrides.models.as_ref().map(|_| "some".to_owned()).unwrap_or_default(),
            models: ids(overrides.models.as_ref()),
        }
    }

    fn overrides(&self, page: &Page) -> Result<OverridesForm, ApiError> {
        let window = (&*self.window_requests, &*self.window_seconds);
        Ok(OverridesForm {
            max_tokens_per_day: fields::number(page, text("Tokens per day"), &self.tokens)?,
            max_requests_per_day: fields::number(page, text("Requests per day"), &self.requests)?,
            window: fields::window(page, window)?,
            concurrent_streams: fields::number(page, text("Open streams"), &self.streams)?,
            models: fields::models(page, &self.scope, &self.models)?,
        })
    }
}

impl PlanHints {
    fn of(page: &Page, name: String, limits: &PlanLimits) -> Self {
        let window = limits.window;
        let in_window = count(u64::from(window.capacity));
        Self {
            name,
            tokens: count(limits.tokens_per_day),
            requests: count(limits.requests_per_day),
            window: page.fill("{} requests per {} s", &[&in_window, &window.refill_seconds]),
            streams: count(u64::from(limits.concurrent_streams)),
        }
    }
}
