//! The form of one plan: to add it, and to change it.

use super::fields::{self, ids, typed_price};
use super::{Choice, plans};
use crate::console::error::{PageError, form_page};
use crate::console::error_text::message;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::query::done;
use crate::console::session::{AdminOnly, AdminOrAuditor};
use crate::control::api_error::ApiError;
use crate::control::http::extract::PathParam;
use crate::control::routes::admin::plans::{
    PlanForm, PlanName, PlanPatch, Zone, add_plan, change_plan,
};
use crate::control::state::ControlState;
use crate::control::views::fields::Label;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::cached_tokens::CachedTokenFraction;
use domain::plan::{Plan, PlanLimits, RequestPolicy, ServerTools, Window, Words};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "console/admin/plan.html")]
struct PlanPage {
    page: Page,
    problem: String,
    /// The name of the plan that is changed; empty for a new one.
    name: String,
    /// Where the form goes.
    action: String,
    fields: PlanFields,
    models: Vec<Choice>,
    server_tools: Vec<Choice>,
}

/// The fields of the form, as typed.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanFields {
    id: String,
    name: String,
    /// In dollars.
    price: String,
    tokens: String,
    cached_fraction: String,
    requests: String,
    window_requests: String,
    window_seconds: String,
    streams: String,
    /// `some` if only `models` are allowed.
    scope: String,
    models: Vec<String>,
    time_zone: String,
    server_tools: String,
    max_tool_calls: String,
    service_tiers: String,
    image_sizes: String,
    image_qualities: String,
    /// `on` if the box is checked.
    account_references: String,
}

/// `GET /console/admin/plans/new`.
pub async fn new(
    State(state): State<ControlState>,
    admin: AdminOnly,
) -> Result<Response, PageError> {
    admin.confirmed(&admin.page.path)?;
    show(&state, admin.page, None, PlanFields::usual(), None)
}

/// `POST /console/admin/plans/new`.
pub async fn add(
    State(state): State<ControlState>,
    admin: AdminOnly,
    SafeForm(fields): SafeForm<PlanFields>,
) -> Result<Response, PageError> {
    admin.confirmed("/console/admin/plans/new")?;
    let AdminOnly { page, admin, .. } = admin;
    let added = async { add_plan(&state, &admin, fields.form(&page)?).await };
    match added.await {
        Ok(_) => Ok(done(plans::PATH, "plan-added")),
        Err(error) => show(&state, page, None, fields, Some(&error)),
    }
}

/// `GET /console/admin/plans/{id}`.
pub async fn edit(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PathParam(id): PathParam,
) -> Result<Response, PageError> {
    let plan = state.plan(&id).await?;
    reader.confirmed(&reader.page.path)?;
    let fields = PlanFields::of(&plan);
    show(&state, reader.page, Some(&plan), fields, None)
}

/// `POST /console/admin/plans/{id}`.
pub async fn save(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(fields): SafeForm<PlanFields>,
) -> Result<Response, PageError> {
    let plan = state.plan(&id).await?;
    admin.confirmed(&admin.page.path)?;
    let AdminOnly { page, admin, .. } = admin;
    let saved = async { change_plan(&state, &admin, &id, fields.patch(&page, &plan)?).await };
    match saved.await {
        Ok(_) => Ok(done(plans::PATH, "plan-saved")),
        Err(error) => show(&state, page, Some(&plan), fields, Some(&error)),
    }
}

fn show(
    state: &ControlState,
    page: Page,
    plan: Option<&Plan>,
    fields: PlanFields,
    error: Option<&ApiError>,
) -> Result<Response, PageError> {
    let tools = [
        (ServerTools::Allow, page.t(text("allow them"))),
        (ServerTools::Strip, page.t(text("remove them from requests"))),
        (ServerTools::Refuse, page.t(text("refuse requests with them"))),
    ];
    let choice = |(tools, name): (ServerTools, &str)| {
        let word = word_of(tools);
        Choice::new(word, name, fields.server_tools == word)
    };
    form_page(
        &PlanPage {
            problem: error.map(|error| message(&page, error)).unwrap_or_default(),
            name: plan.map(|plan| plan.name.clone()).unwrap_or_default(),
            action: match plan {
                Some(plan) => format!("{}/{}", plans::PATH, plan.id),
                None => format!("{}/new", plans::PATH),
            },
            models: fields::model_choices(state, &fields.models),
            server_tools: tools.map(choice).into(),
            fields,
            page,
        },
        error,
    )
}

fn word_of(tools: ServerTools) -> &'static str {
    match tools {
        ServerTools::Allow => "allow",
        ServerTools::Strip => "strip",
        ServerTools::Refuse => "refuse",
    }
}

impl PlanFields {
    /// A new plan, with the usual values of what is seldom changed.
    fn usual() -> Self {
        let window = Window { capacity: 100, refill_seconds: 60 };
        Self {
            window_requests: window.capacity.to_string(),
            window_seconds: window.refill_seconds.to_string(),
            cached_fraction: CachedTokenFraction::ONE.to_string(),
            streams: "20".to_owned(),
            time_zone: "UTC".to_owned(),
            ..Self::default()
        }
        .with_policy(&RequestPolicy::default())
    }

