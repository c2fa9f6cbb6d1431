//! A user, as the profile and the admin routes show it.

use super::plan::{LimitsView, PlanView};
use crate::control::api_error::ApiError;
use crate::control::state::ControlState;
use domain::id::UserId;
use domain::plan::Plan;
use domain::user::{Role, User, UserStatus};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// A user with the plan and the effective limits.
#[derive(Serialize, ToSchema)]
pub struct UserView {
    #[schema(value_type = String, format = Uuid)]
    id: UserId,
    #[schema(example = "ada@example.com")]
    email: String,
    /// True if the user has proved to receive mail at the address.
    email_verified: bool,
    #[schema(required, example = "ada")]
    username: Option<String>,
    #[schema(value_type = String, example = "user")]
    role: Role,
    #[schema(value_type = String, example = "active")]
    status: UserStatus,
    plan: PlanView,
    /// The limits of the plan, with the user's overrides applied.
    limits: LimitsView,
    created_at: Timestamp,
}

impl UserView {
    /// The view of `user` with the user's plan.
    pub async fn of(state: &ControlState, user: User) -> Result<Self, ApiError> {
        let plan = state.plan_of(&user).await?;
        Ok(Self::new(user, plan))
    }

    /// The view of `user`, who has `plan`.
    #[must_use]
    pub fn new(user: User, plan: Plan) -> Self {
        let limits = LimitsView::of(user.overrides.over(plan.limits.clone()));
        Self {
            id: user.id,
            email: user.email,
            email_verified: user.email_verified_at.is_some(),
            username: user.username,
            role: user.role,
            status: user.status,
            plan: PlanView::of(plan),
            limits,
            created_at: user.created_at,
        }
    }
}
