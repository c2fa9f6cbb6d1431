//! The actor, time and request of a change, as recorded in the audit log.

use super::id::UserId;
use jiff::Timestamp;
use std::fmt;

/// Identifies the author of a change in the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditContext {
    pub actor: Actor,
    pub at: Timestamp,
    /// The `x-request-id` of the request; `None` for commands and the gateway's own work.
    pub request_id: Option<String>,
}

/// The author of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    User(UserId),
    /// The operator, who runs commands on the host of the configuration.
    Operator,
    /// The gateway itself: seeding plans, repairing counters.
    Gateway,
}

impl AuditContext {
    /// For a change made by a command of the operator.
    #[must_use]
    pub fn operator(at: Timestamp) -> Self {
        Self { actor: Actor::Operator, at, request_id: None }
    }

    /// For a change that the gateway makes itself.
    #[must_use]
    pub fn gateway(at: Timestamp) -> Self {
        Self { actor: Actor::Gateway, at, request_id: None }
    }
}

impl fmt::Display for Actor {
    /// The form that is stored and shown: `user:ID`, `operator` or `gateway`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Operator => f.write_str("operator"),
            Self::Gateway => f.write_str("gateway"),
        }
    }
}
