//! An API key, as its owner and admins see it.

use domain::id::KeyId;
use domain::key::Key;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// An API key without its secret.
#[derive(Serialize, ToSchema)]
pub struct KeyView {
    #[schema(value_type = String, example = "4f9KZ0q1Wm7a")]
    id: KeyId,
    #[schema(example = "laptop")]
    name: String,
    /// The last four characters of the key.
    #[schema(example = "x7Qa")]
    last_four: String,
    created_at: Timestamp,
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    #[schema(required)]
    revoked_at: Option<Timestamp>,
    /// The key's own limit; `null` if only the plan limits it.
    #[schema(required)]
    max_tokens_per_day: Option<u64>,
    #[schema(required)]
    max_requests_per_day: Option<u64>,
    /// Model ids; `null` for all models of the plan.
    #[schema(required, value_type = Option<Vec<String>>)]
    models: Option<Arc<[Arc<str>]>>,
}

impl KeyView {
    /// A key that was last used at the time `last_used` has for it.
    #[must_use]
    pub fn of(key: Key, last_used: &HashMap<KeyId, Timestamp>) -> Self {
        Self {
            last_used_at: last_used.get(&key.id).copied(),
            id: key.id,
            name: key.name,
            last_four: key.last_four,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            max_tokens_per_day: key.limits.tokens_per_day,
            max_requests_per_day: key.limits.requests_per_day,
            models: key.limits.models,
        }
    }
}
