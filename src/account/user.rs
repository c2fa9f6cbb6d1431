//! A user of the gateway.

use super::id::{PlanId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A registered user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub id: UserId,
    /// Normalised: trimmed and lower case.
    pub email: String,
    pub username: Option<String>,
    pub role: Role,
    pub status: UserStatus,
    pub plan: PlanId,
    /// Raised by every change that a call must notice (plan, status, role, any of the user's keys).
    pub version: u64,
    pub created_at: Timestamp,
}

/// What a user may do on the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Admin,
}

/// Whether a user's keys work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserStatus {
    Active,
    Suspended,
}

impl Role {
    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

impl UserStatus {
    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}
