//! The records that requests name by their ids. An id that leads nowhere, or to a record of another
//! user, is a 404.

use super::api_error::ApiError;
use super::state::ControlState;
use super::views::limits::ModelNames;
use domain::id::{KeyId, PlanId, UserId};
use domain::key::Key;
use domain::plan::{Plan, PlanLimits};
use domain::user::User;
use std::sync::Arc;

impl ControlState {
    /// The id of a user, who may not exist.
    pub fn user_id(id: &str) -> Result<UserId, ApiError> {
        id.parse().map_err(|_| ApiError::NotFound("user"))
    }

    /// The user with this id.
    pub async fn user(&self, id: &str) -> Result<User, ApiError> {
        let id = Self::user_id(id)?;
        self.store.user(id).await?.ok_or(ApiError::NotFound("user"))
    }

    /// The plan with this id, retired or not.
    pub async fn plan(&self, id: &str) -> Result<Plan, ApiError> {
        self.store.plan(&PlanId::from(id)).await?.ok_or(ApiError::NotFound("plan"))
    }

    /// The plan with this id, if a user on `current` may be on it.
    pub async fn open_plan(&self, id: &str, current: &PlanId) -> Result<Plan, ApiError> {
        let plan = self.plan(id).await?;
        if plan.is_open_to(Some(current)) { Ok(plan) } else { Err(ApiError::RetiredPlan) }
    }

    /// The plan that a user has; the store keeps a plan as long as it has users.
    pub async fn plan_of(&self, user: &User) -> Result<Plan, ApiError> {
        self.store.plan(&user.plan).await?.ok_or(ApiError::Internal)
    }

    /// The limits that apply to a user: the plan's, with the user's overrides.
    pub async fn limits_of(&self, user: &User) -> Result<PlanLimits, ApiError> {
        Ok(user.overrides.over(self.plan_of(user).await?.limits))
    }

    /// The ids of the models that `limits` allow, in the order of the configuration.
    #[must_use]
    pub fn models_within(&self, limits: &PlanLimits) -> Vec<Arc<str>> {
        let upstreams = self.instance.upstreams.load();
        let ids = upstreams.catalog.models.iter().map(|model| &model.id);
        ids.filter(|id| limits.allows(id)).cloned().collect()
    }

    /// A key of the user that is not revoked. Returns 404 for keys of other users so as not to reveal
    /// that they exist.
    pub async fn live_key(&self, user: UserId, id: &str) -> Result<Key, ApiError> {
        let key = self.store.key(user, &KeyId::from(id)).await?;
        key.filter(|key| key.revoked_at.is_none()).ok_or(ApiError::NotFound("key"))
    }

    /// The model that examples name: the first of the configuration.
    #[must_use]
    pub fn default_model(&self) -> Arc<str> {
        let upstreams = self.instance.upstreams.load();
        upstreams.catalog.models.first().map_or_else(|| "grok-4.3".into(), |model| model.id.clone())
    }

    /// The ids of models that the field `param` names by id or alias.
    ///
    /// # Errors
    /// A name is not in the configuration.
    pub fn model_ids(
        &self,
        param: &str,
        names: Option<ModelNames>,
    ) -> Result<Option<Arc<[Arc<str>]>>, ApiError> {
        let Some(ModelNames(names)) = names else { return Ok(None) };
        let upstreams = self.instance.upstreams.load();
        let id = |name: &str| {
            let id = upstreams.catalog.id_of(name).cloned();
            id.ok_or_else(|| ApiError::unknown_model(param, name))
        };
        names.iter().map(|name| id(&name.0)).collect::<Result<_, _>>().map(Some)
    }
}