    fn of(plan: &Plan) -> Self {
        let PlanLimits { window, policy, .. } = &plan.limits;
        let limits = &plan.limits;
        Self {
            id: plan.id.to_string(),
            name: plan.name.clone(),
            price: typed_price(plan.price_cents),
            tokens: limits.tokens_per_day.to_string(),
            cached_fraction: limits.cached_token_fraction.to_string(),
            requests: limits.requests_per_day.to_string(),
            window_requests: window.capacity.to_string(),
            window_seconds: window.refill_seconds.to_string(),
            streams: limits.concurrent_streams.to_string(),
            scope: limits.models.as_ref().map(|_| "some".to_owned()).unwrap_or_default(),
            models: ids(limits.models.as_ref()),
            time_zone: limits.time_zone.iana_name().unwrap_or("UTC").to_owned(),
            ..Self::default()
        }
        .with_policy(policy)
    }

    fn with_policy(self, policy: &RequestPolicy) -> Self {
        let typed = |words: &Words| words.join(", ");
        Self {
            server_tools: word_of(policy.server_tools).to_owned(),
            max_tool_calls: policy.max_tool_calls.to_string(),
            service_tiers: typed(&policy.service_tiers),
            image_sizes: typed(&policy.image_sizes),
            image_qualities: typed(&policy.image_qualities),
            account_references: if policy.account_references { "on" } else { "" }.to_owned(),
            ..self
        }
    }

    /// The plan to add.
    fn form(&self, page: &Page) -> Result<PlanForm, ApiError> {
        let patch = self.values(page)?;
        let missing = |field: &str| fields::missing(page, field);
        let id = PlanName::try_from(self.id.clone()).map_err(|_| {
            let rule = page.t("An id has 1 to 64 lower-case letters, digits and hyphens, and does not begin with a hyphen.");
            ApiError::form_field(rule)
        })?;
        Ok(PlanForm {
            id,
            name: patch.name.ok_or_else(|| missing("Name"))?,
            price_cents: patch.price_cents.ok_or_else(|| missing("Dollars per month"))?,
            max_tokens_per_day: patch
                .max_tokens_per_day
                .ok_or_else(|| missing("Tokens per day"))?,
            cached_token_fraction: patch.cached_token_fraction,
            max_requests_per_day: patch
                .max_requests_per_day
                .ok_or_else(|| missing("Requests per day"))?,
            window: patch.window.ok_or_else(|| missing("Requests of the window"))?,
            concurrent_streams: patch.concurrent_streams.ok_or_else(|| missing("Open streams"))?,
            models: patch.models.flatten(),
            time_zone: patch.time_zone,
            server_tools: patch.server_tools,
            max_tool_calls: patch.max_tool_calls,
            service_tiers: patch.service_tiers,
            image_sizes: patch.image_sizes,
            image_qualities: patch.image_qualities,
            account_references: patch.account_references,
        })
    }

    /// The changes to `plan`. Models that are the same are left as they are: some of them may no longer be
    /// configured, and would be refused.
    fn patch(&self, page: &Page, plan: &Plan) -> Result<PlanPatch, ApiError> {
        let patch = self.values(page)?;
        let before = Self::of(plan);
        let is_same =
            (&before.models, before.scope == "some") == (&self.models, self.scope == "some");
        let models = if is_same { None } else { patch.models };
        Ok(PlanPatch { models, ..patch })
    }

    /// All values, each of which is filled in.
    fn values(&self, page: &Page) -> Result<PlanPatch, ApiError> {
        let name = Label::try_from(self.name.clone())
            .map_err(|_| ApiError::form_field(page.t("A name has 1 to 64 visible characters.")))?;
        let time_zone = Zone::try_from(self.time_zone.clone()).map_err(|_| {
            ApiError::form_field(page.t("Enter a time zone such as UTC or Europe/Berlin."))
        })?;
        let window = (&*self.window_requests, &*self.window_seconds);
        let window = fields::window(page, window)?;
        Ok(PlanPatch {
            name: Some(name),
            price_cents: Some(fields::price(page, text("Dollars per month"), &self.price)?),
            max_tokens_per_day: Some(fields::required(page, text("Tokens per day"), &self.tokens)?),
            cached_token_fraction: Some(fields::fraction(
                page,
                text("Counted part of a cached prompt token"),
                &self.cached_fraction,
            )?),
            max_requests_per_day: Some(fields::required(
                page,
                text("Requests per day"),
                &self.requests,
            )?),
            window: Some(
                window.ok_or_else(|| fields::missing(page, text("Requests of the window")))?,
            ),
            concurrent_streams: Some(fields::required(page, text("Open streams"), &self.streams)?),
            models: Some(fields::models(page, &self.scope, &self.models)?),
            time_zone: Some(time_zone),
            retired: None,
            server_tools: Some(match &*self.server_tools {
                "strip" => ServerTools::Strip,
                "refuse" => ServerTools::Refuse,
                _ => ServerTools::Allow,
            }),
            max_tool_calls: Some(fields::required(
                page,
                text("Tool calls per request"),
                &self.max_tool_calls,
            )?),
            service_tiers: Some(fields::words(page, text("Service tiers"), &self.service_tiers)?),
            image_sizes: Some(fields::words(page, text("Image sizes"), &self.image_sizes)?),
            image_qualities: Some(fields::words(
                page,
                text("Image qualities"),
                &self.image_qualities,
            )?),
            account_references: Some(!self.account_references.is_empty()),
        })
    }
}
