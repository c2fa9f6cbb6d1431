//! The actor, time and request of a change, as recorded in the audit log.

use super::id::UserId;
use jiff::Timestamp;
use std::fmt;

/// The author of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    pub actor: Actor,
    pub at: Timestamp,
    /// The `x-request-id` it came with; `None` for commands and the gateway's own work.
    pub request: Option<String>,
}

/// Who can be an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    User(UserId),
    /// Whoever runs commands where the configuration is.
    Operator,
    /// The gateway by itself: seeding plans, repairing counters.
    Gateway,
}

impl By {
    /// A command.
    #[must_use]
    pub fn operator(at: Timestamp) -> Self {
        Self { actor: Actor::Operator, at, request: None }
    }

    /// The gateway itself.
    #[must_use]
    pub fn gateway(at: Timestamp) -> Self {
        Self { actor: Actor::Gateway, at, request: None }
    }
}

impl fmt::Display for Actor {
    /// As it is stored and shown: `user:ID`, `operator` or `gateway`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Operator => f.write_str("operator"),
            Self::Gateway => f.write_str("gateway"),
        }
    }
}
