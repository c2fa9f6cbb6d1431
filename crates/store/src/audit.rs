//! The audit log: every change to users, keys and plans, with the values before and after.
//!
//! The verbs that change something write their entry in the same transaction. [`Audit::append_audit`] is for
//! what happens outside the store.

use super::announcements::Announcement;
use super::external_identities::NewIdentity;
use super::one_time_links::NewLink;
use super::upgrades::Upgrade;
use super::{StoreError, Used};
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::day::Day;
use domain::id::UserId;
use domain::key::Key;
use domain::plan::Plan;
use domain::user::User;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// Appending to the log, and reading it.
#[async_trait]
pub trait Audit: Send + Sync + 'static {
    /// Adds an entry for a change outside the store; none if nothing has changed.
    async fn append_audit(&self, change: &Change, by: &AuditContext) -> Result<(), StoreError>;

    /// At most `limit` entries older than `before`, the newest first.
    async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError>;
}

/// A change, as the log shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Such as `user.change`: see the constructors.
    pub action: &'static str,
    /// The object of the change: `user:ID`, `key:ID`, `plan:ID`, `upgrade:ID`, `announcement:ID` or `config`.
    pub subject: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// A filter for entries; `None` = any.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// The actor, as displayed by [`domain::actor::Actor`].
    pub actor: Option<String>,
    pub subject: Option<String>,
    /// Such as `user.change`.
    pub action: Option<String>,
    /// Only changes at this time or later.
    pub from: Option<Timestamp>,
    /// Only changes before this time.
    pub until: Option<Timestamp>,
}

/// An entry of the log.
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
    /// The `x-request-id` of the request that made the change.
    pub request: Option<String>,
}

impl Change {
    /// A user was added (`before` is none) or changed. Of a password only the fact that it changed is logged.
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

    /// An invitation link was made for a user.
    #[must_use]
    pub fn of_invitation(link: &NewLink, user: UserId) -> Self {
        Self {
            action: "user.invite",
            subject: format!("user:{user}"),
            before: None,
            after: Some(json!({ "email": link.email, "expires_at": link.expires_at })),
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
    /// or `upgrade.reject`. `before` of a request that replaces another is that other one.
    #[must_use]
    pub fn of_upgrade(action: &'static str, before: Option<&Upgrade>, after: &Upgrade) -> Self {
        Self {
            action,
            subject: format!("upgrade:{}", after.id),
            before: before.map(upgrade),
            after: Some(upgrade(after)),
        }
    }

    /// An announcement was added (`before` is none), changed or deleted (`after` is none).
    #[must_use]
    pub fn of_announcement(before: Option<&Announcement>, after: Option<&Announcement>) -> Self {
        let action = match (before, after) {
            (None, _) => "announcement.add",
            (Some(_), Some(_)) => "announcement.change",
            (Some(_), None) => "announcement.delete",
        };
        let id = before.or(after).map(|announcement| announcement.id).unwrap_or_default();
        Self {
            action,
            subject: format!("announcement:{id}"),
            before: before.map(announcement),
            after: after.map(announcement),
        }
    }

    /// A user was deleted: the entry has the id alone.
    #[must_use]
    pub fn of_deleted_user(user: UserId) -> Self {
        Self { action: "user.delete", subject: format!("user:{user}"), before: None, after: None }
    }

    /// A user's second factor was enabled, used or removed; `action` begins with `second_factor.`.
    #[must_use]
    pub fn of_second_factor(action: &'static str, user: UserId) -> Self {
        Self { action, subject: format!("user:{user}"), before: None, after: None }
    }

    /// An identity of a user was linked, unlinked or used; `action` begins with `external_identity.`.
    #[must_use]
    pub fn of_identity(action: &'static str, user: UserId, identity: &NewIdentity) -> Self {
        let NewIdentity { issuer, subject, email } = identity;
        Self {
            action,
            subject: format!("user:{user}"),
            before: None,
            after: Some(json!({ "issuer": issuer, "subject": subject, "email": email })),
        }
    }

    /// Returns the audit entry of a configuration reload.
    #[must_use]
    pub fn of_config(before: Value, after: Value) -> Self {
        let (before, after) = (Some(before), Some(after));
        Self { action: "config.reload", subject: "config".to_owned(), before, after }
    }

    /// The ledger rows of days before `before` were deleted.
    #[must_use]
    pub fn of_prune(before: Day, rows: u64) -> Self {
        Self {
            action: "ledger.prune",
            subject: "ledger".to_owned(),
            before: None,
            after: Some(json!({ "before": before, "rows": rows })),
        }
    }

    /// Counters that differed from the ledger were set to its values.
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

    /// True if nothing differs, so there is nothing to log.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.before.is_some() && self.before == self.after
    }
}

fn user(user: &User) -> Value {
    json!({
        "email": user.email,
        "email_verified": user.email_verified_at.is_some(),
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
        "cached_token_fraction": plan.limits.cached_token_fraction,
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

fn announcement(announcement: &Announcement) -> Value {
    json!({
        "text": announcement.text,
        "level": announcement.level,
        "starts_at": announcement.starts_at,
        "ends_at": announcement.ends_at,
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
