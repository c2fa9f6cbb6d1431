//! The audit log: every change to users, keys and plans, with what was there before and after.
//!
//! The verbs that change something write their entry in the same transaction. [`Audit::note`] is for
//! what happens outside the store.

use super::upgrades::Upgrade;
use super::{StoreError, Used};
use crate::account::by::By;
use crate::account::day::Day;
use crate::account::key::Key;
use crate::account::plan::Plan;
use crate::account::user::User;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// Writing and reading the log.
#[async_trait]
pub trait Audit {
    /// Adds an entry.
    async fn note(&self, change: &Change, by: &By) -> Result<(), StoreError>;

    /// At most `limit` entries older than `before`, the newest first.
    async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError>;
}

/// What was changed, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Such as `user.change`: see the constructors.
    pub action: &'static str,
    /// What it was done to: `user:ID`, `key:ID`, `plan:ID`, `upgrade:ID` or `config`.
    pub subject: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// Which entries; `None` = any.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// As [`crate::account::by::Actor`] prints.
    pub actor: Option<String>,
    pub subject: Option<String>,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditEntry {
    /// A `UUIDv7`: sorted by time.
    pub id: Uuid,
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// The `x-request-id` of the request it came with.
    pub request: Option<String>,
}

impl Change {
    /// A user was added (`before` is none) or changed. A password is told by its having changed.
    #[must_use]
    pub fn of_user(before: Option<&User>, after: &User, new_password: bool) -> Self {
        let mut shown = user(after);
        if new_password && before.is_some() {
            shown["password"] = json!("changed");
        }
        Self {
            action: if before.is_none() { "user.add" } else { "user.change" },
            subject: format!("user:{}", after.id),
            before: before.map(user),
            after: Some(shown),
        }
    }

    /// A key was added or changed; `action` is `key.add`, `key.change` or `key.revoke`.
    #[must_use]
    pub fn of_key(action: &'static str, before: Option<&Key>, after: &Key) -> Self {
        Self {
            action,
            subject: format!("key:{}", after.id),
            before: before.map(key),
            after: Some(key(after)),
        }
    }

    /// A plan was added, changed or retired.
    #[must_use]
    pub fn of_plan(before: Option<&Plan>, after: &Plan) -> Self {
        let action = match before {
            None => "plan.add",
            Some(before) if after.retired && !before.retired => "plan.retire",
            Some(_) => "plan.change",
        };
        Self {
            action,
            subject: format!("plan:{}", after.id),
            before: before.map(plan),
            after: Some(plan(after)),
        }
    }

    /// A request for another plan was made or decided; `action` is `upgrade.ask`, `upgrade.approve`
    /// or `upgrade.reject`. Before a request that replaces another there is that other.
    #[must_use]
    pub fn of_upgrade(action: &'static str, before: Option<&Upgrade>, after: &Upgrade) -> Self {
        Self {
            action,
            subject: format!("upgrade:{}", after.id),
            before: before.map(upgrade),
            after: Some(upgrade(after)),
        }
    }

    /// The configuration was read again.
    #[must_use]
    pub fn of_config(before: Value, after: Value) -> Self {
        let (before, after) = (Some(before), Some(after));
        Self { action: "config.reload", subject: "config".to_owned(), before, after }
    }

    /// Days before `before` were taken out of the ledger.
    #[must_use]
    pub fn of_prune(before: Day, rows: u64) -> Self {
        Self {
            action: "ledger.prune",
            subject: "ledger".to_owned(),
            before: None,
            after: Some(json!({ "before": before, "rows": rows })),
        }
    }

    /// Counters that differed from the ledger were set to it.
    #[must_use]
    pub fn of_counters(before: Option<&Used>, after: &Used) -> Self {
        let subject = match &after.key {
            None => format!("user:{}", after.user),
            Some(key) => format!("key:{key}"),
        };
        let shown = |used: &Used| json!({ "day": used.day, "tokens": used.tokens, "requests": used.requests });
        Self {
            action: "counters.mend",
            subject,
            before: before.map(shown),
            after: Some(shown(after)),
        }
    }

    /// Whether all is as it was before: nothing to be written down.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.before.is_some() && self.before == self.after
    }
}

fn user(user: &User) -> Value {
    json!({
        "email": user.email,
        "username": user.username,
        "role": user.role,
        "status": user.status,
        "plan": user.plan,
        "overrides": user.overrides,
    })
}

fn key(key: &Key) -> Value {
    json!({
        "name": key.name,
        "last_four": key.last_four,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "max_tokens_per_day": key.limits.tokens_per_day,
        "max_requests_per_day": key.limits.requests_per_day,
        "models": key.limits.models,
    })
}

fn plan(plan: &Plan) -> Value {
    let policy = &plan.limits.policy;
    json!({
        "name": plan.name,
        "price_cents": plan.price_cents,
        "max_tokens_per_day": plan.limits.tokens_per_day,
        "max_requests_per_day": plan.limits.requests_per_day,
        "window": { "requests": plan.limits.window.capacity, "seconds": plan.limits.window.refill_seconds },
        "concurrent_streams": plan.limits.concurrent_streams,
        "models": plan.limits.models,
        "time_zone": plan.limits.time_zone.iana_name().unwrap_or("UTC"),
        "server_tools": policy.server_tools,
        "max_tool_calls": policy.max_tool_calls,
        "service_tiers": policy.service_tiers,
        "image_sizes": policy.image_sizes,
        "image_qualities": policy.image_qualities,
        "account_references": policy.account_references,
        "retired": plan.retired,
    })
}

fn upgrade(upgrade: &Upgrade) -> Value {
    json!({
        "user": upgrade.user,
        "from": upgrade.from,
        "to": upgrade.to,
        "status": upgrade.status,
    })
}
