//! Plans, for admins: added, changed, retired.

use crate::account::id::PlanId;
use crate::account::plan::{Plan, PlanLimits};
use crate::control::ControlState;
use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::body::{Form, Object, Segment};
use crate::control::fields::{Label, present};
use crate::control::keys::{self, MOST_REQUESTS, MOST_TOKENS, ModelId, bounded};
use crate::control::openapi::{Away, BadBody, NoSuchPlan, NotAdmin, PlanTaken};
use crate::control::plans::{PlanView, WindowView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::tz::TimeZone;
use serde::Deserialize;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanForm {
    #[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,63}$", example = "team")]
    id: PlanName,
    name: Label,
    #[schema(maximum = 100_000_000, example = 2500)]
    price_cents: u32,
    #[schema(maximum = 1_000_000_000_000_i64, example = 50_000)]
    max_tokens_per_day: u64,
    #[schema(maximum = 1_000_000_000, example = 1000)]
    max_requests_per_day: u64,
    #[schema(value_type = WindowView)]
    window: Object<WindowView>,
    #[schema(minimum = 1, maximum = 1_000_000, example = 20)]
    concurrent_streams: u32,
    /// Left out or `null` = every model.
    #[serde(default)]
    #[schema(max_items = 100)]
    models: Option<Vec<ModelId>>,
    /// An IANA name; left out = UTC.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "Europe/Berlin")]
    time_zone: Option<Zone>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPatch {
    #[serde(default)]
    name: Option<Label>,
    #[serde(default)]
    #[schema(maximum = 100_000_000)]
    price_cents: Option<u32>,
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
    /// `null` = every model.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<ModelId>>, max_items = 100)]
    models: Option<Option<Vec<ModelId>>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    time_zone: Option<Zone>,
    /// False brings a retired plan back.
    #[serde(default)]
    retired: Option<bool>,
}

/// The id of a plan.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct PlanName(String);

/// A time zone by its name.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(TimeZone);

/// Add a plan
#[utoipa::path(post, path = "/api/v1/admin/plans", tag = "Admin", security(("token" = [])),
    request_body = PlanForm,
    responses((status = 201, body = PlanView), BadBody, NotAdmin, PlanTaken, Away))]
pub async fn add(
    State(state): State<ControlState>,
    admin: Admin,
    Form(form): Form<PlanForm>,
) -> Result<(StatusCode, Json<PlanView>), ApiError> {
    let plan = Plan {
        id: PlanId::from(form.id.0.as_str()),
        name: form.name.0,
        price_cents: form.price_cents,
        retired: false,
        limits: PlanLimits {
            tokens_per_day: form.max_tokens_per_day,
            requests_per_day: form.max_requests_per_day,
            window: form.window.0.checked("window")?,
            concurrent_streams: form.concurrent_streams,
            models: keys::models(form.models)?,
            time_zone: form.time_zone.map_or(TimeZone::UTC, |zone| zone.0),
        },
    };
    check(&plan)?;
    if !state.store.add_plan(&plan, &admin.by).await? {
        return Err(ApiError::PlanTaken);
    }
    Ok((StatusCode::CREATED, Json(PlanView::of(plan))))
}

/// Change a plan
///
/// Holds for its users from their next request on. A plan changed here is no longer set by the
/// configuration.
#[utoipa::path(patch, path = "/api/v1/admin/plans/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "The plan's id")), request_body = PlanPatch,
    responses((status = 200, body = PlanView), BadBody, NotAdmin, NoSuchPlan, Away))]
pub async fn change(
    State(state): State<ControlState>,
    admin: Admin,
    Segment(id): Segment,
    Form(form): Form<PlanPatch>,
) -> Result<Json<PlanView>, ApiError> {
    let mut plan = find(&state, &id).await?;
    form.apply(&mut plan)?;
    check(&plan)?;
    if !state.store.change_plan(&plan, &admin.by).await? {
        return Err(ApiError::NoSuch("plan"));
    }
    Ok(Json(PlanView::of(plan)))
}

/// Retire a plan
///
/// Nobody can come to it any more; those who have it keep it.
#[utoipa::path(delete, path = "/api/v1/admin/plans/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "The plan's id")),
    responses((status = 200, body = PlanView), NotAdmin, NoSuchPlan, Away))]
pub async fn retire(
    State(state): State<ControlState>,
    admin: Admin,
    Segment(id): Segment,
) -> Result<Json<PlanView>, ApiError> {
    let plan = Plan { retired: true, ..find(&state, &id).await? };
    if !state.store.change_plan(&plan, &admin.by).await? {
        return Err(ApiError::NoSuch("plan"));
    }
    Ok(Json(PlanView::of(plan)))
}

async fn find(state: &ControlState, id: &str) -> Result<Plan, ApiError> {
    state.store.plan(&PlanId::from(id)).await?.ok_or(ApiError::NoSuch("plan"))
}

fn check(plan: &Plan) -> Result<(), ApiError> {
    let limits = &plan.limits;
    bounded("max_tokens_per_day", Some(limits.tokens_per_day), MOST_TOKENS)?;
    bounded("max_requests_per_day", Some(limits.requests_per_day), MOST_REQUESTS)?;
    bounded("price_cents", Some(plan.price_cents.into()), 100_000_000)?;
    if !(1..=1_000_000).contains(&limits.concurrent_streams) {
        let problem = "`concurrent_streams` is 1 to 1000000.";
        return Err(ApiError::invalid("concurrent_streams", problem));
    }
    Ok(())
}

impl PlanPatch {
    fn apply(self, plan: &mut Plan) -> Result<(), ApiError> {
        let limits = &mut plan.limits;
        if let Some(name) = self.name {
            plan.name = name.0;
        }
        plan.price_cents = self.price_cents.unwrap_or(plan.price_cents);
        plan.retired = self.retired.unwrap_or(plan.retired);
        limits.tokens_per_day = self.max_tokens_per_day.unwrap_or(limits.tokens_per_day);
        limits.requests_per_day = self.max_requests_per_day.unwrap_or(limits.requests_per_day);
        limits.concurrent_streams = self.concurrent_streams.unwrap_or(limits.concurrent_streams);
        if let Some(window) = self.window {
            limits.window = window.0.checked("window")?;
        }
        if let Some(models) = self.models {
            limits.models = keys::models(models)?;
        }
        if let Some(Zone(zone)) = self.time_zone {
            limits.time_zone = zone;
        }
        Ok(())
    }
}

impl TryFrom<String> for PlanName {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_plain =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_plain && (1..=64).contains(&text.len()) && !text.starts_with('-') {
            Ok(Self(text))
        } else {
            Err("a plan's id has 1 to 64 lower-case letters, digits and dashes")
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "UTC" => Ok(Self(TimeZone::UTC)),
            name => TimeZone::get(name).map(Self).map_err(|_| "this is not an IANA time zone"),
        }
    }
}
