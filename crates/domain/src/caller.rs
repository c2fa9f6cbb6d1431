//! The record of one key's holder that the data plane works with.

use super::id::{KeyId, PlanId, UserId};
use super::key::{self, KeyDigest, KeyLimits};
use super::plan::PlanLimits;
use super::user::UserStatus;
use jiff::Timestamp;

/// One API key with its user and plan, as it stood at `version` of the user.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    pub user: UserId,
    pub key: KeyId,
    /// The hash that the presented key must have.
    pub digest: KeyDigest,
    pub user_status: UserStatus,
    /// True if the user has not verified the e-mail address, and has to before calling.
    pub must_verify_email: bool,
    pub key_revoked: bool,
    pub key_expires_at: Option<Timestamp>,
    pub key_limits: KeyLimits,
    pub plan: PlanId,
    /// With the user's own limits in their place.
    pub plan_limits: PlanLimits,
    /// The user's version this record was read at; a reservation is refused when it has moved on.
    pub version: u64,
}

/// The reason a caller with a valid credential may not call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    KeyRevoked,
    KeyExpired,
    UserSuspended,
    EmailUnverified,
}

impl Caller {
    /// Checks that the caller may call at `now`.
    ///
    /// # Errors
    /// The key was revoked or has expired, or the user is suspended or has to verify the e-mail address first.
    pub fn check(&self, now: Timestamp) -> Result<(), Denied> {
        if self.key_revoked {
            return Err(Denied::KeyRevoked);
        }
        if key::has_expired(self.key_expires_at, now) {
            return Err(Denied::KeyExpired);
        }
        self.user_status.check()?;
        if self.must_verify_email { Err(Denied::EmailUnverified) } else { Ok(()) }
    }

    /// True if plan and key both include `model` (the catalog's id).
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        let key_allows = self
            .key_limits
            .models
            .as_ref()
            .is_none_or(|models| models.iter().any(|m| &**m == model));
        key_allows && self.plan_limits.allows(model)
    }
}
